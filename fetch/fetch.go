package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits on what is asked and answered.
const (
	MaxURL       = 2 << 10  // bytes of an address
	MaxRedirects = 5        // that one request follows
	MaxAnswer    = 32 << 20 // bytes of an answer to [Client.HTTP]; revocation lists are the largest that there are
	maxHeader    = 32 << 10 // bytes of an answer's header
)

// How long is waited, where [Options] says nothing else.
const (
	defaultTimeout = time.Minute
	defaultStall   = 10 * time.Second
	dialTimeout    = 10 * time.Second
)

// Options say how a [Client] goes out. The zero value goes out directly, and to no private address.
type Options struct {
	// AllowPrivate lifts the guard: loopback, private and all other addresses that are not of the public internet are reached too.
	AllowPrivate bool
	UserAgent    string
	// Proxy returns the proxy for a request, nil for none, as [http.ProxyFromEnvironment] does. Behind a proxy only the host in the
	// URL can be judged: which address a name means there is the proxy's knowledge. The proxy itself is the user's choice and may
	// be anywhere.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs are whom https is believed; nil: the system's.
	RootCAs *x509.CertPool
	Timeout time.Duration // of a request with its redirects and its answer; 0: one minute
	Stall   time.Duration // without a byte of an answer; 0: ten seconds
}

// A Client reads what certificates point at. It may be used by several goroutines.
type Client struct {
	guard   *guard
	timeout time.Duration
}

// New returns a client.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	g := &guard{Options: o, judge: checkAddress}
	g.dialer = net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, ControlContext: g.control}
	g.direct = g.transport(&g.dialer)
	g.proxied = g.transport(&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second})
	g.proxied.Proxy = chosen
	return &Client{guard: g, timeout: o.Timeout}
}

// Get reads what url names, which is http: what certificates point at carries its own signature, and to ask https for the
// certificates that https needs goes in circles (RFC 5280 section 8). A redirect may lead to https. An answer of more than
// limit bytes is an error, as is any status but 200. Errors have the reason codes of [Reasons].
func (c *Client) Get(ctx context.Context, address string, limit int64) ([]byte, error) {
	if len(address) > MaxURL {
		return nil, &Error{codeURL, fmt.Errorf("fetching %s…: the address takes %d bytes, at most %d are taken", shown(address[:80]), len(address), MaxURL)}
	}
	doing := "fetching " + shown(address)
	u, err := url.Parse(address)
	if err != nil {
		return nil, &Error{codeURL, fmt.Errorf("%s: it is no URL", doing)}
	}
	if u.Scheme != "http" {
		return nil, &Error{codeURL, fmt.Errorf("%s: it is not http", doing)}
	}
	b, err := c.get(ctx, u, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, coded(err))
	}
	return b, nil
}

func (c *Client) get(ctx context.Context, u *url.URL, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, &Error{codeTimeout, fmt.Errorf("it took longer than %s", c.timeout)})
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &Error{codeURL, errors.New("it is no URL")}
	}
	resp, err := (&http.Client{Transport: c.guard, CheckRedirect: checkRedirect}).Do(req)
	if err != nil {
		return nil, because(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{codeFailed, fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))}
	}
	if resp.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case int64(len(b)) > limit:
		return nil, tooLarge(limit)
	case err != nil:
		return nil, because(ctx, err)
	}
	return b, nil
}

func tooLarge(limit int64) error {
	return &Error{codeTooLarge, fmt.Errorf("its answer is larger than %d bytes", limit)}
}

// HTTP returns a client for libraries that ask by themselves: http and https, GET and POST, under the same guard, redirects and
// times, and with at most [MaxAnswer] bytes in an answer. It keeps no cookies and sends no credentials. Its errors wrap [*Error]
// where the guard speaks.
func (c *Client) HTTP() *http.Client {
	return &http.Client{Transport: c.guard, CheckRedirect: checkRedirect, Timeout: c.timeout}
}

// checkRedirect is asked before each redirect; the guard then judges where it leads.
func checkRedirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1].URL
	switch {
	case len(via) > MaxRedirects:
		return &Error{codeRedirect, fmt.Errorf("it redirects more than %d times", MaxRedirects)}
	case last.Scheme == "https" && req.URL.Scheme != "https":
		return &Error{codeRedirect, fmt.Errorf("it redirects from https to %s", shown(req.URL.Redacted()))}
	}
	if err := checkURL(req.URL); err != nil {
		return fmt.Errorf("it redirects to %s: %w", shown(req.URL.Redacted()), err)
	}
	return nil
}

// A guard is the one way out. Every request, each redirect too, is judged by its URL, and every connection by the address that is
// dialled, so that what a name meant a moment ago is of no importance.
type guard struct {
	Options
	judge   func(netip.Addr) error
	dialer  net.Dialer // of direct
	direct  *http.Transport
	proxied *http.Transport
}

func (g *guard) transport(d *net.Dialer) *http.Transport {
	return &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: g.RootCAs},
		TLSHandshakeTimeout:    g.Stall,
		ResponseHeaderTimeout:  g.Stall,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    2,
		DisableCompression:     true, // an answer is as large as the bytes that arrive
		MaxResponseHeaderBytes: maxHeader,
	}
}

type proxyKey struct{}

// chosen returns the proxy that [guard.RoundTrip] decided on. Without one nothing is sent: nobody judged the address.
func chosen(req *http.Request) (*url.URL, error) {
	via, _ := req.Context().Value(proxyKey{}).(*url.URL)
	if via == nil {
		return nil, errors.New("no proxy was chosen")
	}
	return via, nil
}

// RoundTrip implements [http.RoundTripper].
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.send(req)
	if err != nil && req.Body != nil {
		_ = req.Body.Close() // a transport that got it has closed it already, which is harmless
	}
	return resp, err
}

func (g *guard) send(req *http.Request) (*http.Response, error) {
	if err := checkURL(req.URL); err != nil {
		return nil, err
	}
	if err := g.checkHost(req.URL.Hostname()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	req = req.Clone(ctx)
	for _, h := range []string{"Authorization", "Cookie", "Referer", "Accept-Encoding", "Range"} {
		req.Header.Del(h)
	}
	req.Header.Set("User-Agent", g.UserAgent)
	resp, err := g.route(req)
	if err != nil {
		err = because(ctx, err)
		cancel(nil)
		return nil, err
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		_ = resp.Body.Close()
		cancel(nil)
		return nil, &Error{codeFailed, fmt.Errorf("its answer is packed (%s), though nobody asked for that", shown(e))}
	}
	resp.Body = newBody(resp.Body, g.Stall, cancel)
	return resp, nil
}

// route sends a request that was judged directly, or through the proxy that there is for it.
func (g *guard) route(req *http.Request) (*http.Response, error) {
	if g.Proxy == nil {
		return g.direct.RoundTrip(req)
	}
	via, err := g.Proxy(req)
	if err != nil {
		return nil, &Error{codeFailed, fmt.Errorf("choosing the proxy: %w", err)}
	}
	if via == nil {
		return g.direct.RoundTrip(req)
	}
	if !g.AllowPrivate && isLocalName(req.URL.Hostname()) {
		return nil, private("the host %s is a name of the inside of a network", shown(req.URL.Hostname()))
	}
	resp, err := g.proxied.RoundTrip(req.WithContext(context.WithValue(req.Context(), proxyKey{}, via)))
	if err != nil {
		err = fmt.Errorf("through the proxy %s: %w", via.Host, err)
	}
	return resp, err
}

// A body is an answer's: it ends with an error when nothing comes for a while, and when more comes than is ever read.
type body struct {
	io.ReadCloser
	stall  time.Duration
	timer  *time.Timer
	late   atomic.Bool
	left   int64
	cancel context.CancelCauseFunc
	once   sync.Once
}

func newBody(r io.ReadCloser, stall time.Duration, cancel context.CancelCauseFunc) *body {
	b := &body{ReadCloser: r, stall: stall, left: MaxAnswer, cancel: cancel}
	b.timer = time.AfterFunc(stall, func() {
		b.late.Store(true)
		cancel(b.stalled())
	})
	b.timer.Stop()
	return b
}

func (b *body) stalled() error {
	return &Error{codeTimeout, fmt.Errorf("its answer came to a halt for %s", b.stall)}
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if b.left -= int64(n); b.left < 0 {
		return 0, tooLarge(MaxAnswer)
	}
	if err != nil && !errors.Is(err, io.EOF) && b.late.Load() {
		err = b.stalled()
	}
	return n, err
}

func (b *body) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.cancel(nil) })
	return err
}
