package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// soon fails if f takes more of the processor than what is linear in its input could: quadratic it took half a minute.
// The clock would tell how busy the machine is. Who calls it runs beside no other test.
func soon(t *testing.T, f func()) {
	t.Helper()
	const most = 8 * time.Second
	before := processorTime(t)
	f()
	if took := processorTime(t) - before; took > most {
		t.Errorf("%s, at most %s", took, most)
	}
}

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// manyEntries is an index.json with as many entries as it may have, named by name.
func manyEntries(t *testing.T, name func(i int) string) *layoutIndex {
	t.Helper()
	var b strings.Builder
	b.WriteString(`{"schemaVersion":2,"manifests":[`)
	for i := 0; b.Len() < maxLayoutIndex-400; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"mediaType":"a/b","size":1,"digest":"sha256:%064x","annotations":{%q:%q}}`, i, ocispec.AnnotationRefName, name(i))
	}
	b.WriteString("]}")
	ix, err := parseLayoutIndex([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// An index of the size that is read must not keep anybody busy for minutes.
func TestLayoutIndexOfManyEntries(t *testing.T) {
	one := manyEntries(t, func(int) string { return "1.0" })
	soon(t, func() {
		if _, err := one.find("1.0"); !errors.Is(err, ErrAmbiguous) {
			t.Error(err)
		}
	})
	many := manyEntries(t, func(i int) string { return fmt.Sprint("v", i) })
	soon(t, func() {
		if _, err := many.find("absent"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if e, err := many.find("v7"); err != nil || e.Digest != many.entries[7].Digest {
			t.Error(e.Digest, err)
		}
	})
}

func TestFallbackIndexOfManyEntries(t *testing.T) {
	list := make([]string, 45_000)
	for i := range list {
		list[i] = fmt.Sprintf(`{"digest":"sha256:%064x"}`, i)
	}
	body := `{"manifests":[` + strings.Join(list, ",") + "," + list[0] + `]}`
	if len(body) > MaxManifest {
		t.Fatal("more than is read")
	}
	soon(t, func() {
		x, err := parseFallback(http.Header{"Content-Type": {ocispec.MediaTypeImageIndex}}, []byte(body), digest.FromString("subject"))
		if err != nil || len(x.entries) != len(list) {
			t.Fatal(len(x.entries), err)
		}
		drop := &settling{store: &remote{state: &repoState{}}, remove: []digest.Digest{x.entries[3].descriptor.Digest}}
		for _, e := range x.entries {
			drop.seen.add(e)
		}
		next, err := drop.merge(t.Context(), x)
		if err != nil || len(next.entries) != len(list)-1 || sameEntries(x, next) {
			t.Error(len(next.entries), err)
		}
	})
}

// Ten thousand manifests of 4 MiB each would be 40 GiB: what is kept of one artifact is bounded as a whole, and what
// lies beyond is an error, never a part.
func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	r := newLayout(t)
	image := putImage(t, r, nil, "", "layer")
	if err := r.Tag(t.Context(), image, "1.0"); err != nil {
		t.Fatal(err)
	}
	subject := plainDescriptor(image)
	total := 0
	for i := range 20 {
		envelope := []byte(strings.Repeat(fmt.Sprint(i%10), 10_000+i))
		m := r.Form().Manifest(subject, "application/jose+json", envelope, nil)
		if err := r.PushSignature(t.Context(), subject, m, envelope); err != nil {
			t.Fatal(err)
		}
		total += len(m.Bytes) + len(envelope)
	}
	for _, tt := range []struct {
		most int64
		err  error
	}{{int64(total), nil}, {int64(total) / 3, ErrTooLarge}} {
		r.most = tt.most
		if list, err := r.Signatures(t.Context(), subject); !errors.Is(err, tt.err) || err == nil && len(list) != 20 {
			t.Errorf("%d bytes: %d signatures, %v, want %v", tt.most, len(list), err, tt.err)
		}
		if _, _, err := r.Graph(t.Context(), image, GraphOptions{}); !errors.Is(err, tt.err) {
			t.Errorf("%d bytes: %v, want %v", tt.most, err, tt.err)
		}
	}
}

// The lists count, too: their annotations are as long as those who pushed the referrers made them, and a registry may
// list what it likes.
func TestListsThatAreKeptAreBounded(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithAPI)
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			inner.Handler().ServeHTTP(w, r)
			return
		}
		x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
		for i := range 10 {
			d := blobOf([]byte(fmt.Sprint("ghost", i)))
			d.Annotations = map[string]string{"note": strings.Repeat("x", 10_000)}
			x.Manifests = append(x.Manifests, d)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(x)
	}))
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	image := pushImage(t, r, "image")
	follow := GraphOptions{Referrer: func(Referrer) bool { return false }}
	for most, want := range map[int64]error{110_000: nil, 100_000: ErrTooLarge} {
		r.most = most
		if _, _, err := r.Graph(t.Context(), image, follow); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", most, err, want)
		}
	}
}

func plainDescriptor(m Manifest) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size}
}
