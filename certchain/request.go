package certchain

import (
	"crypto"
	"crypto/x509"
	"time"
)

// A Request is what a certificate or a certificate request is to say of its subject.
type Request struct {
	Subject Name
	SANs    []string // "uri:https://…", "dns:name", "email:a@b"; a text without prefix is guessed from its form
}

// CreateRequest returns a DER PKCS#10 request signed by signer: a [crypto.Signer] or [crypto.MessageSigner]; PSS for RSA keys.
// It asks for the key usage digitalSignature and the extended key usage codeSigning.
func CreateRequest(signer crypto.Signer, r Request) ([]byte, error) { panic("door") }

// SelfSign returns a self-signed leaf certificate that Notary Project verifiers accept as a chain of one (not a CA), valid from (a few
// minutes before) now for the given duration.
func SelfSign(signer crypto.Signer, r Request, now time.Time, valid time.Duration) (*x509.Certificate, error) {
	panic("door")
}

// A Development hierarchy is what `key generate --dev` writes.
type Development struct {
	Root, Intermediate, Leaf *x509.Certificate
}

// Develop issues a development hierarchy for leaf (its public key): a root and an intermediate whose keys are thrown away, "DEVELOPMENT ONLY" in each common
// name, valid 30 days.
func Develop(leaf crypto.PublicKey, now time.Time) (Development, error) { panic("door") }
