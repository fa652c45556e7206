package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/trust/foreign"
)

// lossFlags are the flags about what a translation loses and where it goes.
type lossFlags struct {
	out       string
	accepted  []string
	overwrite bool
}

func (l *lossFlags) bind(c *cobra.Command, out string) {
	f := c.Flags()
	f.StringVar(&l.out, "out", "", out)
	f.StringSliceVar(&l.accepted, "accept-loss", nil, "go on although this is lost: `CODES` as this command names them")
	f.BoolVar(&l.overwrite, "overwrite", false, "replace files that are there")
}

// check refuses codes that there are not.
func (l lossFlags) check() error {
	codes := foreign.Codes()
	for _, code := range l.accepted {
		if _, ok := codes[code]; ok {
			continue
		}
		var known []string
		for c := range codes {
			known = append(known, c)
		}
		slices.Sort(known)
		hint := "what there is to lose: " + strings.Join(known, ", ")
		if near := nearest(code, known); near != "" {
			hint = "did you mean " + near + "?"
		}
		return usageHint(hint, "--accept-loss %q: nothing is called so", code)
	}
	return nil
}

// missing are the codes of losses that were not accepted, each once.
func missing(losses []foreign.Loss) []string {
	var out []string
	for _, l := range losses {
		out = append(out, l.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lossError is the error for losses that were not accepted. To accept what makes others accept more is never the next step, so
// of those it only says how they are called.
func lossError(doing string, losses []foreign.Loss) error {
	wider := slices.DeleteFunc(slices.Clone(losses), func(l foreign.Loss) bool { return l.Effect != foreign.Wider })
	narrower := slices.DeleteFunc(slices.Clone(losses), func(l foreign.Loss) bool { return l.Effect == foreign.Wider })
	var hints []string
	if len(narrower) > 0 {
		hints = append(hints, "if that may be lost, add --accept-loss "+strings.Join(missing(narrower), ","))
	}
	if len(wider) > 0 {
		hints = append(hints, strings.Join(missing(wider), " and ")+" would accept more than now: that is lost by its name alone")
	}
	text := losses[0].String()
	if len(losses) > 1 {
		text = fmt.Sprintf("%s, and %d more", text, len(losses)-1)
	}
	return &usageError{code: "policy-loss", hint: strings.Join(hints, "; "), err: fmt.Errorf("%s: not everything can be said: %s", doing, text)}
}

func newPolicyExport(s *session) *cobra.Command {
	var in policyFlags
	var l lossFlags
	var to, repos string
	c := &cobra.Command{
		Use:   "export",
		Short: "say a policy in the words of notation, Kyverno or Ratify",
		Long: `Writes what a policy means as trustpolicy.json with its trust store (notation), as a ClusterPolicy (kyverno) or as Verifier and
KeyManagementProviders (ratify), so that other verifiers judge by it. They know less: each thing that is lost is named, and nothing is
written unless --accept-loss names it too. What would make them accept more is rejected there instead. Only a loss called wider is not:
they look at no claims, so they accept a signed digest under any tag.

notation and Ratify know exact repositories: name those that a scope stands for in --batch. Nothing of the folder may be there, or it
takes --overwrite.`,
		Example: `  imprint policy export --to notation --out notation/ --batch repos.txt --policy prod.yaml
  imprint policy export --to kyverno --out manifests/ --accept-loss identities,claims-if-present`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{exits: "0 written   3 something would be lost, the policy does not load, files are there   8 the disk"},
		RunE: s.run(func(context.Context, []string) error {
			target, err := exportTarget(to)
			if err != nil {
				return err
			}
			if l.out == "" {
				return usageHint("name the folder for what is written: --out DIR", "--out is missing")
			}
			if err := l.check(); err != nil {
				return err
			}
			listed, err := listedRepositories(s, repos, target)
			if err != nil {
				return err
			}
			policy, err := in.load(s, "policy export")
			if err != nil {
				return err
			}
			for _, w := range policy.Warnings(s.now) {
				s.warn("policy", w)
			}
			doing := fmt.Sprintf("exporting %s to %s", policy.File(), to)
			made, err := foreign.Export(policy.View(), target, listed)
			told := ui.Exchange{Policy: policy.File(), Program: to, Out: l.out, Losses: made.Losses, Notes: made.Notes}
			if told.Losses == nil {
				told.Losses = []foreign.Loss{}
			}
			refused := made.Unaccepted(l.accepted)
			told.Missing = missing(refused)
			switch {
			case errors.Is(err, foreign.ErrNothing):
				err = &usageError{code: "export-nothing", hint: "each scope that cannot be said is named above", err: fmt.Errorf("%s: %w", doing, err)}
				told.Missing = nil
			case err != nil:
				return fmt.Errorf("%s: %w", doing, err)
			case len(refused) > 0:
				err = lossError(doing, refused)
			default:
				if err := roomFor(l.out, target, made.Files); err != nil {
					return err
				}
				if err := s.writeAll(l.out, made.Files, l.overwrite); err != nil {
					return err
				}
				told.Written = true
				for _, f := range made.Files {
					told.Files = append(told.Files, f.Name)
				}
			}
			if answerErr := s.answer("policy-export", told, func(w io.Writer) { ui.PolicyExport(w, told) }); answerErr != nil {
				return answerErr
			}
			return err
		}),
	}
	in.bind(c)
	l.bind(c, "write to the folder `DIR`")
	c.Flags().StringVar(&to, "to", "", "whose words: `TARGET` notation, kyverno or ratify")
	c.Flags().StringVar(&repos, "batch", "", "the repositories that the scopes stand for, from `FILE`, one a line (- for stdin)")
	return c
}

func exportTarget(to string) (foreign.Target, error) {
	var known []string
	for _, t := range foreign.Targets() {
		if string(t) == to {
			return t, nil
		}
		known = append(known, string(t))
	}
	switch near := nearest(to, known); {
	case to == "":
		return "", usageHint("say whose words: --to "+strings.Join(known, ", --to "), "--to is missing")
	case near != "":
		return "", usageHint("did you mean "+near+"?", "--to %q: it is notation, kyverno or ratify", to)
	}
	return "", usage("--to %q: it is notation, kyverno or ratify", to)
}

// listedRepositories reads --batch; nil: there is none.
func listedRepositories(s *session, file string, to foreign.Target) ([]foreign.Repository, error) {
	if file == "" {
		return nil, nil
	}
	if to == foreign.Kyverno {
		return nil, usageHint("leave it out", "--batch with --to kyverno: it knows prefixes, so there are no repositories to list")
	}
	items, err := batchFlags{file: file, jobs: 1}.items(s, nil, form{words: 1}, "REPO…")
	if err != nil {
		return nil, err
	}
	out := []foreign.Repository{}
	for _, it := range items {
		r, err := foreign.ParseRepository(it[0])
		if err != nil {
			return nil, &handedIn{fmt.Errorf("reading repositories from %s: %w", file, err)}
		}
		out = append(out, r)
	}
	return out, nil
}

// roomFor refuses a folder where something else would count beside what is written: notation trusts every certificate in a
// store, and prefers another name of its policy.
func roomFor(dir string, to foreign.Target, files []foreign.File) error {
	if to != foreign.Notation {
		return nil
	}
	if other := filepath.Join(dir, foreign.OCIPolicyFile); exists(other) {
		return usageHint("export to another folder, or move that file away", "%s exists: notation would read it instead of %s", other, foreign.PolicyFile)
	}
	ours := map[string]bool{}
	for _, f := range files {
		ours[f.Name] = true
	}
	for _, f := range files {
		store, _, ok := cutLast(f.Name)
		if !ok {
			continue
		}
		for at := store; at != ""; at, _, _ = cutLast(at) {
			if info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(at))); err == nil && !info.IsDir() {
				return usageHint("export to another folder", "%s is not a folder", filepath.Join(dir, filepath.FromSlash(at)))
			}
		}
		entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(store)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unreadable(filepath.Join(dir, filepath.FromSlash(store)), err)
		}
		for _, e := range entries {
			if !ours[store+"/"+e.Name()] {
				return usageHint("notation trusts every certificate of a store: move that file away, or export to another folder",
					"%s is not of this policy", filepath.Join(dir, filepath.FromSlash(store), e.Name()))
			}
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func cutLast(name string) (dir, last string, ok bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// writeAll writes files below a folder, in their order: all of them, or those that are new are taken back.
func (s *session) writeAll(dir string, files []foreign.File, overwrite bool) (err error) {
	for _, f := range files { // before anything is touched
		if path := filepath.Join(dir, filepath.FromSlash(f.Name)); exists(filepath.Dir(path)) {
			if err := writable(path, overwrite); err != nil {
				return err
			}
		}
	}
	var made []string
	defer func() {
		if err != nil {
			for _, path := range slices.Backward(made) {
				_ = os.Remove(path) // a folder that something else is in stays
			}
		}
	}()
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		folders, err := makeFolders(filepath.Dir(path))
		made = append(made, folders...)
		if err != nil {
			return unwritable(path, err)
		}
		fresh := !exists(path)
		if err := s.write(path, f.Content, 0o644, overwrite); err != nil {
			return err
		}
		if fresh {
			made = append(made, path)
		}
	}
	return nil
}

// makeFolders makes a folder and those above it, and returns the ones that are new.
func makeFolders(dir string) (made []string, err error) {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if up := filepath.Dir(dir); up != dir {
		if made, err = makeFolders(up); err != nil {
			return made, err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return made, err
	}
	return append(made, dir), nil
}
