// Package wiretest puts emulators of key services where an unmodified program finds them: behind a CONNECT proxy, under the
// services' own host names, with certificates of a CA made for the test.
package wiretest

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
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

// A World is a network of emulators.
type World struct {
	// CAFile is the PEM file of the CA that all servers have certificates of.
	CAFile string
	// Proxy is the address of the CONNECT proxy, as http://127.0.0.1:PORT.
	Proxy string

	t       testing.TB
	ca      *certtest.Authority
	mu      sync.Mutex
	servers map[string]string // host, or .suffix of hosts, to address; "" says nothing
	asked   []string
	refused []string
	open    []net.Conn
	done    chan struct{}
}

// New starts a proxy that knows no host yet. It ends with the test.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{t: t, ca: certtest.Root("wiretest"), servers: map[string]string{}, done: make(chan struct{})}
	w.CAFile = filepath.Join(t.TempDir(), "wire-ca.pem")
	if err := os.WriteFile(w.CAFile, certtest.PEM(w.ca.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.HandlerFunc(w.connect))
	w.Proxy = proxy.URL
	t.Cleanup(func() {
		close(w.done)
		w.mu.Lock()
		for _, c := range w.open {
			_ = c.Close()
		}
		w.mu.Unlock()
		proxy.CloseClientConnections()
		proxy.Close()
	})
	return w
}

// Serve answers for host over TLS, with HTTP/2 (gRPC) and HTTP/1.1: an exact name, or a suffix that starts with a dot.
func (w *World) Serve(host string, h http.Handler) {
	w.t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	name := host
	if strings.HasPrefix(host, ".") {
		name = "*" + host
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{w.certificate(name)}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that clients break off are what some tests are about
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) }
	s.StartTLS()
	w.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	w.set(host, s.Listener.Addr().String())
}

// A connection is the key under which a request's context holds the connection that it came by.
type connection struct{}

// Cut breaks the connection by which a request came that a [World] serves, as when an answer is lost on its way.
func Cut(ctx context.Context) {
	if c, ok := ctx.Value(connection{}).(net.Conn); ok {
		_ = c.Close()
	}
}

// Silence makes host one that takes connections and never says a word.
func (w *World) Silence(host string) { w.set(host, "") }

// Remove makes host unknown: the proxy refuses it with 502.
func (w *World) Remove(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.servers, host)
}

func (w *World) set(host, address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers[host] = address
}

// Environ is what makes a program go through the proxy and trust the CA, and nothing and nobody else. Go ignores proxies for
// loopback addresses, so registries there are reached directly.
func (w *World) Environ() []string {
	return []string{"HTTPS_PROXY=" + w.Proxy, "https_proxy=" + w.Proxy, "NO_PROXY=", "no_proxy=",
		"SSL_CERT_FILE=" + w.CAFile, "SSL_CERT_DIR=/nonexistent",
		"AWS_EC2_METADATA_DISABLED=true", "GCE_METADATA_HOST=127.0.0.1:1"}
}

// Asked returns the hosts that were connected to, in order, with repetitions; Refused those that nobody serves.
func (w *World) Asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// Refused returns the hosts that were asked for and that nobody serves.
func (w *World) Refused() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.refused)
}

// certificate issues a server's certificate.
func (w *World) certificate(name string) tls.Certificate {
	key := certtest.Key("P-256")
	leaf := w.ca.Leaf(key.Public(), name, func(c *x509.Certificate) {
		c.DNSNames = []string{name}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, w.ca.Certificate.Raw}, PrivateKey: key}
}

func (w *World) lookUp(host string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, host)
	if address, ok := w.servers[host]; ok {
		return address, true
	}
	if i := strings.IndexByte(host, '.'); i >= 0 {
		if address, ok := w.servers[host[i:]]; ok {
			return address, true
		}
	}
	w.refused = append(w.refused, host)
	return "", false
}

func (w *World) connect(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(rw, "this proxy only connects", http.StatusMethodNotAllowed)
		return
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	address, ok := w.lookUp(host)
	if !ok {
		http.Error(rw, fmt.Sprintf("wiretest: nobody serves %s", host), http.StatusBadGateway)
		return
	}
	client, buffered, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	w.mu.Lock()
	w.open = append(w.open, client)
	w.mu.Unlock()
	defer func() { _ = client.Close() }()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	if address == "" {
		<-w.done
		return
	}
	server, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	splice(client, buffered.Reader, server)
}

// splice copies both ways until either end closes.
func splice(client net.Conn, fromClient *bufio.Reader, server net.Conn) {
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(server, fromClient); ended <- struct{}{} }()
	go func() { _, _ = io.Copy(client, server); ended <- struct{}{} }()
	<-ended
}
