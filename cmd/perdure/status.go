package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

func (c *cli) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say what the cluster can still lose, and show its members",
		Long: `The first line says what the cluster can still lose and what to do next.
Exit code: 0 as it should be, 3 degraded, 4 it cannot commit, or the nodes have
no majority: then queries run as ever, and nothing heals or can be changed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkOutput(); err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			defer cl.Close()
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), 5*time.Second, errors.New("the node did not answer within 5 s"))
			defer cancel()
			s, err := cl.Status(ctx)
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), s); done && err != nil {
				return err
			} else if !done {
				printStatus(cmd.OutOrStdout(), s)
			}
			level := s.Level
			if s.Control != "" {
				level = "down" // queries run; but nothing acts, and that is no quorum too
			} else if level == "ok" && s.Nodes != nil {
				level = s.Nodes.Level
			}
			return map[string]error{"ok": nil, "degraded": exit(exitDegraded), "down": exit(exitNoQuorum)}[level]
		},
	}
}

func printStatus(w io.Writer, s api.Status) {
	_, _ = fmt.Fprintln(w, s.Summary)
	if s.Control != "" {
		_, _ = fmt.Fprintln(w, "The control store does not answer: nothing can be changed, traffic is not touched. "+s.Control)
	}
	if s.Nodes != nil {
		_, _ = fmt.Fprintln(w, s.Nodes.Summary)
	}
	if s.Asking != "" {
		_, _ = fmt.Fprintln(w, "Healing needs a human: "+s.Asking)
	}
	if s.Paused != nil {
		_, _ = fmt.Fprintf(w, "Healing is paused since %s (%s). Let it go on: perdure resume\n", s.Paused.Since.Format("2006-01-02 15:04:05Z"), s.Paused.Why)
	}
	if len(s.View.Members) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "\ncluster %s, %s, quorum %s, view %d\n\n", s.View.Cluster, orUnknown(string(s.View.Mode)), s.View.Quorum, s.View.Number)
	rows := [][]string{{"MEMBER", "ADDRESS", "STATE", "ROLE", "WRITES", "QUEUE", "LAG", "VERSION", "SINCE", "WHY"}}
	for _, m := range s.View.Members {
		row := []string{m.Name, m.Address, string(m.State), string(m.Role), yes(m.Writable), "", "", "", ago(s.View.At.Sub(m.Since)), m.Why}
		if r := m.Report; r != nil {
			row[7] = r.Version
			if m.State == topology.Online || m.State == topology.Recovering {
				row[5], row[6] = strconv.FormatInt(r.Queue, 10), fmt.Sprintf("%.1fs", r.Lag.Seconds())
			}
		}
		rows = append(rows, row)
	}
	table(w, rows)
	for _, p := range s.View.Problems {
		_, _ = fmt.Fprintf(w, "\nproblem (%s): %s\n", p.Kind, p.Text)
	}
	if s.Nodes != nil {
		printNodes(w, *s.Nodes)
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orUnknown(s string) string {
	if s == "" {
		return "mode unknown"
	}
	return s
}

func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func (c *cli) pause() *cobra.Command {
	why := ""
	cmd := &cobra.Command{
		Use: "pause", Short: "Maintenance mode: let healing do nothing until resume", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error { return cl.Pause(cmd.Context(), why) }),
	}
	cmd.Flags().StringVar(&why, "why", "", "for whoever reads the status")
	return cmd
}

func (c *cli) resume() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Let healing go on", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error { return cl.Resume(cmd.Context()) }),
	}
}

func (c *cli) check() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check servers and schema: what Group Replication will refuse, and the SQL that fixes it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(c.checkServers(cmd), c.checkSchema(cmd, "", ""))
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "servers", Short: "Settings, grants and versions of the servers in perdure.yaml", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.checkServers(cmd) },
	})
	var member, mode string
	schema := &cobra.Command{
		Use: "schema", Short: "Every table that Group Replication will refuse, and why", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.checkSchema(cmd, member, mode) },
	}
	schema.Flags().StringVar(&member, "member", "", "member whose tables are looked at (default: any that answers)")
	schema.Flags().StringVar(&mode, "mode", "", "mode to check for: multi-primary or single-primary (default: the file's)")
	grants := &cobra.Command{
		Use: "grants", Short: "Print the SQL that makes the node's account, with the least rights it needs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range check.Grants(mysql.Dialect{Version: mysql.Version{Major: 9, Minor: 7}}, mysql.Account{User: "perdure", Host: "%"}) {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), s+";")
			}
			return nil
		},
	}
	cmd.AddCommand(schema, grants)
	return cmd
}

// checked runs a check against the node and the servers of the file.
func (c *cli) checked(look func(*client.Client, *config.File) error) error {
	if err := c.checkOutput(); err != nil {
		return err
	}
	f, err := config.Load(c.config)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return look(cl, f)
}

func (c *cli) checkServers(cmd *cobra.Command) error {
	return c.checked(func(cl *client.Client, f *config.File) error {
		got, err := cl.CheckServers(cmd.Context(), f.Members)
		if err != nil {
			return err
		}
		return c.printFindings(cmd, got, fmt.Sprintf("%d servers looked at", len(f.Members)))
	})
}

func (c *cli) checkSchema(cmd *cobra.Command, member, mode string) error {
	return c.checked(func(cl *client.Client, f *config.File) error {
		var m api.Member
		if i := slices.IndexFunc(f.Members, func(m api.Member) bool { return m.Name == member }); i >= 0 {
			m = f.Members[i]
		} else if member != "" {
			return &usageError{fmt.Errorf("the file has no member %s", member)}
		}
		if mode == "" {
			mode = string(f.Group.Mode)
		}
		got := api.Checked{Findings: []api.Finding{}}
		var err error
		got.Tables, err = cl.CheckSchema(cmd.Context(), m, mode, func(f api.Finding) error {
			if c.output == "table" { // streams: there may be many
				printFinding(cmd.OutOrStdout(), f)
			}
			got.Findings = append(got.Findings, f)
			return nil
		})
		if err != nil {
			return err
		}
		said := got
		if c.output == "table" {
			said.Findings = nil
		}
		if err := c.printFindings(cmd, said, fmt.Sprintf("%d tables looked at, %d findings", got.Tables, len(got.Findings))); err != nil {
			return err
		}
		return verdict(got)
	})
}

func (c *cli) printFindings(cmd *cobra.Command, got api.Checked, end string) error {
	if done, err := c.printed(cmd.OutOrStdout(), got); done {
		if err != nil {
			return err
		}
		return verdict(got)
	}
	for _, f := range got.Findings {
		printFinding(cmd.OutOrStdout(), f)
	}
	_, _ = fmt.Fprintln(cmd.ErrOrStderr(), end)
	return verdict(got)
}

func printFinding(w io.Writer, f api.Finding) {
	_, _ = fmt.Fprintf(w, "%s  %s  %s: %s\n", paint(1, 0, f.Severity), f.Member, f.Subject, f.Text)
	if f.SQL != "" {
		_, _ = fmt.Fprintf(w, "         fix: %s;\n", f.SQL)
	}
}

// verdict is exit code 3 if something would be refused.
func verdict(got api.Checked) error {
	if slices.ContainsFunc(got.Findings, func(f api.Finding) bool { return f.Severity == string(check.Refuses) }) {
		return exit(exitDegraded)
	}
	return nil
}
