package trust

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/registry"
)

// manyScopes is a policy of n scopes, four levels deep, of every third of which the rule is written out, with a mirror of some.
func manyScopes(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\nroots: {a: roots/a.pem, b: roots/b.pem}\nmirrors: {r.example/team-0001: [mirror.example/first]}\nscopes:\n  r.example: [a]\n")
	for i := range n - 1 {
		switch name := fmt.Sprintf("r.example/team-%04d/app-%06d", i%1000, i); i % 3 {
		case 0:
			fmt.Fprintf(&b, "  %s: {trust: [b], inherit: true}\n", name)
		case 1:
			fmt.Fprintf(&b, "  %s: {require: [[a], [b]]}\n", name)
		default:
			fmt.Fprintf(&b, "  %s: [a, b]\n", name)
		}
	}
	return b.String()
}

func parseMany(tb testing.TB, text string) *Policy {
	tb.Helper()
	files := &folder{path: manyFolder(tb)}
	defer files.close()
	p, err := parsePolicy("policy.yaml", []byte(text), files)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func manyFolder(tb testing.TB) string { return filepath.Dir(folderOf(tb, "", testRoots())) }

func BenchmarkPolicyLoad(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("scopes=%d", n), func(b *testing.B) {
			text := manyScopes(n)
			file := folderOf(b, text, testRoots())
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := Load(file); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPolicyLookup also reports how many names a lookup asks for: it is the reference's segments, whatever the policy's scopes.
func BenchmarkPolicyLookup(b *testing.B) {
	for _, n := range []int{10, 10_000, 100_000} {
		b.Run(fmt.Sprintf("scopes=%d", n), func(b *testing.B) {
			p := parseMany(b, manyScopes(n))
			ref := registry.Reference{Host: "r.example", Path: "team-0001/none/x/y"}
			_, steps := lookup(p.scopes, repository(ref))
			for b.Loop() {
				if p.selects(ref) == nil {
					b.Fatal("no scope")
				}
			}
			b.ReportMetric(float64(steps), "names/lookup")
		})
	}
}
