package cmd

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

// maxChainFiles limits the files of one folder of certificates.
const maxChainFiles = 1000

// certificates reads all certificates of the files, in any order and format.
func (s *session) certificates(files []string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, file := range files {
		b, err := s.read(file, certchain.MaxBytes)
		if err != nil {
			return nil, err
		}
		certs, err := certchain.Parse(b)
		if err != nil {
			return nil, &handedIn{fmt.Errorf("reading certificates from %s: %w", file, err)}
		}
		out = append(out, certs...)
	}
	return out, nil
}

// certificateFiles replaces each folder among paths by the certificate files in it.
func (s *session) certificateFiles(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		if !info.IsDir() {
			out = append(out, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		found := 0
		for _, e := range entries {
			switch strings.ToLower(filepath.Ext(e.Name())) {
			case ".pem", ".crt", ".cer", ".der", ".p7b", ".p7c":
			default:
				continue
			}
			if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if found++; found > maxChainFiles {
				return nil, usage("%s holds more than %d certificate files", path, maxChainFiles)
			}
			out = append(out, filepath.Join(path, e.Name()))
		}
		if found == 0 {
			return nil, usage("%s holds no certificate file (.pem, .crt, .cer, .der, .p7b)", path)
		}
	}
	return out, nil
}

// signingFiles returns the files of --chain, else those that belong to the key named in the configuration; none is no error.
func (s *session) signingFiles(files []string, key string) []string {
	if s.rank("chain") < fromEnvironment && isKeyName(key) {
		if named, err := s.namedKey(key); err == nil && len(named.chain) > 0 {
			return named.chain
		}
	}
	return files
}

// A givenChain is what is at hand of a signing chain before the key is opened.
type givenChain struct {
	files []string
	certs []*x509.Certificate // of the files
	chain certchain.Chain     // the files' certificates in order; nil if only what is kept beside the key can complete them
	aia   bool                // issuers may be fetched too
}

// leaf returns the public key that the chain is for, nil if that cannot be told yet.
func (g givenChain) leaf() crypto.PublicKey {
	if g.chain == nil {
		return nil
	}
	return g.chain.Leaf().PublicKey
}

// givenChain reads the files of [session.signingFiles]. A key at a service may have its leaf there, and all of its chain: for such
// a key there need be no files, and they may hold certificates of authorities alone.
func (s *session) givenChain(files []string, key string) (givenChain, error) {
	return s.chainBy(s.ordered, givenChain{files: files}, key)
}

// chainBy is [session.givenChain] with a way to put the certificates of the files in order.
func (s *session) chainBy(order func(givenChain) (certchain.Chain, error), g givenChain, key string) (givenChain, error) {
	g.files = s.signingFiles(g.files, key)
	elsewhere := s.atService(key)
	if len(g.files) == 0 {
		if err := s.checkURI(key); elsewhere || err != nil {
			return g, err
		}
		return g, usageHint("name the certificates, leaf to root: --chain chain.pem; a certificate for testing: imprint key generate --dev",
			"no certificate chain to sign with")
	}
	var err error
	if g.certs, err = s.certificates(g.files); err != nil || elsewhere && authoritiesAlone(g.certs) {
		return g, err
	}
	g.chain, err = order(g)
	return g, err
}

func (s *session) ordered(g givenChain) (certchain.Chain, error) {
	chain, err := certchain.Order(g.certs)
	if err == nil {
		return chain, nil
	}
	err = fmt.Errorf("putting %s in order: %w", strings.Join(g.files, ", "), err)
	if at := g.published(err); at != "" {
		return nil, misused("add that issuer's certificate, up to the self-signed root, to the file"+at, err)
	}
	return nil, &handedIn{err}
}

// published says where the issuer is that err misses, "" if that is not known or was looked at.
func (g givenChain) published(err error) string {
	var rule *certchain.RuleError
	if g.aia || !errors.Is(err, certchain.ErrIncomplete) || !errors.As(err, &rule) {
		return ""
	}
	if at := certchain.IssuerAddress(rule.Certificate); at != "" {
		return "; --aia fetches it from " + at
	}
	return ""
}

func authoritiesAlone(certs []*x509.Certificate) bool {
	return !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return !c.BasicConstraintsValid || !c.IsCA })
}

// chainOf returns the chain with which key, opened as given, signs: that of the files, which must be the key's, or what the files lack
// completed by what is kept beside the key. A key that makes whole envelopes brings its own; then it is nil.
func (s *session) chainOf(ctx context.Context, g givenChain, key kms.Key, given string) (certchain.Chain, error) {
	name, pub := keyName(key, given), key.Public()
	switch {
	case g.chain != nil:
		if pub == nil { // the envelope that comes back is compared
			return g.chain, nil
		}
		if err := g.chain.Matches(pub); err != nil {
			return nil, &handedIn{fmt.Errorf("checking the key %s: %w", name, err)}
		}
		return g.chain, nil
	case pub == nil && len(g.certs) > 0:
		return s.ordered(g) // of authorities alone: whose issuers are missing only the envelope will tell
	case pub == nil:
		return nil, nil
	}
	kept, err := kms.Certificates(ctx, key)
	if err != nil {
		return nil, err
	}
	if len(kept)+len(g.certs) == 0 {
		return nil, s.noChain(key, given)
	}
	certs := slices.Concat(g.certs, kept)
	var found []*x509.Certificate
	if g.aia {
		found = s.moreIssuers(ctx, certs)
	}
	chain, err := certchain.OrderFor(pub, slices.Concat(certs, found), s.now)
	if err == nil {
		err = chain.Check(time.Time{})
	}
	if err == nil {
		s.warnFetchedRoot(chain, found)
		return chain, nil
	}
	from := fmt.Sprintf("what %s keeps beside it", serviceOf(key))
	if len(g.files) > 0 {
		from = strings.Join(g.files, ", ") + " and " + from
	}
	err = fmt.Errorf("building the chain of the key %s from %s: %w", name, from, err)
	switch {
	case errors.Is(err, certchain.ErrKeyMismatch):
		return nil, misused(request(given)+nameIt, err)
	case g.aia && errors.Is(err, certchain.ErrIncomplete):
		return nil, misused(notFetched, err)
	case errors.Is(err, certchain.ErrIncomplete):
		return nil, misused("give the missing issuers, up to the self-signed root: --chain FILE; the leaf may stay where it is"+g.published(err), err)
	}
	return nil, &handedIn{err}
}

// noChain says that there is no certificate for a key, neither here nor at its service.
func (s *session) noChain(key kms.Key, given string) error {
	if key.Public() == nil {
		return usageHint("imprint inspect shows the chain of what it signed", "there is no chain to check: the plugin of %s brings its own with each signature",
			keyName(key, given))
	}
	text := fmt.Sprintf("there is none beside the key %s at %s", keyName(key, given), serviceOf(key))
	if s.keyScheme == "awskms" || s.keyScheme == "gcpkms" {
		text += ", which keeps no certificates (Vault, OpenBao, Azure Key Vault, PKCS#11 tokens and plugins do)"
	}
	return usageHint(request(given)+nameIt, "%w: %s", errNoChain, text)
}

// errNoChain: there is no certificate for the key, neither in files nor at its service.
var errNoChain = errors.New("no certificate chain to sign with")

// nameIt says what to do with the certificate that [request] leads to, where something signs.
const nameIt = "; then name it: --chain FILE"

// request says how to come to a certificate for a key.
func request(given string) string {
	return fmt.Sprintf(`get a certificate for it: imprint key csr %s --subject "C=DE, ST=BE, O=Acme, CN=release"`, ui.ShellWord(givenName(given)))
}

// serviceOf names the service of a key to people.
func serviceOf(k kms.Key) string {
	switch service := kms.Describe(k).Service; {
	case service == "":
		return "its service"
	case service == "PKCS #11":
		return "the token"
	case strings.HasPrefix(service, "notation plugin "):
		return "the " + service
	default:
		return service
	}
}
