package e2e

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

// A grove is a world in which signatures superseded one another, and attackers with push rights were about: roots that
// somebody trusts, and one that nobody does; authorities of timestamps, of all degrees of kinship, forgers among them; copies of few signatures
// with chains and timestamps of everybody, in every form, of every age.
type grove struct {
	r          *rand.Rand
	now        time.Time
	subject    ocispec.Descriptor
	roots      []*certtest.Authority // the last is the attacker's
	tsas       []*tsatest.Authority
	tsaRoots   []*x509.Certificate
	signatures []*grown
}

// A grown signature is one that is listed, with what this test knows of it by itself.
type grown struct {
	sig     registry.Signature
	content *envelope.Content // nil: nobody can read it
	hidden  bool              // listed so that stock verifiers pass it over
	legacy  bool              // of the form that old notation sees in a layout
	stamps  map[authority]*envelope.Stamp
}

// An authority is what a verifier trusts of those of timestamps, by the first and the number of its roots.
type authority struct {
	first *x509.Certificate
	n     int
}

// stamp is what its timestamp says to who trusts roots, nil if nothing.
func (s *grown) stamp(roots []*x509.Certificate) *envelope.Stamp {
	k := authority{roots[0], len(roots)}
	if known, ok := s.stamps[k]; ok {
		return known
	}
	var out *envelope.Stamp
	if stamp, err := s.content.VerifyTimestamp(roots); err == nil {
		out = &stamp
	}
	if s.stamps == nil {
		s.stamps = map[authority]*envelope.Stamp{}
	}
	s.stamps[k] = out
	return out
}

// authorities of timestamps are the same in all groves: what differs is who stamped what, and when.
var authorities = sync.OnceValue(func() []*tsatest.Authority {
	one := tsatest.New(tsatest.Options{Name: "one"})
	kin := tsatest.Options{Name: "one", Root: one.Root, CA: one.CA}
	with := func(o tsatest.Options, edit func(*tsatest.Options)) *tsatest.Authority {
		edit(&o)
		return tsatest.New(o)
	}
	two := tsatest.New(tsatest.Options{Name: "two"})
	now := time.Now()
	return []*tsatest.Authority{
		one, one, two,
		with(kin, func(o *tsatest.Options) {}), // a sister
		with(kin, func(o *tsatest.Options) { o.CA = nil }),
		with(kin, func(o *tsatest.Options) { o.Lie = tsatest.BrokenSign }),
		with(kin, func(o *tsatest.Options) { o.Lie = tsatest.BrokenDigest }),
		with(kin, func(o *tsatest.Options) { o.Lie = tsatest.NoCertificates }),
		with(kin, func(o *tsatest.Options) { o.Accuracy = 2 * time.Hour }),
		with(kin, func(o *tsatest.Options) { // it has ended
			o.Edits = []certtest.Edit{certtest.Valid(now.AddDate(-5, 0, 0), now.Add(-60*24*time.Hour))}
		}),
		tsatest.New(tsatest.Options{Name: "one"}), // an attacker's: by name it is the first
	}
})

func newGrove(t testing.TB, seed uint64) *grove {
	g := &grove{r: rand.New(rand.NewPCG(6, seed)), now: time.Now(), subject: image("grove").descriptor, tsas: authorities()}
	ages := certtest.Valid(g.now.AddDate(-10, 0, 0), g.now.AddDate(20, 0, 0))
	for _, name := range []string{"root", "root", "attacker"} {
		g.roots = append(g.roots, certtest.Root(name, ages))
	}
	g.tsaRoots = []*x509.Certificate{g.tsas[0].Root.Certificate, g.tsas[2].Root.Certificate}
	for range 1 + g.r.IntN(2) {
		g.grow(t, 2+g.r.IntN(5))
	}
	g.r.Shuffle(len(g.signatures), func(i, j int) { g.signatures[i], g.signatures[j] = g.signatures[j], g.signatures[i] })
	return g
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

const aDay = 24 * time.Hour

// span draws when a certificate holds; most hold now.
func (g *grove) span() certtest.Edit {
	for {
		from := pick(g.r, -1400*aDay, -1400*aDay, -500*aDay, -300*aDay, -50*aDay, -2*time.Hour, 2*aDay, 5*aDay)
		to := pick(g.r, -100*aDay, -aDay, aDay, 20*aDay, 400*aDay, 1000*aDay, 1000*aDay, 2000*aDay)
		if from < to {
			return certtest.Valid(g.now.Add(from), g.now.Add(to))
		}
	}
}

// grow makes copies of one signature.
func (g *grove) grow(t testing.TB, copies int) {
	t.Helper()
	key := certtest.Key("P-256")
	caKey := certtest.Key("P-256")
	chain := func() []*x509.Certificate {
		root := g.roots[pick(g.r, 0, 0, 0, 0, 0, 1, 2)]
		ca := root.IntermediateWith(caKey, "ca", g.span())
		edit := certtest.Valid(g.now.AddDate(-4, 0, 0), g.now.AddDate(10, 0, 0))
		if g.r.IntN(5) == 0 {
			edit = g.span()
		}
		return ca.Chain(ca.Leaf(key.Public(), pick(g.r, "release", "release", "release", "release", "release", "somebody else"), edit))
	}
	base := g.sign(t, key, caKey)
	var chains [][]*x509.Certificate
	for range copies {
		e, err := base.WithChain(pick(g.r, append(chains, chain(), chain(), chain())...))
		if err != nil {
			t.Fatal(err)
		}
		chains = append(chains, e.Unverified().Chain)
		if e.Format() == envelope.JWS && g.r.IntN(6) == 0 {
			e = turned(t, e)
		}
		if g.r.IntN(5) > 1 {
			at := g.now.Add(pick(g.r, -1200*aDay, -365*aDay, -350*aDay, -40*aDay, -time.Hour, -time.Hour, 3*time.Hour))
			token := pick(g.r, g.tsas...).Token(e.Unverified().Signature, at)
			if n := len(g.signatures); n > 0 && g.r.IntN(3) == 0 { // somebody else's: of this signature perhaps
				if other := g.signatures[g.r.IntN(n)].content; other != nil && other.Timestamp != nil {
					token = other.Timestamp
				}
			}
			if stamped, err := e.WithTimestamp(token); err == nil {
				e = stamped
			}
		}
		g.list(t, e)
	}
}

// sign makes the signature of which there are copies.
func (g *grove) sign(t testing.TB, key, caKey crypto.Signer) *envelope.Envelope {
	t.Helper()
	at := g.now.AddDate(-1, 0, 0)
	ca := g.roots[0].IntermediateWith(caKey, "first ca", certtest.Valid(g.now.AddDate(-4, 0, 0), g.now.AddDate(1, 0, 0)))
	chain := ca.Chain(ca.Leaf(key.Public(), "release", certtest.Valid(g.now.AddDate(-4, 0, 0), g.now.AddDate(1, 0, 0))))
	if g.r.IntN(6) == 0 { // a signing authority
		j := newJWS(key, chain, g.subject)
		j.protected = `{"alg":"ES256","crit":["io.cncf.notary.authenticSigningTime","io.cncf.notary.signingScheme"],"cty":"` + payloadType +
			`","io.cncf.notary.authenticSigningTime":"` + at.UTC().Format(time.RFC3339) + `","io.cncf.notary.signingScheme":"notary.x509.signingAuthority"}`
		e, err := envelope.Parse(jwsType, j.bytes())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	o := envelope.Options{SigningTime: at, Expiry: pick(g.r, time.Time{}, time.Time{}, time.Time{}, g.now.Add(-time.Hour), g.now.Add(10*aDay))}
	e, err := envelope.Sign(t.Context(), pick(g.r, envelope.JWS, envelope.COSE),
		envelope.Payload{MediaType: g.subject.MediaType, Digest: g.subject.Digest, Size: g.subject.Size}, kmstest.Key(key), chain, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// turned is the same P-256 signature with the other s.
func turned(t testing.TB, e *envelope.Envelope) *envelope.Envelope {
	t.Helper()
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(e.Bytes(), &whole); err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(e.Unverified().Signature)
	new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(b[32:])).FillBytes(b[32:])
	whole["signature"] = json.RawMessage(quote(base64.RawURLEncoding.EncodeToString(b)))
	raw, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	other, err := envelope.Parse(string(envelope.JWS), raw)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// list lists an envelope, in one form or the other; now and then it cannot be read.
func (g *grove) list(t testing.TB, e *envelope.Envelope) {
	t.Helper()
	form := pick(g.r, registry.ByArtifactType, registry.ByArtifactType, registry.ByConfig)
	m := form.Manifest(g.subject, string(e.Format()), e.Bytes(), nil)
	s := &grown{hidden: g.r.IntN(10) == 0, legacy: form == registry.ByConfig}
	s.sig = registry.Signature{Subject: g.subject, Descriptor: m.Descriptor, Manifest: m, MediaType: string(e.Format()), Envelope: e.Bytes()}
	if slices.ContainsFunc(g.signatures, func(o *grown) bool { return o.sig.Descriptor.Digest == m.Descriptor.Digest }) {
		return // a registry lists each digest once
	}
	switch g.r.IntN(12) {
	case 0:
		s.sig = registry.Signature{Subject: g.subject, Descriptor: m.Descriptor, Err: fmt.Errorf("%w: a ghost", registry.ErrNotFound)}
	case 1:
		s.sig.Err = fmt.Errorf("%w: it is hard to read", registry.ErrUnavailable)
	default:
		c, err := e.Verify()
		if err != nil {
			t.Fatal(err)
		}
		s.content = &c
	}
	g.signatures = append(g.signatures, s)
}

// An onlooker is a verifier: what it trusts, how it judges time, and whether it sees only the older form of manifests.
type onlooker struct {
	roots, tsaRoots []*x509.Certificate
	setting         envelope.Setting
	legacy          bool
}

func (g *grove) onlookers() (all []onlooker) {
	one, two, evil := g.roots[0].Certificate, g.roots[1].Certificate, g.roots[2].Certificate
	evilTSA := g.tsas[len(g.tsas)-1].Root.Certificate
	for _, roots := range [][]*x509.Certificate{{one}, {two}, {evil}, {one, two}} {
		all = append(all, onlooker{roots: roots, setting: envelope.NoTSARoot})
		for _, tsaRoots := range [][]*x509.Certificate{g.tsaRoots[:1], g.tsaRoots[1:], {evilTSA}, g.tsaRoots} {
			for _, s := range []envelope.Setting{envelope.Always, envelope.AfterCertExpiry} {
				all = append(all, onlooker{roots: roots, tsaRoots: tsaRoots, setting: s})
			}
		}
	}
	return all
}

// accepts is what a verifier says of a signature at a time, by this test's own reading of the specification: what is true of it now, notation
// confirms.
func (o onlooker) accepts(s *grown, at time.Time) bool {
	c := s.content
	if c == nil || s.hidden || o.legacy && !s.legacy || !c.Expiry.IsZero() && !c.Expiry.After(at) {
		return false
	}
	if !slices.ContainsFunc(o.roots, c.Chain.Root().Equal) {
		return false
	}
	within := func(from, to time.Time) bool {
		return !slices.ContainsFunc(c.Chain, func(cert *x509.Certificate) bool { return from.Before(cert.NotBefore) || to.After(cert.NotAfter) })
	}
	ended := slices.ContainsFunc(c.Chain, func(cert *x509.Certificate) bool { return at.After(cert.NotAfter) })
	switch {
	case c.Scheme == envelope.SchemeSigningAuthority:
		return within(c.AuthenticTime, c.AuthenticTime)
	case o.setting == envelope.NoTSARoot, o.setting == envelope.AfterCertExpiry && !ended:
		return within(at, at)
	}
	stamp := s.stamp(o.tsaRoots)
	return stamp != nil && within(stamp.From, stamp.To)
}

// times are those between which nobody changes its mind: now, and around each end and beginning that lies ahead.
func (g *grove) times() []time.Time {
	all := []time.Time{g.now}
	add := func(t time.Time) {
		for _, d := range []time.Duration{-time.Second, 0, time.Second} {
			if at := t.Add(d); at.After(g.now) && !slices.ContainsFunc(all, at.Equal) {
				all = append(all, at)
			}
		}
	}
	for _, s := range g.signatures {
		if s.content == nil {
			continue
		}
		add(s.content.Expiry)
		for _, cert := range s.content.Chain {
			add(cert.NotBefore)
			add(cert.NotAfter)
		}
	}
	return all
}

func (g *grove) options(run int) signer.PruneOptions {
	o := signer.PruneOptions{Now: g.now, TimestampRoots: [][]*x509.Certificate{nil, g.tsaRoots[:1], g.tsaRoots}[(run+g.r.IntN(2))%3]}
	for _, s := range g.signatures {
		if s.hidden {
			o.Hidden = append(o.Hidden, s.sig.Descriptor.Digest)
		}
	}
	return o
}

// A view is who accepts which signature, at which time.
type view struct {
	of   []*grown
	seen [][]bool // by verifier and time, then by signature
}

func (g *grove) view() view {
	v := view{of: g.signatures}
	for _, o := range g.onlookers() {
		for _, legacy := range []bool{false, true} {
			o.legacy = legacy
			for _, at := range g.times() {
				row := make([]bool, len(v.of))
				for i, s := range v.of {
					row[i] = o.accepts(s, at)
				}
				v.seen = append(v.seen, row)
			}
		}
	}
	return v
}

// lost returns how often somebody accepts one of the signatures at some time, and none of those that are left.
func (v view) lost(left map[digest.Digest]bool) (n int) {
	for _, row := range v.seen {
		before, after := false, false
		for i, accepted := range row {
			before = before || accepted
			after = after || accepted && left[v.of[i].sig.Descriptor.Digest]
		}
		if before && !after {
			n++
		}
	}
	return n
}

// A harvest counts what happened in many groves, so that no test passes because nothing did.
type harvest struct {
	signatures, gone, accepted int
	reasons                    map[string]int
}

// prune prunes a grove, twice, with different knowledge, and looks after each deletion whether anybody lost anything.
func (g *grove) prune(t testing.TB, seed uint64, h *harvest) (stages []map[digest.Digest]bool) {
	t.Helper()
	all := g.view()
	left := map[digest.Digest]bool{}
	var sigs []registry.Signature
	for _, s := range g.signatures {
		left[s.sig.Descriptor.Digest] = true
		sigs = append(sigs, s.sig)
		h.signatures++
	}
	for run := range 2 {
		p := signer.PlanPrune(sigs, g.options(run))
		for _, s := range p.Signatures {
			h.reasons[s.Reason]++
			switch s.Status {
			case signer.PruneGoes:
				delete(left, s.Signature)
				h.gone++
				if n := all.lost(left); n > 0 {
					t.Errorf("grove %d: without %s, for the sake of %s, a verifier that accepted accepts no more, %d times", seed, s.Signature, s.Survivor, n)
				}
				if !left[s.Survivor] {
					t.Errorf("grove %d: %s went for the sake of %s, which is not there", seed, s.Signature, s.Survivor)
				}
				stages = append(stages, copyOf(left))
			case signer.PruneUnlists:
				if i := slices.IndexFunc(sigs, func(sig registry.Signature) bool { return sig.Descriptor.Digest == s.Signature }); len(sigs[i].Manifest.Bytes) > 0 {
					t.Errorf("grove %d: %s is there, and is taken for a ghost", seed, s.Signature)
				}
			}
		}
		sigs = slices.DeleteFunc(sigs, func(sig registry.Signature) bool { return !left[sig.Descriptor.Digest] })
	}
	g.mustKeepOne(t, seed, left)
	return stages
}

func copyOf(m map[digest.Digest]bool) map[digest.Digest]bool {
	out := make(map[digest.Digest]bool, len(m))
	for k := range m {
		out[k] = true
	}
	return out
}

// mustKeepOne wants of each signature, whoever accepts it, one copy to be left, under each root and name.
func (g *grove) mustKeepOne(t testing.TB, seed uint64, left map[digest.Digest]bool) {
	t.Helper()
	type kind struct {
		core                digest.Digest
		root, name, visible string
	}
	had, has := map[kind]bool{}, map[kind]bool{}
	for _, s := range g.signatures {
		if s.content == nil {
			continue
		}
		k := kind{s.content.CoreID(), string(s.content.Chain.Root().Raw), string(s.content.Chain.Leaf().RawSubject), fmt.Sprint(s.hidden)}
		if had[k] = true; left[s.sig.Descriptor.Digest] {
			has[k] = true
		}
	}
	for k := range had {
		if visible := (kind{k.core, k.root, k.name, "false"}); !has[k] && !has[visible] {
			t.Errorf("grove %d: the last copy of %s under its root is gone", seed, k.core)
		}
	}
}

// TestPruneLosesNothing: of generated sets of signatures prune never deletes one that some verifier needs, now or later, nor the last: by
// this test's own reading of what verifiers say at each time that matters.
func TestPruneLosesNothing(t *testing.T) {
	t.Parallel()
	groves := 400
	if raced {
		groves = 30
	}
	h := harvest{reasons: map[string]int{}}
	for seed := range uint64(groves) {
		newGrove(t, seed).prune(t, seed, &h)
		if t.Failed() {
			t.Fatalf("grove %d", seed)
		}
	}
	t.Logf("%d of %d signatures went: %v", h.gone, h.signatures, h.reasons)
	if h.gone < groves/3 || h.reasons["needed"] < groves/10 || h.reasons["survivor-hidden"] < groves/20 {
		t.Error("too little happened for this to mean anything")
	}
}

// TestPruneAsNotationSees: the same, and notation is asked: of each signature alone whether it is accepted now, by each verifier, as
// this test foresaw; and after each deletion whether those who accepted the artifact still do.
func TestPruneAsNotationSees(t *testing.T) {
	t.Parallel()
	groves := 30
	if raced {
		groves = 6
	}
	h := harvest{reasons: map[string]int{}}
	for seed := range uint64(groves) {
		seed += 1 << 32
		g := newGrove(t, seed)
		stages := g.prune(t, seed, &h)
		onlookers := g.onlookers()
		g.r.Shuffle(len(onlookers), func(i, j int) { onlookers[i], onlookers[j] = onlookers[j], onlookers[i] })
		for _, o := range onlookers[:10] {
			before := g.ask(t, seed, o, nil, &h)
			for i, left := range stages {
				if before && i%2 == len(stages)%2 && !g.ask(t, seed, o, left, &h) { // the last, and every other one before
					t.Errorf("grove %d: notation accepted before, and accepts no more after %d deletions, with %+v", seed, i+1, o)
				}
			}
		}
		if t.Failed() {
			t.Fatalf("grove %d", seed)
		}
	}
	t.Logf("%d of %d signatures went, %d acceptances: %v", h.gone, h.signatures, h.accepted, h.reasons)
	if h.gone < groves/4 || h.accepted < groves {
		t.Error("too little happened for this to mean anything")
	}
}

// ask asks notation about what is listed of the signatures that are left (nil: all), first one by one if it is about all.
func (g *grove) ask(t testing.TB, seed uint64, o onlooker, left map[digest.Digest]bool, h *harvest) bool {
	t.Helper()
	var listed []judge.Signature
	for _, s := range g.signatures {
		if s.content == nil || s.hidden || left != nil && !left[s.sig.Descriptor.Digest] {
			continue
		}
		one := judge.Signature{MediaType: s.sig.MediaType, Envelope: s.sig.Envelope}
		listed = append(listed, one)
		if left != nil {
			continue
		}
		err := judge.VerifyEnvelopes(t.Context(), g.subject, []judge.Signature{one}, judge.Setting(o.setting), o.roots, o.tsaRoots)
		if want := o.accepts(s, g.now); (err == nil) != want {
			t.Errorf("grove %d: this test says %v of %s, notation %v", seed, want, s.sig.Descriptor.Digest, err)
		}
		if err == nil {
			h.accepted++
		}
	}
	return judge.VerifyEnvelopes(t.Context(), g.subject, listed, judge.Setting(o.setting), o.roots, o.tsaRoots) == nil
}
