package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/perdure/perdure"

// pkg is what the go command says about one of our packages.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string

	name string // as in floors: without the module and internal/
}

// ours returns our packages among imports, by the names they have in floors.
func (pkg) ours(imports []string) []string {
	var out []string
	for _, path := range imports {
		if path == modulePath || strings.HasPrefix(path, modulePath+"/") {
			out = append(out, short(path))
		}
	}
	return out
}

func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, modulePath+"/"), "internal/")
}

// root is the directory of the module.
func root(t testing.TB) string {
	t.Helper()
	return filepath.Dir(strings.TrimSpace(string(goCommand(t, "env", "GOMOD"))))
}

func goCommand(t testing.TB, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		var said string
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			said = string(e.Stderr)
		}
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return out
}

var listed struct {
	once sync.Once
	all  []pkg
	err  error
}

// packages lists all packages of the module. It is asked once.
func packages(t testing.TB) []pkg {
	t.Helper()
	listed.once.Do(func() {
		out := goCommand(t, "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", modulePath+"/...")
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var p pkg
			if err := d.Decode(&p); err != nil {
				if !errors.Is(err, io.EOF) {
					listed.err = err
				}
				return
			}
			p.name = short(p.ImportPath)
			listed.all = append(listed.all, p)
		}
	})
	if listed.err != nil || len(listed.all) == 0 {
		t.Fatal("go list gave nothing to look at: ", listed.err)
	}
	return listed.all
}
