package trust

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A stage is how far a signature got, in the order of P9.
type stage int

const (
	atReading stage = iota
	atEnvelope
	atPayload
	atChain
	atRoot
	atKind
	atIdentity
	atAlgorithm
	atExpiry
	atCertificates
	atRevocation
	atAge
	atClaims
	atUnknown // all else holds; whether it was revoked could not be found out
	passed
)

// A finding is what is said of one signature.
type finding struct {
	Judged
	stage   stage
	trusted bool    // a root that the scope trusts stands in the chain
	sound   bool    // it is for this artifact, by a chain that may be looked at
	key     string  // that signed
	trials  []trial // by each entry whose root stands in the chain
}

// endOfDelegation is what ends first where the delegation document does.
const endOfDelegation = "delegation"

// conclude takes down what became of a signature that each of its entries judged.
func (f *finding) conclude(of rule) {
	best := slices.MinFunc(f.trials, better)
	f.stage, f.Root, f.Reason, f.Detail = best.stage, best.root, best.code, best.detail
	f.Timestamp, f.Revocation = best.stamp, best.revocation
	f.Accepted, f.Undetermined = best.stage == passed, best.stage == atUnknown
	if !f.Accepted {
		return
	}
	endless := false
	for _, t := range f.trials {
		if t.stage != passed {
			continue
		}
		f.accept(t, of == ruleRequire)
		if t.endless && !endless {
			endless, f.Timestamp = true, t.stamp
		}
	}
	slices.SortFunc(f.AcceptedBy, func(a, b Acceptance) int {
		return cmp.Or(strings.Compare(a.Root, b.Root), cmp.Compare(truth(a.Delegated), truth(b.Delegated)))
	})
	if endless {
		f.HoldsUntil, f.FirstToEnd = f.Expiry, ""
		if f.Expiry != nil {
			f.FirstToEnd = "expiry"
		}
	}
}

// endsWith takes down that a signature which is accepted by what a document grants alone is so no longer than the document holds.
func (f *finding) endsWith(d *Delegation) {
	own := func(a Acceptance) bool { return !a.Delegated }
	if !f.Accepted || d == nil || d.Expires == nil || slices.ContainsFunc(f.AcceptedBy, own) {
		return
	}
	if f.HoldsUntil == nil || d.Expires.Before(*f.HoldsUntil) {
		f.HoldsUntil, f.FirstToEnd = new(d.Expires.UTC()), endOfDelegation
	}
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// warnings are those of a signature that is accepted.
func (f *finding) warnings() []string {
	var out []string
	if f.BeyondSpec != "" {
		out = append(out, "beyond-spec: other verifiers accept this chain, and so does imprint without strict-x509: "+f.BeyondSpec)
	}
	return append(out, f.revocationWarnings()...)
}

// unique drops what stands twice and keeps the order.
func unique(texts []string) []string {
	var out []string
	for _, text := range texts {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// accept takes down that an entry of t's root accepts the signature.
func (f *finding) accept(t trial, grouped bool) {
	at := slices.IndexFunc(f.AcceptedBy, func(a Acceptance) bool { return a.Root == t.root && a.Delegated == t.granted })
	if at < 0 {
		at = len(f.AcceptedBy)
		f.AcceptedBy = append(f.AcceptedBy, Acceptance{Root: t.root, Delegated: t.granted})
	}
	if groups := &f.AcceptedBy[at].Groups; grouped && !slices.Contains(*groups, t.group+1) {
		*groups = append(*groups, t.group+1)
	}
}

// compare orders findings by core id, root and digest, so that a report does not depend on the registry's order; what
// has no core id comes last.
func compare(a, b finding) int {
	if (a.Core == "") != (b.Core == "") {
		return strings.Compare(string(b.Core), string(a.Core))
	}
	return cmp.Or(
		strings.Compare(string(a.Core), string(b.Core)),
		strings.Compare(a.Root, b.Root),
		strings.Compare(string(a.Digest), string(b.Digest)),
		strings.Compare(a.Reason, b.Reason),
		strings.Compare(a.Detail, b.Detail),
	)
}

// better puts the one first that got further; of equals always the same one, whatever the order of the entries.
func better(a, b trial) int {
	return cmp.Or(cmp.Compare(b.stage, a.stage), byRoot(a, b), strings.Compare(a.code, b.code), strings.Compare(a.detail, b.detail),
		compareStamps(a.stamp, b.stamp), compareRevocations(a.revocation, b.revocation))
}

func byRoot(a, b trial) int { return strings.Compare(a.root, b.root) }

// compareRevocations orders what was found out, so that of equal entries a report always tells the same.
func compareRevocations(a, b *Revocation) int {
	return strings.Compare(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b))
}

// malformed reports whether an error of reading says that the signature is wrong, and not that it could not be had.
// What is malformed or too large is so for everybody; bytes of another digest are not the signature that is listed.
func malformed(err error) (code string, ok bool) {
	if reasonOf(err, "") == codeMalformed {
		return codeMalformed, true
	}
	for _, is := range []error{registry.ErrMalformed, registry.ErrAmbiguous, registry.ErrTooLarge} {
		if errors.Is(err, is) {
			return reasonOf(err, codeMalformed), true
		}
	}
	return "", false
}

func reasonOf(err error, otherwise string) string {
	var r interface{ Reason() string }
	if errors.As(err, &r) {
		return r.Reason()
	}
	return otherwise
}

// describe takes down what a signature says. It is only called for what its leaf key signed.
func (j *Judged) describe(content envelope.Content) {
	j.Core = content.CoreID()
	j.Identity = certchain.NameOf(content.Chain.Leaf().RawSubject)
	j.Algorithm = content.Algorithm
	j.Claims, j.HasClaims, _ = content.Payload.Claims()
	for k, v := range content.Payload.Annotations {
		if k != envelope.ClaimsAnnotation {
			if j.Metadata == nil {
				j.Metadata = map[string]string{}
			}
			j.Metadata[k] = v
		}
	}
	if at := content.SignedAt(); !at.IsZero() {
		j.SignedAt = new(at.UTC())
	}
	first, until := content.Chain.HoldsUntil()
	j.FirstToEnd = certchain.NameOf(first.RawSubject)
	if !content.Expiry.IsZero() {
		j.Expiry = new(content.Expiry.UTC())
		if content.Expiry.Before(until) {
			until, j.FirstToEnd = content.Expiry, "expiry"
		}
	}
	j.HoldsUntil = new(until.UTC())
	j.Chain = content.Chain.Describe()
}
