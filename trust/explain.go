package trust

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/registry"
)

// A ScopeSummary is one scope, for check and explain.
type ScopeSummary struct {
	Scope    string     `json:"scope"`
	File     string     `json:"file"`
	Line     int        `json:"line"`              // of a generated one, that of the mirror
	Mirrors  string     `json:"mirrors,omitempty"` // the scope that it was generated from
	Rule     string     `json:"rule"`              // "trust", "require", "reject", "accept-unsigned"
	Trust    []string   `json:"trust"`             // roots effectively trusted, in any group, sorted
	Groups   [][]string `json:"groups,omitempty"`  // of require: one of each
	Shared   bool       `json:"shared,omitempty"`  // one key may satisfy several of them ("distinct: false")
	Inherits bool       `json:"inherits"`
	// Entries are those of Trust and Groups where one says more than its root's name, or is inherited.
	Entries    []EntrySummary `json:"entries,omitempty"`
	Enclosing  string         `json:"enclosing,omitempty"`
	Claims     string         `json:"claims"`
	MaxAge     string         `json:"maxAge,omitempty"`
	Algorithms []string       `json:"algorithms,omitempty"`
	// Timestamps is what holds for roots without a section of their own; nil: timestamps are ignored.
	Timestamps *TimestampsInForce `json:"timestamps,omitempty"`
	// Revocation is what holds for roots without a section of their own; nil: nothing is asked.
	Revocation *RevocationInForce `json:"revocation,omitempty"`
	Delegate   *DelegateSummary   `json:"delegate,omitempty"`
	StrictX509 bool               `json:"strictX509,omitempty"`
	Enforced   bool               `json:"enforced"`
}

// An EntrySummary is a root that a scope trusts, with limits of its own.
type EntrySummary struct {
	Root       string             `json:"root"`
	From       string             `json:"from"`            // the scope that it stands in
	Group      int                `json:"group,omitempty"` // of require, from 1
	Identities []string           `json:"identities,omitempty"`
	Claims     string             `json:"claims,omitempty"`
	MaxAge     string             `json:"maxAge,omitempty"`
	Algorithms []string           `json:"algorithms,omitempty"`
	Timestamps *TimestampsInForce `json:"timestamps,omitempty"`
	Revocation *RevocationInForce `json:"revocation,omitempty"`
}

// RevocationInForce is which section "revocation" decides.
type RevocationInForce struct {
	Check   string `json:"check"` // "enforce", "log", "off"
	Network bool   `json:"network"`
	Lists   int    `json:"lists"`
	Line    int    `json:"line"`
}

// DelegateSummary is whose documents may grant keys in a scope.
type DelegateSummary struct {
	Root       string   `json:"root"`
	From       string   `json:"from"` // "registry", "file:PATH"
	At         string   `json:"at,omitempty"`
	Identities []string `json:"identities"`
	MinVersion uint64   `json:"minVersion,omitempty"`
	Line       int      `json:"line"`
}

// TimestampsInForce is which section "timestamps" decides.
type TimestampsInForce struct {
	Use  string `json:"use"`
	Line int    `json:"line"`
}

// OfPolicy is what the section "timestamps" of the whole policy stands at.
const OfPolicy = "the policy"

// TimestampsSummary is one section "timestamps".
type TimestampsSummary struct {
	Of    string                  `json:"of"`  // [OfPolicy], a scope or an entry
	Use   string                  `json:"use"` // "always", "after-cert-expiry"
	Line  int                     `json:"line"`
	Roots []certchain.Certificate `json:"roots"`
}

// RevocationSummary is one section "revocation".
type RevocationSummary struct {
	Of string `json:"of"` // [OfPolicy], a scope or an entry
	RevocationInForce
}

// RootSummary is one root.
type RootSummary struct {
	Name         string                  `json:"name"`
	Certificates []certchain.Certificate `json:"certificates"`
	Identities   []string                `json:"identities,omitempty"`
	Pin          string                  `json:"pin"`  // "root", "intermediate", "leaf"
	Kind         string                  `json:"kind"` // "ca", "signing-authority"
}

// A Summary is what `policy check` prints.
type Summary struct {
	File       string              `json:"file"`
	Digest     string              `json:"digest"`
	Roots      []RootSummary       `json:"roots"`
	Timestamps []TimestampsSummary `json:"timestamps,omitempty"` // in the order of the file
	Revocation []RevocationSummary `json:"revocation,omitempty"` // in the order of the file
	Scopes     []ScopeSummary      `json:"scopes"`               // as a tree: each after its enclosing one
	Warnings   []string            `json:"warnings,omitempty"`
}

// Summary says what the policy holds, with the warnings that are due at the time at.
func (p *Policy) Summary(at time.Time) Summary {
	out := Summary{File: p.file, Digest: p.digest, Roots: []RootSummary{}, Scopes: []ScopeSummary{}, Warnings: p.Warnings(at)}
	for _, name := range p.rootNames() {
		r := p.roots[name]
		info := RootSummary{Name: name, Identities: r.identities.texts(), Pin: string(r.pin), Kind: string(r.kind)}
		for _, c := range r.certificates {
			info.Certificates = append(info.Certificates, certchain.Describe(c))
		}
		out.Roots = append(out.Roots, info)
	}
	for _, t := range p.stampings {
		info := TimestampsSummary{Of: t.of, Use: t.use, Line: t.line}
		for _, c := range t.roots {
			info.Roots = append(info.Roots, certchain.Describe(c))
		}
		out.Timestamps = append(out.Timestamps, info)
	}
	for _, r := range p.revokings {
		out.Revocation = append(out.Revocation, RevocationSummary{r.of, *r.inForce()})
	}
	for _, s := range tree(p.scopes) {
		out.Scopes = append(out.Scopes, p.info(s))
	}
	return out
}

func (p *Policy) info(s *scope) ScopeSummary {
	info := ScopeSummary{
		Scope:      s.name,
		File:       p.file,
		Line:       s.line,
		Mirrors:    s.mirrors,
		Rule:       string(s.rule),
		Trust:      p.trusted(s),
		Shared:     s.shared,
		Inherits:   s.inherit,
		Entries:    p.entrySummaries(s),
		Claims:     string(p.claimsIn("", s.claims)),
		StrictX509: s.strictX509,
		Enforced:   s.enforce,
	}
	if s.rule == ruleUnsigned {
		info.Rule = "accept-unsigned"
	}
	if info.Trust == nil {
		info.Trust = []string{}
	}
	for _, group := range s.groups {
		info.Groups = append(info.Groups, append([]string{}, p.namesOf(slices.Values(group))...))
	}
	if s.enclosing != nil {
		info.Enclosing = s.enclosing.name
	}
	if most := shorter(s.maxAge, p.narrow.maxAge); most != 0 {
		info.MaxAge = ageText(most)
	}
	info.Algorithms = s.algorithms.and(p.narrow.algorithms)
	if s.rule == ruleTrust || s.rule == ruleRequire {
		info.Timestamps = p.stamping(s).inForce()
		info.Revocation = cmp.Or(s.revocation, p.revocation).inForce()
	}
	if d := s.delegate; d != nil {
		info.Delegate = d.summary()
	}
	return info
}

// entrySummaries are there if an entry says more than its root's name; of an inherited one its scope is more.
func (p *Policy) entrySummaries(s *scope) []EntrySummary {
	var out []EntrySummary
	add := func(from *scope, group int, entries []entry) {
		start := len(out)
		for _, e := range entries {
			if p.admits(e.root) {
				out = append(out, e.summary(from, group))
			}
		}
		slices.SortFunc(out[start:], func(a, b EntrySummary) int {
			return cmp.Or(strings.Compare(a.Root, b.Root), strings.Compare(a.limits(), b.limits()))
		})
	}
	for i, group := range s.groups {
		add(s, i+1, group)
	}
	for from := s; from != nil; from = from.inherits() {
		add(from, 0, from.trust)
	}
	bare := EntrySummary{}.limits()
	if !slices.ContainsFunc(out, func(e EntrySummary) bool { return e.From != s.name || e.limits() != bare }) {
		return nil
	}
	return out
}

func (e entry) summary(from *scope, group int) EntrySummary {
	out := EntrySummary{
		Root:       e.root.name,
		From:       from.name,
		Group:      group,
		Identities: e.identities.texts(),
		Claims:     string(e.claims),
		Algorithms: e.algorithms,
		Timestamps: e.timestamps.inForce(),
		Revocation: e.revocation.inForce(),
	}
	if e.maxAge != 0 {
		out.MaxAge = ageText(e.maxAge)
	}
	return out
}

// limits tells what an entry asks by itself, by which entries of one root are ordered: their order in the file means nothing.
func (e EntrySummary) limits() string {
	text := fmt.Sprintf("%q %s %s %q", e.Identities, e.Claims, e.MaxAge, e.Algorithms)
	if e.Timestamps != nil {
		text += fmt.Sprintf(" %+v", *e.Timestamps)
	}
	if e.Revocation != nil {
		text += fmt.Sprintf(" %+v", *e.Revocation)
	}
	return text
}

func (t *timestamping) inForce() *TimestampsInForce {
	if t == nil {
		return nil
	}
	return &TimestampsInForce{t.use, t.line}
}

func (r *revoking) inForce() *RevocationInForce {
	if r == nil {
		return nil
	}
	return &RevocationInForce{Check: r.check, Network: r.network, Lists: len(r.lists), Line: r.line}
}

func (d *delegation) summary() *DelegateSummary {
	out := &DelegateSummary{Root: d.root.name, From: d.from, Identities: d.identities.texts(), MinVersion: d.minVersion, Line: d.line}
	if d.from == fromFile {
		out.From += ":" + d.file
	}
	if d.at != (registry.Reference{}) {
		out.At = d.at.String()
	}
	return out
}

// An Explanation is which scope judges a reference and why.
type Explanation struct {
	Reference string        `json:"reference"`
	Selected  *ScopeSummary `json:"selected"` // nil: no-scope, rejected
	Matching  []string      `json:"matching"` // longest first
	Reason    string        `json:"reason,omitempty"`
	Text      string        `json:"text"`
}

// Explain says it without looking at any registry. ref must be remote.
func (p *Policy) Explain(ref registry.Reference) Explanation {
	e := Explanation{Reference: ref.String(), Matching: []string{}}
	s := p.selects(ref)
	for at := s; at != nil; at = at.enclosing {
		e.Matching = append(e.Matching, at.name)
	}
	if s == nil {
		e.Reason = codeNoScope
		e.Text = fmt.Sprintf("no scope matches %s: it is rejected, since there is no implicit *", where(ref))
		return e
	}
	info := p.info(s)
	e.Selected = &info
	var text []string
	switch others := len(e.Matching) - 1; {
	case p.single:
		text = append(text, "a single root judges every reference")
	case others == 0:
		text = append(text, fmt.Sprintf("scope %s is the only one that matches", s.name))
	default:
		text = append(text, fmt.Sprintf("scope %s is the longest of %d that match", s.name, others+1))
	}
	if s.mirrors != "" {
		text = append(text, fmt.Sprintf("it mirrors %s and judges as that does", s.mirrors))
	}
	switch {
	case s.rule == ruleReject:
		e.Reason = codeRejected
		text = append(text, "it rejects everything")
	case s.rule == ruleUnsigned:
		text = append(text, "it accepts everything, signed or not")
	case s.rule == ruleRequire:
		text = append(text, p.requires(s, &e.Reason))
	case len(info.Trust) == 0 && s.delegate == nil:
		e.Reason = codeNoTrusted
		text = append(text, "no root is left that it trusts")
	default:
		text = append(text, "it trusts "+cmp.Or(strings.Join(info.Trust, ", "), "none by itself"))
	}
	if s.delegate != nil {
		text = append(text, fmt.Sprintf("root %s may grant keys by a document", s.delegate.root.name))
	}
	switch up := s.inherits(); {
	case up != nil:
		chain := []string{}
		for ; up != nil; up = up.inherits() {
			chain = append(chain, up.name)
		}
		text = append(text, "it inherits from "+strings.Join(chain, ", then "))
	case s.enclosing != nil:
		text = append(text, fmt.Sprintf("it does not inherit, so %s is not asked", s.enclosing.name))
	}
	if !s.enforce {
		text = append(text, "it does not enforce: what it rejects is only reported")
	}
	e.Text = strings.Join(slices.Compact(text), "; ")
	return e
}

// requires says which groups a scope asks a signature of.
func (p *Policy) requires(s *scope, reason *string) string {
	groups := make([]string, len(s.groups))
	for i, group := range s.groups {
		names := p.namesOf(slices.Values(group))
		if len(names) == 0 {
			*reason = codeNoTrusted
		}
		groups[i] = cmp.Or(strings.Join(names, " or "), "a group of which no root is left")
	}
	text := "it requires a signature by " + strings.Join(groups, ", and one by ")
	switch {
	case len(groups) == 1:
	case s.shared:
		text += "; one key may stand for several"
	default:
		text += ", each by another key"
	}
	return text
}
