package audit

import (
	"cmp"
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// Report puts what was found in repositories into one report. unseen is what could not be walked at all. The parts are not copied.
func (a *Auditor) Report(parts []Surveyed, unseen ...Unseen) Report {
	r := Report{
		Now: a.o.Now.UTC(), ListBefore: a.o.Now.Add(a.o.Within).UTC(), Repositories: []Repository{}, Artifacts: []Artifact{},
		Expiries: []Expiry{}, Findings: []FindingGroup{}, Unseen: []Unseen{}, Certificates: a.shelf.all,
	}
	if a.o.FailWithin > 0 {
		before := a.o.Now.Add(a.o.FailWithin).UTC()
		r.FailBefore = &before
	}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b Surveyed) int { return cmp.Compare(a.Repository.Name, b.Repository.Name) })
	for _, p := range parts {
		r.Repositories = append(r.Repositories, p.Repository)
		r.Artifacts = append(r.Artifacts, p.Artifacts...)
		r.Unseen = append(r.Unseen, p.Unseen...)
	}
	r.Unseen = append(r.Unseen, unseen...)
	r.count()
	r.group(a.o.Now)
	r.groupFindings()
	return r
}

func (r *Report) count() {
	c := &r.Counts
	c.Repositories, c.Unseen = len(r.Repositories), len(r.Unseen)
	for _, repo := range r.Repositories {
		c.Artifacts += repo.Artifacts
		c.Tagged += repo.Tagged
		c.Signed += repo.Signed
		c.Signatures += repo.Signatures
		c.Current += repo.Current
		c.Findings += repo.Findings
		c.Problems += repo.Problems
	}
	for s := range r.signatures {
		switch s.State {
		case StateCurrent:
			if s.Ends != nil {
				c.Ended += one(s.over(r.Now))
				c.Expiring += one(!s.Ends.After(r.ListBefore))
				c.Failing += one(r.FailBefore != nil && !s.Ends.After(*r.FailBefore))
			}
		case StateBad:
			c.Bad++
		default:
			c.Needless++
		}
	}
}

// signatures iterates over all signatures of the report.
func (r *Report) signatures(yield func(*Listed) bool) {
	for i := range r.Artifacts {
		for j := range r.Artifacts[i].Signatures {
			if !yield(&r.Artifacts[i].Signatures[j]) {
				return
			}
		}
	}
}

func (s *Listed) over(now time.Time) bool { return ending{at: *s.Ends, kind: s.EndKind}.over(now) }

// group groups current signatures by what ends them.
func (r *Report) group(now time.Time) {
	type key struct {
		kind   EndKind
		cert   string
		day    string
		remedy Remedy
	}
	groups := map[key]*Expiry{}
	last := map[key]string{} // the artifact that was counted last
	for i := range r.Artifacts {
		a := &r.Artifacts[i]
		for _, s := range a.Signatures {
			if s.State != StateCurrent || s.Ends == nil {
				continue
			}
			k := key{s.EndKind, s.EndCert, "", s.Remedy}
			if s.EndKind == EndExpiry {
				k.cert, k.day = s.Chain[0], s.Ends.Format(time.DateOnly)
			}
			g := groups[k]
			if g == nil {
				g = &Expiry{At: *s.Ends, Kind: s.EndKind, Certificate: k.cert, Subject: r.Certificates[k.cert].Subject, Remedy: s.Remedy, Ended: true}
				groups[k] = g
			}
			if s.Ends.Before(g.At) {
				g.At = *s.Ends
			}
			g.Ended = g.Ended && s.over(now)
			g.Listed = g.Listed || !s.Ends.After(r.ListBefore)
			g.Fails = g.Fails || r.FailBefore != nil && !s.Ends.After(*r.FailBefore)
			g.Signatures++
			g.Timestamped += one(s.Timestamp != nil)
			if last[k] != a.Reference {
				last[k] = a.Reference
				g.Artifacts++
			}
		}
	}
	for _, g := range groups {
		r.Expiries = append(r.Expiries, *g)
	}
	slices.SortFunc(r.Expiries, func(a, b Expiry) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Certificate, b.Certificate), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Remedy, b.Remedy))
	})
}

func (r *Report) groupFindings() {
	kinds := FindingKinds()
	groups := map[string]*FindingGroup{}
	for _, a := range r.Artifacts {
		seen := map[string]bool{}
		for _, f := range a.Findings {
			g := groups[f.Code]
			if g == nil {
				k := kindOf(f.Code)
				g = &FindingGroup{Code: k.Code, Severity: k.Severity, Title: k.Title}
				groups[f.Code] = g
			}
			g.Findings++
			g.Artifacts += one(!seen[f.Code])
			seen[f.Code] = true
		}
	}
	for _, k := range kinds {
		if g := groups[k.Code]; g != nil {
			r.Findings = append(r.Findings, *g)
		}
	}
}

// Name returns how an artifact is best called: by its repository and first tag, else its digest.
func (a *Artifact) Name() string {
	if len(a.Tags) > 0 {
		return a.Repository + ":" + a.Tags[0]
	}
	return a.Repository + "@" + short(a.Digest)
}

// Host returns the host that all repositories of the report have in common, "" if there is none.
func (r *Report) Host() string {
	host := ""
	for i, repo := range r.Repositories {
		h, _, ok := strings.Cut(repo.Name, "/")
		if !ok || strings.HasPrefix(repo.Name, "oci:") || strings.HasPrefix(repo.Name, "oci-archive:") || i > 0 && h != host {
			return ""
		}
		host = h
	}
	return host
}

// Leaves returns the fingerprints of the certificates that current signatures have as their leaves: those that a CA re-issues.
func (r *Report) Leaves() []string {
	leaves := map[string]bool{}
	for s := range r.signatures {
		if s.State == StateCurrent {
			leaves[s.Chain[0]] = true
		}
	}
	return slices.Sorted(maps.Keys(leaves))
}

// ByEnd returns the report's certificates, the one that ends first first.
func (r *Report) ByEnd() []*Certificate {
	return slices.SortedFunc(maps.Values(r.Certificates), func(a, b *Certificate) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Thumbprint, b.Thumbprint))
	})
}

// Leaf reports whether signatures have it as their signing certificate, issued by another: one that a CA can re-issue.
func (c *Certificate) Leaf() bool { return slices.Contains(c.Uses, EndLeaf) && !c.SelfSigned }

// Purpose says in one word what it was met as: leaf, ca, root, tsa.
func (c *Certificate) Purpose() string {
	for _, use := range []EndKind{EndLeaf, EndTSA, EndRoot} {
		if slices.Contains(c.Uses, use) {
			return string(use)
		}
	}
	return "ca"
}

// CommonName returns the common name of its subject, which whoever made it chose.
func (c *Certificate) CommonName() string { return c.cert.Subject.CommonName }

// PEM encodes it.
func (c *Certificate) PEM() []byte { return certchain.Chain{c.cert}.PEM() }

// Describe is a certificate of no report.
func Describe(cert *x509.Certificate) Certificate {
	return Certificate{Certificate: certchain.Describe(cert), cert: cert}
}
