package certchain

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	corex509 "github.com/notaryproject/notation-core-go/x509"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// stockChains are chains good, bad and odd, by name.
func stockChains(t *testing.T) map[string]Chain {
	t.Helper()
	sign, issue := x509.KeyUsageDigitalSignature, x509.KeyUsageCertSign
	code := x509.ExtKeyUsageCodeSigning
	past := certtest.Valid(time.Now().Add(-9*time.Hour), time.Now().Add(-8*time.Hour))
	kuSign := der(t, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1})
	kuIssue := der(t, asn1.BitString{Bytes: []byte{0x04}, BitLength: 6})
	noUsage := func(c *x509.Certificate) { c.KeyUsage = 0 }
	ca := func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, issue }
	noBasics := func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }
	pathLen := func(n int) certtest.Edit {
		return func(c *x509.Certificate) {
			if c.IsCA {
				c.MaxPathLen, c.MaxPathLenZero = n, n == 0
			}
		}
	}
	chains := map[string]Chain{"empty": {}}
	for _, algorithm := range certtest.Algorithms {
		for n := 1; n <= 4; n++ {
			_, certs := certtest.ChainOf(n, algorithm)
			chains[fmt.Sprintf("%s of %d", algorithm, n)] = certs
		}
	}
	// Each edit applied to each place of a chain of three, and to a chain of one.
	for name, edit := range map[string]certtest.Edit{
		"expired": past, "no key usage": noUsage, "no basic constraints": noBasics, "CA": ca,
		"key usage not critical":    both(noUsage, extra(oidKeyUsage, false, kuSign)),
		"CA key usage not critical": both(noUsage, extra(oidKeyUsage, false, kuIssue)),
		"not a CA":                  func(c *x509.Certificate) { c.IsCA = false },
		"sign only":                 usage(sign),
		"sign and commit":           usage(sign|x509.KeyUsageContentCommitment, code),
		"sign and issue":            usage(sign|issue, code),
		"CRL only":                  usage(x509.KeyUsageCRLSign),
		"encipher":                  usage(sign|x509.KeyUsageKeyEncipherment|issue, code),
		"decipher only":             usage(sign|x509.KeyUsageDecipherOnly, code),
		"any":                       usage(sign, x509.ExtKeyUsageAny),
		"any for a CA":              usage(issue, x509.ExtKeyUsageAny),
		"server":                    usage(sign, x509.ExtKeyUsageServerAuth),
		"server for a CA":           usage(issue, x509.ExtKeyUsageServerAuth),
		"client":                    usage(sign, code, x509.ExtKeyUsageClientAuth),
		"OCSP":                      usage(sign, x509.ExtKeyUsageOCSPSigning),
		"time stamping":             usage(sign, x509.ExtKeyUsageTimeStamping),
		"e-mail":                    usage(sign, x509.ExtKeyUsageEmailProtection),
		"macOS code signing": func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 840, 113635, 100, 4, 1}}
		},
		"path length 0":              pathLen(0),
		"path length 1":              pathLen(1),
		"unknown critical extension": extra(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}),
		"DNS constraint": func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.DNSNames = []string{"a.example"}, []string{"b.example"}
		},
		"names of others": func(c *x509.Certificate) { c.DNSNames = []string{"c.example"} },
	} {
		chains["leaf: "+name] = three(t, edits{edit}, nil, nil)
		chains["intermediate: "+name] = three(t, nil, edits{edit}, nil)
		chains["root: "+name] = three(t, nil, nil, edits{edit})
		chains["alone: "+name] = Chain{certtest.SelfSigned(certtest.Key("P-256"), "alone", edit)}
	}
	chains["outside of a DNS constraint"] = three(t,
		edits{func(c *x509.Certificate) { c.DNSNames = []string{"b.example"} }},
		edits{func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"a.example"} }}, nil)
	c := three(t, nil, nil, nil)
	leaf, inter, root := c[0], c[1], c[2]
	permutations(c, func(p []*x509.Certificate) {
		chains["order "+p[0].Subject.CommonName+", "+p[1].Subject.CommonName] = p
		chains["two of them "+p[0].Subject.CommonName+", "+p[1].Subject.CommonName] = p[:2]
		chains["one of them "+p[0].Subject.CommonName] = p[:1]
	})
	chains["root twice"] = Chain{leaf, inter, root, root}
	chains["leaf twice"] = Chain{leaf, leaf, inter, root}
	chains["stranger after"] = Chain{leaf, inter, root, certtest.Root("stranger").Certificate}
	chains["root of the same name"] = Chain{leaf, inter, certtest.Root("root").Certificate}
	chains["self-signed leaf before a root"] = Chain{certtest.SelfSigned(certtest.Key("P-256"), "alone"), root}
	chains["17 certificates"] = make17(t)
	r, i2 := certtest.Root("root"), certtest.Root("other")
	bridge := crossSign(i2, r)
	bridged := bridge.Leaf(certtest.Key("P-256").Public(), "leaf")
	chains["over a bridge"] = Chain{bridged, bridge.Certificate, r.Certificate}
	chains["bridge and its own root"] = Chain{bridged, i2.Certificate, bridge.Certificate, r.Certificate}

	for _, n := range []int{1024, 2040, 2041, 2047, 2049, 3071, 4095, 8192} {
		m := new(big.Int).Lsh(big.NewInt(1), uint(n-1))
		key := &rsa.PublicKey{N: m.SetBit(m, 0, 1), E: 65537}
		chains[fmt.Sprintf("leaf of RSA-%d", n)] = r.Chain(r.Leaf(key, "leaf"))
	}
	good := certtest.Key("RSA-2048").Public().(*rsa.PublicKey)
	chains["leaf with exponent 3"] = r.Chain(r.Leaf(&rsa.PublicKey{N: good.N, E: 3}, "leaf"))
	chains["leaf of P-224"] = r.Chain(r.Leaf(certtest.Key("P-224").Public(), "leaf"))
	chains["issuer of P-224"] = chainUnder(t, "P-224")
	chains["issuer of RSA-1024"] = chainUnder(t, "RSA-1024")
	for _, hash := range []string{"SHA-1", "MD5"} {
		inter := r.Intermediate("intermediate")
		leaf := inter.Leaf(certtest.Key("P-256").Public(), "leaf")
		chains[hash+" leaf"] = Chain{weaklySigned(t, leaf, inter.Key, hash), inter.Certificate, r.Certificate}
		chains[hash+" intermediate"] = Chain{leaf, weaklySigned(t, inter.Certificate, r.Key, hash), r.Certificate}
		chains[hash+" root"] = Chain{leaf, inter.Certificate, weaklySigned(t, r.Certificate, r.Key, hash)}
		key := certtest.Key("P-256")
		chains[hash+" alone"] = Chain{weaklySigned(t, certtest.SelfSigned(key, "alone"), key, hash)}
	}
	key := certtest.Key("P-256")
	forged := resign(t, certtest.SelfSigned(key, "alone").Raw, certtest.Key("P-256"), crypto.SHA256)
	chains["alone, signed by another key"] = parsed(t, forged)
	chains["leaf, signed by another key"] = append(parsed(t, resign(t, leaf.Raw, key, crypto.SHA256)), inter, root)
	chains["root, signed by another key"] = append(Chain{leaf, inter}, parsed(t, resign(t, root.Raw, key, crypto.SHA256))...)
	for name, spki := range map[string]func(testing.TB) []byte{"unknown key": unknownKey, "DSA key": dsaKey} {
		if odd := withKey(t, r, spki); odd != nil {
			chains["leaf with "+name] = Chain{odd, r.Certificate}
			chains["issuer with "+name] = Chain{leaf, odd, r.Certificate}
			chains["alone with "+name] = Chain{odd}
		}
	}
	return chains
}

func both(e ...certtest.Edit) certtest.Edit {
	return func(c *x509.Certificate) {
		for _, edit := range e {
			edit(c)
		}
	}
}

func parsed(t *testing.T, raw []byte) Chain {
	t.Helper()
	certs, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// CheckStock must judge as notation-core-go does, chain by chain.
func TestCheckStockAgreesWithNotation(t *testing.T) {
	t.Parallel()
	chains := stockChains(t)
	accepted := 0
	for name, c := range chains {
		stock := corex509.ValidateCodeSigningCertChain(c, nil)
		ours := c.CheckStock()
		if (stock == nil) != (ours == nil) {
			t.Errorf("%s: notation says %v, CheckStock %v", name, stock, ours)
		}
		ruleOf(t, ours)
		if stock == nil {
			accepted++
			continue
		}
		// Check is stricter, never laxer: what it accepts, stock verifiers must.
		if err := c.Check(time.Time{}); err == nil {
			t.Errorf("%s: Check accepts what notation refuses: %v", name, stock)
		}
	}
	if refused := len(chains) - accepted; accepted < 40 || refused < 60 {
		t.Errorf("%d chains accepted, %d refused: too few of one kind to compare", accepted, refused)
	}
}

// The oddities of stock verifiers that Check does not share are known by name.
func TestCheckIsStricterThanStock(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"leaf: any":                                "leaf-extended-key-usage",
		"intermediate: server for a CA":            "ca-extended-key-usage",
		"root: server for a CA":                    "ca-extended-key-usage",
		"leaf: unknown critical extension":         "critical-extension",
		"intermediate: unknown critical extension": "critical-extension",
		"root: unknown critical extension":         "critical-extension",
		"alone: unknown critical extension":        "critical-extension",
		"alone: any":                               "leaf-extended-key-usage",
		"intermediate: macOS code signing":         "ca-extended-key-usage",
		"root: macOS code signing":                 "ca-extended-key-usage",
		"outside of a DNS constraint":              "name-constraints",
		"leaf of RSA-2041":                         "leaf-key-algorithm",
		"leaf of RSA-2047":                         "leaf-key-algorithm",
		"leaf of RSA-3071":                         "leaf-key-algorithm",
		"leaf of RSA-4095":                         "leaf-key-algorithm",
		"leaf with exponent 3":                     "leaf-key-algorithm",
		"issuer of P-224":                          "ca-key-algorithm",
		"issuer of RSA-1024":                       "ca-key-algorithm",
		"SHA-1 alone":                              "signature-algorithm",
		"17 certificates":                          "too-many-certificates",
	}
	var known []string
	for name, c := range stockChains(t) {
		if c.CheckStock() != nil {
			continue
		}
		rule := ruleOf(t, c.Check(time.Time{}))
		if rule != want[name] {
			t.Errorf("%s: rule %q, want %q", name, rule, want[name])
		}
		if rule != "" {
			known = append(known, name)
		}
	}
	for name := range want {
		if !slices.Contains(known, name) {
			t.Errorf("%s: stock rules and Check agree", name)
		}
	}
}

func TestCheckStockNil(t *testing.T) {
	t.Parallel()
	if got := ruleOf(t, Chain{nil}.CheckStock()); got != "malformed-certificates" {
		t.Errorf("rule %q", got)
	}
}
