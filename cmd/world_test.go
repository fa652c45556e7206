package cmd

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry"
)

// A world is a folder with a home, keys and chains in it, and the Env of runs there.
type world struct {
	t   *testing.T
	dir string
	env Env
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: dir}
	w.env = Env{
		In:        strings.NewReader(""),
		Environ:   []string{"HOME=" + w.path("home"), "DOCKER_CONFIG=" + w.path("docker")},
		Keys:      Providers(),
		Now:       time.Now,
		SystemDir: w.path("etc"),
	}
	w.mkdir("home")
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) mkdir(name string) string {
	w.t.Helper()
	if err := os.MkdirAll(w.path(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// file writes a file below the world's folder and returns its path.
func (w *world) file(name, text string) string {
	w.t.Helper()
	w.mkdir(filepath.Dir(name))
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// A told is how a run ended and what it said.
type told struct {
	code     int
	out, err string
}

func (w *world) run(args ...string) told { return w.runContext(context.Background(), args...) }

func (w *world) runContext(ctx context.Context, args ...string) told {
	var out, err bytes.Buffer
	env := w.env
	env.Out, env.Err = &out, &err
	code := Run(ctx, args, env)
	return told{code, out.String(), err.String()}
}

// want runs and checks the exit code.
func (w *world) want(code int, args ...string) told {
	w.t.Helper()
	got := w.run(args...)
	if got.code != code {
		w.t.Fatalf("imprint %s: exit %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got.code, code, got.out, got.err)
	}
	return got
}

// reason is the reason code of the error object in JSON output.
func (g told) reason(t *testing.T) string {
	t.Helper()
	for _, l := range strings.Split(strings.TrimSpace(g.out), "\n") {
		var line struct{ Kind, Reason string }
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatalf("not JSON: %q: %v", l, err)
		}
		if line.Kind == "error" {
			return line.Reason
		}
	}
	t.Fatalf("no error in %q", g.out)
	return ""
}

// setenv sets a variable of the runs.
func (w *world) setenv(name, value string) { w.env.Environ = append(w.env.Environ, name+"="+value) }

// keys writes leaf.key, chain.pem and root.pem of a chain of three.
func (w *world) keys(edits ...certtest.Edit) []*x509.Certificate {
	w.t.Helper()
	key, chain := certtest.ChainOf(3, "P-256", edits...)
	w.file("leaf.key", string(certtest.KeyPEM(key)))
	w.file("chain.pem", string(certtest.PEM(chain...)))
	w.file("root.pem", string(certtest.PEM(chain[2])))
	return chain
}

// image puts an image into a layout under tags and returns its digest.
func (w *world) image(layout, seed string, tags ...string) digest.Digest {
	w.t.Helper()
	ctx := context.Background()
	c, err := registry.NewClient(registry.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	repo, err := c.Create(ctx, registry.Reference{Kind: registry.Layout, Path: w.path(layout)}, registry.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer repo.Close()
	push := func(mediaType, text string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
		if err := repo.PushBytes(ctx, d, []byte(text)); err != nil {
			w.t.Fatal(err)
		}
		return d
	}
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    push(ocispec.MediaTypeImageConfig, `{"os":"linux","architecture":"amd64"}`),
		Layers:    []ocispec.Descriptor{push(ocispec.MediaTypeImageLayer, "layer of "+seed)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m := registry.NewManifest(ocispec.MediaTypeImageManifest, b)
	if err := repo.PushManifest(ctx, m); err != nil {
		w.t.Fatal(err)
	}
	for _, tag := range tags {
		if err := repo.Tag(ctx, m, tag); err != nil {
			w.t.Fatal(err)
		}
	}
	return m.Descriptor.Digest
}

// sign is the command line that signs ref with the world's key.
func (w *world) sign(ref string, more ...string) []string {
	return append([]string{"sign", ref, "--key", w.path("leaf.key"), "--chain", w.path("chain.pem")}, more...)
}

// tree is every file below a folder with its content, to see that nothing was written.
func (w *world) tree(name string) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(w.path(name), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return out
}

func lines(s string) []string {
	return slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return l == "" })
}
