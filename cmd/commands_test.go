package cmd

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"crypto/x509/pkix"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/keyfile"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestUsageErrors: one error line, one hint, exit 3.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args string
		says string
		hint string
	}{
		{"no command", "", "which command?", ""},
		{"an unknown command", "sing oci:a:1", `unknown command "sing"`, "did you mean imprint sign?"},
		{"an unknown command of a family", "policy exprot", `unknown command "exprot"`, "did you mean imprint policy export?"},
		{"a surplus argument", "copy oci:a:1 oci:b oci:c", `imprint copy takes SRC DST: "oci:c" is one too many`, "usage: imprint copy SRC DST"},
		{"a missing argument", "copy oci:a:1", "imprint copy takes SRC DST", "usage: imprint copy SRC DST"},
		{"an argument where there is none", "version now", `"now" is one too many`, "usage: imprint version"},
		{"an unknown flag", "verify oci:a:1 --polcy p", "unknown flag --polcy", "did you mean --policy?"},
		{"an unknown flag like none", "verify oci:a:1 --frobnicate", "unknown flag --frobnicate", "imprint verify --help"},
		{"an unknown letter", "verify oci:a:1 -x", "unknown flag -x", "imprint verify --help"},
		{"lists and nothing to judge by", "copy oci:a:1 oci:b:1 --crl x", "--crl without a policy or a root", "--policy FILE"},
		{"a flag without value", "sign oci:a:1 --key", "flag needs an argument: --key", ""},
		{"another output", "version -o yaml", "--output yaml: it is text or json", ""},
		{"no key", "sign oci:a:1", "no key to sign with", "--key file:"},
		{"no key but a chain", "sign oci:a:1 --chain c.pem", "no key to sign with", "--key file:"},
		{"no chain", "sign oci:a:1 --key ./k.key", "no certificate chain to sign with", "--chain"},
		{"no artifact", "verify reg.example/app --root r.pem", "names no artifact", "reg.example/app:TAG"},
		{"no host", "verify app:1 --root r.pem", "", ""},
		{"an archive", "sign oci-archive:a.tar:1 --key ./k.key --chain c.pem", "takes no signature", "imprint copy oci-archive:a.tar:1 oci:DIR"},
		{"claims and none", "sign oci:a:1 --no-claims --claim 1", "exclude each other", ""},
		{"a format", "sign oci:a:1 --signature-format pgp", "--signature-format pgp: it is jws or cose", ""},
		{"a policy and a root", "verify oci:a:1 --policy p --root r", "--root and --policy exclude each other", ""},
		{"an identity without a root", "verify oci:a:1 --policy p --identity CN=x", "--identity belongs to --root", ""},
		{"judging without a policy", "copy oci:a:1 oci:b --require-claim", "--require-claim without a policy or a root", "--policy FILE"},
		{"referrers", "copy oci:a:1 oci:b --referrers some", "--referrers some", ""},
		{"a tag", "copy oci:a:1 oci:b --tag a/b", `--tag "a/b" is not a tag`, ""},
		{"a destination by digest", "copy oci:a:1 oci:b@sha256:4f0c6f5bb1d7a3e0f0a6c1b2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f60", "the source says which digest", ""},
		{"rechain without certificates", "rechain oci:a:1", "no certificates to build a new chain from", "--chain FILE"},
		{"rechain of an archive", "rechain oci-archive:a.tar:1 --chain ROOT", "takes no signature", ""},
		{"no shell", "completion bsah", `no completion for "bsah"`, "did you mean imprint completion bash?"},
		{"no topic", "help keyz", `no help on "keyz"`, "did you mean imprint help keys?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.keys()
			args := strings.Fields(strings.ReplaceAll(tt.args, "ROOT", w.path("root.pem")))
			got := w.want(3, args...)
			errs := slices.DeleteFunc(lines(got.err), func(l string) bool { return !strings.HasPrefix(l, "imprint: error: ") })
			if len(errs) != 1 || !strings.Contains(errs[0], tt.says) {
				t.Errorf("errors %q, want one with %q", errs, tt.says)
			}
			if !strings.Contains(got.err, tt.hint) || tt.hint != "" && !strings.Contains(got.err, "imprint: hint: ") {
				t.Errorf("stderr %q, want the hint %q", got.err, tt.hint)
			}
			if tt.name == "another output" || tt.name == "a flag without value" {
				return
			}
			asJSON := w.want(3, append(args, "-o", "json")...)
			if asJSON.reason(t) == "" {
				t.Errorf("the error has no reason code: %s", asJSON.out)
			}
		})
	}
}

// TestErrorInJSON: an object on standard output, the text on standard error.
func TestErrorInJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.want(3, "verify", "oci:a:1", "-o", "json")
	var line map[string]any
	if err := json.Unmarshal([]byte(got.out), &line); err != nil {
		t.Fatalf("%q: %v", got.out, err)
	}
	keys := slices.Sorted(maps.Keys(line))
	if !slices.Equal(keys, []string{"error", "exitCode", "hint", "kind", "reason"}) || line["kind"] != "error" || line["exitCode"] != 3.0 || line["reason"] != "no-policy" {
		t.Errorf("the object is %v", line)
	}
	if !strings.Contains(got.err, "imprint: error: ") {
		t.Errorf("stderr %q has no text", got.err)
	}
}

func TestNoPolicyNamesThePlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.want(3, "verify", "reg.example/a:1")
	for _, want := range []string{"verify reg.example/a:1: no trust policy: looked for --policy, IMPRINT_POLICY, " + w.path("home/.config/imprint/policy.yaml") + ", " + w.path("etc/policy.yaml"),
		"imprint: hint: judge by one certificate: --root FILE", "imprint inspect reg.example/a:1"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("stderr %q, want %q in it", got.err, want)
		}
	}
}

// TestHelp: every command says what it does, shows an example and its exit codes, within 100 columns.
func TestHelp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, l := range commands(newSession(w.env)) {
		name := l.command.Name()
		got := w.want(0, name, "--help")
		if help := w.want(0, "help", name); help.out != got.out && topic(name) == "" {
			t.Errorf("imprint help %s is not imprint %s --help", name, name)
		}
		if len(l.command.Commands()) == 0 {
			for _, part := range []string{"Usage: imprint " + name, "Examples\n", "Exit codes\n"} {
				if !strings.Contains(got.out, part) {
					t.Errorf("imprint %s --help has no %q", name, part)
				}
			}
		}
	}
	for name, page := range Reference() {
		inside := false // a code block: what a terminal shows
		for _, line := range strings.Split(page, "\n") {
			if line == "```" {
				inside = !inside
			} else if n := len([]rune(line)); inside && n > 100 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
	root := w.want(0, "--help").out
	for _, line := range strings.Split(root, "\n") {
		if n := len([]rune(line)); n > 100 {
			t.Errorf("imprint --help: %d columns: %s", n, line)
		}
	}
	for _, topic := range topicNames() {
		if out := w.want(0, "help", topic).out; len(lines(out)) < 5 {
			t.Errorf("imprint help %s says %q", topic, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := w.want(0, "completion", shell); !strings.Contains(got.out, "imprint") {
			t.Errorf("completion for %s: %.80q", shell, got.out)
		}
	}
	if got := w.want(0, "__complete", "ver"); !strings.Contains(got.out, "verify\t") {
		t.Errorf("completing ver: %q", got.out)
	}
}

// TestQuiet leaves answers and errors.
func TestQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	if loud := w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "--dry-run")...); !strings.Contains(loud.err, "imprint: warning: ") {
		t.Fatalf("signing a tag warns of nothing: %q", loud.err)
	}
	got := w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "-q")...)
	if got.err != "" || !strings.HasPrefix(got.out, "signed  ") {
		t.Errorf("out %q, err %q", got.out, got.err)
	}
	if got := w.want(4, "inspect", "oci:"+w.path("lay")+":9", "-q"); !strings.Contains(got.err, "imprint: error: ") {
		t.Errorf("err %q", got.err)
	}
}

// TestSigningATagWarnsOnce and shows the reference to use instead.
func TestSigningATagWarnsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	d := w.image("lay", "one", "1.0", "2.0")
	lay := "oci:" + w.path("lay")
	got := w.want(0, w.sign(lay+":1.0", lay+":2.0", "--dry-run")...)
	if n := strings.Count(got.err, "since a tag can move"); n != 1 {
		t.Errorf("%d warnings: %s", n, got.err)
	}
	if !strings.Contains(got.err, "@"+d.String()) {
		t.Errorf("stderr %q does not show the digest", got.err)
	}
	if got := w.want(0, w.sign(lay+":1.0@"+d.String(), "--dry-run")...); got.err != "" {
		t.Errorf("signing by digest says %q", got.err)
	}
}

// TestA16Metadata: what may not be signed is refused before anything is written.
func TestA16Metadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	before := w.tree("lay")
	var many []string
	for i := range 10_000 {
		many = append(many, "-m", "key"+strings.Repeat("0", i%10)+time.Duration(i).String()+"=value")
	}
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"A16 a reserved name", []string{"-m", "io.cncf.notary.x=1"}},
		{"A16 a reserved name of imprint", []string{"-m", "io.imprint.claims=[]"}},
		{"A16 no UTF-8", []string{"-m", "a=\xff\xfe"}},
		{"A16 one mebibyte", []string{"-m", "a=" + strings.Repeat("x", 1<<20)}},
		{"A16 ten thousand", many},
		{"A16 no value", []string{"-m", "a"}},
		{"A16 no name", []string{"-m", "=a"}},
		{"A16 the same twice", []string{"-m", "a=1", "-m", "a=2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.want(3, w.sign("oci:"+w.path("lay")+":1.0", tt.args...)...)
			if after := w.tree("lay"); !maps.Equal(before, after) {
				t.Error("something was written")
			}
		})
	}
	// What may be signed comes back byte for byte.
	value := "<>&\u2028\u2029\"\\ \x7f é"
	w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "-m", "odd="+value)...)
	got := w.want(0, "verify", "oci:"+w.path("lay")+":1.0", "--root", w.path("root.pem"), "-o", "json")
	var r struct {
		Signatures []struct{ Metadata map[string]string }
	}
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Signatures) != 1 || r.Signatures[0].Metadata["odd"] != value {
		t.Errorf("signed %q, read %q", value, r.Signatures)
	}
}

// TestA17Claims: a claim is a tag or a full name, in canonical form.
func TestA17Claims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	before := w.tree("lay")
	for _, claim := range []string{"../x", "a b", ".hidden", strings.Repeat("x", 129), "reg.example/app", "latest\n"} {
		got := w.want(3, w.sign("oci:"+w.path("lay")+":1.0", "--claim", claim, "-o", "json")...)
		if r := got.reason(t); r != "claim-invalid" {
			t.Errorf("--claim %q: reason %s", claim, r)
		}
	}
	for _, name := range []string{"app:1", "reg.example/App:1", "reg.example/a@sha256:00", "https://reg.example/a", "docker.io/alpine"} {
		got := w.want(3, w.sign("oci:"+w.path("lay")+":1.0", "--claim-name", name, "-o", "json")...)
		if r := got.reason(t); r != "claim-invalid" {
			t.Errorf("--claim-name %q: reason %s", name, r)
		}
	}
	if after := w.tree("lay"); !maps.Equal(before, after) {
		t.Error("something was written")
	}
	got := w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "--claim-name", "REG.example:443/app:1", "--claim-name", "index.docker.io/library/app", "--claim", "1.0", "-o", "json")...)
	if !strings.Contains(got.out, `"claims":["1.0","docker.io/library/app","reg.example/app:1"]`) {
		t.Errorf("claims in %s", got.out)
	}
}

// TestA18Expiry: an expiry lies ahead.
func TestA18Expiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	for _, expiry := range []string{"0", "0d", "-90d", "90", "d", "1.5d", "9999999999h", "99999999999999999999d", "10h10d", "2020-01-01", " 9d", "9d ", "106751d23h48m"} {
		w.want(3, w.sign("oci:"+w.path("lay")+":1.0", "--expiry", expiry)...)
	}
	w.want(3, w.sign("oci:"+w.path("lay")+":1.0", "--expiry", "9999999h")...) // beyond what a time stamp can write, or the year 9999
	got := w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "--expiry", "90000d", "--dry-run")...)
	if !strings.Contains(got.err, "warning: ") || !strings.Contains(got.err, "expiry") {
		t.Errorf("an expiry after the certificate's end: %q, want a warning", got.err)
	}
	w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "--expiry", "1d12h")...)
}

// TestA19Clock: a clock outside the certificates' validity.
func TestA19Clock(t *testing.T) {
	t.Parallel()
	for _, year := range []int{1970, 2100} {
		w := newWorld(t)
		w.keys()
		w.image("lay", "one", "1.0")
		before := w.tree("lay")
		w.env.Now = func() time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
		got := w.want(3, w.sign("oci:"+w.path("lay")+":1.0", "-o", "json")...)
		if r := got.reason(t); r != "clock" {
			t.Errorf("%d: reason %s", year, r)
		}
		if !strings.Contains(got.err, "clock") || !maps.Equal(before, w.tree("lay")) {
			t.Errorf("%d: %s", year, got.err)
		}
	}
}

// TestA21ClaimMoves: a claim that another digest under that tag holds by the same identity.
func TestA21ClaimMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	lay := "oci:" + w.path("lay")
	w.image("lay", "one", "latest")
	w.want(0, w.sign(lay+":latest")...)
	d := w.image("lay", "two", "2.0")
	got := w.want(1, w.sign(lay+"@"+d.String(), "--claim", "latest", "-o", "json")...)
	if r := got.reason(t); r != "claim-moves" || !strings.Contains(got.err, "imprint: hint: ") {
		t.Errorf("reason %s, stderr %s", r, got.err)
	}
	w.want(0, w.sign(lay+"@"+d.String(), "--claim", "latest", "--move", "lat*")...)
}

// TestA22TwiceTheSame: no second signature unless --again.
func TestA22TwiceTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.want(0, w.sign("oci:"+w.path("lay")+":1.0")...)
	before := w.tree("lay")
	if got := w.want(0, w.sign("oci:"+w.path("lay")+":1.0")...); !strings.HasPrefix(got.out, "already signed  ") {
		t.Errorf("the second run says %q", lines(got.out)[0])
	}
	if !maps.Equal(before, w.tree("lay")) {
		t.Error("the second run wrote something")
	}
	now := time.Now().Add(time.Minute)
	w.env.Now = func() time.Time { return now }
	w.want(0, w.sign("oci:"+w.path("lay")+":1.0", "--again")...)
	if maps.Equal(before, w.tree("lay")) {
		t.Error("--again wrote nothing")
	}
}

// TestA23Redaction: no secret in any output, whatever goes wrong.
func TestA23Redaction(t *testing.T) {
	t.Parallel()
	const password, token, passphrase, pin = "pw-4711-secret", "token-0815-secret", "phrase-1234-secret", "pin-9876-secret"
	secrets := []string{password, token, passphrase, pin, base64.StdEncoding.EncodeToString([]byte("me:" + password))}
	w := newWorld(t)
	w.keys()
	key, pem, err := keyfile.Generate("P-256", []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	_ = key
	w.file("secret.key", string(pem))
	w.file("wrong", passphrase+"-wrong\n")
	w.setenv("IMPRINT_PASSPHRASE", passphrase)
	// A registry that refuses everybody, and says back what it was told.
	s := regtest.New(t, regtest.WithAPI)
	s.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		rw.Header().Set("WWW-Authenticate", `Basic realm="`+r.Header.Get("Authorization")+`"`)
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusUnauthorized)
		_, _ = rw.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"you sent ` + r.Header.Get("Authorization") + ` ` + password + `"}]}`))
		return true
	})
	w.file("docker/config.json", `{"auths":{"`+s.Host+`":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("me:"+password))+`","identitytoken":"`+token+`"}}}`)
	ref := s.Host + "/app:1"
	runs := [][]string{
		w.sign(ref),
		{"sign", ref, "--key", w.path("secret.key"), "--chain", w.path("chain.pem")},
		{"sign", ref, "--key", w.path("secret.key"), "--chain", w.path("chain.pem"), "--passphrase-file", w.path("wrong")},
		{"sign", ref, "--key", "pkcs11:token=t;object=o?pin-value=" + pin, "--chain", w.path("chain.pem")},
		{"sign", ref, "--key", "https://me:" + pin + "@vault.example/v1/transit/keys/k", "--chain", w.path("chain.pem")},
		{"verify", ref, "--root", w.path("root.pem")},
		{"inspect", ref}, {"tree", ref},
		{"copy", ref, "oci:" + w.path("x")},
		{"rechain", ref, "--chain", w.path("chain.pem")},
		{"verify", "me:" + password + "@" + ref, "--root", w.path("root.pem")},
	}
	for _, args := range runs {
		for _, more := range [][]string{nil, {"-o", "json"}} {
			got := w.run(append(slices.Clone(args), more...)...)
			if got.code == 0 {
				t.Errorf("imprint %v succeeded", args)
			}
			for _, secret := range secrets {
				// What the caller typed as a reference comes back; a reference is no place for a password.
				if args[1] == "me:"+password+"@"+ref && secret == password {
					continue
				}
				if strings.Contains(got.out+got.err, secret) {
					t.Errorf("imprint %v shows %q:\n%s%s", args, secret, got.out, got.err)
				}
			}
		}
	}
}

// TestA24TerminalEscapes: what comes from outside reaches no terminal as it is, and JSON stays valid.
func TestA24TerminalEscapes(t *testing.T) {
	t.Parallel()
	const evil = "x\x1b[31m\x1b]0;title\x07\r\nfake: accepted\u202e\u200b\u2066\x9b"
	w := newWorld(t)
	key, chain := certtest.ChainOf(3, "P-256", certtest.Subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme"}, CommonName: strings.TrimSuffix(evil, "\x9b")}))
	w.file("leaf.key", string(certtest.KeyPEM(key)))
	w.file("chain.pem", string(certtest.PEM(chain...)))
	w.file("root.pem", string(certtest.PEM(chain[2])))
	w.image("lay", "one", "1.0")
	lay := "oci:" + w.path("lay")
	meta := strings.TrimSuffix(evil, "\x9b")
	runs := []struct {
		code int
		args []string
	}{
		{3, w.sign(lay+":1.0", "-m", meta+"="+meta)},
		{0, w.sign(lay+":1.0", "-m", "plain=x")},
		{0, []string{"verify", lay + ":1.0", "--root", w.path("root.pem")}},
		{1, []string{"verify", lay + ":1.0", "--root", w.path("root.pem"), "--identity", "CN=other"}},
		{0, []string{"inspect", lay + ":1.0"}},
		{0, []string{"tree", lay + ":1.0"}},
		{0, []string{"copy", lay + ":1.0", "oci:" + w.path("dst")}},
		{0, []string{"rechain", lay + ":1.0", "--chain", w.path("chain.pem"), "--dry-run"}},
		{4, []string{"inspect", lay + ":" + "9"}},
		{3, []string{"inspect", lay + ":" + evil}},
		{3, []string{"verify", evil, "--root", w.path("root.pem")}},
		{3, []string{"sign", lay + ":1.0", "--claim", evil, "--key", w.path("leaf.key"), "--chain", w.path("chain.pem")}},
		{3, []string{evil}},
		{3, []string{"version", "--" + evil}},
		{3, []string{"inspect", lay + ":1.0", "--batch", evil}},
	}
	for _, r := range runs {
		got := w.want(r.code, r.args...)
		for _, c := range got.out + got.err {
			if c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == '\u202e' || c == '\u200b' || c == '\u2066' {
				t.Errorf("imprint %q writes %q:\n%s%s", r.args, c, got.out, got.err)
				break
			}
		}
		for _, l := range lines(got.out + got.err) {
			if strings.HasPrefix(strings.TrimSpace(l), "fake: accepted") {
				t.Errorf("imprint %q writes a line of the attacker's: %q", r.args, l)
			}
		}
		asJSON := w.run(append(slices.Clone(r.args), "-o", "json")...)
		for _, l := range lines(asJSON.out) {
			if !json.Valid([]byte(l)) {
				t.Errorf("imprint %q -o json writes %q", r.args, l)
			}
		}
	}
}

// TestColourOnlyOnATerminal, only in the first word, and NO_COLOR is honoured.
func TestColourOnlyOnATerminal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		terminal bool
		environ  []string
		colour   bool
	}{
		{"piped", false, []string{"TERM=xterm-256color"}, false},
		{"piped and forced", false, []string{"TERM=xterm-256color", "CLICOLOR_FORCE=1"}, false},
		{"a terminal", true, []string{"TERM=xterm-256color"}, true},
		{"NO_COLOR", true, []string{"TERM=xterm-256color", "NO_COLOR=1"}, false},
		{"a dumb terminal", true, []string{"TERM=dumb"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.keys()
			w.image("lay", "one", "1.0")
			w.want(0, w.sign("oci:"+w.path("lay")+":1.0")...)
			w.env.Terminal.Out = tt.terminal
			w.env.Environ = append(w.env.Environ, tt.environ...)
			got := w.want(0, "verify", "oci:"+w.path("lay")+":1.0", "--root", w.path("root.pem"))
			if strings.Contains(got.out, "\x1b[") != tt.colour {
				t.Errorf("colour %v, want %v: %q", !tt.colour, tt.colour, got.out)
			}
			if tt.colour {
				_, rest, _ := strings.Cut(got.out, "accepted")
				if n := strings.Count(rest, "\x1b["); n > 1 { // the end of the first word's colour
					t.Errorf("more than the first word is coloured: %q", got.out)
				}
			}
		})
	}
}

// TestErrorsWrapOnATerminal at its width, and are one line elsewhere.
func TestErrorsWrapOnATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.want(3, "verify", "reg.example/a:1"); len(lines(got.err)) != 2 {
		t.Errorf("%d lines, want an error and a hint: %q", len(lines(got.err)), got.err)
	}
	w.env.Terminal.Err, w.env.Terminal.Width = true, 72
	got := w.want(3, "verify", "reg.example/a:1")
	if len(lines(got.err)) < 4 {
		t.Errorf("not wrapped: %q", got.err)
	}
	for _, l := range lines(got.err) {
		if !strings.HasPrefix(l, "imprint: ") && !strings.HasPrefix(l, "         ") {
			t.Errorf("the line %q is not indented", l)
		}
		if len(l) > 72 && strings.Contains(strings.TrimSpace(l), " ") && !strings.Contains(l, w.dir) {
			t.Errorf("%d columns: %q", len(l), l)
		}
	}
}

// TestPassphrases come from a descriptor, a file, a variable or the person, in this order, and never from the arguments.
func TestPassphrases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	root := certtest.Root("Root")
	key, pem, err := keyfile.Generate("P-256", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	w.file("leaf.key", string(pem))
	w.file("chain.pem", string(certtest.PEM(root.Chain(root.Leaf(key.Public(), "leaf"))...)))
	args := w.sign("oci:"+w.path("lay")+":1.0", "--dry-run")
	if got := w.want(3, args...); !strings.Contains(got.err, "imprint: hint: the passphrase: --passphrase-file") {
		t.Errorf("nobody to ask: %q", got.err)
	}
	w.want(0, append(args, "--passphrase-file", w.file("right", "open sesame\n"))...)
	w.want(3, append(args, "--passphrase-file", w.file("wrong", "open barley\n"))...)
	w.want(3, append(args, "--passphrase-file", w.file("lines", "open sesame\nx\n"))...)
	w.want(3, append(args, "--passphrase-file", "/dev/zero")...)

	v := *w
	v.env.Environ = append(slices.Clone(w.env.Environ), "IMPRINT_PASSPHRASE=open sesame")
	v.want(0, args...)
	v.want(3, append(args, "--passphrase-file", w.path("wrong"))...) // a flag before the environment

	for text, code := range map[string]int{
		"open sesame\n": 0, "open sesame\n" + strings.Repeat("\n", 5000): 3, strings.Repeat("x", 4<<10) + "y": 3,
	} {
		r, pipe, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = pipe.WriteString(text)
		pipe.Close()
		defer r.Close()
		fd, err := syscall.Dup(int(r.Fd())) // imprint closes it
		if err != nil {
			t.Fatal(err)
		}
		got := w.want(code, append(args, "--passphrase-fd", strconv.Itoa(fd))...)
		if code != 0 && !strings.Contains(got.err, "the passphrase is longer than 4096 bytes") {
			t.Errorf("%d bytes: %q", len(text), got.err)
		}
	}

	named := w.file("conf.yaml", "keys:\n  release: {key: leaf.key, chain: chain.pem, passphrase-file: right}\n")
	w.want(0, "sign", "oci:"+w.path("lay")+":1.0", "--dry-run", "--key", "release", "--config", named)
	other := w.file("other.yaml", "keys:\n  release: {key: leaf.key, chain: chain.pem, passphrase-file: wrong}\n")
	of := []string{"sign", "oci:" + w.path("lay") + ":1.0", "--dry-run", "--key", "release", "--config", other}
	w.want(3, of...)
	w.want(0, append(of, "--passphrase-file", w.path("right"))...) // a flag before the configuration
	if got := w.want(3, append(args, "--passphrase", "open sesame")...); !strings.Contains(got.err, "unknown flag --passphrase") {
		t.Errorf("stderr %q", got.err)
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                              "plain",
		"https://me:pw@host/app:1 and more":  "https://…@host/app:1 and more",
		`a "https://me:p@w@host" b://x:y@z`:  `a "https://…@host" b://…@z`,
		"reg.example/app:1@sha256:00":        "reg.example/app:1@sha256:00",
		"https://host/app:1@sha256:00":       "https://host/app:1@sha256:00",
		"https://reg.example:5000@sha256:00": "https://reg.example:5000@sha256:00",
		"awskms:///alias/release":            "awskms:///alias/release",
		"opening key pkcs11:object=k?pin-source=file%3A%2Fpin&module-path=/p.so: no":  "opening key pkcs11:object=k?pin-source=…&module-path=/p.so: no",
		"opening key pkcs11:object=k?module-path=/p.so&pin-value=12;3:4: no":          "opening key pkcs11:object=k?module-path=/p.so&pin-value=…: no",
		"PKCS11:object=k;PIN-VALUE=1 and 'pin-value=2' (pin-source=/p), pin-source=":  "PKCS11:object=k;PIN-VALUE=… and 'pin-value=…' (pin-source=…), pin-source=",
		"give the PIN's file in the URI (pin-source=FILE), or use pin-source=FILE: x": "give the PIN's file in the URI (pin-source=FILE), or use pin-source=FILE: x",
		"pin-value=FILE": "pin-value=…",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestWarningsThatTheErrorSaysAreDropped: one error, one hint.
func TestWarningsThatTheErrorSaysAreDropped(t *testing.T) {
	t.Parallel()
	var talk strings.Builder
	w := newWorld(t)
	w.env.Out, w.env.Err = &talk, &talk
	s := newSession(w.env)
	s.warn("digest-mismatch-once", "asking once more")
	s.warn("clock", "it is late")
	s.end(coded("digest-mismatch"))
	if got := talk.String(); strings.Contains(got, "asking once more") || !strings.Contains(got, "it is late") {
		t.Errorf("said %q", got)
	}
}
