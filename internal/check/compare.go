package check

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/perdure/perdure/internal/mysql"
)

// sharedSetting is one that all members should have with one value.
type sharedSetting struct {
	name     string
	severity Severity
	how      how
	why      string
}

// shared are the settings held against each other. The refused ones are those
// a joining member is turned away for, or with which members would not
// understand each other; the others make members behave differently after the
// next change of primary.
var shared = []sharedSetting{
	{"lower_case_table_names", Refuses, never, "a member with another value is turned away; it can only be chosen when the data directory is made"},
	{"default_table_encryption", Refuses, online, "a member with another value is turned away"},
	{"transaction_write_set_extraction", Refuses, online, "a member with another value is turned away"},
	{"group_replication_group_name", Refuses, apart, "members with different group names are different groups"},
	{"group_replication_single_primary_mode", Refuses, apart, "a member with another value is turned away"},
	{"group_replication_enforce_update_everywhere_checks", Refuses, apart, "a member with another value is turned away"},
	{"group_replication_gtid_assignment_block_size", Refuses, apart, "a member with another value is turned away"},
	{"group_replication_view_change_uuid", Refuses, apart, "a member with another value is turned away"},
	{"group_replication_communication_stack", Refuses, apart, "members would not understand each other"},
	{"group_replication_paxos_single_leader", Refuses, apart, "a member with another value is turned away"},
	{"group_replication_auto_increment_increment", Refuses, apart, "members would hand out the same auto-increment values"},
	{"group_replication_transaction_size_limit", Warns, online, "a transaction one member takes is refused on another"},
	{"group_replication_communication_max_message_size", Warns, apart, "a message one member sends is too large for another"},
	{"group_replication_compression_threshold", Warns, apart, "members need different bandwidth for the same transaction"},
	{"group_replication_consistency", Warns, online, "what a client reads depends on the member it reads from"},
	{"group_replication_flow_control_mode", Warns, online, "only some members wait for slow ones"},
	{"group_replication_flow_control_applier_threshold", Warns, online, "members wait for slow ones at different lags"},
	{"group_replication_flow_control_certifier_threshold", Warns, online, "members wait for slow ones at different lags"},
	{"group_replication_member_expel_timeout", Warns, online, "how soon a silent member is expelled depends on who notices"},
	{"group_replication_autorejoin_tries", Warns, online, "members give up at different times"},
	{"group_replication_unreachable_majority_timeout", Warns, online, "members of a minority give up at different times"},
	{"group_replication_exit_state_action", Warns, online, "members behave differently when they leave"},
	{"group_replication_ssl_mode", Warns, apart, "some members encrypt the group's traffic with another strictness"},
	{"character_set_server", Warns, online, "a schema made on one member has another character set than one made on the next; clone refuses to copy between them"},
	{"collation_server", Warns, online, "a schema made on one member sorts differently than one made on the next; clone refuses to copy between them"},
	{"sql_mode", Warns, online, "a statement one member takes is refused on another"},
	{"time_zone", Warns, online, "dates depend on the member that wrote them"},
	{"innodb_page_size", Warns, never, "clone refuses to copy between them"},
	{"replica_max_allowed_packet", Warns, online, "a row one member takes stops the applier of another"},
	{"max_allowed_packet", Warns, online, "a statement one member takes is refused on another"},
	{"sql_generate_invisible_primary_key", Warns, online, "a table made without primary key works or not, depending on the member it was made on"},
	{"binlog_row_image", Warns, online, "whole rows are in some binary logs only"},
}

// Compare holds what the servers of one group said against each other, by
// member name. It names the variable, the member that is alone with its value,
// and both values. A variable that a server does not have is not compared.
func Compare(members map[string]Facts) []Finding {
	names := slices.Sorted(maps.Keys(members))
	var out []Finding
	for _, s := range shared {
		out = append(out, drift(s, names, members)...)
	}
	out = append(out, mixedVersions(names, members)...)
	out = append(out, twins(names, members)...)
	return append(out, autoIncrement(names, members)...)
}

// drift finds the value most members have, and names those with another. Where
// there is no majority, the first member by name is the measure.
func drift(s sharedSetting, names []string, members map[string]Facts) []Finding {
	having := map[string][]string{}
	var have []string // names that know the variable
	for _, n := range names {
		if v, ok := members[n].Variables[s.name]; ok {
			having[normal(v)] = append(having[normal(v)], n)
			have = append(have, n)
		}
	}
	if len(having) < 2 {
		return nil
	}
	var most []string
	for _, n := range have {
		if with := having[normal(members[n].Variables[s.name])]; len(with) > len(most) {
			most = with
		}
	}
	want := members[most[0]].Variables[s.name]
	var out []Finding
	for _, n := range have {
		f := members[n]
		if v := f.Variables[s.name]; !sameValue(v, want) {
			out = append(out, Finding{
				Member: n, Kind: Drift, Severity: s.severity, Subject: s.name,
				Text: fmt.Sprintf("%s is %s on %s and %s on %s: %s%s", s.name, orEmpty(v), n, orEmpty(want), list(most), s.why, f.hint(s.name, want, s.how)),
				SQL:  f.repair(s.name, v, want, s.how),
			})
		}
	}
	return out
}

// mixedVersions names the members that are newer than the oldest one: in
// multi-primary mode those stay read-only.
func mixedVersions(names []string, members map[string]Facts) []Finding {
	var oldest mysql.Version
	var on []string
	for _, n := range names {
		v := members[n].Version
		switch {
		case v == mysql.Version{}: // it was refused, which has been said
			continue
		case len(on) == 0 || v.Compare(oldest) < 0:
			oldest, on = v, []string{n}
		case v == oldest:
			on = append(on, n)
		}
	}
	var out []Finding
	for _, n := range names {
		if v := members[n].Version; v.Compare(oldest) > 0 {
			out = append(out, Finding{
				Member: n, Kind: MixedVersions, Severity: Warns, Subject: "version",
				Text: fmt.Sprintf("%s runs %s, and %s is the version of %s: in a multi-primary group the newer one stays read-only until all have its version, and an older server cannot join a newer group", n, v, oldest, list(on)),
			})
		}
	}
	return out
}

// twins finds servers that cannot be told apart.
func twins(names []string, members map[string]Facts) []Finding {
	var out []Finding
	ids, uuids := map[uint32]string{}, map[string]string{}
	for _, n := range names {
		f := members[n]
		if first, taken := ids[f.ServerID]; taken && f.ServerID != 0 {
			out = append(out, Finding{
				Member: n, Kind: SameServerID, Severity: Refuses, Subject: "server_id",
				Text: fmt.Sprintf("server_id is %d on %s and on %s: each would ignore what the other wrote; give one of them another", f.ServerID, first, n),
			})
		} else {
			ids[f.ServerID] = n
		}
		if first, taken := uuids[f.UUID]; taken && f.UUID != "" {
			out = append(out, Finding{
				Member: n, Kind: SameUUID, Severity: Refuses, Subject: "server_uuid",
				Text: fmt.Sprintf("%s and %s answer with the same server_uuid %s: they are one server under two addresses, or one is a copy of the other's files; remove auto.cnf from the copy and restart it", first, n, f.UUID),
			})
		} else {
			uuids[f.UUID] = n
		}
	}
	return out
}

// autoIncrement finds members of a multi-primary group whose auto-increment
// values meet. Two series with steps a and b meet if their offsets are equal
// modulo the greatest common divisor of a and b.
func autoIncrement(names []string, members map[string]Facts) []Finding {
	var out []Finding
	for i, n := range names {
		step, offset, ok := series(members[n])
		if !ok {
			continue
		}
		for _, other := range names[:i] {
			step2, offset2, ok := series(members[other])
			if !ok || (offset-offset2)%gcd(step, step2) != 0 {
				continue
			}
			out = append(out, Finding{
				Member: n, Kind: AutoIncrement, Severity: Refuses, Subject: "auto_increment_offset",
				Text: fmt.Sprintf("%s counts from %d in steps of %d, %s from %d in steps of %d: they hand out the same values, and plain INSERTs fail with conflicts; choose offsets that differ modulo the step",
					n, offset, step, other, offset2, step2),
			})
			break // one proof is enough
		}
	}
	return out
}

// series is the auto-increment series of a member of a multi-primary group. A
// server that was given none gets one when it joins: its server_id, in the
// group's step.
func series(f Facts) (step, offset int64, ok bool) {
	if mode, known := f.Variables["group_replication_single_primary_mode"]; !known || sameValue(mode, "ON") {
		return 0, 0, false
	}
	step, err1 := strconv.ParseInt(f.Variables["auto_increment_increment"], 10, 64)
	offset, err2 := strconv.ParseInt(f.Variables["auto_increment_offset"], 10, 64)
	if err1 != nil || err2 != nil || step < 1 {
		return 0, 0, false
	}
	if step == 1 && offset == 1 {
		group, err := strconv.ParseInt(f.Variables["group_replication_auto_increment_increment"], 10, 64)
		if err != nil || group < 1 {
			return 0, 0, false
		}
		return group, int64(f.ServerID), true
	}
	return step, offset, true
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
