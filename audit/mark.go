package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A mark is a signature while its artifact is looked at: what the report says of it, and what that is worked out from.
type mark struct {
	Listed
	sig     registry.Signature
	content envelope.Content
	annex   []*x509.Certificate // of the timestamp's token
	faint   string              // why its stated time helps no verifier; ""
	limits  []ending            // all that bounds it
	endings []ending            // those of the limits at which somebody loses it, as long as nothing stands in for it
}

// An ending is something that ends a signature at some time.
type ending struct {
	at   time.Time // the last second at which it holds; of an expiry the first at which it does not
	kind EndKind
	cert *x509.Certificate // nil of an expiry
}

func (e ending) over(now time.Time) bool {
	if e.kind == EndExpiry {
		return !e.at.After(now)
	}
	return now.After(e.at)
}

func (m *mark) good() bool { return m.State != StateBad }

// readMarks reads the signatures among what is listed. One that is gone when it is read was exchanged meanwhile, as rechain does, so
// the list is read again then.
func (a *Auditor) readMarks(ctx context.Context, repo *registry.Repo, subject ocispec.Descriptor, listed []registry.Referrer) ([]*mark, error) {
	var wanted []registry.Referrer
	for _, r := range listed {
		if r.ArtifactType == registry.ArtifactTypeSignature || r.ArtifactType == "" { // an entry that does not say its type may have any
			wanted = append(wanted, r)
		}
	}
	signatures := make([]registry.Signature, len(wanted))
	each(len(wanted), func(i int) { signatures[i] = repo.ReadSignature(ctx, subject, wanted[i]) })
	if slices.ContainsFunc(signatures, func(s registry.Signature) bool { return errors.Is(s.Err, registry.ErrNotFound) }) {
		again, err := repo.Signatures(ctx, subject)
		if err != nil {
			return nil, err
		}
		signatures = again
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	typed := map[digest.Digest]bool{}
	for _, r := range wanted {
		typed[r.Digest] = r.ArtifactType != ""
	}
	marks := make([]*mark, 0, len(signatures))
	for _, s := range signatures {
		if parts, err := s.Manifest.Parse(); s.Err != nil && !typed[s.Descriptor.Digest] && err == nil && parts.ArtifactType != registry.ArtifactTypeSignature {
			continue // it never was a signature: the list did not say what it is
		}
		marks = append(marks, a.mark(s, subject))
	}
	slices.SortFunc(marks, func(a, b *mark) int { return cmp.Compare(a.Digest, b.Digest) })
	return slices.CompactFunc(marks, func(a, b *mark) bool { return a.Digest == b.Digest }), nil
}

// mark reads what one signature says.
func (a *Auditor) mark(sig registry.Signature, subject ocispec.Descriptor) *mark {
	m := &mark{sig: sig}
	s := read(sig, subject, a.o.Now)
	m.Listed = Listed{
		Digest: s.Digest, State: StateCurrent, Reason: s.Reason, Detail: s.Detail, Format: s.Format, Algorithm: s.Algorithm, Scheme: s.Scheme,
		Agent: s.Agent, Identity: s.Identity, HasClaims: s.HasClaims, Claims: s.Claims, SignedAt: s.SignedAt, Expiry: s.Expiry,
	}
	m.content = s.content
	if errors.Is(sig.Err, registry.ErrNotFound) {
		m.Reason, m.Detail = codeGhost, "it is listed and is not there"
	}
	if s.Valid && s.Covers && sig.Misdescribed {
		m.State, m.Reason = StateBad, codeMisdescribed
		m.Detail = "the list has it without its type, or of another size or media type: stock verifiers pass it over, or reject the whole artifact"
		return m
	}
	if !s.Valid || !s.Covers {
		m.State = StateBad
		return m
	}
	// What is wrong with a claim is the claim's: the signature holds.
	m.Core = s.Core
	m.keepChain(a)
	m.stamp(a)
	m.end(a.o)
	return m
}

func (m *mark) keepChain(a *Auditor) {
	chain := m.content.Chain
	for i, cert := range chain {
		m.Chain = append(m.Chain, a.shelf.keep(cert, position(i, len(chain))))
	}
	_, until := chain.HoldsUntil()
	m.ChainUntil = known(until)
}

// position is what the certificate at index i of a chain of n is.
func position(i, n int) EndKind {
	switch {
	case i == 0:
		return EndLeaf
	case i == n-1:
		return EndRoot
	}
	return EndIntermediate
}

// stamp reads the countersignature.
func (m *mark) stamp(a *Auditor) {
	c := m.content
	if c.Scheme == envelope.SchemeSigningAuthority {
		// A signing authority vouches for its time; a timestamp is not looked at.
		if !inside(c.Chain, c.AuthenticTime, c.AuthenticTime) {
			m.faint = "its authentic signing time lies outside its chain"
		}
		return
	}
	from, to, ok, err := c.TimestampRange()
	switch {
	case err != nil:
		m.faint = "its timestamp cannot be read"
		return
	case !ok:
		return
	}
	t := &Timestamp{At: from.Add(to.Sub(from) / 2).UTC(), Inside: inside(c.Chain, from, to)}
	if !t.Inside {
		m.faint = "its timestamp lies outside its chain"
	}
	m.annex = c.TimestampCertificates()
	if len(a.o.TimestampRoots) > 0 {
		verified, err := c.VerifyTimestamp(a.o.TimestampRoots)
		trusted := err == nil
		t.Trusted = &trusted
		if trusted { // what the token carries besides is not signed: whose it is, is who verified
			signer := verified.Chain.Leaf()
			m.annex = append([]*x509.Certificate{signer}, slices.DeleteFunc(m.annex, signer.Equal)...)
		} else {
			m.faint = "its timestamp does not verify under the TSA roots given"
		}
	}
	for i, cert := range m.annex {
		use := EndTSA
		if i > 0 {
			use = UseIssuer
		} else {
			t.By, t.Until = certchain.NameOf(cert.RawSubject), known(cert.NotAfter)
		}
		t.Chain = append(t.Chain, a.shelf.keep(cert, use))
	}
	m.Timestamp = t
}

func inside(chain certchain.Chain, from, to time.Time) bool {
	_, until := chain.HoldsUntil()
	return !from.Before(chain.HoldsFrom()) && !to.After(until)
}

// stamped reports whether its timestamp serves verifiers that have the TSA's root.
func (m *mark) stamped() bool {
	t := m.Timestamp
	return t != nil && t.Inside && (t.Trusted == nil || *t.Trusted)
}

// end lists what ends m.
func (m *mark) end(o Options) {
	c := m.content
	outlives := c.Scheme == envelope.SchemeSigningAuthority // stock verifiers hold its chain against the time it states, not against today's
	if m.stamped() {
		outlives = outlives || len(o.TimestampRoots) > 0
		if len(m.annex) > 0 {
			m.limits = append(m.limits, ending{m.annex[0].NotAfter, EndTSA, m.annex[0]})
		}
	}
	if !outlives {
		cert, until := c.Chain.HoldsUntil()
		m.limits = append(m.limits, ending{until, position(slices.Index(c.Chain, cert), len(c.Chain)), cert})
	}
	if !c.Expiry.IsZero() {
		m.limits = append(m.limits, ending{c.Expiry, EndExpiry, nil})
	}
	slices.SortStableFunc(m.limits, func(a, b ending) int { return a.at.Compare(b.at) })
	// What comes after all is over ends nothing any more: after the expiry, and without a timestamp after the end of the chain.
	final := slices.IndexFunc(m.limits, func(e ending) bool { return e.kind == EndExpiry || e.kind != EndTSA && !m.stamped() })
	m.endings = m.limits
	if final >= 0 {
		m.endings = m.limits[:final+1]
	}
}

// remedy is what mends m when e is what ends it.
func (m *mark) remedy(e ending, now time.Time) Remedy {
	chain := m.content.Chain
	switch _, until := chain.HoldsUntil(); {
	case e.kind == EndExpiry, e.kind == EndLeaf && len(chain) == 1:
		return RemedySign
	case e.kind == EndLeaf:
		return RemedyReissue
	case e.kind != EndTSA:
		return RemedyRechain
	case now.After(until), now.Before(chain.HoldsFrom()):
		return RemedyBoth
	}
	return RemedyTimestamp
}

// settle says which of an artifact's signatures count, and what ends those.
func (a *Auditor) settle(marks []*mark) {
	superseded := map[digest.Digest]digest.Digest{}
	if a.o.Superseded != nil {
		superseded = a.superseded(marks)
	}
	for _, m := range marks {
		if !m.good() {
			continue
		}
		left, by := m.uncovered(marks)
		switch survivor, gone := superseded[m.Digest]; {
		case gone:
			m.State, m.By = StateSuperseded, survivor
		case len(left) > 0 || len(m.endings) == 0:
			m.endings = left
		default:
			m.State, m.By = m.needless(by, a.o.Superseded == nil), by.Digest
		}
		if len(m.endings) > 0 {
			e := m.endings[0]
			m.Ends, m.EndKind, m.Remedy = known(e.at), e.kind, m.remedy(e, a.o.Now)
			if e.cert != nil {
				m.EndCert = certchain.Thumbprint(e.cert)
			}
		}
	}
}

// superseded asks which of the signatures prune would delete.
func (a *Auditor) superseded(marks []*mark) map[digest.Digest]digest.Digest {
	cores, several := map[digest.Digest]bool{}, false
	sigs := make([]registry.Signature, len(marks))
	for i, m := range marks {
		sigs[i] = m.sig
		several = several || m.Core != "" && cores[m.Core]
		cores[m.Core] = true
	}
	if !several { // nothing has a second chain
		return nil
	}
	return a.o.Superseded(sigs)
}

// needless says why m, all of whose endings others cover, counts for nothing.
func (m *mark) needless(by *mark, bySupersession bool) State {
	switch {
	case m.Core != by.Core:
		return StateReplaced
	case bySupersession && by.content.Supersedes(m.content):
		return StateSuperseded
	case m.content.Chain.Equal(by.content.Chain) && bytes.Equal(m.content.Timestamp, by.content.Timestamp):
		return StateDuplicate
	}
	return StateReplaced
}

// uncovered returns those of m's endings after which no other signature stands in for it; by is one that covers the first of the others.
func (m *mark) uncovered(marks []*mark) (left []ending, by *mark) {
	for _, e := range m.endings {
		i := slices.IndexFunc(marks, func(o *mark) bool { return o != m && o.good() && o.covers(m, e) })
		if i < 0 {
			left = append(left, e)
		} else if by == nil {
			by = marks[i]
		}
	}
	return left, by
}

// covers reports whether somebody who goes by o, when e ends it, still has m: m says the same, and what e is of m lasts longer. Of two
// that last as long the one that ranks higher covers the other.
func (m *mark) covers(o *mark, e ending) bool {
	if !m.speaksFor(o) {
		return false
	}
	same := func(x ending) bool { return x.kind == e.kind }
	switch e.kind {
	case EndTSA:
		if !m.stamped() || !m.asCredible(o) {
			return false
		}
	case EndExpiry:
	default: // which certificate of the chain it is makes no difference
		same = func(x ending) bool { return x.kind != EndTSA && x.kind != EndExpiry }
	}
	// Whatever ends the present one, the other must not be past its own expiry by then, nor, unless a timestamp is what counts, its chain.
	for _, x := range m.limits {
		if !same(x) && x.kind != EndTSA && (e.kind != EndTSA || x.kind == EndExpiry) && x.at.Before(e.at) {
			return false
		}
	}
	i := slices.IndexFunc(m.limits, same)
	if i < 0 {
		return true // nothing of that kind ever ends it
	}
	switch later := m.limits[i].at.Compare(e.at); later {
	case 0:
		return m.rank(o) > 0
	default:
		return later > 0
	}
}

// rank orders signatures by how long they last, then by their age: of two equals exactly one ranks higher.
func (m *mark) rank(o *mark) int {
	end := func(m *mark, kinds ...EndKind) time.Time {
		for _, e := range m.limits {
			if slices.Contains(kinds, e.kind) {
				return e.at
			}
		}
		return time.Time{}
	}
	signed := func(m *mark) time.Time { return m.content.SignedAt() }
	return cmp.Or(
		end(m, EndLeaf, EndIntermediate, EndRoot).Compare(end(o, EndLeaf, EndIntermediate, EndRoot)),
		end(m, EndTSA).Compare(end(o, EndTSA)),
		signed(m).Compare(signed(o)),
		cmp.Compare(o.Digest, m.Digest),
	)
}

// speaksFor reports whether m says what o says: by the same identity under the same root, in the same format, with the same
// signed annotations and at least the same claims. Anybody can make a chain for a public key under a root of his own, so another root
// never speaks for anything.
func (m *mark) speaksFor(o *mark) bool {
	a, b := m.content, o.content
	if !bytes.Equal(a.Chain.Leaf().RawSubject, b.Chain.Leaf().RawSubject) || !bytes.Equal(a.Chain.Root().Raw, b.Chain.Root().Raw) {
		return false
	}
	if m.Core == o.Core {
		return true
	}
	if a.Scheme != b.Scheme || a.Format != b.Format || m.HasClaims != o.HasClaims {
		return false
	}
	for _, claim := range o.Claims {
		if !slices.Contains(m.Claims, claim) {
			return false
		}
	}
	return maps.Equal(metadata(a.Payload), metadata(b.Payload))
}

func metadata(p envelope.Payload) map[string]string {
	rest := maps.Clone(p.Annotations)
	delete(rest, envelope.ClaimsAnnotation)
	return rest
}

// asCredible reports whether m's timestamp is as good as o's: the same, judged by given roots, or of an authority that the
// certificates of o's lead to. Anybody who may push can attach one of his own.
func (m *mark) asCredible(o *mark) bool {
	if m.Timestamp.Trusted != nil {
		return *m.Timestamp.Trusted
	}
	if bytes.Equal(m.content.Timestamp, o.content.Timestamp) {
		return true
	}
	// Of the certificates in o's token only what it hangs by: its signer's, and those whose key issued that. Anybody can put others into a
	// copy of it, one for the same key under a root of his own among them, and so have his timestamp stand in for the copy, and the copy for o.
	var own []*x509.Certificate
	for i, cert := range o.annex {
		if i == 0 || o.annex[0].CheckSignatureFrom(cert) == nil {
			own = append(own, cert)
		}
	}
	return m.content.TimestampBelow(own)
}

// claimsOf returns the tags of the repository that m claims, by themselves or with the repository's name; all: it claims every one.
func (m *Listed) claimsOf(name registry.Reference) (tags []string, all bool) {
	for _, claim := range m.Claims {
		if !strings.Contains(claim, "/") {
			tags = append(tags, claim)
			continue
		}
		if name.Kind != registry.Remote {
			continue // a layout's NAME is a tag in no repository
		}
		if q, err := registry.ParseQualified(claim); err == nil && q.Repository() == name {
			tags, all = append(tags, q.Tag), all || q.Tag == ""
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), all
}

// claimed lists claims for a sentence.
func claimed(claims []string) string {
	if len(claims) == 0 {
		return "no tag"
	}
	return some(claims, 4)
}

// some lists at most so many words.
func some(words []string, most int) string {
	if n := len(words); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:most-1], ", "), n-most+1)
	}
	return list(words)
}
