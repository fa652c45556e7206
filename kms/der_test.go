package kms_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"

	"github.com/imprint-oci/imprint/kms"
)

// TestDERFromRawVectors: written by hand from X.690, so that no two mistakes agree.
func TestDERFromRawVectors(t *testing.T) {
	t.Parallel()
	zeros := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	for _, c := range []struct {
		name     string
		curve    elliptic.Curve
		raw, der string
	}{
		{"P-256, r = 1, s = 2", elliptic.P256(), zeros(31) + "01" + zeros(31) + "02", "3006020101020102"},
		{"P-256, a leading zero where the first bit is set", elliptic.P256(), zeros(31) + "80" + zeros(30) + "0100", "3008" + "02020080" + "02020100"},
		{"P-384, r = 255", elliptic.P384(), zeros(47) + "ff" + zeros(47) + "7f", "3007" + "020200ff" + "02017f"},
		{"P-521, 66 bytes each", elliptic.P521(), zeros(65) + "03" + "01" + zeros(65), "3047" + "020103" + "0242" + "01" + zeros(65)},
		{"P-521, long form of the length", elliptic.P521(), "01" + zeros(65) + "01" + zeros(65), "308188" + "0242" + "01" + zeros(65) + "0242" + "01" + zeros(65)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			raw, want := unhex(t, c.raw), unhex(t, c.der)
			got, err := kms.DERFromRaw(&ecdsa.PublicKey{Curve: c.curve}, raw)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x, %v; want %x", got, err, want)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDERFromRaw(t *testing.T) {
	t.Parallel()
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			width := map[string]int{"P-256": 32, "P-384": 48, "P-521": 66}[name]
			digest := bytes.Repeat([]byte{7}, 32)
			for range 50 { // some of them have short numbers
				r, s, err := ecdsa.Sign(rand.Reader, key, digest)
				if err != nil {
					t.Fatal(err)
				}
				der, err := kms.DERFromRaw(&key.PublicKey, pair(width, r, s))
				if err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest, der) {
					t.Fatalf("r %x, s %x: %v", r, s, err)
				}
			}
			n := curve.Params().N
			one, zero, last := big.NewInt(1), new(big.Int), new(big.Int).Sub(n, big.NewInt(1))
			more := new(big.Int).Add(n, one)
			for what, raw := range map[string][]byte{
				"r = 0":            pair(width, zero, one),
				"s = 0":            pair(width, one, zero),
				"r = n":            pair(width, n, one),
				"s = n":            pair(width, one, n),
				"r = n + 1":        pair(width, more, one),
				"s = n + 1":        pair(width, one, more),
				"all ones":         bytes.Repeat([]byte{0xff}, 2*width),
				"nothing":          nil,
				"one byte less":    pair(width, one, one)[1:],
				"a byte after it":  append(pair(width, one, one), 0),
				"half of it":       pair(width, one, one)[:width],
				"twice":            append(pair(width, one, one), pair(width, one, one)...),
				"narrower numbers": pair(width-1, one, one),
				"wider numbers":    pair(width+1, one, one),
				"DER":              {0x30, 6, 2, 1, 1, 2, 1, 1},
			} {
				der, err := kms.DERFromRaw(&key.PublicKey, raw)
				if der != nil || !errors.Is(err, kms.ErrSignature) {
					t.Errorf("%s: %x, %v", what, der, err)
				}
			}
			for what, raw := range map[string][]byte{"r = n - 1": pair(width, last, one), "s = n - 1": pair(width, one, last), "1 and 1": pair(width, one, one)} {
				if _, err := kms.DERFromRaw(&key.PublicKey, raw); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func pair(width int, r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, width)), s.FillBytes(make([]byte, width))...)
}
