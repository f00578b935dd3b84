package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/node"
)

func (c *cli) nodeAlone() *cobra.Command {
	var lost []string
	cmd := &cobra.Command{
		Use: "alone", Short: "Go on with this node alone after the majority was lost for good; run it where the node is stopped", Args: cobra.NoArgs,
		Long: `For the one case that nothing else mends: more than half of the nodes are gone
together with their disks. Run it on a node that is left, while it is stopped.

Without --accept-loss-of it changes nothing, prints what this node has and
whether the others answer, and says what to accept. With it, it takes all others
out: of the control store, of the streams, off the list of nodes. What only they
had is lost: changes that were acknowledged in the last moments before the loss
and are not in this node's log. It is refused while one of the others answers.

A node that was given up must never be started again: it would believe to be
part of a majority, and two would act on one group. Then: perdure serve, and let
new nodes in (perdure node invite). The audit log says who did it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := config.Load(c.config)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelError}))
			left, err := node.Alone(cmd.Context(), f, lost, operator(), log)
			if len(left.Others) > 0 {
				if done, err := c.printed(cmd.OutOrStdout(), left); done && err != nil {
					return err
				} else if !done {
					printLeft(cmd.OutOrStdout(), left)
				}
			}
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s is the only node of cluster %s now; %s must never start again. Start it: perdure serve, and let others in: perdure node invite\n",
				left.Node, left.Cluster, strings.Join(left.Names(), " and "))
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&lost, "accept-loss-of", nil, "`NAMES` of all other nodes: what only they had is lost")
	return cmd
}

// operator is who runs the command, for the audit log.
func operator() string {
	name := cmp.Or(os.Getenv("SUDO_USER"), os.Getenv("USER"))
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	return cmp.Or(name, "somebody") + " on this host"
}

func printLeft(w io.Writer, l node.Left) {
	_, _ = fmt.Fprintf(w, "%s of cluster %s has\n\n", l.Node, l.Cluster)
	rows := [][]string{{"WHAT", "NEWEST", "KNOWN TO BE ACCEPTED", "WRITTEN"}}
	rows = append(rows, []string{"control store", fmt.Sprint(l.Control.Newest), fmt.Sprint(l.Control.Accepted), stamp(l.Control.At)})
	for _, s := range l.Streams {
		rows = append(rows, []string{"stream " + s.Stream, fmt.Sprint(s.Last), "", stamp(s.At)})
	}
	table(w, rows)
	_, _ = fmt.Fprintln(w)
	rows = [][]string{{"OTHER NODE", "ADDRESS", "ANSWERS"}}
	for _, o := range l.Others {
		rows = append(rows, []string{o.Name, o.Address, yes(o.Answers)})
	}
	table(w, rows)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
