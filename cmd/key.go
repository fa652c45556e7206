package cmd

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

func newKey(s *session) *cobra.Command {
	return family(&cobra.Command{
		Use:   "key",
		Short: "generate, show, csr, self-sign; for files and key services",
		Long:  "Makes keys in files, and what any key needs to sign: a certificate request for a CA, or a self-signed certificate.",
		Example: `  imprint key generate --dev
  imprint key csr release --subject "C=DE, ST=BE, O=Acme, CN=release" --out release.csr`,
	}, newKeyGenerate(s), newKeyShow(s), newKeyCSR(s), newKeySelfSign(s))
}

// keyExits is what the exit codes of a command on one key mean.
const keyExits = "0 done   3 usage or key   6 key service   8 local disk"

func newKeyShow(s *session) *cobra.Command {
	var key keyFlags
	var probe bool
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "what a key is: its algorithm, its name, its public key",
		Long: `Shows what a key is: a URI, or a name under keys: in the configuration. The key is not used, unless --probe asks for one
signature over a random message.`,
		Example: `  imprint key show release.key
  imprint key show release --probe -o json`,
		Args:        arguments(1, 1, "KEY"),
		Annotations: map[string]string{exits: "0 it can be used   3 usage or key   6 key service"},
		RunE: s.run(func(ctx context.Context, args []string) error {
			k, err := key.openURI(ctx, s, args[0])
			if err != nil {
				return err
			}
			if probe {
				if err := kms.Probe(ctx, k); err != nil {
					return fmt.Errorf("key show %s: %w", keyName(k, args[0]), err)
				}
			}
			about, err := aboutKey(k, args[0])
			if err != nil {
				return err
			}
			shown := ui.ShownKey{Key: about, Probed: probe}
			return s.answer("key-show", shown, func(w io.Writer) { ui.KeyShow(w, shown) })
		}),
	}
	key.bindPassphrase(c)
	c.Flags().BoolVar(&probe, "probe", false, "have it sign a random message, and verify that")
	return c
}

// aboutKey describes a key that was opened as given.
func aboutKey(k kms.Key, given string) (ui.Key, error) {
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		return ui.Key{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return ui.Key{}, &handedIn{fmt.Errorf("encoding the public key of %s: %w", keyName(k, given), err)}
	}
	sum := sha256.Sum256(der)
	about := ui.Key{
		Key:       given,
		Spec:      a.Spec,
		Algorithm: a.Name,
		SHA256:    hex.EncodeToString(sum[:]),
		PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}
	if id, ok := k.(kms.Identifier); ok {
		about.ID = id.ID()
	}
	return about, nil
}

// keyURI names the key in a file in such a way that --key reads it as that.
func keyURI(file string) string {
	switch {
	case strings.Contains(file, ":"):
		return kms.Format(&url.URL{Scheme: "file", Path: filepath.ToSlash(file)})
	case isKeyName(file):
		return "./" + file
	}
	return file
}

// A certificateSigner lends a key to crypto/x509 for one call. Every signature is verified before it gets into anything.
type certificateSigner struct {
	ctx context.Context
	key kms.Key
}

func (c certificateSigner) Public() crypto.PublicKey { return c.key.Public() }

// Sign is never called: x509 prefers SignMessage.
func (c certificateSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("this key signs whole messages")
}

func (c certificateSigner) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	a, err := kms.AlgorithmOf(c.key.Public())
	if err != nil {
		return nil, err
	}
	sig, err := c.key.Sign(c.ctx, message, opts)
	if err != nil {
		return nil, err
	}
	if err := a.Verify(c.key.Public(), message, sig); err != nil {
		return nil, &kms.Error{Code: kms.CodeSignature, Class: kms.ErrService, Err: err}
	}
	return sig, nil
}

// misused is an error of a room about what the caller handed in, with a hint for this place. Its reason code stays.
func misused(hint string, err error) error {
	code := reason(err)
	if code == "" {
		code = "usage"
	}
	return &usageError{code: code, hint: hint, err: err}
}
