package cmd

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// all is the command line of rechain --all over the repositories of paths.
func (f *fleet) all(paths []string, more ...string) []string {
	args := []string{"rechain", "--all"}
	for _, p := range paths {
		args = append(args, f.server.Host+"/"+p)
	}
	return append(args, more...)
}

func (f *fleet) chain() []string { return []string{"--chain", f.path("new.pem")} }

// statuses counts what became of signatures.
func (g told) statuses(t testing.TB) map[string]int {
	t.Helper()
	out := map[string]int{}
	results, _ := g.rechained(t)
	for _, r := range results {
		for _, p := range r.Signatures {
			out[p.Status]++
		}
	}
	return out
}

// TestRechainAll: a plan that was reviewed, with a line taken out, runs as --batch and does just that; then --all does the rest, and
// nothing the third time.
func TestRechainAll(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, kind)
			paths := []string{"team/app", "team/web"}
			f.fill(3, paths...)
			f.server.Reset()
			plan := f.want(0, f.all(paths, append(f.chain(), "--dry-run", "-o", "json")...)...)
			if n := f.server.Writes(); n != 0 {
				t.Errorf("a plan writes %d times", n)
			}
			results, sum := plan.rechained(t)
			if got := plan.statuses(t); !maps.Equal(got, map[string]int{"planned": 12}) || len(results) != 12 || !strings.Contains(sum.NotSeen, "--batch") {
				t.Fatalf("%v, %d lines, %+v", got, len(results), sum)
			}
			reviewed := lines(plan.out)
			left := results[0].Signatures[0].Signature
			done := f.in(strings.NewReader(strings.Join(reviewed[1:], "\n")), 0, append([]string{"rechain", "--batch", "-", "-o", "json"}, f.chain()...)...)
			wrote := map[digest.Digest]bool{}
			artifacts, _ := done.rechained(t)
			for _, r := range artifacts {
				for _, p := range r.Signatures {
					wrote[p.Signature] = p.Status == "written"
				}
			}
			if len(artifacts) != 6 || len(wrote) != 11 || wrote[left] || slices.Contains(slices.Collect(maps.Values(wrote)), false) {
				t.Errorf("%d artifacts, %v, without %s", len(artifacts), wrote, left)
			}
			if got := f.want(0, f.all(paths, append(f.chain(), "-o", "json")...)...).statuses(t); !maps.Equal(got, map[string]int{"written": 1, "there": 11, "unchanged": 11}) {
				t.Errorf("the rest: %v", got)
			}
			f.server.Reset()
			if got := f.want(0, f.all(paths, append(f.chain(), "-o", "json")...)...).statuses(t); !maps.Equal(got, map[string]int{"there": 12, "unchanged": 12}) || f.server.Writes() != 0 {
				t.Errorf("again: %v, %d writes", got, f.server.Writes())
			}
			// The old ones go, but for those whose time the new chain does not cover.
			got := f.want(7, f.all(paths, append(f.chain(), "-o", "json", "--replace")...)...)
			if s := got.statuses(t); !maps.Equal(s, map[string]int{"replaced": 10, "skipped": 2, "unchanged": 12}) || got.reason(t) != "would-break-timestamp" {
				t.Errorf("--replace: %v", s)
			}
		})
	}
}

// TestRechainFilters: what is not meant is counted, and nothing happens to it.
func TestRechainFilters(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	later := f.root.IntermediateWith(f.old.Key, "Acme CA 3", certtest.Valid(f.made.Add(-time.Hour), time.Now().Add(90*24*time.Hour)))
	f.identity("later", later)
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, false)
	f.signed("app", d, "payments", envelope.COSE, false)
	f.signed("app", d, "later", envelope.JWS, false)
	ref := f.server.Host + "/app:1"
	for name, c := range map[string]struct {
		flags         []string
		planned, left int
	}{
		"all":                  {nil, 3, 0},
		"replacing":            {[]string{"--replacing", f.path("old.pem")}, 2, 1},
		"replacing either":     {[]string{"--replacing", f.path("old.pem"), "--replacing", f.file("later.pem", string(certtest.PEM(later.Certificate)))}, 3, 0},
		"replacing none":       {[]string{"--replacing", f.path("new.pem")}, 0, 3},
		"signed by":            {[]string{"--signed-by", "CN=payments"}, 1, 2},
		"signed by some":       {[]string{"--signed-by", "C=DE, O=Acme"}, 3, 0},
		"signed by nobody":     {[]string{"--signed-by", "CN=pay"}, 0, 3},
		"expiring":             {[]string{"--expiring", "30d"}, 2, 1},
		"expiring later":       {[]string{"--expiring", "91d"}, 3, 0},
		"expiring and by whom": {[]string{"--expiring", "30d", "--signed-by", "CN=release", "--replacing", f.path("old.pem")}, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := *f.world // of its own standard input
			got := w.want(0, append(append([]string{"rechain", ref, "--dry-run", "-o", "json"}, f.chain()...), c.flags...)...)
			var r struct {
				LeftOut    int
				Signatures []struct{ Status string }
			}
			if err := json.Unmarshal([]byte(got.out), &r); err != nil || len(r.Signatures) != c.planned || r.LeftOut != c.left {
				t.Errorf("%v: %+v", err, r)
			}
			all := w.want(0, f.all([]string{"app"}, append(append([]string{"--dry-run", "-o", "json"}, f.chain()...), c.flags...)...)...)
			_, sum := all.rechained(t)
			if n := all.statuses(t)["planned"]; n != c.planned || sum.Statuses["left out"] != c.left {
				t.Errorf("--all: %d planned, %v", n, sum.Statuses)
			}
			if text := w.want(0, append(append([]string{"rechain", ref, "--dry-run"}, f.chain()...), c.flags...)...).out; c.left > 0 && !strings.Contains(text, fmt.Sprintf("%d left out.", c.left)) {
				t.Errorf("the screen does not count them:\n%s", text)
			}
		})
	}
	for _, wrong := range [][]string{
		{"--replacing", f.file("two.pem", string(certtest.PEM(f.old.Certificate, f.root.Certificate)))}, {"--replacing", f.path("absent")}, {"--signed-by", "CN"},
		{"--signed-by", ""}, {"--expiring", "30"}, {"--limit", "0"}, {"--limit", "-1"}, {"--timestamp-url", "http://tsa.example"},
	} {
		f.want(3, append(append([]string{"rechain", ref}, f.chain()...), wrong...)...)
	}
	f.want(3, "rechain", ref)
}

// TestRechainReplacingExcludes: a certificate that is to go is not built with, however long it lasts.
func TestRechainReplacingExcludes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, false)
	shorter := f.root.IntermediateWith(f.old.Key, "Acme CA 3", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(10*24*time.Hour)))
	pool := f.file("pool.pem", string(certtest.PEM(f.old.Certificate, shorter.Certificate)))
	ref := f.server.Host + "/app:1"
	if got := f.want(0, "rechain", ref, "--chain", pool, "-o", "json").statuses(t); got["unchanged"] != 1 {
		t.Errorf("the longest is the present one: %v", got)
	}
	if r := f.want(3, "rechain", ref, "--chain", pool, "--replacing", f.path("old.pem"), "-o", "json").reason(t); r != "ends-earlier" {
		t.Errorf("reason %s", r)
	}
	if got := f.want(0, "rechain", ref, "--chain", pool, "--replacing", f.path("old.pem"), "--allow-shorter", "-o", "json").statuses(t); got["written"] != 1 {
		t.Errorf("%v", got)
	}
	for range 2 { // nothing is left that has it but the old one, which is there in its new form
		if got := f.want(0, "rechain", ref, "--chain", pool, "--replacing", f.path("old.pem"), "--allow-shorter", "-o", "json").statuses(t); got["there"] != 1 || len(got) != 1 {
			t.Errorf("again: %v", got)
		}
	}
	if r := f.want(3, "rechain", ref, "--chain", f.path("old.pem"), "--replacing", f.path("old.pem"), "-o", "json").reason(t); r != "leaf-key-differs" {
		t.Errorf("with nothing but itself: %s", r)
	}
}

// TestRechainLimit: at most so many are written, and exactly so many where there are more, however many jobs there are.
func TestRechainLimit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	f.fill(20, "app")
	puts := func() int {
		return f.server.Count(func(q regtest.Request) bool {
			return q.Method == http.MethodPut && strings.Contains(q.Path, "/manifests/")
		})
	}
	total := 0
	for _, limit := range []int{1, 7, 10, 22, 100} {
		f.server.Reset()
		got := f.want(0, f.all([]string{"app"}, append(f.chain(), "--limit", fmt.Sprint(limit), "--jobs", "32", "-o", "json")...)...)
		want := min(limit, 40-total)
		if n := got.statuses(t)["written"]; n != want || puts() != want {
			t.Errorf("--limit %d wrote %d, %d manifests, want %d", limit, n, puts(), want)
		}
		total += want
	}
	if total != 40 {
		t.Fatal(total)
	}
	f.server.Reset()
}

// TestK21ThreeOfThousandFail: the others are done, the failures are a list that runs as --batch once the cause is gone.
func TestK21ThreeOfThousandFail(t *testing.T) {
	t.Parallel()
	const artifacts = 500 // with two signatures each
	f := newFleet(t, regtest.WithAPI)
	f.fill(artifacts/2, "team/app", "team/web")
	var mu sync.Mutex
	broken := map[string]bool{}
	f.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		var m ocispec.Manifest
		body := new(bytes.Buffer)
		_, _ = body.ReadFrom(r.Body)
		r.Body = http.NoBody
		err := json.Unmarshal(body.Bytes(), &m)
		if err == nil && m.Subject != nil {
			mu.Lock()
			defer mu.Unlock()
			if len(broken) < 3 || broken[m.Subject.Digest.String()] {
				broken[m.Subject.Digest.String()] = true
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return true
			}
		}
		again := r.Clone(r.Context())
		again.Body = readCloser{body}
		f.server.Handler().ServeHTTP(w, again)
		return true
	})
	got := f.want(7, f.all([]string{"team/app", "team/web"}, append(f.chain(), "--jobs", "32", "-o", "json")...)...)
	results, sum := got.rechained(t)
	var failed []string
	for i, r := range results {
		if r.Kind == "error" {
			failed = append(failed, lines(got.out)[i])
			if len(r.Item) != 1 || !broken[r.Item[0][strings.Index(r.Item[0], "@")+1:]] {
				t.Errorf("failed: %v", r.Item)
			}
		}
	}
	if n := got.statuses(t)["written"]; n != 2*(artifacts-3) || len(failed) != 3 || sum.Failed != 3 || sum.ExitCode != 7 {
		t.Errorf("%d written, %d failed, %+v", n, len(failed), sum)
	}
	f.server.Intercept(nil)
	again := f.in(strings.NewReader(strings.Join(failed, "\n")), 0, append([]string{"rechain", "--batch", "-", "-o", "json"}, f.chain()...)...)
	if n := again.statuses(t)["written"]; n != 6 {
		t.Errorf("the failures again: %v", again.statuses(t))
	}
}

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

// TestRechainRequests: what --all asks of the registry for an artifact with two signatures, and how often one after the other.
func TestRechainRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	f.fill(1, "app")
	f.server.Reset()
	f.server.Latency(100 * time.Millisecond) // long enough that on a busy machine what is asked at once overlaps
	f.want(0, f.all([]string{"app"}, append(f.chain(), "-q")...)...)
	// Tags; the tag; the list; two signatures; their blobs and the configuration; their manifests; the list and both read back.
	if n, trips := f.server.Count(nil), f.server.RoundTrips(); n > 13 || trips > 7 {
		t.Errorf("%d requests, %d one after the other", n, trips)
	}
	f.server.Reset()
	f.want(0, f.all([]string{"app"}, append(f.chain(), "-q")...)...)
	if n, trips := f.server.Count(nil), f.server.RoundTrips(); n > 7 || trips > 4 {
		t.Errorf("nothing to do: %d requests, %d one after the other", n, trips)
	}
}

// TestK12TimestampRenewed: with --timestamp-url the chain and the countersignature are renewed in one step, and --replace is possible;
// a second run finds it done; a plan asks no authority.
func TestK12TimestampRenewed(t *testing.T) {
	t.Parallel()
	for _, replace := range []bool{false, true} {
		t.Run(fmt.Sprint("replace ", replace), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, regtest.WithAPI)
			d := f.artifact("app", "1")
			f.signed("app", d, "release", envelope.JWS, true)
			f.signed("app", d, "payments", envelope.COSE, false)
			url := f.tsa.Start()
			defer f.tsa.Stop()
			ref := f.server.Host + "/app:1"
			args := append([]string{"rechain", ref, "-o", "json", "--timestamp-url", url, "--timestamp-roots", f.path("tsa.pem"), "--allow-private"}, f.chain()...)
			want := 4
			if replace {
				without := f.want(3, append([]string{"rechain", ref, "--replace", "-o", "json", "--signed-by", "CN=release"}, f.chain()...)...)
				if r := without.reason(t); r != "would-break-timestamp" {
					t.Errorf("without --timestamp-url: %s", r)
				}
				args, want = append(args, "--replace"), 2
			}
			plan := f.want(0, append(args, "--dry-run")...)
			results, _ := plan.rechained(t)
			for _, p := range results[0].Signatures {
				if p.Status != "planned" || !p.NewTimestamp || p.New != "" {
					t.Errorf("plan %+v", p)
				}
			}
			if n := f.tsa.Requests(); n != 0 {
				t.Errorf("a plan asked the authority %d times", n)
			}
			f.want(0, args...)
			if n := f.tsa.Requests(); n != 2 {
				t.Errorf("%d requests for two signatures", n)
			}
			good := 0
			found := f.listed("app", d)
			for _, c := range found {
				if ok, _ := c.Passes(envelope.Always, time.Now().Add(24*time.Hour*30)); ok && c.Chain[1].Equal(f.new.Certificate) {
					if _, err := c.VerifyTimestamp(f.tsa.Roots()); err != nil {
						t.Error(err)
					}
					good++
				}
			}
			if len(found) != want || good != 2 {
				t.Errorf("%d signatures, %d of them renewed", len(found), good)
			}
			f.server.Reset()
			again := f.want(0, args...)
			if f.server.Writes() != 0 || f.tsa.Requests() != 2 {
				t.Errorf("again: %v, %d writes, %d requests to the authority", again.statuses(t), f.server.Writes(), f.tsa.Requests())
			}
		})
	}
}

// TestF35AuthorityDown: with --timestamp-url an authority that does not answer is an error, and nothing is written; never silently without.
func TestF35AuthorityDown(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, true)
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer down.Close()
	f.server.Reset()
	for _, what := range [][]string{{f.server.Host + "/app:1"}, {"--all", f.server.Host + "/app"}} {
		args := append(append([]string{"rechain"}, what...), "--replace", "--timestamp-url", down.URL, "--timestamp-roots", f.path("tsa.pem"), "--allow-private", "-o", "json")
		if r := f.run(append(args, f.chain()...)...); r.code == 0 || r.reason(t) != "tsa-unavailable" || what[0] != "--all" && r.code != 4 {
			t.Errorf("%v: exit %d\n%s", what, r.code, r.out)
		}
	}
	if n := f.server.Writes(); n != 0 {
		t.Errorf("%d writes", n)
	}
}

// TestRechainJudgedWithItsTimestamp: a policy that insists on timestamps judges what was countersigned, before it is written; its
// roots of authorities count where the command line names none.
func TestRechainJudgedWithItsTimestamp(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, false)
	policy := f.file("policy.yaml", "version: 1\nroots: {r: root.pem}\ntimestamps: {roots: [tsa.pem], use: always}\nscopes: {\"*\": [r]}\n")
	args := append([]string{"rechain", f.server.Host + "/app:1", "--policy", policy, "--replace", "-o", "json"}, f.chain()...)
	f.server.Reset()
	f.want(1, args...)
	if n := f.server.Writes(); n != 0 {
		t.Errorf("what the policy refuses was written: %d writes", n)
	}
	url := f.tsa.Start()
	defer f.tsa.Stop()
	args = append(args, "--timestamp-url", url, "--allow-private")
	f.want(0, append(args, "--dry-run")...)
	if got := f.want(0, args...).statuses(t); got["replaced"] != 1 {
		t.Errorf("%v", got)
	}
	f.want(0, "verify", f.server.Host+"/app:1", "--policy", policy)

	// An authority that the policy does not know: nothing is written.
	f.signed("app", d, "payments", envelope.JWS, false)
	other := tsatest.New(tsatest.Options{})
	defer other.Stop()
	f.server.Reset()
	got := f.want(1, append(args[:len(args)-3:len(args)-3], "--timestamp-url", other.Start(), "--allow-private", "--signed-by", "CN=payments",
		"--timestamp-roots", f.file("other.pem", string(certtest.PEM(other.Roots()...))))...)
	if n := f.server.Writes(); n != 0 {
		t.Errorf("%d writes: %s", n, got.out)
	}
}

// TestK24PolicyOnTheOldChain: what a policy accepts only with the old chain does not get another, and others go on.
func TestK24PolicyOnTheOldChain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	other := certtest.Root("Other Root", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(3000*24*time.Hour)))
	cross := other.IntermediateWith(f.old.Key, "Acme CA 3", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(2000*24*time.Hour)))
	pool := f.file("pool.pem", string(certtest.PEM(cross.Certificate, other.Certificate)))
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, false)
	ref := f.server.Host + "/app:1"
	for _, args := range [][]string{{"rechain", ref}, f.all([]string{"app"}), {"rechain", ref, "--dry-run"}} {
		f.server.Reset()
		got := f.want(1, append(args, "--chain", pool, "--root", f.path("root.pem"), "-o", "json")...)
		if r := got.reason(t); r != "no-trusted-signature" || f.server.Writes() != 0 {
			t.Errorf("%v: %s, %d writes", args, r, f.server.Writes())
		}
	}
}

// TestRechainAIA: issuers that were renewed are fetched from where certificates point, and a root that comes that way is not taken.
func TestRechainAIA(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	evil := certtest.RootWith(f.root.Key, "Acme Root", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(9000*24*time.Hour)))
	var asked atomic.Int64
	var serve atomic.Pointer[[]*x509.Certificate]
	serve.Store(&[]*x509.Certificate{f.new.Certificate})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(certtest.PEM(*serve.Load()...))
	}))
	defer s.Close()
	key := certtest.Key("P-256")
	f.signer["fetched"] = key
	f.leaf["fetched"] = f.old.Chain(f.old.Leaf(key.Public(), "fetched", certtest.Valid(time.Now().Add(-800*time.Hour), time.Now().Add(400*24*time.Hour)),
		func(c *x509.Certificate) { c.IssuingCertificateURL = []string{s.URL + "/ca.pem"} }))
	for i := range 3 {
		d := f.artifact("app", fmt.Sprint(i))
		f.signed("app", d, "fetched", envelope.JWS, false)
	}
	if got := f.want(0, f.all([]string{"app"}, "--aia", "-o", "json")...).statuses(t); got["unchanged"] != 3 || asked.Load() != 0 {
		t.Errorf("a private address was asked %d times: %v", asked.Load(), got)
	}
	if got := f.want(0, f.all([]string{"app"}, "--aia", "--allow-private", "-o", "json")...).statuses(t); got["written"] != 3 || asked.Load() != 1 {
		t.Errorf("%v; asked %d times", got, asked.Load())
	}
	serve.Store(&[]*x509.Certificate{f.new.Certificate, evil.Certificate})
	f.want(0, f.all([]string{"app"}, "--aia", "--allow-private", "--replace", "-q")...)
	for i := range 3 {
		d := f.artifact("app", fmt.Sprint(i))
		for _, c := range f.listed("app", d) {
			if !c.Chain.Root().Equal(f.root.Certificate) {
				t.Error("the chain ends at a root that was fetched")
			}
		}
	}
}

// TestRechainLargePool: a pool of a thousand leaves for other keys and hundreds for its own costs no signature its chain.
func TestRechainLargePool(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	f.fill(2, "app")
	pool := []*x509.Certificate{f.new.Certificate}
	stranger := certtest.Key("P-256").Public()
	for i := range 1000 {
		pool = append(pool, f.new.Leaf(stranger, fmt.Sprintf("other %d", i)))
	}
	longest := f.new.Leaf(f.signer["release"].Public(), "release", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(800*24*time.Hour)))
	for i := range 300 {
		pool = append(pool, f.new.Leaf(f.signer["release"].Public(), "release", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(time.Duration(500+i)*24*time.Hour-time.Minute))))
	}
	pool = append(pool, longest)
	got := f.want(0, f.all([]string{"app"}, "--chain", f.file("pool.pem", string(certtest.PEM(pool...))), "-o", "json")...)
	if s := got.statuses(t); s["written"] != 4 {
		t.Fatalf("%v", s)
	}
	taken := 0
	for i := range 2 {
		for _, c := range f.listed("app", f.artifact("app", fmt.Sprintf("v%d", i))) {
			if c.Chain.Leaf().Equal(longest) {
				taken++
			}
		}
	}
	if taken != 2 {
		t.Errorf("%d have the leaf that lasts longest", taken)
	}
	if s := f.want(0, f.all([]string{"app"}, "--chain", f.path("pool.pem"), "-o", "json")...).statuses(t); s["there"] != 4 || s["unchanged"] != 4 {
		t.Errorf("again: %v", s)
	}
}

// TestK16AllAtOnce and K17: two processes over the same repositories at once, with --replace, to the same chain and to different ones.
// Each artifact ends with just what each of them made of each signature, and never had fewer.
func TestK16AllAtOnce(t *testing.T) {
	t.Parallel()
	for name, different := range map[string]bool{"K16 the same chain": false, "K17 different chains": true} {
		for _, kind := range regtest.Kinds {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, kind)
				var subjects []ocispec.Descriptor
				for i := range 4 {
					d := f.artifact("app", fmt.Sprint(i))
					f.signed("app", d, "release", envelope.JWS, false)
					f.signed("app", d, "payments", envelope.COSE, false)
					subjects = append(subjects, d)
				}
				other := f.root.IntermediateWith(f.old.Key, "Acme CA 3", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(700*24*time.Hour)))
				chains := []string{f.path("new.pem"), f.path("new.pem")}
				if different {
					chains[1] = f.file("other.pem", string(certtest.PEM(other.Certificate)))
				}
				// Nobody writes before both have read everything.
				var read atomic.Int64
				both := make(chan struct{})
				f.server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
					theirs := r.UserAgent() != lookout
					if theirs && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/sha256:") && read.Add(1) == 16 {
						close(both)
					}
					if r.Method != http.MethodGet && r.Method != http.MethodHead {
						select {
						case <-both:
						case <-time.After(10 * time.Second):
						}
					}
					return false
				})
				var wg sync.WaitGroup
				var wrong atomic.Int64
				for _, chain := range chains {
					w := *f.world
					wg.Go(func() {
						if got := w.run(f.all([]string{"app"}, "--chain", chain, "--replace", "--jobs", "16", "-o", "json")...); got.code != 0 {
							t.Errorf("exit %d: %s", got.code, got.err)
						}
					})
				}
				done := make(chan struct{})
				go func() { wg.Wait(); close(done) }()
				for looking := true; looking; {
					select {
					case <-done:
						looking = false
					default:
					}
					if n := f.verifying("app", subjects[0]); n < 2 && f.verifying("app", subjects[0]) < 2 && f.verifying("app", subjects[0]) < 2 {
						wrong.Add(1)
					}
				}
				if wrong.Load() > 0 {
					t.Errorf("at %d moments a signature was missing", wrong.Load())
				}
				f.server.Intercept(nil)
				want := map[bool]int{false: 2, true: 4}[different]
				for _, d := range subjects {
					found := f.listed("app", d)
					for _, c := range found {
						if c.Chain[1].Equal(f.old.Certificate) {
							t.Error("an old one is left")
						}
					}
					if len(found) != want {
						t.Errorf("%d signatures, want %d", len(found), want)
					}
				}
			})
		}
	}
}

// verifying counts the signers of whom a listed signature verifies now. What is listed and gone when it is read is none.
func (f *fleet) verifying(path string, subject ocispec.Descriptor) int {
	sigs, err := f.repo(path).Signatures(f.t.Context(), subject)
	if err != nil {
		return 0
	}
	who := map[string]bool{}
	for _, sig := range sigs {
		if sig.Err != nil {
			continue
		}
		if e, err := envelope.Parse(sig.MediaType, sig.Envelope); err == nil {
			if c, err := e.Verify(); err == nil && c.Chain.Check(time.Now()) == nil {
				who[c.Chain.Leaf().Subject.CommonName] = true
			}
		}
	}
	return len(who)
}

// TestK19OldLeftSaidOnce: a registry that does not delete leaves the old ones, of however many, exit 0, and that is said once.
func TestK19OldLeftSaidOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	for i := range 5 {
		f.signed("app", f.artifact("app", fmt.Sprint(i)), "release", envelope.JWS, false)
	}
	f.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		return false
	})
	got := f.want(0, f.all([]string{"app"}, append(f.chain(), "--replace", "-o", "json")...)...)
	if s := got.statuses(t); s["old-left"] != 5 || strings.Count(got.err, "imprint: warning: ") != 1 || !strings.Contains(got.err, "5 old signatures") {
		t.Errorf("%v\n%s", s, got.err)
	}
}

// TestRechainLegacyAndLayouts: the form in which released versions of notation write signatures is kept, in registries and layouts.
func TestRechainLegacyAndLayouts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	renewing(w)
	w.image("lay", "one", "1.0")
	w.image("lay", "two", "2.0")
	lay := "oci:" + w.path("lay")
	w.want(0, w.sign(lay+":1.0")...)
	w.want(0, w.sign(lay+":2.0")...)
	s := regtest.New(t, regtest.WithAPI)
	for _, tag := range []string{"1.0", "2.0"} {
		w.want(0, "copy", lay+":"+tag, s.Host+"/app:"+tag)
	}
	for _, where := range []string{lay, s.Host + "/app"} {
		got := w.want(0, "rechain", "--all", where, "--chain", w.path("new.pem"), "-o", "json")
		if n := got.statuses(t)["written"]; n != 2 {
			t.Errorf("%s: %s", where, got.out)
		}
		for _, tag := range []string{"1.0", "2.0"} {
			w.want(0, "verify", where+":"+tag, "--root", w.path("root.pem"))
		}
		again := w.want(0, "rechain", "--all", where, "--chain", w.path("new.pem"), "-o", "json").statuses(t)
		if again["there"] != 2 || again["unchanged"] != 2 {
			t.Errorf("%s again: %v", where, again)
		}
	}
}
