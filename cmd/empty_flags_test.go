package cmd

import (
	"strings"
	"testing"
)

// TestEmptyJudgingFlags: what a script hands in as "" because its variable is not set asked for a judgement, which
// must not be left out for it.
func TestEmptyJudgingFlags(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	w.image("lay", "two", "unsigned")
	policy := []string{"--policy", w.policy("p.yaml", `"*": [org]`), "--as", "reg.example/app"}
	for _, args := range [][]string{
		{"copy", lay + ":unsigned", "oci:" + w.path("dst"), "--policy", ""},
		{"copy", lay + ":unsigned", "oci:" + w.path("dst"), "--policy="},
		{"copy", lay + ":unsigned", "oci:" + w.path("dst"), "--root", ""},
		{"rechain", lay + ":1.0", "--chain", w.path("chain.pem"), "--policy", ""},
		{"verify", lay + ":1.0", "--policy", ""},
		append([]string{"verify", lay + ":1.0", "--policy-sha256", ""}, policy...),
		append([]string{"verify", lay + ":1.0", "--policy-sha256", "sha256:"}, policy...),
		append([]string{"verify", lay + ":1.0", "--algorithms", ""}, policy...),
		append([]string{"verify", lay + ":1.0", "--only-root", ""}, policy...),
		append([]string{"verify", lay + ":1.0", "--max-age", ""}, policy...),
		append([]string{"verify", lay + ":1.0"}, "--as", "", "--policy", w.path("p.yaml")),
		{"verify", lay + ":1.0", "--root", w.path("root.pem"), "--identity", ""},
		{"rechain", lay + ":1.0", "--chain", ""},
		{"rechain", lay + ":1.0", "--chain", w.path("chain.pem"), "--replacing", ""},
		{"rechain", lay + ":1.0", "--chain", w.path("chain.pem"), "--timestamp-url", ""},
	} {
		if got := w.run(args...); got.code != 3 {
			t.Errorf("imprint %s: exit %d, want 3: %s", strings.Join(args, " "), got.code, got.out)
		} else if strings.Contains(got.err, "reading :") {
			t.Errorf("imprint %s: %s", strings.Join(args, " "), got.err)
		}
		if len(w.tree("dst")) > 0 {
			t.Fatal("something was copied")
		}
	}
}
