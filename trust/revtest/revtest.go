// Package revtest is a certification authority's revocation list and OCSP responder, for tests: over HTTP, in process, working or lying.
//
//	ca := revtest.New(certtest.Root("root").Intermediate("ca"))
//	t.Cleanup(ca.Stop)
//	leaf := ca.Leaf(key.Public(), "release", ca.NamesList(), ca.NamesResponder())
//	ca.Revoke(leaf, revtest.Revoked{Reason: revtest.KeyCompromise})
//	ca.Lie(revtest.Stale)
//	os.WriteFile("ca.crl", ca.List(), 0o644) // for files: PEM of it is revtest.PEM(ca.List())
package revtest

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// A Lie is how lists and answers are wrong.
type Lie int

// What a CA does; the zero value works.
const (
	Works Lie = iota

	// Of lists and of answers.
	Forged       // in the right name, by another key
	Stale        // it held until an hour ago
	Future       // it holds from tomorrow
	NoNextUpdate // it does not say until when it holds
	UnknownExt   // a critical extension that nobody knows
	SHA1         // signed with SHA-1
	Garbage      // no DER
	Empty        // 200 and nothing

	// Of lists.
	OtherIssuer     // by another authority, in its own name
	Delta           // a delta list, where a full one is meant
	NamesDelta      // says that there are delta lists; the CA serves one at /delta.crl that works
	NamesDeltaLost  // says that there are delta lists, where none is
	NamesItself     // says that it is its own delta list
	Indirect        // of other issuers' certificates too
	UsersOnly       // not of authorities
	AuthoritiesOnly // of authorities only
	AttributesOnly  // of attribute certificates only
	OtherPoint      // of another distribution point than certificates name
	OwnPoint        // of the very distribution point that they name: fine
	SomeReasons     // for key compromise only
	UnknownEntryExt // an entry with a critical extension that nobody knows
	DoubleExt       // an extension twice
	Trailing        // bytes behind it
	InPEM           // fine

	// Of answers.
	Unauthorised    // signed by a certificate of the same issuer that is no responder's
	Delegated       // signed by a responder that the issuer certified: fine
	DelegateExpired // by one whose certificate expired
	DelegateForeign // by a responder of another authority
	DelegateForged  // by a responder that another key of the issuer's name certified
	DelegateWeak    // by one with a key of 224 bits
	DelegateNoSign  // by one whose key is not for signing
	UnknownStatus   // "unknown"
	TryLater
	Unauthorized // the responder's error of this name
	OtherSerial  // about another certificate
	OtherName    // about a certificate of another issuer with the same serial
	OtherKey     // about a certificate of an issuer of the same name with another key
	WrongNonce
	NoNonce // fine: many responders know none
	BareNonce

	// Of HTTP, both.
	Huge      // 500 MB
	Slow      // a byte now and then
	Hangs     // no answer
	Down      // the connection is refused
	Cut       // the connection ends within the answer
	Redirects // to where RedirectTo says
	Status206
	Status404
	Status500
	HTML
)

// Reasons of RFC 5280, 5.3.1.
const (
	Unspecified   = 0
	KeyCompromise = 1
	Superseded    = 4
	Hold          = 6
	Remove        = 8 // from a delta list
)

// Revoked says how a certificate was revoked. The zero value: an hour ago, for no reason.
type Revoked struct {
	At      time.Time
	Reason  int
	Invalid time.Time // invalidityDate; zero: none
}

type revoked struct {
	serial *big.Int
	Revoked
}

// A CA is an authority that publishes what it revoked. It may be used by several goroutines.
type CA struct {
	*certtest.Authority

	mu       sync.Mutex
	lie      Lie
	redirect string
	now      func() time.Time
	valid    time.Duration
	revoked  []revoked
	deltas   []revoked
	number   int64
	requests []string
	server   *httptest.Server
	ended    chan struct{}
	once     sync.Once
}

// New returns a CA that works, and holds what it says for a day.
func New(a *certtest.Authority) *CA {
	c := &CA{Authority: a, now: time.Now, valid: 24 * time.Hour, number: 10, ended: make(chan struct{})}
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	return c
}

// Stop ends the server.
func (c *CA) Stop() {
	c.once.Do(func() {
		close(c.ended)
		c.server.CloseClientConnections()
		c.server.Close()
	})
}

// Lie has the CA lie from now on. Down closes the server for good.
func (c *CA) Lie(l Lie) {
	if l == Down {
		c.Stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lie = l
}

// RedirectTo is where Redirects leads.
func (c *CA) RedirectTo(url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.redirect = url
}

// Clock sets what time it is for the CA, and for how long it says that its lists and answers hold.
func (c *CA) Clock(now func() time.Time, valid time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.valid = now, valid
}

// Revoke puts a certificate on the list; Number goes up.
func (c *CA) Revoke(cert *x509.Certificate, how Revoked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked, c.number = append(c.revoked, c.entry(cert, how)), c.number+1
}

// RevokeInDelta puts a certificate on the delta list alone.
func (c *CA) RevokeInDelta(cert *x509.Certificate, how Revoked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deltas = append(c.deltas, c.entry(cert, how))
}

func (c *CA) entry(cert *x509.Certificate, how Revoked) revoked {
	if how.At.IsZero() {
		how.At = c.now().Add(-time.Hour)
	}
	return revoked{cert.SerialNumber, how}
}

// URL is where the CA is.
func (c *CA) URL() string { return c.server.URL }

// ListURL is where its list is.
func (c *CA) ListURL() string { return c.server.URL + "/ca.crl" }

// ResponderURL is where its responder is.
func (c *CA) ResponderURL() string { return c.server.URL + "/ocsp" }

// NamesList has a certificate name the list.
func (c *CA) NamesList() certtest.Edit { return NamesLists(c.ListURL()) }

// NamesResponder has a certificate name the responder.
func (c *CA) NamesResponder() certtest.Edit { return NamesResponders(c.ResponderURL()) }

// NamesLists has a certificate name lists at addresses.
func NamesLists(urls ...string) certtest.Edit {
	return func(t *x509.Certificate) { t.CRLDistributionPoints = append(t.CRLDistributionPoints, urls...) }
}

// NamesResponders has a certificate name responders at addresses.
func NamesResponders(urls ...string) certtest.Edit {
	return func(t *x509.Certificate) { t.OCSPServer = append(t.OCSPServer, urls...) }
}

// Requests returns what was asked, as "GET /ca.crl" and "POST /ocsp".
func (c *CA) Requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.requests...)
}

// List returns the list as the CA publishes it now, with its lies, in DER.
func (c *CA) List() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list(c.lie)
}

// DeltaList returns the delta list to List, in DER.
func (c *CA) DeltaList() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deltaList()
}

// PEM encodes lists.
func PEM(lists ...[]byte) []byte {
	var out []byte
	for _, l := range lists {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l})...)
	}
	return out
}

func (c *CA) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	c.mu.Lock()
	lie, redirect := c.lie, c.redirect
	c.requests = append(c.requests, r.Method+" "+r.URL.Path)
	var answer []byte
	kind := "application/pkix-crl"
	question, get := strings.CutPrefix(r.URL.EscapedPath(), "/ocsp/")
	if get { // RFC 6960, A.1
		text, _ := url.PathUnescape(question)
		body, _ = base64.StdEncoding.DecodeString(text)
	}
	switch {
	case r.URL.Path == "/ocsp", get:
		kind, answer = "application/ocsp-response", c.answer(lie, body)
	case r.URL.Path == "/delta.crl" && lie != NamesDeltaLost:
		answer = c.deltaList()
	case r.URL.Path == "/ca.crl":
		answer = c.list(lie)
	}
	c.mu.Unlock()
	if answer == nil && lie != Empty {
		http.NotFound(w, r)
		return
	}
	switch lie {
	case Redirects:
		http.Redirect(w, r, redirect, http.StatusFound)
	case Status404:
		http.NotFound(w, r)
	case Status500:
		http.Error(w, "no", http.StatusInternalServerError)
	case Status206:
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(answer)-1, len(answer)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(answer)
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body>sign in</body></html>")
	case Huge:
		w.Header().Set("Content-Type", kind)
		chunk := []byte(strings.Repeat("\x30", 1<<20))
		for range 500 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case Hangs:
		select {
		case <-c.ended:
		case <-r.Context().Done():
		}
	case Slow:
		w.Header().Set("Content-Type", kind)
		for _, b := range answer {
			if _, err := w.Write([]byte{b}); err != nil {
				return
			}
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-c.ended:
				return
			case <-r.Context().Done():
				return
			}
		}
	case Cut:
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		_, _ = w.Write(answer[:len(answer)/2])
	default:
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(answer)
	}
}
