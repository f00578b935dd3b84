package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// typePrefix makes a kind a CloudEvents type.
const typePrefix = "perdure."

// ContentType is the media type of an Event's JSON.
const ContentType = "application/cloudevents+json"

// cloud is a CloudEvent 1.0 in structured JSON. Names of extensions may have
// lower-case letters and digits only.
type cloud struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"`
	Time        time.Time `json:"time,omitzero"`
	DataType    string    `json:"datacontenttype,omitempty"`
	Severity    Severity  `json:"severity,omitempty"`
	Cluster     string    `json:"cluster,omitempty"`
	Node        string    `json:"node,omitempty"`
	Member      string    `json:"member,omitempty"`
	Data        data      `json:"data"`
}

type data struct {
	Text   string            `json:"text,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Facts  map[string]string `json:"facts,omitempty"`
}

// MarshalJSON writes the event as a CloudEvent.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(cloud{
		SpecVersion: "1.0", ID: e.ID, Source: "/perdure/" + e.Cluster + "/" + e.Node, Type: typePrefix + string(e.Kind),
		Subject: e.Subject, Time: e.Time, DataType: "application/json",
		Severity: e.Severity, Cluster: e.Cluster, Node: e.Node, Member: e.Member,
		Data: data{Text: e.Text, Labels: e.Labels, Facts: e.Facts},
	})
}

// UnmarshalJSON reads a CloudEvent that MarshalJSON could have written. Unknown
// attributes are ignored: a newer node may have added them.
func (e *Event) UnmarshalJSON(b []byte) error {
	var c cloud
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	kind, ours := strings.CutPrefix(c.Type, typePrefix)
	switch {
	case c.SpecVersion != "1.0":
		return fmt.Errorf("read event: specversion %q is not 1.0", c.SpecVersion)
	case c.ID == "":
		return fmt.Errorf("read event: it has no id")
	case !ours || kind == "":
		return fmt.Errorf("read event: type %q does not begin with %s", c.Type, typePrefix)
	}
	*e = Event{
		ID: c.ID, Time: c.Time, Kind: Kind(kind), Severity: c.Severity, Cluster: c.Cluster, Node: c.Node,
		Subject: c.Subject, Member: c.Member, Text: c.Data.Text, Labels: c.Data.Labels, Facts: c.Data.Facts,
	}
	return nil
}
