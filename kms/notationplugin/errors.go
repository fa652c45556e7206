package notationplugin

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/imprint-oci/imprint/kms"
)

// broken is the error of a plugin that does not keep the contract.
func (p *plugin) broken(command, format string, args ...any) error {
	err := fmt.Errorf("plugin %s: %s: "+format, append([]any{p.name, command}, args...)...)
	return &kms.Error{Code: kms.CodePlugin, Class: kms.ErrService, Err: p.redacted(err), Remedy: p.makers()}
}

// makers says whom to ask about a plugin that does not work; "" if it never said.
func (p *plugin) makers() string {
	switch {
	case p.lock != nil:
		return "a crash is most likely that of the token's PKCS #11 module: try another version of it, or it alone with pkcs11-tool"
	case p.url == "":
		return ""
	}
	return "that is the plugin's failure, not the registry's: ask those who make it, " + p.url
}

// redacted takes the PIN out of an error's text, should a plugin have repeated it.
func (p *plugin) redacted(err error) error {
	if text := p.lock.redact(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// failures are the error codes of the contract, and what they mean here.
var failures = map[string]struct {
	code      string
	temporary bool
}{
	"VALIDATION_ERROR":             {kms.CodeService, false}, // the id, or something in the configuration, is not to its liking
	"UNSUPPORTED_CONTRACT_VERSION": {kms.CodePlugin, false},
	"ACCESS_DENIED":                {kms.CodeDenied, false},
	"TIMEOUT":                      {kms.CodeUnreachable, false},
	"THROTTLED":                    {kms.CodeThrottled, true},
	"ERROR":                        {kms.CodeService, false},
}

// refine takes over what imprint's own plugin says beyond the contract: "class", a reason code of package kms without its "key-".
func refine(e *kms.Error, class string) {
	code := "key-" + class
	if _, known := kms.Reasons()[code]; !known {
		return
	}
	e.Code = code
	switch code {
	case kms.CodeURI, kms.CodeOptions, kms.CodeAlgorithm:
		e.Class = kms.ErrInvalid
	}
}

// A refusal is an error that a plugin answered with.
type refusal struct {
	text     string
	metadata map[string]string
}

func (r *refusal) Error() string { return r.text }

// failed says why a process left without success: by the error that it wrote to stderr, or by its exit status and whatever else
// stands there.
func (p *plugin) failed(command string, exit *exec.ExitError, stderr []byte) error {
	code, message, metadata, ok := complaint(stderr)
	if !ok {
		said := ""
		first, _, _ := strings.Cut(strings.TrimSpace(string(stderr)), "\n\n") // stack traces come after it
		if text := kms.Text(first); text != "" {
			said = ": " + text
		}
		return p.broken(command, "it ended with %s%s", exit.ProcessState, said)
	}
	e := &kms.Error{Code: kms.CodeService, Class: kms.ErrService}
	if f, known := failures[code]; known {
		e.Code, e.Temporary = f.code, f.temporary
	}
	r := &refusal{fmt.Sprintf("plugin %s: %s: %s: %s", p.name, command, kms.Text(code), kms.Text(message)), metadata}
	if message == "" {
		r.text = fmt.Sprintf("plugin %s: %s: %s", p.name, command, kms.Text(code))
	}
	switch {
	case p.lock != nil:
		refine(e, metadata["class"])
		e.Final = true // it has judged by itself what is worth another try
		e.Remedy = kms.Text(metadata["remedy"])
		if message != "" {
			r.text = binary(p.name) + ": " + kms.Text(message)
		}
	case p.url != "" && e.Code != kms.CodeThrottled && e.Code != kms.CodeUnreachable:
		e.Remedy = fmt.Sprintf("the plugin's id=KEY and plugin-config, and what it needs besides: %s", p.url)
	}
	r.text, e.Remedy = p.lock.redact(r.text), p.lock.redact(e.Remedy)
	e.Err = r
	return e
}

// complaint reads the error of the contract.
func complaint(stderr []byte) (code, message string, metadata map[string]string, ok bool) {
	m, err := parse(stderr)
	if err != nil {
		return "", "", nil, false
	}
	if code, err = m.text("errorCode"); err != nil {
		return "", "", nil, false
	}
	// Both are optional, and not worth losing the code for.
	if m.has("errorMessage") {
		_ = m.read("errorMessage", &message)
	}
	if m.has("errorMetadata") {
		_ = m.read("errorMetadata", &metadata)
	}
	return code, message, metadata, true
}
