package outcome

import (
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

// at is a moment, some seconds after the tests' clock began.
func at(seconds float64) time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func TestAMissingMarkProvesSomethingOnlyIf(t *testing.T) {
	t.Parallel()
	// The commit was sent at 100.
	calm := known{gap: at(10), lost: at(10), lineage: "17", since: at(10)}
	whole := sight{at: at(108), covers: at(98), whole: true, lineage: "17"}
	for name, c := range map[string]struct {
		change func(*known, *sight)
		want   error
	}{
		"all is well": {func(*known, *sight) {}, nil},
		"the look began before the commit was sent":       {func(_ *known, s *sight) { s.at = at(99) }, errPart},
		"nobody has looked yet":                           {func(_ *known, s *sight) { *s = sight{} }, errPart},
		"the scan began behind the commit":                {func(_ *known, s *sight) { s.covers = at(101) }, errPart},
		"not all was applied or read":                     {func(_ *known, s *sight) { s.whole = false }, errPart},
		"the group still lists the member":                {func(_ *known, s *sight) { s.listed = true }, errStill},
		"it is back, and was not seen out":                {func(_ *known, s *sight) { s.listed, s.born = true, at(104) }, errStill},
		"it is back, and was seen out only before":        {func(_ *known, s *sight) { s.listed, s.out, s.born = true, at(90), at(104) }, errStill},
		"it is back, with the process it had":             {func(_ *known, s *sight) { s.listed, s.out, s.born = true, at(103), at(20) }, errStill},
		"it is back, was seen out, and is a new process":  {func(_ *known, s *sight) { s.listed, s.out, s.born = true, at(103), at(104) }, nil},
		"nobody watched for a while since":                {func(k *known, _ *sight) { k.gap = at(102) }, errGap},
		"watching began when the commit was sent":         {func(k *known, _ *sight) { k.gap = at(100) }, errGap},
		"the majority was lost since":                     {func(k *known, _ *sight) { k.lost = at(103) }, errLost},
		"the group was made anew":                         {func(k *known, s *sight) { k.lineage, k.since, s.lineage = "18", at(104), "18" }, errAnew},
		"the one that was asked is of another group":      {func(_ *known, s *sight) { s.lineage = "18" }, errAnew},
		"nobody knows which group it was":                 {func(k *known, s *sight) { k.lineage, s.lineage = "", "" }, errAnew},
		"it was not read yet, and there is no majority":   {func(k *known, s *sight) { k.lost, s.whole = at(103), false }, errPart},
		"the group lists it, and watching had a gap":      {func(k *known, s *sight) { k.gap, s.listed = at(103), true }, errStill},
		"the group is older than what the watcher saw it": {func(k *known, _ *sight) { k.since = at(100.5) }, errAnew},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, s := calm, whole
			c.change(&k, &s)
			if got := missing(at(100), k, s); !errors.Is(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

const (
	uuid1 = "11111111-1111-4111-8111-111111111111"
	uuid2 = "22222222-2222-4222-8222-222222222222"
	uuid9 = "99999999-9999-4999-8999-999999999999"
)

// seen is a View of m1, which is asked, and m2, which gets lost.
type seen struct {
	quorum topology.Quorum
	m1, m2 *topology.Report
}

func (s seen) view() *topology.View {
	v := &topology.View{Quorum: s.quorum}
	for _, m := range []struct {
		name   string
		report *topology.Report
	}{{"m1", s.m1}, {"m2", s.m2}} {
		v.Members = append(v.Members, topology.Member{Instance: topology.Instance{Name: m.name}, State: topology.Online, Report: m.report})
	}
	return v
}

func report(uuid, executed string, uptime time.Duration, lists ...string) *topology.Report {
	r := &topology.Report{UUID: uuid, Uptime: uptime, Stats: topology.Stats{ViewID: "17:4"}}
	if executed != "" {
		r.Executed = gtid.MustParse(executed)
	}
	for _, u := range lists {
		r.Peers = append(r.Peers, topology.Peer{UUID: u, State: "ONLINE"})
	}
	return r
}

func TestAScanBeginsWithWhatAMemberHadBeforeTheCommit(t *testing.T) {
	t.Parallel()
	h := newHistory()
	for i := range 50 {
		h.note(seen{topology.HasQuorum, report(uuid1, uuid9+":1-"+number(100+10*i), 0, uuid1, uuid2), nil}.view(), at(float64(i)/5))
	}
	set, when, ok := h.before("m1", at(5.5))
	if want := gtid.MustParse(uuid9 + ":1-350"); !ok || !set.Equal(want) || !when.Equal(at(5)) {
		t.Errorf("%s, %s, %v", set, when, ok)
	}
	if _, _, ok := h.before("m1", at(0)); ok {
		t.Error("there is nothing before the beginning")
	}
	if set, when, ok := h.before("m2", at(5.5)); !ok || !when.Equal(at(5)) || set.IsEmpty() {
		t.Errorf("a member nobody knew has what others had: %s, %s, %v", set, when, ok)
	}
}

func TestHistoryIsThinnedOutAndBounded(t *testing.T) {
	t.Parallel()
	h := newHistory()
	const seconds = 3000
	for i := range seconds * 2 {
		h.note(seen{topology.HasQuorum, report(uuid1, "", 0, uuid1), nil}.view(), at(float64(i)/2))
	}
	moments := h.members["m1"].moments
	if len(moments) > 62+oldMomentsKept {
		t.Errorf("%d moments are kept", len(moments))
	}
	if age := at(seconds).Sub(moments[0].at); age < 10*time.Minute || age > 13*time.Minute {
		t.Errorf("the oldest is of %s ago", age)
	}
	for _, since := range []float64{1, 30, 59, 100, 300, 600} {
		most := momentPause
		if since > 59 {
			most = oldMomentPause + momentPause
		}
		_, when, ok := h.before("m1", at(seconds-since))
		if late := at(seconds - since).Sub(when); !ok || late > most {
			t.Errorf("%v s ago: %v, %s before that", since, ok, late)
		}
	}
}

func TestHistorySeesWhatSpeaksAgainstANo(t *testing.T) {
	t.Parallel()
	h := newHistory()
	both := func() *topology.Report { return report(uuid1, "", 0, uuid1, uuid2) }
	h.note(seen{topology.NoGroup, nil, nil}.view(), at(0))
	h.note(seen{topology.HasQuorum, both(), report(uuid2, "", 90*time.Second)}.view(), at(1))
	if k := h.known(); !k.gap.Equal(at(0)) || !k.lost.Equal(at(0)) || k.lineage != "17" || !k.since.Equal(at(1)) {
		t.Errorf("%+v", k)
	}
	h.note(seen{topology.LostQuorum, both(), nil}.view(), at(2))
	h.note(seen{topology.HasQuorum, both(), nil}.view(), at(6))
	if k := h.known(); !k.gap.Equal(at(6)) || !k.lost.Equal(at(2)) {
		t.Errorf("%+v", k)
	}
	if uuids, out, _ := h.member("m2"); len(uuids) != 1 || !out.IsZero() {
		t.Errorf("%s was out at %s", uuids, out)
	}
	h.note(seen{topology.HasQuorum, report(uuid1, "", 0, uuid1), nil}.view(), at(7))
	if _, out, _ := h.member("m2"); !out.Equal(at(5)) {
		t.Errorf("out at %s, and it is a report of 5 at the earliest", out)
	}
	h.note(seen{topology.HasQuorum, both(), report(uuid2, "", 3*time.Second)}.view(), at(8))
	if _, out, born := h.member("m2"); !out.Equal(at(5)) || !born.Equal(at(2)) {
		t.Errorf("out at %s, born at %s", out, born)
	}
	anew, other := both(), report(uuid9, "", 0)
	anew.ViewID, other.ViewID = "18:1", ""
	h.note(seen{topology.HasQuorum, anew, other}.view(), at(9))
	if k := h.known(); k.lineage != "18" || !k.since.Equal(at(9)) {
		t.Errorf("%+v", k)
	}
	if uuids, out, _ := h.member("m2"); len(uuids) != 2 || !out.IsZero() {
		t.Errorf("another server in its place: %s, out at %s", uuids, out)
	}
}
