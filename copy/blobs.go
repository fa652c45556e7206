package copy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

const (
	smallBlob = 256 << 10 // what is larger is a big body
	maxKept   = 1 << 20   // of one blob that is kept once it was read
	maxKeeps  = 32 << 20  // of all of them
)

// A blob is one that is to be at the destination.
type blob struct {
	d        ocispec.Descriptor
	doubtful bool // only malformed manifests want it
	task     *task
	sent     registry.Sent
	refused  bool
}

// blobsOf returns the blobs of a node that are copied; of one that is malformed, those that a registry's lenient reader
// would see in it.
func blobsOf(n *registry.Node) []ocispec.Descriptor {
	if n.Malformed == nil {
		return slices.DeleteFunc(n.Parts.Blobs(), foreign)
	}
	var m struct {
		Config *ocispec.Descriptor  `json:"config"`
		Layers []ocispec.Descriptor `json:"layers"`
		Blobs  []ocispec.Descriptor `json:"blobs"`
	}
	if json.Unmarshal(n.Manifest.Bytes, &m) != nil {
		return nil
	}
	all := slices.Concat(m.Layers, m.Blobs)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return slices.DeleteFunc(all, func(d ocispec.Descriptor) bool { return d.Digest.Validate() != nil || d.Size < 0 || foreign(d) })
}

// foreign reports layers that lie elsewhere by licence: they are never fetched from their URLs, and no registry wants
// them.
func foreign(d ocispec.Descriptor) bool {
	if len(d.URLs) == 0 {
		return false
	}
	return d.MediaType == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" ||
		strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.nondistributable.v1.")
}

// want notes that a node's blobs are to be at the destination, and returns them.
func (c *copier) want(blobs []ocispec.Descriptor, doubtful bool) []*blob {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*blob, 0, len(blobs))
	for _, d := range blobs {
		b := c.blobs[d.Digest]
		if b == nil {
			b = &blob{d: d, doubtful: doubtful}
			c.blobs[d.Digest] = b
			c.order = append(c.order, b)
		}
		b.doubtful = b.doubtful && doubtful
		out = append(out, b)
	}
	return out
}

// send has a blob travel, once.
func (c *copier) send(b *blob) *task {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.task != nil {
		return b.task
	}
	kind := little
	if b.d.Size > smallBlob {
		kind = big
	}
	b.task = c.moves.add(kind, func(ctx context.Context) error {
		c.tell(EventBegin, "blob", b.d, "", 0)
		from := c.holder(b.d.Digest)
		if _, ok := c.added[b.d.Digest]; ok {
			from = nil // it is nowhere yet
		}
		sent, err := c.dst.PushBlob(ctx, b.d, from, c.body(b.d))
		c.mu.Lock()
		b.sent = sent
		doubtful := b.doubtful
		c.mu.Unlock()
		if err != nil && doubtful && refusal(ctx, err) {
			b.refused = true // its manifest may be carried all the same, or be refused
			return nil
		}
		if err != nil {
			return err
		}
		status := Copied
		if sent.There || sent.Mounted {
			status = There
		}
		c.tell(EventEnd, "blob", b.d, status, 0)
		return nil
	})
	return b.task
}

// body says where a blob's bytes come from: what is known or was read before, else the source, which is read as the
// destination takes it. A body is never held in memory.
func (c *copier) body(d ocispec.Descriptor) registry.Body {
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		rc, err := c.open(ctx, d, offset)
		if err != nil || c.o.Progress == nil {
			return rc, err
		}
		return &counted{rc: rc, tell: func(n int) { c.tell(EventBytes, "blob", d, "", int64(n)) }}, nil
	}
}

func (c *copier) open(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	b, ok := c.known(d)
	if !ok && (c.kept.has(d.Digest) || c.remarkable(d)) {
		var err error
		if b, err = c.readBlob(ctx, d); err != nil {
			return nil, err
		}
		ok = true
	}
	if ok {
		return registry.BytesBody(b)(ctx, min(offset, int64(len(b))))
	}
	return c.holder(d.Digest).BlobFrom(ctx, d, offset)
}

// remarkable reports whether a remark may read the blob too: whichever of the two is first, it is read once.
func (c *copier) remarkable(d ocispec.Descriptor) bool {
	envelope := d.MediaType == "application/jose+json" || d.MediaType == "application/cose"
	return c.o.Remark != nil && envelope && d.Size <= maxKept
}

// known returns bytes that need not be read: none, {}, those of an addition, and inline data that is what it should be.
func (c *copier) known(d ocispec.Descriptor) ([]byte, bool) {
	if d.Size == 0 {
		return nil, true
	}
	if d.Digest == ocispec.DescriptorEmptyJSON.Digest && d.Size == ocispec.DescriptorEmptyJSON.Size {
		return ocispec.DescriptorEmptyJSON.Data, true
	}
	if b, ok := c.added[d.Digest]; ok {
		return b, true
	}
	if int64(len(d.Data)) == d.Size && d.Digest.Algorithm().FromBytes(d.Data) == d.Digest {
		return d.Data, true
	}
	return nil, false
}

// holder returns where a blob is to be read.
func (c *copier) holder(d digest.Digest) *registry.Repo {
	if from := c.from[d]; from != nil {
		return from
	}
	return c.src
}

// readBlob reads a blob of at most 1 MiB. What was read is kept, so that it is not read again when it is sent.
func (c *copier) readBlob(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if b, ok := c.known(d); ok {
		return b, nil
	}
	d.Data = nil // it is not what it should be, and a blob may be
	return c.kept.read(ctx, d.Digest, func() ([]byte, error) { return c.holder(d.Digest).ReadBlob(ctx, d, maxKept) })
}

// keep is what was read of small blobs. The zero value keeps nothing yet.
type keep struct {
	mu    sync.Mutex
	reads map[digest.Digest]*reading
	bytes int
}

// A reading is a blob that is being read, or was.
type reading struct {
	done chan struct{}
	b    []byte
	err  error
}

// has reports whether a blob is at hand, or is being read.
func (k *keep) has(d digest.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reads[d] != nil
}

// read returns what f reads, which is called once for a digest as long as there is room to keep it.
func (k *keep) read(ctx context.Context, d digest.Digest, f func() ([]byte, error)) ([]byte, error) {
	k.mu.Lock()
	r := k.reads[d]
	if r != nil {
		k.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if r.err == nil {
			return r.b, nil
		}
		return f() // whoever read it first may have been cancelled
	}
	if k.reads == nil {
		k.reads = make(map[digest.Digest]*reading)
	}
	r = &reading{done: make(chan struct{})}
	k.reads[d] = r
	k.mu.Unlock()
	r.b, r.err = f()
	k.mu.Lock()
	if k.bytes+len(r.b) > maxKeeps || r.err != nil {
		delete(k.reads, d)
	} else {
		k.bytes += len(r.b)
	}
	k.mu.Unlock()
	close(r.done)
	return bytes.Clone(r.b), r.err
}

// counted tells of what is read.
type counted struct {
	rc   io.ReadCloser
	tell func(n int)
}

func (r *counted) Read(p []byte) (int, error) {
	n, err := r.rc.Read(p)
	if n > 0 {
		r.tell(n)
	}
	return n, err
}

func (r *counted) Close() error { return r.rc.Close() }

func (c *copier) tell(kind, what string, d ocispec.Descriptor, status string, n int64) {
	if c.o.Progress != nil {
		c.o.Progress(Event{Kind: kind, What: what, Descriptor: plain(d), Bytes: n, Status: status})
	}
}
