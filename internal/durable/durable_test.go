package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/perdure/perdure/internal/durable"
)

func TestReplaceMakesAllOfItTheContentOrNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for _, text := range []string{"first and long", "second", ""} {
		if err := durable.Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || string(got) != text || info.Mode().Perm() != 0o600 {
			t.Errorf("%q %v %v", got, info.Mode(), err)
		}
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(path, []byte("third")); err == nil {
		t.Error("there was no way to write it")
	}
	if got, err := os.ReadFile(path); err != nil || len(got) != 0 {
		t.Errorf("it changed: %q %v", got, err)
	}
}
