package envelope

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/kms"
)

// A Made is an envelope that a key's service wrote as a whole, and that holds what was asked for ([SignWith]).
type Made struct {
	Envelope *Envelope
	Content  Content
	// Annotations are for the signature manifest. None has a name of the Notary Project's or of imprint's.
	Annotations map[string]string
	// Plugin names the verification plugin that the envelope calls for in its critical attributes; "" if there is none. No verifier
	// without that plugin accepts the signature, imprint included: Envelope.Verify refuses it.
	Plugin string
}

const (
	// ownAnnotation starts the names of imprint's annotations.
	ownAnnotation = "io.imprint"
	// clockSlack is how far the signing time may lie from ours: clocks differ, and a batch takes its time, but an envelope of last
	// year's is not one that was made for us.
	clockSlack = 24 * time.Hour
	// expirySlack is for services that read the clock twice and drop fractions.
	expirySlack = 2 * time.Second
)

// SignWith has key make an envelope and accepts it only if it is what was asked for (plugin specification,
// "generate-envelope"). It must be of format f, parse and verify as strictly as any, and hold the payload's descriptor with all of its annotations
// unchanged (the service may add some, none of them reserved) and the expiry asked for; its chain must pass certchain's rules at its signing
// time and at o.SigningTime, which is now. Its leaf must be for the key of chain's leaf if there is a chain, and for key.Public() if that is
// known; otherwise its own chain counts.
//
// Two liberties are the service's. It may name a verification plugin ([Made].Plugin) and mark attributes as critical for it. And a
// signing authority (scheme notary.x509.signingAuthority), whose terms are fixed with it and not by us, may set an expiry where none
// was asked for.
//
// What is wrong with the answer is an error that wraps [ErrKeyMisbehaved] (reason key-misbehaved). Errors about payload and options are
// *Error; those of the key, of certchain and of kms are wrapped. o.Agent is not used: the unsigned attributes are the service's.
func SignWith(ctx context.Context, f Format, p Payload, key kms.EnvelopeSigner, chain certchain.Chain, o Options) (*Made, error) {
	w, err := newWish(f, p, key, chain, o)
	if err != nil {
		return nil, err
	}
	answer, err := key.SignEnvelope(ctx, w.request)
	if err != nil {
		return nil, err // a key says what it was doing, with which key
	}
	m, err := w.read(answer)
	if err != nil {
		return nil, fmt.Errorf("verifying the envelope that was made: %w", misbehaved(err))
	}
	return m, nil
}

// A wish is what an envelope is compared with.
type wish struct {
	format  Format
	payload Payload
	request kms.EnvelopeRequest
	key     kms.Key
	chain   certchain.Chain // for the key that must have signed; may be empty
	now     time.Time
}

func newWish(f Format, p Payload, key kms.Key, chain certchain.Chain, o Options) (*wish, error) {
	if f != JWS && f != COSE {
		return nil, refuse(codeFormat, "media type %q is not that of a signature envelope", f)
	}
	payload, err := p.encode()
	if err != nil {
		return nil, err
	}
	signed, expiry, err := o.times()
	if err != nil {
		return nil, err
	}
	w := &wish{format: f, payload: p, key: key, chain: chain, now: signed}
	w.request = kms.EnvelopeRequest{Payload: payload, PayloadType: PayloadType, EnvelopeType: string(f)}
	if !expiry.IsZero() {
		w.request.Expiry = expiry.Sub(signed)
		if w.request.Expiry <= 0 {
			return nil, refuse(codeTime, "expiry %s does not lie after the signing time %s", stamp(expiry), stamp(signed))
		}
	}
	if len(chain) == 0 {
		return w, nil
	}
	if pub := key.Public(); pub != nil {
		if err := chain.Matches(pub); err != nil {
			return nil, fmt.Errorf("signing chain: %w", err)
		}
	}
	if err := chain.Check(signed); err != nil {
		return nil, fmt.Errorf("signing chain: %w", err)
	}
	return w, nil
}

// read judges an answer.
func (w *wish) read(answer kms.EnvelopeAnswer) (*Made, error) {
	e, err := parse(string(w.format), answer.Envelope, attributes.checkMade)
	if err != nil {
		return nil, err
	}
	c, err := e.verify()
	if err != nil {
		return nil, err
	}
	for _, check := range []func(Content) error{w.checkPayload, w.checkTimes, w.checkChain} {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	if err := checkAnnotations(answer.Annotations); err != nil {
		return nil, err
	}
	return &Made{Envelope: e, Content: c, Annotations: maps.Clone(answer.Annotations), Plugin: e.plugin}, nil
}

func (w *wish) checkPayload(c Content) error {
	asked, got := w.payload, c.Payload
	if got.MediaType != asked.MediaType || got.Digest != asked.Digest || got.Size != asked.Size {
		return fmt.Errorf("it is about another artifact: %s, %d bytes, %s", got.Digest, got.Size, got.MediaType)
	}
	for _, name := range slices.Sorted(maps.Keys(asked.Annotations)) {
		if value, ok := got.Annotations[name]; !ok || value != asked.Annotations[name] {
			return fmt.Errorf("the signed annotation %q is missing or changed", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got.Annotations)) {
		if _, ok := asked.Annotations[name]; !ok && isReserved(name) {
			return fmt.Errorf("it adds the reserved annotation %q", name)
		}
	}
	return nil
}

func (w *wish) checkTimes(c Content) error {
	signed := c.SignedAt()
	if apart := signed.Sub(w.now); apart.Abs() > clockSlack {
		return fmt.Errorf("it says that it was signed at %s, and it is %s", stamp(signed), stamp(w.now))
	}
	asked := w.request.Expiry
	switch {
	case asked == 0 && c.Expiry.IsZero():
	case asked == 0 && c.Scheme != SchemeSigningAuthority:
		return fmt.Errorf("it expires at %s, and no expiry was asked for", stamp(c.Expiry))
	case asked != 0 && c.Expiry.IsZero():
		return errors.New("it has no expiry, and one was asked for")
	case asked != 0 && (c.Expiry.Sub(signed)-asked).Abs() > expirySlack:
		return fmt.Errorf("it expires %s after it was signed, and %s was asked for", c.Expiry.Sub(signed), asked)
	}
	if !c.Expiry.IsZero() && !c.Expiry.After(w.now) {
		return fmt.Errorf("it has expired at %s", stamp(c.Expiry))
	}
	return nil
}

func (w *wish) checkChain(c Content) error {
	for _, at := range []time.Time{c.SignedAt(), w.now} {
		if err := c.Chain.Check(at); err != nil {
			return fmt.Errorf("its certificate chain: %w", err)
		}
	}
	if len(w.chain) > 0 {
		if err := c.Chain.Matches(w.chain.Leaf().PublicKey); err != nil {
			return fmt.Errorf("another key than that of the chain given signed it: %w", err)
		}
	}
	if pub := w.key.Public(); pub != nil {
		if err := c.Chain.Matches(pub); err != nil {
			return fmt.Errorf("another key than the one that was opened signed it: %w", err)
		}
	}
	_, _, _, err := c.TimestampRange()
	return err
}

// checkAnnotations says what a service may write into the signature manifest.
func checkAnnotations(annotations map[string]string) error {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		value := annotations[name]
		total += len(name) + len(value)
		switch {
		case name == "":
			return errors.New("an annotation for the manifest has no name")
		case !utf8.ValidString(name) || !utf8.ValidString(value) || strings.ContainsFunc(name+value, unicode.IsControl):
			return fmt.Errorf("the annotation %q for the manifest has control characters or is not UTF-8", name)
		case isReserved(name):
			return fmt.Errorf("the annotation %q for the manifest is reserved", name)
		}
	}
	if total > MaxAnnotations {
		return fmt.Errorf("the annotations for the manifest have more than %d bytes", MaxAnnotations)
	}
	return nil
}

func isReserved(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, reservedPrefix) || strings.HasPrefix(name, ownAnnotation)
}

// Read parses and verifies another envelope as [Parse] and [Envelope.Verify] do, save that it may call for the same verification plugin as
// m. It is for finding out whether the same was signed before, not for judging signatures. Errors are *Error.
func (m *Made) Read(mediaType string, b []byte) (Content, error) {
	e, err := parse(mediaType, b, attributes.checkMade)
	if err != nil {
		return Content{}, err
	}
	if e.plugin != m.Plugin {
		return e.Verify() // which refuses any plugin
	}
	return e.verify()
}
