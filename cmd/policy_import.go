package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/trust"
	"github.com/imprint-oci/imprint/trust/foreign"
)

func newPolicyImport(s *session) *cobra.Command {
	var l lossFlags
	var store string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "make a policy of a trust policy of notation or containers/image",
		Long: `Reads notation's trustpolicy.json with its trust store, or the rules reject and insecureAcceptAnything of a policy.json of
containers/image (podman, skopeo, CRI-O), and makes a policy of it that is as strict or stricter. Each thing that is lost is named, and
nothing is written unless --accept-loss names it too. A loss called wider accepts more: a repository of notation is that one alone, a scope
holds for what is below it too.

Without --out the policy is written to standard output, its certificates in it; with it they go to the folder roots beside the file.`,
		Example: `  imprint policy import ~/.config/notation/trustpolicy.json --out policy.yaml --accept-loss below
  imprint policy import /etc/containers/policy.json`,
		Args:        arguments(1, 1, "FILE"),
		Annotations: map[string]string{exits: "0 done   3 something would be lost, no trust policy, files are there   8 the disk"},
		RunE: s.run(func(_ context.Context, args []string) error {
			file := args[0]
			if err := l.check(); err != nil {
				return err
			}
			b, err := s.read(file, foreign.MaxDocument)
			if err != nil {
				return err
			}
			if store == "" {
				store = filepath.Join(filepath.Dir(file), "truststore")
			}
			doing := "importing " + file
			made, err := foreign.Import(b, func(kind, name string) ([]*x509.Certificate, error) {
				return notationStore(filepath.Join(store, "x509", kind, name))
			})
			var own *usageError
			switch {
			case errors.As(err, &own):
				return err
			case err != nil:
				return &handedIn{fmt.Errorf("%s: %w", doing, err)}
			}
			told := ui.Exchange{Policy: file, Program: made.From, Out: l.out, Losses: made.Losses, Notes: made.Notes}
			if told.Losses == nil {
				told.Losses = []foreign.Loss{}
			}
			if refused := made.Unaccepted(l.accepted); len(refused) > 0 {
				told.Missing = missing(refused)
				if err := s.answer("policy-import", told, func(w io.Writer) { ui.PolicyImport(w, told) }); err != nil {
					return err
				}
				return lossError(doing, refused)
			}
			if err := s.loads(made); err != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
			if l.out == "" {
				told.Text = string(made.Inline())
				for _, lost := range made.Losses {
					s.note("lost: %s (%s)", lost, lost.Effect)
				}
				return s.answer("policy-import", told, func(w io.Writer) { fmt.Fprint(w, told.Text) })
			}
			files := made.Files(filepath.Base(l.out))
			if err := s.writeAll(filepath.Dir(l.out), files, l.overwrite); err != nil {
				return err
			}
			told.Written = true
			for _, f := range files {
				told.Files = append(told.Files, f.Name)
			}
			return s.answer("policy-import", told, func(w io.Writer) { ui.PolicyImport(w, told) })
		}),
	}
	l.bind(c, "write the policy to `FILE`")
	c.Flags().StringVar(&store, "truststore", "", "notation's trust store, if `DIR` is not the folder truststore beside the file")
	return c
}

// loads checks that what was made is a policy, before anything of it is written.
func (s *session) loads(made *foreign.Imported) error {
	dir, err := os.MkdirTemp("", "imprint-import-*")
	if err != nil {
		return &diskError{cause(err)}
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, made.Inline(), 0o600); err != nil {
		return &diskError{cause(err)}
	}
	policy, err := trust.Load(file)
	var load *trust.LoadError
	if errors.As(err, &load) { // its place is in a file that nobody will see
		return &usageError{code: load.Reason(), hint: "what the policy would say is not possible here: correct the original", err: load.Err}
	}
	if err != nil {
		return err
	}
	for _, w := range policy.Warnings(s.now) {
		s.warn("policy", w)
	}
	return nil
}

// notationStore reads a trust store as notation does: a folder of files, without symlinks.
func notationStore(dir string) ([]*x509.Certificate, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	if !info.IsDir() {
		return nil, usageHint("notation reads folders only, and no symlinks", "reading %s: it is not a folder", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	if len(entries) > maxChainFiles {
		return nil, usage("reading %s: it holds more than %d files", dir, maxChainFiles)
	}
	var out []*x509.Certificate
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() {
			return nil, usageHint("notation reads files only, and no symlinks", "reading %s: it is not a regular file", path)
		}
		b, err := readAs(path, path, certchain.MaxBytes)
		if err != nil {
			return nil, err
		}
		certs, err := certchain.Parse(b)
		if err != nil {
			return nil, &handedIn{fmt.Errorf("reading certificates from %s: %w", path, err)}
		}
		out = append(out, certs...)
	}
	return out, nil
}
