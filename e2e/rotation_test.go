package e2e

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A rotation is a publisher's registry whose intermediate ends: n artifacts in ten repositories, each signed as JWS and as COSE, a third
// of them timestamped.
type rotation struct {
	*person
	server    *regtest.Server
	refs      []string // by tag
	root, ca  *certtest.Authority
	ends      time.Time // when the intermediate does
	leaf      *x509.Certificate
	tsa       *tsatest.Authority
	tsaURL    string
	timestamp []string // flags
}

func (r *rotation) stamped(i int) bool { return i%3 == 0 }

// judged is whether notation-go accepts a reference, whichever of its signatures.
func (r *rotation) judged(t testing.TB, ref string, signature digest.Digest, s judge.Setting) error {
	return judge.VerifyAt(t.Context(), ref, signature, s, []*x509.Certificate{r.root.Certificate}, r.tsa.Roots())
}

// each calls f for every reference, several at once.
func (r *rotation) each(f func(i int, ref string)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, ref := range r.refs {
		slots <- struct{}{}
		wg.Go(func() { defer func() { <-slots }(); f(i, ref) })
	}
	wg.Wait()
}

// done runs imprint over a list, wants it to end well, and returns the JSON lines of a kind and the summary.
func (r *rotation) done(t testing.TB, kind string, args ...string) (lines []map[string]any, summary map[string]any) {
	t.Helper()
	o := r.run(t, append(args, "-o", "json")...)
	docs, err := documents(o.stdout)
	if o.code != 0 || err != nil || len(docs) == 0 {
		t.Fatalf("imprint %s: exit %d, %v\n%.3000s\n%.3000s", strings.Join(args, " "), o.code, err, o.stdout, o.stderr)
	}
	for _, d := range docs {
		switch m := d.(map[string]any); m["kind"] {
		case kind:
			lines = append(lines, m)
		case "summary":
			summary = m
		}
	}
	return lines, summary
}

func (r *rotation) list(name string, keep func(i int) bool) string {
	var lines []string
	for i, ref := range r.refs {
		if keep(i) {
			lines = append(lines, ref)
		}
	}
	return r.file(name, []byte(strings.Join(lines, "\n")+"\n"))
}

// newRotation signs everything below an intermediate that ends soon afterwards; if the machine is too busy for that, once more with
// twice the time.
func newRotation(t *testing.T, kind regtest.Kind, n int) *rotation {
	t.Helper()
	for life := 12 * time.Second; ; life *= 2 {
		r := &rotation{person: newPerson(t), server: regtest.New(t, kind), root: certtest.Root("Acme Root"), tsa: tsatest.New(tsatest.Options{Name: "Acme TSA", Accuracy: time.Second})}
		r.tsaURL = r.tsa.Start()
		t.Cleanup(r.tsa.Stop)
		r.timestamp = []string{"--timestamp-url", r.tsaURL, "--timestamp-roots", r.file("tsa.pem", certtest.PEM(r.tsa.Roots()...)), "--allow-private"}
		for i := range n {
			r.refs = append(r.refs, fmt.Sprintf("%s/team%d/app:v%d", r.server.Host, i%10, i))
		}
		r.each(func(i int, ref string) {
			repo, tag, _ := cutLast(ref, ":")
			if err := image(ref).push(repo, tag); err != nil {
				t.Error(err)
			}
		})
		r.ends = time.Now().Add(life).Truncate(time.Second)
		r.ca = r.root.Intermediate("Acme Code Signing CA 3", certtest.Valid(time.Now().Add(-24*time.Hour), r.ends))
		key := certtest.Key("P-256")
		r.leaf = r.ca.Leaf(key.Public(), "release 2026", certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(2, 0, 0)))
		keyFile := r.file("release.key", certtest.KeyPEM(key))
		r.file("root.pem", certtest.PEM(r.root.Certificate))
		chain := r.file("chain.pem", certtest.PEM(r.ca.Chain(r.leaf)...))
		for _, format := range []string{"jws", "cose"} {
			for _, stamped := range []bool{false, true} {
				args := []string{"sign", "--batch", r.list("list", func(i int) bool { return r.stamped(i) == stamped }), "--key", "file:" + keyFile, "--chain", chain,
					"--signature-format", format, "--again"}
				if stamped {
					args = append(args, r.timestamp...)
				}
				if time.Until(r.ends) > time.Second {
					if o := r.run(t, append(args, "-o", "json")...); o.code != 0 && time.Now().Before(r.ends) {
						t.Fatalf("imprint %s: exit %d\n%.3000s\n%.3000s", strings.Join(args, " "), o.code, o.stdout, o.stderr)
					}
				}
			}
		}
		if left := time.Until(r.ends); left > 2*time.Second {
			if err := os.Remove(keyFile); err != nil {
				t.Fatal(err)
			}
			return r
		}
		t.Logf("%d signatures were not made within %v", 2*n, life)
		r.server.Close()
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// TestRotation is the life of a chain: the intermediate under 1,000 signatures ends; nobody has the key any more. What is promised by the plan
// is what notation-go says afterwards, at each setting.
func TestRotation(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		n := 500
		if raced || kind == regtest.WithoutAPI {
			n = 30
		}
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRotation(t, kind, n)
			r.rotate(t)
		})
	}
}

func (r *rotation) rotate(t *testing.T) {
	n := len(r.refs)
	third := 0
	for i := range n {
		if r.stamped(i) {
			third++
		}
	}
	var repos []string
	for i := range 10 {
		repos = append(repos, fmt.Sprintf("%s/team%d/app", r.server.Host, i))
	}
	all := r.file("repos.txt", []byte(strings.Join(repos, "\n")+"\n"))

	// Before: everything is accepted, and cron is told.
	o := r.run(t, "audit", "--batch", all, "--fail-within", "14d", "-o", "json")
	if o.code != 1 {
		t.Fatalf("audit: exit %d\n%.3000s\n%.3000s", o.code, o.stdout, o.stderr)
	}
	for path, want := range map[string]int{"counts.signatures": 2 * n, "counts.current": 2 * n, "counts.failing": 2 * n, "counts.ended": 0} {
		if got := o.report(t).field(t, path); got != fmt.Sprint(want) {
			t.Errorf("audit says %s %s, want %d", path, got, want)
		}
	}

	// The intermediate ends. Its renewal begins where it ended: after every timestamp.
	time.Sleep(time.Until(r.ends.Add(1100 * time.Millisecond)))
	renewed := r.root.IntermediateWith(r.ca.Key, "Acme Code Signing CA 3", certtest.Valid(r.ends, time.Now().AddDate(5, 0, 0)))
	chain := r.file("ca-renewed.pem", certtest.PEM(renewed.Certificate))
	old := r.file("ca-old.pem", certtest.PEM(r.ca.Certificate))
	r.each(func(i int, ref string) {
		if err := r.judged(t, ref, "", judge.NoTSARoot); err == nil {
			t.Errorf("%s is accepted although its chain has ended", ref)
		}
		if err := r.judged(t, ref, "", judge.Always); (err == nil) != r.stamped(i) {
			t.Errorf("%s with its timestamp: %v", ref, err)
		}
	})

	// The plan, and what it promises for each signature.
	before := r.server.Count(writing)
	rechain := append([]string{"rechain", "--all", "--batch", all, "--chain", chain, "--replacing", old}, r.timestamp...)
	plan, _ := r.done(t, "rechain", append(rechain, "--dry-run")...)
	if len(plan) != 2*n || r.server.Count(writing) != before {
		t.Fatalf("planned %d signatures, want %d; %d writes", len(plan), 2*n, r.server.Count(writing)-before)
	}
	promised := map[string]map[judge.Setting][2]bool{} // by the old signature: of the new one, and of both
	for _, line := range plan {
		promised[text(t, line, "signatures.0.signature")] = verdictsOf(t, line)
	}
	mended, summary := r.done(t, "rechain", rechain...)
	if len(mended) != 2*n {
		t.Fatalf("mended %d: %v", len(mended), summary)
	}
	var mu sync.Mutex
	fresh := map[string][]promise{} // by artifact
	for _, line := range mended {
		if status := text(t, line, "signatures.0.status"); status != "written" {
			t.Errorf("%s: %s", text(t, line, "reference"), status)
		}
		was := text(t, line, "signatures.0.signature")
		fresh[text(t, line, "digest")] = append(fresh[text(t, line, "digest")], promise{digest.Digest(text(t, line, "signatures.0.new")), promised[was]})
	}
	// Once more: nothing to do.
	before = r.server.Count(writing)
	if again, _ := r.done(t, "rechain", rechain...); r.server.Count(writing) != before {
		t.Errorf("the second run wrote %d times (%d lines)", r.server.Count(writing)-before, len(again))
	}

	settings := []judge.Setting{judge.NoTSARoot, judge.Always, judge.AfterCertExpiry}
	look := func(when string, onlyNew bool) {
		r.each(func(i int, ref string) {
			mu.Lock()
			news := fresh[image(ref).descriptor.Digest.String()]
			mu.Unlock()
			if len(news) != 2 {
				t.Errorf("%s: %s has %d new signatures", when, ref, len(news))
				return
			}
			for _, s := range settings {
				both := false
				for _, p := range news {
					if both = both || p.verdicts[s][1]; n > 100 && i%5 != 0 {
						continue // of many it is enough to ask of some what each is worth alone
					}
					err := r.judged(t, ref, p.signature, s)
					if want := p.verdicts[s]; (err == nil) != want[0] {
						t.Errorf("%s: %s at %s: the plan promised %t of the new one, notation-go: %v", when, ref, s, want[0], err)
					}
				}
				if err := r.judged(t, ref, "", s); !onlyNew && (err == nil) != both {
					t.Errorf("%s: %s at %s: the plan promised %t of both, notation-go: %v", when, ref, s, both, err)
				}
			}
			if err := r.judged(t, ref, "", judge.NoTSARoot); err != nil {
				t.Errorf("%s: %s: %v", when, ref, err)
			}
		})
	}
	look("rechained", false)

	// The old ones go, and nothing is left to say.
	r.done(t, "prune", "prune", "--all", "--batch", all)
	if deleted := r.server.Count(deleting); deleted != 0 {
		t.Errorf("a plan deleted %d", deleted)
	}
	r.done(t, "prune", "prune", "--all", "--batch", all, "--yes")
	look("pruned", true)
	clean := r.run(t, "audit", "--batch", all, "--fail-within", "14d", "-o", "json")
	if clean.code != 0 {
		t.Fatalf("audit: exit %d\n%.3000s\n%.3000s", clean.code, clean.stdout, clean.stderr)
	}
	for path, want := range map[string]int{"counts.signatures": 2 * n, "counts.current": 2 * n, "counts.problems": 0, "counts.needless": 0, "counts.ended": 0, "counts.failing": 0} {
		if got := clean.report(t).field(t, path); got != fmt.Sprint(want) {
			t.Errorf("audit says %s %s, want %d", path, got, want)
		}
	}
}

type promise struct {
	signature digest.Digest
	verdicts  map[judge.Setting][2]bool
}

func writing(r regtest.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead
}

func deleting(r regtest.Request) bool { return r.Method == http.MethodDelete }

func text(t testing.TB, doc map[string]any, path string) string {
	t.Helper()
	v, ok := lookup(any(doc), path)
	if !ok {
		b, _ := json.Marshal(doc)
		t.Fatalf("no %s in %.2000s", path, b)
	}
	return said(v)
}

func verdictsOf(t testing.TB, line map[string]any) map[judge.Setting][2]bool {
	t.Helper()
	out := map[judge.Setting][2]bool{}
	for i := range 3 {
		at := fmt.Sprintf("signatures.0.verifiers.%d.", i)
		out[judge.Setting(text(t, line, at+"setting"))] = [2]bool{text(t, line, at+"new") == "true", text(t, line, at+"both") == "true"}
	}
	return out
}

// report is the part of an outcome that says what the whole audit came to: its last line.
func (o outcome) report(t testing.TB) outcome {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	return outcome{o.code, lines[len(lines)-1], o.stderr}
}
