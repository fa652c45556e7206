// Package azuretest emulates Azure Key Vault, Managed HSM and Entra ID on the wire, under the hosts of three clouds, with real keys:
// the challenge of an unauthenticated request, the token for a client secret, keys, signatures, certificate objects and the secrets
// behind them, and the errors with which each of them fails.
package azuretest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
)

// The operations that are counted and that faults are for.
const (
	Challenge      = "challenge"        // a request without a token, answered with 401
	Token          = "token"            // asked of Entra ID
	KeysGet        = "keys/get"         // with a token, as the following
	KeysSign       = "keys/sign"        //
	CertificateGet = "certificates/get" //
	SecretGet      = "secrets/get"      //
)

// The hosts that answer, by cloud: suffixes of vaults, suffixes of Managed HSMs, and Entra ID.
var clouds = []struct{ vault, hsm, login string }{
	{".vault.azure.net", ".managedhsm.azure.net", "login.microsoftonline.com"},
	{".vault.azure.cn", ".managedhsm.azure.cn", "login.chinacloudapi.cn"},
	{".vault.usgovcloudapi.net", ".managedhsm.usgovcloudapi.net", "login.microsoftonline.us"},
}

// A Server is one tenant with one application, and vaults. Every vault holds the same keys.
type Server struct {
	Tenant, Client, Secret string

	// Latency passes before a signature is answered.
	Latency time.Duration
	// RetryAfter is the header of that name in answers that say so; "" leaves it out.
	RetryAfter string
	// Resource replaces the resource of the challenge, as a vault that is none would.
	Resource string
	// Authority replaces the token service of the challenge.
	Authority string

	mu     sync.Mutex
	keys   map[string][]*Version // by name in lower case, newest last
	calls  map[string]int
	fault  func(op string, n int) Fault
	tokens map[string]string // to the resource that each is for
	agents map[string]bool
	done   chan struct{}
}

// A Version is a version of a key, and of the certificate and the secret beside it. Its fields may be changed before it is asked for.
type Version struct {
	ID        string // 32 hexadecimal digits
	Name      string // as it was created; names are matched in any case
	Signer    crypto.Signer
	Disabled  bool
	NotBefore time.Time
	Expires   time.Time
	Ops       []string // sign and verify, if there are none
	// Certificates are those of the certificate object, leaf first; without any there is no such object. Only the leaf is in it; all
	// of them are in the secret, after the private key if Exportable.
	Certificates []*x509.Certificate
	Exportable   bool
	// PFX: the secret is kept as PKCS #12, and converted only if the request asks for PEM and Converts.
	PFX, Converts bool
	// JWK changes the public key that is answered.
	JWK func(jwk map[string]any)
	// Object changes the certificate object, or the secret, that is answered.
	Object func(object map[string]any)
}

// New returns a server without keys. It ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		Tenant: "72f988bf-86f1-41af-91ab-2d7cd011db47", Client: "11111111-2222-3333-4444-555555555555", Secret: "canary-" + random(16),
		keys: map[string][]*Version{}, calls: map[string]int{}, tokens: map[string]string{}, agents: map[string]bool{}, done: make(chan struct{}),
	}
	t.Cleanup(func() { close(s.done) })
	return s
}

// Serve puts the server into a world, under the hosts of all clouds.
func (s *Server) Serve(w *wiretest.World) {
	for _, c := range clouds {
		w.Serve(c.vault, s.Vault())
		w.Serve(c.hsm, s.Vault())
		w.Serve(c.login, s.Login())
	}
}

// Environ is what makes a program log in as the application.
func (s *Server) Environ() []string {
	return []string{"AZURE_TENANT_ID=" + s.Tenant, "AZURE_CLIENT_ID=" + s.Client, "AZURE_CLIENT_SECRET=" + s.Secret,
		"AZURE_TOKEN_CREDENTIALS=EnvironmentCredential"}
}

// AddKey adds a version of a key, which is its newest from now on.
func (s *Server) AddKey(name string, signer crypto.Signer) *Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &Version{ID: random(16), Name: name, Signer: signer, Converts: true}
	s.keys[strings.ToLower(name)] = append(s.keys[strings.ToLower(name)], v)
	return v
}

// Calls counts the requests for an operation, faulty ones too.
func (s *Server) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Agents returns the user agents of all requests to vaults, each once.
func (s *Server) Agents() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.agents))
}

// Reset forgets the counts.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
}

// Fault has the function decide what goes wrong with the nth request for an operation, from 1.
func (s *Server) Fault(f func(op string, n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// count counts a request and returns what is to go wrong with it.
func (s *Server) count(op string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	if s.fault == nil {
		return None
	}
	return s.fault(op, s.calls[op])
}

// Edit runs f, which changes versions or the server's fields, between requests: none may be under way.
func (s *Server) Edit(f func()) {
	barrier := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	barrier()
	f() // which may call the server's methods
	barrier()
}

// find returns copies of a version of a key, the newest if none is named, and of the newest one.
func (s *Server) find(name, version string) (found, newest *Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.keys[strings.ToLower(name)] {
		served := *v
		newest = &served
		if version == v.ID {
			found = newest
		}
	}
	if version == "" {
		found = newest
	}
	return found, newest
}

// expire makes all tokens too old.
func (s *Server) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.tokens {
		s.tokens[token] = expired
	}
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// hold answers nothing until the client or the test ends.
func (s *Server) hold(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.done:
	}
}
