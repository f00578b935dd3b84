package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/topology"
)

// begin is a command's call that begins an operation.
type begin func(cmd *cobra.Command, cl *client.Client, args []string) (api.Operation, error)

// change runs a command that changes the cluster: it begins an operation and
// follows it to its end.
func (c *cli) change(do begin) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := c.checkOutput(); err != nil {
			return err
		}
		cl, err := c.client()
		if err != nil {
			return err
		}
		defer cl.Close()
		o, err := do(cmd, cl, args)
		if err != nil {
			return err
		}
		return c.follow(cmd, cl, o)
	}
}

// follow waits for an operation and tells its steps on stderr.
func (c *cli) follow(cmd *cobra.Command, cl *client.Client, o api.Operation) error {
	if o.State == "planned" {
		return c.planned(cmd.OutOrStdout(), o)
	}
	t := teller{w: cmd.ErrOrStderr(), states: map[int]string{}}
	if o.ID != "" && !o.Over() {
		_, _ = fmt.Fprintf(t.w, "%s (%s)\n", o.Title, o.ID)
	}
	last, err := cl.Wait(cmd.Context(), o, t.tell)
	if cmd.Context().Err() != nil {
		_, _ = fmt.Fprintf(t.w, "it goes on without you; watch it: perdure op watch %s\n", o.ID)
		return exit(exitRunning)
	}
	if err != nil {
		return err
	}
	if done, err := c.printed(cmd.OutOrStdout(), last); done && err != nil {
		return err
	}
	c.undone = last.State == "undone"
	return outcome(t.w, last)
}

// outcome says how an operation ended and turns it into an exit code.
func outcome(w io.Writer, o api.Operation) error {
	switch o.State {
	case "done":
		_, _ = fmt.Fprintln(w, "done: "+o.Title)
		return nil
	case "undone":
		_, _ = fmt.Fprintln(w, "perdure: "+o.Error+"\neverything was taken back")
	case "failed":
		_, _ = fmt.Fprintln(w, "perdure: "+o.Error+"\nnot everything could be taken back: see `perdure status`")
	default:
		return exit(exitRunning)
	}
	if o.Hint != "" {
		_, _ = fmt.Fprintln(w, "next: "+o.Hint)
	}
	if o.Refused {
		return exit(exitRefused)
	}
	return exit(exitFailed)
}

// planned prints what would be done.
func (c *cli) planned(w io.Writer, o api.Operation) error {
	if done, err := c.printed(w, o); done {
		return err
	}
	_, _ = fmt.Fprintln(w, o.Title)
	for i, s := range o.Steps {
		_, _ = fmt.Fprintf(w, "%3d  %s %s\n", i+1, s.Name, s.Member)
	}
	_, err := fmt.Fprintln(os.Stderr, "nothing was changed (--dry-run)")
	return err
}

// teller prints each step once when it begins to say something and once when
// it has ended.
type teller struct {
	w      io.Writer
	states map[int]string
}

func (t *teller) tell(o api.Operation) {
	for i, s := range o.Steps {
		if t.states[i] == s.State || s.State == "waiting" || s.State == "begun" {
			continue
		}
		t.states[i] = s.State
		line := fmt.Sprintf("%3d/%d  %s %s: %s", i+1, len(o.Steps), s.Name, s.Member, s.State)
		if s.Member == "" {
			line = fmt.Sprintf("%3d/%d  %s: %s", i+1, len(o.Steps), s.Name, s.State)
		}
		if !s.End.IsZero() {
			line += fmt.Sprintf(" (%.1f s)", s.End.Sub(s.Begin).Seconds())
		}
		if s.Note != "" {
			line += ", " + s.Note
		}
		_, _ = fmt.Fprintln(t.w, line)
	}
}

// askFlags adds the flags of every change to a command.
func askFlags(cmd *cobra.Command, a *api.Ask, letsIn bool) {
	f := cmd.Flags()
	f.BoolVar(&a.DryRun, "dry-run", false, "say what would be done, and do nothing")
	if !letsIn {
		return
	}
	f.StringSliceVar(&a.CloneOver, "clone-over", nil, "`MEMBER` whose own transactions may be lost: its data are replaced by a copy")
	f.StringVar(&a.Method, "method", "", "how a new member gets its data: auto, clone or incremental")
}

func (c *cli) apply() *cobra.Command {
	var a api.Apply
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the cluster what perdure.yaml says",
		Long: `Reads perdure.yaml, decides what has to happen, and does it step by step, with a
journal. If a step fails, those before it are taken back. Run it again after
any interruption: it goes on where it was.`,
		Args: cobra.NoArgs,
		RunE: c.change(func(cmd *cobra.Command, cl *client.Client, _ []string) (api.Operation, error) {
			f, err := config.Load(c.config)
			if err != nil {
				return api.Operation{}, err
			}
			a.Spec = f.Spec()
			return cl.Apply(cmd.Context(), a)
		}),
	}
	askFlags(cmd, &a.Ask, true)
	cmd.Flags().StringSliceVar(&a.Remove, "remove", nil, "`MEMBER` that is not in the file any more and shall leave the cluster")
	cmd.Flags().StringSliceVar(&a.AcceptLoss, "accept-loss", nil, "`MEMBER` that cannot be reached, whose own transactions may be lost (when a stopped cluster is started again)")
	return cmd
}

func (c *cli) member() *cobra.Command {
	cmd := &cobra.Command{Use: "member", Short: "Let members in and out", Args: cobra.NoArgs, RunE: help}
	var add api.AddMember
	addCmd := &cobra.Command{
		Use:   "add NAME HOST:PORT",
		Short: "Let one more server into the cluster; put it into perdure.yaml too",
		Args:  cobra.ExactArgs(2),
		RunE: c.change(func(cmd *cobra.Command, cl *client.Client, args []string) (api.Operation, error) {
			add.Member.Name, add.Member.Address = args[0], args[1]
			return cl.AddMember(cmd.Context(), add)
		}),
	}
	askFlags(addCmd, &add.Ask, true)
	addCmd.Flags().StringVar(&add.Member.GroupAddress, "group-address", "", "`HOST:PORT` for the group's own traffic (default: the port times ten plus one)")
	addCmd.Flags().StringVar(&add.Member.Zone, "zone", "", "failure domain")
	cmd.AddCommand(addCmd)
	for _, v := range []struct{ verb, short string }{
		{"remove", "Take a member out of the cluster for good"},
		{"rejoin", "Bring a member back that fell out"},
		{"stop", "Take a member out of the group until it is started again"},
		{"start", "Bring a stopped member back"},
		{"rebuild", "Bring a member back on a copy of the others' data; transactions only it has are saved to a file"},
	} {
		var a api.Ask
		sub := &cobra.Command{
			Use: v.verb + " NAME", Short: v.short, Args: cobra.ExactArgs(1),
			RunE: c.change(func(cmd *cobra.Command, cl *client.Client, args []string) (api.Operation, error) {
				if slices.Contains(a.CloneOver, "") {
					a.CloneOver = []string{args[0]}
				}
				return cl.Member(cmd.Context(), v.verb, args[0], a)
			}),
		}
		askFlags(sub, &a, v.verb == "rejoin" || v.verb == "start")
		cmd.AddCommand(sub)
	}
	return cmd
}

func (c *cli) group() *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "Stop, start and set the whole group", Args: cobra.NoArgs, RunE: help}
	for _, v := range []struct{ verb, short, long string }{
		{"stop", "Stop the whole cluster so that any member can start it again", ""},
		{"start", "Start a cluster of which no member is in the group", `After a stop, or after every member went down. The member that holds most
transactions begins, counting those it received and did not apply yet. Refused
unless every known member answers, or the missing ones are named with
--accept-loss.`},
		{"restart", "Restart every member, one after the other, without an error for a client of the proxies", ""},
		{"force", "Go on without the members that are named, after the majority was lost", `The members that are left become the whole group. Every other member must be
named with --accept-loss, and must be stopped: if one of them runs and is only
cut off from here, there would be two groups.`},
	} {
		var a api.Ask
		sub := &cobra.Command{
			Use: v.verb, Short: v.short, Long: v.long, Args: cobra.NoArgs,
			RunE: c.change(func(cmd *cobra.Command, cl *client.Client, _ []string) (api.Operation, error) {
				return cl.Group(cmd.Context(), v.verb, a)
			}),
		}
		askFlags(sub, &a, false)
		if v.verb == "start" || v.verb == "force" {
			sub.Flags().StringSliceVar(&a.AcceptLoss, "accept-loss", nil, "`MEMBER` that cannot be reached, whose own transactions may be lost")
		}
		if v.verb == "start" {
			sub.Flags().StringSliceVar(&a.CloneOver, "clone-over", nil, "`MEMBER` whose own transactions may be lost: its data are replaced by a copy")
		}
		cmd.AddCommand(sub)
	}
	var u api.Upgrade
	upgrade := &cobra.Command{
		Use: "upgrade", Short: "Upgrade every member, one after the other", Args: cobra.NoArgs,
		Long: `Each member is drained, leaves the group, is handed over to the command of
service.restart in perdure.yaml, which replaces its programs and restarts it,
joins again and gets its clients back. The only primary comes last. It stops at
the first doubt; run again, it goes on with the members that are left (--to).`,
		RunE: c.change(func(cmd *cobra.Command, cl *client.Client, _ []string) (api.Operation, error) {
			return cl.Upgrade(cmd.Context(), u)
		}),
	}
	askFlags(upgrade, &u.Ask, false)
	upgrade.Flags().StringVar(&u.To, "to", "", "`VERSION` every member shall run")
	cmd.AddCommand(c.groupSet(), upgrade)
	return cmd
}

func (c *cli) groupSet() *cobra.Command {
	var s api.SetGroup
	var mode, consistency, flow string
	var threshold, limit, expel int
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Change the mode or settings of the running group; put them into perdure.yaml too",
		Args:  cobra.NoArgs,
		RunE: c.change(func(cmd *cobra.Command, cl *client.Client, _ []string) (api.Operation, error) {
			changed := cmd.Flags().Changed
			if changed("mode") {
				s.Mode = new(topology.Mode(mode))
			}
			for name, p := range map[string]struct {
				to   **string
				from *string
			}{"consistency": {&s.Consistency, &consistency}, "flow-control": {&s.FlowControl, &flow}} {
				if changed(name) {
					*p.to = p.from
				}
			}
			for name, p := range map[string]struct {
				to   **int
				from *int
			}{"flow-threshold": {&s.FlowThreshold, &threshold}, "transaction-limit": {&s.TransactionLimit, &limit}, "expel-timeout": {&s.ExpelTimeout, &expel}} {
				if changed(name) {
					*p.to = p.from
				}
			}
			return cl.SetGroup(cmd.Context(), s)
		}),
	}
	askFlags(cmd, &s.Ask, false)
	f := cmd.Flags()
	f.StringVar(&mode, "mode", "", "multi-primary or single-primary, switched online")
	f.StringVar(&consistency, "consistency", "", "EVENTUAL, BEFORE_ON_PRIMARY_FAILOVER, BEFORE, AFTER or BEFORE_AND_AFTER")
	f.StringVar(&flow, "flow-control", "", "QUOTA or DISABLED")
	f.IntVar(&threshold, "flow-threshold", 0, "waiting transactions before flow control acts")
	f.IntVar(&limit, "transaction-limit", 0, "largest transaction in bytes")
	f.IntVar(&expel, "expel-timeout", 0, "seconds before a silent member is expelled, after the 5 it takes to notice")
	return cmd
}

func (c *cli) op() *cobra.Command {
	cmd := &cobra.Command{Use: "op", Short: "Operations: what was asked for and how far it is", Args: cobra.NoArgs, RunE: help}
	limit := 20
	list := &cobra.Command{
		Use: "list", Short: "List the newest operations", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkOutput(); err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			defer cl.Close()
			ops, err := cl.Operations(cmd.Context(), limit)
			if err != nil {
				return err
			}
			done, err := c.printed(cmd.OutOrStdout(), ops)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "STATE", "WHEN", "WHAT"}}
			for _, o := range ops {
				what := o.Title
				if o.Error != "" {
					what += ": " + o.Error
				}
				rows = append(rows, []string{o.ID, o.State, o.Created.Format("2006-01-02 15:04:05Z"), what})
			}
			if !done {
				table(cmd.OutOrStdout(), rows)
			}
			if slices.ContainsFunc(ops, func(o api.Operation) bool { return !o.Over() }) {
				return exit(exitRunning)
			}
			return nil
		},
	}
	list.Flags().IntVar(&limit, "limit", limit, "how many at most")
	cmd.AddCommand(list, c.opWatch(), c.opAbort())
	return cmd
}

func (c *cli) opWatch() *cobra.Command {
	var most time.Duration
	cmd := &cobra.Command{
		Use: "watch ID", Short: "Follow an operation to its end", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if most > 0 {
				ctx, cancel := context.WithTimeout(cmd.Context(), most)
				defer cancel()
				cmd.SetContext(ctx)
			}
			return c.change(func(cmd *cobra.Command, cl *client.Client, args []string) (api.Operation, error) {
				return cl.Operation(cmd.Context(), args[0])
			})(cmd, args)
		},
	}
	cmd.Flags().DurationVar(&most, "timeout", 0, "stop watching after that long, with exit code 6; the operation goes on")
	return cmd
}

func (c *cli) opAbort() *cobra.Command {
	return &cobra.Command{
		Use: "abort ID", Short: "Take a running operation back, where there is a way back", Args: cobra.ExactArgs(1),
		Long: `The step that runs is broken off, unless it has to be done whole (a copy, a
bootstrap), and what was done before it is taken back, the newest first. Refused
once a step has begun after which there is no way back.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.change(func(cmd *cobra.Command, cl *client.Client, args []string) (api.Operation, error) {
				return cl.Abort(cmd.Context(), args[0])
			})(cmd, args)
			if c.undone { // that is what was asked for
				return nil
			}
			return err
		},
	}
}
