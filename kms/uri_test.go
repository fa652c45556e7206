package kms_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/kms"
)

const (
	keyID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	keyARN = "arn:aws:kms:eu-central-1:123456789012:key/" + keyID
	gcpKey = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/K"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct{ scheme, canonical string }{
		"release.key":                  {"", "release.key"},
		"./release":                    {"", "./release"},
		"keys/release":                 {"", "keys/release"},
		"/etc/keys/a key%20?#.pem":     {"", "/etc/keys/a key%20?#.pem"},
		`C:\keys\release.key`:          {"", `C:\keys\release.key`},
		`c:release.key`:                {"", `c:release.key`},
		`keys\release`:                 {"", `keys\release`},
		"./awskms:x":                   {"", "./awskms:x"},
		"file:release.key":             {"file", "file:release.key"},
		"file:/etc/release.key":        {"file", "file:/etc/release.key"},
		"file:///etc/release.key":      {"file", "file:/etc/release.key"},
		"file://localhost/release.key": {"file", "file:/release.key"},
		"file:a%20b":                   {"file", "file:a%20b"},
		"FILE:Release.key":             {"file", "file:Release.key"},

		"awskms:///alias/Release":                                 {"awskms", "awskms:///alias/Release"},
		"awskms:///" + keyID + "?region=eu-west-1":                {"awskms", "awskms:///" + keyID + "?region=eu-west-1"},
		"awskms:///mrk-0123456789abcdef0123456789abcdef":          {"awskms", "awskms:///mrk-0123456789abcdef0123456789abcdef"},
		"awskms:///" + keyARN:                                     {"awskms", "awskms:///" + keyARN},
		keyARN:                                                    {"awskms", "awskms:///" + keyARN},
		"arn:aws-us-gov:kms:r:123456789012:alias/a":               {"awskms", "awskms:///arn:aws-us-gov:kms:r:123456789012:alias/a"},
		"awskms:key-id=" + keyID + ";region=eu-west-1":            {"awskms", "awskms:///" + keyID + "?region=eu-west-1"},
		"awskms://localhost:4566/alias/a":                         {"awskms", "awskms:///alias/a?endpoint=https%3A%2F%2Flocalhost%3A4566"},
		"awskms:///alias/a?profile=p&region=r":                    {"awskms", "awskms:///alias/a?profile=p&region=r"},
		"gcpkms://" + gcpKey + "/cryptoKeyVersions/1":             {"gcpkms", "gcpkms://" + gcpKey + "/cryptoKeyVersions/1"},
		"gcpkms://" + gcpKey + "/versions/12":                     {"gcpkms", "gcpkms://" + gcpKey + "/cryptoKeyVersions/12"},
		"gcpkms://" + gcpKey:                                      {"gcpkms", "gcpkms://" + gcpKey},
		"cloudkms:" + gcpKey:                                      {"gcpkms", "gcpkms://" + gcpKey},
		"cloudkms:resource=" + gcpKey:                             {"gcpkms", "gcpkms://" + gcpKey},
		gcpKey + "/cryptoKeyVersions/1":                           {"gcpkms", "gcpkms://" + gcpKey + "/cryptoKeyVersions/1"},
		"azurekms://v.vault.azure.net/key":                        {"azurekms", "azurekms://v.vault.azure.net/key"},
		"azurekms://v.vault.azure.net/key/0a1b":                   {"azurekms", "azurekms://v.vault.azure.net/key/0a1b"},
		"azurekms:vault=v;name=key?version=0a1b":                  {"azurekms", "azurekms://v.vault.azure.net/key/0a1b"},
		"https://v.vault.azure.net/keys/key/0a1b":                 {"azurekms", "azurekms://v.vault.azure.net/key/0a1b"},
		"https://v.managedhsm.azure.net/keys/key":                 {"azurekms", "azurekms://v.managedhsm.azure.net/key"},
		"https://v.vault.azure.net/certificates/key/0a1b":         {"azurekms", "azurekms://v.vault.azure.net/key/0a1b?chain=certificate"},
		"azurekms://V.vault.azure.cn/Key?chain=secret":            {"azurekms", "azurekms://v.vault.azure.cn/Key?chain=secret"},
		"azurekms:vault=v;name=key?version=0a1b&hsm=true":         {"azurekms", "azurekms://v.managedhsm.azure.net/key/0a1b"},
		"azurekeyvault://v.vault.azure.net/key":                   {"azurekms", "azurekms://v.vault.azure.net/key"},
		"awskms://localhost:4566/alias/Rel":                       {"awskms", "awskms:///alias/Rel?endpoint=https%3A%2F%2Flocalhost%3A4566"},
		"awskms:///alias/a?endpoint=http://127.0.0.1:1&profile=p": {"awskms", "awskms:///alias/a?endpoint=http%3A%2F%2F127.0.0.1%3A1&profile=p"},
		"hashivault://my_key-1":                                   {"hashivault", "hashivault://my_key-1"},
		"openbao://key?version=3&mount=team/a":                    {"openbao", "openbao://key?mount=team%2Fa&version=3"},
		"https://vault:8200/v1/team/a/transit/keys/key":           {"hashivault", "hashivault://key?addr=https%3A%2F%2Fvault%3A8200&mount=team%2Fa%2Ftransit"},
		"pkcs11:token=YubiKey%20PIV;id=%02;type=private":          {"pkcs11", "pkcs11:token=YubiKey%20PIV;id=%02;type=private"},
		"pkcs11:object=a?module-path=/opt/c++/a%20b.so":           {"pkcs11", "pkcs11:object=a?module-path=%2Fopt%2Fc%2B%2B%2Fa%20b.so"},
		"pkcs11:object=a?pin-source=file:/run/pin":                {"pkcs11", "pkcs11:object=a?pin-source=file%3A%2Frun%2Fpin"},
		"plugin:com.example.plugin?id=key%2F1":                    {"plugin", "plugin:com.example.plugin?id=key%2F1"},
		"yubikey:9c":                                              {"yubikey", "yubikey:9c"},
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			u, err := kms.ParseURI(in)
			if err != nil {
				t.Fatal(err)
			}
			if u.Scheme != want.scheme || kms.Format(u) != want.canonical {
				t.Errorf("got %q %q, want %q %q", u.Scheme, kms.Format(u), want.scheme, want.canonical)
			}
		})
	}
	u, err := kms.ParseURI("file:///a%20b%2Fc")
	if err != nil || u.Path != "/a b/c" {
		t.Errorf("%q, %v", u, err)
	}
}

func TestParseURIRefuses(t *testing.T) {
	t.Parallel()
	for in, says := range map[string]string{
		"":                                         "empty",
		"release":                                  "./release",
		"a\nb.key":                                 "control",
		"\xff.key":                                 "UTF-8",
		strings.Repeat("a/", 3000):                 "4096",
		"-----BEGIN PRIVATE KEY-----":              "text of a key",
		"file:":                                    "no file",
		"file:a%00b":                               "no file",
		"file:a%zz":                                "no file",
		"file:a?b=c":                               "%3F",
		"file:a#b":                                 "%23",
		"file://release.key":                       "file:release.key",
		"file://host/release.key":                  "host",
		"awskms://alias/release":                   "awskms:///alias/release",
		"awskms://" + keyARN:                       "awskms:///" + keyARN,
		"awskms:///":                               "no key",
		"awskms:///nonsense here":                  "no key",
		"awskms:///alias/a?key=1":                  `"key"`,
		"awskms:///alias/a?region=":                "one value",
		"awskms:///alias/a?region=a&region=b":      "one value",
		"awskms:///" + keyARN + "?region=other":    "eu-central-1",
		"awskms:key-id=a;key-id=b":                 "twice",
		"awskms:///alias/a#b":                      "fragment",
		"gcpkms://projects/p/cryptoKeys/k":         "no key",
		"gcpkms://" + gcpKey + "/versions/latest":  "no key",
		"gcpkms://" + gcpKey + "/versions/0":       "no key",
		"azurekms://v.vault.azure.net":             "no key",
		"azurekms://v.vault.azure.net/a/b/c":       "no key",
		"azurekms:vault=v;nam=k":                   `"nam"`,
		"https://v.vault.azure.net/secrets/a":      "no key",
		"https://example.com/a":                    "Azure",
		"hashivault://":                            "no key",
		"hashivault://key/version":                 "no key",
		"hashivault://key?token=s3cret":            `"token"`,
		"azurekms://v/key":                         "azurekms://VAULT.vault.azure.net/NAME",
		"azurekms://.vault.azure.net/key":          "no host",
		"azurekms://evil.example/key":              "no host",
		"azurekms://v.vault.azure.net/key?chain=x": `"x"`,
		"azurekms:vault=v;name=k?hsm=maybe":        `"hsm"`,
		"awskms://h/alias/a?endpoint=https://i":    "two endpoints",
		"awskms:///alias/a?endpoint=h":             "no http",
		"hashivault://key?addr=h:1":                "no http",
		"hashivault://key?version=0":               "no version",
		"hashivault://key?version=latest":          "no version",
		"hashivault://key?mount=../sys":            "no mount",
		"hashivault://key?mount=/a":                "no mount",
		"pkcs11:object=a;color=red":                `"color"`,
		"pkcs11:":                                  "attribute",
		"plugin:":                                  "no plugin",
		"plugin:../x?id=a":                         "no plugin",
		"plugin:x":                                 "no key",
		"plugin:x?id=a&id=b":                       "one value",
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			u, err := kms.ParseURI(in)
			if !errors.Is(err, kms.ErrInvalid) || !strings.Contains(err.Error(), says) {
				t.Fatalf("%v, %v, want %q", u, err, says)
			}
			if reason(t, err) != "key-uri" {
				t.Error(reason(t, err))
			}
		})
	}
}

// A secret that somebody put into a URI is not repeated where it could be logged.
func TestParseURIRedacts(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"pkcs11:object=a?pin-value=s3cret",
		"pkcs11:object=a?pin-source=x&pin-value=s3cret",
		"pkcs11:object=a;pin-value=s3cret",
		"hashivault://user:s3cret@key",
		"https://user:s3cret@vault/v1/transit/keys/a",
		"https://user:s3cret@v.vault.azure.net:x/keys/a",
		"awskms://user:s3cret@localhost/alias/a",
		"other://user:s3cret@host/key",
		"hashivault://key?addr=https://user:s3cret@host",
		"awskms:///alias/a?endpoint=https://user:s3cret@host",
		"pkcs11:object=a?pin-value=s3cret&pin-source=b",
		"pkcs11:object=a?PIN-VALUE=s3cret",
		"pkcs11:object=a?pin%2Dvalue=s3cret",
	} {
		_, err := kms.ParseURI(in)
		if err == nil {
			t.Errorf("%s is accepted", in)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the secret is repeated: %v", err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"release.key", "file:a%20b", "awskms:///alias/a?region=r", keyARN, gcpKey, "azurekms:vault=v;name=k",
		"https://vault:8200/v1/a/keys/k", "pkcs11:token=a;id=%01", "plugin:x?id=a", "a:b?c#d", "file:///%2e", "x:", "//a", "awskms:?#", "Arn:aws0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := kms.ParseURI(s)
		if err != nil {
			if !errors.Is(err, kms.ErrInvalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		text := kms.Format(u)
		again, err := kms.ParseURI(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, text, err)
		}
		if kms.Format(again) != text || again.Scheme != u.Scheme || again.Path != u.Path {
			t.Fatalf("%q became %q, which became %q", s, text, kms.Format(again))
		}
	})
}
