package page

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// labels names what a person reaches by Tab, in the order of the page.
const labels = `(e => e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim().slice(0, 40) || e.id)`

// TestPageKeyboard: Tab reaches every control, in the order of the page, and each shows that it is reached.
func TestPageKeyboard(t *testing.T) {
	b := chromium(t)
	for _, width := range []int{360, 800, 1400} {
		t.Run(strconv.Itoa(width), func(t *testing.T) {
			p := b.tab(t, view{width: width})
			url, _ := written(t, thousands(40))
			p.open(url)
			p.ready()
			var want []string
			p.eval(`[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter(e => e.checkVisibility()).map(`+labels+`)`, &want)
			if len(want) < 30 || !slices.Contains(want, "Search") || !slices.Contains(want, "Mended by") || !slices.Contains(want, "Copy") {
				t.Fatalf("%d controls: %q", len(want), want)
			}
			var got []string
			for range want {
				p.press("Tab")
				var at struct{ Label, Outline string }
				p.eval(`(e => ({Label: `+labels+`(e), Outline: getComputedStyle(e).outlineStyle + " " + getComputedStyle(e).outlineWidth}))(document.activeElement)`, &at)
				got = append(got, at.Label)
				if at.Outline != "solid 3px" {
					t.Errorf("%s has the focus and shows %s", at.Label, at.Outline)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("Tab goes\n%q, want\n%q", got, want)
			}
			p.quiet(url)
		})
	}
}

// shown returns how many rows of signatures there are to see, and what the page says of that.
func (p *tab) shown() (rows int, says string) {
	p.t.Helper()
	return p.evalInt(`document.querySelectorAll("#rows tbody tr").length`), p.evalString(`document.getElementById("shown").textContent`)
}

// choose sets a control as a person does.
func (p *tab) choose(id, value string) {
	p.t.Helper()
	p.eval(`(e => { e.value = `+strconv.Quote(value)+`; e.dispatchEvent(new Event("input", {bubbles: true})); return e.value })(document.getElementById(`+strconv.Quote(id)+`))`, nil)
	if got := p.evalString(`document.getElementById(` + strconv.Quote(id) + `).value`); got != value {
		p.t.Fatalf("%s cannot be %q", id, value)
	}
}

// TestPageFilters: what is shown is what the report has, by state, repository, signer and words, and all of them together.
func TestPageFilters(t *testing.T) {
	p := chromium(t).tab(t, view{width: 1400})
	r := large()
	url, _ := written(t, r)
	p.open(url)
	p.ready()
	states, byPayments, inWeb, both := map[string]int{}, 0, 0, 0
	var digest string
	for _, a := range r.Artifacts {
		for _, s := range a.Signatures {
			states[string(s.State)]++
			if strings.HasSuffix(s.Identity, "CN=payments") {
				byPayments++
				if s.State == "superseded" {
					both++
				}
			}
			if a.Repository == "harbor.acme.example/web/api-1" {
				inWeb++
				digest = s.Digest.String()
			}
		}
	}
	check := func(what string, want int, says string) {
		t.Helper()
		if n, text := p.shown(); n != want || text != says || want == 0 {
			t.Errorf("%s: %d rows, %q; want %d, %q", what, n, text, want, says)
		}
	}
	of := func(n int) string { return grouped(n) + " of 5,000 signatures" }
	check("at first", 5000, "5,000 signatures")
	p.choose("state", "superseded")
	check("superseded", states["superseded"], of(states["superseded"]))
	p.choose("signer", "CN=payments")
	check("superseded by payments", both, of(both))
	p.choose("state", "")
	check("by payments", byPayments, of(byPayments))
	p.eval(`document.querySelector("#controls [type=reset]").click()`, nil)
	p.eval(`new Promise(r => setTimeout(r, 20)).then(() => 1)`, nil)
	check("after reset", 5000, "5,000 signatures")
	p.choose("repository", "web/api-1")
	check("in web/api-1", inWeb, of(inWeb))
	p.choose("repository", "")

	// Typed, as a person does: words in any order, digests as commands print them.
	p.eval(`document.getElementById("q").focus()`, nil)
	p.write("WEB/api-1 es256")
	if n, _ := p.shown(); n == 0 || n > inWeb {
		t.Errorf("%d rows have both words", n)
	}
	p.choose("q", digest)
	if n, says := p.shown(); n != 1 || says != "1 of 5,000 signatures" {
		t.Errorf("by digest: %d rows, %q", n, says)
	}
	p.choose("q", "nothing has this")
	if n, says := p.shown(); n != 0 || says != "0 of 5,000 signatures: nothing fits" {
		t.Errorf("nothing: %d rows, %q", n, says)
	}
	if role := p.evalString(`document.getElementById("shown").getAttribute("role")`); role != "status" {
		t.Errorf("the count is a %s, which nobody is told of", role)
	}
	p.choose("q", "")
	check("at last", 5000, "5,000 signatures")
	p.quiet(url)
}

func grouped(n int) string {
	s := strconv.Itoa(n)
	if len(s) > 3 {
		s = s[:len(s)-3] + "," + s[len(s)-3:]
	}
	return s
}

// TestPageSorts: by every column, up and down, by keyboard; what a row has not comes last; the head says what it is sorted by.
func TestPageSorts(t *testing.T) {
	p := chromium(t).tab(t, view{width: 1400})
	url, _ := written(t, thousands(600))
	p.open(url)
	p.ready()
	heads := []string{"State", "Repository", "Tag", "Artifact", "Signature", "Signed by", "Algorithm", "Chain ends", "TSA ends", "Expires", "Mended by"}
	column := func(i int) []string {
		var cells []string
		p.eval(`[...document.querySelectorAll("#rows tbody tr")].map(tr => tr.cells[`+strconv.Itoa(i)+`].textContent.trim())`, &cells)
		return cells
	}
	sortBy := func(i int) string {
		p.eval(`document.querySelectorAll("#rows th button")[`+strconv.Itoa(i)+`].focus()`, nil)
		p.press("Enter")
		var sorted []string
		p.eval(`[...document.querySelectorAll("#rows th")].map(th => th.getAttribute("aria-sort") || "")`, &sorted)
		for j, s := range sorted {
			if j != i && s != "" {
				t.Errorf("sorted by %s, and %s says %s too", heads[i], heads[j], s)
			}
		}
		return sorted[i]
	}
	first := column(3)
	for i, head := range heads[1:] {
		i++
		if said := sortBy(i); said != "ascending" {
			t.Errorf("%s says %q", head, said)
		}
		up := column(i)
		if said := sortBy(i); said != "descending" {
			t.Errorf("%s says %q", head, said)
		}
		down := column(i)
		if len(up) != 600 || len(down) != 600 {
			t.Fatalf("%s: %d and %d rows", head, len(up), len(down))
		}
		known := func(cells []string) []string {
			n := slices.Index(cells, "–")
			if n < 0 {
				return slices.Clone(cells)
			}
			for _, c := range cells[n:] {
				if c != "–" {
					t.Errorf("%s: %q comes after nothing", head, c)
				}
			}
			return slices.Clone(cells[:n])
		}
		a, d := known(up), known(down)
		slices.Reverse(d)
		if !slices.Equal(a, d) || len(a) == 0 {
			t.Errorf("%s: up is not down the other way round", head)
		}
		if i == 3 || i == 4 || i >= 7 && i <= 9 {
			if !slices.IsSorted(a) {
				t.Errorf("%s: not sorted: %q", head, a[:min(len(a), 9)])
			}
		}
	}
	// 1.10.0 comes after 1.9.0.
	sortBy(2)
	tags := column(2)
	if i, j := slices.Index(tags, "1.0.2"), slices.Index(tags, "1.0.10"); i < 0 || j < i {
		t.Errorf("tag 1.0.2 stands at %d, 1.0.10 at %d", i, j)
	}
	if said := sortBy(0); said != "ascending" || !slices.Equal(column(3), first) {
		t.Errorf("by state again: %s, and not as it was", said)
	}
	p.quiet(url)
}

// TestPageWholeDigests: what stands in a cell is the whole digest, which a switch shows, with and without script.
func TestPageWholeDigests(t *testing.T) {
	for _, noJS := range []bool{false, true} {
		p := chromium(t).tab(t, view{width: 1400, noJS: noJS})
		url, _ := written(t, small())
		p.open(url)
		code := `document.querySelector("#rows tbody code")`
		if n := p.evalInt(code + `.textContent.length`); n != 64 {
			t.Errorf("%d digits stand there", n)
		}
		seen := `Math.round(` + code + `.clientWidth / parseFloat(getComputedStyle(` + code + `).width) * ` + code + `.textContent.length * ` + code + `.clientWidth / ` + code + `.scrollWidth)`
		if n := p.evalInt(seen); n != 12 {
			t.Errorf("%d digits show", n)
		}
		p.eval(`document.getElementById("whole").focus()`, nil)
		p.press("Space")
		if !strings.HasPrefix(p.evalString(code+`.scrollWidth <= `+code+`.clientWidth + 1 ? "all" : "cut"`), "all") {
			t.Error("the switch does not show all of it")
		}
		p.fits()
	}
}

// TestPageCopy: the button copies the command that stands beside it.
func TestPageCopy(t *testing.T) {
	p := chromium(t).tab(t, view{width: 800})
	url, _ := written(t, small())
	p.open(url)
	p.ready()
	p.eval(`Object.defineProperty(navigator.clipboard, "writeText", {value: async text => { window.copied = text }})`, nil)
	p.eval(`document.querySelector(".copy").focus()`, nil)
	p.press("Enter")
	got := p.evalString(`window.copied || ""`)
	if want := "imprint rechain --all --expiring 144d \\\n  --chain new/ --dry-run \\\n  ghcr.io/acme/app"; got != want {
		t.Errorf("copied %q, want %q", got, want)
	}
	p.quiet(url)
}

// TestPageWithoutScript: all rows and texts stand there, and no control that would do nothing.
func TestPageWithoutScript(t *testing.T) {
	p := chromium(t).tab(t, view{width: 800, noJS: true})
	url, _ := written(t, large())
	p.open(url)
	if n := p.evalInt(`document.querySelectorAll("#rows tbody tr").length`); n != many {
		t.Errorf("%d rows", n)
	}
	if n := p.evalInt(`[...document.querySelectorAll("#rows tbody tr")].filter(tr => tr.cells.length === 11).length`); n != many {
		t.Errorf("%d rows are whole", n)
	}
	var controls []string
	p.eval(`[...document.querySelectorAll("button, input, select")].filter(e => e.checkVisibility()).map(e => e.id || e.textContent)`, &controls)
	if !slices.Equal(controls, []string{"whole"}) { // which works by style alone
		t.Errorf("controls that need the script: %q", controls)
	}
	if text := p.evalString(`document.getElementById("verdict").innerText`); !strings.Contains(text, "Acme TSA 2021") || !strings.Contains(text, "imprint timestamp --all") {
		t.Errorf("the verdict says %s", text)
	}
	p.fits()
	p.quiet(url)
}

// TestPageReads: assistive technology is told of tables, rows, heads and cells, although they are laid out as grids.
func TestPageReads(t *testing.T) {
	b := chromium(t)
	p := b.tab(t, view{width: 360})
	url, _ := written(t, small())
	p.open(url)
	p.ready()
	p.do("Accessibility.enable", nil)
	var tree struct {
		Nodes []struct {
			Ignored bool
			Role    struct{ Value string }
			Name    struct{ Value string }
		}
	}
	p.must(b.call(t.Context(), p.session, "Accessibility.getFullAXTree", nil, &tree))
	roles, names := map[string]int{}, []string{}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		roles[n.Role.Value]++
		if n.Role.Value == "heading" {
			names = append(names, n.Name.Value)
		}
	}
	// Heads and rows: of what ends 1+1, repositories 1+1, certificates 1+3, signatures 1+3.
	if roles["table"] != 4 || roles["row"] != 12 || roles["columnheader"] != 6+8+9+11 || roles["cell"] != 6+8+3*9+3*11 {
		t.Errorf("%v", roles)
	}
	want := []string{"Signature audit", "Verdict", "What to do before 2027-04-13", "What ends when", "Findings", "Repositories", "Certificates", "Not seen", "Signatures"}
	if !slices.Equal(names, want) {
		t.Errorf("headings %q, want %q", names, want)
	}
}
