package e2e

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestRaceSigners: 20 signers with 20 keys in 20 processes sign one artifact at once, at the registry without the
// referrers API, as if on 20 machines: nothing is shared between them but the registry. All 20 are listed, every
// time.
func TestRaceSigners(t *testing.T) {
	const signers, rounds = 20, 10
	binary, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	server := regtest.New(t, regtest.WithoutAPI)
	root := certtest.Root("race root")
	machines := make([]string, signers)
	for i := range machines {
		machines[i] = t.TempDir()
		key := certtest.Key("P-256")
		chain := root.Chain(root.Leaf(key.Public(), fmt.Sprintf("signer %d", i)))
		for name, b := range map[string][]byte{"leaf.key": certtest.KeyPEM(key), "chain.pem": certtest.PEM(chain...)} {
			if err := os.WriteFile(filepath.Join(machines[i], name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range rounds {
		repo := fmt.Sprintf("%s/race%d", server.Host, round)
		a := image(repo)
		ref := pushed(t, a, repo, "v1")
		var wg sync.WaitGroup
		for _, dir := range machines {
			wg.Go(func() {
				c := exec.CommandContext(t.Context(), binary, "sign", repo+"@"+a.descriptor.Digest.String(), "--key", "leaf.key", "--chain", "chain.pem", "-q")
				c.Dir = dir
				c.Env = []string{"HOME=" + dir, "GORACE=" + quickExit}
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("round %d: %v\n%s", round, err, out)
				}
			})
		}
		wg.Wait()
		judgeEach(t, ref, signers, []*x509.Certificate{root.Certificate})
		if t.Failed() {
			return
		}
	}
}

// TestRaceRechain: K18. rechain, with and without --replace, killed at each request boundary, the request delivered or
// not. At no moment are there fewer verifying signatures than before, and the second run ends as an undisturbed one.
func TestRaceRechain(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		for _, replace := range []bool{false, true} {
			for _, delivered := range []bool{false, true} {
				name := fmt.Sprintf("K18 %s replace=%t delivered=%t", kind, replace, delivered)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					killedRechains(t, kind, replace, delivered)
				})
			}
		}
	}
}

func killedRechains(t *testing.T, kind regtest.Kind, replace, delivered bool) {
	server := regtest.New(t, kind)
	l := newLineage(4, "P-256")
	p := newPerson(t)
	args := []string{"--chain", p.file("new.pem", certtest.PEM(l.new...)), "-q"}
	if replace {
		args = append(args, "--replace")
	}
	formats := []string{"jws"}
	if replace && delivered {
		formats = append(formats, "cose") // one after the other: there is a moment between two signatures
	}
	prepare := func(repo string) string {
		ref := pushed(t, image("rechained"), server.Host+"/"+repo, "v1")
		for _, format := range formats {
			if err := judge.Sign(t.Context(), ref, l.key, l.old, judge.SignOptions{Format: format}); err != nil {
				t.Fatal(err)
			}
		}
		return ref
	}
	survived, n := false, 1
	for ; n < 200 && !survived; n++ {
		ref := prepare(fmt.Sprintf("killed%d", n))
		before := verifying(t, ref, l.roots)
		if len(before) != len(formats) {
			t.Fatalf("%d of %d signatures verify before anything is done", len(before), len(formats))
		}
		o := killedAt(t, server, n, delivered, p, append([]string{"rechain", ref}, args...))
		survived = o.code == 0
		mustVerify(t, ref, l.roots, before, fmt.Sprintf("request %d cut, exit code %d", n, o.code))
		if o := p.run(t, append([]string{"rechain", ref}, args...)...); o.code != 0 {
			t.Errorf("request %d cut: the second run ends in %d: %s", n, o.code, o.stderr)
		}
		want := 2 * len(formats)
		if replace {
			want = len(formats)
		}
		judgeEach(t, ref, want, l.roots) // no more, no fewer, no ghost
		if t.Failed() {
			return
		}
	}
	if !survived {
		t.Error("it never got through")
	}
	t.Logf("killed at each of %d requests", n-2)
	// To resolve, list, read, write and read back takes more than this; fewer means that nothing was cut.
	if n-2 < 8 {
		t.Errorf("killed at %d requests only", n-2)
	}
}

// killedAt runs imprint until the registry has got its n-th request, whose answer it never sees, and ends it there.
func killedAt(t *testing.T, server *regtest.Server, n int, delivered bool, p *person, args []string) outcome {
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	server.Reset()
	server.CutAt(n, delivered)
	defer server.CutAt(0, false)
	go func() {
		for ctx.Err() == nil {
			if got := server.Requests(); len(got) >= n && !got[n-1].End.IsZero() {
				kill()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return p.runIn(ctx, args...)
}

// verifying returns the core of each signature that notation accepts alone: the primitive signature, which chains do not change.
func verifying(t testing.TB, ref string, roots []*x509.Certificate) map[string]bool {
	t.Helper()
	signatures, err := judge.Signatures(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	cores := map[string]bool{}
	for _, s := range signatures {
		if judge.VerifyOnly(t.Context(), ref, s, roots...) != nil {
			continue
		}
		mediaType, b, err := judge.Envelope(t.Context(), ref, s)
		if err != nil {
			t.Fatal(err)
		}
		cores[string(apart(t, mediaType, b)["signature"])] = true
	}
	return cores
}

func mustVerify(t testing.TB, ref string, roots []*x509.Certificate, before map[string]bool, when string) {
	t.Helper()
	now := verifying(t, ref, roots)
	for core := range before {
		if !now[core] {
			t.Errorf("%s: a signature that verified is gone", when)
		}
	}
}

// TestRaceTwoRechains: K16 and K17. Two machines rechain at once, with the same and with different chains; at no
// moment is there no verifying signature.
func TestRaceTwoRechains(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run("K16 same chain "+string(kind), func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, kind)
			for round := range 5 {
				l := newLineage(3, "P-256")
				ref := pushed(t, image("k16"), fmt.Sprintf("%s/k16-%d", server.Host, round), "v1")
				if err := judge.Sign(t.Context(), ref, l.key, l.old, judge.SignOptions{}); err != nil {
					t.Fatal(err)
				}
				digests := atOnce(t, server, ref, l.roots, nil, l.new, l.new)
				if digests[0] != digests[1] {
					t.Errorf("two digests: %q", digests)
				}
				judgeEach(t, ref, 2, l.roots)
			}
		})
		t.Run("K17 different chains "+string(kind), func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, kind)
			for round := range 5 {
				key := certtest.Key("P-256")
				root := certtest.Root("k17 root")
				longer := func(years int) certtest.Edit {
					return certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(years, 0, 0))
				}
				chain := func(a *certtest.Authority, edits ...certtest.Edit) []*x509.Certificate {
					return a.Chain(a.Leaf(key.Public(), "leaf", edits...))
				}
				old, one, two := chain(root.Intermediate("CA 3")), chain(root.Intermediate("CA 4"), longer(2)), chain(root.Intermediate("CA 5"), longer(3))
				ref := pushed(t, image("k17"), fmt.Sprintf("%s/k17-%d", server.Host, round), "v1")
				if err := judge.Sign(t.Context(), ref, key, old, judge.SignOptions{}); err != nil {
					t.Fatal(err)
				}
				roots := []*x509.Certificate{root.Certificate}
				digests := atOnce(t, server, ref, roots, []string{"--replace"}, one, two)
				if slices.Contains(digests, "") || digests[0] == digests[1] {
					t.Errorf("new signatures %q", digests)
				}
				judgeEach(t, ref, 2, roots) // both new ones; the old one is gone
			}
		})
	}
}

// atOnce rechains the one signature of ref to each chain at the same time and returns the digests of the new ones:
// nobody writes before everybody has read. All the while some signature verifies.
func atOnce(t *testing.T, server *regtest.Server, ref string, roots []*x509.Certificate, more []string, chains ...[]*x509.Certificate) []string {
	t.Helper()
	before, err := judge.Signatures(t.Context(), ref)
	if err != nil || len(before) != 1 {
		t.Fatalf("%d signatures, %v", len(before), err)
	}
	read, all := make(chan struct{}, 1000), make(chan struct{})
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/manifests/"+before[0].String()):
			read <- struct{}{}
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			select {
			case <-all:
			case <-time.After(10 * time.Second):
			}
		}
		return false
	})
	go func() {
		for range chains {
			<-read
		}
		close(all)
	}()
	digests := make([]string, len(chains))
	var wg sync.WaitGroup
	for i, chain := range chains {
		p := newPerson(t)
		args := append([]string{"rechain", ref, "--chain", p.file("new.pem", certtest.PEM(chain...))}, more...)
		wg.Go(func() {
			o := p.want(t, 0, "", args...)
			digests[i] = o.field(t, "signatures.0.new")
		})
	}
	<-all
	server.Intercept(nil)
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			// Reading a list and then its entries is no one moment: an entry may be gone by then. Twice in a row it
			// is not bad luck.
			if judge.Verify(t.Context(), ref, roots...) == nil {
				continue
			}
			if err := judge.Verify(t.Context(), ref, roots...); err != nil && ctx.Err() == nil {
				t.Errorf("no signature verifies: %v", err)
			}
		}
	})
	wg.Wait()
	stop()
	watching.Wait()
	return digests
}
