package vaulttest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// A Fault is what goes wrong with a request. The zero value is nothing.
type Fault struct {
	Status     int      // answered instead, with Errors or Body
	Errors     []string // as JSON
	Body       string   // as it is
	RetryAfter int      // seconds
	Location   string
	Effect     Effect
}

// An Effect is something that goes wrong although the answer, if there is one, is a success.
type Effect int

const (
	_         Effect = iota
	Silence          // the request is taken and never answered
	Lost             // it is done, and the connection cut before the answer
	Latest           // the latest version signs, whichever was asked for, and says so
	OtherKey         // another key signs, and says that it is the version asked for; of RSA keys it is the latest version
	LongSalt         // PSS with the longest salt, whatever was asked for
	PKCS1            // PKCS #1 v1.5 instead of PSS
	Truncated        // half of the digest is signed
	Garbled          // the signature is wrapped twice
)

// Throttled is the answer of a rate limit quota.
func Throttled() Fault {
	return Fault{Status: http.StatusTooManyRequests, Errors: []string{multi("request path \"transit/sign\": rate limit quota exceeded")}}
}

// Denied is the answer to a token whose policies do not say enough.
func Denied() Fault {
	return Fault{Status: http.StatusForbidden, Errors: []string{multi("permission denied")}}
}

// Expired is the answer to a token that was known once.
func Expired() Fault {
	return Fault{Status: http.StatusForbidden, Errors: []string{multi("permission denied", "invalid token")}}
}

// Internal is an error of the server's inside.
func Internal(text string) Fault {
	return Fault{Status: http.StatusInternalServerError, Errors: []string{multi(text)}}
}

// At has f go wrong at the first n calls of op, at all of them if n is 0.
func At(op string, n int, f Fault) func(string, int) Fault {
	return func(called string, i int) Fault {
		if called == op && (n == 0 || i <= n) {
			return f
		}
		return Fault{}
	}
}

func (s *Server) writeFault(w http.ResponseWriter, f Fault) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if f.Location != "" {
		w.Header().Set("Location", f.Location)
	}
	if f.Body == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(f.Status)
	if f.Body != "" {
		_, _ = io.WriteString(w, f.Body)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, f.Errors...)})
}
