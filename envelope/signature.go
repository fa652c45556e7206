package envelope

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Envelopes hold ECDSA signatures as r‖s, each as wide as the curve's order (RFC 7518, 3.4; RFC 9053, 2.1); key services and
// package crypto hold them as ASN.1 DER. RSA signatures are the same in both.

type ecdsaSignature struct{ R, S *big.Int }

// rawOf converts what a key returned to the form in envelopes, strictly: exactly one DER value, r and s between 1 and n-1.
func rawOf(pub crypto.PublicKey, sig []byte) ([]byte, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if len(sig) != pub.Size() {
			return nil, fmt.Errorf("an RSA signature of %d bytes instead of %d", len(sig), pub.Size())
		}
		return sig, nil
	case *ecdsa.PublicKey:
		var rs ecdsaSignature
		rest, err := asn1.Unmarshal(sig, &rs)
		if err != nil {
			return nil, fmt.Errorf("an ECDSA signature that is not DER: %w", err)
		}
		if len(rest) != 0 {
			return nil, errors.New("an ECDSA signature with something after it")
		}
		if err := inRange(pub, rs); err != nil {
			return nil, err
		}
		// A second encoding of the same numbers, as a sequence with more in it, is none of DER.
		if again, err := asn1.Marshal(rs); err != nil || !bytes.Equal(again, sig) {
			return nil, errors.New("an ECDSA signature that is not DER")
		}
		w := width(pub)
		raw := make([]byte, 2*w)
		rs.R.FillBytes(raw[:w])
		rs.S.FillBytes(raw[w:])
		return raw, nil
	}
	return nil, fmt.Errorf("a signature of a %T", pub)
}

// derOf is the way back, as strict.
func derOf(pub crypto.PublicKey, raw []byte) ([]byte, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a signature of a %T", pub)
	}
	w := width(key)
	if len(raw) != 2*w {
		return nil, fmt.Errorf("an ECDSA signature of %d bytes instead of %d", len(raw), 2*w)
	}
	rs := ecdsaSignature{new(big.Int).SetBytes(raw[:w]), new(big.Int).SetBytes(raw[w:])}
	if err := inRange(key, rs); err != nil {
		return nil, err
	}
	return asn1.Marshal(rs)
}

func inRange(pub *ecdsa.PublicKey, rs ecdsaSignature) error {
	n := pub.Params().N
	for _, x := range []*big.Int{rs.R, rs.S} {
		if x.Sign() <= 0 || x.Cmp(n) >= 0 {
			return errors.New("an ECDSA signature with r or s out of range")
		}
	}
	return nil
}

func width(pub *ecdsa.PublicKey) int { return (pub.Params().N.BitLen() + 7) / 8 }

// signatureSize is how long a signature of pub is in an envelope.
func signatureSize(pub crypto.PublicKey) int {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return pub.Size()
	case *ecdsa.PublicKey:
		return 2 * width(pub)
	}
	return 0
}
