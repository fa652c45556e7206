package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
)

// A Group is one of those that a scope requires a signature of, and which signature that is.
type Group struct {
	Roots     []string      `json:"roots"` // of which one is enough; what the run is narrowed out of is left out
	Satisfied bool          `json:"satisfied"`
	Signature digest.Digest `json:"signature,omitempty"`
	Core      digest.Digest `json:"core,omitempty"`
	Root      string        `json:"root,omitempty"` // that accepted it
	// Shared are the groups, from 1, that the signature of this one's only keys is needed for: one key stands for one group.
	Shared []int `json:"shared,omitempty"`
}

// signerKey names the key that signed. It is written anew, so that however a certificate encodes it, one key is one key.
func signerKey(chain certchain.Chain) string {
	leaf := chain.Leaf()
	der, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	if err != nil {
		der = leaf.RawSubjectPublicKeyInfo
	}
	sum := sha256.Sum256(der)
	return string(sum[:])
}

// A claimant is a signature that may stand for a group.
type claimant struct {
	key string // one key stands for one group
	at  int    // which of the findings
}

// seatAll gives each group one of its claimants, by different keys unless they may be shared; of all ways it takes one that satisfies
// as many groups as can be (a maximum matching of groups and keys), always the same one. taken holds the finding for each group, -1
// for none; full says that each has one.
func seatAll(claimants [][]claimant, shared bool) (taken []int, full bool) {
	taken = make([]int, len(claimants))
	holder := map[string]int{} // which group has a key
	var place func(group int, tried map[string]bool) bool
	place = func(group int, tried map[string]bool) bool {
		for _, c := range claimants[group] {
			if tried[c.key] {
				continue
			}
			tried[c.key] = true
			if other, held := holder[c.key]; !held || place(other, tried) {
				holder[c.key], taken[group] = group, c.at
				return true
			}
		}
		return false
	}
	full = true
	for group, all := range claimants {
		taken[group] = -1
		switch {
		case shared && len(all) > 0:
			taken[group] = all[0].at
		case shared || !place(group, map[string]bool{}):
			full = false
		}
	}
	return taken, full
}

// assign gives each group a finding that fits it.
func (c court) assign(findings []finding, fits func(finding, court, int) bool) (taken []int, full bool) {
	claimants := make([][]claimant, len(c.seats))
	for group := range c.seats {
		for i, f := range findings {
			key := f.key
			if f.Unfetched {
				key = fmt.Sprintf("unfetched %d", i) // nobody knows whose it is
			}
			if fits(f, c, group) {
				claimants[group] = append(claimants[group], claimant{key, i})
			}
		}
	}
	return seatAll(claimants, c.scope.shared)
}

// accepts reports whether a group's entry accepts the signature.
func (f finding) accepts(_ court, group int) bool {
	return slices.ContainsFunc(f.trials, func(t trial) bool { return t.group == group && t.stage == passed })
}

// couldKnown reports whether it does, or would if it turned out that nothing was revoked.
func (f finding) couldKnown(_ court, group int) bool {
	return slices.ContainsFunc(f.trials, func(t trial) bool { return t.group == group && t.stage >= atUnknown })
}

// could reports also whether it might if it could be read.
func (f finding) could(c court, group int) bool {
	open := c.scope.delegate != nil && (!c.grant.asked || c.grant.unavailable)
	return f.Unfetched && (open || len(c.seats[group]) > 0) || f.couldKnown(c, group)
}

// lacking returns the groups, by index, that no signature is for, whatever may yet be found out of its revocation.
func (c court) lacking(findings []finding) map[int]bool {
	out := map[int]bool{}
	for group := range c.seats {
		out[group] = !slices.ContainsFunc(findings, func(f finding) bool { return f.couldKnown(c, group) })
	}
	return out
}

// incomplete says what the groups of a scope lack of which some have their signature, and nothing says more of the others.
func (c court) incomplete(findings []finding) (verdict, reason, detail string) {
	lacking := c.lacking(findings)
	for group := range c.seats {
		if lacking[group] {
			return Rejected, codeIncomplete, fmt.Sprintf("no signature is of group %d (%s)", group+1, c.oneOf(group))
		}
	}
	return Rejected, codeKeyTwice, "each group has a signature, but not each one by another key"
}

// oneOf names the roots of a group.
func (c court) oneOf(group int) string {
	names := c.rootsOf(group)
	if len(names) == 0 {
		return "none of its roots is left"
	}
	return strings.Join(names, " or ")
}

func (c court) rootsOf(group int) []string {
	names := []string{}
	for _, s := range c.seats[group] {
		names = append(names, s.root.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// groups says which signature satisfies which group, where the scope requires some.
func (c court) groups(findings []finding, taken []int) []Group {
	if c.scope.rule != ruleRequire {
		return nil
	}
	out := make([]Group, len(c.seats))
	for group, i := range taken {
		g := &out[group]
		g.Roots = c.rootsOf(group)
		if i < 0 {
			for other, at := range taken {
				if at >= 0 && slices.ContainsFunc(findings, func(f finding) bool { return f.key == findings[at].key && f.accepts(c, group) }) {
					g.Shared = append(g.Shared, other+1)
				}
			}
			continue
		}
		g.Satisfied, g.Signature, g.Core = true, findings[i].Digest, findings[i].Core
		for _, t := range findings[i].trials {
			if t.group == group && t.stage == passed && (g.Root == "" || t.root < g.Root) {
				g.Root = t.root
			}
		}
	}
	return out
}
