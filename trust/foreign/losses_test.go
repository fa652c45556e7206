package foreign

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
)

// What an export would lose is what it loses.
func TestLossesAreTheExports(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	v := s.load(t, "roots: {root: root.pem, ca: {certificates: [ca.pem], pin: intermediate}, leaf: {certificates: [leaf.pem], pin: leaf}}\n"+
		"scopes:\n  r.example: [root]\n  r.example/a: {require: [[root], [ca]]}\n  r.example/b: {accept: unsigned}\n"+
		"  r.example/c: {trust: [{root: root, claims: tag}]}\n  r.example/d: [leaf]\n  r.example/e: {trust: [root, ca]}\n").View()
	for _, to := range Targets() {
		tr, err := Export(v, to, nil)
		if err != nil || len(tr.Losses) == 0 {
			t.Fatalf("%s: %v, %v", to, err, tr.Losses)
		}
		if diff := cmp.Diff(tr.Losses, Losses(v, to)); diff != "" {
			t.Errorf("%s (-export +losses):\n%s", to, diff)
		}
	}
}

// BenchmarkLosses says what every target would lose of policies of many scopes.
func BenchmarkLosses(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("scopes=%d", n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("version: 1\nroots: {a: root.pem}\nscopes:\n  r.example: [a]\n")
			for i := range n - 1 {
				fmt.Fprintf(&text, "  r.example/team-%04d/app-%06d: [a]\n", i%1000, i)
			}
			s := stage{dir: b.TempDir()}
			s.write(b, "root.pem", string(certtest.PEM(certtest.Root("root").Certificate)))
			p, err := trust.Load(s.write(b, "policy.yaml", text.String()))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				v := p.View()
				for _, to := range Targets() {
					if len(Losses(v, to)) < n-1 {
						b.Fatalf("%s loses too little", to)
					}
				}
			}
		})
	}
}
