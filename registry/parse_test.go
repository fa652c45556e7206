package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestText makes an image manifest of the OCI type out of members besides the usual.
func imageText(more string) string {
	return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + some + `","size":2},"layers":[]` + more + `}`
}

func layerText(size string) string {
	return `{"schemaVersion":2,"config":{"mediaType":"c","digest":"` + some + `","size":2},"layers":[{"mediaType":"l","digest":"` + other + `","size":` + size + `}]}`
}

func TestParseManifest(t *testing.T) {
	t.Parallel()
	const (
		image = ocispec.MediaTypeImageManifest
		index = ocispec.MediaTypeImageIndex
	)
	for _, c := range []struct {
		name      string
		mediaType string
		body      string
		want      error
		says      string
	}{
		{"image", image, imageText(""), nil, ""},
		{"image without mediaType", image, layerText("1"), nil, ""},
		{"docker image", typeDockerManifest, strings.ReplaceAll(imageText(""), image, typeDockerManifest), nil, ""},
		{"index", index, `{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"` + some + `","size":7,"platform":{"os":"linux","architecture":"arm","variant":"v7","os.features":["x"]}}]}`, nil, ""},
		{"null lists and annotations, as Go writes them", index, `{"schemaVersion":2,"manifests":null,"annotations":null}`, nil, ""},
		{"artifact manifest", typeArtifact, `{"mediaType":"` + typeArtifact + `","artifactType":"a","blobs":[{"mediaType":"l","digest":"` + some + `","size":7}]}`, nil, ""},
		{"unknown members", image, imageText(`,"org.example.new":{"a":[1,2.5e3]}`), nil, ""},

		{"A12 image with manifests", image, imageText(`,"manifests":[]`), ErrAmbiguous, "manifests"},
		{"A12 image with manifests null", image, imageText(`,"manifests":null`), ErrAmbiguous, "manifests"},
		{"A12 index with layers", index, `{"schemaVersion":2,"manifests":[],"layers":[]}`, ErrAmbiguous, "layers"},
		{"A12 index with config", index, `{"schemaVersion":2,"manifests":[],"config":{}}`, ErrAmbiguous, "config"},
		{"A12 artifact with layers", typeArtifact, `{"blobs":[],"layers":[]}`, ErrAmbiguous, "layers"},
		{"A12 image with fsLayers", image, imageText(`,"fsLayers":[]`), ErrAmbiguous, "fsLayers"},
		{"A12 served as index, calls itself image", index, `{"schemaVersion":2,"mediaType":"` + image + `","manifests":[]}`, ErrAmbiguous, "calls itself"},
		{"A12 served as docker, calls itself OCI", typeDockerManifest, imageText(""), ErrAmbiguous, "calls itself"},
		{"A12 served as something unknown, calls itself image", "text/plain", imageText(""), ErrAmbiguous, "calls itself"},
		{"A14 duplicate member", image, imageText(`,"layers":[]`), ErrAmbiguous, "twice"},
		{"A14 duplicate member, deep", image, imageText(`,"annotations":{"a":"1","a":"2"}`), ErrAmbiguous, "twice"},
		{"A14 duplicate member, escaped", image, imageText(`,"\u006cayers":[]`), ErrAmbiguous, "twice"},
		{"A14 case variant", image, imageText(`,"Layers":[]`), ErrAmbiguous, "Layers"},
		{"A14 case variant that folds", image, imageText(`,"\u017fubject":{}`), ErrAmbiguous, "subject"},
		{"A14 case variant of an absent member", image, imageText(`,"SUBJECT":{}`), ErrAmbiguous, "SUBJECT"},
		{"A14 case variant in a descriptor", image, imageText(`,"subject":{"mediaType":"m","digest":"` + some + `","size":1,"Digest":"x"}`), ErrAmbiguous, "Digest"},
		{"A14 case variant in a platform", index, `{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"` + some + `","size":7,"platform":{"OS":"linux"}}]}`, ErrAmbiguous, "OS"},
		{"A15 size 2^53+1", image, layerText("9007199254740993"), nil, ""},
		{"A15 size 2^63-1", image, layerText("9223372036854775807"), nil, ""},
		{"A15 size 2^63", image, layerText("9223372036854775808"), ErrAmbiguous, "size"},
		{"A15 negative size", image, layerText("-1"), ErrAmbiguous, "size"},
		{"A15 size minus nought", image, layerText("-0"), ErrAmbiguous, "size"},
		{"A15 float size", image, layerText("1e3"), ErrAmbiguous, "integer"},
		{"A15 float size 1.0", image, layerText("1.0"), ErrAmbiguous, "integer"},
		{"A15 size as text", image, layerText(`"1"`), ErrAmbiguous, "number"},
		{"C16 schema 1", typeDockerSchema1, `{"schemaVersion":1}`, ErrMalformed, "schema 1"},
		{"C16 signed schema 1", typeSignedSchema1, `{"schemaVersion":1}`, ErrMalformed, "schema 1"},
		{"C13 unknown media type", "application/x-new", `{"whatever":1,"whatever":2}`, nil, ""},
		{"C13 unknown media type, no JSON", "application/x-new", "\x00\x01", nil, ""},

		{"no size", image, `{"schemaVersion":2,"config":{"mediaType":"c","digest":"` + some + `"},"layers":[]}`, ErrMalformed, "size"},
		{"no config", image, `{"schemaVersion":2,"layers":[]}`, ErrMalformed, "config"},
		{"schemaVersion 1", image, `{"schemaVersion":1}`, ErrMalformed, "schemaVersion"},
		{"no schemaVersion", index, `{"manifests":[]}`, ErrMalformed, "schemaVersion"},
		{"digest of another algorithm", image, strings.ReplaceAll(imageText(""), "sha256", "sha384"), ErrMalformed, "algorithm"},
		{"C11 digest that is a path", image, strings.ReplaceAll(imageText(""), some, "sha256:../../x"), ErrMalformed, "digits"},
		{"upper-case digest", image, strings.ReplaceAll(imageText(""), hexA, strings.ToUpper(hexA)), ErrMalformed, "lower-case"},
		{"trailing data", image, imageText("") + "{}", ErrMalformed, "follows"},
		{"not an object", image, "[]", ErrMalformed, "object"},
		{"truncated", image, imageText("")[:40], ErrMalformed, ""},
		{"empty", image, "", ErrMalformed, ""},
		{"not UTF-8", image, imageText(",\"x\":\"\xff\""), ErrMalformed, "UTF-8"},
		{"nested deep", image, imageText(`,"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), ErrMalformed, "nested"},
		{"annotation that is a number", image, imageText(`,"annotations":{"a":1}`), ErrMalformed, "annotation"},
		{"data that is not base64", image, imageText(`,"subject":{"mediaType":"m","digest":"` + some + `","size":1,"data":"e30"}`), ErrMalformed, "data"},
		{"layers that are no list", image, strings.Replace(imageText(""), `"layers":[]`, `"layers":{}`, 1), ErrMalformed, "layers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewManifest(c.mediaType, []byte(c.body)).Parse()
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want == nil {
				return
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want it to say %q", err, c.says)
			}
			code := map[error]string{ErrAmbiguous: "ambiguous-manifest", ErrMalformed: "manifest-malformed"}[c.want]
			if reasonOf(err) != code {
				t.Errorf("reason %q, want %q", reasonOf(err), code)
			}
		})
	}
}

func TestParseReadsWhatOthersRead(t *testing.T) {
	t.Parallel()
	subject := ocispec.Descriptor{MediaType: "m", Digest: other, Size: 3}
	in := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "a/b",
		Config:      ocispec.Descriptor{MediaType: "c", Digest: some, Size: 2, Data: []byte("{}")},
		Layers:      []ocispec.Descriptor{{MediaType: "l", Digest: other, Size: 5, URLs: []string{"https://x"}, Annotations: map[string]string{"k": "v"}}},
		Subject:     &subject,
		Annotations: map[string]string{"a": "<&>\u2028"},
	}
	in.SchemaVersion = 2
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewManifest(ocispec.MediaTypeImageManifest, b).Parse()
	if err != nil {
		t.Fatal(err)
	}
	want := Parts{Shape: ShapeImage, ArtifactType: "a/b", Config: &in.Config, Layers: in.Layers, Subject: &subject, Annotations: in.Annotations}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff([]ocispec.Descriptor{in.Config, in.Layers[0]}, got.Blobs()); d != "" {
		t.Errorf("blobs: -want +got:\n%s", d)
	}
}

func TestA13ManifestTooLarge(t *testing.T) {
	t.Parallel()
	body := imageText(`,"x":"` + strings.Repeat("a", MaxManifest) + `"`)
	if _, err := NewManifest(ocispec.MediaTypeImageManifest, []byte(body)).Parse(); !errors.Is(err, ErrTooLarge) || reasonOf(err) != "too-large" {
		t.Errorf("parsing: %v", err)
	}
	l := newLayout(t)
	m := NewManifest(ocispec.MediaTypeImageManifest, []byte(body))
	if err := l.PushManifest(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Manifest(context.Background(), m.Descriptor); !errors.Is(err, ErrTooLarge) {
		t.Errorf("reading: %v", err)
	}
	m.Descriptor.Size = 0 // as somebody who lies about it
	if _, err := l.Manifest(context.Background(), m.Descriptor); !errors.Is(err, ErrTooLarge) {
		t.Errorf("reading with another size: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(imageText(""))
	f.Add(layerText("9007199254740993"))
	f.Add(`{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"` + some + `","size":7,"platform":{"os":"linux"}}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, mediaType := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, typeArtifact} {
			p, err := NewManifest(mediaType, []byte(body)).Parse()
			if err != nil {
				continue
			}
			// What is accepted, Go's own reader reads in the same way.
			var m struct {
				Config    *ocispec.Descriptor
				Layers    []ocispec.Descriptor
				Blobs     []ocispec.Descriptor
				Manifests []ocispec.Descriptor
				Subject   *ocispec.Descriptor
			}
			if err := json.Unmarshal([]byte(body), &m); err != nil {
				t.Fatalf("%s: encoding/json refuses it: %v", mediaType, err)
			}
			theirs := fmt.Sprint(sizesOf(append(append(m.Layers, m.Blobs...), m.Manifests...)), m.Config != nil, m.Subject != nil)
			ours := fmt.Sprint(sizesOf(append(p.Layers, p.Manifests...)), p.Config != nil, p.Subject != nil)
			if theirs != ours {
				t.Fatalf("%s: encoding/json reads %s, we read %s", mediaType, theirs, ours)
			}
		}
	})
}

func sizesOf(list []ocispec.Descriptor) []string {
	var out []string
	for _, d := range list {
		out = append(out, fmt.Sprint(d.Digest, d.Size))
	}
	return out
}
