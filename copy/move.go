package copy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/registry"
)

// fresh is how long a look at the tags counts. No look can be the last word, since registries cannot compare and swap;
// what is over sooner is not worth another request.
const fresh = time.Second

// move sends what is planned: each blob and manifest as soon as what it needs is there, referrers after their subject,
// each list read back once it should be whole, and the tags when all of that has ended.
func (c *copier) move() error {
	nodes := c.planned()
	c.announce(nodes)
	if c.o.Remark != nil {
		c.moves.add(small, func(ctx context.Context) error {
			c.remark(ctx)
			return nil
		})
	}
	for _, n := range nodes {
		c.push(n)
	}
	confirms := c.confirm()
	c.nameAside()
	tags := &c.result.Tags
	if again := c.lookWhen(nodes, confirms); again != nil {
		c.moves.add(small, func(ctx context.Context) (err error) {
			if time.Since(c.looked) < fresh {
				return nil
			}
			checked, err := lookAgain(ctx, c.dst, c.result.Digest, *tags)
			if err == nil {
				*tags = checked
			}
			return err
		}, again...)
	}
	if err := c.moves.wait(); err != nil {
		return err
	}
	return c.tag(c.moves.ctx)
}

// announce tells how much is to travel.
func (c *copier) announce(nodes []*registry.Node) {
	if c.o.Progress == nil {
		return
	}
	var total int64
	for _, b := range c.order {
		total += b.d.Size
	}
	for _, n := range nodes {
		total += n.Manifest.Descriptor.Size
	}
	c.o.Progress(Event{Kind: EventPlan, Bytes: total})
}

// push has a manifest travel, after its blobs, its children and its subject.
func (c *copier) push(n *registry.Node) {
	it := c.items[n]
	var after []*task
	for _, b := range c.want(blobsOf(n), n.Malformed != nil) {
		after = append(after, c.send(b))
	}
	for _, child := range n.Children {
		after = append(after, c.of(child).task) // nil for what stands after n, which only the malformed can have
	}
	if it.subject != nil {
		after = append(after, c.items[it.subject].task)
	}
	it.task = c.moves.add(small, func(ctx context.Context) error {
		c.tell(EventBegin, it.object.What, it.object.Descriptor, "", 0)
		err := c.store(ctx, n, it)
		if err != nil && n.Malformed != nil && refusal(ctx, err) {
			it.object.Status, it.object.Reason = Skipped, codeMalformed
			c.warn("%s was left behind: %v; the destination refused it: %v", n.Manifest.Descriptor.Digest, n.Malformed, err)
			return nil
		}
		if err != nil {
			return err
		}
		it.object.Status = Copied
		c.tell(EventBytes, it.object.What, it.object.Descriptor, "", it.object.Descriptor.Size)
		c.tell(EventEnd, it.object.What, it.object.Descriptor, Copied, 0)
		return nil
	}, after...)
}

// store writes a manifest. What is malformed is attached for itself: a list that does not show it takes nothing else along.
func (c *copier) store(ctx context.Context, n *registry.Node, it *item) error {
	if it.subject != nil && !confirmed(n) {
		return c.dst.Attach(ctx, it.subject.Manifest.Descriptor, n.Manifest)
	}
	return c.dst.PushManifest(ctx, n.Manifest)
}

// confirmed reports whether a list must come to hold a referrer.
func confirmed(n *registry.Node) bool { return n.Malformed == nil && n.Parts.Subject != nil }

// refusal reports whether the destination said no to one thing, as opposed to a destination that could not be asked.
func refusal(ctx context.Context, err error) bool {
	for _, other := range []error{registry.ErrUnavailable, registry.ErrUnauthorized, registry.ErrDisk, registry.ErrUnsettled} {
		if errors.Is(err, other) {
			return false
		}
	}
	return ctx.Err() == nil
}

// confirm has the list of each subject read back as soon as all that is to be in it was sent: by a registry without the
// referrers API they are listed only then.
func (c *copier) confirm() []*task {
	var all []*task
	for _, s := range c.nodes {
		var manifests []registry.Manifest
		var after []*task
		for _, n := range s.Referrers {
			if it := c.items[n]; it.task != nil && it.subject == s && confirmed(n) {
				manifests, after = append(manifests, n.Manifest), append(after, it.task)
			}
		}
		if len(manifests) == 0 {
			continue
		}
		all = append(all, c.moves.add(settling, func(ctx context.Context) error {
			err := c.dst.Confirm(ctx, s.Manifest.Descriptor, manifests...)
			if errors.Is(err, registry.ErrUnsettled) {
				err = &registry.Error{Code: registry.CodeUnsettled, Err: fmt.Errorf("%w; no tag was written", err)}
			}
			return err
		}, after...))
	}
	return all
}

// nameAside writes the tags that were made of digests, each once what it names is there.
func (c *copier) nameAside() {
	var mu sync.Mutex
	for i, a := range c.aside {
		it := c.of(a.root)
		c.moves.add(small, func(ctx context.Context) error {
			mu.Lock()
			t := c.result.DigestTags[i]
			mu.Unlock()
			written, err := WriteTags(ctx, c.dst, a.root.Manifest, []TagResult{t})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.result.DigestTags[i] = written[0]
			if written[0].Status != There {
				c.tell(EventEnd, "tag "+t.Tag, a.root.Manifest.Descriptor, written[0].Status, 0)
			}
			return nil
		}, it.task)
	}
}

// lookWhen says after which tasks the tags are to be looked up again, so that it is late and yet nothing waits for it:
// beside the last read-back, or beside the sending of root; at once if nothing is to be sent. nil: there are no tags.
func (c *copier) lookWhen(nodes []*registry.Node, confirms []*task) []*task {
	if len(c.result.Tags) == 0 {
		return nil
	}
	after := []*task{}
	for _, n := range nodes {
		if n != c.root || len(confirms) > 0 {
			after = append(after, c.items[n].task)
		}
	}
	if len(confirms) == 0 && c.items[c.root].task != nil {
		for _, b := range c.want(blobsOf(c.root), false) {
			after = append(after, c.send(b))
		}
	}
	return after
}

// tag writes the tags that do not name root yet, in order. Without any, root is listed without a name where it would
// not be found else.
func (c *copier) tag(ctx context.Context) error {
	if len(c.result.Tags) == 0 {
		return c.dst.Tag(ctx, c.root.Manifest, "")
	}
	before := c.result.Tags
	tags, err := setTags(ctx, c.dst, c.root.Manifest, before)
	c.result.Tags = tags
	for i, t := range tags {
		if before[i].Status == Planned && t.Status != Planned {
			c.tell(EventEnd, "tag "+t.Tag, c.root.Manifest.Descriptor, t.Status, 0)
		}
	}
	return err
}
