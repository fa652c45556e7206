package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

// signingFlags are the flags of commands that sign.
type signingFlags struct {
	key        keyFlags
	chain      []string
	aia        bool
	format     string
	claims     []string
	claimNames []string
	noClaims   bool
	metadata   []string
	expiry     duration
	recursive  bool
	move       []string
	again      bool
	dryRun     bool
	stamp      stampFlags
}

func (in *signingFlags) bind(c *cobra.Command) {
	f := c.Flags()
	in.key.bind(c)
	f.StringArrayVar(&in.chain, "chain", nil, "the certificates in `FILE`, from the signing one to the root, in any order")
	f.BoolVar(&in.aia, "aia", false, aiaUsage)
	f.StringVar(&in.format, "signature-format", "jws", "write signatures in the format `jws|cose`: JSON or CBOR")
	f.StringArrayVar(&in.claims, "claim", nil, "also claim `TAG`")
	f.StringArrayVar(&in.claimNames, "claim-name", nil, "also claim the name `HOST/REPO[:TAG]`")
	f.BoolVar(&in.noClaims, "no-claims", false, "claim nothing, not even the tag")
	f.StringArrayVarP(&in.metadata, "metadata", "m", nil, "sign `KEY=VALUE` too")
	f.Var(&in.expiry, "expiry", "the signature ends after `DURATION`, as 90d")
	f.BoolVar(&in.recursive, "recursive", false, "sign platform images, SBOMs and all else that belongs to it too")
	f.StringArrayVar(&in.move, "move", nil, "claims that match `PATTERN` may leave the digest that holds them")
	f.BoolVar(&in.again, "again", false, "sign although the same key has signed the same")
	f.BoolVar(&in.dryRun, "dry-run", false, "check everything, write nothing")
	in.stamp.bind(c)
}

type signInputs struct {
	signingFlags
	batch batchFlags
}

func newSign(s *session) *cobra.Command {
	var in signInputs
	c := &cobra.Command{
		Use:   "sign REF…",
		Short: "sign what is in a registry or an OCI layout",
		Long: `Signs artifacts with a key that stays where it is. Signing REF:TAG claims that tag: under another one the signature is
not accepted by imprint verify. What the same key has signed already is left as it is. Without --chain the certificates are those that
the configuration names beside the key, or that its service keeps (imprint help keys). With --timestamp-url nothing is pushed
without a countersignature; what is signed already without one gets a countersigned copy beside it, without the key.`,
		Example: `  imprint sign ghcr.io/acme/app:1.4.2@sha256:4f0c6f… --key release --recursive
  imprint sign ghcr.io/acme/app:1.4.2 --key awskms:///alias/release --chain chain.pem
  imprint sign oci:app:1.0 --key file:leaf.key --chain chain.pem
  imprint sign --batch releases.txt --key release -o json`,
		Args: arguments(1, many, "REF…"),
		Annotations: map[string]string{exits: "0 signed, or signed already   1 a claim would move, the tag names another digest   " +
			"3 usage, key or chain   4 registry or authority   5 not authorised   6 key service   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error { return runSign(ctx, s, in, args) }),
	}
	in.signingFlags.bind(c)
	in.batch.bind(c)
	return c
}

func runSign(ctx context.Context, s *session, in signInputs, args []string) error {
	items, err := in.batch.items(s, args, form{words: 1}, "REF…")
	if err != nil {
		return err
	}
	o, err := in.options(s)
	if err != nil {
		return err
	}
	if len(items) == 1 { // before anybody is asked for a passphrase
		if _, err := signable(items[0][0]); err != nil {
			return err
		}
	}
	p, err := in.open(ctx, s, in.batch.jobs)
	if err != nil {
		return err
	}
	run := &signRun{s: s, pen: p, options: o}
	return runBatch(ctx, s, in.batch, items, batch[signer.Result]{
		kind:  "sign",
		ahead: p.ahead,
		do: func(ctx context.Context, it item) (signer.Result, error) {
			r, err := run.sign(ctx, it[0])
			r.Key = publicURI(r.Key)
			if err != nil {
				err = partlyDone(spentOn(r, fmt.Errorf("sign %s: %w", it[0], err)), r.Written > 0)
			}
			return r, err
		},
		full:  func(w io.Writer, r signer.Result) { ui.Sign(w, r, s.now) },
		line:  func(w io.Writer, r signer.Result) { ui.SignLine(w, r, s.now) },
		word:  func(r signer.Result) string { return ui.SignWord(r) },
		calls: func(r signer.Result) int { return r.KeyCalls },
		uses:  p.uses,
	})
}

// A pen is a key with its chain, ready to sign.
type pen struct {
	key   kms.Key
	chain certchain.Chain
	given string // how the key was named
	ahead int    // how many items more than --jobs may be worked on
}

// open checks the chain that was given, opens the key, and finds its chain if none was given.
func (in signingFlags) open(ctx context.Context, s *session, jobs int) (pen, error) {
	p := pen{given: in.key.key}
	if in.key.key == "" {
		_, err := in.key.open(ctx, s)
		return p, err
	}
	given, err := in.given(ctx, s)
	if err != nil {
		return p, err
	}
	if given.chain != nil {
		if err := given.chain.Check(time.Time{}); err != nil {
			return p, &handedIn{fmt.Errorf("checking the chain: %w", err)}
		}
	}
	if p.key, err = in.key.openFor(ctx, s, in.key.key, given.leaf()); err != nil {
		return p, err
	}
	if p.chain, err = s.chainOf(ctx, given, p.key, in.key.key); err != nil {
		return p, err
	}
	if jobs > 1 && kms.Describe(p.key).Service != "" {
		// While a signature waits for the key service, the next artifacts are looked up: the service is never idle.
		p.ahead, p.key = jobs, kms.Limited(p.key, jobs)
	}
	return p, nil
}

// uses says how often the key was used, and which it is.
func (p pen) uses(n int) (text, name string) {
	return ui.Uses(ui.Key{Service: kms.Describe(p.key).Service}, n), keyName(p.key, p.given)
}

// options checks the flags that hold for every reference.
func (in signingFlags) options(s *session) (signer.Options, error) {
	format, err := envelope.ParseFormat(in.format)
	if err != nil {
		return signer.Options{}, usage("--signature-format %s: it is jws or cose", in.format)
	}
	if in.noClaims && len(in.claims)+len(in.claimNames) > 0 {
		return signer.Options{}, usage("--no-claims and --claim exclude each other")
	}
	metadata := map[string]string{}
	for _, m := range in.metadata {
		key, value, ok := strings.Cut(m, "=")
		if !ok || key == "" {
			return signer.Options{}, usage("--metadata %q: it is written KEY=VALUE", m)
		}
		if _, twice := metadata[key]; twice {
			return signer.Options{}, usage("--metadata %s stands twice", key)
		}
		metadata[key] = value
	}
	if err := patterns(in.move); err != nil {
		return signer.Options{}, err
	}
	claims, err := signer.CanonicalClaims(in.claims, in.claimNames)
	if err != nil {
		return signer.Options{}, &handedIn{err}
	}
	stamper, err := in.stamp.stamper(s)
	if err != nil {
		return signer.Options{}, err
	}
	return signer.Options{
		Format:    format,
		Claims:    claims,
		NoClaims:  in.noClaims,
		Metadata:  metadata,
		Expiry:    time.Duration(in.expiry),
		Recursive: in.recursive,
		Again:     in.again,
		Move:      in.move,
		DryRun:    in.dryRun,
		Timestamp: stamper,
		Agent:     agent(),
		Now:       s.now,
	}, nil
}

// patterns checks --move.
func patterns(move []string) error {
	for _, p := range move {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return usageHint("as --move latest, or --move 'nightly-*'; a backslash takes the next character as it is", "--move %q is no pattern", p)
		}
	}
	return nil
}

// signable parses a reference that names one artifact in a place that takes signatures.
func signable(text string) (registry.Reference, error) {
	ref, err := artifact(text)
	if err != nil {
		return ref, err
	}
	if ref.Kind == registry.Archive {
		return ref, usageHint("copy it into a layout first: imprint copy "+text+" oci:DIR",
			"signing %s: an archive is written once and takes no signature", text)
	}
	return ref, nil
}

// artifact parses a reference that names one artifact: a tag or a digest, never latest by itself.
func artifact(text string) (registry.Reference, error) {
	ref, err := registry.ParseReference(text)
	if err != nil {
		return ref, err
	}
	if ref.IsRepository() {
		return ref, usageHint("name a tag or a digest: "+text+":TAG, "+text+"@sha256:…; imprint help references",
			"%s names no artifact", text)
	}
	return ref, nil
}

// A spent is an error after calls of the key service, which cost something.
type spent struct {
	err   error
	calls int
	text  string
}

func (e *spent) Error() string { return fmt.Sprintf("%v (%s)", e.err, e.text) }
func (e *spent) Unwrap() error { return e.err }

// spentOn adds to err what was spent before it.
func spentOn(r signer.Result, err error) error {
	if r.KeyCalls == 0 {
		return err
	}
	return &spent{err, r.KeyCalls, ui.KeyCalls(r)}
}

// keyCalls returns how many calls of the key service were made before err.
func keyCalls(err error) int {
	var e *spent
	if errors.As(err, &e) {
		return e.calls
	}
	return 0
}

// A signRun is what holds for all items of a sign.
type signRun struct {
	s       *session
	pen     pen
	options signer.Options
	turn    turns
}

func (run *signRun) sign(ctx context.Context, text string) (signer.Result, error) {
	s, o := run.s, run.options
	ref, err := signable(text)
	if err != nil {
		return signer.Result{}, err
	}
	o.Tag = ref.Tag
	repo, err := s.open(ctx, ref)
	if err != nil {
		return signer.Result{}, err
	}
	defer repo.Close()
	subject, err := repo.Resolve(ctx, ref)
	if err != nil {
		return signer.Result{}, err
	}
	// Beside one another two items of the same artifact would each find it unsigned.
	defer run.turn.take(ref.Repository().With("", subject.Descriptor.Digest).String())()
	r, err := signer.Sign(ctx, repo, subject, run.pen.key, run.pen.chain, o)
	r.Reference = ref.String()
	if ref.Tag != "" && ref.Digest == "" && err == nil {
		s.warnOnce("signed-by-tag", fmt.Sprintf("sign and deploy digests, since a tag can move between two looks: this one is now %s",
			ref.With(ref.Tag, subject.Descriptor.Digest)))
	}
	for _, w := range r.Warnings {
		s.warn("sign", w)
	}
	return r, err
}
