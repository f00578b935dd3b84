package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
)

func (c *cli) events() *cobra.Command {
	var kinds, members []string
	limit, follow := 50, false
	cmd := &cobra.Command{
		Use: "events", Short: "What happened, and with --follow what happens", Args: cobra.NoArgs,
		Example: "  perdure events --kind 'member.*' --follow",
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			show := func(e api.Event) error {
				if done, err := c.printed(cmd.OutOrStdout(), e); done {
					return err
				}
				x := e.Event
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %-8s  %-26s  %s\n", x.Time.Local().Format("2006-01-02 15:04:05.000"), x.Severity, strings.TrimPrefix(x.Type, "perdure."), x.Data.Text)
				return err
			}
			all, err := cl.Events(cmd.Context(), kinds, members, limit)
			if err != nil {
				return err
			}
			last := uint64(0)
			for _, e := range all {
				if err := show(e); err != nil {
					return err
				}
				last = e.Sequence
			}
			if !follow {
				return nil
			}
			err = cl.FollowEvents(cmd.Context(), kinds, members, last, show)
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&kinds, "kind", nil, "only these kinds; * stands for any text")
	f.StringSliceVar(&members, "member", nil, "only these members")
	f.IntVar(&limit, "limit", limit, "how many of the past at most")
	f.BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	return cmd
}

func (c *cli) alarms() *cobra.Command {
	everything := false
	cmd := &cobra.Command{
		Use: "alarms", Short: "Where the alarms stand", Args: cobra.NoArgs,
		Long: "Exit code 3 if an alarm is on.",
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Alarms(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), all); done {
				return err
			}
			rows, on := [][]string{{"ALARM", "MEMBER", "STATE", "SEVERITY", "SINCE", "WHY"}}, 0
			for _, a := range all {
				if a.State != "OK" {
					on++
				}
				if everything || a.State != "OK" {
					rows = append(rows, []string{a.Rule, a.Member, a.State, a.Severity, a.Since.Local().Format("2006-01-02 15:04:05"), a.Text})
				}
			}
			if on == 0 {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "No alarm is on; %d conditions are watched.\n", len(all))
			}
			if len(rows) > 1 {
				table(cmd.OutOrStdout(), rows)
			}
			if on > 0 {
				return exit(exitDegraded)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&everything, "all", false, "also those that are OK")
	var a api.Acknowledge
	ack := &cobra.Command{
		Use: "acknowledge ALARM", Short: "Say that you take care of an alarm: it reminds nobody any more", Args: cobra.ExactArgs(1),
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			a.Alarm = args[0]
			return cl.Acknowledge(cmd.Context(), a)
		}),
	}
	ack.Flags().StringVar(&a.Member, "member", "", "only the alarm about this member")
	ack.Flags().StringVar(&a.Note, "note", "", "for whoever reads it")
	cmd.AddCommand(ack)
	return cmd
}

// eventFlags describe an event that did not happen.
func eventFlags(cmd *cobra.Command, t *api.TestRules) {
	cmd.Flags().StringVar(&t.Member, "member", "", "member the event is about")
	cmd.Flags().StringVar(&t.Severity, "severity", "", "info, warning or critical (default: the kind's usual one)")
}

func (c *cli) rules() *cobra.Command {
	cmd := &cobra.Command{Use: "rules", Short: "Which events go to which channels and hooks", Args: cobra.NoArgs, RunE: help}
	var t api.TestRules
	test := &cobra.Command{
		Use: "test KIND", Short: "Say what every rule would do with an event; nothing is done", Args: cobra.ExactArgs(1),
		Example: "  perdure rules test member.crashed --member m3",
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			t.Kind = args[0]
			hits, err := cl.TestRules(cmd.Context(), t)
			if err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), hits); done {
				return err
			}
			rows := [][]string{{"RULE", "MATCHES", "NOTIFIES", "RUNS", "WHY"}}
			for _, h := range hits {
				why := h.Why
				if h.Silenced != "" {
					why = "silenced " + h.Silenced
				}
				rows = append(rows, []string{h.Rule, yes(h.Matches), strings.Join(h.Notify, ", "), strings.Join(h.Hooks, ", "), why})
			}
			table(cmd.OutOrStdout(), rows)
			return nil
		}),
	}
	eventFlags(test, &t)
	cmd.AddCommand(test)
	return cmd
}

// shown prints what has no table of its own, as YAML.
func (c *cli) shown(cmd *cobra.Command, data any, err error) error {
	if err != nil {
		return err
	}
	if c.output == "table" {
		c.output = "yaml"
	}
	_, err = c.printed(cmd.OutOrStdout(), data)
	return err
}

func (c *cli) notify() *cobra.Command {
	cmd := &cobra.Command{Use: "notify", Short: "Channels to people: test, deliveries, silences", Args: cobra.NoArgs, RunE: help}
	var target, state string
	deliveries := &cobra.Command{
		Use: "deliveries", Short: "Messages and hook runs with their attempts, the newest first", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Deliveries(cmd.Context(), target, state, 50)
			return c.shown(cmd, all, err)
		}),
	}
	deliveries.Flags().StringVar(&target, "target", "", "only notify/NAME or hook/NAME")
	deliveries.Flags().StringVar(&state, "state", "", "only waiting, done, skipped or dead")
	var s api.Silence
	silence := &cobra.Command{
		Use: "silence", Short: "Keep messages about some events back for a time", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			made, err := cl.Silence(cmd.Context(), s)
			return c.shown(cmd, made, err)
		}),
	}
	f := silence.Flags()
	f.StringSliceVar(&s.Kinds, "kind", nil, "kinds of event; * stands for any text (default: all)")
	f.StringSliceVar(&s.Members, "member", nil, "only about these members")
	f.StringVar(&s.For, "for", "1h", "for how long")
	f.StringVar(&s.Why, "why", "", "for whoever reads it")
	cmd.AddCommand(
		&cobra.Command{
			Use: "test CHANNEL", Short: "Bring a test message to a channel now", Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				got, err := cl.TestNotify(cmd.Context(), args[0])
				if err := c.shown(cmd, got, err); err != nil {
					return err
				}
				if got["error"] != nil {
					return exit(exitFailed)
				}
				return nil
			}),
		},
		deliveries, silence,
		&cobra.Command{
			Use: "silences", Short: "List the silences", Args: cobra.NoArgs,
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
				all, err := cl.Silences(cmd.Context())
				return c.shown(cmd, all, err)
			}),
		},
		&cobra.Command{
			Use: "unsilence ID", Short: "End a silence", Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				return cl.Unsilence(cmd.Context(), args[0])
			}),
		},
	)
	for verb, short := range map[string]string{"redrive": "Try a dead or skipped delivery again", "discard": "Give a delivery up for good"} {
		cmd.AddCommand(&cobra.Command{
			Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				return cl.SteerDelivery(cmd.Context(), args[0], verb)
			}),
		})
	}
	return cmd
}

func (c *cli) hooks() *cobra.Command {
	cmd := &cobra.Command{Use: "hooks", Short: "What is run when something happens", Args: cobra.NoArgs, RunE: help}
	var t api.TestRules
	dry := false
	run := &cobra.Command{
		Use: "run HOOK KIND", Short: "Say what a hook would do with an event (--dry-run); hooks run when rules call for them", Args: cobra.ExactArgs(2),
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
			if !dry {
				return &usageError{fmt.Errorf("a hook is only run by rules, for something that happened; --dry-run says what it would do")}
			}
			t.Kind = args[1]
			got, err := cl.RehearseHook(cmd.Context(), args[0], t)
			return c.shown(cmd, got, err)
		}),
	}
	eventFlags(run, &t)
	run.Flags().BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	cmd.AddCommand(run)
	return cmd
}
