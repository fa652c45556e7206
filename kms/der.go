package kms

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// DERFromRaw converts an ECDSA signature from r and s side by side, each as wide as the curve's order (RFC 7518 section 3.4),
// to DER (RFC 3279 section 2.2.3). The error wraps [ErrSignature]: another length, or r or s outside 1…n-1.
func DERFromRaw(pub *ecdsa.PublicKey, raw []byte) ([]byte, error) {
	n := pub.Curve.Params().N
	width := (n.BitLen() + 7) / 8
	if len(raw) != 2*width {
		return nil, fmt.Errorf("%d bytes instead of r and s of %d bytes each: %w", len(raw), width, ErrSignature)
	}
	r, s := new(big.Int).SetBytes(raw[:width]), new(big.Int).SetBytes(raw[width:])
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return nil, fmt.Errorf("r or s is out of range: %w", ErrSignature)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{r, s})
}
