package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth limits the nesting of what is read, JSON and CBOR.
const maxDepth = 16

// checkJSON accepts one JSON value that every reader understands alike: valid UTF-8 without lone surrogates, no byte order mark,
// no member twice in any object, at most maxDepth levels, nothing after it. encoding/json alone takes the last of two members and
// replaces what is not Unicode.
func checkJSON(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("not valid UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if hasLoneSurrogate(b) {
		return errors.New("a string holds half a surrogate pair")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return checkValue(d, 0)
}

func checkValue(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	var seen map[string]bool
	if open == '{' {
		seen = map[string]bool{}
	}
	for d.More() {
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name, ok := t.(string)
			if !ok {
				return errors.New("a member's name is not a string")
			}
			if seen[name] {
				return fmt.Errorf("member %q is there twice", name)
			}
			seen[name] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// hasLoneSurrogate reports whether a \u escape of valid JSON names a surrogate without its other half.
func hasLoneSurrogate(b []byte) bool {
	unit := func(i int) uint64 { // the UTF-16 unit escaped at i, 0 if there is none
		if i+6 > len(b) || b[i] != '\\' || b[i+1] != 'u' {
			return 0
		}
		u, err := strconv.ParseUint(string(b[i+2:i+6]), 16, 16)
		if err != nil {
			return 0
		}
		return u
	}
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		switch u := unit(i); {
		case 0xd800 <= u && u < 0xdc00:
			if low := unit(i + 6); low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 11
		case 0xdc00 <= u && u <= 0xdfff:
			return true
		default:
			i++ // what is escaped may be a backslash
		}
	}
	return false
}

// A member of a JSON object: its value's bytes stand at offset in the object's bytes.
type member struct {
	name   string
	value  json.RawMessage
	offset int
}

// members returns the members of an object, in their order. b has passed checkJSON, alone or as part of a whole.
func members(b []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var all []member
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: t.(string)}
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		m.offset = int(d.InputOffset()) - len(m.value)
		all = append(all, m)
	}
	return all, nil
}

func stringValue(raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' {
		return "", errors.New("not a string")
	}
	err := json.Unmarshal(raw, &s)
	return s, err
}

func stringArray(raw json.RawMessage) ([]string, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil || elements == nil {
		return nil, errors.New("not an array of strings")
	}
	all := []string{}
	for _, e := range elements {
		s, err := stringValue(e)
		if err != nil {
			return nil, errors.New("not an array of strings")
		}
		all = append(all, s)
	}
	return all, nil
}

func stringMap(raw json.RawMessage) (map[string]string, error) {
	ms, err := members(raw)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, m := range ms {
		if all[m.name], err = stringValue(m.value); err != nil {
			return nil, fmt.Errorf("%q: %w", m.name, err)
		}
	}
	return all, nil
}
