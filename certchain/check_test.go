package certchain

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// ruleOf returns the rule that an error names, "" for none.
func ruleOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *RuleError
	if !errors.As(err, &e) {
		t.Fatalf("error without a rule: %v", err)
	}
	if _, ok := Reasons()[e.Rule]; !ok {
		t.Errorf("Reasons does not list %q", e.Rule)
	}
	if !strings.Contains(e.Error(), e.Rule) {
		t.Errorf("error does not name its rule %s: %v", e.Rule, e)
	}
	return e.Rule
}

// usage returns an edit that sets key usage and extended key usages.
func usage(k x509.KeyUsage, e ...x509.ExtKeyUsage) certtest.Edit {
	return func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = k, e }
}

// extra returns an edit that adds an extension, or replaces the one that Go would write.
func extra(oid asn1.ObjectIdentifier, critical bool, value []byte) certtest.Edit {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: value})
	}
}

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// three is a good chain of three whose parts can be changed.
func three(t testing.TB, leaf, inter, root []certtest.Edit) Chain {
	t.Helper()
	r := certtest.Root("root", root...)
	i := r.Intermediate("intermediate", inter...)
	return i.Chain(i.Leaf(certtest.Key("P-256").Public(), "leaf", leaf...))
}

type edits = []certtest.Edit

func TestCheckAcceptsSixAlgorithms(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		for n := 1; n <= 4; n++ {
			_, certs := certtest.ChainOf(n, algorithm)
			if err := Chain(certs).Check(time.Now()); err != nil {
				t.Errorf("%s, chain of %d: %v", algorithm, n, err)
			}
		}
	}
}

func TestCheckRules(t *testing.T) {
	t.Parallel()
	sign := x509.KeyUsageDigitalSignature
	issue := x509.KeyUsageCertSign
	code := x509.ExtKeyUsageCodeSigning
	oidKU, oidUnknown := oidKeyUsage, asn1.ObjectIdentifier{1, 2, 3, 4}
	kuSign := der(t, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1})
	kuIssue := der(t, asn1.BitString{Bytes: []byte{0x04}, BitLength: 6})
	notCritical := func(c *x509.Certificate) { c.KeyUsage = 0 }
	longAgo := time.Now().Add(-100 * time.Hour)
	tests := []struct {
		name              string
		leaf, inter, root edits
		want              string
	}{
		{name: "good"},
		{name: "contentCommitment too", leaf: edits{usage(sign|x509.KeyUsageContentCommitment, code)}},
		{name: "no extended key usage", leaf: edits{usage(sign)}},
		{name: "A05 leaf is CA", leaf: edits{func(c *x509.Certificate) { c.IsCA = true }}, want: "leaf-basic-constraints"},
		{name: "A05 no key usage", leaf: edits{usage(0, code)}, want: "leaf-key-usage"},
		{name: "A05 key usage not critical", leaf: edits{notCritical, extra(oidKU, false, kuSign)}, want: "leaf-key-usage"},
		{name: "A05 key usage without digitalSignature", leaf: edits{usage(x509.KeyUsageContentCommitment, code)}, want: "leaf-key-usage"},
		{name: "A05 keyEncipherment too", leaf: edits{usage(sign|x509.KeyUsageKeyEncipherment, code)}, want: "leaf-key-usage"},
		{name: "A05 dataEncipherment too", leaf: edits{usage(sign|x509.KeyUsageDataEncipherment, code)}, want: "leaf-key-usage"},
		{name: "A05 keyAgreement too", leaf: edits{usage(sign|x509.KeyUsageKeyAgreement, code)}, want: "leaf-key-usage"},
		{name: "A05 keyCertSign too", leaf: edits{usage(sign|issue, code)}, want: "leaf-key-usage"},
		{name: "A05 cRLSign too", leaf: edits{usage(sign|x509.KeyUsageCRLSign, code)}, want: "leaf-key-usage"},
		{name: "A05 encipherOnly too", leaf: edits{usage(sign|x509.KeyUsageEncipherOnly, code)}, want: "leaf-key-usage"},
		{name: "A05 decipherOnly too", leaf: edits{usage(sign|x509.KeyUsageDecipherOnly, code)}, want: "leaf-key-usage"},
		{name: "A05 anyExtendedKeyUsage", leaf: edits{usage(sign, x509.ExtKeyUsageAny)}, want: "leaf-extended-key-usage"},
		{name: "A05 serverAuth", leaf: edits{usage(sign, code, x509.ExtKeyUsageServerAuth)}, want: "leaf-extended-key-usage"},
		{name: "A05 clientAuth", leaf: edits{usage(sign, x509.ExtKeyUsageClientAuth)}, want: "leaf-extended-key-usage"},
		{name: "A05 emailProtection", leaf: edits{usage(sign, x509.ExtKeyUsageEmailProtection)}, want: "leaf-extended-key-usage"},
		{name: "A05 timeStamping", leaf: edits{usage(sign, x509.ExtKeyUsageTimeStamping)}, want: "leaf-extended-key-usage"},
		{name: "A05 OCSPSigning", leaf: edits{usage(sign, x509.ExtKeyUsageOCSPSigning)}, want: "leaf-extended-key-usage"},
		{name: "A06 leaf expired", leaf: edits{certtest.Valid(longAgo, longAgo.Add(time.Hour))}, want: "expired"},
		{name: "A06 leaf not yet valid", leaf: edits{certtest.Valid(time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))}, want: "not-yet-valid"},
		{name: "K06 intermediate expired", inter: edits{certtest.Valid(longAgo, longAgo.Add(time.Hour))}, want: "expired"},
		{name: "K06 root expired", root: edits{certtest.Valid(longAgo, longAgo.Add(time.Hour))}, want: "expired"},
		{name: "K04 path length 0 above an intermediate", root: edits{func(c *x509.Certificate) { c.MaxPathLenZero = true }}, want: "path-length"},
		{name: "path length 0 above the leaf", inter: edits{func(c *x509.Certificate) { c.MaxPathLenZero = true }}},
		{name: "K04 intermediate without keyCertSign", inter: edits{usage(sign)}, want: "ca-key-usage"},
		{name: "K04 root without keyCertSign", root: edits{usage(x509.KeyUsageCRLSign)}, want: "ca-key-usage"},
		{name: "X05 intermediate is no CA", inter: edits{func(c *x509.Certificate) { c.IsCA = false }}, want: "ca-basic-constraints"},
		{name: "X05 intermediate without basic constraints", inter: edits{func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }}, want: "ca-basic-constraints"},
		{name: "X05 basic constraints not critical", inter: edits{func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false },
			extra(oidBasicConstraints, false, der(t, struct{ CA bool }{true}))}, want: "ca-basic-constraints"},
		{name: "X05 key usage of the intermediate not critical", inter: edits{notCritical, extra(oidKU, false, kuIssue)}, want: "ca-key-usage"},
		{name: "X05 intermediate without key usage", inter: edits{usage(0)}, want: "ca-key-usage"},
		{name: "K04 X06 DNS name excluded", inter: edits{func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"evil.example"} }},
			leaf: edits{func(c *x509.Certificate) { c.DNSNames = []string{"build.evil.example"} }}, want: "name-constraints"},
		{name: "K04 X06 URI not permitted", root: edits{func(c *x509.Certificate) {
			c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{"good.example"}, true
		}}, leaf: edits{func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "https", Host: "evil.example"}} }}, want: "name-constraints"},
		{name: "DNS name permitted", inter: edits{func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"good.example"} }},
			leaf: edits{func(c *x509.Certificate) { c.DNSNames = []string{"build.good.example"} }}},
		{name: "X06 unknown critical extension in the leaf", leaf: edits{extra(oidUnknown, true, []byte{5, 0})}, want: "critical-extension"},
		{name: "X06 unknown critical extension in the root", root: edits{extra(oidUnknown, true, []byte{5, 0})}, want: "critical-extension"},
		{name: "unknown extension, not critical", leaf: edits{extra(oidUnknown, false, []byte{5, 0})}},
		{name: "X06 intermediate for servers only", inter: edits{usage(issue, x509.ExtKeyUsageServerAuth)}, want: "ca-extended-key-usage"},
		{name: "intermediate for code signing", inter: edits{usage(issue, code)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := ruleOf(t, three(t, tt.leaf, tt.inter, tt.root).Check(time.Now())); got != tt.want {
				t.Errorf("rule %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckWithoutTimeIgnoresValidity(t *testing.T) {
	t.Parallel()
	ago := time.Now().Add(-1000 * time.Hour)
	c := three(t, edits{certtest.Valid(ago, ago.Add(time.Hour))}, edits{certtest.Valid(ago.Add(5*time.Hour), ago.Add(6*time.Hour))}, nil)
	if err := c.Check(time.Time{}); err != nil {
		t.Errorf("certificates whose validities do not overlap, at no time: %v", err)
	}
	if got := ruleOf(t, c.Check(ago.Add(30*time.Minute))); got != "not-yet-valid" {
		t.Errorf("rule %q, want not-yet-valid", got)
	}
}

// validity includes both ends (RFC 5280 section 4.1.2.5).
func TestCheckValidityEnds(t *testing.T) {
	t.Parallel()
	c := three(t, nil, nil, nil)
	leaf := c.Leaf()
	for _, tt := range []struct {
		at   time.Time
		want string
	}{
		{leaf.NotBefore.Add(-time.Second), "not-yet-valid"},
		{leaf.NotAfter, ""},
		{leaf.NotAfter.Add(time.Second), "expired"},
	} {
		if got := ruleOf(t, c.Check(tt.at)); got != tt.want {
			t.Errorf("at %s: rule %q, want %q", tt.at, got, tt.want)
		}
	}
}

func TestA04LeafKeys(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := certtest.Key("RSA-2048").Public().(*rsa.PublicKey)
	// A key is only what its certificate says: no private key is needed for the odd ones.
	bits := func(n int) *rsa.PublicKey {
		m := new(big.Int).Lsh(big.NewInt(1), uint(n-1))
		return &rsa.PublicKey{N: m.SetBit(m, 0, 1), E: 65537}
	}
	exponent := func(e int) *rsa.PublicKey { return &rsa.PublicKey{N: good.N, E: e} }
	for name, pub := range map[string]crypto.PublicKey{
		"A04 RSA 2041":      bits(2041),
		"A04 RSA 2047":      bits(2047),
		"A04 RSA 2049":      bits(2049),
		"A04 RSA 1024":      bits(1024),
		"A04 RSA 8192":      bits(8192),
		"A04 exponent 1":    exponent(1),
		"A04 exponent 3":    exponent(3),
		"A04 even exponent": exponent(65538),
		"A04 P-224":         certtest.Key("P-224").Public(),
		"A04 Ed25519":       ed.Public(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leaf := root.Leaf(pub, "leaf")
			if got := ruleOf(t, Chain(root.Chain(leaf)).Check(time.Now())); got != "leaf-key-algorithm" {
				t.Errorf("rule %q, want leaf-key-algorithm", got)
			}
		})
	}
}

func TestX07IssuersKeys(t *testing.T) {
	t.Parallel()
	if got := ruleOf(t, chainUnder(t, "RSA-1024").Check(time.Now())); got != "ca-key-algorithm" {
		t.Errorf("RSA-1024: rule %q, want ca-key-algorithm", got)
	}
	if got := ruleOf(t, chainUnder(t, "P-224").Check(time.Now())); got != "ca-key-algorithm" {
		t.Errorf("P-224: rule %q, want ca-key-algorithm", got)
	}
	if err := chainUnder(t, "RSA-3072").Check(time.Now()); err != nil {
		t.Errorf("RSA-3072: %v", err)
	}
}

// chainUnder has an intermediate with a key of the algorithm.
func chainUnder(t *testing.T, algorithm string) Chain {
	t.Helper()
	var key crypto.Signer
	if algorithm == "RSA-1024" {
		key = weakRSA(t)
	} else {
		key = certtest.Key(algorithm)
	}
	i := certtest.Root("root").IntermediateWith(key, "intermediate")
	return i.Chain(i.Leaf(certtest.Key("P-256").Public(), "leaf"))
}

func TestX07WeakSignatures(t *testing.T) {
	t.Parallel()
	r := certtest.Root("root")
	inter := r.Intermediate("intermediate")
	good := Chain(inter.Chain(inter.Leaf(certtest.Key("P-256").Public(), "leaf")))
	signers := []crypto.Signer{inter.Key, r.Key, r.Key}
	for i, name := range []string{"leaf", "intermediate", "root"} {
		for _, algorithm := range []string{"SHA-1", "MD5"} {
			t.Run("A05 X07 "+algorithm+" under the "+name, func(t *testing.T) {
				t.Parallel()
				c := append(Chain(nil), good...)
				c[i] = weaklySigned(t, c[i], signers[i], algorithm)
				if got := ruleOf(t, c.Check(time.Now())); got != "signature-algorithm" {
					t.Errorf("rule %q, want signature-algorithm", got)
				}
				// The order is found all the same, so that the error is about the algorithm.
				ordered, err := Order([]*x509.Certificate{c[2], c[0], c[1]})
				if err != nil {
					t.Fatal(err)
				}
				if !ordered.Equal(c) {
					t.Error("not in order")
				}
			})
		}
	}
}

func TestA06Structure(t *testing.T) {
	t.Parallel()
	c := three(t, nil, nil, nil)
	leaf, inter, root := c[0], c[1], c[2]
	otherRoot := certtest.Root("root").Certificate // same name, another key
	stranger := certtest.Root("stranger").Certificate
	for _, tt := range []struct {
		name  string
		chain Chain
		want  string
		is    error
	}{
		{"empty", nil, "no-certificates", nil},
		{"A06 leaf only", Chain{leaf}, "incomplete", ErrIncomplete},
		{"A06 without root", Chain{leaf, inter}, "incomplete", ErrIncomplete},
		{"A06 without intermediate", Chain{leaf, root}, "incomplete", ErrIncomplete},
		{"A06 reversed", Chain{root, inter, leaf}, "self-signed-inside", nil},
		{"A06 shuffled", Chain{inter, leaf, root}, "order", nil},
		{"A06 duplicate root", Chain{leaf, inter, root, root}, "duplicate", nil},
		{"A06 another root after", Chain{leaf, inter, root, stranger}, "self-signed-inside", nil},
		{"K03 root of the same name", Chain{leaf, inter, otherRoot}, "not-issued-by", ErrNotIssuedBy},
		{"root alone", Chain{root}, "leaf-basic-constraints", nil},
		{"too many", make17(t), "too-many-certificates", nil},
		{"nil inside", Chain{leaf, nil}, "malformed-certificates", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.chain.Check(time.Now())
			if got := ruleOf(t, err); got != tt.want {
				t.Errorf("rule %q, want %q", got, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v does not wrap %v", err, tt.is)
			}
		})
	}
}

func make17(t *testing.T) Chain {
	t.Helper()
	a := certtest.Root("root")
	for range 15 {
		a = a.Intermediate("deeper")
	}
	return a.Chain(a.Leaf(certtest.Key("P-256").Public(), "leaf"))
}

func TestA01Matches(t *testing.T) {
	t.Parallel()
	key, certs := certtest.ChainOf(2, "P-256")
	if err := Chain(certs).Matches(key.Public()); err != nil {
		t.Error(err)
	}
	for name, pub := range map[string]crypto.PublicKey{
		"another key":  certtest.Key("P-256").Public(),
		"another kind": certtest.Key("RSA-2048").Public(),
		"no key":       nil,
	} {
		if err := Chain(certs).Matches(pub); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("A01 %s: %v, want ErrKeyMismatch", name, err)
		}
	}
}

func TestX18Serials(t *testing.T) {
	t.Parallel()
	c := three(t, nil, nil, nil)
	serial := new(big.Int).Set(c[0].SerialNumber)
	for name, n := range map[string]*big.Int{"zero": big.NewInt(0), "negative": new(big.Int).Neg(serial), "missing": nil} {
		leaf := *c[0]
		leaf.SerialNumber = n
		if got := ruleOf(t, (Chain{&leaf, c[1], c[2]}).Check(time.Now())); got != "serial-number" {
			t.Errorf("X18 %s serial: rule %q, want serial-number", name, got)
		}
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	c := three(t, edits{certtest.Valid(now.Add(-time.Hour), now.Add(9*time.Hour))},
		edits{certtest.Valid(now.Add(-2*time.Hour), now.Add(5*time.Hour))},
		edits{certtest.Valid(now.Add(-30*time.Minute), now.Add(7*time.Hour))})
	first, until := c.HoldsUntil()
	if first != c[1] || !until.Equal(now.Add(5*time.Hour)) {
		t.Errorf("holds until %s because of %s", until, first.Subject)
	}
	if from := c.HoldsFrom(); !from.Equal(now.Add(-30 * time.Minute)) {
		t.Errorf("holds from %s", from)
	}
	if first, _ := (Chain{}).HoldsUntil(); first != nil {
		t.Error("an empty chain holds")
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	key, certs := certtest.ChainOf(2, "RSA-3072")
	d := Chain(certs).Describe()
	want := Certificate{
		Subject: "C=DE, ST=BE, O=Acme, CN=leaf", Issuer: "C=DE, ST=BE, O=Acme, CN=root of 2",
		Serial: d[0].Serial, NotBefore: certs[0].NotBefore, NotAfter: certs[0].NotAfter,
		Thumbprint: Thumbprint(certs[0]), Key: "RSA-3072",
	}
	if d[0] != want {
		t.Errorf("got %+v\nwant %+v", d[0], want)
	}
	if n, ok := new(big.Int).SetString(d[0].Serial, 16); !ok || n.Cmp(certs[0].SerialNumber) != 0 {
		t.Errorf("serial %s of %s", d[0].Serial, certs[0].SerialNumber)
	}
	if !d[1].CA || !d[1].SelfSigned || d[1].Key != "EC-256" {
		t.Errorf("root: %+v", d[1])
	}
	if self := Describe(certtest.SelfSigned(key, "alone")); !self.SelfSigned || self.CA {
		t.Errorf("self-signed leaf: %+v", self)
	}
	if got := Chain(certs).Thumbprints(); len(got) != 2 || got[0] != Thumbprint(certs[0]) || len(got[0]) != 64 {
		t.Errorf("thumbprints %v", got)
	}
}
