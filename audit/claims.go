package audit

import (
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/registry"
)

// A holder is an artifact that a signer claims a tag for.
type holder struct {
	find        *find
	first, last time.Time // signatures that claim it
}

// holders are those of each tag, by signer.
type holders map[string]map[string][]holder

// judgeClaims holds tags against what signatures claim, and reports whether any claims a tag.
func (x *expedition) judgeClaims() (uses bool) {
	held := x.holders()
	for _, f := range x.finds {
		uses = uses || len(f.claims()) > 0
	}
	if !uses {
		return false
	}
	for _, tag := range slices.Sorted(maps.Keys(x.tags)) {
		f, bare := x.finds[x.tags[tag]], x.name.With(tag, "").BareTag()
		if f == nil || !f.examined || !f.signed() || digestTag.MatchString(tag) {
			continue
		}
		if !f.claimsTag(x.name, bare) {
			f.find(codeUnclaimed, Finding{Tag: tag}, "%s claims %s, not %q", short(f.Digest), claimed(f.claims()), bare)
		}
		f.judgeTag(tag, bare, held[bare])
	}
	return true
}

// claims are all that the artifact's good signatures claim.
func (a *Artifact) claims() []string {
	var all []string
	for _, s := range a.Signatures {
		if s.State != StateBad {
			all = append(all, s.Claims...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (a *Artifact) claimsTag(name registry.Reference, tag string) bool {
	return slices.ContainsFunc(a.Signatures, func(s Listed) bool {
		tags, all := s.claimsOf(name)
		return s.State != StateBad && (all || slices.Contains(tags, tag))
	})
}

// holders collects who claims which tag for what.
func (x *expedition) holders() holders {
	out := holders{}
	for _, d := range slices.Sorted(maps.Keys(x.finds)) {
		f := x.finds[d]
		for _, s := range f.Signatures {
			if s.State == StateBad || s.SignedAt == nil {
				continue
			}
			signer := s.Identity + "\x00" + s.Chain[len(s.Chain)-1]
			tags, _ := s.claimsOf(x.name)
			for _, tag := range tags {
				out.add(tag, signer, f, *s.SignedAt)
			}
		}
	}
	return out
}

// add notes a claim; those of one artifact come one after another.
func (h holders) add(tag, signer string, f *find, at time.Time) {
	if h[tag] == nil {
		h[tag] = map[string][]holder{}
	}
	list := h[tag][signer]
	if n := len(list); n > 0 && list[n-1].find == f {
		last := &list[n-1]
		if at.Before(last.first) {
			last.first = at
		}
		if at.After(last.last) {
			last.last = at
		}
		return
	}
	h[tag][signer] = append(list, holder{f, at, at})
}

// judgeTag compares f, which a tag names, with what else its signers claim the tag for.
func (f *find) judgeTag(tag, bare string, held map[string][]holder) {
	for _, signer := range slices.Sorted(maps.Keys(held)) {
		list := held[signer]
		i := slices.IndexFunc(list, func(h holder) bool { return h.find == f })
		if i < 0 {
			continue
		}
		var newer, older []digest.Digest
		for j, other := range list {
			switch {
			case i == j:
			case other.first.After(list[i].last):
				newer = append(newer, other.find.Digest)
			default:
				older = append(older, other.find.Digest)
			}
		}
		if len(newer) > 0 {
			f.find(codeMovedBack, Finding{Tag: tag, Others: newer}, "%s is at %s, signed before %s was for the same tag", bare, short(f.Digest), shorts(newer))
		}
		if len(older) > 0 {
			f.find(codeTwice, Finding{Tag: tag, Others: older}, "%s is claimed for %s as well", bare, shorts(older))
		}
	}
}

func shorts(digests []digest.Digest) string {
	var out []string
	for _, d := range digests {
		out = append(out, short(d))
	}
	return some(out, 4)
}
