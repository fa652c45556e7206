package certchain

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"slices"
	"time"
)

// An Answer says what a change of certificates costs those who have signatures under the old ones.
type Answer string

// The answers, the cheapest first.
const (
	AnswerSame       Answer = "same"        // the new chain is the old one
	AnswerRechain    Answer = "rechain"     // signatures take the new chain; no verifier that pins the root or the signer has to change
	AnswerTrustFirst Answer = "trust-first" // signatures take it, but verifiers have to accept its root or its signer's name before
	AnswerReissue    Answer = "reissue"     // authorities alone, of another key or name: what they issued has to be issued again
	AnswerSignAgain  Answer = "sign-again"  // it is for another key: every signature has to be made again
	AnswerUnfit      Answer = "unfit"       // the new certificates are no chain that signatures could have
)

// The roles that a certificate has in a line.
const (
	RoleLeaf   = "leaf"
	RoleIssuer = "issuer"
	RoleRoot   = "root"
)

// The kinds of changes of one certificate.
const (
	ChangeNone        = "same"         // the same bytes
	ChangeRenewed     = "renewed"      // same name, same key, same issuer
	ChangeReissued    = "reissued"     // a leaf of the same name and key by another issuer
	ChangeCrossSigned = "cross-signed" // an authority of the same name and key by another issuer
	ChangeRenamed     = "renamed"      // same key, another name
	ChangeRekeyed     = "rekeyed"      // same name, another key
	ChangeReplaced    = "replaced"     // another name and another key in the same place
	ChangeAdded       = "added"
	ChangeGone        = "gone"
)

// A Change is what becomes of one certificate. Old or New is nil where there is none.
type Change struct {
	Role        string       `json:"role"`
	Kind        string       `json:"kind"`
	Old         *Certificate `json:"old,omitempty"`
	New         *Certificate `json:"new,omitempty"`
	SameKey     bool         `json:"sameKey"`
	SameSubject bool         `json:"sameSubject"` // as [SameName]
	SameIssuer  bool         `json:"sameIssuer"`
}

// A Line is one of the two that are compared: certificates of which each is issued by the next.
type Line struct {
	Certificates []Certificate `json:"certificates"`
	Complete     bool          `json:"complete"`           // from a leaf to a self-signed root
	Borrowed     []string      `json:"borrowed,omitempty"` // SHA-256 of those that only the other side's files have
	HoldsFrom    time.Time     `json:"holdsFrom"`
	HoldsUntil   time.Time     `json:"holdsUntil"`
	FirstToEnd   string        `json:"firstToEnd"` // SHA-256
}

// A Pin is a certificate that verifiers may have in their trust store. imprint pins roots; notation, Ratify and Kyverno take any
// certificate of the chain that is an authority's or self-signed (trust store specification of the Notary Project).
type Pin struct {
	Role        string `json:"role"`
	Subject     string `json:"subject"`
	Certificate string `json:"sha256"`
	Kept        bool   `json:"kept"`              // the new chain has it: who pins it needs nothing
	Instead     string `json:"instead,omitempty"` // SHA-256 of the one that stands in its place
}

// A Comparison says what it means to go from one chain to another.
type Comparison struct {
	Answer  Answer   `json:"answer"`
	Old     Line     `json:"old"`
	New     Line     `json:"new"`
	Changes []Change `json:"changes"` // leaf to root
	Pins    []Pin    `json:"pins"`    // of the old line
	// Signing reports whether both lines begin with a leaf; the next four are about the leaves.
	Signing     bool `json:"signing"`
	SameKey     bool `json:"sameKey"`     // byte-equal SubjectPublicKeyInfo, without which no signature can take the new chain
	SameSubject bool `json:"sameSubject"` // as [SameName]
	SameNames   bool `json:"sameNames"`   // the same alternative names
	Rechain     bool `json:"rechain"`     // signatures under the old chain can take the new one, at the latest when it begins
	Shorter     bool `json:"shorter"`     // the new chain ends earlier
	// CountersignedFrom is set if the new chain begins after the old one. A signature that was countersigned before that time, or
	// has an authentic signing time before it, fails under the new chain with verifiers that always go by timestamps.
	CountersignedFrom *time.Time `json:"countersignedFrom,omitempty"`
	// Broken is the rule that makes the new line unfit: a *RuleError.
	Broken error `json:"-"`
}

// Compare compares two sets of certificates, each a chain in any order or a part of one, at the time at. What one of them lacks above
// is borrowed from the other; and new authorities alone are put below the old leaf, as rechaining does. The error is a *RuleError if
// it cannot be told which chain of a set is meant.
func Compare(old, new []*x509.Certificate, at time.Time) (Comparison, error) {
	before, err := lineOf(old, at)
	if err != nil {
		return Comparison{}, err
	}
	after, err := lineOf(new, at)
	if err != nil {
		return Comparison{}, err
	}
	from := before
	before = extend(before, new, at)
	switch {
	case isLeaf(from[0]) && !isLeaf(after[0]):
		if taken := below(from[0], after[0], new, before, at); taken != nil {
			after = taken
		}
	default:
		after = extend(after, old, at)
	}
	c := Comparison{Old: describeLine(before, old), New: describeLine(after, new), Changes: changes(before, after), Pins: []Pin{}}
	c.Signing = isLeaf(before[0]) && isLeaf(after[0])
	c.judge(before, after, at)
	c.pin(before)
	return c, nil
}

// lineOf finds the longest line among certificates: from the leaf, or where there is none from the authority that issued no other.
func lineOf(certs []*x509.Certificate, at time.Time) (Chain, error) {
	if len(certs) == 0 || slices.Contains(certs, nil) {
		return nil, ruleError(ruleEmpty, nil, "there is no certificate")
	}
	g := newGraph(certs)
	starts := g.starts()
	first := g.certs[starts[0]]
	var best *candidate
	for _, i := range starts {
		c := g.certs[i]
		if !bytes.Equal(c.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
			return nil, ruleError(ruleUnrelated, c, "it does not belong to the chain of %s: give one chain", label(first))
		}
		for _, p := range g.paths(i) {
			if found := g.judge(p, at); best == nil || found.compare(best) > 0 {
				best = found
			}
		}
	}
	if g.steps > maxSteps {
		return nil, ruleError(ruleComplex, nil, "the certificates cross-sign one another in too many ways")
	}
	return best.chain, nil
}

// starts returns the leaves, or if there are none the authorities that issued no other.
func (g *graph) starts() []int {
	var leaves, lowest []int
	for i, c := range g.certs {
		if isLeaf(c) {
			leaves = append(leaves, i)
			continue
		}
		// One of the same key is the same authority, renewed or cross-signed.
		issued := false
		for j, o := range g.certs {
			if !bytes.Equal(o.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) && bytes.Equal(o.RawIssuer, c.RawSubject) && g.signedBy(j, i) {
				issued = true
				break
			}
		}
		if !issued {
			lowest = append(lowest, i)
		}
	}
	switch {
	case len(leaves) > 0:
		return leaves
	case len(lowest) > 0:
		return lowest
	}
	return []int{0} // a circle
}

// isLeaf reports whether c is no authority.
func isLeaf(c *x509.Certificate) bool { return !c.BasicConstraintsValid || !c.IsCA }

// extend goes on above a line that ends before a root, by the certificates of others.
func extend(line Chain, others []*x509.Certificate, at time.Time) Chain {
	last := line[len(line)-1]
	if selfSigned(last) {
		return line
	}
	g := newGraph(append(slices.Clone(others), last))
	var best *candidate
	for i, c := range g.certs {
		if !c.Equal(last) {
			continue
		}
		for _, p := range g.paths(i) {
			if found := g.judge(p, at); p.complete && (best == nil || found.compare(best) > 0) {
				best = found
			}
		}
	}
	if best == nil || g.steps > maxSteps || len(line)+len(best.chain)-1 > MaxCertificates {
		return line
	}
	return append(slices.Clone(line), best.chain[1:]...)
}

// below returns the chain of leaf that takes lowest, the first of the new authorities, nil if there is none. As in rechaining a new one
// takes the place of an old one that has its name and key.
func below(leaf, lowest *x509.Certificate, new []*x509.Certificate, before Chain, at time.Time) Chain {
	pool := slices.Clone(new)
	for _, o := range before {
		if !slices.ContainsFunc(new, func(n *x509.Certificate) bool { return sameAuthority(o, n) }) {
			pool = append(pool, o)
		}
	}
	best, err := search(leaf.PublicKey, pool, at)
	if err != nil || best.rank < rankRule || !contains(best.chain, lowest) {
		return nil
	}
	return best.chain
}

func sameAuthority(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

func describeLine(c Chain, own []*x509.Certificate) Line {
	first, until := c.HoldsUntil()
	l := Line{
		Certificates: c.Describe(), Complete: isLeaf(c[0]) && selfSigned(c.Root()),
		HoldsFrom: c.HoldsFrom().UTC(), HoldsUntil: until.UTC(), FirstToEnd: Thumbprint(first),
	}
	for _, cert := range c {
		if !contains(own, cert) {
			l.Borrowed = append(l.Borrowed, Thumbprint(cert))
		}
	}
	return l
}

// roleIn is what certificate i does in a line.
func (c Chain) roleIn(i int) string {
	switch {
	case isLeaf(c[i]):
		return RoleLeaf
	case selfSigned(c[i]):
		return RoleRoot
	}
	return RoleIssuer
}

// changes pairs the certificates of two lines, each with the one that is most like it.
func changes(before, after Chain) []Change {
	pairs := make([]int, len(before))
	taken := make([]bool, len(after))
	for i := range pairs {
		pairs[i] = -1
	}
	role := func(i, j int) bool { return before.roleIn(i) == after.roleIn(j) }
	for _, alike := range []func(i, j int) bool{
		func(i, j int) bool { return before[i].Equal(after[j]) },
		func(i, j int) bool {
			return sameKey(before[i], after[j]) && SameName(before[i].RawSubject, after[j].RawSubject)
		},
		func(i, j int) bool { return role(i, j) && sameKey(before[i], after[j]) },
		func(i, j int) bool { return role(i, j) && SameName(before[i].RawSubject, after[j].RawSubject) },
		role,
	} {
		for i := range before {
			for j := range after {
				if pairs[i] < 0 && !taken[j] && alike(i, j) {
					pairs[i], taken[j] = j, true
				}
			}
		}
	}
	var out []Change
	for i, j := range pairs {
		if j < 0 {
			d := Describe(before[i])
			out = append(out, Change{Role: before.roleIn(i), Kind: ChangeGone, Old: &d})
			continue
		}
		out = append(out, change(before, i, after, j))
	}
	for j, used := range taken {
		if !used {
			d := Describe(after[j])
			out = append(out, Change{Role: after.roleIn(j), Kind: ChangeAdded, New: &d})
		}
	}
	rank := map[string]int{RoleLeaf: 0, RoleIssuer: 1, RoleRoot: 2}
	slices.SortStableFunc(out, func(a, b Change) int { return cmp.Compare(rank[a.Role], rank[b.Role]) })
	return out
}

func sameKey(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

func change(before Chain, i int, after Chain, j int) Change {
	a, b := before[i], after[j]
	from, to := Describe(a), Describe(b)
	c := Change{Role: after.roleIn(j), Old: &from, New: &to, SameKey: sameKey(a, b), SameSubject: SameName(a.RawSubject, b.RawSubject)}
	c.SameIssuer = SameName(a.RawIssuer, b.RawIssuer) && selfSigned(a) == selfSigned(b)
	if i+1 < len(before) && j+1 < len(after) {
		c.SameIssuer = c.SameIssuer && sameKey(before[i+1], after[j+1])
	}
	switch {
	case a.Equal(b):
		c.Kind = ChangeNone
	case c.SameKey && c.SameSubject && c.SameIssuer:
		c.Kind = ChangeRenewed
	case c.SameKey && c.SameSubject && isLeaf(b):
		c.Kind = ChangeReissued
	case c.SameKey && c.SameSubject:
		c.Kind = ChangeCrossSigned
	case c.SameKey:
		c.Kind = ChangeRenamed
	case c.SameSubject:
		c.Kind = ChangeRekeyed
	default:
		c.Kind = ChangeReplaced
	}
	return c
}

// judge finds the answer.
func (c *Comparison) judge(before, after Chain, at time.Time) {
	if before.Equal(after) {
		c.Answer, c.SameKey, c.SameSubject, c.SameNames = AnswerSame, true, true, true
		return
	}
	low, next := before[0], after[0]
	c.SameKey = sameKey(low, next)
	c.SameSubject = SameName(low.RawSubject, next.RawSubject)
	c.SameNames = sameAlternativeNames(low, next)
	c.Shorter = c.New.HoldsUntil.Before(c.Old.HoldsUntil)
	if !c.Signing {
		c.judgeAuthorities(before, after, at)
		return
	}
	if !c.SameKey {
		c.Answer, c.Broken = AnswerSignAgain, unfit(after, at)
		return
	}
	if c.Broken = unfit(after, at); c.Broken != nil {
		c.Answer = AnswerUnfit
		return
	}
	c.Rechain = true
	if c.New.HoldsFrom.After(c.Old.HoldsFrom) {
		from := c.New.HoldsFrom
		c.CountersignedFrom = &from
	}
	c.Answer = AnswerRechain
	// Where the old line ends before its root, nobody can say that the root stays.
	if !before.Root().Equal(after.Root()) || !c.SameSubject || !c.SameNames {
		c.Answer = AnswerTrustFirst
	}
}

// judgeAuthorities is judge where a leaf is missing on a side: whether what was issued below can stay.
func (c *Comparison) judgeAuthorities(before, after Chain, at time.Time) {
	authority := before
	if isLeaf(before[0]) {
		authority = before[1:]
	}
	if isLeaf(after[0]) {
		after = after[1:]
	}
	c.Answer = AnswerReissue
	if len(authority) == 0 || len(after) == 0 || !sameAuthority(authority[0], after[0]) {
		return
	}
	if first, until := after.HoldsUntil(); until.Before(at) {
		c.Answer, c.Broken = AnswerUnfit, ruleError(ruleExpired, first, "it ended at %s", until.UTC().Format(time.RFC3339))
		return
	}
	// Leaves stay, and so do the signatures.
	c.Answer = AnswerRechain
	if selfSigned(authority.Root()) != selfSigned(after.Root()) || selfSigned(after.Root()) && !authority.Root().Equal(after.Root()) {
		c.Answer = AnswerTrustFirst
	}
}

// unfit says why no signature could have the chain, nil if it only has not begun yet.
func unfit(c Chain, at time.Time) error {
	if !selfSigned(c.Root()) {
		return incomplete(c.Root())
	}
	if err := c.Check(time.Time{}); err != nil {
		return err
	}
	if err := c.CheckStock(); err != nil {
		return err
	}
	if first, until := c.HoldsUntil(); until.Before(at) || until.Before(c.HoldsFrom()) {
		return ruleError(ruleExpired, first, "the chain holds from %s to %s", c.HoldsFrom().UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
	return nil
}

func sameAlternativeNames(a, b *x509.Certificate) bool {
	names := func(c *x509.Certificate) []string {
		var out []string
		for _, n := range c.DNSNames {
			out = append(out, "dns:"+n)
		}
		for _, n := range c.EmailAddresses {
			out = append(out, "email:"+n)
		}
		for _, n := range c.URIs {
			out = append(out, "uri:"+n.String())
		}
		for _, n := range c.IPAddresses {
			out = append(out, "ip:"+n.String())
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(names(a), names(b))
}

// pin lists what verifiers may have pinned of the old line.
func (c *Comparison) pin(before Chain) {
	for i, cert := range before {
		if isLeaf(cert) && !selfSigned(cert) {
			continue // no trust store takes it
		}
		p := Pin{Role: before.roleIn(i), Subject: NameOf(cert.RawSubject), Certificate: Thumbprint(cert)}
		for _, ch := range c.Changes {
			if ch.Old == nil || ch.Old.Thumbprint != p.Certificate {
				continue
			}
			p.Kept = ch.Kind == ChangeNone
			if ch.New != nil && !p.Kept {
				p.Instead = ch.New.Thumbprint
			}
		}
		c.Pins = append(c.Pins, p)
	}
}
