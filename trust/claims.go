package trust

import (
	"fmt"
	"strings"

	"github.com/imprint-oci/imprint/registry"
)

// A claimsMode is what is asked of the claims of a signature (C2).
type claimsMode string

const (
	claimsIgnore    claimsMode = "ignore"
	claimsIfPresent claimsMode = "if-present"
	claimsTag       claimsMode = "tag"
	claimsName      claimsMode = "name"
)

var claimsModes = []string{string(claimsIgnore), string(claimsIfPresent), string(claimsTag), string(claimsName)}

// claimsIn returns the mode that holds: the entry's, else the selected scope's, else if-present; a narrowing asks for
// at least the tag.
func (p *Policy) claimsIn(entry, scope claimsMode) claimsMode {
	mode := claimsIfPresent
	switch {
	case entry != "":
		mode = entry
	case scope != "":
		mode = scope
	}
	if p.narrow.requireClaim && (mode == claimsIgnore || mode == claimsIfPresent) {
		return claimsTag
	}
	return mode
}

// checkClaims judges the claims of a signature by C1 to C3; code is empty if they hold. original is what ref mirrors, else ref: a claim
// of either name covers (M5).
func checkClaims(mode claimsMode, ref, original registry.Reference, claims []string, present bool) (code, detail string) {
	if mode == claimsIgnore {
		return "", ""
	}
	if ref.Tag == "" && mode != claimsName {
		return "", "" // a digest names its bytes: nothing is asked
	}
	if !present {
		switch mode {
		case claimsIfPresent:
			return "", ""
		case claimsName:
			return codeClaimsMissing, "claims nothing; the policy asks for a claim of the repository's name"
		}
		return codeClaimsMissing, fmt.Sprintf("claims nothing; the policy asks for a claim of the tag %q", ref.Tag)
	}
	for _, claim := range claims {
		if covers(mode, ref, claim) || covers(mode, original, claim) {
			return "", ""
		}
	}
	return codeNotCovered, fmt.Sprintf("claims %s, not %s", enumerate(claims), wanted(mode, ref))
}

// covers reports whether one claim covers ref. A claim that is neither a tag nor a qualified name covers nothing.
func covers(mode claimsMode, ref registry.Reference, claim string) bool {
	if !strings.Contains(claim, "/") {
		return mode != claimsName && ref.Tag != "" && claim == ref.Tag
	}
	if ref.Kind != registry.Remote {
		return false // a layout's NAME is a tag in no repository
	}
	q, err := registry.ParseQualified(claim)
	if err != nil || repository(q) != repository(ref) {
		return false
	}
	switch {
	case ref.Tag == "":
		return mode == claimsName
	case q.Tag == "":
		return mode != claimsTag // a bare name covers all its tags, except where a tag is asked for
	}
	return q.Tag == ref.Tag
}

func wanted(mode claimsMode, ref registry.Reference) string {
	if mode == claimsName && ref.Kind == registry.Remote {
		name := repository(ref)
		if ref.Tag != "" {
			name += ":" + ref.Tag
		}
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q", ref.Tag)
}

// enumerate lists claims for a sentence: "1.4 and 1.4.2".
func enumerate(claims []string) string {
	const most = 6
	switch n := len(claims); {
	case n == 0:
		return "no tag"
	case n == 1:
		return claims[0]
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(claims[:most-1], ", "), n-most+1)
	default:
		return strings.Join(claims[:n-1], ", ") + " and " + claims[n-1]
	}
}
