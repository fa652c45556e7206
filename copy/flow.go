package copy

import (
	"context"
	"sync"
)

// The kinds of task that a flow bounds apart, so that what is small never waits for what is big.
const (
	small    = iota // look-ups and manifests
	little          // small blobs
	big             // bodies
	settling        // lists read back, which may wait for others to write
	kinds
)

var atOnce = [kinds]int{small: 32, little: 32, big: 16, settling: 32}

// A flow runs tasks, each once those it comes after have ended well. The first error ends it: what is under way is
// cancelled, what has not begun never does. Tasks may be added while it runs, by tasks too.
type flow struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	ended sync.Cond // left has become 0
	left  int       // tasks that have not ended
	pools [kinds]struct {
		running int
		queue   []*task
	}
}

// A task is one step of a flow. Its fields belong to the flow.
type task struct {
	kind  int
	run   func(context.Context) error
	waits int // for how many others
	then  []*task
	ended bool
}

func newFlow(ctx context.Context) *flow {
	f := &flow{}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	f.ended.L = &f.mu
	return f
}

// add has a task run after others; those that are nil are none.
func (f *flow) add(kind int, run func(context.Context) error, after ...*task) *task {
	t := &task{kind: kind, run: run}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left++
	for _, a := range after {
		if a != nil && !a.ended {
			a.then = append(a.then, t)
			t.waits++
		}
	}
	if t.waits == 0 {
		f.ready(t)
	}
	return t
}

// ready starts a task, or queues it. f.mu is held.
func (f *flow) ready(t *task) {
	p := &f.pools[t.kind]
	if p.running == atOnce[t.kind] {
		p.queue = append(p.queue, t)
		return
	}
	p.running++
	go f.work(t)
}

// work runs a task, and then those of its kind that are queued.
func (f *flow) work(t *task) {
	for t != nil {
		var err error
		if f.ctx.Err() == nil {
			err = t.run(f.ctx)
		}
		f.mu.Lock()
		if err != nil {
			f.cancel(err)
		}
		t.ended = true
		for _, next := range t.then {
			if next.waits--; next.waits == 0 {
				f.ready(next)
			}
		}
		p := &f.pools[t.kind]
		t = nil
		if len(p.queue) > 0 {
			t, p.queue = p.queue[0], p.queue[1:]
		} else {
			p.running--
		}
		// Last: a task that was made ready above is counted still.
		if f.left--; f.left == 0 {
			f.ended.Broadcast()
		}
		f.mu.Unlock()
	}
}

// stop ends a flow with an error; nil is none.
func (f *flow) stop(err error) {
	if err != nil {
		f.cancel(err)
	}
}

// wait returns when each task that was added has ended, with the error that ended the flow.
func (f *flow) wait() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.left > 0 {
		f.ended.Wait()
	}
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	return nil
}

// close releases what a flow holds, once it was waited for.
func (f *flow) close() { f.cancel(nil) }
