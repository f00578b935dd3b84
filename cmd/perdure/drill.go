package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/drill"
)

func (c *cli) drill() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drill", Short: "Make a fault on purpose and measure how the cluster gets over it", Args: cobra.NoArgs, RunE: help,
		Long: `Only on a cluster that is marked as drillable, such as a playground. While a
drill runs, a small client writes through the proxy and counts what it felt.

The report says, in seconds since the fault, when it was detected (by this
node), noticed (by the group itself), decided and acted upon (the group does
without those hit), and when everything was normal again.`,
	}
	for kind, short := range map[drill.Kind]string{
		drill.Kill:       "End a server's process at once; it is started again",
		drill.Hang:       "Stop a server's process from running for a while",
		drill.Stall:      "Stop a server's process from running so shortly that nothing may come of it",
		drill.Stop:       "Shut a server down in good order; it is started again",
		drill.Drain:      "Take a member's clients away for a moment; none may notice",
		drill.QuorumLoss: "End a majority of the servers at once",
		drill.Outage:     "End all servers at once",
	} {
		cmd.AddCommand(&cobra.Command{
			Use: string(kind) + " [MEMBER]", Short: short, Args: cobra.MaximumNArgs(1),
			RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, args []string) error {
				r, err := cl.Drill(cmd.Context(), api.Drill{Kind: string(kind), Member: strings.Join(args, "")})
				if err != nil {
					return err
				}
				return c.showDrills(cmd, []api.DrillReport{r})
			}),
		})
	}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the reports of former drills", Args: cobra.NoArgs,
		RunE: c.ask(func(cmd *cobra.Command, cl *client.Client, _ []string) error {
			all, err := cl.Drills(cmd.Context())
			if err != nil {
				return err
			}
			return c.showDrills(cmd, all)
		}),
	})
	return cmd
}

func (c *cli) showDrills(cmd *cobra.Command, all []api.DrillReport) error {
	if done, err := c.printed(cmd.OutOrStdout(), all); done {
		return err
	}
	seconds := func(ms int64) string {
		if ms < 0 {
			return "-"
		}
		return fmt.Sprintf("%.1fs", float64(ms)/1000)
	}
	rows := [][]string{{"DRILL", "HIT", "DETECTED", "NOTICED", "DECIDED", "ACTED", "NORMAL", "WRITES", "FAILED", "LONGEST PAUSE", "RESULT"}}
	failed := false
	for _, r := range all {
		result := "recovered"
		if !r.Recovered {
			result, failed = r.Error, true
		}
		rows = append(rows, []string{
			r.ID, strings.Join(r.Members, ","), seconds(r.Detect), seconds(r.Notice), seconds(r.Decide), seconds(r.Act), seconds(r.Normal),
			strconv.FormatInt(r.Writes, 10), strconv.FormatInt(r.Failed, 10), seconds(r.Pause), result,
		})
	}
	table(cmd.OutOrStdout(), rows)
	if failed && len(all) == 1 {
		return exit(exitFailed)
	}
	return nil
}
