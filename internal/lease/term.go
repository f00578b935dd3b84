package lease

import (
	"errors"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// Causes with which the contexts of Hold end. All of them wrap ErrOver.
var (
	// ErrOver says that this node may no longer act.
	ErrOver = errors.New("this node no longer leads")
	// ErrUnconfirmed says that the control store did not confirm the term in
	// time. Another node may lead, or none.
	ErrUnconfirmed = over("the control store did not confirm it in time")
	// ErrTaken says that the term has ended in the control store.
	ErrTaken = over("another node ended its term")
	// ErrReleased says that this node gave the lease back.
	ErrReleased = over("it gave the lease back")
)

// Term is one node's time of leading.
type Term struct {
	Name   string // of the lease
	Epoch  int64  // grows from term to term
	Holder string
	// TrustedUntil is when the holder must have stopped, unless a renewal moves
	// it. Compare it with time.Now only: it carries the monotonic clock.
	TrustedUntil time.Time
}

// Fence ties a change of a document to this term.
func (t Term) Fence() state.Fence { return state.Fence{Lease: t.Name, Epoch: t.Epoch} }

// over is a reason why a term is over.
type over string

func (o over) Error() string        { return ErrOver.Error() + ": " + string(o) }
func (o over) Is(target error) bool { return target == ErrOver }
