package run

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestPartsStopInReverse(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	part := func(name string) Part {
		return Part{name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return context.Cause(ctx)
		}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Parts(ctx, part("a"), part("b"), part("c")); err != nil {
		t.Fatalf("a clean stop returned %v", err)
	}
	if !slices.Equal(order, []string{"c", "b", "a"}) {
		t.Errorf("stopped in order %v", order)
	}
}

func TestPartThatEndsByItselfEndsAllAndIsNamed(t *testing.T) {
	t.Parallel()
	waits := Part{"waits", func(ctx context.Context) error { <-ctx.Done(); return errors.New("could not save") }}
	breaks := Part{"breaks", func(context.Context) error { return errors.New("disk on fire") }}
	err := Parts(t.Context(), waits, breaks)
	if err == nil || !strings.Contains(err.Error(), "breaks ended: disk on fire") || !strings.Contains(err.Error(), "waits: could not save") {
		t.Errorf("got %v", err)
	}
}
