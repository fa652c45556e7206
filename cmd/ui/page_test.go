package ui

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
)

func pageOf(t *testing.T, r audit.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Page(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageEscapes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, 100%":              "plain, 100%",
		`<b> & "quoted" 'single'`:  "&lt;b&gt; &amp; &#34;quoted&#34; &#39;single&#39;",
		"&amp;":                    "&amp;amp;",
		"a\nb\x00c\u202ed\u200be":  `a\nb\x00c\u202ed\u200be`,
		"\xff":                     `\xff`,
		"名前 😀":                     "名前 😀",
		"</script>]]>-->":          "&lt;/script&gt;]]&gt;--&gt;",
		"<\u2028onclick=alert(1)>": `&lt;\u2028onclick=alert(1)&gt;`,
	} {
		var b bytes.Buffer
		m := newMarkup(&b)
		m.text(in)
		m.attr("x", in)
		if err := m.end(); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); got != want+` x="`+want+`"` {
			t.Errorf("%q is written %s", in, got)
		}
	}
}

// TestPageLiterals: what is written unescaped stands in the source. The compiler sees to it but for conversions, which are seen here.
func TestPageLiterals(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("page*.go")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		looked++
		in := ""
		ast.Inspect(tree, func(n ast.Node) bool {
			if f, ok := n.(*ast.FuncDecl); ok {
				in = f.Name.Name
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch f := call.Fun.(type) {
			case *ast.Ident:
				if _, constant := call.Args[0].(*ast.BasicLit); f.Name == "literal" && !constant && in != "source" {
					t.Errorf("%s: %s makes a literal of what is none", file, in)
				}
			case *ast.SelectorExpr:
				if (f.Sel.Name == "put" || f.Sel.Name == "escaped") && file != "page_markup.go" {
					t.Errorf("%s: %s writes past the escaping", file, in)
				}
			}
			return true
		})
	}
	if looked < 5 {
		t.Errorf("%d files only", looked)
	}
}

var pageNow = time.Date(2026, 11, 22, 8, 41, 0, 0, time.UTC)

// aging has one signature of each kind of remedy, each in a repository of its own, and certificates that look alike.
func aging() audit.Report {
	fail := pageNow.AddDate(0, 0, 14)
	r := audit.Report{Now: pageNow, ListBefore: pageNow.AddDate(0, 0, 60), FailBefore: &fail, Certificates: map[string]*audit.Certificate{}}
	for i, remedy := range []audit.Remedy{audit.RemedyRechain, audit.RemedyReissue, audit.RemedyTimestamp, audit.RemedyBoth, audit.RemedySign} {
		at := pageNow.AddDate(0, 0, 10*(i+1))
		name := "ghcr.io/acme/" + string(remedy)
		c := certchain.Certificate{Subject: "C=DE, O=Acme, CN=ca " + string(remedy), Issuer: "C=DE, O=Acme, CN=root", NotAfter: at}
		r.Certificates[strings.Repeat(string(rune('a'+i)), 64)] = &audit.Certificate{Certificate: c, Uses: []audit.EndKind{audit.EndIntermediate}}
		d := sha(name)
		r.Artifacts = append(r.Artifacts, audit.Artifact{Repository: name, Reference: name + "@" + d.String(), Digest: d, Tags: []string{"1.0"}, Signatures: []audit.Listed{
			{Digest: sha(name + "sig"), State: audit.StateCurrent, Ends: &at, EndKind: audit.EndIntermediate, Remedy: remedy, Identity: "C=DE, O=Acme, CN=release"},
			{Digest: sha(name + "old"), State: audit.StateSuperseded, By: sha(name + "sig")},
		}})
		r.Repositories = append(r.Repositories, audit.Repository{Name: name, Signatures: 2})
		r.Expiries = append(r.Expiries, audit.Expiry{At: at, Kind: audit.EndIntermediate, Subject: c.Subject, Signatures: 1, Remedy: remedy, Listed: true})
	}
	r.Counts = audit.Counts{Repositories: 5, Signatures: 10, Current: 5, Expiring: 5, Failing: 1, Needless: 5}
	return r
}

func TestPageIsItself(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]audit.Report{"empty": {Now: pageNow}, "aging": aging()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := pageOf(t, r)
			for range 20 { // certificates are in a map
				if again := pageOf(t, r); again != page {
					t.Fatal("the same report makes another page")
				}
			}
			for tag, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
				_, inner, _ := strings.Cut(page, "<"+tag+">")
				inner, _, ok := strings.Cut(inner, "</"+tag+">")
				sum := sha256.Sum256([]byte(inner))
				if want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !ok || inner == "" || !strings.Contains(page, want) {
					t.Errorf("the policy does not name the %s: %s", tag, want)
				}
			}
			if !strings.Contains(page, `content="default-src 'none'; `) {
				t.Error("the policy allows what it does not name")
			}
			if m := regexp.MustCompile(`(?i)https?://|\burl\(|@import|unsafe-`).FindString(page); m != "" {
				t.Errorf("the page has %q", m)
			}
		})
	}
}

func TestPageFailsWithItsFile(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	if err := Page(brokenWriter{full}, aging()); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

func TestPageNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	dns := []string{
		"C=DE, O=Acme, CN=release", "C=US, O=Evil, CN=release", // one common name
		"C=DE, O=Acme, CN=web", "C=FR, O=Acme, CN=web", // one organisation too
		"C=DE, O=Acme, CN=payments",
		"C=DE, O=Acme, CN=" + long + "a" + long, "C=DE, O=Acme, CN=" + long + "b" + long, // alike once they are cut
		"C=DE, O=Acme, CN=ev\u202eil", `C=DE, O=Acme, CN=ev\u202eil`, // alike once they are escaped
	}
	r := audit.Report{Certificates: map[string]*audit.Certificate{}}
	for i, dn := range dns {
		r.Certificates[string(rune('a'+i))] = &audit.Certificate{Certificate: certchain.Certificate{Subject: dn, Issuer: dn}}
	}
	n := namesIn(r)
	var got []string
	seen := map[string]bool{}
	for _, dn := range dns {
		s := n.short(dn)
		if seen[s] {
			t.Errorf("two names are shown as %s", s)
		}
		if Escape(s) != s || Width(s) > pageNameColumns+len(" (2)") {
			t.Errorf("shown as %q", s)
		}
		seen[s] = true
		got = append(got, s)
	}
	want := []string{"O=Acme, CN=release", "O=Evil, CN=release", "C=DE, O=Acme, CN=web", "C=FR, O=Acme, CN=web", "CN=payments"}
	if diff := cmp.Diff(want, got[:5]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPageCommands: what the page says to paste is, for a shell, the command with the items, and nothing else.
func TestPageCommands(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "imprint"), []byte("#!/bin/sh\nfor a; do printf '[%s]' \"$a\"; done\n[ \"$a\" = - ] && cat\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(command string) string {
		t.Helper()
		c := exec.Command(sh, "-c", command)
		c.Env, c.Dir = []string{"PATH=" + dir + ":/usr/bin:/bin"}, dir
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v %s", command, err, out)
		}
		return string(out)
	}
	p := page{markup: newMarkup(&bytes.Buffer{}), r: aging()}
	p.rows = rowsOf(p.r)
	var got []string
	for _, s := range p.planned() {
		got = append(got, run(s.command(pageNow)))
	}
	digest := sha("ghcr.io/acme/sign").String()
	want := []string{
		"[rechain][--all][--expiring][61d][--chain][new/][--dry-run][ghcr.io/acme/rechain]",
		"[rechain][--all][--expiring][61d][--chain][new/][--dry-run][ghcr.io/acme/rechain-leaf]",
		"[timestamp][--all][--expiring][61d][--timestamp-url][URL][--timestamp-roots][tsa-roots.pem][--dry-run][ghcr.io/acme/timestamp]",
		"[rechain][--all][--expiring][61d][--chain][new/][--timestamp-url][URL][--timestamp-roots][tsa-roots.pem][--dry-run][ghcr.io/acme/rechain-timestamp]",
		"[sign][--again][--key][KEY][--chain][chain.pem][--dry-run][ghcr.io/acme/sign:1.0@" + digest + "]",
		"[prune][--all][--batch][-]ghcr.io/acme/rechain\nghcr.io/acme/rechain-leaf\nghcr.io/acme/rechain-timestamp\nghcr.io/acme/sign\nghcr.io/acme/timestamp\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	hostile := []string{"'; touch harm; '", "$(touch harm)", "`touch harm`", "a\ntouch harm\n", "-rf", "END", "\"; touch harm #", `\`, "x y", "oci:dir of mine", "!!", "~root", "*"}
	for i, item := range hostile {
		if out := run(pageStep{items: []string{item}}.command(pageNow)); out != "[prune][--all]["+Escape(item)+"]" {
			t.Errorf("%q arrives as %s", item, out)
		}
		four := []string{"a", item, hostile[(i+1)%len(hostile)], "z"}
		if out := run(pageStep{items: four}.command(pageNow)); !strings.HasPrefix(out, "[prune][--all]") || !strings.HasSuffix(out, "z]") && !strings.HasSuffix(out, "z\n") {
			t.Errorf("%q arrive as %s", four, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "harm")); err == nil {
		t.Error("a name was run")
	}
}

func TestPageAnswers(t *testing.T) {
	t.Parallel()
	r := aging()
	calm := aging()
	calm.Counts.Expiring, calm.Counts.Failing = 0, 0
	for i := range calm.Expiries {
		calm.Expiries[i].Listed = false
	}
	over := aging()
	over.Expiries[0].At, over.Expiries[0].Ended, over.Counts.Ended, over.Counts.Failing = pageNow.AddDate(0, 0, -1), true, 1, 0
	over.Expiries[2].Signatures = 40
	for want, r := range map[string]audit.Report{
		"Urgent. First to end: 1 signature on 2026-12-02, in 10 days, with the CA certificate CN=ca rechain.":                                                                                                                   r,
		"Calm. First to end: 1 signature on 2026-12-02, in 10 days, with the CA certificate CN=ca rechain. Nothing ends before 2027-01-21.":                                                                                     calm,
		"Ended. 1 signature has ended. Next to end: 1 signature on 2026-12-12, in 20 days, with the CA certificate CN=ca rechain-leaf. Most: 40 signatures on 2026-12-22, in 30 days, with the CA certificate CN=ca timestamp.": over,
		"Nothing signed. No signature was found.": {Now: pageNow},
	} {
		p := page{r: r, names: namesIn(r)}
		word, _, text := p.answer()
		if got := string(word) + " " + text; got != want {
			t.Errorf("it says\n%s\nwant\n%s", got, want)
		}
	}
}
