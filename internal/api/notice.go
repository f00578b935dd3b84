package api

import "time"

// Acknowledge says that somebody takes care of an alarm.
type Acknowledge struct {
	Alarm  string `json:"alarm"`
	Member string `json:"member,omitempty"`
	Note   string `json:"note,omitempty"`
}

// TestRules names an event that did not happen.
type TestRules struct {
	Kind     string `json:"kind" doc:"Such as member.crashed."`
	Member   string `json:"member,omitempty"`
	Severity string `json:"severity,omitempty" enum:"info,warning,critical"`
}

// Silence keeps messages back.
type Silence struct {
	Kinds   []string `json:"kinds,omitempty" doc:"Kinds of event, '*' for any text. Default: all."`
	Members []string `json:"members,omitempty"`
	For     string   `json:"for" doc:"A duration such as 2h."`
	Why     string   `json:"why,omitempty"`
}

// Event is one event as the API shows it: a CloudEvent with its place.
type Event struct {
	Sequence uint64 `json:"sequence"`
	Event    struct {
		ID       string    `json:"id"`
		Type     string    `json:"type"`
		Subject  string    `json:"subject"`
		Time     time.Time `json:"time"`
		Severity string    `json:"severity"`
		Member   string    `json:"member,omitempty"`
		Node     string    `json:"node,omitempty"`
		Data     struct {
			Text string `json:"text"`
		} `json:"data"`
	} `json:"event"`
}

// Alarm is where one alarm stands.
type Alarm struct {
	Rule     string    `json:"rule"`
	Member   string    `json:"member,omitempty"`
	State    string    `json:"state"`
	Since    time.Time `json:"since,omitzero"`
	Text     string    `json:"text,omitempty"`
	Severity string    `json:"severity"`
}

// Hit is what one rule says to one event.
type Hit struct {
	Rule     string   `json:"rule"`
	Matches  bool     `json:"matches"`
	Why      string   `json:"why,omitempty"`
	Notify   []string `json:"notify,omitempty"`
	Hooks    []string `json:"hooks,omitempty"`
	Silenced string   `json:"silenced,omitempty"`
}
