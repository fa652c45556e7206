package cmd

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
)

// A cloud is a key service with one key, as a provider would find it.
type cloud struct {
	key     crypto.Signer
	service string
	pinned  string // URI
	pkcs1   bool
	spent   int
	kept    []*x509.Certificate
	// What goes wrong: with opening, with asking for certificates, with the n-th signature.
	refuses, keepsFrom error
	sign               func(ctx context.Context, n int64) error

	opened, asked, calls atomic.Int64
	options              kms.Options // of the last opening
	uri                  string
}

const (
	alias  = "awskms:///alias/release"
	pinned = "awskms:///arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// cloud puts a key at a service behind a scheme.
func (w *world) cloud(scheme string, c *cloud) *cloud {
	if c.key == nil {
		c.key = certtest.Key("P-256")
	}
	if c.service == "" {
		c.service, c.pinned = "AWS KMS", pinned
	}
	w.env.Keys[scheme] = func(_ context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
		c.opened.Add(1)
		c.options, c.uri = o, kms.Format(u)
		if c.refuses != nil {
			return nil, fmt.Errorf("opening key %s: %w", kms.Format(u), c.refuses)
		}
		return kms.Remote{
			URI: c.pinned, Service: c.service, Version: "3", Public: c.key.Public(), PKCS1: c.pkcs1, Spent: c.spent,
			Sign: func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
				n := c.calls.Add(1)
				if c.sign != nil {
					if err := c.sign(ctx, n); err != nil {
						return nil, err
					}
				}
				if r.PKCS1 {
					return c.key.Sign(rand.Reader, r.Digest, r.Algorithm.Hash)
				}
				return c.key.Sign(rand.Reader, r.Digest, r.Algorithm.SignerOpts())
			},
			Certificates: func(context.Context) ([]*x509.Certificate, error) {
				c.asked.Add(1)
				return c.kept, c.keepsFrom
			},
		}.Key()
	}
	return c
}

// denied is a refusal of a key service.
func denied(code, remedy string) error {
	return &kms.Error{Code: code, Class: kms.ErrService, Err: errors.New("the service said no"), Remedy: remedy}
}

// issued writes a chain for the key of c to chain.pem, its authorities to ca.pem, and returns it.
func (w *world) issued(c *cloud) []*x509.Certificate {
	root := certtest.Root("root")
	ca := root.Intermediate("CA")
	chain := ca.Chain(ca.Leaf(c.key.Public(), "release"))
	w.file("chain.pem", string(certtest.PEM(chain...)))
	w.file("ca.pem", string(certtest.PEM(chain[2], chain[1])))
	w.file("root.pem", string(certtest.PEM(chain[2])))
	return chain
}

// TestSignWithAKeyAtAService: the chain from --chain, from the named key's files, from the service, and from both.
func TestSignWithAKeyAtAService(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args  []string
		kept  int // of leaf, CA and root, and one more that is another key's
		asked int64
		told  bool // the leaf, at the opening
	}{
		"files":                     {[]string{"--key", alias, "--chain", "chain.pem"}, 0, 0, true},
		"files beside kept ones":    {[]string{"--key", alias, "--chain", "chain.pem"}, 4, 0, true},
		"named, with files":         {[]string{"--key", "release"}, 4, 0, true},
		"kept":                      {[]string{"--key", alias}, 3, 1, false},
		"kept among others":         {[]string{"--key", alias}, 4, 1, false},
		"named, kept":               {[]string{"--key", "bare"}, 4, 1, false},
		"the leaf kept, CA in file": {[]string{"--key", alias, "--chain", "ca.pem"}, 1, 1, false},
		"named, CA in file":         {[]string{"--key", "half"}, 1, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.cloud("awskms", &cloud{})
			_, other := certtest.ChainOf(1, "P-384")
			c.kept = append([]*x509.Certificate{}, append(w.issued(c), other...)[:tt.kept]...)
			w.file("conf.yaml", "keys:\n  release: {uri: '"+alias+"', chain: chain.pem}\n  bare: "+alias+"\n  half: {uri: '"+alias+"', chain: [ca.pem]}\n")
			w.image("lay", "one", "1.0")
			ref := "oci:" + w.path("lay") + ":1.0"
			args := append([]string{"sign", ref, "--config", w.path("conf.yaml"), "-o", "json"}, tt.args...)
			for i, a := range args {
				if strings.HasSuffix(a, ".pem") {
					args[i] = w.path(a)
				}
			}
			var r struct {
				Key      string
				KeyCalls int
			}
			decode(t, w.want(0, args...), &r)
			if r.Key != pinned || r.KeyCalls != 1 {
				t.Errorf("%+v, want one call of %s", r, pinned)
			}
			if c.opened.Load() != 1 || c.asked.Load() != tt.asked || c.calls.Load() != 1 {
				t.Errorf("opened %d times, asked %d times for certificates, %d calls", c.opened.Load(), c.asked.Load(), c.calls.Load())
			}
			if (c.options.Leaf != nil) != tt.told || c.options.Agent != agent() || c.uri != alias {
				t.Errorf("opened %s with %+v", c.uri, c.options)
			}
			w.want(0, "verify", ref, "--root", w.path("root.pem"))
			if out := w.want(0, append(args, "--again", "-o", "text")...).out; !strings.Contains(out, "\n1 signature written, 0 there already; 1 call to the key service\n") {
				t.Errorf("it says\n%s", out)
			}
		})
	}
}

// TestSignWithoutACertificate: which certificate is missing, and how to come to one, before anything is signed.
func TestSignWithoutACertificate(t *testing.T) {
	t.Parallel()
	_, other := certtest.ChainOf(3, "P-256")
	_, old := certtest.ChainOf(1, "P-256", certtest.Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	for name, tt := range map[string]struct {
		chain            string // of --chain
		kept             func(own []*x509.Certificate) []*x509.Certificate
		code             int
		reason           string
		says, hint       string
		opened, asksKept int64
	}{
		"none anywhere": {
			"", func([]*x509.Certificate) []*x509.Certificate { return nil }, 3, "usage",
			"there is none beside the key " + pinned + " at AWS KMS, which keeps no certificates (Vault", "imprint key csr " + alias + " --subject", 1, 1,
		},
		"another key's alone": {
			"", func([]*x509.Certificate) []*x509.Certificate { return other }, 3, "key-mismatch",
			"building the chain of the key " + pinned + " from what AWS KMS keeps beside it", "imprint key csr " + alias, 1, 1,
		},
		"a leaf without its issuers": {
			"", func(own []*x509.Certificate) []*x509.Certificate { return own[:1] }, 3, "incomplete",
			"from what AWS KMS keeps beside it", "--chain FILE; the leaf may stay", 1, 1,
		},
		"issuers in the file, no leaf kept": {
			"ca.pem", func([]*x509.Certificate) []*x509.Certificate { return nil }, 3, "key-mismatch",
			"ca.pem and what AWS KMS keeps beside it", "imprint key csr " + alias, 1, 1,
		},
		"a file that lacks the issuers, before the key is opened": {
			"leaf.pem", func(own []*x509.Certificate) []*x509.Certificate { return own }, 3, "incomplete", "leaf.pem", "add the missing issuer", 0, 0,
		},
		"a file that breaks a rule, before the key is opened": {
			"weak.pem", func(own []*x509.Certificate) []*x509.Certificate { return own }, 3, "leaf-key-usage", "checking the chain", "", 0, 0,
		},
		"a file for another key, whatever is kept": {
			"other.pem", func(own []*x509.Certificate) []*x509.Certificate { return own }, 3, "key-mismatch",
			"checking the key " + pinned, "imprint chain check FILE --key KEY", 1, 0,
		},
		"an ended one kept": {
			"", func([]*x509.Certificate) []*x509.Certificate { return old }, 3, "key-mismatch", "", "", 1, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.cloud("awskms", &cloud{})
			own := w.issued(c)
			c.kept = tt.kept(own)
			w.file("leaf.pem", string(certtest.PEM(own[0])))
			w.file("other.pem", string(certtest.PEM(other...)))
			w.file("weak.pem", string(certtest.PEM(certtest.SelfSigned(c.key, "weak", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }))))
			w.image("lay", "one", "1.0")
			before := w.tree("lay")
			args := []string{"sign", "oci:" + w.path("lay") + ":1.0", "--key", alias}
			if tt.chain != "" {
				args = append(args, "--chain", w.path(tt.chain))
			}
			complains(t, w.want(tt.code, args...), tt.says, tt.hint)
			if c.opened.Load() != tt.opened || c.asked.Load() != tt.asksKept || c.calls.Load() != 0 {
				t.Errorf("opened %d times, asked %d times, %d calls", c.opened.Load(), c.asked.Load(), c.calls.Load())
			}
			if r := w.want(tt.code, append(args, "-o", "json")...).reason(t); r != tt.reason {
				t.Errorf("reason %s, want %s", r, tt.reason)
			}
			if len(w.tree("lay")) != len(before) {
				t.Error("something was written")
			}
		})
	}
}

// TestKeyIsOpenedOnce: for N references there is one opening, one look at its certificates, and one call each.
func TestKeyIsOpenedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{spent: 1})
	c.kept = w.issued(c)
	args := []string{"sign", "--key", alias, "-o", "json", "--jobs", "8"}
	for i := range 20 {
		w.image("lay", fmt.Sprint(i), fmt.Sprint(i))
		args = append(args, "oci:"+w.path("lay")+":"+fmt.Sprint(i))
	}
	total := 0
	for _, l := range lines(w.want(0, args...).out) {
		var r struct{ KeyCalls int }
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		total += r.KeyCalls
	}
	if c.opened.Load() != 1 || c.asked.Load() != 1 || c.calls.Load() != 20 || total != 21 { // one more was spent on opening
		t.Errorf("opened %d times, asked %d times, %d calls, %d counted", c.opened.Load(), c.asked.Load(), c.calls.Load(), total)
	}
}

// TestKeyServiceRefuses: every code of a key service ends in 6 with its own hint, and a remedy comes before that.
func TestKeyServiceRefuses(t *testing.T) {
	t.Parallel()
	codes := map[string]string{
		kms.CodeCredentials: "which variables and commands", kms.CodeExpired: "log in to the key service again", kms.CodeDenied: "permissions",
		kms.CodeNotFound: "name, version, region", kms.CodeUnusable: "enable it", kms.CodeThrottled: "--jobs", kms.CodeUnreachable: "HTTPS_PROXY",
		kms.CodePlugin: "notation-NAME", kms.CodeService: "check the key service", kms.CodeSignature: "--probe",
	}
	for code := range kms.Reasons() {
		if _, known := reasonHints[code]; strings.HasPrefix(code, "key-") && codes[code] == "" && known && code != kms.CodeAlgorithm && code != kms.CodeURI {
			t.Errorf("%s is not tried here", code)
		}
	}
	w := newWorld(t)
	w.issued(w.cloud("awskms", &cloud{}))
	w.image("lay", "one", "1.0")
	before := w.tree("lay")
	for code, general := range codes {
		for remedy, hint := range map[string]string{"": general, "run `aws sso login`": "run `aws sso login`"} {
			for _, at := range []string{"opening", "signing", "certificates"} {
				t.Run(code+" while "+at+", "+remedy, func(t *testing.T) {
					w := *w
					w.env.Keys = Providers()
					c := &cloud{}
					sign := []string{"sign", "oci:" + w.path("lay") + ":1.0", "--key", alias}
					all := [][]string{append(sign, "--chain", w.path("chain.pem")), {"key", "show", alias, "--probe"}, {"key", "csr", alias, "--subject", acme}}
					switch at {
					case "opening":
						c.refuses = denied(code, remedy)
					case "signing":
						c.sign = func(context.Context, int64) error { return denied(code, remedy) }
					case "certificates":
						c.keepsFrom = denied(code, remedy)
						all = [][]string{sign, {"chain", "check", "--key", alias}}
					}
					w.cloud("awskms", c)
					if at != "certificates" { // it has to be the certificate's key
						w.issued(c)
					}
					for _, args := range all {
						if code == kms.CodeUnreachable && at != "opening" && remedy == "" { // asked three times, each with a pause
							continue
						}
						complains(t, w.want(6, args...), "the service said no", hint)
						if r := w.want(6, append(args, "-o", "json")...).reason(t); r != code {
							t.Errorf("reason %s, want %s", r, code)
						}
					}
				})
			}
		}
	}
	if len(w.tree("lay")) != len(before) {
		t.Error("something was written")
	}
}

// TestHintInGitHubActions: a job without an id-token is told so, where that is what may be missing.
func TestHintInGitHubActions(t *testing.T) {
	t.Parallel()
	const says = "in this GitHub Actions job also set `permissions: id-token: write`"
	for _, tt := range []struct {
		name, scheme, code string
		env                []string
		want               bool
	}{
		{"credentials", "awskms", kms.CodeCredentials, []string{"GITHUB_ACTIONS=true"}, true},
		{"expired", "gcpkms", kms.CodeExpired, []string{"GITHUB_ACTIONS=true"}, true},
		{"denied", "azurekms", kms.CodeDenied, []string{"GITHUB_ACTIONS=true"}, true},
		{"Vault", "hashivault", kms.CodeDenied, []string{"GITHUB_ACTIONS=true"}, true},
		{"a token is there", "awskms", kms.CodeCredentials, []string{"GITHUB_ACTIONS=true", "ACTIONS_ID_TOKEN_REQUEST_URL=https://x.example"}, false},
		{"elsewhere", "awskms", kms.CodeCredentials, nil, false},
		{"not found", "awskms", kms.CodeNotFound, []string{"GITHUB_ACTIONS=true"}, false},
		{"a PIN", "pkcs11", kms.CodeDenied, []string{"GITHUB_ACTIONS=true"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env.Environ = append(w.env.Environ, tt.env...)
			w.cloud(tt.scheme, &cloud{refuses: denied(tt.code, "do this")})
			key := map[string]string{"awskms": alias, "gcpkms": "gcpkms://" + gcpVersion, "azurekms": "azurekms://v.vault.azure.net/k",
				"hashivault": "hashivault://k", "pkcs11": "pkcs11:object=k"}[tt.scheme]
			got := w.want(6, "key", "show", key)
			if !strings.Contains(got.err, "imprint: hint: do this") || strings.Contains(got.err, says) != tt.want {
				t.Errorf("want it to be said: %v\n%s", tt.want, got.err)
			}
			if out := w.want(6, "doctor", "--key", key).out; strings.Contains(strings.Join(strings.Fields(out), " "), says) != tt.want {
				t.Errorf("doctor: want it to be said: %v\n%s", tt.want, out)
			}
		})
	}
}

// TestExitCodeOfAKeyService: 6, whatever it died of.
func TestExitCodeOfAKeyService(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{context.DeadlineExceeded, registry.ErrUnavailable, registry.ErrUnauthorized, registry.ErrNotFound, os.ErrDeadlineExceeded} {
		err := fmt.Errorf("signing: %w", &kms.Error{Code: kms.CodeUnreachable, Class: kms.ErrService, Err: fmt.Errorf("asking: %w", cause)})
		if got := exitCode(err); got != 6 {
			t.Errorf("%v: exit code %d", err, got)
		}
		if h := hint(err); h != reasonHints[kms.CodeUnreachable] {
			t.Errorf("%v: hint %q", err, h)
		}
	}
}

// TestCallsAreCountedAfterAFailure (F31, F32): what was spent is said, in words and in JSON.
func TestCallsAreCountedAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sign  func(context.Context, int64) error
		calls int
		text  string
	}{
		"F32 denied at once": {func(context.Context, int64) error { return denied(kms.CodeDenied, "") }, 1, "(1 call to the key service)"},
		"F31 busy, then denied": {func(_ context.Context, n int64) error {
			if n%3 != 0 {
				return &kms.Error{Code: kms.CodeThrottled, Class: kms.ErrService, Err: errors.New("busy"), Temporary: true}
			}
			return denied(kms.CodeDenied, "")
		}, 3, "(3 calls to the key service)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.cloud("awskms", &cloud{sign: tt.sign})
			w.issued(c)
			w.image("lay", "one", "1.0")
			args := []string{"sign", "oci:" + w.path("lay") + ":1.0", "--key", alias, "--chain", w.path("chain.pem")}
			complains(t, w.want(6, args...), tt.text, "permissions")
			var line struct{ KeyCalls int }
			decode(t, w.want(6, append(args, "-o", "json")...), &line)
			if line.KeyCalls != tt.calls {
				t.Errorf("%d calls in JSON, want %d", line.KeyCalls, tt.calls)
			}
			list := w.file("list", "oci:"+w.path("lay")+":1.0\n")
			got := w.want(6, "sign", "--batch", list, "--key", alias, "--chain", w.path("chain.pem"), "-o", "json")
			if err := json.Unmarshal([]byte(lines(got.out)[0]), &line); err != nil || line.KeyCalls != tt.calls {
				t.Errorf("%d calls in a batch, want %d: %v", line.KeyCalls, tt.calls, err)
			}
		})
	}
	// Nothing was spent on what failed before.
	w := newWorld(t)
	w.cloud("awskms", &cloud{refuses: denied(kms.CodeDenied, "")})
	if got := w.want(6, "key", "show", alias, "-o", "json"); strings.Contains(got.out, "keyCalls") {
		t.Error(got.out)
	}
}

// TestInterruptedKeyCall: ^C while the key service thinks ends the run at once, in 130, and nothing is pushed.
func TestInterruptedKeyCall(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"sign":      {"sign", "oci:LAY:1.0", "--key", alias, "--chain", "CHAIN"},
		"batch":     {"sign", "oci:LAY:1.0", "oci:LAY:2.0", "--key", alias, "--chain", "CHAIN"},
		"probe":     {"key", "show", alias, "--probe"},
		"csr":       {"key", "csr", alias, "--subject", acme},
		"self-sign": {"key", "self-sign", alias, "--subject", acme},
		"doctor":    {"doctor", "--key", alias, "--write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx, interrupt := context.WithCancelCause(t.Context())
			c := w.cloud("awskms", &cloud{sign: func(ctx context.Context, _ int64) error {
				interrupt(interruption{syscall.SIGINT})
				<-ctx.Done()
				return fmt.Errorf("the SDK's own words: %w", ctx.Err())
			}})
			w.issued(c)
			w.image("lay", "one", "1.0", "2.0")
			before := w.tree("lay")
			for i, a := range args {
				args[i] = strings.ReplaceAll(strings.ReplaceAll(a, "LAY", w.path("lay")), "CHAIN", w.path("chain.pem"))
			}
			begun := time.Now()
			got := w.runContext(ctx, args...)
			if got.code != 130 || !strings.Contains(got.err, "interrupted") {
				t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			if len(w.tree("lay")) != len(before) {
				t.Error("something was pushed")
			}
		})
	}
}

// TestKeyShowOfAService: everything that is known of it, from one opening and no signature.
func TestKeyShowOfAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{key: certtest.Key("RSA-3072"), pkcs1: true})
	own := w.issued(c)
	var shown ui.ShownKey
	show := func(args ...string) {
		t.Helper()
		shown = ui.ShownKey{}
		decode(t, w.want(0, append([]string{"key", "show", "-o", "json"}, args...)...), &shown)
	}
	show("arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
	if shown.Key.Key != pinned || shown.ID != pinned || shown.Service != "AWS KMS" || shown.Version != "3" || shown.Spec != "RSA-3072" || shown.Algorithm != "PS384" ||
		!shown.PKCS1 || shown.Probed || shown.Calls != 0 || shown.Kept == nil || *shown.Kept != (ui.Kept{}) || c.calls.Load() != 0 {
		t.Errorf("%+v, %d calls", shown, c.calls.Load())
	}
	c.kept = own[:1]
	if show(alias, "--probe"); shown.Key.Key != alias || shown.Kept.Certificates != 1 || shown.Kept.Complete || shown.Kept.Leaf == nil ||
		shown.Kept.Leaf.Subject != "C=US, ST=WA, O=Notary, CN=release" && !strings.HasSuffix(shown.Kept.Leaf.Subject, "CN=release") || shown.Calls != 1 || !shown.Probed {
		t.Errorf("%+v, %+v", shown, shown.Kept)
	}
	c.kept = own
	if show(alias); shown.Kept.Certificates != 3 || !shown.Kept.Complete {
		t.Errorf("%+v", shown.Kept)
	}
	c.kept = own[1:]
	if show(alias); shown.Kept.Certificates != 2 || shown.Kept.Complete || shown.Kept.Leaf != nil {
		t.Errorf("%+v", shown.Kept)
	}

	// Certificates that cannot be asked for are no reason to say nothing of the key.
	c.kept, c.keepsFrom = nil, denied(kms.CodeDenied, "allow secrets/get")
	got := w.want(0, "key", "show", alias)
	if !strings.HasPrefix(got.out, "usable  "+alias) || !strings.Contains(got.out, "could not be asked for") ||
		!strings.Contains(got.err, "imprint: warning: reading the certificates of "+pinned+": the service said no (allow secrets/get)") {
		t.Errorf("%s%s", got.out, got.err)
	}
	if show(alias); shown.Kept != nil {
		t.Errorf("%+v", shown.Kept)
	}

	// A key that cannot make Notary Project signatures says why, and which could.
	w.cloud("gcpkms", &cloud{refuses: &kms.Error{Code: kms.CodeAlgorithm, Class: kms.ErrInvalid,
		Err: errors.New("its algorithm is RSA_SIGN_PSS_3072_SHA256: usable are EC_SIGN_P256_SHA256 and three more")}})
	complains(t, w.want(3, "key", "show", "gcpkms://"+gcpVersion), "usable are EC_SIGN_P256_SHA256", "make another key")
	complains(t, w.want(3, "key", "show", "awskms://alias/release"), "awskms:///alias/release, with three slashes", "")
}

// TestKeyCSRWithPKCS1: only where the key can, and said before it is used.
func TestKeyCSRWithPKCS1(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	can := w.cloud("awskms", &cloud{key: certtest.Key("RSA-4096"), pkcs1: true})
	pss := w.cloud("gcpkms", &cloud{key: certtest.Key("RSA-2048"), service: "Google Cloud KMS", pinned: "gcpkms://" + gcpVersion})
	curve := w.cloud("azurekms", &cloud{key: certtest.Key("P-384"), service: "Azure Key Vault", pinned: "azurekms://v.vault.azure.net/k/0a"})
	file := w.file("rsa.key", string(certtest.KeyPEM(certtest.Key("RSA-2048"))))
	csr := func(key string, more ...string) []string {
		return append([]string{"key", "csr", key, "--subject", acme}, more...)
	}
	for key, want := range map[string]x509.SignatureAlgorithm{alias: x509.SHA512WithRSA, file: x509.SHA256WithRSA} {
		got := w.want(0, csr(key, "--pkcs1")...)
		block, _ := pem.Decode([]byte(got.out))
		if block == nil {
			t.Fatal(got.out)
		}
		r, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || r.SignatureAlgorithm != want || r.CheckSignature() != nil {
			t.Errorf("%s: %v, %v, want %v", key, r.SignatureAlgorithm, err, want)
		}
	}
	if out := w.want(0, csr(alias, "--pkcs1", "--out", w.path("r.csr"))...).out; !strings.Contains(out, "signed with PKCS #1 v1.5") {
		t.Error(out)
	}
	complains(t, w.want(3, csr("gcpkms://"+gcpVersion, "--pkcs1")...), "Google Cloud KMS signs with this key by PSS alone", "leave --pkcs1 out")
	complains(t, w.want(3, csr("azurekms://v.vault.azure.net/k", "--pkcs1")...), "--pkcs1 is for RSA keys, and this one is EC-384", "leave --pkcs1 out")
	if pss.calls.Load()+curve.calls.Load() != 0 {
		t.Error("a key was used all the same")
	}
	// PSS, which every key can.
	got := w.want(0, csr("gcpkms://"+gcpVersion)...)
	block, _ := pem.Decode([]byte(got.out))
	if r, err := x509.ParseCertificateRequest(block.Bytes); err != nil || r.SignatureAlgorithm != x509.SHA256WithRSAPSS || r.CheckSignature() != nil {
		t.Errorf("%v, %v", r, err)
	}
	// What comes back is verified in the way that was asked for.
	w.env.Keys["awskms"] = func(context.Context, *url.URL, kms.Options) (kms.Key, error) {
		return liar{can.key}, nil
	}
	if r := w.want(6, csr(alias, "--pkcs1", "-o", "json")...).reason(t); r != kms.CodeSignature {
		t.Errorf("reason %s", r)
	}
}

// A liar says that it signs with PKCS #1 v1.5 and signs with PSS.
type liar struct{ crypto.Signer }

func (l liar) Describe() kms.Description { return kms.Description{Service: "a service", PKCS1: true} }

func (l liar) Sign(_ context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	h := opts.HashFunc().New()
	h.Write(message)
	return l.Signer.Sign(rand.Reader, h.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: opts.HashFunc()})
}

// TestChainCheckOfAKey: without a file it is what sign would take.
func TestChainCheckOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{})
	own := w.issued(c)
	_, other := certtest.ChainOf(1, "P-384")
	w.file("conf.yaml", "keys:\n  release: {uri: '"+alias+"', chain: chain.pem}\n  half: {uri: '"+alias+"', chain: ca.pem}\n  file: ./file.key\n")
	w.file("file.key", string(certtest.KeyPEM(certtest.Key("P-256"))))
	var checked ui.CheckedChain
	check := func(code int, args ...string) {
		t.Helper()
		checked = ui.CheckedChain{}
		decode(t, w.want(code, append([]string{"chain", "check", "--config", w.path("conf.yaml"), "-o", "json"}, args...)...), &checked)
	}
	c.kept = append(append([]*x509.Certificate{}, other...), own[2], own[0], own[1])
	if check(0, "--key", alias); !checked.Valid || checked.KeptAt != pinned || len(checked.Files) != 0 || len(checked.Certificates) != 3 || !*checked.KeyMatches || checked.Key.Service != "AWS KMS" {
		t.Errorf("%+v", checked)
	}
	if out := w.want(0, "chain", "check", "--key", alias).out; !strings.HasPrefix(out, "valid  what is kept beside the key\n") {
		t.Error(out)
	}
	c.kept = own[:1]
	if check(0, "--key", "half"); !checked.Valid || checked.KeptAt != pinned || len(checked.Files) != 1 || len(checked.Certificates) != 3 {
		t.Errorf("%+v", checked)
	}
	if check(3, "--key", alias); checked.Reason != "incomplete" || checked.KeptAt != pinned {
		t.Errorf("%+v", checked)
	}
	asked := c.asked.Load()
	if check(0, "--key", "release"); !checked.Valid || checked.KeptAt != "" || len(checked.Files) != 1 || c.asked.Load() != asked {
		t.Errorf("%+v", checked)
	}
	if check(0, "--key", alias, w.path("chain.pem")); !*checked.KeyMatches || checked.Files[0] != w.path("chain.pem") || c.asked.Load() != asked {
		t.Errorf("%+v", checked)
	}
	if c.options.Leaf != nil {
		t.Error("the key was told which leaf it is compared with")
	}
	w.file("other.pem", string(certtest.PEM(other...)))
	if check(3, "--key", alias, w.path("other.pem")); checked.Reason != "key-mismatch" || *checked.KeyMatches {
		t.Errorf("%+v", checked)
	}
	c.kept = nil
	complains(t, w.want(3, "chain", "check", "--key", alias), "there is none beside the key "+pinned+" at AWS KMS", "imprint key csr "+alias)
	complains(t, w.want(3, "chain", "check", "--key", "file", "--config", w.path("conf.yaml")), "no certificate chain", "--chain")
	complains(t, w.want(3, "chain", "check"), "chain check takes FILE", "--key KEY")
	if c.calls.Load() != 0 {
		t.Error("the key was used")
	}
}

// TestDoctorOfAKeyAtAService: opened, described, compared with its chain, never used.
func TestDoctorOfAKeyAtAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{})
	c.kept = w.issued(c)
	_, other := certtest.ChainOf(3, "P-256")
	w.file("other.pem", string(certtest.PEM(other...)))
	w.file("home/.config/imprint/config.yaml", "keys:\n  release: {uri: '"+alias+"', chain: "+w.path("chain.pem")+"}\n  wrong: {uri: '"+alias+"', chain: "+w.path("other.pem")+"}\n")
	rest := map[string]string{
		"configuration/file": ui.OK, "configuration/policy": ui.OK, "configuration/credentials": ui.OK, "registry/registry": ui.NotChecked, "clock/clock": ui.NotChecked,
	}
	with := func(more map[string]string) map[string]string {
		for k, v := range rest {
			more[k] = v
		}
		return more
	}
	got := w.diagnose(0, "--key", "release")
	expect(t, got, with(map[string]string{"key/opens": ui.OK, "key/algorithm": ui.OK, "key/signs": ui.NotChecked,
		"chain/complete": ui.OK, "chain/rules": ui.OK, "chain/matches": ui.OK, "chain/holds": ui.OK}))
	if d := got["key/opens"].Detail; d != pinned+" at AWS KMS" {
		t.Error(d)
	}
	expect(t, w.diagnose(0, "--key", alias), with(map[string]string{"key/opens": ui.OK, "key/algorithm": ui.OK, "key/signs": ui.NotChecked,
		"chain/kept": ui.OK, "chain/complete": ui.OK, "chain/rules": ui.OK, "chain/holds": ui.OK}))
	if c := w.diagnose(3, "--key", "wrong")["chain/matches"]; c.Status != ui.Problem || c.Reason != "key-mismatch" {
		t.Errorf("%+v", c)
	}
	c.kept = nil
	if c := w.diagnose(0, "--key", alias)["chain/chain"]; c.Status != ui.NotChecked || c.Detail != "AWS KMS keeps no certificate beside the key" || !strings.Contains(c.Hint, "imprint key csr "+alias) {
		t.Errorf("%+v", c)
	}
	c.keepsFrom = denied(kms.CodeDenied, "allow it")
	if c := w.diagnose(6, "--key", alias)["chain/kept"]; c.Status != ui.Problem || c.Reason != kms.CodeDenied || c.Hint != "allow it" {
		t.Errorf("%+v", c)
	}
	if c.calls.Load() != 0 {
		t.Error("the key was used")
	}
	// A token that may sign and not read is no problem, but proves nothing.
	open, opened := w.env.Keys["awskms"], 0
	w.env.Keys["hashivault"] = func(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
		if opened++; o.Leaf == nil {
			return nil, denied(kms.CodeDenied, "")
		}
		return open(ctx, u, o)
	}
	vault := []string{"--key", "hashivault://k?version=1", "--chain", w.path("chain.pem")}
	if got := w.diagnose(0, vault...); got["key/opens"].Status != ui.OK || got["chain/matches"].Status != ui.NotChecked || opened != 2 {
		t.Errorf("%+v, opened %d times", got, opened)
	}
	if got := w.diagnose(0, append(vault, "--write")...); got["key/signs"].Status != ui.OK || got["chain/matches"].Status != ui.OK {
		t.Errorf("%+v", got)
	}
	if c.calls.Load() != 1 {
		t.Errorf("%d calls", c.calls.Load())
	}
	c.refuses = denied(kms.CodeCredentials, "set AWS_PROFILE")
	if c := w.diagnose(6, "--key", alias)["key/opens"]; c.Status != ui.Problem || c.Hint != "set AWS_PROFILE" {
		t.Errorf("%+v", c)
	}
}

// TestNamedKeyAtAService: what stands under keys: reaches the provider, and the name works wherever a key is named.
func TestNamedKeyAtAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("plugin", &cloud{service: "notation plugin com.example", pinned: "plugin:com.example?id=keys%2Frelease"})
	c.kept = w.issued(c)
	w.file("pin", "123456\n")
	config := w.file("conf.yaml", `keys:
  release:
    uri: plugin:com.example?id=keys/release
    passphrase-file: pin
    plugin-config: {ca_certs: ./ca.pem, self_signed: "true", empty: ""}
`)
	for _, args := range [][]string{
		{"key", "show", "release"}, {"key", "csr", "release", "--subject", acme}, {"key", "self-sign", "release", "--subject", acme},
		{"chain", "check", "--key", "release"}, {"chain", "check", w.path("chain.pem"), "--key", "release"},
		{"chain", "build", w.path("chain.pem"), "--key", "release"}, {"doctor", "--key", "release"},
	} {
		c.options = kms.Options{}
		w.want(0, append(args, "--config", config)...)
		if got := c.options.Config; len(got) != 3 || got["ca_certs"] != "./ca.pem" || got["self_signed"] != "true" || c.uri != "plugin:com.example?id=keys%2Frelease" {
			t.Errorf("%s: opened %s with %v", args, c.uri, got)
		}
		if pin, err := c.options.Secret(t.Context(), "PIN"); err != nil || string(pin) != "123456" {
			t.Errorf("%s: the secret is %q, %v", args, pin, err)
		}
	}
	// A plugin that was told which leaf to expect has proved nothing yet.
	w.file("named.yaml", "keys:\n  release: {uri: 'plugin:com.example?id=k', chain: chain.pem}\n")
	if c := w.diagnose(0, "--key", "release", "--config", w.path("named.yaml"))["chain/matches"]; c.Status != ui.NotChecked {
		t.Errorf("%+v", c)
	}
	if c := w.diagnose(0, "--key", "release", "--config", w.path("named.yaml"), "--write")["chain/matches"]; c.Status != ui.OK {
		t.Errorf("%+v", c)
	}
	// A warning of the provider is said.
	open := w.env.Keys["plugin"]
	w.env.Keys["plugin"] = func(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
		o.Warn("the PIN has one try left")
		return open(ctx, u, o)
	}
	if got := w.want(0, "key", "show", "release", "--config", config); !strings.Contains(got.err, "imprint: warning: the PIN has one try left\n") {
		t.Error(got.err)
	}
}

// An enveloper makes whole envelopes, and tells its public key in them alone.
type enveloper struct{ asked *atomic.Int64 }

func (enveloper) Public() crypto.PublicKey { return nil }
func (enveloper) ID() string               { return "plugin:com.example.envelopes?id=k" }
func (enveloper) Describe() kms.Description {
	return kms.Description{Service: "notation plugin com.example.envelopes"}
}

func (enveloper) Sign(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, kms.Invalid(kms.CodeOptions, "it makes whole envelopes")
}

func (e enveloper) SignEnvelope(_ context.Context, r kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	e.asked.Add(1)
	return kms.EnvelopeAnswer{}, denied(kms.CodeDenied, "ask "+r.EnvelopeType)
}

// TestKeyOfWholeEnvelopes: nothing is asked of it that it cannot do, and it needs no chain.
func TestKeyOfWholeEnvelopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked atomic.Int64
	w.env.Keys["plugin"] = func(context.Context, *url.URL, kms.Options) (kms.Key, error) { return enveloper{&asked}, nil }
	w.keys()
	w.image("lay", "one", "1.0")
	const key = "plugin:com.example.envelopes?id=k"
	ref := "oci:" + w.path("lay") + ":1.0"
	complains(t, w.want(6, "sign", ref, "--key", key), "the service said no (1 call to the key service)", "ask application/jose+json")
	w.want(0, "sign", ref, "--key", key, "--dry-run")
	if asked.Load() != 1 {
		t.Errorf("asked for %d envelopes", asked.Load())
	}
	var shown ui.ShownKey
	decode(t, w.want(0, "key", "show", key, "-o", "json"), &shown)
	if !shown.Envelopes || shown.PublicKey != "" || shown.Kept != nil || shown.ID != key || shown.Service != "notation plugin com.example.envelopes" {
		t.Errorf("%+v", shown)
	}
	complains(t, w.want(3, "key", "show", key, "--probe"), "--probe: it makes whole signature envelopes", "imprint help start")
	complains(t, w.want(3, "key", "csr", key, "--subject", acme), "it makes whole signature envelopes", "imprint sign REF --key \""+key+"\"")
	complains(t, w.want(3, "key", "self-sign", key, "--subject", acme), "it makes whole signature envelopes", "")
	complains(t, w.want(3, "chain", "check", "--key", key), "brings its own with each signature", "imprint inspect")
	var checked ui.CheckedChain
	decode(t, w.want(0, "chain", "check", w.path("chain.pem"), "--key", key, "-o", "json"), &checked)
	if !checked.Valid || checked.KeyMatches != nil {
		t.Errorf("%+v", checked)
	}
	if out := w.want(0, "chain", "check", w.path("chain.pem"), "--key", key).out; !strings.Contains(out, "not compared: the plugin tells its public key") {
		t.Error(out)
	}
	complains(t, w.want(3, "chain", "build", w.path("chain.pem"), "--key", key), "tells its public key with each signature alone", "")
	if c := w.diagnose(0, "--key", key)["chain/chain"]; c.Status != ui.NotChecked || c.Detail != "the plugin brings it with each signature" {
		t.Errorf("%+v", c)
	}
}

// TestSecretsOfKeys: a PIN, a password and where a PIN lies stand in no answer, no error and no hint, however they got in.
func TestSecretsOfKeys(t *testing.T) {
	t.Parallel()
	const pin, place, password = "S3CRET-PIN", "S3CRET-PLACE", "S3CRET-PASSWORD"
	w := newWorld(t)
	token := w.cloud("pkcs11", &cloud{service: "PKCS #11", pinned: "pkcs11:token=t;object=k;id=%01?pin-source=file:" + place + "&module-path=/lib/p.so"})
	token.kept = w.issued(token)
	w.cloud("azurekms", &cloud{refuses: fmt.Errorf("asking https://me:%s@v.vault.azure.net: %w", password, denied(kms.CodeDenied, "try https://me:"+password+"@v"))})
	w.image("lay", "one", "1.0")
	ref := "oci:" + w.path("lay") + ":1.0"
	uri := "pkcs11:token=t;object=k?pin-source=file:" + place
	config := w.file("conf.yaml", "keys:\n  release: {uri: '"+uri+"'}\n")
	wrong := w.file("wrong.yaml", "keys:\n  release: {uri: 'pkcs11:object=k?pin-value="+pin+"'}\n")
	for _, args := range [][]string{
		{"key", "show", uri, "--probe"}, {"key", "show", "release", "--config", config}, {"key", "csr", uri, "--subject", acme},
		{"key", "csr", uri, "--subject", acme, "--out", w.path("a.csr"), "--overwrite"}, {"key", "self-sign", uri, "--subject", acme, "--out", w.path("a.pem"), "--overwrite"},
		{"chain", "check", "--key", uri}, {"chain", "build", w.path("chain.pem"), "--key", uri, "--out", w.path("b.pem"), "--overwrite"},
		{"doctor", "--key", uri}, {"doctor", "--key", "release", "--config", config}, {"doctor", "--config", wrong},
		{"sign", ref, "--key", uri, "--dry-run"}, {"sign", ref, "--key", uri, "--again"},
		{"key", "show", "pkcs11:object=k?pin-value=" + pin}, {"key", "show", "pkcs11:object=k;pin-value=" + pin}, {"key", "show", "PKCS11:object=k?pin-value=" + pin + ";x"},
		{"key", "show", "release", "--config", wrong}, {"sign", "pkcs11:object=k?pin-value=" + pin, "--key", uri},
		{"sign", ref, ref + "2", "--key", "pkcs11:object=k?pin-value=" + pin}, {"key", "show", uri, "pkcs11:object=k?pin-value=" + pin},
		{"key", "show", "https://me:" + password + "@v.vault.azure.net/keys/k"}, {"key", "show", "hashivault://me:" + password + "@k"},
		{"key", "show", "azurekms://v.vault.azure.net/k"}, {"doctor", "--key", "azurekms://v.vault.azure.net/k"},
		{"sign", "https://me:" + password + "@ghcr.io/a:1", "--key", uri},
	} {
		for _, more := range [][]string{nil, {"-o", "json"}} {
			got := w.run(append(args, more...)...)
			for _, secret := range []string{pin, place, password} {
				if strings.Contains(got.out, secret) || strings.Contains(got.err, secret) {
					t.Errorf("imprint %s repeats %s (exit %d):\n%s%s", strings.Join(args, " "), secret, got.code, got.out, got.err)
				}
			}
		}
	}
	if token.opened.Load() == 0 || token.uri != strings.ReplaceAll(uri, "file:", "file%3A") && token.uri != uri {
		t.Errorf("the provider got %q", token.uri)
	}
	// What is left out stays usable: the rest of the query is there.
	var shown ui.ShownKey
	decode(t, w.want(0, "key", "show", uri, "-o", "json"), &shown)
	if shown.Key.Key != "pkcs11:token=t;object=k" || shown.ID != "pkcs11:token=t;object=k;id=%01?module-path=/lib/p.so" {
		t.Errorf("%q, %q", shown.Key.Key, shown.ID)
	}
}
