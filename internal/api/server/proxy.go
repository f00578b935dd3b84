package server

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/proxy"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/state"
)

func (s *Server) proxyRoutes() {
	s.handle("GET /health/writer", access.Nobody, "Whether a write could commit through this node's proxy now: 200 or 503", s.health(route.Write))
	s.handle("GET /health/reader", access.Nobody, "Whether a read would be answered by this node's proxy now: 200 or 503", s.health(route.Read))
	huma.Get(s.huma, "/v1/proxy", s.getProxy, doc("get-proxy", "Writer policy, drains, and how many sessions sit where, on this node", access.Viewer))
	huma.Get(s.huma, "/v1/proxy/sessions", s.sessions, doc("list-sessions", "Sessions of this node's proxy, oldest first", access.Viewer))
	huma.Put(s.huma, "/v1/proxy/writers", s.setWriters, doc("set-writers", "Change how many members take writes, on every node", access.Operator))
	huma.Post(s.huma, "/v1/proxy/drain/{name}", s.drain, doc("drain-member", "Take a member out of use for clients, on every node", access.Operator))
	huma.Post(s.huma, "/v1/proxy/undrain/{name}", s.undrain, doc("undrain-member", "Put a drained member back", access.Operator))
}

// health says in one line whether a request could succeed now, for load
// balancers: 200 or 503.
func (s *Server) health(svc route.Service) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if s.Proxy == nil {
			http.Error(w, "this node runs no proxy", http.StatusServiceUnavailable)
			return
		}
		if err := s.Proxy.Health(svc); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}

func (s *Server) needProxy() error {
	if s.Proxy == nil {
		return answer(plan.Refuse("ask a node that runs one: --api URL", "node %s runs no proxy", s.Node))
	}
	return nil
}

func (s *Server) getProxy(ctx context.Context, _ *struct{}) (*struct{ Body api.Proxy }, error) {
	if err := s.needProxy(); err != nil {
		return nil, err
	}
	out := api.Proxy{Node: s.Node, Writers: s.Route.Writers().String(), Listeners: map[string]string{}, Pins: s.Proxy.Pins(), Members: []api.ProxyMember{}}
	for _, m := range []proxy.Mode{proxy.ReadWrite, proxy.ReadOnly, proxy.Split} {
		if a := s.Proxy.Addr(m); a != nil {
			out.Listeners[string(m)] = a.String()
		}
	}
	p := s.Route.Plan()
	for _, m := range p.Members {
		out.Members = append(out.Members, api.ProxyMember{
			Name: m.Name, State: string(m.State), Sessions: m.Seat.Sessions.Load(), Drained: m.Drained,
			Writes: m.Serves(route.Write), Reads: m.Serves(route.Read),
		})
	}
	return &struct{ Body api.Proxy }{out}, nil
}

func (s *Server) sessions(_ context.Context, in *struct {
	Limit  int  `query:"limit" default:"1000" minimum:"1" maximum:"100000"`
	Pinned bool `query:"pinned" doc:"Only sessions that cannot move."`
},
) (*struct{ Body []proxy.SessionInfo }, error) {
	if err := s.needProxy(); err != nil {
		return nil, err
	}
	all := s.Proxy.Sessions()
	if in.Pinned {
		all = slices.DeleteFunc(all, func(i proxy.SessionInfo) bool { return len(i.Pins) == 0 })
	}
	return &struct{ Body []proxy.SessionInfo }{all[:min(len(all), in.Limit)]}, nil
}

// change edits the wish that every node obeys. This node obeys it before it
// answers.
func (s *Server) change(ctx context.Context, edit func(*route.Wish) error) error {
	w, err := s.Wish.Change(ctx, state.Fence{}, edit)
	if err != nil {
		return answer(err)
	}
	s.Obey(w)
	return nil
}

func (s *Server) setWriters(ctx context.Context, in *struct{ Body api.SetWriters }) (*struct{ Body api.Proxy }, error) {
	policy, err := route.ParsePolicy(in.Body.Writers)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	if err := s.change(ctx, func(w *route.Wish) error { w.Writers = policy.String(); return nil }); err != nil {
		return nil, err
	}
	return s.getProxy(ctx, nil)
}

// drain takes a member out of use and waits for its sessions to leave.
func (s *Server) drain(ctx context.Context, in *struct {
	Name string `path:"name"`
	Body api.Drain
},
) (*struct{ Body api.Drained }, error) {
	v := s.Watch.View()
	if _, ok := v.Member(in.Name); !ok {
		return nil, answer(plan.Refuse("`perdure status` lists the members", "there is no member %s. Nothing was changed.", in.Name))
	}
	others := 0
	for _, m := range v.Members {
		if m.Name != in.Name && m.Writable && !slices.Contains(s.Route.Drains(), m.Name) {
			others++
		}
	}
	if m, _ := v.Member(in.Name); m.Writable && others == 0 {
		return nil, answer(plan.Refuse("undrain another member first", "%s is the last member that takes writes. Nothing was changed.", in.Name))
	}
	err := s.change(ctx, func(w *route.Wish) error {
		if !slices.Contains(w.Drains, in.Name) {
			w.Drains = append(w.Drains, in.Name)
		}
		return nil
	})
	if err != nil || s.Proxy == nil {
		return &struct{ Body api.Drained }{}, err
	}
	out := api.Drained{Left: s.Proxy.Drained(in.Name)}
	limit := time.After(time.Duration(min(in.Body.Wait, 60)) * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for out.Left > 0 && in.Body.Wait > 0 {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-limit:
			return &struct{ Body api.Drained }{out}, nil
		case <-tick.C:
			out.Left = s.Proxy.Drained(in.Name)
		}
	}
	return &struct{ Body api.Drained }{out}, nil
}

func (s *Server) undrain(ctx context.Context, in *struct {
	Name string `path:"name"`
},
) (*struct{ Body api.Drained }, error) {
	err := s.change(ctx, func(w *route.Wish) error {
		if !slices.Contains(w.Drains, in.Name) {
			return plan.Refuse("`perdure proxy` shows what is drained", "%s is not drained. Nothing was changed.", in.Name)
		}
		w.Drains = slices.DeleteFunc(w.Drains, func(n string) bool { return n == in.Name })
		return nil
	})
	return &struct{ Body api.Drained }{}, err
}
