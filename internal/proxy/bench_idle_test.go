package proxy

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// idle measures what clients that have signed in and do nothing cost a way: its
// process's memory, once it has had the time to rest, and its CPU.
func (b *bench) idle(clients int, ways []peer) {
	b.t.Helper()
	fmt.Printf("\nidle: %d clients that signed in and asked one thing; kB of the process's memory each, and CPU ms in 5 s\n", clients)
	for _, p := range ways {
		before := residentOf(b.t, p.pid)
		var all []*rawClient
		for range clients {
			rc := mustRaw(b.t, p.addr, plaintext)
			if _, err := rc.query("SELECT 1"); err != nil {
				b.t.Fatal(err)
			}
			rc.c.Rest()
			all = append(all, rc)
		}
		time.Sleep(3 * time.Second)
		held, began := residentOf(b.t, p.pid)-before, cpuOf(b.t, p.pid)
		time.Sleep(5 * time.Second)
		fmt.Printf("  %-8s %6.1f kB  %4d ms\n", p.name, float64(held)/1000/float64(clients), (cpuOf(b.t, p.pid) - began).Milliseconds())
		for _, rc := range all {
			rc.close()
		}
	}
}

// residentOf is the memory a process holds that is not shared with a file.
func residentOf(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "RssAnon:")
	kb, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
