package envelope

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	timestamping "github.com/notaryproject/notation-core-go/x509"
	"github.com/notaryproject/tspclient-go"

	"github.com/imprint-oci/imprint/certchain"
)

// MaxTimestamp limits a timestamp token.
const MaxTimestamp = 256 << 10

// ErrTimestamp: the token is no countersignature of an authority below one of the given roots (reason timestamp-untrusted).
var ErrTimestamp = errors.New("the timestamp is not that of a trusted time-stamping authority")

// WithTimestamp returns the envelope with token as its RFC 3161 countersignature, in place of the one it may have. The token
// must state a time for this very signature; who issued it is not looked at (see [Content.VerifyTimestamp]). Every other byte is carried verbatim,
// and the result verifies. It is deterministic, and is e itself when the token is the same. Errors are *Error.
func (e *Envelope) WithTimestamp(token []byte) (*Envelope, error) {
	if len(token) == 0 || len(token) > MaxTimestamp {
		return nil, refuse(codeTimestamp, "a timestamp token has 1 to %d bytes, this one %d", MaxTimestamp, len(token))
	}
	if _, _, err := timestampRange(token, e.content.Signature); err != nil {
		return nil, &Error{codeTimestamp, fmt.Errorf("timestamp: %w", err)}
	}
	if bytes.Equal(token, e.content.Timestamp) {
		_, err := e.Verify()
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	raw, err := e.spliceTimestamp(token)
	if err != nil {
		return nil, &Error{codeTimestamp, fmt.Errorf("encoding the timestamp: %w", err)}
	}
	n, err := e.edited(raw)
	if err != nil {
		return nil, err
	}
	if !n.content.Chain.Equal(e.content.Chain) || !bytes.Equal(n.content.Timestamp, token) {
		return nil, refuse(codeMalformed, "exchanging the timestamp changed something else")
	}
	return n, nil
}

// spliceTimestamp puts the token where the present one is, else right behind the chain, which every envelope has.
func (e *Envelope) spliceTimestamp(token []byte) ([]byte, error) {
	var value, name []byte
	var err error
	switch e.format {
	case JWS:
		value, err = json.Marshal(token)
		name = []byte(`,"` + attrTimestamp + `":`)
	case COSE:
		if value, err = cbor.Marshal(token); err == nil {
			name, err = cbor.Marshal(attrTimestamp)
		}
	}
	if err != nil {
		return nil, err
	}
	if e.stampEnd > 0 {
		return join(e.raw[:e.stampStart], value, e.raw[e.stampEnd:]), nil
	}
	start := e.raw[:e.chainEnd]
	if e.format == COSE { // one entry more in the map
		h, err := readHead(e.raw[e.headerStart:])
		if err != nil {
			return nil, err
		}
		start = join(e.raw[:e.headerStart], mapHead(h.arg+1), e.raw[e.headerStart+h.size:e.chainEnd])
	}
	return join(start, name, value, e.raw[e.chainEnd:]), nil
}

// mapHead starts a map of n entries, in the shortest form. Header maps have fewer than 256 entries.
func mapHead(n uint64) []byte {
	if n < 24 {
		return []byte{cborMap<<5 | byte(n)}
	}
	return []byte{cborMap<<5 | 24, byte(n)}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// A Stamp is what a verified countersignature says.
type Stamp struct {
	At       time.Time // genTime
	Accuracy time.Duration
	From, To time.Time       // At ± Accuracy: when the signature existed
	Chain    certchain.Chain // the authority's: the certificate that signed the token first, one of the given roots last
}

// VerifyTimestamp verifies c's countersignature as stock verifiers do; see the function of that name. ok of
// [Content.TimestampRange] says whether there is one.
func (c Content) VerifyTimestamp(roots []*x509.Certificate) (Stamp, error) {
	if len(c.Timestamp) == 0 {
		return Stamp{}, refuse(codeTimestamp, "there is no timestamp")
	}
	return VerifyTimestamp(c.Timestamp, c.Signature, roots)
}

// VerifyTimestamp verifies an RFC 3161 token over a primitive signature: it is for these bytes, a certificate for time-stamping
// alone signed it, and at the time it states the chain of that certificate was valid and led to one of roots (Notary Project, signature
// specification, "Timestamping"). Neither today's time nor revocation is looked at, nor how exact the time is. Errors are *Error: timestamp-malformed, or
// timestamp-untrusted, which wraps [ErrTimestamp].
func VerifyTimestamp(token, signature []byte, roots []*x509.Certificate) (Stamp, error) {
	if len(token) > MaxTimestamp {
		return Stamp{}, refuse(codeTimestamp, "the timestamp token has more than %d bytes", MaxTimestamp)
	}
	from, to, err := timestampRange(token, signature)
	if err != nil {
		return Stamp{}, &Error{codeTimestamp, fmt.Errorf("timestamp: %w", err)}
	}
	accuracy := to.Sub(from) / 2
	s := Stamp{At: from.Add(accuracy), Accuracy: accuracy, From: from, To: to}
	untrusted := func(err error) (Stamp, error) {
		return Stamp{}, &Error{codeUntrustedStamp, fmt.Errorf("%w: %w", ErrTimestamp, err)}
	}
	if len(roots) == 0 {
		return untrusted(errors.New("no root of such authorities is given"))
	}
	signed, err := tspclient.ParseSignedToken(token)
	if err != nil {
		return Stamp{}, &Error{codeTimestamp, fmt.Errorf("timestamp: %w", err)}
	}
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	chain, err := signed.Verify(context.Background(), x509.VerifyOptions{Roots: pool, CurrentTime: s.At})
	if err != nil {
		return untrusted(err)
	}
	if err := timestamping.ValidateTimestampingCertChain(chain); err != nil {
		return untrusted(err)
	}
	s.Chain = chain
	return s, nil
}

// TimestampCertificates returns the certificates that c's token carries, that of its signer first, for screens: nothing of them is
// verified. It returns nil where there is no token, none that can be read, or one of several signers: a token has one (RFC 3161, 2.4.2),
// and anybody can put another into it.
func (c Content) TimestampCertificates() []*x509.Certificate {
	if len(c.Timestamp) == 0 || len(c.Timestamp) > MaxTimestamp {
		return nil
	}
	signed, err := tspclient.ParseSignedToken(c.Timestamp)
	if err != nil || len(signed.SignerInfos) != 1 {
		return nil
	}
	first, err := signed.SigningCertificate(&signed.SignerInfos[0])
	if err != nil {
		return nil
	}
	certs := []*x509.Certificate{first}
	for _, cert := range signed.Certificates {
		if !cert.Equal(first) && len(certs) < certchain.MaxCertificates {
			certs = append(certs, cert)
		}
	}
	return certs
}
