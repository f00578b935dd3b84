package consistency

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

func TestWhatIsOpenStaysUntilALaterAuditSawItEqual(t *testing.T) {
	t.Parallel()
	before := open{Tables: []openTable{{Schema: "shop", Table: "orders", Audit: "old"}, {Schema: "shop", Table: "items", Audit: "old"}, {Audit: "old"}}}
	row := func(table string) Difference { return Difference{Kind: Row, Schema: "shop", Table: table} }
	for _, c := range []struct {
		name  string
		scope Scope
		r     Report
		want  string
	}{
		{"all is equal now", Scope{}, Report{}, ""},
		{"another schema is equal", Scope{Schemas: []string{"hr"}}, Report{}, "shop.orders shop.items"},
		{"one table is equal", Scope{Tables: []string{"shop.orders"}}, Report{}, "shop.items"},
		{"one differs still, twice", Scope{}, Report{Differences: []Difference{row("orders"), row("orders")}}, "shop.orders"},
		{"one differs newly", Scope{Tables: []string{"shop.customers"}}, Report{Differences: []Difference{row("customers")}}, "shop.customers shop.orders shop.items"},
		{"one was not compared to its end", Scope{}, Report{Remarks: []Remark{{Kind: Incomplete, Subject: "shop.items"}}}, "shop.items"},
		{"a member was away", Scope{}, Report{Remarks: []Remark{{Kind: Incomplete, Subject: "m3"}}}, "shop.orders shop.items ."},
		{"the account cannot see all", Scope{}, Report{Remarks: []Remark{{Kind: Blind, Subject: "auditor"}}}, "shop.orders shop.items ."},
		{"transactions are missing", Scope{Tables: []string{"shop.orders", "shop.items"}}, Report{Differences: []Difference{{Kind: GTID}}}, "."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, x := range before.after("new", c.r, c.scope).Tables {
				got = append(got, x.Schema+"."+x.Table)
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("%q, want %q", g, c.want)
			}
		})
	}
}

type nobody struct{}

func (nobody) View() *topology.View { return &topology.View{} }

func TestAnAuditThatGetsNoFurtherIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		a := NewAudits(Needs{
			Config: Config{Watch: nobody{}, Store: state.NewMemory(), Log: slog.New(slog.DiscardHandler)},
			Hold:   func(ctx context.Context) (context.Context, state.Fence, error) { return ctx, state.Fence{}, ctx.Err() },
			To:     event.Func(func(e event.Event) { told = append(told, string(e.Kind)+": "+e.Text) }),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		asked, err := a.Ask(ctx, Scope{}, "dba")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if x, _, err := a.Get(ctx, asked.ID); err != nil || x.State != Running || !strings.Contains(x.Error, "fewer than two members") {
			t.Errorf("after a minute: %+v, %v", x, err)
		}
		time.Sleep(giveUpAfter)
		x, _, err := a.Get(ctx, asked.ID)
		if err != nil || x.State != Failed || x.Ended.IsZero() {
			t.Errorf("%+v, %v", x, err)
		}
		if _, err := a.Ask(ctx, Scope{}, "dba"); err != nil {
			t.Errorf("the next one: %v", err)
		}
		cancel()
		<-done
		if len(told) < 2 || !strings.HasPrefix(told[1], "consistency.failed: a consistency audit was given up: it got no further for 5m0s: ") {
			t.Errorf("told: %q", told)
		}
	})
}
