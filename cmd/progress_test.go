package cmd

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/copy"
)

// A telling is a progress on a clock of its own, and what it wrote.
type telling struct {
	*progress
	s   *session
	at  time.Time
	out bytes.Buffer
}

func tell(t *testing.T, term Terminal, environ ...string) *telling {
	t.Helper()
	x := &telling{at: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)}
	x.s = newSession(Env{Out: &x.out, Err: &x.out, Environ: environ, Now: func() time.Time { return x.at }, Terminal: term})
	x.progress = x.s.progressAt(x.s.env.Now)
	return x
}

func (x *telling) pass(d time.Duration) { x.at = x.at.Add(d) }

// wrote returns what was written since the last call.
func (x *telling) wrote() string {
	defer x.out.Reset()
	return x.out.String()
}

func object(name string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromString(name), Size: size}
}

func begin(d ocispec.Descriptor) copy.Event {
	return copy.Event{Kind: copy.EventBegin, What: "blob", Descriptor: d}
}

func travel(d ocispec.Descriptor, n int64) copy.Event {
	return copy.Event{Kind: copy.EventBytes, What: "blob", Descriptor: d, Bytes: n}
}

func over(d ocispec.Descriptor, what, status string) copy.Event {
	return copy.Event{Kind: copy.EventEnd, What: what, Descriptor: d, Status: status}
}

// screen is what a terminal of so many columns shows after s was written to it: cursor up, erase, and line wrap.
func screen(s string, columns int) []string {
	rows, y, x := [][]rune{{}}, 0, 0
	down := func() {
		if x, y = 0, y+1; y == len(rows) {
			rows = append(rows, nil)
		}
	}
	runes := []rune(s)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; r {
		case '\r':
			x = 0
		case '\n':
			down()
		case '\x1b': // [ N LETTER
			n := 0
			for i += 2; runes[i] >= '0' && runes[i] <= '9'; i++ {
				n = 10*n + int(runes[i]-'0')
			}
			switch runes[i] {
			case 'A':
				y = max(0, y-n)
			case 'J':
				rows = rows[:y+1]
				fallthrough
			case 'K':
				rows[y] = rows[y][:min(x, len(rows[y]))]
			}
		default:
			if x == columns {
				down()
			}
			for len(rows[y]) <= x {
				rows[y] = append(rows[y], ' ')
			}
			rows[y][x] = r
			x++
		}
	}
	var lines []string
	for _, r := range rows {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// progressFrames are what a terminal of so many columns shows of eight items.
var progressFrames = map[int][]string{
	100: {
		"  938cf47f81fc  [=====>    ]   50%   10.0 MB of  20.0 MB  …ample/vendor/databases/server-0:16.4",
		"  d42690807032  [==>       ]   25%   10.0 MB of  40.0 MB  …ample/vendor/databases/server-1:16.4",
		"  ca8ea841c689  [=>        ]   16%   10.0 MB of  60.0 MB  …ample/vendor/databases/server-2:16.4",
		"  f76d705fe75e  [=>        ]   12%   10.0 MB of  80.0 MB  …ample/vendor/databases/server-3:16.4",
		"  9748ed2567ce  [=>        ]   10%   10.0 MB of 100.0 MB  …ample/vendor/databases/server-4:16.4",
		"  64eebd23db00  [>         ]    8%   10.0 MB of 120.0 MB  …ample/vendor/databases/server-5:16.4",
		"  … 2 more",
		"12 of 300 done, 8 under way, 80.0 MB sent, 26.7 MB/s, about 1 min 5 s left",
	},
	80: {
		"  938cf47f81fc  [=====>    ]   50%   10.0 MB of  20.0 MB  …es/server-0:16.4",
		"  d42690807032  [==>       ]   25%   10.0 MB of  40.0 MB  …es/server-1:16.4",
		"  ca8ea841c689  [=>        ]   16%   10.0 MB of  60.0 MB  …es/server-2:16.4",
		"  f76d705fe75e  [=>        ]   12%   10.0 MB of  80.0 MB  …es/server-3:16.4",
		"  9748ed2567ce  [=>        ]   10%   10.0 MB of 100.0 MB  …es/server-4:16.4",
		"  64eebd23db00  [>         ]    8%   10.0 MB of 120.0 MB  …es/server-5:16.4",
		"  … 2 more",
		"12 of 300 done, 8 under way, 80.0 MB sent, 26.7 MB/s, about 1 min 5 s left",
	},
	60: {
		"  938cf47f81fc   50%   10.0 MB of  20.0 MB",
		"  d42690807032   25%   10.0 MB of  40.0 MB",
		"  ca8ea841c689   16%   10.0 MB of  60.0 MB",
		"  f76d705fe75e   12%   10.0 MB of  80.0 MB",
		"  9748ed2567ce   10%   10.0 MB of 100.0 MB",
		"  64eebd23db00    8%   10.0 MB of 120.0 MB",
		"  … 2 more",
		"12 of 300 done, 8 under way, 80.0 MB sent, 26.7 MB/s",
	},
	30: {
		"  938cf47f81fc  50%",
		"  d42690807032  25%",
		"  ca8ea841c689  16%",
		"  f76d705fe75e  12%",
		"  9748ed2567ce  10%",
		"  64eebd23db00  8%",
		"  … 2 more",
		"12 of 300 done",
	},
}

var at100 = Terminal{Err: true, Out: true, Width: 100}

func TestProgressOfOneOnATerminal(t *testing.T) {
	t.Parallel()
	x := tell(t, at100)
	to := x.item("harbor.acme.example/prod/app:1.4.2")
	x.tick()
	if got := x.wrote(); got != "" {
		t.Errorf("drawn before anything takes long: %q", got)
	}
	x.pass(400 * time.Millisecond)
	x.tick()
	if diff := cmp.Diff([]string{"reading the source"}, screen(x.wrote(), 100)); diff != "" {
		t.Error(diff)
	}
	large, small := object("large", 300<<20), object("small", 2000)
	to(copy.Event{Kind: copy.EventPlan, Bytes: large.Size + small.Size})
	to(begin(large))
	to(begin(small))
	for range 20 { // 2 s at 30 MB/s
		x.pass(100 * time.Millisecond)
		to(travel(large, 3_000_000))
		x.tick()
	}
	to(over(small, "blob", copy.Copied))
	x.pass(frameEvery)
	x.tick()
	want := []string{
		"  d35c416a85b8  [=====>                        ]   19%   60.0 MB of 314.6 MB",
		"19%, 60.0 MB of 314.6 MB, 30.0 MB/s, 9 s left",
	}
	if diff := cmp.Diff(want, screen(x.out.String(), 100)); diff != "" {
		t.Error(diff)
	}
	// A warning gets the place of the bars, and they come back below it.
	x.s.talk("imprint: warning: ", "something")
	if diff := cmp.Diff([]string{"imprint: warning: something"}, screen(x.out.String(), 100)); diff != "" {
		t.Error(diff)
	}
	x.tick()
	if diff := cmp.Diff(append([]string{"imprint: warning: something"}, want...), screen(x.out.String(), 100)); diff != "" {
		t.Error(diff)
	}
	x.end()
	if diff := cmp.Diff([]string{"imprint: warning: something"}, screen(x.out.String(), 100)); diff != "" {
		t.Errorf("left on the terminal: %s", diff)
	}
	x.wrote()
	x.tick()
	if got := x.wrote(); got != "" {
		t.Errorf("drawn after the end: %q", got)
	}
}

// TestProgressOfManyOnATerminal: six bars, the rest counted, the names as far as there is room, at several widths.
func TestProgressOfManyOnATerminal(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{100, 80, 60, 30} {
		x := tell(t, Terminal{Err: true, Width: columns})
		x.expect(300)
		for i := range 8 {
			name := fmt.Sprintf("harbor.acme.example/vendor/databases/server-%d:16.4", i)
			to, d := x.item(name), object(name, int64(i+1)*20_000_000)
			to(copy.Event{Kind: copy.EventPlan, Bytes: d.Size})
			to(begin(d))
			to(travel(d, 10_000_000))
		}
		for i := range 12 {
			name := fmt.Sprintf("done-%d", i)
			x.item(name)
			x.done(name)
		}
		x.pass(3 * time.Second)
		x.tick()
		got := screen(x.wrote(), columns)
		if len(got) != 8 {
			t.Fatalf("%d columns: %q", columns, got)
		}
		for _, line := range got {
			if n := len([]rune(line)); n > columns-3 {
				t.Errorf("%d columns: a line of %d: %q", columns, n, line)
			}
		}
		if diff := cmp.Diff(progressFrames[columns], got); diff != "" {
			t.Errorf("%d columns: %s", columns, diff)
		}
	}
}

// TestProgressOnANarrowedTerminal: as a terminal is made narrow its lines wrap; they are wiped away all the same.
func TestProgressOnANarrowedTerminal(t *testing.T) {
	t.Parallel()
	x := tell(t, at100)
	to, d := x.item("app:1.4.2"), object("large", 300<<20)
	to(copy.Event{Kind: copy.EventPlan, Bytes: d.Size})
	to(begin(d))
	to(travel(d, 30<<20))
	x.s.aside(func() { x.out.WriteString("before\n") })
	x.pass(time.Second)
	x.tick()
	wrapped := "before\n" + strings.Join(screen(strings.TrimPrefix(x.wrote(), "before\n"), 100), "\n") // as it was drawn, without going up
	x.s.env.Terminal.Size = func() (int, int) { return 50, 24 }
	x.s.aside(func() { x.out.WriteString("after\n") })
	if diff := cmp.Diff([]string{"before", "after"}, screen(wrapped+x.wrote(), 50)); diff != "" {
		t.Error(diff)
	}
	x.end()
}

// TestProgressInALog: a line for each object that travelled, in front of the answer, and one for ten seconds of silence.
func TestProgressInALog(t *testing.T) {
	t.Parallel()
	for _, terminal := range []Terminal{{}, at100} {
		x := tell(t, terminal, "TERM=dumb")
		to := x.item("harbor.acme.example/prod/app:1.4.2")
		layer, sig, there := object("layer", 40_000_000), object("sig", 1234), object("there", 5000)
		to(copy.Event{Kind: copy.EventPlan, Bytes: layer.Size + sig.Size + there.Size})
		to(begin(layer))
		for range 50 {
			x.pass(200 * time.Millisecond)
			to(travel(layer, 400_000))
			x.tick()
		}
		to(over(there, "blob", copy.There))
		want := "imprint: 49%, 20.0 MB of 40.0 MB, 2.1 MB/s, 10 s left\n"
		if got := x.wrote(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		for range 40 {
			x.pass(200 * time.Millisecond)
			to(travel(layer, 500_000))
			x.tick()
		}
		to(over(layer, "blob", copy.Copied))
		to(over(sig, "signature", copy.Copied))
		to(over(sig, "tag 1.4.2", copy.Written))
		x.s.aside(func() { x.out.WriteString("the answer\n") })
		x.end()
		want = "imprint: sent e1af2ca96d5b  blob        40.0 MB  harbor.acme.example/prod/app:1.4.2\n" +
			"imprint: sent " + sig.Digest.Encoded()[:12] + "  signature    1.2 kB  harbor.acme.example/prod/app:1.4.2\n" +
			"the answer\n"
		if diff := cmp.Diff(strings.ReplaceAll(want, "e1af2ca96d5b", layer.Digest.Encoded()[:12]), x.wrote()); diff != "" {
			t.Error(diff)
		}
	}
}

// TestProgressBeatOfABatch: what was said puts the next beat off.
func TestProgressBeatOfABatch(t *testing.T) {
	t.Parallel()
	x := tell(t, Terminal{})
	x.expect(300)
	for i := range 12 {
		x.item(fmt.Sprint(i))
		x.done(fmt.Sprint(i))
	}
	x.item("another")
	x.pass(9 * time.Second)
	x.s.talk("imprint: warning: ", "a warning")
	x.pass(9 * time.Second)
	x.tick()
	x.pass(time.Second)
	x.tick()
	want := "imprint: warning: a warning\nimprint: 12 of 300 done, 1 under way, 0 B sent, about 7 min 36 s left\n"
	if got := x.wrote(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestProgressTellsNobody: with --quiet and -o json there is none, and nothing minds.
func TestProgressTellsNobody(t *testing.T) {
	t.Parallel()
	s := newSession(Env{Now: time.Now})
	s.quiet = true
	p := s.newProgress()
	if p != nil || p.item("x") != nil {
		t.Error("somebody is told")
	}
	p.expect(3)
	p.done("x")
	p.end()
	s = newSession(Env{Now: time.Now})
	s.json = true
	if s.newProgress() != nil {
		t.Error("somebody is told in JSON")
	}
}

// TestProgressAtOnce: items of a batch, lines, frames and answers at the same time, for the race detector; no answer is torn.
func TestProgressAtOnce(t *testing.T) {
	t.Parallel()
	x := tell(t, at100)
	x.s.env.Now = time.Now
	p := x.s.progressAt(func() time.Time { return time.Unix(1, 0) })
	p.began = time.Unix(0, 0)
	p.stopped.Go(p.run)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("item", i)
			to := p.item(name)
			for n := range 50 {
				d := object(fmt.Sprint(i, n), 20<<20)
				to(begin(d))
				to(travel(d, 1000))
				p.tick()
				to(over(d, "blob", copy.Copied))
			}
			p.done(name)
			x.s.aside(func() { fmt.Fprintf(&x.out, "answer %d\n", i) })
		})
	}
	wg.Wait()
	p.end()
	got := screen(x.out.String(), 100)
	if len(got) != 8 {
		t.Errorf("%d lines: %q", len(got), got)
	}
	for _, line := range got {
		if len(line) != len("answer 1") {
			t.Errorf("torn: %q", line)
		}
	}
}

func TestSpeed(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	var m speed
	if m.rate(at) != 0 {
		t.Error("a rate of nothing")
	}
	m.add(at, 1000)
	if m.rate(at.Add(100*time.Millisecond)) != 0 {
		t.Error("a rate told too early")
	}
	for range 100 {
		at = at.Add(100 * time.Millisecond)
		m.add(at, 1000)
	}
	if r := m.rate(at); r < 9_500 || r > 10_800 {
		t.Errorf("10 kB/s are %v", r)
	}
	if len(m.parts) > 30 {
		t.Errorf("%d parts are kept", len(m.parts))
	}
	if r := m.rate(at.Add(6 * time.Second)); r != 0 {
		t.Errorf("%v after a standstill", r)
	}
}

// TestProgressLeft: what is known to be left of the items under way takes its time, however many small ones were done before.
func TestProgressLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		v      ui.Progress
		parts  float64
		passed time.Duration
		want   time.Duration
		guess  bool
	}{
		"one item":                  {ui.Progress{Items: 1, Rate: 10, Covered: 100, Total: 200}, 0.5, time.Minute, 10 * time.Second, false},
		"by the items":              {ui.Progress{Items: 10, Rate: 10, Covered: 100, Total: 110}, 5, time.Minute, time.Minute, true},
		"a large one after small":   {ui.Progress{Items: 7, Rate: 30, Covered: 75, Total: 300}, 6.2, 4 * time.Second, 7500 * time.Millisecond, true},
		"nothing is known yet":      {ui.Progress{Items: 7}, 0, time.Minute, 0, false},
		"many, and nothing is done": {ui.Progress{Items: 7, Rate: 10, Total: 100}, 0, time.Minute, 0, false},
	} {
		if d, guess := left(c.v, c.parts, c.passed); d != c.want || guess != c.guess {
			t.Errorf("%s: %v, guess %v, want %v, %v", name, d, guess, c.want, c.guess)
		}
	}
}
