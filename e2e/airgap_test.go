package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestAirGap: 300 references, three of them of one tag, go through one archive to another registry, under other names,
// judged by a policy on either side. Neither half can reach the other's registry. There imprint and notation-go verify
// each of them.
func TestAirGap(t *testing.T) {
	t.Parallel()
	const n = 300
	outside, inside := regtest.New(t, regtest.WithAPI), regtest.New(t, regtest.WithAPI)
	key, chain := certtest.ChainOf(3, "P-256")
	var refs, landed []string
	at := func(i int) string {
		name := fmt.Sprintf("db/app%d:v%d", i%100, i)
		if i%100 == 7 { // three repositories have a tag in common
			name = fmt.Sprintf("db/special%d:stable", i)
		}
		if i%2 == 0 {
			name = "web/" + name
		}
		return name
	}
	for i := range n {
		refs = append(refs, outside.Host+"/"+at(i))
		if name, ok := strings.CutPrefix(at(i), "web/"); ok {
			landed = append(landed, inside.Host+"/sites/"+name)
			continue
		}
		landed = append(landed, inside.Host+"/vendor/outside/"+at(i))
	}
	made, err := fixture.Many(t.Context(), n, func(i int) string { return refs[i] }, fixture.Options{Key: key, Chain: chain, Layer: 256})
	if err != nil {
		t.Fatal(err)
	}

	p := newPerson(t)
	p.file("root.pem", certtest.PEM(chain[2]))
	policy := p.file("policy.yaml", fmt.Appendf(nil, "version: 1\nroots:\n  vendor: root.pem\nscopes:\n  %q: [vendor]\n  %q: [vendor]\n", outside.Host, inside.Host))
	list := p.file("list", []byte("# what goes in tonight\n"+strings.Join(refs, "\n")+"\n"))
	archive := filepath.Join(p.dir, "out.tar")
	out := p.run(t, "copy", "--batch", list, "--map", outside.Host+"=oci-archive:"+archive, "--policy", policy, "--require-signature", "-o", "json")
	if out.code != 0 || out.field(t, "done") != fmt.Sprint(n) {
		t.Fatalf("outside: exit %d\n%s", out.code, out.stderr)
	}
	if got := inside.Count(nil); got != 0 {
		t.Fatalf("the other side was asked %d times", got)
	}

	outside.Close()
	carried := filepath.Join(p.dir, "carried")
	if err := os.Mkdir(carried, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(archive, filepath.Join(carried, "in.tar")); err != nil {
		t.Fatal(err)
	}
	in := p.run(t, "copy", "oci-archive:"+filepath.Join(carried, "in.tar"), "--all-tags", "--policy", policy, "--require-signature", "-o", "json",
		"--map", outside.Host+"="+inside.Host+"/vendor/outside", "--map", outside.Host+"/web="+inside.Host+"/sites")
	if in.code != 0 || in.field(t, "done") != fmt.Sprint(n) {
		t.Fatalf("inside: exit %d\n%s", in.code, in.stderr)
	}

	verified := p.run(t, "verify", "--batch", p.file("landed", []byte(strings.Join(landed, "\n"))), "--policy", policy, "-o", "json")
	if verified.code != 0 || verified.field(t, "done") != fmt.Sprint(n) {
		t.Fatalf("verify: exit %d\n%s", verified.code, verified.stderr)
	}
	common := 0
	for i, ref := range landed {
		if strings.HasSuffix(ref, ":stable") {
			common++
			there, err := fixture.Walk(t.Context(), ref)
			if err != nil || there.Root != made[i].Root.Digest || there.Referrers() != 1 {
				t.Errorf("%s is %s with %d referrers, %v; want %s", ref, there.Root, there.Referrers(), err, made[i].Root.Digest)
			}
		}
		if raced && i%5 != 0 { // the race detector looks at imprint, not at notation-go
			continue
		}
		if err := judge.Verify(t.Context(), ref, chain[2]); err != nil {
			t.Errorf("notation-go: %s: %v", ref, err)
		}
	}
	if common != 3 {
		t.Errorf("%d references had the tag in common, want 3", common)
	}
}
