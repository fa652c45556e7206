package e2e

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

func TestCasesVerifyIdentity(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	oidO, oidCN := asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{2, 5, 4, 3}
	utf8 := func(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(s)} }
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	rdns := func(sets ...[]attribute) func(c *x509.Certificate) {
		var fields []asn1.RawValue
		for _, s := range sets {
			b, err := asn1.MarshalWithParams(s, "set")
			if err != nil {
				panic(err)
			}
			fields = append(fields, asn1.RawValue{FullBytes: b})
		}
		return func(c *x509.Certificate) { c.RawSubject = sequence(fields) }
	}
	named := func(o string) func(c *x509.Certificate) {
		return certtest.Subject(pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{o}, CommonName: "x"})
	}
	const acme = "C=US, ST=WA, O=Acme"
	for name, c := range map[string]struct {
		subject  func(c *x509.Certificate)
		identity string
		code     int
		reason   string
	}{
		"V28 exact":                       {named("Acme"), acme, 0, ""},
		"V28 escaped comma":               {named("Acme, Inc"), acme, 1, "identity-mismatch"},
		"V28 escaped comma, named so":     {named("Acme, Inc"), `C=US, ST=WA, O=Acme\, Inc`, 0, ""},
		"V28 lower case":                  {named("acme"), acme, 1, "identity-mismatch"},
		"V28 trailing space":              {named("Acme "), acme, 1, "identity-mismatch"},
		"V27 equals and hash in a value":  {named("=#Acme"), acme, 1, "identity-mismatch"},
		"V27 attributes inside a value":   {named("Evil, C=US, ST=WA, O=Acme"), acme, 1, "identity-mismatch"},
		"V27 homoglyph":                   {named("Аcme"), acme, 1, "identity-mismatch"}, // Cyrillic
		"V27 embedded NUL":                {named("Acme\x00"), acme, 1, "identity-mismatch"},
		"V27 duplicated O":                {rdns([]attribute{{oidO, utf8("Acme")}}, []attribute{{oidO, utf8("Evil")}}, []attribute{{oidCN, utf8("x")}}), "O=Acme", 1, "identity-mismatch"},
		"V27 BMPString":                   {rdns([]attribute{{oidO, asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte("\x00A\x00c\x00m\x00x")}}}), "O=Acme", 1, "identity-mismatch"},
		"V27 T61String":                   {rdns([]attribute{{oidO, asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte("Acm\xe9")}}}), "O=Acmé", 1, "identity-mismatch"},
		"V27 multi-valued RDN":            {rdns([]attribute{{oidO, utf8("Acme")}, {oidCN, utf8("x")}}), "O=Acme, CN=y", 1, "identity-mismatch"},
		"V27 hex value in the policy":     {named("Acme"), "C=US, ST=WA, O=#0c0441636d65", 0, ""},
		"V27 broken escape in the policy": {named("Acme"), `O=Acme\`, 3, ""},
		"V27 no value in the policy":      {named("Acme"), "O", 3, ""},
		"V27 duplicated O in the policy":  {named("Acme"), "O=Acme, O=Acme", 3, ""},
		"V27 unknown type in the policy":  {named("Acme"), "ORGANISATION=Acme", 3, ""},
		"V27 a megabyte in the policy":    {named("Acme"), "O=" + strings.Repeat("A", 1<<20), 3, ""},
		"V27 empty in the policy":         {named("Acme"), "", 3, ""},
		"V27 hex that is no value":        {named("Acme"), "O=#zz", 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			f.attach(d.repo, d.subject, jwsType, newJWS(d.key, d.ca.Chain(d.ca.Leaf(d.key.Public(), "x", c.subject)), d.subject).bytes())
			o := d.want(t, c.code, c.reason, d.verify("--identity", c.identity)...)
			if c.code == 3 && o.field(t, "reason") == "" {
				t.Error("no reason code")
			}
		})
	}

	t.Run("V27 a DN of a megabyte", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		leaf := d.ca.Leaf(d.key.Public(), strings.Repeat("x", 60<<10))
		f.attach(d.repo, d.subject, jwsType, newJWS(d.key, d.ca.Chain(leaf), d.subject).bytes())
		d.run(t, d.verify("--identity", acme)...)
		d.want(t, 1, "identity-mismatch", d.verify("--identity", acme)...)
	})

	// V29: nothing to trust is an error of what was handed in, never acceptance.
	for name, c := range map[string]struct{ file, reason string }{
		"an empty root file":               {"", "no-certificates"},
		"a root file without certificates": {"# none\n", "malformed-certificates"},
		"a leaf as root":                   {"leaf", "policy-root-invalid"},
	} {
		t.Run("V29 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
			file := c.file
			if file == "leaf" {
				file = string(certtest.PEM(d.leaf))
			}
			root := d.file("bad.pem", []byte(file))
			d.want(t, 3, c.reason, "verify", d.ref, "--root", root)
		})
	}
	for name, c := range map[string]struct{ policy, reason string }{
		"no roots":       {"version: 1\nroots: {}\nscopes: {\"*\": []}\n", "policy-value"},
		"an empty list":  {"version: 1\nroots: {org: root.pem}\nscopes: {\"*\": []}\n", "policy-rule"},
		"an empty root":  {"version: 1\nroots: {org: {certificates: []}}\nscopes: {\"*\": [org]}\n", "policy-value"},
		"an empty file":  {"version: 1\nroots: {org: empty.pem}\nscopes: {\"*\": [org]}\n", "policy-root-unreadable"},
		"an empty scope": {"version: 1\nroots: {org: root.pem}\nscopes: {\"*\": {}}\n", "policy-rule"},
		"nothing":        {"", "policy-syntax"},
	} {
		t.Run("V29 a policy with "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
			d.file("empty.pem", nil)
			d.want(t, 3, c.reason, "verify", d.ref, "--policy", d.file("policy.yaml", []byte(c.policy)))
		})
	}

	// V30: a signature covers the digest that it names and no other, neither index nor child.
	t.Run("V30 only the child is signed", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		i := index(t.Name())
		d.subject = f.putArtifact(d.repo, "v1", i)
		child := i.children[1].descriptor
		f.attach(d.repo, child, jwsType, newJWS(d.key, d.chain(), child).bytes())
		o := d.want(t, 1, "unsigned", d.verify()...)
		if !strings.Contains(o.field(t, "detail"), child.Digest.String()) {
			t.Errorf("the child is not named: %s", o.field(t, "detail"))
		}
		d.want(t, 0, "", "verify", f.Host+"/"+d.repo+"@"+child.Digest.String(), "--root", d.at("root.pem"))
		// Its signature, hung on the index.
		f.attach(d.repo, d.subject, jwsType, newJWS(d.key, d.chain(), child).bytes())
		o = d.want(t, 1, "payload-mismatch", d.verify()...)
		if !strings.Contains(o.stdout, child.Digest.String()) || !strings.Contains(o.field(t, "signatures.0.detail"), "index") {
			t.Errorf("the child is not named: %s", o.field(t, "signatures.0.detail"))
		}
	})
	t.Run("V30 only the index is signed", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		i := index(t.Name())
		d.subject = f.putArtifact(d.repo, "v1", i)
		f.attach(d.repo, d.subject, jwsType, newJWS(d.key, d.chain(), d.subject).bytes())
		d.want(t, 0, "", d.verify()...)
		d.want(t, 1, "unsigned", "verify", f.Host+"/"+d.repo+"@"+i.children[0].descriptor.Digest.String(), "--root", d.at("root.pem"))
	})
}
