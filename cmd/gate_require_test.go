package cmd

import (
	"os"
	"testing"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// TestGateRequire: what a rule of several groups accepts is copied, what it lacks is why it is not; and what of revocation is not known
// neither passes nor stays behind.
func TestGateRequire(t *testing.T) {
	t.Parallel()
	c := newCustoms(t)
	b, err := os.ReadFile(c.path("other.pem"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := certchain.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	c.file("second.pem", string(certtest.PEM(chain[len(chain)-1])))
	nobody := revtest.New(certtest.Root("nobody"))
	t.Cleanup(nobody.Stop)
	c.file("none.crl", string(nobody.List()))
	load := func(name, more, scope string) gate {
		g := c.gate("")
		if g.policy, err = trust.Load(c.file(name, "version: 1\nroots: {org: root.pem, second: second.pem}\n"+more+"scopes: {reg.example: "+scope+"}\n")); err != nil {
			t.Fatal(err)
		}
		return g
	}
	both := load("both.yaml", "", "{require: [[org], [second]]}")
	first := c.signed(":1.0", "")
	_, err = c.review(both, "1.0")
	c.refused(err, 1, "require-unsatisfied")
	second := c.signed(":1.0", "other")
	both.onlyAccepted = true
	r, err := c.review(both, "1.0")
	if err != nil || r.Leave[first] != "" || r.Leave[second] != "" {
		t.Errorf("%v, %v", r.Leave, err)
	}
	// Each is accepted alone where one is enough, and the other stays behind.
	one := load("one.yaml", "", "[second]")
	one.onlyAccepted = true
	if r, err = c.review(one, "1.0"); err != nil || r.Leave[first] != "root-not-trusted" || r.Leave[second] != "" {
		t.Errorf("%v, %v", r.Leave, err)
	}
	// Of the one nothing is known; the other is enough for the artifact, and what is not known may be known the next time.
	unknown := load("unknown.yaml", "", "[{root: org, revocation: {check: enforce, crl: [none.crl]}}, second]")
	if r, err = c.review(unknown, "1.0"); err != nil || len(r.Leave) > 0 {
		t.Errorf("%v, %v", r.Leave, err)
	}
	unknown.onlyAccepted = true
	_, err = c.review(unknown, "1.0")
	c.refused(err, 4, "revocation-unknown")
	alone := load("alone.yaml", "revocation: {check: enforce, crl: [none.crl]}\n", "[org]")
	_, err = c.review(alone, "1.0")
	c.refused(err, 4, "revocation-unknown")
}
