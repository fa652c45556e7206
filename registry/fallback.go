package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Of the writing of a fallback index.
const (
	maxSettling = 90 * time.Second
	// Another writer may be held up by its own machine between reading and writing; our own requests, which may
	// have been quick, say nothing of that.
	minSettleWait = 250 * time.Millisecond
	// Where others are seen to write at the same time, one of them may be the one that is held up.
	contendedSettleWait = time.Second
	maxSettleBack       = 4 * time.Second
	// CNCF distribution refuses an index with an entry whose manifest is gone: somebody has deleted it since we read,
	// or before us without taking it out.
	maxGhostRounds = 8
)

// errOccupied: what is at the fallback tag is no list of referrers to the subject, and is never overwritten.
var errOccupied = errors.New("the fallback tag holds something else")

// fallbackTag is where a registry without the API keeps the list of a subject's referrers (distribution
// specification, "Referrers Tag Schema"): algorithm and digest, each cut to its length.
func fallbackTag(subject digest.Digest) string {
	algorithm, encoded := subject.Algorithm().String(), subject.Encoded()
	return algorithm[:min(len(algorithm), 32)] + "-" + encoded[:min(len(encoded), 64)]
}

// A fallbackEntry is an entry of a fallback index, with the bytes in which it was found: others' entries are carried
// as they are, members we do not know included.
type fallbackEntry struct {
	descriptor ocispec.Descriptor
	raw        json.RawMessage
}

// A fallbackIndex is what a fallback tag holds; the zero value is what one that does not exist holds.
type fallbackIndex struct {
	members map[string]json.RawMessage // of the document, but for manifests
	entries []fallbackEntry            // appended to by add
	listed  map[digest.Digest]bool     // their digests: 4 MiB hold fifty thousand entries
}

func (x fallbackIndex) has(d digest.Digest) bool { return x.listed[d] }

// add lists e unless its digest is listed.
func (x *fallbackIndex) add(e fallbackEntry) {
	if x.listed[e.descriptor.Digest] {
		return
	}
	if x.listed == nil {
		x.listed = make(map[digest.Digest]bool)
	}
	x.listed[e.descriptor.Digest] = true
	x.entries = append(x.entries, e)
}

// readFallback reads a subject's fallback tag.
func (s *remote) readFallback(ctx context.Context, subject ocispec.Descriptor) (fallbackIndex, error) {
	tag := fallbackTag(subject.Digest)
	resp, body, err := s.read(ctx, call{
		method: http.MethodGet, path: "manifests/" + tag, action: actionPull, header: map[string]string{"Accept": acceptManifest},
	}, MaxManifest)
	if errors.Is(err, ErrNotFound) {
		return fallbackIndex{}, nil
	}
	if err != nil {
		return fallbackIndex{}, fmt.Errorf("reading the referrers tag %s: %w", tag, err)
	}
	x, err := parseFallback(resp.Header, body, subject.Digest)
	if err != nil {
		return fallbackIndex{}, fail(codeOccupied, "%w: %s at %s: %w: %w", ErrMalformed, tag, s.host, errOccupied, err)
	}
	return x, nil
}

// parseFallback believes what came back for a fallback tag only if it can be a list of referrers: GitLab answers with
// the image itself, `cosign copy` stores an image there.
func parseFallback(h http.Header, body []byte, subject digest.Digest) (fallbackIndex, error) {
	if !isIndex(h) {
		return fallbackIndex{}, fmt.Errorf("it is %q, not an index", quote(h.Get("Content-Type")))
	}
	if subject.Algorithm().FromBytes(body) == subject {
		return fallbackIndex{}, errors.New("it is the subject itself")
	}
	members := make(map[string]json.RawMessage)
	if err := json.Unmarshal(body, &members); err != nil {
		return fallbackIndex{}, errors.New("it is no JSON object")
	}
	var mediaType string
	if raw, ok := members["mediaType"]; ok && (json.Unmarshal(raw, &mediaType) != nil || mediaType != ocispec.MediaTypeImageIndex) {
		return fallbackIndex{}, errors.New("it says that it is something else")
	}
	for _, image := range []string{"config", "layers", "subject"} {
		if _, ok := members[image]; ok {
			return fallbackIndex{}, fmt.Errorf("it has %s", image)
		}
	}
	var list []json.RawMessage
	if json.Unmarshal(members["manifests"], &list) != nil && len(members["manifests"]) > 0 {
		return fallbackIndex{}, errors.New("its manifests are no list")
	}
	delete(members, "manifests")
	x := fallbackIndex{members: members}
	platforms, types := 0, 0
	for _, raw := range list {
		d, err := parseEntry(raw)
		if err != nil {
			return fallbackIndex{}, errors.New("an entry of it is no descriptor")
		}
		if d.ArtifactType != "" {
			types++
		}
		if d.Platform != nil {
			platforms++
		}
		x.add(fallbackEntry{descriptor: d, raw: raw})
	}
	if types == 0 && platforms > 0 {
		return fallbackIndex{}, errors.New("it is an image for several platforms")
	}
	return x, nil
}

// encode writes the index with every entry's bytes as they were found.
func (x fallbackIndex) encode() Manifest {
	members := maps.Clone(x.members)
	if members == nil {
		members = make(map[string]json.RawMessage)
	}
	members["schemaVersion"] = json.RawMessage("2")
	members["mediaType"] = json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`)
	var b bytes.Buffer
	write := func(name string) {
		key, _ := json.Marshal(name)
		b.Write(key)
		b.WriteByte(':')
		b.Write(members[name])
		b.WriteByte(',')
		delete(members, name)
	}
	b.WriteByte('{')
	write("schemaVersion")
	write("mediaType")
	for _, name := range slices.Sorted(maps.Keys(members)) {
		write(name)
	}
	b.WriteString(`"manifests":[`)
	for i, e := range x.entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.raw)
	}
	b.WriteString("]}")
	body := b.Bytes()
	return Manifest{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(body), Size: int64(len(body))},
		Bytes:      body,
	}
}

// describeReferrer describes a referrer as the specification wants its entry: with artifact type and annotations of
// its manifest. One that cannot be parsed is listed without.
func describeReferrer(m Manifest) (fallbackEntry, error) {
	d := ocispec.Descriptor{MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size}
	if parts, err := m.Parse(); err == nil {
		d.ArtifactType, d.Annotations = parts.ArtifactType, parts.Annotations
	}
	raw, err := json.Marshal(d)
	return fallbackEntry{descriptor: d, raw: raw}, err
}

// A change is what is to become of a fallback index.
type change struct {
	add    []Manifest
	remove []digest.Digest
}

// A settling is one change on its way into the index.
type settling struct {
	store   *remote
	subject ocispec.Descriptor
	tag     string
	add     []fallbackEntry
	remove  []digest.Digest

	seen   fallbackIndex // everything met in this operation, in the order of meeting
	wrote  fallbackIndex // what we wrote last
	gone   fallbackIndex // what others have taken out of it on purpose
	slow   time.Duration // the longest time from reading to having written
	reads  int
	others bool // something that we did not write came between our reads
	ghosts int  // how often the registry found an entry without a manifest in what we wrote
}

// settle writes a change so that it stays, although no registry offers a compare-and-swap:
// read, merge with everything seen, write, read again; when all is there wait twice the slowest read-to-write, plus
// up to half of that (a second at least where others are seen to write), and read once more; else back off and do it
// again. An index that shows the change already is
// not written: wrote says whether it was. ErrUnsettled after 90 seconds; errOccupied if the tag holds something else.
func (s *remote) settle(ctx context.Context, subject ocispec.Descriptor, c change) (wrote bool, err error) {
	t := &settling{store: s, subject: subject, tag: fallbackTag(subject.Digest), remove: c.remove}
	for _, m := range c.add {
		e, err := describeReferrer(m)
		if err != nil {
			return false, fmt.Errorf("describing %s: %w", m.Descriptor.Digest, err)
		}
		t.add = append(t.add, e)
	}
	unlock, err := s.state.lock(ctx, t.tag)
	if err != nil {
		return false, err
	}
	defer unlock()

	until := s.client.now().Add(maxSettling)
	for round := 0; ; round++ {
		done, err := t.round(ctx, round)
		if done || err != nil {
			return t.slow > 0, err
		}
		back := rand.N(min(max(4*t.slow, 20*time.Millisecond)<<min(round, 5), maxSettleBack))
		if s.client.now().Add(back).After(until) {
			return true, fail(CodeUnsettled, "%w: others keep overwriting %s at %s", ErrUnsettled, t.tag, s.host)
		}
		if err := s.client.retry.sleep(ctx, back); err != nil {
			return true, err
		}
	}
}

// round reads, writes and reads again; done says that the change was there, and still was after the wait.
func (t *settling) round(ctx context.Context, round int) (done bool, err error) {
	begin := time.Now()
	now, err := t.read(ctx)
	if err != nil {
		return false, err
	}
	next, err := t.merge(ctx, now)
	if err != nil {
		return false, err
	}
	if sameEntries(now, next) {
		if round == 0 {
			return true, nil // as it should be before we came
		}
	} else {
		m := next.encode()
		if len(m.Bytes) > MaxManifest {
			return false, fail(codeTooLarge, "%w: the referrers index %s would have %d bytes", ErrTooLarge, t.tag, len(m.Bytes))
		}
		if _, err := t.store.putManifest(ctx, t.tag, m); err != nil {
			if e, _ := answered(err); e.has("MANIFEST_BLOB_UNKNOWN") && t.ghosts < maxGhostRounds {
				t.ghosts++
				return false, nil
			}
			return false, fmt.Errorf("writing the referrers tag %s: %w", t.tag, err)
		}
		t.slow, t.wrote = max(t.slow, time.Since(begin)), next
		if now, err = t.read(ctx); err != nil {
			return false, err
		}
		if settled, err := t.settled(ctx, now); err != nil || !settled {
			return false, err
		}
	}
	for {
		alone := !t.others
		if done, err := t.rest(ctx); err != nil || !done {
			return false, err
		}
		if alone == !t.others {
			return true, nil
		}
	}
}

// rest waits as long as another writer may be held up between reading and writing, and looks again whether all is there.
func (t *settling) rest(ctx context.Context) (settled bool, err error) {
	wait := max(2*t.slow, minSettleWait)
	if t.others {
		wait = max(wait, contendedSettleWait)
	}
	if err := t.store.client.retry.sleep(ctx, wait+rand.N(wait/2+1)); err != nil {
		return false, err
	}
	now, err := t.read(ctx)
	if err != nil {
		return false, err
	}
	return t.settled(ctx, now)
}

// read reads the index and remembers what it lists.
func (t *settling) read(ctx context.Context) (fallbackIndex, error) {
	x, err := t.store.readFallback(ctx, t.subject)
	if err != nil {
		return x, err
	}
	for _, e := range x.entries {
		t.others = t.others || t.reads > 0 && !t.seen.has(e.descriptor.Digest) && !t.ours(e.descriptor.Digest)
		t.seen.add(e)
	}
	t.reads++
	return x, nil
}

// mended is e, or what we add of that digest if e describes it otherwise: readers go by what an entry says.
func (t *settling) mended(e fallbackEntry) fallbackEntry {
	for _, ours := range t.add {
		if ours.descriptor.Digest == e.descriptor.Digest && !sameEntry(ours, e) {
			return ours
		}
	}
	return e
}

func sameEntry(a, b fallbackEntry) bool {
	x, y := a.descriptor, b.descriptor
	return x.Digest == y.Digest && x.MediaType == y.MediaType && x.Size == y.Size && x.ArtifactType == y.ArtifactType
}

// settled reports whether an index is as it should be: our change is in it, and nothing that others listed before our
// eyes has been overwritten since. They may have ended and cannot put it back.
func (t *settling) settled(ctx context.Context, x fallbackIndex) (bool, error) {
	next, err := t.merge(ctx, x)
	return err == nil && sameEntries(x, next), err
}

// merge is what is there, without what we remove, with what we add, and with what was there before and has been
// overwritten since: unless its manifest is gone, when somebody has deleted it on purpose. Once the registry has
// refused an entry for that, those that are there are looked up as well.
func (t *settling) merge(ctx context.Context, now fallbackIndex) (fallbackIndex, error) {
	next := fallbackIndex{members: now.members}
	var kept, lost []fallbackEntry
	for _, e := range now.entries {
		if !t.dropped(e.descriptor.Digest) {
			kept = append(kept, t.mended(e))
		}
	}
	following := t.following(now)
	for _, e := range t.seen.entries {
		d := e.descriptor.Digest
		if now.has(d) || t.ours(d) || t.dropped(d) {
			continue
		}
		if following && t.wrote.has(d) {
			t.gone.add(e)
		}
		if !t.gone.has(d) {
			lost = append(lost, e)
		}
	}
	lost, err := t.there(ctx, lost)
	if err == nil && t.ghosts > 0 {
		kept, err = t.there(ctx, kept)
	}
	if err != nil {
		return next, err
	}
	for _, e := range slices.Concat(kept, lost, t.add) {
		next.add(e)
	}
	return next, nil
}

func (t *settling) ours(d digest.Digest) bool {
	return slices.ContainsFunc(t.add, func(e fallbackEntry) bool { return e.descriptor.Digest == d })
}

// following reports whether an index was made by somebody who had read ours: it has what we added. What we listed
// beside that and is not there any more was then taken out on purpose; were we to put it back, a writer who adds and
// one who removes could chase each other.
func (t *settling) following(x fallbackIndex) bool {
	return len(t.add) > 0 && !slices.ContainsFunc(t.add, func(e fallbackEntry) bool { return !x.has(e.descriptor.Digest) })
}

// dropped reports whether an entry is one that this process has taken out.
func (t *settling) dropped(d digest.Digest) bool {
	return slices.Contains(t.remove, d) || t.store.state.isRemoved(d)
}

// there returns those entries whose manifest answers.
func (t *settling) there(ctx context.Context, entries []fallbackEntry) ([]fallbackEntry, error) {
	has := make([]bool, len(entries))
	err := parallel(ctx, len(entries), func(ctx context.Context, i int) (err error) {
		has[i], err = t.store.hasManifest(ctx, entries[i].descriptor.Digest)
		return err
	})
	if err != nil {
		return nil, err
	}
	var found []fallbackEntry
	for i, e := range entries {
		if has[i] {
			found = append(found, e)
		}
	}
	return found, nil
}

// sameEntries reports whether two indexes list the same, and describe it alike.
func sameEntries(a, b fallbackIndex) bool {
	if len(a.entries) != len(b.entries) {
		return false
	}
	of := make(map[digest.Digest]fallbackEntry, len(b.entries))
	for _, e := range b.entries {
		of[e.descriptor.Digest] = e
	}
	return !slices.ContainsFunc(a.entries, func(e fallbackEntry) bool { return !sameEntry(e, of[e.descriptor.Digest]) })
}
