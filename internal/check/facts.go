package check

import (
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql"
)

// Facts is what Server read, so that nobody has to ask again.
type Facts struct {
	Member      string        `json:"member"`
	Address     string        `json:"address"`
	Version     mysql.Version `json:"version"`
	VersionText string        `json:"version_text"` // @@version and @@version_comment
	RDS         bool          `json:"rds,omitempty"`
	UUID        string        `json:"uuid"`
	ServerID    uint32        `json:"server_id"`
	Executed    gtid.Set      `json:"executed"`
	Purged      gtid.Set      `json:"purged"`

	// Schemas and Tables count what belongs to users, as far as our account may
	// see it.
	Schemas int `json:"schemas"`
	Tables  int `json:"tables"`

	// Variables holds every variable this package judges and all of
	// group_replication_*. A name the server does not know is missing.
	Variables map[string]string `json:"variables"`
	// Sources says where a variable's value came from: COMPILED, EXPLICIT,
	// PERSISTED, DYNAMIC and so on. Persisted is what mysqld-auto.cnf holds.
	Sources   map[string]string `json:"sources"`
	Persisted map[string]string `json:"persisted"`
	// Plugins maps the plugins we need to their status; a missing one is not
	// installed.
	Plugins map[string]string `json:"plugins"`

	Account     string   `json:"account"`          // as the server knows us: user@host
	ActiveRoles string   `json:"active_roles"`     // "NONE" or a list
	Roles       []string `json:"roles,omitempty"`  // granted to the account, active or not
	GrantLines  []string `json:"grants,omitempty"` // SHOW GRANTS, active roles included

	// State is the server's own row in its membership table, "" if it has none
	// or the account may not read it.
	State string `json:"state,omitempty"`
}

// InGroup tells whether the server takes part in a group now, by its own word.
func (f Facts) InGroup() bool {
	return slices.Contains([]string{"ONLINE", "RECOVERING"}, f.State)
}

// is tells whether the variable has the value, in any case and in either way
// of writing a boolean.
func (f Facts) is(name, value string) bool {
	return sameValue(f.Variables[name], value)
}

func sameValue(a, b string) bool {
	return normal(a) == normal(b)
}

func normal(v string) string {
	switch v = strings.ToUpper(v); v {
	case "1", "TRUE", "YES":
		return "ON"
	case "0", "FALSE", "NO":
		return "OFF"
	}
	return v
}
