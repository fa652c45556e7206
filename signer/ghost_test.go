package signer

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
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

// Where something that cannot be read stands between the old signature and the new one, stock notation would give up there: the old
// one stays, with a warning, until it has been taken away.
func TestRechainReplaceBeforeAnUnreadable(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	s := regtest.New(t, regtest.WithoutAPI)
	p := remote(t, s)
	r.put(t, p)
	var body map[string]any
	must(t, json.Unmarshal(r.sig.Manifest.Bytes, &body))
	body["layers"] = append(body["layers"].([]any), body["layers"].([]any)[0]) // a signature has one
	b, err := json.Marshal(body)
	must(t, err)
	stop := registry.NewManifest(ocispec.MediaTypeImageManifest, b)
	must(t, p.Attach(t.Context(), r.subject.Descriptor, stop))
	replace := func() Plan {
		t.Helper()
		again := remote(t, s)
		sigs, err := again.Signatures(t.Context(), r.subject.Descriptor)
		must(t, err)
		for _, sig := range sigs {
			if sig.Descriptor.Digest != r.sig.Descriptor.Digest {
				continue
			}
			plan, err := PlanRechain(sig, NewPool([]*x509.Certificate{r.renewed.Certificate}), RechainOptions{Replace: true, Now: r.now, Siblings: Among(sigs)})
			must(t, err)
			plan, err = plan.Push(t.Context(), again.Repo)
			must(t, err)
			return plan
		}
		t.Fatal("the old signature is gone")
		return Plan{}
	}
	for range 2 { // also once the new one is there
		plan := replace()
		if plan.Status != StatusOldLeft || len(plan.Warnings) == 0 || !strings.Contains(plan.Warnings[len(plan.Warnings)-1], stop.Descriptor.Digest.String()) {
			t.Fatalf("%s, warnings %q", plan.Status, plan.Warnings)
		}
	}
	must(t, remote(t, s).Detach(t.Context(), r.subject.Descriptor, stop.Descriptor.Digest))
	if plan := replace(); plan.Status != StatusReplaced {
		t.Errorf("with nothing in between: %s, warnings %q", plan.Status, plan.Warnings)
	}
}

// A registry that goes on listing the old signature which it has deleted is told of, since stock notation then may refuse the artifact.
func TestRechainReplaceLeavesAGhost(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	s := regtest.New(t, regtest.WithAPI)
	r.put(t, remote(t, s))
	plan, err := r.plan([]*x509.Certificate{r.renewed.Certificate}, RechainOptions{Replace: true})
	must(t, err)
	both := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{r.sig.Manifest.Descriptor, plan.manifest.Descriptor}}
	both.SchemaVersion = 2
	for i := range both.Manifests {
		both.Manifests[i].ArtifactType = registry.ArtifactTypeSignature
	}
	var deleted atomic.Bool
	s.Intercept(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodDelete {
			deleted.Store(true)
		}
		if !deleted.Load() || !strings.Contains(q.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		must(t, json.NewEncoder(w).Encode(both))
		return true
	})
	after, err := plan.Push(t.Context(), remote(t, s).Repo)
	must(t, err)
	if after.Status != StatusReplaced || len(after.Warnings) != 1 || !strings.Contains(after.Warnings[0], "deleted "+r.sig.Descriptor.Digest.String()+" and still lists it") {
		t.Errorf("%s, warnings %q", after.Status, after.Warnings)
	}
}
