package kms_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

// A whole is a key that makes envelopes.
type whole struct{ kms.Key }

func (whole) Public() crypto.PublicKey { return nil }

func (whole) SignEnvelope(context.Context, kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	return kms.EnvelopeAnswer{Envelope: []byte("e")}, errors.New("no")
}

func TestMetered(t *testing.T) {
	t.Parallel()
	v := &vault{key: certtest.Key("P-256")}
	r := v.remote()
	r.Spent = 2
	plain := opened(t, r)
	a, first := kms.Metered(plain)
	b, second := kms.Metered(plain)
	for range 3 {
		if _, err := a.Sign(t.Context(), nil, crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Sign(t.Context(), nil, crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Sign(t.Context(), nil, crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	// What opening cost is counted once.
	if first.Load() != 5 || second.Load() != 1 || v.calls.Load() != 5 {
		t.Errorf("counted %d and %d, the service %d", first.Load(), second.Load(), v.calls.Load())
	}
	if a.(kms.Identifier).ID() != "testkms:key/1" || kms.Describe(a).Service != "Test KMS" || !v.key.Public().(*ecdsa.PublicKey).Equal(a.Public()) {
		t.Error("a metered key forgets who it is")
	}
	if _, err := a.Sign(t.Context(), nil, crypto.SHA512); err == nil || first.Load() != 5 {
		t.Errorf("%v; what never reached the service is counted: %d", err, first.Load())
	}

	memory, n := kms.Metered(kmstest.Key(v.key))
	for range 2 {
		if _, err := memory.Sign(t.Context(), nil, crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if n.Load() != 2 {
		t.Errorf("%d signatures of a key in memory", n.Load())
	}

	envelopes, n := kms.Metered(whole{})
	e, ok := envelopes.(kms.EnvelopeSigner)
	if !ok {
		t.Fatal("a metered key makes no envelopes any more")
	}
	if answer, err := e.SignEnvelope(t.Context(), kms.EnvelopeRequest{}); err == nil || string(answer.Envelope) != "e" || n.Load() != 1 {
		t.Errorf("%q, %v, %d counted", answer.Envelope, err, n.Load())
	}
}

// TestOpenEnvelopeSigner: only a key that makes envelopes may be opened without a public key.
func TestOpenEnvelopeSigner(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key kms.Key
		ok  bool
	}{"envelopes": {whole{}, true}, "signatures": {nameless{}, false}} {
		p := kms.Providers{"testkms": func(context.Context, *url.URL, kms.Options) (kms.Key, error) { return c.key, nil }}
		k, err := p.Open(t.Context(), "testkms:key/1", kms.Options{})
		if (err == nil) != c.ok || (k != nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type nameless struct{ kms.Key }

func (nameless) Public() crypto.PublicKey { return nil }

func TestCertificates(t *testing.T) {
	t.Parallel()
	key, chain := certtest.ChainOf(2, "P-256")
	v := &vault{key: key}
	r := v.remote()
	if certs, err := kms.Certificates(t.Context(), opened(t, r)); certs != nil || err != nil {
		t.Errorf("a service that keeps none: %v, %v", certs, err)
	}
	if certs, err := kms.Certificates(t.Context(), kmstest.Key(key)); certs != nil || err != nil {
		t.Errorf("a key in memory: %v, %v", certs, err)
	}
	if kms.Describe(kmstest.Key(key)) != (kms.Description{}) {
		t.Error("a key in memory is described")
	}
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r.Certificates = func(ctx context.Context) ([]*x509.Certificate, error) {
			if n++; n < 3 {
				return nil, busy(ctx)
			}
			return chain, nil
		}
		if certs, err := kms.Certificates(t.Context(), opened(t, r)); err != nil || n != 3 || len(certs) != 2 {
			t.Errorf("%d certificates after %d calls: %v", len(certs), n, err)
		}
		r.Certificates = func(context.Context) ([]*x509.Certificate, error) { return chain, fault(kms.CodeDenied) }
		certs, err := kms.Certificates(t.Context(), opened(t, r))
		if certs != nil || reason(t, err) != kms.CodeDenied || !strings.HasPrefix(err.Error(), "reading the certificates of testkms:key/1: ") {
			t.Errorf("%v, %v", certs, err)
		}
	})
	if n := v.calls.Load(); n != 0 {
		t.Errorf("%d signatures", n)
	}
}
