package cmd

import (
	"context"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
)

// requestInputs are what a certificate request and a self-signed certificate have in common.
type requestInputs struct {
	key       keyFlags
	subject   string
	sans      []string
	out       string
	overwrite bool
	pkcs1     bool // requests only
}

func (in *requestInputs) bind(c *cobra.Command) {
	f := c.Flags()
	in.key.bindPassphrase(c)
	f.StringVar(&in.subject, "subject", "", "the `DN` of who signs, with C, ST and O, as \"C=DE, ST=BE, O=Acme, CN=release\"")
	f.StringArrayVar(&in.sans, "san", nil, "also name it `NAME`: uri:https://…, dns:…, email:…, ip:…")
	f.StringVar(&in.out, "out", "", "write it to `FILE` instead of standard output")
	f.BoolVar(&in.overwrite, "overwrite", false, "replace the file if it exists")
}

func newKeyCSR(s *session) *cobra.Command {
	var in requestInputs
	c := &cobra.Command{
		Use:   "csr KEY",
		Short: "a certificate request (PKCS#10) for a key, wherever it lives",
		Long: `Writes a certificate request that a CA can make a signing certificate of: key usage digitalSignature, extended key usage
codeSigning. It uses the key once. RSA keys sign it with PSS, or with --pkcs1 in the older way for CAs that read no other; what the key
signs afterwards stays PSS.`,
		Example: `  imprint key csr release.key --subject "C=DE, ST=BE, O=Acme, CN=release" --out release.csr
  imprint key csr awskms:///alias/release --subject "C=DE, ST=BE, O=Acme, CN=release" --pkcs1
  imprint key csr release --subject "C=DE, ST=BE, O=Acme" --san uri:https://ci.acme.example | \
      openssl req -noout -text`,
		Args:        arguments(1, 1, "KEY"),
		Annotations: map[string]string{exits: keyExits},
		RunE:        s.run(func(ctx context.Context, args []string) error { return runKeyCSR(ctx, s, in, args[0]) }),
	}
	in.bind(c)
	c.Flags().BoolVar(&in.pkcs1, "pkcs1", false, "sign the request with PKCS #1 v1.5 instead of PSS; RSA keys, where their service can")
	return c
}

func runKeyCSR(ctx context.Context, s *session, in requestInputs, given string) error {
	r, err := in.request("key csr")
	if err != nil {
		return err
	}
	key, about, err := in.open(ctx, s, "key csr", given)
	if err != nil {
		return err
	}
	der, err := certchain.CreateRequest(certificateSigner{ctx, key}, r)
	if err != nil {
		return key.spent(in.refused("key csr", err))
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	out := ui.Request{Out: in.out, Subject: r.Subject.String(), SANs: r.SANs, Key: about, PKCS1: r.PKCS1, Calls: key.uses(), PEM: string(text)}
	return in.give(s, product{
		kind: "key-csr", value: out, text: text, screen: func(w io.Writer) { ui.KeyRequest(w, out) },
		hint: "send it to a CA: it asks for digitalSignature and codeSigning; " +
			"put together what comes back: imprint chain build FILE… --key KEY --out chain.pem",
	})
}

func newKeySelfSign(s *session) *cobra.Command {
	in := struct {
		requestInputs
		validFor duration
	}{validFor: duration(365 * 24 * time.Hour)}
	c := &cobra.Command{
		Use:   "self-sign KEY",
		Short: "a self-signed signing certificate for a key, wherever it lives",
		Long: `Writes a self-signed certificate that verifiers of the Notary Project accept as a chain of one. Whoever trusts it pins exactly this
certificate, so its successor has to be handed out again: with many verifiers a CA is less work. It uses the key once.`,
		Example: `  imprint key self-sign release.key --subject "C=DE, ST=BE, O=Acme, CN=release" --out release.pem
  imprint sign oci:app:1.0 --key release.key --chain release.pem`,
		Args:        arguments(1, 1, "KEY"),
		Annotations: map[string]string{exits: keyExits},
		RunE: s.run(func(ctx context.Context, args []string) error {
			return runKeySelfSign(ctx, s, in.requestInputs, time.Duration(in.validFor), args[0])
		}),
	}
	in.bind(c)
	c.Flags().Var(&in.validFor, "valid-for", "it ends after `DURATION`, as 90d")
	return c
}

func runKeySelfSign(ctx context.Context, s *session, in requestInputs, validFor time.Duration, given string) error {
	r, err := in.request("key self-sign")
	if err != nil {
		return err
	}
	key, about, err := in.open(ctx, s, "key self-sign", given)
	if err != nil {
		return err
	}
	cert, err := certchain.SelfSign(certificateSigner{ctx, key}, r, s.now, validFor)
	if err != nil {
		return key.spent(in.refused("key self-sign", err))
	}
	text := certchain.Chain{cert}.PEM()
	out := ui.SelfSigned{Out: in.out, SANs: r.SANs, Key: about, Certificate: certchain.Describe(cert), Calls: key.uses(), PEM: string(text)}
	return in.give(s, product{
		kind: "key-self-sign", value: out, text: text, screen: func(w io.Writer) { ui.KeySelfSign(w, out, s.now.Truncate(time.Second)) },
		hint: "sign with it: --chain FILE; whoever is to accept the signatures trusts exactly this certificate: --root FILE",
	})
}

// request checks what the flags ask for, before the key is opened and anybody is asked for a passphrase.
func (in requestInputs) request(doing string) (certchain.Request, error) {
	const hint = `--subject "C=DE, ST=BE, O=Acme, CN=release": trust policies name a signer by C, ST and O`
	if in.subject == "" {
		return certchain.Request{}, usageHint(hint, "%s: no subject to ask for", doing)
	}
	subject, err := certchain.ParseName(in.subject)
	if err != nil {
		return certchain.Request{}, misused(hint, fmt.Errorf("%s: --subject %q: %w", doing, in.subject, err))
	}
	r := certchain.Request{Subject: subject, SANs: in.sans, PKCS1: in.pkcs1}
	if err := r.Check(); err != nil {
		if reason(err) == "incomplete-subject" {
			err = fmt.Errorf("--subject %q: %w", in.subject, err)
		}
		return r, in.refused(doing, err)
	}
	if in.out == "" {
		return r, nil
	}
	return r, writable(in.out, in.overwrite)
}

// open opens a key that can sign what is asked for.
func (in requestInputs) open(ctx context.Context, s *session, doing, given string) (meteredKey, ui.Key, error) {
	key, err := in.key.openURI(ctx, s, given)
	if err != nil {
		return meteredKey{}, ui.Key{}, err
	}
	about, err := aboutKey(key, given)
	if err != nil {
		return meteredKey{}, ui.Key{}, err
	}
	_, isRSA := key.Public().(*rsa.PublicKey)
	name, hint := keyName(key, given), ""
	switch {
	case about.Envelopes:
		hint = "such a plugin brings its certificates with each signature: imprint sign REF --key " + ui.ShellWord(about.Key)
		err = fmt.Errorf("%s %s: it makes whole signature envelopes, and signs nothing else", doing, name)
	case in.pkcs1 && !isRSA:
		hint = "leave --pkcs1 out"
		err = fmt.Errorf("%s %s: --pkcs1 is for RSA keys, and this one is %s", doing, name, about.Spec)
	case in.pkcs1 && !about.PKCS1:
		hint = "leave --pkcs1 out: the request is signed with PSS, which current CAs and openssl read"
		err = fmt.Errorf("%s %s: --pkcs1: %s signs with this key by PSS alone", doing, name, serviceOf(key))
	default:
		return meter(key, about), about, nil
	}
	return meteredKey{}, ui.Key{}, usageHint(hint, "%w", err)
}

// refused says why there is no certificate: the request breaks a rule, or the key failed.
func (in requestInputs) refused(doing string, err error) error {
	err = fmt.Errorf("%s: %w", doing, err)
	switch reason(err) {
	case "incomplete-subject":
		return misused(`--subject "C=DE, ST=BE, O=Acme, CN=release": trust policies name a signer by C, ST and O`, err)
	case "alternative-name":
		return misused("a name is written uri:https://…, dns:name, email:a@b or ip:192.0.2.1", err)
	case "validity-duration":
		return misused("--valid-for 365d", err)
	}
	return err
}

// A product is what a command has made of a key.
type product struct {
	kind   string // of the answer
	value  any
	text   []byte // PEM
	screen func(io.Writer)
	hint   string // what to do with the text
}

// give answers with the text itself, or with what was written where.
func (in requestInputs) give(s *session, p product) error {
	if in.out != "" {
		if err := s.write(in.out, p.text, 0o644, in.overwrite); err != nil {
			return err
		}
		return s.answer(p.kind, p.value, p.screen)
	}
	if err := s.answer(p.kind, p.value, func(w io.Writer) { w.Write(p.text) }); err != nil {
		return err
	}
	if !s.json {
		s.note("%s", p.hint)
	}
	return nil
}
