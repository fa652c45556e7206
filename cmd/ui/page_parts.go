package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/audit"
)

// pageOpen is how many rows a list may have and be shown unasked.
const pageOpen = 12

// pageYears is how far the timeline looks ahead.
const pageYears = 2

// pageScale is the width of a drawing; the style stretches it to where it stands.
const pageScale = 1000

// along says where t is on the timeline.
func (p *page) along(t time.Time) float64 {
	end := p.r.Now.AddDate(pageYears, 0, 0)
	share := float64(t.Sub(p.r.Now)) / float64(end.Sub(p.r.Now))
	return float64(int(min(max(share, 0), 1)*pageScale*10)) / 10 // a tenth of a unit is less than a pixel
}

// timeline writes what ends when: a drawing, and a table which says the same.
func (p *page) timeline() {
	p.html(`<section id="ends" aria-labelledby="ends-h"><h2 id="ends-h">What ends when</h2>
`)
	if len(p.r.Expiries) == 0 {
		p.html("<p>Nothing that counts has an end.</p></section>\n")
		return
	}
	p.curve()
	first := p.r.Expiries
	if len(first) > 2*pageOpen {
		first = first[:pageOpen]
	}
	p.expiries(first, "What ends first, by certificate")
	if rest := p.r.Expiries[len(first):]; len(rest) > 0 {
		n := 0
		for _, e := range rest {
			n += e.Signatures
		}
		p.html("<details><summary>")
		p.text(number(len(rest)), " more that end later, under ", plural(n, "signature"))
		p.html("</summary>\n")
		p.expiries(rest, "What ends later, by certificate")
		p.html("</details>\n")
	}
	p.html("</section>\n")
}

// curve draws how many signatures still hold if nothing is done.
func (p *page) curve() {
	total := 0
	for _, e := range p.r.Expiries {
		total += e.Signatures
	}
	total = max(total, p.r.Counts.Current)
	const height = 100
	left := total
	path := ""
	at := func(x float64, n int) {
		path += fmt.Sprintf("%s%g %g", oneOrMany(len(path), "", " "), x, height-float64(n*height*10/max(total, 1))/10)
	}
	for _, e := range p.r.Expiries {
		if e.At.After(p.r.Now.AddDate(pageYears, 0, 0)) {
			break
		}
		x := p.along(e.At)
		at(x, left)
		left -= e.Signatures
		at(x, left)
	}
	at(pageScale, left)
	p.html(`<figure class="curve"><figcaption>Signatures that still hold if nothing is done, over the next 2 years: `)
	p.text(number(total), " now, ", number(left), " at the end.")
	p.html(`</figcaption>
<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true" focusable="false">`)
	p.within(height)
	p.html(`<polygon`)
	p.attr("points", fmt.Sprintf("0 %d 0 0 %s %d %d", height, path, pageScale, height))
	p.html(`/></svg>
`)
	p.axis()
	p.html("</figure>\n")
}

// within draws the time that the audit calls soon.
func (p *page) within(height float64) {
	p.html(`<rect class="soon"`)
	p.measure("width", p.along(p.r.ListBefore))
	p.measure("height", height)
	p.html(`/>`)
}

// axis writes the dates at the quarters of the timeline, for the eye: the table says them too.
func (p *page) axis() {
	p.html(`<div class="axis" aria-hidden="true">`)
	for month := 0; month <= 12*pageYears; month += 6 {
		p.html("<span>")
		if month == 0 {
			p.html("now")
		} else {
			p.text(p.r.Now.UTC().AddDate(0, month, 0).Format("Jan 2006"))
		}
		p.html("</span>")
	}
	p.html("</div>\n")
}

func (p *page) expiries(list []audit.Expiry, caption literal) {
	p.html(`<table class="rows ends"><caption>`, caption, `</caption>
<thead><tr><th scope="col">Ends</th><th scope="col">In</th><th scope="col">What ends</th><th scope="col" class=n>Signatures</th><th scope="col">Mended by</th><th scope="col">Next 2 years</th></tr></thead>
`)
	p.bodies(len(list), func(i int) {
		e := list[i]
		p.html("<tr class=", groupStanding(e).word(), "><td><b>")
		p.text(day(e.At))
		p.html("</b>")
		p.cell(left(e.At, p.r.Now))
		p.html("<td>", kindWord(e.Kind), " <b>")
		p.text(p.names.short(e.Subject))
		p.html("</b>")
		if e.Timestamped > 0 && e.Kind != audit.EndTSA {
			p.remark(number(e.Timestamped) + " timestamped")
		}
		p.count(e.Signatures)
		p.html("<td>", remedyWord(e.Remedy), `<td class=lane><svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">`)
		p.within(10)
		p.html(`<rect class="bar" y="2" height="6"`)
		p.measure("width", max(p.along(e.At), 4))
		p.html("/></svg>\n")
	})
}

func groupStanding(e audit.Expiry) standing {
	switch {
	case e.Ended:
		return standingEnded
	case e.Fails:
		return standingFailing
	case e.Listed:
		return standingExpiring
	}
	return standingHolds
}

// A pageFinding is a finding with its artifact.
type pageFinding struct {
	audit.Finding
	artifact, index *audit.Artifact
}

func (p *page) findings() {
	p.html(`<section id="findings" aria-labelledby="findings-h"><h2 id="findings-h">Findings</h2>
`)
	if len(p.r.Findings) == 0 {
		p.html("<p>Nothing is odd.</p></section>\n")
		return
	}
	by := map[string][]pageFinding{}
	index := p.indexes()
	for i := range p.r.Artifacts {
		a := &p.r.Artifacts[i]
		for _, f := range a.Findings {
			by[f.Code] = append(by[f.Code], pageFinding{f, a, index(a)})
		}
	}
	for _, g := range p.r.Findings {
		p.html("<details")
		if g.Severity == audit.Problem && len(by[g.Code]) <= pageOpen {
			p.html(" open")
		}
		p.html(`><summary><b>`)
		p.text(upperFirst(g.Title))
		p.html(`</b> <span class="tag `, severityWord(g.Severity), `">`, severityWord(g.Severity), `</span> <span>`)
		p.text(plural(g.Findings, "finding"), ", ", plural(g.Artifacts, "artifact"))
		p.html(`</span></summary>
<table class="rows odd"><caption class=quiet>`)
		p.text(upperFirst(g.Title))
		p.html(`</caption><thead><tr><th scope="col">Repository</th><th scope="col">Tag</th><th scope="col">Artifact</th><th scope="col">Signature</th><th scope="col">Finding</th></tr></thead>
`)
		list := by[g.Code]
		p.bodies(len(list), func(i int) {
			o := list[i]
			p.html("<tr>")
			p.cell(p.repository(o.artifact.Repository))
			p.cell(cmp.Or(o.Tag, tagsOf(o.artifact, o.index)))
			p.digest(o.artifact.Digest)
			p.digest(o.Signature)
			p.cell(o.Text)
			p.html("\n")
		})
		p.html("</details>\n")
	}
	p.html("</section>\n")
}

func severityWord(s audit.Severity) literal {
	if s == audit.Problem {
		return "problem"
	}
	return "note"
}

// indexes returns how to find the index of an artifact.
func (p *page) indexes() func(*audit.Artifact) *audit.Artifact {
	at := map[string]*audit.Artifact{}
	for i := range p.r.Artifacts {
		a := &p.r.Artifacts[i]
		at[a.Repository+"@"+a.Digest.String()] = a
	}
	return func(a *audit.Artifact) *audit.Artifact { return at[a.Repository+"@"+a.Index.String()] }
}

func (p *page) repositories() {
	list := p.r.Repositories
	p.html(`<section id="repositories" aria-labelledby="repositories-h"><h2 id="repositories-h">Repositories</h2>
<details`, opened(len(list)), `><summary>`)
	p.text(repositoriesOf(len(list)))
	p.html(`</summary>
<table class="rows repos"><caption class=quiet>Repositories that were audited</caption>
<thead><tr><th scope="col">Repository</th><th scope="col" class=n>Tagged</th><th scope="col" class=n>Unsigned</th><th scope="col" class=n>Signatures</th><th scope="col" class=n>Expiring</th><th scope="col" class=n>Problems</th><th scope="col" class=n>Not seen</th><th scope="col">First end</th></tr></thead>
`)
	p.bodies(len(list), func(i int) {
		r := list[i]
		p.html("<tr>")
		p.cell(r.Name)
		for _, n := range []int{r.Tagged, r.Unsigned, r.Signatures, r.Expiring, r.Problems, r.Unseen} {
			p.count(n)
		}
		p.date(r.FirstEnd, false)
		p.html("\n")
	})
	p.html("</details></section>\n")
}

// opened is the attribute of a list that is short enough to show unasked.
func opened(n int) literal {
	if n <= pageOpen {
		return " open"
	}
	return ""
}

func (p *page) certificates() {
	type entry struct {
		fingerprint string
		*audit.Certificate
	}
	var list []entry
	for f, c := range p.r.Certificates {
		if c != nil {
			list = append(list, entry{f, c})
		}
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.fingerprint, b.fingerprint))
	})
	p.html(`<section id="certificates" aria-labelledby="certificates-h"><h2 id="certificates-h">Certificates</h2>
<details`, opened(len(list)), `><summary>`)
	p.text(plural(len(list), "certificate"))
	p.html(`, the first to end first</summary>
<table class="rows certs"><caption class=quiet>Certificates of the signatures and timestamps</caption>
<thead><tr><th scope="col">Ends</th><th scope="col">Begins</th><th scope="col">Used as</th><th scope="col">Subject and issuer</th><th scope="col">Key</th><th scope="col">Serial</th><th scope="col">Fingerprint</th><th scope="col" class=n>Signatures</th><th scope="col" class=n>Ends first</th></tr></thead>
`)
	p.bodies(len(list), func(i int) {
		c := list[i]
		p.html("<tr>")
		p.date(&c.NotAfter, true)
		p.date(&c.NotBefore, false)
		p.html("<td>")
		p.uses(c.Uses)
		p.html("<td>")
		p.text(c.Subject)
		if c.SelfSigned {
			p.remark("self-signed")
		} else {
			p.remark("issued by " + p.names.short(c.Issuer))
		}
		p.cell(c.Key)
		p.html("<td><code>")
		p.text(c.Serial)
		p.html("</code>")
		p.html("<td><code>")
		p.text(c.fingerprint)
		p.html("</code>")
		p.count(c.Signatures)
		p.count(c.Ending)
		p.html("\n")
	})
	p.html("</details></section>\n")
}

func (p *page) uses(kinds []audit.EndKind) {
	if len(kinds) == 0 {
		p.html("TSA issuer")
	}
	for i, k := range kinds {
		if i > 0 {
			p.html(", ")
		}
		switch k {
		case audit.EndLeaf:
			p.html("signer")
		case audit.EndIntermediate:
			p.html("CA")
		case audit.EndRoot:
			p.html("root")
		case audit.EndTSA:
			p.html("TSA")
		}
	}
}

func (p *page) unseen() {
	p.html(`<section id="unseen" aria-labelledby="unseen-h"><h2 id="unseen-h">Not seen</h2>
`)
	if slices.ContainsFunc(p.r.Repositories, func(r audit.Repository) bool { return !strings.HasPrefix(r.Name, "oci:") }) {
		p.html("<p>Digests that no tag, index or fallback tag leads to were not seen: registries do not list them. An audit of a list of digests (--batch) sees them.</p>\n")
	}
	if n := len(p.r.Unseen); n > 0 {
		p.html("<details", opened(n), "><summary>")
		p.text(plural(n, "thing"), " that could not be read")
		p.html(`</summary>
<table class="rows not"><caption class=quiet>What could not be read</caption>
<thead><tr><th scope="col">What</th><th scope="col">Reason</th><th scope="col">Error</th></tr></thead>
`)
		p.bodies(n, func(i int) {
			u := p.r.Unseen[i]
			p.html("<tr>")
			p.cell(u.Item)
			p.cell(u.Reason)
			p.cell(u.Text)
			p.html("\n")
		})
		p.html("</details>\n")
	} else {
		p.html("<p>All that is listed was read.</p>\n")
	}
	p.html("</section>\n")
}

// upperFirst begins a line.
func upperFirst(s string) string {
	if s != "" && 'a' <= s[0] && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}
