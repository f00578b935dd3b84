package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/plan"
)

// Environment of a node that runs in a process of its own, to be killed.
const (
	childFile  = "PERDURE_TEST_NODE_FILE"  // its perdure.yaml
	childMarks = "PERDURE_TEST_NODE_MARKS" // where it was killed before
)

// inHand is how far into a step's work the second kill of a step strikes.
const inHand = 150 * time.Millisecond

// serveUntilKilled runs a node that sends itself SIGKILL after every write of a
// journal at which no node was killed before: the marks file remembers. A step
// that was begun twice is also killed in the middle of its work.
func serveUntilKilled(file, marks string) int {
	f, err := config.Load(file)
	if err == nil {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		var n *node.Node
		if n, err = node.New(context.Background(), f, node.Options{Version: "test", Log: log, Written: func(p plan.Plan) {
			switch where := mark(p); {
			case fresh(marks, where):
				die()
			case strings.HasSuffix(where, " begun") && fresh(marks, where+" in hand"):
				time.AfterFunc(inHand, die)
			}
		}}); err == nil {
			err = n.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // nothing after this moment happens
}

// mark names a place in a plan's journal: the plan, the newest step, how far it
// is, and whether it wrote down what an undo needs. What a step says about its
// progress depends on time and is not part of it.
func mark(p plan.Plan) string {
	at := ""
	for i, s := range p.Steps {
		if s.State != plan.Waiting {
			at = fmt.Sprintf("%d %s", i, s.String())
			if s.Before != nil {
				at += " noted"
			}
			at += " " + string(s.State)
		}
	}
	return fmt.Sprintf("%s %s %s", p.Title, p.State, at)
}

// fresh tells whether a mark is new, and writes it down so that it stays.
func fresh(path, mark string) bool {
	b, _ := os.ReadFile(path)
	line := []byte(mark + "\n")
	if bytes.Contains(append([]byte("\n"), b...), append([]byte("\n"), line...)) {
		return false
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(line)
		_ = f.Close()
	}
	return err == nil
}
