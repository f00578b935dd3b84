// Package mysqltest gives tests real MySQL servers.
//
//	func TestMain(m *testing.M) { mysqltest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		members := mysqltest.Start(t, 3)
//		db := members[0].Root(t)
//		…
//	}
//
// Start gives servers that are up, read-only and in no group, each with the same
// three accounts. They are copies of one data directory that is made once in a
// test process. When the test ends they are killed and their files removed; when
// it failed, the tail of each error log is printed before.
//
// On a machine without a fit server a test is skipped; where CI or
// PERDURE_REQUIRE_MYSQL is set it fails.
package mysqltest
