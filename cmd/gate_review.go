package cmd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
)

// check refuses flags that need one another.
func (g gate) check() error {
	if g.onlyAccepted && g.policy == nil {
		return usageHint("name what to judge by: --policy FILE or --root FILE", "--only-accepted without a policy or a root")
	}
	return nil
}

// review returns what [copy.Artifact] asks before a byte moves; nil if nothing is to be asked: then remark may have something to say.
func (g gate) review(p passage) func(context.Context, copy.Graph) (copy.Review, error) {
	if g.policy == nil && !g.requireSignature && len(g.chain) == 0 {
		return nil
	}
	return func(ctx context.Context, graph copy.Graph) (copy.Review, error) { return g.reviewGraph(ctx, p, graph) }
}

// remark returns what warns of tags that no signature claims where there is no review, for [copy.Options.Remark]: nothing waits for it.
func (g gate) remark(p passage) func(context.Context, copy.Graph) []string {
	if g.review(p) != nil || len(p.tags) == 0 {
		return nil
	}
	return func(ctx context.Context, graph copy.Graph) []string {
		sigs, err := graph.Signatures(ctx, graph.Root)
		if err != nil {
			return nil
		}
		contents, _, _ := verified(sigs, graph.Root.Manifest)
		return unclaimed(contents, p.destination, p.claimed())
	}
}

// A hearing is an artifact of the graph with its signatures: those at the source, and those that are added on the way.
type hearing struct {
	subject *registry.Node
	sigs    []registry.Signature
	renewed []signer.Plan
}

// arriving are the signatures that would stand at the destination.
func (h *hearing) arriving() []registry.Signature {
	all := slices.Clone(h.sigs)
	for _, p := range h.renewed {
		all = append(all, p.Proposed())
	}
	return all
}

// reviewGraph renews chains, judges what would arrive, and says what stays behind.
func (g gate) reviewGraph(ctx context.Context, p passage, graph copy.Graph) (copy.Review, error) {
	p.root = graph.Root.Manifest
	hearings, err := g.hear(ctx, graph)
	if err != nil {
		return copy.Review{}, err
	}
	root := hearings[0]
	var r copy.Review
	if len(g.chain) > 0 {
		if r.Warnings, err = g.renew(p, hearings); err != nil {
			return copy.Review{}, err
		}
	}
	if g.policy != nil {
		if err := g.judgeByPolicy(ctx, p, hearings, &r); err != nil {
			return copy.Review{}, err
		}
	}
	if g.requireSignature || g.policy == nil {
		contents, unfetched, wrong := verified(root.arriving(), p.root)
		if g.requireSignature && len(contents) == 0 {
			return copy.Review{}, lacking(p.source.String(), len(root.sigs), unfetched, wrong)
		}
		if g.policy == nil {
			r.Warnings = append(r.Warnings, unclaimed(contents, p.destination, p.claimed())...)
		}
	}
	for _, h := range hearings {
		for _, plan := range h.renewed {
			r.Add = append(r.Add, addition(h.subject, plan))
		}
	}
	return r, nil
}

// lacking is why --require-signature refuses. What could not be fetched may have been the signature that was asked for.
func lacking(reference string, signatures int, unfetched, wrong error) error {
	switch {
	case unfetched != nil:
		return fmt.Errorf("--require-signature: whether %s has one that verifies could not be found out: %w", reference, unfetched)
	case wrong != nil:
		return unverified(reference, signatures, wrong.Error())
	}
	return unsigned(reference, "--require-signature asks for one")
}

// hear reads the signatures of the root, and of all that is signed below it where they are asked about, at once. The root is first.
func (g gate) hear(ctx context.Context, graph copy.Graph) ([]*hearing, error) {
	hearings := []*hearing{{subject: graph.Root}}
	if g.onlyAccepted || len(g.chain) > 0 {
		for n := range graph.Root.All {
			if n != graph.Root && len(signatureNodes(n)) > 0 {
				hearings = append(hearings, &hearing{subject: n})
			}
		}
	}
	const atOnce = 16
	errs := make([]error, len(hearings))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, h := range hearings {
		slots <- struct{}{}
		wg.Go(func() {
			h.sigs, errs[i] = graph.Signatures(ctx, h.subject)
			<-slots
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return hearings, nil
}

// signatureNodes are the referrers of n that are signatures, or are listed as such and are not even manifests.
func signatureNodes(n *registry.Node) []*registry.Node {
	listed := map[digest.Digest]bool{}
	for _, r := range n.Listed {
		if r.ArtifactType == registry.ArtifactTypeSignature {
			listed[r.Digest] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(n.Referrers), func(r *registry.Node) bool {
		return !r.IsSignature() && !listed[r.Manifest.Descriptor.Digest]
	})
}

// judgeByPolicy judges the root under its own name (or --as) with each tag of the destination, and with --only-accepted all that is
// signed below it.
func (g gate) judgeByPolicy(ctx context.Context, p passage, hearings []*hearing, r *copy.Review) error {
	at, err := g.judgedAs(p.source)
	if err != nil {
		return err
	}
	names := p.claimed()
	if len(names) == 0 {
		names = []string{g.as.Tag} // "": by its digest alone
	}
	accepted := rulings{}
	var unpassed *refusal
	for _, tag := range names {
		ref := at.With(tag, p.root.Descriptor.Digest)
		report, err := g.examine(ctx, ref, p.root.Descriptor, hearings[0].arriving())
		if err != nil {
			return err
		}
		if tag != "" {
			report.Reference = ref.With(tag, "").String()
		}
		refused := &refusal{report: report, source: p.source.String()}
		if !report.Passed() {
			return refused
		}
		if report.Verdict != trust.Accepted {
			unpassed = refused
			r.Warnings = append(r.Warnings, refused.Error()+"; its scope does not enforce")
		}
		accepted.add(report)
	}
	if !g.onlyAccepted {
		return nil
	}
	if !accepted.any() && unpassed != nil {
		return unpassed // nobody would know it by a signature any more
	}
	for _, h := range hearings[1:] {
		d := h.subject.Manifest.Descriptor
		report, err := g.examine(ctx, at.With("", d.Digest), d, h.arriving())
		if err != nil {
			return err
		}
		if report.Verdict == trust.Undetermined && report.Reason != "unfetched" { // of those that could not be read leave asks whether they may be had
			return &refusal{report: report}
		}
		accepted.add(report)
	}
	for d, one := range accepted {
		if one.undetermined {
			return &refusal{report: trust.Report{Reference: p.source.String(), Verdict: trust.Undetermined, Reason: one.reason,
				Detail: fmt.Sprintf("signature %s: %s", short(d), one.detail)}}
		}
	}
	return g.leave(accepted, hearings, r)
}

// A ruling is what the policy says of a signature.
type ruling struct {
	accepted     bool // for what it refers to, under some name
	undetermined bool // it may be, the next time
	reason       string
	detail       string
}

type rulings map[digest.Digest]ruling

func (r rulings) add(report trust.Report) {
	for _, sig := range report.Signatures {
		if _, known := r[sig.Digest]; sig.Accepted || !known {
			r[sig.Digest] = ruling{sig.Accepted, sig.Undetermined, sig.Reason, sig.Detail}
		}
	}
}

func (r rulings) any() bool {
	for _, one := range r {
		if one.accepted {
			return true
		}
	}
	return false
}

// leave leaves behind every signature that is not accepted for what it refers to. One that could not be asked for now may be
// accepted the next time: then nothing is copied.
func (g gate) leave(accepted rulings, hearings []*hearing, r *copy.Review) error {
	r.Leave = map[digest.Digest]string{}
	for _, h := range hearings {
		for _, sig := range h.sigs {
			if sig.Err != nil && unavailable(sig.Err) {
				return fmt.Errorf("--only-accepted: judging signature %s of %s: %w", sig.Descriptor.Digest, sig.Subject.Digest, sig.Err)
			}
		}
		for _, n := range signatureNodes(h.subject) {
			d := n.Manifest.Descriptor.Digest
			if one := accepted[d]; !one.accepted {
				r.Leave[d] = cmp.Or(one.reason, "manifest-malformed") // not even listed as a signature
			}
		}
		h.renewed = slices.DeleteFunc(h.renewed, func(p signer.Plan) bool {
			one := accepted[p.New]
			if !one.accepted {
				r.Warnings = append(r.Warnings, fmt.Sprintf("signature %s is not renewed: with its new chain it is not accepted: %s", short(p.Signature), one.reason))
			}
			return !one.accepted
		})
	}
	return nil
}
