// Package durable writes files that are there as a whole or not at all.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace makes b the content of a file that only its owner may read. It returns
// when that would survive a loss of power; on error, or if the process ends in
// the middle, the file is as it was. Two at once on one path must not be.
func Replace(path string, b []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the caller's own file
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
