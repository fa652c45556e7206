package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// What the clients of key services that speak HTTP have in common.

// ErrTooLong: an answer has more bytes than a service has to say ([Bounded]).
var ErrTooLong = errors.New("the answer is too long")

// ErrBroken: the connection broke before an answer was whole ([Bounded]).
var ErrBroken = errors.New("the connection broke before the answer was whole")

// Bounded returns body, of which at most limit bytes can be read; a longer one ends with an error that wraps [ErrTooLong]. Any other
// error but io.EOF, of which package http has several for the same, wraps [ErrBroken].
func Bounded(body io.ReadCloser, limit int64) io.ReadCloser {
	return &bounded{ReadCloser: body, left: limit, limit: limit}
}

type bounded struct {
	io.ReadCloser
	left, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	// One byte more than allowed tells a long answer from one that just fits.
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), max(0, b.left)+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: it has more than %d bytes", ErrTooLong, b.limit)
	}
	if err != nil && err != io.EOF { //nolint:errorlint // a reader's end comes unwrapped
		err = fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return n, err
}

// Unencrypted reports whether what is sent to the URL leaves this machine without encryption.
func Unencrypted(u *url.URL) bool {
	if u.Scheme != "http" || u.Hostname() == "localhost" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip == nil || !ip.IsLoopback()
}

// ProxyAnswer is for [http.Transport].OnProxyConnectResponse. It says that it was the proxy which refused: package http has the status
// text alone, which reads as if it were the service's.
func ProxyAnswer(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("the proxy %s answers %s", proxy.Host, Text(answer.Status))
}

// WithoutURL leaves the URL of a request or a setting out of an error: a password may stand in it.
func WithoutURL(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return err
}

// maxAfter bounds what a service may ask to wait; [Ask] waits less.
const maxAfter = time.Hour

// RetryAfter reads when to ask again (RFC 9110 section 10.2.3): seconds, or a date, which is compared with the answer's own. 0: it
// does not say.
func RetryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 16); err == nil {
		return min(time.Duration(seconds)*time.Second, maxAfter)
	}
	then, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(0, then.Sub(now)), maxAfter)
}
