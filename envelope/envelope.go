// Package envelope writes and reads the two signature envelopes of the Notary Project: JWS and COSE_Sign1. It knows no network.
//
// [Sign] writes an envelope and [Parse] reads one; there is one strict parser for each format, and what it does not
// understand it refuses with a reason code (see [Reasons]). Parsing proves nothing: the way to trusted content is
// [Envelope.Verify], and [Envelope.Unverified] is for screens only. [Envelope.WithChain] exchanges the certificate
// chain and [Envelope.WithTimestamp] the countersignature, neither of which is signed, and leave every other byte as it was.
//
// Whether the chain is trusted and whether the signature has expired is judged elsewhere; whether a timestamp is genuine says
// [Content.VerifyTimestamp].
package envelope

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/veraison/go-cose"

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
func (f Format) Short() string {
	switch f {
	case JWS:
		return "jws"
	case COSE:
		return "cose"
	}
	return string(f)
}

// ParseFormat reads "jws" or "cose".
func ParseFormat(s string) (Format, error) {
	switch s {
	case "jws":
		return JWS, nil
	case "cose":
		return COSE, nil
	}
	return "", refuse(codeFormat, "signature format %q: not jws or cose", s)
}

// MaxBytes limits an envelope.
const MaxBytes = 1 << 20

// An Envelope is a parsed envelope: its form is right, nothing is proved.
type Envelope struct {
	format  Format
	raw     []byte
	content Content // what it says; its core id is empty

	// The value of the unsigned chain (x5c, x5chain) is raw[chainStart:chainEnd].
	chainStart, chainEnd int
	// The value of the unsigned timestamp is raw[stampStart:stampEnd]; both are zero where there is none.
	stampStart, stampEnd int
	headerStart          int // of the unprotected header of a COSE envelope

	message *cose.Sign1Message // of a COSE envelope

	// plugin is the verification plugin that the envelope calls for. Only [SignWith] lets one through, and [Envelope.Verify] none.
	plugin string
}

// Format returns the envelope's format.
func (e *Envelope) Format() Format { return e.format }

// Bytes returns the envelope as it is stored; callers must not change it.
func (e *Envelope) Bytes() []byte { return e.raw }

// Parse reads an envelope strictly (docs/signature.md, "What imprint refuses to read although others accept
// it"). The media type alone decides which parser reads it. Parse proves nothing. Errors are *Error.
func Parse(mediaType string, b []byte) (*Envelope, error) {
	return parse(mediaType, b, attributes.check)
}

// parse reads an envelope whose signed attributes pass check.
func parse(mediaType string, b []byte, check func(attributes) error) (*Envelope, error) {
	if len(b) > MaxBytes {
		return nil, refuse(codeTooLarge, "the envelope has more than %d bytes", MaxBytes)
	}
	b = bytes.Clone(b)
	switch f := Format(mediaType); f {
	case JWS:
		if bytes.HasPrefix(b, sign1Prefix) {
			return nil, refuse(codeFormat, "the media type says JWS, the bytes are COSE")
		}
		return parseJWS(b, check)
	case COSE:
		if bytes.HasPrefix(b, []byte("{")) {
			return nil, refuse(codeFormat, "the media type says COSE, the bytes are JSON")
		}
		return parseCOSE(b, check)
	}
	return nil, refuse(codeFormat, "media type %q is not that of a signature envelope", mediaType)
}

// Verify checks that the leaf key of the envelope's own chain signed its payload, and the chain's form by the rules
// that stock verifiers apply ([certchain.Chain.CheckStock]). Trust in the chain and time are not its business:
// neither the end of certificates nor the signature's own expiry is looked at. Errors are *Error.
func (e *Envelope) Verify() (Content, error) {
	if e.plugin != "" {
		return Content{}, refuse(codeCriticalUnknown, "the signature can be judged only with the verification plugin %s", e.plugin)
	}
	return e.verify()
}

func (e *Envelope) verify() (Content, error) {
	c := e.content
	pub := c.Chain.Leaf().PublicKey
	// The algorithm follows from the leaf key. One that the header alone chose would let it choose the check (RFC 8725, 3.1).
	alg, err := kms.AlgorithmOf(pub)
	if err != nil {
		return Content{}, &Error{codeAlgorithm, fmt.Errorf("key of the leaf certificate: %w", err)}
	}
	if alg.Name != c.Algorithm {
		return Content{}, refuse(codeAlgorithmMismatch, "the header says %s, the leaf certificate's key is for %s", c.Algorithm, alg.Name)
	}
	check := e.checkJWS
	if e.format == COSE {
		check = e.checkCOSE
	}
	if err := check(alg, pub); err != nil {
		return Content{}, &Error{codeSignature, fmt.Errorf("%w: %w", ErrSignature, err)}
	}
	if err := c.Chain.CheckStock(); err != nil {
		return Content{}, &Error{codeChainInvalid, fmt.Errorf("certificate chain: %w", err)}
	}
	c.core = coreID(c)
	return c, nil
}

// Unverified returns what the envelope says, proving nothing; its CoreID is empty.
func (e *Envelope) Unverified() Content { return e.content }

// WithChain returns the envelope with another chain: protected header, payload and signature bytes are carried
// verbatim, unprotected members that are not the chain too. The chain must be for the same public key (byte-equal
// SPKI) and the result must verify; an envelope whose chain is in the protected header never got through [Parse]
// (chain-is-signed). The result is deterministic, and is e itself when the chain is the same. Errors are *Error.
func (e *Envelope) WithChain(c certchain.Chain) (*Envelope, error) {
	if len(c) == 0 {
		return nil, refuse(codeChainMalformed, "the new chain is empty")
	}
	// Equality of keys, not "the signature verifies under it": for RSA an attacker can make another key under which a given
	// signature verifies (duplicate signature key selection).
	if !bytes.Equal(c.Leaf().RawSubjectPublicKeyInfo, e.content.Chain.Leaf().RawSubjectPublicKeyInfo) {
		return nil, &Error{codeLeafKey, fmt.Errorf("exchanging the chain: %w", certchain.ErrKeyMismatch)}
	}
	if c.Equal(e.content.Chain) {
		_, err := e.Verify()
		if err != nil {
			return nil, err
		}
		return e, nil
	}

	// Only the bytes of the chain's value change, so whatever stands around it is carried without being understood.
	var chain []byte
	var err error
	switch e.format {
	case JWS:
		chain, err = encodeX5C(c)
	case COSE:
		chain, err = encodeX5Chain(c)
	}
	if err != nil {
		return nil, &Error{codeChainMalformed, fmt.Errorf("encoding the chain: %w", err)}
	}
	raw := make([]byte, 0, len(e.raw)+len(chain))
	raw = append(raw, e.raw[:e.chainStart]...)
	raw = append(raw, chain...)
	raw = append(raw, e.raw[e.chainEnd:]...)

	n, err := e.edited(raw)
	if err != nil {
		return nil, err
	}
	if !n.content.Chain.Equal(c) || !bytes.Equal(n.content.Timestamp, e.content.Timestamp) {
		return nil, refuse(codeMalformed, "exchanging the chain changed something else")
	}
	return n, nil
}

// edited reads and verifies raw, which is e with another unsigned value, and makes sure that nothing that was signed changed.
func (e *Envelope) edited(raw []byte) (*Envelope, error) {
	n, err := Parse(string(e.format), raw)
	if err != nil {
		return nil, err
	}
	if _, err := n.Verify(); err != nil {
		return nil, err
	}
	was, is := e.content, n.content
	if !bytes.Equal(was.Protected, is.Protected) || !bytes.Equal(was.Signed, is.Signed) || !bytes.Equal(was.Signature, is.Signature) || was.Agent != is.Agent {
		return nil, refuse(codeMalformed, "exchanging what is not signed changed something else")
	}
	return n, nil
}

// parseChain reads the certificates of an envelope in their order. What they are to each other is judged by Verify.
func parseChain(ders [][]byte) (certchain.Chain, error) {
	if len(ders) == 0 {
		return nil, refuse(codeChainMalformed, "the certificate chain is empty")
	}
	if len(ders) > certchain.MaxCertificates {
		return nil, refuse(codeChainMalformed, "the certificate chain has more than %d certificates", certchain.MaxCertificates)
	}
	var c certchain.Chain
	for i, der := range ders {
		if len(der) > certchain.MaxCertificate {
			return nil, refuse(codeChainMalformed, "certificate %d of the chain has more than %d bytes", i+1, certchain.MaxCertificate)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, &Error{codeChainMalformed, fmt.Errorf("certificate %d of the chain: %w", i+1, err)}
		}
		c = append(c, cert)
	}
	return c, nil
}

var (
	// ErrKeyMisbehaved: the key service returned something that is not the leaf key's strict signature over the message.
	ErrKeyMisbehaved = errors.New("the key service returned a wrong signature")
	// ErrSignature: the signature is not the leaf key's over these bytes.
	ErrSignature = errors.New("signature does not match")
	// ErrChainSigned: the certificate chain is in the protected header.
	ErrChainSigned = errors.New("the certificate chain is signed")
)
