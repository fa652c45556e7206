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
	"time"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// grain is n bytes of which no part is like another.
func grain(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// A holder is a registry with one blob that is served as a test wants it.
type holder struct {
	*regtest.Server
	t      testing.TB
	blob   []byte
	answer serving
	tries  atomic.Int32
	sent   atomic.Int64 // bytes of bodies
}

// A serving gets the number of the request and the offset that its Range asks for (0: none).
type serving func(h *holder, w http.ResponseWriter, try int, offset int)

// hold serves a blob.
func hold(t testing.TB, blob []byte, a serving) *holder {
	t.Helper()
	h := &holder{t: t, blob: blob, answer: a}
	h.Server = regtest.Serve(t, h)
	return h
}

func (h *holder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	offset, last := 0, 0
	if s := r.Header.Get("Range"); s != "" {
		if _, err := fmt.Sscanf(s, "bytes=%d-%d", &offset, &last); err != nil || last != len(h.blob)-1 || offset <= 0 || offset > last {
			h.t.Errorf("Range: %q", s)
		}
	}
	h.answer(h, w, int(h.tries.Add(1)), offset)
}

// part sends the bytes from one offset to another, after headers that announce those up to the end.
func (h *holder) part(w http.ResponseWriter, from, to int) {
	status := http.StatusOK
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(h.blob)-1, len(h.blob)))
		status = http.StatusPartialContent
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(h.blob)-from))
	w.WriteHeader(status)
	h.write(w, h.blob[from:to])
	if to < len(h.blob) {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func (h *holder) write(w io.Writer, b []byte) {
	n, _ := w.Write(b)
	h.sent.Add(int64(n))
}

// read reads the blob through a verifier.
func (h *holder) read(t testing.TB, c *Client) ([]byte, error) {
	t.Helper()
	return readBlobOf(t, openTest(t, c, h.Host, "app"), h.blob)
}

func readBlobOf(t testing.TB, r *Repo, blob []byte) ([]byte, error) {
	t.Helper()
	rc, err := r.Blob(t.Context(), blobOf(blob))
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func TestF05ResumeDownload(t *testing.T) {
	t.Parallel()
	blob := grain(300_000)
	size := len(blob)
	tests := map[string]struct {
		answer   func(h *holder, w http.ResponseWriter, try, offset int)
		requests int
		most     int // bytes on the line
	}{
		"reset": {func(h *holder, w http.ResponseWriter, try, offset int) {
			h.part(w, offset, map[bool]int{true: 200_000, false: size}[try == 1])
		}, 2, size},
		"before the first byte": {func(h *holder, w http.ResponseWriter, try, offset int) {
			h.part(w, offset, map[bool]int{true: 0, false: size}[try <= 3])
		}, 4, size},
		"before the last byte": {func(h *holder, w http.ResponseWriter, try, offset int) {
			h.part(w, offset, map[bool]int{true: size - 1, false: size}[try == 1])
		}, 2, size},
		"often": {func(h *holder, w http.ResponseWriter, _, offset int) {
			h.part(w, offset, min(offset+4000, size))
		}, 75, size},
		"parts that end early": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if try == 1 {
				h.part(w, 0, 10_000)
			}
			end := min(offset+100_000, size)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", offset, end-1))
			w.WriteHeader(http.StatusPartialContent)
			h.write(w, blob[offset:end])
		}, 4, size},
		"no ranges": {func(h *holder, w http.ResponseWriter, try, offset int) {
			h.part(w, 0, map[bool]int{true: 200_000, false: size}[try <= 2])
		}, 3, size + 400_000},
		"416 to ranges": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if offset > 0 {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			h.part(w, 0, map[bool]int{true: 200_000, false: size}[try == 1])
		}, 3, size + 200_000},
		"another part": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if offset > 0 {
				h.part(w, offset-1, size)
				return
			}
			h.part(w, 0, map[bool]int{true: 200_000, false: size}[try == 1])
		}, 3, 2*size + 1},
		"part of another blob": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if offset > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, size-1, size+1))
				w.WriteHeader(http.StatusPartialContent)
				return
			}
			h.part(w, 0, map[bool]int{true: 200_000, false: size}[try == 1])
		}, 3, size + 200_000},
		"the registry is away for a while": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if try > 1 && try < 5 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			h.part(w, offset, map[bool]int{true: 200_000, false: size}[try == 1])
		}, 5, size},
		"F14 chunked": {func(h *holder, w http.ResponseWriter, _, _ int) {
			_ = http.NewResponseController(w).Flush()
			h.write(w, blob)
		}, 1, size},
		"F14 chunked that ends early once": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if try == 1 {
				_ = http.NewResponseController(w).Flush()
				h.write(w, blob[:100_000])
				return
			}
			h.part(w, offset, size)
		}, 2, size},
		"F12 Content-Length larger than the body, once": {func(h *holder, w http.ResponseWriter, try, offset int) {
			h.part(w, offset, map[bool]int{true: size / 2, false: size}[try == 1])
		}, 2, size},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hold(t, blob, test.answer)
			got, err := h.read(t, newTestClient(t, Options{}))
			if err != nil || !bytes.Equal(got, blob) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			// net/http repeats a request on a connection that was closed while idle: one more may be seen.
			if n := h.Count(nil); n < test.requests || n > test.requests+1 {
				t.Errorf("%d requests, not %d", n, test.requests)
			}
			// What a broken connection had not delivered yet was sent for nothing.
			if n := int(h.sent.Load()); n > test.most {
				t.Errorf("%d bytes were sent, at most %d are needed", n, test.most)
			}
		})
	}
}

// Downloads that come to nothing end, with what was wrong, and nothing is accepted.
func TestF12F13DownloadsThatFail(t *testing.T) {
	t.Parallel()
	blob := grain(100_000)
	size := len(blob)
	endless := func(w http.ResponseWriter) {
		for {
			if _, err := w.Write(make([]byte, 8192)); err != nil {
				return
			}
		}
	}
	tests := map[string]struct {
		answer   func(h *holder, w http.ResponseWriter, try, offset int)
		sentinel error
		reason   string
		requests int // at most
		says     string
	}{
		"F12 Content-Length larger than the body, always": {func(h *holder, w http.ResponseWriter, _, offset int) {
			h.part(w, offset, max(offset, size/2))
		}, ErrUnavailable, "registry-unavailable", 1 + maxTries, "broke off at byte 50000 of 100000"},
		"breaks for ever": {func(h *holder, w http.ResponseWriter, _, offset int) {
			h.part(w, offset, offset+1)
		}, ErrUnavailable, "registry-unavailable", maxBreaks, "broke off at byte 100 "},
		"F13 Content-Length smaller than the body": {func(_ *holder, w http.ResponseWriter, _, _ int) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write(blob[:10])
		}, ErrDigestMismatch, "digest-mismatch", 1, "announces 10 bytes"},
		"F13 Content-Length larger than the blob": {func(_ *holder, w http.ResponseWriter, _, _ int) {
			w.Header().Set("Content-Length", fmt.Sprint(1<<40))
			endless(w)
		}, ErrDigestMismatch, "digest-mismatch", 1, "announces"},
		"C01 F13 endless": {func(_ *holder, w http.ResponseWriter, _, _ int) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(blob)
			endless(w)
		}, ErrDigestMismatch, "digest-mismatch", 1, "sent more than the 100000 bytes"},
		"C01 one byte too many": {func(_ *holder, w http.ResponseWriter, _, _ int) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(append(bytes.Clone(blob), 0))
		}, ErrDigestMismatch, "digest-mismatch", 1, "sent more than the 100000 bytes"},
		"C01 other bytes": {func(h *holder, w http.ResponseWriter, _, _ int) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write(make([]byte, size))
		}, ErrDigestMismatch, "digest-mismatch", 1, "came back as"},
		"F14 chunked that ends early, always": {func(h *holder, w http.ResponseWriter, _, offset int) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(blob[:size/2])
		}, ErrDigestMismatch, "digest-mismatch", 1 + maxTries, "sent 50000 of the 100000 bytes"},
		"F17 an error with status 200": {func(_ *holder, w http.ResponseWriter, _, _ int) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAVAILABLE"}]}`)
		}, ErrDigestMismatch, "digest-mismatch", 1, "announces"},
		"gone in between": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if try > 1 {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			h.part(w, 0, size/2)
		}, ErrNotFound, "not-found", 2, "404"},
		"F03 away for ever": {func(h *holder, w http.ResponseWriter, try, offset int) {
			if try > 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			h.part(w, 0, size/2)
		}, ErrUnavailable, "registry-unavailable", 1 + maxTries, "503"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hold(t, blob, test.answer)
			got, err := h.read(t, newTestClient(t, Options{}))
			if !errors.Is(err, test.sentinel) || reason(err) != test.reason || !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("%s: %v", reason(err), err)
			}
			if err != nil && !strings.Contains(err.Error(), h.Host) && !strings.Contains(err.Error(), string(blobOf(blob).Digest)) {
				t.Errorf("who, or what? %v", err)
			}
			if len(got) >= size {
				t.Errorf("%d bytes were handed out", len(got))
			}
			// One more where net/http repeated a request itself.
			if n := h.Count(nil); n > test.requests+1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// What is behind a redirect is asked for at the registry again: the address of the first time may be used up (G01).
func TestG01RedirectedDownloadGoesOn(t *testing.T) {
	t.Parallel()
	blob := grain(100_000)
	store := hold(t, blob, func(h *holder, w http.ResponseWriter, try, offset int) {
		h.part(w, offset, map[bool]int{true: 60_000, false: len(blob)}[try == 1])
	})
	var times atomic.Int32
	front := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, fmt.Sprintf("http://%s/once/%d", store.Host, times.Add(1)), http.StatusTemporaryRedirect)
	}))
	rc, err := openTest(t, newTestClient(t, Options{}), front.Host, "app").Blob(t.Context(), blobOf(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, blob) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	paths := make(map[string]bool)
	for _, r := range store.Requests() {
		paths[r.Path] = true
	}
	if !paths["/once/1"] || !paths["/once/2"] || store.sent.Load() != int64(len(blob)) {
		t.Errorf("asked for %v, %d bytes travelled", paths, store.sent.Load())
	}
}

// Other bytes than were asked for are asked for once more (F15, F16, F17).
func TestF15F16ReadBlob(t *testing.T) {
	t.Parallel()
	blob := []byte("an envelope")
	wrong := map[string]func(w http.ResponseWriter){
		"other bytes":    func(w http.ResponseWriter) { _, _ = io.WriteString(w, "an envelopf") },
		"other length":   func(w http.ResponseWriter) { _, _ = io.WriteString(w, "an envelope!") },
		"F17 JSON error": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"errors":[]}`) },
	}
	for name, lie := range wrong {
		for _, lies := range []int{1, 1000} {
			t.Run(fmt.Sprint(name, " ", lies), func(t *testing.T) {
				t.Parallel()
				h := hold(t, blob, func(h *holder, w http.ResponseWriter, try, offset int) {
					if try <= lies {
						lie(w)
						return
					}
					h.part(w, offset, len(blob))
				})
				var mu sync.Mutex
				var warned []string
				c := newTestClient(t, Options{Warn: func(code, _ string) {
					mu.Lock()
					defer mu.Unlock()
					warned = append(warned, code)
				}})
				got, err := openTest(t, c, h.Host, "app").ReadBlob(t.Context(), blobOf(blob), 100)
				if fmt.Sprint(warned) != "[digest-mismatch-once]" || h.Count(nil) != 2 {
					t.Errorf("warned of %v, %d requests", warned, h.Count(nil))
				}
				if lies == 1 && (err != nil || !bytes.Equal(got, blob)) {
					t.Errorf("%q, %v", got, err)
				}
				if lies > 1 && (!errors.Is(err, ErrDigestMismatch) || reason(err) != "digest-mismatch" || got != nil) {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
}

// A blob can be read from any offset, its end too.
func TestBlobFrom(t *testing.T) {
	t.Parallel()
	blob := grain(1000)
	for _, ranges := range []bool{true, false} {
		h := hold(t, blob, func(h *holder, w http.ResponseWriter, _, offset int) {
			if !ranges {
				offset = 0
			}
			h.part(w, offset, len(blob))
		})
		r := openTest(t, newTestClient(t, Options{}), h.Host, "app")
		for _, offset := range []int64{0, 1, 500, 999, 1000} {
			rc, err := r.BlobFrom(t.Context(), blobOf(blob), offset)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(rc)
			if err := errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, blob[offset:]) {
				t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
			}
			if _, err := rc.Read(make([]byte, 1)); err == nil {
				t.Error("it can be read when it is closed")
			}
		}
		for _, offset := range []int64{-1, 1001} {
			if _, err := r.BlobFrom(t.Context(), blobOf(blob), offset); !errors.Is(err, ErrDigestMismatch) {
				t.Errorf("from %d: %v", offset, err)
			}
		}
	}
}

// Closing ends a read that waits: net/http closes the body of a request while it is read.
func TestCloseWhileReading(t *testing.T) {
	t.Parallel()
	blob := grain(1000)
	done := make(chan struct{})
	h := hold(t, blob, func(_ *holder, w http.ResponseWriter, _, _ int) {
		w.Header().Set("Content-Length", "1000")
		_ = http.NewResponseController(w).Flush()
		<-done
	})
	defer close(done)
	rc, err := openTest(t, newTestClient(t, Options{}), h.Host, "app").BlobFrom(t.Context(), blobOf(blob), 0)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := rc.Read(make([]byte, 10))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	_ = rc.Close()
	if err := <-read; err == nil {
		t.Error("the read went well")
	}
}

// A download that is called off says so.
func TestDownloadCancelled(t *testing.T) {
	t.Parallel()
	blob := grain(1000)
	ctx, cancel := context.WithCancel(t.Context())
	h := hold(t, blob, func(h *holder, w http.ResponseWriter, _, _ int) {
		cancel()
		h.part(w, 0, 500)
	})
	rc, err := openTest(t, newTestClient(t, Options{}), h.Host, "app").Blob(ctx, blobOf(blob))
	if err == nil {
		_, err = io.ReadAll(rc)
		_ = rc.Close()
	}
	if !errors.Is(err, context.Canceled) || h.Count(nil) != 1 {
		t.Errorf("%d requests, %v", h.Count(nil), err)
	}
}

func TestRangeFits(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"bytes 10-99/100":   true,
		"Bytes 10-99/*":     true,
		"bytes 10-50/100":   true,
		"bytes 10-100/100":  false,
		"bytes 10-99/101":   false,
		"bytes 9-99/100":    false,
		"bytes 10-9/100":    false,
		"bytes */100":       false,
		"bytes 10/100":      false,
		"items 10-99/100":   false,
		"10-99/100":         false,
		"":                  false,
		"bytes 10-99":       false,
		"bytes +10-99/100x": false,
	} {
		if got := rangeFits(s, 10, 100); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestEmptyBlob(t *testing.T) {
	t.Parallel()
	h := hold(t, nil, func(h *holder, w http.ResponseWriter, _, _ int) { w.WriteHeader(http.StatusOK) })
	if got, err := h.read(t, newTestClient(t, Options{})); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
