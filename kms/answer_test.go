package kms_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/imprint-oci/imprint/kms"
)

func TestBounded(t *testing.T) {
	t.Parallel()
	for text, fits := range map[string]bool{"": true, "123": true, "1234": true, "12345": false, strings.Repeat("x", 1<<20): false} {
		b, err := io.ReadAll(kms.Bounded(io.NopCloser(strings.NewReader(text)), 4))
		switch {
		case fits && (err != nil || string(b) != text):
			t.Errorf("%d bytes: got %q, %v", len(text), b, err)
		case !fits && (!errors.Is(err, kms.ErrTooLong) || len(b) > 4):
			t.Errorf("%d bytes: got %d bytes and %v", len(text), len(b), err)
		}
	}
	_, err := io.ReadAll(kms.Bounded(io.NopCloser(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("123")))), 4))
	if !errors.Is(err, kms.ErrBroken) || !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	body := kms.Bounded(io.NopCloser(strings.NewReader("12345")), 4)
	for range 3 { // an error stays
		if n, err := body.Read(make([]byte, 8)); n != 0 || !errors.Is(err, kms.ErrTooLong) {
			t.Errorf("got %d bytes, %v", n, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "65535": time.Hour, "99999999999999999999": 0, "-1": 0, "1.5": 0, "soon": 0,
		"Sun, 06 Nov 1994 08:49:47 GMT": 10 * time.Second, "Sun, 06 Nov 1994 08:00:00 GMT": 0, "Mon, 07 Nov 1994 08:00:00 GMT": time.Hour,
	} {
		if got := kms.RetryAfter(http.Header{"Retry-After": {text}, "Date": {date}}); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	if got := kms.RetryAfter(http.Header{"Retry-After": {date}}); got != 0 {
		t.Errorf("a date without the answer's own: got %s", got)
	}
}

func TestProxyAnswer(t *testing.T) {
	t.Parallel()
	proxy := &url.URL{Scheme: "http", User: url.UserPassword("u", "secret"), Host: "proxy.example:3128"}
	if err := kms.ProxyAnswer(context.Background(), proxy, nil, &http.Response{StatusCode: 200, Status: "200 OK"}); err != nil {
		t.Error(err)
	}
	err := kms.ProxyAnswer(context.Background(), proxy, nil, &http.Response{StatusCode: 403, Status: "403 For\nbidden"})
	if err == nil || err.Error() != "the proxy proxy.example:3128 answers 403 For bidden" {
		t.Errorf("got %v", err)
	}
}

func TestWithoutURL(t *testing.T) {
	t.Parallel()
	why := errors.New("connection refused")
	err := fmt.Errorf("asking: %w", &url.Error{Op: "Get", URL: "https://u:secret@host", Err: &url.Error{Op: "proxy", URL: "http://u:secret@p", Err: why}})
	if got := kms.WithoutURL(err); got != why { //nolint:errorlint // this very one
		t.Errorf("got %v", got)
	}
	if got := kms.WithoutURL(why); got != why { //nolint:errorlint // this very one
		t.Errorf("got %v", got)
	}
}

func TestUnencrypted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://vault.example": false, "http://localhost:8200": false, "http://127.0.0.1:8200": false, "http://127.9.9.9": false, "http://[::1]:8200": false,
		"unix:///run/vault.sock": false, "http://vault.example": true, "http://10.0.0.1:8200": true, "http://[2001:db8::1]": true, "http://0.0.0.0": true,
		"http://localhost.example": true, "http://127.0.0.1.example": true,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := kms.Unencrypted(u); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
