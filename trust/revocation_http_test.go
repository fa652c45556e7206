package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/fetch"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// stumbling answers the first requests by itself, and lets the others through.
type stumbling struct {
	first []func(*http.Request) (*http.Response, error)
	asked atomic.Int64
	next  http.RoundTripper
}

func (s *stumbling) RoundTrip(r *http.Request) (*http.Response, error) {
	if n := int(s.asked.Add(1)); n <= len(s.first) {
		return s.first[n-1](r)
	}
	return s.next.RoundTrip(r)
}

func says(status int) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("no")), Request: r}, nil
	}
}

// brokenBody ends within an answer.
type brokenBody struct{ of io.Reader }

func (b brokenBody) Read(p []byte) (int, error) {
	n, err := b.of.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func breaksOff(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(brokenBody{strings.NewReader("0")}), Request: r}, nil
}

func refusesConnections(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

// TestRevocationIsAskedOnceMore: what may pass is asked again, once; what an answer decides is not.
func TestRevocationIsAskedOnceMore(t *testing.T) {
	t.Parallel()
	type answer = func(*http.Request) (*http.Response, error)
	for name, tt := range map[string]struct {
		first []answer
		want  string
		asked int64
	}{
		"500":                    {[]answer{says(500)}, "good", 2},
		"503":                    {[]answer{says(503)}, "good", 2},
		"too many requests":      {[]answer{says(429)}, "good", 2},
		"broken off":             {[]answer{breaksOff}, "good", 2},
		"no connection":          {[]answer{refusesConnections}, "good", 2},
		"500, and again":         {[]answer{says(500), says(500)}, "unknown", 2},
		"no connection, and 500": {[]answer{refusesConnections, says(500)}, "unknown", 2},
		"not found":              {[]answer{says(404)}, "unknown", 1},
		"forbidden":              {[]answer{says(403)}, "unknown", 1},
		"no content":             {[]answer{says(204)}, "unknown", 1},
		"one part":               {[]answer{says(206)}, "unknown", 1},
		"an answer that is none": {[]answer{says(200)}, "unknown", 1},
	} {
		for _, of := range []string{"list", "responder"} {
			t.Run(of+" "+name, func(t *testing.T) {
				t.Parallel()
				ca := authorityOf(t, certtest.Root("root"))
				client := plain()
				way := &stumbling{first: tt.first, next: client.Transport}
				client.Transport = way
				chain := chainOf(ca, map[string]certtest.Edit{"list": ca.NamesList(), "responder": ca.NamesResponder()}[of])
				found, code, detail := standingOf(t, &Sources{HTTP: client}, ruled(t, checkEnforce, true), chain, time.Time{})
				wantStanding(t, found, code, detail, tt.want)
				if n := way.asked.Load(); n != tt.asked {
					t.Errorf("%d requests, want %d", n, tt.asked)
				}
			})
		}
	}
}

// labelled changes what an answer says that it is.
type labelled struct {
	as   []string // nil: nothing
	next http.RoundTripper
}

func (l labelled) RoundTrip(r *http.Request) (*http.Response, error) {
	if is, wants := r.Header.Get("Content-Type"), r.Header.Get("Accept"); r.Method == http.MethodPost && (is != typeOCSPRequest || wants != typeOCSPResponse) {
		return nil, fmt.Errorf("a responder is sent %q and asked for %q", is, wants) // RFC 6960, A.1
	}
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		resp.Header["Content-Type"] = l.as
	}
	return resp, err
}

// TestRevocationByType: what a responder calls something else is not its answer; of lists, which lie on any server, nothing is asked.
func TestRevocationByType(t *testing.T) {
	t.Parallel()
	for as, want := range map[string]string{
		"":               "good",
		typeOCSPResponse: "good",
		"Application/OCSP-Response; charset=utf-8": "good",
		"text/html":                "unknown",
		"application/ocsp-request": "unknown",
		"/":                        "unknown",
	} {
		ca := authorityOf(t, certtest.Root("root"))
		client := plain()
		way := labelled{next: client.Transport}
		if as != "" {
			way.as = []string{as}
		}
		client.Transport = way
		for names, want := range map[*certtest.Edit]string{new(ca.NamesResponder()): want, new(ca.NamesList()): "good"} {
			found, code, detail := standingOf(t, &Sources{HTTP: client}, ruled(t, checkEnforce, true), chainOf(ca, *names), time.Time{})
			if found.Status != want || (code == "") != (want == "good") {
				t.Errorf("as %q: %s %s (%s), want %s", as, found.Status, code, detail, want)
			}
		}
	}
}

// TestX13Slow: a byte now and then is no answer, however long it goes on.
func TestX13Slow(t *testing.T) {
	t.Parallel()
	for name, names := range map[string]func(*revtest.CA) certtest.Edit{"list": (*revtest.CA).NamesList, "responder": (*revtest.CA).NamesResponder} {
		for lie, most := range map[revtest.Lie]int{revtest.Slow: 2, revtest.Hangs: 1} { // who never answered is not asked again
			t.Run(fmt.Sprint(name, " ", most), func(t *testing.T) {
				t.Parallel()
				ca := authorityOf(t, certtest.Root("root"))
				ca.Lie(lie)
				client := fetch.New(fetch.Options{AllowPrivate: true, Timeout: 500 * time.Millisecond}).HTTP()
				found, code, detail := standingOf(t, &Sources{HTTP: client}, ruled(t, checkEnforce, true), chainOf(ca, names(ca)), time.Time{})
				wantStanding(t, found, code, detail, "unknown")
				if n := len(ca.Requests()); n > most {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// trickle is a transport whose answers have no end.
type trickle struct{ sent *atomic.Int64 }

func (f trickle) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(trickling{r.Context(), f.sent}), Request: r}, nil
}

type trickling struct {
	ctx  context.Context
	sent *atomic.Int64
}

func (b trickling) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		b.sent.Add(1)
		p[0] = 0x30
		return 1, nil
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

// TestRevocationHasItsTime: a responder has its time, so that lists come to theirs, and all that is asked about a certificate has one.
func TestRevocationHasItsTime(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	for name, tt := range map[string]struct {
		edits []certtest.Edit
		most  time.Duration
	}{
		"responder": {[]certtest.Edit{revtest.NamesResponders("http://ca.example/ocsp")}, responderTime},
		"list":      {[]certtest.Edit{revtest.NamesLists("http://ca.example/ca.crl")}, revocationTime},
		"many of both": {[]certtest.Edit{revtest.NamesResponders("http://ca.example/1", "http://ca.example/2", "http://ca.example/3"),
			revtest.NamesLists("http://ca.example/a.crl", "http://ca.example/b.crl", "http://ca.example/c.crl")}, revocationTime},
	} {
		t.Run(name, func(t *testing.T) {
			chain := certchain.Chain(root.Chain(root.Leaf(certtest.Key("P-256").Public(), "release", tt.edits...)))
			rule := ruled(t, checkEnforce, true)
			synctest.Test(t, func(t *testing.T) {
				var sent atomic.Int64
				src := &Sources{HTTP: &http.Client{Transport: trickle{&sent}}}
				began := time.Now()
				c := court{policy: &Policy{}, now: root.Certificate.NotBefore.Add(time.Hour)}
				c.evidence.revocation = src.revocations(t.Context(), []question{{rule: rule, chain: chain}}, c.now)
				if took := time.Since(began); took != tt.most || sent.Load() == 0 {
					t.Errorf("it took %s, want %s", took, tt.most)
				}
				found, code, detail, _ := c.revocation(rule, chain, false, time.Time{})
				wantStanding(t, found, code, detail, "unknown")
				if !strings.Contains(detail, "no answer came in time") {
					t.Errorf("it says %q", detail)
				}
			})
		})
	}
}
