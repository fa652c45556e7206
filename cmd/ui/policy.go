package ui

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust"
)

// PolicyCheck writes all that a policy says.
func PolicyCheck(w io.Writer, sum trust.Summary, now time.Time) {
	const word = "loaded"
	headline(w, good, word, sum.File, "")
	under(w, word, "sha256:"+sum.Digest)
	fmt.Fprintln(w)
	policyRoots(w, sum.Roots, now)
	for _, t := range sum.Timestamps {
		fmt.Fprintln(w)
		policyTimestamps(w, t, now)
	}
	fmt.Fprintln(w)
	policyScopes(w, sum)
	if len(sum.Warnings) > 0 {
		fmt.Fprintln(w, "\n  WARNINGS")
		for _, text := range sum.Warnings {
			for _, l := range fold(Escape(text), Columns-2) {
				fmt.Fprintln(w, "  "+l)
			}
		}
	}
	fmt.Fprintf(w, "\n%s, %s, %s", plural(len(sum.Roots), "root"), plural(len(sum.Scopes), "scope"), plural(len(sum.Warnings), "warning"))
	if len(sum.Scopes) == 0 || sum.Scopes[0].Scope != "*" {
		fmt.Fprint(w, "; what no scope matches is rejected")
	}
	fmt.Fprintln(w)
}

// policyRoots writes each root with what there is to compare: a fingerprint in full, on a line of its own.
func policyRoots(w io.Writer, roots []trust.RootSummary, now time.Time) {
	const most = 16
	width := len("ROOT")
	for _, r := range roots {
		width = max(width, min(most, Width(Escape(r.Name))))
	}
	indent := strings.Repeat(" ", width+4)
	fmt.Fprintf(w, "  %s  CERTIFICATES\n", Pad("ROOT", width))
	for _, r := range roots {
		lead := "  " + Pad(Escape(r.Name), width) + "  "
		if Width(lead) > width+4 {
			fmt.Fprintln(w, strings.TrimRight(lead, " "))
			lead = indent
		}
		for _, c := range r.Certificates {
			policyCertificate(w, c, lead, indent, now)
			lead = indent
		}
		for _, id := range r.Identities {
			for _, l := range fold("only "+Escape(id), Columns-width-4) {
				fmt.Fprintln(w, indent+l)
			}
		}
	}
}

func policyCertificate(w io.Writer, c certchain.Certificate, lead, indent string, now time.Time) {
	until := fmt.Sprintf("until %s (%s)", day(c.NotAfter), left(c.NotAfter, now))
	if c.NotBefore.After(now) {
		until = fmt.Sprintf("from %s, until %s", day(c.NotBefore), day(c.NotAfter))
	}
	for _, l := range fold(Escape(c.Subject), Columns-len(indent)) {
		fmt.Fprintln(w, lead+l)
		lead = indent
	}
	fmt.Fprintln(w, indent+"sha256 "+c.Thumbprint)
	fmt.Fprintln(w, indent+until)
}

// policyTimestamps writes a section of authorities: when they count, and what there is to compare.
func policyTimestamps(w io.Writer, t trust.TimestampsSummary, now time.Time) {
	for _, l := range fold(Escape(fmt.Sprintf("TIMESTAMPS of %s, line %d: %s; revocation not checked", t.Of, t.Line, stampUse(t.Use))), Columns-2) {
		fmt.Fprintln(w, "  "+l)
	}
	for _, c := range t.Roots {
		policyCertificate(w, c, "    ", "    ", now)
	}
}

func stampUse(use string) string {
	if use == "always" {
		return "one is always asked for"
	}
	return "count once a certificate has expired"
}

// policyScopes writes the tree of scopes: each below the one that encloses it.
func policyScopes(w io.Writer, sum trust.Summary) {
	depth := map[string]int{}
	var rows [][]string
	for _, s := range sum.Scopes {
		// What the policy says for all scopes stands above.
		if s.Timestamps != nil && slices.ContainsFunc(sum.Timestamps, func(t trust.TimestampsSummary) bool {
			return t.Of == trust.OfPolicy && t.Line == s.Timestamps.Line
		}) {
			s.Timestamps = nil
		}
		if s.Enclosing != "" {
			depth[s.Scope] = depth[s.Enclosing] + 1
		}
		indent := strings.Repeat("  ", min(depth[s.Scope], 6))
		rows = append(rows, []string{
			indent + strings.Join(fold(Escape(s.Scope), 44-len(indent)), "\n"+indent),
			fmt.Sprint(s.Line),
			strings.Join(fold(Escape(strings.Join(append([]string{inheritance(s)}, settings(s)...), "; ")), 42), "\n"),
		})
	}
	table(w, []column{{head: "SCOPE"}, {head: "LINE", right: true}, {head: "RULE"}}, rows)
}

// inheritance says what a scope trusts in the end, and what of the scope around it counts.
func inheritance(s trust.ScopeSummary) string {
	text := "trusts " + list(s.Trust)
	switch {
	case s.Rule == "reject":
		return "rejects everything"
	case len(s.Trust) == 0:
		text = "trusts nobody"
	}
	switch {
	case s.Inherits:
		text += ", inherits from " + s.Enclosing
	case s.Enclosing != "":
		text += ", does not inherit"
	}
	return text
}

// settings names what a scope says beyond its roots, where it is not what every scope says.
func settings(s trust.ScopeSummary) []string {
	var out []string
	if s.Claims != "if-present" && s.Rule != "reject" {
		out = append(out, "claims "+s.Claims)
	}
	if s.MaxAge != "" {
		out = append(out, "at most "+s.MaxAge+" old")
	}
	if len(s.Algorithms) > 0 {
		out = append(out, "only "+list(s.Algorithms))
	}
	if s.Timestamps != nil {
		out = append(out, fmt.Sprintf("timestamps %s (line %d)", s.Timestamps.Use, s.Timestamps.Line))
	}
	if !s.Enforced {
		out = append(out, "NOT ENFORCED: it only reports")
	}
	return out
}

// PolicyExplainWord says what a policy does with a reference before anything is known of its signatures.
func PolicyExplainWord(e trust.Explanation) string {
	switch {
	case e.Selected == nil, e.Selected.Rule == "reject", len(e.Selected.Trust) == 0:
		return "rejected"
	}
	return "judged"
}

// PolicyExplain writes which scope decides about a reference, and why.
func PolicyExplain(w io.Writer, e trust.Explanation) {
	word, style := PolicyExplainWord(e), plain
	if word == "rejected" {
		style = bad
	}
	headline(w, style, word, e.Reference, e.Reason)
	fmt.Fprintln(w)
	if s := e.Selected; s != nil {
		at := s.File
		if at != "" && s.Line > 0 {
			at = fmt.Sprintf("%s:%d", at, s.Line)
		}
		field(w, 2, "scope", s.Scope+"  "+at)
		if s.Rule != "reject" {
			field(w, 2, "trusts", list(s.Trust))
		}
		if more := settings(*s); len(more) > 0 {
			field(w, 2, "also", strings.Join(more, "; "))
		}
	}
	matching := "no scope"
	if len(e.Matching) > 0 {
		matching = strings.Join(e.Matching, ", ")
		if len(e.Matching) > 1 {
			matching += "  (the longest decides)"
		}
	}
	field(w, 2, "matching", matching)
	field(w, 2, "why", e.Text)
	fmt.Fprintf(w, "\n%s; no registry was asked and no signature was looked at\n", matches(e))
}

func matches(e trust.Explanation) string {
	if len(e.Matching) == 1 {
		return "1 scope matches"
	}
	return number(len(e.Matching)) + " scopes match"
}

// PolicyExplainLine writes it in one line.
func PolicyExplainLine(w io.Writer, e trust.Explanation) {
	word, style := PolicyExplainWord(e), plain
	if word == "rejected" {
		style = bad
	}
	text := e.Reason
	if s := e.Selected; s != nil {
		text = "scope " + s.Scope
		if word == "judged" {
			text += " trusts " + list(s.Trust)
		} else {
			text += "  " + e.Reason
		}
	}
	fmt.Fprintf(w, "%s  %s  %s\n", style.Render(Pad(word, 8)), Escape(e.Reference), Escape(text))
}
