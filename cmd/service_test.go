package cmd

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
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

// TestSignWithAWrongURI: what is wrong with the key is said before that there is no chain.
func TestSignWithAWrongURI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	sign := []string{"sign", "oci:" + w.path("lay") + ":1.0", "--key"}
	complains(t, w.want(3, append(sign, "awskms://alias/release")...), "write awskms:///alias/release, with three slashes", "imprint help keys")
	complains(t, w.want(3, append(sign, "release")...), `no key is named "release"`, "./release")
	complains(t, w.want(3, append(sign, "yubikey:9c")...), "no provider for yubikey keys", "imprint help keys")
	complains(t, w.want(3, append(sign, "./release.key")...), "no certificate chain to sign with", "--chain")
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
		var r struct {
			Kind     string
			KeyCalls int
		}
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		if r.Kind == "summary" {
			if r.KeyCalls != total {
				t.Errorf("%d calls in all, %d in the summary", total, r.KeyCalls)
			}
			continue
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
	ours := []string{kms.CodeAlgorithm, kms.CodeURI, kms.CodeFile, kms.CodePermissions, kms.CodeFormat} // no service says that
	for code := range kms.Reasons() {
		if _, known := reasonHints[code]; strings.HasPrefix(code, "key-") && codes[code] == "" && known && !slices.Contains(ours, code) {
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

// TestBatchCountsCalls: the summary says how often the key was used, for nothing too, and by which version everything was signed.
func TestBatchCountsCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{})
	w.issued(c)
	args := []string{"sign", "--key", alias, "--chain", w.path("chain.pem"), "--jobs", "1"}
	for _, tag := range []string{"1", "2", "3"} {
		w.image("lay", tag, tag)
		args = append(args, "oci:"+w.path("lay")+":"+tag)
	}
	c.sign = func(_ context.Context, n int64) error {
		if n == 2 {
			return denied(kms.CodeDenied, "")
		}
		return nil
	}
	got := w.want(7, append(args, "-o", "json")...)
	all := lines(got.out)
	var sum struct {
		Kind     string
		KeyCalls int
	}
	if err := json.Unmarshal([]byte(all[len(all)-1]), &sum); err != nil || sum.Kind != "summary" || sum.KeyCalls != 3 {
		t.Errorf("%v, %+v", err, sum)
	}
	if got := w.want(0, args...); !strings.HasSuffix(got.out, "\n\nkey         "+pinned+"\n2 already signed, 1 signed of 3 items; 1 call to the key service\n") {
		t.Error(got.out)
	}
	if got := w.want(0, "verify", "--root", w.path("root.pem"), args[7], args[8], "-o", "json"); strings.Contains(got.out, "keyCalls") {
		t.Error(got.out)
	}
}

// TestInterruptedBatchRunsAgain: the summary is the last line of JSON after a signal too, and the list of what failed runs as it is.
func TestInterruptedBatchRunsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, interrupt := context.WithCancelCause(t.Context())
	c := w.cloud("awskms", &cloud{})
	w.issued(c)
	c.sign = func(ctx context.Context, n int64) error {
		if n == 1 {
			return nil
		}
		interrupt(interruption{syscall.SIGTERM})
		<-ctx.Done()
		return ctx.Err()
	}
	key := []string{"--key", alias, "--chain", w.path("chain.pem"), "--jobs", "1"}
	args := append([]string{"sign", "-o", "json"}, key...)
	for _, tag := range []string{"1", "2"} {
		w.image("lay", tag, tag)
		args = append(args, "oci:"+w.path("lay")+":"+tag)
	}
	got := w.runContext(ctx, args...)
	all := lines(got.out)
	if got.code != 143 || !strings.HasPrefix(all[len(all)-1], `{"kind":"summary"`) || !strings.Contains(all[len(all)-1], `"exitCode":143`) {
		t.Errorf("exit %d\n%s", got.code, got.out)
	}
	if !strings.Contains(got.err, "imprint: error: interrupted: SIGTERM\nimprint: hint: what is done stays done: run it again\n") {
		t.Error(got.err)
	}
	c.sign = nil
	again := w.want(0, append([]string{"sign", "--batch", w.file("again.json", got.out)}, key...)...)
	if !strings.Contains(again.out, "1 already signed, 1 signed of 2 items") {
		t.Error(again.out)
	}
}
