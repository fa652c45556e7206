package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxSingleUpload bounds what is sent together with the request that opens an upload: where a registry ignores it, it
// has travelled for nothing.
const maxSingleUpload = 4 << 20

// pushBytes stores a small blob: one POST where the registry takes single-request uploads (COPY.md part B: zot,
// olareg, ociserver), else POST and PUT. Which of both is found out once per host.
func (s *remote) pushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	if s.state.hasPushed(d.Digest) {
		return nil
	}
	err := s.sendBytes(ctx, d, b)
	if err == nil {
		s.state.setPushed(d.Digest)
	}
	return err
}

func (s *remote) sendBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	body := BytesBody(b)
	if s.learnt.singleUpload.no() || len(b) == 0 || len(b) > maxSingleUpload {
		_, err := s.pushBlob(ctx, d, nil, body)
		return err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.do(ctx, call{
		method: http.MethodPost, path: "blobs/uploads/", query: url.Values{"digest": {d.Digest.String()}}, action: actionPush,
		header: map[string]string{"Content-Type": "application/octet-stream"}, body: b,
	})
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		discard(resp)
		s.learnt.singleUpload.set(true)
		return nil
	case http.StatusAccepted: // it has opened a session instead, and dropped the bytes
		discard(resp)
		s.learnt.singleUpload.set(false)
		err := s.complete(ctx, resp, d, body)
		if retryUpload(err) {
			_, err = s.pushBlob(ctx, d, nil, body)
		}
		return err
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusUnsupportedMediaType,
		http.StatusNotImplemented:
		// Perhaps it is the shortcut that is refused. If it is the repository, the long way says so.
		discard(resp)
		if _, err := s.pushBlob(ctx, d, nil, body); err != nil {
			return err
		}
		s.learnt.singleUpload.set(false)
		return nil
	}
	return s.refused(resp)
}

// pushBlob stores a blob that is not there. A mount from the repository itself asks for it and opens the upload in
// one request; from a sibling it saves the bytes (COPY.md part B).
func (s *remote) pushBlob(ctx context.Context, d ocispec.Descriptor, from store, body Body) (sent Sent, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	source := s.name
	if sibling, ok := from.(*remote); ok && sibling.base == s.base && sibling.client == s.client {
		source = sibling.name
	}
	for try := 1; ; try++ {
		there, session, err := s.openUpload(ctx, d.Digest, source)
		if err != nil {
			return sent, err
		}
		if there {
			return Sent{Bytes: sent.Bytes, Mounted: source != s.name, There: source == s.name}, nil
		}
		err = s.complete(ctx, session, d, body)
		if err == nil {
			return Sent{Bytes: sent.Bytes + d.Size}, nil
		}
		// An upload session that broke off holds nobody knows how many bytes: a new one is opened, and the source with it.
		if !retryUpload(err) {
			return sent, err
		}
		wait, again := s.pauseUpload(ctx, try, err)
		if !again {
			return sent, err
		}
		if err := s.client.retry.sleep(ctx, wait); err != nil {
			return sent, transportError(ctx, s.host, err)
		}
	}
}

// retryUpload reports whether an upload that ended so may be started afresh.
func retryUpload(err error) bool {
	if err == nil || errors.Is(err, errSource) {
		return false
	}
	e, ok := answered(err)
	if !ok {
		return errors.Is(err, ErrUnavailable)
	}
	return errors.Is(err, ErrUnavailable) || e.has("BLOB_UPLOAD_UNKNOWN") || e.status == http.StatusRequestedRangeNotSatisfiable
}

// pauseUpload is [retrier.pause] for an upload that ended in err.
func (s *remote) pauseUpload(ctx context.Context, try int, err error) (wait time.Duration, again bool) {
	if e, ok := answered(err); ok {
		resp := &http.Response{StatusCode: e.status, Header: http.Header{"Retry-After": {e.retryAfter}}}
		if !isTransient(e.status) { // the session is gone, not the registry
			resp.StatusCode = http.StatusServiceUnavailable
		}
		return s.client.retry.pause(ctx, try, resp, nil)
	}
	if own, ok := asOwnError(err); ok {
		err = own.Err // pause judges what the transport said, not what we made of it
	}
	return s.client.retry.pause(ctx, try, nil, err)
}

// openUpload asks for a blob and opens an upload session if it is not there. Any answer to a mount but 201 and 202
// means "plain upload": some registries answer a mount of an absent blob with an error, others forbid mounting.
func (s *remote) openUpload(ctx context.Context, d digest.Digest, from string) (there bool, session *http.Response, err error) {
	resp, err := s.do(ctx, call{
		method: http.MethodPost, path: "blobs/uploads/", query: url.Values{"mount": {d.String()}, "from": {from}}, action: actionPush, from: from,
	})
	if err != nil {
		return false, nil, err
	}
	switch {
	case resp.StatusCode == http.StatusCreated:
		discard(resp)
		return true, nil, nil
	case resp.StatusCode == http.StatusAccepted:
		discard(resp)
		return false, resp, nil
	case isTransient(resp.StatusCode): // the transport has tried often enough
		return false, nil, s.refused(resp)
	}
	discard(resp)
	resp, err = s.do(ctx, call{method: http.MethodPost, path: "blobs/uploads/", action: actionPush})
	if err != nil {
		return false, nil, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return false, nil, s.refused(resp)
	}
	discard(resp)
	return false, resp, nil
}

// errSource marks an upload that failed because the source did.
var errSource = errors.New("reading what is to be uploaded")

// complete sends the whole blob in one PUT to where the session is. That must be on the registry itself, under the
// same scheme (CASES.md G02).
func (s *remote) complete(ctx context.Context, session *http.Response, d ocispec.Descriptor, body Body) error {
	base, err := url.Parse(s.base)
	if err != nil {
		return err
	}
	location := session.Header.Get("Location")
	u, err := session.Request.URL.Parse(location)
	if err != nil || location == "" || !sameOrigin(u, base) || u.User != nil {
		return fail(codeLocation, "%w: %s wants the upload sent somewhere else", ErrRefused, s.host)
	}
	// The digest is added to the query as it stands: its other parameters may be signed.
	q := "digest=" + url.QueryEscape(d.Digest.String())
	if u.RawQuery != "" {
		q = u.RawQuery + "&" + q
	}
	u.RawQuery = q

	var out *source
	resp, err := s.do(ctx, call{
		method: http.MethodPut, url: u, action: actionPush, header: map[string]string{"Content-Type": "application/octet-stream"}, size: d.Size,
		open: func() (io.ReadCloser, error) {
			rc, err := body(ctx, 0)
			if err != nil {
				return nil, &sourceError{err}
			}
			rc = verifying(rc, d)
			out = &source{rc: rc}
			if d.Size == 0 {
				_ = rc.Close()
				return http.NoBody, nil
			}
			return out, nil
		},
	})
	if err != nil {
		if out != nil && out.failed() != nil {
			return &sourceError{out.failed()}
		}
		return err
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK {
		return s.refused(resp)
	}
	discard(resp)
	return nil
}

// pushManifest stores a manifest by digest.
func (s *remote) pushManifest(ctx context.Context, m Manifest) error {
	_, err := s.putManifest(ctx, m.Descriptor.Digest.String(), m)
	return err
}

// putManifest returns the subject that the registry says it has taken notice of (distribution specification, "Pushing
// Manifests with Subject").
func (s *remote) putManifest(ctx context.Context, by string, m Manifest) (subject digest.Digest, err error) {
	resp, err := s.exec(ctx, call{
		method: http.MethodPut, path: "manifests/" + by, action: actionPush,
		header: map[string]string{"Content-Type": m.Descriptor.MediaType}, body: m.Bytes,
	})
	if err != nil {
		return "", err
	}
	return digest.Digest(resp.Header.Get("OCI-Subject")), nil
}

// tag writes only what is not so already: registries with immutable tags refuse even the same again (CASES.md G16).
func (s *remote) tag(ctx context.Context, m Manifest, tag string) error {
	now, err := s.tagged(ctx, tag)
	if err == nil && now == m.Descriptor.Digest {
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	_, err = s.putManifest(ctx, tag, m)
	return err
}

func (s *remote) setTags(ctx context.Context, m Manifest, tags []string) error {
	return eachTag(tags, func(t string) error {
		_, err := s.putManifest(ctx, t, m)
		return err
	})
}
