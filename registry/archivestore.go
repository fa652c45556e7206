package registry

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func (a *newArchive) manifest(ctx context.Context, tag string, d digest.Digest) (mediaType string, body []byte, err error) {
	if tag == "" {
		return a.has.manifest(a.index, d)
	}
	e, err := a.index.find(tag)
	if err != nil {
		return "", nil, err
	}
	body, err = a.has.read(e.Digest)
	return e.MediaType, body, err
}

func (a *newArchive) hasManifest(ctx context.Context, d digest.Digest) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.blobs[d]
	return ok, nil
}

func (a *newArchive) tagged(ctx context.Context, tag string) (digest.Digest, error) {
	e, err := a.index.find(tag)
	return e.Digest, err
}

func (a *newArchive) tags(ctx context.Context) iter.Seq2[string, error] { return tagsOf(a.index) }

func (a *newArchive) blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return sized(a.open, d, offset)
}

func (a *newArchive) pushBlob(ctx context.Context, d ocispec.Descriptor, from store, body Body) (Sent, error) {
	if there, err := a.holds(d); there || err != nil {
		return Sent{There: there}, err
	}
	leave, err := a.flights.enter(ctx, d.Digest)
	if err != nil {
		return Sent{}, err
	}
	defer leave()
	if there, err := a.holds(d); there || err != nil {
		return Sent{There: there}, err
	}
	rc, err := body(ctx, 0)
	if err != nil {
		return Sent{}, err
	}
	defer rc.Close()
	return Sent{Bytes: d.Size}, a.put(ctx, d, rc)
}

func (a *newArchive) pushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	_, err := a.pushBlob(ctx, d, nil, BytesBody(b))
	return err
}

func (a *newArchive) pushManifest(ctx context.Context, m Manifest) error {
	if err := a.pushBytes(ctx, m.Descriptor, m.Bytes); err != nil {
		return err
	}
	a.has.stored(m.Descriptor.Digest)
	return nil
}

func (a *newArchive) tag(ctx context.Context, m Manifest, tag string) error {
	return a.setTags(ctx, m, []string{tag})
}

func (a *newArchive) hasBlob(_ context.Context, d ocispec.Descriptor) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.blobs[d.Digest]
	return ok && at.size == d.Size, nil
}

func (a *newArchive) setTags(ctx context.Context, m Manifest, tags []string) error {
	return a.change(func() (changed bool, err error) {
		there, err := a.holds(m.Descriptor)
		if err != nil {
			return false, err
		}
		if !there {
			return false, fail(codeNotFound, "manifest %s: %w", m.Descriptor.Digest, ErrNotFound)
		}
		for _, t := range tags {
			changed = a.index.setTag(indexEntry(m), t) || changed
		}
		return changed, nil
	})
}

func (a *newArchive) confirm(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	return a.attach(ctx, subject, manifests)
}

func (a *newArchive) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	return a.has.referrers(a.index, subject.Digest)
}

func (a *newArchive) attach(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	for _, m := range manifests {
		if err := a.pushManifest(ctx, m); err != nil {
			return err
		}
	}
	return a.change(func() (bool, error) { return a.has.list(a.index, a.index, manifests) })
}

func (a *newArchive) detach(context.Context, ocispec.Descriptor, digest.Digest) error {
	return fail(codeUnsupported, "%w: nothing can be taken out of the archive %s", ErrUnsupported, a.file)
}

func (a *newArchive) examine(ctx context.Context, write bool) (Capabilities, error) {
	return Capabilities{ReferrersAPI: capYes, Delete: capNo, Mount: capNo, SingleUpload: capYes}, nil
}
