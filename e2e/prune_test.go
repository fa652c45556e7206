package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A ripe artifact has a signature three times: with the chain of its making, which ends in a month, and with two renewals.
type ripe struct {
	artifact artifact
	roots    []*x509.Certificate
	old      registry.Signature
	middle   registry.Signature
	fresh    registry.Signature
	renewal  *x509.Certificate // one more intermediate, which lasts longest
}

var ripeOnce = sync.OnceValue(func() ripe {
	now := time.Now()
	until := func(days int) certtest.Edit {
		return certtest.Valid(now.Add(-time.Hour), now.Add(time.Duration(days)*aDay))
	}
	key, root := certtest.Key("P-256"), certtest.Root("ripe root", until(4000))
	ca := root.Intermediate("ripe CA", until(30))
	leaf := ca.Leaf(key.Public(), "ripe", until(3000))
	r := ripe{artifact: image("ripe"), roots: []*x509.Certificate{root.Certificate}}
	e, err := envelope.Parse(jwsType, newJWS(key, ca.Chain(leaf), r.artifact.descriptor).bytes())
	if err != nil {
		panic(err)
	}
	renewed := func(days int) *certtest.Authority { return root.IntermediateWith(ca.Key, "ripe CA", until(days)) }
	with := func(chain []*x509.Certificate) registry.Signature {
		e, err := e.WithChain(chain)
		if err != nil {
			panic(err)
		}
		m := registry.ByArtifactType.Manifest(r.artifact.descriptor, jwsType, e.Bytes(), nil)
		return registry.Signature{Subject: r.artifact.descriptor, Descriptor: m.Descriptor, Manifest: m, MediaType: jwsType, Envelope: e.Bytes()}
	}
	r.old, r.middle, r.fresh = with(ca.Chain(leaf)), with(renewed(400).Chain(leaf)), with(renewed(800).Chain(leaf))
	r.renewal = renewed(900).Certificate
	return r
})

// ripen puts the artifact and signatures into a repository, as some client of its own does, and returns the reference.
func (r ripe) ripen(t testing.TB, repo string, sigs ...registry.Signature) string {
	t.Helper()
	ref := pushed(t, r.artifact, repo, "v1")
	to := openRepo(t, repo)
	var manifests []registry.Manifest
	for _, sig := range sigs {
		for _, b := range [][]byte{ocispec.DescriptorEmptyJSON.Data, sig.Envelope} {
			if err := to.PushBytes(t.Context(), describe("application/octet-stream", b), b); err != nil {
				t.Fatal(err)
			}
		}
		manifests = append(manifests, sig.Manifest)
	}
	if err := to.Attach(t.Context(), r.artifact.descriptor, manifests...); err != nil {
		t.Fatal(err)
	}
	return ref
}

func openRepo(t testing.TB, repo string) *registry.Repo {
	t.Helper()
	ref, err := registry.ParseReference(repo)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	to, err := c.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// wantListed wants notation to list these signatures and no others, and to accept the artifact.
func (r ripe) wantListed(t testing.TB, ref, when string, want ...registry.Signature) {
	t.Helper()
	got, err := judge.Signatures(t.Context(), ref)
	if err != nil {
		t.Errorf("%s: %v", when, err)
	}
	var digests []digest.Digest
	for _, sig := range want {
		digests = append(digests, sig.Descriptor.Digest)
	}
	slices.Sort(got)
	slices.Sort(digests)
	if !slices.Equal(got, digests) {
		t.Errorf("%s: notation lists %v, want %v", when, got, digests)
	}
	if err := judge.Verify(t.Context(), ref, r.roots...); err != nil {
		t.Errorf("%s: notation: %v", when, err)
	}
}

func reasonsOf(t testing.TB, o outcome) string {
	t.Helper()
	var r struct {
		Signatures []struct {
			Status, Reason string
		}
	}
	line, _, _ := strings.Cut(o.stdout, "\n")
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v: %s%s", err, o.stdout, o.stderr)
	}
	var out []string
	for _, s := range r.Signatures {
		out = append(out, s.Status+" "+s.Reason)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestPrune: planned, then done, then put back with oras-go from what the JSON holds.
func TestPrune(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, kind)
			repo := server.Host + "/ripe"
			ref := r.ripen(t, repo, r.old, r.middle, r.fresh)
			p := newPerson(t)
			server.Reset()
			plan := p.want(t, 0, "", "prune", ref)
			text := p.run(t, "prune", ref)
			if dry := p.run(t, "prune", ref, "--yes", "--dry-run"); dry.code != 0 || dry.stdout != text.stdout {
				t.Errorf("--yes --dry-run: exit code %d: %s%s", dry.code, dry.stdout, dry.stderr)
			}
			if server.Writes() != 0 {
				t.Errorf("a plan wrote %d times", server.Writes())
			}
			if got, want := reasonsOf(t, plan), "goes superseded, goes superseded, stays newest"; got != want {
				t.Errorf("plan %s, want %s", got, want)
			}
			if !strings.Contains(text.stdout, "Nothing was written.") || !strings.Contains(text.stdout, "trust one of these itself") || !strings.Contains(text.stdout, "CN=ripe CA") {
				t.Errorf("%s", text.stdout)
			}
			r.wantListed(t, ref, "planned", r.old, r.middle, r.fresh)

			// During: before each deletion, and after it, notation accepts.
			var deletions atomic.Int64
			server.Intercept(func(_ http.ResponseWriter, q *http.Request) bool {
				if q.Method == http.MethodDelete && deletions.Add(1) > 0 {
					if err := judge.Verify(t.Context(), ref, r.roots...); err != nil {
						t.Errorf("before a deletion: %v", err)
					}
				}
				return false
			})
			done := p.want(t, 0, "", "prune", ref, "--yes")
			server.Intercept(nil)
			if deletions.Load() != 2 || reasonsOf(t, done) != "deleted superseded, deleted superseded, stays newest" {
				t.Errorf("%d deletions: %s%s", deletions.Load(), done.stdout, done.stderr)
			}
			r.wantListed(t, ref, "pruned", r.fresh)
			if again := p.want(t, 0, "", "prune", ref, "--yes"); reasonsOf(t, again) != "stays newest" {
				t.Errorf("the second run: %s", again.stdout)
			}
			putBack(t, repo, done)
			r.wantListed(t, ref, "put back", r.old, r.middle, r.fresh)
		})
	}
}

// putBack pushes what a run has deleted as its JSON has it, with oras-go alone.
func putBack(t testing.TB, repo string, o outcome) {
	t.Helper()
	var run struct {
		Deleted []struct {
			Signature      digest.Digest
			MediaType      string
			Manifest       []byte
			EnvelopeType   string
			Envelope       []byte
			EnvelopeDigest digest.Digest
		}
	}
	if err := json.Unmarshal([]byte(o.stdout), &run); err != nil || len(run.Deleted) != 2 {
		t.Fatalf("%d deleted, %v", len(run.Deleted), err)
	}
	to, err := remote.NewRepository(repo)
	if err != nil {
		t.Fatal(err)
	}
	to.PlainHTTP = true
	for _, d := range run.Deleted {
		if digest.FromBytes(d.Manifest) != d.Signature || digest.FromBytes(d.Envelope) != d.EnvelopeDigest {
			t.Fatalf("%s: other bytes", d.Signature)
		}
		for _, b := range [][]byte{d.Envelope, []byte("{}")} {
			if err := to.Blobs().Push(t.Context(), describe("application/octet-stream", b), bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
		}
		if err := to.Manifests().Push(t.Context(), describe(d.MediaType, d.Manifest), bytes.NewReader(d.Manifest)); err != nil {
			t.Fatal(err)
		}
	}
}

// K18 for prune: killed at each request boundary, the request delivered or not, notation accepts, and the next run ends as an undisturbed one.
func TestK18PruneKilled(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	for _, kind := range []regtest.Kind{regtest.WithAPI, regtest.WithoutAPI} {
		for _, delivered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s delivered=%t", kind, delivered), func(t *testing.T) {
				t.Parallel()
				const most = 18
				var points atomic.Int64
				var all sync.WaitGroup
				for n := 1; n <= most; n++ {
					all.Go(func() {
						server := regtest.Start(kind)
						defer server.Close()
						ref := r.ripen(t, server.Host+"/ripe", r.old, r.fresh)
						p := newPerson(t)
						o := killedAt(t, server, n, delivered, p, []string{"prune", ref, "--yes", "-q"})
						when := fmt.Sprintf("request %d cut, exit code %d", n, o.code)
						if err := judge.Verify(t.Context(), ref, r.roots...); err != nil && !errors.Is(err, context.Canceled) {
							// A listed ghost may stand there until the next run: a verifying signature stands beside it.
							if err := judge.VerifyOnly(t.Context(), ref, r.fresh.Descriptor.Digest, r.roots...); err != nil {
								t.Errorf("%s: %v", when, err)
							}
						}
						if o.code != 0 {
							points.Add(1)
						}
						if o := p.run(t, "prune", ref, "--yes", "-q"); o.code != 0 {
							t.Errorf("%s: the next run: %d %s", when, o.code, o.stderr)
						}
						r.wantListed(t, ref, when+", after the next run", r.fresh)
					})
				}
				all.Wait()
				// Resolve, list, two signatures, list and survivor once more, the deletion, the list.
				if n := points.Load(); n < 8 || n == most {
					t.Errorf("killed at %d requests", n)
				}
				t.Logf("killed at each of %d requests", points.Load())
			})
		}
	}
}

// Two prunes at once, and prune beside rechain --replace: notation accepts at every moment, and no ghost is left.
func TestPruneAtOnce(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	for _, kind := range []regtest.Kind{regtest.WithAPI, regtest.WithoutAPI} {
		for _, beside := range []string{"prune", "rechain"} {
			t.Run(string(kind)+" beside "+beside, func(t *testing.T) {
				t.Parallel()
				server := regtest.New(t, kind)
				for round := range 2 {
					ref := r.ripen(t, fmt.Sprintf("%s/ripe%d", server.Host, round), r.old, r.middle, r.fresh)
					one, two := newPerson(t), newPerson(t)
					other := []string{"prune", ref, "--yes"}
					if beside == "rechain" {
						other = []string{"rechain", ref, "--replace", "--chain", two.file("new.pem", certtest.PEM(r.renewal))}
					}
					ctx, stop := context.WithCancel(t.Context())
					var watching, running sync.WaitGroup
					watching.Go(func() {
						for ctx.Err() == nil {
							// Reading a list and then its entries is no one moment, and each of the writers deletes: so three in a row.
							var err error
							for range 4 {
								if err = judge.Verify(t.Context(), ref, r.roots...); err == nil {
									break
								}
							}
							if err != nil && ctx.Err() == nil {
								t.Errorf("no signature verifies: %v", err)
							}
							time.Sleep(3 * time.Millisecond) // the writers need the processor too
						}
					})
					running.Go(func() { one.want(t, 0, "", "prune", ref, "--yes") })
					running.Go(func() {
						// What is rechained may be deleted by the other at that moment: that run ends in 4 or 7, and is run again.
						if o := two.run(t, other...); o.code != 0 && (beside == "prune" || o.code != 7 && o.code != 4) {
							t.Errorf("%s ends in %d: %s", beside, o.code, o.stderr)
						}
					})
					running.Wait()
					stop()
					watching.Wait()
					one.want(t, 0, "", "prune", ref, "--yes")
					if beside == "prune" {
						r.wantListed(t, ref, "afterwards", r.fresh)
						continue
					}
					if err := judge.Verify(t.Context(), ref, r.roots...); err != nil {
						t.Errorf("afterwards: %v", err)
					}
				}
			})
		}
	}
}

// K19: a registry that does not delete, or does not let us, leaves what is superseded: said once, exit 0.
func TestK19PruneCannotDelete(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	for _, kind := range regtest.Kinds {
		for name, answer := range map[string]struct {
			code int
			body string
		}{
			"405": {http.StatusMethodNotAllowed, `{"errors":[{"code":"UNSUPPORTED"}]}`},
			"403": {http.StatusForbidden, `{"errors":[{"code":"DENIED"}]}`},
			"400": {http.StatusBadRequest, `{"errors":[{"code":"MANIFEST_REFERENCED"}]}`},
		} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				t.Parallel()
				server := regtest.New(t, kind)
				ref := r.ripen(t, server.Host+"/ripe", r.old, r.middle, r.fresh)
				server.Intercept(on(http.MethodDelete, "/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(answer.code)
					_, _ = w.Write([]byte(answer.body))
					return true
				}))
				p := newPerson(t)
				o := p.want(t, 0, "", "prune", ref, "--yes")
				if n := strings.Count(o.stderr, "imprint: warning: "); n != 1 {
					t.Errorf("%d warnings: %s", n, o.stderr)
				}
				want, listed := "old-left superseded, old-left superseded, stays newest", []registry.Signature{r.old, r.middle, r.fresh}
				if kind == regtest.WithoutAPI { // there the list is our own
					want, listed = "stays newest, unlisted superseded, unlisted superseded", []registry.Signature{r.fresh}
				}
				if got := reasonsOf(t, o); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				r.wantListed(t, ref, "left", listed...)
			})
		}
	}
}

// A registry that lists what it deleted (Artifact Registry) is said to do so; the run ends well.
func TestG15PruneGhostStaysListed(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	f := newFake(t)
	subject := f.putArtifact("ripe", "v1", r.artifact)
	for _, sig := range []registry.Signature{r.old, r.fresh} {
		f.attach("ripe", subject, jwsType, sig.Envelope)
	}
	before := f.referrers("ripe", subject.Digest)
	gone := map[string]bool{}
	f.Intercept(func(w http.ResponseWriter, q *http.Request) bool {
		name := q.URL.Path[strings.LastIndex(q.URL.Path, "/")+1:]
		switch {
		case q.Method == http.MethodDelete:
			gone[name] = true
			w.WriteHeader(http.StatusAccepted)
			return true
		case strings.Contains(q.URL.Path, "/manifests/") && gone[name]:
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	p := newPerson(t)
	o := p.want(t, 0, "", "prune", f.Host+"/ripe:v1", "--yes")
	if len(before) != 2 || len(gone) != 1 || !strings.Contains(o.stderr, "although it is deleted") {
		t.Errorf("%d listed, %d deleted: %s", len(before), len(gone), o.stderr)
	}
	// Seen again it is a ghost, and stays one: nobody but the registry can end that.
	if o := p.want(t, 0, "", "prune", f.Host+"/ripe:v1", "--yes"); !strings.Contains(reasonsOf(t, o), "old-left ghost") {
		t.Errorf("%s%s", o.stdout, o.stderr)
	}
}

// What was there when the plan was made may not be there when it is carried out: the survivor above all.
func TestPruneLooksAgain(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	for name, change := range map[string]func(to *registry.Repo) error{
		"the survivor was deleted": func(to *registry.Repo) error {
			return to.Detach(t.Context(), r.artifact.descriptor, r.fresh.Descriptor.Digest)
		},
		"the old one was deleted": func(to *registry.Repo) error {
			return to.Detach(t.Context(), r.artifact.descriptor, r.old.Descriptor.Digest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, regtest.WithAPI)
			ref := r.ripen(t, server.Host+"/ripe", r.old, r.fresh)
			lists := 0
			server.Intercept(on(http.MethodGet, "/referrers/", func(http.ResponseWriter, *http.Request) bool {
				if lists++; lists == 2 { // after the plan
					server.Intercept(nil)
					if err := change(openRepo(t, server.Host+"/ripe")); err != nil {
						t.Error(err)
					}
				}
				return false
			}))
			o := newPerson(t).want(t, 0, "", "prune", ref, "--yes")
			if name == "the old one was deleted" {
				if got := reasonsOf(t, o); got != "gone superseded, stays newest" {
					t.Errorf("%s", got)
				}
				r.wantListed(t, ref, name, r.fresh)
				return
			}
			if got := reasonsOf(t, o); got != "stays newest, stays survivor-gone" || !strings.Contains(o.stderr, "run it again") {
				t.Errorf("%s: %s", got, o.stderr)
			}
			r.wantListed(t, ref, name, r.old)
		})
	}
}

// One that is named goes, whatever it is; a policy on the command line has a word in what stays.
func TestPruneSignature(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	server := regtest.New(t, regtest.WithAPI)
	ref := r.ripen(t, server.Host+"/ripe", r.old, r.fresh)
	p := newPerson(t)
	root := p.file("root.pem", certtest.PEM(r.roots...))
	stranger := p.file("stranger.pem", certtest.PEM(certtest.Root("stranger").Certificate))
	fresh, old := r.fresh.Descriptor.Digest.String(), r.old.Descriptor.Digest.String()

	p.want(t, 3, "", "prune", ref, "--signature", "sha256:12")
	p.want(t, 3, "", "prune", "--all", ref, "--signature", old)
	p.want(t, 3, "", "prune", ref, ref, "--signature", old)
	p.want(t, 4, "not-found", "prune", ref, "--signature", digest.FromString("nothing").String())
	p.want(t, 4, "not-found", "prune", ref, "--signature", r.artifact.descriptor.Digest.String(), "--yes")
	p.want(t, 1, "", "prune", ref, "--signature", fresh, "--yes", "--root", stranger)
	if n := server.Count(func(q regtest.Request) bool { return q.Method == http.MethodDelete }); n != 0 {
		t.Errorf("%d deletions", n)
	}
	if o := p.want(t, 0, "", "prune", ref, "--root", stranger, "--yes"); reasonsOf(t, o) != "stays newest, stays survivor-rejected" {
		t.Errorf("%s", o.stdout)
	}
	if o := p.want(t, 0, "", "prune", ref, "--signature", fresh, "--yes", "--root", root); reasonsOf(t, o) != "deleted named, stays newest" || o.stderr != "" {
		t.Errorf("%s%s", o.stdout, o.stderr)
	}
	r.wantListed(t, ref, "the newest was named", r.old)
	p.want(t, 1, "unsigned", "prune", ref, "--signature", old, "--yes", "--root", root)
	if o := p.want(t, 0, "", "prune", ref, "--signature", old, "--yes"); !strings.Contains(o.stderr, "last signature") {
		t.Errorf("%s", o.stderr)
	}
	if left, err := judge.Signatures(t.Context(), ref); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	// The surroundings never make anybody delete.
	r.ripen(t, server.Host+"/ripe", r.old, r.fresh)
	p.env = append(p.env, "IMPRINT_YES=true", "IMPRINT_SIGNATURE="+fresh)
	p.run(t, "prune", ref)
	r.wantListed(t, ref, "by the environment", r.old, r.fresh)
}

// All of a repository, with what other artifacts have, in one run.
func TestPruneAll(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	server := regtest.New(t, regtest.WithoutAPI)
	repos := []string{server.Host + "/one", server.Host + "/two"}
	var refs []string
	for _, repo := range repos {
		refs = append(refs, r.ripen(t, repo, r.old, r.fresh))
	}
	p := newPerson(t)
	plan := p.want(t, 0, "", append([]string{"prune", "--all"}, repos...)...)
	if !strings.Contains(plan.stdout, `"dryRun":true`) || strings.Count(plan.stdout, `"status":"goes"`) != 2 || server.Count(func(q regtest.Request) bool { return q.Method == http.MethodDelete }) != 0 {
		t.Errorf("%s", plan.stdout)
	}
	// The reviewed plan is the batch of the run.
	done := p.want(t, 0, "", "prune", "--yes", "--batch", p.file("plan.jsonl", []byte(plan.stdout)))
	if strings.Count(done.stdout, `"status":"deleted"`) != 2 {
		t.Errorf("%s%s", done.stdout, done.stderr)
	}
	for _, ref := range refs {
		r.wantListed(t, ref, "all", r.fresh)
	}
	text := p.run(t, append([]string{"prune", "--all", "--yes"}, repos...)...)
	if text.code != 0 || !strings.Contains(text.stdout, "2 kept of 2 items") || !strings.Contains(text.stdout, "not seen") {
		t.Errorf("%d: %s%s", text.code, text.stdout, text.stderr)
	}
}

// A ghost is taken out of the fallback index, where stock notation would stumble over it; in a plan it is only named.
func TestPruneUnlistsGhosts(t *testing.T) {
	t.Parallel()
	r := ripeOnce()
	server := regtest.New(t, regtest.WithoutAPI)
	ref := r.ripen(t, server.Host+"/ripe", r.old, r.fresh)
	q, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+server.Host+"/v2/ripe/manifests/"+r.old.Descriptor.Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q) // behind everybody's back
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	p := newPerson(t)
	if o := p.want(t, 0, "", "prune", ref); reasonsOf(t, o) != "stays newest, unlists ghost" {
		t.Errorf("%s", o.stdout)
	}
	if o := p.want(t, 0, "", "prune", ref, "--yes"); reasonsOf(t, o) != "stays newest, unlisted ghost" {
		t.Errorf("%s%s", o.stdout, o.stderr)
	}
	r.wantListed(t, ref, "unlisted", r.fresh)
}
