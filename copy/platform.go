package copy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// ForPlatform returns root's image for a platform (os/arch[/variant]): the child of an index, or root itself if it is
// that image. It is what is then judged and copied. ErrPlatform if there is none, or several.
func ForPlatform(ctx context.Context, src *registry.Repo, root registry.Manifest, platform string) (registry.Manifest, error) {
	parts, err := root.Parse()
	if err != nil {
		return root, err
	}
	if parts.Shape == registry.ShapeImage {
		has, err := platformOf(ctx, src, parts)
		if err != nil {
			return root, err
		}
		if has != platform && !strings.HasPrefix(has, platform+"/") {
			return root, fail(codePlatform, "%w: %s is an image for %q, not %q", ErrPlatform, root.Descriptor.Digest, has, platform)
		}
		return root, nil
	}
	var exact, wider []ocispec.Descriptor
	var names []string
	for _, d := range parts.Manifests {
		if d.Platform == nil {
			continue
		}
		name := registry.PlatformName(d.Platform)
		names = append(names, name)
		switch {
		case name == platform:
			exact = append(exact, d)
		case strings.HasPrefix(name, platform+"/"):
			wider = append(wider, d)
		}
	}
	if len(exact) == 0 {
		exact = wider
	}
	if len(exact) != 1 {
		return root, fail(codePlatform, "%w: %s has %d images for %q; it has %s",
			ErrPlatform, root.Descriptor.Digest, len(exact), platform, strings.Join(names, ", "))
	}
	return src.Manifest(ctx, exact[0])
}

// platformOf reads the platform of an image from its configuration.
func platformOf(ctx context.Context, src *registry.Repo, parts registry.Parts) (string, error) {
	b, err := src.ReadBlob(ctx, *parts.Config, maxConfig)
	if err != nil {
		return "", fmt.Errorf("reading the platform of an image: %w", err)
	}
	var p ocispec.Platform
	if err := json.Unmarshal(b, &p); err != nil {
		return "", fail(codePlatform, "%w: the configuration %s names none", ErrPlatform, parts.Config.Digest)
	}
	return registry.PlatformName(&p), nil
}
