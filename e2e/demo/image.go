package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"
)

// platforms of the image.
var platforms = []string{"amd64", "arm64"}

const spdx = "application/spdx+json"

// build builds imprint for this machine, as dir/imprint, and for the image's platforms; it returns these by architecture.
func build(ctx context.Context, dir string) (map[string]string, error) {
	binaries := map[string]string{}
	compile := func(file string, env ...string) error {
		c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "github.com/imprint-oci/imprint/cmd/imprint")
		c.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
		c.Stderr = os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("go build: %w", err)
		}
		return nil
	}
	if err := compile(filepath.Join(dir, "imprint")); err != nil {
		return nil, err
	}
	for _, arch := range platforms {
		binaries[arch] = filepath.Join(dir, "imprint-linux-"+arch)
		if err := compile(binaries[arch], "GOOS=linux", "GOARCH="+arch); err != nil {
			return nil, err
		}
	}
	return binaries, nil
}

// makeImage writes an OCI layout with an image of the binaries for each platform, an SBOM that refers to each, and
// their index under tag.
func makeImage(dir, tag string, binaries map[string]string) error {
	ctx := context.Background()
	layout, err := oci.New(dir)
	if err != nil {
		return err
	}
	put := func(mediaType string, b []byte) (ocispec.Descriptor, error) {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
		if there, err := layout.Exists(ctx, d); there || err != nil {
			return d, err
		}
		return d, layout.Push(ctx, d, bytes.NewReader(b))
	}
	putJSON := func(mediaType string, v any) (ocispec.Descriptor, error) {
		b, err := json.Marshal(v)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return put(mediaType, b)
	}
	v2 := specs.Versioned{SchemaVersion: 2}
	index := ocispec.Index{Versioned: v2, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range platforms {
		binary, err := os.ReadFile(binaries[arch])
		if err != nil {
			return err
		}
		layer, contents, err := layerOf(binary)
		if err != nil {
			return err
		}
		l, err := put(ocispec.MediaTypeImageLayerGzip, layer)
		if err != nil {
			return err
		}
		platform := ocispec.Platform{OS: "linux", Architecture: arch}
		c, err := putJSON(ocispec.MediaTypeImageConfig, ocispec.Image{
			Platform: platform, Config: ocispec.ImageConfig{Entrypoint: []string{"/usr/local/bin/imprint"}},
			RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(contents)}},
		})
		if err != nil {
			return err
		}
		m, err := putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: v2, MediaType: ocispec.MediaTypeImageManifest, Config: c, Layers: []ocispec.Descriptor{l},
		})
		if err != nil {
			return err
		}
		bill, err := sbom(binaries[arch], arch)
		if err != nil {
			return err
		}
		b, err := put(spdx, bill)
		if err != nil {
			return err
		}
		empty, err := put(ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data)
		if err != nil {
			return err
		}
		if _, err := putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: v2, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: spdx, Config: empty, Layers: []ocispec.Descriptor{b}, Subject: &m,
		}); err != nil {
			return err
		}
		m.Platform = &platform
		index.Manifests = append(index.Manifests, m)
	}
	i, err := putJSON(ocispec.MediaTypeImageIndex, index)
	if err != nil {
		return err
	}
	return layout.Tag(ctx, i, tag)
}

// layerOf packs a binary as the one file of a layer; it returns the layer, and its contents before compression.
func layerOf(binary []byte) (layer, contents []byte, err error) {
	var t, z bytes.Buffer
	w := tar.NewWriter(&t)
	for _, d := range []string{"usr/", "usr/local/", "usr/local/bin/"} {
		if err := w.WriteHeader(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return nil, nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "usr/local/bin/imprint", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(binary))}); err != nil {
		return nil, nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, nil, err
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	g, err := gzip.NewWriterLevel(&z, gzip.BestSpeed)
	if err != nil {
		return nil, nil, err
	}
	if _, err := g.Write(t.Bytes()); err != nil {
		return nil, nil, err
	}
	if err := g.Close(); err != nil {
		return nil, nil, err
	}
	return z.Bytes(), t.Bytes(), nil
}

// sbom writes an SPDX document of what Go says went into a binary.
func sbom(binary, arch string) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	type pkg struct {
		ID       string `json:"SPDXID"`
		Name     string `json:"name"`
		Version  string `json:"versionInfo"`
		Location string `json:"downloadLocation"`
	}
	packages := []pkg{{"SPDXRef-imprint", info.Main.Path, info.Main.Version, "NOASSERTION"}, {"SPDXRef-go", "go", info.GoVersion, "https://go.dev"}}
	for i, m := range info.Deps {
		packages = append(packages, pkg{fmt.Sprintf("SPDXRef-%d", i), m.Path, m.Version, "https://" + m.Path})
	}
	slices.SortFunc(packages, func(a, b pkg) int { return strings.Compare(a.Name, b.Name) })
	return json.Marshal(map[string]any{
		"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "dataLicense": "CC0-1.0", "name": "imprint for linux/" + arch,
		"documentNamespace": "https://imprint.example/sbom/" + arch,
		"creationInfo":      map[string]any{"created": "2026-01-01T00:00:00Z", "creators": []string{"Tool: imprint-demo"}},
		"packages":          packages,
	})
}
