package envelope

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
)

// token makes the shell of an RFC 3161 token: what it says, signed by nobody, since nothing here looks at its signature.
func token(message []byte, at time.Time, accuracy []int, policy asn1.ObjectIdentifier) []byte {
	type imprint struct {
		Algorithm pkix.AlgorithmIdentifier
		Hash      []byte
	}
	h := sha256.Sum256(message)
	var seconds asn1.RawValue
	if accuracy != nil {
		var inner []byte
		for i, n := range accuracy {
			b := must(asn1.Marshal(n))
			if i > 0 {
				b[0] = 0x80 | byte(i-1)
			}
			if n != 0 || i == 0 {
				inner = append(inner, b...)
			}
		}
		seconds = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: inner}
	}
	info := struct {
		Version  int
		Policy   asn1.ObjectIdentifier
		Imprint  imprint
		Serial   *big.Int
		Time     time.Time     `asn1:"generalized"`
		Accuracy asn1.RawValue `asn1:"optional"`
	}{1, policy, imprint{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}, h[:]}, big.NewInt(1), at.UTC(), seconds}
	type content struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}
	signed := struct {
		Version    int
		Algorithms []pkix.AlgorithmIdentifier `asn1:"set"`
		Content    content
		Signers    []asn1.RawValue `asn1:"set"`
	}{3, nil, content{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}, must(asn1.Marshal(info))}, nil}
	return must(asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content any `asn1:"explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, signed}))
}

var (
	somePolicy     = asn1.ObjectIdentifier{1, 2, 3, 4}
	baselinePolicy = asn1.ObjectIdentifier{0, 4, 0, 2023, 1, 1} // ETSI EN 319 421
)

func TestTimestampRange(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	sig := []byte("signature")
	for _, c := range []struct {
		name  string
		token []byte
		plus  time.Duration
		code  string
	}{
		{"no accuracy", token(sig, at, nil, somePolicy), 0, ""},
		{"no accuracy, baseline policy", token(sig, at, nil, baselinePolicy), time.Second, ""},
		{"seconds", token(sig, at, []int{2}, somePolicy), 2 * time.Second, ""},
		{"seconds, millis, micros", token(sig, at, []int{2, 3, 4}, somePolicy), 2*time.Second + 3*time.Millisecond + 4*time.Microsecond, ""},
		{"X10 a year", token(sig, at, []int{365 * 24 * 3600}, somePolicy), 365 * 24 * time.Hour, ""},
		{"X10 overflows", token(sig, at, []int{1 << 62}, somePolicy), 0, codeTimestamp},
		{"X10 negative", token(sig, at, []int{-1}, somePolicy), 0, codeTimestamp},
		{"X10 millis out of bounds", token(sig, at, []int{1, 1000}, somePolicy), 0, codeTimestamp},
		{"X11 over another signature", token([]byte("other"), at, nil, somePolicy), 0, codeTimestamp},
		{"X12 garbage", []byte("garbage"), 0, codeTimestamp},
		{"X12 cut short", token(sig, at, nil, somePolicy)[:40], 0, codeTimestamp},
		{"X12 empty sequence", []byte{0x30, 0}, 0, codeTimestamp},
	} {
		from, to, ok, err := Content{Signature: sig, Timestamp: c.token}.TimestampRange()
		wantReason(t, err, c.code)
		if c.code == "" && (!ok || !from.Equal(at.Add(-c.plus)) || !to.Equal(at.Add(c.plus))) {
			t.Errorf("%s: %v to %v (%v)", c.name, from, to, ok)
		}
		if c.code != "" && (ok || !from.IsZero() || !to.IsZero()) {
			t.Errorf("%s: a range beside the error", c.name)
		}
	}
	if _, _, ok, err := (Content{Signature: sig}).TimestampRange(); ok || err != nil {
		t.Errorf("without a token: %v %v", ok, err)
	}
}

func TestPasses(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	key := certtest.Key("P-256")
	valid := func(from, to time.Duration) certtest.Edit { return certtest.Valid(now.Add(from*24), now.Add(to*24)) }
	const d = time.Hour // ×24 above
	root := certtest.Root("root", valid(-3000*d, 3000*d))
	intermediate := root.Intermediate("intermediate", valid(-900*d, 900*d))
	chain := func(edits ...certtest.Edit) certchain.Chain {
		return intermediate.Chain(intermediate.Leaf(key.Public(), "leaf", edits...))
	}
	good := chain(valid(-100*d, 100*d))
	expired := chain(valid(-100*d, -10*d))
	future := chain(valid(10*d, 100*d))
	renewed := root.Intermediate("intermediate", valid(-20*d, 900*d)) // NotBefore after the timestamp: a trap
	trap := renewed.Chain(renewed.Leaf(key.Public(), "leaf", valid(-100*d, 100*d)))
	old := root.Intermediate("old", valid(-900*d, -10*d))
	oldCA := old.Chain(old.Leaf(key.Public(), "leaf", valid(-100*d, 100*d)))
	sig := []byte("signature")
	at := func(t time.Duration, accuracy ...int) []byte { return token(sig, now.Add(t), accuracy, somePolicy) }

	for _, c := range []struct {
		name    string
		chain   certchain.Chain
		token   []byte
		scheme  string
		sa      time.Time
		passing [3]bool // of Settings()
	}{
		{"valid, no token", good, nil, SchemeX509, time.Time{}, [3]bool{true, false, true}},
		{"valid, token inside", good, at(-50 * day), SchemeX509, time.Time{}, [3]bool{true, true, true}},
		{"valid, token garbage", good, []byte("x"), SchemeX509, time.Time{}, [3]bool{true, false, true}},
		{"valid, token of another signature", good, token([]byte("x"), now, nil, somePolicy), SchemeX509, time.Time{}, [3]bool{true, false, true}},
		{"valid, token before the leaf", good, at(-200 * day), SchemeX509, time.Time{}, [3]bool{true, false, true}},
		{"expired leaf, no token", expired, nil, SchemeX509, time.Time{}, [3]bool{false, false, false}},
		{"X09 expired leaf, token inside", expired, at(-50 * day), SchemeX509, time.Time{}, [3]bool{false, true, true}},
		{"expired leaf, token after it", expired, at(-5 * day), SchemeX509, time.Time{}, [3]bool{false, false, false}},
		{"X10 token reaches over NotAfter", expired, at(-10*day, 1), SchemeX509, time.Time{}, [3]bool{false, false, false}},
		{"token ends at NotAfter", expired, at(-10*day-time.Second, 1), SchemeX509, time.Time{}, [3]bool{false, true, true}},
		{"X10 token reaches under NotBefore", good, at(-100*day, 1), SchemeX509, time.Time{}, [3]bool{true, false, true}},
		{"token starts at NotBefore", good, at(-100 * day), SchemeX509, time.Time{}, [3]bool{true, true, true}},
		{"X08 expired intermediate, no token", oldCA, nil, SchemeX509, time.Time{}, [3]bool{false, false, false}},
		{"expired intermediate, token inside", oldCA, at(-50 * day), SchemeX509, time.Time{}, [3]bool{false, true, true}},
		{"K12 renewed intermediate starts after the token", trap, at(-50 * day), SchemeX509, time.Time{}, [3]bool{true, false, true}},
		{"not valid yet, no token", future, nil, SchemeX509, time.Time{}, [3]bool{false, false, false}},
		{"not valid yet, token inside", future, at(50 * day), SchemeX509, time.Time{}, [3]bool{false, true, false}},
		{"signing authority, inside", expired, nil, SchemeSigningAuthority, now.Add(-50 * day), [3]bool{true, true, true}},
		{"signing authority, outside", trap, nil, SchemeSigningAuthority, now.Add(-50 * day), [3]bool{false, false, false}},
		{"signing authority, a token does not help", trap, at(-5 * day), SchemeSigningAuthority, now.Add(-50 * day), [3]bool{false, false, false}},
	} {
		content := Content{Scheme: c.scheme, AuthenticTime: c.sa, Chain: c.chain, Timestamp: c.token, Signature: sig}
		for i, s := range Settings() {
			ok, why := content.Passes(s, now)
			if ok != c.passing[i] {
				t.Errorf("%s: %s: %v (%s)", c.name, s, ok, why)
			}
			if ok != (why == "") {
				t.Errorf("%s: %s: %v, but %q", c.name, s, ok, why)
			}
		}
	}
	if ok, _ := (Content{Scheme: SchemeX509, Chain: good}).Passes("else", now); ok {
		t.Error("an unknown setting passes")
	}
	if _, why := (Content{Scheme: SchemeX509, Chain: oldCA}).Passes(NoTSARoot, now); !strings.Contains(why, "CN=old") || !strings.Contains(why, "2026-05-22") {
		t.Errorf("the certificate that ended is not named: %s", why)
	}
	// The edges of validity belong to it.
	for _, edge := range []time.Duration{-100 * day, 100 * day} {
		if ok, why := (Content{Scheme: SchemeX509, Chain: good}).Passes(NoTSARoot, now.Add(edge)); !ok {
			t.Error(why)
		}
	}
	if ok, _ := (Content{Scheme: SchemeX509, Chain: good}).Passes(NoTSARoot, now.Add(100*day+1)); ok {
		t.Error("passes a nanosecond after the end")
	}
}

// TestTimestampIsCarried: a token in an envelope is read back and survives another chain.
func TestTimestampIsCarried(t *testing.T) {
	t.Parallel()
	r := renew("P-256")
	for _, f := range []Format{JWS, COSE} {
		fo := forger{key: r.key, chain: r.old, alg: "ES256", hash: crypto.SHA256}
		b := fo.jws(jwsParts{header: `{"io.cncf.notary.timestampSignature":"dG9rZW4=","x5c":%C}`})
		if f == COSE {
			b = fo.cose(coseParts{unprotected: pairs{"io.cncf.notary.timestampSignature", []byte("token"), 33, fo.x5chain()}})
		}
		e, err := must(Parse(string(f), b)).WithChain(r.new)
		if err != nil {
			t.Fatal(err)
		}
		c := e.Unverified()
		if string(c.Timestamp) != "token" {
			t.Errorf("%s: token %q", f.Short(), c.Timestamp)
		}
		var refused *Error
		if _, _, _, err := c.TimestampRange(); !errors.As(err, &refused) || refused.Code != codeTimestamp {
			t.Errorf("%s: %v", f.Short(), err)
		}
	}
}

// FuzzTimestamp: a token comes from anybody.
func FuzzTimestamp(f *testing.F) {
	sig := []byte("signature")
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	f.Add(token(sig, at, nil, baselinePolicy))
	f.Add(token(sig, at, []int{2, 3, 4}, somePolicy))
	f.Fuzz(func(t *testing.T, b []byte) {
		from, to, ok, err := Content{Signature: sig, Timestamp: b}.TimestampRange()
		if ok && (err != nil || to.Before(from) || to.Sub(from) > 2*maxAccuracy+2*time.Second) {
			t.Fatalf("from %v to %v: %v", from, to, err)
		}
		if err != nil && ok {
			t.Fatal("a range beside the error")
		}
	})
}
