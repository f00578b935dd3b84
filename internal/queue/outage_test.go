package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/envelope"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/queue"
)

// TestOutage stops the database and goes on writing, 500 writes a second one a
// request, for as many seconds as the environment says; then the database comes
// back. What was accepted meanwhile, all of it, has to be applied, in order.
//
//	PERDURE_SOAK_OUTAGE=600 go test ./internal/queue -run TestOutage -v -timeout 30m
func TestOutage(t *testing.T) {
	seconds := envInt("PERDURE_SOAK_OUTAGE", 0)
	if seconds == 0 {
		t.Skip("set PERDURE_SOAK_OUTAGE to a number of seconds")
	}
	const clients, each = 50, 100 * time.Millisecond // one write a client each so often
	p := newPlace(t, mysqltest.Durable(), mysqltest.Settings(map[string]string{
		"innodb_buffer_pool_size": "512M", "innodb_redo_log_capacity": "1G",
	}))
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := envelope.AddKey(keys); err != nil {
		t.Fatal(err)
	}
	user, pw := mysqltest.AppAccount()
	n := &nodeProc{spec: nodeSpec{Name: "n", Dir: dir, Keys: keys, Listen: freeAddr(t), MySQL: p.member.Address(), User: user, Password: pw, Schema: p.schema, Apply: true}}
	n.start(t)
	t.Cleanup(n.kill)
	eventually(t, 30*time.Second, "the node applies", func() bool { st, ok := n.status(); return ok && st.Applying != nil && st.Applying.Working })
	if err := p.member.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	j := newJudge()
	hc := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer hc.CloseIdleConnections()
	var refused, acked atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), began.Add(time.Duration(seconds)*time.Second))
	defer cancel()
	var slowest atomic.Int64
	for c := range clients {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(began.Add(time.Duration(i) * each))): // by the clock: who was late catches up
				}
				k := fmt.Sprintf("c%d-%d", c, i%4)
				wid := fmt.Sprintf("%s-%d", k, i)
				w := chainWrite(k, wid)
				w.ID = queue.NewID(time.Now()).String()
				body, _ := json.Marshal([]queue.Write{w})
				for {
					sent := time.Now()
					res, err := hc.Post(n.url("/w"), "application/json", bytes.NewReader(body))
					if err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
						if res.StatusCode == http.StatusAccepted {
							for took := int64(time.Since(sent)); ; {
								old := slowest.Load()
								if took <= old || slowest.CompareAndSwap(old, took) {
									break
								}
							}
							break
						}
					}
					refused.Add(1)
					time.Sleep(50 * time.Millisecond)
				}
				j.acked(k, wid)
				acked.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	rate := float64(acked.Load()) / took.Seconds()
	if err := p.member.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.member.OpenForWrites(t)
	open := time.Now()
	var first time.Time
	root := p.member.Root(t)
	eventually(t, 15*time.Minute, "everything is applied", func() bool {
		time.Sleep(20 * time.Millisecond)
		st, ok := n.status()
		if ok && first.IsZero() && st.Applying != nil && st.Applying.Applied > 0 {
			first = time.Now()
		}
		return ok && st.Applying != nil && st.Applying.Applied >= acked.Load()
	})
	drain := time.Since(first)
	v := j.check(t, p)
	var dead, held, attempts int
	if err := root.QueryRow("SELECT (SELECT COUNT(*) FROM perdure.queue_dead), (SELECT COUNT(*) FROM perdure.queue_held), (SELECT IFNULL(MAX(attempts),0) FROM perdure.queue_ledger)").Scan(&dead, &held, &attempts); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("outage: %s, %d writes accepted = %.0f/s, refused %d, slowest acknowledgement %s\n", took.Round(time.Second), acked.Load(), rate, refused.Load(), time.Duration(slowest.Load()).Round(time.Millisecond))
	fmt.Printf("  applying began %s after the database opened; drained in %s = %.0f/s\n", first.Sub(open).Round(time.Millisecond), drain.Round(time.Millisecond), float64(acked.Load())/drain.Seconds())
	fmt.Printf("  %v, dead letters %d, held %d, most attempts %d\n", v, dead, held, attempts)
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid)); err == nil {
		for line := range bytes.Lines(text) {
			if bytes.HasPrefix(line, []byte("VmHWM")) {
				fmt.Printf("  the node's memory at most: %s", line)
			}
		}
	}
	if v != (verdict{acked: v.acked}) || dead+held != 0 || attempts > 1 || v.acked == 0 {
		t.Fatal("not as promised")
	}
}

func (n *nodeProc) status() (queue.Status, bool) {
	var st queue.Status
	c := http.Client{Timeout: 2 * time.Second}
	res, err := c.Get(n.url("/status"))
	if err != nil {
		return st, false
	}
	defer res.Body.Close()
	return st, json.NewDecoder(res.Body).Decode(&st) == nil
}
