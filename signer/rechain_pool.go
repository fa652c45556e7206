package signer

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// A Pool is certificates that new chains are built from: those of any number of keys and authorities, in any order. For each
// signature only those count that can have to do with it, and what was found for one chain is remembered for the next signature
// that has it. A Pool may be used concurrently.
type Pool struct {
	all       map[[sha256.Size]byte]bool
	bySubject map[string][]*x509.Certificate
	byKey     map[string][]*x509.Certificate
	leaves    int // that are no authorities

	mu     sync.Mutex
	chosen map[[sha256.Size]byte]chosen
}

type chosen struct {
	chain certchain.Chain
	err   error
}

// maxChosen bounds what a pool remembers; a full one starts again.
const maxChosen = 10_000

// NewPool makes a pool of certs.
func NewPool(certs []*x509.Certificate) *Pool {
	p := &Pool{
		all: map[[sha256.Size]byte]bool{}, bySubject: map[string][]*x509.Certificate{}, byKey: map[string][]*x509.Certificate{},
		chosen: map[[sha256.Size]byte]chosen{},
	}
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		if p.all[sum] {
			continue
		}
		p.all[sum] = true
		p.bySubject[string(c.RawSubject)] = append(p.bySubject[string(c.RawSubject)], c)
		p.byKey[string(c.RawSubjectPublicKeyInfo)] = append(p.byKey[string(c.RawSubjectPublicKeyInfo)], c)
		if !c.IsCA {
			p.leaves++
		}
	}
	return p
}

// Len is the number of different certificates.
func (p *Pool) Len() int { return len(p.all) }

func (p *Pool) has(c *x509.Certificate) bool { return p.all[sha256.Sum256(c.Raw)] }

// For returns the certificates of the pool that can have to do with a signature of the chain present: those for its leaf's key, and
// those that have the name of an issuer of it, of one of these, or of an issuer of theirs.
func (p *Pool) For(present certchain.Chain) []*x509.Certificate {
	out := slices.Clone(p.byKey[string(present.Leaf().RawSubjectPublicKeyInfo)])
	from := slices.Concat(present, out)
	named := map[string]bool{}
	for i := 0; i < len(from); i++ {
		issuer := string(from[i].RawIssuer)
		if named[issuer] {
			continue
		}
		named[issuer] = true
		for _, c := range p.bySubject[issuer] {
			if !sameKey(c, present.Leaf()) {
				out = append(out, c)
			}
			from = append(from, c)
		}
	}
	return out
}

// choose finds the new chain for a signature of the chain present, out of the pool and what was found elsewhere for it.
func (p *Pool) choose(present certchain.Chain, o RechainOptions) (certchain.Chain, error) {
	key := sumOf(present, o.Found, o.Only.Replacing, o.Now, o.Many)
	p.mu.Lock()
	known, ok := p.chosen[key]
	p.mu.Unlock()
	if ok {
		return known.chain, known.err
	}
	c := choice{present: present, given: p.For(present), many: o.Many, without: o.Only.Replacing, now: o.Now}
	c.found = slices.DeleteFunc(found(present, c.given, o.Found), c.excluded)
	c.given = slices.DeleteFunc(c.given, c.excluded)
	for _, g := range c.given {
		if !contains(present, g) {
			c.fresh = append(c.fresh, g)
		}
	}
	of, leaves := len(p.all), p.leaves
	for i, own := range present {
		if p.has(own) && !contains(present[:i], own) {
			of--
			if !own.IsCA {
				leaves--
			}
		}
	}
	c.others, c.strangers = of > 0, leaves > 0
	known.chain, known.err = c.choose()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.chosen) >= maxChosen {
		p.chosen = map[[sha256.Size]byte]chosen{}
	}
	p.chosen[key] = known
	return known.chain, known.err
}

// found are those certificates fetched from elsewhere that may be built from. A root is none of them, unless it is the present one
// or given: whoever answers for the address in a certificate does not say where a chain may end.
func found(present certchain.Chain, given, fetched []*x509.Certificate) (out []*x509.Certificate) {
	for _, f := range fetched {
		if string(f.RawSubject) != string(f.RawIssuer) && f.IsCA && !contains(given, f) && !contains(present, f) && !contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// sumOf hashes what a choice depends on, each list and certificate preceded by its length.
func sumOf(present certchain.Chain, found, without []*x509.Certificate, now time.Time, many bool) [sha256.Size]byte {
	h := sha256.New()
	number := func(n int64) { h.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	for _, list := range [][]*x509.Certificate{present, found, without} {
		number(int64(len(list)))
		for _, c := range list {
			number(int64(len(c.Raw)))
			h.Write(c.Raw)
		}
	}
	number(now.Unix())
	number(int64(now.Nanosecond()))
	if many {
		h.Write([]byte{1})
	}
	return [sha256.Size]byte(h.Sum(nil))
}
