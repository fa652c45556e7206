package registry

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// A ghost is taken out of the fallback index; what answers stays listed, and nothing is deleted.
func TestUnlist(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			r := openTest(t, newTestClient(t, Options{}), s.Host, "app")
			image := pushImage(t, r, "image")
			ms := attachAll(t, r, image, "there", "ghost")
			listed := func(want []Manifest, when string) {
				t.Helper()
				list, err := openTest(t, newTestClient(t, Options{}), s.Host, "app").Referrers(t.Context(), image.Descriptor, "")
				if diff := cmp.Diff(digestsOf(want), digests(list)); err != nil || diff != "" {
					t.Errorf("%s: %v\n%s", when, err, diff)
				}
			}
			s.Reset()
			for _, m := range ms {
				if err := r.Unlist(t.Context(), image.Descriptor, m.Descriptor.Digest); err != nil {
					t.Fatal(err)
				}
			}
			listed(ms, "both are there")
			if n := s.Writes(); n != 0 {
				t.Errorf("%d writes for what is there", n)
			}

			req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+s.Host+"/v2/app/manifests/"+ms[1].Descriptor.Digest.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req) // behind everybody's back
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			s.Reset()
			if err := r.Unlist(t.Context(), image.Descriptor, ms[1].Descriptor.Digest); err != nil {
				t.Fatal(err)
			}
			listed(ms[:1], "one is gone")
			if n := s.Count(func(q regtest.Request) bool { return q.Method == http.MethodDelete }); n != 0 {
				t.Errorf("%d deletions", n)
			}
		})
	}
}
