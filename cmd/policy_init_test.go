package cmd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
)

// initWorld has an image in a layout that its owner and a stranger signed; it returns their roots' fingerprints.
func initWorld(t *testing.T) (w *world, ref, owner, stranger string) {
	t.Helper()
	w = newWorld(t)
	w.image("app", "an image", "1.0")
	ref = "oci:" + w.path("app") + ":1.0"
	chain := w.keys()
	w.want(0, w.sign(ref)...)
	owner = certchain.Thumbprint(chain[2])
	key, evil := certtest.ChainOf(3, "P-256")
	w.file("evil.key", string(certtest.KeyPEM(key)))
	w.file("evil.pem", string(certtest.PEM(evil...)))
	w.want(0, "sign", ref, "--key", w.path("evil.key"), "--chain", w.path("evil.pem"))
	return w, ref, owner, certchain.Thumbprint(evil[2])
}

// TestPolicyInit: it shows everybody who signed, writes nobody down who was not compared, and what it writes accepts what it was read off.
func TestPolicyInit(t *testing.T) {
	t.Parallel()
	w, ref, owner, stranger := initWorld(t)
	const as = "harbor.example/team/app"
	out := w.path("policy")
	before := w.tree(".")

	got := w.want(0, "policy", "init", ref, "--as", as)
	for _, want := range []string{"proposed  harbor.example/team/app:1.0\n          sha256:", "NOT PROVED  Nobody vouches for these certificates", "sha256 " + owner + "\n", "sha256 " + stranger + "\n",
		"1 signature by ", "claims", "\n2 roots, 2 signatures on 1 artifact. Nothing was written.\n", "--root-sha256 HEX"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	for _, never := range []string{"trusted", "POLICY\n", "version: 1"} {
		if strings.Contains(got.out+got.err, never) {
			t.Errorf("it says %q before anything was compared:\n%s", never, got.out)
		}
	}
	if r := w.want(3, "policy", "init", ref, "--as", as, "--out", out, "-o", "json").reason(t); r != "fingerprint-required" {
		t.Errorf("--out without a fingerprint: %s", r)
	}
	if r := w.want(3, "policy", "init", ref, "--as", as, "--out", out, "--root-sha256", owner[:16], "-o", "json").reason(t); r != "fingerprint-invalid" {
		t.Errorf("the beginning of a fingerprint: %s", r)
	}
	if r := w.want(3, "policy", "init", ref, "--as", as, "--out", out, "--root-sha256", strings.Repeat("0", 64), "-o", "json").reason(t); r != "root-not-found" {
		t.Errorf("a fingerprint that nobody has: %s", r)
	}
	if got := w.want(0, "policy", "init", ref, "--as", as, "--root-sha256", owner); !strings.Contains(got.out, "\n  POLICY\n") || !strings.Contains(got.out, "1 other root not named. Nothing was written.") {
		t.Errorf("without --out\n%s", got.out)
	}
	if after := w.tree("."); len(after) != len(before) {
		t.Error("something was written")
	}

	got = w.want(0, "policy", "init", ref, "--as", as, "--out", out, "--root-sha256", owner)
	if !strings.HasPrefix(got.out, "written  "+out+"\n") || strings.Contains(got.out, stranger) {
		t.Errorf("\n%s", got.out)
	}
	p, err := trust.Load(filepath.Join(out, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	roots := p.Summary(time.Now()).Roots
	if len(roots) != 1 || roots[0].Certificates[0].Thumbprint != owner || len(roots[0].Identities) != 1 {
		t.Errorf("%+v", roots)
	}
	w.want(0, "verify", ref, "--as", as, "--policy", filepath.Join(out, "policy.yaml"))
	written := w.tree("policy")
	if len(written) != 2 {
		t.Errorf("written: %v", written)
	}
	// Never over what is there, and then all or nothing.
	got = w.want(3, "policy", "init", ref, "--as", as, "--out", out, "--root-sha256", stranger)
	if !strings.Contains(got.err, " exists") || !strings.Contains(got.err, "--overwrite") {
		t.Errorf("%s", got.err)
	}
	if err := os.RemoveAll(filepath.Join(out, "roots")); err != nil {
		t.Fatal(err)
	}
	w.want(3, "policy", "init", ref, "--as", as, "--out", out, "--root-sha256", stranger)
	if again := w.tree("policy"); len(again) != 1 || again[filepath.Join(out, "policy.yaml")] != written[filepath.Join(out, "policy.yaml")] {
		t.Errorf("half of it was written: %v", again)
	}
	w.want(0, "policy", "init", ref, "--as", as, "--out", out, "--root-sha256", stranger, "--overwrite")
	if again := w.tree("policy"); again[filepath.Join(out, "policy.yaml")] == written[filepath.Join(out, "policy.yaml")] || len(again) != 2 {
		t.Error("--overwrite did not")
	}

	var answer struct {
		Kind, Policy string
		Files        []string
		Roots        []struct{ Certificate struct{ SHA256 string } }
	}
	if err := json.Unmarshal([]byte(w.want(0, "policy", "init", ref, "--as", as, "-o", "json").out), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Kind != "policy-init" || answer.Policy != "" || answer.Files != nil || len(answer.Roots) != 2 {
		t.Errorf("%+v", answer)
	}
}

func TestPolicyInitOfWhatCannotBeProposed(t *testing.T) {
	t.Parallel()
	w, ref, owner, _ := initWorld(t)
	w.image("bare", "unsigned", "1.0")
	bare := "oci:" + w.path("bare") + ":1.0"
	got := w.want(1, "policy", "init", bare, "--as", "a.example/b")
	if !strings.HasPrefix(got.out, "nothing  a.example/b:1.0\n") || !strings.Contains(got.out, "unsigned") || !strings.Contains(got.err, "imprint: hint: there is nothing to propose") {
		t.Errorf("%s%s", got.out, got.err)
	}
	if r := w.want(3, "policy", "init", ref, "-o", "json").reason(t); r != "as-required" {
		t.Errorf("a layout without a name: %s", r)
	}
	if got := w.want(3, "policy", "init", ref, bare, "--as", "a.example/b"); !strings.Contains(got.err, "--as is one place") {
		t.Errorf("%s", got.err)
	}
	if got := w.want(3, "policy", "init", ref, "--as", "a.example/b", "--overwrite"); !strings.Contains(got.err, "nothing is written") {
		t.Errorf("%s", got.err)
	}
	w.want(3, "policy", "init", "--as", "a.example/b")
	w.want(4, "policy", "init", "oci:"+w.path("app")+":none", "--as", "a.example/b")
	w.want(8, "policy", "init", ref, "--as", "a.example/b", "--root-sha256", owner, "--out", filepath.Join(w.file("afile", ""), "policy"))

	// Of several references each has to be accepted; what is left out is named with its reason.
	now := w.env.Now()
	w.keys(certtest.Valid(now.Add(-time.Hour), now.Add(time.Hour)))
	w.image("named", "a third", "h.example/one:1", "h.example/two:2")
	one, two := "oci:"+w.path("named")+":h.example/one:1", "oci:"+w.path("named")+":h.example/two:2"
	w.want(0, w.sign(one)...)
	w.want(0, "policy", "init", one)
	for _, args := range [][]string{{one, two}, {"--batch", w.file("list", one+"\n"+two+"\n")}} {
		got := w.want(1, append([]string{"policy", "init", "-o", "json"}, args...)...)
		if !strings.Contains(got.out, `"reason":"claim-not-covered"`) || !strings.Contains(got.out, `"reason":"no-usable-signature"`) {
			t.Errorf("%s", got.out)
		}
	}
	if got := w.want(1, "policy", "init", one, two); !strings.HasPrefix(got.out, "proposed  2 artifacts\n") || !strings.Contains(got.out, "h.example/two:2") || !strings.Contains(got.out, "1 left out") {
		t.Errorf("%s", got.out)
	}
	w.env.Now = func() time.Time { return now.Add(2 * time.Hour) }
	if got := w.want(1, "policy", "init", one); !strings.HasPrefix(got.out, "nothing  h.example/one:1\n") || !strings.Contains(got.out, "certificate-expired") {
		t.Errorf("%s", got.out)
	}
}

// TestPolicyInitTakesBack: a disk that is full after the first file leaves none, nor folders, so that the same command can be run again.
func TestPolicyInitTakesBack(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "a", "policy")
	root := trust.ProposedFile{Name: "roots/a.pem", Content: []byte("a")}
	unwritable := trust.ProposedFile{Name: strings.Repeat("x", 300), Content: []byte("b")} // no file system takes the name
	if _, err := writeProposal(&session{}, policyInitInputs{out: out}, []trust.ProposedFile{root, unwritable}); err == nil {
		t.Fatal("it was written")
	}
	if _, err := os.Lstat(filepath.Dir(out)); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if files, err := writeProposal(&session{}, policyInitInputs{out: out}, []trust.ProposedFile{root}); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}
