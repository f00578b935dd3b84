// Package playground makes a real cluster to try things on: real servers on
// loopback, a node, a database with data, in one call.
package playground

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/topology"
)

// Config is what somebody wants to play with.
type Config struct {
	Members int           // 1 to 9
	Mode    topology.Mode // default multi-primary
	Dir     string        // made if it is missing, and removed at the end only then; "" is a new temporary directory
	Server  string        // path of mysqld; "" finds one
	Version string
	Log     *slog.Logger
	// Say tells a person how far it is, one line at a time. Required.
	Say func(format string, args ...any)
	// Ready is called once when everything works. Optional.
	Ready func(Endpoints)
}

// restartDelay is how long a server that crashed stays down: a service manager
// would do the same, and it is long enough to see what the others make of it.
const restartDelay = 3 * time.Second

// play is a playground that runs.
type play struct {
	Config
	made    bool // we made Dir
	binary  mysqld.Binary
	ca      *pki.Authority
	secrets secrets
	servers []*mysqld.Server
	ports   []int // for the group's own traffic
}

// Run makes the playground, says when it is ready, and keeps it until ctx
// ends. Then it stops everything it started.
func Run(ctx context.Context, c Config) (err error) {
	if c.Members < 1 || c.Members > 9 {
		return &config.Error{Text: fmt.Sprintf("a group has one to nine members, not %d", c.Members)}
	}
	p := &play{Config: c}
	if p.Mode == "" {
		p.Mode = topology.MultiPrimary
	}
	if p.binary, err = mysqld.Find(c.Server); err != nil {
		return err
	}
	unlock, err := p.claim()
	if err != nil {
		return err
	}
	defer func() {
		if p.made {
			err = errors.Join(err, os.RemoveAll(p.Dir))
		}
		unlock()
	}()
	begin := time.Now()
	p.Say("MySQL %s, %d members, in %s", p.binary.Version, p.Members, p.Dir)
	defer p.stopServers()
	if err := p.startServers(ctx); err != nil {
		return err
	}
	p.Say("%d servers run (%.1f s)", p.Members, time.Since(begin).Seconds())
	file, err := p.writeConfig()
	if err != nil {
		return err
	}
	n, err := node.New(ctx, file, node.Options{Version: c.Version, Log: c.Log, Heal: true, Faults: p})
	if err != nil {
		return err
	}
	nctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(nctx) }()
	defer func() {
		stop()
		if e := <-ended; err == nil {
			err = e
		}
	}()
	url, token, pool := n.API()
	cl := client.New(url, token, pool)
	defer cl.Close()
	if err := p.form(ctx, cl, file.Spec()); err != nil {
		return err
	}
	p.Say("the group is whole (%.1f s)", time.Since(begin).Seconds())
	if err := p.loadSample(ctx, n); err != nil {
		return err
	}
	e := p.endpoints(n, url, token)
	if err := e.write(p.Dir); err != nil {
		return err
	}
	if err := e.writeHeaders(p.Dir); err != nil {
		return err
	}
	p.Say("ready after %.1f s", time.Since(begin).Seconds())
	p.tour(e)
	if p.Ready != nil {
		p.Ready(e)
	}
	return p.keep(ctx, n, e, url, token, ended)
}

// keep waits for the end, and keeps endpoints.json true when servers restart.
func (p *play) keep(ctx context.Context, n *node.Node, e Endpoints, url, token string, ended chan error) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.Say("stopping")
			return nil
		case err := <-ended:
			ended <- err
			return err
		case <-tick.C:
			if now := p.endpoints(n, url, token); !now.samePIDs(e) {
				e = now
				if err := e.write(p.Dir); err != nil {
					return err
				}
			}
		}
	}
}

// claim makes the directory ours alone.
func (p *play) claim() (unlock func(), err error) {
	if p.Dir == "" {
		if p.Dir, err = os.MkdirTemp("", "perdure-playground-"); err != nil {
			return nil, err
		}
		p.made = true
	}
	if p.Dir, err = filepath.Abs(p.Dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(p.Dir); errors.Is(err, fs.ErrNotExist) {
		p.made = true
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(p.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a descriptor fits
		_ = lock.Close()
		p.made = false
		return nil, fmt.Errorf("another playground runs in %s: choose another --dir", p.Dir)
	}
	entries, err := os.ReadDir(p.Dir)
	if err == nil && len(entries) > 1 {
		err = &config.Error{Text: fmt.Sprintf("%s is not empty: choose another --dir, or remove what an earlier playground left there", p.Dir)}
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}

// startServers makes one data directory, copies it for every member, and
// starts them all.
func (p *play) startServers(ctx context.Context) (err error) {
	p.secrets = newSecrets()
	if p.ca, err = pki.Open(filepath.Join(p.Dir, "tls")); err != nil {
		return err
	}
	cert, key, err := p.ca.Issue("member", "127.0.0.1", "localhost")
	if err != nil {
		return err
	}
	template := filepath.Join(p.Dir, "template")
	p.Say("making a data directory")
	if err := mysqld.Init(ctx, mysqld.Seed{Binary: p.binary, DataDir: template, RootPassword: p.secrets.root, Accounts: p.secrets.accounts()}); err != nil {
		return err
	}
	for i := range p.Members {
		name := fmt.Sprintf("m%d", i+1)
		s, err := mysqld.New(mysqld.Config{
			Name: name, Binary: p.binary, Dir: filepath.Join(p.Dir, name), ServerID: uint32(i + 1), //nolint:gosec // 1 to 9
			TLS:          mysqld.TLS{CA: p.ca.CA(), Cert: cert, Key: key},
			RestartDelay: restartDelay, Log: p.Log.With("part", "mysqld"),
			Settings: map[string]string{"max_connections": "1000"},
		})
		if err != nil {
			return err
		}
		p.servers = append(p.servers, s)
		port, err := mysqld.FreePort()
		if err != nil {
			return err
		}
		p.ports = append(p.ports, port)
	}
	p.Say("starting %d servers", p.Members)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(3) // more at once are slower on a small machine
	for _, s := range p.servers {
		g.Go(func() error {
			if err := mysqld.Copy(gctx, template, filepath.Join(s.Dir(), "data")); err != nil {
				return err
			}
			return s.Start(gctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return os.RemoveAll(template)
}

func (p *play) stopServers() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range p.servers {
		all.Go(func() {
			if p.made { // nobody will look at the data again
				_ = s.Kill(mysqld.StayDown)
				return
			}
			_ = s.Stop(ctx)
		})
	}
	all.Wait()
}

// The faults of drills.

// Kill implements drill.Faults.
func (p *play) Kill(member string) error {
	return p.hit(member, func(s *mysqld.Server) error { return s.Kill(mysqld.ComeBack) })
}

// Freeze implements drill.Faults.
func (p *play) Freeze(member string) error { return p.hit(member, (*mysqld.Server).Freeze) }

// Thaw implements drill.Faults.
func (p *play) Thaw(member string) error { return p.hit(member, (*mysqld.Server).Thaw) }

// Stop implements drill.Faults.
func (p *play) Stop(ctx context.Context, member string) error {
	return p.hit(member, func(s *mysqld.Server) error { return s.Stop(ctx) })
}

// Start implements drill.Faults.
func (p *play) Start(ctx context.Context, member string) error {
	return p.hit(member, func(s *mysqld.Server) error { return s.Start(ctx) })
}

func (p *play) hit(member string, do func(*mysqld.Server) error) error {
	for _, s := range p.servers {
		if s.Name() == member {
			return do(s)
		}
	}
	return fmt.Errorf("the playground has no member %s", member)
}

// writeConfig writes the perdure.yaml that a person would have written.
func (p *play) writeConfig() (*config.File, error) {
	passwordFile, applyFile, auditFile := filepath.Join(p.Dir, "mysql.password"), filepath.Join(p.Dir, "apply.password"), filepath.Join(p.Dir, "audit.password")
	for file, secret := range map[string]string{passwordFile: p.secrets.node, applyFile: p.secrets.apply, auditFile: p.secrets.audit} {
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	port, err := mysqld.FreePort()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# A playground. Use it with: perdure --config %s/perdure.yaml status\n", p.Dir)
	fmt.Fprintf(&b, "version: 1\ncluster: playground\nnode:\n  name: node1\n  data: %q\n  api: 127.0.0.1:%d\n", filepath.Join(p.Dir, "node"), port)
	fmt.Fprintf(&b, "mysql:\n  user: %s\n  password: %q\n  ca: %q\n", nodeUser, "file:"+passwordFile, p.ca.CA())
	fmt.Fprintf(&b, "group:\n  mode: %s\n  complete_history: true\nmembers:\n", p.Mode)
	for i, s := range p.servers {
		fmt.Fprintf(&b, "  - {name: %s, address: \"%s\", group_address: \"127.0.0.1:%d\"}\n", s.Name(), s.Address(), p.ports[i])
	}
	b.WriteString("proxy:\n")
	for _, mode := range []string{"rw", "ro", "split"} {
		port, err := mysqld.FreePort()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "  %s: 127.0.0.1:%d\n", mode, port)
	}
	fmt.Fprintf(&b, "queue:\n  user: %s\n  password: %q\n  max_bytes: 1073741824\n%s", applyUser, "file:"+applyFile, operations)
	fmt.Fprintf(&b, "consistency:\n  user: %s\n  password: %q\n", auditUser, "file:"+auditFile)
	path := filepath.Join(p.Dir, "perdure.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	return config.Load(path)
}

// form asks the node for the cluster, as `perdure apply` would.
func (p *play) form(ctx context.Context, cl *client.Client, spec api.Spec) error {
	o, err := cl.Apply(ctx, api.Apply{Spec: spec})
	if err != nil {
		return err
	}
	said := map[int]bool{}
	o, err = cl.Wait(ctx, o, func(o api.Operation) {
		for i, s := range o.Steps {
			if s.State == "done" && !said[i] && (s.Name == "bootstrap" || s.Name == "join") {
				said[i] = true
				p.Say("%s %s: %.1f s", s.Name, s.Member, s.End.Sub(s.Begin).Seconds())
			}
		}
	})
	if err == nil && o.State != "done" {
		err = fmt.Errorf("the group could not be made: %s", o.Error)
	}
	return err
}
