package envelope

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	stock "github.com/notaryproject/notation-core-go/signature"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// leafSigned recomputes with package crypto alone what the leaf's key signed, and returns the payload. It reads the
// envelope in its own, lax way and builds the signing input from its definition.
func leafSigned(f Format, b []byte) (payload []byte, err error) {
	var message, sig, leaf []byte
	if f == JWS {
		var e struct {
			Payload, Protected, Signature string
			Header                        struct{ X5c [][]byte }
		}
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, err
		}
		message = []byte(e.Protected + "." + e.Payload)
		if payload, err = base64.RawURLEncoding.DecodeString(e.Payload); err != nil {
			return nil, err
		}
		if sig, err = base64.RawURLEncoding.DecodeString(e.Signature); err != nil {
			return nil, err
		}
		if len(e.Header.X5c) == 0 {
			return nil, errors.New("no chain")
		}
		leaf = e.Header.X5c[0]
	} else {
		// Walked by hand: tag 18, array of 4, bstr, map, bstr, bstr.
		w := &walker{b: b}
		w.head(6)
		w.head(4)
		protected := w.bytes()
		for range w.head(5) {
			if major, arg := w.any(); major == 0 && arg == 33 {
				w.head(4)
				leaf = w.bytes()
				break
			}
			w.skip()
		}
		w = &walker{b: b}
		w.head(6)
		w.head(4)
		w.skip()
		w.skip()
		payload = w.bytes()
		sig = w.bytes()
		if len(w.b) != 0 {
			w.err = errors.Join(w.err, errors.New("something after it"))
		}
		if w.err != nil {
			return nil, fmt.Errorf("not a COSE_Sign1: %w", w.err)
		}
		message = append([]byte{0x84, 0x6a}, "Signature1"...)
		message = append(message, byteString(protected)...)
		message = append(message, 0x40)
		message = append(message, byteString(payload)...)
	}
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return nil, err
	}
	switch pub := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		hash := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[pub.Params().BitSize]
		if hash == 0 {
			return nil, errors.New("another curve")
		}
		h := hash.New()
		h.Write(message)
		n := len(sig) / 2
		if !ecdsa.Verify(pub, h.Sum(nil), new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:])) {
			return nil, errors.New("ECDSA signature wrong")
		}
	case *rsa.PublicKey:
		hash := map[int]crypto.Hash{2048: crypto.SHA256, 3072: crypto.SHA384, 4096: crypto.SHA512}[pub.N.BitLen()]
		if hash == 0 {
			return nil, errors.New("another size")
		}
		h := hash.New()
		h.Write(message)
		if err := rsa.VerifyPSS(pub, hash, h.Sum(nil), sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("a key %T", pub)
	}
	return payload, nil
}

// A walker reads CBOR of definite lengths item by item.
type walker struct {
	b   []byte
	err error
}

func (w *walker) any() (major byte, arg uint64) {
	if w.err != nil || len(w.b) == 0 {
		w.err = errors.Join(w.err, errors.New("cut short"))
		return 7, 0
	}
	major, info := w.b[0]>>5, w.b[0]&0x1f
	w.b = w.b[1:]
	if info < 24 {
		return major, uint64(info)
	}
	n := 1 << (info - 24)
	if info > 27 || len(w.b) < n {
		w.err = errors.New("cut short or indefinite")
		return 7, 0
	}
	var wide [8]byte
	copy(wide[8-n:], w.b[:n])
	w.b = w.b[n:]
	return major, binary.BigEndian.Uint64(wide[:])
}

func (w *walker) head(major byte) uint64 {
	m, arg := w.any()
	if m != major {
		w.err = errors.Join(w.err, fmt.Errorf("major type %d instead of %d", m, major))
		return 0
	}
	return arg
}

func (w *walker) take(n uint64) []byte {
	if w.err != nil || n > uint64(len(w.b)) {
		w.err = errors.Join(w.err, errors.New("cut short"))
		return nil
	}
	b := w.b[:n]
	w.b = w.b[n:]
	return b
}

func (w *walker) bytes() []byte { return w.take(w.head(2)) }

func (w *walker) skip() {
	for left := uint64(1); left > 0 && w.err == nil; left-- {
		switch major, arg := w.any(); major {
		case 2, 3:
			w.take(arg)
		case 4:
			left += arg
		case 5:
			left += 2 * arg
		case 6:
			left++
		}
	}
}

// byteString encodes a byte string in the shortest form.
func byteString(b []byte) []byte {
	switch n := len(b); {
	case n < 24:
		return append([]byte{0x40 | byte(n)}, b...)
	case n < 1<<8:
		return append([]byte{0x58, byte(n)}, b...)
	case n < 1<<16:
		return append([]byte{0x59, byte(n >> 8), byte(n)}, b...)
	default:
		return append(binary.BigEndian.AppendUint32([]byte{0x5a}, uint32(n)), b...)
	}
}

// checkAccepted holds for every input: what is accepted, the leaf's key signed, exactly those bytes; and stock
// verifiers accept it too.
func checkAccepted(t *testing.T, f Format, b []byte) {
	e, err := Parse(string(f), b)
	if err != nil {
		var refused *Error
		if e != nil || !errors.As(err, &refused) || Reasons()[refused.Code] == "" {
			t.Fatalf("refused without a listed reason: %v", err)
		}
		return
	}
	u := e.Unverified()
	if u.CoreID() != "" {
		t.Fatal("a core id without verification")
	}
	_, _, _, _ = u.TimestampRange()
	c, err := e.Verify()
	if err != nil {
		return
	}
	payload, err := leafSigned(f, b)
	if err != nil {
		t.Fatalf("accepted, but the leaf's key did not sign it: %v\n%q", err, b)
	}
	if !bytes.Equal(payload, c.Signed) {
		t.Fatalf("signed %q, read %q", payload, c.Signed)
	}
	var meant struct{ TargetArtifact Payload }
	if err := json.Unmarshal(payload, &meant); err != nil || !meant.TargetArtifact.Equal(c.Payload) {
		t.Fatalf("payload %q read as %+v (%v)", payload, c.Payload, err)
	}
	if c.CoreID() == "" {
		t.Fatal("no core id")
	}
	if _, err := stockVerify(f, b); err != nil {
		t.Fatalf("accepted here, refused by stock: %v\n%q", err, b)
	}
	same, err := e.WithChain(c.Chain)
	if err != nil || !bytes.Equal(same.Bytes(), b) {
		t.Fatalf("its own chain changes it: %v", err)
	}
}

func seeds(f *testing.F, format Format) {
	for _, algorithm := range []string{"P-256", "P-384", "RSA-2048"} {
		fo := newForger(2, algorithm)
		b, _ := stockSign(f, format, 1, algorithm, func(r *stock.SignRequest) {
			r.ExtendedSignedAttributes = []stock.Attribute{{Key: "com.example.build", Value: "7"}}
		})
		f.Add(b)
		sig := fo.resigned(format, nil)
		f.Add(sig)
		if format == JWS {
			f.Add(fo.jws(jwsParts{header: `{"kid":"1","x5c":%C,"io.cncf.notary.timestampSignature":"AAAA"}`}))
			f.Add(fo.jws(jwsParts{protected: strings.Replace(goodProtected(fo.alg), `"cty"`, `"com.example.x":["\ud83d\ude00"],"cty"`, 1)}))
			continue
		}
		f.Add(fo.cose(coseParts{unprotected: pairs{4, []byte("kid"), 33, fo.x5chain(), "io.cncf.notary.timestampSignature", []byte{0}}}))
		f.Add(fo.cose(coseParts{protected: fo.coseProtected("com.example.x", pairs{"a", 1})}))
	}
}

func FuzzParseJWS(f *testing.F) {
	seeds(f, JWS)
	f.Fuzz(func(t *testing.T, b []byte) { checkAccepted(t, JWS, b) })
}

func FuzzParseCOSE(f *testing.F) {
	seeds(f, COSE)
	f.Fuzz(func(t *testing.T, b []byte) { checkAccepted(t, COSE, b) })
}

// TestLeafSigned: the independent judge of the fuzz tests knows good from bad.
func TestLeafSigned(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		fo := newForger(2, algorithm)
		for _, f := range []Format{JWS, COSE} {
			good := fo.resigned(f, nil)
			payload, err := leafSigned(f, good)
			if err != nil || string(payload) != goodPayload {
				t.Errorf("%s %s: %v", algorithm, f.Short(), err)
			}
			bad := bytes.Replace(good, []byte(`"size":7`), []byte(`"size":8`), 1)
			if f == JWS {
				bad = bytes.Replace(good, []byte(b64(goodPayload)), []byte(b64(strings.Replace(goodPayload, ":7", ":8", 1))), 1)
			}
			if _, err := leafSigned(f, bad); err == nil || bytes.Equal(good, bad) {
				t.Errorf("%s %s: a changed payload is found good", algorithm, f.Short())
			}
		}
	}
}

// TestV26EveryFlip flips every bit of a good envelope, puts every byte to a few values, drops and doubles it, and
// cuts the envelope there: it is refused, or the signed bytes, the signature and the leaf's key are what they were.
func TestV26EveryFlip(t *testing.T) {
	t.Parallel()
	fo := newForger(1, "P-256") // chains of one: what is in a certificate is certchain's to test
	for _, c := range []struct {
		name  string
		f     Format
		b     []byte
		loose bool // has unsigned members of which any value will do
	}{
		{"JWS", JWS, signed(t, JWS, 1, "P-256").Bytes(), false},
		{"COSE", COSE, signed(t, COSE, 1, "P-256").Bytes(), false},
		{"JWS with unsigned members", JWS, fo.jws(jwsParts{header: `{"x5c":%C, "kid":"1","io.cncf.notary.timestampSignature":"AAAA","io.cncf.notary.signingAgent":"a"}`}), true},
		{"COSE with unsigned members", COSE, fo.cose(coseParts{unprotected: pairs{4, []byte("k"), 33, fo.x5chain(), "io.cncf.notary.timestampSignature", []byte{0}, "io.cncf.notary.signingAgent", "a"}}), true},
	} {
		t.Run("V26 "+c.name, func(t *testing.T) {
			t.Parallel()
			good, err := judge(c.f, c.b)
			if err != nil {
				t.Fatal(err)
			}
			accepted := 0
			try := func(b []byte) {
				got, err := judge(c.f, b)
				if err != nil {
					return
				}
				accepted++
				if !bytes.Equal(got.Protected, good.Protected) || !bytes.Equal(got.Signed, good.Signed) || !bytes.Equal(got.Signature, good.Signature) || got.CoreID() != good.CoreID() {
					t.Fatalf("accepted with other signed bytes: %q", b)
				}
				if !bytes.Equal(got.Chain.Leaf().RawSubjectPublicKeyInfo, good.Chain.Leaf().RawSubjectPublicKeyInfo) {
					t.Fatalf("accepted with another key: %q", b)
				}
			}
			b := bytes.Clone(c.b)
			for i, was := range b {
				for bit := range 8 {
					b[i] = was ^ 1<<bit
					try(b)
				}
				for _, value := range []byte(" \"\\0a=\n{") {
					if b[i] = value; value != was {
						try(b)
					}
				}
				b[i] = was
				try(append(bytes.Clone(b[:i]), b[i+1:]...))
				try(append(append(bytes.Clone(b[:i+1]), was), b[i+1:]...))
				try(b[:i])
			}
			// Of an envelope without loose members nothing at all may change.
			if c.loose != (accepted > 0) {
				t.Errorf("%d changed envelopes accepted", accepted)
			}
		})
	}
}
