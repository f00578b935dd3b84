package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/access"
)

// Whoever adds a route says who may use it, in the document that everybody
// reads. What is forgotten needs an administrator, and fails here.
func TestEveryRouteSaysWhichRoleItNeeds(t *testing.T) {
	t.Parallel()
	s := New(Config{Version: "test", Metrics: prometheus.NewRegistry()})
	said := map[string]string{}
	for _, o := range s.Operations() {
		said[o.Method+" "+o.Path] = string(o.Role)
	}
	for _, pattern := range s.Routes() {
		role, there := said[pattern]
		switch {
		case slices.Contains(described, pattern):
		case !there:
			t.Errorf("%s is not in the OpenAPI document: register it with handle and a summary", pattern)
		case !slices.Contains([]access.Role{access.Nobody, access.Writer, access.Viewer, access.Operator, access.Admin}, access.Role(role)):
			t.Errorf("%s needs the role %q, which is none", pattern, role)
		case s.roles[pattern] != access.Role(role):
			t.Errorf("%s is said to need %s, and the server asks for %s", pattern, role, s.roles[pattern])
		}
		delete(said, pattern)
	}
	for pattern := range said {
		t.Errorf("the OpenAPI document describes %s, which is no route", pattern)
	}
}

// open are the routes that a stranger may use; all of them say little.
var open = []string{"GET /livez", "GET /readyz", "GET /health/writer", "GET /health/reader"}

// harmless are what a viewer may POST: nothing is changed by it.
var harmless = []string{"POST /v1/rules/test"}

// The roles are not only said but make sense: nobody but an operator changes
// anything, and secrets of others are an administrator's.
func TestRolesFollowTheirRule(t *testing.T) {
	t.Parallel()
	s := New(Config{Version: "test", Metrics: prometheus.NewRegistry()})
	for _, o := range s.Operations() {
		route := o.Method + " " + o.Path
		part := access.Part(o.Path)
		switch {
		case slices.Contains(open, route):
			if o.Role != access.Nobody {
				t.Errorf("%s needs %s; load balancers and watchdogs have no token", route, o.Role)
			}
		case o.Role == access.Nobody:
			t.Errorf("%s is open to strangers", route)
		case part == "tokens" || part == "audit":
			if o.Role != access.Admin {
				t.Errorf("%s needs %s, not an administrator", route, o.Role)
			}
		case part == "writes":
			if o.Role != access.Writer {
				t.Errorf("%s needs %s, not a writer", route, o.Role)
			}
		case o.Method != "GET" && !slices.Contains(harmless, route):
			if !slices.Contains([]access.Role{access.Operator, access.Admin}, o.Role) {
				t.Errorf("%s changes something and needs only the role %s", route, o.Role)
			}
		}
		if o.Summary == "" || strings.HasSuffix(o.Summary, ".") {
			t.Errorf("%s has the summary %q", route, o.Summary)
		}
	}
}
