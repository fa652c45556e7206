package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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

// An indexChange waits to be written.
type indexChange struct {
	ctx  context.Context //nolint:containedctx // of the caller, who waits
	edit func(old, ix *layoutIndex) (bool, error)
	done chan error
}

// change writes what edit makes of a copy of the index, with the lock held and the file read afresh; edit reports
// whether it changed anything, and changes nothing with an error. Changes that come while one is being written are
// written together: the file is as long as the layout has artifacts, and many are copied at once.
func (l *layout) change(ctx context.Context, edit func(old, ix *layoutIndex) (bool, error)) error {
	c := &indexChange{ctx: ctx, edit: edit, done: make(chan error, 1)}
	l.mu.Lock()
	l.pending = append(l.pending, c)
	l.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return l.withdraw(c)
	case l.turn <- struct{}{}:
	}
	defer func() { <-l.turn }()
	select {
	case err := <-c.done:
		return err
	default:
	}
	unlock, err := l.lockFile(ctx)
	if err != nil {
		// The others lock for themselves. Nobody else has begun to write this one: that is for who has the turn.
		if gone := l.withdraw(c); ctx.Err() != nil {
			return gone
		}
		return err
	}
	defer unlock()
	l.mu.Lock()
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	l.writeChanges(context.WithoutCancel(ctx), pending)
	return <-c.done
}

// withdraw takes back a change that nobody has begun to write, else it says how that ended.
func (l *layout) withdraw(c *indexChange) error {
	l.mu.Lock()
	at := slices.Index(l.pending, c)
	if at >= 0 {
		l.pending = slices.Delete(l.pending, at, at+1)
	}
	l.mu.Unlock()
	if at >= 0 {
		return context.Cause(c.ctx)
	}
	return <-c.done
}

// writeChanges writes changes at once and tells each how it went. Call with the lock held.
func (l *layout) writeChanges(ctx context.Context, changes []*indexChange) {
	var waiting []*indexChange
	err := func() error {
		old, err := l.load()
		if err != nil {
			waiting = changes
			return err
		}
		ix := old.clone()
		for _, c := range changes {
			changed, err := false, context.Cause(c.ctx)
			if err == nil {
				changed, err = c.edit(old, ix)
			}
			if err != nil || !changed {
				c.done <- err
				continue
			}
			waiting = append(waiting, c)
		}
		if len(waiting) == 0 {
			return nil
		}
		return l.writeIndex(ctx, ix)
	}()
	for _, c := range waiting {
		c.done <- err
	}
}

// writeIndex makes ix the index.
func (l *layout) writeIndex(ctx context.Context, ix *layoutIndex) error {
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
	// What it leads to comes first.
	if err := l.syncDirs(); err != nil {
		l.root.Remove(temp)
		return err
	}
	// Who loads it meanwhile must not parse it.
	l.mu.Lock()
	err = l.rename(temp, indexFile)
	if err == nil {
		l.index, l.stat = ix, info
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.syncDir(".")
}

// lock takes the turn to write index.json, first in this process and then among all.
func (l *layout) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	release, err := l.lockFile(ctx)
	if err != nil {
		<-l.turn
		return nil, err
	}
	return func() { release(); <-l.turn }, nil
}

// lockFile takes the turn among processes.
func (l *layout) lockFile(ctx context.Context) (unlock func(), err error) {
	doing := "locking the layout " + l.dir
	f, err := l.root.Open(layoutFile)
	if err != nil {
		return nil, diskError(doing, err)
	}
	if err := waitLock(ctx, f); err != nil {
		f.Close()
		if ctx.Err() == nil {
			err = diskError(doing, err)
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// waitLock waits for the lock of an open file.
func waitLock(ctx context.Context, f *os.File) error {
	for {
		if ok, err := tryLock(f); ok || err != nil {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// write puts r's bytes at name, whole or not at all: a temporary file beside it, synced, renamed. The folder is synced
// with the index, without which nobody finds the blob.
func (l *layout) write(ctx context.Context, name string, r io.Reader) error {
	temp, err := l.spool(ctx, name, r)
	if err != nil {
		return err
	}
	if err := l.rename(temp, name); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unsynced == nil {
		l.unsynced = make(map[string]bool)
	}
	l.unsynced[path.Dir(name)] = true
	return nil
}

// rename gives a temporary file its name.
func (l *layout) rename(temp, name string) error {
	if err := l.root.Rename(temp, name); err != nil {
		l.root.Remove(temp)
		return diskError("writing "+path.Join(l.dir, name), err)
	}
	return nil
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

// spool writes r to a synced temporary file in the folder of name and returns its path. It leaves nothing behind if
// that goes wrong.
func (l *layout) spool(ctx context.Context, name string, r io.Reader) (temp string, err error) {
	doing := "writing " + path.Join(l.dir, name)
	temp = path.Join(path.Dir(name), temporary+rand.Text())
	f, err := l.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", diskError(doing, err)
	}
	claim(f)
	l.swept.Do(func() { l.sweep(f) })
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

// sweep removes what killed writers left, by the time of a file that was just made.
func (l *layout) sweep(f *os.File) {
	info, err := f.Stat()
	if err != nil {
		return
	}
	ours := func(name string) bool { // as [layout.spool] makes it
		text := strings.TrimPrefix(name, temporary)
		return text != "" && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
	}
	for _, dir := range []string{".", path.Join(ocispec.ImageBlobsDir, "sha256"), path.Join(ocispec.ImageBlobsDir, "sha512")} {
		sweep(l.root, dir, info.ModTime(), ours)
	}
}

// syncDirs makes the names of blobs last that were written since it was called before.
func (l *layout) syncDirs() error {
	l.mu.Lock()
	dirs := l.unsynced
	l.unsynced = nil
	l.mu.Unlock()
	for dir := range dirs {
		if err := l.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
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
