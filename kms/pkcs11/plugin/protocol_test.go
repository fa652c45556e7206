package plugin_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/kms/pkcs11/plugin"
)

// smallRSA returns a key of 1024 bits, which package rsa neither makes nor checks any more.
func smallRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	e, one := big.NewInt(65537), big.NewInt(1)
	for {
		p, err := rand.Prime(rand.Reader, 512)
		if err != nil {
			t.Fatal(err)
		}
		q, err := rand.Prime(rand.Reader, 512)
		if err != nil {
			t.Fatal(err)
		}
		p1, q1, n := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one), new(big.Int).Mul(p, q)
		d := new(big.Int).ModInverse(e, new(big.Int).Mul(p1, q1))
		if d == nil || n.BitLen() != 1024 {
			continue
		}
		k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
		k.Precomputed.Dp, k.Precomputed.Dq = new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1)
		k.Precomputed.Qinv = new(big.Int).ModInverse(q, p)
		return k
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	for _, stdin := range []string{`{}`, `{"pluginConfig":{"chain":"optional"},"later":1}`} {
		o := run(t, nil, stdin, "get-plugin-metadata")
		for name, want := range map[string]string{"name": "pkcs11", "version": "1.2.3"} {
			if got := o.text(t, name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		for _, name := range []string{"description", "url"} {
			if o.text(t, name) == "" {
				t.Errorf("%s is empty", name)
			}
		}
		for name, want := range map[string]string{"supportedContractVersions": `["1.0"]`, "capabilities": `["SIGNATURE_GENERATOR.RAW"]`} {
			if got := string(o.answer[name]); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	const key = `"contractVersion":"1.0","keyId":"pkcs11:object=o"`
	for _, c := range []struct {
		name, command, stdin, code, class, says string
	}{
		{"nothing", "describe-key", ``, "VALIDATION_ERROR", "", "no request"},
		{"blank", "describe-key", "\n", "VALIDATION_ERROR", "", "no request"},
		{"no JSON", "describe-key", `{"keyId"`, "VALIDATION_ERROR", "", "no JSON"},
		{"two requests", "describe-key", `{} {}`, "VALIDATION_ERROR", "", "no JSON"},
		{"an array", "describe-key", `[]`, "VALIDATION_ERROR", "", "another type"},
		{"a number for an id", "describe-key", `{"contractVersion":"1.0","keyId":7}`, "VALIDATION_ERROR", "", "another type"},
		{"payload is no base64", "generate-signature", `{` + key + `,"payload":"%"}`, "VALIDATION_ERROR", "", "another type"},
		{"no version", "describe-key", `{"keyId":"pkcs11:object=o"}`, "VALIDATION_ERROR", "", "contractVersion"},
		{"version 2", "describe-key", `{"contractVersion":"2.0","keyId":"pkcs11:object=o"}`, "UNSUPPORTED_CONTRACT_VERSION", "", "2.0"},
		{"no id", "describe-key", `{"contractVersion":"1.0"}`, "VALIDATION_ERROR", "", "keyId"},
		{"another scheme", "describe-key", `{"contractVersion":"1.0","keyId":"awskms:///alias/x"}`, "VALIDATION_ERROR", "uri", "pkcs11:"},
		{"a path", "describe-key", `{"contractVersion":"1.0","keyId":"./x.key"}`, "VALIDATION_ERROR", "uri", "pkcs11:"},
		{"a PIN in the URI", "describe-key", `{"contractVersion":"1.0","keyId":"pkcs11:object=o?pin-value=canary-1"}`, "VALIDATION_ERROR", "uri", "pin-source"},
		{"no payload", "generate-signature", `{` + key + `,"keySpec":"EC-256","hashAlgorithm":"SHA-256"}`, "VALIDATION_ERROR", "", "payload"},
		{"unknown configuration", "describe-key", `{` + key + `,"pluginConfig":{"chainfile":"/x"}}`, "VALIDATION_ERROR", "", `"chainfile"`},
		{"unknown chain", "describe-key", `{` + key + `,"pluginConfig":{"chain":"maybe"}}`, "VALIDATION_ERROR", "", "optional or required"},
		{"unknown padding", "describe-key", `{` + key + `,"pluginConfig":{"padding":"oaep"}}`, "VALIDATION_ERROR", "", "pss or pkcs1"},
		{"a PIN that is a number", "describe-key", `{` + key + `,"pluginConfig":{"pin":8675309}}`, "VALIDATION_ERROR", "", `"pin" is no string`},
		{"configuration is a text", "describe-key", `{` + key + `,"pluginConfig":"canary-1"}`, "VALIDATION_ERROR", "", "no JSON object"},
		{"generate-envelope", "generate-envelope", `{}`, "VALIDATION_ERROR", "", "generate-envelope"},
		{"verify-signature", "verify-signature", `{}`, "VALIDATION_ERROR", "", "verify-signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := run(t, nil, c.stdin, c.command)
			o.fails(t, c.code, c.class, c.says)
			for _, secret := range []string{"canary-1", "8675309"} {
				if strings.Contains(o.stderr, secret) {
					t.Errorf("it repeats a secret: %s", o.stderr)
				}
			}
		})
	}
	run(t, nil, `{}`, "describe-key", "surplus").fails(t, "VALIDATION_ERROR", "", "no arguments")
	run(t, nil, strings.Repeat(" ", 16<<20+1), "describe-key").fails(t, "VALIDATION_ERROR", "", "longer than")
}

// A PIN is read from JSON as package json would.
func TestPINEscapes(t *testing.T) {
	t.Parallel()
	for quoted, plain := range map[string]string{
		`"abc"`: "abc", `""`: "", `"a\"b\\c\/d"`: `a"b\c/d`, `"\b\f\n\r\t"`: "\b\f\n\r\t", `"\u0041\u00e9"`: "Aé", `"é"`: "é",
		`"\ud83d\ude00x"`: "😀x", `"\ud83d"`: "\ufffd", `"\ud83d\u0041"`: "\ufffdA", `"\ude00\ud83d"`: "\ufffd\ufffd", `"1\\u0041"`: `1\u0041`,
	} {
		got, err := plugin.Unquote([]byte(quoted))
		if err != nil || string(got) != plain {
			t.Errorf("%s: %q, %v; want %q", quoted, got, err, plain)
		}
	}
	for _, raw := range []string{`7`, `null`, `{}`, `true`, ``} {
		if got, err := plugin.Unquote([]byte(raw)); err == nil {
			t.Errorf("%s: %q", raw, got)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "notation-pkcs11 signs with keys"}, {[]string{"--help"}, "pin-source"}, {[]string{"-h"}, "chain-file"},
		{[]string{"help"}, "describe-key"}, {[]string{"--version"}, "notation-pkcs11 1.2.3\n"}, {[]string{"version"}, "notation-pkcs11 1.2.3\n"},
	} {
		var stdout, stderr bytes.Buffer
		if code := plugin.Run(t.Context(), plugin.Process{Version: "1.2.3", Now: time.Now(), Args: c.args, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr}); code != 0 || stderr.Len() > 0 {
			t.Errorf("%q: exit code %d, %s", c.args, code, stderr.String())
		}
		if !strings.Contains(stdout.String(), c.says) {
			t.Errorf("%q: %s", c.args, stdout.String())
		}
	}
}

// `notation plugin install` takes semantic versions only.
func TestVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"1.2.3": "1.2.3", "v1.2.3": "1.2.3", "v1.2.3-4-gabcdef0-dirty": "1.2.3-4-gabcdef0-dirty", "0.1.0-dev": "0.1.0-dev", "devel": "0.0.0-devel",
		"abcdef0": "0.0.0-devel", "": "0.0.0-devel", "v1.2": "0.0.0-devel",
	} {
		var stdout bytes.Buffer
		plugin.Run(t.Context(), plugin.Process{Version: version, Now: time.Now(), Args: []string{"version"}, Stdout: &stdout})
		if got := strings.TrimSpace(stdout.String()); got != "notation-pkcs11 "+want {
			t.Errorf("%q: %s, want %s", version, got, want)
		}
	}
}
