package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// recordSleep makes a client's waits instant, and returns what they would have been.
func recordSleep(c *Client) func() []time.Duration {
	var mu sync.Mutex
	var slept []time.Duration
	c.retry.sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		slept = append(slept, d)
		return ctx.Err()
	}
	return func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(slept)
	}
}

func indexBody(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`)
}

// What is tried again, how often, and what is not (F01–F03, F29).
func TestRetries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		statuses []int // of the answers, the last for ever; 0 breaks the connection, 200 is fine
		tries    int
		sentinel error
	}{
		{"fine", []int{200}, 1, nil},
		{"F03 alternating", []int{500, 502, 503, 200}, 4, nil},
		{"F03 for ever", []int{503}, 6, ErrUnavailable},
		{"F02 429 for ever", []int{429}, 6, ErrUnavailable},
		{"408 504", []int{408, 504, 200}, 3, nil},
		{"reset", []int{0, 0, 200}, 3, nil},
		{"reset for ever", []int{0}, 6, ErrUnavailable},
		{"400", []int{400, 200}, 1, ErrRefused},
		{"401", []int{401, 200}, 1, ErrUnauthorized},
		{"403", []int{403, 200}, 1, ErrUnauthorized},
		{"404", []int{404, 200}, 1, ErrNotFound},
		{"405", []int{405, 200}, 1, ErrUnsupported},
		{"409", []int{409, 200}, 1, ErrRefused},
		{"F29 413", []int{413, 200}, 1, ErrTooLarge},
		{"501", []int{501, 200}, 1, ErrUnsupported},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := int(tries.Add(1))
				status := test.statuses[min(n, len(test.statuses))-1]
				body, _ := io.ReadAll(r.Body)
				if r.Method == http.MethodPut && string(body) != "the manifest" {
					t.Errorf("try %d sent %q", n, body)
				}
				switch {
				case status == 0:
					panic(http.ErrAbortHandler)
				case status == 200 && r.Method == http.MethodGet:
					indexBody(w)
				default:
					w.WriteHeader(status)
				}
			}))
			for _, method := range []string{"read", "write", "delete"} {
				tries.Store(0)
				c := newTestClient(t, Options{})
				slept := recordSleep(c)
				r := openTest(t, c, s.Host, "app").store.(*remote)
				var err error
				switch method {
				case "read":
					_, _, err = r.manifest(t.Context(), "v1", "")
				case "write":
					err = r.pushManifest(t.Context(), Manifest{Descriptor: blobOf([]byte("the manifest")), Bytes: []byte("the manifest")})
				case "delete":
					_, err = r.exec(t.Context(), call{method: http.MethodDelete, path: "manifests/x", action: actionDelete})
				}
				if !errors.Is(err, test.sentinel) || err != nil && !strings.Contains(err.Error(), s.Host) {
					t.Errorf("%s: %v", method, err)
				}
				// net/http itself repeats a read on a connection that was broken while idle; those are not ours.
				if n := int(tries.Load()); n != test.tries && !slices.Contains(test.statuses, 0) || n < test.tries {
					t.Errorf("%s: %d tries", method, n)
				}
				for i, d := range slept() {
					if full := backoffBase << i; d < full/2 || d > full {
						t.Errorf("%s: pause %d was %s", method, i+1, d)
					}
				}
			}
		})
	}
}

func TestF01RetryAfter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, header string
		least, most  time.Duration
		ok           bool
	}{
		{"seconds", "2", 2 * time.Second, 2 * time.Second, true},
		{"shorter than our own", "0", backoffBase / 2, backoffBase, true},
		{"HTTP date", "in 90 s", 60 * time.Second, 90 * time.Second, true},
		{"date in the past", "Sun, 06 Nov 1994 08:49:37 GMT", backoffBase / 2, backoffBase, true},
		{"nonsense", "soon", backoffBase / 2, backoffBase, true},
		{"two minutes", "120", 2 * time.Minute, 2 * time.Minute, true},
		{"F02 more than two minutes", "121", 0, 0, false},
		{"F02 a day", "86400", 0, 0, false},
		{"F02 an age", "99999999999999999", 0, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first := true
			s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if !first {
					indexBody(w)
					return
				}
				first = false
				w.Header().Set("Retry-After", strings.Replace(test.header, "in 90 s", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat), 1))
				w.WriteHeader(http.StatusTooManyRequests)
			}))
			c := newTestClient(t, Options{})
			slept := recordSleep(c)
			_, _, err := openTest(t, c, s.Host, "app").store.manifest(t.Context(), "v1", "")
			if !test.ok {
				if !errors.Is(err, ErrUnavailable) || s.Count(nil) != 1 || len(slept()) != 0 {
					t.Errorf("%d tries, slept %v, %v", s.Count(nil), slept(), err)
				}
				return
			}
			if err != nil || len(slept()) != 1 || slept()[0] < test.least || slept()[0] > test.most {
				t.Errorf("slept %v, %v", slept(), err)
			}
		})
	}
}

// A Retry-After beyond the time that is left is not waited for.
func TestRetryAfterBeyondTimeout(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	c, err := NewClient(Options{Timeout: 50 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, _, err = openTest(t, c, s.Host, "app").store.manifest(t.Context(), "v1", "")
	if !errors.Is(err, ErrUnavailable) || time.Since(begin) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}

func TestF11NobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	_ = l.Close()
	for _, host := range []string{host, "no-such-host.invalid"} {
		c := newTestClient(t, Options{})
		slept := recordSleep(c)
		_, _, err = openTest(t, c, host, "app").store.manifest(t.Context(), "v1", "")
		if !errors.Is(err, ErrUnavailable) || reason(err) != "registry-unavailable" || !strings.Contains(err.Error(), host) {
			t.Error(err)
		}
		if len(slept()) != maxConnectTries-1 {
			t.Errorf("%s: %d pauses", host, len(slept()))
		}
	}
}

// An operation that is called off says so, and nothing else.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	_, _, err := openTest(t, newTestClient(t, Options{}), s.Host, "app").store.manifest(ctx, "v1", "")
	if !errors.Is(err, context.Canceled) || reason(err) != "" || s.Count(nil) != 1 {
		t.Errorf("%d requests, %v", s.Count(nil), err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	c := newTestClient(t, Options{Timeout: 50 * time.Millisecond})
	_, _, err := openTest(t, c, s.Host, "app").store.manifest(t.Context(), "v1", "")
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "in time") {
		t.Error(err)
	}
}

// At most PerHost requests are in flight, and bodies that are still being read do not keep an upload to the same host waiting.
func TestPerHost(t *testing.T) {
	t.Parallel()
	const most = 3
	var now, peak atomic.Int32
	inner := regtest.New(t, regtest.WithoutAPI)
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
		}
		time.Sleep(2 * time.Millisecond)
		inner.Handler().ServeHTTP(w, r)
	}))
	c := newTestClient(t, Options{PerHost: most})
	r := openTest(t, c, s.Host, "app")
	big := bytes.Repeat([]byte("big"), 1<<20)
	open := func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(big)), nil }
	if _, err := r.PushBlob(t.Context(), blobOf(big), nil, open); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.HasManifest(t.Context(), blobOf([]byte("x"))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if peak.Load() > most {
		t.Errorf("%d requests in flight", peak.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 2 * most {
		rc, err := r.Blob(ctx, blobOf(big))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rc.Close() }()
	}
	if err := r.PushBytes(ctx, blobOf([]byte("small")), []byte("small")); err != nil {
		t.Error(err)
	}
}

func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	r := openTest(t, newTestClient(t, Options{UserAgent: "imprint/1.2"}), s.Host, "app")
	m := pushImage(t, r, "image")
	if _, err := r.Manifest(t.Context(), m.Descriptor); err != nil {
		t.Fatal(err)
	}
	for _, req := range s.Requests() {
		if diff := cmp.Diff([]string{"imprint/1.2"}, req.Header["User-Agent"]); diff != "" {
			t.Error(diff)
		}
		if req.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("%s %s accepts %q", req.Method, req.Path, req.Header.Get("Accept-Encoding"))
		}
	}
}

func TestClientConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	endless := caFile(t, s)
	if err := os.Truncate(endless, maxPEM+1); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"too large":        {CAFile: endless},
		"pair too large":   {ClientCert: endless, ClientKey: endless},
		"no CA file":       {CAFile: dir + "/absent.pem"},
		"CA file is a dir": {CAFile: dir},
		"key missing":      {ClientCert: "cert.pem"},
		"no such pair":     {ClientCert: dir + "/a.pem", ClientKey: dir + "/b.pem"},
	} {
		if _, err := NewClient(o); !errors.Is(err, ErrConfig) || reason(err) != "registry-config" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := NewClient(o); strings.HasSuffix(name, "too large") && !strings.Contains(err.Error(), "larger than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
