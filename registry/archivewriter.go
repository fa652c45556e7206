package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallBlob is read before the archive is taken, so that many small downloads run at once though a tar is written one
// file after another.
const smallBlob = 256 << 10

const tarBlock = 512

// A newArchive is an archive that is being written, beside the file that it becomes. What is in it already can be read.
type newArchive struct {
	file      string
	overwrite bool
	old       *kept // what is added to; nil: nothing
	has       *contents
	flights   flights
	turn      chan struct{} // to append
	index     *layoutIndex

	editing sync.Mutex // of the index, and changed
	changed bool

	mu     sync.Mutex
	f      *os.File // nil until something is added to the old one
	end    int64    // where the next entry begins
	blobs  map[digest.Digest]placed
	broken error // a failed entry that could not be taken back
	closed bool
}

// A placed is where the bytes of a blob lie.
type placed struct {
	f *os.File
	extent
}

var _ store = (*newArchive)(nil)

// beginArchive begins the tar of a layout. A file of that name is an error, or with Overwrite replaced in the end, or
// with Append added to; any other thing of that name is an error.
func beginArchive(ctx context.Context, file string, o CreateOptions) (store, error) {
	a := &newArchive{
		file: file, overwrite: o.Overwrite,
		turn:  make(chan struct{}, 1),
		blobs: make(map[digest.Digest]placed),
		index: newLayoutIndex(),
	}
	a.has = &contents{blobs: a}
	if o.Append {
		var err error
		if a.old, err = keep(ctx, file); err != nil {
			return nil, err
		}
	}
	if a.old != nil {
		a.index = a.old.index
		for d, e := range a.old.blobs {
			a.blobs[d] = placed{a.old.f, e}
		}
		return a, nil
	}
	info, err := os.Stat(file)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, fail(codeExists, "%s: the name %w and is no regular file", a.doing(), ErrExists)
	case err == nil && !o.Overwrite:
		return nil, existsError(a.doing())
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, diskError(a.doing(), err)
	}
	if err := a.begin(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

func existsError(doing string) error {
	return fail(codeExists, "%s: the file %w", doing, ErrExists)
}

func (a *newArchive) doing() string { return "writing the archive " + a.file }

// target is the file that is replaced in the end: where it is a link, what that leads to.
func (a *newArchive) target() string {
	if a.old != nil {
		return a.old.target
	}
	return a.file
}

// begin makes the temporary file, with what is kept of the old archive.
func (a *newArchive) begin(ctx context.Context) error {
	f, err := a.temporary()
	if err != nil {
		return err
	}
	var end int64
	if a.old != nil {
		end, err = a.old.copyTo(ctx, f, a.doing())
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.f, a.end = f, end
	return nil
}

// temporary makes a file beside the archive, and removes those that killed writers of this archive left there.
func (a *newArchive) temporary() (*os.File, error) {
	dir, base := filepath.Split(a.target())
	if dir == "" {
		dir = "."
	}
	prefix := temporary + base + "-"
	f, err := os.CreateTemp(dir, prefix+"*")
	if err != nil {
		return nil, fail(codeDisk, "%s: %w: %w", a.doing(), ErrDisk, err) // also where the folder is not there: nothing was sought
	}
	claim(f)
	if info, err := f.Stat(); err == nil {
		if root, err := os.OpenRoot(dir); err == nil {
			sweep(root, ".", info.ModTime(), func(name string) bool {
				number, ok := strings.CutPrefix(name, prefix)
				return ok && number != "" && strings.Trim(number, "0123456789") == ""
			})
			root.Close()
		}
	}
	return f, nil
}

// append adds a file of exactly size bytes, and returns where they lie. What was begun and failed is taken back.
func (a *newArchive) append(ctx context.Context, name string, size int64, r io.Reader) (extent, error) {
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(tarHeader(name, size)); err != nil {
		return extent{}, diskError(a.doing(), err)
	}
	a.mu.Lock()
	f, start, broken := a.f, a.end, a.broken
	a.mu.Unlock()
	if broken != nil {
		return extent{}, broken
	}
	e := extent{start + int64(header.Len()), size}
	padding := make([]byte, padded(size)-size)
	w := &diskWriter{w: io.NewOffsetWriter(f, start), doing: a.doing()}
	_, err := w.Write(header.Bytes())
	if err == nil {
		var n int64
		if n, err = io.Copy(w, &contextReader{ctx: ctx, r: r}); err == nil && n != size {
			err = fail(codeDigest, "%w: %d bytes instead of %d", ErrDigestMismatch, n, size)
		}
	}
	if err == nil {
		_, err = w.Write(padding)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if back := f.Truncate(start); back != nil {
			a.broken = diskError(a.doing(), back)
		}
		return extent{}, err
	}
	a.end = e.offset + size + int64(len(padding))
	return e, nil
}

// tarHeader has nothing of the machine in it: the same content gives the same entry.
func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}
}

// padded is how many bytes a file takes in a tar, without its header.
func padded(size int64) int64 { return (size + tarBlock - 1) / tarBlock * tarBlock }

// put adds a blob.
func (a *newArchive) put(ctx context.Context, d ocispec.Descriptor, r io.ReadCloser) error {
	r = verifying(r, d)
	if d.Size <= smallBlob {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		r = io.NopCloser(bytes.NewReader(b))
	}
	select {
	case a.turn <- struct{}{}:
	default:
		// Others write. A download that waited for them would be given up by the registry: it goes on into a file of its own.
		if d.Size > smallBlob {
			spooled, err := a.spool(ctx, r)
			if err != nil {
				return err
			}
			defer func() { spooled.Close(); os.Remove(spooled.Name()) }()
			r = spooled
		}
		select {
		case a.turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-a.turn }()
	if a.f == nil {
		if err := a.begin(ctx); err != nil {
			return err
		}
	}
	e, err := a.append(ctx, blobPath(d.Digest), d.Size, r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blobs[d.Digest] = placed{a.f, e}
	return nil
}

// spool writes what r holds to a temporary file, and opens that from its beginning.
func (a *newArchive) spool(ctx context.Context, r io.Reader) (*os.File, error) {
	f, err := a.temporary()
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(&diskWriter{w: f, doing: a.doing()}, &contextReader{ctx: ctx, r: r}); err == nil {
		_, err = f.Seek(0, io.SeekStart)
		err = diskError(a.doing(), err)
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

// holds reports whether a blob is there. One of another size under its digest is an error: two files of one name would
// be read by some as the one and by some as the other.
func (a *newArchive) holds(d ocispec.Descriptor) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.blobs[d.Digest]
	if ok && at.size != d.Size {
		return false, fail(codeDigest, "%s: %w: it holds %d bytes as %s, which has %d; write a new archive",
			a.doing(), ErrDigestMismatch, at.size, d.Digest, d.Size)
	}
	return ok, nil
}

// change lets edit change the index, which it does not with an error.
func (a *newArchive) change(edit func() (changed bool, err error)) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	changed, err := edit()
	a.changed = a.changed || changed
	return err
}

func (a *newArchive) open(d digest.Digest) (io.ReadCloser, int64, error) {
	a.mu.Lock()
	at, ok := a.blobs[d]
	a.mu.Unlock()
	if !ok {
		return nil, 0, fail(codeNotFound, "%s in %s: %w", d, a.file, ErrNotFound)
	}
	return section(at.f, at.extent), at.size, nil
}

// commit ends the archive and puts it in place, or leaves nothing behind. Where nothing was added to the old one, that
// stays as it is.
func (a *newArchive) commit() error {
	if a.ended() {
		return nil
	}
	defer a.discard()
	if a.f == nil {
		if !a.changed {
			return nil
		}
		if err := a.begin(context.Background()); err != nil {
			return err
		}
	}
	if err := a.finish(); err != nil {
		return err
	}
	// Some systems (Windows) rename no file that is open.
	if err := a.f.Close(); err != nil {
		return diskError(a.doing(), err)
	}
	if a.old != nil {
		return a.old.replace(a.f.Name(), a.doing())
	}
	return a.place()
}

func (a *newArchive) close() error {
	if !a.ended() {
		a.discard()
	}
	return nil
}

// ended reports whether the archive was ended before, and notes that it is now.
func (a *newArchive) ended() (before bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, a.closed = a.closed, true
	return before
}

// discard takes away the temporary file. One that was put in place no longer has that name.
func (a *newArchive) discard() {
	if a.f != nil {
		a.f.Close()
		os.Remove(a.f.Name())
	}
	if a.old != nil {
		_ = a.old.close()
	}
}

// finish writes what a reader needs, and the end of the tar.
func (a *newArchive) finish() error {
	index, err := a.index.encode()
	if err != nil {
		return fmt.Errorf("%s: %w", a.doing(), err)
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{{layoutFile, layoutFileContent}, {indexFile, index}} {
		if _, err := a.append(context.Background(), file.name, int64(len(file.content)), bytes.NewReader(file.content)); err != nil {
			return err
		}
	}
	if _, err := a.f.WriteAt(make([]byte, 2*tarBlock), a.end); err != nil {
		return diskError(a.doing(), err)
	}
	mode := os.FileMode(0o644)
	if a.old != nil {
		mode = a.old.was.Mode().Perm()
	}
	if err := a.f.Chmod(mode); err != nil {
		return diskError(a.doing(), err)
	}
	return diskError(a.doing(), a.f.Sync())
}

// place gives the file its name. Without overwrite a file that came up meanwhile is not replaced.
func (a *newArchive) place() error {
	var err error
	if a.overwrite {
		err = os.Rename(a.f.Name(), a.file)
	} else if err = os.Link(a.f.Name(), a.file); errors.Is(err, fs.ErrExist) {
		return existsError(a.doing())
	} else if err != nil {
		// A file system without hard links.
		if _, there := os.Stat(a.file); there == nil {
			return existsError(a.doing())
		}
		err = os.Rename(a.f.Name(), a.file)
	}
	if err != nil {
		return diskError(a.doing(), err)
	}
	syncFolder(filepath.Dir(a.file))
	return nil
}

// syncFolder makes a rename last; some file systems cannot sync a folder.
func syncFolder(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}
