package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// What is wrong with what is copied (C01 to C16), through `imprint copy`.

const (
	srcRepo = "app"
	dstRepo = "copied"
)

// A crossing is a way from one registry to another. The destination believes whatever it is sent: what is wrong there
// afterwards came through imprint.
type crossing struct {
	*person
	src, dst *fake
	a        artifact
	from, to string
}

func newCrossing(t testing.TB, a artifact) *crossing {
	t.Helper()
	c := &crossing{person: newPerson(t), src: newFake(t), dst: newFake(t), a: a}
	c.src.putArtifact(srcRepo, "v1", a)
	c.from, c.to = c.src.Host+"/"+srcRepo+":v1", c.dst.Host+"/"+dstRepo+":v1"
	c.dst.Intercept(c.dst.believe)
	return c
}

// believe stores a blob under whatever digest it is said to have, once all that was announced of it has come.
func (f *fake) believe(w http.ResponseWriter, r *http.Request) bool {
	d := r.URL.Query().Get("digest")
	if d == "" || !strings.Contains(r.URL.Path, "/blobs/uploads/") || r.Method != http.MethodPut && r.Method != http.MethodPost {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[digest.Digest(d)] = body
	w.Header().Set("Location", strings.TrimSuffix(r.URL.Path, "uploads/")+d)
	w.WriteHeader(http.StatusCreated)
	return true
}

// copy copies, and wants an exit code and a reason code; whatever came of it, what the destination holds is what it is said to be.
func (c *crossing) copy(t testing.TB, code int, reason string, more ...string) outcome {
	t.Helper()
	o := c.want(t, code, reason, append([]string{"copy", c.from, c.to}, more...)...)
	c.dst.sound(t)
	return o
}

// refused is copy that fails: one error with a hint, and no tag.
func (c *crossing) refused(t testing.TB, code int, reason string, more ...string) outcome {
	t.Helper()
	o := c.copy(t, code, reason, more...)
	if err := oneError("", withoutWarnings(o.stderr)); err != nil {
		t.Error(err)
	}
	if tags := c.dst.tagged(dstRepo); len(tags) != 0 {
		t.Errorf("tags were written: %v", tags)
	}
	return o
}

// untouched wants that nothing at all was written at the destination.
func (c *crossing) untouched(t testing.TB) {
	t.Helper()
	if n := c.dst.Writes(); n != 0 {
		t.Errorf("%d writes at the destination", n)
	}
}

// arrived wants that the destination's tag names the source's artifact, with so many referrers.
func (c *crossing) arrived(t testing.TB, referrers int) {
	t.Helper()
	c.dst.mu.Lock()
	m := c.dst.manifests[dstRepo+":v1"]
	c.dst.mu.Unlock()
	if m.digest != c.a.descriptor.Digest || m.mediaType != c.a.descriptor.MediaType || !bytes.Equal(m.b, c.a.manifest) {
		t.Errorf("v1 is %q %s, want %q %s", m.mediaType, m.digest, c.a.descriptor.MediaType, c.a.descriptor.Digest)
	}
	for _, b := range c.a.blobs {
		c.dst.mu.Lock()
		got := c.dst.blobs[b.descriptor.Digest]
		c.dst.mu.Unlock()
		if !bytes.Equal(got, b.b) {
			t.Errorf("blob %s did not arrive", b.descriptor.Digest)
		}
	}
	if list := c.dst.referrers(dstRepo, c.a.descriptor.Digest); len(list) != referrers {
		t.Errorf("%d referrers are listed, want %d: %v", len(list), referrers, list)
	}
}

// tagged returns the tags of a repository that are no fallback tags.
func (f *fake) tagged(repo string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(f.tags(repo), func(tag string) bool { return strings.HasPrefix(tag, "sha256-") })
}

// sound wants each blob and manifest to be what its digest says.
func (f *fake) sound(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for d, b := range f.blobs {
		if got := d.Algorithm().FromBytes(b); got != d {
			t.Errorf("%d bytes of %s are stored as blob %s", len(b), got, d)
		}
	}
	for at, m := range f.manifests {
		if _, by, ok := strings.Cut(at, "@"); ok && digest.Digest(by).Algorithm().FromBytes(m.b).String() != by {
			t.Errorf("a manifest is stored as %s, and is not", at)
		}
	}
}

// has reports whether a repository has a manifest.
func (f *fake) has(repo string, d digest.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.manifests[repo+"@"+d.String()]
	return ok
}

// object returns status and reason of a manifest in what copy told.
func (o outcome) object(t testing.TB, d digest.Digest) string {
	t.Helper()
	docs, err := documents(o.stdout)
	if err != nil || len(docs) == 0 {
		t.Fatalf("stdout is no JSON: %v\n%s%s", err, o.stdout, o.stderr)
	}
	for i := 0; ; i++ {
		v, ok := lookup(docs[0], fmt.Sprintf("objects.%d", i))
		if !ok {
			return ""
		}
		if at, _ := lookup(v, "descriptor.digest"); at == d.String() {
			status, _ := lookup(v, "status")
			reason, ok := lookup(v, "reason")
			if !ok {
				return said(status)
			}
			return said(status) + " " + said(reason)
		}
	}
}

// imageWith makes an image of one layer; edit may spoil its manifest before it is encoded.
func imageWith(layer []byte, edit func(m *ocispec.Manifest)) artifact {
	a := image("x")
	var m ocispec.Manifest
	if err := json.Unmarshal(a.manifest, &m); err != nil {
		panic(err)
	}
	config := a.blobs[0]
	m.Layers[0] = describe(ocispec.MediaTypeImageLayerGzip, layer)
	l := blob{m.Layers[0], layer}
	if edit != nil {
		edit(&m)
	}
	a = newArtifact(ocispec.MediaTypeImageManifest, m)
	a.blobs = []blob{config, l}
	return a
}

// on makes an interceptor of the requests of a method whose path contains something.
func on(method, in string, answer func(w http.ResponseWriter, r *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == method && strings.Contains(r.URL.Path, in) && answer(w, r)
	}
}

// first returns an interceptor that asks one after another.
func first(all ...func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		for _, f := range all {
			if f(w, r) {
				return true
			}
		}
		return false
	}
}

// always is an answer without a look at the request.
func always(answer func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		answer(w)
		return true
	}
}

func TestHostileCopyBlobs(t *testing.T) {
	t.Parallel()
	const megabytes = 8 << 20
	for size, n := range map[string]int{"small": 100, "large": 1 << 20} {
		layer := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		plain := func(w http.ResponseWriter, b []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			_, _ = w.Write(b)
		}
		raw := func(w http.ResponseWriter, announced int, b []byte) {
			conn, out, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", announced)
			_, _ = out.Write(b)
			_ = out.Flush()
		}
		chunked := func(w http.ResponseWriter, b []byte) {
			for len(b) > 0 {
				k := min(len(b), 32<<10)
				if _, err := w.Write(b[:k]); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				b = b[k:]
			}
		}
		spoilt := bytes.Clone(layer)
		spoilt[n/2] ^= 1
		for name, c := range map[string]struct {
			serve func(w http.ResponseWriter)
			edit  func(m *ocispec.Manifest)
			code  int
			why   string
		}{
			"C01 blob bytes differ":                      {func(w http.ResponseWriter) { plain(w, spoilt) }, nil, 4, "digest-mismatch"},
			"C01 blob bytes differ at the end":           {func(w http.ResponseWriter) { plain(w, append(bytes.Clone(layer[:n-1]), '!')) }, nil, 4, "digest-mismatch"},
			"C01 blob bytes differ, chunked":             {func(w http.ResponseWriter) { chunked(w, spoilt) }, nil, 4, "digest-mismatch"},
			"C01 descriptor says less":                   {func(w http.ResponseWriter) { plain(w, layer) }, func(m *ocispec.Manifest) { m.Layers[0].Size-- }, 4, "digest-mismatch"},
			"C01 descriptor says more":                   {func(w http.ResponseWriter) { plain(w, layer) }, func(m *ocispec.Manifest) { m.Layers[0].Size++ }, 4, "digest-mismatch"},
			"C01 descriptor says less, chunked":          {func(w http.ResponseWriter) { chunked(w, layer) }, func(m *ocispec.Manifest) { m.Layers[0].Size-- }, 4, "digest-mismatch"},
			"C01 descriptor says nothing":                {func(w http.ResponseWriter) { chunked(w, layer) }, func(m *ocispec.Manifest) { m.Layers[0].Size = 0 }, 4, "digest-mismatch"},
			"C01 longer than Content-Length":             {func(w http.ResponseWriter) { raw(w, n, append(bytes.Clone(layer), layer...)) }, nil, 0, ""},
			"C01 longer than a Content-Length that lies": {func(w http.ResponseWriter) { raw(w, n/2, layer) }, nil, 4, "digest-mismatch"},
			"C01 endless body": {func(w http.ResponseWriter) {
				chunked(w, layer)
				chunked(w, make([]byte, 64*megabytes))
			}, nil, 4, "digest-mismatch"},
			"C01 an error page instead": {func(w http.ResponseWriter) { plain(w, []byte(`{"errors":[{"code":"BLOB_UNKNOWN"}]}`)) }, nil, 4, "digest-mismatch"},
		} {
			t.Run(name+", "+size, func(t *testing.T) {
				t.Parallel()
				a := imageWith(layer, c.edit)
				x := newCrossing(t, a)
				var served atomic.Int64
				x.src.Intercept(on(http.MethodGet, "/blobs/"+digest.FromBytes(layer).String(), func(w http.ResponseWriter, _ *http.Request) bool {
					c.serve(&counting{w, &served})
					return true
				}))
				if c.code == 0 {
					x.copy(t, 0, "")
					x.arrived(t, 0)
					return
				}
				x.refused(t, c.code, c.why)
				x.dst.mu.Lock()
				_, stored := x.dst.blobs[digest.FromBytes(layer)]
				x.dst.mu.Unlock()
				if stored || x.dst.has(dstRepo, a.descriptor.Digest) {
					t.Error("the blob, or the manifest that names it, was stored")
				}
				if n := served.Load(); n > 3*megabytes {
					t.Errorf("%d bytes were taken of a blob of %d", n, len(layer))
				}
				if n := x.src.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/blobs/") }); n > 12 {
					t.Errorf("%d requests for two blobs", n)
				}
			})
		}
	}
}

// counting counts the bytes of answers.
type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// page writes a page of a list of referrers, and where the next is said to be.
func page(w http.ResponseWriter, next string, entries []ocispec.Descriptor) {
	if next != "" {
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
	if entries == nil {
		entries = []ocispec.Descriptor{}
	}
	writeJSON(w, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries})
}

// invented makes entries of referrers that nobody has.
func invented(from, n int) []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, n)
	for i := range out {
		out[i] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(fmt.Sprintf("sha256:%064x", from+i+1)), Size: 7}
	}
	return out
}

func TestHostileCopyLists(t *testing.T) {
	t.Parallel()
	elsewhere := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { page(w, "", nil) }))
	for name, c := range map[string]struct {
		list   func(w http.ResponseWriter, r *http.Request, n int)
		code   int
		reason string
		says   string
		most   int // requests for lists
	}{
		"C02 a million referrers": {func(w http.ResponseWriter, r *http.Request, n int) {
			page(w, fmt.Sprintf("%s?page=%d", r.URL.Path, n+1), invented(9000*n, 9000))
		}, 7, "list-capped", "10000", 3},
		"C02 a million in one page": {func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			b, _ := json.Marshal(invented(0, 1000))
			_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[{}`)
			for range 1000 {
				if _, err := w.Write(append([]byte{','}, b[1:len(b)-1]...)); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, "]}")
		}, 4, "too-large", "4194304", 1},
		"C02 endless Link": {func(w http.ResponseWriter, r *http.Request, n int) {
			page(w, fmt.Sprintf("%s?page=%d", r.URL.Path, n+1), invented(n, 1))
		}, 7, "list-capped", "100", 100},
		"C02 endless Link of empty pages": {func(w http.ResponseWriter, r *http.Request, n int) {
			page(w, fmt.Sprintf("%s?page=%d", r.URL.Path, n+1), nil)
		}, 7, "list-capped", "100", 100},
		"C02 endless Link of one entry again and again": {func(w http.ResponseWriter, r *http.Request, n int) {
			page(w, fmt.Sprintf("%s?page=%d", r.URL.Path, n+1), invented(0, 1))
		}, 7, "list-capped", "100", 100},
		"C02 Link to itself": {func(w http.ResponseWriter, r *http.Request, _ int) { page(w, r.URL.String(), nil) }, 7, "link-refused", "1 page", 1},
		"C02 Link in a circle": {func(w http.ResponseWriter, r *http.Request, n int) {
			page(w, fmt.Sprintf("%s?page=%d", r.URL.Path, n%3), nil)
		}, 7, "link-refused", "pages", 4},
		"C02 Link to another host": {func(w http.ResponseWriter, r *http.Request, _ int) {
			page(w, "http://"+elsewhere.Host+r.URL.Path, nil)
		}, 7, "link-refused", "somewhere else", 1},
		"C02 Link to another host without scheme": {func(w http.ResponseWriter, r *http.Request, _ int) {
			page(w, "//"+elsewhere.Host+r.URL.Path, nil)
		}, 7, "link-refused", "somewhere else", 1},
		"C02 Link to another scheme": {func(w http.ResponseWriter, r *http.Request, _ int) {
			page(w, "https://"+r.Host+r.URL.Path, nil)
		}, 7, "link-refused", "somewhere else", 1},
		"C02 Link with a user": {func(w http.ResponseWriter, r *http.Request, _ int) {
			page(w, "http://somebody:else@"+r.Host+r.URL.Path+"?page=2", nil)
		}, 7, "link-refused", "somewhere else", 1},
		"C02 Link that is no URL": {func(w http.ResponseWriter, _ *http.Request, _ int) { page(w, "http://[::1%25/", nil) }, 7, "link-refused", "somewhere else", 1},
		"C02 a second page that is no list": {func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 0 {
				page(w, r.URL.Path+"?page=1", nil)
				return
			}
			_, _ = io.WriteString(w, "<html>")
		}, 4, "manifest-malformed", "no OCI index", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, image(name))
			var asked atomic.Int64
			x.src.Intercept(on(http.MethodGet, "/referrers/", func(w http.ResponseWriter, r *http.Request) bool {
				c.list(w, r, int(asked.Add(1)-1))
				return true
			}))
			o := x.refused(t, c.code, c.reason)
			if !strings.Contains(o.stderr, c.says) {
				t.Errorf("%q is not said: %s", c.says, o.stderr)
			}
			if x.dst.has(dstRepo, x.a.descriptor.Digest) {
				t.Error("the artifact is there without what refers to it")
			}
			if n := int(asked.Load()); n > c.most {
				t.Errorf("%d requests for lists, at most %d", n, c.most)
			}
			if n := x.src.Count(nil); n > c.most+20 {
				t.Errorf("%d requests in all", n)
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.Count(nil); n != 0 {
			t.Errorf("%d requests went to the other host", n)
		}
	})
}

func TestHostileCopyReferrers(t *testing.T) {
	t.Parallel()
	// tampered copies an artifact with one SBOM and one signature, whose list the source changes before it hands it out.
	type listing struct {
		sbom, signature ocispec.Descriptor
		all             []ocispec.Descriptor
	}
	tampered := func(t *testing.T, change func(x *crossing, l listing, w http.ResponseWriter) []ocispec.Descriptor) (*crossing, listing) {
		a := image(t.Name())
		a.referrers = []artifact{sbom(a.descriptor, "what is in it")}
		x := newCrossing(t, a)
		key, chain := certtest.ChainOf(2, "P-256")
		l := listing{sbom: a.referrers[0].descriptor}
		l.signature = x.src.attach(srcRepo, a.descriptor, jwsType, newJWS(key, chain, a.descriptor).bytes())
		l.all = x.src.referrers(srcRepo, a.descriptor.Digest)
		x.src.Intercept(on(http.MethodGet, "/referrers/"+a.descriptor.Digest.String(), func(w http.ResponseWriter, _ *http.Request) bool {
			page(w, "", change(x, l, w))
			return true
		}))
		return x, l
	}
	claims := func(w http.ResponseWriter) { w.Header().Set("OCI-Filters-Applied", "artifactType") }

	t.Run("C03 filters that were claimed and not applied", func(t *testing.T) {
		t.Parallel()
		x, l := tampered(t, func(_ *crossing, l listing, w http.ResponseWriter) []ocispec.Descriptor { claims(w); return l.all })
		x.copy(t, 0, "", "--referrers", "signatures")
		x.arrived(t, 1)
		if !x.dst.has(dstRepo, l.signature.Digest) || x.dst.has(dstRepo, l.sbom.Digest) {
			t.Error("not the signature alone")
		}
	})
	t.Run("C03 nothing is claimed, nothing filtered", func(t *testing.T) {
		t.Parallel()
		x, l := tampered(t, func(_ *crossing, l listing, _ http.ResponseWriter) []ocispec.Descriptor { return l.all })
		x.copy(t, 0, "", "--referrers", "signatures")
		x.arrived(t, 1)
		if x.dst.has(dstRepo, l.sbom.Digest) {
			t.Error("the SBOM went along")
		}
	})
	t.Run("C03 an entry without a type", func(t *testing.T) {
		t.Parallel()
		x, l := tampered(t, func(_ *crossing, l listing, w http.ResponseWriter) []ocispec.Descriptor {
			claims(w)
			signature := l.signature
			signature.ArtifactType = ""
			return []ocispec.Descriptor{signature}
		})
		x.copy(t, 0, "", "--referrers", "signatures")
		x.arrived(t, 1)
		if !x.dst.has(dstRepo, l.signature.Digest) {
			t.Error("the signature stayed behind")
		}
	})
	t.Run("C04 a subject that is another digest", func(t *testing.T) {
		t.Parallel()
		other := image("the other")
		stray := sbom(other.descriptor, "of the other")
		x, _ := tampered(t, func(x *crossing, l listing, _ http.ResponseWriter) []ocispec.Descriptor {
			d := x.src.putArtifact(srcRepo, "", stray)
			d.ArtifactType = signatureType
			return append(l.all, d)
		})
		o := x.copy(t, 0, "foreign-subject")
		x.arrived(t, 2)
		if got := o.object(t, stray.descriptor.Digest); got != "skipped foreign-subject" || x.dst.has(dstRepo, stray.descriptor.Digest) {
			t.Errorf("it is %q", got)
		}
		if !strings.Contains(o.stderr, "left behind") {
			t.Errorf("it is not told: %s", o.stderr)
		}
	})
	t.Run("C04 the artifact itself, and its own child", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, index("listed by itself"))
		child := x.a.children[0].descriptor
		x.src.list(srcRepo, x.a.descriptor.Digest, x.a.descriptor)
		x.src.list(srcRepo, x.a.descriptor.Digest, child)
		x.copy(t, 0, "foreign-subject")
		x.arrived(t, 0)
	})
	t.Run("C04 an entry of the wrong size", func(t *testing.T) {
		t.Parallel()
		x, _ := tampered(t, func(_ *crossing, l listing, _ http.ResponseWriter) []ocispec.Descriptor {
			for i := range l.all {
				l.all[i].Size += 5
			}
			return l.all
		})
		x.refused(t, 4, "digest-mismatch")
		if x.dst.has(dstRepo, x.a.descriptor.Digest) { // its blobs may have begun to travel
			t.Error("the artifact is there without what refers to it")
		}
	})
	t.Run("C04 entries that are no descriptors", func(t *testing.T) {
		t.Parallel()
		x, l := tampered(t, func(_ *crossing, l listing, w http.ResponseWriter) []ocispec.Descriptor {
			return append([]ocispec.Descriptor{{MediaType: "m", Digest: "sha256:../../x", Size: 1}, {}, {MediaType: "m", Digest: l.sbom.Digest, Size: -1}}, l.all...)
		})
		o := x.copy(t, 0, "")
		x.arrived(t, 2)
		if !strings.Contains(o.stderr, "passed over") || !x.dst.has(dstRepo, l.signature.Digest) {
			t.Errorf("it is not told: %s", o.stderr)
		}
	})
	t.Run("C04 data in an entry that is not the manifest", func(t *testing.T) {
		t.Parallel()
		x, _ := tampered(t, func(_ *crossing, l listing, _ http.ResponseWriter) []ocispec.Descriptor {
			for i := range l.all {
				l.all[i].Data = []byte("not it")
			}
			return l.all
		})
		x.copy(t, 0, "")
		x.arrived(t, 2)
	})
	t.Run("C04 a list that changes between reads", func(t *testing.T) {
		t.Parallel()
		var reads atomic.Int64
		x, _ := tampered(t, func(_ *crossing, l listing, _ http.ResponseWriter) []ocispec.Descriptor {
			if reads.Add(1) == 1 {
				return l.all
			}
			return invented(0, 5)
		})
		o := x.copy(t, 0, "")
		x.arrived(t, 2)
		if strings.Contains(o.stdout, "ghost") || reads.Load() != 1 {
			t.Errorf("the list was read %d times: %s", reads.Load(), o.stdout)
		}
	})

	// deep makes an image below which so many referrers hang one from another.
	deep := func(n int) artifact {
		a := image(fmt.Sprint("deep ", n))
		var below func(d ocispec.Descriptor, left int) []artifact
		below = func(d ocispec.Descriptor, left int) []artifact {
			if left == 0 {
				return nil
			}
			r := sbom(d, fmt.Sprint("level ", left))
			r.referrers = below(r.descriptor, left-1)
			return []artifact{r}
		}
		a.referrers = below(a.descriptor, n)
		return a
	}
	t.Run("C05 referrers of referrers", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, deep(3))
		key, chain := certtest.ChainOf(2, "P-256")
		lowest := x.a.referrers[0].referrers[0].referrers[0].descriptor
		signature := x.src.attach(srcRepo, lowest, coseType, newCOSE(key, chain, lowest).bytes())
		x.copy(t, 0, "")
		x.arrived(t, 1)
		if list := x.dst.referrers(dstRepo, lowest.Digest); len(list) != 1 || list[0].Digest != signature.Digest {
			t.Errorf("the signature of the SBOM did not arrive: %v", list)
		}
	})
	t.Run("C05 as deep as is followed", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, deep(8))
		x.copy(t, 0, "")
		x.arrived(t, 1)
	})
	for _, n := range []int{9, 50} {
		t.Run(fmt.Sprintf("C05 depth %d", n), func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, deep(n))
			o := x.refused(t, 4, "too-large")
			if !strings.Contains(o.stderr, "deeper than 8") || x.src.Count(nil) > 60 {
				t.Errorf("%d requests: %s", x.src.Count(nil), o.stderr)
			}
			if x.dst.has(dstRepo, x.a.descriptor.Digest) {
				t.Error("the artifact is there without what refers to it")
			}
		})
	}
	t.Run("C05 cycles", func(t *testing.T) {
		t.Parallel()
		// An index that refers to the image which it contains, and is listed as a referrer of itself too.
		a := image("in a circle")
		m := ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: "application/x",
			Manifests: []ocispec.Descriptor{a.descriptor}, Subject: &a.descriptor,
		}
		round := newArtifact(ocispec.MediaTypeImageIndex, m)
		x := newCrossing(t, a)
		d := x.src.put(srcRepo, "round", round.descriptor.MediaType, round.manifest)
		x.src.list(srcRepo, a.descriptor.Digest, d)
		x.src.list(srcRepo, d.Digest, d)
		o := x.copy(t, 0, "")
		x.arrived(t, 1)
		if n := x.src.Count(nil); n > 12 {
			t.Errorf("%d requests: %s", n, o.stdout)
		}
		// From the other side: the root refers to its own child.
		y := newCrossing(t, round)
		y.a.blobs = nil
		y.src.putArtifact(srcRepo, "", a)
		y.src.list(srcRepo, a.descriptor.Digest, d)
		y.copy(t, 0, "")
		y.arrived(t, 0)
		if list := y.dst.referrers(dstRepo, a.descriptor.Digest); len(list) != 1 {
			t.Errorf("the child has %d referrers", len(list))
		}
	})
	t.Run("C05 indexes in indexes", func(t *testing.T) {
		t.Parallel()
		a := image("innermost")
		for range 20 {
			outer := newArtifact(ocispec.MediaTypeImageIndex, ocispec.Index{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{a.descriptor},
			})
			outer.children = []artifact{a}
			a = outer
		}
		x := newCrossing(t, a)
		x.refused(t, 4, "too-large")
		if n := x.src.Count(nil); n > 40 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestHostileCopyGate(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	dst := func(d *desk) string { return f.Host + "/" + d.repo + "-copied" }
	arrived := func(d *desk) []digest.Digest {
		var out []digest.Digest
		for _, r := range f.referrers(d.repo+"-copied", d.subject.Digest) {
			out = append(out, r.Digest)
		}
		return out
	}
	run := func(name string, test func(t *testing.T, d *desk, good, bad, wrong digest.Digest)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			key, chain := certtest.ChainOf(3, "P-256")
			bad := f.attach(d.repo, d.subject, jwsType, newJWS(key, chain, d.subject).bytes())
			s := d.jws().seal()
			s.signature = quote(b64(bytes.Repeat([]byte{7}, 64)))
			wrong := f.attach(d.repo, d.subject, jwsType, s.bytes())
			good := f.attach(d.repo, d.subject, coseType, d.cose().bytes())
			test(t, d, good.Digest, bad.Digest, wrong.Digest)
		})
	}
	run("C06 everything goes along by default", func(t *testing.T, d *desk, good, bad, wrong digest.Digest) {
		d.want(t, 0, "", "copy", d.ref, dst(d))
		if n := len(arrived(d)); n != 3 {
			t.Errorf("%d of 3 signatures", n)
		}
	})
	run("C06 accepted by policy", func(t *testing.T, d *desk, good, bad, wrong digest.Digest) {
		d.want(t, 0, "", "copy", d.ref, dst(d), "--root", d.at("root.pem"))
		if n := len(arrived(d)); n != 3 {
			t.Errorf("%d of 3 signatures", n)
		}
	})
	run("C06 not accepted by policy", func(t *testing.T, d *desk, good, bad, wrong digest.Digest) {
		other := d.file("other.pem", certtest.PEM(certtest.Root("nobody").Certificate))
		for _, more := range [][]string{nil, {"--only-accepted"}} {
			o := d.want(t, 1, "no-trusted-signature", append([]string{"copy", d.ref, dst(d), "--root", other}, more...)...)
			d.clean(t, o)
		}
		if n := f.Count(func(r regtest.Request) bool { return r.Write() && strings.Contains(r.Path, "/"+d.repo+"-copied/") }); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
	run("C06 only what is accepted", func(t *testing.T, d *desk, good, bad, wrong digest.Digest) {
		o := d.want(t, 0, "", "copy", d.ref, dst(d), "--root", d.at("root.pem"), "--only-accepted")
		if got := arrived(d); !slices.Equal(got, []digest.Digest{good}) {
			t.Errorf("%v arrived", got)
		}
		for of, want := range map[digest.Digest]string{bad: "skipped root-not-trusted", wrong: "skipped signature-invalid"} {
			if got := o.object(t, of); got != want {
				t.Errorf("%s: %q, want %q", of, got, want)
			}
		}
		d.want(t, 0, "", "verify", dst(d)+":v1", "--root", d.at("root.pem"))
	})
	run("C06 only signatures that verify count for --require-signature", func(t *testing.T, d *desk, good, bad, wrong digest.Digest) {
		f.mu.Lock()
		at := d.repo + "@" + d.subject.Digest.String()
		f.listed[at] = slices.DeleteFunc(f.listed[at], func(r ocispec.Descriptor) bool { return r.Digest != wrong })
		f.mu.Unlock()
		d.want(t, 1, "signature-invalid", "copy", d.ref, dst(d), "--require-signature")
		if len(arrived(d)) != 0 {
			t.Error("it was copied")
		}
	})

	longer := certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(4, 0, 0))
	rechained := func(t *testing.T, d *desk) (old, renewed digest.Digest) {
		d.signed()
		old = d.listed()[0]
		ca := d.root.Intermediate("desk CA 2", longer)
		d.want(t, 0, "", d.rechain(ca.Chain(ca.Leaf(d.key.Public(), "desk", longer)))...)
		for _, l := range d.listed() {
			if l != old {
				renewed = l
			}
		}
		return old, renewed
	}
	t.Run("C08 a stale chain comes back", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		old, renewed := rechained(t, d)
		d.want(t, 0, "", "copy", d.ref, dst(d))
		// The destination keeps the renewed one alone; the source has the stale one alone.
		f.mu.Lock()
		for repo, keep := range map[string]digest.Digest{d.repo: old, d.repo + "-copied": renewed} {
			at := repo + "@" + d.subject.Digest.String()
			f.listed[at] = slices.DeleteFunc(f.listed[at], func(r ocispec.Descriptor) bool { return r.Digest != keep })
		}
		f.mu.Unlock()
		o := d.want(t, 0, "superseded", "copy", d.ref, dst(d))
		if got := o.object(t, old); got != "superseded superseded" || !slices.Equal(arrived(d), []digest.Digest{renewed}) {
			t.Errorf("%q; listed: %v", got, arrived(d))
		}
		d.want(t, 0, "", "copy", d.ref, dst(d), "--downgrade")
		if n := len(arrived(d)); n != 2 {
			t.Errorf("%d signatures after --downgrade", n)
		}
	})
	t.Run("C09 both chains at the source", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		_, renewed := rechained(t, d)
		d.want(t, 0, "", "copy", d.ref, dst(d))
		if n := len(arrived(d)); n != 2 {
			t.Errorf("%d of 2 signatures", n)
		}
		// What is accepted is decided of each: a policy that knows the new intermediate alone.
		d.want(t, 0, "", "copy", d.ref, dst(d)+"-accepted", "--root", d.at("root.pem"), "--only-accepted")
		if list := f.referrers(d.repo+"-copied-accepted", d.subject.Digest); len(list) != 2 {
			t.Errorf("%v; renewed: %s", list, renewed)
		}
	})
}

func TestHostileCopyTags(t *testing.T) {
	t.Parallel()
	t.Run("C07 the source's tag moves", func(t *testing.T) {
		t.Parallel()
		a := image("before")
		a.referrers = []artifact{sbom(a.descriptor, "of before")}
		x := newCrossing(t, a)
		var once atomic.Bool
		x.src.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/manifests/v1") && !once.CompareAndSwap(false, true) {
				t.Error("the tag was asked for twice")
			} else if strings.Contains(r.URL.Path, "/referrers/") {
				x.src.putArtifact(srcRepo, "v1", image("after"))
			}
			return false
		})
		x.copy(t, 0, "")
		x.arrived(t, 1)
	})
	t.Run("C07 the destination's tag names another digest", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("to be copied"))
		other := x.dst.putArtifact(dstRepo, "v1", image("there already"))
		for _, more := range [][]string{nil, {"--move", "v2"}, {"--move", "v"}, {"--dry-run"}} {
			x.copy(t, 1, "tag-moves", more...)
		}
		x.untouched(t)
		x.env = append(x.env, "IMPRINT_MOVE=v1")
		x.copy(t, 1, "tag-moves")
		x.untouched(t)
		o := x.copy(t, 0, "", "--move", "v*")
		if o.field(t, "tags.0.status") != "moved" || o.field(t, "tags.0.was") != other.Digest.String() {
			t.Errorf("it is not told: %s", o.stdout)
		}
		x.arrived(t, 0)
	})
	t.Run("C07 somebody takes the destination's tag meanwhile", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, image("to be copied"))
		other := image("of somebody else")
		var once sync.Once
		x.dst.Intercept(first(x.dst.believe, on(http.MethodPut, "/manifests/sha256:", func(http.ResponseWriter, *http.Request) bool {
			once.Do(func() {
				x.dst.putArtifact(dstRepo, "v1", other)
				time.Sleep(1100 * time.Millisecond) // a look at the tags counts for a second
			})
			return false
		})))
		a := x.a
		a.referrers = []artifact{sbom(a.descriptor, "x")}
		x.src.putArtifact(srcRepo, "v1", a)
		o := x.copy(t, 7, "tag-moves")
		if err := oneError("", o.stderr); err != nil {
			t.Error(err)
		}
		x.dst.mu.Lock()
		defer x.dst.mu.Unlock()
		if got := x.dst.manifests[dstRepo+":v1"].digest; got != other.descriptor.Digest {
			t.Errorf("v1 is %s, not what somebody else has written", got)
		}
	})
	t.Run("C07 the tag comes after every referrer is readable", func(t *testing.T) {
		t.Parallel()
		a := index("ordered")
		x := newCrossing(t, a)
		x.copy(t, 0, "")
		x.arrived(t, 0)
		var puts, tagAt, listedAt int
		for i, r := range x.dst.Requests() {
			switch {
			case r.Method == http.MethodPut && strings.HasSuffix(r.Path, "/manifests/v1"):
				tagAt = i
			case r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/"):
				puts = i
			case r.Method == http.MethodGet && strings.Contains(r.Path, "/referrers/"):
				listedAt = i
			}
		}
		if tagAt < puts || tagAt < listedAt || listedAt == 0 {
			t.Errorf("the tag was request %d, the last list %d, the last other manifest %d", tagAt, listedAt, puts)
		}
	})
	t.Run("C15 source and destination are the same", func(t *testing.T) {
		t.Parallel()
		a := index("the same")
		x := newCrossing(t, a)
		digested := x.src.Host + "/" + srcRepo + "@" + a.descriptor.Digest.String()
		for _, args := range [][]string{{x.from, x.from}, {x.from, x.src.Host + "/" + srcRepo}, {digested, x.from}, {x.from, x.from, "--downgrade"}} {
			o := x.want(t, 0, "", append([]string{"copy"}, args...)...)
			if o.field(t, "written") != "0" || o.field(t, "bytes") != "0" {
				t.Errorf("%v: %s", args, o.stdout)
			}
		}
		if n := x.src.Writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
		// A layout onto itself stays as it is, byte for byte.
		layout := "oci:" + filepath.Join(x.dir, "layout") + ":v1"
		x.want(t, 0, "", "copy", x.from, layout)
		before := tree(t, filepath.Join(x.dir, "layout"))
		x.want(t, 0, "", "copy", layout, layout)
		if after := tree(t, filepath.Join(x.dir, "layout")); after != before {
			t.Errorf("the layout was changed:\n%s\nbefore:\n%s", after, before)
		}
		// Another tag in the same repository is one write.
		x.want(t, 0, "", "copy", x.from, x.src.Host+"/"+srcRepo+":v2")
		if n := x.src.Writes(); n != 1 {
			t.Errorf("%d writes for a tag", n)
		}
	})
}

// tree describes a folder: names, kinds, contents.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %s", rel, info.Mode().Type())
		if info.Mode().IsRegular() {
			fmt.Fprintf(&b, " %d", info.Size())
		}
		if info.Mode().IsRegular() && info.Size() < 1<<20 {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %s", digest.FromBytes(content))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHostileCopyManifests(t *testing.T) {
	t.Parallel()
	elsewhere := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the layer of somewhere else") }))
	layer := []byte("the layer of somewhere else")
	foreign := func(mediaType, userinfo, path string) artifact {
		a := imageWith(layer, func(m *ocispec.Manifest) {
			m.Layers[0].MediaType = mediaType
			m.Layers[0].URLs = []string{"http://" + userinfo + elsewhere.Host + path}
		})
		return a
	}
	for name, mediaType := range map[string]string{
		"C12 foreign layers of docker":        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"C12 layers that must not be given":   ocispec.MediaTypeImageLayerNonDistributableGzip, //nolint:staticcheck // they are still met
		"C12 foreign layers with credentials": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			userinfo, path := "", "/layer\x1b[2J"
			if strings.Contains(name, "credentials") {
				userinfo, path = "somebody:hunter22@", "/layer?signature=hunter22"
			}
			x := newCrossing(t, foreign(mediaType, userinfo, path))
			x.src.mu.Lock()
			delete(x.src.blobs, digest.FromBytes(layer))
			x.src.mu.Unlock()
			x.a.blobs = x.a.blobs[:1]
			x.docker(t, fmt.Sprintf(`{"auths":{%q:{"auth":"c29tZWJvZHk6cmlnaHQ="}}}`, elsewhere.Host))
			o := x.copy(t, 0, "")
			x.arrived(t, 0)
			if !strings.Contains(o.stderr, "was not copied") || !strings.Contains(o.stderr, digest.FromBytes(layer).String()) {
				t.Errorf("it is not told: %s", o.stderr)
			}
			if strings.Contains(o.stderr+o.stdout, "hunter22") || strings.Contains(o.stderr, "\x1b") {
				t.Errorf("it is repeated as it is: %q", o.stderr)
			}
		})
	}
	for name, there := range map[string]bool{"C12 an ordinary layer with urls": true, "C12 an ordinary layer with urls that the source lacks": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, foreign(ocispec.MediaTypeImageLayerGzip, "", "/layer"))
			if there {
				x.copy(t, 0, "")
				x.arrived(t, 0)
				return
			}
			x.src.mu.Lock()
			delete(x.src.blobs, digest.FromBytes(layer))
			x.src.mu.Unlock()
			x.refused(t, 4, "not-found")
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.Count(nil); n != 0 {
			t.Errorf("%d requests for what lies elsewhere", n)
		}
	})

	for name, b := range map[string]string{"C13 an unknown media type": `{"anything":1,"anything":2}`, "C13 an unknown media type, no JSON": "\x00\x01\x02"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := artifact{descriptor: describe("application/x-new", []byte(b)), manifest: []byte(b)}
			a.referrers = []artifact{sbom(a.descriptor, "of something new")}
			x := newCrossing(t, a)
			o := x.copy(t, 0, "")
			x.arrived(t, 1)
			if !strings.Contains(o.stderr, "is copied as it is") {
				t.Errorf("it is not told: %s", o.stderr)
			}
		})
	}

	for name, code := range map[string]string{"C14 sha256 only": "DIGEST_INVALID", "C14 sha256 only, said otherwise": "UNSUPPORTED"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, image(name))
			d := digest.SHA512.FromBytes(x.a.manifest)
			x.src.mu.Lock()
			x.src.manifests[srcRepo+"@"+d.String()] = served{x.a.descriptor.MediaType, d, x.a.manifest}
			x.src.mu.Unlock()
			x.dst.Intercept(first(x.dst.believe, on(http.MethodPut, "/manifests/sha512:", always(func(w http.ResponseWriter) { failure(w, http.StatusBadRequest, code) }))))
			x.from = x.src.Host + "/" + srcRepo + "@" + d.String()
			o := x.refused(t, 4, "unsupported")
			if !strings.Contains(o.stderr, "sha512") || x.dst.has(dstRepo, x.a.descriptor.Digest) {
				t.Errorf("it is not told clearly: %s", o.stderr)
			}
		})
	}

	for _, mediaType := range []string{"application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws"} {
		b := []byte(`{"schemaVersion":1,"name":"app","tag":"v1","fsLayers":[]}`)
		old := artifact{descriptor: describe(mediaType, b), manifest: b}
		t.Run("C16 "+mediaType, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, old)
			if o := x.refused(t, 4, "manifest-malformed"); !strings.Contains(o.stderr, "schema 1") {
				t.Errorf("it is not told: %s", o.stderr)
			}
			x.untouched(t)
		})
		t.Run("C16 a child of "+mediaType, func(t *testing.T) {
			t.Parallel()
			a := newArtifact(ocispec.MediaTypeImageIndex, ocispec.Index{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{old.descriptor},
			})
			a.children = []artifact{old}
			x := newCrossing(t, a)
			if o := x.refused(t, 4, "manifest-malformed"); !strings.Contains(o.stderr, "schema 1") {
				t.Errorf("it is not told: %s", o.stderr)
			}
			x.untouched(t)
		})
	}

	// Others of the same classes.
	t.Run("a child that is served as another type", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, index("with a child"))
		x.src.mu.Lock()
		at := srcRepo + "@" + x.a.children[1].descriptor.Digest.String()
		m := x.src.manifests[at]
		m.mediaType = "application/vnd.docker.distribution.manifest.v2+json"
		x.src.manifests[at] = m
		x.src.mu.Unlock()
		x.refused(t, 1, "ambiguous-manifest")
	})
	t.Run("a child that is gone", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, index("with a child that is gone"))
		x.src.mu.Lock()
		delete(x.src.manifests, srcRepo+"@"+x.a.children[1].descriptor.Digest.String())
		x.src.mu.Unlock()
		x.refused(t, 4, "not-found")
	})
	t.Run("ten thousand layers that nobody has", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, imageWith(layer, func(m *ocispec.Manifest) { m.Layers = append(m.Layers, invented(0, 10_000)...) }))
		x.refused(t, 4, "not-found")
		if n := x.src.Count(nil) + x.dst.Count(nil); n > 300 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("one layer ten thousand times", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, imageWith(layer, func(m *ocispec.Manifest) { m.Layers = slices.Repeat(m.Layers, 10_000) }))
		x.copy(t, 0, "")
		x.arrived(t, 0)
		if n := x.src.Count(nil) + x.dst.Count(nil); n > 20 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("one digest with two sizes", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, imageWith(layer, func(m *ocispec.Manifest) {
			m.Layers = append(m.Layers, m.Layers[0])
			m.Layers[1].Size += 7
		}))
		// Whichever counts, nothing that is not the digest's may be stored.
		o := x.run(t, "copy", x.from, x.to, "-o", "json")
		x.dst.sound(t)
		if o.code == 0 {
			x.arrived(t, 0)
		} else if !slices.Contains(o.reasons(t), "digest-mismatch") {
			t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
		}
	})
	for name, b := range map[string]string{
		"layers and manifests": `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[],"manifests":[]}`,
		"layers twice":         `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[],"layers":[]}`,
		"a size of 1e3":        `{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1e3},"layers":[]}`,
		"another type inside":  `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{},"layers":[]}`,
	} {
		t.Run("a manifest with "+name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, artifact{descriptor: describe(ocispec.MediaTypeImageManifest, []byte(b)), manifest: []byte(b)})
			x.refused(t, 1, "ambiguous-manifest")
			x.untouched(t)
		})
	}
	t.Run("a manifest of 4 MiB and a byte", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, imageWith(layer, func(m *ocispec.Manifest) { m.Annotations = map[string]string{"a": strings.Repeat("a", 4<<20)} }))
		x.refused(t, 4, "too-large")
		x.untouched(t)
	})
	t.Run("inline data that is not the blob", func(t *testing.T) {
		t.Parallel()
		x := newCrossing(t, imageWith(layer, func(m *ocispec.Manifest) { m.Layers[0].Data = bytes.Repeat([]byte("x"), len(layer)) }))
		x.copy(t, 0, "")
		x.arrived(t, 0)
	})
}

// layoutFiles are the files of a layout that holds an artifact under a name.
func layoutFiles(a artifact, name string) map[string]string {
	entry := a.descriptor
	entry.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	ix, _ := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{entry}})
	files := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": string(ix)}
	add := func(d digest.Digest, b []byte) { files["blobs/sha256/"+d.Encoded()] = string(b) }
	add(a.descriptor.Digest, a.manifest)
	for _, b := range a.blobs {
		add(b.descriptor.Digest, b.b)
	}
	return files
}

func TestHostileCopyLocal(t *testing.T) {
	t.Parallel()
	a := image("kept locally")
	hexA := strings.Repeat("a", 64)
	reg := func(name, content string) tarEntry {
		return tarEntry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
	}
	link := func(kind byte, name, to string) tarEntry {
		return tarEntry{tar.Header{Name: name, Typeflag: kind, Linkname: to, Mode: 0o644}, ""}
	}
	huge := func(name string, size int64) tarEntry {
		return tarEntry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size}, "not so many"}
	}
	for name, c := range map[string]struct {
		entry   tarEntry
		without string
		code    int
		reason  string
	}{
		"C10 climbing":                        {reg("blobs/sha256/../../../escaped", "x"), "", 4, "manifest-malformed"},
		"C10 an absolute path":                {reg("/tmp/escaped", "x"), "", 4, "manifest-malformed"},
		"C10 a symbolic link":                 {link(tar.TypeSymlink, "blobs/sha256/"+hexA, "/etc/passwd"), "", 4, "manifest-malformed"},
		"C10 a hard link":                     {link(tar.TypeLink, "blobs/sha256/"+hexA, "index.json"), "", 4, "manifest-malformed"},
		"C10 blobs is a link":                 {link(tar.TypeSymlink, "blobs", "/etc"), "", 4, "manifest-malformed"},
		"C10 a device":                        {link(tar.TypeChar, "blobs/sha256/"+hexA, ""), "", 4, "manifest-malformed"},
		"C10 a FIFO":                          {link(tar.TypeFifo, "oci-layout", ""), "oci-layout", 4, "manifest-malformed"},
		"C10 names that differ in case":       {reg("Index.json", "{}"), "", 1, "ambiguous-manifest"},
		"C10 two contents of one blob":        {reg("blobs/sha256/"+a.descriptor.Digest.Encoded(), "{}"), "", 1, "ambiguous-manifest"},
		"C10 a blob of 4 GiB that is short":   {huge("blobs/sha256/"+hexA, 4<<30), "", 4, "manifest-malformed"},
		"C10 a blob of 8 EiB":                 {huge("blobs/sha256/"+hexA, 1<<62), "", 4, "manifest-malformed"},
		"C10 index.json of 1 GiB":             {huge("index.json", 1<<30), "index.json", 4, "too-large"},
		"C10 oci-layout of a version unknown": {reg("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), "oci-layout", 4, "manifest-malformed"},
		"C11 a digest that is a path":         {reg("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"sha256:../../../etc/passwd","size":1,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), "index.json", 4, "manifest-malformed"},
		"C11 an algorithm that is a path":     {reg("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"sha256/../:`+hexA+`","size":1,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), "index.json", 4, "manifest-malformed"},
		"C01 a blob that is not its digest":   {reg("blobs/sha256/"+a.blobs[1].descriptor.Digest.Encoded(), "layer of another!!!"), "blobs/sha256/" + a.blobs[1].descriptor.Digest.Encoded(), 4, "digest-mismatch"},
		"C01 a blob of the right size that is not its digest": {
			reg("blobs/sha256/"+a.blobs[1].descriptor.Digest.Encoded(), strings.Repeat("x", len(a.blobs[1].b))), "blobs/sha256/" + a.blobs[1].descriptor.Digest.Encoded(), 4, "digest-mismatch"},
		"C01 a manifest that is not its digest": {reg("blobs/sha256/"+a.descriptor.Digest.Encoded(), strings.Repeat(" ", len(a.manifest))), "blobs/sha256/" + a.descriptor.Digest.Encoded(), 4, "digest-mismatch"},
		"C10 a blob that is missing":            {reg("x", "x"), "blobs/sha256/" + a.blobs[1].descriptor.Digest.Encoded(), 4, "not-found"},
	} {
		for _, kind := range []string{"archive", "layout"} {
			if kind == "layout" && (c.entry.Typeflag == tar.TypeChar || c.entry.Size > 1<<30 || strings.HasPrefix(c.entry.Name, "/") || strings.Contains(c.entry.Name, "..") ||
				strings.Contains(name, "two contents") || strings.Contains(name, "differ in case") || strings.Contains(name, "a hard link") || strings.HasSuffix(c.entry.Name, hexA)) {
				continue // no such folder can be made, or nothing of it is ever looked at
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				x := newCrossing(t, image("not copied"))
				files := layoutFiles(a, "v1")
				delete(files, c.without)
				if kind == "archive" {
					x.from = "oci-archive:" + archived(t, x.dir, files, c.entry) + ":v1"
				} else {
					x.from = "oci:" + unpacked(t, x.dir, files, c.entry) + ":v1"
				}
				before := tree(t, x.dir)
				x.refused(t, c.code, c.reason)
				if x.dst.has(dstRepo, a.descriptor.Digest) {
					t.Error("the artifact was stored")
				}
				if after := tree(t, x.dir); after != before {
					t.Errorf("something was written:\n%s\nbefore:\n%s", after, before)
				}
				// And into a layout of one's own: nothing lands outside of it, and nothing wrong in it.
				into := filepath.Join(x.dir, "into")
				x.want(t, c.code, c.reason, "copy", x.from, "oci:"+into+":v1")
				inside(t, x.dir, into, before)
			})
		}
	}

	// A destination that leads elsewhere.
	for name, set := range map[string]func(t *testing.T, dir, outside string){
		"C10 blobs leads out of the destination": func(t *testing.T, dir, outside string) {
			must(t, os.RemoveAll(filepath.Join(dir, "blobs")))
			must(t, os.Symlink(outside, filepath.Join(dir, "blobs")))
		},
		"C10 blobs/sha256 leads out of the destination": func(t *testing.T, dir, outside string) {
			must(t, os.RemoveAll(filepath.Join(dir, "blobs/sha256")))
			must(t, os.Symlink(outside, filepath.Join(dir, "blobs/sha256")))
		},
		"C10 a blob leads out of the destination": func(t *testing.T, dir, outside string) {
			must(t, os.Symlink(filepath.Join(outside, "victim"), filepath.Join(dir, "blobs/sha256", a.blobs[1].descriptor.Digest.Encoded())))
		},
		"C10 index.json leads out of the destination": func(t *testing.T, dir, outside string) {
			b, err := os.ReadFile(filepath.Join(dir, "index.json"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(outside, "victim"), b, 0o600))
			must(t, os.Remove(filepath.Join(dir, "index.json")))
			must(t, os.Symlink(filepath.Join(outside, "victim"), filepath.Join(dir, "index.json")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCrossing(t, a)
			dir, outside := filepath.Join(x.dir, "layout"), filepath.Join(x.dir, "outside")
			other := image("there before")
			x.src.putArtifact(srcRepo, "other", other)
			x.want(t, 0, "", "copy", x.src.Host+"/"+srcRepo+":other", "oci:"+dir+":other")
			must(t, os.Mkdir(outside, 0o700))
			must(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("untouched"), 0o600))
			set(t, dir, outside)
			before := tree(t, outside)
			o := x.run(t, "copy", x.from, "oci:"+dir+":v1", "-o", "json")
			if after := tree(t, outside); after != before {
				t.Errorf("something was written outside (exit code %d):\n%s\nbefore:\n%s", o.code, after, before)
			}
			if o.code == 0 { // then all of it is inside, and right
				x.want(t, 0, "", "copy", "oci:"+dir+":v1", x.to)
				x.arrived(t, 0)
			} else if len(o.reasons(t)) == 0 {
				t.Errorf("exit code %d without a reason: %s", o.code, o.stderr)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inside wants nothing new in a folder but in one below it, and there only blobs that are what their names say.
func inside(t testing.TB, dir, into, before string) {
	t.Helper()
	for line := range strings.Lines(tree(t, dir)) {
		rel, _, _ := strings.Cut(line, " ")
		if rel != "into" && !strings.HasPrefix(rel, "into/") && !strings.Contains(before, line) {
			t.Errorf("something was written: %s", line)
		}
	}
	blobs, _ := filepath.Glob(filepath.Join(into, "blobs/sha256/*"))
	for _, path := range blobs {
		b, err := os.ReadFile(path)
		if err != nil || digest.FromBytes(b).Encoded() != filepath.Base(path) {
			t.Errorf("%s is not what its name says, %v", path, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(into, "index.json")); err == nil && !strings.Contains(string(b), `"manifests":[]`) {
		t.Errorf("a name was written: %s", b)
	}
}

type tarEntry struct {
	tar.Header
	content string
}

// archived writes files, and one entry more that may be anything, into a tar.
func archived(t testing.TB, dir string, files map[string]string, last tarEntry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}))
		_, err := io.WriteString(w, content)
		must(t, err)
	}
	must(t, w.WriteHeader(&last.Header))
	if last.content != "" {
		_, err := io.WriteString(w, last.content)
		must(t, err)
	}
	_ = w.Close() // it may promise more than it has
	path := filepath.Join(dir, "a.tar")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

// unpacked writes them into a folder.
func unpacked(t testing.TB, dir string, files map[string]string, last tarEntry) string {
	t.Helper()
	root := filepath.Join(dir, "layout")
	for name, content := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o600))
	}
	path := filepath.Join(root, last.Name)
	switch last.Typeflag {
	case tar.TypeSymlink:
		must(t, os.RemoveAll(path))
		must(t, os.Symlink(last.Linkname, path))
	case tar.TypeFifo:
		must(t, syscall.Mkfifo(path, 0o600))
	default:
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(last.content), 0o600))
		if last.Size > int64(len(last.content)) {
			must(t, os.Truncate(path, last.Size)) // sparse
		}
	}
	return root
}
