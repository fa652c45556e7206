package trust

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/registry"
)

// cells reads a row of A and R, one for each column.
func cells(t *testing.T, row string) []string {
	t.Helper()
	var out []string
	for _, c := range strings.Fields(row) {
		out = append(out, map[string]string{"A": Accepted, "R": Rejected}[c])
	}
	return out
}

func TestT1Clusters(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{}
	for _, name := range []string{"org", "dev", "dockerlib", "wordpress"} {
		by[name] = newSignatory(name)
	}
	by["org"] = newSignatory("org", organisation("Acme"))
	unknown := newSignatory("unknown")
	signed := map[string]registry.Signature{"unknown": unknown.sign(t, signing{})}
	for name, s := range by {
		signed[name] = s.sign(t, signing{})
	}
	columns := []string{"org", "dev", "dockerlib", "wordpress", "dev+org", "", "unknown+org"}
	policy := func(everywhere string) *Policy {
		files := map[string]string{}
		for name, s := range by {
			files["roots/"+name+".pem"] = s.pem()
		}
		p, err := Load(folderOf(t, fmt.Sprintf(`
version: 1
roots:
  org:       {certificates: [roots/org.pem], identities: ["C=US, ST=WA, O=Acme"]}
  dev:       roots/dev.pem
  dockerlib: roots/dockerlib.pem
  wordpress: roots/wordpress.pem
scopes:
  "*": %s
  mirror.acme.example/library: {trust: [dockerlib], inherit: true}
  mirror.acme.example/wordpress: {trust: [wordpress], inherit: true}
`, everywhere), files))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	clusters := map[string]*Policy{"dev": policy("[org, dev]"), "prod": policy("[org]")}
	for _, row := range []struct{ image, cluster, want string }{
		{"mirror.acme.example/wordpress", "dev", "A A R A A R A"},
		{"mirror.acme.example/wordpress", "prod", "A R R A A R A"},
		{"mirror.acme.example/library/alpine", "dev", "A A A R A R A"},
		{"mirror.acme.example/library/alpine", "prod", "A R A R A R A"},
		{"ci.acme.example/team/api", "dev", "A A R R A R A"},
		{"ci.acme.example/team/api", "prod", "A R R R A R A"},
		{"mirror.acme.example/libraryx/y", "dev", "A A R R A R A"},
	} {
		for i, want := range cells(t, row.want) {
			var sigs []registry.Signature
			for _, name := range strings.FieldsFunc(columns[i], func(r rune) bool { return r == '+' }) {
				sigs = append(sigs, signed[name])
			}
			got := clusters[row.cluster].Judge(ref(t, row.image+":1.0"), artifact, sigs, time.Now())
			if got.Verdict != want {
				t.Errorf("%s in %s, signed by %q: got %s %s, want %s", row.image, row.cluster, columns[i], got.Verdict, got.Reason, want)
			}
			reason := ""
			switch {
			case want == Rejected && columns[i] == "":
				reason = codeUnsigned
			case want == Rejected:
				reason = codeNoTrusted
			}
			if got.Reason != reason {
				t.Errorf("%s in %s, signed by %q: got reason %q, want %q", row.image, row.cluster, columns[i], got.Reason, reason)
			}
		}
	}
}

// Rows and columns without delegation and mirrors; all of them are told through the command.
func TestT2ScopeSelection(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{}
	for _, name := range []string{"mine", "vendor", "hub"} {
		by[name] = newSignatory(name)
	}
	p := rooted(t, by, `
scopes:
  private-registry.example: [mine]
  docker.io: [hub]
  docker.io/vendor: [vendor]
  docker.io/vendor/legacy: {reject: true}
`)
	signed := map[string]registry.Signature{}
	for name, s := range by {
		signed[name] = s.sign(t, signing{})
	}
	columns := []string{"mine", "vendor", "hub", "vendor+hub", ""}
	for _, row := range []struct{ image, scope, want string }{
		{"private-registry.example/a/b", "private-registry.example", "A R R R R"},
		{"docker.io/library/alpine", "docker.io", "R R A A R"},
		{"docker.io/acme2/x", "docker.io", "R R A A R"},
		{"docker.io/vendor/app", "docker.io/vendor", "R A R A R"},
		{"docker.io/vendorx/app", "docker.io", "R R A A R"},
		{"docker.io/vendor/legacy/app", "docker.io/vendor/legacy", "R R R R R"},
		{"docker.io/vendor/legacyx/app", "docker.io/vendor", "R A R A R"},
		{"mirror.acme.example/other/x", "", "R R R R R"},
		{"quay.io/x/y", "", "R R R R R"},
		{"docker.io.evil.example/vendor/app", "", "R R R R R"},
		{"registry-1.docker.io/vendor/app", "docker.io/vendor", "R A R A R"},
		{"DOCKER.IO:443/vendor/app", "docker.io/vendor", "R A R A R"},
	} {
		at := ref(t, row.image+":1.0")
		for i, want := range cells(t, row.want) {
			var sigs []registry.Signature
			for _, name := range strings.FieldsFunc(columns[i], func(r rune) bool { return r == '+' }) {
				sigs = append(sigs, signed[name])
			}
			got := p.Judge(at, artifact, sigs, time.Now())
			if got.Verdict != want {
				t.Errorf("%s signed by %q: got %s %s, want %s", row.image, columns[i], got.Verdict, got.Reason, want)
			}
			switch selected := got.Scope; {
			case row.scope == "":
				if selected != nil || got.Reason != codeNoScope {
					t.Errorf("%s: got scope %v, reason %s, want none and no-scope", row.image, selected, got.Reason)
				}
			case selected == nil || selected.Scope != row.scope:
				t.Errorf("%s: got scope %v, want %s", row.image, selected, row.scope)
			}
			if row.scope == "docker.io/vendor/legacy" && got.Reason != codeRejected {
				t.Errorf("%s: got reason %s", row.image, got.Reason)
			}
		}
		e := p.Explain(at)
		if (e.Selected == nil) != (row.scope == "") || e.Selected != nil && e.Selected.Scope != row.scope {
			t.Errorf("explain %s: got %+v, want scope %q", row.image, e, row.scope)
		}
	}
}

// Rows without require, which is with its groups.
func TestT3Composition(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{"P": newSignatory("P"), "C": newSignatory("C"), "G": newSignatory("G")}
	p, c := by["P"].sign(t, signing{}), by["C"].sign(t, signing{})
	columns := [][]registry.Signature{{p}, {c}, {p, c}, nil}
	for _, row := range []struct{ name, child, want string }{
		{"absent", "", "A R A R"},
		{"exclusive", "r.example/child: {trust: [C]}", "R A A R"},
		{"inherit", "r.example/child: {trust: [C], inherit: true}", "A A A R"},
		{"explicitly not", "r.example/child: {trust: [C], inherit: false}", "R A A R"},
		{"copy form", "r.example/child: {trust: [P, C]}", "A A A R"},
		{"reject", "r.example/child: {reject: true}", "R R R R"},
		{"grandchild", "r.example/child: {trust: [C]}\n  r.example/child/app: {trust: [G], inherit: true}", "R A A R"},
	} {
		t.Run(row.name, func(t *testing.T) {
			policy := rooted(t, by, "scopes:\n  r.example: [P]\n  "+row.child+"\n")
			for i, want := range cells(t, row.want) {
				got := policy.Judge(ref(t, "r.example/child/app:1"), artifact, columns[i], time.Now())
				if got.Verdict != want {
					t.Errorf("column %d: got %s %s, want %s", i, got.Verdict, got.Reason, want)
				}
			}
		})
	}
}

func TestT4Claims(t *testing.T) {
	t.Parallel()
	s := newSignatory("signer")
	by := map[string]*signatory{"root": s}
	modes := map[string]*Policy{}
	for _, mode := range claimsModes {
		modes[mode] = rooted(t, by, fmt.Sprintf("scopes:\n  \"*\": {trust: [root], claims: %s}\n", mode))
	}
	at := "@" + artifact.Digest.String()
	for _, row := range []struct {
		claims    []string
		reference string
		want      string // ignore, if-present, tag, name
	}{
		{nil, "r.example/x:1.0", "A A R R"},
		{nil, "r.example/x" + at, "A A A R"},
		{[]string{}, "r.example/x:1.0", "A R R R"},
		{[]string{}, "r.example/x" + at, "A A A R"},
		{[]string{"r.example/x"}, "r.example/x:1.0", "A A R A"},
		{[]string{"1.0"}, "r.example/x:1.0", "A A A R"},
		{[]string{"1.0"}, "r.example/x:2.0", "A R R R"},
		{[]string{"1.0"}, "r.example/x" + at, "A A A R"},
		{[]string{"r.example/x:1.0"}, "r.example/x:1.0", "A A A A"},
		{[]string{"r.example/x:1.0"}, "r.example/x:2.0", "A R R R"},
		{[]string{"r.example/x:1.0"}, "evil.example/x:1.0", "A R R R"},
		{[]string{"r.example/x:1.0"}, "evil.example/x" + at, "A A A R"},
		{[]string{"r.example/x"}, "r.example/x" + at, "A A A A"},
		{[]string{"r.example/x:1.0"}, "r.example/x" + at, "A A A A"},
		// By tag and digest is by tag; canonical forms are equal; and neighbours are not.
		{[]string{"1.0"}, "r.example/x:2.0" + at, "A R R R"},
		{[]string{"R.example:443/x:1.0"}, "r.example/x:1.0", "A A A A"},
		{[]string{"r.example/x"}, "r.example/x/y:1.0", "A R R R"},
		{[]string{"r.example/x/y"}, "r.example/x:1.0", "A R R R"},
		{[]string{"1.0", "r.example/y:1.0"}, "r.example/x:1.0", "A A A R"},
		{[]string{"r.example/x:1.0" + at}, "r.example/x:1.0", "A R R R"},
	} {
		sig := s.sign(t, signing{claims: row.claims})
		for i, want := range cells(t, row.want) {
			mode := claimsModes[i]
			got := modes[mode].Judge(ref(t, row.reference), artifact, []registry.Signature{sig}, time.Now())
			if got.Verdict != want {
				t.Errorf("claims %q, %s, mode %s: got %s %s (%s), want %s", row.claims, row.reference, mode, got.Verdict, got.Reason, got.Detail, want)
			}
			reason := ""
			switch {
			case want == Rejected && row.claims == nil:
				reason = codeClaimsMissing
			case want == Rejected:
				reason = codeNotCovered
			}
			if got.Reason != reason {
				t.Errorf("claims %q, %s, mode %s: got reason %q, want %q", row.claims, row.reference, mode, got.Reason, reason)
			}
		}
	}
}

func TestClaimsDetail(t *testing.T) {
	t.Parallel()
	s := newSignatory("signer")
	sig := s.sign(t, signing{claims: []string{"1.4.2", "1.4"}})
	got := oneRoot(t, s).Judge(ref(t, "r.example/x:latest"), artifact, []registry.Signature{sig}, time.Now())
	wantReport(t, got, Rejected, codeNotCovered)
	if want := `claims 1.4 and 1.4.2, not "latest"`; got.Detail != want {
		t.Errorf("got %q, want %q", got.Detail, want)
	}
}

// An entry's setting holds before the scope's, and an enclosing scope's never.
func TestSettingsOfEntryBeforeScope(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{"a": newSignatory("a"), "b": newSignatory("b")}
	p := rooted(t, by, `
scopes:
  r.example: {trust: [b], claims: tag}
  r.example/x: {trust: [{root: a, claims: ignore}], claims: tag, inherit: true}
  r.example/y: {trust: [a], inherit: true}
`)
	a, b := by["a"].sign(t, signing{}), by["b"].sign(t, signing{})
	for _, row := range []struct {
		reference string
		sig       registry.Signature
		reason    string
	}{
		{"r.example/x/app:1", a, ""},
		{"r.example/x/app:1", b, codeClaimsMissing},
		{"r.example/y/app:1", b, ""},
		{"r.example/z:1", b, codeClaimsMissing},
	} {
		got := p.Judge(ref(t, row.reference), artifact, []registry.Signature{row.sig}, time.Now())
		if got.Reason != row.reason {
			t.Errorf("%s: got %q, want %q", row.reference, got.Reason, row.reason)
		}
	}
}

// Who may push deeper under a trusted scope gains nothing by it: a deeper rule exists only if the policy has it.
func TestP12SquattingAndP13PrefixConfusion(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{"vendor": newSignatory("vendor"), "hub": newSignatory("hub")}
	p := rooted(t, by, "scopes:\n  docker.io: [hub]\n  docker.io/vendor: [vendor]\n")
	for reference, scope := range map[string]string{
		"docker.io/vendor/app:1":               "docker.io/vendor",
		"docker.io/vendor/app/deeper/still:1":  "docker.io/vendor", // P12
		"docker.io/vendor-evil/app:1":          "docker.io",        // P13
		"docker.io/vendorx/app:1":              "docker.io",
		"docker.io.evil.example/vendor/app:1":  "",
		"docker.io:5000/vendor/app:1":          "",
		"sub.docker.io/vendor/app:1":           "",
		"evil.example/docker.io/vendor/app:1":  "",
		"localhost:5000/docker.io/vendor/x:1":  "",
		"registry-1.docker.io.:443/vendor/x:1": "docker.io/vendor",
	} {
		if e := p.Explain(ref(t, reference)); (e.Selected == nil) != (scope == "") || e.Selected != nil && e.Selected.Scope != scope {
			t.Errorf("%s: got %+v, want scope %q", reference, e.Selected, scope)
		}
	}
	for _, bad := range []string{"docker.io@evil.com/vendor/app:1", "docker.io/vendor/../evil/app:1", "docker.io/vendor//app:1", "docker.io/Vendor/app:1", "docker.io\\vendor/app:1", "docker.io%2fvendor/app:1"} {
		if r, err := registry.ParseReference(bad); err == nil {
			t.Errorf("%s is parsed as %+v", bad, r)
		}
	}
}

func TestSummaryAndExplain(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{"a": newSignatory("a"), "b": newSignatory("b")}
	p := rooted(t, by, `
scopes:
  r.example/x/y: {trust: [b], inherit: true, claims: tag}
  r.example-z: [a]
  "*": [a]
  r.example/x: {trust: [a], max-age: 90d, enforce: false}
  r.example: {reject: true}
  r.example/x-y: [b]
`)
	sum := p.Summary(time.Now())
	var order []string
	for _, s := range sum.Scopes {
		order = append(order, s.Scope+" in "+s.Enclosing)
	}
	if got, want := strings.Join(order, "; "), "* in ; r.example in *; r.example/x in r.example; r.example/x/y in r.example/x; r.example/x-y in r.example; r.example-z in *"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if s := sum.Scopes[3]; fmt.Sprint(s.Trust) != "[a b]" || !s.Inherits || s.Claims != "tag" || !s.Enforced || s.Line != 7 || s.Rule != "trust" {
		t.Errorf("got %+v", s)
	}
	if s := sum.Scopes[2]; s.MaxAge != "90 days" || s.Enforced || s.Claims != "if-present" {
		t.Errorf("got %+v", s)
	}
	if len(sum.Roots) != 2 || sum.Roots[0].Name != "a" || len(sum.Roots[0].Certificates) != 1 || sum.Digest != p.Digest() || sum.File != p.File() || len(sum.Warnings) != 0 {
		t.Errorf("got %+v", sum)
	}
	for reference, want := range map[string]struct{ reason, matching, text string }{
		"r.example/x/y/z:1": {"", "[r.example/x/y r.example/x r.example *]", "scope r.example/x/y is the longest of 4 that match; it trusts a, b; it inherits from r.example/x"},
		"r.example/x:1":     {"", "[r.example/x r.example *]", "scope r.example/x is the longest of 3 that match; it trusts a; it does not inherit, so r.example is not asked; it does not enforce: what it rejects is only reported"},
		"r.example/q:1":     {codeRejected, "[r.example *]", "scope r.example is the longest of 2 that match; it rejects everything; it does not inherit, so * is not asked"},
		"q.example/q:1":     {"", "[*]", "scope * is the only one that matches; it trusts a"},
	} {
		e := p.Explain(ref(t, reference))
		if e.Reason != want.reason || fmt.Sprint(e.Matching) != want.matching || e.Text != want.text {
			t.Errorf("%s: got %q %v %q", reference, e.Reason, e.Matching, e.Text)
		}
	}
}
