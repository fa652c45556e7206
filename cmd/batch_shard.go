package cmd

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxShards bounds N of --shard I/N.
const maxShards = 100_000

// A shard is the share of a batch that this process does: the index-th of so many. The zero shard is all of it.
type shard struct{ index, of int }

var errShard = fmt.Errorf("it is I/N with I from 0 to N-1 and N at most %d, as 0/8", maxShards)

// Set reads I/N. It is the Set of pflag.Value.
func (s *shard) Set(text string) error {
	i, n, ok := strings.Cut(text, "/")
	if !ok {
		return errShard
	}
	index, err := strconv.ParseUint(i, 10, 31)
	of, err2 := strconv.ParseUint(n, 10, 31)
	if errors.Join(err, err2) != nil || of == 0 || of > maxShards || index >= of {
		return errShard
	}
	*s = shard{int(index), int(of)}
	return nil
}

func (s *shard) String() string {
	if s.of == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.index, s.of)
}

// Type names the value in help.
func (s *shard) Type() string { return "string" }

// share keeps the items of the shard.
func (s shard) share(items []given) []given {
	if s.of == 0 {
		return items
	}
	kept := items[:0]
	for _, g := range items {
		if s.has(g.words) {
			kept = append(kept, g)
		}
	}
	return kept
}

// has reports whether an item is the shard's. Who does which item must be the same on every machine and in every version:
// the first 8 bytes of the SHA-256 of its words with a blank between them, as a big-endian number, modulo N.
func (s shard) has(it item) bool {
	sum := sha256.Sum256([]byte(strings.Join(it, " ")))
	return binary.BigEndian.Uint64(sum[:8])%uint64(s.of) == uint64(s.index)
}
