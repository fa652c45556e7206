package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

type publishInputs struct {
	signingFlags
	tags         []string
	attach       []string
	artifactType string
	annotations  []string
	batch        batchFlags
}

func newPublish(s *session) *cobra.Command {
	var in publishInputs
	c := &cobra.Command{
		Use:   "publish SRC… DST",
		Short: "copy by digest, sign, check, and write the tag last",
		Long: `Publishes what a build made: copies it by digest, signs it there, reads the signature back as any verifier would, and then
writes the tags, so that no tag ever points at something unsigned. SRC is an OCI layout, an OCI archive, - for an archive on standard
input, or files (PATH or PATH:MEDIATYPE) that become one artifact. NAME may be left out where there is only one artifact. The tags are claimed: under another one imprint verify does not
accept the digest. A destination without a tag gets that of SRC, never latest. Interrupted anywhere, no tag has moved; run again, it ends the same.
With SOURCE_DATE_EPOCH the manifests that it makes say that they were created then; without, they say nothing of it, so that the same files have the same digest.`,
		Example: `  imprint publish oci-archive:app.tar ghcr.io/acme/app:1.4.2 --key release --recursive
  imprint publish oci:build ghcr.io/acme/app --tag 1.4.2 --tag latest --move latest --key release \
      --attach sbom.json:application/spdx+json
  imprint publish rules.wasm ghcr.io/acme/rules:7 --key release \
      --artifact-type application/vnd.acme.rules`,
		Args: arguments(2, many, "SRC… DST"),
		Annotations: map[string]string{exits: "0 published, or published already   1 a tag or claim would move   3 usage, key or chain   4 registry   " +
			"5 not authorised   6 key service   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runPublish(ctx, s, in, args) }),
	}
	in.signingFlags.bind(c)
	f := c.Flags()
	f.Lookup("move").Usage = "tags and claims that match `PATTERN` may leave the digest that holds them"
	f.Lookup("no-claims").Usage = "claim nothing, not even the tags"
	f.StringArrayVar(&in.tags, "tag", nil, "write and claim `TAG`")
	f.StringArrayVar(&in.attach, "attach", nil, "also publish and sign `FILE:TYPE`, as sbom.json:application/spdx+json, which refers to the artifact")
	f.StringVar(&in.artifactType, "artifact-type", "", "what the files are: `TYPE`, as application/vnd.acme.rules")
	f.StringArrayVar(&in.annotations, "annotation", nil, "write `KEY=VALUE` into the manifest of the files, unsigned")
	in.batch.bind(c)
	return c
}

func runPublish(ctx context.Context, s *session, in publishInputs, args []string) error {
	items, err := in.batch.items(s, args, form{words: max(2, len(args)), copies: true}, "SRC… DST")
	if err != nil {
		return err
	}
	p := &publisher{publishInputs: in, s: s, alone: in.batch.file == ""}
	if err := p.check(); err != nil {
		return err
	}
	if p.alone { // before anybody is asked for a passphrase
		if _, err := p.parse(items[0]); err != nil {
			return err
		}
	}
	if p.pen, err = in.open(ctx, s, in.batch.jobs); err != nil {
		return err
	}
	p.progress = s.newProgress()
	defer p.progress.end()
	return runBatch(ctx, s, in.batch, items, batch[ui.Published]{
		kind:  "publish",
		ahead: p.pen.ahead,
		do:    p.do,
		full:  func(w io.Writer, r ui.Published) { ui.Publish(w, r, s.now) },
		line:  ui.PublishLine,
		word:  ui.PublishWord,
		calls: func(r ui.Published) int { return r.Signed.KeyCalls },
		uses:  p.pen.uses,
	})
}

// A publisher is what holds for all items of a publish.
type publisher struct {
	publishInputs
	s         *session
	pen       pen
	options   signer.Options
	attached  []attachment
	described map[string]string // --annotation
	created   time.Time
	progress  *progress
	turn      turns
	alone     bool // one artifact, no batch
}

// check checks the flags that hold for every item.
func (p *publisher) check() error {
	for _, t := range p.tags {
		if !registry.ValidTag(t) {
			return usage("--tag %q is not a tag", t)
		}
	}
	var err error
	if p.options, err = p.signingFlags.options(p.s); err != nil {
		return err
	}
	if p.described, err = annotations(p.annotations); err != nil {
		return err
	}
	if p.created, err = sourceDate(p.s.env.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	if p.attached, err = attachments(p.attach); err != nil {
		return err
	}
	if len(p.attached) > 0 && !p.alone {
		return usageHint("publish that artifact by itself", "--attach: a file belongs to one artifact, and --batch names many")
	}
	if p.artifactType != "" && !isMediaType(p.artifactType) {
		return usageHint("as application/vnd.acme.rules", "--artifact-type %q is no media type", p.artifactType)
	}
	return nil
}

// parse reads an item and what of the flags depends on it. In a batch an item is SRC DST, and if imprint wrote it the tags follow.
func (p *publisher) parse(it item) (publication, error) {
	var tags []string
	if !p.alone {
		it, tags = it[:2], it[2:]
	}
	pub, err := parsePublication(it)
	pub.tags = tags
	switch {
	case err != nil:
		return pub, err
	case !p.alone && (pub.stdin || len(pub.files) > 0):
		return pub, usageHint("a batch publishes layouts and archives: oci:DIR[:NAME], oci-archive:FILE.tar[:NAME]",
			"%s: files, and standard input, are published one at a time", pub.source())
	case len(pub.files) == 0 && p.artifactType != "":
		return pub, usage("--artifact-type is for files; %s says itself what it is", pub.source())
	case len(pub.files) == 0 && len(p.annotations) > 0:
		return pub, usageHint("-m KEY=VALUE signs it beside the digest", "--annotation is for files; the manifest of %s stays as it is", pub.source())
	case len(pub.files) > 0 && p.artifactType == "":
		hint := "say what they are: --artifact-type application/vnd.acme.rules"
		if len(pub.files) == 1 && strings.Contains(pub.files[0].Path, ".tar") {
			hint += "; an image in an archive is written oci-archive:" + pub.files[0].Path
		}
		return pub, usageHint(hint, "%s: files without --artifact-type", pub.source())
	}
	return pub, nil
}

// tagsOf are the tags to write: those that were said, else the source's own, never latest by itself.
func (p *publisher) tagsOf(ctx context.Context, pub publication, src *registry.Repo) ([]string, error) {
	var tags []string
	for _, t := range slices.Concat([]string{pub.destination.Tag}, pub.tags, p.tags) {
		if t != "" && !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	if len(tags) > 0 || len(pub.files) > 0 {
		return tags, nil
	}
	own := []string{pub.layout.BareTag()}
	if pub.layout.IsRepository() {
		var err error
		if own, err = onlyNames(ctx, src); err != nil {
			return nil, err
		}
	}
	for _, t := range own {
		if registry.ValidTag(t) {
			tags = append(tags, t)
		}
	}
	if len(tags) > 1 {
		return nil, usageHint("say which to write: --tag "+tags[0], "its artifact has %d names, %s", len(tags), strings.Join(tags, " and "))
	}
	return tags, nil
}

// onlyNames are the tags of a source that holds one artifact, each once.
func onlyNames(ctx context.Context, src *registry.Repo) ([]string, error) {
	var out []string
	for name, err := range src.Tags(ctx) {
		if err != nil {
			return nil, err
		}
		tag := registry.Reference{Kind: registry.Layout, Tag: name}.BareTag()
		if !ofDigest(tag) && !slices.Contains(out, tag) {
			out = append(out, tag)
		}
	}
	return out, nil
}

func (p *publisher) do(ctx context.Context, it item) (ui.Published, error) {
	pub, err := p.parse(it)
	if err != nil {
		return ui.Published{}, err
	}
	r, err := p.publish(ctx, pub)
	r.Signed.Key = publicURI(r.Signed.Key)
	r.Destination, r.DryRun = pub.destination.String(), p.dryRun
	at := pub.destination.With("", r.Digest)
	if len(r.Tags) > 0 {
		at = pub.destination.With(r.Tags[0].Tag, "")
	}
	r.Reference = at.String()
	if r.Source = pub.source(); len(pub.files) > 0 {
		r.Source, r.Files = "", pub.words
	}
	r.Warnings = append(slices.Clone(r.Copied.Warnings), r.Signed.Warnings...)
	if err == nil && r.Signed.NoClaims && !p.noClaims {
		r.Warnings = append(r.Warnings,
			"nothing says a tag, so the signature claims no tag: imprint verify accepts the digest under any; name one with --tag, or mean it with --no-claims")
	}
	for _, w := range r.Warnings {
		if !p.alone {
			w = it[1] + ": " + w
		}
		p.s.warn("publish", w)
	}
	if err != nil {
		err = publishFailed(r, fmt.Errorf("publish %s to %s: %w", pub.source(), pub.destination, err))
	}
	return r, err
}

// publishFailed says beside why it failed what is there all the same. A verdict stays one, and so does a key that signed nothing: what
// was copied by then is found by its digest only.
func publishFailed(r ui.Published, err error) error {
	var tags []string
	for _, t := range r.Tags {
		if t.Status == copy.Written || t.Status == copy.Moved {
			tags = append(tags, t.Tag)
		}
	}
	done := r.Copied.Written+r.Signed.Written+len(tags) > 0
	if err = spentOn(r.Signed, err); done {
		err = fmt.Errorf("%w; %s", err, publishDone(r.Copied.Written, r.Signed.Written, tags, r.Destination))
	}
	byKey := errors.Is(err, kms.ErrService) || errors.Is(err, envelope.ErrKeyMisbehaved)
	if exitCode(err) == exitRejected || byKey && r.Signed.Written == 0 {
		return err
	}
	return partlyDone(err, done)
}

// publish copies, signs, reads back and then tags: in this order no tag ever points at something unsigned.
func (p *publisher) publish(ctx context.Context, pub publication) (r ui.Published, err error) {
	name := pub.destination.String()
	defer p.progress.done(name)
	src, root, err := p.source(ctx, pub)
	if err != nil {
		return r, err
	}
	defer src.Close()
	r.Digest, r.MediaType = root.Descriptor.Digest, root.Descriptor.MediaType
	tags, err := p.tagsOf(ctx, pub, src)
	if err != nil {
		return r, err
	}
	var names []string
	for _, t := range tags {
		names = append(names, pub.destination.With(t, "").String())
	}
	defer p.turn.take(names...)()
	// Beside one another two items of the same artifact would each find it unsigned.
	defer p.turn.take(pub.destination.Repository().With("", root.Descriptor.Digest).String())()
	view, also, err := p.attachTo(ctx, src, root, &r)
	if err != nil {
		return r, err
	}

	dst, release, err := p.openDestination(ctx, pub.destination)
	if err != nil {
		return r, err
	}
	defer func() {
		if closed := release(); err == nil {
			err = closed
		}
	}()
	o := p.options
	o.Also, o.ReadBack = also, true
	if len(tags) > 0 {
		o.Tag, o.Tags = tags[0], tags[1:]
	}
	if r.Tags, err = copy.CheckTags(ctx, dst, root.Descriptor.Digest, tags, p.move); err != nil {
		return r, err
	}
	if err := signer.Check(ctx, dst, root, p.pen.key, p.pen.chain, o); err != nil {
		return r, err
	}
	r.Copied, err = copy.Artifact(ctx, dst, view, root, copy.Options{DryRun: p.dryRun, Progress: p.progress.item(name)})
	r.Copied.Source, r.Copied.Destination = pub.source(), pub.destination.String()
	if err != nil {
		return r, err
	}
	if p.dryRun {
		r.Signed, err = p.plan(ctx, dst, view, root, o)
		return r, err
	}
	if r.Signed, err = signer.Sign(ctx, dst, root, p.pen.key, p.pen.chain, o); err != nil {
		return r, fmt.Errorf("signing: %w", err)
	}
	if r.Tags, err = copy.WriteTags(ctx, dst, root, r.Tags); err != nil {
		return r, err
	}
	return r, nil
}
