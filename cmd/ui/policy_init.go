package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/imprint-oci/imprint/trust"
)

// A PolicyProposal is what `policy init` read off signatures, and what it wrote.
type PolicyProposal struct {
	trust.Proposal
	Chosen bool     `json:"chosen"`           // roots were named by their fingerprints: these are what is left
	Passed int      `json:"passed,omitempty"` // roots that were not named
	Reason string   `json:"reason,omitempty"` // why there is no policy for all of the artifacts
	Policy string   `json:"policy,omitempty"` // its text, for roots that were named
	Folder string   `json:"folder,omitempty"`
	Files  []string `json:"files,omitempty"` // that were written
}

const unproved = "Nobody vouches for these certificates: whoever may push to a repository can put a signature and a root there. " +
	"Compare each fingerprint with one that its owner gave you by another way than this registry: their web site, their documentation, a call."

// PolicyInit writes what signatures propose.
func PolicyInit(w io.Writer, p PolicyProposal) {
	word, style := "proposed", plain
	switch {
	case len(p.Roots) == 0:
		word, style = "nothing", bad
	case len(p.Files) > 0:
		word, style = "written", good
	}
	about := p.Folder
	if about == "" || word != "written" {
		about = plural(len(p.Artifacts), "artifact")
		if len(p.Artifacts) == 1 {
			about = undigested(p.Artifacts[0].Reference)
		}
	}
	headline(w, style, word, about, "")
	if len(p.Artifacts) == 1 {
		under(w, word, p.Artifacts[0].Digest.String())
	}
	if len(p.Roots) > 0 && !p.Chosen {
		fmt.Fprintln(w)
		field(w, 2, "NOT PROVED", unproved)
	}
	if len(p.Roots) > 0 {
		fmt.Fprintln(w)
		proposedRoots(w, "ROOT", p.Roots, p)
	}
	if len(p.Authorities) > 0 {
		fmt.Fprintln(w)
		proposedRoots(w, "TIMESTAMPS", p.Authorities, p)
	}
	if len(p.Scopes) > 0 && p.Policy == "" {
		fmt.Fprintln(w)
		proposedScopes(w, p.Scopes)
	}
	if len(p.LeftOut) > 0 {
		fmt.Fprintln(w)
		proposedWithout(w, p)
	}
	for i, note := range p.Notes {
		if i == 0 {
			fmt.Fprintln(w)
		}
		field(w, 2, "to note", note)
	}
	if p.Policy != "" {
		fmt.Fprintf(w, "\n  POLICY\n")
		for line := range strings.Lines(p.Policy) {
			fmt.Fprintln(w, "    "+Escape(strings.TrimSuffix(line, "\n")))
		}
	}
	proposedEnd(w, p)
}

func proposedRoots(w io.Writer, head string, roots []trust.ProposedRoot, p PolicyProposal) {
	width := len(head)
	for _, r := range roots {
		width = max(width, min(24, Width(r.Name)))
	}
	indent := strings.Repeat(" ", width+4)
	fmt.Fprintf(w, "  %s  CERTIFICATE TO COMPARE\n", Pad(head, width))
	for _, r := range roots {
		lead := "  " + Pad(Escape(r.Name), width) + "  "
		if Width(lead) > width+4 {
			fmt.Fprintln(w, strings.TrimRight(lead, " "))
			lead = indent
		}
		policyCertificate(w, r.Certificate, lead, indent, p.Now)
		text := plural(r.Signatures, "signature")
		if len(r.Identities) > 0 {
			text += " by " + strings.Join(r.Identities, "; ")
		}
		for _, l := range fold(Escape(text), Columns-len(indent)) {
			fmt.Fprintln(w, indent+l)
		}
	}
}

// proposedScopes says which repository would get which roots.
func proposedScopes(w io.Writer, scopes []trust.ProposedScope) {
	var rows [][]string
	for _, s := range scopes {
		var roots []string
		for _, e := range s.Trust {
			roots = append(roots, e.Root)
		}
		text := "signed under " + anyOf(roots)
		if s.Claims != "" {
			text += "; claims " + s.Claims
		}
		rows = append(rows, []string{strings.Join(fold(Escape(s.Scope), 50), "\n"), Escape(text)})
	}
	names := Width("SCOPE")
	for _, row := range rows {
		for l := range strings.SplitSeq(row[0], "\n") {
			names = max(names, Width(l))
		}
	}
	for _, row := range rows {
		row[1] = strings.Join(fold(row[1], Columns-names-4), "\n")
	}
	table(w, []column{{head: "SCOPE"}, {head: "WOULD ASK FOR"}}, rows)
}

// anyOf joins alternatives: a, b or c.
func anyOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func proposedWithout(w io.Writer, p PolicyProposal) {
	var rows [][]string
	for _, l := range p.LeftOut {
		who := "unreadable"
		switch {
		case l.Identity != "":
			who = brief(l.Identity)
		case l.Reason == "unsigned":
			who = "nobody"
		}
		what := short(l.Digest)
		if len(p.Artifacts) > 1 {
			what += "\n" + strings.Join(fold(undigested(l.Reference), 30), "\n")
		}
		why := append(fold(Escape(l.Detail), 44), Escape(l.Reason))
		rows = append(rows, []string{what, strings.Join(fold(Escape(who), 34), "\n"), strings.Join(why, "\n")})
	}
	table(w, []column{{head: "LEFT OUT"}, {head: "SIGNED BY"}, {head: "WHY"}}, rows)
}

func proposedEnd(w io.Writer, p PolicyProposal) {
	signatures := 0
	for _, a := range p.Artifacts {
		signatures += a.Usable
	}
	counts := []string{plural(len(p.Roots), "root"), fmt.Sprintf("%s on %s", plural(signatures, "signature"), plural(len(p.Artifacts), "artifact"))}
	if n := len(p.LeftOut); n > 0 {
		counts = append(counts, number(n)+" left out")
	}
	if p.Passed > 0 {
		counts = append(counts, plural(p.Passed, "other root")+" not named")
	}
	text := strings.Join(counts, ", ")
	if len(p.Files) == 0 {
		fmt.Fprintf(w, "\n%s. Nothing was written.\n", text)
		if len(p.Roots) > 0 && !p.Chosen {
			for _, l := range fold("Once compared: the same with --root-sha256 HEX for each root that is right, and --out DIR", Columns) {
				fmt.Fprintln(w, l)
			}
		}
		return
	}
	fmt.Fprintf(w, "\n%s; %s written:\n", text, plural(len(p.Files), "file"))
	for _, f := range p.Files {
		fmt.Fprintln(w, "  "+Escape(f))
	}
}
