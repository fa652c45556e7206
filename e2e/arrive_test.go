package e2e

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestAllArrives copies an index with its 19 referrers along a chain of places, fifty times if it may: between registries with and
// without the referrers API in all four ways, into and out of layouts and archives. What is lost on the way cannot be there
// at the end, where all of it is read by code that is not imprint's and compared with the beginning, byte for byte.
func TestAllArrives(t *testing.T) {
	t.Parallel()
	runs := 50
	switch {
	case testing.Short():
		runs = 5
	case raced:
		runs = 6
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8) // they wait for lists to settle
	for i := range runs {
		slots <- struct{}{}
		if t.Failed() {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			arrived(t, uint64(i))
		})
	}
	wg.Wait()
}

// arrived is one run, in registries of its own: their ends are the ends of its connections.
func arrived(t *testing.T, seed uint64) {
	ctx := context.Background()
	p := newPerson(t)
	defer os.RemoveAll(p.dir)
	api, other := regtest.Start(regtest.WithAPI), regtest.Start(regtest.WithAPIOnly)
	tags, more := regtest.Start(regtest.WithoutAPI), regtest.Start(regtest.WithoutAPI)
	for _, s := range []*regtest.Server{api, other, tags, more} {
		defer s.Close()
	}
	path := []string{
		api.Host + "/source/app:v1",
		other.Host + "/prod/app:v1",
		tags.Host + "/prod/app:v1",
		more.Host + "/prod/app:v1",
		"oci:" + filepath.Join(p.dir, "layout") + ":v1",
		api.Host + "/third/app:v1",
		"oci-archive:" + filepath.Join(p.dir, "archive.tar") + ":v1",
		tags.Host + "/fourth/app:v1",
		other.Host + "/fifth/app:v1",
	}
	if _, err := fixture.Multi(ctx, path[0], fixture.Options{Layer: 3000, Seed: seed}); err != nil {
		t.Error(err)
		return
	}
	want, err := fixture.Walk(ctx, path[0])
	if n := want.Referrers(); err != nil || n != 19 {
		t.Errorf("the source has %d referrers, %v; want 19", n, err)
		return
	}
	for i := 1; i < len(path); i++ {
		if o := p.runIn(ctx, "copy", path[i-1], path[i], "-q"); o.code != 0 {
			t.Errorf("copy %s %s: exit code %d\n%s", path[i-1], path[i], o.code, o.stderr)
			return
		}
	}
	got, err := fixture.Walk(ctx, path[len(path)-1])
	if err == nil && cmp.Equal(want, got) {
		return
	}
	for i, place := range path[1:] {
		got, err := fixture.Walk(ctx, place)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("run %d: %d of 19 referrers came from %s to %s, %v\n%s", seed, got.Referrers(), path[i], place, err, diff)
			return
		}
	}
}
