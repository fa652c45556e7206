package e2e

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"slices"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
)

// A mutation bends a suit; it reports whether it could.
type mutation struct {
	name string
	bend func(s *suit) bool
}

// relist makes a mutation of the list of certificates once they are issued, of chains of so many at least.
func relist(least int, bend func(s *suit, chain []*x509.Certificate) []*x509.Certificate) func(s *suit) bool {
	return func(s *suit) bool {
		if len(s.certificates) < least || len(s.listed) > 0 {
			return false
		}
		s.listed = append(s.listed, func(c []*x509.Certificate) []*x509.Certificate { return bend(s, slices.Clone(c)) })
		return true
	}
}

// which of a chain a mutation is of.
type which int

const (
	theLeaf which = iota
	anIssuer
	theRoot
	anyOne
)

func (s *suit) pick(w which) *pattern {
	n := len(s.certificates)
	switch {
	case w == theLeaf:
		return s.certificates[0]
	case w == anyOne:
		return s.certificates[s.r.IntN(n)]
	case w == theRoot && n > 1:
		return s.certificates[n-1]
	case w == anIssuer && n > 1:
		return s.certificates[1+s.r.IntN(n-1)]
	}
	return nil
}

// cut makes a mutation of a certificate's template.
func cut(w which, edit func(s *suit, c *x509.Certificate)) func(s *suit) bool {
	return func(s *suit) bool {
		p := s.pick(w)
		if p == nil {
			return false
		}
		p.edits = append(p.edits, func(c *x509.Certificate) { edit(s, c) })
		return true
	}
}

// rewritten makes a mutation of what Go would not write.
func rewritten(w which, rewrite func(tbs []asn1.RawValue)) func(s *suit) bool {
	return func(s *suit) bool {
		p := s.pick(w)
		if p == nil || p.rewrite != nil {
			return false
		}
		p.rewrite = rewrite
		return true
	}
}

func rekeyed(w which, key func(s *suit) *pattern) func(s *suit) bool {
	return func(s *suit) bool {
		p := s.pick(w)
		if p == nil {
			return false
		}
		p.key = key(s).key
		if p == s.certificates[0] {
			s.key = p.key
		}
		return true
	}
}

func validity(w which, from, to func(s *suit) [2]int) func(s *suit) bool {
	return cut(w, func(s *suit, c *x509.Certificate) {
		if from != nil {
			d := from(s)
			c.NotBefore = s.days(d[0], d[1])
		}
		if to != nil {
			d := to(s)
			c.NotAfter = s.days(d[0], d[1])
		}
	})
}

func between(a, b int) func(*suit) [2]int { return func(*suit) [2]int { return [2]int{a, b} } }

func addExtension(id asn1.ObjectIdentifier, critical bool, value []byte) func(s *suit, c *x509.Certificate) {
	return func(_ *suit, c *x509.Certificate) {
		c.ExtraExtensions = slices.DeleteFunc(c.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

var (
	oidNobody   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 99}
	oidUsage    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	codeSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
)

func usages(bits x509.KeyUsage) func(*suit, *x509.Certificate) {
	return func(_ *suit, c *x509.Certificate) { c.KeyUsage = bits }
}

func extUsages(list ...x509.ExtKeyUsage) func(*suit, *x509.Certificate) {
	return func(_ *suit, c *x509.Certificate) { c.ExtKeyUsage = list }
}

func subject(n pkix.Name) func(*suit, *x509.Certificate) {
	return func(_ *suit, c *x509.Certificate) { c.Subject = n }
}

// names makes a subject of relative names of several attributes each, and of strings of any type.
func names(sets ...[]pkix.AttributeTypeAndValue) func(*suit, *x509.Certificate) {
	var fields []asn1.RawValue
	for _, set := range sets {
		b, err := asn1.MarshalWithParams(set, "set")
		if err != nil {
			panic(err)
		}
		fields = append(fields, asn1.RawValue{FullBytes: b})
	}
	return func(_ *suit, c *x509.Certificate) { c.RawSubject = sequence(fields) }
}

func attr(last int, value any) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, last}, Value: value}
}

func one(last int, value any) []pkix.AttributeTypeAndValue {
	return []pkix.AttributeTypeAndValue{attr(last, value)}
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

var chainMutations = []mutation{
	// The list.
	{"two change places", relist(2, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		i := s.r.IntN(len(c) - 1)
		c[i], c[i+1] = c[i+1], c[i]
		return c
	})},
	{"reversed", relist(2, func(_ *suit, c []*x509.Certificate) []*x509.Certificate { slices.Reverse(c); return c })},
	{"no root", relist(2, func(_ *suit, c []*x509.Certificate) []*x509.Certificate { return c[:len(c)-1] })},
	{"the leaf alone", relist(3, func(_ *suit, c []*x509.Certificate) []*x509.Certificate { return c[:1] })},
	{"no leaf", relist(2, func(_ *suit, c []*x509.Certificate) []*x509.Certificate { return c[1:] })},
	{"no intermediate", relist(3, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		i := 1 + s.r.IntN(len(c)-2)
		return slices.Delete(c, i, i+1)
	})},
	{"nothing", relist(1, func(*suit, []*x509.Certificate) []*x509.Certificate { return nil })},
	{"an unrelated one behind", relist(1, func(s *suit, c []*x509.Certificate) []*x509.Certificate { return append(c, s.attacker.Certificate) })},
	{"X03 an attacker's root behind the pinned one", relist(2, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		return append(c, s.attacker.Certificate)
	})},
	{"X03 the pinned root behind an attacker's", relist(2, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		return []*x509.Certificate{s.attacker.Leaf(s.key.Public(), "differential leaf"), s.attacker.Certificate, c[len(c)-1]}
	})},
	{"an attacker's chain for the same key", relist(1, func(s *suit, _ []*x509.Certificate) []*x509.Certificate {
		return s.attacker.Chain(s.attacker.Leaf(s.key.Public(), "differential leaf"))
	})},
	{"X03 the pinned root, cross-signed by an attacker", relist(2, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		n := len(c)
		last := s.certificates[n-1]
		return append(c[:n-1:n-1], s.attacker.IntermediateWith(last.key, last.name).Certificate, s.attacker.Certificate)
	})},
	{"one twice", relist(1, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		i := s.r.IntN(len(c))
		return slices.Insert(c, i, c[i])
	})},
	{"the root was issued again", relist(2, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		last := s.certificates[len(c)-1]
		c[len(c)-1] = certtest.RootWith(last.key, last.name, last.edits...).Certificate
		return c
	})},
	{"an intermediate was issued again", relist(3, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		i := len(c) - 2
		p := s.certificates[i]
		a := &certtest.Authority{Certificate: c[i+1], Key: s.certificates[i+1].key}
		c[i] = a.IntermediateWith(p.key, p.name, p.edits...).Certificate
		return c
	})},
	{"the leaf is self-signed, its issuers follow", relist(2, func(s *suit, c []*x509.Certificate) []*x509.Certificate {
		c[0] = certtest.SelfSigned(s.key, "differential leaf")
		return c
	})},
	{"seventeen", func(s *suit) bool {
		if len(s.certificates) < 2 {
			return false
		}
		for i := len(s.certificates); i < 17; i++ {
			s.certificates = slices.Insert(s.certificates, 1, &pattern{name: "deep " + string(rune('a'+i)), key: s.curve[i%7],
				edits: []certtest.Edit{certtest.Valid(s.now.AddDate(-2, 0, 0), s.now.AddDate(1, 0, 0))}})
		}
		return true
	}},
	{"six", func(s *suit) bool {
		if len(s.certificates) < 2 || len(s.certificates) > 5 {
			return false
		}
		for i := len(s.certificates); i < 6; i++ {
			s.certificates = slices.Insert(s.certificates, 1, &pattern{name: "deep " + string(rune('a'+i)), key: s.curve[i%7],
				edits: []certtest.Edit{certtest.Valid(s.now.AddDate(-2, 0, 0), s.now.AddDate(1, 0, 0))}})
		}
		return true
	}},

	// Validity.
	{"X08 the leaf has expired", validity(theLeaf, nil, between(1, 200))},
	{"X08 an issuer has expired", validity(anIssuer, nil, between(1, 200))},
	{"X08 the root has expired", validity(theRoot, nil, between(1, 200))},
	{"one is not yet valid", validity(anyOne, between(-100, -1), nil)},
	{"one began lately", validity(anyOne, between(1, 150), nil)},
	{"one never was valid", cut(anyOne, func(s *suit, c *x509.Certificate) { c.NotBefore, c.NotAfter = s.days(1, 2), s.days(10, 20) })},
	{"X09 all has expired, and the timestamp is from before", func(s *suit) bool {
		signed := s.days(390, 500)
		for _, name := range []string{signedName, authenticName} {
			if m := s.member(name); m != nil {
				m.value = signed
			}
		}
		for _, p := range s.certificates {
			p.edits = append(p.edits, func(c *x509.Certificate) { c.NotAfter = s.days(301, 380) })
		}
		if s.chance(2) {
			s.outfit.stamping, s.outfit.stampRoots = []string{"always", "after-cert-expiry"}[s.r.IntN(2)], s.tsa.Roots()
		}
		s.stamp = func(sig []byte) []byte { return s.tsa.Token(sig, signed) }
		return true
	}},
	{"the leaf outlives its issuers", cut(theLeaf, func(s *suit, c *x509.Certificate) { c.NotAfter = s.now.AddDate(20, 0, 0) })},

	// Basic constraints and path length.
	{"the leaf is an authority", cut(theLeaf, func(_ *suit, c *x509.Certificate) { c.IsCA = true })},
	{"the leaf has no basic constraints", cut(theLeaf, func(_ *suit, c *x509.Certificate) { c.BasicConstraintsValid = false })},
	{"X05 an issuer is no authority", cut(anIssuer, func(_ *suit, c *x509.Certificate) { c.IsCA = false })},
	{"X05 an issuer has no basic constraints", cut(anIssuer, func(_ *suit, c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false })},
	{"X05 basic constraints that are not critical", cut(anIssuer, func(s *suit, c *x509.Certificate) {
		c.BasicConstraintsValid, c.IsCA = false, false
		addExtension(asn1.ObjectIdentifier{2, 5, 29, 19}, false, []byte{0x30, 3, 1, 1, 0xff})(s, c)
	})},
	{"X05 path length 0", cut(anIssuer, func(_ *suit, c *x509.Certificate) { c.MaxPathLenZero = true })},
	{"X05 path length 1", cut(anIssuer, func(_ *suit, c *x509.Certificate) { c.MaxPathLen = 1 })},
	{"path length 9", cut(anIssuer, func(_ *suit, c *x509.Certificate) { c.MaxPathLen = 9 })},

	// Key usage.
	{"X05 an issuer may not sign certificates", cut(anIssuer, usages(x509.KeyUsageCRLSign))},
	{"X05 an issuer has no key usage", cut(anIssuer, usages(0))},
	{"X05 an issuer's key usage is not critical", cut(anIssuer, addExtension(oidUsage, false, []byte{3, 2, 1, 6}))},
	{"an issuer may sign anything", cut(anIssuer, usages(x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment))},
	{"the leaf has no key usage", cut(theLeaf, usages(0))},
	{"the leaf's key usage is not critical", cut(theLeaf, addExtension(oidUsage, false, []byte{3, 2, 7, 0x80}))},
	{"the leaf may not sign", cut(theLeaf, usages(x509.KeyUsageContentCommitment))},
	{"the leaf may also commit", cut(theLeaf, usages(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment))},
	{"the leaf may also encipher", cut(theLeaf, func(s *suit, c *x509.Certificate) {
		c.KeyUsage |= []x509.KeyUsage{x509.KeyUsageKeyEncipherment, x509.KeyUsageDataEncipherment, x509.KeyUsageKeyAgreement,
			x509.KeyUsageCertSign, x509.KeyUsageCRLSign, x509.KeyUsageEncipherOnly, x509.KeyUsageDecipherOnly}[s.r.IntN(7)]
	})},

	// Extended key usage.
	{"the leaf has no extended key usage", cut(theLeaf, extUsages())},
	{"the leaf is for anything", cut(theLeaf, extUsages(x509.ExtKeyUsageAny))},
	{"the leaf is for more than code", cut(theLeaf, func(s *suit, c *x509.Certificate) {
		c.ExtKeyUsage = append(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection,
			x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageOCSPSigning}[s.r.IntN(5)])
	})},
	{"the leaf is for something unheard of", cut(theLeaf, func(_ *suit, c *x509.Certificate) {
		c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{oidNobody}
	})},
	{"the leaf's extended key usage is critical", cut(theLeaf, func(s *suit, c *x509.Certificate) {
		c.ExtKeyUsage = nil
		b, _ := asn1.Marshal([]asn1.ObjectIdentifier{codeSigning})
		addExtension(oidExtUsage, true, b)(s, c)
	})},
	{"X06 an issuer is for servers alone", cut(anIssuer, extUsages(x509.ExtKeyUsageServerAuth))},
	{"an issuer is for code", cut(anIssuer, extUsages(x509.ExtKeyUsageCodeSigning))},

	// Keys and signatures.
	{"X07 an issuer's key is RSA-1024", rekeyed(anIssuer, func(s *suit) *pattern { return &pattern{key: s.weakRSA} })},
	{"X07 an issuer's key is P-224", rekeyed(anIssuer, func(s *suit) *pattern { return &pattern{key: s.weakCurve} })},
	{"an issuer's key is RSA-2048", rekeyed(anIssuer, func(s *suit) *pattern { return &pattern{key: s.leaf["RSA-2048"]} })},
	{"an issuer's key is P-384", rekeyed(anIssuer, func(s *suit) *pattern { return &pattern{key: s.leaf["P-384"]} })},
	{"an issuer's key is Ed25519", rekeyed(anIssuer, func(s *suit) *pattern { return &pattern{key: s.ed} })},
	{"the leaf's key is RSA-1024", rekeyed(theLeaf, func(s *suit) *pattern { return &pattern{key: s.weakRSA} })},
	{"the leaf's key is P-224", rekeyed(theLeaf, func(s *suit) *pattern { return &pattern{key: s.weakCurve} })},
	{"the leaf's key is Ed25519", rekeyed(theLeaf, func(s *suit) *pattern { return &pattern{key: s.ed} })},
	{"X07 signed with SHA-1", func(s *suit) bool {
		i := s.r.IntN(len(s.certificates))
		issuer := s.certificates[min(i+1, len(s.certificates)-1)]
		if issuer.key == s.ed {
			return false
		}
		s.certificates[i].sha1 = true
		return true
	}},
	{"another key signed", func(s *suit) bool { s.pick(anyOne).forged = true; return true }},
	{"another issuer is named", rewritten(anyOne, func(tbs []asn1.RawValue) { tbs[3] = asn1.RawValue{FullBytes: someone.Certificate.RawSubject} })},
	{"another subject is named", rewritten(anyOne, func(tbs []asn1.RawValue) { tbs[5] = asn1.RawValue{FullBytes: someone.Certificate.RawSubject} })},
	{"X18 serial number zero", rewritten(anyOne, func(tbs []asn1.RawValue) { tbs[1] = asn1.RawValue{FullBytes: []byte{2, 1, 0}} })},
	{"X18 negative serial number", rewritten(anyOne, func(tbs []asn1.RawValue) { tbs[1] = asn1.RawValue{FullBytes: []byte{2, 1, 0x80}} })},
	{"X18 an unknown key", rewritten(anyOne, func(tbs []asn1.RawValue) {
		tbs[6] = asn1.RawValue{FullBytes: spkiOf(pkix.AlgorithmIdentifier{Algorithm: oidNobody}, []byte{1, 2, 3})}
	})},
	{"X05 a certificate of version 1", rewritten(anIssuer, func(tbs []asn1.RawValue) {
		tbs[0] = asn1.RawValue{FullBytes: []byte{0xa0, 3, 2, 1, 0}}
	})},

	// Extensions and names.
	{"X06 an unknown critical extension", cut(anyOne, addExtension(oidNobody, true, []byte{5, 0}))},
	{"an unknown extension", cut(anyOne, addExtension(oidNobody, false, []byte{5, 0}))},
	{"X06 names are constrained and violated", func(s *suit) bool {
		if len(s.certificates) < 2 {
			return false
		}
		s.pick(anIssuer).edits = append(s.pick(anIssuer).edits, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"acme.example"}
		})
		s.certificates[0].edits = append(s.certificates[0].edits, func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} })
		return true
	}},
	{"names are constrained and kept", func(s *suit) bool {
		if len(s.certificates) < 2 {
			return false
		}
		s.pick(anIssuer).edits = append(s.pick(anIssuer).edits, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"acme.example"}
		})
		s.certificates[0].edits = append(s.certificates[0].edits, func(c *x509.Certificate) { c.DNSNames = []string{"ci.acme.example"} })
		return true
	}},
	{"alternative names", cut(theLeaf, func(_ *suit, c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses, c.URIs = []string{"ci.acme.example"}, []string{"ci@acme.example"}, []*url.URL{mustURL("https://ci.acme.example/x")}
	})},
	{"where revocation is told", cut(anyOne, func(_ *suit, c *x509.Certificate) {
		c.CRLDistributionPoints, c.OCSPServer = []string{"http://crl.acme.example/1"}, []string{"http://ocsp.acme.example"}
	})},
	{"another organisation", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Other"}, CommonName: "x"}))},
	{"no province", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Organization: []string{"Acme"}, CommonName: "x"}))},
	{"a comma in the organisation", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme, Inc"}}))},
	{"an identity in the common name", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Other"}, CommonName: "x, O=Acme"}))},
	{"two units", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme"}, OrganizationalUnit: []string{"A", "B"}}))},
	{"two organisations", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme", "Other"}}))},
	{"several attributes in one relative name", cut(theLeaf, names(one(6, "DE"), one(8, "BE"), []pkix.AttributeTypeAndValue{attr(10, "Acme"), attr(3, "x")}))},
	{"an organisation in BMPString", cut(theLeaf, names(one(6, "DE"), one(8, "BE"), one(10, asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte("\x00A\x00c\x00m\x00e")})))},
	{"an attribute of an unknown type", cut(theLeaf, names(one(6, "DE"), one(8, "BE"), one(10, "Acme"),
		[]pkix.AttributeTypeAndValue{{Type: oidNobody, Value: "x"}}))},
	{"an organisation that begins with =#", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme"}, CommonName: "=#x"}))},
	{"an empty subject", cut(theLeaf, names())},
	{"another common name", cut(theLeaf, subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme"}, CommonName: "other"}))},
	{"a long serial number", cut(anyOne, func(_ *suit, c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 150) })},

	// Of keys that a signing authority has.
	{"V12 the other scheme", func(s *suit) bool {
		scheme := s.member(schemeName)
		if scheme == nil {
			return false
		}
		from, to, other := signedName, authenticName, envelope.SchemeSigningAuthority
		if scheme.value == envelope.SchemeSigningAuthority {
			from, to, other = authenticName, signedName, envelope.SchemeX509
		}
		when := s.member(from)
		if when == nil {
			return false
		}
		scheme.value, when.name = other, to
		return s.crit(func(l []string) []string {
			l = slices.DeleteFunc(l, func(n string) bool { return n == authenticName })
			if to == authenticName {
				l = append(l, authenticName)
			}
			return l
		})
	}},
}

var someone = certtest.Root("somebody else")
