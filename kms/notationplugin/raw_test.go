package notationplugin

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			k := newStage(t, algorithm).opened(t, kms.Options{})
			kmstest.RunWith(t, k, kmstest.Options{Network: true})
		})
	}
}

// TestCalls: metadata and the key are asked for once, a signature is one process, and a key that is not known yet costs one more.
func TestCalls(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		leaf        bool
		first, want int
	}{{"leaf known", true, 0, 3}, {"leaf unknown", false, 1, 4}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "P-256")
			o := kms.Options{}
			if test.leaf {
				o.Leaf = s.chain[0].PublicKey
			}
			k, calls := kms.Metered(s.opened(t, o))
			if got := s.Calls("generate-signature"); got != test.first {
				t.Errorf("opening: %d signatures, want %d", got, test.first)
			}
			for range 3 {
				if err := signOnce(t.Context(), k); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.Calls("generate-signature"); got != test.want || int(calls.Load()) != test.want {
				t.Errorf("%d signatures, %d counted, want %d", got, calls.Load(), test.want)
			}
			if m, d, all := s.Calls("get-plugin-metadata"), s.Calls("describe-key"), s.Calls(""); m != 1 || d != 1 || all != 2+test.want {
				t.Errorf("%d times metadata, %d times describe-key, %d processes", m, d, all)
			}
			if _, again := kms.Metered(k); again.Load() != 0 {
				t.Errorf("the first signature is counted twice")
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	for name, leaf := range map[string]bool{"leaf known": true, "leaf unknown": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "P-256")
			o := kms.Options{}
			if leaf {
				o.Leaf = s.chain[0].PublicKey
			}
			k := s.opened(t, o)
			for range 2 {
				certs, err := kms.Certificates(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.EqualFunc(certs, s.chain, (*x509.Certificate).Equal) {
					t.Errorf("%d certificates, not those of the plugin", len(certs))
				}
			}
			if n := s.Calls("generate-signature"); n != 1 {
				t.Errorf("%d signatures for the certificates, want 1", n)
			}
		})
	}
}

func TestKnown(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-384")
	k := s.opened(t, kms.Options{})
	if id := k.(kms.Identifier).ID(); id != testURI {
		t.Errorf("ID is %s", id)
	}
	if d := kms.Describe(k); d != (kms.Description{Service: "notation plugin test"}) {
		t.Errorf("it describes itself as %+v", d)
	}
}

// TestRequests: what the plugin is told is in the request, the request is on stdin, and imprint's own secrets stay at home.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	record := filepath.Join(t.TempDir(), "record")
	k := s.opened(t, kms.Options{Config: s.config.With("record-file", record).With("setting", "canary-setting")})
	if err := signOnce(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	commands := []string{"get-plugin-metadata", "describe-key", "generate-signature", "generate-signature"}
	for line := range strings.Lines(string(b)) {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch kind {
		case "argv":
			if !strings.HasSuffix(text, ` "`+commands[0]+`"]`) || strings.Count(text, `" "`) != 1 {
				t.Errorf("arguments %s, want the path and %s", text, commands[0])
			}
			commands = commands[1:]
		case "environ":
			if strings.Contains(text, "PASSPHRASE") || strings.Contains(text, "canary") || !strings.Contains(text, "OTHER=kept") {
				t.Errorf("environment %s", text)
			}
		case "stdin":
			if !strings.Contains(text, `"setting":"canary-setting"`) {
				t.Errorf("no configuration in %s", text)
			}
		}
	}
	if len(commands) != 0 {
		t.Errorf("never called: %s", commands)
	}
}

// TestDER: a plugin that writes DER is understood, and warned of once.
func TestDER(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "P-384", "P-521"} {
		s := newStage(t, algorithm)
		var w warnings
		k := s.opened(t, kms.Options{Config: s.config.With("fault", "der"), Warn: w.warn})
		kmstest.RunWith(t, k, kmstest.Options{Network: true})
		if len(w.texts) != 1 || !strings.Contains(w.texts[0], "the plugin test writes ECDSA signatures as DER") {
			t.Errorf("%s: warnings: %q", algorithm, w.texts)
		}
	}
}

// TestLeaf: the certificate to sign with must fit what the plugin says of its key, and does not make another key of it.
func TestLeaf(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	other := newStage(t, "P-384")
	same := newStage(t, "P-256")
	_, err := s.open(t.Context(), mustURI(t, testURI), kms.Options{Config: s.config, Leaf: other.chain[0].PublicKey})
	wantError(t, err, kms.CodeOptions, "for a key EC-384, the plugin's key is EC-256", "opening key "+testURI)

	k := s.opened(t, kms.Options{Leaf: same.chain[0].PublicKey})
	wantError(t, signOnce(t.Context(), k), kms.CodeOptions, "for another key than the plugin's own (CN=leaf,")
	_, err = kms.Certificates(t.Context(), k)
	wantError(t, err, kms.CodeOptions, "for another key than the plugin's own (CN=leaf,")
}

// TestRotation (F34): the key behind the id becomes another one after it was opened.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	k := s.opened(t, kms.Options{})
	key, chain := certtest.ChainOf(2, "P-256")
	s.AddKey("key", key, chain...) // with its certificate
	wantError(t, signOnce(t.Context(), k), kms.CodePlugin, "another key")
	s.AddKey("key", key, s.chain...) // behind the old certificate
	wantError(t, signOnce(t.Context(), k), kms.CodeSignature, "no signature")
	s.AddKey("key", s.key, s.chain...)
	if err := signOnce(t.Context(), k); err != nil {
		t.Error(err)
	}
}

// TestWeakKey: a key that cannot make Notary signatures says so at once, and which can.
func TestWeakKey(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	key, chain := certtest.ChainOf(2, "P-224")
	_, err := s.open(t.Context(), mustURI(t, testURI), kms.Options{Config: s.AddKey("weak", key, chain...)})
	wantError(t, err, kms.CodeAlgorithm, `"EC-224"`, "ECDSA P-256, P-384, P-521")
	if n := s.Calls("generate-signature"); n != 0 {
		t.Errorf("%d signatures", n)
	}
	if errors.Is(err, kms.ErrService) {
		t.Errorf("a weak key is the service's failure: %v", err)
	}
}
