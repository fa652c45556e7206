package cmd

import (
	"slices"
	"sync"
)

// turns lets the items of a batch that are about the same thing go one after the other, so that each finds what the
// one before it did. It remembers only those things that somebody is about.
type turns struct {
	mu sync.Mutex
	of map[string]*turn
}

// A turn is that of one thing.
type turn struct {
	mu    sync.Mutex
	takes int // of those who have it, or wait for it
}

// take waits for the turn of all names and returns how to give it up.
func (t *turns) take(names ...string) (done func()) {
	names = slices.Compact(slices.Sorted(slices.Values(names))) // in one order everywhere: two never wait for each other
	taken := make([]*turn, len(names))
	for i, name := range names {
		taken[i] = t.wanted(name)
		taken[i].mu.Lock()
	}
	return func() {
		for i, name := range names {
			taken[i].mu.Unlock()
			t.left(name)
		}
	}
}

func (t *turns) wanted(name string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*turn{}
	}
	own := t.of[name]
	if own == nil {
		own = &turn{}
		t.of[name] = own
	}
	own.takes++
	return own
}

func (t *turns) left(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[name].takes--; t.of[name].takes == 0 {
		delete(t.of, name)
	}
}
