package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/registry"
)

type copyInputs struct {
	tags             []string
	move             []string
	referrers        string
	platform         string
	downgrade        bool
	requireSignature bool
	overwrite        bool
	dryRun           bool
	judging          judgingFlags
	batch            batchFlags
}

func newCopy(s *session) *cobra.Command {
	var in copyInputs
	c := &cobra.Command{
		Use:     "copy SRC DST",
		Aliases: []string{"cp"},
		Short:   "promote an artifact with everything that refers to it",
		Long: `Copies an artifact with its platform images, signatures, SBOMs and all else that refers to any of them, byte for byte. The tag
is written last, once the destination lists every referrer. With --policy or --root it is judged at the source before a byte
moves, and its claims must cover each tag at the destination. A destination without a tag gets the source's, never latest.`,
		Example: `  imprint copy ghcr.io/acme/app:1.4.2 harbor.acme.example/prod/app --policy prod.yaml
  imprint copy ghcr.io/acme/app@sha256:4f0c6f… oci:app --tag 1.4.2
  imprint copy --batch nightly.txt --dry-run            # SRC DST on each line`,
		Args: arguments(2, 2, "SRC DST"),
		Annotations: map[string]string{exits: "0 copied, or there already   1 not accepted, unsigned, a tag would move   3 usage   4 registry   " +
			"5 not authorised   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runCopy(ctx, s, in, args) }),
	}
	f := c.Flags()
	f.StringArrayVar(&in.tags, "tag", nil, "write `TAG` at the destination")
	f.StringArrayVar(&in.move, "move", nil, "tags that match `PATTERN` may leave the digest that holds them")
	f.StringVar(&in.referrers, "referrers", copy.All, "which referrers go along: `all|signatures|none`")
	f.StringVar(&in.platform, "platform", "", "of an index only the image for `OS/ARCH[/VARIANT]`")
	f.BoolVar(&in.downgrade, "downgrade", false, "also bring certificate chains that the destination has superseded")
	f.BoolVar(&in.requireSignature, "require-signature", false, "refuse what has no signature")
	f.BoolVar(&in.overwrite, "overwrite", false, "replace an archive that exists")
	f.BoolVar(&in.dryRun, "dry-run", false, "check everything, write nothing")
	in.judging.bindGate(c)
	in.batch.bind(c)
	return c
}

func runCopy(ctx context.Context, s *session, in copyInputs, args []string) error {
	items, err := in.batch.items(s, args, 2, "SRC DST")
	if err != nil {
		return err
	}
	switch in.referrers {
	case copy.All, copy.Signatures, copy.None:
	default:
		return usage("--referrers %s: it is all, signatures or none", in.referrers)
	}
	for _, t := range in.tags {
		if !registry.ValidTag(t) {
			return usage("--tag %q is not a tag", t)
		}
	}
	if err := patterns(in.move); err != nil {
		return err
	}
	if err := archivesOnce(items); err != nil {
		return err
	}
	g, err := in.judging.gate(s)
	if err != nil {
		return err
	}
	g.requireSignature = in.requireSignature
	p := &promotion{copyInputs: in, s: s, gate: g, alone: len(items) == 1 && in.batch.file == ""}
	b := batch[copy.Result]{
		kind: "copy",
		do: func(ctx context.Context, it item) (copy.Result, error) {
			r, err := p.copy(ctx, it[0], it[1])
			if err != nil {
				err = fmt.Errorf("copy %s to %s: %w", it[0], it[1], err)
			}
			return r, err
		},
		full: func(w io.Writer, r copy.Result) { ui.Copy(w, r) },
		line: ui.CopyLine,
		word: ui.CopyWord,
	}
	if in.dryRun {
		b.whole = ui.CopyPlan
		b.full = func(w io.Writer, r copy.Result) { ui.CopyPlan(w, []copy.Result{r}, nil) }
	}
	return runBatch(ctx, s, in.batch, items, b)
}

// archivesOnce refuses items that write one archive: an archive is written whole, so that only the last would be in it.
func archivesOnce(items []item) error {
	seen := map[string]bool{}
	for _, it := range items {
		ref, err := registry.ParseReference(it[1])
		if err != nil || ref.Kind != registry.Archive {
			continue // what is wrong with an item is said when its turn comes
		}
		path := filepath.Clean(ref.Path)
		if seen[path] {
			return usageHint("copy them into a layout, oci:DIR, or each into an archive of its own", "two items write the archive %s", path)
		}
		seen[path] = true
	}
	return nil
}

// A promotion is what holds for all items of a copy.
type promotion struct {
	copyInputs
	s     *session
	gate  gate
	alone bool // one artifact, no batch
	turn  turns
}

func (p *promotion) copy(ctx context.Context, from, to string) (copy.Result, error) {
	source, destination, err := ends(from, to)
	if err != nil {
		return copy.Result{}, err
	}
	tags := p.destinationTags(source, destination)
	// Beside one another two items of the same tag would each find it free, and --move would not be asked for.
	var names []string
	for _, t := range tags {
		names = append(names, destination.With(t, "").String())
	}
	defer p.turn.take(names...)()

	src, err := p.s.open(ctx, source)
	if err != nil {
		return copy.Result{}, err
	}
	defer src.Close()
	root, err := src.Resolve(ctx, source)
	if err == nil && p.platform != "" {
		// What is judged is what is copied: its own signatures, not the index's.
		root, err = copy.ForPlatform(ctx, src, root, p.platform)
	}
	if err != nil {
		return copy.Result{}, err
	}
	warnings, err := p.gate.judge(ctx, passage{src, source, root, destination, tags})
	if err != nil {
		return copy.Result{}, err
	}

	dst, release, err := p.open(ctx, p.s, destination)
	if err != nil {
		return copy.Result{}, err
	}
	r, err := copy.Artifact(ctx, dst, src, root, copy.Options{
		Tags:      tags,
		Move:      p.move,
		Referrers: p.referrers,
		Downgrade: p.downgrade,
		DryRun:    p.dryRun,
	})
	if err == nil && !p.dryRun {
		err = dst.Commit()
	}
	if closed := release(); err == nil {
		err = closed
	}
	err = partlyDone(err, destination.Kind != registry.Archive && begun(r))
	r.Source, r.Destination = source.String(), destination.String()
	r.Warnings = append(warnings, r.Warnings...)
	for _, w := range r.Warnings {
		if !p.alone {
			w = to + ": " + w
		}
		if err != nil || !p.dryRun || p.s.json { // a plan shows them itself
			p.s.warn("copy", w)
		}
	}
	return r, err
}

// ends parses where a copy comes from and goes to.
func ends(from, to string) (source, destination registry.Reference, err error) {
	if source, err = artifact(from); err != nil {
		return source, destination, err
	}
	if destination, err = registry.ParseReference(to); err != nil {
		return source, destination, err
	}
	if destination.Digest != "" {
		err = usageHint("name a repository, with or without a tag", "%s: the source says which digest is copied", to)
	}
	return source, destination, err
}

// begun reports whether something was written, a manifest or a tag. An archive is written whole or not at all.
func begun(r copy.Result) bool {
	return r.Written > 0 || slices.ContainsFunc(r.Tags, func(t copy.TagResult) bool { return t.Status == copy.Written || t.Status == copy.Moved })
}

// destinationTags are the tags to write: those that were said, else the source's own, never latest by itself.
func (in copyInputs) destinationTags(source, destination registry.Reference) []string {
	tags := slices.Clone(in.tags)
	if destination.Tag != "" && !slices.Contains(tags, destination.Tag) {
		tags = slices.Insert(tags, 0, destination.Tag)
	}
	if own := source.BareTag(); len(tags) == 0 && own != "" {
		tags = []string{own}
	}
	return slices.Compact(tags)
}

// open opens the destination, and returns how to let go of it. A dry run leaves no trace: what does not exist yet is
// an empty layout in a temporary folder.
func (in copyInputs) open(ctx context.Context, s *session, ref registry.Reference) (*registry.Repo, func() error, error) {
	c, err := s.client()
	if err != nil {
		return nil, nil, err
	}
	if ref.Kind == registry.Archive && !in.overwrite {
		if _, err := os.Lstat(ref.Path); err == nil {
			return nil, nil, usageHint("choose another name, or replace it with --overwrite", "%s exists", ref.Path)
		}
	}
	if !in.dryRun || ref.Kind == registry.Remote {
		repo, err := c.Create(ctx, ref, registry.CreateOptions{Overwrite: in.overwrite})
		if err != nil {
			return nil, nil, err
		}
		return repo, repo.Close, nil
	}
	if ref.Kind == registry.Layout {
		repo, err := c.Open(ctx, ref)
		if err == nil {
			return repo, repo.Close, nil
		}
		if !errors.Is(err, registry.ErrNotFound) {
			return nil, nil, err
		}
	}
	dir, err := os.MkdirTemp("", "imprint-dry-run-")
	if err != nil {
		return nil, nil, &diskError{err}
	}
	repo, err := c.Create(ctx, registry.Reference{Kind: registry.Layout, Path: dir}, registry.CreateOptions{})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return repo, func() error { return errors.Join(repo.Close(), os.RemoveAll(dir)) }, nil
}
