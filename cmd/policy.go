package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

func newPolicy(s *session) *cobra.Command {
	return family(&cobra.Command{
		Use:   "policy COMMAND",
		Short: "check and explain trust policies",
		Long: "Says what a trust policy holds and which of its rules decides. It reads files only: no registry is asked. " +
			"How a policy is written: imprint help policy",
	}, newPolicyCheck(s), newPolicyExplain(s), newPolicyImport(s), newPolicyExport(s), newPolicyDelegate(s))
}

// policyFlags are the judging flags that say which policy, without those that narrow it.
type policyFlags struct{ judging judgingFlags }

func (p *policyFlags) bind(c *cobra.Command) {
	c.Flags().StringVar(&p.judging.policyFile, "policy", "", "the trust policy in `FILE`")
	c.Flags().StringVar(&p.judging.sha256, "policy-sha256", "", "refuse a policy whose digest is not `HEX`")
}

// load returns the policy that verify would judge by. Its warnings are for the caller to say.
func (p policyFlags) load(s *session, doing string) (*trust.Policy, error) {
	policy, err := p.judging.unnarrowed(s)
	if err == nil {
		err = p.judging.pinned(policy)
	}
	var none *noPolicy
	if errors.As(err, &none) {
		return nil, &usageError{code: none.Reason(), err: fmt.Errorf("%s: %w", doing, err),
			hint: "name it: --policy FILE; how one is written: imprint help policy"}
	}
	if errors.Is(err, trust.ErrPolicy) { // the usual hint names this command
		return nil, &hinted{err, "correct it there: nothing is judged by a policy that does not load; how one is written: imprint help policy"}
	}
	if err != nil {
		return nil, err
	}
	return policy, nil
}

func newPolicyCheck(s *session) *cobra.Command {
	var in policyFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "load a policy and show what it says",
		Long: `Loads a policy with every file that it names and shows all of it: each root with the fingerprint of its certificates to
compare, each scope with what it trusts in the end. Looked for without --policy: IMPRINT_POLICY, ~/.config/imprint/policy.yaml,
/etc/imprint/policy.yaml. A policy that loads cannot fail later.`,
		Example: `  imprint policy check --policy prod.yaml
  imprint policy check -o json`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{exits: "0 it loads   3 it does not, or there is none"},
		RunE: s.run(func(context.Context, []string) error {
			policy, err := in.load(s, "policy check")
			if err != nil {
				return err
			}
			sum := policy.Summary(s.now)
			return s.answer("policy-check", sum, func(w io.Writer) { ui.PolicyCheck(w, sum, s.now) })
		}),
	}
	in.bind(c)
	return c
}

func newPolicyExplain(s *session) *cobra.Command {
	var in policyFlags
	var list batchFlags
	c := &cobra.Command{
		Use:   "explain REF…",
		Short: "which scope decides about a reference, and why",
		Long: `Says which scope of the policy decides about a reference, which roots it trusts, and why it and no other. The reference need
not exist, and may be a repository without a tag: nothing is asked of a registry. Whether it is accepted: imprint verify.`,
		Example: `  imprint policy explain harbor.acme.example/prod/app --policy prod.yaml
  imprint policy explain --batch references.txt -o json`,
		Args:        arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 explained, whatever the policy says   3 usage, or the policy does not load"},
		RunE: s.run(func(ctx context.Context, args []string) error {
			items, err := list.items(s, args, form{words: 1}, "REF…")
			if err != nil {
				return err
			}
			policy, err := in.load(s, "policy explain "+items[0][0])
			if err != nil {
				return err
			}
			for _, w := range policy.Warnings(s.now) {
				s.warn("policy", w)
			}
			return runBatch(ctx, s, list, items, batch[trust.Explanation]{
				kind: "policy-explain",
				do: func(_ context.Context, it item) (trust.Explanation, error) {
					ref, err := explainable(it[0])
					if err != nil {
						return trust.Explanation{}, fmt.Errorf("policy explain %s: %w", it[0], err)
					}
					return policy.Explain(ref), nil
				},
				full: ui.PolicyExplain,
				line: ui.PolicyExplainLine,
				word: ui.PolicyExplainWord,
			})
		}),
	}
	in.bind(c)
	list.bind(c)
	return c
}

// explainable parses a reference by which a scope can be selected: a remote one, or a layout's full name.
func explainable(text string) (registry.Reference, error) {
	ref, err := registry.ParseReference(text)
	if err != nil || ref.Kind == registry.Remote {
		return ref, err
	}
	if full, ok := ref.FullName(); ok {
		return full, nil
	}
	return ref, usageHint("explain the name that it is going to have: HOST/REPO:TAG",
		"a policy speaks of registries, and this one's name is not HOST/REPO:TAG")
}
