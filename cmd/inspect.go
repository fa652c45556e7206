package cmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
)

func newInspect(s *session) *cobra.Command {
	var in batchFlags
	c := &cobra.Command{
		Use:   "inspect REF…",
		Short: "everything its signatures say, and until when they hold",
		Long: `Shows everything that the signatures of an artifact say: who, what, when, and until when each holds. It reads only, and it
never says whether a signature is trusted: imprint verify does.`,
		Example: `  imprint inspect ghcr.io/acme/app:1.4.2
  imprint inspect oci:app:1.0 -o json`,
		Args: arguments(1, many, "REF…"),
		RunE: s.run(func(ctx context.Context, args []string) error {
			items, err := in.items(s, args, form{words: 1}, "REF…")
			if err != nil {
				return err
			}
			return runBatch(ctx, s, in, items, batch[audit.Inspection]{
				kind: "inspect",
				do:   look(s, "inspect", audit.Inspect),
				full: ui.Inspect,
				line: ui.Inspect,
				word: func(audit.Inspection) string { return "inspected" },
			})
		}),
	}
	in.bind(c)
	return c
}

func newTree(s *session) *cobra.Command {
	var in batchFlags
	c := &cobra.Command{
		Use:     "tree REF…",
		Aliases: []string{"ls"},
		Short:   "an artifact and all that refers to it",
		Long:    "Shows an artifact with its platform images and all that refers to any of them, at every level. It reads only.",
		Example: "  imprint tree ghcr.io/acme/app:1.4.2",
		Args:    arguments(1, many, "REF…"),
		RunE: s.run(func(ctx context.Context, args []string) error {
			items, err := in.items(s, args, form{words: 1}, "REF…")
			if err != nil {
				return err
			}
			return runBatch(ctx, s, in, items, batch[audit.Tree]{
				kind: "tree",
				do:   look(s, "tree", audit.Survey),
				full: ui.Tree,
				line: ui.Tree,
				word: func(audit.Tree) string { return "shown" },
			})
		}),
	}
	in.bind(c)
	return c
}

// A survey is what package audit does with one artifact.
type survey[T any] func(ctx context.Context, repo *registry.Repo, ref registry.Reference, root registry.Manifest, now time.Time) (T, error)

// look returns what resolves a reference and surveys what is there.
func look[T any](s *session, kind string, of survey[T]) func(context.Context, item) (T, error) {
	one := func(ctx context.Context, text string) (out T, err error) {
		ref, err := artifact(text)
		if err != nil {
			return out, err
		}
		repo, err := s.open(ctx, ref)
		if err != nil {
			return out, err
		}
		defer repo.Close()
		root, err := repo.Resolve(ctx, ref)
		if err != nil {
			return out, err
		}
		return of(ctx, repo, ref, root, s.now)
	}
	return func(ctx context.Context, it item) (T, error) {
		v, err := one(ctx, it[0])
		if err != nil {
			err = fmt.Errorf("%s %s: %w", kind, it[0], err)
		}
		return v, err
	}
}
