package check

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/mysql"
)

// three are members that agree on everything.
func three() map[string]Facts {
	out := map[string]Facts{}
	for i, n := range []string{"m1", "m2", "m3"} {
		out[n] = Facts{
			Member: n, Version: mysql.Version{Major: 9, Minor: 7, Patch: 4}, ServerID: uint32(11 + i), UUID: "uuid-" + n,
			Variables: map[string]string{
				"lower_case_table_names": "0", "default_table_encryption": "OFF", "character_set_server": "utf8mb4",
				"group_replication_single_primary_mode": "OFF", "group_replication_auto_increment_increment": "27",
				"group_replication_consistency": "EVENTUAL", "auto_increment_increment": "1", "auto_increment_offset": "1",
			},
		}
	}
	return out
}

func TestWhatDiffersBetweenMembersIsNamedWithBothValues(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(map[string]Facts)
		member   string
		kind     string
		severity Severity
		says     []string
		repair   string
	}{
		"names of tables in another case": {
			func(m map[string]Facts) { m["m2"].Variables["lower_case_table_names"] = "1" },
			"m2", Drift, Refuses,
			[]string{"lower_case_table_names is 1 on m2 and 0 on m1 and m3"},
			"",
		},
		"encryption of new tables": {
			func(m map[string]Facts) { m["m1"].Variables["default_table_encryption"] = "ON" },
			"m1", Drift, Refuses,
			[]string{"ON on m1", "OFF on m2 and m3"},
			"SET PERSIST default_table_encryption = OFF",
		},
		"one member single-primary": {
			func(m map[string]Facts) { m["m3"].Variables["group_replication_single_primary_mode"] = "ON" },
			"m3", Drift, Refuses,
			[]string{"ON on m3", "only while the server is out of its group"},
			"SET PERSIST group_replication_single_primary_mode = OFF",
		},
		"another default character set": {
			func(m map[string]Facts) { m["m3"].Variables["character_set_server"] = "latin1" },
			"m3", Drift, Warns,
			[]string{"latin1 on m3"},
			"SET PERSIST character_set_server = utf8mb4",
		},
		"a newer member": {
			func(m map[string]Facts) {
				f := m["m2"]
				f.Version.Patch = 5
				m["m2"] = f
			},
			"m2", MixedVersions, Warns,
			[]string{"m2 runs 9.7.5", "9.7.4 is the version of m1 and m3"},
			"",
		},
		"one server_id twice": {
			func(m map[string]Facts) {
				f := m["m3"]
				f.ServerID = 11
				f.Variables["auto_increment_increment"], f.Variables["auto_increment_offset"] = "27", "13"
				m["m3"] = f
			},
			"m3", SameServerID, Refuses,
			[]string{"11 on m1 and on m3"},
			"",
		},
		"a copied auto.cnf": {
			func(m map[string]Facts) {
				f := m["m3"]
				f.UUID = "uuid-m1"
				m["m3"] = f
			},
			"m3", SameUUID, Refuses,
			[]string{"m1 and m3", "uuid-m1"},
			"",
		},
		"server ids that are equal modulo the step": {
			func(m map[string]Facts) {
				f := m["m3"]
				f.ServerID = 11 + 27
				m["m3"] = f
			},
			"m3", AutoIncrement, Refuses,
			[]string{"m3 counts from 38 in steps of 27, m1 from 11"},
			"",
		},
		"explicit series that meet though the steps differ": {
			func(m map[string]Facts) {
				m["m1"].Variables["auto_increment_increment"], m["m1"].Variables["auto_increment_offset"] = "6", "1"
				m["m2"].Variables["auto_increment_increment"], m["m2"].Variables["auto_increment_offset"] = "6", "2"
				m["m3"].Variables["auto_increment_increment"], m["m3"].Variables["auto_increment_offset"] = "9", "4"
			},
			"m3", AutoIncrement, Refuses,
			[]string{"m3 counts from 4 in steps of 9, m1 from 1 in steps of 6"},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members := three()
			if found := Compare(members); len(found) != 0 {
				t.Fatalf("members that agree: %+v", found)
			}
			c.change(members)
			found := Compare(members)
			if len(found) != 1 {
				t.Fatalf("want one finding: %+v", found)
			}
			f := found[0]
			if f.Member != c.member || f.Kind != c.kind || f.Severity != c.severity || f.SQL != c.repair {
				t.Errorf("%+v", f)
			}
			for _, s := range c.says {
				if !strings.Contains(f.Text, s) {
					t.Errorf("%q does not say %q", f.Text, s)
				}
			}
		})
	}
}

func TestSeriesThatNeverMeetAreFine(t *testing.T) {
	t.Parallel()
	members := three()
	for n, offset := range map[string]string{"m1": "1", "m2": "3", "m3": "2"} {
		members[n].Variables["auto_increment_increment"], members[n].Variables["auto_increment_offset"] = "6", offset
	}
	members["m3"].Variables["auto_increment_increment"] = "4" // even values; the others are odd
	if found := Compare(members); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestAServerThatCouldNotBeReadDoesNotConfuseTheRest(t *testing.T) {
	t.Parallel()
	members := three()
	members["m0"] = Facts{Member: "m0"}
	if found := Compare(members); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	if found := Compare(nil); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}
