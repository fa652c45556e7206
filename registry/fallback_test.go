package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// Twenty writers that share nothing but the registry lose none of their entries (CASES.md F24).
func TestF24FallbackRace(t *testing.T) {
	t.Parallel()
	const writers, rounds = 20, 3
	s := regtest.New(t, regtest.WithoutAPI)
	for round := range rounds {
		name := fmt.Sprintf("race%d", round)
		newRepo := func() *Repo {
			c, err := NewClient(Options{})
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
		if diff := cmp.Diff(digestsOf(want), digests(list)); diff != "" {
			t.Fatalf("round %d: %d of %d listed:\n%s", round, len(list), writers, diff)
		}
	}
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

// A ghost in the list, whose manifest somebody deleted, does not keep others from writing: the registry refuses it, and it is left out.
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
	// The second entry is a ghost: nothing has that digest. Registries check that entries exist, so it is left out where we store it.
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

// What is at the fallback tag is believed only if it can be a list of referrers, and never overwritten otherwise (CASES.md G12).
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

// hide makes a registry with the API look like one without: the list is hidden, and so is OCI-Subject.
type withoutAPI struct {
	next   http.Handler
	hidden bool
	quiet  bool // OCI-Subject is never sent
}

func (h *withoutAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.hidden && strings.Contains(r.URL.Path, "/referrers/") {
		http.NotFound(w, r)
		return
	}
	if h.hidden || h.quiet {
		w = dropSubject{w}
	}
	h.next.ServeHTTP(w, r)
}

type dropSubject struct{ http.ResponseWriter }

func (d dropSubject) WriteHeader(status int) {
	d.Header().Del("OCI-Subject")
	d.ResponseWriter.WriteHeader(status)
}

// A registry that has the API and does not say OCI-Subject is asked for the list, and the tag is left alone (CASES.md G13).
func TestG13NoSubjectHeader(t *testing.T) {
	t.Parallel()
	h := &withoutAPI{next: regtest.Start(regtest.WithAPI).Handler(), quiet: true}
	s := regtest.Serve(t, h)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	s.Reset()
	attachAll(t, r, image, "a")
	if diff := cmp.Diff([]string{"PUT manifests/sha256:… 201", "GET referrers/sha256:… 200"}, calls(s)); diff != "" {
		t.Error(diff)
	}
}

// The API is there, does not say OCI-Subject and does not list either: the tag is written, and read.
func TestG13APIThatListsNothing(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	s2 := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = w.Write([]byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`))
			return
		}
		s.Handler().ServeHTTP(dropSubject{w}, r)
	}))
	r := openTest(t, newTestClient(t, Options{}), s2.Host, "app")
	image := pushImage(t, r, "image")
	ms := attachAll(t, r, image, "a")
	list, err := r.Referrers(t.Context(), image.Descriptor, "")
	if diff := cmp.Diff(digestsOf(ms), digests(list)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// A registry that gains the API between runs: what the tag lists is found as long as the API lists nothing, and a later write neither moves nor loses
// anything (CASES.md F26, G11).
func TestF26APIAppears(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithAPI)
	h := &withoutAPI{next: inner.Handler(), hidden: true}
	s := regtest.Serve(t, h)
	open := func() *Repo { return openTest(t, newTestClient(t, Options{}), s.Host, "app") }
	before := open()
	image := pushImage(t, before, "image")
	old := attachAll(t, before, image, "old")
	tag := readTag(t, before, fallbackTag(image.Descriptor.Digest))

	h.hidden = false
	after := open()
	fresh := attachAll(t, after, image, "new")
	list, err := after.Referrers(t.Context(), image.Descriptor, "")
	// ociserver knows subjects of manifests that it had before, as registries that migrate do.
	if diff := cmp.Diff(digestsOf(append(old, fresh...)), digests(list)); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if got := readTag(t, after, fallbackTag(image.Descriptor.Digest)); string(got) != string(tag) {
		t.Error("the fallback tag was touched")
	}
	if err := after.Detach(t.Context(), image.Descriptor, old[0].Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	h.hidden = true // and loses it again
	list, err = open().Referrers(t.Context(), image.Descriptor, "")
	if err != nil || len(list) != 0 {
		t.Errorf("the tag still lists %v, %v", digests(list), err)
	}
}

func TestG11TagWhereTheAPIListsNothing(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithoutAPI)
	empty := false
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if empty && strings.Contains(r.URL.Path, "/referrers/") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
			return
		}
		inner.Handler().ServeHTTP(w, r)
	}))
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	ms := attachAll(t, r, image, "old")
	empty = true
	list, err := openTest(t, newTestClient(t, Options{}), s.Host, "app").Referrers(t.Context(), image.Descriptor, "")
	if diff := cmp.Diff(digestsOf(ms), digests(list)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Answers to the referrers API that are not the API (CASES.md G10).
func TestG10NoAPI(t *testing.T) {
	t.Parallel()
	html := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<html>"))
	}
	list := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.list.v2+json")
		_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
	}
	tests := map[string]struct {
		answer func(http.ResponseWriter)
		warned []string
	}{
		"404":                 {func(w http.ResponseWriter) { w.WriteHeader(404) }, nil},
		"405":                 {func(w http.ResponseWriter) { w.WriteHeader(405) }, []string{"referrers-api-odd"}},
		"200 HTML":            {html, []string{"referrers-api-odd"}},
		"200 a manifest list": {list, []string{"referrers-api-odd"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/referrers/") {
					return false
				}
				test.answer(w)
				return true
			})
			var warned []string
			r := openTest(t, newTestClient(t, Options{Warn: func(code, _ string) { warned = append(warned, code) }}), s.Host, "app")
			image := pushImage(t, r, "image")
			ms := attachAll(t, r, image, "a")
			for range 2 {
				list, err := r.Referrers(t.Context(), image.Descriptor, "")
				if diff := cmp.Diff(digestsOf(ms), digests(list)); err != nil || diff != "" {
					t.Error(err, diff)
				}
			}
			if diff := cmp.Diff(test.warned, warned); diff != "" {
				t.Error(diff)
			}
			if n := s.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/referrers/") }); n != 1 {
				t.Errorf("the API was asked %d times", n)
			}
		})
	}
}

func TestG10LargePage(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		for range 50 {
			if _, err := w.Write([]byte(strings.Repeat(" ", 1<<20))); err != nil {
				return
			}
		}
	}))
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	_, err := r.Referrers(t.Context(), blobOf([]byte("x")), "")
	if !errors.Is(err, ErrTooLarge) || reason(err) != "too-large" {
		t.Error(err)
	}
}

// Lists with pages: all are read, but not from elsewhere, not in circles and not for ever (CASES.md C02, C03).
func TestReferrersPages(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, n int, link string) {
		if link != "" {
			w.Header().Set("Link", "<"+link+`>; rel="next"`)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
		d := blobOf([]byte(fmt.Sprint(n)))
		d.ArtifactType = ArtifactTypeSignature
		x.Manifests = []ocispec.Descriptor{d, d}
		other := blobOf([]byte(fmt.Sprint("other", n)))
		other.ArtifactType = "application/x"
		x.Manifests = append(x.Manifests, other) // a filter that was not applied
		_ = json.NewEncoder(w).Encode(x)
	}
	tests := map[string]struct {
		link   func(n int) string
		count  int
		reason string
	}{
		"three pages": {func(n int) string {
			if n == 3 {
				return ""
			}
			return fmt.Sprintf("/v2/app/referrers/x?page=%d", n+1)
		}, 3, ""},
		"for ever":      {func(n int) string { return fmt.Sprintf("?page=%d", n+1) }, 0, "too-large"},
		"a circle":      {func(int) string { return "?page=1" }, 0, "link-refused"},
		"elsewhere":     {func(int) string { return "https://evil.example/v2/app/referrers/x" }, 0, "link-refused"},
		"another port":  {func(int) string { return "http://127.0.0.1:1/v2/app/referrers/x" }, 0, "link-refused"},
		"no URL at all": {func(int) string { return "http://[::bad" }, 0, "link-refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := 1
				_, _ = fmt.Sscan(r.URL.Query().Get("page"), &n)
				page(w, n, test.link(n))
			}))
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			list, err := r.Referrers(t.Context(), blobOf([]byte("x")), ArtifactTypeSignature)
			if reason(err) != test.reason || len(list) != test.count {
				t.Errorf("%d listed, %v", len(list), err)
			}
			if n := s.Count(nil); n > MaxPages {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// A hostile entry hides no other.
func TestReferrersBadEntries(t *testing.T) {
	t.Parallel()
	good := blobOf([]byte("good"))
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, _ = fmt.Fprintf(w, `{"manifests":[{"digest":"sha256:../../x","size":1},17,{"digest":%q,"size":-1},{"mediaType":"x/y","digest":%q,"size":%d}]}`,
			digest.FromString("negative"), good.Digest, good.Size)
	}))
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	list, err := r.Referrers(t.Context(), blobOf([]byte("x")), "")
	if err != nil || len(list) != 1 || list[0].Digest != good.Digest {
		t.Error(list, err)
	}
}

// An entry that does not state its type is listed whatever type is asked for.
func TestReferrersWithoutType(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	m := referrerTo(t, image, "bare")
	if err := r.PushManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	bare := fallbackIndex{entries: []fallbackEntry{{descriptor: m.Descriptor, raw: json.RawMessage(
		fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, m.Descriptor.MediaType, m.Descriptor.Digest, m.Descriptor.Size))}}}
	putFallback(t, r, image, bare.encode())
	list, err := r.Referrers(t.Context(), image.Descriptor, ArtifactTypeSignature)
	if err != nil || len(list) != 1 {
		t.Error(list, err)
	}
}

// Deleting where it is not possible: the caller can tell, and the entry is out of the list first (CASES.md F20, F27, K19).
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

// The old index is never deleted, so nothing depends on whether it could be (CASES.md F25).
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

// A registry where the change never comes to stay is given up on with its own reason (DESIGN.md exit 7).
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
