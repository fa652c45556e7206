package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/audit"
)

// A pageStep is a command that mends signatures.
type pageStep struct {
	remedy     audit.Remedy // "": prune
	signatures int
	first      time.Time // when the first of them ends
	until      time.Time // what --expiring has to reach
	items      []string  // repositories; of signing again, artifacts
}

// steps writes what to do: of each remedy the command, the most urgent first.
func (p *page) steps() {
	steps := p.planned()
	if len(steps) == 0 {
		return
	}
	p.html("<h3>What to do")
	if c := p.r.Counts; c.Expiring == 0 && c.Failing == 0 && steps[0].first.After(p.r.Now) {
		p.text(" before ", day(steps[0].first))
	}
	p.html("</h3>\n<p class=\"hint\">Each command shows its plan and writes nothing yet. URL, KEY and the files are yours to name.</p>\n<ol class=\"steps\">")
	for _, s := range steps {
		title, why := s.words(p.r.Now)
		p.html(`<li><p><strong>`)
		p.text(title)
		p.html(`</strong> `)
		p.text(why)
		long := literal("")
		if len(s.items) > 2*inCommand {
			long = ` class="long"`
		}
		p.html(`</p><div class="command"><pre`, long, ` tabindex="0" role="region"`)
		p.attr("aria-label", "Command: "+title)
		p.html(`><code>`)
		for i, l := range strings.Split(s.command(p.r.Now), "\n") {
			if i > 0 {
				p.html("\n")
			}
			p.text(l)
		}
		p.html(`</code></pre><button type="button" class="copy" hidden>Copy</button></div></li>`)
	}
	p.html("</ol>\n")
}

// planned gathers the signatures that have ended or end soon by what mends them; where there is none, those that end first.
func (p *page) planned() []pageStep {
	r := p.r
	var groups []audit.Expiry
	for _, e := range r.Expiries {
		if e.Ended || e.Listed || e.Fails {
			groups = append(groups, e)
		}
	}
	if len(groups) == 0 && len(r.Expiries) > 0 {
		groups = r.Expiries[:1]
	}
	until := r.ListBefore
	var steps []pageStep
	for _, e := range groups {
		if e.At.After(until) {
			until = e.At.Add(24 * time.Hour)
		}
		i := slices.IndexFunc(steps, func(s pageStep) bool { return s.remedy == e.Remedy })
		if i < 0 {
			i = len(steps)
			steps = append(steps, pageStep{remedy: e.Remedy, first: e.At})
		}
		steps[i].signatures += e.Signatures
	}
	superseded := pageStep{}
	for _, row := range p.rows {
		if row.State == audit.StateSuperseded {
			superseded.signatures++
			superseded.add(row.artifact.Repository)
		}
		if row.State != audit.StateCurrent || row.Ends == nil || !row.Ends.Before(until) {
			continue
		}
		for i := range steps {
			if steps[i].remedy != row.Remedy {
				continue
			}
			if row.Remedy == audit.RemedySign {
				steps[i].add(reference(row.artifact))
			} else {
				steps[i].add(row.artifact.Repository)
			}
		}
	}
	if superseded.signatures > 0 {
		steps = append(steps, superseded)
	}
	for i := range steps {
		slices.Sort(steps[i].items)
		steps[i].items = slices.Compact(steps[i].items)
		steps[i].until = until
	}
	return steps
}

// add notes an item; rows of one repository follow one another mostly.
func (s *pageStep) add(item string) {
	if n := len(s.items); n == 0 || s.items[n-1] != item {
		s.items = append(s.items, item)
	}
}

// reference names an artifact so that signing it claims its tag.
func reference(a *audit.Artifact) string {
	if len(a.Tags) == 0 {
		return a.Reference
	}
	return a.Repository + ":" + a.Tags[0] + "@" + a.Digest.String()
}

func (s pageStep) words(now time.Time) (title, why string) {
	n := plural(s.signatures, "signature")
	if s.remedy == "" {
		return "Prune " + n + ".", "The same signature with a longer lasting chain is beside each. This shows the plan; --yes deletes."
	}
	when := fmt.Sprintf("The first ends on %s, in %s.", day(s.first), left(s.first, now))
	if !s.first.After(now) {
		when = fmt.Sprintf("The first ended on %s.", day(s.first))
	}
	switch s.remedy {
	case audit.RemedyRechain:
		return "Rechain " + n + ".", when + " Put the CA's renewed certificate into new/. No key is used."
	case audit.RemedyReissue:
		return "Have the leaf re-issued for the same key, then rechain " + n + ".",
			when + " Put the new certificates into new/; imprint audit --certificates DIR writes the present ones for the CA. No key is used."
	case audit.RemedyTimestamp:
		return "Timestamp " + n + ".", when + " Give the URL of an authority whose certificate lasts longer. No key is used."
	case audit.RemedyBoth:
		return "Rechain and timestamp " + n + ".", when + " Their chain has to be renewed together with their timestamp. No key is used."
	}
	return "Sign " + n + " again.", when + " Nothing else moves their end: the key is needed."
}

// inCommand is how many items stand in a command itself; more are given to it line by line.
const inCommand = 3

// command is what to paste into a shell. It only plans: --dry-run is for people to take away.
func (s pageStep) command(now time.Time) string {
	expiring := fmt.Sprintf(" --all --expiring %dd", int(s.until.Sub(now)/(24*time.Hour))+1)
	words := ""
	switch s.remedy {
	case "":
		words = "imprint prune --all"
	case audit.RemedyRechain, audit.RemedyReissue:
		words = "imprint rechain" + expiring + " \\\n  --chain new/ --dry-run"
	case audit.RemedyTimestamp:
		words = "imprint timestamp" + expiring + " \\\n  --timestamp-url URL --timestamp-roots tsa-roots.pem --dry-run"
	case audit.RemedyBoth:
		words = "imprint rechain" + expiring + " \\\n  --chain new/ --timestamp-url URL \\\n  --timestamp-roots tsa-roots.pem --dry-run"
	default:
		words = "imprint sign --again --key KEY \\\n  --chain chain.pem --dry-run"
	}
	if len(s.items) <= inCommand {
		for _, i := range s.items {
			words += " \\\n  " + shellWord(i)
		}
		return words
	}
	end, lines := "END", ""
	for _, i := range s.items {
		i = Escape(i)
		if len(i) >= len(end) && strings.Trim(i, "END") == "" { // no item ends the list
			end = i + "END"
		}
		lines += i + "\n"
	}
	return words + " \\\n  --batch - <<'" + end + "'\n" + lines + end
}

// shellWord writes an argument so that a shell takes it as one word, whatever is in it.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._/:@%+-,", r)
	}
	s = Escape(s) // one that needs it is no reference that exists, and must not be more than one line
	if s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
