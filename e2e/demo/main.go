// Demo tells the story of imprint with real commands on real registries in this process: an image is published,
// signed, promoted, and moved to a new certificate chain after its key is gone. Stock notation judges each side
// before and after. Go is all it needs: go run ./e2e/demo
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "imprint-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	fmt.Println("building imprint for this machine, linux/amd64 and linux/arm64 …")
	binaries, err := build(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("built in %s\n\n", time.Since(began).Round(100*time.Millisecond))

	began = time.Now()
	dev, prod := regtest.Start(regtest.WithAPI), regtest.Start(regtest.WithoutAPI)
	defer dev.Close()
	defer prod.Close()
	s := &story{dir: dir, dev: dev.Host + "/acme/imprint", prod: prod.Host + "/acme/imprint"}
	if err := s.prepare(binaries); err != nil {
		return err
	}
	if err := s.tell(ctx); err != nil {
		return err
	}
	fmt.Printf("The story took %s. Every exit code was checked.\n", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// A story is what is told: a folder to work in, and a repository in each registry.
type story struct {
	dir       string
	dev, prod string // repositories
	root      *x509.Certificate
	chapter   int
}

// prepare makes the image, the certificates and the policy.
func (s *story) prepare(binaries map[string]string) error {
	if err := makeImage(filepath.Join(s.dir, "image"), "1.4.2", binaries); err != nil {
		return fmt.Errorf("making the image: %w", err)
	}
	key := certtest.Key("P-384")
	root := certtest.Root("Acme Root")
	old := root.Intermediate("Acme Code Signing CA 3", certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(0, 0, 42)))
	next := root.Intermediate("Acme Code Signing CA 4")
	s.root = root.Certificate
	for name, b := range map[string][]byte{
		"release.key": certtest.KeyPEM(key),
		"chain.pem":   certtest.PEM(old.Chain(old.Leaf(key.Public(), "release 2026"))...),
		"renewed.pem": certtest.PEM(next.Chain(next.Leaf(key.Public(), "release 2026", certtest.Valid(time.Now().Add(-time.Minute), time.Now().AddDate(2, 0, 0))))...),
		"root.pem":    certtest.PEM(root.Certificate),
		"policy.yaml": fmt.Appendf(nil, "version: 1\nroots:\n  acme: {certificates: [root.pem], identities: [\"C=DE, ST=BE, O=Acme\"]}\nscopes:\n  %s: {trust: [acme], claims: tag}\n  %s: {trust: [acme], claims: tag}\n", s.dev, s.prod),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) tell(ctx context.Context) error {
	policy, err := os.ReadFile(filepath.Join(s.dir, "policy.yaml"))
	if err != nil {
		return err
	}
	s.say("The image imprint:1.4.2 was built for two platforms, with an SBOM each. The key release.key has a certificate by Acme Code Signing CA 3.",
		"The registry "+host(s.dev)+" (dev) has the referrers API, "+host(s.prod)+" (prod) has not. Whom to trust says policy.yaml:")
	fmt.Print(indent(string(policy)), "\n\n")

	dev, prod := s.dev+":1.4.2", s.prod+":1.4.2"
	for _, step := range []func() error{
		func() error {
			s.say("Publish: the whole image with its SBOMs is copied by digest and signed; the tag comes last.",
				"The index claims its tag, and 1.4; platforms and SBOMs are signed too, and claim none.")
			return s.imprint(ctx, 0, "publish", "oci:image:1.4.2", s.dev, "--key", "release.key", "--chain", "chain.pem", "--recursive", "--claim", "1.4")
		},
		func() error {
			s.say("Verify, by the policy; and let stock notation judge.")
			return errors.Join(s.imprint(ctx, 0, "verify", dev, "--policy", "policy.yaml"), s.notation(ctx, dev, 1))
		},
		func() error {
			s.say("The same digest under a tag that no signature claims: copy warns, and verify refuses it.")
			return errors.Join(
				s.imprint(ctx, 0, "copy", dev, s.dev, "--tag", "latest"),
				s.imprint(ctx, 1, "verify", s.dev+":latest", "--policy", "policy.yaml"))
		},
		func() error {
			s.say("Promote: to the registry without the referrers API, judged before a byte moves; verify there.")
			return errors.Join(
				s.imprint(ctx, 0, "copy", dev, s.prod, "--policy", "policy.yaml"),
				s.imprint(ctx, 0, "verify", prod, "--policy", "policy.yaml"),
				s.notation(ctx, prod, 1))
		},
		func() error {
			s.say("CA 3 ends in six weeks, as the nightly audit says. CA 4 has issued a certificate for the same key, and the key is gone:")
			if err := s.imprint(ctx, 0, "audit", s.dev, "--within", "60d"); err != nil {
				return err
			}
			fmt.Print("$ rm release.key\n\n")
			return os.Remove(filepath.Join(s.dir, "release.key"))
		},
		func() error {
			s.say("Rechain: the signatures stay, their certificates are new: of the image, its platforms and its SBOMs. First the plan, then the work.")
			return errors.Join(
				s.imprint(ctx, 0, "rechain", "--all", s.dev, "--chain", "renewed.pem", "--dry-run"),
				s.imprint(ctx, 0, "rechain", "--all", s.dev, "--chain", "renewed.pem"),
				s.imprint(ctx, 0, "inspect", dev))
		},
		func() error {
			s.say("Promote again: only what is new travels.")
			return s.imprint(ctx, 0, "copy", dev, s.prod, "--policy", "policy.yaml")
		},
		func() error {
			s.say("Both sides verify, and stock notation accepts the old and the new signature on both.")
			return errors.Join(
				s.imprint(ctx, 0, "verify", dev, "--policy", "policy.yaml"),
				s.imprint(ctx, 0, "verify", prod, "--policy", "policy.yaml"),
				s.notation(ctx, dev, 2),
				s.notation(ctx, prod, 2))
		},
		func() error {
			s.say("Prune: the old signatures go, since the new ones pass wherever they do. Nothing is left to say.")
			return errors.Join(
				s.imprint(ctx, 0, "prune", "--all", s.prod, "--yes"),
				s.notation(ctx, prod, 1),
				s.imprint(ctx, 0, "audit", s.prod, "--fail-within", "60d"))
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// say begins a chapter.
func (s *story) say(lines ...string) {
	s.chapter++
	fmt.Printf("── %d ─ %s\n\n", s.chapter, wrap(strings.Join(lines, " "), 90))
}

// imprint runs imprint as a person would, shows command and output, and wants the exit code.
func (s *story) imprint(ctx context.Context, want int, args ...string) error {
	shown := "imprint"
	for _, a := range args {
		shown += " " + a
	}
	fmt.Println("$ " + strings.ReplaceAll(wrap(shown, 98), "\n", " \\\n"))
	c := exec.CommandContext(ctx, filepath.Join(s.dir, "imprint"), args...)
	c.Dir = s.dir
	c.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH"), "TERM=" + os.Getenv("TERM"), "NO_COLOR=" + os.Getenv("NO_COLOR")}
	c.Stdout, c.Stderr = os.Stdout, os.Stdout // one stream: the story in its order wherever it goes
	err := c.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return err
	}
	if got := c.ProcessState.ExitCode(); got != want {
		return fmt.Errorf("%s: exit code %d, want %d", shown, got, want)
	}
	if want != 0 {
		fmt.Printf("exit code %d, as it should be\n", want)
	}
	fmt.Println()
	return nil
}

// notation lets notation-go judge ref, which has n signatures, each of them alone too.
func (s *story) notation(ctx context.Context, ref string, n int) error {
	signatures, err := judge.Signatures(ctx, ref)
	if err != nil {
		return err
	}
	if len(signatures) != n {
		return fmt.Errorf("notation lists %d signatures of %s, want %d", len(signatures), ref, n)
	}
	if err := judge.Verify(ctx, ref, s.root); err != nil {
		return fmt.Errorf("notation rejects %s: %w", ref, err)
	}
	for _, d := range signatures {
		if err := judge.VerifyOnly(ctx, ref, d, s.root); err != nil {
			return fmt.Errorf("notation rejects signature %s of %s: %w", d, ref, err)
		}
	}
	each := "its signature"
	if n > 1 {
		each = fmt.Sprintf("each of its %d signatures alone", n)
	}
	fmt.Printf("notation-go %s, level strict: accepts %s,\n    %s\n\n", version("github.com/notaryproject/notation-go"), ref, each)
	return nil
}

// version returns the version of a module that this program is built with.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return ""
}

func host(repo string) string { h, _, _ := strings.Cut(repo, "/"); return h }

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

// wrap breaks text at blanks; lines after the first are indented.
func wrap(text string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n    ")
			column = 4
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
