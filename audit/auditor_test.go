package audit

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// findingsIn renders what an audit found, "name: code text", with each of names in the place of a digest's beginning.
func findingsIn(r Report, names map[string]digest.Digest) []string {
	var out []string
	for _, a := range r.Artifacts {
		name := strings.TrimPrefix(a.Name(), a.Repository)
		if a.Platform != "" {
			name = a.Platform
		}
		for _, f := range a.Findings {
			line := fmt.Sprintf("%s %s: %s", name, f.Code, f.Text)
			for n, d := range names {
				line = strings.ReplaceAll(line, short(d), n)
			}
			out = append(out, line)
		}
	}
	return out
}

func TestAuditRepository(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, kind)
			now := time.Now().UTC().Truncate(time.Second)
			ca := certtest.Root("root").Intermediate("ca", certtest.Valid(now.Add(-100*time.Hour), now.Add(20*24*time.Hour)))
			key, other := certtest.Key("P-256"), certtest.Key("P-256")
			chain := ca.Chain(ca.Leaf(key.Public(), "release", certtest.Valid(now.Add(-90*time.Hour), now.Add(200*24*time.Hour))))
			old := ca.Chain(ca.Leaf(key.Public(), "release", certtest.Valid(now.Add(-90*time.Hour), now.Add(-time.Hour))))
			others := ca.Chain(ca.Leaf(other.Public(), "build bot", certtest.Valid(now.Add(-90*time.Hour), now.Add(200*24*time.Hour))))
			put := func(tag string, m registry.Manifest) registry.Manifest {
				t.Helper()
				must(t, p.Tag(t.Context(), m, tag))
				return m
			}
			signed := func(m registry.Manifest, ago time.Duration, claims ...string) digest.Digest {
				t.Helper()
				return p.attachEnvelope(t, m, envelope.JWS, sign(t, envelope.JWS,
					payloadOf(m, map[string]string{envelope.ClaimsAnnotation: envelope.EncodeClaims(claims)}), key, chain, envelope.Options{SigningTime: now.Add(-ago)}).Bytes())
			}
			v1, v2 := put("1.0", p.image(t, "one")), put("2.0", p.image(t, "two"))
			put("latest", v1)
			put("odd", v2)
			put("stable", v2)
			signed(v1, 3*time.Hour, "1.0", "latest", "stable")
			signed(v2, time.Hour, "2.0", "latest", "stable")
			p.attach(t, v2, "application/spdx+json")

			amd64, arm64, attestation := p.image(t, "amd64"), p.image(t, "arm64"), p.image(t, "attestation")
			multi := put("multi", p.index(t, on(amd64, "linux", "amd64"), on(arm64, "linux", "arm64"), on(attestation, "unknown", "unknown")))
			signed(multi, time.Hour, "multi")
			signed(amd64, time.Hour)

			put("bare", p.image(t, "bare"))
			put("sha256-"+strings.Repeat("0", 64)+".sig", p.image(t, "cosign"))
			junk := p.attachEnvelope(t, put("junk", p.image(t, "junk")), envelope.JWS, []byte("{}"))
			haunted := put("haunted", p.image(t, "haunted"))
			ghost := signed(haunted, time.Hour, "haunted")
			ended := put("ended", p.image(t, "ended"))
			gone := p.attachEnvelope(t, ended, envelope.JWS, sign(t, envelope.JWS, payloadOf(ended, map[string]string{envelope.ClaimsAnnotation: `["ended"]`}), key, old,
				envelope.Options{SigningTime: now.Add(-2 * time.Hour)}).Bytes())
			two := put("two", p.image(t, "both"))
			signed(two, time.Hour, "two")
			p.attachEnvelope(t, two, envelope.COSE, sign(t, envelope.COSE, payloadOf(two, nil), other, others, envelope.Options{SigningTime: now.Add(-time.Hour)}).Bytes())
			p.server.Intercept(notFound(ghost))

			a := New(Options{Now: now, Within: 30 * 24 * time.Hour, FailWithin: 24 * time.Hour})
			part, err := a.Repository(t.Context(), p.Repo)
			must(t, err)
			r := a.Report([]Surveyed{part})
			names := map[string]digest.Digest{"V1": v1.Descriptor.Digest, "V2": v2.Descriptor.Digest, "JUNK": junk, "GHOST": ghost, "GONE": gone}
			got := findingsIn(r, names)
			for i, line := range got {
				if cut := strings.Index(line, "JUNK: "); cut >= 0 { // the parser's words are its own
					got[i] = line[:cut+4]
				}
			}
			want := []string{
				`:1.0 tag-moved-back: latest is at V1, signed before V2 was for the same tag`,
				`:2.0 tag-unclaimed: V2 claims 2.0, latest and stable, not "odd"`,
				`:2.0 claimed-twice: stable is claimed for V1 as well`,
				`:bare artifact-unsigned: unsigned`,
				`:ended all-ended: every signature has ended, the last one on ` + minute(old[0].NotAfter),
				`:haunted no-valid-signature: none of its 1 signatures verifies`,
				`:haunted signature-ghost: signature GHOST is listed and is not there`,
				`:junk no-valid-signature: none of its 1 signatures verifies`,
				`:junk signature-bad: signature JUNK`,
				`:multi platform-unsigned: platform image unsigned: linux/arm64`,
				`:two several-identities: signed by C=DE, ST=BE, O=Acme, CN=build bot and C=DE, ST=BE, O=Acme, CN=release`,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			wantCounts := Counts{Repositories: 1, Artifacts: 13, Tagged: 9, Signed: 6, Signatures: 9, Current: 7, Bad: 2, Ended: 1, Expiring: 7, Failing: 1, Findings: 11, Problems: 9}
			if diff := cmp.Diff(wantCounts, r.Counts); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			wantExpiries := []Expiry{
				{At: old[0].NotAfter, Kind: EndLeaf, Subject: "C=DE, ST=BE, O=Acme, CN=release", Signatures: 1, Artifacts: 1, Remedy: RemedyReissue, Ended: true, Listed: true, Fails: true},
				{At: ca.Certificate.NotAfter, Kind: EndIntermediate, Subject: "C=DE, ST=BE, O=Acme, CN=ca", Signatures: 6, Artifacts: 5, Remedy: RemedyRechain, Listed: true},
			}
			for i := range r.Expiries {
				r.Expiries[i].Certificate = ""
			}
			if diff := cmp.Diff(wantExpiries, r.Expiries); diff != "" {
				t.Errorf("expiries (-want +got):\n%s", diff)
			}
			var order []string
			for _, a := range r.Artifacts {
				order = append(order, strings.TrimSpace(fmt.Sprintf("%s %s%s", a.Role, strings.Join(a.Tags, " "), a.Platform)))
			}
			wantOrder := []string{"root 1.0 latest", "root 2.0 odd stable", "referrer", "root bare", "root ended", "root haunted", "root junk", "root multi", "child linux/amd64", "child linux/arm64", "child unknown/unknown",
				"root sha256-" + strings.Repeat("0", 64) + ".sig", "root two"}
			if diff := cmp.Diff(wantOrder, order); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			if c := r.Certificates; len(c) != 5 { // root, ca, three leaves
				t.Errorf("%d certificates", len(c))
			}
			if got := len(r.Leaves()); got != 3 {
				t.Errorf("%d leaves", got)
			}
			if !r.Repositories[0].Claims || r.Repositories[0].Unsigned != 3 || !r.Repositories[0].FirstEnd.Equal(old[0].NotAfter) {
				t.Errorf("repository %+v", r.Repositories[0])
			}
			var b bytes.Buffer
			must(t, WriteMetrics(&b, r))
			checkMetrics(t, b.String())
		})
	}
}

// Each signature is read once, and what is asked besides is what the walk asks.
func TestAuditReadsEachSignatureOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t, regtest.WithAPI)
	key, chain := certtest.ChainOf(3, "P-256")
	reads := map[string]int{}
	want := map[string]int{}
	for i := range 5 {
		m := p.image(t, fmt.Sprint(i))
		must(t, p.Tag(t.Context(), m, fmt.Sprintf("t%d", i)))
		want["/v2/team/app/manifests/"+p.attachEnvelope(t, m, envelope.JWS, sign(t, envelope.JWS, payloadOf(m, nil), key, chain, envelope.Options{SigningTime: time.Now()}).Bytes()).String()] = 1
	}
	from := len(p.server.Requests())
	a := New(Options{Now: time.Now()})
	part, err := a.Repository(t.Context(), p.Repo)
	must(t, err)
	for _, r := range p.server.Requests()[from:] {
		if want[r.Path] > 0 {
			reads[r.Path]++
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("it wrote: %s %s", r.Method, r.Path)
		}
	}
	if diff := cmp.Diff(want, reads); diff != "" {
		t.Errorf("reads of signatures (-want +got):\n%s", diff)
	}
	if n := len(part.Artifacts); n != 5 {
		t.Errorf("%d artifacts", n)
	}
}

func TestAuditSaysWhatItCouldNotSee(t *testing.T) {
	t.Parallel()
	p := newPlace(t, regtest.WithAPI)
	seen, broken := p.image(t, "seen"), p.image(t, "broken")
	must(t, p.Tag(t.Context(), seen, "seen"))
	must(t, p.Tag(t.Context(), broken, "broken"))
	p.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/"+broken.Descriptor.Digest.String()) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	a := New(Options{Now: time.Now()})
	part, err := a.Repository(t.Context(), p.Repo)
	must(t, err)
	r := a.Report([]Surveyed{part}, Unseen{Item: "elsewhere/app", Text: "no"})
	want := p.ref.With("", broken.Descriptor.Digest).String()
	if len(r.Unseen) != 2 || r.Unseen[0].Item != want || !errors.Is(r.Unseen[0].Err, registry.ErrUnauthorized) || r.Counts.Unseen != 2 {
		t.Errorf("%+v", r.Unseen)
	}
	// What could not be listed is not called unsigned.
	if got := findingsIn(r, nil); !slices.Equal(got, []string{":seen artifact-unsigned: unsigned"}) {
		t.Errorf("%q", got)
	}
}
