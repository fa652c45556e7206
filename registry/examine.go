package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What a registry can do, in [Capabilities].
const (
	capYes     = "yes"
	capNo      = "no"
	capUnknown = "unknown"
	capDenied  = "denied" // we may not
)

// Capabilities says what was found out of a registry, for doctor: yes, no, unknown, or denied where we may not.
type Capabilities struct {
	ReferrersAPI string `json:"referrersApi"`
	Delete       string `json:"delete"`
	Mount        string `json:"mount"`
	SingleUpload string `json:"singleUpload"`
	// Date is the registry's clock in its last answer; zero if it did not say. It is read as the answer comes: compare
	// it at once.
	Date time.Time `json:"date,omitzero"`
}

// Examine finds out what the repository's registry can do; write allows probes that write (an upload session, an
// unreferenced blob), all else only reads.
func (r *Repo) Examine(ctx context.Context, write bool) (Capabilities, error) {
	return r.store.examine(ctx, write)
}

// examine asks for what never was: the referrers of a digest that nobody has, and with write the deletion of it, a
// small blob that nothing refers to, and its mount. Reading needs one request.
func (s *remote) examine(ctx context.Context, write bool) (found Capabilities, err error) {
	probe := []byte("imprint doctor " + rand.Text())
	defer func() { found.Date = s.learnt.clock() }()
	d := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(probe), Size: int64(len(probe))}

	found = Capabilities{ReferrersAPI: capUnknown, Delete: capUnknown, Mount: capUnknown, SingleUpload: capUnknown}
	_, ok, err := s.listAPI(ctx, d, "")
	switch {
	case err != nil:
		return found, err
	case s.state.api.yes():
		found.ReferrersAPI = capYes
	case !ok:
		found.ReferrersAPI = capNo
	}
	if !write {
		return found, nil
	}

	_, err = s.exec(ctx, call{method: http.MethodDelete, path: "manifests/" + d.Digest.String(), action: actionDelete})
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
		found.Delete = capYes
	case errors.Is(err, ErrUnsupported):
		found.Delete = capNo
	case errors.Is(err, ErrUnauthorized):
		found.Delete = capDenied
	case errors.Is(err, ErrUnavailable):
		return found, err
	}

	if _, err := s.send(ctx, d, "", BytesBody(probe)); err != nil {
		return found, err
	}
	switch {
	case s.learnt.singleUpload.yes():
		found.SingleUpload = capYes
	case s.learnt.singleUpload.no():
		found.SingleUpload = capNo
	}

	resp, err := s.do(ctx, call{
		method: http.MethodPost, path: "blobs/uploads/", query: url.Values{"mount": {d.Digest.String()}, "from": {s.name}}, action: actionPush,
	})
	if err != nil {
		return found, err
	}
	discard(resp)
	switch resp.StatusCode {
	case http.StatusCreated:
		found.Mount = capYes
	case http.StatusAccepted:
		found.Mount = capNo
		if session, err := s.location(resp); err == nil {
			s.abandon(ctx, session)
		}
	default:
		found.Mount = capNo
	}
	return found, nil
}
