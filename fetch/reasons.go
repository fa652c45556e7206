package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// The reason codes. They are part of the command line's promises: they never change.
const (
	codeURL      = "url-not-allowed"
	codePrivate  = "address-private"
	codeRedirect = "redirect-refused"
	codeTooLarge = "answer-too-large"
	codeTimeout  = "fetch-timeout"
	codeFailed   = "fetch-failed"
)

// Reasons returns the reason codes of this package with one sentence each, for the documentation.
func Reasons() map[string]string {
	return map[string]string{
		codeURL:      "An address in a certificate is not fetched: it is not http, carries credentials, or names no host in the usual form.",
		codePrivate:  "An address leads into a private network, to this machine or to a cloud's metadata, which only --allow-private permits.",
		codeRedirect: "A server redirects more than 5 times, or from https to http.",
		codeTooLarge: "An answer is larger than what is read.",
		codeTimeout:  "An answer did not come in time, or came to a halt.",
		codeFailed:   "A server could not be reached, or answered with anything but 200.",
	}
}

// An Error is why something was not fetched.
type Error struct {
	code string
	err  error
}

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// Reason returns the stable reason code.
func (e *Error) Reason() string { return e.code }

func refused(format string, args ...any) error { return &Error{codeURL, fmt.Errorf(format, args...)} }
func private(format string, args ...any) error {
	return &Error{codePrivate, fmt.Errorf(format, args...)}
}

// coded gives an error that has no reason code one, and leaves out what net/http says of the address, which is told already.
func coded(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	var own *Error
	switch {
	case errors.As(err, &own), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &Error{codeTimeout, err}
	}
	return &Error{codeFailed, err}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// because returns why ctx ended instead of err, if that was what ended it.
func because(ctx context.Context, err error) error {
	var own *Error
	if cause := context.Cause(ctx); cause != nil && !errors.As(err, &own) && errors.As(cause, &own) {
		return own
	}
	return err
}

// shown makes text of others fit for a line of a terminal.
func shown(s string) string {
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
