// Package certchain parses, orders, checks and describes X.509 signing chains.
package certchain

import (
	"crypto"
	"crypto/x509"
	"errors"
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

var (
	// ErrKeyMismatch: the leaf certificate holds another public key.
	ErrKeyMismatch = errors.New("the leaf certificate is for another key")
	// ErrIncomplete: an issuer or the root is missing. Errors name the certificate whose issuer is missing.
	ErrIncomplete = errors.New("incomplete chain")
	// ErrNotIssuedBy: a certificate of the issuer's name is there, but its key did not sign (rule not-issued-by).
	ErrNotIssuedBy = errors.New("not issued by the certificate of that name")
)

// A RuleError says which rule a certificate breaks.
type RuleError struct {
	Rule        string            // stable name, as `leaf-key-usage`, `expired`, `unrelated`, `duplicate`; listed by Reasons
	Certificate *x509.Certificate // nil if the rule is about the chain as a whole
	Why         string
}

func (e *RuleError) Error() string  { panic("door") }
func (e *RuleError) Reason() string { return e.Rule }

// Reasons returns the rule names of this package with one sentence each, for the documentation.
func Reasons() map[string]string { panic("door") }

// Parse reads certificates in any order from PEM (text between the blocks, CRLF and a BOM are fine; blocks other than
// certificates are an error that names them, a private key above all), DER (one or several, concatenated) or PKCS#7 (PEM or
// DER, certificates only).
func Parse(b []byte) ([]*x509.Certificate, error) { panic("door") }

// Order puts certs in order, leaf first. Every certificate must be used exactly once: a missing, unrelated or duplicated one is an error
// that names it. The last must be self-signed.
func Order(certs []*x509.Certificate) (Chain, error) { panic("door") }

// Build finds in pool a chain for a leaf that holds pub: leaf candidates are all certificates of pool with that public key. What does not
// belong is left out. Of several chains that pass [Chain.Check] at the time at, the one that holds longest, ties broken by bytes; if none passes,
// the error of the best one. The result does not depend on the order of pool.
func Build(pub crypto.PublicKey, pool []*x509.Certificate, at time.Time) (Chain, error) {
	panic("door")
}

// Check applies the Notary Project's certificate rules (signature specification, "Certificate requirements"; INTEROP.md 3e) with imprint's
// stricter ones (no anyExtendedKeyUsage, exact key sizes, no SHA-1, name constraints, path length) and, unless at is zero, that every certificate is valid at
// that time. The error is a *RuleError or wraps ErrIncomplete or ErrNotIssuedBy.
func (c Chain) Check(at time.Time) error { panic("door") }

// CheckStock applies exactly the rules that stock verifiers apply at verification (no validity, no rule of imprint's own), so that
// what others signed is judged as they judge it.
func (c Chain) CheckStock() error { panic("door") }

// Matches reports (as ErrKeyMismatch) whether the leaf holds pub.
func (c Chain) Matches(pub crypto.PublicKey) error { panic("door") }

// Leaf and Root return the ends of a chain that is not empty.
func (c Chain) Leaf() *x509.Certificate { return c[0] }
func (c Chain) Root() *x509.Certificate { return c[len(c)-1] }

// HoldsUntil returns the certificate that ends first and its NotAfter: the last second at which the whole chain is valid.
func (c Chain) HoldsUntil() (first *x509.Certificate, until time.Time) { panic("door") }

// HoldsFrom returns the latest NotBefore.
func (c Chain) HoldsFrom() time.Time { panic("door") }

// Equal reports whether both chains are byte-equal.
func (c Chain) Equal(o Chain) bool { panic("door") }

// PEM encodes the chain, leaf first.
func (c Chain) PEM() []byte { panic("door") }

// Thumbprint returns the lower-case hex SHA-256 of a certificate's DER.
func Thumbprint(c *x509.Certificate) string { panic("door") }

// Thumbprints returns those of the whole chain, leaf first: the value of io.cncf.notary.x509chain.thumbprint#S256 once encoded as JSON.
func (c Chain) Thumbprints() []string { panic("door") }

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
func (c Chain) Describe() []Certificate { panic("door") }

// Describe describes one certificate.
func Describe(c *x509.Certificate) Certificate { panic("door") }
