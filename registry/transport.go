package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How long and how often something is tried.
const (
	maxTries        = 6 // of one request
	maxConnectTries = 3 // where nobody answers at all
	backoffBase     = 250 * time.Millisecond
	connectBackoff  = 50 * time.Millisecond
	maxRetryAfter   = 2 * time.Minute
	headerTimeout   = 30 * time.Second
	dialTimeout     = 10 * time.Second
	slowWindow      = 30 * time.Second
	slowFloor       = 1 << 10 // bytes a second
)

// Buffers of a connection. Bodies pass them by; with larger ones 1 GiB took as long (measured), and each connection more
// memory.
const (
	readBuffer  = 32 << 10
	writeBuffer = 16 << 10
)

// newTransport makes the one HTTP transport of a client.
func newTransport(o Options) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := readLimited(o.CAFile, maxPEM)
		if err != nil {
			return nil, fmt.Errorf("reading CA file: %w: %w", ErrConfig, err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading CA file %s: %w: no certificate in it", o.CAFile, ErrConfig)
		}
		config.RootCAs = pool
	}
	if (o.ClientCert == "") != (o.ClientKey == "") {
		return nil, fmt.Errorf("%w: a client certificate needs its key, and the key its certificate", ErrConfig)
	}
	if o.ClientCert != "" {
		pair, err := readKeyPair(o.ClientCert, o.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("reading client certificate: %w: %w", ErrConfig, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         newDialer().DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: dialTimeout,
		// How long an answer may take depends on the request: see [retrier.send].
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   int(classes) * o.PerHost,
		ForceAttemptHTTP2:     true,
		ReadBufferSize:        readBuffer,
		WriteBufferSize:       writeBuffer,
		// A digest is of the bytes as stored: nothing on the way may unpack them.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return &connectError{status: resp.StatusCode}
		}
		return nil
	}
	return t, nil
}

// newDialer makes what connects: to all addresses of a name, the other family a moment later (RFC 8305), so that a
// dead one costs little.
func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
}

// A connectError is a proxy's refusal to connect.
type connectError struct{ status int }

func (e *connectError) Error() string {
	return fmt.Sprintf("it answers CONNECT with %d %s", e.status, http.StatusText(e.status))
}

// maxPEM limits a file of certificates, or of a key; the bundles of whole systems have some 300 KiB.
const maxPEM = 4 << 20

func readKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := readLimited(certFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readLimited(keyFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(key)
	return tls.X509KeyPair(cert, key)
}

// readLimited reads a file that a person named, of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, nil
}

// A retrier sends each request until it is answered for good. It is the only place that repeats a request; what may
// not be repeated as it stands (the body of an upload session) is sent under [withoutRetry] and started afresh by its
// caller, by the same rules ([retrier.pause]).
type retrier struct {
	next     http.RoundTripper
	proxy    func(*http.Request) (*url.URL, error) // nil: there is none
	sleep    func(ctx context.Context, d time.Duration) error
	now      func() time.Time
	patience patience

	perHost int
	mu      sync.Mutex
	limits  map[string]*limiter
}

func newRetrier(next *http.Transport, o Options) *retrier {
	return &retrier{
		next: next, proxy: next.Proxy, sleep: sleep, now: time.Now, patience: newPatience(o.Timeout), perHost: o.PerHost,
		limits: make(map[string]*limiter),
	}
}

type noRetryKey struct{}

// withoutRetry makes the retrier send a request once.
func withoutRetry(ctx context.Context) context.Context {
	return context.WithValue(ctx, noRetryKey{}, true)
}

type classKey struct{}

// inClass makes a request wait for a slot of the class.
func inClass(ctx context.Context, c class) context.Context {
	return context.WithValue(ctx, classKey{}, c)
}

// RoundTrip implements [http.RoundTripper].
func (r *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	replayable := (req.Body == nil || req.Body == http.NoBody || req.GetBody != nil) && ctx.Value(noRetryKey{}) == nil
	limits := r.limiter(req.URL.Host)
	var served time.Time
	for try := 1; ; try++ {
		attempt := req
		if try > 1 {
			attempt = req.Clone(ctx)
			if req.GetBody != nil {
				body, err := req.GetBody()
				if err != nil {
					return nil, err
				}
				attempt.Body = body
			}
		}
		resp, err := r.once(attempt, limits, served)
		if !replayable {
			return resp, err
		}
		wait, again := r.pause(ctx, try, resp, err)
		if !again {
			return resp, err
		}
		if resp != nil {
			discard(resp)
		}
		served = r.now().Add(wait) // in which a Retry-After of this answer is contained
		if err := r.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// once sends a request when its host has a slot free. The slot is given back as soon as the answer begins: a body
// that is read slowly, or streamed into another request to the same host, must not keep that one waiting.
func (r *retrier) once(req *http.Request, limits *limiter, served time.Time) (*http.Response, error) {
	c, _ := req.Context().Value(classKey{}).(class)
	slot, err := limits.acquire(req.Context(), c, served)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, err := r.send(req)
	limits.release(slot, resp)
	if err != nil && r.proxy != nil {
		if via, _ := r.proxy(req); via != nil {
			err = fmt.Errorf("through the proxy %s: %w", via.Host, err)
		}
	}
	return resp, err
}

// send sends a request and waits for the beginning of its answer, from when the request is written on.
func (r *retrier) send(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	limit := r.patience.answer(req.ContentLength)
	var (
		mu    sync.Mutex
		timer *time.Timer
		over  bool // the answer has begun, or will not
		late  bool
	)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		mu.Lock()
		defer mu.Unlock()
		if over || timer != nil {
			return
		}
		timer = time.AfterFunc(limit, func() {
			mu.Lock()
			defer mu.Unlock()
			if !over {
				late = true
				cancel(errLate)
			}
		})
	}})
	resp, err := r.next.RoundTrip(req.WithContext(ctx))
	mu.Lock()
	defer mu.Unlock()
	over = true
	if timer != nil {
		timer.Stop()
	}
	if late {
		if resp != nil {
			_ = resp.Body.Close()
		}
		return nil, fmt.Errorf("it did not answer for %s", limit)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &ending{resp.Body, func() { cancel(nil) }}
	return resp, nil
}

// An ending body ends what belongs to it when it is closed.
type ending struct {
	io.ReadCloser
	end func()
}

func (e *ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}

func (r *retrier) limiter(host string) *limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limits[host]
	if l == nil {
		l = newLimiter(host, r.perHost, func() time.Time { return r.now() }, func(ctx context.Context, d time.Duration) error { return r.sleep(ctx, d) })
		r.limits[host] = l
	}
	return l
}

// pause says whether what was tried try times, and ended in resp or err, may be tried again, and after how long.
func (r *retrier) pause(ctx context.Context, try int, resp *http.Response, err error) (wait time.Duration, again bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	if err != nil {
		switch {
		case isFinal(err):
			return 0, false
		case isConnect(err):
			return connectBackoff << (try - 1), try < maxConnectTries
		}
		return backoff(try), try < maxTries
	}
	if !isTransient(resp.StatusCode) {
		return 0, false
	}
	wait = backoff(try)
	if after, ok := retryAfter(resp.Header.Get("Retry-After"), r.now()); ok {
		if after > maxRetryAfter {
			return 0, false
		}
		wait = max(wait, after)
	}
	if deadline, ok := deadlineOf(ctx); ok && time.Until(deadline) < wait {
		return 0, false
	}
	return wait, try < maxTries
}

// isTransient reports whether the same request may be answered otherwise in a while.
func isTransient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// backoff is 250 ms, doubled with each try, of which the second half is random: clients that failed together must not
// come back together.
func backoff(try int) time.Duration {
	d := backoffBase << (try - 1)
	return d/2 + rand.N(d/2+1)
}

// retryAfter reads Retry-After, seconds or an HTTP date (RFC 9110 section 10.2.3).
func retryAfter(s string, now time.Time) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(s, 10, 63); err == nil {
		if seconds > uint64(24*time.Hour/time.Second) {
			return 24 * time.Hour, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// isFinal reports whether an error is one that another try would meet again.
func isFinal(err error) bool {
	var (
		own         *Error
		connect     *connectError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		authority   x509.UnknownAuthorityError
		hostname    x509.HostnameError
		invalid     x509.CertificateInvalidError
	)
	if errors.As(err, &connect) {
		return !isTransient(connect.status)
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &own) || errors.As(err, &certificate) || errors.As(err, &record) ||
		errors.As(err, &alert) || errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid)
}

// isConnect reports whether no connection came about: refused, unreachable, or a name that does not resolve.
func isConnect(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	return errors.As(err, &dns) || errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect")
}

// discard ends a response whose body nobody wants, so that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
