package cmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
)

// Limits of a batch.
const (
	maxBatchBytes = 64 << 20
	maxBatchLine  = 4 << 20 // a result in JSON can be long
	maxBatchItems = 1_000_000
)

// batchFlags are the flags of commands that take many items.
type batchFlags struct {
	file     string
	jobs     int
	failFast bool
}

func (b *batchFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&b.file, "batch", "", "take the items from `FILE`, one a line (- for stdin)")
	f.IntVar(&b.jobs, "jobs", 16, "work on `N` items at once")
	f.BoolVar(&b.failFast, "fail-fast", false, "stop a batch at the first failure")
}

// An item is one piece of work: as many words as the command takes for one.
type item []string

// items returns the items of the arguments, or those of --batch: each has width words.
func (b batchFlags) items(s *session, args []string, width int, usageLine string) ([]item, error) {
	if b.jobs < 1 || b.jobs > 1000 {
		return nil, usage("--jobs %d: it is a number from 1 to 1000", b.jobs)
	}
	if b.file == "" {
		if len(args) == 0 {
			return nil, usageHint(s.command.CommandPath()+" --help", "%s: %s is missing", commandWords(s.command), usageLine)
		}
		if len(args)%width != 0 {
			return nil, usage("%s: %d arguments", usageLine, len(args))
		}
		var out []item
		for i := 0; i+width <= len(args); i += width {
			out = append(out, args[i:i+width])
		}
		return out, nil
	}
	if len(args) > 0 {
		return nil, usage("%s and --batch exclude each other", usageLine)
	}
	in := s.env.In
	if b.file != "-" {
		f, err := os.OpenFile(b.file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, unreadable("the batch "+b.file, err)
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, usageHint("name a file with one item a line; standard input is --batch -",
				"reading the batch %s: it is not a regular file", b.file)
		}
		in = f
	}
	const form = "one item a line; # starts a comment; or imprint's own JSON lines"
	name := b.file
	if name == "-" {
		name = "on standard input"
	}
	out, err := readItems(in, width)
	if err != nil {
		return nil, usageHint(form, "reading the batch %s: %w", name, err)
	}
	if len(out) == 0 {
		return nil, usageHint(form, "reading the batch: %s holds no item", strings.TrimPrefix(name, "on "))
	}
	return out, nil
}

// readItems reads one item a line: words separated by blanks, # starts a comment; or a line of imprint's own JSON.
func readItems(r io.Reader, width int) ([]item, error) {
	limited := &io.LimitedReader{R: r, N: maxBatchBytes + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxBatchLine)
	var out []item
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if text == "" || text[0] == '#' {
			continue
		}
		var words item
		if text[0] == '{' {
			var err error
			if words, err = itemOfJSON([]byte(text), width); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if words == nil {
				continue
			}
		} else {
			for _, w := range strings.Fields(text) {
				if w[0] == '#' {
					break
				}
				words = append(words, w)
			}
		}
		if len(words) != width {
			return nil, fmt.Errorf("line %d: %d words where %d are expected", n, len(words), width)
		}
		if out = append(out, words); len(out) > maxBatchItems {
			return nil, fmt.Errorf("more than %d items", maxBatchItems)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("a line is longer than %d bytes", maxBatchLine)
	} else if err != nil {
		return nil, err
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("more than %d bytes", maxBatchBytes)
	}
	return out, nil
}

// itemOfJSON returns the item of one line that imprint wrote: of a failure the very words, of a result what it named
// pinned to the digest that it had, so that what was reviewed is what runs. A summary is none.
func itemOfJSON(b []byte, width int) (item, error) {
	var line struct {
		Kind        string   `json:"kind"`
		Item        []string `json:"item"`
		Reference   string   `json:"reference"`
		Source      string   `json:"source"`
		Destination string   `json:"destination"`
		Digest      string   `json:"digest"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&line); err != nil {
		return nil, fmt.Errorf("not a line of imprint's JSON: %w", err)
	}
	pinned := func(ref string) string {
		if line.Digest == "" || strings.Contains(ref, "@") {
			return ref
		}
		return ref + "@" + line.Digest
	}
	switch {
	case line.Kind == "summary":
		return nil, nil
	case len(line.Item) > 0:
		return line.Item, nil
	case width == 2 && line.Source != "" && line.Destination != "":
		return item{pinned(line.Source), line.Destination}, nil
	case width == 1 && line.Reference != "":
		return item{pinned(line.Reference)}, nil
	}
	return nil, errors.New("this line of JSON names no item")
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
	// whole, if not nil, writes all results at the end instead of line.
	whole func(w io.Writer, all []T, failed []ui.Failure)
	// word says what became of an item, for the summary: "signed", "already signed".
	word func(v T) string
	// calls, if not nil, says how often a result used the key; uses says it of them all, and by which key.
	calls func(v T) int
	uses  func(n int) (text, key string)
	// judged: a result that comes with a verdict is shown all the same.
	judged bool
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
	if len(items) == 1 && flags.file == "" {
		return b.runOne(ctx, s, items[0])
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	failed := func() {}
	if flags.failFast {
		failed = stop
	}
	outcomes, wait := b.start(work, items, flags.jobs+b.ahead, failed)

	r := record[T]{tally: tally{words: map[string]int{}, of: len(items)}}
	for i, it := range items {
		o := <-outcomes[i]
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
	wait()
	if b.whole != nil && !s.json {
		_ = s.answer(b.kind, nil, func(w io.Writer) { b.whole(w, r.results, r.failures) })
	}
	r.advise(s)
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
	if b.shown(err) {
		if failed := s.answer(b.kind, v, func(w io.Writer) { b.full(w, v) }); failed != nil {
			return failed
		}
	}
	return err
}

// shown reports whether a result that came with err is shown.
func (b batch[T]) shown(err error) bool {
	var said *verdict
	return err == nil || b.judged && errors.As(err, &said)
}

// start begins the items, at most jobs at once, until work ends, and returns where the outcome of each is going to
// come, and what waits until nothing runs any more. failed is called on an error before another item is taken.
func (b batch[T]) start(work context.Context, items []item, jobs int, failed func()) (outcomes []chan outcome[T], wait func()) {
	outcomes = make([]chan outcome[T], len(items))
	for i := range outcomes {
		outcomes[i] = make(chan outcome[T], 1)
	}
	var workers sync.WaitGroup
	next := make(chan int)
	for range min(jobs, len(items)) {
		workers.Go(func() {
			for i := range next {
				if work.Err() != nil {
					outcomes[i] <- outcome[T]{err: context.Cause(work)}
					continue
				}
				v, err := b.do(work, items[i])
				if err != nil {
					failed()
				}
				outcomes[i] <- outcome[T]{v, err, true}
			}
		})
	}
	go func() {
		defer close(next)
		for i := range items {
			select {
			case next <- i:
			case <-work.Done():
				for j := i; j < len(items); j++ {
					outcomes[j] <- outcome[T]{err: context.Cause(work)}
				}
				return
			}
		}
	}()
	return outcomes, workers.Wait
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
	if left != nil {
		r.skip(fmt.Errorf("%s %s: %w", b.kind, it[0], left))
	} else {
		r.count(o.err)
	}
	if b.shown(o.err) {
		r.results = append(r.results, o.value)
		r.word(b.word(o.value))
		if b.whole == nil || s.json {
			_ = s.answer(b.kind, o.value, func(w io.Writer) { b.line(w, o.value) })
		}
	}
	if o.err != nil {
		s.report(o.err, it)
		r.failures = append(r.failures, failure(it, o.err))
		r.hint(s.hint(o.err))
	}
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
