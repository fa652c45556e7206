// Package signer writes signatures: new ones with a key, and renewed chains on existing ones without.
package signer

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
)

var (
	// ErrClaimMoves: another digest under the claimed tag holds the claim by the same leaf subject (reason claim-moves). Nothing was written.
	ErrClaimMoves = errors.New("the claim moves")
	// ErrClaim: a claim that is not a tag or a qualified name, or metadata that may not be signed (reasons claim-invalid, metadata-invalid).
	ErrClaim = errors.New("invalid claim")
	// ErrClock: now lies outside the chain's validity, or the expiry is not ahead (reasons clock, expiry-invalid).
	ErrClock = errors.New("time")
)

// An Error carries a stable reason code.
type Error struct {
	Code string
	Err  error
}

func (e *Error) Error() string  { return e.Err.Error() }
func (e *Error) Unwrap() error  { return e.Err }
func (e *Error) Reason() string { return e.Code }

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string { panic("door") }

// Options of [Sign].
type Options struct {
	Format    envelope.Format // "" is JWS
	Claims    []string        // tags and qualified names; canonicalised and checked
	NoClaims  bool            // leave the annotation out everywhere
	Metadata  map[string]string
	Expiry    time.Duration // 0: none
	Recursive bool          // children, and referrers that are not signatures, too; they claim nothing ([])
	Again     bool          // sign although the same key signed the same payload
	Move      []string      // globs of claims that may leave the digest which holds them
	DryRun    bool          // all checks, no signature, no write
	Agent     string
	Now       time.Time // required
}

// A Signed is one artifact that Sign dealt with.
type Signed struct {
	What      string             `json:"what"` // "index, 2 platforms", "linux/amd64", "application/spdx+json of linux/amd64"
	Subject   ocispec.Descriptor `json:"subject"`
	Signature digest.Digest      `json:"signature,omitempty"` // of the signature manifest
	Status    string             `json:"status"`              // "new", "already-signed", "planned"
	Claims    []string           `json:"claims,omitempty"`
}

// A Result is what Sign did.
type Result struct {
	Reference  string                  `json:"reference"`
	Digest     digest.Digest           `json:"digest"`
	Identity   string                  `json:"identity"` // leaf subject
	Key        string                  `json:"key"`      // what the key calls itself
	Algorithm  string                  `json:"algorithm"`
	Format     string                  `json:"format"` // jws or cose
	Claims     []string                `json:"claims"`
	NoClaims   bool                    `json:"noClaims,omitempty"` // the annotation was left out
	Metadata   map[string]string       `json:"metadata,omitempty"`
	SignedAt   time.Time               `json:"signedAt"`
	Expiry     *time.Time              `json:"expiry,omitempty"`
	HoldsUntil time.Time               `json:"holdsUntil"` // earliest end of chain and expiry
	FirstToEnd string                  `json:"firstToEnd"` // subject of the certificate that ends first, or "expiry"
	Chain      []certchain.Certificate `json:"chain"`
	Signatures []Signed                `json:"signatures"`
	Written    int                     `json:"written"`
	There      int                     `json:"alreadySigned"`
	KeyCalls   int                     `json:"keyCalls"`
	DryRun     bool                    `json:"dryRun,omitempty"`
	Warnings   []string                `json:"warnings,omitempty"`
}

// Sign signs subject, which was resolved in repo, and pushes the signature as its referrer. All checks (chain, key, claims, already signed) come before the first use
// of the key, and each envelope is verified before anything is pushed. On an error Result says what was done.
func Sign(ctx context.Context, repo *registry.Repo, subject registry.Manifest, key kms.Key, chain certchain.Chain, o Options) (Result, error) {
	panic("door")
}

// CanonicalClaims checks and canonicalises claims: tags by the distribution grammar, qualified names (with a slash) by POLICY.md N2; sorted, unique.
func CanonicalClaims(tags, names []string) ([]string, error) { panic("door") }
