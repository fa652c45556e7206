package copy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// From every kind of place to every other: all manifests at all levels, byte for byte, with their blobs.
func TestArtifactEverywhere(t *testing.T) {
	t.Parallel()
	for _, from := range places {
		for _, to := range places {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				t.Parallel()
				src, dst := from.open(t), to.open(t)
				rel := newRelease(t, src, "1.0")
				want := state(t, src, rel.root)
				if len(want) != len(rel.all) {
					t.Fatalf("the source has %d manifests, want %d", len(want), len(rel.all))
				}
				got, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0", "latest"}})
				must(t, err)
				same(t, "the destination", want, state(t, dst, rel.root))
				counts := func(r copy.Result) []int { return []int{r.Images, r.Referrers, r.Signatures, r.Written, r.There} }
				same(t, "counts", []int{3, 2, 5, 10, 0}, counts(got))
				for _, tag := range got.Tags {
					if tag.Status != copy.Written {
						t.Errorf("tag %+v", tag)
					}
					if d, err := dst.Tagged(ctx, tag.Tag); err != nil || d != rel.root.Descriptor.Digest {
						t.Errorf("%s names %s, %v", tag.Tag, d, err)
					}
				}
				for _, m := range rel.all {
					back, err := dst.Manifest(ctx, m.Descriptor)
					if err != nil || string(back.Bytes) != string(m.Bytes) || back.Descriptor.MediaType != m.Descriptor.MediaType {
						t.Errorf("%s: %q (%s), %v", m.Descriptor.Digest, back.Bytes, back.Descriptor.MediaType, err)
					}
				}
				again, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0", "latest"}})
				must(t, err)
				same(t, "counts of the second copy", []int{3, 2, 5, 0, 10}, counts(again))
				if again.Blobs != 0 || again.Bytes != 0 {
					t.Errorf("the second copy sent %d blobs, %d bytes", again.Blobs, again.Bytes)
				}
				if to.name != "archive" {
					return
				}
				must(t, dst.Commit())
				same(t, "the archive once closed", want, state(t, reopen(t, dst), rel.root))
			})
		}
	}
}

// Copied onwards to a registry of the other kind, it is all there still.
func TestArtifactOnwards(t *testing.T) {
	t.Parallel()
	var repos []*registry.Repo
	for _, i := range []int{0, 1, 2, 1, 0} {
		repos = append(repos, places[i].open(t))
	}
	rel := newRelease(t, repos[0], "1.0")
	for i, dst := range repos[1:] {
		_, err := copy.Artifact(ctx, dst, repos[i], rel.root, copy.Options{Tags: []string{"1.0"}})
		must(t, err)
	}
	same(t, "the last", state(t, repos[0], rel.root), state(t, repos[4], rel.root))
}

// remote returns a fresh registry and a repository of it.
func remote(t testing.TB, kind regtest.Kind) (*regtest.Server, *registry.Repo) {
	t.Helper()
	s := regtest.New(t, kind)
	return s, open(t, s.Host+"/team/app")
}

func TestTagLast(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			src := places[2].open(t)
			rel := newRelease(t, src, "1.0")
			s, dst := remote(t, kind)
			_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0", "1"}})
			must(t, err)
			all := s.Requests()
			var order []string
			last := map[string]int{}
			for i, r := range all {
				switch {
				case isTag(r, "1.0"):
					order = append(order, "1.0")
					if isTag(r, "1") {
						order = append(order, "1")
					}
				case isTag(r, "1"):
					order = append(order, "1")
				case r.Method != http.MethodGet && r.Method != http.MethodHead:
					last["write"] = i
				case strings.Contains(r.Path, "/referrers/") || strings.Contains(r.Path, "/manifests/sha256-"):
					last["list"] = i
				}
			}
			if i := slices.Index(order, "1.0"); i < 0 || !slices.Contains(order[i:], "1") {
				t.Errorf("tags were written so: %q", order)
			}
			first := slices.IndexFunc(all, func(r regtest.Request) bool { return isTag(r, "1.0") })
			if first < last["write"] || first < last["list"] {
				t.Errorf("the tag was request %d; the last other write was %d, the last list read %d", first, last["write"], last["list"])
			}
			// Each manifest came after what it refers to.
			at := map[digest.Digest]int{}
			for i, r := range all {
				if r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/sha256:") && !isTag(r, "1.0") {
					at[digest.Digest(r.Path[strings.LastIndex(r.Path, "/")+1:])] = i
				}
			}
			for _, m := range rel.all {
				p, err := m.Parse()
				must(t, err)
				before := p.Manifests
				if p.Subject != nil {
					before = append(before, *p.Subject)
				}
				for _, d := range before {
					if all[at[d.Digest]].End.After(all[at[m.Descriptor.Digest]].Begin) {
						t.Errorf("%s was sent before %s was there", m.Descriptor.Digest, d.Digest)
					}
				}
				if p.Subject == nil {
					continue
				}
				// Read back: the list of the subject after each of its referrers, and before the tag.
				s := p.Subject.Digest
				if !slices.ContainsFunc(all[at[m.Descriptor.Digest]:first], func(r regtest.Request) bool {
					return r.Method == http.MethodGet && !r.Begin.Before(all[at[m.Descriptor.Digest]].End) && r.End.Before(all[first].Begin) &&
						(strings.HasSuffix(r.Path, "/referrers/"+s.String()) || strings.HasSuffix(r.Path, "/manifests/sha256-"+s.Encoded()))
				}) {
					t.Errorf("the list of %s was not read back after %s", s, m.Descriptor.Digest)
				}
			}
		})
	}
}

func TestSecondCopyWritesNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			src := places[0].open(t)
			rel := newRelease(t, src, "1.0")
			s, dst := remote(t, kind)
			_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}})
			must(t, err)
			for name, dst := range map[string]*registry.Repo{"the same process": dst, "another process": reopen(t, dst)} {
				s.Reset()
				r, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}})
				must(t, err)
				if w := writes(s); len(w) != 0 {
					t.Errorf("%s wrote: %v", name, w)
				}
				if r.Tags[0].Status != copy.There {
					t.Errorf("%s: %+v", name, r.Tags)
				}
			}
			// Without the tag, by digest, too.
			s.Reset()
			_, err = copy.Artifact(ctx, reopen(t, dst), src, rel.root, copy.Options{})
			must(t, err)
			if w := writes(s); len(w) != 0 {
				t.Errorf("by digest: %v", w)
			}
		})
	}
}

// The fewest requests that the protocol allows.
func TestRequests(t *testing.T) {
	t.Parallel()
	from, src := remote(t, regtest.WithAPI)
	to, dst := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "1", "2", "3", "4", "5")
	sign(t, src, root, "one")
	sign(t, src, root, "two")
	src, dst = reopen(t, src), reopen(t, dst)
	from.Reset()
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"v1"}})
	must(t, err)
	count := func(s *regtest.Server, method, path string) int {
		return s.Count(func(r regtest.Request) bool { return r.Method == method && strings.Contains(r.Path, path) })
	}
	// The resolving of the tag is the caller's. The envelopes are inline, {} is known.
	if n := count(from, http.MethodGet, "/blobs/"); n != 6 {
		t.Errorf("%d blobs were read from the source, want 6: configuration and layers", n)
	}
	// Two more ask the tag schema, because the API lists nothing of the signatures (G11).
	if n := from.Count(nil); n > 6+2+3+2 {
		t.Errorf("%d requests to the source", n)
	}
	if n := count(to, http.MethodHead, "/blobs/"); n != 0 {
		t.Errorf("%d HEADs of blobs", n)
	}
	if n := count(to, http.MethodPut, "/manifests/"); n != 4 {
		t.Errorf("%d manifests were written, want 4: three by digest and the tag", n)
	}
	// HEAD of the tag, by digest, and of the tag again before it is written; 3 single uploads; 3 for each of 6 blobs,
	// one of them this registry's odd answer to a mount; 3 manifests, the list, the tag.
	if n := to.Count(nil); n > 3+3+18+3+1+1 {
		t.Errorf("%d requests to the destination", n)
	}
}

func TestSameRegistryMounts(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			c := client(t)
			repo := func(name string) *registry.Repo {
				r, err := c.Open(ctx, reference(t, s.Host+"/"+name))
				must(t, err)
				return r
			}
			src, dst := repo("dev/app"), repo("prod/app")
			rel := newRelease(t, src, "1.0")
			s.Reset()
			r, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}})
			must(t, err)
			if n := s.Count(func(r regtest.Request) bool { return r.Method == http.MethodGet && strings.Contains(r.Path, "/blobs/") }); n != 0 {
				t.Errorf("%d blobs were downloaded", n)
			}
			if r.Mounted == 0 {
				t.Errorf("nothing was mounted: %+v", r)
			}
			same(t, "the destination", state(t, src, rel.root), state(t, dst, rel.root))
		})
	}
}

func TestC15SourceIsDestination(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, r := remote(t, kind)
			rel := newRelease(t, r, "1.0")
			s.Reset()
			_, err := copy.Artifact(ctx, r, r, rel.root, copy.Options{Tags: []string{"1.0"}})
			must(t, err)
			if w := writes(s); len(w) != 0 {
				t.Error(w)
			}
			_, err = copy.Artifact(ctx, r, r, rel.root, copy.Options{Tags: []string{"stable"}})
			must(t, err)
			if w := writes(s); len(w) != 1 {
				t.Errorf("a new tag: %v", w)
			}
		})
	}
}

func TestC07TagMoves(t *testing.T) {
	t.Parallel()
	for _, to := range places[:3] {
		t.Run(to.name, func(t *testing.T) {
			t.Parallel()
			src, dst := places[2].open(t), to.open(t)
			old := image(t, dst, "amd64", "old")
			for _, tag := range []string{"1.4.2", "latest"} {
				must(t, dst.Tag(ctx, old, tag))
			}
			rel := newRelease(t, src, "1.4.3")
			for _, c := range []struct {
				tags, move []string
				ok         bool
			}{
				{[]string{"1.4.3", "latest"}, nil, false},
				{[]string{"1.4.2", "latest"}, []string{"latest"}, false},
				{[]string{"1.4.2"}, []string{"1.4"}, false},
				{[]string{"1.4.3", "latest"}, []string{"latest"}, true},
				{[]string{"1.4.2"}, []string{"1.*"}, true},
			} {
				before, _ := dst.Tagged(ctx, "1.4.2")
				r, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: c.tags, Move: c.move})
				if c.ok {
					must(t, err)
					if last := r.Tags[len(r.Tags)-1]; last.Status != copy.Moved || last.Was != old.Descriptor.Digest {
						t.Errorf("%v: %+v", c.tags, r.Tags)
					}
					continue
				}
				if !errors.Is(err, registry.ErrTagMoves) || reason(err) != "tag-moves" {
					t.Errorf("%v with --move %v: %v", c.tags, c.move, err)
				}
				if after, _ := dst.Tagged(ctx, "1.4.2"); after != before {
					t.Errorf("1.4.2 moved all the same")
				}
				if has, err := dst.HasManifest(ctx, rel.root.Descriptor); has || err != nil {
					t.Errorf("it was refused after something had been written (%v)", err)
				}
			}
		})
	}
	if _, err := copy.Artifact(ctx, places[2].open(t), places[2].open(t), registry.Manifest{}, copy.Options{Move: []string{"[a"}}); reason(err) != "copy-options" {
		t.Errorf("a pattern that is none: %v", err)
	}
}

// A name in a layout that is a full name moves by its tag.
func TestMoveOfFullName(t *testing.T) {
	t.Parallel()
	src, dst := places[0].open(t), places[2].open(t)
	a, b := image(t, src, "amd64", "a"), image(t, src, "amd64", "b")
	name := "harbor.example/db:latest"
	_, err := copy.Artifact(ctx, dst, src, a, copy.Options{Tags: []string{name}})
	must(t, err)
	_, err = copy.Artifact(ctx, dst, src, b, copy.Options{Tags: []string{name}, Move: []string{"latest"}})
	must(t, err)
	if d, err := dst.Tagged(ctx, name); err != nil || d != b.Descriptor.Digest {
		t.Error(d, err)
	}
}

func TestReferrersOption(t *testing.T) {
	t.Parallel()
	src := places[0].open(t)
	rel := newRelease(t, src, "1.0")
	for option, want := range map[string][]int{copy.All: {3, 2, 5}, copy.Signatures: {3, 0, 3}, copy.None: {3, 0, 0}} {
		for _, to := range places[:3] {
			dst := to.open(t)
			r, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}, Referrers: option})
			must(t, err)
			same(t, option, want, []int{r.Images, r.Referrers, r.Signatures})
			if n := len(state(t, dst, rel.root)); n != want[0]+want[1]+want[2] {
				t.Errorf("%s to %s: %d manifests arrived", option, to.name, n)
			}
		}
	}
	if _, err := copy.Artifact(ctx, places[2].open(t), src, rel.root, copy.Options{Referrers: "some"}); reason(err) != "copy-options" {
		t.Error(err)
	}
}

func TestPlatform(t *testing.T) {
	t.Parallel()
	src := places[0].open(t)
	rel := newRelease(t, src, "1.0")
	dst := places[1].open(t)
	image, err := copy.ForPlatform(ctx, src, rel.root, "linux/arm64")
	must(t, err)
	r, err := copy.Artifact(ctx, dst, src, image, copy.Options{Tags: []string{"1.0"}})
	must(t, err)
	if d, err := dst.Tagged(ctx, "1.0"); err != nil || d != rel.children[1].Descriptor.Digest || r.Digest != d {
		t.Errorf("1.0 names %s, the result %s, %v", d, r.Digest, err)
	}
	same(t, "what came along", []int{1, 1, 2}, []int{r.Images, r.Referrers, r.Signatures})
	same(t, "graph", state(t, src, rel.children[1]), state(t, dst, rel.children[1]))
	// An image that is for that platform anyway.
	image, err = copy.ForPlatform(ctx, src, rel.children[0], "linux/amd64")
	must(t, err)
	same(t, "digest", rel.children[0].Descriptor.Digest, image.Descriptor.Digest)
	for platform, root := range map[string]registry.Manifest{"windows/amd64": rel.root, "linux": rel.root, "linux/arm64": rel.children[0], "linux/arm": rel.root} {
		if _, err := copy.ForPlatform(ctx, src, root, platform); !errors.Is(err, copy.ErrPlatform) || reason(err) != "platform-not-found" {
			t.Errorf("%s: %v", platform, err)
		}
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	src := places[0].open(t)
	rel := newRelease(t, src, "1.0")
	for _, kind := range regtest.Kinds {
		s, dst := remote(t, kind)
		plan, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}, DryRun: true})
		must(t, err)
		if w := writes(s); len(w) != 0 {
			t.Errorf("%s: it wrote %v", kind, w)
		}
		if plan.Tags[0].Status != copy.Planned || plan.Written != 0 || len(plan.Objects) != len(rel.all) {
			t.Errorf("%s: %+v", kind, plan)
		}
		for _, o := range plan.Objects {
			if o.Status != copy.Planned {
				t.Errorf("%s: %+v", kind, o)
			}
		}
		done, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}})
		must(t, err)
		// Where single-request uploads are not honoured, what finds that out travels twice.
		if done.Blobs != plan.Blobs || kind == regtest.WithAPI && done.Bytes != plan.Bytes || done.Bytes < plan.Bytes {
			t.Errorf("%s: planned %d blobs, %d bytes; done %d, %d", kind, plan.Blobs, plan.Bytes, done.Blobs, done.Bytes)
		}
		if plan, err = copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}, DryRun: true}); err != nil || plan.Blobs != 0 || plan.There != len(rel.all) {
			t.Errorf("%s, again: %+v, %v", kind, plan, err)
		}
	}
}

// F4: the manifest of a signature is there, and is not listed. Both peers take it for done.
func TestStoredIsNotListed(t *testing.T) {
	t.Parallel()
	src := places[0].open(t)
	rel := newRelease(t, src, "1.0")
	s, dst := remote(t, regtest.WithoutAPI)
	var refused sync.Once
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		hit := false
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-") {
			refused.Do(func() { hit = true; w.WriteHeader(http.StatusForbidden) })
		}
		return hit
	})
	if _, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}}); !errors.Is(err, registry.ErrUnauthorized) {
		t.Fatalf("the first run: %v", err)
	}
	if _, err := dst.Tagged(ctx, "1.0"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the tag was written: %v", err)
	}
	_, err := copy.Artifact(ctx, reopen(t, dst), src, rel.root, copy.Options{Tags: []string{"1.0"}})
	must(t, err)
	same(t, "after the second run", state(t, src, rel.root), state(t, dst, rel.root))
}

// A registry that answers 201 and forgets, as olareg does: the lists are read back, and what is missing is attached again.
func TestRegistryForgets(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	root := image(t, src, "amd64", "x")
	signature := sign(t, src, root, "envelope")
	for name, forgets := range map[string]int{"once": 1, "for ever": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dst := remote(t, regtest.WithAPI)
			var mu sync.Mutex
			n := 0
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, signature.Descriptor.Digest.String()) || n == forgets {
					return false
				}
				n++
				w.Header().Set("OCI-Subject", root.Descriptor.Digest.String())
				w.Header().Set("Location", r.URL.Path)
				w.WriteHeader(http.StatusCreated)
				return true
			})
			_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
			if name == "once" {
				must(t, err)
				same(t, "graph", state(t, src, root), state(t, dst, root))
				return
			}
			if !errors.Is(err, registry.ErrUnsettled) || registry.Reasons()[reason(err)] == "" {
				t.Errorf("%v (%s)", err, reason(err))
			}
			if _, err := dst.Tagged(ctx, "1"); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("the tag: %v", err)
			}
		})
	}
}

// Killed at every request, copy leaves no tag on something whose referrers are missing, and a second run ends as an
// undisturbed one.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		for _, delivered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, answered %v", kind, delivered), func(t *testing.T) {
				t.Parallel()
				src := places[2].open(t)
				root := image(t, src, "amd64", "layer")
				sbom := refer(t, src, root, "application/spdx+json", "sbom")
				sign(t, src, root, "one")
				sign(t, src, sbom, "two")
				want := state(t, src, root)

				s, undisturbed := remote(t, kind)
				_, err := copy.Artifact(ctx, undisturbed, src, root, copy.Options{Tags: []string{"1"}})
				must(t, err)
				same(t, "undisturbed", want, state(t, undisturbed, root))
				// Without the API most of the time is waited: all at once.
				var all sync.WaitGroup
				for n := 1; n <= s.Count(nil); n++ {
					all.Go(func() {
						if err := killedAt(t, kind, n, delivered, src, root, want); err != nil {
							t.Errorf("cut at %d: %v", n, err)
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// killedAt copies, is killed at the n-th request, and copies again.
func killedAt(t *testing.T, kind regtest.Kind, n int, delivered bool, src *registry.Repo, root registry.Manifest, want []string) error {
	s := regtest.Start(kind)
	defer s.Close()
	run := func(ctx context.Context) error {
		dst, err := client(t).Create(ctx, reference(t, s.Host+"/app"), registry.CreateOptions{})
		if err != nil {
			return err
		}
		_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
		return err
	}
	first := kill(t, s, n, delivered, run)
	there, err := client(t).Open(ctx, reference(t, s.Host+"/app"))
	if err != nil {
		return err
	}
	switch d, err := there.Tagged(ctx, "1"); {
	case err == nil:
		same(t, fmt.Sprintf("cut at %d, with the tag written", n), want, state(t, there, root))
	case !errors.Is(err, registry.ErrNotFound):
		return err
	case first == nil:
		return fmt.Errorf("no error, and the tag is %q", d)
	}
	if err := run(ctx); err != nil {
		return fmt.Errorf("the second run: %w", err)
	}
	same(t, fmt.Sprintf("cut at %d, after the second run", n), want, state(t, there, root))
	if d, err := there.Tagged(ctx, "1"); err != nil || d != root.Descriptor.Digest {
		return fmt.Errorf("the tag is %s, %w", d, err)
	}
	return nil
}

// kill runs f and ends it at its n-th request to s.
func kill(t *testing.T, s *regtest.Server, n int, delivered bool, f func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s.Reset()
	s.CutAt(n, delivered)
	defer s.CutAt(0, false)
	go func() {
		// The client tries again what was cut; one that was killed does not.
		for ctx.Err() == nil && s.Count(nil) < n {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(5 * time.Millisecond) // for the registry to have acted
		cancel()
	}()
	return f(ctx)
}

func TestC01SourceLies(t *testing.T) {
	t.Parallel()
	for _, to := range places {
		t.Run(to.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "l")
			src := open(t, "oci:"+dir)
			root := image(t, src, "amd64", "the right layer")
			p, err := root.Parse()
			must(t, err)
			layer := p.Layers[0].Digest
			must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", layer.Encoded()), []byte("the wrong layer"), 0o600))
			dst := to.open(t)
			_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
			if !errors.Is(err, registry.ErrDigestMismatch) || reason(err) != "digest-mismatch" {
				t.Errorf("%v (%s)", err, reason(err))
			}
			if _, err := dst.Tagged(ctx, "1"); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("the tag: %v", err)
			}
			if rc, err := dst.Blob(ctx, p.Layers[0]); err == nil {
				b, err := io.ReadAll(rc)
				t.Errorf("it was stored: %q, %v", b, err)
			}
		})
	}
}

func TestC12ForeignLayers(t *testing.T) {
	t.Parallel()
	src, dst := places[2].open(t), places[2].open(t)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	m.Config = putBlob(t, src, ocispec.MediaTypeImageConfig, []byte("{ }"))
	foreign := describe("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", []byte("elsewhere"))
	foreign.URLs = []string{"https://169.254.169.254/layer"}
	m.Layers = []ocispec.Descriptor{foreign}
	root := encode(t, m.MediaType, m)
	must(t, src.PushManifest(ctx, root))
	r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "169.254.169.254") || r.Blobs != 1 {
		t.Errorf("%+v", r)
	}
}

func TestC13UnknownMediaType(t *testing.T) {
	t.Parallel()
	src, dst := places[0].open(t), places[2].open(t)
	root := registry.NewManifest("application/vnd.example.new+json", []byte("{\n \"new\": true }"))
	must(t, src.PushManifest(ctx, root))
	root, err := src.Resolve(ctx, registry.Reference{Digest: root.Descriptor.Digest})
	must(t, err)
	r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	back, err := dst.Resolve(ctx, registry.Reference{Tag: "1"})
	must(t, err)
	same(t, "manifest", root, back)
	if len(r.Warnings) != 1 {
		t.Errorf("warnings: %q", r.Warnings)
	}
}

func TestC14SHA512(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	content := []byte("layer")
	d := ocispec.Descriptor{MediaType: "l", Digest: digest.SHA512.FromBytes(content), Size: int64(len(content))}
	must(t, src.PushBytes(ctx, d, content))
	m.Config = putBlob(t, src, ocispec.MediaTypeImageConfig, []byte("{ }"))
	m.Layers = append(m.Layers, d)
	root := encode(t, m.MediaType, m)
	root.Descriptor.Digest = digest.SHA512.FromBytes(root.Bytes)
	must(t, src.PushManifest(ctx, root))
	for _, to := range places[2:] {
		dst := to.open(t)
		_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
		must(t, err)
		if d, err := dst.Tagged(ctx, "1"); err != nil || d != root.Descriptor.Digest {
			t.Errorf("%s: %s, %v", to.name, d, err)
		}
	}
	// A registry that knows sha256 only.
	s, dst := remote(t, regtest.WithAPI)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.String(), "sha512") || r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"errors":[{"code":"DIGEST_INVALID","message":"unsupported digest algorithm"}]}`)
		return true
	})
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	if err == nil || !strings.Contains(err.Error(), "sha512") {
		t.Errorf("%v", err)
	}
	if n := s.Count(func(r regtest.Request) bool { return isTag(r, "1") }); n != 0 {
		t.Error("it was tagged")
	}
}

// V23: what breaks the specification is carried as the bytes that it is, where the destination takes it.
func TestV23OpaqueReferrers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "l")
	src := open(t, "oci:"+dir)
	root := image(t, src, "amd64", "layer")
	good := sign(t, src, root, "good")
	layer := putBlob(t, src, "application/octet-stream", []byte("of the ambiguous one"))
	twice := registry.NewManifest(ocispec.MediaTypeImageManifest, fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x","artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageManifest, registry.ArtifactTypeSignature, layer.MediaType, layer.Digest, layer.Size, root.Descriptor.MediaType, root.Descriptor.Digest, root.Descriptor.Size))
	must(t, src.Attach(ctx, root.Descriptor, twice))
	two := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: registry.ArtifactTypeSignature, Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{layer, layer}, Subject: &root.Descriptor}
	two.SchemaVersion = 2
	layers := encode(t, two.MediaType, two)
	must(t, src.Attach(ctx, root.Descriptor, layers))
	for _, to := range places {
		t.Run(to.name, func(t *testing.T) {
			t.Parallel()
			dst := to.open(t)
			r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
			must(t, err)
			list, err := dst.Referrers(ctx, root.Descriptor, "")
			must(t, err)
			for name, m := range map[string]registry.Manifest{"the good one": good, "duplicate members": twice, "two layers": layers} {
				if !slices.ContainsFunc(list, func(r registry.Referrer) bool { return r.Digest == m.Descriptor.Digest }) {
					t.Errorf("%s is not listed; %q", name, r.Warnings)
				}
				if back, err := dst.Manifest(ctx, m.Descriptor); err != nil || string(back.Bytes) != string(m.Bytes) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if rc, err := dst.ReadBlob(ctx, layer, 100); err != nil || string(rc) != "of the ambiguous one" {
				t.Errorf("its layer: %v", err)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		s, dst := remote(t, regtest.WithAPI)
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, twice.Descriptor.Digest.String()) {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			return true
		})
		r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
		must(t, err)
		at := slices.IndexFunc(r.Objects, func(o copy.Object) bool { return o.Descriptor.Digest == twice.Descriptor.Digest })
		if o := r.Objects[at]; o.Status != copy.Skipped || o.Reason != "malformed-referrer" || len(r.Warnings) != 1 {
			t.Errorf("%+v, %q", o, r.Warnings)
		}
		if _, err := dst.Tagged(ctx, "1"); err != nil {
			t.Errorf("the tag: %v", err)
		}
	})
}

func TestC04SkippedIsReported(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithoutAPI)
	root, elsewhere := image(t, src, "amd64", "a"), image(t, src, "amd64", "b")
	foreign := sign(t, src, elsewhere, "of another image")
	// A list that says otherwise: the other image's fallback index under this one's tag.
	list, err := src.Manifest(ctx, ocispec.Descriptor{Digest: taggedAs(t, src, elsewhere)})
	must(t, err)
	must(t, src.Tag(ctx, list, "sha256-"+root.Descriptor.Digest.Encoded()))
	_ = s
	dst := places[0].open(t)
	r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	at := slices.IndexFunc(r.Objects, func(o copy.Object) bool { return o.Descriptor.Digest == foreign.Descriptor.Digest })
	if at < 0 || r.Objects[at].Status != copy.Skipped || r.Objects[at].Reason != "foreign-subject" {
		t.Errorf("%+v", r.Objects)
	}
	if has, err := dst.HasManifest(ctx, foreign.Descriptor); has || err != nil {
		t.Errorf("it was copied, %v", err)
	}
}

// taggedAs returns the digest of a subject's fallback index.
func taggedAs(t testing.TB, r *registry.Repo, subject registry.Manifest) digest.Digest {
	t.Helper()
	d, err := r.Tagged(ctx, "sha256-"+subject.Descriptor.Digest.Encoded())
	must(t, err)
	return d
}

// A root copied by digest to a layout is listed there, without a name.
func TestByDigestToLayout(t *testing.T) {
	t.Parallel()
	src, dst := places[0].open(t), places[2].open(t)
	rel := newRelease(t, src, "1.0")
	_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{})
	must(t, err)
	same(t, "graph", state(t, src, rel.root), state(t, dst, rel.root))
	for tag, err := range dst.Tags(ctx) {
		t.Errorf("tag %s, %v", tag, err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	src, dst := places[2].open(t), places[0].open(t)
	rel := newRelease(t, src, "1.0")
	var mu sync.Mutex
	told := map[string]int{}
	_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1.0"}, Progress: func(e copy.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == copy.EventEnd {
			told[e.What]++
		}
	}})
	must(t, err)
	same(t, "told", map[string]int{"blob": 11, copy.Image: 2, copy.Index: 1, copy.Signature: 5, copy.Referrer: 2, "tag 1.0": 1}, told)
}

// The memory that a copy takes does not grow with its blobs.
func TestF44Memory(t *testing.T) {
	const size = 64 << 20
	src := places[2].open(t)
	sum, err := digest.FromReader(io.LimitReader(zeros{}, size))
	must(t, err)
	d := ocispec.Descriptor{MediaType: "l", Digest: sum, Size: size}
	_, err = src.PushBlob(ctx, d, nil, func(context.Context, int64) (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(zeros{}, size)), nil
	})
	must(t, err)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{d}}
	m.SchemaVersion = 2
	root := encode(t, m.MediaType, m)
	must(t, src.PushManifest(ctx, root))
	// A destination that keeps nothing.
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", r.URL.Path+"session")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	dst := open(t, s.Host+"/app")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > size/4 {
		t.Errorf("%d MiB were allocated for a blob of %d MiB", grown>>20, size>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
