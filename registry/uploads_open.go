package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"
)

// begin sends the blob at once if that is cheaper than asking for it, else asks for it and opens a session.
func (u *upload) begin(ctx context.Context) (*Sent, error) {
	u.single, u.broken, u.ending, u.outside, u.kept = false, false, false, false, 0
	learnt := &u.s.learnt.singleUpload
	mayBe := u.d.Size > 0 && !u.noSingle && !learnt.no() && u.d.Digest.Algorithm() == digest.SHA256
	// From a sibling even a small blob is mounted: that is one request, too, and saves reading it there.
	sibling := u.from != "" && u.from == u.s.learnt.blobs.source(u.s.name, u.from, u.d.Digest)
	if mayBe && !sibling && u.d.Size <= maxUnasked {
		return u.whole(ctx)
	}
	there, err := u.ask(ctx)
	if there != nil || err != nil || u.session != nil {
		return there, err
	}
	if mayBe && u.d.Size <= maxSingleUpload {
		// What was asked and what finds out set off together: the answer is about to come, and saves a round trip.
		u.s.learnt.probing.wait(ctx)
		if learnt.yes() {
			return u.whole(ctx)
		}
	}
	return nil, u.open(ctx)
}

// A probing is the requests under way from which something about a host is going to be learned.
type probing struct {
	mu     sync.Mutex
	flying int
	first  chan struct{} // closed by the first of them that ends; nil: there is none, or one has
}

// begin notes one more, until end is called.
func (p *probing) begin() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flying++; p.flying == 1 {
		p.first = make(chan struct{})
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.flying--
		if p.first != nil {
			close(p.first)
			p.first = nil
		}
	}
}

// wait returns when the first of those under way has ended, at once if there is none.
func (p *probing) wait(ctx context.Context) {
	p.mu.Lock()
	first := p.first
	p.mu.Unlock()
	if first == nil {
		return
	}
	select {
	case <-first:
	case <-ctx.Done():
	}
}

// ask asks for the blob. A mount from the repository itself, or from another that holds it, opens a session in the same
// request if it is not there (distribution specification, "Mounting a blob from another repository"). Any other answer
// means that it must be sent the plain way; if it is one to the shortcut itself, the blob is asked for by HEAD from then
// on.
func (u *upload) ask(ctx context.Context) (*Sent, error) {
	s := u.s
	if s.learnt.mount.no() {
		has, err := s.hasBlob(ctx, u.d)
		if err != nil || !has {
			return nil, err
		}
		return &Sent{There: true}, nil
	}
	for {
		from := s.learnt.blobs.source(s.name, u.from, u.d.Digest)
		query := u.query()
		query.Set("mount", u.d.Digest.String())
		query.Set("from", from)
		resp, err := u.plain(ctx, call{method: http.MethodPost, path: "blobs/uploads/", query: query, from: from})
		if err != nil {
			// A token service may refuse what would allow a mount, and grant the rest.
			if from != s.name && errors.Is(err, ErrUnauthorized) {
				s.learnt.blobs.deny(from, s.name)
				continue
			}
			return nil, err
		}
		switch status := resp.StatusCode; {
		case status == http.StatusCreated:
			discard(resp)
			s.learnt.mount.set(true)
			s.learnt.blobs.holds(from, u.d.Digest)
			return &Sent{Mounted: from != s.name, There: from == s.name}, nil
		case status == http.StatusAccepted:
			discard(resp)
			s.learnt.mount.set(true)
			if from != s.name {
				s.learnt.blobs.unmounted(from, u.d.Digest)
			}
			return nil, u.enter(resp)
		case isTransient(status): // the transport has tried often enough
			return nil, s.refused(resp)
		case from != s.name && (status == http.StatusUnauthorized || status == http.StatusForbidden):
			discard(resp)
			s.learnt.blobs.deny(from, s.name)
			continue
		}
		e, _ := answered(s.refused(resp))
		switch e.status {
		case http.StatusNotFound:
			// "No such blob", said without opening a session. The name of a repository that is unknown says nothing.
			if from != s.name {
				s.learnt.blobs.lost(from, u.d.Digest)
			}
		case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusNotImplemented:
			// The plain way proves that it was the mount that was refused.
			if err := u.open(ctx); err != nil {
				return nil, err
			}
			s.learnt.mount.set(false)
		}
		return nil, nil
	}
}

// plain sends a request that carries nothing of the blob, in the time of one object. One that does has no such bound: it
// is watched as it moves.
func (u *upload) plain(ctx context.Context, c call) (*http.Response, error) {
	c.action = actionPush
	ctx, cancel := u.s.bounded(ctx)
	resp, err := u.s.do(ctx, c)
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &ending{resp.Body, cancel}
	return resp, nil
}

// query is what every POST says of the blob.
func (u *upload) query() url.Values {
	q := url.Values{}
	if a := u.d.Digest.Algorithm(); a != digest.SHA256 {
		q.Set("digest-algorithm", a.String())
	}
	return q
}

// whole sends the blob in one POST.
func (u *upload) whole(ctx context.Context) (*Sent, error) {
	u.single = true
	query := u.query()
	query.Set("digest", u.d.Digest.String())
	learnt := &u.s.learnt.singleUpload
	if !learnt.yes() {
		defer u.s.learnt.probing.begin()()
	}
	resp, err := u.request(ctx, call{method: http.MethodPost, path: "blobs/uploads/", query: query}, 0, u.d.Size)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		discard(resp)
		learnt.set(true)
		return &Sent{}, nil
	case http.StatusAccepted: // it has opened a session instead, and dropped the bytes
		discard(resp)
		learnt.set(false)
		return nil, u.enter(resp)
	}
	err = u.s.refused(resp)
	e, _ := answered(err)
	switch e.status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusUnsupportedMediaType,
		http.StatusNotImplemented:
		if !e.has("DIGEST_INVALID") {
			// Perhaps it is the shortcut that is refused. If it is the repository, the long way says so.
			u.noSingle = true
			return nil, nil
		}
	}
	return nil, err
}

// open opens a session.
func (u *upload) open(ctx context.Context) error {
	resp, err := u.plain(ctx, call{method: http.MethodPost, path: "blobs/uploads/", query: u.query()})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted {
		return u.s.refused(resp)
	}
	discard(resp)
	return u.enter(resp)
}

// enter goes where an answer says that the session is. That must be on the registry itself, under the same scheme:
// it is sent the credentials.
func (u *upload) enter(resp *http.Response) error {
	at, err := u.s.location(resp)
	if err != nil {
		return err
	}
	u.session = at
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 {
		u.atLeast = n
	}
	return nil
}

// location is where an answer wants the next request of its upload session.
func (s *remote) location(resp *http.Response) (*url.URL, error) {
	base, err := url.Parse(s.base)
	if err != nil {
		return nil, err
	}
	at := resp.Header.Get("Location")
	u, err := resp.Request.URL.Parse(at)
	if err != nil || at == "" || !sameOrigin(u, base) || u.User != nil {
		return nil, fail(codeLocation, "%w: %s wants the upload sent somewhere else", ErrRefused, s.host)
	}
	return u, nil
}
