package kms_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/kms"
)

const (
	keyID    = "1234abcd-12ab-34cd-56ef-1234567890ab"
	keyARN   = "arn:aws:kms:eu-central-1:123456789012:key/" + keyID
	aliasARN = "arn:aws:kms:us-east-1:123456789012:alias/Rel"
	gcpKey   = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/K"
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
		"pkcs11:object=a?module-path=/opt/c++/a%20b.so":           {"pkcs11", "pkcs11:object=a?module-path=/opt/c%2B%2B/a%20b.so"},
		"pkcs11:object=a?pin-source=file:/run/pin":                {"pkcs11", "pkcs11:object=a?pin-source=file:/run/pin"},
		"plugin:com.example.plugin?id=key%2F1":                    {"plugin", "plugin:com.example.plugin?id=key%2F1"},
		"yubikey:9c":                                              {"yubikey", "yubikey:9c"},

		// What other tools write, row by row.
		"awskms://localhost:4566/" + keyID:                     {"awskms", "awskms:///" + keyID + "?endpoint=https%3A%2F%2Flocalhost%3A4566"},
		"awskms://localhost:4566/" + keyARN:                    {"awskms", "awskms:///" + keyARN + "?endpoint=https%3A%2F%2Flocalhost%3A4566"},
		"awskms:///" + aliasARN:                                {"awskms", "awskms:///" + aliasARN},
		"awskms://localhost:4566/" + aliasARN:                  {"awskms", "awskms:///" + aliasARN + "?endpoint=https%3A%2F%2Flocalhost%3A4566"},
		"arn:aws-cn:kms:cn-north-1:123456789012:key/" + keyID:  {"awskms", "awskms:///arn:aws-cn:kms:cn-north-1:123456789012:key/" + keyID},
		"awskms:key-id=alias/Rel;region=eu-west-1?profile=p":   {"awskms", "awskms:///alias/Rel?profile=p&region=eu-west-1"},
		"awskms:key-id=" + keyARN:                              {"awskms", "awskms:///" + keyARN},
		"AWSKMS:/alias/Rel":                                    {"awskms", "awskms:///alias/Rel"},
		"cloudkms:" + gcpKey + "/cryptoKeyVersions/1":          {"gcpkms", "gcpkms://" + gcpKey + "/cryptoKeyVersions/1"},
		"cloudkms:resource=" + gcpKey + "/cryptoKeyVersions/1": {"gcpkms", "gcpkms://" + gcpKey + "/cryptoKeyVersions/1"},
		gcpKey: {"gcpkms", "gcpkms://" + gcpKey},
		"gcpkms://projects/example.com:p/locations/l/keyRings/r/cryptoKeys/k": {"gcpkms", "gcpkms://projects/example.com:p/locations/l/keyRings/r/cryptoKeys/k"},
		"azurekeyvault://v.vault.azure.net/keys/key":                          {"azurekms", "azurekms://v.vault.azure.net/key"},
		"azurekeyvault://v.vault.azure.net/keys/key/0a1b":                     {"azurekms", "azurekms://v.vault.azure.net/key/0a1b"},
		"azurekms:name=key;vault=v":                                           {"azurekms", "azurekms://v.vault.azure.net/key"},
		"https://V.vault.azure.net/keys/K/N":                                  {"azurekms", "azurekms://v.vault.azure.net/K/N"},
		"https://v.vault.azure.net/certificates/key":                          {"azurekms", "azurekms://v.vault.azure.net/key?chain=certificate"},
		"azurekms://v.vault.azure.net/keys":                                   {"azurekms", "azurekms://v.vault.azure.net/keys"},
		"azurekms://v.vault.azure.net/keys/0123456789abcdef0123456789abcdef":  {"azurekms", "azurekms://v.vault.azure.net/keys/0123456789abcdef0123456789abcdef"},
		"openbao://a-b.c_D":                                                   {"openbao", "openbao://a-b.c_D"},
		"https://vault:8200/v1/transit/keys/K":                                {"hashivault", "hashivault://K?addr=https%3A%2F%2Fvault%3A8200&mount=transit"},
		"http://[::1]:8200/v1/a/keys/b/keys/K":                                {"hashivault", "hashivault://K?addr=http%3A%2F%2F%5B%3A%3A1%5D%3A8200&mount=a%2Fkeys%2Fb"},
		"pkcs11:token=t;slot-id=1;id=%01%ff;object=o?module-path=/m.so":       {"pkcs11", "pkcs11:token=t;slot-id=1;id=%01%ff;object=o?module-path=/m.so"},
		"pkcs11:token=t;serial=1;object=o?pin-source=/pin":                    {"pkcs11", "pkcs11:token=t;serial=1;object=o?pin-source=/pin"},
		"pkcs11:object=o?module-name=p11-kit-proxy":                           {"pkcs11", "pkcs11:object=o?module-name=p11-kit-proxy"},

		// One key has one canonical form, however much of it is percent-encoded.
		"awskms:///%61lias%2FRel":                                     {"awskms", "awskms:///alias/Rel"},
		"gcpkms://projects/p%2Flocations/l/keyRings/r/cryptoKeys/%6b": {"gcpkms", "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k"},
		"azurekms://v.vault.azure.net/%6bey":                          {"azurekms", "azurekms://v.vault.azure.net/key"},
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
		"http://v.vault.azure.net/keys/a":          "https://VAULT.vault.azure.net",
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
		"pkcs11:":                                  "names no key",
		"awskms:":                                  "names no key",
		"arn:aws:s3:::bucket":                      "arn:aws:s3:::bucket is no ARN of a key",
		"plugin:":                                  "no plugin",
		"plugin:../x?id=a":                         "no plugin",
		"plugin:x":                                 "no key",
		"plugin:x?id=a&id=b":                       "one value",

		// What other tools write and nobody can do with here.
		"awskms:alias/Rel":                                  "awskms:///alias/Rel",
		"awskms:" + keyARN + "?profile=p":                   "awskms:///" + keyARN + "?profile=p",
		"awskms:region=r":                                   "key-id=",
		"awskms://" + keyID + "?region=r":                   "awskms:///" + keyID + "?region=r",
		"awskms://alias/a?region=r":                         "awskms:///alias/a?region=r",
		"awskms:///alias/a?awssdk=v2":                       `"awssdk"`,
		"gcpkms:///" + gcpKey:                               "gcpkms://projects/P",
		"cloudkms:" + gcpKey + "?credentials-file=x":        "no key",
		"azurekms://v.vault.azure.net/keys/key":             "azurekms://v.vault.azure.net/key",
		"azurekms://v.vault.azure.net/keys/key/0a1b":        "azurekms://v.vault.azure.net/key/0a1b",
		"azurekms://v.vault.azure.net/certificates/key":     "https://v.vault.azure.net/certificates/key",
		"azurekeyvault://v.vault.azure.net/secrets/key/1":   "no key",
		"azurekms:name=k":                                   "no host",
		"http://v.vault.azure.net/keys/key":                 "https://VAULT.vault.azure.net/keys/NAME",
		"hashivault://key?engine=transit":                   "mount",
		"https://vault/v1/transit/sign/key":                 "https://HOST/v1/MOUNT/keys/NAME",
		"pkcs11:module-path=/m.so;token=t;id=2000;object=k": "?module-path=",
		"pkcs11:object=o?max-sessions=5":                    `"max-sessions"`,
		"pkcs11:object=o?pin-prompt=x":                      `"pin-prompt"`,

		// What ends in a host name, in a header, on a terminal or in a command that is recommended.
		"awskms:///alias/a?region=evil.example/":                       "no region",
		"awskms:///alias/a?region=evil.example%23":                     "no region",
		"awskms:key-id=alias/a;region=evil.example%2F":                 "no region",
		"awskms:///alias/a?profile=a%0ab":                              "control",
		"awskms:///alias/a?profile=%ff":                                "control",
		"awskms:///alias/a?profile=a%E2%80%AEb":                        "control",
		"awskms:///alias/a?endpoint=https://h?":                        "query",
		"awskms:///alias/a?endpoint=https://:80":                       "no http",
		"hashivault://key?namespace=a%0d%0aX-Vault-Token: b":           "control",
		"hashivault://key?namespace=%1b[2J":                            "control",
		"plugin:x?id=a%0ab":                                            "control",
		"a\u202eb.key":                                                 "control",
		"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/$(id)":  "no key",
		"gcpkms://projects/p;id/locations/l/keyRings/r/cryptoKeys/k":   "no key",
		"gcpkms://projects/p/locations/l/keyRings/../cryptoKeys/k":     "no key",
		"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/a%20b":  "no key",
		"azurekms://$(id).vault.azure.net/key":                         "no host",
		"azurekms://v;id.vault.azure.net/key":                          "no host",
		"azurekms://a.b.vault.azure.net/key":                           "no host",
		"azurekms://\u212a.vault.azure.net/key":                        "no host", // the Kelvin sign, whose lower case is k
		"azurekms:vault=v;name=k%3Fchain%3Dsecret":                     "no key",
		"awskms:key-id=alias/a%3Fendpoint%3Dhttp%3A%2F%2Fevil.example": "no key",
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
		"https://v.vault.azure.net/keys/a?sig=s3cret",
		"https://host.example/a?token=s3cret",
		"https://host.example/v1/transit/sign/a?token=s3cret",
		"gcpkms://projects/p?token=s3cret",
		"cloudkms:resource=" + gcpKey + "?token=s3cret",
		"awskms:///a?endpoint=https://user:s3cret@host",
		"awskms:alias/a?endpoint=https://user:s3cret@host",
		"awskms://alias/a?endpoint=https://user:s3cret@host",
		"awskms:key-id=a?endpoint=https://user:s3cret@host",
		"hashivault://key/1?addr=https://user:s3cret@host",
		"hashivault://key?mount=..&addr=https://user:s3cret@host",
		"awskms://host/alias/a?endpoint=https://user:s3cret@host",
		"azurekms://host/key?token=s3cret",
		"plugin:../a?id=b&token=s3cret",
	} {
		_, err := kms.ParseURI(in)
		if err == nil {
			t.Errorf("%s is accepted", in)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the secret is repeated: %v", err)
		} else if strings.Contains(in, "?pin-value=") && !strings.Contains(err.Error(), "contains a PIN: use pin-source=FILE") {
			t.Errorf("%s: it does not say where a PIN belongs: %v", in, err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"release.key", "file:a%20b", "awskms:///alias/a?region=r", keyARN, gcpKey, "azurekms:vault=v;name=k",
		"https://vault:8200/v1/a/keys/k", "pkcs11:token=a;id=%01", "plugin:x?id=a", "a:b?c#d", "file:///%2e", "x:", "//a", "awskms:?#", "Arn:aws0",
		"azurekeyvault://v.vault.azure.net/keys/k", "awskms:///%61lias/a", "pkcs11:a?module-path=/c++/a b", "hashivault://k?addr=http://[::1]:1&mount=a/b"} {
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
