package envelope

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// A forger makes envelopes byte by byte and signs whatever it made, so that nothing but the flaw under test is wrong with them. It
// shares no code with the room.
type forger struct {
	key   crypto.Signer
	chain []*x509.Certificate
	alg   string // JOSE name
	hash  crypto.Hash
	salt  int // of PSS; 0: as long as the hash
}

func newForger(n int, algorithm string) *forger {
	key, chain := certtest.ChainOf(n, algorithm)
	f := &forger{key: key, chain: chain}
	switch algorithm {
	case "P-256":
		f.alg, f.hash = "ES256", crypto.SHA256
	case "P-384":
		f.alg, f.hash = "ES384", crypto.SHA384
	case "P-521":
		f.alg, f.hash = "ES512", crypto.SHA512
	case "RSA-2048":
		f.alg, f.hash = "PS256", crypto.SHA256
	case "RSA-3072":
		f.alg, f.hash = "PS384", crypto.SHA384
	case "RSA-4096":
		f.alg, f.hash = "PS512", crypto.SHA512
	}
	return f
}

// sign makes the primitive signature as envelopes hold it.
func (f *forger) sign(message []byte) []byte {
	h := f.hash.New()
	h.Write(message)
	switch key := f.key.(type) {
	case *ecdsa.PrivateKey:
		r, s := must2(ecdsa.Sign(rand.Reader, key, h.Sum(nil)))
		w := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, w)), s.FillBytes(make([]byte, w))...)
	case *rsa.PrivateKey:
		salt := f.salt
		if salt == 0 {
			salt = f.hash.Size()
		}
		return must(rsa.SignPSS(rand.Reader, key, f.hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: salt}))
	}
	panic("no such key")
}

const (
	goodDigest  = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	goodPayload = `{"targetArtifact":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + goodDigest + `","size":7}}`
)

func goodProtected(alg string) string {
	return `{"alg":"` + alg + `","crit":["io.cncf.notary.signingScheme"],"cty":"application/vnd.cncf.notary.payload.v1+json",` +
		`"io.cncf.notary.signingScheme":"notary.x509","io.cncf.notary.signingTime":"2026-11-22T10:00:00Z"}`
}

func (f *forger) x5c() string {
	ders := [][]byte{}
	for _, c := range f.chain {
		ders = append(ders, c.Raw)
	}
	return string(must(json.Marshal(ders)))
}

// parts of a JWS envelope; what is "" is as it should be.
type jwsParts struct{ protected, payload, header, signature, whole string }

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// jws makes an envelope. %P, %L, %H and %S in whole stand for protected, payload, header and signature (a JSON string
// each, header an object), %C in header for x5c.
func (f *forger) jws(p jwsParts) []byte {
	if p.protected == "" {
		p.protected = goodProtected(f.alg)
	}
	if p.payload == "" {
		p.payload = goodPayload
	}
	if p.header == "" {
		p.header = `{"x5c":%C}`
	}
	if p.whole == "" {
		p.whole = `{"payload":%L,"protected":%P,"header":%H,"signature":%S}`
	}
	if p.signature == "" {
		p.signature = string(f.sign([]byte(b64(p.protected) + "." + b64(p.payload))))
	}
	p.header = strings.ReplaceAll(p.header, "%C", f.x5c())
	return []byte(strings.NewReplacer("%P", `"`+b64(p.protected)+`"`, "%L", `"`+b64(p.payload)+`"`, "%H", p.header, "%S", `"`+b64(p.signature)+`"`).Replace(p.whole))
}

// raw is an item of CBOR already encoded.
type raw = cbor.RawMessage

// pairs are the entries of a map, in the order given: key, value, key, value …
type pairs []any

func enc(v any) []byte {
	switch v := v.(type) {
	case raw:
		return v // well-formed or not
	case pairs:
		b := []byte{0xa0 | byte(len(v)/2)}
		if n := len(v) / 2; n >= 24 {
			b = []byte{0xb8, byte(n)}
		}
		for _, x := range v {
			b = append(b, enc(x)...)
		}
		return b
	}
	return must(cbor.Marshal(v))
}

func tagged(seconds any) cbor.Tag { return cbor.Tag{Number: 1, Content: seconds} }

// parts of a COSE envelope; what is nil is as it should be. Functions change the encoded good thing.
type coseParts struct {
	protected   any // a map, raw bytes of one, or pairs
	unprotected any
	payload     any
	signature   []byte
	tag         []byte // nil: d2
}

func (f *forger) coseProtected(more ...any) pairs {
	alg := map[string]int{"ES256": -7, "ES384": -35, "ES512": -36, "PS256": -37, "PS384": -38, "PS512": -39}[f.alg]
	return append(pairs{
		1, alg,
		2, []any{"io.cncf.notary.signingScheme"},
		3, "application/vnd.cncf.notary.payload.v1+json",
		"io.cncf.notary.signingTime", tagged(1795341600),
		"io.cncf.notary.signingScheme", "notary.x509",
	}, more...)
}

// with returns the pairs with the value of key replaced.
func (p pairs) with(key, value any) pairs {
	out := pairs{}
	for i := 0; i < len(p); i += 2 {
		v := p[i+1]
		if p[i] == key {
			v = value
		}
		out = append(out, p[i], v)
	}
	return out
}

// without returns the pairs without key.
func (p pairs) without(key any) pairs {
	out := pairs{}
	for i := 0; i < len(p); i += 2 {
		if p[i] != key {
			out = append(out, p[i], p[i+1])
		}
	}
	return out
}

func (f *forger) x5chain() []any {
	var ders []any
	for _, c := range f.chain {
		ders = append(ders, c.Raw)
	}
	return ders
}

func (f *forger) cose(p coseParts) []byte {
	if p.protected == nil {
		p.protected = f.coseProtected()
	}
	if p.unprotected == nil {
		p.unprotected = pairs{33, f.x5chain()}
	}
	if p.payload == nil {
		p.payload = []byte(goodPayload)
	}
	if p.tag == nil {
		p.tag = []byte{0xd2}
	}
	protected := enc(p.protected)
	if p.signature == nil {
		// Sig_structure of RFC 9052, 4.4.
		p.signature = f.sign(enc([]any{"Signature1", protected, []byte{}, p.payload}))
	}
	b := append([]byte{}, p.tag...)
	b = append(b, 0x84)
	b = append(b, enc(protected)...)
	b = append(b, enc(p.unprotected)...)
	b = append(b, enc(p.payload)...)
	return append(b, enc(p.signature)...)
}

// judge parses and verifies.
func judge(f Format, b []byte) (Content, error) {
	e, err := Parse(string(f), b)
	if err != nil {
		return Content{}, err
	}
	return e.Verify()
}

// wantReason checks that err carries the code; "" wants no error.
func wantReason(t *testing.T, err error, code string) {
	t.Helper()
	var r interface{ Reason() string }
	switch {
	case code == "" && err != nil:
		t.Fatalf("refused: %v", err)
	case code == "":
	case err == nil:
		t.Fatalf("accepted, want %s", code)
	case !errors.As(err, &r):
		t.Fatalf("error without a reason: %v", err)
	case r.Reason() != code:
		t.Fatalf("reason %s (%v), want %s", r.Reason(), err, code)
	}
	if code != "" && Reasons()[code] == "" {
		t.Fatalf("reason %s is not listed", code)
	}
}

// signedAt is inside every certificate that certtest makes.
func signedAt() time.Time { return time.Now().UTC().Truncate(time.Second) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func must2[T, U any](v T, w U, err error) (T, U) {
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return v, w
}
