package ui

import (
	"fmt"
	"io"
	"maps"
	"slices"
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

// A cargo is what of a result goes along, and what does not.
type cargo struct {
	signatures, renewed int
	left                []copy.Object
}

func cargoOf(r copy.Result) cargo {
	c := cargo{signatures: r.Signatures}
	for _, o := range r.Objects {
		switch {
		case o.Status == copy.Superseded || o.Status == copy.Skipped:
			c.left = append(c.left, o)
			if o.What == copy.Signature {
				c.signatures--
			}
		case o.Added:
			c.renewed++
		}
	}
	return c
}

// Copy writes what copying one artifact did.
func Copy(w io.Writer, r copy.Result) {
	word, c := CopyWord(r), cargoOf(r)
	headline(w, good, word, target(r), "")
	under(w, word, r.Digest.String())
	fmt.Fprintln(w)
	field(w, 2, "from", r.Source)
	field(w, 2, "images", number(r.Images))
	signatures := number(c.signatures)
	if c.renewed > 0 {
		signatures += ", of which " + number(c.renewed) + " with a new chain"
	}
	field(w, 2, "signatures", signatures)
	field(w, 2, "SBOM, etc", number(r.Referrers))
	field(w, 2, "sent", sent(r))
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
	for i, t := range r.DigestTags {
		label := "also"
		if i > 0 {
			label = ""
		}
		field(w, 2, label, tagLine(t))
	}
	leftBehind(w, r)
	fmt.Fprintf(w, "\n%s written, %s there already", plural(r.Written, "manifest"), number(r.There))
	if n := len(c.left); n > 0 {
		fmt.Fprintf(w, ", %s left out", number(n))
	}
	fmt.Fprintln(w)
}

func sent(r copy.Result) string {
	if r.Mounted > 0 {
		return bytesOf(r.Bytes) + ", and " + bytesOf(r.Mounted) + " mounted"
	}
	return bytesOf(r.Bytes)
}

// leftOut names what was not taken along, and why.
func leftBehind(w io.Writer, r copy.Result) {
	left := cargoOf(r).left
	label := "left out"
	for i, o := range left {
		if i == maxRows {
			field(w, 2, label, "… "+number(len(left)-maxRows)+" more")
			break
		}
		field(w, 2, label, fmt.Sprintf("%s %s: %s", o.What, short(o.Descriptor.Digest), whyLeft(o)))
		label = ""
	}
}

// whyLeft says why something was not taken along.
func whyLeft(o copy.Object) string {
	if o.Status == copy.Superseded {
		return "the destination has it with a newer chain; --downgrade"
	}
	return o.Reason
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

// CopyLine writes it in one line.
func CopyLine(w io.Writer, r copy.Result) {
	c := cargoOf(r)
	parts := []string{plural(c.signatures, "signature")}
	if c.renewed > 0 {
		parts[0] += " (" + number(c.renewed) + " renewed)"
	}
	parts = append(parts, bytesOf(r.Bytes)+" sent")
	if r.Mounted > 0 {
		parts = append(parts, bytesOf(r.Mounted)+" mounted")
	}
	if n := len(c.left); n > 0 {
		parts = append(parts, number(n)+" left out")
	}
	fmt.Fprintf(w, "%s  %s  %s  %s\n", good.Render(Pad(CopyWord(r), 13)), Escape(target(r)), short(r.Digest), strings.Join(parts, ", "))
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
		headline(w, plain, "plan", plural(of, "artifact")+between(all), "")
	}

	rows, needed, send := copyRows(all)
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []column{{head: "TO COPY"}, {head: "IMAGES", right: true}, {head: "SBOM, ETC", right: true},
			{head: "SIGNATURES", right: true}, {head: "SEND", right: true}, {head: "MOUNT", right: true}}, rows)
	}
	copyTags(w, all, of == 1)
	refused(w, failed)
	copyLeft(w, all)
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

// between says where all artifacts come from and go to, as far as they have that in common.
func between(all []copy.Result) string {
	var from, to []string
	for i, r := range all {
		source, destination := segments(r.Source), segments(r.Destination)
		if i == 0 {
			from, to = source, destination
			continue
		}
		from, to = from[:shared(from, source)], to[:shared(to, destination)]
	}
	if len(from) == 0 || len(to) == 0 {
		return ""
	}
	return ", " + strings.Join(from, "/") + " to " + strings.Join(to, "/")
}

// segments splits a reference at its slashes; of its last part what is before the tag.
func segments(reference string) []string {
	parts := strings.Split(undigested(reference), "/")
	last := len(parts) - 1
	if i := strings.LastIndexByte(parts[last], ':'); i > 0 && last > 0 {
		parts[last] = parts[last][:i]
	}
	return parts
}

// shared is how many elements both begin with.
func shared(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// copyTags shows the tags that would move, of a single artifact all that would be written.
func copyTags(w io.Writer, all []copy.Result, alone bool) {
	var rows [][]string
	more := 0
	for _, r := range all {
		for _, t := range r.Tags {
			switch {
			case t.Status == copy.There || t.Was == "" && !alone:
			case len(rows) == maxRows:
				more++
			default:
				tag, what, _ := strings.Cut(tagLine(t), "  ")
				rows = append(rows, []string{tail(r.Destination, 50), tag, what})
			}
		}
	}
	if more > 0 {
		rows = append(rows, []string{"… " + number(more) + " more"})
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []column{{head: "TAGS"}, {most: 24}, {}}, rows)
	}
}

// copyLeft shows what would not be taken along, and why: of each artifact what has one reason in one row.
func copyLeft(w io.Writer, all []copy.Result) {
	var rows [][]string
	count, more := 0, 0
	for _, r := range all {
		type kind struct{ what, why string }
		of := map[kind][]copy.Object{}
		var order []kind
		for _, o := range cargoOf(r).left {
			k := kind{o.What, o.Reason}
			if o.Status == copy.Superseded {
				k.why = "newer chain there; --downgrade"
			}
			if of[k] == nil {
				order = append(order, k)
			}
			of[k] = append(of[k], o)
		}
		name := tail(abbreviated(r.Source), 42)
		for _, k := range order {
			count += len(of[k])
			if len(rows) >= maxRows {
				more += len(of[k])
				continue
			}
			what := k.what + " " + short(of[k][0].Descriptor.Digest)
			if n := len(of[k]); n > 1 {
				what = plural(n, k.what)
			}
			rows = append(rows, []string{name, what, k.why})
			name = ""
		}
	}
	if more > 0 {
		rows = append(rows, []string{"… " + number(more) + " more"})
	}
	section(w, "LEFT OUT", number(count), []column{{}, {}, {most: 30}}, rows)
}

// section is a table with one head, and at the right margin what counts it. Without rows there is none.
func section(w io.Writer, head, count string, columns []column, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	columns[0].head = head
	var b strings.Builder
	table(&b, columns, rows)
	first, rest, _ := strings.Cut(b.String(), "\n")
	gap := max(2, Columns-Width(first)-Width(count))
	fmt.Fprintf(w, "\n%s%s%s\n%s", first, strings.Repeat(" ", gap), count, rest)
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
		rest.Images, rest.Referrers, rest.Signatures = rest.Images+r.Images, rest.Referrers+r.Referrers, rest.Signatures+cargoOf(r).signatures
		rest.Bytes, rest.Mounted = rest.Bytes+r.Bytes, rest.Mounted+r.Mounted
	}
	if needed > maxRows {
		rows = append(rows, copyRow(fmt.Sprintf("… %s more", number(needed-maxRows)), rest))
	}
	return rows, needed, send
}

func copyWarnings(w io.Writer, all []copy.Result) {
	var rows [][]string
	count := 0
	for _, r := range all {
		for _, text := range r.Warnings {
			if count++; count > maxRows {
				continue
			}
			name := tail(abbreviated(r.Source), 42)
			for _, l := range fold(Escape(text), 52) {
				rows = append(rows, []string{name, l})
				name = ""
			}
		}
	}
	if count > maxRows {
		rows = append(rows, []string{"… " + number(count-maxRows) + " more"})
	}
	section(w, "WARNINGS", number(count), []column{{}, {}}, rows)
}

func copyRow(name string, r copy.Result) []string {
	mount := "-"
	if r.Mounted > 0 {
		mount = bytesOf(r.Mounted)
	}
	return []string{name, number(r.Images), number(r.Referrers), number(cargoOf(r).signatures), bytesOf(r.Bytes), mount}
}

// exits says in short what the exit codes of failures mean.
var exits = map[int]string{1: "not accepted", 3: "what was handed in is wrong", 4: "could not find out", 5: "not authorised",
	6: "the key service", 7: "partly done", 8: "the local disk"}

// refused is the table of the items that a batch would not do.
func refused(w io.Writer, failed []Failure) {
	if len(failed) == 0 {
		return
	}
	of := map[int]int{}
	width := Width("REFUSED")
	for i, f := range failed {
		of[f.Code]++
		if i < maxRows && len(f.Item) > 0 {
			width = max(width, Width(tail(abbreviated(f.Item[0]), 42)))
		}
	}
	var counts []string
	for _, code := range slices.Sorted(maps.Keys(of)) {
		count := fmt.Sprintf("%s, exit %d", number(of[code]), code)
		if meaning := exits[code]; meaning != "" {
			count += ": " + meaning
		}
		counts = append(counts, count)
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
		why := curtailed(f.detail())
		if f.Reason != "" {
			why = f.Reason + ": " + why
		}
		if len(of) > 1 {
			why = fmt.Sprintf("exit %d, %s", f.Code, why)
		}
		for _, l := range fold(Escape(why), Columns-4-width) {
			rows = append(rows, []string{name, l})
			name = ""
		}
	}
	section(w, "REFUSED", strings.Join(counts, "; "), []column{{}, {}}, rows)
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
