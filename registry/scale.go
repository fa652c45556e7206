package registry

import (
	"context"
	"slices"
	"sync"
)

// A scale bounds how many bytes are held at the same time. Who comes first is served first, so that much is not kept waiting by a
// stream of little.
type scale struct {
	most int64

	mu    sync.Mutex
	held  int64
	queue []*weighing
}

type weighing struct {
	bytes int64
	there chan struct{}
}

func newScale(most int64) *scale { return &scale{most: most} }

// hold waits until there is room for so many bytes, and returns what makes it again. What is more than all the room waits for all of it.
func (s *scale) hold(ctx context.Context, bytes int64) (release func(), err error) {
	w := &weighing{bytes: min(max(bytes, 0), s.most), there: make(chan struct{})}
	s.mu.Lock()
	s.queue = append(s.queue, w)
	s.admit()
	s.mu.Unlock()
	select {
	case <-w.there:
		return sync.OnceFunc(func() { s.release(w) }), nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	if at := slices.Index(s.queue, w); at >= 0 {
		s.queue = slices.Delete(s.queue, at, at+1)
	} else { // it came at the same moment
		s.held -= w.bytes
	}
	s.admit()
	s.mu.Unlock()
	return nil, context.Cause(ctx)
}

func (s *scale) release(w *weighing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= w.bytes
	s.admit()
}

// admit lets in who waits, as far as there is room.
func (s *scale) admit() {
	for len(s.queue) > 0 && s.held+s.queue[0].bytes <= s.most {
		s.held += s.queue[0].bytes
		close(s.queue[0].there)
		s.queue = s.queue[1:]
	}
}
