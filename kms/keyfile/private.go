package keyfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/imprint-oci/imprint/kms"
)

var (
	oidRSA    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidEC     = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// algorithmNames name the keys that are refused, by the algorithm of a PKCS#8 structure or by a curve.
var algorithmNames = map[string]string{
	"1.2.840.10040.4.1":       "a DSA key",
	"1.2.840.10046.2.1":       "a Diffie-Hellman key",
	"1.3.101.110":             "an X25519 key",
	"1.3.101.111":             "an X448 key",
	"1.3.101.112":             "an Ed25519 key",
	"1.3.101.113":             "an Ed448 key",
	"1.3.132.0.10":            "an ECDSA key on the curve secp256k1",
	"1.3.132.0.33":            "an ECDSA key on the curve P-224",
	"1.2.840.10045.3.1.1":     "an ECDSA key on the curve P-192",
	"1.3.36.3.3.2.8.1.1.7":    "an ECDSA key on the curve brainpoolP256r1",
	"1.3.36.3.3.2.8.1.1.11":   "an ECDSA key on the curve brainpoolP384r1",
	"1.3.36.3.3.2.8.1.1.13":   "an ECDSA key on the curve brainpoolP512r1",
	"1.2.156.10197.1.301":     "an SM2 key",
	"2.16.840.1.101.3.4.3.17": "an ML-DSA key",
	"2.16.840.1.101.3.4.3.18": "an ML-DSA key",
	"2.16.840.1.101.3.4.3.19": "an ML-DSA key",
}

// A privateKeyInfo is that of RFC 5208.
type privateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes []asn1.RawValue `asn1:"optional,tag:0"`
	PublicKey  asn1.RawValue   `asn1:"optional,tag:1"`
}

// parsePrivate reads a plaintext PKCS#8, SEC 1 or PKCS#1 structure by its shape, whatever its PEM block was called.
func parsePrivate(der []byte) (any, error) {
	shape, err := shapeOf(der)
	if err != nil {
		return nil, format("it is damaged: %w", err)
	}
	switch shape {
	case "INTEGER SEQUENCE":
		return parsePKCS8(der)
	case "INTEGER INTEGER":
		if version(der) == 0 && countMembers(der) == 6 {
			return nil, unsupported("a DSA key")
		}
		return parsePKCS1(der)
	case "INTEGER OCTETS":
		return parseSEC1(der)
	}
	return nil, format("it holds no private key of PKCS#8, SEC 1 or PKCS#1")
}

func parsePKCS8(der []byte) (any, error) {
	var info privateKeyInfo
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, format("its PKCS#8 structure is damaged")
	}
	defer clear(info.PrivateKey)
	oid := info.Algorithm.Algorithm
	switch {
	case oid.Equal(oidRSAPSS):
		// Parameters bind the key to one hash and salt (RFC 4055). Without them it is an RSA key like any other.
		if len(info.Algorithm.Parameters.FullBytes) > 0 {
			return nil, format("it is an RSA key bound to RSA-PSS parameters (OID 1.2.840.113549.1.1.10), which certificates of other keys cannot name; " +
				"make a key of the plain kind: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -aes-256-cbc -out NEW")
		}
		return parsePKCS1(info.PrivateKey)
	case oid.Equal(oidEC):
		if err := checkCurve(info.Algorithm.Parameters.FullBytes); err != nil {
			return nil, err
		}
	case !oid.Equal(oidRSA):
		if name, ok := algorithmNames[oid.String()]; ok {
			return nil, unsupported(name)
		}
		return nil, unsupported("a key of the algorithm " + oid.String())
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, format("its PKCS#8 structure holds a key that is not valid: %w", err)
	}
	return k, nil
}

func parsePKCS1(der []byte) (any, error) {
	k, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, format("its RSA key is not valid: %w", err)
	}
	return k, nil
}

func parseSEC1(der []byte) (any, error) {
	var sec1 struct {
		Version    int
		PrivateKey []byte
		Parameters asn1.RawValue  `asn1:"optional,explicit,tag:0"`
		PublicKey  asn1.BitString `asn1:"optional,explicit,tag:1"`
	}
	if _, err := asn1.Unmarshal(der, &sec1); err != nil {
		return nil, format("its SEC 1 structure is damaged")
	}
	defer clear(sec1.PrivateKey)
	if len(sec1.Parameters.FullBytes) == 0 {
		return nil, format("its EC key does not name its curve")
	}
	if err := checkCurve(sec1.Parameters.Bytes); err != nil {
		return nil, err
	}
	k, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, format("its EC key is not valid: %w", err)
	}
	return k, nil
}

// checkCurve refuses explicit parameters (CVE-2020-0601's way in) and names the curves that are not used.
func checkCurve(params []byte) error {
	var curve asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &curve); err != nil || len(rest) > 0 {
		var v asn1.RawValue
		if _, err := asn1.Unmarshal(params, &v); err == nil && v.Tag == asn1.TagSequence {
			return format("its EC key spells its curve out instead of naming it; convert it: openssl ec -in FILE -param_enc named_curve -out NEW")
		}
		return format("its EC key does not name its curve")
	}
	if name, ok := algorithmNames[curve.String()]; ok {
		return unsupported(name)
	}
	return nil
}

func countMembers(der []byte) int {
	var members []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &members); err != nil {
		return -1
	}
	return len(members)
}

func unsupported(what string) error {
	return kms.Invalid(kms.CodeAlgorithm, "the key is %s: Notary Project signatures need RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521", what)
}

// generate makes a private key.
func generate(algorithm string) (any, error) {
	switch algorithm {
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, kms.Invalid(kms.CodeAlgorithm, "generating a key: unknown algorithm %q; there is P-256, P-384, P-521, RSA-2048, RSA-3072, RSA-4096", algorithm)
}
