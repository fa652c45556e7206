package cmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

type rechainInputs struct {
	chain               []string
	replacing           []string
	signedBy            string
	expiring            duration
	limit               int
	all                 bool
	aia                 bool
	replace             bool
	allowIdentityChange bool
	allowShorter        bool
	dryRun              bool
	stamp               stampFlags
	judging             judgingFlags
	batch               batchFlags
}

func newRechain(s *session) *cobra.Command {
	var in rechainInputs
	c := &cobra.Command{
		Use:   "rechain REF…",
		Short: "put a new certificate chain on existing signatures",
		Long: `Exchanges the certificate chain of existing signatures; what was signed stays as it is, bit for bit, and no key is needed. From
the certificates given and those in the signature the chain that lasts longest is built for each signature's own key. The old
signature stays beside the new one unless --replace. With --policy or --root the new one must be accepted before it is written.
With --all, everything that a repository's or reference's tags, indexes, referrers and fallback tags lead to. Look first: --dry-run
says of how many signatures, until when they will hold, and what verifiers of each kind will say.`,
		Example: `  imprint rechain ghcr.io/acme/app:1.4.2 --chain new-intermediate.pem --dry-run
  imprint rechain --all --batch repos.txt --replacing old-ca.pem --chain new/ --dry-run
  imprint rechain --batch releases.txt --chain new/ --policy prod.yaml`,
		Args: arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 done, or nothing to change   1 unsigned, not accepted, or a signature that is wrong   " +
			"3 usage, or the chain does not fit   4 registry or time-stamping authority   5 not authorised   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runRechain(ctx, s, in, args) }),
	}
	f := c.Flags()
	f.StringArrayVar(&in.chain, "chain", nil, "certificates in `FILE|DIR`, in any order: the new ones are enough")
	f.BoolVar(&in.aia, "aia", false, aiaUsage)
	f.BoolVar(&in.all, "all", false, "all that the repositories or references given lead to")
	f.StringArrayVar(&in.replacing, "replacing", nil, "only signatures whose chain has the certificate in `FILE`; no new chain has it")
	f.StringVar(&in.signedBy, "signed-by", "", "only signatures whose signer's name has all of `DN`")
	f.Var(&in.expiring, "expiring", "only signatures whose chain ends within `DURATION`, as 30d")
	f.IntVar(&in.limit, "limit", 0, "write at most `N` signatures, then stop")
	f.BoolVar(&in.replace, "replace", false, "delete the old signature once the new one is listed")
	f.BoolVar(&in.allowIdentityChange, "allow-identity-change", false, "the new certificate may name another subject")
	f.BoolVar(&in.allowShorter, "allow-shorter", false, "the new chain may end earlier")
	f.BoolVar(&in.dryRun, "dry-run", false, "show the plan, write nothing")
	in.stamp.bind(c)
	in.judging.bindGate(c)
	in.judging.listsAlone = true
	in.batch.bind(c)
	return c
}

func runRechain(ctx context.Context, s *session, in rechainInputs, args []string) error {
	var items []item
	var err error
	if in.all {
		items, err = in.batch.allItems(s, args, "REPO…")
	} else {
		items, err = in.batch.items(s, args, form{words: 1, signatures: true}, "REF…")
	}
	if err != nil {
		return err
	}
	r, err := in.begin(s)
	if err != nil {
		return err
	}
	b := batch[signer.RechainResult]{
		kind:    "rechain",
		full:    ui.Rechain,
		line:    ui.RechainLine,
		word:    ui.RechainWord,
		skipped: nothingFits,
		partial: func(v signer.RechainResult) bool { return slices.ContainsFunc(v.Plans, r.comesOf) },
		finish:  r.finish,
	}
	if in.dryRun {
		b.fold = r.plan.Add
		b.whole = func(w io.Writer, _ []signer.RechainResult, failed []ui.Failure) { r.plan.Write(w, failed) }
		b.full = func(w io.Writer, v signer.RechainResult) { r.plan.Add(v); r.plan.Write(w, nil) }
	}
	if in.all {
		b.skipped, b.also, b.told = nil, r.also, refusedAlone
		return runAll(ctx, s, in.batch, items, b, allOptions{toldUnseen: in.dryRun}, r.visit)
	}
	items = gathered(items)
	r.alone = len(items) == 1 && in.batch.file == ""
	r.options.Many = !r.alone
	b.do = func(ctx context.Context, it item) (signer.RechainResult, error) {
		v, err := r.reference(ctx, it)
		if err != nil {
			err = fmt.Errorf("rechain %s: %w", it[0], err)
		}
		return v, err
	}
	return runBatch(ctx, s, in.batch, items, b)
}

// gathered puts the signatures of one artifact that several lines of a plan name into one item.
func gathered(items []item) []item {
	var out []item
	at := map[string]int{}
	for _, it := range items {
		if len(it) == 1 {
			out = append(out, it)
			continue
		}
		if i, ok := at[it[0]]; ok {
			out[i] = append(out[i][:len(out[i]):len(out[i])], it[1:]...)
			continue
		}
		at[it[0]] = len(out)
		out = append(out, it)
	}
	return out
}

// reference rechains the signatures of what an item names: all, or those that it names too.
func (r *rechainer) reference(ctx context.Context, it item) (signer.RechainResult, error) {
	var out signer.RechainResult
	ref, err := artifact(it[0])
	if err != nil {
		return out, err
	}
	if ref.Kind == registry.Archive {
		return out, usageHint("copy it into a layout first: imprint copy "+it[0]+" oci:DIR",
			"an archive is written once and takes no signature")
	}
	out = signer.RechainResult{Reference: ref.String(), Digest: ref.Digest, Plans: []signer.Plan{}, DryRun: r.in.dryRun}
	if r.quota.spent() && !r.in.dryRun {
		return out, nil
	}
	repo, err := r.s.open(ctx, ref)
	if err != nil {
		return out, err
	}
	defer repo.Close()
	root, err := repo.Resolve(ctx, ref)
	if err != nil {
		return out, err
	}
	sigs, err := repo.Signatures(ctx, root.Descriptor)
	if err != nil {
		return out, err
	}
	out.Digest = root.Descriptor.Digest
	if len(sigs) == 0 {
		return out, unsigned(ref.String(), "there is nothing to put a new chain on")
	}
	a := renewal{rechainer: r, repo: repo, ref: ref, root: root.Descriptor, sigs: sigs}
	for _, d := range it[1:] {
		a.only = append(a.only, digest.Digest(d))
	}
	err = a.run(ctx)
	out.Plans, out.LeftOut = append(out.Plans, a.plans...), a.leftOut
	for _, p := range a.plans {
		out.Warnings = append(out.Warnings, p.Warnings...)
	}
	r.warn(a.plans)
	return out, err
}

// warn says what there is to know of plans: of a single artifact on its screen, else what may be so of thousands once in the end.
func (r *rechainer) warn(plans []signer.Plan) {
	if r.alone && !r.s.json {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range plans {
		for _, w := range p.Warnings {
			switch {
			case !r.alone && p.Breaks != "" && strings.HasPrefix(w, p.Breaks):
				r.beside++
			case !r.alone && p.Status == signer.StatusOldLeft:
				r.oldLeft++
				r.leftWhy = cmp.Or(r.leftWhy, w)
			default:
				r.s.warn("rechain", w)
			}
		}
	}
}

// finish says what is so of many, and whether the certificates given are for any of the signatures that --all found.
func (r *rechainer) finish(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.beside > 0 && !r.in.dryRun {
		r.s.warn("rechain", fmt.Sprintf("of %d signatures the present one has to stay beside the new one: the time that it states lies outside the validity of the new chain",
			r.beside))
	}
	if r.oldLeft > 0 {
		r.s.warn("rechain", fmt.Sprintf("%d old signatures were not deleted: %s", r.oldLeft, r.leftWhy))
	}
	if !r.in.all || r.fits > 0 || r.skipped == nil {
		return nil
	}
	return r.skipped
}

// visit rechains the signatures of something that --all has found: a result for each.
func (r *rechainer) visit(ctx context.Context, repo *registry.Repo, v registry.Visit) (out []signer.RechainResult, err error) {
	if !hasSignature(v.Referrers) || r.quota.spent() && !r.in.dryRun {
		return nil, nil
	}
	sigs, err := repo.SignaturesIn(ctx, v.Subject, v.Referrers)
	if err != nil {
		return nil, err
	}
	ref := repo.Reference().With("", v.Subject.Digest)
	a := renewal{rechainer: r, repo: repo, ref: ref, root: v.Subject, sigs: sigs}
	if len(sigs) > 0 {
		err = a.run(ctx)
	}
	for _, p := range a.plans {
		if p.Status == signer.StatusLater && !r.in.dryRun {
			continue
		}
		if err != nil && p.Status == signer.StatusPlanned && !r.in.dryRun {
			continue // nothing became of it: the error says why
		}
		out = append(out, signer.RechainResult{
			Reference: ref.String(), Digest: v.Subject.Digest, Plans: []signer.Plan{p}, DryRun: r.in.dryRun, Warnings: p.Warnings,
		})
	}
	r.warn(a.plans)
	if err != nil {
		err = fmt.Errorf("rechain %s: %w", ref, err)
	}
	if err == nil && !r.in.dryRun && r.quota.reached() {
		err = errEnough
	}
	return out, err
}

// comesOf reports whether something came of a plan although others of the artifact failed: it was written, or a dry run shows it.
func (r *rechainer) comesOf(p signer.Plan) bool {
	switch p.Status {
	case signer.StatusWritten, signer.StatusReplaced, signer.StatusOldLeft:
		return true
	case signer.StatusPlanned:
		return r.in.dryRun
	}
	return false
}

// refusedAlone reports whether a result is of signatures that were refused: a failure tells of them.
func refusedAlone(v signer.RechainResult) bool {
	return len(v.Plans) > 0 && !slices.ContainsFunc(v.Plans, func(p signer.Plan) bool {
		return p.Status != signer.StatusSkipped || passedOver(p.Reason) || slices.Contains([]string{"not-found", "too-large", "digest-mismatch"}, p.Reason)
	})
}

func hasSignature(list []registry.Referrer) bool {
	for _, r := range list {
		// One without a type may be one.
		if r.ArtifactType == "" || r.ArtifactType == registry.ArtifactTypeSignature {
			return true
		}
	}
	return false
}

// nothingFits returns why none of an artifact's signatures can have a new chain of the certificates given, nil if one
// can: in a batch that is counted, and an error only if it is so of all.
func nothingFits(r signer.RechainResult) error {
	for _, p := range r.Plans {
		if p.Status != signer.StatusSkipped {
			return nil
		}
	}
	if len(r.Plans) == 0 {
		return nil
	}
	return &misfit{r.Plans[0].Reason, r.Plans[0].Detail}
}

// A misfit is that no certificate given is for the key of any signature.
type misfit struct{ code, why string }

func (e *misfit) Error() string  { return e.why }
func (e *misfit) Reason() string { return e.code }
func (e *misfit) exitCode() int  { return exitUsage }

// endsBy is the time that --expiring means.
func (in rechainInputs) endsBy(now time.Time) time.Time {
	if in.expiring == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(in.expiring))
}
