package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// A gate is what an artifact must pass before it is copied, or gets a new signature.
type gate struct {
	policy           *trust.Policy // nil: none
	root             bool          // the policy is that of --root
	as               registry.Reference
	requireSignature bool
	onlyAccepted     bool                // what the policy does not accept stays behind
	chain            []*x509.Certificate // to renew signatures with on the way
	now              time.Time
}

// gate returns what the command line asks to be passed: nothing, if neither a policy nor a root stands on it.
func (j judgingFlags) gate(s *session) (gate, error) {
	policy, err := j.onCommandLine(s)
	if err != nil {
		return gate{}, err
	}
	as, err := j.reference()
	return gate{policy: policy, root: len(j.roots) > 0, as: as, now: s.now}, err
}

// A passage is an artifact on its way through a gate.
type passage struct {
	repo        *registry.Repo // where it is; review does not ask it
	source      registry.Reference
	root        registry.Manifest
	destination registry.Reference
	tags        []string // at the destination
}

// claimed are the tags that have to be claimed. A layout's NAME may be a full name: what is claimed is its tag.
func (p passage) claimed() []string {
	var tags []string
	for _, t := range p.tags {
		tags = append(tags, p.destination.With(t, "").BareTag())
	}
	return tags
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
func (g gate) judge(ctx context.Context, p passage) (warnings []string, err error) {
	if g.policy == nil && !g.requireSignature && len(p.tags) == 0 {
		return nil, nil
	}
	sigs, err := p.repo.Signatures(ctx, p.root.Descriptor)
	if err != nil {
		return nil, err
	}
	if g.policy != nil {
		if err := g.judgeByPolicy(p, sigs); err != nil {
			return nil, err
		}
	}
	contents, failed := verified(sigs, p.root)
	if g.requireSignature && len(contents) == 0 {
		if failed != nil {
			return nil, failed
		}
		return nil, unsigned(p.source.String(), "--require-signature asks for one")
	}
	if g.policy != nil {
		return nil, nil
	}
	return unclaimed(contents, p.destination, p.claimed()), nil
}

func (g gate) judgeByPolicy(p passage, sigs []registry.Signature) error {
	at, err := g.judgedAs(p.source)
	if err != nil {
		return err
	}
	names := p.claimed()
	if len(names) == 0 {
		names = []string{g.as.Tag} // "": by its digest alone
	}
	for _, tag := range names {
		ref := at.With(tag, p.root.Descriptor.Digest)
		if report := g.policy.Judge(ref, p.root.Descriptor, sigs, g.now); !report.Passed() {
			report.Reference = ref.With(tag, "").String()
			if tag == "" {
				report.Reference = ref.String()
			}
			return &refusal{report}
		}
	}
	return nil
}

// judgedAs returns the name by which the source is judged.
func (g gate) judgedAs(source registry.Reference) (registry.Reference, error) {
	if g.as != (registry.Reference{}) {
		return g.as, nil
	}
	if full, ok := source.FullName(); ok {
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
	if full, ok := destination.FullName(); ok {
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

// review returns what [copy.Artifact] asks before a byte moves, nil if nothing is to be asked: then remark may have something to say.
func (g gate) review(p passage) func(context.Context, copy.Graph) (copy.Review, error) {
	if g.policy == nil && !g.requireSignature && !g.onlyAccepted && len(g.chain) == 0 {
		return nil
	}
	return func(ctx context.Context, graph copy.Graph) (copy.Review, error) {
		p.root = graph.Root.Manifest
		sigs, err := graph.Signatures(ctx, graph.Root)
		if err != nil {
			return copy.Review{}, err
		}
		if g.policy != nil {
			return copy.Review{}, g.judgeByPolicy(p, sigs)
		}
		contents, failed := verified(sigs, p.root)
		if g.requireSignature && len(contents) == 0 {
			if failed != nil {
				return copy.Review{}, failed
			}
			return copy.Review{}, unsigned(p.source.String(), "--require-signature asks for one")
		}
		return copy.Review{Warnings: unclaimed(contents, p.destination, p.claimed())}, nil
	}
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
		contents, _ := verified(sigs, graph.Root.Manifest)
		return unclaimed(contents, p.destination, p.claimed())
	}
}

// check refuses flags that need one another.
func (g gate) check() error {
	if g.onlyAccepted && g.policy == nil {
		return usageHint("name what to judge by: --policy FILE or --root FILE", "--only-accepted without a policy or a root")
	}
	return nil
}
