package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// headline is the one line people see first. It has no line breaks.
func headline(e event.Event) string {
	word := strings.ToUpper(string(e.Severity))
	switch {
	case e.Kind == event.AlarmResolved, e.Kind.Meaning().Ends != "":
		word = "OK"
	case e.Kind == event.NotifyTest:
		word = "TEST"
	}
	text := fmt.Sprintf("[%s] %s %s: %s", e.Cluster, word, e.Kind, e.Text)
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 200 {
		text = string(r[:199]) + "…"
	}
	return text
}

// story is the whole event for people to read.
func story(e event.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", e.Text)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, value)
		}
	}
	line("kind", string(e.Kind))
	line("severity", string(e.Severity))
	line("cluster", e.Cluster)
	line("subject", e.Subject)
	line("member", e.Member)
	line("at", e.Time.UTC().Format(time.RFC3339Nano))
	line("seen by", e.Node)
	for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
		line(name, e.Labels[name])
	}
	for _, name := range slices.Sorted(maps.Keys(e.Facts)) {
		line(name, e.Facts[name])
	}
	line("event", e.ID)
	return b.String()
}
