package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/openbao/openbao/api/v2"

	"github.com/imprint-oci/imprint/kms"
)

// maxToken bounds a token and the files that lead to one, bytes.
const maxToken = 64 << 10

// findToken looks where the tools of both products look: BAO_TOKEN or VAULT_TOKEN, the token helper that their configuration
// names, the file that they log in to. None is no error yet: an agent may add one.
func (e *engine) findToken(ctx context.Context) (string, error) {
	token, from := strings.TrimSpace(e.client.Token()), e.names.either("TOKEN")
	if token == "" {
		var err error
		if token, from, err = e.keptToken(ctx); err != nil {
			return "", kms.Failure(kms.CodeCredentials, "set "+e.names.either("TOKEN")+", or run `"+e.names.tool+" login`", "%w", err)
		}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", kms.Failure(kms.CodeCredentials, "set "+e.names.either("TOKEN")+" to the token alone, or run `"+e.names.tool+" login`",
			"the token in %s has characters that no token has", from)
	}
	return token, nil
}

// keptToken returns the token that a login left, and where it was.
func (e *engine) keptToken(ctx context.Context) (token, from string, err error) {
	home, _ := os.UserHomeDir() // none: nothing is kept there
	helper, err := helperOf(home)
	if err != nil {
		return "", "", err
	}
	if helper != "" {
		token, err = runHelper(ctx, helper)
		return token, helper, err
	}
	file := api.ReadBaoVariable(api.EnvTokenPath)
	if file == "" {
		if home == "" {
			return "", "", nil
		}
		file = filepath.Join(home, ".vault-token")
	}
	b, err := readSmall(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", file, nil
	}
	if err != nil {
		return "", "", fmt.Errorf("reading the token: %w", err)
	}
	return strings.TrimSpace(string(b)), file, nil
}

var helperLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[ \t]*token_helper[ \t]*=[ \t]*("(?:[^"\\\n]|\\.)*")[ \t]*$`)
})

// helperOf returns the token helper that ~/.vault, or the file that BAO_CONFIG_PATH or VAULT_CONFIG_PATH names, sets; "" if none.
func helperOf(home string) (string, error) {
	file := api.ReadBaoVariable("BAO_CONFIG_PATH")
	named := file != ""
	if !named {
		if home == "" {
			return "", nil
		}
		file = filepath.Join(home, ".vault")
	}
	b, err := readSmall(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular) && !named {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the token helper's configuration: %w", err)
	}
	m := helperLine().FindSubmatch(b)
	if m == nil {
		return "", nil
	}
	helper, err := strconv.Unquote(string(m[1]))
	if err != nil || strings.ContainsRune(helper, 0) {
		return "", fmt.Errorf("the token_helper in %s is no path", file)
	}
	return helper, nil
}

// runHelper asks a token helper, which is a program, for the token: "HELPER get" prints it.
func runHelper(ctx context.Context, helper string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, helper, "get")
	c.WaitDelay = time.Second
	var out short
	c.Stdout = &out
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("asking the token helper %s: %w", helper, err)
	}
	return strings.TrimSpace(out.buffer.String()), nil
}

// short takes maxToken bytes and no more. It does not embed the buffer, whose ReadFrom would go round the limit.
type short struct{ buffer bytes.Buffer }

func (s *short) Write(p []byte) (int, error) {
	if s.buffer.Len()+len(p) > maxToken {
		return 0, fmt.Errorf("it says more than %d bytes", maxToken)
	}
	return s.buffer.Write(p)
}

var errNotRegular = errors.New("it is no regular file")

func readSmall(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", file, errNotRegular)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err == nil && len(b) > maxToken {
		err = fmt.Errorf("%s is longer than %d bytes", file, maxToken)
	}
	return b, err
}
