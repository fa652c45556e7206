package kmstest

import (
	"context"
	"crypto"
	"crypto/rand"
	"sync/atomic"

	"github.com/imprint-oci/imprint/kms"
)

// A Signer is a [kms.Key] over a key in memory that counts its signatures.
type Signer struct {
	crypto.Signer
	Calls atomic.Int64
}

var _ kms.Key = (*Signer)(nil)

// Key returns a Signer of s.
func Key(s crypto.Signer) *Signer { return &Signer{Signer: s} }

func (s *Signer) ID() string { return "memory" }

func (s *Signer) Sign(_ context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.Calls.Add(1)
	h := opts.HashFunc().New()
	h.Write(message)
	return s.Signer.Sign(rand.Reader, h.Sum(nil), opts)
}
