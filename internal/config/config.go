// Package config reads perdure.yaml: strictly, with every mistake named at its
// line, and all of them at once.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"github.com/perdure/perdure/internal/api"
)

// Places are where the file is looked for when nobody names it.
var Places = []string{"perdure.yaml", "/etc/perdure/perdure.yaml"}

// File is perdure.yaml.
type File struct {
	Version int          `yaml:"version" json:"version" enum:"1" doc:"Format of this file. Always 1."`
	Cluster string       `yaml:"cluster" json:"cluster" doc:"Name of the cluster: lower-case letters, digits, dashes."`
	Node    Node         `yaml:"node,omitempty" json:"node,omitempty" doc:"The node that reads this file."`
	MySQL   MySQL        `yaml:"mysql" json:"mysql" doc:"How nodes log in to the members."`
	Control Control      `yaml:"control,omitempty" json:"control,omitempty" doc:"The control store. Default: embedded, this node alone."`
	Group   api.Group    `yaml:"group,omitempty" json:"group,omitempty" doc:"Settings of the replication group."`
	Members []api.Member `yaml:"members" json:"members" doc:"The MySQL servers, one to nine."`
	Proxy   *Proxy       `yaml:"proxy,omitempty" json:"proxy,omitempty" doc:"The proxy of this node. Without this section it runs none."`
	Queue   *Queue       `yaml:"queue,omitempty" json:"queue,omitempty" doc:"The durable write queue. Without this section there is none."`
	Service Service      `yaml:"service,omitempty" json:"service,omitempty" doc:"Who starts and stops the members' servers."`
	Streams Streams      `yaml:"streams,omitempty" json:"streams,omitempty" doc:"JetStream, which holds the write queue. Default: embedded, this node alone."`
	Notice  `yaml:",inline"`
	Upkeep  `yaml:",inline"`

	path string
}

// Node is what one node needs to know about itself.
type Node struct {
	Name    string `yaml:"name,omitempty" json:"name,omitempty" doc:"Name of this node. Default: the host's name."`
	Data    string `yaml:"data,omitempty" json:"data,omitempty" doc:"Directory for what this node keeps. Default /var/lib/perdure."`
	API     string `yaml:"api,omitempty" json:"api,omitempty" doc:"host:port where the API listens. Default 127.0.0.1:7040."`
	Peer    string `yaml:"peer,omitempty" json:"peer,omitempty" doc:"host:port where the other nodes reach this one, for clusters whose nodes come by 'perdure node join'. Default: this node is alone and listens for no other."`
	Streams string `yaml:"streams,omitempty" json:"streams,omitempty" doc:"host:port where the other nodes reach this one's streams. Default: the port after that of node.peer."`
	// Names are further names the API is called by, for its certificate.
	Names []string `yaml:"names,omitempty" json:"names,omitempty" doc:"Further host names and addresses under which clients call the API."`
	Log   string   `yaml:"log,omitempty" json:"log,omitempty" enum:"text,json" doc:"Form of the log on stderr. Default: text on a terminal, else json."`
}

// MySQL is the account that nodes use on every member.
type MySQL struct {
	User     string `yaml:"user" json:"user" doc:"Account that may do what 'perdure check grants' prints."`
	Password string `yaml:"password" json:"password" doc:"Reference to its password: file:PATH or env:NAME."`
	CA       string `yaml:"ca,omitempty" json:"ca,omitempty" doc:"File with the authority that signed the members' certificates. Without it connections are encrypted and the server is not verified."`
	Server   string `yaml:"server,omitempty" json:"server,omitempty" doc:"Path of mysqld, for what starts servers itself: playground and drills. Default: found on the machine."`
}

// Service says who starts and stops the members' servers.
type Service struct {
	Restart []string `yaml:"restart,omitempty" json:"restart,omitempty" doc:"Command, word by word, that restarts the server of a member, or upgrades and restarts it; {name}, {host} and {address} stand for the member. Example: [ssh, '{host}', systemctl, restart, mysql]. Default: the server is asked to restart itself."`
}

// Control says where the control store is.
type Control struct {
	Peers     []Peer   `yaml:"peers,omitempty" json:"peers,omitempty" doc:"All nodes of the embedded store, one, three or five, this one included."`
	Endpoints []string `yaml:"endpoints,omitempty" json:"endpoints,omitempty" doc:"host:port of an external etcd to use instead."`
	User      string   `yaml:"user,omitempty" json:"user,omitempty" doc:"Account in the external etcd."`
	Password  string   `yaml:"password,omitempty" json:"password,omitempty" doc:"Reference to its password: file:PATH or env:NAME."`
	CA        string   `yaml:"ca,omitempty" json:"ca,omitempty" doc:"Authority of the peers' or the external store's certificates."`
	Cert      string   `yaml:"cert,omitempty" json:"cert,omitempty" doc:"This node's certificate towards them."`
	Key       string   `yaml:"key,omitempty" json:"key,omitempty" doc:"Its key."`
}

// Peer is one node of the embedded control store.
type Peer struct {
	Name    string `yaml:"name" json:"name" doc:"The node's name."`
	Address string `yaml:"address" json:"address" doc:"host:port for its peers."`
}

// Error is a mistake in the file or in how it was named. It is the user's to
// correct: exit code 2.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

func mistake(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Load reads the file at path, or, if path is empty, the first of Places that
// exists. All its mistakes are in the error, a *Error.
func Load(path string) (*File, error) {
	if path == "" {
		for _, p := range Places {
			if _, err := os.Stat(p); err == nil {
				path = p
				break
			}
		}
	}
	if path == "" {
		return nil, mistake("there is no configuration: neither ./%s nor %s exists\nmake one: perdure config example > perdure.yaml", Places[0], Places[1])
	}
	b, err := os.ReadFile(path) //nolint:gosec // the user named it
	if err != nil {
		return nil, mistake("read the configuration: %v", err)
	}
	f, err := Parse(b)
	if err != nil {
		return nil, mistake("%s: %v", path, err)
	}
	if f.path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	return f, nil
}

// Parse reads a file's content, fills in the defaults and checks it.
func Parse(b []byte) (*File, error) {
	var f File
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
		return nil, misread(b, err)
	}
	if found := f.check(b); len(found) > 0 {
		return nil, errors.Join(found...)
	}
	f.defaults()
	return &f, nil
}

func (f *File) defaults() {
	if f.Node.Name == "" {
		if h, err := os.Hostname(); err == nil {
			f.Node.Name = h
		}
	}
	if f.Node.Name == "" {
		f.Node.Name = "node1"
	}
	if f.Node.Data == "" {
		f.Node.Data = "/var/lib/perdure"
	}
	if f.Node.API == "" {
		f.Node.API = "127.0.0.1:7040"
	}
}

// Path is the absolute path the file was read from, "" if it was not read.
func (f *File) Path() string { return f.path }

// Spec is the part that every node agrees on.
func (f *File) Spec() api.Spec {
	return api.Spec{Cluster: f.Cluster, Group: f.Group, Members: f.Members}
}
