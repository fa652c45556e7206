package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
)

// A wardrobe is what all suits of a differential test are made of: keys, since making them is slow, and authorities of time-stamping.
type wardrobe struct {
	now                      time.Time
	curve                    []crypto.Signer // P-256, for authorities and leaves
	leaf                     map[string]crypto.Signer
	tsa, exact, loose, other *tsatest.Authority // accurate to nothing said, a second, ten minutes; of another root
	lax                      *tsatest.Authority // whose usage is not critical
	attacker                 *certtest.Authority
	ed, weakRSA, weakCurve   crypto.Signer
}

func newWardrobe() *wardrobe {
	w := &wardrobe{now: time.Now(), leaf: map[string]crypto.Signer{}}
	for range 8 {
		w.curve = append(w.curve, certtest.Key("P-256"))
	}
	for _, algorithm := range []string{"P-256", "P-384", "P-521", "RSA-2048", "RSA-3072"} {
		w.leaf[algorithm] = certtest.Key(algorithm)
	}
	w.tsa = tsatest.New(tsatest.Options{})
	below := func(o tsatest.Options) *tsatest.Authority {
		o.Root, o.CA = w.tsa.Root, w.tsa.CA
		return tsatest.New(o)
	}
	w.exact, w.loose = below(tsatest.Options{Accuracy: time.Second}), below(tsatest.Options{Accuracy: 10 * time.Minute})
	w.lax = below(tsatest.Options{Edits: []certtest.Edit{func(c *x509.Certificate) {
		c.ExtraExtensions, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
	}}})
	w.other = tsatest.New(tsatest.Options{Name: "other tsa"})
	w.attacker = certtest.Root("attacker", longLived())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	w.ed, w.weakRSA, w.weakCurve = ed, certtest.Key("RSA-1024"), certtest.Key("P-224")
	return w
}

// A suit is a chain, an envelope and a policy as they were drawn, before anything is signed. Mutations bend it.
type suit struct {
	*wardrobe
	r    *mathrand.Rand
	worn []string // names of the mutations

	certificates []*pattern                                      // leaf first
	listed       []func([]*x509.Certificate) []*x509.Certificate // what becomes of the chain once it is issued
	format       string                                          // of the envelope
	key          crypto.Signer                                   // that signs
	members      []member                                        // of the protected header
	payload      string                                          // JSON
	stamp        func(signature []byte) []byte                   // nil: it has no timestamp
	reshaped     []func(signature []byte) []byte                 // what becomes of the primitive signature
	unsigned     []member                                        // of the unprotected header
	jwsBends     []func(*sealed)                                 // what becomes of the parts once they are signed
	coseBends    []func(*parts)                                  //
	chainMember  func(ders [][]byte) member                      // how the chain is written; nil: as it should be
	bytesBends   []func([]byte) []byte                           // what becomes of it all
	mediaType    string                                          // of the layer; "": the format
	salt         int                                             // of PSS
	policyBends  []func(p *outfit, issued []*x509.Certificate)   // what becomes of the policy
	outfit       outfit                                          // the policy
}

// A pattern is how a certificate is to be cut.
type pattern struct {
	name    string
	key     crypto.Signer
	edits   []certtest.Edit
	rewrite func(tbs []asn1.RawValue) // of what Go would not write
	sha1    bool
	forged  bool // another key signs it
}

// A member of a header is named as in JWS. Its value is a string, an int, a list of strings, a time, or raw.
type member struct {
	name  string
	value any
}

// raw is a value as each format encodes it.
type rawValue struct {
	json string
	cbor []byte
}

const (
	schemeName, signedName, authenticName = "io.cncf.notary.signingScheme", "io.cncf.notary.signingTime", "io.cncf.notary.authenticSigningTime"
	expiryName, stampName                 = "io.cncf.notary.expiry", "io.cncf.notary.timestampSignature"
)

func (s *suit) chance(of int) bool { return s.r.IntN(of) == 0 }

// days draws a time so many days ago (or ahead, if negative); never within ten minutes of the clock.
func (s *suit) days(least, most int) time.Time {
	d := time.Duration(least)*24*time.Hour + time.Duration(s.r.Int64N(int64(time.Duration(most-least)*24*time.Hour)))
	return s.now.Add(-d).Add(-trapMargin).UTC().Truncate(time.Second)
}

// draw makes a suit that fits: without mutation everybody accepts it.
func (w *wardrobe) draw(r *mathrand.Rand) *suit {
	s := &suit{wardrobe: w, r: r, salt: rsa.PSSSaltLengthEqualsHash}
	leaf := "P-256"
	if s.chance(3) {
		leaf = []string{"P-384", "P-521", "RSA-2048", "RSA-3072"}[r.IntN(4)]
	}
	s.key = w.leaf[leaf]
	n := []int{1, 2, 2, 3, 3, 3, 3, 3, 4, 5}[r.IntN(10)]
	for i := range n {
		p := &pattern{name: fmt.Sprintf("differential CA %d", i), key: w.curve[i]}
		if i == 0 {
			p.name, p.key = "differential leaf", s.key
		}
		p.edits = []certtest.Edit{certtest.Valid(w.now.AddDate(-2, 0, -i), w.now.AddDate(1, 0, i))}
		s.certificates = append(s.certificates, p)
	}
	s.format = []string{jwsType, coseType}[r.IntN(2)]
	alg, _, _ := jose(s.key.Public())
	signed, scheme, crit := s.days(1, 300), envelope.SchemeX509, []string{schemeName}
	when := signedName
	if s.chance(4) {
		scheme, when, crit = envelope.SchemeSigningAuthority, authenticName, append(crit, authenticName)
		s.outfit.kind = "signing-authority"
	}
	s.members = []member{{"alg", alg}, {"cty", payloadType}, {schemeName, scheme}, {when, signed}}
	if s.chance(3) {
		crit = append(crit, expiryName)
		s.members = append(s.members, member{expiryName, w.now.Add(time.Duration(1+r.IntN(300)) * time.Hour).UTC().Truncate(time.Second)})
	}
	s.members = append(s.members, member{"crit", crit})
	s.payload = payloadOf(differentialSubject)
	if s.chance(3) {
		s.outfit.stamping = []string{"always", "after-cert-expiry"}[r.IntN(2)]
		s.outfit.stampRoots = w.tsa.Roots()
		s.stamp = func(sig []byte) []byte { return w.tsa.Token(sig, signed) }
	} else if s.chance(4) {
		s.stamp = func(sig []byte) []byte { return w.tsa.Token(sig, signed) } // and nobody looks at it
	}
	s.outfit.strict = s.chance(5)
	if s.chance(3) {
		s.outfit.identities = []string{"C=DE, ST=BE, O=Acme"}
	}
	return s
}

var differentialSubject = image("differential").descriptor

func (s *suit) member(name string) *member {
	for i := range s.members {
		if s.members[i].name == name {
			return &s.members[i]
		}
	}
	return nil
}

func (s *suit) drop(name string) {
	s.members = slices.DeleteFunc(s.members, func(m member) bool { return m.name == name })
}

func (s *suit) crit(edit func([]string) []string) bool {
	m := s.member("crit")
	if m == nil {
		return false
	}
	list, ok := m.value.([]string)
	if ok {
		m.value = edit(slices.Clone(list))
	}
	return ok
}

// issue makes the chain, every certificate by the next.
func (s *suit) issue() []*x509.Certificate {
	var a *certtest.Authority
	for i, p := range slices.Backward(s.certificates) {
		var next *x509.Certificate
		signer := p.key
		p.edits = append(p.edits, func(c *x509.Certificate) { // what Go does not write
			if !c.IsCA {
				c.MaxPathLen, c.MaxPathLenZero = 0, false
			}
		})
		switch {
		case a == nil && i == 0:
			next = certtest.SelfSigned(p.key, p.name, p.edits...)
		case a == nil:
			next = certtest.RootWith(p.key, p.name, p.edits...).Certificate
		case i == 0:
			next, signer = a.Leaf(p.key.Public(), p.name, p.edits...), a.Key
		default:
			next, signer = a.IntermediateWith(p.key, p.name, p.edits...).Certificate, a.Key
		}
		if p.forged {
			signer = s.curve[7]
		}
		if p.rewrite != nil || p.sha1 || p.forged {
			next = recut(next, p, signer)
		}
		a = &certtest.Authority{Certificate: next, Key: p.key, Parent: a}
	}
	var chain []*x509.Certificate
	for ; a != nil; a = a.Parent {
		chain = append(chain, a.Certificate)
	}
	return chain
}

// recut writes a certificate anew, as its pattern wants it and Go would not. What Go does not parse afterwards stays as bytes alone.
func recut(c *x509.Certificate, p *pattern, by crypto.Signer) *x509.Certificate {
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	unmarshal(c.Raw, &outer)
	fields := elements(outer.TBS.FullBytes)
	hash, null := crypto.SHA256, []byte{5, 0}
	digest := func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
	if p.sha1 {
		hash, digest = crypto.SHA1, func(b []byte) []byte { h := sha1.Sum(b); return h[:] }
		id := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}} // ecdsa-with-SHA1
		if _, ok := by.(*rsa.PrivateKey); ok {
			id = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, Parameters: asn1.RawValue{FullBytes: null}}
		}
		b, err := asn1.Marshal(id)
		if err != nil {
			panic(err)
		}
		fields[2], outer.Algorithm = asn1.RawValue{FullBytes: b}, asn1.RawValue{FullBytes: b}
	}
	if p.rewrite != nil {
		p.rewrite(fields)
	}
	tbs := sequence(fields)
	var sig []byte
	var err error
	if _, ok := by.(ed25519.PrivateKey); ok {
		sig, err = by.Sign(rand.Reader, tbs, crypto.Hash(0))
	} else {
		if c.SignatureAlgorithm == x509.ECDSAWithSHA384 && !p.sha1 || c.SignatureAlgorithm == x509.ECDSAWithSHA512 && !p.sha1 {
			hash = map[x509.SignatureAlgorithm]crypto.Hash{x509.ECDSAWithSHA384: crypto.SHA384, x509.ECDSAWithSHA512: crypto.SHA512}[c.SignatureAlgorithm]
			digest = func(b []byte) []byte { h := hash.New(); h.Write(b); return h.Sum(nil) }
		}
		sig, err = by.Sign(rand.Reader, digest(tbs), hash)
	}
	if err != nil {
		panic(err)
	}
	outer.TBS, outer.Signature = asn1.RawValue{FullBytes: tbs}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	der, err := asn1.Marshal(outer)
	if err != nil {
		panic(err)
	}
	if out, err := x509.ParseCertificate(der); err == nil {
		return out
	}
	blind := *c
	blind.Raw = der
	return &blind
}

// primitiveBy signs as the key can, by the algorithm that fits or, for a key that no algorithm is for, by the nearest.
func (s *suit) primitiveBy(message []byte) []byte {
	switch k := s.key.(type) {
	case *rsa.PrivateKey:
		hash := crypto.SHA256
		if k.Size() == 384 {
			hash = crypto.SHA384
		}
		h := hash.New()
		h.Write(message)
		salt := s.salt
		sig, err := rsa.SignPSS(rand.Reader, k, hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: salt, Hash: hash})
		if err != nil {
			panic(err)
		}
		return sig
	case *ecdsa.PrivateKey:
		if k.Params().BitSize < 256 {
			h := sha256.Sum256(message)
			r, v := ecdsaSign(k, h[:])
			return append(r.FillBytes(make([]byte, 28)), v.FillBytes(make([]byte, 28))...)
		}
		return primitive(k, message)
	case ed25519.PrivateKey:
		return ed25519.Sign(k, message)
	}
	panic(fmt.Sprintf("differential: cannot sign with %T", s.key))
}

// seal makes the envelope.
func (s *suit) seal(chain []*x509.Certificate) []byte {
	var ders [][]byte
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	var b []byte
	if s.format == jwsType {
		b = s.sealJWS(ders)
	} else {
		b = s.sealCOSE(ders)
	}
	for _, bend := range s.bytesBends {
		b = bend(bytes.Clone(b))
	}
	return b
}

func (s *suit) signature(message []byte) []byte {
	sig := s.primitiveBy(message)
	for _, reshape := range s.reshaped {
		sig = reshape(sig)
	}
	return sig
}

func (s *suit) sealJWS(ders [][]byte) []byte {
	x := &sealed{protected: quote(b64([]byte(asJSON(s.members)))), payload: quote(b64([]byte(s.payload)))}
	sig := s.signature([]byte(strings.Trim(x.protected, `"`) + "." + strings.Trim(x.payload, `"`)))
	x.signature = quote(b64(sig))
	var texts []string
	for _, der := range ders {
		texts = append(texts, base64.StdEncoding.EncodeToString(der))
	}
	list, _ := json.Marshal(texts)
	header := []member{{"x5c", rawValue{json: string(list)}}}
	if s.chainMember != nil {
		header = []member{s.chainMember(ders)}
	}
	header = append(header, s.unsigned...)
	if s.stamp != nil {
		header = append(header, member{stampName, rawValue{json: quote(base64.StdEncoding.EncodeToString(s.stamp(sig)))}})
	}
	x.header = asJSON(header)
	for _, bend := range s.jwsBends {
		bend(x)
	}
	return x.bytes()
}

func asJSON(members []member) string {
	var b strings.Builder
	for i, m := range members {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + quote(m.name) + ":")
		switch v := m.value.(type) {
		case rawValue:
			b.WriteString(v.json)
		case time.Time:
			b.WriteString(quote(v.Format(time.RFC3339)))
		default:
			text, err := json.Marshal(v)
			if err != nil {
				panic(err)
			}
			b.Write(text)
		}
	}
	if len(members) == 0 {
		b.WriteString("{")
	}
	return b.String() + "}"
}

var coseNumbers = map[string]int{"ES256": -7, "ES384": -35, "ES512": -36, "PS256": -37, "PS384": -38, "PS512": -39, "RS256": -257, "EdDSA": -8, "ES256K": -47}

func asCBOR(members []member) []pair {
	var out []pair
	for _, m := range members {
		var label any = m.name
		switch m.name {
		case "alg":
			label = 1
		case "crit":
			label = 2
		case "cty":
			label = 3
		}
		switch v := m.value.(type) {
		case rawValue:
			out = append(out, pair{cb(label), v.cbor})
		case time.Time:
			out = append(out, pair{cb(label), unix(v)})
		case string:
			if n, ok := coseNumbers[v]; ok && m.name == "alg" {
				out = append(out, at(label, n))
				continue
			}
			out = append(out, at(label, v))
		default:
			out = append(out, at(label, v))
		}
	}
	return out
}

func (s *suit) sealCOSE(ders [][]byte) []byte {
	header := cborMap(asCBOR(s.members))
	sig := s.signature(sigStructure(header, []byte(s.payload)))
	unprotected := []pair{at(33, ders)}
	if s.chainMember != nil {
		unprotected = []pair{{cb(33), s.chainMember(ders).value.(rawValue).cbor}}
	}
	unprotected = append(unprotected, asCBOR(s.unsigned)...)
	if s.stamp != nil {
		unprotected = append(unprotected, at(stampName, s.stamp(sig)))
	}
	x := &parts{protected: cb(header), unprotected: cborMap(unprotected), payload: cb([]byte(s.payload)), signature: cb(sig)}
	for _, bend := range s.coseBends {
		bend(x)
	}
	return x.bytes()
}
