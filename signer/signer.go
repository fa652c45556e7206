// Package signer writes signatures: new ones with a key, and renewed chains on existing ones without.
package signer

import (
	"context"
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
	Tag string
	// Tags are further tags that are going to name subject. They are claimed, and the registry is not asked who holds them:
	// the caller has found each free, subject's already, or allowed to move.
	Tags      []string
	Claims    []string // further tags, and qualified names; canonicalised and checked
	NoClaims  bool     // leave the annotation out everywhere
	Metadata  map[string]string
	Expiry    time.Duration // 0: none
	Recursive bool          // children, and referrers that are not signatures, too; they claim nothing ([])
	// Also are further manifests of repo that are signed with subject. They claim nothing, as what Recursive adds.
	Also   []registry.Manifest
	Again  bool     // sign although the same key signed the same payload
	Move   []string // globs of claims that may leave the digest which holds them
	DryRun bool     // all checks, no signature, no write
	// ReadBack reads each new signature as anybody would before Sign returns: it is listed for its subject, verifies, and says what was
	// asked for. registry.ErrUnsettled if it does not come to that.
	ReadBack bool
	// Timestamp, if not nil, countersigns each signature. Of what is signed already without a countersignature that verifies, a
	// countersigned copy is put beside it, without the key.
	Timestamp *Stamper
	Agent     string
	Now       time.Time // required
}

// What became of an artifact that Sign dealt with.
const (
	StatusNew           = "new"
	StatusAlreadySigned = "already-signed"
	StatusPlanned       = "planned"     // to be signed; after an error: not signed
	StatusTimestamped   = "timestamped" // it was signed already, and is now countersigned; no key was used
)

// A Signed is one artifact that Sign dealt with.
type Signed struct {
	What      string             `json:"what"` // "index, 2 platforms", "linux/amd64", "application/spdx+json of linux/amd64"
	Subject   ocispec.Descriptor `json:"subject"`
	Signature digest.Digest      `json:"signature,omitempty"` // of the signature manifest
	Status    string             `json:"status"`              // "new", "already-signed", "timestamped", "planned"
	Claims    []string           `json:"claims,omitempty"`
	// Present is the signature that is there already and has to be countersigned, or was.
	Present   digest.Digest `json:"present,omitempty"`
	Timestamp *Stamped      `json:"timestamp,omitempty"`
}

// A Result is what Sign did.
type Result struct {
	Reference  string                  `json:"reference"`
	Digest     digest.Digest           `json:"digest"`
	Identity   string                  `json:"identity,omitempty"` // leaf subject; this, Algorithm, HoldsUntil and Chain are unknown to some plans
	Key        string                  `json:"key"`                // what the key calls itself
	Algorithm  string                  `json:"algorithm,omitempty"`
	Format     string                  `json:"format"` // jws or cose
	Claims     []string                `json:"claims"`
	NoClaims   bool                    `json:"noClaims,omitempty"` // the annotation was left out
	Metadata   map[string]string       `json:"metadata,omitempty"`
	SignedAt   time.Time               `json:"signedAt"`
	Expiry     *time.Time              `json:"expiry,omitempty"`
	HoldsUntil time.Time               `json:"holdsUntil,omitzero"`  // earliest end of chain and expiry
	FirstToEnd string                  `json:"firstToEnd,omitempty"` // subject of the certificate that ends first, or "expiry"
	Chain      []certchain.Certificate `json:"chain,omitempty"`
	Signatures []Signed                `json:"signatures"` // the artifact itself first, then its children, then what refers to them
	Written    int                     `json:"written"`
	There      int                     `json:"alreadySigned"`
	Stamped    int                     `json:"timestamped,omitempty"`   // of those written, put beside one that was there, without the key
	Authority  string                  `json:"timestampFrom,omitempty"` // that answered when it was asked whether it would countersign
	KeyCalls   int                     `json:"keyCalls"`
	DryRun     bool                    `json:"dryRun,omitempty"`
	Warnings   []string                `json:"warnings,omitempty"`
}

// parallel bounds how many artifacts are looked at or signed at once; the registry's client bounds its requests besides.
const parallel = 8

// Sign signs subject, which was resolved in repo, and pushes the signature as its referrer. All checks (chain, key,
// claims, already signed) come before the first use of the key, and each envelope is verified before anything is
// pushed. With Recursive, subject itself is signed last: who finds it signed finds all of it signed. On an error
// Result says what was done, and how many calls of the key it cost.
//
// If key is a [kms.EnvelopeSigner], chain may be empty and its public key unknown. Who signs is then known only by the first envelope,
// which is subject's: claims, and what is signed already, are checked after it was made and before anything is pushed.
func Sign(ctx context.Context, repo *registry.Repo, subject registry.Manifest, key kms.Key, chain certchain.Chain, o Options) (Result, error) {
	s := newSigning(repo, subject, key, o)
	err := s.prepare(chain)
	if err == nil {
		err = s.run(ctx)
	}
	s.result.KeyCalls = int(s.calls.Load())
	for _, signed := range s.result.Signatures {
		switch signed.Status {
		case StatusNew:
			s.result.Written++
		case StatusTimestamped:
			s.result.Written++
			s.result.Stamped++
		case StatusAlreadySigned:
			s.result.There++
		}
	}
	return s.result, err
}

// Check does those checks of [Sign] that ask nothing of subject, so that they can come before it is brought to repo: chain, key,
// claims, and who holds these in repo. If the key tells only with an envelope who signs, the last has to wait for Sign.
// If signatures are to be countersigned it also finds out whether anybody would.
func Check(ctx context.Context, repo *registry.Repo, subject registry.Manifest, key kms.Key, chain certchain.Chain, o Options) error {
	s := newSigning(repo, subject, key, o)
	if err := s.prepare(chain); err != nil {
		return err
	}
	if s.hand != nil {
		if err := s.checkClaims(ctx); err != nil {
			return err
		}
	}
	if o.Timestamp == nil {
		return nil
	}
	_, err := o.Timestamp.Probe(ctx)
	return err
}

// A signing is one call of Sign.
type signing struct {
	repo      *registry.Repo
	subject   registry.Manifest
	key       kms.Key // metered
	atService bool    // what is asked of the key costs something
	calls     *atomic.Int64
	o         Options
	claims    []string
	expiry    time.Time // zero: none

	chain certchain.Chain
	hand  *hand // nil: not known yet

	whole kms.EnvelopeSigner // nil unless the key is one

	targets []target // parallel to result.Signatures; the root first
	result  Result
	warning sync.Mutex // of result.Warnings
}

func newSigning(repo *registry.Repo, subject registry.Manifest, key kms.Key, o Options) *signing {
	s := &signing{repo: repo, subject: subject, o: o, atService: kms.Describe(key).Service != ""}
	s.key, s.calls = kms.Metered(key)
	s.whole, _ = s.key.(kms.EnvelopeSigner)
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
	return s
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
// signs below the root claims nothing, so that an old child cannot be passed off as a release.
func (s *signing) claimsOf(t target) (claims []string, present bool) {
	switch {
	case s.o.NoClaims:
		return nil, false
	case !t.root:
		return nil, true
	}
	return s.claims, len(s.claims) > 0
}

// run does what needs the registry and the key.
func (s *signing) run(ctx context.Context) error {
	if err := s.look(ctx); err != nil {
		return err
	}
	if err := s.probeAuthority(ctx); err != nil {
		return err
	}
	if s.o.DryRun {
		if s.hand == nil {
			s.warn("the key tells its certificate only when it signs: who signs, what is signed already and who holds the claims was not checked")
		}
		return nil
	}
	if err := s.probe(ctx); err != nil {
		return err
	}
	if s.whole != nil {
		if err := s.learn(ctx); err != nil {
			return err
		}
	}
	if err := s.sign(ctx); err != nil || !s.o.ReadBack {
		return err
	}
	return s.readBack(ctx)
}

// probeAuthority finds out that nobody would countersign before a call of the key's service is spent on a signature that would then not be
// pushed. For a key that costs nothing the first signature finds it out by itself; a dry run has none.
func (s *signing) probeAuthority(ctx context.Context) error {
	if s.o.Timestamp == nil || !s.atService && !s.o.DryRun || !slices.ContainsFunc(s.result.Signatures, unsigned) {
		return nil
	}
	known, err := s.o.Timestamp.Probe(ctx)
	s.result.Authority = known.URL
	return err
}

func unsigned(signed Signed) bool { return signed.Status == StatusPlanned }

// probe finds out a registry that takes no writes before a call of the key's service is spent on a signature for it. What
// it writes, the empty configuration, each signature needs anyway: the client writes it to a repository once.
func (s *signing) probe(ctx context.Context) error {
	if !s.atService || s.repo.Reference().Kind != registry.Remote || !slices.ContainsFunc(s.result.Signatures, unsigned) {
		return nil
	}
	empty := ocispec.DescriptorEmptyJSON
	if err := s.repo.PushBytes(ctx, empty, empty.Data); err != nil {
		return fmt.Errorf("writing the empty configuration of signatures, before the key is asked for one: %w", err)
	}
	return nil
}

// look does every check that needs the registry: who holds the claims, what there is to sign, what is signed already.
func (s *signing) look(ctx context.Context) error {
	if s.hand == nil {
		return s.findTargets(ctx)
	}
	tasks := []func() error{
		func() error { return s.checkClaims(ctx) },
		func() error { return s.findTargets(ctx) },
	}
	// These depend on nothing of one another, so they travel together: each round trip in a row costs. With Recursive
	// the graph has the lists.
	var there existing
	alone := !s.o.Recursive && len(s.o.Also) == 0
	if alone {
		tasks = append(tasks, func() (err error) {
			there, err = s.existing(ctx, target{subject: s.subject.Descriptor, root: true}, s.hand)
			return err
		})
	}
	if err := each(ctx, len(tasks), len(tasks), func(i int) error { return tasks[i]() }); err != nil {
		return err
	}
	if !alone {
		return s.findExisting(ctx)
	}
	s.note(0, there)
	return nil
}

// findExisting finds out what of the targets is signed already.
func (s *signing) findExisting(ctx context.Context) error {
	found := make([]existing, len(s.targets))
	err := each(ctx, len(s.targets), parallel, func(i int) (err error) {
		if s.result.Signatures[i].Status == StatusPlanned {
			found[i], err = s.existing(ctx, s.targets[i], s.hand)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, e := range found {
		s.note(i, e)
	}
	return nil
}

// note notes that a target is signed already, if it is.
func (s *signing) note(i int, e existing) {
	if e.digest == "" {
		return
	}
	signed := &s.result.Signatures[i]
	signed.Status, signed.Signature = StatusAlreadySigned, e.digest
	s.warnOfDifference(*signed, e)
	if s.o.Timestamp == nil {
		return
	}
	if e.stamped != nil {
		signed.Timestamp = e.stamped
		return
	}
	signed.Status, signed.Signature, signed.Present = StatusPlanned, "", e.digest
	s.targets[i].present = &e.sig
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
	if s.result.Signatures[i].Status != StatusPlanned {
		return nil
	}
	if s.targets[i].present != nil {
		return s.countersign(ctx, i)
	}
	if s.whole != nil {
		return s.signWhole(ctx, i)
	}
	t := s.targets[i]
	e, err := envelope.Sign(ctx, s.o.Format, s.payload(t), s.key, s.chain, envelope.Options{SigningTime: s.o.Now, Expiry: s.expiry, Agent: s.o.Agent})
	if err != nil {
		return s.of(t, err)
	}
	if e, err = s.stamp(ctx, i, e); err != nil {
		return s.of(t, err)
	}
	if s.o.ReadBack {
		if s.targets[i].content, err = e.Verify(); err != nil {
			return s.of(t, err)
		}
		s.targets[i].read = readStrictly
	}
	return s.push(ctx, i, e, map[string]string{
		registry.AnnotationThumbprint: thumbprints(s.chain),
		ocispec.AnnotationCreated:     stamp(s.o.Now),
	})
}

// of says which artifact an error is about, unless it is the one that the caller named.
func (s *signing) of(t target, err error) error {
	if t.subject.Digest == s.subject.Descriptor.Digest {
		return err
	}
	return fmt.Errorf("%s: %w", t.subject.Digest, err)
}

func (s *signing) push(ctx context.Context, i int, e *envelope.Envelope, annotations map[string]string) error {
	t := s.targets[i]
	m := s.repo.Form().Manifest(t.subject, string(e.Format()), e.Bytes(), annotations)
	if err := s.repo.PushSignature(ctx, t.subject, m, e.Bytes()); err != nil {
		return fmt.Errorf("pushing the signature of %s: %w", t.subject.Digest, err)
	}
	s.targets[i].pushed = m
	s.result.Signatures[i].Status, s.result.Signatures[i].Signature = StatusNew, m.Descriptor.Digest
	if t.present != nil {
		s.result.Signatures[i].Status = StatusTimestamped
	}
	return nil
}

// warn warns once of the same.
func (s *signing) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.warning.Lock()
	defer s.warning.Unlock()
	if !slices.Contains(s.result.Warnings, text) {
		s.result.Warnings = append(s.result.Warnings, text)
	}
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
