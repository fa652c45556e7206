// Command bench measures imprint copy beside other tools that copy artifacts, whichever are on PATH, on the fixtures of
// e2e/fixture: time, requests, round trips in a row, memory, and what arrived. The registries run in this process, behind
// recorders that add the latency.
//
//	go run ./e2e/bench                                     # what make bench does
//	go run ./e2e/bench -fixtures multi -latencies 20ms -tools imprint,oras -runs 9 -json out.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

type options struct {
	fixtures, tools []string
	latencies       []time.Duration
	runs            int
	size, bandwidth int64
	references      int
	imprint, json   string
	verbose         bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var names []string
	for _, f := range allFixtures {
		names = append(names, f.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	fixtures := f.String("fixtures", strings.Join(names, ","), "what to copy")
	tools := f.String("tools", "", "what to copy with; all that are on PATH if empty: "+strings.Join(toolNames(), ","))
	latencies := f.String("latencies", "0ms,20ms", "what each request takes on its way; big is copied without any")
	f.IntVar(&o.runs, "runs", 5, "how often; loops over many are run once, big three times at most")
	f.Int64Var(&o.size, "size", 1<<30, "bytes of big")
	f.IntVar(&o.references, "references", 100, "of many")
	f.Int64Var(&o.bandwidth, "bandwidth", 0, "bytes a second of each registry in each direction; 0: no bound")
	f.StringVar(&o.imprint, "imprint", "", "the executable; it is built if empty")
	f.StringVar(&o.json, "json", "", "write all figures into this file")
	f.BoolVar(&o.verbose, "v", false, "list the requests of each run")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.runs < 1 || o.size < 1 || o.references < 1 {
		return o, errors.New("bad arguments; see -h")
	}
	o.fixtures = strings.Split(*fixtures, ",")
	for _, name := range o.fixtures {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("there is no fixture %q, but %s", name, strings.Join(names, ", "))
		}
	}
	if *tools != "" {
		o.tools = strings.Split(*tools, ",")
	}
	for _, name := range o.tools {
		if !slices.Contains(toolNames(), name) {
			return o, fmt.Errorf("there is no tool %q, but %s", name, strings.Join(toolNames(), ", "))
		}
	}
	for text := range strings.SplitSeq(*latencies, ",") {
		d, err := time.ParseDuration(text)
		if err != nil {
			return o, err
		}
		o.latencies = append(o.latencies, d)
	}
	return o, nil
}

// build builds imprint by the Makefile: what is measured is what is shipped.
func build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("building imprint: finding its module: %w", err)
	}
	c := exec.CommandContext(ctx, "make", "-s", "-C", strings.TrimSpace(string(root)), "build", "DIST="+dir)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("building imprint: %w", err)
	}
	return filepath.Join(dir, "imprint"), nil
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "imprint-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The registries are in this process, and their memory is full of layers: collecting it often would cost the tools time.
	debug.SetGCPercent(400)
	if o.imprint == "" {
		if o.imprint, err = build(ctx, dir); err != nil {
			return err
		}
	}
	if o.imprint, err = filepath.Abs(o.imprint); err != nil {
		return err
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	tools, missing := present(ctx, o, home)
	report := report{Machine: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), Missing: missing, options: o}
	for _, t := range tools {
		report.Versions = append(report.Versions, version{t.name, t.version})
	}
	b := bench{options: o, dir: dir, home: home, tools: tools, report: &report}
	began := time.Now()
	for _, f := range allFixtures {
		if !slices.Contains(o.fixtures, f.name) {
			continue
		}
		if err := b.measure(ctx, f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	report.Seconds = time.Since(began).Seconds()
	report.judge()
	report.print(os.Stdout)
	if o.json != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	for _, r := range report.Results {
		if r.Tool == "imprint" && (r.Error != "" || r.Referrers != r.Of) {
			return fmt.Errorf("imprint did not copy %s: %d of %d referrers %s", r.Fixture, r.Referrers, r.Of, r.Error)
		}
	}
	return nil
}
