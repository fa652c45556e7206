package e2e

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
)

// A pit is where traps are drawn: chains of every age for keys that stay the same, signatures of every kind below them.
type pit struct {
	r       *rand.Rand
	now     time.Time
	subject ocispec.Descriptor
	key     crypto.Signer // of the leaf
	root    *certtest.Authority
	cas     [2]crypto.Signer     // of the intermediates
	tsas    []*tsatest.Authority // below one root; their tokens differ in accuracy
}

var trapAccuracies = []time.Duration{0, time.Second, 1500 * time.Millisecond, 30 * time.Second, time.Minute, 61 * time.Second, 10 * time.Minute}

func newPit(seed uint64) *pit {
	p := &pit{
		r: rand.New(rand.NewPCG(5, seed)), now: time.Now(), subject: image("trap").descriptor,
		key: certtest.Key("P-256"), root: certtest.Root("trap root", longLived()), cas: [2]crypto.Signer{certtest.Key("P-256"), certtest.Key("P-256")},
	}
	first := tsatest.New(tsatest.Options{})
	for _, accuracy := range trapAccuracies {
		p.tsas = append(p.tsas, tsatest.New(tsatest.Options{Accuracy: accuracy, Root: first.Root, CA: first.CA}))
	}
	return p
}

func longLived() certtest.Edit {
	return certtest.Valid(time.Now().AddDate(-9, 0, 0), time.Now().AddDate(9, 0, 0))
}

// Nothing that is drawn lies nearer to the clock than this, so that the test may take its time.
const trapMargin = 10 * time.Minute

func (p *pit) chance(of int) bool { return p.r.IntN(of) == 0 }

// away draws a distance from now between trapMargin and days.
func (p *pit) away(days int) time.Duration {
	return trapMargin + time.Duration(p.r.Int64N(int64(time.Duration(days)*24*time.Hour)))
}

// validity draws one that holds now, or one that ended or is to come.
func (p *pit) validity(now bool) certtest.Edit {
	from, to := p.now.Add(-p.away(400)), p.now.Add(p.away(400))
	if !now {
		switch p.r.IntN(6) {
		case 0:
			from = p.now.Add(p.away(1))
			to = from.Add(p.away(400))
		case 1, 2, 3:
			to = from.Add(trapMargin).Add(time.Duration(p.r.Int64N(int64(p.now.Sub(from) - trapMargin))))
			if !to.Before(p.now.Add(-trapMargin)) {
				to = p.now.Add(-trapMargin)
			}
		}
	}
	return certtest.Valid(from, to)
}

// A trap is a signature, and the certificates with which it is to be rechained.
type trap struct {
	name     string
	format   string
	scheme   string
	old      []*x509.Certificate
	given    []*x509.Certificate
	bytes    []byte
	stampAt  time.Time
	accuracy time.Duration
	stamped  bool
}

// draw makes one. Which certificates change between old and new is drawn too: the intermediate, the leaf, the root.
func (p *pit) draw(i int) trap {
	t := trap{format: []string{jwsType, coseType}[p.r.IntN(2)], scheme: envelope.SchemeX509}
	if p.chance(4) {
		t.scheme = envelope.SchemeSigningAuthority
	}
	// Most draws can be planned: a plan wants its new chain to hold now.
	current := func() certtest.Edit { return p.validity(!p.chance(15)) }
	root, newRoot := p.root, p.root
	switch p.r.IntN(6) {
	case 0: // the same name and key, another certificate
		root = certtest.RootWith(p.root.Key, "trap root", p.validity(false))
	case 1:
		newRoot = certtest.Root("trap root 2", longLived())
	}
	depth := []int{0, 1, 1, 1, 1, 1, 2, 2}[p.r.IntN(8)]
	ca := p.below(root, depth, func() certtest.Edit { return p.validity(p.chance(3)) })
	leaf := ca.Leaf(p.key.Public(), "trap leaf", p.validity(p.chance(2)))
	t.old = ca.Chain(leaf)
	newCA := p.below(newRoot, depth, current)
	newLeaf := leaf
	if p.chance(3) || depth == 0 || !validAt(leaf, p.now) {
		newLeaf = newCA.Leaf(p.key.Public(), "trap leaf", current())
	}
	t.given = newCA.Chain(newLeaf)
	if newRoot == p.root && p.chance(6) && validAt(ca.Certificate, p.now) { // only the leaf is re-issued
		t.given = ca.Chain(ca.Leaf(p.key.Public(), "trap leaf", current()))
	}

	tsa := p.r.IntN(len(p.tsas))
	t.accuracy = trapAccuracies[tsa]
	t.stampAt = p.moment(t, t.accuracy)
	t.stamped = !p.chance(4)
	stamp := func(signature []byte) []byte {
		if p.chance(20) { // of something else: no token for this signature
			signature = []byte("another signature")
		}
		return p.tsas[tsa].Token(signature, t.stampAt)
	}
	var expiry time.Time
	switch p.r.IntN(8) {
	case 0:
		expiry = p.now.Add(-trapMargin - time.Hour)
	case 1:
		expiry = p.now.Add(p.away(10))
	}
	signed := p.now.AddDate(-2, 0, 0)
	if t.scheme == envelope.SchemeSigningAuthority {
		signed = p.moment(t, 0)
		if !expiry.IsZero() && !expiry.After(signed) {
			expiry = time.Time{}
		}
	}
	t.name = fmt.Sprintf("%d %s %s", i, t.format[len("application/"):], strings.TrimPrefix(t.scheme, "notary."))
	if t.stamped {
		t.name += fmt.Sprintf(" stamped %s ± %s", t.stampAt.Format(time.RFC3339), t.accuracy)
	}
	t.bytes = p.seal(t, signed, expiry, stamp)
	return t
}

// below issues as many intermediates as depth says, with the keys and names that they always have.
func (p *pit) below(a *certtest.Authority, depth int, validity func() certtest.Edit) *certtest.Authority {
	for i := range depth {
		a = a.IntermediateWith(p.cas[i], fmt.Sprintf("trap CA %d", i+1), validity())
	}
	return a
}

func validAt(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// moment draws a time: when the whole present chain was valid, anywhere in the past, or at the edge of a certificate, where a
// second and the accuracy decide.
func (p *pit) moment(t trap, accuracy time.Duration) time.Time {
	from, to := p.now.AddDate(-9, 0, 0), p.now.Add(-trapMargin)
	for _, c := range t.old {
		from, to = laterOf(from, c.NotBefore), earlierOf(to, c.NotAfter)
	}
	switch p.r.IntN(12) {
	case 0: // yet to come
		return p.now.Add(trapMargin + time.Duration(p.r.IntN(60))*time.Minute).Truncate(time.Second)
	case 1, 2, 3, 4, 5:
		if to.After(from) {
			return from.Add(time.Duration(p.r.Int64N(int64(to.Sub(from))))).Truncate(time.Second)
		}
	case 6, 7, 8, 9:
		certs := slices.Concat(t.old, t.given)
		cert := certs[p.r.IntN(len(certs))]
		edge := cert.NotBefore
		if p.chance(3) {
			edge = cert.NotAfter
		}
		by := []time.Duration{0, accuracy, -accuracy}[p.r.IntN(3)]
		return edge.Add(by).Add(time.Duration(p.r.IntN(5)-2) * time.Second).Truncate(time.Second)
	}
	return p.now.Add(-p.away(420)).Truncate(time.Second)
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlierOf(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// seal signs by hand, so that no rule of imprint's about what may be signed stands in the way.
func (p *pit) seal(t trap, signed, expiry time.Time, stamp func(signature []byte) []byte) []byte {
	const (
		scheme, timeOf, authentic = "io.cncf.notary.signingScheme", "io.cncf.notary.signingTime", "io.cncf.notary.authenticSigningTime"
		ends, token               = "io.cncf.notary.expiry", "io.cncf.notary.timestampSignature"
	)
	what, crit := timeOf, []string{scheme}
	if t.scheme == envelope.SchemeSigningAuthority {
		what, crit = authentic, append(crit, authentic)
	}
	if !expiry.IsZero() {
		crit = append(crit, ends)
	}
	if t.format == jwsType {
		header := map[string]any{"alg": "ES256", "cty": payloadType, "crit": crit, scheme: t.scheme, what: signed.UTC().Format(time.RFC3339)}
		if !expiry.IsZero() {
			header[ends] = expiry.UTC().Format(time.RFC3339)
		}
		j := newJWS(p.key, t.old, p.subject)
		protected, _ := json.Marshal(header)
		j.protected = string(protected)
		s := j.seal()
		if t.stamped {
			b, _ := json.Marshal(stamp(unquotedB64(s.signature)))
			s.header = strings.TrimSuffix(s.header, "}") + `,"` + token + `":` + string(b) + "}"
		}
		return s.bytes()
	}
	c := newCOSE(p.key, t.old, p.subject)
	c.protected = []pair{at(1, -7), at(2, crit), at(3, payloadType), {cb(what), unix(signed)}, at(scheme, t.scheme)}
	if !expiry.IsZero() {
		c.protected = append(c.protected, pair{cb(ends), unix(expiry)})
	}
	s := c.seal()
	if t.stamped {
		raw := s.signature[2:] // a byte string of 64
		c.unprotected = append(c.unprotected, at(token, stamp(raw)))
		s.unprotected = cborMap(c.unprotected)
	}
	return s.bytes()
}

func unquotedB64(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(strings.Trim(s, `"`))
	if err != nil {
		panic(err)
	}
	return b
}

// signature is t as a registry gives it back.
func (p *pit) signature(t trap) registry.Signature {
	annotations := map[string]string{ocispec.AnnotationCreated: "2026-01-01T00:00:00Z"}
	m := registry.ByArtifactType.Manifest(p.subject, t.format, t.bytes, annotations)
	return registry.Signature{Subject: p.subject, Descriptor: m.Descriptor, Manifest: m, Annotations: annotations, MediaType: t.format, Envelope: t.bytes}
}

// trapsWanted is the number of chains, more than the 200 of issue 5's table.
const trapsWanted = 300

// What rechain's plan predicts for the present signature, for the new one and for both side by side, notation-go says, at each of the
// three settings: for each of many generated chains. What cannot be planned is predicted too, and judged. imprint's own policy
// says the same as notation, but for where it is stricter on purpose.
func TestTraps(t *testing.T) {
	t.Parallel()
	var seen sightings
	const parts = 2
	t.Run("drawn", func(t *testing.T) {
		for part := range parts {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				p := newPit(uint64(part))
				for planned, i := 0, 0; planned < trapsWanted/parts; i++ {
					if i > 2*trapsWanted {
						t.Fatalf("only %d of %d draws can be planned", planned, i)
					}
					if p.check(t, p.draw(i), &seen) {
						planned++
					}
				}
			})
		}
	})
	for what, least := range map[string]int{
		"trap 1: always, the new one alone is refused":      6,
		"trap 1 is none for afterCertExpiry":                5,
		"trap 2: the signing authority's time":              2,
		"trap 3: only the present root is trusted":          50,
		"mended: no TSA root":                               40,
		"mended: afterCertExpiry":                           20,
		"mended: always":                                    15,
		"cannot be planned":                                 10,
		"no-tsa-root new accepted":                          60,
		"no-tsa-root old rejected":                          60,
		"tsa-always new accepted":                           15,
		"tsa-always new rejected":                           60,
		"tsa-after-cert-expiry old accepted":                30,
		"tsa-after-cert-expiry old rejected":                40,
		"afterwards no-tsa-root new accepted":               15,
		"afterwards no-tsa-root old rejected":               30,
		"afterwards tsa-after-cert-expiry old accepted":     8,
		"afterwards tsa-after-cert-expiry old rejected":     10,
		"afterwards tsa-always old accepted":                8,
		"stricter: accuracy":                                2,
		"stricter: the future":                              5,
		"stricter: signing authorities are not trusted yet": 10,
	} {
		if n := seen.of(what); n < least {
			t.Errorf("%q was seen %d times, want %d: the draws test too little", what, n, least)
		}
	}
	t.Log(seen.String())
}

// check asks plan, predictor, judge and policy, and reports whether the trap could be planned.
func (p *pit) check(t *testing.T, c trap, seen *sightings) (planned bool) {
	t.Helper()
	sig := p.signature(c)
	plan, err := signer.PlanRechain(sig, signer.NewPool(c.given), signer.RechainOptions{Now: p.now, AllowShorter: true, AllowIdentityChange: true})
	roots := []*x509.Certificate{c.old[len(c.old)-1], c.given[len(c.given)-1]}
	old := judge.Signature{MediaType: c.format, Envelope: c.bytes}
	if err != nil || plan.Status != signer.StatusPlanned {
		// Not valid now, or of no use: what is predicted of either chain holds all the same.
		seen.add("cannot be planned")
		p.predicted(t, c, "old", old, roots)
		return false
	}
	fresh := judge.Signature{MediaType: c.format, Envelope: plan.Envelope().Bytes()}
	roots[1] = plan.Envelope().Unverified().Chain.Root()
	if len(plan.Verdicts) != len(envelope.Settings()) {
		t.Fatalf("%s: %d verdicts", c.name, len(plan.Verdicts))
	}
	said := map[envelope.Setting][2]bool{}
	for _, v := range plan.Verdicts {
		both := []judge.Signature{old, fresh}
		if p.chance(2) {
			both[0], both[1] = both[1], both[0]
		}
		gotOld, gotNew, gotBoth := p.notation(t, v.Setting, roots, old), p.notation(t, v.Setting, roots, fresh), p.notation(t, v.Setting, roots, both...)
		if (gotOld == nil) != v.Old || (gotNew == nil) != v.New || (gotBoth == nil) != v.Both {
			t.Errorf("%s: %s: the plan says old %v (%s), new %v (%s), both %v; notation says old: %v, new: %v, both: %v\nold:%s\nnew:%s", c.name, v.Setting,
				v.Old, v.OldWhy, v.New, v.NewWhy, v.Both, gotOld, gotNew, gotBoth, validities(c.old), validities(plan.Envelope().Unverified().Chain))
		}
		said[v.Setting] = [2]bool{gotOld == nil, gotNew == nil}
		seen.add(fmt.Sprintf("%s old %s", v.Setting, acceptance(gotOld)))
		seen.add(fmt.Sprintf("%s new %s", v.Setting, acceptance(gotNew)))
		p.anchored(t, c, plan, v, roots, fresh, both, seen)
	}
	p.count(c, said, seen)
	p.policy(t, c, plan, said, roots, seen)
	return true
}

func (p *pit) notation(t *testing.T, s envelope.Setting, roots []*x509.Certificate, sigs ...judge.Signature) error {
	return judge.VerifyEnvelopes(t.Context(), p.subject, sigs, judge.Setting(s), roots, p.tsas[0].Roots())
}

// predicted holds what envelope says of one signature alone against the judge.
func (p *pit) predicted(t *testing.T, c trap, which string, sig judge.Signature, roots []*x509.Certificate) {
	t.Helper()
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	content, err := e.Verify()
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	for _, s := range envelope.Settings() {
		ok, why := content.Passes(s, p.now)
		if !content.Expiry.IsZero() && !content.Expiry.After(p.now) {
			ok, why = false, "expired"
		}
		if got := p.notation(t, s, roots, sig); (got == nil) != ok {
			t.Errorf("%s: %s %s: predicted %v (%s), notation says %v", c.name, which, s, ok, why, got)
		}
	}
}

// anchored is trap 3: who trusts only the present root refuses a chain that ends in another, takes both side by side as he takes the
// old one, and is warned of.
func (p *pit) anchored(t *testing.T, c trap, plan signer.Plan, v signer.Verdict, roots []*x509.Certificate, fresh judge.Signature, both []judge.Signature, seen *sightings) {
	t.Helper()
	if moved := !roots[0].Equal(roots[1]); moved != (plan.Anchor != "") || moved != slices.ContainsFunc(plan.Warnings, func(w string) bool { return strings.Contains(w, "another root") }) {
		t.Errorf("%s: another root: %v; the plan says %q, %q", c.name, moved, plan.Anchor, plan.Warnings)
	} else if !moved {
		return
	}
	seen.add("trap 3: only the present root is trusted")
	if err := p.notation(t, v.Setting, roots[:1], fresh); err == nil {
		t.Errorf("%s: %s: a chain to another root is accepted", c.name, v.Setting)
	}
	if err := p.notation(t, v.Setting, roots[:1], both...); (err == nil) != v.Old {
		t.Errorf("%s: %s: beside a chain to another root the old one, which passes: %v, is judged: %v", c.name, v.Setting, v.Old, err)
	}
}

func (p *pit) count(c trap, said map[envelope.Setting][2]bool, seen *sightings) {
	always, after, none := said[envelope.Always], said[envelope.AfterCertExpiry], said[envelope.NoTSARoot]
	if always == [2]bool{true, false} {
		switch c.scheme {
		case envelope.SchemeX509:
			seen.add("trap 1: always, the new one alone is refused")
			if after[1] {
				seen.add("trap 1 is none for afterCertExpiry")
			}
		default:
			seen.add("trap 2: the signing authority's time")
		}
	}
	mended := [2]bool{false, true}
	for what, got := range map[string][2]bool{"mended: no TSA root": none, "mended: afterCertExpiry": after, "mended: always": always} {
		if got == mended && c.scheme == envelope.SchemeX509 {
			seen.add(what)
		}
	}
}

// policy asks imprint's own judge, by a policy with one scope per setting.
func (p *pit) policy(t *testing.T, c trap, plan signer.Plan, said map[envelope.Setting][2]bool, roots []*x509.Certificate, seen *sightings) {
	t.Helper()
	inline := func(certs ...*x509.Certificate) string {
		b, _ := json.Marshal(string(certtest.PEM(certs...)))
		return string(b)
	}
	stamps := func(use string) string {
		return fmt.Sprintf("{trust: [r], timestamps: {use: %s, roots: [%s]}}", use, inline(p.tsas[0].Root.Certificate))
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text := fmt.Sprintf("version: 1\nroots: {r: %s}\nscopes:\n  r.example/no-tsa-root: [r]\n  r.example/tsa-always: %s\n  r.example/tsa-after-cert-expiry: %s\n",
		inline(roots...), stamps("always"), stamps("after-cert-expiry"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := trust.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(s envelope.Setting, sig registry.Signature, now time.Time) trust.Report {
		ref, err := registry.ParseReference("r.example/" + string(s) + "@" + p.subject.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		return policy.Judge(ref, p.subject, []registry.Signature{sig}, now)
	}
	// What is predicted for the time when the present chain has ended, notation cannot be asked today. The policy can.
	for _, v := range plan.Afterwards {
		ended := plan.NowUntil.Add(time.Second)
		for which, predicted := range map[string]bool{"old": v.Old, "new": v.New} {
			sig := p.signature(c)
			if which == "new" {
				sig = plan.Proposed()
			}
			switch got := ask(v.Setting, sig, ended); {
			case (got.Verdict == trust.Accepted) == predicted:
				seen.add(fmt.Sprintf("afterwards %s %s %s", v.Setting, which, got.Verdict))
			case predicted && p.onPurpose(c, got, ended) != "":
			default:
				t.Errorf("%s: %s, once the present chain has ended: the plan says %+v; %s is %s %s: %s", c.name, v.Setting, v, which, got.Verdict, got.Reason, got.Detail)
			}
		}
	}
	for _, s := range envelope.Settings() {
		for i, sig := range []registry.Signature{p.signature(c), plan.Proposed()} {
			got := ask(s, sig, p.now)
			accepted, stock := got.Verdict == trust.Accepted, said[s][i]
			switch {
			case accepted == stock:
			case accepted:
				t.Errorf("%s: %s: imprint accepts what notation refuses", c.name, s)
			case p.onPurpose(c, got, p.now) != "":
				seen.add("stricter: " + p.onPurpose(c, got, p.now))
			default:
				t.Errorf("%s: %s: notation accepts; imprint says %s: %s", c.name, s, got.Reason, got.Detail)
			}
		}
	}
}

// onPurpose says why imprint refuses what notation accepts; nothing if there is no such reason.
func (p *pit) onPurpose(c trap, got trust.Report, now time.Time) string {
	switch {
	case c.scheme == envelope.SchemeSigningAuthority && got.Reason == "kind-not-trusted":
		return "signing authorities are not trusted yet"
	case c.accuracy > time.Minute && got.Reason == "timestamp-inexact":
		return "accuracy"
	case c.stampAt.After(now) && got.Reason == "timestamp-in-the-future":
		return "the future"
	}
	return ""
}

// The same in a registry: what Push writes beside the old one is listed with it, and judged there as predicted.
func TestTrapsInARegistry(t *testing.T) {
	t.Parallel()
	p := newPit(99)
	server := regtest.New(t, regtest.WithAPI)
	client, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for planned, i := 0, 0; planned < 12 && i < 100; i++ {
		c := p.draw(i)
		sig := p.signature(c)
		plan, err := signer.PlanRechain(sig, signer.NewPool(c.given), signer.RechainOptions{Now: p.now, AllowShorter: true, AllowIdentityChange: true})
		if err != nil || plan.Status != signer.StatusPlanned {
			continue
		}
		planned++
		name := fmt.Sprintf("%s/traps/%d", server.Host, i)
		ref := pushed(t, image("trap"), name, "v1")
		repo, err := client.Open(t.Context(), registry.Reference{Kind: registry.Remote, Host: server.Host, Path: fmt.Sprintf("traps/%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		pushedSignature(t, repo, sig)
		if plan, err = plan.Push(t.Context(), repo); err != nil {
			t.Fatal(err)
		}
		roots := []*x509.Certificate{c.old[len(c.old)-1], plan.Envelope().Unverified().Chain.Root()}
		for _, v := range plan.Verdicts {
			s, tsa := judge.Setting(v.Setting), p.tsas[0].Roots()
			gotOld := judge.VerifyAt(t.Context(), ref, plan.Signature, s, roots, tsa)
			gotNew := judge.VerifyAt(t.Context(), ref, plan.New, s, roots, tsa)
			gotBoth := judge.VerifyAt(t.Context(), ref, "", s, roots, tsa)
			if (gotOld == nil) != v.Old || (gotNew == nil) != v.New || (gotBoth == nil) != v.Both {
				t.Errorf("%s: %s: predicted %+v; notation says old: %v, new: %v, both: %v", c.name, v.Setting, v, gotOld, gotNew, gotBoth)
			}
		}
		_ = repo.Close()
	}
}

func pushedSignature(t *testing.T, repo *registry.Repo, sig registry.Signature) {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(sig.Manifest.Bytes, &m); err != nil {
		t.Fatal(err)
	}
	for _, b := range []struct {
		d ocispec.Descriptor
		b []byte
	}{{m.Config, []byte("{}")}, {m.Layers[0], sig.Envelope}} {
		if err := repo.PushBytes(t.Context(), b.d, b.b); err != nil {
			t.Fatal(err)
		}
	}
	if err := repo.Attach(t.Context(), sig.Subject, sig.Manifest); err != nil {
		t.Fatal(err)
	}
}

func acceptance(err error) string {
	if err == nil {
		return "accepted"
	}
	return "rejected"
}

func validities(chain []*x509.Certificate) string {
	var b bytes.Buffer
	for _, c := range chain {
		fmt.Fprintf(&b, "\n  %s from %s to %s", c.Subject.CommonName, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	return b.String()
}

// Sightings count what the draws came to.
type sightings struct {
	mu   sync.Mutex
	seen map[string]int
}

func (s *sightings) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]int{}
	}
	s.seen[what]++
}

func (s *sightings) of(what string) int { return s.seen[what] }

func (s *sightings) String() string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(s.seen)) {
		fmt.Fprintf(&b, "\n%5d %s", s.seen[what], what)
	}
	return b.String()
}
