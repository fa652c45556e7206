package kmstest_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

// A faulty key signs as edit says; without one it keeps the contract.
type faulty struct {
	crypto.Signer
	lax   bool                    // takes any opts
	deaf  bool                    // does not look at the context
	opts  crypto.SignerOpts       // signs with these instead
	edit  func(sig []byte) []byte // changes the signature
	other crypto.Signer           // signs with this one instead
	same  bool                    // signs the same message always
}

func (f faulty) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if !f.deaf && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	a, err := kms.AlgorithmOf(f.Public())
	if err != nil {
		return nil, err
	}
	if err := a.CheckOpts(opts); err != nil && !f.lax {
		return nil, err
	}
	if f.opts != nil {
		opts = f.opts
	}
	if f.same {
		message = nil
	}
	signer := f.Signer
	if f.other != nil {
		signer = f.other
	}
	if opts.HashFunc() == 0 {
		return nil, errors.New("no hash")
	}
	h := opts.HashFunc().New()
	h.Write(message)
	sig, err := signer.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil || f.edit == nil {
		return sig, err
	}
	return f.edit(sig), nil
}

func TestCheckAcceptsGoodKeys(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		kmstest.RunWith(t, faulty{Signer: certtest.Key(algorithm)}, kmstest.Options{Network: true})
	}
	kmstest.Run(t, faulty{Signer: certtest.Key("P-256"), deaf: true})
}

// The conformance test finds what key services get wrong.
func TestCheckFindsFaults(t *testing.T) {
	t.Parallel()
	ec, rs := certtest.Key("P-256"), certtest.Key("RSA-2048")
	raw := func(sig []byte) []byte {
		h := crypto.SHA256.New()
		r, s, err := ecdsa.Sign(rand.Reader, ec.(*ecdsa.PrivateKey), h.Sum(nil))
		if err != nil {
			return nil
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	for name, tt := range map[string]struct {
		key  kms.Key
		says string
	}{
		"A03 longest salt":         {faulty{Signer: rs, opts: &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}}, "salt is not as long"},
		"A02 PKCS #1 v1.5":         {faulty{Signer: rs, opts: crypto.SHA256}, "PKCS #1 v1.5, not PSS"},
		"A02 another key":          {faulty{Signer: ec, other: certtest.Key("P-256")}, "does not verify"},
		"A02 r and s raw":          {faulty{Signer: ec, edit: raw}, "does not verify"},
		"A02 trailing byte":        {faulty{Signer: ec, edit: func(s []byte) []byte { return append(s, 0) }}, "does not verify"},
		"takes PKCS #1 v1.5":       {faulty{Signer: rs, lax: true}, "PKCS #1 v1.5: signed instead of refused"},
		"takes another hash":       {faulty{Signer: ec, lax: true}, "another hash: signed instead of refused"},
		"refuses with other error": {faulty{Signer: ec, lax: true}, "does not wrap kms.ErrInvalid"},
		"ignores the context":      {faulty{Signer: ec, deaf: true}, "cancelled context"},
		"signs something else":     {faulty{Signer: ec, same: true}, "does not verify"},
		"A04 unsupported":          {faulty{Signer: certtest.Key("P-224")}, "P-224"},
		"nameless":                 {nameless{faulty{Signer: ec}}, "ID is empty"},
		"changes the message":      {scribbler{faulty{Signer: ec}}, "changes them"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := kmstest.Check(t.Context(), tt.key, kmstest.Options{Network: true})
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

type nameless struct{ faulty }

func (nameless) ID() string { return "" }

type scribbler struct{ faulty }

func (s scribbler) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := s.faulty.Sign(ctx, message, opts)
	if len(message) > 0 {
		message[0]++
	}
	return sig, err
}
