package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

func newChain(s *session) *cobra.Command {
	return family(&cobra.Command{
		Use:   "chain",
		Short: "show, build, check and compare certificate chains",
		Long: `Looks at certificates and makes signing chains of them: the leaf first, each issuer after what it issued, the self-signed root
last. FILE is PEM, DER or PKCS#7, or a folder of those.`,
		Example: `  imprint chain build leaf.crt ca-bundle.pem --key release.key --out chain.pem
  imprint chain check chain.pem --key release.key --at 2027-03-31`,
	}, newChainShow(s), newChainBuild(s), newChainCheck(s), newChainCompare(s))
}

func newChainShow(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE…",
		Short:   "the certificates in files, in order, and until when they hold",
		Long:    "Shows everything that counts about the certificates in files, in the order of the chain if they are one. It judges nothing: chain check does.",
		Example: "  imprint chain show chain.pem",
		Args:    arguments(1, many, "FILE…"),
		RunE: s.run(func(_ context.Context, args []string) error {
			certs, err := s.chainFiles(args)
			if err != nil {
				return err
			}
			shown := ui.ShownChain{Chain: ui.Chain{Files: args, Certificates: certchain.Chain(certs).Describe()}}
			if chain, err := certchain.Order(certs); err == nil {
				shown.Chain = aboutChain(args, chain)
			} else {
				f := finding(err)
				shown.Finding = &f
			}
			return s.answer("chain-show", shown, func(w io.Writer) { ui.ChainShow(w, shown, s.now) })
		}),
	}
}

// chainFiles reads all certificates of the files and folders that a chain command names.
func (s *session) chainFiles(paths []string) ([]*x509.Certificate, error) {
	files, err := s.certificateFiles(paths)
	if err != nil {
		return nil, misused("FILE is PEM, DER or PKCS#7, or a folder of those", err)
	}
	certs, err := s.certificates(files)
	switch {
	case reason(err) == "private-key":
		return nil, misused("give the certificates alone; the key goes to --key", err)
	case err != nil:
		return nil, misused("FILE holds certificates and nothing else: PEM, DER or PKCS#7", err)
	}
	return certs, nil
}

// aboutChain describes a chain that is complete and in order.
func aboutChain(files []string, c certchain.Chain) ui.Chain {
	first, until := c.HoldsUntil()
	from := c.HoldsFrom().UTC()
	until = until.UTC()
	return ui.Chain{
		Files: files, Complete: true, Certificates: c.Describe(),
		HoldsFrom: &from, HoldsUntil: &until, FirstToEnd: certchain.NameOf(first.RawSubject),
	}
}

// finding says which rule err is about.
func finding(err error) ui.Finding {
	f := ui.Finding{Reason: reason(err), Detail: err.Error()}
	var rule *certchain.RuleError
	if errors.As(err, &rule) && rule.Certificate != nil {
		f.Certificate = certchain.Thumbprint(rule.Certificate)
	}
	return f
}

type checkInputs struct {
	key keyFlags
	at  string
}

func newChainCheck(s *session) *cobra.Command {
	var in checkInputs
	c := &cobra.Command{
		Use:   "check [FILE…]",
		Short: "whether certificates are a signing chain, for a key, at a date",
		Long: `Checks that certificates are one complete chain that keeps every rule of the Notary Project and imprint's stricter ones, and says until
when it holds. With --key and no FILE it checks what imprint sign would take: the files that the configuration names beside the key, or
what its service keeps. Files that hold authorities alone are completed by what the service keeps, too. Revocation is not checked.`,
		Example: `  imprint chain check chain.pem
  imprint chain check chain.pem --key awskms:///alias/release --at 2027-03-31
  imprint chain check --key openbao://release`,
		Args:        arguments(0, many, "FILE…"),
		Annotations: map[string]string{exits: "0 every rule holds   3 usage, or a rule is broken   6 key service"},
		RunE:        s.run(func(ctx context.Context, args []string) error { return runChainCheck(ctx, s, in, args) }),
	}
	bindChainKey(c, &in.key, "the leaf is to be for `KEY`: a URI, or a name under keys: in the configuration")
	c.Flags().StringVar(&in.at, "at", "", "check at `DATE` instead of now: 2027-03-31 (its start, UTC) or 2027-03-31T12:00:00Z")
	return c
}

// bindChainKey binds --key for what compares with a key when it is told to, whatever key the surroundings have.
func bindChainKey(c *cobra.Command, k *keyFlags, text string) {
	c.Flags().StringVar(&k.key, "key", "", text)
	_ = c.Flags().SetAnnotation("key", onlyNamed, []string{"true"})
	k.bindPassphrase(c)
}

func runChainCheck(ctx context.Context, s *session, in checkInputs, args []string) error {
	at, err := date(in.at, s.now)
	if err != nil {
		return err
	}
	if len(args) == 0 && in.key.key == "" {
		return usageHint("usage: imprint chain check FILE…; with --key KEY alone it checks the chain that belongs to that key", "chain check takes FILE…")
	}
	checked := ui.CheckedChain{At: at.UTC().Truncate(time.Second), Findings: []ui.Finding{}}
	found, err := in.certificates(ctx, s, args)
	if err != nil {
		return err
	}
	checked.Chain = ui.Chain{Files: found.files, KeptAt: found.keptAt, Certificates: certchain.Chain(found.certs).Describe()}
	if found.key != nil {
		about, err := aboutKey(found.key, in.key.key)
		if err != nil {
			return err
		}
		checked.Key, checked.Calls = &about, meter(found.key, about).uses()
	}
	var broken []error
	chain, err := found.ordered(at)
	if err != nil {
		broken = append(broken, err)
	} else {
		checked.Chain = aboutChain(found.files, chain)
		checked.KeptAt = found.keptAt
		if err := chain.Check(time.Time{}); err != nil {
			broken = append(broken, err)
		} else if err := chain.CheckStock(); err != nil {
			broken = append(broken, err)
		} else if err := chain.Check(at); err != nil {
			broken = append(broken, err)
		}
		if found.key != nil && found.key.Public() != nil {
			err := chain.Matches(found.key.Public())
			matches := err == nil
			checked.KeyMatches = &matches
			if err != nil {
				broken = append(broken, err)
			}
		}
	}
	checked.Valid = len(broken) == 0
	for _, err := range broken {
		checked.Findings = append(checked.Findings, finding(err))
	}
	if !checked.Valid {
		checked.Reason = checked.Findings[0].Reason
		checked.Hint = chainHint(broken[0])
		if found.mixed && errors.Is(broken[0], certchain.ErrKeyMismatch) {
			checked.Hint = checkIt(in.key.key)
		}
	}
	if err := s.answer("chain-check", checked, func(w io.Writer) { ui.ChainCheck(w, checked) }); err != nil || checked.Valid {
		return err
	}
	return &verdict{code: exitUsage, why: checked.Reason, hint: checked.Hint}
}

// A foundChain is certificates to check, and the key to hold them against.
type foundChain struct {
	files  []string
	keptAt string // the key's URI, if certificates kept beside it are among them
	certs  []*x509.Certificate
	key    kms.Key // nil: none
	mixed  bool    // what is kept beside the key was to complete the files
}

// checkIt says how to come to a certificate for a key, and what to do with it here.
func checkIt(given string) string {
	return request(given) + "; then: imprint chain check FILE --key " + ui.ShellWord(givenName(given))
}

// certificates reads the files, or, if there are none, finds what imprint sign would take for the key. Files of authorities alone are
// completed as it completes them.
func (in checkInputs) certificates(ctx context.Context, s *session, files []string) (foundChain, error) {
	f := foundChain{files: files}
	if len(files) == 0 {
		if err := s.checkURI(in.key.key); err != nil {
			return f, err
		}
		if len(s.signingFiles(nil, in.key.key)) == 0 && !s.atService(in.key.key) {
			return f, usageHint("name its certificates: imprint chain check FILE… --key "+ui.ShellWord(givenName(in.key.key)),
				"no certificate chain to check: a key in a file has none beside it")
		}
		given, err := s.givenChain(nil, in.key.key)
		if err != nil {
			return f, err
		}
		f.files, f.certs = append([]string{}, given.files...), given.certs
		f.mixed = given.chain == nil
	} else {
		var err error
		if f.certs, err = s.chainFiles(files); err != nil {
			return f, err
		}
		f.mixed = in.key.key != "" && s.atService(in.key.key) && authoritiesAlone(f.certs)
	}
	if in.key.key == "" {
		return f, nil
	}
	// The leaf is not told: the key is to say itself which it is.
	key, err := in.key.open(ctx, s)
	if err != nil {
		return f, err
	}
	f.key = key
	if f.mixed = f.mixed && (len(files) == 0 || key.Public() != nil); !f.mixed {
		return f, nil
	}
	kept, err := kms.Certificates(ctx, key)
	if err != nil {
		return f, err
	}
	if len(kept)+len(f.certs) == 0 {
		err := s.noChain(key, in.key.key)
		if errors.Is(err, errNoChain) {
			err = misused(checkIt(in.key.key), err)
		}
		return f, err
	}
	if len(kept) > 0 {
		f.keptAt = keyName(key, in.key.key)
	}
	f.certs = append(f.certs, kept...)
	return f, nil
}

// ordered puts the certificates in order. Beside a key there may be more than its chain.
func (f foundChain) ordered(at time.Time) (certchain.Chain, error) {
	if f.mixed && f.key.Public() != nil {
		return certchain.OrderFor(f.key.Public(), f.certs, at)
	}
	return certchain.Order(f.certs)
}

// date reads a date or a time; "" is now.
func date(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageHint("as --at 2027-03-31 or --at 2027-03-31T12:00:00Z", "--at %q is no date", text)
}

// chainHint says how to come from certificates that break a rule to a chain that doesn't.
func chainHint(err error) string {
	var rule *certchain.RuleError
	if !errors.As(err, &rule) {
		return ""
	}
	switch rule.Rule {
	case "incomplete":
		if at := certchain.IssuerAddress(rule.Certificate); at != "" {
			return "add that issuer's certificate, up to the self-signed root; imprint chain build --aia fetches it from " + at
		}
		return "add that issuer's certificate, up to the self-signed root"
	case "unrelated", "duplicate", "order":
		return "imprint chain build FILE… --out NEW takes what belongs together and leaves out the rest"
	case "key-mismatch":
		return "give the key and the chain that belong together; imprint key show KEY and imprint chain show FILE show both"
	}
	if h, ok := reasonHints[rule.Rule]; ok {
		return h
	}
	if strings.HasPrefix(rule.Rule, "leaf-") {
		return "have it issued again as a signing certificate; imprint key csr asks a CA for the right usages"
	}
	return "verifiers refuse such a chain: have that certificate issued again; docs/reason-codes.md explains " + rule.Rule
}
