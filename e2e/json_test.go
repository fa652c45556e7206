package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// lookup finds a value in a decoded JSON document: names and positions joined by dots, "signatures.0.reason"; a last
// "len" is the length of the array that stands there. ok is false if there is nothing.
func lookup(doc any, path string) (v any, ok bool) {
	v = doc
	if path == "" || path == "." {
		return v, true
	}
	for step := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			if v, ok = at[step]; !ok {
				return nil, false
			}
		case []any:
			if step == "len" {
				v = len(at)
				continue
			}
			i, err := strconv.Atoi(step)
			if i < 0 {
				i += len(at)
			}
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// said renders a JSON value as a test writes it: strings bare, all else as JSON.
func said(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// documents decodes one or more JSON documents (JSON lines), refusing anything else between them.
func documents(text string) ([]any, error) {
	var out []any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for d.More() {
		var v any
		if err := d.Decode(&v); err != nil {
			return out, fmt.Errorf("document %d: %w", len(out)+1, err)
		}
		out = append(out, v)
	}
	return out, nil
}

func TestLookup(t *testing.T) {
	t.Parallel()
	docs, err := documents(`{"a":[{"b":"x"},{"b":null}],"n":12345678901234567}` + "\n" + `[]`)
	if err != nil || len(docs) != 2 {
		t.Fatal(docs, err)
	}
	for path, want := range map[string]string{
		"a.0.b": "x", "a.-1.b": "null", "a.len": "2", "n": "12345678901234567", "": `{"a":[{"b":"x"},{"b":null}],"n":12345678901234567}`,
	} {
		if v, ok := lookup(docs[0], path); !ok || said(v) != want {
			t.Errorf("%s is %s, %t; want %s", path, said(v), ok, want)
		}
	}
	for _, path := range []string{"b", "a.2", "a.x", "n.len", "a.0.b.c"} {
		if v, ok := lookup(docs[0], path); ok {
			t.Errorf("%s is %s; want nothing", path, said(v))
		}
	}
	if _, err := documents(`{} oops`); err == nil {
		t.Error("text after JSON: no error")
	}
	if !bytes.Equal([]byte(said("x")), []byte("x")) {
		t.Error("strings are not bare")
	}
}
