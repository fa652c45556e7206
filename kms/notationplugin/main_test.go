package notationplugin

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	plugintest.Clean()
	os.Exit(code)
}

// A stage is a host with the test plugin and a key of one algorithm.
type stage struct {
	host
	*plugintest.Plugin
	key    crypto.Signer
	chain  []*x509.Certificate
	config plugintest.Config
}

func newStage(t *testing.T, algorithm string) *stage {
	t.Helper()
	s := &stage{Plugin: plugintest.New(t)}
	s.key, s.chain = certtest.ChainOf(3, algorithm)
	s.config = s.AddKey("key", s.key, s.chain...)
	s.host = hostWith(map[string]string{"NOTATION_LIBEXEC": s.Libexec})
	return s
}

// hostWith is a machine where only the given variables are set.
func hostWith(env map[string]string) host {
	return host{
		getenv: func(name string) string { return env[name] },
		environ: func() []string {
			return []string{"PATH=" + os.Getenv("PATH"), "IMPRINT_PASSPHRASE=canary-passphrase", "OTHER=kept"}
		},
		executable: func() (string, error) { return "", errors.New("none here") },
		config:     func() (string, error) { return "", errors.New("none here") },
		patience:   20 * time.Second,
	}
}

const testURI = "plugin:test?id=team%2Fkey"

func mustURI(t *testing.T, uri string) *url.URL {
	t.Helper()
	u, err := kms.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (s *stage) opened(t *testing.T, o kms.Options) kms.Key {
	t.Helper()
	if o.Config == nil {
		o.Config = s.config
	}
	k, err := s.open(t.Context(), mustURI(t, testURI), o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signOnce(ctx context.Context, k kms.Key) error {
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		return err
	}
	_, err = k.Sign(ctx, []byte("message"), a.SignerOpts())
	return err
}

// wantError wants the code, the class of a service's failure unless the code is the caller's, and each text in the error, on one line.
func wantError(t *testing.T, err error, code string, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	var e *kms.Error
	if !errors.As(err, &e) {
		t.Fatalf("no *kms.Error: %v", err)
	}
	if e.Code != code {
		t.Errorf("the code is %s, want %s: %v", e.Code, code, err)
	}
	class := kms.ErrService
	if slices.Contains([]string{kms.CodeURI, kms.CodeAlgorithm, kms.CodeOptions, kms.CodeSecret}, code) {
		class = kms.ErrInvalid
	}
	if !errors.Is(err, class) {
		t.Errorf("the error does not wrap %v: %v", class, err)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("it does not say %q: %v", text, err)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "goroutine ") || len(err.Error()) > 1500 {
		t.Errorf("not one short line: %q", err.Error())
	}
}

// warnings collects what a key warns of.
type warnings struct {
	sync.Mutex
	texts []string
}

func (w *warnings) warn(text string) {
	w.Lock()
	defer w.Unlock()
	w.texts = append(w.texts, text)
}
