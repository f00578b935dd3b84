package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/pause"
)

func (c *cli) node() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Nodes: let them in and out", Args: cobra.NoArgs, RunE: help}
	list := &cobra.Command{
		Use: "list", Short: "List the nodes, as the one that answers sees them", Args: cobra.NoArgs,
		Long: `Exit code: 0 as it should be, 3 degraded, 4 the nodes have no majority.`,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Nodes(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), all); done && err != nil {
				return err
			} else if !done {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), all.Summary)
				printNodes(cmd.OutOrStdout(), all)
			}
			return map[string]error{"ok": nil, "degraded": exit(exitDegraded), "down": exit(exitNoQuorum)}[all.Level]
		}),
	}
	cmd.AddCommand(list, c.nodeInvite(), c.nodeJoin(), c.nodeRemove(), c.nodeReplace(), c.nodeAlone())
	return cmd
}

func printNodes(w io.Writer, all api.Nodes) {
	rows := [][]string{{"NODE", "ADDRESS", "STATE", "SINCE", "VOTES", "ACTS"}}
	for _, n := range all.Nodes {
		since := ""
		if !n.Since.IsZero() {
			since = ago(time.Since(n.Since))
		}
		rows = append(rows, []string{n.Name, n.Address, n.State, since, yes(n.Votes), yes(n.Acts)})
	}
	_, _ = fmt.Fprintln(w)
	table(w, rows)
}

const inviteLong = `Prints a join token, once. It works once, for a limited time, and is as good as
the whole cluster until then: hand it over as you would a password. On the new
node: perdure node join < TOKENFILE`

func (c *cli) nodeInvite() *cobra.Command {
	var in api.Invite
	cmd := &cobra.Command{
		Use: "invite", Short: "Print a join token for a new node", Long: inviteLong, Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error { return c.invite(cmd, cl, in) }),
	}
	cmd.Flags().StringVar(&in.Lasts, "expires-in", "1h", "how long it works, at most 168h")
	return cmd
}

func (c *cli) nodeReplace() *cobra.Command {
	var in api.Invite
	cmd := &cobra.Command{
		Use: "replace NAME", Short: "Print a join token for a node that takes the place of one that is gone", Args: cobra.ExactArgs(1),
		Long: inviteLong + `

Nothing changes until the new node joins with it. Then the one that is gone is
taken out of the majority, the new one gets its copies, and the old name is
forgotten. The new node needs a name of its own.`,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			in.Instead = args[0]
			return c.invite(cmd, cl, in)
		}),
	}
	cmd.Flags().StringVar(&in.Lasts, "expires-in", "1h", "how long it works, at most 168h")
	return cmd
}

func (c *cli) invite(cmd *cobra.Command, cl *client.Client, in api.Invite) error {
	i, err := cl.InviteNode(cmd.Context(), in)
	if err != nil {
		return err
	}
	if done, err := c.printed(cmd.OutOrStdout(), i); done {
		return err
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "this is the only time the join token is shown; it works once, until %s:\n", i.Expires.Format("2006-01-02 15:04:05Z"))
	_, err = fmt.Fprintln(cmd.OutOrStdout(), i.Token)
	return err
}

func (c *cli) nodeJoin() *cobra.Command {
	tokenFile := ""
	cmd := &cobra.Command{
		Use: "join", Short: "Let this node into a cluster; run it on the new node, before `perdure serve`", Args: cobra.NoArgs,
		Long: `Reads a join token from standard input, from --join-token FILE or from the
environment (PERDURE_JOIN_TOKEN), never from the command line, where everybody
could see it. The node finds the cluster, checks its authority against the
fingerprint in the token, and gets certificates, addresses and keys; then
perdure serve brings it in. Run again after an interruption it goes on.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := config.Load(c.config)
			if err != nil {
				return err
			}
			token, err := joinToken(cmd.InOrStdin(), tokenFile)
			if err != nil {
				return err
			}
			already, err := node.Join(cmd.Context(), f, token)
			if err != nil {
				return err
			}
			what := "has joined"
			if already {
				what = "had joined already"
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s %s cluster %s; start it now: perdure serve\n", f.Node.Name, what, f.Cluster)
			return nil
		},
	}
	cmd.Flags().StringVar(&tokenFile, "join-token", "", "`FILE` with the join token (default: standard input; env PERDURE_JOIN_TOKEN holds the token itself)")
	return cmd
}

func joinToken(stdin io.Reader, file string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file) //nolint:gosec // the user named it
		if err != nil {
			return "", &config.Error{Text: fmt.Sprintf("read the join token: %v", err)}
		}
		return strings.TrimSpace(string(b)), nil
	}
	if t := os.Getenv("PERDURE_JOIN_TOKEN"); t != "" {
		return t, nil
	}
	line, err := bufio.NewReader(io.LimitReader(stdin, 64<<10)).ReadString('\n')
	if line = strings.TrimSpace(line); line == "" {
		return "", &usageError{fmt.Errorf("a join token is expected on standard input: %w", err)}
	}
	return line, nil
}

func (c *cli) nodeRemove() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take a node out for good, alive or dead", Args: cobra.ExactArgs(1),
		Long: `The node that acts moves what it held, takes it out of the majority, and forgets
it; a node that still runs ends. Refused if those who are left would have no
majority. Run it again after an interruption: it goes on.`,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			all, err := cl.RemoveNode(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			limit := time.Now().Add(wait)
			for on(all, args[0]) {
				if time.Now().After(limit) {
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s is being taken out; it goes on without you: perdure node list\n", args[0])
					return exit(exitRunning)
				}
				if err := pause.For(cmd.Context(), 300*time.Millisecond); err != nil {
					return exit(exitRunning)
				}
				if now, err := cl.Nodes(cmd.Context()); err == nil {
					all = now
				}
			}
			if done, err := c.printed(cmd.OutOrStdout(), all); done {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s is out. %s\n", args[0], all.Summary)
			return nil
		}),
	}
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait until it is out")
	return cmd
}

func on(all api.Nodes, name string) bool {
	return slices.ContainsFunc(all.Nodes, func(n api.Node) bool { return n.Name == name })
}
