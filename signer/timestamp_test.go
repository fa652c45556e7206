package signer

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// authorityUntil is an authority whose own certificate ends at a time.
func authorityUntil(t testing.TB, root *tsatest.Authority, end time.Time) *tsatest.Authority {
	o := tsatest.Options{Edits: []certtest.Edit{certtest.Valid(time.Now().AddDate(-1, 0, 0), end)}}
	if root != nil {
		o.Root, o.CA = root.Root, root.CA
	}
	return authority(t, o)
}

// all signatures of a subject, in the order of the list.
func (p place) sigs(t testing.TB, subject registry.Manifest) []registry.Signature {
	t.Helper()
	sigs, err := p.Signatures(t.Context(), subject.Descriptor)
	must(t, err)
	return sigs
}

// timestamp does as the command does.
func (p place) timestamp(t testing.TB, subject registry.Manifest, s *Stamper, o TimestampOptions) []TimestampPlan {
	t.Helper()
	var err error
	o.Roots = s.Roots
	o.Authority, err = s.Probe(t.Context())
	must(t, err)
	o.Now = time.Now()
	plans, err := StampAll(t.Context(), PlanTimestamps(p.sigs(t, subject), o), s)
	must(t, err)
	plans, err = PushTimestamps(t.Context(), p.Repo, plans)
	must(t, err)
	return plans
}

func stampFates(plans []TimestampPlan) string {
	var out []string
	for _, p := range plans {
		out = append(out, strings.TrimSpace(p.Status+" "+p.Reason))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestTimestamp: added beside the old one, without a key, and the second run changes nothing.
func TestTimestamp(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		tsa := authority(t, tsatest.Options{})
		id := newIdentity("release")
		subject := p.image(t, "app", "1.0")
		p.sign(t, subject, id, Options{Tag: "1.0"})
		p.sign(t, subject, newIdentity("second"), Options{Tag: "1.0", Format: envelope.COSE, Metadata: map[string]string{"a": "b"}})
		before := p.found(t, subject)
		annotations := map[string]string{}
		for _, sig := range p.sigs(t, subject) {
			annotations[string(before[sig.Descriptor.Digest].CoreID())] = sig.Annotations["org.opencontainers.image.created"]
		}

		s := stamperOf(tsa)
		plans := p.timestamp(t, subject, s, TimestampOptions{})
		if stampFates(plans) != "written, written" || tsa.Requests() != 3 {
			t.Fatalf("%s, %d requests", stampFates(plans), tsa.Requests())
		}
		after := p.found(t, subject)
		if len(after) != 4 {
			t.Fatalf("%d signatures", len(after))
		}
		for _, plan := range plans {
			carried(t, before[plan.Signature], after[plan.New])
			said, err := StampOf(after[plan.New], tsa.Roots())
			if err != nil || plan.Stamped == nil || !said.At.Equal(plan.Stamped.At) || plan.Present != nil || !after[plan.New].Chain.Equal(before[plan.Signature].Chain) {
				t.Errorf("%+v: %v", plan, err)
			}
		}
		for _, sig := range p.sigs(t, subject) {
			core := string(after[sig.Descriptor.Digest].CoreID())
			if sig.Annotations["org.opencontainers.image.created"] != annotations[core] || sig.Annotations[registry.AnnotationThumbprint] == "" {
				t.Errorf("annotations %v", sig.Annotations)
			}
		}

		again := p.timestamp(t, subject, s, TimestampOptions{})
		if stampFates(again) != "there, there, unchanged, unchanged" || tsa.Requests() != 3 || len(p.found(t, subject)) != 4 {
			t.Errorf("again: %s, %d requests", stampFates(again), tsa.Requests())
		}
		// The old ones go now, since each has a twin: nothing is asked for.
		gone := p.timestamp(t, subject, s, TimestampOptions{Replace: true})
		if got := stampFates(gone); got != "replaced, replaced, unchanged, unchanged" || tsa.Requests() != 3 {
			t.Errorf("with Replace: %s", got)
		}
		if left := p.found(t, subject); len(left) != 2 {
			t.Errorf("%d are left", len(left))
		} else {
			for d := range left {
				if _, ok := before[d]; ok {
					t.Error("an old one is left")
				}
			}
		}
	})
}

func TestTimestampReplace(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		tsa := authority(t, tsatest.Options{})
		subject := p.image(t, "app", "1.0")
		p.sign(t, subject, newIdentity("release"), Options{Tag: "1.0"})
		plans := p.timestamp(t, subject, stamperOf(tsa), TimestampOptions{Replace: true})
		if stampFates(plans) != "replaced" || p.only(t, subject).Descriptor.Digest != plans[0].New {
			t.Errorf("%s", stampFates(plans))
		}
	})
}

// TestTimestampRefresh: a token is exchanged for one whose authority's certificates last longer, and only then.
func TestTimestampRefresh(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	old := authorityUntil(t, nil, time.Now().AddDate(0, 0, 20))
	same, new := authorityUntil(t, old, old.Certificate.NotAfter), authorityUntil(t, old, time.Now().AddDate(2, 0, 0))
	shorter := authorityUntil(t, old, time.Now().AddDate(0, 0, 5))
	subject := p.image(t, "app", "1.0")
	first := p.sign(t, subject, newIdentity("release"), Options{Tag: "1.0", Timestamp: stamperOf(old)}).Signatures[0].Signature

	for name, a := range map[string]*tsatest.Authority{"as long": same, "shorter": shorter} {
		if plans := p.timestamp(t, subject, stamperOf(a), TimestampOptions{}); stampFates(plans) != "unchanged" {
			t.Errorf("%s: %s", name, stampFates(plans))
		}
	}
	for _, c := range []struct {
		within time.Duration
		want   string
	}{{days(10), "left-out"}, {days(30), "planned"}, {0, "planned"}} {
		s := stamperOf(new)
		known, err := s.Probe(t.Context())
		must(t, err)
		plans := PlanTimestamps([]registry.Signature{find(t, p.sigs(t, subject), first)}, TimestampOptions{Roots: s.Roots, Authority: known, Now: time.Now(), Expiring: c.within})
		if stampFates(plans) != c.want || plans[0].Present == nil || !plans[0].Present.HoldsUntil.Equal(old.Certificate.NotAfter) {
			t.Errorf("within %v: %s", c.within, stampFates(plans))
		}
	}
	plans := p.timestamp(t, subject, stamperOf(new), TimestampOptions{Expiring: days(30)})
	var refreshed TimestampPlan
	for _, plan := range plans {
		if plan.Signature == first {
			refreshed = plan
		}
	}
	if refreshed.Status != StatusWritten || !refreshed.Stamped.HoldsUntil.Equal(new.Certificate.NotAfter) {
		t.Fatalf("%+v", refreshed)
	}
	count := len(p.found(t, subject))
	if again := p.timestamp(t, subject, stamperOf(new), TimestampOptions{}); strings.Contains(stampFates(again), "written") || len(p.found(t, subject)) != count {
		t.Errorf("again: %s", stampFates(again))
	}
	if replaced := p.timestamp(t, subject, stamperOf(new), TimestampOptions{Replace: true}); !strings.Contains(stampFates(replaced), "replaced") || !slices.ContainsFunc(replaced, func(p TimestampPlan) bool {
		return strings.Contains(strings.Join(p.Warnings, " "), "with the old timestamp goes the proof")
	}) {
		t.Errorf("with Replace: %s", stampFates(replaced))
	}
	// What has none is not meant where those are that end soon.
	bare := p.image(t, "bare", "bare")
	p.sign(t, bare, newIdentity("release"), Options{Tag: "bare"})
	if plans := p.timestamp(t, bare, stamperOf(new), TimestampOptions{Expiring: days(30)}); stampFates(plans) != "left-out" {
		t.Errorf("without a token: %s", stampFates(plans))
	}
}

func find(t testing.TB, sigs []registry.Signature, d interface{ String() string }) registry.Signature {
	t.Helper()
	for _, sig := range sigs {
		if sig.Descriptor.Digest.String() == d.String() {
			return sig
		}
	}
	t.Fatalf("%s is not listed", d)
	return registry.Signature{}
}

// withToken is a signature with a token of its own.
func withToken(t testing.TB, sig registry.Signature, token []byte) registry.Signature {
	t.Helper()
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	must(t, err)
	e, err = e.WithTimestamp(token)
	must(t, err)
	return enveloped(e.Bytes(), e.Format(), sig.Annotations)
}

func primitive(t testing.TB, sig registry.Signature) []byte {
	t.Helper()
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	must(t, err)
	return verified(t, e).Signature
}

// TestPlanTimestamps: what is planned for each kind of signature, with and without --replace, and what nobody is asked for.
func TestPlanTimestamps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tsa, elsewhere := tsatest.New(tsatest.Options{}), tsatest.New(tsatest.Options{Name: "elsewhere"})
	rival := tsatest.New(tsatest.Options{Name: "rival"})
	id := newIdentity("release")
	bare := signature(t, id, envelope.JWS, now.Add(-time.Hour), nil)
	ended := signature(t, newIdentity("ended", certtest.Valid(now.Add(-20*time.Hour), now.Add(-time.Hour))), envelope.COSE, now.Add(-10*time.Hour), nil)
	broken := bare
	broken.Envelope = bytes.Replace(bare.Envelope, []byte(`"signature":"`), []byte(`"signature":"AAAA`), 1)
	for name, c := range map[string]struct {
		sig             registry.Signature
		want, replacing string
		useless         string // in why the present one is of no use
	}{
		"none":                       {bare, "planned", "planned", ""},
		"good":                       {withToken(t, bare, tsa.Token(primitive(t, bare), now)), "unchanged", "unchanged", ""},
		"of an authority elsewhere":  {withToken(t, bare, elsewhere.Token(primitive(t, bare), now)), "planned", "skipped would-break-timestamp", "unknown authority"},
		"of another that is trusted": {withToken(t, bare, rival.Token(primitive(t, bare), now)), "planned", "skipped would-break-timestamp", ""},
		"before its chain":           {withToken(t, bare, tsa.Token(primitive(t, bare), now.AddDate(0, 0, -5))), "planned", "planned", "does not lie inside"},
		"chain ended":                {ended, "skipped expired", "skipped expired", ""},
		"chain ended, with a token":  {withToken(t, ended, tsa.Token(primitive(t, ended), now.Add(-5*time.Hour))), "unchanged", "unchanged", ""},
		"signing authority":          {authentic(t, id, now), "skipped timestamp-ignored", "skipped timestamp-ignored", ""},
		"broken":                     {broken, "skipped signature-invalid", "skipped signature-invalid", ""},
		"not there":                  {registry.Signature{Subject: someSubject, Descriptor: bare.Descriptor, Err: &registry.Error{Code: "x", Err: registry.ErrNotFound}}, "skipped x", "skipped x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roots := slices.Concat(tsa.Roots(), rival.Roots())
			known := Stamped{HoldsUntil: tsa.Certificate.NotAfter, chain: tsa.Chain()}
			if strings.Contains(name, "another that is trusted") { // whose certificates end earlier
				known.HoldsUntil = rival.Certificate.NotAfter.Add(time.Hour)
			}
			for _, replace := range []bool{false, true} {
				plans := PlanTimestamps([]registry.Signature{c.sig}, TimestampOptions{Roots: roots, Authority: known, Now: now, Replace: replace})
				want := c.want
				if replace {
					want = c.replacing
				}
				if got := stampFates(plans); got != want || (plans[0].Err() != nil) != strings.HasPrefix(want, "skipped") {
					t.Errorf("replace %v: %s, want %s (%v)", replace, got, want, plans[0].Err())
				}
				if (plans[0].Useless == "") != (c.useless == "") || !strings.Contains(plans[0].Useless, c.useless) {
					t.Errorf("of no use since %q, want %q", plans[0].Useless, c.useless)
				}
			}
		})
	}
}

// TestPlanTimestampsVerdicts: what the plan says of verifiers is what they say of what comes of it.
func TestPlanTimestampsVerdicts(t *testing.T) {
	t.Parallel()
	tsa := authority(t, tsatest.Options{})
	s := stamperOf(tsa)
	known, err := s.Probe(t.Context())
	must(t, err)
	bare := signature(t, newIdentity("release"), envelope.JWS, time.Now(), nil)
	planned := PlanTimestamps([]registry.Signature{bare}, TimestampOptions{Roots: s.Roots, Authority: known, Now: time.Now()})
	done, err := StampAll(t.Context(), planned, s)
	must(t, err)
	say := func(all []Verdict) (out []bool) {
		for _, v := range all {
			out = append(out, v.Old, v.New, v.Both)
		}
		return out
	}
	for _, plans := range [][]TimestampPlan{planned, done} {
		// No TSA root, always, after expiry: as it is, with it, both.
		if got := say(plans[0].Verdicts); !slices.Equal(got, []bool{true, true, true, false, true, true, true, true, true}) {
			t.Errorf("today: %v", got)
		}
		if got := say(plans[0].Afterwards); !slices.Equal(got, []bool{false, false, false, false, true, true, false, true, true}) {
			t.Errorf("afterwards: %v", got)
		}
	}
	if planned[0].Envelope() == done[0].Envelope() || planned[0].Stamped != nil || done[0].Stamped == nil || done[0].New == "" {
		t.Error("the plan was changed, or nothing came of it")
	}
	if got := done[0].Proposed(); got.Descriptor.Digest != done[0].New {
		t.Errorf("proposed %s, want %s", got.Descriptor.Digest, done[0].New)
	}
	if out := done[0].Outline(); out.Envelope() != nil || out.New != done[0].New {
		t.Error("the outline holds bytes, or lost what it says")
	}
}

// TestTimestampTwins: of two that are the same signature one is countersigned for both.
func TestTimestampTwins(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithoutAPI))
	tsa := authority(t, tsatest.Options{})
	subject := p.image(t, "app", "1.0")
	p.sign(t, subject, newIdentity("release"), Options{Tag: "1.0"})
	sig := p.only(t, subject)
	twin := sig.Form().Manifest(subject.Descriptor, sig.MediaType, sig.Envelope, map[string]string{"other": "annotations", registry.AnnotationThumbprint: sig.Annotations[registry.AnnotationThumbprint]})
	must(t, p.PushSignature(t.Context(), subject.Descriptor, twin, sig.Envelope))
	plans := p.timestamp(t, subject, stamperOf(tsa), TimestampOptions{})
	if tsa.Requests() != 2 || stampFates(plans) != "written, written" {
		t.Errorf("%s, %d requests", stampFates(plans), tsa.Requests())
	}
	if again := p.timestamp(t, subject, stamperOf(tsa), TimestampOptions{}); stampFates(again) != "there, there, unchanged, unchanged" {
		t.Errorf("again: %s", stampFates(again))
	}
}

// TestStampAllFails: what was countersigned before is written all the same, and the next run goes on.
func TestStampAllFails(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	tsa := authority(t, tsatest.Options{})
	subject := p.image(t, "app", "1.0")
	for _, cn := range []string{"a", "b", "c"} {
		p.sign(t, subject, newIdentity(cn), Options{Tag: "1.0"})
	}
	s := stamperOf(tsa)
	known, err := s.Probe(t.Context())
	must(t, err)
	plans := PlanTimestamps(p.sigs(t, subject), TimestampOptions{Roots: s.Roots, Authority: known, Now: time.Now()})
	one, err := StampAll(t.Context(), plans[:1], s)
	must(t, err)
	tsa.Stop()
	plans[0] = one[0]
	plans, err = StampAll(t.Context(), plans, s)
	wantReason(t, err, "tsa-unavailable", ErrAuthority)
	plans, err = PushTimestamps(t.Context(), p.Repo, plans)
	must(t, err)
	if stampFates(plans) != "planned, planned, written" || len(p.found(t, subject)) != 4 {
		t.Errorf("%s", stampFates(plans))
	}
	again := authority(t, tsatest.Options{Root: tsa.Root, CA: tsa.CA, Edits: []certtest.Edit{func(c *x509.Certificate) { c.NotAfter = tsa.Certificate.NotAfter }}})
	if got := stampFates(p.timestamp(t, subject, stamperOf(again), TimestampOptions{})); got != "there, unchanged, written, written" {
		t.Errorf("again: %s", got)
	}
}
