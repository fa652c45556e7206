package cmd

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

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

// TestRechainOverAGhost: a new signature that is listed and was deleted is written again, and is not called there.
func TestRechainOverAGhost(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithoutAPI)
	w := newWorld(t)
	renewing(w)
	w.image("lay", "one", "1.0")
	lay := "oci:" + w.path("lay")
	w.want(0, w.sign(lay+":1.0")...)
	w.want(0, "copy", lay+":1.0", s.Host+"/app:1.0")
	rechain := []string{"rechain", s.Host + "/app:1.0", "--chain", w.path("new.pem"), "-o", "json"}
	status := func(want string) digest.Digest {
		t.Helper()
		var r struct {
			Signatures []struct {
				Status string
				New    digest.Digest
			}
		}
		if err := json.Unmarshal([]byte(w.want(0, rechain...).out), &r); err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Signatures {
			if p.New != "" && p.Status == want {
				return p.New
			}
		}
		t.Fatalf("no signature is %q in %+v", want, r.Signatures)
		return ""
	}
	d := status("written")
	status("there")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+s.Host+"/v2/app/manifests/"+d.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	status("written")
	w.want(0, "verify", s.Host+"/app:1.0", "--root", w.path("root.pem"))
}
