package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/registry"
)

// notSeen is what no --all can see: registries do not list it.
const notSeen = "digests that no tag, index or fallback tag leads to; give them with --batch"

// errEnough is returned by what is done at a visit of [runAll] that wants no further one (--limit). Nothing has failed by it.
var errEnough = errors.New("that is enough")

// allOptions of [runAll]. The zero value is right for what writes.
type allOptions struct {
	// archives may be among the items.
	archives bool
	// named, if not nil, is told of each tag of each repository, concurrently.
	named func(repo *registry.Repo, tag string, d digest.Digest)
	// gone, if not nil, is told of digests that something still refers to and that are not there any more.
	gone func(repo *registry.Repo, v registry.Visit)
	// toldUnseen: what the command shows says by itself what cannot be seen.
	toldUnseen bool
}

// How many requests --all has in flight to one registry: three times --jobs, within these.
const (
	leastPerHost = 32
	mostPerHost  = 512
)

// allItems returns what --all begins with, repositories and references: the arguments, or --batch. The shard is a share of what
// is found, not of these.
func (b batchFlags) allItems(s *session, args []string, usageLine string) ([]item, error) {
	whole := b
	whole.shard = shard{}
	return whole.items(s, args, form{words: 1}, usageLine)
}

// An origin is a repository of the items and where in it the walk begins.
type origin struct {
	ref  registry.Reference
	item item
	from []registry.Reference
}

// runAll does everything that the items (repositories, or references) lead to: each digest once, flags.jobs at a time, as it is
// found. What do returns of a visit is said at once, a line for each; a failure is a line with the item HOST/REPO@DIGEST, so
// that the failures are a --batch. Nothing is kept but what b.whole asks for.
func runAll[T any](ctx context.Context, s *session, flags batchFlags, items []item, b batch[T], o allOptions,
	do func(ctx context.Context, repo *registry.Repo, v registry.Visit) ([]T, error)) error {
	// An artifact has a few requests in flight at once, and the walk goes on meanwhile: with as many as there are jobs they would
	// wait for one another's.
	s.network.perHost = max(s.network.perHost, min(3*flags.jobs, mostPerHost), leastPerHost)
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a := &all[T]{s: s, b: b, o: o, flags: flags, do: do, run: ctx, stop: stop,
		slots: make(chan struct{}, 2*flags.jobs), doing: make(chan struct{}, flags.jobs)}
	a.tally = tally{words: map[string]int{}, shard: flags.shard.String()}

	var walks sync.WaitGroup
	turns := make(chan struct{}, flags.jobs)
	for _, at := range a.origins(items) {
		select {
		case turns <- struct{}{}:
		case <-work.Done():
		}
		if work.Err() != nil {
			break
		}
		walks.Go(func() {
			defer func() { <-turns }()
			if err := a.walk(work, at); err != nil && work.Err() == nil {
				a.failed(work, at.item, err)
			}
		})
	}
	walks.Wait()
	return a.end(ctx)
}

// An all is a run of --all.
type all[T any] struct {
	s     *session
	b     batch[T]
	o     allOptions
	flags batchFlags
	do    func(ctx context.Context, repo *registry.Repo, v registry.Visit) ([]T, error)
	run   context.Context // that only a signal ends
	stop  context.CancelCauseFunc
	slots chan struct{} // of the walks, which look up as many artifacts again while jobs of them are worked on
	doing chan struct{}

	mu sync.Mutex
	record[T]
	gone   int
	remote bool
}

// origins groups the items by repository, in the order in which they came first. What is no reference is said.
func (a *all[T]) origins(items []item) []*origin {
	var out []*origin
	at := make(map[registry.Reference]*origin)
	for _, it := range items {
		ref, err := registry.ParseReference(it[0])
		if err == nil && ref.Kind == registry.Archive && !a.o.archives {
			err = usageHint("copy it into a layout first: imprint copy "+it[0]+" oci:DIR", "an archive is written once and takes no signature")
		}
		if err != nil {
			a.failed(a.run, it, err)
			continue
		}
		a.remote = a.remote || ref.Kind == registry.Remote
		repo := ref.Repository()
		if at[repo] == nil {
			at[repo] = &origin{ref: repo, item: it}
			out = append(out, at[repo])
		}
		if !slices.Contains(at[repo].from, ref) {
			at[repo].from = append(at[repo].from, ref)
		}
	}
	return out
}

func (a *all[T]) walk(ctx context.Context, at *origin) error {
	repo, err := a.s.open(ctx, at.ref)
	if err != nil {
		return err
	}
	defer repo.Close()
	o := registry.WalkOptions{From: at.from, Slots: a.slots}
	if a.o.named != nil {
		o.Named = func(tag string, d digest.Digest) { a.o.named(repo, tag, d) }
	}
	return repo.Walk(ctx, o, func(ctx context.Context, v registry.Visit) error { return a.visit(ctx, repo, v) })
}

// visit does one artifact. Its error ends the run.
func (a *all[T]) visit(ctx context.Context, repo *registry.Repo, v registry.Visit) error {
	it := itemOf(repo.Reference(), v)
	if a.flags.shard.of > 0 && !a.flags.shard.has(it) {
		return nil
	}
	if v.Err != nil {
		if v.Role == registry.RoleFallback && errors.Is(v.Err, registry.ErrNotFound) {
			a.left(repo, v)
			return nil
		}
		a.failed(ctx, it, v.Err)
		return nil
	}
	select {
	case a.doing <- struct{}{}:
		defer func() { <-a.doing }()
	case <-ctx.Done():
		return nil
	}
	results, err := a.do(ctx, repo, v)
	enough := errors.Is(err, errEnough)
	if enough {
		err = nil
	}
	a.said(it, results)
	if err != nil {
		a.failed(ctx, it, err)
	}
	if enough {
		a.stop(errEnough)
	}
	return nil
}

// itemOf is the item that does just this artifact.
func itemOf(repo registry.Reference, v registry.Visit) item {
	if v.Subject.Digest == "" && len(v.Tags) > 0 {
		return item{repo.With(v.Tags[0], "").String()}
	}
	return item{repo.With("", v.Subject.Digest).String()}
}

// left notes what something refers to and that is gone.
func (a *all[T]) left(repo *registry.Repo, v registry.Visit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone++
	if a.o.gone != nil {
		a.o.gone(repo, v)
	}
}

// said says the results of a visit.
func (a *all[T]) said(it item, results []T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range results {
		a.of++
		a.add(a.s, a.b, it, outcome[T]{value: v, ran: true})
	}
}

// failed says that an item failed, unless the run was stopped.
func (a *all[T]) failed(ctx context.Context, it item, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if stopped := interruptedBy(a.run, err); stopped != nil { // said once for the run
		a.of++
		a.count(stopped)
		a.s.failureObject(stopped, it)
		return
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return // by --fail-fast, or --limit
	}
	if doing := a.b.kind + " " + it[0] + ": "; !strings.HasPrefix(err.Error(), doing) {
		err = fmt.Errorf("%s%w", doing, err)
	}
	a.of++
	a.add(a.s, a.b, it, outcome[T]{err: err, ran: true})
	if a.flags.failFast {
		a.stop(context.Canceled)
	}
}

// end says what the run came to.
func (a *all[T]) end(ctx context.Context) error {
	if a.b.finish != nil {
		if err := a.b.finish(ctx); err != nil && ctx.Err() == nil {
			a.s.report(err, nil)
			a.hint(a.s.hint(err))
			a.tally.end = exitCode(err)
		}
	}
	if a.b.whole != nil && !a.s.json {
		_ = a.s.answer(a.b.kind, nil, func(w io.Writer) { a.b.whole(w, a.results, a.failures) })
	}
	a.advise(a.s)
	if a.gone > 0 {
		what := "1 artifact that something still refers to is not there"
		if a.gone > 1 {
			what = fmt.Sprintf("%d artifacts that something still refers to are not there", a.gone)
		}
		a.s.note("%s any more; nothing was done about that", what)
	}
	if a.remote {
		a.notSeen = notSeen
	}
	a.more(a.b.also)
	if a.b.whole == nil || a.s.json {
		a.summarise(a.s, a.b.uses)
	}
	if a.remote && !a.s.json && !a.o.toldUnseen {
		_ = a.s.answer(a.b.kind, nil, func(w io.Writer) { fmt.Fprintf(w, "not seen: %s\n", notSeen) })
	}
	if code := a.code(); code != exitDone || ctx.Err() != nil {
		return &batchError{code, context.Cause(ctx)}
	}
	return nil
}
