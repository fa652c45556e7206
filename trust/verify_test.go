package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A shelf is a repository with an artifact in it.
type shelf struct {
	t    *testing.T
	repo *registry.Repo
	root registry.Manifest
}

// place puts an artifact's manifest at ref.
func place(t *testing.T, at registry.Reference, m registry.Manifest) *shelf {
	t.Helper()
	client, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := client.Create(t.Context(), at, registry.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = repo.Close() })
	s := &shelf{t, repo, m}
	s.blob(ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON.Data)
	if err := repo.PushManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if at.Tag != "" {
		if err := repo.Tag(t.Context(), m, at.Tag); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *shelf) blob(d ocispec.Descriptor, b []byte) {
	s.t.Helper()
	if err := s.repo.PushBytes(s.t.Context(), d, b); err != nil {
		s.t.Fatal(err)
	}
}

// sign attaches a signature of the artifact and returns its manifest.
func (s *shelf) sign(by *signatory, o signing) registry.Manifest {
	s.t.Helper()
	if o.payload == nil {
		p := payloadOf(s.root.Descriptor)
		o.payload = &p
	}
	sig := by.sign(s.t, o)
	m := registry.ByArtifactType.Manifest(s.root.Descriptor, sig.MediaType, sig.Envelope, map[string]string{ocispec.AnnotationCreated: time.Now().UTC().Format(time.RFC3339)})
	if err := s.repo.PushSignature(s.t.Context(), s.root.Descriptor, m, sig.Envelope); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// attach attaches any manifest whose blobs are there.
func (s *shelf) attach(m registry.Manifest) {
	s.t.Helper()
	if err := s.repo.Attach(s.t.Context(), s.root.Descriptor, m); err != nil {
		s.t.Fatal(err)
	}
}

// signature edits what a signature's manifest is, and encodes it.
func (s *shelf) signature(envelope []byte, edit func(*ocispec.Manifest)) registry.Manifest {
	s.t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(registry.ByArtifactType.Manifest(s.root.Descriptor, "application/jose+json", envelope, nil).Bytes, &m); err != nil {
		s.t.Fatal(err)
	}
	edit(&m)
	return registry.NewManifest(ocispec.MediaTypeImageManifest, must(json.Marshal(m)))
}

func image(name string) registry.Manifest {
	return registry.NewManifest(ocispec.MediaTypeImageManifest, must(json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example",
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{ocispec.DescriptorEmptyJSON}, Annotations: map[string]string{"name": name},
	})))
}

func (s *shelf) verify(reference registry.Reference, p *Policy, as string) (Report, error) {
	s.t.Helper()
	o := Options{Now: time.Now()}
	if as != "" {
		o.As = ref(s.t, as)
	}
	r, m, err := Verify(s.t.Context(), s.repo, reference, p, o)
	if err == nil && m.Descriptor.Digest != s.root.Descriptor.Digest {
		s.t.Errorf("judged %s, returned %s", s.root.Descriptor.Digest, m.Descriptor.Digest)
	}
	return r, err
}

// everywhere runs test at a registry with the referrers API, at one without, and at a layout. at returns a new
// reference NAME for a repository.
func everywhere(t *testing.T, test func(t *testing.T, at func(name string) registry.Reference)) {
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			test(t, func(name string) registry.Reference { return ref(t, s.Host+"/team/"+name) })
		})
	}
	t.Run("layout", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		test(t, func(name string) registry.Reference {
			repo, tag, _ := strings.Cut(name, ":")
			return registry.Reference{Kind: registry.Layout, Path: filepath.Join(dir, repo), Tag: tag}
		})
	})
}

func TestVerify(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, at func(string) registry.Reference) {
		release, other := newSignatory("release"), newSignatory("other")
		p := oneRoot(t, release)
		where := at("app:1.0")
		s := place(t, where, image("app"))

		r, err := s.verify(where, p, "")
		if err != nil {
			t.Fatal(err)
		}
		wantReport(t, r, Rejected, codeUnsigned)

		s.sign(other, signing{})
		if r, err = s.verify(where, p, ""); err != nil {
			t.Fatal(err)
		}
		wantReport(t, r, Rejected, codeNoTrusted)

		s.sign(release, signing{claims: []string{"1.0"}})
		if r, err = s.verify(where, p, ""); err != nil {
			t.Fatal(err)
		}
		wantReport(t, r, Accepted, "")
		if len(r.Signatures) != 2 || r.Reference != where.String() || r.JudgedAs != "" || r.Digest != s.root.Descriptor.Digest {
			t.Errorf("got %+v", r)
		}

		if err := s.repo.Tag(t.Context(), s.root, "2.0"); err != nil {
			t.Fatal(err)
		}
		if r, err = s.verify(where.With("2.0", ""), p, ""); err != nil {
			t.Fatal(err)
		}
		wantReport(t, r, Rejected, codeNotCovered)
		if want := `claims 1.0, not "2.0"`; r.Detail != want {
			t.Errorf("got %q, want %q", r.Detail, want)
		}
		if r, err = s.verify(where.With("", s.root.Descriptor.Digest), p, ""); err != nil {
			t.Fatal(err)
		}
		wantReport(t, r, Accepted, "")

		if _, err := s.verify(where.With("3.0", ""), p, ""); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("got %v, want not found", err)
		}
		if _, err := s.verify(where.With("1.0", image("another").Descriptor.Digest), p, ""); !errors.Is(err, registry.ErrTagMismatch) {
			t.Errorf("got %v, want a mismatch", err)
		}
	})
}

// What stands around a good signature does not hide it, and each is reported with its reason.
func TestV23HostileReferrers(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, at func(string) registry.Reference) {
		release := newSignatory("release")
		p := oneRoot(t, release)
		// What a referrer of another artifact's is stays in that artifact's list; what claims to be one of ours is
		// what counts here.
		other := payloadOf(describe("another"))
		jws := release.sign(t, signing{payload: &other}).Envelope
		empty := ocispec.DescriptorEmptyJSON
		for i, row := range []struct {
			name string
			edit func(*ocispec.Manifest)
			code string // "": it is no signature, and not reported
		}{
			{"V23 no layer", func(m *ocispec.Manifest) { m.Layers = []ocispec.Descriptor{} }, codeMalformed},
			{"V23 two layers", func(m *ocispec.Manifest) { m.Layers = append(m.Layers, empty) }, codeMalformed},
			{"V23 data that is not the digest's", func(m *ocispec.Manifest) { m.Layers[0].Data = []byte(strings.Repeat("x", len(jws))) }, codeMalformed},
			{"V23 envelope said to be huge", func(m *ocispec.Manifest) { m.Layers[0].Size, m.Layers[0].Data = envelope.MaxBytes+1, nil }, codeMalformed},
			{"V23 huge annotations", func(m *ocispec.Manifest) {
				m.Annotations = map[string]string{registry.AnnotationThumbprint: strings.Repeat("x", 1<<20)}
			}, codePayload},
			{"V22 unknown layer", func(m *ocispec.Manifest) { m.Layers[0].MediaType = "application/octet-stream" }, "format-mismatch"},
			{"V22 other format", func(m *ocispec.Manifest) { m.Layers[0].MediaType = string(envelope.COSE) }, ""},
			{"V15 for another artifact", func(m *ocispec.Manifest) {}, codePayload},
		} {
			t.Run(row.name, func(t *testing.T) {
				where := at(fmt.Sprintf("hostile%d:1", i))
				s := place(t, where, image(row.name))
				s.blob(ocispec.Descriptor{MediaType: string(envelope.JWS), Digest: digest.FromBytes(jws), Size: int64(len(jws))}, jws)
				bad := s.signature(jws, row.edit)
				s.attach(bad)
				r, err := s.verify(where, p, "")
				if err != nil {
					t.Fatal(err)
				}
				if r.Passed() || r.Verdict != Rejected || len(r.Signatures) != 1 {
					t.Fatalf("got %s %s, %+v", r.Verdict, r.Reason, r.Signatures)
				}
				if got := r.Signatures[0]; got.Digest != bad.Descriptor.Digest || row.code != "" && got.Reason != row.code || got.Detail == "" {
					t.Errorf("got %s: %s, want %s", got.Reason, got.Detail, row.code)
				}
				good := s.sign(release, signing{})
				if r, err = s.verify(where, p, ""); err != nil {
					t.Fatal(err)
				}
				wantReport(t, r, Accepted, "")
				if len(r.Signatures) != 2 {
					t.Errorf("%d signatures reported", len(r.Signatures))
				}
				for _, j := range r.Signatures {
					if j.Accepted != (j.Digest == good.Descriptor.Digest) {
						t.Errorf("%s accepted: %v", j.Digest, j.Accepted)
					}
				}
			})
		}
	})
}

func TestVerifyUnfetched(t *testing.T) {
	t.Parallel()
	release := newSignatory("release")
	server := regtest.New(t, regtest.WithAPI)
	where := ref(t, server.Host+"/team/app:1")
	s := place(t, where, image("app"))
	gone := s.sign(release, signing{claims: []string{"1"}})
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/"+gone.Descriptor.Digest.String()) {
			http.Error(w, "{}", http.StatusNotFound)
			return true
		}
		return false
	})
	r, err := s.verify(where, oneRoot(t, release), "")
	if err != nil {
		t.Fatal(err)
	}
	wantReport(t, r, Undetermined, codeUnfetched)
	s.sign(release, signing{})
	if r, err = s.verify(where, oneRoot(t, release), ""); err != nil {
		t.Fatal(err)
	}
	wantReport(t, r, Accepted, "")

	// A listing that fails is no verdict, unless no signature could change it.
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") || strings.Contains(r.URL.Path, "/manifests/sha256-") {
			http.Error(w, "{}", http.StatusForbidden)
			return true
		}
		return false
	})
	if r, err = s.verify(where, oneRoot(t, release), ""); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("got %s, %v", r.Verdict, err)
	}
	by := map[string]*signatory{"root": release}
	for scopes, reason := range map[string]string{
		"scopes: {r.example: [root]}\n":                            codeNoScope,
		fmt.Sprintf("scopes: {%q: {reject: true}}\n", server.Host): codeRejected,
	} {
		if r, err = s.verify(where, rooted(t, by, scopes), ""); err != nil {
			t.Fatal(err)
		}
		wantReport(t, r, Rejected, reason)
	}
}

func TestV30IndexAndChild(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, at func(string) registry.Reference) {
		release := newSignatory("release")
		p := oneRoot(t, release)
		child := image("child")
		entry := child.Descriptor
		entry.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
		index := registry.NewManifest(ocispec.MediaTypeImageIndex, must(json.Marshal(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{entry},
		})))
		where := at("app:1")
		children := place(t, where.Repository(), child)
		s := place(t, where, index)

		t.Run("V30 only the child is signed", func(t *testing.T) {
			children.sign(release, signing{})
			r, err := s.verify(where, p, "")
			if err != nil {
				t.Fatal(err)
			}
			wantReport(t, r, Rejected, codeUnsigned)
			if !strings.Contains(r.Detail, child.Descriptor.Digest.String()) || !strings.Contains(r.Detail, "linux/arm64") {
				t.Errorf("%q does not name the child", r.Detail)
			}
			r, err = children.verify(where.With("", child.Descriptor.Digest), p, "")
			if err != nil {
				t.Fatal(err)
			}
			wantReport(t, r, Accepted, "")
		})
		t.Run("V30 the child's signature at the index", func(t *testing.T) {
			payload := payloadOf(child.Descriptor)
			s.sign(release, signing{payload: &payload})
			r, err := s.verify(where, p, "")
			if err != nil {
				t.Fatal(err)
			}
			wantReport(t, r, Rejected, codePayload)
			if !strings.Contains(r.Detail, child.Descriptor.Digest.String()) || !strings.Contains(r.Detail, "linux/arm64") {
				t.Errorf("%q does not name the child", r.Detail)
			}
		})
		t.Run("V30 only the index is signed", func(t *testing.T) {
			alone := at("alone:1")
			only := place(t, alone.Repository(), image("alone child"))
			payload := payloadOf(index.Descriptor)
			r, err := only.verify(alone.With("", only.root.Descriptor.Digest), p, "")
			if err != nil {
				t.Fatal(err)
			}
			wantReport(t, r, Rejected, codeUnsigned)
			only.sign(release, signing{payload: &payload})
			if r, err = only.verify(alone.With("", only.root.Descriptor.Digest), p, ""); err != nil {
				t.Fatal(err)
			}
			wantReport(t, r, Rejected, codePayload)
			if r.Digest != only.root.Descriptor.Digest || !strings.Contains(r.Detail, index.Descriptor.Digest.String()) {
				t.Errorf("%q does not name the index", r.Detail)
			}
		})
	})
}

// In a layout, the name says where it belongs, or --as does.
func TestVerifyAs(t *testing.T) {
	t.Parallel()
	release := newSignatory("release")
	policy := rooted(t, map[string]*signatory{"root": release}, "scopes: {harbor.example/db: {trust: [root], claims: tag}}\n")
	dir := t.TempDir()
	layout := func(name string) registry.Reference {
		return registry.Reference{Kind: registry.Layout, Path: filepath.Join(dir, "layout"), Tag: name}
	}
	s := place(t, layout("16.4"), image("db"))
	full := "harbor.example/db:16.4"
	if err := s.repo.Tag(t.Context(), s.root, full); err != nil {
		t.Fatal(err)
	}
	s.sign(release, signing{claims: []string{"16.4"}})
	for _, row := range []struct {
		name, as string
		single   bool
		judgedAs string
		verdict  string
		reason   string
	}{
		{"16.4", "", true, "", Accepted, ""},
		{"16.4", "", false, "", "", codeAsRequired},
		{full, "", false, full, Accepted, ""},
		{full, "", true, full, Accepted, ""},
		{"16.4", "harbor.example/db", false, full, Accepted, ""},
		{"16.4", "harbor.example/db:17", false, "harbor.example/db:17", Rejected, codeNotCovered},
		{full, "harbor.example/db:17", false, "harbor.example/db:17", Rejected, codeNotCovered},
		{full, "quay.io/x/db", false, "quay.io/x/db:16.4", Rejected, codeNoScope},
		{"16.4", "harbor.example/db:17", true, "harbor.example/db:17", Rejected, codeNotCovered},
		{"16.4", "harbor.example/db@" + artifact.Digest.String(), false, "", "", codeAsInvalid},
		{"16.4", "oci:elsewhere:1", false, "", "", codeAsInvalid},
	} {
		p := policy
		if row.single {
			p = oneRoot(t, release)
		}
		r, err := s.verify(layout(row.name), p, row.as)
		if row.verdict == "" {
			if !errors.Is(err, ErrAs) || reasonOf(err, "") != row.reason {
				t.Errorf("%s as %q: got %v, want %s", row.name, row.as, err, row.reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s as %q: %v", row.name, row.as, err)
			continue
		}
		if r.Verdict != row.verdict || r.Reason != row.reason || r.JudgedAs != row.judgedAs {
			t.Errorf("%s as %q: got %s %q as %q, want %s %q as %q", row.name, row.as, r.Verdict, r.Reason, r.JudgedAs, row.verdict, row.reason, row.judgedAs)
		}
	}
}

func TestVerifyRoundTrips(t *testing.T) {
	t.Parallel()
	release := newSignatory("release")
	server := regtest.New(t, regtest.WithAPI)
	for _, row := range []struct {
		name    string
		foreign bool
		trips   int
	}{{"ours", false, 3}, {"foreign", true, 4}} {
		where := ref(t, server.Host+"/team/"+row.name+":1")
		s := place(t, where, image(row.name))
		for range 3 {
			s.sign(release, signing{})
		}
		if row.foreign {
			payload := payloadOf(s.root.Descriptor)
			jws := release.sign(t, signing{payload: &payload}).Envelope
			s.blob(ocispec.Descriptor{MediaType: string(envelope.JWS), Digest: digest.FromBytes(jws), Size: int64(len(jws))}, jws)
			s.attach(s.signature(jws, func(m *ocispec.Manifest) { m.Layers[0].Data = nil }))
		}
		client, err := registry.NewClient(registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		repo, err := client.Open(t.Context(), where)
		if err != nil {
			t.Fatal(err)
		}
		server.Reset()
		server.Latency(30 * time.Millisecond)
		r, _, err := Verify(t.Context(), repo, where, oneRoot(t, release), Options{Now: time.Now()})
		server.Latency(0)
		if err != nil {
			t.Fatal(err)
		}
		wantReport(t, r, Accepted, "")
		if got := server.RoundTrips(); got != row.trips {
			t.Errorf("%s: %d round trips in a row, want %d", row.name, got, row.trips)
		}
		if want := 2 + len(r.Signatures) + row.trips - 3; server.Count(nil) != want {
			t.Errorf("%s: %d requests, want %d", row.name, server.Count(nil), want)
		}
	}
}
