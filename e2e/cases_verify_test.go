package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// What is wrong with a signature (V01 and on), through the command. Each envelope is right but for one thing; alone it is rejected with
// its reason, and beside a good signature it hides nothing.

// chainOf is the desk's own chain.
func (d *desk) chain() []*x509.Certificate { return d.ca.Chain(d.leaf) }

func (d *desk) jws() *jws   { return newJWS(d.key, d.chain(), d.subject) }
func (d *desk) cose() *cose { return newCOSE(d.key, d.chain(), d.subject) }

// verify is the arguments of judging the desk's artifact by its root.
func (d *desk) verify(more ...string) []string {
	return append([]string{"verify", d.ref, "--root", d.at("root.pem")}, more...)
}

// rejects wants the only signature listed to be rejected for the reason, and accepted is the artifact once a good one
// stands beside it.
func (d *desk) rejects(t testing.TB, reason string) {
	t.Helper()
	o := d.want(t, 1, "", d.verify()...)
	if got := o.field(t, "signatures.0.reason"); got != reason {
		t.Errorf("rejected for %q, want %q: %s", got, reason, o.field(t, "signatures.0.detail"))
	}
	if n := o.field(t, "signatures.len"); n != "1" {
		t.Errorf("%s signatures in the report, want 1", n)
	}
	d.f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
	d.want(t, 0, "", d.verify()...)
}

type envelopeCase struct {
	name   string
	reason string
	bytes  func(d *desk) []byte
}

func runEnvelopes(t *testing.T, f *fake, mediaType string, cases []envelopeCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.f.attach(d.repo, d.subject, mediaType, c.bytes(d))
			d.rejects(t, c.reason)
		})
	}
}

// bent makes a case of a JWS that is bent before it is signed.
func bent(bend func(j *jws) *jws) func(d *desk) []byte {
	return func(d *desk) []byte { return bend(d.jws()).bytes() }
}

// broken makes a case of a JWS that is bent after it was signed.
func broken(bend func(s *sealed)) func(d *desk) []byte {
	return func(d *desk) []byte { s := d.jws().seal(); bend(s); return s.bytes() }
}

func TestCasesVerifyJWS(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	const scheme, tm = `"io.cncf.notary.signingScheme":"notary.x509"`, `"io.cncf.notary.signingTime":"`
	crit := `"crit":["io.cncf.notary.signingScheme"]`
	retimed := func(at string) func(j *jws) *jws {
		return func(j *jws) *jws {
			i := strings.Index(j.protected, tm) + len(tm)
			k := i + strings.IndexByte(j.protected[i:], '"')
			j.protected = j.protected[:i] + at + j.protected[k:]
			return j
		}
	}
	withExpiry := func(at string) func(j *jws) *jws {
		return func(j *jws) *jws {
			return j.replace(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"]`).with(`"io.cncf.notary.expiry":"` + at + `"`)
		}
	}
	runEnvelopes(t, f, jwsType, []envelopeCase{
		{"V01 alg none, unsigned", "algorithm-not-allowed", func(d *desk) []byte {
			s := d.jws().replace("ES256", "none").seal()
			s.signature = `"AA"`
			return s.bytes()
		}},
		{"V01 HS256 with the leaf's public key", "algorithm-not-allowed", func(d *desk) []byte {
			j := d.jws().replace("ES256", "HS256")
			s := j.seal()
			spki, _ := x509.MarshalPKIXPublicKey(d.key.Public())
			m := hmac.New(sha256.New, spki)
			m.Write([]byte(strings.Trim(s.protected, `"`) + "." + strings.Trim(s.payload, `"`)))
			s.signature = quote(b64(m.Sum(nil)))
			return s.bytes()
		}},
		{"V01 RS256", "algorithm-not-allowed", bent(func(j *jws) *jws { return j.replace("ES256", "RS256") })},
		{"V01 ES256K", "algorithm-not-allowed", bent(func(j *jws) *jws { return j.replace("ES256", "ES256K") })},
		{"V01 EdDSA", "algorithm-not-allowed", bent(func(j *jws) *jws { return j.replace("ES256", "EdDSA") })},
		{"V01 lower case", "algorithm-not-allowed", bent(func(j *jws) *jws { return j.replace("ES256", "es256") })},
		{"V02 ES384 with P-256", "algorithm-mismatch", bent(func(j *jws) *jws { return j.replace("ES256", "ES384") })},
		{"V02 ES256 with P-384", "algorithm-mismatch", func(d *desk) []byte {
			k := certtest.Key("P-384").(*ecdsa.PrivateKey)
			j := newJWS(k, d.ca.Chain(d.ca.Leaf(k.Public(), "p384")), d.subject).replace("ES384", "ES256")
			s := j.seal()
			h := sha256.Sum256([]byte(strings.Trim(s.protected, `"`) + "." + strings.Trim(s.payload, `"`)))
			r, v := ecdsaSign(k, h[:])
			s.signature = quote(b64(append(r.FillBytes(make([]byte, 48)), v.FillBytes(make([]byte, 48))...)))
			return s.bytes()
		}},
		{"V02 PS256 with RSA-3072", "algorithm-mismatch", func(d *desk) []byte {
			k := certtest.Key("RSA-3072")
			return newJWS(k, d.ca.Chain(d.ca.Leaf(k.Public(), "rsa")), d.subject).replace("PS384", "PS256").bytes()
		}},

		{"V03 twice in protected", "envelope-malformed", bent(func(j *jws) *jws { return j.with(`"cty":"` + payloadType + `"`) })},
		{"V03 twice in payload", "payload-malformed", bent(func(j *jws) *jws { j.payload = replaced(j.payload, `"size"`, `"size":1,"size"`); return j })},
		{"V03 two targetArtifact", "payload-malformed", bent(func(j *jws) *jws { j.payload = replaced(j.payload, "{", `{"targetArtifact":{},`); return j })},
		{"V03 twice in header", "envelope-malformed", broken(func(s *sealed) { s.header = replaced(s.header, "{", `{"x5c":[],`) })},
		{"V03 twice at the top", "envelope-malformed", broken(func(s *sealed) { s.payload += `,"payload":` + s.payload })},
		{"V03 escaped twice at the top", "envelope-malformed", broken(func(s *sealed) { s.payload += `,"\u0070ayload":` + s.payload })},
		{"V03 signature twice", "envelope-malformed", broken(func(s *sealed) { s.signature += `,"signature":` + s.signature })},
		{"V04 PAYLOAD", "envelope-malformed", func(d *desk) []byte {
			return bytes.Replace(d.jws().bytes(), []byte(`"payload"`), []byte(`"PAYLOAD"`), 1)
		}},
		{"V04 Payload too", "envelope-malformed", broken(func(s *sealed) { s.payload += `,"Payload":` + s.payload })},
		{"V04 ALG", "algorithm-not-allowed", bent(func(j *jws) *jws { return j.replace(`"alg"`, `"ALG"`) })},
		{"V04 Alg too", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"Alg":"ES256"`) })},
		{"V04 IO.CNCF.notary.expiry", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"IO.CNCF.notary.expiry":"2020-01-01T00:00:00Z"`) })},
		{"V04 TargetArtifact", "payload-malformed", bent(func(j *jws) *jws { j.payload = replaced(j.payload, "targetArtifact", "TargetArtifact"); return j })},
		{"V04 Digest", "payload-malformed", bent(func(j *jws) *jws { j.payload = replaced(j.payload, `"digest"`, `"Digest"`); return j })},
		{"V04 X5C", "envelope-malformed", broken(func(s *sealed) { s.header = replaced(s.header, "x5c", "X5C") })},

		{"V05 extra top-level member", "envelope-malformed", broken(func(s *sealed) { s.signature += `,"extra":1` })},
		{"V05 signatures", "envelope-malformed", func(d *desk) []byte {
			s := d.jws().seal()
			return fmt.Appendf(nil, `{"payload":%s,"signatures":[{"protected":%s,"header":%s,"signature":%s}]}`, s.payload, s.protected, s.header, s.signature)
		}},
		{"V05 trailing data", "envelope-malformed", func(d *desk) []byte { return append(d.jws().bytes(), 'x') }},
		{"V05 two objects", "envelope-malformed", func(d *desk) []byte { return slices.Concat(d.jws().bytes(), d.jws().bytes()) }},
		{"V05 byte order mark", "envelope-malformed", func(d *desk) []byte { return append([]byte("\ufeff"), d.jws().bytes()...) }},
		{"V05 comment", "envelope-malformed", func(d *desk) []byte { return append([]byte("/* */"), d.jws().bytes()...) }},
		{"V05 NaN", "envelope-malformed", broken(func(s *sealed) { s.header = replaced(s.header, "{", `{"n":NaN,`) })},
		{"V05 nested a hundred thousand deep", "envelope-malformed", broken(func(s *sealed) {
			s.header = replaced(s.header, "{", `{"n":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+",")
		})},
		{"V05 nested 17 deep", "envelope-malformed", broken(func(s *sealed) {
			s.header = replaced(s.header, "{", `{"n":`+strings.Repeat("[", 17)+strings.Repeat("]", 17)+",")
		})},
		{"V05 an array", "envelope-malformed", func(d *desk) []byte { return slices.Concat([]byte("["), d.jws().bytes(), []byte("]")) }},
		{"V05 null", "envelope-malformed", func(*desk) []byte { return []byte("null") }},
		{"V05 empty", "envelope-malformed", func(*desk) []byte { return []byte{' '} }},

		{"V06 padding", "envelope-malformed", broken(func(s *sealed) { s.signature = s.signature[:len(s.signature)-1] + `=="` })},
		{"V06 standard alphabet", "envelope-malformed", func(d *desk) []byte {
			for { // until the signature has a letter that differs
				s := d.jws().seal()
				if other := strings.NewReplacer("-", "+", "_", "/").Replace(s.signature); other != s.signature {
					s.signature = other
					return s.bytes()
				}
			}
		}},
		{"V06 newline", "envelope-malformed", broken(func(s *sealed) { s.signature = s.signature[:9] + `\n` + s.signature[9:] })},
		{"V06 newline in protected", "envelope-malformed", broken(func(s *sealed) { s.protected = s.protected[:9] + `\n` + s.protected[9:] })},
		{"V06 space", "envelope-malformed", broken(func(s *sealed) { s.payload = s.payload[:9] + " " + s.payload[9:] })},
		{"V06 bits left over", "envelope-malformed", broken(func(s *sealed) {
			i := len(s.signature) - 2 // 64 bytes leave 4 bits in the last letter
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			s.signature = s.signature[:i] + string(alphabet[strings.IndexByte(alphabet, s.signature[i])|1]) + `"`
		})},
		{"V06 padding in protected", "envelope-malformed", func(d *desk) []byte {
			j := d.jws()
			for len(j.protected)%3 == 0 { // until there is something to pad
				j.protected += " "
			}
			s := j.seal()
			s.protected = quote(base64.URLEncoding.EncodeToString([]byte(j.protected)))
			return s.bytes()
		}},
		{"V06 empty protected", "envelope-malformed", broken(func(s *sealed) { s.protected = `""` })},
		{"V06 empty signature", "envelope-malformed", broken(func(s *sealed) { s.signature = `""` })},
		{"V06 empty payload", "envelope-malformed", broken(func(s *sealed) { s.payload = `""` })},

		{"V07 a name of the Notary Project's that is none", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"io.cncf.notary.unheard":1`) })},
		{"V07 b64 false", "attribute-unknown", bent(func(j *jws) *jws {
			j.message = func(protected, _ string) []byte { return []byte(protected + "." + j.payload) }
			return j.with(`"b64":false`)
		})},
		{"V07 x5u", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"x5u":"http://127.0.0.1:1/x"`) })},
		{"V07 jku", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"jku":"http://127.0.0.1:1/x"`) })},
		{"V07 jwk", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"jwk":{"kty":"EC"}`) })},
		{"V07 kid", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"kid":"1"`) })},
		{"V07 zip", "attribute-unknown", bent(func(j *jws) *jws { return j.with(`"zip":"DEF"`) })},

		{"V08 crit missing", "critical-invalid", bent(func(j *jws) *jws { return j.replace(crit+",", "") })},
		{"V08 crit empty", "critical-invalid", bent(func(j *jws) *jws { return j.replace(crit, `"crit":[]`) })},
		{"V08 crit repeats", "critical-invalid", bent(func(j *jws) *jws {
			return j.replace(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.signingScheme"]`)
		})},
		{"V08 crit lists what is absent", "critical-invalid", bent(func(j *jws) *jws {
			return j.replace(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.expiry"]`)
		})},
		{"V08 crit lists alg", "critical-invalid", bent(func(j *jws) *jws { return j.replace(crit, `"crit":["io.cncf.notary.signingScheme","alg"]`) })},
		{"V08 crit lacks the scheme", "critical-invalid", bent(func(j *jws) *jws {
			return withExpiry(time.Now().UTC().Add(time.Hour).Format(time.RFC3339))(j).replace(`"crit":["io.cncf.notary.signingScheme",`, `"crit":[`)
		})},
		{"V08 crit lacks the expiry", "critical-invalid", bent(func(j *jws) *jws {
			return j.with(`"io.cncf.notary.expiry":"` + time.Now().UTC().Add(time.Hour).Format(time.RFC3339) + `"`)
		})},
		{"V08 crit is text", "critical-invalid", bent(func(j *jws) *jws { return j.replace(crit, `"crit":"io.cncf.notary.signingScheme"`) })},
		{"V09 unknown critical", "critical-unknown", bent(func(j *jws) *jws {
			return j.replace(crit, `"crit":["io.cncf.notary.signingScheme","example.org/x"]`).with(`"example.org/x":1`)
		})},
		{"V09 a verification plugin", "critical-unknown", bent(func(j *jws) *jws {
			return j.replace(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.verificationPlugin"]`).with(`"io.cncf.notary.verificationPlugin":"p"`)
		})},
		{"V10 crit in the unprotected header only", "critical-invalid", func(d *desk) []byte {
			s := d.jws().replace(crit+",", "").seal()
			s.header = replaced(s.header, "{", "{"+crit+",")
			return s.bytes()
		}},
		{"V10 crit in both headers", "envelope-malformed", broken(func(s *sealed) { s.header = replaced(s.header, "{", "{"+crit+",") })},

		{"V11 expiry before the signing time", "time-invalid", bent(withExpiry("2020-01-01T00:00:00Z"))},
		{"V11 expiry equals the signing time", "time-invalid", bent(func(j *jws) *jws {
			return withExpiry("2020-01-01T00:00:00Z")(retimed("2020-01-01T00:00:00Z")(j))
		})},
		{"V11 leap second", "time-invalid", bent(retimed("2016-12-31T23:59:60Z"))},
		{"V11 no zone", "time-invalid", bent(retimed("2026-01-01T00:00:00"))},
		{"V11 lower case", "time-invalid", bent(retimed("2026-01-01t00:00:00z"))},
		{"V11 a number", "time-invalid", bent(func(j *jws) *jws {
			retimed("X")(j)
			return j.replace(`"io.cncf.notary.signingTime":"X"`, `"io.cncf.notary.signingTime":1700000000`)
		})},
		{"V11 offset of a day", "time-invalid", bent(retimed("2026-01-01T00:00:00+24:00"))},
		{"V11 year 10000", "time-invalid", bent(retimed("10000-01-01T00:00:00Z"))},
		{"V11 signing time missing", "time-invalid", bent(func(j *jws) *jws {
			i := strings.Index(j.protected, ","+tm)
			j.protected = j.protected[:i] + "}"
			return j
		})},

		{"V12 scheme unknown", "scheme-unsupported", bent(func(j *jws) *jws { return j.replace(scheme, `"io.cncf.notary.signingScheme":"notary.x510"`) })},
		{"V12 notary.x509 with authenticSigningTime", "time-invalid", bent(func(j *jws) *jws {
			return j.with(`"io.cncf.notary.authenticSigningTime":"2026-01-01T00:00:00Z"`).
				replace(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"]`)
		})},
		{"V12 signing authority with signingTime", "time-invalid", bent(func(j *jws) *jws {
			return j.replace(scheme, `"io.cncf.notary.signingScheme":"notary.x509.signingAuthority"`).
				with(`"io.cncf.notary.authenticSigningTime":"2026-01-01T00:00:00Z"`).
				replace(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"]`)
		})},
		{"V12 signing authority under a CA root", "kind-not-trusted", bent(func(j *jws) *jws {
			return j.replace(scheme, `"io.cncf.notary.signingScheme":"notary.x509.signingAuthority"`).
				replace("io.cncf.notary.signingTime", "io.cncf.notary.authenticSigningTime").
				replace(crit, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"]`)
		})},

		{"V13 another content type", "payload-malformed", bent(func(j *jws) *jws { return j.replace(payloadType, "application/json") })},
		{"V13 two targetArtifact, the second of another", "payload-malformed", bent(func(j *jws) *jws {
			other := payloadOf(image("another").descriptor)
			j.payload = replaced(j.payload, "}}", "},"+strings.TrimPrefix(other, "{"))
			return j
		})},
		{"V13 not JSON", "payload-malformed", bent(func(j *jws) *jws { j.payload = "<payload/>"; return j })},
		{"V13 no size", "payload-malformed", bent(func(j *jws) *jws {
			i := strings.Index(j.payload, `,"size"`)
			j.payload = j.payload[:i] + "}}"
			return j
		})},
		{"V13 upper-case digest", "payload-malformed", bent(func(j *jws) *jws {
			i := strings.Index(j.payload, "sha256:") + 7
			j.payload = j.payload[:i] + strings.ToUpper("a"+j.payload[i+1:i+64]) + j.payload[i+64:]
			return j
		})},
		{"V13 short digest", "payload-malformed", bent(func(j *jws) *jws {
			i := strings.Index(j.payload, "sha256:") + 7
			j.payload = j.payload[:i] + j.payload[i+1:]
			return j
		})},
		{"V13 sha1", "payload-malformed", bent(func(j *jws) *jws {
			i := strings.Index(j.payload, "sha256:")
			j.payload = j.payload[:i] + "sha1:" + strings.Repeat("0", 40) + j.payload[i+71:]
			return j
		})},
		{"V13 md5", "payload-malformed", bent(func(j *jws) *jws {
			i := strings.Index(j.payload, "sha256:")
			j.payload = j.payload[:i] + "md5:" + strings.Repeat("0", 32) + j.payload[i+71:]
			return j
		})},
		{"V13 annotation that is no text", "payload-malformed", bent(func(j *jws) *jws { j.payload = replaced(j.payload, "}}", `,"annotations":{"a":1}}}`); return j })},
		{"V13 size as a float", "payload-malformed", bent(func(j *jws) *jws { j.payload = replaced(j.payload, "}}", ".0}}"); return j })},

		{"V14 size wrong", "payload-mismatch", func(d *desk) []byte {
			s := d.subject
			s.Size++
			return newJWS(d.key, d.chain(), s).bytes()
		}},
		{"V14 media type wrong", "payload-mismatch", func(d *desk) []byte {
			s := d.subject
			s.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
			return newJWS(d.key, d.chain(), s).bytes()
		}},
		{"V15 payload of another artifact", "payload-mismatch", func(d *desk) []byte {
			return newJWS(d.key, d.chain(), image("another").descriptor).bytes()
		}},

		{"V16 r is 0", "signature-invalid", forgedECDSA(func(r, _ *big.Int) { r.SetInt64(0) })},
		{"V16 s is 0", "signature-invalid", forgedECDSA(func(_, s *big.Int) { s.SetInt64(0) })},
		{"V16 r is n", "signature-invalid", forgedECDSA(func(r, _ *big.Int) { r.Set(elliptic.P256().Params().N) })},
		{"V16 r is n+1", "signature-invalid", forgedECDSA(func(r, _ *big.Int) { r.Add(elliptic.P256().Params().N, big.NewInt(1)) })},
		{"V16 s is n", "signature-invalid", forgedECDSA(func(_, s *big.Int) { s.Set(elliptic.P256().Params().N) })},
		{"V16 s is n+1", "signature-invalid", forgedECDSA(func(_, s *big.Int) { s.Add(elliptic.P256().Params().N, big.NewInt(1)) })},
		{"V16 one byte short", "signature-invalid", broken(func(s *sealed) { s.signature = quote(b64(unb64(s.signature)[:63])) })},
		{"V16 one byte long", "signature-invalid", broken(func(s *sealed) { s.signature = quote(b64(append([]byte{0}, unb64(s.signature)...))) })},
		{"V16 DER", "signature-invalid", broken(func(s *sealed) {
			raw := unb64(s.signature)
			s.signature = quote(b64(derOf(new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:]))))
		})},
		{"V16 of another key", "signature-invalid", func(d *desk) []byte { j := d.jws(); j.key = certtest.Key("P-256"); return j.bytes() }},
		{"V17 PSS salt of 20 bytes", "signature-invalid", saltedJWS(20)},
		{"V17 PSS salt as long as possible", "signature-invalid", saltedJWS(rsa.PSSSaltLengthAuto)},

		{"V18 empty x5c", "chain-malformed", broken(func(s *sealed) { s.header = `{"x5c":[]}` })},
		{"V18 no x5c", "chain-malformed", broken(func(s *sealed) { s.header = `{}` })},
		{"V18 x5c is text", "chain-malformed", broken(func(s *sealed) { s.header = `{"x5c":"AAAA"}` })},
		{"V18 base64url entry", "chain-malformed", bent(func(j *jws) *jws { j.x5c[0] = b64(mustStd(j.x5c[0])); return j })},
		{"V18 trailing bytes", "chain-malformed", bent(func(j *jws) *jws {
			j.x5c[0] = base64.StdEncoding.EncodeToString(append(mustStd(j.x5c[0]), 0))
			return j
		})},
		{"V18 17 certificates", "chain-malformed", func(d *desk) []byte {
			a := d.root
			for i := range 15 {
				a = a.Intermediate(fmt.Sprintf("CA %d", i))
			}
			return newJWS(d.key, a.Chain(a.Leaf(d.key.Public(), "deep")), d.subject).bytes()
		}},
		{"V18 302 certificates", "chain-malformed", bent(func(j *jws) *jws { j.x5c = slices.Repeat(j.x5c[:1], 302); return j })},
		{"V18 a certificate of 65 KiB", "chain-malformed", func(d *desk) []byte {
			big := d.ca.Leaf(d.key.Public(), "big", func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, 65<<10)}}
			})
			return newJWS(d.key, d.ca.Chain(big), d.subject).bytes()
		}},
		{"V18 not a certificate", "chain-malformed", bent(func(j *jws) *jws { j.x5c[1] = "AAAA"; return j })},
		{"V18 nested ASN.1", "chain-malformed", bent(func(j *jws) *jws {
			j.x5c[0] = base64.StdEncoding.EncodeToString(nestedASN1(10_000))
			return j
		})},
		{"V18 the root is missing", "chain-invalid", bent(func(j *jws) *jws { j.x5c = j.x5c[:2]; return j })},
		{"V18 shuffled", "chain-invalid", bent(func(j *jws) *jws { j.x5c[1], j.x5c[2] = j.x5c[2], j.x5c[1]; return j })},
		{"V18 an extra certificate", "chain-invalid", func(d *desk) []byte {
			return newJWS(d.key, append(d.chain(), certtest.Root("extra").Certificate), d.subject).bytes()
		}},

		{"V21 chain in the protected header", "chain-is-signed", bent(func(j *jws) *jws { return j.with(`"x5c":["` + j.x5c[0] + `"]`) })},
		{"V22 CBOR called JOSE", "format-mismatch", func(d *desk) []byte { return d.cose().bytes() }},
	})

	// What is right all the same: unknown extensions that nobody calls critical, unusual times, the other form of a signature.
	for name, good := range map[string]func(d *desk) []byte{
		"V07 a reverse-DNS extension that is not critical": bent(func(j *jws) *jws { return j.with(`"org.example.x":{"a":1}`) }),
		"V11 fractional seconds":                           bent(retimed(time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15:04:05.000000Z"))),
		"V11 offset +14:00":                                bent(retimed(time.Now().Add(-time.Hour).In(time.FixedZone("", 14*60*60)).Format(time.RFC3339))),
		"V11 expiry in the year 9999":                      bent(withExpiry("9999-12-31T23:59:59Z")),
		"V05 unknown unprotected member":                   broken(func(s *sealed) { s.header = replaced(s.header, "{", `{"org.example.x":[1,{"a":"b"}],`) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			f.attach(d.repo, d.subject, jwsType, good(d))
			d.want(t, 0, "", d.verify()...)
		})
	}
	t.Run("V11 expiry equal to now", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		now := time.Now().UTC().Truncate(time.Second)
		f.attach(d.repo, d.subject, jwsType, withExpiry(now.Format(time.RFC3339))(d.jws()).bytes())
		d.now = func() time.Time { return now }
		if o := d.want(t, 1, "expired", d.verify()...); o.field(t, "reason") != "expired" {
			t.Errorf("reason %s", o.field(t, "reason"))
		}
		d.now = func() time.Time { return now.Add(-time.Second) }
		d.want(t, 0, "", d.verify()...)
	})
	t.Run("V16 both forms of a signature are one", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		s := d.jws().seal()
		f.attach(d.repo, d.subject, jwsType, s.bytes())
		raw := unb64(s.signature)
		other := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(raw[32:]))
		s.signature = quote(b64(rawOf(new(big.Int).SetBytes(raw[:32]), other)))
		f.attach(d.repo, d.subject, jwsType, s.bytes())
		o := d.want(t, 0, "", d.verify()...)
		if a, b := o.field(t, "signatures.0.core"), o.field(t, "signatures.1.core"); a == "" || a != b {
			t.Errorf("core ids %s and %s", a, b)
		}
	})
}

// mustStd decodes standard base64.
func mustStd(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// unb64 decodes a quoted base64url value.
func unb64(quoted string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(strings.Trim(quoted, `"`))
	if err != nil {
		panic(err)
	}
	return b
}

func forgedECDSA(forge func(r, s *big.Int)) func(d *desk) []byte {
	return broken(func(e *sealed) {
		raw := unb64(e.signature)
		r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
		forge(r, s)
		e.signature = quote(b64(rawOf(r, s)))
	})
}

func saltedJWS(salt int) func(d *desk) []byte {
	return func(d *desk) []byte {
		k := certtest.Key("RSA-2048").(*rsa.PrivateKey)
		s := newJWS(k, d.ca.Chain(d.ca.Leaf(k.Public(), "rsa")), d.subject).seal()
		s.signature = quote(b64(pss(k, []byte(strings.Trim(s.protected, `"`)+"."+strings.Trim(s.payload, `"`)), salt)))
		return s.bytes()
	}
}

// nestedASN1 is a sequence in a sequence in a sequence.
func nestedASN1(depth int) []byte {
	b := []byte{5, 0}
	for range depth {
		b = sequence([]asn1.RawValue{{FullBytes: b}})
	}
	return b
}
