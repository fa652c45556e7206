package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// newTestClient makes a client that waits little between tries.
func newTestClient(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	c.retry.sleep = func(ctx context.Context, d time.Duration) error { return sleep(ctx, min(d, 5*time.Millisecond)) }
	return c
}

func openTest(t testing.TB, c *Client, host, name string) *Repo {
	t.Helper()
	r, err := c.Open(t.Context(), Reference{Kind: Remote, Host: host, Path: name})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func blobOf(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func manifestOf(t testing.TB, m any, mediaType string) Manifest {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return Manifest{Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}, Bytes: b}
}

// pushImage stores a tiny image.
func pushImage(t testing.TB, r *Repo, text string) Manifest {
	t.Helper()
	layer := []byte(text)
	if err := r.PushBytes(t.Context(), blobOf(layer), layer); err != nil {
		t.Fatal(err)
	}
	if err := r.PushBytes(t.Context(), ocispec.DescriptorEmptyJSON, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	m := manifestOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": ocispec.DescriptorEmptyJSON, "layers": []any{blobOf(layer)},
	}, ocispec.MediaTypeImageManifest)
	if err := r.PushManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// referrerTo makes a referrer whose only layer is the empty configuration.
func referrerTo(t testing.TB, subject Manifest, note string) Manifest {
	t.Helper()
	return manifestOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "artifactType": ArtifactTypeSignature,
		"config": ocispec.DescriptorEmptyJSON, "layers": []any{ocispec.DescriptorEmptyJSON},
		"subject":     ocispec.Descriptor{MediaType: subject.Descriptor.MediaType, Digest: subject.Descriptor.Digest, Size: subject.Descriptor.Size},
		"annotations": map[string]string{AnnotationThumbprint: `["` + note + `"]`},
	}, ocispec.MediaTypeImageManifest)
}

func digests(list []Referrer) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.Digest.String())
	}
	slices.Sort(out)
	return out
}

func reason(err error) string {
	var e interface{ Reason() string }
	if errors.As(err, &e) {
		return e.Reason()
	}
	return ""
}

// calls lists what the registry got as METHOD path-without-/v2/name, digests shortened, for comparisons that read.
func calls(s *regtest.Server) []string {
	var out []string
	for _, r := range s.Requests() {
		path := strings.TrimPrefix(r.Path, "/v2/app/")
		for _, cut := range []string{"sha256:", "sha256-"} {
			if at := strings.Index(path, cut); at >= 0 {
				path = path[:at] + cut + "…"
			}
		}
		if strings.HasPrefix(path, "blobs/uploads/") && path != "blobs/uploads/" {
			path = "blobs/uploads/…"
		}
		query := ""
		switch {
		case strings.Contains(r.Query, "mount="):
			query = "?mount"
		case strings.Contains(r.Query, "digest="):
			query = "?digest"
		}
		out = append(out, fmt.Sprintf("%s %s%s %d", r.Method, path, query, r.Status))
	}
	return out
}

func TestRemoteRoundTrip(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			m := pushImage(t, r, "one layer")
			if err := r.Tag(t.Context(), m, "v1"); err != nil {
				t.Fatal(err)
			}
			got, err := r.Resolve(t.Context(), r.Reference().With("v1", ""))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, got); diff != "" {
				t.Errorf("manifest (-pushed +read):\n%s", diff)
			}
			if d, err := r.Tagged(t.Context(), "v1"); err != nil || d != m.Descriptor.Digest {
				t.Errorf("v1 names %s, %v", d, err)
			}
			if has, err := r.HasManifest(t.Context(), m.Descriptor); err != nil || !has {
				t.Errorf("HasManifest: %v, %v", has, err)
			}
			absent := blobOf([]byte("absent"))
			if has, err := r.HasManifest(t.Context(), absent); err != nil || has {
				t.Errorf("HasManifest of an absent one: %v, %v", has, err)
			}
			if _, err := r.Tagged(t.Context(), "v2"); !errors.Is(err, ErrNotFound) || reason(err) != "not-found" {
				t.Errorf("an absent tag: %v", err)
			}
			if _, err := r.Blob(t.Context(), absent); !errors.Is(err, ErrNotFound) {
				t.Errorf("an absent blob: %v", err)
			}
			rc, err := r.Blob(t.Context(), blobOf([]byte("one layer")))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(rc)
			if err := errors.Join(err, rc.Close()); err != nil || string(b) != "one layer" {
				t.Errorf("blob %q, %v", b, err)
			}
			var tags []string
			for tag, err := range r.Tags(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				tags = append(tags, tag)
			}
			if diff := cmp.Diff([]string{"v1"}, tags); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Requests are counted: fewer cannot be had.
func TestRemoteRequests(t *testing.T) {
	t.Parallel()
	tests := map[regtest.Kind]struct{ first, second, tag, again, blob, there []string }{
		regtest.WithAPI: {
			first:  []string{"POST blobs/uploads/?digest 201"},
			second: []string{"POST blobs/uploads/?digest 201"},
			blob:   []string{"POST blobs/uploads/?mount 404", "POST blobs/uploads/?digest 201"},
		},
		regtest.WithoutAPI: {
			first:  []string{"POST blobs/uploads/?digest 202", "PUT blobs/uploads/…?digest 201"},
			second: []string{"POST blobs/uploads/?mount 202", "PUT blobs/uploads/…?digest 201"},
			blob:   []string{"POST blobs/uploads/?mount 202", "PUT blobs/uploads/…?digest 201"},
		},
	}
	for kind, want := range tests {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			c := newTestClient(t, Options{})
			r := openTest(t, c, s.Host, "app")
			check := func(what string, want []string, do func() error) {
				t.Helper()
				s.Reset()
				if err := do(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if diff := cmp.Diff(want, calls(s)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
			push := func(text string) func() error {
				return func() error { return r.PushBytes(t.Context(), blobOf([]byte(text)), []byte(text)) }
			}
			check("a first small blob", want.first, push("first"))
			check("a second small blob", want.second, push("second"))
			check("the same small blob", nil, push("second"))
			stream := []byte(strings.Repeat("x", 100_000))
			opened := 0
			blob := func(from *Repo, sent int64) func() error {
				return func() error {
					n, err := r.PushBlob(t.Context(), blobOf(stream), from, func(context.Context, int64) (io.ReadCloser, error) {
						opened++
						return io.NopCloser(bytes.NewReader(stream)), nil
					})
					if n.Bytes != sent {
						t.Errorf("%d bytes travelled, not %d", n.Bytes, sent)
					}
					return err
				}
			}
			check("a streamed blob", want.blob, blob(nil, 100_000))
			check("the same streamed blob", nil, blob(nil, 0))
			if opened != 1 {
				t.Errorf("the source was opened %d times", opened)
			}
			sibling := r
			r = openTest(t, c, s.Host, "other")
			s.Reset()
			if err := blob(sibling, 0)(); err != nil || s.Count(nil) != 1 {
				t.Errorf("a mount took %d requests, %v", s.Count(nil), err)
			}
			r = sibling

			m := pushImage(t, r, "image")
			check("a tag", []string{"HEAD manifests/v1 404", "PUT manifests/v1 201"}, func() error { return r.Tag(t.Context(), m, "v1") })
			check("G16 a tag that is right already", []string{"HEAD manifests/v1 200"}, func() error { return r.Tag(t.Context(), m, "v1") })
			check("reading by tag", []string{"GET manifests/v1 200"}, func() error {
				_, err := r.Resolve(t.Context(), r.Reference().With("v1", ""))
				return err
			})
		})
	}
}

func TestG18MountThatOpensASession(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	c := newTestClient(t, Options{})
	from, to := openTest(t, c, s.Host, "from"), openTest(t, c, s.Host, "app")
	b := bytes.Repeat([]byte("a blob that the sibling does not have either"), 2000)
	sent, err := to.PushBlob(t.Context(), blobOf(b), from, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
	if err != nil || sent.Bytes != int64(len(b)) {
		t.Fatal(sent, err)
	}
	if diff := cmp.Diff([]string{"POST blobs/uploads/?mount 202", "PUT blobs/uploads/…?digest 201"}, calls(s)); diff != "" {
		t.Error(diff)
	}
}

// A source that fails is not the registry's failing: nothing is tried again, and its error comes through.
func TestPushBlobSourceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("the source is broken")
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	for name, open := range map[string]func(context.Context, int64) (io.ReadCloser, error){
		"at once":    func(context.Context, int64) (io.ReadCloser, error) { return nil, broken },
		"on the way": func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(brokenReader{broken}), nil },
		"half way in": func(context.Context, int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("half"), brokenReader{broken})), nil
		},
	} {
		s.Reset()
		_, err := r.PushBlob(t.Context(), blobOf(bytes.Repeat([]byte("half and half"), 10_000)), nil, open)
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Count(func(r regtest.Request) bool { return r.Method == http.MethodPost }); n != 1 {
			t.Errorf("%s: %d uploads were opened", name, n)
		}
	}
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// An upload that breaks off is started afresh, with its source.
func TestPushBlobAgain(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	var mu sync.Mutex
	failures := []int{503, 404, 416}
	s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if req.Method != http.MethodPut || len(failures) == 0 {
			return false
		}
		_, _ = io.CopyN(io.Discard, req.Body, 5)
		w.WriteHeader(failures[0])
		if failures[0] == 404 {
			_, _ = io.WriteString(w, `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`)
		}
		failures = failures[1:]
		return true
	})
	b := []byte(strings.Repeat("again ", 20_000))
	opened := 0
	_, err := r.PushBlob(t.Context(), blobOf(b), nil, func(context.Context, int64) (io.ReadCloser, error) {
		opened++
		return io.NopCloser(bytes.NewReader(b)), nil
	})
	if err != nil || opened != 2 { // what was read again to be compared is at hand for the third and the fourth time
		t.Fatalf("opened %d times, %v", opened, err)
	}
	rc, err := r.Blob(t.Context(), blobOf(b))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rc.Close() }()
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// Bytes that do not have the digest by which they were asked for never get through (A11, G08, F15, F16).
func TestG08ManifestDigest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		lies int
		ok   bool
	}{{"F15 once", 1, true}, {"F16 always", 100, false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			var warned []string
			c := newTestClient(t, Options{Warn: func(code, _ string) { warned = append(warned, code) }})
			r := openTest(t, c, s.Host, "app")
			m := pushImage(t, r, "image")
			lies := test.lies
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodGet || lies == 0 {
					return false
				}
				lies--
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				w.Header().Set("Docker-Content-Digest", m.Descriptor.Digest.String())
				_, _ = w.Write(append(bytes.Clone(m.Bytes), ' '))
				return true
			})
			_, err := r.Manifest(t.Context(), m.Descriptor)
			if test.ok {
				if err != nil || !slices.Equal(warned, []string{"digest-mismatch-once"}) {
					t.Errorf("%v, warned %v", err, warned)
				}
				return
			}
			if !errors.Is(err, ErrDigestMismatch) || reason(err) != "digest-mismatch" {
				t.Error(err)
			}
		})
	}
}

func TestManifestTooLarge(t *testing.T) {
	t.Parallel()
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		chunk := bytes.Repeat([]byte(" "), 1<<20)
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	_, err := r.Resolve(t.Context(), r.Reference().With("v1", ""))
	if !errors.Is(err, ErrTooLarge) || reason(err) != "too-large" {
		t.Error(err)
	}
}

func TestServedType(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		ocispec.MediaTypeImageManifest:                     ocispec.MediaTypeImageManifest,
		ocispec.MediaTypeImageManifest + "; charset=utf-8": ocispec.MediaTypeImageManifest,
		ocispec.MediaTypeImageManifest + ";charset=UTF-8":  ocispec.MediaTypeImageManifest,
		ocispec.MediaTypeImageManifest + "; profile=x":     ocispec.MediaTypeImageManifest + "; profile=x",
		"": "",
	} {
		if got := servedType(http.Header{"Content-Type": {in}}); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

// What registries write into errors reaches the person in one harmless line.
func TestRegistryErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status   int
		body     string
		sentinel error
		reason   string
		text     string
	}{
		{400, `{"errors":[{"code":"MANIFEST_INVALID","message":"bad\u001b[31m\nthing"}]}`, ErrRefused, "refused", `MANIFEST_INVALID: bad\x1b[31m\nthing`},
		{401, ``, ErrUnauthorized, "unauthorized", "401 Unauthorized"},
		{403, `{"errors":[{"code":"DENIED","message":"no"}]}`, ErrUnauthorized, "forbidden", "403 Forbidden: DENIED: no"},
		{404, `<html>`, ErrNotFound, "not-found", "404 Not Found"},
		{405, ``, ErrUnsupported, "unsupported", "405 Method Not Allowed"},
		{400, `{"errors":[{"code":"unsupported"}]}`, ErrUnsupported, "unsupported", "unsupported"},
		{409, ``, ErrRefused, "refused", "409 Conflict"},
		{413, ``, ErrTooLarge, "too-large", "413"},
		{418, `{"errors":[{"message":"` + strings.Repeat("x", 5000) + `"}]}`, ErrRefused, "refused", "xxx…"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.status, test.reason), func(t *testing.T) {
			t.Parallel()
			s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			_, err := r.Resolve(t.Context(), r.Reference().With("v1", ""))
			if !errors.Is(err, test.sentinel) || reason(err) != test.reason || !strings.Contains(err.Error(), test.text) || !strings.Contains(err.Error(), s.Host) {
				t.Errorf("%s: %v", reason(err), err)
			}
			if s.Count(nil) != 1 {
				t.Errorf("asked %d times", s.Count(nil))
			}
			if len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%q", err)
			}
		})
	}
}

func TestReasonsOfRemoteCodes(t *testing.T) {
	t.Parallel()
	for _, code := range []string{codeForbidden, codeRefused, codeRealm, codeRedirect, codeLocation, codeLink, codeOccupied, codeHelper, codeDeleteRefused} {
		if Reasons()[code] == "" {
			t.Errorf("%s is not explained", code)
		}
	}
}

func TestExamine(t *testing.T) {
	t.Parallel()
	for kind, want := range map[regtest.Kind]Capabilities{
		regtest.WithAPI:    {ReferrersAPI: "yes", Delete: "yes", Mount: "yes", SingleUpload: "yes"},
		regtest.WithoutAPI: {ReferrersAPI: "no", Delete: "yes", Mount: "yes", SingleUpload: "no"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			pushImage(t, r, "image")
			s.Reset()
			if _, err := r.Examine(t.Context(), false); err != nil || s.Writes() != 0 {
				t.Errorf("examining without writing: %d writes, %v", s.Writes(), err)
			}
			got, err := r.Examine(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			if off := time.Since(got.Date); off < -2*time.Second || off > time.Minute {
				t.Errorf("the registry's clock is said to be %s, %s off", got.Date, off)
			}
			got.Date = time.Time{}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
