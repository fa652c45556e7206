package ui

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/audit"
)

// A pageRow is a signature with its artifact.
type pageRow struct {
	audit.Listed
	artifact *audit.Artifact
	index    *audit.Artifact // that it is a member of, if it was seen
	standing standing
}

// A standing is what a person wants to know of a signature first, the most urgent first.
type standing int

const (
	standingEnded standing = iota
	standingFailing
	standingExpiring
	standingBad
	standingHolds
	standingReplaced
	standingSuperseded
	standingDuplicate
)

// standings are the words for them, which are classes of the page too.
var standings = [...]literal{"ended", "failing", "expiring", "bad", "holds", "replaced", "superseded", "duplicate"}

func (s standing) word() literal { return standings[s] }

func standingOf(s audit.Listed, r audit.Report) standing {
	switch s.State {
	case audit.StateBad:
		return standingBad
	case audit.StateSuperseded:
		return standingSuperseded
	case audit.StateReplaced:
		return standingReplaced
	case audit.StateDuplicate:
		return standingDuplicate
	}
	switch {
	case s.Ends == nil:
		return standingHolds
	case !s.Ends.After(r.Now):
		return standingEnded
	case r.FailBefore != nil && s.Ends.Before(*r.FailBefore):
		return standingFailing
	case s.Ends.Before(r.ListBefore):
		return standingExpiring
	}
	return standingHolds
}

// rowsOf returns all signatures, the most urgent first, else as they stand in the report.
func rowsOf(r audit.Report) []pageRow {
	type place struct {
		repository string
		digest     digest.Digest
	}
	at := map[place]*audit.Artifact{}
	for i := range r.Artifacts {
		a := &r.Artifacts[i]
		at[place{a.Repository, a.Digest}] = a
	}
	var rows []pageRow
	for i := range r.Artifacts {
		a := &r.Artifacts[i]
		for _, s := range a.Signatures {
			rows = append(rows, pageRow{s, a, at[place{a.Repository, a.Index}], standingOf(s, r)})
		}
	}
	slices.SortStableFunc(rows, func(a, b pageRow) int {
		return cmp.Or(cmp.Compare(a.standing, b.standing), compareEnds(a.Ends, b.Ends))
	})
	return rows
}

// compareEnds puts what has no end last.
func compareEnds(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Compare(*b)
}

// tagsOf says what people call an artifact: its tags, or what it is of the one that has some.
func tagsOf(a, index *audit.Artifact) string {
	if len(a.Tags) > 0 {
		return strings.Join(a.Tags, ", ")
	}
	what := cmp.Or(a.Platform, a.What, a.Role)
	if index != nil && len(index.Tags) > 0 {
		what += " of " + strings.Join(index.Tags, ", ")
	}
	return what
}

// pageChunk is how many rows a browser lays out at once, when they come into view.
const pageChunk = 50

// bodies writes n rows in table bodies of one chunk each.
func (p *page) bodies(n int, row func(i int)) {
	for i := range n {
		if i%pageChunk == 0 {
			if n-i >= pageChunk {
				p.html("<tbody class=full>")
			} else {
				p.html("<tbody>")
			}
		}
		row(i)
	}
	if n == 0 {
		p.html("<tbody>")
	}
	p.html("</table>\n")
}

// cell writes a cell of text; an empty one has a dash.
func (p *page) cell(s string) {
	p.html("<td>")
	p.text(cmp.Or(s, "–"))
}

func (p *page) count(n int) {
	p.html("<td class=n>")
	p.number(n)
}

// digest writes the hexadecimal digits of a digest; the style shows the first twelve.
func (p *page) digest(d digest.Digest) {
	p.html("<td>")
	if d == "" {
		p.html("–")
		return
	}
	p.html("<code>")
	p.text(strings.TrimPrefix(d.String(), "sha256:"))
	p.html("</code>")
}

// date writes when something ends, and whether it is what ends the signature.
func (p *page) date(t *time.Time, first bool) {
	switch {
	case t == nil:
		p.html("<td>–")
	case first:
		p.html("<td><b>")
		p.text(day(*t))
		p.html("</b>")
	default:
		p.html("<td>")
		p.text(day(*t))
	}
}

func (p *page) remark(s string) {
	p.html(" <small>")
	p.text(s)
	p.html("</small>")
}

// A pageColumn is one of the table of signatures.
type pageColumn struct{ title, class literal }

var pageColumns = []pageColumn{
	{"State", ""}, {"Repository", ""}, {"Tag", ""}, {"Artifact", ""}, {"Signature", ""}, {"Signed by", ""}, {"Algorithm", ""},
	{"Chain ends", ""}, {"TSA ends", ""}, {"Expires", ""}, {"Mended by", ""},
}

func (p *page) signatures() {
	p.html(`<section id="signatures" aria-labelledby="signatures-h" tabindex="-1"><h2 id="signatures-h">Signatures</h2>
`)
	if len(p.rows) == 0 {
		p.html("<p>None was found.</p></section>\n")
		return
	}
	p.legend()
	p.controls()
	p.html(`<table class="rows sig" id="rows"><caption>Signatures by state, then by what ends first</caption>
<thead><tr>`)
	for i, c := range pageColumns {
		if i == 0 {
			p.html(`<th scope="col" aria-sort="ascending">`)
		} else {
			p.html(`<th scope="col">`)
		}
		p.html(c.title, `</th>`)
	}
	p.html("</tr></thead>\n")
	p.bodies(len(p.rows), func(i int) { p.signature(p.rows[i]) })
	p.html("</section>\n")
}

func (p *page) signature(r pageRow) {
	p.html("<tr class=", r.standing.word(), "><td><b>", r.standing.word(), "</b>")
	switch {
	case r.Reason != "":
		p.remark(r.Reason)
	case r.By != "":
		p.remark("by " + short(r.By))
	}
	p.cell(p.repository(r.artifact.Repository))
	p.cell(tagsOf(r.artifact, r.index))
	p.digest(r.artifact.Digest)
	p.digest(r.Digest)
	p.cell(p.signer(r.Identity))
	p.cell(r.Algorithm)
	p.date(r.ChainUntil, r.EndKind == audit.EndLeaf || r.EndKind == audit.EndIntermediate || r.EndKind == audit.EndRoot)
	p.stamp(r)
	p.date(r.Expiry, r.EndKind == audit.EndExpiry)
	p.html("<td>")
	if r.State == audit.StateCurrent {
		p.html(remedyWord(r.Remedy))
	} else {
		p.html("–")
	}
	p.html("\n")
}

func (p *page) signer(dn string) string {
	if dn == "" {
		return ""
	}
	return p.names.short(dn)
}

func (p *page) stamp(r pageRow) {
	t := r.Timestamp
	if t == nil {
		p.date(nil, false)
		return
	}
	if t.Until == nil {
		p.cell("unknown")
	} else {
		p.date(t.Until, r.EndKind == audit.EndTSA)
	}
	if t.Trusted != nil && !*t.Trusted {
		p.remark("not trusted")
	}
	if !t.Inside {
		p.remark("outside the chain")
	}
}

// legend says what the states mean of which there is a signature.
func (p *page) legend() {
	count := map[standing]int{}
	for _, r := range p.rows {
		count[r.standing]++
	}
	p.html("<dl class=\"legend\">")
	for i, word := range standings {
		s := standing(i)
		if count[s] == 0 {
			continue
		}
		p.html(`<div class="`, word, `"><dt><b>`, word, `</b> `)
		p.number(count[s])
		p.html("</dt><dd>")
		switch s {
		case standingEnded:
			p.html("ended already")
		case standingFailing:
			p.text("ends before " + day(*p.r.FailBefore) + ", and fails this audit")
		case standingExpiring:
			p.text("ends before " + day(p.r.ListBefore))
		case standingBad:
			p.html("missing, unreadable, or does not verify: the reason is beside")
		case standingHolds:
			p.text("nothing ends it before " + day(p.r.ListBefore))
		case standingReplaced:
			p.html("a longer lasting one of the same signer stands in for it")
		case standingSuperseded:
			p.html("the same signature has a longer lasting chain: prune deletes this one")
		case standingDuplicate:
			p.html("the same signature is there as another manifest")
		}
		p.html("</dd></div>")
	}
	p.html(`</dl>
<p class="hint">Digests are sha256: the first 12 digits show, a double click selects all of them. Bold dates end a signature first. Nothing here says that a signature is trusted: that is for imprint verify.</p>
`)
}

// controls are shown by the script that they need; what works without it is shown always.
func (p *page) controls() {
	p.html(`<form class="controls" role="search" aria-label="Signatures" id="controls" hidden>
<div class="wide"><label for="q">Search</label><input id="q" type="search" autocomplete="off" spellcheck="false" placeholder="repository, tag, digest, signer, …"></div>
<div><label for="state">State</label><select id="state"><option value="">all</option></select></div>
<div><label for="repository">Repository</label><select id="repository"><option value="">all</option></select></div>
<div><label for="signer">Signed by</label><select id="signer"><option value="">all</option></select></div>
<button type="reset">Reset</button>
</form>
<p class="shown"><span id="shown" role="status">`)
	p.text(plural(len(p.rows), "signature"))
	p.html(`</span> <label class="switch"><input type="checkbox" id="whole"> whole digests</label></p>
`)
}
