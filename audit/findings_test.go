package audit

import (
	"crypto/x509"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
)

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	const name = "C=DE, ST=BE, O=Acme, CN="
	root := certtest.Root("root")
	old := certtest.RootWith(certtest.Key("RSA-2048"), "old root")
	leaf := func(a *certtest.Authority, algorithm string) []*x509.Certificate {
		return a.Chain(a.Leaf(certtest.Key(algorithm).Public(), "leaf"))
	}
	issuedWith := func(algorithm x509.SignatureAlgorithm, at int) []*x509.Certificate {
		chain := leaf(root, "P-256")
		changed := *chain[at]
		changed.SignatureAlgorithm = algorithm
		chain[at] = &changed
		return chain
	}
	for what, tc := range map[string]struct {
		chain, annex []*x509.Certificate
		weak, old    []string
	}{
		"ECDSA":                        {chain: leaf(root, "P-256")},
		"RSA of 3072 bits":             {chain: leaf(root, "RSA-3072")},
		"RSA of 2048 bits":             {chain: leaf(root, "RSA-2048"), old: []string{name + "leaf has an RSA key of 2048 bits"}},
		"RSA of 2040 bits":             {chain: leaf(root, "RSA-2040"), weak: []string{name + "leaf has an RSA key of 2040 bits"}},
		"a root of 2048 bits":          {chain: leaf(old, "P-256"), old: []string{name + "old root has an RSA key of 2048 bits"}},
		"a TSA below one of 2048 bits": {chain: leaf(root, "P-256"), annex: []*x509.Certificate{old.Certificate}, old: []string{name + "old root has an RSA key of 2048 bits"}},
		"issued with SHA-1":            {chain: issuedWith(x509.SHA1WithRSA, 0), weak: []string{name + "leaf was issued with SHA1-RSA"}},
		"a root's own SHA-1":           {chain: issuedWith(x509.SHA1WithRSA, 1)},
		"P-224":                        {chain: leaf(root, "P-224"), weak: []string{name + "leaf has an elliptic curve key of 224 bits"}},
	} {
		m := &mark{content: envelope.Content{Chain: tc.chain}, annex: tc.annex}
		weak, old := m.algorithms()
		if !slices.Equal(weak, tc.weak) || !slices.Equal(old, tc.old) {
			t.Errorf("%s: %s", what, cmp.Diff([2][]string{tc.weak, tc.old}, [2][]string{weak, old}))
		}
	}
}
