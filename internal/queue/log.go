package queue

import (
	"context"
	"errors"
	"time"
)

// Log is the durable, ordered store of frames that the queue lives on. Package
// jet implements it on JetStream.
//
// Sequences start at 1 and have no holes; the only way a frame goes is Trim,
// from the old end.
type Log interface {
	// Append returns once frame is on disk (on a majority, where there are
	// several nodes). ErrFull and ErrUnavailable mean: it may be offered again.
	// ErrInDoubt means it may have been stored all the same.
	Append(ctx context.Context, frame []byte) (seq uint64, err error)
	// Read returns frames from sequence from on, in order and without holes,
	// and waits while there is none. What was trimmed is ErrTrimmed.
	Read(ctx context.Context, from uint64) ([]Entry, error)
	// State says what the log holds.
	State(ctx context.Context) (LogState, error)
	// Trim removes the frames before sequence before.
	Trim(ctx context.Context, before uint64) error
}

// Entry is one frame as it came out of the log.
type Entry struct {
	Seq  uint64
	Data []byte
}

// LogState is what a log says about itself.
type LogState struct {
	// Generation changes whenever the log is created anew. Positions of one
	// generation mean nothing in another.
	Generation uint64
	First      uint64 // sequence of the oldest frame, Last+1 when empty
	Last       uint64
	Bytes      int64
	MaxBytes   int64
	Replicas   int
	Oldest     time.Time // when the oldest frame was stored; zero when empty
}

// What a Log answers when it cannot do as asked.
var (
	ErrFull        = errors.New("the log is full")
	ErrUnavailable = errors.New("the log is not available")
	ErrInDoubt     = errors.New("the log did not answer: the frame may or may not be stored")
	ErrTrimmed     = errors.New("the log no longer holds this sequence")
	ErrLost        = errors.New("the log has lost frames it had accepted")
)
