// Package vaulttest is the transit engine of Vault and OpenBao as they are on the wire: real keys, versions, mounts, namespaces and
// policies, with the statuses and texts that OpenBao v2.6.2 answered with.
package vaulttest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// The operations that are counted and that faults are for.
const (
	OpRead           = "read"
	OpSign           = "sign"
	OpRotate         = "rotate"
	OpConfig         = "config"
	OpCSR            = "csr"
	OpSetCertificate = "set-certificate"
)

// Root is a token that may do everything. It looks like a real one, so that a search for it in an output means something.
const Root = "hvs.CAESIKVaultTestCanaryRootTokenThatMustBeSeenNowhere0123456789"

// A Server is one server.
type Server struct {
	// URL is its address.
	URL string
	// CAFile is the PEM file of the CA of a server that speaks TLS, "" of one that does not.
	CAFile string

	http *httptest.Server

	mu      sync.Mutex
	latency time.Duration
	sealed  bool
	mounts  map[string]map[string]*transitKey // by path, namespace first
	tokens  map[string][]grant
	calls   map[string]int
	fault   func(op string, n int) Fault
	seen    []Seen
}

// A grant is a line of a policy.
type grant struct{ path, capability string }

// Seen is what is noted of a request.
type Seen struct {
	Method, Path, Namespace, Token, Agent string
}

// New starts a server without TLS, with a transit engine at the mount transit. It ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := newServer()
	s.http = httptest.NewUnstartedServer(s)
	s.http.Start()
	s.start(t)
	return s
}

// NewTLS starts a server with TLS.
func NewTLS(t testing.TB) *Server {
	t.Helper()
	s := newServer()
	ca, key := certtest.Root("vault test CA"), certtest.Key("P-256")
	leaf := ca.Leaf(key.Public(), "127.0.0.1", func(c *x509.Certificate) {
		c.IPAddresses = loopback()
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	s.CAFile = filepath.Join(t.TempDir(), "vault-ca.pem")
	if err := os.WriteFile(s.CAFile, certtest.PEM(ca.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	s.http = httptest.NewUnstartedServer(s)
	s.http.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	s.http.StartTLS()
	s.start(t)
	return s
}

func newServer() *Server {
	return &Server{
		mounts: map[string]map[string]*transitKey{"transit": {}},
		tokens: map[string][]grant{Root: {{"", ""}}},
		calls:  map[string]int{},
	}
}

func (s *Server) start(t testing.TB) {
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // aborted answers and refused handshakes are what tests are about
	s.URL = s.http.URL
	t.Cleanup(func() { s.http.CloseClientConnections(); s.http.Close() })
}

// Mount enables a transit engine at a path; a namespace goes before it.
func (s *Server) Mount(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounts[path] = map[string]*transitKey{}
}

// AddKey puts a key with these versions into the engine at transit.
func (s *Server) AddKey(name string, versions ...crypto.Signer) {
	s.AddKeyAt("transit", name, versions...)
}

// AddKeyAt is AddKey for the engine at a path.
func (s *Server) AddKeyAt(mount, name string, versions ...crypto.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &transitKey{name: name, kind: kindOf(versions[0])}
	for _, v := range versions {
		k.versions = append(k.versions, &version{signer: v})
	}
	s.mounts[mount][name] = k
}

// AddType puts a key of a type that makes no Notary Project signatures into the engine at transit, as aes256-gcm96.
func (s *Server) AddType(name, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounts["transit"][name] = &transitKey{name: name, kind: kind, versions: []*version{{}}}
}

// Rotate gives a key of the engine at transit a further version.
func (s *Server) Rotate(name string, signer crypto.Signer) {
	s.edit(name, func(k *transitKey) { k.versions = append(k.versions, &version{signer: signer}) })
}

// SetMinimum sets min_encryption_version.
func (s *Server) SetMinimum(name string, minimum int) {
	s.edit(name, func(k *transitKey) { k.minimum = minimum })
}

// SetAvailable puts away the versions before the given one.
func (s *Server) SetAvailable(name string, first int) {
	s.edit(name, func(k *transitKey) { k.available = first })
}

// SoftDelete marks a key as deleted.
func (s *Server) SoftDelete(name string) { s.edit(name, func(k *transitKey) { k.deleted = true }) }

// SetCertificates keeps a chain beside a version.
func (s *Server) SetCertificates(name string, version int, chain ...*x509.Certificate) {
	s.SetCertificateText(name, version, strings.TrimSpace(string(certtest.PEM(chain...))))
}

// SetCertificateText keeps any JSON value where the chain of a version belongs.
func (s *Server) SetCertificateText(name string, version int, chain any) {
	s.edit(name, func(k *transitKey) { k.versions[version-1].chain = chain })
}

// SetPublicKey answers with another text as the public key of a version.
func (s *Server) SetPublicKey(name string, version int, text string) {
	s.edit(name, func(k *transitKey) { k.versions[version-1].public = text })
}

func (s *Server) edit(name string, change func(*transitKey)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.mounts["transit"][name])
}

// Allow lets a token, new or not, do one thing: read or update a path.
func (s *Server) Allow(token, capability, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = append(s.tokens[token], grant{path, capability})
}

// Revoke makes a token unknown.
func (s *Server) Revoke(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, token)
}

// Seal seals the server.
func (s *Server) Seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
}

// Latency makes every answer take this long.
func (s *Server) Latency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// Fault has f decide what goes wrong at the nth call of an operation, n from 1. nil: nothing any more.
func (s *Server) Fault(f func(op string, n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Calls counts the requests for an operation, those that failed too.
func (s *Server) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Seen returns what was asked, in order.
func (s *Server) Seen() []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// Close makes the address one where nobody listens.
func (s *Server) Close() { s.http.CloseClientConnections(); s.http.Close() }

// note counts a request and says what goes wrong with it and how long it takes.
func (s *Server) note(op string, r *http.Request, namespace string) (Fault, time.Duration) {
	s.mu.Lock()
	s.seen = append(s.seen, Seen{r.Method, r.URL.EscapedPath(), namespace, r.Header.Get("X-Vault-Token"), r.UserAgent()})
	s.calls[op]++
	n, f, latency := s.calls[op], s.fault, s.latency
	s.mu.Unlock()
	if f == nil {
		return Fault{}, latency
	}
	return f(op, n), latency
}

// may reports whether the token is known, and whether it may.
func (s *Server) may(token, capability, path string) (known, may bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grants, known := s.tokens[token]
	for _, g := range grants {
		may = may || g.capability == "" || g.capability == capability && g.path == path
	}
	return known, may
}

// A call is a request as it is understood.
type call struct {
	token, path      string // path: namespace and mount included
	mount, op, key   string // op "": none that is known
	capability       string
	mounted, wrapped bool
	body             []byte
}

// understood reads a request to path: it is for the engine with the longest mount that fits.
func (s *Server) understood(r *http.Request, path string, body []byte) call {
	c := call{token: r.Header.Get("X-Vault-Token"), path: path, body: body, wrapped: r.Header.Get("X-Vault-Wrap-TTL") != ""}
	rest := ""
	s.mu.Lock()
	for m := range s.mounts {
		if after, found := strings.CutPrefix(path, m+"/"); found && len(m) >= len(c.mount) {
			c.mount, rest, c.mounted = m, after, true
		}
	}
	s.mu.Unlock()
	parts := strings.Split(rest, "/")
	write := r.Method == http.MethodPost || r.Method == http.MethodPut
	switch {
	case len(parts) == 2 && parts[0] == "keys" && r.Method == http.MethodGet:
		c.op, c.key, c.capability = OpRead, parts[1], "read"
	case len(parts) == 2 && parts[0] == "sign" && write:
		c.op, c.key, c.capability = OpSign, parts[1], "update"
	case len(parts) == 3 && parts[0] == "keys" && write && slices.Contains([]string{OpRotate, OpConfig, OpCSR, OpSetCertificate}, parts[2]):
		c.op, c.key, c.capability = parts[2], parts[1], "update"
	}
	return c
}

// An answer is a status with data, or with errors.
type answer struct {
	status int
	data   any
	errors []string
}

func refuse(status int, errors ...string) answer { return answer{status: status, errors: errors} }

// multi is how these servers write what comes out of their inside.
func multi(errors ...string) string {
	if len(errors) == 1 {
		return "1 error occurred:\n\t* " + errors[0] + "\n\n"
	}
	return fmt.Sprintf("%d errors occurred:\n\t* %s\n\n", len(errors), strings.Join(errors, "\n\t* "))
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	namespace := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/")
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok {
		s.write(w, refuse(http.StatusNotFound, "404 page not found"))
		return
	}
	if namespace != "" {
		path = namespace + "/" + path
	}
	c := s.understood(r, path, body)
	fault, latency := s.note(c.op, r, namespace)
	select {
	case <-time.After(latency):
	case <-r.Context().Done():
		return
	}
	switch {
	case fault.Effect == Silence:
		<-r.Context().Done()
		return
	case fault.Status != 0:
		s.writeFault(w, fault)
		return
	}
	a := s.answer(c, fault.Effect)
	if fault.Effect == Lost {
		panic(http.ErrAbortHandler)
	}
	s.write(w, a)
}

func (s *Server) answer(c call, effect Effect) answer {
	s.mu.Lock()
	sealed := s.sealed
	s.mu.Unlock()
	if sealed {
		return refuse(http.StatusServiceUnavailable, "Vault is sealed")
	}
	known, may := s.may(c.token, c.capability, c.path)
	switch {
	case c.token == "":
		return refuse(http.StatusForbidden, "permission denied")
	case !known:
		return refuse(http.StatusForbidden, multi("permission denied", "invalid token"))
	case !may:
		return refuse(http.StatusForbidden, multi("permission denied"))
	case !c.mounted:
		return refuse(http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", c.path))
	case c.op == "":
		return refuse(http.StatusNotFound, multi("unsupported path"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.mounts[c.mount][c.key].do(c, effect)
	if c.wrapped && a.status == http.StatusOK {
		a.data = nil // it is behind a wrapping token
	}
	return a
}

func (k *transitKey) do(c call, effect Effect) answer {
	switch c.op {
	case OpRead:
		return k.read()
	case OpSign:
		return k.sign(c.body, effect)
	case OpRotate:
		return k.rotate()
	case OpConfig:
		return k.config(c.body)
	case OpCSR:
		return k.csr(c.body)
	}
	return k.setCertificate(c.body)
}

func (s *Server) write(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(a.status)
	if a.status >= 400 {
		if a.errors == nil {
			a.errors = []string{}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": a.errors})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"request_id": "00000000-0000-0000-0000-000000000000", "lease_id": "", "renewable": false,
		"lease_duration": 0, "data": a.data, "wrap_info": nil, "warnings": nil, "auth": nil})
}
