package advise

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/api"
)

func calm(name string) api.AdviceMember {
	return api.AdviceMember{Name: name, Settings: map[string]string{
		"group_replication_transaction_size_limit": "150000000", "group_replication_flow_control_mode": "QUOTA",
		"group_replication_flow_control_applier_threshold": "25000", "binlog_cache_size": "32768", "replica_parallel_workers": "8",
	}}
}

func with(change func(*api.AdviceMember)) api.Advice {
	m := calm("m1")
	change(&m)
	return api.Advice{Seconds: 3, Members: []api.AdviceMember{m, calm("m2")}}
}

func TestWhatToDoAboutWhatWasSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		advice api.Advice
		want   []string // "kind severity: part of the text", in order
	}{
		"all is well": {with(func(*api.AdviceMember) {}), nil},
		"a member that could not be asked is named": {
			with(func(m *api.AdviceMember) { m.Error = "access denied" }),
			[]string{"unknown warning: m1 could not be asked: access denied"},
		},
		"a large transaction names its tables": {
			api.Advice{Members: []api.AdviceMember{calm("m1")}, Largest: []api.Transaction{{Bytes: 20 << 20, Tables: []string{"shop.t"}}}, Read: api.AdviceRead{Transactions: 7}},
			[]string{"transaction-size info: newest 7 transactions changed shop.t in one piece of 20.0 MiB"},
		},
		"one that comes near the limit is a warning": {
			api.Advice{Members: []api.AdviceMember{calm("m1")}, Largest: []api.Transaction{{Bytes: 100 << 20}}},
			[]string{"transaction-size warning: would be refused"},
		},
		"small ones are nobody's business": {api.Advice{Largest: []api.Transaction{{Bytes: 1 << 20}}}, nil},
		"no limit for transactions":        {with(func(m *api.AdviceMember) { m.Settings["group_replication_transaction_size_limit"] = "0" }), []string{"setting warning: of any size"}},
		"many transactions beyond the cache": {
			with(func(m *api.AdviceMember) { m.Cached, m.Spilled = 100, 20 }),
			[]string{"transaction-size info: 20 of 100 transactions on m1 did not fit into binlog_cache_size (32.0 KiB)"},
		},
		"a few are not worth a word":    {with(func(m *api.AdviceMember) { m.Cached, m.Spilled = 10000, 20 }), nil},
		"a member that holds others up": {with(func(m *api.AdviceMember) { m.Queue = 30000 }), []string{"flow-control warning: m1 has 30000 transactions waiting, its limit is 25000"}},
		"the same with flow control off": {with(func(m *api.AdviceMember) {
			m.Queue = 30000
			m.Settings["group_replication_flow_control_mode"] = "DISABLED"
		}), []string{"flow-control warning: flow control is off"}},
		"behind with one worker": {with(func(m *api.AdviceMember) { m.Queue = 2000; m.Settings["replica_parallel_workers"] = "1" }), []string{"flow-control warning: applies with 1 workers"}},
		"was throttled":          {with(func(m *api.AdviceMember) { m.Throttled = &api.Throttled{Times: 5, Seconds: 1.5} }), []string{"flow-control info: held back 5 times, 1.5 s"}},
		"is throttled now":       {with(func(m *api.AdviceMember) { m.Throttled = &api.Throttled{Times: 5, Now: 2} }), []string{"flow-control warning: 2 are now"}},
		"conflicts now":          {with(func(m *api.AdviceMember) { m.NewConflicts = 30 }), []string{"conflicts warning: 10.0 transactions a second lose certification on m1"}},
		"a table that is written in two places": {
			api.Advice{Tables: []api.TableConflict{{Table: "shop.hot", Lost: 12, Members: []string{"m1", "m2"}, Statement: "UPDATE `shop` . `hot`"}, {Table: "shop.cool", Lost: 1}}},
			[]string{"conflicts warning: 12 of 13 lost transactions that sessions remember changed shop.hot"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Decide(c.advice)
			if len(got) != len(c.want) {
				t.Fatalf("%d findings: %+v", len(got), got)
			}
			for i, want := range c.want {
				head, text, _ := strings.Cut(want, ": ")
				if got[i].Kind+" "+got[i].Severity != head || !strings.Contains(got[i].Text, text) {
					t.Errorf("%+v, want %s", got[i], want)
				}
			}
		})
	}
}

func TestWarningsComeFirst(t *testing.T) {
	t.Parallel()
	a := with(func(m *api.AdviceMember) { m.Cached, m.Spilled, m.Queue = 100, 50, 99999 })
	if got := Decide(a); len(got) != 2 || got[0].Severity != "warning" || got[1].Severity != "info" {
		t.Errorf("%+v", got)
	}
}

func TestTheTableAStatementChanges(t *testing.T) {
	t.Parallel()
	for digest, want := range map[string]string{
		"UPDATE `t` SET `n` = `n` + ? WHERE `id` = ?":                  "shop.t",
		"UPDATE `other` . `t` SET `n` = ?":                             "other.t",
		"UPDATE LOW_PRIORITY `t` SET `n` = ?":                          "shop.t",
		"INSERT INTO `t` VALUES (...)":                                 "shop.t",
		"INSERT IGNORE INTO `a` . `t` ( `n` ) VALUES (?)":              "a.t",
		"INSERT `t` VALUES (?)":                                        "shop.t",
		"REPLACE INTO `t` VALUES (?)":                                  "shop.t",
		"DELETE FROM `t` WHERE `id` = ?":                               "shop.t",
		"COMMIT":                                                       "",
		"SELECT * FROM `t`":                                            "",
		"SET SESSION `sql_mode` = ?":                                   "",
		"UPDATE `odd table` SET `n` = ? WHERE `text` = `DELETE FROM `": "shop.odd table",
	} {
		if got := tableOf(digest, "shop"); got != want {
			t.Errorf("%s changes %q, not %q", digest, got, want)
		}
	}
}

func TestALostTransactionCountsOnceHoweverOftenItIsSeen(t *testing.T) {
	t.Parallel()
	one := Lost{Member: "m1", Thread: 1, Event: 7, Table: "shop.t"}
	got := Tally([]Lost{one, one, {Member: "m1", Thread: 1, Event: 9, Table: "shop.t"}, {Member: "m2", Thread: 1, Event: 7, Table: "shop.t"}, {Member: "m1", Thread: 2, Event: 7, Table: "shop.u"}})
	if len(got) != 2 || got[0].Table != "shop.t" || got[0].Lost != 3 || len(got[0].Members) != 2 || got[1].Lost != 1 {
		t.Errorf("%+v", got)
	}
}
