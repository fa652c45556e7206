package e2e

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// X13 to X17, F47 and K11 through the command: exit and reason codes.

// An revocable is a desk whose authorities publish what they revoke.
type revocable struct {
	*desk
	rootCA, issuer *revtest.CA
	signer         *x509.Certificate
}

// newRevocable makes a desk whose leaf names what edits say, whose intermediate names nothing, and whose image is signed.
func newRevocable(t testing.TB, f *fake, edits func(ca *revtest.CA) []certtest.Edit) *revocable {
	t.Helper()
	o := &revocable{desk: newDesk(t, f, t.Name())}
	o.rootCA = revtest.New(o.root)
	o.issuer = revtest.New(o.root.Intermediate("office CA"))
	t.Cleanup(o.rootCA.Stop)
	t.Cleanup(o.issuer.Stop)
	var named []certtest.Edit
	if edits != nil {
		named = edits(o.issuer)
	}
	o.signer = o.issuer.Leaf(o.key.Public(), "desk", named...)
	o.f.attach(o.repo, o.subject, jwsType, newJWS(o.key, o.chain(), o.subject).bytes())
	return o
}

func (o *revocable) chain() []*x509.Certificate { return o.issuer.Chain(o.signer) }

// lists writes the lists as the authorities publish them now, and returns the folder.
func (o *revocable) lists(t testing.TB) string {
	t.Helper()
	dir := o.at("crl")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o.file("crl/issuer.crl", o.issuer.List())
	o.file("crl/root.pem", revtest.PEM(o.rootCA.List()))
	return dir
}

// policy writes a policy that trusts the revocable's root, with a section.
func (o *revocable) policy(name, section string) string {
	return o.file(name+".yaml", fmt.Appendf(nil, "version: 1\nroots: {r: root.pem}\n%sscopes: {%q: [r]}\n", section, o.f.Host))
}

const (
	enforceFiles   = "revocation: {check: enforce, crl: [crl/], network: false}\n"
	logFiles       = "revocation: {check: log, crl: [crl/]}\n"
	enforceNetwork = "revocation: {check: enforce, network: true}\n"
	logNetwork     = "revocation: {check: log, network: true}\n"
)

func namesList(ca *revtest.CA) []certtest.Edit      { return []certtest.Edit{ca.NamesList()} }
func namesResponder(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesResponder()} }

// judged wants what enforce makes of it (0: accepted, 1: revoked, 4: unknown), and that log accepts, with a warning if there is one to give.
func (o *revocable) judged(t *testing.T, code int, enforce, log string, more ...string) {
	t.Helper()
	reason := map[int]string{0: "", 1: "revoked", 4: "revocation-unknown", 3: "revocation-list-invalid"}[code]
	out := o.want(t, code, reason, append([]string{"verify", o.ref, "--policy", o.policy("enforce", enforce)}, more...)...)
	if code == 3 {
		return
	}
	if got := out.field(t, "reason"); got != reason {
		t.Errorf("reason %q, want %q", got, reason)
	}
	if verdict := map[int]string{0: "accepted", 1: "rejected", 4: "undetermined"}[code]; out.field(t, "verdict") != verdict {
		t.Errorf("verdict %q, want %q", out.field(t, "verdict"), verdict)
	}
	out = o.want(t, 0, "", append([]string{"verify", o.ref, "--policy", o.policy("log", log)}, more...)...)
	if warned := strings.Contains(out.field(t, "warnings"), "revoked"); warned != (code != 0) {
		t.Errorf("log: the warnings are %q", out.field(t, "warnings"))
	}
	status := map[int]string{0: "good", 1: "revoked", 4: "unknown"}[code]
	if got := out.field(t, "signatures.0.revocation.status"); got != status && !(code == 0 && got == "not-revocable") {
		t.Errorf("log: it is told to be %q, want %q", got, status)
	}
}

func TestX13Lists(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, row := range []struct {
		name          string
		lie           revtest.Lie
		good, revoked int  // exit codes under enforce
		file          bool // makes sense as a file
	}{
		{"works", revtest.Works, 0, 1, true},
		{"wrong issuer", revtest.OtherIssuer, 4, 4, true},
		{"forged", revtest.Forged, 4, 4, true},
		{"expired", revtest.Stale, 4, 1, true},
		{"not yet valid", revtest.Future, 4, 1, true},
		{"delta without base", revtest.Delta, 4, 1, true},
		{"indirect", revtest.Indirect, 4, 4, true},
		{"unknown critical extension", revtest.UnknownExt, 4, 4, true},
		{"another distribution point", revtest.OtherPoint, 4, 4, true},
		{"authorities only", revtest.AuthoritiesOnly, 4, 4, true},
		{"garbage", revtest.Garbage, 4, 4, false},
		{"500 MB", revtest.Huge, 4, 4, false},
		{"redirect to another host", revtest.Redirects, 4, 4, false},
		{"HTTP 206", revtest.Status206, 4, 4, false},
		{"HTML", revtest.HTML, 4, 4, false},
	} {
		t.Run("X13 "+row.name, func(t *testing.T) {
			t.Parallel()
			o := newRevocable(t, f, namesList)
			o.issuer.Lie(row.lie)
			o.issuer.RedirectTo("http://127.0.0.1:1/ca.crl") // where nobody is
			check := func(code int) {
				t.Helper()
				if row.file {
					o.lists(t)
					o.judged(t, code, enforceFiles, logFiles)
				}
				o.env = append(o.env, "IMPRINT_CACHE="+t.TempDir())
				o.judged(t, code, enforceNetwork, logNetwork, "--allow-private")
			}
			check(row.good)
			o.issuer.Revoke(o.signer, revtest.Revoked{Reason: revtest.KeyCompromise})
			check(row.revoked)
		})
	}
	t.Run("X13 files that are no lists", func(t *testing.T) {
		t.Parallel()
		o := newRevocable(t, f, namesList)
		o.lists(t)
		for name, b := range map[string][]byte{"junk": []byte("junk"), "certificate": certtest.PEM(o.signer), "huge": make([]byte, 32<<20+1)} {
			o.file("crl/other", b)
			reason := "revocation-list-invalid"
			if name == "huge" {
				reason = "policy-too-large"
			}
			out := o.want(t, 3, reason, "verify", o.ref, "--policy", o.policy("enforce", enforceFiles))
			o.clean(t, out)
			if !strings.Contains(out.stderr, "enforce.yaml:3:") || !strings.Contains(out.stderr, "crl/other") {
				t.Errorf("it does not say where: %s", out.stderr)
			}
			o.want(t, 3, reason, "verify", o.ref, "--root", o.at("root.pem"), "--crl", o.at("crl/other"))
		}
		o.want(t, 3, "revocation-list-unreadable", "verify", o.ref, "--root", o.at("root.pem"), "--crl", o.at("crl/none"))
		o.want(t, 3, "policy-path", "verify", o.ref, "--policy", o.policy("up", "revocation: {check: enforce, crl: [../crl]}\n"))
	})
}

func TestX14Responders(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, row := range []struct {
		name          string
		lie           revtest.Lie
		good, revoked int
	}{
		{"works", revtest.Works, 0, 1},
		{"authorised responder", revtest.Delegated, 0, 1},
		{"unauthorised responder", revtest.Unauthorised, 4, 4},
		{"stale", revtest.Stale, 4, 1},
		{"nonce mismatch", revtest.WrongNonce, 4, 4},
		{"unknown", revtest.UnknownStatus, 4, 4},
		{"tryLater", revtest.TryLater, 4, 4},
		{"reply for other serial", revtest.OtherSerial, 4, 4},
		{"forged", revtest.Forged, 4, 4},
	} {
		t.Run("X14 "+row.name, func(t *testing.T) {
			t.Parallel()
			o := newRevocable(t, f, namesResponder)
			o.issuer.Lie(row.lie)
			o.judged(t, row.good, enforceNetwork, logNetwork, "--allow-private")
			o.issuer.Revoke(o.signer, revtest.Revoked{Reason: revtest.KeyCompromise})
			o.judged(t, row.revoked, enforceNetwork, logNetwork, "--allow-private")
		})
	}
}

// TestX15Cache: lists are kept, and where they cannot be kept it is worked without, with a warning.
func TestX15Cache(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	o := newRevocable(t, f, namesList)
	verify := []string{"verify", o.ref, "--policy", o.policy("enforce", enforceNetwork), "--allow-private"}
	for range 2 {
		if out := o.want(t, 0, "", verify...); out.stderr != "" {
			t.Errorf("it says %s", out.stderr)
		}
	}
	kept, _ := filepath.Glob(filepath.Join(o.dir, "home", ".cache", "imprint", "crl", "*.crl"))
	if got := o.issuer.Requests(); len(got) != 1 || len(kept) != 1 {
		t.Fatalf("requests %q, kept %q", got, kept)
	}
	// What is there is not believed for being there.
	if err := os.WriteFile(kept[0], []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.issuer.Revoke(o.signer, revtest.Revoked{})
	o.want(t, 1, "revoked", verify...)
	env := o.env
	for name, dir := range map[string]string{
		"F37 no folder can be made": "/proc/self/cache",
		"F37 it is a file":          o.file("file", nil),
		"F36 full":                  "/dev/full",
	} {
		o.env = append(slices.Clone(env), "IMPRINT_CACHE="+dir)
		out := o.run(t, verify...)
		if out.code != 1 || !strings.Contains(out.stderr, "imprint: warning: ") || !strings.Contains(out.stderr, "the cache "+dir) {
			t.Errorf("%s: exit %d: %s", name, out.code, out.stderr)
		}
	}
	if other, err := os.MkdirTemp("/dev/shm", "imprint"); err == nil { // another device than that of temporary files
		t.Cleanup(func() { _ = os.RemoveAll(other) })
		o.env = append(slices.Clone(env), "IMPRINT_CACHE="+other, "TMPDIR="+o.dir)
		before := len(o.issuer.Requests())
		for range 2 {
			if out := o.run(t, verify...); out.code != 1 || strings.Contains(out.stderr, "warning") {
				t.Errorf("another device: exit %d: %s", out.code, out.stderr)
			}
		}
		if n := len(o.issuer.Requests()) - before; n != 1 {
			t.Errorf("another device: %d requests", n)
		}
	}
}

// TestX16InvalidityDate: what an authority dates before a key was lost stays good; without its timestamp it does not.
func TestX16InvalidityDate(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	o := newRevocable(t, f, nil)
	tsa := tsatest.New(tsatest.Options{Accuracy: time.Second})
	tsaRoot, tsaCA := revtest.New(tsa.Root), revtest.New(tsa.CA)
	t.Cleanup(tsaRoot.Stop)
	t.Cleanup(tsaCA.Stop)
	e, err := envelope.Parse(jwsType, newJWS(o.key, o.chain(), o.subject).bytes())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if e, err = e.WithTimestamp(tsa.Token(e.Unverified().Signature, now.Add(-10*time.Hour))); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, f, t.Name()+"stamped") // the same signature, with a timestamp, of the same image elsewhere
	f.putArtifact(d.repo, "v1", image(o.repo))
	f.attach(d.repo, o.subject, jwsType, e.Bytes())
	stamped := f.Host + "/" + d.repo + ":v1"
	o.file("tsa.pem", certtest.PEM(tsa.Roots()...))
	policy := func(use string) string {
		return o.policy("stamps", enforceFiles+"timestamps: {roots: [tsa.pem], use: "+use+"}\n")
	}
	for _, row := range []struct {
		name    string
		invalid time.Time
		code    int // of the one with a timestamp
	}{
		{"lost after the timestamp", now.Add(-5 * time.Hour), 0},
		{"lost before the timestamp", now.Add(-20 * time.Hour), 1},
		{"lost nobody says when", time.Time{}, 1},
	} {
		o.issuer, o.rootCA = reborn(t, o.issuer), reborn(t, o.rootCA)
		o.issuer.Revoke(o.signer, revtest.Revoked{At: now.Add(-time.Hour), Reason: revtest.KeyCompromise, Invalid: row.invalid})
		o.lists(t)
		o.file("crl/tsa-root.crl", tsaRoot.List())
		o.file("crl/tsa-ca.crl", tsaCA.List())
		for _, use := range []string{"always", "after-cert-expiry"} {
			reason := map[int]string{0: "", 1: "revoked"}[row.code]
			out := o.run(t, "verify", stamped, "--policy", policy(use), "-o", "json")
			if out.code != row.code || out.field(t, "reason") != reason {
				t.Errorf("%s, %s: exit %d: %s", row.name, use, out.code, out.stdout)
			}
		}
		o.want(t, 1, "revoked", "verify", o.ref, "--policy", policy("after-cert-expiry"))
	}
}

// reborn is the same authority, which revoked nothing.
func reborn(t testing.TB, ca *revtest.CA) *revtest.CA {
	out := revtest.New(ca.Authority)
	t.Cleanup(out.Stop)
	return out
}

// TestX17Addresses: who is not trusted sends imprint nowhere; and who is trusted, neither inside nor by other protocols.
func TestX17Addresses(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	both := func(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesList(), ca.NamesResponder()} }
	t.Run("X17 chains that are not pinned are never asked about", func(t *testing.T) {
		t.Parallel()
		o := newRevocable(t, f, both)
		o.file("root.pem", certtest.PEM(certtest.Root("desk root").Certificate)) // of the same name
		o.want(t, 1, "root-not-trusted", "verify", o.ref, "--policy", o.policy("other", enforceNetwork), "--allow-private")
		o.file("root.pem", certtest.PEM(o.root.Certificate))
		for name, section := range map[string]string{
			"identity-mismatch":     "",
			"algorithm-not-allowed": "",
			"claims-missing":        "",
		} {
			scope := map[string]string{
				"identity-mismatch":     "{trust: [{root: r, identities: ['C=DE, ST=BE, O=Other']}]}",
				"algorithm-not-allowed": "{trust: [r], algorithms: [ES384]}",
				"claims-missing":        "{trust: [r], claims: tag}",
			}[name]
			policy := o.file("asks.yaml", fmt.Appendf(nil, "version: 1\nroots: {r: root.pem}\n%s%sscopes: {%q: %s}\n", enforceNetwork, section, o.f.Host, scope))
			o.want(t, 1, name, "verify", o.ref, "--policy", policy, "--allow-private")
		}
		if got := o.issuer.Requests(); len(got) > 0 {
			t.Errorf("asked %q", got)
		}
		// It is asked once all else is as it should be.
		o.want(t, 0, "", "verify", o.ref, "--policy", o.policy("enforce", enforceNetwork), "--allow-private")
		if got := o.issuer.Requests(); len(got) == 0 {
			t.Error("nobody was asked")
		}
	})
	t.Run("X17 private addresses", func(t *testing.T) {
		t.Parallel()
		o := newRevocable(t, f, both)
		o.judged(t, 4, enforceNetwork, logNetwork)
		if got := o.issuer.Requests(); len(got) > 0 {
			t.Errorf("asked %q", got)
		}
	})
	for _, address := range []string{"http://169.254.169.254/latest", "http://localhost/ca.crl", "file:///etc/passwd", "ldap://ca.example/cn=x", "https://ca.example/ca.crl"} {
		t.Run("X17 "+address, func(t *testing.T) {
			t.Parallel()
			o := newRevocable(t, f, func(*revtest.CA) []certtest.Edit { return []certtest.Edit{revtest.NamesLists(address)} })
			o.judged(t, 4, enforceNetwork, logNetwork)
		})
	}
}

// TestF47ResponderAndListDown: enforce does not accept, log accepts and warns; neither takes it for "not revoked".
func TestF47ResponderAndListDown(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for name, edits := range map[string]func(ca *revtest.CA) []certtest.Edit{"list": namesList, "responder": namesResponder} {
		for lie, how := range map[revtest.Lie]string{revtest.Down: "down", revtest.Status500: "500", revtest.Cut: "cut off"} {
			t.Run("F47 "+name+" "+how, func(t *testing.T) {
				t.Parallel()
				o := newRevocable(t, f, edits)
				o.issuer.Lie(lie)
				o.judged(t, 4, enforceNetwork, logNetwork, "--allow-private")
				o.judged(t, 4, enforceNetwork, logNetwork, "--allow-private", "--offline")
			})
		}
	}
}

// TestOfflineAsksNobody: with --offline, and wherever a policy says network: false, nobody is asked, and given lists count.
func TestOfflineAsksNobody(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	o := newRevocable(t, f, func(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesList(), ca.NamesResponder()} })
	lists := o.lists(t)
	network, both := o.policy("network", enforceNetwork), o.policy("both", "revocation: {check: enforce, crl: [crl/], network: true}\n")
	o.want(t, 4, "revocation-unknown", "verify", o.ref, "--policy", network, "--offline", "--allow-private")
	o.want(t, 0, "", "verify", o.ref, "--policy", network, "--offline", "--allow-private", "--crl", lists)
	o.want(t, 0, "", "verify", o.ref, "--policy", both, "--allow-private") // the lists say all
	o.want(t, 0, "", "verify", o.ref, "--root", o.at("root.pem"), "--allow-private")
	o.want(t, 0, "", "verify", o.ref, "--root", o.at("root.pem"), "--crl", lists)
	o.issuer.Revoke(o.signer, revtest.Revoked{})
	o.lists(t)
	o.want(t, 1, "revoked", "verify", o.ref, "--root", o.at("root.pem"), "--crl", lists)
	o.want(t, 1, "revoked", "verify", o.ref, "--policy", both, "--allow-private")
	o.want(t, 1, "revoked", "verify", o.ref, "--policy", o.policy("off", "revocation: {check: off}\n"), "--crl", o.at("crl/issuer.crl"))
	o.want(t, 0, "", "verify", o.ref, "--root", o.at("root.pem"), "--crl", o.at("crl/root.pem"))
	if got := append(o.issuer.Requests(), o.rootCA.Requests()...); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
	o.want(t, 3, "", "copy", o.ref, "oci:"+o.at("layout"), "--crl", lists) // there is nothing to judge by
}

// TestAirGapWithLists: signed and copied into a layout and an archive, and judged where there is no network at all.
func TestAirGapWithLists(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	o := newRevocable(t, f, func(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesList(), ca.NamesResponder()} })
	lists := o.lists(t)
	o.want(t, 0, "", "copy", o.ref, "oci:"+o.at("layout"))
	o.want(t, 0, "", "copy", o.ref, "oci-archive:"+o.at("archive.tar"))
	policy := o.policy("enforce", "revocation: {check: enforce, crl: [crl/], network: true}\n")
	imprint, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	alone := func(code int, args ...string) {
		t.Helper()
		// A network namespace of its own has no way out; where none may be made, a proxy that nobody is behind has none either.
		words := append([]string{"-rn", imprint}, args...)
		c := exec.CommandContext(t.Context(), "unshare", words...)
		if exec.CommandContext(t.Context(), "unshare", "-rn", "true").Run() != nil {
			c = exec.CommandContext(t.Context(), imprint, args...)
		}
		c.Env = append(slices.Clone(o.env), "http_proxy=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "GORACE="+quickExit)
		out, err := c.CombinedOutput()
		if got := c.ProcessState.ExitCode(); got != code {
			t.Errorf("%q: exit %d (%v), want %d\n%s", args, got, err, code, out)
		}
	}
	for _, place := range []string{"oci:" + o.at("layout") + ":v1", "oci-archive:" + o.at("archive.tar") + ":v1"} {
		as := []string{"verify", place, "--as", o.f.Host + "/inside:v1", "--policy", policy}
		alone(0, append(as, "--offline")...)
		alone(0, as...)
		alone(0, "copy", place, "oci:"+o.at("inside")+":v1", "--as", o.f.Host+"/inside:v1", "--policy", policy, "--require-signature")
		alone(0, "verify", place, "--root", o.at("root.pem"), "--crl", lists)
	}
	o.issuer.Revoke(o.signer, revtest.Revoked{Reason: revtest.KeyCompromise})
	o.lists(t)
	alone(1, "verify", "oci:"+o.at("layout")+":v1", "--as", o.f.Host+"/inside:v1", "--policy", policy, "--offline")
	alone(1, "copy", "oci:"+o.at("layout")+":v1", "oci:"+o.at("never")+":v1", "--as", o.f.Host+"/inside:v1", "--policy", policy)
	if _, err := os.Stat(o.at("never")); err == nil {
		t.Error("something was copied")
	}
	if err := os.Remove(o.at("crl/issuer.crl")); err != nil {
		t.Fatal(err)
	}
	alone(4, "verify", "oci:"+o.at("layout")+":v1", "--as", o.f.Host+"/inside:v1", "--policy", policy, "--offline")
	if got := append(o.issuer.Requests(), o.rootCA.Requests()...); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

// TestRevocationOfABatch: of a thousand references one question is asked for each certificate.
func TestRevocationOfABatch(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	o := newRevocable(t, f, func(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesResponder(), ca.NamesList()} })
	const n = 1000
	var list strings.Builder
	for i := range n {
		tag := fmt.Sprintf("t%d", i)
		o.f.putArtifact(o.repo, tag, image(o.repo))
		fmt.Fprintf(&list, "%s/%s:%s\n", o.f.Host, o.repo, tag)
	}
	batch := o.file("batch", []byte(list.String()))
	run := func(code int, batch string) {
		t.Helper()
		before := len(o.issuer.Requests())
		out := o.run(t, "verify", "--batch", batch, "--policy", o.policy("enforce", enforceNetwork), "--allow-private", "-o", "json")
		if out.code != code {
			t.Errorf("exit %d: %.2000s", out.code, out.stderr)
		}
		if got := o.issuer.Requests()[before:]; len(got) != 1 {
			t.Errorf("asked %q", got)
		}
	}
	run(0, batch)
	o.issuer.Revoke(o.signer, revtest.Revoked{})
	run(1, o.file("few", fmt.Appendf(nil, "%s\n%s/%s:t1\n", o.ref, o.f.Host, o.repo)))
}

// TestK11RevokedIntermediate: a new chain with a revoked certificate is never written, with or without a policy.
func TestK11RevokedIntermediate(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for name, more := range map[string]func(d *desk) []string{
		"without a policy": func(*desk) []string { return nil },
		"by a root":        func(d *desk) []string { return []string{"--root", d.at("root.pem")} },
		"by a policy that does not ask": func(d *desk) []string {
			return []string{"--policy", d.file("p.yaml", fmt.Appendf(nil, "version: 1\nroots: {r: root.pem}\nrevocation: {check: off}\nscopes: {%q: [r]}\n", d.f.Host))}
		},
		"dry": func(*desk) []string { return []string{"--dry-run"} },
	} {
		t.Run("K11 "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.signed()
			root := revtest.New(d.root)
			t.Cleanup(root.Stop)
			ca := d.root.Intermediate("desk CA 2")
			longer := certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(4, 0, 0))
			chain := ca.Chain(ca.Leaf(d.key.Public(), "desk", longer))
			root.Revoke(ca.Certificate, revtest.Revoked{Reason: revtest.Superseded})
			args := append(d.rechain(chain, "--crl", d.file("root.crl", root.List())), more(d)...)
			d.refused(t, 1, "revoked", args...)
			d.refused(t, 1, "revoked", append(slices.Clone(args), "--replace")...)
			// What cannot be determined is not written either.
			root.Lie(revtest.Stale)
			root.Revoke(d.leaf, revtest.Revoked{})
			fresh := reborn(t, root)
			fresh.Lie(revtest.Stale)
			d.file("root.crl", fresh.List())
			d.refused(t, 4, "revocation-unknown", args...)
			fresh.Lie(revtest.Works)
			d.file("root.crl", fresh.List())
			d.want(t, 0, "", args...)
		})
	}
	t.Run("K11 on the way of a copy", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		d.signed()
		root := revtest.New(d.root)
		t.Cleanup(root.Stop)
		ca := d.root.Intermediate("desk CA 2")
		chain := ca.Chain(ca.Leaf(d.key.Public(), "desk", certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(4, 0, 0))))
		root.Revoke(ca.Certificate, revtest.Revoked{})
		args := []string{"copy", d.ref, "oci:" + d.at("layout"), "--chain", d.file("new.pem", certtest.PEM(chain...)), "--crl", d.file("root.crl", root.List())}
		d.want(t, 1, "revoked", args...)
		if _, err := os.Stat(d.at("layout")); err == nil {
			t.Error("something was copied")
		}
		d.file("root.crl", reborn(t, root).List())
		d.want(t, 0, "", args...)
	})
}
