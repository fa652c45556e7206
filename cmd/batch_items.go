package cmd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// Limits of a batch.
const (
	maxBatchBytes = 64 << 20
	maxBatchLine  = 4 << 20 // a result in JSON can be long
	maxBatchItems = 1_000_000
)

// An item is one piece of work: as many words as the command takes for one. The words of a failure are the item again.
type item []string

// A form is what the items of a command look like.
type form struct {
	words int // of a line of text, and on the command line
	// copies: of imprint's JSON the source, the destination and the tags count: those are more words than a line has.
	copies bool
	// signatures: of a line of imprint's JSON about signatures, these count too: they are more words than a line has.
	signatures bool
}

// A given is an item as it was handed in.
type given struct {
	words item
	own   bool // a line of imprint's own JSON: what it names was worked out before
}

// items returns the items of the arguments, or those of --batch.
func (b batchFlags) items(s *session, args []string, f form, usageLine string) ([]item, error) {
	all, err := b.given(s, args, f, usageLine)
	return wordsOf(all), err
}

func wordsOf(all []given) []item {
	var out []item
	for _, g := range all {
		out = append(out, g.words)
	}
	return out
}

// given returns what the arguments name, or --batch: of that only what is this process's --shard.
func (b batchFlags) given(s *session, args []string, f form, usageLine string) ([]given, error) {
	if b.jobs < 1 || b.jobs > 1000 {
		return nil, usage("--jobs %d: it is a number from 1 to 1000", b.jobs)
	}
	if b.file == "" {
		if b.shard.of > 0 {
			return nil, usageHint("each process of several takes its share of one list: --batch FILE --shard 0/8", "--shard without --batch")
		}
		if len(args) == 0 {
			return nil, usageHint(s.command.CommandPath()+" --help", "%s: %s is missing", commandWords(s.command), usageLine)
		}
		if len(args)%f.words != 0 {
			return nil, usage("%s: %d arguments", usageLine, len(args))
		}
		var out []given
		for words := range slices.Chunk(args, f.words) {
			out = append(out, given{words: words})
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
	const lines = "one item a line; # starts a comment; or imprint's own JSON lines"
	name := b.file
	if name == "-" {
		name = "on standard input"
	}
	list, err := readList(in, f)
	switch {
	case err != nil:
		return nil, usageHint(lines, "reading the batch %s: %w", name, err)
	case len(list.items) == 0 && list.refused > 0:
		return nil, usageHint("what a plan refused is not run from the plan; name it in a batch of its own",
			"reading the batch: %s holds nothing but what its plan refused", strings.TrimPrefix(name, "on "))
	case len(list.items) == 0:
		return nil, usageHint(lines, "reading the batch: %s holds no item", strings.TrimPrefix(name, "on "))
	case list.refused > 0:
		s.note("left out of the batch: %d of its lines, which its plan refused", list.refused)
	}
	out := b.shard.share(list.items)
	if len(out) == 0 { // it has been done, as far as there is anything
		none := tally{words: map[string]int{}, shard: b.shard.String()}
		none.summarise(s, nil)
		return nil, &batchError{code: exitDone}
	}
	return out, nil
}

// A list is a batch as it was read.
type list struct {
	items   []given
	refused int // lines of a plan that say what it would not do
}

// readList reads one item a line: words separated by blanks, # starts a comment; or a line of imprint's own JSON.
func readList(r io.Reader, f form) (list, error) {
	limited := &io.LimitedReader{R: r, N: maxBatchBytes + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxBatchLine)
	var out list
	var plan bool
	var refused []int // which of the items a verdict refused
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if text == "" || text[0] == '#' {
			continue
		}
		var g given
		if text[0] == '{' {
			line, err := parseLine([]byte(text))
			if err == nil {
				plan = plan || line.DryRun
				g.own = true
				g.words, err = line.item(f)
			}
			if err != nil {
				return out, fmt.Errorf("line %d: %w", n, err)
			}
			if g.words == nil {
				continue
			}
			if line.Kind == "error" && line.ExitCode == exitRejected {
				refused = append(refused, len(out.items))
			}
		} else {
			for _, w := range strings.Fields(text) {
				if w[0] == '#' {
					break
				}
				g.words = append(g.words, w)
			}
		}
		if has := len(g.words); has != f.words && (!g.own || !f.copies && !f.signatures || has < 2) {
			return out, fmt.Errorf("line %d: %s, and %d expected", n, counted(has, "word"), f.words)
		}
		if out.items = append(out.items, g); len(out.items) > maxBatchItems {
			return out, fmt.Errorf("more than %d items", maxBatchItems)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return out, fmt.Errorf("a line is longer than %d bytes", maxBatchLine)
	} else if err != nil {
		return out, err
	}
	if limited.N == 0 {
		return out, fmt.Errorf("more than %d bytes", maxBatchBytes)
	}
	if plan {
		// A plan that was reviewed says what is going to be done, and what is not. In a list of failures the same lines
		// are what somebody wants tried again.
		out.drop(refused)
	}
	return out, nil
}

// drop takes the items at the indexes out, which stand in their order.
func (l *list) drop(indexes []int) {
	l.refused = len(indexes)
	kept, at := l.items[:0], 0
	for i, g := range l.items {
		if at < len(indexes) && indexes[at] == i {
			at++
			continue
		}
		kept = append(kept, g)
	}
	l.items = kept
}

// A batchLine is what counts of a line that imprint wrote.
type batchLine struct {
	Kind        string   `json:"kind"`
	Item        []string `json:"item"`
	Reference   string   `json:"reference"`
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Digest      string   `json:"digest"`
	DryRun      bool     `json:"dryRun"`
	ExitCode    int      `json:"exitCode"`
	Tags        []struct {
		Tag string `json:"tag"`
	} `json:"tags"`
	Signatures json.RawMessage `json:"signatures"`
}

func parseLine(b []byte) (batchLine, error) {
	var line batchLine
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&line); err != nil {
		return line, fmt.Errorf("not a line of imprint's JSON: %w", err)
	}
	return line, nil
}

// item returns the item of a line: of a failure the very words, of a result what it named pinned to the digest that it
// had, and of a copy the tags that it was to write, so that what was reviewed is what runs. A summary is none.
func (l batchLine) item(f form) (item, error) {
	switch {
	case l.Kind == "summary":
		return nil, nil
	case len(l.Item) > 0:
		return l.Item, nil
	case f.copies && l.Source != "" && l.Destination != "":
		words := item{l.pinned(l.Source), l.Destination}
		for _, t := range l.Tags {
			words = append(words, t.Tag)
		}
		return words, nil
	case !f.copies && l.Reference != "":
		words := item{l.pinned(l.Reference)}
		if f.signatures {
			words = append(words, l.signatures()...)
		}
		return words, nil
	}
	return nil, errors.New("this line of JSON names no item")
}

// signatures are those that a line plans for.
func (l batchLine) signatures() (out []string) {
	var all []struct {
		Signature digest.Digest `json:"signature"`
	}
	if l.Kind != "rechain" || json.Unmarshal(l.Signatures, &all) != nil {
		return nil
	}
	for _, sig := range all {
		if sig.Signature.Validate() == nil {
			out = append(out, sig.Signature.String())
		}
	}
	return out
}

func (l batchLine) pinned(ref string) string {
	if l.Digest == "" || strings.Contains(ref, "@") {
		return ref
	}
	return ref + "@" + l.Digest
}
