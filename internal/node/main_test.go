package node_test

import (
	"os"
	"testing"

	"github.com/perdure/perdure/internal/mysqltest"
)

// The test binary is also the node that tests kill: see child_test.go and
// daemon_test.go.
func TestMain(m *testing.M) {
	if file := os.Getenv(childFile); file != "" {
		os.Exit(serveUntilKilled(file, os.Getenv(childMarks)))
	}
	if file := os.Getenv(daemonFile); file != "" {
		os.Exit(serveDaemon(file))
	}
	mysqltest.Main(m)
}
