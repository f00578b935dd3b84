package jet

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nuid"
)

// Every message is flushed by itself, unless it comes in a batch: all of that is
// stored or nothing, with one flush and one answer. The store takes at most a
// thousand messages in one.

const (
	// together is how long an event waits for others.
	together  = 100 * time.Millisecond
	batchMost = 256
	// batchLeast is from how many on a batch is cheaper: the store keeps a batch
	// in files of its own while it comes in, which costs 2 ms.
	batchLeast = 16
)

// storeTogether offers events as one batch, once, and tells whether they are on
// disk. If not, nothing is known to be lost: each is offered again by itself,
// and one that got there all the same is known by its id. A batch with an event
// that the store has already is refused as a whole.
func (v *Events) storeTogether(ctx context.Context, all []waiting) bool {
	if v.space.check() != nil {
		return false
	}
	try, cancel := context.WithTimeout(ctx, v.cfg.AckTimeout)
	defer cancel()
	id := nuid.Next()
	for i, w := range all {
		body, err := encode(w.event)
		if err != nil {
			return false
		}
		msg := v.message(w, body)
		msg.Header["Nats-Batch-Id"] = []string{id}
		msg.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i < len(all)-1 {
			if v.srv.nc.PublishMsg(msg) != nil {
				return false
			}
			continue
		}
		msg.Header["Nats-Batch-Commit"] = []string{"1"}
		answer, err := v.srv.nc.RequestMsgWithContext(try, msg)
		return err == nil && acknowledged(answer) == nil
	}
	return false
}
