package copy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFlowOrder(t *testing.T) {
	t.Parallel()
	f := newFlow(t.Context())
	defer f.close()
	var mu sync.Mutex
	var order []string
	step := func(name string, after ...*task) *task {
		return f.add(small, func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return nil
		}, after...)
	}
	hold := make(chan struct{})
	first := f.add(big, func(context.Context) error { <-hold; return nil })
	a := step("a", first)
	b := step("b", first, nil)
	c := step("c", a, b)
	step("free")
	// What is added by a task runs too, and what it comes after may have ended already.
	f.add(small, func(context.Context) error { step("late", first); return nil }, c)
	close(hold)
	if err := f.wait(); err != nil {
		t.Fatal(err)
	}
	at := func(name string) int { return slices.Index(order, name) }
	if len(order) != 5 || at("c") < at("a") || at("c") < at("b") || at("late") < at("c") {
		t.Errorf("%q", order)
	}
}

// What is small never waits for what is big, and of neither more runs at once than it should.
func TestFlowPools(t *testing.T) {
	t.Parallel()
	f := newFlow(t.Context())
	defer f.close()
	hold := make(chan struct{})
	var running, most atomic.Int32
	for range 3 * atOnce[big] {
		f.add(big, func(context.Context) error {
			for n := running.Add(1); ; {
				if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			<-hold
			running.Add(-1)
			return nil
		})
	}
	var done sync.WaitGroup
	for range 3 * atOnce[small] {
		done.Add(1)
		f.add(small, func(context.Context) error { done.Done(); return nil })
	}
	done.Wait()
	close(hold)
	if err := f.wait(); err != nil || int(most.Load()) > atOnce[big] {
		t.Errorf("%d big ones at once, %v", most.Load(), err)
	}
}

func TestFlowError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("wrong")
		f := newFlow(t.Context())
		var after atomic.Int32
		stuck := f.add(small, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		failed := f.add(small, func(context.Context) error { time.Sleep(time.Second); return wrong })
		for range 100 {
			f.add(small, func(context.Context) error { after.Add(1); return nil }, stuck, failed)
		}
		if err := f.wait(); !errors.Is(err, wrong) {
			t.Errorf("%v: the first error is the flow's", err)
		}
		f.add(small, func(context.Context) error { after.Add(1); return nil })
		if err := f.wait(); !errors.Is(err, wrong) || after.Load() != 0 {
			t.Errorf("%v, %d tasks began after the error", err, after.Load())
		}
		f.close()
		synctest.Wait() // and no goroutine is left: the bubble would not end
	})
}
