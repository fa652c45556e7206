package registry

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Manifest is the exact bytes of a manifest with their descriptor (media type as served, digest and size as computed).
type Manifest struct {
	Descriptor ocispec.Descriptor
	Bytes      []byte
}

// NewManifest describes bytes.
func NewManifest(mediaType string, b []byte) Manifest { panic("door") }

// The shapes of a manifest.
const (
	ShapeImage    = "image"    // OCI image manifest or Docker schema 2
	ShapeIndex    = "index"    // OCI index or Docker manifest list
	ShapeArtifact = "artifact" // the OCI artifact manifest (application/vnd.oci.artifact.manifest.v1+json)
	ShapeUnknown  = "unknown"  // any other media type: opaque
)

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
func (p Parts) Blobs() []ocispec.Descriptor { panic("door") }

// Parse reads the manifest strictly: duplicate or case-variant members, both manifests and layers, sizes that are not integers, or a body that states another
// media type than was served are ErrAmbiguous; anything else wrong is ErrMalformed. Schema 1 is ErrMalformed. An unknown media type is ShapeUnknown without error.
func (m Manifest) Parse() (Parts, error) { panic("door") }

// A Node is a manifest in a graph, with what it contains and what refers to it.
type Node struct {
	Manifest  Manifest
	Parts     Parts
	Malformed error   // why Parts are empty: it is carried as opaque bytes
	Role      string  // "root", "child" or "referrer"
	Platform  string  // os/arch[/variant] of a child, from the index
	Children  []*Node // in the index's order
	Referrers []*Node // in the order of their digests
}

// IsSignature reports whether the node is a Notary Project signature manifest.
func (n *Node) IsSignature() bool { panic("door") }

// All visits n and everything below it once, children and subjects first, so that each node comes after what it refers to.
func (n *Node) All(yield func(*Node) bool) { panic("door") }

// GraphOptions of [Repo.Graph].
type GraphOptions struct {
	NoReferrers bool
	// Referrer selects which referrers are followed, by the list's entry; nil: all.
	Referrer func(Referrer) bool
	// Child selects which entries of an index are followed; nil: all.
	Child func(ocispec.Descriptor) bool
}

// Graph reads root with its children and all that refers to any of them, level by level with all look-ups of a level in flight. Depth, number and
// cycles are bounded (MaxDepth, MaxReferrers, a set of digests): beyond a bound it is an error, not a part. A referrer whose own subject is another digest is left out and
// reported in skipped, with the reason.
func (r *Repo) Graph(ctx context.Context, root Manifest, o GraphOptions) (n *Node, skipped []Skipped, err error) {
	panic("door")
}

// Skipped is a referrer that was listed and is not one.
type Skipped struct {
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Reason     string             `json:"reason"`
	Detail     string             `json:"detail"`
}

// A Signature is a signature manifest found at a subject, with its envelope. Nothing is proved.
type Signature struct {
	Subject     ocispec.Descriptor // whose referrers list it stands in
	Descriptor  ocispec.Descriptor // of the signature manifest
	Manifest    Manifest
	Annotations map[string]string
	MediaType   string // of the envelope: its layer's, exactly as written
	Envelope    []byte
	// Err is why it could not be read: *Error with reason manifest-malformed, or one that wraps ErrUnavailable, ErrNotFound and the like. Then the fields above may
	// be empty, but for Subject and Descriptor.
	Err error
}

// Signatures lists and reads all signatures of subject, those that cannot be read with their Err. The error is of the listing only.
func (r *Repo) Signatures(ctx context.Context, subject ocispec.Descriptor) ([]Signature, error) {
	panic("door")
}

// ReadSignature reads one: manifest (one request), and envelope (none if inline, else one more).
func (r *Repo) ReadSignature(ctx context.Context, subject ocispec.Descriptor, ref Referrer) Signature {
	panic("door")
}

// SignatureManifest builds the manifest of a signature as DESIGN.md section 4 says, deterministically: empty config with inline data, one layer with inline data if the envelope
// is at most MaxInline bytes, subject (media type, digest, size only), annotations.
func SignatureManifest(subject ocispec.Descriptor, envelopeType string, envelope []byte, annotations map[string]string) Manifest {
	panic("door")
}

// PushSignature stores the envelope and the empty configuration (at the same time, fewest requests) and attaches the manifest that
// SignatureManifest built of them.
func (r *Repo) PushSignature(ctx context.Context, subject ocispec.Descriptor, m Manifest, envelope []byte) error {
	panic("door")
}
