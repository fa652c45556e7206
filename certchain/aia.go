package certchain

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Limits on what is fetched for one chain. Together they bound what a hostile pointer can cost.
const (
	maxAnswer  = 256 << 10        // bytes of one answer
	maxFetches = 16               // addresses asked for one chain
	maxFound   = 32               // certificates taken for one chain
	maxDepth   = 8                // pointers followed from a given certificate
	oneFetch   = 20 * time.Second // for one answer
	allFetches = time.Minute      // after which none is begun
)

// An AIA finds issuers where certificates say that they are published: the caIssuers pointers of the authority information access
// extension (RFC 5280 section 4.2.2.1). Each address is asked once in its life, whatever it answers; a host that kept somebody
// waiting is not asked again. It may be used by several goroutines and must not be copied.
//
// It trusts nothing: whoever answers can only add certificates to build from, and the chain that is built proves itself or not.
type AIA struct {
	// Get reads what an http address names, at most limit bytes. It is what keeps private addresses from being asked.
	Get func(ctx context.Context, url string, limit int64) ([]byte, error)

	mu    sync.Mutex
	asked map[string]*answer
	slow  map[string]bool // hosts
}

// An answer is what an address was found to hold.
type answer struct {
	done  chan struct{}
	certs []*x509.Certificate // not empty unless err is set
	err   error
	again bool // who asked was interrupted: the next asks anew
}

// Complete follows the pointers of certs, and of what it finds by them, and returns the issuers found that are not among certs:
// missing ones, and renewed or cross-signed ones of issuers that are there. A certificate is found only if its key really signed the
// one that points at it, or one found before it.
//
// A self-signed certificate is found only where certs are not complete without it. Anybody can make a root that has issued an
// intermediate of the same name and key as ours: it must not become another choice beside the root that is there. What is left out,
// and what went wrong, is told in warnings and stands in nothing else's way.
func (a *AIA) Complete(ctx context.Context, certs []*x509.Certificate) (found []*x509.Certificate, warnings []string) {
	s := &aiaSearch{aia: a, depth: map[*x509.Certificate]int{}, from: map[*x509.Certificate]string{}, signed: map[[2]*x509.Certificate]bool{}}
	for _, c := range certs {
		if c != nil && !contains(s.known, c) {
			s.known = append(s.known, c)
		}
	}
	s.given = s.known[:len(s.known):len(s.known)]
	s.follow(ctx)
	return s.withoutRivals(), s.warnings
}

// An aiaSearch is one call of [AIA.Complete].
type aiaSearch struct {
	aia      *AIA
	given    []*x509.Certificate
	known    []*x509.Certificate // those given, then those found
	depth    map[*x509.Certificate]int
	from     map[*x509.Certificate]string // the address that one was found at
	signed   map[[2]*x509.Certificate]bool
	warnings []string
}

func (s *aiaSearch) warn(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.warnings, text) {
		s.warnings = append(s.warnings, text)
	}
}

func (s *aiaSearch) follow(ctx context.Context) {
	budget, cancel := context.WithTimeout(ctx, allFetches)
	defer cancel()
	asked := map[string]bool{}
	for i := 0; i < len(s.known); i++ {
		c := s.known[i]
		if s.depth[c] >= maxDepth || selfSigned(c) {
			continue
		}
		pointers := 0
		for _, address := range c.IssuingCertificateURL {
			if !isHTTP(address) {
				continue // ldap is common beside http
			}
			pointers++
			switch {
			case !asked[address] && len(asked) == maxFetches:
				s.warn("the certificates point at more than %d addresses: no more were asked", maxFetches)
				return
			case budget.Err() != nil:
				s.warn("looking for issuers took too long: the rest was left out")
				return
			}
			asked[address] = true
			if answered, err := s.aia.ask(ctx, address); err != nil {
				s.warn("%s%s", err, code(err))
			} else if !s.take(c, address, answered) {
				return
			}
		}
		if pointers == 0 && !slices.ContainsFunc(s.known, func(o *x509.Certificate) bool { return s.issued(o, c) }) {
			s.warn("the certificate %s does not say where its issuer is published (no http address)", label(c))
		}
	}
}

// take adds those of an answer that issued c, or issued one of the answer that did. It reports whether there is room for more.
func (s *aiaSearch) take(c *x509.Certificate, address string, answered []*x509.Certificate) bool {
	line := []*x509.Certificate{c}
	for i := 0; i < len(line); i++ {
		for _, issuer := range answered {
			if contains(line, issuer) || !s.issued(issuer, line[i]) {
				continue
			}
			line = append(line, issuer)
			if contains(s.known, issuer) {
				continue
			}
			if len(s.known)-len(s.given) == maxFound {
				s.warn("more than %d issuers were found: no more were taken", maxFound)
				return false
			}
			s.known = append(s.known, issuer)
			s.depth[issuer], s.from[issuer] = s.depth[c]+1, address
		}
	}
	if len(line) == 1 && !selfSigned(c) {
		s.warn("%s sends %s, whose key did not sign %s", clean(address), label(answered[0]), label(c))
	}
	return true
}

// issued reports whether issuer proves to have issued c. Unlike [signedBy] it takes nothing on trust.
func (s *aiaSearch) issued(issuer, c *x509.Certificate) bool {
	if !bytes.Equal(issuer.RawSubject, c.RawIssuer) || isHuge(issuer.PublicKey) {
		return false
	}
	k := [2]*x509.Certificate{issuer, c}
	ok, known := s.signed[k]
	if !known {
		ok = issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
		s.signed[k] = ok
	}
	return ok
}

// withoutRivals returns what was found without the roots that would stand beside a given one: those that a given certificate leads
// to which leads to a given root without them.
func (s *aiaSearch) withoutRivals() []*x509.Certificate {
	above := make([][]*x509.Certificate, len(s.given))
	for i, c := range s.given {
		above[i] = s.above(c)
	}
	var found []*x509.Certificate
	for _, c := range s.known[len(s.given):] {
		if instead := s.rival(above, c); selfSigned(c) && instead != nil {
			s.warn("%s sends another root, %s, which was left out beside the root %s: if it is meant, compare its fingerprint and give it as a file",
				clean(s.from[c]), label(c), label(instead))
			continue
		}
		found = append(found, c)
	}
	return found
}

// rival returns the given root that some given certificate which leads to root leads to as well, nil if there is none.
func (s *aiaSearch) rival(above [][]*x509.Certificate, root *x509.Certificate) *x509.Certificate {
	for i, c := range s.given {
		if selfSigned(c) || !contains(above[i], root) {
			continue
		}
		for _, other := range above[i] {
			if contains(s.given, other) && selfSigned(other) {
				return other
			}
		}
	}
	return nil
}

// above returns all certificates that c leads to.
func (s *aiaSearch) above(c *x509.Certificate) []*x509.Certificate {
	all := []*x509.Certificate{c}
	for i := 0; i < len(all); i++ {
		for _, issuer := range s.known {
			if !contains(all, issuer) && s.issued(issuer, all[i]) {
				all = append(all, issuer)
			}
		}
	}
	return all[1:]
}

// ask returns the certificates at an address.
func (a *AIA) ask(ctx context.Context, address string) ([]*x509.Certificate, error) {
	for {
		e, mine := a.entry(address)
		if mine {
			e.certs, e.err = a.fetch(ctx, address)
			e.again = e.err != nil && ctx.Err() != nil
			if e.again {
				a.mu.Lock()
				delete(a.asked, address)
				a.mu.Unlock()
			}
			close(e.done)
			return e.certs, e.err
		}
		select {
		case <-e.done:
			if !e.again {
				return e.certs, e.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("fetching %s: %w", clean(address), context.Cause(ctx))
		}
	}
}

// entry returns the answer of an address, and whether it is the caller's to fetch.
func (a *AIA) entry(address string) (e *answer, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e = a.asked[address]; e != nil {
		return e, false
	}
	if a.asked == nil {
		a.asked, a.slow = map[string]*answer{}, map[string]bool{}
	}
	e = &answer{done: make(chan struct{})}
	a.asked[address] = e
	return e, true
}

func (a *AIA) fetch(ctx context.Context, address string) ([]*x509.Certificate, error) {
	host := hostOf(address)
	a.mu.Lock()
	slow := a.slow[host]
	a.mu.Unlock()
	if slow {
		return nil, fmt.Errorf("%s was not asked: its host did not answer in time before", clean(address))
	}
	limited, cancel := context.WithTimeout(ctx, oneFetch)
	defer cancel()
	b, err := a.Get(limited, address, maxAnswer)
	if err != nil {
		if isLate(err) && ctx.Err() == nil {
			a.mu.Lock()
			a.slow[host] = true
			a.mu.Unlock()
		}
		return nil, err
	}
	certs, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s sends no certificates that can be used: %w", clean(address), err)
	}
	return certs, nil
}

// code returns the reason code of an error that does not say it itself, in parentheses.
func code(err error) string {
	var r interface{ Reason() string }
	if !errors.As(err, &r) || strings.HasSuffix(err.Error(), "("+r.Reason()+")") {
		return ""
	}
	return " (" + r.Reason() + ")"
}

// isLate reports whether err is that time ran out.
func isLate(err error) bool {
	var r interface{ Reason() string }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &r) && r.Reason() == "fetch-timeout"
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// IssuerAddress returns the http address at which c says that its issuer is published, fit for a screen; "" if it says none.
func IssuerAddress(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	if at := slices.IndexFunc(c.IssuingCertificateURL, isHTTP); at >= 0 {
		return clean(c.IssuingCertificateURL[at])
	}
	return ""
}

func isHTTP(address string) bool {
	const scheme = "http://"
	return len(address) > len(scheme) && strings.EqualFold(address[:len(scheme)], scheme)
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(list, c.Equal)
}

// clean makes an address out of a certificate fit for a line of a terminal.
func clean(address string) string {
	const most = 200
	if len(address) > most {
		address = address[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(address, "?"))
}
