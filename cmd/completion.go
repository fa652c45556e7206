package cmd

import (
	"context"

	"github.com/spf13/cobra"
)

func newCompletion(s *session) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	c := &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "what a shell needs to complete commands",
		Long:      "Writes what a shell needs to complete imprint's commands and flags.",
		Example:   "  source <(imprint completion bash)\n  imprint completion fish > ~/.config/fish/completions/imprint.fish",
		ValidArgs: shells,
		Args:      arguments(1, 1, "the name of a shell"),
	}
	c.RunE = s.run(func(_ context.Context, args []string) error {
		root := c.Root()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(s.out, true)
		case "zsh":
			return root.GenZshCompletion(s.out)
		case "fish":
			return root.GenFishCompletion(s.out, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(s.out)
		}
		if near := nearest(args[0], shells); near != "" {
			return usageHint("did you mean imprint completion "+near+"?", "no completion for %q", args[0])
		}
		return usageHint("there is bash, zsh, fish and powershell", "no completion for %q", args[0])
	})
	return c
}
