package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"syscall"

	driversql "github.com/go-sql-driver/mysql"
)

// Class says what an error means for work that may be tried again.
type Class int

const (
	// Fine is no error.
	Fine Class = iota
	// Transient says nothing about the statement: the server, the link, the
	// group or a lock stood in the way. Trying again later is right, for as
	// long as it takes.
	Transient
	// Lost is Transient after which nobody knows whether the last statement
	// took effect: the connection broke while its answer was awaited.
	Lost
	// Statement is the statement's own fault, or its data's: it will fail again
	// until somebody changes one of them.
	Statement
	// Schema is a Statement error that a migration, or a grant, under way would
	// explain: a table, column or right that is missing.
	Schema
	// TooLarge is refused for its size alone; smaller transactions may pass.
	TooLarge
	// Conflict came at COMMIT, or where the group certified: the transaction is
	// gone, its statements are innocent. Trying again is right; if it repeats,
	// in smaller pieces.
	Conflict
	// Unknown is an error number this list does not have.
	Unknown
)

func (c Class) String() string {
	switch c {
	case Fine:
		return "fine"
	case Transient:
		return "transient"
	case Lost:
		return "connection lost"
	case Statement:
		return "statement"
	case Schema:
		return "schema"
	case TooLarge:
		return "too large"
	case Conflict:
		return "conflict"
	}
	return "unknown"
}

// Classify sorts an error by what to do about it. It reads nothing but err.
func Classify(err error) Class {
	if err == nil {
		return Fine
	}
	if n := Number(err); n != 0 {
		return classOf(n)
	}
	return classOfLink(err)
}

// classOfLink sorts what did not come from the server.
func classOfLink(err error) Class {
	switch {
	case errors.Is(err, driversql.ErrPktTooLarge):
		return TooLarge
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return Transient // nobody listened: nothing was sent
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, driversql.ErrInvalidConn),
		errors.Is(err, driversql.ErrMalformPkt), errors.Is(err, driversql.ErrPktSync), errors.Is(err, driversql.ErrPktSyncMul),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Lost
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return Lost
	}
	return Unknown
}

func classOf(n int) Class {
	switch n {
	case
		1021, 1041, 1114, 1037, 1038, // disk or memory full
		1040, 1203, 1226, // too many connections
		1053, 1077, 1079, 3169, // going down, killed by an administrator
		1129,                   // host blocked
		1159, 1158, 1160, 1161, // network read and write
		1205, 3572, // lock wait, NOWAIT
		1206,       // lock table full
		1317, 3024, // interrupted, too slow
		1223,                   // read lock in the way
		1290, 1836, 1792, 3032, // read only, offline
		3796, 3797, 3798, // consistency level not reachable now
		1412, 1615, // definition changed under us: do it again
		4031: // idle too long
		return Transient
	case 1105: // "unknown error", as a killed plugin or proxy says
		return Transient
	case 2002, 2003, 2005: // not reached
		return Transient
	case 1927, 2006, 2013, 2014, 2027, 2055:
		return Lost
	case 1213, 1180, 3101, 1613, 1614, // deadlock, failed commit, refused by certification
		// The group's plugin refused: the transaction is larger than the group
		// takes, or the plugin is stopping. The error does not say which.
		3100:
		return Conflict
	case 1153, 1197, 3170: // packet, binlog cache, statement memory
		return TooLarge
	case
		1044, 1045, 1142, 1143, 1227, 1370, 1410, // rights
		1046, 1049, 1051, 1054, 1072, 1109, 1146, 1305, 1091, 1347, 1356, 1449: // names
		return Schema
	case
		1048, 1062, 1064, 1065, 1093, 1136, 1140, 1149, 1169,
		1216, 1217, 1222, 1241, 1242, 1264, 1265, 1292, 1294, 1299, 1329, 1364, 1365, 1366, 1369,
		1406, 1411, 1422, 1425, 1426, 1427, 1438, 1441, 1442, 1451, 1452, 1525, 1526, 1557, 1568, 1582, 1586,
		1644, 1690, 1701, 1748, 1761, 1762, 3140, 3141, 3143, 3146, 3156, 3157, 3819, 3903, 3105, 3665, 3685,
		1052, 1055, 1056, 1060, 1110, 1111, 1210, 1267, 1270, 1271, 1300, 1351, 1416, 3037, 3064, 3098:
		return Statement
	}
	return Unknown
}

// ErrTooLarge is what a caller reports that saw by itself that something
// exceeds what the server takes; Classify knows it.
var ErrTooLarge = driversql.ErrPktTooLarge
