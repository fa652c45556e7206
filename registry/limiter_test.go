package registry

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newTestLimiter(most int) *limiter {
	return newLimiter("registry.example", most, time.Now, sleep)
}

func answerOf(status int, after string) *http.Response {
	h := http.Header{}
	if after != "" {
		h.Set("Retry-After", after)
	}
	return &http.Response{StatusCode: status, Header: h}
}

// take acquires n slots, which must be free.
func take(t testing.TB, l *limiter, c class, n int) []slot {
	t.Helper()
	var out []slot
	for range n {
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(time.Second, cancel)
		s, err := l.acquire(ctx, c, time.Time{})
		stop.Stop()
		cancel()
		if err != nil {
			t.Fatalf("no slot for request %d of class %d: %v", len(out)+1, c, err)
		}
		out = append(out, s)
	}
	return out
}

// full fails if there is a slot.
func full(t testing.TB, l *limiter, c class) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := l.acquire(ctx, c, time.Time{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("class %d has a slot left: %v", c, err)
	}
}

// Big bodies have slots of their own: what is small never waits behind them, and the other way round.
func TestLimiterClasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newTestLimiter(5)
		take(t, l, classBig, 3)
		full(t, l, classBig)
		take(t, l, classPlain, 5)
		full(t, l, classPlain)
		take(t, l, classStream, 5)
		full(t, l, classStream)
	})
}

// The 429 of one burst halve once, what is sent later and still too much halves again, and never below one. Growing back
// takes a run of answers.
func TestLimiterHalvesAndGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 16
		l := newTestLimiter(most)
		for _, want := range []int{8, 4, 2, 1, 1} {
			burst := take(t, l, classPlain, l.limit)
			for _, s := range burst {
				l.release(s, answerOf(429, ""))
			}
			if l.limit != want {
				t.Fatalf("after a burst of %d the bound is %d, not %d", len(burst), l.limit, want)
			}
		}
		take(t, l, classBig, 1)
		full(t, l, classBig)
		for want := 2; want <= most; want++ {
			for i := range growAfter {
				if l.limit != want-1 {
					t.Fatalf("%d answers gave the bound %d", i, l.limit)
				}
				l.release(take(t, l, classPlain, 1)[0], answerOf(200, ""))
			}
			if l.limit != want {
				t.Fatalf("the bound is %d, not %d", l.limit, want)
			}
		}
		for range 2 * growAfter {
			l.release(take(t, l, classPlain, 1)[0], answerOf(404, ""))
		}
		if l.limit != most {
			t.Errorf("it grew to %d", l.limit)
		}
	})
}

// A run is interrupted by another 429, and what was in flight before a halving says nothing about the time after it.
func TestLimiterRun(t *testing.T) {
	t.Parallel()
	l := newTestLimiter(16)
	old := take(t, l, classPlain, 10)
	l.release(old[0], answerOf(429, ""))
	for _, s := range old[1:] {
		l.release(s, answerOf(200, ""))
	}
	if l.run != 0 || l.limit != 8 {
		t.Errorf("a run of %d, bound %d", l.run, l.limit)
	}
	for range growAfter - 1 {
		l.release(take(t, l, classPlain, 1)[0], answerOf(200, ""))
	}
	l.release(take(t, l, classPlain, 1)[0], answerOf(503, ""))
	l.release(take(t, l, classPlain, 1)[0], nil)
	if l.limit != 8 || l.run != growAfter-1 {
		t.Errorf("an answer that says nothing counts: %d, %d", l.limit, l.run)
	}
	l.release(take(t, l, classPlain, 1)[0], answerOf(429, ""))
	if l.limit != 4 || l.run != 0 {
		t.Errorf("bound %d, run %d", l.limit, l.run)
	}
}

// While a host wants to be left alone everybody waits, once; who cannot wait so long says so at once.
func TestLimiterRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newTestLimiter(16)
		begin := time.Now()
		plain, big := take(t, l, classPlain, 2), take(t, l, classBig, 1)
		l.release(plain[0], answerOf(429, "30"))
		l.release(big[0], answerOf(429, "10")) // the longer one counts

		short, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := l.acquire(short, classPlain, time.Time{}); !errors.Is(err, ErrUnavailable) || time.Since(begin) != 0 {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		by := context.WithValue(t.Context(), answerByKey{}, time.Now().Add(time.Second))
		if _, err := l.acquire(by, classPlain, time.Time{}); !errors.Is(err, ErrUnavailable) || time.Since(begin) != 0 {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		if _, err := l.acquire(t.Context(), classPlain, begin.Add(30*time.Second)); err != nil || time.Since(begin) != 0 {
			t.Errorf("who has waited waits again: %s, %v", time.Since(begin), err)
		}
		called, off := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, off)
		if _, err := l.acquire(called, classPlain, time.Time{}); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		if _, err := l.acquire(t.Context(), classBig, time.Time{}); err != nil || time.Since(begin) != 30*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		// What nobody waits for holds back nobody.
		l.release(plain[1], answerOf(429, "86400"))
		begin = time.Now()
		take(t, l, classPlain, 1)
		if time.Since(begin) != 0 {
			t.Errorf("waited %s", time.Since(begin))
		}
		if l.busy != [classes]int{classPlain: 2, classBig: 1} { // the one that had waited, the one just now
			t.Errorf("slots are lost: %v", l.busy)
		}
	})
}

// Who waits is let in in the order of coming, and who goes away leaves no slot behind.
func TestLimiterQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newTestLimiter(1)
		held := take(t, l, classPlain, 1)[0]
		order := make(chan int, 10)
		var wg sync.WaitGroup
		for i := range 4 {
			ctx, cancel := context.WithCancel(t.Context())
			if i == 1 {
				time.AfterFunc(10*time.Second, cancel)
			}
			wg.Go(func() {
				defer cancel()
				s, err := l.acquire(ctx, classPlain, time.Time{})
				if err != nil {
					return
				}
				order <- i
				time.Sleep(time.Second)
				l.release(s, answerOf(200, ""))
			})
			synctest.Wait()
		}
		time.Sleep(20 * time.Second)
		l.release(held, answerOf(200, ""))
		wg.Wait()
		close(order)
		var got []int
		for i := range order {
			got = append(got, i)
		}
		if len(got) != 3 || got[0] != 0 || got[1] != 2 || got[2] != 3 || l.busy[classPlain] != 0 || len(l.queue[classPlain]) != 0 {
			t.Errorf("%v, %d busy, %d waiting", got, l.busy[classPlain], len(l.queue[classPlain]))
		}
	})
}
