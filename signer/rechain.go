package signer

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// RechainOptions of [PlanRechain].
type RechainOptions struct {
	AllowIdentityChange bool
	AllowShorter        bool
	Replace             bool      // delete the old one once the new one is listed
	Now                 time.Time // required
}

// A Verdict is what verifiers of one setting say.
type Verdict struct {
	Setting envelope.Setting `json:"setting"`
	Old     bool             `json:"old"`
	New     bool             `json:"new"`
	Both    bool             `json:"both"` // side by side: verifiers try the next
	OldWhy  string           `json:"oldWhy,omitempty"`
	NewWhy  string           `json:"newWhy,omitempty"`
}

// A Plan is one signature's new chain, checked and not yet written.
type Plan struct {
	Subject    digest.Digest           `json:"subject"`
	Signature  digest.Digest           `json:"signature"`     // the present signature manifest
	New        digest.Digest           `json:"new,omitempty"` // the new one: known before it is written
	Core       digest.Digest           `json:"core,omitempty"`
	Status     string                  `json:"status"`           // "planned", "unchanged", "skipped"; after Push "written", "there", "replaced", "old-left"
	Reason     string                  `json:"reason,omitempty"` // why skipped
	Detail     string                  `json:"detail,omitempty"`
	Identity   string                  `json:"identity"` // present leaf subject
	NewLeaf    string                  `json:"newIdentity,omitempty"`
	Changed    bool                    `json:"identityChanged"`
	Anchor     string                  `json:"anchorsAt,omitempty"` // subject of the new root when it is another certificate
	NowUntil   time.Time               `json:"nowUntil"`
	HoldsUntil time.Time               `json:"holdsUntil"`
	Chain      []certchain.Certificate `json:"chain,omitempty"`
	Verdicts   []Verdict               `json:"verifiers,omitempty"`
	Replace    bool                    `json:"replace,omitempty"`
	Warnings   []string                `json:"warnings,omitempty"`
	// unexported: what Push needs
	sig      registry.Signature
	envelope *envelope.Envelope
}

// Envelope returns the new envelope of a plan, nil when nothing is to be written.
func (p Plan) Envelope() *envelope.Envelope { return p.envelope }

// Proposed returns the signature as it will stand after Push, so that a policy may judge it before anything is written.
func (p Plan) Proposed() registry.Signature { panic("door") }

// Errors of PlanRechain are *Error with the codes leaf-key-differs, identity-changes, not-issued-by, chain-incomplete (and the certchain rules), ends-earlier, chain-is-signed,
// would-break-timestamp, signature-invalid.

// PlanRechain builds the new chain of sig from certs and the certificates already in it, and checks everything that DESIGN.md section 5 demands. It takes no key: it cannot sign.
// A chain that is the present one gives Status "unchanged".
func PlanRechain(sig registry.Signature, certs []*x509.Certificate, o RechainOptions) (Plan, error) {
	panic("door")
}

// Push writes the plan: the new envelope and manifest, read back through the listing; only then, with Replace, the old one is deleted. Killed anywhere, the artifact never has fewer verifying
// signatures than before, and the next run ends the same. A registry that cannot delete leaves the old one: Status "old-left", no error.
func (p Plan) Push(ctx context.Context, repo *registry.Repo) (Plan, error) { panic("door") }

// A RechainResult is what the command did with one reference.
type RechainResult struct {
	Reference string        `json:"reference"`
	Digest    digest.Digest `json:"digest"`
	Plans     []Plan        `json:"signatures"`
	DryRun    bool          `json:"dryRun,omitempty"`
	Warnings  []string      `json:"warnings,omitempty"`
}
