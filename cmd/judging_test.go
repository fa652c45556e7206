package cmd

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// signedLayout is a world with the layout lay, whose 1.0 is signed.
func signedLayout(t *testing.T) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	lay := "oci:" + w.path("lay")
	w.want(0, w.sign(lay+":1.0", "-q")...)
	return w, lay
}

// policy writes a policy whose scopes are the lines, with the root org, and returns its path.
func (w *world) policy(name string, scopes ...string) string {
	return w.file(name, "version: 1\nroots:\n  org: root.pem\nscopes:\n  "+strings.Join(scopes, "\n  ")+"\n")
}

func TestVerifyExitCodes(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	w.image("lay", "two", "unsigned")
	w.image("lay", "one", "2.0")
	other := certtest.Root("Another Root")
	w.file("other.pem", string(certtest.PEM(other.Chain(other.Leaf(certtest.Key("P-256").Public(), "x"))[1])))
	w.policy("trusts.yaml", `"*": [org]`)
	w.policy("elsewhere.yaml", "elsewhere.example: [org]")
	w.policy("rejects.yaml", "reg.example: {reject: true}")
	w.policy("reports.yaml", "reg.example: {trust: [org], claims: tag, enforce: false}")
	w.file("broken.yaml", "version: 1\nrots: {}\n")
	root := []string{"--root", w.path("root.pem")}
	as := []string{"--as", "reg.example/app"}
	for _, tt := range []struct {
		name, ref string
		flags     []string
		code      int
		reason    string
	}{
		{"accepted", ":1.0", root, 0, ""},
		{"another tag", ":2.0", root, 1, "claim-not-covered"},
		{"unsigned", ":unsigned", root, 1, "unsigned"},
		{"another root", ":1.0", []string{"--root", w.path("other.pem")}, 1, "no-trusted-signature"},
		{"another identity", ":1.0", append(root, "--identity", "CN=somebody"), 1, "identity-mismatch"},
		{"the identity", ":1.0", append(root, "--identity", "O=Acme"), 0, ""},
		{"another algorithm", ":1.0", append(root, "--algorithms", "ES384,PS256"), 1, "algorithm-not-allowed"},
		{"a claim is asked for", ":1.0", append(root, "--require-claim"), 0, ""},
		{"no such tag", ":9", root, 4, "not-found"},
		{"by policy", ":1.0", append([]string{"--policy", w.path("trusts.yaml")}, as...), 0, ""},
		{"a layout without a name", ":1.0", []string{"--policy", w.path("trusts.yaml")}, 3, "as-required"},
		{"no scope", ":1.0", append([]string{"--policy", w.path("elsewhere.yaml")}, as...), 1, "no-scope"},
		{"rejected by policy", ":1.0", append([]string{"--policy", w.path("rejects.yaml")}, as...), 1, "rejected-by-policy"},
		{"not enforced", ":2.0", append([]string{"--policy", w.path("reports.yaml")}, as...), 0, "claim-not-covered"},
		{"the policy does not load", ":1.0", append([]string{"--policy", w.path("broken.yaml")}, as...), 3, "policy-key-unknown"},
		{"no such policy", ":1.0", append([]string{"--policy", w.path("absent.yaml")}, as...), 3, "policy-unreadable"},
		{"no such root", ":1.0", []string{"--root", w.path("absent.pem")}, 3, "usage"},
		{"a key for a root", ":1.0", []string{"--root", w.path("leaf.key")}, 3, ""},
		{"the right root of the policy", ":1.0", append([]string{"--policy", w.path("trusts.yaml"), "--only-root", "org"}, as...), 0, ""},
		{"a root that the policy has not", ":1.0", append([]string{"--policy", w.path("trusts.yaml"), "--only-root", "orgg"}, as...), 3, ""},
		{"a pinned policy", ":1.0", append([]string{"--policy", w.path("trusts.yaml"), "--policy-sha256", strings.Repeat("0", 64)}, as...), 3, "policy-digest"},
		{"--as that is none", ":1.0", append(root, "--as", "latest"), 3, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"verify", lay + tt.ref, "-o", "json"}, tt.flags...)
			got := w.want(tt.code, args...)
			var line struct{ Kind, Reason, Verdict string }
			if err := json.Unmarshal([]byte(got.out), &line); err != nil {
				t.Fatalf("%q: %v", got.out, err)
			}
			if tt.reason != "" && line.Reason != tt.reason {
				t.Errorf("reason %s, want %s", line.Reason, tt.reason)
			}
			if line.Kind == "verify" && (line.Verdict == "accepted") != (tt.code == 0 && tt.reason == "") {
				t.Errorf("exit %d with the verdict %s", tt.code, line.Verdict)
			}
			if line.Kind == "verify" && strings.Contains(got.err, "imprint: error") {
				t.Errorf("a verdict is no error: %s", got.err)
			}
		})
	}
}

// TestVerifyOfAListWithoutEnd: a signature that could satisfy may stand where nobody has read. That is not partly done, and
// not unsigned.
func TestVerifyOfAListWithoutEnd(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	registries := regtest.New(t, regtest.WithAPI)
	w.want(0, "copy", lay+":1.0", registries.Host+"/app:1.0", "-q")
	registries.Intercept(func(out http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		out.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		out.Header().Set("Link", "<"+r.URL.Path+"?again>; rel=\"next\"")
		_, _ = out.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
		return true
	})
	got := w.want(4, "verify", registries.Host+"/app:1.0", "--root", w.path("root.pem"), "-o", "json")
	if !strings.Contains(got.out, `"link-refused"`) {
		t.Errorf("%s", got.out)
	}
}

// TestPolicyDigestPins: the digest in the JSON is the one that --policy-sha256 takes.
func TestPolicyDigestPins(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	args := []string{"verify", lay + ":1.0", "--as", "reg.example/app", "--policy", w.policy("p.yaml", "reg.example: [org]"), "-o", "json"}
	var r struct{ PolicySha256 string }
	if err := json.Unmarshal([]byte(w.want(0, args...).out), &r); err != nil || r.PolicySha256 == "" {
		t.Fatalf("digest %q, %v", r.PolicySha256, err)
	}
	w.want(0, append(args, "--policy-sha256", r.PolicySha256)...)
	w.want(0, append(args, "--policy-sha256", "sha256:"+strings.TrimPrefix(strings.ToUpper(r.PolicySha256), "SHA256:"))...)
	w.policy("p.yaml", "reg.example: {trust: [org], claims: ignore}")
	w.want(3, append(args, "--policy-sha256", r.PolicySha256)...)
}

// TestPolicyPlaces: --policy, IMPRINT_POLICY, the configuration, the user's, the machine's.
func TestPolicyPlaces(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	root := w.tree("root.pem")[w.path("root.pem")]
	at := func(name, rule string) string {
		dir := name[:strings.LastIndex(name, "/")]
		w.file(dir+"/root.pem", root)
		return w.policy(name, "reg.example: "+rule)
	}
	const accepts, rejects = "[org]", "{reject: true}"
	args := []string{"verify", lay + ":1.0", "--as", "reg.example/app"}
	w.want(3, args...)
	at("etc/policy.yaml", accepts)
	w.want(0, args...)
	at("home/.config/imprint/policy.yaml", rejects)
	w.want(1, args...)
	w.file("home/.config/imprint/config.yaml", "policy: special/p.yaml\n")
	at("home/.config/imprint/special/p.yaml", accepts)
	w.want(0, args...)
	w.setenv("IMPRINT_POLICY", at("env/p.yaml", rejects))
	w.want(1, args...)
	w.want(0, append(args, "--policy", at("flag/p.yaml", accepts))...)
	w.want(0, append(args, "--root", w.path("root.pem"))...) // a whole policy, nearer than IMPRINT_POLICY
}

// TestCopyGate: judged at the source before a byte moves, claims against each tag of the destination.
func TestCopyGate(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	w.image("lay", "two", "unsigned")
	root := []string{"--root", w.path("root.pem")}
	for _, tt := range []struct {
		name, src, dst string
		flags          []string
		code           int
		reason, warns  string
	}{
		{"the claimed tag", ":1.0", "a", root, 0, "", ""},
		{"the claimed tag in DST", ":1.0", "b:1.0", root, 0, "", ""},
		{"another tag", ":1.0", "c:2.0", root, 1, "claim-not-covered", ""},
		{"one of two tags", ":1.0", "d", append(root, "--tag", "1.0", "--tag", "latest"), 1, "claim-not-covered", ""},
		{"another tag without a policy", ":1.0", "e:2.0", nil, 0, "", "no signature claims the tag 2.0 (they claim 1.0)"},
		{"unsigned", ":unsigned", "f", root, 1, "unsigned", ""},
		{"unsigned without a policy", ":unsigned", "g", nil, 0, "", ""},
		{"--require-signature", ":unsigned", "h", []string{"--require-signature"}, 1, "unsigned", ""},
		{"--require-signature of what is signed", ":1.0", "i", []string{"--require-signature"}, 0, "", ""},
		{"a policy without a name", ":1.0", "j", []string{"--policy", w.policy("p.yaml", `"*": [org]`)}, 3, "as-required", ""},
		{"a policy", ":1.0", "k", []string{"--policy", w.path("p.yaml"), "--as", "reg.example/app"}, 0, "", ""},
		{"a policy and another tag", ":1.0", "l:2.0", []string{"--policy", w.path("p.yaml"), "--as", "reg.example/app"}, 1, "claim-not-covered", ""},
		{"dry run", ":1.0", "m", append(root, "--dry-run"), 0, "", ""},
		{"dry run of what is refused", ":1.0", "n:2.0", append(root, "--dry-run"), 1, "claim-not-covered", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := *w
			got := v.want(tt.code, append([]string{"copy", lay + tt.src, "oci:" + v.path("dst/"+tt.dst), "-o", "json"}, tt.flags...)...)
			dst, _, _ := strings.Cut("dst/"+tt.dst, ":")
			if wrote := len(v.tree(dst)) > 0; wrote != (tt.code == 0 && !strings.HasPrefix(tt.name, "dry")) {
				t.Errorf("exit %d, something was written: %v", tt.code, wrote)
			}
			if tt.reason != "" && got.reason(t) != tt.reason {
				t.Errorf("reason %s, want %s", got.reason(t), tt.reason)
			}
			if !strings.Contains(got.err, tt.warns) || tt.warns == "" && strings.Contains(got.err, "warning") {
				t.Errorf("stderr %q, want the warning %q", got.err, tt.warns)
			}
		})
	}
}

// TestCopyJudgesOnlyWhenTold: a policy of the surroundings is no gate.
func TestCopyJudgesOnlyWhenTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.setenv("IMPRINT_POLICY", w.policy("p.yaml", "reg.example: {reject: true}"))
	w.setenv("IMPRINT_ROOT", w.path("root.pem"))
	w.want(0, "copy", "oci:"+w.path("lay")+":1.0", "oci:"+w.path("dst"))
	w.want(1, "copy", "oci:"+w.path("lay")+":1.0", "oci:"+w.path("dst2"), "--root", w.path("root.pem"))
}

// TestCopyIntoAnArchive is written whole or not at all, and never over another.
func TestCopyIntoAnArchive(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	archive := "oci-archive:" + w.mkdir("out") + "/app.tar"
	w.want(0, "copy", lay+":1.0", archive, "--dry-run")
	if n := len(w.tree("out")); n != 0 {
		t.Fatalf("the dry run left %d files", n)
	}
	w.want(0, "copy", lay+":1.0", archive)
	w.want(0, "verify", archive+":1.0", "--root", w.path("root.pem"))
	before := w.tree("out")
	w.want(3, "copy", lay+":1.0", archive, "--dry-run")
	if got := w.run("copy", lay+":1.0", archive); got.code != 3 || !maps.Equal(before, w.tree("out")) {
		t.Errorf("exit %d over an archive that exists: %s", got.code, got.err)
	}
	w.want(0, "copy", lay+":1.0", archive, "--overwrite")
	if got := w.run("copy", lay+":9", "oci-archive:"+w.path("out")+"/no.tar"); got.code != 4 || len(w.tree("out")) != 1 {
		t.Errorf("exit %d, %d files", got.code, len(w.tree("out")))
	}
}

// renewing writes new.pem: a chain for the world's key under a new intermediate of the same root. edit changes its leaf.
func renewing(w *world, edits ...certtest.Edit) {
	key := certtest.Key("P-256")
	root := certtest.Root("Root")
	old, renewed := root.Intermediate("CA 1"), root.Intermediate("CA 2")
	w.file("leaf.key", string(certtest.KeyPEM(key)))
	leaf := old.Leaf(key.Public(), "release", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(100*24*time.Hour)))
	w.file("chain.pem", string(certtest.PEM(old.Chain(leaf)...)))
	w.file("root.pem", string(certtest.PEM(old.Chain(leaf)[2])))
	again := renewed.Leaf(key.Public(), "release", append([]certtest.Edit{certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(200*24*time.Hour))}, edits...)...)
	w.file("new.pem", string(certtest.PEM(renewed.Chain(again)...)))
}

func TestRechainCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	renewing(w)
	key, other := certtest.ChainOf(3, "P-256")
	w.file("other.key", string(certtest.KeyPEM(key)))
	w.file("other.pem", string(certtest.PEM(other...)))
	w.file("other-root.pem", string(certtest.PEM(other[2])))
	w.image("lay", "one", "1.0", "2.0")
	w.image("lay", "two", "unsigned")
	w.image("lay", "three", "3.0")
	lay := "oci:" + w.path("lay")
	w.want(0, w.sign(lay+":1.0", "--claim", "2.0")...)
	w.want(0, "sign", lay+":3.0", "--key", w.path("other.key"), "--chain", w.path("other.pem"))

	before := w.tree("lay")
	same := func(what string) {
		t.Helper()
		if !maps.Equal(before, w.tree("lay")) {
			t.Errorf("%s: something was written", what)
		}
	}
	chain := []string{"--chain", w.path("new.pem")}
	w.want(0, append([]string{"rechain", lay + ":1.0", "--dry-run"}, chain...)...)
	same("a dry run")
	if got := w.want(3, append([]string{"rechain", lay + ":3.0", "-o", "json"}, chain...)...); got.reason(t) != "leaf-key-differs" {
		t.Errorf("reason %s", got.reason(t))
	}
	if got := w.want(1, append([]string{"rechain", lay + ":unsigned", "-o", "json"}, chain...)...); got.reason(t) != "unsigned" {
		t.Errorf("reason %s", got.reason(t))
	}
	if got := w.want(1, append([]string{"rechain", lay + ":1.0", "-o", "json", "--root", w.path("other-root.pem")}, chain...)...); got.reason(t) != "no-trusted-signature" {
		t.Errorf("reason %s", got.reason(t))
	}
	same("what was refused")

	// One whose key is another's is skipped and counted where others fit.
	w.want(0, "sign", lay+":1.0", "--claim", "2.0", "--key", w.path("other.key"), "--chain", w.path("other.pem"))
	got := w.want(0, append([]string{"rechain", lay + ":1.0", "-o", "json", "--root", w.path("root.pem")}, chain...)...)
	var r struct {
		Signatures []struct{ Status, Reason string }
	}
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatal(err)
	}
	statuses := map[string]int{}
	for _, s := range r.Signatures {
		statuses[s.Status+" "+s.Reason]++
	}
	if statuses["written "] != 1 || statuses["skipped leaf-key-differs"] != 1 {
		t.Errorf("statuses %v", statuses)
	}
	w.want(0, "verify", lay+":2.0", "--root", w.path("root.pem"))
	before = w.tree("lay")
	if got := w.want(0, append([]string{"rechain", lay + ":1.0"}, chain...)...); !strings.HasPrefix(got.out, "unchanged  ") {
		t.Errorf("the second run says %q", got.out)
	}
	same("the second run")

	// A batch with one that fits and one that does not: the first is done, the other counted (K01).
	if got := w.want(0, append([]string{"rechain", lay + ":1.0", lay + ":3.0"}, chain...)...); !strings.Contains(got.out, "1 unchanged, 1 skipped of 2 items") {
		t.Errorf("summary of %q", got.out)
	}
	// A folder of certificates.
	w.file("new/a.pem", w.tree("new.pem")[w.path("new.pem")])
	w.file("new/README", "not a certificate")
	w.want(0, "rechain", lay+":1.0", "--chain", w.path("new"))
	w.want(3, "rechain", lay+":1.0", "--chain", w.mkdir("empty"))
}

// TestRechainRefusesTheWholeArtifact when the given certificates fit a signature and may not be put on it.
func TestRechainRefusesTheWholeArtifact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	renewing(w, certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(50*24*time.Hour)))
	w.image("lay", "one", "1.0")
	lay := "oci:" + w.path("lay")
	w.want(0, w.sign(lay+":1.0")...)
	before := w.tree("lay")
	if got := w.want(3, "rechain", lay+":1.0", "--chain", w.path("new.pem"), "-o", "json"); got.reason(t) != "ends-earlier" {
		t.Errorf("reason %s", got.reason(t))
	}
	if !maps.Equal(before, w.tree("lay")) {
		t.Error("something was written")
	}
	w.want(0, "rechain", lay+":1.0", "--chain", w.path("new.pem"), "--allow-shorter")
}

// TestRequestBudgets: counted at a registry with the referrers API, no authentication, the key open (issue 2).
func TestRequestBudgets(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	w, lay := signedLayout(t)
	ref := s.Host + "/app:1.0"
	w.want(0, "copy", lay+":1.0", ref) // brings a signature of this key

	measure := func(requests, roundTrips int, args ...string) {
		t.Helper()
		// What goes out together is seen together only if the registry is slower than this machine is late.
		for latency := 10 * time.Millisecond; ; latency *= 2 {
			key, chain := certtest.ChainOf(3, "P-256")
			w.file("other.key", string(certtest.KeyPEM(key)))
			w.file("other.pem", string(certtest.PEM(chain...)))
			s.Latency(latency)
			s.Reset()
			w.want(0, args...)
			n, trips := len(s.Requests()), s.RoundTrips()
			if n <= requests && trips <= roundTrips {
				return
			}
			if n > requests || latency > 300*time.Millisecond {
				t.Fatalf("%s: %d requests, %d in a row, want at most %d and %d: %v", args[0], n, trips, requests, roundTrips, s.Requests())
			}
		}
	}
	measure(9, 3, "verify", ref, "--root", w.path("root.pem"))
	measure(9, 4, "sign", ref, "--key", w.path("other.key"), "--chain", w.path("other.pem"))
}

// TestRegistryDown: exit 4 with the host in the message; refused: exit 5.
func TestRegistryDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	s := regtest.Start(regtest.WithAPI)
	host := s.Host
	s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := w.runContext(ctx, w.sign(host+"/app:1.0", "--timeout", "2s")...)
	if got.code != 4 || !strings.Contains(got.err, host) {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
}

// TestFullNames: the NAME of a layout may be a full name; it is its tag that is claimed, and its name that is judged.
func TestFullNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	const name = "harbor.example/db:16.4"
	w.image("lay", "one", name)
	ref := "oci:" + w.path("lay") + ":" + name
	if got := w.want(0, w.sign(ref, "-o", "json")...); !strings.Contains(got.out, `"claims":["16.4"]`) {
		t.Errorf("claims in %s", got.out)
	}
	policy := w.policy("p.yaml", "harbor.example: {trust: [org], claims: tag}")
	w.want(0, "verify", ref, "--policy", policy)
	w.want(1, "verify", ref, "--policy", w.policy("q.yaml", "other.example: [org]"))
	to := "oci:" + w.path("dst") + ":" + name
	if got := w.want(0, "copy", ref, to); strings.Contains(got.err, "warning") {
		t.Errorf("copying to the same name warns: %s", got.err)
	}
	w.want(0, "copy", ref, to, "--policy", policy)
	w.want(1, "copy", ref, "oci:"+w.path("dst")+":harbor.example/db:17", "--policy", policy)
	if got := w.want(0, "copy", ref, "oci:"+w.path("dst2"), "--dry-run", "-o", "json"); !strings.Contains(got.out, `"tag":"16.4"`) {
		t.Errorf("without a tag at the destination: %s", got.out)
	}
}

// TestInterrupted: 130 and 143, whatever was being done.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	s := regtest.New(t, regtest.WithAPI)
	for signal, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		ctx, cancel := context.WithCancelCause(context.Background())
		s.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			cancel(interruption{signal})
			<-r.Context().Done()
			return true
		})
		got := w.runContext(ctx, "verify", s.Host+"/app:1", "--root", w.path("root.pem"), "-o", "json")
		if got.code != code || got.reason(t) != "interrupted" {
			t.Errorf("%s: exit %d, want %d: %s", signal, got.code, code, got.out)
		}
	}
}
