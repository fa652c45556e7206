package envelope

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/kms"
)

// Options of [Sign].
type Options struct {
	SigningTime time.Time // required; written in whole seconds, UTC
	Expiry      time.Time // zero: none; must lie after SigningTime
	Agent       string    // io.cncf.notary.signingAgent, unsigned; "" leaves it out
}

// Sign checks payload, key and chain (certchain rules, key matches leaf, valid at SigningTime) before key is used,
// signs once, and verifies its own result strictly. If the key returned something else than its own signature the
// error wraps ErrKeyMisbehaved (reason key-misbehaved). Errors about payload and options are *Error; those of the
// key, of certchain and of kms are wrapped.
func Sign(ctx context.Context, f Format, p Payload, key kms.Key, chain certchain.Chain, o Options) (*Envelope, error) {
	pub := key.Public()
	alg, err := kms.AlgorithmOf(pub)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	payload, err := p.encode()
	if err != nil {
		return nil, err
	}
	a, err := o.attributes(alg)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, refuse(codeChainMalformed, "signing: the certificate chain is empty")
	}
	if err := chain.Matches(pub); err != nil {
		return nil, fmt.Errorf("signing chain: %w", err)
	}
	if err := chain.Check(a.signingTime); err != nil {
		return nil, fmt.Errorf("signing chain: %w", err)
	}

	d := draft{attributes: a, format: f, payload: payload, chain: chain, agent: o.Agent}
	// Rehearsed first with a signature of zeros: what our own parser refuses is not worth a key's signature.
	rehearsal, err := d.write(func([]byte) ([]byte, error) { return make([]byte, signatureSize(pub)), nil })
	if err == nil {
		_, err = Parse(string(f), rehearsal)
	}
	if err != nil {
		return nil, fmt.Errorf("writing a %s envelope: %w", f.Short(), err)
	}
	raw, err := d.write(func(message []byte) ([]byte, error) {
		sig, err := key.Sign(ctx, message, alg.SignerOpts())
		if err != nil {
			return nil, err
		}
		if sig, err = rawOf(pub, sig); err != nil {
			return nil, misbehaved(err)
		}
		return sig, nil
	})
	if err != nil {
		return nil, err // a key says what it was doing, with which key
	}
	e, err := Parse(string(f), raw)
	if err == nil {
		_, err = e.Verify()
	}
	if errors.Is(err, ErrSignature) {
		err = misbehaved(err)
	}
	if err != nil {
		return nil, fmt.Errorf("verifying what was signed: %w", err)
	}
	return e, nil
}

// A draft is an envelope before it is signed.
type draft struct {
	attributes
	format  Format
	payload []byte
	chain   certchain.Chain
	agent   string
}

// A primitive makes the primitive signature of a message, in the form in which envelopes hold it.
type primitive func(message []byte) ([]byte, error)

func (d draft) write(sign primitive) ([]byte, error) {
	switch d.format {
	case JWS:
		return d.writeJWS(sign)
	case COSE:
		return d.writeCOSE(sign)
	}
	return nil, refuse(codeFormat, "media type %q is not that of a signature envelope", d.format)
}

func misbehaved(err error) error {
	return &Error{codeKey, fmt.Errorf("%w: %w", ErrKeyMisbehaved, err)}
}

// times returns the signing time and the expiry (zero: none) in whole seconds.
func (o Options) times() (signed, expiry time.Time, err error) {
	if o.SigningTime.IsZero() {
		return signed, expiry, refuse(codeTime, "signing: no signing time is given")
	}
	signed = o.SigningTime.UTC().Truncate(time.Second)
	if err := checkTime("the signing time", signed); err != nil {
		return signed, expiry, err
	}
	if o.Expiry.IsZero() {
		return signed, expiry, nil
	}
	expiry = o.Expiry.UTC().Truncate(time.Second)
	return signed, expiry, checkTime("the expiry", expiry)
}

// attributes returns what is written into the protected header.
func (o Options) attributes(alg kms.Algorithm) (attributes, error) {
	a := attributes{algorithm: alg.Name, contentType: PayloadType, critical: []string{attrScheme}, scheme: SchemeX509}
	var err error
	if a.signingTime, a.expiry, err = o.times(); err != nil {
		return a, err
	}
	if !a.expiry.IsZero() {
		a.critical = append(a.critical, attrExpiry)
	}
	if !utf8.ValidString(o.Agent) {
		return a, refuse(codeMalformed, "signing: the signing agent is not valid UTF-8")
	}
	return a, a.check()
}
