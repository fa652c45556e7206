package kms

import (
	"context"
	"crypto"
	"crypto/x509"
	"sync/atomic"
	"time"
)

// A Description is what is known of a key besides its public key.
type Description struct {
	Service string // "AWS KMS"; "" for a key that is at no service
	Version string // immutable; "" where there is none
	PKCS1   bool   // also signs RSA with PKCS #1 v1.5 (opts is the hash alone), for certificate requests
}

// A Describer is a Key that says more of itself.
type Describer interface {
	Describe() Description
}

// Describe returns what is known of k.
func Describe(k Key) Description {
	if d, ok := k.(Describer); ok {
		return d.Describe()
	}
	return Description{}
}

// MaxCertificates bounds what providers read of the certificates kept beside one key: more are an error, or left out.
const MaxCertificates = 32

// A Certified is a Key beside which certificates are kept.
type Certified interface {
	// Certificates returns them in any order; none is no error. It may ask the key's service.
	Certificates(ctx context.Context) ([]*x509.Certificate, error)
}

// Certificates returns the certificates that are kept beside k, in any order; none is no error.
func Certificates(ctx context.Context, k Key) ([]*x509.Certificate, error) {
	if c, ok := k.(Certified); ok {
		return c.Certificates(ctx)
	}
	return nil, nil
}

// An EnvelopeSigner is a Key that returns whole envelopes: a notation plugin with the capability SIGNATURE_GENERATOR.ENVELOPE. Its
// Sign fails (CodeOptions), and its Public is nil unless [Options].Leaf told it.
type EnvelopeSigner interface {
	Key
	// SignEnvelope has one envelope made. What comes back is untrusted: the caller parses it, verifies it, and compares its
	// payload with what was asked for (plugin specification, "generate-envelope").
	SignEnvelope(ctx context.Context, r EnvelopeRequest) (EnvelopeAnswer, error)
}

// An EnvelopeRequest is what an [EnvelopeSigner] is asked for.
type EnvelopeRequest struct {
	Payload      []byte
	PayloadType  string        // application/vnd.cncf.notary.payload.v1+json
	EnvelopeType string        // application/jose+json or application/cose
	Expiry       time.Duration // 0: none; whole seconds
}

// An EnvelopeAnswer is what an [EnvelopeSigner] made.
type EnvelopeAnswer struct {
	Envelope    []byte
	Annotations map[string]string // for the signature manifest
}

// Metered returns k with a count of the signing calls made through the returned key, repeated ones too: those that reached its
// service, or, for a key that is at no service, its signatures. What a key had to sign before, to be opened at all, is in the first
// count.
func Metered(k Key) (Key, *atomic.Int64) {
	calls := new(atomic.Int64)
	switch k := k.(type) {
	case interface{ Metered(*atomic.Int64) Key }: // a key that counts what it repeats
		return k.Metered(calls), calls
	case EnvelopeSigner:
		return &countedEnvelopes{k, calls}, calls
	}
	return &countedKey{k, calls}, calls
}

type countedKey struct {
	Key
	calls *atomic.Int64
}

func (k *countedKey) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.calls.Add(1)
	return k.Key.Sign(ctx, message, opts)
}

type countedEnvelopes struct {
	EnvelopeSigner
	calls *atomic.Int64
}

func (k *countedEnvelopes) SignEnvelope(ctx context.Context, r EnvelopeRequest) (EnvelopeAnswer, error) {
	k.calls.Add(1)
	return k.EnvelopeSigner.SignEnvelope(ctx, r)
}

// Limited returns k with at most n signatures asked of its service at once, over all users of the returned key, or fewer if its
// provider takes fewer. A key that is at no service is returned as it is.
func Limited(k Key, n int) Key {
	if r, ok := k.(interface{ limited(n int) Key }); ok {
		return r.limited(n)
	}
	return k
}
