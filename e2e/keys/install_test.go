package keys

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
)

// What `go install ./cmd/...` leaves is both executables and nothing else, and pkcs11: finds the second wherever it may be: beside
// the first, also beside what a link to it leads to, on PATH, or among the plugins. Where it is not, the command that installs it is said.
func TestInstalled(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	install := exec.Command("go", "install", "./cmd/...")
	install.Dir = filepath.Join("..", "..")
	install.Env = append(os.Environ(), "GOBIN="+bin)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install ./cmd/...: %v\n%s", err, out)
	}
	var names []string
	entries, err := os.ReadDir(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "imprint notation-pkcs11" {
		t.Fatalf("installed: %s", got)
	}

	key := certtest.Key("P-256")
	h := hsm(t, nil, pkcs11test.Pair("release", 1, key))
	d := tokened(t, h, "PATH=/nonexistent")
	d.bin = bin
	uri := h.URI("object=release")
	d.signs(t, uri, "1", "--chain", d.chainFor(key.Public(), "release"), "--passphrase-file", d.pinFile())

	link := t.TempDir()
	if err := os.Symlink(filepath.Join(bin, "imprint"), filepath.Join(link, "imprint")); err != nil {
		t.Fatal(err)
	}
	d.bin = link
	d.ok(t, "key", "show", uri)

	d.bin = bin
	at := filepath.Join(bin, "notation-pkcs11")
	move := func(folder string) {
		t.Helper()
		to := filepath.Join(folder, "notation-pkcs11")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(at, to); err != nil {
			t.Fatal(err)
		}
		at = to
	}
	move(d.at("other/bin"))
	d.refused(t, 6, "key-plugin", []string{"no executable notation-pkcs11 is beside this program (" + bin, "go install github.com/imprint-oci/imprint/cmd/notation-pkcs11@latest"},
		"key", "show", uri)
	path := len(d.env)
	d.env = append(d.env, "PATH="+d.at("other/bin"))
	d.ok(t, "key", "show", uri)
	d.env = append(d.env[:path], "PATH=other/bin") // relative: nothing runs from the working folder
	d.refused(t, 6, "key-plugin", []string{"no executable notation-pkcs11"}, "key", "show", uri)
	d.env = append(d.env[:path], "NOTATION_LIBEXEC="+d.at("libexec"))
	move(d.at("libexec/plugins/pkcs11"))
	d.ok(t, "key", "show", uri)
}
