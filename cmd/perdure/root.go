package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/node"
)

// cli is what all commands share: the global flags.
type cli struct {
	config, api, tokenFile, ca string
	output                     string
	undone                     bool // the operation that was followed was taken back
}

func root() *cobra.Command {
	c := &cli{}
	cmd := &cobra.Command{
		Use:   "perdure",
		Short: "Keeps MySQL available and its data safe",
		Long: `Perdure keeps MySQL Group Replication clusters whole.

A node (perdure serve) watches the members and is the only one who acts; the
other commands talk to it. Try it on real servers: perdure playground`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	f := cmd.PersistentFlags()
	f.StringVar(&c.config, "config", "", "configuration `FILE` (default ./perdure.yaml, then /etc/perdure/perdure.yaml)")
	f.StringVar(&c.api, "api", os.Getenv("PERDURE_API"), "`URL` of a node's API (default: from the configuration; env PERDURE_API)")
	f.StringVar(&c.tokenFile, "token-file", "", "`FILE` with the API token (default: in the node's data directory; env PERDURE_TOKEN holds the token itself)")
	f.StringVar(&c.ca, "ca", os.Getenv("PERDURE_CA"), "`FILE` with the authority of the API's certificate (default: in the node's data directory; env PERDURE_CA)")
	f.StringVarP(&c.output, "output", "o", "table", "`FORM` of the output: table, json or yaml")
	cmd.AddCommand(
		c.playground(), c.serve(), c.apply(), c.status(), c.check(), c.member(), c.group(), c.node(), c.op(), c.pause(), c.resume(), c.proxy(), c.token(), c.audit(), c.queue(), c.drill(), c.consistency(), c.schedules(), c.events(), c.advise(), c.alarms(), c.rules(), c.notify(), c.hooks(), c.configCommand(), c.versionCommand(),
	)
	wrapUsage(cmd)
	return cmd
}

// wrapUsage marks wrong arguments as wrong usage, so that they exit with 2.
func wrapUsage(cmd *cobra.Command) {
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return &usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapUsage(sub)
	}
}

// client returns a client for the node that the flags, the environment or the
// configuration name.
func (c *cli) client() (*client.Client, error) {
	base, token, caFile := c.api, os.Getenv("PERDURE_TOKEN"), c.ca
	tokenFile := c.tokenFile
	if base == "" || (token == "" && tokenFile == "") {
		f, err := config.Load(c.config)
		if err != nil {
			return nil, err
		}
		if base == "" {
			base = "https://" + reachable(f.Node.API)
		}
		if token == "" && tokenFile == "" {
			tokenFile = filepath.Join(f.Node.Data, node.TokenFile)
		}
		if caFile == "" {
			caFile = filepath.Join(f.Node.Data, node.CAFile)
		}
	}
	if token == "" {
		b, err := os.ReadFile(tokenFile) //nolint:gosec // the user named it
		if err != nil {
			return nil, &config.Error{Text: fmt.Sprintf("read the API token: %v; the node writes it at its first start (perdure serve), and only its owner can read it", err)}
		}
		token = strings.TrimSpace(string(b))
	}
	pool, err := authority(caFile)
	if err != nil {
		return nil, err
	}
	return client.New(base, token, pool), nil
}

// authority reads the certificates to trust; without a file the system's.
func authority(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file) //nolint:gosec // the user named it
	if err != nil {
		return nil, &config.Error{Text: fmt.Sprintf("read the API's authority: %v", err)}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, &config.Error{Text: file + " holds no certificate"}
	}
	return pool, nil
}

// reachable turns "listen everywhere" into an address one can call.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return listen
}

func logger(form string) *slog.Logger {
	if st, err := os.Stderr.Stat(); form == "text" || (form == "" && err == nil && st.Mode()&os.ModeCharDevice != 0) {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, nil))
}

func (c *cli) checkOutput() error {
	switch c.output {
	case "table", "json", "yaml":
		return nil
	}
	return &usageError{errors.New("-o takes table, json or yaml, not " + c.output)}
}
