package ui

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/signer"
)

// TimestampWord says what became of an artifact whose signatures were to be countersigned.
func TimestampWord(r signer.TimestampResult) string {
	sum := sumStamps([]signer.TimestampResult{r})
	switch {
	case sum.written > 0:
		return "timestamped"
	case sum.planned > 0:
		return "planned"
	case sum.there > 0, sum.left > 0:
		return "unchanged"
	}
	return "skipped"
}

type stampSum struct{ planned, written, there, skipped, left int }

func sumStamps(all []signer.TimestampResult) (sum stampSum) {
	for _, r := range all {
		for _, p := range r.Plans {
			switch p.Status {
			case signer.StatusWritten, signer.StatusReplaced, signer.StatusOldLeft:
				sum.written++
			case signer.StatusPlanned:
				sum.planned++
			case signer.StatusThere, signer.StatusUnchanged:
				sum.there++
			case signer.StatusLeftOut:
				sum.left++
			default:
				sum.skipped++
			}
		}
	}
	return sum
}

// Timestamp writes what countersigning did.
func Timestamp(w io.Writer, r signer.TimestampResult) {
	word := TimestampWord(r)
	headline(w, good, word, r.Reference, "")
	under(w, word, r.Digest.String())
	var rows [][]string
	for _, p := range r.Plans {
		if p.Status == signer.StatusLeftOut {
			continue
		}
		rows = append(rows, []string{short(p.Signature), rechainNew(p.Plan), common(p.Identity), stampTime(p), stampUntil(p), stampStatus(p)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []column{{head: "SIGNATURE"}, {head: "NEW"}, {head: "SIGNED BY", most: 26}, {head: "TIMESTAMP"}, {head: "AUTHORITY UNTIL"}, {most: 26}}, rows)
	}
	var notes strings.Builder
	stampNotes(&notes, []signer.TimestampResult{r})
	if notes.Len() > 0 {
		fmt.Fprintf(w, "\n%s", notes.String())
	}
	sum := sumStamps([]signer.TimestampResult{r})
	fmt.Fprintf(w, "\n%s countersigned, %s unchanged%s; what was signed is as it was, and no key was used\n",
		plural(sum.written, "signature"), number(sum.there+sum.left), alsoSkipped(sum))
}

func alsoSkipped(sum stampSum) string {
	if sum.skipped == 0 {
		return ""
	}
	return fmt.Sprintf(", %s skipped", number(sum.skipped))
}

// stampOf is the countersignature that counts in the end: the new one, else the one that is there.
func stampOf(p signer.TimestampPlan) *signer.Stamped {
	if p.Stamped != nil {
		return p.Stamped
	}
	return p.Present
}

func stampTime(p signer.TimestampPlan) string {
	if s := stampOf(p); s != nil {
		return minute(s.At)
	}
	return "-"
}

func stampUntil(p signer.TimestampPlan) string {
	if s := stampOf(p); s != nil {
		return day(s.HoldsUntil)
	}
	return "-"
}

func stampStatus(p signer.TimestampPlan) string {
	switch p.Status {
	case signer.StatusUnchanged:
		return "has one"
	case signer.StatusThere:
		return "has a twin with one"
	}
	return rechainStatus(p.Plan)
}

// TimestampLine writes it in one line.
func TimestampLine(w io.Writer, r signer.TimestampResult) {
	sum := sumStamps([]signer.TimestampResult{r})
	word := TimestampWord(r)
	style, rest := good, fmt.Sprintf("%s, %s unchanged%s", plural(sum.written+sum.planned, "signature"), number(sum.there+sum.left), alsoSkipped(sum))
	if word == "skipped" {
		style, rest = open, "no countersignature"
		if len(r.Plans) > 0 {
			rest += " (" + Escape(r.Plans[0].Reason) + ")"
		}
	}
	fmt.Fprintf(w, "%s  %s  %s  %s\n", style.Render(Pad(word, 11)), Escape(undigested(r.Reference)), short(r.Digest), rest)
}

// TimestampPlan writes what countersigning would do, and what each kind of verifier would say.
func TimestampPlan(w io.Writer, all []signer.TimestampResult, failed []Failure) {
	sum := sumStamps(all)
	if len(all) == 1 && len(failed) == 0 {
		headline(w, plain, "plan", all[0].Reference, "")
		under(w, "plan", all[0].Digest.String())
	} else {
		headline(w, plain, "plan", fmt.Sprintf("%s of %s", plural(sum.planned+sum.there+sum.left+sum.skipped, "signature"), plural(len(all), "artifact")), "")
	}
	if rows := stampGroups(all); len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []column{{head: "SIGNED BY", most: 34}, {head: "SIGNATURES", right: true}, {head: "CHAIN UNTIL"}, {head: "TIMESTAMP NOW", most: 32}, {most: 24}}, rows)
	}
	stampVerdicts(w, "VERIFIERS WHO TRUST BOTH ROOTS, TODAY", all, func(p signer.TimestampPlan) []signer.Verdict { return p.Verdicts })
	stampVerdicts(w, "ONCE THE SIGNING CHAIN HAS ENDED     ", all, func(p signer.TimestampPlan) []signer.Verdict { return p.Afterwards })
	var notes strings.Builder
	if sum.planned > 0 {
		stays := "old ones stay"
		if slices.ContainsFunc(all, func(r signer.TimestampResult) bool {
			return slices.ContainsFunc(r.Plans, func(p signer.TimestampPlan) bool { return p.Replace })
		}) {
			stays = "old ones are deleted once the new ones are listed"
		}
		field(&notes, 2, "writes", fmt.Sprintf("%s; %s; no tag changes; no key is used", plural(sum.planned, "new referrer"), stays))
	}
	stampNotes(&notes, all)
	if notes.Len() > 0 {
		fmt.Fprintf(w, "\n%s", notes.String())
	}
	refused(w, failed)
	fmt.Fprintf(w, "\n%s to countersign, %s unchanged%s", number(sum.planned), number(sum.there+sum.left), alsoSkipped(sum))
	if len(failed) > 0 {
		fmt.Fprintf(w, ", %s refused", plural(len(failed), "artifact"))
	}
	fmt.Fprintln(w, ". Nothing was written.")
}

// stampGroups are signatures of one signer to which the same happens, counted.
func stampGroups(all []signer.TimestampResult) [][]string {
	type group struct {
		cells []string
		n     int
	}
	var groups []*group
	seen := map[string]*group{}
	for _, r := range all {
		for _, p := range r.Plans {
			cells := []string{common(p.Identity), "", until(p.NowUntil), stampNow(p), stampFate(p)}
			key := strings.Join(cells, "\x00")
			g := seen[key]
			if g == nil {
				g = &group{cells: cells}
				seen[key] = g
				groups = append(groups, g)
			}
			g.n++
		}
	}
	var rows [][]string
	for i, g := range groups {
		if i == maxRows {
			rows = append(rows, []string{fmt.Sprintf("… %s more", number(len(groups)-maxRows))})
			break
		}
		g.cells[1] = number(g.n)
		rows = append(rows, g.cells)
	}
	return rows
}

func stampNow(p signer.TimestampPlan) string {
	switch {
	case p.Present != nil:
		return common(p.Present.Authority) + ", until " + day(p.Present.HoldsUntil)
	case p.Useless != "":
		return "one that is of no use"
	}
	return "none"
}

func stampFate(p signer.TimestampPlan) string {
	switch {
	case p.Status == signer.StatusSkipped:
		return p.Reason
	case p.Status == signer.StatusLeftOut:
		return "not meant"
	case p.Status != signer.StatusPlanned:
		return stampStatus(p)
	case !p.Restamp:
		return "has a twin: goes"
	case p.Present != nil:
		return "to be refreshed"
	}
	return "to be added"
}

// stampVerdicts is the table of what verifiers say of the signatures as they are, as they will be, and of both side by side.
func stampVerdicts(w io.Writer, head string, all []signer.TimestampResult, of func(signer.TimestampPlan) []signer.Verdict) {
	type count struct{ old, new, both, of int }
	counts := map[envelope.Setting]*count{}
	replaced := false
	for _, r := range all {
		for _, p := range r.Plans {
			if p.Status != signer.StatusPlanned {
				continue
			}
			replaced = replaced || p.Replace
			for _, v := range of(p) {
				c := counts[v.Setting]
				if c == nil {
					c = &count{}
					counts[v.Setting] = c
				}
				c.of++
				c.old += one(v.Old)
				c.new += one(v.New)
				c.both += one(v.Both)
			}
		}
	}
	if len(counts) == 0 {
		return
	}
	both, after := "BOTH (THIS PLAN)", "WITH IT"
	if replaced {
		both, after = "BOTH", "WITH IT (THIS PLAN)"
	}
	var rows [][]string
	for _, s := range envelope.Settings() {
		if c := counts[s]; c != nil {
			rows = append(rows, []string{"with " + setting(s), passed(c.old, c.of), passed(c.new, c.of), passed(c.both, c.of)})
		}
	}
	fmt.Fprintln(w)
	table(w, []column{{head: head}, {head: "AS IT IS"}, {head: after}, {head: both}}, rows)
}

// stampNotes writes each warning, and each reason why a timestamp is of no use or none is given, once.
func stampNotes(w io.Writer, all []signer.TimestampResult) {
	var order []string
	counts := map[string]int{}
	add := func(text string) {
		if counts[text]++; counts[text] == 1 {
			order = append(order, text)
		}
	}
	for _, r := range all {
		for _, p := range r.Plans {
			if p.Useless != "" && p.Status != signer.StatusLeftOut {
				add("its timestamp is of no use: " + p.Useless)
			}
			if p.Status == signer.StatusSkipped {
				add("no countersignature: " + p.Detail)
			}
			for _, text := range p.Warnings {
				add(text)
			}
		}
	}
	label := "to note"
	for i, text := range order {
		if i == maxRows {
			field(w, 2, "", fmt.Sprintf("… %s more", number(len(order)-maxRows)))
			break
		}
		if n := counts[text]; n > 1 {
			text = fmt.Sprintf("%s (%s)", text, plural(n, "signature"))
		}
		field(w, 2, label, text)
		label = ""
	}
}

// authorityOf is the host that a countersignature was asked for at, else who made it.
func authorityOf(s signer.Stamped) string {
	if u, err := url.Parse(s.URL); err == nil && u.Host != "" {
		return u.Host
	}
	return common(s.Authority)
}

// stampField is the field "timestamp" of a signature.
func stampField(s signer.Stamped) string {
	return minute(s.At.Truncate(time.Second)) + ", " + authorityOf(s)
}
