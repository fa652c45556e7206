package copy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

const (
	inFlight = 16 // bodies or manifests on their way at once; the client bounds requests per host besides

	readBacks    = 4 // of a list that does not show yet what was attached
	readBackWait = 250 * time.Millisecond
)

// push sends what is not there: blobs, manifests after what they refer to, and the tags once every list was read back.
func (c *copier) push(ctx context.Context) error {
	if err := c.pushBlobs(ctx); err != nil {
		return err
	}
	for _, level := range c.levels() {
		if err := c.pushLevel(ctx, level); err != nil {
			return err
		}
	}
	if err := c.readBack(ctx); err != nil {
		return err
	}
	return c.tag(ctx)
}

// pushBlobs sends the blobs. A body is never held in memory: the destination reads from the source.
func (c *copier) pushBlobs(ctx context.Context) error {
	blobs := c.blobs()
	same := c.src.Reference().Kind == registry.Remote && c.src.Reference().Host == c.dst.Reference().Host
	var count, sent, mounted atomic.Int64
	err := parallel(ctx, len(blobs), func(ctx context.Context, i int) error {
		d := blobs[i]
		did, err := c.pushBlob(ctx, d)
		n := did.Bytes
		sent.Add(n)
		if err != nil && c.doubtful[d.Digest] && c.refused(ctx, err) {
			return nil // its manifest may be carried all the same, or be refused
		}
		if err != nil {
			return err
		}
		count.Add(1)
		status := Copied
		if n == 0 && d.Size > 0 {
			status = There
			if same {
				mounted.Add(d.Size)
			}
		}
		c.tell("blob", d, status)
		return nil
	})
	c.result.Blobs, c.result.Bytes, c.result.Mounted = int(count.Load()), sent.Load(), mounted.Load()
	return err
}

func (c *copier) pushBlob(ctx context.Context, d ocispec.Descriptor) (registry.Sent, error) {
	if d.Digest == ocispec.DescriptorEmptyJSON.Digest && d.Size == ocispec.DescriptorEmptyJSON.Size {
		return registry.Sent{Bytes: d.Size}, c.dst.PushBytes(ctx, d, ocispec.DescriptorEmptyJSON.Data)
	}
	// Inline data that is what it should be saves the download; else the source's blob is asked.
	if int64(len(d.Data)) == d.Size && d.Size > 0 && d.Digest.Algorithm().FromBytes(d.Data) == d.Digest {
		return registry.Sent{Bytes: d.Size}, c.dst.PushBytes(ctx, d, d.Data)
	}
	if d.Size == 0 {
		return c.dst.PushBlob(ctx, d, c.src, registry.BytesBody(nil))
	}
	return c.dst.PushBlob(ctx, d, c.src, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return c.src.BlobFrom(ctx, d, offset)
	})
}

// levels sorts the nodes that are to be sent: each level needs only those before it.
func (c *copier) levels() [][]*registry.Node {
	depth := make(map[*registry.Node]int, len(c.nodes))
	var levels [][]*registry.Node
	for _, n := range c.nodes { // each after what it refers to
		at := 0
		after := func(before *registry.Node) {
			if d, ok := depth[before]; ok {
				at = max(at, d+1)
			}
		}
		for _, child := range n.Children {
			after(child)
		}
		if s := c.items[n].subject; s != nil {
			after(s)
		}
		if c.items[n].object.Status != Planned {
			// Nothing waits for what is there; but what is not sent must not be waited for either.
			at--
		}
		depth[n] = at
		if c.items[n].object.Status != Planned {
			continue
		}
		for len(levels) <= at {
			levels = append(levels, nil)
		}
		levels[at] = append(levels[at], n)
	}
	return levels
}

// A batch is what is sent in one step: one manifest, or all referrers of one subject, which a registry without the
// API lists by one write.
type batch struct {
	subject *registry.Node // nil: by digest
	nodes   []*registry.Node
}

func (c *copier) pushLevel(ctx context.Context, level []*registry.Node) error {
	var batches []*batch
	of := make(map[*registry.Node]*batch)
	for _, n := range level {
		s := c.items[n].subject
		// What is malformed may be refused, and must not take the others along.
		if s == nil || n.Malformed != nil {
			batches = append(batches, &batch{subject: s, nodes: []*registry.Node{n}})
			continue
		}
		if of[s] == nil {
			of[s] = &batch{subject: s}
			batches = append(batches, of[s])
		}
		of[s].nodes = append(of[s].nodes, n)
	}
	var mu sync.Mutex
	return parallel(ctx, len(batches), func(ctx context.Context, i int) error {
		b := batches[i]
		err := c.pushBatch(ctx, b)
		mu.Lock()
		defer mu.Unlock()
		if n := b.nodes[0]; err != nil && n.Malformed != nil && c.refused(ctx, err) {
			it := c.items[n]
			it.object.Status, it.object.Reason = Skipped, codeMalformed
			c.warn("%s was left behind: %v; the destination refused it: %v",
				n.Manifest.Descriptor.Digest, n.Malformed, err)
			return nil
		}
		if err != nil {
			return err
		}
		for _, n := range b.nodes {
			it := c.items[n]
			it.object.Status = Copied
			c.tell(it.object.What, it.object.Descriptor, Copied)
		}
		return nil
	})
}

// refused reports whether the destination said no to this manifest, as opposed to a destination that could not be asked.
func (c *copier) refused(ctx context.Context, err error) bool {
	for _, other := range []error{registry.ErrUnavailable, registry.ErrUnauthorized, registry.ErrDisk, registry.ErrUnsettled} {
		if errors.Is(err, other) {
			return false
		}
	}
	return ctx.Err() == nil
}

func (c *copier) pushBatch(ctx context.Context, b *batch) error {
	if b.subject == nil {
		return c.dst.PushManifest(ctx, b.nodes[0].Manifest)
	}
	manifests := make([]registry.Manifest, len(b.nodes))
	for i, n := range b.nodes {
		manifests[i] = n.Manifest
	}
	return c.dst.Attach(ctx, b.subject.Manifest.Descriptor, manifests...)
}

// readBack asks the destination for the list of each subject that got referrers. Some registries forget some of many
// that come at once, though each was answered well (COPY.md part B): these are attached again.
func (c *copier) readBack(ctx context.Context) error {
	var subjects []*registry.Node
	for _, n := range c.nodes {
		if len(c.promised(n)) > 0 {
			subjects = append(subjects, n)
		}
	}
	return parallel(ctx, len(subjects), func(ctx context.Context, i int) error {
		s := subjects[i]
		for try := 1; ; try++ {
			missing, err := c.missing(ctx, s)
			if err != nil || len(missing) == 0 {
				return err
			}
			if try == readBacks {
				return &registry.Error{Code: registry.CodeUnsettled, Err: fmt.Errorf(
					"%w: %s does not list %d of the referrers of %s that were copied; no tag was written",
					registry.ErrUnsettled, c.dst.Reference(), len(missing), s.Manifest.Descriptor.Digest)}
			}
			select {
			case <-time.After(readBackWait << try):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := c.dst.Attach(ctx, s.Manifest.Descriptor, missing...); err != nil {
				return err
			}
		}
	})
}

// missing returns the promised referrers of s that the destination does not list.
func (c *copier) missing(ctx context.Context, s *registry.Node) ([]registry.Manifest, error) {
	list, err := c.dst.Referrers(ctx, s.Manifest.Descriptor, "")
	if err != nil {
		return nil, err
	}
	listed := make(map[digest.Digest]bool, len(list))
	for _, r := range list {
		listed[r.Digest] = true
	}
	var missing []registry.Manifest
	for _, n := range c.promised(s) {
		if !listed[n.Manifest.Descriptor.Digest] {
			missing = append(missing, n.Manifest)
		}
	}
	return missing, nil
}

// promised returns the referrers of s that were copied in this run and must be listed.
func (c *copier) promised(s *registry.Node) []*registry.Node {
	var nodes []*registry.Node
	for _, n := range s.Referrers {
		if c.items[n].object.Status == Copied && n.Malformed == nil && n.Parts.Subject != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// tag writes the tags that do not name root yet, in order. Without any, root is listed without a name where it would
// not be found else.
func (c *copier) tag(ctx context.Context) error {
	if len(c.result.Tags) == 0 {
		return c.dst.Tag(ctx, c.root.Manifest, "")
	}
	for i := range c.result.Tags {
		t := &c.result.Tags[i]
		if t.Status == There {
			continue
		}
		if err := c.dst.Tag(ctx, c.root.Manifest, t.Tag); err != nil {
			return err
		}
		t.Status = Written
		if t.Was != "" {
			t.Status = Moved
		}
		c.tell("tag "+t.Tag, plain(c.root.Manifest.Descriptor), t.Status)
	}
	return nil
}

func (c *copier) tell(what string, d ocispec.Descriptor, status string) {
	if c.o.Progress != nil {
		c.o.Progress(Event{Kind: EventEnd, What: what, Descriptor: plain(d), Status: status})
	}
}

// parallel calls f for 0 … n-1, at most inFlight at a time, and returns the first error, upon which the others are cancelled.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for i := range n {
		select {
		case <-ctx.Done():
		case slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-slots }()
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			})
		}
	}
	wg.Wait()
	return context.Cause(ctx)
}
