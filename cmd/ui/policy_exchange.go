package ui

import (
	"fmt"
	"io"
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
		fmt.Fprintln(w, "\n  LOST                             EFFECT")
	}
	for _, l := range e.Losses {
		about := string(l.Effect)
		if at := l.Scope; at != "" {
			about += "  " + at
		}
		accepted := ""
		for _, code := range e.Missing {
			if code == l.Code {
				accepted = "not accepted"
			}
		}
		for i, line := range fold(Escape(about), Columns-35-14) {
			lead := "  " + Pad(l.Code, 20) + " " + Pad(accepted, 12)
			if i > 0 {
				lead = strings.Repeat(" ", 35)
			}
			fmt.Fprintf(w, "%s%s\n", lead[:min(len(lead), 35)], line)
		}
		for _, line := range fold(Escape(l.Detail), Columns-6) {
			fmt.Fprintln(w, "      "+line)
		}
	}
	if len(e.Notes) > 0 {
		fmt.Fprintln(w, "\n  NOTES")
	}
	for _, n := range e.Notes {
		for i, line := range fold(Escape(n), Columns-4) {
			fmt.Fprintln(w, [2]string{"  ", "    "}[min(i, 1)]+line)
		}
	}
	wider := 0
	for _, l := range e.Losses {
		if l.Effect == foreign.Wider {
			wider++
		}
	}
	fmt.Fprintf(w, "\n%s lost, %s wider; ", plural(len(e.Losses), "thing"), number(wider))
	if !e.Written {
		fmt.Fprintln(w, "nothing was written")
		return
	}
	fmt.Fprintf(w, "%s written\n", plural(len(e.Files), "file"))
}
