package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A kind of fixture: where it is, and what is measured of it.
type fixtureKind struct {
	name  string
	start func(dir string) *regtest.Server
	put   func(ctx context.Context, host string, o options) ([]fixture.Artifact, error)
	many  bool // only tools that batch, and one that loops
	again bool // also when there is nothing left to do
	near  bool // without latency only
	most  int  // runs; 0: as many as were asked for
}

func withAPI(string) *regtest.Server    { return regtest.Start(regtest.WithAPI) }
func withoutAPI(string) *regtest.Server { return regtest.Start(regtest.WithoutAPI) }

func one(a fixture.Artifact, err error) ([]fixture.Artifact, error) {
	return []fixture.Artifact{a}, err
}

var allFixtures = []fixtureKind{
	{
		name: "single", start: withAPI, again: true,
		put: func(ctx context.Context, host string, _ options) ([]fixture.Artifact, error) {
			return one(fixture.Single(ctx, host+"/bench/single:v1", fixture.Options{}))
		},
	},
	{
		name: "multi", start: withAPI, again: true,
		put: func(ctx context.Context, host string, _ options) ([]fixture.Artifact, error) {
			return one(fixture.Multi(ctx, host+"/bench/multi:v1", fixture.Options{}))
		},
	},
	{
		name: "fan", start: withoutAPI, most: 3,
		put: func(ctx context.Context, host string, _ options) ([]fixture.Artifact, error) {
			return one(fixture.Fan(ctx, host+"/bench/fan:v1", 20, fixture.Options{}))
		},
	},
	{
		name: "many", start: withAPI, many: true,
		put: func(ctx context.Context, host string, o options) ([]fixture.Artifact, error) {
			return fixture.Many(ctx, o.references, func(i int) string { return fmt.Sprintf("%s/bench/many%d:v1", host, i) }, fixture.Options{})
		},
	},
	{
		// Its bytes are in files: in memory they would be there twice, and more often while they grow.
		name: "big", start: regtest.StartFiles, near: true, most: 3,
		put: func(ctx context.Context, host string, o options) ([]fixture.Artifact, error) {
			return one(fixture.Big(ctx, host+"/bench/big:v1", o.size, fixture.Options{}))
		},
	},
}

type bench struct {
	options
	dir, home string
	tools     []tool
	report    *report
}

// A sample is one run of one tool.
type sample struct {
	cost
	source, destination, writes, row, referrers int
	err                                         error
}

// measure runs the tools on a fixture by turns, so that a machine that slows down slows down all of them.
func (b *bench) measure(ctx context.Context, f fixtureKind) error {
	dir, err := os.MkdirTemp(b.dir, "source")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source := f.start(dir)
	defer source.Close()
	artifacts, err := f.put(ctx, source.Host, b.options)
	if err != nil {
		return err
	}
	of := 0
	for _, a := range artifacts {
		of += len(a.Referrers)
	}
	latencies := b.latencies
	if f.near {
		latencies = []time.Duration{0}
	}
	for _, latency := range latencies {
		samples := map[string][]sample{}
		runs := b.runs
		if f.most > 0 {
			runs = min(runs, f.most)
		}
		for i := range runs {
			for _, t := range b.tools {
				if f.many && !t.batches && (!t.loop || i > 0) || !f.many && t.name == "regsync" || b.hopeless(samples[t.name]) {
					continue
				}
				if err := b.once(ctx, f, t, latency, source, artifacts, samples); err != nil {
					return err
				}
			}
		}
		names := []string{f.name}
		if f.again {
			names = append(names, f.name+" again")
		}
		for _, name := range names {
			for _, t := range b.tools {
				key := t.name + strings.TrimPrefix(name, f.name)
				if len(samples[key]) > 0 {
					r := summary(name, t, latency, samples[key])
					r.Of = of
					if f.name == "big" && r.Seconds > 0 {
						r.Rate = float64(b.size) / 1e6 / r.Seconds
					}
					b.report.Results = append(b.report.Results, r)
				}
			}
		}
	}
	return nil
}

// hopeless: a tool that has failed twice will again.
func (*bench) hopeless(samples []sample) bool {
	return len(samples) >= 2 && !slices.ContainsFunc(samples, func(s sample) bool { return s.err == nil })
}

// once copies everything to a registry that has nothing, and perhaps again.
func (b *bench) once(ctx context.Context, f fixtureKind, t tool, latency time.Duration, source *regtest.Server, artifacts []fixture.Artifact, samples map[string][]sample) error {
	dir, err := os.MkdirTemp(b.dir, "destination")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	home, err := os.MkdirTemp(b.home, t.name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	destination := f.start(dir)
	defer destination.Close()
	var pairs []pair
	for _, a := range artifacts {
		_, path, _ := strings.Cut(a.Reference, "/")
		pairs = append(pairs, pair{a.Reference, destination.Host + "/copied/" + path})
	}
	commands, err := t.commands(home, []string{source.Host, destination.Host}, pairs)
	if err != nil {
		return err
	}
	repeat := func(key string) error {
		trace := regtest.NewTrace()
		for _, s := range []*regtest.Server{source, destination} {
			s.Record(trace)
			s.Latency(latency)
			s.Bandwidth(b.bandwidth)
		}
		runtime.GC()
		limited, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		var s sample
		s.cost, s.err = execute(limited, t.path, environment(home), commands)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.source, s.destination, s.row = trace.Count(source.Host, nil), trace.Count(destination.Host, nil), trace.RoundTrips()
		s.writes = len(trace.Writes())
		if b.verbose {
			fmt.Fprintf(os.Stderr, "%s %s\n%s", t.name, f.name, trace)
		}
		for _, r := range []*regtest.Server{source, destination} {
			r.Record(regtest.NewTrace())
			r.Latency(0)
			r.Bandwidth(0)
		}
		for _, p := range pairs {
			if c, err := fixture.WalkManifests(ctx, p.destination); err == nil { // a tool that has failed leaves nothing to walk
				s.referrers += c.Referrers()
			}
		}
		samples[key] = append(samples[key], s)
		if s.err != nil {
			fmt.Fprintf(os.Stderr, "%s %s: %v\n", filepath.Base(t.path), f.name, s.err)
		} else {
			fmt.Fprintf(os.Stderr, "%s, %s: %s in %.3fs\n", f.name, latency, key, s.wall.Seconds())
		}
		return nil
	}
	if err := repeat(t.name); err != nil || !f.again {
		return err
	}
	return repeat(t.name + " again")
}

// summary has the medians, and the least that arrived.
func summary(name string, t tool, latency time.Duration, samples []sample) result {
	r := result{Fixture: name, Tool: t.name, Latency: latency.Seconds() * 1000, Runs: len(samples), tool: t}
	var walls, cpus []float64
	var sources, destinations, writes, rows []int
	r.Referrers = samples[0].referrers
	for _, s := range samples {
		r.Referrers = min(r.Referrers, s.referrers)
		if s.err != nil {
			r.Error = s.err.Error()
			continue
		}
		walls, cpus = append(walls, s.wall.Seconds()), append(cpus, s.cpu.Seconds())
		sources, destinations, writes, rows = append(sources, s.source), append(destinations, s.destination), append(writes, s.writes), append(rows, s.row)
		r.RSS = max(r.RSS, float64(s.rss)/(1<<20))
	}
	if len(walls) == 0 {
		return r
	}
	r.All = walls
	r.Seconds, r.CPU = median(walls), median(cpus)
	r.Source, r.Destination, r.Writes, r.Row = median(sources), median(destinations), median(writes), median(rows)
	return r
}

func median[T int | float64](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
