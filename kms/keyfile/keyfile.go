// Package keyfile opens private keys in files: PKCS#8 (plain or encrypted), SEC 1 and PKCS#1, in PEM or DER.
//
// A file is read at most once and at most 1 MiB of it, and only if it is a regular file: a FIFO or a device is
// refused without waiting for it. A link is followed as long as it is relative and stays within the folder of the
// file, which is how Kubernetes mounts a secret; one that leaves the folder is refused.
//
// A private key that is not encrypted must be for its owner alone. The one exception is what Kubernetes makes of a
// secret with an fsGroup: mode 0440 (or 0640), owned by root or another user, its group one of this process's. On
// Windows permissions are not looked at.
package keyfile

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/imprint-oci/imprint/kms"
)

// Open opens the key file that u names (file:PATH, or a bare path). It is a [kms.Opener]. The key is a [kms.Identifier] whose ID
// is the absolute path. Errors wrap [kms.ErrInvalid], and [kms.ErrSecret] if the passphrase is missing or wrong.
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	path := pathOf(u)
	if path == "" {
		return nil, kms.Invalid(kms.CodeURI, "opening key file: the key URI names no file")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, kms.Invalid(kms.CodeFile, "opening key file %s: %w", path, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening key file %s: %w", path, err)
	}
	data, info, err := read(abs)
	if err != nil {
		return nil, refuse(path, err)
	}
	defer clear(data)
	der, encrypted, err := find(data)
	if err != nil {
		return nil, refuse(path, err)
	}
	defer clear(der)
	if encrypted {
		plain, err := unlock(ctx, path, der, o)
		if err != nil {
			return nil, refuse(path, err)
		}
		defer clear(plain)
		der = plain
	} else if err := checkPrivate(info); err != nil {
		return nil, refuse(path, err)
	}
	private, err := parsePrivate(der)
	if err != nil {
		return nil, refuse(path, err)
	}
	k, err := newKey(private)
	if err != nil {
		return nil, refuse(path, err)
	}
	return &fileKey{key: *k, path: abs}, nil
}

// pathOf returns the path of a file: URI or of a bare path, also when the URI was read by [url.Parse].
func pathOf(u *url.URL) string {
	path := u.Path
	if u.Opaque != "" {
		path = u.Opaque
	}
	// file:///C:/keys/a.key has the path /C:/keys/a.key.
	if runtime.GOOS == "windows" && u.Scheme == "file" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	return filepath.FromSlash(path)
}

// refuse says which file err is about and how to convert it: FILE in a suggested command becomes its path.
func refuse(path string, err error) error {
	var e *kms.Error
	if !errors.As(err, &e) {
		return kms.Invalid(kms.CodeFile, "opening key file %s: %w", path, err)
	}
	text := strings.ReplaceAll(e.Err.Error(), "FILE", shellWord(path))
	return &kms.Error{Code: e.Code, Class: e.Class, Err: &located{fmt.Sprintf("opening key file %s: %s", path, text), e.Err}}
}

// shellWord quotes a path for a suggested command if a shell would take it apart.
func shellWord(path string) string {
	if !strings.ContainsAny(path, " \t\n'\"`$&|;<>()*?[]{}!#~\\") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// A located error has its own text and wraps the error that it was made from.
type located struct {
	text string
	err  error
}

func (e *located) Error() string { return e.text }
func (e *located) Unwrap() error { return e.err }

// Generate makes a key of the named algorithm (P-256, P-384, P-521, RSA-2048, RSA-3072, RSA-4096) and returns it with its
// PKCS#8 PEM, encrypted when passphrase is not empty: PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC, which every tool reads.
func Generate(algorithm string, passphrase []byte) (key kms.Key, pem []byte, err error) {
	private, err := generate(algorithm)
	if err != nil {
		return nil, nil, err
	}
	k, err := newKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("generating a key: %w", err)
	}
	pem, err = encode(private, passphrase)
	if err != nil {
		return nil, nil, fmt.Errorf("generating a key: %w", err)
	}
	return k, pem, nil
}

// A key is a private key in memory.
type key struct {
	signer    crypto.Signer
	algorithm kms.Algorithm
}

func newKey(private any) (*key, error) {
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, kms.Invalid(kms.CodeAlgorithm, "it holds a key that cannot sign (%T)", private)
	}
	a, err := kms.AlgorithmOf(signer.Public())
	if err != nil {
		return nil, err
	}
	switch signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
		return &key{signer, a}, nil
	}
	return nil, kms.Invalid(kms.CodeAlgorithm, "it holds a key of type %T", private)
}

func (k *key) Public() crypto.PublicKey { return k.signer.Public() }

func (k *key) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pkcs1 := k.algorithm.AsksPKCS1(opts)
	if !pkcs1 {
		if err := k.algorithm.CheckOpts(opts); err != nil {
			return nil, err
		}
		opts = k.algorithm.SignerOpts()
	}
	h := k.algorithm.Hash.New()
	h.Write(message)
	return k.signer.Sign(rand.Reader, h.Sum(nil), opts)
}

// Describe says that RSA keys sign certificate requests with PKCS #1 v1.5 too.
func (k *key) Describe() kms.Description { return kms.Description{PKCS1: k.algorithm.PSS} }

// A fileKey is a key that knows its file.
type fileKey struct {
	key
	path string
}

// ID returns the absolute path.
func (k *fileKey) ID() string { return k.path }
