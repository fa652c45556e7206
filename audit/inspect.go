package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A Signature is what one signature says.
type Signature struct {
	Digest      digest.Digest             `json:"digest"`
	Core        digest.Digest             `json:"core,omitempty"`
	SameAs      []digest.Digest           `json:"sameAs,omitempty"`     // other listed signatures with the same core id
	Newest      bool                      `json:"newest"`               // no other of the same core id supersedes it
	Supersedes  []digest.Digest           `json:"supersedes,omitempty"` // those it makes needless
	Valid       bool                      `json:"matchesCertificate"`   // its leaf's key signed it
	Reason      string                    `json:"reason,omitempty"`
	Detail      string                    `json:"detail,omitempty"`
	Format      string                    `json:"format,omitempty"` // jws, cose
	Algorithm   string                    `json:"algorithm,omitempty"`
	Scheme      string                    `json:"scheme,omitempty"`
	Agent       string                    `json:"agent,omitempty"`
	Identity    string                    `json:"identity,omitempty"`
	Covers      bool                      `json:"signsThisArtifact"` // its payload is the subject
	Claims      []string                  `json:"claims"`
	HasClaims   bool                      `json:"hasClaims"`
	Metadata    map[string]string         `json:"metadata,omitempty"` // other signed annotations
	SignedAt    *time.Time                `json:"signedAt,omitempty"`
	Expiry      *time.Time                `json:"expiry,omitempty"`
	Timestamp   *time.Time                `json:"timestamp,omitempty"`
	TSA         *certchain.Certificate    `json:"tsa,omitempty"` // the certificate that countersigned it, as the token has it; not checked
	HoldsUntil  *time.Time                `json:"holdsUntil,omitempty"`
	FirstToEnd  string                    `json:"firstToEnd,omitempty"` // subject of the certificate that ends first, or "expiry"
	Chain       []certchain.Certificate   `json:"chain,omitempty"`
	Verifiers   map[envelope.Setting]bool `json:"verifiers,omitempty"`   // what each setting says of it now
	Annotations map[string]string         `json:"annotations,omitempty"` // of the signature manifest

	content envelope.Content
}

// An Inspection is everything that the signatures of an artifact say.
type Inspection struct {
	Reference  string             `json:"reference"`
	Digest     digest.Digest      `json:"digest"`
	Artifact   ocispec.Descriptor `json:"artifact"`
	What       string             `json:"what"` // "index, 2 platforms"
	Signatures []Signature        `json:"signatures"`
	Referrers  map[string]int     `json:"referrers,omitempty"` // other referrers by artifact type, else media type
	Now        time.Time          `json:"now"`
}

// Inspect reads all signatures of the artifact, sorted by the time of signing, copies of one signature together and
// the longest lasting last; what could not be read comes at the end. It never says "trusted".
func Inspect(ctx context.Context, repo *registry.Repo, ref registry.Reference, root registry.Manifest, now time.Time) (Inspection, error) {
	parts, err := root.Parse()
	if err != nil {
		return Inspection{}, fmt.Errorf("inspecting %s: %w", ref, err)
	}
	in := Inspection{
		Reference: ref.String(), Digest: root.Descriptor.Digest, Artifact: root.Descriptor, What: What(parts),
		Signatures: []Signature{}, Now: now.UTC(),
	}
	listed, err := repo.Referrers(ctx, root.Descriptor, "")
	if err != nil {
		return Inspection{}, fmt.Errorf("inspecting %s: %w", ref, err)
	}
	var signatures []registry.Referrer
	for _, r := range listed {
		if r.ArtifactType == registry.ArtifactTypeSignature {
			signatures = append(signatures, r)
			continue
		}
		if in.Referrers == nil {
			in.Referrers = map[string]int{}
		}
		in.Referrers[cmp.Or(r.ArtifactType, r.MediaType)]++
	}
	in.Signatures = make([]Signature, len(signatures))
	each(len(signatures), func(i int) {
		in.Signatures[i] = read(repo.ReadSignature(ctx, root.Descriptor, signatures[i]), root.Descriptor, now)
	})
	if err := ctx.Err(); err != nil {
		return Inspection{}, fmt.Errorf("inspecting %s: %w", ref, err)
	}
	relate(in.Signatures)
	slices.SortFunc(in.Signatures, order)
	return in, nil
}

// read says everything that a signature says.
func read(sig registry.Signature, subject ocispec.Descriptor, now time.Time) Signature {
	s := Signature{Digest: sig.Descriptor.Digest, Annotations: sig.Annotations, Claims: []string{}}
	if sig.Err != nil {
		return s.refused(sig.Err)
	}
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	if err != nil {
		return s.refused(err)
	}
	c, err := e.Verify()
	if err != nil {
		c = e.Unverified()
		s = s.refused(err)
	}
	s.content, s.Valid, s.Core = c, err == nil, c.CoreID()
	s.Format, s.Algorithm, s.Scheme, s.Agent = c.Format.Short(), c.Algorithm, c.Scheme, c.Agent
	p := c.Payload
	s.Covers = p.Digest == subject.Digest && p.MediaType == subject.MediaType && p.Size == subject.Size
	if s.Valid && !s.Covers {
		s.Reason = codeElsewhere
		s.Detail = fmt.Sprintf("it signs %s (%s, %d bytes)", p.Digest, p.MediaType, p.Size)
	}
	s.readPayload(p)
	s.SignedAt, s.Expiry = known(c.SignedAt()), known(c.Expiry)
	s.readTimes(c, now)
	return s
}

func (s Signature) refused(err error) Signature {
	s.Reason, s.Detail = reasonOf(err), err.Error()
	return s
}

func (s *Signature) readPayload(p envelope.Payload) {
	claims, present, err := p.Claims()
	s.HasClaims = present
	switch {
	case err != nil:
		if s.Reason == "" {
			s.Reason, s.Detail = reasonOf(err), err.Error()
		}
	case len(claims) > 0:
		s.Claims = claims
	}
	if metadata := maps.Clone(p.Annotations); len(metadata) > 0 {
		delete(metadata, envelope.ClaimsAnnotation)
		if len(metadata) > 0 {
			s.Metadata = metadata
		}
	}
}

func (s *Signature) readTimes(c envelope.Content, now time.Time) {
	if len(c.Chain) == 0 {
		return
	}
	s.Identity = certchain.NameOf(c.Chain.Leaf().RawSubject)
	s.Chain = c.Chain.Describe()
	if until, first, ok := ends(c); ok {
		s.HoldsUntil, s.FirstToEnd = known(until), first
	}
	if from, to, ok, err := c.TimestampRange(); err == nil && ok {
		s.Timestamp = known(from.Add(to.Sub(from) / 2)) // genTime: the accuracy goes both ways
		if certs := c.TimestampCertificates(); len(certs) > 0 {
			tsa := certchain.Describe(certs[0])
			s.TSA = &tsa
		}
	}
	if !s.Valid {
		return
	}
	s.Verifiers = map[envelope.Setting]bool{}
	expired := !c.Expiry.IsZero() && !c.Expiry.After(now) // which no setting forgives
	for _, setting := range envelope.Settings() {
		passes, _ := c.Passes(setting, now)
		s.Verifiers[setting] = passes && !expired
	}
}

// known returns t in UTC, nil for none.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// relate says which are the same signature, and which of those makes the others needless.
func relate(signatures []Signature) {
	same := map[digest.Digest][]int{}
	for i, s := range signatures {
		signatures[i].Newest = s.Valid
		if s.Core != "" {
			same[s.Core] = append(same[s.Core], i)
		}
	}
	for _, group := range same {
		for _, i := range group {
			for _, j := range group {
				if i != j {
					signatures[i].relate(signatures[j])
				}
			}
			slices.Sort(signatures[i].SameAs)
			slices.Sort(signatures[i].Supersedes)
		}
	}
}

// relate notes what o, another copy of the same signature, is to s.
func (s *Signature) relate(o Signature) {
	s.SameAs = append(s.SameAs, o.Digest)
	if s.content.Supersedes(o.content) {
		s.Supersedes = append(s.Supersedes, o.Digest)
	}
	if o.content.Supersedes(s.content) {
		s.Newest = false
	}
}

func order(a, b Signature) int {
	when := func(t *time.Time) int64 {
		if t == nil {
			return 0
		}
		return t.Unix()
	}
	readable := func(s Signature) int {
		if s.Format == "" {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(readable(a), readable(b)),
		cmp.Compare(when(a.SignedAt), when(b.SignedAt)),
		cmp.Compare(a.Core, b.Core),
		cmp.Compare(when(a.HoldsUntil), when(b.HoldsUntil)),
		cmp.Compare(a.Digest, b.Digest),
	)
}
