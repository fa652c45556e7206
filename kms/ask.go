package kms

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DefaultPatience is how long a key service over a network may be silent before it counts as unreachable.
const DefaultPatience = 13 * time.Second

const (
	maxTries     = 8 // of a service that answers that it is busy
	maxSilent    = 3 // of one that cannot be reached
	firstWait    = 100 * time.Millisecond
	firstAway    = 500 * time.Millisecond // who cannot be reached may be starting again
	longestNap   = 4 * time.Second        // all pauses of 8 tries stay below 13 s
	longestAfter = 10 * time.Second       // which a service may ask for
)

// Ask runs call, which asks a key service once, and is the only place where anything is asked again: up to 8 times while the
// service answers that it is busy or failing ([Error].Temporary), up to 3 times if it cannot be reached ([CodeUnreachable]),
// with growing pauses, unless it is [Error].Final. A service that says nothing at all for the given time is unreachable. Any other
// error is final. Who waits long is told why ([WithNotice]).
// Clients of key services therefore have their own repetitions turned off.
func Ask(ctx context.Context, patience time.Duration, call func(ctx context.Context) error) error {
	begun := time.Now()
	var long wait
	defer long.begin(ctx)()
	heard, unreached := begun, 0
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return fmt.Errorf("asking the key service: %w", context.Cause(ctx))
		}
		attempt, cancel := context.WithDeadline(ctx, heard.Add(patience))
		err := call(attempt)
		silent := err != nil && attempt.Err() != nil
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("asking the key service: %w", context.Cause(ctx))
		}
		var e *Error
		if !errors.As(err, &e) || silent {
			if !silent {
				return err
			}
			return &Error{Code: CodeUnreachable, Class: ErrService, Remedy: remedyOf(err),
				Err: fmt.Errorf("no answer within %s: %w", patience, err)}
		}
		switch {
		case e.Final:
			return err
		case e.Temporary:
		case e.Code == CodeUnreachable:
			unreached++
		default:
			return err
		}
		pause := firstWait << (try - 1)
		if !e.Temporary {
			pause = firstAway << (unreached - 1)
		}
		pause = max(min(pause, longestNap), min(e.After, longestAfter))
		pause += rand.N(pause / 4)
		if e.Temporary {
			heard = time.Now().Add(pause) // our pause is not the service's silence
		}
		if try >= maxTries || unreached >= maxSilent || e.Code == CodeUnreachable && time.Since(heard)+pause >= patience {
			if try == 1 {
				return err
			}
			return fmt.Errorf("asked %d times in %s: %w", try, time.Since(begun).Round(100*time.Millisecond), err)
		}
		long.because(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("asking the key service: %w", context.Cause(ctx))
		}
	}
}

func remedyOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Remedy
	}
	return ""
}

// maxText bounds what of a service's own words is repeated, bytes.
const maxText = 300

// Text makes one line of what a key service said: printable, at most 300 bytes, no surrounding space or full stop.
func Text(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.TrimRight(strings.Join(strings.Fields(s), " "), ". ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-len("…")], "") + "…"
	}
	return s
}
