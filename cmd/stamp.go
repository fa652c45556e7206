package cmd

import (
	"bytes"
	"crypto/x509"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/signer"
)

// stampFlags are the flags of commands that have signatures countersigned by a time-stamping authority.
type stampFlags struct {
	urls  []string
	roots []string
}

func (f *stampFlags) bind(c *cobra.Command) {
	flags := c.Flags()
	flags.StringArrayVar(&f.urls, "timestamp-url", nil, "have signatures countersigned by the time-stamping authority at `URL` (RFC 3161); several are asked in turn")
	flags.StringArrayVar(&f.roots, "timestamp-roots", nil, "the root certificates of these authorities, in `FILE|DIR`")
}

// stamper returns what has signatures countersigned, nil if no authority is named. roots are those of a policy: they count if the flags
// name none.
func (f stampFlags) stamper(s *session, roots ...*x509.Certificate) (*signer.Stamper, error) {
	if len(f.urls) == 0 {
		if s.rank("timestamp-roots") == fromCommandLine {
			return nil, usageHint("name the authority too: --timestamp-url http://tsa.example.com", "--timestamp-roots without --timestamp-url")
		}
		return nil, nil
	}
	for _, u := range f.urls {
		if err := checkAuthority(u); err != nil {
			return nil, err
		}
	}
	var err error
	if len(f.roots) > 0 {
		if roots, err = f.trusted(s); err != nil {
			return nil, err
		}
	}
	if len(roots) == 0 {
		return nil, usageHint("name the root certificate of the authority, as verifiers trust it: --timestamp-roots FILE; its operator publishes it",
			"--timestamp-url without --timestamp-roots: nobody could say whether its timestamps are genuine")
	}
	return &signer.Stamper{URLs: f.urls, Roots: roots, Client: s.outside().HTTP(), Clock: s.env.Now, Warn: s.warn}, nil
}

func checkAuthority(text string) error {
	u, err := url.Parse(text)
	const as = "as --timestamp-url http://timestamp.digicert.com"
	switch {
	case err != nil:
		return usageHint(as, "--timestamp-url: that is no URL")
	case u.User != nil:
		u.User = nil // a name alone may be a key too
		return usageHint(as, "--timestamp-url %s: it holds a credential, which would end up in logs; none is sent", u)
	case u.Opaque != "":
		return usageHint(as, "--timestamp-url: that is no http or https URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Fragment != "":
		return usageHint(as, "--timestamp-url %q is no http or https URL", text)
	}
	return nil
}

// trusted reads the roots of authorities. What else a file holds is of no use: stock verifiers want the self-signed root.
func (f stampFlags) trusted(s *session) ([]*x509.Certificate, error) {
	files, err := s.certificateFiles(f.roots)
	if err != nil {
		return nil, err
	}
	certs, err := s.certificates(files)
	if err != nil {
		return nil, err
	}
	var roots []*x509.Certificate
	for _, c := range certs {
		if bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			roots = append(roots, c)
		}
	}
	if len(roots) == 0 {
		return nil, usageHint("verifiers trust the self-signed root of an authority: its operator publishes it",
			"--timestamp-roots %s: there is no root certificate", strings.Join(f.roots, ", "))
	}
	return roots, nil
}
