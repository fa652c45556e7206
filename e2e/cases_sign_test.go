package e2e

import (
	"bytes"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // a certificate of a DSA key is what must be refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// The rows of CASES.md 2.1, through the command: exit code, reason code, and nothing written.

// A signer's desk: a person with a key and a chain, and a repository with an image.
type desk struct {
	*person
	f        *fake
	repo     string // below the registry
	ref      string // by tag v1
	subject  ocispec.Descriptor
	root, ca *certtest.Authority
	key      crypto.Signer
	leaf     *x509.Certificate
}

func newDesk(t testing.TB, f *fake, name string) *desk {
	t.Helper()
	var safe strings.Builder
	for _, r := range strings.ToLower(name) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '/' {
			safe.WriteRune(r)
		}
	}
	d := &desk{person: newPerson(t), f: f, repo: strings.ReplaceAll(safe.String(), "/", "-")}
	d.subject = f.putArtifact(d.repo, "v1", image(d.repo))
	d.ref = f.Host + "/" + d.repo + ":v1"
	d.root = certtest.Root("desk root")
	d.ca = d.root.Intermediate("desk CA")
	d.key = certtest.Key("P-256")
	d.leaf = d.ca.Leaf(d.key.Public(), "desk")
	d.file("leaf.key", certtest.KeyPEM(d.key))
	d.file("chain.pem", certtest.PEM(d.ca.Chain(d.leaf)...))
	d.file("root.pem", certtest.PEM(d.root.Certificate))
	return d
}

// at is a path in the person's folder.
func (d *desk) at(name string) string { return filepath.Join(d.dir, name) }

// sign is the arguments of signing with the desk's key and chain; more follow.
func (d *desk) sign(more ...string) []string {
	return append([]string{"sign", d.ref, "--key", "file:" + d.at("leaf.key"), "--chain", d.at("chain.pem")}, more...)
}

// writes counts what was written to the desk's repository.
func (d *desk) writes() int {
	return d.f.Count(func(r regtest.Request) bool {
		return r.Method != http.MethodGet && r.Method != http.MethodHead && strings.HasPrefix(r.Path, "/v2/"+d.repo+"/")
	})
}

// refused wants an exit code and a reason, one error and one hint said, and nothing written.
func (d *desk) refused(t testing.TB, code int, reason string, args ...string) outcome {
	t.Helper()
	o := d.want(t, code, reason, args...)
	if n := d.writes(); n != 0 {
		t.Errorf("%d writes", n)
	}
	d.clean(t, o)
	return o
}

// clean wants what a failing run says to be one error with a hint.
func (d *desk) clean(t testing.TB, o outcome) {
	t.Helper()
	if err := oneError("", withoutWarnings(o.stderr)); err != nil {
		t.Error(err)
	}
}

func withoutWarnings(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "imprint: warning: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestCasesSignKey(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	run := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(t, f, t.Name()))
		})
	}

	run("A01 private key does not match the leaf", func(t *testing.T, d *desk) {
		d.file("leaf.key", certtest.KeyPEM(certtest.Key("P-256")))
		d.refused(t, 3, "key-mismatch", d.sign()...)
	})

	// A02, A03: the key service returns something that is not this key's strict signature.
	order := elliptic.P256().Params().N
	for name, misbehave := range map[string]func(k *ecdsa.PrivateKey, digest []byte) []byte{
		"another key version": func(_ *ecdsa.PrivateKey, digest []byte) []byte {
			return derOf(ecdsaSign(certtest.Key("P-256").(*ecdsa.PrivateKey), digest))
		},
		"another hash":   func(k *ecdsa.PrivateKey, digest []byte) []byte { return derOf(ecdsaSign(k, append(digest, 0)[1:])) },
		"raw r and s":    func(k *ecdsa.PrivateKey, digest []byte) []byte { r, s := ecdsaSign(k, digest); return rawOf(r, s) },
		"trailing byte":  func(k *ecdsa.PrivateKey, digest []byte) []byte { return append(derOf(ecdsaSign(k, digest)), 0) },
		"trailing inner": func(k *ecdsa.PrivateKey, digest []byte) []byte { return longerSequence(derOf(ecdsaSign(k, digest))) },
		"r is 0": func(k *ecdsa.PrivateKey, digest []byte) []byte {
			_, s := ecdsaSign(k, digest)
			return derOf(new(big.Int), s)
		},
		"s is n": func(k *ecdsa.PrivateKey, digest []byte) []byte { r, _ := ecdsaSign(k, digest); return derOf(r, order) },
		"s above n": func(k *ecdsa.PrivateKey, digest []byte) []byte {
			r, s := ecdsaSign(k, digest)
			return derOf(r, s.Add(s, order))
		},
		"s negative": func(k *ecdsa.PrivateKey, digest []byte) []byte {
			r, s := ecdsaSign(k, digest)
			return derOf(r, s.Neg(s))
		},
		"nothing": func(*ecdsa.PrivateKey, []byte) []byte { return nil },
	} {
		run("A02 "+name, func(t *testing.T, d *desk) {
			s := &service{public: d.key.Public(), sign: func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
				return misbehave(d.key.(*ecdsa.PrivateKey), digestOf(message, opts)), nil
			}}
			d.serve(s)
			d.refused(t, 6, "key-misbehaved", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
			if n := s.calls.Load(); n != 1 {
				t.Errorf("%d calls", n)
			}
		})
	}
	for name, salt := range map[string]int{"A03 PSS salt of 20 bytes": 20, "A03 PSS salt as long as possible": rsa.PSSSaltLengthAuto, "A03 no PSS salt": 0} {
		run(name, func(t *testing.T, d *desk) {
			k := certtest.Key("RSA-2048").(*rsa.PrivateKey)
			d.file("chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(k.Public(), "rsa"))...))
			d.serve(&service{public: k.Public(), sign: func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
				if salt == 0 { // PKCS#1 v1.5 has none
					return rsa.SignPKCS1v15(rand.Reader, k, opts.HashFunc(), digestOf(message, opts))
				}
				return pss(k, message, salt), nil
			}})
			for _, format := range []string{"jws", "cose"} {
				d.refused(t, 6, "key-misbehaved", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"), "--signature-format", format)
			}
		})
	}
	run("A02 the service fails", func(t *testing.T, d *desk) {
		d.serve(&service{public: d.key.Public(), sign: func([]byte, crypto.SignerOpts) ([]byte, error) {
			return nil, &kms.Error{Code: kms.CodeService, Class: kms.ErrService, Err: errors.New("access denied")}
		}})
		d.refused(t, 6, kms.CodeService, "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
	})

	// A04: public keys that Notary does not know, in a certificate that is otherwise right.
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	for name, pub := range map[string]crypto.PublicKey{
		"RSA 2047": oddRSA(2047, 65537), "RSA 2041": oddRSA(2041, 65537), "RSA 1024": oddRSA(1024, 65537), "RSA 8192": oddRSA(8192, 65537),
		"RSA 2049": oddRSA(2049, 65537), "e is 1": oddRSA(2048, 1), "e is 3": oddRSA(2048, 3), "e is even": oddRSA(2048, 65538),
		"P-224": certtest.Key("P-224").Public(), "Ed25519": ed,
	} {
		run("A04 "+name, func(t *testing.T, d *desk) {
			s := &service{public: pub}
			d.file("chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(pub, "odd"))...))
			d.serve(s)
			o := d.refused(t, 3, "", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
			if !slices.Contains([]string{"leaf-key-algorithm", "key-algorithm", "key-unsupported"}, o.field(t, "reason")) {
				t.Errorf("reason %q", o.field(t, "reason"))
			}
			if s.calls.Load() != 0 {
				t.Error("the key was asked to sign")
			}
			// And with a usable key.
			d.refused(t, 3, "leaf-key-algorithm", d.sign()...)
		})
	}
	params := dsa.PublicKey{Parameters: dsa.Parameters{P: oddRSA(2048, 3).N, Q: oddRSA(256, 3).N, G: big.NewInt(4)}, Y: oddRSA(2047, 3).N}
	for name, spki := range map[string][]byte{
		"secp256k1": spkiOf(curve(asn1.ObjectIdentifier{1, 3, 132, 0, 10}), secp256k1G),
		"DSA": spkiOf(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, Parameters: asn1.RawValue{FullBytes: der(struct{ P, Q, G *big.Int }{params.P, params.Q, params.G})}},
			der(params.Y)),
	} {
		run("A04 "+name, func(t *testing.T, d *desk) {
			d.file("chain.pem", slices.Concat(withSPKI(d.leaf, spki, d.ca), certtest.PEM(d.ca.Certificate, d.root.Certificate)))
			o := d.refused(t, 3, "", d.sign()...)
			if !slices.Contains([]string{"malformed-certificates", "leaf-key-algorithm", "key-mismatch"}, o.field(t, "reason")) {
				t.Errorf("reason %q", o.field(t, "reason"))
			}
		})
	}

	// A08: formats of keys that are not read are named, with what converts them.
	for name, key := range map[string]struct {
		file []byte
		says []string
	}{
		"legacy encrypted PEM": {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00112233445566778899AABBCCDDEEFF"}, Bytes: make([]byte, 64)}), []string{"Proc-Type", "openssl "}},
		"PKCS#12":              {pkcs12, []string{"PKCS#12", "openssl "}},
		"OpenSSH":              {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB\n-----END OPENSSH PRIVATE KEY-----\n"), []string{"OpenSSH"}},
		"a certificate only":   {certtest.PEM(certtest.Root("not a key").Certificate), []string{"no private key"}},
		"garbage":              {[]byte("this is no key"), nil},
		"empty":                {nil, nil},
	} {
		run("A08 "+name, func(t *testing.T, d *desk) {
			d.file("leaf.key", key.file)
			o := d.refused(t, 3, "", d.sign()...)
			if o.field(t, "reason") == "" {
				t.Error("no reason code")
			}
			for _, s := range key.says {
				if !strings.Contains(o.field(t, "error"), s) {
					t.Errorf("the error does not name %q: %s", s, o.field(t, "error"))
				}
			}
		})
	}

	run("A09 readable by others", func(t *testing.T, d *desk) {
		if err := os.Chmod(d.at("leaf.key"), 0o644); err != nil {
			t.Fatal(err)
		}
		o := d.refused(t, 3, "key-permissions", d.sign()...)
		if !strings.Contains(o.stderr, "chmod 600") {
			t.Errorf("it is not said what helps: %s", o.stderr)
		}
	})
	run("A09 symlink that leaves its folder", func(t *testing.T, d *desk) {
		elsewhere := filepath.Join(t.TempDir(), "elsewhere.key")
		if err := os.Rename(d.at("leaf.key"), elsewhere); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, d.at("leaf.key")); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "", d.sign()...)
	})
	run("A09 a secret of Kubernetes works", func(t *testing.T, d *desk) {
		mount := d.at("secret")
		data := filepath.Join(mount, "..2026_11_22")
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{"..data": "..2026_11_22", "leaf.key": "..data/leaf.key"} {
			if err := os.Symlink(to, filepath.Join(mount, from)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(d.at("leaf.key"), filepath.Join(data, "leaf.key")); err != nil {
			t.Fatal(err)
		}
		d.want(t, 0, "", "sign", d.ref, "--key", "file:"+filepath.Join(mount, "leaf.key"), "--chain", d.at("chain.pem"))
	})
	run("A09 FIFO", func(t *testing.T, d *desk) {
		if err := os.Remove(d.at("leaf.key")); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(d.at("leaf.key"), 0o600); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "", d.sign()...)
	})
	run("A09 /dev/zero", func(t *testing.T, d *desk) {
		d.refused(t, 3, "", "sign", d.ref, "--key", "file:/dev/zero", "--chain", d.at("chain.pem"))
		d.refused(t, 3, "", d.sign("--chain", "/dev/zero")...)
	})
}

func TestCasesSignChain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	now, year := time.Now(), 365*24*time.Hour

	// A05: the leaf breaks a rule.
	for name, c := range map[string]struct {
		edit certtest.Edit
		rule string
	}{
		"CA":           {func(c *x509.Certificate) { c.IsCA = true }, "leaf-basic-constraints"},
		"no key usage": {func(c *x509.Certificate) { c.KeyUsage = 0 }, "leaf-key-usage"},
		"key usage not critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension("keyUsage", false, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1})}
		}, "leaf-key-usage"},
		"key encipherment too": {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, "leaf-key-usage"},
		"certificate signing":  {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "leaf-key-usage"},
		"CRL signing":          {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, "leaf-key-usage"},
		"no digital signature": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, "leaf-key-usage"},
		"any extended usage":   {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "leaf-extended-key-usage"},
		"server authentication": {func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageServerAuth}
		}, "leaf-extended-key-usage"},
		"time stamping":     {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }, "leaf-extended-key-usage"},
		"OCSP signing":      {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }, "leaf-extended-key-usage"},
		"signed with SHA-1": {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }, "signature-algorithm"},
	} {
		t.Run("A05 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.file("chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(d.key.Public(), "bent", c.edit))...))
			d.refused(t, 3, c.rule, d.sign()...)
		})
	}

	// A06: certificates that make no exact chain. What is missing, unrelated, doubled or out of date is named.
	for name, c := range map[string]struct {
		chain func(d *desk) []*x509.Certificate
		code  int
		rule  string
	}{
		"without its root": {func(d *desk) []*x509.Certificate { return []*x509.Certificate{d.leaf, d.ca.Certificate} }, 3, "incomplete"},
		"the leaf alone":   {func(d *desk) []*x509.Certificate { return []*x509.Certificate{d.leaf} }, 3, "incomplete"},
		"a gap":            {func(d *desk) []*x509.Certificate { return []*x509.Certificate{d.leaf, d.root.Certificate} }, 3, "incomplete"},
		"shuffled": {func(d *desk) []*x509.Certificate {
			return []*x509.Certificate{d.root.Certificate, d.leaf, d.ca.Certificate}
		}, 0, ""},
		"an unrelated extra": {func(d *desk) []*x509.Certificate {
			return append(d.ca.Chain(d.leaf), certtest.Root("stranger").Certificate)
		}, 3, "unrelated"},
		"the root twice": {func(d *desk) []*x509.Certificate { return append(d.ca.Chain(d.leaf), d.root.Certificate) }, 3, "duplicate"},
		"expired leaf": {func(d *desk) []*x509.Certificate {
			return d.ca.Chain(d.ca.Leaf(d.key.Public(), "old", certtest.Valid(now.Add(-year), now.Add(-time.Hour))))
		}, 3, "expired"},
		"not yet valid leaf": {func(d *desk) []*x509.Certificate {
			return d.ca.Chain(d.ca.Leaf(d.key.Public(), "new", certtest.Valid(now.Add(time.Hour), now.Add(year))))
		}, 3, "not-yet-valid"},
		"expired intermediate": {func(d *desk) []*x509.Certificate {
			ca := d.root.Intermediate("old CA", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
			return ca.Chain(ca.Leaf(d.key.Public(), "leaf"))
		}, 3, "expired"},
		"expired root": {func(d *desk) []*x509.Certificate {
			root := certtest.Root("old root", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
			return root.Chain(root.Leaf(d.key.Public(), "leaf"))
		}, 3, "expired"},
		"a loop of cross-signs": {func(d *desk) []*x509.Certificate {
			// Two authorities that certify each other, and no root.
			a, b := certtest.Root("loop A"), certtest.Root("loop B")
			ab, ba := b.IntermediateWith(a.Key, "loop A"), a.IntermediateWith(b.Key, "loop B")
			return []*x509.Certificate{a.Leaf(d.key.Public(), "leaf"), ab.Certificate, ba.Certificate}
		}, 3, "loop"},
	} {
		t.Run("A06 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.file("chain.pem", certtest.PEM(c.chain(d)...))
			if c.code == 0 {
				d.want(t, 0, "", d.sign()...)
				d.want(t, 0, "", "verify", d.ref, "--root", d.at("root.pem"))
				return
			}
			d.refused(t, c.code, c.rule, d.sign()...)
		})
	}

	// A07: what a file of certificates may hold.
	for name, c := range map[string]struct {
		file func(d *desk, chain []byte) []byte
		code int
		rule string
	}{
		"CRLF":            {func(_ *desk, b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }, 0, ""},
		"byte order mark": {func(_ *desk, b []byte) []byte { return append([]byte("\ufeff"), b...) }, 0, ""},
		"text between": {func(_ *desk, b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("-----BEGIN"), []byte("a comment\n-----BEGIN"))
		}, 0, ""},
		"a private key too":     {func(d *desk, b []byte) []byte { return append(b, certtest.KeyPEM(d.key)...) }, 3, "private-key"},
		"a private key first":   {func(d *desk, b []byte) []byte { return append(certtest.KeyPEM(d.key), b...) }, 3, "private-key"},
		"a megabyte of garbage": {func(*desk, []byte) []byte { return bytes.Repeat([]byte("-----BEGIN "), 1<<20/11) }, 3, ""},
		"more than a megabyte":  {func(_ *desk, b []byte) []byte { return append(b, bytes.Repeat([]byte("\n"), 1<<20)...) }, 3, "usage"},
		"10,000 certificates":   {func(_ *desk, b []byte) []byte { return bytes.Repeat(b[:len(b)/3], 10_000)[:1<<20-1] }, 3, ""},
		"17 certificates": {func(d *desk, b []byte) []byte {
			for range 14 {
				b = append(b, certtest.PEM(certtest.Root("many").Certificate)...)
			}
			return b
		}, 3, "too-many-certificates"},
		"empty":   {func(*desk, []byte) []byte { return nil }, 3, "no-certificates"},
		"garbage": {func(*desk, []byte) []byte { return []byte("no certificates here") }, 3, ""},
	} {
		t.Run("A07 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			b, _ := os.ReadFile(d.at("chain.pem"))
			d.file("chain.pem", c.file(d, b))
			if c.code == 0 {
				d.want(t, 0, "", d.sign()...)
				return
			}
			began := time.Now()
			o := d.refused(t, c.code, c.rule, d.sign()...)
			if o.field(t, "reason") == "" {
				t.Error("no reason code")
			}
			if time.Since(began) > 10*time.Second {
				t.Errorf("it took %s", time.Since(began))
			}
		})
	}
}

func TestCasesSignSubject(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	run := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(t, f, t.Name()))
		})
	}

	run("A10 the tag moves between resolving and signing", func(t *testing.T, d *desk) {
		first := d.subject
		// The key is used long after the reference was resolved: then the tag names something else.
		d.serve(&service{public: d.key.Public(), sign: func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
			f.putArtifact(d.repo, "v1", image("moved"))
			return derOf(ecdsaSign(d.key.(*ecdsa.PrivateKey), digestOf(message, opts))), nil
		}})
		o := d.want(t, 0, "", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
		if got := o.field(t, "digest"); got != first.Digest.String() {
			t.Errorf("signed %s, want the first %s", got, first.Digest)
		}
		if n := len(f.referrers(d.repo, first.Digest)); n != 1 {
			t.Errorf("%d signatures on the first", n)
		}
	})
	run("A10 tag and digest disagree", func(t *testing.T, d *desk) {
		d.ref += "@" + digest.FromString("another").String()
		f.put(d.repo, "", ocispec.MediaTypeImageManifest, []byte("another"))
		d.refused(t, 1, "tag-digest-mismatch", d.sign()...)
	})
	run("A11 the registry lies about a digest", func(t *testing.T, d *desk) {
		b := image("a lie").manifest
		f.mu.Lock()
		f.manifests[d.repo+":v1"] = served{ocispec.MediaTypeImageManifest, d.subject.Digest, b}
		f.manifests[d.repo+"@"+d.subject.Digest.String()] = served{ocispec.MediaTypeImageManifest, d.subject.Digest, b}
		f.mu.Unlock()
		d.refused(t, 4, "digest-mismatch", d.sign()...)
		d.ref = f.Host + "/" + d.repo + "@" + d.subject.Digest.String()
		d.refused(t, 4, "digest-mismatch", d.sign()...)
	})

	config := `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	imageType, indexType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	for name, c := range map[string]struct {
		mediaType, manifest string
		code                int
		reason              string
	}{
		"A12 image and index at once":        {imageType, `{"schemaVersion":2,"mediaType":"` + imageType + `","config":` + config + `,"layers":[],"manifests":[]}`, 1, "ambiguous-manifest"},
		"A12 index with layers":              {indexType, `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[],"layers":[]}`, 1, "ambiguous-manifest"},
		"A12 index with a config":            {indexType, `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[],"config":` + config + `}`, 1, "ambiguous-manifest"},
		"A12 served as another type":         {indexType, `{"schemaVersion":2,"mediaType":"` + imageType + `","config":` + config + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A14 two configs":                    {imageType, `{"schemaVersion":2,"config":` + config + `,"config":` + config + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A14 two layers":                     {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"layers":[]}`, 1, "ambiguous-manifest"},
		"A14 case variants":                  {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"Layers":[]}`, 1, "ambiguous-manifest"},
		"A14 two digests in a descriptor":    {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":2,"digest":"sha256:`+strings.Repeat("0", 64)+`"`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 negative size":                  {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":-2`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size with an exponent":          {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":1e3`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size with a fraction":           {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":2.0`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size as text":                   {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":"2"`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size beyond 64 bits":            {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":18446744073709551616`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size of 2^53+1 is kept":         {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":9007199254740993`, 1) + `,"layers":[]}`, 0, ""},
		"A13 manifest of 4 MiB and one byte": {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"annotations":{"a":"` + strings.Repeat("a", 4<<20-len(`{"schemaVersion":2,"config":,"layers":[],"annotations":{"a":""}}`)-len(config)+1) + `"}}`, 4, "too-large"},
		"A13 manifest of 4 MiB to the byte":  {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"annotations":{"a":"` + strings.Repeat("a", 4<<20-len(`{"schemaVersion":2,"config":,"layers":[],"annotations":{"a":""}}`)-len(config)) + `"}}`, 0, ""},
		"A13 a manifest that is no JSON":     {imageType, `<html>`, 4, "manifest-malformed"},
		"A13 JSON nested a hundred thousand": {imageType, strings.Repeat(`{"a":`, 100_000), 4, "manifest-malformed"},
	} {
		run(name, func(t *testing.T, d *desk) {
			d.subject = f.put(d.repo, "v1", c.mediaType, []byte(c.manifest))
			f.putBlob([]byte("{}"))
			if c.code == 0 {
				d.want(t, 0, "", d.sign()...)
				d.want(t, 0, "", "verify", d.ref, "--root", d.at("root.pem"))
				return
			}
			d.refused(t, c.code, c.reason, d.sign()...)
		})
	}
	run("A13 indexes nested 200 deep", func(t *testing.T, d *desk) {
		child := d.subject
		for range 200 {
			b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []any{child}})
			child = f.put(d.repo, "v1", indexType, b)
		}
		o := d.refused(t, 4, "", d.sign("--recursive")...)
		if o.field(t, "reason") == "" {
			t.Error("no reason code")
		}
		// Not followed, it is an index like any other.
		d.want(t, 0, "", d.sign()...)
	})
	run("A13 an index that lists itself", func(t *testing.T, d *desk) {
		// Only a registry that lies can serve one: the child's digest is answered with the parent.
		child := describe(indexType, []byte("itself"))
		b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []any{child}})
		f.put(d.repo, "v1", indexType, b)
		f.mu.Lock()
		f.manifests[d.repo+"@"+child.Digest.String()] = served{indexType, child.Digest, b}
		f.mu.Unlock()
		d.refused(t, 4, "digest-mismatch", d.sign("--recursive")...)
	})
}

func TestCasesSignFlags(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	run := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(t, f, t.Name()))
		})
	}

	for name, value := range map[string]string{"markup": "a <b> & 'c' \"d\"", "line separators": "a\u2028b\u2029c", "control": "a\x01b\x1b[31m\n\x7f", "astral": "\U0001F9ED", "empty": ""} {
		run("A16 "+name+" round-trips", func(t *testing.T, d *desk) {
			for _, format := range []string{"jws", "cose"} {
				d.want(t, 0, "", d.sign("-m", "key="+value, "--signature-format", format, "--again")...)
			}
			o := d.want(t, 0, "", "verify", d.ref, "--root", d.at("root.pem"))
			for i := range 2 {
				if got := o.field(t, fmt.Sprintf("signatures.%d.metadata.key", i)); got != value {
					t.Errorf("metadata is %q, want %q", got, value)
				}
			}
		})
	}
	for name, pairs := range map[string][]string{
		"NUL":                     {"key=a\x00b"},
		"invalid UTF-8":           {"key=a\xffb"},
		"invalid UTF-8 in a name": {"k\xff=a"},
		"a mebibyte":              {"key=" + strings.Repeat("a", 1<<20)},
		"10,000 keys": slices.Collect(func(yield func(string) bool) {
			for i := range 10_000 {
				if !yield(fmt.Sprintf("key%d=value", i)) {
					return
				}
			}
		}),
		"a reserved name":    {"io.cncf.notary.x=1"},
		"imprint's own name": {"io.imprint.claims=[]"},
	} {
		run("A16 "+name, func(t *testing.T, d *desk) {
			var args []string
			for _, p := range pairs {
				args = append(args, "-m", p)
			}
			d.refused(t, 3, "metadata-invalid", d.sign(args...)...)
		})
	}
	run("A16 no name", func(t *testing.T, d *desk) { d.refused(t, 3, "usage", d.sign("-m", "=a")...) })
	run("A16 no value", func(t *testing.T, d *desk) { d.refused(t, 3, "usage", d.sign("-m", "key")...) })

	for name, args := range map[string][]string{
		"path": {"--claim", "../x"}, "space": {"--claim", "1 .0"}, "too long": {"--claim", strings.Repeat("a", 129)}, "empty": {"--claim", ""},
		"leading dot": {"--claim", ".1"}, "a slash": {"--claim", "registry.example/app:1"}, "not ASCII": {"--claim", "１"},
		"no host": {"--claim-name", "app:1"}, "a digest": {"--claim-name", "registry.example/app@sha256:" + strings.Repeat("0", 64)},
		"upper case": {"--claim-name", "registry.example/App:1"}, "userinfo": {"--claim-name", "docker.io@evil.example/app:1"},
		"with --no-claims": {"--no-claims", "--claim", "1"},
	} {
		run("A17 "+name, func(t *testing.T, d *desk) {
			o := d.refused(t, 3, "", d.sign(args...)...)
			if r := o.field(t, "reason"); r != "claim-invalid" && r != "usage" {
				t.Errorf("reason %q", r)
			}
		})
	}
	run("A17 names are canonical", func(t *testing.T, d *desk) {
		o := d.want(t, 0, "", d.sign("--claim-name", "Index.Docker.io/library/app:1", "--claim-name", "registry.example:443/app", "--claim", "b", "--claim", "a", "--claim", "b")...)
		if got, want := o.field(t, "claims"), `["a","b","docker.io/library/app:1","registry.example/app","v1"]`; got != want {
			t.Errorf("claims %s, want %s", got, want)
		}
	})

	for _, expiry := range []string{"0", "0s", "-1h", "9999999h9999999999999d", "9999999h", "9999999999h", "soon", "", "1e3h"} {
		run("A18 expiry "+expiry, func(t *testing.T, d *desk) {
			o := d.refused(t, 3, "", d.sign("--expiry="+expiry)...)
			if r := o.field(t, "reason"); r != "expiry-invalid" && r != "usage" {
				t.Errorf("reason %q", r)
			}
		})
	}
	run("A18 expiry after the leaf's end warns", func(t *testing.T, d *desk) {
		o := d.want(t, 0, "", d.sign("--expiry", "87600h")...)
		if !strings.Contains(o.stderr, "warning: ") || !strings.Contains(o.stderr, "expir") {
			t.Errorf("no warning: %s", o.stderr)
		}
	})

	for _, year := range []int{1970, 2100} {
		run(fmt.Sprintf("A19 the clock says %d", year), func(t *testing.T, d *desk) {
			d.now = func() time.Time { return time.Date(year, 1, 2, 3, 4, 5, 0, time.UTC) }
			d.env = append(d.env, "SOURCE_DATE_EPOCH=1700000000")
			d.refused(t, 3, "clock", d.sign()...)
		})
	}
	run("A19 SOURCE_DATE_EPOCH is not the signing time", func(t *testing.T, d *desk) {
		d.env = append(d.env, "SOURCE_DATE_EPOCH=1")
		o := d.want(t, 0, "", d.sign()...)
		if at, err := time.Parse(time.RFC3339, o.field(t, "signedAt")); err != nil || time.Since(at) > time.Hour {
			t.Errorf("signed at %s, %v", at, err)
		}
	})

	run("A21 a claim that another digest holds by the same identity", func(t *testing.T, d *desk) {
		d.want(t, 0, "", d.sign("--claim", "1.0")...)
		f.putArtifact(d.repo, "1.0", image(d.repo)) // the tag, at the first digest
		other := f.putArtifact(d.repo, "v2", image("other "+d.repo))
		before := d.writes()
		d.ref = f.Host + "/" + d.repo + "@" + other.Digest.String()
		d.want(t, 1, "claim-moves", d.sign("--claim", "1.0")...)
		d.want(t, 1, "claim-moves", d.sign("--claim-name", d.f.Host+"/"+d.repo+":1.0")...)
		d.want(t, 1, "claim-moves", d.sign("--claim", "1.0", "--move", "2.*")...)
		d.want(t, 3, "", d.sign("--claim", "1.0", "--move", "[")...)
		d.env = append(d.env, "IMPRINT_MOVE=1.0")
		d.want(t, 1, "claim-moves", d.sign("--claim", "1.0")...)
		if n := d.writes(); n != before {
			t.Errorf("%d writes", n-before)
		}
		d.want(t, 0, "", d.sign("--claim", "1.0", "--move", "1.*")...)
	})
	run("A22 signing twice", func(t *testing.T, d *desk) {
		d.want(t, 0, "", d.sign()...)
		before := d.writes()
		o := d.want(t, 0, "", d.sign()...)
		if o.field(t, "written") != "0" || o.field(t, "alreadySigned") != "1" || o.field(t, "keyCalls") != "0" || d.writes() != before {
			t.Errorf("%s, %d writes", o.stdout, d.writes()-before)
		}
		if n := len(f.referrers(d.repo, d.subject.Digest)); n != 1 {
			t.Errorf("%d signatures", n)
		}
		d.want(t, 0, "", d.sign("--again")...)
		if n := len(f.referrers(d.repo, d.subject.Digest)); n != 2 {
			t.Errorf("%d signatures after --again", n)
		}
	})

	run("A23 secrets are not said", func(t *testing.T, d *desk) {
		const secret, token = "hunter2-secret", "aHVudGVyMi10b2tlbg"
		encrypted := d.at("locked.key")
		d.env = append(d.env, "IMPRINT_PASSPHRASE="+secret)
		if err := os.MkdirAll(filepath.Join(d.dir, "home/.docker"), 0o700); err != nil {
			t.Fatal(err)
		}
		auth := base64.StdEncoding.EncodeToString([]byte("somebody:" + secret))
		d.file("home/.docker/config.json", fmt.Appendf(nil, `{"auths":{%q:{"auth":%q},"127.0.0.1:1":{"auth":%q,"identitytoken":%q}}}`, f.Host, auth, auth, token))
		d.file("locked.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		locked := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
		}))
		var said strings.Builder
		for _, args := range [][]string{
			d.sign(), {"sign", d.ref, "--key", encrypted, "--chain", d.at("chain.pem")},
			{"sign", d.ref, "--key", "hashivault://key?token=" + secret, "--chain", d.at("chain.pem")},
			{"verify", "127.0.0.1:1/app:v1", "--root", d.at("root.pem"), "--timeout", "1s"},
			{"verify", locked.Host + "/app:v1", "--root", d.at("root.pem")},
			{"verify", "https://user:" + secret + "@127.0.0.1/app:v1", "--root", d.at("root.pem")},
			{"login", locked.Host, "--username", "somebody", "--password-stdin"},
			{"login", locked.Host, "--username", "somebody", "--password", secret},
			{"doctor", d.ref},
		} {
			for _, more := range [][]string{nil, {"-o", "json"}} {
				d.stdin = secret
				o := d.run(t, append(slices.Clone(args), more...)...)
				said.WriteString(o.stdout + o.stderr)
			}
		}
		for _, s := range []string{secret, token, auth} {
			if i := strings.Index(said.String(), s); i >= 0 {
				t.Errorf("a secret is said: %s", said.String()[max(0, i-200):min(said.Len(), i+200)])
			}
		}
		if d.run(t, "login", locked.Host, "--password", secret).code != 3 {
			t.Error("login takes a password from its arguments")
		}
	})

	run("A24 escape codes are escaped", func(t *testing.T, d *desk) {
		const evil = "red\x1b[31m\nnext\rback\u202eright"
		leaf := d.ca.Leaf(d.key.Public(), "x", certtest.Subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme"}, CommonName: evil}))
		d.file("chain.pem", certtest.PEM(d.ca.Chain(leaf)...))
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.x", Config: ocispec.DescriptorEmptyJSON,
			Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"title" + evil: evil}}
		m.SchemaVersion = 2
		b, _ := json.Marshal(m)
		f.put(d.repo, "v1", ocispec.MediaTypeImageManifest, b)
		f.putBlob([]byte("{}"))
		// A hostile referrer with it in its artifact type and annotations.
		f.putArtifact(d.repo, "", sbom(describe(ocispec.MediaTypeImageManifest, b), "s"))
		var said strings.Builder
		for _, args := range [][]string{
			d.sign("-m", "key"+"=va"+evil), {"verify", d.ref, "--root", d.at("root.pem")}, {"verify", d.ref, "--root", d.at("chain.pem")},
			{"inspect", d.ref}, {"tree", d.ref}, {"verify", f.Host + "/" + evil + ":v1", "--root", d.at("root.pem")},
			{"rechain", d.ref, "--chain", d.at("chain.pem"), "--dry-run"},
		} {
			o := d.run(t, args...)
			said.WriteString(o.stdout + o.stderr)
			if j := d.run(t, append(slices.Clone(args), "-o", "json")...); j.stdout != "" {
				if _, err := documents(j.stdout); err != nil {
					t.Errorf("imprint %s: %v", args[0], err)
				}
			}
		}
		for _, bad := range []string{"\x1b", "\r", "\u202e", "\nnext"} {
			if i := strings.Index(said.String(), bad); i >= 0 {
				t.Errorf("%q is written to the terminal: %q", bad, said.String()[max(0, i-100):min(said.Len(), i+100)])
			}
		}
	})

	run("A25 HOME is unset", func(t *testing.T, d *desk) {
		d.env = []string{"PATH=/bin"}
		o := d.refused(t, 3, "usage", d.sign()...)
		if !strings.Contains(o.stderr, "HOME") {
			t.Errorf("HOME is not named: %s", o.stderr)
		}
		d.env = []string{"HOME=relative"}
		d.refused(t, 3, "usage", d.sign()...)
	})
	run("A25 a configuration that others may write", func(t *testing.T, d *desk) {
		dir := d.at("home/.config/imprint")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d.file("home/.config/imprint/config.yaml", []byte("jobs: 4\n"))
		d.want(t, 0, "", d.sign("--dry-run")...)
		if err := os.Chmod(filepath.Join(dir, "config.yaml"), 0o666); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "", d.sign()...)
	})
	run("A25 a configuration folder that others may write", func(t *testing.T, d *desk) {
		dir := d.at("home/.config/imprint")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d.file("home/.config/imprint/config.yaml", []byte("jobs: 4\n"))
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "", d.sign()...)
	})
	run("A25 a configuration folder that is a symlink", func(t *testing.T, d *desk) {
		elsewhere := t.TempDir()
		if err := os.WriteFile(filepath.Join(elsewhere, "config.yaml"), []byte("key: file:stolen.key\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(d.at("home/.config"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, d.at("home/.config/imprint")); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "", "sign", d.ref, "--chain", d.at("chain.pem"))
	})
	run("A25 nothing is read from the working folder", func(t *testing.T, d *desk) {
		d.file("config.yaml", []byte("key: file:leaf.key\n"))
		d.file("policy.yaml", []byte("version: 1\n"))
		d.refused(t, 3, "", "sign", d.ref, "--chain", d.at("chain.pem"))
		d.refused(t, 3, "no-policy", "verify", d.ref)
	})
}

// rawOf writes r and s beside each other, as a service that speaks JOSE would.
func rawOf(r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// longerSequence puts a third integer into an ECDSA signature.
func longerSequence(sig []byte) []byte {
	fields := elements(sig)
	return sequence(append(fields, asn1.RawValue{FullBytes: der(big.NewInt(1))}))
}

func der(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// curve identifies a public key on a named curve.
func curve(oid asn1.ObjectIdentifier) pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: der(oid)}}
}

// secp256k1G is that curve's base point: a public key that is on it.
var secp256k1G = func() []byte {
	x, _ := new(big.Int).SetString("79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798", 16)
	y, _ := new(big.Int).SetString("483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8", 16)
	return append([]byte{4}, rawOf(x, y)...)
}()

// pkcs12 is the outer form of a PFX of version 3, all that tells the format.
var pkcs12 = der(struct {
	Version int
	Content struct {
		Type asn1.ObjectIdentifier
		Body []byte `asn1:"explicit,tag:0"`
	}
}{3, struct {
	Type asn1.ObjectIdentifier
	Body []byte `asn1:"explicit,tag:0"`
}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, make([]byte, 64)}})
