package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// SpoolArchive reads the archive of a layout from a stream (standard input) into a temporary file in dir, which nobody
// else may read and which is gone with Close, or with the process where the system allows that. A stream that is a
// regular file from its beginning on is read where it lies. Only the disk limits the size; a stream that is compressed
// is refused at its first bytes.
func SpoolArchive(ctx context.Context, r io.Reader, dir string) (*Repo, error) {
	const name = "-"
	doing := "reading the archive from standard input"
	if f := regularFromStart(r); f != nil {
		a, err := archiveIn(name, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		return newRepo(a, Reference{Kind: Archive, Path: name}), nil
	}
	var start [magicBytes]byte
	r = &abandoned{ctx: ctx, r: r}
	n, err := io.ReadFull(r, start[:])
	switch {
	case errors.Is(err, io.EOF):
		return nil, malformed("%s: it is empty", doing)
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if err := refuseCompressed(start[:n]); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	f, err := os.CreateTemp(dir, temporary+"stdin-*") // 0600
	if err != nil {
		return nil, fail(codeDisk, "%s: %w: %w", doing, ErrDisk, err)
	}
	a := &archive{file: name, f: f, most: maxArchiveEntries, spooled: true}
	// Windows removes no file that is open: there it goes with Close.
	if os.Remove(f.Name()) == nil {
		a.spooled = false
	}
	_, err = io.Copy(&diskWriter{w: f, doing: doing}, struct{ io.Reader }{io.MultiReader(bytes.NewReader(start[:n]), r)})
	if err == nil {
		err = a.scan()
	}
	if err != nil {
		_ = a.close()
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return newRepo(a, Reference{Kind: Archive, Path: name}), nil
}

// regularFromStart returns what r reads if that is a file of which nothing was read yet.
func regularFromStart(r io.Reader) *os.File {
	f, ok := r.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return nil
	}
	return f
}

// An abandoned reads until its context ends, also when the reader underneath waits for somebody to type: no file system
// lets go of a read of standard input, so that goes on, into a buffer of its own, until the process ends.
type abandoned struct {
	ctx context.Context
	r   io.Reader

	buf   []byte
	reads chan read
}

type read struct {
	n   int
	err error
}

func (a *abandoned) Read(p []byte) (int, error) {
	if err := context.Cause(a.ctx); err != nil {
		return 0, err
	}
	if a.reads == nil {
		a.reads = make(chan read, 1)
		a.buf = make([]byte, 128<<10)
	}
	buf := a.buf[:min(len(p), len(a.buf))]
	go func() {
		n, err := a.r.Read(buf)
		a.reads <- read{n, err}
	}()
	select {
	case got := <-a.reads:
		return copy(p, buf[:got.n]), got.err
	case <-a.ctx.Done():
		return 0, context.Cause(a.ctx)
	}
}
