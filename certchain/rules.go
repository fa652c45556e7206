package certchain

import (
	"crypto/x509"
	"errors"
	"fmt"
)

var (
	// ErrKeyMismatch: the leaf certificate holds another public key.
	ErrKeyMismatch = errors.New("the leaf certificate is for another key")
	// ErrIncomplete: an issuer or the root is missing. Errors name the certificate whose issuer is missing.
	ErrIncomplete = errors.New("incomplete chain")
	// ErrNotIssuedBy: a certificate of the issuer's name is there, but its key did not sign (rule not-issued-by).
	ErrNotIssuedBy = errors.New("not issued by the certificate of that name")
)

// A RuleError says which rule a certificate breaks. It wraps [ErrKeyMismatch], [ErrIncomplete] or [ErrNotIssuedBy] if the rule
// is key-mismatch, incomplete or not-issued-by.
type RuleError struct {
	Rule        string            // stable name, as `leaf-key-usage`, `expired`, `unrelated`, `duplicate`; listed by Reasons
	Certificate *x509.Certificate // nil if the rule is about the chain as a whole
	Why         string
}

func (e *RuleError) Error() string {
	if e.Certificate == nil {
		return fmt.Sprintf("%s (%s)", e.Why, e.Rule)
	}
	return fmt.Sprintf("certificate %s: %s (%s)", label(e.Certificate), e.Why, e.Rule)
}

// Reason returns the rule's name.
func (e *RuleError) Reason() string { return e.Rule }

func (e *RuleError) Unwrap() error {
	switch e.Rule {
	case ruleKeyMismatch:
		return ErrKeyMismatch
	case ruleIncomplete:
		return ErrIncomplete
	case ruleNotIssuedBy:
		return ErrNotIssuedBy
	}
	return nil
}

// label names a certificate by its subject and, since names repeat, by the beginning of its thumbprint.
func label(c *x509.Certificate) string {
	name := NameOf(c.RawSubject)
	if name == "" {
		name = "without a name"
	}
	return fmt.Sprintf("%s [%s]", name, Thumbprint(c)[:12])
}

func ruleError(rule string, c *x509.Certificate, why string, args ...any) error {
	return &RuleError{Rule: rule, Certificate: c, Why: fmt.Sprintf(why, args...)}
}

// The rules. Their names are part of the command line's promises: they never change.
const (
	ruleFileSize         = "file-too-large"
	ruleCertificateSize  = "certificate-too-large"
	ruleCount            = "too-many-certificates"
	ruleEmpty            = "no-certificates"
	ruleMalformed        = "malformed-certificates"
	rulePrivateKey       = "private-key"
	ruleBlock            = "unexpected-block"
	rulePKCS7            = "malformed-pkcs7"
	ruleKeyMismatch      = "key-mismatch"
	ruleIncomplete       = "incomplete"
	ruleNotIssuedBy      = "not-issued-by"
	ruleOrder            = "order"
	ruleUnrelated        = "unrelated"
	ruleDuplicate        = "duplicate"
	ruleLoop             = "loop"
	ruleComplex          = "too-complex"
	ruleRootInside       = "self-signed-inside"
	ruleExpired          = "expired"
	ruleNotYet           = "not-yet-valid"
	ruleSignature        = "signature-algorithm"
	ruleSerial           = "serial-number"
	ruleCritical         = "critical-extension"
	ruleLeafKey          = "leaf-key-algorithm"
	ruleLeafBasic        = "leaf-basic-constraints"
	ruleLeafUsage        = "leaf-key-usage"
	ruleLeafExtUsage     = "leaf-extended-key-usage"
	ruleCAKey            = "ca-key-algorithm"
	ruleCABasic          = "ca-basic-constraints"
	ruleCAUsage          = "ca-key-usage"
	ruleCAExtUsage       = "ca-extended-key-usage"
	rulePathLength       = "path-length"
	ruleNameConstraints  = "name-constraints"
	rulePathValidation   = "path-validation"
	ruleName             = "malformed-name"
	ruleNameDuplicate    = "duplicate-attribute"
	ruleSubject          = "incomplete-subject"
	ruleAlternativeName  = "alternative-name"
	ruleValidityDuration = "validity-duration"
)

// Reasons returns the rule names of this package with one sentence each, for the documentation.
func Reasons() map[string]string {
	return map[string]string{
		ruleFileSize:         "A file of certificates is larger than 1 MiB.",
		ruleCertificateSize:  "A certificate is larger than 64 KiB.",
		ruleCount:            "There are more than 16 certificates in a file or a chain.",
		ruleEmpty:            "There is no certificate.",
		ruleMalformed:        "A certificate, or the file that holds it, cannot be parsed, or bytes follow it.",
		rulePrivateKey:       "A file of certificates holds a private key, which belongs in a file of its own.",
		ruleBlock:            "A file of certificates holds a PEM block that is no certificate.",
		rulePKCS7:            "A PKCS#7 structure is malformed or holds more than certificates.",
		ruleKeyMismatch:      "The leaf certificate is for another key.",
		ruleIncomplete:       "The issuer of a certificate is missing; the chain must end with a self-signed root, included.",
		ruleNotIssuedBy:      "A certificate of the issuer's name is there, but its key did not sign.",
		ruleOrder:            "The certificates are not in order, leaf first and each followed by its issuer.",
		ruleUnrelated:        "A certificate does not belong to the chain.",
		ruleDuplicate:        "A certificate is there twice.",
		ruleLoop:             "Certificates issue one another in a circle and no root is reached.",
		ruleComplex:          "The certificates cross-sign one another in so many ways that no chain was looked for any further.",
		ruleRootInside:       "A self-signed certificate stands before the end of the chain.",
		ruleExpired:          "A certificate is past its end.",
		ruleNotYet:           "A certificate is not valid yet.",
		ruleSignature:        "A certificate is signed with SHA-1, MD5, DSA or an unknown algorithm.",
		ruleSerial:           "A certificate's serial number is not positive.",
		ruleCritical:         "A certificate has a critical extension that is not understood.",
		ruleLeafKey:          "The leaf's key is none of RSA 2048, 3072, 4096 and ECDSA P-256, P-384, P-521.",
		ruleLeafBasic:        "The leaf is a certificate authority.",
		ruleLeafUsage:        "The leaf's key usage is missing, not critical, without digitalSignature, or with more than that and contentCommitment.",
		ruleLeafExtUsage:     "The leaf's extended key usage allows what a signing certificate must not do, or anything.",
		ruleCAKey:            "A certificate authority's key is too small, absurdly large or of an unknown kind.",
		ruleCABasic:          "An issuer is not a certificate authority, or its basic constraints are not critical.",
		ruleCAUsage:          "An issuer's key usage is missing, not critical, or without keyCertSign.",
		ruleCAExtUsage:       "An issuer's extended key usage does not allow code signing.",
		rulePathLength:       "More certificates follow an issuer than its path length allows.",
		ruleNameConstraints:  "A name in a certificate is outside what an issuer's name constraints allow.",
		rulePathValidation:   "The chain does not pass the path validation of RFC 5280.",
		ruleName:             "A distinguished name is not written as RFC 4514 says.",
		ruleNameDuplicate:    "A distinguished name has an attribute twice that it can have once.",
		ruleSubject:          "The subject lacks C, ST or O, without which trust policies of the Notary Project cannot name it.",
		ruleAlternativeName:  "A subject alternative name is neither a URI, a DNS name, an e-mail address nor an IP address.",
		ruleValidityDuration: "The validity asked for is not positive or ends after the year 9999.",
	}
}
