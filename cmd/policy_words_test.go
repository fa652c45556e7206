package cmd

import (
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// TestPolicyWords: what is wrong on the command line is said of the flag, and not of a policy that is as it should be.
func TestPolicyWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("app", "an image", "1.0")
	_, chain := certtest.ChainOf(3, "P-256")
	w.file("root.pem", string(certtest.PEM(chain[2])))
	policy := w.file("policy.yaml", "version: 1\nroots: {org: root.pem}\nscopes: {a.example: [org]}\n")
	verify := []string{"verify", "oci:" + w.path("app") + ":1.0", "--as", "a.example/x:1.0"}
	for _, tt := range []struct {
		name       string
		args       []string
		says, hint string
		reason     string
	}{
		{"no algorithm", append(verify, "--policy", policy, "--algorithms", "es384"), `narrowing it: algorithm "es384"`, "correct the flag: ", "policy-value"},
		{"no root", append(verify, "--policy", policy, "--only-root", "ogr"), `did you mean "org"?`, "correct the flag: ", "policy-root-unknown"},
		{"no identity", append(verify, "--root", w.path("root.pem"), "--identity", "bogus"), `"bogus"`, "--identity attributes", "policy-identity-invalid"},
		{"half a digest", append(verify, "--policy", policy, "--policy-sha256", "abc"), "64 hex digits", "imprint policy check", "usage"},
		{"another digest", append(verify, "--policy", policy, "--policy-sha256", "sha256:"+strings.Repeat("0", 64)), "has the digest", "who changed it", "policy-digest"},
		{"no policy there", append(verify, "--policy", w.path("absent.yaml")), "no such file", "how its name is spelled", "policy-unreadable"},
		{"none to check", []string{"policy", "check", "--policy", w.path("absent.yaml")}, "no such file", "how its name is spelled", "policy-unreadable"},
		{"check as lint is called", []string{"policy", "check", "prod.yaml"}, `"prod.yaml" is one too many`, "imprint policy check --policy prod.yaml", "usage"},
		{"all and some", []string{"policy", "explain", "a.example/x", "--all", "--policy", policy}, "exclude each other", "imprint policy explain --help", "usage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := w.want(3, tt.args...)
			oneErrorOneHint(t, got)
			_, hint, _ := strings.Cut(got.err, "imprint: hint: ")
			if !strings.Contains(got.err, tt.says) || !strings.Contains(hint, tt.hint) {
				t.Errorf("%s, want %q and the hint %q", got.err, tt.says, tt.hint)
			}
			if r := w.want(3, append(tt.args, "-o", "json")...).reason(t); r != tt.reason {
				t.Errorf("reason %s, want %s", r, tt.reason)
			}
		})
	}
}
