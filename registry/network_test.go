package registry

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// Twenty requests at once meet a registry that has had enough: nobody asks while it wants to be left alone, and nobody
// for ever (F01, F02).
func TestF02TooManyRequests(t *testing.T) {
	t.Parallel()
	const requests = 20
	for name, test := range map[string]struct {
		after string
		good  int // this many 429, then fine; 0: for ever
		most  int // requests that the registry may see
		takes [2]time.Duration
	}{
		"F01 2 s, then fine":         {"2", 1, requests + defaultPerHost, [2]time.Duration{2 * time.Second, 4 * time.Second}},
		"for ever, 10 s":             {"10", 0, requests * maxTries, [2]time.Duration{50 * time.Second, defaultTimeout}},
		"for ever, it says not when": {"", 0, requests * maxTries, [2]time.Duration{3 * time.Second, time.Minute}},
		"a day":                      {"86400", 0, requests, [2]time.Duration{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var refused []time.Time
			seen := 0
			inBubble(t, Options{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				seen++
				if test.good > 0 && len(refused) > 0 && time.Since(refused[0]) > 0 {
					return
				}
				refused = append(refused, time.Now())
				if test.after != "" {
					w.Header().Set("Retry-After", test.after)
				}
				w.WriteHeader(http.StatusTooManyRequests)
			}), func(t *testing.T, r *Repo) {
				begin := time.Now()
				var wg sync.WaitGroup
				for range requests {
					wg.Go(func() {
						_, err := r.HasManifest(t.Context(), blobOf([]byte("x")))
						if test.good > 0 && err != nil || test.good == 0 && !errors.Is(err, ErrUnavailable) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if took := time.Since(begin); took < test.takes[0] || took > test.takes[1] {
					t.Errorf("it took %s", took)
				}
				mu.Lock()
				defer mu.Unlock()
				if seen > test.most || len(refused) == 0 {
					t.Errorf("%d requests, %d refused", seen, len(refused))
				}
				if test.after != "10" {
					return
				}
				for i, at := range refused { // waves lie apart
					if pause := at.Sub(refused[max(0, i-1)]); pause > 0 && pause < 10*time.Second {
						t.Errorf("asked again after %s", pause)
					}
				}
			})
		})
	}
}

// A small request never waits behind big bodies.
func TestSmallRequestsPassBigBodies(t *testing.T) {
	t.Parallel()
	var big atomic.Int32
	inBubble(t, Options{PerHost: 4}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			big.Add(1)
			time.Sleep(10 * time.Second)
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusCreated)
		}
	}), func(t *testing.T, r *Repo) {
		body := grain(bigBody)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := putStream(t.Context(), r, body); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		begin := time.Now()
		if _, err := r.HasManifest(t.Context(), blobOf(nil)); err != nil || time.Since(begin) != 0 || big.Load() != 2 {
			t.Errorf("after %s, with %d big bodies on their way: %v", time.Since(begin), big.Load(), err)
		}
		wg.Wait()
	})
}

// throughProxy makes a client use a proxy, wherever it goes.
func throughProxy(c *Client, host string) *Client {
	via := http.ProxyURL(&url.URL{Scheme: "http", Host: host, User: url.UserPassword(testUser, testSecret)})
	base := c.retry.next.(*http.Transport)
	base.Proxy, c.retry.proxy = via, via
	return c
}

// An error of a proxy names it (F45).
func TestF45Proxy(t *testing.T) {
	t.Parallel()
	behind := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { indexBody(w) }))
	behind.Config.ErrorLog = discardLog()
	behind.StartTLS()
	t.Cleanup(behind.Close)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	for name, test := range map[string]struct {
		status   int // of CONNECT; 0: nobody is there
		ca       bool
		ok       bool
		requests int
		says     string
	}{
		"it is dead":            {0, false, false, 0, "refused"},
		"it refuses":            {403, false, false, 1, "it answers CONNECT with 403 Forbidden"},
		"it wants a password":   {407, false, false, 1, "407"},
		"it is overloaded":      {503, false, false, maxTries, "503"},
		"it has a CA":           {200, false, false, 1, "certificate"},
		"it has a CA, believed": {200, true, true, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			proxy := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if r.Method != http.MethodConnect || r.Host != "example.com:443" {
					t.Errorf("%s %s", r.Method, r.Host)
				}
				if test.status != http.StatusOK {
					w.WriteHeader(test.status)
					return
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				tunnel(conn, behind.Listener.Addr().String())
			}))
			host := proxy.Host
			if test.status == 0 {
				host = dead.Addr().String()
			}
			o := Options{}
			if test.ca {
				o.CAFile = caFile(t, behind)
			}
			_, _, err := openTest(t, throughProxy(newTestClient(t, o), host), "example.com", "app").store.manifest(t.Context(), "v1", "")
			noSecret(t, err)
			if test.ok != (err == nil) || int(requests.Load()) != test.requests {
				t.Fatalf("asked %d times, %v", requests.Load(), err)
			}
			if err != nil && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "through the proxy "+host) ||
				!strings.Contains(err.Error(), "example.com") || !strings.Contains(err.Error(), test.says)) {
				t.Error(err)
			}
		})
	}
}

func tunnel(conn net.Conn, to string) {
	other, err := net.Dial("tcp", to)
	if err != nil {
		_ = conn.Close()
		return
	}
	go func() {
		_, _ = io.Copy(other, conn)
		_ = other.Close()
	}()
	_, _ = io.Copy(conn, other)
	_ = conn.Close()
}

// The environment names the proxy, and what it is not for; loopback hosts are never asked through one (F45).
// Go reads the environment once in a process: each case is a process of its own.
func TestF45Environment(t *testing.T) {
	if host := os.Getenv("IMPRINT_TEST_ASK"); host != "" {
		_, _, err := openTest(t, newTestClient(t, Options{}), host, "app").store.manifest(t.Context(), "v1", "")
		if (err == nil) != (os.Getenv("IMPRINT_TEST_ANSWERS") != "") {
			t.Error(err)
		}
		return
	}
	t.Parallel()
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { indexBody(w) }))
	for name, test := range map[string]struct {
		host, no string
		proxied  bool
		answers  string
	}{
		"proxied":  {"registry.invalid", "", true, ""},
		"NO_PROXY": {"registry.invalid", "other.invalid,.invalid", false, ""},
		"loopback": {s.Host, "", false, "yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
			for _, server := range []*regtest.Server{s, proxy} {
				server.Reset() // what it was made with happened before the other process asks
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestF45Environment$")
			cmd.Env = []string{
				"IMPRINT_TEST_ASK=" + test.host, "IMPRINT_TEST_ANSWERS=" + test.answers, "NO_PROXY=" + test.no,
				"HTTPS_PROXY=http://" + proxy.Host, "HTTP_PROXY=http://" + proxy.Host,
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if n := proxy.Count(nil); (n > 0) != test.proxied {
				t.Errorf("the proxy was asked %d times", n)
			}
		})
	}
}

// nameServer answers A and AAAA of every name.
func nameServer(t testing.TB, a, aaaa net.IP) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if n < 12 {
				continue
			}
			end := 12 + bytes.IndexByte(buffer[12:n], 0) + 5 // the question: name, type, class
			reply := append([]byte{buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, buffer[12:end]...)
			kind := binary.BigEndian.Uint16(buffer[end-4:])
			if ip := map[uint16]net.IP{1: a, 28: aaaa}[kind]; ip != nil {
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 60, 0, byte(len(ip)))
				reply = append(reply, ip...)
			}
			_, _ = conn.WriteTo(reply, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// A name with two families of addresses, of which one is dead, costs a moment, not a time-out (F46).
func TestF46DeadIPv6(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { indexBody(w) }))
	_, port, err := net.SplitHostPort(s.Host)
	if err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, Options{PlainHTTP: true})
	d := newDialer()
	d.Resolver = nameServer(t, net.IPv4(127, 0, 0, 1).To4(), net.ParseIP("2001:db8::1"))
	d.ControlContext = func(ctx context.Context, network, _ string, _ syscall.RawConn) error {
		if network == "tcp6" { // nobody answers there
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	base := c.retry.next.(*http.Transport)
	base.DialContext, base.Proxy, c.retry.proxy = d.DialContext, nil, nil
	begin := time.Now()
	_, _, err = openTest(t, c, "dual.test:"+port, "app").store.manifest(t.Context(), "v1", "")
	if took := time.Since(begin); err != nil || took > dialTimeout/2 || s.Count(nil) != 1 {
		t.Errorf("after %s: %v", took, err)
	}
}

// http2Server serves by HTTP/2, as example.com.
func http2Server(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("%s came by %s", r.URL.Path, r.Proto)
		}
		h(w, r)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = discardLog()
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Streams that are reset and connections that go away are tried again, downloads go on (G20).
func TestG20HTTP2(t *testing.T) {
	t.Parallel()
	for name, storm := range map[string]int{"RST_STREAM": 3, "RST_STREAM for ever": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			s := http2Server(t, func(w http.ResponseWriter, r *http.Request) {
				if b, _ := io.ReadAll(r.Body); r.Method == http.MethodPut && string(b) != "{}" {
					t.Errorf("the body is %q", b)
				}
				if int(tries.Add(1)) <= storm {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(http.StatusCreated)
			})
			c := tlsClient(t, s.Listener.Addr().String(), Options{CAFile: caFile(t, s)})
			err := openTest(t, c, "example.com", "app").PushManifest(t.Context(), Manifest{Descriptor: blobOf([]byte("{}")), Bytes: []byte("{}")})
			if storm < maxTries && (err != nil || tries.Load() != 4) || storm > maxTries && (!errors.Is(err, ErrUnavailable) || tries.Load() != maxTries) {
				t.Errorf("%d tries, %v", tries.Load(), err)
			}
		})
	}
	t.Run("RST_STREAM in a body", func(t *testing.T) {
		t.Parallel()
		blob := grain(300_000)
		h := &holder{t: t, blob: blob, answer: func(h *holder, w http.ResponseWriter, try, offset int) {
			h.part(w, offset, map[bool]int{true: min(offset+70_000, len(blob)), false: len(blob)}[try <= 3])
		}}
		s := http2Server(t, h.ServeHTTP)
		c := tlsClient(t, s.Listener.Addr().String(), Options{CAFile: caFile(t, s)})
		got, err := readBlobOf(t, openTest(t, c, "example.com", "app"), blob)
		if err != nil || !bytes.Equal(got, blob) || h.tries.Load() != 4 {
			t.Errorf("%d bytes, %d requests, %v", len(got), h.tries.Load(), err)
		}
	})
	t.Run("GOAWAY", func(t *testing.T) {
		t.Parallel()
		s := http2Server(t, func(w http.ResponseWriter, _ *http.Request) { indexBody(w) })
		away, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = away.Close() })
		go func() {
			for {
				conn, err := away.Accept()
				if err != nil {
					return
				}
				goAway(conn)
			}
		}()
		c := tlsClient(t, "", Options{CAFile: caFile(t, s)})
		var dials atomic.Int32
		c.retry.next.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			to := s.Listener.Addr()
			if dials.Add(1) <= 2 {
				to = away.Addr()
			}
			return (&net.Dialer{}).DialContext(ctx, network, to.String())
		}
		if _, _, err := openTest(t, c, "example.com", "app").store.manifest(t.Context(), "v1", ""); err != nil || dials.Load() != 3 {
			t.Errorf("%d connections, %v", dials.Load(), err)
		}
	})
}

// goAway reads the beginning of a connection and its first request, and says that it has taken that one and had enough
// (RFC 9113 section 6.8).
func goAway(conn net.Conn) {
	defer conn.Close()
	_, _ = conn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // SETTINGS
	r := bufio.NewReader(conn)
	if _, err := r.Discard(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		return
	}
	for {
		var header [9]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return
		}
		if _, err := r.Discard(int(header[0])<<16 | int(header[1])<<8 | int(header[2])); err != nil {
			return
		}
		if header[3] == 1 { // HEADERS
			_, _ = conn.Write([]byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 11}) // GOAWAY, stream 1, ENHANCE_YOUR_CALM
			return
		}
	}
}

// Registries without HEAD are asked by GET (G09).
func TestG09NoHead(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		s := regtest.New(t, regtest.WithAPI)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		m := pushImage(t, r, "image")
		if err := r.Tag(t.Context(), m, "v1"); err != nil {
			t.Fatal(err)
		}
		s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodHead {
				w.WriteHeader(status)
				return true
			}
			return false
		})
		absent := blobOf([]byte("absent"))
		if has, err := r.HasManifest(t.Context(), m.Descriptor); !has || err != nil {
			t.Errorf("%d: %v, %v", status, has, err)
		}
		if has, err := r.HasManifest(t.Context(), absent); has || err != nil {
			t.Errorf("%d: %v, %v", status, has, err)
		}
		if d, err := r.Tagged(t.Context(), "v1"); d != m.Descriptor.Digest || err != nil {
			t.Errorf("%d: %s, %v", status, d, err)
		}
		if _, err := r.Tagged(t.Context(), "v2"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%d: %v", status, err)
		}
		if has, err := r.HasBlob(t.Context(), blobOf([]byte("image"))); !has || err != nil {
			t.Errorf("%d: %v, %v", status, has, err)
		}
		if has, err := r.HasBlob(t.Context(), absent); has || err != nil {
			t.Errorf("%d: %v, %v", status, has, err)
		}
	}
}

// Lists of tags come as the registry has them; they decide nothing (G17), and have an end (C02).
func TestG17Tags(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pages  []string
		want   []string
		reason string
	}{
		"unsorted, twice":   {[]string{`{"tags":["b","a","b"]}`, `{"tags":null}`, `{"tags":["a"]}`}, []string{"b", "a", "b", "a"}, ""},
		"no list":           {[]string{`<html>`}, nil, "manifest-malformed"},
		"C02 without end":   {slices.Repeat([]string{`{"tags":[]}`}, MaxPages+1), nil, "list-capped"},
		"as long as it may": {slices.Repeat([]string{`{"tags":["x"]}`}, MaxPages), slices.Repeat([]string{"x"}, MaxPages), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := 0
				_, _ = fmt.Sscan(r.URL.Query().Get("last"), &n)
				if n+1 < len(test.pages) {
					w.Header().Set("Link", fmt.Sprintf(`</v2/app/tags/list?last=%d>; rel="next"`, n+1))
				}
				_, _ = io.WriteString(w, test.pages[n])
			}))
			var got []string
			var failed error
			for tag, err := range openTest(t, newTestClient(t, Options{}), s.Host, "app").Tags(t.Context()) {
				if failed = err; err != nil {
					break
				}
				got = append(got, tag)
			}
			if reason(failed) != test.reason || !slices.Equal(got, test.want) || errors.Is(failed, ErrCapped) != (test.reason == "list-capped") {
				t.Errorf("%q, %v", got, failed)
			}
			if test.reason == "list-capped" && !strings.Contains(failed.Error(), "100 pages") {
				t.Errorf("how many? %v", failed)
			}
		})
	}
}

// A digest is of the bytes as stored: nothing is unpacked on the way (G19).
func TestG19ContentEncoding(t *testing.T) {
	t.Parallel()
	plain := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(plain)
	_ = z.Close()
	for _, always := range []bool{false, true} {
		s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			if always || strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = w.Write(packed.Bytes())
				return
			}
			_, _ = w.Write(plain)
		}))
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		_, err := r.Manifest(t.Context(), blobOf(plain))
		_, err2 := r.ReadBlob(t.Context(), blobOf(plain), MaxManifest)
		if err := errors.Join(err, err2); always != errors.Is(err, ErrDigestMismatch) || !always && err != nil {
			t.Error(err)
		}
		if always { // the packed bytes, named by their own digest, are what they are
			if b, err := r.ReadBlob(t.Context(), blobOf(packed.Bytes()), MaxManifest); err != nil || !bytes.Equal(b, packed.Bytes()) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		}
	}
}
