package trust

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/registry"
)

// verdict is the one of the artifact, with which signature satisfies which group. findings are sorted.
func (c court) verdict(findings []finding) (verdict, reason, detail string, groups []Group) {
	switch {
	case c.scope == nil:
		return Rejected, codeNoScope, fmt.Sprintf("no scope of the policy matches %s", where(c.ref)), nil
	case c.scope.rule == ruleReject:
		return Rejected, codeRejected, fmt.Sprintf("scope %s rejects everything", c.scope.name), nil
	case c.scope.rule == ruleUnsigned && !c.policy.narrow.asks():
		return Accepted, "", "", nil
	}
	taken, full := c.assign(findings, finding.accepts)
	groups = c.groups(findings, taken)
	if full && c.scope.rule != ruleUnsigned {
		return Accepted, "", "", groups
	}
	verdict, reason, detail = c.refuse(findings)
	return verdict, reason, detail, groups
}

// refuse says why the artifact is not accepted.
func (c court) refuse(findings []finding) (verdict, reason, detail string) {
	grantable := c.scope.delegate != nil && slices.ContainsFunc(findings, func(f finding) bool { return f.sound && !f.Accepted })
	c.asks.document = grantable && !c.grant.asked
	if c.scope.rule != ruleUnsigned {
		if _, could := c.assign(findings, finding.couldKnown); could {
			i := slices.IndexFunc(findings, func(f finding) bool { return f.Undetermined })
			return Undetermined, findings[i].Reason, findings[i].Detail
		}
		if _, could := c.assign(findings, finding.could); could {
			unfetched := slices.DeleteFunc(slices.Clone(findings), func(f finding) bool { return !f.Unfetched })
			return Undetermined, codeUnfetched, fmt.Sprintf("%d of %d signatures could not be fetched: %s",
				len(unfetched), len(findings), unfetched[0].Detail)
		}
	}
	switch {
	case len(findings) == 0:
		return Rejected, codeUnsigned, "it has no signature"
	case c.asks.document:
		return Undetermined, codeNoDocument, "the scope's delegation document was not asked for"
	case grantable && c.grant.unavailable:
		return Undetermined, c.grant.code, c.grant.detail
	}
	lacking := c.lacking(findings)
	furthest := trial{stage: -1}
	for _, f := range findings {
		for _, t := range f.trials {
			if f.Reason != "" && !f.sound {
				t.stage, t.code, t.detail = f.stage, f.Reason, f.Detail
			}
			if lacking[t.group] && (furthest.stage < 0 || better(t, furthest) < 0) {
				furthest = t
			}
		}
	}
	switch {
	case furthest.stage >= 0:
		return Rejected, furthest.code, furthest.detail
	case slices.ContainsFunc(findings, func(f finding) bool { return f.Accepted || f.Undetermined }):
		return c.incomplete(findings)
	case c.grant.code != "":
		return Rejected, c.grant.code, c.grant.detail
	case c.scope.rule == ruleUnsigned:
		return Rejected, codeNoTrusted, "the scope asks for no signature and trusts no root, and this run is narrowed to signatures"
	}
	return Rejected, codeNoTrusted, fmt.Sprintf("no signature has a root that the scope trusts (%s)",
		cmp.Or(strings.Join(c.rootNames(), ", "), "none is left"))
}

// asks reports whether anything is asked of signatures beyond what the policy does.
func (n narrowing) asks() bool {
	return n.roots != nil || n.requireClaim || n.maxAge != 0 || n.algorithms != nil
}

func where(ref registry.Reference) string {
	if ref.Kind == registry.Remote {
		return repository(ref)
	}
	return ref.String()
}
