package copy

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// review asks [Options.Review], and does what it says.
func (c *copier) review(ctx context.Context) error {
	if c.o.Review == nil {
		return nil
	}
	r, err := c.o.Review(ctx, c.graph())
	if err != nil {
		return err
	}
	c.result.Warnings = append(c.result.Warnings, r.Warnings...)
	for _, n := range c.nodes {
		if reason, ok := r.Leave[n.Manifest.Descriptor.Digest]; ok && n.Role == registry.RoleReferrer {
			c.leave(n, Skipped, reason)
		}
	}
	return c.add(ctx, r.Add)
}

// remark asks [Options.Remark].
func (c *copier) remark(ctx context.Context) {
	if c.o.Remark == nil {
		return
	}
	for _, text := range c.o.Remark(ctx, c.graph()) {
		c.warn("%s", text)
	}
}

func (c *copier) graph() Graph { return Graph{Root: c.root, Signatures: c.signatures} }

// signatures reads the signatures of a node: those that are, and with their Err those that are only listed as such.
func (c *copier) signatures(ctx context.Context, subject *registry.Node) ([]registry.Signature, error) {
	d := subject.Manifest.Descriptor
	if c.o.Referrers == None {
		return c.src.Signatures(ctx, d)
	}
	listed := make(map[digest.Digest]bool)
	for _, r := range subject.Listed {
		if r.ArtifactType == registry.ArtifactTypeSignature {
			listed[r.Digest] = true
		}
	}
	var nodes []*registry.Node
	for _, n := range subject.Referrers {
		if n.IsSignature() || listed[n.Manifest.Descriptor.Digest] {
			nodes = append(nodes, n)
		}
		delete(listed, n.Manifest.Descriptor.Digest)
	}
	all := make([]registry.Signature, len(nodes))
	err := parallel(ctx, len(nodes), func(ctx context.Context, i int) error {
		all[i] = c.signature(ctx, d, nodes[i].Manifest)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.hold(len(all[i].Envelope))
	})
	if err != nil {
		return nil, err
	}
	for _, s := range c.skipped {
		if !listed[s.Descriptor.Digest] {
			continue
		}
		why := registry.ErrMalformed
		if s.Reason == registry.SkippedGhost {
			why = registry.ErrNotFound
		}
		all = append(all, registry.Signature{Subject: d, Descriptor: s.Descriptor,
			Err: &registry.Error{Code: s.Reason, Err: fmt.Errorf("signature manifest %s: %w: %s", s.Descriptor.Digest, why, s.Detail)}})
	}
	return all, nil
}

// maxHeld is how many bytes of envelopes one copy keeps to be judged: anybody who may push to the source may make ten
// thousand of 1 MiB.
const maxHeld = 512 << 20

// hold counts an envelope that is kept.
func (c *copier) hold(n int) error {
	if c.held.Add(int64(n)) > c.most {
		return &registry.Error{Code: "too-large", Err: fmt.Errorf("%w: the signatures of %s take more than %d bytes of memory together",
			registry.ErrTooLarge, c.result.Digest, c.most)}
	}
	return nil
}

// signature reads a signature of the source. Its envelope is not downloaded again when it is sent.
func (c *copier) signature(ctx context.Context, subject ocispec.Descriptor, m registry.Manifest) registry.Signature {
	return registry.SignatureIn(ctx, subject, m, c.readBlob)
}

// add takes further referrers along.
func (c *copier) add(ctx context.Context, additions []registry.Addition) error {
	var subjects []*registry.Node
	var added []*registry.Node
	for _, a := range additions {
		subject := c.at[a.Subject.Digest]
		if subject == nil {
			return fail(codeOptions, "adding %s: what it refers to, %s, is not copied", a.Manifest.Descriptor.Digest, a.Subject.Digest)
		}
		if c.at[a.Manifest.Descriptor.Digest] != nil {
			continue // it is at the source already
		}
		parts, err := a.Manifest.Parse()
		if err != nil {
			return fmt.Errorf("adding to %s: %w", a.Subject.Digest, err)
		}
		if parts.Subject == nil || parts.Subject.Digest != a.Subject.Digest {
			return fail(codeOptions, "adding %s: it does not refer to %s", a.Manifest.Descriptor.Digest, a.Subject.Digest)
		}
		n := &registry.Node{Manifest: a.Manifest, Parts: parts, Role: registry.RoleReferrer}
		for _, d := range parts.Blobs() {
			if b, ok := a.Blobs[d.Digest]; ok {
				c.added[d.Digest] = b
			} else if a.From != nil {
				c.from[d.Digest] = a.From
			}
		}
		subject.Referrers = append(subject.Referrers, n)
		added = append(added, n)
		if _, asked := c.lists[a.Subject.Digest]; !asked && c.items[subject].object.Status == There && !slices.Contains(subjects, subject) {
			subjects = append(subjects, subject)
		}
		c.note(n)
		c.items[n].subject, c.items[n].object.Added = subject, true
	}
	err := parallel(ctx, len(subjects), func(ctx context.Context, i int) error {
		return c.ask(ctx, subjects[i].Manifest.Descriptor)
	})
	if err != nil {
		return err
	}
	for _, n := range added {
		s := c.items[n].subject
		c.refer(n, s)
		if left := c.items[s].object; left.Status == Skipped {
			c.leave(n, Skipped, left.Reason)
		}
	}
	return nil
}

// leave says that a referrer stays away, and what refers to it.
func (c *copier) leave(n *registry.Node, status, reason string) {
	it := c.items[n]
	if it.object.Status == status || it.object.Status == There {
		return
	}
	it.object.Status, it.object.Reason = status, reason
	for _, r := range n.Referrers {
		c.leave(r, status, reason)
	}
}
