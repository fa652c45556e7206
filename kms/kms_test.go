package kms_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"math/big"
	"net/url"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

func reason(t *testing.T, err error) string {
	t.Helper()
	var r interface{ Reason() string }
	if !errors.As(err, &r) {
		t.Fatalf("error without a reason: %v", err)
	}
	if kms.Reasons()[r.Reason()] == "" {
		t.Errorf("Reasons does not list %q", r.Reason())
	}
	return r.Reason()
}

func TestErrorsWrap(t *testing.T) {
	t.Parallel()
	for _, err := range []error{kms.ErrUnknownScheme, kms.ErrSecret} {
		if !errors.Is(err, kms.ErrInvalid) {
			t.Errorf("%v does not wrap ErrInvalid", err)
		}
		if errors.Is(err, kms.ErrService) {
			t.Errorf("%v wraps ErrService", err)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	signer := kmstest.Key(certtest.Key("P-256"))
	weak := kmstest.Key(certtest.Key("P-224"))
	p := kms.Providers{
		"": func(_ context.Context, u *url.URL, _ kms.Options) (kms.Key, error) {
			if u.Path == "weak.key" {
				return weak, nil
			}
			return signer, nil
		},
		"awskms": func(context.Context, *url.URL, kms.Options) (kms.Key, error) {
			return nil, kms.Service("opening it: %w", io.ErrUnexpectedEOF)
		},
	}
	if k, err := p.Open(t.Context(), "a.key", kms.Options{}); err != nil || k != kms.Key(signer) {
		t.Errorf("a path: %v, %v", k, err)
	}
	_, err := p.Open(t.Context(), "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k", kms.Options{})
	if !errors.Is(err, kms.ErrUnknownScheme) || reason(t, err) != "key-scheme" || !strings.Contains(err.Error(), "awskms:, a path") {
		t.Errorf("no provider: %v", err)
	}
	_, err = p.Open(t.Context(), "gopher:x", kms.Options{})
	if !errors.Is(err, kms.ErrUnknownScheme) || !strings.Contains(err.Error(), "gopher") {
		t.Errorf("unknown scheme: %v", err)
	}
	_, err = p.Open(t.Context(), "release", kms.Options{})
	if !errors.Is(err, kms.ErrInvalid) || errors.Is(err, kms.ErrUnknownScheme) || reason(t, err) != "key-uri" {
		t.Errorf("bare name: %v", err)
	}
	_, err = p.Open(t.Context(), "weak.key", kms.Options{})
	if !errors.Is(err, kms.ErrInvalid) || reason(t, err) != "key-algorithm" || !strings.Contains(err.Error(), "weak.key") {
		t.Errorf("A04 a key of no algorithm: %v", err)
	}
	_, err = p.Open(t.Context(), "awskms:///alias/a", kms.Options{})
	if !errors.Is(err, kms.ErrService) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, kms.ErrInvalid) {
		t.Errorf("service: %v", err)
	}
	if _, err := (kms.Providers{}).Open(t.Context(), "a.key", kms.Options{}); !errors.Is(err, kms.ErrUnknownScheme) {
		t.Errorf("no providers: %v", err)
	}
}

func TestAlgorithmOf(t *testing.T) {
	t.Parallel()
	for algorithm, want := range map[string]kms.Algorithm{
		"RSA-2048": {Name: "PS256", Spec: "RSA-2048", Hash: crypto.SHA256, PSS: true},
		"RSA-3072": {Name: "PS384", Spec: "RSA-3072", Hash: crypto.SHA384, PSS: true},
		"RSA-4096": {Name: "PS512", Spec: "RSA-4096", Hash: crypto.SHA512, PSS: true},
		"P-256":    {Name: "ES256", Spec: "EC-256", Hash: crypto.SHA256},
		"P-384":    {Name: "ES384", Spec: "EC-384", Hash: crypto.SHA384},
		"P-521":    {Name: "ES512", Spec: "EC-521", Hash: crypto.SHA512},
	} {
		got, err := kms.AlgorithmOf(certtest.Key(algorithm).Public())
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", algorithm, got, err)
		}
	}
}

func TestA04KeysRefused(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := func(bits int) *big.Int {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return n.SetBit(n, 0, 1)
	}
	p256 := certtest.Key("P-256").Public().(*ecdsa.PublicKey)
	for name, tt := range map[string]struct {
		pub  crypto.PublicKey
		says string
	}{
		"RSA 2047":       {&rsa.PublicKey{N: modulus(2047), E: 65537}, "2047 bits"},
		"RSA 2041":       {&rsa.PublicKey{N: modulus(2041), E: 65537}, "2041 bits"},
		"RSA 1024":       {&rsa.PublicKey{N: modulus(1024), E: 65537}, "1024 bits"},
		"RSA 8192":       {&rsa.PublicKey{N: modulus(8192), E: 65537}, "8192 bits"},
		"exponent 1":     {&rsa.PublicKey{N: modulus(2048), E: 1}, "exponent 1"},
		"exponent 3":     {&rsa.PublicKey{N: modulus(2048), E: 3}, "exponent 3"},
		"even exponent":  {&rsa.PublicKey{N: modulus(2048), E: 65538}, "exponent 65538"},
		"even modulus":   {&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}, "even modulus"},
		"no modulus":     {&rsa.PublicKey{}, "without a modulus"},
		"nil RSA":        {(*rsa.PublicKey)(nil), "RSA"},
		"P-224":          {certtest.Key("P-224").Public(), "P-224"},
		"off the curve":  {&ecdsa.PublicKey{Curve: elliptic.P256(), X: p256.X, Y: big.NewInt(1)}, "no point"},
		"curve mismatch": {&ecdsa.PublicKey{Curve: elliptic.P384(), X: p256.X, Y: p256.Y}, "no point"},
		"no curve":       {&ecdsa.PublicKey{}, "without a curve"},
		"secp256k1":      {&ecdsa.PublicKey{Curve: &elliptic.CurveParams{Name: "secp256k1"}, X: big.NewInt(1), Y: big.NewInt(1)}, "secp256k1"},
		"nil ECDSA":      {(*ecdsa.PublicKey)(nil), "ECDSA"},
		"Ed25519":        {ed.Public(), "Ed25519"},
		"nil":            {nil, "unknown"},
		"something else": {"a text", "string"},
	} {
		t.Run("A04 "+name, func(t *testing.T) {
			t.Parallel()
			_, err := kms.AlgorithmOf(tt.pub)
			if !errors.Is(err, kms.ErrInvalid) || reason(t, err) != "key-algorithm" || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

// sign signs message with the private key as opts say, as a key service that gets them wrong would.
func sign(t *testing.T, key crypto.Signer, message []byte, opts crypto.SignerOpts) []byte {
	t.Helper()
	h := opts.HashFunc().New()
	h.Write(message)
	sig, err := key.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestVerifyStrict(t *testing.T) {
	t.Parallel()
	message := []byte("message")
	rsaKey, ecKey := certtest.Key("RSA-2048"), certtest.Key("P-256")
	ps256, _ := kms.AlgorithmOf(rsaKey.Public())
	es256, _ := kms.AlgorithmOf(ecKey.Public())
	goodRSA := sign(t, rsaKey, message, ps256.SignerOpts())
	goodEC := sign(t, ecKey, message, es256.SignerOpts())
	if err := ps256.Verify(rsaKey.Public(), message, goodRSA); err != nil {
		t.Error(err)
	}
	if err := es256.Verify(ecKey.Public(), message, goodEC); err != nil {
		t.Error(err)
	}
	flip := func(b []byte) []byte { c := append([]byte(nil), b...); c[len(c)/2] ^= 1; return c }
	raw := func() []byte {
		h := crypto.SHA256.New()
		h.Write(message)
		r, s, err := ecdsa.Sign(rand.Reader, ecKey.(*ecdsa.PrivateKey), h.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}()
	pss := func(salt int) []byte {
		return sign(t, rsaKey, message, &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256})
	}
	for name, tt := range map[string]struct {
		a    kms.Algorithm
		key  crypto.Signer
		sig  []byte
		says string
	}{
		"A03 longest salt":    {ps256, rsaKey, pss(rsa.PSSSaltLengthAuto), "salt"},
		"A03 short salt":      {ps256, rsaKey, pss(20), "salt"},
		"A02 PKCS #1 v1.5":    {ps256, rsaKey, sign(t, rsaKey, message, crypto.SHA256), "PKCS #1 v1.5"},
		"A02 another hash":    {ps256, rsaKey, sign(t, rsaKey, message, &rsa.PSSOptions{SaltLength: -1, Hash: crypto.SHA384}), ""},
		"trailing byte RSA":   {ps256, rsaKey, append(append([]byte(nil), goodRSA...), 0), ""},
		"flipped RSA":         {ps256, rsaKey, flip(goodRSA), ""},
		"empty RSA":           {ps256, rsaKey, nil, ""},
		"A02 r and s raw":     {es256, ecKey, raw, "not DER"},
		"A02 trailing byte":   {es256, ecKey, append(append([]byte(nil), goodEC...), 0), ""},
		"flipped ECDSA":       {es256, ecKey, flip(goodEC), ""},
		"empty ECDSA":         {es256, ecKey, nil, ""},
		"A02 r is 0":          {es256, ecKey, []byte{0x30, 6, 2, 1, 0, 2, 1, 1}, ""},
		"A02 another version": {es256, certtest.Key("P-256"), goodEC, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.a.Verify(tt.key.Public(), message, tt.sig)
			if !errors.Is(err, kms.ErrSignature) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
	if err := es256.Verify(rsaKey.Public(), message, goodRSA); !errors.Is(err, kms.ErrInvalid) {
		t.Errorf("ES256 with an RSA key: %v", err)
	}
	if err := (kms.Algorithm{}).Verify(ecKey.Public(), message, goodEC); !errors.Is(err, kms.ErrInvalid) {
		t.Errorf("no algorithm: %v", err)
	}
}

// A broken key returns what it is told to.
type broken struct {
	pub  crypto.PublicKey
	sign func(message []byte) ([]byte, error)
}

func (b broken) Public() crypto.PublicKey { return b.pub }
func (b broken) Sign(_ context.Context, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return b.sign(message)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		if err := kms.Probe(t.Context(), kmstest.Key(certtest.Key(algorithm))); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	key, other := certtest.Key("RSA-2048"), certtest.Key("P-256")
	for name, tt := range map[string]struct {
		key  kms.Key
		code string
	}{
		"A02 another key signs": {broken{certtest.Key("P-256").Public(), func(m []byte) ([]byte, error) { return sign(t, other, m, crypto.SHA256), nil }}, "key-signature"},
		"A03 longest salt": {broken{key.Public(), func(m []byte) ([]byte, error) {
			return sign(t, key, m, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}), nil
		}}, "key-signature"},
		"service fails":  {broken{key.Public(), func([]byte) ([]byte, error) { return nil, io.ErrUnexpectedEOF }}, "key-service"},
		"caller's fault": {broken{key.Public(), func([]byte) ([]byte, error) { return nil, kms.Invalid(kms.CodeOptions, "no") }}, "key-options"},
		"unusable key":   {broken{certtest.Key("P-224").Public(), nil}, "key-service"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := kms.Probe(t.Context(), tt.key)
			if !errors.Is(err, kms.ErrService) || reason(t, err) != tt.code {
				t.Errorf("%v", err)
			}
		})
	}
}
