package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry/regtest"
)

// A fake is a registry that stores and serves whatever it is told to, right or wrong. Blobs are shared by all its repositories.
type fake struct {
	*regtest.Server

	mu        sync.Mutex
	manifests map[string]served // by repo + "@" + digest and repo + ":" + tag
	blobs     map[digest.Digest][]byte
	listed    map[string][]ocispec.Descriptor // referrers, by repo + "@" + subject, in the order they came
	noAPI     bool                            // no referrers API
	noDelete  int                             // the status that DELETE answers; 0: it deletes
}

type served struct {
	mediaType string
	digest    digest.Digest
	b         []byte
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{manifests: map[string]served{}, blobs: map[digest.Digest][]byte{}, listed: map[string][]ocispec.Descriptor{}}
	f.Server = regtest.Serve(t, f)
	return f
}

// put stores a manifest without looking at it, under its digest and tag.
func (f *fake) put(repo, tag, mediaType string, b []byte) ocispec.Descriptor {
	d := describe(mediaType, b)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := served{mediaType, d.Digest, b}
	f.manifests[repo+"@"+d.Digest.String()] = s
	if tag != "" {
		f.manifests[repo+":"+tag] = s
	}
	return d
}

// putBlob stores a blob.
func (f *fake) putBlob(b []byte) digest.Digest {
	d := digest.FromBytes(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[d] = b
	return d
}

// putArtifact stores an artifact with its children and referrers.
func (f *fake) putArtifact(repo, tag string, a artifact) ocispec.Descriptor {
	for _, b := range a.blobs {
		f.putBlob(b.b)
	}
	for _, c := range a.children {
		f.putArtifact(repo, "", c)
	}
	d := f.put(repo, tag, a.descriptor.MediaType, a.manifest)
	for _, r := range a.referrers {
		entry := f.putArtifact(repo, "", r)
		entry.ArtifactType = spdxType
		f.list(repo, d.Digest, entry)
	}
	return d
}

// list adds an entry to a subject's list of referrers.
func (f *fake) list(repo string, subject digest.Digest, d ocispec.Descriptor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := repo + "@" + subject.String()
	if !slices.ContainsFunc(f.listed[key], func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
		f.listed[key] = append(f.listed[key], d)
	}
}

// referrers returns what is listed.
func (f *fake) referrers(repo string, subject digest.Digest) []ocispec.Descriptor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.listed[repo+"@"+subject.String()])
}

// attach stores an envelope with a signature manifest as stock signers write it, and lists it.
func (f *fake) attach(repo string, subject ocispec.Descriptor, mediaType string, envelope []byte) ocispec.Descriptor {
	return f.attachManifest(repo, subject, signatureManifest(subject, mediaType, envelope), envelope)
}

// attachManifest is attach with a manifest that may be wrong.
func (f *fake) attachManifest(repo string, subject ocispec.Descriptor, m any, envelope []byte) ocispec.Descriptor {
	f.putBlob(envelope)
	f.putBlob([]byte("{}"))
	b, ok := m.([]byte)
	if !ok {
		b, _ = json.Marshal(m)
	}
	d := f.put(repo, "", ocispec.MediaTypeImageManifest, b)
	d.ArtifactType = signatureType
	f.list(repo, subject.Digest, d)
	return d
}

const signatureType = "application/vnd.cncf.notary.signature"

// signatureManifest is the manifest that notation writes, without annotations.
func signatureManifest(subject ocispec.Descriptor, mediaType string, envelope []byte) ocispec.Manifest {
	subject = ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: signatureType,
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{describe(mediaType, envelope)}, Subject: &subject,
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if path == "" {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, kind := range []string{"/manifests/", "/blobs/uploads/", "/blobs/", "/referrers/", "/tags/list"} {
		i := strings.LastIndex(path, kind)
		if i < 0 {
			continue
		}
		repo, name := path[:i], path[i+len(kind):]
		switch kind {
		case "/manifests/":
			f.manifest(w, r, repo, name, body)
		case "/blobs/uploads/":
			f.upload(w, r, repo, body)
		case "/blobs/":
			f.blob(w, r, digest.Digest(name))
		case "/referrers/":
			f.listing(w, repo, name)
		case "/tags/list":
			writeJSON(w, "application/json", map[string]any{"name": repo, "tags": f.tags(repo)})
		}
		return
	}
	http.NotFound(w, r)
}

func (f *fake) tags(repo string) []string {
	var tags []string
	for key := range f.manifests {
		if tag, ok := strings.CutPrefix(key, repo+":"); ok {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

func (f *fake) manifest(w http.ResponseWriter, r *http.Request, repo, name string, body []byte) {
	key := repo + ":" + name
	if strings.Contains(name, ":") {
		key = repo + "@" + name
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		m, ok := f.manifests[key]
		if !ok {
			failure(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Docker-Content-Digest", m.digest.String())
		w.Header().Set("Content-Length", strconv.Itoa(len(m.b)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(m.b)
		}
	case http.MethodPut:
		s := served{r.Header.Get("Content-Type"), digest.FromBytes(body), body}
		f.manifests[key] = s
		f.manifests[repo+"@"+s.digest.String()] = s
		var m ocispec.Manifest
		if json.Unmarshal(body, &m) == nil && m.Subject != nil && !f.noAPI {
			entry := describe(s.mediaType, body)
			if entry.ArtifactType = m.ArtifactType; entry.ArtifactType == "" {
				entry.ArtifactType = m.Config.MediaType
			}
			entry.Annotations = m.Annotations
			at := repo + "@" + m.Subject.Digest.String()
			if !slices.ContainsFunc(f.listed[at], func(o ocispec.Descriptor) bool { return o.Digest == entry.Digest }) {
				f.listed[at] = append(f.listed[at], entry)
			}
			w.Header().Set("OCI-Subject", m.Subject.Digest.String())
		}
		w.Header().Set("Docker-Content-Digest", s.digest.String())
		w.Header().Set("Location", r.URL.Path)
		w.WriteHeader(http.StatusCreated)
	case http.MethodDelete:
		if f.noDelete != 0 {
			failure(w, f.noDelete, "UNSUPPORTED")
			return
		}
		if _, ok := f.manifests[key]; !ok {
			failure(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		delete(f.manifests, key)
		for at, l := range f.listed {
			f.listed[at] = slices.DeleteFunc(l, func(o ocispec.Descriptor) bool { return o.Digest.String() == name })
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		failure(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
}

func (f *fake) upload(w http.ResponseWriter, r *http.Request, repo string, body []byte) {
	d := r.URL.Query().Get("digest")
	if d == "" {
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/one")
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if digest.FromBytes(body).String() != d {
		failure(w, http.StatusBadRequest, "DIGEST_INVALID")
		return
	}
	f.blobs[digest.Digest(d)] = body
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+d)
	w.WriteHeader(http.StatusCreated)
}

func (f *fake) blob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	b, ok := f.blobs[d]
	if !ok {
		failure(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(b)
	}
}

func (f *fake) listing(w http.ResponseWriter, repo, subject string) {
	if f.noAPI {
		failure(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	entries := f.listed[repo+"@"+subject]
	if entries == nil {
		entries = []ocispec.Descriptor{}
	}
	writeJSON(w, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries,
	})
}

func writeJSON(w http.ResponseWriter, mediaType string, v any) {
	b, _ := json.Marshal(v)
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(b)
}

func failure(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"as the test wants it"}]}`, code)
}

// hidden takes the referrers API away from a registry that has one: its end point, and the header that promises it.
func hidden(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			failure(w, http.StatusNotFound, "NOT_FOUND")
			return
		}
		h.ServeHTTP(silent{w}, r)
	})
}

// silent drops OCI-Subject.
type silent struct{ http.ResponseWriter }

func (s silent) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s silent) WriteHeader(status int) {
	s.Header().Del("OCI-Subject")
	s.ResponseWriter.WriteHeader(status)
}
