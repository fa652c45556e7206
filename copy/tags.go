package copy

import (
	"context"
	"errors"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/registry"
)

// CheckTags asks what tags name at dst now, all at once, before anything is written: There if it is d already, Planned
// if it may come to be. A tag that names another digest, which no pattern of move lets go, is an error
// (registry.ErrTagMoves, reason tag-moves). [WriteTags] writes what was checked.
func CheckTags(ctx context.Context, dst *registry.Repo, d digest.Digest, tags, move []string) ([]TagResult, error) {
	if err := checkPatterns(move); err != nil {
		return nil, err
	}
	now, err := lookUp(ctx, dst, tags)
	if err != nil {
		return nil, err
	}
	return checkTags(dst, d, tags, now, move)
}

// checkTags judges what tags name now.
func checkTags(dst *registry.Repo, d digest.Digest, tags []string, now []digest.Digest, move []string) ([]TagResult, error) {
	checked := make([]TagResult, len(tags))
	for i, tag := range tags {
		checked[i] = TagResult{Tag: tag, Was: now[i], Status: Planned}
		switch {
		case now[i] == d:
			checked[i].Status = There
		case now[i] != "" && !mayMove(dst, tag, move):
			return nil, fail(codeTagMoves, "%w: %s names %s, and %s was to be copied there",
				registry.ErrTagMoves, dst.Reference().With(tag, ""), now[i], d)
		}
	}
	return checked, nil
}

// WriteTags makes the tags that were checked name root, whose manifest is there: those that do not yet. One that has
// come to name something else since it was checked is an error (registry.ErrTagMoves, reason tag-moves), and then none
// is written: what somebody else wrote a moment ago was not there to be judged.
func WriteTags(ctx context.Context, dst *registry.Repo, root registry.Manifest, checked []TagResult) ([]TagResult, error) {
	checked, err := lookAgain(ctx, dst, root.Descriptor.Digest, checked)
	if err != nil {
		return checked, err
	}
	return setTags(ctx, dst, root, checked)
}

// lookAgain asks once more for the tags that are to be written.
func lookAgain(ctx context.Context, dst *registry.Repo, d digest.Digest, checked []TagResult) ([]TagResult, error) {
	checked = slices.Clone(checked)
	var at []int
	var tags []string
	for i, t := range checked {
		if t.Status == Planned {
			at, tags = append(at, i), append(tags, t.Tag)
		}
	}
	now, err := lookUp(ctx, dst, tags)
	if err != nil {
		return checked, err
	}
	for i, was := range now {
		switch t := &checked[at[i]]; {
		case was == d:
			t.Status = There
		case was != t.Was:
			return checked, fail(codeTagMoves, "%w: somebody has moved %s to %s meanwhile; no tag was written",
				registry.ErrTagMoves, dst.Reference().With(t.Tag, ""), named(was))
		}
	}
	return checked, nil
}

func named(d digest.Digest) string {
	if d == "" {
		return "nothing"
	}
	return string(d)
}

// setTags writes the tags that are planned, in their order.
func setTags(ctx context.Context, dst *registry.Repo, root registry.Manifest, checked []TagResult) ([]TagResult, error) {
	checked = slices.Clone(checked)
	var tags []string
	for _, t := range checked {
		if t.Status == Planned {
			tags = append(tags, t.Tag)
		}
	}
	if len(tags) == 0 {
		return checked, nil
	}
	if err := dst.SetTags(ctx, root, tags...); err != nil {
		return checked, err
	}
	for i := range checked {
		if t := &checked[i]; t.Status == Planned {
			t.Status = Written
			if t.Was != "" {
				t.Status = Moved
			}
		}
	}
	return checked, nil
}

// lookUp returns what tags name now, "" for those that do not exist.
func lookUp(ctx context.Context, dst *registry.Repo, tags []string) ([]digest.Digest, error) {
	now := make([]digest.Digest, len(tags))
	err := parallel(ctx, len(tags), func(ctx context.Context, i int) error {
		was, err := dst.Tagged(ctx, tags[i])
		if errors.Is(err, registry.ErrNotFound) {
			return nil
		}
		now[i] = was
		return err
	})
	return now, err
}

// mayMove reports whether a tag may leave the digest that holds it. Of a full name the tag counts.
func mayMove(dst *registry.Repo, tag string, move []string) bool {
	tag = dst.Reference().With(tag, "").BareTag()
	return slices.ContainsFunc(move, func(p string) bool {
		ok, err := path.Match(p, tag)
		return ok && err == nil
	})
}

func checkPatterns(move []string) error {
	for _, p := range move {
		if _, err := path.Match(p, ""); err != nil {
			return fail(codeOptions, "the pattern %q of tags that may move: %w", p, err)
		}
	}
	return nil
}
