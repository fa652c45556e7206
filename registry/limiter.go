package registry

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// bigBody is from where on a body counts as big, and has a turn of its own to wait for.
const bigBody = 256 << 10

// A class is a kind of request with slots of its own, so that none waits behind those of another. A request of one
// class may need one of the class before it to go on (the body of an upload is opened again, and is a download from
// the same host), but never one of its own.
type class int

const (
	classPlain  class = iota // what has no body, or one in memory
	classStream              // a small body that is streamed
	classBig                 // a big one; half as many slots
	classes
)

// growAfter is how many answers in a row give a host one slot back.
const growAfter = 16

// clockSlack is how far two computations of the same moment may lie apart: a date is compared by the wall clock, a pause
// measured by another.
const clockSlack = 10 * time.Millisecond

// A limiter bounds the requests in flight to one host. The bound halves when the host says 429, and grows back by one
// after a run of other answers. It may be used concurrently.
type limiter struct {
	host  string
	most  int
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error

	mu    sync.Mutex
	limit int
	// wave counts the halvings. Requests that were in flight together when the host had enough say it many times, and
	// it counts once: only what was sent after the last halving halves again.
	wave      int
	run       int       // answers since the bound changed
	notBefore time.Time // the host wants nobody before that
	busy      [classes]int
	queue     [classes][]chan struct{} // who waits, first come first
}

func newLimiter(host string, most int, now func() time.Time, sleep func(context.Context, time.Duration) error) *limiter {
	return &limiter{host: host, most: most, limit: most, now: now, sleep: sleep}
}

// A slot is the leave to have one request in flight.
type slot struct {
	class class
	wave  int
}

func (l *limiter) room(c class) int {
	if c == classBig {
		return (l.limit + 1) / 2
	}
	return l.limit
}

// acquire waits for a slot of the class, and until the host wants to be asked again. Who has slept until served already
// does not sleep for it once more.
func (l *limiter) acquire(ctx context.Context, c class, served time.Time) (slot, error) {
	if err := l.turn(ctx, c); err != nil {
		return slot{}, err
	}
	for {
		l.mu.Lock()
		until, wave := l.notBefore, l.wave
		l.mu.Unlock()
		wait := until.Sub(l.now())
		if wait <= 0 || !until.After(served.Add(clockSlack)) {
			return slot{class: c, wave: wave}, nil
		}
		err := error(nil)
		if by, ok := deadlineOf(ctx); ok && by.Before(until) {
			err = fail(codeUnavailable, "%w: %s wants to be left alone for %s (429 %s)", ErrUnavailable, l.host, wait.Round(time.Second),
				http.StatusText(http.StatusTooManyRequests))
		} else {
			err = l.sleep(ctx, wait)
		}
		if err != nil {
			l.giveBack(c)
			return slot{}, err
		}
		served = until
	}
}

// turn takes a slot, or waits in the queue for one.
func (l *limiter) turn(ctx context.Context, c class) error {
	l.mu.Lock()
	if l.busy[c] < l.room(c) && len(l.queue[c]) == 0 {
		l.busy[c]++
		l.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	l.queue[c] = append(l.queue[c], mine)
	l.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	at := slices.Index(l.queue[c], mine)
	if at >= 0 {
		l.queue[c] = slices.Delete(l.queue[c], at, at+1)
	}
	l.mu.Unlock()
	if at < 0 { // it came at the same moment
		l.giveBack(c)
	}
	return fmt.Errorf("%s: waiting for a turn: %w", l.host, context.Cause(ctx))
}

// giveBack ends a slot without having learned anything.
func (l *limiter) giveBack(c class) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[c]--
	l.admit()
}

// release ends a slot with the answer that the request got, nil if none came.
func (l *limiter) release(s slot, resp *http.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[s.class]--
	switch {
	case resp == nil || resp.StatusCode >= 500:
	case resp.StatusCode == http.StatusTooManyRequests:
		if s.wave == l.wave {
			l.wave++
			l.limit = max(1, l.limit/2)
		}
		l.run = 0
		// What is longer than anybody waits holds back nobody: perhaps it is meant for one repository.
		if after, ok := retryAfter(resp.Header.Get("Retry-After"), l.now()); ok && after <= maxRetryAfter {
			if until := l.now().Add(after); until.After(l.notBefore) {
				l.notBefore = until
			}
		}
	case s.wave == l.wave && l.limit < l.most:
		if l.run++; l.run >= growAfter {
			l.limit++
			l.run = 0
		}
	}
	l.admit()
}

// admit lets in who waits, as far as there is room.
func (l *limiter) admit() {
	for c := range classes {
		for l.busy[c] < l.room(c) && len(l.queue[c]) > 0 {
			l.busy[c]++
			close(l.queue[c][0])
			l.queue[c] = l.queue[c][1:]
		}
	}
}
