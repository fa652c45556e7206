package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// Registries that lie, lose, stumble or want to know too much (G01 to G20), through `imprint copy`.

// A tokenGate is a registry that wants a token, of its own and for the repository and the action, which its /token gives
// to somebody whose password is right.
type tokenGate struct {
	next      http.Handler
	challenge func(host, scope string) []string

	mu    sync.Mutex
	asked []string // scopes
	alien []string // requests that came with a token of another host
}

const rightPassword = "right password 11"

func (s *tokenGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		if user, password, ok := r.BasicAuth(); !ok || user != "somebody" || password != rightPassword {
			failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return
		}
		scopes := r.URL.Query()["scope"]
		s.mu.Lock()
		s.asked = append(s.asked, scopes...)
		s.mu.Unlock()
		writeJSON(w, "application/json", map[string]string{"token": b64([]byte(r.Host + " " + strings.Join(scopes, " ") + " "))})
		return
	}
	repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	scope := "repository:" + repo + ":pull"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		scope += ",push"
	}
	token, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if len(token) > 0 && !strings.HasPrefix(string(token), r.Host+" ") {
		s.mu.Lock()
		s.alien = append(s.alien, r.Method+" "+r.URL.Path+": "+string(token))
		s.mu.Unlock()
	}
	if has := string(token); strings.HasPrefix(has, r.Host+" ") && (strings.Contains(has, " "+scope) || strings.Contains(has, " repository:"+repo+":pull,push ")) {
		s.next.ServeHTTP(w, r)
		return
	}
	for _, line := range s.challenge(r.Host, scope) {
		w.Header().Add("WWW-Authenticate", line)
	}
	failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
}

// ownRealm is what an honest registry asks for.
func ownRealm(host, scope string) []string {
	return []string{fmt.Sprintf(`Bearer realm="http://%s/token",service="registry",scope=%q`, host, scope)}
}

// guarded puts a token service before the source, and gives the person the password.
func (x *crossing) guarded(t testing.TB, challenge func(host, scope string) []string) (*tokenGate, *regtest.Server) {
	t.Helper()
	s := &tokenGate{next: x.src, challenge: challenge}
	server := regtest.Serve(t, s)
	x.from = server.Host + "/" + srcRepo + ":v1"
	x.passwords(t, server.Host)
	return s, server
}

func (x *crossing) passwords(t testing.TB, hosts ...string) {
	t.Helper()
	auths := map[string]any{}
	for _, h := range hosts {
		auths[h] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("somebody:" + rightPassword))}
	}
	b, _ := json.Marshal(map[string]any{"auths": auths})
	x.docker(t, string(b))
}

// secretsKept wants that a registry saw no credential and no token, and that no secret is in what was said.
func secretsKept(t testing.TB, other *regtest.Server, o outcome) {
	t.Helper()
	if n := other.Count(func(r regtest.Request) bool {
		return r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != ""
	}); n != 0 {
		t.Errorf("%d requests elsewhere with a credential", n)
	}
	if strings.Contains(o.stdout+o.stderr, rightPassword) || strings.Contains(o.stdout+o.stderr, base64.StdEncoding.EncodeToString([]byte("somebody:"+rightPassword))) {
		t.Errorf("the password is told: %s%s", o.stdout, o.stderr)
	}
}

func TestHostileRegistryRedirects(t *testing.T) {
	t.Parallel()
	layer := bytes.Repeat([]byte("somewhere else "), 20_000)
	path := "/blobs/" + digest.FromBytes(layer).String()
	for name, c := range map[string]struct {
		to     func(store string, n int) string
		store  func(w http.ResponseWriter, r *http.Request)
		code   int
		reason string
		most   int
	}{
		"G01 a blob elsewhere":                 {func(s string, _ int) string { return "http://" + s + "/there?signature=x" }, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(layer) }, 0, "", 1},
		"G01 a blob elsewhere that is another": {func(s string, _ int) string { return "http://" + s + "/there" }, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.ToUpper(layer)) }, 4, "digest-mismatch", 3},
		"G01 redirects without end": {func(s string, _ int) string { return "http://" + s + "/0" }, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"0", http.StatusTemporaryRedirect)
		}, 4, "redirect-refused", 5},
		"G01 a redirect to a file": {func(string, int) string { return "file:///etc/passwd" }, nil, 4, "redirect-refused", 0},
		"G01 a redirect to where a password is asked for": {func(s string, _ int) string { return "http://" + s + "/x" }, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="give it to me"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, 5, "unauthorized", 1},
		"G01 a redirect with a user": {func(s string, _ int) string { return "http://another:person@" + s + "/there" }, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(layer) }, 0, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.store(w, r) }))
			x := newCrossing(t, imageWith(layer, nil))
			_, server := x.guarded(t, ownRealm)
			n := 0
			x.src.Intercept(nil)
			server.Intercept(on(http.MethodGet, path, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") == "" {
					return false
				}
				n++
				w.Header().Set("Location", c.to(store.Host, n))
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}))
			var o outcome
			if c.code == 0 {
				o = x.copy(t, 0, "")
				x.arrived(t, 0)
			} else {
				o = x.refused(t, c.code, c.reason)
			}
			secretsKept(t, store, o)
			if n := store.Count(nil); n > c.most {
				t.Errorf("%d requests elsewhere, at most %d", n, c.most)
			}
		})
	}

	for name, location := range map[string]func(host, other string) string{
		"G02 an upload on another host":             func(_, other string) string { return "http://" + other + "/v2/copied/blobs/uploads/1" },
		"G02 an upload on another host, by slashes": func(_, other string) string { return "//" + other + "/v2/copied/blobs/uploads/1" },
		"G02 an upload by another scheme":           func(host, _ string) string { return "https://" + host + "/v2/copied/blobs/uploads/1" },
		"G02 an upload with a user":                 func(host, _ string) string { return "http://another:person@" + host + "/v2/copied/blobs/uploads/1" },
		"G02 an upload nowhere":                     func(_, _ string) string { return "" },
		"G02 an upload on no URL":                   func(_, _ string) string { return "http://[::1%25/" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
			x := newCrossing(t, imageWith(layer, nil))
			s := &tokenGate{next: x.dst, challenge: ownRealm}
			guard := regtest.Serve(t, s)
			x.to = guard.Host + "/" + dstRepo + ":v1"
			x.passwords(t, guard.Host)
			x.dst.Intercept(on(http.MethodPost, "/blobs/uploads/", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Location", location(guard.Host, other.Host))
				w.WriteHeader(http.StatusAccepted)
				return true
			}))
			guard.Intercept(func(w http.ResponseWriter, r *http.Request) bool { return false })
			s.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/blobs/uploads/") {
					w.Header().Set("Location", location(guard.Host, other.Host))
					w.WriteHeader(http.StatusAccepted)
					return
				}
				x.dst.ServeHTTP(w, r)
			})
			o := x.refused(t, 4, "upload-elsewhere")
			secretsKept(t, other, o)
			if n := other.Count(nil); n != 0 {
				t.Errorf("%d requests went to the other host", n)
			}
		})
	}
	t.Run("G02 a manifest that is redirected", func(t *testing.T) {
		t.Parallel()
		other := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
		x := newCrossing(t, image("redirected"))
		x.dst.Intercept(first(x.dst.believe, on(http.MethodPut, "/manifests/", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://"+other.Host+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		})))
		x.refused(t, 4, "refused")
		if n := other.Count(nil); n != 0 {
			t.Errorf("%d requests went to the other host", n)
		}
	})
}

func TestHostileRegistryRealms(t *testing.T) {
	t.Parallel()
	evil := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, "application/json", map[string]string{"token": "stolen"})
	}))
	for name, realm := range map[string]string{
		"G03 another host":             "http://" + evil.Host + "/token",
		"G03 another host, encrypted":  "https://evil.example/token",
		"G03 an address":               "https://203.0.113.7/token",
		"G03 the cloud's own service":  "http://169.254.169.254/latest/meta-data/",
		"G03 no URL":                   "token",
		"G03 a file":                   "file:///etc/passwd",
		"G03 a user before the host":   "http://%s@" + evil.Host + "/token",
		"G03 a host that begins alike": "http://%s.evil.example/token",
		"G03 a fragment":               "http://%s/token#" + evil.Host,
		"G03 a backslash":              `http://%s\\@` + evil.Host + "/token",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, image(name))
			_, server := x.guarded(t, func(host, scope string) []string {
				return []string{fmt.Sprintf(`Bearer realm="%s",service="x",scope=%q`, strings.ReplaceAll(realm, "%s", host), scope)}
			})
			o := x.refused(t, 5, "realm-not-trusted")
			secretsKept(t, evil, o)
			if n := server.Count(func(r regtest.Request) bool { return r.Header.Get("Authorization") != "" }); n != 0 {
				t.Errorf("%d requests with a credential", n)
			}
			x.untouched(t)
		})
	}
	t.Cleanup(func() {
		if n := evil.Count(nil); n != 0 {
			t.Errorf("%d requests to a token service that was not named", n)
		}
	})
	t.Run("G03 another host that was named", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("trusted realm"))
		var server *regtest.Server
		named := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, password, _ := r.BasicAuth(); password != rightPassword {
				t.Errorf("without the password")
			}
			writeJSON(w, "application/json", map[string]string{"token": b64([]byte(server.Host + " " + r.URL.Query().Get("scope") + " "))})
		}))
		_, server = x.guarded(t, func(_, scope string) []string {
			return []string{fmt.Sprintf(`Bearer realm="http://%s/token",scope=%q`, named.Host, scope)}
		})
		x.refused(t, 5, "realm-not-trusted", "--trust-realm", "127.0.0.2")
		x.env = append(x.env, "NO_COLOR=1")
		x.copy(t, 0, "", "--trust-realm", named.Host)
		x.arrived(t, 0)
	})
	for name, lines := range map[string]func(host, scope string) []string{
		"G04 many challenges": func(host, scope string) []string {
			return append([]string{`Negotiate`, `Digest realm="x", nonce="y"`, `Basic realm="x", NTLM`}, ownRealm(host, scope)...)
		},
		"G04 all in one line": func(host, scope string) []string {
			return []string{`Negotiate, Basic realm="a, Bearer realm=\"http://` + evil.Host + `/token\"", ` + ownRealm(host, scope)[0]}
		},
		"G04 a scope for others": func(host, scope string) []string {
			return ownRealm(host, scope+" repository:other:* registry:catalog:* repository:"+srcRepo+"/../other:pull repository:"+srcRepo+":admin")
		},
		"G04 no scope": func(host, _ string) []string { return []string{`Bearer realm="http://` + host + `/token"`} },
		"G04 the second Bearer is somebody else's": func(host, scope string) []string {
			return append(ownRealm(host, scope), `Bearer realm="http://`+evil.Host+`/token"`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, image(name))
			s, _ := x.guarded(t, lines)
			x.copy(t, 0, "")
			x.arrived(t, 0)
			for _, scope := range s.asked {
				if scope != "repository:"+srcRepo+":pull" {
					t.Errorf("a token for %q was asked for", scope)
				}
			}
		})
	}
	for name, line := range map[string]string{
		"G04 an open quote":  `Bearer realm="http://%s/token`,
		"G04 a realm twice":  `Bearer realm="http://%s/token",realm="http://` + evil.Host + `/token"`,
		"G04 no realm":       `Bearer service="x"`,
		"G04 an open escape": `Bearer realm="http://%s/token\`,
		"G04 ten kilobytes":  `Bearer realm="http://%s/token",x="` + strings.Repeat("x", 10<<10) + `"`,
		"G04 no comma":       `Bearer realm="http://%s/token" scope="x"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, image(name))
			s, _ := x.guarded(t, func(host, _ string) []string { return []string{strings.ReplaceAll(line, "%s", host)} })
			x.refused(t, 5, "unauthorized")
			if len(s.asked) != 0 {
				t.Errorf("a token was asked for: %v", s.asked)
			}
		})
	}
	t.Run("G04 challenges without end", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("challenged"))
		_, server := x.guarded(t, func(host, scope string) []string { return ownRealm(host, scope) })
		server.Intercept(on(http.MethodGet, "/v2/", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("WWW-Authenticate", ownRealm(r.Host, "repository:"+srcRepo+":pull")[0])
			failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return true
		}))
		x.refused(t, 5, "unauthorized")
		if n := server.Count(nil); n > 6 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("G05 tokens stay with their host and their repository", func(t *testing.T) {
		t.Parallel()
		a := image("with tokens")
		a.referrers = []artifact{sbom(a.descriptor, "x")}
		x := newCrossing(t, a)
		from, _ := x.guarded(t, ownRealm)
		to := &tokenGate{next: x.dst, challenge: ownRealm}
		guard := regtest.Serve(t, to)
		x.to = guard.Host + "/" + dstRepo + ":v1"
		source, _, _ := strings.Cut(x.from, "/")
		x.passwords(t, source, guard.Host)
		x.copy(t, 0, "")
		x.arrived(t, 1)
		if len(from.alien)+len(to.alien) != 0 {
			t.Errorf("tokens of another host: %v %v", from.alien, to.alien)
		}
		for _, scope := range from.asked {
			if scope != "repository:"+srcRepo+":pull" {
				t.Errorf("the source was asked for %q", scope)
			}
		}
		for _, scope := range to.asked {
			if !strings.HasPrefix(scope, "repository:"+dstRepo+":") {
				t.Errorf("the destination was asked for %q", scope)
			}
		}
		// Beside one another in one registry: the destination's token does not read the source, nor the other way round.
		x.want(t, 0, "", "copy", guard.Host+"/"+dstRepo+":v1", guard.Host+"/third:v1")
		if len(to.alien) != 0 || x.dst.tagged("third") == nil {
			t.Errorf("%v, %v", to.alien, x.dst.tagged("third"))
		}
	})
	t.Run("G05 a registry that repeats the token", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("repeated"))
		_, server := x.guarded(t, ownRealm)
		var token atomic.Value
		server.Intercept(on(http.MethodGet, "/blobs/", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" {
				return false
			}
			token.Store(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"you sent %s and %s"}]}`, token.Load(), rightPassword)
			return true
		}))
		o := x.refused(t, 5, "forbidden")
		secretsKept(t, server2(t), o)
		if token.Load() == nil || strings.Contains(o.stderr+o.stdout, token.Load().(string)) {
			t.Errorf("the token is told: %s", o.stderr)
		}
	})
}

// server2 is a registry that nobody asks.
func server2(t testing.TB) *regtest.Server {
	return regtest.Serve(t, http.NotFoundHandler())
}

// A tunnel is a proxy that leads each name to where the test wants it.
type tunnel struct {
	*httptest.Server
	mu    sync.Mutex
	to    map[string]string // by host:port
	plain []string          // requests that were not CONNECT: not encrypted
}

func newTunnel(t testing.TB, to map[string]string) *tunnel {
	t.Helper()
	p := &tunnel{to: to}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		target := p.to[r.Host]
		if r.Method != http.MethodConnect {
			p.plain = append(p.plain, r.Method+" "+r.URL.String())
		}
		p.mu.Unlock()
		if r.Method != http.MethodConnect || target == "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		there, err := net.Dial("tcp", target)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(there, here)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}))
	t.Cleanup(p.Server.Close)
	return p
}

// certified makes a server's certificate, of a CA of its own.
func certified(t testing.TB, name string, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key := certtest.Key("P-256").(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestHostileRegistryEncryption(t *testing.T) {
	t.Parallel()
	const name = "registry.test"
	ahead := time.Now().Add(24 * time.Hour)
	// across serves the source of a crossing by TLS as registry.test, and copies from there through a proxy.
	across := func(t *testing.T, x *crossing, certificate tls.Certificate, ca []byte, config *tls.Config, handler http.Handler, more ...string) outcome {
		s := httptest.NewUnstartedServer(handler)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if config != nil {
			config.Certificates = []tls.Certificate{certificate}
			s.TLS = config
			s.EnableHTTP2 = true
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		p := newTunnel(t, map[string]string{name + ":443": s.Listener.Addr().String(), "plain.test:80": s.Listener.Addr().String()})
		x.env = append(x.env, "HTTPS_PROXY="+p.URL, "HTTP_PROXY="+p.URL)
		if strings.HasPrefix(x.from, x.src.Host) {
			x.from = name + "/" + srcRepo + ":v1"
		}
		args := append([]string{"copy", x.from, x.to, "--timeout", "20s", "-o", "json"}, more...)
		if ca != nil {
			args = append(args, "--ca-file", x.file("ca.pem", ca))
		}
		o := x.process(t, args...)
		x.dst.sound(t)
		if len(p.plain) != 0 {
			t.Errorf("asked without encryption: %v", p.plain)
		}
		return o
	}
	wants := func(t *testing.T, x *crossing, o outcome, code int, reason string) {
		t.Helper()
		if o.code != code || reason != "" && !slices.Contains(o.reasons(t), reason) {
			t.Errorf("exit code %d, want %d %s: %s%s", o.code, code, reason, o.stdout, o.stderr)
		}
		if code != 0 && len(x.dst.tagged(dstRepo)) != 0 {
			t.Error("a tag was written")
		}
	}
	good, ca := certified(t, name, ahead)
	t.Run("G07 its own CA", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("encrypted"))
		wants(t, x, across(t, x, good, ca, &tls.Config{}, x.src), 0, "")
		x.arrived(t, 0)
	})
	t.Run("G06 a registry without encryption", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("plain"))
		wants(t, x, across(t, x, good, ca, nil, x.src), 4, "registry-unavailable")
		x.untouched(t)
	})
	t.Run("G06 redirected to where nothing is encrypted", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("downgraded"))
		wants(t, x, across(t, x, good, ca, &tls.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, "http://plain.test"+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			x.src.ServeHTTP(w, r)
		})), 4, "redirect-refused")
	})
	t.Run("G02 an upload where nothing is encrypted", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("downgraded"))
		x.from, x.to = x.src.Host+"/"+srcRepo+":v1", name+"/"+dstRepo+":v1"
		x.src.Host = "nobody" // the source stays where it is
		wants(t, x, across(t, x, good, ca, &tls.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.Header().Set("Location", "http://"+name+r.URL.Path+"1")
				w.WriteHeader(http.StatusAccepted)
				return
			}
			x.dst.ServeHTTP(w, r)
		})), 4, "upload-elsewhere")
	})
	t.Run("G03 a token where nothing is encrypted", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("downgraded"))
		wants(t, x, across(t, x, good, ca, &tls.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+name+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		})), 5, "realm-not-trusted")
	})
	expired, expiredCA := certified(t, name, time.Now().Add(-time.Hour))
	other, otherCA := certified(t, "other.test", ahead)
	for row, c := range map[string]struct {
		certificate tls.Certificate
		ca          []byte
		config      *tls.Config
	}{
		"G07 an unknown CA": {good, nil, &tls.Config{}},
		"G07 another CA":    {good, otherCA, &tls.Config{}},
		"G07 a wrong name":  {other, otherCA, &tls.Config{}},
		"G07 expired":       {expired, expiredCA, &tls.Config{}},
		"G07 TLS 1.0":       {good, ca, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}},
	} {
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, image(row))
			wants(t, x, across(t, x, c.certificate, c.ca, c.config, x.src), 4, "registry-unavailable")
			if n := x.src.Count(nil); n != 0 {
				t.Errorf("%d requests got through", n)
			}
			x.untouched(t)
		})
	}
	t.Run("G20 connections that go away", func(t *testing.T) {
		t.Parallel()
		a := index("unsteady")
		x := newCrossing(t, a)
		var n, two atomic.Int64
		wants(t, x, across(t, x, good, ca, &tls.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 {
				two.Add(1)
			}
			switch n.Add(1) % 4 {
			case 1:
				panic(http.ErrAbortHandler) // RST_STREAM
			case 2:
				w.Header().Set("Connection", "close") // GOAWAY after this one
			}
			x.src.ServeHTTP(w, r)
		})), 0, "")
		x.arrived(t, 0)
		for _, s := range a.subjects() {
			if !x.dst.has(dstRepo, s.Digest) {
				t.Errorf("%s did not arrive", s.Digest)
			}
		}
		if two.Load() == 0 {
			t.Error("it was not HTTP/2")
		}
	})
}

func TestHostileRegistryAnswers(t *testing.T) {
	t.Parallel()
	signedImage := func(name string) artifact {
		a := image(name)
		a.referrers = []artifact{sbom(a.descriptor, "of "+name)}
		return a
	}
	run := func(name string, test func(t *testing.T, x *crossing)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newCrossing(t, signedImage(name)))
		})
	}
	status := func(code int, text string) func(http.ResponseWriter, *http.Request) bool {
		return always(func(w http.ResponseWriter) { failure(w, code, text) })
	}

	run("G08 the header says one digest, the bytes are another", func(t *testing.T, x *crossing) {
		x.src.Intercept(on(http.MethodGet, "/manifests/v1", always(func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", x.a.descriptor.MediaType)
			w.Header().Set("Docker-Content-Digest", x.a.descriptor.Digest.String())
			_, _ = w.Write(image("another").manifest)
		})))
		x.refused(t, 4, "digest-mismatch")
		x.untouched(t)
	})
	run("G08 by digest other bytes", func(t *testing.T, x *crossing) {
		at := "/manifests/" + x.a.referrers[0].descriptor.Digest.String()
		x.src.Intercept(on(http.MethodGet, at, always(func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = w.Write(x.a.manifest)
		})))
		x.refused(t, 4, "digest-mismatch")
	})
	run("G08 the destination says that it has the digest, under the tag", func(t *testing.T, x *crossing) {
		// HEAD decides what is written, not what is believed: a registry that lies about its own tag deceives nobody else.
		x.dst.Intercept(first(x.dst.believe, on(http.MethodHead, "/manifests/v1", always(func(w http.ResponseWriter) {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("z", 64))
			w.WriteHeader(http.StatusOK)
		}))))
		o := x.run(t, "copy", x.from, x.to, "-o", "json")
		x.dst.sound(t)
		if o.code == 0 {
			x.arrived(t, 1)
		} else if tags := x.dst.tagged(dstRepo); len(tags) != 0 || len(o.reasons(t)) == 0 {
			t.Errorf("exit code %d, tags %v: %s", o.code, tags, o.stderr)
		}
	})
	for _, code := range []int{http.StatusMethodNotAllowed} {
		run(fmt.Sprintf("G09 HEAD answers %d", code), func(t *testing.T, x *crossing) {
			no := on(http.MethodHead, "/v2/", status(code, "UNSUPPORTED"))
			x.src.Intercept(no)
			x.dst.Intercept(first(x.dst.believe, no))
			x.copy(t, 0, "")
			x.arrived(t, 1)
			x.copy(t, 0, "")
			x.arrived(t, 1)
		})
	}
	run("G09 HEAD says that there is nothing", func(t *testing.T, x *crossing) {
		no := on(http.MethodHead, "/v2/", status(http.StatusNotFound, "NOT_FOUND"))
		x.src.Intercept(no)
		x.dst.Intercept(first(x.dst.believe, no))
		x.copy(t, 0, "")
		x.arrived(t, 1)
	})

	tagOf := func(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) }
	// listedByTag stores a list at the fallback tag.
	listedByTag := func(f *fake, repo string, subject digest.Digest, entries ...ocispec.Descriptor) {
		ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: entries}
		ix.SchemaVersion = 2
		b, _ := json.Marshal(ix)
		f.put(repo, tagOf(subject), ocispec.MediaTypeImageIndex, b)
	}
	inTag := func(t *testing.T, f *fake, repo string, subject digest.Digest) []digest.Digest {
		t.Helper()
		f.mu.Lock()
		defer f.mu.Unlock()
		var ix ocispec.Index
		if m, ok := f.manifests[repo+":"+tagOf(subject)]; ok {
			must(t, json.Unmarshal(m.b, &ix))
		}
		var out []digest.Digest
		for _, d := range ix.Manifests {
			out = append(out, d.Digest)
		}
		return out
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		warns  bool
		code   int
		reason string
	}{
		"G10 the API answers 404": {func(w http.ResponseWriter) { failure(w, 404, "NOT_FOUND") }, false, 0, ""},
		"G10 the API answers 405": {func(w http.ResponseWriter) { failure(w, 405, "UNSUPPORTED") }, true, 0, ""},
		"G10 the API answers HTML": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		}, true, 0, ""},
		"G10 the API answers a list of Docker's": {func(w http.ResponseWriter) {
			writeJSON(w, "application/vnd.docker.distribution.manifest.list.v2+json", map[string]any{"schemaVersion": 2, "manifests": []any{}})
		}, true, 0, ""},
		"G10 the API answers 50 MB": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			for range 800 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					return
				}
			}
		}, false, 4, "too-large"},
		"G10 the API answers junk": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = io.WriteString(w, "{")
		}, false, 4, "manifest-malformed"},
		"G10 the API answers 403": {func(w http.ResponseWriter) { failure(w, 403, "DENIED") }, false, 5, "forbidden"},
	} {
		for _, side := range []string{"source", "destination"} {
			run(name+" at the "+side, func(t *testing.T, x *crossing) {
				d := x.a.referrers[0].descriptor
				d.ArtifactType = spdxType
				odd := on(http.MethodGet, "/referrers/", always(c.answer))
				f := x.src
				if side == "source" {
					listedByTag(f, srcRepo, x.a.descriptor.Digest, d)
					f.Intercept(odd)
				} else {
					f = x.dst
					f.noAPI = true
					f.Intercept(first(f.believe, odd))
				}
				if c.code != 0 {
					code := c.code
					if side == "destination" {
						code = 7 // it is asked once the artifact is there
					}
					x.refused(t, code, c.reason)
					if n := f.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/referrers/") }); n > 3 {
						t.Errorf("asked %d times", n)
					}
					return
				}
				o := x.copy(t, 0, "")
				if side == "source" {
					x.arrived(t, 1)
				} else if x.arrived(t, 0); !slices.Equal(inTag(t, f, dstRepo, x.a.descriptor.Digest), []digest.Digest{d.Digest}) {
					t.Errorf("the fallback tag lists %v", inTag(t, f, dstRepo, x.a.descriptor.Digest))
				}
				if warned := strings.Contains(o.stderr, "the fallback tag is used"); warned != c.warns {
					t.Errorf("warned: %t, want %t: %s", warned, c.warns, o.stderr)
				}
			})
		}
	}
	run("G11 the API and the tag list different things", func(t *testing.T, x *crossing) {
		stray := x.src.putArtifact(srcRepo, "", sbom(x.a.descriptor, "listed by the tag alone"))
		listedByTag(x.src, srcRepo, x.a.descriptor.Digest, stray)
		x.copy(t, 0, "")
		x.arrived(t, 1)
		if x.dst.has(dstRepo, stray.Digest) {
			t.Error("the tag was read though the API lists something")
		}
	})
	run("G11 the API lists nothing, the tag does", func(t *testing.T, x *crossing) {
		d := x.a.referrers[0].descriptor
		d.ArtifactType = spdxType
		x.src.mu.Lock()
		x.src.listed = map[string][]ocispec.Descriptor{}
		x.src.mu.Unlock()
		listedByTag(x.src, srcRepo, x.a.descriptor.Digest, d)
		x.copy(t, 0, "")
		x.arrived(t, 1)
	})
	for _, what := range []string{"an image", "the subject itself", "an index of platforms"} {
		squatter := func(x *crossing, f *fake, repo string) served {
			b, mediaType := image("squatting").manifest, ocispec.MediaTypeImageManifest
			switch what {
			case "the subject itself":
				b = x.a.manifest
			case "an index of platforms":
				b, mediaType = index("squatting").manifest, ocispec.MediaTypeImageIndex
			}
			f.put(repo, tagOf(x.a.descriptor.Digest), mediaType, b)
			return served{mediaType, digest.FromBytes(b), b}
		}
		run("G12 the fallback tag at the destination holds "+what, func(t *testing.T, x *crossing) {
			x.dst.noAPI = true
			was := squatter(x, x.dst, dstRepo)
			o := x.copy(t, 7, "fallback-tag-occupied")
			if err := oneError("", withoutWarnings(o.stderr)); err != nil {
				t.Error(err)
			}
			if tags := x.dst.tagged(dstRepo); len(tags) != 0 {
				t.Errorf("tags were written: %v", tags)
			}
			x.dst.mu.Lock()
			defer x.dst.mu.Unlock()
			if now := x.dst.manifests[dstRepo+":"+tagOf(x.a.descriptor.Digest)]; !bytes.Equal(now.b, was.b) {
				t.Error("it was overwritten")
			}
		})
		run("G12 the fallback tag at the source holds "+what, func(t *testing.T, x *crossing) {
			x.src.noAPI = true
			squatter(x, x.src, srcRepo)
			o := x.copy(t, 0, "")
			x.arrived(t, 0)
			if !strings.Contains(o.stderr, "holds something else") {
				t.Errorf("it is not told: %s", o.stderr)
			}
		})
	}
	for name, header := range map[string]string{"G13 no OCI-Subject": "", "G13 OCI-Subject of another": digest.FromString("another").String(), "G13 OCI-Subject that is no digest": "../../x"} {
		edit := func(x *crossing) {
			x.dst.Intercept(first(x.dst.believe, on(http.MethodPut, "/manifests/sha256:", func(w http.ResponseWriter, r *http.Request) bool {
				x.dst.ServeHTTP(subjectless{w, header}, r)
				return true
			})))
		}
		run(name+", and the API lists it", func(t *testing.T, x *crossing) {
			edit(x)
			x.copy(t, 0, "")
			x.arrived(t, 1)
			if list := inTag(t, x.dst, dstRepo, x.a.descriptor.Digest); list != nil {
				t.Errorf("the fallback tag was written: %v", list)
			}
		})
		run(name+", and the API lists nothing", func(t *testing.T, x *crossing) {
			edit(x)
			believing := x.dst.noAPI
			x.dst.noAPI = true
			defer func() { x.dst.noAPI = believing }()
			x.dst.Intercept(first(x.dst.believe, on(http.MethodGet, "/referrers/", always(func(w http.ResponseWriter) { page(w, "", nil) }))))
			x.copy(t, 0, "")
			if list := inTag(t, x.dst, dstRepo, x.a.descriptor.Digest); len(list) != 1 {
				t.Errorf("the fallback tag lists %v", list)
			}
		})
	}
	run("G13 OCI-Subject without a list", func(t *testing.T, x *crossing) {
		x.dst.Intercept(first(x.dst.believe, on(http.MethodGet, "/referrers/", always(func(w http.ResponseWriter) { page(w, "", nil) }))))
		o := x.copy(t, 7, "referrers-unsettled")
		if tags := x.dst.tagged(dstRepo); len(tags) != 0 || !strings.Contains(o.stderr, "no tag was written") {
			t.Errorf("tags %v: %s", tags, o.stderr)
		}
	})
	run("G14 a referrer that was stored and is gone", func(t *testing.T, x *crossing) {
		x.dst.Intercept(first(x.dst.believe, on(http.MethodPut, "/manifests/"+x.a.referrers[0].descriptor.Digest.String(), func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("OCI-Subject", x.a.descriptor.Digest.String())
			w.WriteHeader(http.StatusCreated)
			return true
		})))
		o := x.copy(t, 7, "referrers-unsettled")
		if err := oneError("", withoutWarnings(o.stderr)); err != nil {
			t.Error(err)
		}
		if tags := x.dst.tagged(dstRepo); len(tags) != 0 {
			t.Errorf("tags were written: %v", tags)
		}
		if n := x.dst.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/referrers/") }); n > 8 {
			t.Errorf("the list was read %d times", n)
		}
		// The registry comes to itself.
		x.dst.Intercept(x.dst.believe)
		x.copy(t, 0, "")
		x.arrived(t, 1)
	})
	run("G15 a ghost at the source", func(t *testing.T, x *crossing) {
		ghost := invented(0, 1)[0]
		ghost.ArtifactType = signatureType
		x.src.list(srcRepo, x.a.descriptor.Digest, ghost)
		o := x.copy(t, 0, "ghost")
		x.arrived(t, 1)
		if got := o.object(t, ghost.Digest); got != "skipped ghost" || !strings.Contains(o.stderr, "left behind") {
			t.Errorf("%q: %s", got, o.stderr)
		}
	})
	run("G15 a ghost at the destination", func(t *testing.T, x *crossing) {
		ghost := invented(0, 1)[0]
		ghost.ArtifactType = signatureType
		x.dst.list(dstRepo, x.a.descriptor.Digest, ghost)
		x.copy(t, 0, "")
		x.arrived(t, 2) // the registry's own ghost, and what came
		if !x.dst.has(dstRepo, x.a.referrers[0].descriptor.Digest) {
			t.Error("the referrer did not arrive")
		}
	})
	for code, text := range map[int]string{409: "TAG_IMMUTABLE", 403: "DENIED", 412: "PRECONDITION_FAILED", 400: "TAG_INVALID"} {
		run(fmt.Sprintf("G16 an immutable tag, %d", code), func(t *testing.T, x *crossing) {
			old := x.dst.putArtifact(dstRepo, "v1", image("from before"))
			x.dst.Intercept(first(x.dst.believe, on(http.MethodPut, "/manifests/v1", status(code, text))))
			o := x.copy(t, 7, "tag-immutable", "--move", "v1")
			if err := oneError("", withoutWarnings(o.stderr)); err != nil {
				t.Error(err)
			}
			x.dst.mu.Lock()
			now := x.dst.manifests[dstRepo+":v1"].digest
			x.dst.mu.Unlock()
			if now != old.Digest || !x.dst.has(dstRepo, x.a.referrers[0].descriptor.Digest) {
				t.Errorf("v1 is %s", now)
			}
		})
	}
	run("G16 an immutable tag that is right", func(t *testing.T, x *crossing) {
		x.copy(t, 0, "")
		x.dst.Intercept(first(x.dst.believe, on(http.MethodPut, "/manifests/", status(409, "TAG_IMMUTABLE"))))
		x.dst.Reset()
		x.copy(t, 0, "")
		x.untouched(t)
	})
	run("G17 tags in disorder, twice, and wrong", func(t *testing.T, x *crossing) {
		x.src.put(srcRepo, "a2", x.a.descriptor.MediaType, x.a.manifest)
		x.src.Intercept(on(http.MethodGet, "/tags/list", always(func(w http.ResponseWriter) {
			writeJSON(w, "application/json", map[string]any{"name": "of another", "tags": []string{"v1", "a2", "v1", "a2"}})
		})))
		x.want(t, 0, "", "copy", x.src.Host+"/"+srcRepo, x.dst.Host+"/"+dstRepo, "--all-tags")
		x.arrived(t, 1)
		if tags := x.dst.tagged(dstRepo); !slices.Equal(tags, []string{"a2", "v1"}) {
			t.Errorf("tags %v", tags)
		}
		// For one artifact they are not asked for.
		x.src.Reset()
		x.want(t, 0, "", "copy", x.from, x.dst.Host+"/once:v1")
		if n := x.src.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/tags/") }); n != 0 {
			t.Errorf("%d requests for tags", n)
		}
	})
	run("G17 a million tags", func(t *testing.T, x *crossing) {
		var n atomic.Int64
		x.src.Intercept(on(http.MethodGet, "/tags/list", func(w http.ResponseWriter, r *http.Request) bool {
			i := n.Add(1)
			w.Header().Set("Link", fmt.Sprintf("<%s?last=%d>; rel=next", r.URL.Path, i))
			tags := make([]string, 100)
			for k := range tags {
				tags[k] = fmt.Sprintf("t%d-%d", i, k)
			}
			writeJSON(w, "application/json", map[string]any{"tags": tags})
			return true
		}))
		o := x.want(t, 7, "list-capped", "copy", x.src.Host+"/"+srcRepo, x.dst.Host+"/"+dstRepo, "--all-tags")
		if n.Load() > 100 || !strings.Contains(o.stderr, "100 pages") {
			t.Errorf("%d pages: %s", n.Load(), o.stderr)
		}
		x.untouched(t)
	})
	run("G18 a mount that opens an upload", func(t *testing.T, x *crossing) {
		// Beside one another in one registry, which never mounts.
		var mounts atomic.Int64
		x.src.Intercept(on(http.MethodPost, "/"+dstRepo+"/blobs/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("mount") {
				mounts.Add(1)
				w.Header().Set("Location", "/v2/"+dstRepo+"/blobs/uploads/of-the-mount")
				w.WriteHeader(http.StatusAccepted)
				return true
			}
			return false
		}))
		x.want(t, 0, "", "copy", x.from, x.src.Host+"/"+dstRepo+":v1")
		used := x.src.Count(func(r regtest.Request) bool {
			return r.Method == http.MethodPut && strings.HasSuffix(r.Path, "/of-the-mount")
		})
		if mounts.Load() == 0 || int64(used) != mounts.Load() {
			t.Errorf("%d sessions came of mounts, %d were used", mounts.Load(), used)
		}
		if !slices.Contains(x.src.tagged(dstRepo), "v1") || len(x.src.referrers(dstRepo, x.a.descriptor.Digest)) != 1 {
			t.Error("it did not arrive")
		}
	})
	run("G19 a blob that is compressed on the way", func(t *testing.T, x *crossing) {
		x.src.Intercept(on(http.MethodGet, "/blobs/"+x.a.blobs[1].descriptor.Digest.String(), always(func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			g := gzip.NewWriter(w)
			_, _ = g.Write(x.a.blobs[1].b)
			_ = g.Close()
		})))
		x.refused(t, 4, "digest-mismatch")
		for _, r := range x.src.Requests() {
			if got := r.Header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("%s %s accepts %q", r.Method, r.Path, got)
			}
		}
	})
	run("G19 a manifest that is compressed on the way", func(t *testing.T, x *crossing) {
		x.src.Intercept(on(http.MethodGet, "/manifests/v1", always(func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", x.a.descriptor.MediaType)
			w.Header().Set("Docker-Content-Digest", x.a.descriptor.Digest.String())
			g := gzip.NewWriter(w)
			_, _ = g.Write(x.a.manifest)
			_ = g.Close()
		})))
		x.refused(t, 4, "digest-mismatch")
		x.untouched(t)
	})
	run("G20 connections that break", func(t *testing.T, x *crossing) {
		var n atomic.Int64
		cut := func(w http.ResponseWriter, _ *http.Request) bool {
			if n.Add(1)%3 != 0 {
				return false
			}
			panic(http.ErrAbortHandler)
		}
		x.src.Intercept(cut)
		x.dst.Intercept(first(cut, x.dst.believe))
		x.copy(t, 0, "")
		x.arrived(t, 1)
	})

	// Others of the same classes.
	layer := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	half := len(layer) / 2
	partial := func(answer func(w http.ResponseWriter, from int)) func(x *crossing) {
		return func(x *crossing) {
			x.src.Intercept(on(http.MethodGet, "/blobs/"+digest.FromBytes(layer).String(), func(w http.ResponseWriter, r *http.Request) bool {
				from, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), fmt.Sprintf("-%d", len(layer)-1)))
				if r.Header.Get("Range") != "" {
					answer(w, from)
					return true
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(layer)))
				_, _ = w.Write(layer[:half])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}))
		}
	}
	for name, c := range map[string]struct {
		set    func(x *crossing)
		code   int
		reason string
	}{
		"a part that is right": {partial(func(w http.ResponseWriter, from int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(layer)-1, len(layer)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(layer[from:])
		}), 0, ""},
		"a part that is called another": {partial(func(w http.ResponseWriter, from int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(layer)-from-1, len(layer)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(layer[:len(layer)-from])
		}), 4, ""},
		"a part that is another": {partial(func(w http.ResponseWriter, from int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(layer)-1, len(layer)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(bytes.Repeat([]byte("x"), len(layer)-from))
		}), 4, "digest-mismatch"},
		"a part that is longer": {partial(func(w http.ResponseWriter, from int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(layer)-1, len(layer)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(append(bytes.Clone(layer[from:]), layer...))
		}), 4, "digest-mismatch"},
		"the whole instead of a part": {partial(func(w http.ResponseWriter, _ int) { _, _ = w.Write(layer) }), 0, ""},
		"a part that nobody asked for": {func(x *crossing) {
			x.src.Intercept(on(http.MethodGet, "/blobs/"+digest.FromBytes(layer).String(), always(func(w http.ResponseWriter) {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", half-1, len(layer)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(layer[:half])
			})))
		}, 4, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, imageWith(layer, nil))
			c.set(x)
			if c.code == 0 {
				x.copy(t, 0, "")
				x.arrived(t, 0)
				return
			}
			x.refused(t, c.code, c.reason, "--timeout", "2s")
			if n := x.src.Count(nil); n > 60 {
				t.Errorf("%d requests", n)
			}
		})
	}
	for name, says := range map[string]string{"OCI-Tag of one of two": "v1", "OCI-Tag of another": "other", "OCI-Tag of nothing": ","} {
		run(name, func(t *testing.T, x *crossing) {
			x.dst.Intercept(first(x.dst.believe, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || !r.URL.Query().Has("tag") {
					return false
				}
				for _, tag := range r.URL.Query()["tag"] {
					if strings.Contains(says, tag) {
						x.dst.put(dstRepo, tag, x.a.descriptor.MediaType, x.a.manifest)
					}
				}
				w.Header().Set("OCI-Tag", says)
				w.WriteHeader(http.StatusCreated)
				return true
			}))
			x.to = x.dst.Host + "/" + dstRepo
			x.copy(t, 0, "", "--tag", "v1", "--tag", "v2")
			if tags := x.dst.tagged(dstRepo); !slices.Equal(tags, []string{"v1", "v2"}) {
				t.Errorf("tags %v", tags)
			}
		})
	}
	run("the destination's fallback tag lists a referrer that is gone", func(t *testing.T, x *crossing) {
		// Somebody has deleted the manifest, and the list still has it: a list alone makes nobody see it.
		x.dst.noAPI = true
		x.copy(t, 0, "")
		d := x.a.referrers[0].descriptor.Digest
		x.dst.mu.Lock()
		delete(x.dst.manifests, dstRepo+"@"+d.String())
		x.dst.mu.Unlock()
		o := x.copy(t, 0, "")
		if got := o.object(t, d); got != "copied" || !x.dst.has(dstRepo, d) {
			t.Errorf("it is listed and not there: %q", got)
		}
		if list := inTag(t, x.dst, dstRepo, x.a.descriptor.Digest); !slices.Equal(list, []digest.Digest{d}) {
			t.Errorf("listed: %v", list)
		}
		x.dst.Reset()
		x.copy(t, 0, "")
		x.untouched(t)
	})
	run("G15 the destination's API lists what was deleted", func(t *testing.T, x *crossing) {
		// The API is the registry's own word of what it has, and is taken: no request for each of its entries.
		x.copy(t, 0, "")
		d := x.a.referrers[0].descriptor.Digest
		x.dst.mu.Lock()
		delete(x.dst.manifests, dstRepo+"@"+d.String())
		x.dst.mu.Unlock()
		x.dst.Reset()
		o := x.copy(t, 0, "")
		if got := o.object(t, d); got != "there" || x.dst.Count(nil) > 2 {
			t.Errorf("%q, %d requests", got, x.dst.Count(nil))
		}
		x.untouched(t)
	})
	run("errors with what a terminal would obey", func(t *testing.T, x *crossing) {
		x.src.Intercept(on(http.MethodGet, "/blobs/", always(func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":[{"code":"\u001b[2J","message":"\u001b]0;owned\u0007\u202e`+strings.Repeat("x", 8000)+`"}]}`)
		})))
		o := x.refused(t, 5, "forbidden")
		if strings.ContainsAny(o.stderr, "\x1b\x07\u202e") || len(o.stderr) > 3000 {
			t.Errorf("%d bytes: %q", len(o.stderr), o.stderr)
		}
	})
}

// subjectless replaces OCI-Subject.
type subjectless struct {
	http.ResponseWriter
	says string
}

func (s subjectless) WriteHeader(status int) {
	s.Header().Del("OCI-Subject")
	if s.says != "" {
		s.Header().Set("OCI-Subject", s.says)
	}
	s.ResponseWriter.WriteHeader(status)
}
