package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

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

// A layoutIndex is an index.json. What is not understood, other people's members and the order of all is kept as it was written.
type layoutIndex struct {
	members []member // of the whole file; manifests stand in entries
	entries []entry
}

type member struct {
	name string
	raw  json.RawMessage
}

// An entry is one of the manifests; raw is what was read, nil for an entry that we made or changed.
type entry struct {
	ocispec.Descriptor
	raw json.RawMessage
}

func newLayoutIndex() *layoutIndex {
	return &layoutIndex{members: []member{
		{"schemaVersion", json.RawMessage("2")},
		{"mediaType", json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`)},
		{"manifests", nil},
	}}
}

// parseLayoutIndex reads index.json as strictly as any index.
func parseLayoutIndex(b []byte) (*layoutIndex, error) {
	p, err := parseManifest(ocispec.MediaTypeImageIndex, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	ix := &layoutIndex{}
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return nil, malformed("%s: %w", indexFile, err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, malformed("%s: %w", indexFile, err)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, malformed("%s: %w", indexFile, err)
		}
		ix.members = append(ix.members, member{key.(string), raw})
	}
	var raws []json.RawMessage
	i := slices.IndexFunc(ix.members, func(m member) bool { return m.name == "manifests" })
	if i < 0 {
		ix.members = append(ix.members, member{"manifests", nil})
	} else if err := json.Unmarshal(ix.members[i].raw, &raws); err != nil {
		return nil, malformed("%s: %w", indexFile, err)
	}
	for i, d := range p.Manifests {
		ix.entries = append(ix.entries, entry{Descriptor: d, raw: raws[i]})
	}
	return ix, nil
}

// encode renders the index.
func (ix *layoutIndex) encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range ix.members {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		if m.name != "manifests" {
			b.Write(m.raw)
			continue
		}
		b.WriteByte('[')
		for i, e := range ix.entries {
			if i > 0 {
				b.WriteByte(',')
			}
			raw := e.raw
			if raw == nil {
				if raw, err = json.Marshal(e.Descriptor); err != nil {
					return nil, err
				}
			}
			b.Write(raw)
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
	if b.Len() > maxLayoutIndex {
		return nil, fail(codeTooLarge, "%s: %w: more than %d bytes", indexFile, ErrTooLarge, maxLayoutIndex)
	}
	return b.Bytes(), nil
}

func (ix *layoutIndex) clone() *layoutIndex {
	return &layoutIndex{members: slices.Clone(ix.members), entries: slices.Clone(ix.entries)}
}

// find returns the entry that name means: that of the reference name, else that of the full name which containerd and docker write.
func (ix *layoutIndex) find(name string) (entry, error) {
	for _, annotation := range []string{ocispec.AnnotationRefName, annotationContainerd} {
		var first entry
		found := make(map[digest.Digest]bool)
		for _, e := range ix.entries {
			if e.Annotations[annotation] != name {
				continue
			}
			if len(found) == 0 {
				first = e
			}
			found[e.Digest] = true
		}
		switch len(found) {
		case 0:
		case 1:
			return first, nil
		default:
			return entry{}, ambiguous("%d entries of the index are named %q; write the full name, or a digest", len(found), name)
		}
	}
	return entry{}, fail(codeNotFound, "%w: no entry of the index is named %q%s", ErrNotFound, name, ix.hint())
}

// hint lists a few names that there are.
func (ix *layoutIndex) hint() string {
	names := ix.names()
	switch {
	case len(names) == 0:
		return "; none has a name"
	case len(names) > 5:
		return fmt.Sprintf("; there are %q and %d more", names[:5], len(names)-5)
	}
	return fmt.Sprintf("; there are %q", names)
}

// names returns the names by which entries are found: the reference name where it is one entry's only, else the full name.
func (ix *layoutIndex) names() []string {
	count := make(map[string]map[digest.Digest]bool)
	for _, e := range ix.entries {
		n := e.Annotations[ocispec.AnnotationRefName]
		if count[n] == nil {
			count[n] = make(map[digest.Digest]bool)
		}
		count[n][e.Digest] = true
	}
	var names []string
	seen := make(map[string]bool)
	for _, e := range ix.entries {
		n := e.Annotations[ocispec.AnnotationRefName]
		if n == "" || len(count[n]) > 1 {
			n = e.Annotations[annotationContainerd]
		}
		if n != "" && !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// lists reports whether an entry has that digest.
func (ix *layoutIndex) lists(d digest.Digest) bool {
	return slices.ContainsFunc(ix.entries, func(e entry) bool { return e.Digest == d })
}

// setTag makes name mean d. What it meant before stays listed, without the name. It reports whether anything changed.
func (ix *layoutIndex) setTag(d ocispec.Descriptor, name string) (changed bool) {
	if name == "" {
		if ix.lists(d.Digest) {
			return false
		}
		ix.entries = append(ix.entries, entry{Descriptor: d})
		return true
	}
	if e, err := ix.find(name); err == nil && e.Digest == d.Digest {
		return false
	}
	for i := 0; i < len(ix.entries); i++ {
		e := ix.entries[i]
		named := e.Annotations[ocispec.AnnotationRefName] == name || e.Annotations[annotationContainerd] == name
		if !named {
			continue
		}
		e.Annotations = maps.Clone(e.Annotations)
		// The two names of one entry say the same thing; half of it would name the old image still.
		delete(e.Annotations, ocispec.AnnotationRefName)
		delete(e.Annotations, annotationContainerd)
		ix.entries[i] = entry{Descriptor: e.Descriptor, raw: withAnnotations(e.raw, e.Annotations)}
	}
	for i, e := range ix.entries {
		if e.Digest == d.Digest && e.Annotations[ocispec.AnnotationRefName] == "" && e.Annotations[annotationContainerd] == "" {
			e.Annotations = maps.Clone(e.Annotations)
			if e.Annotations == nil {
				e.Annotations = make(map[string]string)
			}
			e.Annotations[ocispec.AnnotationRefName] = name
			ix.entries[i] = entry{Descriptor: e.Descriptor, raw: withAnnotations(e.raw, e.Annotations)}
			return true
		}
	}
	d.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	ix.entries = append(ix.entries, entry{Descriptor: d})
	return true
}

// withAnnotations returns raw with other annotations and all else of it as it was; nil where it was ours.
func withAnnotations(raw json.RawMessage, annotations map[string]string) json.RawMessage {
	if raw == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil
	}
	var b bytes.Buffer
	put := func(name string, value any) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		// Strings, string maps and valid JSON only: these encode.
		key, _ := json.Marshal(name)
		val, _ := json.Marshal(value)
		b.Write(key)
		b.WriteByte(':')
		b.Write(val)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil
		}
		if key != "annotations" {
			put(key.(string), value)
		}
	}
	if len(annotations) > 0 {
		put("annotations", annotations)
	}
	return slices.Concat([]byte("{"), b.Bytes(), []byte("}"))
}

// remove drops the entries of a digest and reports whether there were any.
func (ix *layoutIndex) remove(d digest.Digest) bool {
	before := len(ix.entries)
	ix.entries = slices.DeleteFunc(ix.entries, func(e entry) bool { return e.Digest == d })
	return len(ix.entries) < before
}

// checkLayoutFile checks the oci-layout file.
func checkLayoutFile(b []byte) error {
	o, err := parseObject(b)
	if err != nil {
		return fmt.Errorf("%s: %w", layoutFile, err)
	}
	v, err := o.text("imageLayoutVersion")
	if err != nil {
		return fmt.Errorf("%s: %w", layoutFile, err)
	}
	if v != ocispec.ImageLayoutVersion {
		return malformed("%s: version %q; imprint knows %s", layoutFile, clip(v), ocispec.ImageLayoutVersion)
	}
	return nil
}

// layoutFileContent is the oci-layout file that we write.
var layoutFileContent = []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
