package check

import "strings"

// name writes an identifier.
func name(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// text writes a string literal. No value we write holds a backslash.
func text(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func quoted(all []string) string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = text(s)
	}
	return strings.Join(out, ", ")
}
