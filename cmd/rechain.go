package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

type rechainInputs struct {
	chain               []string
	replace             bool
	allowIdentityChange bool
	allowShorter        bool
	dryRun              bool
	alone               bool // one artifact, no batch
	judging             judgingFlags
	batch               batchFlags
}

func newRechain(s *session) *cobra.Command {
	var in rechainInputs
	c := &cobra.Command{
		Use:   "rechain REF…",
		Short: "put a new certificate chain on existing signatures",
		Long: `Exchanges the certificate chain of existing signatures; what was signed stays as it is, bit for bit, and no key is needed. From
the certificates given and those in the signature the chain that lasts longest is built for each signature's own key. The old
signature stays beside the new one unless --replace. With --policy or --root the new one must be accepted before it is written.`,
		Example: `  imprint rechain ghcr.io/acme/app:1.4.2 --chain new-intermediate.pem --dry-run
  imprint rechain --batch releases.txt --chain new/ --policy prod.yaml`,
		Args: arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 done, or nothing to change   1 unsigned, not accepted, or a signature that is wrong   " +
			"3 usage, or the chain does not fit   4 registry   5 not authorised   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runRechain(ctx, s, in, args) }),
	}
	f := c.Flags()
	f.StringArrayVar(&in.chain, "chain", nil, "certificates in `FILE|DIR`, in any order: the new ones are enough")
	f.BoolVar(&in.replace, "replace", false, "delete the old signature once the new one is listed")
	f.BoolVar(&in.allowIdentityChange, "allow-identity-change", false, "the new certificate may name another subject")
	f.BoolVar(&in.allowShorter, "allow-shorter", false, "the new chain may end earlier")
	f.BoolVar(&in.dryRun, "dry-run", false, "show the plan, write nothing")
	in.judging.bindGate(c)
	in.batch.bind(c)
	return c
}

func runRechain(ctx context.Context, s *session, in rechainInputs, args []string) error {
	items, err := in.batch.items(s, args, form{words: 1}, "REF…")
	if err != nil {
		return err
	}
	if len(in.chain) == 0 {
		return usageHint("name the new certificates: --chain FILE, or a folder of them", "no certificates to build a new chain from")
	}
	files, err := s.certificateFiles(in.chain)
	if err != nil {
		return err
	}
	certs, err := s.certificates(files)
	if err != nil {
		return err
	}
	g, err := in.judging.gate(s)
	if err != nil {
		return err
	}
	in.alone = len(items) == 1 && in.batch.file == ""
	b := batch[signer.RechainResult]{
		kind: "rechain",
		do: func(ctx context.Context, it item) (signer.RechainResult, error) {
			r, err := in.rechain(ctx, s, it[0], certs, g)
			if err != nil {
				err = fmt.Errorf("rechain %s: %w", it[0], err)
			}
			return r, err
		},
		full:    ui.Rechain,
		line:    ui.RechainLine,
		word:    ui.RechainWord,
		skipped: nothingFits,
	}
	if in.dryRun {
		b.whole = ui.RechainPlan
		b.full = func(w io.Writer, r signer.RechainResult) { ui.RechainPlan(w, []signer.RechainResult{r}, nil) }
	}
	return runBatch(ctx, s, in.batch, items, b)
}

// rechain plans all signatures of an artifact, has the plans judged, and only then writes.
func (in rechainInputs) rechain(ctx context.Context, s *session, text string, certs []*x509.Certificate, g gate) (signer.RechainResult, error) {
	ref, err := artifact(text)
	if err != nil {
		return signer.RechainResult{}, err
	}
	if ref.Kind == registry.Archive {
		return signer.RechainResult{}, usageHint("copy it into a layout first: imprint copy "+text+" oci:DIR",
			"an archive is written once and takes no signature")
	}
	repo, err := s.open(ctx, ref)
	if err != nil {
		return signer.RechainResult{}, err
	}
	defer repo.Close()
	root, err := repo.Resolve(ctx, ref)
	if err != nil {
		return signer.RechainResult{}, err
	}
	sigs, err := repo.Signatures(ctx, root.Descriptor)
	if err != nil {
		return signer.RechainResult{}, err
	}
	r := signer.RechainResult{Reference: ref.String(), Digest: root.Descriptor.Digest, Plans: []signer.Plan{}, DryRun: in.dryRun}
	if len(sigs) == 0 {
		return r, unsigned(ref.String(), "there is nothing to put a new chain on")
	}
	var refused error
	if r.Plans, refused, err = in.plan(s, sigs, certs); err != nil {
		return r, err
	}
	if err := g.judgePlans(ref, root, r.Plans); err != nil {
		return r, err
	}
	written := false
	for i, p := range r.Plans {
		if p.Status == signer.StatusPlanned && !in.dryRun {
			p, err = p.Push(ctx, repo)
			r.Plans[i] = p
			// Also the one that failed may have been written, and only its old one not deleted.
			written = written || p.Status == signer.StatusWritten || p.Status == signer.StatusReplaced || p.Status == signer.StatusOldLeft
			if err != nil {
				return r, partlyDone(err, written)
			}
		}
		r.Warnings = append(r.Warnings, p.Warnings...)
	}
	for _, w := range r.Warnings {
		s.warn("rechain", w)
	}
	if refused != nil && written {
		refused = &partly{refused}
	}
	return r, refused
}

// plan plans every signature. One that the given certificates are not for, or that is no proper signature, is
// skipped, unless no other is left. refused is why one that they are for may not have them, while others may: whoever
// may push can plant such a one under a root of his own, so it must neither keep the others from their new chain nor
// make anybody loosen a check, and is told in the end. Where there are no others it is the error.
func (in rechainInputs) plan(s *session, sigs []registry.Signature, certs []*x509.Certificate) (plans []signer.Plan, refused, err error) {
	o := signer.RechainOptions{
		AllowIdentityChange: in.allowIdentityChange,
		AllowShorter:        in.allowShorter,
		Replace:             in.replace,
		Now:                 s.now,
	}
	r, err := planChains(sigs, signer.NewPool(certs), o)
	if err != nil {
		return nil, nil, err
	}
	if r.fits == 0 && r.refused != nil {
		return r.plans, nil, r.refused
	}
	if r.fits == 0 && (in.alone || reason(r.skipped) != "leaf-key-differs") {
		return r.plans, nil, r.skipped
	}
	return r.plans, r.refused, nil
}

// nothingFits returns why none of an artifact's signatures can have a new chain of the certificates given, nil if one
// can: in a batch that is counted, and an error only if it is so of all.
func nothingFits(r signer.RechainResult) error {
	for _, p := range r.Plans {
		if p.Status != signer.StatusSkipped {
			return nil
		}
	}
	if len(r.Plans) == 0 {
		return nil
	}
	return &misfit{r.Plans[0].Reason, r.Plans[0].Detail}
}

// A misfit is that no certificate given is for the key of any signature.
type misfit struct{ code, why string }

func (e *misfit) Error() string  { return e.why }
func (e *misfit) Reason() string { return e.code }
func (e *misfit) exitCode() int  { return exitUsage }

// skippable reports whether a signature that could not be planned may be left as it is while others are renewed.
func skippable(err error) bool {
	if unavailable(err) {
		return false
	}
	switch reason(err) {
	case "leaf-key-differs", "not-issued-by", "signature-invalid", "chain-is-signed", "manifest-malformed":
		return true
	}
	return errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrMalformed) || errors.Is(err, registry.ErrTooLarge) ||
		errors.Is(err, registry.ErrDigestMismatch)
}

// judgePlans holds each new signature, alone, against the policy of the command line.
func (g gate) judgePlans(ref registry.Reference, root registry.Manifest, plans []signer.Plan) error {
	if g.policy == nil {
		return nil
	}
	at, err := g.judgedAs(ref)
	if err != nil {
		return err
	}
	tag := at.Tag
	if tag == "" {
		tag = ref.BareTag()
	}
	seen := map[digest.Digest]bool{}
	for _, p := range plans {
		if p.Status != signer.StatusPlanned || seen[p.New] {
			continue
		}
		seen[p.New] = true
		as := at.With(tag, root.Descriptor.Digest)
		report := g.policy.Judge(as, root.Descriptor, []registry.Signature{p.Proposed()}, g.now)
		if !report.Passed() {
			report.Reference = fmt.Sprintf("%s with the new chain of signature %.19s", ref, p.Signature)
			return &refusal{report: report}
		}
	}
	return nil
}
