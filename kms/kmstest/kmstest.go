// Package kmstest is the conformance test that every provider of keys passes.
package kmstest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"

	"github.com/imprint-oci/imprint/kms"
)

// Options adapt the test to a provider. The zero value is right for keys in this process.
type Options struct {
	// Network: the key signs over a network, so a cancelled context must keep it from signing.
	Network bool
}

// Run checks that key keeps the contract of [kms.Key].
func Run(t *testing.T, key kms.Key) {
	t.Helper()
	RunWith(t, key, Options{})
}

// RunWith is Run with options.
func RunWith(t *testing.T, key kms.Key, o Options) {
	t.Helper()
	if err := Check(t.Context(), key, o); err != nil {
		t.Error(err)
	}
}

// Check returns all breaches of the contract that it finds, joined. It is apart from Run so that the test itself can be tested.
func Check(ctx context.Context, key kms.Key, o Options) error {
	a, err := kms.AlgorithmOf(key.Public())
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	c := &check{key: key, algorithm: a}
	c.identity()
	c.messages(ctx)
	c.concurrent(ctx)
	c.refusals(ctx)
	c.pkcs1(ctx)
	if o.Network {
		c.cancelled(ctx)
	}
	return errors.Join(c.errs...)
}

// A check collects breaches.
type check struct {
	key       kms.Key
	algorithm kms.Algorithm
	errs      []error
}

func (c *check) errorf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *check) identity() {
	again, ok := c.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !again.Equal(c.key.Public()) {
		c.errorf("Public returns another key each time")
	}
	if id, ok := c.key.(kms.Identifier); ok && id.ID() == "" {
		c.errorf("ID is empty")
	}
}

// messages signs messages of the sizes at which hashes and services have edges: AWS takes raw messages up to 4096 bytes.
func (c *check) messages(ctx context.Context) {
	seen := map[string]int{}
	for _, size := range []int{0, 1, 31, 32, 33, 63, 64, 111, 128, 4096, 4097, 1 << 20} {
		message := bytes.Repeat([]byte{byte(size)}, size)
		kept := bytes.Clone(message)
		sig, err := c.key.Sign(ctx, message, c.algorithm.SignerOpts())
		if err != nil {
			c.errorf("signing %d bytes: %w", size, err)
			continue
		}
		if !bytes.Equal(message, kept) {
			c.errorf("signing %d bytes changes them", size)
		}
		if err := c.verify(kept, sig); err != nil {
			c.errorf("signing %d bytes: %w", size, err)
		}
		if other, twice := seen[string(sig)]; twice {
			c.errorf("messages of %d and %d bytes have the same signature", other, size)
		}
		seen[string(sig)] = size
		if c.algorithm.Verify(c.key.Public(), append(kept, 'x'), sig) == nil {
			c.errorf("the signature over %d bytes verifies another message", size)
		}
	}
}

// verify checks sig strictly, and that an ECDSA signature is the one DER encoding of its numbers.
func (c *check) verify(message, sig []byte) error {
	if err := c.algorithm.Verify(c.key.Public(), message, sig); err != nil {
		return err
	}
	switch pub := c.key.Public().(type) {
	case *rsa.PublicKey:
		if len(sig) != pub.Size() {
			return fmt.Errorf("the signature has %d bytes, the modulus %d", len(sig), pub.Size())
		}
	case *ecdsa.PublicKey:
		var rs struct{ R, S *big.Int }
		rest, err := asn1.Unmarshal(sig, &rs)
		if err != nil || len(rest) > 0 {
			return fmt.Errorf("the signature is not exactly one DER sequence of r and s")
		}
		if again, err := asn1.Marshal(rs); err != nil || !bytes.Equal(again, sig) {
			return fmt.Errorf("the signature is not canonical DER")
		}
		n := pub.Curve.Params().N
		if rs.R.Sign() <= 0 || rs.S.Sign() <= 0 || rs.R.Cmp(n) >= 0 || rs.S.Cmp(n) >= 0 {
			return fmt.Errorf("r or s is out of range")
		}
	}
	return nil
}

func (c *check) concurrent(ctx context.Context) {
	const signers = 8
	errs := make([]error, signers)
	var wg sync.WaitGroup
	for i := range signers {
		wg.Go(func() {
			message := fmt.Appendf(nil, "message of signer %d", i)
			sig, err := c.key.Sign(ctx, message, c.algorithm.SignerOpts())
			if err == nil {
				err = c.verify(message, sig)
			}
			if err != nil {
				errs[i] = fmt.Errorf("signer %d of %d at once: %w", i, signers, err)
			}
		})
	}
	wg.Wait()
	c.errs = append(c.errs, errors.Join(errs...))
}

// refusals asks for signatures of other kinds; each must be refused as the caller's mistake.
func (c *check) refusals(ctx context.Context) {
	hash := c.algorithm.Hash
	other := crypto.SHA384
	if hash == other {
		other = crypto.SHA256
	}
	wrong := map[string]crypto.SignerOpts{
		"no hash":      crypto.Hash(0),
		"another hash": other,
		"SHA-1":        crypto.SHA1,
	}
	if c.algorithm.PSS && !kms.Describe(c.key).PKCS1 {
		wrong["PKCS #1 v1.5"] = hash
	}
	if c.algorithm.PSS {
		wrong["PSS with another hash"] = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: other}
		wrong["PSS with the longest salt"] = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: hash}
		wrong["PSS with a short salt"] = &rsa.PSSOptions{SaltLength: 20, Hash: hash}
	} else {
		wrong["PSS"] = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	for name, opts := range wrong {
		sig, err := c.key.Sign(ctx, []byte("message"), opts)
		switch {
		case err == nil || sig != nil:
			c.errorf("%s: signed instead of refused", name)
		case !errors.Is(err, kms.ErrInvalid):
			c.errorf("%s: the refusal does not wrap kms.ErrInvalid: %w", name, err)
		}
	}
}

// pkcs1 has a key that says so sign as certificate requests may be signed.
func (c *check) pkcs1(ctx context.Context) {
	pub, ok := c.key.Public().(*rsa.PublicKey)
	if !ok || !kms.Describe(c.key).PKCS1 {
		return
	}
	message := []byte("a certificate request")
	sig, err := c.key.Sign(ctx, message, c.algorithm.Hash)
	if err != nil {
		c.errorf("PKCS #1 v1.5: %w", err)
		return
	}
	h := c.algorithm.Hash.New()
	h.Write(message)
	if err := rsa.VerifyPKCS1v15(pub, c.algorithm.Hash, h.Sum(nil), sig); err != nil {
		c.errorf("PKCS #1 v1.5: %w", err)
	}
}

func (c *check) cancelled(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	sig, err := c.key.Sign(ctx, []byte("message"), c.algorithm.SignerOpts())
	if err == nil || sig != nil {
		c.errorf("a cancelled context does not keep it from signing")
	}
}
