package awskms_test

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
)

// secp256k1 is the public key of a key that nobody has: the generator of a curve that package x509 does not know.
var secp256k1 = unhex("3056301006072a8648ce3d020106052b8104000a034200" +
	"0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func x509SPKI(pub crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(pub) }
