package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/plan"
)

// named is a request about one member.
type named struct {
	Name string `path:"name" doc:"Name of the member."`
	Body api.Ask
}

// accepted is the answer to every change: the operation that was begun.
type accepted struct {
	Status int
	Body   api.Operation
}

func request(ctx context.Context, a api.Ask) group.Request {
	return group.Request{
		Accept: group.Accept{Missing: a.AcceptLoss, CloneOver: a.CloneOver},
		Method: a.Method, DryRun: a.DryRun, Actor: who(ctx).Name,
	}
}

// begun answers with the operation that a change became.
func begun(p plan.Plan, a api.Ask, err error) (*accepted, error) {
	if err != nil {
		return nil, answer(err)
	}
	o := operation(p)
	status := http.StatusAccepted
	if a.DryRun {
		o.State, status = "planned", http.StatusOK
	} else if o.Over() {
		status = http.StatusOK
	}
	return &accepted{status, o}, nil
}

func (s *Server) clusterRoutes() {
	huma.Get(s.huma, "/v1/status", s.status, doc("status", "The cluster as it is now", access.Viewer))
	huma.Post(s.huma, "/v1/apply", func(ctx context.Context, in *struct{ Body api.Apply }) (*accepted, error) {
		r := request(ctx, in.Body.Ask)
		r.Remove = in.Body.Remove
		p, err := s.Group.Apply(ctx, in.Body.Spec, r)
		return begun(p, in.Body.Ask, err)
	}, doc("apply", "Make the cluster what the spec says", access.Operator))
	huma.Post(s.huma, "/v1/members", func(ctx context.Context, in *struct{ Body api.AddMember }) (*accepted, error) {
		p, err := s.Group.AddMember(ctx, in.Body.Member, request(ctx, in.Body.Ask))
		return begun(p, in.Body.Ask, err)
	}, doc("add-member", "Let one more server into the cluster", access.Operator))
	for verb, do := range map[string]func(context.Context, string, group.Request) (plan.Plan, error){
		"remove": s.Group.RemoveMember, "stop": s.Group.StopMember, "start": s.Group.StartMember, "rejoin": s.Group.StartMember,
		"rebuild": s.Group.RebuildMember,
	} {
		huma.Post(s.huma, "/v1/members/{name}/"+verb, func(ctx context.Context, in *named) (*accepted, error) {
			p, err := do(ctx, in.Name, request(ctx, in.Body))
			return begun(p, in.Body, err)
		}, doc(verb+"-member", verb+" a member", access.Operator))
	}
	for verb, do := range map[string]func(context.Context, group.Request) (plan.Plan, error){
		"stop": s.Group.StopGroup, "start": s.Group.StartGroup, "force": s.Group.ForceGroup, "restart": s.Group.RestartGroup,
	} {
		huma.Post(s.huma, "/v1/group/"+verb, func(ctx context.Context, in *struct{ Body api.Ask }) (*accepted, error) {
			p, err := do(ctx, request(ctx, in.Body))
			return begun(p, in.Body, err)
		}, doc(verb+"-group", verb+" the whole cluster", access.Operator))
	}
	huma.Post(s.huma, "/v1/group/upgrade", func(ctx context.Context, in *struct{ Body api.Upgrade }) (*accepted, error) {
		p, err := s.Group.UpgradeGroup(ctx, in.Body.To, request(ctx, in.Body.Ask))
		return begun(p, in.Body.Ask, err)
	}, doc("upgrade-group", "Upgrade every member, one after the other", access.Operator))
	s.pauseRoutes()
	huma.Patch(s.huma, "/v1/group", s.setGroup, doc("set-group", "Change the mode or settings of the group", access.Operator))
}

// pauseRoutes are maintenance mode: healing does nothing while it is on.
func (s *Server) pauseRoutes() {
	huma.Post(s.huma, "/v1/pause", func(ctx context.Context, in *struct{ Body api.Pause }) (*struct{ Body api.Pause }, error) {
		p := group.Pause{Since: time.Now().UTC().Truncate(time.Second), By: who(ctx).Name, Why: in.Body.Why}
		if err := s.Group.SetPause(ctx, p); err != nil {
			return nil, answer(err)
		}
		return &struct{ Body api.Pause }{api.Pause{Since: p.Since, By: p.By, Why: p.Why}}, nil
	}, doc("pause", "Let healing do nothing until resume", access.Operator))
	huma.Post(s.huma, "/v1/resume", func(ctx context.Context, _ *struct{}) (*struct{ Body api.Pause }, error) {
		if err := s.Group.SetPause(ctx, group.Pause{}); err != nil {
			return nil, answer(err)
		}
		return &struct{ Body api.Pause }{}, nil
	}, doc("resume", "Let healing go on", access.Operator))
}

// doc names an operation and the role it needs.
func doc(id, summary string, role access.Role) func(*huma.Operation) {
	return func(o *huma.Operation) {
		o.OperationID, o.Summary = id, summary
		o.Extensions = map[string]any{roleKey: string(role)}
	}
}

func (s *Server) setGroup(ctx context.Context, in *struct{ Body api.SetGroup }) (*accepted, error) {
	p, err := s.Group.SetGroup(ctx, func(g *api.Group) {
		b := in.Body
		set(&g.Mode, b.Mode)
		set(&g.Consistency, b.Consistency)
		set(&g.FlowControl, b.FlowControl)
		set(&g.FlowThreshold, b.FlowThreshold)
		set(&g.TransactionLimit, b.TransactionLimit)
		if b.ExpelTimeout != nil {
			g.ExpelTimeout = b.ExpelTimeout
		}
	}, request(ctx, in.Body.Ask))
	return begun(p, in.Body.Ask, err)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// statusLimit bounds what status waits for the control store. The View is at
// hand whatever the store does.
const statusLimit = 400 * time.Millisecond

func (s *Server) status(ctx context.Context, _ *struct{}) (*struct{ Body api.Status }, error) {
	v := *s.Watch.View()
	out := api.Status{Node: s.Node, View: v}
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	c, err := s.Group.Cluster(ctx)
	if err != nil {
		out.Control = err.Error()
		if s.Known != nil {
			c = s.Known()
		}
	} else if !c.Empty() {
		out.Cluster = &api.Cluster{Name: c.Name, Group: c.Group, Spec: c.Spec, Stopped: c.Stopped}
		for _, m := range c.Members {
			out.Cluster.Members = append(out.Cluster.Members, api.ClusterMember{Member: m.Member, Slot: m.Slot, Stopped: m.Stopped})
		}
	}
	running := ""
	if p, err := s.Group.Current(ctx); err == nil && p.ID != "" {
		o := operation(p)
		out.Running, running = &o, p.Title
	}
	if p, err := s.Group.Paused(ctx); err == nil && !p.Since.IsZero() {
		out.Paused = &api.Pause{Since: p.Since, By: p.By, Why: p.Why}
	}
	out.Asking = s.Group.Asking()
	if s.Nodes != nil {
		if all := s.Nodes.List(ctx); len(all.Nodes) > 1 {
			out.Nodes = &all
		}
	}
	out.Level, out.Summary = group.Summary(c, &v, running)
	return &struct{ Body api.Status }{out}, nil
}
