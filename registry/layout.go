package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// temporary begins the names of files that are being written. They lie beside what they become, so that a rename never leaves the file system.
const temporary = ".imprint-"

// A layout is an OCI layout folder. Nothing is opened outside of it, whatever links and digests say (os.Root). Readers need no lock: every file is whole from
// its first moment. Writers of index.json take turns by a lock on the oci-layout file, other processes too.
type layout struct {
	dir  string
	root *os.Root
	has  *contents

	mu    sync.Mutex
	index *layoutIndex // as of the file below
	stat  fs.FileInfo
	turn  chan struct{} // this process's turn to write index.json
}

var _ store = (*layout)(nil)

// diskError says what went wrong with a local file. What is absent is ErrNotFound, all else ErrDisk.
func diskError(doing string, err error) error {
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fail(codeNotFound, "%s: %w: %w", doing, ErrNotFound, err)
	}
	return fail(codeDisk, "%s: %w: %w", doing, ErrDisk, err)
}

// openLayout opens the layout in dir. With create the folder and an empty layout are made if there is nothing; a folder that holds other things is refused.
func openLayout(dir string, create bool) (store, error) {
	if create {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, diskError("making the layout "+dir, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fail(codeNotFound, "layout %s: %w: there is no such folder", dir, ErrNotFound)
		}
		return nil, diskError("opening the layout "+dir, err)
	}
	l := &layout{dir: dir, root: root, turn: make(chan struct{}, 1)}
	l.has = &contents{blobs: l}
	if err := l.begin(create); err != nil {
		root.Close()
		return nil, err
	}
	return l, nil
}

// begin checks that the folder is a layout, or makes it one.
func (l *layout) begin(create bool) error {
	b, err := l.readFile(layoutFile, maxLayoutFile)
	switch {
	case err == nil:
		if err := checkLayoutFile(b); err != nil {
			return fmt.Errorf("layout %s: %w", l.dir, err)
		}
	case !errors.Is(err, ErrNotFound):
		return err
	case !create:
		return fail(codeNotFound, "layout %s: %w: the folder is no OCI layout, it has no %s file", l.dir, ErrNotFound, layoutFile)
	default:
		if err := l.make(); err != nil {
			return err
		}
	}
	if _, err := l.load(); err != nil {
		if !create || !errors.Is(err, ErrNotFound) {
			return err
		}
		b, err := newLayoutIndex().encode()
		if err != nil {
			return err
		}
		return l.writeNew(indexFile, b)
	}
	return nil
}

// make writes the oci-layout file into a folder that is empty, or that another process is making a layout just now.
func (l *layout) make() error {
	d, err := l.root.Open(".")
	if err != nil {
		return diskError("making the layout "+l.dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return diskError("making the layout "+l.dir, err)
	}
	for _, n := range names {
		if n != layoutFile && n != indexFile && n != ocispec.ImageBlobsDir && !isTemporary(n) {
			return fail(codeExists, "layout %s: the folder %w and is no OCI layout: it holds %q; name a new or empty one", l.dir, ErrExists, clip(n))
		}
	}
	return l.writeNew(layoutFile, layoutFileContent)
}

func isTemporary(name string) bool {
	return len(name) > len(temporary) && name[:len(temporary)] == temporary
}

// readFile reads a small file of the layout's own.
func (l *layout) readFile(name string, limit int64) ([]byte, error) {
	f, size, err := l.openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, fail(codeTooLarge, "%s: %w: %d bytes", path.Join(l.dir, name), ErrTooLarge, size)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, diskError("reading "+path.Join(l.dir, name), err)
	}
	if int64(len(b)) > limit {
		return nil, fail(codeTooLarge, "%s: %w", path.Join(l.dir, name), ErrTooLarge)
	}
	return b, nil
}

// openRegular opens a regular file: opening a FIFO would wait for ever.
func (l *layout) openRegular(name string) (*os.File, int64, error) {
	doing := "reading " + path.Join(l.dir, name)
	info, err := l.root.Stat(name)
	if err != nil {
		return nil, 0, diskError(doing, err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fail(codeMalformed, "%s: %w: it is no regular file", doing, ErrMalformed)
	}
	f, err := l.root.Open(name)
	if err != nil {
		return nil, 0, diskError(doing, err)
	}
	return f, info.Size(), nil
}

// load returns index.json as it is now; the same value as before if the file is the same, so callers must not change it.
func (l *layout) load() (*layoutIndex, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := l.root.Stat(indexFile)
	if err != nil {
		return nil, diskError("reading "+path.Join(l.dir, indexFile), err)
	}
	if l.index != nil && os.SameFile(info, l.stat) && info.ModTime().Equal(l.stat.ModTime()) && info.Size() == l.stat.Size() {
		return l.index, nil
	}
	b, err := l.readFile(indexFile, maxLayoutIndex)
	if err != nil {
		return nil, err
	}
	ix, err := parseLayoutIndex(b)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", l.dir, err)
	}
	l.index, l.stat = ix, info
	return ix, nil
}

// change writes what edit makes of a copy of the index, with the lock held and the file read afresh. edit reports whether it changed anything.
func (l *layout) change(ctx context.Context, edit func(old, ix *layoutIndex) (bool, error)) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := l.load()
	if err != nil {
		return err
	}
	ix := old.clone()
	changed, err := edit(old, ix)
	if err != nil || !changed {
		return err
	}
	b, err := ix.encode()
	if err != nil {
		return err
	}
	temp, err := l.spool(ctx, indexFile, bytes.NewReader(b))
	if err != nil {
		return err
	}
	// What was written need not be parsed again. The file is looked at before it has its name: later it may be another's.
	info, err := l.root.Stat(temp)
	if err != nil {
		l.root.Remove(temp)
		return diskError("writing "+path.Join(l.dir, indexFile), err)
	}
	if err := l.place(temp, indexFile); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index, l.stat = ix, info
	return nil
}

// lock takes the turn to write index.json, first in this process and then among all.
func (l *layout) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	doing := "locking the layout " + l.dir
	f, err := l.root.Open(layoutFile)
	if err != nil {
		<-l.turn
		return nil, diskError(doing, err)
	}
	for {
		ok, err := tryLock(f)
		if ok {
			return func() { f.Close(); <-l.turn }, nil
		}
		if err == nil {
			select {
			case <-time.After(5 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		} else {
			err = diskError(doing, err)
		}
		f.Close()
		<-l.turn
		return nil, err
	}
}

// write puts r's bytes at name, whole or not at all: a temporary file beside it, synced, renamed.
func (l *layout) write(ctx context.Context, name string, r io.Reader) error {
	temp, err := l.spool(ctx, name, r)
	if err != nil {
		return err
	}
	return l.place(temp, name)
}

// place gives a temporary file its name.
func (l *layout) place(temp, name string) error {
	if err := l.root.Rename(temp, name); err != nil {
		l.root.Remove(temp)
		return diskError("writing "+path.Join(l.dir, name), err)
	}
	return l.syncDir(path.Dir(name))
}

// writeNew writes a small file unless it is there; of two that do so at once, one wins and both are content.
func (l *layout) writeNew(name string, b []byte) error {
	temp, err := l.spool(context.Background(), name, bytes.NewReader(b))
	if err != nil {
		return err
	}
	err = l.root.Link(temp, name)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links: the rename is whole too, it only cannot tell who was first.
		err = l.root.Rename(temp, name)
	}
	l.root.Remove(temp)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return diskError("writing "+path.Join(l.dir, name), err)
	}
	return l.syncDir(path.Dir(name))
}

// spool writes r to a synced temporary file in the folder of name and returns its path. It leaves nothing behind if that goes wrong.
func (l *layout) spool(ctx context.Context, name string, r io.Reader) (temp string, err error) {
	doing := "writing " + path.Join(l.dir, name)
	temp = path.Join(path.Dir(name), temporary+rand.Text())
	f, err := l.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", diskError(doing, err)
	}
	_, err = io.Copy(&diskWriter{w: f, doing: doing}, &contextReader{ctx: ctx, r: r})
	if err == nil {
		err = diskError(doing, f.Sync())
	}
	if closing := f.Close(); err == nil {
		err = diskError(doing, closing)
	}
	if err != nil {
		l.root.Remove(temp)
		return "", err
	}
	return temp, nil
}

func (l *layout) syncDir(name string) error {
	d, err := l.root.Open(name)
	if err != nil {
		return diskError("syncing "+path.Join(l.dir, name), err)
	}
	defer d.Close()
	// Some file systems cannot sync a folder; what was written is whole all the same.
	_ = d.Sync()
	return nil
}

// A diskWriter tells errors of the disk from those of what is being read.
type diskWriter struct {
	w     io.Writer
	doing string
}

func (w *diskWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	return n, diskError(w.doing, err)
}

// A contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// blobPath is where a digest's bytes lie. Callers have checked the digest's grammar.
func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// open is what contents reads by.
func (l *layout) open(d digest.Digest) (io.ReadCloser, int64, error) {
	if _, err := parseDigest(string(d)); err != nil {
		return nil, 0, malformed("%w", err)
	}
	return l.openRegular(blobPath(d))
}

func (l *layout) manifest(ctx context.Context, tag string, d digest.Digest) (mediaType string, body []byte, err error) {
	ix, err := l.load()
	if err != nil {
		return "", nil, err
	}
	if tag == "" {
		return l.has.manifest(ix, d)
	}
	e, err := ix.find(tag)
	if err != nil {
		return "", nil, err
	}
	body, err = l.has.read(e.Digest)
	return e.MediaType, body, err
}

func (l *layout) hasManifest(ctx context.Context, d digest.Digest) (bool, error) {
	return l.hasBlob(d, -1)
}

// hasBlob reports whether a blob is there, of that size unless it is negative.
func (l *layout) hasBlob(d digest.Digest, size int64) (bool, error) {
	info, err := l.root.Stat(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, diskError("looking for "+path.Join(l.dir, blobPath(d)), err)
	}
	return info.Mode().IsRegular() && (size < 0 || info.Size() == size), nil
}

func (l *layout) tagged(ctx context.Context, tag string) (digest.Digest, error) {
	ix, err := l.load()
	if err != nil {
		return "", err
	}
	e, err := ix.find(tag)
	return e.Digest, err
}

func (l *layout) tags(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ix, err := l.load()
		if err != nil {
			yield("", err)
			return
		}
		tagsOf(ix)(yield)
	}
}

func (l *layout) blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return sized(l.open, d)
}

func (l *layout) pushBlob(ctx context.Context, d ocispec.Descriptor, from store, open func(context.Context) (io.ReadCloser, error)) (int64, error) {
	if there, err := l.hasBlob(d.Digest, d.Size); there || err != nil {
		return 0, err
	}
	rc, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer rc.Close()
	return d.Size, l.put(ctx, d, rc)
}

// put stores what r holds once it proved to be d.
func (l *layout) put(ctx context.Context, d ocispec.Descriptor, r io.ReadCloser) error {
	name := blobPath(d.Digest)
	if err := l.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return diskError("writing "+path.Join(l.dir, name), err)
	}
	return l.write(ctx, name, verifying(r, d))
}

func (l *layout) pushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	if there, err := l.hasBlob(d.Digest, d.Size); there || err != nil {
		return err
	}
	return l.put(ctx, d, io.NopCloser(bytes.NewReader(b)))
}

func (l *layout) pushManifest(ctx context.Context, m Manifest) error {
	return l.pushBytes(ctx, m.Descriptor, m.Bytes)
}

func (l *layout) tag(ctx context.Context, m Manifest, tag string) error {
	return l.change(ctx, func(_, ix *layoutIndex) (bool, error) {
		there, err := l.hasBlob(m.Descriptor.Digest, m.Descriptor.Size)
		if err != nil {
			return false, err
		}
		if !there {
			return false, fail(codeNotFound, "manifest %s: %w", m.Descriptor.Digest, ErrNotFound)
		}
		return ix.setTag(indexEntry(m), tag), nil
	})
}

func (l *layout) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	ix, err := l.load()
	if err != nil {
		return nil, err
	}
	return l.has.referrers(ix, subject.Digest)
}

func (l *layout) attach(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	// Under the lock, so that nobody deletes what is about to be listed.
	return l.change(ctx, func(old, ix *layoutIndex) (bool, error) {
		for _, m := range manifests {
			if err := l.pushManifest(ctx, m); err != nil {
				return false, err
			}
		}
		return l.has.list(old, ix, manifests)
	})
}

func (l *layout) detach(ctx context.Context, subject ocispec.Descriptor, d digest.Digest) error {
	if err := l.change(ctx, func(_, ix *layoutIndex) (bool, error) { return ix.remove(d), nil }); err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ix, err := l.load()
	if err != nil {
		return err
	}
	// Somebody may have listed it again, and an index may contain it.
	if reachable, err := l.has.reachable(ix, d); err != nil || reachable {
		return err
	}
	if err := l.root.Remove(blobPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("deleting "+path.Join(l.dir, blobPath(d)), err)
	}
	return nil
}

func (l *layout) examine(ctx context.Context, write bool) (Capabilities, error) {
	return Capabilities{ReferrersAPI: "yes", Delete: "yes", Mount: "no", SingleUpload: "yes"}, nil
}

func (l *layout) close(commit bool) error {
	return diskError("closing the layout "+l.dir, l.root.Close())
}
