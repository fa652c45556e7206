package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

// A vault is a key service in memory: it signs digests, as services do, and returns r and s side by side if told to.
type vault struct {
	key   crypto.Signer
	raw   bool
	calls atomic.Int64
}

func (v *vault) sign(ctx context.Context, r kms.SignRequest) ([]byte, error) {
	v.calls.Add(1)
	if err := ctx.Err(); err != nil {
		return nil, &kms.Error{Code: kms.CodeUnreachable, Class: kms.ErrService, Err: err}
	}
	switch key := v.key.(type) {
	case *rsa.PrivateKey:
		if r.PKCS1 {
			return rsa.SignPKCS1v15(rand.Reader, key, r.Algorithm.Hash, r.Digest)
		}
		return rsa.SignPSS(rand.Reader, key, r.Algorithm.Hash, r.Digest, &rsa.PSSOptions{SaltLength: r.Algorithm.Hash.Size()})
	case *ecdsa.PrivateKey:
		if !v.raw {
			return ecdsa.SignASN1(rand.Reader, key, r.Digest)
		}
		a, b, err := ecdsa.Sign(rand.Reader, key, r.Digest)
		return pair((key.Params().BitSize+7)/8, a, b), err
	}
	return nil, errors.New("no such key")
}

func (v *vault) remote() kms.Remote {
	return kms.Remote{URI: "testkms:key/1", Service: "Test KMS", Version: "1", Public: v.key.Public(), Sign: v.sign, Raw: v.raw}
}

func opened(t testing.TB, r kms.Remote) kms.Key {
	t.Helper()
	k, err := r.Key()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRemoteConforms(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		isRSA := strings.HasPrefix(algorithm, "RSA")
		for _, other := range []bool{false, true} { // PKCS #1 v1.5 for RSA, raw for ECDSA
			t.Run(fmt.Sprint(algorithm, " ", other), func(t *testing.T) {
				t.Parallel()
				v := &vault{key: certtest.Key(algorithm), raw: other && !isRSA}
				r := v.remote()
				r.PKCS1 = other && isRSA
				k := opened(t, r)
				if got, want := kms.Describe(k), (kms.Description{Service: "Test KMS", Version: "1", PKCS1: r.PKCS1}); got != want {
					t.Errorf("described as %+v, want %+v", got, want)
				}
				if id := k.(kms.Identifier).ID(); id != "testkms:key/1" {
					t.Errorf("ID %s", id)
				}
				kmstest.RunWith(t, k, kmstest.Options{Network: true})
				if err := kms.Probe(t.Context(), k); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestRemoteAsks(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-384", "RSA-3072"} {
		v := &vault{key: certtest.Key(algorithm)}
		var got kms.SignRequest
		r := v.remote()
		r.PKCS1 = true
		r.Sign = func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
			got = r
			return v.sign(ctx, r)
		}
		k := opened(t, r)
		a, err := kms.AlgorithmOf(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		h := crypto.SHA384.New()
		h.Write([]byte("message"))
		digest := h.Sum(nil)
		if _, err := k.Sign(t.Context(), []byte("message"), a.SignerOpts()); err != nil {
			t.Fatal(err)
		}
		if string(got.Message) != "message" || !bytes.Equal(got.Digest, digest) || got.Algorithm != a || got.PKCS1 {
			t.Errorf("%s: the service was asked for %+v", algorithm, got)
		}
		if !a.PSS {
			continue
		}
		sig, err := k.Sign(t.Context(), []byte("message"), crypto.SHA384)
		if err != nil || !got.PKCS1 || !bytes.Equal(got.Digest, digest) {
			t.Fatalf("PKCS #1 v1.5: %v, %+v", err, got)
		}
		if err := rsa.VerifyPKCS1v15(k.Public().(*rsa.PublicKey), crypto.SHA384, digest, sig); err != nil {
			t.Error(err)
		}
	}
}

// TestF34RemoteMisbehaves: what a service gets wrong is seen before anybody gets a signature, and is not asked for again.
func TestF34RemoteMisbehaves(t *testing.T) {
	t.Parallel()
	type signing = func(v *vault, ctx context.Context, r kms.SignRequest) ([]byte, error)
	ecKey, rsaKey := certtest.Key("P-256").(*ecdsa.PrivateKey), certtest.Key("RSA-2048").(*rsa.PrivateKey)
	strange, err := rsa.GenerateKey(rand.Reader, 2048) // certtest has one of each size
	if err != nil {
		t.Fatal(err)
	}
	rotated := func(key crypto.Signer) signing {
		return func(v *vault, ctx context.Context, r kms.SignRequest) ([]byte, error) {
			return (&vault{key: key, raw: v.raw}).sign(ctx, r)
		}
	}
	truncated := func(v *vault, ctx context.Context, r kms.SignRequest) ([]byte, error) {
		r.Digest = r.Digest[:5]
		return v.sign(ctx, r)
	}
	constant := func(b []byte) signing {
		return func(*vault, context.Context, kms.SignRequest) ([]byte, error) { return b, nil }
	}
	edited := func(edit func([]byte) []byte) signing {
		return func(v *vault, ctx context.Context, r kms.SignRequest) ([]byte, error) {
			sig, err := v.sign(ctx, r)
			return edit(sig), err
		}
	}
	other := func(raw bool) signing {
		return func(v *vault, ctx context.Context, r kms.SignRequest) ([]byte, error) {
			return (&vault{key: v.key, raw: raw}).sign(ctx, r)
		}
	}
	salt := func(n int) signing {
		return func(_ *vault, _ context.Context, r kms.SignRequest) ([]byte, error) {
			return rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, r.Digest, &rsa.PSSOptions{SaltLength: n})
		}
	}
	padded := func(pkcs1 bool) signing {
		return func(v *vault, ctx context.Context, r kms.SignRequest) ([]byte, error) {
			r.PKCS1 = pkcs1
			return v.sign(ctx, r)
		}
	}
	zero := func(n int) []byte { return make([]byte, n) }
	for _, c := range []struct {
		name  string
		key   crypto.Signer
		raw   bool
		pkcs1 bool // asked for
		sign  signing
		text  string
	}{
		{"ECDSA by another version", ecKey, false, false, rotated(certtest.Key("P-256")), "ES256: signature does not verify"},
		{"ECDSA by another version, raw", ecKey, true, false, rotated(certtest.Key("P-256")), "ES256: signature does not verify"},
		{"ECDSA over a digest cut off", ecKey, false, false, truncated, "ES256: signature does not verify"},
		{"ECDSA raw instead of DER", ecKey, false, false, other(true), "r and s side by side"},
		{"ECDSA DER instead of raw", ecKey, true, false, other(false), "32 bytes each"},
		{"ECDSA raw, zeros", ecKey, true, false, constant(zero(64)), "out of range"},
		{"ECDSA with a byte after it", ecKey, false, false, edited(func(b []byte) []byte { return append(b, 0) }), "does not verify"},
		{"ECDSA raw with a byte after it", ecKey, true, false, edited(func(b []byte) []byte { return append(b, 0) }), "32 bytes each"},
		{"ECDSA of another curve", ecKey, true, false, func(_ *vault, ctx context.Context, r kms.SignRequest) ([]byte, error) {
			return (&vault{key: certtest.Key("P-384"), raw: true}).sign(ctx, r)
		}, "32 bytes each"},
		{"nothing at all", ecKey, false, false, constant(nil), "does not verify"},
		{"nothing at all, raw", ecKey, true, false, constant(nil), "0 bytes"},
		{"PSS by another version", rsaKey, false, false, rotated(strange), "PS256: signature does not verify"},
		{"PSS with the longest salt", rsaKey, false, false, salt(rsa.PSSSaltLengthAuto), "salt is not as long as the hash"},
		{"PSS with a short salt", rsaKey, false, false, salt(20), "salt is not as long as the hash"},
		{"PKCS #1 v1.5 instead of PSS", rsaKey, false, false, padded(true), "padded by PKCS #1 v1.5"},
		{"PSS instead of PKCS #1 v1.5", rsaKey, false, true, padded(false), "PKCS #1 v1.5: signature does not verify"},
		{"PKCS #1 v1.5 by another version", rsaKey, false, true, rotated(strange), "PKCS #1 v1.5: signature does not verify"},
		{"PSS one byte short", rsaKey, false, false, edited(func(b []byte) []byte { return b[1:] }), "does not verify"},
		{"PSS with a byte before it", rsaKey, false, false, edited(func(b []byte) []byte { return append([]byte{0}, b...) }), "does not verify"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := &vault{key: c.key, raw: c.raw}
			r := v.remote()
			r.PKCS1 = true
			calls := 0
			r.Sign = func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
				calls++
				return c.sign(v, ctx, r)
			}
			k := opened(t, r)
			a, err := kms.AlgorithmOf(k.Public())
			if err != nil {
				t.Fatal(err)
			}
			opts := a.SignerOpts()
			if c.pkcs1 {
				opts = a.Hash
			}
			sig, err := k.Sign(t.Context(), []byte("message"), opts)
			if sig != nil || err == nil || calls != 1 {
				t.Fatalf("%x, %v after %d calls", sig, err, calls)
			}
			if reason(t, err) != kms.CodeSignature || !errors.Is(err, kms.ErrService) || !errors.Is(err, kms.ErrSignature) {
				t.Errorf("%v has the code %s", err, reason(t, err))
			}
			if !strings.HasPrefix(err.Error(), "signing with testkms:key/1: what came back is no signature of the key that was opened: ") || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%q does not say %q", err, c.text)
			}
		})
	}
}

// TestRemoteRefuses: what the caller gets wrong never reaches the service.
func TestRemoteRefuses(t *testing.T) {
	t.Parallel()
	v := &vault{key: certtest.Key("RSA-2048")}
	k := opened(t, v.remote()) // signs no PKCS #1 v1.5
	for name, opts := range map[string]crypto.SignerOpts{
		"no options": nil, "PKCS #1 v1.5": crypto.SHA256, "another hash": &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA384},
	} {
		if sig, err := k.Sign(t.Context(), nil, opts); sig != nil || !errors.Is(err, kms.ErrInvalid) || reason(t, err) != kms.CodeOptions {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := v.remote()
	r.PKCS1 = true
	k = opened(t, r)
	for name, opts := range map[string]crypto.SignerOpts{"another hash": crypto.SHA512, "SHA-1": crypto.SHA1} {
		if sig, err := k.Sign(t.Context(), nil, opts); sig != nil || !errors.Is(err, kms.ErrInvalid) {
			t.Errorf("PKCS #1 v1.5, %s: %v", name, err)
		}
	}
	e := &vault{key: certtest.Key("P-256")}
	r = e.remote()
	r.PKCS1 = true // means nothing for ECDSA
	if sig, err := opened(t, r).Sign(t.Context(), []byte("message"), crypto.SHA256); err != nil || sig == nil || !ecdsa.VerifyASN1(e.key.Public().(*ecdsa.PublicKey), sum(crypto.SHA256, "message"), sig) {
		t.Errorf("an ECDSA key: %v", err)
	}
	if n := v.calls.Load(); n != 0 {
		t.Errorf("the service was called %d times", n)
	}
	for name, pub := range map[string]crypto.PublicKey{"P-224": certtest.Key("P-224").Public(), "none": nil, "RSA 1024": &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}} {
		r := v.remote()
		r.Public = pub
		if k, err := r.Key(); k != nil || !errors.Is(err, kms.ErrInvalid) || reason(t, err) != kms.CodeAlgorithm {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sum(h crypto.Hash, message string) []byte {
	d := h.New()
	d.Write([]byte(message))
	return d.Sum(nil)
}

// TestF31RemoteRepeats: repetition is counted, and the key keeps its prefix and its code.
func TestF31RemoteRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{key: certtest.Key("P-256")}
		r := v.remote()
		n := 0
		r.Sign = func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
			if n++; n < 3 {
				return nil, busy(ctx)
			}
			return v.sign(ctx, r)
		}
		k, calls := kms.Metered(opened(t, r))
		if _, err := k.Sign(t.Context(), nil, crypto.SHA256); err != nil || n != 3 || calls.Load() != 3 {
			t.Errorf("%v after %d calls, %d counted", err, n, calls.Load())
		}
		r.Sign = func(ctx context.Context, _ kms.SignRequest) ([]byte, error) { return nil, busy(ctx) }
		k, calls = kms.Metered(opened(t, r))
		_, err := k.Sign(t.Context(), nil, crypto.SHA256)
		if reason(t, err) != kms.CodeThrottled || !strings.HasPrefix(err.Error(), "signing with testkms:key/1: asked 8 times in ") || calls.Load() != 8 {
			t.Errorf("%v, %d counted", err, calls.Load())
		}
		// Its own patience.
		r.Patience = 2 * time.Second
		r.Sign = func(ctx context.Context, _ kms.SignRequest) ([]byte, error) { return nil, silent(ctx) }
		begun := time.Now()
		k, calls = kms.Metered(opened(t, r))
		_, err = k.Sign(t.Context(), nil, crypto.SHA256)
		if reason(t, err) != kms.CodeUnreachable || time.Since(begun) != 2*time.Second || calls.Load() != 1 {
			t.Errorf("%v after %s, %d counted", err, time.Since(begun), calls.Load())
		}
		r.Patience, begun = 0, time.Now()
		if _, err = opened(t, r).Sign(t.Context(), nil, crypto.SHA256); reason(t, err) != kms.CodeUnreachable || time.Since(begun) != kms.DefaultPatience {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

func TestRemoteJobs(t *testing.T) {
	t.Parallel()
	for jobs, limits := range map[int]struct{ limit, want int }{0: {0, 32}, 1: {0, 1}, 5: {0, 5}, 9: {4, 4}, 3: {8, 3}} {
		want := limits.want
		synctest.Test(t, func(t *testing.T) {
			v := &vault{key: certtest.Key("P-256")}
			r := v.remote()
			r.Jobs = jobs
			var mu sync.Mutex
			now, most := 0, 0
			r.Sign = func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return v.sign(ctx, r)
			}
			k := opened(t, r)
			if limits.limit > 0 {
				k = kms.Limited(k, limits.limit)
			}
			m, _ := kms.Metered(k) // has the same slots
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() {
					key := []kms.Key{k, m}[i%2]
					if _, err := key.Sign(t.Context(), nil, crypto.SHA256); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			// Who waits for a slot can be told to stop.
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			begun := time.Now()
			if _, err := k.Sign(ctx, nil, crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Millisecond {
				t.Errorf("%d jobs: %v after %s", jobs, err, time.Since(begun))
			}
			wg.Wait()
			if most != want || v.calls.Load() != 40 {
				t.Errorf("%d jobs: %d calls at once of %d", jobs, most, v.calls.Load())
			}
		})
	}
}

// TestJobsAreCancelled: so can who waits for a turn.
func TestJobsAreCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{key: certtest.Key("P-256")}
		r := v.remote()
		r.Jobs = 1
		r.Sign = func(ctx context.Context, s kms.SignRequest) ([]byte, error) {
			time.Sleep(time.Second)
			return v.sign(ctx, s)
		}
		k := opened(t, r)
		first := make(chan error, 1)
		go func() {
			_, err := k.Sign(t.Context(), nil, crypto.SHA256)
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("given up")
		cancel(why)
		if _, err := k.Sign(ctx, nil, crypto.SHA256); !errors.Is(err, why) || !strings.HasPrefix(err.Error(), "signing with testkms:key/1: ") {
			t.Error(err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}
