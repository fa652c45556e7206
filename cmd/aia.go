package cmd

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

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

// aiaUsage is the help of --aia.
const aiaUsage = "fetch issuers that are missing or were renewed from where the certificates say"

// notFetched says what to do where an issuer is missing all the same.
const notFetched = "the warning says why it was not fetched; or add that issuer's certificate, up to the self-signed root, to the file"

// given is [session.givenChain] for commands that have --aia.
func (in signingFlags) given(ctx context.Context, s *session) (givenChain, error) {
	if !in.aia {
		return s.givenChain(in.chain, in.key.key)
	}
	return s.chainBy(func(g givenChain) (certchain.Chain, error) { return s.fetchedChain(ctx, g) }, givenChain{files: in.chain, aia: true}, in.key.key)
}

// fetchedChain completes the certificates of files by what they point at. Each of them must belong to the chain, or be what one that
// was fetched renews: what else stands in the files is as wrong as without fetching.
func (s *session) fetchedChain(ctx context.Context, g givenChain) (certchain.Chain, error) {
	pub, err := onlyLeaf(g.certs)
	if err != nil {
		return s.ordered(g) // it says what is wrong with them
	}
	found := s.moreIssuers(ctx, g.certs)
	chain, err := certchain.OrderFor(pub, slices.Concat(g.certs, found), s.now)
	if err != nil {
		err = fmt.Errorf("completing %s: %w", strings.Join(g.files, ", "), err)
		if errors.Is(err, certchain.ErrIncomplete) {
			return nil, misused(notFetched, err)
		}
		return nil, &handedIn{err}
	}
	for _, c := range g.certs {
		if !slices.ContainsFunc(chain, func(o *x509.Certificate) bool { return renews(o, c) }) {
			return nil, &handedIn{fmt.Errorf("completing %s: %w", strings.Join(g.files, ", "), &certchain.RuleError{
				Rule: "unrelated", Certificate: c, Why: "it does not belong to the chain of " + certchain.NameOf(chain.Leaf().RawSubject),
			})}
		}
	}
	s.warnFetchedRoot(chain, found)
	return chain, nil
}

// renews reports whether o is c, or an issuer that is what c is to those below: of the same name and key.
func renews(o, c *x509.Certificate) bool {
	return o.Equal(c) || c.IsCA && bytes.Equal(o.RawSubject, c.RawSubject) && bytes.Equal(o.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
}

// fetched returns the thumbprints of those of a chain that were found.
func fetched(chain certchain.Chain, found []*x509.Certificate) []string {
	var out []string
	for _, c := range chain {
		if slices.ContainsFunc(found, c.Equal) {
			out = append(out, certchain.Thumbprint(c))
		}
	}
	return out
}

// warnFetchedRoot says which root of a chain was found, since nothing but its fingerprint tells whose it is.
func (s *session) warnFetchedRoot(chain certchain.Chain, found []*x509.Certificate) {
	if root := chain.Root(); slices.ContainsFunc(found, root.Equal) {
		s.warn("aia-root", fmt.Sprintf("the root %s was fetched, and anybody on the way could have sent it: compare its fingerprint with what its owner publishes: sha256:%s",
			certchain.NameOf(root.RawSubject), certchain.Thumbprint(root)))
	}
}
