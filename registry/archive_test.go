package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func createArchive(t testing.TB, file string) *Repo {
	t.Helper()
	s, err := beginArchive(context.Background(), file, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return newRepo(s, Reference{Kind: Archive, Path: file})
}

func openedArchive(t testing.TB, file string) *Repo {
	t.Helper()
	s, err := readArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return newRepo(s, Reference{Kind: Archive, Path: file})
}

func TestArchiveRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a.tar")
	a := createArchive(t, file)
	child := putImage(t, a, nil, "", "layer", "", strings.Repeat("x", smallBlob+1))
	root := putIndex(t, a, child.Descriptor)
	if err := a.Tag(ctx, root, "harbor.example/db:16.4"); err != nil {
		t.Fatal(err)
	}
	sig := ByArtifactType.Manifest(child.Descriptor, "application/cose", []byte("envelope"), nil)
	for range 2 {
		if err := a.PushSignature(ctx, child.Descriptor, sig, []byte("envelope")); err != nil {
			t.Fatal(err)
		}
	}
	read := func(when string, r *Repo) {
		t.Helper()
		got, err := r.Resolve(ctx, Reference{Tag: "harbor.example/db:16.4"})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if d := cmp.Diff(root, got); d != "" {
			t.Errorf("%s: -want +got:\n%s", when, d)
		}
		n, skipped, err := r.Graph(ctx, got, GraphOptions{})
		if err != nil || len(skipped) != 0 || len(n.Children) != 1 || len(n.Children[0].Referrers) != 1 || !n.Children[0].Referrers[0].IsSignature() {
			t.Errorf("%s: graph %+v, %v, %v", when, n, skipped, err)
		}
		for i, want := range []string{"layer", "", strings.Repeat("x", smallBlob+1)} {
			b, err := r.ReadBlob(ctx, n.Children[0].Parts.Layers[i], 1<<20)
			if err != nil || string(b) != want {
				t.Errorf("%s: layer %d: %d bytes, %v", when, i, len(b), err)
			}
		}
		sigs, err := r.Signatures(ctx, child.Descriptor)
		if err != nil || len(sigs) != 1 || string(sigs[0].Envelope) != "envelope" {
			t.Errorf("%s: signatures %+v, %v", when, sigs, err)
		}
	}
	read("while it is written", a)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there before the archive is closed: %v", err)
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	r := openedArchive(t, file)
	read("read again", r)
	noLeftovers(t, filepath.Dir(file))

	for name, err := range map[string]error{
		"Tag":         r.Tag(ctx, root, "x"),
		"Attach":      r.Attach(ctx, child.Descriptor, sig),
		"PushBytes":   r.PushBytes(ctx, described("m", []byte("m")), []byte("m")),
		"Detach":      r.Detach(ctx, child.Descriptor, sig.Descriptor.Digest),
		"PushMan":     r.PushManifest(ctx, root),
		"PushSigning": r.PushSignature(ctx, child.Descriptor, sig, []byte("envelope")),
	} {
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "oci:DIR") {
			t.Errorf("%s: %v", name, err)
		}
	}

	// What tar(1) makes of it is the layout again.
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var last string
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = h.Name
	}
	if last != "index.json" {
		t.Errorf("the last entry is %s", last)
	}
}

func TestArchiveClose(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.tar")
	a := createArchive(t, file)
	putImage(t, a, nil, "", "x")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := beginArchive(context.Background(), file, CreateOptions{}); !errors.Is(err, ErrExists) || reasonOf(err) != "file-exists" {
		t.Errorf("over a file: %v", err)
	}
	s, err := beginArchive(context.Background(), file, CreateOptions{Overwrite: true})
	if err != nil {
		t.Fatal(err)
	}
	over := newRepo(s, Reference{Kind: Archive, Path: file})
	m := putImage(t, over, nil, "", "x")
	if err := over.Tag(ctx, m, "1"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); string(b) != "mine" {
		t.Errorf("the old file is gone before the new one is whole: %q", b)
	}
	if err := over.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := openedArchive(t, file).Resolve(ctx, Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}

	// A file that comes up while the archive is written is not replaced either.
	late := filepath.Join(dir, "late.tar")
	a = createArchive(t, late)
	if err := os.WriteFile(late, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(); !errors.Is(err, ErrExists) {
		t.Errorf("a file that came up: %v", err)
	}
	if b, _ := os.ReadFile(late); string(b) != "mine" {
		t.Errorf("it was replaced: %q", b)
	}
	if _, err := beginArchive(context.Background(), filepath.Join(dir, "no", "folder.tar"), CreateOptions{}); !errors.Is(err, ErrDisk) {
		t.Errorf("in no folder: %v", err)
	}
	if _, err := beginArchive(context.Background(), dir, CreateOptions{Overwrite: true}); !errors.Is(err, ErrExists) {
		t.Errorf("over a folder: %v", err)
	}
	noLeftovers(t, dir)
}

// A blob that failed midway is taken back, and the archive stays good.
func TestArchiveTakesBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a.tar")
	a := createArchive(t, file)
	big := bytes.Repeat([]byte("y"), 3*smallBlob)
	d := described("application/octet-stream", big)
	for name, body := range map[string]io.Reader{
		"broken":      io.MultiReader(bytes.NewReader(big[:2*smallBlob]), broken{}),
		"short":       bytes.NewReader(big[:2*smallBlob]),
		"long":        io.MultiReader(bytes.NewReader(big), strings.NewReader("!")),
		"other bytes": io.MultiReader(bytes.NewReader(big[1:]), strings.NewReader("!")),
		"endless":     endless{},
	} {
		_, err := a.PushBlob(ctx, d, nil, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(body), nil })
		if !errors.Is(err, ErrDigestMismatch) && !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := putImage(t, a, nil, "", string(big))
	if err := errors.Join(a.Tag(ctx, m, "1"), a.Commit()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() > int64(len(big))+16<<10 {
		t.Errorf("the archive has %v bytes, %v", info.Size(), err)
	}
	r := openedArchive(t, file)
	if b, err := r.ReadBlob(ctx, d, 1<<20); err != nil || !bytes.Equal(b, big) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestArchiveConcurrentWrites(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a.tar")
	a := createArchive(t, file)
	var layers []string
	for i := range 30 {
		layers = append(layers, strings.Repeat(fmt.Sprint(i), i*2000)+"x")
	}
	var wg sync.WaitGroup
	for range 4 {
		for _, l := range layers {
			wg.Go(func() { putBytes(t, a, described("application/octet-stream", []byte(l)), []byte(l)) })
		}
	}
	wg.Wait()
	m := putImage(t, a, nil, "", layers...)
	if err := errors.Join(a.Tag(ctx, m, "1"), a.Commit()); err != nil {
		t.Fatal(err)
	}
	r := openedArchive(t, file)
	for i, l := range layers {
		if b, err := r.ReadBlob(ctx, described("m", []byte(l)), 1<<20); err != nil || string(b) != l {
			t.Errorf("layer %d: %v", i, err)
		}
	}
}

// F44: what is written through an archive and read from it does not stay in memory.
func TestF44ArchiveMemory(t *testing.T) {
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a.tar")
	a := createArchive(t, file)
	const size = 96 << 20
	d := ocispec.Descriptor{MediaType: "application/octet-stream", Size: size}
	sum, err := digest.FromReader(io.LimitReader(endless{}, size))
	if err != nil {
		t.Fatal(err)
	}
	d.Digest = sum
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = a.PushBlob(ctx, d, nil, func(context.Context, int64) (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(endless{}, size)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rc, err := a.Blob(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d MiB were allocated for a blob of %d MiB", grown>>20, size>>20)
	}
}

// A tarFile is a file of a hand-made archive.
type tarFile struct {
	header tar.Header
	body   string
}

func writeTar(t testing.TB, files ...tarFile) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(f.body))
		}
		h.Mode = 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func named(name, body string) tarFile { return tarFile{tar.Header{Name: name}, body} }

// dockerSave makes what docker save (since v25), buildx type=oci and skopeo write: the layout, with files of docker's own beside.
func dockerSave(t testing.TB, prefix string) (files []tarFile, m Manifest) {
	t.Helper()
	layer, config := []byte("layer"), []byte(`{"os":"linux","architecture":"amd64"}`)
	x := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: described(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{described("l", layer)}}
	x.SchemaVersion = 2
	b, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	m = NewManifest(ocispec.MediaTypeImageManifest, b)
	d := m.Descriptor
	d.Annotations = map[string]string{annotationContainerd: "docker.io/library/alpine:3.20", ocispec.AnnotationRefName: "3.20"}
	ix := ocispec.Index{Manifests: []ocispec.Descriptor{d}}
	ix.SchemaVersion = 2
	index, err := json.Marshal(ix)
	if err != nil {
		t.Fatal(err)
	}
	dir := func(name string) tarFile { return tarFile{tar.Header{Name: name, Typeflag: tar.TypeDir}, ""} }
	return []tarFile{
		dir(prefix + "blobs/"), dir(prefix + "blobs/sha256/"),
		named(prefix+blobPath(m.Descriptor.Digest), string(b)),
		named(prefix+blobPath(x.Config.Digest), string(config)),
		named(prefix+blobPath(x.Layers[0].Digest), string(layer)),
		named(prefix+"index.json", string(index)),
		named(prefix+"manifest.json", "[]"),
		named(prefix+"oci-layout", `{"imageLayoutVersion":"1.0.0"}`),
		{tar.Header{Name: prefix + "repositories", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""},
	}, m
}

func TestArchivesOfOthers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, prefix := range []string{"", "./"} {
		files, m := dockerSave(t, prefix)
		r := openedArchive(t, writeTar(t, files...))
		for _, tag := range []string{"3.20", "docker.io/library/alpine:3.20"} {
			got, err := r.Resolve(ctx, Reference{Tag: tag})
			if err != nil || got.Descriptor.Digest != m.Descriptor.Digest {
				t.Errorf("%q %s: %v, %v", prefix, tag, got.Descriptor, err)
			}
		}
		p, _ := m.Parse()
		if b, err := r.ReadBlob(ctx, p.Layers[0], 100); err != nil || string(b) != "layer" {
			t.Errorf("%q: %q, %v", prefix, b, err)
		}
	}
}

func TestC10HostileArchives(t *testing.T) {
	t.Parallel()
	good, m := dockerSave(t, "")
	blob := blobPath(m.Descriptor.Digest)
	with := func(files ...tarFile) string { return writeTar(t, append(append([]tarFile{}, good...), files...)...) }
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	io.WriteString(w, "x")
	w.Close()
	compressed := filepath.Join(t.TempDir(), "a.tar.gz")
	whole, err := os.ReadFile(writeTar(t, good...))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.tar")
	noise := filepath.Join(t.TempDir(), "noise.tar")
	if err := errors.Join(
		os.WriteFile(compressed, gz.Bytes(), 0o600),
		os.WriteFile(cut, whole[:1500], 0o600),
		os.WriteFile(noise, bytes.Repeat([]byte("no tar "), 1000), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file string
		want error
		says string
	}{
		"climbing":                     {with(named("blobs/sha256/../../x", "x")), ErrMalformed, "../../x"},
		"climbing first":               {with(named("../x", "x")), ErrMalformed, "../x"},
		"absolute":                     {with(named("/etc/x", "x")), ErrMalformed, "/etc/x"},
		"backslash":                    {with(named(`blobs\sha256\x`, "x")), ErrMalformed, "blobs"},
		"symlink":                      {with(tarFile{tar.Header{Name: "blobs/sha256/" + hexA, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}), ErrMalformed, "link"},
		"hard link":                    {with(tarFile{tar.Header{Name: "blobs/sha256/" + hexA, Typeflag: tar.TypeLink, Linkname: "index.json"}, ""}), ErrMalformed, "link"},
		"symlink instead of blobs":     {with(tarFile{tar.Header{Name: "blobs", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, ""}), ErrMalformed, "link"},
		"index.json that is a link":    {with(tarFile{tar.Header{Name: "index.json", Typeflag: tar.TypeSymlink, Linkname: "x"}, ""}), ErrMalformed, "link"},
		"device":                       {with(tarFile{tar.Header{Name: "blobs/sha256/" + hexA, Typeflag: tar.TypeChar}, ""}), ErrMalformed, "device"},
		"FIFO":                         {with(tarFile{tar.Header{Name: "oci-layout", Typeflag: tar.TypeFifo}, ""}), ErrMalformed, "device"},
		"colliding case":               {with(named("Index.json", "{}")), ErrAmbiguous, "index.json"},
		"colliding case of a folder":   {with(named("BLOBS/sha256/"+hexA, "x")), ErrAmbiguous, "blobs"},
		"not a digest":                 {with(named("blobs/sha256/x", "x")), ErrMalformed, "no blob"},
		"another algorithm":            {with(named("blobs/md5/"+hexA[:32], "x")), ErrMalformed, "algorithm"},
		"two different index.json":     {with(named("index.json", `{"schemaVersion":2,"manifests":[]}`)), ErrAmbiguous, "two different"},
		"two different blobs":          {with(named(blob, "x")), ErrAmbiguous, "two different"},
		"compressed":                   {compressed, ErrMalformed, "gunzip"},
		"truncated":                    {cut, ErrMalformed, "damaged"},
		"noise":                        {noise, ErrMalformed, "no tar"},
		"empty":                        {writeTar(t), ErrMalformed, "lacks index.json"},
		"docker save before v25":       {writeTar(t, named("manifest.json", "[]"), named("repositories", "{}")), ErrMalformed, "version 25"},
		"oci-layout of version 2":      {writeTar(t, named("index.json", `{"schemaVersion":2,"manifests":[]}`), named("oci-layout", `{"imageLayoutVersion":"2.0"}`)), ErrMalformed, "2.0"},
		"huge PAX header":              {extended(t, paxRecord("A.b", strings.Repeat("x", 2<<20)), named("x", "")), ErrMalformed, "damaged"},
		"cut inside a header":          {cutAt(t, good, func(whole []byte) int { return bytes.LastIndex(whole, []byte("oci-layout")) + 100 }), ErrMalformed, "damaged"},
		"cut inside the last file":     {cutAt(t, good, func(whole []byte) int { return bytes.LastIndex(whole, []byte(`{"imageLayoutVersion"`)) + 5 }), ErrMalformed, "unexpected EOF"},
		"cut between files":            {cutAt(t, good, func(whole []byte) int { return bytes.LastIndex(whole, []byte("oci-layout\x00")) }), ErrMalformed, "lacks"},
		"cut inside a large blob":      {cutAt(t, append(slices.Clone(good), named("blobs/sha256/"+hexA, strings.Repeat("x", 4096))), func(whole []byte) int { return len(whole) - 3000 }), ErrMalformed, "damaged"},
		"zstd":                         {starting(t, "\x28\xb5\x2f\xfd"), ErrMalformed, "unzstd"},
		"xz":                           {starting(t, "\xfd7zXZ\x00"), ErrMalformed, "unxz"},
		"bzip2":                        {starting(t, "BZh9"), ErrMalformed, "bunzip2"},
		"gzip bomb":                    {gzipBomb(t), ErrMalformed, "gunzip"},
		"blob of 4 GiB that is short":  {promising(t, good, "blobs/sha256/"+hexA, 4<<30), ErrMalformed, "damaged"},
		"blob of 8 EiB":                {promising(t, good, "blobs/sha256/"+hexA, 1<<63-1), ErrMalformed, "damaged"},
		"index.json of 1 GiB":          {promising(t, good[:5], "index.json", 1<<30), ErrTooLarge, "index.json"},
		"oci-layout of 1 GiB":          {promising(t, good[:5], "oci-layout", 1<<30), ErrTooLarge, "oci-layout"},
		"PAX path that climbs":         {extended(t, paxRecord("path", "blobs/sha256/../../../x"), named("blobs/sha256/"+hexA, "x")), ErrMalformed, "../x"},
		"PAX path to index.json":       {extended(t, paxRecord("path", "index.json"), append([]tarFile{named("README", `{"schemaVersion":2,"manifests":[]}`)}, good...)...), ErrAmbiguous, "two different"},
		"PAX path for all that follow": {global(t, paxRecord("path", "index.json"), good...), ErrAmbiguous, "path"},
		"PAX size for all that follow": {global(t, paxRecord("size", "7"), good...), ErrAmbiguous, "size"},
		"PAX comment of git: fine":     {global(t, paxRecord("comment", "of git archive"), good...), nil, ""},
		"GNU long name that climbs":    {with(named("blobs/sha256/"+strings.Repeat("../", 60)+"x", "x")), ErrMalformed, "../"},
		"double slash":                 {with(named("blobs//sha256/"+hexA, "x")), ErrMalformed, "blobs//"},
		"dot inside":                   {with(named("blobs/./sha256/"+hexA, "x")), ErrMalformed, "/./"},
		"block device elsewhere":       {with(tarFile{tar.Header{Name: "sda", Typeflag: tar.TypeBlock}, ""}), nil, ""}, // nothing is unpacked
		"colliding case of oci-layout": {with(named("OCI-layout", "{}")), ErrAmbiguous, "oci-layout"},
		"digest in capitals":           {with(named("blobs/sha256/"+strings.ToUpper(hexA), "x")), ErrMalformed, "lower-case"},
		"absent":                       {filepath.Join(t.TempDir(), "absent.tar"), ErrNotFound, "absent"},
		"a folder":                     {t.TempDir(), ErrMalformed, "oci:DIR"},
		"identical files twice: fine":  {with(good[2], good[5], good[7]), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code := map[error]string{
				nil: "", ErrMalformed: "manifest-malformed", ErrAmbiguous: "ambiguous-manifest", ErrTooLarge: "too-large", ErrNotFound: "not-found",
			}[c.want]
			s, err := readArchive(c.file)
			if !errors.Is(err, c.want) || err != nil && (!strings.Contains(err.Error(), c.says) || reasonOf(err) != code) {
				t.Errorf("%v (%s); want %v that says %q", err, reasonOf(err), c.want, c.says)
			}
			if err == nil {
				s.close()
			}
			// Through a pipe it is the same, and nothing stays of it.
			f, err := os.Open(c.file)
			if err != nil || errors.Is(c.want, ErrNotFound) || strings.Contains(c.says, "oci:DIR") {
				return
			}
			defer f.Close()
			dir := t.TempDir()
			r, err := SpoolArchive(context.Background(), struct{ io.Reader }{f}, dir)
			if !errors.Is(err, c.want) || err != nil && reasonOf(err) != code {
				t.Errorf("spooled: %v (%s); want %v", err, reasonOf(err), c.want)
			}
			if err == nil {
				r.Close()
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// cutAt writes the archive up to an offset.
func cutAt(t testing.TB, files []tarFile, at func(whole []byte) int) string {
	t.Helper()
	file := writeTar(t, files...)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, whole[:at(whole)], 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// starting writes a file that begins like that.
func starting(t testing.TB, magic string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, []byte(magic+strings.Repeat("x", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// gzipBomb writes 64 MiB of zeros in 64 KiB. Who unpacked it to look would be at it for ever if there were more.
func gzipBomb(t testing.TB) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "bomb.tar"))
	if err != nil {
		t.Fatal(err)
	}
	w := gzip.NewWriter(f)
	if _, err := io.CopyN(w, endless{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// promising appends a header of a file that has more bytes than there are.
func promising(t testing.TB, files []tarFile, name string, size int64) string {
	t.Helper()
	file := writeTar(t, files...)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	header.WriteString("not so many")
	if _, err := f.Seek(-2*tarBlock, io.SeekEnd); err != nil { // over the end of the tar
		t.Fatal(err)
	}
	if _, err := f.Write(header.Bytes()); err != nil {
		t.Fatal(err)
	}
	return file
}

// global makes an archive that begins with a PAX header for all that follows.
func global(t testing.TB, record string, files ...tarFile) string {
	t.Helper()
	file := extended(t, record, files...)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[156] = tar.TypeXGlobalHeader
	checksum(b[:512])
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// C10: a table of contents that never ends.
func TestC10ArchiveOfManyHeaders(t *testing.T) {
	t.Parallel()
	files, _ := dockerSave(t, "")
	f, err := os.Open(writeTar(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for most, want := range map[int]error{len(files): nil, len(files) - 1: ErrTooLarge} {
		a := &archive{file: "a.tar", f: f, most: most}
		if err := a.scan(); !errors.Is(err, want) || want != nil && reasonOf(err) != "too-large" {
			t.Errorf("%d files, at most %d: %v, want %v", len(files), most, err, want)
		}
	}
}

// FuzzReadArchive: no archive makes the reader fail otherwise than by an error of its own, and what it takes it can read.
func FuzzReadArchive(f *testing.F) {
	files, _ := dockerSave(f, "")
	backwards := slices.Clone(files)
	slices.Reverse(backwards)
	for _, file := range []string{
		writeTar(f, files...),
		writeTar(f, backwards...),
		writeTar(f, append(files, named("Index.json", "{}"))...),
		extended(f, paxRecord("path", "index.json"), append([]tarFile{named("x", "{}")}, files...)...),
		global(f, paxRecord("size", "7"), files...),
		promising(f, files, "blobs/sha256/"+hexA, 4<<30),
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	file := filepath.Join(f.TempDir(), "a.tar")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readArchive(file)
		if err != nil {
			if reasonOf(err) == "" {
				t.Errorf("without a reason: %v", err)
			}
			return
		}
		defer s.close()
		a := s.(*archive)
		if a.span > int64(len(b)) && !a.scattered {
			t.Errorf("%d of %d bytes would be copied", a.span, len(b))
		}
		for d, e := range a.blobs {
			if e.offset < 0 || e.size < 0 || e.offset > int64(len(b)) || e.size > int64(len(b))-e.offset {
				t.Errorf("%s lies at %+v of %d bytes", d, e, len(b))
			}
		}
		r := newRepo(s, Reference{Kind: Archive, Path: file})
		for tag, err := range r.Tags(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if m, err := r.Resolve(t.Context(), Reference{Tag: tag}); err == nil {
				_, _, _ = r.Graph(t.Context(), m, GraphOptions{})
			} else if reasonOf(err) == "" {
				t.Errorf("%q, without a reason: %v", tag, err)
			}
		}
	})
}

// A sparse file's header promises more bytes than it has; GNU and PAX forms are both refused.
func TestC10SparseArchive(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	block := make([]byte, 512)
	copy(block, "blobs/sha256/"+hexA)
	copy(block[100:], "0000644\x00")
	copy(block[124:], "00000000000\x00")
	block[156] = 'S'                                    // GNU sparse
	copy(block[257:], "ustar  \x00")                    // GNU magic
	copy(block[386:], "00000000000\x0000000000000\x00") // one empty extent
	copy(block[483:], "40000000000\x00")                // real size: 4 GiB
	checksum(block)
	b.Write(block)
	b.Write(make([]byte, 1024))
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readArchive(file); !errors.Is(err, ErrMalformed) {
		t.Errorf("GNU: %v", err)
	}

	record := "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n" + paxRecord("GNU.sparse.name", "blobs/sha256/"+hexA) + paxRecord("GNU.sparse.realsize", "4294967296")
	file = extended(t, record, named("blobs/sha256/"+hexA, "1\n4294967295\n1\n"+strings.Repeat("\x00", 498)))
	if _, err := readArchive(file); !errors.Is(err, ErrMalformed) {
		t.Errorf("PAX: %v", err)
	}
}

// extended makes an archive whose first file has an extended header that archive/tar would not write: it goes in as a
// file, and its type is changed afterwards.
func extended(t testing.TB, record string, files ...tarFile) string {
	t.Helper()
	file := writeTar(t, append([]tarFile{named("x", record)}, files...)...)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[156] = tar.TypeXHeader
	checksum(b[:512])
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// checksum puts a tar header's checksum right.
func checksum(block []byte) {
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
}

func paxRecord(key, value string) string {
	body := " " + key + "=" + value + "\n"
	for n := len(body); ; n++ {
		if s := fmt.Sprint(n) + body; len(s) == n {
			return s
		}
	}
}
