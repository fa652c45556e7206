package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestVersionIn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Version:    1.3.6\nGo version: go1.26.8":    "1.3.6",
		"VCSTag:     v0.11.7\nVCSRef:     unknown":   "0.11.7",
		"skopeo version 1.9.3":                       "1.9.3",
		"imprint 0.1.0-dev linux/amd64 go1.26.8":     "0.1.0-dev",
		"v0.22.1":                                    "0.22.1",
		"built from somewhere\nnobody knows version": "built from somewhere",
	} {
		if got := versionIn(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestPeak(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]int64{
		"Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t   28500 kB\nVmRSS:\t 4 kB\n": 28500 << 10,
		"Name:\tzombie\nState:\tZ\n":                                     0,
		"VmHWM:":                                                         0,
	} {
		if got := peak(status); got != want {
			t.Errorf("%q: %d, want %d", status, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	if a, b, c := median([]float64{3, 1, 2}), median([]float64{4, 1, 2, 3}), median([]int{7}); a != 2 || b != 2.5 || c != 7 {
		t.Errorf("%v, %v, %v; want 2, 2.5, 7", a, b, c)
	}
}

// TestJudge: what is tuned does not count among the defaults, what carries no referrers counts nowhere but for big, and what
// has failed is not compared with.
func TestJudge(t *testing.T) {
	t.Parallel()
	of := func(name string) tool {
		for _, x := range allTools {
			if x.name == name {
				return x
			}
		}
		t.Fatalf("no tool %s", name)
		return tool{}
	}
	r := report{Results: []result{
		{Fixture: "multi", Tool: "imprint", Latency: 20, Seconds: 0.5, tool: of("imprint")},
		{Fixture: "multi", Tool: "oras", Latency: 20, Seconds: 2.5, tool: of("oras")},
		{Fixture: "multi", Tool: "oras-10", Latency: 20, Seconds: 1.2, tool: of("oras-10")},
		{Fixture: "multi", Tool: "crane", Latency: 20, Seconds: 0.1, tool: of("crane")},
		{Fixture: "multi", Tool: "regctl", Latency: 20, Seconds: 0, Error: "exit status 1", tool: of("regctl")},
		{Fixture: "big", Tool: "imprint", Seconds: 4, RSS: 41, tool: of("imprint")},
		{Fixture: "big", Tool: "crane", Seconds: 3.9, tool: of("crane")},
		{Fixture: "big", Tool: "oras", Seconds: 2, tool: of("oras")},
	}}
	r.judge()
	want := map[string]struct {
		got  float64
		pass bool
	}{
		"multi at 20 ms, against the best default that carries referrers (oras)": {5, true},
		"multi at 20 ms, against any setting (oras-10)":                          {2.4, true},
		"big at 0 ms, against the fastest that hashes (crane)":                   {0.975, true},
		"memory for big": {41, false},
	}
	for _, c := range r.Checks {
		w, ok := want[c.What]
		if delete(want, c.What); !ok || c.Got < w.got-1e-9 || c.Got > w.got+1e-9 || c.Pass != w.pass {
			t.Errorf("%s: %v, %v; want %v, %v", c.What, c.Got, c.Pass, w.got, w.pass)
		}
	}
	for what := range want {
		t.Errorf("nothing is said of %q", what)
	}
}

// TestExecute runs this test binary as a tool that takes its time.
func TestExecute(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "BENCH_TEST_TOOL=1")
	c, err := execute(t.Context(), self, env, [][]string{{"-test.run=^TestTool$"}, {"-test.run=^TestTool$"}})
	if err != nil || c.wall < 100*time.Millisecond || c.cpu == 0 || c.rss < 40<<20 && runtime.GOOS == "linux" {
		t.Errorf("%+v, %v; want two times 50 ms and 40 MiB", c, err)
	}
	if _, err := execute(t.Context(), self, env, [][]string{{"-no-such-flag"}}); err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("a tool that fails: %v", err)
	}
}

// TestTool is what TestExecute runs.
func TestTool(t *testing.T) {
	if os.Getenv("BENCH_TEST_TOOL") == "" {
		t.Skip("it is run by TestExecute")
	}
	b := bytes.Repeat([]byte("x"), 40<<20)
	time.Sleep(50 * time.Millisecond)
	if b[len(b)-1] != 'x' {
		t.Error("unreachable")
	}
}

// TestRun is a whole run, of small things: imprint is the only tool that is always there.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "out.json")
	o, err := parse([]string{"-tools", "imprint,cosign", "-runs", "1", "-latencies", "0ms", "-size", "1000000", "-references", "3", "-json", file, "-fixtures", "single,many,big"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Results) < 4 {
		t.Fatalf("%d results, want single, single again, many and big", len(r.Results))
	}
	for _, x := range r.Results {
		if x.Tool == "imprint" && (x.Error != "" || x.Referrers != x.Of || x.Of == 0 && x.Fixture != "big" || x.Source == 0 || x.Destination == 0 || x.RSS == 0 && runtime.GOOS == "linux" || x.CPU == 0) {
			t.Errorf("%+v", x)
		}
		if strings.HasSuffix(x.Fixture, "again") && x.Tool == "imprint" && x.Writes != 0 {
			t.Errorf("%s: %d writes", x.Fixture, x.Writes)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-fixtures", "none"}, {"-tools", "cp"}, {"-latencies", "20"}, {"-runs", "0"}, {"word"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
	if _, err := parse([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
