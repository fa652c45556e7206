package e2e

import (
	"crypto/rsa"
	"math/big"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

func TestCasesVerifyCOSE(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	const scheme, signingTime, expiry = "io.cncf.notary.signingScheme", "io.cncf.notary.signingTime", "io.cncf.notary.expiry"
	bent := func(bend func(c *cose) *cose) func(d *desk) []byte {
		return func(d *desk) []byte { return bend(d.cose()).bytes() }
	}
	broken := func(bend func(p *parts)) func(d *desk) []byte {
		return func(d *desk) []byte { p := d.cose().seal(); bend(p); return p.bytes() }
	}
	hour := unix(time.Now().Add(time.Hour))
	runEnvelopes(t, f, coseType, []envelopeCase{
		{"V01 RS256", "algorithm-not-allowed", bent(func(c *cose) *cose { return c.set(1, cb(-257)) })},
		{"V01 HMAC", "algorithm-not-allowed", bent(func(c *cose) *cose { return c.set(1, cb(5)) })},
		{"V01 ES256K", "algorithm-not-allowed", bent(func(c *cose) *cose { return c.set(1, cb(-47)) })},
		{"V01 EdDSA", "algorithm-not-allowed", bent(func(c *cose) *cose { return c.set(1, cb(-8)) })},
		{"V01 as text", "algorithm-not-allowed", bent(func(c *cose) *cose { return c.set(1, cb("ES256")) })},
		{"V01 none", "algorithm-not-allowed", bent(func(c *cose) *cose { return c.drop(1) })},
		{"V02 ES384 with P-256", "algorithm-mismatch", bent(func(c *cose) *cose { return c.set(1, cb(-35)) })},
		{"V02 PS256 with RSA-3072", "algorithm-mismatch", func(d *desk) []byte {
			k := certtest.Key("RSA-3072")
			return newCOSE(k, d.ca.Chain(d.ca.Leaf(k.Public(), "rsa")), d.subject).set(1, cb(-37)).bytes()
		}},
		{"V03 twice in protected", "envelope-malformed", bent(func(c *cose) *cose { return c.add(at(3, payloadType)) })},
		{"V03 twice in unprotected", "envelope-malformed", bent(func(c *cose) *cose { c.unprotected = append(c.unprotected, c.unprotected[0]); return c })},
		{"V04 IO.CNCF.notary.expiry", "attribute-unknown", bent(func(c *cose) *cose { return c.add(pair{cb("IO.CNCF.notary.expiry"), hour}) })},
		{"V07 kid", "attribute-unknown", bent(func(c *cose) *cose { return c.add(at(4, []byte("kid"))) })},
		{"V07 x5u", "attribute-unknown", bent(func(c *cose) *cose { return c.add(at(35, "http://127.0.0.1:1/x")) })},
		{"V08 crit missing", "critical-invalid", bent(func(c *cose) *cose { return c.drop(2) })},
		{"V08 crit empty", "critical-invalid", bent(func(c *cose) *cose { return c.set(2, cb([]string{})) })},
		{"V08 crit repeats", "critical-invalid", bent(func(c *cose) *cose { return c.set(2, cb([]string{scheme, scheme})) })},
		{"V08 crit lists what is absent", "critical-invalid", bent(func(c *cose) *cose { return c.set(2, cb([]string{scheme, expiry})) })},
		{"V08 crit lists alg", "critical-invalid", bent(func(c *cose) *cose { return c.set(2, cb([]any{scheme, 1})) })},
		{"V08 crit lacks the expiry", "critical-invalid", bent(func(c *cose) *cose { return c.add(pair{cb(expiry), hour}) })},
		{"V08 crit lacks the scheme", "critical-invalid", bent(func(c *cose) *cose { return c.set(2, cb([]string{expiry})).add(pair{cb(expiry), hour}) })},
		{"V09 unknown critical", "critical-unknown", bent(func(c *cose) *cose {
			return c.set(2, cb([]string{scheme, "example.org/x"})).add(at("example.org/x", 1))
		})},
		{"V09 unknown critical integer", "critical-unknown", bent(func(c *cose) *cose { return c.set(2, cb([]any{scheme, 999})).add(at(999, 1)) })},
		{"V10 crit in unprotected only", "critical-invalid", bent(func(c *cose) *cose {
			c.unprotected = append(c.unprotected, c.protected[1])
			return c.drop(2)
		})},
		{"V11 expiry equals the signing time", "time-invalid", bent(func(c *cose) *cose {
			return c.set(2, cb([]string{scheme, expiry})).add(pair{cb(expiry), c.protected[3].value})
		})},
		{"V12 scheme unknown", "scheme-unsupported", bent(func(c *cose) *cose { return c.set(scheme, cb("notary.x510")) })},
		{"V12 notary.x509 with authenticSigningTime", "time-invalid", bent(func(c *cose) *cose {
			return c.set(2, cb([]string{scheme, "io.cncf.notary.authenticSigningTime"})).add(pair{cb("io.cncf.notary.authenticSigningTime"), hour})
		})},
		{"V13 another content type", "payload-malformed", bent(func(c *cose) *cose { return c.set(3, cb("application/json")) })},
		{"V13 not JSON", "payload-malformed", bent(func(c *cose) *cose { c.payload = "nothing"; return c })},
		{"V14 size wrong", "payload-mismatch", func(d *desk) []byte {
			s := d.subject
			s.Size++
			return newCOSE(d.key, d.chain(), s).bytes()
		}},
		{"V15 payload of another artifact", "payload-mismatch", func(d *desk) []byte {
			return newCOSE(d.key, d.chain(), image("another").descriptor).bytes()
		}},
		{"V16 of another key", "signature-invalid", bent(func(c *cose) *cose { c.key = certtest.Key("P-256"); return c })},
		{"V16 r is 0", "signature-invalid", broken(func(p *parts) { p.signature = cb(append(make([]byte, 32), p.signature[34:]...)) })},
		{"V16 one byte short", "signature-invalid", broken(func(p *parts) { p.signature = cb(p.signature[2:65]) })},
		{"V16 DER", "signature-invalid", broken(func(p *parts) {
			raw := p.signature[2:]
			p.signature = cb(derOf(new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])))
		})},
		{"V17 PSS salt of 20 bytes", "signature-invalid", func(d *desk) []byte {
			k := certtest.Key("RSA-2048").(*rsa.PrivateKey)
			c := newCOSE(k, d.ca.Chain(d.ca.Leaf(k.Public(), "rsa")), d.subject)
			p := c.seal()
			p.signature = cb(pss(k, sigStructure(cborMap(c.protected), []byte(c.payload)), 20))
			return p.bytes()
		}},
		{"V18 empty x5chain", "chain-malformed", bent(func(c *cose) *cose { c.unprotected = []pair{at(33, [][]byte{})}; return c })},
		{"V18 no x5chain", "chain-malformed", bent(func(c *cose) *cose { c.unprotected = nil; return c })},

		{"V19 untagged", "envelope-malformed", func(d *desk) []byte { return d.cose().bytes()[1:] }},
		{"V19 tag 98", "envelope-malformed", func(d *desk) []byte { return append([]byte{0xd8, 98}, d.cose().bytes()[1:]...) }},
		{"V19 tag 18 twice", "envelope-malformed", func(d *desk) []byte { return append([]byte{0xd2}, d.cose().bytes()...) }},
		{"V19 trailing byte", "envelope-malformed", func(d *desk) []byte { return append(d.cose().bytes(), 0) }},
		{"V19 indefinite array", "envelope-malformed", func(d *desk) []byte {
			b := d.cose().bytes()
			b[1] = 0x9f
			return append(b, 0xff)
		}},
		{"V19 indefinite protected map", "envelope-malformed", bent(func(c *cose) *cose {
			b := cborMap(c.protected)
			c.rawHeader = append(append([]byte{0xbf}, b[1:]...), 0xff)
			return c
		})},
		{"V19 indefinite unprotected map", "envelope-malformed", broken(func(p *parts) {
			p.unprotected = append(append([]byte{0xbf}, p.unprotected[1:]...), 0xff)
		})},
		{"V19 indefinite byte string", "envelope-malformed", broken(func(p *parts) { p.signature = append(append([]byte{0x5f}, p.signature...), 0xff) })},
		{"V19 a label twice", "envelope-malformed", bent(func(c *cose) *cose { return c.add(c.protected[0]) })},
		{"V19 non-minimal integer", "envelope-malformed", bent(func(c *cose) *cose { return c.set(1, []byte{0x38, 0x06}) })},
		{"V19 non-minimal label", "envelope-malformed", bent(func(c *cose) *cose { c.protected[0].key = []byte{0x18, 0x01}; return c })},
		{"V19 payload nil", "envelope-malformed", broken(func(p *parts) { p.payload = []byte{0xf6} })},
		{"V19 crit in unprotected", "envelope-malformed", bent(func(c *cose) *cose { c.unprotected = append(c.unprotected, c.protected[1]); return c })},
		{"V19 alg in unprotected", "envelope-malformed", bent(func(c *cose) *cose { c.unprotected = append(c.unprotected, c.protected[0]); return c })},
		{"V19 33 as text too", "envelope-malformed", bent(func(c *cose) *cose { c.unprotected = append(c.unprotected, at("33", 1)); return c })},
		{"V19 1 as text too", "envelope-malformed", bent(func(c *cose) *cose { return c.add(at("1", -7)) })},
		{"V19 time without a tag", "time-invalid", bent(func(c *cose) *cose { return c.set(signingTime, cb(time.Now().Unix())) })},
		{"V19 time with tag 0", "time-invalid", bent(func(c *cose) *cose { return c.set(signingTime, append([]byte{0xc0}, cb("2026-01-01T00:00:00Z")...)) })},
		{"V19 float time", "time-invalid", bent(func(c *cose) *cose { return c.set(signingTime, append([]byte{0xc1}, cb(1.5)...)) })},
		{"V19 time of 2^63", "time-invalid", bent(func(c *cose) *cose { return c.set(signingTime, append([]byte{0xc1}, cb(uint64(1)<<63)...)) })},
		{"V19 signing time missing", "time-invalid", bent(func(c *cose) *cose { return c.drop(signingTime) })},
		{"V19 protected is a map, not bytes", "envelope-malformed", broken(func(p *parts) { p.protected = p.protected[2:] })},
		{"V20 x5chain as one byte string", "chain-malformed", func(d *desk) []byte {
			k, chain := certtest.ChainOf(1, "P-256")
			c := newCOSE(k, chain, d.subject)
			c.unprotected = []pair{at(33, chain[0].Raw)}
			return c.bytes()
		}},
		{"V21 x5chain in the protected header", "chain-is-signed", bent(func(c *cose) *cose { return c.add(c.unprotected[0]) })},
		{"V21 x5chain in the protected header only", "chain-is-signed", bent(func(c *cose) *cose {
			c.add(c.unprotected[0])
			c.unprotected = nil
			return c
		})},
		{"V22 JOSE called CBOR", "format-mismatch", func(d *desk) []byte { return d.jws().bytes() }},
	})
}
