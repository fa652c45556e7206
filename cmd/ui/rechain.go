package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/signer"
)

// RechainWord says what became of an artifact whose signatures were to get a new chain.
func RechainWord(r signer.RechainResult) string {
	written, planned, there, later := 0, 0, 0, 0
	for _, p := range r.Plans {
		switch p.Status {
		case signer.StatusWritten, signer.StatusReplaced, signer.StatusOldLeft:
			written++
		case signer.StatusPlanned:
			planned++
		case signer.StatusThere, signer.StatusUnchanged:
			there++
		case signer.StatusLater:
			later++
		}
	}
	switch {
	case written > 0:
		return "rechained"
	case planned > 0:
		return "planned"
	case there > 0:
		return "unchanged"
	case later > 0, len(r.Plans) == 0 && r.LeftOut == 0:
		return "not begun"
	case len(r.Plans) == 0:
		return "left out"
	}
	return "skipped"
}

// Rechain writes what putting new chains on did.
func Rechain(w io.Writer, r signer.RechainResult) {
	word := RechainWord(r)
	headline(w, good, word, r.Reference, "")
	under(w, word, r.Digest.String())
	fmt.Fprintln(w)
	var rows [][]string
	written := 0
	for _, p := range r.Plans {
		switch p.Status {
		case signer.StatusWritten, signer.StatusReplaced, signer.StatusOldLeft:
			written++
		}
		rows = append(rows, []string{short(p.Signature), rechainNew(p), common(p.Identity), until(p.NowUntil), until(p.HoldsUntil), rechainStatus(p)})
	}
	table(w, []column{{head: "SIGNATURE"}, {head: "NEW"}, {head: "SIGNED BY", most: 26}, {head: "HELD UNTIL"}, {head: "HOLDS UNTIL"}, {most: 22}}, rows)
	var said notes
	for _, p := range r.Plans {
		said.of(p, true)
	}
	var text strings.Builder
	said.write(&text)
	if text.Len() > 0 {
		fmt.Fprintf(w, "\n%s", text.String())
	}
	if r.LeftOut > 0 {
		fmt.Fprintf(w, "\n%s left out: not among those meant\n", plural(r.LeftOut, "signature"))
	}
	fmt.Fprintf(w, "\n%s given a new chain; what was signed is unchanged, and no key was used\n", plural(written, "signature"))
}

// rechainNew is the digest of the new signature where it is another.
func rechainNew(p signer.Plan) string {
	if p.New == "" || p.New == p.Signature {
		return "-"
	}
	return short(p.New)
}

func until(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return day(t)
}

func rechainStatus(p signer.Plan) string {
	switch p.Status {
	case signer.StatusWritten:
		return "new, old one stays"
	case signer.StatusReplaced:
		return "replaced"
	case signer.StatusOldLeft:
		return "new, old one is left"
	case signer.StatusThere:
		return "there already"
	case signer.StatusSkipped:
		return p.Reason
	case signer.StatusLater:
		return "not begun"
	case signer.StatusPlanned:
		if p.Replace {
			return "to be replaced"
		}
		return "to be added"
	}
	return p.Status
}

// RechainLine writes it in one line.
func RechainLine(w io.Writer, r signer.RechainResult) {
	var ends time.Time
	n := 0
	for _, p := range r.Plans {
		if p.Status == signer.StatusSkipped {
			continue
		}
		n++
		if ends.IsZero() || p.HoldsUntil.Before(ends) {
			ends = p.HoldsUntil
		}
	}
	why := ""
	switch {
	case len(r.Plans) == 0 && r.LeftOut == 0:
		why = "there was room for no more (--limit)"
	case len(r.Plans) == 0:
		why = plural(r.LeftOut, "signature") + ", none of those meant"
	case n == 0 && r.Plans[0].Reason == "leaf-key-differs":
		why = "no certificate given is for the key that signed (leaf-key-differs)"
	case n == 0:
		why = r.Plans[0].Reason
	}
	if why != "" {
		fmt.Fprintf(w, "%s  %s  %s  %s\n", open.Render(Pad(RechainWord(r), 9)), Escape(undigested(r.Reference)), short(r.Digest), Escape(why))
		return
	}
	fmt.Fprintf(w, "%s  %s  %s  %s, until %s\n", good.Render(Pad(RechainWord(r), 9)), Escape(undigested(r.Reference)), short(r.Digest), plural(n, "signature"), until(ends))
}
