package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// pushed is an image with n referrers that are stored and not confirmed.
func pushed(t *testing.T, r *Repo, n int) (Manifest, []Manifest) {
	t.Helper()
	subject := putImage(t, r, nil, "", "layer")
	var all []Manifest
	for i := range n {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/x", Config: ocispec.DescriptorEmptyJSON,
			Layers: []ocispec.Descriptor{}, Subject: &subject.Descriptor, Annotations: map[string]string{"n": fmt.Sprint(i)}}
		m.SchemaVersion = 2
		putBytes(t, r, m.Config, ocispec.DescriptorEmptyJSON.Data)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, NewManifest(m.MediaType, b))
		if err := r.PushManifest(context.Background(), all[i]); err != nil {
			t.Fatal(err)
		}
	}
	return subject, all
}

func openAt(t *testing.T, s *regtest.Server) *Repo {
	t.Helper()
	c, err := NewClient(Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(context.Background(), Reference{Kind: Remote, Host: s.Host, Path: "team/app"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func puts(s *regtest.Server) []string {
	var out []string
	for _, r := range s.Requests() {
		if r.Method == http.MethodPut {
			out = append(out, r.Path[strings.LastIndex(r.Path, "/")+1:])
		}
	}
	return out
}

// Once confirmed everything is listed, with as few writes as the registry needs: none with the API, one of the tag
// schema without it, and none where it is listed already.
func TestConfirm(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		kind   regtest.Kind
		deaf   bool // G13: the API is there, lists nothing and takes no notice
		writes int
	}{
		{"with API", regtest.WithAPI, false, 0},
		{"without API", regtest.WithoutAPI, false, 1},
		{"G13 an API that takes no notice", regtest.WithoutAPI, true, 3 + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, c.kind)
			if c.deaf {
				s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, "/referrers/") {
						return false
					}
					w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
					_, _ = w.Write([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
					return true
				})
			}
			r := openAt(t, s)
			subject, all := pushed(t, r, 3)
			s.Reset()
			if err := openAt(t, s).Confirm(ctx, subject.Descriptor, all...); err != nil {
				t.Fatal(err)
			}
			if w := puts(s); len(w) != c.writes {
				t.Errorf("%d writes, want %d: %q", len(w), c.writes, w)
			}
			list, err := openAt(t, s).Referrers(ctx, subject.Descriptor, "")
			if err != nil || len(list) != 3 {
				t.Errorf("%d are listed, %v", len(list), err)
			}
			s.Reset()
			if err := r.Confirm(ctx, subject.Descriptor, all...); err != nil {
				t.Fatal(err)
			}
			if w := puts(s); len(w) != 0 && !c.deaf {
				t.Errorf("again it wrote %q", w)
			}
		})
	}
}

// What the registry has forgotten is pushed again, and nothing else. If it forgets for ever, that is said.
func TestConfirmForgotten(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, times := range map[string]int32{"once": 1, "for ever": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			r := openAt(t, s)
			subject, all := pushed(t, r, 2)
			lost := NewManifest(ocispec.MediaTypeImageManifest, []byte(strings.Replace(string(all[1].Bytes), `"n":"1"`, `"n":"lost"`, 1)))
			var n atomic.Int32
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, lost.Descriptor.Digest.String()) || n.Add(1) > times {
					return false
				}
				w.Header().Set("OCI-Subject", subject.Descriptor.Digest.String())
				w.WriteHeader(http.StatusCreated)
				return true
			})
			if err := r.PushManifest(ctx, lost); err != nil {
				t.Fatal(err)
			}
			s.Reset()
			err := r.Confirm(ctx, subject.Descriptor, append(all, lost)...)
			if times == 1 {
				if err != nil || !slices.Equal(puts(s), []string{lost.Descriptor.Digest.String()}) {
					t.Errorf("%v, written: %q", err, puts(s))
				}
				return
			}
			if !errors.Is(err, ErrUnsettled) {
				t.Errorf("%v", err)
			}
			if slices.ContainsFunc(puts(s), func(at string) bool { return at != lost.Descriptor.Digest.String() }) {
				t.Errorf("written: %q", puts(s))
			}
		})
	}
}

// G11: where the API lists nothing the tag schema is asked too, but within a graph not of what the API itself has listed.
func TestG11AskedOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := regtest.New(t, regtest.WithAPI)
	r := openAt(t, s)
	subject, all := pushed(t, r, 1)
	lonely := putImage(t, r, nil, "", "another layer")
	r = openAt(t, s)
	tags := func() int {
		return s.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/manifests/sha256-") })
	}
	for _, c := range []struct {
		m          Manifest
		list, tags int
	}{{subject, 1, 0}, {lonely, 0, 1}} {
		s.Reset()
		n, _, err := r.Graph(ctx, c.m, GraphOptions{})
		if err != nil || len(n.Referrers) != c.list || tags() != c.tags {
			t.Errorf("%s: %v, %d requests of the tag schema, %v", c.m.Descriptor.Digest, n, tags(), err)
		}
	}
	s.Reset()
	if list, err := r.Referrers(ctx, all[0].Descriptor, ""); err != nil || len(list) != 0 || tags() != 1 {
		t.Errorf("by itself: %d listed, %d requests of the tag schema, %v", len(list), tags(), err)
	}
}

// A registry gains the API without taking the tags over, and an SBOM is pushed once more since: the API lists it, and
// knows nothing of its signature, which the tag schema has. Who asks for the signatures of the SBOM finds it, also after
// the API has listed the SBOM in the same run (G11).
func TestG11PushedAgainSince(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithoutAPI)
	var listed atomic.Value
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		of, isList := strings.CutPrefix(r.URL.Path, "/v2/app/referrers/")
		lists, ok := listed.Load().(map[string]ocispec.Descriptor)
		if !isList || !ok {
			inner.Handler().ServeHTTP(w, r)
			return
		}
		x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
		if d, ok := lists[of]; ok {
			x.Manifests = append(x.Manifests, d)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(x)
	}))
	before := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, before, "image")
	sbom := attachAll(t, before, image, "sbom")[0]
	signature := attachAll(t, before, sbom, "signature of the SBOM")[0]

	listed.Store(map[string]ocispec.Descriptor{image.Descriptor.Digest.String(): sbom.Descriptor})
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	for range 2 {
		if list, err := r.Referrers(t.Context(), image.Descriptor, ""); err != nil || len(list) != 1 {
			t.Fatal(digests(list), err)
		}
		list, err := r.Referrers(t.Context(), sbom.Descriptor, "")
		if diff := cmp.Diff([]string{signature.Descriptor.Digest.String()}, digests(list)); err != nil || diff != "" {
			t.Error(err, diff)
		}
	}
}

// An API that has listed is there. What answers otherwise later (a proxy's error page, one node of many that is older) is
// an error: were the API taken to be gone, signatures would seem not to be there for the rest of the run (G10).
func TestG10FickleAPI(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status   int
		body     string
		sentinel error
	}{
		"404":                     {404, "<html>", ErrUnavailable},
		"405":                     {405, "", ErrUnavailable},
		"501":                     {501, "", ErrUnavailable},
		"200 HTML":                {200, "<html>", ErrUnavailable},
		"404 of an unknown image": {404, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			var warned []string
			r := openTest(t, newTestClient(t, Options{Warn: func(code, _ string) { warned = append(warned, code) }}), s.Host, "app")
			image, other := pushImage(t, r, "image"), pushImage(t, r, "other")
			ms := attachAll(t, r, image, "a")
			if list, err := r.Referrers(t.Context(), image.Descriptor, ""); err != nil || len(list) != 1 {
				t.Fatal(digests(list), err)
			}
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.HasSuffix(req.URL.Path, "/referrers/"+other.Descriptor.Digest.String()) {
					return false
				}
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
				return true
			})
			if list, err := r.Referrers(t.Context(), other.Descriptor, ""); !errors.Is(err, c.sentinel) || len(list) != 0 {
				t.Errorf("%v, %v", digests(list), err)
			}
			list, err := r.Referrers(t.Context(), image.Descriptor, "")
			if diff := cmp.Diff(digestsOf(ms), digests(list)); err != nil || diff != "" {
				t.Error(err, diff)
			}
			if len(warned) != 0 {
				t.Error(warned)
			}
		})
	}
}

// Named tells a tag that does not exist from a repository that does not.
func TestNamed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := regtest.New(t, regtest.WithAPI)
	r := openAt(t, s)
	if d, repository, err := r.Named(ctx, "1", "sha256"); d != "" || repository || err != nil {
		t.Errorf("%q, %v, %v", d, repository, err)
	}
	m := putImage(t, r, nil, "", "layer")
	if d, repository, err := r.Named(ctx, "1", "sha256"); d != "" || !repository || err != nil {
		t.Errorf("%q, %v, %v", d, repository, err)
	}
	if err := r.SetTags(ctx, m, "1"); err != nil {
		t.Fatal(err)
	}
	if d, repository, err := r.Named(ctx, "1", "sha256"); d != m.Descriptor.Digest || !repository || err != nil {
		t.Errorf("%q, %v, %v", d, repository, err)
	}
	l := newLayout(t)
	if d, repository, err := l.Named(ctx, "1", "sha256"); d != "" || !repository || err != nil {
		t.Errorf("%q, %v, %v", d, repository, err)
	}
}
