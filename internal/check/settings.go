package check

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// judged names all variables this package reads, beside group_replication_*.
func judged() []string {
	all := map[string]bool{}
	for _, r := range rules {
		all[r.name] = true
	}
	for _, n := range extra {
		all[n] = true
	}
	for _, s := range shared {
		all[s.name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// settings judges what one server said about itself.
func settings(f Facts) []Finding {
	var out []Finding
	for _, r := range rules {
		if have, known := f.Variables[r.name]; known && !keeps(f, r, have) {
			out = append(out, f.finding(r, have))
		}
	}
	out = append(out, serverID(f)...)
	out = append(out, readOnlyAtStart(f)...)
	out = append(out, plugins(f)...)
	return append(out, advice(f)...)
}

// keeps tells whether the server keeps the rule.
func keeps(f Facts, r rule, have string) bool {
	switch r.name {
	case "replica_preserve_commit_order", "replica_parallel_type":
		if f.is("replica_parallel_workers", "0") { // one applier cannot change the order
			return true
		}
	}
	return slices.ContainsFunc(r.want, func(w string) bool { return sameValue(have, w) })
}

func (f Facts) finding(r rule, have string) Finding {
	return Finding{
		Member: f.Member, Kind: r.kind, Severity: r.severity, Subject: r.name,
		Text: fmt.Sprintf("%s is %s and should be %s: %s%s", r.name, orEmpty(have), r.want[0], r.why, f.hint(r.name, r.want[0], r.how)),
		SQL:  f.repair(r.name, have, r.want[0], r.how),
	}
}

// hint says where to change a setting that SQL cannot change.
func (f Facts) hint(variable, want string, h how) string {
	switch {
	case f.RDS:
		return fmt.Sprintf("; set it to %s in the DB parameter group of the instance", want)
	case h == apart:
		return "; it can be changed only while the server is out of its group"
	case h == restart:
		return "; the server takes it at its next start"
	case h == file:
		return fmt.Sprintf("; write %s=%s into the server's option file and restart it", variable, want)
	}
	return ""
}

func (f Facts) repair(variable, have, want string, h how) string {
	if f.RDS {
		return ""
	}
	switch h {
	case online, apart:
		if variable == "gtid_mode" {
			return gtidSteps(have)
		}
		return "SET PERSIST " + variable + " = " + literal(want)
	case restart:
		return "SET PERSIST_ONLY " + variable + " = " + literal(want)
	}
	return ""
}

// gtidSteps turns GTIDs on without stopping writes; the server allows only one
// step at a time.
func gtidSteps(have string) string {
	steps := []string{"OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"}
	sql := ""
	for _, s := range steps[slices.Index(steps, normal(have))+1:] {
		if sql != "" {
			sql += "; "
		}
		sql += "SET PERSIST gtid_mode = " + s
	}
	return sql
}

func serverID(f Facts) []Finding {
	if f.ServerID > 1 || (f.RDS && f.ServerID == 1) {
		return nil
	}
	found := Finding{
		Member: f.Member, Kind: ServerID, Severity: Warns, Subject: "server_id",
		Text: "server_id is 1, the value every server has that nobody gave one; give each member its own",
	}
	if f.ServerID == 0 {
		found.Severity, found.Text = Refuses, "server_id is 0, with which a server takes part in no replication; give each member its own"
	}
	return []Finding{found}
}

// readOnlyAtStart looks for safety rule 1: a member must be read-only from its
// first breath. A running server that was switched by SET GLOBAL no longer
// tells what its option file says; only what is persisted is certain.
func readOnlyAtStart(f Facts) []Finding {
	if f.RDS {
		return nil // the switch is Amazon's, and nobody writes before the instance is up
	}
	if v, ok := f.Persisted["super_read_only"]; ok && sameValue(v, "ON") {
		return nil
	}
	source := f.Sources["super_read_only"]
	if f.is("super_read_only", "ON") && source != "DYNAMIC" && source != "COMPILED" {
		return nil
	}
	found := Finding{
		Member: f.Member, Kind: ReadOnlyAtStart, Severity: Warns, Subject: "super_read_only",
		Text: "nothing makes the server read-only at its start: after a crash it takes writes before its group takes it back, and one such write makes it a stranger for ever",
		SQL:  "SET PERSIST_ONLY super_read_only = ON",
	}
	if source == "DYNAMIC" {
		found.Text = "super_read_only is not persisted, and since it was changed at run time the option file cannot be seen from here: unless the file has it, the server takes writes at its start before its group takes it back"
	} else if f.InGroup() {
		found.Severity = Refuses
	}
	return []Finding{found}
}

// libraries are the plugins of a member and the files they are in.
var libraries = []struct{ plugin, library, why string }{
	{"group_replication", "group_replication.so", "without it there is no group"},
	{"clone", "mysql_clone.so", "without it a new member cannot be copied from this one, nor this one from another"},
}

func plugins(f Facts) []Finding {
	var out []Finding
	for _, l := range libraries {
		status := f.Plugins[l.plugin]
		found := Finding{Member: f.Member, Kind: Plugin, Severity: Warns, Subject: l.plugin}
		switch {
		case status == "ACTIVE":
			continue
		case f.RDS && l.plugin == "clone":
			continue // not offered there; members come from snapshots
		case f.RDS:
			found.Severity = Refuses
			found.Text = "plugin group_replication is not active; set rds.group_replication_enabled to 1 in the DB parameter group and reboot the instance"
		case status == "":
			found.Text = fmt.Sprintf("plugin %s is not installed: %s; setting up the group installs it", l.plugin, l.why)
			found.SQL = fmt.Sprintf("INSTALL PLUGIN %s SONAME %s", l.plugin, text(l.library))
		default:
			found.Severity = Refuses
			found.Text = fmt.Sprintf("plugin %s is %s: %s; the server's error log says why it did not start", l.plugin, status, l.why)
		}
		out = append(out, found)
	}
	return out
}

func advice(f Facts) []Finding {
	var out []Finding
	warn := func(variable, want, why string) {
		out = append(out, f.finding(rule{variable, []string{want}, Advice, Warns, online, why}, f.Variables[variable]))
	}
	if gipk, ok := f.Variables["sql_generate_invisible_primary_key"]; ok && !sameValue(gipk, "ON") && !f.is("sql_require_primary_key", "ON") {
		warn("sql_generate_invisible_primary_key", "ON", "a table made without primary key is refused at its first row; the server can add an invisible one when the table is made")
	}
	if workers, err := strconv.Atoi(f.Variables["replica_parallel_workers"]); err == nil && workers < 2 {
		warn("replica_parallel_workers", "4", "one applier alone falls behind as soon as several members write")
	}
	keep, err := strconv.ParseInt(f.Variables["binlog_expire_logs_seconds"], 10, 64)
	if err == nil && keep > 0 && keep < shortestBinlog && !f.is("binlog_expire_logs_auto_purge", "OFF") && !f.RDS {
		warn("binlog_expire_logs_seconds", "259200", "a member that is away longer must be copied anew instead of catching up")
	}
	return out
}

func orEmpty(v string) string {
	if v == "" {
		return "empty"
	}
	return v
}

// literal writes a value for SET: words and numbers bare, the rest quoted.
func literal(v string) string {
	for _, c := range v {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return text(v)
		}
	}
	if v == "" || (v[0] >= '0' && v[0] <= '9' && !allDigits(v)) {
		return text(v)
	}
	return v
}

func allDigits(v string) bool {
	_, err := strconv.ParseUint(v, 10, 64)
	return err == nil
}
