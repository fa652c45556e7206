package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// What goes wrong on the way (F01 to F20, F28 to F30), through copy: exit code and reason code, and what is at the destination then. What
// they cost in requests and time, with the real bounds, is tested in registry. F21 and F22 are in cases_faults_test.go, F48 in
// copy_batch_test.go.

// A passageway is a copy of an image with two signatures that is going to be disturbed.
type passageway struct {
	*person
	source, dest *regtest.Server
	a            fixture.Artifact
	all          fixture.Contents
	hits         atomic.Int32 // what the fault counts
}

func newPassageway(t *testing.T, from, to regtest.Kind) *passageway {
	t.Helper()
	c := &passageway{person: newPerson(t), source: regtest.New(t, from), dest: regtest.New(t, to)}
	var err error
	if c.a, err = fixture.Single(t.Context(), c.source.Host+"/team/app:v1", fixture.Options{Layer: 2000}); err != nil {
		t.Fatal(err)
	}
	if c.all, err = fixture.Walk(t.Context(), c.a.Reference); err != nil {
		t.Fatal(err)
	}
	c.source.Reset()
	return c
}

// copy is the arguments of the copy; more follow.
func (c *passageway) copy(more ...string) []string {
	return append([]string{"copy", c.a.Reference, c.dest.Host + "/prod/app"}, more...)
}

// whole wants all of it at the destination.
func (c *passageway) whole(t *testing.T) {
	t.Helper()
	got, err := fixture.Walk(t.Context(), c.dest.Host+"/prod/app:v1")
	if diff := cmp.Diff(c.all, got); err != nil || diff != "" {
		t.Errorf("the destination: %v\n%s", err, diff)
	}
}

// untagged wants no tag at the destination, and nothing there that is not what its digest says.
func (c *passageway) untagged(t *testing.T) map[string]string {
	t.Helper()
	now := stored(t, c.dest.Handler(), "prod/app", c.all)
	for path := range now {
		if strings.HasPrefix(path, "/manifests/v1") {
			t.Error("the tag is there")
		}
	}
	return now
}

// layer is the path of a layer at the source.
func (c *passageway) layer() string { return "/blobs/" + string(c.a.Blobs[0].Digest) }

// on disturbs the requests of a method whose path holds a part, each of them with its number.
func (c *passageway) on(s *regtest.Server, method, part string, f func(n int, w http.ResponseWriter, r *http.Request) bool) {
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, part) {
			return false
		}
		return f(int(c.hits.Add(1)), w, r)
	})
}

// atFirst answers the first n of them with a status.
func atFirst(n, status int, code string, header ...string) func(int, http.ResponseWriter, *http.Request) bool {
	return func(i int, w http.ResponseWriter, r *http.Request) bool {
		if i > n {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		failure(w, status, code)
		return true
	}
}

const everyTime = 1 << 30

func TestCasesCopyFaults(t *testing.T) {
	t.Parallel()
	const signature = "/manifests/sha256:"
	for name, row := range map[string]struct {
		from, to regtest.Kind
		inject   func(c *passageway)
		more     []string
		code     int
		reason   string
		hits     [2]int // at least, at most
		says     string
		after    func(t *testing.T, c *passageway, took time.Duration, o outcome)
	}{
		"F01 429 with Retry-After 2, once": {
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPost, "/blobs/uploads/", atFirst(1, 429, "TOOMANYREQUESTS", "Retry-After", "2"))
			},
			hits: [2]int{2, 30},
			after: func(t *testing.T, _ *passageway, took time.Duration, _ outcome) {
				if took < 2*time.Second {
					t.Errorf("it waited %s", took)
				}
			},
		},
		"F02 429 for ever": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, "/manifests/v1", atFirst(everyTime, 429, "TOOMANYREQUESTS"))
			},
			code: 4, reason: "registry-unavailable", hits: [2]int{6, 6}, says: "429",
		},
		"F02 Retry-After of a day": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, "/manifests/v1", atFirst(everyTime, 429, "TOOMANYREQUESTS", "Retry-After", "86400"))
			},
			code: 4, reason: "registry-unavailable", hits: [2]int{1, 1}, says: "429",
		},
		"F03 500, 502 and 503 in turn": {
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPut, "/manifests/v1", func(n int, w http.ResponseWriter, r *http.Request) bool {
					return atFirst(3, []int{0, 500, 502, 503, 0}[min(n, 4)], "UNKNOWN")(n, w, r)
				})
			},
			hits: [2]int{4, 4},
		},
		"F04 504 to a signature that was stored": {
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPut, signature, func(n int, w http.ResponseWriter, r *http.Request) bool {
					if n == 1 {
						c.dest.Handler().ServeHTTP(httptest.NewRecorder(), r)
						failure(w, http.StatusGatewayTimeout, "UNKNOWN")
					}
					return n == 1
				})
			},
			hits: [2]int{4, 4}, // root and two signatures, one of them twice
		},
		"F07 an upload session that expired": {
			to: regtest.WithoutAPI,
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPut, "/blobs/uploads/", atFirst(1, 404, "BLOB_UPLOAD_UNKNOWN"))
			},
			hits: [2]int{10, 10},
		},
		"F08 the last answer of an upload is lost": {
			to: regtest.WithoutAPI,
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPut, "/blobs/uploads/", func(n int, _ http.ResponseWriter, r *http.Request) bool {
					if n == 1 {
						c.dest.Handler().ServeHTTP(httptest.NewRecorder(), r)
						panic(http.ErrAbortHandler)
					}
					return false
				})
			},
			hits: [2]int{9, 9}, // it is asked for, not sent again
		},
		"F09 a byte a moment": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, c.layer(), func(_ int, w http.ResponseWriter, r *http.Request) bool {
					w.Header().Set("Content-Length", "2000")
					for r.Context().Err() == nil {
						_, _ = w.Write([]byte("x"))
						_ = http.NewResponseController(w).Flush()
						select {
						case <-time.After(100 * time.Millisecond):
						case <-r.Context().Done():
						}
					}
					panic(http.ErrAbortHandler)
				})
			},
			more: []string{"--timeout", "1s"}, code: 4, reason: "registry-unavailable", hits: [2]int{1, 6},
		},
		"F10 no answer": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, "/manifests/v1", func(_ int, _ http.ResponseWriter, r *http.Request) bool {
					<-r.Context().Done()
					panic(http.ErrAbortHandler)
				})
			},
			more: []string{"--timeout", "1s"}, code: 4, reason: "registry-unavailable", hits: [2]int{1, 6}, says: "127.0.0.1",
		},
		"F12 Content-Length larger than the body": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, c.layer(), func(_ int, w http.ResponseWriter, r *http.Request) bool {
					whole := httptest.NewRecorder()
					r.Header.Del("Range")
					c.source.Handler().ServeHTTP(whole, r)
					w.Header().Set("Content-Length", "2000")
					_, _ = w.Write(whole.Body.Bytes()[:1999])
					panic(http.ErrAbortHandler)
				})
			},
			code: 4, hits: [2]int{2, 20},
			after: absent,
		},
		"F13 Content-Length smaller than the body": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, c.layer(), func(_ int, w http.ResponseWriter, r *http.Request) bool {
					whole := httptest.NewRecorder()
					c.source.Handler().ServeHTTP(whole, r)
					w.Header().Set("Content-Length", "1999")
					_, _ = w.Write(whole.Body.Bytes()[:1999])
					return true
				})
			},
			code: 4, reason: "digest-mismatch", hits: [2]int{1, 20},
			after: absent,
		},
		"F13 endless": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, c.layer(), func(_ int, w http.ResponseWriter, r *http.Request) bool {
					whole := httptest.NewRecorder()
					c.source.Handler().ServeHTTP(whole, r)
					for err := error(nil); err == nil && r.Context().Err() == nil; {
						_, err = w.Write(whole.Body.Bytes())
					}
					return true
				})
			},
			code: 4, reason: "digest-mismatch", hits: [2]int{1, 20},
			after: absent,
		},
		"F14 no Content-Length": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, "/blobs/", func(_ int, w http.ResponseWriter, r *http.Request) bool {
					whole := httptest.NewRecorder()
					c.source.Handler().ServeHTTP(whole, r)
					_ = http.NewResponseController(w).Flush()
					_, _ = w.Write(whole.Body.Bytes())
					return true
				})
			},
			hits: [2]int{8, 8},
		},
		"F15 other bytes, once": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, c.layer(), func(n int, w http.ResponseWriter, _ *http.Request) bool {
					if n == 1 {
						_, _ = w.Write(bytes.Repeat([]byte("x"), 2000))
					}
					return n == 1
				})
			},
			hits: [2]int{2, 2},
			after: func(t *testing.T, _ *passageway, _ time.Duration, o outcome) {
				if !strings.Contains(o.stderr, "imprint: warning: ") {
					t.Errorf("no warning: %s", o.stderr)
				}
			},
		},
		"F16 other bytes, always": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, c.layer(), func(_ int, w http.ResponseWriter, _ *http.Request) bool {
					_, _ = w.Write(bytes.Repeat([]byte("x"), 2000))
					return true
				})
			},
			code: 4, reason: "digest-mismatch", hits: [2]int{2, 2},
			after: absent,
		},
		"F17 an error with status 200": {
			inject: func(c *passageway) {
				c.on(c.source, http.MethodGet, c.layer(), func(_ int, w http.ResponseWriter, _ *http.Request) bool {
					writeJSON(w, "application/json", map[string]any{"errors": []any{map[string]string{"code": "UNKNOWN"}}})
					return true
				})
			},
			code: 4, reason: "digest-mismatch", hits: [2]int{1, 20},
			after: absent,
		},
		"F28 blobs that are seen later": {
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPut, signature, atFirst(2, 400, "MANIFEST_BLOB_UNKNOWN"))
			},
			hits: [2]int{5, 5},
		},
		"F28 blobs that are never seen": {
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPut, signature, atFirst(everyTime, 400, "MANIFEST_BLOB_UNKNOWN"))
			},
			code: 4, reason: "registry-unavailable", hits: [2]int{6, 18},
		},
		"F29 413": {
			inject: func(c *passageway) { c.on(c.dest, http.MethodPut, signature, atFirst(everyTime, 413, "SIZE_INVALID")) },
			code:   4, reason: "too-large", hits: [2]int{1, 3}, // each once
		},
		"F30 405": {
			inject: func(c *passageway) {
				c.on(c.dest, http.MethodPost, "/blobs/uploads/", atFirst(everyTime, 405, "UNSUPPORTED"))
			},
			code: 4, reason: "unsupported", hits: [2]int{1, 40},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if row.from == "" {
				row.from = regtest.WithAPI
			}
			if row.to == "" {
				row.to = regtest.WithAPI
			}
			c := newPassageway(t, row.from, row.to)
			row.inject(c)
			began := time.Now()
			o := c.want(t, row.code, row.reason, c.copy(row.more...)...)
			took := time.Since(began)
			c.source.Intercept(nil)
			c.dest.Intercept(nil)
			if n := int(c.hits.Load()); n < row.hits[0] || n > row.hits[1] {
				t.Errorf("%d such requests, want %d to %d", n, row.hits[0], row.hits[1])
			}
			if row.code == 0 {
				c.whole(t)
			} else {
				c.untagged(t)
				if err := oneError("", withoutWarnings(o.stderr)); err != nil || !strings.Contains(o.stderr, row.says) {
					t.Errorf("%v; wanted %q in %s", err, row.says, o.stderr)
				}
			}
			if row.after != nil {
				row.after(t, c, took, o)
			}
			if row.code != 0 { // what is over is over: the next run ends well
				c.want(t, 0, "", c.copy()...)
				c.whole(t)
			}
		})
	}
}

// absent wants that the layer that came wrong was not stored.
func absent(t *testing.T, c *passageway, _ time.Duration, _ outcome) {
	t.Helper()
	if _, ok := c.untagged(t)[c.layer()]; ok {
		t.Error("the layer is there")
	}
}

// TestF11Unreachable: who is not reached is named.
func TestF11Unreachable(t *testing.T) {
	t.Parallel()
	c := newPassageway(t, regtest.WithAPI, regtest.WithAPI)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	refused := dead.Addr().String()
	for name, args := range map[string][]string{
		"F11 source refuses":         {refused + "/app:v1", c.dest.Host + "/prod/app"},
		"F11 destination refuses":    {c.a.Reference, refused + "/prod/app"},
		"F11 source has no name":     {"registry.invalid/app:v1", c.dest.Host + "/prod/app"},
		"F11 destination has none":   {c.a.Reference, "registry.invalid/prod/app"},
		"F11 IPv6 that is not there": {"[::1]:1/app:v1", c.dest.Host + "/prod/app"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPerson(t)
			o := p.process(t, append(append([]string{"copy"}, args...), "-o", "json")...) // without the proxies of this machine
			host, _, _ := strings.Cut(args[0], "/")
			if args[0] == c.a.Reference {
				host, _, _ = strings.Cut(args[1], "/")
			}
			if o.code != 4 || o.field(t, "reason") != "registry-unavailable" || !strings.Contains(o.field(t, "error"), host) {
				t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
			}
		})
	}
	t.Cleanup(func() {
		if n := c.dest.Writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
}

// A tokenService gives tokens, of which a registry takes the first some times only.
type tokenService struct {
	next  http.Handler
	uses  int32 // of the first token; 0: none is ever taken
	given atomic.Int32
	used  atomic.Int32 // the first
	scope func(r *http.Request) string
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		if user, given, ok := r.BasicAuth(); !ok || user != "somebody" || given != password {
			failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return
		}
		writeJSON(w, "application/json", map[string]any{"token": fmt.Sprintf("token-%d", s.given.Add(1)), "expires_in": 300})
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer token-")
	if ok && s.uses > 0 && (token != "1" || s.used.Add(1) <= s.uses) {
		s.next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope=%q`, r.Host, s.scope(r)))
	failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
}

func TestCasesCopyTokens(t *testing.T) {
	t.Parallel()
	scope := func(r *http.Request) string {
		repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
		repo, _, _ = strings.Cut(repo, "/blobs/")
		repo, _, _ = strings.Cut(repo, "/referrers/")
		return "repository:" + repo + ":pull,push"
	}
	for _, side := range []string{"source", "destination"} {
		for name, row := range map[string]struct {
			uses   int32
			scope  func(r *http.Request) string
			code   int
			reason string
			tokens int32 // at most
		}{
			"F18 a token that expires after 7 requests": {7, scope, 0, "", 12},
			"F19 tokens that are never taken":           {0, scope, 5, "unauthorized", 12},
		} {
			t.Run(name+" "+side, func(t *testing.T) {
				t.Parallel()
				c := newPassageway(t, regtest.WithAPI, regtest.WithoutAPI)
				args := c.copy()
				at := map[string]*regtest.Server{"source": c.source, "destination": c.dest}[side]
				service := &tokenService{next: at.Handler(), uses: row.uses, scope: row.scope}
				front := regtest.Serve(t, service)
				c.passwords(t, front)
				for i := range args {
					args[i] = strings.Replace(args[i], at.Host, front.Host, 1)
				}
				o := c.want(t, row.code, row.reason, args...)
				if row.code == 0 {
					c.whole(t)
				} else {
					c.untagged(t)
				}
				if n := service.given.Load(); n > row.tokens || row.code == 0 && n < 2 {
					t.Errorf("%d tokens were fetched", n)
				}
				for _, secret := range []string{password, "token-"} {
					if strings.Contains(o.stdout+o.stderr, secret) {
						t.Errorf("a secret is shown: %s%s", o.stdout, o.stderr)
					}
				}
			})
		}
	}
}

// TestF20DeleteForbidden: 403 to DELETE alone is worth a warning.
func TestF20DeleteForbidden(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run("F20 "+string(kind), func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, kind)
			server.Intercept(undeletable(http.StatusForbidden, "/v2/"))
			l := newLineage(3, "P-256")
			ref := pushed(t, image("f20"), server.Host+"/app", "v1")
			if err := judge.Sign(t.Context(), ref, l.key, l.old, judge.SignOptions{}); err != nil {
				t.Fatal(err)
			}
			p := newPerson(t)
			o := p.want(t, 0, "", "rechain", ref, "--chain", p.file("new.pem", certtest.PEM(l.new...)), "--replace")
			if n := strings.Count(o.stderr, "imprint: warning: "); n != 1 {
				t.Errorf("%d warnings: %s", n, o.stderr)
			}
		})
	}
}

// TestF30Maintenance: a registry that is read for the time being costs no call of the key service.
func TestF30Maintenance(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	a := image("newer")
	from := p.build(t, "built", a)
	server := regtest.New(t, regtest.WithAPI)
	ref := pushed(t, a, server.Host+"/signed", "1")
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		failure(w, http.StatusServiceUnavailable, "UNAVAILABLE")
		return true
	})
	for _, args := range [][]string{{"publish", from, server.Host + "/app:1"}, {"sign", ref}} {
		t.Run("F30 503 "+args[0], func(t *testing.T) {
			t.Parallel()
			mine := &publisher{person: newPerson(t), roots: p.roots, key: p.key}
			k := mine.atService()
			o := mine.want(t, 4, "registry-unavailable", append(args, "--key", "awskms:///alias/release", "--chain", p.at("chain.pem"))...)
			if n := k.calls.Load(); n != 0 {
				t.Errorf("%d calls of the key service", n)
			}
			if err := oneError("", withoutWarnings(o.stderr)); err != nil {
				t.Error(err)
			}
		})
	}
}
