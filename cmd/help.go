package cmd

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imprint-oci/imprint/cmd/ui"
)

//go:embed topics/*.txt
var topics embed.FS

// topicNames lists the topics of `imprint help`.
func topicNames() []string { return []string{"start", "exit-codes", "keys", "references", "policy"} }

// topic returns the text of one.
func topic(name string) string {
	if name == "exit-codes" {
		var b strings.Builder
		b.WriteString("Exit codes\n\n")
		for _, e := range exitMeanings {
			fmt.Fprintf(&b, "%5d  %s\n", e.code, e.meaning)
		}
		b.WriteString("\n" + wrap("A batch: 0 all done; 1 every failure was a verdict; 7 some done and some failed otherwise; nothing done: "+
			"the first failure's code. Every error has a stable reason code in -o json; docs/reason-codes.md lists them.", ui.Columns-2, "") + "\n")
		return b.String()
	}
	text, err := topics.ReadFile("topics/" + name + ".txt")
	if err != nil {
		return ""
	}
	return string(text)
}

// newHelp makes `imprint help [COMMAND | TOPIC]`.
func newHelp(s *session, all []listed) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND|TOPIC]",
		Short: "help for a command, or on a topic: " + strings.Join(topicNames(), ", "),
		ValidArgsFunction: func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			out := topicNames()
			for _, l := range all {
				out = append(out, l.command.Name())
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Root().Help()
			}
			if len(args) == 1 {
				if text := topic(args[0]); text != "" {
					fmt.Fprint(s.out, text)
					return nil
				}
			}
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 || found == c.Root() {
				known := topicNames()
				for _, l := range all {
					known = append(known, l.command.Name())
				}
				word := strings.Join(args, " ")
				if near := nearest(word, known); near != "" {
					return usageHint("did you mean imprint help "+near+"?", "no help on %q", word)
				}
				return usageHint("topics: "+strings.Join(topicNames(), ", "), "no help on %q", word)
			}
			return found.Help()
		},
	}
}

// rootHelp is `imprint --help`.
func rootHelp(all []listed) string {
	var b strings.Builder
	b.WriteString(`imprint signs OCI artifacts with a key that stays where it is, publishes and promotes them with
their signatures, and renews certificate chains without signing again.
Its signatures are Notary Project signatures: notation, Ratify and Kyverno verify them.

Usage: imprint COMMAND [flags]
`)
	group := ""
	for i := 0; i < len(all); i++ {
		l := all[i]
		if l.group != group {
			group = l.group
			b.WriteString("\n" + group + "\n")
		}
		name, short := l.command.Name(), l.command.Short
		if (name == "login" || name == "completion") && i+1 < len(all) { // pairs that one line describes
			name += ", " + all[i+1].command.Name()
			if l.command.Name() == "completion" {
				short = "shell completion; the version of this program"
			}
			i++
		}
		line := fmt.Sprintf("  %-21s%s", name, short)
		if l.note != "" {
			line = ui.Pad(line, 85) + l.note
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.WriteString(`
References   HOST/REPO[:TAG][@DIGEST]    oci:DIR[:NAME]    oci-archive:FILE.tar[:NAME]
Keys         file:PATH  awskms:///…  gcpkms://…  azurekms://…  hashivault://…  openbao://…
             pkcs11:…   plugin:NAME?id=KEY   or a name under keys:            imprint help keys

Flags of every command
  -o, --output text|json    json: one object a line
  -q, --quiet               answers and errors only
      --batch FILE          references, one a line (- for stdin); also imprint's own JSON lines
      --jobs N              items at once (16)           --fail-fast   stop a batch at a failure
      --shard I/N           of --batch the share of process I (from 0) of N
      --config FILE         instead of ~/.config/imprint/config.yaml
      --ca-file FILE        trust this CA for registries --plain-http  HTTP without TLS

First steps    imprint key generate --dev      then      imprint help start
Exit codes     0 done or accepted   1 not accepted   3 usage   4 could not find out   5 not
               authorised   6 key service   7 partly done, run again        imprint help exit-codes
`)
	return b.String()
}

// commandHelp is `imprint COMMAND --help`.
func commandHelp(c *cobra.Command) string {
	var b strings.Builder
	path := "imprint"
	if c.HasParent() {
		path = c.Parent().CommandPath()
	}
	about := c.Long
	if about == "" {
		about = c.Short
	}
	about = wrap(strings.Join(strings.Fields(about), " "), ui.Columns-2, "")
	fmt.Fprintf(&b, "%s\n\nUsage: %s %s", about, path, c.Use)
	if c.Runnable() && len(c.Commands()) == 0 {
		b.WriteString(" [flags]")
	}
	b.WriteString("\n")
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "Also:  %s %s\n", path, strings.Join(c.Aliases, ", "))
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\nExamples\n%s\n", strings.TrimRight(c.Example, "\n"))
	}
	if subs := c.Commands(); len(subs) > 0 {
		b.WriteString("\nCommands\n")
		for _, sub := range subs {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-14s%s\n", sub.Name(), sub.Short)
			}
		}
		fmt.Fprintf(&b, "\n%s COMMAND --help says more of one.\n", c.CommandPath())
		return b.String()
	}
	if own := flagLines(c.NonInheritedFlags()); own != "" {
		b.WriteString("\nFlags\n" + own)
	}
	b.WriteString("\nFlags of every command\n" + flagLines(c.InheritedFlags()))
	b.WriteString("\nExit codes\n" + exitNote(c))
	return b.String()
}

// exits is the annotation of a command that says what its exit codes mean.
const exits = "imprint-exit-codes"

func exitNote(c *cobra.Command) string {
	note := c.Annotations[exits]
	if note == "" {
		note = "0 done   3 usage   more: imprint help exit-codes"
	}
	// Each code with its meaning stays on one line.
	var b strings.Builder
	line := " "
	for _, part := range strings.Split(note, "   ") {
		if ui.Width(line)+3+ui.Width(part) > ui.Columns {
			b.WriteString(line + "\n")
			line = " "
		}
		if line != " " {
			line += "  "
		}
		line += " " + part
	}
	return b.String() + line + "\n"
}

// flagLines lists flags, one a line within 100 columns.
func flagLines(flags *pflag.FlagSet) string {
	var all []*pflag.Flag
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			all = append(all, f)
		}
	})
	slices.SortFunc(all, func(a, b *pflag.Flag) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	for _, f := range all {
		what, text := pflag.UnquoteUsage(f)
		if f.Value.Type() == "bool" {
			what = ""
		}
		name := "      --" + f.Name
		if f.Shorthand != "" {
			name = "  -" + f.Shorthand + ", --" + f.Name
		}
		if what != "" {
			name += " " + what
		}
		switch f.DefValue {
		case "", "false", "[]", "-1", "0":
		default:
			text += " (default " + f.DefValue + ")"
		}
		if list, ok := f.Value.(pflag.SliceValue); ok && list != nil {
			text += " (repeatable)"
		}
		lines := strings.Split(wrap(text, 68, ""), "\n")
		for i, l := range lines {
			if i > 0 {
				name = ""
			}
			if ui.Width(name) > 30 {
				b.WriteString(name + "\n")
				name = ""
			}
			b.WriteString(strings.TrimRight(fmt.Sprintf("%-32s%s", name, l), " ") + "\n")
		}
	}
	return b.String()
}
