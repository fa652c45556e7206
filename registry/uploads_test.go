package registry

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
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

// randomBytes is n bytes that no compression or luck makes equal.
func randomBytes(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// bodyOf is BytesBody which counts what is read of it, and how often it is opened.
type bodyOf struct {
	b      []byte
	opened atomic.Int32
	read   atomic.Int64
}

func (s *bodyOf) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	s.opened.Add(1)
	return io.NopCloser(&counting{bytes.NewReader(s.b[offset:]), &s.read}), nil
}

type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// holds fails unless the repository hands out exactly these bytes.
func holds(t *testing.T, r *Repo, b []byte) {
	t.Helper()
	rc, err := r.Blob(t.Context(), blobOf(b))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rc.Close() }()
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

func isAbsent(t *testing.T, r *Repo, d ocispec.Descriptor) {
	t.Helper()
	if has, err := r.HasBlob(t.Context(), d); err != nil || has {
		t.Errorf("%s is there: %v, %v", d.Digest, has, err)
	}
}

// The fewest requests of each size, before and after the registry is known.
func TestUploadRequests(t *testing.T) {
	t.Parallel()
	const (
		mount201 = "POST blobs/uploads/?mount 201"
		mount202 = "POST blobs/uploads/?mount 202"
		mount404 = "POST blobs/uploads/?mount 404"
		single   = "POST blobs/uploads/?digest 201"
		ignored  = "POST blobs/uploads/?digest 202"
		open     = "POST blobs/uploads/ 202"
		put      = "PUT blobs/uploads/…?digest 201"
	)
	tests := map[regtest.Kind]struct{ large, small, again, middle, huge []string }{
		regtest.WithAPI: {
			large:  []string{mount404, open, put}, // whether single-request uploads are honoured is not known yet
			small:  []string{single},
			again:  []string{single},
			middle: []string{mount404, single},
			huge:   []string{mount404, open, put},
		},
		regtest.WithoutAPI: {
			large:  []string{mount202, put},
			small:  []string{ignored, put},
			again:  []string{mount202, put},
			middle: []string{mount202, put},
			huge:   []string{mount202, put},
		},
	}
	for kind, want := range tests {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			if kind == regtest.WithoutAPI {
				s = regtest.Serve(t, distributionAt(t.TempDir()))
			}
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			for i, step := range []struct {
				name string
				size int
				want []string
			}{
				{"large, nothing known", maxUnasked + 1, want.large},
				{"{}", 2, want.small},
				{"small", maxUnasked, want.again},
				{"middle", maxSingleUpload, want.middle},
				{"huge", maxSingleUpload + 1, want.huge},
			} {
				b := randomBytes(step.size, byte(i))
				if step.name == "{}" {
					b = []byte("{}")
				}
				body := &bodyOf{b: b}
				for try, want := range [][]string{step.want, nil} {
					s.Reset()
					sent, err := r.PushBlob(t.Context(), blobOf(b), nil, body.open)
					if err != nil || try == 0 && sent != (Sent{Bytes: int64(step.size)}) && step.size > 2 || try == 1 && sent != (Sent{There: true}) {
						t.Errorf("%s: %+v, %v", step.name, sent, err)
					}
					if diff := cmp.Diff(want, calls(s)); diff != "" {
						t.Errorf("%s, try %d (-want +got):\n%s", step.name, try, diff)
					}
				}
				holds(t, r, b)
				// Another run knows nothing, asks, and sends nothing.
				s.Reset()
				sent, err := openTest(t, newTestClient(t, Options{}), s.Host, "app").PushBlob(t.Context(), blobOf(b), nil, body.open)
				if err != nil {
					t.Error(err)
				}
				if step.size > maxUnasked {
					if diff := cmp.Diff([]string{mount201}, calls(s)); diff != "" || sent != (Sent{There: true}) {
						t.Errorf("%s, another run: %+v\n%s", step.name, sent, diff)
					}
				}
			}
		})
	}
}

// From a repository where this run has put a blob it is mounted, whoever asks for it.
func TestUploadMountsWhatItHasPut(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s := regtest.New(t, kind)
		c := newTestClient(t, Options{})
		b := randomBytes(100_000, 1)
		push := func(name string) Sent {
			sent, err := openTest(t, c, s.Host, name).PushBlob(t.Context(), blobOf(b), nil, BytesBody(b))
			if err != nil {
				t.Fatal(err)
			}
			return sent
		}
		push("app")
		s.Reset()
		if sent := push("other"); sent != (Sent{Mounted: true}) || s.Count(nil) != 1 {
			t.Errorf("%s: %+v, %v", kind, sent, calls(s))
		}
		if sent := push("other"); sent != (Sent{There: true}) || s.Count(nil) != 1 {
			t.Errorf("%s: %+v, %v", kind, sent, calls(s))
		}
	}
}

// Where nothing is mounted across repositories, nobody waits for what another repository gets.
func TestUploadMountsNothing(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithoutAPI).Handler()
	var meet sync.WaitGroup
	meet.Add(2)
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.URL.Query().Get("from"); from != "" && !strings.HasPrefix(r.URL.Path, "/v2/"+from+"/") {
			r.URL.RawQuery = ""
		}
		inner.ServeHTTP(w, r)
	}))
	c := newTestClient(t, Options{})
	push := func(name string, b []byte, body Body) {
		sent, err := openTest(t, c, s.Host, name).PushBlob(t.Context(), blobOf(b), nil, body)
		if err != nil || sent.Bytes != int64(len(b)) {
			t.Errorf("%s: %+v, %v", name, sent, err)
		}
	}
	b := randomBytes(100_000, 20)
	push("one", b, BytesBody(b))
	push("two", b, BytesBody(b)) // now it is known
	other := randomBytes(100_000, 21)
	both := func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		meet.Done()
		meet.Wait() // both are on their way at the same time
		return BytesBody(other)(ctx, offset)
	}
	var wg sync.WaitGroup
	wg.Go(func() { push("one", other, both) })
	wg.Go(func() { push("two", other, both) })
	wg.Wait()
}

// A blob of no bytes is a blob, too.
func TestUploadEmpty(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s := regtest.New(t, kind)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		if _, err := r.PushBlob(t.Context(), blobOf(nil), nil, BytesBody(nil)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		holds(t, r, nil)
		lie := blobOf([]byte("x"))
		lie.Size = 0
		if _, err := r.PushBlob(t.Context(), lie, nil, BytesBody(nil)); reason(err) != "digest-mismatch" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A mount that is not allowed costs the mount, not the copy, and is not asked for twice (oras-project/oras#1892).
func TestUploadMountForbidden(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		s := regtest.New(t, regtest.WithoutAPI)
		c := newTestClient(t, Options{})
		from, to := openTest(t, c, s.Host, "from"), openTest(t, c, s.Host, "app")
		var asked atomic.Int32
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("from") != "from" {
				return false
			}
			asked.Add(1)
			w.WriteHeader(status)
			return true
		})
		for i := range 3 {
			b := randomBytes(100_000, byte(i))
			sent, err := to.PushBlob(t.Context(), blobOf(b), from, BytesBody(b))
			if err != nil || sent != (Sent{Bytes: 100_000}) {
				t.Fatalf("%d: %+v, %v", status, sent, err)
			}
		}
		if asked.Load() != 1 || to.store.(*remote).learnt.mount.no() {
			t.Errorf("%d: asked %d times to mount", status, asked.Load())
		}
	}
}

// A registry that refuses mounting as such is asked by HEAD from then on; what says nothing of mounting teaches nothing.
func TestUploadMountRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		body   string
		learnt bool
	}{
		{http.StatusMethodNotAllowed, "", true},
		{http.StatusBadRequest, `{"errors":[{"code":"UNSUPPORTED"}]}`, true},
		{http.StatusNotImplemented, "", true},
		{http.StatusForbidden, `{"errors":[{"code":"DENIED"}]}`, false},
		{http.StatusNotFound, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, false},
		{http.StatusNotFound, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, false},
		{http.StatusTeapot, "", false},
	} {
		s := regtest.New(t, regtest.WithoutAPI)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("mount") {
				return false
			}
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
			return true
		})
		var got []string
		for i := range 2 {
			s.Reset()
			b := randomBytes(100_000, byte(i))
			if _, err := r.PushBlob(t.Context(), blobOf(b), nil, BytesBody(b)); err != nil {
				t.Fatal(err)
			}
			got = calls(s)
		}
		want := []string{fmt.Sprintf("POST blobs/uploads/?mount %d", test.status), "POST blobs/uploads/ 202", "PUT blobs/uploads/…?digest 201"}
		if test.learnt {
			want[0] = "HEAD blobs/sha256:… 404"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d %s:\n%s", test.status, test.body, diff)
		}
	}
}

// A registry that refuses single-request uploads is not asked for one again; one that refuses the caller is.
func TestUploadSingleRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status      int
		everything  bool
		sentinel    error
		first, then string
	}{
		{http.StatusMethodNotAllowed, false, nil, "POST blobs/uploads/?digest 405", "POST blobs/uploads/?mount 202"},
		{http.StatusLengthRequired, false, nil, "POST blobs/uploads/?digest 411", "POST blobs/uploads/?mount 202"},
		{http.StatusForbidden, true, ErrUnauthorized, "POST blobs/uploads/?digest 403", "POST blobs/uploads/?digest 403"},
		{http.StatusNotFound, true, ErrNotFound, "POST blobs/uploads/?digest 404", "POST blobs/uploads/?digest 404"},
	} {
		s := regtest.New(t, regtest.WithoutAPI)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !test.everything && (r.Method != http.MethodPost || !r.URL.Query().Has("digest")) {
				return false
			}
			w.WriteHeader(test.status)
			return true
		})
		for i, want := range []string{test.first, test.then} {
			s.Reset()
			b := randomBytes(1000, byte(i))
			if err := r.PushBytes(t.Context(), blobOf(b), b); !errors.Is(err, test.sentinel) {
				t.Errorf("%d: %v", test.status, err)
			}
			if got := calls(s); got[0] != want {
				t.Errorf("%d: %v", test.status, got)
			}
		}
	}
}

// A break is where a registry, or the line to it, fails.
type breaking struct {
	mu  sync.Mutex
	cut func(r *http.Request) int64 // bytes of the body after which the connection breaks; below 0: never
	got atomic.Int64                // bytes that arrived of all bodies

	busy int // requests with a body
	idle sync.Cond
}

func (b *breaking) begin() {
	b.idle.L.Lock()
	defer b.idle.L.Unlock()
	b.busy++
}

func (b *breaking) end() {
	b.idle.L.Lock()
	defer b.idle.L.Unlock()
	b.busy--
	b.idle.Broadcast()
}

// settle waits until no request is being worked on.
func (b *breaking) settle() {
	b.idle.L.Lock()
	defer b.idle.L.Unlock()
	for b.busy > 0 {
		b.idle.Wait()
	}
}

// breakable runs a registry whose connections break in the middle of bodies: what came before arrives.
func breakable(t testing.TB, next http.Handler) (*regtest.Server, *breaking) {
	b := &breaking{idle: sync.Cond{L: new(sync.Mutex)}}
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut && r.Method != http.MethodPatch && r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		b.begin()
		defer b.end()
		b.mu.Lock()
		most := int64(-1)
		if b.cut != nil {
			most = b.cut(r)
		}
		b.mu.Unlock()
		body := &cutBody{ReadCloser: r.Body, left: most, endless: most < 0, got: &b.got}
		r.Body = body
		if !body.endless {
			next.ServeHTTP(discarding{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	}))
	return s, b
}

// once cuts the n-th request (from 1) with a body of at least least bytes.
func (b *breaking) once(n int, at, least int64) {
	seen := 0
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = func(r *http.Request) int64 {
		if r.ContentLength < least {
			return -1
		}
		if seen++; seen == n {
			return at
		}
		return -1
	}
}

type cutBody struct {
	io.ReadCloser
	left    int64
	endless bool
	got     *atomic.Int64
}

func (c *cutBody) Read(p []byte) (int, error) {
	if !c.endless {
		if c.left == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), c.left)]
	}
	n, err := c.ReadCloser.Read(p)
	c.left -= int64(n)
	c.got.Add(int64(n))
	return n, err
}

type discarding struct{ header http.Header }

func (d discarding) Header() http.Header         { return d.header }
func (d discarding) Write(p []byte) (int, error) { return len(p), nil }
func (d discarding) WriteHeader(int)             {}

// settled is a client which, after something broke, waits until the registry has come to its end with it.
func settled(t testing.TB, b *breaking) *Client {
	c := newTestClient(t, Options{})
	c.retry.sleep = func(ctx context.Context, _ time.Duration) error {
		b.settle()
		return ctx.Err()
	}
	return c
}

// A blob that breaks off at seven eighths of an upload goes on from there: what distribution and ociserver keep of a PUT
// that breaks is what arrived.
func TestF06UploadGoesOn(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			registry := regtest.New(t, kind).Handler()
			if kind == regtest.WithoutAPI {
				registry = distributionAt(t.TempDir()) // in memory, it takes time by the square of the size
			}
			cutUpload(t, registry, 32<<20)
		})
	}
}

// The same with 1 GiB cut at 896 MiB, against CNCF distribution, which keeps it on disk: IMPRINT_TEST_GIB=1, some 2 GiB
// of TMPDIR.
func TestF06UploadOfOneGiB(t *testing.T) {
	if os.Getenv("IMPRINT_TEST_GIB") == "" {
		t.Skip("IMPRINT_TEST_GIB is not set")
	}
	cutUpload(t, distributionAt(t.TempDir()), 1<<30)
}

func cutUpload(t *testing.T, registry http.Handler, size int) {
	s, broken := breakable(t, registry)
	at := int64(size) / 8 * 7
	broken.once(1, at, int64(size))
	r := openTest(t, settled(t, broken), s.Host, "app")
	b := randomBytes(size, 1)
	body := &bodyOf{b: b}
	sent, err := r.PushBlob(t.Context(), blobOf(b), nil, body.open)
	if err != nil {
		t.Fatalf("%v\n%v", err, calls(s))
	}
	// What was in the buffers of the connection when it broke travels again: some MiB.
	most := int64(size) + 12<<20
	if got := broken.got.Load(); got != int64(size) {
		t.Errorf("%d bytes arrived of %d", got, size)
	}
	if sent.Bytes > most || body.read.Load() != sent.Bytes || sent.Bytes < int64(size) || body.opened.Load() != 2 {
		t.Errorf("%d bytes travelled, %d were read in %d openings", sent.Bytes, body.read.Load(), body.opened.Load())
	}
	opening := []string{"POST blobs/uploads/?mount 202"}
	if calls(s)[0] != opening[0] {
		opening = []string{"POST blobs/uploads/?mount 404", "POST blobs/uploads/ 202"}
	}
	want := append(opening, "PUT blobs/uploads/…?digest 0", "GET blobs/uploads/… 204", "PATCH blobs/uploads/… 202", "PUT blobs/uploads/…?digest 201")
	// Where the buffers held all the rest, the whole may have arrived for all we know: that is asked for first.
	got := slices.DeleteFunc(calls(s), func(c string) bool { return c == "HEAD blobs/sha256:… 404" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, r := range s.Requests() {
		if r.Method == http.MethodPatch && r.Header.Get("Content-Range") != fmt.Sprintf("%d-%d", at, size-1) {
			t.Errorf("went on with %s", r.Header.Get("Content-Range"))
		}
	}
	holds(t, r, b)
}

// keepsNothing is a registry before which something gathers whole requests: what breaks never was.
func keepsNothing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 0 {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
		next.ServeHTTP(w, r)
	})
}

// Where nothing is kept, the blob goes in chunks, and the next break costs one.
func TestF06UploadInChunks(t *testing.T) {
	t.Parallel()
	inner := regtest.New(t, regtest.WithAPI)
	s, broken := breakable(t, keepsNothing(inner.Handler()))
	const chunk = 1 << 20
	size := chunk*3 + 1000
	seen := 0
	broken.cut = func(r *http.Request) int64 {
		if r.ContentLength <= 0 {
			return -1
		}
		switch seen++; seen {
		case 1, 3: // the whole, and the second chunk
			return r.ContentLength / 2
		}
		return -1
	}
	c := settled(t, broken)
	c.chunk = chunk
	r := openTest(t, c, s.Host, "app")
	b := randomBytes(size, 2)
	body := &bodyOf{b: b}
	_, err := r.PushBlob(t.Context(), blobOf(b), nil, body.open)
	if err != nil {
		t.Fatal(err, calls(s))
	}
	want := []string{
		"POST blobs/uploads/?mount 404", "POST blobs/uploads/ 202", "PUT blobs/uploads/…?digest 0", "GET blobs/uploads/… 204", "DELETE blobs/uploads/… 405",
		"POST blobs/uploads/?mount 404", "POST blobs/uploads/ 202", "PATCH blobs/uploads/… 202", "PATCH blobs/uploads/… 0",
		"GET blobs/uploads/… 204", "PATCH blobs/uploads/… 202", "PATCH blobs/uploads/… 202", "PATCH blobs/uploads/… 202", "PUT blobs/uploads/…?digest 201",
	}
	// Whether all was in the buffers of the connection already, and is asked for, depends on the system.
	extra := func(c string) bool { return strings.HasPrefix(c, "DELETE") || strings.HasPrefix(c, "HEAD") }
	got, want := slices.DeleteFunc(calls(s), extra), slices.DeleteFunc(want, extra)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, most := broken.got.Load(), int64(size+size/2+chunk/2+1); got > most {
		t.Errorf("%d bytes arrived, at most %d should have", got, most)
	}
	holds(t, r, b)
}

// OCI-Chunk-Min-Length bounds chunks from below.
func TestUploadChunkMinLength(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ least, want int64 }{{1 << 10, uploadChunk}, {40 << 20, 40 << 20}, {1 << 40, 1 << 40}} {
		u := &upload{s: &remote{base: "http://registry.test", host: "registry.test", client: newTestClient(t, Options{})}, d: ocispec.Descriptor{Size: 100 << 20}}
		req, _ := http.NewRequest(http.MethodPost, "http://registry.test/v2/app/blobs/uploads/", nil)
		resp := &http.Response{Request: req, Header: http.Header{
			"Location": {"/v2/app/blobs/uploads/1"}, "Oci-Chunk-Min-Length": {strconv.FormatInt(test.least, 10)},
		}}
		if err := u.enter(resp); err != nil {
			t.Fatal(err)
		}
		if u.inChunks(); u.chunk != test.want {
			t.Errorf("at least %d: chunks of %d", test.least, u.chunk)
		}
	}
}

// What a registry says that it has kept is believed as far as it can be.
func TestKeptOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"0-99": 100, "bytes=0-99": 100, "": 0, "0-0": 0, "0--1": 0, "nonsense": 0, "0-x": 0, "0-9223372036854775807": 0, "0-99999999999999999999": 0,
	} {
		if got := keptOf(&http.Response{Header: http.Header{"Range": {in}}}); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}

// Sessions that are gone, or refuse to go on, are replaced (CASES.md F06, F07).
func TestF07UploadSessionGone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request) bool // to what belongs to the first session
	}{
		{"F07 404 to the PUT", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`)
			return true
		}},
		{"F06 416 to everything (ECR)", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}},
		{"F06 416 to the PUT, and a status that does not change", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				w.Header().Set("Location", r.URL.String())
				w.Header().Set("Range", "0-499")
				w.WriteHeader(http.StatusNoContent)
				return true
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}},
		{"503, and a status that promises more than was sent", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				w.Header().Set("Location", r.URL.String())
				w.Header().Set("Range", "0-99999999")
				w.WriteHeader(http.StatusNoContent)
				return true
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}},
		{"503, and no status", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return true
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}},
		{"the line breaks, and the session is gone", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			var mu sync.Mutex
			first := ""
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				_, session, ok := strings.Cut(req.URL.Path, "/blobs/uploads/")
				if !ok || session == "" || req.Method == http.MethodDelete {
					return false
				}
				mu.Lock()
				if first == "" {
					first = session
				}
				mine := first == session
				mu.Unlock()
				if !mine {
					return false
				}
				_, _ = io.CopyN(io.Discard, req.Body, 1000)
				return test.answer(w, req)
			})
			b := randomBytes(200_000, 3)
			sent, err := r.PushBlob(t.Context(), blobOf(b), nil, BytesBody(b))
			if err != nil || sent.There || sent.Mounted {
				t.Fatalf("%+v, %v\n%v", sent, err, calls(s))
			}
			holds(t, r, b)
		})
	}
}

// Tries end: a registry that never takes it is given up, and without a busy loop.
func TestF03UploadGivenUp(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	c := newTestClient(t, Options{})
	slept := recordSleep(c)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	b := randomBytes(200_000, 4)
	_, err := openTest(t, c, s.Host, "app").PushBlob(t.Context(), blobOf(b), nil, BytesBody(b))
	if !errors.Is(err, ErrUnavailable) || reason(err) != "registry-unavailable" {
		t.Error(err)
	}
	puts := s.Count(func(r regtest.Request) bool { return r.Method == http.MethodPut })
	if puts != maxTries || len(slept()) != maxTries-1 {
		t.Errorf("%d times sent, slept %v", puts, slept())
	}
}

// The final PUT was taken, only its answer was lost (CASES.md F08).
func TestF08LostAnswer(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s := regtest.New(t, kind)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		var once sync.Once
		s.Intercept(func(w http.ResponseWriter, req *http.Request) (lost bool) {
			if req.Method != http.MethodPut {
				return false
			}
			once.Do(func() {
				s.Handler().ServeHTTP(discarding{http.Header{}}, req)
				lost = true
			})
			if lost {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		b := randomBytes(200_000, 5)
		sent, err := r.PushBlob(t.Context(), blobOf(b), nil, BytesBody(b))
		if err != nil || sent != (Sent{Bytes: 200_000}) {
			t.Errorf("%s: %+v, %v", kind, sent, err)
		}
		got := calls(s)
		if last := got[len(got)-1]; last != "HEAD blobs/sha256:… 200" {
			t.Errorf("%s: %v", kind, got)
		}
		holds(t, r, b)
	}
}

// A single-request upload that breaks off is sent again, whole.
func TestUploadSingleBreaks(t *testing.T) {
	t.Parallel()
	s, broken := breakable(t, regtest.New(t, regtest.WithAPI).Handler())
	r := openTest(t, settled(t, broken), s.Host, "app")
	broken.once(1, 500, 1)
	b := randomBytes(10_000, 6)
	if err := r.PushBytes(t.Context(), blobOf(b), b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"POST blobs/uploads/?digest 0", "POST blobs/uploads/?digest 201"}, calls(s)); diff != "" {
		t.Error(diff)
	}
	big := randomBytes(1<<20, 7)
	broken.once(1, 1<<19, 1)
	s.Reset()
	if _, err := r.PushBlob(t.Context(), blobOf(big), nil, BytesBody(big)); err != nil {
		t.Fatal(err)
	}
	// What is larger is asked for before it is sent again.
	if diff := cmp.Diff([]string{
		"POST blobs/uploads/?mount 404", "POST blobs/uploads/?digest 0", "POST blobs/uploads/?mount 404", "POST blobs/uploads/?digest 201",
	}, calls(s)); diff != "" {
		t.Error(diff)
	}
	holds(t, r, big)
}

// A source that lies never completes an upload; once may have been an accident (CASES.md C01, F15, F16).
func TestC01SourceThatLies(t *testing.T) {
	t.Parallel()
	right := randomBytes(300_000, 8)
	other := bytes.Clone(right)
	other[250_000] ^= 1
	for _, kind := range regtest.Kinds {
		for _, size := range []int{1000, 300_000} {
			right, other := right[:size], bytes.Clone(other[:size])
			other[size/2] ^= 1
			for _, test := range []struct {
				name  string
				lies  int
				bytes []byte
			}{
				{"F15 once", 1, other},
				{"F16 always", 99, other},
				{"short", 99, right[:size-1]},
				{"long", 99, append(bytes.Clone(right), 0)},
				{"empty", 99, nil},
			} {
				t.Run(fmt.Sprint(kind, " ", size, " ", test.name), func(t *testing.T) {
					t.Parallel()
					s := regtest.New(t, kind)
					var warned []string
					c := newTestClient(t, Options{Warn: func(code, _ string) { warned = append(warned, code) }})
					r := openTest(t, c, s.Host, "app")
					var opened atomic.Int32
					_, err := r.PushBlob(t.Context(), blobOf(right), nil, func(_ context.Context, offset int64) (io.ReadCloser, error) {
						if n := int(opened.Add(1)); n > test.lies {
							return io.NopCloser(bytes.NewReader(right[offset:])), nil
						}
						return io.NopCloser(bytes.NewReader(test.bytes[offset:])), nil
					})
					if opened.Load() != 2 || !slices.Equal(warned, []string{"digest-mismatch-once"}) {
						t.Errorf("opened %d times, warned %v", opened.Load(), warned)
					}
					if test.lies == 1 {
						if err != nil {
							t.Fatal(err)
						}
						holds(t, r, right)
						return
					}
					if !errors.Is(err, ErrDigestMismatch) || reason(err) != "digest-mismatch" {
						t.Error(err)
					}
					isAbsent(t, r, blobOf(right))
				})
			}
		}
	}
}

// What the registry computes differs from what was sent: it is sent anew once, whole.
func TestF15CorruptedOnTheWay(t *testing.T) {
	t.Parallel()
	for name, times := range map[string]int{"once": 1, "always": 99} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			var puts atomic.Int32
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method == http.MethodPut && int(puts.Add(1)) <= times {
					b, _ := io.ReadAll(req.Body)
					b[500] ^= 1
					req.Body = io.NopCloser(bytes.NewReader(b))
				}
				return false
			})
			b := randomBytes(100_000, 9)
			_, err := r.PushBlob(t.Context(), blobOf(b), nil, BytesBody(b))
			if times == 1 {
				if err != nil {
					t.Fatal(err)
				}
				holds(t, r, b)
				return
			}
			if !errors.Is(err, ErrDigestMismatch) || reason(err) != "digest-mismatch" || puts.Load() != 2 {
				t.Errorf("sent %d times, %v", puts.Load(), err)
			}
			isAbsent(t, r, blobOf(b))
		})
	}
}

// A source that breaks is opened again where it broke, and the registry does not hear of it (CASES.md F05, "either side").
func TestF05SourceBreaks(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s := regtest.New(t, kind)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		b := randomBytes(1<<20, 10)
		at := []int64{1 << 19, 1<<19 + 1, 1<<20 - 1}
		var read atomic.Int64
		opened := 0
		sent, err := r.PushBlob(t.Context(), blobOf(b), nil, func(_ context.Context, offset int64) (io.ReadCloser, error) {
			opened++
			if opened > len(at) {
				return io.NopCloser(&counting{bytes.NewReader(b[offset:]), &read}), nil
			}
			part := &counting{bytes.NewReader(b[offset:at[opened-1]]), &read}
			return io.NopCloser(io.MultiReader(part, brokenReader{fail(codeUnavailable, "%w: the source", ErrUnavailable)})), nil
		})
		if err != nil || sent.Bytes != 1<<20 || read.Load() != 1<<20 || opened != len(at)+1 {
			t.Errorf("%s: %+v, %d bytes read in %d openings, %v", kind, sent, read.Load(), opened, err)
		}
		if n := s.Count(func(r regtest.Request) bool { return r.Method == http.MethodPut }); n != 1 {
			t.Errorf("%s: %v", kind, calls(s))
		}
		holds(t, r, b)
	}
}

// One that gives hardly anything is given up.
func TestSourceThatKeepsBreaking(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	c := newTestClient(t, Options{})
	slept := recordSleep(c)
	b := randomBytes(200_000, 11)
	_, err := openTest(t, c, s.Host, "app").PushBlob(t.Context(), blobOf(b), nil, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[offset:offset+10]), brokenReader{fail(codeUnavailable, "%w: the source", ErrUnavailable)})), nil
	})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the source") || len(slept()) != maxTries-1 {
		t.Errorf("slept %v: %v", slept(), err)
	}
}

// An upload that is called off closes its session, in a second at most (CASES.md F38).
func TestF38UploadCancelled(t *testing.T) {
	t.Parallel()
	s, broken := breakable(t, regtest.New(t, regtest.WithoutAPI).Handler())
	ctx, cancel := context.WithCancel(t.Context())
	b := randomBytes(1<<20, 12)
	begin := time.Now()
	_, err := openTest(t, settled(t, broken), s.Host, "app").PushBlob(ctx, blobOf(b), nil, func(ctx context.Context, _ int64) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:1<<19]), blocked{ctx, cancel})), nil
	})
	if !errors.Is(err, context.Canceled) || reason(err) != "" {
		t.Error(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	got := calls(s)
	if !slices.Contains(got, "DELETE blobs/uploads/… 204") {
		t.Errorf("the session was left open: %v", got)
	}
	// A registry that does not answer does not keep anybody.
	hang := make(chan struct{})
	defer close(hang)
	stuck := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", "/v2/app/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		default:
			<-hang
		}
	}))
	ctx, cancel = context.WithCancel(t.Context())
	begin = time.Now()
	_, err = openTest(t, newTestClient(t, Options{}), stuck.Host, "app").PushBlob(ctx, blobOf(b), nil, func(ctx context.Context, _ int64) (io.ReadCloser, error) {
		return io.NopCloser(blocked{ctx, cancel}), nil
	})
	if took := time.Since(begin); !errors.Is(err, context.Canceled) || took > cancelTime+time.Second {
		t.Errorf("took %s: %v", took, err)
	}
}

// A blocked reader calls off what reads it, and waits for that.
type blocked struct {
	ctx    context.Context
	cancel func()
}

func (b blocked) Read([]byte) (int, error) {
	b.cancel()
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// What many want at once travels once (CASES.md F24's cousin for blobs): the others wait, and find or mount it.
func TestUploadOnceForAll(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			c := newTestClient(t, Options{})
			b := randomBytes(1<<20, 13)
			body := &bodyOf{b: b}
			const repositories, each = 5, 4
			var sent, mounted, there atomic.Int64
			var wg sync.WaitGroup
			for i := range repositories * each {
				r := openTest(t, c, s.Host, fmt.Sprint("app", i%repositories))
				wg.Go(func() {
					got, err := r.PushBlob(t.Context(), blobOf(b), nil, body.open)
					if err != nil {
						t.Error(err)
					}
					switch got {
					case Sent{Bytes: 1 << 20}:
						sent.Add(1)
					case Sent{Mounted: true}:
						mounted.Add(1)
					case Sent{There: true}:
						there.Add(1)
					default:
						t.Errorf("%+v", got)
					}
				})
			}
			wg.Wait()
			if sent.Load() != 1 || mounted.Load() != repositories-1 || there.Load() != repositories*(each-1) || body.opened.Load() != 1 {
				t.Errorf("sent %d times, mounted %d times, %d times there, opened %d times", sent.Load(), mounted.Load(), there.Load(), body.opened.Load())
			}
			for i := range repositories {
				holds(t, openTest(t, c, s.Host, fmt.Sprint("app", i)), b)
			}
		})
	}
}

// Who fails lets the next one try, and who waits may be called off.
func TestUploadTurns(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	c := newTestClient(t, Options{})
	r := openTest(t, c, s.Host, "app")
	b := randomBytes(100_000, 14)
	begun, fails := make(chan struct{}), make(chan struct{})
	broken := errors.New("broken")
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := r.PushBlob(t.Context(), blobOf(b), nil, func(context.Context, int64) (io.ReadCloser, error) {
			close(begun)
			<-fails
			return nil, broken
		})
		if !errors.Is(err, broken) {
			t.Error(err)
		}
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openTest(t, c, s.Host, "other").PushBlob(ctx, blobOf(b), nil, BytesBody(b)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wg.Go(func() {
		if sent, err := r.PushBlob(t.Context(), blobOf(b), nil, BytesBody(b)); err != nil || sent.Bytes != 100_000 {
			t.Errorf("%+v, %v", sent, err)
		}
	})
	close(fails)
	wg.Wait()
	holds(t, r, b)
	if n := len(c.host(s.Host).blobs.flights); n != 0 {
		t.Errorf("%d turns never ended", n)
	}
}

// What is remembered is bounded, and what was used last is remembered best.
func TestMemory(t *testing.T) {
	t.Parallel()
	m := memory[int, string]{most: 100}
	for i := range 10_000 {
		m.put(i, fmt.Sprint(i))
		if _, ok := m.get(0); !ok {
			t.Fatalf("0 was forgotten after %d, though it was asked for", i)
		}
		if n := len(m.young) + len(m.old); n > 100 {
			t.Fatalf("%d are remembered", n)
		}
	}
	if v, ok := m.get(9_990); !ok || v != "9990" {
		t.Error("what was new is forgotten")
	}
	if _, ok := m.get(5_000); ok {
		t.Error("what was old is not")
	}
	m.drop(9_990)
	if _, ok := m.get(9_990); ok {
		t.Error("what was dropped is there")
	}
}

// A manifest PUT was taken, and its answer lost in a gateway: it is one referrer (CASES.md F04).
func TestF04StoredButGatewayTimeout(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s := regtest.New(t, kind)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		subject := pushImage(t, r, "image")
		var once sync.Once
		s.Intercept(func(w http.ResponseWriter, req *http.Request) (lost bool) {
			if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/sha256:") {
				once.Do(func() {
					lost = true
					s.Handler().ServeHTTP(discarding{http.Header{}}, req)
					w.WriteHeader(http.StatusGatewayTimeout)
				})
			}
			return lost
		})
		m := referrerTo(t, subject, "one")
		if err := r.Attach(t.Context(), subject.Descriptor, m); err != nil {
			t.Fatal(kind, err)
		}
		list, err := r.Referrers(t.Context(), subject.Descriptor, "")
		if err != nil || !slices.Equal(digests(list), []string{m.Descriptor.Digest.String()}) {
			t.Errorf("%s: %v, %v", kind, digests(list), err)
		}
		if n := s.Count(func(r regtest.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.Path, m.Descriptor.Digest.String())
		}); n != 2 {
			t.Errorf("%s: put %d times", kind, n)
		}
	}
}

// A blob that was stored is not seen yet when its manifest comes (CASES.md F28).
func TestF28ManifestBeforeItsBlobIsSeen(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		status   int
		unknown  int // answers
		absent   bool
		tries    int
		sentinel error
		reason   string
	}{
		{"a while", 400, 3, false, 4, nil, ""},
		{"404 to HEAD for a while, too", 404, 2, true, 3, nil, ""},
		{"for ever", 400, 99, false, maxTries, ErrUnavailable, "registry-unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			c := newTestClient(t, Options{})
			slept := recordSleep(c)
			r := openTest(t, c, s.Host, "app")
			layer := []byte("layer")
			for _, b := range [][]byte{layer, []byte("{}")} {
				if err := r.PushBytes(t.Context(), blobOf(b), b); err != nil {
					t.Fatal(err)
				}
			}
			m := manifestOf(t, map[string]any{
				"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": ocispec.DescriptorEmptyJSON, "layers": []any{blobOf(layer)},
			}, ocispec.MediaTypeImageManifest)
			var puts atomic.Int32
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				switch {
				case req.Method == http.MethodHead && test.absent && int(puts.Load()) <= test.unknown:
					w.WriteHeader(http.StatusNotFound)
					return true
				case req.Method != http.MethodPut || int(puts.Add(1)) > test.unknown:
					return false
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`)
				return true
			})
			err := r.PushManifest(t.Context(), m)
			if !errors.Is(err, test.sentinel) || reason(err) != test.reason {
				t.Error(err)
			}
			if int(puts.Load()) != test.tries || len(slept()) != test.tries-1 {
				t.Errorf("put %d times, slept %v", puts.Load(), slept())
			}
			if err != nil && s.Count(func(r regtest.Request) bool { return r.Method == http.MethodHead }) < 2 {
				t.Errorf("the blobs were not asked for: %v", calls(s))
			}
		})
	}
}

// A blob that nobody has put is not waited for.
func TestF28ManifestWithoutItsBlob(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	c := newTestClient(t, Options{})
	slept := recordSleep(c)
	m := manifestOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": ocispec.DescriptorEmptyJSON, "layers": []any{blobOf([]byte("never"))},
	}, ocispec.MediaTypeImageManifest)
	err := openTest(t, c, s.Host, "app").PushManifest(t.Context(), m)
	if err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "is not there") || len(slept()) != 0 {
		t.Errorf("slept %v: %v", slept(), err)
	}
}

// The same of the children of an index.
func TestF28IndexBeforeItsChildIsSeen(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]bool{"put": true, "never put": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			c := newTestClient(t, Options{})
			slept := recordSleep(c)
			r := openTest(t, c, s.Host, "app")
			child := pushImage(t, r, "child")
			if !put {
				child = manifestOf(t, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest}, ocispec.MediaTypeImageManifest)
			}
			index := manifestOf(t, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child.Descriptor}}, ocispec.MediaTypeImageIndex)
			index = NewManifest(ocispec.MediaTypeImageIndex, bytes.Replace(index.Bytes, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1))
			var puts atomic.Int32
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPut || puts.Add(1) > 2 {
					return false
				}
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`)
				return true
			})
			err := r.PushManifest(t.Context(), index)
			if put && (err != nil || len(slept()) != 2) {
				t.Errorf("slept %v: %v", slept(), err)
			}
			if !put && (reason(err) != "not-found" || !strings.Contains(err.Error(), child.Descriptor.Digest.String()) || len(slept()) != 0) {
				t.Errorf("slept %v: %v", slept(), err)
			}
		})
	}
}

// A registry that answers well and forgets is noticed before there is a tag (CASES.md G14).
func TestG14PutAndForgotten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		times  int32
		reason string
	}{"once": {1, ""}, "always": {99, CodeUnsettled}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			subject := pushImage(t, r, "image")
			var puts atomic.Int32
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPut || puts.Add(1) > test.times {
					return false
				}
				w.Header().Set("OCI-Subject", subject.Descriptor.Digest.String())
				w.WriteHeader(http.StatusCreated)
				return true
			})
			m := referrerTo(t, subject, "one")
			if err := r.PushManifest(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			err := r.Confirm(t.Context(), subject.Descriptor, m)
			if reason(err) != test.reason || errors.Is(err, ErrUnsettled) != (test.reason != "") {
				t.Error(err)
			}
			list, err := r.Referrers(t.Context(), subject.Descriptor, "")
			if err != nil || len(list) != 1 && test.reason == "" {
				t.Errorf("%v, %v", digests(list), err)
			}
		})
	}
}

// A tag that may not change is said to be so (CASES.md G16).
func TestG16ImmutableTag(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status int
		body   string
		taken  bool // the tag names something else
		reason string
	}{
		{"ECR", 400, `{"errors":[{"code":"TAG_INVALID","message":"The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable."}]}`, true, "tag-immutable"},
		{"Harbor", 412, `{"errors":[{"code":"PRECONDITION","message":"Failed to process request due to 'app:v1' configured as immutable."}]}`, true, "tag-immutable"},
		{"409", 409, ``, true, "tag-immutable"},
		{"ocimem", 403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied: cannot overwrite tag"}]}`, true, "tag-immutable"},
		{"403 without a word", 403, ``, true, "tag-immutable"},
		{"403, and no such tag", 403, ``, false, "forbidden"},
		{"400 for the manifest", 400, `{"errors":[{"code":"MANIFEST_INVALID"}]}`, true, "refused"},
		{"401", 401, ``, true, "unauthorized"},
		{"503", 503, ``, true, "registry-unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithAPI)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			m := pushImage(t, r, "new")
			if test.taken {
				if err := r.Tag(t.Context(), pushImage(t, r, "old"), "v1"); err != nil {
					t.Fatal(err)
				}
			}
			s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPut {
					return false
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
				return true
			})
			for what, err := range map[string]error{"Tag": r.Tag(t.Context(), m, "v1"), "SetTags": r.SetTags(t.Context(), m, "v1"), "SetTags of two": r.SetTags(t.Context(), m, "v1", "v2")} {
				if reason(err) != test.reason || !strings.Contains(err.Error(), fmt.Sprint(test.status)) {
					t.Errorf("%s: %s: %v", what, reason(err), err)
				}
				if test.reason == "tag-immutable" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "v1")) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// A registry that knows sha256 only says so in a way that a person understands (CASES.md C14).
func TestC14OtherDigests(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		for _, size := range []int{1000, 100_000} {
			s := regtest.New(t, kind)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			b := randomBytes(size, 15)
			sum := sha512.Sum512(b)
			d := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.NewDigestFromBytes(digest.SHA512, sum[:]), Size: int64(size)}
			_, err := r.PushBlob(t.Context(), d, nil, BytesBody(b))
			t.Logf("%s %d: %v %v", kind, size, err, calls(s))
			if err == nil {
				// Then it is there, under that digest.
				rc, err := r.Blob(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%s: %d bytes, %v", kind, len(got), err)
				}
				_ = rc.Close()
				continue
			}
			if !errors.Is(err, ErrUnsupported) || reason(err) != "unsupported" || !strings.Contains(err.Error(), "takes no sha512 digests") {
				t.Errorf("%s: %v", kind, err)
			}
			isAbsent(t, r, d)
		}
	}
	s := regtest.New(t, regtest.WithAPI)
	r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
	m := pushImage(t, r, "image")
	m.Descriptor.Digest = digest.SHA512.FromBytes(m.Bytes)
	err := r.PushManifest(t.Context(), m)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "takes no sha512 digests") {
		t.Error(err)
	}
	if tags := listTags(t, r); len(tags) != 0 {
		t.Errorf("tags %v", tags)
	}
}

func listTags(t *testing.T, r *Repo) []string {
	t.Helper()
	var tags []string
	for tag, err := range r.Tags(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	return tags
}

// manyTags is a registry that writes the tags of ?tag= and says so (end-7b of the distribution specification).
func manyTags(next http.Handler, takes func(tag string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tags := r.URL.Query()["tag"]
		if r.Method != http.MethodPut || len(tags) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		b, _ := io.ReadAll(r.Body)
		var taken []string
		for _, tag := range tags {
			if !takes(tag) {
				continue
			}
			one := r.Clone(r.Context())
			one.URL.RawQuery = ""
			one.URL.Path = r.URL.Path[:strings.LastIndex(r.URL.Path, "/")+1] + tag
			one.Body = io.NopCloser(bytes.NewReader(b))
			next.ServeHTTP(discarding{http.Header{}}, one)
			taken = append(taken, tag)
		}
		if len(taken) > 2 { // either form of RFC 9110 section 5.3
			w.Header().Add("OCI-Tag", strings.Join(taken[:2], ", "))
			taken = taken[2:]
		}
		for _, tag := range taken {
			w.Header().Add("OCI-Tag", tag)
		}
		w.WriteHeader(http.StatusCreated)
	})
}

func TestSetTags(t *testing.T) {
	t.Parallel()
	twelve := strings.Split("a b c d e f g h i j k l", " ")
	for _, test := range []struct {
		name  string
		takes func(string) bool // nil: the registry knows nothing of it
		calls [][]string        // with tags of each
		want  []int             // requests of each
	}{
		{"honoured", func(string) bool { return true }, [][]string{{"a"}, {"a", "b", "c", "d"}, {"e", "f"}, twelve}, []int{1, 1, 1, 2}},
		{"in part", func(t string) bool { return t != "b" }, [][]string{{"a", "b", "c"}, {"b", "c"}}, []int{2, 2}},
		{"ignored", nil, [][]string{{"a", "b"}, {"c", "d"}}, []int{3, 2}},
	} {
		for _, kind := range regtest.Kinds {
			t.Run(test.name+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				handler := regtest.New(t, kind).Handler()
				if test.takes != nil {
					handler = manyTags(handler, test.takes)
				}
				s := regtest.Serve(t, handler)
				r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
				m := pushImage(t, r, "image")
				for i, tags := range test.calls {
					s.Reset()
					if err := r.SetTags(t.Context(), m, tags...); err != nil {
						t.Fatal(err)
					}
					if n := s.Count(nil); n != test.want[i] {
						t.Errorf("%v: %d requests: %v", tags, n, calls(s))
					}
					for _, tag := range tags {
						if d, err := r.Tagged(t.Context(), tag); err != nil || d != m.Descriptor.Digest {
							t.Errorf("%s names %s, %v", tag, d, err)
						}
					}
				}
			})
		}
	}
}

// Too many at once, or one that is refused, is no reason to write none.
func TestSetTagsRefusedTogether(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge, http.StatusBadRequest, http.StatusNotFound} {
		s := regtest.New(t, regtest.WithAPI)
		r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
		m := pushImage(t, r, "image")
		s.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if !req.URL.Query().Has("tag") {
				return false
			}
			w.WriteHeader(status)
			return true
		})
		if err := r.SetTags(t.Context(), m, "a", "b", "c"); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		if diff := cmp.Diff([]string{"a", "b", "c"}, listTags(t, r)); diff != "" {
			t.Errorf("%d: %s", status, diff)
		}
	}
}
