package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
)

// batchFlags are the flags of commands that take many items.
type batchFlags struct {
	file     string
	jobs     int
	failFast bool
	shard    shard
}

func (b *batchFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&b.file, "batch", "", "take the items from `FILE`, one a line (- for stdin)")
	f.IntVar(&b.jobs, "jobs", 16, "work on `N` items at once")
	f.Var(&b.shard, "shard", "of the items of --batch only the share `I/N`, I from 0: one list for N processes")
	f.BoolVar(&b.failFast, "fail-fast", false, "stop a batch at the first failure")
}

// A batch is what a command does with each of its items.
type batch[T any] struct {
	kind string // of the JSON lines
	// ahead is how many items more than --jobs are worked on, for a command that bounds by itself what --jobs bounds.
	ahead int
	// do does one item. With an error the result counts only if done says so.
	do func(ctx context.Context, it item) (T, error)
	// full writes the result of the only item; line that of one among many.
	full, line func(w io.Writer, v T)
	// whole, if not nil, writes all results at the end instead of line; kept, if not nil, is what it needs of one.
	whole func(w io.Writer, all []T, failed []ui.Failure)
	kept  func(v T) T
	// fold, if not nil, is told of each result that whole would otherwise get: it keeps what it needs of all. It is never called concurrently.
	fold func(v T)
	// also, if not nil, counts in the end what no result tells of.
	also func() []ui.Count
	// several: the items are a batch even if there is only one.
	several bool
	// finish, if not nil, ends what the items had in common, once none of them runs any more and before the last line.
	finish func(ctx context.Context) error
	// word says what became of an item, for the summary: "signed", "already signed".
	word func(v T) string
	// calls, if not nil, says how often a result used the key; uses says it of them all, and by which key.
	calls func(v T) int
	uses  func(n int) (text, key string)
	// judged: a result that comes with a verdict is shown all the same.
	judged bool
	// partial, if not nil, reports whether a result that comes with an error is shown all the same: some of it was done.
	partial func(v T) bool
	// told, if not nil, reports whether a result without an error only says what a failure says too: it does not count.
	told func(v T) bool
	// skipped, if not nil, returns why there was nothing to do for an item: no failure, as long as there was
	// something to do for another.
	skipped func(v T) error
}

// interruptedBy returns the interruption of an item that a signal stopped, nil if it ended by itself.
func interruptedBy(ctx context.Context, err error) *interrupted {
	var signal interruption
	if !errors.As(context.Cause(ctx), &signal) || !errors.Is(err, context.Canceled) && !errors.As(err, new(interruption)) {
		return nil
	}
	return &interrupted{signal.signal, err}
}

// A batchError is that items of a batch failed, or were not run because it was stopped. Each was said when it happened, and the summary
// was the last line of JSON.
type batchError struct {
	code    int
	stopped error // nil: it ran to its end
}

func (e *batchError) Error() string {
	if e.stopped != nil {
		return e.stopped.Error()
	}
	return "some items failed"
}
func (e *batchError) Unwrap() error { return e.stopped }
func (e *batchError) exitCode() int { return e.code }

// An outcome is what became of one item.
type outcome[T any] struct {
	value T
	err   error
	ran   bool
}

// runBatch does the items, at most jobs at once, and says of each in their order what became of it. One item that did
// not come from a batch is no batch: its error is the run's.
func runBatch[T any](ctx context.Context, s *session, flags batchFlags, items []item, b batch[T]) error {
	if len(items) == 1 && flags.file == "" && !b.several {
		return b.runOne(ctx, s, items[0])
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	failed := func() {}
	if flags.failFast {
		failed = stop
	}
	queue := b.start(work, items, flags.jobs+b.ahead, failed)

	r := record[T]{tally: tally{words: map[string]int{}, of: len(items), shard: flags.shard.String()}}
	for _, it := range items {
		o := queue.next()
		r.spend(b, o)
		if !o.ran || ctx.Err() == nil && work.Err() != nil && errors.Is(o.err, context.Canceled) {
			continue // stopped by --fail-fast
		}
		if stopped := interruptedBy(ctx, o.err); stopped != nil { // said once for the run
			r.count(stopped)
			s.failureObject(stopped, it)
			continue
		}
		r.add(s, b, it, o)
	}
	queue.wait()
	if b.finish != nil {
		if err := b.finish(ctx); err != nil && ctx.Err() == nil {
			s.report(err, nil)
			r.hint(s.hint(err))
			r.end = exitCode(err)
		}
	}
	if b.whole != nil && !s.json {
		_ = s.answer(b.kind, nil, func(w io.Writer) { b.whole(w, r.results, r.failures) })
	}
	r.advise(s)
	r.more(b.also)
	if b.whole == nil || s.json {
		r.summarise(s, b.uses)
	}
	if code := r.code(); code != exitDone || ctx.Err() != nil {
		return &batchError{code, context.Cause(ctx)}
	}
	return nil
}

func (b batch[T]) runOne(ctx context.Context, s *session, it item) error {
	v, err := b.do(ctx, it)
	if b.finish != nil {
		if ended := b.finish(ctx); err == nil {
			err = ended
		}
	}
	if b.shown(v, err) {
		if failed := s.answer(b.kind, v, func(w io.Writer) { b.full(w, v) }); failed != nil {
			return failed
		}
	}
	return err
}

// shown reports whether a result that came with err is shown.
func (b batch[T]) shown(v T, err error) bool {
	var said *verdict
	return err == nil || b.judged && errors.As(err, &said) || b.partial != nil && b.partial(v)
}

// maxAhead is how many items may be done before one that still runs: what became of them is said in their order, and
// waits in memory for it.
const maxAhead = 1024

// A queue is the items of a batch on their way: next returns the outcome of each in their order.
type queue[T any] struct {
	outcomes []chan outcome[T] // of item i at i modulo their number
	room     chan struct{}     // one for each item that is under way and not yet taken by next
	at       int
	workers  sync.WaitGroup
}

func (q *queue[T]) next() outcome[T] {
	o := <-q.outcomes[q.at]
	q.at = (q.at + 1) % len(q.outcomes)
	<-q.room
	return o
}

// wait waits until nothing runs any more.
func (q *queue[T]) wait() { q.workers.Wait() }

// start begins the items, at most jobs at once, until work ends. failed is called on an error before another item is
// taken.
func (b batch[T]) start(work context.Context, items []item, jobs int, failed func()) *queue[T] {
	ahead := min(max(jobs, maxAhead), max(len(items), 1))
	q := &queue[T]{outcomes: make([]chan outcome[T], ahead), room: make(chan struct{}, ahead)}
	for i := range q.outcomes {
		q.outcomes[i] = make(chan outcome[T], 1)
	}
	next := make(chan int)
	for range min(jobs, len(items)) {
		q.workers.Go(func() {
			for i := range next {
				if work.Err() != nil {
					q.outcomes[i%ahead] <- outcome[T]{err: context.Cause(work)}
					continue
				}
				v, err := b.do(work, items[i])
				if err != nil {
					failed()
				}
				q.outcomes[i%ahead] <- outcome[T]{v, err, true}
			}
		})
	}
	q.workers.Go(func() {
		defer close(next)
		for i := range items {
			q.room <- struct{}{}
			select {
			case next <- i:
			case <-work.Done():
				q.outcomes[i%ahead] <- outcome[T]{err: context.Cause(work)}
			}
		}
	})
	return q
}

// A record is what a batch has come to so far.
type record[T any] struct {
	tally
	results  []T
	failures []ui.Failure
}

// spend counts the uses of the key, also those for nothing.
func (r *record[T]) spend(b batch[T], o outcome[T]) {
	switch {
	case o.err != nil:
		r.calls += keyCalls(o.err)
	case b.calls != nil:
		r.calls += b.calls(o.value)
	}
}

// add says what became of an item.
func (r *record[T]) add(s *session, b batch[T], it item, o outcome[T]) {
	var left error
	if o.err == nil && b.skipped != nil {
		left = b.skipped(o.value)
	}
	switch {
	case left != nil:
		r.skip(fmt.Errorf("%s %s: %w", b.kind, it[0], left))
	case o.err == nil && b.told != nil && b.told(o.value):
		r.of--
	default:
		r.count(o.err)
	}
	if b.shown(o.value, o.err) {
		r.word(b.word(o.value))
		if b.whole == nil || s.json {
			_ = s.answer(b.kind, o.value, func(w io.Writer) { b.line(w, o.value) })
		} else {
			r.keep(b, o.value)
		}
	}
	if o.err != nil {
		s.report(o.err, it)
		if b.whole != nil && !s.json {
			r.failures = append(r.failures, failure(it, o.err))
		}
		r.hint(s.hint(o.err))
	}
}

// keep keeps what the whole of a batch shows of a result. All else is forgotten once it is said: a batch may be long.
func (r *record[T]) keep(b batch[T], v T) {
	if b.fold != nil {
		b.fold(v)
		return
	}
	if b.kept != nil {
		v = b.kept(v)
	}
	r.results = append(r.results, v)
}

// failure describes a failed item for a plan.
func failure(it item, err error) ui.Failure {
	f := ui.Failure{Item: it, Reason: reason(err), Text: redact(err.Error()), Code: exitCode(err)}
	var r *refusal
	if errors.As(err, &r) {
		f.Detail = r.why()
	}
	return f
}
