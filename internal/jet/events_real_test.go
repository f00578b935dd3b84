package jet_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/hook"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/notify"
	"github.com/perdure/perdure/internal/notify/smtptest"
	"github.com/perdure/perdure/internal/rule"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

func TestMain(m *testing.M) { mysqltest.Main(m) }

// TestAKilledMemberIsToldByMailByWebhookAndToAHook kills a real member of a
// real group and waits for everybody who asked to be told.
func TestAKilledMemberIsToldByMailByWebhookAndToAHook(t *testing.T) {
	if testing.Short() {
		t.Skip("it needs a group")
	}
	servers := mysqltest.Start(t, 3)
	instances := groupByHand(t, servers)
	quiet := slog.New(slog.DiscardHandler)
	store := state.NewMemory()
	store.SetTerm("lead", 1)
	hold := func(ctx context.Context) (context.Context, state.Fence, error) {
		return ctx, state.Fence{Lease: "lead", Epoch: 1}, ctx.Err()
	}
	w := watch.New(func(in topology.Instance) (*mysql.Server, error) {
		user, password := mysqltest.AdminAccount()
		return mysql.Open(in.Name, mysql.Login{Address: in.Address, User: user, Password: password})
	}, quiet)
	w.Watch(topology.Expect{Cluster: "shop", Group: byHand}, instances)
	v, _ := events(t, open(t, jet.Config{Dir: t.TempDir()}), jet.EventsConfig{})
	post := smtptest.Start(t, func(*smtptest.Server) {})
	box := newBox(t)
	dir, err := os.MkdirTemp("", "perdure-hook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the hook runs as nobody
		t.Fatal(err)
	}
	secret := func(string) (string, error) { return hookSecret, nil }
	mail, err := notify.New(notify.Config{Name: "mail", Email: &notify.Email{Server: post.Addr, TLS: "none", From: "perdure@example.com", To: []string{"dba@example.com"}}}, secret)
	if err != nil {
		t.Fatal(err)
	}
	web, err := notify.New(notify.Config{Name: "web", Webhook: &notify.Webhook{URL: box.URL, Secret: "env:X"}}, secret)
	if err != nil {
		t.Fatal(err)
	}
	ran, err := hook.New(hook.Config{Name: "ran", Command: []string{"/bin/sh", "-c", "cat >> " + filepath.Join(dir, "ran")}}, hook.Needs{
		Secret: secret,
		Still: func(ctx context.Context, e event.Event) (bool, error) {
			view, err := w.Look(ctx, e.Member)
			return watch.Still(view, e), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	told := event.Matcher{Kinds: []string{"member.crashed", "member.expelled", "member.started"}}
	rules, err := rule.New(rule.Needs{
		Rules: []rule.Rule{
			{Name: "crash", Match: told, Notify: []string{"mail", "web"}, Hooks: []string{"ran"}},
			{Name: "alarms", Match: event.Matcher{Kinds: []string{"alarm.*"}}, Notify: []string{"web"}},
		},
		Channels: map[string]rule.Place{"mail": {Target: mail}, "web": {Target: web}}, Hooks: map[string]rule.Place{"ran": {Target: ran}},
		Node: "n1", Cluster: "shop", Store: store, Source: v, Hold: hold, To: v, Log: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(w, v, alarm.Host{Dirs: []string{dir}})
	alarms, err := alarm.New(alarm.Needs{
		Config: alarm.Config{Rules: []alarm.Rule{{Name: "member-away", For: new(event.Duration(time.Second))}}, Off: []string{"certificate*", "conflicts"}},
		Node:   "n1", Cluster: "shop", Store: store, Hold: hold, Metrics: metrics, To: v, Settle: v.Settle, Log: quiet,
		Facts: func(context.Context) alarm.Facts { return alarm.Facts{View: w.View()} },
	})
	if err != nil {
		t.Fatal(err)
	}
	teller := watch.NewTeller(watch.TellerConfig{Watch: w, Store: store, Hold: hold, To: v, Settle: v.Settle, Node: "n1", Log: quiet})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{w.Run, teller.Run, rules.Run, alarms.Run} {
		all.Go(func() { _ = run(ctx) })
	}
	defer all.Wait()
	defer cancel()
	whole := func(view *topology.View) bool {
		return view.Quorum == topology.HasQuorum && len(view.In(topology.Online)) == 3
	}
	limited, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if _, err := w.Until(limited, whole); err != nil {
		t.Fatal(err)
	}
	until(t, "the group is told", func() bool { return len(kinds(t, v)) > 6 })

	killed := time.Now()
	if err := servers[2].Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Until(limited, func(view *topology.View) bool { return len(view.In(topology.Online)) == 2 }); err != nil {
		t.Fatal(err)
	}
	seen := time.Now()
	until(t, "mail", func() bool {
		return slices.ContainsFunc(post.Got(), func(m smtptest.Mail) bool { return strings.Contains(m.Subject(), "member.crashed: m3") })
	})
	mailed := time.Since(seen)
	until(t, "webhook", func() bool { return box.has("perdure.member.crashed") })
	until(t, "hook", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "ran"))
		return strings.Contains(string(b), "perdure.member.crashed")
	})
	every := time.Since(seen)
	until(t, "alarm", func() bool { return box.has("perdure.alarm.firing") })
	t.Logf("seen %s after the kill; mail %s, webhook and hook %s, alarm (for 1s) %s after that",
		seen.Sub(killed).Round(time.Millisecond), mailed.Round(time.Millisecond), every.Round(time.Millisecond), time.Since(seen).Round(time.Millisecond))
	if every > 3*time.Second {
		t.Errorf("everybody was told %s after it was seen", every)
	}
	if err := servers[2].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the end", func() bool { return box.has("perdure.member.started") })
	t.Logf("told: %v", kinds(t, v))
	list, err := alarms.List(t.Context())
	if err != nil || list[0].Rule != "member-away" || list[0].Member != "m3" {
		t.Errorf("alarms %+v, %v", list[0], err)
	}
}

const byHand = "5ca1ab1e-0000-4000-8000-000000000002"

// groupByHand makes a multi-primary group of the servers.
func groupByHand(t *testing.T, servers []*mysqltest.Member) (out []topology.Instance) {
	t.Helper()
	run := func(db *sql.DB, statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := db.ExecContext(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	var locals []string
	for range servers {
		port, err := mysqld.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		locals = append(locals, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for i, m := range servers {
		out = append(out, topology.Instance{Name: m.Name(), Address: m.Address()})
		db := m.Root(t)
		run(db,
			"set global group_replication_group_name = '"+byHand+"'", "set global group_replication_local_address = '"+locals[i]+"'",
			"set global group_replication_group_seeds = '"+strings.Join(locals, ",")+"'", "set global group_replication_single_primary_mode = off",
			"set global group_replication_enforce_update_everywhere_checks = on", "set global group_replication_ssl_mode = required", "set global group_replication_recovery_use_ssl = on")
		if i == 0 {
			run(db, "set global group_replication_bootstrap_group = on", "start group_replication", "set global group_replication_bootstrap_group = off",
				"create user by_hand identified by 'Some-1-Password'", "grant replication slave, backup_admin, connection_admin on *.* to by_hand")
			continue
		}
		run(db, "change replication source to source_user = 'by_hand', source_password = 'Some-1-Password' for channel 'group_replication_recovery'", "start group_replication")
	}
	return out
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(90 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

func kinds(t *testing.T, v *jet.Events) (out []string) {
	t.Helper()
	found, err := v.List(t.Context(), jet.Query{})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, s := range found {
		out = append(out, fmt.Sprintf("%s %s(%s)", s.Event.Time.Format("05.000"), s.Event.Kind, s.Event.Member))
	}
	return out
}
