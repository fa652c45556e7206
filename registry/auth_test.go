package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

const (
	testUser   = "release-bot"
	testSecret = "pl4nted-s3cret" // must never be seen in an error
)

func static(cred Credential) (CredentialFunc, *int) {
	var mu sync.Mutex
	asked := 0
	return func(context.Context, string) (Credential, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return cred, nil
	}, &asked
}

// noSecret fails if an error shows the planted secret in any form (A23).
func noSecret(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	basic := base64.StdEncoding.EncodeToString([]byte(testUser + ":" + testSecret))
	for _, text := range []string{fmt.Sprint(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%q", err)} {
		if strings.Contains(text, testSecret) || strings.Contains(text, basic) {
			t.Errorf("A23: the error shows a secret: %s", text)
		}
	}
}

// A tokenRegistry asks for tokens, and counts what it is asked.
type tokenRegistry struct {
	*regtest.Server
	challenge string // %s: its own URL

	mu     sync.Mutex
	tokens int             // that were issued
	valid  map[string]bool // tokens → still good
	asked  []url.Values    // queries of token requests
	auths  []string        // Authorization headers of token requests
	refuse bool
}

func newTokenRegistry(t testing.TB, inner http.Handler) *tokenRegistry {
	t.Helper()
	r := &tokenRegistry{valid: make(map[string]bool), challenge: `Bearer realm="http://%s/token",service="test"`}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", r.token)
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, req *http.Request) {
		token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
		r.mu.Lock()
		good := r.valid[token] && (strings.Contains(token, strings.TrimPrefix(req.URL.Path[len("/v2/"):], "_")[:3]) || len(token) > 0 && strings.HasSuffix(token, "any"))
		r.mu.Unlock()
		if !good {
			w.Header().Set("Www-Authenticate", strings.ReplaceAll(r.challenge, "%s", r.Host))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, req)
	})
	r.Server = regtest.Serve(t, mux)
	return r
}

// token issues one that is good for the repository named in the scope: its name is in it.
func (r *tokenRegistry) token(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = req.ParseForm()
	r.asked = append(r.asked, req.Form)
	r.auths = append(r.auths, req.Header.Get("Authorization"))
	if r.refuse {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong password %s"}]}`, testSecret)
		return
	}
	r.tokens++
	name := "any"
	if s := strings.Split(req.Form.Get("scope"), ":"); len(s) == 3 {
		name = s[1]
	}
	token := fmt.Sprintf("token-%d-%s", r.tokens, name)
	r.valid[token] = true
	_, _ = fmt.Fprintf(w, `{"token":%q}`, token)
}

func basicRegistry(t testing.TB, inner http.Handler) *regtest.Server {
	return regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, password, ok := req.BasicAuth(); !ok || user != testUser || password != testSecret {
			w.Header().Set("Www-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"you sent %s"}]}`, password)
			return
		}
		inner.ServeHTTP(w, req)
	}))
}

func withAuthorization(r regtest.Request) bool { return r.Header.Get("Authorization") != "" }

func TestBasic(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithAPI)
	s := basicRegistry(t, inner.Handler())
	creds, asked := static(Credential{Username: testUser, Password: testSecret})
	r := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app")
	pushImage(t, r, "image")
	if n := s.Count(func(r regtest.Request) bool { return r.Status == 401 }); n != 1 || *asked != 1 {
		t.Errorf("refused %d times, credential asked for %d times", n, *asked)
	}
}

// A registry that lets everybody in is told nothing, and no credential is looked up.
func TestAnonymous(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	creds, asked := static(Credential{Username: testUser, Password: testSecret})
	pushImage(t, openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app"), "image")
	if *asked != 0 || s.Count(withAuthorization) != 0 {
		t.Errorf("asked %d times, sent %d times", *asked, s.Count(withAuthorization))
	}
	for _, r := range s.Requests() {
		if r.Path == "/v2/" {
			t.Error("a request that nobody needs")
		}
	}
}

// A wrong credential is sent exactly once, however many requests want it: accounts get locked (F21).
func TestF21WrongCredentials(t *testing.T) {
	t.Parallel()
	ask := func(t *testing.T, c *Client, host string) {
		var wg sync.WaitGroup
		for i := range 20 {
			r := openTest(t, c, host, fmt.Sprintf("app%d", i%4))
			wg.Go(func() {
				_, err := r.Resolve(t.Context(), r.Reference().With("v1", ""))
				if !errors.Is(err, ErrUnauthorized) || reason(err) != "unauthorized" {
					t.Error(err)
				}
				noSecret(t, err)
			})
		}
		wg.Wait()
		err := openTest(t, c, host, "app0").PushBytes(t.Context(), blobOf([]byte("later")), []byte("later"))
		if !errors.Is(err, ErrUnauthorized) {
			t.Errorf("later: %v", err)
		}
		noSecret(t, err)
	}
	wrong := Credential{Username: testUser, Password: testSecret + " of yesterday"}
	t.Run("Basic", func(t *testing.T) {
		t.Parallel()
		creds, asked := static(wrong)
		s := basicRegistry(t, http.NotFoundHandler())
		ask(t, newTestClient(t, Options{Credentials: creds}), s.Host)
		if n := s.Count(withAuthorization); n != 1 || *asked != 1 {
			t.Errorf("sent %d times, looked up %d times", n, *asked)
		}
	})
	t.Run("Bearer", func(t *testing.T) {
		t.Parallel()
		creds, asked := static(wrong)
		s := newTokenRegistry(t, http.NotFoundHandler())
		s.refuse = true
		ask(t, newTestClient(t, Options{Credentials: creds}), s.Host)
		if n := s.Count(withAuthorization); n != 1 || *asked != 1 {
			t.Errorf("sent %d times, looked up %d times", n, *asked)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := basicRegistry(t, http.NotFoundHandler())
		ask(t, newTestClient(t, Options{}), s.Host)
		if n := s.Count(withAuthorization); n != 0 {
			t.Errorf("sent %d times", n)
		}
	})
}

// A credential that was good and is not any more is not tried a second time either.
func TestF21PasswordChanges(t *testing.T) {
	t.Parallel()
	s := basicRegistry(t, regtest.New(t, regtest.WithAPI).Handler())
	creds, _ := static(Credential{Username: testUser, Password: testSecret})
	r := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app")
	pushImage(t, r, "image")
	s.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	s.Reset()
	for range 3 {
		if _, err := r.Tagged(t.Context(), "v1"); !errors.Is(err, ErrUnauthorized) {
			t.Error(err)
		}
	}
	if n := s.Count(withAuthorization); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// A registry that answers 401 where a good password may not do one thing (here: read the repository that a blob would be
// mounted from) does not end what it may do; the blob is sent instead.
func TestDeniedIsNotRefused(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithAPI)
	var denied atomic.Int64
	s := basicRegistry(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.URL.Query().Get("from"); strings.HasPrefix(from, "secret") {
			denied.Add(1)
			w.Header().Set("Www-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.Handler().ServeHTTP(w, r)
	}))
	creds, _ := static(Credential{Username: testUser, Password: testSecret})
	c := newTestClient(t, Options{Credentials: creds})
	r := openTest(t, c, s.Host, "app")
	pushImage(t, r, "image")
	for i := range 2 * maxDenials {
		b := bytes.Repeat([]byte{byte(i)}, maxUnasked+1)
		from := openTest(t, c, s.Host, fmt.Sprintf("secret%d", i))
		if sent, err := r.PushBlob(t.Context(), blobOf(b), from, BytesBody(b)); err != nil || sent.Mounted {
			t.Fatalf("blob %d: %+v, %v", i, sent, err)
		}
	}
	if n := denied.Load(); n != 2*maxDenials {
		t.Errorf("denied %d times", n)
	}
}

// Refusals of one thing after another, with nothing allowed in between, are of the password: a batch does not go on
// sending it to the last of its repositories.
func TestDeniedInARowIsRefused(t *testing.T) {
	t.Parallel()
	s := basicRegistry(t, regtest.New(t, regtest.WithAPI).Handler())
	creds, _ := static(Credential{Username: testUser, Password: testSecret})
	c := newTestClient(t, Options{Credentials: creds})
	pushImage(t, openTest(t, c, s.Host, "app"), "image")
	s.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	s.Reset()
	for i := range 4 * maxDenials {
		if _, err := openTest(t, c, s.Host, fmt.Sprintf("app%d", i)).Tagged(t.Context(), "v1"); !errors.Is(err, ErrUnauthorized) {
			t.Error(err)
		}
	}
	if n := s.Count(withAuthorization); n != maxDenials {
		t.Errorf("sent %d times", n)
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for name, cred := range map[string]Credential{
		"anonymous":      {},
		"password":       {Username: testUser, Password: testSecret},
		"identity token": {RefreshToken: testSecret},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTokenRegistry(t, regtest.New(t, regtest.WithAPI).Handler())
			creds, _ := static(cred)
			c := newTestClient(t, Options{Credentials: creds})
			r := openTest(t, c, s.Host, "app")
			image := pushImage(t, r, "image")
			if _, err := r.Manifest(t.Context(), image.Descriptor); err != nil {
				t.Fatal(err)
			}
			if s.tokens != 2 { // one to write, one to read
				t.Errorf("%d tokens for %d requests: %v", s.tokens, s.Count(nil), s.asked)
			}
			for _, q := range s.asked {
				if q.Get("service") != "test" || !strings.HasPrefix(q.Get("scope"), "repository:app:pull") {
					t.Errorf("asked for %v", q)
				}
			}
			if user := strings.HasPrefix(s.auths[0], "Basic "); user != (cred.Password != "") {
				t.Errorf("asked with %q", s.auths[0])
			}
			if (s.asked[0].Get("refresh_token") == testSecret) != (cred.RefreshToken != "") {
				t.Errorf("asked with %v", s.asked[0])
			}
		})
	}
}

// A token that has expired is renewed, once per request, and the body sent again (F18).
func TestF18TokenExpires(t *testing.T) {
	t.Parallel()
	s := newTokenRegistry(t, regtest.New(t, regtest.WithoutAPI).Handler())
	creds, _ := static(Credential{Username: testUser, Password: testSecret})
	r := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app")
	pushImage(t, r, "image")
	expire := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.valid)
	}
	expire()
	puts := 0
	b := []byte(strings.Repeat("body ", 20_000))
	s.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut && puts == 0 {
			puts++
			expire() // between the POST that opened the upload and the PUT that fills it
		}
		return false
	})
	opened := 0
	if _, err := r.PushBlob(t.Context(), blobOf(b), nil, func(context.Context, int64) (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader(string(b))), nil
	}); err != nil || opened != 2 {
		t.Errorf("opened %d times, %v", opened, err)
	}
}

// A registry that never takes its own tokens is not asked for ever (F19).
func TestF19Loop(t *testing.T) {
	t.Parallel()
	s := newTokenRegistry(t, http.NotFoundHandler())
	s.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.valid)
		return false
	})
	creds, _ := static(Credential{Username: testUser, Password: testSecret})
	_, err := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app").Tagged(t.Context(), "v1")
	if !errors.Is(err, ErrUnauthorized) || s.Count(nil) > 4 {
		t.Errorf("%d requests, %v", s.Count(nil), err)
	}
}

// Once a host is known to want tokens, that of another repository is fetched before it is asked for: one refusal for the
// host, not one for each repository and each right.
func TestTokenIsForeseen(t *testing.T) {
	t.Parallel()
	refusals := func(s *tokenRegistry) int {
		return s.Count(func(r regtest.Request) bool { return r.Status == http.StatusUnauthorized })
	}
	s := newTokenRegistry(t, regtest.New(t, regtest.WithAPI).Handler())
	c := newTestClient(t, Options{})
	for _, name := range []string{"app", "oth", "thi"} {
		r := openTest(t, c, s.Host, name)
		m := pushImage(t, r, "image")
		if _, err := r.Manifest(t.Context(), m.Descriptor); err != nil {
			t.Fatal(err)
		}
	}
	if n := refusals(s); n != 1 || s.tokens != 6 { // to read and to write, of three repositories
		t.Errorf("refused %d times, %d tokens", n, s.tokens)
	}
	t.Run("G03 a service that is not believed any more", func(t *testing.T) {
		x := &exchange{host: s.Host, origin: &url.URL{Scheme: "https", Host: "registry.example"}, repositories: []string{"new"}}
		before := len(s.asked)
		if err := c.auth.foresee(context.WithValue(t.Context(), exchangeKey{}, x), x); err != nil || len(s.asked) != before {
			t.Errorf("asked %d times, %v", len(s.asked)-before, err)
		}
	})
	t.Run("a service that refuses", func(t *testing.T) {
		s.mu.Lock()
		s.refuse = true
		s.mu.Unlock()
		r := openTest(t, c, s.Host, "fou")
		if _, err := r.Tagged(t.Context(), "v1"); !errors.Is(err, ErrUnauthorized) || reason(err) != "unauthorized" {
			t.Error(err)
		}
		s.Intercept(func(w http.ResponseWriter, _ *http.Request) bool { // a repository that is open to everybody
			w.Header().Set("Docker-Content-Digest", string(ocispec.DescriptorEmptyJSON.Digest))
			return true
		})
		if _, err := r.Tagged(t.Context(), "v1"); err != nil {
			t.Error(err)
		}
	})
}

// A registry that asks for something else on the way gets it once, if it is to be believed (F19).
func TestF19ChallengeChanges(t *testing.T) {
	t.Parallel()
	evil := newTokenRegistry(t, http.NotFoundHandler())
	for name, test := range map[string]struct {
		challenge string
		sentinel  error
		reason    string
	}{
		"another scope": {`Bearer realm="http://%s/token",service="test",scope="repository:app:pull,push"`, nil, ""},
		"another realm": {`Bearer realm="http://` + evil.Host + `/token",service="test"`, ErrUnauthorized, "realm-not-trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTokenRegistry(t, regtest.New(t, regtest.WithAPI).Handler())
			creds, _ := static(Credential{Username: testUser, Password: testSecret})
			r := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app")
			m := pushImage(t, r, "image")
			if _, err := r.Manifest(t.Context(), m.Descriptor); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			clear(s.valid)
			tokens := s.tokens
			s.mu.Unlock()
			s.challenge = test.challenge
			s.Reset()
			_, err := r.Manifest(t.Context(), m.Descriptor)
			if !errors.Is(err, test.sentinel) || reason(err) != test.reason || evil.Count(nil) != 0 {
				t.Errorf("%d requests to another service, %v", evil.Count(nil), err)
			}
			noSecret(t, err)
			// Refused, refused with what there was for that scope, the token, the answer.
			if err == nil && (s.tokens != tokens+1 || s.Count(nil) > 4) {
				t.Errorf("%d tokens, %d requests", s.tokens-tokens, s.Count(nil))
			}
		})
	}
}

// Token services on other hosts are believed only if they are named (G03).
func TestG03Realms(t *testing.T) {
	t.Parallel()
	other := newTokenRegistry(t, http.NotFoundHandler())
	_, otherPort, _ := net.SplitHostPort(other.Host)
	for name, test := range map[string]struct {
		realm string
		trust []string
		ok    bool
	}{
		"own host":             {"http://%s/token", nil, true},
		"evil":                 {"https://evil.example/token", nil, false},
		"metadata service":     {"http://169.254.169.254/token", nil, false},
		"IP literal":           {"https://192.0.2.1/token", nil, false},
		"another port":         {"http://" + other.Host + "/token", nil, false},
		"user in it":           {"http://user:" + testSecret + "@%s/token", nil, false},
		"no URL":               {"://x", nil, false},
		"relative":             {"/token", nil, false},
		"file":                 {"file:///etc/passwd", nil, false},
		"suffix of a built-in": {"https://auth.docker.io.evil.example/token", nil, false},
		"built-in, plain":      {"http://auth.docker.io/token", nil, false},
		"built-in, plain, 443": {"http://auth.docker.io:443/token", nil, false},
		"trusted, private":     {"http://" + other.Host + "/token", []string{"127.0.0.1:" + otherPort}, true},
		"trusted, any port":    {"http://" + other.Host + "/token", []string{"127.0.0.1"}, true},
		"another is trusted":   {"http://" + other.Host + "/token", []string{"127.0.0.1:1", "evil.example"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTokenRegistry(t, regtest.New(t, regtest.WithAPI).Handler())
			s.challenge = `Bearer realm="` + test.realm + `",service="test"`
			if test.ok && test.trust != nil { // tokens of the other service are good here
				s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
					if strings.HasPrefix(req.Header.Get("Authorization"), "Bearer token-") {
						w.Header().Set("Docker-Content-Digest", string(ocispec.DescriptorEmptyJSON.Digest))
						return true
					}
					return false
				})
			}
			creds, asked := static(Credential{Username: testUser, Password: testSecret})
			_, err := openTest(t, newTestClient(t, Options{Credentials: creds, TrustRealms: test.trust}), s.Host, "app").Tagged(t.Context(), "v1")
			noSecret(t, err)
			if test.ok {
				if err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrUnauthorized) || reason(err) != "realm-not-trusted" || *asked != 0 {
				t.Errorf("%s: %v, credential looked up %d times", reason(err), err, *asked)
			}
		})
	}
	for realm, want := range map[string]bool{"https://auth.docker.io/token": true, "https://gitlab.com/jwt/auth": true, "https://auth.docker.io:8443/token": false, "http://registry.example/token": false, "http://registry.example:443/token": false} {
		err := (&authorizer{}).believe(realm, &url.URL{Scheme: "https", Host: "registry.example"})
		if (err == nil) != want {
			t.Errorf("%s: %v", realm, err)
		}
	}
}

// Only the request's own scope is ever asked for (G04).
func TestG04ScopeInjection(t *testing.T) {
	t.Parallel()
	s := newTokenRegistry(t, regtest.New(t, regtest.WithAPI).Handler())
	s.challenge += `,scope="repository:other:* registry:catalog:* repository:app:pull,push repository:app:own,everything"`
	_, err := openTest(t, newTestClient(t, Options{}), s.Host, "app").Tagged(t.Context(), "v1")
	if !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	for _, q := range s.asked {
		if diff := cmp.Diff([]string{"repository:app:pull,push"}, q["scope"]); diff != "" {
			t.Error(diff)
		}
	}
}

func TestG04Challenges(t *testing.T) {
	t.Parallel()
	bearer := challenge{bearer: true, realm: "https://a.example/token", service: "s", scope: "x y"}
	tests := []struct {
		name    string
		headers []string
		want    challenge
		ok      bool
		bad     bool
	}{
		{"none", nil, challenge{}, false, false},
		{"basic", []string{`Basic realm="a, b=c"`}, challenge{}, true, false},
		{"bare basic", []string{`basic`}, challenge{}, true, false},
		{"bearer", []string{`Bearer realm="https://a.example/token",service="s",scope="x y"`}, bearer, true, false},
		{"white space", []string{"bearer  realm = \"https://a.example/token\" ,\tservice=s , scope=\"x y\""}, bearer, true, false},
		{"both in one", []string{`Basic realm="x", Bearer realm="https://a.example/token",service="s",scope="x y"`}, bearer, true, false},
		{"both in two", []string{`Basic realm="x"`, `Bearer REALM="https://a.example/token",service=s,scope="x y"`}, bearer, true, false},
		{"the first bearer counts", []string{`Bearer realm="https://a.example/token",service="s",scope="x y", Bearer realm="https://b.example"`}, bearer, true, false},
		{"escapes", []string{`Bearer realm="https://a.example\/token",service="\s",scope="x y"`}, bearer, true, false},
		{"unknown only", []string{`Negotiate`, `Digest realm="x",nonce="y"`}, challenge{}, false, false},
		{"no realm", []string{`Bearer service="s"`}, challenge{}, false, true},
		{"open quote", []string{`Bearer realm="https://a.example`}, challenge{}, false, true},
		{"open escape", []string{`Bearer realm="x\`}, challenge{}, false, true},
		{"twice the same", []string{`Bearer realm="a",realm="b"`}, challenge{}, false, true},
		{"twice, other case", []string{`Bearer realm="a",Realm="b"`}, challenge{}, false, true},
		{"no comma", []string{`Bearer realm="a" service="b"`}, challenge{}, false, true},
		{"no value", []string{`Bearer realm=`}, challenge{}, false, true},
		{"control character", []string{"Bearer realm=\"a\x01\""}, challenge{}, false, true},
		{"no scheme", []string{`="x"`}, challenge{}, false, true},
		{"endless", []string{strings.Repeat(`Basic realm="x",`, 2000)}, challenge{}, false, true},
	}
	for _, test := range tests {
		c, ok, err := parseChallenges(http.Header{"Www-Authenticate": test.headers})
		if c != test.want || ok != test.ok || (err != nil) != test.bad {
			t.Errorf("%s: %+v, %v, %v", test.name, c, ok, err)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a.example/token",service="s",scope="x y"`)
	f.Add(`Basic realm="x", Bearer realm=a`)
	f.Fuzz(func(t *testing.T, s string) {
		c, ok, err := parseChallenges(http.Header{"Www-Authenticate": {s}})
		if err != nil && (ok || c != challenge{}) {
			t.Errorf("%q: an error and a result", s)
		}
		if c.bearer && c.realm == "" {
			t.Errorf("%q: a bearer challenge without a realm", s)
		}
	})
}

// A token is for its repository and its registry (G05).
func TestG05TokenReuse(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithAPI).Handler()
	a, b := newTokenRegistry(t, inner), newTokenRegistry(t, inner)
	c := newTestClient(t, Options{})
	for _, r := range []*Repo{openTest(t, c, a.Host, "app"), openTest(t, c, a.Host, "oth"), openTest(t, c, b.Host, "app")} {
		if _, err := r.Tagged(t.Context(), "v1"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	for _, s := range []*tokenRegistry{a, b} {
		for _, r := range s.Requests() {
			name := strings.Split(r.Path, "/")[2:]
			token := r.Header.Get("Authorization")
			if token == "" || len(name) == 0 {
				continue
			}
			if !strings.HasSuffix(token, "-"+name[0]) {
				t.Errorf("%s was sent for %s", token, r.Path)
			}
			if !slices.ContainsFunc(s.issued(), func(i string) bool { return "Bearer "+i == token }) {
				t.Errorf("%s came from another registry", token)
			}
		}
	}
}

func (r *tokenRegistry) issued() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for t := range r.valid {
		all = append(all, t)
	}
	return all
}

func TestScheme(t *testing.T) {
	t.Parallel()
	c := newTestClient(t, Options{})
	for host, want := range map[string]string{
		"localhost": "http", "localhost:5000": "http", "127.0.0.1:5000": "http", "127.9.9.9": "http", "[::1]:5000": "http", "[::1]": "http",
		"registry.example": "https", "localhost.evil.example": "https", "127.0.0.1.evil.example": "https", "10.0.0.1:5000": "https", "[2001:db8::1]:5000": "https",
	} {
		if got := c.scheme(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
	if got := newTestClient(t, Options{PlainHTTP: true}).scheme("registry.example"); got != "http" {
		t.Error(got)
	}
	if got := connectHost("docker.io"); got != "registry-1.docker.io" {
		t.Error(got)
	}
}

// Whatever a registry repeats of what it was sent, errors do not (A23).
func TestA23Redaction(t *testing.T) {
	t.Parallel()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"Authorization: %s, password %s"}]}`, r.Header.Get("Authorization"), password)
	})
	s := basicRegistry(t, echo)
	creds, _ := static(Credential{Username: testUser, Password: testSecret})
	r := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app")
	_, err := r.Tagged(t.Context(), "v1")
	noSecret(t, err)
	_, err = r.Resolve(t.Context(), r.Reference().With("v1", ""))
	noSecret(t, err)
	if reason(err) != "forbidden" || !strings.Contains(err.Error(), "[redacted]") {
		t.Error(err)
	}
	cred := Credential{Username: testUser, Password: testSecret, RefreshToken: testSecret, AccessToken: testSecret}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, cred); strings.Contains(text, testSecret) {
			t.Errorf("%s shows %s", format, text)
		}
	}
	// The address of an upload is as good as a credential while it lasts.
	cut := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Location", "/upload?_state="+testSecret)
		w.WriteHeader(http.StatusAccepted)
	}))
	err = openTest(t, newTestClient(t, Options{}), cut.Host, "app").PushBytes(t.Context(), blobOf([]byte("x")), []byte("x"))
	if !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	noSecret(t, err)
}

// A secret that is quoted or cut short is still one, and so is the token that was given for it.
func TestA23RedactionComesFirst(t *testing.T) {
	t.Parallel()
	password := "correct horse\t\"battery\" staple"
	says := func(message string) http.Handler {
		body, err := json.Marshal(map[string]any{"errors": []map[string]string{{"code": "DENIED", "message": message}}})
		if err != nil {
			t.Fatal(err)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, _, ok := r.BasicAuth(); !ok {
				w.Header().Set("Www-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(body)
		})
	}
	for name, message := range map[string]string{
		"quoted":    "you sent " + password,
		"cut short": strings.Repeat("x", 280) + password,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.Serve(t, says(message))
			creds, _ := static(Credential{Username: testUser, Password: password})
			_, err := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app").Tagged(t.Context(), "v1")
			if reason(err) != "forbidden" {
				t.Fatal(err)
			}
			_, err = openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app").Resolve(t.Context(), Reference{Tag: "v1"})
			if err == nil || strings.Contains(err.Error(), "correct") || !strings.Contains(err.Error(), "[redacted]") {
				t.Error(err)
			}
		})
	}
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		s := newTokenRegistry(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"you sent %s"}]}`, r.Header.Get("Authorization"))
		}))
		_, err := openTest(t, newTestClient(t, Options{}), s.Host, "app").Resolve(t.Context(), Reference{Tag: "v1"})
		if err == nil || strings.Contains(err.Error(), "token-1") || !strings.Contains(err.Error(), "Bearer [redacted]") {
			t.Error(err)
		}
	})
}
