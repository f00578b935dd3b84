package mysqld

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
)

const (
	maxErrorLines = 10
	maxLineLength = 400
)

// StartError says why a server did not become usable, in its own words.
type StartError struct {
	Server string
	Err    error
	Log    []string // the last [ERROR] lines of this start
}

func (e *StartError) Error() string {
	if len(e.Log) == 0 {
		return e.Server + ": " + e.Err.Error()
	}
	return e.Server + ": " + e.Err.Error() + "; its log says:\n\t" + strings.Join(e.Log, "\n\t")
}

func (e *StartError) Unwrap() error { return e.Err }

// errorLines gives the last [ERROR] lines of a log from offset on. What a
// program writes before it has a log, such as the loader's complaint about a
// missing library, has no such mark; without any marked line the last lines are
// given as they are.
func errorLines(path string, offset int64) []string {
	var marked, plain []string
	for _, line := range lines(path, offset) {
		if strings.Contains(line, "[ERROR]") {
			marked = append(marked, line)
		} else if !strings.Contains(line, "[Note]") && !strings.Contains(line, "[System]") {
			plain = append(plain, line)
		}
	}
	if len(marked) == 0 {
		return last(plain, maxErrorLines/2)
	}
	return last(marked, maxErrorLines)
}

// lines is best effort: it serves error messages, and a missing log must not
// hide the error it would have explained.
func lines(path string, offset int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil
	}
	var out []string
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			if len(line) > maxLineLength {
				line = line[:maxLineLength] + "…"
			}
			out = last(append(out, line), 1000)
		}
		if err != nil {
			return out
		}
	}
}

func last(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// addressInUse recognises the one failure another port can cure.
func addressInUse(err error) bool {
	var e *StartError
	if !errors.As(err, &e) {
		return false
	}
	for _, line := range e.Log {
		if strings.Contains(line, "MY-010262") || strings.Contains(line, "Address already in use") {
			return true
		}
	}
	return false
}
