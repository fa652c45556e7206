package page

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/cmd/ui"
)

// many is what "thousands" means here.
const many = 5000

// Reports are made once: the tests only read them.
var (
	small = sync.OnceValue(three)
	large = sync.OnceValue(func() audit.Report { return thousands(many) })
)

// written writes the page of a report into a file and returns its URL.
func written(t testing.TB, r audit.Report) (url string, size int) {
	t.Helper()
	var b bytes.Buffer
	if err := ui.Page(&b, r); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "audit.html")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return "file://" + file, b.Len()
}

// ready waits until the script has shown its controls.
func (p *tab) ready() {
	p.t.Helper()
	p.eval(`new Promise(done => { const look = () => document.documentElement.classList.contains("ready") ? done(1) : setTimeout(look, 5); look() })`, nil)
}

// fits fails the test if the page is wider than the window, or a text wider than its cell: of long tables in the first hundred rows.
func (p *tab) fits() {
	p.t.Helper()
	if n := p.evalInt(`document.documentElement.scrollWidth - innerWidth`); n > 0 {
		p.t.Errorf("the page is %d pixels too wide", n)
	}
	if s := p.evalString(`[...document.querySelectorAll("td,th,dd,p,summary,label,button")].filter(e => !e.closest("tbody:nth-of-type(n+3)") && e.offsetParent && getComputedStyle(e.closest("thead") || e).clipPath === "none" && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline")
		.slice(0, 3).map(e => e.outerHTML.slice(0, 200)).join("\n")`); s != "" {
		p.t.Errorf("texts leave their places:\n%s", s)
	}
}

// TestPageLooks: at three widths, light and dark, with 3 and with 5,000 signatures, the page fits, is accessible, says nothing on the
// console and asks the network for nothing. IMPRINT_SCREENSHOTS=DIR keeps what it looks like.
func TestPageLooks(t *testing.T) {
	b := chromium(t)
	dir := os.Getenv("IMPRINT_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, r := range map[string]func() audit.Report{"3": small, "5000": large} {
		url, _ := written(t, r())
		for _, width := range []int{360, 800, 1400} {
			for _, dark := range []bool{false, true} {
				scheme := map[bool]string{false: "light", true: "dark"}[dark]
				t.Run(fmt.Sprintf("%s signatures, %d wide, %s", name, width, scheme), func(t *testing.T) {
					p := b.tab(t, view{width: width, dark: dark})
					p.open(url)
					p.ready()
					p.fits()
					p.picture(filepath.Join(dir, fmt.Sprintf("audit-%s-%d-%s.png", name, width, scheme)), 2400)
					if rows := p.evalInt(`document.querySelectorAll("#rows tbody tr").length`); fmt.Sprint(rows) != name {
						t.Errorf("%d rows", rows)
					}
					if background := p.evalString(`getComputedStyle(document.documentElement).backgroundColor`); (background == "rgb(255, 255, 255)") == dark {
						t.Errorf("the background is %s", background)
					}
					p.quiet(url)
					// axe takes a minute for 5,000 rows that are alike: it gets the first twenty of each table, and two of each state.
					p.eval(`for (const table of document.querySelectorAll("table")) { const kept = {}; [...table.querySelectorAll("tbody tr")].forEach((tr, i) => {
						kept[tr.className] = (kept[tr.className] || 0) + 1; if (i >= 20 && (!tr.className || kept[tr.className] > 2)) tr.remove() }) }`, nil)
					p.accessible()
				})
			}
		}
	}
}
