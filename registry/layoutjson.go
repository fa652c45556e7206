package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
	entries := make([]entry, len(p.Manifests))
	for i, d := range p.Manifests {
		entries[i] = entry{Descriptor: d, raw: raws[i]}
	}
	ix.arrange(entries)
	return ix, nil
}

// encode renders the index.
func (ix *layoutIndex) encode() ([]byte, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
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
			if e.raw == nil && e.own == nil {
				if e.own, err = json.Marshal(e.Descriptor); err != nil {
					return nil, err
				}
				ix.entries[i] = e
			}
			b.Write(e.raw)
			if e.raw == nil {
				b.Write(e.own)
			}
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
	if b.Len() > maxLayoutIndex {
		return nil, fail(codeTooLarge, "%s: %w: more than %d bytes", indexFile, ErrTooLarge, maxLayoutIndex)
	}
	return b.Bytes(), nil
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
