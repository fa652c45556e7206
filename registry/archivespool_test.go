//go:build unix

package registry

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSpoolArchive(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a.tar")
	a := createArchive(t, file)
	image := addImage(t, a, "harbor.example/db:1", strings.Repeat("layer", 50_000))
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(*os.File) io.Reader{
		"a pipe": func(f *os.File) io.Reader { return struct{ io.Reader }{f} },
		"a file": func(f *os.File) io.Reader { return f },
		"a file from midway on": func(f *os.File) io.Reader {
			// What was read of it already stands before it.
			head := make([]byte, 700)
			if _, err := io.ReadFull(f, head); err != nil {
				t.Error(err)
			}
			return io.MultiReader(strings.NewReader(string(head)), f)
		},
	} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		r, err := SpoolArchive(ctx, open(f), dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := r.Reference().String(); got != "oci-archive:-" {
			t.Errorf("%s is called %q", name, got)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: others find %v", name, left)
		}
		checkImage(t, r, "harbor.example/db:1", image, strings.Repeat("layer", 50_000))
		if err := r.Tag(ctx, image, "2"); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: a tag: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpoolArchiveRefuses(t *testing.T) {
	t.Parallel()
	endlessly := io.MultiReader(strings.NewReader("\x1f\x8b\x08"), endless{}) // would fill the disk if it were kept first
	for name, c := range map[string]struct {
		from io.Reader
		dir  string
		want error
		says string
	}{
		"nothing":      {strings.NewReader(""), t.TempDir(), ErrMalformed, "empty"},
		"gzip":         {endlessly, t.TempDir(), ErrMalformed, "gunzip"},
		"a few bytes":  {strings.NewReader("x"), t.TempDir(), ErrMalformed, "no tar"},
		"broken":       {io.MultiReader(strings.NewReader(strings.Repeat("x", 1000)), broken{}), t.TempDir(), errBroken, ""},
		"broken early": {broken{}, t.TempDir(), errBroken, ""},
		"nowhere":      {strings.NewReader(strings.Repeat("x", 1000)), filepath.Join(t.TempDir(), "no"), ErrDisk, ""},
	} {
		_, err := SpoolArchive(context.Background(), c.from, c.dir)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if left, _ := os.ReadDir(c.dir); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

// Who waits for a pipe in which nothing comes can be told to stop.
func TestSpoolArchiveStops(t *testing.T) {
	t.Parallel()
	silent, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	ended := make(chan error)
	go func() {
		_, err := SpoolArchive(ctx, silent, dir)
		ended <- err
	}()
	if _, err := w.Write([]byte("blobs/ and no more")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
