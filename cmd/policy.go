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
	"github.com/imprint-oci/imprint/trust/foreign"
)

func newPolicy(s *session) *cobra.Command {
	return family(&cobra.Command{
		Use:   "policy COMMAND",
		Short: "propose, check, explain, test, import and export trust policies",
		Long: "Proposes a trust policy from signatures, says what one holds and which of its rules decides, tests it, and translates it. " +
			"How a policy is written: imprint help policy",
	}, newPolicyInit(s), newPolicyCheck(s), newPolicyExplain(s), newPolicyTest(s), newPolicyImport(s), newPolicyExport(s), newPolicyDelegate(s))
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
		err = p.judging.pinned(s, policy)
	}
	var none *noPolicy
	if errors.As(err, &none) {
		return nil, &usageError{code: none.Reason(), err: fmt.Errorf("%s: %w", doing, err),
			hint: "name it: --policy FILE; how one is written: imprint help policy"}
	}
	if errors.Is(err, trust.ErrPolicy) && reason(err) != "policy-unreadable" { // the usual hint names this command
		return nil, &hinted{err, "correct it there: nothing is judged by a policy that does not load; how one is written: imprint help policy"}
	}
	if err != nil {
		return nil, err
	}
	return policy, nil
}

func newPolicyCheck(s *session) *cobra.Command {
	var in policyFlags
	var all bool
	c := &cobra.Command{
		Use:   "check",
		Short: "load a policy and show what it says",
		Long: `Loads a policy with every file that it names and shows all of it: each root with the fingerprint of its certificates to
compare, each scope with what it asks for in the end, those that mirrors make too, and what an export would lose. Looked for
without --policy: IMPRINT_POLICY, ~/.config/imprint/policy.yaml,
/etc/imprint/policy.yaml. A policy that loads cannot fail later.`,
		Example: `  imprint policy check --policy prod.yaml
  imprint policy check -o json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 { // as lint programs are called
				return usageHint("imprint policy check --policy "+args[0], "imprint policy check takes no argument: %q is one too many", args[0])
			}
			return arguments(0, 0, "")(c, args)
		},
		Annotations: map[string]string{exits: "0 it loads   3 it does not, or there is none"},
		RunE: s.run(func(context.Context, []string) error {
			policy, err := in.load(s, "policy check")
			if err != nil {
				return err
			}
			sum := ui.PolicySummary{Summary: policy.Summary(s.now), Exports: losses(policy), All: all}
			return s.answer("policy-check", sum, func(w io.Writer) { ui.PolicyCheck(w, sum, s.now) })
		}),
	}
	in.bind(c)
	c.Flags().BoolVar(&all, "all", false, "show each scope, however many there are")
	return c
}

func newPolicyExplain(s *session) *cobra.Command {
	var in policyFlags
	var list batchFlags
	var all bool
	c := &cobra.Command{
		Use:   "explain REF…",
		Short: "which scope decides about a reference, and why",
		Long: `Says which scope of the policy decides about a reference, which roots it trusts, and why it and no other. The reference need
not exist, and may be a repository without a tag: nothing is asked of a registry. Whether it is accepted: imprint verify.
With --all it lists every scope, those that mirrors make too, with what it asks for in the end: the whole policy as a table.`,
		Example: `  imprint policy explain harbor.acme.example/prod/app --policy prod.yaml
  imprint policy explain --all --policy prod.yaml
  imprint policy explain --batch references.txt -o json`,
		Args: func(c *cobra.Command, args []string) error {
			if !all {
				return arguments(1, many, "REF…")(c, args)
			}
			if len(args) > 0 {
				return usageHint("imprint policy explain --help", "policy explain: references and --all exclude each other")
			}
			for _, name := range []string{"batch", "jobs", "shard", "fail-fast"} {
				if c.Flags().Changed(name) {
					return usage("policy explain: --%s is for references, and --all asks about none", name)
				}
			}
			return nil
		},
		Annotations: map[string]string{exits: "0 explained, whatever the policy says   3 usage, or the policy does not load"},
		RunE: s.run(func(ctx context.Context, args []string) error {
			if all {
				return explainAll(s, in)
			}
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
	c.Flags().BoolVar(&all, "all", false, "every scope of the policy, instead of references")
	return c
}

// explainAll tells the whole policy as a table.
func explainAll(s *session, in policyFlags) error {
	policy, err := in.load(s, "policy explain --all")
	if err != nil {
		return err
	}
	sum := policy.Summary(s.now)
	table := ui.PolicyTable{File: sum.File, Digest: sum.Digest, Timestamps: sum.Timestamps, Revocation: sum.Revocation, Scopes: sum.Scopes}
	for _, w := range sum.Warnings {
		s.warn("policy", w)
	}
	return s.answer("policy-scopes", table, func(w io.Writer) { ui.PolicyScopes(w, table) })
}

// losses says what an export to each of its targets would lose.
func losses(policy *trust.Policy) []ui.PolicyLosses {
	var out []ui.PolicyLosses
	view := policy.View()
	for _, to := range foreign.Targets() {
		lost := foreign.Losses(view, to)
		if lost == nil {
			lost = []foreign.Loss{}
		}
		out = append(out, ui.PolicyLosses{To: to, Losses: lost})
	}
	return out
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
