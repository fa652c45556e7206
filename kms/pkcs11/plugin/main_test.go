package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
	"github.com/imprint-oci/imprint/kms/pkcs11/plugin"
)

// asPlugin makes a process of this test be the plugin: SoftHSM reads its configuration from the environment of its process.
const asPlugin = "IMPRINT_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		os.Exit(plugin.Run(context.Background(), plugin.Process{
			Version: "v1.2.3", Now: time.Now(), Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		}))
	}
	os.Exit(m.Run())
}

// failure is the error of the contract.
type failure struct {
	Code     string            `json:"errorCode"`
	Message  string            `json:"errorMessage"`
	Metadata map[string]string `json:"errorMetadata"`
}

// An outcome is what the plugin answered.
type outcome struct {
	answer  map[string]json.RawMessage // nil after a failure
	failure failure
	stdout  string
	stderr  string
}

// run asks the plugin in a process of its own. It checks what is true of every answer.
func run(t testing.TB, env []string, stdin string, args ...string) outcome {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append([]string{asPlugin + "=1", "PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE"), "GOCOVERDIR=" + t.TempDir()}, env...)
	c.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	var exited *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	o := outcome{stdout: stdout.String(), stderr: stderr.String()}
	switch code := c.ProcessState.ExitCode(); code {
	case 0:
		if o.stderr != "" {
			t.Errorf("%s succeeds and says %q", args, o.stderr)
		}
		if err := json.Unmarshal(stdout.Bytes(), &o.answer); err != nil {
			t.Fatalf("%s: stdout is no JSON: %v\n%s", args, err, o.stdout)
		}
	case 1:
		if o.stdout != "" {
			t.Errorf("%s fails and answers %q", args, o.stdout)
		}
		if err := json.Unmarshal(stderr.Bytes(), &o.failure); err != nil || o.failure.Message == "" {
			t.Fatalf("%s: stderr is no error of the contract: %v\n%s", args, err, o.stderr)
		}
	default:
		t.Fatalf("%s: exit code %d\n%s", args, code, o.stderr)
	}
	return o
}

// ask asks about a key. more are further members of the request; pluginConfig is one.
func ask(t testing.TB, h *pkcs11test.HSM, command, uri string, more map[string]any) outcome {
	t.Helper()
	request := map[string]any{"contractVersion": "1.0", "keyId": uri}
	maps.Copy(request, more)
	b, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, h.Env, string(b), command)
}

// configured is a request's pluginConfig of names and values.
func configured(pairs ...string) map[string]any {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return map[string]any{"pluginConfig": m}
}

// fails wants a failure with a code, a class, and texts in its message.
func (o outcome) fails(t testing.TB, code, class string, says ...string) {
	t.Helper()
	if o.answer != nil {
		t.Fatalf("it succeeds: %s", o.stdout)
	}
	if o.failure.Code != code || o.failure.Metadata["class"] != class {
		t.Errorf("%s, class %q; want %s, %q\n%s", o.failure.Code, o.failure.Metadata["class"], code, class, o.stderr)
	}
	for _, text := range says {
		if !strings.Contains(o.failure.Message, text) {
			t.Errorf("it does not say %q: %s", text, o.failure.Message)
		}
	}
}

// text returns a member of the answer that is a string.
func (o outcome) text(t testing.TB, name string) string {
	t.Helper()
	var s string
	o.read(t, name, &s)
	return s
}

func (o outcome) read(t testing.TB, name string, v any) {
	t.Helper()
	if o.answer == nil {
		t.Fatalf("it fails: %s", o.stderr)
	}
	if err := json.Unmarshal(o.answer[name], v); err != nil {
		t.Fatalf("member %s: %v\n%s", name, err, o.stdout)
	}
}
