package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxEnvelope limits an envelope, in bytes; it equals envelope.MaxBytes, which this package does not import.
const maxEnvelope = 1 << 20

// A Signature is a signature manifest found at a subject, with its envelope. Nothing is proved.
type Signature struct {
	Subject     ocispec.Descriptor // whose referrers list it stands in
	Descriptor  ocispec.Descriptor // of the signature manifest
	Manifest    Manifest
	Annotations map[string]string
	MediaType   string // of the envelope: its layer's, exactly as written
	Envelope    []byte
	// Misdescribed: the list describes the manifest otherwise than it is. Anybody may write a fallback index so; stock verifiers pass
	// over an entry without the type, and give up at one of another size or media type.
	Misdescribed bool
	// Err is why it could not be read: *Error with reason manifest-malformed, or one that wraps ErrUnavailable,
	// ErrNotFound and the like. Then the fields above may be empty, but for Subject and Descriptor.
	Err error
}

// maxLooks bounds how often [Repo.Signatures] looks again because somebody is exchanging signatures meanwhile.
const maxLooks = 4

// Signatures lists and reads all signatures of subject, those that cannot be read with their Err. What was listed and is gone when
// it is read was exchanged for another meanwhile, as rechain does, so the list is read again then; what is listed again and is not
// there is a ghost, with an Err that wraps ErrNotFound. The error is of the listing, and of more than is kept (ErrTooLarge).
func (r *Repo) Signatures(ctx context.Context, subject ocispec.Descriptor) ([]Signature, error) {
	return r.SignaturesBy(ctx, subject, nil)
}

// SignaturesBy is [Repo.Signatures] that shows take each signature as soon as it is read, several at a time: what take lets go of (the
// manifest's bytes, the envelope) is not kept, so that only that bounds the memory of it all. What take makes of Err is kept as it is.
func (r *Repo) SignaturesBy(ctx context.Context, subject ocispec.Descriptor, take func(*Signature)) ([]Signature, error) {
	list, err := r.Referrers(ctx, subject, ArtifactTypeSignature)
	if err != nil {
		return nil, err
	}
	return r.signaturesIn(ctx, subject, list, take)
}

// SignaturesIn is [Repo.Signatures] with the list of what refers to subject, of whatever type, at hand ([Visit].Referrers).
func (r *Repo) SignaturesIn(ctx context.Context, subject ocispec.Descriptor, list []Referrer) ([]Signature, error) {
	return r.signaturesIn(ctx, subject, list, nil)
}

func (r *Repo) signaturesIn(ctx context.Context, subject ocispec.Descriptor, list []Referrer, take func(*Signature)) ([]Signature, error) {
	list = slices.DeleteFunc(slices.Clone(list), func(l Referrer) bool {
		return l.ArtifactType != "" && l.ArtifactType != ArtifactTypeSignature
	})
	read := map[digest.Digest]Signature{}
	allowed := r.allow()
	for look := 1; ; look++ {
		signatures, err := r.readSignatures(ctx, subject, list, read, allowed, take)
		if err != nil || look == maxLooks || !slices.ContainsFunc(signatures, isGone) {
			return signatures, err
		}
		again, err := r.Referrers(ctx, subject, ArtifactTypeSignature)
		if err != nil {
			return nil, err
		}
		if slices.EqualFunc(list, again, func(a, b Referrer) bool { return a.Digest == b.Digest }) {
			return signatures, nil
		}
		list = again
	}
}

func isGone(s Signature) bool { return errors.Is(s.Err, ErrNotFound) }

// Bytes of signatures that are read and shown at the same time, where what is shown is let go of. Thirty-two signatures as they are made,
// which are all that are read at once, are less; of any size, what is parsed of them is a few times as much.
const (
	manifestsShown = 1 << 20
	envelopesShown = 2 * maxEnvelope
)

// A showing bounds the memory of signatures on their way to who lets go of them.
type showing struct{ manifests, envelopes *scale }

// readSignatures reads those of list that are not in read, and adds them to it unless they are gone.
func (r *Repo) readSignatures(ctx context.Context, subject ocispec.Descriptor, list []Referrer, read map[digest.Digest]Signature,
	allowed *allowance, take func(*Signature)) ([]Signature, error) {
	signatures := make([]Signature, len(list))
	for i, ref := range list {
		signatures[i] = Signature{Subject: subject, Descriptor: ref.Descriptor}
	}
	shown := showing{newScale(manifestsShown), newScale(envelopesShown)}
	if err := parallel(ctx, len(list), func(ctx context.Context, i int) error {
		if known, ok := read[list[i].Digest]; ok {
			signatures[i] = known
			return nil
		}
		if take == nil {
			signatures[i] = r.ReadSignature(ctx, subject, list[i])
		} else {
			signatures[i] = r.showSignature(ctx, subject, list[i], shown, take)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return allowed.keep(subject.Digest.String(), len(signatures[i].Manifest.Bytes)+len(signatures[i].Envelope))
	}); err != nil {
		return nil, err
	}
	for _, s := range signatures {
		if !isGone(s) {
			read[s.Descriptor.Digest] = s
		}
	}
	return signatures, nil
}

// ReadSignature reads one: manifest (one request), and envelope (none if inline, else one more).
func (r *Repo) ReadSignature(ctx context.Context, subject ocispec.Descriptor, ref Referrer) Signature {
	m, err := r.Manifest(ctx, ref.Descriptor)
	return signatureAt(ctx, subject, ref, m, err, r.readEnvelope)
}

// showSignature is [Repo.ReadSignature] that reads when there is room for it, and makes it again after take. Who waits for an envelope's
// room may have a manifest's, and nobody waits for that with an envelope's: so each goes on in the end.
func (r *Repo) showSignature(ctx context.Context, subject ocispec.Descriptor, ref Referrer, shown showing, take func(*Signature)) Signature {
	var held []func()
	defer func() {
		for _, release := range held {
			release()
		}
	}()
	m, release, err := r.heldManifest(ctx, ref.Descriptor, shown.manifests)
	held = append(held, release)
	s := signatureAt(ctx, subject, ref, m, err, func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		release, err := shown.envelopes.hold(ctx, d.Size)
		if err != nil {
			return nil, err
		}
		held = append(held, release)
		return r.readEnvelope(ctx, d)
	})
	if ctx.Err() == nil {
		take(&s)
	}
	return s
}

// heldManifest is [Repo.Manifest] with as much of the scale as the manifest has bytes. Anybody may write into a fallback index that it
// has fewer: then it is read again with all there is.
func (r *Repo) heldManifest(ctx context.Context, d ocispec.Descriptor, of *scale) (m Manifest, release func(), err error) {
	s, far := r.store.(*remote)
	most := d.Size
	if !far || most <= 0 { // from a disk they are read as fast one after another
		most = of.most
	}
	release, err = of.hold(ctx, most)
	if err != nil {
		return Manifest{}, func() {}, err
	}
	if !far || most >= MaxManifest || checkDescriptor(d) != nil {
		m, err = r.Manifest(ctx, d)
		return m, release, err
	}
	mediaType, body, err := s.manifestWithin(ctx, "", d.Digest, most)
	if errors.Is(err, ErrTooLarge) {
		release()
		if release, err = of.hold(ctx, of.most); err != nil {
			return Manifest{}, func() {}, err
		}
		m, err = r.Manifest(ctx, d)
		return m, release, err
	}
	m, err = r.manifestOf(d, mediaType, body, err)
	return m, release, err
}

func signatureAt(ctx context.Context, subject ocispec.Descriptor, ref Referrer, m Manifest, err error,
	envelope func(context.Context, ocispec.Descriptor) ([]byte, error)) Signature {
	if err != nil {
		s := Signature{Subject: subject, Descriptor: ref.Descriptor, Err: err}
		if errors.Is(err, ErrTooLarge) {
			s.Err = badSignature(ref.Digest, err)
		}
		return s
	}
	s := SignatureIn(ctx, subject, m, envelope)
	s.Misdescribed = !ref.Describes(m.Descriptor)
	return s
}

// Describes reports whether the list has r as a signature whose manifest is d, so that stock verifiers find it by that.
func (r Referrer) Describes(d ocispec.Descriptor) bool {
	return r.ArtifactType == ArtifactTypeSignature && r.Digest == d.Digest && r.MediaType == d.MediaType && r.Size == d.Size
}

// SignatureOf reads the signature whose manifest m is at hand already.
func (r *Repo) SignatureOf(ctx context.Context, subject ocispec.Descriptor, m Manifest) Signature {
	return SignatureIn(ctx, subject, m, r.readEnvelope)
}

func (r *Repo) readEnvelope(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	return r.ReadBlob(ctx, d, maxEnvelope)
}

// SignatureIn is [Repo.SignatureOf] for an envelope that the caller reads, of at most 1 MiB: its bytes are verified by read.
func SignatureIn(ctx context.Context, subject ocispec.Descriptor, m Manifest,
	read func(context.Context, ocispec.Descriptor) ([]byte, error)) Signature {
	s := Signature{Subject: subject, Descriptor: m.Descriptor, Manifest: m}
	p, err := m.Parse()
	if err != nil {
		s.Err = badSignature(m.Descriptor.Digest, err)
		return s
	}
	s.Annotations, s.Descriptor.ArtifactType = p.Annotations, p.ArtifactType
	if err := checkSignature(p, subject); err != nil {
		s.Err = badSignature(m.Descriptor.Digest, err)
		return s
	}
	layer := p.Layers[0]
	s.MediaType = layer.MediaType
	if len(layer.Data) > 0 {
		// What the manifest itself says wrongly is the manifest's fault, not the registry's.
		if err := checkBytes(layer, layer.Data); err != nil {
			s.Err = badSignature(m.Descriptor.Digest, err)
			return s
		}
	}
	if s.Envelope, err = read(ctx, layer); err != nil {
		s.Err = fmt.Errorf("signature %s: %w", m.Descriptor.Digest, err)
	}
	return s
}

func badSignature(d digest.Digest, err error) error {
	return fail(codeMalformed, "signature manifest %s: %w", d, err)
}

// checkSignature applies the signature specification's rules for the manifest (section "Storage").
func checkSignature(p Parts, subject ocispec.Descriptor) error {
	switch {
	case p.Shape == ShapeIndex, p.Shape == ShapeUnknown:
		return fmt.Errorf("%w: it is not an image manifest", ErrMalformed)
	case p.ArtifactType != ArtifactTypeSignature:
		return fmt.Errorf("%w: its artifact type is %q", ErrMalformed, p.ArtifactType)
	case p.Config != nil && p.Config.MediaType != ocispec.MediaTypeEmptyJSON && p.Config.MediaType != ArtifactTypeSignature:
		return fmt.Errorf("%w: its config is %q", ErrMalformed, p.Config.MediaType)
	case len(p.Layers) != 1:
		return fmt.Errorf("%w: it has %d layers, a signature has one", ErrMalformed, len(p.Layers))
	case p.Layers[0].Size > maxEnvelope:
		return fmt.Errorf("%w: an envelope of %d bytes", ErrTooLarge, p.Layers[0].Size)
	case p.Subject == nil:
		return fmt.Errorf("%w: it has no subject", ErrMalformed)
	case p.Subject.Digest != subject.Digest || p.Subject.MediaType != subject.MediaType || p.Subject.Size != subject.Size:
		return fmt.Errorf("%w: its subject is %s (%s, %d bytes)", ErrMalformed, p.Subject.Digest, p.Subject.MediaType, p.Subject.Size)
	}
	return nil
}

// A Form is one of the two that a signature manifest has.
type Form int

const (
	// ByArtifactType: an artifactType and the empty configuration (signature specification, "Storage").
	ByArtifactType Form = iota
	// ByConfig: the configuration's media type says what it is. Released versions of notation (1.3.2 was measured)
	// write it and, in an OCI layout, see no other; every verifier accepts it.
	ByConfig
)

// Form returns the form that every stock verifier sees in this place.
func (r *Repo) Form() Form {
	if r.ref.Kind == Remote {
		return ByArtifactType
	}
	return ByConfig
}

// Form returns the form that the signature's manifest has.
func (s Signature) Form() Form {
	if p, err := s.Manifest.Parse(); err == nil && p.Config != nil && p.Config.MediaType == ArtifactTypeSignature {
		return ByConfig
	}
	return ByArtifactType
}

// Manifest builds the manifest of a signature in this form, deterministically (docs/signature.md): the empty
// configuration and the envelope as the only layer, both with inline data (the envelope's if it is at most MaxInline
// bytes), subject (media type, digest, size only), annotations.
func (f Form) Manifest(subject ocispec.Descriptor, envelopeType string, envelope []byte, annotations map[string]string) Manifest {
	layer := ocispec.Descriptor{MediaType: envelopeType, Digest: digest.FromBytes(envelope), Size: int64(len(envelope))}
	if len(envelope) <= MaxInline {
		layer.Data = envelope
	}
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactTypeSignature,
		Config:       ocispec.DescriptorEmptyJSON,
		Layers:       []ocispec.Descriptor{layer},
		Subject:      &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations:  annotations,
	}
	if f == ByConfig {
		m.ArtifactType, m.Config.MediaType = "", ArtifactTypeSignature
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings, numbers and bytes: nothing that cannot be encoded
	}
	return NewManifest(ocispec.MediaTypeImageManifest, b)
}

// PushSignature stores the envelope and the empty configuration (at the same time, fewest requests) and attaches the
// manifest that [Form.Manifest] built of them.
func (r *Repo) PushSignature(ctx context.Context, subject ocispec.Descriptor, m Manifest, envelope []byte) error {
	p, err := m.Parse()
	if err != nil {
		return err
	}
	if err := checkSignature(p, subject); err != nil {
		return badSignature(m.Descriptor.Digest, err)
	}
	if err := checkBytes(p.Layers[0], envelope); err != nil {
		return badSignature(m.Descriptor.Digest, err)
	}
	blobs := []struct {
		d ocispec.Descriptor
		b []byte
	}{{*p.Config, ocispec.DescriptorEmptyJSON.Data}, {p.Layers[0], envelope}}
	if err := parallel(ctx, len(blobs), func(ctx context.Context, i int) error {
		return r.PushBytes(ctx, blobs[i].d, blobs[i].b)
	}); err != nil {
		return err
	}
	return r.Attach(ctx, subject, m)
}
