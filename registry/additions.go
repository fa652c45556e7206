package registry

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WithAdditions is r as it will be with the additions: they are listed as referrers of their subjects, which may be
// additions too, and their manifests and blobs are found. Everything else, all writes too, is r's. Closing either closes both.
func WithAdditions(r *Repo, adds ...Addition) *Repo {
	s := &additions{
		store:     r.store,
		manifests: make(map[digest.Digest]Manifest, len(adds)),
		lists:     make(map[digest.Digest][]Referrer),
		bytes:     make(map[digest.Digest][]byte),
		from:      make(map[digest.Digest]store),
	}
	for _, a := range adds {
		s.add(a)
	}
	view := *r
	view.store = s
	return &view
}

// An additions is a store with referrers that are not there yet.
type additions struct {
	store
	manifests map[digest.Digest]Manifest
	lists     map[digest.Digest][]Referrer // by subject
	bytes     map[digest.Digest][]byte
	from      map[digest.Digest]store
}

func (s *additions) add(a Addition) {
	d := a.Manifest.Descriptor.Digest
	s.manifests[d] = a.Manifest
	s.lists[a.Subject.Digest] = append(s.lists[a.Subject.Digest], Referrer{listing(a.Manifest)})
	for of, b := range a.Blobs {
		s.bytes[of] = b
	}
	if a.From == nil {
		return
	}
	// What does not parse is carried as it is; it has no blobs that anybody could name.
	if p, err := a.Manifest.Parse(); err == nil {
		for _, blob := range p.Blobs() {
			s.from[blob.Digest] = a.From.store
		}
	}
}

// underlying is the place that a view is of: that is where blobs are mounted from.
func underlying(s store) store {
	for {
		view, ok := s.(*additions)
		if !ok {
			return s
		}
		s = view.store
	}
}

func (s *additions) manifest(ctx context.Context, tag string, d digest.Digest) (mediaType string, body []byte, err error) {
	if m, ok := s.manifests[d]; ok && tag == "" {
		return m.Descriptor.MediaType, m.Bytes, nil
	}
	return s.store.manifest(ctx, tag, d)
}

func (s *additions) hasManifest(ctx context.Context, d digest.Digest) (bool, error) {
	if _, ok := s.manifests[d]; ok {
		return true, nil
	}
	return s.store.hasManifest(ctx, d)
}

func (s *additions) blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if b, ok := s.bytes[d.Digest]; ok {
		return sized(func(digest.Digest) (io.ReadCloser, int64, error) { return inMemory(b), int64(len(b)), nil }, d, offset)
	}
	if from := s.from[d.Digest]; from != nil {
		rc, err := from.blob(ctx, d, offset)
		if !errors.Is(err, ErrNotFound) {
			return rc, err
		}
	}
	return s.store.blob(ctx, d, offset)
}

func (s *additions) hasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if b, ok := s.bytes[d.Digest]; ok {
		return int64(len(b)) == d.Size, nil
	}
	if from := s.from[d.Digest]; from != nil {
		if has, err := from.hasBlob(ctx, d); has || err != nil {
			return has, err
		}
	}
	return s.store.hasBlob(ctx, d)
}

// referrers lists what the place lists, and then the additions that it does not: what is listed once stands where it stood.
func (s *additions) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	list, err := s.store.referrers(ctx, subject, artifactType)
	if err != nil || len(s.lists[subject.Digest]) == 0 {
		return list, err
	}
	listed := make(map[digest.Digest]bool, len(list))
	for _, r := range list {
		listed[r.Digest] = true
	}
	out := slices.Clone(list)
	for _, r := range s.lists[subject.Digest] {
		if !listed[r.Digest] {
			listed[r.Digest] = true
			out = append(out, r)
		}
	}
	return out, nil
}
