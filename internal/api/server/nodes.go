package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
)

// Nodes is what the API needs of a cluster's nodes.
type Nodes interface {
	// List asks no other node.
	List(ctx context.Context) api.Nodes
	Invite(ctx context.Context, by string, in api.Invite) (api.Invitation, error)
	Admit(ctx context.Context, in api.Join) (api.Joined, error)
	Remove(ctx context.Context, name string) error
}

// guests bounds how often somebody without a token may try a secret.
var guests = rate.NewLimiter(1, 5)

func (s *Server) nodeRoutes() {
	if s.Nodes == nil {
		return
	}
	huma.Get(s.huma, "/v1/nodes", func(ctx context.Context, _ *struct{}) (*struct{ Body api.Nodes }, error) {
		return &struct{ Body api.Nodes }{s.Nodes.List(ctx)}, nil
	}, doc("list-nodes", "The nodes as this one sees them; answers without a majority too", access.Viewer))
	huma.Post(s.huma, "/v1/nodes/invitations", func(ctx context.Context, in *struct{ Body api.Invite }) (*struct{ Body api.Invitation }, error) {
		i, err := s.Nodes.Invite(ctx, who(ctx).Name, in.Body)
		if err != nil {
			return nil, answer(err)
		}
		return &struct{ Body api.Invitation }{i}, nil
	}, doc("invite-node", "Make a join token for a new node; the answer is the only time it is shown", access.Admin))
	huma.Post(s.huma, "/v1/nodes", func(ctx context.Context, in *struct{ Body api.Join }) (*struct{ Body api.Joined }, error) {
		if !guests.Allow() {
			return nil, huma.NewError(http.StatusTooManyRequests, "too many nodes knock at once: try again in a few seconds")
		}
		j, err := s.Nodes.Admit(ctx, in.Body)
		if err != nil {
			return nil, answer(err)
		}
		return &struct{ Body api.Joined }{j}, nil
	}, doc("join-node", "Let a new node in; the secret of its join token is its right", access.Nobody))
	huma.Post(s.huma, "/v1/nodes/{name}/remove", func(ctx context.Context, in *struct {
		Name string `path:"name" doc:"Name of the node."`
	},
	) (*struct{ Body api.Nodes }, error) {
		if err := s.Nodes.Remove(ctx, in.Name); err != nil {
			return nil, answer(err)
		}
		return &struct{ Body api.Nodes }{s.Nodes.List(ctx)}, nil
	}, doc("remove-node", "Take a node out for good; it goes on after the answer until the node is off the list", access.Admin))
}
