package check_test

// sample is one table of the schema that is shown to a real group. All have a
// column v.
type sample struct {
	name string
	ddl  string
	// multi and single are the kinds of finding in the two modes, "" for none.
	multi, single string
	// touches is set where a group refuses a statement on the table for the
	// fault of another, that it reads or writes too.
	touches string
}

const (
	noKey  = "no-primary-key"
	engine = "engine"
	both   = "engine no-primary-key"
	fk     = "foreign-key"
)

// samples are in an order in which they can be made. Of each kind that is
// refused there is at least one, and beside it what looks like it and is not.
var samples = []sample{
	{name: "pk", ddl: "(id INT PRIMARY KEY, v INT)"},
	{name: "pk two columns", ddl: "(a INT, b INT, v INT, PRIMARY KEY (a, b))"},
	{name: "PK", ddl: "(id INT PRIMARY KEY, v INT)"},
	{name: "Pk", ddl: "(id INT, v INT)", multi: noKey, single: noKey},
	{name: "no_key", ddl: "(id INT, v INT)", multi: noKey, single: noKey},
	{name: "no`key #1 é", ddl: "(id INT, v INT)", multi: noKey, single: noKey},
	{name: "key_only", ddl: "(id INT NOT NULL, v INT, KEY (id))", multi: noKey, single: noKey},
	{name: "counter_without_key", ddl: "(id INT NOT NULL AUTO_INCREMENT, v INT, KEY (id))", multi: noKey, single: noKey},
	{name: "has_my_row_id", ddl: "(my_row_id INT, v INT)", multi: noKey, single: noKey},
	{name: "all_columns_invisible_but_one", ddl: "(id INT INVISIBLE PRIMARY KEY, v INT)"},

	{name: "unique", ddl: "(id INT NOT NULL UNIQUE, v INT)"},
	{name: "unique_two", ddl: "(id INT NOT NULL, v INT NOT NULL DEFAULT 1, UNIQUE (id, v))"},
	{name: "unique_one_of_two", ddl: "(id INT UNIQUE, w INT NOT NULL UNIQUE, v INT)"},
	{name: "unique_descending", ddl: "(id INT NOT NULL, v INT, UNIQUE (id DESC))"},
	{name: "unique_stored", ddl: "(v INT NOT NULL DEFAULT 1, g INT AS (v + 1) STORED NOT NULL UNIQUE)"},
	{name: "unique_whole_as_prefix", ddl: "(id VARCHAR(5) NOT NULL, v INT, UNIQUE (id(5)))"},
	{name: "unique_null", ddl: "(id INT UNIQUE, v INT)", multi: noKey, single: noKey},
	{name: "unique_half_null", ddl: "(id INT NOT NULL, n INT, v INT, UNIQUE (id, n))", multi: noKey, single: noKey},
	{name: "unique_prefix", ddl: "(id VARCHAR(20) NOT NULL, v INT, UNIQUE (id(5)))", multi: noKey, single: noKey},
	{name: "unique_blob", ddl: "(id BLOB NOT NULL, v INT, UNIQUE (id(100)))", multi: noKey, single: noKey},
	{name: "unique_function", ddl: "(id INT NOT NULL, v INT, UNIQUE ((id + 1)))", multi: noKey, single: noKey},
	{name: "unique_half_function", ddl: "(id INT NOT NULL, v INT NOT NULL DEFAULT 1, UNIQUE (id, (v + 1)))", multi: noKey, single: noKey},
	{name: "unique_virtual", ddl: "(v INT NOT NULL DEFAULT 1, g INT AS (v + 1) VIRTUAL NOT NULL UNIQUE)", multi: noKey, single: noKey},

	{name: "parts", ddl: "(id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 3"},
	{name: "parts_no_key", ddl: "(id INT, v INT) PARTITION BY HASH (id) PARTITIONS 3", multi: noKey, single: noKey},
	{name: "parts_by_year", ddl: "(d DATE, v INT, `e,``e` INT) PARTITION BY RANGE (YEAR(d)) SUBPARTITION BY HASH (v + `e,``e`) (PARTITION p VALUES LESS THAN MAXVALUE)", multi: noKey, single: noKey},
	{name: "parts_by_key", ddl: "(id INT NOT NULL AUTO_INCREMENT, s VARCHAR(9), v INT, KEY (id)) PARTITION BY KEY (s, id) PARTITIONS 2", multi: noKey, single: noKey},

	{name: "isam", ddl: "(id INT PRIMARY KEY, v INT) ENGINE=MyISAM", multi: engine, single: engine},
	{name: "isam_fixed", ddl: "(id INT PRIMARY KEY, v INT) ENGINE=MyISAM ROW_FORMAT=FIXED", multi: engine, single: engine},
	{name: "isam_no_key", ddl: "(id INT, v INT) ENGINE=MyISAM", multi: both, single: both},
	{name: "isam_counter", ddl: "(id INT NOT NULL AUTO_INCREMENT, v INT, KEY (id)) ENGINE=MyISAM", multi: both, single: both},
	{name: "isam_counts_per_group", ddl: "(id INT, n INT AUTO_INCREMENT, v INT, PRIMARY KEY (id, n)) ENGINE=MyISAM", multi: engine, single: engine},
	{name: "memory", ddl: "(id INT PRIMARY KEY, v INT) ENGINE=MEMORY", multi: engine, single: engine},
	{name: "archive", ddl: "(id INT, v INT) ENGINE=ARCHIVE", multi: both, single: both},
	{name: "csv", ddl: "(id INT NOT NULL, v INT NOT NULL) ENGINE=CSV", multi: both, single: both},
	{name: "blackhole", ddl: "(id INT PRIMARY KEY, v INT) ENGINE=BLACKHOLE", multi: engine, single: engine},
	{name: "merge", ddl: "(id INT PRIMARY KEY, v INT) ENGINE=MERGE UNION=(isam) INSERT_METHOD=LAST", multi: engine, single: engine},

	{name: "parent", ddl: "(id INT PRIMARY KEY, v INT, a INT, b INT, UNIQUE (a, b))", touches: "fk_delete_cascade"},
	{name: "calm_parent", ddl: "(id INT PRIMARY KEY, v INT)"},
	{name: "fk_plain", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES calm_parent (id))"},
	{name: "fk_restrict", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES calm_parent (id) ON DELETE RESTRICT ON UPDATE RESTRICT)"},
	{name: "fk_no_action", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES calm_parent (id) ON DELETE NO ACTION ON UPDATE NO ACTION)"},
	{name: "fk_delete_cascade", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)", multi: fk},
	{name: "fk_update_cascade", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON UPDATE CASCADE)", multi: fk},
	{name: "fk_delete_null", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL)", multi: fk},
	{name: "fk_update_null", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON UPDATE SET NULL)", multi: fk},
	{name: "fk_delete_default", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET DEFAULT)", multi: fk},
	{name: "fk_update_default", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON UPDATE SET DEFAULT)", multi: fk},
	{name: "fk_two_columns", ddl: "(id INT PRIMARY KEY, v INT, x INT, y INT, CONSTRAINT `odd ``name` FOREIGN KEY (x, y) REFERENCES parent (a, b) ON DELETE CASCADE ON UPDATE CASCADE)", multi: fk},
	{name: "fk_self", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES fk_self (id) ON DELETE CASCADE)", multi: fk},
	{name: "fk_orphan", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES gone (id) ON DELETE CASCADE)", multi: fk},
	{name: "fk_grandchild", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES fk_delete_cascade (id))", touches: "fk_delete_cascade"},
	{name: "fk_ignored_by_isam", ddl: "(id INT PRIMARY KEY, v INT, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE) ENGINE=MyISAM", multi: engine, single: engine},

	{name: "triggers", ddl: "(id INT PRIMARY KEY, v INT)", touches: "no_key"},
	{name: "generated", ddl: "(id INT PRIMARY KEY, v INT, g INT AS (v + 1) VIRTUAL, KEY (g))"},
	{name: "rich", ddl: "(id INT PRIMARY KEY, v INT, j JSON, t LONGTEXT, g GEOMETRY NOT NULL SRID 0, s SET('a','b'), SPATIAL KEY (g), FULLTEXT KEY (t))"},
	{name: "compressed", ddl: "(id INT PRIMARY KEY, v INT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"},
}
