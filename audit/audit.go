// Package audit surveys artifacts: what their signatures say, and until when they hold. It judges no trust.
package audit

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A Signature is what one signature says.
type Signature struct {
	Digest      digest.Digest             `json:"digest"`
	Core        digest.Digest             `json:"core,omitempty"`
	SameAs      []digest.Digest           `json:"sameAs,omitempty"` // other listed signatures with the same core id
	Newest      bool                      `json:"newest"`           // no other of the same core id supersedes it
	Supersedes  []digest.Digest           `json:"supersedes,omitempty"`
	Valid       bool                      `json:"matchesCertificate"` // its leaf's key signed it
	Reason      string                    `json:"reason,omitempty"`
	Detail      string                    `json:"detail,omitempty"`
	Format      string                    `json:"format,omitempty"` // jws, cose
	Algorithm   string                    `json:"algorithm,omitempty"`
	Scheme      string                    `json:"scheme,omitempty"`
	Agent       string                    `json:"agent,omitempty"`
	Identity    string                    `json:"identity,omitempty"`
	Covers      bool                      `json:"signsThisArtifact"` // its payload is the subject
	Claims      []string                  `json:"claims"`
	HasClaims   bool                      `json:"hasClaims"`
	Metadata    map[string]string         `json:"metadata,omitempty"` // other signed annotations
	SignedAt    *time.Time                `json:"signedAt,omitempty"`
	Expiry      *time.Time                `json:"expiry,omitempty"`
	Timestamp   *time.Time                `json:"timestamp,omitempty"`
	HoldsUntil  *time.Time                `json:"holdsUntil,omitempty"`
	FirstToEnd  string                    `json:"firstToEnd,omitempty"`
	Chain       []certchain.Certificate   `json:"chain,omitempty"`
	Verifiers   map[envelope.Setting]bool `json:"verifiers,omitempty"`   // what each setting says of it now
	Annotations map[string]string         `json:"annotations,omitempty"` // of the signature manifest
}

// An Inspection is everything that the signatures of an artifact say.
type Inspection struct {
	Reference  string             `json:"reference"`
	Digest     digest.Digest      `json:"digest"`
	Artifact   ocispec.Descriptor `json:"artifact"`
	What       string             `json:"what"` // "index, 2 platforms"
	Signatures []Signature        `json:"signatures"`
	Referrers  map[string]int     `json:"referrers,omitempty"` // other referrers by artifact type
	Now        time.Time          `json:"now"`
}

// Inspect reads all signatures of the artifact. It never says "trusted".
func Inspect(ctx context.Context, repo *registry.Repo, ref registry.Reference, root registry.Manifest, now time.Time) (Inspection, error) {
	panic("door")
}

// A Branch is a manifest in a tree.
type Branch struct {
	What         string             `json:"what"` // "index, 2 platforms", "linux/amd64", "signature", or the artifact type
	Role         string             `json:"role"` // root, child, referrer
	Descriptor   ocispec.Descriptor `json:"descriptor"`
	ArtifactType string             `json:"artifactType,omitempty"`
	Detail       string             `json:"detail,omitempty"` // of a signature: identity and until when it holds
	Children     []Branch           `json:"children,omitempty"`
	Referrers    []Branch           `json:"referrers,omitempty"`
}

// A Tree is an artifact and all that refers to it.
type Tree struct {
	Reference string             `json:"reference"`
	Root      Branch             `json:"root"`
	Skipped   []registry.Skipped `json:"skipped,omitempty"`
	Now       time.Time          `json:"now"`
}

// Survey builds the tree.
func Survey(ctx context.Context, repo *registry.Repo, ref registry.Reference, root registry.Manifest, now time.Time) (Tree, error) {
	panic("door")
}

// What describes an artifact to people: "image linux/amd64", "index, 2 platforms", or its artifact type.
func What(p registry.Parts) string { panic("door") }

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string { panic("door") }
