package trust

import (
	"testing"

	"crypto/x509"
	"github.com/imprint-oci/imprint/certchain/certtest"
)

func TestTimestampRoots(t *testing.T) {
	t.Parallel()
	a, b := certtest.Root("a").Certificate, certtest.Root("b").Certificate
	p := &Policy{stampings: []*timestamping{{roots: []*x509.Certificate{a}}, {roots: []*x509.Certificate{a, b}}}}
	if got := p.TimestampRoots(); len(got) != 2 || !got[0].Equal(a) || !got[1].Equal(b) {
		t.Errorf("%d roots, want both once", len(got))
	}
	if got := (&Policy{}).TimestampRoots(); got != nil {
		t.Errorf("%d roots of nothing", len(got))
	}
}
