package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCasesSignSubject(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	run := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(t, f, t.Name()))
		})
	}

	run("A10 the tag moves between resolving and signing", func(t *testing.T, d *desk) {
		first := d.subject
		// The key is used long after the reference was resolved: then the tag names something else.
		d.serve(&service{public: d.key.Public(), sign: func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
			f.putArtifact(d.repo, "v1", image("moved"))
			return derOf(ecdsaSign(d.key.(*ecdsa.PrivateKey), digestOf(message, opts))), nil
		}})
		o := d.want(t, 0, "", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
		if got := o.field(t, "digest"); got != first.Digest.String() {
			t.Errorf("signed %s, want the first %s", got, first.Digest)
		}
		if n := len(f.referrers(d.repo, first.Digest)); n != 1 {
			t.Errorf("%d signatures on the first", n)
		}
	})
	run("A10 tag and digest disagree", func(t *testing.T, d *desk) {
		d.ref += "@" + digest.FromString("another").String()
		f.put(d.repo, "", ocispec.MediaTypeImageManifest, []byte("another"))
		d.refused(t, 1, "tag-digest-mismatch", d.sign()...)
	})
	run("A11 the registry lies about a digest", func(t *testing.T, d *desk) {
		b := image("a lie").manifest
		f.mu.Lock()
		f.manifests[d.repo+":v1"] = served{ocispec.MediaTypeImageManifest, d.subject.Digest, b}
		f.manifests[d.repo+"@"+d.subject.Digest.String()] = served{ocispec.MediaTypeImageManifest, d.subject.Digest, b}
		f.mu.Unlock()
		d.refused(t, 4, "digest-mismatch", d.sign()...)
		d.ref = f.Host + "/" + d.repo + "@" + d.subject.Digest.String()
		d.refused(t, 4, "digest-mismatch", d.sign()...)
	})

	config := `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	imageType, indexType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	for name, c := range map[string]struct {
		mediaType, manifest string
		code                int
		reason              string
	}{
		"A12 image and index at once":        {imageType, `{"schemaVersion":2,"mediaType":"` + imageType + `","config":` + config + `,"layers":[],"manifests":[]}`, 1, "ambiguous-manifest"},
		"A12 index with layers":              {indexType, `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[],"layers":[]}`, 1, "ambiguous-manifest"},
		"A12 index with a config":            {indexType, `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[],"config":` + config + `}`, 1, "ambiguous-manifest"},
		"A12 served as another type":         {indexType, `{"schemaVersion":2,"mediaType":"` + imageType + `","config":` + config + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A14 two configs":                    {imageType, `{"schemaVersion":2,"config":` + config + `,"config":` + config + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A14 two layers":                     {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"layers":[]}`, 1, "ambiguous-manifest"},
		"A14 case variants":                  {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"Layers":[]}`, 1, "ambiguous-manifest"},
		"A14 two digests in a descriptor":    {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":2,"digest":"sha256:`+strings.Repeat("0", 64)+`"`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 negative size":                  {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":-2`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size with an exponent":          {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":1e3`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size with a fraction":           {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":2.0`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size as text":                   {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":"2"`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size beyond 64 bits":            {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":18446744073709551616`, 1) + `,"layers":[]}`, 1, "ambiguous-manifest"},
		"A15 size of 2^53+1 is kept":         {imageType, `{"schemaVersion":2,"config":` + strings.Replace(config, `"size":2`, `"size":9007199254740993`, 1) + `,"layers":[]}`, 0, ""},
		"A13 manifest of 4 MiB and one byte": {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"annotations":{"a":"` + strings.Repeat("a", 4<<20-len(`{"schemaVersion":2,"config":,"layers":[],"annotations":{"a":""}}`)-len(config)+1) + `"}}`, 4, "too-large"},
		"A13 manifest of 4 MiB to the byte":  {imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"annotations":{"a":"` + strings.Repeat("a", 4<<20-len(`{"schemaVersion":2,"config":,"layers":[],"annotations":{"a":""}}`)-len(config)) + `"}}`, 0, ""},
		"A13 a manifest that is no JSON":     {imageType, `<html>`, 4, "manifest-malformed"},
		"A13 JSON nested a hundred thousand": {imageType, strings.Repeat(`{"a":`, 100_000), 4, "manifest-malformed"},
	} {
		run(name, func(t *testing.T, d *desk) {
			d.subject = f.put(d.repo, "v1", c.mediaType, []byte(c.manifest))
			f.putBlob([]byte("{}"))
			if c.code == 0 {
				d.want(t, 0, "", d.sign()...)
				d.want(t, 0, "", "verify", d.ref, "--root", d.at("root.pem"))
				return
			}
			d.refused(t, c.code, c.reason, d.sign()...)
		})
	}
	run("A13 indexes nested 200 deep", func(t *testing.T, d *desk) {
		child := d.subject
		for range 200 {
			b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []any{child}})
			child = f.put(d.repo, "v1", indexType, b)
		}
		d.refused(t, 4, "too-large", d.sign("--recursive")...)
		// Not followed, it is an index like any other.
		d.want(t, 0, "", d.sign()...)
	})
	run("A13 an index that lists itself", func(t *testing.T, d *desk) {
		// Only a registry that lies can serve one: the child's digest is answered with the parent.
		child := describe(indexType, []byte("itself"))
		b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []any{child}})
		f.put(d.repo, "v1", indexType, b)
		f.mu.Lock()
		f.manifests[d.repo+"@"+child.Digest.String()] = served{indexType, child.Digest, b}
		f.mu.Unlock()
		d.refused(t, 4, "digest-mismatch", d.sign("--recursive")...)
	})
}
