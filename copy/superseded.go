package copy

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// supersede marks the source's signatures that the destination has with a chain that holds longer, and what refers to
// them, unless the caller wants them all the same. Only signatures which the source has not got itself count: a
// faithful copy carries an old chain and a new one, whichever arrives first. What only looks like a longer chain (under
// another root, of another signature, not verifying) keeps nothing away: [envelope.Content.Supersedes].
func (c *copier) supersede(ctx context.Context) error {
	if c.o.Downgrade {
		return nil
	}
	source := make(map[digest.Digest]bool, len(c.nodes))
	for _, n := range c.nodes {
		source[n.Manifest.Descriptor.Digest] = true
	}
	type pair struct {
		subject *registry.Node
		ref     registry.Referrer
	}
	var theirs []pair
	for _, s := range c.nodes {
		if len(c.sends(s)) == 0 {
			continue
		}
		for _, ref := range c.lists[s.Manifest.Descriptor.Digest].referrers {
			if !source[ref.Digest] && isSignature(ref) {
				theirs = append(theirs, pair{s, ref})
			}
		}
	}
	type ours struct {
		subject, node *registry.Node
		content       *envelope.Content
		newer         bool // the destination has a newer one
	}
	bySubject := make(map[*registry.Node][]*ours)
	var all []*ours
	for _, t := range theirs {
		if bySubject[t.subject] != nil {
			continue
		}
		for _, n := range c.sends(t.subject) {
			o := &ours{subject: t.subject, node: n}
			bySubject[t.subject], all = append(bySubject[t.subject], o), append(all, o)
		}
	}
	err := parallel(ctx, len(all), func(ctx context.Context, i int) error {
		s := c.signature(ctx, all[i].subject.Manifest.Descriptor, all[i].node.Manifest)
		all[i].content = content(s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.hold(len(s.Envelope))
	})
	if err != nil {
		return err
	}
	// Of theirs there may be many that are nobody's: each is compared as it comes, and not kept.
	var mu sync.Mutex
	err = parallel(ctx, len(theirs), func(ctx context.Context, i int) error {
		newer := content(c.dst.ReadSignature(ctx, theirs[i].subject.Manifest.Descriptor, theirs[i].ref))
		if newer != nil {
			mu.Lock()
			defer mu.Unlock()
			for _, o := range bySubject[theirs[i].subject] {
				o.newer = o.newer || o.content != nil && newer.Supersedes(*o.content)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.newer {
			c.leave(o.node, Superseded, codeSuperseded)
		}
	}
	return nil
}

// sends returns the signatures of s that are to be sent.
func (c *copier) sends(s *registry.Node) []*registry.Node {
	var all []*registry.Node
	for _, n := range s.Referrers {
		if it := c.items[n]; it.object.Status == Planned && it.object.What == Signature {
			all = append(all, n)
		}
	}
	return all
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
