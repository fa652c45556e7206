package signer

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// serviceKey is a key at a service, and counts.
type serviceKey struct{ *spyKey }

func (serviceKey) Describe() kms.Description { return kms.Description{Service: "test KMS"} }

func TestSignWithTimestamp(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		tsa := authority(t, tsatest.Options{})
		for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
			id := newIdentity("release")
			index, _, _ := p.index(t, format.Short(), format.Short())
			o := Options{Tag: format.Short(), Format: format, Recursive: true, ReadBack: true, Timestamp: stamperOf(tsa)}
			asked := tsa.Requests()
			r := p.sign(t, index, id, o)
			if shown(r) != "new new new" || r.Written != 3 || r.Stamped != 0 || r.KeyCalls != 3 || tsa.Requests()-asked != 3 {
				t.Fatalf("%s: %s, %+v, %d requests", format, shown(r), r, tsa.Requests()-asked)
			}
			_, until := id.chain.HoldsUntil()
			if !r.HoldsUntil.Equal(until) {
				t.Errorf("holds until %v, want %v: a timestamp renews no chain", r.HoldsUntil, until)
			}
			for _, signed := range r.Signatures {
				m, err := p.Resolve(t.Context(), p.ref.With("", signed.Subject.Digest))
				must(t, err)
				said, err := StampOf(p.found(t, m)[signed.Signature], tsa.Roots())
				if err != nil || !said.At.Equal(signed.Timestamp.At) {
					t.Errorf("%s: %+v, %v", signed.What, said, err)
				}
			}
			// The second time nobody is asked for anything.
			asked = tsa.Requests()
			again := p.sign(t, index, id, o)
			if shown(again) != "already-signed already-signed already-signed" || again.KeyCalls != 0 || tsa.Requests() != asked {
				t.Errorf("again: %s, %d calls, %d requests", shown(again), again.KeyCalls, tsa.Requests()-asked)
			}
			if again.Signatures[0].Timestamp == nil || !again.Signatures[0].Timestamp.At.Equal(r.Signatures[0].Timestamp.At) {
				t.Error("the timestamp that is there is not said")
			}
		}
	})
}

// TestSignAddsTheTimestampThatLacks: what is signed already is countersigned without the key, beside the one that is there.
func TestSignAddsTheTimestampThatLacks(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		tsa, other := authority(t, tsatest.Options{}), authority(t, tsatest.Options{Name: "other"})
		for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
			id := newIdentity("release")
			subject := p.image(t, format.Short(), format.Short())
			o := Options{Tag: format.Short(), Format: format}
			old := p.sign(t, subject, id, o).Signatures[0].Signature

			o.DryRun, o.Timestamp = true, stamperOf(tsa)
			asked := tsa.Requests()
			plan := p.sign(t, subject, id, o)
			if s := plan.Signatures[0]; s.Status != StatusPlanned || s.Present != old || s.Signature != "" || plan.Authority != tsa.Start() || tsa.Requests()-asked != 1 {
				t.Errorf("plan %+v of %s", s, plan.Authority)
			}
			p.only(t, subject)

			o.DryRun, o.ReadBack = false, true
			key := &spyKey{Signer: id.key}
			o.Now = time.Now()
			r, err := Sign(t.Context(), p.Repo, subject, key, id.chain, o)
			must(t, err)
			s := r.Signatures[0]
			if s.Status != StatusTimestamped || s.Present != old || s.Signature == old || r.Written != 1 || r.Stamped != 1 || key.used.Load() != 0 {
				t.Fatalf("%s: %+v; the key was used %d times", format, r, key.used.Load())
			}
			all := p.found(t, subject)
			if len(all) != 2 {
				t.Fatalf("%d signatures", len(all))
			}
			carried(t, all[old], all[s.Signature])
			if _, err := StampOf(all[s.Signature], tsa.Roots()); err != nil || len(all[old].Timestamp) != 0 {
				t.Errorf("%v; the old one has %d bytes of timestamp", err, len(all[old].Timestamp))
			}
			// Of the two the one with a timestamp is found, whichever is listed first.
			if again := p.sign(t, subject, id, o); shown(again) != StatusAlreadySigned || again.Signatures[0].Signature != s.Signature {
				t.Errorf("again: %+v", again.Signatures)
			}
			// A timestamp that the roots given do not lead to is none.
			o.Timestamp = stamperOf(other)
			if r := p.sign(t, subject, id, o); shown(r) != StatusTimestamped || len(p.found(t, subject)) != 3 {
				t.Errorf("by another authority: %s", shown(r))
			}
			// Who asks for none gets none.
			o.Timestamp = nil
			if r := p.sign(t, subject, id, o); shown(r) != StatusAlreadySigned || r.Signatures[0].Timestamp != nil {
				t.Errorf("without: %+v", r.Signatures)
			}
		}
	})
}

// TestF35KeyServiceIsNotAskedForNothing: nobody countersigns, so no call is paid for; and a call is not repeated for want of an authority
// that only answered once.
func TestF35KeyServiceIsNotAskedForNothing(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	subject := p.image(t, "app", "1.0")
	down := authority(t, tsatest.Options{Lie: tsatest.Status500})
	writes := p.server.Writes()
	for name, k := range map[string]kms.Key{
		"a key at a service":     serviceKey{&spyKey{Signer: id.key}},
		"a plugin for envelopes": describedPlugin{&pluginKey{t: t, id: id}},
	} {
		for _, dry := range []bool{false, true} {
			r, err := p.trySignWith(t, subject, k, id.chain, Options{Tag: "1.0", Timestamp: stamperOf(down), DryRun: dry})
			wantReason(t, err, "tsa-unavailable", ErrAuthority)
			if r.KeyCalls != 0 {
				t.Errorf("%s: %d calls", name, r.KeyCalls)
			}
		}
	}
	if err := Check(t.Context(), p.Repo, subject, kmstest.Key(id.key), id.chain, Options{Tag: "1.0", Now: time.Now(), Timestamp: stamperOf(down)}); err == nil {
		t.Error("Check finds nothing wrong")
	} else {
		wantReason(t, err, "tsa-unavailable", ErrAuthority)
	}
	if n := p.server.Writes() - writes; n != 0 {
		t.Errorf("%d writes", n)
	}
	tsa := authority(t, tsatest.Options{})
	for range 2 {
		r, err := p.trySignWith(t, subject, serviceKey{&spyKey{Signer: id.key}}, id.chain, Options{Tag: "1.0", Timestamp: stamperOf(tsa)})
		must(t, err)
		if r.KeyCalls+r.There != 1 {
			t.Errorf("%+v", r)
		}
	}
	if tsa.Requests() != 2 { // whether it answers, and the countersignature; nothing the second time
		t.Errorf("%d requests, want 2", tsa.Requests())
	}
}

type describedPlugin struct{ *pluginKey }

func (describedPlugin) Describe() kms.Description { return kms.Description{Service: "plugin"} }

// TestSignWholeWithTimestamp: envelopes that a plugin writes are countersigned too.
func TestSignWholeWithTimestamp(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithoutAPI))
	tsa := authority(t, tsatest.Options{})
	id := newIdentity("release")
	for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
		subject := p.image(t, format.Short(), format.Short())
		key := &pluginKey{t: t, id: id}
		o := Options{Tag: format.Short(), Format: format, Timestamp: stamperOf(tsa), ReadBack: true}
		r := p.signWith(t, subject, key, nil, o)
		c := p.found(t, subject)[p.only(t, subject).Descriptor.Digest]
		if _, err := StampOf(c, tsa.Roots()); err != nil || shown(r) != StatusNew {
			t.Errorf("%s: %s, %v", format, shown(r), err)
		}
		// Who it is is known only by an envelope: that is made, and thrown away.
		if r := p.signWith(t, subject, key, nil, o); shown(r) != StatusAlreadySigned || r.KeyCalls != 1 {
			t.Errorf("again: %s, %d calls", shown(r), r.KeyCalls)
		}
		bare := p.image(t, "bare "+format.Short(), "")
		p.signWith(t, bare, key, id.chain, Options{Format: format})
		for _, chain := range [][]*x509.Certificate{nil, id.chain} {
			other := authority(t, tsatest.Options{})
			o.Tag, o.Timestamp = "", stamperOf(other)
			if r := p.signWith(t, bare, key, chain, o); shown(r) != StatusTimestamped {
				t.Errorf("%s, signed already: %s", format, shown(r))
			}
		}
		if n := len(p.found(t, bare)); n != 3 {
			t.Errorf("%d signatures, want 3", n)
		}
	}
	subject := p.image(t, "aws", "aws")
	_, err := p.trySignWith(t, subject, &pluginKey{t: t, id: id, protect: likeAWS}, nil, Options{Tag: "aws", Timestamp: stamperOf(tsa)})
	wantReason(t, err, "timestamp-ignored", nil)
	_, err = p.trySignWith(t, subject, &pluginKey{t: t, id: id, protect: func(n int, protected map[string]any) {
		likeAWS(n, protected)
		delete(protected, "io.cncf.notary.verificationPlugin")
		delete(protected, "com.amazonaws.signer.signingJob")
		protected["crit"] = protected["crit"].([]string)[:3]
	}}, nil, Options{Tag: "aws", Timestamp: stamperOf(tsa)})
	wantReason(t, err, "timestamp-ignored", nil)
	if len(p.found(t, subject)) != 0 {
		t.Error("pushed all the same")
	}
}

// TestSignStampFailsHalfway: what was signed below the root stays, and the next run goes on with it.
func TestSignStampFailsHalfway(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	index, amd64, arm64 := p.index(t, "app", "1.0")
	tsa := authority(t, tsatest.Options{})
	s := stamperOf(tsa)
	key := &spyKey{Signer: id.key, sign: nil}
	key.sign = func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
		if key.used.Load() == 3 { // the root's is last
			tsa.Stop()
		}
		return kmstest.Key(id.key).Sign(context.Background(), message, opts)
	}
	r, err := Sign(t.Context(), p.Repo, index, key, id.chain, Options{Tag: "1.0", Recursive: true, Timestamp: s, Now: time.Now()})
	wantReason(t, err, "tsa-unavailable", ErrAuthority)
	if r.Written != 2 || len(p.found(t, index)) != 0 || len(p.found(t, amd64)) != 1 || len(p.found(t, arm64)) != 1 {
		t.Fatalf("%+v", r)
	}
	again := authority(t, tsatest.Options{Root: tsa.Root, CA: tsa.CA})
	r = p.sign(t, index, id, Options{Tag: "1.0", Recursive: true, Timestamp: stamperOf(again)})
	if shown(r) != "new already-signed already-signed" || r.KeyCalls != 1 || again.Requests() != 1 {
		t.Errorf("again: %s, %d calls, %d requests", shown(r), r.KeyCalls, again.Requests())
	}
}

// TestReadBackComparesTheTimestamp: what comes back without its countersignature is not what was pushed.
func TestReadBackComparesTheTimestamp(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	subject := p.image(t, "app", "1.0")
	o := Options{Tag: "1.0", Timestamp: stamperOf(authority(t, tsatest.Options{})), Now: time.Now()}
	p.sign(t, subject, id, o)
	sig := p.only(t, subject)
	s := newSigning(p.Repo, subject, kmstest.Key(id.key), o)
	must(t, s.prepare(id.chain))
	back := target{subject: subject.Descriptor, root: true, pushed: sig.Manifest, content: p.found(t, subject)[sig.Descriptor.Digest], read: readStrictly}
	must(t, s.compare(t.Context(), back))
	back.content.Timestamp = nil
	if err := s.compare(t.Context(), back); !errors.Is(err, errNotYet) {
		t.Errorf("error %v", err)
	}
}
