package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An object is a JSON object without duplicate members. Numbers are json.Number.
type object map[string]any

// parseObject reads one JSON object and nothing after it, strictly: valid UTF-8, no duplicate members at any depth,
// bounded nesting.
func parseObject(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, malformed("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, malformed("something follows the JSON object")
	}
	o, ok := v.(object)
	if !ok {
		return nil, malformed("it is not a JSON object")
	}
	return o, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxNesting {
		return nil, malformed("it is nested deeper than %d", maxNesting)
	}
	t, err := d.Token()
	if err != nil {
		return nil, malformedJSON(err)
	}
	switch t {
	case json.Delim('{'):
		o := object{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, malformedJSON(err)
			}
			name := key.(string)
			if _, twice := o[name]; twice {
				return nil, ambiguous("the member %q stands twice", clip(name))
			}
			if o[name], err = parseValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		if _, err := d.Token(); err != nil {
			return nil, malformedJSON(err)
		}
		return o, nil
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, malformedJSON(err)
		}
		return list, nil
	}
	return t, nil
}

func malformedJSON(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return malformed("%w", err)
}

// spelling refuses case variants of known members.
func (o object) spelling(known []string) error {
	for name := range o {
		for _, k := range known {
			if name != k && strings.EqualFold(name, k) {
				return ambiguous("%q is read as %q by some", clip(name), k)
			}
		}
	}
	return nil
}

// text returns a string member, "" if it is absent.
func (o object) text(name string) (string, error) {
	v, has := o[name]
	if !has {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", malformed("%s is not a string", name)
	}
	return s, nil
}

// annotations returns the string map of that name; null is what Go's encoders write for none.
func (o object) annotations() (map[string]string, error) {
	switch v := o["annotations"].(type) {
	case nil:
		return nil, nil
	case object:
		m := make(map[string]string, len(v))
		for key, value := range v {
			s, ok := value.(string)
			if !ok {
				return nil, malformed("the annotation %q is not a string", clip(key))
			}
			m[key] = s
		}
		return m, nil
	}
	return nil, malformed("annotations are not an object")
}

// descriptor returns a descriptor member, nil if it is absent or null.
func (o object) descriptor(name string) (*ocispec.Descriptor, error) {
	switch v := o[name].(type) {
	case nil:
		return nil, nil
	case object:
		d, err := parseDescriptor(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return &d, nil
	}
	return nil, malformed("%s is not an object", name)
}

// descriptors returns a list of descriptors; null is what Go's encoders write for none.
func (o object) descriptors(name string) ([]ocispec.Descriptor, error) {
	v := o[name]
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, malformed("%s is not a list", name)
	}
	out := make([]ocispec.Descriptor, len(list))
	for i, v := range list {
		e, ok := v.(object)
		if !ok {
			return nil, malformed("%s[%d] is not an object", name, i)
		}
		var err error
		if out[i], err = parseDescriptor(e); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
	}
	return out, nil
}

func (o object) texts(name string) ([]string, error) {
	v := o[name]
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, malformed("%s is not a list", name)
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok {
			return nil, malformed("%s[%d] is not a string", name, i)
		}
	}
	return out, nil
}
