package registry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxNesting limits the depth of a manifest's JSON; real ones need six.
const maxNesting = 32

// The members that some reader of manifests gives a meaning to. Another spelling of one of them is read as that
// member by Go's encoding/json and ignored by others, so it is refused.
var (
	manifestMembers = []string{
		"schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject", "annotations",
		"fsLayers", "history", "signatures", "architecture", "name", "tag",
	}
	descriptorMembers = []string{"mediaType", "artifactType", "digest", "size", "urls", "annotations", "data", "platform"}
	platformMembers   = []string{"architecture", "os", "os.version", "os.features", "variant", "features"}
)

func ambiguous(format string, args ...any) error {
	return fail(codeAmbiguous, "%w: %w", ErrAmbiguous, fmt.Errorf(format, args...))
}

func malformed(format string, args ...any) error {
	return fail(codeMalformed, "%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// Parse reads the manifest strictly: duplicate or case-variant members, both manifests and layers, sizes that are not
// integers, or a body that states another media type than was served are ErrAmbiguous; anything else wrong is
// ErrMalformed. Schema 1 is ErrMalformed. An unknown media type is ShapeUnknown without error.
func (m Manifest) Parse() (Parts, error) {
	if len(m.Bytes) > MaxManifest {
		return Parts{}, fail(codeTooLarge, "manifest %s: %w: %d bytes", m.Descriptor.Digest, ErrTooLarge, len(m.Bytes))
	}
	p, err := parseManifest(m.Descriptor.MediaType, m.Bytes)
	if err != nil {
		return Parts{}, fmt.Errorf("manifest %s: %w", m.Descriptor.Digest, err)
	}
	return p, nil
}

func parseManifest(mediaType string, b []byte) (Parts, error) {
	shape := shapeOf(mediaType)
	switch {
	case mediaType == typeDockerSchema1 || mediaType == typeSignedSchema1:
		return Parts{}, malformed("it is a Docker schema 1 manifest, which cannot be signed or copied byte for byte; " +
			"push the image again with a current tool")
	case shape == ShapeUnknown:
		// Opaque; but bytes that call themselves something else are read differently by those who look inside.
		var body struct {
			MediaType string `json:"mediaType"`
		}
		if json.Unmarshal(b, &body) == nil && body.MediaType != "" && body.MediaType != mediaType {
			return Parts{}, ambiguous("it is served as %q and calls itself %q", mediaType, body.MediaType)
		}
		return Parts{Shape: ShapeUnknown}, nil
	}
	o, err := parseObject(b)
	if err != nil {
		return Parts{}, err
	}
	if err := o.spelling(manifestMembers); err != nil {
		return Parts{}, err
	}
	if err := checkShape(o, mediaType, shape); err != nil {
		return Parts{}, err
	}
	p := Parts{Shape: shape}
	if p.ArtifactType, err = o.text("artifactType"); err != nil {
		return Parts{}, err
	}
	if p.Annotations, err = o.annotations(); err != nil {
		return Parts{}, err
	}
	if p.Subject, err = o.descriptor("subject"); err != nil {
		return Parts{}, err
	}
	switch shape {
	case ShapeImage:
		if p.Config, err = o.descriptor("config"); err != nil {
			return Parts{}, err
		}
		if p.Config == nil {
			return Parts{}, malformed("an image manifest without config")
		}
		if p.ArtifactType == "" {
			p.ArtifactType = p.Config.MediaType
		}
		p.Layers, err = o.descriptors("layers")
	case ShapeArtifact:
		p.Layers, err = o.descriptors("blobs")
	case ShapeIndex:
		p.Manifests, err = o.descriptors("manifests")
	}
	if err != nil {
		return Parts{}, err
	}
	return p, nil
}

// checkShape checks that the members are those of the media type as served and of no other.
func checkShape(o object, mediaType, shape string) error {
	foreign := map[string][]string{
		ShapeImage:    {"manifests", "blobs", "fsLayers", "history", "signatures"},
		ShapeIndex:    {"layers", "config", "blobs", "fsLayers", "history", "signatures"},
		ShapeArtifact: {"manifests", "layers", "config", "fsLayers", "history", "signatures"},
	}[shape]
	for _, name := range foreign {
		if _, has := o[name]; has {
			return ambiguous("it is served as %q and has %q too", mediaType, name)
		}
	}
	stated, err := o.text("mediaType")
	if err != nil {
		return err
	}
	if stated != "" && stated != mediaType {
		return ambiguous("it is served as %q and calls itself %q", mediaType, stated)
	}
	if shape == ShapeArtifact {
		return nil
	}
	n, ok := o["schemaVersion"].(json.Number)
	if !ok || n != "2" {
		return malformed("schemaVersion is %v, not 2", o["schemaVersion"])
	}
	return nil
}

func parseDescriptor(o object) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	if err := o.spelling(descriptorMembers); err != nil {
		return d, err
	}
	var err error
	if d.MediaType, err = o.text("mediaType"); err != nil {
		return d, err
	}
	if d.MediaType == "" {
		return d, malformed("a descriptor without mediaType")
	}
	if d.ArtifactType, err = o.text("artifactType"); err != nil {
		return d, err
	}
	s, err := o.text("digest")
	if err != nil {
		return d, err
	}
	if d.Digest, err = parseDigest(s); err != nil {
		return d, malformed("%w", err)
	}
	if d.Size, err = parseSize(o["size"]); err != nil {
		return d, err
	}
	if d.Annotations, err = o.annotations(); err != nil {
		return d, err
	}
	if d.URLs, err = o.texts("urls"); err != nil {
		return d, err
	}
	data, err := o.text("data")
	if err != nil {
		return d, err
	}
	if data != "" {
		if d.Data, err = base64.StdEncoding.Strict().DecodeString(data); err != nil {
			return d, malformed("data: %w", err)
		}
	}
	if p, ok := o["platform"].(object); ok {
		if d.Platform, err = parsePlatform(p); err != nil {
			return d, err
		}
	} else if o["platform"] != nil {
		return d, malformed("platform is not an object")
	}
	return d, nil
}

// parseSize accepts what every JSON reader takes for the same integer: 1e3, 1.0 and "1000" are a thousand to some only.
func parseSize(v any) (int64, error) {
	if v == nil {
		return 0, malformed("a descriptor without size")
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, ambiguous("a descriptor's size is not a number")
	}
	if strings.ContainsAny(string(n), ".eE") {
		return 0, ambiguous("a descriptor's size is %s, not an integer", clip(string(n)))
	}
	size, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil || size < 0 || strings.HasPrefix(string(n), "-") {
		return 0, ambiguous("a descriptor's size is %s", clip(string(n)))
	}
	return size, nil
}

func parsePlatform(o object) (*ocispec.Platform, error) {
	if err := o.spelling(platformMembers); err != nil {
		return nil, err
	}
	var p ocispec.Platform
	for name, to := range map[string]*string{"architecture": &p.Architecture, "os": &p.OS, "os.version": &p.OSVersion, "variant": &p.Variant} {
		var err error
		if *to, err = o.text(name); err != nil {
			return nil, err
		}
	}
	var err error
	if p.OSFeatures, err = o.texts("os.features"); err != nil {
		return nil, err
	}
	return &p, nil
}
