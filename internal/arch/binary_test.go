package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// budget of the program in bytes, symbols stripped as `make build` does. One
// binary for all roles is copied to many hosts and into images; a jump of a
// few megabytes is a library that nobody meant to bring in.
const budget = 60 << 20

// testOnly are import paths that betray test code in the program. (go-cmp is
// not among them: etcd's storage compares with it, outside of tests.)
var testOnly = []string{
	"testing", "net/http/httptest", "testing/synctest", "go.uber.org/goleak",
	"github.com/stretchr/testify", "pgregory.net/rapid",
}

func TestNoTestCodeReachesTheProgram(t *testing.T) {
	t.Parallel()
	for path := range strings.FieldsSeq(string(goCommand(t, "list", "-deps", modulePath+"/cmd/perdure"))) {
		if slices.Contains(testOnly, path) || strings.HasPrefix(path, modulePath) && isKit(path) {
			t.Errorf("the program contains %s, which is for tests: `go mod why %s` says through whom", path, path)
		}
	}
}

func TestTheProgramKeepsItsSizeBudget(t *testing.T) {
	t.Parallel()
	st, err := os.Stat(program(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the program has %.1f MiB of %d", float64(st.Size())/(1<<20), budget>>20)
	if st.Size() > budget {
		t.Errorf("the program has %d bytes, more than the %d it may have: find out what came in (go version -m, go list -deps), or raise the budget with a reason", st.Size(), budget)
	}
}

var built struct {
	once sync.Once
	dir  string
	said []byte
	err  error
}

// program builds the program as `make build` does, once.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "perdure-arch-"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built.dir, modulePath+"/cmd/perdure")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build, and so from its cache
		built.said, built.err = cmd.CombinedOutput()
	})
	if built.err != nil {
		t.Fatalf("build the program: %v\n%s", built.err, built.said)
	}
	return filepath.Join(built.dir, "perdure")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}
