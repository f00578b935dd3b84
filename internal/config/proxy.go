package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/perdure/perdure/internal/proxy"
	"github.com/perdure/perdure/internal/route"
)

// Proxy is the proxy of one node. Addresses are host:port, or the path of a
// Unix socket; a listener without address does not exist.
type Proxy struct {
	RW      string `yaml:"rw,omitempty" json:"rw,omitempty" doc:"Where clients connect that read and write."`
	RO      string `yaml:"ro,omitempty" json:"ro,omitempty" doc:"Where clients connect that only read; they may land on any member that is up to date."`
	Split   string `yaml:"split,omitempty" json:"split,omitempty" doc:"Where clients connect whose reads and writes the proxy tells apart."`
	Pooling string `yaml:"pooling,omitempty" json:"pooling,omitempty" enum:"connection,transaction" doc:"When a server connection may serve another client: when its client leaves (default), or after every transaction."`
	Writers string `yaml:"writers,omitempty" json:"writers,omitempty" doc:"How many members take writes at the first start: spread (default), pinned, pinned:NAME or a number. Changed live with 'perdure proxy writers'."`

	Cert       string   `yaml:"cert,omitempty" json:"cert,omitempty" doc:"Certificate shown to clients. Default: one that the node makes."`
	Key        string   `yaml:"key,omitempty" json:"key,omitempty" doc:"Its key."`
	RequireTLS bool     `yaml:"require_tls,omitempty" json:"require_tls,omitempty" doc:"Refuse clients without TLS."`
	Networks   []string `yaml:"proxy_protocol_from,omitempty" json:"proxy_protocol_from,omitempty" doc:"Networks of load balancers that announce their clients with the PROXY protocol, such as 10.0.0.0/8."`

	MaxClients   int      `yaml:"max_clients,omitempty" json:"max_clients,omitempty" minimum:"0" doc:"Default 10000."`
	MaxPerMember int      `yaml:"max_per_member,omitempty" json:"max_per_member,omitempty" minimum:"0" doc:"Server connections to one member. Default 1000."`
	MaxWaiting   int      `yaml:"max_waiting,omitempty" json:"max_waiting,omitempty" minimum:"0" doc:"Sessions that wait for a server connection before others are refused. Default 1000."`
	MaxReplay    int      `yaml:"max_replay,omitempty" json:"max_replay,omitempty" minimum:"-1" doc:"How many bytes of an open transaction's statements are kept, so that it can be run again on another member if its own is lost. -1 keeps none. Default 65536."`
	NoMarks      bool     `yaml:"no_commit_marks,omitempty" json:"no_commit_marks,omitempty" doc:"Do not send a savepoint with each COMMIT of a transaction that wrote. It is by their names that the outcome of commits is found out whose member was lost; without them it is unknown."`
	ConnRate     int      `yaml:"connections_per_second,omitempty" json:"connections_per_second,omitempty" minimum:"0" doc:"New connections a second from one address. Default: no limit."`
	HoldLimit    Duration `yaml:"hold_limit,omitempty" json:"hold_limit,omitempty" doc:"How long a request waits for a member. Default 10s."`
	OutcomeLimit Duration `yaml:"outcome_limit,omitempty" json:"outcome_limit,omitempty" doc:"How long a COMMIT whose member was lost waits to hear what became of it: until the group has let that member go. Default 30s."`
	DrainLimit   Duration `yaml:"drain_limit,omitempty" json:"drain_limit,omitempty" doc:"How long a transaction may keep a member that is drained. Default 10s."`
	IdleTimeout  Duration `yaml:"idle_timeout,omitempty" json:"idle_timeout,omitempty" doc:"After which idle clients are closed. Default: never."`
	QueryTimeout Duration `yaml:"query_timeout,omitempty" json:"query_timeout,omitempty" doc:"After which a statement is killed. Default: never."`
	SlowQuery    Duration `yaml:"slow_query,omitempty" json:"slow_query,omitempty" doc:"Statements that take longer are logged, by digest. Default: none."`
	LeaveDelay   Duration `yaml:"leave_delay,omitempty" json:"leave_delay,omitempty" doc:"At the end, how long health says no before connections are refused. Default 0s."`
}

// Duration is written like 10s, 1m30s or 500ms.
type Duration time.Duration

// UnmarshalYAML implements yaml.BytesUnmarshaler.
func (d *Duration) UnmarshalYAML(b []byte) error {
	var text string
	if err := yaml.Unmarshal(b, &text); err != nil {
		return err
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as 10s or 1m30s", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it as it is read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the schema says "string".
func (d *Duration) UnmarshalText(b []byte) error { return d.UnmarshalYAML(b) }

// listeners are the addresses by mode.
func (p *Proxy) listeners() map[string]string {
	return map[string]string{"rw": p.RW, "ro": p.RO, "split": p.Split}
}

func (f *File) checkProxy(c *checker) {
	p := f.Proxy
	if p == nil {
		return
	}
	seen, any := map[string]string{}, false
	for _, mode := range []string{"rw", "ro", "split"} {
		a := p.listeners()[mode]
		if a == "" {
			continue
		}
		any = true
		if a[0] != '/' {
			c.address("$.proxy."+mode, a)
		}
		if other, taken := seen[a]; taken {
			c.at("$.proxy."+mode, "%s is the address of %s already", a, other)
		}
		seen[a] = mode
	}
	if !any {
		c.at("$.proxy", "a proxy needs at least one address: rw, ro or split")
	}
	if p.Pooling != "" && p.Pooling != string(proxy.PerConnection) && p.Pooling != string(proxy.PerTransaction) {
		c.at("$.proxy.pooling", "connection or transaction, not %q", p.Pooling)
	}
	if p.Writers != "" {
		if _, err := route.ParsePolicy(p.Writers); err != nil {
			c.at("$.proxy.writers", "%v", err)
		}
	}
	if (p.Cert == "") != (p.Key == "") {
		c.at("$.proxy", "cert and key go together")
	}
	for i, n := range p.Networks {
		if _, err := netip.ParsePrefix(n); err != nil {
			c.at(fmt.Sprintf("$.proxy.proxy_protocol_from[%d]", i), "%q is not a network such as 10.0.0.0/8", n)
		}
	}
}
