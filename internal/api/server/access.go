package server

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/auditlog"
)

// roleKey is where an operation of the OpenAPI document says which role it
// needs. The server obeys the same words.
const roleKey = "x-perdure-role"

// routes is a mux that remembers what is on it.
type routes struct {
	http.ServeMux
	all []string
}

// HandleFunc adds a route.
func (r *routes) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	r.all = append(r.all, pattern)
	r.ServeMux.HandleFunc(pattern, h)
}

// Routes are the patterns of all routes, also of those the OpenAPI document
// should have and has not.
func (s *Server) Routes() []string { return slices.Clone(s.mux.all) }

// handle registers a route that is not described by a type. Without a summary
// the caller describes it in the OpenAPI document himself.
func (s *Server) handle(pattern string, role access.Role, summary string, h http.HandlerFunc) {
	s.roles[pattern] = role
	s.mux.HandleFunc(pattern, h)
	if summary == "" {
		return
	}
	method, path, _ := strings.Cut(pattern, " ")
	s.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: method, Path: path, Summary: summary,
		OperationID: strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(path, "/"), "v1/"), "/", "-"),
		Extensions:  map[string]any{roleKey: string(role)},
		Responses:   map[string]*huma.Response{"200": {Description: summary}},
	})
}

// learnRoles reads from the OpenAPI document which role each route needs.
func (s *Server) learnRoles() {
	for _, o := range s.Operations() {
		if o.Role != "" {
			s.roles[o.Method+" "+o.Path] = o.Role
		}
	}
	for _, p := range described {
		s.roles[p] = access.Nobody
	}
}

// described are the routes that give the OpenAPI document, and are not in it.
var described = []string{"GET /openapi.json", "GET /openapi.yaml", "GET /openapi-3.0.json", "GET /openapi-3.0.yaml"}

type identity struct{}

// who is whose token the request carries.
func who(ctx context.Context) access.Token {
	t, _ := ctx.Value(identity{}).(access.Token)
	return t
}

// strangers and overreach bound how many refused requests get into the audit
// log: without a known token, and with one that may not.
var (
	strangers = rate.NewLimiter(1, 10)
	overreach = rate.NewLimiter(5, 500)
)

// refusal says why a token may not use a route, or "".
func refusal(t access.Token, needed access.Role, pattern string) string {
	if !t.Role.Covers(needed) {
		return "this needs the role " + string(needed) + "; the token " + t.Name + " has the role " + string(t.Role)
	}
	_, path, _ := strings.Cut(pattern, " ")
	if part := access.Part(path); !t.Reaches(part) {
		return "the token " + t.Name + " is only for " + strings.Join(t.Only, ", ") + ", not for " + cmp.Or(part, "this")
	}
	return ""
}

// ServeHTTP implements http.Handler: who it is, whether he may, and what he did.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, pattern := s.mux.Handler(r)
	needed, known := s.roles[pattern]
	if !known {
		needed = access.Admin
	}
	var t access.Token
	if needed != access.Nobody {
		secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		var err error
		if t, err = s.Access.Who(secret, time.Now()); !ok || err != nil {
			if ok && strangers.Allow() {
				s.note(r, "", http.StatusUnauthorized)
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="perdure"`)
			problem(w, http.StatusUnauthorized, "this needs a token of the node, as \"Authorization: Bearer TOKEN\"")
			return
		}
		if why := refusal(t, needed, pattern); why != "" {
			if overreach.Allow() {
				s.note(r, t.Name, http.StatusForbidden)
			}
			problem(w, http.StatusForbidden, why)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), identity{}, t))
	}
	limit := int64(maxBody)
	if pattern == "POST /v1/writes" {
		limit = maxWrites
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	if needed == access.Operator && r.Method != http.MethodGet || needed == access.Admin {
		w = &audited{ResponseWriter: w, note: func(status int) { s.note(r, t.Name, status) }}
	}
	s.mux.ServeHTTP(w, r)
}

// note puts a request into the audit log.
func (s *Server) note(r *http.Request, name string, status int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 3*time.Second)
	defer cancel()
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	if name == "" {
		name = "unknown"
	}
	if err := s.Audit.Add(ctx, auditlog.Entry{At: time.Now(), Who: name, From: from, Did: r.Method + " " + r.URL.Path, Result: strconv.Itoa(status)}); err != nil {
		s.Log.Error("a request is not in the audit log", "who", name, "did", r.Method+" "+r.URL.Path, "status", status, "err", err)
	}
}

// audited writes the audit entry before the answer.
type audited struct {
	http.ResponseWriter
	note func(status int)
	done bool
}

func (a *audited) WriteHeader(status int) {
	if !a.done {
		a.done = true
		a.note(status)
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *audited) Write(b []byte) (int, error) {
	if !a.done {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *audited) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (s *Server) accessRoutes() {
	huma.Get(s.huma, "/v1/tokens", func(ctx context.Context, _ *struct{}) (*struct{ Body []api.Token }, error) {
		all, err := s.Access.All(ctx)
		if err != nil {
			return nil, answer(err)
		}
		out := []api.Token{}
		for _, t := range all {
			out = append(out, shown(t))
		}
		return &struct{ Body []api.Token }{out}, nil
	}, doc("list-tokens", "Tokens, without their secrets", access.Admin))
	huma.Post(s.huma, "/v1/tokens", func(ctx context.Context, in *struct{ Body api.Token }) (*struct{ Body api.Token }, error) {
		t := access.Token{
			Name: in.Body.Name, Role: access.Role(in.Body.Role), Operations: in.Body.Operations, SQL: in.Body.SQL, Rate: in.Body.Rate,
			Only: in.Body.Only, Expires: in.Body.Expires, By: who(ctx).Name,
		}
		if err := s.checkParts(who(ctx), t.Only); err != nil {
			return nil, err
		}
		secret, err := s.Access.Make(ctx, t)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		out := shown(t)
		out.Secret = secret
		return &struct{ Body api.Token }{out}, nil
	}, doc("make-token", "Make a token; the answer is the only time its secret is shown", access.Admin))
	huma.Delete(s.huma, "/v1/tokens/{name}", func(ctx context.Context, in *struct {
		Name string `path:"name"`
	},
	) (*struct{}, error) {
		if err := s.Access.Revoke(ctx, in.Name); err != nil {
			return nil, huma.Error404NotFound(err.Error())
		}
		return nil, nil
	}, doc("revoke-token", "Revoke a token", access.Admin))
	huma.Get(s.huma, "/v1/audit", func(ctx context.Context, in *struct {
		Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000000"`
	},
	) (*struct{ Body []auditlog.Entry }, error) {
		all, err := s.Audit.List(ctx, in.Limit)
		return &struct{ Body []auditlog.Entry }{all}, answer(err)
	}, doc("list-audit", "The audit log, newest last", access.Admin))
	huma.Get(s.huma, "/v1/audit/verify", func(ctx context.Context, _ *struct{}) (*struct{ Body api.AuditVerified }, error) {
		n, newest, err := s.Audit.Verify(ctx)
		out := api.AuditVerified{Entries: n, Newest: newest}
		if err != nil {
			out.Problem = err.Error()
		}
		return &struct{ Body api.AuditVerified }{out}, nil
	}, doc("verify-audit", "Check the chain of the audit log", access.Admin))
}

// checkParts refuses parts that do not exist, and more than the maker himself
// may use.
func (s *Server) checkParts(maker access.Token, only []string) error {
	known := map[string]bool{}
	for path := range s.huma.OpenAPI().Paths {
		known[access.Part(path)] = true
	}
	for _, part := range only {
		if !known[part] {
			return huma.Error422UnprocessableEntity("the API has no part " + part + "; there are " + strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if !maker.Reaches(part) {
			return huma.Error403Forbidden("the token " + maker.Name + " is not for " + part + " itself")
		}
	}
	if len(only) == 0 && len(maker.Only) > 0 {
		return huma.Error403Forbidden("the token " + maker.Name + " is only for " + strings.Join(maker.Only, ", ") + ": name the parts the new one is for")
	}
	return nil
}

func shown(t access.Token) api.Token {
	return api.Token{Name: t.Name, Role: string(t.Role), Operations: t.Operations, SQL: t.SQL, Rate: t.Rate, Only: t.Only, Expires: t.Expires, Made: t.Made, By: t.By}
}
