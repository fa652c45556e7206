package certchain

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corex509 "github.com/notaryproject/notation-core-go/x509"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// A messageSigner is a key that only takes whole messages, as one behind a notation plugin does, and only its own padding.
type messageSigner struct{ crypto.Signer }

func (m messageSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("asked to sign a digest")
}

func (m messageSigner) SignMessage(r io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, isRSA := m.Public().(*rsa.PublicKey); isRSA {
		if pss, ok := opts.(*rsa.PSSOptions); !ok || pss.SaltLength != rsa.PSSSaltLengthEqualsHash {
			return nil, errors.New("asked for something else than PSS with salt = hash")
		}
	}
	h := opts.HashFunc().New()
	h.Write(message)
	return m.Signer.Sign(r, h.Sum(nil), opts)
}

var algorithmFor = map[string]x509.SignatureAlgorithm{
	"RSA-2048": x509.SHA256WithRSAPSS, "RSA-3072": x509.SHA384WithRSAPSS, "RSA-4096": x509.SHA512WithRSAPSS,
	"P-256": x509.ECDSAWithSHA256, "P-384": x509.ECDSAWithSHA384, "P-521": x509.ECDSAWithSHA512,
}

const subject = "C=DE, ST=BE, O=Acme, CN=release"

func TestCreateRequest(t *testing.T) {
	t.Parallel()
	r := Request{Subject: mustName(t, subject), SANs: []string{"uri:https://ci.acme.example/release", "build.acme.example", "release@acme.example", "192.0.2.1"}}
	for _, algorithm := range certtest.Algorithms {
		for name, signer := range map[string]crypto.Signer{"signer": certtest.Key(algorithm), "message signer": messageSigner{certtest.Key(algorithm)}} {
			raw, err := CreateRequest(signer, r)
			if err != nil {
				t.Errorf("%s, %s: %v", algorithm, name, err)
				continue
			}
			csr, err := x509.ParseCertificateRequest(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := csr.CheckSignature(); err != nil {
				t.Errorf("%s, %s: %v", algorithm, name, err)
			}
			if csr.SignatureAlgorithm != algorithmFor[algorithm] {
				t.Errorf("%s is signed with %s", algorithm, csr.SignatureAlgorithm)
			}
			if NameOf(csr.RawSubject) != subject || len(csr.URIs) != 1 || csr.URIs[0].String() != "https://ci.acme.example/release" ||
				len(csr.DNSNames) != 1 || len(csr.EmailAddresses) != 1 || len(csr.IPAddresses) != 1 {
				t.Errorf("%s says %s, %v, %v, %v, %v", algorithm, NameOf(csr.RawSubject), csr.URIs, csr.DNSNames, csr.EmailAddresses, csr.IPAddresses)
			}
			asked := map[string]bool{}
			for _, e := range csr.Extensions {
				asked[e.Id.String()] = true
				if e.Id.Equal(oidKeyUsage) && (!e.Critical || !bytes.Equal(e.Value, []byte{3, 2, 7, 0x80})) {
					t.Errorf("key usage %x, critical %v", e.Value, e.Critical)
				}
			}
			if !asked[oidKeyUsage.String()] || !asked[oidExtKeyUsage.String()] {
				t.Errorf("%s asks for %v", algorithm, asked)
			}
		}
	}
}

func TestRequestRefuses(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	for name, tt := range map[string]struct {
		r    Request
		rule string
	}{
		"no subject":        {Request{}, ruleSubject},
		"no C":              {Request{Subject: mustName(t, "ST=BE, O=Acme, CN=a")}, ruleSubject},
		"no ST":             {Request{Subject: mustName(t, "C=DE, O=Acme, CN=a")}, ruleSubject},
		"no O":              {Request{Subject: mustName(t, "C=DE, ST=BE, CN=a")}, ruleSubject},
		"C of three":        {Request{Subject: mustName(t, "C=DEU, ST=BE, O=Acme")}, ruleSubject},
		"empty name":        {Request{Subject: mustName(t, subject), SANs: []string{""}}, ruleAlternativeName},
		"name with a space": {Request{Subject: mustName(t, subject), SANs: []string{"a b.example"}}, ruleAlternativeName},
		"relative URI":      {Request{Subject: mustName(t, subject), SANs: []string{"uri:path"}}, ruleAlternativeName},
		"no address":        {Request{Subject: mustName(t, subject), SANs: []string{"email:Acme <a@b.example>"}}, ruleAlternativeName},
		"no IP address":     {Request{Subject: mustName(t, subject), SANs: []string{"ip:1.2.3"}}, ruleAlternativeName},
		"not ASCII":         {Request{Subject: mustName(t, subject), SANs: []string{"dns:bücher.example"}}, ruleAlternativeName},
	} {
		if _, err := CreateRequest(key, tt.r); ruleOf(t, err) != tt.rule {
			t.Errorf("request, %s: %v", name, err)
		}
		if _, err := SelfSign(key, tt.r, time.Now(), time.Hour); ruleOf(t, err) != tt.rule {
			t.Errorf("certificate, %s: %v", name, err)
		}
	}
	for _, algorithm := range []string{"P-224"} {
		if _, err := CreateRequest(certtest.Key(algorithm), Request{Subject: mustName(t, subject)}); ruleOf(t, err) != "leaf-key-algorithm" {
			t.Errorf("A04 %s: %v", algorithm, err)
		}
	}
	good := Request{Subject: mustName(t, subject)}
	for _, d := range []time.Duration{0, -time.Hour} {
		if _, err := SelfSign(key, good, time.Now(), d); ruleOf(t, err) != ruleValidityDuration {
			t.Errorf("valid for %s: %v", d, err)
		}
	}
	if _, err := SelfSign(key, good, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), 48*time.Hour); ruleOf(t, err) != ruleValidityDuration {
		t.Errorf("after the year 9999: %v", err)
	}
	for name, pub := range map[string]string{"ECDSA": "P-256", "a key for no signatures": "P-224"} {
		if raw, err := CreateRequest(certtest.Key(pub), Request{Subject: mustName(t, subject), PKCS1: true}); raw != nil || ruleOf(t, err) != ruleLeafKey {
			t.Errorf("PKCS #1 v1.5 by %s: %v", name, err)
		}
		if cert, err := SelfSign(certtest.Key(pub), Request{Subject: mustName(t, subject), PKCS1: true}, time.Now(), time.Hour); cert != nil || ruleOf(t, err) != ruleLeafKey {
			t.Errorf("a certificate, PKCS #1 v1.5 by %s: %v", name, err)
		}
	}
	if _, err := SelfSign(failing{key}, good, time.Now(), time.Hour); !errors.Is(err, errFailing) {
		t.Errorf("the signer's error is lost: %v", err)
	}
}

var errFailing = errors.New("the service is down")

type failing struct{ crypto.Signer }

func (failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errFailing }

func TestSelfSign(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, algorithm := range certtest.Algorithms {
		key := certtest.Key(algorithm)
		cert, err := SelfSign(messageSigner{key}, Request{Subject: mustName(t, subject), SANs: []string{"https://acme.example"}}, now, 90*24*time.Hour)
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		c := Chain{cert}
		if err := c.Check(now); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if err := corex509.ValidateCodeSigningCertChain(c, &now); err != nil {
			t.Errorf("%s: notation refuses it: %v", algorithm, err)
		}
		if err := c.Matches(key.Public()); err != nil {
			t.Error(err)
		}
		if cert.SignatureAlgorithm != algorithmFor[algorithm] || NameOf(cert.RawSubject) != subject || cert.IsCA || len(cert.URIs) != 1 {
			t.Errorf("%s: %s, %s, CA %v, %v", algorithm, cert.SignatureAlgorithm, NameOf(cert.RawSubject), cert.IsCA, cert.URIs)
		}
		if !cert.NotBefore.Before(now) || now.Sub(cert.NotBefore) > 10*time.Minute || !cert.NotAfter.Equal(now.Add(90*24*time.Hour)) {
			t.Errorf("%s: valid from %s to %s", algorithm, cert.NotBefore, cert.NotAfter)
		}
	}
}

func TestDevelop(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, algorithm := range []string{"P-256", "RSA-2048"} {
		key := certtest.Key(algorithm)
		d, err := Develop(key.Public(), now)
		if err != nil {
			t.Fatal(err)
		}
		c := d.Chain()
		if err := c.Check(now.Add(29 * 24 * time.Hour)); err != nil {
			t.Error(err)
		}
		if got := ruleOf(t, c.Check(now.Add(31*24*time.Hour))); got != "expired" {
			t.Errorf("after 31 days: rule %q", got)
		}
		if err := corex509.ValidateCodeSigningCertChain(c, &now); err != nil {
			t.Errorf("notation refuses it: %v", err)
		}
		if err := c.Matches(key.Public()); err != nil {
			t.Error(err)
		}
		for _, cert := range c {
			if !strings.Contains(cert.Subject.CommonName, "DEVELOPMENT ONLY") {
				t.Errorf("the common name is %s", cert.Subject.CommonName)
			}
			if _, rsaKey := cert.PublicKey.(*rsa.PublicKey); rsaKey && cert != d.Leaf {
				t.Error("an authority with the leaf's kind of key")
			}
		}
		again, err := Develop(key.Public(), now)
		if err != nil || again.Root.PublicKey.(*ecdsa.PublicKey).Equal(d.Root.PublicKey) {
			t.Errorf("the root's key is used again: %v", err)
		}
	}
	if _, err := Develop(certtest.Key("P-224").Public(), now); ruleOf(t, err) != "leaf-key-algorithm" {
		t.Errorf("A04 P-224: %v", err)
	}
}

// plainSigner is a key that only signs with PKCS #1 v1.5, by the one hash of its size.
type plainSigner struct {
	crypto.Signer
	hash crypto.Hash
}

func (p plainSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != crypto.SignerOpts(p.hash) {
		return nil, errors.New("asked for something else than PKCS #1 v1.5 with the key's hash")
	}
	return p.Signer.Sign(r, digest, opts)
}

func TestRequestPKCS1(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	r := Request{Subject: mustName(t, subject), SANs: []string{"uri:https://a.example"}, PKCS1: true}
	for _, c := range []struct {
		algorithm string
		hash      crypto.Hash
		want      x509.SignatureAlgorithm
	}{
		{"RSA-2048", crypto.SHA256, x509.SHA256WithRSA},
		{"RSA-3072", crypto.SHA384, x509.SHA384WithRSA},
		{"RSA-4096", crypto.SHA512, x509.SHA512WithRSA},
	} {
		key := plainSigner{certtest.Key(c.algorithm), c.hash}
		raw, err := CreateRequest(key, r)
		if err != nil {
			t.Errorf("%s: %v", c.algorithm, err)
			continue
		}
		csr, err := x509.ParseCertificateRequest(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := csr.CheckSignature(); err != nil || csr.SignatureAlgorithm != c.want {
			t.Errorf("%s: the request is signed with %s: %v", c.algorithm, csr.SignatureAlgorithm, err)
		}
		cert, err := SelfSign(key, r, now, time.Hour)
		if err != nil {
			t.Errorf("%s: %v", c.algorithm, err)
			continue
		}
		if cert.SignatureAlgorithm != c.want {
			t.Errorf("%s: the certificate is signed with %s", c.algorithm, cert.SignatureAlgorithm)
		}
		if err := corex509.ValidateCodeSigningCertChain([]*x509.Certificate{cert}, &now); err != nil {
			t.Errorf("%s: notation refuses it: %v", c.algorithm, err)
		}
	}
}

// OpenSSL accepts what we write, and reads the padding that we meant.
func TestRequestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl on PATH; TestCreateRequest and TestRequestPKCS1 have Go check the same")
	}
	for _, c := range []struct {
		algorithm string
		pkcs1     bool
		want      []string
	}{
		{"P-256", false, []string{"Signature Algorithm: ecdsa-with-SHA256"}},
		{"RSA-3072", false, []string{"Signature Algorithm: rsassaPss", "Hash Algorithm: sha384", "Salt Length: 0x30"}},
		{"RSA-2048", true, []string{"Signature Algorithm: sha256WithRSAEncryption"}},
		{"RSA-3072", true, []string{"Signature Algorithm: sha384WithRSAEncryption"}},
		{"RSA-4096", true, []string{"Signature Algorithm: sha512WithRSAEncryption"}},
	} {
		raw, err := CreateRequest(certtest.Key(c.algorithm), Request{Subject: mustName(t, subject), SANs: []string{"uri:https://a.example"}, PKCS1: c.pkcs1})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "request.pem")
		write(t, path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw}))
		out, err := exec.Command(openssl, "req", "-in", path, "-verify", "-noout", "-text").CombinedOutput()
		if err != nil {
			t.Errorf("%s, PKCS #1 v1.5 %v: %v\n%s", c.algorithm, c.pkcs1, err, out)
		}
		for _, want := range append(c.want, "Code Signing", "Digital Signature", "URI:https://a.example") {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s, PKCS #1 v1.5 %v: openssl does not say %q:\n%s", c.algorithm, c.pkcs1, want, out)
			}
		}
	}
}
