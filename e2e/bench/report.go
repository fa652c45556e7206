package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A report is all that was measured.
type report struct {
	Machine  string    `json:"machine"`
	Versions []version `json:"versions"`
	Missing  []string  `json:"missing,omitempty"` // tools that are not on PATH
	Results  []result  `json:"results"`
	Checks   []check   `json:"checks"`
	Seconds  float64   `json:"seconds"`

	options options
}

type version struct {
	Tool    string `json:"tool"`
	Version string `json:"version"`
}

// A result is the median of some runs of a tool on a fixture.
type result struct {
	Fixture     string    `json:"fixture"` // " again": there was nothing left to do
	Tool        string    `json:"tool"`
	Latency     float64   `json:"latencyMilliseconds"`
	Runs        int       `json:"runs"`
	Seconds     float64   `json:"seconds"`
	All         []float64 `json:"allSeconds"`
	Source      int       `json:"requestsSource"`
	Destination int       `json:"requestsDestination"`
	Writes      int       `json:"writes"`
	Row         int       `json:"roundTripsInARow"` // means something at a latency only
	Referrers   int       `json:"referrers"`        // that arrived, at the least
	Of          int       `json:"referrersOf"`
	RSS         float64   `json:"rssMiB"` // at the most
	CPU         float64   `json:"cpuSeconds"`
	Rate        float64   `json:"megabytesPerSecond,omitempty"`
	Error       string    `json:"error,omitempty"`

	tool tool
}

// A check is one figure of issue 4's table.
type check struct {
	What string  `json:"what"`
	Got  float64 `json:"got"`
	Want float64 `json:"want,omitempty"` // 0: nothing is asked of it
	Most bool    `json:"most,omitempty"` // Want is the most, not the least
	Pass bool    `json:"pass"`
	Unit string  `json:"unit,omitempty"`
}

// find returns what imprint did on a fixture at a latency, and the best time of the others that match says.
func (r *report) find(fixture string, latency float64, match func(t tool) bool) (ours, best *result) {
	for i := range r.Results {
		x := &r.Results[i]
		if x.Fixture != fixture || x.Latency != latency || x.Error != "" {
			continue
		}
		if x.Tool == "imprint" {
			ours = x
		} else if match(x.tool) && (best == nil || x.Seconds < best.Seconds) {
			best = x
		}
	}
	return ours, best
}

// judge computes what issue 4 asks for, as far as it was measured.
func (r *report) judge() {
	faster := func(fixture string, latency, want float64, who string, match func(t tool) bool) {
		ours, best := r.find(fixture, latency, match)
		if ours == nil || best == nil {
			return
		}
		got := best.Seconds / ours.Seconds
		r.Checks = append(r.Checks, check{What: fmt.Sprintf("%s at %v ms, against %s (%s)", fixture, latency, who, best.Tool), Got: got, Want: want, Pass: got >= want, Unit: "times"})
	}
	carries := func(t tool) bool { return t.carries }
	untuned := func(t tool) bool { return t.carries && !t.tuned }
	named := func(name string) func(tool) bool { return func(t tool) bool { return t.name == name } }
	faster("single", 20, 1.8, "the best default that carries referrers", untuned)
	faster("single", 20, 0, "any setting", carries)
	faster("multi", 20, 2.5, "the best default that carries referrers", untuned)
	faster("multi", 20, 2, "any setting", carries)
	faster("many", 20, 10, "the loop", named("oras"))
	faster("many", 20, 1.1, "the best batch", named("regsync"))
	for _, fixture := range []string{"single", "multi", "many"} {
		faster(fixture, 0, 1, "the best that carries referrers", carries)
	}
	faster("big", 0, 0.95, "the fastest that hashes", func(t tool) bool { return t.hashes })
	if ours, _ := r.find("big", 0, carries); ours != nil {
		r.Checks = append(r.Checks, check{What: "memory for big", Got: ours.RSS, Want: 40, Most: true, Pass: ours.RSS <= 40, Unit: "MiB"})
	}
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s; %.0f s in all\n", r.Machine, r.Seconds)
	var versions []string
	for _, v := range r.Versions {
		versions = append(versions, v.Tool+" "+v.Version)
	}
	fmt.Fprintln(w, strings.Join(versions, ", "))
	if len(r.Missing) > 0 {
		fmt.Fprintln(w, "not on PATH:", strings.Join(r.Missing, ", "))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "fixture\tlatency\ttool\tseconds\trequests\tin a row\twrites\treferrers\tMiB\tCPU s\tMB/s\t")
	last := ""
	for _, x := range r.Results {
		if key := fmt.Sprint(x.Fixture, x.Latency); key != last && last != "" {
			fmt.Fprintln(t, "\t\t\t\t\t\t\t\t\t\t\t")
		}
		last = fmt.Sprint(x.Fixture, x.Latency)
		row, rate := "", ""
		if x.Latency > 0 {
			row = fmt.Sprint(x.Row)
		}
		if x.Rate > 0 {
			rate = fmt.Sprintf("%.0f", x.Rate)
		}
		if len(x.All) == 0 {
			fmt.Fprintf(t, "%s\t%.0f ms\t%s\tfailed\t\t\t\t%d/%d\t\t\t\t\n", x.Fixture, x.Latency, x.Tool, x.Referrers, x.Of)
			continue
		}
		fmt.Fprintf(t, "%s\t%.0f ms\t%s\t%.3f\t%d+%d\t%s\t%d\t%d/%d\t%.0f\t%.2f\t%s\t\n", x.Fixture, x.Latency, x.Tool, x.Seconds, x.Source, x.Destination, row, x.Writes,
			x.Referrers, x.Of, x.RSS, x.CPU, rate)
	}
	_ = t.Flush()
	fmt.Fprintln(w)
	for _, c := range r.Checks {
		if c.Want == 0 {
			fmt.Fprintf(w, "      %s: %.2f %s\n", c.What, c.Got, c.Unit)
			continue
		}
		verdict, bound := "pass", "at least"
		if !c.Pass {
			verdict = "FAIL"
		}
		if c.Most {
			bound = "at most"
		}
		fmt.Fprintf(w, "%s  %s: %.2f %s, wanted %s %.2f\n", verdict, c.What, c.Got, c.Unit, bound, c.Want)
	}
}
