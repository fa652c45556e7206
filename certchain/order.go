package certchain

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"slices"
	"time"
)

// maxSteps bounds the search for chains among certificates that cross-sign one another.
const maxSteps = 2_000

// A graph says who issued whom among certificates, sorted by bytes so that no result depends on their order.
type graph struct {
	certs     []*x509.Certificate
	bySubject map[string][]int
	signed    map[[2]int]bool
	steps     int
}

func newGraph(certs []*x509.Certificate) *graph {
	g := &graph{certs: slices.Clone(certs), bySubject: map[string][]int{}, signed: map[[2]int]bool{}}
	slices.SortFunc(g.certs, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	g.certs = slices.CompactFunc(g.certs, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) })
	for i, c := range g.certs {
		g.bySubject[string(c.RawSubject)] = append(g.bySubject[string(c.RawSubject)], i)
	}
	return g
}

// signedBy remembers what it found: RSA verification is cheap, thousands of them are not.
func (g *graph) signedBy(i, issuer int) bool {
	k := [2]int{i, issuer}
	ok, known := g.signed[k]
	if !known {
		ok = signedBy(g.certs[i], g.certs[issuer])
		g.signed[k] = ok
	}
	return ok
}

func (g *graph) isRoot(i int) bool {
	return bytes.Equal(g.certs[i].RawSubject, g.certs[i].RawIssuer) && g.signedBy(i, i)
}

// A path starts with a leaf and follows issuers as far as they are there.
type path struct {
	at       []int
	complete bool
	blocked  int // the certificate of the missing issuer's name, or of a circle; -1 if there is none
	circle   bool
}

// paths returns every path from leaf that ends at a root or where no issuer is left. It stops when the graph's steps are spent.
func (g *graph) paths(leaf int) []path {
	var all []path
	var walk func(at []int)
	walk = func(at []int) {
		if g.steps++; g.steps > maxSteps {
			return
		}
		last := at[len(at)-1]
		if g.isRoot(last) {
			all = append(all, path{at: slices.Clone(at), complete: true, blocked: -1})
			return
		}
		end := path{at: slices.Clone(at), blocked: -1}
		onward := false
		for _, i := range g.bySubject[string(g.certs[last].RawIssuer)] {
			switch {
			case i == last || !g.signedBy(last, i):
				if i != last && end.blocked < 0 {
					end.blocked = i
				}
			case g.visited(at, i):
				end.blocked, end.circle = i, true
			case len(at) < MaxCertificates:
				onward = true
				walk(append(at, i))
			}
		}
		if !onward {
			all = append(all, end)
		}
	}
	walk([]int{leaf})
	return all
}

// visited reports whether the path has been at a certificate of the same subject and key: another of those leads in a circle.
func (g *graph) visited(at []int, i int) bool {
	return slices.ContainsFunc(at, func(j int) bool {
		a, b := g.certs[j], g.certs[i]
		return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
	})
}

func (g *graph) chain(p path) Chain {
	c := make(Chain, len(p.at))
	for i, at := range p.at {
		c[i] = g.certs[at]
	}
	return c
}

// dead says why an incomplete path goes no further.
func (g *graph) dead(p path) error {
	last := g.certs[p.at[len(p.at)-1]]
	switch {
	case p.circle:
		return ruleError(ruleLoop, last, "its issuer %s stands below it already: the certificates go in a circle and reach no root",
			label(g.certs[p.blocked]))
	case p.blocked >= 0:
		return notIssuedBy(last, g.certs[p.blocked])
	case bytes.Equal(last.RawSubject, last.RawIssuer):
		return ruleError(ruleNotIssuedBy, last, "it names itself as its issuer, but another key signed it")
	}
	return incomplete(last)
}

// Order puts certs in order, leaf first. Every certificate must be used exactly once: a missing, unrelated or
// duplicated one is an error that names it. The last must be self-signed.
func Order(certs []*x509.Certificate) (Chain, error) {
	if err := Chain(certs).checkShape(); err != nil {
		return nil, err
	}
	g := newGraph(certs)
	var best path
	for leaf := range g.certs {
		for _, p := range g.paths(leaf) {
			if p.complete && len(p.at) == len(g.certs) {
				return g.chain(p), nil
			}
			if best.at == nil || g.likelier(p, best) {
				best = p
			}
		}
	}
	if g.steps > maxSteps {
		return nil, ruleError(ruleComplex, nil, "the certificates cross-sign one another in too many ways")
	}
	if !best.complete {
		return nil, g.dead(best)
	}
	for i, c := range g.certs {
		if !slices.Contains(best.at, i) {
			return nil, ruleError(ruleUnrelated, c, "it does not belong to the chain of %s", label(g.certs[best.at[0]]))
		}
	}
	return g.chain(best), nil
}

// likelier reports whether p is more likely meant than q: it starts with a leaf that issued nothing, is no CA, and goes further.
func (g *graph) likelier(p, q path) bool {
	score := func(p path) int {
		s := len(p.at)
		if c := g.certs[p.at[0]]; !c.IsCA {
			s += 4 * MaxCertificates
		}
		if p.complete {
			s += 2 * MaxCertificates
		}
		return s
	}
	return score(p) > score(q)
}

// Build finds in pool a chain for a leaf that holds pub: leaf candidates are all certificates of pool with that
// public key. What does not belong is left out. Of several chains that pass [Chain.Check] at the time at, the one
// that holds longest, ties broken by bytes; if none passes, the error of the best one. The result does not depend on
// the order of pool.
func Build(pub crypto.PublicKey, pool []*x509.Certificate, at time.Time) (Chain, error) {
	best, err := search(pub, pool, at)
	switch {
	case err != nil:
		return nil, err
	case best.err != nil:
		return nil, best.err
	}
	return best.chain, nil
}

// OrderFor picks out of certs the leaf for pub and puts its issuers behind it, leaf first. It is for certificates that come
// from several places (files, a key service that keeps old ones beside the new, a token's other certificates): what does not
// belong, and what is there twice, is left out.
//
// Of several chains it returns the one that [Build] would choose at the time at. Unlike Build it returns that one also if it
// breaks a rule or is not valid then, so that the caller can show it beside what [Chain.Check] says. The error wraps
// [ErrKeyMismatch] if no certificate is for pub, [ErrIncomplete] or [ErrNotIssuedBy] if no chain reaches a self-signed root.
func OrderFor(pub crypto.PublicKey, certs []*x509.Certificate, at time.Time) (Chain, error) {
	best, err := search(pub, certs, at)
	switch {
	case err != nil:
		return nil, err
	case best.rank < rankRule:
		return nil, best.err
	}
	return best.chain, nil
}

// search finds the best candidate for a chain of a leaf that holds pub.
func search(pub crypto.PublicKey, pool []*x509.Certificate, at time.Time) (*candidate, error) {
	if slices.Contains(pool, nil) {
		return nil, ruleError(ruleMalformed, nil, "there is a nil certificate")
	}
	if len(pool) == 0 {
		return nil, ruleError(ruleEmpty, nil, "there are no certificates to build a chain from")
	}
	g := newGraph(pool)
	var paths []path
	for leaf, cert := range g.certs {
		if holds(cert, pub) {
			paths = append(paths, g.paths(leaf)...)
		}
	}
	if g.steps > maxSteps {
		return nil, ruleError(ruleComplex, nil, "the certificates cross-sign one another in too many ways")
	}
	if len(paths) == 0 {
		return nil, ruleError(ruleKeyMismatch, nil, "none of the %d certificates is for the key that signs", len(g.certs))
	}
	best := g.judge(paths[0], at)
	for _, p := range paths[1:] {
		if c := g.judge(p, at); c.compare(best) > 0 {
			best = c
		}
	}
	return best, nil
}

// A candidate is a chain that was found, and why it will not do.
type candidate struct {
	chain Chain
	err   error
	rank  int
	until time.Time
}

// The ranks of candidates, the worst first: the error of the best tells most.
const (
	rankIncomplete = iota
	rankNotIssuedBy
	rankRule
	rankOutOfDate
	rankGood
)

func (g *graph) judge(p path, at time.Time) *candidate {
	c := &candidate{chain: g.chain(p), rank: rankGood}
	_, c.until = c.chain.HoldsUntil()
	if !p.complete {
		c.err, c.rank = g.dead(p), rankIncomplete
		if p.blocked >= 0 {
			c.rank = rankNotIssuedBy
		}
		return c
	}
	if c.err = c.chain.Check(at); c.err != nil {
		c.rank = rankRule
		if c.chain.Check(time.Time{}) == nil {
			c.rank = rankOutOfDate
		}
	}
	return c
}

// compare is positive if c is the better candidate.
func (c *candidate) compare(o *candidate) int {
	if n := cmp.Compare(c.rank, o.rank); n != 0 {
		return n
	}
	if c.rank <= rankNotIssuedBy {
		if n := cmp.Compare(len(c.chain), len(o.chain)); n != 0 {
			return n
		}
	}
	if n := c.until.Compare(o.until); n != 0 {
		return n
	}
	return slices.CompareFunc(o.chain, c.chain, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
}
