package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/keyfile"
	"github.com/imprint-oci/imprint/trust"
)

// developmentFolder is where `key generate --dev` writes.
const developmentFolder = "imprint-dev"

type generateInputs struct {
	key       keyFlags
	algorithm string
	out       string
	dev       bool
	plaintext bool
	overwrite bool
}

func newKeyGenerate(s *session) *cobra.Command {
	var in generateInputs
	c := &cobra.Command{
		Use:   "generate [FILE]",
		Short: "a new key in a file; --dev: with certificates and a policy to try it",
		Long: `Writes a new private key as PKCS#8, encrypted with a passphrase that is asked for twice. With --dev it writes a folder with all
that signing and verifying need: DEVELOPMENT ONLY, valid 30 days, never overwritten.`,
		Example: `  imprint key generate --dev
  imprint key generate release.key --algorithm P-384`,
		Args:        arguments(0, 1, "FILE"),
		Annotations: map[string]string{exits: "0 written   3 usage, no passphrase, or the file exists   8 local disk"},
		RunE:        s.run(func(ctx context.Context, args []string) error { return runKeyGenerate(ctx, s, in, args) }),
	}
	f := c.Flags()
	in.key.bindPassphrase(c)
	f.StringVar(&in.algorithm, "algorithm", "P-256", "the key's `ALGORITHM`: P-256, P-384, P-521, RSA-2048, RSA-3072 or RSA-4096")
	f.StringVar(&in.out, "out", "", "write to `FILE`; with --dev the folder (imprint-dev)")
	f.BoolVar(&in.dev, "dev", false, "a folder with root, intermediate, key, chain and policy: DEVELOPMENT ONLY")
	f.BoolVar(&in.plaintext, "allow-plaintext", false, "do not encrypt: whoever can read the file can sign")
	f.BoolVar(&in.overwrite, "overwrite", false, "replace the file if it exists; the old key is lost")
	_ = f.SetAnnotation("dev", onlyNamed, []string{"true"})
	return c
}

func runKeyGenerate(ctx context.Context, s *session, in generateInputs, args []string) error {
	if in.dev {
		return in.development(s, args)
	}
	if len(args) == 1 {
		if s.rank("out") == fromCommandLine {
			return usageHint("name the file once: imprint key generate "+args[0], "--out %s and %s name two files", in.out, args[0])
		}
		in.out = args[0]
	}
	if in.out == "" {
		return usageHint("imprint key generate release.key; to try imprint: imprint key generate --dev", "no file to write the key to")
	}
	if strings.HasPrefix(in.out, "file:") || strings.Contains(in.out, "://") { // as --key is going to name it
		u, err := kms.ParseURI(in.out)
		if err != nil {
			return err
		}
		if u.Scheme != "file" {
			return usageHint("let the key service make it, then: imprint key csr KEY", "generating a key: %s is no file", in.out)
		}
		in.out = filepath.FromSlash(u.Path)
	}
	if in.plaintext && takesPassphrase(s) {
		return usageHint("leave one of them out", "--allow-plaintext and a passphrase exclude each other")
	}
	if err := in.vacant(); err != nil { // before anybody thinks of a passphrase
		return err
	}
	var passphrase []byte
	if !in.plaintext {
		var err error
		if passphrase, err = in.passphrase(ctx, s); err != nil {
			return err
		}
		defer clear(passphrase)
	}
	key, pem, err := keyfile.Generate(in.algorithm, passphrase)
	if err != nil {
		return misused("imprint key generate --help", err)
	}
	defer clear(pem)
	about, err := aboutKey(key, keyURI(in.out))
	if err != nil {
		return err
	}
	if about.ID, err = filepath.Abs(in.out); err != nil {
		return &diskError{err}
	}
	if err := s.write(in.out, pem, 0o600, in.overwrite); err != nil {
		return err
	}
	g := ui.GeneratedKey{File: in.out, Encrypted: !in.plaintext, Key: about}
	return s.answer("key-generate", g, func(w io.Writer) { ui.KeyGenerate(w, g) })
}

// takesPassphrase reports whether the command line says where a passphrase is.
func takesPassphrase(s *session) bool {
	return s.rank("passphrase-file") == fromCommandLine || s.rank("passphrase-fd") == fromCommandLine
}

// vacant refuses a place where there is something already.
func (in generateInputs) vacant() error {
	info, err := os.Lstat(in.out)
	switch {
	case err == nil && info.IsDir():
		return usageHint("name a file in it: imprint key generate "+filepath.Join(in.out, "release.key"), "%s is a folder", in.out)
	case err == nil && !in.overwrite:
		return usageHint("choose another name; a key that is replaced with --overwrite is lost", "%s exists", in.out)
	}
	return nil
}

// passphrase returns the passphrase for a new key: from where an existing key's would come, or asked for twice.
func (in generateInputs) passphrase(ctx context.Context, s *session) ([]byte, error) {
	const hint = "--passphrase-file FILE, --passphrase-fd N, IMPRINT_PASSPHRASE, or a terminal to ask at; a file that is not encrypted: --allow-plaintext"
	asked := in.key.passphraseFD < 0 && in.key.passphraseFile == "" && s.env.Getenv("IMPRINT_PASSPHRASE") == ""
	secret := in.key.secret(s)
	if secret == nil {
		return nil, usageHint(hint, "no passphrase to encrypt %s with, and %w", in.out, errNobody)
	}
	passphrase, err := secret(ctx, fmt.Sprintf("new passphrase of %s: ", in.out))
	if errors.Is(err, errNobody) {
		return nil, usageHint(hint, "no passphrase to encrypt %s with, and %w", in.out, err)
	}
	if err != nil {
		return nil, err
	}
	if len(passphrase) == 0 {
		return nil, usageHint(hint, "the passphrase is empty")
	}
	if len(passphrase) > maxPassphrase {
		clear(passphrase)
		return nil, usageHint("choose a shorter one", "the passphrase is longer than %d bytes", maxPassphrase)
	}
	if !asked {
		return passphrase, nil
	}
	again, err := secret(ctx, "the same once more: ")
	defer clear(again)
	if err == nil && !bytes.Equal(passphrase, again) {
		err = usageHint("run it again", "the two passphrases differ; nothing was written")
	}
	if err != nil {
		clear(passphrase)
		return nil, err
	}
	return passphrase, nil
}

// development writes the folder of --dev: whole or not at all.
func (in generateInputs) development(s *session, args []string) error {
	switch {
	case len(args) > 0:
		return usageHint("name the folder with --out", "--dev writes a folder: %q is one too many", args[0])
	case in.overwrite:
		return usageHint("remove the old folder first, or write another with --out DIR", "--dev never overwrites")
	case takesPassphrase(s):
		return usageHint("a key in earnest: imprint key generate FILE", "--dev writes a key that is not encrypted, and takes no passphrase")
	}
	if in.out == "" {
		in.out = developmentFolder
	}
	dir := filepath.Clean(in.out)
	if _, err := os.Lstat(dir); err == nil {
		return existing(dir)
	}
	key, keyPEM, err := keyfile.Generate(in.algorithm, nil)
	if err != nil {
		return misused("imprint key generate --help", err)
	}
	defer clear(keyPEM)
	d, err := certchain.Develop(key.Public(), s.now)
	if err != nil {
		return fmt.Errorf("issuing development certificates: %w", err)
	}
	about, err := aboutKey(key, keyURI(filepath.Join(dir, "leaf.key")))
	if err != nil {
		return err
	}
	if about.ID, err = filepath.Abs(filepath.Join(dir, "leaf.key")); err != nil {
		return &diskError{err}
	}
	_, until := d.Chain().HoldsUntil()
	files := []developmentFile{
		{"leaf.key", "the private key that signs", keyPEM, 0o600},
		{"chain.pem", "its certificates, leaf to root: --chain", d.Chain().PEM(), 0o644},
		{"intermediate.pem", "the issuer of its certificate", certchain.Chain{d.Intermediate}.PEM(), 0o644},
		{"root.pem", "what verifiers trust: --root", certchain.Chain{d.Root}.PEM(), 0o644},
		{"policy.yaml", "a policy that trusts it for everything: --policy", developmentPolicy(until), 0o644},
	}
	if err := writeFolder(dir, files); err != nil {
		return err
	}
	out := ui.DevelopmentFolder{Development: true, Folder: dir, Identity: certchain.NameOf(d.Leaf.RawSubject), Key: about, HoldsUntil: until.UTC()}
	for _, f := range files {
		out.Files = append(out.Files, ui.File{Path: filepath.Join(dir, f.name), What: f.what})
	}
	return s.answer("key-generate", out, func(w io.Writer) { ui.KeyDevelopment(w, out, s.now.Truncate(time.Second)) })
}

func existing(dir string) error {
	return usageHint("remove it first, or write another folder with --out DIR", "%s exists, and --dev never overwrites", dir)
}

func developmentPolicy(until time.Time) []byte {
	return fmt.Appendf(nil, `# DEVELOPMENT ONLY, until %s: it accepts, everywhere, whatever the key in this folder signed.
# Written by imprint key generate --dev; imprint help policy says more.
version: 1
roots:
  dev: root.pem
scopes:
  "*": [dev]
`, until.UTC().Format("2006-01-02"))
}

// A developmentFile is one file of the folder that --dev writes.
type developmentFile struct {
	name, what string
	content    []byte
	perm       fs.FileMode
}

// writeFolder writes a folder beside its place, synced, and renames it. An existing one is kept.
func writeFolder(dir string, files []developmentFile) (err error) {
	temporary, err := os.MkdirTemp(filepath.Dir(dir), ".imprint-*")
	if err != nil {
		return unwritable(dir, err)
	}
	defer os.RemoveAll(temporary)
	for _, f := range files {
		if err := writeSynced(filepath.Join(temporary, f.name), f.content, f.perm); err != nil {
			return unwritable(filepath.Join(dir, f.name), err)
		}
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return &diskError{err}
	}
	if _, err := trust.Load(filepath.Join(temporary, "policy.yaml")); err != nil {
		return fmt.Errorf("checking the policy of %s: %w", dir, err)
	}
	switch err := os.Rename(temporary, dir); {
	case errors.Is(err, fs.ErrExist):
		return existing(dir)
	case err != nil:
		return unwritable(dir, err)
	}
	return nil
}

// writeSynced writes a file that is not there yet, and waits until it is on the disk.
func writeSynced(path string, b []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	return finish(f, b, perm)
}
