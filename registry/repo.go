// Package registry reads and writes artifacts where they are: in a remote repository, an OCI layout or an OCI archive.
package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on what is read.
const (
	MaxManifest  = 4 << 20 // bytes of a manifest or an index (also of one page of a referrers list)
	MaxReferrers = 10_000  // of one subject
	MaxPages     = 100     // of one list
	MaxDepth     = 8       // referrers of referrers; indexes in indexes
	MaxInline    = 16 << 10

	// maxHeld is how many bytes of manifests and envelopes one call keeps: ten thousand signatures as they are made,
	// not as long as each may be.
	maxHeld = 512 << 20
)

// ArtifactTypeSignature is the artifact type of Notary Project signature manifests, and the configuration's media
// type of their legacy form.
const ArtifactTypeSignature = "application/vnd.cncf.notary.signature"

// AnnotationThumbprint is the annotation of signature manifests that holds a JSON array of certificate thumbprints, leaf first.
const AnnotationThumbprint = "io.cncf.notary.x509chain.thumbprint#S256"

// A Repo is a remote repository, a layout or an archive. Its methods may be called concurrently.
type Repo struct {
	store store
	ref   Reference
	most  int64 // maxHeld; tests lower it
}

func newRepo(s store, ref Reference) *Repo {
	return &Repo{store: s, ref: ref.Repository(), most: maxHeld}
}

// An allowance is how many bytes more a call may keep.
type allowance struct{ left atomic.Int64 }

func (r *Repo) allow() *allowance {
	a := &allowance{}
	a.left.Store(r.most)
	return a
}

// keep takes what is kept off the allowance, and is an error when that is used up.
func (a *allowance) keep(of string, n int) error {
	if a.left.Add(-int64(n)) >= 0 {
		return nil
	}
	return fail(codeTooLarge, "%s: %w: together its signatures and referrers take more memory than they are given", of, ErrTooLarge)
}

// Commit ends the archive that Create began: it writes index and end, syncs, and gives the file its name. Everywhere
// else what was written is there already.
func (r *Repo) Commit() error { return r.store.commit() }

// Close releases what Open or Create took. Of an archive that was begun and not committed it leaves nothing behind.
func (r *Repo) Close() error { return r.store.close() }

// Reference returns where the repository is, without tag and digest.
func (r *Repo) Reference() Reference { return r.ref }

// Resolve reads the manifest that ref names (its tag, digest or both) in this repository with one request, recomputes
// its digest, and parses it strictly. ErrTagMismatch if tag and digest disagree or the tag does not exist,
// ErrAmbiguous for manifests that different parsers read differently.
func (r *Repo) Resolve(ctx context.Context, ref Reference) (Manifest, error) {
	m, err := r.look(ctx, ref)
	if err != nil {
		return Manifest{}, err
	}
	if _, err := m.Parse(); err != nil {
		return Manifest{}, fmt.Errorf("resolving %s: %w", r.ref.With(ref.Tag, ref.Digest), err)
	}
	return m, nil
}

// look is Resolve without parsing.
func (r *Repo) look(ctx context.Context, ref Reference) (Manifest, error) {
	where := r.ref.With(ref.Tag, ref.Digest)
	if where.IsRepository() {
		return Manifest{}, fail(codeReference, "%w %q: add a tag or a digest; imprint never assumes latest", ErrReference, where)
	}
	if err := r.checkTag(ref.Tag); err != nil {
		return Manifest{}, err
	}
	by := ref.Digest
	if by != "" {
		if _, err := parseDigest(string(by)); err != nil {
			return Manifest{}, fail(codeReference, "%w %q: %w", ErrReference, where, err)
		}
	}
	if ref.Tag != "" {
		by = ""
	}
	mediaType, body, err := r.store.manifest(ctx, ref.Tag, by)
	if ref.Tag != "" && ref.Digest != "" && errors.Is(err, ErrNotFound) {
		return Manifest{}, fail(codeTagDigest, "resolving %s: %w: there is no such tag", where, ErrTagMismatch)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("resolving %s: %w", where, err)
	}
	m, err := r.describe(ocispec.Descriptor{MediaType: mediaType, Digest: ref.Digest}, mediaType, body)
	if ref.Tag != "" && errors.Is(err, ErrDigestMismatch) {
		return Manifest{}, fail(codeTagDigest, "resolving %s: %w (%s)", where, ErrTagMismatch, digest.FromBytes(body))
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("resolving %s: %w", where, err)
	}
	return m, nil
}

// describe makes a manifest of what came back for d, checking digest and size where d has them.
func (r *Repo) describe(d ocispec.Descriptor, mediaType string, body []byte) (Manifest, error) {
	if len(body) > MaxManifest {
		return Manifest{}, fail(codeTooLarge, "%w: a manifest of more than %d bytes", ErrTooLarge, MaxManifest)
	}
	m := NewManifest(mediaType, body)
	if d.Digest == "" {
		return m, nil
	}
	if got := d.Digest.Algorithm().FromBytes(body); got != d.Digest {
		return Manifest{}, fail(codeDigest, "%w: manifest %s came back as %s", ErrDigestMismatch, d.Digest, got)
	}
	if d.Size != 0 && d.Size != int64(len(body)) {
		return Manifest{}, fail(codeDigest, "%w: manifest %s has %d bytes, its descriptor says %d", ErrDigestMismatch, d.Digest, len(body), d.Size)
	}
	m.Descriptor.Digest = d.Digest
	return m, nil
}

// checkTag refuses what cannot be a tag (or NAME) before it becomes part of a path.
func (r *Repo) checkTag(tag string) error {
	if tag == "" {
		return nil
	}
	if r.ref.Kind == Remote && !ValidTag(tag) {
		return fail(codeReference, "%w: %q is not a tag", ErrReference, clip(tag))
	}
	if err := checkName(tag); err != nil {
		return fail(codeReference, "%w %q: %w", ErrReference, clip(tag), err)
	}
	return nil
}

// checkDescriptor refuses digests that are none before they become part of a path (CVE-2024-3727), and sizes that cannot be.
func checkDescriptor(d ocispec.Descriptor) error {
	if _, err := parseDigest(string(d.Digest)); err != nil {
		return fail(codeMalformed, "%w: descriptor: %w", ErrMalformed, err)
	}
	if d.Size < 0 {
		return fail(codeMalformed, "%w: descriptor %s: size %d", ErrMalformed, d.Digest, d.Size)
	}
	return nil
}

// Tagged returns the digest that a tag names now, or ErrNotFound.
func (r *Repo) Tagged(ctx context.Context, tag string) (digest.Digest, error) {
	if tag == "" {
		return "", fail(codeReference, "%w: an empty tag", ErrReference)
	}
	if err := r.checkTag(tag); err != nil {
		return "", err
	}
	d, err := r.store.tagged(ctx, tag)
	if err != nil {
		return "", fmt.Errorf("looking up %s: %w", r.ref.With(tag, ""), err)
	}
	return d, nil
}

// Tags lists tags.
func (r *Repo) Tags(ctx context.Context) iter.Seq2[string, error] { return r.store.tags(ctx) }

// Manifest reads a manifest by digest; only digest and size are checked. Its media type is as served, or the
// descriptor's where the place keeps none.
func (r *Repo) Manifest(ctx context.Context, d ocispec.Descriptor) (Manifest, error) {
	if err := checkDescriptor(d); err != nil {
		return Manifest{}, err
	}
	if d.Size > MaxManifest {
		return Manifest{}, fail(codeTooLarge, "manifest %s: %w: %d bytes", d.Digest, ErrTooLarge, d.Size)
	}
	mediaType, body, err := r.store.manifest(ctx, "", d.Digest)
	return r.manifestOf(d, mediaType, body, err)
}

// manifestOf is what [Repo.Manifest] makes of an answer.
func (r *Repo) manifestOf(d ocispec.Descriptor, mediaType string, body []byte, err error) (Manifest, error) {
	if err != nil {
		return Manifest{}, fmt.Errorf("reading manifest %s of %s: %w", d.Digest, r.ref, err)
	}
	if mediaType == "" {
		mediaType = d.MediaType
	}
	m, err := r.describe(d, mediaType, body)
	if err != nil {
		return Manifest{}, fmt.Errorf("reading from %s: %w", r.ref, err)
	}
	return m, nil
}

// Blob opens a blob; reading past its descriptor's size, or to an end that does not hash to its digest, is an error of
// the reader. A download that breaks off goes on where it was (RFC 9110, "Range Requests") before the reader hears of it.
func (r *Repo) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := r.BlobFrom(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	return verifying(rc, d), nil
}

// BlobFrom opens a blob from an offset on, up to its descriptor's size. Nothing is checked of what comes: that is for
// who puts the parts together.
func (r *Repo) BlobFrom(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	if offset < 0 || offset > d.Size {
		return nil, fail(codeDigest, "%w: blob %s has %d bytes, and was to be read from %d on", ErrDigestMismatch, d.Digest, d.Size, offset)
	}
	rc, err := r.store.blob(ctx, d, offset)
	if err != nil {
		return nil, fmt.Errorf("reading blob %s of %s: %w", d.Digest, r.ref, err)
	}
	return rc, nil
}

// HasBlob asks for a blob without fetching it.
func (r *Repo) HasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := checkDescriptor(d); err != nil {
		return false, err
	}
	has, err := r.store.hasBlob(ctx, d)
	if err != nil {
		return false, fmt.Errorf("looking up blob %s of %s: %w", d.Digest, r.ref, err)
	}
	return has, nil
}

// ReadBlob reads a blob of at most limit bytes, its inline data if the descriptor carries any (checked all the same).
// The empty configuration is known without asking.
func (r *Repo) ReadBlob(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	if d.Size > limit {
		return nil, fail(codeTooLarge, "blob %s: %w: %d bytes, at most %d are read", d.Digest, ErrTooLarge, d.Size, limit)
	}
	b := d.Data
	if len(b) == 0 && d.Digest == ocispec.DescriptorEmptyJSON.Digest {
		b = ocispec.DescriptorEmptyJSON.Data
	}
	if len(b) > 0 {
		if err := checkBytes(d, b); err != nil {
			return nil, err
		}
		return bytes.Clone(b), nil
	}
	b, err := r.readAll(ctx, d)
	if s, ok := r.store.(*remote); ok && errors.Is(err, ErrDigestMismatch) {
		s.mismatchOnce(d.Digest)
		return r.readAll(ctx, d)
	}
	return b, err
}

func (r *Repo) readAll(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	rc, err := r.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := readExpected(rc, d.Size)
	if err != nil {
		return nil, fmt.Errorf("reading from %s: %w", r.ref, err)
	}
	return b, nil
}

// readExpected is [io.ReadAll] of what has so many bytes by all that is known: it is not copied while it grows.
func readExpected(r io.Reader, bytesExpected int64) ([]byte, error) {
	const most = 4 << 20 // what is expected is anybody's word
	b := bytes.NewBuffer(make([]byte, 0, min(max(bytesExpected, 0), most)+bytes.MinRead))
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}

// checkBytes reports whether b is what d describes.
func checkBytes(d ocispec.Descriptor, b []byte) error {
	if int64(len(b)) != d.Size {
		return fail(codeDigest, "%w: %s has %d bytes, its descriptor says %d", ErrDigestMismatch, d.Digest, len(b), d.Size)
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return fail(codeDigest, "%w: %s came as %s", ErrDigestMismatch, d.Digest, got)
	}
	return nil
}

// A Body opens a blob's bytes from an offset on. It is called again when some must be sent again.
type Body func(ctx context.Context, offset int64) (io.ReadCloser, error)

// BytesBody is the Body of bytes in memory.
func BytesBody(b []byte) Body {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[offset:])), nil
	}
}

// Sent says how a blob came to be where it is.
type Sent struct {
	Bytes   int64 // that travelled, those that travelled twice too
	Mounted bool  // from another repository of the registry
	There   bool  // it was there
}

// PushBlob stores a blob unless it is there; what the body holds is checked against d on the way, and never stored
// under a digest that it does not have. from, if not nil and of the same registry, is where it may be mounted from.
func (r *Repo) PushBlob(ctx context.Context, d ocispec.Descriptor, from *Repo, body Body) (Sent, error) {
	if err := checkDescriptor(d); err != nil {
		return Sent{}, err
	}
	var source store
	if from != nil {
		source = underlying(from.store)
	}
	sent, err := r.store.pushBlob(ctx, d, source, body)
	if err != nil {
		return sent, fmt.Errorf("writing blob %s to %s: %w", d.Digest, r.ref, err)
	}
	return sent, nil
}

// PushBytes stores a small blob with the fewest requests (one where the registry takes single-request uploads).
func (r *Repo) PushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	if err := checkDescriptor(d); err != nil {
		return err
	}
	if err := checkBytes(d, b); err != nil {
		return err
	}
	if err := r.store.pushBytes(ctx, d, b); err != nil {
		return fmt.Errorf("writing blob %s to %s: %w", d.Digest, r.ref, err)
	}
	return nil
}

// HasManifest asks by HEAD.
func (r *Repo) HasManifest(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := checkDescriptor(d); err != nil {
		return false, err
	}
	has, err := r.store.hasManifest(ctx, d.Digest)
	if err != nil {
		return false, fmt.Errorf("looking up manifest %s of %s: %w", d.Digest, r.ref, err)
	}
	return has, nil
}

// PushManifest stores a manifest by digest, byte-exact. In a layout or archive it is found by its digest only once
// something leads to it: an index, [Repo.Attach] or [Repo.Tag].
func (r *Repo) PushManifest(ctx context.Context, m Manifest) error {
	if err := checkDescriptor(m.Descriptor); err != nil {
		return err
	}
	if err := checkBytes(m.Descriptor, m.Bytes); err != nil {
		return err
	}
	if err := r.store.pushManifest(ctx, m); err != nil {
		return fmt.Errorf("writing manifest %s to %s: %w", m.Descriptor.Digest, r.ref, err)
	}
	return nil
}

// Tag makes tag name m's digest, unless it does; m's bytes must be there (by PushManifest) already. With an empty tag
// it lists m in a layout's or archive's index without a name, and does nothing to a remote repository, which keeps
// what has no tag.
func (r *Repo) Tag(ctx context.Context, m Manifest, tag string) error {
	if tag == "" && r.ref.Kind == Remote {
		return nil
	}
	if err := r.checkTag(tag); err != nil {
		return err
	}
	if err := checkDescriptor(m.Descriptor); err != nil {
		return err
	}
	if err := r.store.tag(ctx, m, tag); err != nil {
		return fmt.Errorf("tagging %s: %w", r.ref.With(tag, m.Descriptor.Digest), err)
	}
	return nil
}

// SetTags makes tags name m's digest with the fewest requests (one for all where the registry answers OCI-Tag), without
// asking what they name now: the caller has. m's bytes must be there already.
func (r *Repo) SetTags(ctx context.Context, m Manifest, tags ...string) error {
	for _, t := range tags {
		if err := r.checkTag(t); err != nil {
			return err
		}
	}
	if err := checkDescriptor(m.Descriptor); err != nil {
		return err
	}
	if len(tags) == 0 {
		return nil
	}
	if err := r.store.setTags(ctx, m, tags); err != nil {
		return fmt.Errorf("tagging %s: %w", r.ref.With(tags[0], m.Descriptor.Digest), err)
	}
	return nil
}
