package schedule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a zone has to mean the same on every node, also where the system knows none

	"github.com/netresearch/go-cron"

	"github.com/perdure/perdure/internal/event"
)

// What an entry can do.
const (
	Consistency = "consistency" // compare what the members hold
	Stop        = "stop"        // the whole group
	Start       = "start"
	Restart     = "restart" // member after member
)

// Actions lists what an entry can do.
var Actions = []string{Consistency, Stop, Start, Restart}

// What becomes of missed times.
const (
	Skip  = "skip"
	Later = "run"
)

// Entry is one thing to do at times.
type Entry struct {
	Name   string         `json:"name" yaml:"name" doc:"Short name, unique: lower-case letters, digits, dashes."`
	Do     string         `json:"do" yaml:"do" enum:"consistency,stop,start,restart" doc:"consistency: compare what the members hold. stop, start: the whole group. restart: every member, one after the other."`
	At     string         `json:"at" yaml:"at" doc:"When: minute, hour, day of month, month, day of week, such as '0 3 * * *' or '30 2 * * SUN#1' (the first Sunday); or @hourly, @daily, @weekly, @monthly. Where both days are given, both must fit."`
	Zone   string         `json:"zone,omitempty" yaml:"zone,omitempty" doc:"Time zone of 'at', such as Europe/Berlin. Default UTC."`
	Missed string         `json:"missed,omitempty" yaml:"missed,omitempty" enum:"skip,run" doc:"What becomes of a time at which no node could act, or something else was going on: skip it (default), or run once, late."`
	Within event.Duration `json:"within,omitempty" yaml:"within,omitempty" doc:"With missed: run, how late it may be. Default 1h."`
}

const (
	defaultWithin = time.Hour
	longestWithin = 31 * 24 * time.Hour
)

func (e Entry) within() time.Duration { return e.Within.Or(defaultWithin) }

// same is what makes an entry the one it was: with another time or another
// thing to do nothing is made up for.
func (e Entry) same() string { return e.Do + " at " + e.At + " " + e.Zone }

var entryName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// Check reports every mistake at once, each with the path of what it is about,
// such as "[1].at".
func Check(entries []Entry) error {
	var errs []error
	seen := map[string]bool{}
	for i, e := range entries {
		wrong := func(key, format string, args ...any) {
			errs = append(errs, fmt.Errorf("schedules[%d].%s: %w", i, key, fmt.Errorf(format, args...)))
		}
		switch {
		case !entryName.MatchString(e.Name):
			wrong("name", "the name is lower-case letters, digits and dashes, not %q", e.Name)
		case seen[e.Name]:
			wrong("name", "two schedules are called %s", e.Name)
		}
		seen[e.Name] = true
		if !slices.Contains(Actions, e.Do) {
			wrong("do", "%q is none of %s", e.Do, strings.Join(Actions, ", "))
		}
		if e.Missed != "" && e.Missed != Skip && e.Missed != Later {
			wrong("missed", "%q is none of %s, %s", e.Missed, Skip, Later)
		}
		if w := time.Duration(e.Within); w > longestWithin {
			wrong("within", "at most 31d, not %s", e.Within)
		} else if w != 0 && e.Missed != Later {
			wrong("within", "it says how late a missed time may be made up for; that takes missed: run")
		}
		zone, err := zoneOf(e.Zone)
		if err != nil {
			wrong("zone", "%v", err)
			zone = time.UTC
		}
		if _, err := parse(e.At, zone); err != nil {
			wrong("at", "%v", err)
		}
	}
	return errors.Join(errs...)
}

func zoneOf(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	l, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // nodes may be set to different ones
		return nil, fmt.Errorf("%q is no time zone such as Europe/Berlin or UTC", name)
	}
	return l, nil
}

// times are the times of an entry.
type times struct {
	plan  cron.Schedule
	zone  *time.Location
	fixed bool // it names its hours
}

var (
	fieldNames  = []string{"minute", "hour", "day of month", "month", "day of week"}
	descriptors = []string{"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"}
	parser      = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.Extended)
)

// parse reads an expression, and says of a wrong one which part is.
func parse(at string, zone *time.Location) (times, error) {
	fields := strings.Fields(at)
	t := times{zone: zone}
	switch {
	case len(fields) == 0:
		return t, errors.New("the time is missing, such as '0 3 * * *' for every day at three")
	case strings.HasPrefix(at, "@"):
		if !slices.Contains(descriptors, at) {
			return t, fmt.Errorf("%q is none of %s", at, strings.Join(descriptors, ", "))
		}
		t.fixed = at != "@hourly"
	case strings.Contains(fields[0], "TZ="):
		return t, errors.New("the time zone has a key of its own, zone")
	case len(fields) != len(fieldNames):
		return t, fmt.Errorf("%q has %d fields; it takes five: %s", at, len(fields), strings.Join(fieldNames, ", "))
	default:
		t.fixed = !strings.HasPrefix(fields[1], "*") && fields[1] != "0-23"
		for i, f := range fields {
			alone := []string{"*", "*", "*", "*", "*"}
			alone[i] = f
			if _, err := parser.Parse(strings.Join(alone, " ")); err != nil {
				return t, fmt.Errorf("%q is no %s: %w", f, fieldNames[i], err)
			}
		}
	}
	var err error
	if t.plan, err = parser.Parse(at); err != nil {
		return t, fmt.Errorf("%q is no time: %w", at, err)
	}
	if t.after(time.Date(2024, 1, 1, 0, 0, 0, 0, zone)).IsZero() {
		return t, fmt.Errorf("%q never comes: no month has such a day", at)
	}
	return t, nil
}

// after is the first time after that moment, zero if there is none.
func (t times) after(moment time.Time) time.Time {
	at := t.plan.Next(moment.In(t.zone))
	for t.fixed && again(at) {
		at = t.plan.Next(at)
	}
	return at
}

// again tells whether clocks showed the same an hour before, because they were
// turned back meanwhile.
func again(at time.Time) bool {
	if at.IsZero() {
		return false
	}
	_, now := at.Zone()
	for _, back := range []time.Duration{time.Hour, 30 * time.Minute} { // Lord Howe turns by half an hour
		before := at.Add(-back)
		if _, then := before.Zone(); time.Duration(then-now)*time.Second == back {
			return true
		}
	}
	return false
}
