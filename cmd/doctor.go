package cmd

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// soonEnds: a chain that ends earlier deserves a word.
const soonEnds = 30 * 24 * time.Hour

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
of REF, a repository or an artifact; the key; the chain, in its files or beside the key; the clock. It writes nothing and signs
nothing unless --write is given; but a plugin's key without a chain signs once, to tell which it is.`,
		Example: `  imprint doctor
  imprint doctor --key awskms:///alias/release
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
	s    *session
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
	h := doctorHint(err)
	if d.s.lacksToken(err) {
		h += "; " + idToken
	}
	d.Checks = append(d.Checks, ui.Check{Section: section, Name: name, Status: ui.Problem, Detail: redact(err.Error()), Hint: redact(h), Reason: reason(err)})
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
	d := &diagnosis{Diagnosis: ui.Diagnosis{Checks: []ui.Check{}}, s: s}
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
	given, chainless := s.givenChain(in.chain, in.key.key)
	key, told := in.examineKey(ctx, s, d, given.leaf())
	in.examineChain(ctx, d, key, given, chainless)
	if key != nil && given.chain != nil {
		in.examineMatch(d, key, given.chain, told)
	}
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
	how := "the first of --policy, IMPRINT_POLICY" + s.places("policy.yaml")
	if s.rank("policy") > fromDefault {
		how = "by " + s.sources["policy"].name
	}
	d.add("configuration", "policy", ui.OK, fmt.Sprintf("%s, %s: %s, %s; sha256:%s", sum.File, how, counted(len(sum.Roots), "root"), counted(len(sum.Scopes), "scope"), sum.Digest), "")
	for _, w := range sum.Warnings {
		d.add("configuration", "policy", ui.Warning, w, "imprint policy check --policy "+sum.File+" shows all of it")
	}
	if slices.ContainsFunc(sum.Scopes, func(s trust.ScopeSummary) bool { return s.Delegate != nil }) {
		examineDelegations(s, d)
	}
}

// examineDelegations looks at what a policy that delegates remembers.
func examineDelegations(s *session, d *diagnosis) {
	const section, name = "configuration", "delegations"
	file := s.delegationState()
	if file == "" {
		d.add(section, name, ui.Warning, "none is remembered: there is no home and no IMPRINT_STATE, so min-version in the policy alone holds", "set IMPRINT_STATE to a folder that lasts")
		return
	}
	if err := trust.CheckDelegations(file); err != nil {
		d.problem(section, name, &handedIn{err})
		return
	}
	if _, err := os.Stat(file); err != nil {
		d.add(section, name, ui.OK, "none seen yet; they will be remembered in "+file, "")
		return
	}
	d.add(section, name, ui.OK, "those seen are remembered in "+file, "")
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

// examineKey opens the key; nil if there is none to hold a chain against. leaf is the public key that the chain is for, if that can be
// told. told: the key was opened by it, and has not shown yet that it is its own.
func (in doctorInputs) examineKey(ctx context.Context, s *session, d *diagnosis, leaf crypto.PublicKey) (key kms.Key, told bool) {
	const section = "key"
	if in.key.key == "" {
		hint := "--key KEY checks one"
		if names := slices.Sorted(maps.Keys(s.settings.keys)); len(names) > 0 {
			hint += "; the configuration names " + strings.Join(names, ", ")
		}
		d.add(section, "key", ui.NotChecked, "no key was given", hint)
		return nil, false
	}
	key, told, err := in.open(ctx, s, leaf)
	if err != nil {
		d.problem(section, "opens", err)
		return nil, false
	}
	// Whatever follows, what was spent is said.
	metered := meter(key, ui.Key{Service: kms.Describe(key).Service})
	defer func() {
		if d.Calls = metered.uses(); d.Calls > 0 {
			d.Uses = ui.Uses(metered.about, d.Calls)
		}
	}()
	at := keyName(key, in.key.key)
	if kms.Describe(key).Service != "" {
		at += " at " + serviceOf(key)
	}
	d.add(section, "opens", ui.OK, at, "")
	if key.Public() == nil {
		d.add(section, "algorithm", ui.NotChecked, "it makes whole signature envelopes, and tells its algorithm in them", "")
		return key, told
	}
	algorithm, err := kms.AlgorithmOf(key.Public())
	if err != nil {
		d.problem(section, "algorithm", err)
		return nil, false
	}
	d.add(section, "algorithm", ui.OK, algorithm.Name+" ("+algorithm.Spec+")", "")
	if !in.write {
		d.add(section, "signs", ui.NotChecked, "", "--write finds out, by a test signature")
		return key, told
	}
	if _, whole := key.(kms.EnvelopeSigner); whole {
		d.add(section, "signs", ui.NotChecked, "it makes whole signature envelopes, and of a test message there is none", "")
		return key, told
	}
	if err := kms.Probe(ctx, metered.Key); err != nil {
		d.problem(section, "signs", err)
		return key, told
	}
	d.add(section, "signs", ui.OK, "a test signature verifies", "")
	return key, false
}

// open opens the key. It is told the leaf only where it could not be opened else: a plugin would have to sign, and a token of Vault may be
// one that may sign and not read.
func (in doctorInputs) open(ctx context.Context, s *session, leaf crypto.PublicKey) (key kms.Key, told bool, err error) {
	if leaf != nil && s.schemeOf(in.key.key) == "plugin" {
		key, err = in.key.openFor(ctx, s, in.key.key, leaf)
		return key, true, err
	}
	key, err = in.key.openFor(ctx, s, in.key.key, nil)
	if err != nil && leaf != nil && reason(err) == kms.CodeDenied && s.keyScheme != "pkcs11" { // a PIN is not tried twice
		if again, failed := in.key.openFor(ctx, s, in.key.key, leaf); failed == nil {
			return again, true, nil
		}
	}
	return key, false, err
}

// examineChain holds the chain of the files, or beside the key, against the rules, the key and the clock. broken is why the files make
// no chain.
func (in doctorInputs) examineChain(ctx context.Context, d *diagnosis, key kms.Key, given givenChain, broken error) {
	const section = "chain"
	const lost = "--chain FILE checks one; in the configuration it stands beside its key"
	chain := given.chain
	switch {
	case len(given.files) == 0 && (broken != nil || key == nil):
		d.add(section, "chain", ui.NotChecked, "no chain was given", lost)
		return
	case broken != nil:
		d.problem(section, "complete", broken)
		return
	case chain == nil && key == nil:
		d.add(section, "chain", ui.NotChecked, "the files hold no leaf, and the key could not be asked for one", "")
		return
	case chain == nil:
		var err error
		chain, err = d.s.chainOf(ctx, given, key, in.key.key)
		switch {
		case errors.Is(err, errNoChain):
			d.add(section, "chain", ui.NotChecked, serviceOf(key)+" keeps no certificate beside the key", lost+"; "+request(in.key.key)+nameIt)
			return
		case err != nil:
			d.problem(section, "kept", err)
			return
		case chain == nil:
			d.add(section, "chain", ui.NotChecked, "the plugin brings it with each signature", "")
			return
		}
		d.add(section, "kept", ui.OK, "beside the key", "")
	}
	d.add(section, "complete", ui.OK, certchain.NameOf(chain.Leaf().RawSubject), "")
	if err := chain.Check(time.Time{}); err != nil {
		d.problem(section, "rules", err)
	} else {
		d.add(section, "rules", ui.OK, "verifiers of the Notary Project take it", "")
	}
	first, until := chain.HoldsUntil()
	text := fmt.Sprintf("until %s; first to end: %s", until.UTC().Format("2006-01-02 15:04 UTC"), certchain.NameOf(first.RawSubject))
	err := chain.Check(d.s.now)
	switch rest := until.Sub(d.s.now); {
	case err != nil && (reason(err) == "expired" || reason(err) == "not-yet-valid"):
		d.problem(section, "holds", err)
	case rest < soonEnds:
		d.add(section, "holds", ui.Warning, fmt.Sprintf("only %s more, %s", ui.Span(rest), text),
			"get it renewed; existing signatures take the new chain with imprint rechain")
	default:
		d.add(section, "holds", ui.OK, text, "")
	}
}

// examineMatch says whether key is the leaf's.
func (in doctorInputs) examineMatch(d *diagnosis, key kms.Key, chain certchain.Chain, told bool) {
	const section = "chain"
	if told {
		d.add(section, "matches", ui.NotChecked, "this key shows by signing alone that it is the leaf's", "--write finds out, by a test signature")
		return
	}
	if err := chain.Matches(key.Public()); err != nil {
		d.problem(section, "matches", err)
		return
	}
	d.add(section, "matches", ui.OK, "the key is the leaf certificate's", "")
}

// counted is a number and its noun: "1 root", "2 roots".
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
