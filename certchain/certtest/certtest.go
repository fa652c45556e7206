// Package certtest makes keys and certificate hierarchies for tests and the demo. Its functions panic on what cannot happen.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// Algorithms are the six key algorithms of the Notary Project, as `key generate` spells them.
var Algorithms = []string{"P-256", "P-384", "P-521", "RSA-2048", "RSA-3072", "RSA-4096"}

// An Edit changes a certificate's template before it is signed.
type Edit func(*x509.Certificate)

// Valid sets the validity.
func Valid(from, to time.Time) Edit {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}

// Subject sets the whole subject.
func Subject(n pkix.Name) Edit { return func(c *x509.Certificate) { c.Subject = n } }

// An Authority issues certificates.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Parent      *Authority
}

// Root makes a self-signed authority, P-256, valid from a day ago for ten years.
func Root(cn string, edits ...Edit) *Authority { return RootWith(Key("P-256"), cn, edits...) }

// RootWith makes a self-signed authority of a given key.
func RootWith(key crypto.Signer, cn string, edits ...Edit) *Authority {
	t := caTemplate(cn)
	apply(t, edits)
	return &Authority{Certificate: sign(t, t, key.Public(), key), Key: key}
}

// Intermediate issues an authority under a, P-256, valid from a day ago for five years.
func (a *Authority) Intermediate(cn string, edits ...Edit) *Authority {
	return a.IntermediateWith(Key("P-256"), cn, edits...)
}

// IntermediateWith issues an authority of a given key under a: the same name and key twice is a renewal.
func (a *Authority) IntermediateWith(key crypto.Signer, cn string, edits ...Edit) *Authority {
	t := caTemplate(cn)
	t.NotAfter = time.Now().Add(5 * 365 * 24 * time.Hour)
	apply(t, edits)
	return &Authority{Certificate: sign(t, a.Certificate, key.Public(), a.Key), Key: key, Parent: a}
}

// Leaf issues a code signing certificate for pub, valid from a day ago for a year.
func (a *Authority) Leaf(pub crypto.PublicKey, cn string, edits ...Edit) *x509.Certificate {
	t := leafTemplate(cn)
	apply(t, edits)
	return sign(t, a.Certificate, pub, a.Key)
}

// SelfSigned makes a self-signed leaf: a chain of one.
func SelfSigned(key crypto.Signer, cn string, edits ...Edit) *x509.Certificate {
	t := leafTemplate(cn)
	apply(t, edits)
	return sign(t, t, key.Public(), key)
}

// Chain returns leaf followed by the certificates of a and its parents.
func (a *Authority) Chain(leaf *x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for ; a != nil; a = a.Parent {
		chain = append(chain, a.Certificate)
	}
	return chain
}

// ChainOf makes a chain of n certificates (1: a self-signed leaf) for a key of the algorithm; the authorities are P-256.
func ChainOf(n int, algorithm string, edits ...Edit) (crypto.Signer, []*x509.Certificate) {
	key := Key(algorithm)
	if n == 1 {
		return key, []*x509.Certificate{SelfSigned(key, "self-signed leaf", edits...)}
	}
	a := Root(fmt.Sprintf("root of %d", n))
	for i := 2; i < n; i++ {
		a = a.Intermediate(fmt.Sprintf("intermediate %d", i-1))
	}
	return key, a.Chain(a.Leaf(key.Public(), "leaf", edits...))
}

var cache struct {
	sync.Mutex
	rsa map[int]*rsa.PrivateKey
}

// Key makes a key. ECDSA keys are fresh; there is one RSA key of each size per process, since making them is slow.
func Key(algorithm string) crypto.Signer {
	switch algorithm {
	case "P-224":
		return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	case "P-256":
		return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "P-384":
		return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "P-521":
		return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	}
	var bits int
	if _, err := fmt.Sscanf(algorithm, "RSA-%d", &bits); err != nil {
		panic("certtest: no algorithm " + algorithm)
	}
	cache.Lock()
	defer cache.Unlock()
	if cache.rsa == nil {
		cache.rsa = map[int]*rsa.PrivateKey{}
	}
	if cache.rsa[bits] == nil {
		cache.rsa[bits] = must(rsa.GenerateKey(rand.Reader, bits))
	}
	return cache.rsa[bits]
}

// PEM encodes certificates in the order given.
func PEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// KeyPEM encodes a private key as PKCS#8.
func KeyPEM(key crypto.Signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
}

func caTemplate(cn string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               name(cn),
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(10 * 365 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

func leafTemplate(cn string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               name(cn),
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(365 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
}

// name has the attributes that stock trust policies demand of an identity: C, ST and O.
func name(cn string) pkix.Name {
	return pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme"}, CommonName: cn}
}

func apply(t *x509.Certificate, edits []Edit) {
	for _, e := range edits {
		e(t)
	}
}

func sign(t, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	if t.SerialNumber == nil {
		t.SerialNumber = must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, parent, pub, by))))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("certtest: %v", err))
	}
	return v
}
