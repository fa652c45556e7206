package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

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
	if p.envelope == nil || p.Status != StatusPlanned {
		return p, nil
	}
	listed, err := p.listed(ctx, repo, p.New)
	if err != nil {
		return p, err
	}
	status := StatusThere
	if listed {
		// What is listed and not there, a ghost, is written again; anything else may pass.
		err := p.reread(ctx, repo)
		listed = err == nil || !errors.Is(err, registry.ErrNotFound)
		if listed && err != nil {
			if err := p.readBack(ctx, repo); err != nil {
				return p, err
			}
		}
	}
	if !listed {
		status = StatusWritten
		if err := repo.PushSignature(ctx, p.subject, p.manifest, p.envelope.Bytes()); err != nil {
			return p, fmt.Errorf("pushing the rechained signature %s: %w", p.New, err)
		}
		if err := p.readBack(ctx, repo); err != nil {
			return p, err
		}
	}
	p.Status = status
	if !p.Replace {
		return p, nil
	}
	return p.deleteOld(ctx, repo)
}

func (p Plan) listed(ctx context.Context, repo *registry.Repo, d digest.Digest) (bool, error) {
	list, err := repo.Referrers(ctx, p.subject, registry.ArtifactTypeSignature)
	if err != nil {
		return false, fmt.Errorf("listing the signatures of %s: %w", p.subject.Digest, err)
	}
	return slices.ContainsFunc(list, func(r registry.Referrer) bool { return r.Digest == d }), nil
}

// readBack returns once the registry lists the new signature and gives back its very bytes. Registries exist that
// take a while; the old signature may not be touched before.
func (p Plan) readBack(ctx context.Context, repo *registry.Repo) error {
	var last error
	wait := readBackPause
	for try := range readBacks {
		if try > 0 {
			if err := p.sleep(ctx, wait); err != nil {
				return err
			}
			wait *= readBackGrowth
		}
		last = p.readBackOnce(ctx, repo)
		if last == nil {
			return nil
		}
		if !passing(last) {
			return fmt.Errorf("reading back the rechained signature %s: %w", p.New, last)
		}
	}
	return &registry.Error{Code: registry.CodeUnsettled, Err: fmt.Errorf("reading back the rechained signature %s: %w: %w",
		p.New, registry.ErrUnsettled, last)}
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

// readBackOnce looks for it in the list, and reads it, now.
func (p Plan) readBackOnce(ctx context.Context, repo *registry.Repo) error {
	listed, err := p.listed(ctx, repo, p.New)
	if err != nil {
		return err
	}
	if !listed {
		return fmt.Errorf("%w: it is not listed", errNotYet)
	}
	return p.reread(ctx, repo)
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

// deleteOld removes the signature that this plan was made of, and no other, now that the new one is listed. Where the
// registry does not delete, or does not let us, the old one stays and harms nobody.
func (p Plan) deleteOld(ctx context.Context, repo *registry.Repo) (Plan, error) {
	err := repo.Detach(ctx, p.subject, p.Signature)
	switch {
	case errors.Is(err, registry.ErrUnsupported), errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrRefused):
		p.Status = StatusOldLeft
		p.warn("the old signature %s was left: %v", p.Signature, err)
		return p, nil
	case err != nil:
		return p, fmt.Errorf("deleting the old signature %s, now that %s is there: %w", p.Signature, p.New, err)
	}
	p.Status = StatusReplaced
	ghost, err := p.listed(ctx, repo, p.Signature)
	if err != nil {
		return p, err
	}
	if ghost {
		p.warn("the registry deleted %s and still lists it: until that ends, stock notation may refuse the artifact", p.Signature)
	}
	return p, nil
}

// sleep waits for d or the end of ctx.
func (p Plan) sleep(ctx context.Context, d time.Duration) error {
	if p.pause != nil {
		return p.pause(ctx, d)
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
