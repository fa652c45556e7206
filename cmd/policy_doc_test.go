package cmd

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

var (
	yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	pemFile   = regexp.MustCompile(`roots/[a-z0-9-]+\.pem`)
)

// policyPage loads every example of docs/policy.md; the tables of tests come apart.
func policyPage(t *testing.T) (page string, policies []*trust.Policy, tables []*trust.Cases) {
	t.Helper()
	b, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	for _, m := range yamlBlock.FindAllStringSubmatch(string(b), -1) {
		if strings.Contains(m[1], "\ntests:") {
			c, err := trust.ParseCases("docs/policy.md", []byte(m[1]))
			if err != nil {
				t.Errorf("%v\n%s", err, m[1])
			}
			tables = append(tables, c)
			continue
		}
		for _, file := range pemFile.FindAllString(m[1], -1) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			valid := certtest.Valid(now, now.AddDate(30, 0, 0))
			cert := certtest.Root(file, valid).Certificate
			if strings.Contains(file, "appliance") { // pinned as a leaf
				cert = certtest.Root("root", valid).Leaf(certtest.Key("P-256").Public(), file, valid)
			}
			w.file(file, string(certtest.PEM(cert)))
		}
		p, err := trust.Load(w.file("policy.yaml", m[1]))
		if err != nil {
			t.Errorf("%v\n%s", err, m[1])
			continue
		}
		policies = append(policies, p)
	}
	return string(b), policies, tables
}

// TestPolicyPage: each example of docs/policy.md loads, and its tables of verdicts are what the two policies give.
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	page, policies, tables := policyPage(t)
	if len(policies) != 7 || len(tables) != 1 {
		t.Fatalf("%d policies, %d tables of tests", len(policies), len(tables))
	}
	dev, consumer := policies[5], policies[6]
	r, err := tables[0].Run(dev, time.Now())
	if err != nil || !r.Passed() || len(r.Cases) != 6 {
		t.Errorf("the table of tests: %+v %v", r, err)
	}
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	verdict := func(p *trust.Policy, reference string, sigs ...trust.Supposed) string {
		ref, err := registry.ParseQualified(reference)
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Suppose(ref, sigs, now)
		if err != nil {
			t.Fatal(err)
		}
		return r.Verdict
	}
	cells := func(line string) []string {
		var out []string
		for _, c := range strings.Split(strings.Trim(line, "| "), "|") {
			out = append(out, strings.TrimSpace(c))
		}
		return out
	}
	checked := 0
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "| signed by |"):
			heads := cells(line)
			for _, row := range lines[i+2 : i+7] {
				got := cells(row)
				for j, want := range got[1:] {
					reference := strings.Replace(heads[j+1], "mirror…", "mirror.acme.example", 1)
					sigs := []trust.Supposed{{Root: got[0]}}
					if strings.HasPrefix(got[0], "nobody") {
						sigs[0].Root = ""
						if v := verdict(dev, reference); v != want {
							t.Errorf("%s unsigned: %s", reference, v)
						}
					}
					if v := verdict(dev, reference, sigs...); v != want {
						t.Errorf("%s by %s: the page says %s, it is %s", reference, got[0], want, v)
					}
					checked++
				}
			}
		case strings.HasPrefix(line, "| reference | decided by |"):
			heads := cells(line)
			for _, row := range lines[i+2 : i+9] {
				got := cells(row)
				ref, err := registry.ParseQualified(got[0])
				if err != nil {
					t.Fatal(err)
				}
				selected := consumer.Explain(ref).Selected
				if selected == nil != strings.HasPrefix(got[1], "none") || selected != nil && selected.Scope != got[1] && (selected.Mirrors == "") == (got[1] == "made by the mirror") {
					t.Errorf("%s is decided by %+v", got[0], selected)
				}
				for j, want := range got[2:] {
					var sigs []trust.Supposed
					switch head := heads[j+2]; {
					case head == "nobody":
					case strings.HasPrefix(head, "a key delegated for docker.io/acme2"):
						// A document grants by repository, and a supposition says only that there is a grant for what is judged.
						sigs = []trust.Supposed{{Delegated: strings.HasPrefix(got[0], "docker.io/acme2/") || selected != nil && selected.Delegate == nil}}
					default:
						sigs = []trust.Supposed{{Root: head}}
					}
					if v := verdict(consumer, got[0], sigs...); v != want {
						t.Errorf("%s by %s: the page says %s, it is %s", got[0], heads[j+2], want, v)
					}
					checked++
				}
			}
		}
	}
	if checked != 5*4+7*5 {
		t.Errorf("%d cells were checked", checked)
	}
}

// TestPolicyPageNamesEachKey: what a policy may hold is on its page; an unknown key's error lists none that is not.
func TestPolicyPageNamesEachKey(t *testing.T) {
	t.Parallel()
	page, _, _ := policyPage(t)
	for _, key := range trust.Keys() {
		if !strings.Contains(page, "`"+key) && !strings.Contains(page, key+":") {
			t.Errorf("docs/policy.md does not name the key %s", key)
		}
	}
	if len(trust.Keys()) < 30 {
		t.Errorf("only %d keys", len(trust.Keys()))
	}
	for _, key := range []string{"version", "roots", "timestamps", "revocation", "scopes", "mirrors"} {
		if !strings.Contains(topic("policy"), key+":") {
			t.Errorf("imprint help policy does not name %s", key)
		}
	}
}
