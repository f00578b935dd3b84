package mysql

import (
	"errors"
	"testing"
)

func TestVersionsAreReadAndOthersRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Version{
		"8.0.35-log MySQL Community Server - GPL": {8, 0, 35},
		"8.4.8":                             {8, 4, 8},
		"9.7.4-2 (Debian)":                  {9, 7, 4},
		"8.0.42-33 Percona Server (GPL)":    {8, 0, 42},
		"8.0.39 Source distribution (rds) ": {8, 0, 39},
	} {
		if v, err := ParseVersion(text); err != nil || v != want {
			t.Errorf("%q is %v, %v", text, v, err)
		}
	}
	for _, text := range []string{"", "banana", "8.0", "11.4.2-MariaDB-ubu2404", "5.5.5-10.6.18-MARIADB", "10.6.18 mariadb.org binary distribution"} {
		if v, err := ParseVersion(text); err == nil {
			t.Errorf("%q passes as %v", text, v)
		}
	}
}

func TestVersionsAreOrdered(t *testing.T) {
	t.Parallel()
	order := []Version{{8, 0, 34}, Oldest, {8, 0, 42}, {8, 2, 0}, {8, 4, 0}, {8, 4, 11}, {9, 0, 0}, {9, 7, 4}}
	for i := range order {
		for k := range order {
			if got := order[i].AtLeast(order[k].Major, order[k].Minor, order[k].Patch); got != (i >= k) {
				t.Errorf("%v at least %v: %v", order[i], order[k], got)
			}
		}
	}
}

// Statements that were renamed on the way, as each version wants them.
func TestEachVersionGetsTheStatementsItKnows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version Version
		reset   string
	}{
		{Version{8, 0, 35}, "RESET MASTER"},
		{Version{8, 1, 0}, "RESET MASTER"},
		{Version{8, 2, 0}, "RESET BINARY LOGS AND GTIDS"},
		{Version{8, 4, 8}, "RESET BINARY LOGS AND GTIDS"},
		{Version{9, 7, 4}, "RESET BINARY LOGS AND GTIDS"},
	} {
		if d := (Dialect{Version: c.version}); d.binlogReset() != c.reset {
			t.Errorf("%v: %s", c.version, d.binlogReset())
		}
	}
}

func TestAManagedServersRefusalSaysWhatToDoInstead(t *testing.T) {
	t.Parallel()
	err := error(&ErrManaged{"CLONE", "restore a snapshot"})
	if m, ok := errors.AsType[*ErrManaged](err); !ok || m.Error() != "CLONE is not possible on Amazon RDS: restore a snapshot" {
		t.Error(err)
	}
}
