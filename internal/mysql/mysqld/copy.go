package mysqld

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Copy copies a data directory whose server is down. The copy gets an identity
// of its own at its first start: server_uuid is not copied. On failure nothing
// is left behind.
func Copy(ctx context.Context, from, to string) (err error) {
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("copy %s: %s exists already", from, to)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("copy %s to %s: %w", from, to, err), os.RemoveAll(to))
		}
	}()
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case !entry.Type().IsRegular() || regrown(relative):
			return nil
		}
		return copyFile(path, target)
	})
}

// regrown are the files a server makes anew when it does not find them, and its
// identity. Temporary tablespaces and the doublewrite buffer are emptied at each
// start anyway.
func regrown(relative string) bool {
	base := filepath.Base(relative)
	return relative == "auto.cnf" || relative == "ibtmp1" || filepath.Dir(relative) == "#innodb_temp" ||
		strings.HasSuffix(base, ".pid") || strings.HasSuffix(base, ".lock")
}

// copyFile keeps the file for its owner only, whatever its mode was.
func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm()&0o700)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	return copyData(dst, src, info.Size())
}
