// Package regtest runs real registries in this process for tests, the demo and the benchmark: one with the referrers API,
// one without, each behind a recorder that counts requests, adds latency, bounds bandwidth and breaks connections. A
// [Trace] records several on one clock. Only these import it.
package regtest

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
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
	// WithAPIOnly is WithAPI without any shortcut: uploads take two requests, and a mount of what is not there opens one.
	WithAPIOnly Kind = "with-api-only"
)

// Kinds are the first two, for tests that run against each.
var Kinds = []Kind{WithAPI, WithoutAPI}

// A Server is a running registry behind its recorder.
type Server struct {
	Host string // 127.0.0.1:port
	Kind Kind

	http *httptest.Server
	next http.Handler

	mu        sync.Mutex
	trace     *Trace
	latency   time.Duration
	page      int
	seen      int
	cutAt     int
	delivered bool
	intercept func(w http.ResponseWriter, r *http.Request) bool

	in, out link
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
	case WithAPIOnly:
		s.next = withoutShortcuts(ociserver.New(ocimem.New(), &ociserver.Options{DisableSinglePostUpload: true}))
	case WithoutAPI:
		s.next = distribution(configuration.Storage{"inmemory": configuration.Parameters{}})
	default:
		panic("regtest: no registry of kind " + string(kind))
	}
	return s.serve()
}

// StartFiles runs a registry of the kind WithoutAPI that keeps what it holds in a folder instead of in memory.
func StartFiles(dir string) *Server {
	return (&Server{Kind: WithoutAPI, next: distribution(configuration.Storage{"filesystem": configuration.Parameters{"rootdirectory": dir}})}).serve()
}

// Serve runs any handler behind a recorder: registries that lie.
func Serve(t testing.TB, h http.Handler) *Server {
	t.Helper()
	s := (&Server{Kind: "custom", next: h}).serve()
	t.Cleanup(s.Close)
	return s
}

func (s *Server) serve() *Server {
	s.trace = NewTrace()
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
	// Before it serves: a client of a server that had the same port before may be the first to come.
	s.Host = s.http.Listener.Addr().String()
	s.http.Start()
	return s
}

// Handler returns the registry without its recorder.
func (s *Server) Handler() http.Handler { return s.next }

// Close stops the registry.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

func distribution(storage configuration.Storage) http.Handler {
	logrus.SetOutput(io.Discard)
	storage["delete"] = configuration.Parameters{"enabled": true}
	storage["maintenance"] = configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}}
	c := &configuration.Configuration{Version: "0.1", Storage: storage}
	c.Catalog.MaxEntries = 1000 // its default, where it reads a file
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

// Bandwidth bounds the bytes of bodies that pass in each direction from now on, of all connections together; 0 ends that.
func (s *Server) Bandwidth(bytesPerSecond int64) {
	s.in.set(bytesPerSecond)
	s.out.set(bytesPerSecond)
}

// Record writes the requests from now on into a trace that other registries may share. Requests, Count, Writes and
// RoundTrips of the server then tell of its own share of it.
func (s *Server) Record(t *Trace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = t
}

func (s *Server) recording() *Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trace
}

// Reset forgets the requests recorded so far, and a cut.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.cutAt = 0, 0
	s.trace.forget(s.Host)
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

// Requests returns what was recorded, in the order of beginnings.
func (s *Server) Requests() []Request {
	return slices.DeleteFunc(s.recording().Requests(), func(r Request) bool { return r.Server != s.Host })
}

// Count returns the number of recorded requests for which match is true; nil counts all.
func (s *Server) Count(match func(Request) bool) int { return s.recording().Count(s.Host, match) }

// Writes counts PUT, POST, PATCH and DELETE.
func (s *Server) Writes() int { return s.Count(Request.Write) }

// RoundTrips is [Trace.RoundTrips] of this registry's requests alone.
func (s *Server) RoundTrips() int { return roundTrips(s.Requests()) }

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen++
	trace, latency, page, intercept := s.trace, s.latency, s.page, s.intercept
	cut, deliver := s.cutAt > 0 && s.seen >= s.cutAt, s.delivered && s.seen == s.cutAt
	s.mu.Unlock()

	record := trace.begin(Request{Server: s.Host, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone()})
	out := &recorder{ResponseWriter: w, via: &s.out}
	var in *countedBody
	if r.Body != nil && r.Body != http.NoBody {
		in = &countedBody{ReadCloser: r.Body, via: &s.in}
		r.Body = in
	}
	defer func() { trace.end(record, out, in) }()
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
	if page > 0 && (strings.HasSuffix(r.URL.Path, "/tags/list") || r.URL.Path == "/v2/_catalog") {
		query := r.URL.Query()
		query.Set("n", strconv.Itoa(page))
		r.URL.RawQuery = query.Encode()
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

// withoutShortcuts makes a mount of an absent blob open an upload, as zot, olareg and distribution do; ociserver
// answers 404.
func withoutShortcuts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !r.URL.Query().Has("mount") {
			next.ServeHTTP(w, r)
			return
		}
		mounted := httptest.NewRecorder()
		next.ServeHTTP(mounted, r)
		if mounted.Code == http.StatusCreated {
			maps.Copy(w.Header(), mounted.Header())
			w.WriteHeader(mounted.Code)
			return
		}
		open := r.Clone(r.Context())
		open.URL.RawQuery = ""
		next.ServeHTTP(w, open)
	})
}

// PageSize bounds how many names a page of the list of tags or of repositories has from now on, whatever is asked for; 0
// ends that.
func (s *Server) PageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.page = n
}
