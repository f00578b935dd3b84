package hook

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Config is one entry of the section `hooks` of perdure.yaml: a hook of exactly
// one kind.
type Config struct {
	Name     string            `json:"name" yaml:"name" doc:"Short name, unique: lower-case letters, digits, dashes. Rules run it by this name."`
	Command  []string          `json:"command,omitempty" yaml:"command,omitempty" doc:"Program, by its absolute path, and its arguments. No shell reads them. The event comes on standard input."`
	User     string            `json:"user,omitempty" yaml:"user,omitempty" doc:"Account the command runs as if this node runs as root. Default nobody."`
	Dir      string            `json:"dir,omitempty" yaml:"dir,omitempty" doc:"Directory the command runs in. Default /."`
	HTTP     *HTTP             `json:"http,omitempty" yaml:"http,omitempty" doc:"An HTTP request, signed."`
	Action   string            `json:"action,omitempty" yaml:"action,omitempty" doc:"Name of an action that is built in."`
	With     map[string]string `json:"with,omitempty" yaml:"with,omitempty" doc:"What the action needs to know."`
	Secrets  map[string]string `json:"secrets,omitempty" yaml:"secrets,omitempty" doc:"Secrets the hook gets: name of the environment variable, reference (file:PATH, env:NAME)."`
	Timeout  event.Duration    `json:"timeout,omitempty" yaml:"timeout,omitempty" doc:"How long one run may take. Default 30s."`
	Attempts int               `json:"attempts,omitempty" yaml:"attempts,omitempty" minimum:"0" maximum:"100" doc:"How often it is tried. Default 5."`
	Always   bool              `json:"always,omitempty" yaml:"always,omitempty" doc:"Run it although what the event said is over."`
	Output   int               `json:"output,omitempty" yaml:"output,omitempty" minimum:"0" maximum:"65536" doc:"How many bytes of the command's output are kept. Default 4096."`
}

// HTTP is a receiver.
type HTTP struct {
	URL     string            `json:"url" yaml:"url" doc:"Where to POST. https, unless the host is this one; a reference (file:PATH, env:NAME) if it is a secret."`
	Secret  string            `json:"secret,omitempty" yaml:"secret,omitempty" doc:"Reference to the secret for the signature. Default: no signature."`
	Headers map[string]string `json:"headers,omitempty" yaml:"headers,omitempty" doc:"Further headers. A value may be a reference (file:PATH, env:NAME)."`
	CA      string            `json:"ca,omitempty" yaml:"ca,omitempty" doc:"File with the authority of the receiver's certificate. Default: the system's."`
}

const (
	defaultTimeout  = 30 * time.Second
	defaultAttempts = 5
	defaultOutput   = 4 << 10
	maxOutput       = 64 << 10
)

var (
	hookName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	variable = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,62}$`)
)

// Check reports every mistake at once, each with the path of what it is about,
// such as "hooks[1].command". actions are the names of those built in.
func Check(all []Config, actions []string) error {
	var errs []error
	seen := map[string]bool{}
	for i, c := range all {
		at := fmt.Sprintf("hooks[%d]", i)
		if !hookName.MatchString(c.Name) {
			errs = append(errs, fmt.Errorf("%s.name: a hook's name is lower-case letters, digits and dashes, not %q", at, c.Name))
		}
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("%s.name: two hooks are called %s", at, c.Name))
		}
		seen[c.Name] = true
		for _, err := range c.check(actions) {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) check(actions []string) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	kinds := 0
	if len(c.Command) > 0 {
		kinds++
		if !filepath.IsAbs(c.Command[0]) {
			bad("command[0]: %q is not an absolute path: what PATH finds is not for sure", c.Command[0])
		}
	}
	if c.HTTP != nil {
		kinds++
		if !isReference(c.HTTP.URL) {
			if err := checkURL(c.HTTP.URL); err != nil {
				bad("http.url: %w", err)
			}
		}
		if c.HTTP.Secret != "" && !isReference(c.HTTP.Secret) {
			bad("http.secret: %w", errReference)
		}
	}
	if c.Action != "" {
		kinds++
		if !slices.Contains(actions, c.Action) {
			bad("action: there is no action %q; there are %s", c.Action, strings.Join(actions, ", "))
		}
	}
	if kinds != 1 {
		bad("%s: a hook is of exactly one kind: command, http or action", c.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		if !variable.MatchString(name) || name == "PATH" || strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "PERDURE_") {
			bad("secrets.%s: not a name for a secret: capital letters, digits, underscores", name)
		}
		if !isReference(c.Secrets[name]) {
			bad("secrets.%s: %w", name, errReference)
		}
	}
	if c.User == "root" || c.User == "0" {
		bad("user: hooks do not run as root")
	}
	if c.Attempts < 0 || c.Attempts > 100 {
		bad("attempts: 1 to 100, not %d", c.Attempts)
	}
	if c.Output < 0 || c.Output > maxOutput {
		bad("output: 0 to %d, not %d", maxOutput, c.Output)
	}
	return errs
}

var errReference = errors.New("a secret is named by file:PATH or env:NAME")

func isReference(s string) bool { return strings.HasPrefix(s, "file:") || strings.HasPrefix(s, "env:") }

// checkURL refuses what would send events in clear over a network.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is not an http or https URL", s)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: only a receiver on this host may be reached without TLS", u.Redacted())
	}
	return nil
}
