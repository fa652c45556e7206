package certchain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"time"
)

// developmentDays is how long a development hierarchy is valid.
const developmentDays = 30

// A Development hierarchy is what `key generate --dev` writes.
type Development struct {
	Root, Intermediate, Leaf *x509.Certificate
}

// Chain returns the hierarchy as a signing chain.
func (d Development) Chain() Chain { return Chain{d.Leaf, d.Intermediate, d.Root} }

// Develop issues a development hierarchy for leaf (its public key): a root and an intermediate whose keys are thrown
// away, "DEVELOPMENT ONLY" in each common name, valid 30 days.
func Develop(leaf crypto.PublicKey, now time.Time) (Development, error) {
	if _, err := signatureAlgorithm(leaf); err != nil {
		return Development{}, err
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Development{}, err
	}
	interKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Development{}, err
	}
	var d Development
	root, err := developmentCA("root", 1, now)
	if err != nil {
		return Development{}, err
	}
	if d.Root, err = issue(root, root, rootKey.Public(), rootKey); err != nil {
		return Development{}, err
	}
	inter, err := developmentCA("intermediate", 0, now)
	if err != nil {
		return Development{}, err
	}
	if d.Intermediate, err = issue(inter, d.Root, interKey.Public(), rootKey); err != nil {
		return Development{}, err
	}
	template, err := developmentTemplate("leaf", now)
	if err != nil {
		return Development{}, err
	}
	if d.Leaf, err = issue(template, d.Intermediate, leaf, interKey); err != nil {
		return Development{}, err
	}
	return d, d.Chain().Check(now)
}

// developmentTemplate has a subject that policies can name (C, ST, O); XX is the country of nobody (ISO 3166 user-assigned).
func developmentTemplate(role string, now time.Time) (*x509.Certificate, error) {
	subject, err := ParseName("C=XX, ST=Development, O=imprint development, CN=DEVELOPMENT ONLY " + role)
	if err != nil {
		return nil, err
	}
	return leafTemplate(Request{Subject: subject}, now, developmentDays*24*time.Hour)
}

func developmentCA(role string, pathLength int, now time.Time) (*x509.Certificate, error) {
	t, err := developmentTemplate(role, now)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.MaxPathLen, t.MaxPathLenZero = true, pathLength, pathLength == 0
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	return t, nil
}
