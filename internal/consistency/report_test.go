package consistency

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/state"
)

func TestAReportStaysADocumentWhateverWasFound(t *testing.T) {
	t.Parallel()
	var r Report
	for i := range 3000 {
		k := strings.Repeat("k", 6000) + string(rune(i))
		r.differs(Difference{Kind: Row, Key: k, Text: k, SQL: k})
		r.remark(Remark{Kind: Undecided, Text: string(rune('a'+i%26)) + k, SQL: k, Subject: k[5990:]})
	}
	b, err := json.Marshal(r)
	if err != nil || len(b) > state.MaxDocument {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if len(r.Differences) == 0 || r.Unlisted == 0 {
		t.Errorf("%d differences listed, %d not", len(r.Differences), r.Unlisted)
	}
}

func TestWhatIsFoundTwiceIsListedOnce(t *testing.T) {
	t.Parallel()
	var r Report
	for range 2 {
		r.differs(Difference{Kind: Row, Table: "t", Key: "1"})
		r.remark(Remark{Kind: Denied, Subject: "t"})
	}
	if len(r.Differences) != 1 || len(r.Remarks) != 1 || r.Unlisted != 0 {
		t.Errorf("%+v", r)
	}
}
