// Package plugin answers the requests of the Notary Project's plugin contract, version 1.0, with keys in PKCS #11 tokens. It is
// all of the program notation-pkcs11.
//
// The contract's answer to describe-key says little. This one adds publicKey, certificateChain and uri, by which imprint learns
// what it otherwise would have to sign something for; other hosts do not look at them. An error's metadata has a class (the reason
// code of package kms without "key-"), a remedy, and "ask": "pin" with the token's name where a PIN is all that is missing.
package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11"
)

const (
	contract    = "1.0"
	name        = "pkcs11"
	description = "signs with keys in PKCS #11 tokens: hardware security modules, smart cards, YubiKeys, SoftHSM"
	homepage    = "https://github.com/imprint-oci/imprint"
)

const help = `notation-pkcs11 signs with keys in PKCS #11 tokens. It is a plugin of the Notary Project: imprint starts it for
key URIs that begin with pkcs11:, and notation where it is installed as ~/.config/notation/plugins/pkcs11/notation-pkcs11.

  imprint sign REF --key "pkcs11:token=hsm;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so"

  notation key add release --plugin pkcs11 --id "pkcs11:token=hsm;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/secrets/pin"
  notation sign REF --key release

The key is named as in RFC 7512: token, serial, manufacturer, model, slot-id, library-manufacturer, library-version,
library-description, object, id (as %01%a4), type. Without module-path or module-name the module is p11-kit-proxy. The PIN is the
line of the file pin-source, an absolute path. Certificates are read from the token.

Plugin configuration (notation: --plugin-config NAME=VALUE):
  pin-source=FILE   where the PIN is, instead of what the key URI says
  chain-file=FILE   the certificates, where the token has none: PEM or DER, in any order
  chain=optional    sign without certificates too
  padding=pkcs1     RSA with PKCS #1 v1.5, for certificate requests: never for signatures of the Notary Project

Commands: get-plugin-metadata, describe-key, generate-signature: each reads one JSON request from stdin.
`

// A Process is one run of the program.
type Process struct {
	Version        string // of the program
	Now            time.Time
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Run answers one command and returns the exit code: 0, or 1 after an error that is written to Stderr as the contract says. Certificates
// are judged at the time Now.
func Run(ctx context.Context, c Process) int {
	args := c.Args
	switch {
	case len(args) == 0, args[0] == "--help", args[0] == "-h", args[0] == "help":
		fmt.Fprint(c.Stdout, help)
		return 0
	case args[0] == "--version", args[0] == "version":
		fmt.Fprintln(c.Stdout, "notation-pkcs11", semver(c.Version))
		return 0
	}
	p := &plugin{version: semver(c.Version), now: c.Now}
	answer, err := p.answer(ctx, args, c.Stdin)
	if err != nil {
		_ = json.NewEncoder(c.Stderr).Encode(failureOf(err)) // there is nowhere else to say it
		return 1
	}
	b, err := json.Marshal(answer)
	if err == nil {
		_, err = c.Stdout.Write(append(b, '\n'))
	}
	if err != nil {
		_ = json.NewEncoder(c.Stderr).Encode(failure{Code: codeError, Message: fmt.Sprintf("writing the answer: %v", err)})
		return 1
	}
	return 0
}

type plugin struct {
	version string
	now     time.Time
}

func (p *plugin) answer(ctx context.Context, args []string, stdin io.Reader) (any, error) {
	if len(args) > 1 {
		return nil, invalid("%s takes no arguments: the request is read from stdin", args[0])
	}
	var handle func(context.Context, *request) (any, error)
	switch args[0] {
	case "get-plugin-metadata":
		handle = p.metadata
	case "describe-key":
		handle = p.describe
	case "generate-signature":
		handle = p.sign
	default:
		return nil, invalid("the command %.100q is none of get-plugin-metadata, describe-key and generate-signature", args[0])
	}
	r, err := readRequest(stdin)
	if err != nil {
		return nil, err
	}
	defer r.Config.wipe()
	return handle(ctx, r)
}

type metadataAnswer struct {
	Name         string   `json:"name"`
	Description  string   `json:"description"`
	Version      string   `json:"version"`
	URL          string   `json:"url"`
	Contracts    []string `json:"supportedContractVersions"`
	Capabilities []string `json:"capabilities"`
}

func (p *plugin) metadata(context.Context, *request) (any, error) {
	return metadataAnswer{name, description, p.version, homepage, []string{contract}, []string{"SIGNATURE_GENERATOR.RAW"}}, nil
}

// semantic is what `notation plugin install` takes for a version.
var semantic = regexp.MustCompile(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// semver makes a semantic version of what a build calls itself.
func semver(version string) string {
	version = strings.TrimPrefix(version, "v")
	if semantic.MatchString(version) {
		return version
	}
	return "0.0.0-devel"
}

// The error codes of the contract.
const (
	codeValidation = "VALIDATION_ERROR"
	codeContract   = "UNSUPPORTED_CONTRACT_VERSION"
	codeDenied     = "ACCESS_DENIED"
	codeError      = "ERROR"
)

// A failure is an error as the contract spells it.
type failure struct {
	Code     string            `json:"errorCode"`
	Message  string            `json:"errorMessage"`
	Metadata map[string]string `json:"errorMetadata,omitempty"`
}

func (f *failure) Error() string { return f.Message }

func invalid(format string, args ...any) error {
	return &failure{Code: codeValidation, Message: fmt.Sprintf(format, args...)}
}

// contractCodes are those for the reason codes of package kms; codeError for any other.
var contractCodes = map[string]string{
	kms.CodeURI:         codeValidation,
	kms.CodeOptions:     codeValidation,
	kms.CodeAlgorithm:   codeValidation,
	kms.CodeNotFound:    codeValidation,
	kms.CodeCredentials: codeDenied,
	kms.CodeDenied:      codeDenied,
	kms.CodeUnusable:    codeDenied,
}

func failureOf(err error) *failure {
	var own *failure
	if errors.As(err, &own) {
		return own
	}
	f := &failure{Code: codeError, Message: err.Error()}
	var e *kms.Error
	if !errors.As(err, &e) {
		return f
	}
	if code := contractCodes[e.Code]; code != "" {
		f.Code = code
	}
	f.Metadata = map[string]string{"class": strings.TrimPrefix(e.Code, "key-")}
	if e.Remedy != "" {
		f.Metadata["remedy"] = e.Remedy
	}
	var missing *pkcs11.MissingPIN
	if errors.As(err, &missing) {
		f.Metadata["ask"], f.Metadata["token"] = "pin", missing.Token
	}
	return f
}
