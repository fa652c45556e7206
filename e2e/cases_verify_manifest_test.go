package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// Signature manifests that are wrong: the signature in them is right.
func TestCasesVerifyManifest(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	edit := func(change func(m *ocispec.Manifest, d *desk)) func(d *desk, b []byte) any {
		return func(d *desk, b []byte) any {
			m := signatureManifest(d.subject, jwsType, b)
			change(&m, d)
			return m
		}
	}
	stays := map[string]bool{"V23 another subject": true, "V23 no subject": true, "V23 huge annotations": true, "V23 not JSON": true}
	for name, c := range map[string]struct {
		manifest func(d *desk, b []byte) any
		reason   string
	}{
		"V22 media type with parameters": {edit(func(m *ocispec.Manifest, _ *desk) { m.Layers[0].MediaType += "; charset=utf-8" }), "format-mismatch"},
		"V22 media type in upper case":   {edit(func(m *ocispec.Manifest, _ *desk) { m.Layers[0].MediaType = "application/JOSE+json" }), "format-mismatch"},
		"V22 another media type":         {edit(func(m *ocispec.Manifest, _ *desk) { m.Layers[0].MediaType = "application/octet-stream" }), "format-mismatch"},
		"V23 no layers":                  {edit(func(m *ocispec.Manifest, _ *desk) { m.Layers = []ocispec.Descriptor{} }), "manifest-malformed"},
		"V23 two layers":                 {edit(func(m *ocispec.Manifest, _ *desk) { m.Layers = append(m.Layers, m.Layers[0]) }), "manifest-malformed"},
		"V23 another configuration":      {edit(func(m *ocispec.Manifest, _ *desk) { m.Config.MediaType = ocispec.MediaTypeImageConfig }), "manifest-malformed"},
		"V23 no artifact type":           {edit(func(m *ocispec.Manifest, _ *desk) { m.ArtifactType = "" }), "manifest-malformed"},
		"V23 another subject":            {edit(func(m *ocispec.Manifest, _ *desk) { m.Subject.Digest = digest.FromString("another") }), "manifest-malformed"},
		"V23 subject of another size":    {edit(func(m *ocispec.Manifest, _ *desk) { m.Subject.Size++ }), "manifest-malformed"},
		"V23 no subject":                 {edit(func(m *ocispec.Manifest, _ *desk) { m.Subject = nil }), "manifest-malformed"},
		"V23 an index": {func(d *desk, b []byte) any {
			i := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, ArtifactType: signatureType, Subject: &d.subject, Manifests: []ocispec.Descriptor{}}
			i.SchemaVersion = 2
			return i
		}, "manifest-malformed"},
		"V23 data that is not the digest's": {edit(func(m *ocispec.Manifest, _ *desk) { m.Layers[0].Data = []byte("not it") }), "manifest-malformed"},
		"V23 not JSON":                      {func(*desk, []byte) any { return []byte("<html>") }, "manifest-malformed"},
		"V23 duplicate members": {func(d *desk, b []byte) any {
			m, _ := json.Marshal(signatureManifest(d.subject, jwsType, b))
			return bytes.Replace(m, []byte(`"layers"`), []byte(`"layers":[],"layers"`), 1)
		}, "manifest-malformed"},
		"V23 huge annotations": {edit(func(m *ocispec.Manifest, _ *desk) { m.Annotations = map[string]string{"a": strings.Repeat("a", 5<<20)} }), "manifest-malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			b := d.jws().bytes()
			bad := f.attachManifest(d.repo, d.subject, c.manifest(d, b), b)
			d.rejects(t, c.reason)
			// copy judges nothing here: a referrer goes along as it is, unless it refers to something else or cannot be had.
			if !stays[name] {
				d.want(t, 0, "", "copy", d.ref, f.Host+"/"+d.repo+"copied")
				if !slices.ContainsFunc(f.referrers(d.repo+"copied", d.subject.Digest), func(r ocispec.Descriptor) bool { return r.Digest == bad.Digest }) {
					t.Error("copy left it behind")
				}
			}
		})
	}

	// An envelope that cannot be had is undetermined, not wrong.
	t.Run("V23 the envelope is gone", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		b := d.jws().bytes()
		f.attach(d.repo, d.subject, jwsType, b)
		f.mu.Lock()
		delete(f.blobs, digest.FromBytes(b))
		f.mu.Unlock()
		d.want(t, 4, "unfetched", d.verify()...)
		f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
		d.want(t, 0, "", d.verify()...)
	})
	t.Run("V18 an envelope of a mebibyte and a byte", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		s := d.jws().seal()
		s.header = replaced(s.header, "{", `{"org.example.pad":"`+strings.Repeat("a", 1<<20)+`",`)
		f.attach(d.repo, d.subject, jwsType, s.bytes())
		d.rejects(t, "manifest-malformed")
	})
	t.Run("V18 an envelope larger than it says", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		b := d.jws().bytes()
		f.attach(d.repo, d.subject, jwsType, b)
		f.mu.Lock()
		f.blobs[digest.FromBytes(b)] = append(bytes.Clone(b), make([]byte, 8<<20)...)
		f.mu.Unlock()
		o := d.run(t, append(d.verify(), "-o", "json")...)
		if o.code != 1 && o.code != 4 {
			t.Errorf("exit code %d: %s", o.code, o.stdout)
		}
	})
	t.Run("V23 the legacy form is a signature", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		b := d.jws().bytes()
		m := signatureManifest(d.subject, jwsType, b)
		m.ArtifactType, m.Config.MediaType = "", signatureType
		m.Config.Data = nil
		f.attachManifest(d.repo, d.subject, m, b)
		d.want(t, 0, "", d.verify()...)
	})

	// The thumbprint annotation is a hint: it never lets in, and never keeps out.
	thumbprints := func(certs ...*x509.Certificate) string {
		var out []string
		for _, c := range certs {
			out = append(out, fmt.Sprintf("%x", sha256.Sum256(c.Raw)))
		}
		b, _ := json.Marshal(out)
		return string(b)
	}
	t.Run("V24 thumbprints that lie", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		key, chain := certtest.ChainOf(3, "P-256")
		b := newJWS(key, chain, d.subject).bytes()
		m := signatureManifest(d.subject, jwsType, b)
		m.Annotations = map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": thumbprints(d.chain()...)}
		f.attachManifest(d.repo, d.subject, m, b)
		d.rejects(t, "root-not-trusted")
	})
	for name, value := range map[string]string{"absent": "", "malformed": "[", "of others": thumbprints(certtest.Root("x").Certificate), "not an array": `{"a":1}`} {
		t.Run("V25 thumbprints "+name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			b := d.jws().bytes()
			m := signatureManifest(d.subject, jwsType, b)
			if value != "" {
				m.Annotations = map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": value}
			}
			f.attachManifest(d.repo, d.subject, m, b)
			d.want(t, 0, "", d.verify()...)
		})
	}
	t.Run("V15 a referrer to us that signs another", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		other := f.putArtifact(d.repo, "other", image("other"))
		b := newJWS(d.key, d.chain(), other).bytes()
		f.attach(d.repo, other, jwsType, b)
		f.attach(d.repo, d.subject, jwsType, b)
		d.want(t, 0, "", "verify", f.Host+"/"+d.repo+":other", "--root", d.at("root.pem"))
		d.rejects(t, "payload-mismatch")
	})
}

// V26: no byte of a good envelope may be turned so that something else is accepted: what verifies still is the same signature.
func TestCasesVerifyFlip(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, mediaType := range []string{jwsType, coseType} {
		t.Run("V26 "+mediaType, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			good := d.jws().bytes()
			if mediaType == coseType {
				good = d.cose().bytes()
			}
			f.attach(d.repo, d.subject, mediaType, good)
			core := d.want(t, 0, "", d.verify()...).field(t, "signatures.0.core")
			if core == "" {
				t.Fatal("no core id")
			}
			// Every 7th byte through the whole command; package envelope turns every bit.
			for i := 0; i < len(good); i += 7 {
				b := bytes.Clone(good)
				b[i] ^= 1 << (i % 8)
				f.mu.Lock()
				delete(f.listed, d.repo+"@"+d.subject.Digest.String())
				f.mu.Unlock()
				f.attach(d.repo, d.subject, mediaType, b)
				o := d.run(t, append(d.verify(), "-o", "json")...)
				if o.code == 0 && o.field(t, "signatures.0.core") != core {
					t.Errorf("byte %d turned: another signature is accepted", i)
				}
				if o.code != 0 && o.code != 1 {
					t.Errorf("byte %d turned: exit code %d\n%s%s", i, o.code, o.stdout, o.stderr)
				}
			}
		})
	}
}
