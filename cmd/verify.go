package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

type verifyInputs struct {
	judging judgingFlags
	batch   batchFlags
}

func newVerify(s *session) *cobra.Command {
	var in verifyInputs
	c := &cobra.Command{
		Use:   "verify REF…",
		Short: "may this reference be used? by a trust policy or a root certificate",
		Long: `Judges whether a reference may be used, by a trust policy or by one root certificate. Bad signatures never hide a good
one. Looked for without --policy and --root: IMPRINT_POLICY, ~/.config/imprint/policy.yaml, /etc/imprint/policy.yaml.`,
		Example: `  imprint verify harbor.acme.example/prod/app:1.4.2 --policy prod.yaml
  imprint verify oci:app:1.0 --root root.pem --identity "C=DE, O=Acme"
  imprint verify --batch deployed.txt -o json`,
		Args:        arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 accepted   1 not accepted   3 usage, or the policy does not load   4 could not find out   5 not authorised"},
		RunE:        s.run(func(ctx context.Context, args []string) error { return runVerify(ctx, s, in, args) }),
	}
	in.judging.bind(c)
	in.batch.bind(c)
	return c
}

func runVerify(ctx context.Context, s *session, in verifyInputs, args []string) error {
	items, err := in.batch.items(s, args, form{words: 1}, "REF…")
	if err != nil {
		return err
	}
	as, err := in.judging.reference()
	if err != nil {
		return err
	}
	if len(items) == 1 {
		if _, err := artifact(items[0][0]); err != nil {
			return fmt.Errorf("verify %s: %w", items[0][0], err)
		}
	}
	policy, err := in.judging.policy(s)
	var none *noPolicy
	if errors.As(err, &none) {
		return &usageError{code: none.Reason(), err: fmt.Errorf("verify %s: %w", items[0][0], err),
			hint: "judge by one certificate: --root FILE; write a policy: imprint help policy; only look: imprint inspect " + items[0][0]}
	}
	if err != nil {
		return err
	}
	sources := s.trustSources()
	return runBatch(ctx, s, in.batch, items, batch[trust.Report]{
		kind: "verify",
		do: func(ctx context.Context, it item) (trust.Report, error) {
			r, err := verify(ctx, s, it[0], policy, as, sources)
			var v *verdict
			if err != nil && !errors.As(err, &v) {
				err = fmt.Errorf("verify %s: %w", it[0], err)
			}
			return r, err
		},
		full:   ui.Verify,
		line:   ui.VerifyLine,
		word:   func(r trust.Report) string { return r.Verdict },
		judged: true,
	})
}

func verify(ctx context.Context, s *session, text string, policy *trust.Policy, as registry.Reference, sources *trust.Sources) (trust.Report, error) {
	ref, err := artifact(text)
	if err != nil {
		return trust.Report{}, err
	}
	repo, err := s.open(ctx, ref)
	if err != nil {
		return trust.Report{}, err
	}
	defer repo.Close()
	r, _, err := trust.Verify(ctx, repo, ref, policy, trust.Options{As: as, Now: s.now, Sources: sources})
	if errors.Is(err, registry.ErrCapped) {
		return trust.Report{}, &notReadOut{err}
	}
	if err != nil {
		return trust.Report{}, err
	}
	return r, judged(r)
}

// A notReadOut is a list that was not read to its end. Nothing was done that could be partly done: whether a signature
// satisfies could not be found out.
type notReadOut struct{ err error }

func (e *notReadOut) Error() string { return e.err.Error() }
func (e *notReadOut) Unwrap() error { return e.err }
func (e *notReadOut) exitCode() int { return exitUnknown }

// judged turns a report into the run's outcome.
func judged(r trust.Report) error {
	if r.Passed() {
		return nil
	}
	code := exitRejected
	if r.Verdict == trust.Undetermined {
		code = exitUnknown
	}
	return &verdict{code: code, why: r.Reason, hint: ui.VerifyHint(r)}
}
