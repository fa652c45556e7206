package audit

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// checkMetrics parses Prometheus' text format strictly, as promtool check metrics does: HELP and TYPE once before the series of their
// name, which stand together; names and escapes as they must be; no series twice. It returns the series.
func checkMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	if !strings.HasSuffix(text, "\n") {
		t.Error("it does not end with a line's end")
	}
	series := map[string]float64{}
	ended := map[string]bool{}
	current, typed := "", false
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		fail := func(why string) { t.Errorf("line %d: %s: %q", n+1, why, line) }
		switch {
		case strings.HasPrefix(line, "# HELP "):
			name, help, ok := strings.Cut(line[7:], " ")
			if !ok || help == "" || !metricName.MatchString(name) || ended[name] {
				fail("HELP")
			}
			if strings.HasSuffix(name, "_total") {
				fail("a gauge is not called so")
			}
			ended[current] = true
			current, typed = name, false
		case strings.HasPrefix(line, "# TYPE "):
			if line[7:] != current+" gauge" || typed {
				fail("TYPE")
			}
			typed = true
		default:
			name, rest := line, ""
			if i := strings.IndexAny(line, "{ "); i >= 0 {
				name, rest = line[:i], line[i:]
			}
			if name != current || !typed {
				fail("a series apart from its TYPE")
			}
			if strings.HasPrefix(rest, "{") {
				var err error
				if rest, err = labels(rest[1:]); err != nil {
					fail(err.Error())
					continue
				}
			}
			v, err := strconv.ParseFloat(strings.TrimPrefix(rest, " "), 64)
			if err != nil || !strings.HasPrefix(rest, " ") || strings.Count(rest, " ") != 1 { // node_exporter takes no times
				fail("value")
			}
			key := strings.TrimSuffix(line, rest)
			if _, twice := series[key]; twice {
				fail("twice")
			}
			series[key] = v
		}
	}
	return series
}

// labels parses name="value",… up to the closing brace and returns what follows.
func labels(s string) (rest string, err error) {
	seen := map[string]bool{}
	for {
		name, after, ok := strings.Cut(s, `="`)
		if !ok || !labelName.MatchString(name) || seen[name] || strings.HasPrefix(name, "__") {
			return "", fmt.Errorf("label %q", name)
		}
		seen[name] = true
		i := 0
		for ; i < len(after) && after[i] != '"'; i++ {
			if after[i] == '\\' {
				if i++; i == len(after) || !strings.ContainsRune(`\"n`, rune(after[i])) {
					return "", fmt.Errorf("an escape in %q", name)
				}
			}
		}
		if i == len(after) {
			return "", fmt.Errorf("%q does not end", name)
		}
		s = after[i+1:]
		if strings.HasPrefix(s, "}") {
			return s[1:], nil
		}
		if !strings.HasPrefix(s, ",") {
			return "", fmt.Errorf("after %q", name)
		}
		s = s[1:]
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	end := in(17)
	evil := "CN=a\"b\\c\nd\xff" + strings.Repeat("é", 500)
	r := Report{
		Now: auditTime, ListBefore: in(30), Counts: Counts{Repositories: 1, Expiring: 3},
		Repositories: []Repository{{Name: "h/a", Signatures: 4, Current: 3, Expiring: 3, FirstEnd: &end}, {Name: "h/b"}},
		Artifacts: []Artifact{{Signatures: []Listed{
			{State: StateCurrent, Identity: evil, Ends: &end}, {State: StateCurrent, Identity: evil + "x", Ends: &end}, {State: StateSuperseded, Identity: "CN=old", Ends: &end},
		}}},
		Certificates: map[string]*Certificate{
			"aa": {Certificate: certchain.Certificate{Subject: evil, Thumbprint: "aa", NotAfter: end}, Uses: []EndKind{EndLeaf}, Ending: 3},
			"bb": {Certificate: certchain.Certificate{Subject: "CN=root", Thumbprint: "bb", NotAfter: in(900)}, Uses: []EndKind{EndRoot}},
		},
		Expiries: []Expiry{{At: end}}, Findings: []FindingGroup{{Code: codeUnsigned, Findings: 7}},
	}
	var b bytes.Buffer
	must(t, WriteMetrics(&b, r))
	series := checkMetrics(t, b.String())
	for name, want := range map[string]float64{
		`imprint_audit_timestamp_seconds`:                                        float64(auditTime.Unix()),
		`imprint_audit_window_seconds`:                                           30 * 86400,
		`imprint_audit_first_end_timestamp_seconds`:                              float64(end.Unix()),
		`imprint_audit_repository_expiring_signatures{repository="h/a"}`:         3,
		`imprint_audit_repository_expiring_signatures{repository="h/b"}`:         0,
		`imprint_audit_repository_first_end_timestamp_seconds{repository="h/a"}`: float64(end.Unix()),
		`imprint_audit_findings{code="artifact-unsigned",severity="problem"}`:    7,
		`imprint_audit_findings{code="signature-ghost",severity="problem"}`:      0,
		`imprint_audit_left_out{of="certificates"}`:                              0,
	} {
		if got, ok := series[name]; !ok || got != want {
			t.Errorf("%s: %v, want %v (there: %v)", name, got, want, ok)
		}
	}
	identities, certificates := 0, 0
	for key := range series {
		identities += strings.Count(key, "identity=")
		certificates += strings.Count(key, "_not_after_timestamp_seconds{fingerprint=\"")
		if strings.Contains(key, "CN=old") || strings.Contains(key, "h/b\"} 0 first") {
			t.Errorf("%s: it does not count", key)
		}
		if len(key) > 1000 {
			t.Errorf("a series' name has %d bytes", len(key))
		}
	}
	if identities != 1 || certificates != 1 {
		t.Errorf("%d identities, %d certificates", identities, certificates)
	}
}

// However many repositories, certificates and signers there are, there is an end to the series.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	r := Report{Now: auditTime, ListBefore: auditTime, Certificates: map[string]*Certificate{}}
	a := Artifact{}
	for i := range 5000 {
		at := auditTime.Add(time.Duration(5000-i) * time.Hour)
		name := fmt.Sprintf("%04d", i)
		r.Repositories = append(r.Repositories, Repository{Name: name, FirstEnd: &at})
		r.Certificates[name] = &Certificate{Certificate: certchain.Certificate{Thumbprint: name, NotAfter: at}, Uses: []EndKind{EndLeaf}, Ending: 1}
		a.Signatures = append(a.Signatures, Listed{State: StateCurrent, Identity: name, Ends: &at})
	}
	r.Artifacts = []Artifact{a}
	var b bytes.Buffer
	must(t, WriteMetrics(&b, r))
	series := checkMetrics(t, b.String())
	if most := 9*maxMetricRepositories + 2*maxMetricCertificates + maxMetricIdentities + 100; len(series) > most {
		t.Errorf("%d series", len(series))
	}
	// What ends first is what stays.
	for _, key := range []string{`imprint_audit_repository_signatures{repository="4999"}`, `imprint_audit_identity_first_end_timestamp_seconds{identity="4999"}`} {
		if _, ok := series[key]; !ok {
			t.Errorf("%s is left out", key)
		}
	}
	if series[`imprint_audit_left_out{of="repositories"}`] != 3000 || series[`imprint_audit_left_out{of="certificates"}`] != 4000 || series[`imprint_audit_left_out{of="identities"}`] != 4500 {
		t.Errorf("what is left out is said wrongly")
	}
}
