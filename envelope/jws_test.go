package envelope

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestForgedJWSIsGood(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "P-384", "P-521", "RSA-2048"} {
		_, err := judge(JWS, newForger(2, algorithm).jws(jwsParts{}))
		wantReason(t, err, "")
	}
}

// TestJWSProtected has the cases of envelopes (V01 and on) that are about the protected header and the payload. Each envelope is
// signed by the leaf's key as it stands: only the parser can refuse it.
func TestJWSProtected(t *testing.T) {
	t.Parallel()
	f := newForger(2, "P-256")
	good := goodProtected("ES256")
	swap := func(old, new string) jwsParts {
		p := strings.Replace(good, old, new, 1)
		if p == good {
			panic("nothing replaced: " + old)
		}
		return jwsParts{protected: p}
	}
	add := func(member string) jwsParts { return jwsParts{protected: good[:len(good)-1] + "," + member + "}"} }
	const scheme = `"io.cncf.notary.signingScheme":"notary.x509"`
	const signed = `"io.cncf.notary.signingTime":"2026-11-22T10:00:00Z"`
	const crit = `"crit":["io.cncf.notary.signingScheme"]`
	expiry := func(value string) jwsParts {
		p := add(`"io.cncf.notary.expiry":"` + value + `"`)
		p.protected = strings.Replace(p.protected, crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"]`, 1)
		return p
	}
	authority := func(crit string) jwsParts {
		return jwsParts{protected: strings.NewReplacer(
			`"notary.x509"`, `"notary.x509.signingAuthority"`,
			"io.cncf.notary.signingTime", "io.cncf.notary.authenticSigningTime",
			`"crit":["io.cncf.notary.signingScheme"]`, `"crit":[`+crit+`]`).Replace(good)}
	}
	payload := func(p string) jwsParts { return jwsParts{payload: p} }
	target := func(old, new string) jwsParts {
		p := strings.Replace(goodPayload, old, new, 1)
		if p == goodPayload {
			panic("nothing replaced: " + old)
		}
		return payload(p)
	}

	for _, c := range []struct {
		id    string
		parts jwsParts
		code  string
	}{
		{"V01 none", swap(`"ES256"`, `"none"`), codeAlgorithm},
		{"V01 HS256", swap(`"ES256"`, `"HS256"`), codeAlgorithm},
		{"V01 RS256", swap(`"ES256"`, `"RS256"`), codeAlgorithm},
		{"V01 ES256K", swap(`"ES256"`, `"ES256K"`), codeAlgorithm},
		{"V01 EdDSA", swap(`"ES256"`, `"EdDSA"`), codeAlgorithm},
		{"V01 lower case", swap(`"ES256"`, `"es256"`), codeAlgorithm},
		{"V01 empty", swap(`"ES256"`, `""`), codeAlgorithm},
		{"V01 missing", swap(`"alg":"ES256",`, ``), codeAlgorithm},
		{"V01 number", swap(`"ES256"`, `-7`), codeMalformed},
		{"V02 ES384 with P-256", swap(`"ES256"`, `"ES384"`), codeAlgorithmMismatch},
		{"V02 PS256 with P-256", swap(`"ES256"`, `"PS256"`), codeAlgorithmMismatch},

		{"V03 duplicate member in protected", add(`"alg":"ES256"`), codeMalformed},
		{"V03 duplicate escaped", add(`"\u0061lg":"ES256"`), codeMalformed},
		{"V03 duplicate nested in extension", add(`"com.example.x":{"a":1,"a":1}`), codeMalformed},
		{"V03 duplicate member in payload", target(`"size":7`, `"size":7,"size":7`), codePayload},
		{"V03 duplicate annotation", target(`"size":7`, `"size":7,"annotations":{"a":"1","a":"2"}`), codePayload},
		{"V04 ALG beside alg", add(`"ALG":"ES256"`), codeAttribute},
		{"V04 case variant of expiry", add(`"io.cncf.notary.EXPIRY":"2027-11-22T10:00:00Z"`), codeAttribute},
		{"V04 Kelvin sign", add(`"io.cncf.notary.\u212Aey":1`), codeAttribute},
		{"V04 TargetArtifact", target("targetArtifact", "TargetArtifact"), codePayload},
		{"V04 MEDIATYPE", target("mediaType", "MEDIATYPE"), codePayload},
		{"V04 Digest beside digest", target(`"size":7`, `"size":7,"Digest":"`+goodDigest+`"`), codePayload},
		{"V05 nesting 17 in protected", add(`"com.example.x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16)), codeMalformed},
		{"V05 nesting 16 in protected", add(`"com.example.x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15)), ""},
		{"V05 nesting 10^5", add(`"com.example.x":` + strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5)), codeMalformed},
		{"V05 NaN", add(`"com.example.x":NaN`), codeMalformed},
		{"V05 BOM in protected", jwsParts{protected: "\ufeff" + good}, codeMalformed},
		{"V05 trailing data in protected", jwsParts{protected: good + "{}"}, codeMalformed},
		{"V05 invalid UTF-8 in protected", add("\"com.example.x\":\"\xff\""), codeMalformed},
		{"V05 lone surrogate in protected", add(`"com.example.x":"\ud800"`), codeMalformed},
		{"V05 lone low surrogate", add(`"com.example.x":"\udc00\ud800"`), codeMalformed},
		{"V05 surrogate pair", add(`"com.example.x":"\ud83d\ude00\\ud800"`), ""},
		{"V05 array as protected", jwsParts{protected: "[" + good + "]"}, codeMalformed},
		{"V05 trailing data in payload", payload(goodPayload + " {}"), codePayload},
		{"V05 BOM in payload", payload("\ufeff" + goodPayload), codePayload},

		{"V07 b64", add(`"b64":false`), codeAttribute},
		{"V07 x5u", add(`"x5u":"http://127.0.0.1/"`), codeAttribute},
		{"V07 jku", add(`"jku":"http://127.0.0.1/"`), codeAttribute},
		{"V07 jwk", add(`"jwk":{}`), codeAttribute},
		{"V07 kid", add(`"kid":"a"`), codeAttribute},
		{"V07 zip", add(`"zip":"DEF"`), codeAttribute},
		{"V07 typ", add(`"typ":"JOSE"`), codeAttribute},
		{"V07 without a dot", add(`"example":1`), codeAttribute},
		{"V07 ends in a dot", add(`"com.example.":1`), codeAttribute},
		{"V07 empty name", add(`"":1`), codeAttribute},
		{"V07 extension", add(`"com.example.build":{"n":1}`), ""},
		{"V07 a URL of the Notary Project's", add(`"io.cncf.notary.x":1`), codeAttribute},

		{"V08 crit missing", swap(crit+",", ``), codeCritical},
		{"V08 crit empty", swap(crit, `"crit":[]`), codeCritical},
		{"V08 crit null", swap(crit, `"crit":null`), codeCritical},
		{"V08 crit string", swap(crit, `"crit":"io.cncf.notary.signingScheme"`), codeCritical},
		{"V08 crit of numbers", swap(crit, `"crit":["io.cncf.notary.signingScheme",1]`), codeCritical},
		{"V08 duplicate entries", swap(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.signingScheme"]`), codeCritical},
		{"V08 lists absent header", swap(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"]`), codeCritical},
		{"V08 lists absent unknown header", swap(crit, `"crit":["io.cncf.notary.signingScheme","com.example.x"]`), codeCritical},
		{"V08 lists alg", swap(crit, `"crit":["io.cncf.notary.signingScheme","alg"]`), codeCritical},
		{"V08 lists cty", swap(crit, `"crit":["io.cncf.notary.signingScheme","cty"]`), codeCritical},
		{"V08 lists signingTime", swap(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.signingTime"]`), codeCritical},
		{"V08 lacks signingScheme", swap(crit, `"crit":["io.cncf.notary.signingTime"]`), codeCritical},
		{"V08 lacks expiry", add(`"io.cncf.notary.expiry":"2027-11-22T10:00:00Z"`), codeCritical},
		{"V08 lacks authenticSigningTime", authority(`"io.cncf.notary.signingScheme"`), codeCritical},

		{"V11 expiry", expiry("2026-11-22T10:00:01Z"), ""},
		{"V11 expiry at signing time", expiry("2026-11-22T10:00:00Z"), codeTime},
		{"V11 expiry before signing time", expiry("2026-11-22T09:59:59Z"), codeTime},
		{"V11 expiry at signing time by offset", expiry("2026-11-23T00:00:00+14:00"), codeTime},
		{"V11 expiry after signing time by offset", expiry("2026-11-23T00:00:01+14:00"), ""},
		{"V11 fractional seconds", expiry("2026-11-22T10:00:00.000000001Z"), ""},
		{"V11 ten digits of fraction", expiry("2026-11-22T10:00:00.0000000001Z"), codeTime},
		{"V11 comma", expiry("2026-11-22T10:00:01,5Z"), codeTime},
		{"V11 year 9999", expiry("9999-12-31T23:59:59Z"), ""},
		{"V11 year 10000 by offset", expiry("9999-12-31T23:59:59-01:00"), codeTime},
		{"V11 year 10000", expiry("10000-01-01T00:00:00Z"), codeTime},
		{"V11 year 0001", swap("2026-11-22T10:00:00Z", "0001-01-01T00:00:00Z"), codeTime},
		{"V11 year 1969", swap("2026-11-22T10:00:00Z", "1969-12-31T23:59:59Z"), codeTime},
		{"V11 leap second", expiry("2026-12-31T23:59:60Z"), codeTime},
		{"V11 offset +24:00", expiry("2026-12-31T23:59:59+24:00"), codeTime},
		{"V11 offset +01:60", expiry("2026-12-31T23:59:59+01:60"), codeTime},
		{"V11 30 February", expiry("2027-02-30T00:00:00Z"), codeTime},
		{"V11 lower case", expiry("2027-02-20t00:00:00z"), codeTime},
		{"V11 space", expiry("2027-02-20 00:00:00Z"), codeTime},
		{"V11 no zone", expiry("2027-02-20T00:00:00"), codeTime},
		{"V11 one digit", expiry("2027-02-20T0:00:00Z"), codeTime},
		{"V11 number", swap(`"2026-11-22T10:00:00Z"`, `1795341600`), codeTime},
		{"V11 signing time missing", swap(","+signed, ""), codeTime},

		{"V12 scheme unknown", swap(`"notary.x509"`, `"notary.x510"`), codeScheme},
		{"V12 scheme in another case", swap(`"notary.x509"`, `"Notary.X509"`), codeScheme},
		{"V12 scheme missing", swap(scheme+",", ``), codeCritical},
		{"V12 notary.x509 with authenticSigningTime", jwsParts{protected: strings.Replace(strings.Replace(good, crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"]`, 1),
			signed, signed+`,"io.cncf.notary.authenticSigningTime":"2026-11-22T10:00:00Z"`, 1)}, codeTime},
		{"V12 signing authority", authority(`"io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"`), ""},
		{"V12 signing authority with signingTime", jwsParts{protected: strings.Replace(authority(`"io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"`).protected,
			`"cty"`, signed+`,"cty"`, 1)}, codeTime},

		{"V13 content type", swap("payload.v1+json", "payload.v2+json"), codePayload},
		{"V13 content type in another case", swap("application/vnd", "Application/vnd"), codePayload},
		{"V13 content type missing", swap(`"cty":"application/vnd.cncf.notary.payload.v1+json",`, ``), codePayload},
		{"V13 not JSON", payload("hello"), codePayload},
		{"V13 an array", payload("[" + goodPayload + "]"), codePayload},
		{"V13 null", payload("null"), codePayload},
		{"V13 no targetArtifact", payload("{}"), codePayload},
		{"V13 two targetArtifact", payload(`{"targetArtifact":{},` + goodPayload[1:]), codePayload},
		{"V13 unknown member", payload(goodPayload[:len(goodPayload)-1] + `,"x":1}`), codePayload},
		{"V13 unknown descriptor member", target(`"size":7`, `"size":7,"x":1`), codePayload},
		{"V13 descriptor members of plugins", target(`"size":7`, `"size":7,"artifactType":"a/b","urls":[],"platform":{}`), ""},
		{"V13 missing size", target(`,"size":7`, ``), codePayload},
		{"V13 missing digest", target(`"digest":"`+goodDigest+`",`, ``), codePayload},
		{"V13 missing media type", target(`"mediaType":"application/vnd.oci.image.manifest.v1+json",`, ``), codePayload},
		{"V13 media type with parameter", target("manifest.v1+json", "manifest.v1+json;a=b"), codePayload},
		{"V13 digest upper case", target("9f86d08", "9F86D08"), codePayload},
		{"V13 digest short", target("9f86d08", "9f86d0"), codePayload},
		{"V13 digest sha1", target(goodDigest, "sha1:a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"), codePayload},
		{"V13 digest md5", target(goodDigest, "md5:098f6bcd4621d373cade4e832627b4f6"), codePayload},
		{"V13 digest sha384", target(goodDigest, "sha384:"+strings.Repeat("a", 96)), codePayload},
		{"V13 digest sha512", target(goodDigest, "sha512:"+strings.Repeat("a", 128)), ""},
		{"V13 digest with a line end", target(goodDigest, goodDigest+`\n`), codePayload},
		{"V13 annotation not a string", target(`"size":7`, `"size":7,"annotations":{"a":1}`), codePayload},
		{"V13 annotations null", target(`"size":7`, `"size":7,"annotations":null`), codePayload},
		{"A15 size 1e3", target(`"size":7`, `"size":1e3`), codePayload},
		{"A15 size 7.0", target(`"size":7`, `"size":7.0`), codePayload},
		{"A15 size string", target(`"size":7`, `"size":"7"`), codePayload},
		{"A15 size negative", target(`"size":7`, `"size":-7`), codePayload},
		{"A15 size minus zero", target(`"size":7`, `"size":-0`), codePayload},
		{"A15 size 2^53+1", target(`"size":7`, `"size":9007199254740993`), ""},
		{"A15 size 2^63", target(`"size":7`, `"size":9223372036854775808`), codePayload},

		{"V09 unknown critical attribute", swap(crit, `"com.example.x":1,"crit":["io.cncf.notary.signingScheme","com.example.x"]`), codeCriticalUnknown},
		{"V09 verificationPlugin", swap(crit, `"io.cncf.notary.verificationPlugin":"p","crit":["io.cncf.notary.signingScheme","io.cncf.notary.verificationPlugin"]`), codeCriticalUnknown},
		{"V09 verificationPlugin not critical", add(`"io.cncf.notary.verificationPlugin":"p"`), codeAttribute},
		{"V09 b64 critical", swap(crit, `"b64":false,"crit":["io.cncf.notary.signingScheme","b64"]`), codeCriticalUnknown},
		{"V10 crit only in the unprotected header", jwsParts{protected: strings.Replace(good, crit+",", "", 1), header: `{` + crit + `,"x5c":%C}`}, codeCritical},
		{"V10 crit in both headers", jwsParts{header: `{` + crit + `,"x5c":%C}`}, codeMalformed},
		{"V07 extension in both headers", jwsParts{protected: add(`"com.example.x":1`).protected, header: `{"x5c":%C,"com.example.x":1}`}, codeMalformed},
		{"K14 x5c in protected", add(`"x5c":` + f.x5c()), codeChainSigned},
	} {
		t.Run(c.id, func(t *testing.T) {
			t.Parallel()
			_, err := judge(JWS, f.jws(c.parts))
			wantReason(t, err, c.code)
		})
	}
}

// TestJWSEnvelope has the rows about what surrounds the signed parts.
func TestJWSEnvelope(t *testing.T) {
	t.Parallel()
	f := newForger(2, "P-256")
	good := string(f.jws(jwsParts{}))
	whole := func(w string) []byte { return f.jws(jwsParts{whole: w}) }
	header := func(h string) []byte { return f.jws(jwsParts{header: h}) }
	swap := func(old, new string) []byte {
		b := strings.Replace(good, old, new, 1)
		if b == good {
			panic("nothing replaced: " + old)
		}
		return []byte(b)
	}
	leaf := base64.StdEncoding.EncodeToString(f.chain[0].Raw)
	root := base64.StdEncoding.EncodeToString(f.chain[1].Raw)
	certs := func(n int) []byte {
		return header(`{"x5c":["` + leaf + `"` + strings.Repeat(`,"`+root+`"`, n-1) + `]}`)
	}
	// Base64 forms of a member's own value, which the strict reader must tell from the one that was signed.
	member := func(name string, change func(string) string) []byte {
		start := strings.Index(good, `"`+name+`":"`) + len(name) + 4
		end := start + strings.Index(good[start:], `"`)
		return []byte(good[:start] + change(good[start:end]) + good[end:])
	}

	for _, c := range []struct {
		id   string
		b    []byte
		code string
	}{
		{"V03 duplicate member at top level", whole(`{"payload":%L,"payload":%L,"protected":%P,"header":%H,"signature":%S}`), codeMalformed},
		{"V03 duplicate member in header", header(`{"x5c":%C,"x5c":%C}`), codeMalformed},
		{"V03 duplicate unknown member in header", header(`{"x5c":%C,"a":1,"a":1}`), codeMalformed},
		{"V04 PAYLOAD", whole(`{"PAYLOAD":%L,"protected":%P,"header":%H,"signature":%S}`), codeMalformed},
		{"V04 PAYLOAD beside payload", whole(`{"payload":%L,"PAYLOAD":%L,"protected":%P,"header":%H,"signature":%S}`), codeMalformed},
		{"V04 X5C", header(`{"X5C":%C,"x5c":%C}`), codeMalformed},
		{"V04 timestampsignature", header(`{"x5c":%C,"io.cncf.notary.timestampsignature":"AAAA"}`), codeMalformed},
		{"V04 alg in the unprotected header", header(`{"x5c":%C,"alg":"ES256"}`), codeMalformed},
		{"V04 expiry in the unprotected header", header(`{"x5c":%C,"io.cncf.notary.expiry":"2027-11-22T10:00:00Z"}`), codeMalformed},
		{"V05 extra top-level member", whole(`{"payload":%L,"protected":%P,"header":%H,"signature":%S,"x":1}`), codeMalformed},
		{"V05 signatures", whole(`{"payload":%L,"signatures":[{"protected":%P,"header":%H,"signature":%S}]}`), codeMalformed},
		{"V05 trailing data", []byte(good + "x"), codeMalformed},
		{"V05 two objects", []byte(good + good), codeMalformed},
		{"V05 trailing comma", whole(`{"payload":%L,"protected":%P,"header":%H,"signature":%S,}`), codeMalformed},
		{"V05 BOM", []byte("\ufeff" + good), codeMalformed},
		{"V05 comment", []byte("/**/" + good), codeMalformed},
		{"V05 NUL", []byte(good + "\x00"), codeMalformed},
		{"V05 nesting 10^5", header(`{"x5c":%C,"a":` + strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5) + `}`), codeMalformed},
		{"V05 empty", []byte{}, codeMalformed},
		{"V05 null", []byte("null"), codeMalformed},
		{"V05 white space", []byte(" \n" + strings.ReplaceAll(good, `":`, "\" :\t") + "\r\n"), ""},
		{"V05 header missing", whole(`{"payload":%L,"protected":%P,"signature":%S}`), codeMalformed},
		{"V05 header an array", whole(`{"payload":%L,"protected":%P,"header":[%H],"signature":%S}`), codeMalformed},
		{"V05 payload null", whole(`{"payload":null,"protected":%P,"header":%H,"signature":%S}`), codeMalformed},
		{"V05 signature missing", whole(`{"payload":%L,"protected":%P,"header":%H}`), codeMalformed},
		{"V05 compact", []byte(b64(goodProtected("ES256")) + "." + b64(goodPayload) + ".AAAA"), codeMalformed},

		{"V06 padding", member("payload", func(s string) string { return s + "==" }), codeMalformed},
		{"V06 standard alphabet", member("signature", func(s string) string { return "+" + s[1:] }), codeMalformed},
		{"V06 newline", member("protected", func(s string) string { return s[:8] + `\n` + s[8:] }), codeMalformed},
		{"V06 space", member("protected", func(s string) string { return s[:8] + ` ` + s[8:] }), codeMalformed},
		{"V06 trailing bits", member("signature", func(s string) string { return nextBits(s) }), codeMalformed},
		{"V06 empty payload", member("payload", func(string) string { return "" }), codeMalformed},
		{"V06 empty signature", member("signature", func(string) string { return "" }), codeMalformed},
		{"V06 escaped letter is the same letter", member("payload", func(s string) string { return fmt.Sprintf(`\u%04x`, s[0]) + s[1:] }), ""},

		{"V18 no x5c", header(`{}`), codeChainMalformed},
		{"V18 empty x5c", header(`{"x5c":[]}`), codeChainMalformed},
		{"V18 x5c null", header(`{"x5c":null}`), codeChainMalformed},
		{"V18 x5c string", header(`{"x5c":"` + leaf + `"}`), codeChainMalformed},
		{"V18 x5c of null", header(`{"x5c":[null]}`), codeChainMalformed},
		{"V18 x5c entry base64url", header(`{"x5c":["` + base64.RawURLEncoding.EncodeToString(f.chain[0].Raw) + `","` + root + `"]}`), codeChainMalformed},
		{"V18 x5c entry with a line end", header(`{"x5c":["` + leaf[:64] + `\n` + leaf[64:] + `","` + root + `"]}`), codeChainMalformed},
		{"V18 certificate with trailing bytes", header(`{"x5c":["` + base64.StdEncoding.EncodeToString(append(bytes.Clone(f.chain[0].Raw), 0)) + `","` + root + `"]}`), codeChainMalformed},
		{"V18 garbage", header(`{"x5c":["AAAA"]}`), codeChainMalformed},
		{"V18 17 certificates", certs(17), codeChainMalformed},
		{"V18 302 certificates", certs(302), codeChainMalformed},
		{"V18 certificate over 64 KiB", header(`{"x5c":["` + base64.StdEncoding.EncodeToString(make([]byte, 64<<10+1)) + `"]}`), codeChainMalformed},
		{"V18 ASN.1 recursion", header(`{"x5c":["` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x30, 0x80}, 30<<10)) + `"]}`), codeChainMalformed},
		{"V18 over 1 MiB", []byte(good + strings.Repeat(" ", MaxBytes)), codeTooLarge},
		{"V18 exactly 1 MiB", []byte(good + strings.Repeat(" ", MaxBytes-len(good))), ""},
		{"V18 chain without root", header(`{"x5c":["` + leaf + `"]}`), codeChainInvalid},
		{"V18 chain in reverse", header(`{"x5c":["` + root + `","` + leaf + `"]}`), codeSignature},
		{"V18 root twice", certs(3), codeChainInvalid},

		{"K15 unknown members of the header", header(`{"x5c":%C,"kid":"1","com.example.a":{"b":[1.50,"\u00e9"]}}`), ""},
		{"header timestamp empty", header(`{"x5c":%C,"io.cncf.notary.timestampSignature":""}`), codeMalformed},
		{"header timestamp base64url", header(`{"x5c":%C,"io.cncf.notary.timestampSignature":"-_-_"}`), codeMalformed},
		{"header agent a number", header(`{"x5c":%C,"io.cncf.notary.signingAgent":1}`), codeMalformed},
		{"payload exchanged", swap(b64(goodPayload), b64(strings.Replace(goodPayload, `"size":7`, `"size":8`, 1))), codeSignature},
	} {
		t.Run(c.id, func(t *testing.T) {
			t.Parallel()
			_, err := judge(JWS, c.b)
			wantReason(t, err, c.code)
		})
	}
}

// nextBits returns the base64 text s (of a length that leaves bits over) with such a bit set: the same bytes to a careless reader.
func nextBits(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(s)%4 == 0 {
		panic("no bits left over")
	}
	i := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + alphabet[i+1:i+2]
}

func TestV22MediaType(t *testing.T) {
	t.Parallel()
	f := newForger(1, "P-256")
	jws, cose := f.jws(jwsParts{}), f.cose(coseParts{})
	for _, c := range []struct {
		id, mediaType string
		b             []byte
		code          string
	}{
		{"V22 JWS", "application/jose+json", jws, ""},
		{"V22 COSE", "application/cose", cose, ""},
		{"V22 COSE bytes as JWS", "application/jose+json", cose, codeFormat},
		{"V22 JWS bytes as COSE", "application/cose", jws, codeFormat},
		{"V22 parameters", "application/jose+json; charset=utf-8", jws, codeFormat},
		{"V22 case", "Application/Jose+JSON", jws, codeFormat},
		{"V22 another", "application/json", jws, codeFormat},
		{"V22 none", "", jws, codeFormat},
	} {
		t.Run(c.id, func(t *testing.T) {
			t.Parallel()
			e, err := Parse(c.mediaType, c.b)
			wantReason(t, err, c.code)
			if c.code == "" && string(e.Format()) != c.mediaType {
				t.Errorf("format %s", e.Format())
			}
		})
	}
}
