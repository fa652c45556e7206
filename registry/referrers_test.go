package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// A withoutAPI makes a registry with the API look like one without: the list is hidden, and so is OCI-Subject.
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

// A registry that has the API and does not say OCI-Subject is asked for the list, and the tag is left alone (G13).
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

// A registry that gains the API between runs: what the tag lists is found as long as the API lists nothing, and a
// later write neither moves nor loses anything (F26, G11).
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

// Answers to the referrers API that are not the API (G10).
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

// Lists with pages: all are read, but not from elsewhere, not in circles and not for ever (C02, C03).
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
		"for ever":      {func(n int) string { return fmt.Sprintf("?page=%d", n+1) }, 0, "list-capped"},
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
			if reason(err) != test.reason || len(list) != test.count || errors.Is(err, ErrCapped) != (test.reason != "") {
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
