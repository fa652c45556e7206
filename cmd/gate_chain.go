package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

// renewals are the plans of signatures for which there are new certificates, or not.
type renewals struct {
	plans   []signer.Plan
	fits    int   // that are renewed, or have that chain already
	refused error // why one that the certificates are for may not have them
	skipped error // why one is left as it is: of several the reason that says most
	foreign int   // that are of keys which the certificates are not for
}

// planChains plans a new chain for each of the signatures of one artifact. The error is that one could not be read.
func (g gate) planChains(sigs []registry.Signature, pool *signer.Pool, o signer.RechainOptions) (renewals, error) {
	return planEach(sigs, func(sig registry.Signature, siblings *signer.Siblings) (signer.Plan, error) {
		o.Siblings = siblings
		return g.unrevoked(signer.PlanRechain(sig, pool, o))
	})
}

func planEach(sigs []registry.Signature, plan func(sig registry.Signature, siblings *signer.Siblings) (signer.Plan, error)) (r renewals, err error) {
	siblings := signer.Among(sigs)
	for _, sig := range sigs {
		p, err := plan(sig, siblings)
		if err != nil && sig.Err != nil && !skippable(err) {
			return r, err
		}
		r.plans = append(r.plans, p)
		if err != nil && reason(err) == "leaf-key-differs" {
			r.foreign++
		}
		switch {
		case err == nil:
			r.fits++
		case !skippable(err):
			r.refused = cmp.Or(r.refused, err)
		case r.skipped == nil || reason(r.skipped) == "leaf-key-differs":
			// A wrong signature says more than one that is somebody else's.
			r.skipped = err
		}
	}
	return r, nil
}

// renew plans a new chain for each signature of the graph that the certificates of --chain are for. A signature that cannot have one
// stays as it is, with a warning, unless there is none that can: then what was handed in is wrong.
func (g gate) renew(p passage, hearings []*hearing) (warnings []string, err error) {
	var all renewals
	pool := signer.NewPool(g.chain)
	for _, h := range hearings {
		r, err := g.planChains(h.sigs, pool, signer.RechainOptions{Now: g.now})
		if err != nil {
			return nil, err
		}
		seen := map[digest.Digest]bool{} // of two whose renewal is the same one is enough
		for _, plan := range r.plans {
			if plan.Status == signer.StatusPlanned && !seen[plan.New] {
				seen[plan.New] = true
				h.renewed = append(h.renewed, plan)
			}
			for _, w := range plan.Warnings {
				warnings = append(warnings, fmt.Sprintf("signature %s: %s", short(plan.Signature), w))
			}
			if plan.Status == signer.StatusSkipped && plan.Reason != "leaf-key-differs" {
				why := strings.TrimPrefix(plan.Detail, fmt.Sprintf("rechaining signature %s: ", plan.Signature))
				warnings = append(warnings, fmt.Sprintf("signature %s keeps its chain: %s", short(plan.Signature), why))
			}
		}
		all.plans = append(all.plans, r.plans...)
		all.fits, all.foreign = all.fits+r.fits, all.foreign+r.foreign
		all.refused, all.skipped = cmp.Or(all.refused, r.refused), cmp.Or(all.skipped, r.skipped)
	}
	switch {
	case len(all.plans) == 0:
		return append(warnings, fmt.Sprintf("%s has no signature that --chain could renew", p.source)), nil
	case all.fits == 0 && all.refused != nil:
		return nil, chainRefused(all.refused)
	case all.foreign == len(all.plans):
		return nil, all.skipped
	case all.foreign == 1:
		warnings = append(warnings, "1 signature keeps its chain: the certificates of --chain are not for its key")
	case all.foreign > 1:
		warnings = append(warnings, fmt.Sprintf("%d signatures keep their chains: the certificates of --chain are not for their keys", all.foreign))
	}
	return warnings, nil
}

// chainRefused is err with what to do next in a copy, which has no flags that permit such a chain: rechain has.
func chainRefused(err error) error {
	switch reason(err) {
	case "identity-changes":
		return &hinted{err, "verifiers that pin the old name will refuse the new one: name a certificate with the old name; or copy without --chain, and see imprint rechain --help"}
	case "ends-earlier":
		return &hinted{err, "give the chain that lasts longer; or copy without --chain, and see imprint rechain --help"}
	}
	return err
}

// addition is the renewed signature of a plan as a referrer that is going to exist.
func addition(subject *registry.Node, p signer.Plan) registry.Addition {
	sig := p.Proposed()
	return registry.Addition{
		Subject:  subject.Manifest.Descriptor,
		Manifest: sig.Manifest,
		Blobs: map[digest.Digest][]byte{
			ocispec.DescriptorEmptyJSON.Digest: ocispec.DescriptorEmptyJSON.Data,
			digest.FromBytes(sig.Envelope):     sig.Envelope,
		},
	}
}

// unavailable reports whether an error says that something could not be asked for now.
func unavailable(err error) bool {
	return errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrUnauthorized) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// short is the beginning of a digest as people are shown it.
func short(d digest.Digest) string {
	hex := strings.TrimPrefix(d.String(), "sha256:")
	return hex[:min(len(hex), 12)]
}
