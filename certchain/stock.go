package certchain

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"slices"
)

// CheckStock applies exactly the rules that stock verifiers apply at verification (no validity, no rule of imprint's
// own), so that what others signed is judged as they judge it. The rules are those of notation-core-go, its oddities
// included: it rounds RSA sizes up to bytes, and takes SHA-1 in a chain of one. The one exception is an RSA key of
// more than 16384 bits, which is refused before it is calculated with.
func (c Chain) CheckStock() error {
	if len(c) == 0 {
		return ruleError(ruleEmpty, nil, "the chain is empty")
	}
	if slices.Contains(c, nil) {
		return ruleError(ruleMalformed, nil, "the chain holds a nil certificate")
	}
	sum := c.sum()
	if keptStock.has(sum) {
		return nil
	}
	if err := c.checkStock(); err != nil {
		return err
	}
	keptStock.add(sum)
	return nil
}

func (c Chain) checkStock() error {
	for _, cert := range c {
		if isHuge(cert.PublicKey) {
			return ruleError(ruleCAKey, cert, "its key is %s: at most %d bits are calculated with", keyOf(cert.PublicKey), maxRSA)
		}
	}
	if len(c) == 1 {
		return checkStockSingle(c.Leaf())
	}
	for i, cert := range c {
		if err := c.checkStockLink(i); err != nil {
			return err
		}
		var err error
		if i == 0 {
			err = checkStockLeaf(cert)
		} else {
			err = checkIssuerBasics(cert, i-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkStockSingle judges a chain of one. Unlike in longer chains, its signature is checked without its extensions.
func checkStockSingle(cert *x509.Certificate) error {
	if !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		return incomplete(cert)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return ruleError(ruleNotIssuedBy, cert, "it names itself as its issuer, but its own key does not verify its signature: %s", plain(err))
	}
	return checkStockLeaf(cert)
}

func checkStockLeaf(cert *x509.Certificate) error {
	if err := checkLeafBasics(cert); err != nil {
		return err
	}
	bits := 0
	switch pub := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		bits = pub.Size() * 8
		if bits == 2048 || bits == 3072 || bits == 4096 {
			return nil
		}
	case *ecdsa.PublicKey:
		bits = pub.Curve.Params().BitSize
		if bits == 256 || bits == 384 || bits == 521 {
			return nil
		}
	}
	return ruleError(ruleLeafKey, cert, "its key is %s: it must be RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521", keyOf(cert.PublicKey))
}

// checkStockLink checks how certificate i of a chain of several is issued.
func (c Chain) checkStockLink(i int) error {
	cert := c[i]
	self := stockIssuedBy(cert, cert)
	if i == len(c)-1 {
		if self == nil {
			return nil
		}
		if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			return ruleError(ruleNotIssuedBy, cert, "it is no valid self-signed root: %s", plain(self))
		}
		return incomplete(cert)
	}
	if self == nil {
		return ruleError(ruleRootInside, cert, "it is self-signed, so the chain ends with it, but %d more certificates follow", len(c)-1-i)
	}
	next := c[i+1]
	if err := stockIssuedBy(cert, next); err != nil {
		if bytes.Equal(cert.RawIssuer, next.RawSubject) {
			return ruleError(ruleNotIssuedBy, cert, "it is not issued by the next certificate, %s: %s", label(next), plain(err))
		}
		if slices.ContainsFunc(c, func(o *x509.Certificate) bool { return bytes.Equal(cert.RawIssuer, o.RawSubject) }) {
			return ruleError(ruleOrder, cert, "it is not followed by its issuer %s", NameOf(cert.RawIssuer))
		}
		return incomplete(cert)
	}
	return nil
}

// errName stands for two names that differ.
var errName = x509.CertificateInvalidError{Reason: x509.NameMismatch}

func stockIssuedBy(cert, issuer *x509.Certificate) error {
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return err
	}
	if !bytes.Equal(issuer.RawSubject, cert.RawIssuer) {
		return errName
	}
	return nil
}
