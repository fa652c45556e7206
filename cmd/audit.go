package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

type auditInputs struct {
	within, failWithin          duration
	metrics, html, certificates string
	stamps                      stampFlags // only its roots
	batch                       batchFlags
}

func newAudit(s *session) *cobra.Command {
	in := auditInputs{within: duration(30 * 24 * time.Hour)}
	c := &cobra.Command{
		Use:   "audit REPO…",
		Short: "what expires when, across repositories",
		Long: `Reads every signature of repositories once and says what ends first and what mends it, what is unsigned, and what is odd. It reads only
and judges no trust. REPO is a repository (HOST/REPO, oci:DIR), all below a name (HOST/TEAM/, or HOST, where the registry lists its repositories), or
a reference with all that it leads to. A signature ends with the first certificate of its chain to end, with that of its timestamp's
authority, or at its own expiry. That counts only while nothing stands in for it: the same identity under the same root saying the same,
and lasting longer; a stranger's copy under another root changes nothing. What mends it: "rechain" where a CA's
certificate ends; "rechain, new leaf" where the signing certificate does, which the CA re-issues for the same key from the files of
--certificates, so that nothing is signed again; "timestamp" where the authority's certificate ends, after which few can ask
whether it was revoked; both at once (rechain --timestamp-url) if the chain has ended by then; "signing again" only at an expiry, which is
signed itself, and where the certificate is self-signed. With --timestamp-roots a signature with a timestamp under these roots
outlives its chain; without, the end of a chain counts whatever timestamp there is, since some verifiers look at none. In JSON each
artifact is a line, and an item for --batch of other commands. What expires within --fail-within is exit 1, also where not all could be read.`,
		Example: `  imprint audit ghcr.io/acme/app --within 60d --fail-within 30d
  imprint audit harbor.acme.example/prod/ --html audit.html --metrics imprint.prom
  imprint audit --batch repos.txt --certificates certs/`,
		Args: arguments(1, many, "REPO…"),
		Annotations: map[string]string{exits: "0 done   1 something expires within --fail-within   3 usage   4 not everything could be read   " +
			"5 not authorised   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runAudit(ctx, s, in, args) }),
	}
	f := c.Flags()
	f.Var(&in.within, "within", "list as expiring what ends within `DURATION`")
	f.Var(&in.failWithin, "fail-within", "exit 1 if something ends within `DURATION`, as 14d")
	f.StringVar(&in.metrics, "metrics", "", "write the numbers to `FILE` for node_exporter's textfile collector, atomically")
	f.StringVar(&in.html, "html", "", "write one self-contained page to `FILE`, atomically")
	f.StringVar(&in.certificates, "certificates", "", "write each certificate of the signatures to a file in `DIR`, as PEM")
	f.StringArrayVar(&in.stamps.roots, "timestamp-roots", nil, "verifiers trust the time-stamping authorities of these root certificates, in `FILE|DIR`")
	in.batch.bind(c)
	return c
}

// A quarry is a repository of an audit and where in it the walk begins.
type quarry struct {
	ref  registry.Reference
	item item
	from []registry.Reference
}

// An auditRun is one run of audit.
type auditRun struct {
	s       *session
	in      auditInputs
	auditor *audit.Auditor
	of      int // items
	parts   []audit.Surveyed
	unseen  []audit.Unseen
	codes   []int // exit codes of what could not be read
	hints   tally
	remote  bool
}

func runAudit(ctx context.Context, s *session, in auditInputs, args []string) error {
	items, err := in.batch.items(s, args, form{words: 1}, "REPO…")
	if err != nil {
		return err
	}
	if err := in.writable(); err != nil {
		return err
	}
	o := audit.Options{
		Now: s.now, Within: time.Duration(in.within), FailWithin: time.Duration(in.failWithin),
		Slots: make(chan struct{}, in.batch.jobs),
	}
	if len(in.stamps.roots) > 0 {
		if o.TimestampRoots, err = in.stamps.trusted(s); err != nil {
			return err
		}
	}
	o.Superseded = func(sigs []registry.Signature) map[digest.Digest]digest.Digest {
		goes := map[digest.Digest]digest.Digest{}
		for _, p := range signer.PlanPrune(sigs, signer.PruneOptions{Now: s.now, TimestampRoots: o.TimestampRoots}).Signatures {
			if p.Status == signer.PruneGoes {
				goes[p.Signature] = p.Survivor
			}
		}
		return goes
	}
	run := &auditRun{s: s, in: in, auditor: audit.New(o), of: len(items)}
	quarries, err := run.quarries(ctx, items)
	if err != nil {
		return err
	}
	run.walk(ctx, quarries)
	if ctx.Err() != nil { // half an audit is none: no file is replaced by it
		return fmt.Errorf("auditing: %w", context.Cause(ctx))
	}
	return run.answer()
}

// writable refuses what could not be written in the end, before anything is read.
func (in auditInputs) writable() error {
	for _, out := range [][2]string{{"metrics", in.metrics}, {"html", in.html}} {
		flag, path := out[0], out[1]
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); path == "-" || err == nil && !info.Mode().IsRegular() {
			return usageHint("name a file, which is replaced in one go", "--%s %s: it is no file", flag, path)
		}
		if err := writable(path, true); err != nil {
			return err
		}
	}
	if in.metrics != "" && filepath.Clean(in.metrics) == filepath.Clean(in.html) {
		return usageHint("give each a file of its own", "--metrics and --html both name %s", in.html)
	}
	if in.certificates == "" {
		return nil
	}
	if info, err := os.Stat(in.certificates); err == nil && !info.IsDir() {
		return usageHint("name a folder: each certificate becomes a file in it", "--certificates %s: it is no folder", in.certificates)
	}
	return nil
}

// quarries returns the repositories that the items name, in their order, each once. A lone item that is wrong is the error.
func (a *auditRun) quarries(ctx context.Context, items []item) ([]*quarry, error) {
	var out []*quarry
	at := map[registry.Reference]*quarry{}
	add := func(it item, ref registry.Reference) {
		a.remote = a.remote || ref.Kind == registry.Remote
		repo := ref.Repository()
		if at[repo] == nil {
			at[repo] = &quarry{ref: repo, item: it}
			out = append(out, at[repo])
		}
		if !slices.Contains(at[repo].from, ref) {
			at[repo].from = append(at[repo].from, ref)
		}
	}
	for _, it := range items {
		host, prefix, ok := prefixOf(it[0])
		if !ok {
			ref, err := registry.ParseReference(it[0])
			if err == nil {
				add(it, ref)
				continue
			}
			if len(items) == 1 {
				return nil, fmt.Errorf("audit: %w", err)
			}
			a.failed(it, err)
			continue
		}
		if err := a.below(ctx, host, prefix, func(ref registry.Reference) { add(it, ref) }); err != nil {
			if len(items) == 1 || ctx.Err() != nil {
				return nil, fmt.Errorf("audit %s: %w", it[0], err)
			}
			a.failed(it, fmt.Errorf("audit %s: %w", it[0], err))
		}
		if len(a.unseen) > 0 && a.in.batch.failFast {
			return nil, &batchError{code: a.codes[0]}
		}
	}
	return out, nil
}

// prefixOf splits HOST, HOST/ and HOST/TEAM/.
func prefixOf(text string) (host, prefix string, ok bool) {
	if strings.HasPrefix(text, "oci:") || strings.HasPrefix(text, "oci-archive:") || strings.Contains(text, "@") {
		return "", "", false
	}
	host, rest, slash := strings.Cut(text, "/")
	if slash && rest != "" && !strings.HasSuffix(rest, "/") {
		return "", "", false
	}
	prefix = strings.TrimSuffix(rest, "/")
	// As a repository it has to be one: that tells hosts from misspelt names.
	probe := host + "/" + prefix
	if prefix == "" {
		probe += "x"
	}
	if ref, err := registry.ParseQualified(probe); err != nil || ref.Tag != "" || ref.Host == "" {
		return "", "", false
	}
	return host, prefix, true
}

// below names the repositories of a registry that lie at or below prefix.
func (a *auditRun) below(ctx context.Context, host, prefix string, add func(registry.Reference)) error {
	c, err := a.s.client()
	if err != nil {
		return err
	}
	n := 0
	for name, err := range c.Repositories(ctx, host, prefix) {
		if err != nil {
			return err
		}
		n++
		add(registry.Reference{Kind: registry.Remote, Host: host, Path: name})
	}
	if n == 0 {
		return &nothingBelow{host, prefix}
	}
	return nil
}

// A nothingBelow is that a registry lists no repository below a name.
type nothingBelow struct{ host, prefix string }

func (e *nothingBelow) Error() string {
	if e.prefix == "" {
		return e.host + " lists no repository"
	}
	return fmt.Sprintf("%s lists no repository below %s/", e.host, e.prefix)
}
func (e *nothingBelow) Reason() string { return "catalog-empty" }
func (e *nothingBelow) exitCode() int  { return exitUnknown }

// walk audits the repositories, at most --jobs at once, and says of each in its order what was found.
func (a *auditRun) walk(ctx context.Context, quarries []*quarry) {
	work, stop := context.WithCancel(ctx)
	defer stop()
	type outcome struct {
		part audit.Surveyed
		err  error
	}
	outcomes := make([]chan outcome, len(quarries))
	for i := range outcomes {
		outcomes[i] = make(chan outcome, 1)
	}
	var walks sync.WaitGroup
	defer walks.Wait()
	walks.Go(func() {
		turns := make(chan struct{}, a.in.batch.jobs)
		for i, q := range quarries {
			turns <- struct{}{}
			walks.Go(func() {
				defer func() { <-turns }()
				part, err := a.audit(work, q)
				outcomes[i] <- outcome{part, err}
			})
		}
	})
	for i, q := range quarries {
		o := <-outcomes[i]
		if work.Err() != nil {
			continue
		}
		if o.err != nil {
			a.failed(item{q.ref.String()}, fmt.Errorf("audit %s: %w", q.ref, o.err))
		}
		for i, u := range o.part.Unseen {
			o.part.Unseen[i].Text = redact(u.Text)
			a.unread(item{u.Item}, fmt.Errorf("audit %s: %w", u.Item, u.Err))
		}
		if len(o.part.Artifacts) > 0 || o.err == nil && len(o.part.Unseen) == 0 {
			a.parts = append(a.parts, o.part)
			a.lines(o.part)
		} else { // nothing of it was seen
			a.unseen = append(a.unseen, o.part.Unseen...)
		}
		if a.in.batch.failFast && len(a.codes) > 0 {
			stop()
		}
	}
}

func (a *auditRun) audit(ctx context.Context, q *quarry) (audit.Surveyed, error) {
	if ctx.Err() != nil {
		return audit.Surveyed{}, context.Cause(ctx)
	}
	repo, err := a.s.open(ctx, q.ref)
	if err != nil {
		return audit.Surveyed{}, err
	}
	defer repo.Close()
	return a.auditor.Repository(ctx, repo, q.from...)
}

// failed notes what could not be audited at all.
func (a *auditRun) failed(it item, err error) {
	a.unseen = append(a.unseen, audit.Unseen{Item: it[0], Reason: reason(err), Text: redact(err.Error()), Err: err})
	a.unread(it, err)
}

func (a *auditRun) unread(it item, err error) {
	a.s.report(err, it)
	a.codes = append(a.codes, exitCode(err))
	a.hints.hint(a.s.hint(err))
}

// lines answers with a line for each artifact in JSON.
func (a *auditRun) lines(part audit.Surveyed) {
	if !a.s.json {
		return
	}
	for _, artifact := range part.Artifacts {
		_ = a.s.answer("audit", artifact, nil)
	}
}

// An auditSummary is the last line of an audit in JSON.
type auditSummary struct {
	Items int `json:"items"`
	audit.Report
	Artifacts    any         `json:"artifacts,omitempty"` // which have a line each
	Certificates []auditCert `json:"certificates"`
	Files        *auditFiles `json:"files,omitempty"`
	NotSeen      string      `json:"notSeen,omitempty"`
	ExitCode     int         `json:"exitCode"`
}

// An auditCert is a certificate in the summary.
type auditCert struct {
	*audit.Certificate
	File string `json:"file,omitempty"` // that --certificates wrote
}

// auditFiles are what was written.
type auditFiles struct {
	Metrics      string `json:"metrics,omitempty"`
	HTML         string `json:"html,omitempty"`
	Certificates string `json:"certificates,omitempty"`
}

// answer writes the files, then the answer.
func (a *auditRun) answer() error {
	r := a.auditor.Report(a.parts, a.unseen...)
	o := ui.AuditOptions{
		Within: time.Duration(a.in.within), FailWithin: time.Duration(a.in.failWithin), NotSeen: a.remote, HTML: a.in.html != "", ExitCode: a.code(r),
	}
	var files map[string]string
	var failed error
	if a.in.certificates != "" {
		kept, err := a.writeCertificates(r)
		failed = errors.Join(failed, err)
		if err == nil {
			files = kept.names
			o.Files = append(o.Files, ui.AuditCertificates(a.in.certificates, len(kept.names), kept.written, kept.leaves, kept.ending, o.Within))
		}
	}
	for _, f := range []struct {
		path  string
		write func(w io.Writer, r audit.Report) error
	}{{a.in.metrics, audit.WriteMetrics}, {a.in.html, ui.Page}} {
		if f.path == "" {
			continue
		}
		err := a.write(f.path, r, f.write)
		failed = errors.Join(failed, err)
		if err == nil {
			o.Files = append(o.Files, f.path)
		}
	}
	if failed != nil {
		o.ExitCode = exitCode(failed)
	}
	a.say(r, o, files)
	if failed != nil {
		return failed
	}
	for _, h := range a.hints.hints {
		a.s.talk("imprint: hint: ", h)
	}
	if o.ExitCode != exitDone {
		return &batchError{code: o.ExitCode}
	}
	return nil
}

func (a *auditRun) say(r audit.Report, o ui.AuditOptions, files map[string]string) {
	if !a.s.json {
		_ = a.s.answer("audit", nil, func(w io.Writer) { ui.Audit(w, r, o) })
		return
	}
	sum := auditSummary{Items: a.of, Report: r, Certificates: []auditCert{}, ExitCode: o.ExitCode}
	for _, c := range r.ByEnd() {
		sum.Certificates = append(sum.Certificates, auditCert{c, files[c.Thumbprint]})
	}
	if len(o.Files) > 0 {
		sum.Files = &auditFiles{a.in.metrics, a.in.html, a.in.certificates}
	}
	if a.remote {
		sum.NotSeen = notSeen
	}
	_ = a.s.answer("summary", sum, nil)
}

// code is the exit code. What is known to expire is known, whatever else could not be read.
func (a *auditRun) code(r audit.Report) int {
	verdicts := slices.DeleteFunc(slices.Clone(a.codes), func(c int) bool { return c != exitRejected })
	switch {
	case r.Counts.Failing > 0:
		return exitRejected
	case len(a.codes) == 0:
		return exitDone
	case len(verdicts) == len(a.codes):
		return exitRejected
	case len(a.parts) == 0 && a.codes[0] != exitPartly: // nothing was written that a second run would finish
		return a.codes[0]
	}
	return exitUnknown
}
