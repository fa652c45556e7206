package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/imprint-oci/imprint/copy"
)

// CopyWord says what became of an artifact that was to be copied.
func CopyWord(r copy.Result) string {
	switch {
	case r.DryRun && copyNeeded(r):
		return "to copy"
	case copyNeeded(r):
		return "copied"
	}
	return "there already"
}

// copyNeeded reports whether anything was or would be written.
func copyNeeded(r copy.Result) bool {
	if r.Written > 0 {
		return true
	}
	for _, t := range r.Tags {
		if t.Status != copy.There {
			return true
		}
	}
	for _, o := range r.Objects {
		if o.Status == copy.Planned {
			return true
		}
	}
	return false
}

// target names the destination with its first tag.
func target(r copy.Result) string {
	if len(r.Tags) == 0 || strings.HasSuffix(r.Destination, ":"+r.Tags[0].Tag) {
		return r.Destination
	}
	return r.Destination + ":" + r.Tags[0].Tag
}

// Copy writes what copying one artifact did.
func Copy(w io.Writer, r copy.Result) {
	word := CopyWord(r)
	headline(w, good, word, target(r), "")
	under(w, word, r.Digest.String())
	fmt.Fprintln(w)
	field(w, 2, "from", r.Source)
	field(w, 2, "images", fmt.Sprint(r.Images))
	field(w, 2, "signatures", fmt.Sprint(r.Signatures))
	field(w, 2, "SBOM, etc", fmt.Sprint(r.Referrers))
	sent := bytesOf(r.Bytes)
	if r.Mounted > 0 {
		sent += ", and " + bytesOf(r.Mounted) + " mounted"
	}
	field(w, 2, "sent", sent)
	for i, t := range r.Tags {
		label := "tags"
		if i > 0 {
			label = ""
		}
		field(w, 2, label, tagLine(t))
	}
	if len(r.Tags) == 0 {
		field(w, 2, "tags", "none: the source was named by its digest alone")
	}
	leftBehind(w, r)
	fmt.Fprintf(w, "\n%s written, %s there already\n", plural(r.Written, "manifest"), number(r.There))
}

func tagLine(t copy.TagResult) string {
	switch t.Status {
	case copy.There:
		return t.Tag + "  there already"
	case copy.Moved:
		return t.Tag + "  moved from " + short(t.Was)
	case copy.Planned:
		if t.Was != "" {
			return t.Tag + "  to move from " + short(t.Was)
		}
		return t.Tag + "  to be written"
	}
	return t.Tag + "  " + t.Status
}

// leftBehind names what was not taken along, and why.
func leftBehind(w io.Writer, r copy.Result) {
	label := "left out"
	for _, o := range r.Objects {
		if o.Status == copy.Superseded || o.Status == copy.Skipped {
			why := o.Reason
			if o.Status == copy.Superseded {
				why = "the destination has it with a newer chain"
			}
			field(w, 2, label, fmt.Sprintf("%s %s: %s", o.What, short(o.Descriptor.Digest), why))
			label = ""
		}
	}
}

// CopyLine writes it in one line.
func CopyLine(w io.Writer, r copy.Result) {
	fmt.Fprintf(w, "%s  %s  %s  %s, %s sent\n", good.Render(Pad(CopyWord(r), 13)), Escape(target(r)), short(r.Digest),
		plural(r.Signatures, "signature"), bytesOf(r.Bytes))
}

// maxRows is how many rows a plan shows before it counts the rest together.
const maxRows = 40

// CopyPlan writes what copying would do.
func CopyPlan(w io.Writer, all []copy.Result, failed []Failure) {
	of := len(all) + len(failed)
	if of == 1 && len(all) == 1 {
		headline(w, plain, "plan", all[0].Source, "")
		under(w, "plan", "to "+target(all[0]))
		under(w, "plan", all[0].Digest.String())
	} else {
		headline(w, plain, "plan", plural(of, "artifact"), "")
	}

	rows, needed, send := copyRows(all)
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []column{{head: "TO COPY"}, {head: "IMAGES", right: true}, {head: "SBOM, ETC", right: true},
			{head: "SIGNATURES", right: true}, {head: "SEND", right: true}, {head: "MOUNT", right: true}}, rows)
	}
	var tags [][]string
	for _, r := range all {
		for _, t := range r.Tags {
			if t.Status != copy.There && (of == 1 || t.Was != "") && len(tags) < maxRows {
				tag, what, _ := strings.Cut(tagLine(t), "  ")
				tags = append(tags, []string{tail(r.Destination, 50), tag, what})
			}
		}
	}
	if len(tags) > 0 {
		fmt.Fprintln(w)
		table(w, []column{{head: "TAGS"}, {most: 24}, {}}, tags)
	}
	refused(w, failed)
	copyWarnings(w, all)
	fmt.Fprintf(w, "\n%s to copy (%s to send), %s there already", number(needed), bytesOf(send), number(len(all)-needed))
	if len(failed) > 0 {
		fmt.Fprintf(w, ", %s refused", number(len(failed)))
	}
	fmt.Fprintln(w, ". Nothing was written.")
	if needed > 0 {
		fmt.Fprintln(w, "Run this plan: the same command without --dry-run")
	}
}

// copyRows has a row for each artifact that is to be copied, those beyond maxRows in one; needed is how many there
// are, and send how many bytes.
func copyRows(all []copy.Result) (rows [][]string, needed int, send int64) {
	var rest copy.Result
	for _, r := range all {
		if !copyNeeded(r) {
			continue
		}
		needed++
		send += r.Bytes
		if needed <= maxRows {
			rows = append(rows, copyRow(tail(target(r), 42), r))
			continue
		}
		rest.Images, rest.Referrers, rest.Signatures = rest.Images+r.Images, rest.Referrers+r.Referrers, rest.Signatures+r.Signatures
		rest.Bytes, rest.Mounted = rest.Bytes+r.Bytes, rest.Mounted+r.Mounted
	}
	if needed > maxRows {
		rows = append(rows, copyRow(fmt.Sprintf("… %s more", number(needed-maxRows)), rest))
	}
	return rows, needed, send
}

func copyWarnings(w io.Writer, all []copy.Result) {
	var rows [][]string
	for _, r := range all {
		for _, text := range r.Warnings {
			for i, l := range fold(Escape(text), 52) {
				name := ""
				if i == 0 {
					name = tail(abbreviated(r.Source), 42)
				}
				rows = append(rows, []string{name, l})
			}
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []column{{head: "WARNINGS"}, {}}, rows)
	}
}

func copyRow(name string, r copy.Result) []string {
	mount := "-"
	if r.Mounted > 0 {
		mount = bytesOf(r.Mounted)
	}
	return []string{name, number(r.Images), number(r.Referrers), number(r.Signatures), bytesOf(r.Bytes), mount}
}

// refused is the table of the items that a batch would not do.
func refused(w io.Writer, failed []Failure) {
	if len(failed) == 0 {
		return
	}
	width := Width("REFUSED")
	for _, f := range failed[:min(len(failed), maxRows)] {
		if len(f.Item) > 0 {
			width = max(width, Width(tail(abbreviated(f.Item[0]), 42)))
		}
	}
	var rows [][]string
	for i, f := range failed {
		if i == maxRows {
			rows = append(rows, []string{fmt.Sprintf("… %s more", number(len(failed)-maxRows)), ""})
			break
		}
		name := ""
		if len(f.Item) > 0 {
			name = tail(abbreviated(f.Item[0]), 42)
		}
		why := fmt.Sprintf("exit %d: %s", f.Code, f.detail())
		if f.Reason != "" {
			why = f.Reason + ", " + why
		}
		for _, l := range fold(Escape(why), Columns-4-width) {
			rows = append(rows, []string{name, l})
			name = ""
		}
	}
	fmt.Fprintln(w)
	table(w, []column{{head: "REFUSED"}, {}}, rows)
}

// tail escapes s and keeps its end, which tells references apart.
func tail(s string, width int) string {
	s = Escape(s)
	if Width(s) <= width {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && Width(string(runes)) > width-1 {
		runes = runes[1:]
	}
	return "…" + string(runes)
}
