package queue

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Problem is a refusal, in words for whoever sent the request. Nothing was
// stored. Package api/server writes it as a problem document.
type Problem struct {
	Kind   string // stable, for programs: "wrong-type", "too-large", …
	Status int    // of HTTP
	Detail string // one sentence about this request
	Field  string // which part of the request, such as "params.amount"
	Hint   string // what to do about it, where there is something
	// RetryAfter is how long to wait, for 429 and 503.
	RetryAfter time.Duration
	Err        error // the cause, for logs; never shown to strangers
}

func (p *Problem) Error() string {
	s := p.Kind + ": " + p.Detail
	if p.Field != "" {
		s = p.Field + ": " + s
	}
	if p.Err != nil {
		s += ": " + p.Err.Error()
	}
	return s
}

func (p *Problem) Unwrap() error { return p.Err }

func in(field string, p *Problem) *Problem {
	q := *p
	if q.Field == "" {
		q.Field = field
	} else {
		q.Field = field + "." + q.Field
	}
	return &q
}

func problem(status int, kind, format string, args ...any) *Problem {
	return &Problem{Kind: kind, Status: status, Detail: fmt.Sprintf(format, args...)}
}

func invalid(kind, format string, args ...any) *Problem {
	return problem(http.StatusUnprocessableEntity, kind, format, args...)
}

func tooLarge(format string, args ...any) *Problem {
	return problem(http.StatusRequestEntityTooLarge, "too-large", format, args...)
}

func forbidden(format string, args ...any) *Problem {
	return problem(http.StatusForbidden, "not-allowed", format, args...)
}

func notFound(format string, args ...any) *Problem {
	return problem(http.StatusNotFound, "not-found", format, args...)
}

// unavailable turns what the log answered into a problem.
func unavailable(err error) *Problem {
	p := &Problem{Status: http.StatusServiceUnavailable, Err: err, RetryAfter: time.Second}
	switch {
	case errors.Is(err, ErrFull):
		p.Kind, p.Detail = "log-full", "the log has no room; nothing was stored"
		p.Hint = "the database is not taking writes as fast as they come, or the disk of this node is full"
		p.RetryAfter = 5 * time.Second
	case errors.Is(err, ErrInDoubt):
		p.Kind, p.Detail = "in-doubt", "the log did not answer in time; the write may be stored"
		p.Hint = "send the same write again with the same id: it takes effect once"
	default:
		p.Kind, p.Detail = "log-unavailable", "the log is not available; nothing was stored"
	}
	return p
}

// databaseAway is the answer where only the database knows and it is away.
func databaseAway(err error) *Problem {
	return &Problem{
		Kind: "database-unavailable", Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Err: err,
		Detail: "the database that knows the answer is not available; writes are still accepted",
	}
}
