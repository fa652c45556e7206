package cmd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// judgingFlags are the same wherever something is judged.
type judgingFlags struct {
	policyFile   string
	roots        []string
	identities   []string
	as           string
	onlyRoots    []string
	requireClaim bool
	maxAge       duration
	algorithms   []string
	sha256       string
	revocationFlags
	listsAlone bool // --crl says something without a policy, too
}

func (j *judgingFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&j.policyFile, "policy", "", "judge by the trust policy in `FILE`")
	f.StringArrayVar(&j.roots, "root", nil, "judge by the root certificate in `FILE` alone: a whole policy")
	f.StringArrayVar(&j.identities, "identity", nil, "with --root: the signer's `DN` must hold these attributes")
	f.StringVar(&j.as, "as", "", "judge as if it were at `HOST/REPO[:TAG]`")
	f.StringArrayVar(&j.onlyRoots, "only-root", nil, "of the policy's roots only `NAME`")
	f.BoolVar(&j.requireClaim, "require-claim", false, "a tag must be claimed by its signature")
	f.Var(&j.maxAge, "max-age", "refuse signatures older than `DURATION`, as 90d")
	f.StringSliceVar(&j.algorithms, "algorithms", nil, "accept only these algorithms, as ES384,PS256")
	f.StringVar(&j.sha256, "policy-sha256", "", "refuse a policy whose digest is not `HEX`")
	j.revocationFlags.bind(c)
}

// bindGate binds the flags for commands that judge only when a policy or a root stands on their command line.
func (j *judgingFlags) bindGate(c *cobra.Command) {
	j.bind(c)
	for _, name := range []string{"policy", "root", "identity"} {
		_ = c.Flags().SetAnnotation(name, onlyNamed, []string{"true"})
	}
}

// A noPolicy is that there is nothing to judge by.
type noPolicy struct{ places []string }

func (e *noPolicy) Error() string {
	return "no trust policy: looked for " + strings.Join(e.places, ", ")
}
func (e *noPolicy) Reason() string { return "no-policy" }
func (e *noPolicy) exitCode() int  { return exitUsage }

// policy returns the policy to judge by: that of --root, of --policy, or the first in the usual places.
func (j judgingFlags) policy(s *session) (*trust.Policy, error) {
	policy, err := j.unnarrowed(s)
	if err != nil {
		return nil, err
	}
	return j.narrow(s, policy)
}

// onCommandLine returns the policy that stands on the command line, nil if there is none.
func (j judgingFlags) onCommandLine(s *session) (*trust.Policy, error) {
	if j.policyFile == "" && len(j.roots) == 0 {
		for _, name := range []string{"identity", "as", "only-root", "require-claim", "max-age", "algorithms", "policy-sha256"} {
			if s.rank(name) == fromCommandLine {
				return nil, usageHint("name what to judge by: --policy FILE or --root FILE", "--%s without a policy or a root", name)
			}
		}
		if s.rank("crl") == fromCommandLine && !j.listsAlone {
			return nil, usageHint("name what to judge by: --policy FILE or --root FILE", "--crl without a policy or a root")
		}
		return nil, nil
	}
	return j.policy(s)
}

func (j judgingFlags) unnarrowed(s *session) (*trust.Policy, error) {
	byRoot, byFile := s.rank("root"), s.rank("policy")
	switch {
	case len(j.roots) > 0 && j.policyFile != "" && byRoot == byFile:
		return nil, usage("%s and %s exclude each other: a root is a whole policy", s.sources["root"].name, s.sources["policy"].name)
	case len(j.roots) > 0 && byRoot > byFile && j.sha256 != "" && s.rank("policy-sha256") >= byRoot:
		return nil, usageHint("leave one of them out", "--policy-sha256 pins a policy, and --root is none")
	case len(j.roots) > 0 && byRoot > byFile:
		certs, err := s.certificates(j.roots)
		if err != nil {
			return nil, err
		}
		policy, err := trust.Single(rootName(j.roots), certs, j.identities)
		if err != nil {
			return nil, &hinted{&handedIn{fmt.Errorf("judging by --root %s: %w", strings.Join(j.roots, ", "), err)},
				"--root takes the certificate that chains end in, --identity attributes of the signer: \"C=DE, O=Acme\", or uri:, dns:, email:"}
		}
		return policy, nil
	case len(j.identities) > 0 && s.rank("identity") >= max(byRoot, byFile):
		return nil, usageHint("in a policy, identities stand with their root", "--identity belongs to --root")
	case j.policyFile != "":
		return trust.Load(j.policyFile)
	}

	places := []string{"--policy", "IMPRINT_POLICY"}
	user, err := s.env.userDir()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{user, s.env.systemDir()} {
		file := filepath.Join(dir, "policy.yaml")
		if _, err := os.Stat(file); err == nil {
			return trust.Load(file)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, usageHint("it takes the right to look there; or name it: --policy FILE", "looking for a trust policy: %w", err)
		}
		places = append(places, file)
	}
	return nil, &noPolicy{places}
}

// rootName names the root of a policy that --root makes.
func rootName(files []string) string {
	return filepath.Base(files[0])
}

// pinned checks the policy's digest, where one is asked for. The policy that --root makes has none: a root nearer to
// the command line than the digest stands in the place of the policy that was pinned.
func (j judgingFlags) pinned(s *session, p *trust.Policy) error {
	want := strings.ToLower(strings.TrimPrefix(j.sha256, "sha256:"))
	if raw, err := hex.DecodeString(want); j.sha256 != "" && p.File() != "" && (err != nil || len(raw) != sha256.Size) {
		return usageHint("give all of it, as imprint policy check prints it", "%s %s: a SHA-256 has 64 hex digits", s.sources["policy-sha256"].name, j.sha256)
	}
	if j.sha256 != "" && p.File() != "" && want != strings.TrimPrefix(p.Digest(), "sha256:") {
		return &usageError{code: "policy-digest", hint: reasonHints["policy-digest"],
			err: fmt.Errorf("the policy %s has the digest %s, not %s", p.File(), p.Digest(), want)}
	}
	return nil
}

// narrow checks the policy's digest and applies the flags that only narrow.
func (j judgingFlags) narrow(s *session, p *trust.Policy) (*trust.Policy, error) {
	if err := j.pinned(s, p); err != nil {
		return nil, err
	}
	for _, w := range p.Warnings(s.now) {
		s.warn("policy", w)
	}
	narrow := trust.Narrowing{
		OnlyRoots:    j.onlyRoots,
		RequireClaim: j.requireClaim,
		MaxAge:       time.Duration(j.maxAge),
		Algorithms:   j.algorithms,
	}
	var err error
	if narrow.Lists, err = j.lists(s); err != nil {
		return nil, err
	}
	if len(narrow.OnlyRoots) == 0 && !narrow.RequireClaim && narrow.MaxAge == 0 && len(narrow.Algorithms) == 0 && narrow.Lists == nil {
		return p, nil
	}
	narrower, err := p.Narrow(narrow)
	if err != nil {
		return nil, &hinted{&handedIn{err}, "correct the flag: --only-root takes names of this policy's roots, --algorithms those of signatures, as ES384,PS256"}
	}
	return narrower, nil
}

// reference returns where to judge as if: the zero reference without --as.
func (j judgingFlags) reference() (registry.Reference, error) {
	if j.as == "" {
		return registry.Reference{}, nil
	}
	ref, err := registry.ParseQualified(j.as)
	if err != nil {
		return ref, &handedIn{fmt.Errorf("--as: %w", err)}
	}
	return ref, nil
}
