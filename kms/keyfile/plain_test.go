//go:build unix

package keyfile

import (
	"os"
	"path/filepath"
	"testing"
)

// A09: in a folder that may be searched but not listed, a file is opened and a link is not followed anywhere.
func TestA09OpenPlain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "a.key"), filepath.Join(dir, "link.key")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.key", link); err != nil {
		t.Fatal(err)
	}
	f, err := openPlain(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f, err := openPlain(link); err == nil {
		f.Close()
		t.Error("a link was followed")
	}
}

func TestShellWord(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/a/b.key": "/a/b.key", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", `C:\a`: `'C:\a'`,
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}
