package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/registry"
)

type copyInputs struct {
	tags             []string
	allTags          bool
	match            []string
	maps             []string
	move             []string
	referrers        string
	digestTags       bool
	platform         string
	chain            []string
	onlyAccepted     bool
	requireSignature bool
	downgrade        bool
	appending        bool
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
moves, and its claims must cover each tag at the destination. A destination without a tag gets the source's, never latest.
With --map each argument, or line of --batch, is a source. What --dry-run -o json prints is a --batch that does just that.`,
		Example: `  imprint copy ghcr.io/acme/app:1.4.2 harbor.acme.example/prod/app --policy prod.yaml
  imprint copy ghcr.io/acme/app harbor.acme.example/mirror/app --match '1.*' --dry-run
  imprint copy --batch nightly.txt --map vendor.example=harbor.acme.example/vendor
  imprint copy --batch nightly.txt --map vendor.example=oci-archive:out.tar      # over an air gap:
  imprint copy oci-archive:out.tar --all-tags --map vendor.example=harbor.inside.example`,
		Args: arguments(0, many, "SRC DST"),
		Annotations: map[string]string{exits: "0 copied, or there already   1 not accepted, unsigned, a tag would move   3 usage   4 registry   " +
			"5 not authorised   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runCopy(ctx, s, in, args) }),
	}
	f := c.Flags()
	f.StringArrayVar(&in.tags, "tag", nil, "write `TAG` at the destination")
	f.BoolVar(&in.allTags, "all-tags", false, "SRC is a whole repository, layout or archive: copy all of its tags")
	f.StringArrayVar(&in.match, "match", nil, "of a whole repository, layout or archive copy the tags that match `PATTERN`, as '1.*'")
	f.StringArrayVar(&in.maps, "map", nil, "make DST of SRC's name: `FROM=TO`, FROM being HOST or HOST/REPO")
	f.StringArrayVar(&in.move, "move", nil, "tags that match `PATTERN` may leave the digest that holds them")
	f.StringVar(&in.referrers, "referrers", copy.All, "which referrers go along: `all|signatures|none`")
	f.BoolVar(&in.digestTags, "digest-tags", false, "bring along tags of the form sha256-….sig too (cosign's)")
	f.StringVar(&in.platform, "platform", "", "of an index only the image for `OS/ARCH[/VARIANT]`")
	f.StringArrayVar(&in.chain, "chain", nil, "renew the chains of its signatures on the way, by certificates in `FILE|DIR`")
	f.BoolVar(&in.onlyAccepted, "only-accepted", false, "leave signatures behind that the policy does not accept")
	f.BoolVar(&in.requireSignature, "require-signature", false, "refuse what has no signature")
	f.BoolVar(&in.downgrade, "downgrade", false, "also bring certificate chains that the destination has superseded")
	f.BoolVar(&in.appending, "append", false, "add to an archive that exists")
	f.BoolVar(&in.overwrite, "overwrite", false, "replace an archive that exists")
	f.BoolVar(&in.dryRun, "dry-run", false, "check everything, write nothing")
	f.Var(&s.network.maxRate, "max-rate", "use no more of the line than `RATE`, as 10MB or 5MiB a second")
	// What the words of the command line mean does not come of the surroundings.
	for _, name := range []string{"map", "all-tags", "match", "append"} {
		_ = f.SetAnnotation(name, onlyNamed, []string{"true"})
	}
	in.judging.bindGate(c)
	in.batch.bind(c)
	return c
}

func runCopy(ctx context.Context, s *session, in copyInputs, args []string) error {
	maps, g, err := in.settle(s)
	if err != nil {
		return err
	}
	shape, words := form{words: 2, copies: true}, "SRC DST"
	if len(maps) > 0 {
		shape.words, words = 1, "SRC…"
	} else if len(args) > 0 && in.batch.file == "" { // several pairs are a batch
		if err := arguments(2, 2, words)(s.command, args); err != nil {
			return err
		}
	}
	all, err := in.batch.given(s, args, shape, words)
	if err != nil {
		return err
	}
	p := &promotion{copyInputs: in, s: s, gate: g}
	p.places = &places{s: s, in: in}
	defer func() { _ = p.places.end(ctx) }()
	made := &expansion{in: in, maps: maps, places: p.places, warn: s.warn}
	items, err := made.items(ctx, all, in.batch.jobs)
	if err != nil {
		return err
	}
	if err := in.archives(items); err != nil {
		return err
	}
	p.alone = len(items) == 1 && in.batch.file == "" && !in.whole()
	p.progress = s.newProgress()
	p.progress.expect(len(items))
	b := batch[copy.Result]{
		kind: "copy",
		do: func(ctx context.Context, it item) (copy.Result, error) {
			j := jobOf(it)
			err := made.whyNot(it)
			var r copy.Result
			if err == nil {
				r, err = p.copy(ctx, j)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", j, err)
			}
			return r, err
		},
		full:    func(w io.Writer, r copy.Result) { ui.Copy(w, r) },
		line:    ui.CopyLine,
		word:    ui.CopyWord,
		several: in.whole(),
		finish: func(ctx context.Context) error {
			p.progress.end()
			return p.places.end(ctx)
		},
	}
	if in.dryRun {
		b.whole, b.kept = ui.CopyPlan, ofPlan
		b.full = func(w io.Writer, r copy.Result) { ui.CopyPlan(w, []copy.Result{r}, nil) }
	}
	return runBatch(ctx, s, in.batch, items, b)
}

// settle checks what the flags say, each alone and together.
func (in *copyInputs) settle(s *session) (mappings, gate, error) {
	if err := in.check(); err != nil {
		return nil, gate{}, err
	}
	maps, err := parseMappings(in.maps)
	if err != nil {
		return nil, gate{}, err
	}
	in.judging.listsAlone = len(in.chain) > 0
	g, err := in.judging.gate(s)
	if err != nil {
		return nil, g, err
	}
	g.requireSignature, g.onlyAccepted = in.requireSignature, in.onlyAccepted
	files, err := s.certificateFiles(in.chain)
	if err != nil {
		return nil, g, err
	}
	if g.chain, err = s.certificates(files); err != nil {
		return nil, g, err
	}
	return maps, g, g.check()
}

// check refuses values that are none, and flags that say nothing beside each other.
func (in *copyInputs) check() error {
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
	for _, p := range in.match {
		if _, err := path.Match(p, ""); err != nil {
			return usageHint("as --match '1.*'", "--match %q is not a pattern", p)
		}
	}
	if err := patterns(in.move); err != nil {
		return err
	}
	for _, c := range []struct {
		clash   bool
		a, b    string
		because string
	}{
		{in.whole() && len(in.tags) > 0, in.wholeFlag(), "--tag", "each tag of the source keeps its name"},
		{in.appending && in.overwrite, "--append", "--overwrite", "what is replaced is not added to"},
		{in.referrers == copy.None && in.onlyAccepted, "--referrers none", "--only-accepted", "no signature goes along"},
		{in.referrers == copy.None && len(in.chain) > 0, "--referrers none", "--chain", "no signature goes along"},
		{in.referrers == copy.None && in.downgrade, "--referrers none", "--downgrade", "no signature goes along"},
	} {
		if c.clash {
			return usageHint("leave one of them out", "%s and %s exclude each other: %s", c.a, c.b, c.because)
		}
	}
	return nil
}

func (in *copyInputs) wholeFlag() string {
	if in.allTags {
		return "--all-tags"
	}
	return "--match"
}

// archives refuses archives that exist, unless they are added to or replaced: all of them before anything is done.
func (in *copyInputs) archives(items []item) error {
	named := false
	looked := map[string]bool{}
	for _, it := range items {
		ref, err := registry.ParseReference(jobOf(it).to)
		if err != nil || ref.Kind != registry.Archive {
			continue // what is wrong with an item is said when its turn comes
		}
		named = true
		if looked[ref.Path] || in.appending || in.overwrite {
			continue
		}
		looked[ref.Path] = true
		if _, err := os.Lstat(ref.Path); err == nil {
			return usageHint("choose another name; or add to it with --append, replace it with --overwrite", "%s exists", ref.Path)
		}
	}
	switch {
	case !named && in.appending:
		return usageHint("leave it out, or name an archive: oci-archive:FILE.tar", "--append, and nothing goes into an archive")
	case !named && in.overwrite:
		return usageHint("leave it out, or name an archive: oci-archive:FILE.tar", "--overwrite, and nothing goes into an archive")
	}
	return nil
}

// A promotion is what holds for all items of a copy.
type promotion struct {
	copyInputs
	s        *session
	gate     gate
	places   *places
	progress *progress
	alone    bool // one artifact, no batch
	turn     turns
}

func (p *promotion) copy(ctx context.Context, j job) (copy.Result, error) {
	source, destination, err := ends(j)
	if err != nil {
		return copy.Result{}, err
	}
	tags := p.destinationTags(source, destination, j.tags)
	// Beside one another two items of the same tag would each find it free, and --move would not be asked for.
	var names []string
	for _, t := range tags {
		names = append(names, destination.With(t, "").String())
	}
	defer p.turn.take(names...)()

	src, err := p.places.source(ctx, source)
	if err != nil {
		return copy.Result{}, err
	}
	root, err := src.Resolve(ctx, source)
	if err == nil && p.platform != "" {
		// What is judged is what is copied: its own signatures, not the index's. A plan names what it found by its
		// digest, since the tag is the index's.
		root, err = copy.ForPlatform(ctx, src, root, p.platform)
	}
	if err != nil {
		return copy.Result{}, err
	}
	dst, err := p.places.destination(ctx, destination)
	if err != nil {
		return copy.Result{}, err
	}
	at := passage{source: source, root: root, destination: destination, tags: tags}
	name := destination.String()
	defer p.progress.done(name)
	r, err := copy.Artifact(ctx, dst, src, root, copy.Options{
		Tags:       tags,
		Move:       p.move,
		Referrers:  p.referrers,
		DigestTags: p.digestTags,
		Downgrade:  p.downgrade,
		DryRun:     p.dryRun,
		Review:     p.gate.review(at),
		Remark:     p.gate.remark(at),
		Progress:   p.progress.item(name),
	})
	if err == nil {
		p.places.arrived(destination)
	}
	err = partlyDone(err, destination.Kind != registry.Archive && begun(r))
	r.Source, r.Destination = source.String(), destination.String()
	if p.platform != "" {
		r.Source = source.With("", root.Descriptor.Digest).String()
	}
	for _, w := range r.Warnings {
		if !p.alone {
			w = name + ": " + w
		}
		if err != nil || !p.dryRun || p.s.json { // a plan shows them itself
			p.s.warn("copy", w)
		}
	}
	return r, err
}

// String says what a job is.
func (j job) String() string {
	if j.to == "" {
		return "copy " + j.from
	}
	return "copy " + j.from + " to " + j.to
}

// ends parses where a copy comes from and goes to.
func ends(j job) (source, destination registry.Reference, err error) {
	if source, err = artifact(j.from); err != nil {
		return source, destination, err
	}
	if destination, err = registry.ParseReference(j.to); err != nil {
		return source, destination, err
	}
	if destination.Digest != "" {
		err = usageHint("name a repository, with or without a tag", "%s: the source says which digest is copied", j.to)
	}
	return source, destination, err
}

// begun reports whether something was written, a manifest or a tag. An archive is written whole or not at all.
func begun(r copy.Result) bool {
	return r.Written > 0 || slices.ContainsFunc(r.Tags, func(t copy.TagResult) bool { return t.Status == copy.Written || t.Status == copy.Moved })
}

// destinationTags are the tags to write: those that were worked out before and those that were said, else the source's
// own, never latest by itself.
func (in *copyInputs) destinationTags(source, destination registry.Reference, before []string) []string {
	tags := slices.Clone(before)
	for _, t := range in.tags {
		// A full name ends in the tag that it stands for.
		if !slices.ContainsFunc(tags, func(has string) bool { return destination.With(has, "").BareTag() == t }) {
			tags = append(tags, t)
		}
	}
	if destination.Tag != "" && !slices.Contains(tags, destination.Tag) {
		tags = slices.Insert(tags, 0, destination.Tag)
	}
	if own := source.BareTag(); len(tags) == 0 && own != "" {
		tags = []string{own}
	}
	return tags
}

// ofPlan is what a plan shows of a result: not each of the objects that are going to be sent.
func ofPlan(r copy.Result) copy.Result {
	var kept []copy.Object
	planned := false
	for _, o := range r.Objects {
		switch o.Status {
		case copy.There, copy.Copied:
			continue
		case copy.Planned: // one says that there are some
			if planned {
				continue
			}
			planned = true
		}
		kept = append(kept, o)
	}
	r.Objects = kept
	return r
}
