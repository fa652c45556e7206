package registry

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A store is one kind of place: remote.go, layout.go, archive.go. Repo adds what is the same everywhere (strict
// parsing, digest checks, limits).
type store interface {
	// manifest reads by tag (NAME) or digest; it returns the media type as served (remote: Content-Type; layouts: of
	// the index entry or the body) and at most MaxManifest bytes.
	manifest(ctx context.Context, tag string, d digest.Digest) (mediaType string, body []byte, err error)
	hasManifest(ctx context.Context, d digest.Digest) (bool, error)
	tagged(ctx context.Context, tag string) (digest.Digest, error)
	tags(ctx context.Context) iter.Seq2[string, error]
	// blob opens a blob from an offset on (0 ≤ offset < its size, or 0).
	blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	hasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error)
	pushBlob(ctx context.Context, d ocispec.Descriptor, from store, body Body) (Sent, error)
	pushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error
	pushManifest(ctx context.Context, m Manifest) error
	tag(ctx context.Context, m Manifest, tag string) error
	// setTags is tag for several, without asking what they name now.
	setTags(ctx context.Context, m Manifest, tags []string) error
	referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error)
	attach(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error
	// confirm makes sure that pushed manifests are listed.
	confirm(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error
	detach(ctx context.Context, subject ocispec.Descriptor, d digest.Digest) error
	examine(ctx context.Context, write bool) (Capabilities, error)
	commit() error
	close() error
}

// eachTag is setTags by one tag after another.
func eachTag(tags []string, set func(tag string) error) error {
	for _, t := range tags {
		if err := set(t); err != nil {
			return err
		}
	}
	return nil
}
