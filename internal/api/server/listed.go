package server

import (
	"cmp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
)

// Operation is a route as the OpenAPI document has it.
type Operation struct {
	Method, Path, ID, Summary string
	Role                      access.Role // "" where it says none
}

// Operations are all routes of the OpenAPI document, by path.
func (s *Server) Operations() []Operation {
	var out []Operation
	for path, item := range s.huma.OpenAPI().Paths {
		for _, o := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if o == nil {
				continue
			}
			role, _ := o.Extensions[roleKey].(string)
			out = append(out, Operation{Method: o.Method, Path: path, ID: o.OperationID, Summary: o.Summary, Role: access.Role(role)})
		}
	}
	slices.SortFunc(out, func(a, b Operation) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
	})
	return out
}
