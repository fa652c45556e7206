package envelope

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/imprint-oci/imprint/certchain"
)

// A Setting is a way in which stock verifiers judge time.
type Setting string

const (
	NoTSARoot       Setting = "no-tsa-root"           // every certificate must be valid now
	Always          Setting = "tsa-always"            // a timestamp is required and must lie inside every certificate
	AfterCertExpiry Setting = "tsa-after-cert-expiry" // the timestamp counts only once something has expired
)

// Settings returns the three, in that order.
func Settings() []Setting { return []Setting{NoTSARoot, Always, AfterCertExpiry} }

// Passes says what a verifier of setting s, who trusts the root and the TSA, says of c's certificates at the time
// now, and why not. A timestamp is taken at its word here: its own signature is judged elsewhere, and so is c's
// Expiry, which no setting and no chain can change.
func (c Content) Passes(s Setting, now time.Time) (ok bool, why string) {
	// A signing authority vouches for its time; a timestamp is not looked at.
	if c.Scheme == SchemeSigningAuthority {
		return c.covers("the authentic signing time", c.AuthenticTime, c.AuthenticTime)
	}
	switch s {
	case NoTSARoot:
		return c.covers("now", now, now)
	case AfterCertExpiry:
		// One that is not valid yet does not make such a verifier ask for a timestamp.
		expired := false
		for _, cert := range c.Chain {
			expired = expired || now.After(cert.NotAfter)
		}
		if !expired {
			return c.covers("now", now, now)
		}
	case Always:
	default:
		return false, fmt.Sprintf("unknown setting %q", s)
	}
	from, to, ok, err := c.TimestampRange()
	if err != nil {
		return false, err.Error()
	}
	if !ok {
		return false, "there is no timestamp"
	}
	return c.covers("the timestamp", from, to)
}

// covers reports whether every certificate is valid from from to to.
func (c Content) covers(what string, from, to time.Time) (ok bool, why string) {
	for _, cert := range c.Chain {
		if from.Before(cert.NotBefore) {
			return false, fmt.Sprintf("%s lies before %s, when %s starts", what, stamp(cert.NotBefore), subject(cert))
		}
		if to.After(cert.NotAfter) {
			return false, fmt.Sprintf("%s lies after %s, when %s ends", what, stamp(cert.NotAfter), subject(cert))
		}
	}
	return true, ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func subject(cert *x509.Certificate) string { return certchain.NameOf(cert.RawSubject) }

// maxAccuracy bounds what a token may say of itself, so that no sum overflows. Whether an accuracy is good enough is for a policy.
const maxAccuracy = 366 * 24 * time.Hour

// TimestampRange returns the earliest and the latest time that the token states (genTime ± accuracy). ok is false
// without a token; a token that cannot be read, or that was made for another signature, is an error
// (timestamp-malformed).
func (c Content) TimestampRange() (from, to time.Time, ok bool, err error) {
	if len(c.Timestamp) == 0 {
		return time.Time{}, time.Time{}, false, nil
	}
	from, to, err = timestampRange(c.Timestamp, c.Signature)
	if err != nil {
		return time.Time{}, time.Time{}, false, &Error{codeTimestamp, fmt.Errorf("timestamp: %w", err)}
	}
	return from, to, true, nil
}

func timestampRange(token, signature []byte) (from, to time.Time, err error) {
	signed, err := tspclient.ParseSignedToken(token)
	if err != nil {
		return from, to, err
	}
	info, err := signed.Info()
	if err != nil {
		return from, to, err
	}
	// Within the bounds of RFC 3161, 2.4.2, before anything is multiplied.
	a := info.Accuracy
	if a.Seconds < 0 || int64(a.Seconds) > int64(maxAccuracy/time.Second) || a.Milliseconds < 0 || a.Milliseconds > 999 || a.Microseconds < 0 || a.Microseconds > 999 {
		return from, to, errors.New("its accuracy is out of bounds")
	}
	t, err := info.Validate(signature)
	if err != nil {
		return from, to, err
	}
	return t.Value.Add(-t.Accuracy), t.Value.Add(t.Accuracy), nil
}
