package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// What many want at once travels once (F24's cousin for blobs): the others wait, and find or mount it.
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
