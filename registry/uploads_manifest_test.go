package registry

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// A manifest PUT was taken, and its answer lost in a gateway: it is one referrer (F04).
func TestF04StoredButGatewayTimeout(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s := regtest.New(t, kind)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		subject := pushImage(t, r, "image")
		var once sync.Once
		s.Intercept(func(w http.ResponseWriter, req *http.Request) (lost bool) {
			if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/sha256:") {
				once.Do(func() {
					lost = true
					s.Handler().ServeHTTP(discarding{http.Header{}}, req)
					w.WriteHeader(http.StatusGatewayTimeout)
				})
			}
			return lost
		})
		m := referrerTo(t, subject, "one")
		if err := r.Attach(t.Context(), subject.Descriptor, m); err != nil {
			t.Fatal(kind, err)
		}
		list, err := r.Referrers(t.Context(), subject.Descriptor, "")
		if err != nil || !slices.Equal(digests(list), []string{m.Descriptor.Digest.String()}) {
			t.Errorf("%s: %v, %v", kind, digests(list), err)
		}
		if n := s.Count(func(r regtest.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.Path, m.Descriptor.Digest.String())
		}); n != 2 {
			t.Errorf("%s: put %d times", kind, n)
		}
	}
}

// A blob that was stored is not seen yet when its manifest comes (F28).
func TestF28ManifestBeforeItsBlobIsSeen(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		status   int
		unknown  int // answers
		absent   bool
		tries    int
		sentinel error
		reason   string
	}{
		{"a while", 400, 3, false, 4, nil, ""},
		{"404 to HEAD for a while, too", 404, 2, true, 3, nil, ""},
		{"for ever", 400, 99, false, maxTries, ErrUnavailable, "registry-unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			c := newTestClient(t, Options{})
			slept := recordSleep(c)
			r := openTest(t, c, s.Host, "app")
			layer := []byte("layer")
			for _, b := range [][]byte{layer, []byte("{}")} {
				if err := r.PushBytes(t.Context(), blobOf(b), b); err != nil {
					t.Fatal(err)
				}
			}
			m := manifestOf(t, map[string]any{
				"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": ocispec.DescriptorEmptyJSON, "layers": []any{blobOf(layer)},
			}, ocispec.MediaTypeImageManifest)
			var puts atomic.Int32
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				switch {
				case req.Method == http.MethodHead && test.absent && int(puts.Load()) <= test.unknown:
					w.WriteHeader(http.StatusNotFound)
					return true
				case req.Method != http.MethodPut || int(puts.Add(1)) > test.unknown:
					return false
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`)
				return true
			})
			err := r.PushManifest(t.Context(), m)
			if !errors.Is(err, test.sentinel) || reason(err) != test.reason {
				t.Error(err)
			}
			if int(puts.Load()) != test.tries || len(slept()) != test.tries-1 {
				t.Errorf("put %d times, slept %v", puts.Load(), slept())
			}
			if err != nil && s.Count(func(r regtest.Request) bool { return r.Method == http.MethodHead }) < 2 {
				t.Errorf("the blobs were not asked for: %v", calls(s))
			}
		})
	}
}

// A blob that nobody has put is not waited for.
func TestF28ManifestWithoutItsBlob(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	c := newTestClient(t, Options{})
	slept := recordSleep(c)
	m := manifestOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": ocispec.DescriptorEmptyJSON, "layers": []any{blobOf([]byte("never"))},
	}, ocispec.MediaTypeImageManifest)
	err := openTest(t, c, s.Host, "app").PushManifest(t.Context(), m)
	if err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "is not there") || len(slept()) != 0 {
		t.Errorf("slept %v: %v", slept(), err)
	}
}

// The same of the children of an index.
func TestF28IndexBeforeItsChildIsSeen(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]bool{"put": true, "never put": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			c := newTestClient(t, Options{})
			slept := recordSleep(c)
			r := openTest(t, c, s.Host, "app")
			child := pushImage(t, r, "child")
			if !put {
				child = manifestOf(t, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest}, ocispec.MediaTypeImageManifest)
			}
			index := manifestOf(t, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child.Descriptor}}, ocispec.MediaTypeImageIndex)
			index = NewManifest(ocispec.MediaTypeImageIndex, bytes.Replace(index.Bytes, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1))
			var puts atomic.Int32
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPut || puts.Add(1) > 2 {
					return false
				}
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`)
				return true
			})
			err := r.PushManifest(t.Context(), index)
			if put && (err != nil || len(slept()) != 2) {
				t.Errorf("slept %v: %v", slept(), err)
			}
			if !put && (reason(err) != "not-found" || !strings.Contains(err.Error(), child.Descriptor.Digest.String()) || len(slept()) != 0) {
				t.Errorf("slept %v: %v", slept(), err)
			}
		})
	}
}

// A registry that answers well and forgets is noticed before there is a tag (G14).
func TestG14PutAndForgotten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		times  int32
		reason string
	}{"once": {1, ""}, "always": {99, CodeUnsettled}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			subject := pushImage(t, r, "image")
			var puts atomic.Int32
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPut || puts.Add(1) > test.times {
					return false
				}
				w.Header().Set("OCI-Subject", subject.Descriptor.Digest.String())
				w.WriteHeader(http.StatusCreated)
				return true
			})
			m := referrerTo(t, subject, "one")
			if err := r.PushManifest(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			err := r.Confirm(t.Context(), subject.Descriptor, m)
			if reason(err) != test.reason || errors.Is(err, ErrUnsettled) != (test.reason != "") {
				t.Error(err)
			}
			list, err := r.Referrers(t.Context(), subject.Descriptor, "")
			if err != nil || len(list) != 1 && test.reason == "" {
				t.Errorf("%v, %v", digests(list), err)
			}
		})
	}
}

// A tag that may not change is said to be so (G16).
func TestG16ImmutableTag(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status int
		body   string
		taken  bool // the tag names something else
		reason string
	}{
		{"ECR", 400, `{"errors":[{"code":"TAG_INVALID","message":"The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable."}]}`, true, "tag-immutable"},
		{"Harbor", 412, `{"errors":[{"code":"PRECONDITION","message":"Failed to process request due to 'app:v1' configured as immutable."}]}`, true, "tag-immutable"},
		{"409", 409, ``, true, "tag-immutable"},
		{"ocimem", 403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied: cannot overwrite tag"}]}`, true, "tag-immutable"},
		{"403 without a word", 403, ``, true, "tag-immutable"},
		{"403, and no such tag", 403, ``, false, "forbidden"},
		{"400 for the manifest", 400, `{"errors":[{"code":"MANIFEST_INVALID"}]}`, true, "refused"},
		{"401", 401, ``, true, "unauthorized"},
		{"503", 503, ``, true, "registry-unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			m := pushImage(t, r, "new")
			if test.taken {
				if err := r.Tag(t.Context(), pushImage(t, r, "old"), "v1"); err != nil {
					t.Fatal(err)
				}
			}
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPut {
					return false
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
				return true
			})
			for what, err := range map[string]error{"Tag": r.Tag(t.Context(), m, "v1"), "SetTags": r.SetTags(t.Context(), m, "v1"), "SetTags of two": r.SetTags(t.Context(), m, "v1", "v2")} {
				if reason(err) != test.reason || !strings.Contains(err.Error(), fmt.Sprint(test.status)) {
					t.Errorf("%s: %s: %v", what, reason(err), err)
				}
				if test.reason == "tag-immutable" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "v1")) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// A registry that knows sha256 only says so in a way that a person understands (C14).
func TestC14OtherDigests(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		for _, size := range []int{1000, 100_000} {
			s := regtest.New(t, kind)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			b := randomBytes(size, 15)
			sum := sha512.Sum512(b)
			d := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.NewDigestFromBytes(digest.SHA512, sum[:]), Size: int64(size)}
			_, err := r.PushBlob(t.Context(), d, nil, BytesBody(b))
			t.Logf("%s %d: %v %v", kind, size, err, calls(s))
			if err == nil {
				// Then it is there, under that digest.
				rc, err := r.Blob(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%s: %d bytes, %v", kind, len(got), err)
				}
				_ = rc.Close()
				continue
			}
			if !errors.Is(err, ErrUnsupported) || reason(err) != "unsupported" || !strings.Contains(err.Error(), "takes no sha512 digests") {
				t.Errorf("%s: %v", kind, err)
			}
			isAbsent(t, r, d)
		}
	}
	s := regtest.New(t, regtest.WithAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	m := pushImage(t, r, "image")
	m.Descriptor.Digest = digest.SHA512.FromBytes(m.Bytes)
	err := r.PushManifest(t.Context(), m)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "takes no sha512 digests") {
		t.Error(err)
	}
	if tags := listTags(t, r); len(tags) != 0 {
		t.Errorf("tags %v", tags)
	}
}

func listTags(t *testing.T, r *Repo) []string {
	t.Helper()
	var tags []string
	for tag, err := range r.Tags(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	return tags
}

// manyTags is a registry that writes the tags of ?tag= and says so (end-7b of the distribution specification).
func manyTags(next http.Handler, takes func(tag string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tags := r.URL.Query()["tag"]
		if r.Method != http.MethodPut || len(tags) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		b, _ := io.ReadAll(r.Body)
		var taken []string
		for _, tag := range tags {
			if !takes(tag) {
				continue
			}
			one := r.Clone(r.Context())
			one.URL.RawQuery = ""
			one.URL.Path = r.URL.Path[:strings.LastIndex(r.URL.Path, "/")+1] + tag
			one.Body = io.NopCloser(bytes.NewReader(b))
			next.ServeHTTP(discarding{http.Header{}}, one)
			taken = append(taken, tag)
		}
		if len(taken) > 2 { // either form of RFC 9110 section 5.3
			w.Header().Add("OCI-Tag", strings.Join(taken[:2], ", "))
			taken = taken[2:]
		}
		for _, tag := range taken {
			w.Header().Add("OCI-Tag", tag)
		}
		w.WriteHeader(http.StatusCreated)
	})
}

func TestSetTags(t *testing.T) {
	t.Parallel()
	twelve := strings.Split("a b c d e f g h i j k l", " ")
	for _, test := range []struct {
		name  string
		takes func(string) bool // nil: the registry knows nothing of it
		calls [][]string        // with tags of each
		want  []int             // requests of each
	}{
		{"honoured", func(string) bool { return true }, [][]string{{"a"}, {"a", "b", "c", "d"}, {"e", "f"}, twelve}, []int{1, 1, 1, 2}},
		{"in part", func(t string) bool { return t != "b" }, [][]string{{"a", "b", "c"}, {"b", "c"}}, []int{2, 2}},
		{"ignored", nil, [][]string{{"a", "b"}, {"c", "d"}}, []int{3, 2}},
	} {
		for _, kind := range regtest.Kinds {
			t.Run(test.name+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				handler := regtest.New(t, kind).Handler()
				if test.takes != nil {
					handler = manyTags(handler, test.takes)
				}
				s := regtest.Serve(t, handler)
				r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
				m := pushImage(t, r, "image")
				for i, tags := range test.calls {
					s.Reset()
					if err := r.SetTags(t.Context(), m, tags...); err != nil {
						t.Fatal(err)
					}
					if n := s.Count(nil); n != test.want[i] {
						t.Errorf("%v: %d requests: %v", tags, n, calls(s))
					}
					for _, tag := range tags {
						if d, err := r.Tagged(t.Context(), tag); err != nil || d != m.Descriptor.Digest {
							t.Errorf("%s names %s, %v", tag, d, err)
						}
					}
				}
			})
		}
	}
}

// Too many at once, or one that is refused, is no reason to write none.
func TestSetTagsRefusedTogether(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge, http.StatusBadRequest, http.StatusNotFound} {
		s := regtest.New(t, regtest.WithAPI)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		m := pushImage(t, r, "image")
		s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if !req.URL.Query().Has("tag") {
				return false
			}
			w.WriteHeader(status)
			return true
		})
		if err := r.SetTags(t.Context(), m, "a", "b", "c"); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		if diff := cmp.Diff([]string{"a", "b", "c"}, listTags(t, r)); diff != "" {
			t.Errorf("%d: %s", status, diff)
		}
	}
}
