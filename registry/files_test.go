//go:build unix

package registry

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"
)

// writeFiles writes files of these contents, all with one age, and returns their paths.
func writeFiles(t *testing.T, contents ...string) (dir string, paths []string) {
	t.Helper()
	dir = t.TempDir()
	long := time.Now().Add(-time.Hour)
	for i, c := range contents {
		p := filepath.Join(dir, string(rune('a'+i))+".txt")
		if err := errors.Join(os.WriteFile(p, []byte(c), 0o600), os.Chtimes(p, long, long)); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return dir, paths
}

func TestAssemble(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, paths := writeFiles(t, "one", "")
	subject := described(ocispec.MediaTypeImageManifest, []byte("subject"))
	created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	const layers = `"layers":[{"mediaType":"application/octet-stream","digest":"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed","size":3,"annotations":{"org.opencontainers.image.title":"a.txt"}},` +
		`{"mediaType":"text/plain","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"annotations":{"org.opencontainers.image.title":"docs/b"}}]`
	const config = `"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="}`
	files := []File{{Path: paths[0]}, {Path: paths[1], MediaType: "text/plain", Title: "docs/b"}}
	for name, c := range map[string]struct {
		o    AssembleOptions
		want string
	}{
		"plain": {AssembleOptions{},
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.unknown.artifact.v1",` + config + `,` + layers + `}`},
		"all": {AssembleOptions{ArtifactType: "application/vnd.example+tar", Annotations: map[string]string{"z": "1", "a": "<&>"}, Subject: &subject, Created: created},
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.example+tar",` + config + `,` + layers +
				`,"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + subject.Digest.String() + `","size":7},` +
				`"annotations":{"a":"\u003c\u0026\u003e","org.opencontainers.image.created":"2026-01-02T02:04:05Z","z":"1"}}`},
		"created that was given": {AssembleOptions{Annotations: map[string]string{ocispec.AnnotationCreated: "2020-01-01T00:00:00Z"}, Created: created},
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.unknown.artifact.v1",` + config + `,` + layers +
				`,"annotations":{"org.opencontainers.image.created":"2020-01-01T00:00:00Z"}}`},
	} {
		r, m, err := Assemble(ctx, files, c.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, string(m.Bytes)); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
		got, err := r.Resolve(ctx, Reference{Digest: m.Descriptor.Digest})
		if err != nil || cmp.Diff(m, got) != "" {
			t.Errorf("%s: resolved %v, %v", name, got.Descriptor, err)
		}
		n, skipped, err := r.Graph(ctx, m, GraphOptions{})
		if err != nil || len(skipped) != 0 || len(n.Referrers) != 0 || n.Parts.ArtifactType == "" {
			t.Errorf("%s: %+v, %v, %v", name, n, skipped, err)
		}
		for i, want := range []string{"one", ""} {
			if b, err := r.ReadBlob(ctx, n.Parts.Layers[i], 10); err != nil || string(b) != want {
				t.Errorf("%s: layer %d: %q, %v", name, i, b, err)
			}
		}
		if has, err := r.HasBlob(ctx, *n.Parts.Config); err != nil || !has {
			t.Errorf("%s: {}: %v, %v", name, has, err)
		}
	}
}

// It can be read and nothing else, and says so.
func TestAssembleReadsOnly(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, paths := writeFiles(t, "abcdef", "abcdef", "3", "4")
	var files []File
	for _, p := range paths {
		files = append(files, File{Path: p})
	}
	r, m, err := Assemble(ctx, files, AssembleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Reference().String(), strings.Join(paths[:3], ", ")+" and 1 more"; got != want {
		t.Errorf("it is called %q, want %q", got, want)
	}
	d := described(typeOctets, []byte("abcdef"))
	rc, err := r.BlobFrom(ctx, d, 2)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(rc); err != nil || string(b) != "cdef" {
		t.Errorf("from an offset on: %q, %v", b, err)
	}
	_ = rc.Close()
	for tag, err := range r.Tags(ctx) {
		t.Errorf("tag %q, %v", tag, err)
	}
	absent := described("m", []byte("absent"))
	_, noTag := r.Tagged(ctx, "1")
	_, noName := r.Resolve(ctx, Reference{Tag: "1"})
	_, noManifest := r.Manifest(ctx, absent)
	_, noBlob := r.Blob(ctx, absent)
	for _, err := range []error{noTag, noName, noManifest, noBlob} {
		if !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	for name, err := range map[string]error{
		"Tag": r.Tag(ctx, m, "1"), "unnamed": r.Tag(ctx, m, ""), "SetTags": r.SetTags(ctx, m, "1"), "Attach": r.Attach(ctx, m.Descriptor, m), "Confirm": r.Confirm(ctx, m.Descriptor, m),
		"PushBytes": r.PushBytes(ctx, absent, []byte("absent")), "PushManifest": r.PushManifest(ctx, m), "Detach": r.Detach(ctx, m.Descriptor, m.Descriptor.Digest),
	} {
		if !errors.Is(err, ErrUnsupported) || reasonOf(err) != "unsupported" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.PushBlob(ctx, absent, nil, BytesBody([]byte("absent"))); !errors.Is(err, ErrUnsupported) {
		t.Errorf("PushBlob: %v", err)
	}
	if err := errors.Join(r.Commit(), r.Close()); err != nil {
		t.Error(err)
	}
}

// What is assembled arrives in a layout, where oras finds it.
func TestAssembleInterop(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, paths := writeFiles(t, "one", "two")
	r, m, err := Assemble(ctx, []File{{Path: paths[0]}, {Path: paths[1]}}, AssembleOptions{ArtifactType: "application/vnd.example"})
	if err != nil {
		t.Fatal(err)
	}
	l := newLayout(t)
	p, err := m.Parse()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Blobs() {
		if _, err := l.PushBlob(ctx, d, r, func(ctx context.Context, offset int64) (io.ReadCloser, error) { return r.BlobFrom(ctx, d, offset) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.PushManifest(ctx, m), l.Tag(ctx, m, "1")); err != nil {
		t.Fatal(err)
	}
	oras, err := oci.New(l.Reference().Path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := oras.Resolve(ctx, "1")
	if err != nil || d.Digest != m.Descriptor.Digest || d.ArtifactType != "application/vnd.example" {
		t.Errorf("oras resolves %+v, %v", d, err)
	}
	rc, err := oras.Fetch(ctx, p.Layers[1])
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if b, err := io.ReadAll(rc); err != nil || string(b) != "two" {
		t.Errorf("oras reads %q, %v", b, err)
	}
}

func TestAssembleRefuses(t *testing.T) {
	t.Parallel()
	dir, paths := writeFiles(t, "one", "two")
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "dangling")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink("nowhere", link)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files []File
		o     AssembleOptions
		says  string
	}{
		"nothing":                    {nil, AssembleOptions{}, "none was named"},
		"folder":                     {[]File{{Path: dir}}, AssembleOptions{}, "tar -cf"},
		"FIFO":                       {[]File{{Path: fifo}}, AssembleOptions{}, "pipe"},
		"device":                     {[]File{{Path: "/dev/zero"}}, AssembleOptions{}, "device"},
		"absent":                     {[]File{{Path: filepath.Join(dir, "x")}}, AssembleOptions{}, "no such file"},
		"dangling link":              {[]File{{Path: link}}, AssembleOptions{}, "no such file"},
		"one file twice":             {[]File{{Path: paths[0]}, {Path: paths[0]}}, AssembleOptions{}, "another title"},
		"two of one title":           {[]File{{Path: paths[0]}, {Path: paths[1], Title: "a.txt"}}, AssembleOptions{}, "another title"},
		"title that climbs":          {[]File{{Path: paths[0], Title: "../a"}}, AssembleOptions{}, "lead out"},
		"title that climbs later":    {[]File{{Path: paths[0], Title: "a/../../b"}}, AssembleOptions{}, "lead out"},
		"absolute title":             {[]File{{Path: paths[0], Title: "/etc/x"}}, AssembleOptions{}, "lead out"},
		"title with a backslash":     {[]File{{Path: paths[0], Title: `..\a`}}, AssembleOptions{}, "lead out"},
		"no media type":              {[]File{{Path: paths[0], MediaType: "text"}}, AssembleOptions{}, "not a media type"},
		"media type with parameters": {[]File{{Path: paths[0], MediaType: "text/plain; charset=utf-8"}}, AssembleOptions{}, "not a media type"},
		"artifact type":              {[]File{{Path: paths[0]}}, AssembleOptions{ArtifactType: "sbom"}, "artifact type"},
	} {
		_, _, err := Assemble(context.Background(), c.files, c.o)
		if !errors.Is(err, ErrFile) || reasonOf(err) != "file-unfit" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s), want %q", name, err, reasonOf(err), c.says)
		}
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(paths[1], 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Assemble(context.Background(), []File{{Path: paths[1]}}, AssembleOptions{}); !errors.Is(err, ErrDisk) {
			t.Errorf("a file that may not be read: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Assemble(ctx, []File{{Path: paths[0]}}, AssembleOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A file that is not any more what its digest is of never arrives, and the error names it.
func TestAssembleChangedFile(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const content = "the content of the file"
	d := described(typeOctets, []byte(content))
	long := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		change func(path string) error
		reason string
	}{
		"other bytes": {func(p string) error { return os.WriteFile(p, []byte(strings.ToUpper(content)), 0o600) }, "file-changed"},
		"longer":      {func(p string) error { return os.WriteFile(p, []byte(content+"!"), 0o600) }, "file-changed"},
		"shorter":     {func(p string) error { return os.WriteFile(p, []byte(content[1:]), 0o600) }, "file-changed"},
		"gone":        {os.Remove, "file-changed"},
		"a folder":    {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "file-changed"},
		"a FIFO":      {func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) }, "file-changed"},
		// Only the digest tells.
		"other bytes, the time set back": {func(p string) error {
			return errors.Join(os.WriteFile(p, []byte(strings.ToUpper(content)), 0o600), os.Chtimes(p, long, long))
		}, "digest-mismatch"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, long, long)); err != nil {
			t.Fatal(err)
		}
		r, _, err := Assemble(ctx, []File{{Path: path}}, AssembleOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := r.ReadBlob(ctx, d, 100); err != nil || string(b) != content {
			t.Fatalf("%s: before: %q, %v", name, b, err)
		}
		if err := c.change(path); err != nil {
			t.Fatal(err)
		}
		l := newLayout(t)
		_, err = l.PushBlob(ctx, d, r, func(ctx context.Context, offset int64) (io.ReadCloser, error) { return r.BlobFrom(ctx, d, offset) })
		if !errors.Is(err, ErrDigestMismatch) || reasonOf(err) != c.reason {
			t.Errorf("%s: %v (%s), want %s", name, err, reasonOf(err), c.reason)
		}
		if err != nil && c.reason == "file-changed" && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the file is not named: %v", name, err)
		}
		if has, err := l.HasBlob(ctx, d); err != nil || has {
			t.Errorf("%s: it was stored (%v)", name, err)
		}
	}

	// While it is read, too.
	_, paths := writeFiles(t, content)
	r, _, err := Assemble(ctx, []File{{Path: paths[0]}}, AssembleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rc, err := r.Blob(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(paths[0], 7); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(rc); !errors.Is(err, ErrDigestMismatch) || reasonOf(err) != "file-changed" {
		t.Errorf("cut while it is read: %v", err)
	}
}
