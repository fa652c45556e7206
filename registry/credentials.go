package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Limits on what docker's configuration and credential helpers may hand us.
const (
	maxDockerConfig = 4 << 20
	maxHelperOutput = 64 << 10
	helperTimeout   = 30 * time.Second
	configRetry     = 100 * time.Millisecond
)

// dockerHub is the name under which docker keeps the credential for docker.io.
const dockerHub = "https://index.docker.io/v1/"

var helperName = regexp.MustCompile(`^[a-z0-9-]+$`)

// DockerCredentials reads docker's config.json in dir (DOCKER_CONFIG, or .docker in the user's home) and its
// credential helpers lazily: nothing is opened before a registry asks for a credential. Entries count for exactly the
// host that they name. A file that cannot be read as docker's is [ErrConfig]; a helper that fails or does not answer
// within 30 seconds is [ErrUnauthorized] with reason credential-helper.
func DockerCredentials(dir string) CredentialFunc {
	return func(ctx context.Context, host string) (Credential, error) {
		path, err := dockerConfigPath(dir)
		if err != nil {
			return Credential{}, err
		}
		config, err := readDockerConfig(ctx, path)
		if err != nil {
			return Credential{}, err
		}
		return config.credential(ctx, host)
	}
}

func dockerConfigPath(dir string) (string, error) {
	if dir == "" {
		return "", fail(codeConfig, "finding docker's configuration: %w: no folder is named", ErrConfig)
	}
	return filepath.Join(dir, "config.json"), nil
}

// A dockerConfig is what we need of docker's config.json.
type dockerConfig struct {
	path    string
	timeout time.Duration // of a helper

	Auths       map[string]dockerAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// readDockerConfig reads config.json; one that does not exist is empty. One that is cut off is read again: `docker
// login` may be writing it.
func readDockerConfig(ctx context.Context, path string) (*dockerConfig, error) {
	for try := 1; ; try++ {
		config, err := readDockerConfigOnce(path)
		if err == nil || try == 2 {
			return config, err
		}
		if err := sleep(ctx, configRetry); err != nil {
			return nil, err
		}
	}
}

func readDockerConfigOnce(path string) (*dockerConfig, error) {
	config := &dockerConfig{path: path, timeout: helperTimeout}
	b, err := readLimited(path, maxDockerConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return nil, fail(codeConfig, "reading docker's configuration: %w: %w", ErrConfig, err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return config, nil
	}
	// What the decoder complains about may be a secret: only the place is told.
	if err := json.Unmarshal(b, config); err != nil {
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		where := "it is not JSON"
		switch {
		case errors.As(err, &syntax):
			where = fmt.Sprintf("it is not JSON at byte %d", syntax.Offset)
		case errors.As(err, &kind):
			where = fmt.Sprintf("%s should be %s", quote(kind.Field), kind.Type)
		}
		return nil, fail(codeConfig, "reading docker's configuration %s: %w: %s", path, ErrConfig, where)
	}
	return config, nil
}

// serverNames are the names under which docker keeps what is for a canonical host.
func serverNames(host string) []string {
	if host == "docker.io" {
		return []string{dockerHub, "docker.io", "index.docker.io", "registry-1.docker.io"}
	}
	names := []string{host}
	if !strings.Contains(host, ":") {
		names = append(names, host+":443")
	}
	return append(names, "https://"+host, "https://"+host+"/", "https://"+host+"/v1/", "https://"+host+"/v2/")
}

// helper returns the helper that keeps the credential for a host and the name under which it does; "" if the file itself does.
func (c *dockerConfig) helper(host string) (helper, server string) {
	names := serverNames(host)
	for _, n := range names {
		if h := c.CredHelpers[n]; h != "" {
			return h, n
		}
	}
	return c.CredsStore, names[0]
}

func (c *dockerConfig) credential(ctx context.Context, host string) (Credential, error) {
	if helper, server := c.helper(host); helper != "" {
		return c.helperCredential(ctx, helper, server)
	}
	for _, n := range serverNames(host) {
		entry, ok := c.Auths[n]
		if !ok || entry == (dockerAuth{}) {
			continue
		}
		cred := Credential{Username: entry.Username, Password: entry.Password, RefreshToken: entry.IdentityToken, AccessToken: entry.RegistryToken}
		if entry.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(entry.Auth)
			user, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
			if err != nil || !ok {
				return Credential{}, fail(codeConfig, "reading docker's configuration %s: %w: the entry of %s is not base64 of user:password", c.path, ErrConfig, n)
			}
			cred.Username, cred.Password = user, password
		}
		return cred, nil
	}
	return Credential{}, nil
}

// helperCredential speaks docker's credential helper protocol.
func (c *dockerConfig) helperCredential(ctx context.Context, helper, server string) (Credential, error) {
	out, err := c.runHelper(ctx, helper, "get", server)
	if errors.Is(err, errNotKept) {
		return Credential{}, nil
	}
	if err != nil {
		return Credential{}, err
	}
	var answer struct{ Username, Secret string }
	if json.Unmarshal(out, &answer) != nil || answer.Secret == "" {
		return Credential{}, fail(codeHelper, "%w: credential helper docker-credential-%s answered with no credential for %s",
			ErrUnauthorized, helper, server)
	}
	if answer.Username == "<token>" {
		return Credential{RefreshToken: answer.Secret}, nil
	}
	return Credential{Username: answer.Username, Password: answer.Secret}, nil
}

// errNotKept: the helper has nothing under that name.
var errNotKept = errors.New("credentials not found in native keychain")

func (c *dockerConfig) runHelper(ctx context.Context, helper, action, input string) ([]byte, error) {
	if !helperName.MatchString(helper) {
		return nil, fail(codeConfig, "%w: %q is not the name of a credential helper", ErrConfig, quote(helper))
	}
	name := "docker-credential-" + helper
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, name, action)
	cmd.Stdin = strings.NewReader(input)
	out := &capped{most: maxHelperOutput, full: cancel}
	cmd.Stdout = out
	// A helper that was ended may leave a child behind that holds the pipe.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	said := strings.TrimSpace(out.buf.String())
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.over:
		return nil, fail(codeHelper, "%w: credential helper %s wrote more than %d bytes", ErrUnauthorized, name, maxHelperOutput)
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return nil, fail(codeHelper, "%w: credential helper %s did not answer within %s", ErrUnauthorized, name, c.timeout)
	case err == nil:
		return out.buf.Bytes(), nil
	case said == errNotKept.Error():
		return nil, errNotKept
	case said != "" && !strings.HasPrefix(said, "{"): // the protocol has the reason on standard output
		return nil, fail(codeHelper, "%w: credential helper %s: %w: %s", ErrUnauthorized, name, err, quote(said))
	}
	return nil, fail(codeHelper, "%w: credential helper %s: %w", ErrUnauthorized, name, err)
}

// capped keeps what is written to it until there is too much.
type capped struct {
	buf  bytes.Buffer // not embedded: its ReadFrom would go around Write
	most int
	over bool
	full func()
}

func (c *capped) Write(p []byte) (int, error) {
	if c.buf.Len()+len(p) > c.most {
		c.over = true
		c.full()
		return 0, io.ErrShortWrite
	}
	return c.buf.Write(p)
}
