//go:build unix

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	notation "github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
)

func indexOf(t testing.TB, dir string) ocispec.Index {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var x ocispec.Index
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestLayoutRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "new", "layout")
	l := layoutAt(t, dir)
	m := putImage(t, l, nil, "", "one", "two", "")
	for range 2 { // the second time changes nothing
		if err := l.Tag(ctx, m, "1.0"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Tag(ctx, m, "harbor.example/db:16.4"); err != nil {
		t.Fatal(err)
	}
	again, err := openLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := newRepo(again, l.Reference())
	for _, ref := range []Reference{{Tag: "1.0"}, {Tag: "harbor.example/db:16.4"}, {Digest: m.Descriptor.Digest}, {Tag: "1.0", Digest: m.Descriptor.Digest}} {
		got, err := r.Resolve(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Errorf("%v: -want +got:\n%s", ref, d)
		}
	}
	var tags []string
	for tag, err := range r.Tags(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	if d := cmp.Diff([]string{"1.0", "harbor.example/db:16.4"}, tags); d != "" {
		t.Error(d)
	}
	p, err := m.Parse()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"one", "two", ""} {
		got, err := r.ReadBlob(ctx, p.Layers[i], 100)
		if err != nil || string(got) != want {
			t.Errorf("layer %d: %q, %v", i, got, err)
		}
	}
	if _, err := r.Resolve(ctx, Reference{Tag: "2.0"}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"1.0"`) {
		t.Errorf("an absent tag: %v", err)
	}
	if _, err := r.Resolve(ctx, Reference{}); !errors.Is(err, ErrReference) {
		t.Errorf("neither tag nor digest: %v", err)
	}
	noLeftovers(t, dir)
}

func TestA10TagAndDigestInLayout(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLayout(t)
	a, b := putImage(t, l, nil, "", "a"), putImage(t, l, nil, "", "b")
	if err := l.Tag(ctx, a, "v1"); err != nil {
		t.Fatal(err)
	}
	for name, ref := range map[string]Reference{
		"another digest": {Tag: "v1", Digest: b.Descriptor.Digest},
		"no such tag":    {Tag: "v2", Digest: a.Descriptor.Digest},
	} {
		if _, err := l.Resolve(ctx, ref); !errors.Is(err, ErrTagMismatch) || reasonOf(err) != "tag-digest-mismatch" {
			t.Errorf("%s: %v (%s)", name, err, reasonOf(err))
		}
	}
}

func TestLayoutTagMoves(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	a, b := putImage(t, l, nil, "", "a"), putImage(t, l, nil, "", "b")
	for _, m := range []Manifest{a, b} {
		if err := l.Tag(ctx, m, "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := l.Tagged(ctx, "v1"); err != nil || d != b.Descriptor.Digest {
		t.Errorf("v1 is %s, %v", d, err)
	}
	// What it named before is found by its digest still.
	if x := indexOf(t, dir); len(x.Manifests) != 2 || x.Manifests[0].Digest != a.Descriptor.Digest || len(x.Manifests[0].Annotations) != 0 {
		t.Errorf("index: %+v", x.Manifests)
	}
	if err := l.Tag(ctx, a, "old"); err != nil {
		t.Fatal(err)
	}
	if x := indexOf(t, dir); len(x.Manifests) != 2 || x.Manifests[0].Annotations[ocispec.AnnotationRefName] != "old" {
		t.Errorf("the unnamed entry was not named: %+v", x.Manifests)
	}
	if err := l.Tag(ctx, Manifest{Descriptor: described("m", []byte("absent"))}, "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("tagging what is not there: %v", err)
	}
}

// An index.json of other people's keeps its members, their order and what we do not know.
func TestLayoutKeepsForeignIndex(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	m := putImage(t, l, nil, "", "a")
	foreign := fmt.Sprintf(`{ "org.example": {"z": 1, "a": [2.50]}, "manifests": [ {"size": %d, "digest": "%s", "x": {"y":1}, "mediaType": "%s", "annotations": {"io.containerd.image.name": "docker.io/library/a:1", "org.opencontainers.image.ref.name": "1"}} ], "schemaVersion": 2 }`,
		m.Descriptor.Size, m.Descriptor.Digest, m.Descriptor.MediaType)
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(foreign), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1", "docker.io/library/a:1"} {
		if d, err := l.Tagged(ctx, name); err != nil || d != m.Descriptor.Digest {
			t.Errorf("%s: %s, %v", name, d, err)
		}
	}
	b := putImage(t, l, nil, "", "b")
	if err := l.Tag(ctx, b, "2"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(foreign, "} ], ", fmt.Sprintf(`},{"mediaType":"%s","digest":"%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"2"}}],`, b.Descriptor.MediaType, b.Descriptor.Digest, b.Descriptor.Size))
	if d := cmp.Diff(compact(t, want), compact(t, string(got))); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	// A name that moves takes nothing else of the entry along.
	if err := l.Tag(ctx, b, "1"); err != nil {
		t.Fatal(err)
	}
	if got, err = os.ReadFile(filepath.Join(dir, "index.json")); err != nil || !bytes.Contains(got, []byte(`"x":{"y":1}`)) || bytes.Contains(got, []byte("library/a")) {
		t.Errorf("after the move, %v: %s", err, got)
	}
}

func compact(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(s)); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return b.String()
}

// docker save writes the bare tag as the reference name of each image: two images, one name.
func TestLayoutNamesOfDockerSave(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	x := ocispec.Index{}
	x.SchemaVersion = 2
	var digests []digest.Digest
	for _, n := range []string{"a", "b"} {
		m := putImage(t, l, nil, "", n)
		d := m.Descriptor
		d.Annotations = map[string]string{annotationContainerd: "docker.io/library/" + n + ":latest", ocispec.AnnotationRefName: "latest"}
		x.Manifests = append(x.Manifests, d)
		digests = append(digests, d.Digest)
	}
	b, _ := json.Marshal(x)
	if err := os.WriteFile(filepath.Join(dir, "index.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Resolve(ctx, Reference{Tag: "latest"}); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("latest: %v", err)
	}
	if d, err := l.Tagged(ctx, "docker.io/library/b:latest"); err != nil || d != digests[1] {
		t.Errorf("b: %s, %v", d, err)
	}
	var tags []string
	for tag := range l.Tags(ctx) {
		tags = append(tags, tag)
	}
	if d := cmp.Diff([]string{"docker.io/library/a:latest", "docker.io/library/b:latest"}, tags); d != "" {
		t.Error(d)
	}
}

func TestLayoutReferrers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	child := putImage(t, l, nil, "", "child")
	root := putIndex(t, l, child.Descriptor)
	if err := l.Tag(ctx, root, "1"); err != nil {
		t.Fatal(err)
	}
	sbom := putImage(t, l, &child.Descriptor, "application/spdx+json", "sbom")
	sig := ByArtifactType.Manifest(sbom.Descriptor, "application/jose+json", []byte("envelope"), map[string]string{"k": "v"})
	for range 2 {
		if err := l.PushSignature(ctx, sbom.Descriptor, sig, []byte("envelope")); err != nil {
			t.Fatal(err)
		}
	}
	x := indexOf(t, dir)
	if len(x.Manifests) != 3 {
		t.Fatalf("index: %+v", x.Manifests)
	}
	want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactTypeSignature, Digest: sig.Descriptor.Digest, Size: sig.Descriptor.Size, Annotations: map[string]string{"k": "v"}}
	if d := cmp.Diff(want, x.Manifests[2]); d != "" {
		t.Errorf("the signature's entry: -want +got:\n%s", d)
	}
	for _, c := range []struct {
		subject  Manifest
		filter   string
		referrer *Manifest
	}{{child, "", &sbom}, {child, ArtifactTypeSignature, nil}, {sbom, "", &sig}, {sbom, ArtifactTypeSignature, &sig}, {root, "", nil}} {
		list, err := l.Referrers(ctx, c.subject.Descriptor, c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if (c.referrer == nil) != (len(list) == 0) || c.referrer != nil && list[0].Digest != c.referrer.Descriptor.Digest {
			t.Errorf("referrers of %s (%q): %+v", c.subject.Descriptor.Digest, c.filter, list)
		}
	}
	for range 2 { // what is gone is no error
		if err := l.Detach(ctx, sbom.Descriptor, sig.Descriptor.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := l.Referrers(ctx, sbom.Descriptor, ""); err != nil || len(list) != 0 {
		t.Errorf("after Detach: %v, %v", list, err)
	}
	if has, err := l.HasManifest(ctx, sig.Descriptor); err != nil || has {
		t.Errorf("its file: %v, %v", has, err)
	}
	noLeftovers(t, dir)
}

// What an index contains is not deleted with its own entry.
func TestLayoutDetachKeepsWhatIsContained(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLayout(t)
	subject := putImage(t, l, nil, "", "s")
	ref := putImage(t, l, &subject.Descriptor, "application/x", "r")
	if err := l.Tag(ctx, putIndex(t, l, subject.Descriptor, ref.Descriptor), "all"); err != nil {
		t.Fatal(err)
	}
	if err := l.Detach(ctx, subject.Descriptor, ref.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	if has, err := l.HasManifest(ctx, ref.Descriptor); err != nil || !has {
		t.Errorf("the child of an index is gone (%v)", err)
	}
}

// The layouts we write are read by oras-go, and signatures found by notation-go, and the other way round.
func TestLayoutInterop(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	image := putImage(t, l, nil, "", "layer")
	if err := l.Tag(ctx, image, "1.0"); err != nil {
		t.Fatal(err)
	}
	sig := ByArtifactType.Manifest(image.Descriptor, "application/jose+json", []byte("envelope"), nil)
	if err := l.PushSignature(ctx, image.Descriptor, sig, []byte("envelope")); err != nil {
		t.Fatal(err)
	}

	oras, err := oci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := oras.Resolve(ctx, "1.0"); err != nil || !content.Equal(d, image.Descriptor) {
		t.Errorf("oras resolves %v, %v", d, err)
	}
	above, err := oras.Predecessors(ctx, image.Descriptor)
	if err != nil || len(above) != 1 || above[0].Digest != sig.Descriptor.Digest {
		t.Errorf("oras finds %+v, %v", above, err)
	}

	theirs, err := notation.NewOCIRepository(dir, notation.RepositoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b, d, err := theirs.FetchSignatureBlob(ctx, sig.Descriptor); err != nil || string(b) != "envelope" || d.MediaType != "application/jose+json" {
		t.Errorf("notation reads %q of %v, %v", b, d, err)
	}
	_, notations, err := theirs.PushSignature(ctx, "application/cose", []byte("their envelope"), image.Descriptor, map[string]string{AnnotationThumbprint: "[]"})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Signature{}
	list, err := l.Signatures(ctx, image.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Err != nil {
			t.Error(s.Err)
		}
		found[string(s.Envelope)] = s
	}
	if len(list) != 2 || found["envelope"].MediaType != "application/jose+json" || found["their envelope"].MediaType != "application/cose" || found["their envelope"].Descriptor.Digest != notations.Digest {
		t.Errorf("we find %+v", list)
	}
	// What notation and oras wrote stays as it is when we write again.
	if err := l.Tag(ctx, image, "latest"); err != nil {
		t.Fatal(err)
	}
	var listed int
	if theirs, err = notation.NewOCIRepository(dir, notation.RepositoryOptions{}); err != nil {
		t.Fatal(err)
	}
	err = theirs.ListSignatures(ctx, image.Descriptor, func(ds []ocispec.Descriptor) error {
		listed += len(slices.DeleteFunc(ds, func(d ocispec.Descriptor) bool { return d.Digest != notations.Digest }))
		return nil
	})
	if err != nil || listed != 1 {
		t.Errorf("notation finds its own signature %d times, %v", listed, err)
	}
}

func TestC10HostileLayouts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	blob := []byte("secret outside")
	d := described("application/octet-stream", blob)
	setUp := func(t *testing.T) (dir string, l *Repo) {
		dir = filepath.Join(t.TempDir(), "l")
		l = layoutAt(t, dir)
		if err := l.PushManifest(ctx, Manifest{Descriptor: described("m", nil)}); err != nil {
			t.Fatal(err)
		}
		return dir, l
	}
	file := func(dir string) string { return filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()) }
	read := func(l *Repo) error {
		_, err := l.ReadBlob(ctx, d, 100)
		return err
	}

	t.Run("blob that is a link out of the layout", func(t *testing.T) {
		t.Parallel()
		dir, l := setUp(t)
		outside := filepath.Join(filepath.Dir(dir), "outside")
		if err := errors.Join(os.WriteFile(outside, blob, 0o600), os.Symlink(outside, file(dir))); err != nil {
			t.Fatal(err)
		}
		if err := read(l); !errors.Is(err, ErrMalformed) {
			t.Errorf("read through it: %v", err)
		}
	})
	t.Run("blobs that is a link out of the layout", func(t *testing.T) {
		t.Parallel()
		dir, l := setUp(t)
		outside := t.TempDir()
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, "blobs")), os.Symlink(outside, filepath.Join(dir, "blobs"))); err != nil {
			t.Fatal(err)
		}
		if err := l.PushBytes(ctx, d, blob); !errors.Is(err, ErrMalformed) {
			t.Errorf("wrote through it: %v", err)
		}
		if left, _ := os.ReadDir(outside); len(left) != 0 {
			t.Errorf("outside has %v", left)
		}
	})
	t.Run("link inside the layout", func(t *testing.T) {
		t.Parallel()
		dir, l := setUp(t)
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "elsewhere"), blob, 0o600), os.Symlink("../../elsewhere", file(dir))); err != nil {
			t.Fatal(err)
		}
		if err := read(l); err != nil {
			t.Error(err)
		}
	})
	t.Run("FIFO", func(t *testing.T) {
		t.Parallel()
		dir, l := setUp(t)
		if err := syscall.Mkfifo(file(dir), 0o600); err != nil {
			t.Skip(err)
		}
		if err := read(l); !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
	})
	t.Run("C01 other bytes", func(t *testing.T) {
		t.Parallel()
		dir, l := setUp(t)
		if err := os.WriteFile(file(dir), []byte("Secret outside"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(l); !errors.Is(err, ErrDigestMismatch) || reasonOf(err) != "digest-mismatch" {
			t.Error(err)
		}
	})
	t.Run("C01 longer", func(t *testing.T) {
		t.Parallel()
		dir, l := setUp(t)
		if err := os.WriteFile(file(dir), append(blob, '!'), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(l); !errors.Is(err, ErrDigestMismatch) {
			t.Error(err)
		}
	})
	t.Run("A11 manifest with other bytes", func(t *testing.T) {
		t.Parallel()
		dir, l := setUp(t)
		m := putImage(t, l, nil, "", "x")
		if err := l.Tag(ctx, m, "1"); err != nil {
			t.Fatal(err)
		}
		other := putImage(t, l, nil, "", "y")
		if err := os.WriteFile(filepath.Join(dir, blobPath(m.Descriptor.Digest)), other.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, ref := range []Reference{{Tag: "1"}, {Digest: m.Descriptor.Digest}} {
			if _, err := l.Resolve(ctx, ref); !errors.Is(err, ErrDigestMismatch) || reasonOf(err) != "digest-mismatch" {
				t.Errorf("%v: %v", ref, err)
			}
		}
	})
	t.Run("C11 digests that are paths", func(t *testing.T) {
		t.Parallel()
		_, l := setUp(t)
		for _, bad := range []digest.Digest{"sha256:../../x", "sha256/../:x", "../x:y", "sha256:", "", ":", digest.Digest("SHA256:" + hexA), digest.Digest("sha256:" + hexA + "/..")} {
			d := ocispec.Descriptor{MediaType: "m", Digest: bad, Size: 1}
			_, e1 := l.Manifest(ctx, d)
			_, e2 := l.Blob(ctx, d)
			_, e3 := l.HasManifest(ctx, d)
			_, e4 := l.Referrers(ctx, d, "")
			_, e5 := l.PushBlob(ctx, d, nil, nil)
			e6 := l.Detach(ctx, described("m", nil), bad)
			for i, err := range []error{e1, e2, e3, e4, e5, e6} {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("%q, call %d: %v", bad, i+1, err)
				}
			}
			if bad != "" {
				if _, err := l.Resolve(ctx, Reference{Digest: bad}); !errors.Is(err, ErrReference) {
					t.Errorf("%q: %v", bad, err)
				}
			}
		}
	})
	for name, c := range map[string]struct {
		file, content string
		want          error
	}{
		"oci-layout version":       {"oci-layout", `{"imageLayoutVersion":"2.0.0"}`, ErrMalformed},
		"oci-layout without":       {"oci-layout", `{}`, ErrMalformed},
		"oci-layout twice":         {"oci-layout", `{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}`, ErrAmbiguous},
		"oci-layout large":         {"oci-layout", strings.Repeat(" ", maxLayoutFile+1), ErrTooLarge},
		"index.json large":         {"index.json", strings.Repeat(" ", maxLayoutIndex+1), ErrTooLarge},
		"index.json duplicates":    {"index.json", `{"schemaVersion":2,"manifests":[],"manifests":[]}`, ErrAmbiguous},
		"index.json digest path":   {"index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:../../../etc/passwd","size":1}]}`, ErrMalformed},
		"A15 index.json size":      {"index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"` + some + `","size":1e3}]}`, ErrAmbiguous},
		"index.json that is empty": {"index.json", ``, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := setUp(t)
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			for verb, open := range map[string]func(string) (store, error){"open": openLayout, "create": createLayout} {
				if s, err := open(dir); !errors.Is(err, c.want) {
					t.Errorf("%s: %v, %v; want %v", verb, s, err, c.want)
				}
			}
		})
	}
}

func TestC01BlobIsNotKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	d := described("application/octet-stream", []byte("right"))
	for name, c := range map[string]struct {
		body io.Reader
		want error
	}{
		"other bytes": {strings.NewReader("wrong"), ErrDigestMismatch},
		"short":       {strings.NewReader("rig"), ErrDigestMismatch},
		"long":        {strings.NewReader("right!"), ErrDigestMismatch},
		"endless":     {endless{}, ErrDigestMismatch},
		"broken":      {io.MultiReader(strings.NewReader("rig"), broken{}), errBroken},
	} {
		_, err := l.PushBlob(context.Background(), d, nil, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(c.body), nil })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if files, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256")); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestOpenLayout(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir  string
		open func(string) (store, error)
		want error
	}{
		"absent":                        {filepath.Join(full, "absent"), openLayout, ErrNotFound},
		"no layout":                     {full, openLayout, ErrNotFound},
		"a folder of other things":      {full, createLayout, ErrExists},
		"a file":                        {filepath.Join(full, "notes.txt"), openLayout, ErrDisk},
		"a file that was to be created": {filepath.Join(full, "notes.txt"), createLayout, ErrDisk},
	} {
		if _, err := c.open(c.dir); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if left, _ := os.ReadDir(full); len(left) != 1 {
		t.Errorf("the folder has %v", left)
	}
}

// Several openings of one layout at the same time, as processes do: all that they write is there.
func TestF42ConcurrentWriters(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "l")
	const writers, each = 8, 10
	subject := described(ocispec.MediaTypeImageManifest, []byte("subject"))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			l := layoutAt(t, dir) // they also race for making it
			for i := range each {
				env := fmt.Appendf(nil, "%d of %d", i, w)
				if err := l.PushSignature(ctx, subject, ByArtifactType.Manifest(subject, "application/cose", env, nil), env); err != nil {
					t.Error(err)
				}
				if err := l.Tag(ctx, ByArtifactType.Manifest(subject, "application/cose", env, nil), fmt.Sprintf("%d-%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l := layoutAt(t, dir)
	list, err := l.Referrers(ctx, subject, ArtifactTypeSignature)
	if err != nil || len(list) != writers*each {
		t.Errorf("%d of %d signatures are listed, %v", len(list), writers*each, err)
	}
	if x := indexOf(t, dir); len(x.Manifests) != writers*each {
		t.Errorf("%d entries", len(x.Manifests))
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 3 {
		t.Errorf("the folder has %v, %v", names, err)
	}
	noLeftovers(t, dir)
}

// TestF42TwoProcesses runs itself as two processes that sign in the same layout.
func TestF42TwoProcesses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	subject := described(ocispec.MediaTypeImageManifest, []byte("subject"))
	const each = 20
	if dir := os.Getenv("IMPRINT_TEST_F42"); dir != "" {
		l := layoutAt(t, dir)
		for i := range each {
			env := fmt.Appendf(nil, "%d of %d", i, os.Getpid())
			if err := l.PushSignature(ctx, subject, ByArtifactType.Manifest(subject, "application/cose", env, nil), env); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "l")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			c := exec.Command(os.Args[0], "-test.run=^TestF42TwoProcesses$", "-test.count=1")
			c.Env = append(os.Environ(), "IMPRINT_TEST_F42="+dir)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if list, err := layoutAt(t, dir).Referrers(ctx, subject, ""); err != nil || len(list) != 2*each {
		t.Errorf("%d of %d are listed, %v", len(list), 2*each, err)
	}
	noLeftovers(t, dir)
}

// TestF36DiskFull writes to a disk that is full: the index stays what it was, and nothing half-written is left.
func TestF36DiskFull(t *testing.T) {
	t.Parallel()
	if os.Getenv("IMPRINT_TEST_F36") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestF36DiskFull$", "-test.count=1")
		// A limit on the size of files is a disk that is full, for those without a file system to fill.
		c.Env = append(os.Environ(), "IMPRINT_TEST_F36="+t.TempDir())
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	ctx := context.Background()
	dir := filepath.Join(os.Getenv("IMPRINT_TEST_F36"), "l")
	l := layoutAt(t, dir)
	m := putImage(t, l, nil, "", "x")
	if err := l.Tag(ctx, m, "1"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	// Another archive is there already, and larger than a file may become: not even a copy of it can be written.
	kept := filepath.Join(filepath.Dir(dir), "kept.tar")
	k := appendTo(t, kept)
	image := addImage(t, k, "harbor.example/db:1", strings.Repeat("layer", 1000))
	if err := k.Commit(); err != nil {
		t.Fatal(err)
	}
	limitFileSize(t, int64(len(before)))
	big := bytes.Repeat([]byte("x"), 1<<20)
	if _, err := l.PushBlob(ctx, described("b", big), nil, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(big)), nil }); !errors.Is(err, ErrDisk) || reasonOf(err) != "disk" {
		t.Errorf("a blob: %v", err)
	}
	if err := l.Tag(ctx, m, "2"); !errors.Is(err, ErrDisk) {
		t.Errorf("a tag: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("index.json is %s, %v", after, err)
	}
	archive := filepath.Join(filepath.Dir(dir), "a.tar")
	s, err := beginArchive(context.Background(), archive, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a := newRepo(s, Reference{Kind: Archive, Path: archive})
	if err := a.PushBytes(ctx, described("b", big), big); !errors.Is(err, ErrDisk) {
		t.Errorf("an archive: %v", err)
	}
	if err := a.Commit(); !errors.Is(err, ErrDisk) {
		t.Errorf("closing the archive: %v", err)
	}
	if _, err := os.Stat(archive); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the archive: %v", err)
	}
	k = appendTo(t, kept)
	if err := k.PushBytes(ctx, described("b", []byte("small")), []byte("small")); !errors.Is(err, ErrDisk) || reasonOf(err) != "disk" {
		t.Errorf("adding to an archive: %v", err)
	}
	if err := errors.Join(k.Tag(ctx, image, "2"), k.Commit()); !errors.Is(err, ErrDisk) {
		t.Errorf("committing an archive that was added to: %v", err)
	}
	checkImage(t, openedArchive(t, kept), "harbor.example/db:1", image, strings.Repeat("layer", 1000))
	noLeftovers(t, filepath.Dir(dir))
}

// Changes that wait for the lock are written together, each with its own end: one that fails, one whose caller is gone
// and one that changes nothing do not touch the others.
func TestLayoutChangesTogether(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	var images []Manifest
	for i := range 10 {
		images = append(images, putImage(t, l, nil, "", fmt.Sprint(i)))
	}
	if err := l.Tag(ctx, images[0], "0"); err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(filepath.Join(dir, layoutFile)) // another process
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if ok, err := tryLock(other); err != nil || !ok {
		t.Fatal(ok, err)
	}
	gone, cancel := context.WithCancel(ctx)
	ends := make(map[string]chan error)
	start := func(name string, f func() error) {
		end := make(chan error, 1)
		ends[name] = end
		go func() { end <- f() }()
	}
	start("gone", func() error { return l.Tag(gone, images[1], "gone") })
	for i, m := range images[2:] {
		start(fmt.Sprint("good ", i), func() error { return l.Tag(ctx, m, fmt.Sprintf("good-%d", i)) })
	}
	start("absent", func() error { return l.Tag(ctx, Manifest{Descriptor: described("m", []byte("absent"))}, "absent") })
	store := l.store.(*layout)
	for waiting := 0; waiting < len(ends); {
		store.mu.Lock()
		waiting = len(store.pending)
		store.mu.Unlock()
		runtime.Gosched()
	}
	cancel()
	if err := <-ends["gone"]; !errors.Is(err, context.Canceled) {
		t.Errorf("gone: %v", err)
	}
	other.Close()
	for name, end := range ends {
		if name == "gone" {
			continue
		}
		err := <-end
		if name == "absent" && !errors.Is(err, ErrNotFound) || name != "absent" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tags := tagsIn(t, layoutAt(t, dir)); len(tags) != 1+len(images)-2 {
		t.Errorf("names: %q", tags)
	}
	noLeftovers(t, dir)
}

func TestLayoutReadOnlyFolder(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root writes everywhere")
	}
	dir := filepath.Join(t.TempDir(), "l")
	l := layoutAt(t, dir)
	m := putImage(t, l, nil, "", "x")
	if err := l.Tag(context.Background(), m, "1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	if err := l.Tag(context.Background(), m, "2"); !errors.Is(err, ErrDisk) {
		t.Error(err)
	}
	if _, err := l.Resolve(context.Background(), Reference{Tag: "1"}); err != nil {
		t.Errorf("reading: %v", err)
	}
}
