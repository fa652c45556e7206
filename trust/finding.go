package trust

import (
	"cmp"
	"errors"
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
	atAge
	atClaims
	passed
)

// A finding is what is said of one signature.
type finding struct {
	Judged
	stage   stage
	trusted bool // the chain ends in a root that the scope trusts
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

// better chooses the one that got further; of equals always the same one, whatever the order of the entries.
func better(a, b finding) bool {
	return cmp.Or(cmp.Compare(b.stage, a.stage), strings.Compare(a.Root, b.Root), strings.Compare(a.Reason, b.Reason), strings.Compare(a.Detail, b.Detail), compareStamps(a.Timestamp, b.Timestamp)) < 0
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
