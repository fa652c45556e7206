package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

// curves are those of the six algorithms, and names for what else people have.
var curves = map[string]struct {
	curve elliptic.Curve
	name  string
}{
	"1.2.840.10045.3.1.7":   {elliptic.P256(), "P-256"},
	"1.3.132.0.34":          {elliptic.P384(), "P-384"},
	"1.3.132.0.35":          {elliptic.P521(), "P-521"},
	"1.3.132.0.10":          {nil, "secp256k1"},
	"1.3.132.0.33":          {nil, "P-224"},
	"1.2.840.10045.3.1.1":   {nil, "P-192"},
	"1.3.36.3.3.2.8.1.1.7":  {nil, "brainpoolP256r1"},
	"1.3.36.3.3.2.8.1.1.11": {nil, "brainpoolP384r1"},
	"1.3.36.3.3.2.8.1.1.13": {nil, "brainpoolP512r1"},
}

// otherTypes are key types that are refused by name.
var otherTypes = map[uint]string{0x01: "a DSA key", 0x02: "a Diffie-Hellman key", 0x40: "an Edwards key (Ed25519)", 0x41: "a Montgomery key (X25519)"}

// publicKey reads the public key that an object shows, which may be a private key; nil if it shows none. A key with which no
// Notary Project signature can be made is an error that names those with which one can.
func publicKey(s *cryptoki.Session, h cryptoki.Object) (crypto.PublicKey, error) {
	typ, err := s.Number(h, cryptoki.AttrKeyType)
	if err != nil {
		return nil, err
	}
	var pub crypto.PublicKey
	switch typ {
	case cryptoki.KeyRSA:
		pub, err = publicRSA(s, h)
	case cryptoki.KeyEC:
		pub, err = publicECDSA(s, h)
	default:
		name := otherTypes[typ]
		if name == "" {
			name = fmt.Sprintf("of the PKCS #11 key type %#x", typ)
		}
		return nil, kms.Unsupported(name)
	}
	if pub != nil || err != nil {
		return pub, err
	}
	der, err := s.Attribute(h, cryptoki.AttrPublicKeyInfo)
	if err != nil || len(der) == 0 {
		return nil, err
	}
	return x509.ParsePKIXPublicKey(der)
}

func publicRSA(s *cryptoki.Session, h cryptoki.Object) (crypto.PublicKey, error) {
	n, err := s.Attribute(h, cryptoki.AttrModulus)
	if err != nil {
		return nil, err
	}
	e, err := s.Attribute(h, cryptoki.AttrPublicExponent)
	if err != nil || len(n) == 0 || len(e) == 0 {
		return nil, err
	}
	exponent := new(big.Int).SetBytes(e)
	if exponent.BitLen() > 31 {
		return nil, kms.Invalid(kms.CodeAlgorithm, "the key is an RSA key with a public exponent of %d bits: it must fit into 31", exponent.BitLen())
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}

func publicECDSA(s *cryptoki.Session, h cryptoki.Object) (crypto.PublicKey, error) {
	params, err := s.Attribute(h, cryptoki.AttrECParams)
	if err != nil || len(params) == 0 {
		return nil, err
	}
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) > 0 {
		return nil, kms.Unsupported("an ECDSA key on a curve that has no name")
	}
	c, known := curves[oid.String()]
	if c.curve == nil {
		name := oid.String()
		if known {
			name = c.name
		}
		return nil, kms.Unsupported("an ECDSA key on the curve " + name)
	}
	point, err := s.Attribute(h, cryptoki.AttrECPoint)
	if err != nil || len(point) == 0 {
		return nil, err
	}
	// A DER OCTET STRING by the standard; some modules leave the wrapping out. 04 begins both, so the length tells them apart.
	if bare := 1 + 2*((c.curve.Params().BitSize+7)/8); len(point) != bare {
		var inner []byte
		if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
			point = inner
		}
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
	if err != nil {
		return nil, kms.Invalid(kms.CodeAlgorithm, "the key is no uncompressed point on the curve %s", c.name)
	}
	return pub, nil
}
