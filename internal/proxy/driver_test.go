package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"
)

// The driver's own tests, run from the module cache, give the same results
// through the proxy as directly.
func TestTheGoDriversOwnTestsPassThroughTheProxy(t *testing.T) {
	if testing.Short() || os.Getenv("PERDURE_LONG") == "" {
		t.Skip("PERDURE_LONG is not set")
	}
	out, err := osexec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-sql-driver/mysql").Output()
	if err != nil {
		t.Skip("the driver's module is not here:", err)
	}
	dir := strings.TrimSpace(string(out))
	r := alone(t)
	rt := alone(t, transaction)
	direct := suite(t, dir, r.members[0].Address())
	for name, addr := range map[string]net.Addr{"connection": r.proxy.Addr(ReadWrite), "transaction": rt.proxy.Addr(ReadWrite), "split": r.proxy.Addr(Split)} {
		through := suite(t, dir, addr.String())
		passed := 0
		for test, want := range direct {
			got := through[test]
			if got != want {
				t.Errorf("%s: %s: directly %s, through the proxy %s", name, test, want, got)
			}
			if got == "pass" {
				passed++
			}
		}
		t.Logf("%s: %d tests, %d passed", name, len(direct), passed)
	}
}

func suite(t *testing.T, dir, addr string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// The skipped test wants an address outside of this machine.
	cmd := osexec.CommandContext(ctx, "go", "test", "-count=1", "-json", "-skip", "TestConnectorReturnsTimeout", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MYSQL_TEST_USER="+testUser, "MYSQL_TEST_PASS="+testPassword, "MYSQL_TEST_PROT=tcp",
		"MYSQL_TEST_ADDR="+addr, "MYSQL_TEST_DBNAME=test", "MYSQL_TEST_CONCURRENT=1", "GOFLAGS=-mod=mod")
	out, _ := cmd.CombinedOutput()
	results := map[string]string{}
	output := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		switch e.Action {
		case "pass", "fail", "skip":
			results[e.Test] = e.Action
		case "output":
			output[e.Test] += e.Output
		}
	}
	for test, result := range results {
		if result == "fail" {
			t.Logf("at %s: %s", addr, output[test])
		}
	}
	if len(results) == 0 {
		t.Fatalf("no test ran: %s", out)
	}
	return results
}
