package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pushBytes stores a small blob: one POST where the registry takes single-request uploads (zot,
// olareg, ociserver), else POST and PUT. Which of both is found out once per host.
func (s *remote) pushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	_, err := s.pushBlob(ctx, d, nil, BytesBody(b))
	return err
}

// pushBlob stores a blob, with the fewest requests that make sure that it is there and send no bytes for nothing. What
// this run has put or found there is not asked for again; what it is sending already, here or to another repository of
// the registry, is waited for and mounted.
func (s *remote) pushBlob(ctx context.Context, d ocispec.Descriptor, from store, body Body) (sent Sent, err error) {
	there, done, err := s.learnt.blobs.turn(ctx, s.name, d)
	if err != nil {
		return Sent{}, transportError(ctx, s.host, err)
	}
	if there {
		return Sent{There: true}, nil
	}
	defer func() { done(err == nil) }()
	holder := ""
	if sibling, ok := from.(*remote); ok && sibling.base == s.base && sibling.client == s.client {
		holder = sibling.name
	}
	return s.send(ctx, d, holder, body)
}

// pushManifest stores a manifest by digest.
func (s *remote) pushManifest(ctx context.Context, m Manifest) error {
	_, err := s.putManifest(ctx, m.Descriptor.Digest.String(), m)
	return err
}

// putManifest returns the subject that the registry says it has taken notice of (distribution specification, "Pushing
// Manifests with Subject").
func (s *remote) putManifest(ctx context.Context, by string, m Manifest) (subject digest.Digest, err error) {
	resp, err := s.put(ctx, by, nil, m)
	if err != nil {
		return "", err
	}
	return digest.Digest(resp.Header.Get("OCI-Subject")), nil
}

// put stores a manifest. Registries that come to see a blob only some time after it was stored say of the manifest
// that its blob is unknown, and are asked again.
func (s *remote) put(ctx context.Context, by string, query url.Values, m Manifest) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := s.exec(ctx, call{
			method: http.MethodPut, path: "manifests/" + by, query: query, action: actionPush,
			header: map[string]string{"Content-Type": m.Descriptor.MediaType}, body: m.Bytes,
		})
		e, isAnswer := answered(err)
		switch {
		case err == nil:
			if by == m.Descriptor.Digest.String() {
				s.learnt.blobs.putManifest(s.name, m.Descriptor.Digest)
			}
			return resp, nil
		case !isAnswer:
			return nil, err
		case e.status < 500 && by == m.Descriptor.Digest.String() && m.Descriptor.Digest.Algorithm() != digest.SHA256 && (e.has("DIGEST_INVALID") || e.has("UNSUPPORTED")):
			return nil, unknownAlgorithm(err, s.host, m.Descriptor.Digest)
		case e.status >= 500 || !e.has("MANIFEST_BLOB_UNKNOWN") && !e.has("BLOB_UNKNOWN"):
			return nil, err
		}
		if err := s.reallyThere(ctx, m, err); err != nil {
			return nil, err
		}
		slow := fail(codeUnavailable, "%w: %s does not see what manifest %s names, though it was stored: %w", ErrUnavailable, s.host, m.Descriptor.Digest, err)
		wait, again := s.pauseUpload(ctx, try, err)
		if !again {
			if parts, err := m.Parse(); err == nil {
				for _, d := range parts.Blobs() { // perhaps one of them is not what it seems: the next copy sends them again
					s.learnt.blobs.lost(s.name, d.Digest)
				}
			}
			return nil, slow
		}
		if err := s.client.retry.sleep(ctx, wait); err != nil {
			return nil, transportError(ctx, s.host, err)
		}
	}
}

// reallyThere asks for what a manifest names, which was refused because some of that is unknown. What is not there, and
// was not put there by this run, will not come by waiting: that is an error.
func (s *remote) reallyThere(ctx context.Context, m Manifest, refusal error) error {
	parts, err := m.Parse()
	if err != nil {
		return refusal
	}
	blobs := parts.Blobs()
	return parallel(ctx, len(blobs)+len(parts.Manifests), func(ctx context.Context, i int) error {
		var d digest.Digest
		var has, put bool
		var err error
		if i < len(blobs) {
			d = blobs[i].Digest
			has, err = s.hasBlob(ctx, blobs[i])
			put = s.learnt.blobs.has(s.name, d)
		} else {
			d = parts.Manifests[i-len(blobs)].Digest
			has, err = s.hasManifest(ctx, d)
			put = s.learnt.blobs.hasManifest(s.name, d)
		}
		if err == nil && !has && !put {
			err = doing(fmt.Sprintf("%s, which it names, is not there", d), refusal)
		}
		return err
	})
}

// tag writes only what is not so already: registries with immutable tags refuse even the same again.
func (s *remote) tag(ctx context.Context, m Manifest, tag string) error {
	now, err := s.tagged(ctx, tag)
	if err == nil && now == m.Descriptor.Digest {
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return s.putTag(ctx, m, tag)
}

func (s *remote) putTag(ctx context.Context, m Manifest, tag string) error {
	_, err := s.put(ctx, tag, nil, m)
	if err != nil && s.immutable(ctx, err, m, tag) {
		e, _ := answered(err)
		return &Error{Code: codeImmutable, Err: &answerError{registryError: e, err: fmt.Errorf("%w: the tag %s cannot be changed there: %s answered %s", ErrRefused, tag, s.host, e)}}
	}
	return err
}

// immutable reports whether a tag was refused because it may not change. Registries say that with several statuses;
// where nothing else tells, a tag that names something else while the same manifest was taken by its digest does.
func (s *remote) immutable(ctx context.Context, err error, m Manifest, tag string) bool {
	e, _ := answered(err)
	switch e.status {
	case http.StatusConflict, http.StatusPreconditionFailed:
		return true
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed:
	default:
		return false
	}
	text := strings.ToLower(e.text)
	for _, word := range []string{"immutab", "overwrit", "already exist"} { // ECR, Harbor, ACR, Quay, Artifact Registry, ocimem
		if strings.Contains(text, word) {
			return true
		}
	}
	for _, other := range []string{"MANIFEST_INVALID", "MANIFEST_UNVERIFIED", "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "DIGEST_INVALID", "SIZE_INVALID", "NAME_INVALID"} {
		if e.has(other) {
			return false
		}
	}
	now, err := s.tagged(ctx, tag)
	return err == nil && now != m.Descriptor.Digest
}

// maxTagsAtOnce is how many tags every registry that takes several in one request should take (distribution
// specification, "Pushing Manifests").
const maxTagsAtOnce = 10

// setTags writes several tags with the manifest's digest in one request where the registry says that it has (OCI-Tag;
// end-7b of the distribution specification after 1.1), else one after another.
func (s *remote) setTags(ctx context.Context, m Manifest, tags []string) error {
	left := tags
	var rest []string
	for len(left) > 1 && !s.learnt.tagQuery.no() {
		some := left[:min(len(left), maxTagsAtOnce)]
		left = left[len(some):]
		resp, err := s.put(ctx, m.Descriptor.Digest.String(), url.Values{"tag": some}, m)
		if e, isAnswer := answered(err); err != nil && (!isAnswer || e.status == http.StatusUnauthorized || errors.Is(err, ErrUnavailable)) {
			return err
		}
		if err != nil { // one of them may be immutable, or they are too many: one after another tells
			rest = append(rest, some...)
			break
		}
		var taken []string
		for _, line := range resp.Header.Values("OCI-Tag") {
			for t := range strings.SplitSeq(line, ",") {
				taken = append(taken, strings.TrimSpace(t))
			}
		}
		s.learnt.tagQuery.set(len(taken) > 0)
		for _, t := range some {
			if !slices.Contains(taken, t) {
				rest = append(rest, t)
			}
		}
	}
	return eachTag(append(rest, left...), func(t string) error { return s.putTag(ctx, m, t) })
}
