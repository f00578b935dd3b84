package control

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/perdure/perdure/internal/state"
)

// ErrFull says that the disk of the embedded store is full: this node takes no
// part until there is room, and then goes on by itself.
var ErrFull = errors.New("the disk of this node is full; the control store goes on by itself when there is room")

var (
	errClosed    = errors.New("it was closed")
	errUnsettled = errors.New("refused, because not all other nodes have been up for five seconds; nothing was changed")
)

// refusals are answers that say for certain that nothing happened and that
// asking again will not help.
var refusals = []error{
	rpctypes.ErrRequestTooLarge,
	rpctypes.ErrEmptyKey,
	rpctypes.ErrAuthFailed,
	rpctypes.ErrPermissionDenied,
	rpctypes.ErrUserEmpty,
	rpctypes.ErrInvalidAuthToken,
	rpctypes.ErrAuthNotEnabled,
}

// refusal is one of refusals.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func permanent(err error) bool {
	_, ok := errors.AsType[refusal](err)
	return ok
}

func unavailable(why error) error { return fmt.Errorf("%w: %w", state.ErrUnavailable, why) }

// compacted reports whether etcd had already forgotten what we asked it to.
func compacted(err error) bool { return errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) }

// unsettled reports whether etcd refused to change its list of nodes because
// that could cost the quorum now.
func unsettled(err error) bool {
	known := rpctypes.Error(err)
	return errors.Is(known, rpctypes.ErrUnhealthy) || errors.Is(known, rpctypes.ErrMemberNotEnoughStarted)
}

// translate says in the words of package state what etcd answered. ctx is the
// context of the call.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// An etcd error compares by value, and only after this conversion: over a
	// socket it arrives as a status.
	known := rpctypes.Error(err)
	for _, r := range refusals {
		if errors.Is(known, r) {
			return refusal{fmt.Errorf("the control store refused: %w", known)}
		}
	}
	switch {
	case errors.Is(known, rpctypes.ErrNoSpace):
		return unavailable(errors.New("it is full"))
	case ctx.Err() != nil:
		return unavailable(context.Cause(ctx))
	}
	return unavailable(known)
}
