package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// What is read a second time, because a request broke, is not believed to be what was read the first time: a registry that
// computes no digest never gets a mixture to keep (C01).
func TestC01SourceThatChanges(t *testing.T) {
	t.Parallel()
	right := randomBytes(3<<20+1000, 12)
	size := len(right)
	for name, c := range map[string]struct {
		kept  int // of the first request
		wrong int // the byte that is another when it is read again
	}{
		"from the beginning":   {0, 5},
		"the last byte":        {0, size - 1},
		"where it broke":       {1<<20 + 500_000, 1<<20 + 500_000},
		"the end of a step":    {1<<20 + 500_000, 2<<20 - 1},
		"a step later":         {1<<20 + 500_000, 2<<20 + 7},
		"the end, gone on":     {3 << 20, size - 1},
		"before where it goes": {3<<20 + 500, 3 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var session, stored []byte
			first := true
			s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil { // given up by the client: nothing of it is kept, whenever its end is seen
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.Method == http.MethodPost:
					session = nil
					w.Header().Set("Location", "/v2/app/blobs/uploads/1")
					w.WriteHeader(http.StatusAccepted)
				case first && len(body) > 0: // everything came, some was kept, and none of it is answered well
					first, session = false, body[:c.kept]
					w.WriteHeader(http.StatusBadGateway)
				case r.Method == http.MethodPatch:
					session = append(session, body...)
					w.Header().Set("Range", fmt.Sprintf("0-%d", len(session)-1))
					w.WriteHeader(http.StatusAccepted)
				case r.Method == http.MethodPut:
					stored = append(session, body...)
					w.WriteHeader(http.StatusCreated)
				case r.Method == http.MethodGet && len(session) > 0:
					w.Header().Set("Range", fmt.Sprintf("0-%d", len(session)-1))
					w.WriteHeader(http.StatusNoContent)
				case r.Method == http.MethodDelete:
					w.WriteHeader(http.StatusNoContent)
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			}))
			var warned, opened atomic.Int32
			client := newTestClient(t, Options{Warn: func(string, string) { warned.Add(1) }})
			_, err := openTest(t, client, s.Host, "app").PushBlob(t.Context(), blobOf(right), nil, func(_ context.Context, offset int64) (io.ReadCloser, error) {
				b := right
				if opened.Add(1) == 2 {
					b = bytes.Clone(right)
					b[c.wrong] ^= 1
				}
				return io.NopCloser(bytes.NewReader(b[offset:])), nil
			})
			if err != nil || !bytes.Equal(stored, right) {
				t.Errorf("stored %d bytes, the right ones: %t, %v", len(stored), bytes.Equal(stored, right), err)
			}
			if warned.Load() != 1 || opened.Load() != 3 {
				t.Errorf("warned %d times, opened %d times", warned.Load(), opened.Load())
			}
		})
	}
}
