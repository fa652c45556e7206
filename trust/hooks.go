package trust

import (
	"context"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// A Revocation is what was found out of the revocation of a chain.
type Revocation struct {
	Status string `json:"status"`
}

const RevocationUnknown = "unknown"

func (c court) revocation(*revoking, certchain.Chain, bool, time.Time) (found *Revocation, code, detail string, ask bool) {
	return nil, "", "", false
}

// revoked says what is made of revocation, for a report.
func (p *Policy) revoked(*scope) string {
	if p.single {
		return "not checked: a root certificate alone asks for none"
	}
	return "not checked: the policy has no revocation section"
}

func (f *finding) revocationWarnings() []string { return nil }

func (s *Sources) revocations(context.Context, []question, time.Time) revocationEvidence {
	return revocationEvidence{}
}
