package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/auditlog"
	"github.com/perdure/perdure/internal/client"
)

func (c *cli) token() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Tokens: who may call the API", Args: cobra.NoArgs, RunE: help}
	var t api.Token
	var lasts time.Duration
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a token and print its secret, this once", Args: cobra.ExactArgs(1),
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			t.Name = args[0]
			if lasts > 0 {
				t.Expires = time.Now().Add(lasts).UTC().Truncate(time.Second)
			}
			made, err := cl.MakeToken(cmd.Context(), t)
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), made); done {
				return err
			}
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "this is the only time the token is shown:")
			_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Secret)
			return err
		}),
	}
	f := create.Flags()
	f.StringVar(&t.Role, "role", "viewer", "viewer, operator, admin, or writer (the write queue only)")
	f.DurationVar(&lasts, "expires-in", 0, "how long it is valid, such as 720h (default: for ever)")
	f.StringSliceVar(&t.Operations, "operation", nil, "for writers: `NAME` of a write operation it may use (default: all)")
	f.BoolVar(&t.SQL, "sql", false, "for writers: it may hand in statements of its own")
	f.IntVar(&t.Rate, "rate", 0, "for writers: writes a second (default: no limit)")
	f.StringSliceVar(&t.Only, "only", nil, "`PART` of the API it may use, such as queue or events: the word after /v1/ (default: all its role may)")
	cmd.AddCommand(create,
		&cobra.Command{
			Use: "list", Short: "List the tokens", Args: cobra.NoArgs,
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
				all, err := cl.Tokens(cmd.Context())
				if err != nil {
					return err
				}
				if done, err := c.printed(cmd.OutOrStdout(), all); done {
					return err
				}
				rows := [][]string{{"NAME", "ROLE", "MADE", "BY", "EXPIRES", "ONLY", "OPERATIONS"}}
				for _, t := range all {
					expires := "never"
					if !t.Expires.IsZero() {
						expires = t.Expires.Format("2006-01-02 15:04:05Z")
					}
					rows = append(rows, []string{t.Name, t.Role, t.Made.Format("2006-01-02 15:04:05Z"), t.By, expires, strings.Join(t.Only, ", "), strings.Join(t.Operations, ", ")})
				}
				table(cmd.OutOrStdout(), rows)
				return nil
			}),
		},
		&cobra.Command{
			Use: "revoke NAME", Short: "Revoke a token", Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				return cl.RevokeToken(cmd.Context(), args[0])
			}),
		},
	)
	return cmd
}

func (c *cli) audit() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "The audit log: who did what", Args: cobra.NoArgs, RunE: help}
	limit := 50
	list := &cobra.Command{
		Use: "list", Short: "List the newest entries", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Audit(cmd.Context(), limit)
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), all); done {
				return err
			}
			rows := [][]string{{"NUMBER", "AT", "WHO", "FROM", "DID", "RESULT", "ON"}}
			for _, e := range all {
				rows = append(rows, []string{strconv.FormatInt(e.Number, 10), e.At.Format("2006-01-02 15:04:05.000Z"), e.Who, e.From, e.Did, e.Result, e.On})
			}
			table(cmd.OutOrStdout(), rows)
			return nil
		}),
	}
	list.Flags().IntVar(&limit, "limit", limit, "how many at most")
	cmd.AddCommand(list,
		&cobra.Command{
			Use: "export", Short: "Write the whole log to stdout, one JSON object a line", Args: cobra.NoArgs,
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
				all, err := cl.Audit(cmd.Context(), 1_000_000)
				if err != nil {
					return err
				}
				enc := json.NewEncoder(cmd.OutOrStdout())
				for _, e := range all {
					if err := enc.Encode(e); err != nil {
						return err
					}
				}
				return nil
			}),
		},
		c.auditVerify(),
	)
	return cmd
}

// auditVerify checks the log of a node, or one that was exported.
func (c *cli) auditVerify() *cobra.Command {
	var export, newest string
	cmd := &cobra.Command{
		Use: "verify", Short: "Check that no entry was changed, removed or reordered", Args: cobra.NoArgs,
		Long: `Exit code 1 if one was. Keep the hash it prints somewhere else: whoever can
write the control store can make the whole log anew, and cannot make it end
there. --newest checks that.`,
		Example: "  perdure audit export > audit.jsonl; perdure audit verify --export audit.jsonl",
	}
	f := cmd.Flags()
	f.StringVar(&export, "export", "", "check this `FILE`, which audit export wrote, and ask no node")
	f.StringVar(&newest, "newest", "", "`HASH` of the newest entry of an earlier check: it must still be there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v, err := c.verified(cmd, export, newest)
		if err != nil {
			return err
		}
		if done, err := c.printed(cmd.OutOrStdout(), v); done && err != nil {
			return err
		}
		if v.Problem != "" {
			return fmt.Errorf("the audit log was tampered with: %s", v.Problem)
		}
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d entries, unbroken; newest %s\n", v.Entries, v.Newest)
		return nil
	}
	return cmd
}

func (c *cli) verified(cmd *cobra.Command, export, newest string) (v api.AuditVerified, err error) {
	var all []api.AuditEntry
	if export != "" {
		if all, err = readExport(export); err != nil {
			return v, err
		}
		v.Entries = len(all)
		if v.Newest, err = auditlog.Verify(entries(all)); err != nil {
			v.Problem = err.Error()
		}
	} else {
		cl, err := c.client()
		if err != nil {
			return v, err
		}
		defer cl.Close()
		if v, err = cl.VerifyAudit(cmd.Context()); err != nil {
			return v, err
		}
		if newest != "" {
			if all, err = cl.Audit(cmd.Context(), 1_000_000); err != nil {
				return v, err
			}
		}
	}
	if newest != "" && v.Problem == "" && !slices.ContainsFunc(all, func(e api.AuditEntry) bool { return e.Hash == newest }) {
		v.Problem = "no entry has the hash " + newest + ": the log was made anew"
	}
	return v, nil
}

func readExport(path string) ([]api.AuditEntry, error) {
	f, err := os.Open(path) //nolint:gosec // the user named it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []api.AuditEntry
	for dec := json.NewDecoder(f); ; {
		var e api.AuditEntry
		switch err := dec.Decode(&e); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%s, entry %d: %w", path, len(all)+1, err)
		}
		all = append(all, e)
	}
}

func entries(all []api.AuditEntry) []auditlog.Entry {
	out := make([]auditlog.Entry, 0, len(all))
	for _, e := range all {
		out = append(out, auditlog.Entry(e))
	}
	return out
}
