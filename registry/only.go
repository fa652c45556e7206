package registry

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// An indexed place has an index.json.
type indexed interface {
	indexed() (*layoutIndex, *contents, error)
}

func (l *layout) indexed() (*layoutIndex, *contents, error) {
	ix, err := l.load()
	return ix, l.has, err
}

func (a *archive) indexed() (*layoutIndex, *contents, error) { return a.index, a.has, nil }

// Only resolves the one artifact that a layout or archive holds, for a caller who was given no NAME: the one entry of its
// index that refers to no other artifact and is no part of one, under whatever names. It is ErrReference where there are several, since which is
// meant is not guessed, and in a repository of a registry.
func (r *Repo) Only(ctx context.Context) (Manifest, error) {
	place, ok := r.store.(indexed)
	if !ok {
		return Manifest{}, fail(codeReference, "%w %q: add a tag or a digest; imprint never assumes latest", ErrReference, r.ref)
	}
	ix, has, err := place.indexed()
	if err != nil {
		return Manifest{}, fmt.Errorf("reading the index of %s: %w", r.ref, err)
	}
	artifacts, err := has.artifacts(ix)
	switch {
	case err != nil:
		return Manifest{}, fmt.Errorf("reading the index of %s: %w", r.ref, err)
	case len(artifacts) == 0:
		return Manifest{}, fail(codeNotFound, "%w: %s holds no artifact", ErrNotFound, r.ref)
	case len(artifacts) > 1:
		return Manifest{}, fail(codeReference, "%w %q: it holds %d artifacts, so name one%s", ErrReference, r.ref, len(artifacts), ix.hint())
	}
	return r.Resolve(ctx, r.ref.With("", artifacts[0]))
}

// artifacts lists the entries of an index that refer to no other artifact and are no part of another, each digest once.
func (c *contents) artifacts(ix *layoutIndex) ([]digest.Digest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.scan(ix); err != nil { // which bounds what it reads, and remembers it
		return nil, err
	}
	parts := make(map[digest.Digest]bool)
	for d := range c.reach {
		if o := c.known[d]; o != nil {
			for _, child := range o.children {
				parts[child.Digest] = true
			}
		}
	}
	var list []digest.Digest
	for _, e := range ix.entries {
		o := c.known[e.Digest]
		if parts[e.Digest] || o != nil && o.subject != "" {
			continue
		}
		parts[e.Digest] = true // once
		list = append(list, e.Digest)
	}
	return list, nil
}
