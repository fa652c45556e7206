package cmd

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

type buildInputs struct {
	key       keyFlags
	aia       bool
	out       string
	overwrite bool
}

func newChainBuild(s *session) *cobra.Command {
	var in buildInputs
	c := &cobra.Command{
		Use:   "build FILE…",
		Short: "the signing chain among certificates, in order, the rest left out",
		Long: `Finds the chain from a signing certificate to its self-signed root among the certificates of the files, in whatever order they
are; of several chains the one that holds longest. What does not belong is left out and named. With --key and files that hold authorities
alone, the leaf is the one that the key's service keeps. With --aia issuers that are missing or were renewed are fetched where
the certificates say that they are published; a root that came that way is only as good as the comparison of its fingerprint.`,
		Example: `  imprint chain build leaf.crt intermediate.crt root.crt --out chain.pem
  imprint chain build from-the-ca.p7b --key release --out chain.pem
  imprint chain build leaf.crt root.crt --aia --out chain.pem`,
		Args:        arguments(1, many, "FILE…"),
		Annotations: map[string]string{exits: "0 built   3 usage, or there is no good chain   6 key service   8 local disk"},
		RunE:        s.run(func(ctx context.Context, args []string) error { return runChainBuild(ctx, s, in, args) }),
	}
	bindChainKey(c, &in.key, "the leaf's `KEY`; needed if there are several leaves")
	c.Flags().BoolVar(&in.aia, "aia", false, aiaUsage)
	c.Flags().StringVar(&in.out, "out", "", "write it to `FILE` instead of standard output")
	c.Flags().BoolVar(&in.overwrite, "overwrite", false, "replace the file if it exists")
	return c
}

func runChainBuild(ctx context.Context, s *session, in buildInputs, args []string) error {
	certs, err := s.chainFiles(args)
	if err != nil {
		return err
	}
	if in.out != "" {
		if err := writable(in.out, in.overwrite); err != nil {
			return err
		}
	}
	built := ui.BuiltChain{Out: in.out}
	pub, certs, err := in.candidates(ctx, s, &built, certs)
	if err != nil {
		return err
	}
	var found []*x509.Certificate
	if in.aia {
		found = s.moreIssuers(ctx, certs)
	}
	chain, err := certchain.Build(pub, slices.Concat(certs, found), s.now)
	if err != nil {
		hint := chainHint(err)
		if in.aia && errors.Is(err, certchain.ErrIncomplete) {
			hint = notFetched
		}
		if in.key.key != "" && authoritiesAlone(certs) && errors.Is(err, certchain.ErrKeyMismatch) {
			hint = request(in.key.key) + "; then: imprint chain build FILE…"
		}
		return misused(hint, fmt.Errorf("building a chain from %s: %w", strings.Join(args, ", "), err))
	}
	kept := built.KeptAt
	built.Chain = aboutChain(args, chain)
	built.KeptAt = kept
	built.PEM = string(chain.PEM())
	built.LeftOut = leftOut(certs, chain)
	built.Fetched = fetched(chain, found)
	if slices.Contains(built.Fetched, certchain.Thumbprint(chain.Root())) {
		built.FetchedRoot = certchain.Thumbprint(chain.Root())
	}
	if in.out == "" {
		if err := s.answer("chain-build", built, func(w io.Writer) { io.WriteString(w, built.PEM) }); err != nil || s.json {
			return err
		}
		s.warnFetchedRoot(chain, found)
		s.note("%d certificates, %d fetched, %d left out; holds until %s", len(chain), len(built.Fetched), len(built.LeftOut), built.HoldsUntil.Format(time.DateOnly))
		return nil
	}
	if err := s.write(in.out, []byte(built.PEM), 0o644, in.overwrite); err != nil {
		return err
	}
	return s.answer("chain-build", built, func(w io.Writer) { ui.ChainBuild(w, built, s.now) })
}

// candidates returns the public key that the chain is for, and the certificates to build it of: files that hold authorities alone are
// completed by what is kept beside the key.
func (in buildInputs) candidates(ctx context.Context, s *session, built *ui.BuiltChain, certs []*x509.Certificate) (crypto.PublicKey, []*x509.Certificate, error) {
	if in.key.key == "" {
		pub, err := onlyLeaf(certs)
		return pub, certs, err
	}
	key, err := in.key.open(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	about, err := aboutKey(key, in.key.key)
	if err != nil {
		return nil, nil, err
	}
	if about.Envelopes {
		return nil, nil, usageHint("leave --key out: the leaf is found among the certificates, if there is one alone",
			"chain build: the plugin of %s tells its public key with each signature alone", keyName(key, in.key.key))
	}
	built.Key, built.Calls = &about, meter(key, about).uses()
	if !s.atService(in.key.key) || !authoritiesAlone(certs) {
		return key.Public(), certs, nil
	}
	kept, err := kms.Certificates(ctx, key)
	if len(kept) > 0 {
		built.KeptAt = about.ID
	}
	return key.Public(), append(certs, kept...), err
}

// onlyLeaf returns the one public key that certificates which are no CA are for.
func onlyLeaf(certs []*x509.Certificate) (crypto.PublicKey, error) {
	keys := map[string]*x509.Certificate{}
	var names []string
	for _, c := range certs {
		spki := string(c.RawSubjectPublicKeyInfo)
		if c.BasicConstraintsValid && c.IsCA || keys[spki] != nil {
			continue
		}
		keys[spki] = c
		names = append(names, certchain.NameOf(c.RawSubject))
	}
	switch len(keys) {
	case 0:
		return nil, misused("add the certificate of the key that signs", &certchain.RuleError{Rule: "leaf-basic-constraints",
			Why: "building a chain: no certificate is a leaf's: each is an authority's"})
	case 1:
		for _, c := range keys {
			return c.PublicKey, nil
		}
	}
	return nil, usageHint("name the key whose chain is meant: --key KEY", "building a chain: there are %d leaves: %s",
		len(keys), strings.Join(names, "; "))
}

// leftOut returns the certificates that are not in the chain, each once.
func leftOut(certs []*x509.Certificate, chain certchain.Chain) []certchain.Certificate {
	seen := map[string]bool{}
	for _, c := range chain {
		seen[string(c.Raw)] = true
	}
	var out []certchain.Certificate
	for _, c := range certs {
		if !seen[string(c.Raw)] {
			seen[string(c.Raw)] = true
			out = append(out, certchain.Describe(c))
		}
	}
	return out
}
