package fetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// code returns the reason code of err, "" if it has none.
func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason()
	}
	return ""
}

// serve runs a server on loopback.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// open is a client that reaches loopback, where all servers of tests are.
func open(o Options) *Client {
	o.AllowPrivate = true
	return New(o)
}

func TestGet(t *testing.T) {
	t.Parallel()
	var asked *http.Request
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Clone(context.Background())
		io.WriteString(w, "certificate")
	})
	b, err := open(Options{UserAgent: "imprint/test"}).Get(t.Context(), s.URL+"/ca.crt?a=b#part", 11)
	if err != nil || string(b) != "certificate" {
		t.Fatalf("%q, %v", b, err)
	}
	if asked.Method != http.MethodGet || asked.URL.String() != "/ca.crt?a=b" {
		t.Errorf("asked %s %s", asked.Method, asked.URL)
	}
	if diff := cmp.Diff(http.Header{"User-Agent": {"imprint/test"}}, asked.Header); diff != "" {
		t.Errorf("other headers were sent:\n%s", diff)
	}
}

func TestX17GetRefusesAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, code string }{
		{"https://ca.example/", codeURL},
		{"ldap://ca.example/", codeURL},
		{"file:///etc/passwd", codeURL},
		{"http://ca.example/\n", codeURL},
		{"http://[::1", codeURL},
		{"http://ca.example/" + strings.Repeat("x", MaxURL), codeURL},
		{"http://localhost/", codePrivate},
		{"http://127.0.0.1/", codePrivate},
	} {
		_, err := New(Options{}).Get(t.Context(), tt.url, 10)
		if code(err) != tt.code {
			t.Errorf("%q: %v, want %s", tt.url, err, tt.code)
			continue
		}
		if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 400 {
			t.Errorf("the error is not fit for a terminal: %q", err)
		}
	}
}

func TestGetStatusAndSize(t *testing.T) {
	t.Parallel()
	const limit = 100
	answers := map[string]http.HandlerFunc{
		"/exact":   func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, limit)) },
		"/empty":   func(http.ResponseWriter, *http.Request) {},
		"/one":     func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, limit+1)) },
		"/endless": func(w http.ResponseWriter, r *http.Request) { endless(w, r) },
		"/lying": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000000000")
			w.Write([]byte("x"))
		},
		"/short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "50")
			w.Write([]byte("x"))
		},
		"/gzip": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte("x"))
		},
		"/identity": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "identity")
			w.Write([]byte("x"))
		},
		"/header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", maxHeader)) },
		"/hangup": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for _, status := range []int{201, 203, 204, 206, 300, 304, 400, 401, 403, 404, 500, 503} {
		answers[fmt.Sprintf("/%d", status)] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path](w, r) })
	want := map[string]string{
		"/exact": "", "/empty": "", "/identity": "",
		"/one": codeTooLarge, "/endless": codeTooLarge, "/lying": codeTooLarge,
	}
	for path := range answers {
		_, err := open(Options{}).Get(t.Context(), s.URL+path, limit)
		expect, ok := want[path]
		if !ok {
			expect = codeFailed
		}
		if code(err) != expect || (err == nil) != (expect == "") {
			t.Errorf("%s: %v, want %q", path, err, expect)
		}
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 32<<10)); err != nil {
			return
		}
	}
}

// TestHTTPAnswersEnd: what others ask through the client ends too, whatever they forget.
func TestHTTPAnswersEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, endless)
	resp, err := open(Options{}).HTTP().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if code(err) != codeTooLarge || n > MaxAnswer {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	begin := func(w http.ResponseWriter) {
		w.Write([]byte("x"))
		w.(http.Flusher).Flush()
	}
	for _, tt := range []struct {
		name   string
		o      Options
		answer http.HandlerFunc
		text   string
	}{
		{"no answer", Options{Stall: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timeout"},
		{"a halt", Options{Stall: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			<-r.Context().Done()
		}, "halt"},
		{"a drip", Options{Timeout: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				begin(w)
				time.Sleep(time.Millisecond)
			}
		}, "longer than"},
		{"redirects on and on, slowly", Options{Timeout: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(40 * time.Millisecond)
			http.Redirect(w, r, "/", http.StatusFound)
		}, "longer than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.answer)
			_, err := open(tt.o).Get(t.Context(), s.URL, 1<<20)
			if code(err) != codeTimeout || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v (%s)", err, code(err))
			}
		})
	}
	t.Run("a halt, read by others", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			<-r.Context().Done()
		})
		resp, err := open(Options{Stall: 50 * time.Millisecond}).HTTP().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); code(err) != codeTimeout {
			t.Errorf("%v", err)
		}
	})
	t.Run("a slow reader is no halt", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { begin(w) })
		resp, err := open(Options{Stall: 20 * time.Millisecond}).HTTP().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		time.Sleep(60 * time.Millisecond)
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		_, err := open(Options{}).Get(ctx, s.URL, 10)
		if !errors.Is(err, context.Canceled) || code(err) != "" {
			t.Errorf("%v (%s)", err, code(err))
		}
	})
}

// TestA20Redirects: each hop is judged as the first address is.
func TestA20Redirects(t *testing.T) {
	t.Parallel()
	tlsServer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		io.WriteString(w, "over tls")
	}))
	t.Cleanup(tlsServer.Close)
	pool := x509.NewCertPool()
	pool.AddCert(tlsServer.Certificate())
	var cookies, referers atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		cookies.Add(int64(len(r.Cookies()) + len(r.Header["Authorization"])))
		referers.Add(int64(len(r.Header["Referer"])))
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b", Path: "/"})
		var n int
		switch _, err := fmt.Sscanf(r.URL.Path, "/hops/%d", &n); {
		case err == nil && n > 0:
			http.Redirect(w, r, fmt.Sprintf("/hops/%d", n-1), http.StatusFound)
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusMovedPermanently)
		case r.URL.Query().Get("to") != "":
			w.Header().Set("Location", r.URL.Query().Get("to"))
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			io.WriteString(w, "here")
		}
	})
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	to := func(u string) string { return s.URL + "/?to=" + url.QueryEscape(u) }
	for _, tt := range []struct{ name, url, code string }{
		{"five", s.URL + "/hops/5", ""},
		{"six", s.URL + "/hops/6", codeRedirect},
		{"a circle", s.URL + "/loop", codeRedirect},
		{"to another port", to(s.URL + "/x"), ""},
		{"to https", to(tlsServer.URL), ""},
		{"to https and back", to(tlsServer.URL + "/?to=" + url.QueryEscape(s.URL)), codeRedirect},
		{"to a file", to("file:///etc/passwd"), codeURL},
		{"to a directory", to("ldap://ca.example/"), codeURL},
		{"with credentials", to("http://a:b@127.0.0.1" + port), codeURL},
		{"to a number", to("http://2130706433" + port), codeURL},
		{"to nowhere", to("http:///"), codeURL},
		{"to no URL", to("http://[::1"), codeFailed},
	} {
		_, err := open(Options{RootCAs: pool}).Get(t.Context(), tt.url, 100)
		if code(err) != tt.code || (err == nil) != (tt.code == "") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.code)
		}
	}
	if cookies.Load()+referers.Load() > 0 {
		t.Errorf("%d cookies or credentials and %d referers were sent", cookies.Load(), referers.Load())
	}
	t.Run("to a private address", func(t *testing.T) {
		// 127.0.0.1 stands for the public internet, all else is private.
		c := New(Options{})
		c.guard.judge = func(a netip.Addr) error {
			if a == netip.MustParseAddr("127.0.0.1") {
				return nil
			}
			return checkAddress(a)
		}
		for _, there := range []string{"http://169.254.169.254/latest/meta-data", "http://[::1]" + port, "http://localhost" + port, "http://127.0.0.2" + port} {
			if _, err := c.Get(t.Context(), to(there), 100); code(err) != codePrivate {
				t.Errorf("%s: %v", there, err)
			}
		}
		if b, err := c.Get(t.Context(), to(s.URL), 100); err != nil || string(b) != "here" {
			t.Errorf("%q, %v", b, err)
		}
	})
}

func TestHTTPSendsNoCredentials(t *testing.T) {
	t.Parallel()
	var header http.Header
	var sent []byte
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		sent, _ = io.ReadAll(r.Body)
		io.WriteString(w, "answer")
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("query"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	req.Header.Set("Authorization", "Bearer secret")
	req.Header.Set("Cookie", "a=b")
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := open(Options{UserAgent: "imprint/test"}).HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if string(sent) != "query" {
		t.Errorf("%q was sent", sent)
	}
	want := http.Header{"Content-Type": {"application/timestamp-query"}, "Content-Length": {"5"}, "User-Agent": {"imprint/test"}}
	if diff := cmp.Diff(want, header); diff != "" {
		t.Errorf("other headers were sent:\n%s", diff)
	}
	if req.Header.Get("Authorization") == "" {
		t.Error("the caller's request was changed")
	}
	for _, address := range []string{"http://user@127.0.0.1/", "ftp://127.0.0.1/"} {
		if resp, err := open(Options{}).HTTP().Get(address); code(err) != codeURL {
			resp.Body.Close()
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestX17NamesThatLie: what a name means is judged when it is dialled, each time.
func TestX17NamesThatLie(t *testing.T) {
	t.Parallel()
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := inside.Addr().(*net.TCPAddr).Port
	outside, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		inside.Close()
		t.Skipf("this machine has no second loopback address: %v", err)
	}
	var reached atomic.Int64
	start := func(l net.Listener, h http.HandlerFunc) {
		s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
		s.Start()
		t.Cleanup(s.Close)
	}
	start(inside, func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		io.WriteString(w, "a secret")
	})
	start(outside, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		if r.URL.Path == "/again" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		io.WriteString(w, "public")
	})
	client := func(answers ...[]string) *Client {
		c := New(Options{})
		c.guard.judge = func(a netip.Addr) error {
			if a.Unmap() == netip.MustParseAddr("127.0.0.2") { // which stands for the public internet
				return nil
			}
			return checkAddress(a)
		}
		c.guard.dialer.Resolver = resolver(answers...)
		return c
	}
	private, public := []string{"127.0.0.1"}, []string{"127.0.0.2"}
	for _, tt := range []struct {
		name    string
		path    string
		answers [][]string
		code    string
	}{
		{"public", "/", [][]string{public}, ""},
		{"private", "/", [][]string{private}, codePrivate},
		{"private first, then public", "/", [][]string{{"127.0.0.1", "127.0.0.2"}}, ""},
		{"public first, then private", "/", [][]string{{"127.0.0.2", "127.0.0.1"}}, ""},
		{"two private", "/", [][]string{{"127.0.0.1", "10.0.0.1"}}, codePrivate},
		{"another meaning the second time", "/again", [][]string{public, private}, codePrivate},
		{"the same meaning", "/again", [][]string{public, public}, ""},
	} {
		b, err := client(tt.answers...).Get(t.Context(), fmt.Sprintf("http://ca.example:%d%s", port, tt.path), 100)
		if code(err) != tt.code || tt.code == "" && string(b) != "public" {
			t.Errorf("%s: %q, %v, want %q", tt.name, b, err, tt.code)
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("the inside was reached %d times", n)
	}
}

// resolver answers questions for IPv4 addresses, one after the other, the last for ever.
func resolver(answers ...[]string) *net.Resolver {
	var asked atomic.Int64
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer ours.Close()
			for {
				var size uint16
				if binary.Read(ours, binary.BigEndian, &size) != nil {
					return
				}
				q := make([]byte, size)
				if _, err := io.ReadFull(ours, q); err != nil {
					return
				}
				end := 12 + bytes.IndexByte(q[12:], 0) + 1
				kind := binary.BigEndian.Uint16(q[end:])
				var records [][]byte
				if kind == 1 {
					n := min(int(asked.Add(1)), len(answers)) - 1
					for _, a := range answers[n] {
						ip := netip.MustParseAddr(a).As4()
						records = append(records, append([]byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4}, ip[:]...))
					}
				}
				r := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, byte(len(records)), 0, 0, 0, 0}, q[12:end+4]...)
				r = append(r, bytes.Join(records, nil)...)
				if _, err := ours.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...)); err != nil {
					return
				}
			}
		}()
		return theirs, nil
	}}
}

func TestX17BehindAProxy(t *testing.T) {
	t.Parallel()
	var asked []string
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.RequestURI)
		if r.RequestURI == "http://ca.example/moved" {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
			return
		}
		io.WriteString(w, "by proxy")
	})
	via, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{Proxy: http.ProxyURL(via)})
	// The proxy stands on a private address, which is the user's choice.
	if b, err := c.Get(t.Context(), "http://ca.example/a.crt", 100); err != nil || string(b) != "by proxy" {
		t.Fatalf("%q, %v", b, err)
	}
	for _, address := range []string{
		"http://10.0.0.1/", "http://[fd00::1]/", "http://localhost/", "http://intranet/", "http://metadata.google.internal/", "http://ca.example/moved",
	} {
		if _, err := c.Get(t.Context(), address, 100); code(err) != codePrivate {
			t.Errorf("%s: %v", address, err)
		}
	}
	if diff := cmp.Diff([]string{"GET http://ca.example/a.crt", "GET http://ca.example/moved"}, asked); diff != "" {
		t.Errorf("the proxy was asked for more:\n%s", diff)
	}
	for _, address := range []string{"http://intranet/", "http://10.0.0.1/"} {
		if b, err := open(Options{Proxy: http.ProxyURL(via)}).Get(t.Context(), address, 100); err != nil || string(b) != "by proxy" {
			t.Errorf("%s with --allow-private: %q, %v", address, b, err)
		}
	}
	t.Run("https goes through it too", func(t *testing.T) {
		_, err := c.HTTP().Get("https://ca.example/")
		if err == nil || len(asked) == 0 || asked[len(asked)-1] != "CONNECT ca.example:443" {
			t.Errorf("%v, asked %v", err, asked)
		}
	})
	t.Run("none for this host", func(t *testing.T) {
		none := New(Options{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }})
		if _, err := none.Get(t.Context(), proxy.URL, 100); code(err) != codePrivate {
			t.Errorf("%v", err)
		}
	})
	t.Run("a proxy that cannot be told", func(t *testing.T) {
		broken := New(Options{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("no URL") }})
		if _, err := broken.Get(t.Context(), "http://ca.example/", 100); code(err) != codeFailed {
			t.Errorf("%v", err)
		}
	})
	t.Run("a proxy that changes its mind", func(t *testing.T) {
		// Asked a second time it says that there is none: a direct connection would have been judged by nobody.
		var n atomic.Int64
		fickle := New(Options{Proxy: func(*http.Request) (*url.URL, error) {
			if n.Add(1) > 1 {
				return nil, nil
			}
			return via, nil
		}})
		if b, err := fickle.Get(t.Context(), "http://ca.example/a.crt", 100); err != nil || string(b) != "by proxy" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("nothing leaves unjudged", func(t *testing.T) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://ca.example/", nil)
		if u, err := chosen(req); err == nil {
			t.Errorf("a request that nobody judged goes to %v", u)
		}
	})
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for _, c := range []string{codeURL, codePrivate, codeRedirect, codeTooLarge, codeTimeout, codeFailed} {
		if Reasons()[c] == "" {
			t.Errorf("%s is not explained", c)
		}
	}
	if got := len(Reasons()); got != 6 {
		t.Errorf("%d reasons", got)
	}
}
