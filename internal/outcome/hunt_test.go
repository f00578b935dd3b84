package outcome

import (
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/topology"
)

// watched is a history of m1 that goes back to 0, once a second, up to 200.
func watched() *history {
	h := newHistory()
	for i := range 1001 {
		h.note(seen{topology.HasQuorum, report(uuid1, uuid9+":1-"+number(1+i), 0, uuid1, uuid2), report(uuid2, "", time.Hour)}.view(), at(float64(i)/5))
	}
	return h
}

func TestAnEarlierCommitMakesAHuntBeginAnew(t *testing.T) {
	t.Parallel()
	past := watched()
	h := newHunt(Commit{Member: "m2", Mark: "perdure_a", Since: at(190.5)})
	_, covers, err := h.begin(past, "m1")
	if err != nil || !covers.Equal(at(188)) {
		t.Fatal(covers, err)
	}
	h.end = position{"binlog.000001", 900}
	if !h.join(Commit{Member: "m2", Mark: "perdure_b", Since: at(189)}) {
		t.Fatal("the hunt goes on")
	}
	if _, covers, _ = h.begin(past, "m1"); !covers.Equal(at(188)) || h.end.file == "" {
		t.Errorf("covers %s from %v: one scan does for both", covers, h.end)
	}
	h.join(Commit{Member: "m2", Mark: "perdure_c", Since: at(150)})
	if _, covers, _ = h.begin(past, "m1"); !covers.Equal(at(147)) || h.end.file != "" {
		t.Errorf("covers %s from %v: the log has to be read once more", covers, h.end)
	}
	h.end = position{"binlog.000001", 900}
	if _, _, err := h.begin(past, "m3"); err != nil || h.end.file != "" {
		t.Errorf("%v from %v: a position is of one member alone", err, h.end)
	}
	early := newHunt(Commit{Member: "m2", Since: at(-1)})
	if _, _, err := early.begin(past, "m1"); !errors.Is(err, errGap) {
		t.Error(err)
	}
}

func TestAHuntAnswersOnlyWhatItSaw(t *testing.T) {
	t.Parallel()
	f := &Finder{history: watched()}
	// What proves a No has to be younger than the beginning of the watch.
	proof := sight{at: at(198), covers: at(180), whole: true, lineage: "17"}
	h := newHunt(Commit{Member: "m2", Mark: "perdure_a", Since: at(190)})
	h.found("perdure_yes")
	ask := func(mark string, since float64) answer {
		return h.answer(f, Commit{Member: "m2", Mark: mark, Since: at(since)}, at(since))
	}
	if a := ask("perdure_a", 190); a.over || !errors.Is(a.err, errPart) {
		t.Errorf("before the first look: %+v", a)
	}
	if a := ask("perdure_yes", 190); !a.over || !a.yes || a.err != nil {
		t.Errorf("a mark that was seen: %+v", a)
	}
	h.publish(proof, nil, time.Millisecond)
	if a := ask("perdure_a", 190); !a.over || a.yes || a.err != nil {
		t.Errorf("a mark that is missing: %+v", a)
	}
	if a := ask("perdure_b", 170); a.over {
		t.Errorf("a commit older than the scan: %+v", a)
	}
	h.publish(sight{}, errNobody, time.Millisecond)
	if a := ask("perdure_a", 190); !a.over || a.yes || a.err != nil {
		t.Errorf("what was proven stays so: %+v", a)
	}
	h.publish(sight{}, &wire.ServerError{Code: 1227}, time.Millisecond)
	if a := ask("perdure_b", 170); !a.over || a.err == nil {
		t.Errorf("what will not succeed is not waited for: %+v", a)
	}
	if h.join(Commit{Member: "m2", Since: at(199)}) {
		t.Error("a commit that was sent after the member was seen out is of its next life")
	}
}

func TestMembersThatStayAreAskedInOrder(t *testing.T) {
	t.Parallel()
	v := &topology.View{}
	for _, m := range []struct {
		name  string
		state topology.State
		queue int64
	}{{"slow", topology.Online, 900}, {"quick", topology.Online, 0}, {"joins", topology.Recovering, 0}, {"lost", topology.Online, 0}, {"before", topology.Online, 5000}} {
		v.Members = append(v.Members, topology.Member{Instance: topology.Instance{Name: m.name}, State: m.state, Report: &topology.Report{Stats: topology.Stats{Queue: m.queue}}})
	}
	var got string
	for _, m := range survivors(v, "lost", "before") {
		got += m.Name + " "
	}
	if got != "before quick slow " {
		t.Error(got)
	}
}
