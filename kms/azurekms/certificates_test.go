package azurekms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/azuretest"
)

// certified returns the chain of a key: leaf, CA, root.
func certified(key crypto.Signer) []*x509.Certificate {
	ca := certtest.Root("root").Intermediate("ca")
	return ca.Chain(ca.Leaf(key.Public(), "release"))
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	const asCertificate, asSecret = "?chain=certificate", "?chain=secret"
	for name, tt := range map[string]struct {
		at     string // "": a vault
		chain  string
		set    func(w *world, v *azuretest.Version)
		want   int    // certificates, leaf first
		reason string // "": no error
		says   string
		remedy string
		warns  bool
	}{
		"found without asking":       {want: 1},
		"asked for":                  {chain: asCertificate, want: 1},
		"none, without asking":       {set: func(_ *world, v *azuretest.Version) { v.Certificates = nil }},
		"none":                       {chain: asCertificate, set: func(_ *world, v *azuretest.Version) { v.Certificates = nil }, reason: "key-not-found", says: "CertificateNotFound", remedy: "az keyvault certificate list-versions"},
		"denied, without asking":     {set: faulty(azuretest.CertificateGet, azuretest.Denied)},
		"denied":                     {chain: asCertificate, set: faulty(azuretest.CertificateGet, azuretest.DeniedByPolicy), reason: "key-denied", says: "certificates/get at ", remedy: `allow certificates/get: assign the role "Key Vault Reader"`},
		"failing":                    {set: faulty(azuretest.CertificateGet, azuretest.Garbage), reason: "key-service", says: "cannot be read"},
		"throttled twice":            {set: func(w *world, _ *azuretest.Version) { w.Fault(times(azuretest.CertificateGet, azuretest.Throttled, 2)) }, want: 1},
		"another version":            {set: faulty(azuretest.CertificateGet, azuretest.OtherVersion), reason: "key-service", says: "was asked for /certificates/k/"},
		"another version, asked for": {chain: asCertificate, set: faulty(azuretest.CertificateGet, azuretest.OtherVersion), reason: "key-service", says: "was asked for /certificates/k/"},
		"of another key version": {set: object("kid", "https://v.vault.azure.net/keys/k/0123456789abcdef0123456789abcdef"), reason: "key-service",
			says: "the certificate is of another key"},
		"without a kid": {set: object("kid", nil), reason: "key-service"},
		"of another key": {set: func(_ *world, v *azuretest.Version) { v.Certificates = certified(certtest.Key("P-256")) }, reason: "key-service",
			says: "a certificate of another key"},
		"no certificate in it": {set: object("cer", base64.StdEncoding.EncodeToString([]byte("x"))), reason: "key-service", says: "no certificate"},
		"no base64 in it":      {set: object("cer", "%%%"), reason: "key-service"},
		"in an HSM":            {at: hsm},

		"secret":                          {chain: asSecret, want: 3},
		"secret with the key":             {chain: asSecret, set: func(_ *world, v *azuretest.Version) { v.Exportable = true }, want: 3, warns: true},
		"secret as PKCS #12":              {chain: asSecret, set: func(_ *world, v *azuretest.Version) { v.Exportable, v.PFX = true, true }, want: 3, warns: true},
		"secret as PEM, not converted":    {chain: asSecret, set: func(_ *world, v *azuretest.Version) { v.Exportable, v.Converts = true, false }, want: 3, warns: true},
		"secret as PKCS #12, as it is":    {chain: asSecret, set: func(_ *world, v *azuretest.Version) { v.PFX, v.Converts = true, false }, reason: "key-service", says: "no PEM text", remedy: "openssl pkcs12 -in c.pfx -nokeys", warns: true},
		"secret denied":                   {chain: asSecret, set: faulty(azuretest.SecretGet, azuretest.Denied), reason: "key-denied", says: "secrets/get at ", remedy: `"Key Vault Secrets User"`},
		"secret of another version":       {chain: asSecret, set: faulty(azuretest.SecretGet, azuretest.OtherVersion), reason: "key-service", says: "was asked for /secrets/k/"},
		"secret that cannot be read":      {chain: asSecret, set: faulty(azuretest.SecretGet, azuretest.Garbage), reason: "key-service", says: "cannot be read"},
		"secret of nothing":               {chain: asSecret, set: object("value", nil), reason: "key-service", says: "is empty"},
		"secret with a wrong certificate": {chain: asSecret, set: object("value", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), reason: "key-service", says: "certificate that is none", warns: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v := w.AddKey("k", certtest.Key("P-256"))
			v.Certificates = certified(v.Signer)
			all := v.Certificates
			if tt.at == "" {
				tt.at = plain
			}
			if tt.set != nil {
				w.Edit(func() { tt.set(w, v) })
			}
			var warnings []string
			k, err := w.open(t.Context(), tt.at+"k"+tt.chain, kms.Options{Warn: func(text string) { warnings = append(warnings, text) }})
			if err != nil {
				t.Fatal(err)
			}
			newer := w.AddKey("k", certtest.Key("P-256"))
			w.Edit(func() { newer.Certificates = certified(newer.Signer) })
			got, err := kms.Certificates(t.Context(), k)
			if tt.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !slices.EqualFunc(got, all[:tt.want], (*x509.Certificate).Equal) {
					t.Errorf("%d certificates", len(got))
				}
			} else {
				if err == nil {
					t.Fatalf("%d certificates", len(got))
				}
				if reason, remedy := failure(t, err); reason != tt.reason || !strings.Contains(err.Error(), tt.says) || !strings.Contains(remedy, tt.remedy) {
					t.Errorf("%s, %q: %v", reason, remedy, err)
				}
			}
			if warned := len(warnings) == 1 && strings.Contains(warnings[0], "private key"); warned != tt.warns || len(warnings) > 1 {
				t.Errorf("warnings: %q", warnings)
			}
			if tt.chain != asSecret && w.Calls(azuretest.SecretGet) != 0 {
				t.Error("the secret was read without being asked for")
			}
			if w.Calls(azuretest.KeysSign) != 0 {
				t.Error("something was signed")
			}
		})
	}
}

// object sets a member of the certificate object or secret, or removes it.
func object(member string, value any) func(*world, *azuretest.Version) {
	return func(_ *world, v *azuretest.Version) {
		v.Object = func(o map[string]any) {
			if o[member] = value; value == nil {
				delete(o, member)
			}
		}
	}
}

// A private key among certificates is skipped and told of.
func TestChainOf(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	text := slices.Concat(certtest.KeyPEM(key), certtest.PEM(certified(key)...))
	certs, private, err := chainOf(bytes.Clone(text))
	if err != nil || !private || len(certs) != 3 {
		t.Errorf("%d, %v, %v", len(certs), private, err)
	}
	if _, private, err := chainOf(certtest.KeyPEM(key)); err == nil || !private {
		t.Errorf("a key alone: %v, %v", private, err)
	}
	one := certtest.PEM(certified(key)[0])
	if certs, _, err := chainOf(bytes.Repeat(one, kms.MaxCertificates)); err != nil || len(certs) != kms.MaxCertificates {
		t.Errorf("%d, %v", len(certs), err)
	}
	if _, _, err := chainOf(bytes.Repeat(one, kms.MaxCertificates+1)); err == nil || !strings.Contains(err.Error(), "more than 32") {
		t.Errorf("too many: %v", err)
	}
	if _, _, err := chainOf(nil); err == nil {
		t.Error("nothing is a chain")
	}
}
