package ui

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/signer"
)

// Write writes what putting new chains on would do, and what each kind of verifier would say.
func (s *RechainSum) Write(w io.Writer, failed []Failure) {
	s.head(w, failed)
	s.chains(w)
	s.verifiers(w)
	var text strings.Builder
	if s.planned > 0 {
		field(&text, 2, "writes", s.writes())
	}
	s.addNotes()
	s.notes.write(&text)
	if s.asked.All {
		field(&text, 2, "not seen", "digests that no tag, index or fallback tag leads to; give them with --batch")
	}
	if text.Len() > 0 {
		fmt.Fprintf(w, "\n%s", text.String())
	}
	refused(w, failed)
	fmt.Fprintf(w, "\n%s\n", s.last(failed))
}

func (s *RechainSum) head(w io.Writer, failed []Failure) {
	if s.results == 1 && len(failed) == 0 && !s.asked.All {
		headline(w, plain, "plan", s.first.Reference, "")
		under(w, "plan", s.first.Digest.String())
		return
	}
	n := s.planned + s.there + s.skipped + s.later
	about := fmt.Sprintf("%s in %s", plural(n, "signature"), number(len(s.repos))+map[bool]string{true: " repository", false: " repositories"}[len(s.repos) == 1])
	if len(s.repos) == maxGroups {
		about = fmt.Sprintf("%s in more than %s repositories", plural(n, "signature"), number(maxGroups))
	}
	var and []string
	verb := map[bool]string{true: "has ", false: "have "}[n == 1]
	if len(s.asked.Replacing) > 0 {
		var names []string
		for _, c := range s.asked.Replacing {
			names = append(names, fmt.Sprintf("%s (until %s)", common(c.Subject), day(c.NotAfter)))
		}
		and = append(and, verb+strings.Join(names, " or "))
	}
	if !s.asked.EndsBy.IsZero() {
		and = append(and, verb+"a chain that ends by "+day(s.asked.EndsBy))
	}
	if s.asked.SignedBy != "" {
		and = append(and, map[bool]string{true: "is", false: "are"}[n == 1]+" by "+s.asked.SignedBy)
	}
	for i, line := range fold(strings.TrimSpace(about+" "+strings.Join(and, " and ")), Columns-len("plan  ")) {
		if i == 0 {
			headline(w, plain, "plan", line, "")
			continue
		}
		under(w, "plan", line)
	}
}

// chains writes the table of new chains: of many those of most signatures.
func (s *RechainSum) chains(w io.Writer) {
	if len(s.order) == 0 {
		return
	}
	groups := slices.Clone(s.order)
	slices.SortStableFunc(groups, func(a, b *chainGroup) int {
		return cmp.Or(one(a.skipped)-one(b.skipped), cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name))
	})
	var rows [][]string
	rest := 0
	for i, g := range groups {
		if i >= maxRows && len(groups) > maxRows+1 {
			rest += g.n
			continue
		}
		then := until(g.then)
		if g.skipped {
			then = "-"
		}
		rows = append(rows, []string{g.name, number(g.n), then, until(g.now), g.identity})
	}
	if rest > 0 {
		rows = append(rows, []string{fmt.Sprintf("… %s more", number(len(groups)-maxRows)), number(rest)})
	}
	fmt.Fprintln(w)
	table(w, []column{{head: "NEW CHAIN", most: 40}, {head: "SIGNATURES", right: true}, {head: "HOLD UNTIL"}, {head: "NOW UNTIL"},
		{head: "IDENTITY", most: 20}}, rows)
}

// verifiers writes what verifiers who trust the root will say once the present chains have ended, which is what it is all for.
func (s *RechainSum) verifiers(w io.Writer) {
	if len(s.sides) == 0 {
		return
	}
	ends := "its end"
	if len(s.ends) == 1 {
		for d := range s.ends {
			ends = d
		}
	}
	plan := "old and new side by side (this plan)"
	if s.asked.Replace {
		plan = "new in the place of old (this plan)"
	}
	labels := [verifierRows]string{
		rowOld:    "after " + ends + ", old chain only",
		rowNoRoot: "new chain, no TSA root (Kyverno policy)",
		rowAlways: "new chain, TSA root, always",
		rowAfter:  "new chain, TSA root, afterCertExpiry",
		rowPlan:   plan,
	}
	columns := []column{{head: "VERIFIERS"}}
	rows := make([][]string, verifierRows)
	for row := range rows {
		rows[row] = []string{labels[row]}
	}
	var sides []string
	for _, side := range []string{sideStamped, sidePlain, sideAuthority} {
		if s.sides[side] > 0 {
			sides = append(sides, side)
		}
	}
	width := (Columns-2-Width(labels[rowNoRoot]))/len(sides) - 2
	for _, side := range sides {
		columns = append(columns, column{head: number(s.sides[side]) + " " + side})
		for row := range rows {
			rows[row] = append(rows[row], s.cells[cell{row, side}].text(width))
		}
	}
	fmt.Fprintln(w)
	table(w, columns, rows)
}

// text writes a cell: where not all have the same, each with its count, the most first.
func (o *outcomes) text(width int) string {
	if o == nil {
		return ""
	}
	texts := slices.Clone(o.texts)
	slices.SortStableFunc(texts, func(a, b string) int { return cmp.Compare(o.n[b], o.n[a]) })
	var lines []string
	for _, t := range texts {
		if len(texts) > 1 {
			t = number(o.n[t]) + " " + t
		}
		lines = append(lines, fold(t, max(width, 16))...)
	}
	return strings.Join(lines, "\n")
}

func (s *RechainSum) writes() string {
	stays := "old ones stay"
	if s.asked.Replace {
		stays = "old ones are deleted once the new ones are listed"
	}
	return fmt.Sprintf("%s (%s); %s; no tag changes; no key is used", plural(s.planned, "new referrer"), bytesOf(s.size), stays)
}

// addNotes adds what is to be known of all together.
func (s *RechainSum) addNotes() {
	stamps, authentic := s.breaks[envelope.SchemeX509], s.breaks[envelope.SchemeSigningAuthority]
	if stamps > 0 {
		s.notes.add(fmt.Sprintf("--replace would break %s under TSA root, always: it refuses those; --timestamp-url renews %s timestamp in the same step and lifts that",
			plural(stamps, "signature"), map[bool]string{true: "its", false: "their"}[stamps == 1]))
	}
	if authentic > 0 {
		s.notes.add(fmt.Sprintf("--replace would break %s of a signing authority, whose time is older than the new chain: it refuses those; no timestamp mends that",
			plural(authentic, "signature")))
	}
	if s.restamped > 0 {
		text := fmt.Sprintf("%s a new timestamp when this is run: a plan asks no authority, so the new digests are not known yet",
			map[bool]string{true: "1 gets", false: number(s.restamped) + " get"}[s.restamped == 1])
		if s.asked.Judged {
			text += ", and the policy judges them then, before anything is written"
		}
		s.notes.add(text)
	}
}

// last is the line that counts.
func (s *RechainSum) last(failed []Failure) string {
	var parts []string
	have := func(n int) string { return map[bool]string{true: "has", false: "have"}[n == 1] }
	if s.results == 1 && !s.asked.All || s.planned == 0 {
		parts = append(parts, fmt.Sprintf("%s to write, %s unchanged.", number(s.planned), number(s.there)))
	} else if s.there > 0 {
		parts = append(parts, fmt.Sprintf("%s %s it already.", number(s.there), have(s.there)))
	}
	if n := s.skipped - s.refused; n > 0 {
		parts = append(parts, fmt.Sprintf("%s %s no new chain: skipped.", number(n), have(n)))
	}
	if s.later > 0 {
		parts = append(parts, fmt.Sprintf("%s more than --limit.", number(s.later)))
	}
	if s.leftOut > 0 {
		parts = append(parts, fmt.Sprintf("%s left out.", number(s.leftOut)))
	}
	if len(failed) > 0 {
		parts = append(parts, fmt.Sprintf("%s refused.", plural(len(failed), "artifact")))
	}
	parts = append(parts, "Nothing was written.")
	if s.planned > 10 && s.asked.Limit == 0 {
		parts = append(parts, "Try a few first: --limit 10")
	}
	return strings.Join(parts, " ")
}

// notes are what is to be known, each once with how often it was said.
type notes struct {
	texts []string
	n     map[string]int
	more  int
}

func (s *notes) add(text string) {
	if s.n == nil {
		s.n = map[string]int{}
	}
	switch {
	case s.n[text] > 0:
	case len(s.texts) == maxNotes:
		s.more++
		return
	default:
		s.texts = append(s.texts, text)
	}
	s.n[text]++
}

// of adds what is to be known of a plan. That one would break is said of each only where they are few.
func (s *notes) of(p signer.Plan, few bool) {
	if p.Changed && p.Status != signer.StatusSkipped {
		s.add(fmt.Sprintf("the identity changes from %s to %s", p.Identity, p.NewLeaf))
	}
	for _, text := range p.Warnings {
		if few || p.Breaks == "" || !strings.HasPrefix(text, p.Breaks) {
			s.add(text)
		}
	}
}

func (s *notes) write(w io.Writer) {
	label := "to note"
	for i, text := range s.texts {
		if i == maxRows {
			field(w, 2, "", fmt.Sprintf("… %s more", number(len(s.texts)+s.more-maxRows)))
			break
		}
		if n := s.n[text]; n > 1 {
			text = fmt.Sprintf("%s (%s)", text, plural(n, "signature"))
		}
		field(w, 2, label, text)
		label = ""
	}
}

// passed says of how many out of all verifiers say yes.
func passed(n, of int) string {
	switch n {
	case of:
		return "pass"
	case 0:
		return "fail"
	}
	return fmt.Sprintf("%s of %s pass", number(n), number(of))
}
