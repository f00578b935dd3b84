// Package api holds what travels between the daemon and those who call it: the
// desired cluster, requests and answers, as plain structs. The command line,
// the HTTP server and the Go client share them.
package api

import "github.com/perdure/perdure/internal/topology"

// Spec is the cluster somebody wants: the part of perdure.yaml that every node
// agrees on.
type Spec struct {
	Cluster string   `json:"cluster" yaml:"cluster" doc:"Name of the cluster: lower-case letters, digits, dashes."`
	Group   Group    `json:"group" yaml:"group" doc:"Settings of the replication group."`
	Members []Member `json:"members" yaml:"members" doc:"The MySQL servers, one to nine."`
}

// Group is what is the same on every member.
type Group struct {
	Mode              topology.Mode `json:"mode,omitempty" yaml:"mode,omitempty" enum:"multi-primary,single-primary" doc:"Who accepts writes: every member, or one. Default multi-primary. Can be switched online."`
	Consistency       string        `json:"consistency,omitempty" yaml:"consistency,omitempty" enum:"EVENTUAL,BEFORE_ON_PRIMARY_FAILOVER,BEFORE,AFTER,BEFORE_AND_AFTER" doc:"group_replication_consistency. Default BEFORE_ON_PRIMARY_FAILOVER."`
	FlowControl       string        `json:"flow_control,omitempty" yaml:"flow_control,omitempty" enum:"QUOTA,DISABLED" doc:"Whether fast members wait for slow ones. Default QUOTA."`
	FlowThreshold     int           `json:"flow_threshold,omitempty" yaml:"flow_threshold,omitempty" minimum:"0" maximum:"2147483647" doc:"Waiting transactions of a member before flow control acts. Default 25000."`
	TransactionLimit  int           `json:"transaction_limit,omitempty" yaml:"transaction_limit,omitempty" minimum:"0" maximum:"2147483647" doc:"Largest transaction in bytes. Default 150000000."`
	ExpelTimeout      *int          `json:"expel_timeout,omitempty" yaml:"expel_timeout,omitempty" minimum:"0" maximum:"3600" doc:"Seconds the group waits before it expels a silent member, after the 5 it takes to notice. Default 5."`
	PaxosSingleLeader bool          `json:"paxos_single_leader,omitempty" yaml:"paxos_single_leader,omitempty" doc:"In single-primary mode, let only the primary lead the consensus: a dead secondary then costs nothing. Takes a stop and start of the whole group."`
	CompleteHistory   bool          `json:"complete_history,omitempty" yaml:"complete_history,omitempty" doc:"Everything in the first member came through its binary log, so that new members may replay it instead of being cloned."`
	Sites             int           `json:"sites,omitempty" yaml:"sites,omitempty" minimum:"0" maximum:"16" doc:"For how many sites of nine members auto-increment values are planned. Default 3, a step of 27."`
	Site              int           `json:"site,omitempty" yaml:"site,omitempty" minimum:"0" maximum:"16" doc:"Which of those sites this is, from 1. Default 1."`
	SSLMode           string        `json:"ssl_mode,omitempty" yaml:"ssl_mode,omitempty" enum:"REQUIRED,VERIFY_CA,VERIFY_IDENTITY" doc:"TLS between members. Default REQUIRED: encrypted; VERIFY_* also checks the other side's certificate against the server's ssl_ca."`
	Allowlist         string        `json:"ip_allowlist,omitempty" yaml:"ip_allowlist,omitempty" doc:"Who may open group connections: group_replication_ip_allowlist. Default AUTOMATIC, the private networks of the host."`
}

// Member is one MySQL server.
type Member struct {
	Name         string `json:"name" yaml:"name" doc:"Short name, unique in the cluster."`
	Address      string `json:"address" yaml:"address" doc:"host:port of the MySQL protocol."`
	GroupAddress string `json:"group_address,omitempty" yaml:"group_address,omitempty" doc:"host:port for the group's own traffic. Default: the same host, port times ten plus one."`
	Zone         string `json:"zone,omitempty" yaml:"zone,omitempty" doc:"Failure domain inside the site; no zone should hold the majority."`
	Weight       int    `json:"weight,omitempty" yaml:"weight,omitempty" minimum:"0" maximum:"100" doc:"Preference as primary in single-primary mode. Default 50."`
}
