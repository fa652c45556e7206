package certchain

import (
	"bytes"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // only to name what is refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

// A Certificate describes a certificate to people and in JSON.
type Certificate struct {
	Subject    string    `json:"subject"` // [NameOf], C first
	Issuer     string    `json:"issuer"`
	Serial     string    `json:"serial"` // hex
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
	Thumbprint string    `json:"sha256"`
	Key        string    `json:"key"` // as RSA-3072, EC-256
	CA         bool      `json:"ca"`
	SelfSigned bool      `json:"selfSigned"`
}

// Describe describes each certificate of the chain.
func (c Chain) Describe() []Certificate {
	d := make([]Certificate, len(c))
	for i, cert := range c {
		d[i] = Describe(cert)
	}
	return d
}

// Describe describes one certificate.
func Describe(c *x509.Certificate) Certificate {
	return Certificate{
		Subject:    NameOf(c.RawSubject),
		Issuer:     NameOf(c.RawIssuer),
		Serial:     serialOf(c.SerialNumber),
		NotBefore:  c.NotBefore.UTC(),
		NotAfter:   c.NotAfter.UTC(),
		Thumbprint: Thumbprint(c),
		Key:        keyOf(c.PublicKey),
		CA:         c.BasicConstraintsValid && c.IsCA,
		SelfSigned: selfSigned(c),
	}
}

func serialOf(n *big.Int) string {
	if n == nil {
		return ""
	}
	if len(n.Bytes()) == 0 {
		return "00"
	}
	return hex.EncodeToString(n.Bytes())
}

// keyOf names a public key, also of the kinds that imprint refuses.
func keyOf(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return fmt.Sprintf("EC-%d", pub.Curve.Params().BitSize)
	case ed25519.PublicKey:
		return "Ed25519"
	case *dsa.PublicKey:
		return "DSA"
	}
	return "unknown"
}

// selfSigned reports whether the certificate names itself as its issuer and its own key made its signature.
func selfSigned(c *x509.Certificate) bool {
	if !bytes.Equal(c.RawSubject, c.RawIssuer) {
		return false
	}
	sum := Chain{c}.sum()
	if keptSelf.has(sum) {
		return true
	}
	if !signedBy(c, c) {
		return false
	}
	keptSelf.add(sum)
	return true
}
