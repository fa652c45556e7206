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

// policy check shows whose timestamps count, and when, so that fingerprints can be compared; explain what a scope asks.
func TestPolicyTimestamps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := w.env.Now()
	org, tsa := certtest.Root("org root"), certtest.Root("tsa root", certtest.Valid(now.Add(-time.Hour), now.Add(400*24*time.Hour)))
	w.file("roots/org.pem", string(certtest.PEM(org.Certificate)))
	w.file("roots/tsa.pem", string(certtest.PEM(tsa.Certificate)))
	text := func(use string) string {
		return `version: 1
roots: {org: roots/org.pem}
timestamps: {roots: [roots/tsa.pem], use: ` + use + `}
scopes:
  harbor.example: [org]
  harbor.example/release: {trust: [org], timestamps: {roots: [roots/tsa.pem], use: always}}
`
	}
	file := w.file("policy.yaml", text("after-cert-expiry"))
	got := w.want(0, "policy", "check", "--policy", file)
	for _, want := range []string{
		"TIMESTAMPS of the policy, line 3: count once a certificate has expired\n", "CN=tsa root\n    sha256 " + certchain.Thumbprint(tsa.Certificate) + "\n    until ",
		`TIMESTAMPS of scope "harbor.example/release", line 6: one is always asked for`, "trusts org, does not inherit; timestamps always (line 6)\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	var sum trust.Summary
	if err := json.Unmarshal([]byte(w.want(0, "policy", "check", "--policy", file, "-o", "json").out), &sum); err != nil {
		t.Fatal(err)
	}
	if len(sum.Timestamps) != 2 || sum.Timestamps[0].Of != trust.OfPolicy || sum.Timestamps[0].Use != "after-cert-expiry" || sum.Timestamps[0].Line != 3 ||
		len(sum.Timestamps[0].Roots) != 1 || sum.Timestamps[0].Roots[0].Thumbprint != certchain.Thumbprint(tsa.Certificate) || sum.Timestamps[1].Line != 6 {
		t.Errorf("%+v", sum.Timestamps)
	}
	for reference, want := range map[string]string{"harbor.example/a:1": "timestamps after-cert-expiry (line 3)", "harbor.example/release/a:1": "timestamps always (line 6)"} {
		if got := w.want(0, "policy", "explain", reference, "--policy", file); !strings.Contains(strings.Join(strings.Fields(got.out), " "), want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	// What is wrong is told with its place.
	wrong := w.file("wrong.yaml", text("alway"))
	if got := w.want(3, "policy", "check", "--policy", wrong); !strings.Contains(got.err, wrong+`:3:43: use of timestamps of the policy: "alway" is none of always, after-cert-expiry; did you mean "always"?`) {
		t.Errorf("said: %s", got.err)
	}
}
