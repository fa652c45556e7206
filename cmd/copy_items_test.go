package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/registry"
)

func TestMappings(t *testing.T) {
	t.Parallel()
	const d = "sha256:4f0c6f5bb1d7a3e0f0a6c1b2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f60"
	maps, err := parseMappings([]string{
		"vendor.example=harbor.example/vendor", "vendor.example/db=db.example", "vendor.example/db/client/=harbor.example/clients/", "VENDOR.example:443/web=oci:sites",
		"other.example=oci-archive:out.tar",
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &expansion{maps: maps}
	for _, tt := range []struct{ source, want, err string }{
		{"vendor.example/tools:1", "vendor.example/tools:1 harbor.example/vendor/tools", ""},
		{"vendor.example/tools/shell:1@" + d, "vendor.example/tools/shell:1@" + d + " harbor.example/vendor/tools/shell", ""},
		{"vendor.example/tools@" + d, "vendor.example/tools@" + d + " harbor.example/vendor/tools", ""},
		{"vendor.example/db/server:16", "vendor.example/db/server:16 db.example/server", ""},
		{"vendor.example/database:16", "vendor.example/database:16 harbor.example/vendor/database", ""}, // whole segments
		{"vendor.example/db/client:16", "vendor.example/db/client:16 harbor.example/clients", ""},       // the longest
		{"vendor.example/db/client/x:16", "vendor.example/db/client/x:16 harbor.example/clients/x", ""},
		{"vendor.example/db:16", "", "db.example"}, // nothing is left of the name for a repository
		{"vendor.example/web:1", "vendor.example/web:1 oci:sites:vendor.example/web:1 vendor.example/web:1", ""},
		{"other.example/a/b:1.0", "other.example/a/b:1.0 oci-archive:out.tar:other.example/a/b:1.0 other.example/a/b:1.0", ""},
		{"other.example/a/b@" + d, "", "a digest alone is none"},
		{"another.example/a:1", "", "no --map has a FROM"},
		{"vendor.example.evil/a:1", "", "no --map has a FROM"},
		{"oci-archive:in.tar:vendor.example/tools:1", "oci-archive:in.tar:vendor.example/tools:1 harbor.example/vendor/tools", ""},
		{"oci-archive:in.tar:other.example/a:1", "oci-archive:in.tar:other.example/a:1 oci-archive:out.tar:other.example/a:1 other.example/a:1", ""},
		{"oci-archive:in.tar:1.0", "", "its name is not HOST/REPO:TAG"},
		{"vendor.example/tools", "", "names no artifact"},
	} {
		words := e.single(job{from: tt.source})
		err := e.whyNot(words)
		switch {
		case tt.err == "" && (err != nil || strings.Join(words, " ") != tt.want):
			t.Errorf("%s became %v, error %v; want %s", tt.source, words, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || len(words) != 1):
			t.Errorf("%s became %v, error %v; want %q", tt.source, words, err, tt.err)
		}
	}
}

func TestMappingsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, says string }{
		{"vendor.example", "it is FROM=TO"},
		{"=harbor.example", "it is FROM=TO"},
		{"vendor.example=", "it is FROM=TO"},
		{"vendor=harbor.example", "registry host"},
		{"oci:dir=harbor.example", "goes by its full names"},
		{"vendor.example:1.0/x=harbor.example", "vendor.example:1.0/x"},
		{"vendor.example/x:1.0=harbor.example", "vendor.example/x:1.0"},
		{"vendor.example=harbor", "registry host"},
		{"vendor.example=harbor.example/x:1.0", "harbor.example/x:1.0"},
		{"vendor.example=oci:dir:1.0", "no name of its own"},
		{"vendor.example=oci-archive:out", ".tar"},
	} {
		if _, err := parseMappings([]string{tt.text}); err == nil || !strings.Contains(err.Error(), tt.says) || exitCode(err) != exitUsage {
			t.Errorf("--map %s: error %v, want %q", tt.text, err, tt.says)
		}
	}
	if _, err := parseMappings([]string{"a.example=b.example", "A.example/=c.example"}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("error %v, want twice", err)
	}
}

func TestOfDigest(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("0a", 32)
	for _, tt := range []struct {
		tag  string
		want bool
	}{
		{"sha256-" + hex, true},
		{"sha256-" + hex + ".sig", true},
		{"sha256-" + hex + ".att", true},
		{"sha512-" + hex, true}, // cut to 64 digits by the tag schema
		{"sha512-" + hex + hex, true},
		{"sha512-" + hex + hex + ".sbom", true},
		{"sha256-" + hex[:62], false},
		{"sha256-" + hex + "-1", false},
		{"sha256-" + strings.ToUpper(hex), false},
		{"1.0-sha256-" + hex, false},
		{"1.0", false},
	} {
		if got := ofDigest(tt.tag); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.tag, got, tt.want)
		}
	}
}

func TestDestinationTags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, source, destination string
		said, before, want        []string
	}{
		{"the source's", "r.example/a:1", "q.example/a", nil, nil, []string{"1"}},
		{"never latest by itself", "r.example/a@sha256:" + strings.Repeat("0", 64), "q.example/a", nil, nil, nil},
		{"the destination's", "r.example/a:1", "q.example/a:2", nil, nil, []string{"2"}},
		{"those that were said", "r.example/a:1", "q.example/a", []string{"2", "3", "2"}, nil, []string{"2", "3"}},
		{"beside the destination's", "r.example/a:1", "q.example/a:4", []string{"2", "4"}, nil, []string{"2", "4"}},
		{"those of a plan", "r.example/a:1", "q.example/a", nil, []string{"2", "3"}, []string{"2", "3"}},
		{"and what is said with it", "r.example/a:1", "q.example/a", []string{"3", "4"}, []string{"2", "3"}, []string{"2", "3", "4"}},
		{"a full name stands for its tag", "r.example/a:1", "oci:out:r.example/a:1", []string{"1"}, []string{"r.example/a:1"}, []string{"r.example/a:1"}},
	} {
		source, err := registry.ParseReference(tt.source)
		destination, err2 := registry.ParseReference(tt.destination)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		in := copyInputs{tags: tt.said}
		if diff := cmp.Diff(tt.want, in.destinationTags(source, destination, tt.before)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestByteRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"10MB": 10_000_000, "5MiB": 5 << 20, "1.5MB/s": 1_500_000, "500kB": 500_000, "2GiB/s": 2 << 30, "4096B": 4096,
		"10": 0, "0MB": 0, "-1MB": 0, "MB": 0, "10Mb": 0, "10 MB": 0, "1e6B": 0, "999B": 0, "": 0, "99999999999GB": 0, "1.2.3MB": 0,
	} {
		var r byteRate
		err := r.Set(text)
		if r.perSecond != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d a second, error %v; want %d", text, r.perSecond, err, want)
		}
	}
}

// TestShard: who does what must never change. The values were worked out with sha256sum.
func TestShard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		words item
		of    int
		want  int
	}{
		{item{"vendor.example/db/server:16.4"}, 8, 4},
		{item{"vendor.example/db/server:16.4", "harbor.example/db"}, 8, 5},
		{item{"oci:a:1"}, 3, 1},
		{item{"a", "b", "c"}, 1000, 607},
	} {
		for i := range tt.of {
			if got := (shard{i, tt.of}).has(tt.words); got != (i == tt.want) {
				t.Errorf("%v in shard %d/%d: %v", tt.words, i, tt.of, got)
			}
		}
	}
	for text, want := range map[string]shard{"0/1": {0, 1}, "7/8": {7, 8}, "8/8": {}, "0/0": {}, "-1/8": {}, "1": {}, "1/x": {}, "/": {}, "1/8/2": {}, "0/100001": {}} {
		var s shard
		if err := s.Set(text); s != want || (err == nil) != (want.of > 0) {
			t.Errorf("--shard %s is %v, error %v", text, s, err)
		}
	}
}

// TestShardsArePartition: each item is in exactly one, and none has much more than its share.
func TestShardsArePartition(t *testing.T) {
	t.Parallel()
	var all []given
	for i := range 4000 {
		all = append(all, given{words: item{fmt.Sprintf("r.example/app%d:1", i)}})
	}
	seen := map[string]int{}
	for i := range 8 {
		share := shard{i, 8}.share(slices.Clone(all))
		if len(share) < 400 || len(share) > 600 {
			t.Errorf("shard %d has %d of 4000 items", i, len(share))
		}
		for _, g := range share {
			seen[g.words[0]]++
		}
	}
	for _, g := range all {
		if seen[g.words[0]] != 1 {
			t.Errorf("%s is in %d shards", g.words[0], seen[g.words[0]])
		}
	}
}

// TestPlanLines: a plan that was reviewed does what it says, and not what it refused.
func TestPlanLines(t *testing.T) {
	t.Parallel()
	const d = "sha256:4f0c6f5bb1d7a3e0f0a6c1b2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f60"
	const planned = `{"kind":"copy","source":"r.example/a:1","destination":"q.example/a","digest":"` + d + `","tags":[{"tag":"1"},{"tag":"x","was":"` + d + `"}],"dryRun":true}` + "\n"
	const refused = `{"kind":"error","item":["r.example/b:1","q.example/b"],"error":"x","reason":"unsigned","exitCode":1}` + "\n"
	const failed = `{"kind":"error","item":["r.example/c:1","q.example/c","1","2"],"error":"x","exitCode":4}` + "\n"
	first, third := item{"r.example/a:1@" + d, "q.example/a", "1", "x"}, item{"r.example/c:1", "q.example/c", "1", "2"}
	for _, tt := range []struct {
		name, text string
		words      int
		want       []item
		refused    int
	}{
		{"a plan", planned + failed + `{"kind":"summary","items":2,"dryRun":true}`, 2, []item{first, third}, 0},
		{"a plan with what it refused", refused + planned + refused + failed, 2, []item{first, third}, 2},
		{"a plan that refused everything", refused + `{"kind":"summary","items":1,"dryRun":true}`, 2, nil, 1},
		{"a list of failures", refused + failed + `{"kind":"summary","items":2}`, 2, []item{{"r.example/b:1", "q.example/b"}, third}, 0},
		{"pairs in a batch of sources", planned + "r.example/d:1\n" + failed, 1, []item{first, {"r.example/d:1"}, third}, 0},
		{"a failure that had no destination yet", `{"kind":"error","item":["r.example/e"],"exitCode":4}`, 1, []item{{"r.example/e"}}, 0},
	} {
		got, err := readList(strings.NewReader(tt.text), form{words: tt.words, copies: true})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var words []item
		for _, g := range got.items {
			words = append(words, g.words)
		}
		if diff := cmp.Diff(tt.want, words); diff != "" || got.refused != tt.refused {
			t.Errorf("%s: %d left out (-want +got):\n%s", tt.name, got.refused, diff)
		}
	}
	for text, words := range map[string]int{"a b c\n": 2, "a b\n": 1, `{"kind":"error","item":["a"],"exitCode":4}`: 2} {
		if _, err := readList(strings.NewReader(text), form{words: words, copies: true}); err == nil {
			t.Errorf("%q with %d words a line was read", text, words)
		}
	}
}

// TestBatchIsStreamed: what is said of an item is forgotten, and a slow one holds up a bounded number of others.
func TestBatchIsStreamed(t *testing.T) {
	t.Parallel()
	items := make([]item, 3*maxAhead)
	for i := range items {
		items[i] = item{fmt.Sprintf("ok-%d", i)}
	}
	began := make(chan struct{}, len(items))
	release := make(chan struct{})
	done := make(chan told)
	go func() {
		done <- batchOf(context.Background(), t, batchFlags{jobs: 8}, items, true, func(ctx context.Context, it item) (map[string]string, error) {
			began <- struct{}{}
			if it[0] == "ok-0" {
				<-release
			}
			return byName(ctx, it)
		})
	}()
	for range maxAhead {
		<-began
	}
	select {
	case <-began:
		t.Errorf("more than %d items are under way beside one that waits", maxAhead)
	default:
	}
	close(release)
	if got := <-done; got.code != 0 || len(lines(got.out)) != len(items)+1 {
		t.Errorf("exit %d, %d lines", got.code, len(lines(got.out)))
	}
}

// TestTurnsForget: a batch of a million tags does not end with a million locks.
func TestTurnsForget(t *testing.T) {
	t.Parallel()
	var all turns
	first := all.take("a", "b", "a")
	got := make(chan struct{})
	go func() {
		defer all.take("b", "c")()
		close(got)
	}()
	select {
	case <-got:
		t.Fatal("two had the same turn")
	default:
	}
	first()
	<-got
	all.take("a", "b", "c")() // the goroutine gave up its turn
	if n := len(all.of); n != 0 {
		t.Errorf("%d turns are remembered", n)
	}
}
