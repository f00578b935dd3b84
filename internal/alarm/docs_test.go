package alarm

import (
	"os"
	"strings"
	"testing"
)

// The page for operators explains every alarm that is built in.
func TestEveryBuiltInAlarmIsExplained(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Builtin {
		if !strings.Contains(string(b), "| `"+r.Name+"` | "+string(r.Severity)+" |") {
			t.Errorf("docs/events.md has no line for %s (%s) that says why its limits are what they are", r.Name, r.Severity)
		}
	}
}
