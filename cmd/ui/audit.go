package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/audit"
)

// AuditOptions say what an audit's screen ends with.
type AuditOptions struct {
	Within, FailWithin time.Duration // FailWithin 0: nothing fails
	NotSeen            bool          // what registries do not list was not seen
	HTML               bool          // a page has all of it
	Files              []string      // "12 certificates in certs/ (3 new)": what was written
	ExitCode           int
}

// How much of a report a screen shows; -o json and the page have all of it.
const (
	fewExpiries  = 3
	mostExpiries = 20
	mostFindings = 12
)

// Audit writes what an audit came to.
func Audit(w io.Writer, r audit.Report, o AuditOptions) {
	auditHead(w, r)
	auditExpiries(w, r)
	auditFindings(w, r, o)
	auditUnseen(w, r)
	if len(o.Files) > 0 {
		fmt.Fprintln(w)
	}
	for _, f := range o.Files {
		field(w, 2, "written", f)
	}
	fmt.Fprintln(w)
	auditEnd(w, r, o)
}

func auditHead(w io.Writer, r audit.Report) {
	c := r.Counts
	repositories := "1 repository"
	if c.Repositories != 1 {
		repositories = number(c.Repositories) + " repositories"
	}
	about := fmt.Sprintf("%s, %s, %s", repositories, plural(c.Tagged, "tagged artifact"), plural(c.Signatures, "signature"))
	const word = "audit"
	gap := Columns - Width(word) - 3 - Width(about) - Width(minute(r.Now))
	fmt.Fprintf(w, "%s   %s%s%s\n", plain.Render(word), about, strings.Repeat(" ", max(gap, 2)), minute(r.Now))
}

// auditExpiries writes what ends first: all that is near, and a few more.
func auditExpiries(w io.Writer, r audit.Report) {
	if len(r.Expiries) == 0 {
		return
	}
	shown := 0
	for shown < len(r.Expiries) && shown < mostExpiries && (r.Expiries[shown].Listed || r.Expiries[shown].Fails || shown < fewExpiries) {
		shown++
	}
	if shown == len(r.Expiries)-1 { // one line either way
		shown++
	}
	var rows [][]string
	for _, e := range r.Expiries[:shown] {
		rows = append(rows, []string{day(e.At) + "   " + left(e.At, r.Now), endWord(e.Kind) + " " + common(e.Subject), number(e.Signatures), mendedBy(e.Remedy)})
	}
	if rest := r.Expiries[shown:]; len(rest) > 0 {
		certificates := map[string]bool{}
		signatures := 0
		for _, e := range rest {
			certificates[e.Certificate] = true
			signatures += e.Signatures
		}
		rows = append(rows, []string{"later", plural(len(certificates), "certificate"), number(signatures), ""})
	}
	fmt.Fprintln(w)
	table(w, []column{{head: "FIRST TO EXPIRE"}, {head: "CERTIFICATE", most: 36}, {head: "SIGNATURES", right: true}, {head: "MENDED BY"}}, rows)
}

func endWord(k audit.EndKind) string {
	switch k {
	case audit.EndTSA:
		return "TSA "
	case audit.EndIntermediate:
		return "CA  "
	case audit.EndRoot:
		return "root"
	case audit.EndLeaf:
		return "leaf"
	case audit.EndExpiry:
		return "own expiry,"
	}
	return string(k)
}

// mendedBy names what mends signatures, in a few words.
func mendedBy(r audit.Remedy) string {
	switch r {
	case audit.RemedyRechain:
		return "rechain"
	case audit.RemedyReissue:
		return "rechain, new leaf"
	case audit.RemedyTimestamp:
		return "timestamp"
	case audit.RemedyBoth:
		return "rechain, timestamp"
	case audit.RemedySign:
		return "signing again"
	}
	return string(r)
}

func auditFindings(w io.Writer, r audit.Report, o AuditOptions) {
	if len(r.Findings) == 0 {
		return
	}
	claims := 0
	for _, repo := range r.Repositories {
		claims += one(repo.Claims)
	}
	var rows [][]string
	for _, g := range r.Findings {
		title := g.Title
		if g.Code == "tag-unclaimed" && len(r.Repositories) > 1 {
			title += fmt.Sprintf(" (in the %s repositories that use claims)", number(claims))
			if claims == 1 {
				title = g.Title + " (in the one repository that uses claims)"
			}
		}
		rows = append(rows, []string{Pad(title, 76), number(g.Artifacts)})
	}
	fmt.Fprintln(w)
	table(w, []column{{head: "FINDINGS", most: 80}, {head: "ARTIFACTS", right: true}}, rows)
	fmt.Fprintln(w)
	auditDetails(w, r, o)
}

// auditDetails writes the findings that weigh most.
func auditDetails(w io.Writer, r audit.Report, o AuditOptions) {
	type line struct{ name, text string }
	var lines []line
	total := 0
	width := 0
	host := r.Host()
	for _, g := range r.Findings {
		for _, a := range r.Artifacts {
			for _, f := range a.Findings {
				if f.Code != g.Code {
					continue
				}
				if total++; len(lines) < mostFindings {
					name := middle(strings.TrimPrefix(auditName(a, f), host+"/"), 44)
					lines = append(lines, line{name, f.Text})
					width = max(width, Width(name))
				}
			}
		}
	}
	for _, l := range lines {
		for i, text := range fold(Escape(l.text), Columns-width-4) {
			name := l.name
			if i > 0 {
				name = ""
			}
			if i < 3 { // a registry's words are not to drown the others
				fmt.Fprintf(w, "  %s  %s\n", Pad(name, width), text)
			}
		}
	}
	if more := total - len(lines); more > 0 {
		fmt.Fprintf(w, "  … %s more: -o json%s\n", number(more), map[bool]string{true: ", and the page", false: ", or --html FILE"}[o.HTML])
	}
}

// auditName names the artifact of a finding, by the tag that it is about if it is about one.
func auditName(a audit.Artifact, f audit.Finding) string {
	if f.Tag != "" {
		return a.Repository + ":" + f.Tag
	}
	return a.Name()
}

func auditUnseen(w io.Writer, r audit.Report) {
	if len(r.Unseen) == 0 {
		return
	}
	var rows [][]string
	for _, u := range r.Unseen[:min(len(r.Unseen), mostFindings)] {
		rows = append(rows, []string{fit(abbreviated(u.Item), 60), u.Reason})
	}
	if more := len(r.Unseen) - len(rows); more > 0 {
		rows = append(rows, []string{"… " + number(more) + " more", ""})
	}
	fmt.Fprintln(w)
	table(w, []column{{head: "NOT READ", most: 60}, {head: "WHY", most: 32}}, rows)
}

// auditEnd writes the line that counts.
func auditEnd(w io.Writer, r audit.Report, o AuditOptions) {
	c := r.Counts
	window, n := o.Within, c.Expiring
	if o.FailWithin > 0 {
		window, n = o.FailWithin, c.Failing
	}
	verb, which := "expires", "1 signature"
	if n != 1 {
		verb, which = "expire", number(n)+" signatures"
	}
	if n == 0 {
		verb, which = "expires", "no signature"
	}
	line := fmt.Sprintf("%s %s within %s", which, verb, exactly(window))
	if c.Ended > 0 {
		line += fmt.Sprintf(" (%s ended already)", map[bool]string{true: "all", false: number(c.Ended)}[c.Ended == n])
	}
	if o.FailWithin > 0 && c.Failing > 0 {
		line += fmt.Sprintf(": exit %d", o.ExitCode)
	}
	parts := []string{line}
	switch {
	case c.Unseen == 1:
		parts = append(parts, "1 thing could not be read")
	case c.Unseen > 1:
		parts = append(parts, number(c.Unseen)+" things could not be read")
	}
	if c.Unseen > 0 && o.ExitCode != 0 && !(o.FailWithin > 0 && c.Failing > 0) {
		parts[1] += fmt.Sprintf(": exit %d", o.ExitCode)
	}
	if o.NotSeen {
		parts = append(parts, "Digests that nothing leads to were not seen")
	}
	for _, l := range fold(strings.Join(parts, ". ")+".", Columns) {
		fmt.Fprintln(w, l)
	}
}

// exactly writes a length of time as it was asked for, in its largest whole unit.
func exactly(d time.Duration) string {
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if d >= u.length && d%u.length == 0 {
			return plural(int(d/u.length), u.name)
		}
	}
	return plural(int(d/time.Second), "second")
}

// AuditCertificates says what was written of certificates, and which of them a CA re-issues. written are those that were not there.
func AuditCertificates(dir string, total, written, leaves, ending int, within time.Duration) string {
	text := fmt.Sprintf("%s in %s", plural(total, "certificate"), dir)
	if written < total {
		text += fmt.Sprintf(", %s of them new", number(written))
	}
	switch leaves {
	case 0:
		return text
	case 1:
		text += "; the leaf that a CA re-issues is *.leaf.pem"
		if ending == 1 {
			text += ", and ends within " + exactly(within)
		}
		return text
	default:
		text += fmt.Sprintf("; the %s leaves that a CA re-issues are *.leaf.pem", number(leaves))
	}
	if ending == 0 {
		return text
	}
	return text + fmt.Sprintf("; %s of them %s within %s", number(ending), map[bool]string{true: "ends", false: "end"}[ending == 1], exactly(within))
}
