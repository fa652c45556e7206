package registry

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
)

// copyStep is how much of an old archive is copied between two looks at whether anybody still wants it.
const copyStep = 64 << 20

// A kept is an archive that is added to: it is read where it is, and replaced in the end by one that has all of it and
// more. Whoever has it open reads it as it was. Its lock keeps others from adding to it meanwhile, whose work would be
// lost by the second rename.
type kept struct {
	*archive
	target string // what file leads to
	was    os.FileInfo
}

// keep opens the archive that is to be added to; nil if there is none. It waits while another process adds to it.
func keep(ctx context.Context, file string) (*kept, error) {
	doing := "adding to the archive " + file
	for {
		target, err := filepath.EvalSymlinks(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, diskError(doing, err)
		}
		info, err := os.Stat(target)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went between the two
		}
		if err != nil {
			return nil, diskError(doing, err)
		}
		if !info.Mode().IsRegular() {
			return nil, fail(codeExists, "%s: the name %w and is no regular file", doing, ErrExists)
		}
		k, err := lockArchive(ctx, file, target)
		if k == nil && err == nil {
			continue // another process replaced it while we waited
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		return k, nil
	}
}

// lockArchive opens target and waits for its lock; nil if by then it is another file.
func lockArchive(ctx context.Context, file, target string) (*kept, error) {
	f, err := os.Open(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("opening", err)
	}
	k, err := func() (*kept, error) {
		// Where the file system has no locks, [kept.replace] tells whether somebody was faster.
		if err := waitLock(ctx, f); err != nil && ctx.Err() != nil {
			return nil, err
		}
		was, err := f.Stat()
		if err != nil {
			return nil, diskError("opening", err)
		}
		if now, err := os.Stat(target); err != nil || !os.SameFile(was, now) {
			return nil, nil //nolint:nilerr // it is not there any more: that is for the next look
		}
		a, err := archiveIn(file, f)
		if err != nil {
			return nil, err
		}
		return &kept{archive: a, target: target, was: was}, nil
	}()
	if k == nil {
		f.Close()
	}
	return k, err
}

// copyTo copies the blobs to the beginning of an empty file, and returns where they end. Nothing is unpacked, and where
// file systems can they share the bytes.
func (k *kept) copyTo(ctx context.Context, to *os.File, doing string) (end int64, err error) {
	if !k.scattered {
		return k.span, copyRange(ctx, to, k.f, extent{0, k.span}, doing)
	}
	digests := slices.SortedFunc(maps.Keys(k.blobs), func(a, b digest.Digest) int {
		return cmp.Compare(k.blobs[a].offset, k.blobs[b].offset)
	})
	for _, d := range digests {
		e := k.blobs[d]
		var header bytes.Buffer
		if err := tar.NewWriter(&header).WriteHeader(tarHeader(blobPath(d), e.size)); err != nil {
			return 0, diskError(doing, err)
		}
		if _, err := to.Write(header.Bytes()); err != nil {
			return 0, diskError(doing, err)
		}
		if err := copyRange(ctx, to, k.f, e, doing); err != nil {
			return 0, err
		}
		if _, err := to.Write(make([]byte, padded(e.size)-e.size)); err != nil {
			return 0, diskError(doing, err)
		}
		end += int64(header.Len()) + padded(e.size)
	}
	return end, nil
}

// copyRange appends part of a file to another. Between files the kernel copies.
func copyRange(ctx context.Context, to, from *os.File, e extent, doing string) error {
	if _, err := from.Seek(e.offset, io.SeekStart); err != nil {
		return diskError(doing, err)
	}
	for left := e.size; left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.CopyN(to, from, min(left, copyStep))
		if errors.Is(err, io.EOF) {
			return malformed("%s: the old archive became shorter while it was read", doing)
		}
		if err != nil {
			return diskError(doing, err)
		}
		left -= n
	}
	return nil
}

// replace puts the new archive in the old one's place, unless that is not the one any more that was added to.
func (k *kept) replace(name, doing string) error {
	now, err := os.Stat(k.target)
	if err != nil || !os.SameFile(now, k.was) || now.Size() != k.was.Size() || !now.ModTime().Equal(k.was.ModTime()) {
		return fail(codeFileChanged, "%s: %w: another program wrote to it or replaced it meanwhile, and what it wrote was kept; run it again",
			doing, ErrDisk)
	}
	if runtime.GOOS == "windows" { // replaces no file that is open
		k.f.Close()
	}
	if err := os.Rename(name, k.target); err != nil {
		return diskError(doing, err)
	}
	syncFolder(filepath.Dir(k.target))
	return nil
}
