package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	Undetermined = "undetermined" // what could have satisfied the rule could not be had: a signature, its revocation, a delegation
)

// A Judged is one signature in a report. What it says of itself is only there if its leaf key signed it; it is as
// signed, and not safe to print as it is.
type Judged struct {
	Digest     digest.Digest           `json:"digest"`
	Core       digest.Digest           `json:"core,omitempty"`
	Accepted   bool                    `json:"accepted"`
	AcceptedBy []Acceptance            `json:"acceptedBy,omitempty"` // sorted by root
	Root       string                  `json:"root,omitempty"`       // the policy's name of the first accepting (or the furthest) root
	Reason     string                  `json:"reason,omitempty"`
	Detail     string                  `json:"detail,omitempty"`
	Identity   string                  `json:"identity,omitempty"`
	Algorithm  string                  `json:"algorithm,omitempty"`
	Claims     []string                `json:"claims,omitempty"`
	HasClaims  bool                    `json:"hasClaims"`
	Metadata   map[string]string       `json:"metadata,omitempty"`
	SignedAt   *time.Time              `json:"signedAt,omitempty"`
	AgeSeconds *int64                  `json:"ageSeconds,omitempty"` // since then; below 0: the signer's clock is ahead
	Expiry     *time.Time              `json:"expiry,omitempty"`
	HoldsUntil *time.Time              `json:"holdsUntil,omitempty"` // nil where it is accepted: a timestamp keeps it beyond its chain
	FirstToEnd string                  `json:"firstToEnd,omitempty"` // subject of the certificate that ends first, "expiry" or "delegation"
	Timestamp  *Timestamp              `json:"timestamp,omitempty"`  // nil: it has none
	Revocation *Revocation             `json:"revocation,omitempty"` // nil: nothing was asked
	Chain      []certchain.Certificate `json:"chain,omitempty"`
	BeyondSpec string                  `json:"beyondSpec,omitempty"` // which of imprint's stricter rules for chains does not hold
	Reissued   string                  `json:"reissued,omitempty"`   // root of whose name and key, and not else, the chain's last certificate is
	Malformed  bool                    `json:"malformed,omitempty"`
	Unfetched  bool                    `json:"unfetched,omitempty"`
	// Undetermined: all else holds; whether it was revoked could not be found out.
	Undetermined bool `json:"undetermined,omitempty"`
}

// An Acceptance is a root that accepts a signature.
type Acceptance struct {
	Root      string `json:"root"`
	Delegated bool   `json:"delegated,omitempty"` // its key is granted by a delegation document
	Groups    []int  `json:"groups,omitempty"`    // of a rule "require", from 1
}

// A Report is the verdict on one reference and what it rests on. Signatures are sorted so that it does not depend on
// the registry's order.
type Report struct {
	Reference    string        `json:"reference"`
	JudgedAs     string        `json:"judgedAs,omitempty"` // --as, or a layout's full name
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"mediaType"`
	Verdict      string        `json:"verdict"`
	Reason       string        `json:"reason,omitempty"` // code, unless accepted
	Detail       string        `json:"detail,omitempty"`
	Enforced     bool          `json:"enforced"`
	Scope        *ScopeSummary `json:"scope,omitempty"`
	Revocation   string        `json:"revocation"` // "not checked: …"
	Timestamps   string        `json:"timestamps"` // what is made of them: "not looked at: …"
	Delegation   *Delegation   `json:"delegation,omitempty"`
	Groups       []Group       `json:"groups,omitempty"` // of a rule "require"
	PolicyFile   string        `json:"policyFile,omitempty"`
	PolicyDigest string        `json:"policySha256,omitempty"`
	Signatures   []Judged      `json:"signatures"`
	Now          time.Time     `json:"now"`
	Warnings     []string      `json:"warnings,omitempty"`
}

// Passed reports whether the artifact may be used: accepted, or the scope does not enforce. It is the only place
// where success is decided.
func (r Report) Passed() bool { return r.Verdict == Accepted || r.Scope != nil && !r.Enforced }

// Accepts reports whether the signature of that digest is accepted by a root. Of a rule that requires several it may be one.
func (r Report) Accepts(d digest.Digest) bool {
	return slices.ContainsFunc(r.Signatures, func(sig Judged) bool { return sig.Digest == d && sig.Accepted })
}

// Options of [Verify].
type Options struct {
	As  registry.Reference // judge as if it were there; zero: where it is
	Now time.Time          // required
	// Sources is where what neither policy nor signatures hold is asked for; nil: nobody is asked.
	Sources *Sources
}

// ErrAs: a layout or archive without a full name is judged by a policy only with As (reason as-required, exit 3), or
// As is no remote reference (as-invalid).
var ErrAs = errors.New("judging as if it were elsewhere")

type asError struct{ code, why string }

func (e *asError) Error() string        { return e.why }
func (e *asError) Is(target error) bool { return target == ErrAs }
func (e *asError) Reason() string       { return e.code }

// Verify resolves ref once in repo, reads all its signatures and judges them. The manifest that was judged is
// returned, so that callers go on with exactly these bytes. The error is of reading (and of what the caller handed
// in); verdicts are in the report.
func Verify(ctx context.Context, repo *registry.Repo, ref registry.Reference, policy *Policy, o Options) (Report, registry.Manifest, error) {
	judged, err := policy.judgedAs(ref, o.As)
	if err != nil {
		return Report{}, registry.Manifest{}, err
	}
	m, err := repo.Resolve(ctx, ref)
	if err != nil {
		return Report{}, registry.Manifest{}, err
	}
	parts, _ := m.Parse() // Resolve parsed it; what is unknown has no parts
	name := func(d digest.Digest) string { return nameIn(parts, d) }
	s := newSieve(func() court {
		c := policy.court(judged, m.Descriptor, o.Now, evidence{})
		c.name = name
		return c
	})
	sigs, err := repo.SignaturesBy(ctx, m.Descriptor, s.take)
	report, ctxErr := policy.examine(ctx, judged, m.Descriptor, sigs, o.Now, o.Sources, name)
	if ctxErr != nil {
		return Report{}, m, ctxErr
	}
	report.Reference = ref.String()
	if judged != ref {
		report.JudgedAs = judged.String()
	}
	if err != nil {
		if report.Reason != codeNoScope && report.Reason != codeRejected { // which no signature changes
			return Report{}, m, fmt.Errorf("listing signatures of %s: %w", m.Descriptor.Digest, err)
		}
		report.Warnings = append(report.Warnings, fmt.Sprintf("its signatures could not be listed: %v", err))
	}
	if report.Reason == codeUnsigned {
		if child := signedChild(ctx, repo, parts); child != "" {
			report.Detail = fmt.Sprintf("it has no signature; %s has, which does not cover the index", child)
		}
	}
	return report, m, nil
}

// judgedAs returns the reference by which ref is judged.
func (p *Policy) judgedAs(ref, as registry.Reference) (registry.Reference, error) {
	at := ref
	if full, ok := ref.FullName(); ok {
		at = full.With(full.Tag, ref.Digest)
	}
	if as != (registry.Reference{}) {
		if as.Kind != registry.Remote || as.Host == "" || as.Path == "" || as.Digest != "" {
			return at, &asError{codeAsInvalid, fmt.Sprintf("judging %s as %s: not HOST/REPO[:TAG]", ref, as)}
		}
		tag := at.Tag
		if as.Tag != "" {
			tag = as.Tag
		}
		return as.With(tag, ref.Digest), nil
	}
	if at.Kind != registry.Remote && !p.single {
		return at, &asError{codeAsRequired, fmt.Sprintf(
			"judging %s by a policy: its name is not HOST/REPO:TAG, so no scope can be selected: say where it belongs", ref)}
	}
	return at, nil
}

// nameIn names d as a person knows it who asked for the index that has parts.
func nameIn(parts registry.Parts, d digest.Digest) string {
	for _, child := range parts.Manifests {
		if child.Digest == d {
			return fmt.Sprintf("%s, which is %s of this index, not for the index", d, platform(child))
		}
	}
	return d.String()
}

func platform(child ocispec.Descriptor) string {
	if child.Platform == nil || child.Platform.OS == "" {
		return "a child"
	}
	return strings.ToValidUTF8(registry.PlatformName(child.Platform), "?")
}

// signedChild looks for a child of an unsigned index that is signed, so that a rejection can say what was signed
// instead. It is only a hint: errors are no news.
func signedChild(ctx context.Context, repo *registry.Repo, parts registry.Parts) string {
	const most = 16
	children := parts.Manifests[:min(len(parts.Manifests), most)]
	signed := make([]bool, len(children))
	var wait sync.WaitGroup
	for i, child := range children {
		wait.Go(func() {
			list, err := repo.Referrers(ctx, child, registry.ArtifactTypeSignature)
			signed[i] = err == nil && len(list) > 0
		})
	}
	wait.Wait()
	for i, child := range children {
		if signed[i] {
			return fmt.Sprintf("its %s (%s)", strings.TrimPrefix(platform(child), "a "), child.Digest)
		}
	}
	return ""
}
