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
func (s *session) read(path string, limit int64) ([]byte, error) {
	// Without O_NONBLOCK opening a pipe waits for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, usage("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, usage("%w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, usage("%s is not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, usage("reading %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, usage("%s is larger than %d bytes", path, limit)
	}
	return b, nil
}

// write writes a file whole or not at all: beside its place, synced, then renamed. An existing one is kept unless overwrite.
func (s *session) write(path string, b []byte, perm fs.FileMode, overwrite bool) error {
	if !overwrite {
		if _, err := os.Lstat(path); err == nil {
			return usageHint("choose another name, or replace it with --overwrite", "%s exists", path)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".imprint-*")
	if err != nil {
		return &diskError{err}
	}
	temporary := f.Name()
	defer os.Remove(temporary)
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
	if err != nil {
		return &diskError{fmt.Errorf("writing %s: %w", path, err)}
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
		return &diskError{fmt.Errorf("writing %s: %w", path, err)}
	}
	return nil
}
