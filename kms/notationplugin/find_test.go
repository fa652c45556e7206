package notationplugin

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
)

// TestFolders: where plugins are looked for, and in which order.
func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	h := hostWith(map[string]string{"NOTATION_LIBEXEC": at("libexec"), "XDG_CONFIG_HOME": at("xdg"), "HOME": at("home")})
	h.config = func() (string, error) { return at("Library"), nil }
	h.system = at("system")
	want := []string{
		at("libexec"), at("xdg", "notation"), at("home", ".config", "notation"), at("Library", "notation"), at("system"),
	}
	var all []string
	for _, folder := range want {
		all = append(all, plugintest.Install(t, folder, "x"))
	}
	for _, path := range all {
		got, err := h.find("x")
		if err != nil {
			t.Fatal(err)
		}
		if got != path {
			t.Errorf("found %s, want %s", got, path)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	_, err := h.find("x")
	wantError(t, err, kms.CodePlugin, append(want, "no plugin x is installed", "notation-x in plugins/x")...)
	var e *kms.Error
	if !errors.As(err, &e) || !strings.Contains(e.Remedy, at("libexec", "plugins", "x", "notation-x")) {
		t.Errorf("remedy %q", e.Remedy)
	}
}

// TestNeverTheWorkingFolder: relative paths in variables are ignored. (Not parallel: it changes the working folder.)
func TestNeverTheWorkingFolder(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{".", "libexec", "notation", ".config/notation"} {
		plugintest.Install(t, filepath.Join(dir, folder), "x")
	}
	plugintest.InstallAt(t, filepath.Join(dir, "notation-pkcs11"))
	plugintest.InstallAt(t, filepath.Join(dir, "bin", "notation-pkcs11"))
	t.Chdir(dir)
	for name, env := range map[string]map[string]string{
		"nothing set": {},
		"empty":       {"NOTATION_LIBEXEC": "", "XDG_CONFIG_HOME": "", "HOME": "", "PATH": ""},
		"relative":    {"NOTATION_LIBEXEC": "libexec", "XDG_CONFIG_HOME": ".", "HOME": ".", "PATH": "bin" + string(filepath.ListSeparator) + "."},
		"dots":        {"NOTATION_LIBEXEC": "./libexec", "XDG_CONFIG_HOME": "./", "HOME": "./", "PATH": string(filepath.ListSeparator)},
	} {
		_, err := hostWith(env).find("x")
		wantError(t, err, kms.CodePlugin, "no plugin x is installed")
		_, err = hostWith(env).findBeside("pkcs11")
		wantError(t, err, kms.CodePlugin, "no executable notation-pkcs11")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestUnusable: what is there and is no plugin is said, not passed over.
func TestUnusable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make func(path string) error
		says string
	}{
		"not executable": {func(path string) error { return os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600) }, "it is not executable"},
		"a folder":       {func(path string) error { return os.Mkdir(path, 0o700) }, "it is no regular file"},
		"a link":         {func(path string) error { return os.Symlink("/bin/true", path) }, "it is a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, below := t.TempDir(), t.TempDir()
			plugintest.Install(t, filepath.Join(below, "notation"), "x")
			if err := os.MkdirAll(filepath.Join(dir, "plugins", "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "plugins", "x", "notation-x")
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			_, err := hostWith(map[string]string{"NOTATION_LIBEXEC": dir, "XDG_CONFIG_HOME": below}).find("x")
			wantError(t, err, kms.CodePlugin, path, test.says)
		})
	}
	t.Run("no program", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "plugins", "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "plugins", "x", "notation-x"), []byte("neither"), 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := hostWith(map[string]string{"NOTATION_LIBEXEC": dir}).open(t.Context(), mustURI(t, "plugin:x?id=k"), kms.Options{})
		wantError(t, err, kms.CodePlugin, "opening key plugin:x?id=k", "plugin x: get-plugin-metadata: it cannot be started")
	})
}

// TestNames: a name never leads out of its folder, however the URI was parsed.
func TestNames(t *testing.T) {
	t.Parallel()
	h := hostWith(map[string]string{"NOTATION_LIBEXEC": t.TempDir()})
	for _, name := range []string{"", "..", "../x", "x/y", `x\y`, ".x", "-x", "x y", "x\x00", "é", strings.Repeat("x", 129)} {
		_, err := h.open(t.Context(), &url.URL{Scheme: "plugin", Opaque: name, RawQuery: "id=k"}, kms.Options{})
		wantError(t, err, kms.CodeURI, "it names no key of a plugin")
	}
	_, err := h.open(t.Context(), &url.URL{Scheme: "plugin", Opaque: "x"}, kms.Options{})
	wantError(t, err, kms.CodeURI, "it names no key of a plugin")
}

// TestBeside: our own plugin is found beside the running program, whose links are resolved, then on PATH, then among the plugins.
func TestBeside(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("links")
	}
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	for _, folder := range []string{"opt", "bin", "path"} {
		if err := os.Mkdir(at(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("opt", "imprint"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("opt", "imprint"), at("bin", "imprint")); err != nil {
		t.Fatal(err)
	}
	h := hostWith(map[string]string{"PATH": "rel" + string(filepath.ListSeparator) + at("path"), "NOTATION_LIBEXEC": at("libexec")})
	h.executable = func() (string, error) { return at("bin", "imprint"), nil }
	want := []string{at("opt", "notation-pkcs11"), at("path", "notation-pkcs11"), at("libexec", "plugins", "pkcs11", "notation-pkcs11")}
	for _, path := range append([]string{at("bin", "notation-pkcs11")}, want...) {
		plugintest.InstallAt(t, path)
	}
	for _, path := range want {
		got, err := h.findBeside("pkcs11")
		if err != nil {
			t.Fatal(err)
		}
		if resolved, err := filepath.EvalSymlinks(path); err != nil || got != path && got != resolved {
			t.Errorf("found %s, want %s", got, path)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	_, err := h.findBeside("pkcs11")
	wantError(t, err, kms.CodePlugin, "no executable notation-pkcs11 is beside this program ("+at("opt")+")", at("libexec"))
	var e *kms.Error
	if !errors.As(err, &e) || !strings.Contains(e.Remedy, "`go install github.com/imprint-oci/imprint/cmd/notation-pkcs11@latest") {
		t.Errorf("remedy %q", e.Remedy)
	}
}

// TestOpen: the machine itself, whose folders a variable names. (Not parallel: it sets a variable.)
func TestOpen(t *testing.T) {
	p := plugintest.New(t)
	t.Setenv("NOTATION_LIBEXEC", p.Libexec)
	key, chain := certtest.ChainOf(2, "P-256")
	k, err := Open(t.Context(), mustURI(t, testURI), kms.Options{Config: p.AddKey("key", key, chain...)})
	if err != nil {
		t.Fatal(err)
	}
	if err := signOnce(t.Context(), k); err != nil {
		t.Error(err)
	}
}
