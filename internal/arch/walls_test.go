package arch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// walls says for every library which packages may import it outside of tests.
// A library one package knows can be left by rewriting one package. Each has
// its sentence in docs/dependencies.md.
var walls = map[string][]string{
	"github.com/corazawaf/coraza-coreruleset/v4": {"queue"},
	"github.com/corazawaf/coraza/v3":             {"queue"},
	"github.com/corazawaf/libinjection-go":       {"queue"},
	"github.com/danielgtaylor/huma/v2":           {"api/server", "config"},
	"github.com/go-sql-driver/mysql":             {"mysql", "mysql/mysqld", "mysqltest", "node", "proxy", "queue"},
	"github.com/expr-lang/expr":                  {"alarm"},
	"github.com/goccy/go-yaml":                   {"config", "cmd/perdure"},
	"github.com/google/go-cmp":                   {}, // tests alone
	"github.com/google/uuid":                     {"group", "node"},
	"github.com/klauspost/compress":              {"outcome"},
	"github.com/nats-io/nats-server/v2":          {"jet"},
	"github.com/nats-io/nats.go":                 {"jet"},
	"github.com/nats-io/nuid":                    {"jet"},
	"github.com/netresearch/go-cron":             {"schedule"},
	"github.com/nicholas-fedor/shoutrrr":         {"notify"},
	"github.com/prometheus/client_golang":        {"alarm", "api/server", "consistency", "jet", "node", "proxy", "queue", "rule", "watch"},
	"github.com/prometheus/client_model":         {"alarm"},
	"github.com/rogpeppe/go-internal":            {}, // tests alone
	"github.com/spf13/cobra":                     {"cmd/perdure"},
	"go.etcd.io/etcd/api/v3":                     {"control"},
	"go.etcd.io/etcd/client/pkg/v3":              {"control"},
	"go.etcd.io/etcd/client/v3":                  {"control"},
	"go.etcd.io/etcd/server/v3":                  {"control"},
	"go.etcd.io/raft/v3":                         {"control"},
	"go.opentelemetry.io/otel":                   {"trace"},
	"go.opentelemetry.io/proto/otlp":             {}, // tests alone
	"go.uber.org/goleak":                         {}, // tests alone
	"go.uber.org/zap":                            {"control"},
	"golang.org/x/sync":                          {anybody},
	"golang.org/x/sys":                           {anybody},
	"golang.org/x/time":                          {anybody},
	"google.golang.org/grpc":                     {"control"},
}

// anybody marks what is the standard library in all but name. Floor 0 does
// without it all the same.
const anybody = "*"

func TestLibrariesAreKnownOnlyWhereTheyAreNeeded(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		floor, known := floorOf(p.name)
		for _, path := range outside(p.Imports) {
			module := moduleOf(path)
			switch {
			case module == "":
				t.Errorf("%s imports %s, a library without a wall: say in walls_test.go who may use it, and in docs/dependencies.md why", p.name, path)
			case known && floor == 0:
				t.Errorf("%s imports %s: words use the standard library and nothing else", p.name, path)
			case len(walls[module]) == 0:
				t.Errorf("%s imports %s outside of its tests", p.name, path)
			case !slices.Contains(walls[module], p.name) && !slices.Contains(walls[module], anybody):
				t.Errorf("%s imports %s, which only %s may know", p.name, path, strings.Join(walls[module], ", "))
			}
		}
	}
}

func TestEveryDependencyIsExplained(t *testing.T) {
	t.Parallel()
	page := filepath.Join(root(t), "docs", "dependencies.md")
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	explained := string(b)
	used := map[string]bool{}
	for _, p := range packages(t) {
		for _, path := range outside(slices.Concat(p.Imports, p.TestImports, p.XTestImports)) {
			module := moduleOf(path)
			if used[module] = true; module == "" {
				t.Errorf("%s uses %s, which walls_test.go does not know", p.name, path)
			}
		}
	}
	for module := range walls {
		switch {
		case !used[module]:
			t.Errorf("nobody imports %s any more: remove it from walls and from docs/dependencies.md", module)
		case !strings.Contains(explained, "`"+module+"`"):
			t.Errorf("docs/dependencies.md has no sentence about `%s`: why, and what it would cost to leave", module)
		}
	}
}

// moduleOf finds the wall of an import path, "" if there is none.
func moduleOf(path string) string {
	for module := range walls {
		if path == module || strings.HasPrefix(path, module+"/") {
			return module
		}
	}
	return ""
}

// outside returns the imports that are neither ours nor the standard library's.
func outside(imports []string) []string {
	var out []string
	for _, path := range imports {
		first, _, _ := strings.Cut(path, "/")
		if strings.Contains(first, ".") && !strings.HasPrefix(path, modulePath) {
			out = append(out, path)
		}
	}
	return out
}
