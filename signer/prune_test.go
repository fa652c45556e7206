package signer

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
)

// A superseding is one signature, of a year ago, and chains for it: the present one, which ends in a month, and renewals.
type superseding struct {
	id     identity
	now    time.Time
	signed time.Time
	sig    *envelope.Envelope
	leaf   *x509.Certificate
}

func newSuperseding(t testing.TB, o envelope.Options) superseding {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	s := superseding{id: identity{key: certtest.Key("P-256"), root: certtest.Root("root", years(now, -5, 15))}, now: now, signed: now.AddDate(-1, 0, 0)}
	s.id.ca = s.id.root.Intermediate("ca", certtest.Valid(now.AddDate(-4, 0, 0), now.Add(days(30))))
	s.leaf = s.id.ca.Leaf(s.id.key.Public(), "release", years(now, -2, 10))
	s.id.chain = s.id.ca.Chain(s.leaf)
	o.SigningTime = s.signed
	e, err := envelope.Sign(t.Context(), envelope.JWS, envelope.Payload{MediaType: someSubject.MediaType, Digest: someSubject.Digest, Size: someSubject.Size},
		kmstest.Key(s.id.key), s.id.chain, o)
	must(t, err)
	s.sig = e
	return s
}

func years(now time.Time, from, to int) certtest.Edit {
	return certtest.Valid(now.AddDate(from, 0, 0), now.AddDate(to, 0, 0))
}

// renewed is the chain with the intermediate renewed: same name and key.
func (s superseding) renewed(edits ...certtest.Edit) []*x509.Certificate {
	return s.id.root.IntermediateWith(s.id.ca.Key, "ca", edits...).Chain(s.leaf)
}

// with is the signature with another chain and, unless it is nil, that token.
func (s superseding) with(t testing.TB, chain []*x509.Certificate, token []byte) registry.Signature {
	t.Helper()
	e := s.sig
	var err error
	if chain != nil {
		e, err = e.WithChain(chain)
		must(t, err)
	}
	if token != nil {
		e, err = e.WithTimestamp(token)
		must(t, err)
	}
	return enveloped(e.Bytes(), envelope.JWS, nil)
}

func (s superseding) token(a *tsatest.Authority, at time.Time) []byte {
	return a.Token(s.sig.Unverified().Signature, at)
}

// inForm is a signature with another kind of manifest.
func inForm(f registry.Form, sig registry.Signature) registry.Signature {
	sig.Manifest = f.Manifest(sig.Subject, sig.MediaType, sig.Envelope, nil)
	sig.Descriptor = sig.Manifest.Descriptor
	return sig
}

// malleated is a JWS signature of the other form of the same P-256 signature: (r, n-s).
func malleated(t testing.TB, sig registry.Signature) registry.Signature {
	t.Helper()
	var whole map[string]json.RawMessage
	must(t, json.Unmarshal(sig.Envelope, &whole))
	var text string
	must(t, json.Unmarshal(whole["signature"], &text))
	b, err := base64.RawURLEncoding.DecodeString(text)
	must(t, err)
	other := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(b[32:]))
	other.FillBytes(b[32:])
	whole["signature"] = encodeJSON(t, base64.RawURLEncoding.EncodeToString(b))
	return enveloped(encodeJSON(t, whole), envelope.JWS, sig.Annotations)
}

// fates says of each signature of a plan what becomes of it, in order: "goes", or why it stays.
func fates(p PrunePlan) (out []string) {
	for _, s := range p.Signatures {
		switch s.Status {
		case PruneStays:
			out = append(out, s.Reason)
		default:
			out = append(out, s.Status)
		}
	}
	return out
}

func TestPlanPrune(t *testing.T) {
	t.Parallel()
	s := newSuperseding(t, envelope.Options{})
	now := s.now
	old := s.with(t, nil, nil)
	renewed := s.renewed(years(now, -3, 8))
	fresh := s.with(t, renewed, nil)
	later := s.with(t, s.renewed(years(now, -3, 9)), nil)
	afterwards := s.renewed(certtest.Valid(now.Add(-time.Hour), now.AddDate(8, 0, 0))) // begins after every timestamp

	tsa := tsatest.New(tsatest.Options{Name: "tsa"})
	sister := tsatest.New(tsatest.Options{Name: "tsa", Root: tsa.Root, CA: tsa.CA})                // another leaf of the same CA
	cousin := tsatest.New(tsatest.Options{Name: "cousin", Root: tsa.Root})                         // another CA below the same root
	other := tsatest.New(tsatest.Options{Name: "other tsa"})                                       // another root
	inexact := tsatest.New(tsatest.Options{Root: tsa.Root, CA: tsa.CA, Accuracy: 5 * time.Minute}) // not for imprint's verifier
	ended := tsatest.New(tsatest.Options{Root: tsa.Root, CA: tsa.CA, Edits: []certtest.Edit{certtest.Valid(now.AddDate(-3, 0, 0), now.Add(-days(90)))}})
	stampedOld := s.with(t, nil, s.token(tsa, s.signed))
	yesterday := now.Add(-30 * time.Minute)
	roots := []*x509.Certificate{tsa.Root.Certificate}
	both := []*x509.Certificate{tsa.Root.Certificate, other.Root.Certificate}

	elsewhere := identity{key: s.id.key, root: certtest.Root("attacker")}
	elsewhere.ca = elsewhere.root.Intermediate("ca")
	renamed := s.id.root.IntermediateWith(s.id.ca.Key, "ca", years(now, -3, 8))
	wrongSubject := fresh
	wrongSubject.Subject.Size++

	expired := newSuperseding(t, envelope.Options{Expiry: now.Add(-time.Hour)})

	all := func(sigs ...registry.Signature) []registry.Signature { return sigs }
	for name, c := range map[string]struct {
		sigs []registry.Signature
		o    PruneOptions
		want []string
	}{
		"K20 an old one that was copied back": {sigs: all(old, fresh), want: []string{PruneGoes, codeNewest}},
		"the other way round":                 {sigs: all(fresh, old), want: []string{codeNewest, PruneGoes}},
		"twice the same":                      {sigs: all(old, old), want: []string{codeNewest, codeNewest}},
		"three generations":                   {sigs: all(fresh, old, later), want: []string{PruneGoes, PruneGoes, codeNewest}},
		"of the survivors one is hidden": {sigs: all(fresh, old, later), o: PruneOptions{Hidden: digestsOf(later)},
			want: []string{codeHidden, PruneGoes, codeNewest}},
		"the chain ends earlier": {sigs: all(s.with(t, s.renewed(certtest.Valid(now.AddDate(-3, 0, 0), now.Add(days(20)))), nil), old), want: []string{PruneGoes, codeNewest}},
		"another root":           {sigs: all(old, s.with(t, elsewhere.ca.Chain(elsewhere.ca.Leaf(s.id.key.Public(), "release")), nil)), want: []string{codeNewest, codeNewest}},
		"another name":           {sigs: all(old, s.with(t, renamed.Chain(renamed.Leaf(s.id.key.Public(), "somebody else", years(now, -2, 8))), nil)), want: []string{codeNewest, codeNewest}},
		"another signature":      {sigs: all(old, newSuperseding(t, envelope.Options{}).with(t, nil, nil)), want: []string{codeNewest, codeNewest}},
		"not begun yet":          {sigs: all(old, s.with(t, s.renewed(certtest.Valid(now.Add(time.Minute), now.AddDate(8, 0, 0))), nil)), want: []string{codeNeeded, codeNewest}},
		"neither has begun yet": {sigs: all(s.with(t, s.renewed(certtest.Valid(now.Add(time.Minute), now.AddDate(1, 0, 0))), nil),
			s.with(t, s.renewed(certtest.Valid(now.Add(time.Hour), now.AddDate(8, 0, 0))), nil)), want: []string{codeNeeded, codeNewest}},
		"all have expired": {sigs: all(expired.with(t, nil, nil), expired.with(t, expired.renewed(years(now, -3, 8)), nil)), want: []string{PruneGoes, codeNewest}},

		// Timestamps.
		"the same timestamp":                        {sigs: all(stampedOld, s.with(t, renewed, s.token(tsa, s.signed.Add(time.Minute)))), want: []string{PruneGoes, codeNewest}},
		"the same token":                            {sigs: all(stampedOld, restamped(t, s, renewed, stampedOld)), want: []string{PruneGoes, codeNewest}},
		"the timestamp was left out":                {sigs: all(stampedOld, fresh), want: []string{codeNeeded, codeNewest}},
		"a timestamp in addition":                   {sigs: all(old, s.with(t, renewed, s.token(other, s.signed))), want: []string{PruneGoes, codeNewest}},
		"K12 the new chain begins after it":         {sigs: all(stampedOld, restamped(t, s, afterwards, stampedOld)), want: []string{codeNeeded, codeNewest}},
		"K12 stamped again":                         {sigs: all(stampedOld, s.with(t, afterwards, s.token(tsa, yesterday))), want: []string{PruneGoes, codeNewest}},
		"K12 stamped by a sister":                   {sigs: all(stampedOld, s.with(t, afterwards, s.token(sister, yesterday))), want: []string{PruneGoes, codeNewest}},
		"K12 stamped by a cousin":                   {sigs: all(stampedOld, s.with(t, afterwards, s.token(cousin, yesterday))), want: []string{codeNeeded, codeNewest}},
		"K12 stamped by a cousin of a known root":   {sigs: all(stampedOld, s.with(t, afterwards, s.token(cousin, yesterday))), o: PruneOptions{TimestampRoots: roots}, want: []string{PruneGoes, codeNewest}},
		"K12 stamped by another authority":          {sigs: all(stampedOld, s.with(t, afterwards, s.token(other, yesterday))), o: PruneOptions{TimestampRoots: both}, want: []string{codeNeeded, codeNewest}},
		"K12 stamped by an attacker":                {sigs: all(stampedOld, s.with(t, afterwards, token(t, s.sig.Unverified().Signature, yesterday))), o: PruneOptions{TimestampRoots: both}, want: []string{codeNeeded, codeNewest}},
		"K12 stamped inexactly":                     {sigs: all(stampedOld, s.with(t, afterwards, s.token(inexact, yesterday))), want: []string{codeNeeded, codeNewest}},
		"K12 stamped in the future":                 {sigs: all(stampedOld, s.with(t, afterwards, s.token(tsa, now.Add(time.Hour)))), want: []string{codeNeeded, codeNewest}},
		"K12 stamped when the authority had ended":  {sigs: all(s.with(t, nil, s.token(ended, s.signed)), s.with(t, afterwards, s.token(ended, yesterday))), o: PruneOptions{TimestampRoots: roots}, want: []string{codeNeeded, codeNewest}},
		"an attacker makes an old one look needed":  {sigs: all(s.with(t, nil, token(t, s.sig.Unverified().Signature, s.signed)), fresh), want: []string{codeNeeded, codeNewest}},
		"a forged timestamp is one to the forger":   {sigs: all(s.with(t, nil, token(t, s.sig.Unverified().Signature, s.signed)), s.with(t, renewed, token(t, s.sig.Unverified().Signature, s.signed.Add(1e9)))), want: []string{codeNeeded, codeNewest}},
		"garbage for a timestamp saves nobody":      {sigs: all(garbageStamped(t, old), fresh), want: []string{PruneGoes, codeNewest}},
		"a timestamp outside of the old chain":      {sigs: all(s.with(t, nil, s.token(tsa, now.AddDate(-6, 0, 0))), fresh), want: []string{PruneGoes, codeNewest}},
		"garbage beside the survivor's certificate": {sigs: all(old, garbageStamped(t, fresh)), want: []string{PruneGoes, codeNewest}},

		// Forms.
		"malleated":                               {sigs: all(old, malleated(t, old), malleated(t, fresh)), want: []string{PruneGoes, PruneGoes, codeNewest}},
		"malleated, the token does not fit":       {sigs: all(stampedOld, malleated(t, s.with(t, renewed, s.token(tsa, s.signed)))), want: []string{codeNeeded, codeNewest}},
		"only the survivor is unseen in a layout": {sigs: all(inForm(registry.ByConfig, old), fresh), want: []string{codeHidden, codeNewest}},
		"only the old one is":                     {sigs: all(old, inForm(registry.ByConfig, fresh)), want: []string{PruneGoes, codeNewest}},
		"a survivor that is hidden":               {sigs: all(old, fresh), o: PruneOptions{Hidden: digestsOf(fresh)}, want: []string{codeHidden, codeNewest}},
		"one that is hidden goes":                 {sigs: all(old, fresh), o: PruneOptions{Hidden: digestsOf(old)}, want: []string{PruneGoes, codeNewest}},
		"the policy refuses the survivor": {sigs: all(old, fresh), o: PruneOptions{Accept: func(sig registry.Signature) (bool, string) {
			return sig.Descriptor.Digest != fresh.Descriptor.Digest, "no"
		}}, want: []string{codeRejected, codeNewest}},
		"the policy refuses the old one": {sigs: all(old, fresh), o: PruneOptions{Accept: func(sig registry.Signature) (bool, string) {
			return sig.Descriptor.Digest == fresh.Descriptor.Digest, "no"
		}}, want: []string{PruneGoes, codeNewest}},
		"the policy refuses the later survivor": {sigs: all(old, fresh, later), o: PruneOptions{Accept: func(sig registry.Signature) (bool, string) {
			return sig.Descriptor.Digest == fresh.Descriptor.Digest, "no"
		}}, want: []string{PruneGoes, codeRejected, codeNewest}},

		// What is not there, or wrong.
		"a ghost":          {sigs: all(old, ghostOf(fresh)), want: []string{codeNewest, PruneUnlists}},
		"unreadable":       {sigs: all(unreadableOf(old), fresh), want: []string{codeUnreadable, codeNewest}},
		"does not verify":  {sigs: all(broken(t, old), fresh), want: []string{codeSignature, codeNewest}},
		"broken survivor":  {sigs: all(old, broken(t, fresh)), want: []string{codeNewest, codeSignature}},
		"of another image": {sigs: all(old, wrongSubject), want: []string{codeNewest, codeSignature}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.o.Now = now
			p := PlanPrune(c.sigs, c.o)
			if diff := cmp.Diff(c.want, fates(p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
				for _, s := range p.Signatures {
					t.Logf("%s %s: %s", s.Status, s.Reason, s.Detail)
				}
			}
			for _, s := range p.Signatures {
				if pruneReasons()[s.Reason]+Reasons()[s.Reason] == "" {
					t.Errorf("the reason %q is listed nowhere", s.Reason)
				}
				if (s.Status == PruneGoes) != (s.Survivor != "" && s.Reason == codeSuperseded) {
					t.Errorf("%s %s for %q", s.Status, s.Reason, s.Survivor)
				}
			}
		})
	}
}

// The plan names the certificates that only what goes has: a verifier may trust one of these.
func TestPlanPruneNamesWhatIsLost(t *testing.T) {
	t.Parallel()
	s := newSuperseding(t, envelope.Options{})
	p := PlanPrune([]registry.Signature{s.with(t, nil, nil), s.with(t, s.renewed(years(s.now, -3, 8)), nil)}, PruneOptions{Now: s.now})
	want := []certchain.Certificate{certchain.Describe(s.id.ca.Certificate)}
	if diff := cmp.Diff(want, p.Signatures[0].OnlyHere); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A scheme with an authentic signing time goes by that alone.
func TestPlanPruneSigningAuthority(t *testing.T) {
	t.Parallel()
	s := newSuperseding(t, envelope.Options{})
	old := authentic(t, s.id, s.signed)
	e, err := envelope.Parse(old.MediaType, old.Envelope)
	must(t, err)
	s.sig = e
	for from, want := range map[time.Duration]string{-days(700): PruneGoes, -days(100): codeNeeded} {
		fresh := s.with(t, s.renewed(certtest.Valid(s.now.Add(from), s.now.AddDate(8, 0, 0))), nil)
		if got := fates(PlanPrune([]registry.Signature{old, fresh}, PruneOptions{Now: s.now})); got[0] != want || got[1] != codeNewest {
			t.Errorf("a chain from %v on: %v, want %s", from, got, want)
		}
	}
}

func TestPlanPruneNamed(t *testing.T) {
	t.Parallel()
	s := newSuperseding(t, envelope.Options{})
	old, fresh := s.with(t, nil, nil), s.with(t, s.renewed(years(s.now, -3, 8)), nil)
	ended := s.with(t, s.renewed(certtest.Valid(s.now.AddDate(-3, 0, 0), s.now.Add(-time.Hour))), nil)
	for name, c := range map[string]struct {
		named registry.Signature
		sigs  []registry.Signature
		want  []string
		warn  string
	}{
		"the newest":            {fresh, []registry.Signature{old, fresh}, []string{codeNewest, PruneGoes}, ""},
		"a broken one":          {broken(t, old), []registry.Signature{broken(t, old), fresh}, []string{PruneGoes, codeNewest}, ""},
		"an unreadable one":     {unreadableOf(old), []registry.Signature{unreadableOf(old), fresh}, []string{PruneGoes, codeNewest}, ""},
		"a ghost":               {ghostOf(old), []registry.Signature{ghostOf(old), fresh}, []string{PruneUnlists, codeNewest}, ""},
		"another is superseded": {malleated(t, old), []registry.Signature{old, malleated(t, old), fresh}, []string{codeNewest, PruneGoes, codeNewest}, ""},
		"another is a ghost":    {old, []registry.Signature{old, ghostOf(fresh), malleated(t, fresh)}, []string{PruneGoes, codeGhost, codeNewest}, ""},
		"the only one":          {old, []registry.Signature{old}, []string{PruneGoes}, "unsigned"},
		"the last that verifies": {old, []registry.Signature{old, broken(t, fresh)}, []string{PruneGoes, codeSignature},
			"last signature that verifies"},
		"the last that holds": {fresh, []registry.Signature{ended, fresh}, []string{codeNewest, PruneGoes}, "accept none now"},
		"not listed":          {fresh, []registry.Signature{old}, []string{codeNewest}, ""},
	} {
		p := PlanPrune(c.sigs, PruneOptions{Now: s.now, Signature: c.named.Descriptor.Digest})
		if diff := cmp.Diff(c.want, fates(p)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if warnings := strings.Join(p.Warnings, "\n"); c.warn == "" && warnings != "" || !strings.Contains(warnings, c.warn) {
			t.Errorf("%s: warnings %q, want %q", name, p.Warnings, c.warn)
		}
		if p.Named(c.named.Descriptor.Digest) != (name != "not listed") {
			t.Errorf("%s: named %v", name, !p.Named(c.named.Descriptor.Digest))
		}
	}
}

// restamped is the signature with another chain and the token of from.
func restamped(t testing.TB, s superseding, chain []*x509.Certificate, from registry.Signature) registry.Signature {
	t.Helper()
	return s.with(t, chain, content(t, from).Timestamp)
}

func digestsOf(sigs ...registry.Signature) (list []digest.Digest) {
	for _, sig := range sigs {
		list = append(list, sig.Descriptor.Digest)
	}
	return list
}

func ghostOf(sig registry.Signature) registry.Signature {
	return registry.Signature{Subject: sig.Subject, Descriptor: sig.Descriptor, Err: &registry.Error{Code: "not-found", Err: registry.ErrNotFound}}
}

func unreadableOf(sig registry.Signature) registry.Signature {
	sig.Err = &registry.Error{Code: "manifest-malformed", Err: registry.ErrMalformed}
	return sig
}

func broken(t testing.TB, sig registry.Signature) registry.Signature {
	t.Helper()
	var whole map[string]json.RawMessage
	must(t, json.Unmarshal(sig.Envelope, &whole))
	whole["signature"] = encodeJSON(t, base64.RawURLEncoding.EncodeToString(make([]byte, 64)))
	return enveloped(encodeJSON(t, whole), envelope.JWS, sig.Annotations)
}

func garbageStamped(t testing.TB, sig registry.Signature) registry.Signature {
	t.Helper()
	return editHeader(t, sig, func(h map[string]json.RawMessage) {
		h["io.cncf.notary.timestampSignature"] = encodeJSON(t, []byte("garbage"))
	})
}
