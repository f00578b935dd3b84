// Package check answers one question: is this server, and is this schema, fit
// for Group Replication? It only looks. Nothing it does changes a server.
//
// Server looks at one server: its version, the settings the group needs or
// without which acknowledged data can be lost, its plugins, and the grants of
// the account we use. Compare holds what several servers said against each
// other. Schema walks over all tables and names each one that a group would
// refuse, with the reason and the statement that repairs it.
//
// Group Replication itself tells very little: it takes CREATE TABLE, refuses
// the first INSERT with error 3098, and writes the reason only to its error
// log. So what it refuses is spelled out here and proved in the tests against
// a real member.
package check

// Severity says what a finding means for a group.
type Severity string

const (
	// Refuses: Group Replication will not start, or will refuse the table, or
	// the members will diverge. Somebody has to change it first.
	Refuses Severity = "refuses"
	// Warns: the group works. It may lose data in a crash, be slower than it
	// should, or hold a surprise; or it is a thing that setting up the group
	// changes by itself.
	Warns Severity = "warns"
)

// Finding is one thing that was found.
type Finding struct {
	Member   string   `json:"member"`
	Kind     string   `json:"kind"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`       // the setting, grant, plugin, or schema.table
	Text     string   `json:"text"`          // one or two sentences for a person
	SQL      string   `json:"sql,omitempty"` // what repairs it on that member, "" if no SQL can
}

// Kinds of finding about one server.
const (
	Version         = "version"            // not MySQL, or too old
	Setting         = "setting"            // a setting Group Replication insists on
	Durability      = "durability"         // a setting with which a crash loses commits
	Advice          = "advice"             // a setting that is allowed and unwise
	ReadOnlyAtStart = "read-only-at-start" // a restart would take writes before the group takes it back
	ServerID        = "server-id"          // server_id not set
	Plugin          = "plugin"             // a plugin is missing or not active
	Grant           = "grant"              // our account lacks a right
)

// Kinds of finding about servers held against each other.
const (
	Drift         = "drift"          // a setting that must be, or better is, the same everywhere
	MixedVersions = "mixed-versions" // not all servers run the same version
	SameServerID  = "same-server-id" // two servers with one server_id
	SameUUID      = "same-uuid"      // two servers with one server_uuid
	AutoIncrement = "auto-increment" // two members hand out the same auto-increment values
)

// Kinds of finding about a schema.
const (
	NoPrimaryKey = "no-primary-key" // neither a primary key nor a unique key that can stand in for it
	Engine       = "engine"         // the table's engine is not InnoDB
	ForeignKey   = "foreign-key"    // a foreign key that changes rows by itself
	LargeTable   = "large-table"    // one statement over the table can exceed the transaction limit
)
