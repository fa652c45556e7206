package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// temporary begins the names of files that are being written. They lie beside what they become, so that a rename
// never leaves the file system.
const temporary = ".imprint-"

// A layout is an OCI layout folder. Nothing is opened outside of it, whatever links and digests say (os.Root).
// Readers need no lock: every file is whole from its first moment. Writers of index.json take turns by a lock on the
// oci-layout file, other processes too.
type layout struct {
	dir     string
	root    *os.Root
	has     *contents
	flights flights
	swept   sync.Once

	mu      sync.Mutex
	index   *layoutIndex // as of the file below
	stat    fs.FileInfo
	pending []*indexChange
	// unsynced are folders with blobs whose names may be lost with the power.
	unsynced map[string]bool
	turn     chan struct{} // this process's turn to write index.json
}

var _ store = (*layout)(nil)

// diskError says what went wrong with a local file. What is absent is ErrNotFound, what leads out of the layout
// ErrMalformed, all else ErrDisk.
func diskError(doing string, err error) error {
	var (
		own   *Error
		at    *fs.PathError
		moved *os.LinkError
		errno syscall.Errno
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return err
	case errors.Is(err, fs.ErrNotExist) && !errors.As(err, &moved): // what was written and cannot be put in place is not sought
		return fail(codeNotFound, "%s: %w: %w", doing, ErrNotFound, err)
	case errors.As(err, &at) && strings.HasSuffix(at.Op, "at") && !errors.As(err, &errno) && !errors.Is(err, fs.ErrClosed):
		return fail(codeMalformed, "%s: %w: a link in the layout leads out of it: %w", doing, ErrMalformed, err) // os.Root (openat, statat …) has no name for it
	}
	return fail(codeDisk, "%s: %w: %w", doing, ErrDisk, err)
}

// openLayout opens the layout in dir.
func openLayout(dir string) (store, error) {
	l, err := layoutIn(dir)
	if err != nil {
		return nil, err
	}
	err = l.checkVersion()
	if err == nil {
		_, err = l.load()
	}
	if err != nil {
		l.root.Close()
		return nil, err
	}
	return l, nil
}

// createLayout opens the layout in dir; the folder and an empty layout are made if there is nothing. A folder that
// holds other things is refused.
func createLayout(dir string) (store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fail(codeDisk, "making the layout %s: %w: %w", dir, ErrDisk, err) // also where nothing can be made: nothing was sought
	}
	l, err := layoutIn(dir)
	if err != nil {
		return nil, err
	}
	if err = l.checkVersion(); errors.Is(err, ErrNotFound) {
		err = l.make()
	}
	if err == nil {
		if _, err = l.load(); errors.Is(err, ErrNotFound) {
			err = l.makeIndex()
		}
	}
	if err != nil {
		l.root.Close()
		return nil, err
	}
	return l, nil
}

func layoutIn(dir string) (*layout, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(codeNotFound, "layout %s: %w: there is no such folder", dir, ErrNotFound)
	}
	if err != nil {
		return nil, diskError("opening the layout "+dir, err)
	}
	l := &layout{dir: dir, root: root, turn: make(chan struct{}, 1)}
	l.has = &contents{blobs: l}
	return l, nil
}

// checkVersion reads the oci-layout file, without which a folder is no layout: ErrNotFound.
func (l *layout) checkVersion() error {
	b, err := l.readFile(layoutFile, maxLayoutFile)
	if errors.Is(err, ErrNotFound) {
		return fail(codeNotFound, "layout %s: %w: the folder is no OCI layout, it has no %s file", l.dir, ErrNotFound, layoutFile)
	}
	if err != nil {
		return err
	}
	if err := checkLayoutFile(b); err != nil {
		return fmt.Errorf("layout %s: %w", l.dir, err)
	}
	return nil
}

func (l *layout) makeIndex() error {
	b, err := newLayoutIndex().encode()
	if err != nil {
		return err
	}
	return l.writeNew(indexFile, b)
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
	return l.hasFile(d, -1)
}

func (l *layout) hasBlob(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return l.hasFile(d.Digest, d.Size)
}

// hasFile reports whether a blob is there, of that size unless it is negative.
func (l *layout) hasFile(d digest.Digest, size int64) (bool, error) {
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

func (l *layout) blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return sized(l.open, d, offset)
}

func (l *layout) pushBlob(ctx context.Context, d ocispec.Descriptor, from store, body Body) (Sent, error) {
	if there, err := l.hasFile(d.Digest, d.Size); there || err != nil {
		return Sent{There: there}, err
	}
	leave, err := l.flights.enter(ctx, d.Digest)
	if err != nil {
		return Sent{}, err
	}
	defer leave()
	if there, err := l.hasFile(d.Digest, d.Size); there || err != nil {
		return Sent{There: there}, err
	}
	rc, err := body(ctx, 0)
	if err != nil {
		return Sent{}, err
	}
	defer rc.Close()
	return Sent{Bytes: d.Size}, l.put(ctx, d, rc)
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
	if there, err := l.hasFile(d.Digest, d.Size); there || err != nil {
		return err
	}
	return l.put(ctx, d, io.NopCloser(bytes.NewReader(b)))
}

func (l *layout) pushManifest(ctx context.Context, m Manifest) error {
	if err := l.pushBytes(ctx, m.Descriptor, m.Bytes); err != nil {
		return err
	}
	l.has.stored(m.Descriptor.Digest)
	return nil
}

func (l *layout) tag(ctx context.Context, m Manifest, tag string) error {
	return l.setTags(ctx, m, []string{tag})
}

func (l *layout) setTags(ctx context.Context, m Manifest, tags []string) error {
	there := func() error {
		has, err := l.hasFile(m.Descriptor.Digest, m.Descriptor.Size)
		if err == nil && !has {
			err = fail(codeNotFound, "manifest %s: %w", m.Descriptor.Digest, ErrNotFound)
		}
		return err
	}
	ix, err := l.load()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(tags, func(t string) bool { return !ix.means(t, m.Descriptor.Digest) }) {
		if err := there(); err != nil {
			return err
		}
		return l.syncDirs()
	}
	return l.change(ctx, func(_, ix *layoutIndex) (changed bool, err error) {
		if err := there(); err != nil {
			return false, err
		}
		for _, t := range tags {
			changed = ix.setTag(indexEntry(m), t) || changed
		}
		return changed, nil
	})
}

func (l *layout) confirm(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	return l.attach(ctx, subject, manifests)
}

func (l *layout) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	ix, err := l.load()
	if err != nil {
		return nil, err
	}
	return l.has.referrers(ix, subject.Digest)
}

func (l *layout) attach(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	for _, m := range manifests {
		if err := l.pushManifest(ctx, m); err != nil {
			return err
		}
	}
	ix, err := l.load()
	if err != nil {
		return err
	}
	listed := true
	for _, m := range manifests {
		reachable, err := l.has.reachable(ix, m.Descriptor.Digest)
		if err != nil {
			return err
		}
		listed = listed && reachable
	}
	if listed {
		return l.syncDirs()
	}
	return l.change(ctx, func(old, ix *layoutIndex) (bool, error) {
		// Once more under the lock: somebody may have deleted what was not listed yet.
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
	return Capabilities{ReferrersAPI: capYes, Delete: capYes, Mount: capNo, SingleUpload: capYes}, nil
}

func (l *layout) commit() error { return nil }

func (l *layout) close() error {
	return diskError("closing the layout "+l.dir, l.root.Close())
}
