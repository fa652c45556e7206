package ui

import (
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
)

// audited is the report of a small stock in trouble.
func audited() audit.Report {
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	subject := func(cn string) string { return "C=DE, ST=BE, O=Acme, CN=" + cn }
	fails := now.AddDate(0, 0, 30)
	r := audit.Report{
		Now: now, ListBefore: now.AddDate(0, 0, 60), FailBefore: &fails,
		Counts: audit.Counts{Repositories: 212, Tagged: 1940, Signatures: 4006, Current: 4006, Expiring: 3982, Failing: 104, Findings: 68},
		Expiries: []audit.Expiry{
			{At: day(2026, 12, 9), Kind: audit.EndTSA, Certificate: "t", Subject: subject("Acme TSA 2021"), Signatures: 104, Remedy: audit.RemedyTimestamp, Listed: true, Fails: true},
			{At: day(2027, 1, 3), Kind: audit.EndIntermediate, Certificate: "i", Subject: subject("Acme Code Signing CA 3"), Signatures: 3878, Remedy: audit.RemedyRechain, Listed: true},
			{At: day(2027, 2, 28), Kind: audit.EndLeaf, Certificate: "l", Subject: subject("legacy 2019"), Signatures: 12, Remedy: audit.RemedyReissue},
			{At: day(2028, 2, 28), Kind: audit.EndRoot, Certificate: "m", Subject: subject("a"), Signatures: 5, Remedy: audit.RemedyRechain},
			{At: day(2028, 3, 28), Kind: audit.EndExpiry, Certificate: "n", Subject: subject("b"), Signatures: 7, Remedy: audit.RemedySign},
		},
		Findings: []audit.FindingGroup{
			{Code: "platform-unsigned", Title: "platform image unsigned under a signed index", Findings: 1, Artifacts: 1},
			{Code: "tag-unclaimed", Title: "tag that no signature claims", Findings: 3, Artifacts: 3},
			{Code: "artifact-unsigned", Title: "unsigned", Findings: 58, Artifacts: 58},
		},
	}
	for i := range 31 {
		r.Repositories = append(r.Repositories, audit.Repository{Name: "harbor.acme.example/payments/api" + strings.Repeat("x", i), Claims: true})
	}
	at := func(name, tag string, f audit.Finding) {
		r.Artifacts = append(r.Artifacts, audit.Artifact{Repository: "harbor.acme.example/" + name, Tags: []string{tag}, Digest: sha(name + tag), Findings: []audit.Finding{f}})
	}
	at("payments/api", "2.8.1", audit.Finding{Code: "platform-unsigned", Text: "platform image unsigned: linux/arm64"})
	at("payments/api", "2.8.0", audit.Finding{Code: "tag-unclaimed", Tag: "latest", Text: `c94e7720ab16 claims 2.8.0, not "latest"`})
	at("evil\x1b[31m"+strings.Repeat("/long", 30), "1", audit.Finding{Code: "tag-unclaimed", Text: strings.Repeat("very \x1b[2J", 200)})
	for i := range 20 {
		at("web", "0."+strings.Repeat("1", i), audit.Finding{Code: "artifact-unsigned", Text: "unsigned"})
	}
	return r
}

func auditScreens() map[string]func(w io.Writer) {
	const thirty, sixty = 30 * 24 * time.Hour, 60 * 24 * time.Hour
	return map[string]func(w io.Writer){
		"audit": func(w io.Writer) {
			Audit(w, audited(), AuditOptions{Within: sixty, FailWithin: thirty, NotSeen: true, ExitCode: 1})
		},
		"audit-unseen": func(w io.Writer) {
			r := audited()
			r.Expiries = r.Expiries[:1]
			r.Expiries[0].Ended, r.Expiries[0].At = true, now.AddDate(0, 0, -3)
			r.Counts.Ended, r.Counts.Expiring, r.Counts.Unseen = 104, 104, 2
			r.Findings, r.FailBefore = nil, nil
			r.Unseen = []audit.Unseen{
				{Item: "harbor.acme.example/gone", Reason: "unauthorized", Text: "x"},
				{Item: "harbor.acme.example/payments/api@" + sha("x").String(), Reason: "unavailable", Text: "y"},
			}
			Audit(w, r, AuditOptions{Within: thirty, HTML: true, ExitCode: 4, Files: []string{AuditCertificates("certs", 14, 3, 9, 2, thirty), "/var/lib/node_exporter/imprint.prom"}})
		},
		"audit-nothing": func(w io.Writer) {
			Audit(w, audit.Report{Now: now, ListBefore: now, Counts: audit.Counts{Repositories: 1, Tagged: 1}}, AuditOptions{Within: 36 * time.Hour})
		},
	}
}

// tsaOf is the certificate of a time-stamping authority in an inspection.
func tsaOf() *certchain.Certificate {
	return &certchain.Certificate{Subject: "C=DE, O=Acme, CN=Acme TSA 2021", NotAfter: later}
}
