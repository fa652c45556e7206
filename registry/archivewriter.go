package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
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
	f         *os.File
	has       *contents
	turn      chan struct{} // to append

	mu     sync.Mutex
	end    int64 // where the next entry begins
	blobs  map[digest.Digest]extent
	index  *layoutIndex // replaced, never changed
	broken error        // a failed entry that could not be taken back
	closed bool
}

var _ store = (*newArchive)(nil)

// beginArchive begins the tar of a layout. A file of that name is an error, or with Overwrite replaced in the end; any
// other thing of that name is an error.
func beginArchive(file string, o CreateOptions) (store, error) {
	doing := "writing the archive " + file
	info, err := os.Stat(file)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, fail(codeExists, "%s: the name %w and is no regular file", doing, ErrExists)
	case err == nil && !o.Overwrite:
		return nil, existsError(doing)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, diskError(doing, err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), temporary+filepath.Base(file)+"-*")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fail(codeDisk, "%s: %w: %w", doing, ErrDisk, err)
		}
		return nil, diskError(doing, err)
	}
	a := &newArchive{
		file: file, overwrite: o.Overwrite, f: f,
		turn:  make(chan struct{}, 1),
		blobs: make(map[digest.Digest]extent),
		index: newLayoutIndex(),
	}
	a.has = &contents{blobs: a}
	return a, nil
}

func existsError(doing string) error {
	return fail(codeExists, "%s: the file %w", doing, ErrExists)
}

func (a *newArchive) doing() string { return "writing the archive " + a.file }

// append adds a file of exactly size bytes, and returns where they lie. What was begun and failed is taken back.
func (a *newArchive) append(ctx context.Context, name string, size int64, r io.Reader) (extent, error) {
	var header bytes.Buffer
	// Nothing of the machine goes in: the same content gives the same entry.
	if err := tar.NewWriter(&header).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}); err != nil {
		return extent{}, diskError(a.doing(), err)
	}
	a.mu.Lock()
	start, broken := a.end, a.broken
	a.mu.Unlock()
	if broken != nil {
		return extent{}, broken
	}
	e := extent{start + int64(header.Len()), size}
	padding := make([]byte, (tarBlock-size%tarBlock)%tarBlock)
	w := &diskWriter{w: io.NewOffsetWriter(a.f, start), doing: a.doing()}
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
		if back := a.f.Truncate(start); back != nil {
			a.broken = diskError(a.doing(), back)
		}
		return extent{}, err
	}
	a.end = e.offset + size + int64(len(padding))
	return e, nil
}

// put adds a blob unless it is there.
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
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.turn }()
	if a.holds(d.Digest) {
		return nil
	}
	e, err := a.append(ctx, blobPath(d.Digest), d.Size, r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blobs[d.Digest] = e
	return nil
}

func (a *newArchive) holds(d digest.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.blobs[d]
	return ok
}

// current returns the index, which callers must not change.
func (a *newArchive) current() *layoutIndex {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index
}

// change replaces the index by what edit makes of a copy of it.
func (a *newArchive) change(ctx context.Context, edit func(old, ix *layoutIndex) (bool, error)) error {
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.turn }()
	old := a.current()
	ix := old.clone()
	changed, err := edit(old, ix)
	if err != nil || !changed {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index = ix
	return nil
}

func (a *newArchive) open(d digest.Digest) (io.ReadCloser, int64, error) {
	a.mu.Lock()
	e, ok := a.blobs[d]
	a.mu.Unlock()
	if !ok {
		return nil, 0, fail(codeNotFound, "%s in %s: %w", d, a.file, ErrNotFound)
	}
	return io.NopCloser(io.NewSectionReader(a.f, e.offset, e.size)), e.size, nil
}

func (a *newArchive) manifest(ctx context.Context, tag string, d digest.Digest) (mediaType string, body []byte, err error) {
	ix := a.current()
	if tag == "" {
		return a.has.manifest(ix, d)
	}
	e, err := ix.find(tag)
	if err != nil {
		return "", nil, err
	}
	body, err = a.has.read(e.Digest)
	return e.MediaType, body, err
}

func (a *newArchive) hasManifest(ctx context.Context, d digest.Digest) (bool, error) {
	return a.holds(d), nil
}

func (a *newArchive) tagged(ctx context.Context, tag string) (digest.Digest, error) {
	e, err := a.current().find(tag)
	return e.Digest, err
}

func (a *newArchive) tags(ctx context.Context) iter.Seq2[string, error] { return tagsOf(a.current()) }

func (a *newArchive) blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return sized(a.open, d, offset)
}

func (a *newArchive) pushBlob(ctx context.Context, d ocispec.Descriptor, from store, body Body) (Sent, error) {
	if a.holds(d.Digest) {
		return Sent{There: true}, nil
	}
	rc, err := body(ctx, 0)
	if err != nil {
		return Sent{}, err
	}
	defer rc.Close()
	return Sent{Bytes: d.Size}, a.put(ctx, d, rc)
}

func (a *newArchive) pushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	return a.put(ctx, d, io.NopCloser(bytes.NewReader(b)))
}

func (a *newArchive) pushManifest(ctx context.Context, m Manifest) error {
	return a.pushBytes(ctx, m.Descriptor, m.Bytes)
}

func (a *newArchive) tag(ctx context.Context, m Manifest, tag string) error {
	return a.change(ctx, func(_, ix *layoutIndex) (bool, error) {
		if !a.holds(m.Descriptor.Digest) {
			return false, fail(codeNotFound, "manifest %s: %w", m.Descriptor.Digest, ErrNotFound)
		}
		return ix.setTag(indexEntry(m), tag), nil
	})
}

func (a *newArchive) hasBlob(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return a.holds(d.Digest), nil
}

func (a *newArchive) setTags(ctx context.Context, m Manifest, tags []string) error {
	return eachTag(tags, func(t string) error { return a.tag(ctx, m, t) })
}

func (a *newArchive) confirm(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	return a.attach(ctx, subject, manifests)
}

func (a *newArchive) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	return a.has.referrers(a.current(), subject.Digest)
}

func (a *newArchive) attach(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	for _, m := range manifests {
		if err := a.pushManifest(ctx, m); err != nil {
			return err
		}
	}
	return a.change(ctx, func(old, ix *layoutIndex) (bool, error) { return a.has.list(old, ix, manifests) })
}

func (a *newArchive) detach(context.Context, ocispec.Descriptor, digest.Digest) error {
	return fail(codeUnsupported, "%w: nothing can be taken out of the archive %s", ErrUnsupported, a.file)
}

func (a *newArchive) examine(ctx context.Context, write bool) (Capabilities, error) {
	return Capabilities{ReferrersAPI: capYes, Delete: capNo, Mount: capNo, SingleUpload: capYes}, nil
}

// commit ends the archive and puts it in place, or leaves nothing behind.
func (a *newArchive) commit() error {
	if a.ended() {
		return nil
	}
	defer a.discard()
	if err := a.finish(); err != nil {
		return err
	}
	// Some systems (Windows) rename no file that is open.
	if err := a.f.Close(); err != nil {
		return diskError(a.doing(), err)
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
	a.f.Close()
	os.Remove(a.f.Name())
}

// finish writes what a reader needs, and the end of the tar.
func (a *newArchive) finish() error {
	index, err := a.current().encode()
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
	if err := a.f.Chmod(0o644); err != nil {
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
	if d, err := os.Open(filepath.Dir(a.file)); err == nil {
		_ = d.Sync() // some file systems cannot sync a folder
		d.Close()
	}
	return nil
}
