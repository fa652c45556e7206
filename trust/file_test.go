package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// loadText loads a policy beside roots/a.pem and roots/b.pem.
func loadText(t testing.TB, policy string) (*Policy, error) {
	t.Helper()
	return Load(folderOf(t, policy, testRoots()))
}

var testRoots = func() func() map[string]string {
	files := map[string]string{"roots/a.pem": newSignatory("a").pem(), "roots/b.pem": newSignatory("b").pem()}
	return func() map[string]string { return files }
}()

// head is three lines long.
const head = `version: 1
roots: {a: roots/a.pem, b: roots/b.pem}
scopes:
`

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, policy string
		code         string
		line, column int
		says         string
	}{
		{"P01 duplicate key", "version: 1\nscopes: {}\nroots: {a: x}\nscopes: {}\n", codeDuplicateKey, 4, 1, "policy.yaml:2:1"},
		{"P01 duplicate key in a scope", head + "  r.example:\n    trust: [a]\n    trust: [b]\n", codeDuplicateKey, 6, 5, ":5:5"},
		{"P01 duplicate root", "version: 1\nroots:\n  a: roots/a.pem\n  a: roots/b.pem\n", codeDuplicateKey, 4, 3, ":3:3"},
		{"P01 duplicate in flow", head + "  r.example: {reject: true, reject: true}\n", codeDuplicateKey, 4, 29, ""},
		{"P01 anchor", head + "  r.example: &x [a]\n", codeFeature, 4, 14, "anchor"},
		{"P01 alias", head + "  r.example: *x\n", codeSyntax, 4, 0, ""},
		{"P01 alias bomb", "version: 1\na: &a [x, x]\nb: &b [*a, *a]\nscopes: [*b, *b]\n", codeFeature, 2, 4, "anchor"},
		{"P01 merge key", head + "  r.example: {<<: {reject: true}}\n", codeFeature, 4, 15, "inherit"},
		{"P01 tag", head + "  r.example: !!python/object:os.system [a]\n", codeFeature, 4, 14, "tag"},
		{"P01 usual tag", head + "  r.example: {reject: !!bool \"true\"}\n", codeFeature, 4, 0, "tag"},
		{"P01 two documents", head + "  r.example: [a]\n---\nversion: 1\n", codeSyntax, 6, 1, "second"},
		{"P01 tab", head + "\tr.example: [a]\n", codeSyntax, 4, 0, ""},
		{"P01 escape", head + "  r.example: [a]\n  \"r.example/\\u202ex\": [a]\n", codeSyntax, 5, 3, "U+202E"},
		{"P01 escape that a terminal would obey", "version: 1\nroots: {\"\\e[31m\": roots/a.pem}\n", codeSyntax, 2, 9, "U+001B"},
		{"P01 values in brackets", "version: 1\nscopes: [" + strings.Repeat("a,", maxFlowMarks) + "]\n", codeTooLarge, 2, 0, "values"},
		{"P01 values on lines", "version: 1\n" + strings.Repeat("-\n", maxMarks/2+1), codeTooLarge, 524289, 0, "values"},
		{"P01 too large", head + strings.Repeat("#", MaxBytes), codeTooLarge, 0, 0, ""},
		{"P01 10 MB", strings.Repeat("a: b\n", 2<<20), codeTooLarge, 0, 0, ""},
		{"P01 deep", strings.Repeat("[", 100_000), codeSyntax, 1, 0, ""},
		{"P01 empty", "", codeSyntax, 0, 0, "empty"},
		{"P01 comment only", "# nothing\n", codeSyntax, 0, 0, "empty"},
		{"P01 scalar", "hello\n", codeType, 1, 1, ""},
		{"P01 list", "[version]\n", codeType, 1, 1, ""},
		{"P01 not UTF-8", "version: 1\n# \xff\n", codeSyntax, 2, 3, "UTF-8"},
		{"P01 UTF-16", "\xff\xfev\x00:\x00", codeSyntax, 1, 1, "UTF-8"},
		{"P01 NUL", "version: 1\n# a\x00b\n", codeSyntax, 2, 4, "control"},
		{"P01 text that is shown otherwise", "version: 1\n# \u202e gnirts\n", codeSyntax, 2, 3, "U+202E"},
		{"P01 key that is a list", head + "  ? [r.example]\n  : [a]\n", codeType, 4, 0, "key"},

		{"P02 typo in a scope", head + "  r.example: {trsut: [a]}\n", codeKeyUnknown, 4, 15, `"trust"`},
		{"P02 typo at the top", "version: 1\nscope: {}\n", codeKeyUnknown, 2, 1, `"scopes"`},
		{"P02 typo in a root", "version: 1\nroots: {a: {certificats: [x]}}\n", codeKeyUnknown, 2, 13, `"certificates"`},
		{"P02 typo in an entry", head + "  r.example: [{root: a, identites: [x]}]\n", codeKeyUnknown, 4, 0, `"identities"`},
		{"P02 case", head + "  r.example: {Trust: [a]}\n", codeKeyUnknown, 4, 0, `"trust"`},
		{"P02 unlike anything", head + "  r.example: {frobnicate: 1}\n", codeKeyUnknown, 4, 0, ""},
		{"P02 inherit is text", head + "  r.example: [a]\n  r.example/x: {trust: [b], inherit: \"yes\"}\n", codeType, 5, 0, "true or false"},
		{"P02 inherit is a number", head + "  r.example: [a]\n  r.example/x: {trust: [b], inherit: 1}\n", codeType, 5, 0, "true or false"},
		{"P02 inherit is yes", head + "  r.example: [a]\n  r.example/x: {trust: [b], inherit: yes}\n", codeType, 5, 0, "true or false"},
		{"P02 inherit is True", head + "  r.example: [a]\n  r.example/x: {trust: [b], inherit: True}\n", codeType, 5, 0, "true or false"},
		{"P02 trust is text", head + "  r.example: {trust: a}\n", codeType, 4, 0, "list"},
		{"P02 scope is text", head + "  r.example: a\n", codeType, 4, 0, ""},
		{"P02 scope is nothing", head + "  r.example:\n", codeType, 4, 0, "nothing"},
		{"P02 root is a number", head + "  r.example: [1]\n", codeType, 4, 0, "in quotes"},
		{"P02 certificates is text", "version: 1\nroots: {a: {certificates: roots/a.pem}}\n", codeType, 2, 0, "list"},
		{"P02 claims", head + "  r.example: {trust: [a], claims: tags}\n", codeValue, 4, 0, `"tag"`},
		{"P02 algorithm", head + "  r.example: {trust: [a], algorithms: [ES265]}\n", codeValue, 4, 0, `"ES256"`},
		{"P02 no algorithms", head + "  r.example: {trust: [a], algorithms: []}\n", codeValue, 4, 0, "empty"},
		{"P02 max-age without unit", head + "  r.example: {trust: [a], max-age: 90}\n", codeValue, 4, 0, "90d"},
		{"P02 max-age zero", head + "  r.example: {trust: [a], max-age: 0d}\n", codeValue, 4, 0, ""},
		{"P02 max-age negative", head + "  r.example: {trust: [a], max-age: -1d}\n", codeValue, 4, 0, ""},
		{"P02 max-age overflow", head + "  r.example: {trust: [a], max-age: 9999999d}\n", codeValue, 4, 0, ""},
		{"P02 max-age list", head + "  r.example: {trust: [a], max-age: [1d]}\n", codeValue, 4, 0, ""},
		{"P02 priority", head + "  r.example: {trust: [a], priority: 1}\n", codeKeyUnknown, 4, 0, "longest"},
		{"version missing", "scopes: {}\n", codeVersion, 1, 1, "version: 1"},
		{"version 2", "version: 2\nanything: 1\n", codeVersion, 1, 10, "version: 1"},
		{"version is text", "version: \"1\"\n", codeVersion, 1, 10, ""},
		{"version 0x1", "version: 0x1\n", codeVersion, 1, 10, ""},
		{"no scopes", "version: 1\nroots: {a: roots/a.pem}\n", codeMissing, 1, 1, "scopes"},
		{"scopes empty", "version: 1\nscopes: {}\n", codeValue, 2, 9, ""},
		{"roots empty", "version: 1\nroots: {}\nscopes: {r.example: {reject: true}}\n", codeValue, 2, 0, ""},

		{"P03 equal scopes, case", head + "  docker.io/a/b: [a]\n  Docker.io/a/b: [b]\n", codeScopeDuplicate, 5, 3, "policy.yaml:4:3"},
		{"P03 equal scopes, port", head + "  docker.io/a: [a]\n  docker.io:443/a: [b]\n", codeScopeDuplicate, 5, 3, `"docker.io/a" is already defined`},
		{"P03 equal scopes, alias", head + "  docker.io: [a]\n  index.docker.io: [b]\n", codeScopeDuplicate, 5, 3, "must be unique"},
		{"P03 equal scopes, dot", head + "  r.example: [a]\n  r.example.: [b]\n", codeScopeDuplicate, 5, 3, ""},
		{"P03 equal scopes, IPv6", head + "  \"[2001:db8::1]:5000\": [a]\n  \"[2001:DB8:0::1]:5000\": [b]\n", codeScopeDuplicate, 5, 3, ""},
		{"P03 the same scope", head + "  r.example: [a]\n  r.example: [b]\n", codeScopeDuplicate, 5, 3, "policy.yaml:4:3; scopes must be unique: merge the trust lists, or use a longer scope"},

		{"P05 inherit without an enclosing scope", head + "  r.example: {trust: [a], inherit: true}\n", codeInherit, 4, 3, "no scope encloses"},
		{"P05 a neighbour does not enclose", head + "  r.example/ap: [b]\n  r.example/app: {trust: [a], inherit: true}\n", codeInherit, 5, 3, ""},
		{"P05 inherit under reject", head + "  r.example: {reject: true}\n  r.example/x: {trust: [a], inherit: true}\n", codeInherit, 5, 3, "rejects"},
		{"P05 reject that inherits", head + "  r.example: [a]\n  r.example/x: {reject: true, inherit: true}\n", codeInherit, 5, 0, ""},

		{"P07 certificates above", "version: 1\nroots: {a: ../a.pem}\n", codePath, 2, 12, ".."},
		{"P07 certificates above and back", "version: 1\nroots: {a: roots/../roots/a.pem}\n", codePath, 2, 12, ".."},
		{"P07 backslashes", "version: 1\nroots: {a: 'roots\\..\\a.pem'}\n", codePath, 2, 12, ".."},

		{"two rules", head + "  r.example: {trust: [a], reject: true}\n", codeRule, 4, 0, "both"},
		{"no rule", head + "  r.example: {enforce: false}\n", codeRule, 4, 3, "no rule"},
		{"reject: false", head + "  r.example: {reject: false}\n", codeRule, 4, 0, ""},
		{"V29 trust is empty", head + "  r.example: {trust: []}\n", codeRule, 4, 0, "say reject: true"},
		{"V29 list is empty", head + "  r.example: []\n", codeRule, 4, 0, "say reject: true"},
		{"V29 certificates empty", "version: 1\nroots: {a: {certificates: []}}\n", codeValue, 2, 0, "empty"},
		{"V29 certificates missing", "version: 1\nroots: {a: {identities: [C=DE]}}\n", codeMissing, 2, 0, "certificates"},
		{"V29 certificates nothing", "version: 1\nroots: {a: {certificates: }}\n", codeType, 2, 0, ""},
		{"V29 root nothing", "version: 1\nroots: {a: }\n", codeType, 2, 0, ""},
		{"V29 root empty text", "version: 1\nroots: {a: \"\"}\n", codeValue, 2, 0, "empty"},
		{"V29 identities empty", "version: 1\nroots: {a: {certificates: [roots/a.pem], identities: []}}\n", codeValue, 2, 0, "empty"},
		{"unknown root", head + "  r.example: [aa]\n", codeRootUnknown, 4, 15, `"a"`},
		{"entry without root", head + "  r.example: [{claims: tag}]\n", codeMissing, 4, 0, "root"},
		{"identity", "version: 1\nroots: {a: {certificates: [roots/a.pem], identities: [\"nonsense\"]}}\n", codeIdentity, 2, 0, "nonsense"},
		{"identity with a prefix of notation", "version: 1\nroots: {a: {certificates: [roots/a.pem], identities: [\"x509.subject: C=DE\"]}}\n", codeIdentity, 2, 0, "alone"},
		{"identity wildcard across hosts", "version: 1\nroots: {a: {certificates: [roots/a.pem], identities: [\"uri:https://ci.example*\"]}}\n", codeIdentity, 2, 0, "path"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, err := loadText(t, row.policy)
			e := loadError(t, err, row.code, row.line)
			if row.column != 0 && e.Column != row.column {
				t.Errorf("got column %d (%v), want %d", e.Column, err, row.column)
			}
			if !strings.Contains(err.Error(), row.says) {
				t.Errorf("%q does not say %q", err, row.says)
			}
			if prefix := fmt.Sprintf("policy.yaml:%d:%d: ", e.Line, e.Column); e.Line != 0 && !strings.Contains(err.Error(), prefix) {
				t.Errorf("%q does not say where: %s", err, prefix)
			}
		})
	}
}

func TestP04InvalidScopes(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{
		"docker.io/", "docker.io//a", "*/a", "*.io", "*.example.com", "docker.io/A", "https://docker.io/a", "docker.io/a:tag", "docker.io/a/b:tag", "..", "docker.io/..", "docker.io/../a",
		"docker.io/%2e", "docker.io/a%2fb", "docker.io/\u00e4", "docker\uff0eio/a", "d\u00f6cker.io", "docker.io@evil.com/a", "docker.io/a@sha256:" + strings.Repeat("0", 64), "alpine", "library/alpine",
		"", " docker.io", "docker.io ", "docker.io/a b", "**", "docker.io/*", "docker.io/a*", "docker.io:/a", "docker.io:0/a", "docker.io:99999/a", "docker.io:443a", "/a", "oci:dir", "oci-archive:x.tar",
		":80", ":80/a", "[::1/a", "::1/a", "docker..io", "-docker.io", "docker.io/-a", "docker.io/a-", "docker.io/a_____b.",
	} {
		_, err := loadText(t, fmt.Sprintf("%s  %q: [a]\n", head, scope))
		var e *LoadError
		if !errors.As(err, &e) || e.Code != codeScope || e.Line != 4 || e.Column != 3 {
			t.Errorf("scope %q: got %v, want %s at 4:3", scope, err, codeScope)
		}
	}
	for scope, canonical := range map[string]string{
		"*": "*", "localhost": "localhost", "localhost:5000": "localhost:5000", "R.Example.:443/a/b": "r.example/a/b", "docker.io/vendor": "docker.io/vendor", "docker.io/library": "docker.io/library",
		"registry-1.docker.io/vendor/a": "docker.io/vendor/a", "10.0.0.1:5000/x": "10.0.0.1:5000/x", "[2001:DB8::0:1]:5000/x": "[2001:db8::1]:5000/x",
	} {
		p, err := loadText(t, fmt.Sprintf("%s  %q: [a]\n", head, scope))
		if err != nil {
			t.Errorf("scope %q: %v", scope, err)
			continue
		}
		if s := p.Summary(time.Now()).Scopes; len(s) != 1 || s[0].Scope != canonical || s[0].Line != 4 {
			t.Errorf("scope %q: got %+v, want %s", scope, s, canonical)
		}
	}
}

func TestP06RootFiles(t *testing.T) {
	t.Parallel()
	a := newSignatory("a")
	intermediate := a.root.Intermediate("intermediate")
	lone := certtest.SelfSigned(certtest.Key("P-256"), "lone")
	expired := certtest.Root("expired", certtest.Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	outside := filepath.Join(t.TempDir(), "outside.pem")
	if err := os.WriteFile(outside, []byte(a.pem()), 0o644); err != nil {
		t.Fatal(err)
	}
	bundle := string(certtest.PEM(a.root.Certificate, expired.Certificate))
	for _, row := range []struct {
		name    string
		root    string // YAML of the root
		make    func(dir string) error
		code    string
		says    string
		warning string
	}{
		{name: "file", root: "r.pem", make: write("r.pem", a.pem())},
		{name: "file in a folder", root: "{certificates: [x/y/r.pem]}", make: write("x/y/r.pem", a.pem())},
		{name: "absolute", root: outside},
		{name: "DER", root: "r.der", make: write("r.der", string(a.root.Certificate.Raw))},
		{name: "inline", root: "|\n    " + strings.ReplaceAll(a.pem(), "\n", "\n    ")},
		{name: "inline in a list", root: "{certificates: [" + fmt.Sprintf("%q", a.pem()) + "]}"},
		{name: "bundle", root: "r.pem", make: write("r.pem", bundle), warning: "expired"},
		{name: "the same twice in one root", root: "{certificates: [r.pem, r.pem]}", make: write("r.pem", a.pem()+a.pem())},
		{name: "self-signed leaf", root: "r.pem", make: write("r.pem", string(certtest.PEM(lone)))},
		{name: "expired", root: "r.pem", make: write("r.pem", string(certtest.PEM(expired.Certificate))), warning: "expired"},
		{name: "intermediate", root: "r.pem", make: write("r.pem", string(certtest.PEM(intermediate.Certificate))), warning: "not self-signed"},
		{name: "symlink inside", root: "r.pem", make: func(dir string) error {
			return errors.Join(write("..data/r.pem", a.pem())(dir), os.Symlink("..data/r.pem", filepath.Join(dir, "r.pem")))
		}},
		{name: "symlinks as of a ConfigMap", root: "r.pem", make: func(dir string) error {
			return errors.Join(write("..2026_11_22/r.pem", a.pem())(dir), os.Symlink("..2026_11_22", filepath.Join(dir, "..data")), os.Symlink("..data/r.pem", filepath.Join(dir, "r.pem")))
		}},
		{name: "missing", root: "r.pem", code: codeRootFile, says: "r.pem"},
		{name: "unreadable", root: "r.pem", make: func(dir string) error {
			return errors.Join(write("r.pem", a.pem())(dir), os.Chmod(filepath.Join(dir, "r.pem"), 0))
		}, code: codeRootFile, says: "r.pem"},
		{name: "V29 empty", root: "r.pem", make: write("r.pem", ""), code: codeRootFile, says: "empty"},
		{name: "V29 white space", root: "r.pem", make: write("r.pem", " \n\n"), code: codeRootFile, says: "empty"},
		{name: "V29 text only", root: "r.pem", make: write("r.pem", "no certificate here\n"), code: codeRootFile},
		{name: "private key", root: "r.pem", make: write("r.pem", string(certtest.KeyPEM(a.key))), code: codeRootFile},
		{name: "leaf", root: "r.pem", make: write("r.pem", string(certtest.PEM(a.chain.Leaf()))), code: codeRootInvalid, says: "neither"},
		{name: "leaf in a bundle", root: "r.pem", make: write("r.pem", string(certtest.PEM(a.chain...))), code: codeRootInvalid, says: "neither"},
		{name: "too large", root: "r.pem", make: write("r.pem", a.pem()+strings.Repeat("#", 2<<20)), code: codeTooLarge},
		{name: "symlink out", root: "r.pem", make: func(dir string) error { return os.Symlink(outside, filepath.Join(dir, "r.pem")) }, code: codePath, says: "symlink"},
		{name: "folder that leads out", root: "x/outside.pem", make: func(dir string) error { return os.Symlink(filepath.Dir(outside), filepath.Join(dir, "x")) }, code: codePath},
		{name: "symlink loop", root: "r.pem", make: func(dir string) error { return os.Symlink("r.pem", filepath.Join(dir, "r.pem")) }, code: codePath},
		{name: "FIFO", root: "r.pem", make: func(dir string) error { return mkfifo(filepath.Join(dir, "r.pem")) }, code: codeUnsafe, says: "regular"},
		{name: "device", root: "/dev/zero", code: codeUnsafe, says: "regular"},
		{name: "folder", root: "r.pem", make: func(dir string) error { return os.Mkdir(filepath.Join(dir, "r.pem"), 0o755) }, code: codeUnsafe, says: "regular"},
		{name: "everybody may write", root: "r.pem", make: func(dir string) error {
			return errors.Join(write("r.pem", a.pem())(dir), os.Chmod(filepath.Join(dir, "r.pem"), 0o666))
		}, code: codeUnsafe, says: "chmod"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if row.name == "unreadable" && os.Geteuid() == 0 {
				t.Skip("root reads everything")
			}
			if runtime.GOOS == "windows" {
				t.Skip("permissions and symlinks of Unix")
			}
			file := folderOf(t, "version: 1\nroots:\n  a: "+row.root+"\nscopes: {r.example: [a]}\n", nil)
			if row.make != nil {
				if err := row.make(filepath.Dir(file)); err != nil {
					t.Fatal(err)
				}
			}
			p, err := Load(file)
			if row.code != "" {
				e := loadError(t, err, row.code, 3)
				if !strings.Contains(e.Error(), row.says) {
					t.Errorf("%q does not say %q", e, row.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			warnings := strings.Join(p.Warnings(time.Now()), "\n")
			if (warnings == "") != (row.warning == "") || !strings.Contains(warnings, row.warning) {
				t.Errorf("got warnings %q, want %q", warnings, row.warning)
			}
		})
	}
	t.Run("two roots with the same certificate", func(t *testing.T) {
		t.Parallel()
		_, err := Load(folderOf(t, "version: 1\nroots:\n  a: a.pem\n  b: b.pem\nscopes: {r.example: [a, b]}\n", map[string]string{"a.pem": a.pem(), "b.pem": bundle}))
		if e := loadError(t, err, codeRootDuplicate, 4); !strings.Contains(e.Error(), "policy.yaml:3:6") {
			t.Errorf("%q does not say where the first one is", e)
		}
	})
	t.Run("unused root", func(t *testing.T) {
		t.Parallel()
		p, err := loadText(t, head+"  r.example: [a]\n")
		if err != nil {
			t.Fatal(err)
		}
		if w := p.Warnings(time.Now()); len(w) != 1 || !strings.Contains(w[0], "root b") {
			t.Errorf("got warnings %q", w)
		}
	})
}

func write(name, content string) func(dir string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644))
	}
}

func TestPolicyFileItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none.yaml"))
	loadError(t, err, codeUnreadable, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	_, err = Load(dir)
	loadError(t, err, codeUnsafe, 0)
	if runtime.GOOS == "windows" {
		return
	}
	fifo := filepath.Join(dir, "fifo")
	if err := mkfifo(fifo); err != nil {
		t.Fatal(err)
	}
	_, err = Load(fifo)
	loadError(t, err, codeUnsafe, 0)
	open := folderOf(t, head+"  r.example: [a]\n", testRoots())
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Load(open)
	loadError(t, err, codeUnsafe, 0)
}

// P08, L4: the policy is what was read; the digest covers every file, in the order of names.
func TestP08DigestOfAllFiles(t *testing.T) {
	t.Parallel()
	s := newSignatory("a")
	file := folderOf(t, head+"  r.example: [a]\n", map[string]string{"roots/a.pem": s.pem(), "roots/b.pem": newSignatory("b").pem()})
	load := func() *Policy {
		t.Helper()
		p, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := load()
	if d := first.Digest(); len(d) != 64 || d != load().Digest() {
		t.Errorf("digest %q", d)
	}
	dir := filepath.Dir(file)
	a, _ := os.ReadFile(filepath.Join(dir, "roots/a.pem"))
	b, _ := os.ReadFile(filepath.Join(dir, "roots/b.pem"))
	change := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]string{first.Digest(): "as written"}
	for _, c := range []struct {
		what string
		a, b []byte
	}{
		{"swapped", b, a},
		{"line moved", append(a, '\n'), b},
		{"line at the other", a, append([]byte("\n"), b...)},
	} {
		change("roots/a.pem", c.a)
		change("roots/b.pem", c.b)
		d := load().Digest()
		if seen[d] != "" {
			t.Errorf("%s has the digest of %s", c.what, seen[d])
		}
		seen[d] = c.what
	}
	change("roots/a.pem", b)
	change("roots/b.pem", a)
	if got := first.Judge(ref(t, "r.example/x:1"), artifact, sigs(s.sign(t, signing{})), time.Now()); got.Verdict != Accepted || got.PolicyDigest != first.Digest() {
		t.Errorf("a policy changed with its files: %s %s", got.Verdict, got.Reason)
	}
}

// 100,000 scopes load, and how many there are does not matter to who looks one up.
func TestP14ManyScopes(t *testing.T) {
	t.Parallel()
	const n = 100_000
	text := manyScopes(n)
	if len(text) > MaxBytes {
		t.Fatalf("%d scopes take %d bytes, more than the %d that a policy may have", n, len(text), MaxBytes)
	}
	p := parseMany(t, text)
	if len(p.scopes) <= n {
		t.Errorf("got %d scopes, want %d and those of the mirror", len(p.scopes), n)
	}
	for name, want := range map[string]string{
		"r.example/team-0001/app-000001":          "r.example/team-0001/app-000001",
		"r.example/team-0077/app-000077/x/y/z":    "r.example/team-0077/app-000077",
		"r.example/team-0001/nothing/x":           "r.example",
		"r.example/a/b/c/d/e/f":                   "r.example",
		"mirror.example/first/app-000001":         "mirror.example/first/app-000001",
		"mirror.example/first/app-000002/x":       "mirror.example/first",
		"mirror.example/firstly/app-000001":       "",
		"other.example/team-0001/app-000001/x/yz": "",
	} {
		s, steps := lookup(p.scopes, name)
		if got := ""; s != nil && s.name != want || s == nil && want != got {
			t.Errorf("%s: got %v, want %q", name, s, want)
		}
		if most := strings.Count(name, "/") + 2; steps > most {
			t.Errorf("%s: looked up %d names, want at most %d", name, steps, most)
		}
	}
}

func TestSingle(t *testing.T) {
	t.Parallel()
	s := newSignatory("a")
	for _, row := range []struct {
		name       string
		certs      []*x509.Certificate
		identities []string
		code       string
	}{
		{"V29 none", nil, nil, codeRootFile},
		{"leaf", []*x509.Certificate{s.chain.Leaf()}, nil, codeRootInvalid},
		{"identity", []*x509.Certificate{s.root.Certificate}, []string{"x"}, codeIdentity},
		{"empty identity", []*x509.Certificate{s.root.Certificate}, []string{""}, codeIdentity},
	} {
		_, err := Single("root", row.certs, row.identities)
		if e := loadError(t, err, row.code, 0); e.File != "" || strings.HasPrefix(e.Error(), ":") {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
