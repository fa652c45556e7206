package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/registry"
)

// A ScopeSummary is one scope, for check and explain.
type ScopeSummary struct {
	Scope      string   `json:"scope"`
	File       string   `json:"file"`
	Line       int      `json:"line"`
	Rule       string   `json:"rule"`  // "trust", "reject"
	Trust      []string `json:"trust"` // roots effectively trusted, sorted
	Inherits   bool     `json:"inherits"`
	Enclosing  string   `json:"enclosing,omitempty"`
	Claims     string   `json:"claims"`
	MaxAge     string   `json:"maxAge,omitempty"`
	Algorithms []string `json:"algorithms,omitempty"`
	// Timestamps is what holds for roots without a section of their own; nil: timestamps are ignored.
	Timestamps *TimestampsInForce `json:"timestamps,omitempty"`
	Enforced   bool               `json:"enforced"`
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

// RootSummary is one root.
type RootSummary struct {
	Name         string                  `json:"name"`
	Certificates []certchain.Certificate `json:"certificates"`
	Identities   []string                `json:"identities,omitempty"`
}

// A Summary is what `policy check` prints.
type Summary struct {
	File       string              `json:"file"`
	Digest     string              `json:"digest"`
	Roots      []RootSummary       `json:"roots"`
	Timestamps []TimestampsSummary `json:"timestamps,omitempty"` // in the order of the file
	Scopes     []ScopeSummary      `json:"scopes"`               // as a tree: each after its enclosing one
	Warnings   []string            `json:"warnings,omitempty"`
}

// Summary says what the policy holds, with the warnings that are due at the time at.
func (p *Policy) Summary(at time.Time) Summary {
	out := Summary{File: p.file, Digest: p.digest, Roots: []RootSummary{}, Scopes: []ScopeSummary{}, Warnings: p.Warnings(at)}
	for _, name := range p.rootNames() {
		r := p.roots[name]
		info := RootSummary{Name: name}
		for _, c := range r.certificates {
			info.Certificates = append(info.Certificates, certchain.Describe(c))
		}
		for _, id := range r.identities {
			info.Identities = append(info.Identities, id.text)
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
	for _, s := range tree(p.scopes) {
		out.Scopes = append(out.Scopes, p.info(s))
	}
	return out
}

func (p *Policy) info(s *scope) ScopeSummary {
	info := ScopeSummary{
		Scope:    s.name,
		File:     p.file,
		Line:     s.line,
		Rule:     "trust",
		Trust:    p.trusted(s),
		Inherits: s.inherit,
		Claims:   string(p.claimsIn("", s.claims)),
		Enforced: s.enforce,
	}
	if s.rule == ruleReject {
		info.Rule = "reject"
	}
	if info.Trust == nil {
		info.Trust = []string{}
	}
	if s.enclosing != nil {
		info.Enclosing = s.enclosing.name
	}
	if most := shorter(s.maxAge, p.narrow.maxAge); most != 0 {
		info.MaxAge = ageText(most)
	}
	info.Algorithms = s.algorithms.and(p.narrow.algorithms)
	if t := p.stamping(s); t != nil && s.rule != ruleReject {
		info.Timestamps = &TimestampsInForce{t.use, t.line}
	}
	return info
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
	switch {
	case s.rule == ruleReject:
		e.Reason = codeRejected
		text = append(text, "it rejects everything")
	case len(info.Trust) == 0:
		e.Reason = codeNoTrusted
		text = append(text, "no root is left that it trusts")
	default:
		text = append(text, "it trusts "+strings.Join(info.Trust, ", "))
	}
	switch {
	case s.inherit:
		chain := []string{}
		for at := s; at.inherit; at = at.enclosing {
			chain = append(chain, at.enclosing.name)
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
