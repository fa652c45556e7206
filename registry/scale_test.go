package registry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

func TestScale(t *testing.T) {
	t.Parallel()
	t.Run("what is held is bounded, and everybody has their turn", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newScale(100)
			var held, most atomic.Int64
			var wg sync.WaitGroup
			for i := range 200 {
				n := int64(i % 120) // some more than there is
				wg.Go(func() {
					release, err := s.hold(t.Context(), n)
					if err != nil {
						t.Error(err)
						return
					}
					now := held.Add(min(n, 100))
					for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
					}
					held.Add(-min(n, 100))
					release()
					release() // once is enough
				})
			}
			wg.Wait()
			if most.Load() > 100 || s.held != 0 || len(s.queue) != 0 {
				t.Errorf("%d were held at once; %d and %d waiting are left", most.Load(), s.held, len(s.queue))
			}
		})
	})
	t.Run("first come, first served", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newScale(10)
			first, _ := s.hold(t.Context(), 6)
			large, small := make(chan func(), 1), make(chan func(), 1)
			go func() { r, _ := s.hold(t.Context(), 10); large <- r }()
			synctest.Wait()
			go func() { r, _ := s.hold(t.Context(), 1); small <- r }()
			synctest.Wait()
			if len(large)+len(small) != 0 {
				t.Fatal("somebody overtook who came first, or there was no room for it")
			}
			first()
			synctest.Wait()
			if len(large) != 1 || len(small) != 0 {
				t.Fatalf("large %d, small %d", len(large), len(small))
			}
			(<-large)()
			(<-small)()
		})
	})
	t.Run("who gives up holds nothing and lets others in", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newScale(10)
			first, _ := s.hold(t.Context(), 6)
			ctx, cancel := context.WithCancelCause(t.Context())
			why, gone := errors.New("enough"), make(chan error, 1)
			go func() { _, err := s.hold(ctx, 10); gone <- err }()
			synctest.Wait()
			behind := make(chan func(), 1)
			go func() { r, _ := s.hold(t.Context(), 4); behind <- r }()
			synctest.Wait()
			cancel(why)
			if err := <-gone; !errors.Is(err, why) {
				t.Errorf("%v", err)
			}
			(<-behind)()
			first()
			if s.held != 0 {
				t.Errorf("%d are held in the end", s.held)
			}
		})
	})
}

// bulky stores n signatures of so many bytes at a registry: half of them have their envelope in the manifest.
func bulky(t *testing.T, r *Repo, n, size int) (subject ocispec.Descriptor, list []Referrer) {
	t.Helper()
	subject = putImage(t, r, nil, "", "layer").Descriptor
	putBytes(t, r, ocispec.DescriptorEmptyJSON, []byte("{}"))
	for i := range n {
		envelope := bytes.Repeat([]byte{byte(i)}, size)
		layer := described("application/jose+json", envelope)
		putBytes(t, r, layer, envelope) // registries look for it
		if i%2 == 0 {
			layer.Data = envelope
		}
		m := signatureText(t, subject, func(m *ocispec.Manifest) { m.Layers = []ocispec.Descriptor{layer} })
		if err := r.PushManifest(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		d := m.Descriptor
		d.ArtifactType = ArtifactTypeSignature
		list = append(list, Referrer{d})
	}
	return subject, list
}

// What is being read, or is being looked at, has no more bytes than there is room for; one larger than that has all of it to itself.
func TestSignaturesShownAreBounded(t *testing.T) {
	t.Parallel()
	const size = 700 << 10
	s := regtest.New(t, regtest.WithAPI)
	r := openAt(t, s)
	subject, list := bulky(t, r, 12, size)
	var reading, looking, most atomic.Int64
	up := func(n *atomic.Int64, most *atomic.Int64) {
		now := n.Add(1)
		for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
		}
	}
	s.Intercept(func(_ http.ResponseWriter, q *http.Request) bool {
		if strings.Contains(q.URL.Path, "/blobs/") {
			up(&reading, &most)
		}
		return false
	})
	var manifests atomic.Int64
	got, err := r.signaturesIn(t.Context(), subject, list, func(s *Signature) {
		if s.Err != nil || len(s.Envelope) != size {
			t.Errorf("%v, %d bytes", s.Err, len(s.Envelope))
		}
		if len(s.Manifest.Bytes) > size {
			up(&looking, &manifests)
			defer looking.Add(-1)
		} else {
			defer reading.Add(-1)
		}
		for range 100 {
			runtime.Gosched() // others have their chance
		}
		s.Envelope, s.Manifest.Bytes = nil, nil
	})
	if err != nil || len(got) != len(list) {
		t.Fatalf("%v, %d signatures", err, len(got))
	}
	if n := most.Load(); n > envelopesShown/size {
		t.Errorf("%d envelopes of %d bytes were held at once", n, size)
	}
	if n := manifests.Load(); n != 1 {
		t.Errorf("%d manifests of more than half of all the room were held at once", n)
	}
}

// Anybody may write into a fallback index that a manifest is small: it is not read whole while there is room for little.
func TestSignaturesShownOfALyingList(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	r := openAt(t, s)
	subject, list := bulky(t, r, 6, 100<<10)
	for i := range list {
		list[i].Size = 10
	}
	s.Reset()
	got, err := r.signaturesIn(t.Context(), subject, list, func(*Signature) {})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range got {
		if want := r.ReadSignature(t.Context(), subject, list[i]); s.Err == nil || s.Err.Error() != want.Err.Error() || !errors.Is(s.Err, ErrDigestMismatch) {
			t.Errorf("%v, and without a bound %v", s.Err, want.Err)
		}
	}
}

// Who is told to stop while it waits for room stops.
func TestSignaturesShownStop(t *testing.T) {
	t.Parallel()
	r := openAt(t, regtest.New(t, regtest.WithAPI))
	subject, list := bulky(t, r, 8, 700<<10)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	if _, err := r.signaturesIn(ctx, subject, list, func(*Signature) { cancel(why) }); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}
