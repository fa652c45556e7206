package awskms_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/awskms"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
)

// configFile is what AWS_CONFIG_FILE names: profiles are how tests that run at once have credentials of their own.
var configFile struct {
	sync.Mutex
	path     string
	profiles int
}

func TestMain(m *testing.M) {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	dir, err := os.MkdirTemp("", "awskms")
	if err != nil {
		panic(err)
	}
	configFile.path = filepath.Join(dir, "config")
	if err := os.WriteFile(configFile.path, nil, 0o600); err != nil {
		panic(err)
	}
	for name, value := range map[string]string{
		"HOME": dir, "AWS_CONFIG_FILE": configFile.path, "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "credentials"),
		"AWS_REGION": awstest.Region, "AWS_ACCESS_KEY_ID": awstest.AccessKeyID, "AWS_SECRET_ACCESS_KEY": awstest.SecretAccessKey,
	} {
		os.Setenv(name, value)
	}
	flag.Parse()
	// These tests wait for one another's patience, not for a processor.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// profile adds a profile of these lines to the configuration and returns its name.
func profile(t *testing.T, lines ...string) string {
	t.Helper()
	configFile.Lock()
	defer configFile.Unlock()
	configFile.profiles++
	name := fmt.Sprintf("p%d", configFile.profiles)
	f, err := os.OpenFile(configFile.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "[profile %s]\n%s\n\n", name, strings.Join(lines, "\n")); err != nil {
		t.Fatal(err)
	}
	return name
}

// open opens a key as the program does.
func open(t *testing.T, uri string) (kms.Key, error) {
	t.Helper()
	return kms.Providers{"awskms": awskms.Open}.Open(t.Context(), uri, kms.Options{Agent: "imprint/1.2.3"})
}

func mustOpen(t *testing.T, uri string) kms.Key {
	t.Helper()
	k, err := open(t, uri)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign has k sign with its own algorithm, and counts the calls that it takes.
func sign(t *testing.T, k kms.Key) (calls int64, err error) {
	t.Helper()
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	k, n := kms.Metered(k)
	message := []byte("message")
	sig, err := k.Sign(t.Context(), message, a.SignerOpts())
	if err == nil {
		if err := a.Verify(k.Public(), message, sig); err != nil {
			t.Errorf("a signature that does not verify got out: %v", err)
		}
	}
	return n.Load(), err
}

// wantError wants a *kms.Error of that code, and the texts in it or in its remedy.
func wantError(t *testing.T, err error, code string, says ...string) {
	t.Helper()
	var e *kms.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *kms.Error of code %s", err, code)
	}
	if e.Code != code {
		t.Errorf("code %s, want %s: %v", e.Code, code, err)
	}
	class := kms.ErrService
	if code == kms.CodeAlgorithm || code == kms.CodeURI {
		class = kms.ErrInvalid
	}
	if !errors.Is(err, class) {
		t.Errorf("the error does not wrap %v: %v", class, err)
	}
	all := err.Error() + "\n" + e.Remedy
	for _, text := range says {
		if !strings.Contains(all, text) {
			t.Errorf("it does not say %q:\n%s", text, all)
		}
	}
	if strings.Contains(all, "IMDS") || strings.Contains(all, "\n\n") || strings.Count(all, "\n") > 1 || e.Remedy == "" && code != kms.CodeService &&
		code != kms.CodeAlgorithm && code != kms.CodeSignature && code != kms.CodeURI && code != kms.CodeUnusable {
		t.Errorf("not what a person can use:\n%s", all)
	}
}

// listener returns an address at which nobody answers: with silent, connections are taken all the same.
func listener(t *testing.T, silent bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if silent {
		t.Cleanup(func() { l.Close() })
	} else {
		l.Close()
	}
	return l.Addr().String()
}
