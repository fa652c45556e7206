package copy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// choose returns what is to be copied: root, or its image for the platform that was asked for.
func (c *copier) choose(ctx context.Context, root registry.Manifest) (registry.Manifest, error) {
	parts, err := root.Parse()
	if err != nil || c.o.Platform == "" {
		return root, err
	}
	if parts.Shape == registry.ShapeImage {
		has, err := c.platformOf(ctx, parts)
		if err != nil {
			return root, err
		}
		if has != c.o.Platform && !strings.HasPrefix(has, c.o.Platform+"/") {
			return root, fail(codePlatform, "%w: %s is an image for %q, not %q", ErrPlatform, root.Descriptor.Digest, has, c.o.Platform)
		}
		return root, nil
	}
	var exact, wider []ocispec.Descriptor
	var names []string
	for _, d := range parts.Manifests {
		if d.Platform == nil {
			continue
		}
		name := platformName(*d.Platform)
		names = append(names, name)
		switch {
		case name == c.o.Platform:
			exact = append(exact, d)
		case strings.HasPrefix(name, c.o.Platform+"/"):
			wider = append(wider, d)
		}
	}
	if len(exact) == 0 {
		exact = wider
	}
	if len(exact) != 1 {
		return root, fail(codePlatform, "%w: %s has %d images for %q; it has %s", ErrPlatform, root.Descriptor.Digest, len(exact), c.o.Platform, strings.Join(names, ", "))
	}
	return c.src.Manifest(ctx, exact[0])
}

func platformName(p ocispec.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// platformOf reads the platform of an image from its configuration.
func (c *copier) platformOf(ctx context.Context, parts registry.Parts) (string, error) {
	b, err := c.src.ReadBlob(ctx, *parts.Config, maxConfig)
	if err != nil {
		return "", fmt.Errorf("reading the platform of an image: %w", err)
	}
	var p ocispec.Platform
	if err := json.Unmarshal(b, &p); err != nil {
		return "", fail(codePlatform, "%w: the configuration %s names none", ErrPlatform, parts.Config.Digest)
	}
	return platformName(p), nil
}
