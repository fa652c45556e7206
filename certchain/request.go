package certchain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// skew is how far before now a new certificate starts to be valid, for machines whose clocks are behind.
const skew = 5 * time.Minute

// A Request is what a certificate or a certificate request is to say of its subject.
type Request struct {
	Subject Name
	SANs    []string // "uri:https://…", "dns:name", "email:a@b", "ip:192.0.2.1"; a text without prefix is guessed from its form
	// PKCS1 has an RSA key sign with PKCS #1 v1.5 instead of PSS, by the same hash: many authorities read no PSS in requests. It is
	// for keys that can (kms.Describe), and says nothing of what the key signs afterwards.
	PKCS1 bool
}

// CreateRequest returns a DER PKCS#10 request signed by signer: a [crypto.Signer] or [crypto.MessageSigner]. An RSA key signs with
// PSS, opts being *rsa.PSSOptions with the salt as long as the hash; with [Request].PKCS1 opts is the hash alone.
// It asks for the key usage digitalSignature and the extended key usage codeSigning.
func CreateRequest(signer crypto.Signer, r Request) ([]byte, error) {
	algorithm, err := r.signatureAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	names, err := parseSANs(r.SANs)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject:         r.Subject.DER(),
		SignatureAlgorithm: algorithm,
		DNSNames:           names.DNSNames,
		EmailAddresses:     names.EmailAddresses,
		IPAddresses:        names.IPAddresses,
		URIs:               names.URIs,
		ExtraExtensions: []pkix.Extension{
			{Id: oidKeyUsage, Critical: true, Value: []byte{0x03, 0x02, 0x07, 0x80}}, // BIT STRING, bit 0: digitalSignature
			{Id: oidExtKeyUsage, Value: codeSigningUsage()},
		},
	}, signer)
}

func codeSigningUsage() []byte {
	der, _ := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 3}})
	return der
}

// SelfSign returns a self-signed leaf certificate that Notary Project verifiers accept as a chain of one (not a CA),
// valid from (a few minutes before) now for the given duration. It is signed as a request is ([CreateRequest]).
func SelfSign(signer crypto.Signer, r Request, now time.Time, valid time.Duration) (*x509.Certificate, error) {
	algorithm, err := r.signatureAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	t, err := leafTemplate(r, now, valid)
	if err != nil {
		return nil, err
	}
	t.SignatureAlgorithm = algorithm
	cert, err := issue(t, t, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	return cert, Chain{cert}.Check(now)
}

// signatureAlgorithm returns how the key signs the request.
func (r Request) signatureAlgorithm(pub crypto.PublicKey) (x509.SignatureAlgorithm, error) {
	own, err := signatureAlgorithm(pub)
	if err != nil || !r.PKCS1 {
		return own, err
	}
	switch own {
	case x509.SHA256WithRSAPSS:
		return x509.SHA256WithRSA, nil
	case x509.SHA384WithRSAPSS:
		return x509.SHA384WithRSA, nil
	case x509.SHA512WithRSAPSS:
		return x509.SHA512WithRSA, nil
	}
	return 0, ruleError(ruleLeafKey, nil, "the key is %s: PKCS #1 v1.5 is for RSA keys", keyOf(pub))
}

// signatureAlgorithm returns how the key signs certificates: as it signs everything else, RSA with PSS and a salt as
// long as the hash.
func signatureAlgorithm(pub crypto.PublicKey) (x509.SignatureAlgorithm, error) {
	if !isSigningKey(pub) {
		return 0, ruleError(ruleLeafKey, nil, "the key is %s: it must be RSA 2048, 3072, 4096 "+
			"with an odd exponent of at least 65537, or ECDSA P-256, P-384, P-521", keyOf(pub))
	}
	bits := 0
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		bits = pub.N.BitLen()
	case *ecdsa.PublicKey:
		bits = pub.Curve.Params().BitSize
	}
	return map[int]x509.SignatureAlgorithm{
		2048: x509.SHA256WithRSAPSS, 3072: x509.SHA384WithRSAPSS, 4096: x509.SHA512WithRSAPSS,
		256: x509.ECDSAWithSHA256, 384: x509.ECDSAWithSHA384, 521: x509.ECDSAWithSHA512,
	}[bits], nil
}

// Check reports what breaks a rule of the request itself, whichever key is to sign it.
func (r Request) Check() error {
	if err := r.check(); err != nil {
		return err
	}
	_, err := parseSANs(r.SANs)
	return err
}

// check requires C, ST and O: trust policies of the Notary Project name an identity by these three at least.
func (r Request) check() error {
	for _, oid := range []string{oidCountry, oidProvince, oidOrganization} {
		found := false
		for _, a := range r.Subject.attributes() {
			found = found || a.oid == oid
			if a.oid == oidCountry && (!a.isText || len(a.text) != 2 || !isPrintable(a.text)) {
				return ruleError(ruleSubject, nil, "the subject's C must be a country code of two letters, as DE")
			}
		}
		if !found {
			return ruleError(ruleSubject, nil, "the subject lacks %s: C, ST and O are needed, as in C=DE, ST=BE, O=Acme, CN=release", typeName(oid))
		}
	}
	return nil
}

// leafTemplate is a signing certificate that is no CA.
func leafTemplate(r Request, now time.Time, valid time.Duration) (*x509.Certificate, error) {
	names, err := parseSANs(r.SANs)
	if err != nil {
		return nil, err
	}
	from := now.UTC().Add(-skew).Truncate(time.Second)
	until := now.UTC().Add(valid).Truncate(time.Second)
	if valid <= 0 || until.Year() > 9999 {
		return nil, ruleError(ruleValidityDuration, nil, "a validity of %s from now is not possible", valid)
	}
	return &x509.Certificate{
		RawSubject:            r.Subject.DER(),
		SerialNumber:          newSerial(),
		NotBefore:             from,
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
		DNSNames:              names.DNSNames,
		EmailAddresses:        names.EmailAddresses,
		IPAddresses:           names.IPAddresses,
		URIs:                  names.URIs,
	}, nil
}

// newSerial returns a random positive number of at most 127 bits, well within RFC 5280's 20 bytes.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

func issue(template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// alternativeNames are parsed subject alternative names.
type alternativeNames struct {
	DNSNames       []string
	EmailAddresses []string
	IPAddresses    []net.IP
	URIs           []*url.URL
}

var dnsName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)
})

func parseSANs(texts []string) (alternativeNames, error) {
	var names alternativeNames
	for _, text := range texts {
		kind, value := kindOfSAN(text)
		bad := ruleError(ruleAlternativeName, nil, "%q is no %s", shorten(text), kind)
		if !isASCII(value) || strings.ContainsAny(value, " \t\r\n\x00") {
			return names, bad
		}
		switch kind {
		case "URI":
			u, err := url.Parse(value)
			if err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" {
				return names, bad
			}
			names.URIs = append(names.URIs, u)
		case "e-mail address":
			a, err := mail.ParseAddress(value)
			if err != nil || a.Address != value {
				return names, bad
			}
			names.EmailAddresses = append(names.EmailAddresses, value)
		case "IP address":
			ip := net.ParseIP(value)
			if ip == nil {
				return names, bad
			}
			names.IPAddresses = append(names.IPAddresses, ip)
		default:
			if len(value) > 253 || !dnsName().MatchString(value) {
				return names, bad
			}
			names.DNSNames = append(names.DNSNames, value)
		}
	}
	return names, nil
}

// kindOfSAN splits a prefix off, or guesses the kind from the text's form.
func kindOfSAN(text string) (kind, value string) {
	prefix, rest, _ := strings.Cut(text, ":")
	switch strings.ToLower(prefix) {
	case "uri":
		return "URI", rest
	case "dns":
		return "DNS name", rest
	case "email":
		return "e-mail address", rest
	case "ip":
		return "IP address", rest
	}
	switch {
	case strings.Contains(text, "://"), strings.HasPrefix(text, "urn:"):
		return "URI", text
	case strings.Contains(text, "@"):
		return "e-mail address", text
	case net.ParseIP(text) != nil:
		return "IP address", text
	}
	return "DNS name", text
}
