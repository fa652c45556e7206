package registry

import (
	"context"
	"sync"
)

// inFlight bounds how many look-ups one operation has in flight; the client bounds requests per host besides.
const inFlight = 32

// parallel calls f for 0 … n-1, at most inFlight at a time, and returns the first error, upon which the others are cancelled.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	if n == 1 {
		return f(ctx, 0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for i := range n {
		select {
		case <-ctx.Done():
		case slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-slots }()
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			})
		}
	}
	wg.Wait()
	return context.Cause(ctx)
}
