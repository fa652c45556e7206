package notationplugin

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/kms"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"":                   "no JSON object",
		"null":               "no JSON object",
		`"x"`:                "no JSON object",
		"\xef\xbb\xbf{}":     "no JSON object",
		"{\"a\":\"\xff\"}":   "not UTF-8",
		"{":                  "no JSON",
		`{"a"}`:              "no JSON",
		`{"a":1,}`:           "no JSON",
		`{"a":1,"a":2}`:      `member "a" twice`,
		`{"a":1,"\u0061":2}`: `member "a" twice`,
		`{} {}`:              "goes on",
		`{}x`:                "goes on",
		`{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`: "no JSON",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v, want %q", text, err, says)
		}
	}
	m, err := parse([]byte(" {\"a\":null,\"b\":\"x\",\"B\":7}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m.has("a") || !m.has("b") || m.has("c") {
		t.Errorf("members %v", m)
	}
	if b, err := m.text("b"); err != nil || b != "x" {
		t.Errorf("b is %q, %v", b, err)
	}
}

// FuzzAnswer: whatever a plugin writes, to stdout or to stderr, is understood or refused.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"keyId":"k","keySpec":"EC-256"}`, `{"keyId":"k","signature":"AAAA","certificateChain":["MIIB"]}`,
		`{"errorCode":"THROTTLED","errorMessage":"m","errorMetadata":{"class":"denied"}}`, `{"a":[1,{"b":null}]}`, "{}{}", "x",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		complaint(b)
		m, err := parse(b)
		if err != nil {
			return
		}
		var whole map[string]json.RawMessage
		if err := json.Unmarshal(b, &whole); err != nil || len(whole) != len(m) {
			t.Fatalf("%d members of %q, encoding/json finds %d, %v", len(m), b, len(whole), err)
		}
		for name := range m {
			_, _ = m.text(name)
			_, _ = m.bytes(name)
		}
		_, _ = m.chain()
	})
}

// TestNothingLeft: goroutines and open files after good and bad signatures are those of before. (Not parallel: it counts them.)
func TestNothingLeft(t *testing.T) {
	s := newStage(t, "P-256")
	open := func(fault string) kms.Key {
		return s.opened(t, kms.Options{Leaf: s.chain[0].PublicKey, Config: s.config.With("fault", fault)})
	}
	for _, fault := range []string{"", "crash", "huge", "garbage", "silent"} { // what is made once is made now
		_ = signOnce(t.Context(), open(fault))
	}
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 3 {
		for _, fault := range []string{"", "crash", "huge", "garbage", "silent"} {
			if err := signOnce(t.Context(), open(fault)); (err == nil) != (fault == "") {
				t.Errorf("%q: %v", fault, err)
			}
		}
	}
	for until := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		g, f := runtime.NumGoroutine(), openFiles(t)
		if g <= goroutines && f <= files {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d goroutines and %d files, were %d and %d", g, f, goroutines, files)
		}
	}
}

// openFiles counts them where the system tells; elsewhere it returns 0.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(entries)
}
