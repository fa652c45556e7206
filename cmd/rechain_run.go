package cmd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

// A rechainer is one run of rechain: what all artifacts have in common.
type rechainer struct {
	s       *session
	in      rechainInputs
	pool    *signer.Pool
	options signer.RechainOptions
	gate    gate
	quota   *quota
	plan    *ui.RechainSum // of a dry run
	alone   bool           // one artifact, no batch

	mu      sync.Mutex
	leftOut int   // signatures that are not meant
	fits    int   // that are renewed, or have that chain already
	skipped error // why one of --all was skipped
	beside  int   // that must stay, since they state a time outside of the new chain
	oldLeft int   // that the registry did not delete
	leftWhy string
}

func (in rechainInputs) begin(s *session) (*rechainer, error) {
	if in.limit < 0 || in.limit == 0 && s.rank("limit") > fromDefault {
		return nil, usage("--limit %d: it is the number of signatures to write at most", in.limit)
	}
	if len(in.chain) == 0 && !in.aia {
		return nil, usageHint("name the new certificates: --chain FILE, or a folder of them; or --aia, to ask where the present ones say that their issuers are",
			"no certificates to build a new chain from")
	}
	r := &rechainer{s: s, in: in, quota: newQuota(in.limit)}
	certs, err := s.poolFiles(in.chain)
	if err != nil {
		return nil, err
	}
	r.pool = signer.NewPool(certs)
	if r.gate, err = in.judging.gate(s); err != nil {
		return nil, err
	}
	r.options = signer.RechainOptions{
		AllowIdentityChange: in.allowIdentityChange,
		AllowShorter:        in.allowShorter,
		Replace:             in.replace,
		Now:                 s.now,
		Many:                true,
	}
	if r.options.Only, err = in.selection(s); err != nil {
		return nil, err
	}
	if r.options.Stamper, err = in.stamp.stamper(s, r.gate.timestampRoots()...); err != nil {
		return nil, err
	}
	r.plan = ui.NewRechainSum(ui.RechainAsked{
		All: in.all, Replacing: certchain.Chain(r.options.Only.Replacing).Describe(), SignedBy: in.signedBy,
		EndsBy: r.options.Only.EndsBy, Replace: in.replace, Stamps: r.options.Stamper != nil, Limit: in.limit, Judged: r.gate.policy != nil,
	})
	return r, nil
}

func (in rechainInputs) selection(s *session) (only signer.Selection, err error) {
	only.EndsBy = in.endsBy(s.now)
	for _, file := range in.replacing {
		certs, err := s.certificates([]string{file})
		if err != nil {
			return only, err
		}
		if len(certs) != 1 {
			return only, usageHint("the one that is to go, in a file of its own; several: --replacing A --replacing B",
				"--replacing %s: the file holds %d certificates", file, len(certs))
		}
		only.Replacing = append(only.Replacing, certs[0])
	}
	if in.signedBy != "" {
		if only.SignedBy, err = certchain.ParseName(in.signedBy); err != nil {
			return only, &hinted{&handedIn{fmt.Errorf("--signed-by: %w", err)}, "as --signed-by 'O=Acme, CN=release 2026': whoever's name has all of it; imprint inspect shows names"}
		}
	} else if s.rank("signed-by") == fromCommandLine {
		return only, usage("--signed-by: the name is empty")
	}
	return only, nil
}

// Limits of what new chains are built from.
const (
	maxPoolFile  = 64 << 20
	maxPoolCerts = 100_000
)

// poolFiles reads certificates from files and folders: any number of PEM blocks in a file, and what else a file of a chain may hold.
func (s *session) poolFiles(paths []string) ([]*x509.Certificate, error) {
	files, err := s.certificateFiles(paths)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, file := range files {
		b, err := s.read(file, maxPoolFile)
		if err != nil {
			return nil, err
		}
		for part := range portions(b) {
			certs, err := certchain.Parse(part)
			if err != nil {
				return nil, &handedIn{fmt.Errorf("reading certificates from %s: %w", file, err)}
			}
			out = append(out, certs...)
		}
		if len(out) > maxPoolCerts {
			return nil, usage("--chain: more than %d certificates", maxPoolCerts)
		}
	}
	return out, nil
}

// portions cuts a long file of PEM into what [certchain.Parse] takes at a time. What does not look like one stays whole.
func portions(b []byte) func(yield func([]byte) bool) {
	const begin = "-----BEGIN CERTIFICATE-----"
	return func(yield func([]byte) bool) {
		if bytes.Count(b, []byte(begin)) <= certchain.MaxCertificates {
			yield(b)
			return
		}
		for len(b) > 0 {
			end, n := len(b), 0
			for at := 0; ; n++ {
				next := bytes.Index(b[at:], []byte(begin))
				if next < 0 {
					break
				}
				if n == certchain.MaxCertificates {
					end = at + next
					break
				}
				at += next + len(begin)
			}
			if !yield(b[:end]) {
				return
			}
			b = b[end:]
		}
	}
}

// A renewal is the signatures of one artifact on the way to their new chains.
type renewal struct {
	*rechainer
	repo    *registry.Repo
	ref     registry.Reference
	root    ocispec.Descriptor
	sigs    []registry.Signature
	only    []digest.Digest // of the signatures these; none: all
	plans   []signer.Plan
	leftOut int
}

// run plans all signatures, has what is planned countersigned and judged, and only then writes.
func (a *renewal) run(ctx context.Context) error {
	refused, err := a.planAll(ctx)
	if err != nil {
		return err
	}
	if a.in.dryRun {
		refused = cmp.Or(a.judge(ctx), refused)
		a.take()
		return refused
	}
	written, err := a.write(ctx, &refused)
	if err != nil {
		return partlyDone(err, written)
	}
	if refused != nil && written {
		refused = &partly{refused}
	}
	return refused
}

// planAll plans every signature. One that the given certificates are not for, or that is no proper signature, is
// skipped, unless no other is left. refused is why one that they are for may not have them, while others may: whoever
// may push can plant such a one under a root of his own, so it must neither keep the others from their new chain nor
// make anybody loosen a check, and is told in the end. Where there are no others it is the error.
func (a *renewal) planAll(ctx context.Context) (refused, err error) {
	sums, err := planEach(a.sigs, func(sig registry.Signature, siblings *signer.Siblings) (signer.Plan, error) {
		if len(a.only) > 0 && !slices.Contains(a.only, sig.Descriptor.Digest) {
			return signer.Plan{Status: signer.StatusLeftOut}, nil
		}
		o := a.options
		o.Siblings = siblings
		return a.gate.unrevoked(a.planOne(ctx, sig, o))
	})
	if err != nil {
		return nil, err
	}
	for _, p := range sums.plans {
		if p.Status == signer.StatusLeftOut {
			a.leftOut++
			continue
		}
		a.plans = append(a.plans, p)
	}
	fits := sums.fits - a.leftOut
	a.count(fits, a.leftOut, sums.skipped)
	switch {
	case fits == 0 && sums.refused != nil:
		return nil, sums.refused
	case fits == 0 && sums.skipped != nil && !a.in.all && (a.alone || reason(sums.skipped) != "leaf-key-differs"):
		return nil, sums.skipped
	}
	return sums.refused, nil
}

// planOne plans a signature; with --aia again, once it is known to be meant, with what its certificates point at.
func (a *renewal) planOne(ctx context.Context, sig registry.Signature, o signer.RechainOptions) (signer.Plan, error) {
	p, err := signer.PlanRechain(sig, a.pool, o)
	present := p.Present()
	if !a.in.aia || present == nil || p.Status == signer.StatusLeftOut {
		return p, err
	}
	if o.Found = a.s.moreIssuers(ctx, slices.Concat(a.pool.For(present), present)); len(o.Found) == 0 {
		return p, err
	}
	return signer.PlanRechain(sig, a.pool, o)
}

// take keeps of the plans as many as --limit has room for: what is written counts, once.
func (a *renewal) take() (taken int) {
	var order []string
	of := map[string][]int{}
	for i, p := range a.plans {
		if p.Status != signer.StatusPlanned {
			continue
		}
		key := p.Result()
		if of[key] == nil {
			order = append(order, key)
		}
		of[key] = append(of[key], i)
	}
	taken = a.quota.take(len(order))
	if a.in.dryRun {
		a.quota.done(taken, taken)
	}
	for _, key := range order[taken:] {
		for _, i := range of[key] {
			a.plans[i].Status = signer.StatusLater
		}
	}
	return taken
}

// write writes what was planned, as much of it as --limit has room for. refused gets why the policy does not accept one.
func (a *renewal) write(ctx context.Context, refused *error) (written bool, err error) {
	*refused = cmp.Or(*refused, a.judge(ctx)) // before --limit makes room: what is refused needs none
	taken, used := a.take(), 0
	defer func() { a.quota.done(taken, used) }()
	if taken == 0 {
		return false, nil
	}
	if a.options.Stamper != nil {
		if a.plans, err = signer.Stamp(ctx, a.plans, a.options.Stamper); err != nil {
			return false, err
		}
		*refused = cmp.Or(*refused, a.judge(ctx))
	}
	used = min(taken, planned(a.plans))
	a.plans, err = signer.Push(ctx, a.repo, a.plans)
	for _, p := range a.plans {
		// Also the one that failed may have been written, and only its old one not deleted.
		written = written || p.Status == signer.StatusWritten || p.Status == signer.StatusReplaced || p.Status == signer.StatusOldLeft
	}
	return written, err
}

func planned(plans []signer.Plan) (n int) {
	for _, p := range plans {
		if p.Status == signer.StatusPlanned {
			n++
		}
	}
	return n
}

// judge holds each new signature, alone, against the policy of the command line. What that does not accept is skipped; the error is
// why, of the first. What --all has found is judged by digest: which tags lead to it is not its signature's business.
func (a *renewal) judge(ctx context.Context) (refused error) {
	if a.gate.policy == nil {
		return nil
	}
	at, err := a.gate.judgedAs(a.ref)
	if err != nil {
		return err
	}
	tag := at.Tag
	if tag == "" {
		tag = a.ref.BareTag()
	}
	said := map[digest.Digest]error{}
	for i := range a.plans {
		p := &a.plans[i]
		if p.Status != signer.StatusPlanned || p.Restamp { // that one is judged when it has its countersignature
			continue
		}
		why, ok := said[p.New]
		if !ok {
			report, counts, err := a.gate.examineOne(ctx, at.With(tag, a.root.Digest), a.root, p.Proposed())
			if err != nil {
				return err
			}
			if !counts {
				report.Reference = a.ref.String()
				why = &refusal{report: report, with: fmt.Sprintf("with the new chain of signature %.19s", p.Signature)}
			}
			said[p.New] = why
		}
		if why != nil {
			p.Status, p.Reason, p.Detail = signer.StatusSkipped, reason(why), why.Error()
			refused = cmp.Or(refused, why)
		}
	}
	return refused
}

// timestampRoots are those that the policy trusts authorities by.
func (g gate) timestampRoots() []*x509.Certificate {
	if g.policy == nil {
		return nil
	}
	return g.policy.TimestampRoots()
}

func (r *rechainer) count(fits, leftOut int, skipped error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fits += fits
	r.leftOut += leftOut
	if r.skipped == nil || reason(r.skipped) == "leaf-key-differs" {
		r.skipped = cmp.Or(skipped, r.skipped)
	}
}

// also are the signatures that no result tells of.
func (r *rechainer) also() (counts []ui.Count) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leftOut > 0 {
		counts = append(counts, ui.Count{N: r.leftOut, Word: "left out"})
	}
	return counts
}

// passedOver reports whether a reason says that a signature is no proper one, or that nothing given is for it.
func passedOver(reason string) bool {
	switch reason {
	case "leaf-key-differs", "not-issued-by", "signature-invalid", "chain-is-signed", "manifest-malformed":
		return true
	}
	return false
}

// skippable reports whether a signature that could not be planned may be left as it is while others are renewed.
func skippable(err error) bool {
	if unavailable(err) {
		return false
	}
	return passedOver(reason(err)) || errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrMalformed) || errors.Is(err, registry.ErrTooLarge) ||
		errors.Is(err, registry.ErrDigestMismatch)
}

// A quota is how much --limit lets a run write, however many jobs work on it. The zero limit is none.
type quota struct {
	limit int
	mu    sync.Mutex
	idle  *sync.Cond
	used  int // for good
	held  int // by what is being written
}

func newQuota(limit int) *quota {
	q := &quota{limit: limit}
	q.idle = sync.NewCond(&q.mu)
	return q
}

// take returns how many of n there is room for. It waits while others hold what they may yet give back; who took something
// calls done before it takes more.
func (q *quota) take(n int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit == 0 || n == 0 {
		return n
	}
	for q.used < q.limit && q.used+q.held >= q.limit {
		q.idle.Wait()
	}
	n = min(n, q.limit-q.used-q.held)
	q.held += n
	return n
}

// done gives back what was taken; used of it were written, or may have been.
func (q *quota) done(taken, used int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit == 0 {
		return
	}
	q.held -= taken
	q.used += used
	q.idle.Broadcast()
}

// spent reports that nothing more may be written.
func (q *quota) spent() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit > 0 && q.used >= q.limit
}

// reached reports that all was written and nothing is being written any more.
func (q *quota) reached() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit > 0 && q.used >= q.limit && q.held == 0
}
