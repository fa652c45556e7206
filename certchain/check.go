package certchain

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"time"
)

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// Check applies the Notary Project's certificate rules (signature specification, "Certificate requirements")
// with imprint's stricter ones (no anyExtendedKeyUsage, exact key sizes, no SHA-1, name constraints,
// path length) and, unless at is zero, that every certificate is valid at that time. The error is a *RuleError or
// wraps ErrIncomplete or ErrNotIssuedBy.
func (c Chain) Check(at time.Time) error {
	if err := c.checkShape(); err != nil {
		return err
	}
	sum := c.sum()
	known := keptRules.has(sum)
	if !known {
		for _, check := range []func() error{c.checkAlgorithms, c.checkLinks, c.checkPurposes} {
			if err := check(); err != nil {
				return err
			}
		}
	}
	if !at.IsZero() {
		if err := c.checkValidity(at); err != nil {
			return err
		}
	}
	if known {
		return nil
	}
	if err := c.checkPath(); err != nil {
		return err
	}
	keptRules.add(sum)
	return nil
}

// checkShape is about the list, not yet about what is in it.
func (c Chain) checkShape() error {
	switch {
	case len(c) == 0:
		return ruleError(ruleEmpty, nil, "the chain is empty")
	case slices.Contains(c, nil):
		return ruleError(ruleMalformed, nil, "the chain holds a nil certificate")
	case len(c) > MaxCertificates:
		return ruleError(ruleCount, nil, "the chain has %d certificates, at most %d are allowed", len(c), MaxCertificates)
	}
	return duplicate(c)
}

// duplicate names the first certificate that is there twice.
func duplicate(certs []*x509.Certificate) error {
	seen := make(map[string]bool, len(certs))
	for _, cert := range certs {
		if seen[string(cert.Raw)] {
			return ruleError(ruleDuplicate, cert, "it is there twice")
		}
		seen[string(cert.Raw)] = true
	}
	return nil
}

// checkAlgorithms comes before the signatures: what Go cannot verify has to be named, not called wrongly signed.
func (c Chain) checkAlgorithms() error {
	for i, cert := range c {
		if i == 0 && !isSigningKey(cert.PublicKey) {
			return ruleError(ruleLeafKey, cert, "its key is %s: it must be RSA 2048, 3072, 4096 with an odd exponent of at least 65537, "+
				"or ECDSA P-256, P-384, P-521", keyOf(cert.PublicKey))
		}
		if i > 0 && !isIssuingKey(cert.PublicKey) {
			return ruleError(ruleCAKey, cert, "its key is %s: an issuer's must be RSA of 2048 to 16384 bits, ECDSA P-256, P-384, P-521 or Ed25519",
				keyOf(cert.PublicKey))
		}
		if !isStrong(cert.SignatureAlgorithm) {
			return ruleError(ruleSignature, cert, "it is signed with %s: SHA-256 or better is needed", cert.SignatureAlgorithm)
		}
		if cert.SerialNumber == nil || cert.SerialNumber.Sign() <= 0 {
			return ruleError(ruleSerial, cert, "its serial number is not positive")
		}
	}
	return nil
}

// isSigningKey reports whether a leaf may have the key. The sizes are exact: notation rounds an RSA modulus up to whole bytes.
func isSigningKey(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		n := pub.N.BitLen()
		return (n == 2048 || n == 3072 || n == 4096) && pub.N.Bit(0) == 1 && pub.E >= 65537 && pub.E%2 == 1
	case *ecdsa.PublicKey:
		return isCurve(pub.Curve)
	}
	return false
}

func isIssuingKey(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return pub.N.BitLen() >= 2048 && !isHuge(pub) && pub.N.Bit(0) == 1 && pub.E >= 3 && pub.E%2 == 1
	case *ecdsa.PublicKey:
		return isCurve(pub.Curve)
	case ed25519.PublicKey:
		return true
	}
	return false
}

// maxRSA bounds the modulus that is calculated with: a certificate of 64 KiB has room for one that takes seconds.
const maxRSA = 16384

func isHuge(pub crypto.PublicKey) bool {
	k, ok := pub.(*rsa.PublicKey)
	return ok && k.N.BitLen() > maxRSA
}

func isCurve(c elliptic.Curve) bool {
	return c == elliptic.P256() || c == elliptic.P384() || c == elliptic.P521()
}

func isStrong(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return true
	}
	return false
}

// checkLinks: each certificate is issued by the next, the last by itself, no other by itself.
func (c Chain) checkLinks() error {
	for i, cert := range c {
		last := i == len(c)-1
		switch {
		case last && selfSigned(cert):
		case last && bytes.Equal(cert.RawSubject, cert.RawIssuer):
			return ruleError(ruleNotIssuedBy, cert, "it names itself as its issuer, but another key signed it")
		case last:
			return incomplete(cert)
		case selfSigned(cert):
			return ruleError(ruleRootInside, cert, "it is self-signed, so the chain ends with it, but %d more certificates follow", len(c)-1-i)
		case !bytes.Equal(cert.RawIssuer, c[i+1].RawSubject):
			if slices.ContainsFunc(c, func(o *x509.Certificate) bool { return bytes.Equal(cert.RawIssuer, o.RawSubject) }) {
				return ruleError(ruleOrder, cert, "it is not followed by its issuer %s", NameOf(cert.RawIssuer))
			}
			return incomplete(cert)
		case !signedBy(cert, c[i+1]):
			return notIssuedBy(cert, c[i+1])
		}
	}
	return nil
}

func incomplete(c *x509.Certificate) error {
	return ruleError(ruleIncomplete, c, "its issuer %s is missing", NameOf(c.RawIssuer))
}

func notIssuedBy(c, issuer *x509.Certificate) error {
	return ruleError(ruleNotIssuedBy, c, "the certificate of its issuer's name, %s, is there, but another key of that name signed it", label(issuer))
}

// signedBy reports whether issuer's key made the signature on c, looking at neither names nor extensions. A signature by an
// algorithm that is not verified counts as made: checkAlgorithms refuses it under the right name.
func signedBy(c, issuer *x509.Certificate) bool {
	if isHuge(issuer.PublicKey) {
		return true
	}
	err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure) || errors.Is(err, x509.ErrUnsupportedAlgorithm)
}

func (c Chain) checkPurposes() error {
	for i, cert := range c {
		if len(cert.UnhandledCriticalExtensions) > 0 {
			return ruleError(ruleCritical, cert, "its critical extension %s is not understood", cert.UnhandledCriticalExtensions[0])
		}
		var err error
		if i == 0 {
			err = checkLeaf(cert)
		} else {
			err = checkIssuer(cert, i-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func checkLeaf(cert *x509.Certificate) error {
	if err := checkLeafBasics(cert); err != nil {
		return err
	}
	for _, usage := range cert.ExtKeyUsage {
		if usage == x509.ExtKeyUsageAny {
			return ruleError(ruleLeafExtUsage, cert, "its extended key usage allows anything (anyExtendedKeyUsage)")
		}
	}
	return nil
}

// checkLeafBasics are the rules for leaves that imprint shares with stock verifiers, but for the key.
func checkLeafBasics(cert *x509.Certificate) error {
	if cert.BasicConstraintsValid && cert.IsCA {
		return ruleError(ruleLeafBasic, cert, "it is a certificate authority: a leaf must not be one")
	}
	if why := keyUsageFault(cert); why != "" {
		return ruleError(ruleLeafUsage, cert, "its key usage %s", why)
	}
	if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return ruleError(ruleLeafUsage, cert, "its key usage lacks digitalSignature")
	}
	var extra []string
	for _, u := range leafForbidden {
		if cert.KeyUsage&u.bit != 0 {
			extra = append(extra, u.name)
		}
	}
	if len(extra) > 0 {
		return ruleError(ruleLeafUsage, cert, "its key usage must not have %s", strings.Join(extra, ", "))
	}
	for _, usage := range cert.ExtKeyUsage {
		if name, ok := leafExtForbidden[usage]; ok {
			return ruleError(ruleLeafExtUsage, cert, "its extended key usage must not have %s", name)
		}
	}
	return nil
}

// leafForbidden are the key usages that the specification denies a leaf. contentCommitment is not among them.
var leafForbidden = []struct {
	bit  x509.KeyUsage
	name string
}{
	{x509.KeyUsageKeyEncipherment, "keyEncipherment"},
	{x509.KeyUsageDataEncipherment, "dataEncipherment"},
	{x509.KeyUsageKeyAgreement, "keyAgreement"},
	{x509.KeyUsageCertSign, "keyCertSign"},
	{x509.KeyUsageCRLSign, "cRLSign"},
	{x509.KeyUsageEncipherOnly, "encipherOnly"},
	{x509.KeyUsageDecipherOnly, "decipherOnly"},
}

var leafExtForbidden = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageServerAuth:      "serverAuth",
	x509.ExtKeyUsageClientAuth:      "clientAuth",
	x509.ExtKeyUsageEmailProtection: "emailProtection",
	x509.ExtKeyUsageTimeStamping:    "timeStamping",
	x509.ExtKeyUsageOCSPSigning:     "OCSPSigning",
}

// keyUsageFault says what is wrong with the key usage extension as such, or nothing.
func keyUsageFault(cert *x509.Certificate) string {
	switch present, critical := extension(cert, oidKeyUsage); {
	case !present:
		return "is missing"
	case !critical:
		return "is not marked critical"
	}
	return ""
}

func extension(cert *x509.Certificate, id asn1.ObjectIdentifier) (present, critical bool) {
	for _, e := range cert.Extensions {
		if e.Id.Equal(id) {
			return true, e.Critical
		}
	}
	return false, false
}

// checkIssuer checks a certificate that has issued the one before it, with below further issuers between it and the leaf.
func checkIssuer(cert *x509.Certificate, below int) error {
	if err := checkIssuerBasics(cert, below); err != nil {
		return err
	}
	if _, critical := extension(cert, oidBasicConstraints); !critical {
		return ruleError(ruleCABasic, cert, "its basic constraints are not marked critical")
	}
	if present, _ := extension(cert, oidExtKeyUsage); !present {
		return nil
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return ruleError(ruleCAExtUsage, cert, "its extended key usage does not allow code signing")
	}
	return nil
}

// checkIssuerBasics are the rules for issuers that imprint shares with stock verifiers.
func checkIssuerBasics(cert *x509.Certificate, below int) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return ruleError(ruleCABasic, cert, "it has issued a certificate, but is no certificate authority")
	}
	limited := cert.MaxPathLen > 0 || cert.MaxPathLen == 0 && cert.MaxPathLenZero
	if limited && cert.MaxPathLen < below {
		return ruleError(rulePathLength, cert, "its path length is %d, but %d issuers stand below it", cert.MaxPathLen, below)
	}
	if why := keyUsageFault(cert); why != "" {
		return ruleError(ruleCAUsage, cert, "its key usage %s", why)
	}
	if cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return ruleError(ruleCAUsage, cert, "its key usage lacks keyCertSign")
	}
	return nil
}

func (c Chain) checkValidity(at time.Time) error {
	for _, cert := range c {
		switch {
		case at.After(cert.NotAfter):
			return ruleError(ruleExpired, cert, "it ended at %s", cert.NotAfter.UTC().Format(time.RFC3339))
		case at.Before(cert.NotBefore):
			return ruleError(ruleNotYet, cert, "it is not valid before %s", cert.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// checkPath has Go validate the path for what is left: name constraints and policies. Times were judged already and may
// not overlap, so copies of the certificates are valid at the one moment asked for.
func (c Chain) checkPath() error {
	if len(c) == 1 {
		return nil
	}
	at := time.Unix(1_000_000_000, 0)
	always := func(cert *x509.Certificate) *x509.Certificate {
		valid := *cert
		valid.NotBefore, valid.NotAfter = at, at
		return &valid
	}
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(always(c.Root()))
	for _, cert := range c[1 : len(c)-1] {
		inter.AddCert(always(cert))
	}
	_, err := always(c.Leaf()).Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: inter, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid) && (invalid.Reason == x509.CANotAuthorizedForThisName || invalid.Reason == x509.TooManyConstraints):
		return ruleError(ruleNameConstraints, c.Leaf(), "%s", plain(err))
	}
	return ruleError(rulePathValidation, c.Leaf(), "%s", plain(err))
}

func plain(err error) string { return strings.TrimPrefix(err.Error(), "x509: ") }
