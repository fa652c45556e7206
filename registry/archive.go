package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxArchiveEntries bounds the table of contents of an archive; ten thousand images have a few hundred thousand.
const maxArchiveEntries = 1 << 20

// An extent is where a file's bytes lie in an archive.
type extent struct{ offset, size int64 }

// An archive is a tar of an OCI layout, read where it lies: nothing is unpacked, so no name in it can lead anywhere.
type archive struct {
	file    string
	f       *os.File
	most    int  // maxArchiveEntries; tests lower it
	spooled bool // f is ours, and to be removed
	blobs   map[digest.Digest]extent
	index   *layoutIndex
	has     *contents

	// Up to span there are only blobs and their folders; scattered: there are more behind it.
	span      int64
	scattered bool
}

var _ store = (*archive)(nil)

// readArchive opens the tar of a layout for reading in place.
func readArchive(file string) (store, error) {
	doing := "opening the archive " + file
	info, err := os.Stat(file)
	if err != nil {
		return nil, diskError(doing, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fail(codeMalformed, "%s: %w: it is no regular file; a layout in a folder is written oci:DIR", doing, ErrMalformed)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, diskError(doing, err)
	}
	a, err := archiveIn(file, f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return a, nil
}

// archiveIn reads the archive in an open file, which is the caller's still if that goes wrong.
func archiveIn(name string, f *os.File) (*archive, error) {
	a := &archive{file: name, f: f, most: maxArchiveEntries}
	if err := a.scan(); err != nil {
		return nil, err
	}
	return a, nil
}

// compressed names the formats that people hand over instead of a tar.
var compressed = []struct{ magic, name, tool string }{
	{"\x1f\x8b", "gzip", "gunzip"},
	{"\x28\xb5\x2f\xfd", "zstd", "unzstd"},
	{"\xfd7zXZ\x00", "xz", "unxz"},
	{"BZh", "bzip2", "bunzip2"},
}

// magicBytes are enough to tell what a file is compressed with.
const magicBytes = 6

func refuseCompressed(start []byte) error {
	for _, c := range compressed {
		if bytes.HasPrefix(start, []byte(c.magic)) {
			return malformed("it is compressed with %s and must be decompressed first (%s): imprint reads archives in place", c.name, c.tool)
		}
	}
	return nil
}

// scan reads the headers, index.json and oci-layout.
func (a *archive) scan() error {
	a.has = &contents{blobs: a}
	var start [magicBytes]byte
	n, err := a.f.ReadAt(start[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return diskError("reading", err)
	}
	if err := refuseCompressed(start[:n]); err != nil {
		return err
	}
	if _, err := a.f.Seek(0, io.SeekStart); err != nil {
		return diskError("reading", err)
	}
	files := make(map[string][]byte)
	a.blobs = make(map[digest.Digest]extent)
	docker, only := false, true
	t := tar.NewReader(a.f)
	for count := 0; ; count++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return malformed("it is no tar, or damaged: %w", err)
		}
		if count >= a.most {
			return fail(codeTooLarge, "%w: more than %d files", ErrTooLarge, a.most)
		}
		name, err := entryName(h)
		if err != nil {
			return err
		}
		// The tar reader has no buffer: the file stands where the content begins.
		at, err := a.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return diskError("reading", err)
		}
		blob := h.Typeflag == tar.TypeReg && strings.HasPrefix(name, ocispec.ImageBlobsDir+"/")
		switch {
		case h.Typeflag == tar.TypeDir:
		case name == indexFile || name == layoutFile:
			err = a.scanFile(files, name, t, h)
		case blob:
			err = a.scanBlob(name, extent{at, h.Size})
		case name == "manifest.json":
			docker = true
		}
		if err != nil {
			return err
		}
		switch only = only && (blob || h.Typeflag == tar.TypeDir); {
		case only && blob:
			a.span = at + padded(h.Size)
		case only:
			a.span = at
		case blob:
			a.scattered = true
		}
	}
	if docker && files[indexFile] == nil {
		return malformed("it is a docker archive without an OCI index; docker save writes one since version 25, " +
			"and skopeo copy docker-archive:… oci-archive:… makes one")
	}
	for _, name := range []string{indexFile, layoutFile} {
		if files[name] == nil {
			return malformed("it lacks %s: it is not the archive of an OCI layout, or only the beginning of one", name)
		}
	}
	if err := checkLayoutFile(files[layoutFile]); err != nil {
		return err
	}
	a.index, err = parseLayoutIndex(files[indexFile])
	return err
}

// entryName cleans the name of a tar entry, and refuses what is a trick.
func entryName(h *tar.Header) (string, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		// Some readers give these to each entry that follows, and some to none (pax, "Extended Header Keywords").
		for _, key := range []string{"path", "linkpath", "size"} {
			if _, has := h.PAXRecords[key]; has {
				return "", ambiguous("it has a %s for all entries, which not all programs heed", key)
			}
		}
		return "", nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
	switch {
	case name == "" || name == ".":
		return "", nil
	case strings.HasPrefix(name, "/"), strings.ContainsAny(name, "\\\x00"), path.Clean(name) != name, name == "..", strings.HasPrefix(name, "../"):
		return "", malformed("it has an entry %q", clip(h.Name))
	}
	first, _, _ := strings.Cut(name, "/")
	for _, own := range []string{indexFile, layoutFile, ocispec.ImageBlobsDir} {
		if first != own && strings.EqualFold(first, own) {
			return "", ambiguous("its entry %q is %q to file systems that do not tell case", clip(h.Name), own)
		}
	}
	ours := name == indexFile || name == layoutFile || first == ocispec.ImageBlobsDir
	if !ours {
		return name, nil
	}
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
		return "", malformed("its entry %q is a link or a device", clip(h.Name))
	}
	for key := range h.PAXRecords {
		// A sparse file's bytes do not lie where they seem to.
		if strings.HasPrefix(key, "GNU.sparse.") {
			return "", malformed("its entry %q is sparse", clip(h.Name))
		}
	}
	return name, nil
}

// scanFile reads one of the two small files. Which of two of one name counts differs between readers, so both must be the same.
func (a *archive) scanFile(files map[string][]byte, name string, r io.Reader, h *tar.Header) error {
	if h.Size > maxLayoutIndex {
		return fail(codeTooLarge, "%s: %w: %d bytes", name, ErrTooLarge, h.Size)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxLayoutIndex+1))
	if err != nil {
		return malformed("%s: %w", name, err)
	}
	if before, twice := files[name]; twice && !bytes.Equal(before, b) {
		return ambiguous("it has two different files %s", name)
	}
	files[name] = b
	return nil
}

func (a *archive) scanBlob(name string, e extent) error {
	algorithm, hex, _ := strings.Cut(strings.TrimPrefix(name, ocispec.ImageBlobsDir+"/"), "/")
	d, err := parseDigest(algorithm + ":" + hex)
	if err != nil {
		return malformed("its entry %q is no blob: %w", clip(name), err)
	}
	if before, twice := a.blobs[d]; twice && before.size != e.size {
		return ambiguous("it has two different blobs %s", d)
	}
	// Of two copies that claim to be the same either may be read: the digest is checked.
	a.blobs[d] = e
	return nil
}

func (a *archive) open(d digest.Digest) (io.ReadCloser, int64, error) {
	e, ok := a.blobs[d]
	if !ok {
		return nil, 0, fail(codeNotFound, "%s in %s: %w", d, a.file, ErrNotFound)
	}
	return section(a.f, e), e.size, nil
}

// section opens part of a file.
func section(f *os.File, e extent) io.ReadCloser {
	return struct {
		*io.SectionReader
		io.Closer
	}{io.NewSectionReader(f, e.offset, e.size), io.NopCloser(nil)}
}

func (a *archive) manifest(ctx context.Context, tag string, d digest.Digest) (mediaType string, body []byte, err error) {
	if tag == "" {
		return a.has.manifest(a.index, d)
	}
	e, err := a.index.find(tag)
	if err != nil {
		return "", nil, err
	}
	body, err = a.has.read(e.Digest)
	return e.MediaType, body, err
}

func (a *archive) hasManifest(ctx context.Context, d digest.Digest) (bool, error) {
	_, ok := a.blobs[d]
	return ok, nil
}

func (a *archive) tagged(ctx context.Context, tag string) (digest.Digest, error) {
	e, err := a.index.find(tag)
	return e.Digest, err
}

func (a *archive) tags(ctx context.Context) iter.Seq2[string, error] { return tagsOf(a.index) }

func tagsOf(ix *layoutIndex) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, n := range ix.names() {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (a *archive) blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return sized(a.open, d, offset)
}

// sized opens a blob that has the size which its descriptor says.
func sized(open func(digest.Digest) (io.ReadCloser, int64, error), d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	rc, size, err := open(d.Digest)
	if err != nil {
		return nil, err
	}
	if size != d.Size {
		rc.Close()
		return nil, fail(codeDigest, "%w: blob %s has %d bytes, its descriptor says %d", ErrDigestMismatch, d.Digest, size, d.Size)
	}
	if s, ok := rc.(io.Seeker); ok && offset > 0 {
		_, err = s.Seek(offset, io.SeekStart)
	} else if offset > 0 {
		_, err = io.CopyN(io.Discard, rc, offset)
	}
	if err != nil {
		rc.Close()
		return nil, diskError("reading blob "+d.Digest.String(), err)
	}
	return rc, nil
}

func (a *archive) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	return a.has.referrers(a.index, subject.Digest)
}

// readOnly is the answer to every write.
func (a *archive) readOnly() error {
	return fail(codeUnsupported, "%w: the archive %s is written already; copy it to a layout (oci:DIR) or a registry first, and work there",
		ErrUnsupported, a.file)
}

func (a *archive) hasBlob(_ context.Context, d ocispec.Descriptor) (bool, error) {
	e, ok := a.blobs[d.Digest]
	return ok && e.size == d.Size, nil
}

func (a *archive) pushBlob(context.Context, ocispec.Descriptor, store, Body) (Sent, error) {
	return Sent{}, a.readOnly()
}

func (a *archive) pushBytes(context.Context, ocispec.Descriptor, []byte) error { return a.readOnly() }
func (a *archive) pushManifest(context.Context, Manifest) error                { return a.readOnly() }
func (a *archive) tag(context.Context, Manifest, string) error                 { return a.readOnly() }
func (a *archive) setTags(context.Context, Manifest, []string) error           { return a.readOnly() }
func (a *archive) confirm(context.Context, ocispec.Descriptor, []Manifest) error {
	return a.readOnly()
}
func (a *archive) attach(context.Context, ocispec.Descriptor, []Manifest) error {
	return a.readOnly()
}
func (a *archive) detach(context.Context, ocispec.Descriptor, digest.Digest) error {
	return a.readOnly()
}

func (a *archive) examine(ctx context.Context, write bool) (Capabilities, error) {
	return Capabilities{ReferrersAPI: capYes, Delete: capNo, Mount: capNo, SingleUpload: capNo}, nil
}

func (a *archive) commit() error { return nil }

func (a *archive) close() error {
	err := diskError("closing "+a.file, a.f.Close())
	if a.spooled {
		err = errors.Join(err, diskError("removing "+a.f.Name(), os.Remove(a.f.Name())))
	}
	return err
}
