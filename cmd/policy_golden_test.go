package cmd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
)

// examples are the two policies that the documentation rests on, and one with a bit of everything.
var examples = map[string]string{
	"dev": `version: 1
roots:
  org:       {certificates: [roots/org.pem], identities: ["C=US, ST=WA, O=Acme"]}
  dev:       roots/dev.pem
  dockerlib: roots/docker-library.pem
  wordpress: roots/wordpress.pem
scopes:
  "*": [org, dev]
  mirror.acme.example/library: {trust: [dockerlib], inherit: true}
  mirror.acme.example/wordpress: {trust: [wordpress], inherit: true}
`,
	"consumer": `version: 1
roots:
  mine:        {certificates: [roots/mine.pem]}
  vendor:      {certificates: [roots/vendor.pem], identities: ["C=DE, ST=BE, O=Vendor GmbH"]}
  hub:         {certificates: [roots/docker-uploaders.pem]}
  hub-ca:      {certificates: [roots/hub-delegation-ca.pem]}
scopes:
  private-registry.example: [mine]
  docker.io:
    trust: [hub]
    delegate: {root: hub-ca, from: registry, at: "docker.io/trust/delegations:v1", identities: ["C=US, ST=CA, O=Docker, CN=delegations"], min-version: 1}
  docker.io/vendor: [vendor]
  docker.io/vendor/legacy: {reject: true}
mirrors:
  docker.io/vendor: [mirror.acme.example/vendor]
`,
	"everything": `version: 1
roots:
  org: {certificates: [roots/org.pem], pin: intermediate}
  qa: {certificates: [roots/qa.pem], kind: signing-authority}
timestamps: {roots: [roots/tsa.pem], use: after-cert-expiry}
revocation: {check: enforce, network: true}
scopes:
  harbor.example: [org]
  harbor.example/release:
    require: [[org], [org, qa]]
    claims: tag
    max-age: 90d
    algorithms: [ES256, ES384]
    strict-x509: true
  harbor.example/shared: {require: [[org], [qa]], distinct: false, enforce: false}
  harbor.example/team: {trust: [{root: qa, identities: ["CN=ci"], claims: name, max-age: 2w, algorithms: [PS256]}], inherit: true, revocation: {check: "off"}}
  harbor.example/always: {trust: [org], timestamps: {roots: [roots/tsa.pem], use: always}}
  harbor.example/open/x: {accept: unsigned}
mirrors:
  harbor.example/team/x: [cache.example/x]
`,
}

// exampleRoots are the certificates that the examples name.
func exampleRoots(w *world) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w.env.Now = func() time.Time { return now }
	for _, name := range []string{"org", "dev", "docker-library", "wordpress", "mine", "vendor", "docker-uploaders", "hub-delegation-ca", "qa", "tsa"} {
		w.file("roots/"+name+".pem", string(certtest.PEM(certtest.Root(name+" root", certtest.Valid(now.AddDate(-1, 0, 0), now.AddDate(9, 0, 0))).Certificate)))
	}
}

// What differs from run to run, and what package foreign says: its own tests look at that.
var (
	changing = regexp.MustCompile(`[0-9a-f]{64}|"serial":"[0-9a-f]*"`)
	exports  = regexp.MustCompile(`(?s)\n  EXPORT TO .*?\n\n`)
)

// TestS41ExplainIsATable: a policy as a finite table of scopes and roots, and why which one decides, as text and as JSON. Nothing but
// the file decides: the golden files were read, and then written by UPDATE=1.
func TestS41ExplainIsATable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	exampleRoots(w)
	for name, text := range examples {
		file := w.file(name+".yaml", text)
		var b strings.Builder
		for _, args := range [][]string{
			{"check"}, {"explain", "--all"}, {"explain", "--all", "-o", "json"},
			{"explain", "mirror.acme.example/wordpress:1"}, {"explain", "docker.io/acme2/x"}, {"explain", "mirror.acme.example/vendor/legacy/a"},
			{"explain", "harbor.example/release/app:1"}, {"explain", "harbor.example/shared/app:1"}, {"explain", "cache.example/x/y:1"}, {"explain", "harbor.example/open/x"},
		} {
			got := w.want(0, append([]string{"policy"}, append(args, "--policy", file)...)...)
			fmt.Fprintf(&b, "$ imprint policy %s\n%s%s\n", strings.Join(args, " "), got.err, got.out)
		}
		text := changing.ReplaceAllString(exports.ReplaceAllString(strings.ReplaceAll(b.String(), w.dir+"/", ""), "\n  (exports)\n\n"), "…")
		for _, l := range strings.Split(text, "\n") {
			if len([]rune(l)) > 100 && !strings.HasPrefix(l, "{") {
				t.Errorf("%s: %d columns: %s", name, len([]rune(l)), l)
			}
		}
		golden := filepath.Join("testdata", "policy-"+name+".golden")
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s is not what was read (-want +got):\n%s", golden, diff)
		}
	}
}

// TestPolicyCheckOfManyScopes: many scopes are a screen, and all of them where that is asked for.
func TestPolicyCheckOfManyScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	exampleRoots(w)
	var b strings.Builder
	b.WriteString("version: 1\nroots: {org: roots/org.pem, dev: roots/dev.pem}\nscopes:\n  big.example: [org]\n  small.example: {reject: true}\n")
	for i := range 700 {
		fmt.Fprintf(&b, "  big.example/team%d: {trust: [dev], inherit: true}\n", i)
	}
	b.WriteString("  big.example/team7/alone: [dev]\n  big.example/team7/seen: {trust: [dev], enforce: false}\n  big.example/open/x: {accept: unsigned}\n")
	file := w.file("big.yaml", b.String())
	got := w.want(0, "policy", "check", "--policy", file)
	for _, want := range []string{
		"       700  trust roots and inherit\n", "         2  trust roots, and do not inherit from the scope around\n", "         1  trust roots, with no scope around\n", "         1  reject everything\n",
		"         1  ACCEPT WHAT IS UNSIGNED\n", "         1  NOT ENFORCED: they only report\n", "  big.example      703  trusts org\n", "  small.example      0  rejects everything\n",
		"\n2 roots, 705 scopes, 0 warnings; what no scope matches is rejected\n", "--all, or -o json",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if n := strings.Count(got.out, "\n"); n > 60 {
		t.Errorf("%d lines", n)
	}
	for _, lost := range []string{"notation ", "kyverno ", "ratify "} {
		if !strings.Contains(got.out, "\n  "+lost) {
			t.Errorf("what an export to %swould lose is not told", lost)
		}
	}
	if json := w.want(0, "policy", "check", "--policy", file, "-o", "json").out; !strings.Contains(json, `"exports":[{"to":"notation","losses":[{`) || strings.Count(json, `"scope":"big.example/team`) < 700 {
		t.Error("JSON has not all of it")
	}
	if got := w.want(0, "policy", "check", "--all", "--policy", file); strings.Count(got.out, "\n    big.example/team") < 700 {
		t.Error("--all does not show each scope")
	}
}

// TestPolicyTest: a table is told row by row where it fails, and how much of the policy it tried.
func TestPolicyTest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	exampleRoots(w)
	file := w.file("dev.yaml", examples["dev"])
	table := w.file("cases.yaml", `version: 1
tests:
  mirror.acme.example/wordpress:1.0:
    org: accepted
    wordpress: accepted
    dockerlib: no-trusted-signature
    unsigned: unsigned
  quay.io/x: {org + stranger: accepted}
`)
	got := w.want(0, "policy", "test", table, "--policy", file)
	for _, want := range []string{"passed  " + table + "\n", "no test for mirror.acme.example/library\n", "\n5 of 5 tests passed; 2 of 3 scopes tested\n"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	wrong := w.file("wrong.yaml", "version: 1\ntests:\n  mirror.acme.example/library/a:1.0: {wordpress: accepted, org: accepted}\n")
	got = w.want(1, "policy", "test", wrong, "--policy", file)
	for _, want := range []string{"failed  " + wrong + "\n", "  " + wrong + ":3:39\n", "    reference   mirror.acme.example/library/a:1.0\n    signatures  wordpress\n    wanted      accepted\n    got         rejected, no-trusted-signature: ",
		"scope mirror.acme.example/library\n", "\n1 of 2 tests passed, 1 failed; 1 of 3 scopes tested\n"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if !strings.Contains(got.err, "imprint: hint: imprint policy explain REF --policy "+file) {
		t.Errorf("%s", got.err)
	}
	var r struct {
		Kind string
		trust.CasesReport
	}
	if err := json.Unmarshal([]byte(w.want(1, "policy", "test", wrong, "--policy", file, "-o", "json").out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Kind != "policy-test" || r.Failed != 1 || len(r.Cases) != 2 || r.Cases[0].Passed || !r.Cases[1].Passed || r.Cases[0].Line != 3 || r.Cases[0].Reason != "no-trusted-signature" || len(r.PolicyDigest) != 64 {
		t.Errorf("%+v", r)
	}
	for text, code := range map[string]string{"version: 1\ntests: {a.example/x: {nobody: accepted}}\n": "policy-root-unknown", "tests: {}\n": "policy-version", "": "policy-syntax"} {
		if got := w.want(3, "policy", "test", w.file("bad.yaml", text), "--policy", file, "-o", "json"); got.reason(t) != code || !strings.Contains(got.err, "docs/policy.md") {
			t.Errorf("%q: %s%s", text, got.out, got.err)
		}
	}
	w.want(3, "policy", "test", w.path("none.yaml"), "--policy", file)
	w.want(3, "policy", "test", "--policy", file)
	w.want(3, "policy", "test", table, table, "--policy", file)
	if r := w.want(3, "policy", "test", table, "-o", "json").reason(t); r != "no-policy" {
		t.Errorf("without a policy: %s", r)
	}
}

// TestP10DoctorNamesThePolicy: which file is used, found how, with its digest; and that nothing was looked for in the working folder.
func TestP10DoctorNamesThePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	exampleRoots(w)
	bare := func(s string) string { return strings.Join(strings.Fields(s), "") } // it may be folded anywhere
	says := func(want string) {
		t.Helper()
		if got := w.run("doctor").out; !strings.Contains(bare(got), bare(want)) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	says("none; looked for --policy, IMPRINT_POLICY, " + w.path("home/.config/imprint/policy.yaml") + ", " + w.path("etc/policy.yaml"))
	text := "version: 1\nroots: {org: org.pem}\nscopes: {a.example: [org]}\n"
	pem, err := os.ReadFile(w.path("roots/org.pem"))
	if err != nil {
		t.Fatal(err)
	}
	w.file("etc/org.pem", string(pem))
	file := w.file("etc/policy.yaml", text)
	p, err := trust.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	says(file + ", the first of --policy, IMPRINT_POLICY, " + w.path("home/.config/imprint/policy.yaml") + ", " + file + ": 1 root, 1 scope; sha256:" + p.Digest())
	w.setenv("IMPRINT_POLICY", file)
	says(file + ", by IMPRINT_POLICY: 1 root, 1 scope; sha256:" + p.Digest())
}
