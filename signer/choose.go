package signer

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// choose builds the chain for the key of present's leaf out of the given certificates and those of present; present
// itself is the answer if the given ones change nothing.
//
// A given certificate takes the place of the one in present that has its subject and its key, and a given leaf that
// of the present one, unless that one is given too. What is left of present fills the gaps. So one file with a
// renewed intermediate serves every signature below it, a shorter chain that was asked for is not hidden by the
// present one, and what was done once is found done the second time.
func choose(present certchain.Chain, given []*x509.Certificate, now time.Time) (certchain.Chain, error) {
	c := choice{present: present, given: given}
	for _, g := range given {
		if !contains(present, g) {
			c.fresh = append(c.fresh, g)
		}
	}
	if len(c.fresh) == 0 {
		return present, nil
	}
	chain, err := c.build(now)
	if err == nil && !chain.Equal(present) {
		return chain, nil
	}
	// The fresh ones are not used. Either they would be, and will not do; or they would be, and do not last as long
	// as the present ones that are given too; or they have nothing to do with this signature.
	switch fits := c.fits(); {
	case fits && err != nil:
		return nil, chainError(err)
	case fits:
		return present, nil
	}
	if below, issuer := c.namesake(); issuer != nil {
		return nil, &Error{codeNotIssuedBy, fmt.Errorf("%w: %s (%s) has the name of the issuer of %s, but its key did not sign that",
			certchain.ErrNotIssuedBy,
			certchain.NameOf(issuer.RawSubject), certchain.Thumbprint(issuer), certchain.NameOf(below.RawSubject))}
	}
	if c.concerned() {
		return present, nil
	}
	return nil, &Error{codeLeafKey, fmt.Errorf("none of the certificates given fits: "+
		"there is neither one for the key that signed, nor a renewed issuer of its certificate %s",
		certchain.NameOf(present.Leaf().RawSubject))}
}

type choice struct {
	present certchain.Chain
	given   []*x509.Certificate
	fresh   []*x509.Certificate // those given that present does not have
}

// build finds the chain that lasts longest; of several that last as long, one that keeps the present root, which
// verifiers have pinned.
func (c choice) build(now time.Time) (certchain.Chain, error) {
	pub, pool, root := c.present.Leaf().PublicKey, c.pool(), c.present.Root()
	chain, err := certchain.Build(pub, pool, now)
	if err != nil || chain.Root().Equal(root) {
		return chain, err
	}
	_, until := chain.HoldsUntil()
	kept, err := certchain.Build(pub, slices.DeleteFunc(pool, func(p *x509.Certificate) bool {
		return bytes.Equal(p.RawSubject, p.RawIssuer) && !p.Equal(root)
	}), now)
	if err == nil {
		if _, keptUntil := kept.HoldsUntil(); !keptUntil.Before(until) {
			return kept, nil
		}
	}
	return chain, nil
}

// pool is what the chain is built from.
func (c choice) pool() []*x509.Certificate {
	pool := slices.Clone(c.given)
	for i, p := range c.present {
		replaced := func(g *x509.Certificate) bool {
			return sameKey(g, p) && (i == 0 || bytes.Equal(g.RawSubject, p.RawSubject))
		}
		if !contains(c.given, p) && !slices.ContainsFunc(c.given, replaced) {
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
	rest := append(slices.Clone(c.present[1:]), c.given...)
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
// leaf, or all of its issuers and no leaf for another key.
func (c choice) concerned() bool {
	if contains(c.given, c.present.Leaf()) {
		return true
	}
	foreign := slices.ContainsFunc(c.fresh, func(g *x509.Certificate) bool { return !g.IsCA })
	issuers := c.present[1:]
	if len(issuers) > 1 {
		issuers = issuers[:len(issuers)-1] // the root may be left out of what is given
	}
	return !foreign && len(issuers) > 0 && !slices.ContainsFunc(issuers, func(p *x509.Certificate) bool { return !contains(c.given, p) })
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
