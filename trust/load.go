package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// MaxBytes limits a policy file: 100,000 scopes of 80 bytes.
const MaxBytes = 8 << 20

// ErrPolicy: the policy does not load (exit 3). Errors are *LoadError.
var ErrPolicy = errors.New("trust policy")

// A LoadError says where a policy is wrong. It is [ErrPolicy].
type LoadError struct {
	File         string
	Line, Column int // 1-based; 0: the whole file
	Code         string
	Err          error
}

func (e *LoadError) Error() string {
	switch {
	case e.File == "":
		return e.Err.Error()
	case e.Line == 0:
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d:%d: %v", e.File, e.Line, e.Column, e.Err)
}

func (e *LoadError) Unwrap() error        { return e.Err }
func (e *LoadError) Reason() string       { return e.Code }
func (e *LoadError) Is(target error) bool { return target == ErrPolicy }

// Load reads a policy file and every file that it names, each once and into memory, so that
// what is judged later is what was checked. Files are named relative to the policy's folder; a symlink may lead to
// another place in that folder, never out of it.
func Load(file string) (*Policy, error) {
	b, err := readPolicy(file)
	if err != nil {
		return nil, err
	}
	files := &folder{path: filepath.Dir(file)}
	defer files.close()
	return parsePolicy(file, b, files)
}

func readPolicy(file string) ([]byte, error) {
	wrong := func(code string, err error) error { return &LoadError{File: file, Code: code, Err: err} }
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, wrong(codeUnreadable, fmt.Errorf("reading the policy: %w", bare(err)))
	}
	defer f.Close()
	b, err := readChecked(f, MaxBytes)
	if err != nil {
		return nil, wrong(codeOf(err, codeUnreadable), fmt.Errorf("reading the policy: %w", err))
	}
	return b, nil
}

// A folder reads the files that a policy names.
type folder struct {
	path string // of the policy's folder
	root *os.Root
	read []named

	bytes   int64
	index   map[string]int // of the first ones in read
	indexed int            // how many
}

// maxFiles limits all the files together that a policy names.
const maxFiles = 256 << 20

// known returns a file that was read before, so that one that is named many times is read once.
func (d *folder) known(name string) ([]byte, bool) {
	if d.index == nil {
		d.index = map[string]int{}
	}
	for ; d.indexed < len(d.read); d.indexed++ {
		d.index[d.read[d.indexed].name] = d.indexed
	}
	i, ok := d.index[name]
	if !ok {
		return nil, false
	}
	return d.read[i].bytes, true
}

type named struct {
	name  string
	bytes []byte
}

func (d *folder) close() {
	if d.root != nil {
		_ = d.root.Close()
	}
}

// file reads a file of at most limit bytes. Opening never blocks, so that a FIFO is refused and not waited for.
func (d *folder) file(name string, limit int64) ([]byte, error) {
	if b, ok := d.known(name); ok {
		return b, nil
	}
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readChecked(f, limit)
	if err != nil {
		return nil, err
	}
	if d.bytes += int64(len(b)); d.bytes > maxFiles {
		return nil, &fileError{codeTooLarge, fmt.Errorf("the files that the policy names have more than %d bytes in all", maxFiles)}
	}
	d.read = append(d.read, named{name, b})
	return b, nil
}

func (d *folder) open(name string) (*os.File, error) {
	if filepath.IsAbs(name) {
		f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		return f, bare(err)
	}
	// Also where a symlink would make it harmless: what a reviewer reads must be where the file is (P07).
	if slices.Contains(strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' }), "..") {
		return nil, &fileError{codePath, errors.New(`".." is not allowed: files are named relative to the policy's folder, never above it`)}
	}
	if d.root == nil {
		root, err := os.OpenRoot(d.path)
		if err != nil {
			return nil, bare(err)
		}
		d.root = root
	}
	f, err := d.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		if at, statErr := d.root.Lstat(filepath.FromSlash(name)); statErr != nil || at.Mode()&fs.ModeSymlink != 0 {
			return nil, &fileError{codePath, fmt.Errorf("%w: a symlink must stay in the policy's folder", bare(err))}
		}
	}
	return f, bare(err)
}

// A fileError is why a file was refused; where the policy names it, LoadError says.
type fileError struct {
	code string
	err  error
}

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

func codeOf(err error, otherwise string) string {
	var e *fileError
	if errors.As(err, &e) {
		return e.code
	}
	return otherwise
}

// readChecked reads a regular file that not everybody may write.
func readChecked(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	if !info.Mode().IsRegular() {
		return nil, &fileError{codeUnsafe, errors.New("not a regular file")}
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 {
		return nil, &fileError{codeUnsafe, fmt.Errorf("everybody may write this file (mode %#o): chmod o-w", info.Mode().Perm())}
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, bare(err)
	}
	if int64(len(b)) > limit {
		return nil, &fileError{codeTooLarge, fmt.Errorf("more than %d bytes", limit)}
	}
	return b, nil
}

// bare drops the operation and the path of an error of package os: the message around it names the file.
func bare(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
