package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/perdure/perdure/internal/mysqltest"
)

// The scenarios in testdata play the command line as a person would, against
// real servers. They are meant to be read.
func TestScenarios(t *testing.T) {
	t.Parallel()
	mysqltest.Binary(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", os.Getenv("HOME")) // the server is found there
			e.Setenv("TMPDIR", os.Getenv("TMPDIR"))
			e.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": code, "sees": sees, "appears": appears, "endpoints": endpoints, "signal": toMember, "nobody": nobody, "sql": throughSQL, "within": within,
		},
	})
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"perdure": main})
}

// runCode runs a command and returns its exit code; its output is there for the
// script's stdout and stderr.
func runCode(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	ts.Check(err)
	return 0
}

// code N COMMAND…: the command exits with that code.
func code(ts *testscript.TestScript, _ bool, args []string) {
	if got := runCode(ts, args[1:]); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// within LIMIT COMMAND…: the command takes no longer, whatever its exit code.
func within(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	began := time.Now()
	runCode(ts, args[1:])
	if took := time.Since(began); took > limit {
		ts.Fatalf("it took %s", took)
	}
}

// sees LIMIT CODE PATTERN COMMAND…: within the limit the command exits with
// that code and prints that on stdout.
func sees(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	want, err := regexp.Compile(args[2])
	ts.Check(err)
	for until := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		got := runCode(ts, args[3:])
		if strconv.Itoa(got) == args[1] && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("after %s: exit code %d", limit, got)
		}
	}
}

// appears FILE LIMIT: the file is there within the limit.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := time.ParseDuration(args[1])
	ts.Check(err)
	for until := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("%s is not there after %s", args[0], limit)
		}
	}
}

// place is what endpoints.json promises to others.
type place struct {
	Cluster, API, Token, User, Password, Database string
	Proxy                                         struct{ RW, RO string }
	Members                                       []struct {
		Name, Address, Socket string
		PID                   int
	}
}

func readPlace(ts *testscript.TestScript, dir string) place {
	var p place
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(filepath.Join(dir, "endpoints.json"))), &p))
	return p
}

// endpoints DIR N: DIR/endpoints.json keeps its contract, for N members.
func endpoints(ts *testscript.TestScript, _ bool, args []string) {
	p := readPlace(ts, args[0])
	st, err := os.Stat(ts.MkAbs(filepath.Join(args[0], "endpoints.json")))
	ts.Check(err)
	if st.Mode().Perm()&0o077 != 0 {
		ts.Fatalf("others can read endpoints.json: it has passwords")
	}
	for name, value := range map[string]string{"cluster": p.Cluster, "token": p.Token, "user": p.User, "password": p.Password, "database": p.Database} {
		if value == "" {
			ts.Fatalf("%s is missing", name)
		}
	}
	if u, err := url.Parse(p.API); err != nil || u.Scheme != "https" || u.Host == "" {
		ts.Fatalf("api is no URL: %q", p.API)
	}
	addresses := []string{p.Proxy.RW, p.Proxy.RO}
	if want, _ := strconv.Atoi(args[1]); len(p.Members) != want {
		ts.Fatalf("%d members, want %d", len(p.Members), want)
	}
	for i, m := range p.Members {
		addresses = append(addresses, m.Address)
		if m.Name != fmt.Sprintf("m%d", i+1) || m.PID <= 0 || syscall.Kill(m.PID, 0) != nil {
			ts.Fatalf("member %d is %+v", i+1, m)
		}
		if c, err := net.DialTimeout("unix", m.Socket, time.Second); err != nil {
			ts.Fatalf("%s: nobody listens at its socket: %v", m.Name, err)
		} else {
			_ = c.Close()
		}
	}
	for _, a := range addresses {
		c, err := net.DialTimeout("tcp", a, 2*time.Second)
		if err != nil {
			ts.Fatalf("nobody listens at %q: %v", a, err)
		}
		_ = c.Close()
	}
}

// signal DIR MEMBER NAME: a signal for a member's server.
func toMember(ts *testscript.TestScript, _ bool, args []string) {
	p := readPlace(ts, args[0])
	for _, m := range p.Members {
		if m.Name == args[1] {
			ts.Check(syscall.Kill(m.PID, map[string]syscall.Signal{"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[args[2]]))
			return
		}
	}
	ts.Fatalf("there is no member %s", args[1])
}

// sql DIR MEMBER STATEMENT [WANT]: as the application, through a member or, with
// "rw" or "ro", through the proxy.
func throughSQL(ts *testscript.TestScript, neg bool, args []string) {
	p := readPlace(ts, args[0])
	address := map[string]string{"rw": p.Proxy.RW, "ro": p.Proxy.RO}[args[1]]
	for _, m := range p.Members {
		if m.Name == args[1] {
			address = m.Address
		}
	}
	got, err := query(address, p.User, p.Password, p.Database, args[2])
	switch {
	case neg && err == nil:
		ts.Fatalf("it succeeded: %s", got)
	case neg:
		ts.Logf("%v", err)
	case err != nil:
		ts.Fatalf("%v", err)
	case len(args) > 3 && got != args[3]:
		ts.Fatalf("it is %s, not %s", got, args[3])
	}
}

// nobody DIR: no process has to do with that directory any more.
func nobody(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	var left []string
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if left = using(dir); len(left) == 0 {
			return
		}
	}
	ts.Fatalf("still running: %s", strings.Join(left, "; "))
}

func using(dir string) []string {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, path := range lines {
		b, err := os.ReadFile(path)
		words := strings.Split(string(b), "\x00")
		if err == nil && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, dir+"/") }) {
			out = append(out, strings.Join(words, " "))
		}
	}
	return out
}
