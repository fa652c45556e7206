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

// How often a signature that was deleted is looked for in the list before that is said, and after which first pause (doubled each
// time). Some registries list what they deleted for hours, so that waiting for long is of no use.
const (
	ghostLooks = 4
	ghostPause = 250 * time.Millisecond
)

// Push deletes what the plan says, one after the other. Before each the list is read again, and the survivor: it must be listed so that stock
// verifiers see it, and be there as it was, so that with any number of writers at once, killed anywhere, what is deleted has one that makes it needless. It is
// taken out of a fallback index first, read back settled. A registry that does not delete leaves it, Status "old-left", or "unlisted" if it could
// be taken out of the list: that is a warning, no error.
func (p PrunePlan) Push(ctx context.Context, repo *registry.Repo) (PrunePlan, error) {
	p.Signatures, p.Warnings = slices.Clone(p.Signatures), slices.Clone(p.Warnings)
	refused := false
	for i := range p.Signatures {
		s := &p.Signatures[i]
		var err error
		switch {
		case s.Status == PruneUnlists:
			err = p.unlist(ctx, repo, s)
		case s.Status == PruneGoes && refused && !repo.ListsByTag():
			s.Status = PruneLeft // as the one before
		case s.Status == PruneGoes:
			err = p.delete(ctx, repo, s)
			refused = refused || s.Status == PruneLeft
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// delete deletes s, if what it goes for still holds.
func (p *PrunePlan) delete(ctx context.Context, repo *registry.Repo, s *PrunedSignature) error {
	list, err := repo.Referrers(ctx, p.subject, "")
	if err != nil {
		return err
	}
	if !lists(list, s.Signature) {
		s.Status = PruneGone
		return nil
	}
	if s.Survivor != "" {
		why, err := p.survives(ctx, repo, list, s.Survivor)
		if err != nil {
			return err
		}
		if why != "" {
			s.Status, s.Reason, s.Detail = PruneStays, codeSurvivor, why
			p.warn("%s stays: %s; run it again", s.Signature, why)
			return nil
		}
	}
	err = repo.Detach(ctx, p.subject, s.Signature)
	switch {
	case errors.Is(err, registry.ErrUnsupported), errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrRefused):
		return p.left(ctx, repo, s, err)
	case err != nil:
		return fmt.Errorf("deleting the signature %s: %w", s.Signature, err)
	}
	s.Status = PruneDeleted
	return p.lookForGhost(ctx, repo, s.Signature)
}

// survives looks at the survivor once more; why says what is wrong with it. An error is that it could not be asked for.
func (p *PrunePlan) survives(ctx context.Context, repo *registry.Repo, list []registry.Referrer, survivor digest.Digest) (why string, err error) {
	i := slices.IndexFunc(list, func(r registry.Referrer) bool { return r.Digest == survivor })
	if i < 0 {
		return fmt.Sprintf("%s, which supersedes it, is not listed any more", survivor), nil
	}
	at := slices.IndexFunc(p.Signatures, func(s PrunedSignature) bool { return s.Signature == survivor })
	if at < 0 {
		return fmt.Sprintf("%s, which supersedes it, is not in this plan", survivor), nil
	}
	was := p.Signatures[at].sig
	is := repo.ReadSignature(ctx, p.subject, list[i])
	switch {
	case errors.Is(is.Err, registry.ErrNotFound):
		return fmt.Sprintf("%s, which supersedes it, is listed and not there", survivor), nil
	case errors.Is(is.Err, registry.ErrMalformed), errors.Is(is.Err, registry.ErrDigestMismatch), errors.Is(is.Err, registry.ErrTooLarge):
		return fmt.Sprintf("%s, which supersedes it, came back otherwise: %v", survivor, is.Err), nil
	case is.Err != nil:
		return "", fmt.Errorf("reading the signature %s once more, which is to survive: %w", survivor, is.Err)
	case !bytes.Equal(is.Manifest.Bytes, was.Manifest.Bytes) || is.Manifest.Descriptor.MediaType != was.Manifest.Descriptor.MediaType ||
		!bytes.Equal(is.Envelope, was.Envelope):
		return fmt.Sprintf("%s, which supersedes it, came back otherwise", survivor), nil
	case is.Misdescribed:
		return fmt.Sprintf("%s, which supersedes it, is listed as something else than it is (its type, its size), so that stock verifiers pass it over", survivor), nil
	}
	switch err := hasEnvelope(ctx, repo, is.Manifest); {
	case errors.Is(err, registry.ErrNotFound), errors.Is(err, registry.ErrDigestMismatch):
		return fmt.Sprintf("the envelope of %s, which supersedes it, stands in its manifest and is not there by itself, where stock verifiers read it", survivor), nil
	case err != nil:
		return "", fmt.Errorf("reading the envelope of %s once more, which is to survive: %w", survivor, err)
	}
	return "", nil
}

// left says what the registry did with one that it did not delete.
func (p *PrunePlan) left(ctx context.Context, repo *registry.Repo, s *PrunedSignature, refusal error) error {
	s.Status, s.Detail = PruneLeft, refusal.Error()
	list, err := repo.Referrers(ctx, p.subject, registry.ArtifactTypeSignature)
	if err != nil {
		return err
	}
	if lists(list, s.Signature) {
		p.refusal = refusal
		p.Left = fmt.Sprintf("what was to go stays: %v", refusal)
		return nil
	}
	s.Status = PruneUnlisted
	p.Left = fmt.Sprintf("what was to go was taken out of the list, and its manifest stays: %v", refusal)
	return nil
}

// Refused is the registry's answer where something that was to go is still listed, nil otherwise.
func (p PrunePlan) Refused() error { return p.refusal }

// unlist takes a ghost out of the list, unless it came back.
func (p *PrunePlan) unlist(ctx context.Context, repo *registry.Repo, s *PrunedSignature) error {
	if err := repo.Unlist(ctx, p.subject, s.Signature); err != nil {
		switch {
		case errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrRefused), errors.Is(err, registry.ErrUnsupported):
			s.Status = PruneLeft
			p.warn("%v: until that is done, stock notation may refuse the artifact", err)
			return nil
		}
		return err
	}
	list, err := repo.Referrers(ctx, p.subject, registry.ArtifactTypeSignature)
	if err != nil {
		return err
	}
	if s.Status = PruneUnlisted; lists(list, s.Signature) {
		s.Status = PruneLeft
		p.warnGhost(s.Signature)
	}
	return nil
}

// lookForGhost makes sure that what was deleted is not listed, and says so if it is: by the registry itself, since the fallback index was
// written before.
func (p *PrunePlan) lookForGhost(ctx context.Context, repo *registry.Repo, d digest.Digest) error {
	wait := ghostPause
	for look := 1; ; look++ {
		list, err := repo.Referrers(ctx, p.subject, registry.ArtifactTypeSignature)
		if err != nil {
			return fmt.Errorf("looking whether %s is listed still, now that it is deleted: %w", d, err)
		}
		if !lists(list, d) {
			return nil
		}
		if look == ghostLooks {
			p.warnGhost(d)
			return nil
		}
		if repo.ListsByTag() { // somebody has put it back meanwhile
			if err := repo.Unlist(ctx, p.subject, d); err != nil {
				return err
			}
		}
		if err := sleep(ctx, p.pause, wait); err != nil {
			return err
		}
		wait *= 2
	}
}

func (p *PrunePlan) warnGhost(d digest.Digest) {
	p.warn("the registry lists %s although it is deleted: until that ends, stock notation may refuse the artifact", d)
}
