package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/mysql"
)

// need is one GRANT statement without its grantee: what our account must hold.
type need struct {
	rights   []string
	on       string // as GRANT writes it
	severity Severity
	why      string

	pass    bool          // WITH GRANT OPTION: the account hands the right on
	instead []string      // any of these does as well
	since   mysql.Version // older servers have no use for it
	unless  func(Facts) bool
}

const everywhere = "*.*"

// operatorNeeds is the least with which a node can keep a group whole. Nothing
// here reads a row of a user's table: REFERENCES is among them because
// information_schema hides tables from accounts without any right on them, and
// REFERENCES shows a table's definition and gives access to none of its rows.
var operatorNeeds = []need{
	{rights: []string{"SELECT"}, on: "performance_schema.*", severity: Refuses, why: "to read the state of the group"},
	{rights: []string{"REPLICATION CLIENT"}, on: everywhere, severity: Refuses, why: "to read the state of binary logs and channels"},
	{rights: []string{"PROCESS"}, on: everywhere, severity: Refuses, why: "to see who is connected and what blocks whom"},
	{rights: []string{"REFERENCES"}, on: everywhere, severity: Refuses, why: "to see that tables exist and how they are defined, for the check of schemas; it opens no row", instead: visible},
	{rights: []string{"GROUP_REPLICATION_ADMIN"}, on: everywhere, severity: Refuses, why: "to start, stop and reconfigure the group"},
	{rights: []string{"SYSTEM_VARIABLES_ADMIN"}, on: everywhere, severity: Refuses, why: "to change settings, read-only switches among them"},
	{rights: []string{"PERSIST_RO_VARIABLES_ADMIN"}, on: everywhere, severity: Refuses, why: "to persist settings for the next start"},
	{rights: []string{"REPLICATION_SLAVE_ADMIN"}, on: everywhere, severity: Refuses, why: "to name the recovery account and to run channels between sites"},
	{rights: []string{"CONNECTION_ADMIN"}, on: everywhere, severity: Refuses, why: "to log in when the server is full or offline, to end sessions, and to give the recovery account the same", pass: true},
	{rights: []string{"CLONE_ADMIN"}, on: everywhere, severity: Refuses, why: "to copy a new member from another"},
	{rights: []string{"BACKUP_ADMIN"}, on: everywhere, severity: Refuses, why: "to give the recovery account the right to be a clone's donor", pass: true},
	{rights: []string{"REPLICATION SLAVE"}, on: everywhere, severity: Refuses, why: "to give the recovery account the right to read binary logs", pass: true},
	{rights: []string{"CREATE USER"}, on: everywhere, severity: Refuses, why: "to make the recovery account"},
	{rights: []string{"RELOAD"}, on: everywhere, severity: Refuses, why: "to reset channels and binary logs of a server that is set up anew"},
	{rights: []string{"SHUTDOWN"}, on: everywhere, severity: Refuses, why: "to restart a server"},
	{rights: []string{"INSERT"}, on: "mysql.plugin", severity: Refuses, why: "to install the plugins of a member", unless: hasPlugins},
	{rights: []string{"INSERT", "DELETE"}, on: "mysql.component", severity: Warns, why: "to install the components that tell more about the group (9.7 and later)", since: mysql.Version{Major: 9, Minor: 7}},
}

// visible are the rights that show definitions of tables and columns.
var visible = []string{"SELECT", "INSERT", "UPDATE"}

// hasPlugins: a server whose option file loads them needs no INSTALL.
func hasPlugins(f Facts) bool {
	return f.Plugins["group_replication"] == "ACTIVE" && f.Plugins["clone"] == "ACTIVE"
}

// rdsNeeds: where Amazon runs the server, the verbs are procedures, and most
// rights above cannot be granted at all.
var rdsNeeds = []need{
	{rights: []string{"SELECT"}, on: "performance_schema.*", severity: Refuses, why: "to read the state of the group"},
	{rights: []string{"REPLICATION CLIENT"}, on: everywhere, severity: Refuses, why: "to read the state of binary logs and channels"},
	{rights: []string{"PROCESS"}, on: everywhere, severity: Refuses, why: "to see who is connected and what blocks whom"},
	{rights: []string{"REFERENCES"}, on: everywhere, severity: Refuses, why: "to see that tables exist and how they are defined, for the check of schemas; it opens no row", instead: visible},
	{rights: []string{"EXECUTE"}, on: "PROCEDURE mysql.rds_group_replication_start", severity: Refuses, why: "to start the group and to join it"},
	{rights: []string{"EXECUTE"}, on: "PROCEDURE mysql.rds_group_replication_stop", severity: Refuses, why: "to leave the group"},
	{rights: []string{"EXECUTE"}, on: "PROCEDURE mysql.rds_group_replication_create_user", severity: Refuses, why: "to make the recovery account"},
	{rights: []string{"EXECUTE"}, on: "PROCEDURE mysql.rds_group_replication_set_recovery_channel", severity: Refuses, why: "to name the recovery account"},
}

// watcherNeeds is for somebody who only looks, such as a proxy beside the
// nodes. With CONNECTION_ADMIN it still gets in when a member is offline or
// full, which is when looking matters.
var watcherNeeds = []need{
	{rights: []string{"SELECT"}, on: "performance_schema.*", severity: Refuses, why: "to read the state of the group"},
	{rights: []string{"REPLICATION CLIENT"}, on: everywhere, severity: Refuses, why: "to read the state of binary logs and channels"},
	{rights: []string{"CONNECTION_ADMIN"}, on: everywhere, severity: Refuses, why: "to log in when the server is full or offline"},
}

// needs are what the account must hold on such a server.
func needs(d mysql.Dialect) []need {
	if d.RDS {
		return rdsNeeds
	}
	return slices.DeleteFunc(slices.Clone(operatorNeeds), func(n need) bool { return d.Version.Compare(n.since) < 0 })
}

// Grants gives the statements that make an account with the least a node needs
// to keep a group. The server thinks up the password and shows it once.
func Grants(d mysql.Dialect, who mysql.Account) []string { return statements(needs(d), who) }

// WatcherGrants gives the statements that make an account that can only look.
func WatcherGrants(d mysql.Dialect, who mysql.Account) []string {
	list := watcherNeeds
	if d.RDS { // nobody can grant dynamic privileges there, nor set offline_mode
		list = watcherNeeds[:2]
	}
	return statements(list, who)
}

// statements puts what goes on the same place into one GRANT.
func statements(list []need, who mysql.Account) []string {
	out := []string{fmt.Sprintf("CREATE USER IF NOT EXISTS %s IDENTIFIED BY RANDOM PASSWORD REQUIRE SSL", who)}
	type place struct {
		on   string
		pass bool
	}
	rights := map[place][]string{}
	var order []place
	for _, n := range list {
		p := place{n.on, n.pass}
		if !slices.Contains(order, p) {
			order = append(order, p)
		}
		rights[p] = append(rights[p], n.rights...)
	}
	for _, p := range order {
		out = append(out, grant(rights[p], p.on, who.String(), p.pass))
	}
	return out
}

func grant(rights []string, on, who string, pass bool) string {
	s := fmt.Sprintf("GRANT %s ON %s TO %s", strings.Join(rights, ", "), on, who)
	if pass {
		s += " WITH GRANT OPTION"
	}
	return s
}

// sightNeeds is what Schema cannot see without.
var sightNeeds = []need{
	{rights: []string{"REFERENCES"}, on: everywhere, severity: Refuses, instead: visible, why: "to see tables at all: only those it has rights on were checked"},
	{rights: []string{"PROCESS"}, on: everywhere, severity: Warns, why: "to see how large tables are: that was not checked"},
}

// grants names every right our account lacks.
func grants(f Facts) []Finding {
	return missing(f, needs(mysql.Dialect{Version: f.Version, RDS: f.RDS}))
}

func missing(f Facts, list []need) []Finding {
	h := parseGrants(f.GrantLines)
	var out []Finding
	for _, n := range list {
		if n.unless != nil && n.unless(f) || slices.ContainsFunc(n.instead, func(r string) bool { return h.holds(r, n.on) }) {
			continue
		}
		var lacking []string
		held := true
		for _, right := range n.rights {
			if !h.holds(right, n.on) || n.pass && !h.mayPass(right, n.on) {
				lacking = append(lacking, right)
				held = held && h.holds(right, n.on)
			}
		}
		if len(lacking) == 0 {
			continue
		}
		what := strings.Join(lacking, " and ")
		said := fmt.Sprintf("the account %s lacks %s on %s, needed %s", f.Account, what, n.on, n.why)
		if held {
			said = fmt.Sprintf("the account %s may not pass on its %s on %s (WITH GRANT OPTION), needed %s", f.Account, what, n.on, n.why)
		}
		if len(h.roles) > 0 && f.ActiveRoles == "NONE" {
			said += "; it has roles that are not active after login, which SET DEFAULT ROLE ALL would change"
		}
		out = append(out, Finding{
			Member: f.Member, Kind: Grant, Severity: n.severity, Subject: what + " ON " + n.on,
			Text: said, SQL: grant(lacking, n.on, grantee(f.Account), n.pass),
		})
	}
	return out
}

// grantee writes CURRENT_USER() as an account. The host never holds an @.
func grantee(account string) string {
	at := strings.LastIndexByte(account, '@')
	if at < 0 {
		return text(account)
	}
	return mysql.Account{User: account[:at], Host: account[at+1:]}.String()
}
