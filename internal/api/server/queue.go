package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/queue"
)

func (s *Server) queueRoutes() {
	huma.Get(s.huma, "/v1/queue", withQueue(s, func(ctx context.Context, _ *struct{}) (queue.Status, error) {
		return s.Queue.Status(ctx)
	}), doc("queue-status", "Depth, age, rates and troubles of the write queue", access.Viewer))
	huma.Post(s.huma, "/v1/queue/pause", withQueue(s, func(ctx context.Context, _ *struct{}) (queue.Status, error) {
		if err := s.Queue.Pause(ctx, caller(ctx)); err != nil {
			return queue.Status{}, err
		}
		return s.Queue.Status(ctx)
	}), doc("pause-queue", "Go on accepting writes, and apply none until resume", access.Operator))
	huma.Post(s.huma, "/v1/queue/resume", withQueue(s, func(ctx context.Context, _ *struct{}) (queue.Status, error) {
		if err := s.Queue.Resume(ctx, caller(ctx)); err != nil {
			return queue.Status{}, err
		}
		return s.Queue.Status(ctx)
	}), doc("resume-queue", "Apply writes again", access.Operator))
	huma.Post(s.huma, "/v1/queue/accept-loss", withQueue(s, func(ctx context.Context, in *struct{ Body api.AcceptLoss }) (queue.Status, error) {
		if err := s.Queue.AcceptLoss(ctx, caller(ctx), in.Body.Generation); err != nil {
			return queue.Status{}, err
		}
		return s.Queue.Status(ctx)
	}), doc("accept-loss", "Give up a log that is gone, by its generation, and apply from the one there is", access.Operator))
	huma.Get(s.huma, "/v1/queue/operations", withQueue(s, func(context.Context, *struct{}) ([]queue.Operation, error) {
		return s.Queue.Operations().List(), nil
	}), doc("list-write-operations", "The declared write operations", access.Viewer))
	s.handle("GET /v1/queue/tail", access.Viewer, "Writes as they are accepted, one JSON object a line", s.tailQueue)

	type which struct {
		ID string `path:"id"`
	}
	huma.Get(s.huma, "/v1/dead-letters", withQueue(s, func(ctx context.Context, in *struct {
		Limit  int       `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		Before time.Time `query:"before" doc:"Only letters that died before."`
	},
	) ([]queue.DeadLetter, error) {
		before := in.Before
		if before.IsZero() {
			before = time.Now().Add(time.Hour)
		}
		return s.Queue.DeadLetters(ctx, before, in.Limit)
	}), doc("list-dead-letters", "Writes that were given up, newest first", access.Viewer))
	huma.Get(s.huma, "/v1/dead-letters/{id}", withQueue(s, func(ctx context.Context, in *which) (queue.DeadLetter, error) {
		id, err := queue.ParseID(in.ID)
		if err != nil {
			return queue.DeadLetter{}, huma.Error422UnprocessableEntity(err.Error())
		}
		return s.Queue.DeadLetter(ctx, id)
	}), doc("get-dead-letter", "One dead letter, with its statements", access.Operator))
	huma.Post(s.huma, "/v1/dead-letters/{id}/retry", withQueue(s, func(ctx context.Context, in *struct {
		which
		Body api.RetryDeadLetter
	},
	) (queue.Receipt, error) {
		id, err := queue.ParseID(in.ID)
		if err != nil {
			return queue.Receipt{}, huma.Error422UnprocessableEntity(err.Error())
		}
		var edited []queue.Statement
		for _, st := range in.Body.Statements {
			edited = append(edited, queue.Statement{SQL: st.SQL, Args: st.Args})
		}
		if err := s.Queue.Retry(ctx, caller(ctx), id, edited); err != nil {
			return queue.Receipt{}, err
		}
		return s.Queue.Receipt(ctx, id)
	}), doc("retry-dead-letter", "Take a dead letter up again, as it is or edited", access.Operator))
	huma.Post(s.huma, "/v1/dead-letters/{id}/discard", withQueue(s, func(ctx context.Context, in *which) (queue.Receipt, error) {
		id, err := queue.ParseID(in.ID)
		if err != nil {
			return queue.Receipt{}, huma.Error422UnprocessableEntity(err.Error())
		}
		if err := s.Queue.Discard(ctx, caller(ctx), id); err != nil {
			return queue.Receipt{}, err
		}
		return s.Queue.Receipt(ctx, id)
	}), doc("discard-dead-letter", "Give a dead letter up for good", access.Operator))
}

// withQueue answers a request about the queue, and 404 where there is none.
func withQueue[In, Out any](s *Server, do func(context.Context, *In) (Out, error)) func(context.Context, *In) (*struct{ Body Out }, error) {
	return func(ctx context.Context, in *In) (*struct{ Body Out }, error) {
		if s.Queue == nil {
			return nil, huma.Error404NotFound("this node has no write queue: perdure.yaml has no section \"queue\"")
		}
		out, err := do(ctx, in)
		if err != nil {
			return nil, queueProblem(err)
		}
		return &struct{ Body Out }{out}, nil
	}
}

// queueProblem turns a problem of the queue into what huma answers with.
func queueProblem(err error) error {
	p, ok := err.(*queue.Problem) //nolint:errorlint // the queue returns it bare
	if !ok {
		return err
	}
	m := &huma.ErrorModel{Type: "urn:perdure:write:" + p.Kind, Status: p.Status, Title: http.StatusText(p.Status), Detail: p.Detail}
	if p.Hint != "" {
		m.Errors = append(m.Errors, &huma.ErrorDetail{Message: p.Hint, Location: "hint"})
	}
	return m
}

// tailQueue streams writes as they are accepted, one JSON object a line.
func (s *Server) tailQueue(w http.ResponseWriter, r *http.Request) {
	if s.Queue == nil {
		problem(w, http.StatusNotFound, "this node has no write queue")
		return
	}
	from, _ := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	enc := json.NewEncoder(w)
	_ = s.Queue.Tail(r.Context(), from, func(t queue.Tailed) error {
		if err := enc.Encode(t); err != nil {
			return err
		}
		return flush.Flush()
	})
}
