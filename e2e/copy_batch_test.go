package e2e

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// thousands puts n images without signatures into 50 repositories of f, no two alike, every tenth with an SBOM, and
// returns REPO:TAG of each.
func thousands(f *fake, n int) []string {
	var names []string
	for i := range n {
		repo, tag := fmt.Sprintf("vendor/app%02d", i%50), fmt.Sprintf("v%d", i/50)
		a := image(repo)
		m := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: a.blobs[0].descriptor, Layers: []ocispec.Descriptor{a.blobs[1].descriptor},
			Annotations: map[string]string{"org.opencontainers.image.version": tag},
		}
		one := newArtifact(m.MediaType, m)
		one.blobs = a.blobs
		if i%10 == 0 {
			one.referrers = []artifact{sbom(one.descriptor, "what is in "+repo+" "+tag)}
		}
		f.putArtifact(repo, tag, one)
		names = append(names, repo+":"+tag)
	}
	return names
}

// pairs is a batch that copies names from one registry to the same names of another.
func pairs(from, to *fake, names []string) string {
	var b strings.Builder
	for _, name := range names {
		repo, _, _ := strings.Cut(name, ":")
		fmt.Fprintf(&b, "%s/%s %s/%s\n", from.Host, name, to.Host, repo)
	}
	return b.String()
}

// tagPut returns REPO:TAG of a request that writes a tag.
func tagPut(r *http.Request) (name string, ok bool) {
	repo, tag, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	return repo + ":" + tag, found && r.Method == http.MethodPut && !strings.Contains(tag, ":")
}

// A chance breaks one request of a hundred, and in refuse mode refuses one thing of two hundred for good. What breaks depends
// on the seed and the request alone, not on the order of requests.
type chance struct {
	seed   string
	server *fake

	mu     sync.Mutex
	refuse bool
	tries  map[string]int
	broken int
}

func (f *chance) roll(key string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, f.seed, key)
	// The low bits of FNV are poor.
	return (h.Sum64() * 0x9e3779b97f4a7c15) >> 32
}

func (f *chance) intercept(w http.ResponseWriter, r *http.Request) bool {
	key := r.Method + " " + r.URL.RequestURI()
	f.mu.Lock()
	if f.tries == nil {
		f.tries = map[string]int{}
	}
	f.tries[key]++
	at := f.roll(fmt.Sprint(key, f.tries[key]))
	refused := f.refuse && f.roll(key)%200 == 0
	breaks := at%100 == 0
	if breaks || refused {
		f.broken++
	}
	f.mu.Unlock()
	switch {
	case refused:
		failure(w, http.StatusForbidden, "DENIED")
		return true
	case !breaks:
		return false
	}
	switch at / 100 % 5 {
	case 0:
		failure(w, http.StatusServiceUnavailable, "UNAVAILABLE")
	case 1:
		failure(w, http.StatusInternalServerError, "UNKNOWN")
	case 2:
		w.Header().Set("Retry-After", "0")
		failure(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	case 3: // acted on, and the answer is lost
		f.server.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default: // half of the answer
		whole := httptest.NewRecorder()
		f.server.ServeHTTP(whole, r)
		maps.Copy(w.Header(), whole.Header())
		w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()+1))
		w.WriteHeader(whole.Code)
		_, _ = w.Write(whole.Body.Bytes())
		panic(http.ErrAbortHandler)
	}
	return true
}

// TestF48BatchWithFaults: 1,000 references, one request of a hundred breaks on either side, and some are refused: what
// failed is run again, from the very lines that said so, and the destination is as it would have been undisturbed.
func TestF48BatchWithFaults(t *testing.T) {
	t.Parallel()
	const n = 1000
	source, dest, calm := newFake(t), newFake(t), newFake(t)
	names := thousands(source, n)
	p := newPerson(t)
	if o := p.run(t, "copy", "--batch", p.file("calm", []byte(pairs(source, calm, names))), "-q"); o.code != 0 {
		t.Fatalf("undisturbed: exit %d\n%s", o.code, o.stderr)
	}

	from, to := &chance{seed: "source 48", server: source}, &chance{seed: "dest 48", server: dest, refuse: true}
	source.Intercept(from.intercept)
	dest.Intercept(to.intercept)
	first := p.run(t, "copy", "--batch", p.file("list", []byte(pairs(source, dest, names))), "-o", "json")
	if first.code != 7 {
		t.Fatalf("exit %d, want 7: some were refused\n%s", first.code, first.stderr)
	}
	to.mu.Lock()
	to.refuse = false
	broken := to.broken + from.broken
	to.mu.Unlock()
	var failures []string
	for line := range strings.Lines(first.stdout) {
		var l struct{ Kind string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Kind == "error" {
			failures = append(failures, line)
		}
	}
	if len(failures) == 0 || len(failures) > n/4 || broken < n/50 {
		t.Fatalf("%d faults and %d failures of %d items try nothing", broken, len(failures), n)
	}
	again := p.run(t, "copy", "--batch", p.file("failures", []byte(strings.Join(failures, ""))), "-o", "json")
	if again.code != 0 {
		t.Fatalf("run again: exit %d\n%s", again.code, again.stderr)
	}
	t.Logf("%d faults, %d of %d items failed and were run again", broken, len(failures), n)
	same(t, calm, dest)
}

// same compares what two registries hold, byte for byte.
func same(t *testing.T, want, got *fake) {
	t.Helper()
	want.mu.Lock()
	defer want.mu.Unlock()
	got.mu.Lock()
	defer got.mu.Unlock()
	if len(want.manifests) == 0 {
		t.Fatal("there is nothing to compare")
	}
	for _, key := range slices.Sorted(maps.Keys(want.manifests)) {
		if !reflect.DeepEqual(want.manifests[key], got.manifests[key]) {
			t.Errorf("%s differs", key)
		}
	}
	if len(want.manifests) != len(got.manifests) || !reflect.DeepEqual(want.blobs, got.blobs) || !reflect.DeepEqual(want.listed, got.listed) {
		t.Errorf("%d manifests, %d blobs, %d lists of referrers; undisturbed %d, %d, %d, or what they hold differs", len(got.manifests), len(got.blobs),
			len(got.listed), len(want.manifests), len(want.blobs), len(want.listed))
	}
}
