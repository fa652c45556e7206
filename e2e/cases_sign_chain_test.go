package e2e

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

func TestCasesSignChain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	now, year := time.Now(), 365*24*time.Hour

	// A05: the leaf breaks a rule.
	for name, c := range map[string]struct {
		edit certtest.Edit
		rule string
	}{
		"CA":           {func(c *x509.Certificate) { c.IsCA = true }, "leaf-basic-constraints"},
		"no key usage": {func(c *x509.Certificate) { c.KeyUsage = 0 }, "leaf-key-usage"},
		"key usage not critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension("keyUsage", false, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1})}
		}, "leaf-key-usage"},
		"key encipherment too": {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, "leaf-key-usage"},
		"certificate signing":  {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "leaf-key-usage"},
		"CRL signing":          {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, "leaf-key-usage"},
		"no digital signature": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, "leaf-key-usage"},
		"any extended usage":   {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "leaf-extended-key-usage"},
		"server authentication": {func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageServerAuth}
		}, "leaf-extended-key-usage"},
		"server authentication only": {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "leaf-extended-key-usage"},
		"time stamping":              {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }, "leaf-extended-key-usage"},
		"OCSP signing":               {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }, "leaf-extended-key-usage"},
		"signed with SHA-1":          {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }, "signature-algorithm"},
	} {
		t.Run("A05 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.file("chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(d.key.Public(), "bent", c.edit))...))
			d.refused(t, 3, c.rule, d.sign()...)
		})
	}

	// A06: certificates that make no exact chain. What is missing, unrelated, doubled or out of date is named.
	for name, c := range map[string]struct {
		chain func(d *desk) []*x509.Certificate
		code  int
		rule  string
	}{
		"without its root": {func(d *desk) []*x509.Certificate { return []*x509.Certificate{d.leaf, d.ca.Certificate} }, 3, "incomplete"},
		"the leaf alone":   {func(d *desk) []*x509.Certificate { return []*x509.Certificate{d.leaf} }, 3, "incomplete"},
		"a gap":            {func(d *desk) []*x509.Certificate { return []*x509.Certificate{d.leaf, d.root.Certificate} }, 3, "incomplete"},
		"shuffled": {func(d *desk) []*x509.Certificate {
			return []*x509.Certificate{d.root.Certificate, d.leaf, d.ca.Certificate}
		}, 0, ""},
		"an unrelated extra": {func(d *desk) []*x509.Certificate {
			return append(d.ca.Chain(d.leaf), certtest.Root("stranger").Certificate)
		}, 3, "unrelated"},
		"the root twice": {func(d *desk) []*x509.Certificate { return append(d.ca.Chain(d.leaf), d.root.Certificate) }, 3, "duplicate"},
		"expired leaf": {func(d *desk) []*x509.Certificate {
			return d.ca.Chain(d.ca.Leaf(d.key.Public(), "old", certtest.Valid(now.Add(-year), now.Add(-time.Hour))))
		}, 3, "expired"},
		"not yet valid leaf": {func(d *desk) []*x509.Certificate {
			return d.ca.Chain(d.ca.Leaf(d.key.Public(), "new", certtest.Valid(now.Add(time.Hour), now.Add(year))))
		}, 3, "not-yet-valid"},
		"expired intermediate": {func(d *desk) []*x509.Certificate {
			ca := d.root.Intermediate("old CA", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
			return ca.Chain(ca.Leaf(d.key.Public(), "leaf"))
		}, 3, "expired"},
		"expired root": {func(d *desk) []*x509.Certificate {
			root := certtest.Root("old root", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
			return root.Chain(root.Leaf(d.key.Public(), "leaf"))
		}, 3, "expired"},
		"a loop of cross-signs": {func(d *desk) []*x509.Certificate {
			// Two authorities that certify each other, and no root.
			a, b := certtest.Root("loop A"), certtest.Root("loop B")
			ab, ba := b.IntermediateWith(a.Key, "loop A"), a.IntermediateWith(b.Key, "loop B")
			return []*x509.Certificate{a.Leaf(d.key.Public(), "leaf"), ab.Certificate, ba.Certificate}
		}, 3, "loop"},
	} {
		t.Run("A06 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.file("chain.pem", certtest.PEM(c.chain(d)...))
			if c.code == 0 {
				d.want(t, 0, "", d.sign()...)
				d.want(t, 0, "", "verify", d.ref, "--root", d.at("root.pem"))
				return
			}
			d.refused(t, c.code, c.rule, d.sign()...)
		})
	}

	// A07: what a file of certificates may hold.
	for name, c := range map[string]struct {
		file func(d *desk, chain []byte) []byte
		code int
		rule string
	}{
		"CRLF":            {func(_ *desk, b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }, 0, ""},
		"byte order mark": {func(_ *desk, b []byte) []byte { return append([]byte("\ufeff"), b...) }, 0, ""},
		"text between": {func(_ *desk, b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("-----BEGIN"), []byte("a comment\n-----BEGIN"))
		}, 0, ""},
		"a private key too":               {func(d *desk, b []byte) []byte { return append(b, certtest.KeyPEM(d.key)...) }, 3, "private-key"},
		"a private key first":             {func(d *desk, b []byte) []byte { return append(certtest.KeyPEM(d.key), b...) }, 3, "private-key"},
		"a megabyte of garbage":           {func(*desk, []byte) []byte { return bytes.Repeat([]byte("-----BEGIN "), 1<<20/11) }, 3, "malformed-certificates"},
		"a megabyte of unfinished blocks": {func(*desk, []byte) []byte { return bytes.Repeat([]byte("-----BEGIN CERTIFICATE-----\n"), 1<<20/28) }, 3, "too-many-certificates"},
		"more than a megabyte":            {func(_ *desk, b []byte) []byte { return append(b, bytes.Repeat([]byte("\n"), 1<<20)...) }, 3, "usage"},
		"10,000 certificates":             {func(d *desk, _ []byte) []byte { return bytes.Repeat(certtest.PEM(d.leaf), 10_000) }, 3, "usage"},
		"a megabyte of certificates": {func(d *desk, _ []byte) []byte {
			one := certtest.PEM(d.leaf)
			return bytes.Repeat(one, 1<<20/len(one))
		}, 3, "too-many-certificates"},
		"a megabyte of certificates, DER": {func(d *desk, _ []byte) []byte { return bytes.Repeat(d.leaf.Raw, 1<<20/len(d.leaf.Raw)) }, 3, "too-many-certificates"},
		"17 certificates": {func(d *desk, b []byte) []byte {
			for range 14 {
				b = append(b, certtest.PEM(certtest.Root("many").Certificate)...)
			}
			return b
		}, 3, "too-many-certificates"},
		"empty":   {func(*desk, []byte) []byte { return nil }, 3, "no-certificates"},
		"garbage": {func(*desk, []byte) []byte { return []byte("no certificates here") }, 3, "malformed-certificates"},
	} {
		t.Run("A07 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			b, _ := os.ReadFile(d.at("chain.pem"))
			d.file("chain.pem", c.file(d, b))
			if c.code == 0 {
				d.want(t, 0, "", d.sign()...)
				return
			}
			began := time.Now()
			d.refused(t, c.code, c.rule, d.sign()...)
			if time.Since(began) > 10*time.Second {
				t.Errorf("it took %s", time.Since(began))
			}
		})
	}
}
