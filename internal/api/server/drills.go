package server

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/drill"
)

func (s *Server) drillRoutes() {
	huma.Get(s.huma, "/v1/drills", func(ctx context.Context, _ *struct{}) (*struct{ Body []drill.Report }, error) {
		all, err := s.Drills.List(ctx)
		if err != nil {
			return nil, answer(err)
		}
		return &struct{ Body []drill.Report }{all}, nil
	}, doc("list-drills", "Reports of former drills, newest first", access.Viewer))
	huma.Post(s.huma, "/v1/drills", func(ctx context.Context, in *struct{ Body api.Drill }) (*struct{ Body drill.Report }, error) {
		// It goes to its end whoever still listens: a frozen server must be thawed.
		r, err := s.Drills.Run(context.WithoutCancel(ctx), drill.Kind(in.Body.Kind), in.Body.Member)
		if err != nil {
			return nil, answer(err)
		}
		return &struct{ Body drill.Report }{r}, nil
	}, doc("run-drill", "Make a fault on purpose and measure how the cluster gets over it; answers when that is over", access.Operator))
}
