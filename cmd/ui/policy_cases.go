package ui

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/trust"
)

// PolicyTest writes what came of a table of verdicts: each row that failed, and how much of the policy was tried.
func PolicyTest(w io.Writer, r trust.CasesReport) {
	word, style := "passed", good
	if !r.Passed() {
		word, style = "failed", bad
	}
	headline(w, style, word, r.File, "")
	fmt.Fprintln(w)
	field(w, 2, "policy", r.PolicyFile)
	field(w, 2, "", "sha256:"+r.PolicyDigest)
	field(w, 2, "judged at", minute(r.Now))
	for _, warning := range r.Warnings {
		field(w, 2, "to note", warning)
	}
	if r.Failed > 0 {
		fmt.Fprintln(w)
		failedCases(w, r)
	}
	if n := len(r.Untested); n > 0 {
		fmt.Fprintln(w)
		const most = 8
		text := strings.Join(r.Untested[:min(n, most)], ", ")
		if n > most {
			text += fmt.Sprintf(" and %s more (-o json has all)", number(n-most))
		}
		field(w, 2, "no test for", text)
	}
	tail := ""
	if r.Failed > 0 {
		tail = fmt.Sprintf(", %s failed", number(r.Failed))
	}
	fmt.Fprintf(w, "\n%s of %s passed%s; %s of %s tested\n",
		number(len(r.Cases)-r.Failed), plural(len(r.Cases), "test"), tail, number(r.Scopes-len(r.Untested)), plural(r.Scopes, "scope"))
}

func failedCases(w io.Writer, r trust.CasesReport) {
	for i, c := range slices.DeleteFunc(slices.Clone(r.Cases), func(c trust.Case) bool { return c.Passed }) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		at := fmt.Sprintf("%s:%d:%d", c.File, c.Line, c.Column)
		for _, l := range fold(Escape(at), Columns-2) {
			fmt.Fprintln(w, "  "+l)
		}
		field(w, 4, "reference", c.Reference)
		field(w, 4, "signatures", c.Signatures)
		field(w, 4, "wanted", c.Want)
		got := c.Verdict
		if c.Reason != "" {
			got += ", " + c.Reason
		}
		if c.Detail != "" {
			got += ": " + c.Detail
		}
		field(w, 4, "got", got)
		rule := "no scope matches"
		if c.Scope != "" {
			rule = fmt.Sprintf("%s:%d  scope %s", cmp.Or(r.PolicyFile, "policy"), c.ScopeLine, c.Scope)
		}
		field(w, 4, "rule", rule)
	}
}
