package registry

import (
	"context"
	_ "crypto/sha256" // digests of manifests are of one of these two
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// acceptManifest names what we know, and takes all else as opaque bytes, as containerd does.
var acceptManifest = strings.Join([]string{
	ocispec.MediaTypeImageIndex,
	ocispec.MediaTypeImageManifest,
	typeArtifact,
	typeDockerList,
	typeDockerManifest,
	"*/*",
}, ", ")

// A remote is a repository of a registry that speaks the OCI distribution specification 1.1.
type remote struct {
	client *Client
	host   string // canonical
	name   string
	base   string // scheme and host to connect to
	learnt *hostState
	state  *repoState
}

var _ store = (*remote)(nil)

// What a request may do, as token services name it.
const (
	actionPull   = "pull"
	actionPush   = "pull,push"
	actionDelete = "delete"
	// actionCatalog is to list all repositories; it is of none of them.
	actionCatalog = "*"
)

// A call is one request to the registry.
type call struct {
	method string
	path   string   // below /v2/<name>/
	url    *url.URL // instead of path: where an answer led
	query  url.Values
	header map[string]string
	action string
	from   string // a second repository that must be readable (mount)

	body []byte
	// open makes the body instead, of size bytes; such a request is sent once (see [withoutRetry]), and opened again
	// only to answer a challenge. While it moves (see [pace]) it has no deadline but the context's.
	open func() (io.ReadCloser, error)
	size int64
}

// class is the class of the call's request.
func (c call) class() class {
	switch {
	case c.open == nil:
		return classPlain
	case c.size < bigBody:
		return classStream
	}
	return classBig
}

// do sends a call. The caller closes the answer's body; its errors wrap the sentinels, and name the host, never a
// URL: those may carry secrets.
func (s *remote) do(ctx context.Context, c call) (*http.Response, error) {
	if c.open == nil {
		return s.request(ctx, c, nil)
	}
	ctx, cancel := context.WithCancelCause(withoutRetry(inClass(ctx, c.class())))
	resp, err := s.request(ctx, c, cancel)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &ending{resp.Body, func() { cancel(nil) }}
	return resp, nil
}

// request is do; stop breaks off a body that is streamed.
func (s *remote) request(ctx context.Context, c call, stop context.CancelCauseFunc) (*http.Response, error) {
	target := c.url
	if target == nil {
		u, err := url.Parse(s.base + "/v2/" + s.name + "/" + c.path)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", ErrReference, s.name)
		}
		u.RawQuery = c.query.Encode()
		target = u
	}
	req, err := http.NewRequestWithContext(ctx, c.method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	switch {
	case c.open != nil:
		req.GetBody = s.outgoing(ctx, stop, c.open)
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		req.ContentLength = c.size
	case len(c.body) > 0:
		req.GetBody = func() (io.ReadCloser, error) { return s.client.up.reader(ctx, c.body), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(c.body))
	case c.method == http.MethodPost || c.method == http.MethodPut:
		req.Body = http.NoBody
	}
	req.Header.Set("Accept-Encoding", "identity")
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	scopes := map[string]string{s.name: c.action}
	if c.from != "" && c.from != s.name {
		scopes[c.from] = actionPull
	}
	resp, err := s.client.auth.do(req, s.host, scopes)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil && resp.Request.URL.Host == target.Host {
		s.learnt.date.Store(at.Unix())
	}
	return resp, nil
}

// outgoing opens a body that is watched on its way. A body without bytes is none.
func (s *remote) outgoing(ctx context.Context, stop context.CancelCauseFunc, open func() (io.ReadCloser, error)) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		body, err := open()
		if err != nil || body == http.NoBody {
			return body, err
		}
		return &outgoing{ctx: ctx, body: body, pace: newPace(s.client.retry.patience, stop), band: s.client.up}, nil
	}
}

// failed says what became of a request that was not answered, or of an answer that broke off.
func (s *remote) failed(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSlow):
		return slowError(s.host, s.client.retry.patience)
	case errors.Is(cause, errLate):
		return fail(codeUnavailable, "%w: %s did not finish in time", ErrUnavailable, s.host)
	}
	return transportError(ctx, s.host, err)
}

// bounded gives one object its time.
func (s *remote) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.client.options.Timeout)
}

// read sends a call and reads the whole answer, which must have status 200. An answer that breaks off is asked for again.
func (s *remote) read(ctx context.Context, c call, limit int64) (*http.Response, []byte, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for try := 1; ; try++ {
		resp, body, err := s.readOnce(ctx, c, limit)
		var broke *brokenError
		if !errors.As(err, &broke) {
			return resp, body, err
		}
		wait, again := s.client.retry.pause(ctx, try, nil, broke.err)
		if !again {
			return resp, nil, s.failed(ctx, broke.err)
		}
		if err := s.client.retry.sleep(ctx, wait); err != nil {
			return resp, nil, s.failed(ctx, err)
		}
	}
}

// A brokenError is why the body of an answer broke off.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }

func (s *remote) readOnce(ctx context.Context, c call, limit int64) (*http.Response, []byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := s.do(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp, nil, s.refused(resp)
	}
	in := &incoming{ctx: ctx, body: resp.Body, pace: newPace(s.client.retry.patience, cancel)}
	defer func() { _ = in.Close() }()
	body, err := readExpected(io.LimitReader(in, limit+1), min(resp.ContentLength, limit+1))
	if err != nil {
		if errors.Is(context.Cause(ctx), errSlow) {
			err = errSlow
		}
		return resp, nil, &brokenError{err}
	}
	if int64(len(body)) > limit {
		return resp, nil, fail(codeTooLarge, "%w: %s sent more than %d bytes", ErrTooLarge, s.host, limit)
	}
	return resp, body, nil
}

// exec sends a call whose answer's body does not matter, and ends it; statuses from 200 to 299 are fine.
func (s *remote) exec(ctx context.Context, c call) (*http.Response, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	resp, err := s.do(ctx, c)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp, s.refused(resp)
	}
	discard(resp)
	return resp, nil
}

// manifest reads by tag or digest. Bytes that do not have the digest (asked for, or stated) are asked for once more:
// a broken cache on the way is more frequent than a lie.
func (s *remote) manifest(ctx context.Context, tag string, d digest.Digest) (string, []byte, error) {
	return s.manifestWithin(ctx, tag, d, MaxManifest)
}

// manifestWithin is manifest of at most limit bytes (ErrTooLarge).
func (s *remote) manifestWithin(ctx context.Context, tag string, d digest.Digest, limit int64) (string, []byte, error) {
	by := tag
	if by == "" {
		by = d.String()
	}
	for try := 1; ; try++ {
		resp, body, err := s.read(ctx, call{
			method: http.MethodGet, path: "manifests/" + by, action: actionPull, header: map[string]string{"Accept": acceptManifest},
		}, limit)
		if err != nil {
			return "", nil, err
		}
		want := d
		if tag != "" {
			// What a registry says of the tag decides nothing, but a registry whose word and bytes differ is broken
			// or lies.
			want = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
			if unusable := want.Validate() != nil; unusable {
				return servedType(resp.Header), body, nil //nolint:nilerr // nothing usable is stated
			}
		}
		got := want.Algorithm().FromBytes(body)
		if got == want {
			return servedType(resp.Header), body, nil
		}
		if try == 2 {
			return "", nil, fail(codeDigest, "%w: %s sent %s for %s", ErrDigestMismatch, s.host, got, want)
		}
		s.mismatchOnce(want)
	}
}

// mismatchOnce tells that other bytes came than were asked for, which are asked for once more.
func (s *remote) mismatchOnce(d digest.Digest) {
	s.client.warn("digest-mismatch-once", d.String(), fmt.Sprintf("%s sent other bytes for %s; asking once more", s.host, d))
}

// servedType is the Content-Type exactly as served, but for a charset parameter that says what JSON always is (Nexus adds it).
func servedType(h http.Header) string {
	t := strings.TrimSpace(h.Get("Content-Type"))
	base, rest, ok := strings.Cut(t, ";")
	if ok && strings.EqualFold(strings.TrimSpace(rest), "charset=utf-8") {
		return strings.TrimSpace(base)
	}
	return t
}

func (s *remote) hasManifest(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := s.headManifest(ctx, d.String())
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrNotFound):
		return false, nil
	case errors.Is(err, ErrUnsupported): // HEAD is not offered
		_, _, err := s.manifest(ctx, "", d)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	return false, err
}

func (s *remote) headManifest(ctx context.Context, by string) (*http.Response, error) {
	return s.exec(ctx, call{method: http.MethodHead, path: "manifests/" + by, action: actionPull, header: map[string]string{"Accept": acceptManifest}})
}

// tagged asks by HEAD. Where the answer does not say the digest, the manifest is read and its digest computed.
func (s *remote) tagged(ctx context.Context, tag string) (digest.Digest, error) {
	resp, err := s.headManifest(ctx, tag)
	if err == nil {
		if d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest")); err == nil {
			return d, nil
		}
	} else if !errors.Is(err, ErrUnsupported) {
		return "", err
	}
	_, body, err := s.manifest(ctx, tag, "")
	if err != nil {
		return "", err
	}
	return digest.FromBytes(body), nil
}

// tags lists them page by page.
func (s *remote) tags(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		list := call{method: http.MethodGet, path: "tags/list", query: url.Values{"n": {"1000"}}, action: actionPull}
		for p, err := range s.pages(ctx, list, MaxPages) {
			if err != nil {
				yield("", err)
				return
			}
			var page struct {
				Tags []string `json:"tags"`
			}
			if err := json.Unmarshal(p.body, &page); err != nil {
				yield("", fail(codeMalformed, "%w: %s sent a list of tags that is no JSON", ErrMalformed, s.host))
				return
			}
			for _, t := range page.Tags {
				if !yield(t, nil) {
					return
				}
			}
		}
	}
}

func (s *remote) hasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	_, err := s.exec(ctx, call{method: http.MethodHead, path: "blobs/" + d.Digest.String(), action: actionPull})
	if errors.Is(err, ErrUnsupported) { // HEAD is not offered
		var rc io.ReadCloser
		if rc, err = s.blob(ctx, d, 0); err == nil {
			_ = rc.Close()
		}
	}
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *remote) commit() error { return nil }
func (s *remote) close() error  { return nil }

// isIndex reports whether an answer calls itself an OCI image index.
func isIndex(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && t == ocispec.MediaTypeImageIndex
}

// quote makes text of a registry harmless and short enough for an error.
func quote(s string) string {
	const most = 300
	var b strings.Builder
	for _, r := range s {
		if b.Len() > most {
			b.WriteString("…")
			break
		}
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}
