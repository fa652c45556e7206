// Package certchain parses, orders, checks and describes X.509 signing chains.
//
// A chain is complete: the leaf first, every issuer after what it issued, the self-signed root last, nothing else.
// [Parse] reads certificates, [Order] and [Build] make a chain of them, [Chain.Check] applies the rules. Every
// refusal is a [*RuleError] with a stable name. Nothing here reads a clock, a file or a network.
package certchain

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"time"
)

// A Chain is a signing chain: leaf first, self-signed root last.
type Chain []*x509.Certificate

// Limits on what is read.
const (
	MaxBytes        = 1 << 20  // of a file of certificates
	MaxCertificates = 16       // in a file and in a chain
	MaxCertificate  = 64 << 10 // bytes of one certificate, DER
)

// Matches returns an error that wraps [ErrKeyMismatch] unless the leaf is for pub.
func (c Chain) Matches(pub crypto.PublicKey) error {
	if len(c) == 0 {
		return ruleError(ruleEmpty, nil, "the chain is empty")
	}
	if !holds(c.Leaf(), pub) {
		return ruleError(ruleKeyMismatch, c.Leaf(), "it is for another key than the one that signs")
	}
	return nil
}

// holds reports whether the certificate is for pub. A key that Go cannot read equals none.
func holds(c *x509.Certificate, pub crypto.PublicKey) bool {
	k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub != nil && k.Equal(pub)
}

// Leaf returns the signing certificate of a chain that is not empty.
func (c Chain) Leaf() *x509.Certificate { return c[0] }

// Root returns the last certificate of a chain that is not empty.
func (c Chain) Root() *x509.Certificate { return c[len(c)-1] }

// HoldsUntil returns the certificate that ends first and its NotAfter: the last second at which the whole chain is valid.
// Of several it is the one nearest to the leaf. An empty chain has none.
func (c Chain) HoldsUntil() (first *x509.Certificate, until time.Time) {
	for _, cert := range c {
		if first == nil || cert.NotAfter.Before(until) {
			first, until = cert, cert.NotAfter
		}
	}
	return first, until
}

// HoldsFrom returns the latest NotBefore: the first second at which the whole chain is valid, if it ever is. An empty
// chain has none.
func (c Chain) HoldsFrom() time.Time {
	var from time.Time
	for i, cert := range c {
		if i == 0 || cert.NotBefore.After(from) {
			from = cert.NotBefore
		}
	}
	return from
}

// Equal reports whether both chains are byte-equal.
func (c Chain) Equal(o Chain) bool {
	return slices.EqualFunc(c, o, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) })
}

// PEM encodes the chain, leaf first.
func (c Chain) PEM() []byte {
	var b bytes.Buffer
	for _, cert := range c {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return b.Bytes()
}

// Thumbprint returns the lower-case hex SHA-256 of a certificate's DER.
func Thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Thumbprints returns those of the whole chain, leaf first: the value of io.cncf.notary.x509chain.thumbprint#S256
// once encoded as JSON.
func (c Chain) Thumbprints() []string {
	t := make([]string, len(c))
	for i, cert := range c {
		t[i] = Thumbprint(cert)
	}
	return t
}
