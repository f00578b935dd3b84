package queue_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// disk is a file system of its own, on which a test may do what it must not do
// to the machine's: fill it up, or take its power away.
type disk struct {
	image, dir string
}

// newDisk mounts one at dir. The error says why this machine cannot.
func newDisk(t testing.TB, dir string, size int64) (*disk, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil, errors.New("mounting a file system needs root")
	}
	d := &disk{image: dir + ".img", dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	if err := d.mount(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := d.unmount(); err != nil {
			t.Error(err)
		}
	})
	return d, nil
}

func (d *disk) mount() error {
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	return nil
}

func (d *disk) unmount() error {
	var out []byte
	var err error
	for range 100 { // a killed process lets go of its files a little later
		if out, err = exec.Command("umount", d.dir).CombinedOutput(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("umount %s: %w: %s", d.dir, err, out)
}

// cut drops all that is not on the disk: dirty pages and what the journal has
// not flushed. Whoever wrote must be dead already: the kernel answers 0 to an
// fsync on a file system that is being shut down, and such an answer would be
// an acknowledgement that no real power failure could have let out.
func (d *disk) cut() error {
	const (
		ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
		noLogFlush   = 2
	)
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	flags := uint32(noLogFlush)
	_, _, no := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags)))
	if err := f.Close(); err != nil {
		return err
	}
	if no != 0 {
		return fmt.Errorf("this kernel does not shut file systems down: %w", no)
	}
	for range 100 {
		if err := errors.Join(d.unmount(), d.mount()); err != nil {
			return err
		}
		if err = d.works(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the file system that was cut is still there: somebody's mount name space holds it: %w", err)
}

// works: a file system that another mount name space still holds is not let go
// of, and mounting it again gives back the one that was shut down.
func (d *disk) works() error {
	name := filepath.Join(d.dir, "probe")
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), os.Remove(name))
}

// fill leaves that many bytes free, and returns how to make room again.
func (d *disk) fill(leave int64) (empty func() error, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &fs); err != nil {
		return nil, err
	}
	name := filepath.Join(d.dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	for n := int64(fs.Bavail)*fs.Bsize - leave; n > 0; n -= 1 << 20 {
		// The node writes meanwhile: what is left is taken piece by piece.
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err == nil {
			break
		}
	}
	return func() error { return errors.Join(f.Close(), os.Remove(name)) }, nil
}
