package mysqld

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// maxSocketPath is what fits into a socket address with its closing zero byte;
// 103 also fits on macOS.
const maxSocketPath = 103

// socketPath is mysql.sock in dir where that fits, else a short path made from
// dir, the same at every start.
func socketPath(dir string) string {
	if path := filepath.Join(dir, "mysql.sock"); len(path) <= maxSocketPath {
		return path
	}
	sum := sha256.Sum256([]byte(dir))
	short := hex.EncodeToString(sum[:6]) + ".sock"
	if path := filepath.Join(socketDir(os.TempDir()), short); len(path) <= maxSocketPath {
		return path
	}
	return filepath.Join(socketDir("/tmp"), short)
}

func socketDir(tmp string) string {
	return filepath.Join(tmp, "perdure-"+strconv.Itoa(os.Getuid()))
}

// prepareSocket makes the directory of the socket and refuses one that is not
// ours: clients would trust whoever answers there.
func prepareSocket(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if !ownedByUs(dir) {
		return fmt.Errorf("socket directory %s belongs to somebody else", dir)
	}
	return nil
}
