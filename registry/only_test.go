package registry

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestOnly: a layout with one artifact, whatever its names, parts and referrers, needs no NAME; which of two is meant is never guessed.
func TestOnly(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c, err := NewClient(Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := c.Create(ctx, Reference{Kind: Layout, Path: t.TempDir()}, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	put := func(mediaType string, v any, tag string) Manifest {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		m := NewManifest(mediaType, b)
		err = repo.PushManifest(ctx, m)
		if err == nil {
			err = repo.Tag(ctx, m, tag)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	image := func(seed string, subject *ocispec.Descriptor, tag string) Manifest {
		return put(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			ArtifactType: "application/vnd.example", Config: ocispec.DescriptorEmptyJSON,
			Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"seed": seed}, Subject: subject,
		}, tag)
	}
	if _, err := repo.Only(ctx); !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty layout: %v", err)
	}
	child := image("child", nil, "") // listed by itself too, as oras does
	index := put(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child.Descriptor},
	}, "1.0")
	if err := repo.Tag(ctx, index, "latest"); err != nil {
		t.Fatal(err)
	}
	image("referrer", &index.Descriptor, "")
	image("referrer of a part", &child.Descriptor, "")
	if m, err := repo.Only(ctx); err != nil || m.Descriptor.Digest != index.Descriptor.Digest {
		t.Errorf("%s, %v", m.Descriptor.Digest, err)
	}
	image("another", nil, "2.0")
	if _, err := repo.Only(ctx); !errors.Is(err, ErrReference) || !strings.Contains(err.Error(), `"2.0"`) {
		t.Errorf("two artifacts: %v", err)
	}
	remote, err := c.Open(ctx, Reference{Kind: Remote, Host: "registry.example", Path: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Only(ctx); !errors.Is(err, ErrReference) {
		t.Errorf("a repository: %v", err)
	}
}
