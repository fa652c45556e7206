package cmd

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/cmd/ui"
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
	chain            []*x509.Certificate // to renew signatures by on the way
	now              time.Time
	lists            *trust.Lists   // of --crl, which hold for new chains without a policy, too; nil: none
	sources          *trust.Sources // where the policy's further questions are asked
}

// gate returns what the command line asks to be passed: nothing, if neither a policy nor a root stands on it.
func (j judgingFlags) gate(s *session) (gate, error) {
	policy, err := j.onCommandLine(s)
	if err != nil {
		return gate{}, err
	}
	var lists *trust.Lists
	if j.listsAlone || policy != nil {
		if lists, err = j.lists(s); err != nil {
			return gate{}, err
		}
	}
	as, err := j.reference()
	return gate{policy: policy, root: len(j.roots) > 0, as: as, now: s.now, lists: lists, sources: s.trustSources()}, err
}

// examine judges by the gate's policy.
func (g gate) examine(ctx context.Context, ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature) (trust.Report, error) {
	return g.policy.Examine(ctx, ref, subject, sigs, g.now, g.sources)
}

// examineOne judges one signature alone, which cannot satisfy a rule that requires several: it is enough that it counts for it.
func (g gate) examineOne(ctx context.Context, ref registry.Reference, subject ocispec.Descriptor, sig registry.Signature) (report trust.Report, counts bool, err error) {
	report, err = g.examine(ctx, ref, subject, []registry.Signature{sig})
	return report, report.Passed() || report.Accepts(sig.Descriptor.Digest), err
}

// A passage is an artifact on its way through a gate.
type passage struct {
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

// A refusal is that what was to be copied or written is not accepted: by a policy, or for want of a signature.
type refusal struct {
	report trust.Report
	source string // where it is, if it was judged under another name
	with   string // how what was judged differs from what is there: "without signature …"
	text   string // the whole error, where no policy was asked
}

// unsigned is the refusal of what has no signature where no policy was asked.
func unsigned(reference, why string) error {
	return &refusal{
		report: trust.Report{Reference: reference, Verdict: trust.Rejected, Reason: "unsigned", Detail: why},
		text:   fmt.Sprintf("%s has no signature: %s", reference, why),
	}
}

// unverified is the refusal of what has signatures and none that matches its certificate.
func unverified(reference string, signatures int, why string) error {
	what := "its signature does not"
	if signatures > 1 {
		what = fmt.Sprintf("none of its %d signatures does", signatures)
	}
	return &refusal{
		report: trust.Report{Reference: reference, Verdict: trust.Rejected, Reason: "signature-invalid", Detail: what},
		text:   fmt.Sprintf("%s has no signature that verifies: %s: %s", reference, what, why),
	}
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
	if e.text != "" {
		return e.text
	}
	what := e.report.Reference
	if e.with != "" {
		what += " " + e.with
	}
	text := fmt.Sprintf("the policy does not accept %s: %s", what, e.report.Reason)
	if why := e.why(); why != "" {
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

// hint says what to do next, of the place where the artifact is; what explains the policy is asked by the name that was judged.
func (e *refusal) hint() string {
	report := e.report
	if e.source != "" && report.Reason != "no-scope" && report.Reason != "rejected-by-policy" {
		report.Reference = e.source
	}
	return ui.VerifyHint(report)
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

// verified returns what the signatures of root say that match their own certificates; of the others, why one could not be fetched,
// and why one is wrong.
func verified(sigs []registry.Signature, root registry.Manifest) (out []envelope.Content, unfetched, wrong error) {
	for _, sig := range sigs {
		if sig.Err != nil {
			if unread(sig.Err) {
				unfetched = cmp.Or(unfetched, sig.Err)
			} else {
				wrong = cmp.Or(wrong, sig.Err)
			}
			continue
		}
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		var c envelope.Content
		if err == nil {
			c, err = e.Verify()
		}
		if err == nil && c.Payload.Digest != root.Descriptor.Digest {
			err = fmt.Errorf("%w: it signs %s", envelope.ErrSignature, c.Payload.Digest)
		}
		if err != nil {
			wrong = cmp.Or(wrong, fmt.Errorf("signature %s: %w", sig.Descriptor.Digest, err))
			continue
		}
		out = append(out, c)
	}
	return out, unfetched, wrong
}

// unread reports whether an error of reading a signature says that it could not be had, and not that it is wrong.
func unread(err error) bool {
	return !errors.Is(err, registry.ErrMalformed) && !errors.Is(err, registry.ErrAmbiguous) && !errors.Is(err, registry.ErrTooLarge)
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
