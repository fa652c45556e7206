package cmd

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

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
		!strings.HasSuffix(shown.Kept.Leaf.Subject, "CN=release") || shown.Calls != 1 || !shown.Probed {
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
	if !strings.HasPrefix(got.out, "usable  "+alias) || !strings.Contains(got.out, "could not be had: see the warning") ||
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
	spent := can.calls.Load()
	if complains(t, w.want(3, csr(alias, "--out", w.path("r.csr"))...), "exists", "--overwrite"); can.calls.Load() != spent {
		t.Error("a signature was paid for that had nowhere to go")
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
	complains(t, w.want(3, "chain", "check", "--key", "file", "--config", w.path("conf.yaml")), "no certificate chain", "imprint chain check FILE… --key file")
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
