// Package plugintest installs a signing plugin of imprint's own making, whose keys are files and whose misbehaviour is chosen by its
// configuration: notation-test, the program beside this package, says which there are.
package plugintest

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

var build struct {
	sync.Mutex
	dir string
}

// binary builds the plugin once per process.
func binary(t testing.TB) string {
	t.Helper()
	build.Lock()
	defer build.Unlock()
	if build.dir == "" {
		dir, err := os.MkdirTemp("", "notation-test")
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("go", "build", "-o", dir, "github.com/imprint-oci/imprint/kms/kmstest/plugintest/notation-test")
		if out, err := c.CombinedOutput(); err != nil {
			_ = os.RemoveAll(dir)
			t.Fatalf("building notation-test: %v\n%s", err, out)
		}
		build.dir = dir
	}
	return filepath.Join(build.dir, "notation-test")
}

// Clean removes what was built. A package's TestMain calls it last.
func Clean() {
	build.Lock()
	defer build.Unlock()
	_ = os.RemoveAll(build.dir)
	build.dir = ""
}

// Install puts the plugin under a name into a folder that may be NOTATION_LIBEXEC, and returns its executable.
func Install(t testing.TB, libexec, name string) string {
	t.Helper()
	path := filepath.Join(libexec, "plugins", name, "notation-"+name)
	InstallAt(t, path)
	return path
}

// InstallAt puts the plugin at a path. What the path calls it is its name.
func InstallAt(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	// Linked, not copied: a process that starts while a copy is being written keeps it from being run (golang/go#22315).
	if err := os.Link(binary(t), path); err != nil {
		t.Fatal(err)
	}
}

// A Plugin is the plugin "test", installed in a folder of its own.
type Plugin struct {
	Libexec string // for NOTATION_LIBEXEC
	Path    string // of the executable

	t   testing.TB
	dir string
}

// New installs the plugin "test". It ends with the test.
func New(t testing.TB) *Plugin {
	t.Helper()
	dir, err := os.MkdirTemp("", "plugintest") // short, and without what a test's name holds
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &Plugin{Libexec: filepath.Join(dir, "libexec"), t: t, dir: dir}
	p.Path = Install(t, p.Libexec, "test")
	return p
}

// A Config is a plugin's configuration.
type Config map[string]string

// With returns c with one member more.
func (c Config) With(name, value string) Config {
	c = maps.Clone(c)
	c[name] = value
	return c
}

// AddKey gives the plugin a key with its chain, and returns the configuration by which it finds them.
func (p *Plugin) AddKey(name string, key crypto.Signer, chain ...*x509.Certificate) Config {
	p.t.Helper()
	c := Config{
		"calls-file": filepath.Join(p.dir, "calls"),
		"key-file":   filepath.Join(p.dir, name+".key"),
		"chain-file": filepath.Join(p.dir, name+".pem"),
	}
	p.write(c["key-file"], certtest.KeyPEM(key))
	p.write(c["chain-file"], certtest.PEM(chain...))
	return c
}

// Default makes c what the plugin falls back on when it is asked without such a configuration.
func (p *Plugin) Default(c Config) { Default(p.t, p.Path, c) }

// Default is [Plugin.Default] for any executable that was installed.
func Default(t testing.TB, executable string, c Config) {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(executable+".json", b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *Plugin) write(path string, b []byte) {
	p.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// Calls counts the processes that were started for a command ("" for any) of all keys.
func (p *Plugin) Calls(command string) int {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "calls"))
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); command == "" || line == command {
			n++
		}
	}
	return n
}

// Left returns those processes of a plugin that hung (pids-file) that still run. Linux only.
func Left(pidsFile string) ([]string, error) {
	b, err := os.ReadFile(pidsFile)
	if err != nil {
		return nil, err
	}
	var left []string
	for pid := range strings.FieldsSeq(string(b)) {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err != nil {
			continue
		}
		// pid (name) state …: a zombie that nobody reaps runs no more.
		_, after, _ := strings.Cut(string(stat), ") ")
		if !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X") {
			left = append(left, fmt.Sprintf("%s: %s", pid, stat))
		}
	}
	return left, nil
}
