package trust

import (
	"context"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// Sources is where what neither the policy nor the signatures hold is asked for: revocation over the network, and delegation
// documents. One is made for a run, since it remembers what it was told. The zero value asks nobody.
type Sources struct {
	HTTP  *http.Client                                                      // revocation lists and responders; it decides which addresses may be asked. nil: nobody is
	Cache string                                                            // folder of revocation lists that were fetched; empty: none is kept
	Open  func(context.Context, registry.Reference) (*registry.Repo, error) // where delegation documents are; nil: nobody is asked
	Warn  func(code, message string)                                        // of what is worked without, as a cache; nil: nobody is told
	State string                                                            // file of the delegation documents that were seen (D8); empty: none is kept

	revocation revocationMemo
	delegation delegationMemo
}

// evidence is what was found out for one judgment. Judging stays a pure function of it.
type evidence struct {
	revocation revocationEvidence
	delegation delegationEvidence
}

// Examine judges as [Policy.Judge] does, and asks src for what the policy wants to know besides: revocation of chains that would
// be accepted otherwise, and the delegation document of the selected scope. The error is of ctx; what could not be found out is in
// the report.
func (p *Policy) Examine(ctx context.Context, ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature, now time.Time, src *Sources) (Report, error) {
	return p.examine(ctx, ref, subject, sigs, now, src, digest.Digest.String)
}

// maxRounds bounds what can follow from what was found out: revocation, then that of the authority whose timestamp may be from before it,
// the delegation document, both again for what it grants, and the last word.
const maxRounds = 6

func (p *Policy) examine(ctx context.Context, ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature, now time.Time, src *Sources,
	name func(digest.Digest) string) (Report, error) {
	if src == nil {
		src = &Sources{}
	}
	var known evidence
	var questions []question
	var report Report
	for range maxRounds {
		c := p.court(ref, subject, now, known)
		c.name = name
		var open asks
		report, open = p.judge(c, sigs)
		switch {
		case ctx.Err() != nil:
			return report, ctx.Err()
		case len(open.revocation) > 0:
			questions = append(questions, open.revocation...)
			known.revocation = src.revocations(ctx, questions, now)
		case open.document:
			known.delegation = src.document(ctx, p, c.scope, now)
		default:
			return report, nil
		}
	}
	return report, ctx.Err()
}
