package audit

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of what a report puts into labels: each value is a series that Prometheus keeps.
const (
	maxMetricRepositories = 2000
	maxMetricCertificates = 1000
	maxMetricIdentities   = 500
	maxMetricLabel        = 200 // characters of a label's value
)

// WriteMetrics writes the report in Prometheus' text format (version 0.0.4) for node_exporter's textfile collector. All are gauges. How
// many series there are is bounded; what ends first comes first, and imprint_audit_left_out says how much was left out.
func WriteMetrics(w io.Writer, r Report) error {
	m := &metrics{}
	m.totals(r)
	m.repositories(r)
	m.certificates(r)
	m.identities(r)
	m.family("left_out", "Series that were left out because there are too many of their kind.")
	m.value("left_out", float64(m.left[0]), "of", "repositories")
	m.value("left_out", float64(m.left[1]), "of", "certificates")
	m.value("left_out", float64(m.left[2]), "of", "identities")
	_, err := w.Write(m.Bytes())
	return err
}

type metrics struct {
	bytes.Buffer
	left [3]int
}

const metricPrefix = "imprint_audit_"

// family begins the series of one name, which must stand together.
func (m *metrics) family(name, help string) {
	fmt.Fprintf(m, "# HELP %s%s %s\n# TYPE %s%s gauge\n", metricPrefix, name, escapeHelp.Replace(help), metricPrefix, name)
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// value writes one series; labels are names and values in turn.
func (m *metrics) value(name string, v float64, labels ...string) {
	m.WriteString(metricPrefix + name)
	for i := 0; i+1 < len(labels); i += 2 {
		m.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(m, `%s="%s"`, labels[i], escapeLabel.Replace(labelValue(labels[i+1])))
	}
	if len(labels) > 0 {
		m.WriteByte('}')
	}
	m.WriteByte(' ')
	m.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
	m.WriteByte('\n')
}

// labelValue makes what certificates say a value: valid UTF-8, not endless.
func labelValue(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= maxMetricLabel {
		return s
	}
	n := 0
	for i := range s {
		if n++; n > maxMetricLabel {
			return s[:i] + "…"
		}
	}
	return s
}

func seconds(t time.Time) float64 { return float64(t.Unix()) }

func (m *metrics) totals(r Report) {
	single := func(name, help string, v float64) {
		m.family(name, help)
		m.value(name, v)
	}
	c := r.Counts
	single("timestamp_seconds", "When this audit was made, in seconds since 1970: alert if it is old.", seconds(r.Now))
	single("repositories", "Repositories that were audited.", float64(c.Repositories))
	single("unseen", "Repositories and artifacts that could not be read: this audit does not cover them.", float64(c.Unseen))
	single("signatures_ended", "Signatures that count and have ended.", float64(c.Ended))
	single("signatures_expiring", "Signatures that count and end within --within, ended ones included.", float64(c.Expiring))
	m.family("window_seconds", "How far ahead --within looks.")
	m.value("window_seconds", r.ListBefore.Sub(r.Now).Seconds())
	if len(r.Expiries) > 0 {
		single("first_end_timestamp_seconds", "When the first signature that counts ends, or ended.", seconds(r.Expiries[0].At))
	}
	counts := map[string]int{}
	for _, g := range r.Findings {
		counts[g.Code] = g.Findings
	}
	m.family("findings", "Findings by reason code.")
	for _, k := range FindingKinds() {
		m.value("findings", float64(counts[k.Code]), "code", k.Code, "severity", string(k.Severity))
	}
}

// repositories writes what there is of each repository, those first of which something ends first.
func (m *metrics) repositories(r Report) {
	repos := slices.Clone(r.Repositories)
	slices.SortStableFunc(repos, func(a, b Repository) int {
		switch {
		case a.FirstEnd == nil || b.FirstEnd == nil:
			return cmp.Compare(one(a.FirstEnd == nil), one(b.FirstEnd == nil))
		}
		return a.FirstEnd.Compare(*b.FirstEnd)
	})
	if n := len(repos); n > maxMetricRepositories {
		repos, m.left[0] = repos[:maxMetricRepositories], n-maxMetricRepositories
	}
	for _, g := range []struct {
		name, help string
		of         func(Repository) int
	}{
		{"artifacts", "Artifacts, platform images and what refers to them; no signatures.", func(r Repository) int { return r.Artifacts }},
		{"tagged_artifacts", "Artifacts that a tag names.", func(r Repository) int { return r.Tagged }},
		{"unsigned_artifacts", "Tagged artifacts without a signature that verifies.", func(r Repository) int { return r.Unsigned }},
		{"signatures", "Signatures that are listed.", func(r Repository) int { return r.Signatures }},
		{"current_signatures", "Signatures that count: they verify, and nothing stands in for them.", func(r Repository) int { return r.Current }},
		{"expiring_signatures", "Signatures that count and end within --within.", func(r Repository) int { return r.Expiring }},
		{"problems", "Findings that somebody has to do something about.", func(r Repository) int { return r.Problems }},
		{"unseen_artifacts", "What could not be read in the repository.", func(r Repository) int { return r.Unseen }},
	} {
		name := "repository_" + g.name
		m.family(name, g.help)
		for _, repo := range repos {
			m.value(name, float64(g.of(repo)), "repository", repo.Name)
		}
	}
	const first = "repository_first_end_timestamp_seconds"
	m.family(first, "When the first signature that counts ends, or ended.")
	for _, repo := range repos {
		if repo.FirstEnd != nil {
			m.value(first, seconds(*repo.FirstEnd), "repository", repo.Name)
		}
	}
}

// certificates writes those that end a signature.
func (m *metrics) certificates(r Report) {
	var ending []*Certificate
	for _, c := range r.Certificates {
		if c.Ending > 0 {
			ending = append(ending, c)
		}
	}
	slices.SortFunc(ending, func(a, b *Certificate) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Thumbprint, b.Thumbprint))
	})
	if n := len(ending); n > maxMetricCertificates {
		ending, m.left[1] = ending[:maxMetricCertificates], n-maxMetricCertificates
	}
	labels := func(c *Certificate) []string {
		return []string{"fingerprint", c.Thumbprint, "subject", c.Subject, "use", string(c.Uses[0])}
	}
	m.family("certificate_not_after_timestamp_seconds", "When a certificate ends that is the first to end some signature.")
	for _, c := range ending {
		m.value("certificate_not_after_timestamp_seconds", seconds(c.NotAfter), labels(c)...)
	}
	m.family("certificate_ending_signatures", "Signatures that end with the certificate.")
	for _, c := range ending {
		m.value("certificate_ending_signatures", float64(c.Ending), labels(c)...)
	}
}

// identities writes when the first signature of each signer ends.
func (m *metrics) identities(r Report) {
	first := map[string]time.Time{}
	for s := range r.signatures {
		if s.State == StateCurrent && s.Ends != nil && (first[s.Identity].IsZero() || s.Ends.Before(first[s.Identity])) {
			first[s.Identity] = *s.Ends
		}
	}
	var names []string
	for name := range first {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(first[a].Compare(first[b]), cmp.Compare(a, b)) })
	if n := len(names); n > maxMetricIdentities {
		names, m.left[2] = names[:maxMetricIdentities], n-maxMetricIdentities
	}
	m.family("identity_first_end_timestamp_seconds", "When the first signature that counts of an identity ends, or ended.")
	said := map[string]bool{}
	for _, name := range names {
		if v := labelValue(name); !said[v] { // two that begin alike and were cut would be one series twice
			said[v] = true
			m.value("identity_first_end_timestamp_seconds", seconds(first[name]), "identity", name)
		}
	}
}
