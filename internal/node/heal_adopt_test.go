package node_test

import (
	"testing"

	"github.com/perdure/perdure/internal/mysqltest"
)

// A group that speaks over MySQL's own protocol cannot become one of ours while
// it runs: that is said, with the way, and nothing is touched.
func TestAGroupOnMySQLsOwnCommunicationStackIsRefusedWithTheWay(t *testing.T) {
	t.Parallel()
	servers := mysqltest.Start(t, 1)
	s := newSite(t, servers)
	run(t, servers[0].Root(t), "set global read_only = off", "create user by_hand identified by 'Some-1-Password'",
		"grant replication slave, backup_admin, connection_admin, group_replication_stream on *.* to by_hand",
		"change replication source to source_user = 'by_hand', source_password = 'Some-1-Password' for channel 'group_replication_recovery'",
		"set global group_replication_ssl_mode = required", "set global group_replication_recovery_use_ssl = on",
		"set global group_replication_communication_stack = 'MYSQL'",
		"set global group_replication_group_name = '5ca1ab1e-0000-4000-8000-000000000002'",
		"set global group_replication_local_address = '"+servers[0].Address()+"'",
		"set global group_replication_group_seeds = '"+servers[0].Address()+"'",
		"set global group_replication_single_primary_mode = off",
		"set global group_replication_enforce_update_everywhere_checks = on",
		"set global group_replication_bootstrap_group = on", "start group_replication", "set global group_replication_bootstrap_group = off")
	n := s.serve(t, "node", "m1")
	_, err := n.Apply(t.Context(), s.wish("m1"))
	refused(t, err, "MySQL's own protocol", "MYSQL on m1", "Nothing was changed")
	if got := one(t, servers[0].Root(t), "select concat(@@group_replication_communication_stack, ' ', @@super_read_only)"); got != "MYSQL 0" {
		t.Errorf("it was touched: %s", got)
	}
}
