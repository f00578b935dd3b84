package proxy

import "strings"

// pins are the reasons why a session has to stay where it is.
type pins uint32

const (
	pinVariable   pins = 1 << iota // a user variable only the server knows the value of
	pinTemporary                   // temporary tables
	pinLock                        // GET_LOCK and its kin
	pinTables                      // LOCK TABLES, FLUSH ... WITH READ LOCK
	pinPrepare                     // PREPARE in text
	pinHandler                     // HANDLER
	pinSetting                     // a variable we do not carry
	pinTracks                      // the client tracks its session itself
	pinCredential                  // no password to open another connection with
	pinCursor                      // an open cursor
	pinLongData                    // parameters sent ahead
	pinNextTrx                     // SET TRANSACTION for the next one
	pinInstance                    // LOCK INSTANCE
	pinCall                        // a stored procedure may have left anything
	pinXA                          // XA
	pinLarge                       // a statement too large to be read
	pinTunnel                      // replication, clone or an unknown command
	pinAnswer                      // warnings or row counts may still be asked for
	pinUnknown                     // the server reported a change we cannot name
)

// brief are the pins that one later command takes away.
const brief = pinAnswer

// resolvable are the pins that a planned move can clear by asking the server.
const resolvable = pinVariable

var pinNames = []string{
	"user-variable", "temporary-table", "user-lock", "locked-tables", "text-prepare", "handler",
	"setting", "session-tracking", "no-credential", "cursor", "long-data", "next-transaction",
	"locked-instance", "procedure", "xa", "large-statement", "tunnel", "answer", "unknown-change",
}

// Names lists the reasons in words.
func (p pins) Names() []string {
	var out []string
	for i, n := range pinNames {
		if p&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

func (p pins) String() string { return strings.Join(p.Names(), ",") }
