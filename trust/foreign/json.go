package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxDocument limits what is imported.
const MaxDocument = 4 << 20

// ErrDocument: what is to be imported is no trust policy that its own program would read. Errors are *DocumentError.
var ErrDocument = errors.New("no trust policy")

// A DocumentError says what is wrong with a document.
type DocumentError struct{ Err error }

func (e *DocumentError) Error() string        { return e.Err.Error() }
func (e *DocumentError) Unwrap() error        { return e.Err }
func (e *DocumentError) Reason() string       { return codeMalformed }
func (e *DocumentError) Is(target error) bool { return target == ErrDocument }

const (
	codeMalformed = "import-malformed"
	codeNothing   = "export-nothing"
	codeLoss      = "policy-loss"
)

// Reasons says in one sentence what each reason code of an error of this package means.
func Reasons() map[string]string {
	return map[string]string{
		codeMalformed: "What is to be imported is not a trust policy of notation or of containers/image, or not one that they would read.",
		codeNothing:   "Nothing of the policy can be said in the words of the target: everything would be rejected.",
		codeLoss:      "The translation of a policy loses something that --accept-loss does not name.",
	}
}

func wrong(format string, args ...any) error { return &DocumentError{fmt.Errorf(format, args...)} }

// decode reads exactly one JSON value whose members v knows, each once.
func decode(b []byte, v any) error {
	switch {
	case len(b) > MaxDocument:
		return wrong("it is larger than %d bytes", MaxDocument)
	case !utf8.Valid(b):
		return wrong("it is not UTF-8")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return wrong("there is nothing in it")
	}
	if err := once(json.NewDecoder(bytes.NewReader(b))); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return wrong("it is not JSON as it should be: it ends in the middle")
	} else if err != nil {
		return wrong("it is not JSON as it should be: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return wrong("%w", err)
	}
	return nil
}

// maxDepth limits how deep values nest.
const maxDepth = 32

// once refuses members that stand twice: of those readers take the first or the last. It reads to the end.
func once(d *json.Decoder) error {
	if err := value(d, 0, true); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}

// value reads one value. folded: names are fields, which encoding/json takes in whichever case they are written.
func value(d *json.Decoder, depth int, folded bool) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return errors.New("it nests too deep")
	}
	seen := map[string]bool{}
	for d.More() {
		within := folded
		if delim == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := t.(string)
			key := name
			if folded {
				key = strings.ToLower(name)
			}
			if seen[key] {
				return fmt.Errorf("the member %q stands twice", name)
			}
			seen[key] = true
			within = folded && name != "transports" // below it are scopes
		}
		if err := value(d, depth+1, within); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
