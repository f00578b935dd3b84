package server

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

func (s *Server) checkRoutes() {
	huma.Post(s.huma, "/v1/check/servers", s.checkServers, doc("check-servers", "Settings, grants and versions of servers, members or not yet", access.Operator))
	s.handle("GET /v1/check/schema", access.Operator, "", s.checkSchema)
	s.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: "/v1/check/schema", OperationID: "check-schema",
		Summary:    "Every table that Group Replication will refuse, as one JSON object a line (application/x-ndjson); the last line has the number of tables",
		Extensions: map[string]any{roleKey: string(access.Operator)},
		Responses: map[string]*huma.Response{"200": {
			Description: "Findings, one a line", Content: map[string]*huma.MediaType{"application/x-ndjson": {}},
		}},
	})
}

// checkServers looks at the members that were asked for, or at all.
func (s *Server) checkServers(ctx context.Context, in *struct{ Body api.CheckServers }) (*struct{ Body api.Checked }, error) {
	members := in.Body.Members
	if len(members) == 0 {
		c, err := s.Group.Cluster(ctx)
		if err != nil {
			return nil, answer(err)
		}
		for _, m := range c.Members {
			members = append(members, m.Member)
		}
	}
	out := api.Checked{Findings: []api.Finding{}}
	all := map[string]check.Facts{}
	for _, m := range members {
		server, err := s.Open(topology.Instance{Name: m.Name, Address: m.Address})
		if err != nil {
			return nil, answer(err)
		}
		facts, found, err := check.Server(ctx, server)
		_ = server.Close()
		if err != nil {
			out.Findings = append(out.Findings, api.Finding{
				Member: m.Name, Kind: "unreachable", Severity: string(check.Refuses), Subject: m.Address, Text: err.Error(),
			})
			continue
		}
		all[m.Name] = facts
		out.Findings = append(out.Findings, findings(found)...)
	}
	out.Findings = append(out.Findings, findings(check.Compare(all))...)
	return &struct{ Body api.Checked }{out}, nil
}

func findings(fs []check.Finding) []api.Finding {
	var out []api.Finding
	for _, f := range fs {
		out = append(out, api.Finding{Member: f.Member, Kind: f.Kind, Severity: string(f.Severity), Subject: f.Subject, Text: f.Text, SQL: f.SQL})
	}
	return out
}

// checkSchema streams: tens of thousands of tables are never in memory at once.
func (s *Server) checkSchema(w http.ResponseWriter, r *http.Request) {
	member := topology.Instance{Name: r.URL.Query().Get("member"), Address: r.URL.Query().Get("address")}
	if member.Address == "" {
		v := s.Watch.View()
		i := slices.IndexFunc(v.Members, func(m topology.Member) bool {
			return m.Report != nil && m.Failure == topology.Answers && (member.Name == "" || m.Name == member.Name)
		})
		if i < 0 {
			problem(w, http.StatusConflict, "no member answers that could be asked for its tables")
			return
		}
		member = v.Members[i].Instance
	}
	server, err := s.Open(member)
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	defer func() { _ = server.Close() }()
	s.streamSchema(w, r, server)
}

func (s *Server) streamSchema(w http.ResponseWriter, r *http.Request, server *mysql.Server) {
	mode := topology.Mode(r.URL.Query().Get("mode"))
	if mode != topology.SinglePrimary { // what is fit for multi-primary is fit for both
		mode = topology.MultiPrimary
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	tables, err := check.Schema(r.Context(), server, mode, func(f check.Finding) error {
		err := enc.Encode(findings([]check.Finding{f})[0])
		_ = flush.Flush()
		return err
	})
	end := struct {
		Tables int    `json:"tables"`
		Error  string `json:"error,omitempty"`
	}{Tables: tables}
	if err != nil {
		end.Error = err.Error()
	}
	_ = enc.Encode(end)
}
