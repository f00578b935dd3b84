package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// printed writes data as JSON or YAML if that was asked for, and tells whether
// it did. YAML has the same keys as JSON.
func (c *cli) printed(w io.Writer, data any) (bool, error) {
	switch c.output {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return true, e.Encode(data)
	case "yaml":
		b, err := json.Marshal(data)
		if err != nil {
			return true, err
		}
		if b, err = yaml.JSONToYAML(b); err != nil {
			return true, err
		}
		_, err = w.Write(b)
		return true, err
	}
	return false, nil
}

// table prints rows in columns, the first row as their heads.
func table(w io.Writer, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for n, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(paint(n, i, cell))
			if i < len(r)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
			}
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// colour is used on a terminal only, and never with NO_COLOR.
var colour = func() bool {
	st, err := os.Stdout.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}()

var states = map[string]string{
	"ONLINE": "32", "RECOVERING": "33", "SUSPECT": "33", "UNREACHABLE": "31", "ISOLATED": "31", "OFFLINE": "31", "ERROR": "31", "DOWN": "31", "UNKNOWN": "31",
	"done": "32", "begun": "33", "running": "33", "undoing": "33", "failed": "31", "undone": "31", "refuses": "31", "warns": "33",
}

func paint(row, _ int, cell string) string {
	code := states[cell]
	if row == 0 {
		code = "1"
	}
	if !colour || code == "" {
		return cell
	}
	return "\x1b[" + code + "m" + cell + "\x1b[0m"
}
