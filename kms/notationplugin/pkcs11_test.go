package notationplugin

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
)

const tokenURI = "pkcs11:token=My%20Token;object=release"

// newToken is a stage whose plugin stands in for notation-pkcs11: what a module and a token do is for that room's tests.
func newToken(t *testing.T, algorithm string) *stage {
	t.Helper()
	s := newStage(t, algorithm)
	plugintest.Install(t, s.Libexec, "pkcs11")
	s.config = s.config.With("extended", "1")
	return s
}

func (s *stage) token(t *testing.T, o kms.Options) kms.Key {
	t.Helper()
	if o.Config == nil {
		o.Config = s.config
	}
	k, err := s.openPKCS11(t.Context(), mustURI(t, tokenURI), o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokenConformance(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := newToken(t, algorithm)
			k := s.token(t, kms.Options{})
			if n := s.Calls("generate-signature"); n != 0 {
				t.Errorf("opening cost %d signatures", n)
			}
			_, isRSA := s.key.Public().(*rsa.PublicKey)
			if d := kms.Describe(k); d != (kms.Description{Service: "PKCS #11", PKCS1: isRSA}) {
				t.Errorf("it describes itself as %+v", d)
			}
			kmstest.RunWith(t, k, kmstest.Options{Network: true})
		})
	}
}

// TestToken: the canonical URI and the certificates are those that describe-key told.
func TestToken(t *testing.T) {
	t.Parallel()
	s := newToken(t, "P-256")
	k := s.token(t, kms.Options{})
	if id := k.(kms.Identifier).ID(); id != "pkcs11:token=Test%20Token;id=%01" {
		t.Errorf("ID is %s", id)
	}
	certs, err := kms.Certificates(t.Context(), k)
	if err != nil || !slices.EqualFunc(certs, s.chain, (*x509.Certificate).Equal) {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	if n := s.Calls(""); n != 2 {
		t.Errorf("%d processes, want 2", n)
	}
}

// TestTokenWithoutCertificate signs, and has none.
func TestTokenWithoutCertificate(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"", "without=certificateChain", "describe-key/without=certificateChain", "describe-key/without=uri"} {
		s := newToken(t, "P-256")
		k := s.token(t, kms.Options{Config: s.AddKey("bare", s.key).With("extended", "1").With("fault", fault)})
		if err := signOnce(t.Context(), k); err != nil {
			t.Errorf("%q: %v", fault, err)
		}
		if certs, err := kms.Certificates(t.Context(), k); err != nil || len(certs) != 0 {
			t.Errorf("%q: %d certificates, %v", fault, len(certs), err)
		}
		if id := k.(kms.Identifier).ID(); strings.HasSuffix(fault, "uri") && id != tokenURI {
			t.Errorf("%q: ID is %s", fault, id)
		}
	}
}

// A person answers for a PIN, and counts the questions.
type person struct {
	sync.Mutex
	pin     string
	err     error
	prompts []string
	slow    time.Duration
}

func (p *person) secret(_ context.Context, prompt string) ([]byte, error) {
	p.Lock()
	defer p.Unlock()
	p.prompts = append(p.prompts, prompt)
	time.Sleep(p.slow)
	return []byte(p.pin), p.err
}

// TestPIN: it is asked for once, and every later request has it, on stdin alone.
func TestPIN(t *testing.T) {
	t.Parallel()
	s := newToken(t, "P-256")
	record := filepath.Join(t.TempDir(), "record")
	who := &person{pin: "canary-1234"}
	k := s.token(t, kms.Options{Config: s.config.With("real-pin", "canary-1234").With("record-file", record), Secret: who.secret})
	for range 2 {
		if err := signOnce(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if len(who.prompts) != 1 || who.prompts[0] != "PIN of token My Token: " {
		t.Errorf("asked %q", who.prompts)
	}
	if d, g := s.Calls("describe-key"), s.Calls("generate-signature"); d != 2 || g != 2 {
		t.Errorf("%d times describe-key, %d times generate-signature", d, g)
	}
	b, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, `"pin":"canary-1234"`) {
			if strings.Contains(strings.ReplaceAll(line, `"real-pin":"canary-1234"`, ""), "canary") {
				t.Errorf("the PIN is in %s", line)
			}
			continue
		}
		if told++; !strings.HasPrefix(line, "stdin: ") || !strings.Contains(line, `"chain":"optional"`) {
			t.Errorf("the PIN is in %s", line)
		}
	}
	if told != 3 {
		t.Errorf("the plugin was told the PIN %d times, want 3", told)
	}
}

// TestLatePIN: a token that shows its key without a PIN wants one to sign. One person is asked once, however many signatures wait,
// and what was refused for want of it is no signing call.
func TestLatePIN(t *testing.T) {
	t.Parallel()
	s := newToken(t, "P-256")
	s.patience = 4 * time.Second
	who := &person{pin: "1234", slow: 5 * time.Second} // a person may take longer than a plugin
	k, calls := kms.Metered(s.token(t, kms.Options{Config: s.config.With("real-pin", "1234").With("late-pin", "1"), Secret: who.secret}))
	if len(who.prompts) != 0 {
		t.Errorf("opening asked %q", who.prompts)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := signOnce(t.Context(), k); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(who.prompts) != 1 || who.prompts[0] != "PIN of token My Token: " {
		t.Errorf("asked %q", who.prompts)
	}
	if n := s.Calls("generate-signature"); n != 9 || calls.Load() != 8 {
		t.Errorf("%d processes, %d calls counted, want 9 and 8", n, calls.Load())
	}
}

// TestLateWrongPIN: nor is a wrong one tried twice then.
func TestLateWrongPIN(t *testing.T) {
	t.Parallel()
	for pin, code := range map[string]string{"canary-9999": kms.CodeDenied, "": kms.CodeCredentials} {
		s := newToken(t, "P-256")
		who := &person{pin: pin}
		k := s.token(t, kms.Options{Config: s.config.With("real-pin", "1234").With("late-pin", "1"), Secret: who.secret})
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = signOnce(t.Context(), k) })
		}
		wg.Wait()
		for _, err := range errs {
			wantError(t, err, code, "signing with pkcs11:")
		}
		want := 2 // without a PIN, and with the wrong one
		if pin == "" {
			want = 1
		}
		if n := s.Calls("generate-signature"); n != want || len(who.prompts) != 1 {
			t.Errorf("%q: %d processes, want %d; asked %d times", pin, n, want, len(who.prompts))
		}
	}
}

// TestMissingPIN: nobody can be asked, or nobody answers.
func TestMissingPIN(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]func(context.Context, string) ([]byte, error){
		"nobody":    nil,
		"no answer": (&person{err: errors.New("no terminal")}).secret,
		"empty":     (&person{}).secret,
		"not UTF-8": (&person{pin: "\xff\xfe"}).secret,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newToken(t, "P-256")
			_, err := s.openPKCS11(t.Context(), mustURI(t, tokenURI), kms.Options{Config: s.config.With("real-pin", "1234"), Secret: secret})
			wantError(t, err, kms.CodeCredentials, "opening key "+tokenURI)
			var e *kms.Error
			if !errors.As(err, &e) || !strings.Contains(e.Remedy, "pin-source=FILE") || !strings.Contains(e.Remedy, "--passphrase-file") || !strings.Contains(e.Remedy, "IMPRINT_PASSPHRASE") {
				t.Errorf("remedy %q", e.Remedy)
			}
			if n := s.Calls("describe-key"); n != 1 {
				t.Errorf("describe-key %d times", n)
			}
		})
	}
}

// TestWrongPIN: three tries lock a token, so there is one, whenever it turns out; and the PIN is not repeated to people.
func TestWrongPIN(t *testing.T) {
	t.Parallel()
	t.Run("opening", func(t *testing.T) {
		t.Parallel()
		s := newToken(t, "P-256")
		who := &person{pin: "canary-9999"}
		_, err := s.openPKCS11(t.Context(), mustURI(t, tokenURI), kms.Options{Config: s.config.With("real-pin", "1234"), Secret: who.secret})
		wantError(t, err, kms.CodeDenied, "notation-pkcs11: the PIN [PIN] is wrong")
		if d := s.Calls("describe-key"); d != 2 || len(who.prompts) != 1 {
			t.Errorf("describe-key %d times, asked %d times", d, len(who.prompts))
		}
	})
	t.Run("signing", func(t *testing.T) {
		t.Parallel()
		s := newToken(t, "P-256")
		k := s.token(t, kms.Options{Config: s.config.With("fault", "class=denied")})
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = signOnce(t.Context(), k) })
		}
		wg.Wait()
		for _, err := range errs {
			wantError(t, err, kms.CodeDenied, "refused as denied")
		}
		if n := s.Calls("generate-signature"); n != 1 {
			t.Errorf("the token was asked %d times after it refused, want 1", n)
		}
	})
}

// TestClasses: our own plugin says what kind of failure it is, and what to do.
func TestClasses(t *testing.T) {
	t.Parallel()
	for class, code := range map[string]string{
		"credentials": kms.CodeCredentials, "denied": kms.CodeDenied, "not-found": kms.CodeNotFound,
		"unusable": kms.CodeUnusable, "unreachable": kms.CodeUnreachable, "else": kms.CodeDenied,
		"algorithm": kms.CodeAlgorithm, "uri": kms.CodeURI, "options": kms.CodeOptions, "service": kms.CodeService,
	} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			s := newToken(t, "P-256")
			_, err := s.openPKCS11(t.Context(), mustURI(t, tokenURI), kms.Options{Config: s.config.With("fault", "describe-key/class="+class)})
			wantError(t, err, code, "notation-pkcs11: refused as "+class)
			var e *kms.Error
			if !errors.As(err, &e) || e.Remedy != "do as "+class+" says" {
				t.Errorf("remedy %q", e.Remedy)
			}
		})
	}
}

// TestTokenFaults: our own plugin is not believed either.
func TestTokenFaults(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]struct{ code, says string }{
		"get-plugin-metadata/set=name=x":                   {kms.CodePlugin, `it calls itself "x"`},
		"describe-key/without=publicKey":                   {kms.CodePlugin, "its answer has no publicKey"},
		"describe-key/set=publicKey=AAAA":                  {kms.CodePlugin, "a publicKey that cannot be read"},
		"describe-key/set=keySpec=EC-384":                  {kms.CodePlugin, "its keySpec is EC-384, but its publicKey is a key EC-256"},
		"describe-key/leaf":                                {kms.CodePlugin, "its certificate (CN=stranger) is for another key"},
		"describe-key/set=uri=awskms:///alias/x":           {kms.CodePlugin, "no pkcs11 key URI"},
		"describe-key/set=uri=pkcs11:object=a?pin-value=1": {kms.CodePlugin, "no pkcs11 key URI"},
		"describe-key/crash":                               {kms.CodePlugin, "plugin pkcs11: describe-key: it ended with exit status 3"},
	} {
		t.Run(strings.ReplaceAll(fault, "/", " "), func(t *testing.T) {
			t.Parallel()
			s := newToken(t, "P-256")
			_, err := s.openPKCS11(t.Context(), mustURI(t, tokenURI), kms.Options{Config: s.config.With("fault", fault)})
			wantError(t, err, want.code, "opening key "+tokenURI, want.says)
		})
	}
}

// TestNoPINInConfig: a configuration file is no place for a PIN.
func TestNoPINInConfig(t *testing.T) {
	t.Parallel()
	s := newToken(t, "P-256")
	_, err := s.openPKCS11(t.Context(), mustURI(t, tokenURI), kms.Options{Config: s.config.With("pin", "canary-1234")})
	wantError(t, err, kms.CodeSecret, "does not belong in a configuration")
	if strings.Contains(err.Error(), "canary") || s.Calls("") != 0 {
		t.Errorf("%d calls: %v", s.Calls(""), err)
	}
}

// TestNoExecutable: without notation-pkcs11 a pkcs11 URI says how to get it. (Not parallel: it sets variables.)
func TestNoExecutable(t *testing.T) {
	for _, name := range []string{"PATH", "NOTATION_LIBEXEC", "XDG_CONFIG_HOME", "HOME"} {
		t.Setenv(name, t.TempDir())
	}
	_, err := OpenPKCS11(t.Context(), mustURI(t, tokenURI), kms.Options{})
	wantError(t, err, kms.CodePlugin, "opening key "+tokenURI, "no executable notation-pkcs11 is beside this program")
	var e *kms.Error
	if !errors.As(err, &e) || !strings.Contains(e.Remedy, "go install ") {
		t.Errorf("remedy %q", e.Remedy)
	}
}
