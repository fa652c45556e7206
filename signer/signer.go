// Package signer writes signatures: new ones with a key, and renewed chains on existing ones without.
package signer

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
)

// Options of [Sign].
type Options struct {
	Format envelope.Format // "" is JWS
	// Tag is the tag (of a layout, the NAME) by which subject was resolved; "" if it was resolved by digest alone. It
	// is claimed, and as it names subject by that very resolution the registry is not asked about it again.
	Tag       string
	Claims    []string // further tags, and qualified names; canonicalised and checked
	NoClaims  bool     // leave the annotation out everywhere
	Metadata  map[string]string
	Expiry    time.Duration // 0: none
	Recursive bool          // children, and referrers that are not signatures, too; they claim nothing ([])
	Again     bool          // sign although the same key signed the same payload
	Move      []string      // globs of claims that may leave the digest which holds them
	DryRun    bool          // all checks, no signature, no write
	Agent     string
	Now       time.Time // required
}

// What became of an artifact that Sign dealt with.
const (
	StatusNew           = "new"
	StatusAlreadySigned = "already-signed"
	StatusPlanned       = "planned" // to be signed; after an error: not signed
)

// A Signed is one artifact that Sign dealt with.
type Signed struct {
	What      string             `json:"what"` // "index, 2 platforms", "linux/amd64", "application/spdx+json of linux/amd64"
	Subject   ocispec.Descriptor `json:"subject"`
	Signature digest.Digest      `json:"signature,omitempty"` // of the signature manifest
	Status    string             `json:"status"`              // "new", "already-signed", "planned"
	Claims    []string           `json:"claims,omitempty"`
}

// A Result is what Sign did.
type Result struct {
	Reference  string                  `json:"reference"`
	Digest     digest.Digest           `json:"digest"`
	Identity   string                  `json:"identity"` // leaf subject
	Key        string                  `json:"key"`      // what the key calls itself
	Algorithm  string                  `json:"algorithm"`
	Format     string                  `json:"format"` // jws or cose
	Claims     []string                `json:"claims"`
	NoClaims   bool                    `json:"noClaims,omitempty"` // the annotation was left out
	Metadata   map[string]string       `json:"metadata,omitempty"`
	SignedAt   time.Time               `json:"signedAt"`
	Expiry     *time.Time              `json:"expiry,omitempty"`
	HoldsUntil time.Time               `json:"holdsUntil"` // earliest end of chain and expiry
	FirstToEnd string                  `json:"firstToEnd"` // subject of the certificate that ends first, or "expiry"
	Chain      []certchain.Certificate `json:"chain"`
	Signatures []Signed                `json:"signatures"` // the artifact itself first, then its children, then what refers to them
	Written    int                     `json:"written"`
	There      int                     `json:"alreadySigned"`
	KeyCalls   int                     `json:"keyCalls"`
	DryRun     bool                    `json:"dryRun,omitempty"`
	Warnings   []string                `json:"warnings,omitempty"`
}

// parallel bounds how many artifacts are looked at or signed at once; the registry's client bounds its requests besides.
const parallel = 8

// Sign signs subject, which was resolved in repo, and pushes the signature as its referrer. All checks (chain, key,
// claims, already signed) come before the first use of the key, and each envelope is verified before anything is
// pushed. With Recursive, subject itself is signed last: who finds it signed finds all of it signed. On an error
// Result says what was done.
func Sign(ctx context.Context, repo *registry.Repo, subject registry.Manifest, key kms.Key, chain certchain.Chain, o Options) (Result, error) {
	s, err := prepare(repo, subject, key, chain, o)
	if err != nil {
		return s.result, err
	}
	if err := s.look(ctx); err != nil {
		return s.result, err
	}
	if o.DryRun {
		return s.result, nil
	}
	err = s.sign(ctx)
	s.result.KeyCalls = int(s.key.calls.Load())
	for _, signed := range s.result.Signatures {
		if signed.Status == StatusNew {
			s.result.Written++
		}
	}
	return s.result, err
}

// A signing is one call of Sign.
type signing struct {
	repo    *registry.Repo
	subject registry.Manifest
	key     *countedKey
	chain   certchain.Chain
	o       Options
	claims  []string
	expiry  time.Time // zero: none

	targets []target // parallel to result.Signatures; the root first
	result  Result
}

// prepare does every check that needs no request.
func prepare(repo *registry.Repo, subject registry.Manifest, key kms.Key, chain certchain.Chain, o Options) (*signing, error) {
	s := &signing{repo: repo, subject: subject, key: &countedKey{Key: key}, chain: chain, o: o}
	if s.o.Format == "" {
		s.o.Format = envelope.JWS
	}
	s.o.Now = o.Now.UTC().Truncate(time.Second)
	ref := repo.Reference().With(o.Tag, "")
	if o.Tag == "" {
		ref = ref.With("", subject.Descriptor.Digest)
	}
	s.result = Result{
		Reference: ref.String(), Digest: subject.Descriptor.Digest, Format: s.o.Format.Short(), Metadata: o.Metadata,
		SignedAt: s.o.Now, DryRun: o.DryRun, Claims: []string{},
	}
	if id, ok := key.(kms.Identifier); ok {
		s.result.Key = id.ID()
	}
	algorithm, err := kms.AlgorithmOf(key.Public())
	if err != nil {
		return s, fmt.Errorf("signing key: %w", err)
	}
	s.result.Algorithm = algorithm.Name
	if err := chain.Check(time.Time{}); err != nil {
		return s, fmt.Errorf("signing chain: %w", err)
	}
	if err := chain.Matches(key.Public()); err != nil {
		return s, fmt.Errorf("signing chain: %w", err)
	}
	if err := checkClock(chain, s.o.Now); err != nil {
		return s, err
	}
	s.result.Identity = certchain.NameOf(chain.Leaf().RawSubject)
	s.result.Chain = chain.Describe()
	first, until := chain.HoldsUntil()
	s.result.HoldsUntil, s.result.FirstToEnd = until, certchain.NameOf(first.RawSubject)
	if err := s.setExpiry(until); err != nil {
		return s, err
	}
	if err := s.setClaims(); err != nil {
		return s, err
	}
	return s, s.checkMetadata()
}

// checkClock refuses to sign outside the chain's validity. If no certificate at all is valid now, it is more likely
// that the clock is wrong (CASES.md A19) than that a whole hierarchy has ended; if some are, the one that is not is
// named (A06).
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

func (s *signing) setExpiry(chainEnds time.Time) error {
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
	s.result.Expiry = &s.expiry
	if s.expiry.After(chainEnds) {
		s.warn("the expiry, %s, lies after the end of %s, %s: the signature holds until the earlier, unless its chain is renewed",
			stamp(s.expiry), s.result.FirstToEnd, stamp(chainEnds))
		return nil
	}
	s.result.HoldsUntil, s.result.FirstToEnd = s.expiry, "expiry"
	return nil
}

// payload is what is signed for a target.
func (s *signing) payload(t target) envelope.Payload {
	p := envelope.Payload{MediaType: t.subject.MediaType, Digest: t.subject.Digest, Size: t.subject.Size}
	claims, present := s.claimsOf(t)
	if len(s.o.Metadata) == 0 && !present {
		return p
	}
	p.Annotations = map[string]string{}
	maps.Copy(p.Annotations, s.o.Metadata)
	if present {
		p.Annotations[envelope.ClaimsAnnotation] = envelope.EncodeClaims(claims)
	}
	return p
}

// claimsOf returns what the payload of a target claims, and whether it has the annotation at all. What --recursive
// signs below the root claims nothing, so that an old child cannot be passed off as a release (DESIGN.md section 4).
func (s *signing) claimsOf(t target) (claims []string, present bool) {
	switch {
	case s.o.NoClaims:
		return nil, false
	case !t.root:
		return nil, true
	}
	return s.claims, len(s.claims) > 0
}

// look does every check that needs the registry: who holds the claims, what there is to sign, what is signed already.
func (s *signing) look(ctx context.Context) error {
	tasks := []func() error{
		func() error { return s.checkClaims(ctx) },
		func() error { return s.findTargets(ctx) },
	}
	// These depend on nothing of one another, so they travel together: each round trip in a row costs. With Recursive
	// the graph has the lists.
	var there existing
	if !s.o.Recursive {
		tasks = append(tasks, func() (err error) {
			there, err = s.existing(ctx, target{subject: s.subject.Descriptor, root: true})
			return err
		})
	}
	if err := each(ctx, len(tasks), len(tasks), func(i int) error { return tasks[i]() }); err != nil {
		return err
	}
	found := []existing{there}
	if s.o.Recursive {
		found = make([]existing, len(s.targets))
		err := each(ctx, len(s.targets), parallel, func(i int) (err error) {
			found[i], err = s.existing(ctx, s.targets[i])
			return err
		})
		if err != nil {
			return err
		}
	}
	for i, e := range found {
		if e.digest == "" {
			continue
		}
		s.result.Signatures[i].Status, s.result.Signatures[i].Signature = StatusAlreadySigned, e.digest
		s.result.There++
		s.warnOfDifference(s.result.Signatures[i], e)
	}
	return nil
}

// sign signs what is not signed yet: everything below the root at once, the root last.
func (s *signing) sign(ctx context.Context) error {
	below := len(s.targets) - 1
	if err := each(ctx, below, parallel, func(i int) error { return s.signOne(ctx, i+1) }); err != nil {
		return err
	}
	return s.signOne(ctx, 0)
}

func (s *signing) signOne(ctx context.Context, i int) error {
	t, signed := s.targets[i], &s.result.Signatures[i]
	if signed.Status != StatusPlanned {
		return nil
	}
	e, err := envelope.Sign(ctx, s.o.Format, s.payload(t), s.key, s.chain, envelope.Options{SigningTime: s.o.Now, Expiry: s.expiry, Agent: s.o.Agent})
	if err != nil {
		return fmt.Errorf("signing %s: %w", t.subject.Digest, err)
	}
	m := s.repo.Form().Manifest(t.subject, string(s.o.Format), e.Bytes(), map[string]string{
		registry.AnnotationThumbprint: thumbprints(s.chain),
		ocispec.AnnotationCreated:     stamp(s.o.Now),
	})
	if err := s.repo.PushSignature(ctx, t.subject, m, e.Bytes()); err != nil {
		return fmt.Errorf("pushing the signature of %s: %w", t.subject.Digest, err)
	}
	signed.Status, signed.Signature = StatusNew, m.Descriptor.Digest
	return nil
}

func (s *signing) warn(format string, args ...any) {
	s.result.Warnings = append(s.result.Warnings, fmt.Sprintf(format, args...))
}

// thumbprints is the value of [registry.AnnotationThumbprint].
func thumbprints(chain certchain.Chain) string {
	b, err := json.Marshal(chain.Thumbprints())
	if err != nil {
		panic(fmt.Sprintf("signer: encoding thumbprints: %v", err)) // strings of hex digits
	}
	return string(b)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// A countedKey counts the calls of the key service, which cost money.
type countedKey struct {
	kms.Key
	calls atomic.Int64
}

func (k *countedKey) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.calls.Add(1)
	return k.Key.Sign(ctx, message, opts)
}

// each calls f for 0…n-1, at most limit at once. After an error, or the end of ctx, nothing new is begun, and what
// was begun is waited for. The error returned is that of the lowest index.
func each(ctx context.Context, n, limit int, f func(i int) error) error {
	var wg sync.WaitGroup
	var failed atomic.Bool
	errs := make([]error, n)
	slots := make(chan struct{}, max(1, min(n, limit)))
	for i := range n {
		slots <- struct{}{}
		if failed.Load() || ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if errs[i] = f(i); errs[i] != nil {
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
