package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Secret reads what a reference (file:PATH or env:NAME) leads to. A file that
// others can read is refused. PATH may be relative to the configuration file.
func (f *File) Secret(reference string) (string, error) {
	kind, rest, _ := strings.Cut(reference, ":")
	switch kind {
	case "env":
		v, ok := os.LookupEnv(rest)
		if !ok || v == "" {
			return "", mistake("the environment has no %s, which the configuration refers to", rest)
		}
		return v, nil
	case "file":
		if !filepath.IsAbs(rest) && f.path != "" {
			rest = filepath.Join(filepath.Dir(f.path), rest)
		}
		st, err := os.Stat(rest)
		if err != nil {
			return "", mistake("read the secret: %v", err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			return "", mistake("the secret in %s can be read by others (mode %04o): chmod 600 %s", rest, st.Mode().Perm(), rest)
		}
		b, err := os.ReadFile(rest) //nolint:gosec // the configuration names it
		if err != nil {
			return "", mistake("read the secret: %v", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	return "", fmt.Errorf("a secret is named by file:PATH or env:NAME")
}
