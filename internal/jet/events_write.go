package jet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Run brings what was published to disk until ctx ends, then as much of the
// rest as the store takes at once.
func (v *Events) Run(ctx context.Context) error {
	defer v.drain(context.WithoutCancel(ctx))
	if err := v.open(ctx); err != nil {
		return err
	}
	sub, err := v.srv.nc.Subscribe(v.tick(), func(*nats.Msg) { v.wake.all() })
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for {
		_, ok, changed := v.spool.head()
		if !ok {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-changed:
			}
		}
		select { // what comes in a burst is flushed together
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(together):
		}
		all := v.spool.heads(batchMost)
		if len(all) >= batchLeast && v.storeTogether(ctx, all) {
			v.trouble(nil)
			for _, w := range all {
				v.spool.done(w.number)
			}
			all = nil
		}
		for _, w := range all {
			if err := v.bring(ctx, w); err != nil {
				return err
			}
		}
		v.tell()
	}
}

// tell wakes those who read, here and on other nodes.
func (v *Events) tell() {
	v.wake.all()
	if v.srv.others() {
		_ = v.srv.nc.Publish(v.tick(), nil)
	}
}

// bring stores one event, however long that takes.
func (v *Events) bring(ctx context.Context, w waiting) error {
	pause := 50 * time.Millisecond
	for {
		err := v.store(ctx, w)
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		v.trouble(err)
		if err := v.heal.failed(v.srv, err, v.space.check()); err != nil {
			v.log.Error("events: their store cannot be opened anew", "err", err)
		}
		if err == nil {
			v.spool.done(w.number)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
		if next, ok, _ := v.spool.head(); !ok || next.number != w.number {
			// It was dropped while we tried. If the store has it after all, the
			// message id of the next attempt would have found it; there is none.
			return nil
		}
	}
}

// store offers one event once, and returns when it is on disk.
func (v *Events) store(ctx context.Context, w waiting) error {
	if err := v.space.check(); err != nil {
		return err
	}
	body, err := encode(w.event)
	if err != nil {
		v.log.Error("an event cannot be written", "kind", w.event.Kind, "err", err)
		return nil // it never will be
	}
	msg := v.message(w, body)
	try, cancel := context.WithTimeout(ctx, v.cfg.AckTimeout)
	defer cancel()
	answer, err := v.srv.nc.RequestMsgWithContext(try, msg)
	if err != nil {
		return err
	}
	return acknowledged(answer)
}

// message is an event as the store gets it.
func (v *Events) message(w waiting, body []byte) *nats.Msg {
	msg := nats.NewMsg(v.subject(w.event.Subject))
	// The store knows an id for the length of its window, and answers a
	// second offer with the sequence of the first.
	msg.Header["Nats-Msg-Id"] = []string{w.event.ID}
	msg.Data = body
	return msg
}

// acknowledged is nil if an answer says that something is on disk.
func acknowledged(answer *nats.Msg) error {
	var ack struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return fmt.Errorf("%w: %s (%d)", errAnswered, ack.Error.Description, ack.Error.Code)
	}
	if ack.Seq == 0 {
		return errors.New("acknowledgement without a sequence")
	}
	return nil
}

// drain gives the last events, such as "this node stops", a short chance.
func (v *Events) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for v.ready() {
		w, ok, _ := v.spool.head()
		if !ok || v.store(ctx, w) != nil {
			return
		}
		v.spool.done(w.number)
	}
}

// open finds or makes the stream. It goes on trying: a cluster may have no
// quorum yet, a disk no room.
func (v *Events) open(ctx context.Context) error {
	js, err := v.srv.api()
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	for {
		st, err := v.find(ctx, js)
		if err == nil {
			v.mu.Lock()
			v.stream = st
			close(v.opened)
			v.mu.Unlock()
			v.trouble(nil)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v.trouble(err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (v *Events) ready() bool {
	select {
	case <-v.opened:
		return true
	default:
		return false
	}
}

func (v *Events) find(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	want := jetstream.StreamConfig{
		Name: v.cfg.Name, Subjects: []string{v.subjects()},
		Retention: jetstream.LimitsPolicy,
		// What happened long ago makes room for what happens now.
		Discard: jetstream.DiscardOld, MaxAge: time.Duration(v.cfg.Keep), MaxBytes: v.cfg.MaxBytes,
		MaxMsgs: -1, MaxMsgSize: 2 * maxEvent, Storage: jetstream.FileStorage, Replicas: max(v.cfg.Replicas, 1),
		Duplicates: min(dedupWindow, time.Duration(v.cfg.Keep)), AllowDirect: true, DenyDelete: true, AllowAtomicPublish: true,
	}
	st, err := js.Stream(ctx, v.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want.Metadata = map[string]string{generationKey: rand.Text()}
		st, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			return js.Stream(ctx, v.cfg.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	have := st.CachedInfo().Config
	if have.Metadata[generationKey] == "" {
		return nil, fmt.Errorf("stream %s was not made by us", v.cfg.Name)
	}
	if v.cfg.Replicas == 0 {
		want.Replicas = have.Replicas
	}
	if have.MaxAge == want.MaxAge && have.MaxBytes == want.MaxBytes && have.Replicas == want.Replicas && have.AllowAtomicPublish {
		return st, nil
	}
	have.AllowAtomicPublish = true
	have.MaxAge, have.MaxBytes, have.Replicas, have.Duplicates = want.MaxAge, want.MaxBytes, want.Replicas, want.Duplicates
	return js.UpdateStream(ctx, have)
}

func (v *Events) subjects() string { return "perdure.event." + v.cfg.Name + ".>" }
func (v *Events) tick() string     { return "perdure.eventtick." + v.cfg.Name }

// subject is the NATS subject of an event's subject: one token for each part
// between slashes, what a token may not have written as =XX.
func (v *Events) subject(of string) string {
	var b strings.Builder
	b.WriteString("perdure.event." + v.cfg.Name)
	for part := range strings.SplitSeq(of, "/") {
		b.WriteByte('.')
		if part == "" {
			b.WriteByte('=')
		}
		for _, c := range []byte(part) {
			if c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "=%02X", c)
			}
		}
	}
	return b.String()
}
