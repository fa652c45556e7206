//go:build unix

package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"oras.land/oras-go/v2/content/oci"
)

func appendTo(t testing.TB, file string) *Repo {
	t.Helper()
	s, err := beginArchive(context.Background(), file, CreateOptions{Append: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return newRepo(s, Reference{Kind: Archive, Path: file})
}

// addImage stores an image of one layer under a name, with a signature.
func addImage(t testing.TB, r *Repo, name, layer string) Manifest {
	t.Helper()
	ctx := context.Background()
	m := putImage(t, r, nil, "", layer)
	envelope := []byte("signature of " + name)
	sig := ByArtifactType.Manifest(m.Descriptor, "application/jose+json", envelope, nil)
	if err := errors.Join(r.PushSignature(ctx, m.Descriptor, sig, envelope), r.Tag(ctx, m, name)); err != nil {
		t.Fatal(err)
	}
	return m
}

func tagsIn(t testing.TB, r *Repo) (tags []string) {
	t.Helper()
	for tag, err := range r.Tags(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	return tags
}

// checkImage finds an image by its name, with its layer and its signature.
func checkImage(t testing.TB, r *Repo, name string, want Manifest, layer string) {
	t.Helper()
	ctx := context.Background()
	m, err := r.Resolve(ctx, Reference{Tag: name})
	if err != nil {
		t.Error(err)
		return
	}
	if d := cmp.Diff(want, m); d != "" {
		t.Errorf("%s: -want +got:\n%s", name, d)
	}
	p, err := m.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.ReadBlob(ctx, p.Layers[0], 1<<22); err != nil || string(b) != layer {
		t.Errorf("%s: its layer has %d bytes, %v", name, len(b), err)
	}
	if sigs, err := r.Signatures(ctx, m.Descriptor); err != nil || len(sigs) != 1 || string(sigs[0].Envelope) != "signature of "+name {
		t.Errorf("%s: signatures %+v, %v", name, sigs, err)
	}
}

// entriesOf returns the names of an archive's entries.
func entriesOf(t testing.TB, file string) (names []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestArchiveAppend(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.tar")
	names := []string{"harbor.example/db:16.4", "harbor.example/app:16.4", "ghcr.example/db:16.4"}
	images := map[string]Manifest{}
	big := strings.Repeat("layer", smallBlob)
	add := func(names ...string) {
		t.Helper()
		r := appendTo(t, file)
		for _, n := range names {
			images[n] = addImage(t, r, n, big+n)
		}
		if err := r.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	add(names[0]) // there is nothing to add to
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	reader := openedArchive(t, file)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	add(names[1:]...)

	r := openedArchive(t, file)
	for _, n := range names {
		checkImage(t, r, n, images[n], big+n)
	}
	if d := cmp.Diff(names, tagsIn(t, r)); d != "" {
		t.Errorf("names: -want +got:\n%s", d)
	}
	// Who had the old one open reads it to its end.
	checkImage(t, reader, names[0], images[names[0]], big+names[0])
	if d := cmp.Diff(names[:1], tagsIn(t, reader)); d != "" {
		t.Errorf("the old one's names: -want +got:\n%s", d)
	}
	entries := entriesOf(t, file)
	for _, once := range []string{indexFile, layoutFile} {
		if n := len(slices.DeleteFunc(slices.Clone(entries), func(e string) bool { return e != once })); n != 1 {
			t.Errorf("%d entries %s", n, once)
		}
	}
	if sorted := slices.Sorted(slices.Values(entries)); len(slices.Compact(sorted)) != len(entries) {
		t.Errorf("an entry stands twice: %q", entries)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// Nothing was unpacked, or put into another order: what was there begins the new one.
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if span := int(reader.store.(*archive).span); span < len(big) || !bytes.Equal(before[:span], after[:span]) {
		t.Errorf("the first %d bytes are others", span)
	}

	// The same again changes nothing; not even the file is another.
	add(names...)
	again, err := os.Stat(file)
	if err != nil || !os.SameFile(info, again) || !again.ModTime().Equal(info.ModTime()) {
		t.Errorf("nothing was added, and it was written: %v, %v", again, err)
	}
	if has, err := r.HasBlob(ctx, described("m", []byte("absent"))); err != nil || has {
		t.Error(has, err)
	}
	noLeftovers(t, dir)

	// A name alone is something to write.
	only := appendTo(t, file)
	if err := errors.Join(only.Tag(ctx, images[names[0]], "latest"), only.Commit()); err != nil {
		t.Fatal(err)
	}
	if d, err := openedArchive(t, file).Tagged(ctx, "latest"); err != nil || d != images[names[0]].Descriptor.Digest {
		t.Errorf("latest: %s, %v", d, err)
	}
	// A name that moves is its new owner's only.
	move := appendTo(t, file)
	if err := errors.Join(move.Tag(ctx, images[names[1]], "latest"), move.Commit()); err != nil {
		t.Fatal(err)
	}
	moved := openedArchive(t, file)
	if d, err := moved.Tagged(ctx, "latest"); err != nil || d != images[names[1]].Descriptor.Digest {
		t.Errorf("latest: %s, %v", d, err)
	}
	checkImage(t, moved, names[0], images[names[0]], big+names[0])
}

// Who unpacks an archive has a layout as oras reads it, with all names.
func TestArchiveAppendInterop(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a.tar")
	names := []string{"harbor.example/db:16.4", "harbor.example/app:16.4", "ghcr.example/db:16.4"}
	var images []Manifest
	for _, n := range names {
		r := appendTo(t, file)
		images = append(images, addImage(t, r, n, n))
		if err := r.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	theirs, err := oci.NewFromTar(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		d, err := theirs.Resolve(ctx, n)
		if err != nil || d.Digest != images[i].Descriptor.Digest {
			t.Errorf("oras resolves %s to %v, %v", n, d, err)
		}
		if above, err := theirs.Predecessors(ctx, d); err != nil || len(above) != 1 {
			t.Errorf("oras finds %d signatures of %s, %v", len(above), n, err)
		}
	}
}

// What other tools wrote is added to as well: blobs behind the index, folders, docker's own files, which go.
func TestArchiveAppendToOthers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, prefix := range []string{"", "./"} {
		for _, order := range []string{"as it is", "backwards"} {
			name := fmt.Sprintf("%q, %s", prefix, order)
			files, m := dockerSave(t, prefix)
			if order == "backwards" {
				slices.Reverse(files)
			}
			file := writeTar(t, files...)
			if s := openedArchive(t, file).store.(*archive).scattered; s != (order == "backwards") {
				t.Errorf("%s: scattered is %v", name, s)
			}
			r := appendTo(t, file)
			image := addImage(t, r, "harbor.example/db:1", "another layer")
			if err := r.Commit(); err != nil {
				t.Fatal(err)
			}
			got := openedArchive(t, file)
			checkImage(t, got, "harbor.example/db:1", image, "another layer")
			p, _ := m.Parse()
			if b, err := got.ReadBlob(ctx, p.Layers[0], 100); err != nil || string(b) != "layer" {
				t.Errorf("%s: what was there: %q, %v", name, b, err)
			}
			if d, err := got.Tagged(ctx, "docker.io/library/alpine:3.20"); err != nil || d != m.Descriptor.Digest {
				t.Errorf("%s: %s, %v", name, d, err)
			}
			for _, e := range entriesOf(t, file) {
				if !strings.Contains(e, "blobs") && e != indexFile && e != layoutFile {
					t.Errorf("%s: %s was kept", name, e)
				}
			}
		}
	}
}

func TestArchiveAppendRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	hostile := writeTar(t, named("blobs/sha256/../../x", "x"))
	noTar := filepath.Join(dir, "notes.tar")
	if err := os.WriteFile(noTar, bytes.Repeat([]byte("my notes "), 200), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file string
		want error
	}{
		"hostile":      {hostile, ErrMalformed},
		"no archive":   {noTar, ErrMalformed},
		"a folder":     {dir, ErrExists},
		"in no folder": {filepath.Join(dir, "no", "a.tar"), ErrDisk},
	} {
		if _, err := beginArchive(ctx, c.file, CreateOptions{Append: true}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}

	// Replaced by somebody without our lock: theirs is kept.
	file := filepath.Join(dir, "a.tar")
	r := appendTo(t, file)
	addImage(t, r, "a:1", "a")
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	r = appendTo(t, file)
	addImage(t, r, "b:1", "b")
	if err := errors.Join(os.Remove(file), os.WriteFile(file, []byte("theirs"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(); !errors.Is(err, ErrDisk) || reasonOf(err) != "file-changed" {
		t.Errorf("replaced meanwhile: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "theirs" {
		t.Errorf("theirs: %q, %v", b, err)
	}

	// One that came up where nothing was.
	late := filepath.Join(dir, "late.tar")
	r = appendTo(t, late)
	addImage(t, r, "b:1", "b")
	if err := os.WriteFile(late, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(); !errors.Is(err, ErrExists) {
		t.Errorf("one that came up: %v", err)
	}

	// Two files of one digest would be read by some as the one and by some as the other.
	wrong := described(typeOctets, []byte("right"))
	files, _ := dockerSave(t, "")
	damaged := writeTar(t, append(files, named(blobPath(wrong.Digest), "wrong!"))...)
	r = appendTo(t, damaged)
	if err := r.PushBytes(ctx, wrong, []byte("right")); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("over a blob of another size: %v", err)
	}
	noLeftovers(t, dir)
}

// A link leads to the archive still when it was added to.
func TestArchiveAppendThroughLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "there", "a.tar"), filepath.Join(dir, "latest.tar")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.Symlink("there/a.tar", link)); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{file, link} {
		r := appendTo(t, path)
		addImage(t, r, fmt.Sprintf("a:%d", i), fmt.Sprint(i))
		if err := r.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if to, err := os.Readlink(link); err != nil || to != "there/a.tar" {
		t.Errorf("the link is %q, %v", to, err)
	}
	if d := cmp.Diff([]string{"a:0", "a:1"}, tagsIn(t, openedArchive(t, file))); d != "" {
		t.Error(d)
	}
	noLeftovers(t, dir)
}

// F42 for archives: processes that add to one at the same time wait for each other, and all that they add is there.
func TestF42TwoProcessesAppend(t *testing.T) {
	t.Parallel()
	const writers, each = 3, 4
	if file := os.Getenv("IMPRINT_TEST_APPEND"); file != "" {
		for i := range each {
			r := appendTo(t, file)
			name := fmt.Sprintf("harbor.example/app:%d-%d", os.Getpid(), i)
			addImage(t, r, name, name)
			if err := r.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	first := appendTo(t, file) // two that begin a new one at once cannot both win
	addImage(t, first, "first:1", "first")
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			c := exec.Command(os.Args[0], "-test.run=^TestF42TwoProcessesAppend$", "-test.count=1")
			c.Env = append(os.Environ(), "IMPRINT_TEST_APPEND="+file)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if tags := tagsIn(t, openedArchive(t, file)); len(tags) != 1+writers*each {
		t.Errorf("%d of %d are there: %q", len(tags), 1+writers*each, tags)
	}
	noLeftovers(t, filepath.Dir(file))
}

// Who waits for another to end can be told to stop.
func TestArchiveAppendWaits(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.tar")
	r := appendTo(t, file)
	addImage(t, r, "a:1", "a")
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	first := appendTo(t, file)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		_, err := beginArchive(ctx, file, CreateOptions{Append: true})
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the second: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	checkedTags := tagsIn(t, appendTo(t, file))
	if d := cmp.Diff([]string{"a:1"}, checkedTags); d != "" {
		t.Error(d)
	}
}

// Several items write into one archive at once; what they share is fetched once, and a large download goes on while
// another is written.
func TestArchiveBatch(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a.tar")
	r := createArchive(t, file)
	base := bytes.Repeat([]byte("base"), smallBlob)
	d := described(typeOctets, base)
	var opened sync.Map
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			own := bytes.Repeat(fmt.Appendf(nil, "%d", i), 2*smallBlob)
			for _, b := range [][]byte{base, own} {
				_, err := r.PushBlob(ctx, described(typeOctets, b), nil, func(context.Context, int64) (io.ReadCloser, error) {
					if _, twice := opened.LoadOrStore(described("", b).Digest, true); twice {
						t.Error("a blob was fetched twice")
					}
					return io.NopCloser(bytes.NewReader(b)), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()

	// While one download stands still, another arrives.
	stuck, feed := io.Pipe()
	slow := described(typeOctets, bytes.Repeat([]byte("slow"), smallBlob))
	started := make(chan struct{})
	slowly, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	go func() {
		_, err := r.PushBlob(slowly, slow, nil, func(context.Context, int64) (io.ReadCloser, error) {
			close(started)
			return stuck, nil
		})
		ended <- err
	}()
	<-started
	other := bytes.Repeat([]byte("other"), smallBlob)
	drained := make(chan struct{})
	go func() {
		_, err := r.PushBlob(ctx, described(typeOctets, other), nil, func(context.Context, int64) (io.ReadCloser, error) {
			return &toldAtEnd{Reader: bytes.NewReader(other), end: drained}, nil
		})
		ended <- err
	}()
	<-drained
	cancel()
	_ = feed.CloseWithError(errBroken)
	var failed int
	for range 2 {
		if err := <-ended; errors.Is(err, errBroken) || errors.Is(err, context.Canceled) {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if failed != 1 {
		t.Errorf("%d failed", failed)
	}
	m := putImage(t, r, nil, "", string(base), string(other))
	if err := errors.Join(r.Tag(ctx, m, "1"), r.Commit()); err != nil {
		t.Fatal(err)
	}
	got := openedArchive(t, file)
	for _, b := range [][]byte{base, other} {
		if back, err := got.ReadBlob(ctx, described(typeOctets, b), 1<<22); err != nil || !bytes.Equal(back, b) {
			t.Errorf("%d bytes, %v", len(back), err)
		}
	}
	if has, err := got.HasBlob(ctx, slow); err != nil || has {
		t.Errorf("what broke off is there: %v", err)
	}
	if has, err := got.HasBlob(ctx, d); err != nil || !has {
		t.Error(err)
	}
	noLeftovers(t, filepath.Dir(file))
}

// A toldAtEnd says when it was read to its end.
type toldAtEnd struct {
	io.Reader
	end  chan struct{}
	once sync.Once
}

func (r *toldAtEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.once.Do(func() { close(r.end) })
	}
	return n, err
}

func (r *toldAtEnd) Close() error { return nil }

// The same artifact copied twice gives the same entries with the same content.
func TestArchiveSameEntries(t *testing.T) {
	t.Parallel()
	var entries [2][]string
	var index [2][]byte
	for i := range 2 {
		file := filepath.Join(t.TempDir(), "a.tar")
		r := createArchive(t, file)
		m := putImage(t, r, nil, "", "layer")
		putImage(t, r, &m.Descriptor, "application/example", "what refers to it") // unlike a signature's, its blobs come one by one
		if err := errors.Join(r.Tag(t.Context(), m, "harbor.example/db:1"), r.Commit()); err != nil {
			t.Fatal(err)
		}
		entries[i] = slices.Sorted(slices.Values(entriesOf(t, file)))
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		index[i] = b
	}
	if d := cmp.Diff(entries[0], entries[1]); d != "" {
		t.Error(d)
	}
	// Written one after the other, even the bytes are the same: nothing of the clock or the machine is in them.
	if !bytes.Equal(index[0], index[1]) {
		t.Error("the archives are not byte for byte the same")
	}
}

// SIGKILLed writers leave temporary files; the next writer removes those that are old and that nobody holds.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	write := func(name string, age time.Duration) {
		t.Helper()
		at := time.Now().Add(-age)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("half"), 0o600), os.Chtimes(name, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want map[string]bool) {
		t.Helper()
		for name, stays := range want {
			if _, err := os.Lstat(name); (err == nil) != stays {
				t.Errorf("%s: %v, to stay: %v", name, err, stays)
			}
		}
	}
	hold := func(name string) {
		t.Helper()
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if ok, err := tryLock(f); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	const old, young = leftoverAge + time.Hour, leftoverAge - time.Hour

	dir := filepath.Join(t.TempDir(), "l")
	layoutAt(t, dir)
	in := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	blobs := in("blobs", "sha256")
	write(in(".imprint-OLD"), old)
	write(in(".imprint-notes.txt"), old) // a person's
	write(in(".imprint-a.tar-123"), old) // an archive's, whose writer has another name for it
	write(in(".imprint-YOUNG"), young)
	write(in(".imprint-HELD"), old)
	hold(in(".imprint-HELD"))
	write(in("mine"), old)
	write(filepath.Join(blobs, ".imprint-OLD"), old)
	write(filepath.Join(blobs, ".imprint-YOUNG"), 0)
	if err := os.Symlink("../../mine", filepath.Join(blobs, ".imprint-LINK")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(in(".imprint-FOLDER"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := layoutAt(t, dir)
	m := putImage(t, l, nil, "", "x")
	if err := l.Tag(ctx, m, "1"); err != nil {
		t.Fatal(err)
	}
	check(map[string]bool{
		in(".imprint-notes.txt"): true, in(".imprint-a.tar-123"): true,
		in(".imprint-OLD"): false, in(".imprint-YOUNG"): true, in(".imprint-HELD"): true, in("mine"): true, in(".imprint-FOLDER"): true,
		filepath.Join(blobs, ".imprint-OLD"): false, filepath.Join(blobs, ".imprint-YOUNG"): true, filepath.Join(blobs, ".imprint-LINK"): true,
	})

	dir = t.TempDir()
	write(in(".imprint-a.tar-123"), old)
	write(in(".imprint-a.tar-124"), young)
	write(in(".imprint-a.tar-125"), old)
	hold(in(".imprint-a.tar-125"))
	write(in(".imprint-a.tar-b.tar-123"), old) // another archive's
	write(in(".imprint-a.tar-"), old)
	a := createArchive(t, in("a.tar"))
	check(map[string]bool{
		in(".imprint-a.tar-123"): false, in(".imprint-a.tar-124"): true, in(".imprint-a.tar-125"): true,
		in(".imprint-a.tar-b.tar-123"): true, in(".imprint-a.tar-"): true,
	})
	// What is being written is held, however long it takes.
	temp := a.store.(*newArchive).f.Name()
	long := time.Now().Add(-old)
	if err := os.Chtimes(temp, long, long); err != nil {
		t.Fatal(err)
	}
	createArchive(t, in("a.tar"))
	check(map[string]bool{temp: true})
}

// F43: temporary files lie beside what they become, so TMPDIR on another file system makes no difference.
func TestF43TemporaryFilesBesideTheirTarget(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "does not exist"))
	dir, err := os.MkdirTemp(".", "f43-") // not below TMPDIR
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for range 2 {
		r := appendTo(t, filepath.Join(dir, "a.tar"))
		addImage(t, r, "a:1", strings.Repeat("a", 2*smallBlob))
		if err := r.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	addImage(t, layoutAt(t, filepath.Join(dir, "l")), "a:1", "a")
	noLeftovers(t, dir)
}
