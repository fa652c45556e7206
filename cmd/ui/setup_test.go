package ui

import (
	"fmt"
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

const (
	awsKey   = "awskms:///arn:aws:kms:eu-central-1:123456789012:key/7c0e2b1d-0000-4000-8000-123456789012"
	azureKey = "azurekms://acme-signing.vault.azure.net/release/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
)

func awsRSA() Key {
	return Key{Key: "awskms:///alias/release", ID: awsKey, Service: "AWS KMS", Spec: "RSA-3072", Algorithm: "PS384", PKCS1: true, SHA256: sha("aws").Encoded()}
}

func azureEC() Key {
	return Key{Key: "release", ID: azureKey, Service: "Azure Key Vault", Version: "0a1b2c3d4e5f60718293a4b5c6d7e8f9", Spec: "EC-384", Algorithm: "ES384", SHA256: sha("azure").Encoded()}
}

func keys(w io.Writer) {
	leaf := certificates("Acme Code Signing CA 4", ends, later)[0]
	long := leaf
	long.Subject = "C=DE, ST=Baden-Württemberg, O=Acme and sons and daughters, OU=release\x1b[31m engineering, CN=release 2026"
	vault := Key{Key: "openbao://release?mount=team%2Fa%2Ftransit", ID: "openbao://release?mount=team%2Fa%2Ftransit&version=7", Service: "OpenBao", Version: "7",
		Spec: "RSA-2048", Algorithm: "PS256", PKCS1: true, SHA256: sha("bao").Encoded()}
	google := Key{Key: "gcpkms://projects/acme/locations/europe-west3/keyRings/signing/cryptoKeys/release",
		ID: "gcpkms://projects/acme/locations/europe-west3/keyRings/signing/cryptoKeys/release/cryptoKeyVersions/12", Service: "Google Cloud KMS", Version: "12",
		Spec: "RSA-2048", Algorithm: "PS256", SHA256: sha("google").Encoded()}
	whole := Key{Key: "signer", ID: "plugin:com.amazonaws.signer.notation.plugin?id=arn:aws:signer:eu-central-1:123456789012:/signing-profiles/release",
		Service: "notation plugin com.amazonaws.signer.notation.plugin", Envelopes: true}
	for i, k := range []ShownKey{
		{Key: awsRSA(), Kept: &Kept{}},
		{Key: azureEC(), Kept: &Kept{Certificates: 1, Leaf: &long}, Probed: true, Calls: 1},
		{Key: vault, Kept: &Kept{Certificates: 3, Leaf: &leaf, Complete: true}},
		{Key: google},
		{Key: whole},
		{Key: azureEC(), Kept: &Kept{Certificates: 2}},
		{Key: Key{Key: "./release.key", ID: "/home/you/release.key", Spec: "EC-256", Algorithm: "ES256", SHA256: sha("file").Encoded()}},
	} {
		if i > 0 {
			fmt.Fprintln(w)
		}
		KeyShow(w, k, now)
	}
}

func requests(w io.Writer) {
	KeyRequest(w, Request{Out: "release.csr", Subject: release, SANs: []string{"uri:https://ci.acme.example/release"}, Key: awsRSA(), PKCS1: true, Calls: 1})
	fmt.Fprintln(w)
	KeyRequest(w, Request{Out: "release.csr", Subject: release, Key: azureEC(), Calls: 3})
	fmt.Fprintln(w)
	KeySelfSign(w, SelfSigned{Out: "release.pem", Key: azureEC(), Certificate: certificates("x", later, later)[0], Calls: 1}, now)
}

func checks(w io.Writer) {
	key, yes, no := azureEC(), true, false
	whole := Key{Key: "signer", Envelopes: true}
	chain := Chain{Files: []string{}, KeptAt: azureKey, Complete: true, HoldsFrom: &signed, HoldsUntil: &ends, FirstToEnd: release}
	for _, name := range []string{"leaf", "CA", "root"} {
		c := certificates("Acme Code Signing CA 4", ends, later)[len(chain.Certificates)]
		c.Thumbprint = sha(name).Encoded()
		chain.Certificates = append(chain.Certificates, c)
	}
	ChainCheck(w, CheckedChain{Valid: true, At: now, Chain: chain, Key: &key, KeyMatches: &yes})
	chain.Files, chain.KeptAt = []string{"chain.pem"}, ""
	fmt.Fprintln(w)
	ChainCheck(w, CheckedChain{Valid: true, At: now, Chain: chain, Key: &whole})
	chain.Files, chain.KeptAt, chain.Complete, chain.HoldsUntil = []string{"ca.pem"}, azureKey, false, nil
	fmt.Fprintln(w)
	ChainCheck(w, CheckedChain{Reason: "incomplete", At: now, Chain: chain, Key: &key, Findings: []Finding{{Reason: "incomplete", Detail: "its issuer is missing"}}})
	chain.KeptAt, chain.Complete, chain.HoldsUntil = "", true, &ends
	fmt.Fprintln(w)
	ChainCheck(w, CheckedChain{Reason: "key-mismatch", At: now, Chain: chain, Key: &key, KeyMatches: &no,
		Findings: []Finding{{Reason: "key-mismatch", Detail: "it is for another key than the one that signs"}}})
}
