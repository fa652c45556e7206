package regtest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func ask(t *testing.T, method, url string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return nil
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return nil
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res
}

// TestTrace: two registries on one clock, asked together and in turns.
func TestTrace(t *testing.T) {
	t.Parallel()
	trace := NewTrace()
	a, b := New(t, WithAPI), New(t, WithoutAPI)
	for _, s := range []*Server{a, b} {
		s.Record(trace)
		s.Latency(20 * time.Millisecond)
	}
	var wg sync.WaitGroup
	for _, s := range []*Server{a, b, a, b} {
		wg.Go(func() { ask(t, "GET", "http://"+s.Host+"/v2/", nil) })
	}
	wg.Wait()
	ask(t, "GET", "http://"+a.Host+"/v2/", nil)
	ask(t, "POST", "http://"+b.Host+"/v2/team/app/blobs/uploads/", nil)
	if n, trips := trace.Count("", nil), trace.RoundTrips(); n != 6 || trips != 3 {
		t.Errorf("%d requests, %d in a row; want 6, 3\n%s", n, trips, trace)
	}
	if a.Count(nil) != 3 || trace.Count(b.Host, nil) != 3 || a.RoundTrips() != 2 || b.RoundTrips() != 2 {
		t.Errorf("each side: %d and %d requests, %d and %d in a row; want 3, 3, 2, 2\n%s", a.Count(nil), trace.Count(b.Host, nil), a.RoundTrips(), b.RoundTrips(), trace)
	}
	if w := trace.Writes(); len(w) != 1 || w[0].Server != b.Host || w[0].Status != http.StatusAccepted || a.Writes() != 0 || b.Writes() != 1 {
		t.Errorf("writes: %v", w)
	}
	if lines := strings.Count(trace.String(), "\n"); lines != 6 {
		t.Errorf("%d lines for 6 requests:\n%s", lines, trace)
	}
	a.Reset()
	if n := trace.Count("", nil); n != 3 {
		t.Errorf("%d requests are left without those of one server, want 3", n)
	}
	trace.Reset()
	if n := b.Count(nil); n != 0 {
		t.Errorf("%d requests are left of an empty trace", n)
	}
}

func TestTraceCountsBytes(t *testing.T) {
	t.Parallel()
	s := New(t, WithAPI)
	blob := make([]byte, 100_000)
	d := digest.FromBytes(blob)
	ask(t, "POST", "http://"+s.Host+"/v2/team/app/blobs/uploads/?digest="+d.String(), blob)
	ask(t, "GET", "http://"+s.Host+"/v2/team/app/blobs/"+d.String(), nil)
	r := s.Requests()
	if len(r) != 2 || r[0].Status != 201 || r[0].In != 100_000 || r[0].Out != 0 || r[1].Status != 200 || r[1].In != 0 || r[1].Out != 100_000 {
		t.Errorf("recorded:\n%s", s.recording())
	}
}

// TestBandwidth: two bodies at a time share what there is, in each direction.
func TestBandwidth(t *testing.T) {
	t.Parallel()
	s := New(t, WithAPI)
	blob := make([]byte, 100_000)
	d := digest.FromBytes(blob)
	s.Bandwidth(1_000_000)
	for _, method := range []string{"POST", "GET"} {
		url := "http://" + s.Host + "/v2/team/app/blobs/" + map[string]string{"POST": "uploads/?digest=", "GET": ""}[method] + d.String()
		began := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				body := blob
				if method == "GET" {
					body = nil
				}
				ask(t, method, url, body)
			})
		}
		wg.Wait()
		if took := time.Since(began); took < 190*time.Millisecond {
			t.Errorf("%s: 200 kB at 1 MB/s take %s, want 200 ms at least", method, took)
		}
	}
	s.Bandwidth(10_000)
	s.Bandwidth(0)
	began := time.Now()
	ask(t, "GET", "http://"+s.Host+"/v2/team/app/blobs/"+d.String(), nil)
	if took := time.Since(began); took > 5*time.Second { // bounded it were 10 s
		t.Errorf("unbounded, 100 kB take %s", took)
	}
}

// TestWithoutShortcuts: what UPLOAD's shortcuts are measured against.
func TestWithoutShortcuts(t *testing.T) {
	t.Parallel()
	s := New(t, WithAPIOnly)
	blob := []byte("blob")
	d := digest.FromBytes(blob).String()
	base := "http://" + s.Host
	opened := ask(t, "POST", base+"/v2/team/app/blobs/uploads/?mount="+d+"&from=team/app", nil)
	if opened.StatusCode != http.StatusAccepted || opened.Header.Get("Location") == "" {
		t.Fatalf("mounting what is not there: %d, want 202 and a location", opened.StatusCode)
	}
	location := opened.Header.Get("Location")
	if strings.HasPrefix(location, "/") {
		location = base + location
	}
	if res := ask(t, "PUT", location+"?digest="+d, blob); res.StatusCode != http.StatusCreated {
		t.Errorf("the upload: %d, want 201", res.StatusCode)
	}
	if res := ask(t, "POST", base+"/v2/team/other/blobs/uploads/?mount="+d+"&from=team/app", nil); res.StatusCode != http.StatusCreated {
		t.Errorf("mounting what is there: %d, want 201", res.StatusCode)
	}
	if res := ask(t, "POST", base+"/v2/team/third/blobs/uploads/?digest="+d, blob); res.StatusCode == http.StatusCreated {
		t.Error("it takes an upload in one request")
	}
	if res := ask(t, "GET", base+"/v2/team/app/referrers/"+d, nil); res.StatusCode != http.StatusOK {
		t.Errorf("referrers: %d, want 200", res.StatusCode)
	}
}

func TestStartFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blob := []byte("blob")
	d := digest.FromBytes(blob).String()
	for range 2 { // the second finds what the first has kept
		s := StartFiles(dir)
		base := "http://" + s.Host
		if res := ask(t, "HEAD", base+"/v2/team/app/blobs/"+d, nil); res.StatusCode != http.StatusOK {
			opened := ask(t, "POST", base+"/v2/team/app/blobs/uploads/", nil)
			ask(t, "PUT", opened.Header.Get("Location")+"&digest="+d, blob)
		}
		if res := ask(t, "HEAD", base+"/v2/team/app/blobs/"+d, nil); res.StatusCode != http.StatusOK {
			t.Errorf("the blob: %d", res.StatusCode)
		}
		s.Close()
	}
}
