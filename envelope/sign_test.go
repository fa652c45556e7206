package envelope

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

func somePayload() Payload {
	return Payload{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: goodDigest, Size: 7}
}

// signed makes an envelope of ours.
func signed(t *testing.T, f Format, n int, algorithm string) *Envelope {
	t.Helper()
	key, chain := certtest.ChainOf(n, algorithm)
	e, err := Sign(t.Context(), f, somePayload(), kmstest.Key(key), chain, Options{SigningTime: signedAt()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSignSaysWhatItWasTold(t *testing.T) {
	t.Parallel()
	key, chain := certtest.ChainOf(3, "P-256")
	for _, f := range []Format{JWS, COSE} {
		t.Run(f.Short(), func(t *testing.T) {
			t.Parallel()
			now, p := signedAt(), somePayload()
			p.Annotations = map[string]string{ClaimsAnnotation: EncodeClaims([]string{"1.4", "1"}), "a": "b"}
			o := Options{SigningTime: now.Add(time.Millisecond).In(time.FixedZone("east", 3600)), Expiry: now.Add(time.Hour), Agent: "imprint/1 <&>"}
			k := kmstest.Key(key)
			e, err := Sign(t.Context(), f, p, k, chain, o)
			if err != nil {
				t.Fatal(err)
			}
			if n := k.Calls.Load(); n != 1 {
				t.Errorf("the key signed %d times", n)
			}
			parsed, err := Parse(string(f), e.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			got, err := parsed.Verify()
			if err != nil {
				t.Fatal(err)
			}
			want := Content{
				Format: f, Algorithm: "ES256", Scheme: SchemeX509, Payload: p, SigningTime: now, Expiry: o.Expiry, Agent: o.Agent,
			}
			shown := func(c Content) Content {
				return Content{Format: c.Format, Algorithm: c.Algorithm, Scheme: c.Scheme, Payload: c.Payload, SigningTime: c.SigningTime, AuthenticTime: c.AuthenticTime, Expiry: c.Expiry,
					Agent: c.Agent, Extended: c.Extended, Timestamp: c.Timestamp}
			}
			if d := cmp.Diff(shown(want), shown(got), cmp.AllowUnexported(Content{})); d != "" {
				t.Errorf("content (-want +got):\n%s", d)
			}
			if !got.SignedAt().Equal(got.SigningTime) {
				t.Errorf("signed at %v", got.SignedAt())
			}
			if !got.Chain.Equal(chain) {
				t.Error("another chain")
			}
			claims, present, err := got.Payload.Claims()
			if d := cmp.Diff([]string{"1", "1.4"}, claims); d != "" || !present || err != nil {
				t.Errorf("claims %v %v %v", claims, present, err)
			}
			if u := parsed.Unverified(); u.CoreID() != "" || got.CoreID() == "" || u.Payload.Digest != p.Digest {
				t.Errorf("core ids: unverified %q, verified %q", u.CoreID(), got.CoreID())
			}
		})
	}
}

// TestJWSBytes fixes what we write to the byte, the signature apart.
func TestJWSBytes(t *testing.T) {
	t.Parallel()
	key, chain := certtest.ChainOf(1, "P-256", certtest.Valid(time.Unix(1700000000, 0), time.Unix(1900000000, 0)))
	p := somePayload()
	p.Annotations = map[string]string{"b": "<&>\u2028", "a": "1"}
	e, err := Sign(t.Context(), JWS, p, kmstest.Key(key), chain, Options{SigningTime: time.Unix(1795341600, 5), Expiry: time.Unix(1795341601, 0)})
	if err != nil {
		t.Fatal(err)
	}
	c := e.Unverified()
	wantProtected := `{"alg":"ES256","crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"],"cty":"application/vnd.cncf.notary.payload.v1+json",` +
		`"io.cncf.notary.expiry":"2026-11-22T10:00:01Z","io.cncf.notary.signingScheme":"notary.x509","io.cncf.notary.signingTime":"2026-11-22T10:00:00Z"}`
	if d := cmp.Diff(wantProtected, string(c.Protected)); d != "" {
		t.Error(d)
	}
	wantPayload := `{"targetArtifact":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + goodDigest + `","size":7,"annotations":{"a":"1","b":"<&>\u2028"}}}`
	if d := cmp.Diff(wantPayload, string(c.Signed)); d != "" {
		t.Error(d)
	}
	f := forger{chain: chain}
	wantWhole := `{"payload":"` + b64(wantPayload) + `","protected":"` + b64(wantProtected) + `","header":{"x5c":` + f.x5c() + `},"signature":"` + b64(string(c.Signature)) + `"}`
	if d := cmp.Diff(wantWhole, string(e.Bytes())); d != "" {
		t.Error(d)
	}
}

// TestCOSEBytes does the same for COSE.
func TestCOSEBytes(t *testing.T) {
	t.Parallel()
	key, chain := certtest.ChainOf(1, "P-256", certtest.Valid(time.Unix(1700000000, 0), time.Unix(1900000000, 0)))
	e, err := Sign(t.Context(), COSE, somePayload(), kmstest.Key(key), chain, Options{SigningTime: time.Unix(1795341600, 5), Expiry: time.Unix(1795341601, 0)})
	if err != nil {
		t.Fatal(err)
	}
	f := forger{key: key, chain: chain, alg: "ES256", hash: crypto.SHA256}
	want := f.cose(coseParts{
		protected: pairs{ // in the order of RFC 8949, 4.2.1
			1, -7,
			2, []any{"io.cncf.notary.signingScheme", "io.cncf.notary.expiry"},
			3, PayloadType,
			"io.cncf.notary.expiry", tagged(1795341601),
			"io.cncf.notary.signingTime", tagged(1795341600),
			"io.cncf.notary.signingScheme", "notary.x509",
		},
		signature: e.Unverified().Signature,
	})
	if !bytes.Equal(want, e.Bytes()) {
		t.Errorf("got  %x\nwant %x", e.Bytes(), want)
	}
}

// TestNothingSignedBeforeTheChecks: every wrong input is refused before the key is asked.
func TestNothingSignedBeforeTheChecks(t *testing.T) {
	t.Parallel()
	key, good := certtest.ChainOf(3, "P-256")
	_, others := certtest.ChainOf(3, "P-256")
	root := certtest.Root("root")
	now := signedAt()
	ok := Options{SigningTime: now}
	payload := func(edit func(*Payload)) Payload {
		p := somePayload()
		edit(&p)
		return p
	}
	note := func(k, v string) Payload {
		return payload(func(p *Payload) { p.Annotations = map[string]string{k: v} })
	}
	many := map[string]string{}
	for i := range 10000 {
		many[fmt.Sprintf("key-%04d", i)] = "v"
	}
	for _, c := range []struct {
		id    string
		p     Payload
		chain []*x509.Certificate
		o     Options
		code  string // "": the reason is certchain's
		is    error
	}{
		{"A01 chain of another key", somePayload(), others, ok, "", certchain.ErrKeyMismatch},
		{"A06 empty chain", somePayload(), nil, ok, codeChainMalformed, nil},
		{"A06 chain without root", somePayload(), good[:2], ok, "", certchain.ErrIncomplete},
		{"A06 leaf only", somePayload(), good[:1], ok, "", nil},
		{"A06 expired leaf", somePayload(), root.Chain(root.Leaf(key.Public(), "old", certtest.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour)))), ok, "", nil},
		{"A05 leaf for a server", somePayload(), root.Chain(root.Leaf(key.Public(), "tls", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), ok, "", nil},
		{"A15 negative size", payload(func(p *Payload) { p.Size = -1 }), good, ok, codePayload, nil},
		{"A16 invalid UTF-8 value", note("a", "\xff"), good, ok, codePayload, nil},
		{"A16 invalid UTF-8 key", note("\xff", "a"), good, ok, codePayload, nil},
		{"A16 1 MiB", note("a", strings.Repeat("x", 1<<20)), good, ok, codePayload, nil},
		{"A16 64 KiB and one", note("a", strings.Repeat("x", 64<<10)), good, ok, codePayload, nil},
		{"A16 10,000 keys", payload(func(p *Payload) { p.Annotations = many }), good, ok, codePayload, nil},
		{"A16 reserved prefix", note("io.cncf.notary.x", "a"), good, ok, codePayload, nil},
		{"A16 empty key", note("", "a"), good, ok, codePayload, nil},
		{"claims not JSON", note(ClaimsAnnotation, "1.4"), good, ok, codeClaims, nil},
		{"claims not canonical", note(ClaimsAnnotation, `["b","a"]`), good, ok, codeClaims, nil},
		{"claims with white space", note(ClaimsAnnotation, `["a", "b"]`), good, ok, codeClaims, nil},
		{"digest sha1", payload(func(p *Payload) { p.Digest = "sha1:a94a8fe5ccb19ba61c4c0873d391e987982fbbd3" }), good, ok, codePayload, nil},
		{"digest upper case", payload(func(p *Payload) { p.Digest = digest.Digest("sha256:" + strings.Repeat("A", 64)) }), good, ok, codePayload, nil},
		{"media type", payload(func(p *Payload) { p.MediaType = "manifest" }), good, ok, codePayload, nil},
		{"media type missing", payload(func(p *Payload) { p.MediaType = "" }), good, ok, codePayload, nil},
		{"A18 expiry at signing time", somePayload(), good, Options{SigningTime: now, Expiry: now}, codeTime, nil},
		{"A18 expiry within the second", somePayload(), good, Options{SigningTime: now, Expiry: now.Add(time.Millisecond)}, codeTime, nil},
		{"A18 expiry before", somePayload(), good, Options{SigningTime: now, Expiry: now.Add(-time.Hour)}, codeTime, nil},
		{"A18 expiry overflows", somePayload(), good, Options{SigningTime: now, Expiry: time.Unix(1<<40, 0)}, codeTime, nil},
		{"no signing time", somePayload(), good, Options{}, codeTime, nil},
		{"A19 clock at 1970", somePayload(), good, Options{SigningTime: time.Unix(1, 0)}, "", nil},
		{"A19 clock at 2100", somePayload(), good, Options{SigningTime: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, "", nil},
		{"agent not UTF-8", somePayload(), good, Options{SigningTime: now, Agent: "\xff"}, codeMalformed, nil},
		{"agent of 1 MiB", somePayload(), good, Options{SigningTime: now, Agent: strings.Repeat("a", 1<<20)}, codeTooLarge, nil},
	} {
		for _, f := range []Format{JWS, COSE} {
			t.Run(c.id+" "+f.Short(), func(t *testing.T) {
				t.Parallel()
				k := kmstest.Key(key)
				_, err := Sign(t.Context(), f, c.p, k, c.chain, c.o)
				switch {
				case err == nil:
					t.Error("signed")
				case c.code != "":
					wantReason(t, err, c.code)
				case c.is != nil && !errors.Is(err, c.is):
					t.Errorf("error %v, want %v", err, c.is)
				}
				if errors.Is(err, ErrKeyMisbehaved) {
					t.Errorf("the key is blamed: %v", err)
				}
				if n := k.Calls.Load(); n != 0 {
					t.Errorf("the key signed %d times", n)
				}
			})
		}
	}
	k := kmstest.Key(key)
	if _, err := Sign(t.Context(), "application/json", somePayload(), k, good, ok); err == nil || k.Calls.Load() != 0 {
		t.Errorf("another format: %v, %d calls", err, k.Calls.Load())
	}
}

// TestA16AnnotationsRoundTrip: what is hard to write is read back exactly, by us and as plain JSON.
func TestA16AnnotationsRoundTrip(t *testing.T) {
	t.Parallel()
	key, chain := certtest.ChainOf(1, "P-256")
	p := somePayload()
	p.Size = 1<<53 + 1
	p.Annotations = map[string]string{"html": "<&>'\"", "separators": "\u2028\u2029", "nul": "\x00\x1f\x7f", "emoji \U0001f600": "\ufffd\ufeff", "a\\ud800": `\ud800`,
		"large": strings.Repeat("x", 60<<10)}
	for _, f := range []Format{JWS, COSE} {
		e, err := Sign(t.Context(), f, p, kmstest.Key(key), chain, Options{SigningTime: signedAt()})
		if err != nil {
			t.Fatal(err)
		}
		c, err := judge(f, e.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !c.Payload.Equal(p) {
			t.Errorf("%s: %v", f.Short(), c.Payload)
		}
		if bytes.Contains(c.Signed, []byte(`\u003c`)) {
			t.Errorf("%s: HTML escaping: %s", f.Short(), c.Signed[:200])
		}
	}
}

// A crooked key returns what change makes of a right signature.
type crooked struct {
	crypto.Signer
	change func(message, sig []byte) []byte
}

func (c crooked) Sign(_ context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	h := opts.HashFunc().New()
	h.Write(message)
	sig, err := c.Signer.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		return nil, err
	}
	return c.change(message, sig), nil
}

func TestA02KeyMisbehaves(t *testing.T) {
	t.Parallel()
	other := certtest.Key("P-256").(*ecdsa.PrivateKey)
	der := func(r, s *big.Int) []byte { return must(asn1.Marshal(ecdsaSignature{r, s})) }
	split := func(sig []byte) (r, s *big.Int) {
		var rs ecdsaSignature
		must(asn1.Unmarshal(sig, &rs))
		return rs.R, rs.S
	}
	n := other.Params().N
	ec := map[string]func(message, sig []byte) []byte{
		"A02 another key": func(m, _ []byte) []byte {
			h := crypto.SHA256.New()
			h.Write(m)
			return must(ecdsa.SignASN1(rand.Reader, other, h.Sum(nil)))
		},
		"A02 another message": func(_, _ []byte) []byte { return must(ecdsa.SignASN1(rand.Reader, other, make([]byte, 32))) },
		"A02 r and s instead of DER": func(_, sig []byte) []byte {
			r, s := split(sig)
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		},
		"A02 trailing byte": func(_, sig []byte) []byte { return append(sig, 0) },
		"A02 cut short":     func(_, sig []byte) []byte { return sig[:len(sig)-1] },
		"A02 BER length":    func(_, sig []byte) []byte { return append([]byte{sig[0], 0x81, sig[1]}, sig[2:]...) },
		"A02 padded integer": func(_, sig []byte) []byte {
			out := append([]byte{0x30, sig[1] + 1, 0x02, sig[3] + 1, 0x00}, sig[4:]...)
			return out
		},
		"A02 third integer": func(_, sig []byte) []byte {
			r, s := split(sig)
			return must(asn1.Marshal(struct{ R, S, X *big.Int }{r, s, big.NewInt(1)}))
		},
		"A02 empty":   func(_, _ []byte) []byte { return nil },
		"A02 r zero":  func(_, sig []byte) []byte { _, s := split(sig); return der(new(big.Int), s) },
		"A02 s zero":  func(_, sig []byte) []byte { r, _ := split(sig); return der(r, new(big.Int)) },
		"A02 s + n":   func(_, sig []byte) []byte { r, s := split(sig); return der(r, s.Add(s, n)) },
		"A02 r - n":   func(_, sig []byte) []byte { r, s := split(sig); return der(r.Sub(r, n), s) },
		"A02 r is n":  func(_, sig []byte) []byte { _, s := split(sig); return der(n, s) },
		"A02 swapped": func(_, sig []byte) []byte { r, s := split(sig); return der(s, r) },
		"A02 huge":    func(_, _ []byte) []byte { return der(new(big.Int).Lsh(big.NewInt(1), 1<<16), big.NewInt(1)) },
	}
	pss := func(salt int, hash crypto.Hash) func(m, _ []byte) []byte {
		return func(m, _ []byte) []byte {
			h := hash.New()
			h.Write(m)
			return must(rsa.SignPSS(rand.Reader, certtest.Key("RSA-2048").(*rsa.PrivateKey), hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: salt}))
		}
	}
	rsaCases := map[string]func(message, sig []byte) []byte{
		"A03 salt 20":      pss(20, crypto.SHA256),
		"A03 largest salt": pss(rsa.PSSSaltLengthAuto, crypto.SHA256),
		"A02 another hash": pss(rsa.PSSSaltLengthEqualsHash, crypto.SHA512),
		"A02 PKCS #1 v1.5": func(m, _ []byte) []byte {
			h := crypto.SHA256.New()
			h.Write(m)
			return must(rsa.SignPKCS1v15(nil, certtest.Key("RSA-2048").(*rsa.PrivateKey), crypto.SHA256, h.Sum(nil)))
		},
		"A02 leading zero":  func(_, sig []byte) []byte { return append([]byte{0}, sig...) },
		"A02 a byte short":  func(_, sig []byte) []byte { return sig[1:] },
		"A02 one bit":       func(_, sig []byte) []byte { sig[9] ^= 1; return sig },
		"A02 all bits high": func(_, sig []byte) []byte { return bytes.Repeat([]byte{0xff}, len(sig)) },
	}
	run := func(name string, key crypto.Signer, chain []*x509.Certificate, change func(message, sig []byte) []byte) {
		for _, f := range []Format{JWS, COSE} {
			t.Run(name+" "+f.Short(), func(t *testing.T) {
				t.Parallel()
				e, err := Sign(t.Context(), f, somePayload(), crooked{key, change}, chain, Options{SigningTime: signedAt()})
				if e != nil || !errors.Is(err, ErrKeyMisbehaved) {
					t.Errorf("got %v, want %v", err, ErrKeyMisbehaved)
				}
				wantReason(t, err, codeKey)
			})
		}
	}
	key, chain := certtest.ChainOf(2, "P-256")
	for _, name := range sortedKeys(ec) {
		run(name, key, chain, ec[name])
	}
	key, chain = certtest.ChainOf(2, "RSA-2048")
	for _, name := range sortedKeys(rsaCases) {
		run(name, key, chain, rsaCases[name])
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var all []string
	for k := range maps.Keys(m) {
		all = append(all, k)
	}
	return all
}

// failing is a key whose service is down.
type failing struct{ crypto.Signer }

func (failing) Sign(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, fmt.Errorf("throttled: %w", kms.ErrService)
}

func TestKeyServiceErrorIsKept(t *testing.T) {
	t.Parallel()
	key, chain := certtest.ChainOf(1, "P-256")
	for _, f := range []Format{JWS, COSE} {
		_, err := Sign(t.Context(), f, somePayload(), failing{key}, chain, Options{SigningTime: signedAt()})
		if !errors.Is(err, kms.ErrService) || errors.Is(err, ErrKeyMisbehaved) {
			t.Errorf("%s: %v", f.Short(), err)
		}
	}
}

func TestA04Key(t *testing.T) {
	t.Parallel()
	key := kmstest.Key(certtest.Key("P-224"))
	_, err := Sign(t.Context(), JWS, somePayload(), key, nil, Options{SigningTime: signedAt()})
	if !errors.Is(err, kms.ErrInvalid) || key.Calls.Load() != 0 {
		t.Errorf("%v after %d calls", err, key.Calls.Load())
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []string
		want string
	}{
		{nil, `[]`},
		{[]string{}, `[]`},
		{[]string{"b", "a", "b"}, `["a","b"]`},
		{[]string{"reg.example/app:1.4", "<&>"}, `["<&>","reg.example/app:1.4"]`},
	} {
		got := EncodeClaims(c.in)
		if got != c.want {
			t.Errorf("EncodeClaims(%q) = %s, want %s", c.in, got, c.want)
		}
		back, present, err := Payload{Annotations: map[string]string{ClaimsAnnotation: got}}.Claims()
		if err != nil || !present || EncodeClaims(back) != got {
			t.Errorf("read back %q: %v %v %v", got, back, present, err)
		}
	}
	for _, bad := range []string{``, `null`, `{}`, `"1.4"`, `[1]`, `["a",null]`, `["a"]x`, `["a"`, `["\ud800"]`, "[\"\xff\"]", `[["a"]]`} {
		_, _, err := Payload{Annotations: map[string]string{ClaimsAnnotation: bad}}.Claims()
		if err == nil {
			t.Errorf("claims %q accepted", bad)
			continue
		}
		wantReason(t, err, codeClaims)
	}
	if claims, present, err := (Payload{}).Claims(); claims != nil || present || err != nil {
		t.Errorf("no claims: %v %v %v", claims, present, err)
	}
}

func TestV14PayloadEqual(t *testing.T) {
	t.Parallel()
	p := somePayload()
	for name, edit := range map[string]func(*Payload){
		"size":       func(o *Payload) { o.Size++ },
		"media type": func(o *Payload) { o.MediaType += "x" },
		"digest":     func(o *Payload) { o.Digest = digest.FromString("x") },
		"annotation": func(o *Payload) { o.Annotations = map[string]string{"a": ""} },
	} {
		o := p
		edit(&o)
		if p.Equal(o) || o.Equal(p) {
			t.Errorf("%s: equal", name)
		}
	}
	o := p
	o.Annotations = map[string]string{}
	if !p.Equal(o) {
		t.Error("no annotations and none are different")
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		if got, err := ParseFormat(f.Short()); got != f || err != nil {
			t.Errorf("%s: %v %v", f.Short(), got, err)
		}
	}
	for _, bad := range []string{"", "JWS", "jwt", "application/cose"} {
		_, err := ParseFormat(bad)
		wantReason(t, err, codeFormat)
	}
}
