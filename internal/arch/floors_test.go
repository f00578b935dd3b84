package arch

import (
	"slices"
	"strings"
	"testing"
)

// floors are the floors of the house, the lowest first. A package imports from
// floors below its own; packages on one floor do not know each other. What one
// duty needs from another it describes as an interface of its own, and node
// plugs them together. docs/architecture.md draws the same house.
var floors = [][]string{
	0: { // words and small tools: the standard library and nothing else
		"gtid", "topology", "event", "state", "api",
		"run", "pause", "durable", "pki", "arch",
	},
	1: { // hands: each touches one thing
		"mysql", "mysql/wire", "mysql/lexer", "mysql/mysqld", "client", "dash", "envelope",
	},
	2: { // senses, and what duties share
		"lease", "watch", "route", "outcome", "check", "advise", "plan", "access", "auditlog",
	},
	3: { // duties
		"group", "proxy", "queue", "site", "vault", "alarm", "rule", "hook", "drill", "consistency", "schedule", "peers",
	},
	4: { // sockets to the outside
		"control", "jet", "bucket", "notify", "trace", "api/server",
	},
	5: {"config"},
	6: {"node"},
	7: {"playground"},
	8: {"cmd/perdure"},
}

// neighbours are the imports between packages of one floor that we allow, each
// with its reason.
var neighbours = map[string]string{
	"topology -> gtid":  "a server's report holds GTID sets",
	"api -> topology":   "the view travels as it is; a copy of its structs would drift",
	"api/server -> jet": "it lists and follows the stream of events as it lies there",
}

// Test kits hold what several packages' tests share. Their names end in "test".
// Any test may import them; they import from the floors 0 and 1, so that tests
// of the lowest floors can use them too.
func isKit(name string) bool { return strings.HasSuffix(name, "test") }

const topFloorOfKits = 1

func floorOf(name string) (int, bool) {
	for n, names := range floors {
		if slices.Contains(names, name) {
			return n, true
		}
	}
	return 0, false
}

func TestEveryPackageHasOneFloor(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if _, ok := floorOf(p.name); !ok && !isKit(p.name) {
			t.Errorf("package %s has no floor: put it into floors in internal/arch/floors_test.go and into docs/architecture.md", p.name)
		}
	}
	seen := map[string]int{}
	for n, names := range floors {
		for _, name := range names {
			if other, twice := seen[name]; twice {
				t.Errorf("package %s is on floor %d and on floor %d", name, other, n)
			}
			seen[name] = n
		}
	}
}

func TestImportsOnlyPointDown(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, p := range packages(t) {
		floor, known := floorOf(p.name)
		if !known && !isKit(p.name) {
			continue // said by the test above
		}
		for _, to := range p.ours(p.Imports) {
			below, ok := floorOf(to)
			switch pair := p.name + " -> " + to; {
			case isKit(to) && !isKit(p.name):
				t.Errorf("%s imports the test kit %s outside of its tests: test code must not reach the binary", p.name, to)
			case isKit(to) || !ok:
			case isKit(p.name) && below > topFloorOfKits:
				t.Errorf("the test kit %s imports %s on floor %d: then tests down there could not use it", p.name, to, below)
			case isKit(p.name):
			case below > floor:
				t.Errorf("%s (floor %d) imports %s (floor %d): imports only point down; let %s describe what it needs as an interface", p.name, floor, to, below, p.name)
			case below == floor && neighbours[pair] == "":
				t.Errorf("%s imports its neighbour %s (floor %d): let it describe what it needs as an interface, or give a reason in neighbours", p.name, to, floor)
			case below == floor:
				used[pair] = true
			}
		}
	}
	for pair := range neighbours {
		if !used[pair] {
			t.Errorf("nobody needs the exception %q any more: remove it from neighbours", pair)
		}
	}
}
