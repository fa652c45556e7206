package copy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

var ctx = context.Background()

func client(t testing.TB) *registry.Client {
	t.Helper()
	c, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reference(t testing.TB, s string) registry.Reference {
	t.Helper()
	r, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open opens where s says, made if need be.
func open(t testing.TB, s string) *registry.Repo {
	t.Helper()
	r, err := client(t).Create(ctx, reference(t, s), registry.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// reopen opens what is there with a client that has learnt nothing.
func reopen(t testing.TB, r *registry.Repo) *registry.Repo {
	t.Helper()
	again, err := client(t).Open(ctx, r.Reference())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

// A place is a kind of place to copy from or to.
type place struct {
	name string
	open func(t testing.TB) *registry.Repo
}

var places = []place{
	{"with-api", func(t testing.TB) *registry.Repo { return open(t, regtest.New(t, regtest.WithAPI).Host+"/team/app") }},
	{"without-api", func(t testing.TB) *registry.Repo { return open(t, regtest.New(t, regtest.WithoutAPI).Host+"/team/app") }},
	{"layout", func(t testing.TB) *registry.Repo { return open(t, "oci:"+filepath.Join(t.TempDir(), "l")) }},
	{"archive", func(t testing.TB) *registry.Repo { return open(t, "oci-archive:"+filepath.Join(t.TempDir(), "a.tar")) }},
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func putBlob(t testing.TB, r *registry.Repo, mediaType string, b []byte) ocispec.Descriptor {
	t.Helper()
	d := describe(mediaType, b)
	_, err := r.PushBlob(ctx, d, nil, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
	must(t, err)
	return d
}

// encode indents: bytes that nobody would get by encoding again.
func encode(t testing.TB, mediaType string, v any) registry.Manifest {
	t.Helper()
	b, err := json.MarshalIndent(v, " ", "\t")
	must(t, err)
	return registry.NewManifest(mediaType, append(b, '\n'))
}

// image stores an image.
func image(t testing.TB, r *registry.Repo, arch string, layers ...string) registry.Manifest {
	t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	m.Config = putBlob(t, r, ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"`+arch+`"}`))
	for _, l := range layers {
		m.Layers = append(m.Layers, putBlob(t, r, ocispec.MediaTypeImageLayer, []byte(l)))
	}
	out := encode(t, m.MediaType, m)
	must(t, r.PushManifest(ctx, out))
	return out
}

// refer attaches something to subject.
func refer(t testing.TB, r *registry.Repo, subject registry.Manifest, artifactType, content string) registry.Manifest {
	t.Helper()
	s := subject.Descriptor
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Config: ocispec.DescriptorEmptyJSON, Subject: &s, Annotations: map[string]string{"note": content}}
	m.SchemaVersion = 2
	must(t, r.PushBytes(ctx, m.Config, ocispec.DescriptorEmptyJSON.Data))
	m.Layers = []ocispec.Descriptor{putBlob(t, r, "application/octet-stream", []byte(content))}
	out := encode(t, m.MediaType, m)
	must(t, r.Attach(ctx, s, out))
	return out
}

// sign attaches a signature manifest (of an envelope that is none).
func sign(t testing.TB, r *registry.Repo, subject registry.Manifest, envelope string) registry.Manifest {
	t.Helper()
	m := registry.ByArtifactType.Manifest(subject.Descriptor, "application/jose+json", []byte(envelope), map[string]string{registry.AnnotationThumbprint: "[]"})
	must(t, r.PushSignature(ctx, subject.Descriptor, m, []byte(envelope)))
	return m
}

// A release is an index of two platforms with all that belongs to it: a signature on the index and on each image, an
// SBOM on each image and a signature on each SBOM.
type release struct {
	root     registry.Manifest
	children []registry.Manifest
	all      []registry.Manifest
}

func newRelease(t testing.TB, at *registry.Repo, tag string) release {
	t.Helper()
	// Made in a layout: attaching one thing after another takes a registry without the API its time.
	r := open(t, "oci:"+filepath.Join(t.TempDir(), "made"))
	rel := release{}
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Annotations: map[string]string{"note": "<&>"}}
	x.SchemaVersion = 2
	for _, arch := range []string{"amd64", "arm64"} {
		m := image(t, r, arch, "shared layer", "layer of "+arch)
		d := m.Descriptor
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		x.Manifests = append(x.Manifests, d)
		rel.children = append(rel.children, m)
	}
	rel.root = encode(t, x.MediaType, x)
	must(t, r.PushManifest(ctx, rel.root))
	rel.all = append(slices.Clone(rel.children), rel.root, sign(t, r, rel.root, "signature of the index"))
	for i, m := range rel.children {
		sbom := refer(t, r, m, "application/spdx+json", "sbom "+string('a'+rune(i)))
		rel.all = append(rel.all, sign(t, r, m, "signature of an image"), sbom, sign(t, r, sbom, "signature of an SBOM"))
	}
	put(t, at, r, rel.root)
	must(t, at.Tag(ctx, rel.root, tag))
	return rel
}

// put brings a graph from one place to another without the help of package copy.
func put(t testing.TB, to, from *registry.Repo, root registry.Manifest) {
	t.Helper()
	n, _, err := from.Graph(ctx, root, registry.GraphOptions{})
	must(t, err)
	lists := map[digest.Digest][]registry.Manifest{}
	subjects := map[digest.Digest]ocispec.Descriptor{}
	for n := range n.All {
		for _, d := range n.Parts.Blobs() {
			b, err := from.ReadBlob(ctx, d, 1<<26)
			must(t, err)
			must(t, to.PushBytes(ctx, d, b))
		}
		must(t, to.PushManifest(ctx, n.Manifest))
		if s := n.Parts.Subject; s != nil {
			lists[s.Digest], subjects[s.Digest] = append(lists[s.Digest], n.Manifest), *s
		}
	}
	var all sync.WaitGroup
	for d, manifests := range lists {
		all.Go(func() {
			if err := to.Confirm(ctx, subjects[d], manifests...); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// state returns everything that leads from root, as "digest media-type size <- subject", and all blobs read back.
func state(t testing.TB, r *registry.Repo, root registry.Manifest) []string {
	t.Helper()
	m, err := r.Resolve(ctx, registry.Reference{Digest: root.Descriptor.Digest})
	must(t, err)
	n, skipped, err := r.Graph(ctx, m, registry.GraphOptions{})
	must(t, err)
	if len(skipped) > 0 {
		t.Errorf("skipped: %+v", skipped)
	}
	var out []string
	for n := range n.All {
		d := n.Manifest.Descriptor
		line := d.Digest.String() + " " + d.MediaType + " " + n.Parts.ArtifactType
		if n.Parts.Subject != nil {
			line += " <- " + n.Parts.Subject.Digest.String()
		}
		out = append(out, line)
		for _, b := range n.Parts.Blobs() {
			b.Data = nil
			if _, err := r.ReadBlob(ctx, b, 1<<26); err != nil {
				t.Errorf("blob of %s: %v", d.Digest, err)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: -want +got:\n%s", what, d)
	}
}

func reason(err error) string {
	for err != nil {
		if r, ok := err.(interface{ Reason() string }); ok {
			return r.Reason()
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return ""
		}
		err = u.Unwrap()
	}
	return ""
}

// writes are the requests that changed something.
func writes(s *regtest.Server) []string {
	var out []string
	for _, r := range s.Requests() {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			out = append(out, r.Method+" "+r.Path)
		}
	}
	return out
}

// isTag reports whether a request writes a tag, alone or with others.
func isTag(r regtest.Request, tag string) bool {
	if r.Method != http.MethodPut {
		return false
	}
	q, _ := url.ParseQuery(r.Query)
	return strings.HasSuffix(r.Path, "/manifests/"+tag) || slices.Contains(q["tag"], tag)
}
