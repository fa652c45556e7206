package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// TestParseCases: what is wrong with a table is said with its place.
func TestParseCases(t *testing.T) {
	t.Parallel()
	const good = "tests: {a.example/x: {unsigned: unsigned}}\n"
	for name, tt := range map[string]struct {
		text, code string
		line       int
		says       string
	}{
		"empty":                   {" \n", codeSyntax, 0, "no tests"},
		"no version":              {good, codeVersion, 1, "version: 1"},
		"another version":         {"version: 2\n" + good, codeVersion, 1, "version: 1"},
		"no tests":                {"version: 1\n", codeMissing, 1, "no tests"},
		"empty tests":             {"version: 1\ntests: {}\n", codeValue, 2, "empty"},
		"an unknown key":          {"version: 1\ntest: {}\n", codeKeyUnknown, 2, `did you mean "tests"?`},
		"a policy":                {"version: 1\npolicy: p.yaml\n" + good, codeKeyUnknown, 2, "--policy FILE"},
		"an alias":                {"version: 1\ntests: &a {a.example/x: {unsigned: unsigned}}\n", codeFeature, 2, "anchor"},
		"a key twice":             {"version: 1\ntests:\n  a.example/x: {unsigned: unsigned, unsigned: accepted}\n", codeDuplicateKey, 3, "already defined"},
		"no reference":            {"version: 1\ntests: {x: {unsigned: unsigned}}\n", codeValue, 2, "no reference"},
		"a digest":                {"version: 1\ntests: {\"a.example/x@sha256:" + strings.Repeat("0", 64) + "\": {unsigned: unsigned}}\n", codeValue, 2, "no reference"},
		"no row":                  {"version: 1\ntests:\n  a.example/x: {}\n", codeValue, 3, "empty"},
		"no verdict":              {"version: 1\ntests: {a.example/x: {unsigned: acepted}}\n", codeValue, 2, `did you mean "accepted"?`},
		"a verdict that is true":  {"version: 1\ntests: {a.example/x: {unsigned: true}}\n", codeType, 2, "must be text"},
		"a code of load errors":   {"version: 1\ntests: {a.example/x: {unsigned: policy-rule}}\n", codeValue, 2, "neither a verdict"},
		"an empty name":           {"version: 1\ntests: {a.example/x: {\"a +\": accepted}}\n", codeValue, 2, "between them"},
		"unsigned with others":    {"version: 1\ntests: {a.example/x: {a + unsigned: accepted}}\n", codeValue, 2, "not unsigned"},
		"a name twice":            {"version: 1\ntests: {a.example/x: {a + a: accepted}}\n", codeValue, 2, "twice"},
		"at":                      {"version: 1\nat: yesterday\n" + good, codeValue, 2, "as 2026-11-22"},
		"a word is defined":       {"version: 1\nsignatures: {stranger: {root: a}}\n" + good, codeValue, 2, "its own meaning"},
		"a + in a name":           {"version: 1\nsignatures: {a+b: {root: a}}\n" + good, codeValue, 2, "holds a +"},
		"an unknown property":     {"version: 1\nsignatures: {a: {rot: a}}\n" + good, codeKeyUnknown, 2, `did you mean "root"?`},
		"identities":              {"version: 1\nsignatures: {a: {identities: [x]}}\n" + good, codeKeyUnknown, 2, "write identity"},
		"no age":                  {"version: 1\nsignatures: {a: {age: 3}}\n" + good, codeValue, 2, "age of signature"},
		"no list of claims":       {"version: 1\nsignatures: {a: {claims: [1]}}\n" + good, codeType, 2, "claims of signature"},
		"no algorithm":            {"version: 1\nsignatures: {a: {algorithm: ES255}}\n" + good, codeValue, 2, `did you mean "ES256"?`},
		"no revocation":           {"version: 1\nsignatures: {a: {revocation: revokd}}\n" + good, codeValue, 2, `did you mean "revoked"?`},
		"a root and delegated":    {"version: 1\nsignatures: {a: {root: a, delegated: true}}\n" + good, codeValue, 2, "not both"},
		"delegated: yes":          {"version: 1\nsignatures: {a: {delegated: yes}}\n" + good, codeType, 2, "true or false"},
		"signatures are no table": {"version: 1\nsignatures: [a]\n" + good, codeType, 2, "mapping"},
	} {
		_, err := ParseCases("cases.yaml", []byte(tt.text))
		e := loadError(t, err, tt.code, tt.line)
		if !strings.Contains(e.Error(), tt.says) || !strings.HasPrefix(e.Error(), "cases.yaml") {
			t.Errorf("%s: says %q, not %q", name, e, tt.says)
		}
	}
}

func TestLoadCasesFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := LoadCases(filepath.Join(dir, "none.yaml")); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "none.yaml: reading the tests: ") {
		t.Errorf("a file that is not there: %v", err)
	}
	_, err := LoadCases(dir)
	loadError(t, err, codeUnsafe, 0)
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte("version: 1\ntests: {a.example/x: {unsigned: no-scope}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCases(file); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, make([]byte, MaxCasesBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = LoadCases(file)
	loadError(t, err, codeTooLarge, 0)
}

func cases(t *testing.T, text string) *Cases {
	t.Helper()
	c, err := ParseCases("cases.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRunCases: T1 as its author would write it, with what each property of a signature does.
func TestRunCases(t *testing.T) {
	t.Parallel()
	root := func(name string) string { return string(certtest.PEM(certtest.Root(name).Certificate)) }
	files := map[string]string{"org.pem": root("org"), "dev.pem": root("dev"), "dockerlib.pem": root("dockerlib"), "wordpress.pem": root("wordpress")}
	text := `version: 1
roots:
  org: {certificates: [org.pem], identities: ["C=US, ST=WA, O=Acme"]}
  dev: dev.pem
  dockerlib: dockerlib.pem
  wordpress: wordpress.pem
scopes:
  "*": [org, dev]
  mirror.acme.example/library: {trust: [dockerlib], inherit: true}
  mirror.acme.example/wordpress: {trust: [wordpress], inherit: true}
  a.example/strict: {trust: [org], claims: tag, max-age: 30d, algorithms: [ES384]}
  a.example/two: {require: [[org], [org, dev]]}
  a.example/never: {reject: true}
`
	p, err := Load(folderOf(t, text, files))
	if err != nil {
		t.Fatal(err)
	}
	const table = `version: 1
signatures:
  good: {root: org, claims: ["1.0"], algorithm: ES384, age: 3d}
  old: {root: org, claims: ["1.0"], algorithm: ES384, age: 31d}
  weak: {root: org, claims: ["1.0"]}
  mute: {root: org, claims: [], algorithm: ES384}
  bot: {root: org, identity: ["C=US, ST=WA, O=Other", "dns:x.example"]}
  over: {root: org, age: 3d, expiry: 2d}
  ended: {root: org, certificate-ended: 1d}
  lost: {unfetched: true}
  org again: {root: org, key: k}
  dev by k: {root: dev, key: k}
tests:
  mirror.acme.example/wordpress:1:
    {org: accepted, dev: accepted, dockerlib: rejected, wordpress: accepted, dev + org: accepted, unsigned: rejected, stranger + org: accepted}
  mirror.acme.example/library/alpine:1: {wordpress: no-trusted-signature, dockerlib: accepted}
  mirror.acme.example/libraryx/y: {dockerlib: no-trusted-signature}
  a.example/strict:1.0: {good: accepted, old: too-old, weak: algorithm-not-allowed, mute: claim-not-covered, lost: unfetched, lost + good: accepted}
  a.example/strict:2.0: {good: claim-not-covered}
  a.example/strict: {good: accepted}
  ci.example/x: {bot: identity-mismatch, over: expired, ended: certificate-expired, delegated: no-trusted-signature, lost: undetermined}
  a.example/two: {org again + dev by k: key-used-twice, org + dev: accepted, org: key-used-twice, dev: require-unsatisfied}
`
	r, err := cases(t, table).Run(p, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Cases {
		if !c.Passed {
			t.Errorf("%s:%d:%d %s by %s: want %s, got %s %s (%s)", c.File, c.Line, c.Column, c.Reference, c.Signatures, c.Want, c.Verdict, c.Reason, c.Detail)
		}
	}
	if len(r.Cases) != 27 || r.Failed != 0 || !r.Passed() || fmt.Sprint(r.Untested) != "[a.example/never]" || r.Scopes != 6 {
		t.Errorf("%d cases, %d failed, untested %v of %d", len(r.Cases), r.Failed, r.Untested, r.Scopes)
	}
	if c := r.Cases[2]; c.Line != 15 || c.Column != 36 || c.Signatures != "dockerlib" || c.Scope != "mirror.acme.example/wordpress" || c.ScopeLine != 10 {
		t.Errorf("the place of a row: %+v", c)
	}

	// Each wrong verdict is found.
	for _, wrong := range [][2]string{{"dev: accepted, dockerlib", "dev: rejected, dockerlib"}, {"good: accepted, old", "good: too-old, old"}, {"old: too-old", "old: expired"},
		{"unsigned: rejected", "unsigned: undetermined"}, {"lost: undetermined", "lost: rejected"}} {
		if !strings.Contains(table, wrong[0]) {
			t.Fatal(wrong[0])
		}
		r, err := cases(t, strings.Replace(table, wrong[0], wrong[1], 1)).Run(p, time.Now())
		if err != nil || r.Failed != 1 || r.Passed() {
			t.Errorf("%s: %d failed, %v", wrong[1], r.Failed, err)
		}
	}
	// At another time.
	later := cases(t, "version: 1\nat: 2999-01-01\ntests: {ci.example/x: {org: certificate-expired}}\n")
	if r, err := later.Run(p, time.Now()); err != nil || !r.Passed() || r.Now.Year() != 2999 || len(r.Warnings) == 0 {
		t.Errorf("%+v %v", r, err)
	}
	// What the policy does not have.
	for text, says := range map[string]string{
		"tests: {a.example/x: {orgg: accepted}}":                                             `1:36: no signature and no root of the policy is named "orgg"; did you mean "org"?`,
		"signatures: {s: {root: orgg}}, tests: {a.example/x: {unsigned: rejected}}":          `the policy has no root "orgg"; did you mean "org"?`,
		"signatures: {dev: {root: org}}, tests: {a.example/x: {dev: rejected}}":              `has the name of another root`,
		"signatures: {s: {root: org, identity: [CN=a, CN=b]}}, tests: {a.b/x: {s: expired}}": `one subject`,
	} {
		_, err := cases(t, "{version: 1, "+text+"}").Run(p, time.Now())
		if err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: %v", text, err)
		}
	}
	named, err := Load(folderOf(t, "version: 1\nroots: {stranger: org.pem}\nscopes: {\"*\": [stranger]}\n", files))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cases(t, "version: 1\ntests: {a.example/x: {stranger: accepted}}").Run(named, time.Now()); err == nil {
		t.Error("a root that is called stranger is taken for one")
	}
	if r, err := cases(t, "version: 1\nsignatures: {s: {root: stranger}}\ntests: {a.example/x: {s: accepted}}").Run(named, time.Now()); err != nil || !r.Passed() {
		t.Error(err)
	}
}
