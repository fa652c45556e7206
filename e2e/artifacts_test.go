package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	artifactManifestType = "application/vnd.oci.artifact.manifest.v1+json"
	spdxType             = "application/spdx+json"
)

// An artifact is a manifest with all that it needs, made without any code of imprint's.
type artifact struct {
	descriptor ocispec.Descriptor
	manifest   []byte
	blobs      []blob
	children   []artifact
	referrers  []artifact
}

type blob struct {
	descriptor ocispec.Descriptor
	b          []byte
}

func newArtifact(mediaType string, v any) artifact {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return artifact{descriptor: describe(mediaType, b), manifest: b}
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// image makes an image of one layer whose content is seed.
func image(seed string) artifact {
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	layer := []byte("layer of " + seed)
	c, l := describe(ocispec.MediaTypeImageConfig, config), describe(ocispec.MediaTypeImageLayerGzip, layer)
	a := newArtifact(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: c, Layers: []ocispec.Descriptor{l},
	})
	a.blobs = []blob{{c, config}, {l, layer}}
	return a
}

// index makes an index of two platforms, each with an SBOM that refers to it.
func index(seed string) artifact {
	m := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var children []artifact
	for _, arch := range []string{"amd64", "arm64"} {
		child := image(seed + " for " + arch)
		child.referrers = []artifact{sbom(child.descriptor, "what is in "+seed+" for "+arch)}
		entry := child.descriptor
		entry.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		m.Manifests = append(m.Manifests, entry)
		children = append(children, child)
	}
	a := newArtifact(ocispec.MediaTypeImageIndex, m)
	a.children = children
	return a
}

// sbom makes a referrer.
func sbom(subject ocispec.Descriptor, text string) artifact {
	l := describe(spdxType, []byte(text))
	a := newArtifact(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: spdxType,
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{l}, Subject: &subject,
	})
	empty := ocispec.DescriptorEmptyJSON
	empty.Data = nil
	a.blobs = []blob{{empty, []byte("{}")}, {l, []byte(text)}}
	return a
}

// artifactManifest makes an artifact of the manifest type that OCI 1.1 had for a while and stock verifiers still know.
func artifactManifest(seed string) artifact {
	l := describe("text/plain", []byte(seed))
	a := newArtifact(artifactManifestType, map[string]any{
		"mediaType": artifactManifestType, "artifactType": "application/vnd.example", "blobs": []ocispec.Descriptor{l},
	})
	a.blobs = []blob{{l, []byte(seed)}}
	return a
}

// client has connections of its own: a test server that closes ends the idle ones of everybody who uses http.DefaultTransport.
var client = &auth.Client{Client: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}

// opened opens HOST/REPO or oci:DIR with oras-go.
func opened(repo string) (oras.GraphTarget, error) {
	if dir, ok := strings.CutPrefix(repo, "oci:"); ok {
		return oci.New(dir)
	}
	r, err := remote.NewRepository(repo)
	if err != nil {
		return nil, err
	}
	r.Client = client
	r.PlainHTTP = true
	r.SkipReferrersGC = true
	return r, nil
}

// push stores a with all that belongs to it in HOST/REPO or oci:DIR, and tags it unless tag is empty.
func (a artifact) push(repo, tag string) error {
	target, err := opened(repo)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := a.store(ctx, target); err != nil {
		return err
	}
	if tag == "" {
		return nil
	}
	return target.Tag(ctx, a.descriptor, tag)
}

func (a artifact) store(ctx context.Context, target oras.GraphTarget) error {
	put := func(d ocispec.Descriptor, b []byte) error {
		if there, err := target.Exists(ctx, d); there || err != nil {
			return err
		}
		return target.Push(ctx, d, bytes.NewReader(b))
	}
	for _, b := range a.blobs {
		if err := put(b.descriptor, b.b); err != nil {
			return err
		}
	}
	for _, child := range a.children {
		if err := child.store(ctx, target); err != nil {
			return err
		}
	}
	if err := put(a.descriptor, a.manifest); err != nil {
		return err
	}
	for _, r := range a.referrers {
		if err := r.store(ctx, target); err != nil {
			return err
		}
	}
	return nil
}

// pushed is [artifact.push] for tests; it returns the reference by tag.
func pushed(t testing.TB, a artifact, repo, tag string) string {
	t.Helper()
	if err := a.push(repo, tag); err != nil {
		t.Fatalf("pushing to %s: %v", repo, err)
	}
	return repo + ":" + tag
}
