package outcome

import (
	"errors"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/topology"
)

// known is what the last minutes showed of a group.
type known struct {
	gap     time.Time // the last time at which nobody had looked for too long
	lost    time.Time // the last time at which the group lacked its majority
	lineage string    // of the group, from its bootstrap on
	since   time.Time // since when the group has it
}

// sight is what one look at a member that stays in the group found.
type sight struct {
	at      time.Time // when the look began
	covers  time.Time // what was executed since then was read
	whole   bool      // up to all that was ordered before at
	lineage string    // of the group

	listed bool      // the lost member is in the list of this one
	out    time.Time // and yet the group was without it at this time, or a little later
	born   time.Time // and its process began at this time, or a little later
}

// back tells whether a member that is listed was let in again, as a process
// that knows nothing of what was sent to it before since.
func (s sight) back(since time.Time) bool {
	return s.out.After(since) && s.born.After(since)
}

// Reasons why a missing mark proves nothing.
var (
	errStill  = errors.New("the member is still in the group")
	errPart   = errors.New("not everything that the group ordered was read yet")
	errGap    = errors.New("the group was not watched all the time since the commit was sent")
	errLost   = errors.New("the group had lost its majority since the commit was sent")
	errAnew   = errors.New("the group was made anew since the commit was sent")
	errAlive  = errors.New("the member is in the group and well: whether what its connection broke in failed there, the logs cannot say")
	errNobody = errors.New("no other member can be asked")
)

// missing says what it proves that a look did not find the mark of a commit
// sent at since: nil if the group will never have it.
func missing(since time.Time, k known, s sight) error {
	switch {
	case !s.at.After(since) || s.covers.IsZero() || !s.covers.Before(since):
		return errPart
	case s.listed && !s.back(since):
		return errStill
	case !s.whole:
		return errPart
	case !k.gap.Before(since):
		return errGap
	case !k.lost.Before(since):
		return errLost
	case k.lineage == "" || s.lineage != k.lineage || !k.since.Before(since):
		return errAnew
	}
	return nil
}

// passing tells whether another look may find out more.
func passing(err error) bool {
	return errors.Is(err, errStill) || errors.Is(err, errPart)
}

// hopeless tells whether a look failed as the next one will.
func hopeless(err error) bool {
	if refused, ok := errors.AsType[*wire.ServerError](err); ok {
		return refused.Code == 1227 || refused.Code == 1045 || refused.Code == 1142 // the account may not
	}
	return errors.Is(err, errMany)
}

// alive tells whether a member is in the group and answers.
func alive(v *topology.View, member string) bool {
	m, ok := v.Member(member)
	return ok && m.State == topology.Online && m.Failure == topology.Answers
}

// aliveMost is how long a question about a member stays open that is in the
// group and well. Only the connection broke, and what was under way in it is
// over by then; whether it failed, the logs cannot say.
const aliveMost = 3 * time.Second
