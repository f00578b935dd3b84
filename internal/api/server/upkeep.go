package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/schedule"
)

// newest stands for the id of the newest audit.
const newest = "newest"

// auditBody is one audit and its report.
type auditBody struct {
	consistency.Audit
	Report *consistency.Report `json:"report,omitempty"`
}

type auditAnswer struct {
	Status int
	Body   auditBody
}

func (s *Server) upkeepRoutes() {
	huma.Get(s.huma, "/v1/consistency", func(ctx context.Context, _ *struct{}) (*struct{ Body []consistency.Audit }, error) {
		if s.Consistency == nil {
			return &struct{ Body []consistency.Audit }{[]consistency.Audit{}}, nil
		}
		all, err := s.Consistency.List(ctx)
		return &struct{ Body []consistency.Audit }{all}, answer(err)
	}, doc("list-consistency-audits", "Comparisons of what the members hold, newest first", access.Viewer))
	huma.Post(s.huma, "/v1/consistency", func(ctx context.Context, in *struct{ Body consistency.Scope }) (*auditAnswer, error) {
		return s.auditing(func() (consistency.Audit, error) {
			return s.Consistency.Ask(ctx, in.Body, who(ctx).Name)
		})
	}, doc("run-consistency-audit", "Compare what the members hold; the node that leads does it, one audit at a time", access.Operator))
	huma.Get(s.huma, "/v1/consistency/{id}", func(ctx context.Context, in *struct {
		ID string `path:"id" doc:"An audit's id, or newest."`
	},
	) (*auditAnswer, error) {
		if s.Consistency == nil {
			return nil, answer(errNoAudits())
		}
		if in.ID == newest {
			id, err := s.Consistency.Newest(ctx)
			if err != nil {
				return nil, noSuchAudit(err)
			}
			in.ID = id
		}
		a, r, err := s.Consistency.Get(ctx, in.ID)
		return &auditAnswer{http.StatusOK, auditBody{a, &r}}, noSuchAudit(err)
	}, doc("get-consistency-audit", "One audit and its report, as far as it is", access.Viewer))
	huma.Post(s.huma, "/v1/consistency/{id}/stop", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	},
	) (*auditAnswer, error) {
		return s.auditing(func() (consistency.Audit, error) { return s.Consistency.Stop(ctx, in.ID, who(ctx).Name) })
	}, doc("stop-consistency-audit", "End an audit; what it found is kept", access.Operator))
	huma.Get(s.huma, "/v1/schedules", func(ctx context.Context, _ *struct{}) (*struct{ Body []api.Schedule }, error) {
		all, err := s.Schedules.List(ctx)
		if err != nil {
			return nil, answer(err)
		}
		out := []api.Schedule{}
		for _, x := range all {
			out = append(out, api.Schedule{
				Name: x.Name, Do: x.Do, At: x.At, Zone: cmp.Or(x.Zone, "UTC"), Missed: cmp.Or(x.Missed, schedule.Skip),
				Next: x.Next, Due: x.Due, Result: x.Result, Text: x.Text,
			})
		}
		return &struct{ Body []api.Schedule }{out}, nil
	}, doc("list-schedules", "What begins at times, when it is due next, and what became of it", access.Viewer))
}

func errNoAudits() error {
	return plan.Refuse("add the section consistency to perdure.yaml; `perdure consistency grants` makes its account",
		"this node has no account with which to read the members' data. Nothing was begun.")
}

// auditing does something that begins or ends an audit.
func (s *Server) auditing(do func() (consistency.Audit, error)) (*auditAnswer, error) {
	if s.Consistency == nil {
		return nil, answer(errNoAudits())
	}
	a, err := do()
	if err != nil {
		return nil, noSuchAudit(err)
	}
	return &auditAnswer{http.StatusAccepted, auditBody{Audit: a}}, nil
}

func noSuchAudit(err error) error {
	if errors.Is(err, consistency.ErrNoSuchAudit) {
		return huma.Error404NotFound(err.Error())
	}
	return answer(err)
}
