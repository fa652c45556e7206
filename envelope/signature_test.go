package envelope

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// resigned returns the forger's good envelope of format f with another primitive signature.
func (fo *forger) resigned(f Format, sig []byte) []byte {
	if f == JWS {
		return fo.jws(jwsParts{signature: string(sig)})
	}
	return fo.cose(coseParts{signature: sig})
}

// TestV16Malleated: for each signature (r, s) the pair (r, n-s) is one too. It is accepted as ECDSA demands, and is
// the same signature.
func TestV16Malleated(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "P-384", "P-521"} {
		fo := newForger(2, algorithm)
		n := fo.key.Public().(*ecdsa.PublicKey).Params().N
		for _, f := range []Format{JWS, COSE} {
			e, err := Parse(string(f), fo.resigned(f, nil))
			wantReason(t, err, "")
			one, err := e.Verify()
			wantReason(t, err, "")
			w := len(one.Signature) / 2
			s := new(big.Int).Sub(n, new(big.Int).SetBytes(one.Signature[w:]))
			other := s.FillBytes(make([]byte, w))
			two, err := judge(f, fo.resigned(f, append(bytes.Clone(one.Signature[:w]), other...)))
			wantReason(t, err, "")
			if one.CoreID() != two.CoreID() {
				t.Errorf("%s %s: core ids %s and %s", algorithm, f.Short(), one.CoreID(), two.CoreID())
			}
			if bytes.Equal(one.Signature, two.Signature) {
				t.Error("nothing was changed")
			}
		}
	}
}

// TestV16EdgeCases has the classes of Wycheproof's ecdsa_*_p1363 vectors.
func TestV16EdgeCases(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "P-384", "P-521"} {
		fo := newForger(1, algorithm)
		params := fo.key.Public().(*ecdsa.PublicKey).Params()
		n, p := params.N, params.P
		w := (n.BitLen() + 7) / 8
		e, err := Parse(string(JWS), fo.jws(jwsParts{}))
		wantReason(t, err, "")
		good := e.Unverified().Signature
		r, s := new(big.Int).SetBytes(good[:w]), new(big.Int).SetBytes(good[w:])
		num := func(x int64) *big.Int { return big.NewInt(x) }
		plus := func(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }
		minus := func(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }
		pair := func(r, s *big.Int) []byte {
			if r.BitLen() > 8*w || s.BitLen() > 8*w {
				return append(make([]byte, 2*w), 1) // does not fit: wrong length instead
			}
			return append(r.FillBytes(make([]byte, w)), s.FillBytes(make([]byte, w))...)
		}
		for name, sig := range map[string][]byte{
			"r is 0":            pair(num(0), s),
			"s is 0":            pair(r, num(0)),
			"both 0":            pair(num(0), num(0)),
			"r is 0, s is 1":    pair(num(0), num(1)),
			"r is n":            pair(n, s),
			"s is n":            pair(r, n),
			"r is n+1":          pair(plus(n, num(1)), s),
			"s is n+1":          pair(r, plus(n, num(1))),
			"r + n":             pair(plus(r, n), s),
			"s + n":             pair(r, plus(s, n)),
			"n - r":             pair(minus(n, r), s),
			"r is p":            pair(p, s),
			"p - n":             pair(minus(p, n), s),
			"both 1":            pair(num(1), num(1)),
			"both n-1":          pair(minus(n, num(1)), minus(n, num(1))),
			"r and s swapped":   pair(s, r),
			"all bits":          bytes.Repeat([]byte{0xff}, 2*w),
			"one byte short":    good[:len(good)-1],
			"one byte more":     append(bytes.Clone(good), 0),
			"leading zero":      append([]byte{0}, good...),
			"only r":            good[:w],
			"padded both":       append(append([]byte{0}, good[:w]...), append([]byte{0}, good[w:]...)...),
			"DER":               must(asn1.Marshal(ecdsaSignature{r, s})),
			"two signatures":    append(bytes.Clone(good), good...),
			"last bit":          append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
			"length of another": make([]byte, 2*w+2),
		} {
			t.Run("V16 "+algorithm+" "+name, func(t *testing.T) {
				t.Parallel()
				for _, f := range []Format{JWS, COSE} {
					_, err := judge(f, fo.resigned(f, sig))
					wantReason(t, err, codeSignature)
				}
			})
		}
	}
}

// TestV17Salt: one salt length only, in COSE and, unlike stock, in JWS too.
func TestV17Salt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id   string
		salt int
		code string
	}{
		{"V17 salt = hash", 32, ""},
		{"V17 salt 1", 1, codeSignature},
		{"V17 salt 20", 20, codeSignature},
		{"V17 salt 31", 31, codeSignature},
		{"V17 salt 33", 33, codeSignature},
		{"V17 salt 64", 64, codeSignature},
		{"V17 largest salt", 256 - 32 - 2, codeSignature},
	} {
		t.Run(c.id, func(t *testing.T) {
			t.Parallel()
			fo := newForger(1, "RSA-2048")
			fo.salt = c.salt
			for _, f := range []Format{JWS, COSE} {
				_, err := judge(f, fo.resigned(f, nil))
				wantReason(t, err, c.code)
			}
		})
	}
}

// TestV02RSA: the algorithm follows from the key, whatever else would verify.
func TestV02RSA(t *testing.T) {
	t.Parallel()
	fo := newForger(1, "RSA-3072")
	fo.alg, fo.hash = "PS256", crypto.SHA256
	for _, f := range []Format{JWS, COSE} {
		_, err := judge(f, fo.resigned(f, nil))
		wantReason(t, err, codeAlgorithmMismatch)
	}
}

// TestA04LeafKeys: leaf keys outside the six are refused before anything is computed with them.
func TestA04LeafKeys(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RSA-2040", "P-224"} {
		key := certtest.Key(algorithm)
		fo := newForger(1, "P-256")
		fo.chain[0] = certtest.SelfSigned(key, "odd")
		for _, f := range []Format{JWS, COSE} {
			_, err := judge(f, fo.resigned(f, bytes.Repeat([]byte{1}, 64)))
			wantReason(t, err, codeAlgorithm)
		}
	}
}

func TestRawAndDER(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "P-384", "P-521"} {
		pub := certtest.Key(algorithm).Public().(*ecdsa.PublicKey)
		n1 := new(big.Int).Sub(pub.Params().N, big.NewInt(1))
		for _, rs := range []ecdsaSignature{{big.NewInt(1), big.NewInt(1)}, {n1, n1}, {big.NewInt(0x80), big.NewInt(0xff)}, {n1, big.NewInt(1)}} {
			der := must(asn1.Marshal(rs))
			raw, err := rawOf(pub, der)
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) != signatureSize(pub) {
				t.Errorf("%s: %d bytes", algorithm, len(raw))
			}
			back, err := derOf(pub, raw)
			if err != nil || !bytes.Equal(back, der) {
				t.Errorf("%s: %x became %x (%v)", algorithm, der, back, err)
			}
		}
	}
	if _, err := rawOf("no key", nil); err == nil {
		t.Error("a signature of no key")
	}
	if _, err := derOf(certtest.Key("RSA-2048").Public().(*rsa.PublicKey), make([]byte, 64)); err == nil || !strings.Contains(err.Error(), "rsa") {
		t.Errorf("an RSA signature as DER: %v", err)
	}
}
