package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/fetch"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// A session is one run of imprint: the world, the settings of every command, and the way out.
type session struct {
	env  Env
	now  time.Time // of this run: everything is judged at one time
	out  *writer   // answers
	err  io.Writer // talk
	json bool
	// What the flags of every command say.
	output  string
	quiet   bool
	config  string
	network networkFlags

	command   *cobra.Command // the one that runs
	keyScheme string         // of the URI of the key that it opened, or could not open
	sources   map[string]source
	settings  *configuration

	mu      sync.Mutex
	warned  map[string]bool
	held    []warning // until the next answer or error
	shared  *registry.Client
	reach   *fetch.Client  // of outside
	issuers *certchain.AIA // of aia
	asked   *trust.Sources // of trustSources
	lists   *trust.Lists   // of --crl

	progress *progress // nil: nobody is told of any
}

func newSession(env Env) *session {
	profile := colorprofile.NoTTY
	if env.Terminal.Out {
		profile = colorprofile.Env(env.Environ)
		if env.Getenv("NO_COLOR") != "" {
			profile = colorprofile.NoTTY
		}
	}
	return &session{
		env:     env,
		now:     env.Now(),
		out:     &writer{w: &colorprofile.Writer{Forward: env.Out, Profile: profile}},
		err:     env.Err,
		sources: map[string]source{},
		warned:  map[string]bool{},
	}
}

// guess reads from raw arguments what shapes the error of arguments that cannot be parsed.
func (s *session) guess(args []string) {
	for i, a := range args {
		switch {
		case a == "--":
			return
		case a == "-ojson", a == "--output=json", a == "-o=json":
			s.json = true
		case (a == "-o" || a == "--output") && i+1 < len(args) && args[i+1] == "json":
			s.json = true
		case a == "-q", a == "--quiet":
			s.quiet = true
		}
	}
}

// run makes a cobra RunE of f: the settings come first, from flags, environment and configuration.
func (s *session) run(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return s.runAnyway(func(ctx context.Context, args []string, broken error) error {
		if broken != nil {
			return broken
		}
		return f(ctx, args)
	})
}

// runAnyway is run for a command that looks into what is broken: f is told what was wrong with the settings.
func (s *session) runAnyway(f func(ctx context.Context, args []string, broken error) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s.command = c
		words := commandWords(c)
		broken := named(words, s.settle(c))
		switch s.output {
		case "json":
			s.json = true
		case "text":
			s.json = false
		default:
			return named(words, usage("--output %s: it is text or json", s.output))
		}
		return named(words, f(kms.WithNotice(c.Context(), s.waiting), args, broken))
	}
}

// commandWords is a command as it is typed after imprint: "key csr".
func commandWords(c *cobra.Command) string {
	_, words, _ := strings.Cut(c.CommandPath(), " ")
	return words
}

// named puts the command before an error of what was typed that does not say already what was being done.
func named(words string, err error) error {
	var own *usageError
	if words == "" || !errors.As(err, &own) {
		return err
	}
	text := err.Error()
	first, _, _ := strings.Cut(text, " ")
	if strings.HasSuffix(first, "ing") || strings.HasPrefix(text, words+" ") || strings.HasPrefix(text, words+":") {
		return err
	}
	return fmt.Errorf("%s: %w", words, err)
}

// client returns the registry client of the network flags, one for the run.
func (s *session) client() (*registry.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared != nil {
		return s.shared, nil
	}
	for _, realm := range s.network.trustRealms {
		if ref, err := registry.ParseQualified(realm + "/a/b"); err != nil || ref.Host != realm {
			return nil, usageHint("as --trust-realm auth.example.com", "--trust-realm %q is no host", realm)
		}
	}
	c, err := registry.NewClient(s.network.options(s))
	if err != nil {
		return nil, err
	}
	s.shared = c
	return c, nil
}

// open opens where ref is for reading, and for writing what refers to what is there.
func (s *session) open(ctx context.Context, ref registry.Reference) (*registry.Repo, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	return c.Open(ctx, ref)
}

// names lists the flags of a command, its own and those of every command.
func names(c *cobra.Command) []string {
	var out []string
	for _, f := range flagsOf(c) {
		out = append(out, f.Name)
	}
	slices.Sort(out)
	return out
}
