package page

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPagePrints: on paper there is every row, whole, under a head on each page, and no control; dark windows print light.
func TestPagePrints(t *testing.T) {
	const n = 240
	r := thousands(n)
	url, _ := written(t, r)
	for _, noJS := range []bool{false, true} {
		p := chromium(t).tab(t, view{width: 1400, dark: true, noJS: noJS})
		p.open(url)
		if !noJS {
			p.ready()
		}
		file := filepath.Join(t.TempDir(), "audit.pdf")
		p.pdf(file, true)
		pages := pdfText(t, file)
		if len(pages) < 6 || len(pages) > 40 {
			t.Errorf("%d pages", len(pages))
		}
		all := strings.Join(pages, "\n")
		for _, a := range r.Artifacts {
			for _, s := range a.Signatures {
				if !strings.Contains(all, s.Digest.Encoded()[:12]) {
					t.Fatalf("signature %s of %s is not on paper", s.Digest, a.Repository)
				}
			}
		}
		// What stands in lists that are closed on the screen is on paper too.
		for _, repository := range r.Repositories {
			if !strings.Contains(all, repository.Name) {
				t.Errorf("%s is not on paper", repository.Name)
			}
		}
		for f := range r.Certificates {
			if !strings.Contains(all, f[:12]) {
				t.Errorf("certificate %s is not on paper", f)
			}
		}
		rows, row := 0, regexp.MustCompile(`(?m)^\s*(ended|failing|expiring|bad|holds|superseded)\b.*\b[0-9a-f]{12}\s+[0-9a-f]{12}\b`)
		for i, page := range pages {
			n := len(row.FindAllString(page, -1))
			rows += n
			if n > 0 && !strings.Contains(page, "Chain ends") {
				t.Errorf("page %d has rows without a head", i+1)
			}
		}
		if rows != n {
			t.Errorf("%d rows are whole, want %d", rows, n)
		}
		for _, control := range []string{"Search", "Reset", "Copy", "whole digests", "Skip to"} {
			if strings.Contains(all, control) {
				t.Errorf("%q is on paper", control)
			}
		}
		p.look(view{width: 1400, dark: true, print: true, noJS: noJS})
		if ground := p.evalString(`getComputedStyle(document.documentElement).backgroundColor + getComputedStyle(document.body).color`); ground != "rgb(255, 255, 255)rgb(0, 0, 0)" {
			t.Errorf("printed in %s", ground)
		}
		p.quiet(url)
	}
}
