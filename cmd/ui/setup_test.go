package ui

import (
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust"
)

func diagnosis() Diagnosis {
	return Diagnosis{Reference: "ghcr.io/acme/app:1.4.2", Checks: []Check{
		{Section: "configuration", Name: "file", Status: OK, Detail: "/home/you/.config/imprint/config.yaml"},
		{Section: "registry", Name: "reachable", Status: OK, Detail: "ghcr.io answers"},
		{Section: "registry", Name: "authorised", Status: OK, Detail: `with credential of "octocat"`},
		{Section: "registry", Name: "artifact", Status: Problem, Reason: "not-found", Hint: "check the name; in a registry a missing login can look like this too: imprint login HOST",
			Detail: "resolving ghcr.io/acme/app:1.4.2: not found: ghcr.io answered 404 Not Found: \x1b[31mMANIFEST_UNKNOWN"},
		{Section: "registry", Name: "delete", Status: NotChecked, Hint: "--write finds out"},
		{Section: "registry", Name: "mount", Status: NotChecked, Hint: "--write finds out"},
		{Section: "chain", Name: "holds", Status: Warning, Detail: "only 12 days more, until 2026-12-04 08:41 UTC", Hint: "get it renewed"},
		{Section: "clock", Name: "clock", Status: OK, Detail: "agrees with ghcr.io"},
	}}
}

func login(w io.Writer) {
	Login(w, "ghcr.io", "octocat", "", "/home/you/.docker/config.json")
	Login(w, "harbor.acme.example", "robot$ci\x1b[2J", "docker-credential-pass", "/home/you/.docker/config.json")
	Logout(w, "ghcr.io", "", "/home/you/.docker/config.json")
	Logout(w, "harbor.acme.example", "docker-credential-pass", "/home/you/.docker/config.json")
}

func policy() trust.Summary {
	certificate := func(name string, from, to time.Time) certchain.Certificate {
		return certchain.Certificate{Subject: "C=DE, ST=BE, O=Acme, CN=" + name, NotBefore: from, NotAfter: to, Thumbprint: sha(name).Encoded()}
	}
	scope := func(name, enclosing string, line int, more ...func(*trust.ScopeSummary)) trust.ScopeSummary {
		s := trust.ScopeSummary{Scope: name, Enclosing: enclosing, File: "/etc/imprint/policy.yaml", Line: line, Rule: "trust", Trust: []string{"org"}, Claims: "if-present", Enforced: true}
		for _, m := range more {
			m(&s)
		}
		return s
	}
	return trust.Summary{
		File: "/etc/imprint/policy.yaml", Digest: sha("policy").Encoded(),
		Roots: []trust.RootSummary{
			{Name: "org", Certificates: []certchain.Certificate{certificate("Acme Root", signed.AddDate(-9, 0, 0), later), certificate("Acme Root 2", ends, later)}},
			{Name: "a-root-with-a-long-name", Identities: []string{"C=DE, ST=BE, O=Vendor GmbH"},
				Certificates: []certchain.Certificate{certificate(strings.Repeat("a very long name ", 5)+"indeed", signed.AddDate(-9, 0, 0), signed)}},
		},
		Scopes: []trust.ScopeSummary{
			scope("harbor.acme.example", "", 9),
			scope("harbor.acme.example/old", "harbor.acme.example", 12, func(s *trust.ScopeSummary) { s.Rule, s.Trust = "reject", nil }),
			scope("harbor.acme.example/release", "harbor.acme.example", 13, func(s *trust.ScopeSummary) {
				s.Claims, s.MaxAge, s.Algorithms, s.Enforced = "tag", "90 days", []string{"ES256", "ES384"}, false
			}),
			scope("harbor.acme.example/release/of-a-team-with-a-long-name/and-its-app", "harbor.acme.example/release", 20, func(s *trust.ScopeSummary) {
				s.Inherits, s.Trust = true, []string{"a-root-with-a-long-name", "org"}
			}),
		},
		Warnings: []string{"root a-root-with-a-long-name: its certificate expired 2026-11-19 07:12 UTC: nothing is accepted by it"},
	}
}

func explanations(w io.Writer) {
	scopes := policy().Scopes
	all := []trust.Explanation{
		{Reference: "harbor.acme.example/release/app:1", Selected: &scopes[2], Matching: []string{"harbor.acme.example/release", "harbor.acme.example"},
			Text: "scope harbor.acme.example/release is the longest of 2 that match; it trusts org; it does not inherit, so harbor.acme.example is not asked"},
		{Reference: "harbor.acme.example/old/app:1", Selected: &scopes[1], Matching: []string{"harbor.acme.example/old", "harbor.acme.example"}, Reason: "rejected-by-policy",
			Text: "scope harbor.acme.example/old is the longest of 2 that match; it rejects everything"},
		{Reference: "quay.io/x/y:1", Matching: []string{}, Reason: "no-scope", Text: "no scope matches quay.io/x/y: it is rejected, since there is no implicit *"},
	}
	for _, e := range all {
		PolicyExplain(w, e)
	}
	for _, e := range all {
		PolicyExplainLine(w, e)
	}
}
