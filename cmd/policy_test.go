package cmd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
)

// policyWorld is a world with a policy of two roots and a tree of scopes; fingerprints are those of the roots' certificates.
func policyWorld(t *testing.T) (w *world, file string, fingerprints []string) {
	t.Helper()
	w = newWorld(t)
	now := w.env.Now()
	org := certtest.Root("org root", certtest.Valid(now.Add(-time.Hour), now.Add(400*24*time.Hour)))
	vendor := certtest.Root("vendor root", certtest.Valid(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	w.file("roots/org.pem", string(certtest.PEM(org.Certificate)))
	w.file("roots/vendor.pem", string(certtest.PEM(vendor.Certificate)))
	return w, w.file("policy.yaml", `version: 1
roots:
  org: roots/org.pem
  vendor: {certificates: [roots/vendor.pem], identities: ["O=Vendor GmbH"]}
scopes:
  harbor.example: [org]
  harbor.example/vendor: {trust: [vendor], inherit: true}
  harbor.example/own: {trust: [org], claims: tag, max-age: 90d, algorithms: [ES256], enforce: false}
  harbor.example/old: {reject: true}
`), []string{certchain.Thumbprint(org.Certificate), certchain.Thumbprint(vendor.Certificate)}
}

func TestPolicyCheckShowsAllOfIt(t *testing.T) {
	t.Parallel()
	w, file, fingerprints := policyWorld(t)
	got := w.want(0, "policy", "check", "--policy", file)
	p, err := trust.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"loaded  " + file + "\n        sha256:" + p.Digest() + "\n",
		"CN=org root\n", "CN=vendor root\n",
		"          sha256 " + fingerprints[0] + "\n", "          sha256 " + fingerprints[1] + "\n",
		"(1 year)\n", "(ended 24 hours ago)\n",
		"only O=Vendor GmbH\n",
		"  harbor.example              6  trusts org\n",
		"    harbor.example/vendor     7  trusts org and vendor, inherits from",
		"    harbor.example/own        8  trusts org, does not inherit; claims tag; at most 90 days old; only\n",
		" ES256; NOT ENFORCED: it only reports\n",
		"    harbor.example/old        9  rejects everything\n",
		"root vendor: ",
		"\n2 roots, 4 scopes, 1 warning; what no scope matches is rejected\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if got.err != "" {
		t.Errorf("what the answer says was said twice: %s", got.err)
	}

	var sum struct {
		Kind string
		trust.Summary
	}
	if err := json.Unmarshal([]byte(w.want(0, "policy", "check", "--policy", file, "-o", "json").out), &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Kind != "policy-check" || sum.Digest != p.Digest() || len(sum.Scopes) != 4 || len(sum.Warnings) != 1 ||
		len(sum.Roots) != 2 || sum.Roots[0].Certificates[0].Thumbprint != fingerprints[0] {
		t.Errorf("%+v", sum)
	}
}

// TestPolicyCheckFindsIt: where verify looks, and only there.
func TestPolicyCheckFindsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.want(3, "policy", "check")
	for _, want := range []string{"policy check: no trust policy: looked for --policy, IMPRINT_POLICY, ", "imprint: hint: name it: --policy FILE"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("no %q in %s", want, got.err)
		}
	}
	if r := w.want(3, "policy", "check", "-o", "json").reason(t); r != "no-policy" {
		t.Errorf("reason %q", r)
	}
	for _, place := range []string{"etc/policy.yaml", "home/.config/imprint/policy.yaml", "env/policy.yaml", "flag/policy.yaml"} {
		_, chain := certtest.ChainOf(3, "P-256")
		dir, _, _ := strings.Cut(place, "/policy.yaml")
		w.file(dir+"/root.pem", string(certtest.PEM(chain[2])))
		w.file(place, "version: 1\nroots: {it: root.pem}\nscopes: {\"*\": [it]}\n")
		args := []string{"policy", "check"}
		switch dir {
		case "env":
			w.setenv("IMPRINT_POLICY", w.path(place))
		case "flag":
			args = append(args, "--policy", w.path(place))
		}
		if got := w.want(0, args...); !strings.HasPrefix(got.out, "loaded  "+w.path(place)+"\n") || strings.Contains(got.out, "no scope matches") {
			t.Errorf("with %s there it says\n%s", place, got.out)
		}
	}
}

func TestPolicyCheckErrors(t *testing.T) {
	t.Parallel()
	w, file, _ := policyWorld(t)
	twice := w.file("twice.yaml", "version: 1\nroots: {org: roots/org.pem}\nscopes:\n  a.example: [org]\n  A.example: [org]\n")
	unknown := w.file("unknown.yaml", "version: 1\nroots: {org: roots/org.pem}\nscopes:\n  a.example: {trust: [org], inherits: true}\n")
	for name, tt := range map[string]struct {
		args []string
		says string
	}{
		"a scope twice":  {[]string{"--policy", twice}, twice + ":5:3: "},
		"an unknown key": {[]string{"--policy", unknown}, unknown + ":4:29: "},
		"no such file":   {[]string{"--policy", w.path("nowhere.yaml")}, "nowhere.yaml"},
		"another digest": {[]string{"--policy", file, "--policy-sha256", strings.Repeat("0", 64)}, "has the digest"},
	} {
		for _, args := range [][]string{{"policy", "check"}, {"policy", "explain", "a.example/b"}} {
			got := w.want(3, append(args, tt.args...)...)
			if !strings.Contains(got.err, tt.says) || !strings.Contains(got.err, "imprint: hint: ") || strings.Contains(got.err, "imprint policy check --policy FILE checks") {
				t.Errorf("%s: %s", name, got.err)
			}
			if w.want(3, append(append(args, tt.args...), "-o", "json")...).reason(t) == "" {
				t.Errorf("%s: no reason", name)
			}
		}
	}
}

func TestPolicyExplain(t *testing.T) {
	t.Parallel()
	w, file, _ := policyWorld(t)
	for _, tt := range []struct {
		ref  string
		want []string
	}{
		{"harbor.example/vendor/app:1", []string{"judged  harbor.example/vendor/app:1\n", "scope       harbor.example/vendor  " + file + ":7\n", "trusts      org and vendor\n",
			"matching    harbor.example/vendor, harbor.example  (the longest decides)\n", "it inherits from harbor.example ", "\n2 scopes match; "}},
		{"HARBOR.example:443/vendorx/app", []string{"judged  harbor.example/vendorx/app\n", "scope       harbor.example  ", "only one that matches", "\n1 scope matches; "}},
		{"harbor.example/own", []string{"also        claims tag; at most 90 days old; only ES256; NOT ENFORCED: it only reports\n", "does not inherit, so harbor.example is not asked"}},
		{"harbor.example/old/app", []string{"rejected  harbor.example/old/app", "rejected-by-policy\n", "it rejects everything"}},
		{"quay.io/x/y:1", []string{"rejected  quay.io/x/y:1", "no-scope\n", "matching    no scope\n", "there is no implicit *"}},
		{"oci:nowhere:harbor.example/vendor/app:1", []string{"judged  harbor.example/vendor/app:1\n"}},
	} {
		got := w.want(0, "policy", "explain", tt.ref, "--policy", file)
		for _, want := range tt.want {
			if !strings.Contains(got.out, want) && !strings.Contains(strings.Join(strings.Fields(got.out), " "), want) { // it may be folded
				t.Errorf("%s: no %q in\n%s", tt.ref, want, got.out)
			}
		}
	}
	if got := w.want(3, "policy", "explain", "oci:a:1.0", "--policy", file); !strings.Contains(got.err, "is not HOST/REPO:TAG") || !strings.Contains(got.err, "imprint: hint: ") {
		t.Errorf("a layout without a name: %s", got.err)
	}
	if got := w.want(3, "policy", "explain", "app:1", "--policy", file); !strings.Contains(got.err, "policy explain app:1: ") {
		t.Errorf("no host: %s", got.err)
	}
	for _, args := range [][]string{{"--all", "a.example/b"}, {"--all", "--batch", file}, {"--all", "--jobs", "2"}, {"--all", "--fail-fast"}, {}} {
		w.want(3, append([]string{"policy", "explain", "--policy", file}, args...)...)
	}
}

// TestPolicyExplainBatch: in the order asked for, one object a line, and what cannot be asked about is said with its item.
func TestPolicyExplainBatch(t *testing.T) {
	t.Parallel()
	w, file, _ := policyWorld(t)
	list := w.file("list", "harbor.example/old/a\nharbor.example/a:1 # a comment\n\nquay.io/a/b\n")
	got := w.want(0, "policy", "explain", "--batch", list, "--policy", file)
	want := "rejected  harbor.example/old/a  scope harbor.example/old  rejected-by-policy\njudged    harbor.example/a:1  scope harbor.example trusts org\n" +
		"rejected  quay.io/a/b  no-scope\n\n2 rejected, 1 judged of 3 items\n"
	if got.out != want {
		t.Errorf("got\n%s\nwant\n%s", got.out, want)
	}
	if !strings.Contains(got.err, "imprint: warning: root vendor: ") {
		t.Errorf("the policy's warning was not said: %s", got.err)
	}
	var kinds []string
	for _, l := range lines(w.want(0, "policy", "explain", "--batch", list, "--policy", file, "-o", "json").out) {
		var e struct{ Kind, Reference, Reason string }
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Kind+" "+e.Reference+" "+e.Reason)
	}
	if got := strings.Join(kinds, "; "); got != "policy-explain harbor.example/old/a rejected-by-policy; policy-explain harbor.example/a:1 ; policy-explain quay.io/a/b no-scope; summary  " {
		t.Error(got)
	}
}
