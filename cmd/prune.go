package cmd

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
)

type pruneInputs struct {
	yes       bool
	dryRun    bool
	all       bool
	signature string
	roots     []string
	judging   judgingFlags
	batch     batchFlags
}

func newPrune(s *session) *cobra.Command {
	var in pruneInputs
	c := &cobra.Command{
		Use:   "prune REF…",
		Short: "delete superseded signatures; plans unless --yes",
		Long: `Deletes a signature only if another one that stays is the same signature with a chain to the same root that lasts longer, and passes
at every setting of stock verifiers, now and later, wherever the deleted one passes. It says what goes, what stays and why; only with
--yes is anything deleted. Verifiers that trust an old intermediate or leaf certificate itself, and not the root, lose what goes; the
plan names these certificates. Whether certificates are revoked is not asked; with --policy or --root the one that stays must be
accepted. With --signature that one goes, whatever it is, and no other.

The JSON, of a plan too, holds manifest and envelope of what goes, in base64, to put it back with any tool that writes to a registry
(below). Or copy the artifact to oci:DIR before, and back with imprint copy --downgrade.`,
		Example: `  imprint prune ghcr.io/acme/app:1.4.2
  imprint prune ghcr.io/acme/app:1.4.2 --yes -o json > deleted.json
  imprint prune --all ghcr.io/acme/app --policy prod.yaml --yes
  imprint prune ghcr.io/acme/app:1.4.2 --signature sha256:91ab… --yes

  # put the first back: the envelope, the empty configuration, the manifest
  jq -r '.deleted[0].envelope' deleted.json | base64 -d > e; oras blob push ghcr.io/acme/app e
  printf '{}' > c; oras blob push ghcr.io/acme/app c
  jq -r '.deleted[0].manifest' deleted.json | base64 -d > m
  oras manifest push ghcr.io/acme/app@"$(jq -r '.deleted[0].signature' deleted.json)" m`,
		Args: arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 done, planned, or nothing to delete   1 what would stay is not accepted (--signature with a policy)   " +
			"3 usage   4 registry   5 not authorised   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runPrune(ctx, s, in, args) }),
	}
	f := c.Flags()
	f.BoolVar(&in.yes, "yes", false, "delete; without it nothing is")
	f.BoolVar(&in.dryRun, "dry-run", false, "show the plan, write nothing; also with --yes")
	f.BoolVar(&in.all, "all", false, "all signatures that the tags of a repository, or REF, lead to")
	f.StringVar(&in.signature, "signature", "", "delete the signature `DIGEST`, whatever it is, and no other")
	f.StringArrayVar(&in.roots, "timestamp-roots", nil, "roots of time-stamping authorities, in `FILE|DIR`, to compare timestamps by")
	in.judging.bindGate(c)
	in.batch.bind(c)
	return c
}

// A pruning is a run of prune, its flags read.
type pruning struct {
	s         *session
	gate      gate
	write     bool
	signature digest.Digest
	roots     []*x509.Certificate
	alone     bool // one artifact, no batch
}

func runPrune(ctx context.Context, s *session, in pruneInputs, args []string) error {
	run, err := in.begin(s)
	if err != nil {
		return err
	}
	b := batch[signer.PruneResult]{
		kind: "prune",
		do: func(ctx context.Context, it item) (signer.PruneResult, error) {
			r, err := run.item(ctx, it[0])
			if err != nil {
				err = fmt.Errorf("prune %s: %w", it[0], err)
			}
			return r, err
		},
		full: ui.Prune,
		line: ui.PruneLine,
		word: ui.PruneWord,
	}
	if in.all {
		items, err := in.batch.allItems(s, args, "REPO|REF…")
		if err != nil {
			return err
		}
		return runAll(ctx, s, in.batch, items, b, allOptions{}, run.visit)
	}
	items, err := in.batch.items(s, args, form{words: 1}, "REF…")
	if err != nil {
		return err
	}
	if in.signature != "" && (len(items) != 1 || in.batch.file != "") {
		return usageHint("name the one artifact that it belongs to", "--signature is for one REF")
	}
	run.alone = len(items) == 1 && in.batch.file == ""
	return runBatch(ctx, s, in.batch, items, b)
}

func (in pruneInputs) begin(s *session) (*pruning, error) {
	p := &pruning{s: s, write: in.yes && !in.dryRun}
	if !p.write { // nothing is written, and the summary says so
		if err := s.command.Flags().Set("dry-run", "true"); err != nil {
			return nil, err
		}
	}
	if in.signature != "" {
		if p.signature = digest.Digest(in.signature); p.signature.Validate() != nil {
			return nil, usageHint("as --signature sha256:…, all of its digits: imprint inspect REF shows them", "--signature %q is no digest", in.signature)
		}
		if in.all || in.batch.file != "" {
			return nil, usageHint("name the one artifact that it belongs to", "--signature is for one REF")
		}
	}
	if len(in.roots) > 0 {
		files, err := s.certificateFiles(in.roots)
		if err != nil {
			return nil, err
		}
		if p.roots, err = s.certificates(files); err != nil {
			return nil, err
		}
	}
	var err error
	if p.gate, err = in.judging.gate(s); err != nil {
		return nil, err
	}
	if p.gate.policy != nil {
		p.roots = append(p.roots, p.gate.policy.TimestampRoots()...)
	}
	return p, nil
}

func (p *pruning) item(ctx context.Context, text string) (signer.PruneResult, error) {
	ref, err := artifact(text)
	if err != nil {
		return signer.PruneResult{}, err
	}
	if ref.Kind == registry.Archive {
		return signer.PruneResult{}, usageHint("copy it into a layout first: imprint copy "+text+" oci:DIR",
			"an archive is written once, and nothing is deleted from it")
	}
	repo, err := p.s.open(ctx, ref)
	if err != nil {
		return signer.PruneResult{}, err
	}
	defer repo.Close()
	root, err := repo.Resolve(ctx, ref)
	if err != nil {
		return signer.PruneResult{}, err
	}
	list, err := repo.Referrers(ctx, root.Descriptor, registry.ArtifactTypeSignature)
	if err != nil {
		return signer.PruneResult{}, err
	}
	return p.prune(ctx, repo, ref, root.Descriptor, list)
}

// visit prunes one artifact of --all. What has no signature has nothing to say.
func (p *pruning) visit(ctx context.Context, repo *registry.Repo, v registry.Visit) ([]signer.PruneResult, error) {
	var list []registry.Referrer
	for _, r := range v.Referrers {
		if r.ArtifactType == registry.ArtifactTypeSignature || r.ArtifactType == "" {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	ref := repo.Reference().With("", v.Subject.Digest)
	r, err := p.prune(ctx, repo, ref, v.Subject, list)
	if err != nil {
		return nil, fmt.Errorf("prune %s: %w", ref, err)
	}
	return []signer.PruneResult{r}, nil
}

// prune plans the signatures listed for subject, and deletes what the plan says if that was asked for.
func (p *pruning) prune(ctx context.Context, repo *registry.Repo, ref registry.Reference, subject ocispec.Descriptor, list []registry.Referrer) (signer.PruneResult, error) {
	r := signer.PruneResult{Reference: ref.String(), Digest: subject.Digest, DryRun: !p.write}
	sigs, err := repo.SignaturesIn(ctx, subject, list)
	if err != nil {
		return r, err
	}
	o := signer.PruneOptions{Now: p.s.now, Signature: p.signature, TimestampRoots: p.roots}
	for _, l := range list {
		if l.ArtifactType != registry.ArtifactTypeSignature {
			o.Hidden = append(o.Hidden, l.Digest)
		}
	}
	judge, err := p.judge(ctx, ref, subject)
	if err != nil {
		return r, err
	}
	if judge != nil {
		o.Accept = func(sig registry.Signature) (bool, string) {
			return accepts(judge([]registry.Signature{sig}), sig.Descriptor.Digest)
		}
	}
	r.PrunePlan = signer.PlanPrune(sigs, o)
	if err := cmp.Or(p.checkNamed(r, judge), p.checkRest(r, sigs, judge)); err != nil {
		return r, err
	}
	if p.write {
		r.PrunePlan, err = r.PrunePlan.Push(ctx, repo)
		r.Deleted = r.Contents(signer.PruneDeleted, signer.PruneUnlisted)
		if err != nil && len(r.Deleted) > 0 {
			// What is gone must be known, however this ended.
			_ = p.s.answer("prune", r, func(w io.Writer) { ui.PruneLine(w, r) })
		}
		if err != nil {
			return r, partlyDone(err, len(r.Deleted) > 0)
		}
	} else {
		r.Goes = r.Contents(signer.PruneGoes)
	}
	if p.signature != "" { // it was not superseded but wrong: that it is still there is no success
		if err := r.Refused(); err != nil {
			return r, fmt.Errorf("the signature %s is still there: %w", p.signature, err)
		}
	}
	if p.alone && !p.s.json {
		return r, nil // its screen says them
	}
	for _, w := range r.Warnings {
		p.s.warn("prune", w)
	}
	if r.Left != "" {
		p.s.warnOnce("old-left", r.Left)
	}
	return r, nil
}

// checkNamed makes sure that the signature of --signature is there, is one, and that a policy accepts what is left.
func (p *pruning) checkNamed(r signer.PruneResult, judge func([]registry.Signature) trust.Report) error {
	if p.signature == "" {
		return nil
	}
	if !r.Named(p.signature) {
		return &hinted{&registry.Error{Code: "not-found", Err: fmt.Errorf("%w: it has no signature %s", registry.ErrNotFound, p.signature)},
			"imprint inspect " + r.Reference + " lists its signatures"}
	}
	if judge == nil {
		return nil
	}
	if report := judge(r.Stay()); report.Verdict != trust.Accepted {
		report.Reference = r.Reference
		return &refusal{report: report, with: "without signature " + short(p.signature)}
	}
	return nil
}

// checkRest makes sure that what the policy accepts it still accepts without what goes: of a rule that requires several signatures
// not only the survivor of each is asked for.
func (p *pruning) checkRest(r signer.PruneResult, sigs []registry.Signature, judge func([]registry.Signature) trust.Report) error {
	stay := r.Stay()
	if judge == nil || p.signature != "" || len(stay) == len(sigs) || judge(sigs).Verdict != trust.Accepted {
		return nil
	}
	if report := judge(stay); report.Verdict != trust.Accepted {
		report.Reference = r.Reference
		return &refusal{report: report, with: "without what is superseded"}
	}
	return nil
}

// judge returns what holds signatures against the policy of the command line, nil if there is none.
func (p *pruning) judge(ctx context.Context, ref registry.Reference, subject ocispec.Descriptor) (func([]registry.Signature) trust.Report, error) {
	g := p.gate
	if g.policy == nil {
		return nil, nil
	}
	at, err := g.judgedAs(ref)
	if err != nil {
		return nil, err
	}
	tag := at.Tag
	if tag == "" {
		tag = ref.BareTag()
	}
	as := at.With(tag, subject.Digest)
	return func(sigs []registry.Signature) trust.Report {
		report, err := g.examine(ctx, as, subject, sigs)
		if err != nil {
			report.Verdict, report.Reason, report.Detail = trust.Undetermined, reason(err), err.Error()
		}
		return report
	}, nil
}

// accepts reports whether a report on one signature accepts it, and why not. A scope that does not enforce accepts nothing by that.
func accepts(r trust.Report, d digest.Digest) (ok bool, why string) {
	if r.Verdict == trust.Accepted || r.Accepts(d) {
		return true, ""
	}
	why = r.Reason
	if detail := (&refusal{report: r}).why(); detail != "" {
		why += " (" + detail + ")"
	}
	return false, why
}
