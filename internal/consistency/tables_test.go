package consistency

import (
	"testing"
	"time"
)

func numbers(n int, desc ...bool) *table {
	t := &table{schema: "s", name: "t", index: "PRIMARY"}
	for i := range n {
		t.key = append(t.key, part{column: column{name: string(rune('a' + i)), kind: "int"}, desc: i < len(desc) && desc[i]})
	}
	return t
}

func TestARangeFollowsTheOrderOfTheIndex(t *testing.T) {
	t.Parallel()
	enum := &table{key: []part{
		{column: column{name: "e", kind: "enum"}, labels: []string{"'x'", "'y'", "'z'"}},
		{column: column{name: "n", kind: "int"}},
	}}
	for name, c := range map[string]struct {
		table    *table
		from, to key
		want     string
	}{
		"the whole table":         {numbers(1), nil, nil, ""},
		"behind one number":       {numbers(1), key{"5"}, nil, " WHERE ((`a` > 5))"},
		"up to one number":        {numbers(1), nil, key{"9"}, " WHERE ((`a` < 9) OR (`a` = 9))"},
		"two columns":             {numbers(2), key{"1", "2"}, nil, " WHERE ((`a` > 1) OR (`a` = 1 AND `b` > 2))"},
		"the second descending":   {numbers(2, false, true), key{"1", "2"}, nil, " WHERE ((`a` > 1) OR (`a` = 1 AND `b` < 2))"},
		"behind a label":          {enum, key{"1", "7"}, nil, " WHERE ((`e` IN ('y', 'z')) OR (`e` = 'x' AND `n` > 7))"},
		"behind the last label":   {enum, key{"3", "7"}, nil, " WHERE ((FALSE) OR (`e` = 'z' AND `n` > 7))"},
		"up to the second label":  {enum, nil, key{"2", "7"}, " WHERE ((`e` IN ('x')) OR (`e` = 'y' AND `n` < 7) OR (`e` = 'y' AND `n` = 7))"},
		"between two of a number": {numbers(1), key{"5"}, key{"9"}, " WHERE ((`a` > 5)) AND ((`a` < 9) OR (`a` = 9))"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.table.within(c.from, c.to); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAKeyIsWrittenSoThatEverySessionReadsItTheSame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		column column
		read   string
		want   string
	}{
		"a number":              {column{kind: "bigint"}, "-5", "-5"},
		"a decimal":             {column{kind: "decimal"}, "1.50", "1.50"},
		"a float":               {column{kind: "float"}, "0.10000000149011612", "0.10000000149011612e0"},
		"a large double":        {column{kind: "double"}, "1e+300", "1e+300"},
		"a date":                {column{kind: "date"}, "2020-02-29", "'2020-02-29'"},
		"plain text":            {column{kind: "varchar", charset: "utf8mb4"}, "616263", "'abc'"},
		"text with a quote":     {column{kind: "varchar", charset: "latin1"}, "6127", "_latin1 x'6127'"},
		"text beyond ASCII":     {column{kind: "varchar", charset: "utf8mb4"}, "C3A9", "_utf8mb4 x'C3A9'"},
		"text of wide letters":  {column{kind: "char", charset: "utf16"}, "0061", "_utf16 x'0061'"},
		"bytes":                 {column{kind: "varbinary"}, "00FF", "x'00FF'"},
		"the empty string":      {column{kind: "varchar", charset: "utf8mb4"}, "", "''"},
		"the empty byte string": {column{kind: "varbinary"}, "", "x''"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := (part{column: c.column}).literal(c.read); err != nil || got != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestLabelsOfAnEnumAreRead(t *testing.T) {
	t.Parallel()
	got, err := labelsOf(`enum('a','it''s','','x,y')`)
	want := []string{"'a'", "_utf8mb4 x'69742773'", "''", "'x,y'"}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("label %d is %s, want %s", i, got[i], want[i])
		}
	}
}

func TestOnlyACounterOfTheTableIsTakenOutOfItsDefinition(t *testing.T) {
	t.Parallel()
	const text = "CREATE TABLE `t` (\n  `a` int COMMENT ') AUTO_INCREMENT=3'\n) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4"
	const want = "CREATE TABLE `t` (\n  `a` int COMMENT ') AUTO_INCREMENT=3'\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
	if got := counter.ReplaceAllString(text, "$1"); got != want {
		t.Error(got)
	}
}

func TestWhoStandsAlone(t *testing.T) {
	t.Parallel()
	r := &run{}
	for _, n := range []string{"m1", "m2", "m3"} {
		s := &session{}
		s.Name = n
		r.sessions = append(r.sessions, s)
	}
	x, y, z := reading{"x"}, reading{"y"}, reading{"z"}
	for name, c := range map[string]struct {
		readings []reading
		odd      string
		third    string
	}{
		"one has another value":   {[]reading{x, x, y}, "m3", "version B"},
		"one lacks the row":       {[]reading{x, nil, x}, "m2", "version A"},
		"one alone has the row":   {[]reading{x, nil, nil}, "m1", "absent"},
		"all have different ones": {[]reading{x, y, z}, "", "version C"},
		"two different, one none": {[]reading{nil, x, y}, "", "version B"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members, odd := r.values(c.readings)
			got := ""
			for _, o := range odd {
				got += o
			}
			if got != c.odd || members["m3"] != c.third {
				t.Errorf("odd %q, want %q; %v", got, c.odd, members)
			}
		})
	}
}

func TestARowIsNoSuspectOnceAllHadOneValueInCommon(t *testing.T) {
	t.Parallel()
	members := []*session{{}, {}}
	members[0].Name, members[1].Name = "m1", "m2"
	c := &suspect{seen: map[string][]string{}}
	for i, look := range []struct {
		m1, m2 string
		agreed bool
	}{{"v1", "v0", false}, {"v3", "v2", false}, {"v4", "v3", true}} {
		if got := c.see(members, func(i int) string { return []string{look.m1, look.m2}[i] }); got != look.agreed {
			t.Errorf("look %d: %v", i, got)
		}
	}
}

func TestWaitingForAProcessorIsNotCountedAsWork(t *testing.T) {
	t.Parallel()
	p := &pace{}
	if c := p.cost(10_000, 10*time.Millisecond); c != 10*time.Millisecond {
		t.Error("alone:", c)
	}
	if c := p.cost(10_000, 30*time.Millisecond); c < 10*time.Millisecond || c > 11*time.Millisecond {
		t.Error("on a loaded machine:", c)
	}
	if c := p.cost(10_000, time.Second); c != time.Second/4 {
		t.Error("on a machine beyond all measure:", c)
	}
	for range 600 {
		p.cost(10_000, time.Second)
	}
	if c := p.cost(10_000, time.Second); c < time.Second/2 {
		t.Error("rows that are slow for long are rows that cost much:", c)
	}
}

func TestSlicesGrowAndShrinkWithTheirTime(t *testing.T) {
	t.Parallel()
	if n := resize(1000, 30*time.Millisecond, 60*time.Millisecond); n != 1600 {
		t.Error("a quick slice grows to", n)
	}
	if n := resize(100_000, time.Second, 60*time.Millisecond); n != 30_000 {
		t.Error("a slow slice shrinks to", n)
	}
	if n := resize(100, time.Minute, 60*time.Millisecond); n != smallSlice {
		t.Error("the smallest slice is", n)
	}
}
