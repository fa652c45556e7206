package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

const (
	maxSkew  = 5 * time.Minute     // of this machine's clock
	soonEnds = 30 * 24 * time.Hour // a chain that ends earlier deserves a word
)

type doctorInputs struct {
	key    keyFlags
	chain  []string
	policy policyFlags
	write  bool
}

func newDoctor(s *session) *cobra.Command {
	var in doctorInputs
	c := &cobra.Command{
		Use:   "doctor [REF]",
		Short: "what works here: registry, key, chain, clock, configuration",
		Long: `Tries what imprint would use and says of each thing whether it works, and what to do if not: the configuration; the registry
of REF, a repository or an artifact; the key; the chain; the clock. It writes nothing and signs nothing unless --write is given.`,
		Example: `  imprint doctor
  imprint doctor ghcr.io/acme/app --key release
  imprint doctor localhost:5000/app:1.0 --key file:leaf.key --chain chain.pem --write`,
		Args: arguments(0, 1, "at most one REF"),
		Annotations: map[string]string{exits: "0 nothing is broken   3 configuration, key, chain or policy   4 the registry does not answer, or REF is not there   " +
			"5 not authorised   6 key service   of several the first one's"},
		RunE: s.runAnyway(func(ctx context.Context, args []string, broken error) error {
			return runDoctor(ctx, s, in, args, broken)
		}),
	}
	in.key.bind(c)
	c.Flags().Lookup("key").Usage = "look at `KEY`: a URI, or a name under keys: in the configuration"
	c.Flags().StringArrayVar(&in.chain, "chain", nil, "the certificates in `FILE`, from the signing one to the root, in any order")
	c.Flags().StringVar(&in.policy.judging.policyFile, "policy", "", "the trust policy in `FILE`")
	c.Flags().BoolVar(&in.write, "write", false, "also try what writes: an upload, a deletion, a test signature")
	return c
}

// A diagnosis is what the checks found, and the exit code of the first problem.
type diagnosis struct {
	ui.Diagnosis
	code int
}

func (d *diagnosis) add(section, name, status, detail, hint string) {
	d.Checks = append(d.Checks, ui.Check{Section: section, Name: name, Status: status, Detail: detail, Hint: hint})
}

// problem adds what is broken, as its error says it.
func (d *diagnosis) problem(section, name string, err error) {
	if d.code == exitDone {
		d.code = exitCode(err)
	}
	d.Checks = append(d.Checks, ui.Check{Section: section, Name: name, Status: ui.Problem, Detail: err.Error(), Hint: doctorHint(err), Reason: reason(err)})
}

// doctorHint is hint, but for errors whose hint is to ask doctor.
func doctorHint(err error) string {
	switch {
	case errors.Is(err, registry.ErrUnavailable):
		return "check the name, the network and its proxy; a registry's own CA is --ca-file FILE, one without TLS --plain-http"
	case errors.Is(err, registry.ErrConfig):
		return "correct that file, or what names it"
	case errors.Is(err, trust.ErrPolicy):
		return "correct it there: nothing is judged by a policy that does not load; how one is written: imprint help policy"
	}
	return hint(err)
}

func runDoctor(ctx context.Context, s *session, in doctorInputs, args []string, broken error) error {
	d := &diagnosis{Diagnosis: ui.Diagnosis{Checks: []ui.Check{}}}
	var ref registry.Reference
	if len(args) > 0 {
		var err error
		if ref, err = registry.ParseReference(args[0]); err != nil {
			return fmt.Errorf("doctor %s: %w", args[0], err)
		}
		d.Reference = ref.String()
	}
	in.examineSettings(ctx, s, d, ref, broken)
	if len(args) > 0 {
		in.examineRegistry(ctx, s, d, ref)
	} else {
		d.add("registry", "registry", ui.NotChecked, "no reference was given", "name a repository or an artifact: imprint doctor HOST/REPO")
		d.add("clock", "clock", ui.NotChecked, "there is no registry's clock to compare with", "")
	}
	key := in.examineKey(ctx, s, d)
	in.examineChain(s, d, key)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	d.sort()
	if err := s.answer("doctor", d.Diagnosis, func(w io.Writer) { ui.Doctor(w, d.Diagnosis) }); err != nil {
		return err
	}
	if d.code != exitDone {
		return &verdict{code: d.code, why: "problem", hint: "what to do stands beside each problem; the first decides the exit code"}
	}
	return nil
}

// sort puts the sections in the order of what rests on what, and the exit code is the first problem's in it.
func (d *diagnosis) sort() {
	order := []string{"configuration", "registry", "key", "chain", "clock"}
	slices.SortStableFunc(d.Checks, func(a, b ui.Check) int { return slices.Index(order, a.Section) - slices.Index(order, b.Section) })
}

// examineSettings looks at the files that settings come from.
func (in doctorInputs) examineSettings(ctx context.Context, s *session, d *diagnosis, ref registry.Reference, broken error) {
	const section = "configuration"
	switch file := s.settings.file; {
	case broken != nil:
		d.problem(section, "file", broken)
	case file != "":
		d.add(section, "file", ui.OK, file, "")
	default:
		d.add(section, "file", ui.OK, "none; looked for --config, IMPRINT_CONFIG"+s.places("config.yaml"), "")
	}
	if from := s.ambientSources(); len(from) > 0 {
		d.add(section, "settings", ui.OK, strings.Join(from, "; "), "")
	}

	policy, err := in.policy.judging.unnarrowed(s)
	var none *noPolicy
	switch {
	case errors.As(err, &none):
		d.add(section, "policy", ui.OK, "none; looked for "+strings.Join(none.places, ", "), "verify needs one, or --root FILE: imprint help policy")
	case err != nil:
		d.problem(section, "policy", err)
	default:
		in.examinePolicy(s, d, policy)
	}

	dir, err := s.credentialDir()
	if err != nil {
		d.add(section, "credentials", ui.Warning, err.Error(), hint(err))
		return
	}
	switch helper, file, err := registry.CredentialStore(ctx, dir, ref.Host); {
	case err != nil:
		d.problem(section, "credentials", err)
	case helper != "":
		d.add(section, "credentials", ui.OK, fmt.Sprintf("kept by %s, as %s says", helper, file), "")
	default:
		if _, err := os.Stat(file); err != nil {
			d.add(section, "credentials", ui.OK, "none: there is no "+file, "")
			return
		}
		d.add(section, "credentials", ui.OK, "kept in "+file, "")
	}
}

func (in doctorInputs) examinePolicy(s *session, d *diagnosis, policy *trust.Policy) {
	sum := policy.Summary(s.now)
	d.add("configuration", "policy", ui.OK, fmt.Sprintf("%s: %d roots, %d scopes", sum.File, len(sum.Roots), len(sum.Scopes)), "")
	for _, w := range sum.Warnings {
		d.add("configuration", "policy", ui.Warning, w, "imprint policy check --policy "+sum.File+" shows all of it")
	}
}

// places names where a file of imprint's own is looked for.
func (s *session) places(name string) string {
	out := ""
	if dir, err := s.env.userDir(); err == nil {
		out = ", " + filepath.Join(dir, name)
	}
	return out + ", " + filepath.Join(s.env.systemDir(), name)
}

// ambientSources names the flags that have their values from elsewhere than the command line, and from where.
func (s *session) ambientSources() []string {
	var out []string
	for _, flag := range slices.Sorted(maps.Keys(s.sources)) {
		if from := s.sources[flag]; from.rank == fromEnvironment || from.rank == fromFile {
			out = append(out, fmt.Sprintf("--%s from %s", flag, strings.TrimSuffix(from.name, ": "+flag)))
		}
	}
	return out
}

// examineRegistry looks at where ref is; the clock of a registry is compared with this machine's on the way.
func (in doctorInputs) examineRegistry(ctx context.Context, s *session, d *diagnosis, ref registry.Reference) {
	section := "registry"
	if ref.Kind != registry.Remote {
		d.add("clock", "clock", ui.NotChecked, "there is no registry's clock to compare with", "")
	}
	client, told, err := s.listeningClient()
	if err != nil {
		d.problem(section, "settings", err)
		return
	}
	repo, err := client.Open(ctx, ref)
	if err != nil {
		d.problem(section, "opened", err)
		return
	}
	defer repo.Close(false)
	if ref.Kind != registry.Remote {
		d.add(section, "opened", ui.OK, "it can be read", "")
		in.examineArtifact(ctx, d, repo, ref)
		return
	}

	found, err := repo.Examine(ctx, false)
	clock(s, d, ref.Host, found.Date)
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		d.add(section, "reachable", ui.OK, ref.Host+" answers", "")
		d.problem(section, "authorised", err)
		return
	case err != nil:
		d.problem(section, "reachable", err)
		return
	}
	d.add(section, "reachable", ui.OK, ref.Host+" answers", "")
	d.add(section, "authorised", ui.OK, told.credential(), "")
	in.examineArtifact(ctx, d, repo, ref)
	var wrote error
	if in.write {
		// A repository that the probe made says more than one that is not there.
		found, wrote = repo.Examine(ctx, true)
	}
	switch found.ReferrersAPI {
	case "yes":
		d.add(section, "referrers API", ui.OK, "yes", "")
	case "no":
		d.add(section, "referrers API", ui.OK, "no: what refers to an artifact is listed under a tag instead", "")
	default:
		d.add(section, "referrers API", ui.NotChecked, "it cannot be told while there is no repository "+ref.Path, "")
	}
	in.sayWriting(d, found, wrote)
	for _, w := range told.warnings() {
		d.add(section, "to note", ui.Warning, w, "")
	}
}

// examineArtifact looks whether what ref names is there.
func (in doctorInputs) examineArtifact(ctx context.Context, d *diagnosis, repo *registry.Repo, ref registry.Reference) {
	if ref.IsRepository() {
		return
	}
	m, err := repo.Resolve(ctx, ref)
	if err != nil {
		d.problem("registry", "artifact", err)
		return
	}
	d.add("registry", "artifact", ui.OK, fmt.Sprintf("it is there: %s", m.Descriptor.MediaType), "")
}

// sayWriting says what writing commands meet at the registry.
func (in doctorInputs) sayWriting(d *diagnosis, found registry.Capabilities, err error) {
	const section = "registry"
	if !in.write {
		for _, name := range []string{"delete", "mount", "single upload"} {
			d.add(section, name, ui.NotChecked, "", "--write finds out: it uploads a small blob and deletes what never was")
		}
		return
	}
	if err != nil {
		d.problem(section, "writing", fmt.Errorf("writing a probe: %w", err))
		return
	}
	d.add(section, "writing", ui.OK, "a small blob that nothing refers to was stored", "")
	switch found.Delete {
	case "yes":
		d.add(section, "delete", ui.OK, "yes", "")
	case "denied":
		d.add(section, "delete", ui.Warning, "we may not", "only rechain --replace needs it: ask for the right to delete, or leave old signatures beside the new ones")
	case "no":
		d.add(section, "delete", ui.Warning, "no", "only rechain --replace needs it: leave old signatures beside the new ones")
	default:
		d.add(section, "delete", ui.NotChecked, "its answer says neither yes nor no", "")
	}
	says := func(name, found, no string) {
		switch found {
		case "yes":
			d.add(section, name, ui.OK, "yes", "")
		case "no":
			d.add(section, name, ui.OK, no, "")
		default:
			d.add(section, name, ui.NotChecked, "its answer says neither yes nor no", "")
		}
	}
	says("mount", found.Mount, "no: copying within the registry sends the bytes again")
	says("single upload", found.SingleUpload, "no: a small blob takes two requests")
}

// clock compares this machine's clock with the registry's, which has just answered.
func clock(s *session, d *diagnosis, host string, theirs time.Time) {
	if theirs.IsZero() {
		d.add("clock", "clock", ui.NotChecked, "no answer of "+host+" said what time it is there", "")
		return
	}
	// Here the clock itself is what is judged: the run's one time was taken before the registry was asked.
	ours := s.env.Now()
	skew := ours.Sub(theirs).Round(time.Second)
	switch {
	case skew.Abs() <= maxSkew:
		d.add("clock", "clock", ui.OK, "agrees with "+host, "")
	case skew > 0:
		d.add("clock", "clock", ui.Warning, fmt.Sprintf("%s ahead of %s", ui.Span(skew), host), "set this machine's clock: signatures carry its time, and chains are judged by it")
	default:
		d.add("clock", "clock", ui.Warning, fmt.Sprintf("%s behind %s", ui.Span(-skew), host), "set this machine's clock: signatures carry its time, and chains are judged by it")
	}
}

// A listener keeps what the registry client says while doctor looks.
type listener struct {
	mu    sync.Mutex
	cred  string
	texts []string
}

func (l *listener) credential() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cred == "" {
		return "it asked for no credential to read"
	}
	return "with " + l.cred
}

func (l *listener) warnings() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.texts)
}

// listeningClient returns a client of the network flags that tells what credential was asked for.
func (s *session) listeningClient() (*registry.Client, *listener, error) {
	l := &listener{}
	o := s.network.options(s)
	find := o.Credentials
	o.Credentials = func(ctx context.Context, host string) (registry.Credential, error) {
		cred, err := find(ctx, host)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cred = cred.String()
		return cred, err
	}
	o.Warn = func(_, text string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.texts = append(l.texts, text)
	}
	c, err := registry.NewClient(o)
	return c, l, err
}

// examineKey opens the key; nil if there is none to hold a chain against.
func (in doctorInputs) examineKey(ctx context.Context, s *session, d *diagnosis) kms.Key {
	const section = "key"
	if in.key.key == "" {
		hint := "--key KEY checks one"
		if names := slices.Sorted(maps.Keys(s.settings.keys)); len(names) > 0 {
			hint += "; the configuration names " + strings.Join(names, ", ")
		}
		d.add(section, "key", ui.NotChecked, "no key was given", hint)
		return nil
	}
	key, err := in.key.open(ctx, s)
	if err != nil {
		d.problem(section, "opens", err)
		return nil
	}
	d.add(section, "opens", ui.OK, keyName(key, in.key.key), "")
	algorithm, err := kms.AlgorithmOf(key.Public())
	if err != nil {
		d.problem(section, "algorithm", err)
		return nil
	}
	d.add(section, "algorithm", ui.OK, algorithm.Name+" ("+algorithm.Spec+")", "")
	if !in.write {
		d.add(section, "signs", ui.NotChecked, "", "--write finds out, by a test signature")
		return key
	}
	if err := kms.Probe(ctx, key); err != nil {
		d.problem(section, "signs", err)
		return key
	}
	d.add(section, "signs", ui.OK, "a test signature verifies", "")
	return key
}

// examineChain holds the chain against the rules, the key and the clock.
func (in doctorInputs) examineChain(s *session, d *diagnosis, key kms.Key) {
	const section = "chain"
	if len(s.signingFiles(in.chain, in.key.key)) == 0 {
		d.add(section, "chain", ui.NotChecked, "no chain was given", "--chain FILE checks one; in the configuration it stands beside its key")
		return
	}
	chain, err := s.chain(in.chain, in.key.key)
	if err != nil {
		d.problem(section, "complete", err)
		return
	}
	d.add(section, "complete", ui.OK, certchain.NameOf(chain.Leaf().RawSubject), "")
	if err := chain.Check(time.Time{}); err != nil {
		d.problem(section, "rules", err)
	} else {
		d.add(section, "rules", ui.OK, "verifiers of the Notary Project take it", "")
	}
	if key != nil {
		if err := chain.Matches(key.Public()); err != nil {
			d.problem(section, "matches", err)
		} else {
			d.add(section, "matches", ui.OK, "the key is the leaf certificate's", "")
		}
	}
	first, until := chain.HoldsUntil()
	text := fmt.Sprintf("until %s; first to end: %s", until.UTC().Format("2006-01-02 15:04 UTC"), certchain.NameOf(first.RawSubject))
	err = chain.Check(s.now)
	switch rest := until.Sub(s.now); {
	case err != nil && (reason(err) == "expired" || reason(err) == "not-yet-valid"):
		d.problem(section, "holds", err)
	case rest < soonEnds:
		d.add(section, "holds", ui.Warning, fmt.Sprintf("only %s more, %s", ui.Span(rest), text), "get it renewed; existing signatures take the new chain with imprint rechain")
	default:
		d.add(section, "holds", ui.OK, text, "")
	}
}
