package cmd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
)

// TestL2FlagsOnlyNarrow: L1 to L4: which policy is chosen for a run and no more; each flag turns acceptance into rejection with a reason
// of its own, what it allows stays accepted, and no flag accepts what the policy rejects.
func TestL2FlagsOnlyNarrow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("app", "an image", "1.0")
	ref := "oci:" + w.path("app") + ":1.0"
	w.keys()
	w.want(0, w.sign(ref, "--no-claims")...)
	w.file("other.pem", string(certtest.PEM(certtest.Root("other").Certificate)))
	file := w.file("policy.yaml", `version: 1
roots: {org: root.pem, other: other.pem}
scopes:
  a.example: [org, other]
  a.example/strict: {trust: [org], claims: tag, max-age: 1h, algorithms: [ES384]}
  a.example/old: {trust: [org], max-age: 52w}
  a.example/no: {reject: true}
  a.example/log: {trust: [other], enforce: false}
`)
	verify := func(as string, more ...string) (code int, reason string) {
		t.Helper()
		got := w.run(append([]string{"verify", ref, "--policy", file, "--as", as, "-o", "json"}, more...)...)
		var r struct{ Kind, Reason string }
		if err := json.Unmarshal([]byte(lines(got.out)[0]), &r); err != nil {
			t.Fatalf("%s%s", got.out, got.err)
		}
		return got.code, r.Reason
	}
	for _, tt := range []struct {
		as     string
		flags  []string
		code   int
		reason string
	}{
		{"a.example/x", nil, 0, ""},
		{"a.example/x", []string{"--only-root", "org"}, 0, ""},
		{"a.example/x", []string{"--only-root", "other", "--only-root", "org"}, 0, ""},
		{"a.example/x", []string{"--only-root", "other"}, 1, "no-trusted-signature"},
		{"a.example/x", []string{"--only-root", "nobody"}, 3, "policy-root-unknown"},
		{"a.example/x", []string{"--require-claim"}, 1, "claims-missing"},
		{"a.example/x", []string{"--max-age", "1h"}, 0, ""},
		{"a.example/x", []string{"--algorithms", "ES256,PS256"}, 0, ""},
		{"a.example/x", []string{"--algorithms", "PS256"}, 1, "algorithm-not-allowed"},
		{"a.example/x", []string{"--algorithms", "ES255"}, 3, "policy-value"},
		{"a.example/strict", []string{"--algorithms", "ES256", "--max-age", "90d", "--only-root", "org"}, 1, "algorithm-not-allowed"},
		{"a.example/no", []string{"--only-root", "org"}, 1, "rejected-by-policy"},
		{"b.example/x", []string{"--only-root", "org"}, 1, "no-scope"},
		{"a.example/log", []string{"--only-root", "org"}, 0, "no-trusted-signature"},
	} {
		if code, reason := verify(tt.as, tt.flags...); code != tt.code || reason != tt.reason {
			t.Errorf("%s %s: exit %d %s, want %d %s", tt.as, strings.Join(tt.flags, " "), code, reason, tt.code, tt.reason)
		}
	}
	later := w.env.Now().AddDate(0, 0, 2)
	w.env.Now = func() time.Time { return later }
	for age, want := range map[string]string{"1d": "too-old", "3d": ""} {
		if _, reason := verify("a.example/old", "--max-age", age); reason != want {
			t.Errorf("--max-age %s of what is two days old, and the policy allows a year: %q", age, reason)
		}
	}

	// L4: the digest is over the roots too, and is pinned.
	p, err := trust.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	pin := []string{"verify", ref, "--policy", file, "--as", "a.example/x", "--policy-sha256", p.Digest()}
	w.want(0, pin...)
	w.file("other.pem", string(certtest.PEM(certtest.Root("another").Certificate)))
	if r := w.want(3, append(pin, "-o", "json")...).reason(t); r != "policy-digest" {
		t.Errorf("a root's file was replaced: %s", r)
	}
	for _, command := range [][]string{{"policy", "check"}, {"policy", "explain", "a.example/x"}, {"policy", "explain", "--all"}, {"policy", "test", w.file("cases.yaml", "version: 1\ntests: {a.example/x: {org: accepted}}\n")}} {
		if r := w.want(3, append(command, "--policy", file, "--policy-sha256", p.Digest(), "-o", "json")...).reason(t); r != "policy-digest" {
			t.Errorf("%v: %s", command, r)
		}
	}
	// L3: a root is a whole policy.
	w.want(0, "verify", ref, "--root", w.path("root.pem"))
	w.want(1, "verify", ref, "--root", w.path("other.pem"))
	w.want(3, "verify", ref, "--root", w.path("root.pem"), "--policy", file)
}
