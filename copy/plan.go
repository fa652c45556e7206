package copy

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

	looks, moves *flow // what is asked before anything is decided; what travels

	root    *registry.Node
	nodes   []*registry.Node                 // each after what it refers to
	items   map[*registry.Node]*item         // what becomes of each
	at      map[digest.Digest]*registry.Node // the nodes by digest: of two that were found apart one stands for both
	skipped []registry.Skipped               // what the source lists and is none
	aside   []*aside                         // roots that go along by their own tags
	kept    keep
	added   map[digest.Digest][]byte         // blobs of additions
	from    map[digest.Digest]*registry.Repo // where to read the others of them
	most    int64                            // maxHeld; tests lower it
	held    atomic.Int64                     // bytes of envelopes that are kept to be judged

	mu     sync.Mutex
	looked time.Time              // when the tags were looked up
	there  bool                   // root is at dst
	absent bool                   // so is nothing else: there is no such repository yet
	has    map[digest.Digest]bool // manifests that dst has
	lists  map[digest.Digest]list // by subject: what dst listed before anything was written
	blobs  map[digest.Digest]*blob
	order  []*blob // as they were met
}

// A list is what refers to a subject.
type list struct {
	referrers []registry.Referrer
	has       map[digest.Digest]bool
}

// An item is what becomes of a node.
type item struct {
	object  Object
	subject *registry.Node // of a referrer: the first under which it stands
	task    *task
}

func (c *copier) run(ctx context.Context, root registry.Manifest) error {
	if err := c.check(); err != nil {
		return err
	}
	c.result.Digest, c.result.MediaType = root.Descriptor.Digest, root.Descriptor.MediaType
	c.items = make(map[*registry.Node]*item)
	c.at = make(map[digest.Digest]*registry.Node)
	c.has = make(map[digest.Digest]bool)
	c.lists = make(map[digest.Digest]list)
	c.blobs = make(map[digest.Digest]*blob)
	c.added = make(map[digest.Digest][]byte)
	c.from = make(map[digest.Digest]*registry.Repo)
	c.moves = newFlow(ctx)
	defer c.moves.close()
	err := c.prepare(ctx, root)
	if err == nil && c.o.DryRun {
		return c.foresee(ctx)
	}
	if err == nil {
		err = c.move()
	} else {
		c.moves.stop(err)
		_ = c.moves.wait()
	}
	c.sum()
	return err
}

// prepare reads both sides and decides what is to be done.
func (c *copier) prepare(ctx context.Context, root registry.Manifest) error {
	if err := c.read(ctx, root); err != nil {
		return err
	}
	if err := c.review(ctx); err != nil {
		return err
	}
	return c.supersede(ctx)
}

func (c *copier) check() error {
	switch c.o.Referrers {
	case "", All, Signatures, None:
	default:
		return fail(codeOptions, "copying referrers: %q is neither %s nor %s nor %s", c.o.Referrers, All, Signatures, None)
	}
	return checkPatterns(c.o.Move)
}

// read reads the source's graph and, beside it, what the destination has: its tags at once, the rest as soon as the
// source has said what to ask for. A tag that may not move ends it all before anything is written.
func (c *copier) read(ctx context.Context, root registry.Manifest) error {
	c.looks = newFlow(ctx)
	defer c.looks.close()
	tags := c.looks.add(small, func(ctx context.Context) error { return c.lookUp(ctx, root) })
	var others *task
	if c.o.DigestTags || c.o.DryRun || c.src.Reference().Kind != registry.Remote {
		others = c.looks.add(small, c.listAside)
	}
	p := &planner{c: c, tags: tags, lists: make(map[digest.Digest]*task)}
	c.looks.add(small, func(ctx context.Context) error {
		var err error
		c.root, c.skipped, err = c.src.Graph(ctx, root, c.graphOptions(p.found))
		if err != nil {
			return fmt.Errorf("reading %s: %w", c.src.Reference().With("", root.Descriptor.Digest), err)
		}
		c.looks.add(small, c.readAside, tags, others)
		return nil
	})
	if err := c.looks.wait(); err != nil {
		return err
	}
	for _, s := range c.skipped {
		c.result.Objects = append(c.result.Objects, Object{
			What: Referrer, ArtifactType: s.Descriptor.ArtifactType, Descriptor: plain(s.Descriptor), Status: Skipped, Reason: s.Reason,
		})
		c.warn("%s was left behind: %s", s.Descriptor.Digest, s.Detail)
	}
	c.list()
	return nil
}

func (c *copier) graphOptions(found func(*registry.Node)) registry.GraphOptions {
	o := registry.GraphOptions{NoReferrers: c.o.Referrers == None, Found: found}
	if c.o.Referrers == Signatures {
		o.Referrer = isSignature
	}
	return o
}

// isSignature reports whether an entry of a list may be a signature: one that does not say its type may have any.
func isSignature(r registry.Referrer) bool {
	return r.ArtifactType == registry.ArtifactTypeSignature || r.ArtifactType == ""
}

// lookUp asks where the tags are now, refuses those that may not move, and finds out whether root is at the destination.
func (c *copier) lookUp(ctx context.Context, root registry.Manifest) error {
	there, absent, err := c.tags(ctx, root)
	if err != nil {
		return err
	}
	d := root.Descriptor
	switch {
	case there || absent:
	case c.src.Reference() == c.dst.Reference():
		there = true // a tag of what is there
	default:
		if there, err = c.dst.HasManifest(ctx, d); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.there, c.absent, c.has[d.Digest] = there, absent, there
	return nil
}

// tags checks the tags as [CheckTags] does. The first one's answer also tells whether there is such a repository.
func (c *copier) tags(ctx context.Context, root registry.Manifest) (there, absent bool, err error) {
	d, tags := root.Descriptor.Digest, c.o.Tags
	c.result.Tags = []TagResult{}
	if len(tags) == 0 {
		return false, false, nil
	}
	c.looked = time.Now()
	now := make([]digest.Digest, len(tags))
	err = parallel(ctx, 2, func(ctx context.Context, i int) error {
		if i == 0 {
			was, repository, err := c.dst.Named(ctx, tags[0], d.Algorithm())
			now[0], absent = was, !repository
			return err
		}
		others, err := lookUp(ctx, c.dst, tags[1:])
		copy(now[1:], others)
		return err
	})
	if err != nil {
		return false, false, err
	}
	c.result.Tags, err = checkTags(c.dst, d, tags, now, c.o.Move)
	return slices.Contains(now, d), absent, err
}

// list makes an item of each node, and says what is there.
func (c *copier) list() {
	roots := []*registry.Node{c.root}
	for _, a := range c.aside {
		roots = append(roots, a.root)
	}
	for _, root := range roots {
		for n := range root.All {
			if c.at[n.Manifest.Descriptor.Digest] == nil {
				c.note(n)
			}
		}
	}
	for _, s := range c.nodes {
		for _, n := range s.Referrers {
			c.refer(n, s)
		}
	}
}

// note makes an item of a node.
func (c *copier) note(n *registry.Node) {
	c.nodes = append(c.nodes, n)
	d := n.Manifest.Descriptor
	c.at[d.Digest] = n
	it := &item{object: Object{What: what(n), ArtifactType: n.Parts.ArtifactType, Descriptor: plain(d), Status: Planned}}
	c.items[n] = it
	if it.object.What == Image || it.object.What == Index {
		it.object.ArtifactType = ""
	}
	if n.Role != registry.RoleReferrer && c.has[d.Digest] {
		it.object.Status = There
	}
	if n.Parts.Shape == registry.ShapeUnknown {
		c.warn("%s is copied as it is: imprint does not know %q, and what it refers to stays behind", d.Digest, d.MediaType)
	}
}

// refer says that n stands under s.
func (c *copier) refer(n, s *registry.Node) {
	it := c.items[n]
	it.object.Subject, it.subject = s.Manifest.Descriptor.Digest, s
	switch listed := c.isListed(it.object.Subject, n.Manifest.Descriptor.Digest); {
	case listed:
		it.object.Status = There
	case it.object.Status == There:
		it.object.Status = Planned
	}
}

// of returns the item of a node, whichever of two it is.
func (c *copier) of(n *registry.Node) *item { return c.items[c.at[n.Manifest.Descriptor.Digest]] }

// plain returns a descriptor without what a list adds to it.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
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

// planned returns the nodes that are to be sent, and notes their blobs.
func (c *copier) planned() []*registry.Node {
	var nodes []*registry.Node
	for _, n := range c.nodes {
		if c.items[n].object.Status == Planned {
			nodes = append(nodes, n)
			c.want(blobsOf(n), n.Malformed != nil)
		}
	}
	return nodes
}

func (c *copier) warn(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Warnings = append(c.result.Warnings, fmt.Sprintf(format, args...))
}

// mounts reports whether blobs are mounted from the source's repository instead of sent.
func (c *copier) mounts() bool {
	from, to := c.src.Reference(), c.dst.Reference()
	return from.Kind == registry.Remote && to.Kind == registry.Remote && from.Host == to.Host
}

// foresee fills the result of a dry run: each blob is asked for, so that it tells what would be sent.
func (c *copier) foresee(ctx context.Context) error {
	c.planned()
	here := make([]bool, len(c.order))
	if !c.absent {
		if err := parallel(ctx, len(c.order), func(ctx context.Context, i int) (err error) {
			here[i], err = c.dst.HasBlob(ctx, c.order[i].d)
			return err
		}); err != nil {
			return err
		}
	}
	for i, b := range c.order {
		_, known := c.known(b.d)
		switch {
		case here[i]:
			b.sent.There = true
		case c.mounts() && !known:
			b.sent.Mounted = true
		default:
			b.sent.Bytes = b.d.Size
		}
	}
	c.remark(ctx)
	c.sum()
	return nil
}

// sum counts blobs and objects.
func (c *copier) sum() {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.result
	for _, b := range c.order {
		if b.refused {
			continue
		}
		r.Bytes += b.sent.Bytes
		switch {
		case b.sent.There:
			r.BlobsThere++
		case b.sent.Mounted:
			r.Blobs++
			r.Mounted += b.d.Size
		case b.sent.Bytes > 0 || b.d.Size == 0 || c.o.DryRun:
			r.Blobs++
		}
	}
	for _, n := range c.nodes {
		it := c.items[n]
		r.Objects = append(r.Objects, it.object)
		switch it.object.What {
		case Signature:
			r.Signatures++
		case Referrer:
			r.Referrers++
		default:
			r.Images++
		}
		switch it.object.Status {
		case There:
			r.There++
		case Copied:
			r.Written++
			r.Bytes += it.object.Descriptor.Size
		case Planned:
			if c.o.DryRun {
				r.Bytes += it.object.Descriptor.Size
			}
		}
		if it.object.Status != Planned && it.object.Status != Copied {
			continue
		}
		for _, d := range n.Parts.Layers {
			if foreign(d) {
				r.Warnings = append(r.Warnings, fmt.Sprintf("layer %s of %s lies at %s and was not copied",
					d.Digest, n.Manifest.Descriptor.Digest, strings.Join(hostsOf(d.URLs), ", ")))
			}
		}
	}
}

// hostsOf names where URLs of a manifest lead. The rest of them may be as good as a password.
func hostsOf(urls []string) []string {
	var hosts []string
	for _, text := range urls {
		host := "an address that is none"
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			host = strconv.QuoteToASCII(u.Scheme + "://" + u.Host)
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
