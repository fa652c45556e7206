package e2e

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

const (
	runbook = "../docs/rotation.md"
	// docHost stands for the registry in the runbook. It is as long as 127.0.0.1:12345, so that tables stay aligned.
	docHost = "cr.acme.example"
	docTSA  = "http://ts.acme.example" // the same for http://127.0.0.1:12345
)

// TestRunbook runs the commands of docs/rotation.md, one after another, and compares what they print. UPDATE_DOCS=1 writes it anew. Comments
// of the page say what happens between them: the time, and what others do.
func TestRunbook(t *testing.T) {
	before, err := os.ReadFile(runbook)
	if err != nil {
		t.Fatal(err)
	}
	w := newRunbookWorld(t)
	page, err := filepath.Abs(runbook)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(w.dir)
	var out bytes.Buffer
	commands := 0
	lines := strings.SplitAfter(string(before), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		out.WriteString(line)
		if said, ok := strings.CutPrefix(line, "<!-- "); ok {
			w.happens(t, strings.TrimSuffix(strings.TrimSpace(said), " -->"))
		}
		if line != "```console\n" {
			continue
		}
		for i++; i < len(lines) && lines[i] != "```\n"; i++ {
			command, ok := strings.CutPrefix(lines[i], "$ ")
			if !ok {
				continue // printed by the last run
			}
			out.WriteString(lines[i])
			for strings.HasSuffix(command, "\\\n") {
				i++
				out.WriteString(lines[i])
				command = strings.TrimSuffix(command, "\\\n") + strings.TrimSpace(lines[i]) + "\n"
			}
			commands++
			out.WriteString(w.types(t, strings.TrimSpace(command)))
		}
		out.WriteString("```\n")
	}
	if commands < 8 && os.Getenv("UPDATE_DOCS") == "" {
		t.Errorf("%d commands", commands)
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(page, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, is := strings.Split(nameless(string(before)), "\n"), strings.Split(nameless(out.String()), "\n")
	for i := range is {
		if i >= len(was) || was[i] != is[i] {
			t.Fatalf("line %d of %s is not what imprint prints (UPDATE_DOCS=1 writes it anew):\n%q\nis now\n%q", i+1, runbook, append(was, "")[min(i, len(was))], is[i])
		}
	}
	if len(was) != len(is) {
		t.Errorf("%d lines, want %d", len(was), len(is))
	}
}

var hexDigest = regexp.MustCompile(`\b([0-9a-f]{64}|[0-9a-f]{12})\b`)

// nameless replaces digests, which are others in each run.
func nameless(text string) string {
	return hexDigest.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("0", len(s)) })
}

type runbookWorld struct {
	*person
	server   *regtest.Server
	tsa      *tsatest.Authority
	tsaURL   string
	root, ca *certtest.Authority
	leaf     *x509.Certificate
	clock    time.Time
	code     int
}

func newRunbookWorld(t *testing.T) *runbookWorld {
	w := &runbookWorld{person: newPerson(t)}
	for w.server == nil || len(w.server.Host) != len(docHost) {
		w.server = regtest.New(t, regtest.WithAPI)
	}
	w.now = func() time.Time { return w.clock }
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for len(w.tsaURL) != len(docTSA) {
		w.tsa = tsatest.New(tsatest.Options{Name: "Acme TSA", Accuracy: time.Second, Now: w.now,
			Root:  certtest.Root("Acme TSA Root", certtest.Valid(day("2020-01-01"), day("2040-01-01"))),
			Edits: []certtest.Edit{certtest.Valid(day("2025-01-01"), day("2035-01-01"))}})
		w.tsaURL = w.tsa.Start()
		t.Cleanup(w.tsa.Stop)
	}
	w.root = certtest.Root("Acme Root", certtest.Valid(day("2016-01-01"), day("2036-01-01")))
	w.ca = w.root.Intermediate("Acme Code Signing CA 3", certtest.Valid(day("2021-01-03"), day("2027-01-03")))
	key := certtest.Key("P-384")
	w.leaf = w.ca.Leaf(key.Public(), "release 2026", certtest.Valid(day("2026-04-01"), day("2028-04-01")))
	chain := w.file("chain.pem", certtest.PEM(w.ca.Chain(w.leaf)...))
	keyFile := w.file("release.key", certtest.KeyPEM(key))
	w.file("old-ca-3.pem", certtest.PEM(w.ca.Certificate))
	w.file("acme-root.pem", certtest.PEM(w.root.Certificate))
	w.file("tsa-root.pem", certtest.PEM(w.tsa.Roots()...))
	w.file("prod.yaml", []byte("version: 1\nroots:\n  acme: acme-root.pem\ntimestamps: {roots: [tsa-root.pem], use: after-cert-expiry}\nscopes:\n  \""+w.server.Host+"\": [acme]\n"))
	w.clock = time.Date(2026, 6, 2, 9, 30, 0, 0, time.UTC)
	var list []string
	for i, name := range []string{"payments/api:2.8.1", "payments/web:1.4.2", "payments/db:16.4"} {
		ref := w.server.Host + "/" + name
		repo, tag, _ := cutLast(ref, ":")
		if err := image(name).push(repo, tag); err != nil {
			t.Fatal(err)
		}
		args := []string{"sign", ref, "--key", "file:" + keyFile, "--chain", chain}
		if i == 0 {
			args = append(args, "--timestamp-url", w.tsaURL, "--timestamp-roots", filepath.Join(w.dir, "tsa-root.pem"), "--allow-private")
		}
		w.want(t, 0, "", args...)
		list = append(list, repo)
	}
	w.file("repos.txt", []byte(strings.Join(list, "\n")+"\n"))
	return w
}

// happens is what others do, as a comment of the page says it; a time sets the clock.
func (w *runbookWorld) happens(t *testing.T, what string) {
	if at, err := time.Parse("2006-01-02 15:04", what); err == nil {
		w.clock = at
		return
	}
	switch what {
	case "the key is switched off":
		if err := os.Remove(filepath.Join(w.dir, "release.key")); err != nil {
			t.Fatal(err)
		}
	case "the CA renews the intermediate":
		renewed := w.root.IntermediateWith(w.ca.Key, "Acme Code Signing CA 3", certtest.Valid(w.clock.Add(-24*time.Hour), w.clock.AddDate(5, 0, 0)))
		w.file("new-ca-3.pem", certtest.PEM(renewed.Certificate))
		w.file("new-chain.pem", certtest.PEM(renewed.Certificate, w.root.Certificate, w.leaf))
	default:
		t.Fatalf("nobody knows how %q happens", what)
	}
}

// types runs a command as it stands on the page and returns what a person sees.
func (w *runbookWorld) types(t *testing.T, command string) string {
	switch words := strings.Fields(strings.NewReplacer(docHost, w.server.Host, docTSA, w.tsaURL).Replace(command)); {
	case command == "echo $?":
		return fmt.Sprintln(w.code)
	case words[0] == "cat":
		b, err := os.ReadFile(words[1])
		if err != nil {
			t.Fatal(err)
		}
		return w.shown(string(b))
	case words[0] == "imprint":
		if strings.Contains(command, docTSA) {
			words = append(words, "--allow-private") // the authority of this test is on this machine
		}
		o := w.run(t, words[1:]...)
		w.code = o.code
		return w.shown(sorted(o.stdout) + o.stderr)
	}
	t.Fatalf("nobody knows how to run %q", command)
	return ""
}

// sorted puts the lines about one item each, and what they came to, into an order: they are printed as things get done.
func sorted(text string) string {
	lines := strings.SplitAfter(text, "\n")
	about := func(i int) bool {
		return i < len(lines) && strings.Contains(lines[i], "/payments/") && !strings.HasPrefix(lines[i], " ")
	}
	for i := 0; i < len(lines); i++ {
		end := i
		for about(end) {
			end++
		}
		slices.Sort(lines[i:end])
		i = max(i, end-1)
		if counts, items, ok := strings.Cut(lines[i], " of "); ok && strings.HasPrefix(items, "3 items") {
			words := strings.Split(counts, ", ")
			slices.Sort(words)
			lines[i] = strings.Join(words, ", ") + " of " + items
		}
	}
	return strings.Join(lines, "")
}

func (w *runbookWorld) shown(text string) string {
	return strings.NewReplacer(w.server.Host, docHost, w.tsaURL, docTSA, strings.TrimPrefix(w.tsaURL, "http://"), strings.TrimPrefix(docTSA, "http://")).Replace(text)
}
