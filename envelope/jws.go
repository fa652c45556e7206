package envelope

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/kms"
)

// jwsProtected is the protected header as we write it: members in the order of their names, as notation writes them.
type jwsProtected struct {
	Algorithm   string   `json:"alg"`
	Critical    []string `json:"crit"`
	ContentType string   `json:"cty"`
	Expiry      string   `json:"io.cncf.notary.expiry,omitempty"`
	Scheme      string   `json:"io.cncf.notary.signingScheme"`
	SigningTime string   `json:"io.cncf.notary.signingTime"`
}

// jwsEnvelope is the flattened JSON serialization (RFC 7515, 7.2.2) that the JWS envelope specification prescribes.
type jwsEnvelope struct {
	Payload   string `json:"payload"`
	Protected string `json:"protected"`
	Header    struct {
		Chain json.RawMessage `json:"x5c"`
		Agent string          `json:"io.cncf.notary.signingAgent,omitempty"`
	} `json:"header"`
	Signature string `json:"signature"`
}

// writeJWS builds an envelope; sign makes the primitive signature of a message.
func (d draft) writeJWS(sign primitive) ([]byte, error) {
	a := d.attributes
	p := jwsProtected{
		Algorithm:   a.algorithm,
		Critical:    a.critical,
		ContentType: a.contentType,
		Scheme:      a.scheme,
		SigningTime: a.signingTime.Format(time.RFC3339),
	}
	if !a.expiry.IsZero() {
		p.Expiry = a.expiry.Format(time.RFC3339)
	}
	protected := encodeJSON(p)
	sig, err := sign(jwsMessage(protected, d.payload))
	if err != nil {
		return nil, err
	}
	var e jwsEnvelope
	e.Payload = base64.RawURLEncoding.EncodeToString(d.payload)
	e.Protected = base64.RawURLEncoding.EncodeToString(protected)
	e.Signature = base64.RawURLEncoding.EncodeToString(sig)
	e.Header.Agent = d.agent
	if e.Header.Chain, err = encodeX5C(d.chain); err != nil {
		return nil, err
	}
	return encodeJSON(e), nil
}

// jwsMessage returns the JWS signing input (RFC 7515, 5.1).
func jwsMessage(protected, payload []byte) []byte {
	m := base64.RawURLEncoding.AppendEncode(nil, protected)
	m = append(m, '.')
	return base64.RawURLEncoding.AppendEncode(m, payload)
}

func encodeX5C(c certchain.Chain) ([]byte, error) {
	ders := [][]byte{}
	for _, cert := range c {
		ders = append(ders, cert.Raw)
	}
	return json.Marshal(ders) // []byte is standard base64 with padding, as RFC 7515, 4.1.6, wants
}

// checkJWS checks the primitive signature.
func (e *Envelope) checkJWS(alg kms.Algorithm, pub crypto.PublicKey) error {
	sig := e.content.Signature
	if !alg.PSS {
		var err error
		if sig, err = derOf(pub, sig); err != nil {
			return err
		}
	}
	return alg.Verify(pub, jwsMessage(e.content.Protected, e.content.Signed), sig)
}

// parseJWS reads a JWS envelope whose signed attributes pass check.
func parseJWS(b []byte, check func(attributes) error) (*Envelope, error) {
	malformed := func(err error) error { return &Error{codeMalformed, fmt.Errorf("JWS envelope: %w", err)} }
	if err := checkJSON(b); err != nil {
		return nil, malformed(err)
	}
	top, err := members(b)
	if err != nil {
		return nil, malformed(err)
	}
	var header member
	c := Content{Format: JWS}
	for _, m := range top {
		switch m.name {
		case "payload":
			c.Signed, err = base64URL(m.value)
		case "protected":
			c.Protected, err = base64URL(m.value)
		case "signature":
			c.Signature, err = base64URL(m.value)
		case "header":
			header = m
		default:
			err = errors.New("unknown member")
		}
		if err != nil {
			return nil, malformed(fmt.Errorf("%q: %w", m.name, err))
		}
	}
	if c.Signed == nil || c.Protected == nil || c.Signature == nil || header.value == nil {
		return nil, malformed(errors.New("payload, protected, header and signature must all be there"))
	}

	a, err := parseJWSProtected(c.Protected)
	if err != nil {
		return nil, err
	}
	if err := check(a); err != nil {
		return nil, err
	}
	c.take(a)
	if c.Payload, err = parsePayload(c.Signed); err != nil {
		return nil, err
	}

	e := &Envelope{format: JWS, raw: b, content: c, plugin: a.plugin}
	if err := e.readJWSHeader(a, header); err != nil {
		return nil, err
	}
	return e, nil
}

// readJWSHeader reads the unprotected header of an envelope with the attributes a.
func (e *Envelope) readJWSHeader(a attributes, header member) error {
	malformed := func(err error) error { return &Error{codeMalformed, fmt.Errorf("JWS envelope: header: %w", err)} }
	unprotected, err := members(header.value)
	if err != nil {
		return malformed(err)
	}
	c := &e.content
	for _, m := range unprotected {
		if err := a.checkUnprotected(m.name, "x5c", attrTimestamp, attrAgent); err != nil {
			return err
		}
		switch m.name {
		case "x5c":
			e.chainStart = header.offset + m.offset
			e.chainEnd = e.chainStart + len(m.value)
			c.Chain, err = parseX5C(m.value)
		case attrTimestamp:
			e.stampStart = header.offset + m.offset
			e.stampEnd = e.stampStart + len(m.value)
			c.Timestamp, err = base64Std(m.value)
		case attrAgent:
			c.Agent, err = stringValue(m.value)
		}
		if refused := (*Error)(nil); errors.As(err, &refused) {
			return err
		}
		if err != nil {
			return malformed(fmt.Errorf("%q: %w", m.name, err))
		}
	}
	if c.Chain == nil {
		return refuse(codeChainMalformed, "the envelope has no certificate chain (x5c)")
	}
	return nil
}

func parseJWSProtected(b []byte) (a attributes, err error) {
	malformed := func(err error) error { return &Error{codeMalformed, fmt.Errorf("protected header: %w", err)} }
	if err := checkJSON(b); err != nil {
		return a, malformed(err)
	}
	ms, err := members(b)
	if err != nil {
		return a, malformed(err)
	}
	for _, m := range ms {
		switch m.name {
		case "alg":
			a.algorithm, err = stringValue(m.value)
		case "cty":
			a.contentType, err = stringValue(m.value)
		case "crit":
			if a.critical, err = stringArray(m.value); err != nil {
				return a, &Error{codeCritical, fmt.Errorf("crit: %w", err)}
			}
		case attrScheme:
			a.scheme, err = stringValue(m.value)
		case attrSigningTime:
			a.signingTime, err = jsonTime(m)
		case attrAuthenticTime:
			a.authenticTime, err = jsonTime(m)
		case attrExpiry:
			a.expiry, err = jsonTime(m)
		case "x5c":
			return a, &Error{codeChainSigned, fmt.Errorf("protected header: %w", ErrChainSigned)}
		default:
			a.extended = append(a.extended, m.name)
			a.notePlugin(m.name, func() (string, error) { return stringValue(m.value) })
		}
		if refused := (*Error)(nil); errors.As(err, &refused) {
			return a, err
		}
		if err != nil {
			return a, malformed(fmt.Errorf("%q: %w", m.name, err))
		}
	}
	return a, nil
}

func parseX5C(raw json.RawMessage) (certchain.Chain, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return nil, refuse(codeChainMalformed, "x5c is not an array")
	}
	// Counted before anything is decoded; parseChain has the words for it.
	var ders [][]byte
	for _, e := range elements[:min(len(elements), certchain.MaxCertificates+1)] {
		der, err := base64Std(e)
		if err != nil {
			return nil, &Error{codeChainMalformed, fmt.Errorf("x5c: %w", err)}
		}
		ders = append(ders, der)
	}
	return parseChain(ders)
}

// base64URL reads a string of unpadded base64url (RFC 7515, 2).
func base64URL(raw json.RawMessage) ([]byte, error) { return strictBase64(base64.RawURLEncoding, raw) }

// base64Std reads a string of padded standard base64 (RFC 7515, 4.1.6).
func base64Std(raw json.RawMessage) ([]byte, error) { return strictBase64(base64.StdEncoding, raw) }

// strictBase64 reads a string that is not empty and that enc itself would have written: package base64 skips line
// ends and, unless told otherwise, bits left over in the last character.
func strictBase64(enc *base64.Encoding, raw json.RawMessage) ([]byte, error) {
	s, err := stringValue(raw)
	if err != nil {
		return nil, err
	}
	b, err := enc.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 || enc.EncodeToString(b) != s {
		return nil, errors.New("empty, or not in the one form of base64 that is allowed")
	}
	return b, nil
}

// rfc3339 is the grammar of RFC 3339, 5.6, in upper case as stock signers write it. The ranges of date and time are
// left to package time (which does not check those of the offset, and knows no leap seconds).
var rfc3339 = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)
})

func jsonTime(m member) (time.Time, error) {
	s, err := stringValue(m.value)
	if err != nil {
		return time.Time{}, &Error{codeTime, fmt.Errorf("%s: %w", m.name, err)}
	}
	if !rfc3339().MatchString(s) {
		return time.Time{}, refuse(codeTime, "%s: %q is not a time of RFC 3339", m.name, s)
	}
	var t time.Time
	if err := t.UnmarshalText([]byte(s)); err != nil {
		return time.Time{}, &Error{codeTime, fmt.Errorf("%s: %w", m.name, err)}
	}
	return t.UTC(), checkTime(m.name, t)
}
