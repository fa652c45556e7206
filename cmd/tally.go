package cmd

import (
	"io"
	"slices"

	"github.com/imprint-oci/imprint/cmd/ui"
)

// A tally counts a batch.
type tally struct {
	of, ran, done, verdicts, failed int
	skipped                         []error // why, each
	first                           int     // exit code of the first failure
	signal                          int     // exit code of an interruption
	end                             int     // exit code of what the items had in common, once they were through
	shard                           string  // I/N, "" of none
	calls                           int     // of the key service, or uses of a key in a file
	words                           map[string]int
	notSeen                         string // what --all cannot see
	order, hints                    []string
}

func (t *tally) count(err error) {
	t.ran++
	code := exitCode(err)
	switch code {
	case exitDone:
		t.done++
		return
	case exitRejected:
		t.verdicts++
	default:
		t.failed++
	}
	if t.first == 0 {
		t.first = code
	}
	if code > exitSignal {
		t.signal = code
	}
}

func (t *tally) skip(why error) {
	t.ran++
	t.skipped = append(t.skipped, why)
}

func (t *tally) word(w string) {
	if t.words[w]++; t.words[w] == 1 {
		t.order = append(t.order, w)
	}
}

// more adds what no result tells of.
func (t *tally) more(also func() []ui.Count) {
	if also == nil {
		return
	}
	for _, c := range also() {
		if t.words[c.Word] == 0 {
			t.order = append(t.order, c.Word)
		}
		t.words[c.Word] += c.N
	}
}

// maxHints is how many hints are kept: where they name what failed, of thousands none tells more than the first.
const maxHints = 5

func (t *tally) hint(h string) {
	if h != "" && len(t.hints) < maxHints && !slices.Contains(t.hints, h) {
		t.hints = append(t.hints, h)
	}
}

// code is the exit code of a batch: of failures beside successes that it is partly done.
func (t *tally) code() int {
	switch {
	case t.signal != 0:
		return t.signal
	case t.end != 0:
		return t.end
	case t.verdicts+t.failed == 0 && t.done == 0 && len(t.skipped) > 0:
		return exitCode(t.skipped[0])
	case t.verdicts+t.failed == 0:
		return exitDone
	case t.failed == 0:
		return exitRejected
	case t.done > 0:
		return exitPartly
	}
	return t.first
}

// summary is the last line of a batch.
type summary struct {
	Items    int            `json:"items"`
	Shard    string         `json:"shard,omitempty"` // the share of the batch that these items are
	Done     int            `json:"done"`
	Rejected int            `json:"rejected"`
	Failed   int            `json:"failed"`
	Skipped  int            `json:"skipped,omitempty"`
	NotRun   int            `json:"notRun,omitempty"`
	Statuses map[string]int `json:"statuses,omitempty"`
	KeyCalls *int           `json:"keyCalls,omitempty"` // of commands that use a key
	NotSeen  string         `json:"notSeen,omitempty"`  // of --all
	DryRun   bool           `json:"dryRun,omitempty"`
	ExitCode int            `json:"exitCode"`
}

// advise says what to do next: each hint once. Where nothing was to be done for any item, it says why.
func (t *tally) advise(s *session) {
	if len(t.skipped) > 0 && t.ran == len(t.skipped) {
		s.report(t.skipped[0], nil)
		t.hint(s.hint(t.skipped[0]))
	}
	for _, h := range t.hints {
		s.talk("imprint: hint: ", h)
	}
}

// dryRun reports whether the command only says what it would do.
func (s *session) dryRun() bool {
	f := s.command.Flags().Lookup("dry-run")
	return f != nil && f.Value.String() == "true"
}

// summarise answers with the summary. uses, if not nil, says how often the key was used, and which it was.
func (t *tally) summarise(s *session, uses func(n int) (text, key string)) {
	sum := summary{
		Items: t.of, Shard: t.shard, DryRun: s.dryRun(), Done: t.done, Rejected: t.verdicts, Failed: t.failed, Skipped: len(t.skipped), NotRun: t.of - t.ran,
		Statuses: t.words, NotSeen: t.notSeen, ExitCode: t.code(),
	}
	counts := ui.Counts{Items: sum.Items, Shard: t.shard, DryRun: sum.DryRun, Rejected: sum.Rejected, Failed: sum.Failed, NotRun: sum.NotRun}
	if uses != nil {
		sum.KeyCalls = &t.calls
		counts.Uses, counts.Key = uses(t.calls)
	}
	for _, w := range t.order {
		counts.Words = append(counts.Words, ui.Count{N: t.words[w], Word: w})
	}
	_ = s.answer("summary", sum, func(w io.Writer) { ui.Summary(w, counts) })
}
