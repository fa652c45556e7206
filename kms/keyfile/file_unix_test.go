//go:build unix

package keyfile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/keyfile"
)

func TestA09Permissions(t *testing.T) {
	t.Parallel()
	text := certtest.KeyPEM(certtest.Key("P-256"))
	for mode, says := range map[os.FileMode]string{0o600: "", 0o400: "", 0o700: "", 0o604: "everybody", 0o644: "everybody", 0o666: "everybody", 0o620: "group", 0o601: "everybody"} {
		path := write(t, text)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, path)
		if says == "" {
			if err != nil {
				t.Errorf("A09 mode %04o: %v", mode, err)
			}
			continue
		}
		wantReason(t, err, "key-permissions", says)
		if !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("A09 mode %04o: no remedy: %v", mode, err)
		}
	}
}

// A09: mode 0440 is what an fsGroup makes of a secret. It is accepted when the owner is root or somebody else and
// refused when it is this process's own file, whose mode it could narrow.
func TestA09GroupReadable(t *testing.T) {
	t.Parallel()
	path := write(t, certtest.KeyPEM(certtest.Key("P-256")))
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, path)
	if os.Geteuid() != 0 {
		wantReason(t, err, "key-permissions", "group")
		return
	}
	if err != nil {
		t.Errorf("A09 0440 of root, its group: %v", err)
	}
	if err := os.Chown(path, 12345, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, path); err != nil {
		t.Errorf("A09 0440 of another user, our group: %v", err)
	}
	if err := os.Chown(path, 0, 54321); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, path)
	wantReason(t, err, "key-permissions", "group")
}

// A09: a secret as the kubelet mounts it, and a renewal of it.
func TestA09KubernetesSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := certtest.KeyPEM(certtest.Key("P-256"))
	mount := func(stamp string) {
		data := filepath.Join(dir, stamp)
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "release.key"), text, 0o400); err != nil {
			t.Fatal(err)
		}
		tmp := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(stamp, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "release.key")
	mount("..2026_11_22_10_00_00.1")
	if err := os.Symlink("..data/release.key", path); err != nil {
		t.Fatal(err)
	}
	for _, stamp := range []string{"", "..2026_11_22_11_00_00.2"} {
		if stamp != "" {
			mount(stamp)
		}
		k, err := open(t, path)
		if err != nil {
			t.Fatal(err)
		}
		if id := k.(kms.Identifier).ID(); id != path {
			t.Errorf("ID %s, want %s", id, path)
		}
	}
}

func TestA09Links(t *testing.T) {
	t.Parallel()
	text := certtest.KeyPEM(certtest.Key("P-256"))
	outside := write(t, text)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "inside.key"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(dir, outside)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ target, says string }{
		"stays":            {"inside.key", ""},
		"leaves":           {rel, "leaves its folder"},
		"leaves, absolute": {outside, "leaves its folder"},
		"leaves, dangling": {outside + ".absent", "leads nowhere"},
		"loops":            {"loops", "link"},
		"leads nowhere":    {"nothing.key", "no such file"},
	} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(tt.target, link); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, link)
		if tt.says == "" {
			if err != nil {
				t.Errorf("A09 %s: %v", name, err)
			}
			continue
		}
		wantReason(t, err, "key-file", tt.says)
	}
	// That a folder is reached over a link is the caller's choice.
	over := filepath.Join(t.TempDir(), "keys")
	if err := os.Symlink(dir, over); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, filepath.Join(over, "inside.key")); err != nil {
		t.Errorf("A09 over a link to the folder: %v", err)
	}
}

func TestA09NoRegularFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo.key")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		fifo:                             "a pipe",
		"/dev/zero":                      "a device",
		dir:                              "folder",
		dir + "/":                        "folder",
		filepath.Join(dir, "absent.key"): "no such file",
		filepath.Join(dir, "a/b.key"):    "no such file",
	} {
		done := make(chan error, 1)
		go func() {
			_, err := open(t, path)
			done <- err
		}()
		select {
		case err := <-done:
			wantReason(t, err, "key-file", says)
		case <-time.After(10 * time.Second):
			t.Fatalf("A09 %s: opening it does not end", path)
		}
	}
}

// What Generate writes openssl reads, and what openssl writes Open reads.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl on PATH; TestEncrypted and TestGenerate cover the round trip")
	}
	_, text, err := keyfile.Generate("P-256", []byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	ours := write(t, text)
	if out, err := exec.Command(openssl, "pkey", "-in", ours, "-passin", "pass:s3cret", "-check", "-noout").CombinedOutput(); err != nil {
		t.Errorf("openssl refuses our key: %v\n%s", err, out)
	}
	plain := write(t, certtest.KeyPEM(certtest.Key("P-256")))
	for _, args := range [][]string{
		{"-v2", "aes-256-cbc"},
		{"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"},
		{"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"},
		{"-v2", "des3"},
		{"-scrypt"},
	} {
		path := filepath.Join(t.TempDir(), "theirs.key")
		args = append([]string{"pkcs8", "-topk8", "-in", plain, "-passout", "pass:0ther", "-out", path}, args...)
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if _, err := open(t, path, "0ther"); err != nil {
			t.Errorf("%s: %v", strings.Join(args, " "), err)
		}
	}
	old := filepath.Join(t.TempDir(), "old.key")
	if out, err := exec.Command(openssl, "pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-in", plain, "-passout", "pass:a", "-out", old).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, err = open(t, old, "a")
	wantReason(t, err, "key-format", "openssl pkcs8 -topk8")
}
