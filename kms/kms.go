// Package kms opens a key by reference, wherever it lives.
//
// A key is named by a URI; its scheme selects one of the [Providers] that the caller lists. Nothing registers itself.
// A key signs with one of the six signature algorithms of the Notary Project, which its size alone decides ([AlgorithmOf]).
package kms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Key signs with a private key that stays where it is. It is safe for concurrent use.
type Key interface {
	// Public returns the public key: *rsa.PublicKey or *ecdsa.PublicKey.
	Public() crypto.PublicKey
	// Sign hashes message with opts.HashFunc() and signs the digest, as [crypto.MessageSigner] does. For an RSA key opts is
	// a *rsa.PSSOptions whose salt is as long as the hash; an ECDSA signature is returned as ASN.1 DER. Any opts but
	// those of the key's own algorithm are refused ([Algorithm.CheckOpts]); only a key whose [Description] says PKCS1 signs
	// with PKCS #1 v1.5 too, if opts is the hash alone.
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
	// The opener overwrites what it returns once it is used.
	Secret func(ctx context.Context, prompt string) ([]byte, error)
	// Config is handed to a plugin: plugin-config of a key named in the configuration.
	Config map[string]string
	// Leaf is the public key of the certificate that signatures are going to be made with, nil if it is not known yet. It
	// spares a plugin, which tells its public key by its certificates alone, a first signature.
	Leaf crypto.PublicKey
	// Warn tells the person something that is no error. nil: nobody listens.
	Warn func(text string)
	// Agent names the program to the key service, as "imprint/1.0.0".
	Agent string
}

// An Opener opens the key that u names. It checks all that can be checked without a signature. Its errors say what was
// being done to which key and why it failed, and wrap [ErrInvalid] or [ErrService].
type Opener func(ctx context.Context, u *url.URL, o Options) (Key, error)

// Providers maps a URI scheme to what opens its keys; "" is the scheme of a bare path.
type Providers map[string]Opener

var (
	// ErrInvalid: what the caller handed in is wrong (URI, file, passphrase, permissions, kind of key).
	ErrInvalid = errors.New("invalid key")
	// ErrUnknownScheme: no provider is listed for the URI's scheme. It wraps ErrInvalid.
	ErrUnknownScheme = fmt.Errorf("unknown key scheme: %w", ErrInvalid)
	// ErrSecret: the key needs a passphrase and nobody can be asked, or the one given is wrong. It wraps ErrInvalid.
	ErrSecret = fmt.Errorf("missing or wrong passphrase: %w", ErrInvalid)
	// ErrService: the key's service refused or failed.
	ErrService = errors.New("key service")
)

// An Error says why a key cannot be opened or used. Providers return it so that callers branch on Class
// (with [errors.Is]) and documents list Code.
type Error struct {
	Code  string // one of [Reasons]
	Class error  // ErrInvalid, ErrUnknownScheme, ErrSecret or ErrService
	Err   error  // what was being done to which key, and why it failed
	// Remedy says what to do next: the permission, variable or command that is missing. "": nothing particular.
	Remedy string
	// Temporary: the service answered that it is busy or failing, so that asking again may help. After is when, if it said so.
	Temporary bool
	After     time.Duration
	// Final: asking again does not help, even where the code alone says that it might.
	Final bool
}

func (e *Error) Error() string   { return e.Err.Error() }
func (e *Error) Reason() string  { return e.Code }
func (e *Error) Unwrap() []error { return []error{e.Class, e.Err} }

// The reason codes of this package and of its providers.
const (
	CodeURI         = "key-uri"
	CodeScheme      = "key-scheme"
	CodeFile        = "key-file"
	CodePermissions = "key-permissions"
	CodeFormat      = "key-format"
	CodeAlgorithm   = "key-algorithm"
	CodeSecret      = "key-secret"
	CodeOptions     = "key-options"
	CodeService     = "key-service"
	CodeSignature   = "key-signature"

	// What a key service says, whichever it is.
	CodeCredentials = "key-credentials"
	CodeExpired     = "key-login-expired"
	CodeDenied      = "key-denied"
	CodeNotFound    = "key-not-found"
	CodeUnusable    = "key-unusable"
	CodeThrottled   = "key-throttled"
	CodeUnreachable = "key-unreachable"
	CodePlugin      = "key-plugin"
)

// Reasons returns the reason codes of this package and its providers with one sentence each, for the documentation.
func Reasons() map[string]string {
	return map[string]string{
		CodeURI:         "The key reference is neither a path nor a well-formed key URI.",
		CodeScheme:      "No provider of keys is known for the scheme of the key URI.",
		CodeFile:        "The key file cannot be read, is no regular file, is too large, or is a link that leaves its folder.",
		CodePermissions: "A private key that is not encrypted can be read by other users of this machine.",
		CodeFormat:      "The key file holds no private key, several, or one in a format that imprint does not read.",
		CodeAlgorithm:   "The key is none of RSA 2048, 3072, 4096 and ECDSA P-256, P-384, P-521, which Notary Project signatures need.",
		CodeSecret:      "The key needs a passphrase and none can be asked for, or the one given is wrong.",
		CodeOptions:     "A signature of another kind than the key's own algorithm was asked for.",
		CodeService:     "The key service failed, or gave an answer that cannot be used.",
		CodeCredentials: "There are no credentials for the key service, or no PIN for the token.",
		CodeExpired:     "The login to the key service has expired, or its credentials are not known there.",
		CodeDenied:      "The key service denies what was asked, or the PIN is wrong.",
		CodeNotFound:    "The key service knows no such key, version, vault, mount or token.",
		CodeUnusable:    "The key is disabled, about to be deleted, not for signing, or otherwise in a state in which it does not sign.",
		CodeThrottled:   "The key service has too many requests, even after waiting and asking again.",
		CodeUnreachable: "The key service cannot be reached, or says nothing.",
		CodePlugin:      "A plugin is not installed, crashed, or answered against the plugin protocol.",
		CodeSignature:   "The key returned a signature that its own public key does not verify, or not with a salt as long as the hash.",
	}
}

// Invalid returns an error of class [ErrInvalid] with the given code.
func Invalid(code, format string, args ...any) error {
	return &Error{Code: code, Class: ErrInvalid, Err: fmt.Errorf(format, args...)}
}

// Failure returns an error of class [ErrService] with the given code and remedy.
func Failure(code, remedy, format string, args ...any) *Error {
	return &Error{Code: code, Class: ErrService, Err: fmt.Errorf(format, args...), Remedy: remedy}
}

// Service returns an error of class [ErrService] with the code key-service.
func Service(format string, args ...any) error {
	return Failure(CodeService, "", format, args...)
}

// Open parses uri, opens the key that it names, and refuses it if it is of none of the six algorithms.
func (p Providers) Open(ctx context.Context, uri string, o Options) (Key, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	open := p[u.Scheme]
	if open == nil {
		return nil, &Error{Code: CodeScheme, Class: ErrUnknownScheme, Err: fmt.Errorf(
			"opening key %s: no provider for %s keys here; there is %s", shown(Format(u)), schemeName(u.Scheme), p.names())}
	}
	k, err := open(ctx, u, o)
	if err != nil {
		return nil, err
	}
	if _, whole := k.(EnvelopeSigner); whole && k.Public() == nil {
		return k, nil
	}
	if _, err := AlgorithmOf(k.Public()); err != nil {
		return nil, fmt.Errorf("opening key %s: %w", Format(u), err)
	}
	return k, nil
}

func schemeName(scheme string) string {
	if scheme == "" {
		return "file"
	}
	return scheme
}

// names lists the schemes of p for people.
func (p Providers) names() string {
	var names []string
	for _, scheme := range slices.Sorted(maps.Keys(p)) {
		if scheme != "" {
			names = append(names, scheme+":")
		}
	}
	if p[""] != nil {
		names = append(names, "a path")
	}
	if len(names) == 0 {
		return "none at all"
	}
	return strings.Join(names, ", ")
}
