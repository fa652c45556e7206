package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits and names of a layout (image specification, "OCI Image Layout").
const (
	maxLayoutIndex = 16 << 20
	maxLayoutFile  = 4 << 10
	indexFile      = ocispec.ImageIndexFile
	layoutFile     = ocispec.ImageLayoutFile

	// annotationContainerd is where containerd, docker save and buildx keep the full name; their ref.name is the bare tag.
	annotationContainerd = "io.containerd.image.name"
)

// nameAnnotations are where an entry's names stand, the one that is looked at first before the other.
var nameAnnotations = [...]string{ocispec.AnnotationRefName, annotationContainerd}

// A layoutIndex is an index.json. What is not understood, other people's members and the order of all is kept as it was
// written. It may be used concurrently. Nothing that is done for each of many artifacts walks all entries.
type layoutIndex struct {
	mu      sync.RWMutex
	members []member // of the whole file; manifests stand in entries
	entries []entry
	// Where entries stand, in their order.
	byDigest map[digest.Digest][]int
	byName   [len(nameAnnotations)]map[string][]int
	descent  *descent
}

// A descent is shared by an index and its clones as long as entries are only added, so that what was found out of the
// first n entries holds for all that have n.
type descent struct{ _ byte }

type member struct {
	name string
	raw  json.RawMessage
}

// An entry is one of the manifests; raw is what was read, nil for an entry that we made or changed.
type entry struct {
	ocispec.Descriptor
	raw json.RawMessage
	own json.RawMessage // what encode made of an entry without raw
}

// names returns the entry's names, "" where it has none.
func (e entry) names() (names [len(nameAnnotations)]string) {
	for i, a := range nameAnnotations {
		names[i] = e.Annotations[a]
	}
	return names
}

func newLayoutIndex() *layoutIndex {
	ix := &layoutIndex{members: []member{
		{"schemaVersion", json.RawMessage("2")},
		{"mediaType", json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`)},
		{"manifests", nil},
	}}
	ix.arrange(nil)
	return ix
}

// arrange makes entries the index's, of which nothing is known yet.
func (ix *layoutIndex) arrange(entries []entry) {
	ix.entries = make([]entry, 0, len(entries))
	ix.byDigest = make(map[digest.Digest][]int, len(entries))
	for i := range ix.byName {
		ix.byName[i] = make(map[string][]int, len(entries))
	}
	ix.descent = new(descent)
	for _, e := range entries {
		ix.append(e)
	}
}

func (ix *layoutIndex) append(e entry) {
	at := len(ix.entries)
	ix.entries = append(ix.entries, e)
	ix.byDigest[e.Digest] = append(ix.byDigest[e.Digest], at)
	for i, n := range e.names() {
		if n != "" {
			ix.byName[i][n] = append(ix.byName[i][n], at)
		}
	}
}

// annotate gives the entry at a place other annotations.
func (ix *layoutIndex) annotate(at int, annotations map[string]string) {
	before := ix.entries[at]
	e := entry{Descriptor: before.Descriptor, raw: withAnnotations(before.raw, annotations)}
	e.Annotations = annotations
	ix.entries[at] = e
	names := e.names()
	for i, was := range before.names() {
		if was == names[i] {
			continue
		}
		// Clones share the lists.
		if left := slices.DeleteFunc(slices.Clone(ix.byName[i][was]), func(k int) bool { return k == at }); len(left) > 0 {
			ix.byName[i][was] = left
		} else {
			delete(ix.byName[i], was)
		}
		if names[i] != "" {
			list := append(slices.Clone(ix.byName[i][names[i]]), at)
			slices.Sort(list)
			ix.byName[i][names[i]] = list
		}
	}
}

func (ix *layoutIndex) clone() *layoutIndex {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	c := &layoutIndex{
		members:  slices.Clone(ix.members),
		entries:  slices.Clone(ix.entries),
		byDigest: maps.Clone(ix.byDigest),
		descent:  ix.descent,
	}
	for i := range ix.byName {
		c.byName[i] = maps.Clone(ix.byName[i])
	}
	return c
}

// find returns the entry that name means: that of the reference name, else that of the full name which containerd and docker write.
func (ix *layoutIndex) find(name string) (entry, error) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for i := range ix.byName {
		places := ix.byName[i][name]
		if len(places) == 0 {
			continue
		}
		if n := ix.distinct(places); n > 1 {
			return entry{}, ambiguous("%d entries of the index are named %q; write the full name, or a digest", n, name)
		}
		return ix.entries[places[0]], nil
	}
	return entry{}, fail(codeNotFound, "%w: no entry of the index is named %q%s", ErrNotFound, name, ix.hint())
}

// distinct counts the digests at places.
func (ix *layoutIndex) distinct(places []int) int {
	if len(places) == 1 {
		return 1
	}
	digests := make(map[digest.Digest]bool, len(places))
	for _, at := range places {
		digests[ix.entries[at].Digest] = true
	}
	return len(digests)
}

// hint lists a few names that there are. Call with mu held.
func (ix *layoutIndex) hint() string {
	const most = 5
	var names []string
	for n := range ix.allNames {
		if names = append(names, n); len(names) > most {
			break
		}
	}
	switch {
	case len(names) == 0:
		return "; none has a name"
	case len(names) > most:
		return fmt.Sprintf("; there are %q and more", names[:most])
	}
	return fmt.Sprintf("; there are %q", names)
}

// names returns the names by which entries are found: the reference name where it is one entry's only, else the full name.
func (ix *layoutIndex) names() []string {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return slices.Collect(ix.allNames)
}

func (ix *layoutIndex) allNames(yield func(string) bool) {
	seen := make(map[string]bool)
	shared := make(map[string]bool) // by several digests
	for _, e := range ix.entries {
		names := e.names()
		n, full := names[0], names[1]
		many, counted := shared[n]
		if !counted && n != "" {
			many = ix.distinct(ix.byName[0][n]) > 1
			shared[n] = many
		}
		if n == "" || many {
			n = full
		}
		if n == "" || seen[n] {
			continue
		}
		seen[n] = true
		if !yield(n) {
			return
		}
	}
}

// lists reports whether an entry has that digest.
func (ix *layoutIndex) lists(d digest.Digest) bool {
	_, listed := ix.mediaType(d)
	return listed
}

// mediaType returns what the first entry of a digest says of it.
func (ix *layoutIndex) mediaType(d digest.Digest) (mediaType string, listed bool) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if places := ix.byDigest[d]; len(places) > 0 {
		return ix.entries[places[0]].MediaType, true
	}
	return "", false
}

// since returns the entries after the first n of those that were known by their descent, and whether they are all:
// what was known is of another index.
func (ix *layoutIndex) since(known *descent, n int) (of *descent, added []ocispec.Descriptor, all bool) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if all = known != ix.descent; all {
		n = 0
	}
	for _, e := range ix.entries[min(n, len(ix.entries)):] {
		added = append(added, e.Descriptor)
	}
	return ix.descent, added, all
}

// add lists d without a name.
func (ix *layoutIndex) add(d ocispec.Descriptor) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.append(entry{Descriptor: d})
}

// means reports whether name means d already; an empty name, whether d is listed.
func (ix *layoutIndex) means(name string, d digest.Digest) bool {
	if name == "" {
		return ix.lists(d)
	}
	e, err := ix.find(name)
	return err == nil && e.Digest == d
}

// setTag makes name mean d. What it meant before stays listed, without the name. It reports whether anything changed.
func (ix *layoutIndex) setTag(d ocispec.Descriptor, name string) (changed bool) {
	if ix.means(name, d.Digest) {
		return false
	}
	if name == "" {
		ix.add(d)
		return true
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for i := range ix.byName {
		for _, at := range slices.Clone(ix.byName[i][name]) {
			// The two names of one entry say the same thing; half of it would name the old image still.
			annotations := maps.Clone(ix.entries[at].Annotations)
			for _, a := range nameAnnotations {
				delete(annotations, a)
			}
			ix.annotate(at, annotations)
		}
	}
	for _, at := range ix.byDigest[d.Digest] {
		if e := ix.entries[at]; e.names() == [len(nameAnnotations)]string{} {
			annotations := maps.Clone(e.Annotations)
			if annotations == nil {
				annotations = make(map[string]string)
			}
			annotations[ocispec.AnnotationRefName] = name
			ix.annotate(at, annotations)
			return true
		}
	}
	d.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	ix.append(entry{Descriptor: d})
	return true
}

// remove drops the entries of a digest and reports whether there were any.
func (ix *layoutIndex) remove(d digest.Digest) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if len(ix.byDigest[d]) == 0 {
		return false
	}
	ix.arrange(slices.DeleteFunc(ix.entries, func(e entry) bool { return e.Digest == d }))
	return true
}
