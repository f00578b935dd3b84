package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
)

func (c *cli) proxy() *cobra.Command {
	cmd := &cobra.Command{
		Use: "proxy", Short: "The proxy: where sessions sit, pins, drains, writers", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			p, err := cl.Proxy(cmd.Context())
			if err != nil {
				return err
			}
			return c.showProxy(cmd, p)
		}),
	}
	wait := 15
	drain := &cobra.Command{
		Use: "drain MEMBER", Short: "Take a member out of use for clients: their sessions move when they are between transactions", Args: cobra.ExactArgs(1),
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			left, err := cl.Drain(cmd.Context(), args[0], wait)
			if err != nil {
				return err
			}
			if left > 0 {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s is drained; %d sessions are still in a transaction there\n", args[0], left)
				return exit(exitRunning)
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s is drained; put it back with: perdure proxy undrain %s\n", args[0], args[0])
			return nil
		}),
	}
	drain.Flags().IntVar(&wait, "wait", wait, "`SECONDS` to wait until its sessions have left")
	cmd.AddCommand(
		c.sessions("sessions", "List the sessions of this node's proxy", false),
		c.sessions("pins", "List the sessions that cannot move to another member, and why", true),
		drain,
		&cobra.Command{
			Use: "undrain MEMBER", Short: "Put a drained member back", Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				return cl.Undrain(cmd.Context(), args[0])
			}),
		},
		&cobra.Command{
			Use: "writers [POLICY]", Short: "Show or change how many members take writes: spread, pinned, pinned:NAME or a number", Args: cobra.MaximumNArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				if len(args) == 1 {
					p, err := cl.SetWriters(cmd.Context(), args[0])
					if err != nil {
						return err
					}
					return c.showProxy(cmd, p)
				}
				p, err := cl.Proxy(cmd.Context())
				if err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), p.Writers)
				}
				return err
			}),
		},
	)
	return cmd
}

// ask runs a command that talks to a node and begins no operation.
func (c *cli) ask(do func(*cobra.Command, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := c.checkOutput(); err != nil {
			return err
		}
		cl, err := c.client()
		if err != nil {
			return err
		}
		defer cl.Close()
		return do(cmd, cl, args)
	}
}

func (c *cli) showProxy(cmd *cobra.Command, p api.Proxy) error {
	if done, err := c.printed(cmd.OutOrStdout(), p); done {
		return err
	}
	var listeners []string
	for mode, address := range p.Listeners {
		listeners = append(listeners, mode+" "+address)
	}
	slices.Sort(listeners)
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), "node %s, writers %s, %s\n\n", p.Node, p.Writers, strings.Join(listeners, ", "))
	rows := [][]string{{"MEMBER", "STATE", "SESSIONS", "WRITES", "READS", "DRAINED"}}
	for _, m := range p.Members {
		rows = append(rows, []string{m.Name, m.State, strconv.FormatInt(m.Sessions, 10), yes(m.Writes), yes(m.Reads), yes(m.Drained)})
	}
	table(cmd.OutOrStdout(), rows)
	for reason, n := range p.Pins {
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "\n%d sessions cannot move: %s\n", n, reason)
	}
	return nil
}

func (c *cli) sessions(use, short string, pinned bool) *cobra.Command {
	limit := 100
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Sessions(cmd.Context(), pinned, limit)
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), all); done {
				return err
			}
			rows := [][]string{{"ID", "USER", "CLIENT", "LISTENER", "MEMBER", "STATE", "FOR", "QUERIES", "MOVES", "PINS"}}
			for _, s := range all {
				pins := strings.Join(s.Pins, ", ")
				if s.PinnedBy != "" {
					pins += ": " + s.PinnedBy
				}
				rows = append(rows, []string{
					strconv.Itoa(int(s.ID)), s.User, s.Client, s.Listener, s.Member, s.State, s.For.Round(time.Second).String(),
					strconv.FormatInt(s.Queries, 10), strconv.FormatInt(s.Moves, 10), pins,
				})
			}
			table(cmd.OutOrStdout(), rows)
			return nil
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "how many at most")
	return cmd
}
