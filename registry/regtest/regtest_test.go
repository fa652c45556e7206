package regtest

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

func TestRegistriesAnswer(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds {
		s := New(t, kind)
		get := func(path string) int {
			res, err := http.Get("http://" + s.Host + path)
			if err != nil {
				return 0
			}
			_ = res.Body.Close()
			return res.StatusCode
		}
		if got := get("/v2/"); got != 200 {
			t.Errorf("%s: /v2/ answers %d", kind, got)
		}
		s.CutAt(2, false)
		if got := get("/v2/"); got != 200 {
			t.Errorf("%s: the request before the cut answers %d", kind, got)
		}
		if got := get("/v2/"); got != 0 {
			t.Errorf("%s: the cut request answers %d", kind, got)
		}
		s.Reset()
		s.Latency(20 * time.Millisecond)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { get("/v2/") })
		}
		wg.Wait()
		get("/v2/")
		if n, trips := s.Count(nil), s.RoundTrips(); n != 4 || trips != 2 {
			t.Errorf("%s: %d requests, %d in a row; want 4, 2", kind, n, trips)
		}
	}
}
