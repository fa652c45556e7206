package envelope

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

// renewal is a chain and another for the same leaf key under the same root: a renewed intermediate and a leaf re-issued under it.
type renewal struct {
	key      crypto.Signer
	root     *certtest.Authority
	old, new certchain.Chain
}

func renew(algorithm string) renewal {
	r := renewal{key: certtest.Key(algorithm), root: certtest.Root("root")}
	before := r.root.Intermediate("intermediate")
	after := r.root.Intermediate("intermediate 2")
	r.old = before.Chain(before.Leaf(r.key.Public(), "release"))
	r.new = after.Chain(after.Leaf(r.key.Public(), "release", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(2*365*24*time.Hour))))
	return r
}

// TestWithChainVerbatim: whoever signed, whatever stands around, only the chain changes.
func TestWithChainVerbatim(t *testing.T) {
	t.Parallel()
	type source struct {
		name string
		f    Format
		b    []byte
		r    renewal
	}
	var sources []source
	for _, algorithm := range []string{"P-256", "RSA-2048"} {
		for _, f := range []Format{JWS, COSE} {
			r := renew(algorithm)
			e, err := Sign(t.Context(), f, somePayload(), kmstest.Key(r.key), r.old, Options{SigningTime: signedAt(), Agent: "imprint"})
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, source{"ours " + algorithm, f, e.Bytes(), r})
			sources = append(sources, source{"notation's " + algorithm, f, stockSignWith(t, f, r.key, r.old, nil), r})
			fo := forger{key: r.key, chain: r.old, alg: e.Unverified().Algorithm, hash: crypto.SHA256}
			if f == JWS {
				sources = append(sources, source{"odd spacing and members", f, fo.jws(jwsParts{
					whole:  "\n{ \"signature\" : %S,\n\t\"header\" : %H , \"protected\":%P ,\"payload\" :%L }\r\n",
					header: "{ \"kid\" :\"1\", \"x5c\" :  %C\t, \"com.example.a\": {\"b\" : [1.50, 1e400, \"\\u00e9\\/\"]} , \"io.cncf.notary.timestampSignature\":\"AAAA\" }",
				}), r})
			} else {
				sources = append(sources, source{"odd members", f, fo.cose(coseParts{unprotected: pairs{
					"io.cncf.notary.timestampSignature", []byte{0, 0, 0}, 33, fo.x5chain(), -70000, pairs{"b", 1.5}, 4, []byte("kid"), "com.example.a", raw{0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}}}), r})
			}
		}
	}
	for _, s := range sources {
		t.Run(s.name+" "+s.f.Short(), func(t *testing.T) {
			t.Parallel()
			old, err := Parse(string(s.f), s.b)
			if err != nil {
				t.Fatal(err)
			}
			was, err := old.Verify()
			if err != nil {
				t.Fatal(err)
			}
			e, err := old.WithChain(s.r.new)
			if err != nil {
				t.Fatal(err)
			}
			is, err := e.Verify()
			if err != nil {
				t.Fatal(err)
			}
			if !is.Chain.Equal(s.r.new) {
				t.Error("not the new chain")
			}
			if is.CoreID() != was.CoreID() {
				t.Errorf("core ids %s and %s", was.CoreID(), is.CoreID())
			}
			sameButChain(t, s.f, s.b, e.Bytes())

			// The same inputs give the same bytes, by whatever way.
			again, err := must(Parse(string(s.f), s.b)).WithChain(s.r.new)
			if err != nil || !bytes.Equal(again.Bytes(), e.Bytes()) {
				t.Errorf("another result the second time: %v", err)
			}
			twice, err := e.WithChain(s.r.new)
			if err != nil || !bytes.Equal(twice.Bytes(), e.Bytes()) {
				t.Errorf("not idempotent: %v", err)
			}
			same, err := old.WithChain(s.r.old)
			if err != nil || !bytes.Equal(same.Bytes(), s.b) {
				t.Errorf("the same chain changes the bytes: %v", err)
			}
			if _, err := stockVerify(s.f, e.Bytes()); err != nil {
				t.Errorf("stock refuses the result: %v", err)
			}
			if !bytes.Equal(old.Bytes(), s.b) {
				t.Error("the old envelope changed")
			}
		})
	}
}

// sameButChain compares two envelopes member by member with general parsers: nothing of the room.
func sameButChain(t *testing.T, f Format, a, b []byte) {
	t.Helper()
	split := func(raw []byte) map[string]string {
		parts := map[string]string{}
		if f == JWS {
			var top, header map[string]json.RawMessage
			if err := json.Unmarshal(raw, &top); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(top["header"], &header); err != nil {
				t.Fatal(err)
			}
			delete(top, "header")
			delete(header, "x5c")
			for k, v := range top {
				parts[k] = string(v)
			}
			for k, v := range header {
				parts["header "+k] = string(v)
			}
			return parts
		}
		var top []cbor.RawMessage
		if err := cbor.Unmarshal(raw[1:], &top); err != nil {
			t.Fatal(err)
		}
		var header map[any]cbor.RawMessage
		if err := cbor.Unmarshal(top[1], &header); err != nil {
			t.Fatal(err)
		}
		delete(header, uint64(33))
		parts["protected"], parts["payload"], parts["signature"] = string(top[0]), string(top[2]), string(top[3])
		for k, v := range header {
			parts[fmt.Sprint("header ", k)] = string(v)
		}
		return parts
	}
	was, is := split(a), split(b)
	if len(was) != len(is) || len(was) < 3 {
		t.Errorf("%d members became %d", len(was), len(is))
	}
	for k, v := range was {
		if is[k] != v {
			t.Errorf("%s: %q became %q", k, v, is[k])
		}
	}
}

func TestWithChainRefuses(t *testing.T) {
	t.Parallel()
	r := renew("P-256")
	another := renew("P-256")
	unrelated := certtest.Root("root").Intermediate("intermediate 2")
	for _, f := range []Format{JWS, COSE} {
		e, err := Sign(t.Context(), f, somePayload(), kmstest.Key(r.key), r.old, Options{SigningTime: signedAt()})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			id    string
			chain certchain.Chain
			code  string
		}{
			{"empty", nil, codeChainMalformed},
			{"K01 another key", another.new, codeLeafKey},
			{"K03 wrong issuer of the same name", append(certchain.Chain{r.new[0]}, unrelated.Chain(nil)[1:]...), codeChainInvalid},
			{"K07 no root", r.new[:2], codeChainInvalid},
			{"K08 shuffled", certchain.Chain{r.new[0], r.new[2], r.new[1]}, codeChainInvalid},
			{"K09 root twice", append(append(certchain.Chain{}, r.new...), r.new[2]), codeChainInvalid},
			{"17 certificates", append(append(certchain.Chain{}, r.new...), make17(r.new[2])...), codeChainMalformed},
		} {
			t.Run(c.id+" "+f.Short(), func(t *testing.T) {
				t.Parallel()
				n, err := e.WithChain(c.chain)
				if n != nil {
					t.Error("an envelope beside the error")
				}
				wantReason(t, err, c.code)
			})
		}
	}
}

func make17(c *x509.Certificate) certchain.Chain {
	var all certchain.Chain
	for range 17 {
		all = append(all, c)
	}
	return all
}

// TestK13InvalidSignature: a chain is not exchanged under a signature that does not verify, not even for itself.
func TestK13InvalidSignature(t *testing.T) {
	t.Parallel()
	r := renew("P-256")
	fo := forger{key: r.key, chain: r.old, alg: "ES256", hash: crypto.SHA256}
	for _, f := range []Format{JWS, COSE} {
		e, err := Parse(string(f), fo.resigned(f, bytes.Repeat([]byte{1}, 64)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.WithChain(r.new)
		wantReason(t, err, codeSignature)
		_, err = e.WithChain(r.old)
		wantReason(t, err, codeSignature)
	}
}

// TestK25DuplicateKey: for every ECDSA signature there is a second public key under which it verifies over the same
// message, and anyone can compute it (the other point with the x coordinate r). With it the envelope verifies for
// itself, but it is another's: the chain is refused, and the core id is another. (The RSA form of the attack needs a
// public exponent that package crypto/x509 does not read.)
func TestK25DuplicateKey(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		r := renew("P-256")
		e, err := Sign(t.Context(), f, somePayload(), kmstest.Key(r.key), r.old, Options{SigningTime: signedAt()})
		if err != nil {
			t.Fatal(err)
		}
		c, err := e.Verify()
		if err != nil {
			t.Fatal(err)
		}
		message := jwsMessage(c.Protected, c.Signed)
		if f == COSE {
			message = enc([]any{"Signature1", c.Protected, []byte{}, c.Signed})
		}
		twin := duplicateKey(r.key.Public().(*ecdsa.PublicKey), message, c.Signature)
		evil := certtest.Root("root")
		chain := evil.Chain(evil.Leaf(twin, "release"))

		_, err = e.WithChain(chain)
		wantReason(t, err, codeLeafKey)

		fo := forger{chain: chain, alg: "ES256"}
		var forged []byte
		if f == JWS {
			forged = fo.jws(jwsParts{protected: string(c.Protected), payload: string(c.Signed), signature: string(c.Signature)})
		} else {
			forged = fo.cose(coseParts{protected: raw(c.Protected), payload: c.Signed, signature: c.Signature})
		}
		got, err := judge(f, forged)
		if err != nil {
			t.Fatalf("the twin key is none: the test tests nothing: %v", err)
		}
		if got.CoreID() == c.CoreID() {
			t.Error("the twin's signature has the same core id")
		}
		if got.Supersedes(c) || c.Supersedes(got) {
			t.Error("the twin's signature supersedes")
		}
	}
}

// duplicateKey returns the other key under which the signature verifies: Q' = r⁻¹(-sR - zG), where R is the point
// that verification finds.
//
//nolint:staticcheck // an attack needs the arithmetic that nothing else should
func duplicateKey(pub *ecdsa.PublicKey, message, sig []byte) *ecdsa.PublicKey {
	curve, n := pub.Curve, pub.Params().N
	z := new(big.Int).SetBytes(digestOf(message))
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	mod := func(x *big.Int) []byte { return x.Mod(x, n).FillBytes(make([]byte, 32)) }
	w := new(big.Int).ModInverse(s, n)
	ax, ay := curve.ScalarBaseMult(mod(new(big.Int).Mul(z, w)))
	bx, by := curve.ScalarMult(pub.X, pub.Y, mod(new(big.Int).Mul(r, w)))
	rx, ry := curve.Add(ax, ay, bx, by)
	ri := new(big.Int).ModInverse(r, n)
	cx, cy := curve.ScalarMult(rx, new(big.Int).Sub(pub.Params().P, ry), mod(new(big.Int).Mul(s, ri)))
	dx, dy := curve.ScalarBaseMult(mod(new(big.Int).Neg(new(big.Int).Mul(z, ri))))
	x, y := curve.Add(cx, cy, dx, dy)
	return &ecdsa.PublicKey{Curve: curve, X: x, Y: y}
}

func digestOf(b []byte) []byte { d := sha256.Sum256(b); return d[:] }

// TestCoreID computes it from its definition in docs/signature.md.
func TestCoreID(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		e := signed(t, f, 2, "P-256")
		c, err := e.Verify()
		if err != nil {
			t.Fatal(err)
		}
		spki := must(x509.MarshalPKIXPublicKey(c.Chain[0].PublicKey))
		var b []byte
		for _, part := range [][]byte{spki, c.Protected, c.Signed} {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(part)))
			b = append(append(b, n[:]...), part...)
		}
		if want := fmt.Sprintf("sha256:%x", sha256.Sum256(b)); c.CoreID().String() != want {
			t.Errorf("%s: core id %s, want %s", f.Short(), c.CoreID(), want)
		}
	}
}

// inUTF8 writes a subject as other authorities do, where Go takes PrintableString.
func inUTF8(c *x509.Certificate) {
	var all pkix.RDNSequence
	for _, rdn := range c.Subject.ToRDNSequence() {
		for i := range rdn {
			rdn[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(rdn[i].Value.(string))}
		}
		all = append(all, rdn)
	}
	c.RawSubject = must(asn1.Marshal(all))
}

func TestSupersedes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := certtest.Key("P-256")
	rootKey := certtest.Key("P-256")
	root := certtest.RootWith(rootKey, "root")
	reissued := certtest.RootWith(rootKey, "root") // same name, same key, another certificate
	evil := certtest.Root("root")
	ends := func(days int) certtest.Edit { return certtest.Valid(now.Add(-time.Hour), now.AddDate(0, 0, days)) }
	under := func(a *certtest.Authority, leaf ...certtest.Edit) certchain.Chain {
		return a.Chain(a.Leaf(key.Public(), "release", leaf...))
	}
	other := pkix.Name{Country: []string{"DE"}, Organization: []string{"Acme"}, CommonName: "release"}

	e, err := Sign(t.Context(), JWS, somePayload(), kmstest.Key(key), under(root, ends(30)), Options{SigningTime: signedAt()})
	if err != nil {
		t.Fatal(err)
	}
	with := func(c certchain.Chain) Content { return must(must(e.WithChain(c)).Verify()) }
	base := with(under(root, ends(30)))
	again := must(must(Sign(t.Context(), JWS, somePayload(), kmstest.Key(key), under(root, ends(60)), Options{SigningTime: signedAt().Add(-time.Second)})).Verify())
	unverified := must(e.WithChain(under(root, ends(60)))).Unverified()

	for _, c := range []struct {
		name string
		a    Content
		want bool
	}{
		{"ends later", with(under(root, ends(31))), true},
		{"longer chain that ends later", with(under(root.Intermediate("i"), ends(31))), true},
		{"itself", base, false},
		{"ends at the same second", with(under(root, certtest.Valid(now.Add(-2*time.Hour), now.AddDate(0, 0, 30)))), false},
		{"ends earlier", with(under(root, ends(29))), false},
		{"leaf later, intermediate earlier", with(under(root.Intermediate("i", ends(10)), ends(60))), false},
		{"another root of that name", with(under(evil, ends(60))), false},
		{"root re-issued", with(under(reissued, ends(60))), false},
		{"another subject", with(under(root, ends(60), certtest.Subject(other))), false},
		{"the same subject in another string type", with(under(root, ends(60), inUTF8)), true},
		{"signed again", again, false},
		{"not verified", unverified, false},
		{"nothing", Content{}, false},
	} {
		if got := c.a.Supersedes(base); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if c.a.Supersedes(base) && base.Supersedes(c.a) {
			t.Errorf("%s: both supersede each other", c.name)
		}
		if c.a.Supersedes(c.a) {
			t.Errorf("%s: supersedes itself", c.name)
		}
	}
	if (Content{}).Supersedes(Content{}) || unverified.Supersedes(unverified) {
		t.Error("what is not verified supersedes")
	}
}

func TestReasonsAreSentences(t *testing.T) {
	t.Parallel()
	for code, sentence := range Reasons() {
		if code != strings.ToLower(code) || strings.ContainsAny(code, " _") || !strings.HasSuffix(sentence, ".") {
			t.Errorf("%s: %s", code, sentence)
		}
	}
}
