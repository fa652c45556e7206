package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A stock is signed artifacts whose intermediate is renewed, as they are put into repositories: two signatures each, of two
// keys, one JWS and one COSE.
type stock struct {
	images     []registry.Manifest
	signatures [][]registry.Signature // of each image
	renewed    []byte                 // PEM of the new intermediate
}

func newStock(t testing.TB, n int) *stock {
	t.Helper()
	now := time.Now()
	root := certtest.Root("Acme Root", certtest.Valid(now.Add(-1000*time.Hour), now.Add(3000*24*time.Hour)))
	old := root.Intermediate("Acme CA 3", certtest.Valid(now.Add(-900*time.Hour), now.Add(20*24*time.Hour)))
	renewed := root.IntermediateWith(old.Key, "Acme CA 3", certtest.Valid(now.Add(-time.Hour), now.Add(900*24*time.Hour)))
	s := &stock{renewed: certtest.PEM(renewed.Certificate)}
	release, payments := certtest.Key("P-256"), certtest.Key("P-256")
	leaf := certtest.Valid(now.Add(-800*time.Hour), now.Add(400*24*time.Hour))
	ours := old.Chain(old.Leaf(release.Public(), "release", leaf))
	theirs := old.Chain(old.Leaf(payments.Public(), "payments", leaf))
	for i := range n {
		b, err := json.Marshal(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"n": strconv.Itoa(i)},
		})
		if err != nil {
			t.Fatal(err)
		}
		m := registry.NewManifest(ocispec.MediaTypeImageManifest, b)
		s.images = append(s.images, m)
		payload := envelope.Payload{MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size}
		o := envelope.Options{SigningTime: now.Add(-24 * time.Hour), Agent: "somebody/1"}
		first, err := envelope.Sign(t.Context(), envelope.JWS, payload, kmstest.Key(release), ours, o)
		if err != nil {
			t.Fatal(err)
		}
		second, err := envelope.Sign(t.Context(), envelope.COSE, payload, kmstest.Key(payments), theirs, o)
		if err != nil {
			t.Fatal(err)
		}
		s.signatures = append(s.signatures, []registry.Signature{
			{MediaType: string(envelope.JWS), Envelope: first.Bytes()}, {MediaType: string(envelope.COSE), Envelope: second.Bytes()},
		})
	}
	return s
}

// store puts the first n artifacts into a repository, each with a tag.
func (s *stock) store(t testing.TB, server *regtest.Server, path string, n int) *registry.Repo {
	t.Helper()
	c, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := c.Open(t.Context(), registry.Reference{Kind: registry.Remote, Host: server.Host, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.PushBytes(t.Context(), ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON.Data); err != nil {
		t.Fatal(err)
	}
	slots := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i, m := range s.images[:n] {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := repo.PushManifest(t.Context(), m)
			if err == nil {
				err = repo.Tag(t.Context(), m, fmt.Sprint("v", i))
			}
			var manifests []registry.Manifest
			for _, sig := range s.signatures[i] {
				if err == nil {
					b := sig.Envelope
					err = repo.PushBytes(t.Context(), ocispec.Descriptor{MediaType: sig.MediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}, b)
				}
				manifests = append(manifests, registry.ByArtifactType.Manifest(m.Descriptor, sig.MediaType, sig.Envelope, nil))
			}
			if err == nil {
				err = repo.Attach(t.Context(), m.Descriptor, manifests...)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return repo
}

// listedIn is what refers to what in a repository: lines of subject and referrer.
func listedIn(t testing.TB, repo *registry.Repo) []string {
	t.Helper()
	var mu sync.Mutex
	var out []string
	err := repo.Walk(t.Context(), registry.WalkOptions{}, func(_ context.Context, v registry.Visit) error {
		mu.Lock()
		defer mu.Unlock()
		if v.Err != nil {
			return v.Err
		}
		for _, r := range v.Referrers {
			out = append(out, fmt.Sprint(v.Subject.Digest, " ", r.Digest))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// TestRechainAllKilledOnTheWay: a run over all that is killed three times, wherever it was, ends as one that nobody disturbed:
// with the same digests.
func TestRechainAllKilledOnTheWay(t *testing.T) {
	t.Parallel()
	imprint, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		kind      regtest.Kind
		artifacts int
		jobs      string // of few artifacts not all at once, else a kill finds nothing done
	}{{regtest.WithAPI, 60, "8"}, {regtest.WithoutAPI, 20, "2"}} {
		t.Run(string(tt.kind), func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, tt.kind)
			s := newStock(t, tt.artifacts)
			calm, killed := s.store(t, server, "calm", tt.artifacts), s.store(t, server, "killed", tt.artifacts)
			before := listedIn(t, killed)
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "renewed.pem"), s.renewed, 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(repo string, killAt int) (code int, said string, requests int) {
				c := exec.CommandContext(t.Context(), imprint, "rechain", "--all", server.Host+"/"+repo, "--chain", "renewed.pem", "--jobs", tt.jobs, "-o", "json")
				c.Dir = dir
				c.Env = []string{"HOME=" + dir, "GORACE=" + quickExit}
				var out strings.Builder
				c.Stdout, c.Stderr = &out, &out
				var mu sync.Mutex
				asked := 0
				started := make(chan struct{})
				server.Intercept(func(http.ResponseWriter, *http.Request) bool {
					<-started
					mu.Lock()
					defer mu.Unlock()
					if asked++; asked == killAt {
						_ = c.Process.Kill()
					}
					return false
				})
				defer server.Intercept(nil)
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				close(started)
				_ = c.Wait()
				mu.Lock()
				defer mu.Unlock()
				return c.ProcessState.ExitCode(), out.String(), asked
			}

			code, said, total := run("calm", 0)
			if code != 0 {
				t.Fatalf("exit %d\n%s", code, said)
			}
			want := listedIn(t, calm)
			if len(want) != 4*tt.artifacts {
				t.Fatalf("%d signatures are listed after the run, want %d\n%s", len(want), 4*tt.artifacts, said)
			}
			grown := len(before)
			for range 3 {
				at := total/10 + rand.IntN(total/5)
				code, said, asked := run("killed", at)
				if code != -1 {
					t.Fatalf("it was to be killed at request %d of %d and ended with %d at %d\n%s", at, total, code, asked, said)
				}
				now := listedIn(t, killed)
				for _, line := range before {
					if !slices.Contains(now, line) {
						t.Errorf("killed at request %d: %s is not listed any more", at, line)
					}
				}
				grown = len(now)
			}
			if grown == len(before) || grown == len(want) {
				t.Errorf("after three kills %d signatures are listed, of %d to %d: the kills came too soon or too late to tell anything", grown, len(before), len(want))
			}
			if code, said, _ := run("killed", 0); code != 0 {
				t.Fatalf("the last run: exit %d\n%s", code, said)
			}
			if diff := cmp.Diff(want, listedIn(t, killed)); diff != "" {
				t.Errorf("what is listed (-undisturbed +killed):\n%s", diff)
			}
		})
	}
}
