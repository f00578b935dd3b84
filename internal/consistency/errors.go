package consistency

import (
	"database/sql/driver"
	"errors"
	"slices"

	"github.com/perdure/perdure/internal/mysql"
)

// badConn makes the pool throw a connection away.
type badConn struct{}

func (badConn) Error() string   { return "not to be used again" }
func (badConn) Is(e error) bool { return e == driver.ErrBadConn }

// lost tells whether the member, not the statement, failed.
func lost(err error) bool { return err != nil && mysql.Number(err) == 0 }

func number(err error, numbers ...int) bool {
	n := mysql.Number(err)
	return slices.Contains(numbers, n)
}

// slow: the server ended the statement at its time limit.
func slow(err error) bool { return number(err, 3024, 1317) }

// busy: a lock or a schema change stood in the way; soon it will not.
func busy(err error) bool { return number(err, 1205, 3572, 1412, 1213, 1180, 1615) }

// denied: the account may not read it.
func denied(err error) bool { return number(err, 1044, 1142, 1143, 1370) }

// missing: the table is not there.
func missing(err error) bool { return number(err, 1146, 1049, 1109) }

// changed: the table is not as it was described.
func changed(err error) bool { return missing(err) || number(err, 1054, 1176, 1072) }

// errChanged ends the work on a table that is not as it was described.
var errChanged = errors.New("the table was changed meanwhile")
