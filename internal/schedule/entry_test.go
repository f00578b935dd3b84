package schedule

import (
	"strings"
	"testing"
	"time"
)

func TestMistakesNameThePartThatIsWrong(t *testing.T) {
	t.Parallel()
	good := Entry{Name: "nightly", Do: Consistency, At: "0 3 * * *", Zone: "Europe/Berlin"}
	for _, c := range []struct {
		name   string
		change func(*Entry)
		want   string // "" is accepted
	}{
		{"every night", func(*Entry) {}, ""},
		{"the first Sunday of a month", func(e *Entry) { e.At = "30 2 * * SUN#1" }, ""},
		{"the last day of a month", func(e *Entry) { e.At = "30 2 L * *" }, ""},
		{"in a word", func(e *Entry) { e.At = "@weekly" }, ""},
		{"no time", func(e *Entry) { e.At = "" }, "[0].at: the time is missing"},
		{"four fields", func(e *Entry) { e.At = "0 3 * *" }, `[0].at: "0 3 * *" has 4 fields; it takes five: minute, hour`},
		{"seconds", func(e *Entry) { e.At = "0 0 3 * * *" }, "has 6 fields"},
		{"a bad minute", func(e *Entry) { e.At = "61 3 * * *" }, `"61" is no minute`},
		{"a bad hour", func(e *Entry) { e.At = "0 25 * * *" }, `"25" is no hour`},
		{"a bad day", func(e *Entry) { e.At = "0 3 * * FUNDAY" }, `"FUNDAY" is no day of week`},
		{"a day that never comes", func(e *Entry) { e.At = "0 3 30 2 *" }, "never comes"},
		{"a word nobody knows", func(e *Entry) { e.At = "@noon" }, "is none of @hourly"},
		{"from a start nobody knows", func(e *Entry) { e.At = "@every 1h" }, "is none of @hourly"},
		{"a zone in the time", func(e *Entry) { e.At = "TZ=UTC 0 3 * * *" }, "key of its own"},
		{"a zone nobody knows", func(e *Entry) { e.Zone = "Europe/Atlantis" }, `[0].zone: "Europe/Atlantis" is no time zone`},
		{"the node's own zone", func(e *Entry) { e.Zone = "Local" }, "[0].zone"},
		{"something nobody can do", func(e *Entry) { e.Do = "dance" }, `[0].do: "dance" is none of consistency`},
		{"a bad name", func(e *Entry) { e.Name = "Every night" }, "[0].name"},
		{"a bad policy", func(e *Entry) { e.Missed = "maybe" }, "[0].missed"},
		{"late without a policy", func(e *Entry) { e.Within = 1 }, "[0].within: it says how late"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := good
			c.change(&e)
			err := Check([]Entry{e})
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if err := Check([]Entry{good, good}); err == nil || !strings.Contains(err.Error(), "[1].name: two schedules are called nightly") {
		t.Errorf("two of one name: %v", err)
	}
}

// timesOf parses an expression that is right.
func timesOf(t *testing.T, at, zone string) times {
	t.Helper()
	l, err := zoneOf(zone)
	if err != nil {
		t.Fatal(err)
	}
	x, err := parse(at, l)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestTimesFollowTheClockOfTheirZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, at, zone, from, want string }{
		{"every night in Berlin, in winter", "0 3 * * *", "Europe/Berlin", "2026-01-10T00:00:00Z", "2026-01-10T02:00:00Z 2026-01-11T02:00:00Z"},
		{"every night in Berlin, in summer", "0 3 * * *", "Europe/Berlin", "2026-07-10T00:00:00Z", "2026-07-10T01:00:00Z 2026-07-11T01:00:00Z"},
		{"what is due in the hour that does not exist begins an hour later", "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z 2026-03-30T00:30:00Z"},
		{"the hour that comes twice counts once", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"what comes every hour goes on in spring", "0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T00:00:00Z 2026-03-29T01:00:00Z 2026-03-29T02:00:00Z"},
		{"what comes every hour goes on in autumn", "0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T00:00:00Z 2026-10-25T01:00:00Z 2026-10-25T02:00:00Z"},
		{"half an hour is turned back", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-04T14:45:00Z 2026-04-05T15:15:00Z"},
		{"both days have to fit", "0 0 13 * FRI", "UTC", "2026-01-01T00:00:00Z", "2026-02-13T00:00:00Z 2026-03-13T00:00:00Z"},
		{"a leap day", "0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := timesOf(t, c.at, c.zone)
			at, err := time.Parse(time.RFC3339, c.from)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range strings.FieldsSeq(c.want) {
				at = x.after(at)
				got = append(got, at.UTC().Format(time.RFC3339))
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("%s\nwant %s", g, c.want)
			}
		})
	}
}

func TestWhatIsDueIsDecidedFromWhatWasDealtWith(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		x, err := time.Parse("01-02 15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		return x.AddDate(2026, 0, 0)
	}
	late := Entry{Missed: Later}
	for _, c := range []struct {
		name       string
		e          Entry
		dealt, now string
		do         move
		due        string
		missed     int
	}{
		{"not yet", Entry{}, "06-01 03:00:00", "06-02 02:59:59", rest, "06-02 03:00:00", 0},
		{"now", Entry{}, "06-01 03:00:00", "06-02 03:00:00", begin, "06-02 03:00:00", 0},
		{"a moment late, another node took over", Entry{}, "06-01 03:00:00", "06-02 03:00:50", begin, "06-02 03:00:00", 0},
		{"too late, and skipped", Entry{}, "06-01 03:00:00", "06-02 03:30:00", forgo, "06-02 03:00:00", 1},
		{"late, and made up for", late, "06-01 03:00:00", "06-02 03:30:00", begin, "06-02 03:00:00", 0},
		{"too late to be made up for", late, "06-01 03:00:00", "06-02 04:00:01", forgo, "06-02 03:00:00", 1},
		{"three nights away: the newest counts", late, "06-01 03:00:00", "06-04 03:10:00", begin, "06-04 03:00:00", 2},
		{"three nights away, and skipped", Entry{}, "06-01 03:00:00", "06-04 12:00:00", forgo, "06-04 03:00:00", 3},
		{"dealt with, and the clock was set back an hour", Entry{}, "06-02 03:00:00", "06-02 02:00:30", rest, "06-03 03:00:00", 0},
		{"dealt with by a clock that was years ahead", Entry{}, "12-31 03:00:00", "06-02 02:00:00", rest, "06-02 03:00:00", 0},
		{"away for months", Entry{}, "01-01 03:00:00", "06-02 12:00:00", forgo, "06-02 03:00:00", 31},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := decide(c.e, timesOf(t, "0 3 * * *", "UTC"), at(c.dealt), at(c.now))
			if d.do != c.do || !d.due.Equal(at(c.due)) || d.missed != c.missed {
				t.Errorf("%+v", d)
			}
		})
	}
}
