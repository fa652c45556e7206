package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ErrRefused: the registry answered that it will not, and trying again would not help (a 4xx that has no sentinel of
// its own, an immutable tag), or what it demands is not done (a redirect or an upload elsewhere).
var ErrRefused = errors.New("refused")

// The codes of remote repositories; [Reasons] explains them.
const (
	codeForbidden     = "forbidden"
	codeRefused       = "refused"
	codeRealm         = "realm-not-trusted"
	codeRedirect      = "redirect-refused"
	codeLocation      = "upload-elsewhere"
	codeLink          = "link-refused"
	codeOccupied      = "fallback-tag-occupied"
	codeHelper        = "credential-helper"
	codeDeleteRefused = "delete-refused"
	codeImmutable     = "tag-immutable"
)

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 16 << 10

// A registryError is what a registry wrote into an error (distribution specification, "Error Codes").
type registryError struct {
	status     int
	codes      []string
	text       string
	retryAfter string
}

// refused reads and closes an answer that is not the one hoped for, and says so by the sentinel that fits.
func (s *remote) refused(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	discard(resp)
	e := parseRegistryError(resp.StatusCode, body, func(text string) string { return s.client.auth.redact(s.host, text) })
	e.retryAfter = resp.Header.Get("Retry-After")
	code, sentinel := codeRefused, ErrRefused
	switch {
	case e.status == http.StatusUnauthorized:
		code, sentinel = codeUnauthorized, ErrUnauthorized
	case e.status == http.StatusForbidden:
		code, sentinel = codeForbidden, ErrUnauthorized
	case e.status == http.StatusNotFound:
		code, sentinel = codeNotFound, ErrNotFound
	case e.status == http.StatusMethodNotAllowed, e.status == http.StatusNotImplemented, e.has("UNSUPPORTED"):
		code, sentinel = codeUnsupported, ErrUnsupported
	case e.status == http.StatusRequestEntityTooLarge:
		code, sentinel = codeTooLarge, ErrTooLarge
	case e.status == http.StatusRequestTimeout, e.status == http.StatusTooManyRequests, e.status >= 500:
		code, sentinel = codeUnavailable, ErrUnavailable
	}
	return &Error{Code: code, Err: &answerError{registryError: e, err: fmt.Errorf("%w: %s answered %s", sentinel, s.host, e)}}
}

// An answerError keeps status and codes for those who decide by them.
type answerError struct {
	registryError
	err error
}

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// parseRegistryError reads an error's body. What is to be told of it is redacted as it was written: once it is quoted
// and cut short, half a secret, or one with a character that is quoted, is no longer known for one.
func parseRegistryError(status int, body []byte, redact func(string) string) registryError {
	e := registryError{status: status}
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return e
	}
	var texts []string
	for i, one := range doc.Errors {
		e.codes = append(e.codes, strings.ToUpper(one.Code))
		if i < 3 {
			texts = append(texts, strings.Trim(one.Code+": "+one.Message, ": "))
		}
	}
	e.text = quote(redact(strings.Join(texts, "; ")))
	return e
}

func (e registryError) has(code string) bool {
	return slices.Contains(e.codes, code)
}

func (e registryError) String() string {
	status := fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	if e.text != "" {
		return status + ": " + e.text
	}
	return status
}

// answered returns what the registry wrote, if err is an answer of one.
func answered(err error) (registryError, bool) {
	var e *answerError
	if errors.As(err, &e) {
		return e.registryError, true
	}
	return registryError{}, false
}

// doing puts what was being done before err: inside of an *Error, since [transportError] drops what stands around one.
func doing(what string, err error) error {
	if own, ok := asOwnError(err); ok {
		return &Error{Code: own.Code, Err: fmt.Errorf("%s: %w", what, own.Err)}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// transportError says that a host did not answer, without the URL that net/http puts into its errors.
func transportError(ctx context.Context, host string, err error) error {
	if own, ok := asOwnError(err); ok {
		return own
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", host, context.Canceled)
	}
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			break
		}
		err = u.Err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fail(codeUnavailable, "%w: %s did not finish in time", ErrUnavailable, host)
	}
	return fail(codeUnavailable, "%w: %s: %w", ErrUnavailable, host, err)
}
