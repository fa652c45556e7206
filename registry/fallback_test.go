package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

func attachAll(t testing.TB, r *Repo, subject Manifest, notes ...string) []Manifest {
	t.Helper()
	var ms []Manifest
	for _, n := range notes {
		ms = append(ms, referrerTo(t, subject, n))
	}
	if err := r.Attach(t.Context(), subject.Descriptor, ms...); err != nil {
		t.Fatal(err)
	}
	return ms
}

func digestsOf(ms []Manifest) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Descriptor.Digest.String())
	}
	slices.Sort(out)
	return out
}

func TestF23AttachListDetach(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			image := pushImage(t, r, "image")
			if list, err := r.Referrers(t.Context(), image.Descriptor, ""); err != nil || len(list) != 0 {
				t.Fatalf("before: %v, %v", list, err)
			}
			ms := attachAll(t, r, image, "a", "b", "c")
			for _, artifactType := range []string{"", ArtifactTypeSignature} {
				list, err := r.Referrers(t.Context(), image.Descriptor, artifactType)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(digestsOf(ms), digests(list)); diff != "" {
					t.Error(diff)
				}
				for _, e := range list {
					if e.ArtifactType != ArtifactTypeSignature || e.Annotations[AnnotationThumbprint] == "" {
						t.Errorf("entry without its hints: %+v", e)
					}
				}
			}
			if list, err := r.Referrers(t.Context(), image.Descriptor, "application/x"); err != nil || len(list) != 0 {
				t.Errorf("of another type: %v, %v", list, err)
			}
			if err := r.Detach(t.Context(), image.Descriptor, ms[1].Descriptor.Digest); err != nil {
				t.Fatal(err)
			}
			list, err := r.Referrers(t.Context(), image.Descriptor, "")
			if diff := cmp.Diff(digestsOf([]Manifest{ms[0], ms[2]}), digests(list)); err != nil || diff != "" {
				t.Error(err, diff)
			}
			if has, err := r.HasManifest(t.Context(), ms[1].Descriptor); err != nil || has {
				t.Errorf("the detached manifest is still there: %v, %v", has, err)
			}
			// What is gone already is no error.
			if err := r.Detach(t.Context(), image.Descriptor, ms[1].Descriptor.Digest); err != nil {
				t.Error(err)
			}
		})
	}
}

// Attaching costs one request with the API; on the tag schema at most four more and the settling read (issue 2, "requests").
func TestAttachRequests(t *testing.T) {
	t.Parallel()
	for kind, want := range map[regtest.Kind][]string{
		regtest.WithAPI: {"GET referrers/sha256:… 200", "GET manifests/sha256-… 404", "PUT manifests/sha256:… 201", "GET referrers/sha256:… 200"},
		regtest.WithoutAPI: {
			"GET referrers/sha256:… 404", "GET manifests/sha256-… 404", "PUT manifests/sha256:… 201",
			"GET manifests/sha256-… 404", "PUT manifests/sha256-… 201", "GET manifests/sha256-… 200", "GET manifests/sha256-… 200", // settled
			"GET manifests/sha256-… 200",
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			image := pushImage(t, r, "image")
			s.Reset()
			if _, err := r.Referrers(t.Context(), image.Descriptor, ArtifactTypeSignature); err != nil {
				t.Fatal(err)
			}
			ms := attachAll(t, r, image, "a")
			if list, err := r.Referrers(t.Context(), image.Descriptor, ArtifactTypeSignature); err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			if diff := cmp.Diff(want, calls(s)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if kind == regtest.WithAPI {
				return
			}
			// What is listed already is not written.
			s.Reset()
			if err := r.Attach(t.Context(), image.Descriptor, ms...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"PUT manifests/sha256:… 201", "GET manifests/sha256-… 200"}, calls(s)); diff != "" {
				t.Errorf("again (-want +got):\n%s", diff)
			}
		})
	}
}

// Twenty writers that share nothing but the registry lose none of their entries (F24). A writer that its machine holds up for
// longer than the others wait can overwrite what it has not seen: no registry compares and swaps. A round in which the registry
// saw one proves nothing, and is told again.
func TestF24FallbackRace(t *testing.T) {
	t.Parallel()
	const writers, rounds = 20, 3
	s := regtest.New(t, regtest.WithoutAPI)
	for round, held := 0, 0; round < rounds; round++ {
		name := fmt.Sprintf("race%d.%d", round, held)
		newRepo := func() *Repo {
			c, err := NewClient(Options{UserAgent: fmt.Sprintf("writer/%d", rand.Uint64())})
			if err != nil {
				t.Fatal(err)
			}
			return openTest(t, c, s.Host, name)
		}
		first := newRepo()
		image := pushImage(t, first, name)
		want := make([]Manifest, writers)
		errs := make([]error, writers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range writers {
			want[i] = referrerTo(t, image, fmt.Sprint(i))
			repo := newRepo()
			wg.Go(func() {
				<-start
				errs[i] = repo.Attach(t.Context(), image.Descriptor, want[i])
			})
		}
		begin := time.Now()
		close(start)
		wg.Wait()
		t.Logf("round %d: %s, %d writes of the tag", round, time.Since(begin).Round(time.Millisecond), s.Count(func(r regtest.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.Path, "/"+name+"/manifests/sha256-")
		}))
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		list, err := first.Referrers(t.Context(), image.Descriptor, "")
		if err != nil {
			t.Fatal(err)
		}
		diff := cmp.Diff(digestsOf(want), digests(list))
		if longest := longestUpdate(s.Requests(), "/"+name+"/manifests/sha256-"); diff != "" && longest > contendedSettleWait && held < 5 {
			t.Logf("round %d: %d of %d listed; a writer was held up for %s: once more", round, len(list), writers, longest)
			held++
			round--
			continue
		}
		if diff != "" {
			t.Fatalf("round %d: %d of %d listed:\n%s", round, len(list), writers, diff)
		}
	}
}

// longestUpdate is the longest time that a writer took from asking for the tag to having written it, as the registry saw it.
func longestUpdate(requests []regtest.Request, tag string) (longest time.Duration) {
	asked := map[string]time.Time{}
	for _, r := range requests {
		switch who := r.Header.Get("User-Agent"); {
		case !strings.Contains(r.Path, tag):
		case r.Method == http.MethodGet:
			asked[who] = r.Begin
		case r.Method == http.MethodPut && !asked[who].IsZero():
			longest = max(longest, r.End.Sub(asked[who]))
		}
	}
	return longest
}

// Writers and removers at the same time: what was removed stays removed, the rest stays.
func TestF24RemoveWhileAdding(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	newRepo := func() *Repo {
		c, err := NewClient(Options{})
		if err != nil {
			t.Fatal(err)
		}
		return openTest(t, c, s.Host, "app")
	}
	first := newRepo()
	image := pushImage(t, first, "image")
	var old, added []Manifest
	old = attachAll(t, first, image, "old 0", "old 1", "old 2", "old 3")
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range 4 {
		m := referrerTo(t, image, fmt.Sprint("new ", i))
		added = append(added, m)
		adder, remover := newRepo(), newRepo()
		wg.Go(func() { errs[i] = adder.Attach(t.Context(), image.Descriptor, m) })
		wg.Go(func() { errs[4+i] = remover.Detach(t.Context(), image.Descriptor, old[i].Descriptor.Digest) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	list, err := first.Referrers(t.Context(), image.Descriptor, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(digestsOf(added), digests(list)); diff != "" {
		t.Error(diff)
	}
}

// A ghost in the list, whose manifest somebody deleted, does not keep others from writing: the registry refuses it,
// and it is left out.
func TestFallbackGhost(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	old := attachAll(t, r, image, "stays", "ghost")
	if _, err := r.store.(*remote).exec(t.Context(), call{method: http.MethodDelete, path: "manifests/" + old[1].Descriptor.Digest.String(), action: actionDelete}); err != nil {
		t.Fatal(err)
	}
	ours := attachAll(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"), image, "ours")
	list, err := r.Referrers(t.Context(), image.Descriptor, "")
	if diff := cmp.Diff(digestsOf(append(old[:1], ours...)), digests(list)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// What somebody has overwritten is put back, unless its manifest is gone or we took it out ourselves.
func TestFallbackPutsBack(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	client := newTestClient(t, Options{})
	r := openTest(t, client, s.Host, "app")
	image := pushImage(t, r, "image")
	old := attachAll(t, r, image, "stays", "deleted by another", "removed by us")
	rival := referrerTo(t, image, "rival")
	if err := r.PushManifest(t.Context(), rival); err != nil {
		t.Fatal(err)
	}
	client.repo(s.Host+"/app").setRemoved(old[2].Descriptor.Digest, true)

	other := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	tag := fallbackTag(image.Descriptor.Digest)
	var once sync.Once
	s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		mine := false
		if req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, tag) {
			once.Do(func() { mine = true })
		}
		if !mine {
			return false
		}
		// Between our reading and our writing a rival who had read the empty list writes, and his write is the later one.
		s.Intercept(nil)
		e, err := describeReferrer(rival)
		if err != nil {
			t.Error(err)
		}
		putFallback(t, other, image, fallbackIndex{entries: []fallbackEntry{e}}.encode())
		gone := call{method: http.MethodDelete, path: "manifests/" + old[1].Descriptor.Digest.String(), action: actionDelete}
		if _, err := other.store.(*remote).exec(t.Context(), gone); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		return true
	})
	ours := attachAll(t, r, image, "ours")
	list, err := r.Referrers(t.Context(), image.Descriptor, "")
	if diff := cmp.Diff(digestsOf([]Manifest{old[0], rival, ours[0]}), digests(list)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// While we settle, others write. An entry that came after ours and was overwritten is put back, for who wrote it may have
// ended; one that was there before us and that somebody who had read ours left out was taken out on purpose.
func TestFallbackMindsOthers(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	other := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	old := attachAll(t, r, image, "removed on purpose")[0]
	later, last := referrerTo(t, image, "later"), referrerTo(t, image, "last")
	for _, m := range []Manifest{later, last} {
		if err := r.PushManifest(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	ours := referrerTo(t, image, "ours")
	list := func(manifests ...Manifest) Manifest {
		var x fallbackIndex
		for _, m := range manifests {
			e, err := describeReferrer(m)
			if err != nil {
				t.Error(err)
			}
			x.add(e)
		}
		return x.encode()
	}
	// What others write before each of our readings that follow our writing.
	writes := []Manifest{list(old, ours, later), list(ours, last)}
	tag, written := fallbackTag(image.Descriptor.Digest), false
	var mu sync.Mutex
	s.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, tag) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if req.Method == http.MethodPut {
			written = true
			return false
		}
		if written && len(writes) > 0 {
			m := writes[0]
			writes = writes[1:]
			put := httptest.NewRequest(http.MethodPut, "/v2/app/manifests/"+tag, bytes.NewReader(m.Bytes))
			put.Header.Set("Content-Type", m.Descriptor.MediaType)
			answer := httptest.NewRecorder()
			if s.Handler().ServeHTTP(answer, put); answer.Code != http.StatusCreated {
				t.Errorf("others' write: %d %s", answer.Code, answer.Body)
			}
		}
		return false
	})
	if err := r.Attach(t.Context(), image.Descriptor, ours); err != nil {
		t.Fatal(err)
	}
	got, err := other.Referrers(t.Context(), image.Descriptor, "")
	if diff := cmp.Diff(digestsOf([]Manifest{ours, last, later}), digests(got)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// A rival who puts the entry back while its manifest still answers does not leave a ghost behind: the list is looked
// at again after the deletion.
func TestDetachLeavesNoGhost(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	ms := attachAll(t, r, image, "stays", "goes")
	before := readTag(t, r, fallbackTag(image.Descriptor.Digest))
	other := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	s.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodDelete {
			putFallback(t, other, image, Manifest{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}, Bytes: before})
		}
		return false
	})
	if err := r.Detach(t.Context(), image.Descriptor, ms[1].Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	list, err := r.Referrers(t.Context(), image.Descriptor, "")
	if diff := cmp.Diff(digestsOf(ms[:1]), digests(list)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Within one process writers take turns: nobody overwrites anybody.
func TestAttachTakesTurns(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	const writers = 8
	errs := make([]error, writers)
	var want []Manifest
	var wg sync.WaitGroup
	for i := range writers {
		m := referrerTo(t, image, fmt.Sprint(i))
		want = append(want, m)
		wg.Go(func() { errs[i] = r.Attach(t.Context(), image.Descriptor, m) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	writes := s.Count(func(r regtest.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.Path, "sha256-")
	})
	list, err := r.Referrers(t.Context(), image.Descriptor, "")
	if diff := cmp.Diff(digestsOf(want), digests(list)); err != nil || diff != "" || writes != writers {
		t.Errorf("%d writes, %v\n%s", writes, err, diff)
	}
}

// putFallback writes a fallback tag as another tool would.
func putFallback(t testing.TB, r *Repo, subject Manifest, m Manifest) {
	t.Helper()
	if _, err := r.store.(*remote).putManifest(t.Context(), fallbackTag(subject.Descriptor.Digest), m); err != nil {
		t.Fatal(err)
	}
}

func readTag(t testing.TB, r *Repo, tag string) []byte {
	t.Helper()
	_, b, err := r.store.manifest(t.Context(), tag, "")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Others' entries are carried as they were found, unknown members, numbers and order included.
func TestFallbackKeepsForeignBytes(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	foreign := referrerTo(t, image, "foreign")
	if err := r.PushManifest(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	entry := fmt.Sprintf(`{"size": %d , "x-unknown":{"b":1.50,"a":"<&>"},"digest":"%s","mediaType":"%s","platform":{"os":"linux","architecture":"arm64"}}`,
		foreign.Descriptor.Size, foreign.Descriptor.Digest, foreign.Descriptor.MediaType)
	doc := []byte(`{"annotations":{"k":"<v>"},"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + entry + `,` +
		`{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + foreign.Descriptor.Digest.String()[:70] + `0","size":2,"artifactType":"application/x"}]}`)
	// The second entry is a ghost: nothing has that digest. Registries check that entries exist, so it is left out
	// where we store it.
	doc = []byte(strings.Replace(string(doc), string(doc[strings.Index(string(doc), `,{"mediaType"`):strings.LastIndex(string(doc), "]}")]), "", 1))
	doc = []byte(strings.Replace(string(doc), `,"platform":{"os":"linux","architecture":"arm64"}`, `,"artifactType":"application/x","platform":{"os":"linux","architecture":"arm64"}`, 1))
	entry = strings.Replace(entry, `,"platform"`, `,"artifactType":"application/x","platform"`, 1)
	putFallback(t, r, image, Manifest{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}, Bytes: doc})

	ours := attachAll(t, r, image, "ours")
	got := string(readTag(t, r, fallbackTag(image.Descriptor.Digest)))
	if !strings.Contains(got, entry) || !strings.Contains(got, `"annotations":{"k":"<v>"}`) || !strings.Contains(got, ours[0].Descriptor.Digest.String()) {
		t.Errorf("%s", got)
	}
	if err := r.Detach(t.Context(), image.Descriptor, ours[0].Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	got = string(readTag(t, r, fallbackTag(image.Descriptor.Digest)))
	if !strings.Contains(got, entry) || strings.Contains(got, ours[0].Descriptor.Digest.String()) {
		t.Errorf("after detaching: %s", got)
	}
}

// What is at the fallback tag is believed only if it can be a list of referrers, and never overwritten otherwise (G12).
func TestG12FallbackOccupied(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, r *Repo, image Manifest) Manifest{
		"an image":             func(t *testing.T, r *Repo, _ Manifest) Manifest { return pushImage(t, r, "squatter") },
		"the subject (cosign)": func(_ *testing.T, _ *Repo, image Manifest) Manifest { return image },
		"an image for several platforms": func(t *testing.T, r *Repo, image Manifest) Manifest {
			child := image.Descriptor
			child.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
			return manifestOf(t, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child}}, ocispec.MediaTypeImageIndex)
		},
	}
	for name, squatter := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			var warned []string
			r := openTest(t, newTestClient(t, Options{Warn: func(code, _ string) { warned = append(warned, code) }}), s.Host, "app")
			image := pushImage(t, r, "image")
			m := squatter(t, r, image)
			if m.Descriptor.MediaType == ocispec.MediaTypeImageIndex {
				m.Bytes = []byte(strings.Replace(string(m.Bytes), `"schemaVersion":0`, `"schemaVersion":2`, 1))
			}
			putFallback(t, r, image, m)
			list, err := r.Referrers(t.Context(), image.Descriptor, "")
			if err != nil || len(list) != 0 || !slices.Contains(warned, "fallback-tag-occupied") {
				t.Errorf("listing: %v, %v, warned %v", list, err, warned)
			}
			err = r.Attach(t.Context(), image.Descriptor, referrerTo(t, image, "ours"))
			if !errors.Is(err, ErrMalformed) || reason(err) != "fallback-tag-occupied" {
				t.Errorf("attaching: %v", err)
			}
			if got := readTag(t, r, fallbackTag(image.Descriptor.Digest)); string(got) != string(m.Bytes) {
				t.Error("the tag was overwritten")
			}
		})
	}
}

// Deleting where it is not possible: the caller can tell, and the entry is out of the list first (F20, F27, K19).
func TestF27DeleteRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status   int
		body     string
		sentinel error
		reason   string
	}{
		"F27 no deletion":         {405, `{"errors":[{"code":"UNSUPPORTED"}]}`, ErrUnsupported, "unsupported"},
		"no deletion, said oddly": {400, `{"errors":[{"code":"UNSUPPORTED"}]}`, ErrUnsupported, "unsupported"},
		"F20 forbidden":           {403, `{"errors":[{"code":"DENIED"}]}`, ErrUnauthorized, "forbidden"},
		"referenced by an index":  {400, `{"errors":[{"code":"MANIFEST_REFERENCED","message":"referenced by an index"}]}`, ErrUnsupported, "delete-refused"},
		"gone already":            {404, ``, nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodDelete {
					return false
				}
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
				return true
			})
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			image := pushImage(t, r, "image")
			ms := attachAll(t, r, image, "a", "b")
			err := r.Detach(t.Context(), image.Descriptor, ms[0].Descriptor.Digest)
			if !errors.Is(err, test.sentinel) || reason(err) != test.reason {
				t.Errorf("%s: %v", reason(err), err)
			}
			if s.Count(func(r regtest.Request) bool { return r.Method == http.MethodDelete }) != 1 {
				t.Error("the deletion was tried more than once")
			}
			list, err := r.Referrers(t.Context(), image.Descriptor, "")
			if diff := cmp.Diff(digestsOf(ms[1:]), digests(list)); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

// The old index is never deleted, so nothing depends on whether it could be (F25).
func TestF25OldIndexIsLeft(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	attachAll(t, r, image, "a")
	attachAll(t, r, image, "b")
	if n := s.Count(func(r regtest.Request) bool { return r.Method == http.MethodDelete }); n != 0 {
		t.Errorf("%d deletions", n)
	}
}

// A registry where the change never comes to stay is given up on with its own reason.
func TestUnsettled(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "sha256-") {
			return false
		}
		w.WriteHeader(http.StatusCreated) // and forgets it
		return true
	})
	c := newTestClient(t, Options{})
	slept := time.Duration(0)
	begin := time.Now()
	c.now = func() time.Time { return begin.Add(slept) }
	c.retry.sleep = func(_ context.Context, d time.Duration) error { slept += max(d, time.Second); return nil }
	r := openTest(t, c, s.Host, "app")
	image := pushImage(t, r, "image")
	err := r.Attach(t.Context(), image.Descriptor, referrerTo(t, image, "a"))
	if !errors.Is(err, ErrUnsettled) || reason(err) != "referrers-unsettled" {
		t.Error(err)
	}
}

func TestG12ParseFallback(t *testing.T) {
	t.Parallel()
	index := http.Header{"Content-Type": {ocispec.MediaTypeImageIndex}}
	entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, ocispec.MediaTypeImageManifest, ocispec.DescriptorEmptyJSON.Digest)
	for name, test := range map[string]struct {
		header http.Header
		body   string
		ok     bool
	}{
		"a list":           {index, `{"schemaVersion":2,"manifests":[` + entry + `]}`, true},
		"an empty one":     {index, `{"schemaVersion":2,"manifests":[]}`, true},
		"null":             {index, `{"schemaVersion":2,"manifests":null}`, true},
		"with parameters":  {http.Header{"Content-Type": {ocispec.MediaTypeImageIndex + "; charset=utf-8"}}, `{"manifests":[]}`, true},
		"the subject":      {index, `{"schemaVersion":2,"manifests":[` + entry + `,` + entry + `]}`, false},
		"another type":     {http.Header{"Content-Type": {ocispec.MediaTypeImageManifest}}, `{"manifests":[]}`, false},
		"says another":     {index, `{"mediaType":"x/y","manifests":[]}`, false},
		"both":             {index, `{"manifests":[],"layers":[]}`, false},
		"no JSON":          {index, `<html>`, false},
		"no object":        {index, `[]`, false},
		"no list":          {index, `{"manifests":{}}`, false},
		"no descriptor":    {index, `{"manifests":[{"digest":"x"}]}`, false},
		"a negative size":  {index, strings.Replace(`{"manifests":[`+entry+`]}`, `"size":2`, `"size":-2`, 1), false},
		"has a subject":    {index, `{"manifests":[],"subject":` + entry + `}`, false},
		"trailing rubbish": {index, `{"manifests":[]} {}`, false},
	} {
		subject := digest.FromString("the subject")
		if name == "the subject" {
			subject = digest.FromString(test.body)
		}
		if _, err := parseFallback(test.header, []byte(test.body), subject); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFallbackTag(t *testing.T) {
	t.Parallel()
	for in, want := range map[digest.Digest]string{
		"sha256:" + digest.Digest(strings.Repeat("a", 64)):  "sha256-" + strings.Repeat("a", 64),
		"sha512:" + digest.Digest(strings.Repeat("b", 128)): "sha512-" + strings.Repeat("b", 64),
	} {
		if got := fallbackTag(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
