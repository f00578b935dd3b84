package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
)

func (c *cli) advise() *cobra.Command {
	length := 3 * time.Second
	cmd := &cobra.Command{
		Use: "advise", Short: "Transaction sizes, flow control, conflicts by table: what hurts, and what to do", Args: cobra.NoArgs,
		Long: `Watches the members for a few seconds, reads what MySQL counts anyway, and
changes nothing. Conflicts by table are a sample: MySQL counts conflicts, and
only the sessions that are connected remember of which table.

Exit code 3 if there is a warning.`,
		Example: "  perdure advise --for 20s",
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			if length < 0 || length > time.Minute {
				return &usageError{fmt.Errorf("--for takes up to 1m, not %s", length)}
			}
			a, err := cl.Advice(cmd.Context(), int(length.Round(time.Second).Seconds()))
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), a); done {
				return err
			}
			showAdvice(cmd.OutOrStdout(), a)
			for _, f := range a.Findings {
				if f.Severity == "warning" {
					return exit(exitDegraded)
				}
			}
			return nil
		}),
	}
	cmd.Flags().DurationVar(&length, "for", length, "how long to watch the members")
	return cmd
}

func showAdvice(out io.Writer, a api.Advice) {
	if len(a.Findings) == 0 {
		_, _ = fmt.Fprintln(out, "Nothing to advise.")
	}
	for _, f := range a.Findings {
		_, _ = fmt.Fprintf(out, "%s: %s\n", f.Severity, f.Text)
		if f.SQL != "" {
			_, _ = fmt.Fprintf(out, "  on %s: %s\n", f.Member, f.SQL)
		}
	}
	rows := [][]string{{"MEMBER", "CERTIFIED", "CONFLICTS", "QUEUE", "AVERAGE", "BEYOND CACHE", "HELD BACK"}}
	for _, m := range a.Members {
		held := "not counted"
		if m.Throttled != nil {
			held = fmt.Sprintf("%d times, %.1f s", m.Throttled.Times, m.Throttled.Seconds)
		}
		rows = append(rows, []string{m.Name, strconv.FormatInt(m.Checked, 10), fmt.Sprintf("%d (+%d)", m.Conflicts, m.NewConflicts), strconv.FormatInt(m.Queue, 10), fmt.Sprintf("%d B", m.Average), strconv.FormatInt(m.Spilled, 10), held})
	}
	_, _ = fmt.Fprintln(out)
	table(out, rows)
	if len(a.Tables) > 0 {
		rows = [][]string{{"TABLE", "LOST", "SENT TO", "STATEMENT"}}
		for _, t := range a.Tables {
			rows = append(rows, []string{t.Table, strconv.Itoa(t.Lost), strings.Join(t.Members, ", "), t.Statement})
		}
		_, _ = fmt.Fprintln(out)
		table(out, rows)
	}
	if len(a.Largest) == 0 {
		return
	}
	part := "all of"
	if !a.Read.Whole {
		part = "the beginning of"
	}
	_, _ = fmt.Fprintf(out, "\nThe largest of %d transactions in %s %s on %s:\n", a.Read.Transactions, part, a.Read.File, a.Read.Member)
	rows = [][]string{{"BYTES", "EVENTS", "SERVER_ID", "POSITION", "TABLES"}}
	for _, t := range a.Largest {
		rows = append(rows, []string{strconv.FormatInt(t.Bytes, 10), strconv.Itoa(t.Events), strconv.FormatUint(uint64(t.Server), 10), strconv.FormatInt(t.Position, 10), strings.Join(t.Tables, ", ")})
	}
	table(out, rows)
}
