package proxy

import (
	"bytes"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// binds are the things in a read that tie it to where the session writes.
const binds = lexer.UserVar | lexer.Assigns | lexer.Locks | lexer.CalcFound | lexer.Diagnostic | lexer.LastID |
	lexer.ForUpdate | lexer.Into | lexer.Multi | lexer.Tracks | lexer.Calls

// splitService says where a statement of a split session goes. What is not
// plainly a read goes to the writer.
func (s *session) splitService(st lexer.Stmt) route.Service {
	switch {
	case s.fixed():
		return s.svc
	case st.Kind == lexer.Read && st.Has(lexer.Diagnostic):
		return s.svc // it asks about the statement before
	case st.Has(lexer.HintWriter):
		return route.Write
	case s.status&wire.StatusAutocommit == 0:
		return route.Write
	case st.Has(lexer.HintReader), st.Kind == lexer.BeginReadOnly:
		return route.Read
	case st.Kind == lexer.Read && !st.Has(binds):
		return route.Read
	}
	return route.Write
}

// hint looks for the query attribute perdure.route.
func (s *session) hint(r *request, attrs []byte) {
	v, ok := wire.Attribute(attrs, "perdure.route")
	switch {
	case !ok:
	case bytes.EqualFold(v, []byte("reader")), bytes.EqualFold(v, []byte("ro")):
		r.st.Flags |= lexer.HintReader
	case bytes.EqualFold(v, []byte("writer")), bytes.EqualFold(v, []byte("rw")):
		r.st.Flags |= lexer.HintWriter
	}
}

func routeService(i int) route.Service { return route.Service(i) }
