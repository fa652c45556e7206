// Package kms opens a key by reference, wherever it lives.
//
// A key is named by a URI; its scheme selects one of the [Providers] that the caller lists. Nothing registers itself.
package kms

import (
	"context"
	"crypto"
	"errors"
	"net/url"
)

// A Key signs with a private key that stays where it is.
type Key interface {
	// Public returns the public key: *rsa.PublicKey or *ecdsa.PublicKey.
	Public() crypto.PublicKey
	// Sign hashes message with opts.HashFunc() and signs the digest, as [crypto.MessageSigner] does. For an RSA key opts is
	// a *rsa.PSSOptions whose salt is as long as the hash; an ECDSA signature is returned as ASN.1 DER.
	// Errors wrap [ErrService] when the key's service failed, [ErrInvalid] when what the caller handed in is wrong.
	Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error)
}

// An Identifier is a Key that knows the immutable name of what was opened: a key ARN, a key version, a file's path.
type Identifier interface {
	ID() string
}

// Options are what an [Opener] may need besides the URI. The zero value is right for keys that need no secret.
type Options struct {
	// Secret asks for a passphrase or PIN. nil means that nobody can be asked: a key that needs one fails with ErrSecret.
	Secret func(ctx context.Context, prompt string) ([]byte, error)
}

// An Opener opens the key that u names. It checks all that can be checked without a signature.
type Opener func(ctx context.Context, u *url.URL, o Options) (Key, error)

// Providers maps a URI scheme to what opens its keys; "" is the scheme of a bare path.
type Providers map[string]Opener

var (
	// ErrInvalid: what the caller handed in is wrong (URI, file, passphrase, permissions, kind of key).
	ErrInvalid = errors.New("invalid key")
	// ErrUnknownScheme: no provider is listed for the URI's scheme. It wraps ErrInvalid.
	ErrUnknownScheme error
	// ErrSecret: the key needs a passphrase and nobody can be asked, or the one given is wrong. It wraps ErrInvalid.
	ErrSecret error
	// ErrService: the key's service refused or failed.
	ErrService = errors.New("key service")
)

// Open parses uri and opens the key that it names.
func (p Providers) Open(ctx context.Context, uri string, o Options) (Key, error) { panic("door") }

// ParseURI parses a key URI by the grammar of KMS.md. A text without a known scheme that contains / \ or . is a path (scheme "").
func ParseURI(uri string) (*url.URL, error) { panic("door") }

// An Algorithm is one of the six signature algorithms of the Notary Project, chosen by the key alone.
type Algorithm struct {
	Name string // JOSE name: PS256, PS384, PS512, ES256, ES384, ES512
	Spec string // RSA-2048, RSA-3072, RSA-4096, EC-256, EC-384, EC-521: the key specs of the plugin protocol
	Hash crypto.Hash
	PSS  bool
}

// AlgorithmOf returns the algorithm of a public key: RSA of exactly 2048, 3072 or 4096 bits with an odd public exponent of at
// least 65537, or ECDSA on P-256, P-384 or P-521. Anything else is an error that wraps ErrInvalid.
func AlgorithmOf(pub crypto.PublicKey) (Algorithm, error) { panic("door") }

// SignerOpts returns what [Key].Sign needs for the algorithm: *rsa.PSSOptions with salt = hash length, or the hash.
func (a Algorithm) SignerOpts() crypto.SignerOpts { panic("door") }

// Verify checks sig (DER for ECDSA) over message strictly: PSS salt = hash length, no trailing bytes.
func (a Algorithm) Verify(pub crypto.PublicKey, message, sig []byte) error { panic("door") }

// Probe signs a random message and verifies the result with the key's own public key. Errors wrap ErrService.
func Probe(ctx context.Context, k Key) error { panic("door") }
