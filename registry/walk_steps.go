package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on the tags that a walk asks for.
const (
	maxTags     = 1_000_000
	maxTagPages = 10_000 // some registries give fifty tags a page
)

// The first byte of a mark.
const (
	markName byte = iota
	markSHA256
	markSHA512
)

// markOf returns the mark of a digest: a fallback tag has no more than the first 64 digits of one either.
func markOf(d digest.Digest) (m mark) {
	m[0] = markSHA256
	if d.Algorithm() == digest.SHA512 {
		m[0] = markSHA512
	}
	encoded := d.Encoded()
	_, _ = hex.Decode(m[1:], []byte(encoded[:min(len(encoded), 64)])) // its grammar was checked
	return m
}

// markOfTag returns the mark of the digests whose fallback tag this is.
func markOfTag(tag string) (m mark, ok bool) {
	algorithm, encoded, _ := strings.Cut(tag, "-")
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		m[0] = markSHA256
	case digest.SHA512:
		m[0] = markSHA512
	default:
		return m, false
	}
	if len(encoded) != 64 || strings.ToLower(encoded) != encoded {
		return m, false
	}
	_, err := hex.Decode(m[1:], []byte(encoded))
	return m, err == nil
}

// tag returns the fallback tag, and the digest where the tag has all of it.
func (m mark) tag() (tag string, d digest.Digest) {
	encoded := hex.EncodeToString(m[1:])
	if m[0] == markSHA512 {
		return string(digest.SHA512) + "-" + encoded, ""
	}
	return string(digest.SHA256) + "-" + encoded, digest.NewDigestFromEncoded(digest.SHA256, encoded)
}

func markOfName(tag string) (m mark) {
	m[0] = markName
	sum := sha256.Sum256([]byte(tag))
	copy(m[1:], sum[:])
	return m
}

// tagPages lists the tags, at most so many pages of them. The last page says that it is, or why there are no more.
func (r *Repo) tagPages(ctx context.Context, most int) iter.Seq[tagPage] {
	if s, ok := r.store.(*remote); ok {
		return s.tagPages(ctx, most)
	}
	return func(yield func(tagPage) bool) {
		last := tagPage{complete: true}
		for t, err := range r.store.tags(ctx) {
			if err != nil {
				last.err, last.complete = err, false
				break
			}
			last.tags = append(last.tags, t)
		}
		ix, err := r.index()
		if err != nil {
			last.err, last.complete = err, false
		} else {
			_, last.entries, _ = ix.since(nil, 0)
		}
		yield(last)
	}
}

// index returns the index of a layout or archive.
func (r *Repo) index() (*layoutIndex, error) {
	switch s := r.store.(type) {
	case *layout:
		return s.load()
	case *archive:
		return s.index, nil
	case *newArchive:
		return s.index, nil
	}
	return newLayoutIndex(), nil
}

func (s *remote) tagPages(ctx context.Context, most int) iter.Seq[tagPage] {
	where := s.host + "/" + s.name
	return func(yield func(tagPage) bool) {
		total := 0
		list := call{method: http.MethodGet, path: "tags/list", query: url.Values{"n": {"1000"}}, action: actionPull}
		for p, err := range s.pages(ctx, list, most) {
			if err != nil {
				yield(tagPage{err: fmt.Errorf("listing the tags of %s: %w", where, err)})
				return
			}
			var body struct {
				Tags []string `json:"tags"`
			}
			if err := json.Unmarshal(p.body, &body); err != nil {
				yield(tagPage{err: fail(codeMalformed, "listing the tags of %s: %w: what came is no list of tags", where, ErrMalformed)})
				return
			}
			total += len(body.Tags)
			if total > maxTags {
				yield(tagPage{err: fail(codeCapped, "listing the tags of %s: %w (%w): more than %d tags", where, ErrCapped, ErrTooLarge, maxTags)})
				return
			}
			if !yield(tagPage{tags: body.Tags, complete: p.last}) {
				return
			}
		}
	}
}

// resolve reads what a tag names, or a digest where the walk begins.
func (w *walk) resolve(ctx context.Context, ref Reference) found {
	n := &node{Visit: Visit{Role: RoleRoot, Subject: ocispec.Descriptor{Digest: ref.Digest}, Root: ref.Digest}, of: &tree{}}
	if ref.Tag != "" {
		n.Tags = []string{ref.Tag}
	}
	if w.repo.checkTag(ref.Tag) != nil {
		n.Err = malformed("%s lists %q as a tag, which is none", w.repo.ref, clip(ref.Tag))
		return found{ready: n}
	}
	m, err := w.repo.look(ctx, ref)
	if ctx.Err() != nil {
		return gone(ctx)
	}
	if err != nil {
		n.Err = err
		return found{ready: n}
	}
	f := w.read(n, m)
	f.tag, f.digest = ref.Tag, m.Descriptor.Digest
	return f
}

// read makes a node of a manifest.
func (w *walk) read(n *node, m Manifest) found {
	n.Subject, n.Manifest = m.Descriptor, &m
	if n.Root == "" {
		n.Root = m.Descriptor.Digest
	}
	p, err := m.Parse()
	switch {
	case err == nil:
		n.parts = &p
	case m.Descriptor.MediaType == typeDockerSchema1 || m.Descriptor.MediaType == typeSignedSchema1:
		n.parts = &Parts{Shape: ShapeUnknown} // it leads nowhere; that it cannot be signed is no failure of a walk
	default:
		n.Err = fmt.Errorf("reading %s: %w", w.repo.ref.With("", m.Descriptor.Digest), err)
		return found{nodes: []*node{n}}
	}
	f := found{nodes: []*node{n}}
	if n.parts.Subject != nil {
		f.orphan = n.parts.Subject.Digest
		if isSignatureType(n.parts.ArtifactType) && w.whole {
			f.nodes = nil
		}
	}
	return f
}

func isSignatureType(artifactType string) bool { return artifactType == ArtifactTypeSignature }

// look lists what refers to a node, and reads it if it is an index. absent says that it has no fallback tag, tagged that
// others have.
func (w *walk) look(ctx context.Context, n *node, absent, tagged bool) found {
	f := found{ready: n}
	if n.Err != nil {
		f.unread = true
		return f
	}
	errs := make(chan error, 1)
	if n.Manifest == nil && shapeOf(n.Subject.MediaType) == ShapeIndex {
		go func() { errs <- w.readIndex(ctx, n) }()
	} else {
		errs <- nil
	}
	var unlisted error
	if !n.listed {
		n.list, f.unread, unlisted = w.repo.listFor(ctx, n.Subject, absent, tagged)
	}
	unreadable := <-errs
	if ctx.Err() != nil {
		return gone(ctx)
	}
	if errors.Is(unlisted, errOccupied) {
		f.occupied = fallbackTag(n.Subject.Digest)
		unlisted = nil
	}
	if unlisted == nil {
		weight := weight(n.list)
		if unlisted = w.held.keep(w.repo.ref.With("", n.Subject.Digest).String(), weight); unlisted != nil {
			w.held.left.Add(int64(weight))
			n.list = nil
		}
	}
	n.Referrers, n.list = n.list, nil
	if n.Err = unreadable; n.Err == nil {
		n.Err = unlisted
	}
	f.nodes = n.below()
	return f
}

// readIndex reads an index that something leads to.
func (w *walk) readIndex(ctx context.Context, n *node) error {
	m, err := w.repo.Manifest(ctx, ocispec.Descriptor{MediaType: n.Subject.MediaType, Digest: n.Subject.Digest, Size: n.Subject.Size})
	if err != nil {
		return err
	}
	p, err := m.Parse()
	if err != nil {
		return fmt.Errorf("reading %s: %w", w.repo.ref.With("", n.Subject.Digest), err)
	}
	n.Manifest, n.parts = &m, &p
	return nil
}

// below returns what a node leads to.
func (n *node) below() []*node {
	var nodes []*node
	at := n.Subject.Digest
	add := func(d ocispec.Descriptor, role string, indexes, hops int) {
		if isSignatureType(d.ArtifactType) {
			return
		}
		b := &node{
			Visit: Visit{
				Subject: ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType},
				Role:    role, Root: n.Root, Within: at,
			},
			of: n.of, indexes: indexes, hops: hops,
		}
		if role == RoleChild {
			b.Platform = d.Platform
		}
		switch {
		case indexes > MaxDepth:
			b.Err = fail(codeTooLarge, "index %s: %w: indexes nested deeper than %d", at, ErrTooLarge, MaxDepth)
		case hops > MaxDepth:
			b.Err = fail(codeTooLarge, "referrers of %s: %w: referrers of referrers deeper than %d", at, ErrTooLarge, MaxDepth)
		}
		nodes = append(nodes, b)
	}
	if n.parts != nil {
		for _, d := range n.parts.Manifests {
			if !isBlobType(d.MediaType) {
				add(d, RoleChild, n.indexes+1, n.hops)
			}
		}
	}
	for _, r := range n.Referrers {
		add(r.Descriptor, RoleReferrer, n.indexes, n.hops+1)
	}
	return nodes
}

// isBlobType reports whether an index's entry is no manifest: caches of builds are indexes of layers.
func isBlobType(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.") ||
		strings.HasPrefix(mediaType, "application/vnd.buildkit.cacheconfig.")
}

// listFor lists what refers to d. absent says that it is known to have no fallback tag; tagged that other artifacts have,
// so that the list of tags holds those. unread says that the fallback tag was not read. What the tag holds otherwise is
// errOccupied.
func (r *Repo) listFor(ctx context.Context, d ocispec.Descriptor, absent, tagged bool) (list []Referrer, unread bool, err error) {
	s, ok := r.store.(*remote)
	if !ok {
		list, err = r.Referrers(ctx, d, "")
		return list, true, err
	}
	where := r.ref.With("", d.Digest)
	if !s.state.api.no() {
		list, ok, err := s.listAPI(ctx, d, "")
		if err != nil {
			return nil, true, fmt.Errorf("listing what refers to %s: %w", where, err)
		}
		if ok && (len(list) > 0 || absent) {
			return list, true, nil
		}
	}
	if absent && tagged {
		return nil, true, nil
	}
	index, err := s.readFallback(ctx, d)
	if errors.Is(err, errOccupied) {
		s.client.warn(codeOccupied, s.name+"@"+string(d.Digest), err.Error())
		return nil, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing what refers to %s: %w", where, err)
	}
	list, err = s.entriesOf(d, index)
	return list, false, err
}

func (s *remote) entriesOf(d ocispec.Descriptor, index fallbackIndex) ([]Referrer, error) {
	if len(index.entries) > MaxReferrers {
		return nil, s.tooMany(d)
	}
	list := make([]Referrer, 0, len(index.entries))
	for _, e := range index.entries {
		list = append(list, Referrer{e.descriptor})
	}
	return list, nil
}

// unread reads a fallback tag that nobody has read: it is the list of what refers to an artifact that nothing else leads
// to, unless that was seen, or an ordinary tag.
func (w *walk) unread(ctx context.Context, m mark, seen bool) found {
	tag, d := m.tag()
	n := &node{Visit: Visit{Role: RoleFallback, Tags: []string{tag}, Subject: ocispec.Descriptor{Digest: d}, Root: d}, of: &tree{}}
	mediaType, body, err := w.repo.store.manifest(ctx, tag, "")
	if ctx.Err() != nil {
		return gone(ctx)
	}
	if err != nil {
		n.Err = fmt.Errorf("reading the referrers tag %s: %w", w.repo.ref.With(tag, ""), err)
		return found{ready: n}
	}
	subject := d
	if subject == "" {
		if subject = digest.SHA512.FromBytes(body); fallbackTag(subject) != tag {
			subject = digest.SHA512.FromString(tag) // no body has that
		}
	}
	index, err := parseFallback(http.Header{"Content-Type": {mediaType}}, body, subject)
	if err != nil {
		return w.resolve(ctx, w.repo.ref.With(tag, ""))
	}
	if seen {
		return found{}
	}
	if d == "" {
		if d, err = w.subjectOf(ctx, tag, index); err != nil {
			n.Err = err
			return found{ready: n}
		}
	}
	return w.orphan(ctx, d, &index)
}

// subjectOf returns what a list is about, whose tag does not have the whole digest: what its entries say.
func (w *walk) subjectOf(ctx context.Context, tag string, index fallbackIndex) (digest.Digest, error) {
	const most = 8
	for i, e := range index.entries {
		if i == most {
			break
		}
		m, err := w.repo.Manifest(ctx, e.descriptor)
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err != nil {
			continue
		}
		if p, err := m.Parse(); err == nil && p.Subject != nil && fallbackTag(p.Subject.Digest) == tag {
			return p.Subject.Digest, nil
		}
	}
	return "", malformed("%s: nothing that it lists says what it refers to", w.repo.ref.With(tag, ""))
}

// orphan reads what nothing leads to but that something refers to it. index is its fallback tag's, where that was read.
func (w *walk) orphan(ctx context.Context, d digest.Digest, index *fallbackIndex) found {
	n := &node{Visit: Visit{Role: RoleFallback, Subject: ocispec.Descriptor{Digest: d}, Root: d}, of: &tree{}}
	m, err := w.repo.Manifest(ctx, n.Subject)
	if err == nil && index != nil {
		n.list, err = w.orphanList(ctx, m.Descriptor, *index)
		n.listed = err == nil
	}
	if ctx.Err() != nil {
		return gone(ctx)
	}
	if err != nil {
		n.Err = err
		return found{ready: n}
	}
	return w.read(n, m)
}

// orphanList is the API's list where that has one, else that of the tag, which is at hand.
func (w *walk) orphanList(ctx context.Context, d ocispec.Descriptor, index fallbackIndex) ([]Referrer, error) {
	s, ok := w.repo.store.(*remote)
	if !ok {
		return w.repo.Referrers(ctx, d, "")
	}
	if !s.state.api.no() {
		if list, ok, err := s.listAPI(ctx, d, ""); err != nil || ok && len(list) > 0 {
			return list, err
		}
	}
	return s.entriesOf(d, index)
}

// entry reads an entry of a layout's index that no name led to: a referrer, whose subject may be known by nothing else, or
// an artifact of its own.
func (w *walk) entry(ctx context.Context, d ocispec.Descriptor) found {
	n := &node{Visit: Visit{Role: RoleRoot, Subject: d, Root: d.Digest}, of: &tree{}}
	m, err := w.repo.Manifest(ctx, d)
	if ctx.Err() != nil {
		return gone(ctx)
	}
	if err != nil {
		n.Err = err
		return found{ready: n}
	}
	f := w.read(n, m)
	if f.orphan != "" {
		f.nodes = nil // its subject's list has it
	}
	return f
}
