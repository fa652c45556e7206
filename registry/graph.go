package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Roles of a [Node].
const (
	RoleRoot     = "root"
	RoleChild    = "child"
	RoleReferrer = "referrer"
)

// maxNodes bounds a whole graph: every manifest of it is in memory.
const maxNodes = 2 * MaxReferrers

// A Node is a manifest in a graph, with what it contains and what refers to it. What is reached by two ways is one Node.
type Node struct {
	Manifest  Manifest
	Parts     Parts
	Malformed error   // why Parts are empty: it is carried as opaque bytes
	Role      string  // RoleRoot, RoleChild or RoleReferrer: how it was reached first
	Platform  string  // os/arch[/variant] of a child, from the index
	Children  []*Node // in the index's order
	Referrers []*Node // in the order of their digests
	// Listed is the whole list of what refers to it, with what GraphOptions.Referrer left out.
	Listed []Referrer

	indexes, hops int // how deep it was found: indexes in indexes, referrers of referrers
}

// IsSignature reports whether the node is a Notary Project signature manifest.
func (n *Node) IsSignature() bool {
	return (n.Parts.Shape == ShapeImage || n.Parts.Shape == ShapeArtifact) && n.Parts.ArtifactType == ArtifactTypeSignature
}

// All visits n and everything below it once, children and subjects first, so that each node comes after what it refers to.
func (n *Node) All(yield func(*Node) bool) {
	// Discovery first: a referrer may be an index of nodes that stand elsewhere in the graph, so the order follows
	// references, not reachability.
	var found []*Node
	subjects := make(map[*Node][]*Node)
	seen := map[*Node]bool{n: true}
	for queue := []*Node{n}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		found = append(found, at)
		for _, r := range at.Referrers {
			subjects[r] = append(subjects[r], at)
		}
		for _, next := range slices.Concat(at.Children, at.Referrers) {
			if !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	done := make(map[*Node]bool, len(found))
	var visit func(*Node) bool
	visit = func(at *Node) bool {
		if done[at] {
			return true
		}
		done[at] = true
		for _, before := range slices.Concat(at.Children, subjects[at]) {
			if !visit(before) {
				return false
			}
		}
		return yield(at)
	}
	for _, at := range found {
		if !visit(at) {
			return
		}
	}
}

// GraphOptions of [Repo.Graph].
type GraphOptions struct {
	NoReferrers bool
	// Referrer selects which referrers are followed, by the list's entry; nil: all.
	Referrer func(Referrer) bool
	// Child selects which entries of an index are followed; nil: all.
	Child func(ocispec.Descriptor) bool
	// Found is told of each node as soon as it, and the list of what refers to it (Listed), are read, before what is
	// below it is: of its Role it knows how it was reached first, Children and Referrers are not joined yet. It is never
	// called concurrently, and must not wait for requests. That it was called does not mean that the graph will be read.
	Found func(*Node)
}

// Skipped is a referrer that was listed and is not one.
type Skipped struct {
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Reason     string             `json:"reason"`
	Detail     string             `json:"detail"`
}

// Why a listed referrer is [Skipped].
const (
	SkippedForeign = "foreign-subject" // its own subject is another digest
	SkippedGhost   = "ghost"           // it is listed, and not there
)

// A growth is a graph in the making. It is read without waiting for levels: what is below a node is asked for once
// that node and its list are there, whatever else of its level is still on its way. It is joined level by level
// afterwards, so that the same graph comes out whatever arrived first.
type growth struct {
	repo    *Repo
	o       GraphOptions
	allowed *allowance
	finds   map[digest.Digest]*find
	queue   []func(context.Context) answer // requests to be made
	nodes   map[digest.Digest]*Node        // joined
	skipped []Skipped
}

// A find is a manifest that something leads to, and its list, as they arrive.
type find struct {
	entry    ocispec.Descriptor
	node     *Node // nil until it is read
	missing  bool  // it is not there
	list     []Referrer
	unlisted error   // why its list could not be read
	awaited  int     // answers that are still to come
	looks    []*look // who asks for it
	followed bool    // what is below it is asked for
	children bool    // its children are, before its list is there
}

// An answer is one request's. Its then joins it to what is known, and must not be called concurrently.
type answer struct {
	then func() error
	err  error
}

// A look is one manifest to be read: as a child of parent, or as a referrer of it.
type look struct {
	parent   *Node
	entry    ocispec.Descriptor
	referrer bool
}

// Graph reads root with its children and all that refers to any of them, each look-up as soon as something leads to it
// and all that are possible in flight. Depth, number and cycles are bounded (MaxDepth, MaxReferrers, a set of digests):
// beyond a bound it is an error, not a part. A referrer whose own subject is another digest is left out and reported in
// skipped, with the reason; so is one that is listed and not there. A referrer that does not parse is kept, with
// Malformed set.
func (r *Repo) Graph(ctx context.Context, root Manifest, o GraphOptions) (n *Node, skipped []Skipped, err error) {
	parts, err := root.Parse()
	if err != nil {
		return nil, nil, err
	}
	n = &Node{Manifest: root, Parts: parts, Role: RoleRoot}
	g := &growth{repo: r, o: o, allowed: r.allow(), finds: make(map[digest.Digest]*find), nodes: make(map[digest.Digest]*Node)}
	if err := g.read(ctx, n); err != nil {
		return nil, nil, err
	}
	if err := g.join(n); err != nil {
		return nil, nil, err
	}
	for at := range n.All {
		slices.SortFunc(at.Referrers, func(a, b *Node) int {
			return strings.Compare(string(a.Manifest.Descriptor.Digest), string(b.Manifest.Descriptor.Digest))
		})
	}
	slices.SortFunc(g.skipped, func(a, b Skipped) int {
		return strings.Compare(string(a.Descriptor.Digest), string(b.Descriptor.Digest))
	})
	return n, g.skipped, nil
}

// read makes all requests, at most inFlight at a time, and returns when each has ended.
func (g *growth) read(ctx context.Context, root *Node) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := root.Manifest.Descriptor
	f := &find{entry: d, node: root, looks: []*look{{entry: d}}}
	g.finds[d.Digest] = f
	err := g.ask(f)
	answers := make(chan answer)
	for running := 0; running > 0 || err == nil && len(g.queue) > 0; {
		for ; err == nil && running < inFlight && len(g.queue) > 0; running++ {
			request := g.queue[0]
			g.queue = g.queue[1:]
			go func() { answers <- request(ctx) }()
		}
		a := <-answers
		running--
		if err != nil {
			continue // what is under way is waited for, and was cancelled
		}
		if err = a.err; err == nil {
			err = a.then()
		}
		if err != nil {
			cancel()
		}
	}
	return err
}

// ask queues what is to be known of a find. Its manifest and its list need nothing of each other.
func (g *growth) ask(f *find) error {
	if f.node == nil {
		f.awaited++
		g.queue = append(g.queue, func(ctx context.Context) answer { return g.manifest(ctx, f) })
	}
	// The children of a manifest that is at hand are not kept waiting for its list.
	if f.node != nil {
		if err := g.follow(f); err != nil {
			return err
		}
		f.children = true
	}
	if g.o.NoReferrers {
		return g.arrived(f)
	}
	f.awaited++
	g.queue = append(g.queue, func(ctx context.Context) answer {
		list, unlisted := g.repo.Referrers(inGraph(ctx), f.entry, "")
		return answer{err: g.allowed.keep(f.entry.Digest.String(), weight(list)), then: func() error {
			f.list, f.unlisted = list, unlisted
			f.awaited--
			return g.arrived(f)
		}}
	})
	return nil
}

// weight is how much memory a list takes, whose annotations are as long as whoever pushed the referrers made them.
func weight(list []Referrer) int {
	const entry = 256 // what each takes at least
	n := 0
	for _, r := range list {
		n += entry + len(r.MediaType) + len(r.ArtifactType)
		for k, v := range r.Annotations {
			n += len(k) + len(v)
		}
		for _, u := range r.URLs {
			n += len(u)
		}
	}
	return n
}

// manifest reads the manifest of a find.
func (g *growth) manifest(ctx context.Context, f *find) answer {
	m, err := g.repo.Manifest(ctx, f.entry)
	if errors.Is(err, ErrNotFound) {
		return answer{then: func() error {
			f.missing = true
			f.awaited--
			return g.arrived(f)
		}}
	}
	if err == nil {
		err = g.allowed.keep(f.entry.Digest.String(), len(m.Bytes))
	}
	if err != nil {
		return answer{err: g.within(f, err)}
	}
	n := &Node{Manifest: m}
	n.Parts, n.Malformed = m.Parse()
	return answer{then: func() error {
		f.node = n
		f.awaited--
		return g.arrived(f)
	}}
}

// within says whose child could not be read.
func (g *growth) within(f *find, err error) error {
	if l := f.looks[0]; l.parent != nil && !l.referrer {
		return fmt.Errorf("child of index %s: %w", l.parent.Manifest.Descriptor.Digest, err)
	}
	return err
}

// arrived goes on below a find whose manifest and list are there, if one of those who ask for it may have it.
func (g *growth) arrived(f *find) error {
	if f.awaited > 0 || f.followed {
		return nil
	}
	// What refers to a manifest that is not there is of no interest, and some registries refuse to say.
	if f.unlisted != nil && !f.missing {
		return f.unlisted
	}
	for _, l := range f.looks {
		joins, _, err := g.joins(l, f)
		if err != nil {
			return err
		}
		if !joins {
			continue
		}
		f.followed = true
		if n := f.node; n.Role == "" {
			n.place(l)
		}
		f.node.Listed = f.list
		if g.o.Found != nil {
			g.o.Found(f.node)
		}
		return g.follow(f)
	}
	return nil
}

// place says how a node was reached.
func (n *Node) place(l *look) {
	if l.referrer {
		n.Role, n.Platform = RoleReferrer, ""
		n.indexes, n.hops = l.parent.indexes, l.parent.hops+1
		return
	}
	n.Role, n.Platform = RoleChild, PlatformName(l.entry.Platform)
	n.indexes, n.hops = l.parent.indexes+1, l.parent.hops
}

// follow looks for what is below a find.
func (g *growth) follow(of *find) error {
	looks, err := g.below(of.node, of.list)
	if err != nil {
		return err
	}
	for _, l := range looks {
		if of.children && !l.referrer {
			continue
		}
		f := g.finds[l.entry.Digest]
		if f != nil {
			f.looks = append(f.looks, l)
			if err := g.arrived(f); err != nil {
				return err
			}
			continue
		}
		if len(g.finds) >= maxNodes {
			return fail(codeCapped, "%w (%w): more than %d manifests", ErrCapped, ErrTooLarge, maxNodes)
		}
		f = &find{entry: l.entry, looks: []*look{l}}
		g.finds[l.entry.Digest] = f
		if err := g.ask(f); err != nil {
			return err
		}
	}
	return nil
}

// below returns what to read because of n: its children, and what refers to it.
func (g *growth) below(n *Node, list []Referrer) ([]*look, error) {
	var next []*look
	for _, d := range n.Parts.Manifests {
		if g.o.Child == nil || g.o.Child(d) {
			next = append(next, &look{parent: n, entry: d})
		}
	}
	if len(next) > 0 && n.indexes >= MaxDepth {
		return nil, fail(codeTooLarge, "index %s: %w: indexes nested deeper than %d", n.Manifest.Descriptor.Digest, ErrTooLarge, MaxDepth)
	}
	before := len(next)
	for _, ref := range list {
		if g.o.Referrer == nil || g.o.Referrer(ref) {
			next = append(next, &look{parent: n, entry: ref.Descriptor, referrer: true})
		}
	}
	if len(next) > before && n.hops >= MaxDepth {
		return nil, fail(codeTooLarge, "referrers of %s: %w: referrers of referrers deeper than %d",
			n.Manifest.Descriptor.Digest, ErrTooLarge, MaxDepth)
	}
	return next, nil
}

// join puts what was read together, level by level and in order.
func (g *growth) join(root *Node) error {
	level, err := g.below(root, root.Listed)
	if err != nil {
		return err
	}
	g.nodes[root.Manifest.Descriptor.Digest] = root
	for len(level) > 0 {
		var next []*look
		for _, l := range level {
			f := g.finds[l.entry.Digest]
			joins, skip, err := g.joins(l, f)
			if err != nil {
				return err
			}
			n := f.node
			if skip == nil && l.referrer && n.Parts.Subject == nil && g.nodes[l.entry.Digest] != nil {
				// It is in the graph already, and says nothing that would make it this one's referrer too.
				joins, skip = false, foreign(l, n, "it names no subject")
			}
			if skip != nil {
				g.skipped = append(g.skipped, *skip)
			}
			if !joins {
				continue
			}
			more, err := g.attach(l, f)
			if err != nil {
				return err
			}
			next = append(next, more...)
		}
		level = next
	}
	return nil
}

// attach makes a find a child or a referrer of the look's parent, and returns what is below it the first time.
func (g *growth) attach(l *look, f *find) ([]*look, error) {
	n, parent := f.node, l.parent
	known := g.nodes[l.entry.Digest] != nil
	if !known {
		n.place(l)
		g.nodes[l.entry.Digest] = n
	}
	switch {
	case !l.referrer:
		parent.Children = append(parent.Children, n)
	case !slices.Contains(parent.Referrers, n):
		parent.Referrers = append(parent.Referrers, n)
		if n.Parts.Subject == nil && n.Malformed == nil && n.Parts.Shape != ShapeUnknown {
			n.Malformed = malformed("manifest %s is listed as a referrer and has no subject", n.Manifest.Descriptor.Digest)
		}
	}
	if known {
		return nil, nil
	}
	return g.below(n, f.list)
}

// joins reports whether a find is what the look takes it for; skip says why a referrer is none.
func (g *growth) joins(l *look, f *find) (joins bool, skip *Skipped, err error) {
	n := f.node
	switch {
	case l.parent == nil:
		return true, nil, nil
	case f.missing && l.referrer:
		return false, &Skipped{Descriptor: l.entry, Reason: SkippedGhost, Detail: "it is listed and not there"}, nil
	case f.missing:
		return false, nil, fail(codeNotFound, "child %s of index %s: %w", l.entry.Digest, l.parent.Manifest.Descriptor.Digest, ErrNotFound)
	case l.referrer:
		if s := n.Parts.Subject; s != nil && s.Digest != l.parent.Manifest.Descriptor.Digest {
			return false, foreign(l, n, "its own subject is "+string(s.Digest)), nil
		}
		return true, nil, nil
	// A malformed child would be signed and run; a referrer that is malformed is only carried.
	case n.Malformed != nil:
		return false, nil, fmt.Errorf("child of index %s: %w", l.parent.Manifest.Descriptor.Digest, n.Malformed)
	case n.Manifest.Descriptor.MediaType != l.entry.MediaType:
		return false, nil, ambiguous("index %s lists %s as %q, and it is served as %q",
			l.parent.Manifest.Descriptor.Digest, l.entry.Digest, l.entry.MediaType, n.Manifest.Descriptor.MediaType)
	}
	return true, nil, nil
}

func foreign(l *look, n *Node, detail string) *Skipped {
	return &Skipped{
		Descriptor: n.Manifest.Descriptor,
		Reason:     SkippedForeign,
		Detail:     fmt.Sprintf("listed as a referrer of %s, %s", l.parent.Manifest.Descriptor.Digest, detail),
	}
}
