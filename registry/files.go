package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"mime"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// typeUnknownArtifact is the artifact type of files that were given none, as oras writes it.
	typeUnknownArtifact = "application/vnd.unknown.artifact.v1"
	typeOctets          = "application/octet-stream"
)

// ErrFile: a file that was named cannot be part of an artifact.
var ErrFile = errors.New("no file to make an artifact of")

// A File is a local file that becomes a layer of an artifact.
type File struct {
	Path      string
	MediaType string // "": application/octet-stream
	Title     string // org.opencontainers.image.title, under which pulling tools store it; "": the base name of Path
}

// AssembleOptions of [Assemble].
type AssembleOptions struct {
	ArtifactType string // "": application/vnd.unknown.artifact.v1
	Annotations  map[string]string
	Subject      *ocispec.Descriptor
	Created      time.Time // org.opencontainers.image.created; zero: none, so that the same files have the same digest always
}

// Assemble makes an artifact of local files: an OCI image manifest with artifactType, the empty configuration and one
// layer per file, in their order (image specification, "Guidelines for Artifact Usage"). The same files and options
// give the same bytes. Files are read once for their digests, and again where they lie when they are sent: one that
// has changed meanwhile is ErrDigestMismatch, reason file-changed. The Repo that is returned can be read only, by
// digest. What cannot be a layer (a folder, a FIFO, two files of one title) is ErrFile.
func Assemble(ctx context.Context, files []File, o AssembleOptions) (*Repo, Manifest, error) {
	a := &assembly{files: make(map[digest.Digest]*localFile)}
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: o.ArtifactType,
		Config:       ocispec.DescriptorEmptyJSON,
		Subject:      o.Subject,
		Annotations:  maps.Clone(o.Annotations),
	}
	if m.ArtifactType == "" {
		m.ArtifactType = typeUnknownArtifact
	}
	if err := checkMediaType(m.ArtifactType); err != nil {
		return nil, Manifest{}, unfit("the artifact type: %w", err)
	}
	if len(files) == 0 {
		return nil, Manifest{}, unfit("none was named")
	}
	if _, given := m.Annotations[ocispec.AnnotationCreated]; !given && !o.Created.IsZero() {
		if m.Annotations == nil {
			m.Annotations = make(map[string]string)
		}
		m.Annotations[ocispec.AnnotationCreated] = o.Created.UTC().Format(time.RFC3339)
	}
	layers, err := layersOf(files)
	if err != nil {
		return nil, Manifest{}, err
	}
	for i, f := range files {
		local := &localFile{path: f.Path}
		if layers[i].Digest, layers[i].Size, err = local.hash(ctx); err != nil {
			return nil, Manifest{}, err
		}
		if a.files[layers[i].Digest] == nil {
			a.files[layers[i].Digest] = local
		}
	}
	m.Layers = layers
	b, err := json.Marshal(m)
	if err != nil {
		return nil, Manifest{}, unfit("%w", err)
	}
	a.root = NewManifest(m.MediaType, b)
	// What nobody could read back is not made: a subject that is none, more files than a manifest holds.
	if _, err := a.root.Parse(); err != nil {
		return nil, Manifest{}, err
	}
	return newRepo(a, Reference{Kind: Files, Path: listFiles(files)}), a.root, nil
}

// unfit is the error of what was named and cannot be part of an artifact.
func unfit(format string, args ...any) error {
	return fail(codeFile, "%w: %w", ErrFile, fmt.Errorf(format, args...))
}

// layersOf describes files without having read them.
func layersOf(files []File) ([]ocispec.Descriptor, error) {
	layers := make([]ocispec.Descriptor, len(files))
	titles := make(map[string]string, len(files))
	for i, f := range files {
		title := f.Title
		if title == "" {
			title = filepath.Base(f.Path)
		}
		// Pulling tools make a path of it.
		if path.Clean(title) != title || path.IsAbs(title) || title == "." || title == ".." || strings.HasPrefix(title, "../") ||
			strings.ContainsAny(title, "\\\x00") {
			return nil, unfit("%s: the title %q would lead out of the folder into which it is pulled", f.Path, clip(title))
		}
		if before, twice := titles[title]; twice {
			return nil, unfit("%s and %s: both would be pulled as %q; give one of them another title", before, f.Path, clip(title))
		}
		titles[title] = f.Path
		mediaType := f.MediaType
		if mediaType == "" {
			mediaType = typeOctets
		}
		if err := checkMediaType(mediaType); err != nil {
			return nil, unfit("%s: %w", f.Path, err)
		}
		layers[i] = ocispec.Descriptor{MediaType: mediaType, Annotations: map[string]string{ocispec.AnnotationTitle: title}}
	}
	return layers, nil
}

// checkMediaType checks TYPE/SUBTYPE with no parameters (RFC 6838, section 4.2).
func checkMediaType(s string) error {
	parsed, params, err := mime.ParseMediaType(s)
	if err != nil || len(params) > 0 || !strings.EqualFold(parsed, s) || strings.Count(s, "/") != 1 || len(s) > 255 {
		return fmt.Errorf("%q is not a media type, as in application/spdx+json", clip(s))
	}
	return nil
}

// listFiles names files for people.
func listFiles(files []File) string {
	const most = 3
	var names []string
	for _, f := range files[:min(len(files), most)] {
		names = append(names, f.Path)
	}
	list := strings.Join(names, ", ")
	if more := len(files) - most; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// A localFile is a file of a person's, and what it was when it was read for its digest.
type localFile struct {
	path string
	info os.FileInfo
}

// hash reads the file.
func (l *localFile) hash(ctx context.Context) (digest.Digest, int64, error) {
	f, info, err := l.open()
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := digest.Canonical.Digester()
	n, err := io.Copy(h.Hash(), &contextReader{ctx: ctx, r: f})
	switch {
	case ctx.Err() != nil:
		return "", 0, context.Cause(ctx)
	case err != nil:
		return "", 0, diskError("reading "+l.path, err)
	case n != info.Size():
		return "", 0, l.changed("it grew or shrank while it was read")
	}
	l.info = info
	return h.Digest(), n, nil
}

// open opens a regular file: a FIFO would be waited for, and what a device holds is not the same twice.
func (l *localFile) open() (*os.File, os.FileInfo, error) {
	info, err := os.Stat(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, unfit("%s: there is no such file", l.path)
	}
	if err != nil {
		return nil, nil, diskError("reading "+l.path, err)
	}
	if err := regular(l.path, info); err != nil {
		return nil, nil, err
	}
	f, err := os.Open(l.path)
	if err != nil {
		return nil, nil, diskError("reading "+l.path, err)
	}
	// It may be another by now.
	if info, err = f.Stat(); err != nil {
		err = diskError("reading "+l.path, err)
	} else {
		err = regular(l.path, info)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func regular(file string, info os.FileInfo) error {
	switch {
	case info.Mode().IsRegular():
		return nil
	case info.IsDir():
		return unfit("%s is a folder: make one file of it (tar -cf), or name the files; a layout is written oci:DIR", file)
	}
	return unfit("%s is a device or a pipe, no regular file; write what it gives to a file first", file)
}

func (l *localFile) changed(how string) error {
	return fail(codeFileChanged, "%w: the file %s changed after its digest was computed: %s; run it again", ErrDigestMismatch, l.path, how)
}

// read opens the file from an offset on.
func (l *localFile) read(d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	f, info, err := l.open()
	if errors.Is(err, ErrFile) {
		return nil, l.changed(err.Error())
	}
	if err != nil {
		return nil, err
	}
	if info.Size() != d.Size {
		f.Close()
		return nil, l.changed(fmt.Sprintf("it has %d bytes, it had %d", info.Size(), d.Size))
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, diskError("reading "+l.path, err)
	}
	return &unchanged{File: f, local: l, left: d.Size - offset}, nil
}

// same reports whether the file is the one of which the digest is known, as far as can be told without reading it.
func (l *localFile) same(info os.FileInfo) bool {
	return os.SameFile(info, l.info) && info.Size() == l.info.Size() && info.ModTime().Equal(l.info.ModTime())
}

// An unchanged reads a file, and keeps its last bytes for itself if the file was written to since its digest was
// computed. Who reads checks digests too; but only here is it known which file it was.
type unchanged struct {
	*os.File
	local *localFile
	left  int64
}

func (r *unchanged) Read(p []byte) (int, error) {
	n, err := r.File.Read(p)
	r.left -= int64(n)
	if r.left > 0 && err == nil {
		return n, nil
	}
	info, statErr := r.Stat()
	switch {
	case statErr != nil:
		return 0, diskError("reading "+r.local.path, statErr)
	case r.left != 0 && (err == nil || errors.Is(err, io.EOF)):
		return 0, r.local.changed("it grew or shrank while it was read")
	case !r.local.same(info):
		return 0, r.local.changed("it was written to")
	case err != nil && !errors.Is(err, io.EOF):
		return n, diskError("reading "+r.local.path, err)
	}
	return n, err
}

// WriteTo hides os.File's, which would pass Read by.
func (r *unchanged) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

// An assembly is an artifact of local files that is not anywhere yet.
type assembly struct {
	root  Manifest
	files map[digest.Digest]*localFile
}

var _ store = (*assembly)(nil)

func (a *assembly) missing(what string) error {
	return fail(codeNotFound, "%s: %w: an artifact of files has one manifest, and no tags", what, ErrNotFound)
}

func (a *assembly) manifest(_ context.Context, tag string, d digest.Digest) (mediaType string, body []byte, err error) {
	if tag != "" {
		return "", nil, a.missing("tag " + clip(tag))
	}
	if d != a.root.Descriptor.Digest {
		return "", nil, a.missing("manifest " + d.String())
	}
	return a.root.Descriptor.MediaType, bytes.Clone(a.root.Bytes), nil
}

func (a *assembly) hasManifest(_ context.Context, d digest.Digest) (bool, error) {
	return d == a.root.Descriptor.Digest, nil
}

func (a *assembly) tagged(_ context.Context, tag string) (digest.Digest, error) {
	return "", a.missing("tag " + clip(tag))
}

func (a *assembly) tags(context.Context) iter.Seq2[string, error] {
	return func(func(string, error) bool) {}
}

func (a *assembly) blob(_ context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if f := a.files[d.Digest]; f != nil {
		return f.read(d, offset)
	}
	if d.Digest != ocispec.DescriptorEmptyJSON.Digest {
		return nil, a.missing("blob " + d.Digest.String())
	}
	return sized(func(digest.Digest) (io.ReadCloser, int64, error) {
		return inMemory(ocispec.DescriptorEmptyJSON.Data), ocispec.DescriptorEmptyJSON.Size, nil
	}, d, offset)
}

// inMemory opens bytes; sized finds its way in them.
func inMemory(b []byte) io.ReadCloser {
	return struct {
		*bytes.Reader
		io.Closer
	}{bytes.NewReader(b), io.NopCloser(nil)}
}

func (a *assembly) hasBlob(_ context.Context, d ocispec.Descriptor) (bool, error) {
	if f := a.files[d.Digest]; f != nil {
		return f.info.Size() == d.Size, nil
	}
	return d.Digest == ocispec.DescriptorEmptyJSON.Digest && d.Size == ocispec.DescriptorEmptyJSON.Size, nil
}

func (a *assembly) referrers(context.Context, ocispec.Descriptor, string) ([]Referrer, error) {
	return nil, nil
}

// readOnly is the answer to every write.
func (a *assembly) readOnly() error {
	return fail(codeUnsupported, "%w: an artifact of files can only be copied from", ErrUnsupported)
}

func (a *assembly) pushBlob(context.Context, ocispec.Descriptor, store, Body) (Sent, error) {
	return Sent{}, a.readOnly()
}

func (a *assembly) pushBytes(context.Context, ocispec.Descriptor, []byte) error { return a.readOnly() }
func (a *assembly) pushManifest(context.Context, Manifest) error                { return a.readOnly() }
func (a *assembly) tag(context.Context, Manifest, string) error                 { return a.readOnly() }
func (a *assembly) setTags(context.Context, Manifest, []string) error           { return a.readOnly() }
func (a *assembly) confirm(context.Context, ocispec.Descriptor, []Manifest) error {
	return a.readOnly()
}
func (a *assembly) attach(context.Context, ocispec.Descriptor, []Manifest) error {
	return a.readOnly()
}
func (a *assembly) detach(context.Context, ocispec.Descriptor, digest.Digest) error {
	return a.readOnly()
}

func (a *assembly) examine(context.Context, bool) (Capabilities, error) {
	return Capabilities{ReferrersAPI: capNo, Delete: capNo, Mount: capNo, SingleUpload: capNo}, nil
}

func (a *assembly) commit() error { return nil }
func (a *assembly) close() error  { return nil }
