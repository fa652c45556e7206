package cmd

import (
	"bytes"
	"context"
	"crypto"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/kms"
)

// maxPassphrase limits a passphrase, bytes.
const maxPassphrase = 4 << 10

// keyFlags are the flags that name a key and say where its passphrase comes from. It never comes from the arguments: anybody on the
// machine can read those.
type keyFlags struct {
	key            string
	passphraseFile string
	passphraseFD   int
}

// bind binds --key with the passphrase flags.
func (k *keyFlags) bind(c *cobra.Command) {
	c.Flags().StringVar(&k.key, "key", "", "sign with `KEY`: a URI, or a name under keys: in the configuration")
	k.bindPassphrase(c)
}

// bindPassphrase binds the passphrase flags alone, for commands that name a key otherwise.
func (k *keyFlags) bindPassphrase(c *cobra.Command) {
	c.Flags().StringVar(&k.passphraseFile, "passphrase-file", "", "read the key's passphrase from `FILE`")
	c.Flags().IntVar(&k.passphraseFD, "passphrase-fd", -1, "read the key's passphrase from file descriptor `N`")
}

// open opens the key of --key.
func (k keyFlags) open(ctx context.Context, s *session) (kms.Key, error) {
	if k.key == "" {
		return nil, usageHint("name one: --key file:release.key, or a name under keys: in the configuration; imprint help keys",
			"no key to sign with")
	}
	return k.openURI(ctx, s, k.key)
}

// openURI opens the key that uri, or a name under `keys:`, stands for.
func (k keyFlags) openURI(ctx context.Context, s *session, uri string) (kms.Key, error) {
	return k.openFor(ctx, s, uri, nil)
}

// openFor opens the key that uri, or a name under `keys:`, stands for. leaf is the public key of the certificate that it is going to sign
// with, nil if that is not known: a plugin may take it for the key's.
func (k keyFlags) openFor(ctx context.Context, s *session, uri string, leaf crypto.PublicKey) (kms.Key, error) {
	named, err := s.namedKey(uri)
	if err != nil {
		return nil, err
	}
	// The file that belongs to the named key counts, unless the command line or the environment says otherwise.
	if named.passphraseFile != "" && s.rank("passphrase-file") < fromEnvironment {
		k.passphraseFile = named.passphraseFile
	}
	s.keyScheme = s.schemeOf(uri)
	return s.env.Keys.Open(ctx, named.uri, kms.Options{
		Secret: k.secret(s), Config: maps.Clone(named.config), Leaf: leaf, Agent: agent(),
		Warn: func(text string) { s.warn("key", text) },
	})
}

// namedKey resolves a name under `keys:`; a URI or a path stands for itself.
func (s *session) namedKey(key string) (namedKey, error) {
	if !isKeyName(key) {
		return namedKey{uri: key}, nil
	}
	if k, ok := s.settings.keys[key]; ok {
		return k, nil
	}
	if near := nearest(key, slices.Sorted(maps.Keys(s.settings.keys))); near != "" {
		return namedKey{}, usageHint("did you mean "+near+"?", "no key is named %q in the configuration", key)
	}
	return namedKey{}, usageHint("a file in this folder is written ./"+key+" or file:"+key,
		"no key is named %q in the configuration", key)
}

// secret returns what asks for a passphrase: the descriptor, the file, the variable, or the person.
func (k keyFlags) secret(s *session) func(context.Context, string) ([]byte, error) {
	switch {
	case k.passphraseFD >= 0:
		return func(context.Context, string) ([]byte, error) {
			f := os.NewFile(uintptr(k.passphraseFD), "passphrase")
			if f == nil {
				return nil, usage("--passphrase-fd %d: no such file descriptor", k.passphraseFD)
			}
			defer f.Close()
			b, err := io.ReadAll(io.LimitReader(f, maxPassphrase+1))
			if err != nil {
				return nil, usage("--passphrase-fd %d: %w", k.passphraseFD, err)
			}
			return line(b)
		}
	case k.passphraseFile != "":
		return func(context.Context, string) ([]byte, error) {
			b, err := s.read(k.passphraseFile, maxPassphrase)
			if err != nil {
				return nil, err
			}
			return line(b)
		}
	case s.env.Getenv("IMPRINT_PASSPHRASE") != "":
		return func(context.Context, string) ([]byte, error) {
			return []byte(s.env.Getenv("IMPRINT_PASSPHRASE")), nil
		}
	}
	return s.env.Terminal.Secret
}

// line returns the secret that is the only line of b.
func line(b []byte) ([]byte, error) {
	if len(b) > maxPassphrase {
		return nil, usage("the passphrase is longer than %d bytes", maxPassphrase)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(b, "\r\n") {
		return nil, usage("the passphrase is to be one line")
	}
	return b, nil
}

// keyName names a key to people: what it calls itself, else what it was opened by, without secrets.
func keyName(k kms.Key, given string) string {
	if id, ok := k.(kms.Identifier); ok && id.ID() != "" {
		return publicURI(id.ID())
	}
	return givenName(given)
}

// givenName is a key as it was named, in canonical form and without secrets, so that --key takes it.
func givenName(given string) string {
	if isKeyName(given) {
		return given
	}
	u, err := kms.ParseURI(given)
	if err != nil { // it was not opened by that
		return redact(given)
	}
	return publicURI(kms.Format(u))
}

// publicURI leaves out of a PKCS #11 URI where its PIN comes from, and out of any other what no canonical form has.
func publicURI(uri string) string {
	if path, query, ok := strings.Cut(uri, "?"); ok && strings.HasPrefix(uri, "pkcs11:") {
		kept := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool { return strings.HasPrefix(pair, "pin-") })
		uri = strings.TrimSuffix(path+"?"+strings.Join(kept, "&"), "?")
	}
	return redact(uri)
}

// checkURI refuses what names no key, before anything is asked of the key.
func (s *session) checkURI(uri string) error {
	if uri == "" {
		return nil
	}
	_, err := s.parseURI(uri)
	return err
}

// parseURI parses uri, or what a name under `keys:` stands for.
func (s *session) parseURI(uri string) (*url.URL, error) {
	named, err := s.namedKey(uri)
	if err != nil {
		return nil, err
	}
	return kms.ParseURI(named.uri)
}

// schemeOf returns the scheme of uri, or of what a name under `keys:` stands for; "" for a path, and for what cannot be read.
func (s *session) schemeOf(uri string) string {
	u, err := s.parseURI(uri)
	if err != nil {
		return ""
	}
	return u.Scheme
}

// atService reports whether a key is at a service or in a token, which may keep certificates beside it.
func (s *session) atService(uri string) bool {
	scheme := s.schemeOf(uri)
	return scheme != "" && scheme != "file"
}
