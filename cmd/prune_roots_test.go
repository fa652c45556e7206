package cmd

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry/regtest"
	"github.com/imprint-oci/imprint/signer"
)

// TestPruneComparesTimestamps: a new countersignature by another authority of the same root is worth the old one only to who knows that
// root: from --timestamp-roots, or a policy.
func TestPruneComparesTimestamps(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, true)
	cousin := tsatest.New(tsatest.Options{Root: f.tsa.Root, Name: "cousin"})
	url := cousin.Start()
	defer cousin.Stop()
	ref := f.server.Host + "/app:1"
	f.want(0, append([]string{"rechain", ref, "--timestamp-url", url, "--timestamp-roots", f.path("tsa.pem"), "--allow-private", "-q"}, f.chain()...)...)
	policy := f.file("policy.yaml", "version: 1\nroots: {r: root.pem}\ntimestamps: {roots: [tsa.pem], use: always}\nscopes: {\"*\": [r]}\n")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "needed"},
		{[]string{"--root", f.path("root.pem")}, "needed"},
		{[]string{"--timestamp-roots", f.path("tsa.pem")}, "superseded"},
		{[]string{"--policy", policy}, "superseded"},
	} {
		got := f.want(0, append([]string{"prune", ref, "-o", "json"}, c.flags...)...)
		var plan struct {
			Signatures []struct{ Status, Reason string }
		}
		if err := json.Unmarshal([]byte(got.out), &plan); err != nil {
			t.Fatal(err)
		}
		reasons := map[string]bool{}
		for _, s := range plan.Signatures {
			reasons[s.Reason] = true
		}
		if len(plan.Signatures) != 2 || !reasons["newest"] || !reasons[c.want] {
			t.Errorf("%v: %+v, want newest and %s", c.flags, plan.Signatures, c.want)
		}
	}
}

// TestPruneHiddenSurvivor: what a list names without its type stock verifiers pass over, so nothing is planned to go for its sake.
func TestPruneHiddenSurvivor(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, false)
	f.want(0, append([]string{"rechain", f.server.Host + "/app:1", "-q"}, f.chain()...)...)
	var newer digest.Digest
	sigs, err := f.repo("app").Signatures(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range sigs {
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		if e.Unverified().Chain[1].Equal(f.new.Certificate) {
			newer = sig.Descriptor.Digest
		}
	}
	f.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/"+d.Digest.String()) {
			return false
		}
		list := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
		list.SchemaVersion = 2
		for _, sig := range sigs {
			entry := ocispec.Descriptor{MediaType: sig.Manifest.Descriptor.MediaType, Digest: sig.Descriptor.Digest, Size: sig.Manifest.Descriptor.Size}
			if entry.ArtifactType = "application/vnd.cncf.notary.signature"; entry.Digest == newer {
				entry.ArtifactType = ""
			}
			list.Manifests = append(list.Manifests, entry)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(list)
		return true
	})
	got := f.want(0, "prune", "--all", f.server.Host+"/app", "-o", "json")
	if !strings.Contains(got.out, `"survivor-hidden"`) || strings.Contains(got.out, `"goes"`) {
		t.Errorf("%s", got.out)
	}
}

// TestPruneSaysWhatIsGone: what was deleted before a run failed is in the JSON, with all that it takes to put it back.
func TestPruneSaysWhatIsGone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	d := f.artifact("app", "1")
	f.signed("app", d, "release", envelope.JWS, false)
	between := f.root.IntermediateWith(f.old.Key, "Acme CA 3", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(40*24*time.Hour)))
	ref := f.server.Host + "/app:1"
	f.want(0, "rechain", ref, "--chain", f.file("between.pem", string(certtest.PEM(between.Certificate))), "-q")
	f.want(0, append([]string{"rechain", ref, "-q"}, f.chain()...)...)
	var deleted atomic.Int64
	f.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			deleted.Add(1)
		}
		if deleted.Load() == 0 || !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	got := f.want(7, "prune", ref, "--yes", "-o", "json")
	var gone []signer.Removed
	for _, l := range lines(got.out) {
		var line struct{ Deleted []signer.Removed }
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatal(err)
		}
		gone = append(gone, line.Deleted...)
	}
	if deleted.Load() != 1 || len(gone) != 1 || digest.FromBytes(gone[0].Manifest) != gone[0].Signature || digest.FromBytes(gone[0].Envelope) != gone[0].EnvelopeHash {
		t.Errorf("%d deleted, of which is said %+v\n%s", deleted.Load(), gone, got.out)
	}
	f.server.Intercept(nil)
	f.want(0, "prune", ref, "--yes")
	if n := len(f.listed("app", d)); n != 1 {
		t.Errorf("%d signatures after the next run", n)
	}
}
