package registry

import (
	"errors"
	"fmt"
)

var (
	ErrNotFound       = errors.New("not found")
	ErrUnauthorized   = errors.New("not authorised")                 // 401, 403, no or wrong credentials
	ErrUnavailable    = errors.New("registry unavailable")           // connection, 5xx, 429 for ever, time-out
	ErrUnsupported    = errors.New("not supported by this registry") // 405 on DELETE and the like
	ErrDigestMismatch = errors.New("digest mismatch")
	ErrAmbiguous      = errors.New("ambiguous manifest")
	ErrTagMismatch    = errors.New("the tag names another digest")
	ErrTooLarge       = errors.New("too large")
	ErrExists         = errors.New("already exists") // a file that nothing said may be replaced: exit 3
	ErrMalformed      = errors.New("malformed")
	ErrTagMoves       = errors.New("the tag names another digest there")
	ErrCapped         = errors.New("list not read to its end")          // more of it than is followed, or where it is not followed: exit 7
	ErrUnsettled      = errors.New("the referrers list did not settle") // exit 7
	ErrDisk           = errors.New("local disk")                        // exit 8
	ErrConfig         = errors.New("registry configuration")            // docker's config.json, CA file: exit 3
)

// An Error carries a stable reason code (not-found, unauthorized, digest-mismatch, ambiguous-manifest,
// tag-digest-mismatch, …) and wraps one of the sentinels above.
type Error struct {
	Code string
	Err  error
}

func (e *Error) Error() string  { return e.Err.Error() }
func (e *Error) Unwrap() error  { return e.Err }
func (e *Error) Reason() string { return e.Code }

// fail makes an *Error; err wraps one of the sentinels.
func fail(code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}
