package kms

import (
	"context"
	"sync"
	"time"
)

// quiet is how long a person is left without a word.
const quiet = 3 * time.Second

type noticeKey struct{}

// WithNotice returns a context in which [Ask] tells notice that a key service keeps it waiting: once per call, after 3 seconds,
// with why if the service or the network said so. notice is called from other goroutines, and from several at once.
func WithNotice(ctx context.Context, notice func(why string)) context.Context {
	return context.WithValue(ctx, noticeKey{}, notice)
}

// A wait tells about itself once it is long.
type wait struct {
	mu  sync.Mutex
	why string
}

// begin starts the clock; the caller stops it. Without anybody to tell there is none.
func (w *wait) begin(ctx context.Context) (stop func()) {
	notice, ok := ctx.Value(noticeKey{}).(func(string))
	if !ok {
		return func() {}
	}
	w.why = "no answer yet"
	timer := time.AfterFunc(quiet, func() {
		w.mu.Lock()
		why := w.why
		w.mu.Unlock()
		notice(why)
	})
	return func() { timer.Stop() }
}

// because notes why the wait goes on.
func (w *wait) because(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why = Text(err.Error())
}
