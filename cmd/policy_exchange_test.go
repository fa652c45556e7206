package cmd

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
)

func exchangeWorld(t *testing.T) (w *world, policy, repos string) {
	t.Helper()
	w = newWorld(t)
	w.file("root.pem", string(certtest.PEM(certtest.Root("root").Certificate)))
	w.file("other.pem", string(certtest.PEM(certtest.Root("other").Certificate)))
	policy = w.file("policy.yaml", "version: 1\nroots: {root: root.pem, other: other.pem}\nscopes:\n"+
		"  r.example: {trust: [root], claims: ignore}\n  r.example/other: [other]\n")
	return w, policy, w.file("repos.txt", "r.example/a\nr.example/other/b\n")
}

// names are the files below a folder.
func (w *world) names(dir string) []string {
	var out []string
	for path := range w.tree(dir) {
		rel, _ := filepath.Rel(w.path(dir), path)
		out = append(out, filepath.ToSlash(rel))
	}
	slices.Sort(out)
	return out
}

func TestPolicyExportRefuses(t *testing.T) {
	t.Parallel()
	w, policy, repos := exchangeWorld(t)
	only := w.file("only.yaml", "version: 1\nroots: {root: root.pem}\nscopes:\n  r.example: {trust: [root], claims: name}\n")
	for _, c := range []struct{ reason, text, args string }{
		{"usage", "--to is missing", "--out OUT --policy POLICY"},
		{"usage", "did you mean kyverno?", "--to kivverno --out OUT --policy POLICY"},
		{"usage", "notation, kyverno or ratify", "--to cosign --out OUT --policy POLICY"},
		{"usage", "--out is missing", "--to notation --policy POLICY"},
		{"usage", "did you mean max-age?", "--to notation --out OUT --policy POLICY --accept-loss maxage"},
		{"usage", "strict-x509", "--to notation --out OUT --policy POLICY --accept-loss zzzzzzzzzzz"},
		{"usage", "it knows prefixes", "--to kyverno --out OUT --policy POLICY --batch REPOS"},
		{"policy-loss", "claims-if-present", "--to notation --out OUT --policy POLICY --batch REPOS"},
		{"policy-loss", "--accept-loss prefix", "--to notation --out OUT --policy POLICY --accept-loss claims-if-present"},
		{"policy-loss", "not everything can be said", "--to kyverno --out OUT --policy POLICY"},
		{"export-nothing", "nothing is left", "--to notation --out OUT --policy ONLY --accept-loss prefix,claims"},
		{"export-nothing", "nothing is left", "--to kyverno --out OUT --policy ONLY --accept-loss claims"},
		{"policy-digest", "not 00", "--to notation --out OUT --policy POLICY --policy-sha256 0000000000000000000000000000000000000000000000000000000000000000"},
		{"no-policy", "no trust policy", "--to notation --out OUT"},
		{"usage", "no such file", "--to notation --out OUT --policy POLICY --batch missing.txt"},
	} {
		args := strings.Fields(strings.NewReplacer("OUT", w.path("out"), "POLICY", policy, "REPOS", repos, "ONLY", only).Replace(c.args))
		got := w.want(3, append([]string{"policy", "export"}, args...)...)
		if !strings.Contains(got.err, c.text) {
			t.Errorf("%s: %s", c.args, got.err)
		}
		if got := w.want(3, append([]string{"policy", "export", "-o", "json"}, args...)...); got.reason(t) != c.reason {
			t.Errorf("%s: reason %s, want %s", c.args, got.reason(t), c.reason)
		}
	}
	if left := w.names("out"); len(left) > 0 {
		t.Errorf("%q were written", left)
	}
}

func TestPolicyExportWrites(t *testing.T) {
	t.Parallel()
	w, policy, repos := exchangeWorld(t)
	export := []string{"policy", "export", "--to", "notation", "--out", w.path("out/deep"), "--policy", policy, "--batch", repos, "--accept-loss", "claims-if-present"}
	got := w.want(0, append(export, "-o", "json")...)
	var told struct {
		Kind    string
		Written bool
		Files   []string
		Losses  []struct{ Code, Scope, Effect string }
	}
	if err := json.Unmarshal([]byte(got.out), &told); err != nil {
		t.Fatal(err)
	}
	slices.Sort(told.Files)
	written := w.names("out/deep")
	if told.Kind != "policy-export" || !told.Written || !slices.Equal(told.Files, written) || len(written) != 3 || !slices.Contains(written, "trustpolicy.json") {
		t.Errorf("%+v, written %q", told, written)
	}
	if len(told.Losses) != 1 || told.Losses[0].Code != "claims-if-present" || told.Losses[0].Scope != "r.example/other" || told.Losses[0].Effect != "wider" {
		t.Errorf("%+v", told.Losses)
	}

	// What is there is kept, all of it.
	w.file("out/deep/trustpolicy.json", "mine")
	before := w.tree("out")
	if got := w.want(3, export...); !strings.Contains(got.err, "exists") {
		t.Error(got.err)
	}
	if !maps.Equal(before, w.tree("out")) {
		t.Error("something was changed")
	}
	w.want(0, append(export, "--overwrite")...)
	if text := w.tree("out")[w.path("out/deep/trustpolicy.json")]; text == "mine" {
		t.Error("--overwrite replaced nothing")
	}

	// notation trusts every certificate of a store: one that is not of this policy would count.
	w.file("out/deep/truststore/x509/ca/root/more.pem", "x")
	if got := w.want(3, append(export, "--overwrite")...); !strings.Contains(got.err, "more.pem is not of this policy") {
		t.Error(got.err)
	}
	if err := os.Remove(w.path("out/deep/truststore/x509/ca/root/more.pem")); err != nil {
		t.Fatal(err)
	}
	// And this file instead of the one that is written.
	w.file("out/deep/trustpolicy.oci.json", "{}")
	if got := w.want(3, append(export, "--overwrite")...); !strings.Contains(got.err, "trustpolicy.oci.json exists") {
		t.Error(got.err)
	}
	w.want(0, "policy", "export", "--to", "kyverno", "--out", w.path("out/deep"), "--policy", policy, "--accept-loss", "claims-if-present")

	// A symlink for a folder of the store would lead elsewhere.
	w.mkdir("linked/truststore/x509")
	w.mkdir("elsewhere")
	if err := os.Symlink(w.path("elsewhere"), w.path("linked/truststore/x509/ca")); err != nil {
		t.Fatal(err)
	}
	export[5] = w.path("linked")
	if got := w.want(3, export...); !strings.Contains(got.err, "is not a folder") {
		t.Error(got.err)
	}

	// A store that cannot be made leaves nothing half-written.
	w.file("blocked/truststore", "a file")
	export[5] = w.path("blocked")
	w.want(3, export...)
	w.file("file", "")
	export[5] = w.path("file/out")
	w.want(3, export...)
	if left := w.names("blocked"); !slices.Equal(left, []string{"truststore"}) {
		t.Errorf("%q are left", left)
	}
}

// TestWriteAllTakesBack: what was written before something went wrong.
func TestWriteAllTakesBack(t *testing.T) {
	t.Parallel()
	w, policy, _ := exchangeWorld(t)
	w.file("out/kept", "")
	w.mkdir("out/kyverno.yaml") // a folder where the file goes
	w.want(3, "policy", "export", "--to", "kyverno", "--out", w.path("out"), "--policy", policy, "--accept-loss", "claims-if-present", "--overwrite")
	// Here the document cannot be written once its roots are.
	notation := w.file("n/trustpolicy.json", `{"version":"1.0","trustPolicies":[{"name":"a","registryScopes":["*"],"signatureVerification":{"level":"strict"},`+
		`"trustStores":["ca:a"],"trustedIdentities":["*"]}]}`)
	w.file("n/truststore/x509/ca/a/root.pem", string(certtest.PEM(certtest.Root("root").Certificate)))
	long := w.path("new/" + strings.Repeat("x", 300) + ".yaml")
	w.want(8, "policy", "import", notation, "--out", long)
	if _, err := os.Stat(w.path("new")); !os.IsNotExist(err) {
		t.Errorf("%q are left: %v", w.names("new"), err)
	}
	if left := w.names("out"); !slices.Equal(left, []string{"kept"}) {
		t.Errorf("%q", left)
	}
}

func TestPolicyImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := string(certtest.PEM(certtest.Root("root").Certificate))
	statement := func(scope string) string {
		return `{"version":"1.0","trustPolicies":[{"name":"a","registryScopes":["` + scope + `"],"signatureVerification":{"level":"strict"},` +
			`"trustStores":["ca:a"],"trustedIdentities":["*"]}]}`
	}
	file := w.file("n/trustpolicy.json", statement("*"))
	w.file("n/truststore/x509/ca/a/root.pem", root)

	// To standard output, in one piece.
	got := w.want(0, "policy", "import", file)
	if _, err := trust.Load(w.file("alone/policy.yaml", got.out)); err != nil {
		t.Errorf("%v\n%s", err, got.out)
	}
	var told struct{ Kind, Text, Program string }
	if got := w.want(0, "policy", "import", file, "-o", "json"); json.Unmarshal([]byte(got.out), &told) != nil || told.Kind != "policy-import" || told.Program != "notation" {
		t.Errorf("%+v", told)
	}
	if told.Text != got.out {
		t.Errorf("JSON has another policy: %s", told.Text)
	}

	// To a file with its roots beside it.
	w.want(0, "policy", "import", file, "--out", w.path("out/p.yaml"))
	if got := w.names("out"); !slices.Equal(got, []string{"p.yaml", "roots/a.pem"}) {
		t.Errorf("%q", got)
	}
	if _, err := trust.Load(w.path("out/p.yaml")); err != nil {
		t.Error(err)
	}
	w.want(3, "policy", "import", file, "--out", w.path("out/q.yaml")) // roots/a.pem is there
	if got := w.names("out"); len(got) != 2 {
		t.Errorf("%q", got)
	}
	w.want(0, "policy", "import", file, "--out", w.path("out/p.yaml"), "--overwrite")

	// A trust store elsewhere.
	if err := os.Rename(w.path("n/truststore"), w.path("stores")); err != nil {
		t.Fatal(err)
	}
	if got := w.want(3, "policy", "import", file); !strings.Contains(got.err, "no such file") {
		t.Error(got.err)
	}
	w.want(0, "policy", "import", file, "--truststore", w.path("stores"))

	// What notation does not read.
	if err := os.Symlink(w.path("stores/x509/ca/a/root.pem"), w.path("stores/x509/ca/a/link.pem")); err != nil {
		t.Fatal(err)
	}
	if got := w.want(3, "policy", "import", file, "--truststore", w.path("stores")); !strings.Contains(got.err, "link.pem: it is not a regular file") {
		t.Error(got.err)
	}
	if err := os.Remove(w.path("stores/x509/ca/a/link.pem")); err != nil {
		t.Fatal(err)
	}
	w.mkdir("linked/x509/ca")
	if err := os.Symlink(w.path("stores/x509/ca/a"), w.path("linked/x509/ca/a")); err != nil {
		t.Fatal(err)
	}
	if got := w.want(3, "policy", "import", file, "--truststore", w.path("linked")); !strings.Contains(got.err, "it is not a folder") {
		t.Error(got.err)
	}

	// A loss, and what is none.
	below := w.file("below.json", statement("r.example/a"))
	import_ := []string{"policy", "import", below, "--truststore", w.path("stores"), "--out", w.path("never/p.yaml")}
	got = w.want(3, import_...)
	if !strings.Contains(got.err, "below would accept more than now") || strings.Contains(got.err, "--accept-loss") || !strings.HasPrefix(got.out, "refused") {
		t.Errorf("%s%s", got.out, got.err)
	}
	if got := w.want(3, append(import_, "-o", "json")...); got.reason(t) != "policy-loss" {
		t.Error(got.out)
	}
	w.want(3, append(import_, "--accept-loss", "level")...)
	w.want(3, append(import_, "--accept-loss", "bellow")...)
	if left := w.names("never"); len(left) > 0 {
		t.Errorf("%q", left)
	}
	got = w.want(0, append(import_[:5], "--accept-loss", "below")...)
	if !strings.Contains(got.err, "lost: below: scope r.example/a") {
		t.Errorf("%s", got.err)
	}

	// Neither of the two.
	if got := w.want(3, "policy", "import", w.file("x.json", `{"version":1}`), "-o", "json"); got.reason(t) != "import-malformed" {
		t.Error(got.out)
	}
	got = w.want(0, "policy", "import", w.file("policy.json", `{"default":[{"type":"reject"}],"transports":{"docker":{"r.example/a":[{"type":"insecureAcceptAnything"}]}}}`))
	if !strings.Contains(got.out, "accept: unsigned") {
		t.Error(got.out)
	}
}
