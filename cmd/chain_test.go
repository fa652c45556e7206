package cmd

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/cmd/ui"
)

func TestChainCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.keys()
	leaf, issuer, root := chain[0], chain[1], chain[2]
	file := func(name string, certs ...*x509.Certificate) string {
		return w.file(name, string(certtest.PEM(certs...)))
	}
	of := func(edits ...certtest.Edit) []*x509.Certificate {
		_, c := certtest.ChainOf(3, "P-256", edits...)
		return c
	}
	only := func(f func(*x509.Certificate)) certtest.Edit {
		return func(c *x509.Certificate) {
			if !c.IsCA {
				f(c)
			}
		}
	}
	past := certtest.Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	ahead := certtest.Valid(time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour))
	other := w.file("other.key", string(certtest.KeyPEM(certtest.Key("P-256"))))
	stranger := certtest.Root("stranger").Certificate
	late := leaf.NotAfter.Add(24 * time.Hour).UTC().Format(time.DateOnly)
	early := leaf.NotBefore.Add(-48 * time.Hour).UTC().Format(time.RFC3339)

	for _, tt := range []struct {
		name string
		args []string
		want []string // rules
		hint string
	}{
		{"in order", []string{file("a.pem", leaf, issuer, root)}, nil, ""},
		{"A06 shuffled", []string{file("b.pem", root, leaf, issuer)}, nil, ""},
		{"of several files", []string{file("c1.pem", leaf), file("c2.pem", root), file("c3.pem", issuer)}, nil, ""},
		{"with its key", []string{w.path("chain.pem"), "--key", w.path("leaf.key")}, nil, ""},
		{"A01 with another key", []string{w.path("chain.pem"), "--key", other}, []string{"key-mismatch"}, "belong together"},
		{"A06 without root", []string{file("d.pem", leaf, issuer)}, []string{"incomplete"}, "up to the self-signed root"},
		{"A06 leaf only", []string{file("e.pem", leaf)}, []string{"incomplete"}, ""},
		{"A06 unrelated", []string{file("f.pem", leaf, issuer, root, stranger)}, []string{"unrelated"}, "imprint chain build"},
		{"A06 duplicate", []string{file("g.pem", leaf, issuer, root, root)}, []string{"duplicate"}, "imprint chain build"},
		{"A06 expired", []string{file("h.pem", of(past)...)}, []string{"expired"}, "renewed"},
		{"A06 not yet valid", []string{file("i.pem", of(ahead)...)}, []string{"not-yet-valid"}, ""},
		{"at a later date", []string{w.path("chain.pem"), "--at", late}, []string{"expired"}, ""},
		{"at a time before", []string{w.path("chain.pem"), "--at", early}, []string{"not-yet-valid"}, ""},
		{"late and for another key", []string{w.path("chain.pem"), "--at", late, "--key", other}, []string{"expired", "key-mismatch"}, ""},
		{"A05 too many usages", []string{file("j.pem", of(only(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }))...)},
			[]string{"leaf-key-usage"}, "imprint key csr"},
		{"A05 any extended usage", []string{file("k.pem", of(only(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }))...)},
			[]string{"leaf-extended-key-usage"}, ""},
		{"A05 a leaf for servers", []string{file("l.pem", of(only(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))...)},
			[]string{"leaf-extended-key-usage"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, verdict := 0, "valid"
			if len(tt.want) > 0 {
				code, verdict = 3, "invalid"
			}
			var got ui.CheckedChain
			answer := w.want(code, append([]string{"chain", "check", "-o", "json"}, tt.args...)...)
			decode(t, answer, &got)
			var rules []string
			for _, f := range got.Findings {
				rules = append(rules, f.Reason)
			}
			if !slices.Equal(rules, tt.want) || got.Valid != (code == 0) || !got.Valid && got.Reason != tt.want[0] {
				t.Errorf("rules %v, valid %v; want %v", rules, got.Valid, tt.want)
			}
			said := lines(answer.err)
			if code == 0 && len(said) != 0 || code != 0 && (len(said) != 1 || !strings.HasPrefix(said[0], "imprint: hint: ") || !strings.Contains(said[0], tt.hint)) {
				t.Errorf("want the hint %q: %q", tt.hint, answer.err)
			}
			text := w.want(code, append([]string{"chain", "check"}, tt.args...)...).out
			head, _, _ := strings.Cut(text, "\n")
			if !strings.HasPrefix(head, verdict+"  ") || len(tt.want) > 0 && !strings.HasSuffix(head, tt.want[0]) {
				t.Errorf("want %s %v: %s", verdict, tt.want, head)
			}
			if code == 0 && (!got.Complete || !got.HoldsUntil.Equal(leaf.NotAfter) || got.FirstToEnd != certchain.NameOf(leaf.RawSubject) ||
				got.Certificates[0].Thumbprint != certchain.Thumbprint(leaf)) {
				t.Errorf("got %+v", got)
			}
		})
	}
	complains(t, w.want(3, "chain", "check", w.path("chain.pem"), "--at", "soon"), `--at "soon" is no date`, "2027-03-31")
}

// TestChainKeyIsNotAmbient: a key of the surroundings says nothing of the chain that is asked about.
func TestChainKeyIsNotAmbient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.setenv("IMPRINT_KEY", w.path("none.key"))
	w.want(0, "chain", "check", w.path("chain.pem"))
	w.want(0, "chain", "build", w.path("chain.pem"))
}

func TestChainFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.keys()
	key, err := os.ReadFile(w.path("leaf.key"))
	if err != nil {
		t.Fatal(err)
	}
	var crowd []*x509.Certificate
	for range 17 {
		crowd = append(crowd, chain[0])
	}
	for name, tt := range map[string]struct{ file, reason string }{
		"A07 a key among the certificates": {w.file("mixed.pem", string(certtest.PEM(chain...))+string(key)), "private-key"},
		"A07 garbage":                      {w.file("garbage.pem", strings.Repeat("-----BEGIN ", 1000)), ""},
		"A07 too large":                    {w.file("large.pem", strings.Repeat("x", certchain.MaxBytes+1)), ""},
		"A07 too many":                     {w.file("crowd.pem", string(certtest.PEM(crowd...))), "too-many-certificates"},
		"A09 a device":                     {"/dev/zero", "usage"},
		"an empty file":                    {w.file("empty.pem", ""), "no-certificates"},
		"a folder without certificates":    {w.mkdir("hollow"), "usage"},
		"no file":                          {w.path("none.pem"), "usage"},
	} {
		for _, command := range []string{"show", "check", "build"} {
			complains(t, w.want(3, "chain", command, tt.file), "", "")
			r := w.want(3, "chain", command, tt.file, "-o", "json").reason(t)
			if r == "" || tt.reason != "" && r != tt.reason {
				t.Errorf("%s, %s: reason %q, want %q", name, command, r, tt.reason)
			}
		}
	}
}

func TestChainShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.keys()
	got := w.want(0, "chain", "show", w.path("chain.pem"))
	for _, c := range chain {
		if strings.Count(got.out, "sha256:"+certchain.Thumbprint(c)) != 1 {
			t.Errorf("the digest of %s is to stand there once:\n%s", c.Subject, got.out)
		}
	}
	if !strings.HasPrefix(got.out, "chain  ") || !strings.Contains(got.out, "holds until") {
		t.Error(got.out)
	}
	// CRLF, a BOM and text between the blocks are no matter.
	text := "\xef\xbb\xbfleaf\r\n" + strings.ReplaceAll(string(certtest.PEM(chain[1], chain[0], chain[2])), "\n", "\r\n")
	var shown ui.ShownChain
	decode(t, w.want(0, "chain", "show", w.file("A07.pem", text), "-o", "json"), &shown)
	if !shown.Complete || shown.Certificates[0].Thumbprint != certchain.Thumbprint(chain[0]) || shown.Finding != nil {
		t.Errorf("got %+v", shown)
	}
	shown = ui.ShownChain{}
	decode(t, w.want(0, "chain", "show", w.file("two.pem", string(certtest.PEM(chain[1], chain[0]))), "-o", "json"), &shown)
	if shown.Complete || shown.Finding == nil || shown.Finding.Reason != "incomplete" || shown.Finding.Certificate != certchain.Thumbprint(chain[1]) ||
		shown.Certificates[0].Thumbprint != certchain.Thumbprint(chain[1]) || shown.HoldsUntil != nil {
		t.Errorf("got %+v", shown)
	}
}

func TestChainBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.keys()
	want := certtest.PEM(chain...)
	stranger := certtest.Root("stranger").Certificate
	_, second := certtest.ChainOf(2, "P-256")

	pool := w.file("pool.pem", string(certtest.PEM(chain[2], stranger, chain[1], chain[2], chain[0])))
	got := w.want(0, "chain", "build", pool)
	if got.out != string(want) || !strings.Contains(got.err, "1 left out") {
		t.Errorf("%s%s", got.out, got.err)
	}
	out := w.path("built.pem")
	var built ui.BuiltChain
	decode(t, w.want(0, "chain", "build", pool, "--out", out, "-o", "json"), &built)
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, want) || built.PEM != string(want) {
		t.Errorf("%s, %v", b, err)
	}
	if len(built.LeftOut) != 1 || built.LeftOut[0].Thumbprint != certchain.Thumbprint(stranger) || !built.HoldsUntil.Equal(chain[0].NotAfter) {
		t.Errorf("got %+v", built)
	}
	text := w.want(0, "chain", "build", pool, "--key", w.path("leaf.key"), "--out", out, "--overwrite").out
	if !strings.HasPrefix(text, "built  ") || !strings.Contains(text, "left out:") || !strings.HasSuffix(text, "1 left out; 1 file written\n") {
		t.Error(text)
	}

	// A folder of files, DER among them.
	w.mkdir("folder")
	w.file("folder/leaf.der", string(chain[0].Raw))
	w.file("folder/rest.crt", string(certtest.PEM(chain[1:]...)))
	w.file("folder/README", "no certificate")
	if got := w.want(0, "chain", "build", w.path("folder")); got.out != string(want) {
		t.Error(got.out)
	}

	// Several leaves: the key decides.
	many := w.file("many.pem", string(certtest.PEM(slices.Concat(chain, second)...)))
	complains(t, w.want(3, "chain", "build", many), "2 leaves", "--key KEY")
	if got := w.want(0, "chain", "build", many, "--key", w.path("leaf.key")); got.out != string(want) {
		t.Error(got.out)
	}

	// A renewed leaf of the same key: the one that holds longest.
	authority := certtest.Root("two lives")
	key := certtest.Key("P-256")
	short := authority.Leaf(key.Public(), "release", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)))
	long := authority.Leaf(key.Public(), "release", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour)))
	got = w.want(0, "chain", "build", w.file("lives.pem", string(certtest.PEM(short, long, authority.Certificate))))
	if block, _ := pem.Decode([]byte(got.out)); block == nil || !bytes.Equal(block.Bytes, long.Raw) {
		t.Errorf("not the one that holds longest: %s", got.out)
	}

	for name, tt := range map[string]struct {
		args   []string
		reason string
	}{
		"A06 no root":       {[]string{w.file("x.pem", string(certtest.PEM(chain[:2]...)))}, "incomplete"},
		"A01 another key":   {[]string{pool, "--key", w.file("o.key", string(certtest.KeyPEM(certtest.Key("P-256"))))}, "key-mismatch"},
		"only authorities":  {[]string{w.path("root.pem")}, "leaf-basic-constraints"},
		"A05 a leaf for CA": {[]string{w.path("root.pem"), "--key", w.file("k.key", string(certtest.KeyPEM(key)))}, "key-mismatch"},
	} {
		file := w.path("never.pem")
		args := append([]string{"chain", "build", "--out", file}, tt.args...)
		complains(t, w.want(3, args...), "", "")
		if r := w.want(3, append(args, "-o", "json")...).reason(t); r != tt.reason {
			t.Errorf("%s: reason %s, want %s", name, r, tt.reason)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s: a file was written", name)
		}
	}
}

func TestChainLaterThings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	complains(t, w.want(3, "chain"), "chain what? show, build, check, compare", "--help")
	complains(t, w.want(3, "key", "genrate"), `unknown command "genrate"`, "did you mean imprint key generate?")
}
