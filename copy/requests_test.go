package copy_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// The budgets of issue 4, the resolving of the source's tag included. They are counted through the
// command in e2e too; here the kinds of registry on both sides are told apart.
func TestBudgets(t *testing.T) {
	small := fixture.Options{Layer: 32 << 10}
	for _, c := range []struct {
		name       string
		from, to   regtest.Kind
		put        func(target string) (fixture.Artifact, error)
		src, dst   int
		row, again int // one after another, and where there is nothing to do; 0: is not counted
	}{
		{"single", regtest.WithAPI, regtest.WithAPI, func(at string) (fixture.Artifact, error) { return fixture.Single(ctx, at, small) }, 14, 25, 8, 4},
		{"single, two requests for an upload", regtest.WithAPIOnly, regtest.WithAPIOnly, func(at string) (fixture.Artifact, error) { return fixture.Single(ctx, at, small) }, 14, 25, 8, 4},
		{"multi", regtest.WithAPI, regtest.WithAPI, func(at string) (fixture.Artifact, error) { return fixture.Multi(ctx, at, small) }, 91, 121, 10, 4},
		{"multi, two requests for an upload", regtest.WithAPIOnly, regtest.WithAPIOnly, func(at string) (fixture.Artifact, error) { return fixture.Multi(ctx, at, small) }, 91, 121, 10, 4},
		{"fan", regtest.WithAPI, regtest.WithoutAPI, func(at string) (fixture.Artifact, error) { return fixture.Fan(ctx, at, 20, small) }, 64, 80, 0, 0},
		// What says that there is no API is a request too.
		{"fan, no API on either side", regtest.WithoutAPI, regtest.WithoutAPI, func(at string) (fixture.Artifact, error) { return fixture.Fan(ctx, at, 20, small) }, 65, 80, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, trace := regtest.New(t, c.from), regtest.NewTrace()
			a, err := c.put(from.Host + "/team/app:v1")
			must(t, err)
			// Far enough for what a busy machine adds not to count, and further if it did.
			distance := 60 * time.Millisecond
			if c.row == 0 {
				distance = time.Millisecond
			}
			from.Record(trace)
			run := func(to *regtest.Server) (copy.Result, int) {
				trace.Reset()
				c, err := registry.NewClient(registry.Options{})
				must(t, err)
				src, err := c.Open(ctx, reference(t, from.Host+"/team/app"))
				must(t, err)
				dst, err := c.Open(ctx, reference(t, to.Host+"/prod/app"))
				must(t, err)
				root, err := src.Resolve(ctx, registry.Reference{Tag: "v1"})
				must(t, err)
				r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"v1"}})
				must(t, err)
				return r, trace.RoundTrips()
			}
			for try := 1; ; try, distance = try+1, 2*distance {
				to := regtest.New(t, c.to)
				from.Latency(distance)
				to.Latency(distance)
				to.Record(trace)
				begin := time.Now()
				r, row := run(to)
				most := c.dst
				if time.Since(begin) > time.Second {
					most++ // the tag is looked up once more before it is written
				}
				if r.Signatures+r.Referrers != len(a.Referrers) || r.Written != len(a.Referrers)+len(a.Images) {
					t.Fatalf("%+v", r)
				}
				src, dst := trace.Count(from.Host, nil), trace.Count(to.Host, nil)
				t.Logf("%d + %d requests, %d in a row", src, dst, row)
				if src > c.src || dst > most {
					t.Fatalf("%d + %d requests; want at most %d + %d\n%s", src, dst, c.src, most, trace)
				}
				waited := trace.String()
				_, again := run(to)
				if n := len(trace.Writes()); n > 0 {
					t.Fatalf("nothing to do, and %d requests write\n%s", n, trace)
				}
				if c.row == 0 || row <= c.row && again <= c.again {
					break
				}
				if try == 5 {
					t.Fatalf("%d in a row, and %d for nothing; want at most %d and %d\n%s\n%s", row, again, c.row, c.again, waited, trace)
				}
			}
		})
	}
}

// A dry run says what would be sent, what would be mounted and what is there.
func TestDryRunTells(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithAPI)
	layers := []string{strings.Repeat("a", 1000), strings.Repeat("b", 2000), strings.Repeat("c", 4000)}
	root := image(t, src, "amd64", layers...)
	config := int64(len(`{"os":"linux","architecture":"amd64"}`))
	manifest := root.Descriptor.Size
	plan := func(dst *registry.Repo) []int64 {
		r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, DryRun: true})
		must(t, err)
		return []int64{int64(r.Blobs), int64(r.BlobsThere), r.Bytes, r.Mounted}
	}
	elsewhere, dst := remote(t, regtest.WithAPI)
	same(t, "nothing there", []int64{4, 0, 7000 + config + manifest, 0}, plan(dst))
	putBlob(t, dst, "l", []byte(layers[1]))
	elsewhere.Reset()
	same(t, "one layer there", []int64{3, 1, 5000 + config + manifest, 0}, plan(reopen(t, dst)))
	if w := writes(elsewhere); len(w) != 0 {
		t.Errorf("it wrote %q", w)
	}
	same(t, "the same registry", []int64{4, 0, manifest, 7000 + config}, plan(open(t, s.Host+"/another")))
	r, err := copy.Artifact(ctx, reopen(t, dst), src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	if r.Written != 1 || r.Tags[0].Status != copy.Written {
		t.Errorf("%+v", r)
	}
	same(t, "done", []int64{0, 0, 0, 0}, plan(reopen(t, dst)))
}

// What progress is told adds up: all that was planned ends, and its bytes have travelled.
func TestProgressAddsUp(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	rel := newRelease(t, src, "1")
	dst := places[0].open(t)
	var mu sync.Mutex
	var planned, moved, ended int64
	begun := map[string]bool{}
	r, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1"}, Progress: func(e copy.Event) {
		mu.Lock()
		defer mu.Unlock()
		id := e.What + e.Descriptor.Digest.String()
		switch e.Kind {
		case copy.EventPlan:
			planned += e.Bytes
		case copy.EventBegin:
			begun[id] = true
		case copy.EventBytes:
			moved += e.Bytes
		case copy.EventEnd:
			if strings.HasPrefix(e.What, "tag ") {
				return
			}
			if !begun[id] {
				t.Errorf("%s ends and never began", e.What)
			}
			delete(begun, id)
			ended += e.Descriptor.Size
		}
	}})
	must(t, err)
	if planned == 0 || ended != planned || moved != planned || r.Bytes != planned || len(begun) != 0 {
		t.Errorf("%d bytes planned, %d moved, %d ended, the result has %d; without an end: %v", planned, moved, ended, r.Bytes, begun)
	}
}

// A registry that answers NAME_UNKNOWN of the tag is asked nothing more before it is written to.
func TestAbsentRepositoryIsNotAsked(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	rel := newRelease(t, src, "1")
	s, dst := remote(t, regtest.WithAPI)
	_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	for i, r := range s.Requests() {
		if r.Write() {
			if i != 1 {
				t.Errorf("%d requests before the first write", i)
			}
			break
		}
		if r.Method == http.MethodHead {
			t.Errorf("%s %s", r.Method, r.Path)
		}
	}
}
