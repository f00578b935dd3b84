package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
)

func (c *cli) consistency() *cobra.Command {
	cmd := &cobra.Command{
		Use: "consistency", Short: "Do all members hold the same data?", Args: cobra.NoArgs, RunE: help,
		Long: `Compares GTID sets, table definitions and every row of all members, in small
slices, while clients write. The node that leads does it; it needs the section
consistency of perdure.yaml.`,
	}
	var scope api.ConsistencyScope
	detach := false
	run := &cobra.Command{
		Use: "run", Short: "Compare now, and show what differs", Args: cobra.NoArgs,
		Long: `Follows the audit to its end; interrupted, it goes on without you. Exit code 0 if
all was compared and is equal, 1 if something could not be compared, 3 if members
differ, 6 if it still runs.`,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			a, err := cl.RunConsistency(cmd.Context(), scope)
			if err != nil {
				return err
			}
			if detach {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "audit %s began; look at it: perdure consistency show %[1]s\n", a.ID)
				_, err := c.printed(cmd.OutOrStdout(), a)
				return err
			}
			return c.followAudit(cmd, cl, a.ID)
		}),
	}
	f := run.Flags()
	f.StringSliceVar(&scope.Schemas, "schema", nil, "compare only this `SCHEMA` (default: what perdure.yaml says)")
	f.StringSliceVar(&scope.Tables, "table", nil, "compare only this `SCHEMA.TABLE`")
	f.StringSliceVar(&scope.Exclude, "exclude", nil, "leave out this `SCHEMA` or SCHEMA.TABLE")
	f.BoolVar(&detach, "detach", false, "do not wait for its end")
	watch := false
	show := &cobra.Command{
		Use: "show [ID]", Short: "Show an audit and what it found (default: the newest)", Args: cobra.MaximumNArgs(1),
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			id := "newest"
			if len(args) > 0 {
				id = args[0]
			}
			if watch {
				return c.followAudit(cmd, cl, id)
			}
			a, err := cl.Consistency(cmd.Context(), id)
			if err != nil {
				return err
			}
			return c.showAudit(cmd, a)
		}),
	}
	show.Flags().BoolVar(&watch, "watch", false, "follow it to its end")
	cmd.AddCommand(run, show, &cobra.Command{
		Use: "list", Short: "List the audits that are kept", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Consistencies(cmd.Context())
			if err != nil {
				return err
			}
			return c.listAudits(cmd, all)
		}),
	}, &cobra.Command{
		Use: "stop ID", Short: "End an audit; what it found until then is kept", Args: cobra.ExactArgs(1),
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			_, err := cl.StopConsistency(cmd.Context(), args[0])
			return err
		}),
	}, c.consistencyGrants())
	return cmd
}

func (c *cli) consistencyGrants() *cobra.Command {
	user := "auditor"
	cmd := &cobra.Command{
		Use: "grants", Short: "Print the SQL that makes the account for audits", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name := strings.ReplaceAll(strings.ReplaceAll(user, `\`, `\\`), "'", `\'`)
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "CREATE USER '%s'@'%%' IDENTIFIED BY RANDOM PASSWORD REQUIRE SSL;\nGRANT SELECT ON *.* TO '%[1]s'@'%%';\n", name)
			return err
		},
	}
	cmd.Flags().StringVar(&user, "user", user, "`NAME` of the account")
	return cmd
}

// followAudit waits for the end of an audit and tells on stderr how far it is.
func (c *cli) followAudit(cmd *cobra.Command, cl *client.Client, id string) error {
	told := auditTeller{w: cmd.ErrOrStderr(), live: colour}
	last, err := cl.WaitConsistency(cmd.Context(), id, told.tell)
	told.end()
	if cmd.Context().Err() != nil {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "it goes on without you; look at it: perdure consistency show %s\n", last.ID)
		return exit(exitRunning)
	}
	if err != nil {
		return err
	}
	return c.showAudit(cmd, last)
}

// auditTeller tells how far an audit is: in one line that changes on a terminal,
// and elsewhere in a line now and then.
type auditTeller struct {
	w     io.Writer
	live  bool
	begun bool
	found int
	next  time.Time
	wide  int
}

func (t *auditTeller) tell(a api.ConsistencyAudit) {
	if !t.begun {
		t.begun = true
		_, _ = fmt.Fprintf(t.w, "audit %s\n", a.ID)
	}
	if r := a.Report; r != nil {
		for ; t.found < len(r.Differences); t.found++ {
			t.line(r.Differences[t.found].Text, false)
		}
	}
	if a.Over() {
		return
	}
	p := a.Progress
	text := fmt.Sprintf("%d of %d tables, %d rows, %d differences; now %s", p.Tables, p.Of, p.Rows, p.Found, p.Table)
	if a.Error != "" {
		text = "waits: " + a.Error
	}
	if t.live || time.Now().After(t.next) {
		t.line(text, t.live)
		t.next = time.Now().Add(10 * time.Second)
	}
}

// line writes a line, over the one that is there.
func (t *auditTeller) line(text string, again bool) {
	if t.wide > 0 {
		_, _ = fmt.Fprintf(t.w, "\r%s\r", strings.Repeat(" ", t.wide))
		t.wide = 0
	}
	if !again {
		_, _ = fmt.Fprintln(t.w, text)
		return
	}
	if r := []rune(text); len(r) > 79 { // a line that wraps cannot be written over
		text = string(r[:78]) + "…"
	}
	t.wide = len([]rune(text))
	_, _ = fmt.Fprint(t.w, text)
}

func (t *auditTeller) end() {
	if t.wide > 0 {
		t.line("", true)
	}
}

// showAudit prints an audit with what it found, and turns that into an exit code.
func (c *cli) showAudit(cmd *cobra.Command, a api.ConsistencyAudit) error {
	if done, err := c.printed(cmd.OutOrStdout(), a); done && err != nil {
		return err
	} else if !done {
		printAudit(cmd.OutOrStdout(), a)
	}
	switch {
	case a.Differences > 0 || a.Report != nil && len(a.Report.Differences) > 0:
		return exit(exitDegraded)
	case a.State == "failed", a.Over() && a.Report != nil && partial(a.Report):
		return exit(exitFailed)
	case !a.Over():
		return exit(exitRunning)
	}
	return nil
}

// partial tells whether something was left out that can be compared: then
// nobody may take the audit for a proof.
func partial(r *api.ConsistencyReport) bool {
	return slices.ContainsFunc(r.Remarks, func(m api.AuditedRemark) bool {
		return m.Kind == "denied" || m.Kind == "blind" || m.Kind == "incomplete"
	})
}

func printAudit(w io.Writer, a api.ConsistencyAudit) {
	r := a.Report
	if r == nil {
		r = &api.ConsistencyReport{}
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	took := a.Ended.Sub(a.Began)
	if a.Ended.IsZero() {
		took = time.Since(a.Began)
	}
	verdict := fmt.Sprintf("%d differences", len(r.Differences)+r.Unlisted)
	switch {
	case len(r.Differences) == 1 && r.Unlisted == 0:
		verdict = "1 difference"
	case len(r.Differences) == 0:
		verdict = "no difference"
	}
	say("audit %s is %s: %s in %d rows of %d of %d tables on %s (%s)", a.ID, a.State, verdict, r.Rows, r.Tables, r.Of,
		strings.Join(r.Members, ", "), took.Round(100*time.Millisecond))
	if a.Error != "" {
		say("%s", a.Error)
	}
	if len(r.Differences) > 0 {
		say("")
		rows := [][]string{{"WHAT", "TABLE", "KEY", "COLUMNS", "MEMBERS"}}
		for _, d := range r.Differences {
			rows = append(rows, []string{d.Kind, strings.Trim(d.Schema+"."+d.Table, "."), d.Key, strings.Join(d.Columns, ","), hold(d, r.Members)})
		}
		table(w, rows)
		say("")
		for _, d := range r.Differences {
			say("%s", d.Text)
			if d.SQL != "" {
				say("    %s", d.SQL)
			}
		}
	}
	for i, m := range r.Remarks {
		if i == 0 {
			say("\nnot compared:")
		}
		say("%s", m.Text)
		if m.SQL != "" {
			say("    %s", m.SQL)
		}
	}
}

// hold says who has what.
func hold(d api.Difference, members []string) string {
	var out []string
	for _, m := range members {
		if has, ok := d.Members[m]; ok {
			out = append(out, m+" "+has)
		}
	}
	return strings.Join(out, ", ")
}

func (c *cli) listAudits(cmd *cobra.Command, all []api.ConsistencyAudit) error {
	if done, err := c.printed(cmd.OutOrStdout(), all); done {
		return err
	}
	rows := [][]string{{"ID", "STATE", "ASKED", "BY", "TABLES", "ROWS", "DIFFERENCES", "REMARKS", "TOOK"}}
	for _, a := range all {
		took := ""
		if !a.Ended.IsZero() && !a.Began.IsZero() {
			took = a.Ended.Sub(a.Began).Round(time.Second).String()
		}
		rows = append(rows, []string{
			a.ID, a.State, a.Asked.Format("2006-01-02 15:04:05Z"), a.By, fmt.Sprintf("%d/%d", a.Progress.Tables, a.Progress.Of),
			strconv.FormatUint(a.Progress.Rows, 10), strconv.Itoa(a.Differences), strconv.Itoa(a.Remarks), took,
		})
	}
	table(cmd.OutOrStdout(), rows)
	return nil
}

func (c *cli) schedules() *cobra.Command {
	cmd := &cobra.Command{Use: "schedules", Short: "What begins at times: audits, stop and start, rolling restarts", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the schedules of perdure.yaml, when they are due, and what became of them", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Schedules(cmd.Context())
			if err != nil {
				return err
			}
			return c.listSchedules(cmd.OutOrStdout(), all)
		}),
	})
	return cmd
}

func (c *cli) listSchedules(w io.Writer, all []api.Schedule) error {
	if done, err := c.printed(w, all); done {
		return err
	}
	rows := [][]string{{"NAME", "DOES", "AT", "ZONE", "NEXT", "LAST"}}
	for _, s := range all {
		last := "nothing yet"
		if s.Result != "" {
			last = s.Result + ": " + s.Text
		}
		rows = append(rows, []string{s.Name, s.Do, s.At, s.Zone, s.Next.Format("2006-01-02 15:04 MST"), last})
	}
	table(w, rows)
	return nil
}
