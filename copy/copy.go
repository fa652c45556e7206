// Package copy moves artifacts with everything that refers to them.
package copy

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// Which referrers go along.
const (
	All        = "all"
	Signatures = "signatures" // Notary Project signatures, of the artifact and its children
	None       = "none"
)

// Options of [Artifact].
type Options struct {
	Tags      []string // to write last, in this order
	Move      []string // globs of tags that may leave the digest which holds them
	Referrers string   // All ("" too), Signatures or None
	Platform  string   // os/arch[/variant]: only this child of an index, which becomes the root that is copied
	Downgrade bool     // also bring chains that the destination has superseded
	DryRun    bool
	// Progress is told of each object once it is there; nil: nobody. It may be called concurrently.
	Progress func(what string, d ocispec.Descriptor, status string)
}

// A Result is what was copied, or with DryRun would be.
type Result struct {
	Source      string        `json:"source"`
	Destination string        `json:"destination"`
	Digest      digest.Digest `json:"digest"`
	MediaType   string        `json:"mediaType"`
	Tags        []TagResult   `json:"tags"`
	Images      int           `json:"images"`     // manifests that are not referrers
	Referrers   int           `json:"referrers"`  // not signatures
	Signatures  int           `json:"signatures"` // Notary Project signatures
	Blobs       int           `json:"blobs"`
	Bytes       int64         `json:"bytes"`   // to send (dry run) or sent
	Mounted     int64         `json:"mounted"` // bytes mounted instead of sent
	There       int           `json:"there"`   // manifests that the destination had
	Written     int           `json:"written"` // manifests written
	Objects     []Object      `json:"objects,omitempty"`
	DryRun      bool          `json:"dryRun,omitempty"`
	Warnings    []string      `json:"warnings,omitempty"`
}

// An Object is one manifest of the graph and what became of it.
type Object struct {
	What         string             `json:"what"` // image, index, signature, referrer
	ArtifactType string             `json:"artifactType,omitempty"`
	Subject      digest.Digest      `json:"subject,omitempty"`
	Descriptor   ocispec.Descriptor `json:"descriptor"`
	Status       string             `json:"status"` // "copied", "there", "planned", "superseded", "skipped"
	Reason       string             `json:"reason,omitempty"`
}

// A TagResult is one tag at the destination.
type TagResult struct {
	Tag    string        `json:"tag"`
	Was    digest.Digest `json:"was,omitempty"`
	Status string        `json:"status"` // "written", "there", "planned", "moved"
}

// Artifact copies root, which was resolved in src, with its children and all that refers to any of them, to dst: blobs, manifests by digest from the bottom up, referrers after
// their subject, and the tags last, once dst lists every referrer that was promised. Byte-exact; what is there is not sent again; nothing is deleted. A tag that would move without
// leave is refused before the first write (registry.ErrTagMoves, reason tag-moves). Killed anywhere, a second run ends as an undisturbed one.
func Artifact(ctx context.Context, dst, src *registry.Repo, root registry.Manifest, o Options) (Result, error) {
	panic("door")
}

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string { panic("door") }
