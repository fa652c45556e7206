package envelope

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/kms"
)

// sign1Prefix starts every COSE_Sign1_Tagged: tag 18, an array of four (RFC 9052, 4.2).
var sign1Prefix = []byte{0xd2, 0x84}

// timeTag is the tag of a time in seconds (RFC 8949, 3.4.2).
const timeTag = 1

// coseAlgorithms are the numbers of the six algorithms (RFC 9053, 2.1; RFC 8230, 2).
var coseAlgorithms = map[int64]string{
	int64(cose.AlgorithmPS256): "PS256",
	int64(cose.AlgorithmPS384): "PS384",
	int64(cose.AlgorithmPS512): "PS512",
	int64(cose.AlgorithmES256): "ES256",
	int64(cose.AlgorithmES384): "ES384",
	int64(cose.AlgorithmES512): "ES512",
}

func coseAlgorithm(name string) (cose.Algorithm, error) {
	for number, n := range coseAlgorithms {
		if n == name {
			return cose.Algorithm(number), nil
		}
	}
	return 0, fmt.Errorf("algorithm %q has no COSE number", name)
}

// coseSigner gives go-cose's Sig_structure to whoever signs it.
type coseSigner struct {
	alg  cose.Algorithm
	sign primitive
}

func (s coseSigner) Algorithm() cose.Algorithm                        { return s.alg }
func (s coseSigner) Sign(_ io.Reader, message []byte) ([]byte, error) { return s.sign(message) }

// writeCOSE builds an envelope; sign makes the primitive signature of a message. go-cose sorts the labels, so that
// the bytes are deterministic.
func (d draft) writeCOSE(sign primitive) ([]byte, error) {
	a := d.attributes
	alg, err := coseAlgorithm(a.algorithm)
	if err != nil {
		return nil, err
	}
	critical := []any{}
	for _, name := range a.critical {
		critical = append(critical, name)
	}
	m := cose.NewSign1Message()
	m.Headers.Protected = cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm:   alg,
		cose.HeaderLabelCritical:    critical,
		cose.HeaderLabelContentType: a.contentType,
		attrScheme:                  a.scheme,
		attrSigningTime:             encodeTime(a.signingTime),
	}
	if !a.expiry.IsZero() {
		m.Headers.Protected[attrExpiry] = encodeTime(a.expiry)
	}
	m.Payload = d.payload
	if err := m.Sign(nil, nil, coseSigner{alg, sign}); err != nil {
		return nil, err
	}
	x5chain, err := encodeX5Chain(d.chain)
	if err != nil {
		return nil, err
	}
	m.Headers.Unprotected[cose.HeaderLabelX5Chain] = cbor.RawMessage(x5chain)
	if d.agent != "" {
		m.Headers.Unprotected[attrAgent] = d.agent
	}
	return m.MarshalCBOR()
}

// encodeTime encodes t as stock verifiers demand: tag 1, whole seconds.
func encodeTime(t time.Time) cbor.Tag {
	return cbor.Tag{Number: timeTag, Content: t.Unix()}
}

// encodeX5Chain always writes an array: a single byte string, which RFC 9360 prescribes for one certificate, stock
// verifiers do not read.
func encodeX5Chain(c certchain.Chain) ([]byte, error) {
	ders := [][]byte{}
	for _, cert := range c {
		ders = append(ders, cert.Raw)
	}
	return cbor.Marshal(ders)
}

// checkCOSE checks the primitive signature.
func (e *Envelope) checkCOSE(alg kms.Algorithm, pub crypto.PublicKey) error {
	number, err := coseAlgorithm(alg.Name)
	if err != nil {
		return err
	}
	v, err := cose.NewVerifier(number, pub)
	if err != nil {
		return err
	}
	return e.message.Verify(nil, v)
}

// parseCOSE reads a COSE envelope whose signed attributes pass check. go-cose has the last word, so that what passes here is
// read alike by it.
func parseCOSE(b []byte, check func(attributes) error) (*Envelope, error) {
	malformed := func(err error) error { return &Error{codeMalformed, fmt.Errorf("COSE envelope: %w", err)} }
	if err := checkCBOR(b); err != nil {
		return nil, malformed(err)
	}
	if !bytes.HasPrefix(b, sign1Prefix) {
		return nil, malformed(errors.New("not a tagged COSE_Sign1"))
	}
	parts, err := arrayValue(b[1:], 4)
	if err != nil {
		return nil, malformed(err)
	}
	c := Content{Format: COSE}
	if c.Protected, err = bytesValue(parts[0]); err != nil {
		return nil, malformed(fmt.Errorf("protected header: %w", err))
	}
	if c.Signed, err = bytesValue(parts[2]); err != nil {
		return nil, malformed(fmt.Errorf("payload: %w", err))
	}
	if c.Signature, err = bytesValue(parts[3]); err != nil {
		return nil, malformed(fmt.Errorf("signature: %w", err))
	}

	a, err := parseCOSEProtected(c.Protected)
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

	e := &Envelope{format: COSE, raw: b, content: c, plugin: a.plugin, message: cose.NewSign1Message()}
	if err := e.readCOSEHeader(a, parts[1], len(sign1Prefix)+len(parts[0])); err != nil {
		return nil, err
	}
	if err := e.message.UnmarshalCBOR(b); err != nil {
		return nil, malformed(err)
	}
	return e, nil
}

// readCOSEHeader reads the unprotected header b, which stands at offset in the envelope, of one with the attributes a.
func (e *Envelope) readCOSEHeader(a attributes, b []byte, offset int) error {
	malformed := func(err error) error {
		return &Error{codeMalformed, fmt.Errorf("COSE envelope: unprotected header: %w", err)}
	}
	unprotected, err := readMap(b)
	if err != nil {
		return malformed(err)
	}
	c := &e.content
	e.headerStart = offset
	for _, m := range unprotected {
		switch m.label {
		case cose.HeaderLabelAlgorithm, cose.HeaderLabelCritical, cose.HeaderLabelContentType:
			return &Error{codeMalformed, fmt.Errorf("COSE envelope: label %v does not belong into the unprotected header", m.label)}
		case cose.HeaderLabelX5Chain:
			e.chainStart = offset + m.offset
			e.chainEnd = e.chainStart + len(m.value)
			if c.Chain, err = parseX5Chain(m.value); err != nil {
				return err
			}
		}
		name, ok := m.label.(string)
		if !ok {
			continue
		}
		if err := a.checkUnprotected(name, attrTimestamp, attrAgent); err != nil {
			return err
		}
		switch name {
		case attrTimestamp:
			e.stampStart = offset + m.offset
			e.stampEnd = e.stampStart + len(m.value)
			c.Timestamp, err = bytesValue(m.value)
		case attrAgent:
			c.Agent, err = textValue(m.value)
		}
		if err != nil {
			return malformed(fmt.Errorf("%q: %w", name, err))
		}
	}
	if c.Chain == nil {
		return refuse(codeChainMalformed, "the envelope has no certificate chain (x5chain)")
	}
	return nil
}

func parseCOSEProtected(b []byte) (a attributes, err error) {
	malformed := func(err error) error { return &Error{codeMalformed, fmt.Errorf("protected header: %w", err)} }
	if err := checkCBOR(b); err != nil {
		return a, malformed(err)
	}
	entries, err := readMap(b)
	if err != nil {
		return a, malformed(err)
	}
	for _, m := range entries {
		switch m.label {
		case cose.HeaderLabelAlgorithm:
			a.algorithm = readAlgorithm(m.value)
		case cose.HeaderLabelCritical:
			a.critical, err = readCritical(m.value)
		case cose.HeaderLabelContentType:
			a.contentType, err = textValue(m.value)
		case cose.HeaderLabelX5Chain:
			err = &Error{codeChainSigned, fmt.Errorf("protected header: %w", ErrChainSigned)}
		case attrScheme:
			a.scheme, err = textValue(m.value)
		case attrSigningTime:
			a.signingTime, err = readTime(m)
		case attrAuthenticTime:
			a.authenticTime, err = readTime(m)
		case attrExpiry:
			a.expiry, err = readTime(m)
		default:
			// An integer label has no place in the list of names, and is no name of an extension.
			a.extended = append(a.extended, fmt.Sprint(m.label))
			a.notePlugin(fmt.Sprint(m.label), func() (string, error) { return textValue(m.value) })
		}
		if refused := (*Error)(nil); errors.As(err, &refused) {
			return a, err
		}
		if err != nil {
			return a, malformed(fmt.Errorf("label %v: %w", m.label, err))
		}
	}
	return a, nil
}

// readAlgorithm names the algorithm; one that is not known keeps its number, for the message.
func readAlgorithm(b []byte) string {
	label, err := readLabel(b)
	if err != nil {
		return ""
	}
	number, ok := label.(int64)
	if !ok {
		return fmt.Sprintf("text %q", label)
	}
	if name, ok := coseAlgorithms[number]; ok {
		return name
	}
	return fmt.Sprint(number)
}

// readCritical reads the list of critical labels. Integer labels belong to COSE itself and are never listed by
// signers of the Notary Project.
func readCritical(b []byte) ([]string, error) {
	items, err := arrayValue(b, len(b))
	if err != nil {
		return nil, &Error{codeCritical, fmt.Errorf("critical labels: %w", err)}
	}
	var names []string
	for _, item := range items {
		label, err := readLabel(item)
		if err != nil {
			return nil, &Error{codeCritical, fmt.Errorf("critical labels: %w", err)}
		}
		names = append(names, fmt.Sprint(label))
	}
	return names, nil
}

// readTime reads a time in whole seconds under tag 1; stock verifiers refuse one without the tag.
func readTime(m entry) (time.Time, error) {
	tag, err := readHead(m.value)
	if err != nil {
		return time.Time{}, err
	}
	if tag.major != cborTag || tag.arg != timeTag {
		return time.Time{}, refuse(codeTime, "%v: not a time under tag 1", m.label)
	}
	seconds, err := readHead(m.value[tag.size:])
	if err != nil {
		return time.Time{}, err
	}
	if seconds.major != cborUint || seconds.arg > maxTime {
		return time.Time{}, refuse(codeTime, "%v: not whole seconds between the years 1970 and 9999", m.label)
	}
	return time.Unix(int64(seconds.arg), 0).UTC(), nil
}

func parseX5Chain(b []byte) (certchain.Chain, error) {
	items, err := arrayValue(b, certchain.MaxCertificates+1)
	if err != nil {
		return nil, &Error{codeChainMalformed, fmt.Errorf("x5chain: %w", err)}
	}
	var ders [][]byte
	for _, item := range items {
		der, err := bytesValue(item)
		if err != nil {
			return nil, &Error{codeChainMalformed, fmt.Errorf("x5chain: %w", err)}
		}
		ders = append(ders, der)
	}
	return parseChain(ders)
}
