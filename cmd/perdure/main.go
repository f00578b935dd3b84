// Command perdure keeps MySQL available and its data safe.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/plan"
)

// version is set by the build.
var version = "dev"

// Exit codes, as docs/cli.md has them.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitDegraded = 3
	exitNoQuorum = 4
	exitRefused  = 5
	exitRunning  = 6
)

// exit ends the program with a code and nothing more to say.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	os.Exit(report(err))
}

// report says what went wrong, on stderr, and returns the exit code for it.
func report(err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	fmt.Fprintln(os.Stderr, "perdure: "+err.Error())
	code, hint := exitFailed, plan.Hint(err)
	if p, ok := errors.AsType[*client.Problem](err); ok {
		hint = p.Hint
		switch {
		case p.Refused:
			code = exitRefused
		case p.NoQuorum:
			code = exitNoQuorum
		case p.Status == 400 || p.Status == 401 || p.Status == 403 || p.Status == 404 || p.Status == 422:
			code = exitUsage
		}
	}
	if _, ok := errors.AsType[*plan.RefusedError](err); ok {
		code = exitRefused
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		hint = "start a node with `perdure serve`, or name one with --api"
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		code = exitUsage
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		code, hint = exitUsage, "`"+strings.TrimSpace("perdure help")+"` lists the commands, `perdure COMMAND --help` explains one"
	}
	if hint != "" {
		fmt.Fprintln(os.Stderr, "next: "+hint)
	}
	return code
}

// usageError is a command line that cannot be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
