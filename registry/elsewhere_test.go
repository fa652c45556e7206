package registry

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// Blobs may live elsewhere; credentials do not go there (G01).
func TestG01Redirect(t *testing.T) {
	t.Parallel()
	blob := "the bytes of the blob"
	store := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/again"):
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
		case r.URL.Path == "/asks":
			w.Header().Set("Www-Authenticate", `Basic realm="give it to me"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, blob)
		}
	}))
	for path, want := range map[string]struct {
		sentinel error
		reason   string
		most     int
	}{
		"/there": {nil, "", 1},
		"/again": {ErrRefused, "redirect-refused", maxRedirects},
		"/asks":  {ErrUnauthorized, "unauthorized", 1},
	} {
		s := basicRegistry(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+store.Host+path+"?signature="+testSecret, http.StatusTemporaryRedirect)
		}))
		store.Reset()
		creds, _ := static(Credential{Username: testUser, Password: testSecret})
		r := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app")
		rc, err := r.Blob(t.Context(), blobOf([]byte(blob)))
		noSecret(t, err)
		if !errors.Is(err, want.sentinel) || reason(err) != want.reason {
			t.Errorf("%s: %v", path, err)
		}
		if err == nil {
			if b, err := io.ReadAll(rc); err != nil || string(b) != blob {
				t.Errorf("%q, %v", b, err)
			}
			_ = rc.Close()
		}
		if store.Count(withAuthorization) != 0 || store.Count(nil) > want.most {
			t.Errorf("%s: %d requests, %d with a credential", path, store.Count(nil), store.Count(withAuthorization))
		}
		for _, req := range store.Requests() {
			if req.Header.Get("Referer") != "" {
				t.Errorf("referer %q", req.Header.Get("Referer"))
			}
		}
	}
}

// An upload goes to the registry that was asked, or not at all (G02).
func TestG02UploadElsewhere(t *testing.T) {
	t.Parallel()
	other := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	for _, location := range []string{"http://" + other.Host + "/upload?_state=" + testSecret, "https://%s/upload", "", "//" + other.Host + "/x", "http://user@%s/x"} {
		s := basicRegistry(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", strings.ReplaceAll(location, "%s", r.Host))
			w.WriteHeader(http.StatusAccepted)
		}))
		creds, _ := static(Credential{Username: testUser, Password: testSecret})
		r := openTest(t, newTestClient(t, Options{Credentials: creds}), s.Host, "app")
		b := []byte("blob")
		_, err := r.PushBlob(t.Context(), blobOf(b), nil, func(context.Context, int64) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("blob")), nil
		})
		noSecret(t, err)
		if !errors.Is(err, ErrRefused) || reason(err) != "upload-elsewhere" {
			t.Errorf("%s: %v", location, err)
		}
		err = r.PushBytes(t.Context(), blobOf(b), b)
		if reason(err) != "upload-elsewhere" {
			t.Errorf("%s: %v", location, err)
		}
	}
	if n := other.Count(nil); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// A redirected write is not followed: it would carry the body, and perhaps the credential, elsewhere.
func TestG02RedirectedWrite(t *testing.T) {
	t.Parallel()
	other := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+other.Host+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	m := Manifest{Descriptor: blobOf([]byte("{}")), Bytes: []byte("{}")}
	if err := r.PushManifest(t.Context(), m); !errors.Is(err, ErrRefused) || other.Count(nil) != 0 {
		t.Errorf("%v, %d requests elsewhere", err, other.Count(nil))
	}
}

// tlsClient connects every name to addr, and believes the CA if there is one.
func tlsClient(t testing.TB, addr string, o Options) *Client {
	t.Helper()
	c := newTestClient(t, o)
	base := c.retry.next.(*http.Transport)
	base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	return c
}

func caFile(t testing.TB, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestG06G07Encryption(t *testing.T) {
	t.Parallel()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/blobs/"):
			http.Redirect(w, r, "http://example.com/down", http.StatusTemporaryRedirect)
		case r.TLS == nil:
			t.Error("G06: asked without encryption")
		default:
			indexBody(w)
		}
	})
	serve := func(t *testing.T, config *tls.Config) *httptest.Server {
		s := httptest.NewUnstartedServer(answer)
		s.TLS = config
		s.Config.ErrorLog = discardLog()
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	get := func(t *testing.T, addr, host string, o Options) error {
		_, _, err := openTest(t, tlsClient(t, addr, o), host, "app").store.manifest(t.Context(), "v1", "")
		return err
	}
	t.Run("with its CA", func(t *testing.T) {
		t.Parallel()
		s := serve(t, nil)
		if err := get(t, s.Listener.Addr().String(), "example.com", Options{CAFile: caFile(t, s)}); err != nil {
			t.Error(err)
		}
	})
	t.Run("G07 unknown CA", func(t *testing.T) {
		t.Parallel()
		s := serve(t, nil)
		if err := get(t, s.Listener.Addr().String(), "example.com", Options{}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
			t.Error(err)
		}
	})
	t.Run("G07 wrong name", func(t *testing.T) {
		t.Parallel()
		s := serve(t, nil)
		if err := get(t, s.Listener.Addr().String(), "registry.test", Options{CAFile: caFile(t, s)}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "registry.test") {
			t.Error(err)
		}
	})
	t.Run("G07 TLS 1.1", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err := get(t, s.Listener.Addr().String(), "example.com", Options{CAFile: caFile(t, s)}); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("G06 plain registry", func(t *testing.T) {
		t.Parallel()
		s := httptest.NewUnstartedServer(answer)
		s.Config.ErrorLog = discardLog()
		s.Start()
		t.Cleanup(s.Close)
		if err := get(t, s.Listener.Addr().String(), "registry.test", Options{}); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("G06 redirect to plain", func(t *testing.T) {
		t.Parallel()
		s := serve(t, nil)
		c := tlsClient(t, s.Listener.Addr().String(), Options{CAFile: caFile(t, s)})
		_, err := openTest(t, c, "example.com", "app").Blob(t.Context(), blobOf([]byte("x")))
		if !errors.Is(err, ErrRefused) || reason(err) != "redirect-refused" {
			t.Error(err)
		}
	})
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
