package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// errSlow is why a transfer that hardly moves is broken off.
var errSlow = errors.New("too slow")

// A patience says how much time a host is given. Tests shorten it.
type patience struct {
	// object is how long something may take that does not move: a whole request and its answer, or a blob of which
	// nothing comes.
	object time.Duration
	// headers is how long an answer may take to begin, once the request is written.
	headers time.Duration
	// A body that moves less than floor bytes a second over window is broken off.
	window time.Duration
	floor  int64
}

func newPatience(object time.Duration) patience {
	return patience{object: object, headers: min(headerTimeout, object), window: min(slowWindow, object/3), floor: slowFloor}
}

// answer is how long the answer to a request with a body of size bytes may take: its last bytes are still on their way
// when they are written, and then the registry computes a digest.
func (p patience) answer(size int64) time.Duration {
	return min(p.object, p.headers+time.Duration(max(0, size)/p.floor)*time.Second)
}

// A pace watches a body on its way, in either direction, and breaks it off when the other side moves less than the
// floor. Only the time counts in which the other side is waited for: a reader that pauses, or a bandwidth of our own,
// is not its fault. It costs one timer for a body, not one for a read.
type pace struct {
	patience patience
	stop     func(error)

	mu     sync.Mutex
	since  time.Time     // the other side is waited for since; zero: it is our turn
	waited time.Duration // in this window, before since
	moved  int64         // in this window
	slow   bool
	ended  bool
	timer  *time.Timer
}

func newPace(p patience, stop func(error)) *pace {
	w := &pace{patience: p, stop: stop}
	w.timer = time.AfterFunc(p.window, w.check)
	return w
}

// wait begins the other side's turn.
func (w *pace) wait() {
	now := time.Now()
	w.mu.Lock()
	w.since = now
	w.mu.Unlock()
}

// move ends the other side's turn, in which it has moved n bytes.
func (w *pace) move(n int) {
	now := time.Now()
	w.mu.Lock()
	if !w.since.IsZero() {
		w.waited += now.Sub(w.since)
		w.since = time.Time{}
	}
	w.moved += int64(n)
	w.mu.Unlock()
}

func (w *pace) check() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	waited := w.waited
	if !w.since.IsZero() {
		waited += now.Sub(w.since)
	}
	if waited < w.patience.window {
		w.timer.Reset(w.patience.window - waited)
		return
	}
	if float64(w.moved) < float64(w.patience.floor)*waited.Seconds() {
		w.slow, w.ended = true, true
		w.stop(errSlow)
		return
	}
	w.waited, w.moved = 0, 0
	if !w.since.IsZero() {
		w.since = now
	}
	w.timer.Reset(w.patience.window)
}

// end ends the watch and reports whether it has broken the body off.
func (w *pace) end() (slow bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
	return w.slow
}

// An incoming body is watched, and its bytes counted against the bandwidth.
type incoming struct {
	ctx  context.Context
	body io.ReadCloser
	pace *pace
	band *bandwidth
}

func (b *incoming) Read(p []byte) (int, error) {
	p = b.band.cut(p)
	b.pace.wait()
	n, err := b.body.Read(p)
	b.pace.move(n)
	if err == nil {
		err = b.band.take(b.ctx, n)
	}
	return n, err
}

func (b *incoming) Close() error {
	b.pace.end()
	return b.body.Close()
}

// An outgoing body is watched from what the transport asks for: it comes back for more when what it has is sent.
type outgoing struct {
	ctx  context.Context
	body io.ReadCloser
	pace *pace
	band *bandwidth
	last int // bytes that are being sent
}

func (b *outgoing) Read(p []byte) (int, error) {
	b.pace.move(b.last)
	p = b.band.cut(p)
	n, err := b.body.Read(p)
	b.last = n
	if err == nil {
		err = b.band.take(b.ctx, n)
	}
	if err != nil { // what follows is the answer, which has its own time
		b.pace.end()
		return n, err
	}
	b.pace.wait()
	return n, nil
}

func (b *outgoing) Close() error {
	b.pace.end()
	return b.body.Close()
}

// slowError is what to say of a host that is too slow.
func slowError(host string, p patience) error {
	return fail(codeUnavailable, "%w: %s moved less than %d bytes a second for %s", ErrUnavailable, host, p.floor, p.window)
}

// A deadline that ends with the beginning of an answer does not belong into the context, which the body needs: it is
// carried as a value, for those who would wait beyond it.
type answerByKey struct{}

// deadlineOf returns until when an answer must have begun.
func deadlineOf(ctx context.Context) (time.Time, bool) {
	by, ok := ctx.Deadline()
	if other, has := ctx.Value(answerByKey{}).(time.Time); has && (!ok || other.Before(by)) {
		return other, true
	}
	return by, ok
}

// errLate cancels a request whose answer did not begin in time.
var errLate = fmt.Errorf("no answer in time")
