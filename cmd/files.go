package cmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// read reads a regular file of at most limit bytes. A pipe or a device is refused before it is read.
func (s *session) read(path string, limit int64) ([]byte, error) { return readAs(path, path, limit) }

// readAs is read for a file that errors call what.
func readAs(what, path string, limit int64) ([]byte, error) {
	// Without O_NONBLOCK opening a pipe waits for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, usageHint("name a file that holds it: a folder, a pipe or a device is not read", "reading %s: it is not a regular file", what)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unreadable(what, err)
	}
	if int64(len(b)) > limit {
		return nil, usageHint("see whether that is the file that is meant", "reading %s: it is larger than %d bytes", what, limit)
	}
	return b, nil
}

// unreadable says that what was named on the command line or in the configuration cannot be read, and why.
func unreadable(what string, err error) error {
	hint := "see whether that is the file that is meant"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "see how its name is spelled"
		if !filepath.IsAbs(what) {
			hint += "; a relative path starts in the working folder"
		}
	case errors.Is(err, fs.ErrPermission):
		hint = "it takes the right to read it: ls -l shows who has that"
	}
	return usageHint(hint, "reading %s: %w", what, cause(err))
}

// cause strips the system call and the path, which the caller states, from an error of package os.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}

// unwritable says that a file could not be written, and why.
func unwritable(path string, err error) error {
	if dir := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(dir); statErr != nil {
			return &hinted{&diskError{fmt.Errorf("writing %s: there is no folder %s", path, dir)}, "make that folder first, or choose another name"}
		}
	}
	return &diskError{fmt.Errorf("writing %s: %w", path, cause(err))}
}

// writable refuses what [session.write] would refuse, before anything is spent on what is to be written.
func writable(path string, overwrite bool) error {
	info, err := os.Stat(path)
	_, exists := os.Lstat(path)
	switch {
	case exists == nil && !overwrite:
		return usageHint("choose another name, or replace it with --overwrite", "%s exists", path)
	case err == nil && !info.Mode().IsRegular(): // a file would be put in the place of a device
		return usageHint("name a file; without --out it goes to standard output", "%s is no file: it is a folder, a pipe or a device", path)
	}
	if dir := filepath.Dir(path); exists != nil {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return unwritable(path, err)
		}
	}
	return nil
}

// write writes a file whole or not at all: beside its place, synced, then renamed. An existing one is kept unless overwrite.
func (s *session) write(path string, b []byte, perm fs.FileMode, overwrite bool) error {
	if err := writable(path, overwrite); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".imprint-*")
	if err != nil {
		return unwritable(path, err)
	}
	temporary := f.Name()
	defer os.Remove(temporary)
	if err := finish(f, b, perm); err != nil {
		return unwritable(path, err)
	}
	if overwrite {
		err = os.Rename(temporary, path)
	} else {
		err = os.Link(temporary, path) // unlike rename it never replaces
	}
	if errors.Is(err, fs.ErrExist) {
		return usageHint("choose another name, or replace it with --overwrite", "%s exists", path)
	}
	if err != nil {
		return unwritable(path, err)
	}
	return nil
}

// finish writes a new file and waits until it is on the disk; the first thing that goes wrong is what is said.
func finish(f *os.File, b []byte, perm fs.FileMode) error {
	_, err := f.Write(b)
	for _, step := range []func() error{func() error { return f.Chmod(perm) }, f.Sync, f.Close} {
		if next := step(); err == nil {
			err = next
		}
	}
	return err
}
