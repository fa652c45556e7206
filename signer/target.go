package signer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A target is an artifact to be signed.
type target struct {
	subject ocispec.Descriptor
	root    bool
	node    *registry.Node      // nil unless Recursive
	made    *envelope.Made      // nil unless an envelope was made for it that is not pushed yet
	present *registry.Signature // what is there already, if only a countersignature is lacking

	pushed  registry.Manifest // the signature, once it is
	content envelope.Content  // what that says
	read    func(mediaType string, b []byte) (envelope.Content, error)
}

func (s *signing) add(what string, t target) {
	claims, _ := s.claimsOf(t)
	s.targets = append(s.targets, t)
	s.result.Signatures = append(s.result.Signatures, Signed{What: what, Subject: plain(t.subject), Status: StatusPlanned, Claims: claims})
}

// plain leaves of a descriptor what names the artifact.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// findTargets lists what there is to sign: the root, and if asked for its children and all that refers to any of
// them, save signatures.
func (s *signing) findTargets(ctx context.Context) error {
	parts, err := s.subject.Parse()
	if err != nil {
		return fmt.Errorf("reading manifest %s: %w", s.subject.Descriptor.Digest, err)
	}
	s.add(what(parts), target{subject: s.subject.Descriptor, root: true})
	seen := map[digest.Digest]bool{s.subject.Descriptor.Digest: true}
	if s.o.Recursive {
		if err := s.findBelow(ctx, seen); err != nil {
			return err
		}
	}
	for _, m := range s.o.Also {
		if seen[m.Descriptor.Digest] {
			continue
		}
		seen[m.Descriptor.Digest] = true
		parts, err := m.Parse()
		if err != nil {
			return fmt.Errorf("reading manifest %s: %w", m.Descriptor.Digest, err)
		}
		s.add(what(parts), target{subject: m.Descriptor})
	}
	return nil
}

// findBelow lists the root's children and all that refers to any of them.
func (s *signing) findBelow(ctx context.Context, seen map[digest.Digest]bool) error {
	root, skipped, err := s.repo.Graph(ctx, s.subject, registry.GraphOptions{
		Referrer: func(r registry.Referrer) bool { return r.ArtifactType != registry.ArtifactTypeSignature },
	})
	if err != nil {
		return fmt.Errorf("reading all that belongs to %s: %w", s.subject.Descriptor.Digest, err)
	}
	s.targets[0].node = root
	for _, skip := range skipped {
		s.warn("skipped %s: %s", skip.Descriptor.Digest, skip.Detail)
	}
	s.addChildren(root, seen)
	s.addReferrers(root, "", seen)
	return nil
}

// addChildren adds everything that node contains. None is malformed: [registry.Repo.Graph] refuses a graph with such
// a child, since an index must not look signed as a whole when a part of it is not (and what different parsers read
// differently is never signed).
func (s *signing) addChildren(node *registry.Node, seen map[digest.Digest]bool) {
	for _, child := range node.Children {
		d := child.Manifest.Descriptor
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		s.add(whatNode(child), target{subject: d, node: child})
		s.addChildren(child, seen)
	}
}

// addReferrers adds what refers to node and to all below it. Anyone with push rights can attach something malformed,
// which must not keep the rest unsigned: it is left out with a warning.
func (s *signing) addReferrers(node *registry.Node, of string, seen map[digest.Digest]bool) {
	for _, referrer := range node.Referrers {
		d := referrer.Manifest.Descriptor
		if seen[d.Digest] || referrer.IsSignature() {
			continue
		}
		seen[d.Digest] = true
		if referrer.Malformed != nil {
			s.warn("skipped %s, which refers to %s: %v", d.Digest, node.Manifest.Descriptor.Digest, referrer.Malformed)
			continue
		}
		name := whatNode(referrer)
		if of != "" {
			name += " of " + of
		}
		s.add(name, target{subject: d, node: referrer})
		s.addReferrers(referrer, name, seen)
	}
	for _, child := range node.Children {
		s.addReferrers(child, whatNode(child), seen)
	}
}

func whatNode(n *registry.Node) string {
	switch n.Platform {
	case "":
		return what(n.Parts)
	case "unknown/unknown": // as buildx lists the provenance and SBOM of an image
		return "attestation"
	}
	return n.Platform
}

// what describes an artifact to people.
func what(p registry.Parts) string {
	switch {
	case p.Shape == registry.ShapeIndex && p.ArtifactType == "":
		platforms := 0
		for _, m := range p.Manifests {
			if m.Platform != nil && m.Platform.OS != "unknown" {
				platforms++
			}
		}
		switch platforms {
		case 0:
			return fmt.Sprintf("index, %d manifests", len(p.Manifests))
		case 1:
			return "index, 1 platform"
		}
		return fmt.Sprintf("index, %d platforms", platforms)
	case p.ArtifactType == "" || strings.HasSuffix(p.ArtifactType, ".image.config.v1+json") || p.ArtifactType == "application/vnd.docker.container.image.v1+json":
		return "image"
	}
	return p.ArtifactType
}

// An existing is a signature that makes another needless; the zero value is none.
type existing struct {
	digest  digest.Digest
	content envelope.Content
	sig     registry.Signature
	stamped *Stamped // nil: it has no countersignature that is of use, or none is asked for
}

// maxCandidates bounds how many listed signatures are read to find our own: whoever may push may list as many as he
// likes under our thumbprint.
const maxCandidates = 100

// existing looks for a signature of the same hand over the payload of a target whose expiry lies ahead and whose chain
// is valid now. Entries whose thumbprint annotation names another leaf
// certificate are not read, which saves a request for each foreign signature: the annotation is only a hint, and one
// that lies (or a leaf re-issued since) costs at worst a second signature, which harms nobody.
func (s *signing) existing(ctx context.Context, t target, h *hand) (existing, error) {
	if s.o.Again {
		return existing{}, nil
	}
	listed, err := s.listed(ctx, t)
	if err != nil {
		return existing{}, err
	}
	var named, unknown []registry.Referrer
	leaf := certchain.Thumbprint(h.chain.Leaf())
	for _, r := range listed {
		if r.ArtifactType != registry.ArtifactTypeSignature {
			continue
		}
		switch first, ok := firstThumbprint(r.Annotations); {
		case !ok:
			unknown = append(unknown, r)
		case first == leaf:
			named = append(named, r)
		}
	}
	candidates := append(named, unknown...)
	candidates = candidates[:min(len(candidates), maxCandidates)]
	payload := s.payload(t)
	if t.made != nil {
		payload = t.made.Content.Payload
	}
	found := make([]existing, len(candidates))
	err = each(ctx, len(candidates), parallel, func(i int) error {
		sig := s.repo.ReadSignature(ctx, t.subject, candidates[i])
		if errors.Is(sig.Err, registry.ErrUnavailable) || errors.Is(sig.Err, registry.ErrUnauthorized) {
			return fmt.Errorf("reading signature %s of %s: %w", sig.Descriptor.Digest, t.subject.Digest, sig.Err)
		}
		if c, ok := s.ours(h, sig, payload); ok {
			found[i] = existing{digest: candidates[i].Digest, content: c, sig: sig, stamped: s.stampedBy(c)}
		}
		return nil
	})
	if err != nil {
		return existing{}, err
	}
	return best(found), nil
}

// best is the first signature of several, one that is countersigned before others.
func best(found []existing) existing {
	var first existing
	for _, e := range found {
		switch {
		case e.digest == "":
		case e.stamped != nil:
			return e
		case first.digest == "":
			first = e
		}
	}
	return first
}

// listed returns what refers to a target, out of the graph where that was read.
func (s *signing) listed(ctx context.Context, t target) ([]registry.Referrer, error) {
	if t.node != nil {
		return t.node.Listed, nil
	}
	list, err := s.repo.Referrers(ctx, t.subject, registry.ArtifactTypeSignature)
	if err != nil {
		return nil, fmt.Errorf("listing the signatures of %s: %w", t.subject.Digest, err)
	}
	return list, nil
}

// firstThumbprint reads the thumbprint of the leaf out of a signature's annotations; ok is false if it is not stated
// in proper form.
func firstThumbprint(annotations map[string]string) (first string, ok bool) {
	value, ok := annotations[registry.AnnotationThumbprint]
	if !ok {
		return "", false
	}
	var list []string
	if err := json.Unmarshal([]byte(value), &list); err != nil || len(list) == 0 {
		return "", false
	}
	return list[0], digest.NewDigestFromEncoded(digest.SHA256, list[0]).Validate() == nil
}

func (s *signing) ours(h *hand, sig registry.Signature, payload envelope.Payload) (envelope.Content, bool) {
	if sig.Err != nil {
		return envelope.Content{}, false
	}
	c, err := h.read(sig.MediaType, sig.Envelope)
	if err != nil || c.Scheme != h.scheme || !c.Payload.Equal(payload) ||
		!bytes.Equal(c.Chain.Leaf().RawSubjectPublicKeyInfo, h.chain.Leaf().RawSubjectPublicKeyInfo) {
		return envelope.Content{}, false
	}
	if !c.Expiry.IsZero() && !c.Expiry.After(s.o.Now) {
		return envelope.Content{}, false
	}
	// The chain is not signed: whoever may push can list our signature under a root of his own, which nobody trusts.
	// That must not keep us from signing.
	if !c.Chain.Root().Equal(h.chain.Root()) {
		return envelope.Content{}, false
	}
	return c, c.Chain.Check(s.o.Now) == nil
}

// warnOfDifference says where the signature that is there already differs from the one asked for: the payload is the
// same, the rest need not be.
func (s *signing) warnOfDifference(signed Signed, e existing) {
	if e.content.Format != s.o.Format {
		s.warn("%s: signed already as %s; a %s signature besides needs --again",
			short(signed.Subject.Digest), e.content.Format.Short(), s.o.Format.Short())
	}
	switch {
	case s.expiry.IsZero() && (e.content.Expiry.IsZero() || e.content.Scheme == envelope.SchemeSigningAuthority): // whose terms are its own
	case !s.expiry.IsZero() && !e.content.Expiry.IsZero() && s.sameTerm(e.content):
	case e.content.Expiry.IsZero():
		s.warn("%s: signed already without an expiry; another signature with one needs --again", short(signed.Subject.Digest))
	default:
		s.warn("%s: signed already until %s; another expiry needs --again", short(signed.Subject.Digest), e.content.Expiry.UTC().Format(time.RFC3339))
	}
}

// sameTerm reports whether a signature was made for as long as is asked now. A service that writes envelopes may read its clock twice.
func (s *signing) sameTerm(c envelope.Content) bool {
	apart := (c.Expiry.Sub(c.SignedAt()) - s.o.Expiry).Abs()
	return apart == 0 || s.whole != nil && apart <= 2*time.Second
}

// short is how people are shown a digest a second time.
func short(d digest.Digest) string {
	if encoded := d.Encoded(); len(encoded) > 12 {
		return encoded[:12]
	}
	return string(d)
}
