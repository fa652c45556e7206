package trust

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/registry"
)

// Verdicts of a report.
const (
	Accepted     = "accepted"
	Rejected     = "rejected"
	Undetermined = "undetermined" // a signature that could have satisfied the rule could not be fetched
)

// A Judged is one signature in a report.
type Judged struct {
	Digest     digest.Digest           `json:"digest"`
	Core       digest.Digest           `json:"core,omitempty"`
	Accepted   bool                    `json:"accepted"`
	Root       string                  `json:"root,omitempty"` // the policy's name of the accepting (or furthest) root
	Reason     string                  `json:"reason,omitempty"`
	Detail     string                  `json:"detail,omitempty"`
	Identity   string                  `json:"identity,omitempty"`
	Algorithm  string                  `json:"algorithm,omitempty"`
	Claims     []string                `json:"claims,omitempty"`
	HasClaims  bool                    `json:"hasClaims"`
	Metadata   map[string]string       `json:"metadata,omitempty"`
	SignedAt   *time.Time              `json:"signedAt,omitempty"`
	Expiry     *time.Time              `json:"expiry,omitempty"`
	HoldsUntil *time.Time              `json:"holdsUntil,omitempty"`
	FirstToEnd string                  `json:"firstToEnd,omitempty"`
	Chain      []certchain.Certificate `json:"chain,omitempty"`
	Malformed  bool                    `json:"malformed,omitempty"`
	Unfetched  bool                    `json:"unfetched,omitempty"`
}

// A Report is the verdict on one reference and what it rests on. Signatures are sorted so that it does not depend on the registry's order.
type Report struct {
	Reference    string        `json:"reference"`
	JudgedAs     string        `json:"judgedAs,omitempty"` // --as, or a layout's full name
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"mediaType"`
	Verdict      string        `json:"verdict"`
	Reason       string        `json:"reason,omitempty"` // code, unless accepted
	Detail       string        `json:"detail,omitempty"`
	Enforced     bool          `json:"enforced"`
	Scope        *ScopeInfo    `json:"scope,omitempty"`
	Revocation   string        `json:"revocation"` // "not checked: …"
	PolicyFile   string        `json:"policyFile,omitempty"`
	PolicyDigest string        `json:"policySha256,omitempty"`
	Signatures   []Judged      `json:"signatures"`
	Now          time.Time     `json:"now"`
	Warnings     []string      `json:"warnings,omitempty"`
}

// Passed reports whether the artifact may be used: accepted, or the scope does not enforce. It is the only place where success is decided.
func (r Report) Passed() bool { panic("door") }

// Judge judges the signatures that were found on subject. It is pure: no network, no clock, and the order of sigs means nothing. ref is what is judged (its tag is
// compared with claims); a signature with Err is reported, and never hides another.
func (p *Policy) Judge(ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature, now time.Time) Report {
	panic("door")
}

// Options of [Verify].
type Options struct {
	As  registry.Reference // judge as if it were there; zero: where it is
	Now time.Time          // required
}

// ErrAs: a layout or archive without a full name is judged by a policy only with As (reason as-required, exit 3).

// Verify resolves ref once in repo, reads all its signatures and judges them. The manifest that was judged is returned, so that callers go on with
// exactly these bytes. The error is of reading (and of what the caller handed in); verdicts are in the report.
func Verify(ctx context.Context, repo *registry.Repo, ref registry.Reference, policy *Policy, o Options) (Report, registry.Manifest, error) {
	panic("door")
}
