package ui

import (
	"fmt"
	"io"
	"strings"
)

// The statuses of a [Check].
const (
	OK         = "ok"
	Warning    = "warning"
	Problem    = "problem"
	NotChecked = "not checked"
)

// A Check is one thing that doctor looked at.
type Check struct {
	Section string `json:"section"` // configuration, registry, key, chain, clock
	Name    string `json:"name"`
	Status  string `json:"status"`
	Detail  string `json:"detail,omitempty"`
	Reason  string `json:"reason,omitempty"` // code of a problem
	Hint    string `json:"hint,omitempty"`
}

// A Diagnosis is what doctor found.
type Diagnosis struct {
	Reference string  `json:"reference,omitempty"`
	Checks    []Check `json:"checks"`
	Calls     int     `json:"keyCalls,omitempty"` // uses of the key
	Uses      string  `json:"-"`                  // the same in words; "" for none
}

// Doctor writes what works and what does not.
func Doctor(w io.Writer, d Diagnosis) {
	n := map[string]int{}
	width := 0
	for _, c := range d.Checks {
		n[c.Status]++
		width = max(width, Width(c.Name))
	}
	word, style := "ready", good
	switch {
	case n[Problem] > 0:
		word, style = "broken", bad
	case n[Warning] > 0:
		word, style = "ready, with warnings", open
	}
	about := "this machine"
	if d.Reference != "" {
		about = d.Reference
	}
	headline(w, style, word, about, "")
	const statusWidth = len(NotChecked)
	indent := 2 + width + 2 + statusWidth + 2
	section := ""
	for i, c := range d.Checks {
		if c.Section != section {
			section = c.Section
			fmt.Fprintln(w, "\n  "+strings.ToUpper(section))
		}
		lines := fold(Escape(c.Detail), Columns-indent)
		// Neighbours with the same advice share it.
		if c.Hint != "" && (i+1 == len(d.Checks) || d.Checks[i+1].Hint != c.Hint || d.Checks[i+1].Section != section) {
			hints := fold(Escape("hint: "+c.Hint), Columns-indent)
			if len(lines) == 1 && lines[0] == "" {
				lines = nil
			}
			lines = append(lines, hints...)
		}
		if len(lines) == 0 {
			lines = []string{""}
		}
		for j, l := range lines {
			name, status := "", ""
			if j == 0 {
				name, status = c.Name, c.Status
			}
			fmt.Fprintln(w, strings.TrimRight("  "+Pad(name, width)+"  "+Pad(status, statusWidth)+"  "+l, " "))
		}
	}
	var counts []string
	for _, status := range []string{OK, Warning, Problem, NotChecked} {
		if k := n[status]; k > 0 || status == OK {
			switch status {
			case Warning, Problem:
				counts = append(counts, plural(k, status))
			default:
				counts = append(counts, number(k)+" "+status)
			}
		}
	}
	uses := ""
	if d.Uses != "" {
		uses = "; " + d.Uses
	}
	fmt.Fprintf(w, "\n%s%s\n", strings.Join(counts, ", "), uses)
}
