package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

// maxPIN bounds a PIN, bytes; those of tokens have up to 255.
const maxPIN = 1 << 10

// pins is where PINs come from: the file that pin-source names, or else the person.
type pins struct {
	source string
	ask    func(ctx context.Context, prompt string) ([]byte, error)
}

// A pin is one PIN for as long as one signature takes.
type pin struct {
	from   pins
	secret []byte
}

// wipe overwrites the PIN.
func (p *pin) wipe() {
	clear(p.secret)
	p.secret = nil
}

// get returns the PIN, asking for it the first time. What it returns is wiped by wipe.
func (p *pin) get(ctx context.Context, t *token) ([]byte, error) {
	if p.secret != nil {
		return p.secret, nil
	}
	last := ""
	if t.info.Flags&cryptoki.FlagUserPINFinalTry != 0 {
		last = "; one try is left before it locks the PIN"
	}
	const remedy = "the PIN: pin-source=FILE in the key URI"
	var err error
	switch {
	case p.from.source != "":
		if p.secret, err = readPIN(p.from.source); err != nil {
			return nil, problem(kms.CodeCredentials, remedy, "the token %s needs its PIN: reading pin-source: %w%s", t.name(), err, last)
		}
	case p.from.ask == nil:
		return nil, problem(kms.CodeCredentials, remedy, "the token %s needs its PIN: %w%s", t.name(), &MissingPIN{t.name() + last}, last)
	default:
		if p.secret, err = p.from.ask(ctx, fmt.Sprintf("PIN of the token %s%s: ", t.name(), last)); err != nil {
			return nil, problem(kms.CodeCredentials, remedy, "the token %s needs its PIN: %w%s", t.name(), err, last)
		}
	}
	if len(p.secret) == 0 {
		p.secret = nil
		return nil, problem(kms.CodeCredentials, remedy, "the token %s needs its PIN, and the one given is empty%s", t.name(), last)
	}
	return p.secret, nil
}

// readPIN reads the file of a PIN: an absolute path, or file: and one. Its last line ending is no part of the PIN.
func readPIN(source string) ([]byte, error) {
	path := source
	if rest, ok := strings.CutPrefix(source, "file:"); ok {
		path = strings.TrimPrefix(rest, "//")
	}
	switch {
	case strings.HasPrefix(source, "|"):
		return nil, errors.New("it names a program: only a file is read")
	case !filepath.IsAbs(path):
		return nil, fmt.Errorf("%s is not absolute: nothing is read from the working folder", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, maxPIN+1) // at once: growing would leave copies behind
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(b)
		return nil, err
	}
	if n > maxPIN {
		clear(b)
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxPIN)
	}
	secret := bytes.TrimSuffix(bytes.TrimSuffix(b[:n], []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(secret, "\r\n\x00") {
		clear(b)
		return nil, fmt.Errorf("%s holds more than one line", path)
	}
	return secret, nil
}
