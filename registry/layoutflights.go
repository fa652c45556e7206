package registry

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
)

// flights let each blob be written once at a time: artifacts that are copied together share layers, and who comes
// second need not fetch what the first one fetches.
type flights struct {
	mu    sync.Mutex
	under map[digest.Digest]chan struct{}
}

// enter waits until nobody writes d, and then is who does, until it leaves.
func (f *flights) enter(ctx context.Context, d digest.Digest) (leave func(), err error) {
	for {
		f.mu.Lock()
		other, busy := f.under[d]
		if !busy {
			if f.under == nil {
				f.under = make(map[digest.Digest]chan struct{})
			}
			mine := make(chan struct{})
			f.under[d] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				delete(f.under, d)
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
