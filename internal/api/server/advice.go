package server

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/advise"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

func (s *Server) adviceRoutes() {
	one := make(chan struct{}, 1) // it reads a binary log: not several at a time
	huma.Get(s.huma, "/v1/advice", func(ctx context.Context, in *struct {
		Seconds int `query:"seconds" default:"3" minimum:"0" maximum:"60" doc:"How long to watch the members."`
	},
	) (*struct{ Body api.Advice }, error) {
		select {
		case one <- struct{}{}:
			defer func() { <-one }()
		default:
			return nil, huma.Error409Conflict("somebody else asks for advice just now; ask again in a moment")
		}
		ctx, cancel := context.WithTimeout(ctx, time.Duration(in.Seconds)*time.Second+30*time.Second)
		defer cancel()
		var servers []*mysql.Server
		for _, m := range s.Watch.View().Members {
			if m.Failure != topology.Answers {
				continue
			}
			server, err := s.Open(m.Instance)
			if err != nil {
				return nil, answer(err)
			}
			defer func() { _ = server.Close() }()
			servers = append(servers, server)
		}
		return &struct{ Body api.Advice }{advise.Gather(ctx, servers, time.Duration(in.Seconds)*time.Second)}, nil
	}, doc("advise", "What the members count about transaction sizes, flow control and conflicts by table, and what to do", access.Operator))
}
