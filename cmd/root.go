package cmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The groups of commands in --help, in its order.
const (
	groupRelease = "Release"
	groupJudge   = "Judge"
	groupRenew   = "Renew"
	groupKeys    = "Keys and certificates"
	groupSetup   = "Setup"
)

// A listed command stands in --help.
type listed struct {
	group   string
	note    string // "reads only", "needs no key"
	command *cobra.Command
}

// commands lists every command once, in the order of --help.
func commands(s *session) []listed {
	return []listed{
		{groupRelease, "", newSign(s)},
		{groupRelease, "", newPublish(s)},
		{groupRelease, "", newCopy(s)},
		{groupJudge, "", newVerify(s)},
		{groupJudge, "reads only", newInspect(s)},
		{groupJudge, "reads only", newTree(s)},
		{groupJudge, "", newPolicy(s)},
		{groupRenew, "reads only", newAudit(s)},
		{groupRenew, "needs no key", newRechain(s)},
		{groupRenew, "needs no key", newTimestamp(s)},
		{groupRenew, "needs no key", newPrune(s)},
		{groupKeys, "", newKey(s)},
		{groupKeys, "", newChain(s)},
		{groupSetup, "", newLogin(s)},
		{groupSetup, "", newLogout(s)},
		{groupSetup, "reads only", newDoctor(s)},
		{groupSetup, "", newCompletion(s)},
		{groupSetup, "", newVersion(s)},
	}
}

// newRoot returns the command line of imprint.
func newRoot(s *session) *cobra.Command {
	all := commands(s)
	root := &cobra.Command{
		Use:                   "imprint COMMAND [flags]",
		Short:                 "sign, publish, copy and verify OCI artifacts",
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		CompletionOptions:     cobra.CompletionOptions{DisableDefaultCmd: true},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(c, args[0])
		},
		RunE: func(c *cobra.Command, args []string) error {
			if !s.json {
				fmt.Fprint(s.err, rootHelp(all))
			}
			return usage("which command?")
		},
	}
	f := root.PersistentFlags()
	f.StringVarP(&s.output, "output", "o", "text", "answer as `text|json`; json is one object a line")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "answers and errors only")
	f.StringVar(&s.config, "config", "", "the configuration `FILE`, instead of ~/.config/imprint/config.yaml")
	s.network.bind(f)
	f.BoolP("help", "h", false, "help for a command")
	for _, l := range all {
		root.AddCommand(l.command)
	}
	root.SetHelpCommand(newHelp(s, all))
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		if c == root {
			fmt.Fprint(s.out, rootHelp(all))
			return
		}
		fmt.Fprint(s.out, commandHelp(c))
	})
	root.SetUsageFunc(func(c *cobra.Command) error { return nil })
	return root
}

// family makes a command that only holds subcommands.
func family(c *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(c, args[0])
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var names []string
		for _, sub := range subcommands {
			names = append(names, sub.Name())
		}
		return usageHint(c.CommandPath()+" --help", "%s what? %s", c.Name(), strings.Join(names, ", "))
	}
	c.AddCommand(subcommands...)
	return c
}

func unknownCommand(c *cobra.Command, word string) error {
	var known []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			known = append(known, sub.Name())
			known = append(known, sub.Aliases...)
		}
	}
	if near := nearest(word, known); near != "" {
		return usageHint("did you mean "+c.CommandPath()+" "+near+"?", "unknown command %q", word)
	}
	return usageHint(c.CommandPath()+" --help lists the commands", "unknown command %q", word)
}

// flagError explains a flag that could not be parsed.
func flagError(c *cobra.Command, err error) error {
	return named(commandWords(c), flagProblem(c, err))
}

func flagProblem(c *cobra.Command, err error) error {
	path := c.CommandPath()
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		return usageHint(path+" --help", "--%s %q: %w", value.GetFlag().Name, value.GetValue(), plainValueError(value.GetFlag(), value.Unwrap()))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usageHint(path+" --help", "%w", err)
	}
	name := unknown.GetSpecifiedName()
	if len(name) < 2 || unknown.GetSpecifiedShortnames() != "" {
		return usageHint(path+" --help lists its flags", "unknown flag -%s", name)
	}
	if near := nearest(name, names(c)); near != "" {
		return usageHint("did you mean --"+near+"?", "unknown flag --%s", name)
	}
	return usageHint(path+" --help lists its flags", "unknown flag --%s", name)
}

// plainValueError says in words why a flag does not take a value.
func plainValueError(f *pflag.Flag, err error) error {
	switch f.Value.Type() {
	case "int":
		return errors.New("it is a whole number")
	case "bool":
		return errors.New("it is true or false")
	}
	return err
}

const many = 1 << 30

// arguments checks the number of arguments; words name them in errors.
func arguments(least, most int, words string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		hint := "usage: " + c.Parent().CommandPath() + " " + c.Use
		switch {
		case len(args) > most && most == 0:
			return usageHint(hint, "%s takes no argument: %q is one too many", c.CommandPath(), args[0])
		case len(args) > most:
			return usageHint(hint, "%s takes %s: %q is one too many", c.CommandPath(), words, args[most])
		case len(args) < least && !c.Flags().Changed("batch") && (len(args) > 0 || c.Flags().Lookup("batch") == nil):
			return usageHint(hint, "%s takes %s", c.CommandPath(), words)
		}
		return nil
	}
}
