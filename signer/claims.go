package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// Names in a payload's annotations that nobody may choose: the Notary Project's own (signature specification,
// "Payload"), and imprint's.
var reserved = []string{"io.cncf.notary", "io.imprint"}

// CanonicalClaims checks and canonicalises claims: tags by the distribution grammar, qualified names (with a slash)
// as [registry.Reference] writes them; sorted, unique.
func CanonicalClaims(tags, names []string) ([]string, error) {
	claims := []string{}
	for _, tag := range tags {
		if !registry.ValidTag(tag) {
			if strings.Contains(tag, "/") {
				return nil, refuseClaim("claim %q is not a tag: a full name is claimed as a name (--claim-name), and does not survive promotion", tag)
			}
			return nil, refuseClaim("claim %q is not a tag", tag)
		}
		claims = append(claims, tag)
	}
	for _, name := range names {
		ref, err := registry.ParseQualified(name)
		if err != nil {
			return nil, refuseClaim("claim %q is not HOST/REPO[:TAG]: %w", name, err)
		}
		claims = append(claims, ref.String())
	}
	slices.Sort(claims)
	return slices.Compact(claims), nil
}

func refuseClaim(format string, args ...any) error {
	return &Error{codeClaim, fmt.Errorf(format, args...)}
}

// setClaims settles what the root claims: the tag by which it was resolved, and what the caller adds.
func (s *signing) setClaims() error {
	s.result.NoClaims = s.o.NoClaims
	for _, pattern := range s.o.Move {
		if _, err := path.Match(pattern, ""); err != nil {
			return &Error{codeMove, fmt.Errorf("pattern %q of what may move: %w", pattern, err)}
		}
	}
	if s.o.NoClaims {
		if len(s.o.Claims) > 0 {
			return refuseClaim("claim %q, and no claims at all, cannot both be", s.o.Claims[0])
		}
		return nil
	}
	var tags, names []string
	for _, t := range s.known() {
		tags = append(tags, s.repo.Reference().With(t, "").BareTag())
	}
	for _, c := range s.o.Claims {
		if strings.Contains(c, "/") {
			names = append(names, c)
		} else {
			tags = append(tags, c)
		}
	}
	claims, err := CanonicalClaims(tags, names)
	if err != nil {
		return err
	}
	s.claims, s.result.Claims = claims, claims
	s.result.NoClaims = len(claims) == 0
	return nil
}

// known are the tags (in a layout: NAMEs) of subject that the registry need not be asked about.
func (s *signing) known() []string {
	if s.o.Tag == "" {
		return s.o.Tags
	}
	return append([]string{s.o.Tag}, s.o.Tags...)
}

// checkMetadata says what may be signed besides the claims. Control characters are refused in names,
// and NUL everywhere: what a screen or a C program shows must be what was signed.
func (s *signing) checkMetadata() error {
	total := 0
	if claims, present := s.claimsOf(target{root: true}); present {
		total = len(envelope.ClaimsAnnotation) + len(envelope.EncodeClaims(claims))
	}
	for name, value := range s.o.Metadata {
		total += len(name) + len(value)
		switch {
		case name == "":
			return refuseMetadata("a value without a name")
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return refuseMetadata("%q is not valid UTF-8", name)
		case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
			return refuseMetadata("the name %q has control characters", name)
		case strings.ContainsRune(value, 0):
			return refuseMetadata("the value of %q contains NUL", name)
		}
		for _, prefix := range reserved {
			if strings.HasPrefix(name, prefix) {
				return refuseMetadata("%q: names that begin with %s are reserved", name, prefix)
			}
		}
	}
	if total > envelope.MaxAnnotations {
		return refuseMetadata("claims and metadata have %d bytes, at most %d can be signed", total, envelope.MaxAnnotations)
	}
	return nil
}

func refuseMetadata(format string, args ...any) error {
	return &Error{codeMetadata, fmt.Errorf("metadata: "+format, args...)}
}

// A held is a claim that may be held by what a tag (in a layout: a NAME) of this repository names now.
type held struct {
	claim string
	tag   string
}

// checkClaims reads what the claimed tags of this repository name now. Where that is another digest that the same
// leaf subject signed with the same claim, signing would make two digests claim one tag, which is refused unless the
// caller gave leave.
func (s *signing) checkClaims(ctx context.Context) error {
	if s.o.NoClaims {
		return nil
	}
	questions := s.heldClaims()
	return each(ctx, len(questions), parallel, func(i int) error {
		return s.checkHeld(ctx, questions[i])
	})
}

// heldClaims lists what has to be asked. The tag by which the subject was resolved names the subject, and claims that
// may move need no answer.
func (s *signing) heldClaims() []held {
	var list []held
	here, known := s.repo.Reference(), s.known()
	add := func(claim, tag, bare string) {
		h := held{claim, tag}
		if !slices.Contains(known, tag) && !s.mayMove(bare) && !slices.Contains(list, h) {
			list = append(list, h)
		}
	}
	full, named := here.With(s.o.Tag, "").FullName()
	for _, claim := range s.claims {
		if !strings.Contains(claim, "/") {
			add(claim, claim, claim)
			if named { // a layout that is known by full names holds its tags under them
				add(claim, full.With(claim, "").String(), claim)
			}
			continue
		}
		q, err := registry.ParseQualified(claim)
		if err != nil || q.Tag == "" {
			continue // a name without a tag covers them all; which digest holds it is no question of a tag
		}
		switch {
		case here.Kind != registry.Remote:
			add(claim, claim, q.Tag)
		case q.Host == here.Host && q.Path == here.Path:
			add(claim, q.Tag, q.Tag)
		}
	}
	return list
}

func (s *signing) mayMove(tag string) bool {
	return slices.ContainsFunc(s.o.Move, func(pattern string) bool {
		ok, _ := path.Match(pattern, tag) // patterns were checked
		return ok
	})
}

func (s *signing) checkHeld(ctx context.Context, h held) error {
	ref := s.repo.Reference().With(h.tag, "")
	m, err := s.repo.Resolve(ctx, ref)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what %s names, to see who claims it: %w", ref, err)
	}
	if m.Descriptor.Digest == s.subject.Descriptor.Digest {
		return nil
	}
	signatures, err := s.repo.Signatures(ctx, m.Descriptor)
	if err != nil {
		return fmt.Errorf("listing the signatures of what %s names: %w", ref, err)
	}
	for _, sig := range signatures {
		if sig.Err != nil && !lasting(sig.Err) {
			return fmt.Errorf("reading signature %s of what %s names: %w", sig.Descriptor.Digest, ref, sig.Err)
		}
		if s.holds(sig, m.Descriptor.Digest, same(h.claim, ref)) {
			return &Error{codeClaimMoves, fmt.Errorf("%s names %s, which %s signed with the claim %q",
				ref, m.Descriptor.Digest, s.result.Identity, h.claim)}
		}
	}
	return nil
}

// same returns the spellings of a claim on what ref names: bare and qualified ones claim the same tag here.
func same(claim string, ref registry.Reference) []string {
	if full, ok := ref.FullName(); ok {
		ref = full
	}
	spellings := []string{claim, ref.Tag}
	if ref.Kind == registry.Remote {
		spellings = append(spellings, ref.String())
	}
	return spellings
}

// holds reports whether sig is our leaf subject's signature of d with one of these claims.
func (s *signing) holds(sig registry.Signature, d digest.Digest, spellings []string) bool {
	if sig.Err != nil {
		return false
	}
	c, err := s.hand.read(sig.MediaType, sig.Envelope)
	if err != nil || c.Payload.Digest != d || !bytes.Equal(c.Chain.Leaf().RawSubject, s.hand.chain.Leaf().RawSubject) {
		return false
	}
	claims, _, err := c.Payload.Claims()
	return err == nil && slices.ContainsFunc(claims, func(c string) bool { return slices.Contains(spellings, c) })
}

// lasting reports whether reading again would give the same error: such a signature says nothing, while one that
// could not be fetched might.
func lasting(err error) bool {
	for _, target := range []error{registry.ErrMalformed, registry.ErrAmbiguous, registry.ErrTooLarge, registry.ErrNotFound, registry.ErrDigestMismatch} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
