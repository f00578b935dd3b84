package node_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
)

// hurried are the built-in alarms, made quick: the conditions are theirs unless
// a limit would take minutes or gigabytes to reach.
const hurried = `
alarms:
  rules:
    - {name: always, when: "true", severity: critical, text: on}
    - {name: also-always, when: "true", severity: warning, text: on}
    - {name: member-away, for: 1s, hold: 1s}
    - {name: member-catching-up, when: 'member.state == "RECOVERING" and member.since > 1'}
    - {name: member-read-only, for: 1s}
    - {name: quorum, hold: 1s}
    - {name: no-group, for: 1s}
    - {name: no-writer, for: 1s}
    - {name: no-spare, for: 1s}
    - {name: lag, when: 'member.lag() > 1', clear: 'member.lag() < 0.5', for: 1s, hold: 1s}
    - {name: flow-control, when: 'member.queue() > 20', clear: 'member.queue() < 5', for: 1s, hold: 1s}
    - {name: conflicts, when: 'rate("perdure_member_conflicts_total", "10s", {"member": member.name}) > 1', clear: 'rate("perdure_member_conflicts_total", "10s", {"member": member.name}) < 0.2', for: 1s, hold: 1s}
    - {name: zone-majority, for: 1s}
    - {name: other-problem, for: 1s}
    - {name: drift, for: 1s}
    - {name: maintenance-forgotten, when: paused_for > 1}
    - {name: change-stuck, when: plan_age > 1}
    - {name: disk, for: 1s, hold: 1s}
    - {name: disk-full, for: 1s, hold: 1s}
    - {name: events-waiting, for: 1s, hold: 1s}
    - {name: delivery, when: 'highest("perdure_deliveries_failing_seconds") > 1', for: 1s, hold: 1s}
    - {name: queue-age, when: 'metric("perdure_queue_oldest_age_seconds") > 2', clear: 'metric("perdure_queue_oldest_age_seconds") < 1', for: 1s, hold: 1s}
    - {name: queue-held-back, for: 1s}
    - {name: queue-log, for: 1s, hold: 1s}
`

// scene is something that really happens to the cluster, and the alarms that
// have to say so, each by "rule" or "rule/member" and a state.
type scene struct {
	name    string
	wants   []string
	provoke func(t *testing.T)
	repair  func(t *testing.T)
	long    bool // not part of every test
}

// nodeScenes need no server at all.
func (w *noticed) nodeScenes(mounted bool) []scene {
	cert := filepath.Join(w.site.dir, "node", "tls", "api.crt")
	var saved []byte
	swap := func(end time.Duration) func(*testing.T) {
		return func(t *testing.T) {
			if saved == nil {
				saved, _ = os.ReadFile(cert)
			}
			put(t, cert, certificate(t, end))
		}
	}
	restore := func(t *testing.T) { put(t, cert, saved) }
	scenes := []scene{
		{name: "the API's certificate has five days left", wants: []string{"certificate ALARM"}, provoke: swap(5 * 24 * time.Hour), repair: restore},
		{name: "it has twelve hours left", wants: []string{"certificate ALARM", "certificate-expired ALARM"}, provoke: swap(12 * time.Hour), repair: restore},
		{name: "the certificate's file is gone", wants: []string{"certificate NO-DATA", "certificate-expired NO-DATA"}, provoke: func(t *testing.T) {
			if err := os.Remove(cert); err != nil {
				t.Fatal(err)
			}
		}, repair: restore},
		{
			name: "the automation is paused and forgotten", wants: []string{"maintenance-forgotten ALARM"},
			provoke: func(t *testing.T) {
				if err := w.Pause(t.Context(), "a test"); err != nil {
					t.Fatal(err)
				}
			},
			repair: func(t *testing.T) {
				if err := w.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
		},
		{name: "a receiver is away", wants: []string{"delivery ALARM"}, provoke: func(t *testing.T) {
			w.webGate.shut()
			if err := w.Pause(t.Context(), "something to tell"); err != nil {
				t.Fatal(err)
			}
		}, repair: func(t *testing.T) {
			w.webGate.open(t)
			if err := w.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
	}
	if !mounted {
		return scenes
	}
	node, streams := filepath.Join(w.site.dir, "node", "ballast"), filepath.Join(w.site.dir, "node", "streams", "ballast")
	remove := func(path string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return append(scenes, scene{
		name: "the node's disk has 7 % left", wants: []string{"disk ALARM", "disk-full ALARM"}, repair: remove(node),
		provoke: func(t *testing.T) { fill(t, node, 0.07) },
	}, scene{
		// Whether events were dropped within a minute cannot be told before a minute is over.
		name: "the disk of the events is full", long: true, wants: []string{"events-waiting ALARM"}, repair: remove(streams),
		provoke: func(t *testing.T) {
			fill(t, streams, 0.2)
			if err := w.Resume(t.Context()); err != nil { // an entry of the audit log, and so an event
				t.Fatal(err)
			}
		},
	})
}

// quickScenes need no server to go away, but servers.
func (w *noticed) quickScenes() []scene {
	root := func(t *testing.T, member string, statements ...string) {
		run(t, w.site.servers[member].Root(t), statements...)
	}
	apply := func(zone string) func(*testing.T) {
		return func(t *testing.T) {
			m := w.site.spec["m2"]
			m.Zone = zone
			w.site.spec["m2"] = m
			o, err := w.Apply(t.Context(), w.site.wish("m1", "m2", "m3"))
			w.done(t, o, err)
		}
	}
	return []scene{
		{
			name: "a member is set read-only by hand", wants: []string{"member-read-only/m2 ALARM"},
			provoke: func(t *testing.T) { root(t, "m2", "SET GLOBAL super_read_only = ON") },
			repair:  func(t *testing.T) { root(t, "m2", "SET GLOBAL read_only = OFF") },
		},
		{name: "all members are", wants: []string{"no-writer ALARM"}, provoke: func(t *testing.T) {
			for _, m := range []string{"m1", "m2", "m3"} {
				root(t, m, "SET GLOBAL super_read_only = ON")
			}
		}, repair: func(t *testing.T) {
			for _, m := range []string{"m1", "m2", "m3"} {
				root(t, m, "SET GLOBAL read_only = OFF")
			}
		}},
		{
			name: "a setting differs", wants: []string{"drift ALARM"}, long: true,
			provoke: func(t *testing.T) { root(t, "m2", "SET GLOBAL group_replication_transaction_size_limit = 50000000") },
			repair:  func(t *testing.T) { root(t, "m2", "SET GLOBAL group_replication_transaction_size_limit = 150000000") },
		},
		{name: "two members move into one zone", wants: []string{"zone-majority ALARM"}, provoke: apply("a"), repair: apply("b"), long: true},
		{name: "the queue is paused while writes come", wants: []string{"queue-held-back ALARM", "queue-age ALARM"}, provoke: func(t *testing.T) {
			if err := w.SteerQueue(t.Context(), "pause"); err != nil {
				t.Fatal(err)
			}
			w.write(t, 1)
		}, repair: func(t *testing.T) {
			if err := w.SteerQueue(t.Context(), "resume"); err != nil {
				t.Fatal(err)
			}
		}},
	}
}

// hardScenes hurt servers.
func (w *noticed) hardScenes() []scene {
	m1, m2, m3 := w.servers[0], w.servers[1], w.servers[2]
	var lock *sql.Conn
	hold := func(t *testing.T, table string) {
		var err error
		if lock, err = m3.Root(t).Conn(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := lock.ExecContext(t.Context(), "LOCK TABLES "+table+" READ"); err != nil {
			t.Fatal(err)
		}
	}
	free := func(t *testing.T) { _, _ = lock.ExecContext(t.Context(), "UNLOCK TABLES"); _ = lock.Close() }
	var fighting func()
	return []scene{
		{
			name: "a member does not let us in any more", wants: []string{"member-away/m3 ALARM"}, long: true,
			provoke: func(t *testing.T) { w.lockOut(t, m3, "LOCK") }, repair: func(t *testing.T) { w.lockOut(t, m3, "UNLOCK") },
		},
		{
			name: "two of three members hang", wants: []string{"quorum ALARM"}, long: true,
			provoke: func(t *testing.T) { _ = m2.Freeze(); _ = m3.Freeze() }, repair: func(t *testing.T) {
				_ = m2.Thaw()
				_ = m3.Thaw()
				w.mend(t)
			},
		},
		{name: "a member's applier stands still while others write", wants: []string{"lag/m3 ALARM", "flow-control/m3 ALARM"}, long: true, provoke: func(t *testing.T) {
			hold(t, "shop.account")
			for i := range 60 {
				run(t, m1.Root(t), fmt.Sprintf("UPDATE shop.account SET balance = balance + 1 WHERE id = %d", i%3+1))
			}
		}, repair: free},
		{
			name: "two members write the same row", wants: []string{"conflicts/m1 ALARM"}, long: true,
			provoke: func(t *testing.T) { fighting = w.fight(t, m1, m2) }, repair: func(*testing.T) { fighting() },
		},
		{name: "a member that joins cannot apply", wants: []string{"member-catching-up/m3 ALARM"}, long: true, provoke: func(t *testing.T) {
			run(t, m3.Root(t), "STOP GROUP_REPLICATION")
			run(t, m1.Root(t), "UPDATE shop.account SET balance = balance + 1 WHERE id = 1")
			hold(t, "shop.account")
			run(t, m3.Root(t), "START GROUP_REPLICATION")
		}, repair: func(t *testing.T) { free(t); w.until(t, time.Minute, "all ONLINE", allOnline(3)) }},
		{name: "a member has a transaction of its own, and is copied over", wants: []string{"diverged ALARM"}, long: true, provoke: func(t *testing.T) {
			run(t, m3.Root(t), "STOP GROUP_REPLICATION", "SET GLOBAL read_only = OFF", "CREATE TABLE shop.mine (id INT PRIMARY KEY)", "SET GLOBAL super_read_only = ON")
		}, repair: func(t *testing.T) {
			o, err := w.Member(t.Context(), "rejoin", "m3", api.Ask{CloneOver: []string{"m3"}})
			w.done(t, o, err)
			w.until(t, time.Minute, "all ONLINE", allOnline(3))
		}},
		{name: "a change takes long", wants: []string{"change-stuck ALARM"}, long: true, provoke: func(t *testing.T) {
			o, err := w.Member(t.Context(), "stop", "m3", api.Ask{}) // who is in the group is not rebuilt
			w.done(t, o, err)
			if o, err = w.Member(t.Context(), "rebuild", "m3", api.Ask{CloneOver: []string{"m3"}}); err != nil {
				t.Fatal(err)
			}
			t.Log(o.Title)
		}, repair: func(t *testing.T) { w.until(t, 2*time.Minute, "all ONLINE", allOnline(3)) }},
		{name: "nobody is in a group", wants: []string{"no-group ALARM"}, long: true, provoke: func(t *testing.T) {
			for _, m := range w.servers {
				run(t, m.Root(t), "STOP GROUP_REPLICATION")
			}
		}, repair: func(t *testing.T) {
			o, err := w.Client.Group(t.Context(), "start", api.Ask{})
			w.done(t, o, err)
			w.until(t, time.Minute, "all ONLINE", allOnline(3))
		}},
		{name: "a second group with the name is made", wants: []string{"two-groups ALARM"}, long: true, provoke: func(t *testing.T) {
			run(t, m3.Root(t), "STOP GROUP_REPLICATION", "SET GLOBAL group_replication_bootstrap_group = ON", "START GROUP_REPLICATION", "SET GLOBAL group_replication_bootstrap_group = OFF")
		}, repair: func(t *testing.T) { run(t, m3.Root(t), "STOP GROUP_REPLICATION"); w.back(t, "m3") }},
		{name: "a server of another group is among the members", wants: []string{"other-problem ALARM"}, long: true, provoke: func(t *testing.T) {
			db := m3.Root(t)
			run(t, db, "STOP GROUP_REPLICATION", "SET GLOBAL group_replication_group_name = '5ca1ab1e-0000-4000-8000-00000000beef'",
				"SET GLOBAL group_replication_bootstrap_group = ON", "START GROUP_REPLICATION", "SET GLOBAL group_replication_bootstrap_group = OFF")
		}, repair: func(t *testing.T) {
			name := one(t, m1.Root(t), "SELECT @@group_replication_group_name")
			run(t, m3.Root(t), "STOP GROUP_REPLICATION", "SET GLOBAL group_replication_group_name = '"+name+"'")
			w.back(t, "m3")
		}},
	}
}

// mend brings the members back that their group threw out: nobody heals here.
// A member that hung may be thrown out seconds after it goes on, so all have to
// stay for a while.
func (w *noticed) mend(t *testing.T) {
	t.Helper()
	for range 5 {
		w.mendOnce(t)
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		_, err := w.Watch().Until(ctx, func(v *topology.View) bool { return !allOnline(3)(v) })
		cancel()
		if err != nil {
			return
		}
	}
	t.Fatalf("the members do not stay: %s", states(w.Watch().View()))
}

func (w *noticed) mendOnce(t *testing.T) {
	t.Helper()
	out := func(v *topology.View) (names []string) {
		for _, m := range v.Members {
			if m.State == topology.Offline || m.State == topology.Error {
				names = append(names, m.Name)
			}
		}
		return names
	}
	v := w.until(t, time.Minute, "everybody is in or out", func(v *topology.View) bool {
		return v.Quorum == topology.HasQuorum && len(v.In(topology.Online))+len(out(v)) == len(v.Members)
	})
	for _, name := range out(v) {
		eventually(t, time.Minute, name+" is back", func() bool {
			o, err := w.Member(t.Context(), "rejoin", name, api.Ask{})
			if err != nil {
				return false // the group still lists it
			}
			o, err = w.end(t, o, nil)
			return err == nil && o.State == "done"
		})
	}
	w.until(t, time.Minute, "all ONLINE", allOnline(3))
}

// play lets a scene happen, waits for its alarms, repairs, waits for OK.
func (w *noticed) play(s scene, provoked map[string]bool) func(t *testing.T) {
	return func(t *testing.T) {
		began := time.Now()
		s.provoke(t)
		var took []string
		for _, want := range s.wants {
			name, state, _ := strings.Cut(want, " ")
			took = append(took, fmt.Sprintf("%s %.1f s", want, w.alarmIs(t, name, alarm.State(state), 40*time.Second).Sub(began).Seconds()))
			rule, _, _ := strings.Cut(name, "/")
			provoked[rule] = true
		}
		s.repair(t)
		repaired := time.Now()
		for _, want := range s.wants {
			name, _, _ := strings.Cut(want, " ")
			w.alarmIs(t, name, alarm.OK, 2*time.Minute) // the queue tidies once a minute
		}
		t.Logf("%s; OK %.1f s after the repair", strings.Join(took, ", "), time.Since(repaired).Seconds())
	}
}

// alarmIs waits for the state of an alarm ("rule" or "rule/member").
func (w *noticed) alarmIs(t *testing.T, name string, want alarm.State, limit time.Duration) time.Time {
	t.Helper()
	rule, member, _ := strings.Cut(name, "/")
	var last []api.Alarm
	for end := time.Now().Add(limit); ; {
		all, err := w.Alarms(t.Context())
		if err == nil {
			last = all
			i := slices.IndexFunc(all, func(a api.Alarm) bool {
				return a.Rule == rule && (member == "" || a.Member == member) && a.State == string(want)
			})
			on := slices.ContainsFunc(all, func(a api.Alarm) bool {
				return a.Rule == rule && (member == "" || a.Member == member) && a.State != "OK"
			})
			if (want == alarm.OK && !on) || (want != alarm.OK && i >= 0) {
				return time.Now()
			}
		}
		if time.Now().After(end) {
			on := slices.DeleteFunc(last, func(a api.Alarm) bool { return a.State == "OK" })
			t.Fatalf("%s is not %s after %s; on are %+v; %s", name, want, limit, on, states(w.Watch().View()))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// alarms plays the scenes. Without a soak those that are quick.
func (w *noticed) alarms(t *testing.T) {
	// By chapters and a test of their own.
	provoked := map[string]bool{
		"watcher": true, "member-away": true, "no-spare": true, "certificate": true, "certificate-expired": true,
		"maintenance-forgotten": true, "delivery": true, "disk": true, "disk-full": true, "events-waiting": true,
	}
	for _, s := range slices.Concat(w.quickScenes(), w.dataScenes(), w.hardScenes()) {
		if s.long && !soaking() {
			continue
		}
		t.Run(s.name, w.play(s, provoked))
	}
	if !soaking() {
		return
	}
	for _, r := range alarm.Builtin {
		if !provoked[r.Name] {
			t.Errorf("%s was not provoked", r.Name)
		}
	}
	t.Logf("%d of %d built-in alarms were provoked and went back to OK", len(provoked), len(alarm.Builtin))
	history, err := w.Events(t.Context(), []string{"alarm.*"}, nil, 1000)
	if err != nil || len(history) < 2*len(provoked) {
		t.Errorf("only %d events tell of them: %v", len(history), err)
	}
	for _, kind := range []event.Kind{event.DriftFound, event.DriftGone} {
		w.told(t, kind, time.Time{}, time.Second)
	}
}

// What happens to the node itself, on a node that reaches no server.
func TestAlarmsAboutTheNodeItself(t *testing.T) {
	t.Parallel()
	w := &noticed{site: newSite(t, nil)}
	mounted := disks(t, filepath.Join(w.site.dir, "node"))
	w.web = newReceiver(t)
	w.webGate = newGate(t, w.web.Listener.Addr().String())
	w.served = w.site.serveFile(t, "node", strings.Replace(w.site.lonely(t), "http://127.0.0.1:1/", "http://"+w.webGate.addr+"/ops", 1)+hurried)
	provoked := map[string]bool{}
	for _, s := range w.nodeScenes(mounted) {
		if !s.long || soaking() {
			t.Run(s.name, w.play(s, provoked))
		}
	}
}

// write hands in writes to the queue.
func (w *noticed) write(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, err := w.Put(t.Context(), api.Write{Operation: "deposit", Params: params(1, 1)}); err != nil {
			t.Fatal(err)
		}
	}
}

// lockOut lets the node's account in no more, on one member, or again.
func (w *noticed) lockOut(t *testing.T, m *mysqltest.Member, how string) {
	t.Helper()
	user, _ := mysqltest.AdminAccount()
	conn, err := m.Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, stmt := range []string{"SET sql_log_bin = 0", "ALTER USER '" + user + "'@'%' ACCOUNT " + how, "SET sql_log_bin = 1"} {
		if _, err := conn.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(stmt, err)
		}
	}
	if how != "LOCK" {
		return
	}
	rows, err := conn.QueryContext(t.Context(), "SELECT id FROM performance_schema.processlist WHERE user = ? AND host LIKE '%:%'", user) // the group's applier has the name of who started it
	if err != nil {
		t.Fatal(err)
	}
	var ids []int
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := errorsOf(rows); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		_, _ = conn.ExecContext(t.Context(), fmt.Sprintf("KILL %d", id)) // it may have gone by itself
	}
}

func errorsOf(rows *sql.Rows) error {
	err := rows.Err()
	_ = rows.Close()
	return err
}

// fight lets clients of two members change one row until the returned function
// is called: alone, and in transactions.
func (w *noticed) fight(t *testing.T, members ...*mysqltest.Member) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, m := range members {
		db := m.App(t)
		all.Go(func() {
			conn, err := db.Conn(ctx)
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			for ctx.Err() == nil {
				_, _ = conn.ExecContext(ctx, "UPDATE shop.account SET balance = balance + 1 WHERE id = 1")
				tx, err := conn.BeginTx(ctx, nil)
				if err != nil {
					continue
				}
				_, _ = tx.ExecContext(ctx, "UPDATE shop.account SET balance = balance - 1 WHERE id = 1")
				_ = tx.Commit()
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// certificate is one that ends after a while.
func certificate(t *testing.T, end time.Duration) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(end)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// fill makes a file that leaves so much of its file system.
func fill(t *testing.T, path string, left float64) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &fs); err != nil {
		t.Fatal(err)
	}
	size := (float64(fs.Bavail) - left*float64(fs.Blocks)) * float64(fs.Bsize)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		t.Fatal(err)
	}
}

// disks gives the node's data, and its events, disks of their own. Only root may
// mount; elsewhere the scenes about disks are left out.
func disks(t *testing.T, node string) (mounted bool) {
	t.Helper()
	for _, d := range []struct{ path, size string }{{node, "size=1000m"}, {filepath.Join(node, "streams"), "size=500m"}} {
		if err := os.MkdirAll(d.path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, d.size); err != nil {
			t.Logf("the scenes about disks are left out: this process may not mount: %v", err)
			return false
		}
		t.Cleanup(func() { _ = syscall.Unmount(d.path, syscall.MNT_DETACH) })
	}
	return true
}
