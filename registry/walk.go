package registry

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// RoleFallback is the role in a [Visit] of what no tag names and no index or list holds: only that something refers to it
// (a fallback tag, a tagged referrer, a referrer in a layout's index) tells that it is there.
const RoleFallback = "fallback"

// A Visit is what [Repo.Walk] found.
type Visit struct {
	// Subject has media type, digest and size as whatever led here has them, proved where Manifest is set. It has no digest
	// if a tag could not be read.
	Subject ocispec.Descriptor
	Role    string   // how it was reached first: RoleRoot (a tag names it, or WalkOptions.From), RoleChild, RoleReferrer or RoleFallback
	Tags    []string // by which it was reached; WalkOptions.Named is told of all
	// Root is what a tag names that leads here, or the digest itself. Within is the index that contains it, or what it
	// refers to.
	Root, Within digest.Digest
	Platform     *ocispec.Platform // of a child, as the index has it
	// Manifest is that of a root, of an index, and of a RoleFallback; nil of all else, and if it could not be read.
	Manifest *Manifest
	// Referrers is what refers to it, as listed, of all types. They are hints.
	Referrers []Referrer
	// Err is why it could not be read, or what refers to it not be listed, or is not followed. The walk goes on. Of a
	// RoleFallback it may wrap ErrNotFound: what is left of an artifact that was deleted.
	Err error
}

// WalkOptions of [Repo.Walk].
type WalkOptions struct {
	// From is where the walk begins: tags, digests, and with neither the repository, which is all of its tags. None: the
	// repository.
	From []Reference
	// Named is told of each tag and the digest that it names, also where that was met before. It is never called
	// concurrently.
	Named func(tag string, d digest.Digest)
	// Parallel is how many steps (the request for a tag, the listing of what refers to an artifact, its visit) are under way
	// at once; 0: 32.
	Parallel int
	// Slots, if not nil, bounds the steps of several walks together by its capacity, instead of Parallel.
	Slots chan struct{}
}

// Limits of a walk. What it remembers of a digest or a tag is a mark of 33 bytes.
const (
	maxWalked = 4_000_000
	tagsAhead = 4096 // tags that were listed and not asked for yet
)

// Walk visits all that tags, indexes, lists of referrers and fallback tags lead to, each digest once, with the fewest
// requests: one for a tag, one for each list of referrers. Leaf children of an index and referrers are not read; what
// refers to a signature is not asked for, and signatures are not visited. A digest that is described in several ways (other
// media type or size) is visited as each of them: who lies about it must not hide it.
//
// visit is called concurrently, and as soon as something is found. What cannot be read or listed is visited with its Err,
// and the walk goes on. The error is that of visit or ctx, which end the walk, or why the tags could not all be listed
// (also ErrCapped), which comes once all else was visited.
//
// Of a registry it sees no untagged manifests that nothing leads to, since registries do not list those, and perhaps not
// what comes while it walks.
func (r *Repo) Walk(ctx context.Context, o WalkOptions, visit func(ctx context.Context, v Visit) error) error {
	return newWalk(r, o, visit).run(ctx)
}

func newWalk(r *Repo, o WalkOptions, visit func(ctx context.Context, v Visit) error) *walk {
	w := &walk{
		repo: r, o: o, visit: visit, slots: o.Slots, held: r.allow(), seed: maphash.MakeSeed(), pages: maxTagPages, nodes: maxNodes,
		seen:    make(map[mark]uint64),
		also:    make(map[variant]struct{}),
		names:   make(map[mark]struct{}),
		lists:   make(map[mark]tagState),
		orphans: make(map[digest.Digest]struct{}),
	}
	if w.slots == nil {
		n := o.Parallel
		if n <= 0 {
			n = inFlight
		}
		w.slots = make(chan struct{}, n)
	}
	return w
}

// A walk is one under way. Its steps run concurrently; all it knows belongs to the goroutine that starts them.
type walk struct {
	repo  *Repo
	o     WalkOptions
	visit func(ctx context.Context, v Visit) error
	slots chan struct{}
	held  *allowance // lists that wait for their visit
	seed  maphash.Seed
	pages int // maxTagPages; tests lower it
	nodes int // maxNodes, of one root; tests lower it

	whole    bool                 // all tags are looked at
	complete bool                 // and were listed
	seen     map[mark]uint64      // digests, and how each was described first
	also     map[variant]struct{} // those that were described otherwise
	names    map[mark]struct{}    // tags
	lists    map[mark]tagState    // fallback tags
	tagged   bool                 // there are some
	orphans  map[digest.Digest]struct{}

	pending []task   // the last first: so only little waits
	tags    []string // to be asked for
	late    []task   // once nothing else is left
	err     error    // of listing the tags
}

// A mark stands for a digest or a tag in as little memory as possible. It is the same for a digest and its fallback tag.
type mark [33]byte

// A variant is a digest as somebody described it.
type variant struct {
	mark mark
	as   uint64
}

// What is known of a fallback tag.
type tagState struct{ exists, read bool }

// A tree counts what belongs to one root.
type tree struct{ manifests int }

// A node is a manifest that something leads to.
type node struct {
	Visit
	parts         *Parts     // of Manifest
	list          []Referrer // if listed
	listed        bool
	of            *tree
	indexes, hops int
}

// A task is a step to be made: one of these.
type task struct {
	ref     Reference // a tag, or a digest where the walk begins
	look    *node
	visit   *node
	list    mark          // a fallback tag that nobody read
	subject digest.Digest // what nothing leads to but that something refers to it
	entry   *ocispec.Descriptor
}

// A found is what a step came to.
type found struct {
	nodes  []*node // to be looked at, unless they were
	ready  *node   // to be visited
	tag    string  // and its digest
	digest digest.Digest
	orphan digest.Digest // a subject that may be known by nothing else
	// Of the look at a node:
	unread   bool   // its fallback tag was not read after all
	occupied string // its fallback tag, which is an ordinary tag
	err      error  // ends the walk
}

func (w *walk) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pages := w.begin(ctx)
	founds := make(chan found)
	ending := ctx.Done() // nil once it is known that the walk ends
	for running := 0; ; {
		if running == 0 && (ending == nil || pages == nil && !w.waiting() && !w.remaining()) {
			break
		}
		var free chan<- struct{}
		more := pages
		if ending != nil && w.waiting() {
			free = w.slots
		}
		if ending == nil || len(w.tags) >= tagsAhead {
			more = nil
		}
		select {
		case free <- struct{}{}:
			step := w.step(w.next())
			running++
			go func() {
				founds <- step(ctx)
			}()
		case f := <-founds:
			running--
			if f.err != nil {
				cancel(f.err)
			} else {
				w.take(f)
			}
			<-w.slots // after what it found is queued, which goes before further tags
		case p, ok := <-more:
			if !ok {
				pages = nil
				break
			}
			w.file(p)
		case <-ending:
			ending = nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return w.err
}

// A tagPage is a part of the tags. The last is complete, or has the error that ended them.
type tagPage struct {
	tags     []string
	entries  []ocispec.Descriptor // of a layout's index, whether they have names or not
	complete bool
	err      error
}

// begin queues where the walk begins, and has the tags listed if that is the whole repository.
func (w *walk) begin(ctx context.Context) <-chan tagPage {
	w.whole = len(w.o.From) == 0
	for _, ref := range w.o.From {
		if ref.IsRepository() {
			w.whole = true
			continue
		}
		w.pending = append(w.pending, task{ref: ref})
	}
	slices.Reverse(w.pending)
	if !w.whole {
		return nil
	}
	pages := make(chan tagPage)
	go func() {
		defer close(pages)
		for p := range w.repo.tagPages(ctx, w.pages) {
			select {
			case pages <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	return pages
}

// file queues the tags of a page, but those that may be lists of referrers.
func (w *walk) file(p tagPage) {
	for _, t := range p.tags {
		if m, ok := markOfTag(t); ok {
			known := w.lists[m]
			known.exists = true
			w.lists[m], w.tagged = known, true
			continue
		}
		m := markOfName(t)
		if _, known := w.names[m]; known {
			continue
		}
		w.names[m] = struct{}{}
		w.tags = append(w.tags, t)
	}
	for _, d := range p.entries {
		if checkDescriptor(d) == nil {
			w.late = append(w.late, task{entry: &d})
		}
	}
	w.complete = w.complete || p.complete
	if p.err != nil {
		w.err = p.err
	}
}

func (w *walk) waiting() bool { return len(w.pending)+len(w.tags) > 0 }

// next takes what was found before a further tag, so that not much waits.
func (w *walk) next() task {
	if n := len(w.pending); n > 0 {
		t := w.pending[n-1]
		w.pending = w.pending[:n-1]
		return t
	}
	t := w.tags[0]
	if w.tags = w.tags[1:]; len(w.tags) == 0 {
		w.tags = nil
	}
	return task{ref: w.repo.ref.With(t, "")}
}

// remaining queues what is only looked at when nothing else leads there: the entries of a layout, what fallback tags are
// about, what tagged referrers refer to.
func (w *walk) remaining() bool {
	for {
		// Few at a time, since one may lead to the next.
		for len(w.late) > 0 && len(w.pending) < cap(w.slots) {
			t := w.late[0]
			if w.late = w.late[1:]; len(w.late) == 0 {
				w.late = nil
			}
			if d := t.known(); d == "" || !w.knows(d) {
				w.pending = append(w.pending, t)
			}
		}
		if len(w.pending) > 0 {
			return true
		}
		for m, l := range w.lists {
			if l.exists && !l.read {
				w.lists[m] = tagState{exists: true, read: true}
				w.late = append(w.late, task{list: m})
			}
		}
		for d := range w.orphans {
			w.late = append(w.late, task{subject: d})
		}
		clear(w.orphans)
		if len(w.late) == 0 {
			return false
		}
	}
}

// known returns the digest that makes a late task needless once it was seen.
func (t task) known() digest.Digest {
	if t.entry != nil {
		return t.entry.Digest
	}
	return t.subject
}

func (w *walk) knows(d digest.Digest) bool {
	_, known := w.seen[markOf(d)]
	return known
}

// take joins what a step found.
func (w *walk) take(f found) {
	if f.tag != "" && f.digest != "" && w.o.Named != nil {
		w.o.Named(f.tag, f.digest)
	}
	if f.orphan != "" && w.whole && !w.knows(f.orphan) {
		w.orphans[f.orphan] = struct{}{}
	}
	for _, n := range slices.Backward(f.nodes) {
		if w.first(n) {
			w.pending = append(w.pending, task{look: n})
		}
	}
	if f.occupied != "" && w.whole {
		w.tags = append(w.tags, f.occupied)
	}
	if f.ready == nil {
		return
	}
	w.pending = append(w.pending, task{visit: f.ready})
	if f.unread {
		m := markOf(f.ready.Subject.Digest)
		if l, known := w.lists[m]; known {
			w.lists[m] = tagState{l.exists, false}
		}
	}
}

// first reports whether a node was not met before, and may be followed.
func (w *walk) first(n *node) bool {
	d := n.Subject
	as := maphash.String(w.seed, fmt.Sprint(d.Size, d.MediaType))
	m := markOf(d.Digest)
	was, known := w.seen[m]
	other := variant{m, as}
	_, also := w.also[other]
	switch {
	case known && (was == as || also):
		return false
	case len(w.seen)+len(w.also) >= maxWalked:
		w.err = fail(codeCapped, "%s: %w (%w): more than %d manifests", w.repo.ref, ErrCapped, ErrTooLarge, maxWalked)
		return false
	}
	n.of.manifests++
	switch {
	case n.of.manifests > w.nodes+1:
		return false
	case n.of.manifests == w.nodes+1:
		n.Err = fail(codeCapped, "%s: %w (%w): more than %d manifests belong to it", w.repo.ref.With("", n.Root), ErrCapped, ErrTooLarge, w.nodes)
	}
	if known {
		w.also[other] = struct{}{}
	} else {
		w.seen[m] = as
	}
	return true
}

// gone is what a step comes to when the walk is over.
func gone(ctx context.Context) found { return found{err: context.Cause(ctx)} }

// step returns what a task is to do. It may not touch what the walk knows.
func (w *walk) step(t task) func(ctx context.Context) found {
	switch {
	case t.visit != nil:
		return func(ctx context.Context) found { return w.show(ctx, t.visit) }
	case t.look != nil:
		m := markOf(t.look.Subject.Digest)
		l := w.lists[m]
		absent := w.complete && !l.exists
		if !absent {
			w.lists[m] = tagState{l.exists, true}
		}
		tagged := w.tagged
		return func(ctx context.Context) found { return w.look(ctx, t.look, absent, tagged) }
	case t.list != mark{}:
		seen := w.knowsMark(t.list)
		return func(ctx context.Context) found { return w.unread(ctx, t.list, seen) }
	case t.entry != nil:
		return func(ctx context.Context) found { return w.entry(ctx, *t.entry) }
	case t.subject != "":
		return func(ctx context.Context) found { return w.orphan(ctx, t.subject, nil) }
	}
	return func(ctx context.Context) found { return w.resolve(ctx, t.ref) }
}

func (w *walk) knowsMark(m mark) bool {
	_, known := w.seen[m]
	return known
}

// show has a node visited.
func (w *walk) show(ctx context.Context, n *node) found {
	defer w.held.left.Add(int64(weight(n.Referrers)))
	if ctx.Err() != nil {
		return gone(ctx)
	}
	return found{err: w.visit(ctx, n.Visit)}
}
