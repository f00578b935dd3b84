// Package trace tells a collector of traces what took how long: requests to the
// API, changes with their steps, messages and runs of hooks.
//
// It is off unless the environment says where to: OTEL_EXPORTER_OTLP_ENDPOINT
// or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, the endpoint of a collector that
// speaks OTLP over gRPC. The other variables of OpenTelemetry count too
// (headers, certificate, sampling, OTEL_SDK_DISABLED). Nothing waits for it: what the
// collector does not take in time is dropped.
package trace

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/perdure/perdure/internal/plan"
)

// Tracer records spans. A nil Tracer is off: all its methods may be called.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
}

// Wanted tells whether the environment asks for traces.
func Wanted() bool {
	to := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") + os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	return to != "" && !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")
}

// Open makes a Tracer if the environment asks for one, else it returns nil. It
// does not wait for the collector.
func Open(ctx context.Context, cluster, node, version string) (*Tracer, error) {
	if !Wanted() {
		return nil, nil
	}
	if p := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "grpc" {
		return nil, fmt.Errorf("traces: OTEL_EXPORTER_OTLP_PROTOCOL is %s; this program speaks grpc", p)
	}
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "perdure"), attribute.String("service.version", version),
		attribute.String("service.namespace", cluster), attribute.String("service.instance.id", node),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracer{provider: p, tracer: p.Tracer("perdure")}, nil
}

// Run keeps the Tracer until ctx ends, and then sends what is left for a moment.
func (t *Tracer) Run(ctx context.Context) error {
	<-ctx.Done()
	if t != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = t.provider.Shutdown(last)
	}
	return context.Cause(ctx)
}

// Handler makes a span of every request, as part of the caller's trace if he
// names one. name gives the route; addresses and what was asked are not told.
func (t *Tracer) Handler(next http.Handler, name func(*http.Request) string) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, name(r), api.WithSpanKind(api.SpanKindServer), api.WithAttributes(attribute.String("http.request.method", r.Method)))
		defer span.End()
		seen := &answer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r.WithContext(ctx))
		span.SetAttributes(attribute.Int("http.response.status_code", seen.status))
		if seen.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(seen.status))
		}
	})
}

// answer remembers the status.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Change tells of a change that is over: a span for it, one for each step, at
// the times its journal has.
func (t *Tracer) Change(p plan.Plan) {
	if t == nil || !p.State.Over() {
		return
	}
	ctx, whole := t.tracer.Start(context.Background(), "change "+p.Kind, api.WithTimestamp(p.Created), api.WithAttributes(
		attribute.String("perdure.plan", p.ID), attribute.String("perdure.title", p.Title),
		attribute.String("perdure.actor", p.Actor), attribute.String("perdure.state", string(p.State))))
	for _, s := range p.Steps {
		if s.Begin.IsZero() {
			continue
		}
		_, step := t.tracer.Start(ctx, "step "+s.Verb, api.WithTimestamp(s.Begin), api.WithAttributes(
			attribute.String("perdure.member", s.Member), attribute.String("perdure.state", string(s.State)), attribute.String("perdure.note", s.Note)))
		end := s.End
		if end.IsZero() {
			end = p.Ended
		}
		step.End(api.WithTimestamp(end))
	}
	if p.Error != "" {
		whole.SetStatus(codes.Error, p.Error)
	}
	whole.End(api.WithTimestamp(p.Ended))
}

// Attempt begins the span of one attempt to bring an event somewhere. Call what
// it returns with the outcome.
func (t *Tracer) Attempt(ctx context.Context, target, kind, event string, number int) (context.Context, func(error)) {
	if t == nil {
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, "deliver "+target, api.WithSpanKind(api.SpanKindClient), api.WithAttributes(
		attribute.String("perdure.event.kind", kind), attribute.String("perdure.event.id", event), attribute.Int("perdure.attempt", number)))
	return ctx, func(err error) {
		var final interface{ Final() string }
		if err != nil && !(errors.As(err, &final) && final.Final() == "skipped") {
			span.SetStatus(codes.Error, "failed") // the text may hold what a receiver said
		}
		span.End()
	}
}
