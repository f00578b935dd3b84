package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/hook"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/rule"
)

func (s *Server) noticeRoutes() {
	s.handle("GET /v1/events", access.Viewer, "", s.listEvents)
	s.handle("GET /v1/events/follow", access.Viewer, "", s.followEvents)
	for path, summary := range map[string]string{
		"/v1/events":        "Events of the past, oldest first, as CloudEvents with their sequence",
		"/v1/events/follow": "Events as they come, as server-sent events: id is the sequence, data a CloudEvent",
	} {
		s.huma.OpenAPI().AddOperation(&huma.Operation{
			Method: http.MethodGet, Path: path, OperationID: strings.ReplaceAll(strings.TrimPrefix(path, "/v1/"), "/", "-"), Summary: summary,
			Extensions: map[string]any{roleKey: string(access.Viewer)}, Responses: map[string]*huma.Response{"200": {Description: summary}},
		})
	}
	huma.Get(s.huma, "/v1/alarms", list(s.Alarms.List), doc("list-alarms", "Where all alarms stand, the worst first", access.Viewer))
	huma.Get(s.huma, "/v1/alarms/history", func(ctx context.Context, in *struct {
		Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	},
	) (*struct{ Body []alarm.Entry }, error) {
		all, err := s.Alarms.History(ctx, in.Limit)
		return &struct{ Body []alarm.Entry }{all}, answer(err)
	}, doc("alarm-history", "The newest changes of alarms", access.Viewer))
	huma.Post(s.huma, "/v1/alarms/acknowledge", func(ctx context.Context, in *struct{ Body api.Acknowledge }) (*struct{}, error) {
		if err := s.Alarms.Acknowledge(ctx, in.Body.Alarm, in.Body.Member, who(ctx).Name, in.Body.Note); err != nil {
			return nil, huma.Error404NotFound(err.Error())
		}
		return nil, nil
	}, doc("acknowledge-alarm", "Say that somebody takes care of an alarm", access.Operator))
	s.ruleRoutes()
}

// list answers with what a function returns.
func list[T any](do func(context.Context) ([]T, error)) func(context.Context, *struct{}) (*struct{ Body []T }, error) {
	return func(ctx context.Context, _ *struct{}) (*struct{ Body []T }, error) {
		all, err := do(ctx)
		if all == nil {
			all = []T{}
		}
		return &struct{ Body []T }{all}, answer(err)
	}
}

func (s *Server) ruleRoutes() {
	huma.Get(s.huma, "/v1/rules", list(func(context.Context) ([]rule.Rule, error) { return s.Rules.List(), nil }), doc("list-rules", "The rules in force", access.Viewer))
	huma.Post(s.huma, "/v1/rules/test", func(ctx context.Context, in *struct{ Body api.TestRules }) (*struct{ Body []rule.Hit }, error) {
		hits, err := s.Rules.Match(ctx, made(in.Body))
		return &struct{ Body []rule.Hit }{hits}, answer(err)
	}, doc("test-rules", "What every rule would do with an event; nothing is done", access.Viewer))
	huma.Post(s.huma, "/v1/notify/{channel}/test", func(ctx context.Context, in *struct {
		Channel string `path:"channel"`
	},
	) (*struct{ Body rule.Tested }, error) {
		t, err := s.Rules.Test(ctx, in.Channel, who(ctx).Name)
		if err != nil {
			return nil, huma.Error404NotFound(err.Error())
		}
		return &struct{ Body rule.Tested }{t}, nil
	}, doc("test-notify", "Bring a test message to a channel now", access.Operator))
	huma.Post(s.huma, "/v1/hooks/{hook}/rehearse", func(ctx context.Context, in *struct {
		Hook string `path:"hook"`
		Body api.TestRules
	},
	) (*struct{ Body hook.Rehearsal }, error) {
		h := s.Hooks[in.Hook]
		if h == nil {
			return nil, huma.Error404NotFound("there is no hook " + in.Hook)
		}
		e := made(in.Body)
		return &struct{ Body hook.Rehearsal }{h.DryRun(ctx, e.ID, e)}, nil
	}, doc("rehearse-hook", "What a hook would do with an event; nothing is done", access.Operator))
	huma.Get(s.huma, "/v1/deliveries", func(ctx context.Context, in *struct {
		Target string `query:"target" doc:"notify/NAME or hook/NAME."`
		State  string `query:"state" doc:"waiting, done, skipped or dead."`
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	},
	) (*struct{ Body []rule.Task }, error) {
		all, err := s.Rules.Tasks(ctx, in.Target, rule.State(in.State), in.Limit)
		return &struct{ Body []rule.Task }{all}, answer(err)
	}, doc("list-deliveries", "Messages and hook runs with their attempts, the newest first", access.Viewer))
	huma.Post(s.huma, "/v1/deliveries/{id}/{verb}", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Verb string `path:"verb" enum:"redrive,discard"`
	},
	) (*struct{}, error) {
		do := s.Rules.Redrive
		if in.Verb == "discard" {
			do = s.Rules.Discard
		}
		if err := do(ctx, in.ID); err != nil {
			return nil, huma.Error404NotFound(err.Error())
		}
		return nil, nil
	}, doc("steer-delivery", "Try a dead or skipped delivery again, or discard it", access.Operator))
	huma.Get(s.huma, "/v1/silences", list(s.Rules.Silences), doc("list-silences", "Silences that are in force or will be", access.Viewer))
	huma.Post(s.huma, "/v1/silences", func(ctx context.Context, in *struct{ Body api.Silence }) (*struct{ Body rule.Silence }, error) {
		d, err := time.ParseDuration(in.Body.For)
		if err != nil || d <= 0 {
			return nil, huma.Error422UnprocessableEntity("for how long is a duration such as 2h")
		}
		now := time.Now()
		made, err := s.Rules.Silence(ctx, rule.Silence{
			Match: event.Matcher{Kinds: in.Body.Kinds, Members: in.Body.Members}, From: now, Until: now.Add(d), Who: who(ctx).Name, Why: in.Body.Why,
		})
		return &struct{ Body rule.Silence }{made}, answer(err)
	}, doc("silence", "Keep messages about some events back for a time", access.Operator))
	huma.Delete(s.huma, "/v1/silences/{id}", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	},
	) (*struct{}, error) {
		if err := s.Rules.Unsilence(ctx, in.ID, who(ctx).Name); err != nil {
			return nil, huma.Error404NotFound(err.Error())
		}
		return nil, nil
	}, doc("unsilence", "End a silence", access.Operator))
}

// made is an event that did not happen, for tests.
func made(t api.TestRules) event.Event {
	subject := "cluster"
	if t.Member != "" {
		subject = "member/" + t.Member
	}
	e := event.New(event.Kind(t.Kind), subject, "a test: nothing happened")
	e.Member = t.Member
	if t.Severity != "" {
		e.Severity = event.Severity(t.Severity)
	}
	return e
}

func matcher(r *http.Request) event.Matcher {
	var m event.Matcher
	if k := r.URL.Query().Get("kinds"); k != "" {
		m.Kinds = strings.Split(k, ",")
	}
	if k := r.URL.Query().Get("members"); k != "" {
		m.Members = strings.Split(k, ",")
	}
	m.Severity = event.Severity(r.URL.Query().Get("severity"))
	return m
}

func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) {
	m := matcher(r)
	if err := m.Check(); err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	from, _ := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	all, err := s.Events.List(ctx, jet.Query{Match: m, From: from, Limit: limit})
	if err != nil {
		problem(w, http.StatusServiceUnavailable, "the events cannot be read: "+err.Error())
		return
	}
	if all == nil {
		all = []jet.StoredEvent{}
	}
	answerJSON(w, http.StatusOK, all)
}

// followEvents streams events from a place on: after the sequence in
// Last-Event-ID or ?after, else from now.
func (s *Server) followEvents(w http.ResponseWriter, r *http.Request) {
	m := matcher(r)
	if err := m.Check(); err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	from, err := strconv.ParseUint(after, 10, 64)
	if err != nil {
		now, err := s.Events.Range(r.Context())
		if err != nil {
			problem(w, http.StatusServiceUnavailable, "the events cannot be read: "+err.Error())
			return
		}
		from = now.Last
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	_ = out.Flush()
	_ = s.Events.Follow(r.Context(), from+1, m, func(e jet.StoredEvent) error {
		b, err := json.Marshal(e.Event)
		if err != nil {
			return err
		}
		if _, err := w.Write([]byte("id: " + strconv.FormatUint(e.Sequence, 10) + "\ndata: " + string(b) + "\n\n")); err != nil {
			return err
		}
		return out.Flush()
	})
}
