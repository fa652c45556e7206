package cmd

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestPruneNamedThatStays: a wrong signature that the registry does not delete is still there, which is no success. What was only
// superseded is left with a word.
func TestPruneNamedThatStays(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.want(0, w.sign("oci:"+w.path("lay")+":1.0")...)
	ref := s.Host + "/app:1.0"
	w.want(0, "copy", "oci:"+w.path("lay")+":1.0", ref)
	var shown struct{ Signatures []struct{ Digest string } }
	if err := json.Unmarshal([]byte(w.want(0, "inspect", ref, "-o", "json").out), &shown); err != nil || len(shown.Signatures) != 1 {
		t.Fatal(err, shown)
	}
	named := []string{"prune", ref, "--signature", shown.Signatures[0].Digest}
	if got := w.want(0, named...); strings.Count(got.out+got.err, "the artifact will be unsigned") != 1 {
		t.Errorf("that it is the last one is said twice, or not:\n%s%s", got.out, got.err)
	}
	for status, code := range map[int]int{http.StatusMethodNotAllowed: 4, http.StatusForbidden: 5} {
		s.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodDelete {
				return false
			}
			rw.WriteHeader(status)
			return true
		})
		if got := w.want(code, append(named, "--yes")...); !strings.Contains(got.err, "is still there") {
			t.Errorf("%d: %s", status, got.err)
		}
	}
	s.Intercept(nil)
	w.want(0, append(named, "--yes")...)
}
