package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// Envelopes made by hand, so that each of their parts may be bent before or after the leaf key signs them.

const (
	jwsType     = "application/jose+json"
	coseType    = "application/cose"
	payloadType = "application/vnd.cncf.notary.payload.v1+json"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jose says how a key signs: its JOSE name, COSE number and hash.
func jose(pub crypto.PublicKey) (name string, number int, hash crypto.Hash) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Params().BitSize {
		case 256:
			return "ES256", -7, crypto.SHA256
		case 384:
			return "ES384", -35, crypto.SHA384
		case 521:
			return "ES512", -36, crypto.SHA512
		}
	case *rsa.PublicKey:
		switch k.Size() {
		case 256:
			return "PS256", -37, crypto.SHA256
		case 384:
			return "PS384", -38, crypto.SHA384
		case 512:
			return "PS512", -39, crypto.SHA512
		}
	}
	panic(fmt.Sprintf("craft: no algorithm for %T", pub))
}

// primitive signs as JOSE and COSE do: r and s beside each other, or PSS.
func primitive(key crypto.Signer, message []byte) []byte {
	_, _, hash := jose(key.Public())
	h := hash.New()
	h.Write(message)
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, h.Sum(nil))
		if err != nil {
			panic(err)
		}
		size := (k.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		return pss(k, message, rsa.PSSSaltLengthEqualsHash)
	}
	panic(fmt.Sprintf("craft: cannot sign with %T", key))
}

func pss(k *rsa.PrivateKey, message []byte, salt int) []byte {
	_, _, hash := jose(k.Public())
	h := hash.New()
	h.Write(message)
	sig, err := rsa.SignPSS(rand.Reader, k, hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: salt, Hash: hash})
	if err != nil {
		panic(err)
	}
	return sig
}

// payloadOf is the payload that names d.
func payloadOf(d ocispec.Descriptor) string {
	return fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d}}`, d.MediaType, d.Digest, d.Size)
}

// A jws is a JWS before it is signed.
type jws struct {
	key       crypto.Signer
	protected string // JSON
	payload   string // JSON
	x5c       []string
	message   func(protected, payload string) []byte // what is signed; nil: as RFC 7515 says
}

// newJWS is right in all its parts.
func newJWS(key crypto.Signer, chain []*x509.Certificate, subject ocispec.Descriptor) *jws {
	alg, _, _ := jose(key.Public())
	j := &jws{
		key: key,
		protected: fmt.Sprintf(`{"alg":%q,"crit":["io.cncf.notary.signingScheme"],"cty":%q,"io.cncf.notary.signingScheme":"notary.x509","io.cncf.notary.signingTime":%q}`,
			alg, payloadType, time.Now().UTC().Add(-time.Minute).Format(time.RFC3339)),
		payload: payloadOf(subject),
	}
	for _, c := range chain {
		j.x5c = append(j.x5c, base64.StdEncoding.EncodeToString(c.Raw))
	}
	return j
}

// replace changes the protected header, which must hold old.
func (j *jws) replace(old, new string) *jws {
	j.protected = replaced(j.protected, old, new)
	return j
}

// with adds a member to the protected header.
func (j *jws) with(member string) *jws { return j.replace(`{"alg"`, `{`+member+`,"alg"`) }

// replaced is strings.Replace that panics when there is nothing to replace: a case that changes nothing proves nothing.
func replaced(s, old, new string) string {
	if !strings.Contains(s, old) || old == new {
		panic(fmt.Sprintf("craft: %q is not in %s", old, s))
	}
	return strings.Replace(s, old, new, 1)
}

// A sealed is a JWS after it was signed: the raw JSON of its four members.
type sealed struct{ payload, protected, header, signature string }

func (j *jws) seal() *sealed {
	protected, payload := b64([]byte(j.protected)), b64([]byte(j.payload))
	message := []byte(protected + "." + payload)
	if j.message != nil {
		message = j.message(protected, payload)
	}
	x5c, _ := json.Marshal(j.x5c)
	return &sealed{
		payload: quote(payload), protected: quote(protected), header: `{"x5c":` + string(x5c) + `}`,
		signature: quote(b64(primitive(j.key, message))),
	}
}

func quote(s string) string { return `"` + s + `"` }

func (s *sealed) bytes() []byte {
	return fmt.Appendf(nil, `{"payload":%s,"protected":%s,"header":%s,"signature":%s}`, s.payload, s.protected, s.header, s.signature)
}

func (j *jws) bytes() []byte { return j.seal().bytes() }

// A pair is one entry of a CBOR map, both halves encoded.
type pair struct{ key, value []byte }

func cb(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func at(key, value any) pair { return pair{cb(key), cb(value)} }

// unix is a time as Notary writes it: tag 1.
func unix(t time.Time) []byte { return append([]byte{0xc1}, cb(t.Unix())...) }

func cborMap(pairs []pair) []byte {
	if len(pairs) > 23 {
		panic("craft: a map of more than 23 entries")
	}
	b := []byte{0xa0 | byte(len(pairs))}
	for _, p := range pairs {
		b = append(append(b, p.key...), p.value...)
	}
	return b
}

// A cose is a COSE_Sign1 before it is signed.
type cose struct {
	key         crypto.Signer
	protected   []pair
	unprotected []pair
	payload     string
	rawHeader   []byte // instead of protected
}

// newCOSE is right in all its parts.
func newCOSE(key crypto.Signer, chain []*x509.Certificate, subject ocispec.Descriptor) *cose {
	_, alg, _ := jose(key.Public())
	var ders [][]byte
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	return &cose{
		key: key,
		protected: []pair{
			at(1, alg),
			at(2, []string{"io.cncf.notary.signingScheme"}),
			at(3, payloadType),
			{cb("io.cncf.notary.signingTime"), unix(time.Now().Add(-time.Minute))},
			at("io.cncf.notary.signingScheme", "notary.x509"),
		},
		unprotected: []pair{at(33, ders)},
		payload:     payloadOf(subject),
	}
}

// set replaces the value of a protected entry.
func (c *cose) set(key any, value []byte) *cose {
	for i := range c.protected {
		if bytes.Equal(c.protected[i].key, cb(key)) {
			c.protected[i].value = value
			return c
		}
	}
	panic(fmt.Sprintf("craft: no entry %v", key))
}

// drop removes a protected entry.
func (c *cose) drop(key any) *cose {
	n := len(c.protected)
	c.protected = slices.DeleteFunc(c.protected, func(p pair) bool { return bytes.Equal(p.key, cb(key)) })
	if len(c.protected) == n {
		panic(fmt.Sprintf("craft: no entry %v", key))
	}
	return c
}

// add appends protected entries.
func (c *cose) add(pairs ...pair) *cose {
	c.protected = append(c.protected, pairs...)
	return c
}

// The four encoded parts of a COSE_Sign1.
type parts struct{ protected, unprotected, payload, signature []byte }

func (c *cose) seal() *parts {
	header := c.rawHeader
	if header == nil {
		header = cborMap(c.protected)
	}
	return &parts{
		protected: cb(header), unprotected: cborMap(c.unprotected), payload: cb([]byte(c.payload)),
		signature: cb(primitive(c.key, sigStructure(header, []byte(c.payload)))),
	}
}

func sigStructure(protected, payload []byte) []byte {
	return cb([]any{"Signature1", protected, []byte{}, payload})
}

func (p *parts) bytes() []byte {
	return slices.Concat([]byte{0xd2, 0x84}, p.protected, p.unprotected, p.payload, p.signature)
}

func (c *cose) bytes() []byte { return c.seal().bytes() }

// What the kit makes unbent is a signature: the judge accepts it. Else each row that bends one thing would prove nothing.
func TestCraft(t *testing.T) {
	t.Parallel()
	server := regtest.New(t, regtest.WithAPI)
	for _, algorithm := range []string{"P-256", "P-521", "RSA-2048"} {
		for _, format := range []string{jwsType, coseType} {
			key, chain := certtest.ChainOf(3, algorithm)
			a := image("crafted " + algorithm + format)
			repo := server.Host + "/" + strings.ToLower(algorithm) + "/" + format[len("application/"):len("application/")+3]
			ref := pushed(t, a, repo, "v1")
			b := newJWS(key, chain, a.descriptor).bytes()
			if format == coseType {
				b = newCOSE(key, chain, a.descriptor).bytes()
			}
			s := newArtifact(ocispec.MediaTypeImageManifest, signatureManifest(a.descriptor, format, b))
			empty := ocispec.DescriptorEmptyJSON
			empty.Data = nil
			s.blobs = []blob{{describe(format, b), b}, {empty, []byte("{}")}}
			pushed(t, s, repo, "")
			if err := judge.Verify(t.Context(), ref, chain[2]); err != nil {
				t.Errorf("%s, %s: %v", algorithm, format, err)
			}
		}
	}
}
