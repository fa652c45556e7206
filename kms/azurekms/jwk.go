package azurekms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/imprint-oci/imprint/kms"
)

// publicKey reads a JSON Web Key (RFC 7517, RFC 7518 section 6). Whether its size is one of Notary's is for [kms.AlgorithmOf].
func publicKey(k *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	if k.Kty == nil {
		return nil, kms.Service("the key that came back has no type")
	}
	switch *k.Kty {
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		return ecPublicKey(k)
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		return rsaPublicKey(k)
	}
	return nil, kms.Unsupported("a key of type " + kms.Text(string(*k.Kty)))
}

func ecPublicKey(k *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	if k.Crv == nil {
		return nil, kms.Service("the key that came back has no curve")
	}
	var curve elliptic.Curve
	name := *k.Crv
	switch name {
	case azkeys.CurveNameP256:
		curve = elliptic.P256()
	case azkeys.CurveNameP384:
		curve = elliptic.P384()
	case azkeys.CurveNameP521:
		curve = elliptic.P521()
	default:
		return nil, kms.Unsupported("an ECDSA key on the curve " + kms.Text(string(name)))
	}
	width := (curve.Params().BitSize + 7) / 8
	x, y := padded(k.X, width), padded(k.Y, width)
	if x == nil || y == nil {
		return nil, kms.Service("the key that came back has coordinates of %d and %d bytes, and %s has %d", len(k.X), len(k.Y), name, width)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, kms.Service("the key that came back is no point on %s", name)
	}
	return pub, nil
}

// padded returns b with zeros before it up to width bytes. RFC 7518 section 6.2.1.2 wants them there; not every service writes them.
// nil: b is empty or too long.
func padded(b []byte, width int) []byte {
	for len(b) > width && b[0] == 0 {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > width {
		return nil
	}
	return append(make([]byte, width-len(b), width), b...)
}

func rsaPublicKey(k *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	n, e := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.E)
	if n.Sign() == 0 || !e.IsInt64() || e.Int64() <= 0 || e.Int64() > 1<<31-1 {
		return nil, kms.Service("the key that came back has no modulus, or no usable exponent")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}
