package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
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
	alone            bool // one artifact, no batch
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
		Args:        arguments(2, 2, "SRC DST"),
		Annotations: map[string]string{exits: "0 copied, or there already   1 not accepted, unsigned, a tag would move   3 usage   4 registry   5 not authorised   7 partly done, run it again   8 local disk"},
		RunE:        s.run(func(ctx context.Context, args []string) error { return runCopy(ctx, s, in, args) }),
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
	g, err := in.gate(s)
	if err != nil {
		return err
	}
	in.alone = len(items) == 1 && in.batch.file == ""
	var turn turns
	b := batch[copy.Result]{
		kind: "copy",
		do: func(ctx context.Context, it item) (copy.Result, error) {
			r, err := in.copy(ctx, s, it[0], it[1], g, &turn)
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

// A gate is what a source must pass before a byte of it moves.
type gate struct {
	policy           *trust.Policy // nil: none
	root             bool          // the policy is that of --root
	as               registry.Reference
	requireSignature bool
}

func (in copyInputs) gate(s *session) (gate, error) {
	policy, err := in.judging.gate(s)
	if err != nil {
		return gate{}, err
	}
	as, err := in.judging.reference()
	return gate{policy, len(in.judging.roots) > 0, as, in.requireSignature}, err
}

func (in copyInputs) copy(ctx context.Context, s *session, from, to string, g gate, turn *turns) (copy.Result, error) {
	source, err := artifact(from)
	if err != nil {
		return copy.Result{}, err
	}
	destination, err := registry.ParseReference(to)
	if err != nil {
		return copy.Result{}, err
	}
	if destination.Digest != "" {
		return copy.Result{}, usageHint("name a repository, with or without a tag", "%s: the source says which digest is copied", to)
	}
	tags := in.destinationTags(source, destination)
	// Beside one another two items of the same tag would each find it free, and --move would not be asked for.
	var names []string
	for _, t := range tags {
		names = append(names, destination.With(t, "").String())
	}
	defer turn.take(names...)()

	src, err := s.open(ctx, source)
	if err != nil {
		return copy.Result{}, err
	}
	defer src.Close(false)
	root, err := src.Resolve(ctx, source)
	if err == nil && in.platform != "" {
		// What is judged is what is copied: its own signatures, not the index's.
		root, err = copy.ForPlatform(ctx, src, root, in.platform)
	}
	if err != nil {
		return copy.Result{}, err
	}
	// A layout's NAME may be a full name: what is claimed is its tag.
	var claimed []string
	for _, t := range tags {
		claimed = append(claimed, tagOf(destination.With(t, "")))
	}
	warnings, err := g.judge(ctx, s, src, source, root, destination, claimed)
	if err != nil {
		return copy.Result{}, err
	}

	dst, end, err := in.open(ctx, s, destination)
	if err != nil {
		return copy.Result{}, err
	}
	r, err := copy.Artifact(ctx, dst, src, root, copy.Options{
		Tags:      tags,
		Move:      in.move,
		Referrers: in.referrers,
		Downgrade: in.downgrade,
		DryRun:    in.dryRun,
	})
	if closed := end(err == nil && !in.dryRun); err == nil {
		err = closed
	}
	err = partlyDone(err, destination.Kind != registry.Archive && begun(r))
	r.Source, r.Destination = source.String(), destination.String()
	r.Warnings = append(warnings, r.Warnings...)
	for _, w := range r.Warnings {
		if !in.alone {
			w = to + ": " + w
		}
		if err != nil || !in.dryRun || s.json { // a plan shows them itself
			s.warn("copy", w)
		}
	}
	return r, err
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
	if own := tagOf(source); len(tags) == 0 && own != "" {
		tags = []string{own}
	}
	return slices.Compact(tags)
}

// open opens the destination, and returns how to end with it. A dry run leaves no trace: what does not exist yet is
// an empty layout in a temporary folder.
func (in copyInputs) open(ctx context.Context, s *session, ref registry.Reference) (*registry.Repo, func(commit bool) error, error) {
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
		repo, err := c.Create(ctx, ref, in.overwrite)
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
	repo, err := c.Create(ctx, registry.Reference{Kind: registry.Layout, Path: dir}, false)
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return repo, func(commit bool) error { return errors.Join(repo.Close(commit), os.RemoveAll(dir)) }, nil
}

// A refusal is that a policy does not accept what was to be copied or written.
type refusal struct{ report trust.Report }

// unsigned is the refusal of what has no signature where no policy was asked.
func unsigned(reference, why string) error {
	return &refusal{trust.Report{Reference: reference, Verdict: trust.Rejected, Reason: "unsigned", Detail: why}}
}

// why says what the reason code does not.
func (e *refusal) why() string {
	why := e.report.Detail
	for _, sig := range e.report.Signatures {
		if sig.Reason == e.report.Reason && sig.Detail != "" {
			why = sig.Detail
		}
	}
	return why
}

func (e *refusal) Error() string {
	why := e.why()
	if e.report.Scope == nil && e.report.PolicyFile == "" && e.report.Reason == "unsigned" {
		return fmt.Sprintf("%s has no signature: %s", e.report.Reference, why)
	}
	text := fmt.Sprintf("the policy does not accept %s: %s", e.report.Reference, e.report.Reason)
	if why != "" {
		text += " (" + why + ")"
	}
	return text
}
func (e *refusal) Reason() string { return e.report.Reason }
func (e *refusal) exitCode() int {
	if e.report.Verdict == trust.Undetermined {
		return exitUnknown
	}
	return exitRejected
}

// judge judges the source under its own name (or --as) with each tag of the destination, and without a policy warns
// of a tag that its signatures do not claim.
func (g gate) judge(ctx context.Context, s *session, src *registry.Repo, source registry.Reference, root registry.Manifest, destination registry.Reference, tags []string) ([]string, error) {
	if g.policy == nil && !g.requireSignature && len(tags) == 0 {
		return nil, nil
	}
	sigs, err := src.Signatures(ctx, root.Descriptor)
	if err != nil {
		return nil, err
	}
	if g.policy != nil {
		at, err := g.judgedAs(source)
		if err != nil {
			return nil, err
		}
		names := tags
		if len(names) == 0 {
			names = []string{g.as.Tag} // "": by its digest alone
		}
		for _, tag := range names {
			ref := at.With(tag, root.Descriptor.Digest)
			if report := g.policy.Judge(ref, root.Descriptor, sigs, s.now); !report.Passed() {
				report.Reference = ref.With(tag, "").String()
				if tag == "" {
					report.Reference = ref.String()
				}
				return nil, &refusal{report}
			}
		}
	}
	contents, failed := verified(sigs, root)
	if g.requireSignature && len(contents) == 0 {
		if failed != nil {
			return nil, failed
		}
		return nil, unsigned(source.String(), "--require-signature asks for one")
	}
	if g.policy != nil {
		return nil, nil
	}
	return unclaimed(contents, destination, tags), nil
}

// judgedAs returns the name by which the source is judged.
func (g gate) judgedAs(source registry.Reference) (registry.Reference, error) {
	if g.as != (registry.Reference{}) {
		return g.as, nil
	}
	if full, ok := source.FullName(); ok && source.Kind != registry.Remote {
		return full, nil
	}
	if source.Kind != registry.Remote && !g.root {
		return source, &usageError{code: "as-required", hint: reasonHints["as-required"],
			err: fmt.Errorf("judging %s by a policy: its name is not HOST/REPO:TAG, so no scope can be selected", source)}
	}
	return source, nil
}

// verified returns what the signatures of root say that match their own certificates, and why one could not be fetched.
func verified(sigs []registry.Signature, root registry.Manifest) (out []envelope.Content, failed error) {
	for _, sig := range sigs {
		if sig.Err != nil {
			if errors.Is(sig.Err, registry.ErrUnavailable) || errors.Is(sig.Err, registry.ErrUnauthorized) {
				failed = sig.Err
			}
			continue
		}
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		if err != nil {
			continue
		}
		c, err := e.Verify()
		if err != nil || c.Payload.Digest != root.Descriptor.Digest {
			continue
		}
		out = append(out, c)
	}
	return out, failed
}

// unclaimed warns of each tag that none of the signatures covers although some claim others.
func unclaimed(contents []envelope.Content, destination registry.Reference, tags []string) []string {
	at := destination
	if full, ok := destination.FullName(); ok && destination.Kind != registry.Remote {
		at = full
	}
	var out []string
	for _, tag := range tags {
		claimed, covered := []string{}, false
		for _, c := range contents {
			claims, present, err := c.Payload.Claims()
			if err != nil {
				continue
			}
			name := at.Repository().String()
			if !present || slices.Contains(claims, tag) || slices.Contains(claims, name) || slices.Contains(claims, name+":"+tag) {
				covered = true
			}
			claimed = append(claimed, claims...)
		}
		if covered || len(contents) == 0 {
			continue
		}
		slices.Sort(claimed)
		says := "nothing"
		if claimed = slices.Compact(claimed); len(claimed) > 0 {
			says = strings.Join(claimed, ", ")
		}
		out = append(out, fmt.Sprintf("no signature claims the tag %s (they claim %s): imprint verify will not accept it under that name", tag, says))
	}
	return out
}
