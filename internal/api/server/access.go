package server

import (
	"context"
	"net"
	"net/http"
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

// handle registers a route that is not described by a type.
func (s *Server) handle(pattern string, role access.Role, h http.HandlerFunc) {
	s.roles[pattern] = role
	s.mux.HandleFunc(pattern, h)
}

// learnRoles reads from the OpenAPI document which role each route needs.
func (s *Server) learnRoles() {
	for path, item := range s.huma.OpenAPI().Paths {
		for _, o := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if o == nil {
				continue
			}
			if role, ok := o.Extensions[roleKey].(string); ok {
				s.roles[o.Method+" "+path] = access.Role(role)
			}
		}
	}
	for _, p := range []string{"GET /openapi.json", "GET /openapi.yaml", "GET /openapi-3.0.json", "GET /openapi-3.0.yaml"} {
		s.roles[p] = access.Nobody
	}
}

type identity struct{}

// who is whose token the request carries.
func who(ctx context.Context) access.Token {
	t, _ := ctx.Value(identity{}).(access.Token)
	return t
}

// strangers bounds how many failed log-ins get into the audit log.
var strangers = rate.NewLimiter(1, 10)

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
		if !t.Role.Covers(needed) {
			s.note(r, t.Name, http.StatusForbidden)
			problem(w, http.StatusForbidden, "this needs the role "+string(needed)+"; the token "+t.Name+" has the role "+string(t.Role))
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
			Expires: in.Body.Expires, By: who(ctx).Name,
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

func shown(t access.Token) api.Token {
	return api.Token{Name: t.Name, Role: string(t.Role), Operations: t.Operations, SQL: t.SQL, Rate: t.Rate, Expires: t.Expires, Made: t.Made, By: t.By}
}
