package audit

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

func notFound(d digest.Digest) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d.String()) {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}
}

// outline renders a tree in lines.
func outline(b Branch, depth int) string {
	line := fmt.Sprintf("%s%s: %s", strings.Repeat("  ", depth), b.Role, b.What)
	if b.Detail != "" {
		line += " (" + b.Detail + ")"
	}
	if b.Again {
		line += " again"
	}
	lines := []string{line}
	for _, c := range b.Children {
		lines = append(lines, outline(c, depth+1))
	}
	for _, r := range b.Referrers {
		lines = append(lines, outline(r, depth+1))
	}
	return strings.Join(lines, "\n")
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, kind)
			now := time.Now()
			amd64, arm64, attestation := p.image(t, "amd64"), p.image(t, "arm64"), p.image(t, "attestation")
			nested := p.index(t, on(amd64, "linux", "amd64"))
			index := p.index(t, on(amd64, "linux", "amd64"), on(arm64, "linux", "arm64"), on(attestation, "unknown", "unknown"), nested.Descriptor)
			sbom := p.attach(t, amd64, "application/spdx+json")
			end := now.Add(30 * 24 * time.Hour)
			root := certtest.Root("root")
			key := certtest.Key("P-256")
			chain := root.Chain(root.Leaf(key.Public(), "release", certtest.Valid(now.Add(-time.Hour), end)))
			for _, m := range []registry.Manifest{index, sbom} {
				p.attachEnvelope(t, m, envelope.JWS, sign(t, envelope.JWS, payloadOf(m, nil), key, chain, envelope.Options{SigningTime: now}).Bytes())
			}
			p.attachEnvelope(t, arm64, envelope.JWS, []byte("{}"))

			tree, err := Survey(t.Context(), p.Repo, p.ref.With("", index.Descriptor.Digest), index, now)
			must(t, err)
			got := outline(tree.Root, 0)
			malformed := tree.Root.Children[1].Referrers[0]
			if malformed.Reason != "envelope-malformed" {
				t.Errorf("the malformed signature: %+v", malformed)
			}
			signature := "referrer: signature (C=DE, ST=BE, O=Acme, CN=release, until " + end.UTC().Format(time.DateOnly) + ")"
			want := strings.Join([]string{
				"root: index, 2 platforms",
				"  child: linux/amd64",
				"    referrer: application/spdx+json",
				"      " + signature,
				"  child: linux/arm64",
				"    referrer: signature (" + malformed.Detail + ")",
				"  child: attestation",
				"  child: index, 1 platform",
				"    child: linux/amd64 again",
				"  " + signature,
			}, "\n")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			s := tree.Root.Referrers[0]
			if s.Identity != "C=DE, ST=BE, O=Acme, CN=release" || s.HoldsUntil == nil || !s.HoldsUntil.Equal(chain[0].NotAfter) || s.Reason != "" || s.ArtifactType != registry.ArtifactTypeSignature {
				t.Errorf("the signature: %+v", s)
			}
		})
	}
}

func TestSurveySkipsGhosts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, regtest.WithAPI)
	subject := p.image(t, "app")
	gone := p.attach(t, subject, "application/spdx+json").Descriptor.Digest
	bad := p.attachRaw(t, subject, []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"text/a","artifactType":"text/b","config":{"mediaType":"application/vnd.oci.empty.v1+json",`+
		`"digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`, ocispec.MediaTypeImageManifest, ocispec.DescriptorEmptyJSON.Digest,
		subject.Descriptor.MediaType, subject.Descriptor.Digest, subject.Descriptor.Size)))
	p.server.Intercept(notFound(gone))
	tree, err := Survey(t.Context(), p.Repo, p.ref, subject, time.Now())
	must(t, err)
	if len(tree.Skipped) != 1 || tree.Skipped[0].Descriptor.Digest != gone {
		t.Errorf("skipped %+v", tree.Skipped)
	}
	if len(tree.Root.Referrers) != 1 || tree.Root.Referrers[0].What != "malformed" || tree.Root.Referrers[0].Reason != "ambiguous-manifest" || tree.Root.Referrers[0].Descriptor.Digest != bad.Descriptor.Digest {
		t.Errorf("referrers %+v", tree.Root.Referrers)
	}
}

func TestWhat(t *testing.T) {
	t.Parallel()
	platform := func(os string) ocispec.Descriptor { return ocispec.Descriptor{Platform: &ocispec.Platform{OS: os}} }
	for want, p := range map[string]registry.Parts{
		"image":              {Shape: registry.ShapeImage, ArtifactType: "application/vnd.oci.image.config.v1+json"},
		"index, 2 platforms": {Shape: registry.ShapeIndex, Manifests: []ocispec.Descriptor{platform("linux"), platform("windows"), platform("unknown"), {}}},
		"index, 1 platform":  {Shape: registry.ShapeIndex, Manifests: []ocispec.Descriptor{platform("linux")}},
		"index, 0 manifests": {Shape: registry.ShapeIndex},
		"index, 1 manifest":  {Shape: registry.ShapeIndex, Manifests: []ocispec.Descriptor{{}}},
		"text/x":             {Shape: registry.ShapeIndex, ArtifactType: "text/x"},
		"text/y":             {Shape: registry.ShapeImage, ArtifactType: "text/y"},
		"signature":          {Shape: registry.ShapeImage, ArtifactType: registry.ArtifactTypeSignature},
		"artifact":           {Shape: registry.ShapeArtifact},
		"unknown":            {Shape: registry.ShapeUnknown},
	} {
		if got := What(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
