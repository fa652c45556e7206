package ui

import (
	"cmp"
	_ "embed" // for the style and the script
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/audit"
)

//go:embed page.css
var pageStyle literal

//go:embed page.js
var pageScript literal

// Page writes an audit as one HTML file that asks no network for anything: all rows stand in it, its script only sorts and hides
// them. The same report makes the same bytes.
func Page(w io.Writer, r audit.Report) error {
	p := page{markup: newMarkup(w), r: r, names: namesIn(r), rows: rowsOf(r), host: hostOf(r)}
	p.head()
	p.header()
	p.html("<main>")
	p.verdict()
	p.timeline()
	p.findings()
	p.repositories()
	p.certificates()
	p.unseen()
	p.signatures()
	p.html("</main>\n<script>", pageScript, "</script>\n</body>\n</html>\n")
	return p.end()
}

// A page is a report on its way into HTML.
type page struct {
	*markup
	r     audit.Report
	names pageNames
	rows  []pageRow
	host  string // that all repositories are on, with its slash; "" if they are on several
}

func (p *page) head() {
	p.html(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src `, source(pageStyle), `; script-src `, source(pageScript),
		`; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>`)
	p.text("Signature audit of ", p.scope(), ", ", day(p.r.Now))
	p.html("</title>\n<style>", pageStyle, "</style>\n</head>\n<body>\n")
}

func (p *page) header() {
	c := p.r.Counts
	p.html(`<a class="skip" href="#signatures">Skip to the signatures</a>
<header>
<h1>Signature audit</h1>
<p class="scope">`)
	p.text(p.scope())
	p.html("</p>\n<p>")
	p.text(minute(p.r.Now), ": ", repositoriesOf(c.Repositories), ", ", plural(c.Tagged, "tagged artifact"), ", ", plural(c.Signatures, "signature"))
	p.html("</p>\n<nav aria-label=\"On this page\"><ul>")
	for _, s := range p.sections() {
		p.html(`<li><a href="#`, s.id, `">`, s.title, `</a>`)
		if s.count >= 0 {
			p.html(` <span>`)
			p.number(s.count)
			p.html(`</span>`)
		}
		p.html(`</li>`)
	}
	p.html("</ul></nav>\n</header>\n")
}

type pageSection struct {
	id, title literal
	count     int // -1: none
}

func (p *page) sections() []pageSection {
	c := p.r.Counts
	return []pageSection{
		{"verdict", "Verdict", -1}, {"ends", "What ends when", len(p.r.Expiries)}, {"findings", "Findings", c.Findings},
		{"repositories", "Repositories", c.Repositories}, {"certificates", "Certificates", len(p.r.Certificates)},
		{"unseen", "Not seen", c.Unseen}, {"signatures", "Signatures", len(p.rows)},
	}
}

// hostOf returns the host of all repositories, which rows need not repeat.
func hostOf(r audit.Report) string {
	host := ""
	for _, p := range r.Repositories {
		h, _, ok := strings.Cut(p.Name, "/")
		if !ok || strings.HasPrefix(p.Name, "oci:") || host != "" && h+"/" != host {
			return ""
		}
		host = h + "/"
	}
	return host
}

// repository is how rows name one.
func (p *page) repository(name string) string { return strings.TrimPrefix(name, p.host) }

// scope names what was audited: the repository, or of several the hosts.
func (p *page) scope() string {
	if len(p.r.Repositories) == 1 {
		return p.r.Repositories[0].Name
	}
	var hosts []string
	for _, r := range p.r.Repositories {
		host, _, _ := strings.Cut(r.Name, "/")
		if strings.HasPrefix(r.Name, "oci:") {
			host = "layouts"
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	const most = 3
	if n := len(hosts) - most; n > 0 {
		hosts = append(hosts[:most], plural(n, "more host"))
	}
	if len(hosts) == 0 {
		return "no repository"
	}
	return repositoriesOf(len(p.r.Repositories)) + " on " + list(hosts)
}

// verdict says at a glance what ends first, and what to do about it.
func (p *page) verdict() {
	c := p.r.Counts
	word, class, text := p.answer()
	p.html(`<section id="verdict" aria-labelledby="verdict-h"><h2 id="verdict-h">Verdict</h2>
<p class="answer `, class, `"><strong>`, word, `</strong> `)
	p.text(text)
	p.html("</p>\n<dl class=\"tiles\">")
	p.tile("have ended", c.Ended, "of "+plural(c.Current, "signature")+" that count")
	p.tile("end before "+day(p.r.ListBefore), c.Expiring-c.Ended, "within "+Span(p.r.ListBefore.Sub(p.r.Now)))
	unsigned := 0
	for _, r := range p.r.Repositories {
		unsigned += r.Unsigned
	}
	p.tile("tagged artifacts unsigned", unsigned, "of "+number(c.Tagged))
	p.tile("problems found", c.Problems, "and "+plural(c.Findings-c.Problems, "note"))
	p.tile("superseded or doubled", c.Needless, "signatures that nobody needs")
	p.tile("not readable", c.Bad+c.Unseen, plural(c.Bad, "bad signature")+", "+number(c.Unseen)+" unseen")
	p.html("</dl>\n")
	p.steps()
	p.html("</section>\n")
}

func (p *page) tile(what string, n int, beside string) {
	if n == 0 {
		p.html(`<div class="zero"><dt>`)
	} else {
		p.html(`<div><dt>`)
	}
	p.text(what)
	p.html(`</dt><dd><b>`)
	p.number(n)
	p.html(`</b> <span>`)
	p.text(beside)
	p.html(`</span></dd></div>`)
}

// answer is the verdict in one sentence, with the word that says how urgent it is.
func (p *page) answer() (word, class literal, text string) {
	r, c := p.r, p.r.Counts
	switch {
	case c.Signatures == 0:
		return "Nothing signed.", "calm", "No signature was found."
	case len(r.Expiries) == 0:
		return "Nothing ends.", "calm", "No signature that counts has an end."
	}
	word, class = "Calm.", "calm"
	switch {
	case c.Failing > 0:
		word, class = "Urgent.", "urgent"
	case c.Ended > 0:
		word, class = "Ended.", "urgent"
	case c.Expiring > 0:
		word, class = "Act.", "act"
	}
	if c.Ended > 0 {
		text = plural(c.Ended, "signature") + oneOrMany(c.Ended, " has", " have") + " ended. "
	}
	i := slices.IndexFunc(r.Expiries, func(e audit.Expiry) bool { return !e.Ended })
	if i < 0 {
		return word, class, text
	}
	e := r.Expiries[i]
	next := "First"
	if c.Ended > 0 {
		next = "Next"
	}
	text += fmt.Sprintf("%s to end: %s on %s, in %s, %s.", next, plural(e.Signatures, "signature"), day(e.At), left(e.At, r.Now), p.because(e))
	most := e
	for _, o := range r.Expiries[i:] {
		if o.Listed && o.Signatures > most.Signatures {
			most = o
		}
	}
	if most != e {
		text += fmt.Sprintf(" Most: %s on %s, in %s, %s.", plural(most.Signatures, "signature"), day(most.At), left(most.At, r.Now), p.because(most))
	}
	if c.Expiring == 0 {
		text += fmt.Sprintf(" Nothing ends before %s.", day(r.ListBefore))
	}
	return word, class, text
}

// because says what ends the signatures of a group.
func (p *page) because(e audit.Expiry) string {
	if e.Kind == audit.EndExpiry {
		return "by the expiry that " + p.names.short(e.Subject) + " gave them"
	}
	return "with the " + string(kindWord(e.Kind)) + " " + p.names.short(e.Subject)
}

func oneOrMany(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func repositoriesOf(n int) string { return number(n) + oneOrMany(n, " repository", " repositories") }

// kindWord names what ends a signature.
func kindWord(k audit.EndKind) literal {
	switch k {
	case audit.EndLeaf:
		return "signing certificate"
	case audit.EndIntermediate:
		return "CA certificate"
	case audit.EndRoot:
		return "root certificate"
	case audit.EndTSA:
		return "TSA certificate"
	case audit.EndExpiry:
		return "own expiry"
	}
	return "certificate"
}

// remedyWord names what mends a signature.
func remedyWord(r audit.Remedy) literal {
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
	return "–"
}

// pageNames gives each distinguished name of a report the shortest form that no other name in it has.
type pageNames map[string]string

func namesIn(r audit.Report) pageNames {
	all := map[string]bool{}
	for _, c := range r.Certificates {
		if c != nil {
			all[c.Subject], all[c.Issuer] = true, true
		}
	}
	for _, e := range r.Expiries {
		all[e.Subject] = true
	}
	for _, a := range r.Artifacts {
		for _, s := range a.Signatures {
			all[s.Identity] = true
			if s.Timestamp != nil {
				all[s.Timestamp.By] = true
			}
		}
	}
	sorted := make([]string, 0, len(all))
	for dn := range all {
		sorted = append(sorted, dn)
	}
	slices.Sort(sorted)
	// A name is shortened only as far as it stays this name's alone: an impostor of the same common name is told apart.
	forms := []func(string) string{common, brief, func(dn string) string { return dn }}
	n, taken := pageNames{}, map[string]bool{}
	for i, form := range forms {
		count := map[string]int{}
		shown := func(dn string) string { return middle(form(dn), pageNameColumns) }
		for _, dn := range sorted {
			count[shown(dn)]++
		}
		for _, dn := range sorted {
			s := shown(dn)
			switch {
			case n[dn] != "":
			case count[s] == 1 && !taken[s]:
				n[dn], taken[s] = s, true
			case i == len(forms)-1:
				for k := 2; n[dn] == ""; k++ {
					if t := fmt.Sprintf("%s (%d)", s, k); !taken[t] {
						n[dn], taken[t] = t, true
					}
				}
			}
		}
	}
	return n
}

// pageNameColumns is how long a name may be in a row; certificates are listed with all of it.
const pageNameColumns = 72

// short is the form of a name for rows. What it returns is escaped already, and escaping leaves that as it is.
func (n pageNames) short(dn string) string { return cmp.Or(n[dn], middle(dn, pageNameColumns)) }
