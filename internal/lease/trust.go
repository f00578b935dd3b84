package lease

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// trust is the right of this node to act, from one confirmed renewal to the
// next. It is guarded by Keeper.mu.
type trust struct {
	term   Term
	window window
	timer  *time.Timer // calls expire at the end of the window
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (t *trust) current() Term {
	term := t.term
	term.TrustedUntil = t.window.until
	return term
}

// confirm opens the window of a renewal sent at that time, or moves it on.
func (k *Keeper) confirm(epoch int64, sent time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := opened(sent, k.cfg)
	now := time.Now()
	if !now.Before(w.until) {
		return // the answer came too late to be of use
	}
	if k.trust != nil {
		k.trust.window = w
		k.trust.timer.Reset(w.until.Sub(now))
		return
	}
	t := &trust{
		term:   Term{Name: k.cfg.Name, Epoch: epoch, Holder: k.cfg.Holder},
		window: w,
	}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	t.timer = time.AfterFunc(w.until.Sub(now), func() { k.expire(t) })
	k.trust = t
	close(k.gained)
	k.gained = make(chan struct{})
	k.log.Info("this node leads", "epoch", epoch)
}

// expire ends t unless a renewal was confirmed while the timer ran.
func (k *Keeper) expire(t *trust) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trust == t && !time.Now().Before(t.window.until) {
		k.distrust(ErrUnconfirmed)
	}
}

// revoke ends the trust, if there is any.
func (k *Keeper) revoke(cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.distrust(cause)
}

// distrust expects the lock.
func (k *Keeper) distrust(cause error) {
	if k.trust == nil {
		return
	}
	k.trust.timer.Stop()
	k.trust.cancel(cause)
	level := slog.LevelWarn
	if errors.Is(cause, ErrReleased) {
		level = slog.LevelInfo
	}
	k.log.Log(context.Background(), level, "this node must not act any more", "epoch", k.trust.term.Epoch, "err", cause)
	k.trust = nil
}
