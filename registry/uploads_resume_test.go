package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

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

// Sessions that are gone, or refuse to go on, are replaced (F06, F07).
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

// The final PUT was taken, only its answer was lost (F08).
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

// A source that lies never completes an upload; once may have been an accident (C01, F15, F16).
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

// A source that breaks is opened again where it broke, and the registry does not hear of it (F05, "either side").
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

// An upload that is called off closes its session, in a second at most (F38).
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
	if took := time.Since(begin); took > 10*time.Second {
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
	if took := time.Since(begin); !errors.Is(err, context.Canceled) || took > cancelTime+10*time.Second { // an answer is waited for three times as long
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

// Tries count only as long as nothing moves: a line that breaks ten times, each time a little later, carries it all.
func TestF06ManyBreaks(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s, broken := breakable(t, regtest.New(t, kind).Handler())
		const size, breaks = 1 << 20, 10
		seen := 0
		broken.cut = func(r *http.Request) int64 {
			if r.ContentLength < size/2 {
				return -1
			}
			if seen++; seen > breaks {
				return -1
			}
			return size / 2 / breaks
		}
		c := settled(t, broken)
		b := randomBytes(size, 30)
		body := &bodyOf{b: b}
		r := openTest(t, c, s.Host, "app")
		if err := r.PushBytes(t.Context(), blobOf([]byte("{}")), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		c.host(s.Host).singleUpload.set(false) // a session is what this is about
		if _, err := r.PushBlob(t.Context(), blobOf(b), nil, body.open); err != nil {
			t.Fatalf("%s: %v\n%v", kind, err, calls(s))
		}
		if n := s.Count(func(r regtest.Request) bool { return r.Status == 0 }); n != breaks {
			t.Errorf("%s: broke %d times", kind, n)
		}
		if got := broken.got.Load(); got != size+2 && kind == regtest.WithAPI {
			t.Errorf("%s: %d bytes arrived", kind, got)
		}
		holds(t, r, b)
	}
}

// A registry that wants to be left alone is, also in the middle of an upload (F01, F02).
func TestF01UploadRetryAfter(t *testing.T) {
	t.Parallel()
	for after, ok := range map[string]bool{"2": true, "121": false} {
		s := regtest.New(t, regtest.WithoutAPI)
		c := newTestClient(t, Options{})
		slept := recordSleep(c)
		var once sync.Once
		s.Intercept(func(w http.ResponseWriter, req *http.Request) (busy bool) {
			if req.Method == http.MethodPut {
				once.Do(func() {
					busy = true
					_, _ = io.Copy(io.Discard, req.Body)
					w.Header().Set("Retry-After", after)
					w.WriteHeader(http.StatusTooManyRequests)
				})
			}
			return busy
		})
		b := randomBytes(100_000, 31)
		r := openTest(t, c, s.Host, "app")
		_, err := r.PushBlob(t.Context(), blobOf(b), nil, BytesBody(b))
		if !ok {
			if !errors.Is(err, ErrUnavailable) || len(slept()) != 0 {
				t.Errorf("slept %v: %v", slept(), err)
			}
			continue
		}
		if err != nil || len(slept()) == 0 || slept()[0] < 2*time.Second {
			t.Errorf("slept %v: %v", slept(), err)
		}
		holds(t, r, b)
	}
}

// What does not move for as long as one object may take is given up, also before the tries are over (--timeout).
func TestUploadThatDoesNotMove(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	c := newTestClient(t, Options{Timeout: time.Minute})
	now := time.Now()
	c.retry.now = func() time.Time { return now } // read and written by this goroutine
	c.retry.sleep = func(ctx context.Context, _ time.Duration) error {
		now = now.Add(25 * time.Second)
		return ctx.Err()
	}
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusBadGateway)
		}
		return r.Method == http.MethodPut
	})
	b := randomBytes(100_000, 32)
	_, err := openTest(t, c, s.Host, "app").PushBlob(t.Context(), blobOf(b), nil, BytesBody(b))
	if n := s.Count(func(r regtest.Request) bool { return r.Method == http.MethodPut }); !errors.Is(err, ErrUnavailable) || n != 4 { // at 0, 25, 50 and 75 seconds
		t.Errorf("%d times, %v", n, err)
	}
}
