package envelope

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestForgedCOSEIsGood(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "P-384", "P-521", "RSA-2048"} {
		_, err := judge(COSE, newForger(2, algorithm).cose(coseParts{}))
		wantReason(t, err, "")
	}
}

// TestCOSE has the cases of envelopes (V01 and on) in their COSE form. Each envelope is signed by the leaf's key as it stands.
func TestCOSE(t *testing.T) {
	t.Parallel()
	f := newForger(2, "P-256")
	good := f.cose(coseParts{})
	gp := f.coseProtected()
	prot := func(p any) []byte { return f.cose(coseParts{protected: p}) }
	unprot := func(more ...any) []byte {
		return f.cose(coseParts{unprotected: append(pairs{33, f.x5chain()}, more...)})
	}
	chain := func(v any) []byte { return f.cose(coseParts{unprotected: pairs{33, v}}) }
	const scheme, signed, authentic, expiry = "io.cncf.notary.signingScheme", "io.cncf.notary.signingTime", "io.cncf.notary.authenticSigningTime", "io.cncf.notary.expiry"
	crit := func(v ...any) pairs { return gp.with(2, v) }
	expires := func(v any) []byte { return prot(append(crit(scheme, expiry), expiry, v)) }
	repeat := func(n int) []any {
		all := []any{f.chain[0].Raw}
		for len(all) < n {
			all = append(all, f.chain[1].Raw)
		}
		return all
	}
	// The same integer in a longer form: {1: -7} as 01 3806.
	longAlg := raw{0x38, 0x06}
	sigParts := func(change func(parts []raw) []raw) []byte {
		var parts []raw
		if err := cbor.Unmarshal(good[1:], &parts); err != nil {
			panic(err)
		}
		return append([]byte{0xd2}, enc(change(parts))...)
	}
	indefinite := func(item []byte, major byte) raw { // one chunk of an indefinite string, or an indefinite array or map
		return append(append([]byte{major<<5 | 0x1f}, item...), 0xff)
	}

	for _, c := range []struct {
		id   string
		b    []byte
		code string
	}{
		{"V01 EdDSA", prot(gp.with(1, -8)), codeAlgorithm},
		{"V01 RS256", prot(gp.with(1, -257)), codeAlgorithm},
		{"V01 ES256K", prot(gp.with(1, -47)), codeAlgorithm},
		{"V01 HS256", prot(gp.with(1, 5)), codeAlgorithm},
		{"V01 none", prot(gp.with(1, 0)), codeAlgorithm},
		{"V01 text", prot(gp.with(1, "ES256")), codeAlgorithm},
		{"V01 bytes", prot(gp.with(1, []byte("ES256"))), codeAlgorithm},
		{"V01 missing", prot(gp.without(1)), codeAlgorithm},
		{"V01 only in the unprotected header", f.cose(coseParts{protected: gp.without(1), unprotected: pairs{1, -7, 33, f.x5chain()}}), codeAlgorithm},
		{"V02 ES384 with P-256", prot(gp.with(1, -35)), codeAlgorithmMismatch},
		{"V02 PS256 with P-256", prot(gp.with(1, -37)), codeAlgorithmMismatch},

		{"V03 duplicate key in protected", prot(append(gp, 1, -7)), codeMalformed},
		{"V03 duplicate key in an extension", prot(append(gp, "com.example.x", pairs{1, 1, 1, 1})), codeMalformed},
		{"V03 duplicate key in unprotected", unprot(33, f.x5chain()), codeMalformed},
		{"V03 duplicate text key in unprotected", unprot("a", 1, "a", 1), codeMalformed},
		{"V04 case variant in protected", prot(append(gp, "io.cncf.notary.Expiry", tagged(1))), codeAttribute},
		{"V04 case variant in unprotected", unprot("io.cncf.notary.SigningAgent", "a"), codeMalformed},
		{"V05 nesting", prot(append(gp, "com.example.x", raw(append(bytes.Repeat([]byte{0x81}, 20), 0)))), codeMalformed},
		{"V05 nesting 10^5", unprot("a", raw(append(bytes.Repeat([]byte{0x81}, 1e5), 0))), codeMalformed},
		{"V05 empty", []byte{}, codeMalformed},
		{"V05 array of 3", sigParts(func(p []raw) []raw { return p[:3] }), codeMalformed},
		{"V05 array of 5", sigParts(func(p []raw) []raw { return append(p, raw{0}) }), codeMalformed},
		{"V05 payload a text", f.cose(coseParts{payload: goodPayload}), codeMalformed},
		{"V05 protected a map", sigParts(func(p []raw) []raw { p[0] = enc(gp); return p }), codeMalformed},
		{"V05 protected empty", sigParts(func(p []raw) []raw { p[0] = raw{0x40}; return p }), codeMalformed},
		{"V05 protected an array", prot([]any{1, -7}), codeMalformed},
		{"V05 protected with something after it", prot(raw(append(enc(gp), 0))), codeMalformed},
		{"V05 invalid UTF-8", prot(append(gp, "com.example.x", raw{0x61, 0xff})), codeMalformed},
		{"V05 label of bytes", prot(append(gp, []byte("com.example.x"), 1)), codeMalformed},
		{"V05 label of float", unprot(1.5, 1), codeMalformed},

		{"V07 kid", prot(append(gp, 4, []byte("a"))), codeAttribute},
		{"V07 x5u", prot(append(gp, 35, "http://127.0.0.1/")), codeAttribute},
		{"V07 without a dot", prot(append(gp, "example", 1)), codeAttribute},
		{"V07 extension", prot(append(gp, "com.example.build", map[string]int{"n": 1})), ""},
		{"V08 crit missing", prot(gp.without(2)), codeCritical},
		{"V08 crit empty", prot(gp.with(2, []any{})), codeCritical},
		{"V08 crit a text", prot(gp.with(2, scheme)), codeCritical},
		{"V08 crit of bytes", prot(crit(scheme, []byte(expiry))), codeCritical},
		{"V08 duplicate entries", prot(crit(scheme, scheme)), codeCritical},
		{"V08 lists absent header", prot(crit(scheme, expiry)), codeCritical},
		{"V08 lists alg", prot(crit(scheme, 1)), codeCritical},
		{"V08 lists cty", prot(crit(scheme, 3)), codeCritical},
		{"V08 lists signingTime", prot(crit(scheme, signed)), codeCritical},
		{"V08 lacks signingScheme", prot(crit(signed)), codeCritical},
		{"V08 lacks expiry", prot(append(gp, expiry, tagged(1795341601))), codeCritical},
		{"V09 unknown critical attribute", prot(append(crit(scheme, "com.example.x"), "com.example.x", 1)), codeCriticalUnknown},
		{"V09 unknown critical label", prot(append(crit(scheme, 99), 99, 1)), codeCriticalUnknown},
		{"V09 verificationPlugin", prot(append(crit(scheme, "io.cncf.notary.verificationPlugin"), "io.cncf.notary.verificationPlugin", "p")), codeCriticalUnknown},
		{"V10 crit only in the unprotected header", f.cose(coseParts{protected: gp.without(2), unprotected: pairs{2, []any{scheme}, 33, f.x5chain()}}), codeCritical},

		{"V11 expiry", expires(tagged(1795341601)), ""},
		{"V11 expiry at signing time", expires(tagged(1795341600)), codeTime},
		{"V11 year 9999", expires(tagged(253402300799)), ""},
		{"V11 year 10000", expires(tagged(253402300800)), codeTime},
		{"V11 signing time missing", prot(gp.without(signed)), codeTime},
		{"V12 scheme unknown", prot(gp.with(scheme, "notary.x510")), codeScheme},
		{"V12 scheme bytes", prot(gp.with(scheme, []byte("notary.x509"))), codeMalformed},
		{"V12 notary.x509 with authenticSigningTime", prot(append(crit(scheme, authentic), authentic, tagged(1795341600))), codeTime},
		{"V12 signing authority", prot(append(crit(scheme, authentic).with(scheme, SchemeSigningAuthority).without(signed), authentic, tagged(1795341600))), ""},
		{"V13 content type", prot(gp.with(3, "application/json")), codePayload},
		{"V13 content type a number", prot(gp.with(3, 50)), codeMalformed},
		{"V13 not JSON", f.cose(coseParts{payload: []byte("hello")}), codePayload},
		{"V13 two targetArtifact", f.cose(coseParts{payload: []byte(`{"targetArtifact":{},` + goodPayload[1:])}), codePayload},
		{"V13 digest sha1", f.cose(coseParts{payload: []byte(strings.Replace(goodPayload, goodDigest, "sha1:a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", 1))}), codePayload},

		{"V18 no x5chain", f.cose(coseParts{unprotected: pairs{}}), codeChainMalformed},
		{"V18 empty x5chain", chain([]any{}), codeChainMalformed},
		{"V18 x5chain of texts", chain([]any{"a"}), codeChainMalformed},
		{"V18 certificate with trailing bytes", chain([]any{append(bytes.Clone(f.chain[0].Raw), 0), f.chain[1].Raw}), codeChainMalformed},
		{"V18 17 certificates", chain(repeat(17)), codeChainMalformed},
		{"V18 302 certificates", chain(repeat(302)), codeChainMalformed},
		{"V18 certificate over 64 KiB", chain([]any{make([]byte, 64<<10+1)}), codeChainMalformed},
		{"V18 over 1 MiB", unprot("a", make([]byte, MaxBytes)), codeTooLarge},

		{"V19 untagged", good[1:], codeMalformed},
		{"V19 tag 98", f.cose(coseParts{tag: []byte{0xd8, 98}}), codeMalformed},
		{"V19 tag 18 twice", append([]byte{0xd2}, good...), codeMalformed},
		{"V19 tag 18 in a longer form", f.cose(coseParts{tag: []byte{0xd8, 18}}), codeMalformed},
		{"V19 trailing byte", append(bytes.Clone(good), 0), codeMalformed},
		{"V19 cut short", good[:len(good)-1], codeMalformed},
		{"V19 indefinite array", append([]byte{0xd2, 0x9f}, append(bytes.Clone(good[2:]), 0xff)...), codeMalformed},
		{"V19 indefinite protected map", prot(indefinite(enc(gp)[1:], 5)), codeMalformed},
		{"V19 indefinite unprotected map", f.cose(coseParts{unprotected: indefinite(enc(pairs{33, f.x5chain()})[1:], 5)}), codeMalformed},
		{"V19 indefinite payload", sigParts(func(p []raw) []raw { p[2] = indefinite(p[2], 2); return p }), codeMalformed},
		{"V19 indefinite signature", sigParts(func(p []raw) []raw { p[3] = indefinite(p[3], 2); return p }), codeMalformed},
		{"V19 non-minimal int in protected", prot(gp.with(1, longAlg)), codeMalformed},
		{"V19 non-minimal label in protected", prot(raw(append([]byte{0xa5, 0x18, 0x01}, enc(gp)[2:]...))), codeMalformed},
		{"V19 non-minimal int in crit", prot(append(gp, "com.example.x", raw{0x81, 0x18, 0x01})), codeMalformed},
		{"V19 non-minimal length of payload", sigParts(func(p []raw) []raw { p[2] = longLength(p[2]); return p }), codeMalformed},
		{"V19 non-minimal length of protected", sigParts(func(p []raw) []raw { p[0] = longLength(p[0]); return p }), codeMalformed},
		{"V19 non-minimal label in unprotected", f.cose(coseParts{unprotected: raw(append([]byte{0xa1, 0x19, 0x00, 0x21}, enc(f.x5chain())...))}), codeMalformed},
		{"V19 payload nil", f.cose(coseParts{payload: raw{0xf6}}), codeMalformed},
		{"V19 payload undefined", f.cose(coseParts{payload: raw{0xf7}}), codeMalformed},
		{"V19 payload empty", f.cose(coseParts{payload: []byte{}}), codeMalformed},
		{"V19 signature empty", f.cose(coseParts{signature: []byte{}}), codeMalformed},
		{"V19 crit in unprotected", unprot(2, []any{scheme}), codeMalformed},
		{"V19 alg in unprotected", unprot(1, -7), codeMalformed},
		{"V19 text label duplicates int label", unprot("33", f.x5chain()), codeMalformed},
		{"V19 text label instead of int label", f.cose(coseParts{unprotected: pairs{"33", f.x5chain()}}), codeMalformed},
		{"V19 text label 1 in protected", prot(append(gp, "1", -7)), codeMalformed},
		{"V19 protected label in unprotected too", f.cose(coseParts{protected: append(gp, "com.example.x", 1), unprotected: pairs{33, f.x5chain(), "com.example.x", 1}}), codeMalformed},
		{"V19 scheme in unprotected too", unprot(scheme, "notary.x509"), codeMalformed},
		{"V19 time without tag 1", prot(gp.with(signed, 1795341600)), codeTime},
		{"V19 time under tag 0", prot(gp.with(signed, cbor.Tag{Number: 0, Content: "2026-11-22T10:00:00Z"})), codeTime},
		{"V19 time under two tags", prot(gp.with(signed, cbor.Tag{Number: 1, Content: tagged(1795341600)})), codeMalformed},
		{"V19 float time", prot(gp.with(signed, tagged(1795341600.0))), codeTime},
		{"V19 negative time", prot(gp.with(signed, tagged(-1))), codeTime},
		{"V19 2^63 time", prot(gp.with(signed, tagged(uint64(1)<<63))), codeTime},
		{"V19 bignum time", prot(gp.with(signed, tagged(cbor.Tag{Number: 2, Content: []byte{1}}))), codeMalformed},

		{"V20 x5chain as a single bstr", chain(f.chain[0].Raw), codeChainMalformed},
		{"V21 x5chain in protected", prot(append(gp, 33, f.x5chain())), codeChainSigned},
		{"V21 x5chain in protected only", f.cose(coseParts{protected: append(gp, 33, f.x5chain()), unprotected: pairs{}}), codeChainSigned},

		{"K15 unknown members of the header", unprot(4, []byte("kid"), "com.example.a", map[string]any{"b": 1.5}, -70000, "x"), ""},
		{"header timestamp a text", unprot("io.cncf.notary.timestampSignature", "a"), codeMalformed},
		{"header timestamp empty", unprot("io.cncf.notary.timestampSignature", []byte{}), codeMalformed},
		{"header agent bytes", unprot("io.cncf.notary.signingAgent", []byte("a")), codeMalformed},
		{"payload exchanged", bytes.Replace(good, []byte(`"size":7`), []byte(`"size":8`), 1), codeSignature},
	} {
		t.Run(c.id, func(t *testing.T) {
			t.Parallel()
			_, err := judge(COSE, c.b)
			wantReason(t, err, c.code)
		})
	}
}

// longLength writes the length of a string in four bytes.
func longLength(b raw) raw {
	var s []byte
	if err := cbor.Unmarshal(b, &s); err != nil {
		panic(err)
	}
	return append(raw{0x5a, 0, 0, byte(len(s) >> 8), byte(len(s))}, s...)
}

// TestV20SingleCertificateIsAnArray: what we write for a chain of one is an array of one.
func TestV20SingleCertificateIsAnArray(t *testing.T) {
	t.Parallel()
	e := signed(t, COSE, 1, "P-256")
	if e.raw[e.chainStart] != 0x81 {
		t.Errorf("x5chain starts with %#x, want an array of one", e.raw[e.chainStart])
	}
}
