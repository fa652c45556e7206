package cmd

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
)

// Exit codes. 2 is never used on purpose: a Go crash ends in 2.
const (
	exitDone         = 0
	exitRejected     = 1
	exitUsage        = 3
	exitUnknown      = 4
	exitUnauthorized = 5
	exitKey          = 6
	exitPartly       = 7
	exitDisk         = 8
	exitSignal       = 128 // + the signal's number
)

// exitMeanings says what each code means, for help and documentation.
var exitMeanings = []struct {
	code    int
	meaning string
}{
	{exitDone, "done, or accepted"},
	{exitRejected, "judged and not accepted: unsigned, untrusted, a tag would move, --fail-within"},
	{exitUsage, "what you handed in is wrong: a flag, a file, a key, a chain, a policy"},
	{exitUnknown, "could not find out: registry, network or time-stamping authority failed, or no such reference"},
	{exitUnauthorized, "not authorised by the registry"},
	{exitKey, "the key service refused, failed, or returned a wrong signature"},
	{exitPartly, "partly done: run it again"},
	{exitDisk, "the local disk"},
	{exitSignal + int(syscall.SIGINT), "interrupted (SIGINT)"},
	{exitSignal + int(syscall.SIGTERM), "terminated (SIGTERM)"},
}

// exitCodes maps what an error is to its exit code: the first that fits.
var exitCodes = []struct {
	err  error
	code int
}{
	{registry.ErrUnsettled, exitPartly},
	{registry.ErrCapped, exitPartly},
	// Whatever a key service died of (a deadline, an answer that could be a registry's), it is the key service.
	{kms.ErrService, exitKey},
	{envelope.ErrKeyMisbehaved, exitKey},
	{registry.ErrDisk, exitDisk},
	{registry.ErrTagMoves, exitRejected},
	{registry.ErrTagMismatch, exitRejected},
	{registry.ErrAmbiguous, exitRejected},
	{signer.ErrClaimMoves, exitRejected},
	{registry.ErrReference, exitUsage},
	{registry.ErrConfig, exitUsage},
	{registry.ErrUnauthorized, exitUnauthorized},
	{registry.ErrNotFound, exitUnknown},
	{registry.ErrUnavailable, exitUnknown},
	{registry.ErrUnsupported, exitUnknown},
	{registry.ErrRefused, exitUnknown},
	{registry.ErrExists, exitUsage},
	{registry.ErrFile, exitUsage},
	{registry.ErrDigestMismatch, exitUnknown},
	{registry.ErrTooLarge, exitUnknown},
	{registry.ErrMalformed, exitUnknown},
	{kms.ErrInvalid, exitUsage},
	{certchain.ErrKeyMismatch, exitUsage},
	{certchain.ErrIncomplete, exitUsage},
	{certchain.ErrNotIssuedBy, exitUsage},
	{envelope.ErrSignature, exitRejected},
	{envelope.ErrChainSigned, exitUsage},
	{signer.ErrClaim, exitUsage},
	{signer.ErrClock, exitUsage},
	{trust.ErrPolicy, exitUsage},
	{trust.ErrAs, exitUsage},
	{context.DeadlineExceeded, exitUnknown},
}

// exitReasons maps the reason codes of errors that have no sentinel.
var exitReasons = map[string]int{
	"signature-invalid":     exitRejected,
	"revoked":               exitRejected,
	"revocation-unknown":    exitUnknown,
	"leaf-key-differs":      exitUsage,
	"identity-changes":      exitUsage,
	"not-issued-by":         exitUsage,
	"chain-incomplete":      exitUsage,
	"ends-earlier":          exitUsage,
	"chain-is-signed":       exitUsage,
	"would-break-timestamp": exitUsage,
	"as-required":           exitUsage,
	"clock":                 exitUsage,
	"file-exists":           exitUsage,
	"copy-options":          exitUsage,
	"platform-not-found":    exitUsage,

	"expired":                    exitUsage,
	"timestamp-ignored":          exitUsage,
	"timestamp-untrusted":        exitUsage,
	"timestamp-outside-validity": exitUsage,
}

// An exiter is an error that knows its exit code.
type exiter interface{ exitCode() int }

// exitCode returns the exit code of err.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	var own exiter
	if errors.As(err, &own) {
		return own.exitCode()
	}
	for _, e := range exitCodes {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	if code, ok := exitReasons[reason(err)]; ok {
		return code
	}
	var rule *certchain.RuleError
	if errors.As(err, &rule) {
		return exitUsage
	}
	return exitUnknown
}

// reason returns the stable reason code of err, "" if it has none.
func reason(err error) string {
	var r interface{ Reason() string }
	if errors.As(err, &r) {
		return r.Reason()
	}
	return ""
}

// A usageError is something wrong in what the caller handed in.
type usageError struct {
	code string // reason
	hint string
	err  error
}

func (e *usageError) Error() string  { return e.err.Error() }
func (e *usageError) Unwrap() error  { return e.err }
func (e *usageError) Reason() string { return e.code }
func (e *usageError) exitCode() int  { return exitUsage }

// usage returns an error of what the caller handed in.
func usage(format string, args ...any) error { return usageHint("", format, args...) }

// usageHint is [usage] with what to do next.
func usageHint(hint, format string, args ...any) error {
	return &usageError{code: "usage", hint: hint, err: fmt.Errorf(format, args...)}
}

// A handedIn is an error of a room about what the caller handed in: its reason code stays that room's.
type handedIn struct{ err error }

func (e *handedIn) Error() string { return e.err.Error() }
func (e *handedIn) Unwrap() error { return e.err }
func (e *handedIn) exitCode() int { return exitUsage }

// A diskError is a local file that could not be written.
type diskError struct{ err error }

func (e *diskError) Error() string  { return e.err.Error() }
func (e *diskError) Unwrap() error  { return e.err }
func (e *diskError) Reason() string { return "disk" }
func (e *diskError) exitCode() int  { return exitDisk }

// A verdict is a judgement that is the answer itself, on stdout already: no error is printed, only the hint.
type verdict struct {
	code int
	why  string // reason code
	hint string
}

func (v *verdict) Error() string  { return v.why }
func (v *verdict) Reason() string { return v.why }
func (v *verdict) exitCode() int  { return v.code }

// A partly is an error after something was done: running again goes on from there.
type partly struct{ err error }

func (e *partly) Error() string { return e.err.Error() }
func (e *partly) Unwrap() error { return e.err }
func (e *partly) exitCode() int { return exitPartly }

// partlyDone marks an error after which something stays done. A full disk stays the disk's: running again does not help there.
func partlyDone(err error, done bool) error {
	if err == nil || !done || exitCode(err) == exitDisk {
		return err
	}
	return &partly{err}
}

// An interrupted is an error while a signal was ending the run.
type interrupted struct {
	signal syscall.Signal
	err    error
}

func (e *interrupted) Error() string {
	return fmt.Sprintf("interrupted: %v", e.err)
}
func (e *interrupted) Unwrap() error  { return e.err }
func (e *interrupted) Reason() string { return "interrupted" }
func (e *interrupted) exitCode() int  { return exitSignal + int(e.signal) }
