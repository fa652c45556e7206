package copy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// maxConfig bounds a configuration that is read for its platform.
const maxConfig = 4 << 20

// A copier is one copy on its way.
type copier struct {
	dst, src *registry.Repo
	o        Options
	result   Result

	root     *registry.Node
	nodes    []*registry.Node                      // each after what it refers to
	items    map[*registry.Node]*item              // what becomes of each
	found    map[digest.Digest][]registry.Referrer // by subject: what dst listed before anything was written
	doubtful map[digest.Digest]bool                // blobs that only malformed manifests want
}

// An item is what becomes of a node.
type item struct {
	object  Object
	subject *registry.Node // of a referrer: the first under which it stands
}

func (c *copier) run(ctx context.Context, root registry.Manifest) error {
	if err := c.check(); err != nil {
		return err
	}
	c.result.Digest, c.result.MediaType = root.Descriptor.Digest, root.Descriptor.MediaType
	// Tags and the source's graph need nothing of each other, and a tag that must not move ends the run before anything is written.
	var there bool
	err := parallel(ctx, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			there, err = c.lookUp(ctx, root)
			return err
		}
		return c.read(ctx, root)
	})
	if err != nil {
		return err
	}
	if err := c.plan(ctx, there); err != nil {
		return err
	}
	if c.o.DryRun {
		c.foresee()
		return nil
	}
	err = c.push(ctx)
	c.sum()
	return err
}

func (c *copier) check() error {
	switch c.o.Referrers {
	case "", All, Signatures, None:
	default:
		return fail(codeOptions, "copying referrers: %q is neither %s nor %s nor %s", c.o.Referrers, All, Signatures, None)
	}
	return checkPatterns(c.o.Move)
}

// lookUp asks where the tags are now, refuses those that may not move, and reports whether root is at the destination.
func (c *copier) lookUp(ctx context.Context, root registry.Manifest) (there bool, err error) {
	c.result.Tags, err = CheckTags(ctx, c.dst, root.Descriptor.Digest, c.o.Tags, c.o.Move)
	if err != nil {
		return false, err
	}
	there = slices.ContainsFunc(c.result.Tags, func(t TagResult) bool { return t.Status == There })
	if there {
		return true, nil
	}
	there, err = c.dst.HasManifest(ctx, root.Descriptor)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	return there, err
}

// read reads the source's graph.
func (c *copier) read(ctx context.Context, root registry.Manifest) error {
	o := registry.GraphOptions{NoReferrers: c.o.Referrers == None}
	if c.o.Referrers == Signatures {
		o.Referrer = func(r registry.Referrer) bool {
			return r.ArtifactType == registry.ArtifactTypeSignature || r.ArtifactType == ""
		}
	}
	n, skipped, err := c.src.Graph(ctx, root, o)
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.src.Reference().With("", root.Descriptor.Digest), err)
	}
	c.root = n
	for _, s := range skipped {
		c.result.Objects = append(c.result.Objects, Object{
			What: Referrer, ArtifactType: s.Descriptor.ArtifactType, Descriptor: plain(s.Descriptor), Status: Skipped, Reason: s.Reason,
		})
		c.warn("%s was left behind: %s", s.Descriptor.Digest, s.Detail)
	}
	return nil
}

// plain returns a descriptor without what a list adds to it.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// plan finds out what the destination has. there says that root is: then its children and what refers to them are
// asked for; else everything is sent, since asking for each would cost as many requests.
func (c *copier) plan(ctx context.Context, there bool) error {
	ask, subjects := c.list(there || c.o.DryRun || c.dst.Reference().Kind != registry.Remote)
	if there {
		c.items[c.root].object.Status = There
	}
	if err := c.ask(ctx, ask, subjects); err != nil {
		return err
	}
	return c.supersede(ctx, subjects)
}

// list makes an item of each node, and returns the nodes whose manifests are to be asked for at the destination and
// those whose lists of referrers are.
func (c *copier) list(askAll bool) (ask, subjects []*registry.Node) {
	c.items = make(map[*registry.Node]*item)
	for n := range c.root.All {
		c.nodes = append(c.nodes, n)
		it := &item{object: Object{
			What: what(n), ArtifactType: n.Parts.ArtifactType, Descriptor: plain(n.Manifest.Descriptor), Status: Planned,
		}}
		if it.object.What == Image || it.object.What == Index {
			it.object.ArtifactType = ""
		}
		c.items[n] = it
		// Of a root that is not there nothing is listed; of a child there may be.
		if len(n.Referrers) > 0 && (n != c.root || askAll) {
			subjects = append(subjects, n)
		}
		if n.Role != registry.RoleReferrer && n != c.root && askAll {
			ask = append(ask, n)
		}
		if n.Parts.Shape == registry.ShapeUnknown {
			c.warn("%s is copied as it is: imprint does not know %q, and what it refers to stays behind",
				n.Manifest.Descriptor.Digest, n.Manifest.Descriptor.MediaType)
		}
	}
	for _, s := range c.nodes {
		for _, n := range s.Referrers {
			c.items[n].object.Subject, c.items[n].subject = s.Manifest.Descriptor.Digest, s
		}
	}
	return ask, subjects
}

// ask asks the destination for manifests and for lists of referrers, all at once, and notes what is there.
func (c *copier) ask(ctx context.Context, ask, subjects []*registry.Node) error {
	c.found = make(map[digest.Digest][]registry.Referrer, len(subjects))
	lists := make([][]registry.Referrer, len(subjects))
	err := parallel(ctx, len(ask)+len(subjects), func(ctx context.Context, i int) error {
		if i < len(ask) {
			has, err := c.dst.HasManifest(ctx, ask[i].Manifest.Descriptor)
			if has {
				c.items[ask[i]].object.Status = There
			}
			return err
		}
		i -= len(ask)
		var err error
		lists[i], err = c.dst.Referrers(ctx, subjects[i].Manifest.Descriptor, "")
		return err
	})
	if err != nil {
		return err
	}
	for i, s := range subjects {
		d := s.Manifest.Descriptor.Digest
		c.found[d] = lists[i]
		listed := make(map[digest.Digest]bool, len(lists[i]))
		for _, r := range lists[i] {
			listed[r.Digest] = true
		}
		for _, n := range s.Referrers {
			it := c.items[n]
			// Present means listed: a manifest that is stored and not listed is seen by nobody.
			if listed[n.Manifest.Descriptor.Digest] {
				it.object.Status = There
			} else if it.object.Status == There {
				it.object.Status = Planned
			}
		}
	}
	return nil
}

// what names a node to people.
func what(n *registry.Node) string {
	switch {
	case n.IsSignature() && n.Malformed == nil && n.Parts.Subject != nil:
		return Signature
	case n.Role == registry.RoleReferrer:
		return Referrer
	case n.Parts.Shape == registry.ShapeIndex:
		return Index
	}
	return Image
}

// blobs returns what is to be sent for the nodes that are not there: each blob once.
func (c *copier) blobs() []ocispec.Descriptor {
	seen := make(map[digest.Digest]bool)
	var all []ocispec.Descriptor
	c.doubtful = make(map[digest.Digest]bool)
	for _, n := range c.nodes {
		if c.items[n].object.Status != Planned {
			continue
		}
		for _, d := range blobsOf(n) {
			if foreign(d) {
				continue
			}
			if !seen[d.Digest] {
				seen[d.Digest], c.doubtful[d.Digest] = true, true
				all = append(all, d)
			}
			if n.Malformed == nil {
				c.doubtful[d.Digest] = false
			}
		}
	}
	return all
}

// blobsOf returns the blobs of a node; of one that is malformed, those that a registry's lenient reader would see in it.
func blobsOf(n *registry.Node) []ocispec.Descriptor {
	if n.Malformed == nil {
		return n.Parts.Blobs()
	}
	var m struct {
		Config *ocispec.Descriptor  `json:"config"`
		Layers []ocispec.Descriptor `json:"layers"`
		Blobs  []ocispec.Descriptor `json:"blobs"`
	}
	if json.Unmarshal(n.Manifest.Bytes, &m) != nil {
		return nil
	}
	all := slices.Concat(m.Layers, m.Blobs)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return slices.DeleteFunc(all, func(d ocispec.Descriptor) bool { return d.Digest.Validate() != nil || d.Size < 0 })
}

// foreign reports layers that lie elsewhere by licence: they are never fetched from their URLs, and no registry wants
// them (CASES.md C12).
func foreign(d ocispec.Descriptor) bool {
	if len(d.URLs) == 0 {
		return false
	}
	return d.MediaType == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" ||
		strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.nondistributable.v1.")
}

func (c *copier) warn(format string, args ...any) {
	c.result.Warnings = append(c.result.Warnings, fmt.Sprintf(format, args...))
}

// foresee fills the result of a dry run.
func (c *copier) foresee() {
	for _, d := range c.blobs() {
		c.result.Blobs++
		c.result.Bytes += d.Size
	}
	c.sum()
}

// sum counts the objects.
func (c *copier) sum() {
	for _, n := range c.nodes {
		it := c.items[n]
		c.result.Objects = append(c.result.Objects, it.object)
		switch it.object.What {
		case Signature:
			c.result.Signatures++
		case Referrer:
			c.result.Referrers++
		default:
			c.result.Images++
		}
		switch it.object.Status {
		case There:
			c.result.There++
		case Copied:
			c.result.Written++
			c.result.Bytes += it.object.Descriptor.Size
		case Planned:
			if c.o.DryRun {
				c.result.Bytes += it.object.Descriptor.Size
			}
		}
	}
	for _, n := range c.nodes {
		if c.items[n].object.Status == Superseded || c.items[n].object.Status == There {
			continue
		}
		for _, d := range n.Parts.Layers {
			if foreign(d) {
				c.warn("layer %s of %s lies at %s and was not copied",
					d.Digest, n.Manifest.Descriptor.Digest, strings.Join(d.URLs, ", "))
			}
		}
	}
}
