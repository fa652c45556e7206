package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// putMany stores n signed images as a batch does, several at a time, under full names that share one tag.
func putMany(t testing.TB, r *Repo, n, atOnce int) {
	t.Helper()
	ctx := context.Background()
	config := []byte(`{"os":"linux","architecture":"amd64"}`)
	putBytes(t, r, described(ocispec.MediaTypeImageConfig, config), config)
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			m := NewManifest(ocispec.MediaTypeImageManifest, fmt.Appendf(nil,
				`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[],"annotations":{"n":"%d"}}`,
				ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, described("", config).Digest, len(config), i))
			envelope := fmt.Appendf(nil, "envelope %d", i)
			sig := ByArtifactType.Manifest(m.Descriptor, "application/jose+json", envelope, nil)
			name := fmt.Sprintf("harbor.example/app-%d:1.0", i)
			if _, err := r.Tagged(ctx, name); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
			if err := errors.Join(
				r.PushManifest(ctx, m),
				r.PushSignature(ctx, m.Descriptor, sig, envelope),
				r.Confirm(ctx, m.Descriptor, sig),
				r.Tag(ctx, m, name),
			); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// checkMany finds each by its name and with its signature.
func checkMany(t testing.TB, r *Repo, n int) {
	t.Helper()
	ctx := context.Background()
	for i := range n {
		m, err := r.Resolve(ctx, Reference{Tag: fmt.Sprintf("harbor.example/app-%d:1.0", i)})
		if err != nil {
			t.Fatal(err)
		}
		if list, err := r.Referrers(ctx, m.Descriptor, ""); err != nil || len(list) != 1 {
			t.Fatalf("image %d: %d referrers, %v", i, len(list), err)
		}
	}
	count := 0
	for range r.Tags(ctx) {
		count++
	}
	if count != n {
		t.Errorf("%d of %d names are listed", count, n)
	}
}

// A thousand references go into one archive, and are found in it, each by its full name.
func TestArchiveOfManyReferences(t *testing.T) {
	const n = 1000
	file := filepath.Join(t.TempDir(), "a.tar")
	a := createArchive(t, file)
	putMany(t, a, n, 16)
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	checkMany(t, openedArchive(t, file), n)
}

// A layout's index is written again as it grows; artifacts that come together share a write.
func TestLayoutOfManyReferences(t *testing.T) {
	const n = 300
	l := newLayout(t)
	putMany(t, l, n, 16)
	checkMany(t, layoutAt(t, l.Reference().Path), n)
}

// What is done for each of many artifacts must not look at all that are there: counted, as clocks are not alike.
func TestManyReferencesAreReadOnce(t *testing.T) {
	t.Parallel()
	const n = 200
	l := newLayout(t)
	counted := &countedBlobs{blobs: l.store.(*layout), opened: make(map[digest.Digest]int)}
	l.store.(*layout).has.blobs = counted
	putMany(t, l, n, 8)
	for d, times := range counted.opened {
		if times > 1 {
			t.Errorf("%s was read %d times", d, times)
		}
	}
	a := createArchive(t, filepath.Join(t.TempDir(), "a.tar"))
	visits := &countedBlobs{blobs: a.store.(*newArchive), opened: make(map[digest.Digest]int)}
	a.store.(*newArchive).has.blobs = visits
	putMany(t, a, n, 8)
	for d, times := range visits.opened {
		if times > 1 {
			t.Errorf("%s was read %d times", d, times)
		}
	}
	if len(counted.opened) < n || len(visits.opened) < n {
		t.Errorf("%d and %d manifests were read", len(counted.opened), len(visits.opened))
	}
}

type countedBlobs struct {
	blobs
	mu     sync.Mutex
	opened map[digest.Digest]int
}

func (c *countedBlobs) open(d digest.Digest) (io.ReadCloser, int64, error) {
	c.mu.Lock()
	c.opened[d]++
	c.mu.Unlock()
	return c.blobs.open(d)
}

func BenchmarkManyReferences(b *testing.B) {
	for _, n := range []int{300, 5000} {
		b.Run(fmt.Sprintf("layout/%d", n), func(b *testing.B) {
			for b.Loop() {
				putMany(b, newLayout(b), n, 16)
			}
		})
		b.Run(fmt.Sprintf("archive/%d", n), func(b *testing.B) {
			for b.Loop() {
				a := createArchive(b, filepath.Join(b.TempDir(), "a.tar"))
				putMany(b, a, n, 16)
				if err := a.Commit(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
