package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A liar is a store that answers what a test tells it to; only reading works.
type liar struct {
	store
	manifests map[digest.Digest]Manifest
	lists     map[digest.Digest][]Referrer

	mu    sync.Mutex
	reads map[digest.Digest]int
}

func (l *liar) manifest(ctx context.Context, tag string, d digest.Digest) (string, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads == nil {
		l.reads = make(map[digest.Digest]int)
	}
	l.reads[d]++
	m, ok := l.manifests[d]
	if !ok {
		return "", nil, fail(codeNotFound, "%w", ErrNotFound)
	}
	return m.Descriptor.MediaType, m.Bytes, nil
}

func (l *liar) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	return l.lists[subject.Digest], nil
}

func (l *liar) blob(context.Context, ocispec.Descriptor, int64) (io.ReadCloser, error) {
	return nil, fail(codeNotFound, "%w", ErrNotFound)
}
func (l *liar) tags(context.Context) iter.Seq2[string, error] { return nil }

func newLiar() *liar {
	return &liar{manifests: make(map[digest.Digest]Manifest), lists: make(map[digest.Digest][]Referrer)}
}

func (l *liar) repo() *Repo {
	return newRepo(l, Reference{Host: "registry.example", Path: "app"})
}

// add stores a manifest; of says under which subject it is listed.
func (l *liar) add(m Manifest, of ...Manifest) Manifest {
	l.manifests[m.Descriptor.Digest] = m
	for _, s := range of {
		l.lists[s.Descriptor.Digest] = append(l.lists[s.Descriptor.Digest], Referrer{m.Descriptor})
	}
	return m
}

func image(note string, subject *Manifest) Manifest {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"note": note}}
	m.SchemaVersion = 2
	if subject != nil {
		m.Subject = &subject.Descriptor
		m.ArtifactType = "application/x"
	}
	b, _ := json.Marshal(m)
	return NewManifest(ocispec.MediaTypeImageManifest, b)
}

func index(subject *Manifest, children ...Manifest) Manifest {
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	x.SchemaVersion = 2
	for _, c := range children {
		x.Manifests = append(x.Manifests, c.Descriptor)
	}
	if subject != nil {
		x.Subject = &subject.Descriptor
	}
	b, _ := json.Marshal(x)
	return NewManifest(ocispec.MediaTypeImageIndex, b)
}

// checkOrder fails unless All yields every node once, after what it refers to.
func checkOrder(t *testing.T, root *Node) []*Node {
	t.Helper()
	var order []*Node
	at := make(map[digest.Digest]int)
	for n := range root.All {
		if _, twice := at[n.Manifest.Descriptor.Digest]; twice {
			t.Errorf("%s comes twice", n.Manifest.Descriptor.Digest)
		}
		at[n.Manifest.Descriptor.Digest] = len(order)
		order = append(order, n)
	}
	for i, n := range order {
		before := slices.Clone(n.Parts.Manifests)
		if n.Parts.Subject != nil {
			before = append(before, *n.Parts.Subject)
		}
		for _, d := range before {
			if j, ok := at[d.Digest]; ok && j > i {
				t.Errorf("%s (%s) comes before %s, to which it refers", n.Manifest.Descriptor.Digest, n.Role, d.Digest)
			}
		}
	}
	return order
}

func TestGraph(t *testing.T) {
	t.Parallel()
	l := newLiar()
	amd, arm := l.add(image("amd64", nil)), l.add(image("arm64", nil))
	root := l.add(index(nil, amd, arm))
	sbom := l.add(image("sbom", &arm), arm)
	sig := l.add(image("signature of the sbom", &sbom), sbom)
	more := []Manifest{l.add(image("1", &root), root), l.add(image("2", &root), root)}
	n, skipped, err := l.repo().Graph(context.Background(), root, GraphOptions{})
	if err != nil || len(skipped) != 0 {
		t.Fatal(err, skipped)
	}
	if len(n.Children) != 2 || len(n.Referrers) != 2 || len(n.Children[1].Referrers) != 1 || n.Children[1].Referrers[0].Referrers[0].Manifest.Descriptor.Digest != sig.Descriptor.Digest {
		t.Errorf("%+v", n)
	}
	if n.Referrers[0].Manifest.Descriptor.Digest > n.Referrers[1].Manifest.Descriptor.Digest {
		t.Error("referrers are not in the order of their digests")
	}
	if order := checkOrder(t, n); len(order) != 5+len(more) {
		t.Errorf("%d nodes", len(order))
	}
	for d, count := range l.reads {
		if count > 1 {
			t.Errorf("%s was read %d times", d, count)
		}
	}
	for name, c := range map[string]struct {
		o    GraphOptions
		want int
	}{
		"none":       {GraphOptions{NoReferrers: true}, 3},
		"no child":   {GraphOptions{Child: func(d ocispec.Descriptor) bool { return d.Digest == amd.Descriptor.Digest }}, 4},
		"no sbom":    {GraphOptions{Referrer: func(r Referrer) bool { return r.Digest != sbom.Descriptor.Digest }}, 5},
		"everything": {GraphOptions{}, 7},
	} {
		n, _, err := l.repo().Graph(context.Background(), root, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if order := checkOrder(t, n); len(order) != c.want {
			t.Errorf("%s: %d nodes, want %d", name, len(order), c.want)
		}
	}
}

// A referrer may itself be an index of what is elsewhere in the graph, its subject's parent included.
func TestGraphOrderOfEntangled(t *testing.T) {
	t.Parallel()
	l := newLiar()
	a, b := l.add(image("a", nil)), l.add(image("b", nil))
	root := l.add(index(nil, a, b))
	over := l.add(index(&a, b, root), a)                // refers to a, contains root
	l.add(index(&a, over, l.add(image("c", &b), b)), a) // contains a referrer of its own subject, and one of b's
	n, _, err := l.repo().Graph(context.Background(), root, GraphOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if order := checkOrder(t, n); len(order) != 6 {
		t.Errorf("%d nodes", len(order))
	}
	for stop := range 6 {
		i := 0
		for range n.All {
			if i == stop {
				break
			}
			i++
		}
	}
}

func TestC04ForeignSubject(t *testing.T) {
	t.Parallel()
	l := newLiar()
	root, elsewhere := l.add(image("root", nil)), image("elsewhere", nil)
	foreign := l.add(image("foreign", &elsewhere), root)
	good := l.add(image("good", &root), root)
	ghost := image("ghost", &root)
	l.lists[root.Descriptor.Digest] = append(l.lists[root.Descriptor.Digest], Referrer{ghost.Descriptor})
	n, skipped, err := l.repo().Graph(context.Background(), root, GraphOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Referrers) != 1 || n.Referrers[0].Manifest.Descriptor.Digest != good.Descriptor.Digest {
		t.Errorf("referrers: %+v", n.Referrers)
	}
	got := map[digest.Digest]string{}
	for _, s := range skipped {
		got[s.Descriptor.Digest] = s.Reason
	}
	if len(got) != 2 || got[foreign.Descriptor.Digest] != SkippedForeign || got[ghost.Descriptor.Digest] != SkippedGhost {
		t.Errorf("skipped: %+v", skipped)
	}
}

func TestV23MalformedReferrerIsCarried(t *testing.T) {
	t.Parallel()
	l := newLiar()
	root := l.add(image("root", nil))
	twice := l.add(NewManifest(ocispec.MediaTypeImageManifest, []byte(imageText(`,"layers":[]`))), root)
	without := l.add(image("no subject", nil), root)
	unknown := l.add(NewManifest("application/x-new", []byte("?")), root)
	n, skipped, err := l.repo().Graph(context.Background(), root, GraphOptions{})
	if err != nil || len(skipped) != 0 || len(n.Referrers) != 3 {
		t.Fatal(n, skipped, err)
	}
	for _, r := range n.Referrers {
		switch r.Manifest.Descriptor.Digest {
		case twice.Descriptor.Digest:
			if !errors.Is(r.Malformed, ErrAmbiguous) || r.IsSignature() {
				t.Errorf("ambiguous: %v", r.Malformed)
			}
		case without.Descriptor.Digest:
			if !errors.Is(r.Malformed, ErrMalformed) {
				t.Errorf("without subject: %v", r.Malformed)
			}
		case unknown.Descriptor.Digest:
			if r.Malformed != nil || r.Parts.Shape != ShapeUnknown {
				t.Errorf("unknown: %v, %s", r.Malformed, r.Parts.Shape)
			}
		}
	}
	checkOrder(t, n)
}

func TestGraphBounds(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("A13 indexes nested deep", func(t *testing.T) {
		t.Parallel()
		for depth, want := range map[int]error{MaxDepth: nil, MaxDepth + 1: ErrTooLarge, 200: ErrTooLarge} {
			l := newLiar()
			m := l.add(image("innermost", nil))
			for range depth {
				m = l.add(index(nil, m))
			}
			_, _, err := l.repo().Graph(ctx, m, GraphOptions{})
			if !errors.Is(err, want) {
				t.Errorf("%d deep: %v", depth, err)
			}
			if len(l.reads) > MaxDepth+2 {
				t.Errorf("%d deep: %d manifests were read", depth, len(l.reads))
			}
		}
	})
	t.Run("A13 index that lists itself", func(t *testing.T) {
		t.Parallel()
		// Nobody can make one; a registry can pretend.
		l := newLiar()
		root := index(nil, image("x", nil))
		l.manifests[root.Descriptor.Digest] = root
		l.manifests[image("x", nil).Descriptor.Digest] = root
		if _, _, err := l.repo().Graph(ctx, root, GraphOptions{}); !errors.Is(err, ErrDigestMismatch) {
			t.Error(err)
		}
	})
	t.Run("C05 referrers that go round", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		root := l.add(image("root", nil))
		a := l.add(image("a", &root), root)
		l.lists[a.Descriptor.Digest] = []Referrer{{root.Descriptor}, {a.Descriptor}}
		n, skipped, err := l.repo().Graph(ctx, root, GraphOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkOrder(t, n)
		if len(skipped) != 2 || skipped[0].Reason != SkippedForeign || skipped[1].Reason != SkippedForeign {
			t.Errorf("skipped: %+v", skipped)
		}
	})
	t.Run("C05 referrers of referrers", func(t *testing.T) {
		t.Parallel()
		for depth, want := range map[int]error{MaxDepth: nil, MaxDepth + 1: ErrTooLarge, 50: ErrTooLarge} {
			l := newLiar()
			root := l.add(image("root", nil))
			at := root
			for i := range depth {
				at = l.add(image(fmt.Sprint(i), &at), at)
			}
			if _, _, err := l.repo().Graph(ctx, root, GraphOptions{}); !errors.Is(err, want) {
				t.Errorf("%d deep: %v", depth, err)
			}
		}
	})
	t.Run("C02 too many", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		root := l.add(image("root", nil))
		for i := range MaxReferrers + 1 {
			l.lists[root.Descriptor.Digest] = append(l.lists[root.Descriptor.Digest], Referrer{described("m", fmt.Append(nil, i))})
		}
		if _, _, err := l.repo().Graph(ctx, root, GraphOptions{}); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "10001") {
			t.Error(err)
		}
	})
	t.Run("child that is missing", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		root := l.add(index(nil, image("absent", nil)))
		if _, _, err := l.repo().Graph(ctx, root, GraphOptions{}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
	t.Run("child of another media type than listed", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		child := l.add(image("x", nil))
		child.Descriptor.MediaType = typeDockerManifest
		if _, _, err := l.repo().Graph(ctx, l.add(index(nil, child)), GraphOptions{}); !errors.Is(err, ErrAmbiguous) {
			t.Error(err)
		}
	})
	t.Run("child that is malformed", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		child := l.add(NewManifest(ocispec.MediaTypeImageManifest, []byte(imageText(`,"manifests":[]`))))
		if _, _, err := l.repo().Graph(ctx, l.add(index(nil, child)), GraphOptions{}); !errors.Is(err, ErrAmbiguous) {
			t.Error(err)
		}
	})
}
