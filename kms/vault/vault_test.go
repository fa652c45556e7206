package vault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/kms/kmstest/vaulttest"
)

// The client reads variables of the process, so this package's tests set them once, for all, to what finds nothing; a URI says the
// address. What variables do is tested in e2e/keys, in processes of their own.
func TestMain(m *testing.M) {
	flag.Parse()
	// Most of these tests wait for one another's patience, not for a processor.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "BAO_") || strings.HasPrefix(name, "TRANSIT_") {
			os.Unsetenv(name)
		}
	}
	home, err := os.MkdirTemp("", "vault")
	if err != nil {
		panic(err)
	}
	os.Setenv("HOME", home)
	os.Setenv("USERPROFILE", home)
	if err := os.WriteFile(filepath.Join(home, ".vault-token"), []byte(vaulttest.Root+"\n"), 0o600); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

// key opens a key of a server; what is after the name goes into the query.
func key(t *testing.T, s *vaulttest.Server, name string, more ...string) (kms.Key, error) {
	t.Helper()
	return keyWith(t, s, kms.Options{Agent: "imprint/test"}, name, more...)
}

func keyWith(t *testing.T, s *vaulttest.Server, o kms.Options, name string, more ...string) (kms.Key, error) {
	t.Helper()
	uri := "hashivault://" + name + "?addr=" + url.QueryEscape(s.URL)
	for _, m := range more {
		uri += "&" + m
	}
	return kms.Providers{"hashivault": Open, "openbao": Open}.Open(t.Context(), uri, o)
}

func opened(t *testing.T, s *vaulttest.Server, name string, more ...string) kms.Key {
	t.Helper()
	k, err := key(t, s, name, more...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signed signs a message and returns how many calls that took.
func signed(t *testing.T, k kms.Key) (int64, error) {
	t.Helper()
	counted, calls := kms.Metered(k)
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	sig, err := counted.Sign(t.Context(), []byte("message"), a.SignerOpts())
	if err == nil {
		err = a.Verify(k.Public(), []byte("message"), sig)
	} else if sig != nil {
		t.Error("a signature beside an error")
	}
	return calls.Load(), err
}

// wants checks an error's code, class, and what it and its remedy say.
func wants(t *testing.T, err error, code string, says, remedy string) {
	t.Helper()
	var e *kms.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *kms.Error, want %s", err, code)
	}
	if e.Code != code {
		t.Errorf("code %s, want %s: %v", e.Code, code, err)
	}
	if class := code != kms.CodeAlgorithm && code != kms.CodeURI; errors.Is(err, kms.ErrService) != class || errors.Is(err, kms.ErrInvalid) == class {
		t.Errorf("class %v: %v", e.Class, err)
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("it does not say %q: %v", says, err)
	}
	if !strings.Contains(e.Remedy, remedy) {
		t.Errorf("the remedy does not say %q: %q", remedy, e.Remedy)
	}
	if remedy == "" && e.Remedy != "" {
		t.Errorf("a remedy: %q", e.Remedy)
	}
	if all := err.Error() + e.Remedy; strings.ContainsAny(all, "\n\t") || strings.Contains(all, vaulttest.Root) || len(all) > 2000 {
		t.Errorf("not one line of bounded length without the token: %q", all)
	}
	if kms.Reasons()[e.Code] == "" {
		t.Errorf("no reason is known for the code %q", e.Code)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			signer := certtest.Key(algorithm)
			s.AddKey(algorithm, signer)
			for _, scheme := range []string{"hashivault", "openbao"} {
				k, err := kms.Providers{"hashivault": Open, "openbao": Open}.Open(t.Context(), scheme+"://"+algorithm+"?addr="+url.QueryEscape(s.URL), kms.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if !signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
					t.Error("another public key")
				}
				id := k.(kms.Identifier).ID()
				if want := scheme + "://" + algorithm + "?addr=" + url.QueryEscape(s.URL) + "&mount=transit&version=1"; id != want {
					t.Errorf("ID %s, want %s", id, want)
				}
				if again, err := kms.ParseURI(id); err != nil || kms.Format(again) != id {
					t.Errorf("the ID is no canonical URI: %v, %v", again, err)
				}
				if d := kms.Describe(k); d.Version != "1" || d.PKCS1 != strings.HasPrefix(algorithm, "RSA") || d.Service != map[string]string{"hashivault": "Vault", "openbao": "OpenBao"}[scheme] {
					t.Errorf("%+v", d)
				}
				kmstest.RunWith(t, k, kmstest.Options{Network: true})
			}
		})
	}
}

func TestTLS(t *testing.T) {
	s := vaulttest.NewTLS(t)
	s.AddKey("release", certtest.Key("P-256"))
	_, err := key(t, s, "release")
	wants(t, err, kms.CodeUnreachable, "unknown authority", "VAULT_CACERT or BAO_CACERT")
	t.Setenv("VAULT_CACERT", s.CAFile)
	if _, err := signed(t, opened(t, s, "release")); err != nil {
		t.Error(err)
	}
	t.Setenv("VAULT_TLS_SERVER_NAME", "vault.example")
	_, err = key(t, s, "release")
	wants(t, err, kms.CodeUnreachable, "vault.example", "VAULT_TLS_SERVER_NAME")
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	var said string
	if _, err := keyWith(t, s, kms.Options{Warn: func(text string) { said += text }}, "release"); err != nil || !strings.Contains(said, "the certificate of Vault at "+s.URL+" is not checked") {
		t.Errorf("%q, %v", said, err)
	}
	t.Setenv("VAULT_CACERT", filepath.Join(t.TempDir(), "absent"))
	_, err = key(t, s, "release")
	wants(t, err, kms.CodeCredentials, "absent", "VAULT_CACERT or BAO_CACERT")
}

func TestSchemeMismatch(t *testing.T) {
	t.Parallel()
	s, secure := vaulttest.New(t), vaulttest.NewTLS(t)
	plain, err := Open(t.Context(), parsed(t, "hashivault://release?addr="+strings.Replace(s.URL, "http://", "https://", 1)), kms.Options{})
	if plain != nil {
		t.Error("a key")
	}
	wants(t, err, kms.CodeUnreachable, "release", "write http://")
	_, err = Open(t.Context(), parsed(t, "hashivault://release?addr="+strings.Replace(secure.URL, "https://", "http://", 1)), kms.Options{})
	wants(t, err, kms.CodeUnreachable, "HTTPS server", "write https://")
}

func parsed(t *testing.T, uri string) *url.URL {
	t.Helper()
	u, err := kms.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestRequest: nothing is left to the server's defaults, of which the salt's is wrong.
func TestRequest(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	s.AddKey("release", certtest.Key("RSA-2048"))
	k := opened(t, s, "release")
	if n, err := signed(t, k); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := k.Sign(t.Context(), []byte("request"), crypto.SHA256); err != nil {
		t.Error("PKCS #1 v1.5:", err)
	}
	if reads, signs := s.Calls(vaulttest.OpRead), s.Calls(vaulttest.OpSign); reads != 1 || signs != 2 {
		t.Errorf("%d reads, %d signatures", reads, signs)
	}
	for _, seen := range s.Seen() {
		if seen.Agent != "imprint/test" || seen.Token != vaulttest.Root || seen.Namespace != "" {
			t.Errorf("%+v", seen)
		}
	}
}

func TestMountsAndNamespaces(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	keys := map[string]crypto.Signer{}
	for _, mount := range []string{"team/a/transit", "team", "ns1/team/a/transit"} {
		s.Mount(mount)
		keys[mount] = certtest.Key("P-256")
		s.AddKeyAt(mount, "release", keys[mount])
	}
	for _, tt := range []struct{ query, mount, path string }{
		{"mount=team/a/transit", "team/a/transit", "/v1/team/a/transit/keys/release"},
		{"mount=team", "team", "/v1/team/keys/release"},
		{"mount=team/a/transit&namespace=ns1", "ns1/team/a/transit", "/v1/team/a/transit/keys/release"},
	} {
		k := opened(t, s, "release", tt.query)
		if !keys[tt.mount].Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
			t.Errorf("%s: another key", tt.query)
		}
		if _, err := signed(t, k); err != nil {
			t.Errorf("%s: %v", tt.query, err)
		}
		seen := s.Seen()
		read, sign := seen[len(seen)-2], seen[len(seen)-1]
		if read.Path != tt.path || sign.Path != strings.Replace(tt.path, "/keys/", "/sign/", 1) || read.Namespace != sign.Namespace ||
			read.Namespace != strings.TrimPrefix(parsed(t, "hashivault://x?"+tt.query).Query().Get("namespace"), "") {
			t.Errorf("%s: %+v, %+v", tt.query, read, sign)
		}
		// What was pinned opens the same key.
		again, err := Open(t.Context(), parsed(t, k.(kms.Identifier).ID()), kms.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if again.(kms.Identifier).ID() != k.(kms.Identifier).ID() {
			t.Errorf("%s, then %s", k.(kms.Identifier).ID(), again.(kms.Identifier).ID())
		}
	}
	before := len(s.Seen())
	// The grammar of URIs refuses most of these already; an engine that is built otherwise does too.
	for _, q := range []url.Values{{"mount": {"a/../transit"}}, {"mount": {".."}}, {"mount": {"a//b"}}, {"mount": {"./transit"}}, {"mount": {"a?b"}}, {"mount": {"a%2fb"}},
		{"version": {"0"}}, {"version": {"-1"}}, {"version": {"1.0"}}, {"version": {"latest"}}, {"version": {"01"}}, {"version": {"9999999999"}},
		{"addr": {"vault:8200"}}, {"addr": {"ftp://vault"}}, {"addr": {"https://"}}, {"addr": {"/x"}}, {"addr": {"https://vault?x=1"}}, {"addr": {"https://vault#x"}},
		{"addr": {"https://%zz"}}} {
		if q.Get("addr") == "" {
			q.Set("addr", s.URL)
		}
		_, err := Open(t.Context(), &url.URL{Scheme: "hashivault", Host: "release", RawQuery: q.Encode()}, kms.Options{})
		if err == nil {
			t.Errorf("%v: opened", q)
			continue
		}
		wants(t, err, kms.CodeURI, "", "")
	}
	if n := len(s.Seen()) - before; n != 0 {
		t.Errorf("%d requests for URIs that cannot be", n)
	}
}

// TestHTTPForm: the address that the services print.
func TestHTTPForm(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	s.Mount("team/a/transit")
	s.AddKeyAt("team/a/transit", "release", certtest.Key("P-256"))
	k, err := kms.Providers{"hashivault": Open}.Open(t.Context(), s.URL+"/v1/team/a/transit/keys/release", kms.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "hashivault://release?addr=" + url.QueryEscape(s.URL) + "&mount=team%2Fa%2Ftransit&version=1"; k.(kms.Identifier).ID() != want {
		t.Errorf("ID %s, want %s", k.(kms.Identifier).ID(), want)
	}
}

// TestRotation: F34 and what pinning is for.
func TestRotation(t *testing.T) {
	t.Parallel()
	second, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, next := range map[string]crypto.Signer{"P-256": certtest.Key("P-256"), "RSA-2048": second} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := vaulttest.New(t)
			s.AddKey("release", certtest.Key(algorithm))
			k := opened(t, s, "release")
			s.Rotate("release", next)
			if n, err := signed(t, k); n != 1 || err != nil {
				t.Errorf("after a rotation version 1 does not sign: %d calls, %v", n, err)
			}
			latest, pinned := opened(t, s, "release"), opened(t, s, "release", "version=1")
			if v := kms.Describe(latest).Version; v != "2" {
				t.Errorf("version %s after a rotation", v)
			}
			if !pinned.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
				t.Error("version=1 is another key after a rotation")
			}
			if _, err := signed(t, latest); err != nil {
				t.Error(err)
			}
			s.Fault(vaulttest.At(vaulttest.OpSign, 0, vaulttest.Fault{Effect: vaulttest.Latest}))
			n, err := signed(t, k)
			wants(t, err, kms.CodeSignature, "signed with version 2 of transit/keys/release instead of version 1", "")
			if n != 1 {
				t.Errorf("%d calls", n)
			}
			t.Run("F34 another key that says it is this version", func(t *testing.T) {
				s.Fault(vaulttest.At(vaulttest.OpSign, 0, vaulttest.Fault{Effect: vaulttest.OtherKey}))
				n, err := signed(t, k)
				wants(t, err, kms.CodeSignature, "no signature of the key that was opened", "")
				if n != 1 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	first, second := certtest.Key("P-256"), certtest.Key("P-256")
	s.AddKey("release", first, second)
	root := certtest.Root("root")
	ca := root.Intermediate("CA")
	one, two := ca.Chain(ca.Leaf(first.Public(), "one")), ca.Chain(ca.Leaf(second.Public(), "two"))
	s.SetCertificates("release", 1, one...)
	s.SetCertificates("release", 2, two...)
	check := func(query string, want [][]byte) {
		t.Helper()
		certs, err := kms.Certificates(t.Context(), opened(t, s, "release", query))
		if err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		for _, c := range certs {
			got = append(got, c.Raw)
		}
		if !bytes.Equal(bytes.Join(got, nil), bytes.Join(want, nil)) {
			t.Errorf("%s: %d certificates, not those of the version", query, len(got))
		}
	}
	check("version=1", [][]byte{one[0].Raw, one[1].Raw, one[2].Raw})
	check("version=2", [][]byte{two[0].Raw, two[1].Raw, two[2].Raw})
	s.SetCertificateText("release", 2, []string{string(certtest.PEM(two[0])), string(certtest.PEM(two[1:]...))})
	check("version=2", [][]byte{two[0].Raw, two[1].Raw, two[2].Raw})
	for _, none := range []any{"", nil, []string{}} {
		s.SetCertificateText("release", 2, none)
		check("version=2", nil)
	}
	if n := s.Calls(vaulttest.OpSign); n != 0 {
		t.Errorf("%d signatures to read certificates", n)
	}
	var many []byte
	for range kms.MaxCertificates + 1 {
		many = append(many, certtest.PEM(two[0])...)
	}
	for name, text := range map[string]string{
		"no PEM":                   "certificates to come",
		"something after it":       string(certtest.PEM(two...)) + "and more",
		"something else":           string(certtest.KeyPEM(second)),
		"too many":                 string(many),
		"not a certificate inside": "-----BEGIN CERTIFICATE-----\n3q2+7w==\n-----END CERTIFICATE-----",
	} {
		s.SetCertificateText("release", 2, text)
		_, err := kms.Certificates(t.Context(), opened(t, s, "release"))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wants(t, err, kms.CodeService, "certificate chain of transit/keys/release version 2", "")
		if _, err := signed(t, opened(t, s, "release")); err != nil {
			t.Errorf("%s: a chain that is not asked for keeps the key from signing: %v", name, err)
		}
	}
}

// TestUnsupported: refused at opening, with what can be used.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	for _, kind := range []string{"ed25519", "aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "hmac", "managed_key", "ml-dsa"} {
		s.AddType("x", kind)
		_, err := key(t, s, "x")
		wants(t, err, kms.CodeAlgorithm, "is of type "+kind+": Notary Project signatures need rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384 or ecdsa-p521", "")
	}
	// A service that says one thing and keeps another.
	s.AddKey("y", certtest.Key("P-256"))
	for name, text := range map[string]string{
		"no PEM": "MFkwEwYHKoZIzj0CAQ", "a private key": string(certtest.KeyPEM(certtest.Key("P-256"))),
		"two": strings.Repeat("-----BEGIN PUBLIC KEY-----\n3q2+7w==\n-----END PUBLIC KEY-----\n", 2), "damaged": "-----BEGIN PUBLIC KEY-----\n3q2+7w==\n-----END PUBLIC KEY-----\n",
	} {
		s.SetPublicKey("y", 1, text)
		if _, err := key(t, s, "y"); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			wants(t, err, kms.CodeService, "public key of transit/keys/y version 1", "")
		}
	}
}

func TestSignOnly(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	signer := certtest.Key("P-256")
	s.AddKey("release", signer)
	s.Fault(vaulttest.At(vaulttest.OpRead, 0, vaulttest.Denied()))
	leaf := kms.Options{Leaf: signer.Public()}
	for name, tt := range map[string]struct {
		o     kms.Options
		query string
	}{"no version": {leaf, "mount=transit"}, "no leaf": {kms.Options{}, "version=1"}} {
		_, err := keyWith(t, s, tt.o, "release", tt.query)
		if err == nil {
			t.Fatal(name)
		}
		wants(t, err, kms.CodeDenied, "denies reading transit/keys/release", `path "transit/keys/release" { capabilities = ["read"] }`)
	}
	k, err := keyWith(t, s, leaf, "release", "version=1")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := signed(t, k); n != 1 || err != nil {
		t.Error(n, err)
	}
	if certs, err := kms.Certificates(t.Context(), k); len(certs) != 0 || err != nil {
		t.Error(certs, err)
	}
	// The leaf of another key: what the service signs does not verify.
	k, err = keyWith(t, s, kms.Options{Leaf: certtest.Key("P-256").Public()}, "release", "version=1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = signed(t, k)
	wants(t, err, kms.CodeSignature, "no signature of the key", "")
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, parsed(t, "hashivault://release?addr="+s.URL), kms.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
