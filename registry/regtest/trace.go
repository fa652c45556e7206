package regtest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Request is one that a registry got.
type Request struct {
	Server              string // host:port of the registry
	Method, Path, Query string
	Header              http.Header
	Status              int // 0: the connection was cut, or the answer is still to come
	Begin, End          time.Time
	In, Out             int64 // bytes of the bodies that came and went, once it has ended
}

// Write reports whether it is a PUT, POST, PATCH or DELETE.
func (r Request) Write() bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// A Trace is what one or several registries were asked, on one clock. It keeps no bodies.
type Trace struct {
	mu       sync.Mutex
	requests []*Request
}

// NewTrace makes an empty trace, for [Server.Record].
func NewTrace() *Trace { return &Trace{} }

// begin adds a request. Its time is taken under the lock, so that the list is in the order of beginnings.
func (t *Trace) begin(r Request) *Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Begin = time.Now()
	t.requests = append(t.requests, &r)
	return &r
}

func (t *Trace) end(r *Request, out *recorder, in *countedBody) {
	at := out.last
	if at.IsZero() {
		at = time.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r.End, r.Status, r.Out = at, out.status, out.n
	if in != nil {
		r.In = in.n.Load()
	}
}

// Reset forgets all requests.
func (t *Trace) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = nil
}

// forget drops the requests of one server.
func (t *Trace) forget(server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = slices.DeleteFunc(t.requests, func(r *Request) bool { return r.Server == server })
}

// Requests returns what was recorded, in the order of beginnings.
func (t *Trace) Requests() []Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Request, len(t.requests))
	for i, r := range t.requests {
		out[i] = *r
	}
	return out
}

// Count returns the number of requests to a server ("" is all of them) for which match is true; nil counts all.
func (t *Trace) Count(server string, match func(Request) bool) int {
	n := 0
	for _, r := range t.Requests() {
		if (server == "" || r.Server == server) && (match == nil || match(r)) {
			n++
		}
	}
	return n
}

// Writes returns the writing requests, in the order of beginnings. Of two, the second was made in the knowledge of the
// first one's answer only if it began after the first one's end.
func (t *Trace) Writes() []Request {
	return slices.DeleteFunc(t.Requests(), func(r Request) bool { return !r.Write() })
}

// RoundTrips returns the length of the longest chain of requests, whichever registry they went to, each of which began
// after the one before it had ended: how many the client waited for one after another. Give the registries a Latency of
// some 20 ms first, else requests that might overlap don't.
func (t *Trace) RoundTrips() int { return roundTrips(t.Requests()) }

// String has a line for each request: when it began and how long it took, the registry, the request and its answer.
func (t *Trace) String() string {
	var b strings.Builder
	requests := t.Requests()
	for _, r := range requests {
		query := ""
		if r.Query != "" {
			query = "?" + r.Query
		}
		took := "…"
		if !r.End.IsZero() {
			took = fmt.Sprint(r.End.Sub(r.Begin).Round(time.Millisecond))
		}
		fmt.Fprintf(&b, "%7s +%-6s %s  %s %s%s %d", r.Begin.Sub(requests[0].Begin).Round(time.Millisecond), took, r.Server, r.Method,
			strings.ReplaceAll(r.Path, "sha256:", ""), strings.ReplaceAll(query, "sha256%3A", ""), r.Status)
		if r.In > 0 {
			fmt.Fprintf(&b, " in %d", r.In)
		}
		if r.Out > 0 {
			fmt.Fprintf(&b, " out %d", r.Out)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// roundTrips walks through beginnings and ends in the order of time.
func roundTrips(requests []Request) int {
	type event struct {
		at    time.Time
		begin bool
		of    int
	}
	events := make([]event, 0, 2*len(requests))
	for i, r := range requests {
		events = append(events, event{r.Begin, true, i})
		if !r.End.IsZero() {
			events = append(events, event{r.End, false, i})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	longest, most, ended := make([]int, len(requests)), 0, 0
	for _, e := range events {
		if e.begin {
			longest[e.of] = ended + 1
			most = max(most, longest[e.of])
		} else {
			ended = max(ended, longest[e.of])
		}
	}
	return most
}

// A link is one direction of a wire that all connections of a registry share.
type link struct {
	mu   sync.Mutex
	rate int64 // bytes a second; 0: no bound
	free time.Time
}

func (l *link) set(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.free = rate, time.Time{}
}

// pass takes the time that n bytes need, after those that others gave it before.
func (l *link) pass(n int) {
	l.mu.Lock()
	if l.rate <= 0 || n <= 0 {
		l.mu.Unlock()
		return
	}
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	time.Sleep(wait)
}

// A countedBody is a request's body on its way in.
type countedBody struct {
	io.ReadCloser
	via *link
	n   atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	b.via.pass(n)
	return n, err
}

// A recorder is an answer on its way out. Its end is the moment before its last bytes leave: by the time at which the
// handler returns, the client may have asked the next question.
type recorder struct {
	http.ResponseWriter
	via    *link
	status int
	n      int64
	last   time.Time
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status != 0 { // CNCF distribution answers some requests twice, which net/http would log
		return
	}
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.via.pass(len(b))
	r.last = time.Now()
	n, err := r.ResponseWriter.Write(b)
	r.n += int64(n)
	return n, err
}
