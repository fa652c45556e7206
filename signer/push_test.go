package signer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A rechaining is an artifact with a signature to rechain, which can be put into any number of places.
type rechaining struct {
	pki
	subject registry.Manifest
}

func newRechaining(t testing.TB) rechaining {
	t.Helper()
	r := rechaining{pki: newPKI(t)}
	p := remote(t, regtest.New(t, regtest.WithAPI))
	r.subject = p.image(t, "app", "1.0")
	p.sign(t, r.subject, r.id, Options{Tag: "1.0"})
	r.sig = p.only(t, r.subject)
	return r
}

// put pushes artifact and signature, the same bytes each time.
func (r rechaining) put(t testing.TB, p place) {
	t.Helper()
	if got := p.image(t, "app", "1.0"); got.Descriptor.Digest != r.subject.Descriptor.Digest {
		t.Fatalf("the image is %s this time", got.Descriptor.Digest)
	}
	must(t, p.PushSignature(t.Context(), r.subject.Descriptor, r.sig.Manifest, r.sig.Envelope))
}

// run rechains all signatures of the artifact as the command does: list, plan, push.
func (r rechaining) run(ctx context.Context, repo *registry.Repo, given []*x509.Certificate, o RechainOptions) ([]Plan, error) {
	sigs, err := repo.Signatures(ctx, r.subject.Descriptor)
	if err != nil {
		return nil, err
	}
	o.Now = r.now
	o.Siblings = Among(sigs)
	var plans []Plan
	for _, sig := range sigs {
		p, err := PlanRechain(sig, NewPool(given), o)
		if err != nil {
			return plans, err
		}
		plans = append(plans, p)
	}
	return Push(ctx, repo, plans)
}

func (r rechaining) mustRun(t testing.TB, p place, given []*x509.Certificate, o RechainOptions) []Plan {
	t.Helper()
	plans, err := r.run(t.Context(), p.Repo, given, o)
	must(t, err)
	return plans
}

func statuses(plans []Plan) (list []string) {
	for _, p := range plans {
		list = append(list, p.Status)
	}
	return list
}

func TestRechainBeside(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	inEachPlace(t, func(t *testing.T, p place) {
		r.put(t, p)
		first := r.mustRun(t, p, given, RechainOptions{})
		if len(first) != 1 || first[0].Status != StatusWritten {
			t.Fatalf("first run: %+v", first)
		}
		found := p.found(t, r.subject)
		if len(found) != 2 {
			t.Fatalf("%d signatures", len(found))
		}
		carried(t, found[r.sig.Descriptor.Digest], found[first[0].New])
		if !found[first[0].New].Supersedes(found[r.sig.Descriptor.Digest]) {
			t.Error("the new one does not supersede the old one")
		}
		second := r.mustRun(t, p, given, RechainOptions{})
		byDigest := map[digest.Digest]string{}
		for _, plan := range second {
			byDigest[plan.Signature] = plan.Status
		}
		want := map[digest.Digest]string{r.sig.Descriptor.Digest: StatusThere, first[0].New: StatusUnchanged}
		if diff := cmp.Diff(want, byDigest); diff != "" {
			t.Errorf("second run (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(digests(found), digests(p.found(t, r.subject))); diff != "" {
			t.Errorf("second run changed the list:\n%s", diff)
		}
		replaced := r.mustRun(t, p, given, RechainOptions{Replace: true})
		if diff := cmp.Diff([]digest.Digest{first[0].New}, digests(p.found(t, r.subject))); diff != "" {
			t.Errorf("with --replace afterwards, %v:\n%s", statuses(replaced), diff)
		}
	})
}

func TestRechainReplace(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	inEachPlace(t, func(t *testing.T, p place) {
		r.put(t, p)
		first := r.mustRun(t, p, given, RechainOptions{Replace: true})
		if len(first) != 1 || first[0].Status != StatusReplaced || len(first[0].Warnings) != 0 {
			t.Fatalf("first run: %+v", first)
		}
		found := p.found(t, r.subject)
		if diff := cmp.Diff([]digest.Digest{first[0].New}, digests(found)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		carried(t, content(t, r.sig), found[first[0].New])
		if has, err := p.HasManifest(t.Context(), r.sig.Descriptor); err != nil || has {
			t.Errorf("the old manifest is there: %v, %v", has, err)
		}
		if second := r.mustRun(t, p, given, RechainOptions{Replace: true}); len(second) != 1 || second[0].Status != StatusUnchanged {
			t.Errorf("second run: %v", statuses(second))
		}
	})
}

// Nothing that is refused or unchanged writes, or asks the registry at all.
func TestPushOfNothing(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	p := remote(t, regtest.New(t, regtest.WithAPI))
	for name, given := range map[string][]*x509.Certificate{"unchanged": r.id.chain, "refused": newIdentity("other").chain} {
		plan, _ := r.plan(given, RechainOptions{Replace: true})
		after, err := plan.Push(t.Context(), p.Repo)
		if err != nil || after.Status != plan.Status || p.server.Count(nil) != 0 {
			t.Errorf("%s: %s, %v, %d requests", name, after.Status, err, p.server.Count(nil))
		}
	}
}

func TestPushRequests(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	p := remote(t, regtest.New(t, regtest.WithAPI))
	r.put(t, p)
	plan, err := r.plan([]*x509.Certificate{r.renewed.Certificate}, RechainOptions{Replace: true})
	must(t, err)
	p.server.Reset()
	_, err = plan.Push(t.Context(), p.Repo)
	must(t, err)
	// The list; two blobs, the manifest; list and manifest read back; the deletion; the list.
	if n := p.server.Count(nil); n > 8 {
		for _, q := range p.server.Requests() {
			t.Logf("%s %s", q.Method, q.Path)
		}
		t.Errorf("%d requests", n)
	}
}

// valid counts the listed signatures that verify and whose chain is valid now, seen by a client of its own. What is
// listed and not there does not count.
func (r rechaining) valid(t testing.TB, s *regtest.Server) (valid int, listed []digest.Digest, ghosts int) {
	t.Helper()
	sigs, err := remote(t, s).Signatures(t.Context(), r.subject.Descriptor)
	must(t, err)
	all := map[digest.Digest]bool{}
	for _, sig := range sigs {
		all[sig.Descriptor.Digest] = true
		if sig.Err != nil {
			ghosts++
			continue
		}
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		must(t, err)
		if c, err := e.Verify(); err == nil && c.Chain.Check(r.now) == nil {
			valid++
		}
	}
	return valid, digests(all), ghosts
}

// killAt runs f, and kills it at the n-th request: the context ends as soon as the connection is cut, so that no
// retry blurs the boundary. It returns false if f ended before.
func killAt(t testing.TB, s *regtest.Server, n int, delivered bool, f func(ctx context.Context) error) (killed bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Reset()
	s.CutAt(n, delivered)
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	for {
		select {
		case err := <-done:
			s.CutAt(0, false)
			if err == nil && s.Count(nil) >= n {
				t.Fatalf("cut at request %d, and no error", n)
			}
			return err != nil
		case <-time.After(time.Millisecond):
			if requests := s.Requests(); len(requests) >= n && !requests[n-1].End.IsZero() {
				cancel()
			}
		}
	}
}

// K18: killed at each request boundary, before the registry acts on the request and after, with and without --replace.
func TestK18KilledAtEachRequest(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	for _, kind := range regtest.Kinds {
		for _, replace := range []bool{false, true} {
			o := RechainOptions{Replace: replace}
			undisturbed := regtest.New(t, kind)
			r.put(t, remote(t, undisturbed))
			r.mustRun(t, remote(t, undisturbed), given, o)
			_, want, _ := r.valid(t, undisturbed)
			for _, delivered := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/replace=%v/delivered=%v", kind, replace, delivered), func(t *testing.T) {
					t.Parallel()
					points := 0
					for n := 1; ; n++ {
						s := regtest.New(t, kind)
						r.put(t, remote(t, s))
						p := remote(t, s)
						killed := killAt(t, s, n, delivered, func(ctx context.Context) error {
							_, err := r.run(ctx, p.Repo, given, o)
							return err
						})
						if valid, _, _ := r.valid(t, s); valid < 1 {
							t.Errorf("killed at request %d: no verifying signature is listed", n)
						}
						if !killed {
							break
						}
						points++
						if _, err := r.run(t.Context(), remote(t, s).Repo, given, o); err != nil {
							t.Errorf("killed at request %d: the second run: %v", n, err)
							continue
						}
						_, got, ghosts := r.valid(t, s)
						if diff := cmp.Diff(want, got); diff != "" || ghosts > 0 {
							t.Errorf("killed at request %d: %d ghosts; listed after the second run (-want +got):\n%s", n, ghosts, diff)
						}
					}
					if points < 7 {
						t.Errorf("only %d points were tried", points)
					}
				})
			}
		}
	}
}

// K18 with --replace and --timestamp-url: the old signature is countersigned, so that nothing but a new countersignature lets the new
// one take its place. Killed at each request boundary, there is a signature that verifies, and the second run ends with the one.
func TestK18KilledWithTimestamps(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	tsa := tsatest.New(tsatest.Options{})
	url := tsa.Start()
	t.Cleanup(tsa.Stop)
	e, err := envelope.Parse(r.sig.MediaType, r.sig.Envelope)
	must(t, err)
	e, err = e.WithTimestamp(tsa.Token(e.Unverified().Signature, r.now.Add(-30*time.Minute)))
	must(t, err)
	r.sig.Manifest = registry.ByArtifactType.Manifest(r.subject.Descriptor, r.sig.MediaType, e.Bytes(), r.sig.Annotations)
	r.sig.Descriptor, r.sig.Envelope = r.sig.Manifest.Descriptor, e.Bytes()
	late := r.id.root.IntermediateWith(r.id.ca.Key, "ca", certtest.Valid(r.now.Add(-time.Minute), r.now.Add(days(900))))
	given := []*x509.Certificate{late.Certificate}
	run := func(ctx context.Context, repo *registry.Repo) error {
		s := &Stamper{URLs: []string{url}, Roots: tsa.Roots(), Client: http.DefaultClient, Clock: time.Now}
		sigs, err := repo.Signatures(ctx, r.subject.Descriptor)
		if err != nil {
			return err
		}
		var plans []Plan
		for _, sig := range sigs {
			p, err := PlanRechain(sig, NewPool(given), RechainOptions{Now: time.Now(), Replace: true, Siblings: Among(sigs), Stamper: s})
			if err != nil {
				return err
			}
			plans = append(plans, p)
		}
		if plans, err = Stamp(ctx, plans, s); err != nil {
			return err
		}
		_, err = Push(ctx, repo, plans)
		return err
	}
	for _, kind := range regtest.Kinds {
		for _, delivered := range []bool{false, true} {
			if kind == regtest.WithoutAPI && !delivered {
				continue // what is not delivered there TestK18KilledAtEachRequest has
			}
			t.Run(fmt.Sprintf("%s/delivered=%v", kind, delivered), func(t *testing.T) {
				t.Parallel()
				at := func(n int) (killed bool) {
					s := regtest.New(t, kind)
					r.put(t, remote(t, s))
					killed = killAt(t, s, n, delivered, func(ctx context.Context) error { return run(ctx, remote(t, s).Repo) })
					if valid, _, _ := r.valid(t, s); valid < 1 {
						t.Errorf("killed at request %d: no verifying signature is listed", n)
					}
					if err := run(t.Context(), remote(t, s).Repo); err != nil {
						t.Errorf("killed at request %d: the second run: %v", n, err)
						return killed
					}
					found := remote(t, s).found(t, r.subject)
					for d, c := range found {
						if _, err := StampOf(c, tsa.Roots()); err != nil || !c.Chain[1].Equal(late.Certificate) {
							t.Errorf("killed at request %d: %s is left: %v", n, d, err)
						}
					}
					if len(found) != 1 {
						t.Errorf("killed at request %d: %d signatures are left", n, len(found))
					}
					return killed
				}
				const together = 8 // what waits most waits for the registry's list to settle
				var points atomic.Int64
				for first := 1; first < 100; first += together {
					var through atomic.Bool
					var wg sync.WaitGroup
					for n := first; n < first+together; n++ {
						wg.Go(func() {
							if !at(n) {
								through.Store(true)
								return
							}
							points.Add(1)
						})
					}
					wg.Wait()
					if through.Load() || t.Failed() {
						break
					}
				}
				if points.Load() < 8 {
					t.Errorf("only %d points were tried", points.Load())
				}
			})
		}
	}
}

// atOnce runs each f in its own client and watches that a verifying signature is listed at every moment.
func (r rechaining) atOnce(t *testing.T, s *regtest.Server, runs ...func(p place) error) {
	t.Helper()
	var wg sync.WaitGroup
	var over atomic.Bool
	var looks, none atomic.Int64
	watcher := make(chan struct{})
	go func() {
		defer close(watcher)
		for !over.Load() {
			// A look is two requests. What was listed by the first and is gone by the second makes it a look at no
			// one moment, and another is taken.
			valid, _, ghosts := r.valid(t, s)
			for i := 0; valid < 1 && ghosts > 0 && i < 3; i++ {
				valid, _, ghosts = r.valid(t, s)
			}
			if valid < 1 {
				none.Add(1)
			}
			looks.Add(1)
		}
	}()
	for _, f := range runs {
		p := remote(t, s)
		wg.Go(func() {
			if err := f(p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	over.Store(true)
	<-watcher
	if none.Load() > 0 || looks.Load() == 0 {
		t.Errorf("%d of %d looks found no verifying signature", none.Load(), looks.Load())
	}
}

func TestK16TwoMachinesSameChain(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	for _, kind := range regtest.Kinds {
		for _, replace := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/replace=%v", kind, replace), func(t *testing.T) {
				t.Parallel()
				s := regtest.New(t, kind)
				r.put(t, remote(t, s))
				run := func(p place) error {
					_, err := r.run(t.Context(), p.Repo, given, RechainOptions{Replace: replace})
					return err
				}
				r.atOnce(t, s, run, run)
				want := 2
				if replace {
					want = 1
				}
				if valid, listed, ghosts := r.valid(t, s); valid != want || len(listed) != want || ghosts != 0 {
					t.Errorf("%d valid of %v, %d ghosts; want %d", valid, listed, ghosts, want)
				}
			})
		}
	}
}

// Another machine replaces the signature between our listing it and our reading it: it is no ghost, and the new one is found. One
// that stays listed is a ghost.
func TestK16ReplacedWhileReading(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			r.put(t, remote(t, s))
			_, listed, _ := r.valid(t, s)
			var other atomic.Bool
			s.Intercept(func(_ http.ResponseWriter, q *http.Request) bool {
				if q.Method == http.MethodGet && strings.HasSuffix(q.URL.Path, "/manifests/"+listed[0].String()) && other.CompareAndSwap(false, true) {
					if _, err := r.run(t.Context(), remote(t, s).Repo, given, RechainOptions{Replace: true}); err != nil {
						t.Errorf("the other machine: %v", err)
					}
				}
				return false
			})
			plans, err := r.run(t.Context(), remote(t, s).Repo, given, RechainOptions{Replace: true})
			if err != nil || !slices.Equal(statuses(plans), []string{StatusUnchanged}) || !other.Load() {
				t.Errorf("%q, %v", statuses(plans), err)
			}

			_, listed, _ = r.valid(t, s)
			s.Intercept(status(404, http.MethodGet, "/manifests/"+listed[0].String()))
			sigs, err := remote(t, s).Signatures(t.Context(), r.subject.Descriptor)
			if err != nil || len(sigs) != 1 || !errors.Is(sigs[0].Err, registry.ErrNotFound) {
				t.Errorf("a ghost: %+v, %v", sigs, err)
			}
		})
	}
}

func TestK17TwoMachinesDifferentChains(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	other := r.id.root.IntermediateWith(r.id.ca.Key, "ca", certtest.Valid(r.now.Add(-time.Hour), r.now.Add(days(400))))
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			r.put(t, remote(t, s))
			var mu sync.Mutex
			news := map[digest.Digest]bool{}
			run := func(given *x509.Certificate) func(p place) error {
				// Planned from what both have read before either writes.
				plan, err := r.plan([]*x509.Certificate{given}, RechainOptions{Replace: true})
				must(t, err)
				return func(p place) error {
					after, err := plan.Push(t.Context(), p.Repo)
					mu.Lock()
					defer mu.Unlock()
					news[after.New] = true
					return err
				}
			}
			r.atOnce(t, s, run(r.renewed.Certificate), run(other.Certificate))
			valid, listed, ghosts := r.valid(t, s)
			if diff := cmp.Diff(digests(news), listed); diff != "" || valid != 2 || ghosts != 0 {
				t.Errorf("%d valid, %d ghosts (-want +got):\n%s", valid, ghosts, diff)
			}
		})
	}
}

func TestK19OldCannotBeDeleted(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	for _, kind := range regtest.Kinds {
		for name, answer := range map[string]struct {
			code int
			body string
		}{
			"405":                   {405, `{"errors":[{"code":"UNSUPPORTED"}]}`},
			"403":                   {403, `{"errors":[{"code":"DENIED"}]}`},
			"400 referenced (ECR)":  {400, `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest is referenced by an index"}]}`},
			"409 referenced":        {409, `{"errors":[{"code":"DENIED","message":"referenced by a parent manifest"}]}`},
			"405 without any reply": {405, ``},
			"422 of its own":        {422, `{"errors":[{"code":"RETENTION","message":"kept by policy"}]}`},
		} {
			t.Run(string(kind)+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := regtest.New(t, kind)
				r.put(t, remote(t, s))
				s.Intercept(func(w http.ResponseWriter, q *http.Request) bool {
					if q.Method != http.MethodDelete || !strings.Contains(q.URL.Path, "/manifests/") {
						return false
					}
					w.WriteHeader(answer.code)
					_, _ = w.Write([]byte(answer.body))
					return true
				})
				for i := range 2 {
					for _, plan := range r.mustRun(t, remote(t, s), given, RechainOptions{Replace: true}) {
						if plan.Status == StatusUnchanged {
							continue
						}
						if plan.Status != StatusOldLeft || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], r.sig.Descriptor.Digest.String()) {
							t.Errorf("run %d: %s, warnings %q", i, plan.Status, plan.Warnings)
						}
						if valid, _, ghosts := r.valid(t, s); valid < 1 || ghosts > 0 {
							t.Errorf("run %d: %d valid, %d ghosts", i, valid, ghosts)
						}
					}
				}
			})
		}
	}
}

// stale answers GETs whose path contains part with what was answered before the push, the given number of times.
func stale(t testing.TB, s *regtest.Server, part string, times int64) {
	t.Helper()
	var left atomic.Int64
	left.Store(times)
	var mu sync.Mutex
	old := map[string]*httptest.ResponseRecorder{}
	s.Intercept(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != http.MethodGet || !strings.Contains(q.URL.Path, part) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		was := old[q.URL.Path]
		if was == nil {
			was = httptest.NewRecorder()
			s.Handler().ServeHTTP(was, q)
			old[q.URL.Path] = was
		} else if left.Add(-1) < 0 {
			return false
		}
		for k, v := range was.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(was.Code)
		_, _ = w.Write(was.Body.Bytes())
		return true
	})
}

// K26: a registry that goes on listing what was there before. The old one goes only once the new one is seen.
func TestK26StaleReadBack(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	for name, c := range map[string]struct {
		part    string
		times   int64
		settles bool
	}{
		"listed after a while": {"/referrers/", 3, true},
		"never listed":         {"/referrers/", 1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			r.put(t, remote(t, s))
			p := remote(t, s)
			plan, err := r.plan(given, RechainOptions{Replace: true})
			must(t, err)
			var waits []time.Duration
			plan.pause = func(_ context.Context, d time.Duration) error {
				waits = append(waits, d)
				return nil
			}
			stale(t, s, c.part, c.times)
			r.valid(t, s) // what everybody sees from now on
			after, err := plan.Push(t.Context(), p.Repo)
			deletions := s.Count(func(q regtest.Request) bool { return q.Method == http.MethodDelete })
			if c.settles {
				must(t, err)
				if after.Status != StatusReplaced || len(waits) != 3 || waits[1] != 2*waits[0] || deletions != 1 {
					t.Errorf("%s after waiting %v, %d deletions", after.Status, waits, deletions)
				}
				return
			}
			wantReason(t, err, "referrers-unsettled", registry.ErrUnsettled)
			if after.Status != StatusPlanned || deletions != 0 || len(waits) != readBacks-1 {
				t.Errorf("%s after waiting %v, %d deletions", after.Status, waits, deletions)
			}
			s.Intercept(nil)
			if valid, _, _ := r.valid(t, s); valid != 2 {
				t.Errorf("%d valid signatures", valid)
			}
			if plans := r.mustRun(t, p, given, RechainOptions{Replace: true}); len(plans) != 2 {
				t.Errorf("second run: %v", statuses(plans))
			}
			if valid, listed, _ := r.valid(t, s); valid != 1 || listed[0] != plan.New {
				t.Errorf("after the second run: %v", listed)
			}
		})
	}
}

// K26: the new manifest is listed, and what comes back for it is absent or something else.
func TestK26OtherBytesReadBack(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	for name, answer := range map[string]func(http.ResponseWriter){
		"absent":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"the old": func(w http.ResponseWriter) { _, _ = w.Write(r.sig.Manifest.Bytes) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			r.put(t, remote(t, s))
			plan, err := r.plan([]*x509.Certificate{r.renewed.Certificate}, RechainOptions{Replace: true})
			must(t, err)
			plan.pause = func(context.Context, time.Duration) error { return nil }
			s.Intercept(func(w http.ResponseWriter, q *http.Request) bool {
				if q.Method != http.MethodGet || !strings.HasSuffix(q.URL.Path, plan.New.String()) {
					return false
				}
				w.Header().Set("Content-Type", r.sig.Manifest.Descriptor.MediaType)
				answer(w)
				return true
			})
			after, err := plan.Push(t.Context(), remote(t, s).Repo)
			wantReason(t, err, "referrers-unsettled", registry.ErrUnsettled)
			if after.Status != StatusPlanned || s.Count(func(q regtest.Request) bool { return q.Method == http.MethodDelete }) != 0 {
				t.Errorf("status %s", after.Status)
			}
		})
	}
}

func TestPushEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	s := regtest.New(t, regtest.WithAPI)
	r.put(t, remote(t, s))
	plan, err := r.plan([]*x509.Certificate{r.renewed.Certificate}, RechainOptions{Replace: true})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	stale(t, s, "/referrers/", 1000)
	r.valid(t, s)
	time.AfterFunc(300*time.Millisecond, cancel)
	begin := time.Now()
	if _, err := plan.Push(ctx, remote(t, s).Repo); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

// The whole way of a signature with an unsigned member that nobody knows: signed bytes and member arrive as they were.
func TestRechainCarriesVerbatim(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	inEachPlace(t, func(t *testing.T, p place) {
		subject := p.image(t, "app", "1.0")
		jose := editHeader(t, r.sig, func(h map[string]json.RawMessage) { h["com.example.note"] = json.RawMessage(`[1,2.50]`) })
		jose.Manifest = registry.ByArtifactType.Manifest(subject.Descriptor, jose.MediaType, jose.Envelope, map[string]string{"com.example.kept": "yes"})
		must(t, p.PushSignature(t.Context(), subject.Descriptor, jose.Manifest, jose.Envelope))
		plan := r.mustRun(t, p, []*x509.Certificate{r.renewed.Certificate}, RechainOptions{Replace: true})[0]
		sig := p.only(t, subject)
		carried(t, content(t, jose), content(t, sig))
		var old, fresh map[string]json.RawMessage
		must(t, json.Unmarshal(jose.Envelope, &old))
		must(t, json.Unmarshal(sig.Envelope, &fresh))
		for _, member := range []string{"payload", "protected", "signature"} {
			if !bytes.Equal(old[member], fresh[member]) {
				t.Errorf("%s changed", member)
			}
		}
		if !bytes.Contains(fresh["header"], []byte(`"com.example.note":[1,2.50]`)) || sig.Annotations["com.example.kept"] != "yes" || sig.Descriptor.Digest != plan.New {
			t.Errorf("header %.300s, annotations %v", fresh["header"], sig.Annotations)
		}
	})
}
