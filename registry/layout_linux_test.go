package registry

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk is a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("no file system can be mounted here (TestF36DiskFull limits the size of files instead):", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// F36: on a disk that fills up a layout keeps what it had, an archive that is added to too, and nothing half-written
// is left; what fits afterwards is written.
func TestF36SmallDisk(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	disk := smallDisk(t)
	dir, file := filepath.Join(disk, "l"), filepath.Join(disk, "a.tar")
	l := layoutAt(t, dir)
	inLayout := addImage(t, l, "harbor.example/db:1", "layer")
	a := appendTo(t, file)
	inArchive := addImage(t, a, "harbor.example/db:1", "layer")
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	big := bytes.Repeat([]byte("x"), 2<<20)
	if err := l.PushBytes(ctx, described(typeOctets, big), big); !errors.Is(err, ErrDisk) || reasonOf(err) != "disk" {
		t.Errorf("a blob in the layout: %v", err)
	}
	more := appendTo(t, file)
	if err := more.PushBytes(ctx, described(typeOctets, big), big); !errors.Is(err, ErrDisk) || reasonOf(err) != "disk" {
		t.Errorf("a blob in the archive: %v", err)
	}
	if err := more.Close(); err != nil {
		t.Error(err)
	}
	noLeftovers(t, disk)

	// Full to the last page, not even a name can be written.
	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	f.Close()
	if err := l.Tag(ctx, inLayout, "2"); !errors.Is(err, ErrDisk) {
		t.Errorf("a name in the layout: %v", err)
	}
	more = appendTo(t, file)
	err = more.Tag(ctx, inArchive, "2")
	if err == nil {
		err = more.Commit()
	}
	if !errors.Is(err, ErrDisk) {
		t.Errorf("a name in the archive: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, indexFile)); err != nil || !bytes.Equal(b, index) {
		t.Errorf("index.json is %s, %v", b, err)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, before) {
		t.Errorf("the archive is another, %v", err)
	}
	noLeftovers(t, disk)
	if d, err := l.Tagged(ctx, "2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the name that was not written is seen: %s, %v", d, err)
	}

	// With room again the same ends well.
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := l.Tag(ctx, inLayout, "2"); err != nil {
		t.Error(err)
	}
	more = appendTo(t, file)
	if err := errors.Join(more.Tag(ctx, inArchive, "2"), more.Commit()); err != nil {
		t.Error(err)
	}
	checkImage(t, layoutAt(t, dir), "harbor.example/db:1", inLayout, "layer")
	checkImage(t, openedArchive(t, file), "harbor.example/db:1", inArchive, "layer")
}
