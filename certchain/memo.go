package certchain

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// A memo remembers which chains kept rules that no time enters into. Thousands of signatures have one chain, which would
// otherwise be verified for each of them several times over. Only what was found good is kept, under the hash of every byte of
// the chain, so that forgetting costs time and nothing else.
type memo struct {
	mu   sync.Mutex
	good map[[sha256.Size]byte]bool
}

// maxMemo bounds a memo; a full one starts again.
const maxMemo = 4096

// The only mutable things of this package, and like every memo of a pure function not to be seen from outside: chains that keep all
// rules, chains that keep those of stock verifiers, certificates that signed themselves (as chains of one).
var keptRules, keptStock, keptSelf memo

func (m *memo) has(key [sha256.Size]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.good[key]
}

func (m *memo) add(key [sha256.Size]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.good == nil || len(m.good) >= maxMemo {
		m.good = map[[sha256.Size]byte]bool{}
	}
	m.good[key] = true
}

// sum hashes the certificates of the chain, each preceded by its length.
func (c Chain) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, cert := range c {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(cert.Raw))))
		h.Write(cert.Raw)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
