package cmd

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// untagged pushes a manifest that no tag names: an image, or what refers to subject.
func (f *fleet) untagged(path, seed string, subject *ocispec.Descriptor) ocispec.Descriptor {
	f.t.Helper()
	repo, ctx, empty := f.repo(path), context.Background(), ocispec.DescriptorEmptyJSON
	if err := repo.PushBytes(ctx, empty, empty.Data); err != nil {
		f.t.Fatal(err)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config:  ocispec.Descriptor{MediaType: empty.MediaType, Digest: empty.Digest, Size: empty.Size},
		Layers:  []ocispec.Descriptor{{MediaType: empty.MediaType, Digest: empty.Digest, Size: empty.Size}},
		Subject: subject, Annotations: map[string]string{"seed": seed},
	}
	m.ArtifactType = "application/vnd.acme.image"
	if subject != nil {
		m.ArtifactType = "application/spdx+json"
	}
	b, err := json.Marshal(m)
	if err != nil {
		f.t.Fatal(err)
	}
	manifest := registry.NewManifest(ocispec.MediaTypeImageManifest, b)
	if subject == nil {
		err = repo.PushManifest(ctx, manifest)
	} else {
		err = repo.Attach(ctx, *subject, manifest)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return manifest.Descriptor
}

// TestAllReaches: rechain, timestamp and prune --all come by signatures on an index, on its platform images, on their SBOMs, and on what
// only a fallback tag leads to; what nothing leads to they leave, and say so, in text and in JSON.
func TestAllReaches(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, kind)
			where := f.server.Host + "/app"
			amd64 := f.untagged("app", "amd64", nil)
			sbom := f.untagged("app", "sbom", &amd64)
			lost := f.untagged("app", "lost", nil)
			child := amd64
			child.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
			b, err := json.Marshal(ocispec.Index{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child},
			})
			if err != nil {
				t.Fatal(err)
			}
			index := registry.NewManifest(ocispec.MediaTypeImageIndex, b)
			repo := f.repo("app")
			if err := repo.PushManifest(t.Context(), index); err != nil {
				t.Fatal(err)
			}
			if err := repo.Tag(t.Context(), index, "1.0"); err != nil {
				t.Fatal(err)
			}
			reached := []ocispec.Descriptor{index.Descriptor, amd64, sbom}
			for _, d := range append(reached, lost) {
				f.signed("app", d, "release", envelope.JWS, false)
			}
			// Without the referrers API the signature itself has a tag that leads to its subject.
			unseen := []ocispec.Descriptor{lost}
			if kind == regtest.WithoutAPI {
				reached, unseen = append(reached, lost), nil
			}
			count := func(when string, of []ocispec.Descriptor, want int) {
				t.Helper()
				for _, d := range of {
					if n := len(f.listed("app", d)); n != want {
						t.Errorf("%s: %s has %d signatures, want %d", when, d.Digest, n, want)
					}
				}
			}
			const said = "digests that no tag, index or fallback tag leads to; give them with --batch"

			rechain := append([]string{"rechain", "--all", where}, f.chain()...)
			if plan := f.want(0, append(rechain, "--dry-run")...); !strings.Contains(flat(plan.out), said) {
				t.Errorf("the plan does not say what was not seen:\n%s", plan.out)
			}
			got := f.want(0, append(rechain, "-o", "json")...)
			if _, sum := got.rechained(t); !maps.Equal(got.statuses(t), map[string]int{"written": len(reached)}) || sum.NotSeen != said {
				t.Errorf("rechain: %v, not seen: %q", got.statuses(t), sum.NotSeen)
			}
			count("rechained", reached, 2)
			count("rechained", unseen, 1)
			if again := f.want(0, rechain...); strings.Count(again.out, "not seen: "+said) != 1 {
				t.Errorf("the text does not say what was not seen:\n%s", again.out)
			}

			prune := []string{"prune", "--all", where, "--yes", "-o", "json"}
			if _, sum := f.want(0, prune...).rechained(t); sum.NotSeen != said {
				t.Errorf("prune: not seen: %q", sum.NotSeen)
			}
			count("pruned", reached, 1)
			count("pruned", unseen, 1)

			url := f.tsa.Start()
			defer f.tsa.Stop()
			stamp := []string{"timestamp", "--all", where, "--timestamp-url", url, "--timestamp-roots", f.path("tsa.pem"), "--allow-private", "--replace", "-o", "json"}
			if _, sum := f.want(0, stamp...).rechained(t); sum.NotSeen != said {
				t.Errorf("timestamp: not seen: %q", sum.NotSeen)
			}
			for _, d := range reached {
				for _, c := range f.listed("app", d) {
					if _, err := c.VerifyTimestamp(f.tsa.Roots()); err != nil || !c.Chain[1].Equal(f.new.Certificate) {
						t.Errorf("%s: %v, chain to %s", d.Digest, err, c.Chain[1].Subject)
					}
				}
			}
			for _, d := range unseen {
				for _, c := range f.listed("app", d) {
					if len(c.Timestamp) > 0 || !c.Chain[1].Equal(f.old.Certificate) {
						t.Error("what nothing leads to was touched")
					}
				}
			}

			// Given by its digest it is reached.
			if got := f.want(0, "rechain", "--batch", f.file("lost", where+"@"+lost.Digest.String()), "--chain", f.path("new.pem"), "-o", "json"); len(unseen) > 0 && got.statuses(t)["written"] != 1 {
				t.Errorf("by its digest: %s", got.out)
			}
		})
	}
}
