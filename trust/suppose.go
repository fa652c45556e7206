package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust/revocation"
)

// A Supposed is a signature that nobody made, in order to ask what a policy would say of one like it. Its envelope, and the chain up
// to the policy's own certificate, count as sound; all else is judged as in earnest. The zero value is a stranger's: under a
// root that no policy knows.
type Supposed struct {
	Root       string   // a root of the policy
	Delegated  bool     // instead: under a key that the delegation document of the selected scope grants
	Identities []string // of the leaf, as a policy writes them; none: the first that the root asks for
	Key        string   // signatures of the same name here are by the same key; "": a key of its own
	Claims     []string // nil: none at all; empty: the list []
	Algorithm  string   // "": ES256
	SignedAt   time.Time
	Expiry     time.Time // zero: none
	LeafEnds   time.Time // of the signing certificate; zero: long after
	Timestamp  time.Time // of a countersignature by an authority whose root the policy names; zero: none
	Revocation string    // what lists and responders would say of the leaf: RevocationGood (also ""), RevocationRevoked, RevocationUnknown
	Unfetched  bool      // it is listed and could not be had; all else means nothing
}

// Suppose judges ref as if it had these signatures and no others. Nothing is asked of any network.
func (p *Policy) Suppose(ref registry.Reference, sigs []Supposed, now time.Time) (Report, error) {
	w := newSupposition(p, now)
	contents := make([]*supposedContent, len(sigs))
	for i, s := range sigs {
		var err error
		if contents[i], err = w.content(s); err != nil {
			return Report{}, err
		}
	}
	return w.judge(ref, contents), nil
}

// A supposition is a world of supposed signatures, at one time.
type supposition struct {
	policy    *Policy
	now       time.Time
	keys      map[string]*ecdsa.PrivateKey
	own       *ecdsa.PrivateKey // issues what nobody issued; no signature of it is ever looked at
	authority *x509.Certificate // a root that no policy has
	granted   *root             // what delegation documents grant
	leaves    map[string]Supposed
	stampers  map[string]bool // leaves of authorities of timestamps
}

// A supposedContent is what the court hears.
type supposedContent struct {
	content   envelope.Content
	unfetched bool
}

// supposedSubject is what supposed signatures are for.
var supposedSubject = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("supposed"), Size: 1}

func newSupposition(p *Policy, now time.Time) *supposition {
	return &supposition{policy: p, now: now, keys: map[string]*ecdsa.PrivateKey{}, leaves: map[string]Supposed{}, stampers: map[string]bool{}}
}

// judge is [Policy.Judge] from where an envelope was verified.
func (w *supposition) judge(ref registry.Reference, contents []*supposedContent) Report {
	c := w.policy.court(ref, supposedSubject, w.now, evidence{})
	c.supposed = w
	if c.scope != nil && c.scope.delegate != nil && c.delegates() {
		c.grant = grant{asked: true}
		if w.granted != nil {
			c.grant.entries = []entry{{root: w.granted}}
		}
		c.seats = c.seated()
	}
	findings := make([]finding, len(contents))
	for i, s := range contents {
		if s.unfetched {
			findings[i] = c.judge(registry.Signature{Descriptor: supposedSubject, Err: fmt.Errorf("supposed: %w", registry.ErrUnavailable)})
			continue
		}
		findings[i] = c.hear(s.content)
		findings[i].Digest = digest.FromBytes(s.content.Chain.Leaf().Raw)
	}
	return c.conclude(findings)
}

func (w *supposition) content(s Supposed) (*supposedContent, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Unfetched {
		return &supposedContent{unfetched: true}, nil
	}
	if s.SignedAt.IsZero() {
		s.SignedAt = w.now
	}
	c := envelope.Content{
		Format:    envelope.JWS,
		Algorithm: s.Algorithm,
		Scheme:    envelope.SchemeX509,
		Expiry:    s.Expiry,
		Payload:   envelope.Payload{MediaType: supposedSubject.MediaType, Digest: supposedSubject.Digest, Size: supposedSubject.Size},
	}
	if c.Algorithm == "" {
		c.Algorithm = "ES256"
	}
	if s.Claims != nil {
		c.Payload.Annotations = map[string]string{envelope.ClaimsAnnotation: envelope.EncodeClaims(s.Claims)}
	}
	if !s.Timestamp.IsZero() {
		c.Timestamp = []byte("supposed")
	}
	r, err := w.root(s)
	if err != nil {
		return nil, err
	}
	if r != nil && r.kind == kindAuthority {
		c.Scheme, c.AuthenticTime = envelope.SchemeSigningAuthority, s.SignedAt
	} else {
		c.SigningTime = s.SignedAt
	}
	if c.Chain, err = w.chain(s, r); err != nil {
		return nil, err
	}
	w.leaves[string(c.Chain.Leaf().Raw)] = s
	return &supposedContent{content: c}, nil
}

// root returns the root that s is under; nil: a stranger's.
func (w *supposition) root(s Supposed) (*root, error) {
	switch {
	case s.Delegated:
		if w.granted == nil {
			c, err := w.issue(pkix.Name{CommonName: "a key that is granted"}, nil, nil)
			if err != nil {
				return nil, err
			}
			w.granted = &root{name: "delegated", certificates: []*x509.Certificate{c}, pin: pinRoot, kind: kindCA}
		}
		return w.granted, nil
	case s.Root == "":
		return nil, nil
	}
	r := w.policy.roots[s.Root]
	if r == nil {
		return nil, fmt.Errorf("the policy has no root %q%s", s.Root, suggest(s.Root, w.policy.rootNames()))
	}
	return r, nil
}

// chain makes the chain: the policy's own certificate stands where its pin says, and nobody's stand around it.
func (w *supposition) chain(s Supposed, r *root) (certchain.Chain, error) {
	stranger, err := w.stranger()
	if err != nil {
		return nil, err
	}
	if r == nil {
		leaf, err := w.leaf(s, nil, stranger)
		return certchain.Chain{leaf, stranger}, err
	}
	pinned := r.certificates[0]
	for _, c := range r.certificates { // of several that replace each other, one that holds
		if !w.now.Before(c.NotBefore) && !w.now.After(c.NotAfter) {
			pinned = c
			break
		}
	}
	last := certchain.Describe(pinned).SelfSigned
	if r.pin == pinLeaf || last && !(pinned.BasicConstraintsValid && pinned.IsCA) {
		if len(s.Identities) > 0 {
			return nil, fmt.Errorf("root %s is a signer's own certificate, %s: its identity is its own", r.name, certchain.NameOf(pinned.RawSubject))
		}
		if last {
			return certchain.Chain{pinned}, nil
		}
		return certchain.Chain{pinned, stranger}, nil
	}
	leaf, err := w.leaf(s, r, pinned)
	if err != nil {
		return nil, err
	}
	if last {
		return certchain.Chain{leaf, pinned}, nil
	}
	return certchain.Chain{leaf, pinned, stranger}, nil
}

// stranger returns the root that no policy has.
func (w *supposition) stranger() (*x509.Certificate, error) {
	if w.authority == nil {
		c, err := w.issue(pkix.Name{CommonName: "a root that the policy does not know"}, nil, nil)
		if err != nil {
			return nil, err
		}
		w.authority = c
	}
	return w.authority, nil
}

func (w *supposition) leaf(s Supposed, r *root, issuer *x509.Certificate) (*x509.Certificate, error) {
	return w.issue(pkix.Name{}, issuer, func(t *x509.Certificate) (*ecdsa.PrivateKey, error) {
		t.NotBefore = s.SignedAt.Add(-time.Hour)
		if !s.Timestamp.IsZero() && s.Timestamp.Before(t.NotBefore) {
			t.NotBefore = s.Timestamp.Add(-time.Hour)
		}
		if !s.LeafEnds.IsZero() {
			t.NotAfter = s.LeafEnds
			if !t.NotBefore.Before(t.NotAfter) {
				t.NotBefore = t.NotAfter.Add(-time.Hour)
			}
		}
		ids := s.Identities
		if len(ids) == 0 && r != nil && len(r.identities) > 0 {
			ids = []string{strings.ReplaceAll(r.identities[0].text, "*", "supposed")}
		}
		if len(ids) == 0 {
			ids = []string{"CN=supposed signer"}
		}
		for _, id := range ids {
			if err := identify(t, id); err != nil {
				return nil, err
			}
		}
		if s.Key == "" {
			return newKey()
		}
		if w.keys[s.Key] == nil {
			key, err := newKey()
			if err != nil {
				return nil, err
			}
			w.keys[s.Key] = key
		}
		return w.keys[s.Key], nil
	})
}

// identify gives a certificate the name that an identity asks for.
func identify(t *x509.Certificate, text string) error {
	if _, err := parseIdentity(text); err != nil {
		return fmt.Errorf("identity %q: %w", shorten(text), err)
	}
	switch kind, rest, _ := strings.Cut(text, ":"); kind {
	case "uri":
		u, err := url.Parse(rest)
		if err != nil {
			return fmt.Errorf("identity %q: %w", shorten(text), err)
		}
		t.URIs = append(t.URIs, u)
	case "dns":
		t.DNSNames = append(t.DNSNames, rest)
	case "email":
		t.EmailAddresses = append(t.EmailAddresses, rest)
	default:
		if t.RawSubject != nil {
			return errors.New("a certificate has one subject")
		}
		name, err := certchain.ParseName(text)
		if err != nil {
			return fmt.Errorf("identity %q: %w", shorten(text), err)
		}
		t.RawSubject = name.DER()
	}
	return nil
}

// issue makes a certificate that looks as if issuer had issued it; nil: self-signed.
func (w *supposition) issue(subject pkix.Name, issuer *x509.Certificate, edit func(*x509.Certificate) (*ecdsa.PrivateKey, error)) (*x509.Certificate, error) {
	if w.own == nil {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		w.own = key
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("making a supposed certificate: %w", err)
	}
	const longBefore, longAfter = 50 * 365 * 24 * time.Hour, 365 * 24 * time.Hour
	t := &x509.Certificate{SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: subject, NotBefore: w.now.Add(-longBefore), NotAfter: w.now.Add(longAfter)}
	key, parent := w.own, &x509.Certificate{}
	if issuer == nil {
		t.BasicConstraintsValid, t.IsCA, t.KeyUsage = true, true, x509.KeyUsageCertSign
		parent = t
	} else {
		t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		parent.RawSubject = issuer.RawSubject
		if key, err = edit(t); err != nil {
			return nil, err
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), w.own)
	if err != nil {
		return nil, fmt.Errorf("making a supposed certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a supposed key: %w", err)
	}
	return key, nil
}

// countersigned is rule.verify, or the timestamp that is supposed.
func (w *supposition) countersigned(rule *timestamping, content envelope.Content) (envelope.Stamp, error) {
	if w == nil {
		return rule.verify(content)
	}
	at := w.leaves[string(content.Chain.Leaf().Raw)].Timestamp
	root := rule.roots[0]
	leaf, err := w.issue(pkix.Name{CommonName: "supposed authority"}, root, func(t *x509.Certificate) (*ecdsa.PrivateKey, error) { return w.own, nil })
	if err != nil {
		return envelope.Stamp{}, err
	}
	w.stampers[string(leaf.Raw)] = true
	return envelope.Stamp{At: at, From: at, To: at, Chain: certchain.Chain{leaf, root}}, nil
}

// ruling is what is supposed of the revocation of a certificate; known is what lists of the policy say of it.
func (w *supposition) ruling(cert *x509.Certificate, known revocation.Ruling) revocation.Ruling {
	const by = "the supposition"
	if s, ok := w.leaves[string(cert.Raw)]; ok {
		switch s.Revocation {
		case RevocationRevoked:
			return revocation.Ruling{Status: RevocationRevoked, By: by, Entry: revocation.Entry{Since: w.now}}
		case RevocationUnknown:
			return revocation.Ruling{Status: RevocationUnknown, By: by, Why: "it is supposed to be unknown"}
		}
	}
	if known.Status == RevocationRevoked {
		return known
	}
	return revocation.Ruling{Status: RevocationGood, By: by, Until: w.now.Add(time.Hour)}
}

// beyond is what [beyond] says, of what was not only supposed.
func (w *supposition) beyond(chain certchain.Chain) string {
	if w == nil {
		return beyond(chain)
	}
	return ""
}

// supposable are the words for the revocation of a supposed signature.
var supposable = []string{RevocationGood, RevocationRevoked, RevocationUnknown}

func (s Supposed) check() error {
	if s.Revocation != "" && !slices.Contains(supposable, s.Revocation) {
		return fmt.Errorf("revocation %q is none of %s%s", s.Revocation, strings.Join(supposable, ", "), suggest(s.Revocation, supposable))
	}
	if s.Algorithm != "" && !slices.Contains(allAlgorithms, s.Algorithm) {
		return fmt.Errorf("algorithm %q is none of %s%s", s.Algorithm, strings.Join(allAlgorithms, ", "), suggest(s.Algorithm, allAlgorithms))
	}
	return nil
}
