package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestSignatureManifest(t *testing.T) {
	t.Parallel()
	subject := ocispec.Descriptor{MediaType: "m", Digest: some, Size: 7, Annotations: map[string]string{"not": "this"}, ArtifactType: "nor this"}
	m := ByArtifactType.Manifest(subject, "application/cose", []byte("abc"), map[string]string{"b": "2", "a": "1"})
	const want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.cncf.notary.signature",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="},` +
		`"layers":[{"mediaType":"application/cose","digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3,"data":"YWJj"}],` +
		`"subject":{"mediaType":"m","digest":"` + some + `","size":7},"annotations":{"a":"1","b":"2"}}`
	if d := cmp.Diff(want, string(m.Bytes)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for size, inline := range map[int]bool{MaxInline: true, MaxInline + 1: false} {
		p, err := ByArtifactType.Manifest(subject, "application/cose", make([]byte, size), nil).Parse()
		if err != nil || (len(p.Layers[0].Data) > 0) != inline {
			t.Errorf("%d bytes: inline %v, %v", size, len(p.Layers[0].Data) > 0, err)
		}
	}
}

// signatureText edits a good signature manifest.
func signatureText(t testing.TB, subject ocispec.Descriptor, edit func(*ocispec.Manifest)) Manifest {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(ByArtifactType.Manifest(subject, "application/jose+json", []byte("envelope"), nil).Bytes, &m); err != nil {
		t.Fatal(err)
	}
	edit(&m)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return NewManifest(ocispec.MediaTypeImageManifest, b)
}

func TestV23SignatureManifests(t *testing.T) {
	t.Parallel()
	root := image("root", nil)
	subject := root.Descriptor
	large := described("application/cose", make([]byte, maxEnvelope+1))
	for _, c := range []struct {
		name string
		edit func(*ocispec.Manifest)
		ok   bool
	}{
		{"as we write it", func(*ocispec.Manifest) {}, true},
		{"V25 without annotations", func(m *ocispec.Manifest) { m.Annotations = nil }, true},
		{"V24 with a thumbprint that lies", func(m *ocispec.Manifest) { m.Annotations = map[string]string{AnnotationThumbprint: "nonsense"} }, true},
		{"legacy form", func(m *ocispec.Manifest) { m.ArtifactType, m.Config.MediaType = "", ArtifactTypeSignature }, true},
		{"V23 another configuration", func(m *ocispec.Manifest) { m.Config.MediaType = "application/x" }, false},
		{"no layer", func(m *ocispec.Manifest) { m.Layers = nil }, false},
		{"two layers", func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }, false},
		{"no artifact type, empty config", func(m *ocispec.Manifest) { m.ArtifactType = "" }, false},
		{"no subject", func(m *ocispec.Manifest) { m.Subject = nil }, false},
		{"another subject", func(m *ocispec.Manifest) { m.Subject.Digest = some }, false},
		{"V14 subject of another size", func(m *ocispec.Manifest) { m.Subject.Size++ }, false},
		{"V14 subject of another media type", func(m *ocispec.Manifest) { m.Subject.MediaType = typeDockerManifest }, false},
		{"data that is something else", func(m *ocispec.Manifest) { m.Layers[0].Data = []byte("enveloqe") }, false},
		{"data of another length", func(m *ocispec.Manifest) { m.Layers[0].Data = []byte("envelope ") }, false},
		{"V18 an envelope of more than 1 MiB", func(m *ocispec.Manifest) { m.Layers[0] = large }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLiar()
			m := l.add(signatureText(t, subject, c.edit), root)
			l.lists[subject.Digest][0].ArtifactType = ArtifactTypeSignature
			good := l.add(ByArtifactType.Manifest(subject, "application/cose", []byte("good"), nil), root)
			list, err := l.repo().Signatures(context.Background(), subject)
			if err != nil || len(list) != 2 {
				t.Fatalf("%d signatures, %v", len(list), err)
			}
			// A bad one never hides a good one.
			if s := list[1]; s.Err != nil || string(s.Envelope) != "good" || s.Descriptor.Digest != good.Descriptor.Digest {
				t.Errorf("the good one: %+v", s)
			}
			s := list[0]
			if s.Descriptor.Digest != m.Descriptor.Digest || s.Subject.Digest != subject.Digest {
				t.Errorf("it is called %s of %s", s.Descriptor.Digest, s.Subject.Digest)
			}
			if c.ok {
				if s.Err != nil || string(s.Envelope) != "envelope" || s.MediaType != "application/jose+json" {
					t.Errorf("%+v", s)
				}
				return
			}
			if s.Err == nil || reasonOf(s.Err) != "manifest-malformed" || s.Envelope != nil {
				t.Errorf("%v (%s)", s.Err, reasonOf(s.Err))
			}
		})
	}
	t.Run("an index", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		s := l.repo().SignatureOf(context.Background(), subject, l.add(index(&root)))
		if reasonOf(s.Err) != "manifest-malformed" {
			t.Error(s.Err)
		}
	})
	t.Run("ambiguous", func(t *testing.T) {
		t.Parallel()
		s := newLiar().repo().SignatureOf(context.Background(), subject, NewManifest(ocispec.MediaTypeImageManifest, []byte(imageText(`,"layers":[]`))))
		if reasonOf(s.Err) != "manifest-malformed" || !errors.Is(s.Err, ErrAmbiguous) {
			t.Error(s.Err)
		}
	})
	t.Run("huge annotations", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		m := l.add(signatureText(t, subject, func(m *ocispec.Manifest) { m.Annotations = map[string]string{"a": strings.Repeat("x", MaxManifest)} }), root)
		s := l.repo().ReadSignature(context.Background(), subject, Referrer{m.Descriptor})
		if reasonOf(s.Err) != "manifest-malformed" || !errors.Is(s.Err, ErrTooLarge) {
			t.Error(reasonOf(s.Err))
		}
	})
	t.Run("not there", func(t *testing.T) {
		t.Parallel()
		s := newLiar().repo().ReadSignature(context.Background(), subject, Referrer{described("m", []byte("x"))})
		if !errors.Is(s.Err, ErrNotFound) {
			t.Error(s.Err)
		}
	})
	t.Run("envelope not there", func(t *testing.T) {
		t.Parallel()
		l := newLiar()
		m := l.add(ByArtifactType.Manifest(subject, "application/cose", make([]byte, MaxInline+1), nil), root)
		s := l.repo().ReadSignature(context.Background(), subject, Referrer{m.Descriptor})
		if !errors.Is(s.Err, ErrNotFound) || s.MediaType != "application/cose" {
			t.Error(s.Err)
		}
	})
}

// In a layout stock verifiers do not see a signature whose configuration is something else.
func TestV23ConfigurationInLayout(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	subject := described(ocispec.MediaTypeImageManifest, []byte("subject"))
	for config, ok := range map[string]bool{ocispec.MediaTypeEmptyJSON: true, "application/x": false} {
		m := signatureText(t, subject, func(m *ocispec.Manifest) { m.Config.MediaType = config })
		if s := l.SignatureOf(context.Background(), subject, m); (s.Err == nil) != ok {
			t.Errorf("%s: %v", config, s.Err)
		}
	}
}

func TestPushSignatureChecks(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	subject := described(ocispec.MediaTypeImageManifest, []byte("subject"))
	m := ByArtifactType.Manifest(subject, "application/cose", []byte("envelope"), nil)
	other := subject
	other.Digest = digest.FromString("another")
	for name, err := range map[string]error{
		"another subject":  l.PushSignature(context.Background(), other, m, []byte("envelope")),
		"another envelope": l.PushSignature(context.Background(), subject, m, []byte("Envelope")),
	} {
		if reasonOf(err) != "manifest-malformed" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := l.Referrers(context.Background(), subject, ""); err != nil || len(list) != 0 {
		t.Errorf("listed: %v, %v", list, err)
	}
}

func TestReadBlob(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newLiar().repo() // has no blob at all
	if b, err := r.ReadBlob(ctx, ocispec.DescriptorEmptyJSON, 10); err != nil || string(b) != "{}" {
		t.Errorf("the empty configuration: %q, %v", b, err)
	}
	known := ocispec.Descriptor{MediaType: "m", Digest: ocispec.DescriptorEmptyJSON.Digest, Size: 2}
	if b, err := r.ReadBlob(ctx, known, 10); err != nil || string(b) != "{}" {
		t.Errorf("without data: %q, %v", b, err)
	}
	d := described("m", []byte("abc"))
	if _, err := r.ReadBlob(ctx, d, 2); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	d.Data = []byte("abd")
	if _, err := r.ReadBlob(ctx, d, 10); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("data that is something else: %v", err)
	}
}

func TestSignatureForms(t *testing.T) {
	t.Parallel()
	subject := described("m", []byte("subject"))
	for form, want := range map[Form][2]string{
		ByArtifactType: {ArtifactTypeSignature, ocispec.MediaTypeEmptyJSON},
		ByConfig:       {"", ArtifactTypeSignature},
	} {
		m := form.Manifest(subject, "application/cose", []byte("envelope"), nil)
		var raw ocispec.Manifest
		if err := json.Unmarshal(m.Bytes, &raw); err != nil {
			t.Fatal(err)
		}
		if got := [2]string{raw.ArtifactType, raw.Config.MediaType}; got != want {
			t.Errorf("form %d is written as %q, want %q", form, got, want)
		}
		if got := (Signature{Manifest: m}).Form(); got != form {
			t.Errorf("form %d is read as %d", form, got)
		}
	}
}

// What sends bytes on as they come must not have sent a whole blob before it learns that it is a wrong one.
func TestC01LastBytesAreWithheld(t *testing.T) {
	t.Parallel()
	right := []byte("the right blob")
	d := described("m", right)
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{"right": {string(right), true}, "wrong": {"the wrong blob", false}, "longer": {"the right blob!", false}, "short": {"the right", false}} {
		for _, one := range []bool{false, true} {
			var r io.Reader = strings.NewReader(c.body)
			if one {
				r = iotest.OneByteReader(r)
			}
			got, err := io.ReadAll(verifying(io.NopCloser(r), d))
			switch {
			case c.ok && (err != nil || string(got) != c.body):
				t.Errorf("%s: %q, %v", name, got, err)
			case !c.ok && (!errors.Is(err, ErrDigestMismatch) || len(got) >= len(right)):
				t.Errorf("%s: %d bytes were handed out, %v", name, len(got), err)
			}
		}
	}
}
