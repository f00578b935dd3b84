// Package server is the HTTP API: routes, authentication, limits. Handlers are
// thin; what they ask for is done by the duties.
package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/semaphore"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/auditlog"
	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/drill"
	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/hook"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/proxy"
	"github.com/perdure/perdure/internal/queue"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/rule"
	"github.com/perdure/perdure/internal/schedule"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// Config is what the API stands on.
type Config struct {
	Version string
	Node    string
	Access  *access.List
	Audit   *auditlog.Log
	Group   *group.Group
	Watch   *watch.Watcher
	Open    func(topology.Instance) (*mysql.Server, error)
	Proxy   *proxy.Proxy // nil where this node runs none
	Route   *route.Table
	Wish    state.Doc[route.Wish]
	Obey    func(route.Wish) // follows a wish at once, on this node
	Queue   *queue.Service   // nil where this node has none
	Nodes   Nodes
	// Known is the cluster as this node saw it last, for while the control store
	// does not answer.
	Known  func() group.Cluster
	Drills *drill.Drills
	// Consistency is nil where there is no account for audits.
	Consistency *consistency.Audits
	Schedules   *schedule.Scheduler

	Events  *jet.Events
	Alarms  *alarm.Alarms
	Rules   *rule.Rules
	Hooks   map[string]*hook.Hook
	Metrics prometheus.Gatherer
	// Traced, if set, wraps what answers requests; name is the route's pattern.
	Traced func(next http.Handler, name func(*http.Request) string) http.Handler
	Log    *slog.Logger
}

// Server answers the API. Make one with New.
type Server struct {
	Config
	mux   *routes
	huma  huma.API
	roles map[string]access.Role // by the mux's pattern; what is missing needs an administrator

	bodies *semaphore.Weighted // bytes of large requests in hand
	counts counts
}

// maxBody bounds what a request may carry; a spec of nine members is 2 kB.
const maxBody = 1 << 20

// New makes the API's routes.
func New(c Config) *Server {
	s := &Server{Config: c, mux: &routes{}, roles: map[string]access.Role{}, bodies: semaphore.NewWeighted(maxBodies)}
	h := huma.DefaultConfig("Perdure", c.Version)
	h.DocsPath = "" // its page would load scripts from elsewhere
	h.SchemasPath = ""
	h.CreateHooks = nil // no $schema links in answers
	h.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	h.Security = []map[string][]string{{"token": {}}}
	h.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	s.huma = humago.New(s.mux, h)
	s.clusterRoutes()
	s.nodeRoutes()
	s.operationRoutes()
	s.checkRoutes()
	s.proxyRoutes()
	s.accessRoutes()
	s.writeRoutes()
	s.queueRoutes()
	s.drillRoutes()
	s.noticeRoutes()
	s.adviceRoutes()
	s.upkeepRoutes()
	s.readyRoutes()
	if c.Metrics != nil {
		s.handle("GET /metrics", access.Viewer, "What this node measures, for Prometheus", promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{}).ServeHTTP)
	}
	s.learnRoles()
	return s
}

// schemaName keeps apart what several packages call alike, such as the members
// of a spec and those of a View.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if pkg := path.Base(t.PkgPath()); t.Name() != "" && pkg != "api" && pkg != "server" && strings.Contains(t.PkgPath(), "perdure") {
		return strings.ToUpper(pkg[:1]) + pkg[1:] + "." + name // without the dot, one of ours may be called so
	}
	return name
}

// OpenAPI is the description of the API as JSON.
func (s *Server) OpenAPI() ([]byte, error) { return json.MarshalIndent(s.huma.OpenAPI(), "", "  ") }

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail})
}

// Serve answers on ln, with TLS, until ctx ends. It then lets requests in hand
// finish for a few seconds.
func (s *Server) Serve(ctx context.Context, ln net.Listener, cert tls.Certificate) error {
	h := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- h.ServeTLS(ln, "", "") }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	err := h.Shutdown(grace)
	if e := <-done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return h.Close()
	}
	return err
}

// answer turns an error into a problem document. The hint of a refusal travels
// as an error detail, so that the command line can print it on its own line.
func answer(err error) error {
	var status int
	hint := plan.Hint(err)
	refused, isRefusal := errors.AsType[*plan.RefusedError](err)
	switch {
	case err == nil:
		return nil
	case isRefusal:
		status, err = http.StatusConflict, refused
	case errors.Is(err, group.ErrNoSuchPlan):
		status = http.StatusNotFound
	case errors.Is(err, state.ErrUnavailable):
		status = http.StatusServiceUnavailable
	default:
		status = http.StatusInternalServerError
	}
	m := &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: err.Error()}
	if isRefusal {
		m.Type = "urn:perdure:refused"
	} else if errors.Is(err, state.ErrUnavailable) {
		m.Type = "urn:perdure:no-quorum"
	}
	if hint != "" {
		m.Errors = append(m.Errors, &huma.ErrorDetail{Message: hint, Location: "hint"})
	}
	return m
}

// operation is a plan as the API shows it.
func operation(p plan.Plan) api.Operation {
	o := api.Operation{
		ID: p.ID, Kind: p.Kind, Title: p.Title, State: string(p.State), Error: p.Error, Hint: p.Hint, Refused: p.Refused,
		Actor: p.Actor, Node: p.Node, Created: p.Created, Ended: p.Ended, Steps: []api.OperationStep{},
	}
	for _, s := range p.Steps {
		o.Steps = append(o.Steps, api.OperationStep{Name: s.Verb, Member: s.Member, State: string(s.State), Note: s.Note, Begin: s.Begin, End: s.End})
	}
	return o
}
