package cmd

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
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

// TestRechainAllNothingDone: where nothing was done the exit code is the failure's, and what was only planned is no result.
func TestRechainAllNothingDone(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	w := newWorld(t)
	renewing(w)
	lay := "oci:" + w.path("lay")
	for _, tag := range []string{"1.0", "2.0"} {
		w.image("lay", tag, tag)
		w.want(0, w.sign(lay+":"+tag)...)
		w.want(0, "copy", lay+":"+tag, s.Host+"/app:"+tag)
	}
	s.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		rw.WriteHeader(http.StatusForbidden)
		return true
	})
	other := certtest.Root("another")
	w.file("other.pem", string(certtest.PEM(other.Certificate)))
	for _, c := range []struct {
		code int
		args []string
	}{
		{5, nil},
		{1, []string{"--root", w.path("other.pem")}},
		{1, []string{"--root", w.path("other.pem"), "--dry-run"}},
	} {
		args := append([]string{"rechain", "--all", s.Host + "/app", "--chain", w.path("new.pem")}, c.args...)
		got := w.want(c.code, append(args, "-o", "json")...)
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		var sum struct {
			Items, Done, ExitCode int
			Statuses              map[string]int
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil {
			t.Fatal(err)
		}
		if sum.Items != 2 || sum.Done != 0 || sum.ExitCode != c.code || sum.Statuses["planned"] != 0 {
			t.Errorf("%v: %+v", c.args, sum)
		}
		if got := w.want(c.code, args...); c.code == 1 && (strings.Contains(got.err, "imprint inspect "+s.Host) == false || strings.Contains(got.err, " with the new chain of signature sha256:") == false ||
			strings.Contains(got.err[strings.Index(got.err, "hint:"):], "with the new chain")) {
			t.Errorf("%v: the hint is no command:\n%s", c.args, got.err)
		}
	}
}

// TestRechainPartlyShowsWhatWasDone: one that is refused hides neither the plan of the others nor what became of them.
func TestRechainPartlyShowsWhatWasDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	renewing(w)
	w.image("lay", "one", "1.0")
	lay := "oci:" + w.path("lay")
	w.want(0, w.sign(lay+":1.0")...)
	evil := certtest.Root("Evil Root")
	w.plant("lay", "1.0", func(pub crypto.PublicKey) []*x509.Certificate { return evil.Chain(evil.Leaf(pub, "somebody")) })
	rechain := []string{"rechain", lay + ":1.0", "--chain", w.path("new.pem")}
	if got := w.want(3, append(rechain, "--dry-run")...); !strings.Contains(got.out, "Nothing was written.") || !strings.Contains(got.out, "writes      1 new referrer") {
		t.Errorf("the plan is not shown: %q", got.out)
	}
	w.file("list", lay+":1.0\n")
	if got := w.want(3, "rechain", "--batch", w.path("list"), "--chain", w.path("new.pem"), "--dry-run"); !strings.Contains(got.out, "writes      1 new referrer") || !strings.Contains(got.out, "REFUSED") {
		t.Errorf("the plan of a batch is not shown: %q", got.out)
	}
	if got := w.want(7, rechain...); !strings.Contains(got.out, "1 signature given a new chain") || !strings.Contains(got.out, "identity-changes") {
		t.Errorf("what was done is not shown: %q", got.out)
	}
}
