// Package envelope writes and reads the two signature envelopes of the Notary Project: JWS and COSE_Sign1. It knows no network.
package envelope

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/kms"
)

// A Format is the media type of an envelope.
type Format string

const (
	JWS  Format = "application/jose+json"
	COSE Format = "application/cose"
)

// Short returns "jws" or "cose"; ParseFormat reads these.
func (f Format) Short() string { panic("door") }

// ParseFormat reads "jws" or "cose".
func ParseFormat(s string) (Format, error) { panic("door") }

const (
	// PayloadType is the content type of every payload (signature specification, "Payload").
	PayloadType = "application/vnd.cncf.notary.payload.v1+json"
	// ClaimsAnnotation holds the claimed tags: a canonical JSON array of strings (DESIGN.md section 4).
	ClaimsAnnotation = "io.imprint.claims"
	// MaxBytes limits an envelope.
	MaxBytes = 1 << 20
	// MaxAnnotations limits all keys and values of a payload's annotations together, bytes.
	MaxAnnotations = 64 << 10
)

// A Payload is what is signed: the descriptor of an artifact with signed annotations.
type Payload struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Claims returns the claims of the payload, and whether there are any at all: an empty list is one. An annotation that is not a JSON
// array of strings is an error (reason claims-malformed).
func (p Payload) Claims() (claims []string, present bool, err error) { panic("door") }

// EncodeClaims returns the canonical value of ClaimsAnnotation: sorted, unique, no white space; "[]" for none. HTML escaping is off.
func EncodeClaims(claims []string) string { panic("door") }

// Equal reports whether both payloads are the same artifact with the same annotations.
func (p Payload) Equal(o Payload) bool { panic("door") }

// Options of [Sign].
type Options struct {
	SigningTime time.Time // required; written in whole seconds, UTC
	Expiry      time.Time // zero: none; must lie after SigningTime
	Agent       string    // io.cncf.notary.signingAgent, unsigned; "" leaves it out
}

// An Envelope is a parsed envelope: its form is right, nothing is proved.
type Envelope struct {
	format Format
	raw    []byte
	// the room decides the rest
}

// Format returns the envelope's format.
func (e *Envelope) Format() Format { return e.format }

// Bytes returns the envelope as it is stored; callers must not change it.
func (e *Envelope) Bytes() []byte { return e.raw }

// Sign checks payload, key and chain (certchain rules, key matches leaf, valid at SigningTime) before key is used, signs, and verifies its own result
// strictly. If the key returned something else than its own signature the error wraps ErrKeyMisbehaved.
func Sign(ctx context.Context, f Format, p Payload, key kms.Key, chain certchain.Chain, o Options) (*Envelope, error) {
	panic("door")
}

// Parse reads an envelope strictly (CASES.md 2.2). It proves nothing. Errors are *Error.
func Parse(mediaType string, b []byte) (*Envelope, error) { panic("door") }

// Verify checks that the leaf key of the envelope's own chain signed its payload, and the chain's form by the rules that stock verifiers apply
// ([certchain.Chain.CheckStock]). Trust in the chain and time are not its business. Errors are *Error.
func (e *Envelope) Verify() (Content, error) { panic("door") }

// Unverified returns what the envelope says, proving nothing; its CoreID is empty.
func (e *Envelope) Unverified() Content { panic("door") }

// WithChain returns the envelope with another chain: protected header, payload and signature bytes are carried verbatim, unprotected members that are not the chain
// too. The chain must be for the same public key (byte-equal SPKI) and the result must verify; a chain in the protected header is refused (chain-is-signed). The result is
// deterministic, and equals e when the chain is the same.
func (e *Envelope) WithChain(c certchain.Chain) (*Envelope, error) { panic("door") }

// Signing schemes.
const (
	SchemeX509             = "notary.x509"
	SchemeSigningAuthority = "notary.x509.signingAuthority"
)

// A Content is what an envelope says.
type Content struct {
	Format        Format
	Algorithm     string // PS256 … ES512
	Scheme        string
	Payload       Payload
	SigningTime   time.Time // of scheme notary.x509
	AuthenticTime time.Time // of scheme notary.x509.signingAuthority
	Expiry        time.Time // zero: none
	Agent         string    // unsigned
	Extended      []string  // names of further protected attributes, none critical
	Chain         certchain.Chain
	Timestamp     []byte // RFC 3161 token, unsigned; nil if there is none
	core          digest.Digest
	// Protected, Signed and Signature are the exact bytes: decoded protected header, payload, primitive signature.
	Protected, Signed, Signature []byte
}

// CoreID identifies the signature whatever chain, timestamp or (r,s) form it carries (DESIGN.md section 4). It is empty unless the content
// came out of Verify.
func (c Content) CoreID() digest.Digest { return c.core }

// SignedAt returns SigningTime or AuthenticTime.
func (c Content) SignedAt() time.Time { panic("door") }

// Supersedes reports whether c makes o needless: both verified, same core id, same leaf subject, byte-equal last certificates, and c's
// chain ends strictly later (DESIGN.md section 4).
func (c Content) Supersedes(o Content) bool { panic("door") }

// A Setting is a way in which stock verifiers judge time (INTEROP.md 3e).
type Setting string

const (
	NoTSARoot       Setting = "no-tsa-root"           // every certificate must be valid now
	Always          Setting = "tsa-always"            // a timestamp is required and must lie inside every certificate
	AfterCertExpiry Setting = "tsa-after-cert-expiry" // the timestamp counts only once something has expired
)

// Settings returns the three, in that order.
func Settings() []Setting { panic("door") }

// Passes says what a verifier of setting s, who trusts the root and the TSA, says of c at the time now, and why not. A timestamp is taken at its word here: its own
// signature is judged elsewhere.
func (c Content) Passes(s Setting, now time.Time) (ok bool, why string) { panic("door") }

// TimestampRange returns the earliest and the latest time that the token states (genTime ± accuracy). ok is false without a token; a token that cannot be read is an error.
func (c Content) TimestampRange() (from, to time.Time, ok bool, err error) { panic("door") }

var (
	// ErrKeyMisbehaved: the key service returned something that is not the leaf key's strict signature over the message.
	ErrKeyMisbehaved = errors.New("the key service returned a wrong signature")
	// ErrSignature: the signature is not the leaf key's over these bytes.
	ErrSignature = errors.New("signature does not match")
	// ErrChainSigned: the certificate chain is in the protected header.
	ErrChainSigned = errors.New("the certificate chain is signed")
)

// An Error is why an envelope was refused.
type Error struct {
	Code string // stable; listed by Reasons
	Err  error
}

func (e *Error) Error() string  { return e.Err.Error() }
func (e *Error) Unwrap() error  { return e.Err }
func (e *Error) Reason() string { return e.Code }

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string { panic("door") }
