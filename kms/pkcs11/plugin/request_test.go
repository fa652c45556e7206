package plugin

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzUnquote compares with package json, which has found its input well-formed.
func FuzzUnquote(f *testing.F) {
	for _, seed := range []string{`"abc"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\\u0041\n"`, `"\ud83d\ud83d\ude00"`, `""`, `7`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, quoted string) {
		if !utf8.ValidString(quoted) || !json.Valid([]byte(quoted)) {
			return
		}
		var m map[string]json.RawMessage
		if json.Unmarshal([]byte(`{"x":`+quoted+`}`), &m) != nil {
			return
		}
		var want string
		wrong := len(m["x"]) == 0 || m["x"][0] != '"'
		if !wrong {
			if err := json.Unmarshal(m["x"], &want); err != nil {
				t.Fatal(err)
			}
		}
		got, err := unquote(m["x"])
		if wrong != (err != nil) || string(got) != want {
			t.Errorf("%s is read as %q, %v; want %q", quoted, got, err, want)
		}
	})
}
