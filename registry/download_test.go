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

// noise is n bytes of which no part is like another.
func noise(n int) []byte {
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
	blob []byte
	sent atomic.Int64 // bytes of bodies
}

// hold serves blob by answer, which gets the number of the request and the offset that its Range asks for (0: none).
func hold(t testing.TB, blob []byte, answer func(h *holder, w http.ResponseWriter, try int, offset int)) *holder {
	t.Helper()
	h := &holder{blob: blob}
	var tries atomic.Int32
	h.Server = regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		offset, last := 0, 0
		if s := r.Header.Get("Range"); s != "" {
			if _, err := fmt.Sscanf(s, "bytes=%d-%d", &offset, &last); err != nil || last != len(blob)-1 || offset <= 0 || offset > last {
				t.Errorf("Range: %q", s)
			}
		}
		answer(h, w, int(tries.Add(1)), offset)
	}))
	return h
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

// whole reads the blob through a verifier.
func (h *holder) read(t testing.TB, c *Client) ([]byte, error) {
	t.Helper()
	rc, err := openTest(t, c, h.Host, "app").Blob(t.Context(), blobOf(h.blob))
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func TestF05ResumeDownload(t *testing.T) {
	t.Parallel()
	blob := noise(300_000)
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
	blob := noise(100_000)
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

// hurry makes a client as impatient as a test is.
func hurry(c *Client, p patience) *Client {
	c.retry.patience = p
	return c
}

var impatient = patience{object: 5 * time.Second, headers: 5 * time.Second, window: 60 * time.Millisecond, floor: slowFloor}

// What trickles is broken off, asked for again, and given up (CASES.md F09).
func TestF09SlowLoris(t *testing.T) {
	t.Parallel()
	blob := noise(100_000)
	trickle := func(_ *holder, w http.ResponseWriter, _, offset int) {
		if offset > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}
		for i := offset; i < len(blob); i++ {
			if _, err := w.Write(blob[i : i+1]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Run("blob", func(t *testing.T) {
		t.Parallel()
		h := hold(t, blob, trickle)
		got, err := h.read(t, hurry(newTestClient(t, Options{}), impatient))
		if !errors.Is(err, ErrUnavailable) || reason(err) != "registry-unavailable" || !strings.Contains(err.Error(), "less than 1024 bytes a second") {
			t.Error(err)
		}
		if n := h.Count(nil); n != maxTries || len(got) > 1000 {
			t.Errorf("%d requests, %d bytes", n, len(got))
		}
	})
	t.Run("manifest", func(t *testing.T) {
		t.Parallel()
		h := hold(t, blob, trickle)
		_, _, err := openTest(t, hurry(newTestClient(t, Options{}), impatient), h.Host, "app").store.manifest(t.Context(), "v1", "")
		if !errors.Is(err, ErrUnavailable) || h.Count(nil) != maxTries {
			t.Errorf("%d requests, %v", h.Count(nil), err)
		}
	})
	t.Run("nothing comes, once", func(t *testing.T) {
		t.Parallel()
		h := hold(t, blob, func(h *holder, w http.ResponseWriter, try, offset int) {
			if try > 1 {
				h.part(w, offset, len(blob))
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			h.write(w, blob[:50_000])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Second)
		})
		got, err := h.read(t, hurry(newTestClient(t, Options{}), impatient))
		if err != nil || !bytes.Equal(got, blob) || h.Count(nil) != 2 || h.sent.Load() != int64(len(blob)) {
			t.Errorf("%d bytes of %d sent, %d requests, %v", len(got), h.sent.Load(), h.Count(nil), err)
		}
	})
}

// --timeout bounds what does not move. What does has the time that it takes.
func TestTimeoutDoesNotBoundWhatMoves(t *testing.T) {
	t.Parallel()
	blob := noise(64_000)
	h := hold(t, blob, func(h *holder, w http.ResponseWriter, _, _ int) {
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		for i := 0; i < len(blob); i += 1000 {
			_, _ = w.Write(blob[i : i+1000])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	c := newTestClient(t, Options{Timeout: 200 * time.Millisecond})
	begin := time.Now()
	got, err := h.read(t, c)
	if err != nil || !bytes.Equal(got, blob) || h.Count(nil) != 1 {
		t.Errorf("%d bytes, %d requests, %v", len(got), h.Count(nil), err)
	}
	if time.Since(begin) < 600*time.Millisecond {
		t.Error("it came too fast for this test to say anything")
	}
}

// Nothing at all for so long ends it, whatever tries are left.
func TestTimeoutBoundsWhatDoesNotMove(t *testing.T) {
	t.Parallel()
	blob := noise(1000)
	for name, answer := range map[string]func(h *holder, w http.ResponseWriter, try, offset int){
		"no answer": func(_ *holder, _ http.ResponseWriter, _, _ int) { time.Sleep(300 * time.Millisecond) },
		"no body": func(_ *holder, w http.ResponseWriter, _, _ int) {
			w.Header().Set("Content-Length", "1000")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(300 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hold(t, blob, answer)
			_, err := h.read(t, newTestClient(t, Options{Timeout: 100 * time.Millisecond}))
			if !errors.Is(err, ErrUnavailable) || h.Count(nil) > 2 {
				t.Errorf("%d requests, %v", h.Count(nil), err)
			}
		})
	}
}

// A reader that pauses is not the registry's fault.
func TestPaceOfASlowReader(t *testing.T) {
	t.Parallel()
	blob := noise(1 << 20)
	h := hold(t, blob, func(h *holder, w http.ResponseWriter, _, offset int) { h.part(w, offset, len(blob)) })
	rc, err := openTest(t, hurry(newTestClient(t, Options{}), impatient), h.Host, "app").Blob(t.Context(), blobOf(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.CopyN(io.Discard, rc, 1); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * impatient.window)
	if n, err := io.Copy(io.Discard, rc); err != nil || n != int64(len(blob))-1 || h.Count(nil) != 1 {
		t.Errorf("%d bytes, %d requests, %v", n, h.Count(nil), err)
	}
}

// An answer that does not begin is not waited for longer than for headers, and asked for again (CASES.md F10).
func TestF10NoHeaders(t *testing.T) {
	t.Parallel()
	p := impatient
	p.headers = 50 * time.Millisecond
	for _, test := range []struct {
		name  string
		hangs int
		ok    bool
	}{{"twice", 2, true}, {"always", 100, false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			blob := []byte("blob")
			done := make(chan struct{})
			h := hold(t, blob, func(h *holder, w http.ResponseWriter, try, offset int) {
				if try <= test.hangs {
					<-done
					return
				}
				h.part(w, offset, len(blob))
			})
			defer close(done)
			got, err := h.read(t, hurry(newTestClient(t, Options{}), p))
			if test.ok {
				if err != nil || !bytes.Equal(got, blob) || h.Count(nil) != test.hangs+1 {
					t.Errorf("%q, %d requests, %v", got, h.Count(nil), err)
				}
				return
			}
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "did not answer") || h.Count(nil) != maxTries {
				t.Errorf("%d requests, %v", h.Count(nil), err)
			}
		})
	}
}

// A registry that takes no bytes is given up; one that takes them slowly, and more than a trickle, is not.
func TestF09SlowUpload(t *testing.T) {
	t.Parallel()
	body := noise(8 << 20) // more than the buffers on the way hold
	push := func(t *testing.T, read func(r io.Reader)) error {
		s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			read(r.Body)
			w.WriteHeader(http.StatusCreated)
		}))
		c := hurry(newTestClient(t, Options{}), impatient)
		resp, err := openTest(t, c, s.Host, "app").store.(*remote).do(t.Context(), call{
			method: http.MethodPut, path: "blobs/uploads/x", action: actionPush, size: int64(len(body)),
			open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		})
		if err == nil {
			discard(resp)
		}
		return err
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		done := make(chan struct{})
		defer close(done)
		err := push(t, func(io.Reader) { <-done })
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "less than 1024 bytes a second") {
			t.Error(err)
		}
	})
	t.Run("slowly", func(t *testing.T) {
		t.Parallel()
		err := push(t, func(r io.Reader) {
			for range 16 {
				_, _ = io.CopyN(io.Discard, r, 512<<10)
				time.Sleep(impatient.window / 4)
			}
			_, _ = io.Copy(io.Discard, r)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// What is behind a redirect is asked for at the registry again: the address of the first time may be used up (CASES.md G01).
func TestG01RedirectedDownloadGoesOn(t *testing.T) {
	t.Parallel()
	blob := noise(100_000)
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

// Other bytes than were asked for are asked for once more (CASES.md F15, F16, F17).
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
	blob := noise(1000)
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
	blob := noise(1000)
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
	blob := noise(1000)
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

// --max-rate is never exceeded by more than what is taken at once, in either direction, by all bodies together.
func TestMaxRate(t *testing.T) {
	t.Parallel()
	const bytesPerSecond = 1 << 20
	blob := noise(96 << 10)
	check := func(t *testing.T, begin time.Time, moved int64) {
		t.Helper()
		// Each stream may hold what it has read and not yet paid for.
		if most := int64(time.Since(begin).Seconds()*bytesPerSecond) + 4*bytesPerSecond/burstsPerSecond; moved > most {
			t.Errorf("%d bytes after %s, at most %d", moved, time.Since(begin), most)
		}
	}
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		h := hold(t, blob, func(h *holder, w http.ResponseWriter, _, offset int) { h.part(w, offset, len(blob)) })
		r := openTest(t, newTestClient(t, Options{MaxRate: bytesPerSecond}), h.Host, "app")
		begin := time.Now()
		var moved atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				rc, err := r.Blob(t.Context(), blobOf(blob))
				if err != nil {
					t.Error(err)
					return
				}
				defer rc.Close()
				buffer := make([]byte, 32<<10)
				for {
					n, err := rc.Read(buffer)
					check(t, begin, moved.Add(int64(n)))
					if err != nil {
						if err != io.EOF {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		wg.Wait()
	})
	t.Run("up", func(t *testing.T) {
		t.Parallel()
		var begin time.Time
		s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			moved, buffer := int64(0), make([]byte, 4<<10)
			for {
				n, err := r.Body.Read(buffer)
				moved += int64(n)
				check(t, begin, moved)
				if err != nil {
					break
				}
			}
			w.WriteHeader(http.StatusCreated)
		}))
		r := openTest(t, newTestClient(t, Options{MaxRate: bytesPerSecond}), s.Host, "app").store.(*remote)
		for _, c := range []call{
			{body: blob},
			{size: int64(len(blob)), open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }},
		} {
			c.method, c.path, c.action = http.MethodPut, "blobs/uploads/x", actionPush
			begin = time.Now()
			resp, err := r.do(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			discard(resp)
			if took := time.Since(begin); took < 50*time.Millisecond {
				t.Errorf("%d bytes took %s", len(blob), took)
			}
		}
	})
	t.Run("called off", func(t *testing.T) {
		t.Parallel()
		h := hold(t, blob, func(h *holder, w http.ResponseWriter, _, offset int) { h.part(w, offset, len(blob)) })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		rc, err := openTest(t, newTestClient(t, Options{MaxRate: 100}), h.Host, "app").Blob(ctx, blobOf(blob))
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		begin := time.Now()
		if _, err := io.ReadAll(rc); err == nil || time.Since(begin) > 5*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
	})
}

func TestEmptyBlob(t *testing.T) {
	t.Parallel()
	h := hold(t, nil, func(h *holder, w http.ResponseWriter, _, _ int) { w.WriteHeader(http.StatusOK) })
	if got, err := h.read(t, newTestClient(t, Options{})); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
