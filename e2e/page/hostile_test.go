package page

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/cmd/ui"
)

// hostile is what a registry or a certificate may say.
var hostile = []string{
	`</script><script>window.harm=1</script>`,
	`</style><style>*{display:none}</style>`,
	`"><img src=x onerror=window.harm=2>`,
	`' autofocus onfocus=window.harm=3 x='`,
	`<svg/onload=window.harm=4>`,
	`--><!--<iframe src=http://192.0.2.1/>`,
	`</title></head><base href=http://192.0.2.1/>`,
	`javascript:window.harm=5`,
	"C=DE, CN=evil\u202egnp.exe",
	"zero\u200bwidth\u2066isolate\ufeff",
	"nul\x00 bell\x07 line\nfeed\r escape\x1b[31m",
	"not\xffutf8\xc0\xaf",
	`&lt;b&gt; &amp;amp; &#60;`,
	`'; touch /tmp/harm; '$(touch /tmp/harm)`,
	"😀 имя 名前 ﷽",
	`{{.}} ${1} %s %!d(MISSING)`,
}

// poison puts a hostile text into every text of a report.
func poison(v reflect.Value, next func() string) {
	switch v.Kind() {
	case reflect.String:
		// What the page decides by is left alone: what is not one of these values is shown as such, see below.
		switch v.Interface().(type) {
		case audit.State, audit.EndKind, audit.Remedy, audit.Severity:
			return
		}
		if v.CanSet() {
			v.SetString(next())
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Type() != reflect.TypeFor[*time.Time]() {
			poison(v.Elem(), next)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				poison(v.Field(i), next)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), next)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			value := v.MapIndex(k)
			poison(value, next) // certificates are pointers
			v.SetMapIndex(k, reflect.Value{})
			v.SetMapIndex(reflect.ValueOf(next()), value)
		}
	}
}

// TestPageHostile: whatever registries and certificates say, the page is the page: nothing of it runs, loads, styles or breaks.
func TestPageHostile(t *testing.T) {
	b := chromium(t)
	r := thousands(60)
	n := 0
	long := strings.Repeat("long-name/", 1000)
	poison(reflect.ValueOf(&r).Elem(), func() string {
		n++
		if n%19 == 0 {
			return long
		}
		return hostile[n%len(hostile)]
	})
	// The same text in findings and artifacts, so that they are shown; and kinds that nobody knows.
	for i := range r.Artifacts {
		for j := range r.Artifacts[i].Findings {
			r.Artifacts[i].Findings[j].Code = "x"
		}
		for j := range r.Artifacts[i].Signatures {
			s := &r.Artifacts[i].Signatures[j]
			switch j % 3 {
			case 1:
				s.State, s.EndKind, s.Remedy = audit.State(hostile[0]), audit.EndKind(hostile[1]), audit.Remedy(hostile[2])
			case 2:
				s.Ends = nil
			}
		}
	}
	for i := range r.Findings {
		r.Findings[i].Code = "x"
	}
	r.Expiries[0].Kind, r.Expiries[0].Remedy, r.Findings[0].Severity = audit.EndKind(hostile[0]), audit.Remedy(hostile[1]), audit.Severity(hostile[2])

	var page bytes.Buffer
	if err := ui.Page(&page, r); err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{"\u202e", "\u200b", "\u2066", "\ufeff", "\x00", "\x07", "\x1b", "\r"} {
		if strings.Contains(page.String(), never) {
			t.Errorf("the file has %q", never)
		}
	}
	if !utf8.Valid(page.Bytes()) {
		t.Error("the file is no UTF-8")
	}
	url, _ := written(t, r)
	for _, v := range []view{{width: 360}, {width: 800, dark: true}, {width: 1400}, {width: 800, noJS: true}} {
		p := b.tab(t, v)
		p.open(url)
		if !v.noJS {
			p.ready()
			p.choose("q", "window.harm")
			p.choose("q", "")
			p.eval(`for (const id of ["repository", "signer"]) { const s = document.getElementById(id); for (const o of s.options) { s.value = o.value; s.dispatchEvent(new Event("input", {bubbles: true})) } s.value = ""; s.dispatchEvent(new Event("input", {bubbles: true})) }`, nil)
			p.eval(`for (const b of document.querySelectorAll("#rows th button")) { b.click(); b.click() }`, nil)
		}
		p.eval(`for (const d of document.querySelectorAll("details")) d.open = true`, nil)
		var found struct {
			Harm     any
			Elements map[string]int
			Handlers int
			Text     string
		}
		p.eval(`({
			Harm: window.harm === undefined ? null : window.harm,
			Elements: Object.fromEntries(["script", "style", "img", "iframe", "base", "link", "meta", "title", "main", "object", "embed"].map(n => [n, document.querySelectorAll(n).length])),
			Handlers: [...document.querySelectorAll("*")].filter(e => [...e.attributes].some(a => a.name.startsWith("on") || a.name === "style" || (a.name === "href" && !/^(#|data:,$)/.test(a.value)) || a.name === "src")).length,
			Text: document.body.textContent,
		})`, &found)
		want := map[string]int{"script": 1, "style": 1, "link": 1, "meta": 5, "title": 1, "main": 1}
		for element, n := range found.Elements {
			if n != want[element] {
				t.Errorf("%d %s elements, want %d", n, element, want[element])
			}
		}
		if found.Harm != nil || found.Handlers != 0 {
			t.Errorf("harm %v, %d attributes that act", found.Harm, found.Handlers)
		}
		for _, h := range hostile {
			if !strings.Contains(found.Text, ui.Escape(h)) {
				t.Errorf("%q is nowhere to be read", h)
			}
		}
		p.fits()
		p.quiet(url)
		if v.width == 360 {
			p.accessible()
		}
	}
	if _, err := os.Stat("/tmp/harm"); err == nil {
		t.Error("a shell was run")
	}
}
