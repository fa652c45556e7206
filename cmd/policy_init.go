package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
	"github.com/imprint-oci/imprint/trust/foreign"
)

type policyInitInputs struct {
	list         batchFlags
	as           string
	fingerprints []string
	out          string
	overwrite    bool
}

func newPolicyInit(s *session) *cobra.Command {
	var in policyInitInputs
	c := &cobra.Command{
		Use:   "init REF…",
		Short: "propose a policy from the signatures on a reference",
		Long: `Reads off the signatures on artifacts what a policy would have to hold in order to accept them: roots with their fingerprints,
identities, claims, timestamps, a scope for each repository. It proves nothing: whoever may push there can sign there too, under a
root of his own. Compare each fingerprint with one that came by another way, and hand it in with --root-sha256: only roots that are
named so, by their whole fingerprint, get into the policy that --out writes.`,
		Example: `  imprint policy init harbor.acme.example/prod/app:1.4.2
  imprint policy init harbor.acme.example/prod/app:1.4.2 --root-sha256 HEX --out policy
  imprint policy init oci:app:1.0 --as harbor.acme.example/prod/app:1.0`,
		Args: arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 proposed, or written   1 unsigned, or no signature that a policy could accept   3 usage, or no root has that fingerprint   " +
			"4 could not find out   5 not authorised   8 the local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runPolicyInit(ctx, s, in, args) }),
	}
	f := c.Flags()
	f.StringVar(&in.list.file, "batch", "", "take the references from `FILE`, one a line (- for stdin)")
	f.IntVar(&in.list.jobs, "jobs", 16, "look at `N` references at once")
	f.StringVar(&in.as, "as", "", "propose for `HOST/REPO[:TAG]`, where it is going to live")
	f.StringArrayVar(&in.fingerprints, "root-sha256", nil, "a root whose certificate has the SHA-256 `HEX`, which you have from elsewhere than the registry")
	f.StringVar(&in.out, "out", "", "write policy.yaml, and the certificates into roots/, in the folder `DIR`")
	f.BoolVar(&in.overwrite, "overwrite", false, "replace files that are there")
	return c
}

func runPolicyInit(ctx context.Context, s *session, in policyInitInputs, args []string) error {
	items, err := in.list.items(s, args, form{words: 1}, "REF…")
	if err != nil {
		return err
	}
	as, err := judgingFlags{as: in.as}.reference()
	switch {
	case err != nil:
		return err
	case in.as != "" && len(items) > 1:
		return usageHint("look at one reference, or leave out --as", "--as is one place, and these are %d references", len(items))
	case in.out != "" && len(in.fingerprints) == 0:
		return &usageError{code: "fingerprint-required", hint: "look first, without --out; compare the fingerprints by another way than this registry; then --root-sha256 HEX for each that is right",
			err: errors.New("--out writes a policy for roots that somebody has compared: --root-sha256 names none")}
	case in.overwrite && in.out == "":
		return usage("--overwrite without --out: nothing is written")
	}
	looked, err := lookAll(ctx, s, in, items, as)
	if err != nil {
		return err
	}
	proposal := trust.Propose(looked, s.now)
	tell := func(answer ui.PolicyProposal) error {
		v := unproposable(answer.Proposal)
		if v != nil {
			answer.Reason = v.why
		}
		err := s.answer("policy-init", answer, func(w io.Writer) { ui.PolicyInit(w, answer) })
		if err == nil && v != nil {
			return v
		}
		return err
	}
	if len(in.fingerprints) == 0 || unproposable(proposal) != nil {
		return tell(ui.PolicyProposal{Proposal: proposal})
	}
	chosen, err := proposal.Choose(in.fingerprints)
	if err != nil {
		return &handedIn{fmt.Errorf("policy init %s: %w", items[0][0], err)}
	}
	answer := ui.PolicyProposal{Proposal: chosen, Chosen: true, Passed: len(proposal.Roots) + len(proposal.Authorities) - len(chosen.Roots) - len(chosen.Authorities)}
	if unproposable(chosen) != nil {
		return tell(answer)
	}
	files := chosen.Files()
	answer.Policy = string(files[len(files)-1].Content)
	if err := tryProposal(s, files, looked); err != nil {
		return err
	}
	if in.out != "" {
		if answer.Files, err = writeProposal(s, in, files); err != nil {
			return err
		}
		answer.Folder = in.out
	}
	return tell(answer)
}

// unproposable is the verdict on artifacts of which no policy would accept each; nil: there is a policy for them.
func unproposable(p trust.Proposal) *verdict {
	v := &verdict{}
	for _, a := range p.Artifacts {
		if a.Usable > 0 {
			continue
		}
		code, why := exitRejected, "no-usable-signature"
		switch {
		case a.Signatures == 0:
			why = "unsigned"
		case len(p.LeftOut) > 0 && !slices.ContainsFunc(p.LeftOut, func(l trust.LeftOut) bool { return l.Reference == a.Reference && l.Reason != "unfetched" }):
			code, why = exitUnknown, "unfetched"
		}
		if code > v.code { // what could not be found out comes before what is known
			v.code, v.why = code, why
		}
	}
	switch v.why {
	case "":
		return nil
	case "unsigned":
		v.hint = "there is nothing to propose from what nobody signed: " + reasonHints["unsigned"]
	case "unfetched":
		v.hint = "run it again; imprint doctor REF looks closer"
	default:
		v.hint = "a policy would not accept it; imprint inspect REF shows everything that its signatures say"
	}
	return v
}

// lookAll reads the signatures of each reference.
func lookAll(ctx context.Context, s *session, in policyInitInputs, items []item, as registry.Reference) ([]trust.Looked, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, errs := make([]trust.Looked, len(items)), make([]error, len(items))
	room := make(chan struct{}, in.list.jobs)
	var all sync.WaitGroup
	for i, it := range items {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			if out[i], errs[i] = lookAt(ctx, s, it[0], as); errs[i] != nil {
				errs[i] = fmt.Errorf("policy init %s: %w", it[0], errs[i])
				cancel()
			}
		})
	}
	all.Wait()
	for _, err := range errs { // what cancelled the others is what is said
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil, err
		}
	}
	return out, errors.Join(errs...)
}

func lookAt(ctx context.Context, s *session, text string, as registry.Reference) (trust.Looked, error) {
	ref, err := artifact(text)
	if err != nil {
		return trust.Looked{}, err
	}
	at, full := ref.FullName()
	switch {
	case as != (registry.Reference{}):
		at = as.With(cmp.Or(as.Tag, ref.BareTag()), "")
	case full:
	case ref.Kind != registry.Remote:
		return trust.Looked{}, &usageError{code: "as-required", hint: reasonHints["as-required"],
			err: fmt.Errorf("its name is not HOST/REPO:TAG, and a policy speaks of registries")}
	default:
		at = ref
	}
	repo, err := s.open(ctx, ref)
	if err != nil {
		return trust.Looked{}, err
	}
	defer repo.Close()
	m, err := repo.Resolve(ctx, ref)
	if err != nil {
		return trust.Looked{}, err
	}
	sigs, err := repo.Signatures(ctx, m.Descriptor)
	if errors.Is(err, registry.ErrCapped) {
		return trust.Looked{}, &notReadOut{err}
	}
	if err != nil {
		return trust.Looked{}, fmt.Errorf("listing signatures: %w", err)
	}
	return trust.Looked{Reference: at.With(at.Tag, m.Descriptor.Digest), Subject: m.Descriptor, Signatures: sigs}, nil
}

// tryProposal loads what would be written, as verify will, and sees that it accepts what it was read off.
func tryProposal(s *session, files []trust.ProposedFile, looked []trust.Looked) error {
	dir, err := os.MkdirTemp("", "imprint-policy-*")
	if err != nil {
		return &diskError{fmt.Errorf("trying the policy: %w", cause(err))}
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "roots"), 0o700); err != nil {
		return &diskError{fmt.Errorf("trying the policy: %w", cause(err))}
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(f.Name)), f.Content, 0o600); err != nil {
			return &diskError{fmt.Errorf("trying the policy: %w", cause(err))}
		}
	}
	policy, err := trust.Load(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		return fmt.Errorf("trying the policy before it is written: %w", err)
	}
	for _, a := range looked {
		if r := policy.Judge(a.Reference, a.Subject, a.Signatures, s.now); r.Verdict != trust.Accepted {
			return &refusal{report: r, text: fmt.Sprintf("what the signatures propose does not accept %s: %s (%s); nothing was written", r.Reference, r.Reason, r.Detail)}
		}
	}
	return nil
}

// writeProposal writes the files, the policy last: what names files that are not there would not load.
func writeProposal(s *session, in policyInitInputs, files []trust.ProposedFile) ([]string, error) {
	var out []string
	var all []foreign.File
	for _, f := range files {
		out = append(out, filepath.Join(in.out, filepath.FromSlash(f.Name)))
		all = append(all, foreign.File{Name: f.Name, Content: f.Content})
	}
	if err := s.writeAll(in.out, all, in.overwrite); err != nil {
		return nil, err
	}
	return out, nil
}
