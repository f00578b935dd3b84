package control

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perdure/perdure/internal/state"
)

var _ state.Store = (*Control)(nil)

// Get implements state.Store.
func (c *Control) Get(ctx context.Context, key string) (state.Entry, error) {
	ctx, r, done, err := c.begin(ctx)
	if err != nil {
		return state.Entry{}, err
	}
	defer done()
	got, err := r.client.Get(ctx, c.cfg.Prefix+key)
	if err != nil || len(got.Kvs) == 0 {
		return state.Entry{}, translate(ctx, err)
	}
	return c.entry(got.Kvs[0]), nil
}

// List implements state.Store.
func (c *Control) List(ctx context.Context, prefix string) ([]state.Entry, error) {
	all, _, err := c.list(ctx, prefix)
	return all, err
}

// list also returns the revision of the store as a whole, from which a watch
// may go on without a gap.
func (c *Control) list(ctx context.Context, prefix string) ([]state.Entry, int64, error) {
	ctx, r, done, err := c.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	got, err := r.client.Get(ctx, c.cfg.Prefix+prefix, clientv3.WithPrefix()) // in order of keys
	if err != nil {
		return nil, 0, translate(ctx, err)
	}
	all := make([]state.Entry, 0, len(got.Kvs))
	for _, kv := range got.Kvs {
		all = append(all, c.entry(kv))
	}
	return all, got.Header.Revision, nil
}

// Put implements state.Store.
func (c *Control) Put(ctx context.Context, key string, value []byte, expected state.Revision, fence state.Fence) (state.Revision, error) {
	if len(value) > state.MaxDocument {
		return 0, state.ErrTooLarge
	}
	at, err := c.change(ctx, key, expected, fence, clientv3.OpPut(c.cfg.Prefix+key, string(value)))
	return state.Revision(at), err
}

// Delete implements state.Store.
func (c *Control) Delete(ctx context.Context, key string, expected state.Revision, fence state.Fence) error {
	_, err := c.change(ctx, key, expected, fence, clientv3.OpDelete(c.cfg.Prefix+key))
	return err
}

// change makes one change in one transaction with all of its conditions, and
// returns the revision it made.
func (c *Control) change(ctx context.Context, key string, expected state.Revision, fence state.Fence, op clientv3.Op) (int64, error) {
	if fence != (state.Fence{}) && fence.Epoch <= 0 {
		return 0, state.ErrStale // etcd would take 0 to mean that nobody leads
	}
	if err := c.room.check(); err != nil {
		return 0, err
	}
	ctx, r, done, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()

	doc, lease := c.cfg.Prefix+key, c.cfg.Prefix+state.LeaseKey(fence.Lease)
	conditions := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(doc), "=", int64(expected))}
	var why []clientv3.Op // what to read if the conditions do not hold
	if fence != (state.Fence{}) {
		conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(lease), "=", fence.Epoch))
		why = append(why, clientv3.OpGet(lease, clientv3.WithKeysOnly()))
	}
	made, err := r.client.Txn(ctx).If(conditions...).Then(op).Else(why...).Commit()
	switch {
	case err != nil:
		return 0, translate(ctx, err)
	case made.Succeeded:
		return made.Header.Revision, nil
	case len(why) > 0 && created(made) != fence.Epoch:
		return 0, state.ErrStale
	default:
		return 0, state.ErrConflict
	}
}

// created is the creation revision of the lease that a refused change read,
// 0 if there is no such lease.
func created(r *clientv3.TxnResponse) int64 {
	kvs := r.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].CreateRevision
}

// entry copies: inside one process etcd hands out its own bytes.
func (c *Control) entry(kv *mvccpb.KeyValue) state.Entry {
	return state.Entry{
		Key:      strings.TrimPrefix(string(kv.Key), c.cfg.Prefix),
		Value:    append([]byte{}, kv.Value...),
		Revision: state.Revision(kv.ModRevision),
	}
}
