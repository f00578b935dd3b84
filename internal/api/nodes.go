package api

import "time"

// Node is one node of a cluster.
type Node struct {
	Name    string    `json:"name"`
	Address string    `json:"address,omitempty" doc:"host:port for its peers; empty for a node that is alone."`
	Streams string    `json:"streams,omitempty" doc:"host:port for its peers' streams."`
	API     string    `json:"api,omitempty" doc:"host:port of its API."`
	State   string    `json:"state" enum:"up,silent,joining,leaving" doc:"up: it answers the node that answers you."`
	Since   time.Time `json:"since,omitzero" doc:"Since when the node that answers sees it so."`
	Votes   bool      `json:"votes" doc:"It counts for the majority of the control store."`
	Acts    bool      `json:"acts,omitempty" doc:"It holds the lease: it heals, and carries out plans."`
	Copies  string    `json:"copies,omitempty" doc:"How its streams are, where that is not as it should be."`
}

// Nodes are the nodes of a cluster as one of them sees them.
type Nodes struct {
	Node    string `json:"node" doc:"The node that answers."`
	Quorum  bool   `json:"quorum" doc:"The control store has a majority: plans, healing and settings work."`
	Summary string `json:"summary" doc:"One sentence: what the nodes can still lose, and what to do next."`
	Level   string `json:"level" enum:"ok,degraded,down"`
	Nodes   []Node `json:"nodes"`
	Managed bool   `json:"managed" doc:"Nodes come and go by command. False where perdure.yaml lists them."`
}

// Invite asks for a join token.
type Invite struct {
	Lasts   string `json:"lasts,omitempty" doc:"How long it works, such as 1h. Default 1h, at most 168h."`
	Instead string `json:"instead,omitempty" doc:"The node whose place the new one takes; it must not answer any more."`
}

// Invitation is a join token. It works once.
type Invitation struct {
	Token   string    `json:"token" doc:"This answer is the only time it is shown."`
	Expires time.Time `json:"expires"`
	Instead string    `json:"instead,omitempty"`
}

// Join asks to be let in. It is sent by the new node.
type Join struct {
	Secret  string `json:"secret" doc:"Of the join token."`
	Cluster string `json:"cluster"`
	Name    string `json:"name"`
	Address string `json:"address" doc:"host:port for its peers."`
	Streams string `json:"streams" doc:"host:port for its peers' streams."`
	API     string `json:"api" doc:"host:port of its API."`
}

// Joined is what a node that was let in needs to begin. It holds secrets.
type Joined struct {
	Cluster string `json:"cluster"`
	Slot    int    `json:"slot"`
	Nodes   []Node `json:"nodes" doc:"Of the control store, the new one included."`
	CA      string `json:"ca" doc:"The cluster's authority, PEM."`
	CAKey   string `json:"ca_key" doc:"Its key, PEM: every node issues its own certificates."`
	Secret  string `json:"secret" doc:"Shared by the nodes' streams."`
	Keys    string `json:"keys,omitempty" doc:"The keys of the write queue's log, as its file has them."`
}
