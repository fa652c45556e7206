package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/registry"
)

func TestReadItems(t *testing.T) {
	t.Parallel()
	const d = "sha256:4f0c6f5bb1d7a3e0f0a6c1b2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f60"
	for _, tt := range []struct {
		name, in string
		width    int
		want     []item
		err      string
	}{
		{"references", "a:1\n\n# words\n  b:2  \nc:3 # why\n", 1, []item{{"a:1"}, {"b:2"}, {"c:3"}}, ""},
		{"pairs", "a b\nc\td\n", 2, []item{{"a", "b"}, {"c", "d"}}, ""},
		{"a byte order mark and CRLF", "\ufeffa:1\r\nb:2\r\n", 1, []item{{"a:1"}, {"b:2"}}, ""},
		{"too many words", "a b\n", 1, nil, "line 1: 2 words, and 1 expected"},
		{"too few words", "a b\nc\n", 2, nil, "line 2: 1 word, and 2 expected"},
		{"a result is pinned", `{"kind":"sign","reference":"r.example/a:1","digest":"` + d + `"}`, 1, []item{{"r.example/a:1@" + d}}, ""},
		{"a result that is pinned", `{"kind":"sign","reference":"r.example/a@` + d + `","digest":"` + d + `"}`, 1, []item{{"r.example/a@" + d}}, ""},
		{"a copy", `{"kind":"copy","source":"r.example/a:1","destination":"q.example/a","digest":"` + d + `"}`, 2, []item{{"r.example/a:1@" + d, "q.example/a"}}, ""},
		{"a failure", `{"kind":"error","item":["a","b"],"error":"x"}`, 2, []item{{"a", "b"}}, ""},
		{"a summary", `{"kind":"summary","items":3}`, 1, nil, ""},
		{"a failure of another width", `{"kind":"error","item":["a"],"error":"x"}`, 2, nil, "line 1: 1 word, and 2"},
		{"JSON of somebody else", `{"a":1}`, 1, nil, "names no item"},
		{"broken JSON", `{"a":`, 1, nil, "line 1: not a line"},
		{"an endless line", strings.Repeat("x", maxBatchLine+1), 1, nil, "longer than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := readList(strings.NewReader(tt.in), form{words: tt.width, copies: tt.width == 2})
			got := wordsOf(list.items)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadItemsIsBounded(t *testing.T) {
	t.Parallel()
	endless := io.MultiReader(strings.NewReader("a:1\n"), comments{})
	if _, err := readList(endless, form{words: 1}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("error %v, want that of the limit", err)
	}
}

// comments is a reader of comment lines that never ends.
type comments struct{}

func (comments) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	if len(p) > 0 {
		p[len(p)-1] = '\n'
	}
	return len(p), nil
}

// batchOf runs a batch whose items say how they end.
func batchOf(ctx context.Context, t *testing.T, flags batchFlags, items []item, asJSON bool, do func(ctx context.Context, it item) (map[string]string, error)) told {
	t.Helper()
	var out, talk strings.Builder
	w := newWorld(t)
	w.env.Out, w.env.Err = &out, &talk
	s := newSession(w.env)
	s.json = asJSON
	s.command = &cobra.Command{Use: "test"}
	err := runBatch(ctx, s, flags, items, batch[map[string]string]{
		kind: "test",
		do:   do,
		full: func(w io.Writer, v map[string]string) { fmt.Fprintln(w, "full", v["reference"]) },
		line: func(w io.Writer, v map[string]string) { fmt.Fprintln(w, "line", v["reference"]) },
		word: func(map[string]string) string { return "done" },
	})
	var i interruption
	if err != nil && errors.As(context.Cause(ctx), &i) {
		err = &interrupted{i.signal, err}
	}
	return told{s.end(err), out.String(), talk.String()}
}

// byName fails as the item's name says.
func byName(_ context.Context, it item) (map[string]string, error) {
	name, _, _ := strings.Cut(it[0], "-")
	switch name {
	case "rejected":
		return nil, fmt.Errorf("judging: %w", registry.ErrTagMoves)
	case "down":
		return nil, registry.ErrUnavailable
	case "login":
		return nil, registry.ErrUnauthorized
	}
	return map[string]string{"reference": it[0]}, nil
}

// TestBatchExitCodes: partly done is of failures beside successes only, and a verdict is no failure.
func TestBatchExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		items string
		code  int
	}{
		{"ok-1 ok-2 ok-3", 0},
		{"ok-1 rejected-1", 1},
		{"rejected-1 rejected-2", 1},
		{"ok-1 down-1", 7},
		{"ok-1 rejected-1 down-1", 7},
		{"down-1 login-1", 4},
		{"login-1 down-1", 5},
		{"rejected-1 down-1", 1},
		{"down-1 rejected-1", 4},
	} {
		t.Run(tt.items, func(t *testing.T) {
			t.Parallel()
			var items []item
			for _, n := range strings.Fields(tt.items) {
				items = append(items, item{n})
			}
			got := batchOf(context.Background(), t, batchFlags{jobs: 4}, items, true, byName)
			if got.code != tt.code {
				t.Errorf("exit %d, want %d\n%s", got.code, tt.code, got.out)
			}
			all := lines(got.out)
			if len(all) != len(items)+1 {
				t.Fatalf("%d lines for %d items", len(all), len(items))
			}
			var last struct {
				Kind                                    string
				Items, Done, Rejected, Failed, ExitCode int
			}
			if err := json.Unmarshal([]byte(all[len(all)-1]), &last); err != nil {
				t.Fatal(err)
			}
			if last.Kind != "summary" || last.Items != len(items) || last.Done+last.Rejected+last.Failed != len(items) || last.ExitCode != tt.code {
				t.Errorf("the last line is %+v", last)
			}
		})
	}
}

// TestBatchKeepsOrder: however long each item takes, and every failure can be run again as it is.
func TestBatchKeepsOrder(t *testing.T) {
	t.Parallel()
	var items []item
	gates := map[string]chan struct{}{}
	for i := range 8 {
		name := fmt.Sprintf("ok-%d", i)
		if i%3 == 2 {
			name = fmt.Sprintf("down-%d", i)
		}
		items = append(items, item{name})
		gates[name] = make(chan struct{})
	}
	// Each waits for the one after it: they end in the opposite order.
	got := batchOf(context.Background(), t, batchFlags{jobs: 8}, items, true, func(ctx context.Context, it item) (map[string]string, error) {
		i := slices.IndexFunc(items, func(o item) bool { return o[0] == it[0] })
		if i+1 < len(items) {
			<-gates[items[i+1][0]]
		}
		close(gates[it[0]])
		return byName(ctx, it)
	})
	list, err := readList(strings.NewReader(got.out), form{words: 1})
	again := wordsOf(list.items)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(items, again); diff != "" {
		t.Errorf("the output as a batch (-want +got):\n%s", diff)
	}
}

func TestBatchJobs(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int32
	items := make([]item, 50)
	for i := range items {
		items[i] = item{fmt.Sprintf("ok-%d", i)}
	}
	meet := make(chan struct{})
	var arrived atomic.Int32
	got := batchOf(context.Background(), t, batchFlags{jobs: 3}, items, false, func(ctx context.Context, it item) (map[string]string, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		if arrived.Add(1) == 3 { // the first three wait for one another: they do run at once
			close(meet)
		}
		<-meet
		return byName(ctx, it)
	})
	if got.code != 0 || most.Load() != 3 {
		t.Errorf("exit %d, %d items at once, want 3", got.code, most.Load())
	}
	if l := lines(got.out); len(l) != 51 || l[50] != "50 done of 50 items" {
		t.Errorf("last line %q of %d", l[len(l)-1], len(l))
	}
}

func TestBatchFailFast(t *testing.T) {
	t.Parallel()
	items := []item{{"ok-0"}, {"down-1"}}
	for i := 2; i < 100; i++ {
		items = append(items, item{fmt.Sprintf("ok-%d", i)})
	}
	var ran atomic.Int32
	got := batchOf(context.Background(), t, batchFlags{jobs: 1, failFast: true}, items, true, func(ctx context.Context, it item) (map[string]string, error) {
		if ran.Add(1) > 3 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return byName(ctx, it)
	})
	if got.code != 7 {
		t.Errorf("exit %d, want 7", got.code)
	}
	if n := ran.Load(); n > 5 {
		t.Errorf("%d items ran after the failure", n)
	}
	if strings.Contains(got.err, "context canceled") {
		t.Errorf("what was stopped counts as failed: %s", got.err)
	}
	last := lines(got.out)[len(lines(got.out))-1]
	if !strings.Contains(last, `"notRun":9`) {
		t.Errorf("the summary %s does not say how many were not run", last)
	}
}

func TestBatchInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	items := []item{{"ok-0"}, {"ok-1"}, {"ok-2"}}
	got := batchOf(ctx, t, batchFlags{jobs: 1}, items, true, func(ctx context.Context, it item) (map[string]string, error) {
		if it[0] == "ok-1" {
			cancel(interruption{syscall.SIGTERM})
			return nil, fmt.Errorf("reading: %w", context.Cause(ctx))
		}
		return byName(ctx, it)
	})
	if got.code != 143 {
		t.Errorf("exit %d, want 143", got.code)
	}
}

// TestOneItemIsNoBatch: its error is the run's, with its own code and hint, and there is no summary.
func TestOneItemIsNoBatch(t *testing.T) {
	t.Parallel()
	got := batchOf(context.Background(), t, batchFlags{jobs: 1}, []item{{"login-1"}}, true, byName)
	if got.code != 5 || len(lines(got.out)) != 1 || !strings.Contains(got.err, "imprint: hint: ") {
		t.Errorf("exit %d, out %s, err %s", got.code, got.out, got.err)
	}
	if got := batchOf(context.Background(), t, batchFlags{jobs: 1, file: "list"}, []item{{"ok-1"}}, true, byName); len(lines(got.out)) != 2 {
		t.Errorf("one item of --batch has no summary: %s", got.out)
	}
}

func TestBatchHintsOnce(t *testing.T) {
	t.Parallel()
	got := batchOf(context.Background(), t, batchFlags{jobs: 2}, []item{{"down-1"}, {"down-2"}, {"login-1"}}, false, byName)
	if n := strings.Count(got.err, "imprint: hint: "); n != 2 {
		t.Errorf("%d hints, want one of each kind:\n%s", n, got.err)
	}
	if n := strings.Count(got.err, "imprint: error: "); n != 3 {
		t.Errorf("%d errors, want one for each failure:\n%s", n, got.err)
	}
}

func TestBatchFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := w.file("list.txt", "oci:a:1\n")
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"inspect"}, "REF… is missing"},
		{[]string{"inspect", "oci:a:1", "--batch", list}, "exclude each other"},
		{[]string{"inspect", "--batch", w.path("absent")}, "no such file"},
		{[]string{"inspect", "--batch", w.mkdir("folder")}, "not a regular file"},
		{[]string{"inspect", "--batch", w.file("empty.txt", "# nothing\n")}, "holds no item"},
		{[]string{"inspect", "oci:a:1", "--jobs", "0"}, "--jobs 0"},
		{[]string{"copy", "--batch", list}, "line 1: 1 word, and 2 expected"},
	} {
		if got := w.want(3, tt.args...); !strings.Contains(got.err, tt.says) {
			t.Errorf("imprint %v: %s, want %q", tt.args, got.err, tt.says)
		}
	}
}

// TestBatchFromStandardInput with the JSON lines of a dry run: what was reviewed is what runs.
func TestBatchFromStandardInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.image("lay", "two", "2.0")
	plan := w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "oci:"+w.path("lay")+":2.0", "--dry-run", "-o", "json")...)
	if n := len(w.tree("lay/blobs")); n != 5 { // configuration in common, two layers, two manifests
		t.Fatalf("the dry run wrote: %d blobs", n)
	}
	w.image("lay", "other", "2.0") // the tag moves after the review
	w.env.In = strings.NewReader(plan.out)
	got := w.run("sign", "--batch", "-", "--key", w.path("leaf.key"), "--chain", w.path("chain.pem"), "-o", "json")
	if got.code != 1 {
		t.Fatalf("exit %d, want 1: every failure was a verdict\n%s%s", got.code, got.out, got.err)
	}
	if r := got.reason(t); r != "tag-digest-mismatch" {
		t.Errorf("reason %s, want tag-digest-mismatch", r)
	}
	if !strings.Contains(lines(got.out)[0], `"alreadySigned":0`) || !strings.Contains(lines(got.out)[0], `"written":1`) {
		t.Errorf("the other was not signed: %s", got.out)
	}
}
