package signer

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// A choice is of a new chain for the key of present's leaf out of given certificates and those of present; present itself is the
// answer if the given ones change nothing.
//
// A given certificate takes the place of the one in present that has its subject and its key, and a given leaf that
// of the present one, unless that one is given too. What is left of present fills the gaps. So one file with a
// renewed intermediate serves every signature below it, a shorter chain that was asked for is not hidden by the
// present one, and what was done once is found done the second time.
type choice struct {
	present certchain.Chain
	given   []*x509.Certificate // of those handed in what can have to do with present
	fresh   []*x509.Certificate // those given that present does not have
	found   []*x509.Certificate // fetched from elsewhere: they take nothing's place, and may only make a longer life
	// strangers: among those handed in are leaves which present does not have; others: among them are any that it does not have.
	strangers, others bool
	many              bool                // handed in for many signatures
	without           []*x509.Certificate // the new chain has none of these
	now               time.Time
}

func (c choice) choose() (certchain.Chain, error) {
	if len(c.without) == 0 && !c.others && len(c.found) == 0 {
		return c.present, nil
	}
	chain, err := c.build()
	if err == nil && !chain.Equal(c.present) {
		return chain, nil
	}
	// The fresh ones are not used. Either they would be, and will not do; or they would be, and do not last as long
	// as the present ones that are given too; or they have nothing to do with this signature.
	switch fits := c.fits(); {
	case fits && err != nil:
		return nil, chainError(err)
	case fits && err == nil:
		return c.present, nil
	}
	if below, issuer := c.namesake(); issuer != nil {
		return nil, &Error{codeNotIssuedBy, fmt.Errorf("%w: %s (%s) has the name of the issuer of %s, but its key did not sign that",
			certchain.ErrNotIssuedBy,
			certchain.NameOf(issuer.RawSubject), certchain.Thumbprint(issuer), certchain.NameOf(below.RawSubject))}
	}
	if (!c.others || c.concerned()) && !slices.ContainsFunc(c.present, c.excluded) {
		return c.present, nil
	}
	return nil, &Error{codeLeafKey, fmt.Errorf("none of the certificates given fits: "+
		"there is neither one for the key that signed, nor a renewed issuer of its certificate %s",
		certchain.NameOf(c.present.Leaf().RawSubject))}
}

func (c choice) excluded(cert *x509.Certificate) bool { return contains(c.without, cert) }

// build finds the chain that lasts longest; of several that last as long, one that keeps the present root, which
// verifiers have pinned.
func (c choice) build() (certchain.Chain, error) {
	pool, root := c.pool(), c.present.Root()
	chain, err := c.longest(pool)
	if err != nil || chain.Root().Equal(root) {
		return chain, err
	}
	_, until := chain.HoldsUntil()
	kept, err := c.longest(slices.DeleteFunc(pool, func(p *x509.Certificate) bool {
		return bytes.Equal(p.RawSubject, p.RawIssuer) && !p.Equal(root)
	}))
	if err == nil {
		if _, keptUntil := kept.HoldsUntil(); !keptUntil.Before(until) {
			return kept, nil
		}
	}
	return chain, nil
}

// maxLeaves is how many certificates for one key are looked at together: a search is bounded, and a key that has been certified a
// thousand times is no reason to find nothing.
const maxLeaves = 32

// longest finds the chain of pool that lasts longest, as [certchain.Build] does.
func (c choice) longest(pool []*x509.Certificate) (certchain.Chain, error) {
	leaf := c.present.Leaf()
	var leaves, issuers []*x509.Certificate
	for _, p := range pool {
		if sameKey(p, leaf) {
			leaves = append(leaves, p)
		} else {
			issuers = append(issuers, p)
		}
	}
	if len(leaves) <= maxLeaves {
		return certchain.Build(leaf.PublicKey, pool, c.now)
	}
	slices.SortFunc(leaves, func(a, b *x509.Certificate) int {
		return cmp.Or(b.NotAfter.Compare(a.NotAfter), bytes.Compare(a.Raw, b.Raw))
	})
	var best certchain.Chain
	var until time.Time
	var first error
	for some := range slices.Chunk(leaves, maxLeaves) {
		if best != nil && !some[0].NotAfter.After(until) {
			break // no chain outlasts its leaf, and these end no later
		}
		chain, err := certchain.Build(leaf.PublicKey, slices.Concat(some, issuers), c.now)
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		if _, end := chain.HoldsUntil(); best == nil || end.After(until) {
			best, until = chain, end
		}
	}
	if best == nil {
		return nil, first
	}
	return best, nil
}

// pool is what the chain is built from.
func (c choice) pool() []*x509.Certificate {
	pool := slices.Concat(c.given, c.found)
	for i, p := range c.present {
		replaced := func(g *x509.Certificate) bool {
			return sameKey(g, p) && (i == 0 || bytes.Equal(g.RawSubject, p.RawSubject))
		}
		if !contains(pool, p) && !slices.ContainsFunc(c.given, replaced) && !c.excluded(p) {
			pool = append(pool, p)
		}
	}
	return pool
}

// fits reports whether a fresh certificate belongs to this signature: it is for the key that signed, or it issued (by
// name and signature) something that does.
func (c choice) fits() bool {
	belongs := []*x509.Certificate{c.present.Leaf()}
	for _, g := range c.fresh {
		if sameKey(g, c.present.Leaf()) {
			return true
		}
	}
	rest := slices.Concat(c.present[1:], c.given, c.found)
	for i := 0; i < len(belongs); i++ {
		for _, issuer := range rest {
			if contains(belongs, issuer) || !issued(issuer, belongs[i]) {
				continue
			}
			if contains(c.fresh, issuer) {
				return true
			}
			belongs = append(belongs, issuer)
		}
	}
	return false
}

// namesake returns a fresh certificate that has the name of an issuer in present but not its key, and what that
// issuer issued. Where the true issuer is given too, the namesake is only one more that is not needed.
func (c choice) namesake() (below, issuer *x509.Certificate) {
	for i, p := range c.present[1:] {
		if contains(c.given, p) {
			continue
		}
		for _, g := range c.fresh {
			if bytes.Equal(g.RawSubject, p.RawSubject) && !sameKey(g, p) {
				return c.present[i], g
			}
		}
	}
	return nil, nil
}

// concerned reports whether the given certificates are the present chain's own with others that do not belong: its
// leaf, or all of its issuers and no leaf for another key. Where they are for many signatures the others' leaves say nothing of
// this one.
func (c choice) concerned() bool {
	if contains(c.given, c.present.Leaf()) {
		return true
	}
	issuers := c.present[1:]
	if len(issuers) > 1 {
		issuers = issuers[:len(issuers)-1] // the root may be left out of what is given
	}
	if c.many {
		return len(issuers) > 0 && contains(c.given, issuers[0])
	}
	return !c.strangers && len(issuers) > 0 && !slices.ContainsFunc(issuers, func(p *x509.Certificate) bool { return !contains(c.given, p) })
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(list, c.Equal)
}

func sameKey(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// issued reports whether issuer's name and key are on c. An algorithm too weak to be verified counts: Build names that rule.
func issued(issuer, c *x509.Certificate) bool {
	if !bytes.Equal(issuer.RawSubject, c.RawIssuer) {
		return false
	}
	err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}

// chainError gives what is wrong with a new chain its code: one of ours, or the rule's name.
func chainError(err error) error {
	err = fmt.Errorf("the new chain: %w", err)
	switch {
	case errors.Is(err, certchain.ErrNotIssuedBy):
		return &Error{codeNotIssuedBy, err}
	case errors.Is(err, certchain.ErrIncomplete):
		return &Error{codeIncomplete, err}
	}
	return err
}
