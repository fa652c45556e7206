package audit

import (
	"crypto/x509"
	"slices"
	"sync"

	"github.com/imprint-oci/imprint/certchain"
)

// A shelf keeps each certificate once.
type shelf struct {
	mu  sync.Mutex
	all map[string]*Certificate
}

// keep puts a certificate on the shelf and returns its fingerprint.
func (s *shelf) keep(cert *x509.Certificate, use EndKind) string {
	print := certchain.Thumbprint(cert)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.all[print]
	if c == nil {
		described := Describe(cert)
		c = &described
		s.all[print] = c
	}
	if !slices.Contains(c.Uses, use) {
		c.Uses = append(c.Uses, use)
		slices.Sort(c.Uses)
	}
	return c.Thumbprint
}

// count counts a current signature at its certificates.
func (s *shelf) count(m *mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, print := range m.Chain {
		s.all[print].Signatures++
	}
	if m.Timestamp != nil {
		for _, print := range m.Timestamp.Chain {
			s.all[print].Signatures++
		}
	}
	if m.EndCert != "" {
		s.all[m.EndCert].Ending++
	}
}
