package server

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/consistency"
)

// The client has structs of its own for what the server sends as it is.
func TestClientsReadAuditsAsTheyAreSent(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	sent := auditBody{
		consistency.Audit{
			ID: "1", State: consistency.Done, By: "b", Asked: at, Began: at, Ended: at, Node: "n", Differences: 1, Remarks: 1, Error: "e", StopBy: "s",
			Scope:    consistency.Scope{Schemas: []string{"a"}, Tables: []string{"b.c"}, Exclude: []string{"d"}},
			Progress: consistency.Progress{Table: "t", Tables: 1, Of: 2, Rows: 3, Found: 4},
		},
		&consistency.Report{
			ID: "1", Began: at, Ended: at, Members: []string{"m"}, Tables: 1, Of: 2, Rows: 3, Slices: 4, Unequal: 5, Again: 6, Moving: 7, Proofs: 8,
			Worked: 9, Rested: 10, Resumed: 11, Unlisted: 12,
			Differences: []consistency.Difference{{
				Kind: "row", Schema: "s", Table: "t", Key: "k", Columns: []string{"c"}, Members: map[string]string{"m": "v"}, Odd: []string{"m"}, Text: "x", SQL: "q",
			}},
			Remarks: []consistency.Remark{{Kind: "k", Subject: "s", Text: "t", SQL: "q"}},
		},
	}
	for _, v := range []any{sent.Audit, *sent.Report, sent.Report.Differences[0], sent.Report.Remarks[0], sent.Scope, sent.Progress} {
		for f, value := range reflect.ValueOf(v).Fields() {
			if value.IsZero() {
				t.Errorf("the test leaves out %T.%s", v, f.Name)
			}
		}
	}
	wire, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var got api.ConsistencyAudit
	d := json.NewDecoder(bytes.NewReader(wire))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(wire, again) {
		t.Errorf("sent %s\nread %s", wire, again)
	}
}
