package trust

import (
	"crypto/x509"
	"slices"
)

// TimestampRoots returns the roots of time-stamping authorities that the policy's sections "timestamps" name, each once; none where it
// has no such section. Whether one counts for a given signature is for [Policy.Judge] to say.
func (p *Policy) TimestampRoots() []*x509.Certificate {
	var out []*x509.Certificate
	for _, t := range p.stampings {
		for _, root := range t.roots {
			if !slices.ContainsFunc(out, root.Equal) {
				out = append(out, root)
			}
		}
	}
	return out
}
