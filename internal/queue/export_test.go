package queue

import (
	"context"
	"fmt"
	"time"
)

// Gather lets tests outside the package drive the path to the log by itself.
type Gather struct{ g *gather }

func NewGather(log Log, flights int) Gather {
	return Gather{newGather(log, func(b []byte) ([]byte, error) { return b, nil }, flights, 10*time.Second)}
}

func (g Gather) Run(ctx context.Context) error { return g.g.run(ctx) }

func (g Gather) Put(ctx context.Context, id ID, body []byte, n int) error {
	recs := make([]*record, n)
	for i := range recs {
		recs[i] = &record{kind: kindWrite, id: id, key: "k", stmts: []stmt{{sql: "INSERT INTO t VALUES (\x00)", args: []Value{Bytes(body)}, max: -1}}}
	}
	_, err := g.g.put(ctx, recs)
	return err
}

func (s *Service) Prune(ctx context.Context) (int64, error) { return s.prune(ctx) }
func (a *Applier) Trim(ctx context.Context) (uint64, error) { return a.trimNow(ctx) }

// Failures shows why batches failed.
func Failures(s *Service) string {
	s.count.mu.Lock()
	defer s.count.mu.Unlock()
	return fmt.Sprint(s.count.failures)
}
