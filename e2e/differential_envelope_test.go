package e2e

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// replacing makes a mutation of a member's value.
func replacing(name string, value func(s *suit, old any) any) func(s *suit) bool {
	return func(s *suit) bool {
		m := s.member(name)
		if m == nil {
			return false
		}
		m.value = value(s, m.value)
		return true
	}
}

func being(v any) func(*suit, any) any { return func(*suit, any) any { return v } }

func dropping(name string) func(s *suit) bool {
	return func(s *suit) bool {
		if s.member(name) == nil {
			return false
		}
		s.drop(name)
		return true
	}
}

func adding(m member, critical bool) func(s *suit) bool {
	return func(s *suit) bool {
		if s.member(m.name) != nil {
			return false
		}
		s.members = append(s.members, m)
		return !critical || s.crit(func(l []string) []string { return append(l, m.name) })
	}
}

func critical(edit func([]string) []string) func(s *suit) bool {
	return func(s *suit) bool { return s.crit(edit) }
}

// written makes a mutation of the payload's text.
func written(edit func(s *suit, payload string) string) func(s *suit) bool {
	return func(s *suit) bool { s.payload = edit(s, s.payload); return true }
}

func swapped(old, new string) func(s *suit) bool {
	return func(s *suit) bool {
		if !strings.Contains(s.payload, old) {
			return false
		}
		s.payload = strings.Replace(s.payload, old, new, 1)
		return true
	}
}

func reshaped(edit func(s *suit, sig []byte) []byte) func(s *suit) bool {
	return func(s *suit) bool {
		s.reshaped = append(s.reshaped, func(sig []byte) []byte { return edit(s, bytes.Clone(sig)) })
		return true
	}
}

func inJWS(bend func(s *suit, x *sealed)) func(s *suit) bool {
	return func(s *suit) bool {
		if s.format != jwsType {
			return false
		}
		s.jwsBends = append(s.jwsBends, func(x *sealed) { bend(s, x) })
		return true
	}
}

func inCOSE(bend func(s *suit, x *parts)) func(s *suit) bool {
	return func(s *suit) bool {
		if s.format != coseType {
			return false
		}
		s.coseBends = append(s.coseBends, func(x *parts) { bend(s, x) })
		return true
	}
}

func inBytes(bend func(s *suit, b []byte) []byte) func(s *suit) bool {
	return func(s *suit) bool {
		s.bytesBends = append(s.bytesBends, func(b []byte) []byte { return bend(s, b) })
		return true
	}
}

func ifFormat(format string, do func(s *suit) bool) func(s *suit) bool {
	return func(s *suit) bool { return s.format == format && do(s) }
}

func stamped(token func(s *suit, sig []byte) []byte) func(s *suit) bool {
	return func(s *suit) bool {
		s.stamp = func(sig []byte) []byte { return token(s, sig) }
		return true
	}
}

// when the signature says that it was made.
func (s *suit) when() time.Time {
	for _, name := range []string{signedName, authenticName} {
		if m := s.member(name); m != nil {
			if at, ok := m.value.(time.Time); ok {
				return at
			}
		}
	}
	return s.now.AddDate(0, 0, -30)
}

func chainAs(format string, write func(ders [][]byte) rawValue) func(s *suit) bool {
	return func(s *suit) bool {
		if s.format != format || s.chainMember != nil {
			return false
		}
		s.chainMember = func(ders [][]byte) member { return member{"x5c", write(ders)} }
		return true
	}
}

// timeAs replaces a time by another text, or another encoding of CBOR.
func timeAs(text func(at time.Time) string, encoded func(at time.Time) []byte) func(s *suit) bool {
	return func(s *suit) bool {
		for i := range s.members {
			if at, ok := s.members[i].value.(time.Time); ok && (s.format == jwsType && text != nil || s.format == coseType && encoded != nil) {
				v := rawValue{}
				if text != nil {
					v.json = text(at)
				}
				if encoded != nil {
					v.cbor = encoded(at)
				}
				s.members[i].value = v
				return true
			}
		}
		return false
	}
}

func textual(layout string) func(at time.Time) string {
	return func(at time.Time) string { return quote(at.Format(layout)) }
}

func numbered(at time.Time) string { b, _ := json.Marshal(at.Unix()); return string(b) }

var envelopeMutations = []mutation{
	// Algorithm and content type.
	{"V01 alg none", replacing("alg", being("none"))},
	{"V01 alg RS256", replacing("alg", being("RS256"))},
	{"V01 alg in lower case", replacing("alg", func(_ *suit, old any) any { s, _ := old.(string); return strings.ToLower(s) })},
	{"V02 another alg", replacing("alg", func(s *suit, old any) any {
		for {
			if a := []string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}[s.r.IntN(6)]; a != old {
				return a
			}
		}
	})},
	{"no alg", dropping("alg")},
	{"V13 another content type", replacing("cty", being("application/vnd.cncf.notary.payload.v2+json"))},
	{"a content type with a parameter", replacing("cty", being(payloadType+"; charset=utf-8"))},
	{"no content type", dropping("cty")},

	// Critical.
	{"V08 no crit", dropping("crit")},
	{"V08 crit empty", critical(func([]string) []string { return []string{} })},
	{"V08 crit repeats", critical(func(l []string) []string {
		if len(l) == 0 {
			return []string{schemeName, schemeName}
		}
		return append(l, l[0])
	})},
	{"V08 crit names what is absent", critical(func(l []string) []string { return append(l, "io.acme.absent") })},
	{"V08 crit names alg", critical(func(l []string) []string { return append(l, "alg") })},
	{"V08 crit lacks one", critical(func(l []string) []string { return l[min(1, len(l)):] })},
	{"crit names the signing time", func(s *suit) bool {
		return s.member(signedName) != nil && s.crit(func(l []string) []string { return append(l, signedName) })
	}},
	{"V09 an unknown critical attribute", adding(member{"io.acme.what", "x"}, true)},
	{"V09 a verification plugin", adding(member{"io.cncf.notary.verificationPlugin", "acme"}, true)},
	{"a verification plugin that is not critical", adding(member{"io.cncf.notary.verificationPlugin", "acme"}, false)},
	{"an unknown attribute", adding(member{"io.acme.what", "x"}, false)},
	{"V07 an attribute of a short name", adding(member{"kid", "x"}, false)},
	{"V07 b64", adding(member{"b64", false}, false)},
	{"V04 an attribute in another case", adding(member{"IO.cncf.notary.expiry", "2020-01-01T00:00:00Z"}, false)},
	{"an unknown attribute of the Notary Project", adding(member{"io.cncf.notary.unheard", 1}, false)},

	// Scheme and times.
	{"V12 unknown scheme", replacing(schemeName, being("notary.x510"))},
	{"no scheme", dropping(schemeName)},
	{"V12 both times", func(s *suit) bool {
		for _, name := range []string{signedName, authenticName} {
			if s.member(name) == nil {
				s.members = append(s.members, member{name, s.when()})
				return true
			}
		}
		return false
	}},
	{"V12 both times, critical", func(s *suit) bool {
		if s.member(authenticName) != nil {
			return false
		}
		s.members = append(s.members, member{authenticName, s.when()})
		return s.crit(func(l []string) []string { return append(l, authenticName) })
	}},
	{"no signing time", func(s *suit) bool {
		n := len(s.members)
		s.drop(signedName)
		s.drop(authenticName)
		return len(s.members) < n
	}},
	{"signed in the future", func(s *suit) bool {
		for _, name := range []string{signedName, authenticName} {
			if m := s.member(name); m != nil {
				m.value = s.days(-200, -1)
				return true
			}
		}
		return false
	}},
	{"signed long ago", func(s *suit) bool {
		for _, name := range []string{signedName, authenticName} {
			if m := s.member(name); m != nil {
				m.value = s.days(1000, 2000)
				return true
			}
		}
		return false
	}},
	{"expired", func(s *suit) bool {
		s.drop(expiryName)
		s.members = append(s.members, member{expiryName, s.days(0, 1)})
		return s.crit(func(l []string) []string {
			if !slices.Contains(l, expiryName) {
				l = append(l, expiryName)
			}
			return l
		})
	}},
	{"V11 expiry before the signing time", replacing(expiryName, func(s *suit, _ any) any { return s.when().Add(-time.Hour) })},
	{"V11 expiry at the signing time", replacing(expiryName, func(s *suit, _ any) any { return s.when() })},
	{"V08 expiry that is not critical", func(s *suit) bool {
		if s.member(expiryName) != nil {
			return s.crit(func(l []string) []string { return slices.DeleteFunc(l, func(n string) bool { return n == expiryName }) })
		}
		s.members = append(s.members, member{expiryName, s.days(-10, -1)})
		return true
	}},
	{"a time with a fraction", timeAs(textual("2006-01-02T15:04:05.000Z07:00"), nil)},
	{"a time with an offset", timeAs(func(at time.Time) string { return quote(at.In(time.FixedZone("", 5*3600+1800)).Format(time.RFC3339)) }, nil)},
	{"V11 a time in lower case", timeAs(textual("2006-01-02t15:04:05z"), nil)},
	{"V11 a time without a zone", timeAs(textual("2006-01-02T15:04:05"), nil)},
	{"V11 a time with a comma", timeAs(textual("2006-01-02T15:04:05,5Z"), nil)},
	{"V11 an hour of one digit", timeAs(textual("2006-01-02T3:04:05Z"), nil)},
	{"V11 a time as a number", timeAs(numbered, func(at time.Time) []byte { return cb(at.Unix()) })},
	{"V19 a time of tag 0", timeAs(nil, func(at time.Time) []byte { return append([]byte{0xc0}, cb(at.Format(time.RFC3339))...) })},
	{"V19 a float as time", timeAs(nil, func(at time.Time) []byte { return append([]byte{0xc1}, cb(float64(at.Unix()))...) })},
	{"V19 a time beyond time", timeAs(nil, func(time.Time) []byte { return append([]byte{0xc1}, cb(uint64(1)<<63)...) })},
	{"V19 an integer longer than it need be", timeAs(nil, func(at time.Time) []byte {
		b := []byte{0xc1, 0x1b, 0, 0, 0, 0}
		return append(b, cb(at.Unix())[1:]...)
	})},
	{"V19 null as time", timeAs(func(time.Time) string { return "null" }, func(time.Time) []byte { return []byte{0xf6} })},

	// Payload.
	{"V14 another digest", written(func(_ *suit, p string) string {
		return strings.Replace(p, differentialSubject.Digest.String(), digest.FromString("another").String(), 1)
	})},
	{"V14 another size", swapped(`"size":`, `"size":1`)},
	{"V14 another media type", swapped("vnd.oci.image.manifest", "vnd.oci.image.index")},
	{"an annotation", swapped("}}", `,"annotations":{"a":"b"}}}`)},
	{"V13 an annotation that is no text", swapped("}}", `,"annotations":{"a":1}}}`)},
	{"an annotation of the reserved names", swapped("}}", `,"annotations":{"io.cncf.notary.x":"b"}}}`)},
	{"claims of the tag", swapped("}}", `,"annotations":{"io.imprint.claims":"[\"v1\"]"}}}`)},
	{"claims of the name", swapped("}}", `,"annotations":{"io.imprint.claims":"[\"`+differentialRepo+`:v1\"]"}}}`)},
	{"claims of another tag", swapped("}}", `,"annotations":{"io.imprint.claims":"[\"v2\"]"}}}`)},
	{"claims that are none", swapped("}}", `,"annotations":{"io.imprint.claims":"v1"}}}`)},
	{"an unknown member of the artifact", swapped("}}", `,"artifactType":"x"}}`)},
	{"an unknown member of the payload", swapped(`{"targetArtifact"`, `{"extra":1,"targetArtifact"`)},
	{"V03 two artifacts", swapped(`{"targetArtifact"`, `{"targetArtifact":{"mediaType":"a/b","digest":"sha256:`+strings.Repeat("0", 64)+`","size":1},"targetArtifact"`)},
	{"V03 two digests", swapped(`"digest"`, `"digest":"sha256:`+strings.Repeat("0", 64)+`","digest"`)},
	{"V04 a member in another case", swapped(`"digest"`, `"Digest"`)},
	{"V04 targetArtifact in another case", swapped("targetArtifact", "TargetArtifact")},
	{"V13 no size", written(func(_ *suit, p string) string { i := strings.Index(p, `,"size"`); return p[:max(i, 0)] + "}}" })},
	{"V13 a float as size", swapped("}}", ".0}}")},
	{"V13 an upper-case digest", written(func(_ *suit, p string) string {
		d := differentialSubject.Digest.Encoded()
		return strings.Replace(p, d, strings.ToUpper(d), 1)
	})},
	{"spaces in the payload", written(func(_ *suit, p string) string { return strings.ReplaceAll(p, ":{", ": {") + "\n" })},
	{"bytes behind the payload", written(func(_ *suit, p string) string { return p + "x" })},
	{"V13 no JSON", written(func(*suit, string) string { return "<payload/>" })},
	{"V13 an array", written(func(_ *suit, p string) string { return "[" + p + "]" })},
	{"an escaped payload", swapped("targetArtifact", `target\u0041rtifact`)},

	// Signature.
	{"another key signs", func(s *suit) bool { s.key = s.curve[6]; return true }},
	{"a bit of the signature", reshaped(func(s *suit, sig []byte) []byte {
		sig[s.r.IntN(len(sig))] ^= 1 << s.r.IntN(8)
		return sig
	})},
	{"V16 the signature's other form", func(s *suit) bool {
		if _, ok := s.key.(interface{ Size() int }); ok || s.key != s.leaf["P-256"] {
			return false
		}
		s.reshaped = append(s.reshaped, func(sig []byte) []byte {
			if len(sig) != 64 {
				return sig
			}
			v := new(big.Int).SetBytes(sig[32:])
			v.Sub(elliptic.P256().Params().N, v).Mod(v, elliptic.P256().Params().N)
			return append(bytes.Clone(sig[:32]), v.FillBytes(make([]byte, 32))...)
		})
		return true
	}},
	{"V16 DER", reshaped(func(s *suit, sig []byte) []byte {
		n := len(sig) / 2
		return derOf(new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
	})},
	{"V16 a byte longer", reshaped(func(_ *suit, sig []byte) []byte { return append([]byte{0}, sig...) })},
	{"V16 a byte shorter", reshaped(func(_ *suit, sig []byte) []byte { return sig[:max(len(sig)-1, 0)] })},
	{"V16 zeros", reshaped(func(_ *suit, sig []byte) []byte { return make([]byte, len(sig)) })},
	{"an empty signature", reshaped(func(*suit, []byte) []byte { return nil })},
	{"V17 another salt", func(s *suit) bool {
		if _, ok := s.key.(*rsa.PrivateKey); !ok {
			s.key = s.leaf["RSA-2048"]
			s.certificates[0].key = s.key
			if m := s.member("alg"); m != nil {
				m.value = "PS256"
			}
		}
		s.salt = 20
		return true
	}},

	// The form of JWS.
	{"V06 padding", inJWS(func(_ *suit, x *sealed) { x.signature = strings.TrimSuffix(x.signature, `"`) + `=="` })},
	{"V06 a newline in the signature", inJWS(func(_ *suit, x *sealed) { x.signature = x.signature[:9] + `\n` + x.signature[9:] })},
	{"V06 a newline in the payload", inJWS(func(_ *suit, x *sealed) { x.payload = x.payload[:9] + `\n` + x.payload[9:] })},
	{"V06 bits left over", inJWS(func(_ *suit, x *sealed) {
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		if i := len(x.signature) - 2; i > 0 && (i%4 == 2 || i%4 == 3) {
			x.signature = x.signature[:i] + string(alphabet[strings.IndexByte(alphabet, x.signature[i])|1]) + `"`
		}
	})},
	{"V05 a further member", inJWS(func(_ *suit, x *sealed) { x.signature += `,"extra":1` })},
	{"V03 the payload twice", inJWS(func(_ *suit, x *sealed) { x.payload += `,"payload":` + x.payload })},
	{"V03 another payload before it", inJWS(func(_ *suit, x *sealed) { x.payload = quote(b64([]byte("{}"))) + `,"payload":` + x.payload })},
	{"V04 another payload, in another case", inJWS(func(_ *suit, x *sealed) { x.payload += `,"Payload":` + x.payload })},
	{"an unknown unprotected member", inJWS(func(_ *suit, x *sealed) { x.header = "{" + `"io.acme.x":[1,{}],` + strings.TrimPrefix(x.header, "{") })},
	{"V10 crit in the unprotected header", inJWS(func(_ *suit, x *sealed) { x.header = "{" + `"crit":[],` + strings.TrimPrefix(x.header, "{") })},
	{"a signing agent", inJWS(func(_ *suit, x *sealed) {
		x.header = "{" + `"io.cncf.notary.signingAgent":"acme/1",` + strings.TrimPrefix(x.header, "{")
	})},
	{"a signing agent that is no text", inJWS(func(_ *suit, x *sealed) {
		x.header = "{" + `"io.cncf.notary.signingAgent":7,` + strings.TrimPrefix(x.header, "{")
	})},
	{"V03 twice in protected", func(s *suit) bool {
		if m := s.member("cty"); m == nil || s.format != jwsType {
			return false
		}
		s.members = append(s.members, member{"cty", payloadType})
		return true
	}},
	{"V18 x5c in base64url", chainAs(jwsType, func(ders [][]byte) rawValue {
		var texts []string
		for _, der := range ders {
			texts = append(texts, base64.URLEncoding.EncodeToString(der))
		}
		b, _ := json.Marshal(texts)
		return rawValue{json: string(b)}
	})},
	{"V18 x5c is text", chainAs(jwsType, func(ders [][]byte) rawValue {
		if len(ders) == 0 {
			return rawValue{json: `""`}
		}
		return rawValue{json: quote(base64.StdEncoding.EncodeToString(ders[0]))}
	})},
	{"V18 bytes behind a certificate", func(s *suit) bool {
		if s.chainMember != nil {
			return false
		}
		s.chainMember = func(ders [][]byte) member {
			var texts []string
			var longer [][]byte
			for _, der := range ders {
				longer = append(longer, append(bytes.Clone(der), 0))
				texts = append(texts, base64.StdEncoding.EncodeToString(longer[len(longer)-1]))
			}
			b, _ := json.Marshal(texts)
			return member{"x5c", rawValue{string(b), cb(longer)}}
		}
		return true
	}},
	{"V21 the chain is signed, too", func(s *suit) bool {
		if s.format != jwsType || s.member("x5c") != nil {
			return false
		}
		s.members = append(s.members, member{"x5c", []string{base64.StdEncoding.EncodeToString(s.attacker.Certificate.Raw)}})
		return true
	}},

	// The form of COSE.
	{"V19 no tag", inBytesOf(coseType, func(_ *suit, b []byte) []byte { return b[1:] })},
	{"V19 tag 98", inBytesOf(coseType, func(_ *suit, b []byte) []byte { return append([]byte{0xd8, 98}, b[1:]...) })},
	{"the tag of CBOR before it", inBytesOf(coseType, func(_ *suit, b []byte) []byte { return append([]byte{0xd9, 0xd9, 0xf7}, b...) })},
	{"V19 detached", inCOSE(func(_ *suit, x *parts) { x.payload = []byte{0xf6} })},
	{"V19 an array without length", inBytesOf(coseType, func(_ *suit, b []byte) []byte {
		return append(append([]byte{0xd2, 0x9f}, b[2:]...), 0xff)
	})},
	{"V19 a label twice", inCOSE(func(_ *suit, x *parts) {
		first := x.unprotected[0]
		entry := slices.Concat(cb("io.acme.x"), cb(1))
		x.unprotected = slices.Concat([]byte{first + 2}, entry, entry, x.unprotected[1:])
	})},
	{"an unprotected label of text", inCOSE(func(_ *suit, x *parts) {
		x.unprotected = slices.Concat([]byte{x.unprotected[0] + 1}, cb("io.acme.x"), cb(1), x.unprotected[1:])
	})},
	{"an unprotected label of a number", inCOSE(func(_ *suit, x *parts) {
		x.unprotected = slices.Concat([]byte{x.unprotected[0] + 1}, cb(99), cb(1), x.unprotected[1:])
	})},
	{"an attribute without a name", ifFormat(coseType, func(s *suit) bool {
		s.members = append(s.members, member{"", rawValue{cbor: cb(1)}})
		s.coseBends = append(s.coseBends, func(*parts) {})
		return true
	})},
	{"V19 crit is unprotected, too", inCOSE(func(_ *suit, x *parts) {
		x.unprotected = slices.Concat([]byte{x.unprotected[0] + 1}, cb(2), cb([]string{schemeName}), x.unprotected[1:])
	})},
	{"V19 33 as text, too", inCOSE(func(_ *suit, x *parts) {
		x.unprotected = slices.Concat([]byte{x.unprotected[0] + 1}, cb("33"), cb([][]byte{{1}}), x.unprotected[1:])
	})},
	{"V20 x5chain is one string", chainAs(coseType, func(ders [][]byte) rawValue {
		if len(ders) == 0 {
			return rawValue{cbor: cb([]byte{})}
		}
		return rawValue{cbor: cb(ders[0])}
	})},
	{"a string of a length longer than it need be", inCOSE(func(_ *suit, x *parts) {
		body := []byte(nil)
		for i, b := range x.payload {
			if b == '{' {
				body = x.payload[i:]
				break
			}
		}
		if n := len(body); n > 0 {
			x.payload = append([]byte{0x5a, 0, 0, byte(n >> 8), byte(n)}, body...)
		}
	})},

	// Bytes.
	{"a bit anywhere", inBytes(func(s *suit, b []byte) []byte { b[s.r.IntN(len(b))] ^= 1 << s.r.IntN(8); return b })},
	{"a byte anywhere", inBytes(func(s *suit, b []byte) []byte { b[s.r.IntN(len(b))] = byte(s.r.IntN(256)); return b })},
	{"a byte is missing", inBytes(func(s *suit, b []byte) []byte { i := s.r.IntN(len(b)); return slices.Delete(b, i, i+1) })},
	{"a byte too many", inBytes(func(s *suit, b []byte) []byte { i := s.r.IntN(len(b)); return slices.Insert(b, i, b[i]) })},
	{"V05 bytes behind it", inBytes(func(_ *suit, b []byte) []byte { return append(b, 'x') })},
	{"a newline behind it", inBytes(func(_ *suit, b []byte) []byte { return append(b, '\n') })},
	{"V05 a byte order mark", inBytes(func(_ *suit, b []byte) []byte { return append([]byte("\ufeff"), b...) })},
	{"cut off", inBytes(func(s *suit, b []byte) []byte { return b[:s.r.IntN(len(b))] })},
	{"V05 twice", inBytes(func(_ *suit, b []byte) []byte { return append(bytes.Clone(b), b...) })},
	{"V22 the other format's name", func(s *suit) bool {
		s.mediaType = map[string]string{jwsType: coseType, coseType: jwsType}[s.format]
		return true
	}},
	{"V22 a format with a parameter", func(s *suit) bool { s.mediaType = s.format + "; v=1"; return true }},

	// Timestamps.
	{"no timestamp", func(s *suit) bool { had := s.stamp != nil; s.stamp = nil; return had }},
	{"a timestamp", stamped(func(s *suit, sig []byte) []byte { return s.tsa.Token(sig, s.when()) })},
	{"X10 a timestamp accurate to a second", stamped(func(s *suit, sig []byte) []byte { return s.exact.Token(sig, s.when()) })},
	{"X10 a timestamp accurate to ten minutes", stamped(func(s *suit, sig []byte) []byte { return s.loose.Token(sig, s.when()) })},
	{"X10 a timestamp in the future", stamped(func(s *suit, sig []byte) []byte { return s.tsa.Token(sig, s.now.AddDate(0, 0, 30)) })},
	{"a timestamp from before the certificates", stamped(func(s *suit, sig []byte) []byte { return s.tsa.Token(sig, s.now.AddDate(-4, 0, 0)) })},
	{"X10 a timestamp at an edge", func(s *suit) bool {
		p := s.pick(anyOne)
		edge, by, tsa := s.days(5, 150), s.r.IntN(5)-2, s.tsa
		if s.chance(2) {
			tsa = s.exact
		}
		p.edits = append(p.edits, func(c *x509.Certificate) { c.NotAfter = edge })
		s.stamp = func(sig []byte) []byte { return tsa.Token(sig, edge.Add(time.Duration(by)*time.Second)) }
		return true
	}},
	{"X11 a timestamp over another signature", stamped(func(s *suit, _ []byte) []byte { return s.tsa.Token([]byte("another"), s.when()) })},
	{"X11 a timestamp over the payload", stamped(func(s *suit, _ []byte) []byte { return s.tsa.Token([]byte(s.payload), s.when()) })},
	{"X11 a timestamp of another authority", stamped(func(s *suit, sig []byte) []byte { return s.other.Token(sig, s.when()) })},
	{"X11 a timestamp of a lax authority", stamped(func(s *suit, sig []byte) []byte { return s.lax.Token(sig, s.when()) })},
	{"X12 garbage as timestamp", stamped(func(*suit, []byte) []byte { return []byte("garbage") })},
	{"a bit of the timestamp", func(s *suit) bool {
		if s.stamp == nil {
			return false
		}
		whole := s.stamp
		s.stamp = func(sig []byte) []byte { b := whole(sig); b[s.r.IntN(len(b))] ^= 1 << s.r.IntN(8); return b }
		return true
	}},
}

func inBytesOf(format string, bend func(s *suit, b []byte) []byte) func(s *suit) bool {
	return ifFormat(format, inBytes(bend))
}
