package copy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// digestTag is how cosign names what belongs to a digest (.sig, .att, .sbom and others). The bare form is the fallback
// tag of the referrers: a list of the source's, never copied.
var digestTag = regexp.MustCompile(`^sha256-([0-9a-f]{64})\.[\w.-]+$`)

// An aside is a root of its own, named by a tag that was made of a digest of the graph.
type aside struct {
	tag  string
	root *registry.Node
}

// listAside lists the tags that were made of a digest. Unless they are to be copied it is only to say that they stay
// behind, for which no error is raised.
func (c *copier) listAside(ctx context.Context) error {
	for tag, err := range c.src.Tags(ctx) {
		if err != nil && c.o.DigestTags {
			return fmt.Errorf("listing the tags of %s: %w", c.src.Reference(), err)
		}
		if err != nil {
			return nil
		}
		if digestTag.MatchString(bare(tag)) {
			c.aside = append(c.aside, &aside{tag: tag})
		}
	}
	return nil
}

// bare is the tag of a full name, which a layout may have.
func bare(name string) string {
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		return name[i+1:]
	}
	return name
}

// readAside reads what the tags name that were made of a digest of the graph, and refuses those that would move.
func (c *copier) readAside(ctx context.Context) error {
	digests := make(map[digest.Digest]bool)
	for n := range c.root.All {
		digests[n.Manifest.Descriptor.Digest] = true
	}
	c.aside = slices.DeleteFunc(c.aside, func(a *aside) bool {
		return !digests[digest.NewDigestFromEncoded(digest.SHA256, digestTag.FindStringSubmatch(bare(a.tag))[1])]
	})
	if !c.o.DigestTags {
		for _, a := range c.aside {
			c.warn("left behind: %s (cosign tag); --digest-tags", bare(a.tag))
		}
		c.aside = nil
		return nil
	}
	slices.SortFunc(c.aside, func(a, b *aside) int { return strings.Compare(a.tag, b.tag) })
	checked := make([]TagResult, len(c.aside))
	err := parallel(ctx, len(c.aside), func(ctx context.Context, i int) error {
		a := c.aside[i]
		m, err := c.src.Resolve(ctx, c.src.Reference().With(a.tag, ""))
		if errors.Is(err, registry.ErrNotFound) {
			return nil // taken away meanwhile
		}
		if err != nil {
			return err
		}
		if a.root, _, err = c.src.Graph(ctx, m, registry.GraphOptions{NoReferrers: true}); err != nil {
			return fmt.Errorf("reading %s: %w", c.src.Reference().With(a.tag, ""), err)
		}
		one, err := CheckTags(ctx, c.dst, m.Descriptor.Digest, []string{bare(a.tag)}, c.o.Move)
		if err != nil {
			return err
		}
		checked[i] = one[0]
		checked[i].Digest = m.Descriptor.Digest
		if one[0].Status == There {
			return nil
		}
		return c.findAll(ctx, a.root)
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, a := range c.aside {
		if a.root == nil {
			continue
		}
		c.result.DigestTags = append(c.result.DigestTags, checked[i])
		if checked[i].Status == There {
			for n := range a.root.All {
				c.has[n.Manifest.Descriptor.Digest] = true
			}
		}
	}
	c.aside = slices.DeleteFunc(c.aside, func(a *aside) bool { return a.root == nil })
	return nil
}

// findAll asks whether dst has a root and its children.
func (c *copier) findAll(ctx context.Context, root *registry.Node) error {
	var all []ocispec.Descriptor
	for n := range root.All {
		all = append(all, n.Manifest.Descriptor)
	}
	return parallel(ctx, len(all), func(ctx context.Context, i int) error {
		if c.absent {
			return nil
		}
		return c.find(ctx, all[i])
	})
}
