package page

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
)

// now is the day of every report of these tests.
var now = time.Date(2026, 11, 22, 8, 41, 0, 0, time.UTC)

// A mill makes reports such as audit makes, of certificates and registries that there are not: the same seed, the same report.
type mill struct {
	*rand.Rand
	r      audit.Report
	issued int
}

func newMill(seed uint64) *mill {
	fail := now.AddDate(0, 0, 14)
	return &mill{Rand: rand.New(rand.NewPCG(seed, 5)), r: audit.Report{
		Now: now, ListBefore: now.AddDate(0, 0, 60), FailBefore: &fail, Certificates: map[string]*audit.Certificate{},
	}}
}

func sum(format string, args ...any) string {
	s := sha256.Sum256(fmt.Appendf(nil, format, args...))
	return hex.EncodeToString(s[:])
}

func sha(format string, args ...any) digest.Digest {
	return digest.Digest("sha256:" + sum(format, args...))
}

// certificate issues one that ends so many days from now.
func (m *mill) certificate(subject, issuer string, days int, use audit.EndKind) string {
	m.issued++
	f := sum("certificate %d", m.issued)
	m.r.Certificates[f] = &audit.Certificate{Certificate: certchain.Certificate{
		Subject: subject, Issuer: issuer, Serial: f[:32], NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(0, 0, days),
		Thumbprint: f, Key: "EC-256", CA: use != audit.EndLeaf && use != audit.EndTSA, SelfSigned: subject == issuer,
	}, Uses: []audit.EndKind{use}}
	return f
}

// A chainOf is a chain with what ends it first.
type chainOf struct {
	fingerprints []string
	first        string
	kind         audit.EndKind
	remedy       audit.Remedy
}

func (m *mill) chain(root, ca, leaf string) chainOf {
	c := chainOf{[]string{leaf, ca, root}, leaf, audit.EndLeaf, audit.RemedyReissue}
	if m.r.Certificates[ca].NotAfter.Before(m.r.Certificates[leaf].NotAfter) {
		c.first, c.kind, c.remedy = ca, audit.EndIntermediate, audit.RemedyRechain
	}
	return c
}

// sign lists a signature of this chain.
func (m *mill) sign(a *audit.Artifact, c chainOf, tsa string, expiry *time.Time) *audit.Listed {
	leaf := m.r.Certificates[c.fingerprints[0]]
	until := m.r.Certificates[c.first].NotAfter
	signed := now.AddDate(0, 0, -1-m.IntN(600))
	s := audit.Listed{
		Digest: sha("signature %s %d", a.Digest, len(a.Signatures)), Core: sha("core %s %d", a.Digest, len(a.Signatures)), State: audit.StateCurrent,
		Format: "jws", Algorithm: "ES256", Scheme: "notary.x509", Agent: "imprint/1.0.0", Identity: leaf.Subject, HasClaims: true, Claims: a.Tags,
		SignedAt: &signed, Expiry: expiry, Chain: c.fingerprints, ChainUntil: &until, Ends: &until, EndKind: c.kind, EndCert: c.first, Remedy: c.remedy,
	}
	if tsa != "" {
		t := m.r.Certificates[tsa]
		s.Timestamp = &audit.Timestamp{At: signed, Chain: []string{tsa}, By: t.Subject, Until: &t.NotAfter, Inside: true}
		if t.NotAfter.Before(*s.Ends) {
			s.Ends, s.EndKind, s.EndCert, s.Remedy = &t.NotAfter, audit.EndTSA, tsa, audit.RemedyTimestamp
		}
	}
	if expiry != nil && expiry.Before(*s.Ends) {
		s.Ends, s.EndKind, s.EndCert, s.Remedy = expiry, audit.EndExpiry, "", audit.RemedySign
	}
	a.Signatures = append(a.Signatures, s)
	return &a.Signatures[len(a.Signatures)-1]
}

func (m *mill) artifact(repository string, tags ...string) *audit.Artifact {
	d := sha("artifact %s %d", repository, len(m.r.Artifacts))
	m.r.Artifacts = append(m.r.Artifacts, audit.Artifact{Repository: repository, Reference: repository + "@" + d.String(), Digest: d, What: "image", Role: "root", Tags: tags})
	return &m.r.Artifacts[len(m.r.Artifacts)-1]
}

func (m *mill) odd(a *audit.Artifact, severity audit.Severity, code, text string) {
	a.Findings = append(a.Findings, audit.Finding{Code: code, Severity: severity, Text: text})
}

var titles = map[string]string{
	"unsigned": "unsigned", "platform-unsigned": "platform image unsigned under a signed index", "unclaimed": "tag that no signature claims",
	"moved": "tag that moved to an older signature", "weak": "weak or deprecated algorithm", "superseded": "superseded signatures, which prune would delete",
}

// report counts, groups and sorts what the mill has made, as audit does.
func (m *mill) report() audit.Report {
	r := m.r
	repositories := map[string]*audit.Repository{}
	findings := map[string]*audit.FindingGroup{}
	groups := map[string]*audit.Expiry{}
	for _, a := range r.Artifacts {
		p := repositories[a.Repository]
		if p == nil {
			p = &audit.Repository{Name: a.Repository, Claims: true}
			repositories[a.Repository] = p
		}
		p.Artifacts++
		r.Counts.Artifacts++
		if len(a.Tags) > 0 {
			p.Tagged++
			r.Counts.Tagged++
			if len(a.Signatures) == 0 {
				p.Unsigned++
			}
		}
		for _, s := range a.Signatures {
			p.Signatures++
			r.Counts.Signatures++
			switch s.State {
			case audit.StateBad:
				r.Counts.Bad++
				continue
			case audit.StateCurrent:
			default:
				r.Counts.Needless++
				continue
			}
			p.Current++
			r.Counts.Current++
			for _, f := range s.Chain {
				r.Certificates[f].Signatures++
			}
			if c := r.Certificates[s.EndCert]; c != nil {
				c.Ending++
			}
			if p.FirstEnd == nil || s.Ends.Before(*p.FirstEnd) {
				p.FirstEnd = s.Ends
			}
			e := audit.Expiry{At: *s.Ends, Kind: s.EndKind, Certificate: s.EndCert, Remedy: s.Remedy, Ended: !s.Ends.After(r.Now),
				Listed: s.Ends.Before(r.ListBefore), Fails: s.Ends.Before(*r.FailBefore)}
			e.Subject = s.Identity
			if c := r.Certificates[s.EndCert]; c != nil {
				e.Subject = c.Subject
			}
			if e.Listed {
				r.Counts.Expiring++
				p.Expiring++
			}
			if e.Fails {
				r.Counts.Failing++
			}
			if e.Ended {
				r.Counts.Ended++
			}
			key := fmt.Sprint(e.At, e.Kind, e.Subject)
			if groups[key] == nil {
				groups[key] = &e
			}
			groups[key].Signatures++
			groups[key].Artifacts++
			if s.Timestamp != nil {
				groups[key].Timestamped++
			}
		}
		for _, f := range a.Findings {
			r.Counts.Findings++
			if f.Severity == audit.Problem {
				r.Counts.Problems++
				p.Problems++
			}
			if findings[f.Code] == nil {
				findings[f.Code] = &audit.FindingGroup{Code: f.Code, Severity: f.Severity, Title: cmp.Or(titles[f.Code], f.Code)}
			}
			findings[f.Code].Findings++
			findings[f.Code].Artifacts++
		}
	}
	r.Counts.Repositories, r.Counts.Unseen = len(repositories), len(r.Unseen)
	for _, p := range repositories {
		r.Repositories = append(r.Repositories, *p)
	}
	slices.SortFunc(r.Repositories, func(a, b audit.Repository) int { return cmp.Compare(a.Name, b.Name) })
	for _, e := range groups {
		r.Expiries = append(r.Expiries, *e)
	}
	slices.SortFunc(r.Expiries, func(a, b audit.Expiry) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Remedy, b.Remedy))
	})
	for _, g := range findings {
		r.Findings = append(r.Findings, *g)
	}
	slices.SortFunc(r.Findings, func(a, b audit.FindingGroup) int {
		return cmp.Or(-cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Code, b.Code))
	})
	slices.SortFunc(r.Unseen, func(a, b audit.Unseen) int { return cmp.Compare(a.Item, b.Item) })
	return r
}

const acme = "C=DE, ST=BE, O=Acme, CN="

// three is what a small team has: three signatures of one release, none of which ends soon.
func three() audit.Report {
	m := newMill(3)
	root := m.certificate(acme+"Acme Root", acme+"Acme Root", 3300, audit.EndRoot)
	ca := m.certificate(acme+"Acme Code Signing CA 3", acme+"Acme Root", 142, audit.EndIntermediate)
	leaf := m.certificate(acme+"release 2026", acme+"Acme Code Signing CA 3", 240, audit.EndLeaf)
	for _, tag := range []string{"1.4.2", "1.4.1", "1.4.0"} {
		m.sign(m.artifact("ghcr.io/acme/app", tag), m.chain(root, ca, leaf), "", nil)
	}
	return m.report()
}

// thousands is what the PKI owner of a company has: n signatures in some two hundred repositories, one intermediate under most of them.
func thousands(n int) audit.Report {
	m := newMill(5000)
	root := m.certificate(acme+"Acme Root", acme+"Acme Root", 3300, audit.EndRoot)
	old := m.certificate(acme+"Acme Code Signing CA 3", acme+"Acme Root", 42, audit.EndIntermediate)
	fresh := m.certificate(acme+"Acme Code Signing CA 4", acme+"Acme Root", 1800, audit.EndIntermediate)
	oldTSA := m.certificate(acme+"Acme TSA 2021", acme+"Acme TSA CA", 11, audit.EndTSA)
	newTSA := m.certificate(acme+"Acme TSA 2026", acme+"Acme TSA CA", 3000, audit.EndTSA)
	legacy := m.chain(root, old, m.certificate(acme+"legacy 2019", acme+"Acme Code Signing CA 3", -9, audit.EndLeaf))
	teams := []string{"release 2026", "payments", "web", "mobile", "data platform", "identity", "search", "logistics", "build bot", "risk and compliance"}
	var before, after []chainOf
	for i, t := range teams {
		before = append(before, m.chain(root, old, m.certificate(acme+t, acme+"Acme Code Signing CA 3", 200+40*i, audit.EndLeaf)))
		after = append(after, m.chain(root, fresh, m.certificate(acme+t, acme+"Acme Code Signing CA 4", 700+55*i, audit.EndLeaf)))
	}
	words := []string{"api", "web", "worker", "gateway", "ledger", "search", "mailer", "batch", "proxy", "cache", "report", "auth"}
	for count := 0; count < n; {
		i := len(m.r.Artifacts)
		team := i % len(teams)
		repository := fmt.Sprintf("harbor.acme.example/%s/%s-%d", strings.ReplaceAll(teams[team], " ", "-"), words[i/len(teams)%len(words)], i%17/9)
		tag := fmt.Sprintf("%d.%d.%d", 1+i/1000, i/100%10, i%100)
		tags := []string{tag}
		if i%23 == 0 {
			tags = append(tags, "latest")
		}
		a := m.artifact(repository, tags...)
		switch {
		case i%91 == 7:
			m.odd(a, audit.Problem, "unsigned", "no signature that verifies")
			continue
		case i%613 == 9:
			m.odd(a, audit.Problem, "platform-unsigned", "linux/arm64 has no signature of its own")
		case i%787 == 11:
			m.odd(a, audit.Problem, "unclaimed", `c94e7720ab16 claims 2.8.0, not "latest"`)
		case i%1201 == 13:
			m.odd(a, audit.Problem, "moved", "latest moved back to what was signed on 2026-03-04")
		}
		chain, tsa := before[team], ""
		var expiry *time.Time
		switch {
		case i%997 == 5:
			chain = legacy
		case i%3 == 0:
			tsa = newTSA
			if i%37 == 0 {
				tsa = oldTSA
			}
		case i%401 == 6:
			e := now.AddDate(0, 0, 30+i%300)
			expiry = &e
		}
		s := m.sign(a, chain, tsa, expiry)
		count++
		switch {
		case i%29 == 0 && count < n: // rechained already, the old one still there
			by := m.sign(a, after[team], tsa, nil).Digest
			a.Signatures[0].State, a.Signatures[0].By = audit.StateSuperseded, by
			m.odd(a, audit.Note, "superseded", "prune would delete it")
			count++
		case i%1499 == 17:
			s.State, s.Reason, s.Detail = audit.StateBad, "signature-invalid", "the signature does not match its certificate"
			s.Ends, s.EndKind, s.EndCert, s.Remedy = nil, "", "", ""
		case i%211 == 3:
			s.Algorithm, s.Format = "RS256", "cose"
		}
	}
	m.r.Unseen = []audit.Unseen{{Item: "harbor.acme.example/private/vault", Reason: "unauthorized", Text: "listing tags: 401 unauthorized"}}
	return m.report()
}
