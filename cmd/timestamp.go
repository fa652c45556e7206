package cmd

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

type timestampInputs struct {
	stamp    stampFlags
	all      bool
	replace  bool
	expiring duration
	dryRun   bool
	judging  judgingFlags
	batch    batchFlags
}

func newTimestamp(s *session) *cobra.Command {
	var in timestampInputs
	c := &cobra.Command{
		Use:   "timestamp REF…",
		Short: "add or refresh a countersignature",
		Long: `Has existing signatures countersigned by a time-stamping authority (RFC 3161), so that verifiers who trust it accept them also after
their certificates have ended. What was signed stays as it is, bit for bit, and no key is needed. It works as long as a signature's chain is valid: a
countersignature of now proves nothing for one that has ended (rechain with --timestamp-url renews both in one step). A signature that has a
countersignature is left alone, unless the certificates of the authority as it is now last longer. The one without stays beside the new one
unless --replace. With --policy or --root what comes of it must be accepted before it is written; a dry run asks for no
countersignature, so there is nothing to judge.`,
		Example: `  imprint timestamp ghcr.io/acme/app:1.4.2 --timestamp-url http://timestamp.digicert.com \
      --timestamp-roots digicert-root.pem
  imprint timestamp --all harbor.example/prod/app --expiring 60d --dry-run \
      --timestamp-url https://tsa.acme.example --timestamp-roots acme-tsa.pem`,
		Args: arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 done, or nothing to add   1 unsigned, not accepted, or a signature that is wrong   3 usage, or a chain that is not valid   " +
			"4 registry or authority   5 not authorised   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runTimestamp(ctx, s, in, args) }),
	}
	f := c.Flags()
	in.stamp.bind(c)
	f.BoolVar(&in.all, "all", false, "everything that the references, or repositories, lead to")
	f.BoolVar(&in.replace, "replace", false, "delete the old signature once the new one is listed")
	f.Var(&in.expiring, "expiring", "only countersignatures whose authority's certificates end within `DURATION`, as 60d")
	f.BoolVar(&in.dryRun, "dry-run", false, "show the plan, write nothing")
	in.judging.bindGate(c)
	in.batch.bind(c)
	return c
}

func runTimestamp(ctx context.Context, s *session, in timestampInputs, args []string) error {
	items, err := in.items(s, args)
	if err != nil {
		return err
	}
	if len(in.stamp.urls) == 0 {
		return usageHint("as --timestamp-url http://timestamp.digicert.com --timestamp-roots FILE", "no time-stamping authority: --timestamp-url is missing")
	}
	g, err := in.judging.gate(s)
	if err != nil {
		return err
	}
	run := &timestampRun{timestampInputs: in, s: s, gate: g, alone: len(items) == 1 && in.batch.file == "" && !in.all}
	if run.stamper, err = in.stamp.stamper(s, policyStampRoots(g)...); err != nil {
		return err
	}
	b := batch[signer.TimestampResult]{
		kind:    "timestamp",
		do:      run.item,
		full:    ui.Timestamp,
		line:    ui.TimestampLine,
		word:    ui.TimestampWord,
		skipped: run.skipped,
	}
	if in.dryRun {
		b.whole = ui.TimestampPlan
		b.full = func(w io.Writer, r signer.TimestampResult) { ui.TimestampPlan(w, []signer.TimestampResult{r}, nil) }
		b.kept = outlined
	}
	if in.all {
		return runAll(ctx, s, in.batch, items, b, allOptions{}, run.visit)
	}
	return runBatch(ctx, s, in.batch, items, b)
}

func (in timestampInputs) items(s *session, args []string) ([]item, error) {
	if in.all {
		return in.batch.allItems(s, args, "REPO…")
	}
	return in.batch.items(s, args, form{words: 1}, "REF…")
}

// policyStampRoots are the roots of time-stamping authorities that the policy of the command line names.
func policyStampRoots(g gate) []*x509.Certificate {
	if g.policy == nil {
		return nil
	}
	return g.policy.TimestampRoots()
}

func outlined(r signer.TimestampResult) signer.TimestampResult {
	r.Plans = slices.Clone(r.Plans)
	for i, p := range r.Plans {
		r.Plans[i] = p.Outline()
	}
	return r
}

// A timestampRun is what holds for all items of a timestamp.
type timestampRun struct {
	timestampInputs
	s       *session
	gate    gate
	stamper *signer.Stamper
	turn    turns
	alone   bool // one artifact, no batch
}

// item does the signatures of one artifact.
func (run *timestampRun) item(ctx context.Context, it item) (signer.TimestampResult, error) {
	r, err := run.reference(ctx, it[0])
	if err != nil {
		err = fmt.Errorf("timestamp %s: %w", it[0], err)
	}
	return r, err
}

func (run *timestampRun) reference(ctx context.Context, text string) (signer.TimestampResult, error) {
	ref, err := signable(text)
	if err != nil {
		return signer.TimestampResult{}, err
	}
	repo, err := run.s.open(ctx, ref)
	if err != nil {
		return signer.TimestampResult{}, err
	}
	defer repo.Close()
	root, err := repo.Resolve(ctx, ref)
	if err != nil {
		return signer.TimestampResult{}, err
	}
	// Beside one another two items of the same artifact would each find it without.
	defer run.turn.take(ref.Repository().With("", root.Descriptor.Digest).String())()
	sigs, err := repo.Signatures(ctx, root.Descriptor)
	if err != nil {
		return signer.TimestampResult{}, err
	}
	if len(sigs) == 0 {
		return signer.TimestampResult{}, unsigned(ref.String(), "there is nothing to countersign")
	}
	return run.signatures(ctx, repo, ref, root.Descriptor, sigs)
}

// visit does the signatures of an artifact that --all came by; one without has no line.
func (run *timestampRun) visit(ctx context.Context, repo *registry.Repo, v registry.Visit) ([]signer.TimestampResult, error) {
	sigs, err := repo.SignaturesIn(ctx, v.Subject, v.Referrers)
	if err != nil || len(sigs) == 0 {
		return nil, err
	}
	ref := repo.Reference().With("", v.Subject.Digest)
	r, err := run.signatures(ctx, repo, ref, v.Subject, sigs)
	if err != nil {
		return nil, fmt.Errorf("timestamp %s: %w", ref, err)
	}
	return []signer.TimestampResult{r}, nil
}

// signatures plans, has countersigned, has judged, and only then writes.
func (run *timestampRun) signatures(ctx context.Context, repo *registry.Repo, ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature) (signer.TimestampResult, error) {
	r := signer.TimestampResult{Reference: ref.String(), Digest: subject.Digest, Plans: []signer.TimestampPlan{}, DryRun: run.dryRun}
	authority, err := run.stamper.Probe(ctx) // once in the run: nothing is begun that nobody would finish
	if err != nil {
		return r, err
	}
	r.Plans = signer.PlanTimestamps(sigs, signer.TimestampOptions{
		Roots: run.stamper.Roots, Authority: authority, Now: run.s.env.Now(), Replace: run.replace, Expiring: time.Duration(run.expiring),
	})
	why, err := run.misfits(r.Plans)
	if err != nil {
		return r, err
	}
	if run.dryRun { // the plan says which would be refused
		return r, nil
	}
	plans, failed := signer.StampAll(ctx, r.Plans, run.stamper)
	refused, err := run.judge(ctx, ref, subject, plans)
	if err != nil {
		return r, err
	}
	plans, err = signer.PushTimestamps(ctx, repo, plans)
	r.Plans = plans
	for _, p := range r.Plans {
		r.Warnings = append(r.Warnings, p.Warnings...)
	}
	err = partlyDone(cmp.Or(err, failed, refused, why), slices.ContainsFunc(plans, stampWritten))
	if err == nil && run.alone && !run.s.json {
		return r, nil // its screen says them
	}
	for _, w := range r.Warnings {
		run.s.warn("timestamp", w)
	}
	return r, err
}

func stampWritten(p signer.TimestampPlan) bool {
	switch p.Status {
	case signer.StatusWritten, signer.StatusReplaced, signer.StatusOldLeft:
		return true
	}
	return false
}

// misfits returns why signatures are not countersigned, where that is to be told in the end although others are: for the others'
// sake it does not stop anything, since whoever may push can plant a wrong one. err is that one could not be read, or that there is no other.
func (run *timestampRun) misfits(plans []signer.TimestampPlan) (why, err error) {
	var wrong, useless error
	fits := 0
	for _, p := range plans {
		failed := p.Err()
		switch {
		case failed == nil:
			fits++
		case unavailable(failed):
			return nil, failed
		case reason(failed) == "would-break-timestamp":
			why = cmp.Or(why, failed)
		case hopeless(failed):
			useless = cmp.Or(useless, renewFirst(failed))
		default:
			wrong = cmp.Or(wrong, failed)
		}
	}
	switch {
	case fits > 0:
		return why, nil
	case why != nil || wrong != nil:
		return nil, cmp.Or(why, wrong)
	case run.alone:
		return nil, useless
	}
	return nil, nil // counted, and no failure as long as there was something to do for others
}

// hopeless reports whether a signature cannot gain by a countersignature, whenever this is run again.
func hopeless(err error) bool {
	switch reason(err) {
	case "expired", "not-yet-valid", "timestamp-ignored":
		return true
	}
	return false
}

// renewFirst is why a signature cannot gain now, with what to do about it.
func renewFirst(err error) error {
	var rule *certchain.RuleError
	switch {
	case reason(err) != "expired":
		return err
	case errors.As(err, &rule):
		return &hinted{err, "renew chain and timestamp in one step: imprint rechain REF --chain FILE --timestamp-url URL"}
	}
	return &hinted{err, "only signing again sets another expiry: imprint sign REF --again"}
}

// skipped returns why none of an artifact's signatures was countersigned, nil if one was, or needed none.
func (run *timestampRun) skipped(r signer.TimestampResult) error {
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

// judge holds each signature that is to be written, alone, against the policy of the command line. What it does not accept is left as it is:
// somebody may have planted it. If it accepts none of them, that is the answer.
func (run *timestampRun) judge(ctx context.Context, ref registry.Reference, subject ocispec.Descriptor, plans []signer.TimestampPlan) (refused, err error) {
	g := run.gate
	if g.policy == nil {
		return nil, nil
	}
	at, err := g.judgedAs(ref)
	if err != nil {
		return nil, err
	}
	at = at.With(cmp.Or(at.Tag, ref.BareTag()), subject.Digest)
	g.now = run.s.env.Now() // a countersignature is younger than the run
	accepted := 0
	for i := range plans {
		p := &plans[i]
		if p.Status != signer.StatusPlanned || p.Restamp {
			if p.Status == signer.StatusUnchanged || p.Status == signer.StatusThere {
				accepted++
			}
			continue
		}
		report, counts, err := g.examineOne(ctx, at, subject, p.Proposed())
		if err != nil {
			return nil, err
		}
		if counts {
			accepted++
			continue
		}
		report.Reference = ref.String()
		because := &refusal{report: report, with: fmt.Sprintf("with a timestamp on signature %.19s", p.Signature)}
		p.Skip(because)
		refused = cmp.Or(refused, error(because))
	}
	if accepted > 0 {
		return nil, nil
	}
	return refused, nil
}
