package arch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api/server"
)

func TestAPIReferenceSaysWhichRoleEachRouteNeeds(t *testing.T) {
	t.Parallel()
	s := server.New(server.Config{Version: "docs", Metrics: prometheus.NewRegistry()})
	var page strings.Builder
	last := ""
	for _, o := range s.Operations() {
		part := access.Part(o.Path)
		if part != last {
			if last != "" {
				page.WriteString("\n")
			}
			fmt.Fprintf(&page, "| `%s` | role | what it does |\n|---|---|---|\n", part)
			last = part
		}
		fmt.Fprintf(&page, "| `%s %s` | %s | %s |\n", o.Method, o.Path, o.Role, strings.ReplaceAll(o.Summary, "|", "\\|"))
	}
	page.WriteString("\n")
	generated(t, "api.md", page.String())
}
