package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A price is the most that a copy may cost: requests at its source and at its destination, and one after another.
type price struct{ source, destination, row int }

// TestCopyRequests counts what a copy between two registries asks of them, what it reads back before the tag included. The
// figures are what issue 4 bounds. It runs alone: what may overlap must not wait for another
// test.
func TestCopyRequests(t *testing.T) {
	ctx := context.Background()
	small := fixture.Options{Layer: 32 << 10} // neither a processor's nor a line's time counts
	for _, c := range []struct {
		name         string
		kinds        []regtest.Kind
		put          func(target string) (fixture.Artifact, error)
		first, again price
	}{
		{
			"single", []regtest.Kind{regtest.WithAPI, regtest.WithAPIOnly},
			func(target string) (fixture.Artifact, error) { return fixture.Single(ctx, target, small) },
			price{14, 25, 8}, price{14, 6, 4},
		},
		{
			"multi", []regtest.Kind{regtest.WithAPI, regtest.WithAPIOnly},
			func(target string) (fixture.Artifact, error) { return fixture.Multi(ctx, target, small) },
			price{91, 121, 10}, price{91, 40, 4},
		},
		{
			// The source has the API: to find out that it has none would cost it one more.
			"fan", []regtest.Kind{regtest.WithoutAPI},
			func(target string) (fixture.Artifact, error) { return fixture.Fan(ctx, target, 20, small) },
			price{64, 80, 1000}, price{64, 40, 1000}, // how long an index takes to settle is another test's business
		},
	} {
		for _, kind := range c.kinds {
			t.Run(c.name+" "+string(kind), func(t *testing.T) {
				p := newPerson(t)
				from := kind
				if c.name == "fan" {
					from = regtest.WithAPI
				}
				source, trace := regtest.New(t, from), regtest.NewTrace()
				a, err := c.put(source.Host + "/team/" + c.name + ":v1")
				if err != nil {
					t.Fatal(err)
				}
				want, err := fixture.WalkManifests(ctx, a.Reference)
				if err != nil {
					t.Fatal(err)
				}
				source.Record(trace)
				// A busy machine can make anything wait for anything: then they move further apart.
				distance := distance
				var destination *regtest.Server
				copied := func(what string, most price) {
					t.Helper()
					trace.Reset()
					begin := time.Now()
					p.want(t, 0, "", "copy", a.Reference, destination.Host+"/prod/app:v1")
					if time.Since(begin) > time.Second {
						most.destination++ // the tag is looked up once more before it is written
					}
					got := price{trace.Count(source.Host, nil), trace.Count(destination.Host, nil), trace.RoundTrips()}
					t.Logf("%s: %d + %d requests, %d in a row", what, got.source, got.destination, got.row)
					if got.source > most.source || got.destination > most.destination {
						t.Errorf("%s: %d + %d requests; want at most %d + %d\n%s", what, got.source, got.destination, most.source, most.destination, trace)
					}
				}
				for try := 1; ; try, distance = try+1, 2*distance {
					source.Latency(distance)
					destination = regtest.New(t, kind)
					destination.Latency(distance)
					destination.Record(trace)
					copied("copied", c.first)
					if t.Failed() {
						return
					}
					checkReadBack(t, trace, destination.Host, want)
					first := trace.RoundTrips()
					waited := trace.String()
					copied("nothing to do", c.again)
					if n := destination.Writes(); n > 0 {
						t.Errorf("nothing to do, and %d requests write\n%s", n, trace)
					}
					again := trace.RoundTrips()
					if t.Failed() || first <= c.first.row && again <= c.again.row {
						return
					}
					if try == 5 {
						t.Errorf("%d in a row, and %d for nothing; want at most %d and %d\n%s\n%s", first, again, c.first.row, c.again.row, waited, trace)
						return
					}
				}
			})
		}
	}
}

// checkReadBack: the last write is the tag's; before it began each list that has something new was read, and that after the
// last of its referrers was stored.
func checkReadBack(t *testing.T, trace *regtest.Trace, host string, want fixture.Contents) {
	t.Helper()
	var tag *regtest.Request
	stored := map[string]regtest.Request{}
	requests := trace.Requests()
	for i, r := range requests {
		at, ok := strings.CutPrefix(r.Path, "/v2/prod/app/manifests/")
		if r.Server != host || r.Method != http.MethodPut || !ok || r.Status != http.StatusCreated {
			continue
		}
		stored[at] = r
		if at == "v1" {
			tag = &requests[i]
		}
	}
	if tag == nil {
		t.Errorf("no tag was written\n%s", trace)
		return
	}
	for _, w := range trace.Writes() {
		if w.Path != tag.Path && !w.End.Before(tag.Begin) {
			t.Errorf("%s %s has not ended before the tag is written\n%s", w.Method, w.Path, trace)
		}
	}
	for subject, list := range want.Listed {
		read := false
		for _, r := range requests {
			if r.Server != host || r.Method != http.MethodGet || r.End.After(tag.Begin) ||
				!strings.HasSuffix(r.Path, "/referrers/"+string(subject)) && !strings.HasSuffix(r.Path, "/manifests/"+strings.Replace(string(subject), ":", "-", 1)) {
				continue
			}
			late := true
			for _, entry := range list {
				d, _, _ := strings.Cut(entry, " ")
				late = late && stored[d].Status != 0 && stored[d].End.Before(r.Begin)
			}
			read = read || late
		}
		if len(list) > 0 && !read {
			t.Errorf("what refers to %s was not read back before the tag was written\n%s", subject, trace)
		}
	}
}
