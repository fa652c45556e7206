package notationplugin

import (
	"context"
	"crypto"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/imprint-oci/imprint/kms"
)

const (
	// maxEnvelope bounds an envelope; imprint parses none that is larger.
	maxEnvelope = 1 << 20
	// maxAnnotations bounds the names and values of the annotations for one manifest, bytes together.
	maxAnnotations = 64 << 10
)

// An envelopeKey is a key of a plugin that makes whole envelopes.
type envelopeKey struct {
	*plugin
	uri    string
	public crypto.PublicKey // nil: unknown
	jobs   chan struct{}
	calls  *atomic.Int64 // nil: not counted
}

var (
	_ kms.EnvelopeSigner = (*envelopeKey)(nil)
	_ kms.Identifier     = (*envelopeKey)(nil)
	_ kms.Describer      = (*envelopeKey)(nil)
)

// newEnvelopeKey asks nothing: describe-key belongs to plugins that make signatures.
func newEnvelopeKey(p *plugin, u *url.URL, o kms.Options) (kms.Key, error) {
	if o.Leaf != nil {
		if _, err := kms.AlgorithmOf(o.Leaf); err != nil {
			return nil, err
		}
	}
	return &envelopeKey{plugin: p, uri: kms.Format(u), public: o.Leaf, jobs: make(chan struct{}, jobs)}, nil
}

func (k *envelopeKey) Public() crypto.PublicKey { return k.public }
func (k *envelopeKey) ID() string               { return k.uri }

func (k *envelopeKey) Describe() kms.Description {
	return kms.Description{Service: "notation plugin " + k.name}
}

// Metered returns the key with its calls counted; it is for [kms.Metered].
func (k *envelopeKey) Metered(calls *atomic.Int64) kms.Key {
	m := *k
	m.calls = calls
	return &m
}

func (k *envelopeKey) Sign(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, kms.Invalid(kms.CodeOptions, "signing with %s: the plugin makes whole envelopes, no signatures", k.uri)
}

func (k *envelopeKey) SignEnvelope(ctx context.Context, r kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	if r.Expiry < 0 || r.Expiry%time.Second != 0 {
		return kms.EnvelopeAnswer{}, kms.Invalid(kms.CodeOptions,
			"signing with %s: a plugin takes an expiry in whole seconds, not %s", k.uri, r.Expiry)
	}
	select {
	case k.jobs <- struct{}{}:
		defer func() { <-k.jobs }()
	case <-ctx.Done():
		return kms.EnvelopeAnswer{}, ctx.Err()
	}
	var a kms.EnvelopeAnswer
	err := kms.Ask(ctx, k.patience, func(ctx context.Context) (err error) {
		if k.calls != nil {
			k.calls.Add(1)
		}
		a, err = k.envelope(ctx, r)
		return err
	})
	if err != nil {
		return kms.EnvelopeAnswer{}, fmt.Errorf("signing with %s: %w", k.uri, err)
	}
	return a, nil
}

// envelope has one envelope made, and checks the answer's form (plugin specification, "generate-envelope").
func (k *envelopeKey) envelope(ctx context.Context, r kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	const command = "generate-envelope"
	wrong := func(format string, args ...any) (kms.EnvelopeAnswer, error) {
		return kms.EnvelopeAnswer{}, k.broken(command, format, args...)
	}
	request := envelopeRequest{k.keyRequest(), int64(r.Expiry / time.Second), r.Payload, r.PayloadType, r.EnvelopeType}
	m, err := k.askOnce(ctx, command, request)
	if err != nil {
		return kms.EnvelopeAnswer{}, err
	}
	kind, err := m.text("signatureEnvelopeType")
	if err != nil {
		return wrong("its answer %w", err)
	}
	if kind != r.EnvelopeType {
		return wrong("it made an envelope of the type %q, not %q", kms.Text(kind), r.EnvelopeType)
	}
	var a kms.EnvelopeAnswer
	if a.Envelope, err = m.bytes("signatureEnvelope"); err != nil {
		return wrong("its answer %w", err)
	}
	if len(a.Envelope) > maxEnvelope {
		return wrong("its envelope has %d bytes, more than %d", len(a.Envelope), maxEnvelope)
	}
	if m.has("annotations") {
		if err := m.read("annotations", &a.Annotations); err != nil {
			return wrong("its answer %w", err)
		}
	}
	size := 0
	for name, value := range a.Annotations {
		if name == "" {
			return wrong("its answer has an annotation without a name")
		}
		size += len(name) + len(value)
	}
	if size > maxAnnotations {
		return wrong("its annotations have %d bytes, more than %d", size, maxAnnotations)
	}
	return a, nil
}
