package ui

import (
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
)

// The colours of the first word. Words carry the meaning; colour carries none that they don't.
var (
	good  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	bad   = lipgloss.NewStyle().Foreground(lipgloss.Red)
	open  = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	plain = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
)

// headline writes the answer: the word in colour, what it is about, and at the right margin a reason code.
func headline(w io.Writer, style lipgloss.Style, word, about, reason string) {
	about = Escape(about)
	if reason == "" {
		fmt.Fprintf(w, "%s  %s\n", style.Render(word), about)
		return
	}
	reason = Escape(reason)
	gap := Columns - Width(word) - 2 - Width(about) - Width(reason)
	if gap < 2 {
		fmt.Fprintf(w, "%s  %s\n%s%s\n", style.Render(word), about, strings.Repeat(" ", Width(word)+2), reason)
		return
	}
	fmt.Fprintf(w, "%s  %s%s%s\n", style.Render(word), about, strings.Repeat(" ", gap), reason)
}

// under writes a line below the headline, where its text begins.
func under(w io.Writer, word, text string) {
	fmt.Fprintf(w, "%s%s\n", strings.Repeat(" ", Width(word)+2), Escape(text))
}

const labelWidth = 12

// field writes a named value, wrapped within the screen.
func field(w io.Writer, indent int, label, value string) {
	value = Escape(value)
	width := Columns - indent - labelWidth
	for i, line := range fold(value, width) {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "%s%s%s\n", strings.Repeat(" ", indent), Pad(label, labelWidth), line)
	}
}

// whole writes a named value that is to be copied: a key URI is one word, however wide.
func whole(w io.Writer, indent int, label, value string) {
	if value = Escape(value); strings.ContainsRune(value, ' ') || Width(value) > maxLines*Columns {
		field(w, indent, label, value)
		return
	}
	fmt.Fprintf(w, "%s%s%s\n", strings.Repeat(" ", indent), Pad(label, labelWidth), value)
}

// fold breaks text at blanks into lines of at most width columns; runs of blanks inside a line are kept. A word that is wider is
// cut into pieces.
func fold(text string, width int) []string {
	text = clip(text, maxLines*width)
	var lines []string
	for Width(text) > width {
		at, columns, last := len(text), 0, -1
		for i, r := range text {
			columns += Width(string(r))
			if columns > width {
				at = i
				break
			}
			if r == ' ' {
				last = i
			}
		}
		if at < len(text) && text[at] == ' ' {
			last = at
		}
		if last > 0 {
			lines = append(lines, strings.TrimRight(text[:last], " "))
			text = strings.TrimLeft(text[last:], " ")
			continue
		}
		lines = append(lines, text[:at])
		text = text[at:]
	}
	return append(lines, text)
}

// maxLines is how much of one value a screen shows. What a registry sends can be long enough to drown the verdict; -o
// json has all of it.
const maxLines = 12

// clip cuts text to n characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for i := range text {
		if n--; n == 0 {
			return text[:i] + "…"
		}
	}
	return text
}

// A column of a table.
type column struct {
	head  string
	right bool
	most  int // columns it may take; 0: as many as it needs
}

// table writes rows below their heads, two columns apart, indented by two. A cell may hold several lines.
func table(w io.Writer, columns []column, rows [][]string) {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = Width(c.head)
	}
	cells := make([][][]string, len(rows))
	for r, row := range rows {
		cells[r] = make([][]string, len(columns))
		for i := range columns {
			var lines []string
			if i < len(row) {
				for _, l := range strings.Split(row[i], "\n") {
					lines = append(lines, Escape(l))
				}
			}
			for j, l := range lines {
				if most := columns[i].most; most > 0 {
					lines[j] = cut(l, most)
				}
				widths[i] = max(widths[i], Width(lines[j]))
			}
			cells[r][i] = lines
		}
	}
	line := func(texts []string) {
		var b strings.Builder
		b.WriteString(" ")
		for i, t := range texts {
			b.WriteString(" ")
			if i > 0 {
				b.WriteString(" ")
			}
			if columns[i].right {
				b.WriteString(strings.Repeat(" ", max(0, widths[i]-Width(t))) + t)
			} else {
				b.WriteString(Pad(t, widths[i]))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.head
	}
	line(heads)
	for _, row := range cells {
		height := 1
		for _, c := range row {
			height = max(height, len(c))
		}
		for y := range height {
			texts := make([]string, len(columns))
			for i, c := range row {
				if y < len(c) {
					texts[i] = c[y]
				}
			}
			line(texts)
		}
	}
}

// brief keeps organisation and common name of a distinguished name as [certchain.NameOf] writes it.
func brief(dn string) string {
	var kept []string
	for _, part := range attributes(dn) {
		if strings.HasPrefix(part, "O=") || strings.HasPrefix(part, "CN=") {
			kept = append(kept, part)
		}
	}
	if len(kept) == 0 {
		return dn
	}
	return strings.Join(kept, ", ")
}

// common is the common name alone.
func common(dn string) string {
	for _, part := range attributes(dn) {
		if strings.HasPrefix(part, "CN=") {
			return part
		}
	}
	return dn
}

// attributes splits a rendered name at the commas that no backslash escapes.
func attributes(dn string) []string {
	var out []string
	start := 0
	for i := 0; i < len(dn); i++ {
		switch {
		case dn[i] == '\\':
			i++
		case dn[i] == ',' && i+1 < len(dn) && dn[i+1] == ' ':
			out = append(out, dn[start:i])
			start = i + 2
		}
	}
	return append(out, dn[start:])
}

// list joins words as people do: a, b and c.
func list(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
