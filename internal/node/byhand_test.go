package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
)

// A group somebody made by hand, with SET GLOBAL and the settings of a tutorial,
// is adopted as it runs, and is whole again after a restart of a member.
func TestAGroupMadeByHandIsAdopted(t *testing.T) {
	t.Parallel()
	servers := mysqltest.Start(t, 3)
	s := newSite(t, servers)
	const name = "5ca1ab1e-0000-4000-8000-000000000001"
	s.byHand(t, name, "m1", "m2")
	n := s.serve(t, "node", "m1", "m2")

	wrong := s.wish("m1", "m2")
	wrong.Spec.Group.Mode = topology.SinglePrimary
	_, err := n.Apply(t.Context(), wrong)
	refused(t, err, "multi-primary mode, the file says single-primary")
	_, err = n.Apply(t.Context(), s.wish("m1"))
	refused(t, err, "does not name", servers[1].Address()[strings.LastIndex(servers[1].Address(), ":"):])

	o, err := n.Apply(t.Context(), s.wish("m1", "m2"))
	o = n.done(t, o, err)
	says(t, o.Title, "adopt the group "+name)
	st, err := n.Status(t.Context())
	for end := time.Now().Add(20 * time.Second); err == nil && st.Level != "ok" && time.Now().Before(end); st, err = n.Status(t.Context()) {
		time.Sleep(50 * time.Millisecond) // a member may be SUSPECT for a moment
	}
	if err != nil || st.Cluster == nil || st.Cluster.Group != name || st.Level != "ok" {
		t.Fatalf("%v: %+v, %s", err, st.Cluster, st.Summary)
	}
	// What it was told with SET GLOBAL only must survive this.
	if err := servers[1].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.until(t, 20*time.Second, "m2 answers", is("m2", topology.Offline))
	if got := one(t, servers[1].Root(t), "select concat_ws(' ', @@super_read_only, @@group_replication_group_name)"); got != "1 "+name {
		t.Errorf("after the restart: %s", got)
	}
	o, err = n.Member(t.Context(), "rejoin", "m2", api.Ask{})
	n.done(t, o, err)
	o, err = n.Apply(t.Context(), s.wish("m1", "m2", "m3"))
	n.done(t, o, err)
	sameEverywhere(t, servers, nil)
}

// byHand makes a multi-primary group as a tutorial would.
func (s *site) byHand(t *testing.T, group string, names ...string) {
	t.Helper()
	var seeds []string
	for _, name := range names {
		seeds = append(seeds, s.spec[name].GroupAddress)
	}
	for i, m := range s.members(names...) {
		db := m.Root(t)
		run(t, db,
			"set global group_replication_group_name = '"+group+"'",
			"set global group_replication_local_address = '"+s.spec[names[i]].GroupAddress+"'",
			"set global group_replication_group_seeds = '"+strings.Join(seeds, ",")+"'",
			"set global group_replication_single_primary_mode = off",
			"set global group_replication_enforce_update_everywhere_checks = on",
			"set global group_replication_ssl_mode = required",
			"set global group_replication_recovery_use_ssl = on")
		if i == 0 {
			run(t, db, "set global group_replication_bootstrap_group = on", "start group_replication", "set global group_replication_bootstrap_group = off",
				"create user by_hand identified by 'Some-1-Password'", "grant replication slave, backup_admin, connection_admin on *.* to by_hand")
			continue
		}
		run(t, db, "change replication source to source_user = 'by_hand', source_password = 'Some-1-Password' for channel 'group_replication_recovery'", "start group_replication")
	}
	for _, m := range s.members(names...) {
		limit := time.Now().Add(time.Minute)
		for one(t, m.Root(t), "select count(*) from performance_schema.replication_group_members where member_state = 'ONLINE'") != fmt.Sprint(len(names)) {
			if time.Now().After(limit) {
				t.Fatalf("the group made by hand is not whole, as %s sees it", m.Name())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// In single-primary mode one leader may do for the consensus; it has to be so
// from the start of the group.
func TestASinglePrimaryGroupIsMadeWithOneConsensusLeader(t *testing.T) {
	t.Parallel()
	servers := mysqltest.Start(t, 2)
	s := newSite(t, servers)
	s.group.Mode, s.group.PaxosSingleLeader = topology.SinglePrimary, true
	n := s.serve(t, "node", "m1", "m2")
	o, err := n.Apply(t.Context(), s.wish("m1", "m2"))
	n.done(t, o, err)
	for _, m := range servers {
		if got := one(t, m.Root(t), `select concat_ws(' ', @@group_replication_paxos_single_leader, write_consensus_single_leader_capable, write_consensus_leaders_actual)
			from performance_schema.replication_group_communication_information`); got != "1 1 "+one(t, servers[0].Root(t), "select @@server_uuid") {
			t.Errorf("%s: %s", m.Name(), got)
		}
	}
	if a, b := one(t, servers[0].Root(t), "select @@super_read_only"), one(t, servers[1].Root(t), "select @@super_read_only"); a != "0" || b != "1" {
		t.Errorf("super_read_only is %s on the primary and %s on the secondary", a, b)
	}
	// A running group cannot take it back; a stopped one can.
	_, err = n.SetGroup(t.Context(), api.SetGroup{Mode: new(topology.MultiPrimary)})
	refused(t, err, "single-primary mode only")
}
