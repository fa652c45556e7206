package cmd

import (
	"slices"
	"sync"
)

// turns lets the items of a batch that are about the same thing go one after the other, so that each finds what the
// one before it did.
type turns struct {
	mu sync.Mutex
	of map[string]*sync.Mutex
}

// take waits for the turn of all names and returns how to give it up.
func (t *turns) take(names ...string) (done func()) {
	names = slices.Compact(slices.Sorted(slices.Values(names))) // in one order everywhere: two never wait for each other
	var taken []*sync.Mutex
	for _, name := range names {
		own := t.turn(name)
		own.Lock()
		taken = append(taken, own)
	}
	return func() {
		for _, own := range taken {
			own.Unlock()
		}
	}
}

func (t *turns) turn(name string) *sync.Mutex {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*sync.Mutex{}
	}
	if t.of[name] == nil {
		t.of[name] = &sync.Mutex{}
	}
	return t.of[name]
}
