package server

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/plan"
)

func (s *Server) operationRoutes() {
	huma.Get(s.huma, "/v1/operations", func(ctx context.Context, in *struct {
		Limit int `query:"limit" default:"20" minimum:"1" maximum:"1000"`
	},
	) (*struct{ Body []api.Operation }, error) {
		plans, err := s.Group.Plans(ctx, in.Limit)
		if err != nil {
			return nil, answer(err)
		}
		out := make([]api.Operation, 0, len(plans))
		for _, p := range plans {
			out = append(out, operation(p))
		}
		return &struct{ Body []api.Operation }{out}, nil
	}, doc("list-operations", "Changes that were asked for, newest first", access.Viewer))

	huma.Post(s.huma, "/v1/operations/{id}/abort", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	},
	) (*accepted, error) {
		p, err := s.Group.Abort(ctx, in.ID, who(ctx).Name)
		return begun(p, api.Ask{}, err)
	}, doc("abort-operation", "Take a running change back, where there is a way back", access.Operator))
	huma.Get(s.huma, "/v1/operations/{id}", s.getOperation, doc("get-operation", "One change and how far it is", access.Viewer))
}

// longest is how long a request for an operation may wait for news.
const longest = 20 * time.Second

// getOperation answers with the operation. With wait it answers as soon as the
// operation has another state than the number of changes the caller has seen,
// or has ended, or the time is over.
func (s *Server) getOperation(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Wait int    `query:"wait" minimum:"0" maximum:"20" doc:"Seconds to wait for news."`
	Seen string `query:"seen" doc:"The steps' states as last seen: answer at once if they differ."`
}) (*struct {
	Seen string `header:"Perdure-Seen"`
	Body api.Operation
}, error,
) {
	type out = struct {
		Seen string `header:"Perdure-Seen"`
		Body api.Operation
	}
	p, err := s.Group.Plan(ctx, in.ID)
	if err != nil {
		return nil, answer(err)
	}
	if in.Wait == 0 || p.State.Over() || seen(p) != in.Seen {
		return &out{seen(p), operation(p)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(longest, time.Duration(in.Wait)*time.Second))
	defer cancel()
	newest, _ := s.Group.WaitPlan(ctx, in.ID, func(n plan.Plan) {
		p = n
		if seen(n) != in.Seen {
			cancel()
		}
	})
	if newest.ID != "" {
		p = newest
	}
	return &out{seen(p), operation(p)}, nil
}

// seen sums up where a plan stands in a few letters.
func seen(p plan.Plan) string {
	b := []byte(p.State[:1])
	for _, s := range p.Steps {
		b = append(b, s.State[0], s.State[len(s.State)-1])
		if s.State == plan.Begun {
			b = append(b, s.Note...)
		}
	}
	sum := uint64(14695981039346656037)
	for _, c := range b {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	const letters = "abcdefghijklmnop"
	out := make([]byte, 16)
	for i := range out {
		out[i] = letters[sum>>(4*i)&15]
	}
	return string(out)
}
