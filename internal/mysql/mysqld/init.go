package mysqld

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Seed describes a data directory to be made.
type Seed struct {
	Binary       Binary
	DataDir      string // must not exist, or be empty
	RootPassword string // of root@localhost; required, see NewPassword
	Accounts     []Account

	// Settings that must be known when the directory is made, such as
	// innodb_page_size or lower_case_table_names.
	Settings map[string]string
}

// Init makes a data directory with the accounts of seed and no transactions in
// it: gtid_executed is empty. On failure nothing is left behind. It takes
// seconds; who needs several servers makes one directory and copies it with Copy.
func Init(ctx context.Context, seed Seed) (err error) {
	if err := seed.check(); err != nil {
		return fmt.Errorf("initialise %s: %w", seed.DataDir, err)
	}
	// Our files lie beside the data directory: mysqld wants to find it empty.
	work, err := os.MkdirTemp(filepath.Dir(seed.DataDir), ".init-")
	if err != nil {
		return fmt.Errorf("initialise %s: %w", seed.DataDir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	secrets, err := seed.write(work)
	if err != nil {
		return fmt.Errorf("initialise %s: %w", seed.DataDir, err)
	}
	logPath := filepath.Join(work, "error.log")
	cmd := exec.CommandContext(ctx, seed.Binary.Path,
		"--defaults-file="+filepath.Join(work, "my.cnf"), "--initialize-insecure")
	if err := run(cmd, logPath); err != nil {
		lines := redact(errorLines(logPath, 0), secrets)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return errors.Join(&StartError{Server: "initialise " + seed.DataDir, Err: err, Log: lines}, os.RemoveAll(seed.DataDir))
	}
	// The template of many servers must not give them all one identity.
	if err := os.Remove(filepath.Join(seed.DataDir, "auto.cnf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("initialise %s: %w", seed.DataDir, err)
	}
	return nil
}

func (s Seed) check() error {
	if s.RootPassword == "" {
		return errors.New("root needs a password")
	}
	entries, err := os.ReadDir(s.DataDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return errors.New("the directory is not empty")
	}
	return os.MkdirAll(s.DataDir, 0o700)
}

// write puts configuration and init file into work and gives back the secrets
// in them, so that they can be kept out of error messages.
func (s Seed) write(work string) (secrets []string, err error) {
	// The root account exists without password only inside the initialising
	// process, which listens nowhere; this file changes that before it ends.
	lines := []string{"ALTER USER 'root'@'localhost' IDENTIFIED BY " + quote(s.RootPassword)}
	secrets = append(secrets, s.RootPassword)
	for _, a := range s.Accounts {
		more, err := a.statements()
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
		secrets = append(secrets, a.Password)
	}
	initFile := filepath.Join(work, "init.sql")
	if err := os.WriteFile(initFile, []byte(strings.Join(lines, ";\n")+";\n"), 0o600); err != nil {
		return nil, err
	}

	cnf := s.Binary.places()
	cnf.set("datadir", s.DataDir)
	cnf.set("init_file", initFile)
	cnf.set("log_error", filepath.Join(work, "error.log"))
	cnf.set("skip_log_bin", "ON") // so that no GTID exists before the first real transaction
	cnf.set("loose_mysqlx", "OFF")
	cnf.set("performance_schema", "OFF")
	// Small, because every copy of the directory carries it. A server makes it
	// larger by itself when its own configuration says so.
	cnf.set("innodb_redo_log_capacity", "8M")
	cnf.set("innodb_buffer_pool_size", "64M")
	// A crash while initialising throws the directory away, so nothing needs to
	// reach the disk before the end.
	cnf.set("innodb_flush_log_at_trx_commit", "0")
	cnf.set("innodb_doublewrite", "OFF")
	for _, name := range sortedKeys(s.Settings) {
		cnf.set(name, s.Settings[name])
	}
	return secrets, cnf.write(filepath.Join(work, "my.cnf"))
}

// run runs cmd to its end, its output going to the log beside mysqld's own lines.
func run(cmd *exec.Cmd, logPath string) error {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := launch(cmd)
	if err != nil {
		return err
	}
	<-p.done
	if p.exit.Code != 0 || p.exit.Signal != 0 {
		return errors.New(p.exit.String())
	}
	return nil
}

func redact(lines, secrets []string) []string {
	out := slices.Clone(lines)
	for i := range out {
		for _, s := range secrets {
			out[i] = strings.ReplaceAll(out[i], s, "***")
		}
	}
	return out
}
