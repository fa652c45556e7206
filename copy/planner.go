package copy

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// A planner asks the destination about nodes of the source's graph as they are found.
type planner struct {
	c     *copier
	tags  *task
	lists map[digest.Digest]*task // by subject: the asking for its list
}

// found is told of each node, in no order but that each comes after what led to it. It waits for nothing.
func (p *planner) found(n *registry.Node) {
	c, d := p.c, n.Manifest.Descriptor
	refers := len(n.Listed) > 0
	if c.o.Referrers == Signatures {
		refers = slices.ContainsFunc(n.Listed, isSignature)
	}
	switch n.Role {
	case registry.RoleRoot:
		p.begin(n, p.tags)
		if refers {
			p.lists[d.Digest] = c.looks.add(small, func(ctx context.Context) error {
				if !c.there {
					return nil // nothing is listed that anybody would look at
				}
				return c.ask(ctx, d)
			}, p.tags)
		}
	case registry.RoleChild:
		// Where root is, its children should be; where it is not, only those are asked for whose signatures may be there
		// in a newer form.
		here := c.looks.add(small, func(ctx context.Context) error {
			if c.absent || !c.there && !refers {
				return nil
			}
			return c.find(ctx, d)
		}, p.tags)
		p.begin(n, here)
		if refers {
			p.lists[d.Digest] = c.looks.add(small, func(ctx context.Context) error {
				if c.there {
					return c.ask(ctx, d)
				}
				return nil
			}, p.tags)
			p.lists[d.Digest] = c.looks.add(small, func(ctx context.Context) error {
				if c.there || !c.hasManifest(d.Digest) {
					return nil
				}
				return c.ask(ctx, d)
			}, here, p.lists[d.Digest])
		}
	default:
		// Where there is nothing yet, nothing is there in a newer form.
		if n.Malformed == nil && n.Parts.Subject != nil {
			p.begin(n, p.tags)
		}
		p.prefetch(n)
		if n.Malformed == nil && n.Parts.Subject != nil {
			subject := n.Parts.Subject.Digest
			c.looks.add(small, func(ctx context.Context) error { return c.doubt(ctx, subject, d) }, p.lists[subject])
		}
		// Of what is not listed for its own subject nobody sees what refers to it.
		if refers && n.Parts.Subject != nil {
			subject := n.Parts.Subject.Digest
			p.lists[d.Digest] = c.looks.add(small, func(ctx context.Context) error {
				if !c.isListed(subject, d.Digest) {
					return nil
				}
				return c.ask(ctx, d)
			}, p.tags, p.lists[subject])
		}
	}
}

// begin has the blobs of a node travel as soon as it is known that dst has neither it nor root, unless somebody has still
// to decide whether anything does. Of a referrer dst may have the same in a newer form, unless it has nothing at all.
func (p *planner) begin(n *registry.Node, known *task) {
	c, d := p.c, n.Manifest.Descriptor.Digest
	if c.o.Review != nil || c.o.DryRun {
		return
	}
	blobs, referrer := blobsOf(n), n.Role == registry.RoleReferrer
	c.looks.add(small, func(context.Context) error {
		if !c.there && !c.hasManifest(d) && (c.absent || !referrer) {
			for _, b := range c.want(blobs, false) {
				c.send(b)
			}
		}
		return nil
	}, known)
}

// prefetch reads the envelope of a signature of root beside what is still asked, if somebody is going to look at it.
func (p *planner) prefetch(n *registry.Node) {
	c := p.c
	if c.o.Review == nil && c.o.Remark == nil || !n.IsSignature() || n.Malformed != nil || n.Parts.Subject == nil ||
		n.Parts.Subject.Digest != c.result.Digest || len(n.Parts.Layers) != 1 || n.Parts.Layers[0].Size > maxKept {
		return
	}
	c.looks.add(small, func(ctx context.Context) error {
		_, _ = c.readBlob(ctx, n.Parts.Layers[0]) // whoever needs it meets the error
		return nil
	})
}

// find asks whether dst has a manifest.
func (c *copier) find(ctx context.Context, d ocispec.Descriptor) error {
	has, err := c.dst.HasManifest(ctx, d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.has[d.Digest] = has
	return err
}

// ask asks dst what refers to a subject.
func (c *copier) ask(ctx context.Context, subject ocispec.Descriptor) error {
	referrers, err := c.dst.Referrers(ctx, subject, "")
	l := list{referrers: referrers, has: make(map[digest.Digest]bool, len(referrers))}
	for _, r := range referrers {
		l.has[r.Digest] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists[subject.Digest] = l
	return err
}

// doubt looks for what dst lists by the tag schema: who deletes a manifest need not know of the list, which then hides
// that it is gone.
func (c *copier) doubt(ctx context.Context, subject digest.Digest, d ocispec.Descriptor) error {
	if !c.dst.ListsByTag() || !c.isListed(subject, d.Digest) {
		return nil
	}
	has, err := c.dst.HasManifest(ctx, d)
	if err != nil || has {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lists[subject].has, d.Digest)
	return nil
}

func (c *copier) hasManifest(d digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.has[d]
}

// isListed reports whether dst lists a referrer of a subject. Present means listed: a manifest that is stored and not
// listed is seen by nobody.
func (c *copier) isListed(subject, d digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lists[subject].has[d]
}
