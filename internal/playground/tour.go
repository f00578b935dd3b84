package playground

import (
	"fmt"
	"path/filepath"
	"strings"
)

// tour prints what to do next, ready to be copied.
func (p *play) tour(e Endpoints) {
	me := "perdure --config " + filepath.Join(p.Dir, "perdure.yaml")
	last := e.Members[len(e.Members)-1]
	client, err := p.binary.Tool("mysql")
	if err != nil {
		client = "mysql"
	}
	lines := []string{
		"",
		"A real Group Replication cluster is running. Look at it from another terminal, and connect through the proxy:",
		"",
		"  " + me + " status",
		fmt.Sprintf("  MYSQL_PWD=%s %s --protocol=tcp -h 127.0.0.1 -P %s -u %s %s", e.Password, client, port(e.Proxy.RW), e.User, e.Database),
		"",
		"Kill a member and read the story as it is told (its service manager starts it again after three seconds; Ctrl-C ends the story):",
		"",
		fmt.Sprintf("  kill -9 %d; %s events --limit 1 --follow", last.PID, me),
		"",
		"What is wrong now, who did what and that nobody changed the record of it, and what slows the group down:",
		"",
		"  " + me + " alarms",
		"  " + me + " audit list; " + me + " audit verify",
		"  " + me + " advise",
		"",
		"Bring it back, hang it, wake it, stop and start it:",
		"",
		"  " + me + " member rejoin " + last.Name,
		fmt.Sprintf("  kill -STOP %d; sleep 2; %s status; kill -CONT %d", e.Members[0].PID, me, e.Members[0].PID),
		"  " + me + " member stop " + last.Name,
		"  " + me + " member start " + last.Name,
		"",
		"Hand in a write that is never lost and applied once, whatever you kill:",
		"",
		fmt.Sprintf(`  curl --cacert %s -H @%s \`, e.CA, filepath.Join(p.Dir, headerFile)), // a token on a command line is everybody's
		fmt.Sprintf(`    -d '{"operation":"transfer","params":{"from":1,"to":2,"cents":5},"wait":"applied"}' %s/v1/writes`, e.API),
		"  " + me + " queue status",
		"",
		"Everything else a program needs is in " + filepath.Join(p.Dir, "endpoints.json") + ". Ctrl-C ends it all.",
		"",
	}
	p.Say("%s", strings.Join(lines, "\n"))
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
