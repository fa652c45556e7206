package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// newLayout opens a new layout in a folder of the test's.
func newLayout(t testing.TB) *Repo {
	t.Helper()
	return layoutAt(t, filepath.Join(t.TempDir(), "layout"))
}

func layoutAt(t testing.TB, dir string) *Repo {
	t.Helper()
	s, err := createLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return newRepo(s, Reference{Kind: Layout, Path: dir})
}

func described(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func putBytes(t testing.TB, r *Repo, d ocispec.Descriptor, b []byte) {
	t.Helper()
	_, err := r.PushBlob(context.Background(), d, nil, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
	if err != nil {
		t.Fatal(err)
	}
}

// putImage stores an image of the given layers. subject makes it a referrer of that type, which is attached.
func putImage(t testing.TB, r *Repo, subject *ocispec.Descriptor, artifactType string, layers ...string) Manifest {
	t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Subject: subject, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	config := []byte("{}")
	m.Config = described(ocispec.MediaTypeEmptyJSON, config)
	if artifactType == "" {
		config = []byte(`{"os":"linux","architecture":"amd64"}`)
		m.Config = described(ocispec.MediaTypeImageConfig, config)
	}
	putBytes(t, r, m.Config, config)
	for _, l := range layers {
		d := described("application/octet-stream", []byte(l))
		putBytes(t, r, d, []byte(l))
		m.Layers = append(m.Layers, d)
	}
	return put(t, r, subject, ocispec.MediaTypeImageManifest, m)
}

func put(t testing.TB, r *Repo, subject *ocispec.Descriptor, mediaType string, v any) Manifest {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out := NewManifest(mediaType, b)
	if subject != nil {
		err = r.Attach(context.Background(), *subject, out)
	} else {
		err = r.PushManifest(context.Background(), out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func putIndex(t testing.TB, r *Repo, children ...ocispec.Descriptor) Manifest {
	t.Helper()
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: children}
	x.SchemaVersion = 2
	return put(t, r, nil, ocispec.MediaTypeImageIndex, x)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

var errBroken = errors.New("the connection broke")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// noLeftovers fails if a folder holds temporary files.
func noLeftovers(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && isTemporary(d.Name()) {
			t.Errorf("%s was left behind", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
