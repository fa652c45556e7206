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
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

func newKey(s *session) *cobra.Command {
	return family(&cobra.Command{
		Use:   "key",
		Short: "generate, show, csr, self-sign; for files and key services",
		Long:  "Makes keys in files, and what any key needs to sign: a certificate request for a CA, or a self-signed certificate.",
		Example: `  imprint key generate --dev
  imprint key show awskms:///alias/release
  imprint key csr release --subject "C=DE, ST=BE, O=Acme, CN=release" --out release.csr`,
	}, newKeyGenerate(s), newKeyShow(s), newKeyCSR(s), newKeySelfSign(s))
}

// keyExits is what the exit codes of a command on one key mean.
const keyExits = "0 done   3 usage or key   6 key service   8 local disk"

type showInputs struct {
	key   keyFlags
	probe bool
}

func newKeyShow(s *session) *cobra.Command {
	var in showInputs
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "what a key is: its service, version, algorithm, certificates",
		Long: `Shows what a key is, and that Notary Project signatures can be made with it: a URI, or a name under keys: in the configuration. The URI
that it prints names exactly this version of the key. The key is not used, unless --probe asks for one signature over a random
message, or a plugin tells its public key in no other way.`,
		Example: `  imprint key show release.key
  imprint key show awskms:///alias/release
  imprint key show release --probe -o json`,
		Args:        arguments(1, 1, "KEY"),
		Annotations: map[string]string{exits: "0 it can be used   3 usage, or a key that cannot sign   6 key service"},
		RunE:        s.run(func(ctx context.Context, args []string) error { return runKeyShow(ctx, s, in, args[0]) }),
	}
	in.key.bindPassphrase(c)
	c.Flags().BoolVar(&in.probe, "probe", false, "have it sign a random message, and verify that")
	return c
}

func runKeyShow(ctx context.Context, s *session, in showInputs, given string) error {
	k, err := in.key.openURI(ctx, s, given)
	if err != nil {
		return err
	}
	about, err := aboutKey(k, given)
	if err != nil {
		return err
	}
	shown := ui.ShownKey{Key: about, Probed: in.probe}
	metered := meter(k, about)
	if in.probe {
		if about.Envelopes {
			return usageHint("imprint sign something with it, in an OCI layout: imprint help start",
				"key show %s: --probe: it makes whole signature envelopes, and of a random message there is none", keyName(k, given))
		}
		if err := kms.Probe(ctx, metered); err != nil {
			return metered.spent(fmt.Errorf("key show: %w", err))
		}
	}
	if k.Public() != nil && s.atService(given) {
		if shown.Kept, err = s.keptBeside(ctx, k); err != nil {
			return err
		}
	}
	shown.Calls = metered.uses()
	return s.answer("key-show", shown, func(w io.Writer) { ui.KeyShow(w, shown, s.now) })
}

// keptBeside describes the certificates that are kept beside k; nil, with a warning, if they cannot be asked for.
func (s *session) keptBeside(ctx context.Context, k kms.Key) (*ui.Kept, error) {
	certs, err := kms.Certificates(ctx, k)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		text := err.Error()
		if r := s.hint(err); r != "" {
			text += " (" + r + ")"
		}
		s.warn("certificates", text)
		return nil, nil
	}
	kept := &ui.Kept{Certificates: len(certs)}
	chain, err := certchain.OrderFor(k.Public(), certs, s.now)
	kept.Complete = err == nil
	if err != nil { // a leaf alone is worth a word too
		for _, c := range certs {
			if (certchain.Chain{c}).Matches(k.Public()) == nil && (chain == nil || c.NotAfter.After(chain.Leaf().NotAfter)) {
				chain = certchain.Chain{c}
			}
		}
	}
	if chain != nil {
		leaf := certchain.Describe(chain.Leaf())
		kept.Leaf = &leaf
	}
	return kept, nil
}

// aboutKey describes a key that was opened as given.
func aboutKey(k kms.Key, given string) (ui.Key, error) {
	d := kms.Describe(k)
	_, whole := k.(kms.EnvelopeSigner)
	about := ui.Key{Key: givenName(given), Service: d.Service, Version: d.Version, PKCS1: d.PKCS1, Envelopes: whole}
	if id, ok := k.(kms.Identifier); ok {
		about.ID = publicURI(id.ID())
	}
	if whole && k.Public() == nil {
		return about, nil
	}
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		return ui.Key{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return ui.Key{}, &handedIn{fmt.Errorf("encoding the public key of %s: %w", keyName(k, given), err)}
	}
	sum := sha256.Sum256(der)
	about.Spec, about.Algorithm, about.SHA256 = a.Spec, a.Name, hex.EncodeToString(sum[:])
	about.PublicKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
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

// A meteredKey counts how often it is used.
type meteredKey struct {
	kms.Key
	calls *atomic.Int64
	about ui.Key
}

func meter(k kms.Key, about ui.Key) meteredKey {
	metered, calls := kms.Metered(k)
	return meteredKey{metered, calls, about}
}

func (k meteredKey) uses() int { return int(k.calls.Load()) }

// spent adds to err what was spent before it.
func (k meteredKey) spent(err error) error {
	if k.uses() == 0 {
		return err
	}
	return &spent{err, k.uses(), ui.Uses(k.about, k.uses())}
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
	verify := a.Verify
	if a.AsksPKCS1(opts) { // a request by --pkcs1
		verify = a.VerifyPKCS1
	}
	if err := verify(c.key.Public(), message, sig); err != nil {
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
