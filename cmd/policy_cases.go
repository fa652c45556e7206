package cmd

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/trust"
)

func newPolicyTest(s *session) *cobra.Command {
	var in policyFlags
	c := &cobra.Command{
		Use:   "test FILE",
		Short: "hold a policy against a table of references, signatures and verdicts",
		Long: `Judges references as if they had the signatures that a table supposes, and compares the verdicts with those that the table
asks for. No key, no registry and no network take part: a supposed signature counts as sound, and all else of it (its root,
identity, claims, age, algorithm, …) is judged by the same rules as in earnest. How the table is written: docs/policy.md, and
imprint help policy.`,
		Example: `  imprint policy test cases.yaml --policy prod.yaml
  imprint policy test cases.yaml --policy prod.yaml -o json`,
		Args:        arguments(1, 1, "FILE"),
		Annotations: map[string]string{exits: "0 each verdict is the one asked for   1 one is not   3 usage, or the policy or the table does not load"},
		RunE: s.run(func(_ context.Context, args []string) error {
			policy, err := in.load(s, "policy test "+args[0])
			if err != nil {
				return err
			}
			cases, err := trust.LoadCases(args[0])
			if err != nil {
				return wrongCases(err)
			}
			r, err := cases.Run(policy, s.now)
			if err != nil {
				return wrongCases(err)
			}
			if err := s.answer("policy-test", r, func(w io.Writer) { ui.PolicyTest(w, r) }); err != nil || r.Passed() {
				return err
			}
			return &verdict{code: exitRejected, why: "test-failed", hint: fmt.Sprintf(
				"imprint policy explain REF --policy %s says which scope decides, and why", policy.File())}
		}),
	}
	in.bind(c)
	return c
}

func wrongCases(err error) error {
	return &hinted{err, "correct it there: what a table of tests holds is in docs/policy.md"}
}
