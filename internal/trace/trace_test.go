package trace_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/trace"
)

// sink is a collector that keeps what it gets.
type sink struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*otlp.Span
	about string
}

func (s *sink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		s.about = rs.GetResource().String()
		for _, ss := range rs.GetScopeSpans() {
			s.spans = append(s.spans, ss.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (s *sink) heard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spans) > 0
}

func (s *sink) find(t *testing.T, name string) *otlp.Span {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.spans, func(x *otlp.Span) bool { return x.GetName() == name })
	if i < 0 {
		t.Fatalf("there is no span %q", name)
	}
	return s.spans[i]
}

func TestWithoutAnEndpointNothingIsTraced(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	tr, err := trace.Open(t.Context(), "shop", "n1", "1")
	if tr != nil || err != nil {
		t.Fatalf("%v, %v", tr, err)
	}
	// All of it may be called all the same.
	next := http.NotFoundHandler()
	tr.Handler(next, func(*http.Request) string { return "x" }).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	tr.Change(plan.Plan{State: plan.Done})
	_, end := tr.Attempt(t.Context(), "notify/ops", "member.crashed", "1", 1)
	end(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = tr.Run(ctx)
}

func TestACollectorHearsOfRequestsChangesAndDeliveries(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, srv := &sink{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() { srv.Stop(); <-served }()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1000") // ms, not five seconds until the connection is made
	tr, err := trace.Open(t.Context(), "shop", "n1", "1.2")
	if err != nil || tr == nil {
		t.Fatal(tr, err)
	}
	// Run gives what is left two seconds. They are not for making a connection.
	for limit := time.Now().Add(time.Minute); !s.heard(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the collector hears of nothing")
		}
		_, end := tr.Attempt(t.Context(), "notify/nobody", "member.crashed", "e0", 1)
		end(nil)
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/status?secret=1", nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	failing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	tr.Handler(failing, func(*http.Request) string { return "GET /v1/status" }).ServeHTTP(httptest.NewRecorder(), r)
	began := time.Now().Add(-time.Minute)
	tr.Change(plan.Plan{
		ID: "stop-1", Kind: "stop", State: plan.Done, Created: began, Ended: began.Add(3 * time.Second),
		Steps: []plan.Step{{Verb: "leave", Member: "m3", Begin: began.Add(time.Second), End: began.Add(2 * time.Second)}},
	})
	_, end := tr.Attempt(t.Context(), "notify/ops", "member.crashed", "e1", 2)
	end(errors.New("s3cret"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = tr.Run(ctx) // sends what is left

	request, change, step, deliver := s.find(t, "GET /v1/status"), s.find(t, "change stop"), s.find(t, "step leave"), s.find(t, "deliver notify/ops")
	if got := request.String(); strings.Contains(got, "secret") || request.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("the request's span: %s", got)
	}
	if len(request.GetTraceId()) != 16 || request.GetTraceId()[0] != 0x0a || request.GetParentSpanId()[0] != 0xb7 {
		t.Errorf("the request is not part of its caller's trace: %x %x", request.GetTraceId(), request.GetParentSpanId())
	}
	if string(step.GetParentSpanId()) != string(change.GetSpanId()) || step.GetEndTimeUnixNano()-step.GetStartTimeUnixNano() != uint64(time.Second) {
		t.Errorf("the step is not where and when the journal says: %s", step)
	}
	if strings.Contains(deliver.String(), "s3cret") || deliver.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("the delivery's span: %s", deliver)
	}
	if !strings.Contains(s.about, "perdure") || !strings.Contains(s.about, "shop") || !strings.Contains(s.about, "1.2") {
		t.Errorf("about %s", s.about)
	}
}

// A collector that does not answer delays nobody.
func TestACollectorThatIsAwayDelaysNobody(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	began := time.Now()
	tr, err := trace.Open(t.Context(), "shop", "n1", "1")
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		_, end := tr.Attempt(t.Context(), "notify/ops", "member.crashed", "1", 1)
		end(nil)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("10,000 spans took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began = time.Now()
	_ = tr.Run(ctx)
	if took := time.Since(began); took > 10*time.Second { // two, by itself
		t.Errorf("the end took %s", took)
	}
}
