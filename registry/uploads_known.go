package registry

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxKnown bounds what is remembered of one registry, and so the memory that a batch takes. What is forgotten costs a
// request.
const maxKnown = 100_000

// A holding is a blob in a repository of a registry.
type holding struct {
	repository string
	blob       digest.Digest
}

// holdings is what this run knows of where blobs are in one registry: what it has put or found there, and what is on
// its way. The zero value knows nothing.
type holdings struct {
	mu        sync.Mutex
	known     memory[holding, struct{}]
	holders   memory[digest.Digest, string] // a repository to mount from
	denied    memory[[2]string, struct{}]   // from where to where mounting is not allowed
	manifests memory[holding, struct{}]     // put by this run
	flights   map[holding]chan struct{}     // closed when the blob has arrived, or has not
	alone     bool                          // the registry mounts nothing from one repository into another
}

// turn waits until nobody else sends the blob where it would serve this repository too. there: it is there, to the
// knowledge of this run. Else the caller sends it, and says how it went by calling done.
//
// As long as no repository of the registry is known to hold a large blob, one goroutine sends it and all others wait,
// whichever repository is theirs: they mount it then. Of a small blob, waiting would take longer than sending.
func (h *holdings) turn(ctx context.Context, repository string, d ocispec.Descriptor) (there bool, done func(arrived bool), err error) {
	own := holding{repository, d.Digest}
	for {
		h.mu.Lock()
		if _, ok := h.known.get(own); ok {
			h.mu.Unlock()
			return true, nil, nil
		}
		key := own
		if _, ok := h.holders.get(d.Digest); !ok && d.Size > maxUnasked && !h.alone {
			key.repository = ""
		}
		flight := h.flights[key]
		if flight == nil {
			flight = make(chan struct{})
			if h.flights == nil {
				h.flights = make(map[holding]chan struct{})
			}
			h.flights[key] = flight
			h.mu.Unlock()
			return false, func(arrived bool) {
				h.mu.Lock()
				defer h.mu.Unlock()
				if arrived {
					h.known.put(own, struct{}{})
					h.holders.put(d.Digest, repository)
				}
				delete(h.flights, key)
				close(flight)
			}, nil
		}
		h.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return false, nil, ctx.Err()
		}
	}
}

// holds notes that a repository holds a blob.
func (h *holdings) holds(repository string, d digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known.put(holding{repository, d}, struct{}{})
	h.holders.put(d, repository)
}

// putManifest notes that this run has put a manifest into a repository.
func (h *holdings) putManifest(repository string, d digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.manifests.put(holding{repository, d}, struct{}{})
}

func (h *holdings) hasManifest(repository string, d digest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.manifests.get(holding{repository, d})
	return ok
}

// has reports whether this run has put or found a blob in a repository.
func (h *holdings) has(repository string, d digest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.known.get(holding{repository, d})
	return ok
}

// lost forgets what turned out not to be so.
func (h *holdings) lost(repository string, d digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known.drop(holding{repository, d})
	if at, ok := h.holders.get(d); ok && at == repository {
		h.holders.drop(d)
	}
}

// source is the repository to mount a blob from: the one that the caller named, or one where this run has put or seen
// it, if mounting from there was not refused; else the repository itself, which asks for the blob.
func (h *holdings) source(repository, named string, d digest.Digest) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.alone {
		return repository
	}
	held, _ := h.holders.get(d)
	for _, from := range []string{named, held} {
		if from == "" || from == repository {
			continue
		}
		if _, no := h.denied.get([2]string{from, repository}); !no {
			return from
		}
	}
	return repository
}

// unmounted notes that a mount from another repository opened an upload instead. If this run knows that the blob is
// there, the registry mounts nothing across repositories, and nobody needs to wait for what another one gets.
func (h *holdings) unmounted(from string, d digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.known.get(holding{from, d}); ok {
		h.alone = true
	}
}

// deny notes that blobs of one repository may not be mounted into another.
func (h *holdings) deny(from, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.denied.put([2]string{from, to}, struct{}{})
}

// A memory is a map of at most maxKnown entries which forgets what has not been used for longest, roughly: it holds
// two maps, and when the younger one is half of that, drops the elder.
type memory[K comparable, V any] struct {
	young, old map[K]V
	most       int // 0: maxKnown; tests lower it
}

func (m *memory[K, V]) get(k K) (V, bool) {
	v, ok := m.young[k]
	if ok {
		return v, true
	}
	if v, ok = m.old[k]; ok {
		m.put(k, v)
	}
	return v, ok
}

func (m *memory[K, V]) put(k K, v V) {
	most := m.most
	if most == 0 {
		most = maxKnown
	}
	if _, ok := m.young[k]; !ok && len(m.young) >= most/2 {
		m.young, m.old = nil, m.young
	}
	if m.young == nil {
		m.young = make(map[K]V)
	}
	m.young[k] = v
}

func (m *memory[K, V]) drop(k K) {
	delete(m.young, k)
	delete(m.old, k)
}
