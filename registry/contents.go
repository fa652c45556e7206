package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxScanned bounds how many manifests of a layout are looked at for what refers to what.
const maxScanned = 200_000

// A blobs opens what lies under blobs/ in a layout or archive. The digest's grammar was checked. An absent blob is ErrNotFound.
type blobs interface {
	open(d digest.Digest) (rc io.ReadCloser, size int64, err error)
}

// A contents answers what a registry would about the manifests of a layout or archive. It remembers what it read of
// each: content addressed by digest does not change.
type contents struct {
	blobs blobs

	mu    sync.Mutex
	known map[digest.Digest]*outline
	// What the first scanned entries of an index lead to.
	descent *descent
	scanned int
	reach   map[digest.Digest]bool
	listed  map[digest.Digest][]Referrer // by subject
	absent  map[digest.Digest]visit      // it may come yet
	came    []visit                      // it was absent
}

// A visit is a manifest to look at.
type visit struct {
	d     ocispec.Descriptor
	depth int
}

// An outline is what matters for listing referrers, read as leniently as a registry reads.
type outline struct {
	descriptor  ocispec.Descriptor
	annotations map[string]string
	subject     digest.Digest
	children    []ocispec.Descriptor
}

// manifest reads a manifest by digest and checks that it is this one. The media type is the entry's in the index,
// else the body's own, else "".
func (c *contents) manifest(ix *layoutIndex, d digest.Digest) (mediaType string, body []byte, err error) {
	if body, err = c.read(d); err != nil {
		return "", nil, err
	}
	if mediaType, listed := ix.mediaType(d); listed {
		return mediaType, body, nil
	}
	return statedType(body), body, nil
}

func statedType(body []byte) string {
	var stated struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(body, &stated) != nil {
		return ""
	}
	return stated.MediaType
}

// read reads the bytes of a manifest, at most MaxManifest.
func (c *contents) read(d digest.Digest) ([]byte, error) {
	rc, size, err := c.blobs.open(d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if size > MaxManifest {
		return nil, fail(codeTooLarge, "manifest %s: %w: %d bytes", d, ErrTooLarge, size)
	}
	body, err := io.ReadAll(verifying(rc, ocispec.Descriptor{Digest: d, Size: size}))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d, err)
	}
	return body, nil
}

// referrers returns what refers to subject among all that the index leads to.
func (c *contents) referrers(ix *layoutIndex, subject digest.Digest) ([]Referrer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.scan(ix); err != nil {
		return nil, err
	}
	return slices.Clone(c.listed[subject]), nil
}

// reachable reports whether the index leads to d.
func (c *contents) reachable(ix *layoutIndex, d digest.Digest) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.scan(ix); err != nil {
		return false, err
	}
	return c.reach[d], nil
}

// list adds referrers to ix, a copy of old, unless that leads to them already, and reports whether it had to. With an
// error it changed nothing.
func (c *contents) list(old, ix *layoutIndex, manifests []Manifest) (changed bool, err error) {
	var unknown []Manifest
	for _, m := range manifests {
		reachable, err := c.reachable(old, m.Descriptor.Digest)
		if err != nil {
			return false, err
		}
		if !reachable {
			unknown = append(unknown, m)
		}
	}
	for _, m := range unknown {
		if !ix.lists(m.Descriptor.Digest) {
			ix.add(listing(m))
			changed = true
		}
	}
	return changed, nil
}

// stored is told of a manifest that was written: something may have led to it already.
func (c *contents) stored(d digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, was := c.absent[d]; was {
		delete(c.absent, d)
		c.came = append(c.came, v)
	}
}

// scan walks all that ix leads to, as far as that was not done already. Call with mu held.
func (c *contents) scan(ix *layoutIndex) error {
	of, added, all := ix.since(c.descent, c.scanned)
	if all {
		c.descent, c.scanned = of, 0
		c.reach = make(map[digest.Digest]bool, len(added))
		c.listed = make(map[digest.Digest][]Referrer)
		c.absent = make(map[digest.Digest]visit)
		c.came = nil
	}
	queue := c.came
	for _, v := range queue {
		delete(c.reach, v.d.Digest)
	}
	for _, d := range added {
		queue = append(queue, visit{d, 0})
	}
	if err := c.walk(queue); err != nil {
		c.descent = nil // it was walked in part
		return err
	}
	c.scanned += len(added)
	c.came = nil
	return nil
}

// walk visits what was not reached yet.
func (c *contents) walk(queue []visit) error {
	for ; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if c.reach[at.d.Digest] {
			continue
		}
		if len(c.reach) >= maxScanned || at.depth > MaxDepth {
			return fail(codeTooLarge, "%s: %w: more than %d manifests, or indexes nested deeper than %d",
				indexFile, ErrTooLarge, maxScanned, MaxDepth)
		}
		c.reach[at.d.Digest] = true
		o, err := c.outline(at.d)
		if errors.Is(err, ErrNotFound) {
			c.absent[at.d.Digest] = at // a part that was left out
			continue
		}
		if err != nil {
			return err
		}
		if o == nil {
			continue
		}
		if o.subject != "" {
			d := o.descriptor
			d.Annotations = o.annotations
			c.listed[o.subject] = append(c.listed[o.subject], Referrer{d})
		}
		for _, child := range o.children {
			queue = append(queue, visit{child, at.depth + 1})
		}
	}
	return nil
}

// outline reads what a manifest refers to; nil where nothing can be said of it, as it is no manifest at all.
func (c *contents) outline(d ocispec.Descriptor) (*outline, error) {
	if o, ok := c.known[d.Digest]; ok {
		return o, nil
	}
	body, err := c.read(d.Digest)
	switch {
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrDigestMismatch):
		c.remember(d.Digest, nil)
		return nil, nil
	case err != nil:
		return nil, err
	}
	mediaType := d.MediaType
	if stated := statedType(body); stated != "" {
		mediaType = stated
	}
	var m struct {
		ArtifactType string               `json:"artifactType"`
		Config       *ocispec.Descriptor  `json:"config"`
		Manifests    []ocispec.Descriptor `json:"manifests"`
		Subject      *ocispec.Descriptor  `json:"subject"`
		Annotations  map[string]string    `json:"annotations"`
	}
	if json.Unmarshal(body, &m) != nil { // no manifest: it refers to nothing
		c.remember(d.Digest, nil)
		return nil, nil //nolint:nilerr // see above
	}
	o := &outline{
		descriptor:  ocispec.Descriptor{MediaType: mediaType, ArtifactType: m.ArtifactType, Digest: d.Digest, Size: int64(len(body))},
		annotations: m.Annotations,
	}
	if o.descriptor.ArtifactType == "" && m.Config != nil {
		o.descriptor.ArtifactType = m.Config.MediaType
	}
	if m.Subject != nil {
		o.subject = m.Subject.Digest
	}
	if shapeOf(mediaType) == ShapeIndex {
		for _, child := range m.Manifests {
			if checkDescriptor(child) == nil {
				o.children = append(o.children, child)
			}
		}
	}
	c.remember(d.Digest, o)
	return o, nil
}

func (c *contents) remember(d digest.Digest, o *outline) {
	if c.known == nil {
		c.known = make(map[digest.Digest]*outline)
	}
	c.known[d] = o
}

// listing returns the index entry of a referrer: untagged, with artifact type and annotations, as oras and notation
// write and read it.
func listing(m Manifest) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size}
	if p, err := m.Parse(); err == nil {
		d.ArtifactType, d.Annotations = p.ArtifactType, p.Annotations
	}
	// These two would make it a name.
	if _, named := d.Annotations[ocispec.AnnotationRefName]; named {
		d.Annotations = nil
	}
	if _, named := d.Annotations[annotationContainerd]; named {
		d.Annotations = nil
	}
	return d
}

// indexEntry returns the index entry of a manifest without annotations: media type, digest and size, and the artifact
// type where it has one of its own.
func indexEntry(m Manifest) ocispec.Descriptor {
	d := listing(m)
	d.Annotations = nil
	if p, err := m.Parse(); err == nil && p.Subject == nil && p.Config != nil && p.ArtifactType == p.Config.MediaType {
		d.ArtifactType = "" // an image's configuration is no artifact type
	}
	return d
}
