// Package keyfile opens private keys in files: PKCS#8 (plain or encrypted), SEC 1 and PKCS#1, in PEM or DER.
package keyfile

import (
	"context"
	"net/url"

	"github.com/imprint-oci/imprint/kms"
)

// Open opens the key file that u names (file:PATH, or a bare path). It is a [kms.Opener].
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) { panic("door") }

// Generate makes a key of the named algorithm (P-256, P-384, P-521, RSA-2048, RSA-3072, RSA-4096) and returns it with its
// PKCS#8 PEM, encrypted when passphrase is not empty (scrypt or PBKDF2, AES-256-CBC).
func Generate(algorithm string, passphrase []byte) (key kms.Key, pem []byte, err error) {
	panic("door")
}
