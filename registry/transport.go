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
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The bounds of CASES.md section 3.
const (
	maxTries        = 6 // of one request
	maxConnectTries = 3 // where nobody answers at all
	backoffBase     = 250 * time.Millisecond
	connectBackoff  = 50 * time.Millisecond
	maxRetryAfter   = 2 * time.Minute
	headerTimeout   = 30 * time.Second
	dialTimeout     = 10 * time.Second
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
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   2 * o.PerHost,
		ForceAttemptHTTP2:     true,
		// A digest is of the bytes as stored: nothing on the way may unpack them.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
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
	next  http.RoundTripper
	sleep func(ctx context.Context, d time.Duration) error

	perHost int
	mu      sync.Mutex
	slots   map[string]chan struct{}
}

func newRetrier(next http.RoundTripper, perHost int) *retrier {
	return &retrier{next: next, sleep: sleep, perHost: perHost, slots: make(map[string]chan struct{})}
}

type noRetryKey struct{}

// withoutRetry makes the retrier send a request once.
func withoutRetry(ctx context.Context) context.Context {
	return context.WithValue(ctx, noRetryKey{}, true)
}

// RoundTrip implements [http.RoundTripper].
func (r *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	replayable := (req.Body == nil || req.Body == http.NoBody || req.GetBody != nil) && ctx.Value(noRetryKey{}) == nil
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
		resp, err := r.once(attempt)
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
		if err := r.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// once sends a request when its host has a slot free. The slot is given back as soon as the answer begins: a body
// that is read slowly, or streamed into another request to the same host, must not keep that one waiting.
func (r *retrier) once(req *http.Request) (*http.Response, error) {
	slots := r.host(req.URL.Host)
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-req.Context().Done():
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, req.Context().Err()
	}
	return r.next.RoundTrip(req)
}

func (r *retrier) host(name string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[name]
	if s == nil {
		s = make(chan struct{}, r.perHost)
		r.slots[name] = s
	}
	return s
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
	if after, ok := retryAfter(resp.Header.Get("Retry-After"), time.Now()); ok {
		if after > maxRetryAfter {
			return 0, false
		}
		wait = max(wait, after)
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
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
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		authority   x509.UnknownAuthorityError
		hostname    x509.HostnameError
		invalid     x509.CertificateInvalidError
	)
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
