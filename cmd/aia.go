package cmd

import (
	"context"
	"crypto/x509"
	"net/http"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/fetch"
)

// outside returns the client for what certificates point at and for time-stamping authorities: one for the run.
func (s *session) outside() *fetch.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reach == nil {
		s.reach = fetch.New(fetch.Options{
			AllowPrivate: s.network.allowPrivate,
			UserAgent:    agent(),
			Proxy:        http.ProxyFromEnvironment,
			RootCAs:      s.network.authorities(),
		})
	}
	return s.reach
}

// aia returns what finds issuers where certificates say that they are published: one for the run, which asks each address once.
func (s *session) aia() *certchain.AIA {
	client := s.outside()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issuers == nil {
		s.issuers = &certchain.AIA{Get: client.Get}
	}
	return s.issuers
}

// authorities returns whom https is believed, nil for the system's alone. A file that cannot be read adds nobody; who opens a
// registry with it says so.
func (n networkFlags) authorities() *x509.CertPool {
	if n.caFile == "" {
		return nil
	}
	pem, err := readAs(n.caFile, n.caFile, 4<<20)
	if err != nil {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(pem)
	return pool
}

// moreIssuers returns what the pointers of certs lead to, and warns of what went wrong on the way.
func (s *session) moreIssuers(ctx context.Context, certs []*x509.Certificate) []*x509.Certificate {
	found, warnings := s.aia().Complete(ctx, certs)
	for _, w := range warnings {
		s.warn("aia", w)
	}
	return found
}
