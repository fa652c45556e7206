package ui

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/trust/foreign"
)

// plainText drops what colours text.
func plainText(s string) string { return regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(s, "") }

func TestPolicyExchange(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("something that is said at length ", 12)
	loss := func(code, scope string, effect foreign.Effect) foreign.Loss {
		return foreign.Loss{Code: code, Scope: scope, Effect: effect, Detail: long + code}
	}
	for _, c := range []struct {
		name       string
		e          Exchange
		first, end string
		in         []string
	}{
		{"written", Exchange{Policy: "p.yaml", Program: "notation", Out: "n", Written: true, Files: []string{"a", "b"}, Losses: []foreign.Loss{
			loss("prefix", "b.example", foreign.Narrower), loss("prefix", "a.example", foreign.Narrower), loss("everything", "", foreign.Narrower)},
			Notes: []string{long}},
			"exported  p.yaml", "2 files written; 2 things lost; nothing accepts more than before", []string{"scope b.example, a.example", "NOTES", "narrower"}},
		{"wider", Exchange{Policy: "p.yaml", Program: "kyverno", Written: true, Files: []string{"a"}, Losses: []foreign.Loss{loss("claims-if-present", "x.example", foreign.Wider)}},
			"exported  p.yaml", "1 file written; 1 thing lost; what is wider accepts more than before", []string{"wider"}},
		{"refused", Exchange{Policy: "p.yaml", Program: "kyverno", Missing: []string{"claims-if-present"},
			Losses: []foreign.Loss{loss("claims-if-present", "x.example", foreign.Wider), loss("kind", "x.example", foreign.Narrower)}},
			"refused  p.yaml", "2 things lost; what is wider accepts more than before. Nothing was written.", []string{"not accepted"}},
		{"nothing lost", Exchange{Policy: "p\x1b[1m.yaml", Program: "ratify", Written: true, Files: []string{"a"}},
			`exported  p\x1b[1m.yaml`, "1 file written; nothing is lost", nil},
	} {
		var b bytes.Buffer
		PolicyExport(&b, c.e)
		text := plainText(b.String())
		if !strings.HasPrefix(text, c.first) || !strings.HasSuffix(text, "\n"+c.end+"\n") {
			t.Errorf("%s:\n%s", c.name, text)
		}
		for _, want := range c.in {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", c.name, want, text)
			}
		}
		for line := range strings.Lines(text) {
			if Width(strings.TrimSuffix(line, "\n")) > Columns {
				t.Errorf("%s: too wide: %s", c.name, line)
			}
		}
		b.Reset()
		PolicyImport(&b, c.e)
		if text := plainText(b.String()); !strings.Contains(text, "from "+c.e.Program) {
			t.Errorf("%s: %s", c.name, text)
		}
	}
}
