package registry

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// What is going to be attached is seen as if it were: listed once, found by digest, on additions too. Writes go to the
// place itself.
func TestWithAdditions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLayout(t)
	image := putImage(t, l, nil, "", "layer")
	if err := l.Tag(ctx, image, "1.0"); err != nil {
		t.Fatal(err)
	}
	there := putImage(t, l, &image.Descriptor, "application/spdx+json", "sbom that is there")
	elsewhere := newLayout(t)
	sbom := putImage(t, elsewhere, &image.Descriptor, "application/spdx+json", "sbom that comes")
	envelope := []byte("envelope")
	sig := ByArtifactType.Manifest(sbom.Descriptor, "application/jose+json", envelope, nil)

	view := WithAdditions(l,
		Addition{Subject: image.Descriptor, Manifest: there},
		Addition{Subject: image.Descriptor, Manifest: sbom, From: elsewhere},
		Addition{Subject: sbom.Descriptor, Manifest: sig, Blobs: map[digest.Digest][]byte{digest.FromBytes(envelope): envelope}},
	)
	n, skipped, err := view.Graph(ctx, image, GraphOptions{})
	if err != nil || len(skipped) != 0 {
		t.Fatal(err, skipped)
	}
	got := map[digest.Digest]int{}
	for at := range n.All {
		got[at.Manifest.Descriptor.Digest]++
	}
	want := map[digest.Digest]int{}
	for _, m := range []Manifest{image, there, sbom, sig} {
		want[m.Descriptor.Digest] = 1
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the graph: -want +got:\n%s", d)
	}
	if list, err := view.Referrers(ctx, image.Descriptor, "application/spdx+json"); err != nil || len(list) != 2 || list[0].Digest != there.Descriptor.Digest {
		t.Errorf("listed: %v, %v", list, err)
	}
	sigs, err := view.Signatures(ctx, sbom.Descriptor)
	if err != nil || len(sigs) != 1 || string(sigs[0].Envelope) != "envelope" {
		t.Errorf("signatures of the addition: %+v, %v", sigs, err)
	}
	p, err := sbom.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := view.ReadBlob(ctx, p.Layers[0], 100); err != nil || string(b) != "sbom that comes" {
		t.Errorf("a blob of From: %q, %v", b, err)
	}
	rc, err := view.BlobFrom(ctx, described("application/jose+json", envelope), 3)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(rc); err != nil || string(b) != "elope" {
		t.Errorf("from an offset on: %q, %v", b, err)
	}
	_ = rc.Close()
	absent := described("application/octet-stream", []byte("absent"))
	if has, err := view.HasBlob(ctx, absent); err != nil || has {
		t.Errorf("absent: %v, %v", has, err)
	}
	for _, d := range []Manifest{sbom, sig, image} {
		if has, err := view.HasManifest(ctx, d.Descriptor); err != nil || !has {
			t.Errorf("%s: %v, %v", d.Descriptor.Digest, has, err)
		}
	}
	if _, err := view.Blob(ctx, absent); !errors.Is(err, ErrNotFound) {
		t.Errorf("an absent blob: %v", err)
	}

	// The place itself knows nothing of it; what is written to the view is written there.
	if list, err := l.Referrers(ctx, image.Descriptor, ""); err != nil || len(list) != 1 {
		t.Errorf("the layout lists %v, %v", list, err)
	}
	if has, err := l.HasManifest(ctx, sbom.Descriptor); err != nil || has {
		t.Errorf("the layout has it: %v, %v", has, err)
	}
	if err := view.Tag(ctx, image, "2.0"); err != nil {
		t.Fatal(err)
	}
	if d, err := l.Tagged(ctx, "2.0"); err != nil || d != image.Descriptor.Digest {
		t.Errorf("a tag: %s, %v", d, err)
	}
	if underlying(WithAdditions(view).store) != l.store {
		t.Error("a view of a view is of something else")
	}
}

// An addition whose bytes are not what its descriptor says is not believed.
func TestWithAdditionsChecksDigests(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLayout(t)
	image := putImage(t, l, nil, "", "layer")
	sig := ByArtifactType.Manifest(image.Descriptor, "application/jose+json", []byte("envelope"), nil)
	other := sig
	other.Bytes = []byte("{}")
	d := described("application/jose+json", []byte("envelope"))
	view := WithAdditions(l, Addition{Subject: image.Descriptor, Manifest: other, Blobs: map[digest.Digest][]byte{d.Digest: []byte("enveloqe")}})
	if _, err := view.Manifest(ctx, sig.Descriptor); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := view.ReadBlob(ctx, d, 100); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("blob: %v", err)
	}
}
