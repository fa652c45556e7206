package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// What a policy's author, or who may write near one, can get wrong or bend (P01 to P14), through the command: exit code 3 and a reason code
// for what does not load, the exact verdict for what does. P15 is with the delegation documents, P16 and P17 with docker's configuration.

// A bench of policies: a root "a" with a signed image, a root "b" that signed nothing.
type policies struct {
	*tables
	ref string // signed by a
}

func newPolicies(t testing.TB) *policies {
	t.Helper()
	d := newTables(t, map[string]*signatory{"a": newSignatory("a"), "b": newSignatory("b")})
	return &policies{d, d.put("team/app", "a")}
}

// policyHead is three lines long.
const policyHead = "version: 1\nroots: {a: a.pem, b: b.pem}\nscopes:\n"

// policy writes a policy beside the roots and returns its arguments.
func (d *policies) policy(text string) []string {
	return []string{"--policy", d.file("policy.yaml", []byte(text))}
}

// A badPolicy does not load, for a reason and at a place of the file.
type badPolicy struct {
	name, text string
	reason     string
	at         string // "LINE:COLUMN"
	says       string
}

func (d *policies) refuses(t *testing.T, rows []badPolicy) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			d.file("policy.yaml", []byte(row.text))
			d.doesNotLoad(t, row.reason, row.at, row.says)
		})
	}
}

// doesNotLoad wants it of policy.yaml, by every command that reads one, before anything is asked of a registry.
func (d *policies) doesNotLoad(t *testing.T, reason, at, says string) {
	t.Helper()
	requests := d.requests()
	for _, args := range [][]string{{"verify", d.ref}, {"policy", "check"}, {"policy", "explain", d.ref}} {
		o := d.want(t, 3, reason, append(args, "--policy", filepath.Join(d.dir, "policy.yaml"))...)
		if err := oneError("", withoutWarnings(o.stderr)); err != nil {
			t.Error(err)
		}
		if !strings.Contains(o.stderr, says) {
			t.Errorf("imprint %s does not say %q: %s", strings.Join(args, " "), says, o.stderr)
		}
		if at != "" && !strings.Contains(o.stderr, "policy.yaml:"+at+": ") {
			t.Errorf("imprint %s does not say where, %s: %s", strings.Join(args, " "), at, o.stderr)
		}
	}
	if n := d.requests(); n != requests {
		t.Errorf("%d requests for a policy that does not load", n-requests)
	}
}

func (d *policies) requests() int { return d.f.Count(func(regtest.Request) bool { return true }) }

func TestP01YAMLThatIsMoreThanPlain(t *testing.T) {
	t.Parallel()
	d := newPolicies(t)
	d.refuses(t, []badPolicy{
		{"duplicate key", policyHead + "  r.example: [a]\nscopes: {}\n", "policy-key-duplicate", "5:1", "already defined at"},
		{"duplicate key in a scope", policyHead + "  r.example: {trust: [a], trust: [b]}\n", "policy-key-duplicate", "4:27", ""},
		{"alias bomb", "version: 1\na: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nscopes: [*c, *c]\n", "policy-yaml-feature", "2:4", "anchor"},
		{"merge key", policyHead + "  r.example: {<<: {reject: true}}\n", "policy-yaml-feature", "4:15", "merge"},
		{"tag", policyHead + "  r.example: !!python/object:os.system [a]\n", "policy-yaml-feature", "4:14", "tag"},
		{"two documents", policyHead + "  r.example: [a]\n---\nversion: 1\n", "policy-syntax", "6:1", "second"},
		{"tabs", policyHead + "\tr.example: [a]\n", "policy-syntax", "", ""},
		{"10 MB", policyHead + strings.Repeat("# ten megabytes\n", 10_000_000/16), "policy-too-large", "", ""},
		{"brackets without end", policyHead + strings.Repeat("[", 100_000), "policy-syntax", "", ""},
		{"values without end", "version: 1\nscopes: [" + strings.Repeat("a,", 1_000_000) + "]\n", "policy-too-large", "", ""},
		{"escapes for a terminal", "version: 1\nroots: {\"\\e[2Ja\": a.pem}\n", "policy-syntax", "2:9", "U+001B"},
	})
}

func TestP02TyposAndTypes(t *testing.T) {
	t.Parallel()
	newPolicies(t).refuses(t, []badPolicy{
		{"trsut", policyHead + "  r.example: {trsut: [a]}\n", "policy-key-unknown", "4:15", `did you mean "trust"`},
		{"inherit: \"yes\"", policyHead + "  r.example: [a]\n  r.example/x: {trust: [b], inherit: \"yes\"}\n", "policy-type", "5:38", "true or false"},
		{"inherit: 1", policyHead + "  r.example: [a]\n  r.example/x: {trust: [b], inherit: 1}\n", "policy-type", "5:38", "true or false"},
		{"requre", policyHead + "  r.example: {requre: [[a]]}\n", "policy-key-unknown", "4:15", `did you mean "require"`},
		{"mirors", policyHead + "  r.example: [a]\nmirors: {r.example: [m.example]}\n", "policy-key-unknown", "5:1", `did you mean "mirrors"`},
		{"a root's name", policyHead + "  r.example: [A]\n", "policy-root-unknown", "4:15", `did you mean "a"`},
		{"priority (S04)", policyHead + "  r.example: {trust: [a], priority: 1}\n", "policy-key-unknown", "4:27", "inherit: true"},
	})
}

func TestP03EqualScopesByCanonicalisationAndMirrors(t *testing.T) {
	t.Parallel()
	newPolicies(t).refuses(t, []badPolicy{
		{"case and port", policyHead + "  Docker.io/a: [a]\n  docker.io:443/a: [b]\n", "policy-scope-duplicate", "5:3", "policy.yaml:4:3; scopes must be unique"},
		{"the same", policyHead + "  docker.io/a: [a]\n  docker.io/a: [b]\n", "policy-scope-duplicate", "5:3", "policy.yaml:4:3; scopes must be unique"},
		{"alias", policyHead + "  docker.io/a: [a]\n  registry-1.docker.io/a: [b]\n", "policy-scope-duplicate", "5:3", "policy.yaml:4:3"},
		{"IPv6", policyHead + "  \"[2001:DB8::0:1]/a\": [a]\n  \"[2001:db8::1]:443/a\": [b]\n", "policy-scope-duplicate", "5:3", "policy.yaml:4:3"},
		{"by a mirror", policyHead + "  r.example/a: [a]\n  m.example/a: [b]\nmirrors:\n  r.example: [m.example]\n", "policy-scope-duplicate", "7:15", "policy.yaml:5:3; scopes must be unique"},
		{"by a mirror of a scope under it", policyHead + "  r.example: [a]\n  r.example/a: [a]\n  m.example/a: [b]\nmirrors:\n  r.example: [M.example.]\n",
			"policy-scope-duplicate", "8:15", "policy.yaml:6:3; scopes must be unique"},
		{"by two mirrors", policyHead + "  r.example: [a]\n  s.example: [b]\nmirrors:\n  r.example: [m.example]\n  s.example: [m.example:443]\n", "policy-mirror", "8:15", "policy.yaml:7:15"},
		{"by include", "include: other.yaml\n" + policyHead + "  r.example: [a]\n", "policy-key-unknown", "1:1", "one file"},
	})
}

func TestP04NoScopes(t *testing.T) {
	t.Parallel()
	var rows []badPolicy
	for _, scope := range []string{"docker.io/", "docker.io//a", "*/a", "*.io", "docker.io/A", "https://docker.io/a", "docker.io/a:tag", "docker.io/..", "docker.io/%2e", "d\u00f6cker.io",
		"docker\uff0eio/a", "docker.io@evil.com/a", "alpine"} {
		rows = append(rows, badPolicy{scope, fmt.Sprintf("%s  %q: [a]\n", policyHead, scope), "policy-scope-invalid", "4:3", ""})
	}
	rows = append(rows, badPolicy{"U+202E", policyHead + "  \"docker.io/\u202ea\": [a]\n", "policy-syntax", "4:14", "U+202E"},
		badPolicy{"U+202E escaped", policyHead + "  \"docker.io/\\u202ea\": [a]\n", "policy-syntax", "4:3", "U+202E"})
	newPolicies(t).refuses(t, rows)
}

func TestP05InheritWithoutMeaning(t *testing.T) {
	t.Parallel()
	newPolicies(t).refuses(t, []badPolicy{
		{"no enclosing scope", policyHead + "  r.example: {trust: [a], inherit: true}\n", "policy-inherit", "4:3", "no scope encloses it"},
		{"only a neighbour", policyHead + "  r.example/ap: [a]\n  r.example/app: {trust: [a], inherit: true}\n", "policy-inherit", "5:3", "no scope encloses it"},
		{"beside require", policyHead + "  r.example: [a]\n  r.example/x: {require: [[a]], inherit: true}\n", "policy-inherit", "5:33", "no single meaning"},
		{"under require", policyHead + "  r.example: {require: [[a]]}\n  r.example/x: {trust: [a], inherit: true}\n", "policy-inherit", "5:3", "require"},
		{"under reject", policyHead + "  r.example: {reject: true}\n  r.example/x: {trust: [a], inherit: true}\n", "policy-inherit", "5:3", "rejects everything"},
	})
}

func TestP06RootFiles(t *testing.T) {
	t.Parallel()
	d := newPolicies(t)
	pem := func(name string) []byte { return certtest.PEM(d.by[name].root.Certificate) }
	outside := filepath.Join(t.TempDir(), "outside.pem")
	if err := os.WriteFile(outside, pem("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A file that may not be read is in the tests of trust, which run once more as nobody.
	for _, row := range []struct {
		name   string
		make   func(path string) error
		reason string
	}{
		{"missing", func(string) error { return nil }, "policy-root-unreadable"},
		{"empty", func(path string) error { return os.WriteFile(path, nil, 0o600) }, "policy-root-unreadable"},
		{"no certificate", func(path string) error { return os.WriteFile(path, []byte("hello"), 0o600) }, "policy-root-unreadable"},
		{"leaf", func(path string) error { return os.WriteFile(path, certtest.PEM(d.by["a"].chain[0]), 0o600) }, "policy-root-invalid"},
		{"symlink that leaves the folder", func(path string) error { return os.Symlink(outside, path) }, "policy-path"},
		{"FIFO", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "policy-file-unsafe"},
		{"world-writable", func(path string) error {
			if err := os.WriteFile(path, pem("a"), 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o666)
		}, "policy-file-unsafe"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(d.dir, "bad.pem")
			_ = os.Remove(path)
			if err := row.make(path); err != nil {
				t.Fatal(err)
			}
			d.policy("version: 1\nroots:\n  a: bad.pem\nscopes: {r.example: [a]}\n")
			d.doesNotLoad(t, row.reason, "3:6", "bad.pem")
		})
	}
	t.Run("two roots with one certificate", func(t *testing.T) {
		d.file("again.pem", pem("a"))
		d.policy("version: 1\nroots:\n  a: a.pem\n  b: again.pem\nscopes: {r.example: [a, b]}\n")
		d.doesNotLoad(t, "policy-root-duplicate", "4:6", "policy.yaml:3:6")
	})
	t.Run("leaf with pin: leaf", func(t *testing.T) {
		d.file("leaf.pem", certtest.PEM(d.by["a"].chain[0]))
		d.cell(t, "A", "", append([]string{d.ref}, d.policy("version: 1\nroots: {a: {certificates: [leaf.pem], pin: leaf}}\nscopes: {\"*\": [a]}\n")...)...)
	})
	t.Run("symlink inside the folder, as of a ConfigMap", func(t *testing.T) {
		if err := os.Mkdir(filepath.Join(d.dir, "..data"), 0o755); err != nil {
			t.Fatal(err)
		}
		d.file("..data/linked.pem", pem("a"))
		if err := os.Symlink("..data/linked.pem", filepath.Join(d.dir, "linked.pem")); err != nil {
			t.Fatal(err)
		}
		d.cell(t, "A", "", append([]string{d.ref}, d.policy("version: 1\nroots: {a: linked.pem}\nscopes: {\"*\": [a]}\n")...)...)
	})
	t.Run("expired", func(t *testing.T) {
		old := certtest.Root("old", certtest.Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
		d.file("old.pem", certtest.PEM(old.Certificate))
		o := d.want(t, 0, "", append([]string{"policy", "check"}, d.policy("version: 1\nroots: {old: old.pem}\nscopes: {\"*\": [old]}\n")...)...)
		if !strings.Contains(o.stdout, "expired") {
			t.Errorf("policy check does not warn: %s", o.stdout)
		}
	})
}

func TestP07PathsAboveThePolicy(t *testing.T) {
	t.Parallel()
	newPolicies(t).refuses(t, []badPolicy{
		{"root", "version: 1\nroots: {a: ../a.pem}\nscopes: {r.example: [a]}\n", "policy-path", "2:12", "relative to the policy's folder, never above it"},
		{"up and back", "version: 1\nroots: {a: x/../a.pem}\nscopes: {r.example: [a]}\n", "policy-path", "2:12", ".."},
		{"time-stamping authority", "version: 1\ntimestamps: {roots: [../a.pem], use: always}\nscopes: {r.example: {reject: true}}\n", "policy-path", "2:22", ".."},
		{"revocation list", "version: 1\nrevocation: {check: enforce, crl: [../lists/]}\nscopes: {r.example: {reject: true}}\n", "policy-path", "2:36", ".."},
	})
}

// The policy is read once: what is judged after it was replaced is judged by what was read, and the digest says which that is.
func TestP08PolicyReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	d := newPolicies(t)
	good := policyHead + "  \"*\": [a]\n"
	args := append([]string{"verify", d.ref}, d.policy(good)...)
	var once sync.Once
	d.f.Intercept(func(http.ResponseWriter, *http.Request) bool {
		once.Do(func() {
			d.file("policy.yaml", []byte(policyHead+"  \"*\": {reject: true}\n"))
			d.file("a.pem", certtest.PEM(newSignatory("c").root.Certificate))
		})
		return false
	})
	pems := [][]byte{certtest.PEM(d.by["a"].root.Certificate), certtest.PEM(d.by["b"].root.Certificate)}
	o := d.want(t, 0, "", args...)
	if got, want := o.field(t, "policySha256"), digestOfPolicy(good, pems...); got != want {
		t.Errorf("got digest %s, want that of what was read, %s", got, want)
	}
	o = d.want(t, 1, "rejected-by-policy", args...)
	if o.field(t, "policySha256") == digestOfPolicy(good, pems...) {
		t.Error("another policy has the same digest")
	}
}

// digestOfPolicy is written from the documentation of the digest: the policy's bytes, then by name each file after its length.
func digestOfPolicy(policy string, files ...[]byte) string {
	all := []byte(policy)
	for _, f := range files {
		n := uint64(len(f))
		all = append(all, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		all = append(all, f...)
	}
	sum := sha256.Sum256(all)
	return hex.EncodeToString(sum[:])
}

func TestP09OlderPolicy(t *testing.T) {
	t.Parallel()
	d := newPolicies(t)
	older, newer := policyHead+"  \"*\": [a, b]\n", policyHead+"  \"*\": [a]\n"
	pems := [][]byte{certtest.PEM(d.by["a"].root.Certificate), certtest.PEM(d.by["b"].root.Certificate)}
	pin := []string{"--policy-sha256", digestOfPolicy(newer, pems...)}
	d.want(t, 0, "", append(append([]string{"verify", d.ref}, d.policy(newer)...), pin...)...)
	requests := d.requests()
	d.want(t, 3, "policy-digest", append(append([]string{"verify", d.ref}, d.policy(older)...), pin...)...)
	d.want(t, 3, "policy-digest", append(append([]string{"policy", "check"}, d.policy(older)...), pin...)...)
	d.policy(newer)
	d.file("b.pem", append(pems[1], '\n')) // of a root, one byte
	d.want(t, 3, "policy-digest", append(append([]string{"verify", d.ref}, d.policy(newer)...), pin...)...)
	if n := d.requests(); n != requests {
		t.Errorf("%d requests by a policy that is not the one", n-requests)
	}
}

// Nothing is read from the working folder; what the environment picks is named, and a pin refuses it.
func TestP10PolicyOfTheEnvironment(t *testing.T) {
	d := newPolicies(t)
	d.policy(policyHead + "  \"*\": [b]\n")
	mine := filepath.Join(d.dir, "policy.yaml")
	theirs := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(theirs, []byte("version: 1\nroots: {x: x.pem}\nscopes: {\"*\": [x]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(theirs), "x.pem"), certtest.PEM(d.by["a"].root.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(theirs))
	for _, name := range []string{"imprint.yaml", ".imprint.yaml", "config.yaml"} {
		must(t, os.Link(theirs, name))
	}
	d.want(t, 3, "no-policy", "verify", d.ref) // none is found, though policy.yaml lies in the working folder
	d.env = append(d.env, "IMPRINT_POLICY="+theirs)
	o := d.want(t, 0, "", "verify", d.ref)
	if got := o.field(t, "policyFile"); got != theirs {
		t.Errorf("the report names the policy %q, want %s", got, theirs)
	}
	if o := d.run(t, "doctor"); !strings.Contains(o.stdout, theirs) {
		t.Errorf("doctor does not name %s: %s%s", theirs, o.stdout, o.stderr)
	}
	d.want(t, 1, "no-trusted-signature", "verify", d.ref, "--policy", mine)
	pin := digestOfPolicy(policyHead+"  \"*\": [b]\n", certtest.PEM(d.by["a"].root.Certificate), certtest.PEM(d.by["b"].root.Certificate))
	d.want(t, 3, "policy-digest", "verify", d.ref, "--policy-sha256", pin)
}

func TestP11AcceptUnsignedIsNarrow(t *testing.T) {
	t.Parallel()
	d := newPolicies(t)
	d.refuses(t, []badPolicy{
		{"on *", policyHead + "  \"*\": {accept: unsigned}\n", "policy-unsigned-wide", "4:17", "whole host"},
		{"on a host", policyHead + "  r.example: {accept: unsigned}\n", "policy-unsigned-wide", "4:23", "name a path"},
		{"on a host, by a mirror", policyHead + "  r.example/x: {accept: unsigned}\nmirrors: {r.example/x: [m.example]}\n", "policy-unsigned-wide", "5:25", "m.example"},
		{"accept: anything", policyHead + "  r.example/x: {accept: anything}\n", "policy-value", "4:25", "unsigned"},
	})
	unsigned := d.put("open/app")
	args := d.policy(fmt.Sprintf("%s  %s/open: {accept: unsigned}\n  %s: [a]\n", policyHead, d.f.Host, d.f.Host))
	d.cell(t, "A", "", append([]string{unsigned}, args...)...)
	d.cell(t, "R", "unsigned", append([]string{d.put("opening/app")}, args...)...)
}

// Whoever can push below a trusted scope gains nothing by a longer name: the longer scope is the policy's to make.
func TestP12Squatting(t *testing.T) {
	t.Parallel()
	d := newPolicies(t)
	args := d.policy(fmt.Sprintf("%s  %[2]s: [a]\n  %[2]s/team/private: [b]\n", policyHead, d.f.Host))
	squatted := d.put("team/app/private/squatted", "b")
	d.cell(t, "R", "no-trusted-signature", append([]string{squatted}, args...)...)
	o := d.cell(t, "A", "", append([]string{d.put("team/app/private/squat", "a")}, args...)...)
	if got := o.field(t, "scope.scope"); got != d.f.Host {
		t.Errorf("judged by scope %s, want %s", got, d.f.Host)
	}
	d.cell(t, "R", "no-trusted-signature", append([]string{d.put("team/private/x", "a")}, args...)...)
	d.cell(t, "A", "", append([]string{d.put("team/private/y", "b")}, args...)...)
}

func TestP13PrefixesAreNoScopes(t *testing.T) {
	t.Parallel()
	d := newPolicies(t)
	args := append([]string{"verify", d.ref}, d.policy(policyHead+"  docker.io/vendor: [a]\n  docker.io: [b]\n")...)
	d.want(t, 0, "", append(args, "--as", "docker.io/vendor/app:v1")...)
	for _, as := range []string{"docker.io/vendor-evil/app:v1", "docker.io/vendorx/app:v1", "docker.io/evil/vendor:v1"} {
		d.want(t, 1, "no-trusted-signature", append(args, "--as", as)...)
	}
	for _, as := range []string{"docker.io.evil.com/vendor/app:v1", "evil.com/docker.io/vendor:v1", "xdocker.io/vendor/app:v1", "docker.io:8443/vendor/app:v1"} {
		d.want(t, 1, "no-scope", append(args, "--as", as)...)
	}
	for _, as := range []string{"docker.io@evil.com/vendor/app:v1", "docker.io/vendor/../vendor/app:v1", "docker.io/vendor%2fapp:v1", "docker.io\\vendor/app:v1", "docker.io//vendor/app:v1", "docker.io/Vendor/app:v1"} {
		d.want(t, 3, "reference-invalid", append(args, "--as", as)...)
	}
}

func TestP14ManyScopes(t *testing.T) {
	t.Parallel()
	scopes := 100_000
	if raced {
		scopes /= 20 // make test tells it whole without the race detector
	}
	d := newPolicies(t)
	var b strings.Builder
	b.WriteString(policyHead)
	for i := range scopes {
		fmt.Fprintf(&b, "  r.example/team-%03d/app-%d: {trust: [b], inherit: true}\n", i%100, i)
	}
	b.WriteString("  r.example: [a]\n")
	args := append([]string{"verify", d.ref}, d.policy(b.String())...)
	o := d.want(t, 0, "", append(args, "--as", "r.example/team-042/app-42/deeper:v1")...)
	if got := o.field(t, "scope.scope"); got != "r.example/team-042/app-42" {
		t.Errorf("judged by scope %s", got)
	}
}
