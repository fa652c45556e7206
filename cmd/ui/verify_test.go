package ui

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust"
)

// requiring is the report of a scope that asks for a signature of each of several groups.
func requiring() trust.Report {
	r := accepted()
	r.Scope.Rule, r.Scope.Trust, r.Scope.Groups = "require", []string{"org", "qa", "vendor"}, [][]string{{"org"}, {"qa", "vendor"}}
	one, two := &r.Signatures[0], &r.Signatures[1]
	one.AcceptedBy = []trust.Acceptance{{Root: "org", Groups: []int{1}}}
	two.Accepted, two.Reason, two.Detail, two.Root = true, "", "", "vendor"
	two.AcceptedBy = []trust.Acceptance{{Root: "vendor", Groups: []int{2}}}
	two.Identity, two.SignedAt, two.Expiry, two.HoldsUntil, two.FirstToEnd = "C=DE, O=Vendor GmbH, CN=build farm 7", &signed, &ends, &ends, "expiry"
	one.HoldsUntil = &later
	r.Groups = []trust.Group{
		{Roots: []string{"org"}, Satisfied: true, Signature: one.Digest, Root: "org"},
		{Roots: []string{"qa", "vendor"}, Satisfied: true, Signature: two.Digest, Root: "vendor"},
	}
	return r
}

func verifyScreens() map[string]func(w io.Writer) {
	return map[string]func(w io.Writer){
		"verify-groups": func(w io.Writer) { Verify(w, requiring()) },
		"verify-groups-missing": func(w io.Writer) {
			r := requiring()
			r.Verdict, r.Reason, r.Detail = trust.Rejected, "require-unsatisfied", "no signature is of group 3 (hsm)"
			r.Signatures = append(r.Signatures[:1:1], r.Signatures[2:]...)
			r.Groups[1] = trust.Group{Roots: []string{"org", "qa", "vendor"}, Shared: []int{1}}
			r.Groups = append(r.Groups, trust.Group{Roots: []string{"hsm"}}, trust.Group{Roots: []string{}})
			Verify(w, r)
			VerifyLine(w, r)
		},
		"verify-several-roots": func(w io.Writer) {
			r := accepted()
			r.Scope.Mirrors = "docker.io/acme"
			sig := &r.Signatures[0]
			sig.AcceptedBy = []trust.Acceptance{{Root: "org"}, {Root: "team"}}
			sig.Claims = []string{"2.0"} // the scope ignores claims
			sig.HoldsUntil, sig.FirstToEnd = nil, ""
			sig.Timestamp = &trust.Timestamp{Status: trust.StampGood, At: &signed, Accuracy: "1s", By: "O=Clock, CN=Clock 3", Root: "O=Clock, CN=Clock Root",
				Revocation: &trust.Revocation{Status: trust.RevocationGood}}
			sig.Revocation = &trust.Revocation{Status: trust.RevocationGood, Certificates: []trust.Standing{
				{Certificate: release, Status: trust.RevocationGood, By: "crl/acme.crl"}, {Certificate: "O=Acme, CN=CA", Status: trust.RevocationGood, By: "http://ocsp.acme.example"},
			}}
			Verify(w, r)
		},
		"verify-unsigned-accepted": func(w io.Writer) {
			r := accepted()
			r.Scope.Rule, r.Scope.Trust = "accept-unsigned", nil
			r.Signatures = r.Signatures[1:]
			Verify(w, r)
			r.Signatures = nil
			Verify(w, r)
			VerifyLine(w, r)
		},
		"verify-many": func(w io.Writer) {
			r := rejected()
			for i := range 1000 {
				r.Signatures = append(r.Signatures, trust.Judged{Digest: sha(fmt.Sprint("junk", i)), Reason: "envelope-malformed", Detail: "JWS envelope: not JSON", Malformed: true})
			}
			for i := range 30 {
				r.Signatures = append(r.Signatures, trust.Judged{Digest: sha(fmt.Sprint("other", i)), Reason: "root-not-trusted", Detail: "this scope does not trust that root", Identity: release})
			}
			slices.Reverse(r.Signatures)
			Verify(w, r)
		},
		"verify-revoked": func(w io.Writer) {
			r := rejected()
			r.Reason = "revoked"
			r.Signatures = r.Signatures[:1]
			sig := &r.Signatures[0]
			sig.Reason, sig.Detail, sig.Expiry = "revoked", release+" was revoked 2026-11-20 08:00 UTC (keyCompromise), says crl/acme.crl", &ends
			r.Detail = sig.Detail
			Verify(w, r)
			r = accepted()
			r.Signatures[0].Revocation = &trust.Revocation{Status: trust.RevocationUnknown, Certificates: []trust.Standing{
				{Certificate: release, Status: trust.RevocationUnknown, Detail: "http://crl.acme.example/ca.crl: connection refused"}}}
			Verify(w, r)
			r.Signatures[0].Revocation = &trust.Revocation{Status: trust.RevocationRevoked, Certificates: []trust.Standing{
				{Certificate: release, Status: trust.RevocationRevoked, By: "crl/acme.crl"}}}
			Verify(w, r)
			r.Signatures[0].Revocation = &trust.Revocation{Status: trust.RevocationNone}
			Verify(w, r)
		},
		"verify-delegated": func(w io.Writer) {
			r := accepted()
			r.Signatures[0].Root, r.Signatures[0].AcceptedBy = "hub-ca:docker.io/acme2", []trust.Acceptance{{Root: "hub-ca:docker.io/acme2", Delegated: true}}
			r.Delegation = &trust.Delegation{Status: trust.DelegationCounts, Root: "hub-ca", Scope: "docker.io", At: "docker.io/trust/delegations:v1",
				SignedBy: "C=US, O=Docker, CN=delegations", Version: 7, Expires: &ends, Grants: 40, Grant: "docker.io/acme2"}
			Verify(w, r)
			r = rejected()
			r.Reason, r.Detail = "delegation-unavailable", "reading the delegation document docker.io/trust/delegations:v1: connection refused"
			r.Verdict, r.Signatures = trust.Undetermined, r.Signatures[1:2]
			r.Delegation = &trust.Delegation{Status: trust.DelegationUnavailable, Reason: r.Reason, Detail: r.Detail}
			Verify(w, r)
			r.Verdict, r.Reason, r.Delegation.Status, r.Delegation.Reason = trust.Rejected, "delegation-expired", trust.DelegationRefused, "delegation-expired"
			Verify(w, r)
		},
	}
}

// TestVerifyAges: of every signature that can be read, accepted or not, the age and the expiry are told.
func TestVerifyAges(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]trust.Report{"accepted": accepted(), "rejected": rejected(), "groups": requiring()} {
		var b strings.Builder
		Verify(&b, r)
		if !strings.Contains(b.String(), "3 days ago") || !strings.Contains(b.String(), "no expiry") || (name == "groups") != strings.Contains(b.String(), "expires 2027-01-03") {
			t.Errorf("%s:\n%s", name, b.String())
		}
	}
}

// TestX02ReissuedHint: what to compare is named, and where it would be pinned; only of a root that its own key made again.
func TestX02ReissuedHint(t *testing.T) {
	t.Parallel()
	r := rejected()
	r.Reason = "no-trusted-signature"
	if strings.Contains(VerifyHint(r), "pin") {
		t.Error(VerifyHint(r))
	}
	r.Signatures[1].Reissued, r.Signatures[1].Chain = "org", []certchain.Certificate{{Thumbprint: "01"}, {Thumbprint: "abcd"}}
	if got := VerifyHint(r); !strings.Contains(got, "sha256 abcd, pin the new root under roots:") || !strings.Contains(got, "root org") {
		t.Error(got)
	}
}

// TestVerifyHintsDoNotLoosen: no hint says how to make a policy ask for less.
func TestVerifyHintsDoNotLoosen(t *testing.T) {
	t.Parallel()
	for code := range trust.Reasons() {
		hint := VerifyHint(trust.Report{Reference: "r.example/a:1", Reason: code})
		for _, loose := range []string{"enforce", "ignore", "accept: unsigned", "distinct", "strict-x509", "remove", "check: log", "check: off", "inherit", "--root ", "disable", "skip"} {
			if strings.Contains(hint, loose) {
				t.Errorf("%s: %q in %s", code, loose, hint)
			}
		}
	}
}
