package ui

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strconv"
)

// A literal is HTML that this program wrote itself: a constant becomes one by itself, and anything else does not compile.
// Only [markup] joins it with what comes from outside, and escapes that for the place where it stands.
type literal string

// markup writes HTML. Its first error stays.
type markup struct {
	w   *bufio.Writer
	err error
}

func newMarkup(w io.Writer) *markup { return &markup{w: bufio.NewWriterSize(w, 1<<16)} }

// end writes out what is left, and returns the first error.
func (m *markup) end() error {
	if err := m.w.Flush(); m.err == nil {
		m.err = err
	}
	return m.err
}

func (m *markup) put(s string) {
	if m.err == nil {
		_, m.err = m.w.WriteString(s)
	}
}

// html writes constants.
func (m *markup) html(parts ...literal) {
	for _, p := range parts {
		m.put(string(p))
	}
}

// text writes text that may come from outside: what a person could not see, or would see elsewhere than it stands, is
// shown as [Escape] shows it on terminals, and what HTML reads as markup is written as references.
func (m *markup) text(parts ...string) {
	for _, p := range parts {
		m.escaped(Escape(p))
	}
}

// attr writes an attribute, in quotes, with the blank before it.
func (m *markup) attr(name literal, value string) {
	m.put(" ")
	m.put(string(name))
	m.put(`="`)
	m.escaped(Escape(value))
	m.put(`"`)
}

// number writes n with commas between thousands.
func (m *markup) number(n int) { m.put(number(n)) }

// measure writes an attribute that is a number, as of SVG.
func (m *markup) measure(name literal, n float64) {
	m.put(" ")
	m.put(string(name))
	m.put(`="`)
	m.put(strconv.FormatFloat(n, 'f', -1, 64))
	m.put(`"`)
}

// escaped writes s so that neither text nor a quoted attribute ends in it.
func (m *markup) escaped(s string) {
	from := 0
	for i := range len(s) {
		var ref string
		switch s[i] {
		case '<':
			ref = "&lt;"
		case '>':
			ref = "&gt;"
		case '&':
			ref = "&amp;"
		case '"':
			ref = "&#34;"
		case '\'':
			ref = "&#39;"
		default:
			continue
		}
		m.put(s[from:i])
		m.put(ref)
		from = i + 1
	}
	m.put(s[from:])
}

// source names the one text that a content security policy lets run or style.
func source(inline literal) literal {
	sum := sha256.Sum256([]byte(inline))
	return "'sha256-" + literal(base64.StdEncoding.EncodeToString(sum[:])) + "'"
}
