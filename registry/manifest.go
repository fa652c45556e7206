package registry

import (
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types that image-spec has no constant for.
const (
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerSchema1  = "application/vnd.docker.distribution.manifest.v1+json"
	typeSignedSchema1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	// typeArtifact was the artifact manifest of image-spec 1.1's release candidates; it is still found in registries.
	typeArtifact = "application/vnd.oci.artifact.manifest.v1+json"
)

// A Manifest is the exact bytes of a manifest with their descriptor (media type as served, digest and size as computed).
type Manifest struct {
	Descriptor ocispec.Descriptor
	Bytes      []byte
}

// NewManifest describes bytes.
func NewManifest(mediaType string, b []byte) Manifest {
	return Manifest{
		Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))},
		Bytes:      b,
	}
}

// The shapes of a manifest.
const (
	ShapeImage    = "image"    // OCI image manifest or Docker schema 2
	ShapeIndex    = "index"    // OCI index or Docker manifest list
	ShapeArtifact = "artifact" // the OCI artifact manifest of image-spec 1.1's release candidates
	ShapeUnknown  = "unknown"  // any other media type: opaque
)

// shapeOf returns the shape that a media type promises.
func shapeOf(mediaType string) string {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, typeDockerManifest:
		return ShapeImage
	case ocispec.MediaTypeImageIndex, typeDockerList:
		return ShapeIndex
	case typeArtifact:
		return ShapeArtifact
	}
	return ShapeUnknown
}

// Parts are what a manifest refers to.
type Parts struct {
	Shape        string
	ArtifactType string // artifactType, else the configuration's media type of an image manifest
	Config       *ocispec.Descriptor
	Layers       []ocispec.Descriptor // layers, or blobs of an artifact manifest
	Manifests    []ocispec.Descriptor // of an index
	Subject      *ocispec.Descriptor
	Annotations  map[string]string
}

// Blobs returns configuration and layers.
func (p Parts) Blobs() []ocispec.Descriptor {
	blobs := make([]ocispec.Descriptor, 0, len(p.Layers)+1)
	if p.Config != nil {
		blobs = append(blobs, *p.Config)
	}
	return append(blobs, p.Layers...)
}

// PlatformName returns os/arch[/variant], or "" where there is no platform.
func PlatformName(p *ocispec.Platform) string {
	if p == nil {
		return ""
	}
	parts := []string{p.OS, p.Architecture}
	if p.Variant != "" {
		parts = append(parts, p.Variant)
	}
	return strings.Join(parts, "/")
}
