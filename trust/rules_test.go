package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// A rowOfErrors is a policy that does not load, and what its error must tell.
type rowOfErrors struct {
	name, policy string
	code         string
	line, column int
	says         string
}

func (row rowOfErrors) check(t *testing.T) {
	t.Parallel()
	_, err := loadText(t, row.policy)
	e := loadError(t, err, row.code, row.line)
	if e.Column != row.column {
		t.Errorf("got column %d (%v), want %d", e.Column, err, row.column)
	}
	if !strings.Contains(err.Error(), row.says) {
		t.Errorf("%q does not say %q", err, row.says)
	}
}

// What a scope's rule allows beside it (P5, P7, T3).
func TestRuleErrors(t *testing.T) {
	t.Parallel()
	const vendor = "version: 1\nroots: {a: roots/a.pem, b: roots/b.pem}\nscopes:\n  docker.io/vendor: [a]\n"
	for _, row := range []rowOfErrors{
		{"T3 require that inherits", head + "  r.example: [a]\n  r.example/x: {require: [[a], [b]], inherit: true}\n", codeInherit, 5, 38, "no single meaning"},
		{"T3 require that does not inherit says so in vain", head + "  r.example: [a]\n  r.example/x: {require: [[a], [b]], inherit: false}\n", codeInherit, 5, 38, "groups"},
		{"T3 trust is empty", head + "  r.example: [a]\n  r.example/x: {trust: []}\n", codeRule, 5, 24, "say reject: true"},
		{"T3 the same scope twice", vendor + "  docker.io/vendor: [b]\n", codeScopeDuplicate, 5, 3,
			"policy.yaml:5:3: scope \"docker.io/vendor\" is already defined at "},
		{"T3 the same scope in other words", vendor + "  index.docker.io/vendor: [b]\n", codeScopeDuplicate, 5, 3,
			"policy.yaml:4:3; scopes must be unique: merge the trust lists, or use a longer scope"},

		{"P05 under require", head + "  r.example: {require: [[a], [b]]}\n  r.example/x: {trust: [a], inherit: true}\n", codeInherit, 5, 3, `"r.example", whose rule is require`},
		{"P05 under accept: unsigned", head + "  r.example/x: {accept: unsigned}\n  r.example/x/y: {trust: [a], inherit: true}\n", codeInherit, 5, 3, "accept: unsigned"},
		{"P05 accept: unsigned that inherits", head + "  r.example: [a]\n  r.example/x: {accept: unsigned, inherit: true}\n", codeInherit, 5, 35, "nothing to inherit into"},
		{"P05 under reject, where a scope between them does not inherit",
			head + "  r.example: {reject: true}\n  r.example/x: [a]\n  r.example/x/y: {trust: [b], inherit: true}\n  r.example/z: {trust: [b], inherit: true}\n", codeInherit, 7, 3, "rejects everything"},

		{"P11 accept: unsigned on everything", head + "  \"*\": {accept: unsigned}\n", codeUnsignedWide, 4, 17, "whole host"},
		{"P11 accept: unsigned on a host", head + "  r.example: {accept: unsigned}\n", codeUnsignedWide, 4, 23, "name a path"},
		{"P11 accept: unsigned on a host with a port", head + "  r.example:5000: {accept: unsigned}\n", codeUnsignedWide, 4, 28, "name a path"},
		{"P11 accept: unsigned on a host, mirrored", head + "  r.example/x: {accept: unsigned}\nmirrors: {r.example/x: [m.example]}\n", codeUnsignedWide, 5, 25, `"m.example", which mirrors "r.example/x"`},
		{"P11 accept: anything", head + "  r.example/x: {accept: anything}\n", codeValue, 4, 25, "unsigned"},
		{"P02 accept: unsinged", head + "  r.example/x: {accept: unsinged}\n", codeValue, 4, 25, `did you mean "unsigned"`},

		{"P7 require and trust", head + "  r.example: {require: [[a]], trust: [a]}\n", codeRule, 4, 31, "both trust and require"},
		{"P7 accept and reject", head + "  r.example/x: {reject: true, accept: unsigned}\n", codeRule, 4, 31, "both reject and accept"},
		{"P7 none", head + "  r.example: {strict-x509: true}\n", codeRule, 4, 3, "no rule"},
		{"P7 require nothing", head + "  r.example: {require: []}\n", codeRule, 4, 24, "[[ROOT], [ROOT]]"},
		{"P7 require an empty group", head + "  r.example: {require: [[a], []]}\n", codeRule, 4, 30, "group 2"},
		{"P7 require roots and not groups", head + "  r.example: {require: [a, b]}\n", codeType, 4, 25, "[[ROOT], [ROOT]]"},
		{"P7 require text", head + "  r.example: {require: a}\n", codeType, 4, 24, "list"},
		{"P7 require an unknown root", head + "  r.example: {require: [[a], [bb]]}\n", codeRootUnknown, 4, 31, `"b"`},
		{"P7 distinct beside trust", head + "  r.example: {trust: [a], distinct: false}\n", codeRule, 4, 27, "require"},
		{"P02 distinct is no", head + "  r.example: {require: [[a], [b]], distinct: no}\n", codeType, 4, 46, "true or false"},
		{"P02 requires", head + "  r.example: {requires: [[a]]}\n", codeKeyUnknown, 4, 15, `did you mean "require"`},
		{"P02 strict-x509 is yes", head + "  r.example: {trust: [a], strict-x509: yes}\n", codeType, 4, 40, "true or false"},
		{"P02 enforce is 0", head + "  r.example: {trust: [a], enforce: 0}\n", codeType, 4, 36, "true or false"},
		{"P02 pin", "version: 1\nroots: {a: {certificates: [roots/a.pem], pin: laef}}\n", codeValue, 2, 47, `did you mean "leaf"`},
		{"P02 kind", "version: 1\nroots: {a: {certificates: [roots/a.pem], kind: signingAuthority}}\n", codeValue, 2, 48, `"signing-authority"`},
		{"P02 pin, two letters off", "version: 1\nroots: {a: {certificates: [roots/a.pem], pin: leave}}\n", codeValue, 2, 47, `did you mean "leaf"`},
		{"P02 an entry's identity", head + "  r.example: [{root: a, identity: CN=x}]\n", codeKeyUnknown, 4, 25, `did you mean "identities"`},
		{"P02 small letters", head + "  r.example: {trust: [a], algorithms: [es384]}\n", codeValue, 4, 40, `did you mean "ES384"`},
		{"P02 * without quotes", head + "  *: [a]\n", codeSyntax, 4, 4, `in quotes: "*"`},
		{"P02 *.HOST without quotes", head + "  *.r.example: [a]\n", codeSyntax, 4, 3, `in quotes: "*"`},
		{"S04 priority", head + "  r.example: {trust: [a], priority: 10}\n", codeKeyUnknown, 4, 27, "the longest one decides alone, and inherit: true adds"},
		{"S04 terminating", head + "  r.example: {trust: [a], terminating: true}\n", codeKeyUnknown, 4, 27, "inherit"},
		{"S04 stop-search", head + "  r.example: {trust: [a], stop-search: true}\n", codeKeyUnknown, 4, 27, "inherit"},
		{"R11 skip", head + "  r.example: {skip: true}\n", codeKeyUnknown, 4, 15, "enforce: false"},
	} {
		t.Run(row.name, row.check)
	}
}

func TestMirrorErrors(t *testing.T) {
	t.Parallel()
	const scopes = head + "  docker.io: [a]\n  docker.io/vendor: [b]\n"
	for _, row := range []rowOfErrors{
		{"P03 by a mirror", scopes + "  m.example/hub: [a]\nmirrors:\n  docker.io: [m.example/hub]\n", codeScopeDuplicate, 8, 15, `scope "m.example/hub", which mirrors "docker.io", is already defined at `},
		{"P03 by a mirror, both positions", scopes + "  m.example/hub: [a]\nmirrors:\n  docker.io: [M.example:443/hub]\n", codeScopeDuplicate, 8, 15, "policy.yaml:6:3; scopes must be unique"},
		{"P03 by a mirror, a longer scope", scopes + "  m.example/hub/vendor: [a]\nmirrors:\n  docker.io: [m.example/hub]\n", codeScopeDuplicate, 8, 15, `scope "m.example/hub/vendor", which mirrors "docker.io/vendor"`},
		{"P03 by a mirror of what encloses", scopes + "  m.example/x: [b]\nmirrors:\n  docker.io/other: [m.example/x]\n", codeScopeDuplicate, 8, 21, `which mirrors "docker.io"`},
		{"M1 nothing holds for the original", scopes + "mirrors:\n  quay.io/x: [m.example]\n", codeMirror, 7, 15, `no scope holds for "quay.io/x"`},
		{"M3 a mirror is mirrored", scopes + "mirrors:\n  docker.io: [m.example]\n  m.example: [n.example]\n", codeMirror, 7, 15, `"m.example" is a mirror and lies under "m.example", which is mirrored`},
		{"M3 below a mirror is mirrored", scopes + "mirrors:\n  docker.io: [m.example]\n  m.example/x: [n.example]\n", codeMirror, 8, 17, `"m.example/x" is mirrored and lies under "m.example", itself a mirror of "docker.io"`},
		{"M3 a mirror below what is mirrored", scopes + "mirrors:\n  docker.io: [m.example, docker.io/m]\n", codeMirror, 7, 26, "no chains"},
		{"M3 itself", scopes + "mirrors:\n  docker.io: [docker.io]\n", codeMirror, 7, 15, ""},
		{"M3 mirror *", scopes + "mirrors:\n  docker.io: [\"*\"]\n", codeMirror, 7, 15, "never *"},
		{"M3 original *", scopes + "mirrors:\n  \"*\": [m.example]\n", codeMirror, 7, 3, "never *"},
		{"M3 wildcard", scopes + "mirrors:\n  docker.io: [\"*.example\"]\n", codeScope, 7, 15, "wildcards"},
		{"M3 trailing slash", scopes + "mirrors:\n  docker.io/: [m.example]\n", codeScope, 7, 3, "without the /"},
		{"of two originals", scopes + "mirrors:\n  docker.io: [m.example]\n  docker.io/vendor: [m.example]\n", codeMirror, 8, 22, `already a mirror of "docker.io" at `},
		{"the same original twice", scopes + "mirrors:\n  docker.io: [m.example]\n  index.docker.io: [n.example]\n", codeMirror, 8, 3, "merge the lists"},
		{"the same mirror twice", scopes + "mirrors:\n  docker.io: [m.example, M.example]\n", codeMirror, 7, 26, "already"},
		{"one mirror in another, over one of its scopes", scopes + "  quay.io: [b]\nmirrors:\n  docker.io: [m.example]\n  quay.io: [m.example/vendor]\n", codeMirror, 8, 15, `lies under "m.example/vendor", a mirror of "quay.io"`},
		{"empty", scopes + "mirrors: {}\n", codeValue, 6, 10, "empty"},
		{"no list", scopes + "mirrors:\n  docker.io: m.example\n", codeType, 7, 14, "list"},
		{"no mirrors", scopes + "mirrors:\n  docker.io: []\n", codeValue, 7, 14, "empty"},
		{"a number", scopes + "mirrors:\n  docker.io: [1]\n", codeType, 7, 15, "text"},
	} {
		t.Run(row.name, row.check)
	}
}

// Mirrors make more scopes than the file says, so their number is limited, too.
func TestMirrorsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(head)
	for i := range 1000 {
		fmt.Fprintf(&b, "  r.example/app-%d: [a]\n", i)
	}
	b.WriteString("  r.example: [b]\nmirrors:\n  r.example:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - m.example/%d\n", i)
	}
	_, err := loadText(t, b.String())
	loadError(t, err, codeTooLarge, 0)
}

// Y/rest is judged exactly as X/rest (M1): the same trust, rule and settings.
func TestMirrorsExpand(t *testing.T) {
	t.Parallel()
	p, err := loadText(t, `version: 1
roots: {a: roots/a.pem, b: roots/b.pem}
mirrors:
  docker.io/vendor: [m.example/vendor, n.example]
  quay.io/deep/x: [m.example/deep]
scopes:
  "*": [b]
  docker.io: {trust: [a], max-age: 3d}
  docker.io/vendor: {trust: [b], inherit: true, claims: tag, enforce: false, strict-x509: true}
  docker.io/vendor/old: {reject: true}
  docker.io/vendor/two: {require: [[a], [b]], distinct: false, algorithms: [ES256]}
  quay.io/deep: {accept: unsigned}
  m.example: [a]
  m.example/vendor/mine: {trust: [a], inherit: true}
`)
	if err != nil {
		t.Fatal(err)
	}
	scopes := map[string]ScopeSummary{}
	for _, s := range p.Summary(time.Now()).Scopes {
		scopes[s.Scope] = s
	}
	for mirror, original := range map[string]string{
		"m.example/vendor":     "docker.io/vendor",
		"m.example/vendor/old": "docker.io/vendor/old",
		"m.example/vendor/two": "docker.io/vendor/two",
		"n.example":            "docker.io/vendor",
		"n.example/old":        "docker.io/vendor/old",
		"n.example/two":        "docker.io/vendor/two",
		"m.example/deep":       "quay.io/deep",
	} {
		got, want := scopes[mirror], scopes[original]
		if got.Mirrors != original || got.Line != map[bool]int{true: 4, false: 5}[strings.HasPrefix(original, "docker.io")] {
			t.Errorf("%s: got %+v, want a mirror of %s by line 4 or 5", mirror, got, original)
		}
		for i := range got.Entries {
			if got.Entries[i].From == mirror {
				got.Entries[i].From = original
			}
		}
		got.Scope, got.Line, got.Mirrors, got.Enclosing = want.Scope, want.Line, "", want.Enclosing
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s is not as %s: %s", mirror, original, diff)
		}
	}
	if len(scopes) != 8+7 {
		t.Errorf("got %d scopes: %v", len(scopes), scopes)
	}
	if got := scopes["m.example/vendor/mine"]; !slices.Equal(got.Trust, []string{"a", "b"}) || got.Enclosing != "m.example/vendor" {
		t.Errorf("below a mirror: %+v", got)
	}
	for from, to := range map[string]string{
		"m.example/vendor/app:1":    "docker.io/vendor/app:1",
		"m.example/vendor:1":        "docker.io/vendor:1",
		"n.example/app:1":           "docker.io/vendor/app:1",
		"m.example/deep/a/b:1":      "quay.io/deep/x/a/b:1",
		"m.example/vendorx/app:1":   "m.example/vendorx/app:1",
		"docker.io/vendor/app:1":    "docker.io/vendor/app:1",
		"m.example/vendor/mine/x:1": "docker.io/vendor/mine/x:1",
	} {
		if got := p.original(ref(t, from)); got.String() != to {
			t.Errorf("original of %s: got %s, want %s", from, got, to)
		}
	}
	if e := p.Explain(ref(t, "n.example/app:1")); !strings.Contains(e.Text, "mirrors docker.io/vendor") || !strings.Contains(e.Text, "inherits from docker.io") {
		t.Errorf("explain says %q", e.Text)
	}
}

// One mirror may lie under another where no scope is made twice: the longer one holds, in trust and in names.
func TestMirrorUnderMirror(t *testing.T) {
	t.Parallel()
	p, err := loadText(t, head+"  docker.io: [a]\n  ghcr.io: [b]\nmirrors:\n  docker.io: [m.example]\n  ghcr.io: [m.example/ghcr]\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]string{
		"m.example/library/alpine": {"m.example", "docker.io/library/alpine"},
		"m.example/ghcr/x/y":       {"m.example/ghcr", "ghcr.io/x/y"},
	} {
		at := ref(t, name+":1")
		if s := p.selects(at); s == nil || s.name != want[0] || repository(p.original(at)) != want[1] {
			t.Errorf("%s: got scope %v, original %s; want %q", name, s, p.original(at), want)
		}
	}
	// A whole host is mirrored by a repository: that has no original, and stays what it is.
	if got := p.original(ref(t, "m.example/ghcr:1")); got.String() != "m.example/ghcr:1" {
		t.Errorf("got %s", got)
	}
}

// Where a root's certificate may stand decides what it may be (P11).
func TestP06Pins(t *testing.T) {
	t.Parallel()
	a := newSignatory("a")
	intermediate := a.root.Intermediate("intermediate")
	lone := certtest.PEM(certtest.SelfSigned(certtest.Key("P-256"), "lone"))
	for _, row := range []struct {
		what, pin, pem string
		ok             bool
		warning        string
	}{
		{"root", "root", a.pem(), true, ""},
		{"root", "intermediate", a.pem(), true, ""},
		{"root", "leaf", a.pem(), false, "never the leaf"},
		{"intermediate", "root", string(certtest.PEM(intermediate.Certificate)), true, "not self-signed"},
		{"intermediate", "intermediate", string(certtest.PEM(intermediate.Certificate)), true, ""},
		{"intermediate", "leaf", string(certtest.PEM(intermediate.Certificate)), false, "never the leaf"},
		{"leaf", "root", string(certtest.PEM(a.chain.Leaf())), false, "pin: leaf"},
		{"leaf", "intermediate", string(certtest.PEM(a.chain.Leaf())), false, "only stand first"},
		{"leaf", "leaf", string(certtest.PEM(a.chain.Leaf())), true, ""},
		{"self-signed leaf", "root", string(lone), true, ""},
		{"self-signed leaf", "intermediate", string(lone), false, "only stand first"},
		{"self-signed leaf", "leaf", string(lone), true, ""},
	} {
		p, err := Load(folderOf(t, "version: 1\nroots:\n  a: {certificates: [r.pem], pin: "+row.pin+"}\nscopes: {r.example: [a]}\n", map[string]string{"r.pem": row.pem}))
		if !row.ok {
			if e := loadError(t, err, codeRootInvalid, 3); !strings.Contains(e.Error(), row.warning) {
				t.Errorf("%s, pin %s: %v does not say %q", row.what, row.pin, e, row.warning)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, pin %s: %v", row.what, row.pin, err)
			continue
		}
		if got := strings.Join(p.Warnings(time.Now()), "\n"); (got == "") != (row.warning == "") || !strings.Contains(got, row.warning) {
			t.Errorf("%s, pin %s: warnings %q, want %q", row.what, row.pin, got, row.warning)
		}
		if got := p.Summary(time.Now()).Roots[0].Pin; got != row.pin {
			t.Errorf("got pin %s, want %s", got, row.pin)
		}
	}
}

// L4: every file that the policy names is in the digest, whichever section names it.
func TestDigestHasEverySectionsFiles(t *testing.T) {
	t.Parallel()
	s, stamps, hub, revoking := newSignatory("a"), newSignatory("stamps"), newSignatory("hub"), authorityOf(t, certtest.Root("revoking"))
	list := func() string { return string(revtest.PEM(revoking.List())) }
	files := map[string]string{"a.pem": s.pem(), "tsa.pem": stamps.pem(), "scope.pem": hub.pem(), "all.crl": list(), "crl/scope.crl": list(), "entry.crl": list()}
	file := folderOf(t, `version: 1
roots: {a: a.pem}
timestamps: {roots: [tsa.pem], use: always}
revocation: {check: enforce, crl: [all.crl]}
scopes:
  r.example:
    trust: [{root: a, revocation: {check: enforce, crl: [entry.crl]}}]
    timestamps: {roots: [scope.pem], use: always}
    revocation: {check: log, crl: [crl]}
    delegate: {root: a, from: "file:documents", identities: [CN=documents]}
`, files)
	now := time.Now().UTC().Truncate(time.Second)
	document := DelegationDocument{Version: 1, Issued: now, Expires: now.Add(time.Hour), Scope: "r.example", Grants: []Grant{grantOf("r.example/x", hub)}}
	post := func(version uint64) {
		document.Version = version
		at := filepath.Join(filepath.Dir(file), "documents")
		if err := os.RemoveAll(at); err != nil {
			t.Fatal(err)
		}
		(&bulletin{dir: at}).put(t, must(document.Encode()), posting{})
	}
	post(1)
	load := func() string {
		p, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		return p.Digest()
	}
	before := load()
	for name, content := range files {
		path := filepath.Join(filepath.Dir(file), name)
		if err := os.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if load() == before {
			t.Errorf("%s changed, and the digest did not", name)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if load() != before {
			t.Errorf("%s is as it was, and the digest is not", name)
		}
	}
	if post(2); load() == before {
		t.Error("the delegation document changed, and the digest did not")
	}
	if post(1); load() != before {
		t.Error("the delegation document is as it was, and the digest is not")
	}
}

// What inherits from what inherits has all of it; an exclusive scope between them stops it (P5, T3).
func TestP5Inherits(t *testing.T) {
	t.Parallel()
	s := map[string]*signatory{"P": newSignatory("P"), "C": newSignatory("C"), "G": newSignatory("G")}
	for _, row := range []struct {
		child, grandchild, want string
		summary                 []string
	}{
		{"{trust: [C], inherit: true}", "{trust: [G], inherit: true}", "A A A", []string{"C", "G", "P"}},
		{"[C]", "{trust: [G], inherit: true}", "R A A", []string{"C", "G"}},
		{"{trust: [C], inherit: true}", "[G]", "R R A", []string{"G"}},
	} {
		p := rooted(t, s, "scopes:\n  r.example: [P]\n  r.example/c: "+row.child+"\n  r.example/c/g: "+row.grandchild+"\nmirrors: {r.example/c/g: [m.example]}\n")
		for _, name := range []string{"r.example/c/g/x:1", "m.example/x:1"} {
			for i, want := range cells(t, row.want) {
				sig := s[[]string{"P", "C", "G"}[i]].sign(t, signing{})
				if got := p.Judge(ref(t, name), artifact, []registry.Signature{sig}, time.Now()); got.Verdict != want {
					t.Errorf("%s under %s, signed by %d, at %s: got %s, want %s", row.grandchild, row.child, i, name, got.Verdict, want)
				}
			}
			if got := p.Explain(ref(t, name)).Selected.Trust; !slices.Equal(got, row.summary) {
				t.Errorf("%s under %s at %s: trusts %q, want %q", row.grandchild, row.child, name, got, row.summary)
			}
		}
	}
}

// What is written and means nothing is told.
func TestSettingsInVain(t *testing.T) {
	t.Parallel()
	for rule, says := range map[string]string{
		"reject: true, claims: tag":           "rejects everything",
		"accept: unsigned, max-age: 3d":       "accepts what is unsigned",
		"accept: unsigned, strict-x509: true": "accepts what is unsigned",
		"trust: [a], claims: tag":             "",
	} {
		p, err := loadText(t, head+"  r.example: [b, a]\n  r.example/x: {"+rule+"}\n")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(p.Warnings(time.Now()), "\n")
		if (got == "") != (says == "") || !strings.Contains(got, says) {
			t.Errorf("%s: warnings %q, want %q", rule, got, says)
		}
	}
}

// What check and explain tell of each rule.
func TestRulesAreTold(t *testing.T) {
	t.Parallel()
	p, err := loadText(t, head+"  r.example/o: {accept: unsigned}\n  r.example/two: {require: [[a], [b]]}\n  r.example/one: {require: [[a, b], [b]], distinct: false}\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]string{
		"r.example/o/x:1":   {"accept-unsigned", "it accepts everything, signed or not"},
		"r.example/two/x:1": {"require", "a signature by a, and one by b, each by another key"},
		"r.example/one/x:1": {"require", "a signature by a or b, and one by b; one key may stand for several"},
	} {
		if e := p.Explain(ref(t, name)); e.Selected == nil || e.Selected.Rule != want[0] || !strings.Contains(e.Text, want[1]) {
			t.Errorf("%s: got %+v, want %q", name, e, want)
		}
	}
	p, err = loadText(t, head+"  r.example: {require: [[a], [{root: b, claims: tag}]]}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []EntrySummary{{Root: "a", From: "r.example", Group: 1}, {Root: "b", From: "r.example", Group: 2, Claims: "tag"}}
	if diff := cmp.Diff(want, p.Summary(time.Now()).Scopes[0].Entries); diff != "" {
		t.Error(diff)
	}
}
