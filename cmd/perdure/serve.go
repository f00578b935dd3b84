package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/playground"
	"github.com/perdure/perdure/internal/topology"
)

func (c *cli) serve() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run a node: watch the members, and act when it holds the lease",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := config.Load(c.config)
			if err != nil {
				return err
			}
			n, err := node.New(cmd.Context(), f, node.Options{Version: version, Log: logger(f.Node.Log), Heal: true})
			if err != nil {
				return err
			}
			// Everything that can fail is open; what comes to the listeners waits.
			tellService("READY=1")
			defer context.AfterFunc(cmd.Context(), func() { tellService("STOPPING=1") })()
			return n.Run(cmd.Context())
		},
	}
}

// tellService tells the service manager that started us, if it asked for it:
// systemd with Type=notify.
func tellService(word string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' { // in the abstract name space
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "perdure: the service manager is not told:", err)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte(word))
}

func (c *cli) playground() *cobra.Command {
	p := playground.Config{Members: 3, Version: version}
	mode, verbose := string(topology.MultiPrimary), false
	cmd := &cobra.Command{
		Use:   "playground",
		Short: "Run a real cluster on this machine to try things on",
		Long: `Starts real MySQL servers and a node on loopback, on free ports, makes a
group of them and loads a sample database. When all is ready it prints a tour
and writes DIR/endpoints.json. Ctrl-C ends everything it started; DIR is
removed if it made it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p.Mode = topology.Mode(mode)
			if p.Mode != topology.MultiPrimary && p.Mode != topology.SinglePrimary {
				return &usageError{fmt.Errorf("--mode takes multi-primary or single-primary, not %q", mode)}
			}
			level := slog.LevelError
			if verbose {
				level = slog.LevelInfo
			}
			p.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			p.Say = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
			return playground.Run(cmd.Context(), p)
		},
	}
	f := cmd.Flags()
	f.IntVar(&p.Members, "members", 3, "how many members, 1 to 9")
	f.StringVar(&mode, "mode", mode, "multi-primary or single-primary")
	f.StringVar(&p.Dir, "dir", "", "`DIR` for everything (default: a new one, removed at the end)")
	f.StringVar(&p.Server, "mysqld", "", "`PATH` of the server (default: found on the machine)")
	f.BoolVarP(&verbose, "verbose", "v", false, "show the node's log")
	return cmd
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkOutput(); err != nil {
				return err
			}
			if done, err := c.printed(cmd.OutOrStdout(), map[string]string{"version": version}); done {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "perdure "+version)
			return err
		},
	}
}

func (c *cli) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Examples, schema and check of perdure.yaml", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(
		&cobra.Command{Use: "example", Short: "Print a commented perdure.yaml", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), config.Example)
			return err
		}},
		&cobra.Command{Use: "schema", Short: "Print the JSON Schema of perdure.yaml", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), string(b))
			return err
		}},
		&cobra.Command{Use: "check", Short: "Check perdure.yaml without touching a server", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := config.Load(c.config)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s is valid: cluster %s with %d members\n", f.Path(), f.Cluster, len(f.Members))
			return err
		}},
	)
	return cmd
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }
