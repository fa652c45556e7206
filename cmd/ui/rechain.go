package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/signer"
)

// RechainWord says what became of an artifact whose signatures were to get a new chain.
func RechainWord(r signer.RechainResult) string {
	written, planned, there := 0, 0, 0
	for _, p := range r.Plans {
		switch p.Status {
		case signer.StatusWritten, signer.StatusReplaced, signer.StatusOldLeft:
			written++
		case signer.StatusPlanned:
			planned++
		case signer.StatusThere, signer.StatusUnchanged:
			there++
		}
	}
	switch {
	case written > 0:
		return "rechained"
	case planned > 0:
		return "planned"
	case there > 0:
		return "unchanged"
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
	var notes strings.Builder
	rechainNotes(&notes, []signer.RechainResult{r})
	if notes.Len() > 0 {
		fmt.Fprintf(w, "\n%s", notes.String())
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
	if n == 0 && len(r.Plans) > 0 {
		fmt.Fprintf(w, "%s  %s  %s  %s (%s)\n", open.Render(Pad(RechainWord(r), 9)), Escape(undigested(r.Reference)), short(r.Digest),
			"no certificate given is for the key that signed", Escape(r.Plans[0].Reason))
		return
	}
	fmt.Fprintf(w, "%s  %s  %s  %s, until %s\n", good.Render(Pad(RechainWord(r), 9)), Escape(undigested(r.Reference)), short(r.Digest), plural(n, "signature"), until(ends))
}

// A chainGroup is all signatures that get the same new chain.
type chainGroup struct {
	name, identity string
	then, now      time.Time
	n              int
	skipped        bool
}

// A rechainSum counts what plans come to.
type rechainSum struct {
	planned, there, skipped int
	size                    int64 // of the new envelopes
	groups                  []*chainGroup
}

func sumPlans(all []signer.RechainResult) rechainSum {
	var sum rechainSum
	groups := map[string]*chainGroup{}
	for _, r := range all {
		for _, p := range r.Plans {
			switch p.Status {
			case signer.StatusSkipped:
				sum.skipped++
			case signer.StatusUnchanged, signer.StatusThere:
				sum.there++
			default:
				sum.planned++
				if e := p.Envelope(); e != nil {
					sum.size += int64(len(e.Bytes()))
				}
			}
			key := groupOf(p)
			g := groups[key]
			if g == nil {
				g = &chainGroup{
					name: groupName(p), identity: groupIdentity(p),
					then: p.HoldsUntil, now: p.NowUntil, skipped: p.Status == signer.StatusSkipped,
				}
				groups[key] = g
				sum.groups = append(sum.groups, g)
			}
			g.n++
			if p.NowUntil.Before(g.now) {
				g.now = p.NowUntil
			}
		}
	}
	return sum
}

// RechainPlan writes what putting new chains on would do, and what each kind of verifier would say.
func RechainPlan(w io.Writer, all []signer.RechainResult, failed []Failure) {
	sum := sumPlans(all)
	if len(all) == 1 && len(failed) == 0 {
		headline(w, plain, "plan", all[0].Reference, "")
		under(w, "plan", all[0].Digest.String())
	} else {
		headline(w, plain, "plan", fmt.Sprintf("%s of %s", plural(sum.planned+sum.there+sum.skipped, "signature"), plural(len(all), "artifact")), "")
	}
	if len(sum.groups) > 0 {
		fmt.Fprintln(w)
		var rows [][]string
		for _, g := range sum.groups {
			then := until(g.then)
			if g.skipped {
				then = "-"
			}
			rows = append(rows, []string{g.name, number(g.n), then, until(g.now), g.identity})
		}
		table(w, []column{{head: "NEW CHAIN", most: 46}, {head: "SIGNATURES", right: true}, {head: "HOLD UNTIL"}, {head: "NOW UNTIL"},
			{most: 18}}, rows)
	}
	verdicts(w, all)
	var notes strings.Builder
	if sum.planned > 0 {
		stays := "old ones stay"
		if replaces(all) {
			stays = "old ones are deleted once the new ones are listed"
		}
		field(&notes, 2, "writes", fmt.Sprintf("%s with envelopes of %s; %s; no tag changes; no key is used",
			plural(sum.planned, "new referrer"), bytesOf(sum.size), stays))
	}
	rechainNotes(&notes, all)
	if notes.Len() > 0 {
		fmt.Fprintf(w, "\n%s", notes.String())
	}
	refused(w, failed)
	fmt.Fprintf(w, "\n%s to write, %s unchanged", number(sum.planned), number(sum.there))
	if sum.skipped > 0 {
		fmt.Fprintf(w, ", %s skipped", number(sum.skipped))
	}
	if len(failed) > 0 {
		fmt.Fprintf(w, ", %s refused", plural(len(failed), "artifact"))
	}
	fmt.Fprintln(w, ". Nothing was written.")
}

func groupOf(p signer.Plan) string {
	if p.Status == signer.StatusSkipped {
		return "skipped " + p.Reason + p.Identity
	}
	key := p.Status
	for _, c := range p.Chain {
		key += " " + c.Thumbprint
	}
	return key
}

func groupName(p signer.Plan) string {
	switch {
	case p.Status == signer.StatusSkipped && p.Reason == "leaf-key-differs":
		return "none of the given fits"
	case p.Status == signer.StatusSkipped:
		return "none: " + p.Reason
	}
	name := ""
	for i, c := range p.Chain {
		switch {
		case i == 0:
			name = common(c.Subject)
		case i < len(p.Chain)-1:
			name += ", " + common(c.Subject)
		}
	}
	return name
}

func groupIdentity(p signer.Plan) string {
	switch {
	case p.Status == signer.StatusSkipped:
		return common(p.Identity)
	case p.Status == signer.StatusUnchanged:
		return "as it is"
	case p.Status == signer.StatusThere:
		return "there already"
	case p.Changed:
		return "identity changes"
	}
	return "identity stays"
}

func replaces(all []signer.RechainResult) bool {
	for _, r := range all {
		for _, p := range r.Plans {
			if p.Replace {
				return true
			}
		}
	}
	return false
}

// verdicts are the tables of what verifiers who trust the root say of old chain, new chain, and both side by side:
// today, and once the old chain has ended, which is what it is all for.
func verdicts(w io.Writer, all []signer.RechainResult) {
	verdictsAt(w, "VERIFIERS WHO TRUST THE ROOT, TODAY", all, func(p signer.Plan) []signer.Verdict { return p.Verdicts })
	verdictsAt(w, "ONCE THE OLD CHAIN HAS ENDED       ", all, func(p signer.Plan) []signer.Verdict { return p.Afterwards })
}

func verdictsAt(w io.Writer, head string, all []signer.RechainResult, of func(signer.Plan) []signer.Verdict) {
	type count struct{ old, new, both, of int }
	counts := map[envelope.Setting]*count{}
	for _, r := range all {
		for _, p := range r.Plans {
			if p.Status == signer.StatusSkipped || p.Status == signer.StatusUnchanged {
				continue
			}
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
	both := "BOTH (THIS PLAN)"
	after := "NEW CHAIN"
	if replaces(all) {
		both, after = "BOTH", "NEW (THIS PLAN)"
	}
	var rows [][]string
	for _, s := range envelope.Settings() {
		if c := counts[s]; c != nil {
			rows = append(rows, []string{"with " + setting(s), passed(c.old, c.of), passed(c.new, c.of), passed(c.both, c.of)})
		}
	}
	fmt.Fprintln(w)
	table(w, []column{{head: head}, {head: "OLD CHAIN"}, {head: after}, {head: both}}, rows)
}

func passed(n, of int) string {
	switch n {
	case of:
		return "pass"
	case 0:
		return "fail"
	}
	return fmt.Sprintf("%s of %s pass", number(n), number(of))
}

// rechainNotes writes each warning once.
func rechainNotes(w io.Writer, all []signer.RechainResult) {
	type note struct {
		text string
		n    int
	}
	var notes []*note
	seen := map[string]*note{}
	add := func(text string) {
		if n := seen[text]; n != nil {
			n.n++
			return
		}
		n := &note{text, 1}
		seen[text] = n
		notes = append(notes, n)
	}
	for _, r := range all {
		for _, p := range r.Plans {
			if p.Changed {
				add(fmt.Sprintf("the identity changes from %s to %s", p.Identity, p.NewLeaf))
			}
			for _, text := range p.Warnings {
				add(text)
			}
		}
	}
	label := "to note"
	for i, n := range notes {
		if i == maxRows {
			field(w, 2, "", fmt.Sprintf("… %s more", number(len(notes)-maxRows)))
			break
		}
		text := n.text
		if n.n > 1 {
			text = fmt.Sprintf("%s (%s)", text, plural(n.n, "signature"))
		}
		field(w, 2, label, text)
		label = ""
	}
}
