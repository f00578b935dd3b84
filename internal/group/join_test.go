package group

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/gtid"
)

func TestACopyIsMadeWhereReplayingCannotDo(t *testing.T) {
	t.Parallel()
	some := gtid.MustParse(ours + ":1-10")
	for _, c := range []struct {
		name   string
		facts  copying
		method string
		over   bool
		want   string // part of the reason, "" for replay
	}{
		{"a member that was away a moment", copying{missing: some}, Auto, false, ""},
		{"a member that has everything", copying{}, Auto, false, ""},
		{"an empty server, history complete", copying{empty: true, complete: true, missing: some}, Auto, false, ""},
		{"an empty server, history unknown", copying{empty: true, missing: some}, Auto, false, "not all data"},
		{"an empty server and a long history", copying{empty: true, complete: true, missing: gtid.MustParse(ours + ":1-50001")}, Auto, false, "faster copied"},
		{"the donor purged what it misses", copying{missing: some, lost: some, donor: "m2"}, Auto, false, "binary logs of m2 no longer have 10"},
		{"a copy was asked for", copying{missing: some}, Clone, false, "as asked"},
		{"a copy was asked for and made", copying{missing: some, cloned: true}, Clone, false, ""},
		{"its own transactions were given up", copying{errant: some}, Auto, true, "given up"},
		{"all it has was given up, though it is nothing new", copying{}, Auto, true, "its data were given up"},
		{"all it has was given up, and the copy was made", copying{cloned: true}, Auto, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			why, err := needsClone(c.facts, c.method, c.over)
			if err != nil || (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
				t.Errorf("%q, %v; want %q", why, err, c.want)
			}
		})
	}
}

func TestAServerWithTransactionsOfItsOwnIsRefusedByName(t *testing.T) {
	t.Parallel()
	_, err := needsClone(copying{member: "m3", errant: gtid.MustParse(theirs + ":5-6")}, Auto, false)
	refused(t, err, "m3", theirs+":5, "+theirs+":6")
}

func TestReplayOnlyIsRefusedWhereItCannotDo(t *testing.T) {
	t.Parallel()
	some := gtid.MustParse(ours + ":1-10")
	_, err := needsClone(copying{member: "m3", donor: "m1", missing: some, lost: some}, Incremental, false)
	refused(t, err, "m3 cannot join by replaying")
}
