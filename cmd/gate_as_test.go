package cmd

import (
	"testing"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestCopyGateJudgesTheTagOfAs: without a tag at the destination the tag that --as names is judged, as verify does.
func TestCopyGateJudgesTheTagOfAs(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	w, lay := signedLayout(t)
	d := w.image("lay", "one", "1.0")
	policy := []string{"--policy", w.policy("p.yaml", `reg.example: {trust: [org], claims: tag}`)}
	for _, tt := range []struct {
		as   string
		code int
	}{{"reg.example/app", 0}, {"reg.example/app:1.0", 0}, {"reg.example/app:2.0", 1}} {
		for _, command := range [][]string{{"verify", lay + "@" + d.String()}, {"copy", lay + "@" + d.String(), s.Host + "/to"}} {
			w.want(tt.code, append(append(command, "--as", tt.as), policy...)...)
		}
	}
}
