package gtid

import (
	"errors"
	"strings"
	"testing"
)

const (
	uuidA = "aaaaaaaa-1111-2222-3333-444444444444"
	uuidB = "bbbbbbbb-1111-2222-3333-444444444444"
)

// spell lets tables say A and B for whole UUIDs.
func spell(text string) string { return strings.NewReplacer("A", uuidA, "B", uuidB).Replace(text) }

func TestParseGivesTheServersText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"nothing is the empty set", "", ""},
		{"white space is the empty set", " \n\t\v\f\r", ""},
		{"commas alone are the empty set", ", ,,", ""},
		{"a UUID alone names no transaction", "A", ""},
		{"a tag alone names no transaction", "A:tag", ""},
		{"one transaction", "A:1", "A:1"},
		{"an interval of one is written as one", "A:7-7", "A:7"},
		{"two neighbours become an interval", "A:1:2", "A:1-2"},
		{"intervals are sorted and joined", "A:9:3-4:1-2:7-8:5", "A:1-5:7-9"},
		{"overlaps are joined", "A:1-10:5-20:2-3", "A:1-20"},
		{"UUIDs are sorted, a newline between them", "B:1,A:2", "A:2,\nB:1"},
		{"the same UUID may come again", "A:1,B:5,A:2", "A:1-2,\nB:5"},
		{"empty items and commas at both ends are skipped", ",,A:1,,B:2,", "A:1,\nB:2"},
		{"an interval backwards is empty", "A:5-3", ""},
		{"an interval may end at zero and is empty", "A:1-0", ""},
		{"empty intervals leave the others alone", "A:5:5-3:4", "A:4-5"},
		{"leading zeros do not make a number octal", "A:010", "A:10"},
		{"any number of leading zeros is fine", "A:" + strings.Repeat("0", 50) + "1", "A:1"},
		{"the highest number", "A:9223372036854775806", "A:9223372036854775806"},
		{"all numbers", "A:1-9223372036854775806", "A:1-9223372036854775806"},
		{"space around everything", "\n A :\t1 -\n5 : tag : 7 ,\r\n B : 2 ", "A:1-5:tag:7,\nB:2"},
		{"capitals become small", "AAAAAAAA-1111-2222-3333-44444444444F:Tag:1", "aaaaaaaa-1111-2222-3333-44444444444f:tag:1"},
		{"a UUID in braces", "{A}:1", "A:1"},
		{"a UUID without hyphens", "aaaaaaaa111122223333444444444444:1", "A:1"},
		{"a tagged interval", "A:tag:1-5", "A:tag:1-5"},
		{"untagged and tagged in one item", "A:1-3:tag:4", "A:1-3:tag:4"},
		{"untagged after tagged needs a new item", "A:tag:4,A:1-3", "A:1-3:tag:4"},
		{"a tag holds until the next one", "A:b:1:3:a:2:4,B:1", "A:a:2:4:b:1:3,\nB:1"},
		{"the same tag may come again", "A:tag:1:other:2:TaG:2", "A:other:2:tag:1-2"},
		{"the last of two tags counts", "A:a:b:3", "A:b:3"},
		{"tags sort by byte", "A:ta:1:t_:1:t1:1:t:1:_:1", "A:_:1:t:1:t1:1:t_:1:ta:1"},
		{"a tag of 32 characters", "A:" + strings.Repeat("x", 32) + ":1", "A:" + strings.Repeat("x", 32) + ":1"},
		{"a tag with only empty intervals disappears", "A:1:tag:5-3", "A:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, want := tt.text, tt.want
			if !strings.Contains(text, "AAAA") {
				text, want = spell(text), spell(want)
			}
			s, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.String(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if s.IsEmpty() != (want == "") {
				t.Errorf("IsEmpty says %v for %q", s.IsEmpty(), want)
			}
		})
	}
}

func TestParseRefusesAndSaysWhere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		at         int
	}{
		{"a colon with nothing behind", "A:", 37},
		{"two colons", "A:1::2", 39},
		{"a colon at the end", "A:1:", 39},
		{"a tag and a colon at the end", "A:tag:", 41},
		{"number zero", "A:0", 37},
		{"an interval from zero", "A:0-5", 37},
		{"a negative number", "A:-1", 37},
		{"a number with a plus", "A:+1", 37},
		{"an interval without end", "A:1-", 39},
		{"an interval to minus one", "A:7--1", 39},
		{"an interval of three", "A:1-5-7", 40},
		{"a hexadecimal number", "A:0x10", 37},
		{"a fraction", "A:1.5", 38},
		{"a number too high by one", "A:9223372036854775807", 37},
		{"an end too high by one", "A:1-9223372036854775807", 39},
		{"a number beyond 64 bits", "A:99999999999999999999999", 37},
		{"a number that 64 bits would turn into a lower one", "A:1922337203685477580713", 37},
		{"an end that 64 bits would turn into a lower one", "A:37-209223372036854775805", 40},
		{"two numbers without a colon", "A:1 2", 39},
		{"two items without a comma", "A:1 B:2", 39},
		{"a semicolon", "A:1;", 38},
		{"a tag that begins with a digit", "A:9t:1", 38},
		{"a tag of 33 characters", "A:" + strings.Repeat("x", 33) + ":1", 37},
		{"space within a tag", "A:ta g:1", 40},
		{"a hyphen within a tag", "A:a-b:1", 38},
		{"a letter outside ASCII", "A:é:1", 37},
		{"a hyphen after a tag", "A:tag-5", 40},
		{"no UUID", ":3", 0},
		{"a word", "anonymous", 0},
		{"a plus in front", "+A:1", 0},
		{"a UUID too short", "aaaaaaaa-1111-2222-3333-44444444444:1", 34},
		{"a UUID too long", "aaaaaaaa-1111-2222-3333-4444444444444:1", 36},
		{"a UUID with some of its hyphens", "aaaaaaaa-111122223333444444444444:1", 13},
		{"a UUID with late hyphens", "aaaaaaaa1111-2222-3333-444444444444:1", 12},
		{"a UUID in braces without hyphens", "{aaaaaaaa111122223333444444444444}:1", 9},
		{"an open brace", "{A:1", 37},
		{"space in braces", "{ A }:1", 1},
		{"a NUL byte", "A:1\x00", 38},
		{"a no-break space", "A:1\u00a0", 38},
		{"the second item", "A:1,\nB:x:y z", 81},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(spell(tt.text))
			bad, ok := errors.AsType[*SyntaxError](err)
			if !ok {
				t.Fatalf("got %q, %v; want a SyntaxError", s, err)
			}
			if bad.Offset != tt.at {
				t.Errorf("error at byte %d, want %d: %v", bad.Offset, tt.at, err)
			}
			if !s.IsEmpty() {
				t.Errorf("an error came with a set: %q", s)
			}
		})
	}
}

func TestSyntaxErrorReadsAsASentence(t *testing.T) {
	t.Parallel()
	_, err := Parse(spell("A:1;" + strings.Repeat("z", 1000)))
	want := `malformed GTID set at byte 38: want "," or ":", found ";zzzzzzzzzzzzzzz"`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %v", err, want)
	}
}

func TestOneGTIDAndItsParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"untagged", "A:5", "A:5"},
		{"tagged, with space and capitals", " A : TaG\n: 5 ", "A:tag:5"},
		{"in braces", "{A}:5", "A:5"},
		{"zero is refused", "A:0", ""},
		{"an interval is refused", "A:1-2", ""},
		{"a set is refused", "A:1,B:1", ""},
		{"two tags are refused", "A:a:b:1", ""},
		{"no number is refused", "A:a", ""},
		{"nothing is refused", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g, err := ParseGTID(spell(tt.text))
			if tt.want == "" {
				if err == nil {
					t.Fatalf("got %v, want an error", g)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if g.String() != spell(tt.want) {
				t.Errorf("got %v, want %v", g, spell(tt.want))
			}
			if !g.IsValid() || !Of(g).Equal(MustParse(g.String())) {
				t.Errorf("%v and its set differ", g)
			}
		})
	}
}

func TestTagsAndUUIDsAlone(t *testing.T) {
	t.Parallel()
	if tag, err := ParseTag("Nightly_2"); err != nil || tag.String() != "nightly_2" {
		t.Errorf("got %q, %v", tag, err)
	}
	if tag, err := ParseTag(""); err != nil || !tag.IsZero() {
		t.Errorf("got %q, %v", tag, err)
	}
	for _, bad := range []string{"2x", "a b", "a-b", " a", "a ", strings.Repeat("a", 33)} {
		if tag, err := ParseTag(bad); err == nil {
			t.Errorf("%q was read as tag %q", bad, tag)
		}
	}
	if id, err := ParseUUID(strings.ToUpper(uuidA)); err != nil || id.String() != uuidA {
		t.Errorf("got %v, %v", id, err)
	}
	for _, bad := range []string{"", uuidA + "0", uuidA + " ", " " + uuidA, uuidA[:35], "{" + uuidA} {
		if id, err := ParseUUID(bad); err == nil {
			t.Errorf("%q was read as UUID %v", bad, id)
		}
	}
}
