package copy

import (
	"bytes"
	"context"
	"errors"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// Who may push to the source may make ten thousand signatures of 1 MiB: what is read of them to be judged is bounded, and
// beyond that nothing is copied.
func TestHeldEnvelopes(t *testing.T) {
	t.Parallel()
	for most, want := range map[int64]error{100_000: nil, 99_999: registry.ErrTooLarge} {
		client, err := registry.NewClient(registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var repos [2]*registry.Repo
		for i := range repos {
			ref, err := registry.ParseReference("oci:" + t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if repos[i], err = client.Create(t.Context(), ref, registry.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		src, dst := repos[0], repos[1]
		root := registry.NewManifest(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`))
		if err := errors.Join(src.PushManifest(t.Context(), root), src.Tag(t.Context(), root, "v1")); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			envelope := bytes.Repeat([]byte{byte('0' + i)}, 50_000)
			m := registry.ByArtifactType.Manifest(root.Descriptor, "application/jose+json", envelope, nil)
			if err := src.PushSignature(t.Context(), root.Descriptor, m, envelope); err != nil {
				t.Fatal(err)
			}
		}
		seen := 0
		c := &copier{dst: dst, src: src, most: most, o: Options{Tags: []string{"v1"}, Review: func(ctx context.Context, g Graph) (Review, error) {
			all, err := g.Signatures(ctx, g.Root)
			seen = len(all)
			return Review{}, err
		}}}
		err = c.run(t.Context(), root)
		if !errors.Is(err, want) || want == nil && seen != 2 {
			t.Errorf("at most %d bytes: %d signatures, %v", most, seen, err)
		}
		if _, err := dst.Tagged(t.Context(), "v1"); (err == nil) != (want == nil) {
			t.Errorf("at most %d bytes: the tag: %v", most, err)
		}
	}
}
