package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/queue"
)

// maxWrites bounds the body of POST /v1/writes: a batch, of which each write
// has its own limit too.
const maxWrites = 16 << 20

// maxLines is how many writes a batch may have; package queue says the same. It
// is counted while reading, since an empty object a line costs fifty times its
// length.
const maxLines = 4096

// maxBodies bounds the bodies that are read at one time, whoever sends them. A
// small one needs no permission.
const (
	maxBodies = 128 << 20
	smallBody = 64 << 10
)

// waitDefault and waitMost bound wait=applied.
const (
	waitDefault = 10 * time.Second
	waitMost    = time.Minute
)

// The front door of the write queue reads its body itself: writes come by the
// thousands, and what a stranger sends is judged by package queue.
func (s *Server) writeRoutes() {
	s.handle("POST /v1/writes", access.Writer, "", s.submit)
	s.handle("GET /v1/writes/{id}", access.Writer, "", s.receipt)
	for _, o := range []*huma.Operation{
		{
			Method: http.MethodPost, Path: "/v1/writes", OperationID: "submit-writes",
			Summary: "Accept a write, or as application/x-ndjson a batch of writes, one a line: 202 when all are on disk on a majority",
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				"application/json": {}, "application/x-ndjson": {},
			}},
			Responses: map[string]*huma.Response{
				"200": {Description: "wait=applied: the write is applied (or dead)"},
				"202": {Description: "on disk, and will be applied once"},
				"503": {Description: "not accepted, nothing stored: send it again with the same id"},
			},
		},
		{
			Method: http.MethodGet, Path: "/v1/writes/{id}", OperationID: "get-write", Summary: "What became of a write",
			Responses: map[string]*huma.Response{"200": {Description: "its state: queued, applied, dead or discarded"}},
		},
	} {
		o.Extensions = map[string]any{roleKey: string(access.Writer)}
		s.huma.OpenAPI().AddOperation(o)
	}
}

// caller is what a token means to the queue.
func caller(ctx context.Context) queue.Caller {
	t := who(ctx)
	c := queue.Caller{
		Name: t.Name, Operations: t.Operations, SQL: t.SQL || t.Role != access.Writer,
		Operate: t.Role.Covers(access.Operator), WritesPerSecond: float64(t.Rate),
	}
	if len(c.Operations) == 0 {
		c.Operations = []string{"*"}
	}
	return c
}

// wish is what a request wants besides the writes.
type wish struct {
	applied bool
	timeout time.Duration
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request) {
	if s.Queue == nil {
		problem(w, http.StatusNotFound, "this node has no write queue: perdure.yaml has no section \"queue\"")
		return
	}
	body, done, err := s.body(r)
	defer done()
	if err != nil {
		if errors.Is(err, errBusy) {
			w.Header().Set("Retry-After", "1")
			problem(w, http.StatusServiceUnavailable, "too many large requests at once; nothing was stored")
			return
		}
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			problem(w, http.StatusRequestEntityTooLarge, "the body is larger than "+strconv.Itoa(maxWrites)+" bytes")
			return
		}
		problem(w, http.StatusBadRequest, "the body could not be read")
		return
	}
	writes, want, p := decodeWrites(r, body)
	if p != nil {
		writeProblem(w, p)
		return
	}
	var receipts []queue.Receipt
	if want.applied {
		receipts, err = s.Queue.SubmitAndWait(r.Context(), caller(r.Context()), writes, want.timeout)
	} else {
		receipts, err = s.Queue.Submit(r.Context(), caller(r.Context()), writes)
	}
	if err != nil {
		writeProblem(w, err)
		return
	}
	status := http.StatusOK
	for _, rc := range receipts {
		if rc.State == queue.Queued {
			status = http.StatusAccepted
		}
	}
	if !batched(r) {
		answerJSON(w, status, receipts[0])
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	for _, rc := range receipts {
		_ = enc.Encode(rc)
	}
}

var errBusy = errors.New("too many large bodies")

// body reads what a client sends, within maxBodies for all clients. done gives
// the room back.
func (s *Server) body(r *http.Request) (b []byte, done func(), err error) {
	done = func() {}
	head := make([]byte, 0, 4096)
	if n := r.ContentLength; n > 4096 && n <= smallBody {
		head = make([]byte, 0, n+1)
	}
	buf := bytes.NewBuffer(head)
	if _, err = io.CopyN(buf, r.Body, smallBody); errors.Is(err, io.EOF) {
		return buf.Bytes(), done, nil
	}
	if err != nil {
		return nil, done, err
	}
	room := int64(maxWrites)
	if n := r.ContentLength; n >= 0 && n < room {
		room = n
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if s.bodies.Acquire(ctx, 2*room) != nil { // growing, a buffer is there twice
		return nil, done, errBusy
	}
	done = func() { s.bodies.Release(2 * room) }
	_, err = io.Copy(buf, r.Body)
	return buf.Bytes(), done, err
}

func batched(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind == "application/x-ndjson"
}

// decodeWrites reads one write, or one a line.
func decodeWrites(r *http.Request, body []byte) ([]queue.Write, wish, error) {
	want := wish{applied: r.URL.Query().Get("wait") == "applied", timeout: waitDefault}
	if v := r.URL.Query().Get("wait"); v != "" && v != "applied" {
		return nil, want, badWait
	}
	if t := r.URL.Query().Get("timeout"); t != "" {
		if err := want.limit(t); err != nil {
			return nil, want, err
		}
	}
	if !batched(r) {
		body, err := want.take(body)
		if err != nil {
			return nil, want, err
		}
		one, p := queue.Decode(body)
		if p != nil {
			return nil, want, p
		}
		return []queue.Write{one}, want, nil
	}
	var all []queue.Write
	number := 0
	for line := range bytes.SplitSeq(body, []byte{'\n'}) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(all) == maxLines {
			return nil, want, &queue.Problem{
				Kind: "too-large", Status: http.StatusRequestEntityTooLarge,
				Detail: "more than " + strconv.Itoa(maxLines) + " writes in one request; nothing was stored",
			}
		}
		one, p := queue.Decode(line)
		if p != nil {
			p.Field = "line " + strconv.Itoa(number)
			return nil, want, p
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, want, &queue.Problem{Kind: "bad-json", Status: http.StatusBadRequest, Detail: "there is no write in the body"}
	}
	return all, want, nil
}

var badWait = &queue.Problem{Kind: "bad-wait", Status: http.StatusUnprocessableEntity, Field: "wait", Detail: `"wait" can only be "applied"`}

// take removes "wait" and "timeout" from a write's JSON, where it has them.
func (w *wish) take(body []byte) ([]byte, error) {
	if !bytes.Contains(body, []byte(`"wait"`)) && !bytes.Contains(body, []byte(`"timeout"`)) {
		return body, nil
	}
	if p := queue.Measure(body); p != nil {
		return nil, p
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(body, &m) != nil {
		return body, nil // Decode says what is wrong with it
	}
	var wait, timeout string
	if raw, ok := m["wait"]; ok && (json.Unmarshal(raw, &wait) != nil || wait != "applied") {
		return nil, badWait
	}
	if raw, ok := m["timeout"]; ok {
		if json.Unmarshal(raw, &timeout) != nil {
			timeout = string(raw) // a bare number of seconds
		}
		if err := w.limit(timeout); err != nil {
			return nil, err
		}
	}
	w.applied = w.applied || wait == "applied"
	delete(m, "wait")
	delete(m, "timeout")
	return json.Marshal(m)
}

func (w *wish) limit(text string) error {
	d, err := time.ParseDuration(text)
	if seconds, e := strconv.ParseFloat(text, 64); e == nil {
		if d = -1; seconds >= 0 && seconds <= waitMost.Seconds() { // not so for NaN
			d = time.Duration(seconds * float64(time.Second))
		}
		err = nil
	}
	if err != nil || d < 0 || d > waitMost {
		return &queue.Problem{Kind: "bad-timeout", Status: http.StatusUnprocessableEntity, Field: "timeout", Detail: "a timeout is seconds, or a duration such as 5s, of at most " + waitMost.String()}
	}
	w.timeout = d
	return nil
}

func (s *Server) receipt(w http.ResponseWriter, r *http.Request) {
	if s.Queue == nil {
		problem(w, http.StatusNotFound, "this node has no write queue")
		return
	}
	id, err := queue.ParseID(r.PathValue("id"))
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	rc, err := s.Queue.Receipt(r.Context(), id)
	if err != nil {
		writeProblem(w, err)
		return
	}
	answerJSON(w, http.StatusOK, rc)
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// writeProblem answers with a problem document of the queue.
func writeProblem(w http.ResponseWriter, err error) {
	p, ok := errors.AsType[*queue.Problem](err)
	if !ok {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	m := huma.ErrorModel{Type: "urn:perdure:write:" + p.Kind, Status: p.Status, Title: http.StatusText(p.Status), Detail: p.Detail}
	if p.Field != "" {
		m.Errors = append(m.Errors, &huma.ErrorDetail{Message: p.Detail, Location: p.Field})
	}
	if p.Hint != "" {
		m.Errors = append(m.Errors, &huma.ErrorDetail{Message: p.Hint, Location: "hint"})
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.RetryAfter.Round(time.Second)/time.Second)+1))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(m)
}
