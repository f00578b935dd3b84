package check

import (
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/mysql"
)

func TestAServerThatIsNotOursIsRefusedByItsVersion(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"11.4.2-MariaDB-log mariadb.org binary distribution":     "MariaDB",
		"5.5.5-10.6.12-MariaDB-1:10.6.12+maria~ubu2004 (Ubuntu)": "MariaDB",
		"10.11.6 MariaDB Server":                                 "MariaDB",
		"5.7.44-log MySQL Community Server (GPL)":                "needs 8.0.35",
		"8.0.34 MySQL Community Server - GPL":                    "needs 8.0.35",
		"banana":                                                 "not a MySQL version",
	} {
		found := version(Facts{Member: "m1", VersionText: text})
		if found == nil || found.Severity != Refuses || found.Kind != Version || !strings.Contains(found.Text, says) {
			t.Errorf("%s: %+v", text, found)
		}
	}
	for _, text := range []string{"8.0.35 Source distribution", "8.4.9 MySQL Community Server - GPL", "9.7.4-2 (Debian)"} {
		if found := version(Facts{VersionText: text}); found != nil {
			t.Errorf("%s: %+v", text, found)
		}
	}
}

func TestGrantsAreReadAsTheServerWritesThem(t *testing.T) {
	t.Parallel()
	h := parseGrants([]string{
		"GRANT RELOAD, REPLICATION CLIENT ON *.* TO `a`@`%` WITH GRANT OPTION",
		"GRANT CLONE_ADMIN,BACKUP_ADMIN ON *.* TO `a`@`%`",
		"GRANT SELECT ON `performance\\_schema`.* TO `a`@`%`",
		"GRANT INSERT, DELETE ON `mysql`.`component` TO `a`@`%`",
		"GRANT SELECT (`x`), INSERT ON `mysql`.`plugin` TO `a`@`%`",
		"GRANT ALL PRIVILEGES ON `it's ON TO``x`.* TO `a`@`%`",
		"GRANT EXECUTE ON PROCEDURE `mysql`.`rds_group_replication_start` TO `a`@`%`",
		"REVOKE RELOAD ON `other`.* FROM `a`@`%`",
		"GRANT `r`@`%`,`s`@`%` TO `a`@`%`",
	})
	for _, c := range []struct {
		right, on   string
		holds, pass bool
	}{
		{"RELOAD", "*.*", true, true},
		{"RELOAD", "other.*", false, false},
		{"CLONE_ADMIN", "*.*", true, false},
		{"SHUTDOWN", "*.*", false, false},
		{"SELECT", "performance_schema.*", true, false},
		{"SELECT", "performanceXschema.*", false, false},
		{"DELETE", "mysql.component", true, false},
		{"SELECT", "mysql.plugin", false, false},
		{"INSERT", "mysql.plugin", true, false},
		{"EXECUTE", "PROCEDURE mysql.rds_group_replication_start", true, false},
		{"EXECUTE", "PROCEDURE mysql.rds_group_replication_stop", false, false},
	} {
		if h.holds(c.right, c.on) != c.holds || h.mayPass(c.right, c.on) != c.pass {
			t.Errorf("%s on %s: holds %t, may pass on %t", c.right, c.on, h.holds(c.right, c.on), h.mayPass(c.right, c.on))
		}
	}
	if !slices.Equal(h.roles, []string{"`r`@`%`,`s`@`%`"}) {
		t.Errorf("roles: %q", h.roles)
	}
	if got := parseGrants([]string{"GRANT SUPER ON *.* TO `a`@`%`"}); !got.holds("CONNECTION_ADMIN", "*.*") || got.holds("CLONE_ADMIN", "*.*") {
		t.Error("SUPER stands for the rights it was split into, and for no others")
	}
	if got := parseGrants([]string{"GRANT REFERENCES ON *.* TO `a`@`%`", "REVOKE REFERENCES ON `secret`.* FROM `a`@`%`", "REVOKE REFERENCES ON `mysql`.* FROM `a`@`%`"}).hidden(); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("hidden schemas: %q", got)
	}
}

func TestOnRDSRepairsAreInTheParameterGroup(t *testing.T) {
	t.Parallel()
	f := Facts{
		Member: "m1", RDS: true, ServerID: 1234567, Account: "admin@%",
		Variables: map[string]string{"gtid_mode": "OFF_PERMISSIVE", "super_read_only": "OFF", "binlog_expire_logs_seconds": "60"},
	}
	found := append(settings(f), grants(f)...)
	seen := map[string]bool{}
	for _, one := range found {
		seen[one.Subject] = true
		if one.Kind != Grant && one.SQL != "" {
			t.Errorf("SQL that Amazon refuses: %+v", one)
		}
		if one.Kind == Setting && !strings.Contains(one.Text, "DB parameter group") {
			t.Errorf("no word of where to change it: %+v", one)
		}
	}
	for _, subject := range []string{"gtid_mode", "group_replication", "EXECUTE ON PROCEDURE mysql.rds_group_replication_start"} {
		if !seen[subject] {
			t.Errorf("nothing is said of %s: %v", subject, seen)
		}
	}
	for _, subject := range []string{"super_read_only", "clone", "binlog_expire_logs_seconds", "CLONE_ADMIN ON *.*"} {
		if seen[subject] {
			t.Errorf("%s is Amazon's own matter", subject)
		}
	}
	for _, one := range Grants(mysql.Dialect{RDS: true}, mysql.Account{User: "p", Host: "%"}) {
		if strings.Contains(one, "_ADMIN") {
			t.Errorf("cannot be granted on RDS: %s", one)
		}
	}
}

func TestTheReadOnlySwitchAtStartIsJudgedByWhereItCameFrom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		value, source, persisted, state string
		want                            Severity
	}{
		"persisted, and opened by the group since": {"OFF", "DYNAMIC", "ON", "ONLINE", ""},
		"in the option file, not touched since":    {"ON", "EXPLICIT", "", "", ""},
		"on the command line":                      {"ON", "COMMAND_LINE", "", "", ""},
		"never set":                                {"OFF", "COMPILED", "", "", Warns},
		"never set, on a member of a group":        {"OFF", "COMPILED", "", "ONLINE", Refuses},
		"set at run time, the file is unknown":     {"ON", "DYNAMIC", "", "ONLINE", Warns},
		"switched off in the file":                 {"OFF", "EXPLICIT", "", "ONLINE", Refuses},
		"persisted as off":                         {"OFF", "PERSISTED", "OFF", "ONLINE", Refuses},
	} {
		f := Facts{State: c.state, Variables: map[string]string{"super_read_only": c.value}, Sources: map[string]string{"super_read_only": c.source}, Persisted: map[string]string{}}
		if c.persisted != "" {
			f.Persisted["super_read_only"] = c.persisted
		}
		var got Severity
		for _, one := range readOnlyAtStart(f) {
			got = one.Severity
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestGTIDsAreTurnedOnOneStepAtATime(t *testing.T) {
	t.Parallel()
	if got := gtidSteps("ON_PERMISSIVE"); got != "SET PERSIST gtid_mode = ON" {
		t.Error(got)
	}
	if got := gtidSteps("OFF"); got != "SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON" {
		t.Error(got)
	}
}

func TestNamesAreFoundInPartitionExpressionsAndFiles(t *testing.T) {
	t.Parallel()
	if got := partitionColumns("year(`d`) (`v` + `a,``b` + `d`)"); !slices.Equal(got, []string{"d", "v", "a,`b"}) {
		t.Errorf("%q", got)
	}
	if schema, name, ok := tableOfFile("shop/caf@00e9@0023@0024"); !ok || schema != "shop" || name != "café#$" {
		t.Error(schema, name, ok)
	}
	if _, _, ok := tableOfFile("innodb_undo_001"); ok {
		t.Error("a tablespace without schema is no table")
	}
}
