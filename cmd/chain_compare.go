package cmd

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
)

func newChainCompare(s *session) *cobra.Command {
	var at string
	c := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "what a rotation from one chain to another means",
		Long: `Compares two sets of certificates, each a chain in any order or a part of one: what differs, who must trust what, and whether
signatures under OLD take NEW (imprint rechain), have to be made again, or fail until verifiers have changed. New authorities alone are
put below OLD's leaf, as rechain does. It reads files alone: which signatures there are imprint audit says.`,
		Example: `  imprint chain compare chain.pem new-intermediate.pem
  imprint chain compare chain.pem next-year.pem --at 2027-01-01 -o json`,
		Args:        arguments(2, 2, "OLD and NEW"),
		Annotations: map[string]string{exits: "0 compared   3 usage, or NEW is no chain that signatures could have"},
		RunE:        s.run(func(_ context.Context, args []string) error { return runChainCompare(s, at, args) }),
	}
	c.Flags().StringVar(&at, "at", "", "compare at `DATE` instead of now: 2027-03-31 (its start, UTC) or 2027-03-31T12:00:00Z")
	return c
}

func runChainCompare(s *session, on string, args []string) error {
	at, err := date(on, s.now)
	if err != nil {
		return err
	}
	before, err := s.chainFiles(args[:1])
	if err != nil {
		return err
	}
	after, err := s.chainFiles(args[1:])
	if err != nil {
		return err
	}
	c, err := certchain.Compare(before, after, at)
	if err != nil {
		return misused("OLD and NEW each hold one chain or a part of one: imprint chain show FILE, imprint chain build FILE…", err)
	}
	compared := ui.ComparedChains{OldFile: args[0], NewFile: args[1], At: at.UTC(), Comparison: c}
	if c.Broken != nil {
		f := finding(c.Broken)
		compared.Finding = &f
	}
	compared.Steps = ui.RotationSteps(compared)
	if err := s.answer("chain-compare", compared, func(w io.Writer) { ui.ChainCompare(w, compared) }); err != nil || c.Answer != certchain.AnswerUnfit {
		return err
	}
	return &verdict{code: exitUsage, why: compared.Finding.Reason, hint: chainHint(c.Broken)}
}
