package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/imprint-oci/imprint/cmd"
	"github.com/imprint-oci/imprint/kms"
)

// A person runs imprint in this process, with a home folder, keys and a clock of their own.
type person struct {
	dir   string
	env   []string
	keys  kms.Providers
	now   func() time.Time
	stdin string
}

func newPerson(t testing.TB) *person {
	t.Helper()
	dir, err := os.MkdirTemp("", "imprint") // not t.TempDir: a test's name holds what a key URI may not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	return &person{
		dir:  dir,
		env:  []string{"HOME=" + home, "DOCKER_CONFIG=" + filepath.Join(home, ".docker"), "PATH=" + os.Getenv("PATH")},
		keys: cmd.Providers(),
		now:  time.Now,
	}
}

// file writes a file of the person's alone and returns its path.
func (p *person) file(name string, b []byte) string {
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		panic(err)
	}
	return path
}

// An outcome is what a run of imprint left.
type outcome struct {
	code           int
	stdout, stderr string
}

// run runs imprint.
func (p *person) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return p.runIn(t.Context(), args...)
}

// runIn runs imprint until ctx ends.
func (p *person) runIn(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := cmd.Run(ctx, args, cmd.Env{
		In: strings.NewReader(p.stdin), Out: &stdout, Err: &stderr, Environ: p.env, Keys: p.keys, Now: p.now, SystemDir: filepath.Join(p.dir, "etc"),
	})
	return outcome{code, stdout.String(), stderr.String()}
}

// process runs imprint in a process of its own: what it starts looks programs up there.
func (p *person) process(t testing.TB, args ...string) outcome {
	t.Helper()
	path, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), path, args...)
	c.Env = append(slices.Clone(p.env), "GORACE="+quickExit)
	c.Stdin = strings.NewReader(p.stdin)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	var exited *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want runs imprint with -o json and wants an exit code and a reason code: that of the error, of the verdict, or ("a
// signature's") of any signature in a report. An empty reason asks for none.
func (p *person) want(t testing.TB, code int, reason string, args ...string) outcome {
	t.Helper()
	o := p.run(t, append(slices.Clone(args), "-o", "json")...)
	if o.code != code {
		t.Errorf("imprint %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), o.code, code, o.stdout, o.stderr)
		return o
	}
	if reason == "" {
		return o
	}
	reasons := o.reasons(t)
	if !slices.Contains(reasons, reason) {
		t.Errorf("imprint %s: reasons %q, want %s\n%s%s", strings.Join(args, " "), reasons, reason, o.stdout, o.stderr)
	}
	return o
}

// reasons returns every reason code that the JSON on stdout holds.
func (o outcome) reasons(t testing.TB) []string {
	t.Helper()
	docs, err := documents(o.stdout)
	if err != nil {
		t.Fatalf("stdout is no JSON: %v\n%s", err, o.stdout)
	}
	found := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if s, ok := x.(string); ok && (k == "reason" || k == "code") {
					found[s] = true
				}
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	for _, d := range docs {
		walk(d)
	}
	return slices.Sorted(maps.Keys(found))
}

// field returns what stands at path in the last JSON document on stdout, as [said] says it; "" if there is nothing.
func (o outcome) field(t testing.TB, path string) string {
	t.Helper()
	docs, err := documents(o.stdout)
	if err != nil || len(docs) == 0 {
		t.Fatalf("stdout is no JSON: %v\n%s%s", err, o.stdout, o.stderr)
	}
	v, ok := lookup(docs[len(docs)-1], path)
	if !ok {
		return ""
	}
	return said(v)
}

// apart takes an envelope apart without imprint's code: signed parts, and unprotected members but for the chain, each by name.
func apart(t testing.TB, mediaType string, b []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	if mediaType == jwsType {
		var e map[string]json.RawMessage
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		for name, raw := range e {
			if name == "header" {
				continue
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := base64.RawURLEncoding.DecodeString(s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			out[name] = []byte(s)
		}
		var header map[string]json.RawMessage
		if err := json.Unmarshal(e["header"], &header); err != nil {
			t.Fatal(err)
		}
		for name, raw := range header {
			if name != "x5c" {
				out["header "+name] = raw
			}
		}
		return out
	}
	var e struct {
		_           struct{} `cbor:",toarray"`
		Protected   cbor.RawMessage
		Unprotected map[any]cbor.RawMessage
		Payload     cbor.RawMessage
		Signature   cbor.RawMessage
	}
	if len(b) == 0 || b[0] != 0xd2 {
		t.Fatal("not a tagged COSE_Sign1")
	}
	if err := cbor.Unmarshal(b[1:], &e); err != nil {
		t.Fatal(err)
	}
	out["protected"], out["payload"], out["signature"] = e.Protected, e.Payload, e.Signature
	for label, raw := range e.Unprotected {
		if label != uint64(33) {
			out["header "+said(label)] = raw
		}
	}
	return out
}
