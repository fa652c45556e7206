package cmd

import (
	"net/http"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestRechainThatCannotDeleteYet: the new signature is there, so something was done; running again goes on from there.
func TestRechainThatCannotDeleteYet(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	w := newWorld(t)
	renewing(w)
	w.image("lay", "one", "1.0")
	lay := "oci:" + w.path("lay")
	w.want(0, w.sign(lay+":1.0")...)
	w.want(0, "copy", lay+":1.0", s.Host+"/app:1.0")
	s.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		rw.Header().Set("Retry-After", "3600") // longer than anybody waits
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	rechain := []string{"rechain", s.Host + "/app:1.0", "--chain", w.path("new.pem"), "--replace"}
	w.want(7, rechain...)
	w.want(0, "verify", s.Host+"/app:1.0", "--root", w.path("root.pem"))
	s.Intercept(nil)
	if got := w.want(0, rechain...); !strings.Contains(got.out, "replaced") {
		t.Errorf("the second run says %q", got.out)
	}
}
