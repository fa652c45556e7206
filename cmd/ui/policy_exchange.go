package ui

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/trust/foreign"
)

// An Exchange is what became of a policy on its way to or from the words of another program.
type Exchange struct {
	Policy  string         `json:"policy"` // what was read
	Program string         `json:"program"`
	Out     string         `json:"out,omitempty"`
	Written bool           `json:"written"`
	Files   []string       `json:"files,omitempty"` // below Out, or beside it
	Text    string         `json:"text,omitempty"`  // of the policy, if it is not written to a file
	Losses  []foreign.Loss `json:"losses"`
	Missing []string       `json:"missing,omitempty"` // codes of losses that were not accepted
	Notes   []string       `json:"notes,omitempty"`
}

// PolicyExport writes what became of an export.
func PolicyExport(w io.Writer, e Exchange) { exchange(w, e, "exported", "to "+e.Program) }

// PolicyImport writes what became of an import.
func PolicyImport(w io.Writer, e Exchange) { exchange(w, e, "imported", "from "+e.Program) }

func exchange(w io.Writer, e Exchange, word, way string) {
	style := good
	if !e.Written {
		style, word = bad, "refused"
	}
	headline(w, style, word, e.Policy, way)
	if e.Written {
		under(w, word, e.Out)
	}
	if len(e.Losses) > 0 {
		fmt.Fprintln(w)
		losses(w, e)
	}
	if len(e.Notes) > 0 {
		fmt.Fprintln(w, "\n  NOTES")
	}
	for _, n := range e.Notes {
		for i, line := range fold(Escape(n), Columns-4) {
			fmt.Fprintln(w, [2]string{"  ", "    "}[min(i, 1)]+line)
		}
	}
	fmt.Fprintln(w)
	if !e.Written {
		fmt.Fprintf(w, "%s. Nothing was written.\n", lost(e))
		return
	}
	fmt.Fprintf(w, "%s written; %s\n", plural(len(e.Files), "file"), lost(e))
}

// losses writes a row for each thing that is lost, with all the scopes that lose it.
func losses(w io.Writer, e Exchange) {
	type row struct {
		loss   foreign.Loss // without its scope
		scopes []string
	}
	var rows []row
	for _, l := range e.Losses {
		scope := l.Scope
		l.Scope = ""
		at := slices.IndexFunc(rows, func(r row) bool { return r.loss == l })
		if at < 0 {
			at = len(rows)
			rows = append(rows, row{loss: l})
		}
		if scope != "" {
			rows[at].scopes = append(rows[at].scopes, scope)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.loss.Code, b.loss.Code) })
	cells := make([][]string, 0, len(rows))
	width := Columns - len("  ") - len("LOST") - len("  narrower  ")
	if len(e.Missing) > 0 {
		width = Columns - len("  ") - len("LOST") - len("  not accepted  ")
	}
	longest := len("LOST")
	for _, r := range rows {
		longest = max(longest, len(r.loss.Code))
	}
	width -= longest - len("LOST")
	for _, r := range rows {
		effect := string(r.loss.Effect)
		if slices.Contains(e.Missing, r.loss.Code) {
			effect += "\nnot accepted"
		}
		text := fold(Escape(r.loss.Detail), width)
		if len(r.scopes) > 0 {
			text = append(fold(Escape("scope "+strings.Join(r.scopes, ", ")), width), text...)
		}
		cells = append(cells, []string{r.loss.Code, effect, strings.Join(text, "\n")})
	}
	table(w, []column{{head: "LOST"}, {head: "EFFECT"}, {head: "WHERE AND WHY"}}, cells)
}

// lost sums up: narrower is on the safe side, wider is not.
func lost(e Exchange) string {
	codes, wider := map[string]bool{}, false
	for _, l := range e.Losses {
		codes[l.Code] = true
		wider = wider || l.Effect == foreign.Wider
	}
	switch {
	case len(codes) == 0:
		return "nothing is lost"
	case wider:
		return fmt.Sprintf("%s lost; what is wider accepts more than before", plural(len(codes), "thing"))
	}
	return fmt.Sprintf("%s lost; nothing accepts more than before", plural(len(codes), "thing"))
}
