package config

import (
	"fmt"

	"github.com/perdure/perdure/internal/queue"
)

// Queue is the durable write queue.
type Queue struct {
	User       string            `yaml:"user" json:"user" doc:"Account that applies writes. 'perdure queue grants' prints what it needs besides rights on the application's own tables."`
	Password   string            `yaml:"password" json:"password" doc:"Reference to its password: file:PATH or env:NAME."`
	Operations []queue.Operation `yaml:"operations,omitempty" json:"operations,omitempty" doc:"Named, typed writes that clients may ask for."`
	Keys       string            `yaml:"keys,omitempty" json:"keys,omitempty" doc:"File with the keys that encrypt what lies in the log. Default: queue.keys in the data directory, made at the first start."`
	MaxBytes   int64             `yaml:"max_bytes,omitempty" json:"max_bytes,omitempty" minimum:"0" doc:"Disk the log may take; when it is full writes are refused with 503 and nothing is dropped. Default 16 GiB."`
	Partitions int               `yaml:"partitions,omitempty" json:"partitions,omitempty" minimum:"0" maximum:"64" doc:"How many keys are applied side by side; fixed when the queue first meets a database. Default 8."`
	Park       bool              `yaml:"park,omitempty" json:"park,omitempty" doc:"Let later writes of a key wait behind its dead letter. Default: the key goes on without it."`
	Window     Duration          `yaml:"window,omitempty" json:"window,omitempty" doc:"How late a retry may come: older ids are refused. Default 168h."`
	RuleSet    string            `yaml:"rule_set,omitempty" json:"rule_set,omitempty" enum:"basic,full" doc:"What texts that are not declared free are searched for: basic is SQL and script, full is the OWASP Core Rule Set as well, at some hundred times the price. Default basic."`
	Keep       Duration          `yaml:"keep,omitempty" json:"keep,omitempty" doc:"How long applied writes stay in the log. Default 10m."`
}

// Streams says where JetStream is, which holds the write queue and the events.
// Default: embedded, this node alone.
type Streams struct {
	Listen   string   `yaml:"listen,omitempty" json:"listen,omitempty" doc:"host:port of this node's embedded JetStream for its peers."`
	Peers    []string `yaml:"peers,omitempty" json:"peers,omitempty" doc:"host:port of the embedded JetStream of all three nodes."`
	Secret   string   `yaml:"secret,omitempty" json:"secret,omitempty" doc:"Reference to the secret that all nodes share: file:PATH or env:NAME."`
	URLs     []string `yaml:"urls,omitempty" json:"urls,omitempty" doc:"An external JetStream to use instead of the embedded one."`
	Creds    string   `yaml:"credentials,omitempty" json:"credentials,omitempty" doc:"File with its credentials."`
	Replicas int      `yaml:"replicas,omitempty" json:"replicas,omitempty" doc:"On how many nodes a write is stored, 1 or 3. Default: 3 where there are three peers, else 1."`
}

func (f *File) checkQueue(c *checker) {
	if q := f.Queue; q != nil {
		if q.User == "" {
			c.at("$.queue.user", "the account that applies writes is missing")
		}
		c.reference("$.queue.password", q.Password)
		if q.RuleSet != "" && q.RuleSet != "basic" && q.RuleSet != "full" {
			c.at("$.queue.rule_set", "basic or full, not %q", q.RuleSet)
		}
		if _, err := queue.NewOperations(q.Operations); err != nil {
			c.at("$.queue.operations", "%v", err)
		}
	}
	s := f.Streams
	if n := len(s.Peers); n != 0 && n != 3 && n != 5 {
		c.at("$.streams.peers", "three or five nodes, not %d", n)
	}
	for i, p := range s.Peers {
		c.address(fmt.Sprintf("$.streams.peers[%d]", i), p)
	}
	if len(s.Peers) > 0 {
		if s.Listen == "" {
			c.at("$.streams", "listen is missing: where peers reach this node")
		}
		c.reference("$.streams.secret", s.Secret)
		if len(s.URLs) > 0 {
			c.at("$.streams", "either peers of the embedded JetStream or urls of an external one, not both")
		}
	}
	if s.Replicas != 0 && s.Replicas != 1 && s.Replicas != 3 {
		c.at("$.streams.replicas", "1 or 3, not %d", s.Replicas)
	}
}
