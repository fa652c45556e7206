package kms

import (
	"context"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // only to name what is refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the three hashes of the six algorithms
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"
)

// An Algorithm is one of the six signature algorithms of the Notary Project, chosen by the key alone.
type Algorithm struct {
	Name string // JOSE name: PS256, PS384, PS512, ES256, ES384, ES512
	Spec string // RSA-2048, RSA-3072, RSA-4096, EC-256, EC-384, EC-521: the key specs of the plugin protocol
	Hash crypto.Hash
	PSS  bool
}

// Signature specification, "Signature Algorithm Requirements".
var (
	ps256 = Algorithm{Name: "PS256", Spec: "RSA-2048", Hash: crypto.SHA256, PSS: true}
	ps384 = Algorithm{Name: "PS384", Spec: "RSA-3072", Hash: crypto.SHA384, PSS: true}
	ps512 = Algorithm{Name: "PS512", Spec: "RSA-4096", Hash: crypto.SHA512, PSS: true}
	es256 = Algorithm{Name: "ES256", Spec: "EC-256", Hash: crypto.SHA256}
	es384 = Algorithm{Name: "ES384", Spec: "EC-384", Hash: crypto.SHA384}
	es512 = Algorithm{Name: "ES512", Spec: "EC-521", Hash: crypto.SHA512}
)

// ErrSignature: a signature does not verify.
var ErrSignature = errors.New("signature does not verify")

// AlgorithmOf returns the algorithm of a public key: RSA of exactly 2048, 3072 or 4096 bits with an odd public exponent of at
// least 65537, or ECDSA on P-256, P-384 or P-521. Anything else is an error that wraps ErrInvalid.
func AlgorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return algorithmOfRSA(pub)
	case *ecdsa.PublicKey:
		return algorithmOfECDSA(pub)
	case ed25519.PublicKey, *ed25519.PublicKey:
		return Algorithm{}, Unsupported("an Ed25519 key")
	case *dsa.PublicKey:
		return Algorithm{}, Unsupported("a DSA key")
	case nil:
		return Algorithm{}, Unsupported("a key of an unknown algorithm")
	}
	return Algorithm{}, Unsupported(fmt.Sprintf("a key of type %T", pub))
}

func algorithmOfRSA(pub *rsa.PublicKey) (Algorithm, error) {
	if pub == nil || pub.N == nil || pub.N.Sign() <= 0 {
		return Algorithm{}, Unsupported("an RSA key without a modulus")
	}
	var a Algorithm
	// Exact: notation-core-go rounds up to whole bytes and so takes a 2041-bit modulus for 2048 bits.
	switch bits := pub.N.BitLen(); bits {
	case 2048:
		a = ps256
	case 3072:
		a = ps384
	case 4096:
		a = ps512
	default:
		return Algorithm{}, Unsupported(fmt.Sprintf("an RSA key of %d bits", bits))
	}
	if pub.N.Bit(0) == 0 {
		return Algorithm{}, Unsupported("an RSA key with an even modulus")
	}
	if pub.E < 65537 || pub.E%2 == 0 || int64(pub.E) > 1<<31-1 {
		return Algorithm{}, Invalid(CodeAlgorithm, "the key is an RSA key with public exponent %d: it must be odd and at least 65537", pub.E)
	}
	return a, nil
}

func algorithmOfECDSA(pub *ecdsa.PublicKey) (Algorithm, error) {
	if pub == nil || pub.Curve == nil || pub.Curve.Params() == nil {
		return Algorithm{}, Unsupported("an ECDSA key without a curve")
	}
	var a Algorithm
	switch pub.Curve {
	case elliptic.P256():
		a = es256
	case elliptic.P384():
		a = es384
	case elliptic.P521():
		a = es512
	default:
		return Algorithm{}, Unsupported("an ECDSA key on the curve " + pub.Curve.Params().Name)
	}
	if _, err := pub.ECDH(); err != nil {
		return Algorithm{}, Invalid(CodeAlgorithm, "the key is no point on the curve %s", pub.Curve.Params().Name)
	}
	return a, nil
}

// Unsupported is the error of a key that is something else than the six algorithms take, as "an Ed25519 key".
func Unsupported(what string) error {
	return Invalid(CodeAlgorithm, "the key is %s: Notary Project signatures need RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521", what)
}

// SameKey reports whether two public keys are one; keys of an unknown kind never are.
func SameKey(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}

// SignerOpts returns what [Key].Sign needs for the algorithm: *rsa.PSSOptions with salt = hash length, or the hash.
func (a Algorithm) SignerOpts() crypto.SignerOpts {
	if a.PSS {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash}
	}
	return a.Hash
}

// CheckOpts returns an error that wraps [ErrInvalid] unless opts ask for a signature of this algorithm. Every provider
// calls it before it signs, so that no key makes a PKCS #1 v1.5 signature or one with another salt or hash.
func (a Algorithm) CheckOpts(opts crypto.SignerOpts) error {
	if opts == nil {
		return Invalid(CodeOptions, "signing with %s: no hash was named", a.Name)
	}
	if h := opts.HashFunc(); h != a.Hash {
		return Invalid(CodeOptions, "signing with %s: the hash must be %v, not %v", a.Name, a.Hash, h)
	}
	pss, ok := opts.(*rsa.PSSOptions)
	switch {
	case a.PSS && (!ok || pss == nil):
		return Invalid(CodeOptions, "signing with %s: the padding must be PSS, not PKCS #1 v1.5", a.Name)
	case !a.PSS && ok:
		return Invalid(CodeOptions, "signing with %s: PSS is for RSA keys", a.Name)
	case a.PSS && pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != a.Hash.Size():
		return Invalid(CodeOptions, "signing with %s: the salt must be as long as the hash", a.Name)
	}
	return nil
}

// Verify checks sig (DER for ECDSA) over message strictly: PSS salt = hash length, no trailing bytes. The error wraps
// [ErrSignature], or [ErrInvalid] if pub is not a key of this algorithm.
func (a Algorithm) Verify(pub crypto.PublicKey, message, sig []byte) error {
	own, err := AlgorithmOf(pub)
	if err != nil {
		return err
	}
	if own != a {
		return Invalid(CodeAlgorithm, "verifying with %s: the key is %s, which is for %s", a.Name, own.Spec, own.Name)
	}
	h := a.Hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		strict := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash}
		if rsa.VerifyPSS(pub, a.Hash, digest, sig, strict) != nil {
			return explainRSA(pub, a, digest, sig)
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest, sig) {
			return explainECDSA(pub, a, digest, sig)
		}
	}
	return nil
}

// AsksPKCS1 reports whether opts ask an RSA key for a signature by PKCS #1 v1.5: they are the hash alone. Certificate requests may be
// signed so, envelopes never are.
func (a Algorithm) AsksPKCS1(opts crypto.SignerOpts) bool {
	return a.PSS && opts == crypto.SignerOpts(a.Hash)
}

// VerifyPKCS1 checks the signature of an RSA key by PKCS #1 v1.5 over message. The error wraps [ErrSignature].
func (a Algorithm) VerifyPKCS1(pub crypto.PublicKey, message, sig []byte) error {
	h := a.Hash.New()
	h.Write(message)
	if pub, ok := pub.(*rsa.PublicKey); !ok || rsa.VerifyPKCS1v15(pub, a.Hash, h.Sum(nil), sig) != nil {
		return fmt.Errorf("PKCS #1 v1.5: %w", ErrSignature)
	}
	return nil
}

// explainRSA says why a signature is refused when it is one of the mistakes that key services make.
func explainRSA(pub *rsa.PublicKey, a Algorithm, digest, sig []byte) error {
	auto := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: a.Hash}
	if rsa.VerifyPSS(pub, a.Hash, digest, sig, auto) == nil {
		return fmt.Errorf("%s: its PSS salt is not as long as the hash: %w", a.Name, ErrSignature)
	}
	if rsa.VerifyPKCS1v15(pub, a.Hash, digest, sig) == nil {
		return fmt.Errorf("%s: it is padded by PKCS #1 v1.5, not PSS: %w", a.Name, ErrSignature)
	}
	return fmt.Errorf("%s: %w", a.Name, ErrSignature)
}

// explainECDSA recognises r||s of fixed width where DER belongs.
func explainECDSA(pub *ecdsa.PublicKey, a Algorithm, digest, sig []byte) error {
	width := (pub.Curve.Params().N.BitLen() + 7) / 8
	if len(sig) == 2*width {
		r, s := new(big.Int).SetBytes(sig[:width]), new(big.Int).SetBytes(sig[width:])
		if ecdsa.Verify(pub, digest, r, s) {
			return fmt.Errorf("%s: it is r and s side by side, not DER: %w", a.Name, ErrSignature)
		}
	}
	return fmt.Errorf("%s: %w", a.Name, ErrSignature)
}

// Probe signs a random message and verifies the result with the key's own public key. Errors wrap ErrService.
func Probe(ctx context.Context, k Key) error {
	a, err := AlgorithmOf(k.Public())
	if err != nil {
		return Service("probing the key: %w", err)
	}
	message := make([]byte, 32)
	rand.Read(message)
	sig, err := k.Sign(ctx, message, a.SignerOpts())
	if err != nil {
		return &Error{Code: reasonOf(err, CodeService), Class: ErrService, Err: fmt.Errorf("probing the key: %w", err)}
	}
	if err := a.Verify(k.Public(), message, sig); err != nil {
		return &Error{Code: CodeSignature, Class: ErrService, Err: fmt.Errorf("probing the key: %w", err)}
	}
	return nil
}

// reasonOf returns the code that err carries already, or the one given.
func reasonOf(err error, code string) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return code
}
