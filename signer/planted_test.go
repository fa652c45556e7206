package signer

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// Everybody can compute what rechain is going to write, and who may push can write it first: so that stock verifiers pass it over.

// store stores a signature without listing it.
func (p place) store(t testing.TB, m registry.Manifest, b []byte) {
	t.Helper()
	parts, err := m.Parse()
	must(t, err)
	must(t, p.PushBytes(t.Context(), *parts.Config, ocispec.DescriptorEmptyJSON.Data))
	must(t, p.PushBytes(t.Context(), parts.Layers[0], b))
	must(t, p.PushManifest(t.Context(), m))
}

// list makes entries the list of subject where there is no API.
func (p place) list(t testing.TB, subject registry.Manifest, entries ...ocispec.Descriptor) {
	t.Helper()
	b, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: entries})
	must(t, err)
	b = []byte(strings.Replace(string(b), `"schemaVersion":0`, `"schemaVersion":2`, 1))
	p.push(t, registry.NewManifest(ocispec.MediaTypeImageIndex, b), "sha256-"+subject.Descriptor.Digest.Encoded())
}

// forget deletes a blob.
func (p place) forget(t testing.TB, d digest.Digest) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+p.server.Host+"/v2/"+p.ref.Path+"/blobs/"+d.String(), nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("deleting %s: %s", d, resp.Status)
	}
}

func misdescriptions() map[string]func(d *ocispec.Descriptor) {
	return map[string]func(d *ocispec.Descriptor){
		"without its type":  func(d *ocispec.Descriptor) { d.ArtifactType = "" },
		"of another size":   func(d *ocispec.Descriptor) { d.Size++ },
		"as something else": func(d *ocispec.Descriptor) { d.MediaType = ocispec.MediaTypeImageIndex },
		"with another type": func(d *ocispec.Descriptor) { d.ArtifactType = "application/other" },
	}
}

func TestRechainPlantedListing(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	plan, err := r.plan(given, RechainOptions{})
	must(t, err)
	for name, edit := range misdescriptions() {
		for _, replace := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := remote(t, regtest.New(t, regtest.WithoutAPI))
				r.put(t, p)
				p.store(t, plan.manifest, plan.envelope.Bytes())
				listed := plan.Proposed().Descriptor
				edit(&listed)
				old := r.sig.Descriptor
				old.ArtifactType = registry.ArtifactTypeSignature
				p.list(t, r.subject, old, listed)
				owner := remote(t, p.server)
				sigs, err := owner.Signatures(t.Context(), r.subject.Descriptor)
				must(t, err)
				var plans []Plan
				for _, sig := range sigs {
					if p, err := PlanRechain(sig, NewPool(given), RechainOptions{Now: r.now, Replace: replace, Siblings: Among(sigs)}); err == nil {
						plans = append(plans, p)
					}
				}
				_, err = Push(t.Context(), owner.Repo, plans)
				must(t, err)
				list, err := remote(t, p.server).Referrers(t.Context(), r.subject.Descriptor, "")
				must(t, err)
				seen := map[digest.Digest]bool{}
				for _, e := range list {
					seen[e.Digest] = e.Describes(plan.Proposed().Descriptor) || e.Describes(r.sig.Descriptor)
				}
				if want := map[bool]int{true: 1, false: 2}[replace]; !seen[plan.New] || len(list) != want {
					t.Errorf("replace %v: the list is %+v", replace, list)
				}
			})
		}
	}
}

// What is listed may have its envelope in the manifest alone: stock verifiers read it by its own digest.
func TestRechainPlantedWithoutEnvelope(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	given := []*x509.Certificate{r.renewed.Certificate}
	plan, err := r.plan(given, RechainOptions{})
	must(t, err)
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := remote(t, regtest.New(t, kind))
			r.put(t, p)
			must(t, p.PushSignature(t.Context(), r.subject.Descriptor, plan.manifest, plan.envelope.Bytes()))
			p.forget(t, digest.FromBytes(plan.envelope.Bytes()))
			r.mustRun(t, remote(t, p.server), given, RechainOptions{Replace: true})
			p = remote(t, p.server)
			if only := p.only(t, r.subject); only.Descriptor.Digest != plan.New {
				t.Fatalf("%s is left", only.Descriptor.Digest)
			}
			must(t, hasEnvelope(t.Context(), p.Repo, plan.manifest))
		})
	}
}

func TestPrunePlanted(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	plan, err := r.plan([]*x509.Certificate{r.renewed.Certificate}, RechainOptions{})
	must(t, err)
	prune := func(t *testing.T, p place) PrunePlan {
		t.Helper()
		sigs, err := p.Signatures(t.Context(), r.subject.Descriptor)
		must(t, err)
		done, err := PlanPrune(sigs, PruneOptions{Now: r.now}).Push(t.Context(), p.Repo)
		must(t, err)
		return done
	}
	stays := func(t *testing.T, p place, done PrunePlan) {
		t.Helper()
		if has, err := p.HasManifest(t.Context(), r.sig.Descriptor); err != nil || !has {
			t.Errorf("the one that verifiers see is deleted: %v; %v", err, fates(done))
		}
	}
	for name, edit := range misdescriptions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := remote(t, regtest.New(t, regtest.WithoutAPI))
			r.put(t, p)
			p.store(t, plan.manifest, plan.envelope.Bytes())
			listed, old := plan.Proposed().Descriptor, r.sig.Descriptor
			old.ArtifactType = registry.ArtifactTypeSignature
			edit(&listed)
			p.list(t, r.subject, old, listed)
			p = remote(t, p.server)
			stays(t, p, prune(t, p))
		})
	}
	for _, kind := range regtest.Kinds {
		t.Run("without envelope, "+string(kind), func(t *testing.T) {
			t.Parallel()
			p := remote(t, regtest.New(t, kind))
			r.put(t, p)
			must(t, p.PushSignature(t.Context(), r.subject.Descriptor, plan.manifest, plan.envelope.Bytes()))
			p.forget(t, digest.FromBytes(plan.envelope.Bytes()))
			p = remote(t, p.server)
			stays(t, p, prune(t, p))
		})
	}
}

// A countersigned form of what is to be written, in a manifest that who sees the old one does not see, is not adopted.
func TestRechainPlantedShape(t *testing.T) {
	t.Parallel()
	r := newRechaining(t)
	tsa := tsatest.New(tsatest.Options{})
	s := &Stamper{Roots: tsa.Roots()}
	plan, err := r.plan([]*x509.Certificate{r.renewed.Certificate}, RechainOptions{})
	must(t, err)
	e, err := plan.envelope.WithTimestamp(tsa.Token(plan.envelope.Unverified().Signature, r.now))
	must(t, err)
	planted := enveloped(e.Bytes(), envelope.JWS, nil)
	legacy := inForm(registry.ByConfig, r.sig)
	for name, c := range map[string]struct {
		old, sibling registry.Signature
		adopted      bool
	}{
		"as the old one":                        {r.sig, planted, true},
		"in the form that everybody sees":       {r.sig, inForm(registry.ByConfig, planted), true},
		"in one that some who see the old pass": {legacy, planted, false},
	} {
		c.sibling.Subject = r.sig.Subject
		got, err := PlanRechain(c.old, NewPool([]*x509.Certificate{r.renewed.Certificate}), RechainOptions{
			Now: r.now, Siblings: Among([]registry.Signature{c.old, c.sibling}), Stamper: s,
		})
		must(t, err)
		if (got.Status == StatusThere) != c.adopted || got.Restamp == c.adopted {
			t.Errorf("%s: %s, restamp %v", name, got.Status, got.Restamp)
		}
	}
}

// --replace takes no countersignature away from those who trust its authority alone, nor has somebody who attached another choose.
func TestRechainReplaceOfAnotherAuthority(t *testing.T) {
	t.Parallel()
	r := newPKI(t)
	tsa, other := authority(t, tsatest.Options{}), authority(t, tsatest.Options{})
	late := []*x509.Certificate{r.id.root.IntermediateWith(r.id.ca.Key, "ca", certtest.Valid(r.now.Add(-time.Minute), r.now.Add(days(900)))).Certificate}
	old := withToken(t, r.sig, tsa.Token(primitive(t, r.sig), r.now.Add(-30*time.Minute)))
	useless := withToken(t, r.sig, tsa.Token(primitive(t, r.sig), r.now.Add(-days(400))))
	plan, err := PlanRechain(old, NewPool(late), RechainOptions{Now: r.now})
	must(t, err)
	e, err := plan.envelope.WithTimestamp(other.Token(primitive(t, r.sig), r.now))
	must(t, err)
	planted := enveloped(e.Bytes(), envelope.JWS, nil)
	both := stamperOf(tsa)
	both.Roots = append(both.Roots, other.Roots()...)
	swapped := stamperOf(other)
	swapped.Roots = append(swapped.Roots, tsa.Roots()...)
	for name, c := range map[string]struct {
		old     registry.Signature
		s       *Stamper
		replace bool
		sibling bool
		refused bool
	}{
		"the same":                     {old, stamperOf(tsa), true, false, false},
		"another":                      {old, stamperOf(other), true, false, true},
		"another, beside":              {old, stamperOf(other), false, false, false},
		"another, as the answer shows": {old, swapped, true, false, true},
		"another, and nobody goes by the old one":     {useless, stamperOf(other), true, false, false},
		"another that somebody attached":              {old, both, true, true, true},
		"another that somebody attached, beside":      {old, both, false, true, false},
		"one attached, and there was none to replace": {r.sig, both, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sigs := []registry.Signature{c.old}
			if c.sibling {
				sigs = append(sigs, planted)
			}
			p, err := PlanRechain(c.old, NewPool(late), RechainOptions{Now: time.Now(), Replace: c.replace, Siblings: Among(sigs), Stamper: c.s})
			if err == nil {
				_, err = Stamp(t.Context(), []Plan{p}, c.s)
			}
			if !c.refused {
				must(t, err)
				return
			}
			wantReason(t, err, "would-break-timestamp", nil)
		})
	}
}

// notation goes through the list, gives up at what it cannot read, and after 100: what it accepts on the way there stays.
func TestPrunePlantedBetween(t *testing.T) {
	t.Parallel()
	s := newSuperseding(t, envelope.Options{})
	old, fresh := s.with(t, nil, nil), s.with(t, s.renewed(years(s.now, -3, 8)), nil)
	other := newSuperseding(t, envelope.Options{}).with(t, nil, nil)
	misdescribed := other
	misdescribed.Misdescribed = true
	var many []registry.Signature
	for range 99 {
		many = append(many, other)
	}
	for name, c := range map[string]struct {
		sigs []registry.Signature
		goes bool
	}{
		"a ghost between":        {[]registry.Signature{old, ghostOf(other), fresh}, false},
		"unreadable between":     {[]registry.Signature{old, unreadableOf(other), fresh}, false},
		"misdescribed between":   {[]registry.Signature{old, misdescribed, fresh}, false},
		"a ghost before":         {[]registry.Signature{ghostOf(other), old, fresh}, true},
		"a ghost after":          {[]registry.Signature{old, fresh, ghostOf(other)}, true},
		"the survivor before it": {[]registry.Signature{fresh, ghostOf(other), old}, true},
		"the hundredth":          {slices.Concat([]registry.Signature{old}, many[:98], []registry.Signature{fresh}), true},
		"the hundred and first":  {slices.Concat([]registry.Signature{old}, many, []registry.Signature{fresh}), false},
		"first, before hundreds": {slices.Concat([]registry.Signature{fresh}, many, many, []registry.Signature{old}), true},
	} {
		for _, p := range PlanPrune(c.sigs, PruneOptions{Now: s.now}).Signatures {
			if p.Signature == old.Descriptor.Digest && (p.Status == PruneGoes) != c.goes {
				t.Errorf("%s: %s (%s: %s)", name, p.Status, p.Reason, p.Detail)
			}
		}
	}
}
