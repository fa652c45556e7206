package copy

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// supersede marks the source's signatures that the destination has with a chain that holds longer, and what refers to
// them, unless the caller wants them all the same. Only signatures which the source has not got itself count: a
// faithful copy carries an old chain and a new one, whichever arrives first.
func (c *copier) supersede(ctx context.Context, subjects []*registry.Node) error {
	if c.o.Downgrade {
		return nil
	}
	type pair struct {
		subject *registry.Node
		ref     registry.Referrer
	}
	source := make(map[digest.Digest]bool, len(c.nodes))
	for _, n := range c.nodes {
		source[n.Manifest.Descriptor.Digest] = true
	}
	var theirs []pair
	for _, s := range subjects {
		if !c.sends(s) {
			continue
		}
		for _, ref := range c.found[s.Manifest.Descriptor.Digest] {
			if !source[ref.Digest] && (ref.ArtifactType == registry.ArtifactTypeSignature || ref.ArtifactType == "") {
				theirs = append(theirs, pair{s, ref})
			}
		}
	}
	if len(theirs) == 0 {
		return nil
	}
	contents := make([]*envelope.Content, len(theirs))
	if err := parallel(ctx, len(theirs), func(ctx context.Context, i int) error {
		contents[i] = content(c.dst.ReadSignature(ctx, theirs[i].subject.Manifest.Descriptor, theirs[i].ref))
		return ctx.Err()
	}); err != nil {
		return err
	}
	for _, s := range subjects {
		for _, n := range s.Referrers {
			it := c.items[n]
			if it.object.Status != Planned || it.object.What != Signature {
				continue
			}
			ours := content(c.src.SignatureOf(ctx, s.Manifest.Descriptor, n.Manifest))
			if ours == nil {
				continue
			}
			for i, t := range theirs {
				if t.subject == s && contents[i] != nil && contents[i].Supersedes(*ours) {
					c.leave(n)
					break
				}
			}
		}
	}
	return ctx.Err()
}

// sends reports whether a signature of s is to be sent.
func (c *copier) sends(s *registry.Node) bool {
	for _, n := range s.Referrers {
		if c.items[n].object.Status == Planned && c.items[n].object.What == Signature {
			return true
		}
	}
	return false
}

// leave marks a superseded signature and what refers to it.
func (c *copier) leave(n *registry.Node) {
	it := c.items[n]
	if it.object.Status != Planned {
		return
	}
	it.object.Status, it.object.Reason = Superseded, codeSuperseded
	for _, r := range n.Referrers {
		c.leave(r)
	}
}

// content returns what a signature says if it can be read and verifies.
func content(s registry.Signature) *envelope.Content {
	if s.Err != nil {
		return nil
	}
	e, err := envelope.Parse(s.MediaType, s.Envelope)
	if err != nil {
		return nil
	}
	v, err := e.Verify()
	if err != nil {
		return nil
	}
	return &v
}
