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
	// Found is told of each node as soon as it, and the list of what refers to it (Listed), are read; never concurrently,
	// and before the nodes of the next level are asked for. It must not wait for requests.
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

// A growth is a graph in the making.
type growth struct {
	repo    *Repo
	o       GraphOptions
	allowed *allowance
	nodes   map[digest.Digest]*Node
	skipped []Skipped
}

// A look is one manifest to be read: as a child of parent, or as a referrer of it.
type look struct {
	parent   *Node
	entry    ocispec.Descriptor
	referrer bool

	node *Node // the result; nil if it was skipped
	skip *Skipped
	list []Referrer // of what refers to it
}

// Graph reads root with its children and all that refers to any of them, level by level with all look-ups of a level
// in flight. Depth, number and cycles are bounded (MaxDepth, MaxReferrers, a set of digests): beyond a bound it is an
// error, not a part. A referrer whose own subject is another digest is left out and reported in skipped, with the
// reason; so is one that is listed and not there. A referrer that does not parse is kept, with Malformed set.
func (r *Repo) Graph(ctx context.Context, root Manifest, o GraphOptions) (n *Node, skipped []Skipped, err error) {
	parts, err := root.Parse()
	if err != nil {
		return nil, nil, err
	}
	n = &Node{Manifest: root, Parts: parts, Role: RoleRoot}
	g := &growth{repo: r, o: o, allowed: r.allow(), nodes: map[digest.Digest]*Node{root.Descriptor.Digest: n}}
	var list []Referrer
	if !o.NoReferrers {
		if list, err = r.Referrers(ctx, root.Descriptor, ""); err != nil {
			return nil, nil, err
		}
	}
	level, err := g.below(n, list)
	if err != nil {
		return nil, nil, err
	}
	for len(level) > 0 {
		if level, err = g.grow(ctx, level); err != nil {
			return nil, nil, err
		}
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
	n.Listed = list
	if g.o.Found != nil {
		g.o.Found(n)
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

// grow reads one level, all at once, joins it to the graph in order, and returns the next level.
func (g *growth) grow(ctx context.Context, level []*look) ([]*look, error) {
	first := make(map[digest.Digest]*look, len(level))
	var reads []*look
	for _, l := range level {
		if g.nodes[l.entry.Digest] == nil && first[l.entry.Digest] == nil {
			first[l.entry.Digest] = l
			reads = append(reads, l)
		}
	}
	if len(g.nodes)+len(reads) > maxNodes {
		return nil, fail(codeTooLarge, "%w: more than %d manifests", ErrTooLarge, maxNodes)
	}
	// Manifests and lists of one level need nothing of each other: one wait for both.
	tasks := 2
	if g.o.NoReferrers {
		tasks = 1
	}
	err := parallel(ctx, tasks*len(reads), func(ctx context.Context, i int) error {
		l := reads[i/tasks]
		if i%tasks == 0 {
			return g.read(ctx, l)
		}
		var err error
		l.list, err = g.repo.Referrers(ctx, l.entry, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	var next []*look
	for _, l := range level {
		n := g.nodes[l.entry.Digest]
		if n == nil {
			read := first[l.entry.Digest]
			if read.skip != nil {
				if l.referrer {
					g.skipped = append(g.skipped, *read.skip)
					continue
				}
				return nil, fail(codeNotFound, "child %s of index %s: %w", l.entry.Digest, l.parent.Manifest.Descriptor.Digest, ErrNotFound)
			}
			n = read.node
		}
		joined, skip, err := g.join(l, n)
		if err != nil {
			return nil, err
		}
		if skip != nil {
			g.skipped = append(g.skipped, *skip)
		}
		if !joined || g.nodes[l.entry.Digest] != nil {
			continue
		}
		g.nodes[l.entry.Digest] = n
		more, err := g.below(n, first[l.entry.Digest].list)
		if err != nil {
			return nil, err
		}
		next = append(next, more...)
	}
	return next, nil
}

// read reads the manifest of a look.
func (g *growth) read(ctx context.Context, l *look) error {
	m, err := g.repo.Manifest(ctx, l.entry)
	if l.referrer && errors.Is(err, ErrNotFound) {
		l.skip = &Skipped{Descriptor: l.entry, Reason: SkippedGhost, Detail: "it is listed and not there"}
		return nil
	}
	if err != nil && !l.referrer {
		return fmt.Errorf("child of index %s: %w", l.parent.Manifest.Descriptor.Digest, err)
	}
	if err != nil {
		return err
	}
	l.node = &Node{Manifest: m}
	l.node.Parts, l.node.Malformed = m.Parse()
	return g.allowed.keep(l.entry.Digest.String(), len(m.Bytes))
}

// join makes n a child or a referrer of the look's parent, unless it is neither.
func (g *growth) join(l *look, n *Node) (joined bool, skip *Skipped, err error) {
	parent := l.parent
	if !l.referrer {
		// A malformed child would be signed and run; a referrer that is malformed is only carried.
		if n.Malformed != nil {
			return false, nil, fmt.Errorf("child of index %s: %w", parent.Manifest.Descriptor.Digest, n.Malformed)
		}
		if served := n.Manifest.Descriptor.MediaType; served != l.entry.MediaType {
			return false, nil, ambiguous("index %s lists %s as %q, and it is served as %q",
				parent.Manifest.Descriptor.Digest, l.entry.Digest, l.entry.MediaType, served)
		}
		if n.Role == "" {
			n.Role, n.Platform = RoleChild, PlatformName(l.entry.Platform)
			n.indexes, n.hops = parent.indexes+1, parent.hops
		}
		parent.Children = append(parent.Children, n)
		return true, nil, nil
	}
	if s := n.Parts.Subject; s != nil && s.Digest != parent.Manifest.Descriptor.Digest {
		return false, &Skipped{
			Descriptor: n.Manifest.Descriptor,
			Reason:     SkippedForeign,
			Detail:     fmt.Sprintf("listed as a referrer of %s, its own subject is %s", parent.Manifest.Descriptor.Digest, s.Digest),
		}, nil
	}
	if n.Parts.Subject == nil && n.Role != "" {
		// It is in the graph already, and says nothing that would make it this one's referrer too.
		return false, &Skipped{
			Descriptor: n.Manifest.Descriptor,
			Reason:     SkippedForeign,
			Detail:     fmt.Sprintf("listed as a referrer of %s, it names no subject", parent.Manifest.Descriptor.Digest),
		}, nil
	}
	if n.Parts.Subject == nil && n.Malformed == nil && n.Parts.Shape != ShapeUnknown {
		n.Malformed = malformed("manifest %s is listed as a referrer and has no subject", n.Manifest.Descriptor.Digest)
	}
	if n.Role == "" {
		n.Role = RoleReferrer
		n.indexes, n.hops = parent.indexes, parent.hops+1
	}
	if !slices.Contains(parent.Referrers, n) {
		parent.Referrers = append(parent.Referrers, n)
	}
	return true, nil, nil
}
