package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A Remote is one version of a key at a key service, as its provider found it. [Remote.Key] makes a [Key] of it, and is the one
// place where the rules hold that no service keeps by itself: the algorithm is that of the public key, the
// salt of PSS is as long as the hash, a signature is verified before anybody sees it, and ECDSA signatures are DER.
type Remote struct {
	// URI is the canonical key URI with its version pinned, so that it opens the same key next year. It is the key's ID.
	URI string
	// Service names the key service to people, as "AWS KMS".
	Service string
	// Version is the immutable version that URI pins, "" where the service has none.
	Version string
	// Public is the public key as the service told it.
	Public crypto.PublicKey
	// Sign has the service sign once. It neither repeats nor verifies; its errors are *Error values that say why, not what
	// was being done to which key. It is called by up to Jobs goroutines at once.
	Sign func(ctx context.Context, r SignRequest) ([]byte, error)
	// Raw: ECDSA signatures come as r and s side by side, not as DER.
	Raw bool
	// PKCS1: the key can also sign RSA with PKCS #1 v1.5, which certificate requests may use, and envelopes never do.
	PKCS1 bool
	// Certificates asks the service once for what it keeps beside the key, in any order; none is no error. nil: it keeps none.
	Certificates func(ctx context.Context) ([]*x509.Certificate, error)
	// Jobs bounds the calls of Sign at once; 0 is 32.
	Jobs int
	// Patience is how long the service may be silent; 0 is [DefaultPatience].
	Patience time.Duration
	// Careful: a refusal counts against the key, as a wrong PIN does. The first signature is then made alone, and none is
	// asked for after a refusal.
	Careful bool
	// Unlock is told why a signature was refused. If it gets from a person what was missing, as the PIN of a token, it returns
	// nil, and the signature is asked for again; the refusal is not counted, since no key was used. Else it returns the error
	// that stands. It may take as long as a person does. nil: nothing can be got.
	Unlock func(ctx context.Context, refusal error) error
	// Spent is how many signatures opening the key has cost already.
	Spent int
}

// A SignRequest is what a key service is asked to sign.
type SignRequest struct {
	Message   []byte // for services that hash themselves
	Digest    []byte // of Message, by Algorithm.Hash
	Algorithm Algorithm
	PKCS1     bool // PKCS #1 v1.5 instead of PSS
}

// Key returns the key. The error is that of a public key with which no Notary Project signature can be made.
func (r Remote) Key() (Key, error) {
	a, err := AlgorithmOf(r.Public)
	if err != nil {
		return nil, err
	}
	if r.Jobs == 0 {
		r.Jobs = 32
	}
	if r.Patience == 0 {
		r.Patience = DefaultPatience
	}
	k := &remoteKey{remote: r, algorithm: a, jobs: make(chan struct{}, r.Jobs), spent: new(atomic.Int64)}
	k.spent.Store(int64(r.Spent))
	if r.Careful {
		k.caution = &caution{turn: make(chan struct{}, 1)}
	}
	return k, nil
}

type remoteKey struct {
	remote    Remote
	algorithm Algorithm
	jobs      chan struct{}
	caution   *caution      // nil: none
	spent     *atomic.Int64 // Remote.Spent until it is in somebody's count
	calls     *atomic.Int64 // nil: not counted
}

var (
	_ Identifier = (*remoteKey)(nil)
	_ Describer  = (*remoteKey)(nil)
	_ Certified  = (*remoteKey)(nil)
)

func (k *remoteKey) Public() crypto.PublicKey { return k.remote.Public }
func (k *remoteKey) ID() string               { return k.remote.URI }

func (k *remoteKey) Describe() Description {
	return Description{Service: k.remote.Service, Version: k.remote.Version, PKCS1: k.remote.PKCS1}
}

func (k *remoteKey) Certificates(ctx context.Context) ([]*x509.Certificate, error) {
	if k.remote.Certificates == nil {
		return nil, nil
	}
	var certs []*x509.Certificate
	err := Ask(ctx, k.remote.Patience, func(ctx context.Context) (err error) {
		certs, err = k.remote.Certificates(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the certificates of %s: %w", k.remote.URI, err)
	}
	return certs, nil
}

// limited is for [Limited].
func (k *remoteKey) limited(n int) Key {
	m := *k
	m.jobs = make(chan struct{}, min(n, cap(k.jobs)))
	return &m
}

// Metered returns the key with its calls added to calls; it is for [Metered].
func (k *remoteKey) Metered(calls *atomic.Int64) Key {
	calls.Add(k.spent.Swap(0))
	m := *k
	m.calls = calls
	return &m
}

func (k *remoteKey) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	pkcs1 := k.remote.PKCS1 && k.algorithm.AsksPKCS1(opts)
	if !pkcs1 {
		if err := k.algorithm.CheckOpts(opts); err != nil {
			return nil, err
		}
	}
	h := k.algorithm.Hash.New()
	h.Write(message)
	r := SignRequest{Message: message, Digest: h.Sum(nil), Algorithm: k.algorithm, PKCS1: pkcs1}

	var sig []byte
	err := turn(ctx, k.jobs)
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", k.remote.URI, err)
	}
	err = k.caution.do(ctx, func() (err error) {
		sig, err = k.ask(ctx, r)
		if err == nil || k.remote.Unlock == nil || ctx.Err() != nil {
			return err
		}
		if err := k.remote.Unlock(ctx, err); err != nil {
			return err
		}
		if k.calls != nil {
			k.calls.Add(-1)
		}
		sig, err = k.ask(ctx, r)
		return err
	})
	<-k.jobs
	if err == nil {
		sig, err = k.checked(r, sig)
	}
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", k.remote.URI, err)
	}
	return sig, nil
}

func (k *remoteKey) ask(ctx context.Context, r SignRequest) (sig []byte, err error) {
	err = Ask(ctx, k.remote.Patience, func(ctx context.Context) (err error) {
		if k.calls != nil {
			k.calls.Add(1)
		}
		sig, err = k.remote.Sign(ctx, r)
		return err
	})
	return sig, err
}

// checked converts what the service returned and verifies it strictly: a rotation since the public key was read, another
// salt and a digest cut off all end here.
func (k *remoteKey) checked(r SignRequest, sig []byte) ([]byte, error) {
	var err error
	if pub, ok := k.remote.Public.(*ecdsa.PublicKey); ok && k.remote.Raw {
		sig, err = DERFromRaw(pub, sig)
	}
	switch {
	case err != nil:
	case r.PKCS1:
		err = r.Algorithm.VerifyPKCS1(k.remote.Public, r.Message, sig)
	default:
		err = r.Algorithm.Verify(k.remote.Public, r.Message, sig)
	}
	if err != nil {
		return nil, Failure(CodeSignature, "", "what came back is no signature of the key that was opened: %w", err)
	}
	return sig, nil
}

// turn waits for room in turns. Whoever got it takes one out again.
func turn(ctx context.Context, turns chan struct{}) error {
	select {
	case turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for its turn: %w", context.Cause(ctx))
	}
}

// A caution keeps a key that counts refusals from being asked twice with what was refused once.
type caution struct {
	turn    chan struct{} // of one, held by whoever reads or writes what follows
	signed  bool
	refused error
}

// do calls sign, alone until it succeeded once, and not at all after it was refused. The first signature may take as long as a
// person who looks for a PIN; those who wait for it wait no longer than their ctx.
func (c *caution) do(ctx context.Context, sign func() error) error {
	if c == nil {
		return sign()
	}
	if err := turn(ctx, c.turn); err != nil {
		return err
	}
	if c.refused != nil || !c.signed {
		defer func() { <-c.turn }()
		if c.refused != nil {
			return c.refused
		}
		return c.note(sign())
	}
	<-c.turn
	err := sign()
	c.turn <- struct{}{} // nobody holds it for long any more
	defer func() { <-c.turn }()
	return c.note(err)
}

// note remembers what err says of the key, and returns it.
func (c *caution) note(err error) error {
	var e *Error
	switch {
	case err == nil:
		c.signed = true
	case errors.Is(err, ErrSecret), errors.As(err, &e) && (e.Code == CodeDenied || e.Code == CodeCredentials):
		c.refused = err
	}
	return err
}
