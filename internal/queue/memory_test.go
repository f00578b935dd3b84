package queue_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/envelope"
	"github.com/perdure/perdure/internal/queue"
)

// TestMemory queues a million writes of 1 KiB while the database is away and
// prints what the node takes. PERDURE_BENCH=memory
func TestMemory(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "memory" {
		t.Skip("set PERDURE_BENCH=memory to measure")
	}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := envelope.AddKey(keys); err != nil {
		t.Fatal(err)
	}
	n := &nodeProc{spec: nodeSpec{Name: "n", Dir: dir, Keys: keys, Listen: freeAddr(t), MySQL: freeAddr(t), User: "x", Password: "x", Schema: "q", Apply: true}}
	n.start(t)
	t.Cleanup(n.kill)
	writes := make([]queue.Write, 1000)
	for i := range writes {
		writes[i] = chainWrite(fmt.Sprint("k", i), strings.Repeat("x", 900))
	}
	body, _ := json.Marshal(writes)
	eventually(t, 20*time.Second, "the node answers", func() bool {
		res, err := http.Get(n.url("/status"))
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
	total := envInt("PERDURE_BENCH_WRITES", 1_000_000)
	began := time.Now()
	for sent := 0; sent < total; sent += len(writes) {
		res, err := http.Post(n.url("/w"), "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 202 {
			t.Fatal(res.Status)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") {
			fmt.Printf("%d writes queued in %s: %s", total, time.Since(began).Round(time.Second), line)
		}
	}
}
