package ui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
)

// Escape makes text from outside harmless on a terminal: control characters, what changes the direction of text, what is invisible,
// and bytes that are no UTF-8 are written as escapes.
func Escape(s string) string {
	if !strings.ContainsFunc(s, harmful) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !harmful(r):
			b.WriteRune(r)
		case r < 0x20:
			switch r {
			case '\n':
				b.WriteString(`\n`)
			case '\r':
				b.WriteString(`\r`)
			case '\t':
				b.WriteString(`\t`)
			default:
				fmt.Fprintf(&b, `\x%02x`, r)
			}
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += n
	}
	return b.String()
}

// harmful reports whether a terminal may show r as something else than itself. unicode.IsPrint refuses all of control, format
// (bidirectional marks, zero-width characters), private use and unassigned; blanks other than the plain one are refused too.
func harmful(r rune) bool {
	return r != ' ' && !unicode.IsPrint(r) || r == '\u115f' || r == '\u1160' || r == '\u3164' || r == '\uffa0' || r == '\u2800'
}

// Width is the number of columns that s takes on a terminal.
func Width(s string) int { return lipgloss.Width(s) }
