package certchain

import (
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
