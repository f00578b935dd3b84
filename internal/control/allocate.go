package control

import (
	"errors"
	"os"
	"syscall"
)

// How allocate treats the size of a file: it follows the blocks, or stays as it is.
const (
	growSize = 0
	keepSize = 1 // FALLOC_FL_KEEP_SIZE
)

// allocate gives a file its blocks.
func allocate(path string, flags int, mode uint32, size int64) error {
	f, err := os.OpenFile(path, flags, 0o600) //nolint:gosec // in the store's directory
	if err != nil {
		return err
	}
	err = syscall.Fallocate(int(f.Fd()), mode, 0, size)
	return errors.Join(err, f.Close())
}
