package ui

import (
	"bytes"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust"
)

// What verify says of timestamps, and of how long an acceptance lasts that rests on one.
func TestVerifyTimestamps(t *testing.T) {
	t.Parallel()
	at := signed
	section := &trust.TimestampsInForce{Use: "after-cert-expiry", Line: 7}
	good := &trust.Timestamp{Status: trust.StampGood, At: &at, Accuracy: "1s", By: "C=DE, O=Clock, CN=Clock 7", Root: "C=DE, O=Clock, CN=Clock Root", RootSHA256: "00"}
	for name, row := range map[string]struct {
		in     *trust.TimestampsInForce
		stamp  *trust.Timestamp
		ends   bool
		says   []string
		silent []string
	}{
		"none":                           {nil, nil, true, []string{"holds until 2027-01-03"}, []string{"timestamp"}},
		"none, and one may be asked for": {section, nil, true, []string{"timestamp   none: it is refused once a certificate has expired"}, nil},
		"ignored": {nil, &trust.Timestamp{Status: trust.StampIgnored, Detail: "not looked at: the policy has no timestamps section"}, true,
			[]string{"timestamp   not looked at: the policy has no timestamps section", "holds until 2027-01-03"}, nil},
		"refused": {section, &trust.Timestamp{Status: trust.StampRefused, Reason: "timestamp-malformed", Detail: "it is garbage"}, true,
			[]string{"not accepted, and not asked for before a certificate has expired: it is garbage", "(timestamp-malformed)", "holds until 2027-01-03"}, nil},
		"good":                 {section, good, false, []string{"timestamp   2026-11-19 07:12 UTC ± 1s by CN=Clock 7 (root CN=Clock Root); revocation of the TSA not checked", "holds until no end"}, []string{"2027-01-03"}},
		"good, with an expiry": {section, good, true, []string{"by CN=Clock 7", "holds until 2027-01-03"}, []string{"no end"}},
	} {
		r := accepted()
		r.Scope.Timestamps, r.Signatures[0].Timestamp = row.in, row.stamp
		if !row.ends {
			r.Signatures[0].HoldsUntil, r.Signatures[0].FirstToEnd = nil, ""
			// Beside one that ends, the one that does not is told of.
			r.Signatures[1].Accepted, r.Signatures[1].HoldsUntil = true, &later
		}
		var b bytes.Buffer
		Verify(&b, r)
		for _, want := range row.says {
			if !strings.Contains(unwrapped(b.String()), unwrapped(want)) {
				t.Errorf("%s: no %q in\n%s", name, want, &b)
			}
		}
		for _, not := range row.silent {
			if strings.Contains(b.String(), not) {
				t.Errorf("%s: %q in\n%s", name, not, &b)
			}
		}
	}
	for _, code := range []string{"timestamp-missing", "timestamp-outside-validity", "timestamp-untrusted"} {
		if hint := VerifyHint(trust.Report{Reference: "r.example/a:1", Reason: code}); !strings.Contains(hint, "imprint timestamp r.example/a:1") && !strings.Contains(hint, "imprint inspect r.example/a:1") {
			t.Errorf("%s: %s", code, hint)
		}
	}
}

// What policy check and explain say of sections: what to compare, and at a scope only what is its own.
func TestPolicyTimestamps(t *testing.T) {
	t.Parallel()
	sum := policy()
	root := certchain.Certificate{Subject: "C=DE, O=Clock, CN=Clock Root", Thumbprint: strings.Repeat("ab", 32), NotBefore: signed, NotAfter: later}
	sum.Timestamps = []trust.TimestampsSummary{
		{Of: trust.OfPolicy, Use: "after-cert-expiry", Line: 3, Roots: []certchain.Certificate{root}},
		{Of: `scope "harbor.acme.example/release"`, Use: "always", Line: 15, Roots: []certchain.Certificate{root}},
	}
	sum.Scopes[0].Timestamps = &trust.TimestampsInForce{Use: "after-cert-expiry", Line: 3}
	sum.Scopes[2].Timestamps = &trust.TimestampsInForce{Use: "always", Line: 15}
	var b bytes.Buffer
	PolicyCheck(&b, PolicySummary{Summary: sum}, now)
	for _, want := range []string{
		"  TIMESTAMPS of the policy, line 3: count once a certificate has expired\n    C=DE, O=Clock, CN=Clock Root\n    sha256 " + root.Thumbprint + "\n    until 2028-11-20",
		"  TIMESTAMPS of scope \"harbor.acme.example/release\", line 15: one is always asked for",
		"timestamps always (line 15)",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "timestamps after-cert-expiry") {
		t.Errorf("a scope repeats what the policy says for all\n%s", &b)
	}
	for line := range strings.Lines(b.String()) {
		if Width(strings.TrimRight(line, "\n")) > Columns {
			t.Errorf("too wide: %q", line)
		}
	}
	b.Reset()
	PolicyExplain(&b, trust.Explanation{Reference: "harbor.acme.example/a", Selected: &sum.Scopes[0], Matching: []string{"harbor.acme.example"}, Text: "x"})
	if !strings.Contains(b.String(), "timestamps after-cert-expiry (line 3)") {
		t.Errorf("explain does not tell\n%s", &b)
	}
}

func unwrapped(s string) string { return strings.Join(strings.Fields(s), " ") }
