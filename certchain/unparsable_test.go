package certchain

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// X18: keys that Go does not know make errors, never panics (GO-2025-4013), wherever in the chain they stand.
func TestX18UnknownKeys(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	for name, spki := range map[string]func(testing.TB) []byte{"secp256k1": oidsSecp256k1, "unknown": unknownKey, "DSA": dsaKey} {
		leaf := withKey(t, root, spki)
		if leaf == nil {
			// Go refuses the curve when it parses, so Parse must say so.
			raw := recraft(t, root.Leaf(certtest.Key("P-256").Public(), "leaf").Raw, map[int][]byte{6: spki(t)})
			if _, err := Parse(raw); ruleOf(t, err) != "malformed-certificates" {
				t.Errorf("A04 X18 %s: %v", name, err)
			}
			continue
		}
		good := root.Leaf(certtest.Key("P-256").Public(), "leaf")
		if got := ruleOf(t, Chain{leaf, root.Certificate}.Check(time.Now())); got != "leaf-key-algorithm" {
			t.Errorf("A04 X18 %s leaf: rule %q", name, got)
		}
		if got := ruleOf(t, Chain{good, leaf, root.Certificate}.Check(time.Now())); got != "ca-key-algorithm" {
			t.Errorf("X18 %s issuer: rule %q", name, got)
		}
		if (Chain{leaf, root.Certificate}).CheckStock() == nil {
			t.Errorf("X18 %s: stock rules accept it", name)
		}
		if err := (Chain{leaf}).Matches(leaf.PublicKey); err == nil && name == "unknown" {
			t.Errorf("X18 %s matches", name)
		}
		if d := Describe(leaf); d.Key != name {
			t.Errorf("X18 %s is described as %s", name, d.Key)
		}
		if _, err := Build(leaf.PublicKey, Chain{leaf, root.Certificate}, time.Now()); err == nil {
			t.Errorf("X18 %s: a chain was built", name)
		}
		if _, err := CreateRequest(unusable{leaf.PublicKey}, Request{}); ruleOf(t, err) != "leaf-key-algorithm" {
			t.Errorf("X18 %s: %v", name, err)
		}
	}
}

// X18: an issuer with a modulus that fills its certificate is refused before anything is calculated with it, which would take
// seconds for every signature.
func TestX18HugeModulus(t *testing.T) {
	t.Parallel()
	m := new(big.Int).Lsh(big.NewInt(1), 400_000)
	key := &rsa.PublicKey{N: m.SetBit(m, 0, 1), E: 1<<31 - 1}
	root := certtest.Root("root")
	huge := root.Leaf(key, "huge", func(c *x509.Certificate) { c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil })
	leafKey := certtest.Key("P-256").Public()
	template := root.Leaf(leafKey, "leaf")
	signed := recraft(t, template.Raw, map[int][]byte{
		2: sequence(oidDER(t, 1, 2, 840, 113549, 1, 1, 11), []byte{5, 0}),
		3: huge.RawSubject,
	})
	outer := members(t, signed)
	outer[2] = der(t, asn1.BitString{Bytes: make([]byte, 400_001/8+1), BitLength: (400_001/8 + 1) * 8})
	leaf, err := x509.ParseCertificate(sequence(outer...))
	if err != nil {
		t.Fatal(err)
	}
	c := Chain{leaf, huge, root.Certificate}
	start := time.Now()
	if got := ruleOf(t, c.Check(time.Now())); got != "ca-key-algorithm" {
		t.Errorf("rule %q", got)
	}
	if got := ruleOf(t, c.CheckStock()); got != "ca-key-algorithm" {
		t.Errorf("stock: rule %q", got)
	}
	if _, err := Build(leafKey, c, time.Now()); ruleOf(t, err) != "ca-key-algorithm" {
		t.Error(err)
	}
	if _, err := Order(c); err != nil {
		t.Error(err)
	}
	c.Describe()
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %s", d)
	}
}
