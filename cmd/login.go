package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
)

// maxPassword limits a registry's password: some are tokens of several kilobytes.
const maxPassword = 64 << 10

// A loginResult is where a credential went, or was.
type loginResult struct {
	Host     string `json:"host"`
	Username string `json:"username,omitempty"`
	Helper   string `json:"helper,omitempty"` // the program that keeps it; else the file does
	File     string `json:"file"`             // docker's configuration
}

type loginInputs struct {
	username string
	stdin    bool
}

func newLogin(s *session) *cobra.Command {
	var in loginInputs
	c := &cobra.Command{
		Use:   "login HOST",
		Short: "registry credentials, shared with docker",
		Long: `Checks a credential with a registry and keeps it as docker login does: with the credential helper that docker's config.json
names, else in that file. Docker, oras and notation find it there too. Without --password-stdin the password is asked for.`,
		Example: `  imprint login ghcr.io --username octocat
  pass show ghcr | imprint login ghcr.io --username octocat --password-stdin`,
		Args: arguments(1, 1, "HOST"),
		Annotations: map[string]string{exits: "0 logged in   3 usage, or docker's configuration   4 the registry does not answer   " +
			"5 it refuses the credential   8 it could not be kept"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runLogin(ctx, s, in, args[0]) }),
	}
	c.Flags().StringVar(&in.username, "username", "", "log in as `USER`")
	c.Flags().BoolVar(&in.stdin, "password-stdin", false, "read the password, or token, from standard input")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && (unknown.GetSpecifiedName() == "password" || strings.HasPrefix(unknown.GetSpecifiedShortnames(), "p")) {
			return usageHint("change it now if it was the real one; give it with --password-stdin, or where it is asked for",
				"a password never stands on the command line: everybody on this machine can read it there")
		}
		return flagError(c, err)
	})
	return c
}

func runLogin(ctx context.Context, s *session, in loginInputs, text string) error {
	host, err := registryHost(s.command.Name(), text)
	if err != nil {
		return err
	}
	dir, err := s.credentialDir()
	if err != nil {
		return err
	}
	if in.username == "" {
		return usageHint("imprint login "+host+" --username USER", "logging in to %s: as whom?", host)
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	out := loginResult{Host: host, Username: in.username}
	if out.Helper, out.File, err = registry.CredentialStore(ctx, dir, host); err != nil {
		return fmt.Errorf("logging in to %s: %w", host, err)
	}
	password, err := in.password(ctx, s, host)
	if err != nil {
		return err
	}
	err = registry.Login(ctx, client, dir, host, registry.Credential{Username: in.username, Password: string(password)})
	clear(password)
	if err != nil {
		if reason(err) == "unauthorized" || reason(err) == "forbidden" {
			return &hinted{err, "nothing was stored: check user name and password; many registries want an access token instead of the password"}
		}
		return err
	}
	return s.answer("login", out, func(w io.Writer) { ui.Login(w, out.Host, out.Username, out.Helper, out.File) })
}

// password reads the password from standard input, or asks for it.
func (in loginInputs) password(ctx context.Context, s *session, host string) ([]byte, error) {
	if !in.stdin {
		const how = "give it on standard input: --password-stdin"
		if s.env.Terminal.Secret == nil {
			return nil, usageHint(how, "logging in to %s: %w for the password", host, errNobody)
		}
		b, err := s.env.Terminal.Secret(ctx, fmt.Sprintf("Password of %s at %s: ", ui.Escape(in.username), host))
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, usageHint(how, "logging in to %s: asking for the password: %w", host, err)
		case len(b) == 0:
			return nil, usageHint(how, "logging in to %s: the password is empty", host)
		}
		return b, nil
	}
	b, err := io.ReadAll(io.LimitReader(s.env.In, maxPassword+1))
	if err != nil {
		return nil, usage("--password-stdin: %w", err)
	}
	if len(b) > maxPassword {
		return nil, usageHint("one line with the password alone", "--password-stdin: more than %d bytes", maxPassword)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) == 0:
		return nil, usageHint("one line with the password alone", "--password-stdin: standard input is empty")
	case bytes.ContainsAny(b, "\r\n\x00"):
		return nil, usageHint("one line with the password alone", "--password-stdin: more than one line")
	}
	return b, nil
}

func newLogout(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "logout HOST",
		Short:   "forget what login kept for a registry",
		Long:    "Forgets the credential of a registry where login and docker keep it. Nothing there is no error.",
		Example: "  imprint logout ghcr.io",
		Args:    arguments(1, 1, "HOST"),
		Annotations: map[string]string{exits: "0 nothing is kept any more   3 usage, or docker's configuration   " +
			"5 the credential helper failed   8 the file could not be written"},
		RunE: s.run(func(ctx context.Context, args []string) error {
			host, err := registryHost("logout", args[0])
			if err != nil {
				return err
			}
			dir, err := s.credentialDir()
			if err != nil {
				return err
			}
			out := loginResult{Host: host}
			if out.Helper, out.File, err = registry.CredentialStore(ctx, dir, host); err != nil {
				return fmt.Errorf("logging out of %s: %w", host, err)
			}
			if err := registry.Logout(ctx, dir, host); err != nil {
				return err
			}
			return s.answer("logout", out, func(w io.Writer) { ui.Logout(w, out.Host, out.Helper, out.File) })
		}),
	}
}

// registryHost parses the host that a credential is for. Its errors repeat no more than what can be no secret: people
// paste URLs with a password in them.
func registryHost(command, text string) (string, error) {
	usageLine := "usage: imprint " + command + " HOST, as ghcr.io or localhost:5000"
	switch {
	case strings.Contains(text, "@"):
		return "", usageHint(usageLine, "the host is written alone: no user, no password, no digest")
	case strings.Contains(text, "://"):
		return "", usageHint(usageLine, "the host is written without the URL's scheme")
	case strings.Contains(text, "/"):
		host, _, _ := strings.Cut(text, "/")
		return "", usageHint("imprint "+command+" "+host, "%q is more than a host: a credential is for all of a registry", text)
	}
	// Every reference begins with a host, and that has one parser.
	ref, err := registry.ParseQualified(text + "/a/b")
	if err != nil {
		return "", usageHint(usageLine, "%q is not the host of a registry", text)
	}
	return ref.Host, nil
}

// credentialDir returns the folder of docker's configuration. Without one nothing is guessed: a credential must not
// land in another's home.
func (s *session) credentialDir() (string, error) {
	if dir := s.dockerDir(); dir != "" {
		return dir, nil
	}
	return "", usageHint("set HOME, or DOCKER_CONFIG to the folder of docker's config.json",
		"looking for docker's configuration: neither HOME nor DOCKER_CONFIG is set")
}
