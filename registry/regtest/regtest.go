// Package regtest runs real registries in this process for tests and the demo: one with the referrers API, one
// without, each behind a recorder that counts requests, adds latency and breaks connections. Only tests and the demo
// import it.
package regtest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/sirupsen/logrus"
)

// A Kind is a registry's implementation.
type Kind string

const (
	// WithAPI is cue-labs' ociserver over memory: referrers API, single-request uploads, DELETE.
	WithAPI Kind = "with-api"
	// WithoutAPI is CNCF distribution v3 over memory: no referrers API, no single-request uploads, DELETE.
	WithoutAPI Kind = "without-api"
)

// Kinds are both, for tests that run against each.
var Kinds = []Kind{WithAPI, WithoutAPI}

// A Request is one that the registry got.
type Request struct {
	Method, Path, Query string
	Header              http.Header
	Status              int // 0: the connection was cut
	Begin, End          time.Time
}

// A Server is a running registry behind its recorder.
type Server struct {
	Host string // 127.0.0.1:port
	Kind Kind

	http *httptest.Server
	next http.Handler

	mu        sync.Mutex
	requests  []*Request
	latency   time.Duration
	seen      int
	cutAt     int
	delivered bool
	intercept func(w http.ResponseWriter, r *http.Request) bool
}

// New runs a registry until the test ends.
func New(t testing.TB, kind Kind) *Server {
	t.Helper()
	s := Start(kind)
	t.Cleanup(s.Close)
	return s
}

// Start runs a registry on a free port of the loopback interface.
func Start(kind Kind) *Server {
	s := &Server{Kind: kind}
	switch kind {
	case WithAPI:
		s.next = ociserver.New(ocimem.New(), nil)
	case WithoutAPI:
		s.next = distribution()
	default:
		panic("regtest: no registry of kind " + string(kind))
	}
	return s.serve()
}

// Serve runs any handler behind a recorder: registries that lie.
func Serve(t testing.TB, h http.Handler) *Server {
	t.Helper()
	s := (&Server{Kind: "custom", next: h}).serve()
	t.Cleanup(s.Close)
	return s
}

func (s *Server) serve() *Server {
	s.http = httptest.NewServer(http.HandlerFunc(s.handle))
	s.Host = strings.TrimPrefix(s.http.URL, "http://")
	return s
}

// Handler returns the registry without its recorder.
func (s *Server) Handler() http.Handler { return s.next }

// Close stops the registry.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

func distribution() http.Handler {
	logrus.SetOutput(io.Discard)
	c := &configuration.Configuration{
		Version: "0.1",
		Storage: configuration.Storage{
			"inmemory": configuration.Parameters{},
			"delete":   configuration.Parameters{"enabled": true},
			"maintenance": configuration.Parameters{
				"uploadpurging": map[any]any{"enabled": false},
			},
		},
	}
	c.Log.Level = "panic"
	c.Log.AccessLog.Disabled = true
	c.HTTP.Secret = "a test's registry has no secrets"
	return handlers.NewApp(context.Background(), c)
}

// Latency adds a delay to each request from now on, once per request, as a distance would.
func (s *Server) Latency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// Reset forgets the requests recorded so far, and a cut.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.seen, s.cutAt = nil, 0, 0
}

// CutAt breaks the connection of the n-th request (from 1, counted from now) and of each one after it, as if the
// client had been killed there. delivered: the registry still acts on the n-th, only its answer is lost. n = 0 ends
// the cut.
func (s *Server) CutAt(n int, delivered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.cutAt, s.delivered = 0, n, delivered
}

// Intercept lets f answer requests instead of the registry where it returns true; nil ends that.
func (s *Server) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Requests returns what was recorded, in the order of their beginning.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.requests))
	for i, r := range s.requests {
		out[i] = *r
	}
	return out
}

// Count returns the number of recorded requests for which match is true; nil counts all.
func (s *Server) Count(match func(Request) bool) int {
	n := 0
	for _, r := range s.Requests() {
		if match == nil || match(r) {
			n++
		}
	}
	return n
}

// Writes counts PUT, POST, PATCH and DELETE.
func (s *Server) Writes() int {
	return s.Count(func(r Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead })
}

// RoundTrips returns the length of the longest chain of requests each of which began after the one before it had
// ended: how many the client waited for one after another. Give the registry a Latency of some 20 ms first, else
// requests that might overlap don't.
func (s *Server) RoundTrips() int {
	requests := s.Requests()
	longest := make([]int, len(requests))
	most := 0
	for i, r := range requests {
		longest[i] = 1
		for j := range i {
			if !requests[j].End.IsZero() && requests[j].End.Before(r.Begin) && longest[j] >= longest[i] {
				longest[i] = longest[j] + 1
			}
		}
		most = max(most, longest[i])
	}
	return most
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen++
	record := &Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Begin: time.Now()}
	s.requests = append(s.requests, record)
	latency, intercept := s.latency, s.intercept
	cut, deliver := s.cutAt > 0 && s.seen >= s.cutAt, s.delivered && s.seen == s.cutAt
	s.mu.Unlock()

	out := &recorder{ResponseWriter: w}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		record.End, record.Status = time.Now(), out.status
	}()
	if latency > 0 {
		time.Sleep(latency)
	}
	if cut && !deliver {
		hangUp(w)
		return
	}
	if cut {
		s.next.ServeHTTP(httptest.NewRecorder(), r)
		hangUp(w)
		return
	}
	if intercept != nil && intercept(out, r) {
		return
	}
	s.next.ServeHTTP(out, r)
}

func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}
