package copy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// fan is an image with n signatures, in a layout.
func fan(t testing.TB, n int) (*registry.Repo, registry.Manifest, []registry.Manifest) {
	t.Helper()
	src := open(t, "oci:"+filepath.Join(t.TempDir(), "fan"))
	root := image(t, src, "amd64", "layer")
	var signatures []registry.Manifest
	for i := range n {
		signatures = append(signatures, sign(t, src, root, fmt.Sprint("signature ", i)))
	}
	return src, root, signatures
}

// The hole of both peers (F1 and F4): the first write of a referrer, or of the list that it stands in,
// is refused once; the command is run again.
func TestFirstWriteRefused(t *testing.T) {
	t.Parallel()
	src, root, signatures := fan(t, 2)
	for name, c := range map[string]struct {
		kind regtest.Kind
		path string
	}{
		"referrer, API":       {regtest.WithAPI, "/manifests/" + signatures[0].Descriptor.Digest.String()},
		"referrer, no API":    {regtest.WithoutAPI, "/manifests/" + signatures[0].Descriptor.Digest.String()},
		"fallback tag":        {regtest.WithoutAPI, "/manifests/sha256-" + root.Descriptor.Digest.Encoded()},
		"referrer, API alone": {regtest.WithAPIOnly, "/manifests/" + signatures[1].Descriptor.Digest.String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dst := remote(t, c.kind)
			var once atomic.Bool
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, c.path) || !once.CompareAndSwap(false, true) {
					return false
				}
				w.WriteHeader(http.StatusForbidden)
				return true
			})
			if _, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}}); !errors.Is(err, registry.ErrUnauthorized) {
				t.Fatalf("the first run: %v", err)
			}
			if n := s.Count(func(r regtest.Request) bool { return isTag(r, "1") }); n != 0 {
				t.Error("the first run wrote the tag")
			}
			dst = reopen(t, dst)
			s.Reset()
			_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
			must(t, err)
			if n := len(listed(t, dst, root)); n != 2 {
				t.Errorf("%d of 2 signatures are listed", n)
			}
		})
	}
}

// A registry that forgets some of what is PUT at the same time, as olareg does.
func TestForgetsWhatComesTogether(t *testing.T) {
	t.Parallel()
	src, root, signatures := fan(t, 20)
	s, dst := remote(t, regtest.WithAPI)
	var under atomic.Int32
	var forgotten atomic.Int32
	forgot := sync.Map{}
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/sha256:") || strings.HasSuffix(r.URL.Path, root.Descriptor.Digest.String()) {
			return false
		}
		defer under.Add(-1)
		together := under.Add(1) > 1
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		time.Sleep(5 * time.Millisecond)
		if _, twice := forgot.LoadOrStore(r.URL.Path, true); twice || !together {
			return false
		}
		forgotten.Add(1)
		w.Header().Set("OCI-Subject", root.Descriptor.Digest.String())
		w.WriteHeader(http.StatusCreated)
		return true
	})
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	if n := len(listed(t, dst, root)); n != len(signatures) || forgotten.Load() == 0 {
		t.Errorf("%d of %d signatures are listed; %d were forgotten at first", n, len(signatures), forgotten.Load())
	}
}

// `cosign copy` stores the image itself under the name of the fallback tag. It is not believed, and
// never overwritten.
func TestFallbackTagOfCosign(t *testing.T) {
	t.Parallel()
	src, root, _ := fan(t, 2)
	s, dst := remote(t, regtest.WithoutAPI)
	put(t, dst, open(t, src.Reference().String()), image(t, src, "arm64", "other"))
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"old"}, Referrers: copy.None})
	must(t, err)
	squatted := "sha256-" + root.Descriptor.Digest.Encoded()
	must(t, dst.Tag(ctx, root, squatted))
	s.Reset()
	_, err = copy.Artifact(ctx, reopen(t, dst), src, root, copy.Options{Tags: []string{"1"}})
	if reason(err) != "fallback-tag-occupied" {
		t.Errorf("%v (%s)", err, reason(err))
	}
	if d, err := dst.Tagged(ctx, squatted); err != nil || d != root.Descriptor.Digest {
		t.Errorf("the occupied tag names %s, %v", d, err)
	}
	if n := s.Count(func(r regtest.Request) bool { return isTag(r, "1") || isTag(r, squatted) }); n != 0 {
		t.Errorf("%d tags were written", n)
	}
	// As a source it has no referrers that anybody could believe in.
	other := places[0].open(t)
	r, err := copy.Artifact(ctx, other, reopen(t, dst), root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	if r.Signatures+r.Referrers != 0 || r.Images != 1 {
		t.Errorf("%+v", r)
	}
}

// GitLab answers the fallback tag with the subject itself.
func TestFallbackTagOfGitLab(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	rel := newRelease(t, src, "1")
	s, gitlab := remote(t, regtest.WithoutAPI)
	put(t, gitlab, src, rel.root)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		at, ok := strings.CutPrefix(r.URL.Path, "/v2/team/app/manifests/sha256-")
		if !ok {
			return false
		}
		if r.Method == http.MethodPut {
			t.Errorf("it was written: %s", r.URL.Path)
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		r.URL.Path = "/v2/team/app/manifests/sha256:" + at
		s.Handler().ServeHTTP(w, r)
		return true
	})
	dst := places[0].open(t)
	r, err := copy.Artifact(ctx, dst, reopen(t, gitlab), rel.root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	same(t, "what was believed", []int{3, 0, 0}, []int{r.Images, r.Referrers, r.Signatures})
	if _, err := copy.Artifact(ctx, reopen(t, gitlab), src, rel.root, copy.Options{Tags: []string{"2"}}); reason(err) != "fallback-tag-occupied" {
		t.Errorf("%v (%s)", err, reason(err))
	}
	if _, err := gitlab.Tagged(ctx, "2"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the tag: %v", err)
	}
}

// F5: twenty signatures of one subject, copied by eight processes at once to a registry without the API.
func TestEightAtOnce(t *testing.T) {
	t.Parallel()
	src, root, signatures := fan(t, 20)
	const processes = 8
	var parts []*registry.Repo
	for i := range processes {
		part := open(t, "oci:"+filepath.Join(t.TempDir(), "part"))
		_, err := copy.Artifact(ctx, part, src, root, copy.Options{Tags: []string{"1"}, Review: func(context.Context, copy.Graph) (copy.Review, error) {
			leave := map[digest.Digest]string{}
			for j, m := range signatures {
				if j%processes != i {
					leave[m.Descriptor.Digest] = "another's"
				}
			}
			return copy.Review{Leave: leave}, nil
		}})
		must(t, err)
		if n := len(listed(t, part, root)); n == 0 || n == len(signatures) {
			t.Fatalf("part %d has %d signatures", i, n)
		}
		parts = append(parts, part)
	}
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	var all sync.WaitGroup
	for round := range rounds {
		s := regtest.New(t, regtest.WithoutAPI)
		for i, part := range parts {
			dst := open(t, s.Host+"/team/app")
			all.Go(func() {
				if _, err := copy.Artifact(ctx, dst, part, root, copy.Options{Tags: []string{"1"}}); err != nil {
					t.Errorf("round %d, process %d: %v", round, i, err)
				}
			})
		}
		if round%4 == 3 || round == rounds-1 {
			all.Wait()
		}
		t.Cleanup(func() {
			if n := len(listed(t, open(t, s.Host+"/team/app"), root)); n != len(signatures) {
				t.Errorf("round %d: %d of %d signatures are listed", round, n, len(signatures))
			}
		})
	}
}

// A registry has lost a child, though index and tag are there: users complain of that.
func TestLostChildComesBack(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	rel := newRelease(t, src, "1")
	for _, kind := range regtest.Kinds {
		s, dst := remote(t, kind)
		put(t, dst, src, rel.root)
		must(t, dst.Tag(ctx, rel.root, "1"))
		lost := rel.children[1].Descriptor.Digest
		req, err := http.NewRequest(http.MethodDelete, "/v2/team/app/manifests/"+lost.String(), nil)
		must(t, err)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, req)
		if w.Code != http.StatusAccepted {
			t.Fatalf("deleting: %d", w.Code)
		}
		s.Reset()
		r, err := copy.Artifact(ctx, reopen(t, dst), src, rel.root, copy.Options{Tags: []string{"1"}})
		must(t, err)
		if r.Written != 1 || r.There != len(rel.all)-1 || r.Tags[0].Status != copy.There {
			t.Errorf("%s: %d written, %d there, %+v", kind, r.Written, r.There, r.Tags)
		}
		same(t, string(kind), state(t, src, rel.root), state(t, dst, rel.root))
	}
}

// Somebody moves the tag while the copy is under way.
func TestC07TagMovesMeanwhile(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	rel := newRelease(t, src, "1")
	bare := image(t, src, "amd64", "without referrers")
	for name, root := range map[string]registry.Manifest{"read back": rel.root, "nothing to read back": bare} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dst := remote(t, regtest.WithAPI)
			theirs := image(t, dst, "amd64", "theirs")
			other := open(t, s.Host+"/team/app")
			var once sync.Once
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				// The planning is over once something is written.
				if r.Method == http.MethodPost {
					once.Do(func() {
						time.Sleep(1100 * time.Millisecond) // a look at the tags counts for a second
						if err := other.SetTags(ctx, theirs, "latest"); err != nil {
							t.Error(err)
						}
					})
				}
				return false
			})
			r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1.0", "latest"}, Move: []string{"latest"}})
			if !errors.Is(err, registry.ErrTagMoves) || reason(err) != "tag-moves" {
				t.Errorf("%v (%s)", err, reason(err))
			}
			if d, err := dst.Tagged(ctx, "latest"); err != nil || d != theirs.Descriptor.Digest {
				t.Errorf("latest names %s, %v", d, err)
			}
			if _, err := dst.Tagged(ctx, "1.0"); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("1.0: %v", err)
			}
			if r.Written == 0 && name == "read back" { // else the manifest was under way
				t.Error("the result does not say what was written")
			}
		})
	}
}

// Blobs begin to travel while referrers of referrers are still being looked for.
func TestBlobsBeginEarly(t *testing.T) {
	t.Parallel()
	from, src := remote(t, regtest.WithAPI)
	rel := newRelease(t, src, "1")
	to, dst := remote(t, regtest.WithAPI)
	src = reopen(t, src)
	began := make(chan struct{})
	var once sync.Once
	to.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			once.Do(func() { close(began) })
		}
		return false
	})
	from.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		// The list of an SBOM is answered once a blob travels.
		if strings.Contains(r.URL.Path, "/referrers/") && !strings.HasSuffix(r.URL.Path, rel.root.Descriptor.Digest.String()) &&
			!slices.ContainsFunc(rel.children, func(m registry.Manifest) bool { return strings.HasSuffix(r.URL.Path, m.Descriptor.Digest.String()) }) {
			select {
			case <-began:
			case <-time.After(5 * time.Second):
				t.Error("no blob began to travel before the whole graph was read")
			}
		}
		return false
	})
	_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1"}})
	must(t, err)
}

// Small requests do not wait behind big bodies: while none of these goes on, all that is small has arrived.
func TestSmallPassesBig(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	var layers []string
	for i := range 8 {
		layers = append(layers, strings.Repeat(fmt.Sprint(i), 300<<10))
	}
	for i := range 40 {
		layers = append(layers, fmt.Sprint("small ", i))
	}
	root := image(t, src, "amd64", layers...)
	s, dst := remote(t, regtest.WithAPI)
	var arrived atomic.Int32
	done := make(chan struct{})
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.ContentLength > 256<<10 {
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				t.Errorf("%d of 41 small blobs have arrived", arrived.Load())
			}
			return false
		}
		if r.Method == http.MethodPost && r.ContentLength > 0 && arrived.Add(1) == 41 {
			close(done)
		}
		return false
	})
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
}

// Cancelled at any moment, it returns at once and leaves no goroutine behind (I6).
func TestCancelled(t *testing.T) {
	src := places[2].open(t)
	rel := newRelease(t, src, "1")
	before := runtime.NumGoroutine()
	for _, at := range []string{"/manifests/1", "/blobs/uploads/", "/manifests/" + rel.root.Descriptor.Digest.String(), "/referrers/"} {
		func() {
			s := regtest.Start(regtest.WithAPI)
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, at) || strings.HasSuffix(at, "/referrers/") && strings.Contains(r.URL.Path, at) {
					_, _ = io.Copy(io.Discard, r.Body) // a server sees that its client is gone once it has read what it sent
					cancel()
					<-r.Context().Done()
					return true
				}
				return false
			})
			c := client(t)
			dst, err := c.Open(ctx, reference(t, s.Host+"/app"))
			must(t, err)
			began := time.Now()
			if _, err = copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1"}}); !errors.Is(err, context.Canceled) {
				t.Errorf("at %s: %v", at, err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("at %s it took %s", at, took)
			}
			if n := s.Count(func(r regtest.Request) bool { return isTag(r, "1") }); n != 0 {
				t.Errorf("at %s: the tag was written", at)
			}
		}()
	}
	for until := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			var b [1 << 16]byte
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b[:], true)])
		}
	}
}

// C03: what a registry says of filters is believed by nobody: types are looked at here.
func TestC03FiltersApplied(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithAPI)
	rel := newRelease(t, src, "1")
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") {
			w.Header().Set("OCI-Filters-Applied", "artifactType")
		}
		return false
	})
	r, err := copy.Artifact(ctx, places[0].open(t), reopen(t, src), rel.root, copy.Options{Tags: []string{"1"}, Referrers: copy.Signatures})
	must(t, err)
	same(t, "counts", []int{3, 0, 3}, []int{r.Images, r.Referrers, r.Signatures})
}

// C05: referrers of referrers deeper than the bound are an error, not a part, and nothing is tagged.
func TestC05Depth(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	root := image(t, src, "amd64", "layer")
	for at, i := root, 0; i < registry.MaxDepth+1; i++ {
		at = refer(t, src, at, "application/x", fmt.Sprint("depth ", i))
	}
	s, dst := remote(t, regtest.WithAPI)
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	if !errors.Is(err, registry.ErrTooLarge) || reason(err) != "too-large" {
		t.Errorf("%v (%s)", err, reason(err))
	}
	if n := s.Count(func(r regtest.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/")
	}); n != 0 {
		t.Errorf("%d manifests were written", n)
	}
}

// C05: a list that leads in a circle ends.
func TestC05Circle(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithoutAPI)
	root := image(t, src, "amd64", "layer")
	sbom := refer(t, src, root, "application/spdx+json", "sbom")
	// The SBOM's own list claims that root and the SBOM refer to it.
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{root.Descriptor, sbom.Descriptor}}
	x.SchemaVersion = 2
	b, err := json.Marshal(x)
	must(t, err)
	m := registry.NewManifest(x.MediaType, b)
	must(t, src.PushManifest(ctx, m))
	must(t, src.Tag(ctx, m, "sha256-"+sbom.Descriptor.Digest.Encoded()))
	_ = s
	r, err := copy.Artifact(ctx, places[0].open(t), reopen(t, src), root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	same(t, "counts", []int{1, 1}, []int{r.Images, r.Referrers})
	if len(r.Warnings) != 2 {
		t.Errorf("%q", r.Warnings)
	}
}

// C16: a schema 1 manifest is refused, as root and as a child.
func TestC16Schema1(t *testing.T) {
	t.Parallel()
	src, dst := places[2].open(t), places[2].open(t)
	old := registry.NewManifest("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"name":"app","tag":"1","fsLayers":[],"history":[]}`))
	must(t, src.PushManifest(ctx, old))
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{old.Descriptor}}
	x.SchemaVersion = 2
	index := encode(t, x.MediaType, x)
	must(t, src.PushManifest(ctx, index))
	for name, root := range map[string]registry.Manifest{"root": old, "child": index} {
		_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
		if !errors.Is(err, registry.ErrMalformed) || reason(err) == "" || !strings.Contains(err.Error(), "schema 1") {
			t.Errorf("%s: %v (%s)", name, err, reason(err))
		}
		if _, err := dst.Tagged(ctx, "1"); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%s: the tag: %v", name, err)
		}
	}
}
