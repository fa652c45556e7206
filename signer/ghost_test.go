package signer

import (
	"crypto/x509"
	"net/http"
	"testing"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// A new signature that was deleted and is listed still is not there: rechain writes it again, and does not call it done.
func TestRechainRepairsAGhost(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	for name, o := range map[string]RechainOptions{"beside": {}, "replace": {Replace: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, regtest.WithoutAPI)
			p := remote(t, s)
			r.put(t, p)
			plan := r.mustRun(t, p, given, RechainOptions{})[0]
			// Behind our back, as a registry's garbage collection or another tool does.
			req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+s.Host+"/v2/"+p.Reference().Path+"/manifests/"+plan.New.String(), nil)
			must(t, err)
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				t.Fatal(resp.Status)
			}
			if _, listed, ghosts := r.valid(t, s); len(listed) != 2 || ghosts != 1 {
				t.Fatalf("%v, %d ghosts", listed, ghosts)
			}
			again := remote(t, s)
			sigs, err := again.Signatures(t.Context(), r.subject.Descriptor)
			must(t, err)
			o.Now = r.now
			for _, sig := range sigs {
				if sig.Err != nil {
					continue
				}
				plan, err := PlanRechain(sig, NewPool(given), o)
				must(t, err)
				if plan, err = plan.Push(t.Context(), again.Repo); err != nil || plan.Status != map[bool]string{false: StatusWritten, true: StatusReplaced}[o.Replace] {
					t.Errorf("%s: %v", plan.Status, err)
				}
			}
			if valid, listed, ghosts := r.valid(t, s); ghosts != 0 || valid != len(listed) {
				t.Errorf("%d of %v valid, %d ghosts", valid, listed, ghosts)
			}
		})
	}
}
