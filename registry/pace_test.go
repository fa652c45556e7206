package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs f where time passes only while everybody waits, with a repository of a registry that h answers for: no
// bound is shortened, and none is waited for.
func inBubble(t *testing.T, o Options, h http.Handler, f func(t *testing.T, r *Repo)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
		go func() { _ = server.Serve(l) }()
		o.PlainHTTP = true
		c, err := NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		base := c.retry.next.(*http.Transport)
		base.Proxy = nil
		c.retry.proxy = nil
		base.DialContext = l.dial
		f(t, openTest(t, c, "registry.test", "app"))
		base.CloseIdleConnections()
		_ = server.Close()
		time.Sleep(100 * time.Hour) // who answers still may sleep
	})
}

// pipes is a network of its own.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// drip sends a body bit by bit, one every pause.
func drip(w http.ResponseWriter, b []byte, bit int, pause time.Duration) {
	for len(b) > 0 {
		n := min(bit, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		b = b[n:]
		time.Sleep(pause)
	}
}

// What trickles is broken off, asked for again, and given up (F09).
func TestF09SlowLoris(t *testing.T) {
	t.Parallel()
	blob := grain(100_000)
	trickle := func(h *holder, w http.ResponseWriter, _, offset int) {
		if offset > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}
		drip(w, blob[offset:], 1, time.Second)
	}
	t.Run("blob", func(t *testing.T) {
		t.Parallel()
		h := &holder{t: t, blob: blob, answer: trickle}
		inBubble(t, Options{}, h, func(t *testing.T, r *Repo) {
			begin := time.Now()
			got, err := readBlobOf(t, r, blob)
			if !errors.Is(err, ErrUnavailable) || reason(err) != "registry-unavailable" || !strings.Contains(err.Error(), "less than 1024 bytes a second") {
				t.Error(err)
			}
			if n := h.tries.Load(); n != maxTries || len(got) > maxTries*31 {
				t.Errorf("%d requests, %d bytes", n, len(got))
			}
			if took := time.Since(begin); took < maxTries*slowWindow || took > maxTries*slowWindow+20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	})
	t.Run("manifest", func(t *testing.T) {
		t.Parallel()
		h := &holder{t: t, blob: blob, answer: trickle}
		inBubble(t, Options{}, h, func(t *testing.T, r *Repo) {
			_, _, err := r.store.manifest(t.Context(), "v1", "")
			if !errors.Is(err, ErrUnavailable) || h.tries.Load() != maxTries {
				t.Errorf("%d requests, %v", h.tries.Load(), err)
			}
		})
	})
	t.Run("it stalls once", func(t *testing.T) {
		t.Parallel()
		h := &holder{t: t, blob: blob, answer: func(h *holder, w http.ResponseWriter, try, offset int) {
			if try > 1 {
				h.part(w, offset, len(blob))
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			h.write(w, blob[:50_000])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Hour)
		}}
		inBubble(t, Options{}, h, func(t *testing.T, r *Repo) {
			got, err := readBlobOf(t, r, blob)
			synctest.Wait()
			if err != nil || !bytes.Equal(got, blob) || h.tries.Load() != 2 || h.sent.Load() != int64(len(blob)) {
				t.Errorf("%d bytes of %d sent, %d requests, %v", len(got), h.sent.Load(), h.tries.Load(), err)
			}
		})
	})
}

// --timeout bounds what does not move. What does has the time that it takes.
func TestTimeoutDoesNotBoundWhatMoves(t *testing.T) {
	t.Parallel()
	blob := grain(3_000_000)
	h := &holder{t: t, blob: blob, answer: func(_ *holder, w http.ResponseWriter, _, _ int) {
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		drip(w, blob, 1100, time.Second)
	}}
	inBubble(t, Options{}, h, func(t *testing.T, r *Repo) {
		begin := time.Now()
		got, err := readBlobOf(t, r, blob)
		if err != nil || !bytes.Equal(got, blob) || h.tries.Load() != 1 {
			t.Errorf("%d bytes, %d requests, %v", len(got), h.tries.Load(), err)
		}
		if took := time.Since(begin); took < 2*defaultTimeout {
			t.Errorf("it took only %s", took)
		}
	})
}

// Nothing at all for so long ends it, whatever tries are left.
func TestTimeoutBoundsWhatDoesNotMove(t *testing.T) {
	t.Parallel()
	blob := grain(1000)
	for name, test := range map[string]struct {
		timeout time.Duration
		answer  serving
	}{
		"no answer":         {10 * time.Second, func(_ *holder, _ http.ResponseWriter, _, _ int) { time.Sleep(time.Hour) }},
		"no answer, longer": {100 * time.Second, func(_ *holder, _ http.ResponseWriter, _, _ int) { time.Sleep(time.Hour) }},
		"no body": {100 * time.Second, func(_ *holder, w http.ResponseWriter, _, offset int) {
			w.Header().Set("Content-Length", "1000")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Hour)
		}},
		"Retry-After": {100 * time.Second, func(_ *holder, w http.ResponseWriter, _, _ int) {
			w.Header().Set("Retry-After", "40")
			w.WriteHeader(http.StatusTooManyRequests)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, Options{Timeout: test.timeout}, &holder{t: t, blob: blob, answer: test.answer}, func(t *testing.T, r *Repo) {
				begin := time.Now()
				_, err := readBlobOf(t, r, blob)
				if took := time.Since(begin); !errors.Is(err, ErrUnavailable) || took > test.timeout || took < test.timeout/3 {
					t.Errorf("after %s: %v", took, err)
				}
			})
		})
	}
}

// A reader that pauses is not the registry's fault.
func TestPaceOfASlowReader(t *testing.T) {
	t.Parallel()
	blob := grain(1 << 20)
	h := &holder{t: t, blob: blob, answer: func(h *holder, w http.ResponseWriter, _, offset int) { h.part(w, offset, len(blob)) }}
	inBubble(t, Options{}, h, func(t *testing.T, r *Repo) {
		rc, err := r.Blob(t.Context(), blobOf(blob))
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		for range 5 {
			if _, err := io.CopyN(io.Discard, rc, 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if n, err := io.Copy(io.Discard, rc); err != nil || n != int64(len(blob))-5 || h.tries.Load() != 1 {
			t.Errorf("%d bytes, %d requests, %v", n, h.tries.Load(), err)
		}
	})
}

// An answer that does not begin within 30 s is asked for again (F10). One to a large body has longer: it is
// still on its way when it is written, and then a digest is computed.
func TestF10NoHeaders(t *testing.T) {
	t.Parallel()
	blob := []byte("blob")
	hangs := func(n int) *holder {
		return &holder{t: t, blob: blob, answer: func(h *holder, w http.ResponseWriter, try, offset int) {
			if try <= n {
				time.Sleep(time.Hour)
				return
			}
			h.part(w, offset, len(blob))
		}}
	}
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		h := hangs(2)
		inBubble(t, Options{}, h, func(t *testing.T, r *Repo) {
			begin := time.Now()
			got, err := readBlobOf(t, r, blob)
			if err != nil || !bytes.Equal(got, blob) || h.tries.Load() != 3 || time.Since(begin) < 2*headerTimeout || time.Since(begin) > 2*headerTimeout+time.Second {
				t.Errorf("%q, %d requests, %s, %v", got, h.tries.Load(), time.Since(begin), err)
			}
		})
	})
	t.Run("always", func(t *testing.T) {
		t.Parallel()
		h := hangs(1000)
		inBubble(t, Options{}, h, func(t *testing.T, r *Repo) {
			_, err := readBlobOf(t, r, blob)
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "did not answer for 30s") || h.tries.Load() != maxTries {
				t.Errorf("%d requests, %v", h.tries.Load(), err)
			}
		})
	})
	for size, want := range map[int]time.Duration{10: headerTimeout, 10 << 10: headerTimeout + 10*time.Second, 1 << 20: defaultTimeout} {
		t.Run(fmt.Sprintf("to a body of %d bytes", size), func(t *testing.T) {
			t.Parallel()
			body := grain(size)
			inBubble(t, Options{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				time.Sleep(time.Hour)
			}), func(t *testing.T, r *Repo) {
				begin := time.Now()
				err := putStream(t.Context(), r, body)
				if took := time.Since(begin); !errors.Is(err, ErrUnavailable) || took != want {
					t.Errorf("after %s: %v", took, err)
				}
			})
		})
	}
}

// putStream sends one body as an upload does.
func putStream(ctx context.Context, r *Repo, body []byte) error {
	resp, err := r.store.(*remote).do(ctx, call{
		method: http.MethodPut, path: "blobs/uploads/x", action: actionPush, size: int64(len(body)),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	})
	if err == nil {
		discard(resp)
	}
	return err
}

// A registry that takes no bytes, or hardly any, is given up; one that takes them slowly has the time that it takes.
func TestF09SlowUpload(t *testing.T) {
	t.Parallel()
	body := grain(3_000_000)
	for name, test := range map[string]struct {
		bit  int64
		ends bool
	}{"nothing": {0, false}, "a trickle": {100, false}, "slowly": {5000, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for test.bit > 0 {
					if _, err := io.CopyN(io.Discard, r.Body, test.bit); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				if test.bit == 0 {
					time.Sleep(time.Hour)
				}
				w.WriteHeader(http.StatusCreated)
			}), func(t *testing.T, r *Repo) {
				begin := time.Now()
				err := putStream(t.Context(), r, body)
				took := time.Since(begin)
				if test.ends {
					if err != nil || took < defaultTimeout {
						t.Errorf("after %s: %v", took, err)
					}
					return
				}
				if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "less than 1024 bytes a second") || took > 10*slowWindow {
					t.Errorf("after %s: %v", took, err)
				}
			})
		})
	}
}

// A source that pauses is not the fault of who takes its bytes.
func TestPaceOfASlowSource(t *testing.T) {
	t.Parallel()
	inBubble(t, Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	}), func(t *testing.T, r *Repo) {
		resp, err := r.store.(*remote).do(t.Context(), call{
			method: http.MethodPut, path: "blobs/uploads/x", action: actionPush, size: 10,
			open: func() (io.ReadCloser, error) { return io.NopCloser(&dozing{left: 10}), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		discard(resp)
	})
}

// dozing gives a byte an hour.
type dozing struct{ left int }

func (d *dozing) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Hour)
	d.left--
	p[0] = 'z'
	return 1, nil
}

// --max-rate holds for all bodies of a direction together, and evenly.
func TestMaxRate(t *testing.T) {
	t.Parallel()
	const (
		bytesPerSecond = 1_000_000
		burst          = bytesPerSecond / burstsPerSecond
		streams        = 3
	)
	blob := grain(1_000_000)
	// even fails if more has moved than may have, or much less.
	even := func(t *testing.T, begin time.Time, moved int64) {
		t.Helper()
		due := int64(time.Since(begin).Seconds() * bytesPerSecond)
		if moved > due+(streams+1)*burst || moved < due-(streams+1)*burst {
			t.Errorf("%d bytes after %s", moved, time.Since(begin))
		}
	}
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		h := &holder{t: t, blob: blob, answer: func(h *holder, w http.ResponseWriter, _, offset int) { h.part(w, offset, len(blob)) }}
		inBubble(t, Options{MaxRate: bytesPerSecond}, h, func(t *testing.T, r *Repo) {
			begin := time.Now()
			var moved atomic.Int64
			var wg sync.WaitGroup
			for range streams {
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
						even(t, begin, moved.Add(int64(n)))
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
			if took := time.Since(begin); took < 2900*time.Millisecond || took > 3100*time.Millisecond {
				t.Errorf("it took %s", took)
			}
		})
	})
	t.Run("up", func(t *testing.T) {
		t.Parallel()
		inBubble(t, Options{MaxRate: bytesPerSecond}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin, moved, buffer := time.Now(), int64(0), make([]byte, 4<<10)
			for {
				n, err := r.Body.Read(buffer)
				moved += int64(n)
				even(t, begin, moved)
				if err != nil {
					break
				}
			}
			w.WriteHeader(http.StatusCreated)
		}), func(t *testing.T, r *Repo) {
			begin := time.Now()
			if err := putStream(t.Context(), r, blob); err != nil {
				t.Error(err)
			}
			resp, err := r.store.(*remote).do(t.Context(), call{method: http.MethodPut, path: "blobs/uploads/x", action: actionPush, body: blob})
			if err != nil {
				t.Fatal(err)
			}
			discard(resp)
			if took := time.Since(begin); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
				t.Errorf("it took %s", took)
			}
		})
	})
	t.Run("below the floor", func(t *testing.T) { // what we hold back ourselves is nobody's fault
		t.Parallel()
		small := grain(50_000)
		h := &holder{t: t, blob: small, answer: func(h *holder, w http.ResponseWriter, _, offset int) { h.part(w, offset, len(small)) }}
		inBubble(t, Options{MaxRate: 100}, h, func(t *testing.T, r *Repo) {
			got, err := readBlobOf(t, r, small)
			if err != nil || !bytes.Equal(got, small) || h.tries.Load() != 1 {
				t.Errorf("%d bytes, %d requests, %v", len(got), h.tries.Load(), err)
			}
			if err := putStream(t.Context(), r, small); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("called off", func(t *testing.T) {
		t.Parallel()
		h := &holder{t: t, blob: blob, answer: func(h *holder, w http.ResponseWriter, _, offset int) { h.part(w, offset, len(blob)) }}
		inBubble(t, Options{MaxRate: 1000}, h, func(t *testing.T, r *Repo) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Minute, cancel)
			rc, err := r.Blob(ctx, blobOf(blob))
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			begin := time.Now()
			if _, err := io.ReadAll(rc); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Minute {
				t.Errorf("after %s: %v", time.Since(begin), err)
			}
		})
	})
}
