package registry

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

const typeSBOM = "application/spdx+json"

// A forest is a repository with artifacts that have names, for tests that read.
type forest struct {
	t     testing.TB
	repo  *Repo
	names map[digest.Digest]string
}

func newForest(t testing.TB, r *Repo) *forest {
	return &forest{t: t, repo: r, names: map[digest.Digest]string{}}
}

// forests runs a test in a registry with the API, in one without, and in a layout.
func forests(t *testing.T, test func(t *testing.T, f *forest, s *regtest.Server)) {
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			test(t, newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app")), s)
		})
	}
	t.Run("layout", func(t *testing.T) {
		t.Parallel()
		test(t, newForest(t, newLayout(t)), nil)
	})
}

func (f *forest) is(name string, m Manifest) Manifest {
	f.names[m.Descriptor.Digest] = name
	return m
}

func (f *forest) tag(m Manifest, tags ...string) {
	f.t.Helper()
	for _, tag := range tags {
		if err := f.repo.Tag(f.t.Context(), m, tag); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *forest) image(name string, tags ...string) Manifest {
	f.t.Helper()
	m := f.is(name, pushImage(f.t, f.repo, name))
	f.tag(m, tags...)
	return m
}

// index stores an index; its children are of platforms 0, 1 …
func (f *forest) index(name string, tags []string, children ...Manifest) Manifest {
	f.t.Helper()
	var list []ocispec.Descriptor
	for i, c := range children {
		d := plainDescriptor(c)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("cpu", i)}
		list = append(list, d)
	}
	m := f.is(name, putIndex(f.t, f.repo, list...))
	f.tag(m, tags...)
	return m
}

// refer attaches a referrer of the type.
func (f *forest) refer(name string, subject Manifest, artifactType string) Manifest {
	f.t.Helper()
	d := plainDescriptor(subject)
	return f.is(name, putImage(f.t, f.repo, &d, artifactType, name))
}

func (f *forest) sign(name string, subject Manifest) Manifest {
	f.t.Helper()
	return f.refer(name, subject, ArtifactTypeSignature)
}

func (f *forest) name(d digest.Digest) string {
	if d == "" {
		return "-"
	}
	if n := f.names[d]; n != "" {
		return n
	}
	return string(d)
}

// tell renders a visit: name role tags<root<within (platform) [referrers] manifest error.
func (f *forest) tell(v Visit) string {
	var refs []string
	for _, r := range v.Referrers {
		refs = append(refs, f.name(r.Digest))
	}
	slices.Sort(refs)
	out := fmt.Sprintf("%s: %s root=%s", f.name(v.Subject.Digest), v.Role, f.name(v.Root))
	if len(v.Tags) > 0 {
		out += " tags=" + strings.Join(v.Tags, ",")
	}
	if v.Within != "" {
		out += " in=" + f.name(v.Within)
	}
	if v.Platform != nil {
		out += " on=" + PlatformName(v.Platform)
	}
	if len(refs) > 0 {
		out += " refs=" + strings.Join(refs, ",")
	}
	if v.Manifest != nil {
		out += " read"
	}
	if v.Err != nil {
		out += " error=" + reason(v.Err)
	}
	return out
}

// walk returns the visits, sorted. Where two ways lead to the same digest, one at a time is looked at.
func (f *forest) walk(o WalkOptions) ([]string, error) {
	f.t.Helper()
	visits, err := collect(f.t, f.repo, o)
	var out []string
	for _, v := range visits {
		out = append(out, f.tell(v))
	}
	slices.Sort(out)
	return out, err
}

func collect(t testing.TB, r *Repo, o WalkOptions) ([]Visit, error) {
	t.Helper()
	var mu sync.Mutex
	var visits []Visit
	err := r.Walk(t.Context(), o, func(_ context.Context, v Visit) error {
		mu.Lock()
		defer mu.Unlock()
		visits = append(visits, v)
		return nil
	})
	return visits, err
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("visits (-want +got):\n%s", diff)
	}
}

// TestWalkReaches: all that tags, indexes, lists of referrers and fallback tags lead to, signatures on SBOMs of platform
// images too.
func TestWalkReaches(t *testing.T) {
	t.Parallel()
	forests(t, func(t *testing.T, f *forest, s *regtest.Server) {
		image := f.image("image", "1.0")
		f.sign("signature", image)
		sbom := f.refer("sbom", image, typeSBOM)
		f.sign("sbom's signature", sbom)
		amd := f.image("amd")
		arm := f.image("arm")
		f.sign("arm's signature", arm)
		armSBOM := f.refer("arm's sbom", arm, typeSBOM)
		f.sign("arm's sbom's signature", armSBOM)
		inner := f.index("inner", nil, arm)
		index := f.index("index", []string{"2.0"}, amd, inner)
		f.sign("index's signature", index)
		lonely := f.image("lonely")
		f.sign("lonely's signature", lonely)
		f.tag(f.refer("tagged sbom", lonely, typeSBOM), "sbom-of-lonely")
		unsigned := f.image("unsigned", "3.0")
		_ = unsigned

		named := map[string]string{}
		got, err := f.walk(WalkOptions{Parallel: 1, Named: func(tag string, d digest.Digest) { named[tag] = f.name(d) }})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"image: root root=image tags=1.0 refs=sbom,signature read",
			"sbom: referrer root=image in=image refs=sbom's signature",
			"index: root root=index tags=2.0 refs=index's signature read",
			"amd: child root=index in=index on=linux/cpu0",
			"inner: child root=index in=index on=linux/cpu1 read",
			"arm: child root=index in=inner on=linux/cpu0 refs=arm's sbom,arm's signature",
			"arm's sbom: referrer root=index in=arm refs=arm's sbom's signature",
			"tagged sbom: root root=tagged sbom tags=sbom-of-lonely read",
			"lonely: fallback root=lonely refs=lonely's signature,tagged sbom read",
			"unsigned: root root=unsigned tags=3.0 read",
		}
		same(t, got, want)
		if diff := cmp.Diff(map[string]string{"1.0": "image", "2.0": "index", "3.0": "unsigned", "sbom-of-lonely": "tagged sbom"}, named); diff != "" {
			t.Errorf("named (-want +got):\n%s", diff)
		}
		// And many at once find the same.
		all, err := f.walk(WalkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, all, want)
	})
}

// TestWalkRequests: a tag is one request, an artifact one list, and what is known to be absent is not asked for.
func TestWalkRequests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind regtest.Kind
		want []string
	}{
		{regtest.WithAPI, []string{
			"GET tags/list 200",
			"GET manifests/1.0 200", "GET referrers/sha256:… 200",
			"GET manifests/2.0 200", "GET referrers/sha256:… 200", // unsigned: no second look at a fallback tag
			"GET manifests/multi 200", "GET referrers/sha256:… 200", "GET referrers/sha256:… 200", // its child is not read
			"GET referrers/sha256:… 200",      // of the SBOM, no more of it
			"GET manifests/latest 200",        // the same digest again
			"GET referrers/sha256:… 200 last", // of its child
		}},
		{regtest.WithoutAPI, []string{
			"GET tags/list 200",
			"GET manifests/1.0 200", "GET referrers/sha256:… 404", "GET manifests/sha256-… 200",
			"GET manifests/2.0 200", // others have a fallback tag, and it has none
			"GET manifests/multi 200",
			"GET manifests/sha256-… 200", // of the SBOM
			"GET manifests/latest 200",
		}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, tt.kind)
			f := newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"))
			image := f.image("image", "1.0", "latest")
			f.sign("signature", image)
			f.sign("sbom's signature", f.refer("sbom", image, typeSBOM))
			f.image("unsigned", "2.0")
			f.index("index", []string{"multi"}, f.image("child"))

			s.Reset()
			// Another client: what one has learned of a registry saves requests.
			f.repo = openTest(t, newTestClient(t, Options{}), s.Host, "app")
			if _, err := f.walk(WalkOptions{Parallel: 1}); err != nil {
				t.Fatal(err)
			}
			got := calls(s)
			want := slices.DeleteFunc(tt.want, func(c string) bool { return strings.HasSuffix(c, " last") })
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWalkBeforeAllTagsAreListed: what a fallback tag says counts although it is listed long after its subject, and
// nothing is asked for twice.
func TestWalkBeforeAllTagsAreListed(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			f := newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"))
			signed := f.image("signed", "1")
			f.sign("signature", signed)
			lonely := f.image("lonely")
			f.sign("lonely's signature", lonely)
			release := make(chan struct{})
			var first atomic.Bool
			inner := s.Handler()
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/tags/list") {
					return false
				}
				if !first.CompareAndSwap(false, true) {
					<-release
				}
				pageOfOne(inner, w, r)
				return true
			})
			s.Reset()
			f.repo = openTest(t, newTestClient(t, Options{}), s.Host, "app")
			var mu sync.Mutex
			var got []string
			err := f.repo.Walk(t.Context(), WalkOptions{Parallel: 1}, func(_ context.Context, v Visit) error {
				mu.Lock()
				defer mu.Unlock()
				if len(got) == 0 {
					close(release)
				}
				got = append(got, f.tell(v))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"signed: root root=signed tags=1 refs=signature read"}
			if kind == regtest.WithoutAPI {
				want = append(want, "lonely: fallback root=lonely refs=lonely's signature read")
			}
			slices.Sort(got)
			same(t, got, want)
			seen := map[string]bool{}
			for _, r := range s.Requests() {
				if key := r.Method + r.Path + r.Query; seen[key] {
					t.Errorf("asked twice: %s %s", r.Method, r.Path)
				} else {
					seen[key] = true
				}
			}
		})
	}
}

// pageOfOne answers with one tag a page.
func pageOfOne(inner http.Handler, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	q.Set("n", "1")
	r.URL.RawQuery = q.Encode()
	inner.ServeHTTP(w, r)
}

// TestWalkFallbackTags: they are no artifacts of their own, unless they hold something else than a list.
func TestWalkFallbackTags(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	var warned []string
	f := newForest(t, openTest(t, newTestClient(t, Options{Warn: func(code, _ string) { warned = append(warned, code) }}), s.Host, "app"))
	image := f.image("image", "1.0")
	other := f.image("occupant")
	f.tag(other, fallbackTag(image.Descriptor.Digest))
	// Of something that is not there at all.
	third := f.image("another occupant")
	f.tag(third, "sha256-"+strings.Repeat("ab", 32))
	// What it lists is of an artifact that was deleted.
	deleted := f.image("deleted")
	f.sign("orphaned signature", deleted)
	f.names[deleted.Descriptor.Digest] = "deleted"
	if resp := do(t, http.MethodDelete, "http://"+s.Host+"/v2/app/manifests/"+string(deleted.Descriptor.Digest)); resp != http.StatusAccepted {
		t.Fatalf("deleting: %d", resp)
	}
	// Tags that only look like one.
	f.image("cosign's", "sha256-"+strings.Repeat("cd", 32)+".sig")
	f.image("short", "sha256-abcd")

	named := map[string]string{}
	got, err := f.walk(WalkOptions{Parallel: 1, Named: func(tag string, d digest.Digest) { named[tag] = f.name(d) }})
	if err != nil {
		t.Fatal(err)
	}
	occupied := fallbackTag(image.Descriptor.Digest)
	same(t, got, []string{
		"image: root root=image tags=1.0 read",
		"occupant: root root=occupant tags=" + occupied + " read",
		"another occupant: root root=another occupant tags=sha256-" + strings.Repeat("ab", 32) + " read",
		"deleted: fallback root=deleted error=not-found",
		"cosign's: root root=cosign's tags=sha256-" + strings.Repeat("cd", 32) + ".sig read",
		"short: root root=short tags=sha256-abcd read",
	})
	if named[occupied] != "occupant" || named[fallbackTag(deleted.Descriptor.Digest)] != "" {
		t.Errorf("named %v", named)
	}
	if !slices.Contains(warned, codeOccupied) {
		t.Errorf("warned of %q, want %s", warned, codeOccupied)
	}
}

func do(t testing.TB, method, url string) int {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestWalkWhereFallbackTagsAreNotListed: a registry that keeps them out of its list of tags has them read all the same.
func TestWalkWhereFallbackTagsAreNotListed(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	f := newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"))
	image := f.image("image", "1.0")
	f.sign("signature", image)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/tags/list") {
			return false
		}
		_, _ = w.Write([]byte(`{"name":"app","tags":["1.0"]}`))
		return true
	})
	got, err := f.walk(WalkOptions{Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, []string{"image: root root=image tags=1.0 refs=signature read"})
}

// TestWalkTaggedSignature: a signature that a tag names is no artifact of its own; what it signs is visited.
func TestWalkTaggedSignature(t *testing.T) {
	t.Parallel()
	forests(t, func(t *testing.T, f *forest, _ *regtest.Server) {
		untagged := f.image("untagged")
		f.tag(f.sign("signature", untagged), "signature-of-it")
		got, err := f.walk(WalkOptions{Parallel: 1})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, []string{"untagged: fallback root=untagged refs=signature read"})
	})
}

// TestWalkFallbackTagBesideTheAPI: a registry that has gained the API still has lists that only tags hold.
func TestWalkFallbackTagBesideTheAPI(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	f := newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"))
	list := func(subject Manifest) {
		x := fallbackIndex{}
		// Of no subject, else the registry would list it by itself.
		d := plainDescriptor(pushImage(t, f.repo, "signature of "+string(subject.Descriptor.Digest)))
		d.ArtifactType = ArtifactTypeSignature
		e := fallbackEntry{descriptor: d}
		e.raw, _ = json.Marshal(e.descriptor)
		f.names[e.descriptor.Digest] = f.name(subject.Descriptor.Digest) + "'s signature"
		x.add(e)
		putFallback(t, f.repo, subject, x.encode())
	}
	list(f.image("tagged", "1.0"))
	list(f.image("untagged"))
	both := f.image("both", "2.0")
	list(both)
	f.sign("both's newer signature", both)
	s.Reset()
	got, err := f.walk(WalkOptions{Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, []string{
		"tagged: root root=tagged tags=1.0 refs=tagged's signature read",
		"untagged: fallback root=untagged refs=untagged's signature read",
		"both: root root=both tags=2.0 refs=both's newer signature read", // G11: the API is read
	})
	if n := s.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/manifests/sha256-") }); n != 3 {
		t.Errorf("%d requests for three fallback tags", n)
	}
}

// TestWalkSHA512FallbackTag: such a tag has half of the digest; what it lists says the whole.
func TestWalkSHA512FallbackTag(t *testing.T) {
	t.Parallel()
	image := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`)
	sum := sha512.Sum512(image)
	subject := digest.NewDigestFromBytes(digest.SHA512, sum[:])
	signature := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageManifest, ArtifactTypeSignature, ocispec.MediaTypeImageManifest, subject, len(image)))
	sig := NewManifest(ocispec.MediaTypeImageManifest, signature)
	x := fallbackIndex{}
	e, err := describeReferrer(sig)
	if err != nil {
		t.Fatal(err)
	}
	x.add(e)
	list := x.encode()
	s := regtest.Serve(t, answers{
		"/v2/app/tags/list":                                  {"application/json", []byte(`{"tags":["` + fallbackTag(subject) + `"]}`)},
		"/v2/app/manifests/" + fallbackTag(subject):          {ocispec.MediaTypeImageIndex, list.Bytes},
		"/v2/app/manifests/" + string(sig.Descriptor.Digest): {ocispec.MediaTypeImageManifest, signature},
		"/v2/app/manifests/" + string(subject):               {ocispec.MediaTypeImageManifest, image},
	})
	visits, err := collect(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"), WalkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(visits) != 1 || visits[0].Err != nil || visits[0].Subject.Digest != subject || visits[0].Role != RoleFallback || len(visits[0].Referrers) != 1 {
		t.Errorf("visits %+v", visits)
	}
}

// answers are those of a registry that only answers these paths.
type answers map[string]struct {
	mediaType string
	body      []byte
}

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is, ok := a[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", is.mediaType)
	_, _ = w.Write(is.body)
}

// TestWalkFrom: only what the references lead to.
func TestWalkFrom(t *testing.T) {
	t.Parallel()
	forests(t, func(t *testing.T, f *forest, _ *regtest.Server) {
		a := f.image("a", "a")
		f.sign("a's signature", a)
		f.image("b", "b")
		child := f.image("child")
		f.sign("child's signature", child)
		index := f.index("index", []string{"multi"}, child) // distribution loses the tag "index"
		sbom := f.refer("sbom", a, typeSBOM)
		f.sign("sbom's signature", sbom)
		ref := f.repo.Reference()
		got, err := f.walk(WalkOptions{From: []Reference{ref.With("", index.Descriptor.Digest), ref.With("b", "")}})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, []string{
			"index: root root=index read",
			"child: child root=index in=index on=linux/cpu0 refs=child's signature",
			"b: root root=b tags=b read",
		})
		// A referrer leads to what refers to it, not up to its subject.
		got, err = f.walk(WalkOptions{From: []Reference{ref.With("", sbom.Descriptor.Digest)}})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, []string{"sbom: root root=sbom refs=sbom's signature read"})
		// The repository beside a digest that no tag leads to.
		lost := f.image("lost")
		got, err = f.walk(WalkOptions{Parallel: 1, From: []Reference{ref, ref.With("", lost.Descriptor.Digest), ref.With("gone", "")}})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(got, "lost: root root=lost read") || len(got) != 7 || !slices.Contains(got, "-: root root=- tags=gone error=not-found") {
			t.Errorf("visits %q", got)
		}
	})
}

// TestWalkErrors: what one artifact's failure is, and that the others are visited all the same.
func TestWalkErrors(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	f := newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"))
	f.image("good", "good")
	f.image("unreadable", "unreadable")
	unlisted := f.image("unlisted")
	gone := f.index("gone", nil)
	index := f.index("index", []string{"index"}, unlisted, gone, f.image("child"))
	f.sign("signature", index)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/v2/app/manifests/unreadable":
			w.WriteHeader(http.StatusForbidden)
		case "/v2/app/referrers/" + string(unlisted.Descriptor.Digest):
			w.WriteHeader(http.StatusForbidden)
		case "/v2/app/manifests/" + string(gone.Descriptor.Digest):
			w.WriteHeader(http.StatusNotFound)
		default:
			return false
		}
		return true
	})
	got, err := f.walk(WalkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, []string{
		"good: root root=good tags=good read",
		"-: root root=- tags=unreadable error=forbidden",
		"index: root root=index tags=index refs=signature read",
		"unlisted: child root=index in=index on=linux/cpu0 error=forbidden",
		"gone: child root=index in=index on=linux/cpu1 error=not-found",
		"child: child root=index in=index on=linux/cpu2",
	})
}

// TestWalkEnds: visit's error and the context end it, soon, and nothing more is asked for.
func TestWalkEnds(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	f := newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"))
	for i := range 40 {
		f.image(fmt.Sprint("image", i), fmt.Sprint("v", i))
	}
	enough := errors.New("enough")
	var visits atomic.Int32
	err := f.repo.Walk(t.Context(), WalkOptions{Parallel: 2}, func(context.Context, Visit) error {
		if visits.Add(1) == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || visits.Load() > 4 {
		t.Errorf("error %v after %d visits", err, visits.Load())
	}
	before := s.Count(nil)

	ctx, cancel := context.WithCancelCause(t.Context())
	began := make(chan struct{}, 64)
	s.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") {
			began <- struct{}{}
			<-r.Context().Done() // the client goes away
			return true
		}
		return false
	})
	go func() {
		<-began
		cancel(enough)
	}()
	start := time.Now()
	err = f.repo.Walk(ctx, WalkOptions{Parallel: 4}, func(context.Context, Visit) error {
		t.Error("visited after the end")
		return nil
	})
	if !errors.Is(err, enough) || time.Since(start) > 2*time.Second {
		t.Errorf("error %v after %s", err, time.Since(start))
	}
	if asked := s.Count(nil) - before; asked > 12 {
		t.Errorf("%d requests", asked)
	}
}

// TestWalkIsConcurrent: as many visits at once as there are slots, of several walks together.
func TestWalkIsConcurrent(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	f := newForest(t, openTest(t, newTestClient(t, Options{}), s.Host, "app"))
	for i := range 12 {
		f.image(fmt.Sprint("image", i), fmt.Sprint("v", i))
	}
	for _, tt := range []struct {
		name  string
		o     WalkOptions
		walks int
	}{
		{"parallel", WalkOptions{Parallel: 3}, 1},
		{"slots", WalkOptions{Parallel: 9, Slots: make(chan struct{}, 3)}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			now, most := 0, 0
			full := make(chan struct{})
			var wg sync.WaitGroup
			for range tt.walks {
				wg.Go(func() {
					err := f.repo.Walk(t.Context(), tt.o, func(context.Context, Visit) error {
						mu.Lock()
						now++
						if now > most {
							if most = now; most == 3 {
								close(full)
							}
						}
						mu.Unlock()
						<-full // until three are here at once
						mu.Lock()
						now--
						mu.Unlock()
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if most != 3 {
				t.Errorf("%d at once, want 3", most)
			}
		})
	}
}

// TestWalkAnswers: what registries say that lie, or are broken.
func TestWalkAnswers(t *testing.T) {
	t.Parallel()
	image := NewManifest(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`))
	fake := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }
	empty := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`)
	tags := func(tags ...string) []byte {
		b, _ := json.Marshal(map[string]any{"name": "app", "tags": tags})
		return b
	}
	index := func(w http.ResponseWriter, entries ...ocispec.Descriptor) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": entries})
		_, _ = w.Write(b)
	}
	sbom := func(d digest.Digest) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: typeSBOM, Digest: d, Size: 9}
	}
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request, n int) bool // n-th request, from 1
		visits int
		errs   []string // reasons of visits' errors
		err    error    // of the walk
		most   int      // requests
	}{
		{"C02 endless pages of tags", func(w http.ResponseWriter, r *http.Request, n int) bool {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				w.Header().Set("Link", fmt.Sprintf(`</v2/app/tags/list?n=1&last=%d>; rel="next"`, n))
				_, _ = w.Write(tags("v1"))
				return true
			}
			return false
		}, 1, nil, ErrCapped, 100 + 3},
		{"C02 pages of tags in a circle", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				w.Header().Set("Link", `</v2/app/tags/list?n=1000>; rel="next"`)
				_, _ = w.Write(tags("v1"))
				return true
			}
			return false
		}, 1, nil, ErrCapped, 4},
		{"C02 pages of tags on another host", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				w.Header().Set("Link", `<http://192.0.2.1/v2/app/tags/list?last=v1>; rel="next"`)
				_, _ = w.Write(tags("v1"))
				return true
			}
			return false
		}, 1, nil, ErrCapped, 4},
		{"C02 a list of referrers on another host", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.Contains(r.URL.Path, "/referrers/") {
				w.Header().Set("Link", `<http://192.0.2.1/>; rel="next"`)
				index(w, sbom(fake(1)))
				return true
			}
			return false
		}, 1, []string{codeLink}, nil, 4},
		{"C05 referrers of referrers without end", func(w http.ResponseWriter, r *http.Request, n int) bool {
			if strings.Contains(r.URL.Path, "/referrers/") {
				index(w, sbom(fake(n)))
				return true
			}
			return false
		}, 1 + MaxDepth + 1, []string{codeTooLarge}, nil, 2 + 1 + MaxDepth},
		{"C05 a circle of referrers", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			switch {
			case strings.HasSuffix(r.URL.Path, string(image.Descriptor.Digest)):
				index(w, sbom(fake(1)))
			case strings.HasSuffix(r.URL.Path, string(fake(1))):
				d := sbom(image.Descriptor.Digest)
				d.Size = image.Descriptor.Size
				index(w, d)
			default:
				return false
			}
			return true
		}, 2, nil, nil, 4},
		{"C02 a tree of more manifests than are followed", func(w http.ResponseWriter, r *http.Request, n int) bool {
			if strings.Contains(r.URL.Path, "/referrers/") && n <= 5 {
				var list []ocispec.Descriptor
				for i := range 450 {
					list = append(list, sbom(fake(n*10000+i)))
				}
				index(w, list...)
				return true
			}
			return false
		}, 1000 + 1, []string{codeCapped}, nil, 1000 + 3},
		{"C02 more referrers than are followed", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.Contains(r.URL.Path, "/referrers/") {
				var list []ocispec.Descriptor
				for i := range MaxReferrers + 1 {
					list = append(list, sbom(fake(i)))
				}
				index(w, list...)
				return true
			}
			return false
		}, 1, []string{codeCapped}, nil, 3},
		{"G17 tags unsorted, doubled, and none", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				_, _ = w.Write(tags("z", "a", "a", "z", "../../x", "a"))
				return true
			}
			return false
		}, 2, []string{codeMalformed}, nil, 4},
		{"G17 more tags than are followed", func(w http.ResponseWriter, r *http.Request, n int) bool {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				w.Header().Set("Link", fmt.Sprintf(`</v2/app/tags/list?last=%d>; rel="next"`, n))
				_, _ = w.Write([]byte(`{"tags":["v1"` + strings.Repeat(`,"v1"`, 99_999) + `]}`))
				return true
			}
			return false
		}, 1, nil, ErrCapped, 11 + 3},
		{"tags that are HTML", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				_, _ = w.Write([]byte("<html>"))
				return true
			}
			return false
		}, 0, nil, ErrMalformed, 1},
		{"no such repository", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors":[{"code":"NAME_UNKNOWN"}]}`))
			return true
		}, 0, nil, ErrNotFound, 1},
		{"a tag that is listed and not there", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				_, _ = w.Write(tags("v1", "gone"))
				return true
			}
			return false
		}, 2, []string{codeNotFound}, nil, 4},
		{"a schema 1 manifest", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/manifests/v1") {
				w.Header().Set("Content-Type", typeSignedSchema1)
				_, _ = w.Write([]byte(`{"schemaVersion":1}`))
				return true
			}
			return false
		}, 1, nil, nil, 3},
		{"a manifest that is read in two ways", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/manifests/v1") {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`))
				return true
			}
			return false
		}, 1, []string{codeAmbiguous}, nil, 2},
		{"a build's cache is an index of layers", func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/manifests/v1") {
				index(w, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: fake(1), Size: 1},
					ocispec.Descriptor{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: fake(2), Size: 1})
				return true
			}
			return false
		}, 1, nil, nil, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.answer(w, r, int(n.Add(1))) {
					return
				}
				switch {
				case strings.HasSuffix(r.URL.Path, "/tags/list"):
					_, _ = w.Write(tags("v1"))
				case strings.Contains(r.URL.Path, "/referrers/"):
					w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
					_, _ = w.Write(empty)
				case strings.HasPrefix(r.URL.Path, "/v2/app/manifests/") && len(r.URL.Path) < len("/v2/app/manifests/123"):
					w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
					_, _ = w.Write(image.Bytes)
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			}))
			var mu sync.Mutex
			var visits []Visit
			w := newWalk(openTest(t, newTestClient(t, Options{}), s.Host, "app"), WalkOptions{}, func(_ context.Context, v Visit) error {
				mu.Lock()
				defer mu.Unlock()
				visits = append(visits, v)
				return nil
			})
			w.pages, w.nodes = 100, 1000
			err := w.run(t.Context())
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			var errs []string
			for _, v := range visits {
				if v.Err != nil {
					errs = append(errs, reason(v.Err))
				}
			}
			if diff := cmp.Diff(tt.errs, errs); diff != "" {
				t.Errorf("errors of visits (-want +got):\n%s", diff)
			}
			if len(visits) != tt.visits {
				t.Errorf("%d visits, want %d", len(visits), tt.visits)
			}
			if got := int(n.Load()); got > tt.most {
				t.Errorf("%d requests, want at most %d", got, tt.most)
			}
		})
	}
}

// TestWalkLies: an index that describes a tagged artifact wrongly hides neither it nor what it contains.
func TestWalkLies(t *testing.T) {
	t.Parallel()
	forests(t, func(t *testing.T, f *forest, s *regtest.Server) {
		if s != nil && s.Kind == regtest.WithoutAPI {
			t.Skip("distribution looks at what an index contains")
		}
		child := f.image("child")
		f.sign("child's signature", child)
		victim := f.index("victim", []string{"victim"}, child)
		f.sign("victim's signature", victim)
		d := plainDescriptor(victim)
		d.MediaType, d.Size = ocispec.MediaTypeImageManifest, d.Size+1
		liar := f.is("liar", putIndex(t, f.repo, d))
		f.tag(liar, "a-liar")
		got, err := f.walk(WalkOptions{Parallel: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"victim: root root=victim tags=victim refs=victim's signature read",
			"child: child root=victim in=victim on=linux/cpu0 refs=child's signature",
		} {
			if !slices.Contains(got, want) {
				t.Errorf("no visit %q in %q", want, got)
			}
		}
	})
}

// TestWalkLayout: what only the index of a layout lists, without a name.
func TestWalkLayout(t *testing.T) {
	t.Parallel()
	f := newForest(t, newLayout(t))
	nameless := f.image("nameless")
	f.tag(nameless, "")
	f.sign("signature", nameless)
	gone := f.is("gone", manifestOf(t, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": ocispec.DescriptorEmptyJSON, "layers": []any{}}, ocispec.MediaTypeImageManifest))
	f.sign("signature of what is gone", gone)
	f.image("unreachable")
	got, err := f.walk(WalkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, []string{
		"nameless: root root=nameless refs=signature read",
		"gone: fallback root=gone error=not-found",
	})

	// An archive is walked likewise.
	file := filepath.Join(t.TempDir(), "a.tar")
	c := newTestClient(t, Options{})
	a, err := c.Create(t.Context(), Reference{Kind: Archive, Path: file}, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in := newForest(t, a)
	in.sign("signature", in.image("image", "1.0"))
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	if in.repo, err = c.Open(t.Context(), Reference{Kind: Archive, Path: file}); err != nil {
		t.Fatal(err)
	}
	defer in.repo.Close()
	if got, err = in.walk(WalkOptions{}); err != nil {
		t.Fatal(err)
	}
	same(t, got, []string{"image: root root=image tags=1.0 refs=signature read"})
}

// TestG17TagsAhead: of a long list of tags no more is read than is soon asked for.
func TestG17TagsAhead(t *testing.T) {
	t.Parallel()
	image := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`)
	var pages atomic.Int32
	enough := make(chan struct{})
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			n := pages.Add(1)
			if n == tagsAhead/1000+2 {
				close(enough)
			}
			var tags []string
			for i := range 1000 {
				tags = append(tags, fmt.Sprintf("v%d-%d", n, i))
			}
			w.Header().Set("Link", fmt.Sprintf(`</v2/app/tags/list?last=%d>; rel="next"`, n))
			_ = json.NewEncoder(w).Encode(map[string]any{"tags": tags})
		case strings.Contains(r.URL.Path, "/manifests/v"):
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = w.Write(image)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	err := openTest(t, newTestClient(t, Options{}), s.Host, "app").Walk(ctx, WalkOptions{Parallel: 1}, func(ctx context.Context, v Visit) error {
		<-enough
		time.Sleep(50 * time.Millisecond) // in which a walk that reads on would have read on
		cancel(stop)
		return nil
	})
	if got := pages.Load(); !errors.Is(err, stop) || got > tagsAhead/1000+3 {
		t.Errorf("%d pages of tags were read ahead (%v)", got, err)
	}
}
