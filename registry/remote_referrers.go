package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrers asks the API, and the fallback tag where there is no API or it lists nothing: a registry
// that has gained the API since does not know what was attached before.
//
// Within a graph one request is saved for each node that nothing refers to: what the API itself lists as a referrer was
// pushed since, and what refers to that was as a rule pushed later still. The exception, a referrer that was pushed a
// second time since, with what refers to it from before, is why nobody who judges or signs goes by that.
func (s *remote) referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	if !s.state.api.no() {
		list, ok, err := s.listAPI(ctx, subject, artifactType)
		if err != nil || ok && (len(list) > 0 || withinGraph(ctx) && s.state.isListed(subject.Digest)) {
			return list, err
		}
	}
	return s.listTag(ctx, subject, artifactType)
}

type withinGraphKey struct{}

// inGraph has empty lists believed as [remote.referrers] says.
func inGraph(ctx context.Context) context.Context {
	return context.WithValue(ctx, withinGraphKey{}, true)
}

func withinGraph(ctx context.Context) bool { return ctx.Value(withinGraphKey{}) != nil }

// listTag lists by the tag schema. What occupies the tag and is no list hides nothing that the API lists.
func (s *remote) listTag(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	index, err := s.readFallback(ctx, subject)
	if errors.Is(err, errOccupied) {
		s.client.warn(codeOccupied, s.name+"@"+string(subject.Digest), err.Error())
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Referrer
	for _, e := range index.entries {
		// An entry that does not say its type may have any (a hint that is missing hides nothing).
		if artifactType == "" || e.descriptor.ArtifactType == "" || e.descriptor.ArtifactType == artifactType {
			list = append(list, Referrer{e.descriptor})
		}
	}
	if len(list) > MaxReferrers {
		return nil, s.tooMany(subject)
	}
	return list, nil
}

func (s *remote) tooMany(subject ocispec.Descriptor) error {
	return fail(codeCapped, "%w (%w): %s lists more than %d referrers of %s", ErrCapped, ErrTooLarge, s.host, MaxReferrers, subject.Digest)
}

// listAPI lists by the referrers API; ok is false where there is none for this repository, which is remembered.
func (s *remote) listAPI(ctx context.Context, subject ocispec.Descriptor, artifactType string) (list []Referrer, ok bool, err error) {
	next := call{
		method: http.MethodGet, path: "referrers/" + subject.Digest.String(), action: actionPull,
		header: map[string]string{"Accept": ocispec.MediaTypeImageIndex},
	}
	if artifactType != "" {
		next.query = url.Values{"artifactType": {artifactType}}
	}
	seen := make(map[digest.Digest]bool)
	pages := pager{store: s}
	for first := true; ; first = false {
		resp, body, err := s.read(ctx, next, MaxManifest)
		if first {
			switch e, _ := answered(err); {
			case e.has("NAME_UNKNOWN"): // no such repository (yet): nothing is known of its API
				return nil, true, nil
			case e.status == http.StatusNotFound && s.state.api.yes() && e.has("MANIFEST_UNKNOWN"): // no such subject
				return nil, true, nil
			case e.status == http.StatusNotFound && s.state.api.yes():
				return nil, false, s.fickleAPI(subject, "answers 404")
			case e.status == http.StatusNotFound:
				s.state.api.set(false)
				return nil, false, nil
			case e.status == http.StatusMethodNotAllowed, e.status == http.StatusNotImplemented, e.status == http.StatusNotAcceptable:
				return nil, false, s.oddAPI(subject, fmt.Sprintf("answers %d", e.status))
			case err == nil && !isIndex(resp.Header):
				return nil, false, s.oddAPI(subject, fmt.Sprintf("sends %q", quote(resp.Header.Get("Content-Type"))))
			}
		}
		if err != nil {
			return nil, false, err
		}
		var page struct {
			Manifests []json.RawMessage `json:"manifests"`
		}
		if !isIndex(resp.Header) || json.Unmarshal(body, &page) != nil {
			return nil, false, fail(codeMalformed, "%w: %s sent a list of referrers that is no OCI index", ErrMalformed, s.host)
		}
		for _, raw := range page.Manifests {
			d, err := parseEntry(raw)
			if err != nil {
				s.client.warn("referrers-entry", s.name+"@"+string(subject.Digest), fmt.Sprintf(
					"%s lists something that is no descriptor as a referrer of %s; it is passed over", s.host, subject.Digest))
				continue
			}
			if seen[d.Digest] {
				continue
			}
			seen[d.Digest] = true
			s.state.setListed(d.Digest)
			list = append(list, Referrer{d})
		}
		if len(list) > MaxReferrers {
			return nil, false, s.tooMany(subject)
		}
		u, err := pages.next(resp)
		if err != nil {
			return nil, false, err
		}
		if u == nil {
			s.state.api.set(true)
			return list, true, nil
		}
		next.url = u
	}
}

// maxListed bounds what is remembered of a repository's lists.
const maxListed = 100_000

func (r *repoState) setListed(d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listed == nil {
		r.listed = make(map[digest.Digest]struct{})
	}
	if len(r.listed) < maxListed {
		r.listed[d] = struct{}{}
	}
}

func (r *repoState) isListed(d digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.listed[d]
	return ok
}

// oddAPI remembers that there is no usable API, where the answer is not the one that the specification has for that.
func (s *remote) oddAPI(subject ocispec.Descriptor, what string) error {
	if s.state.api.yes() {
		return s.fickleAPI(subject, what)
	}
	s.state.api.set(false)
	s.client.warn("referrers-api-odd", s.host, s.host+" "+what+" where referrers are listed; the fallback tag is used")
	return nil
}

// fickleAPI is the error of an API that has listed before and says now that there is none: were that believed, what it
// lists would seem not to be there, and be left behind, for the rest of the run.
func (s *remote) fickleAPI(subject ocispec.Descriptor, what string) error {
	return fail(codeUnavailable, "%w: %s has listed referrers before, and %s for those of %s", ErrUnavailable, s.host, what, subject.Digest)
}

// parseEntry reads an entry of a list, and refuses what has no digest that could be one.
func parseEntry(raw json.RawMessage) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, err
	}
	if err := checkDescriptor(d); err != nil {
		return d, err
	}
	d.Data = nil // hints are believed as hints only: bytes come from the registry, by digest
	return d, nil
}

// attach stores manifests and makes sure that they are listed. A registry that has taken notice says so by
// OCI-Subject; some have the API and do not say so, which the list tells.
func (s *remote) attach(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	if len(manifests) == 0 {
		return nil
	}
	noticed, err := s.putReferrers(ctx, subject, manifests)
	if err != nil {
		return err
	}
	for _, m := range manifests {
		s.state.setRemoved(m.Descriptor.Digest, false)
	}
	if noticed {
		s.state.api.set(true)
		return nil
	}
	if !s.state.api.no() {
		list, ok, err := s.listAPI(ctx, subject, "")
		if err != nil {
			return err
		}
		if ok && len(unlisted(list, manifests)) == 0 {
			return nil
		}
	}
	_, err = s.settle(ctx, subject, change{add: manifests})
	return err
}

// putReferrers stores manifests at the same time; noticed says that each answer named the subject.
func (s *remote) putReferrers(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) (noticed bool, err error) {
	subjects := make([]digest.Digest, len(manifests))
	err = parallel(ctx, len(manifests), func(ctx context.Context, i int) (err error) {
		if subjects[i], err = s.putManifest(ctx, manifests[i].Descriptor.Digest.String(), manifests[i]); err != nil {
			return fmt.Errorf("referrer %s: %w", manifests[i].Descriptor.Digest, err)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(subjects, func(d digest.Digest) bool { return d != subject.Digest }), nil
}

// Of the reading back of a list that does not show what was pushed.
const (
	maxReadBacks = 5
	readBackWait = 50 * time.Millisecond // doubled each time
)

// confirm reads the list back. Some registries forget some of many that come at once, though each was answered well:
// what is missing is pushed again. Some have the API and take no notice of what is pushed: there the
// tag schema is written, as where there is no API.
func (s *remote) confirm(ctx context.Context, subject ocispec.Descriptor, manifests []Manifest) error {
	for _, m := range manifests {
		s.state.setRemoved(m.Descriptor.Digest, false)
	}
	missing, noticed := manifests, true
	for try := 1; !s.state.api.no(); try++ {
		list, ok, err := s.listAPI(ctx, subject, "")
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if missing = unlisted(list, manifests); len(missing) == 0 {
			return nil
		}
		if try == maxReadBacks {
			return fail(CodeUnsettled, "%w: %s does not list %d of what was pushed to refer to %s", ErrUnsettled, s.host, len(missing), subject.Digest)
		}
		if !noticed {
			break
		}
		if try > 1 { // the first time without waiting: what was forgotten is there as soon as it was pushed again
			if err := s.client.retry.sleep(ctx, readBackWait<<try); err != nil {
				return err
			}
		}
		if noticed, err = s.putReferrers(ctx, subject, missing); err != nil {
			return err
		}
	}
	_, err := s.settle(ctx, subject, change{add: missing})
	return err
}

// unlisted returns those of manifests that a list does not have.
func unlisted(list []Referrer, manifests []Manifest) []Manifest {
	listed := make(map[digest.Digest]bool, len(list))
	for _, r := range list {
		listed[r.Digest] = true
	}
	var missing []Manifest
	for _, m := range manifests {
		if !listed[m.Descriptor.Digest] {
			missing = append(missing, m)
		}
	}
	return missing
}

// detach takes a referrer out of the list and then deletes it. In that order: a listed manifest that is gone makes
// stock notation refuse the whole artifact.
func (s *remote) detach(ctx context.Context, subject ocispec.Descriptor, d digest.Digest) error {
	s.state.setRemoved(d, true)
	out := change{remove: []digest.Digest{d}}
	wrote, err := s.settle(ctx, subject, out)
	if err != nil && !errors.Is(err, errOccupied) { // whatever occupies that tag, it does not list d
		return err
	}
	_, err = s.exec(ctx, call{method: http.MethodDelete, path: "manifests/" + d.String(), action: actionDelete})
	e, ok := answered(err)
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
	case ok && errors.Is(err, ErrRefused):
		// A manifest that an index refers to (ECR, Artifact Registry), a retention rule, a lock: for reasons that
		// only the registry knows.
		return fail(codeDeleteRefused, "deleting manifest %s: %w: %s answered %s", d, ErrUnsupported, s.host, e)
	default:
		return fmt.Errorf("deleting manifest %s: %w", d, err)
	}
	if !wrote {
		return nil
	}
	// Somebody whose entry was overwritten may have put everything back that he had seen, this one too, while its
	// manifest still answered.
	_, err = s.settle(ctx, subject, out)
	return err
}
