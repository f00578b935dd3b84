package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/queue"
)

func (c *cli) queue() *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "The write queue: put, status, tail, pause, dead letters", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(
		c.queuePut(),
		&cobra.Command{Use: "status", Short: "Depth, age, counts and troubles", Args: cobra.NoArgs, RunE: c.ask(c.queueStatus)},
		c.queueTail(),
		c.queueSteer("pause", "Go on accepting writes, and apply none until resume"),
		c.queueSteer("resume", "Apply writes again"),
		&cobra.Command{
			Use: "accept-loss GENERATION", Short: "Give up a log that is gone, and apply from the one there is", Args: cobra.ExactArgs(1),
			Long: "Where the disks of the log's nodes are lost, so is what was accepted and not applied. Nothing is applied then until\nsomebody says, with the name of the lost log that `perdure queue status` shows, that this is known.",
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				return cl.AcceptLoss(cmd.Context(), args[0])
			}),
		},
		&cobra.Command{
			Use: "grants", Short: "Print the SQL that makes the account which applies writes", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				who := mysql.Account{User: "perdure_apply", Host: "%"}.String()
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "CREATE USER IF NOT EXISTS %s IDENTIFIED BY RANDOM PASSWORD REQUIRE SSL;\n", who)
				for _, s := range queue.Grants(who) {
					_, _ = fmt.Fprintln(cmd.OutOrStdout(), s+";")
				}
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "-- and for each schema the operations write to:\n-- GRANT SELECT, INSERT, UPDATE, DELETE ON SCHEMA.* TO %s;\n", who)
				return nil
			},
		},
		c.deadLetters(),
	)
	return cmd
}

func (c *cli) queuePut() *cobra.Command {
	var w api.Write
	var params, args []string
	var sql string
	wait := false
	cmd := &cobra.Command{
		Use: "put [OPERATION]", Short: "Hand in a write", Args: cobra.MaximumNArgs(1),
		Example: `  perdure queue put transfer --param from=1 --param to=2 --param amount=10 --wait
  perdure queue put --key k1 --sql 'UPDATE accounts SET balance = balance + ? WHERE id = ?' --arg 10 --arg 1`,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, given []string) error {
			if len(given) == 1 {
				w.Operation = given[0]
			}
			if sql != "" {
				st := api.Statement{SQL: sql}
				for _, a := range args {
					st.Args = append(st.Args, jsonValue(a))
				}
				w.Statements = []api.Statement{st}
			}
			if (w.Operation == "") == (sql == "") {
				return &usageError{fmt.Errorf("a write is either an OPERATION or --sql")}
			}
			for _, p := range params {
				name, value, ok := strings.Cut(p, "=")
				if !ok {
					return &usageError{fmt.Errorf("--param takes NAME=VALUE, not %q", p)}
				}
				if w.Params == nil {
					w.Params = map[string]json.RawMessage{}
				}
				w.Params[name] = jsonValue(value)
			}
			if wait {
				w.Wait = "applied"
			}
			r, err := cl.Put(cmd.Context(), w)
			if err != nil {
				return err
			}
			return c.showReceipt(cmd, r)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&w.ID, "id", "", "`UUIDv7` of the write, the same when it is sent again (default: a new one)")
	f.StringVar(&w.Key, "key", "", "writes of one key are applied in order")
	f.StringArrayVar(&params, "param", nil, "`NAME=VALUE` of a parameter")
	f.StringVar(&sql, "sql", "", "a `STATEMENT` with ? for its values, instead of an operation")
	f.StringArrayVar(&args, "arg", nil, "`VALUE` for the next ?")
	f.BoolVar(&wait, "wait", false, "wait until it is applied")
	f.StringVar(&w.Timeout, "timeout", "", "how long to wait (default 10s)")
	return cmd
}

// jsonValue takes a number, true, false or null as what it is, and everything
// else as text.
func jsonValue(s string) json.RawMessage {
	var v any
	if json.Unmarshal([]byte(s), &v) == nil {
		switch v.(type) {
		case float64, bool, nil:
			return json.RawMessage(s)
		}
	}
	b, _ := json.Marshal(s)
	return b
}

func (c *cli) showReceipt(cmd *cobra.Command, r api.Receipt) error {
	if done, err := c.printed(cmd.OutOrStdout(), r); done {
		return err
	}
	line := fmt.Sprintf("%s  %s", r.ID, r.State)
	if r.Affected != nil {
		line += fmt.Sprintf("  %d rows", *r.Affected)
	}
	if r.Error != "" {
		line += "  " + r.Error
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

func (c *cli) queueStatus(cmd *cobra.Command, cl *client.Client, _ []string) error {
	s, err := cl.Queue(cmd.Context())
	if err != nil {
		return err
	}
	if done, err := c.printed(cmd.OutOrStdout(), s); done {
		return err
	}
	w := cmd.OutOrStdout()
	switch a := s.Applying; {
	case s.Lost != "":
		_, _ = fmt.Fprintf(w, "The log %s is gone, with what was accepted into it and not applied. New writes are accepted and none is applied.\nIf it cannot be brought back: perdure queue accept-loss %s\n", s.Lost, s.Lost)
	case s.Halted != "":
		_, _ = fmt.Fprintf(w, "Writes are accepted and none is applied: %s. After a look: perdure queue resume\n", s.Halted)
	case s.Paused != "":
		_, _ = fmt.Fprintf(w, "Writes are accepted and none is applied (paused by %s). Go on: perdure queue resume\n", s.Paused)
	case a == nil:
		_, _ = fmt.Fprintln(w, "Writes are accepted; another node applies them, or none does: see `perdure status`.")
	case len(a.HeldBack) > 0:
		_, _ = fmt.Fprintf(w, "Writes are accepted and none is applied (%s). Go on: perdure queue resume\n", strings.Join(a.HeldBack, ", "))
	case len(a.Troubles) > 0:
		_, _ = fmt.Fprintf(w, "Writes are accepted and wait for the database: %s\n", strings.Join(a.Troubles, "; "))
	case a.BehindFrames > 0:
		_, _ = fmt.Fprintf(w, "Writes are accepted and applied; the oldest that waits is %s old.\n", a.OldestAge.Round(time.Millisecond))
	default:
		_, _ = fmt.Fprintln(w, "Every accepted write is applied.")
	}
	rows := [][]string{{"ACCEPTED", "REFUSED", "APPLIED", "WAITING", "OLDEST", "DUPLICATES", "DEAD LETTERS", "LOG"}}
	row := []string{strconv.FormatInt(s.Accepted, 10), strconv.FormatInt(s.Refused, 10), "", "", "", "", "", fmt.Sprintf("%d MB of %d, on %d nodes", s.Log.Bytes>>20, s.Log.MaxBytes>>20, s.Log.Replicas)}
	if a := s.Applying; a != nil {
		row[2], row[3], row[4] = strconv.FormatInt(a.Applied, 10), waitingWrites(a.Waiting, a.Unread), a.OldestAge.Round(time.Millisecond).String()
		row[5], row[6] = strconv.FormatInt(a.Duplicates, 10), "?"
		if a.Letters != nil {
			row[6] = strconv.FormatInt(*a.Letters, 10)
		}
	}
	_, _ = fmt.Fprintln(w)
	table(w, append(rows, row))
	return nil
}

// waitingWrites says how many writes are not applied, as exactly as it is known.
func waitingWrites(read int64, unread uint64) string {
	if unread > 0 {
		return fmt.Sprintf("%d and %d frames", read, unread)
	}
	return strconv.FormatInt(read, 10)
}

func (c *cli) queueTail() *cobra.Command {
	var from uint64
	cmd := &cobra.Command{
		Use: "tail", Short: "Print writes as they are accepted", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			err := cl.TailQueue(cmd.Context(), from, func(t api.TailedWrite) error {
				if done, err := c.printed(cmd.OutOrStdout(), t); done {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %d  %s  key %s  %s  %d bytes  by %s\n", t.At.Format("15:04:05.000"), t.Sequence, t.ID, t.Key, t.Operation, t.Bytes, t.By)
				return err
			})
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		}),
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "`FRAME` to begin at (default: only new writes)")
	return cmd
}

func (c *cli) queueSteer(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			return cl.SteerQueue(cmd.Context(), verb)
		}),
	}
}

func (c *cli) deadLetters() *cobra.Command {
	cmd := &cobra.Command{Use: "dead-letters", Short: "Writes that were given up", Args: cobra.NoArgs, RunE: help}
	limit := 50
	list := &cobra.Command{
		Use: "list", Short: "List the newest dead letters", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.DeadLetters(cmd.Context(), limit)
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), all); done {
				return err
			}
			rows := [][]string{{"ID", "DIED", "KEY", "OPERATION", "ATTEMPTS", "ERROR"}}
			for _, d := range all {
				rows = append(rows, []string{d.ID, d.Died.Format("2006-01-02 15:04:05Z"), d.Key, d.Operation, strconv.Itoa(d.Attempts), d.Error})
			}
			table(cmd.OutOrStdout(), rows)
			return nil
		}),
	}
	list.Flags().IntVar(&limit, "limit", limit, "how many at most")
	var sql string
	var args []string
	retry := func(use, short string, edits bool) *cobra.Command {
		sub := &cobra.Command{
			Use: use + " ID", Short: short, Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, given []string) error {
				var edited []api.Statement
				if edits {
					st := api.Statement{SQL: sql}
					for _, a := range args {
						st.Args = append(st.Args, jsonValue(a))
					}
					edited = []api.Statement{st}
				}
				r, err := cl.RetryDeadLetter(cmd.Context(), given[0], edited)
				if err != nil {
					return err
				}
				return c.showReceipt(cmd, r)
			}),
		}
		if edits {
			sub.Flags().StringVar(&sql, "sql", "", "the `STATEMENT` to use instead, with ? for its values")
			sub.Flags().StringArrayVar(&args, "arg", nil, "`VALUE` for the next ?")
			_ = sub.MarkFlagRequired("sql")
		}
		return sub
	}
	cmd.AddCommand(list,
		&cobra.Command{
			Use: "show ID", Short: "Show one, with what it would have done", Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				d, err := cl.DeadLetter(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if c.output == "table" {
					c.output = "yaml"
				}
				_, err = c.printed(cmd.OutOrStdout(), d)
				return err
			}),
		},
		retry("retry", "Take one up again as it is", false),
		retry("edit", "Take one up again with another statement", true),
		&cobra.Command{
			Use: "discard ID", Short: "Give one up for good", Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				r, err := cl.DiscardDeadLetter(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.showReceipt(cmd, r)
			}),
		},
	)
	return cmd
}
