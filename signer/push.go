package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// How often, and after which first pause (doubled each time), a written signature is looked for before we give up: 8
// seconds in all.
const (
	readBacks      = 6
	readBackPause  = 250 * time.Millisecond
	readBackGrowth = 2
)

// Push writes the plan: the new envelope and manifest, read back through the listing; only then, with Replace, the
// old one is deleted. Killed anywhere, the artifact never has fewer verifying signatures than before, and the next
// run ends the same. A registry that cannot delete leaves the old one: Status "old-left", no error.
func (p Plan) Push(ctx context.Context, repo *registry.Repo) (Plan, error) {
	plans, err := Push(ctx, repo, []Plan{p})
	return plans[0], err
}

// pushesAtOnce bounds the requests for one artifact that are under way at the same time.
const pushesAtOnce = 8

// Push writes the plans of one artifact as [Plan.Push] does each, with one listing for all. The plans returned say what became of
// each also with an error.
func Push(ctx context.Context, repo *registry.Repo, plans []Plan) ([]Plan, error) {
	plans = slices.Clone(plans)
	var due []int   // what is to be done
	var write []int // of these whose new one is to be written: each digest once
	seen := map[digest.Digest]bool{}
	for i, p := range plans {
		if p.envelope == nil || p.Status != StatusPlanned {
			continue
		}
		if p.Restamp {
			return plans, fmt.Errorf("writing the new signature in the place of %s: it has not been countersigned", p.Signature)
		}
		due = append(due, i)
		if !p.listed && !seen[p.New] {
			seen[p.New] = true
			write = append(write, i)
		}
	}
	if len(due) == 0 {
		return plans, nil
	}
	if err := pushNew(ctx, repo, plans, write); err != nil {
		return plans, err
	}
	if err := keepEnvelopes(ctx, repo, plans, due); err != nil {
		return plans, err
	}
	if err := readBack(ctx, repo, plans, due); err != nil {
		return plans, err
	}
	for _, i := range due {
		plans[i].Status = StatusThere
	}
	for _, i := range write {
		plans[i].Status = StatusWritten
	}
	return plans, deleteOld(ctx, repo, plans, due)
}

// pushNew stores envelopes, at the same time, and attaches their manifests, together.
func pushNew(ctx context.Context, repo *registry.Repo, plans []Plan, write []int) error {
	if len(write) == 0 {
		return nil
	}
	doing := func(p Plan, err error) error {
		return fmt.Errorf("pushing the new signature %s: %w", p.New, err)
	}
	if len(write) == 1 {
		p := plans[write[0]]
		if err := repo.PushSignature(ctx, p.subject, p.manifest, p.envelope.Bytes()); err != nil {
			return doing(p, err)
		}
		return nil
	}
	manifests := make([]registry.Manifest, len(write))
	if err := each(ctx, 2*len(write), pushesAtOnce, func(i int) error {
		p := plans[write[i/2]]
		parts, err := p.manifest.Parse()
		if err != nil {
			return doing(p, err)
		}
		d, b := *parts.Config, ocispec.DescriptorEmptyJSON.Data
		if i%2 == 1 {
			d, b = parts.Layers[0], p.envelope.Bytes()
			manifests[i/2] = p.manifest
		}
		if err := repo.PushBytes(ctx, d, b); err != nil {
			return doing(p, err)
		}
		return nil
	}); err != nil {
		return err
	}
	p := plans[write[0]]
	if err := repo.Attach(ctx, p.subject, manifests...); err != nil {
		return doing(p, err)
	}
	return nil
}

// keepEnvelopes stores those envelopes of what was listed already that are not there, where an old one is to go for it. Whoever listed it may
// have left it inline in the manifest alone, or deleted it: imprint reads it there, stock verifiers do not.
func keepEnvelopes(ctx context.Context, repo *registry.Repo, plans []Plan, due []int) error {
	due = slices.DeleteFunc(slices.Clone(due), func(i int) bool { return !plans[i].listed || !plans[i].Replace })
	return each(ctx, len(due), pushesAtOnce, func(i int) error {
		p := plans[due[i]]
		parts, err := p.manifest.Parse()
		if err == nil {
			err = repo.PushBytes(ctx, parts.Layers[0], p.envelope.Bytes())
		}
		if err != nil {
			return fmt.Errorf("pushing the envelope of %s: %w", p.New, err)
		}
		return nil
	})
}

// readBack returns once the registry lists the new signatures and gives back their very bytes. Registries exist that
// take a while; the old ones may not be touched before.
func readBack(ctx context.Context, repo *registry.Repo, plans []Plan, due []int) error {
	seen := map[digest.Digest]bool{}
	left := slices.DeleteFunc(slices.Clone(due), func(i int) bool {
		had := seen[plans[i].New]
		seen[plans[i].New] = true
		return had
	})
	wait := readBackPause
	for try := 1; ; try++ {
		last, err := readBackOnce(ctx, repo, plans, left)
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(i int) bool { return last[i] == nil })
		if len(left) == 0 {
			return nil
		}
		p := plans[left[0]]
		if try == readBacks {
			return &registry.Error{Code: registry.CodeUnsettled, Err: fmt.Errorf("reading back the new signature %s: %w: %w",
				p.New, registry.ErrUnsettled, last[left[0]])}
		}
		if err := sleep(ctx, p.pause, wait); err != nil {
			return err
		}
		wait *= readBackGrowth
	}
}

// readBackOnce looks for each in the list, and reads it, all at the same time; missing says of each what is not there yet.
func readBackOnce(ctx context.Context, repo *registry.Repo, plans []Plan, left []int) (missing map[int]error, err error) {
	var list []registry.Referrer
	back := make([]error, len(left))
	if err := each(ctx, len(left)+1, pushesAtOnce, func(i int) (err error) {
		if i == 0 {
			list, err = signaturesOf(ctx, repo, plans[left[0]])
			return err
		}
		p := plans[left[i-1]]
		if back[i-1] = p.reread(ctx, repo); back[i-1] != nil && !passing(back[i-1]) {
			return fmt.Errorf("reading back the new signature %s: %w", p.New, back[i-1])
		}
		return nil
	}); err != nil {
		return nil, err
	}
	missing = map[int]error{}
	for at, i := range left {
		missing[i] = back[at]
		if !lists(list, plans[i].New) {
			missing[i] = fmt.Errorf("%w: it is not listed", errNotYet)
		} else if !slices.ContainsFunc(list, func(r registry.Referrer) bool { return r.Describes(plans[i].manifest.Descriptor) }) {
			missing[i] = fmt.Errorf("%w: it is listed as something else than it is, so that stock verifiers pass it over", errNotYet)
		}
	}
	return missing, nil
}

func signaturesOf(ctx context.Context, repo *registry.Repo, p Plan) ([]registry.Referrer, error) {
	list, err := repo.Referrers(ctx, p.subject, registry.ArtifactTypeSignature)
	if err != nil {
		return nil, fmt.Errorf("listing the signatures of %s: %w", p.subject.Digest, err)
	}
	return list, nil
}

func lists(list []registry.Referrer, d digest.Digest) bool {
	return slices.ContainsFunc(list, func(r registry.Referrer) bool { return r.Digest == d })
}

var errNotYet = errors.New("not there yet")

// passing reports whether an error of reading back may pass with time.
func passing(err error) bool {
	for _, target := range []error{errNotYet, registry.ErrNotFound, registry.ErrDigestMismatch, registry.ErrMalformed} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// reread reads what was just seen in the list, and compares it.
func (p Plan) reread(ctx context.Context, repo *registry.Repo) error {
	back := repo.ReadSignature(ctx, p.subject, registry.Referrer{Descriptor: p.Proposed().Descriptor})
	switch {
	case back.Err != nil:
		return fmt.Errorf("reading it: %w", back.Err)
	case !bytes.Equal(back.Manifest.Bytes, p.manifest.Bytes) || !bytes.Equal(back.Envelope, p.envelope.Bytes()):
		return fmt.Errorf("%w: other bytes came back", errNotYet)
	}
	return nil
}

// deleteOld removes the signatures that plans were made of, and no others, now that the new ones are listed. Where the
// registry does not delete, or does not let us, or where stock verifiers would not come to the new one, the old one stays and harms nobody.
func deleteOld(ctx context.Context, repo *registry.Repo, plans []Plan, due []int) error {
	kept := map[digest.Digest]bool{}
	for _, i := range due {
		kept[plans[i].New] = true
	}
	var gone []int
	for _, i := range due {
		p := &plans[i]
		if !p.Replace || kept[p.Signature] {
			continue
		}
		stop, err := p.stoppedBy(ctx, repo)
		if err != nil {
			return err
		}
		if stop != "" {
			p.Status = StatusOldLeft
			p.warn("the old signature %s was left: %s stands behind it in the list and cannot be read, so that stock verifiers would give up before they come to the new one. "+
				"Take that away first: imprint prune REF --signature %[2]s", p.Signature, stop)
			continue
		}
		err = repo.Detach(ctx, p.subject, p.Signature)
		switch {
		case errors.Is(err, registry.ErrUnsupported), errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrRefused):
			p.Status = StatusOldLeft
			p.warn("the old signature %s was left: %v", p.Signature, err)
		case err != nil:
			return fmt.Errorf("deleting the old signature %s, now that %s is there: %w", p.Signature, p.New, err)
		default:
			p.Status = StatusReplaced
			gone = append(gone, i)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	list, err := signaturesOf(ctx, repo, plans[gone[0]])
	if err != nil {
		return err
	}
	for _, i := range gone {
		if p := &plans[i]; lists(list, p.Signature) {
			p.warn("the registry deleted %s and still lists it: until that ends, stock notation may refuse the artifact", p.Signature)
		}
	}
	return nil
}

// sleep waits for d or the end of ctx, by pause if there is one.
func sleep(ctx context.Context, pause func(context.Context, time.Duration) error, d time.Duration) error {
	if pause != nil {
		return pause(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// stoppedBy returns what still stands in the list between the old signature and the new one and stops stock verifiers there, "" if nothing
// does: writing a fallback index leaves ghosts out.
func (p Plan) stoppedBy(ctx context.Context, repo *registry.Repo) (digest.Digest, error) {
	if len(p.stops) == 0 {
		return "", nil
	}
	list, err := signaturesOf(ctx, repo, p)
	if err != nil {
		return "", err
	}
	behind := false
	for _, r := range list {
		switch {
		case r.Digest == p.Signature:
			behind = true
		case r.Digest == p.New:
			return "", nil
		case behind && slices.Contains(p.stops, r.Digest):
			return r.Digest, nil
		}
	}
	return "", nil
}
