package signer

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
)

// prepare does every check that needs no request.
func (s *signing) prepare(chain certchain.Chain) error {
	if err := s.setKey(chain); err != nil {
		return err
	}
	if err := s.setExpiry(); err != nil {
		return err
	}
	if err := s.setClaims(); err != nil {
		return err
	}
	return s.checkMetadata()
}

// setKey settles whose signatures these are going to be, as far as that is known before the key is used.
func (s *signing) setKey(chain certchain.Chain) error {
	pub := s.key.Public()
	if pub != nil || s.whole == nil {
		algorithm, err := kms.AlgorithmOf(pub)
		if err != nil {
			return fmt.Errorf("signing key: %w", err)
		}
		s.result.Algorithm = algorithm.Name
	}
	if s.whole != nil && len(chain) == 0 {
		return nil
	}
	if err := chain.Check(time.Time{}); err != nil {
		return fmt.Errorf("signing chain: %w", err)
	}
	if pub == nil {
		pub = chain.Leaf().PublicKey
	}
	if err := chain.Matches(pub); err != nil {
		return fmt.Errorf("signing chain: %w", err)
	}
	if err := checkClock(chain, s.o.Now); err != nil {
		return err
	}
	algorithm, err := kms.AlgorithmOf(pub)
	if err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	s.chain, s.result.Algorithm = chain, algorithm.Name
	s.hand = &hand{chain: chain, scheme: envelope.SchemeX509, read: readStrictly}
	s.describe(chain)
	return nil
}

// describe says of result what the chain decides.
func (s *signing) describe(chain certchain.Chain) {
	s.result.Identity = certchain.NameOf(chain.Leaf().RawSubject)
	s.result.Chain = chain.Describe()
	first, until := chain.HoldsUntil()
	s.result.HoldsUntil, s.result.FirstToEnd = until, certchain.NameOf(first.RawSubject)
}

// checkClock refuses to sign outside the chain's validity. If no certificate at all is valid now, it is more likely
// that the clock is wrong than that a whole hierarchy has ended; if some are, the one that is not is
// named.
func checkClock(chain certchain.Chain, now time.Time) error {
	within := func(c *x509.Certificate) bool { return !now.Before(c.NotBefore) && !now.After(c.NotAfter) }
	if slices.ContainsFunc(chain, within) {
		if err := chain.Check(now); err != nil {
			return fmt.Errorf("signing chain: %w", err)
		}
		return nil
	}
	leaf := chain.Leaf()
	when := "ended " + stamp(leaf.NotAfter)
	if now.Before(leaf.NotBefore) {
		when = "is not valid before " + stamp(leaf.NotBefore)
	}
	return &Error{codeClock, fmt.Errorf("no certificate of the chain is valid now: %s %s, and the clock says %s",
		certchain.NameOf(leaf.RawSubject), when, stamp(now))}
}

func (s *signing) setExpiry() error {
	if s.o.Expiry == 0 {
		return nil
	}
	// Times are written in whole seconds, so less than one would be no time at all.
	if s.o.Expiry < time.Second {
		return &Error{codeExpiry, fmt.Errorf("an expiry of %s is not ahead", s.o.Expiry)}
	}
	s.expiry = s.o.Now.Add(s.o.Expiry).Truncate(time.Second)
	if s.expiry.Year() > 9999 { // what RFC 3339 can write
		return &Error{codeExpiry, fmt.Errorf("an expiry of %s lies after the year 9999", s.o.Expiry)}
	}
	s.describeExpiry(s.expiry)
	return nil
}

// describeExpiry says of result what the expiry decides, once the chain is known.
func (s *signing) describeExpiry(expiry time.Time) {
	s.result.Expiry = &expiry
	chainEnds := s.result.HoldsUntil
	switch {
	case len(s.result.Chain) == 0:
	case expiry.After(chainEnds):
		s.warn("the expiry, %s, lies after the end of %s, %s: the signature holds until the earlier, unless its chain is renewed",
			stamp(expiry), s.result.FirstToEnd, stamp(chainEnds))
	default:
		s.result.HoldsUntil, s.result.FirstToEnd = expiry, "expiry"
	}
}
