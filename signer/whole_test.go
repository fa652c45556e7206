package signer

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A pluginKey is an envelope plugin as one finds them: it tells who it is only by what it signs.
type pluginKey struct {
	t           testing.TB
	id          identity
	known       bool // the public key is known beforehand
	protect     func(call int, protected map[string]any)
	rewrite     func(payload string) string
	annotations map[string]string
	before      func(call int) error

	mu    sync.Mutex
	calls int
}

var _ kms.EnvelopeSigner = (*pluginKey)(nil)

func (k *pluginKey) ID() string { return "plugin:test?id=1" }

func (k *pluginKey) Public() crypto.PublicKey {
	if k.known {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.id.key.Public()
	}
	return nil
}

func (k *pluginKey) Sign(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	k.t.Error("asked for a signature that is no envelope")
	return nil, kms.Invalid(kms.CodeOptions, "it makes envelopes")
}

func (k *pluginKey) SignEnvelope(ctx context.Context, r kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	k.mu.Lock()
	k.calls++
	call := k.calls
	k.mu.Unlock()
	if k.before != nil {
		if err := k.before(call); err != nil {
			return kms.EnvelopeAnswer{}, err
		}
	}
	k.mu.Lock()
	id := k.id // before may turn to another
	k.mu.Unlock()
	if r.EnvelopeType == string(envelope.COSE) {
		return k.cose(ctx, id, r)
	}
	now := time.Now().UTC().Truncate(time.Second)
	protected := map[string]any{"alg": "ES256", "cty": r.PayloadType, "crit": []string{"io.cncf.notary.signingScheme"},
		"io.cncf.notary.signingScheme": "notary.x509", "io.cncf.notary.signingTime": now.Format(time.RFC3339)}
	if r.Expiry != 0 {
		protected["crit"] = []string{"io.cncf.notary.signingScheme", "io.cncf.notary.expiry"}
		protected["io.cncf.notary.expiry"] = now.Add(r.Expiry).Format(time.RFC3339)
	}
	if k.protect != nil {
		k.protect(call, protected)
	}
	payload := string(r.Payload)
	if k.rewrite != nil {
		payload = k.rewrite(payload)
	}
	head, err := json.Marshal(protected)
	must(k.t, err)
	encode := base64.RawURLEncoding.EncodeToString
	message := encode(head) + "." + encode([]byte(payload))
	var x5c [][]byte
	for _, c := range id.chain {
		x5c = append(x5c, c.Raw)
	}
	b, err := json.Marshal(map[string]any{"payload": encode([]byte(payload)), "protected": encode(head),
		"header": map[string]any{"x5c": x5c}, "signature": encode(rawSignature(k.t, id, []byte(message)))})
	must(k.t, err)
	return kms.EnvelopeAnswer{Envelope: b, Annotations: k.annotations}, nil
}

func (k *pluginKey) cose(ctx context.Context, id identity, r kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	var payload struct {
		TargetArtifact envelope.Payload `json:"targetArtifact"`
	}
	must(k.t, json.Unmarshal(r.Payload, &payload))
	e, err := envelope.Sign(ctx, envelope.COSE, payload.TargetArtifact, kmstest.Key(id.key), id.chain, envelope.Options{SigningTime: time.Now()})
	must(k.t, err)
	return kms.EnvelopeAnswer{Envelope: e.Bytes(), Annotations: k.annotations}, nil
}

const pluginName = "com.amazonaws.signer.notation.plugin"

// likeAWS makes envelopes as those of AWS Signer: a signing authority's, for its own verification plugin.
func likeAWS(_ int, protected map[string]any) {
	protected["crit"] = []string{"io.cncf.notary.signingScheme", "io.cncf.notary.authenticSigningTime", "io.cncf.notary.expiry",
		"io.cncf.notary.verificationPlugin", "com.amazonaws.signer.signingJob"}
	protected["io.cncf.notary.signingScheme"] = "notary.x509.signingAuthority"
	protected["io.cncf.notary.authenticSigningTime"] = protected["io.cncf.notary.signingTime"]
	delete(protected, "io.cncf.notary.signingTime")
	protected["io.cncf.notary.expiry"] = time.Now().UTC().Add(days(135)).Format(time.RFC3339)
	protected["io.cncf.notary.verificationPlugin"] = pluginName
	protected["com.amazonaws.signer.signingJob"] = "arn:aws:signer:eu-west-1:123456789012:/signing-jobs/1"
}

func (p place) trySignWith(t testing.TB, subject registry.Manifest, key kms.Key, chain certchain.Chain, o Options) (Result, error) {
	o.Now = time.Now()
	return Sign(t.Context(), p.Repo, subject, key, chain, o)
}

func (p place) signWith(t testing.TB, subject registry.Manifest, key kms.Key, chain certchain.Chain, o Options) Result {
	t.Helper()
	r, err := p.trySignWith(t, subject, key, chain, o)
	must(t, err)
	return r
}

// shown returns the statuses of a result's signatures.
func shown(r Result) string {
	var list []string
	for _, s := range r.Signatures {
		list = append(list, s.Status)
	}
	return strings.Join(list, " ")
}

func TestSignWhole(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
			tag := format.Short()
			id := newIdentity("release")
			subject := p.image(t, tag, tag)
			key := &pluginKey{t: t, id: id, annotations: map[string]string{
				"com.example.job": "7", ocispec.AnnotationCreated: "2001-01-01T00:00:00Z"}}
			r := p.signWith(t, subject, key, nil, Options{Tag: tag, Format: format, Metadata: map[string]string{"build": "1"}})

			sig := p.only(t, subject)
			c := p.found(t, subject)[sig.Descriptor.Digest]
			first, until := id.chain.HoldsUntil()
			want := Result{
				Reference: p.ref.With(tag, "").String(), Digest: subject.Descriptor.Digest,
				Identity: "C=DE, ST=BE, O=Acme, CN=release", Key: "plugin:test?id=1", Algorithm: "ES256", Format: tag,
				Claims: []string{tag}, Metadata: map[string]string{"build": "1"}, SignedAt: c.SigningTime,
				HoldsUntil: until, FirstToEnd: certchain.NameOf(first.RawSubject), Chain: id.chain.Describe(), Written: 1, KeyCalls: 1,
				Signatures: []Signed{{What: "image", Subject: subject.Descriptor, Status: StatusNew, Claims: []string{tag}, Signature: sig.Descriptor.Digest}},
			}
			if diff := cmp.Diff(want, r); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]string{envelope.ClaimsAnnotation: `["` + tag + `"]`, "build": "1"}, c.Payload.Annotations); diff != "" {
				t.Errorf("signed annotations (-want +got):\n%s", diff)
			}
			annotations := map[string]string{"com.example.job": "7", ocispec.AnnotationCreated: stamp(c.SigningTime), registry.AnnotationThumbprint: thumbprints(id.chain)}
			if diff := cmp.Diff(annotations, sig.Annotations); diff != "" {
				t.Errorf("annotations of the manifest (-want +got):\n%s", diff)
			}

			// Who does not know the chain needs a call to find out that it is there; who knows it needs none.
			again := p.signWith(t, subject, key, nil, Options{Tag: tag, Format: format, Metadata: map[string]string{"build": "1"}})
			if shown(again) != StatusAlreadySigned || again.KeyCalls != 1 || again.There != 1 || again.Written != 0 || again.Signatures[0].Signature != sig.Descriptor.Digest {
				t.Errorf("the second time: %+v", again)
			}
			for _, known := range []bool{false, true} {
				key.known = known
				again = p.signWith(t, subject, key, id.chain, Options{Tag: tag, Format: format, Metadata: map[string]string{"build": "1"}})
				if shown(again) != StatusAlreadySigned || again.KeyCalls != 0 || again.Identity != r.Identity || len(again.Warnings) != 0 {
					t.Errorf("with the chain (known: %v): %+v", known, again)
				}
			}
			p.only(t, subject)
			if r = p.signWith(t, subject, key, nil, Options{Tag: tag, Format: format, Metadata: map[string]string{"build": "1"}, Again: true}); shown(r) != StatusNew || r.KeyCalls != 1 {
				t.Errorf("once more: %+v", r)
			}
		}
	})
}

func TestSignWholeRecursive(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		index, amd64, arm64 := p.index(t, "app", "1.0")
		id := newIdentity("release")
		key := &pluginKey{t: t, id: id}
		o := Options{Tag: "1.0", Recursive: true, Expiry: days(30)}
		r := p.signWith(t, index, key, nil, o)
		if shown(r) != "new new new" || r.KeyCalls != 3 || r.Written != 3 || r.FirstToEnd != "expiry" || r.Expiry == nil || !r.Expiry.Equal(r.SignedAt.Add(days(30))) {
			t.Errorf("first: %+v", r)
		}
		for subject, want := range map[*registry.Manifest]string{&index: `["1.0"]`, &amd64: `[]`, &arm64: `[]`} {
			c := p.found(t, *subject)[p.only(t, *subject).Descriptor.Digest]
			if got := c.Payload.Annotations[envelope.ClaimsAnnotation]; got != want || !c.Expiry.Equal(c.SigningTime.Add(days(30))) {
				t.Errorf("%s claims %s until %s", subject.Descriptor.Digest, got, c.Expiry)
			}
		}
		// One call tells who signs; then everything is found.
		if r = p.signWith(t, index, key, nil, o); shown(r) != "already-signed already-signed already-signed" || r.KeyCalls != 1 || r.There != 3 || len(r.Warnings) != 0 {
			t.Errorf("again: %+v", r)
		}
		if r = p.signWith(t, index, key, id.chain, o); r.KeyCalls != 0 || r.There != 3 {
			t.Errorf("with the chain: %+v", r)
		}
		// What is missing is made, and no more.
		must(t, p.Detach(t.Context(), index.Descriptor, p.only(t, index).Descriptor.Digest))
		if r = p.signWith(t, index, key, nil, o); shown(r) != "new already-signed already-signed" || r.KeyCalls != 1 {
			t.Errorf("the root: %+v", r)
		}
		must(t, p.Detach(t.Context(), arm64.Descriptor, p.only(t, arm64).Descriptor.Digest))
		if r = p.signWith(t, index, key, nil, o); shown(r) != "already-signed already-signed new" || r.KeyCalls != 2 {
			t.Errorf("a child: %+v", r)
		}
	})
}

// TestSignWholeForAPlugin: an honest signature that only a verification plugin can judge is pushed, told, and found again.
func TestSignWholeForAPlugin(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	index, amd64, _ := p.index(t, "app", "1.0")
	id := newIdentity("release", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(days(300))))
	key := &pluginKey{t: t, id: id, protect: likeAWS}
	o := Options{Tag: "1.0", Recursive: true}
	r := p.signWith(t, index, key, nil, o)
	if shown(r) != "new new new" || r.KeyCalls != 3 || r.Algorithm != "ES256" || r.FirstToEnd != "expiry" || r.Expiry == nil || !r.HoldsUntil.Equal(*r.Expiry) || r.SignedAt.IsZero() {
		t.Errorf("result %+v", r)
	}
	if len(r.Warnings) != 2 || !strings.Contains(r.Warnings[0], "has the signature expire at") || !strings.Contains(r.Warnings[1], pluginName) {
		t.Errorf("warnings %q", r.Warnings)
	}
	for _, subject := range []registry.Manifest{index, amd64} {
		sig := p.only(t, subject)
		if _, err := envelope.Parse(sig.MediaType, sig.Envelope); err == nil {
			t.Error("it parses, so imprint would judge it")
		}
	}
	for name, chain := range map[string]certchain.Chain{"without a chain": nil, "with it": id.chain} {
		again := p.signWith(t, index, key, chain, o)
		// Before the first envelope nothing is known of the plugin; a call for each is the most that it costs.
		if shown(again) != "already-signed already-signed already-signed" || again.KeyCalls != 1 || again.Written != 0 || again.Warnings != nil && len(again.Warnings) != 1 {
			t.Errorf("%s: %+v", name, again)
		}
	}
	// Another plugin's is another signature.
	key.protect = func(call int, protected map[string]any) {
		likeAWS(call, protected)
		protected["io.cncf.notary.verificationPlugin"] = "another"
	}
	if r = p.signWith(t, index, key, nil, Options{Tag: "1.0"}); shown(r) != StatusNew {
		t.Errorf("another plugin: %+v", r)
	}
}

// TestSignWholeFoundAgain: what the chain given could not tell, the envelope does.
func TestSignWholeFoundAgain(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	lists := func() int {
		return p.server.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/referrers/") })
	}
	id := newIdentity("release")
	authority := func(_ int, protected map[string]any) {
		protected["crit"] = []string{"io.cncf.notary.signingScheme", "io.cncf.notary.authenticSigningTime"}
		protected["io.cncf.notary.signingScheme"] = "notary.x509.signingAuthority"
		protected["io.cncf.notary.authenticSigningTime"] = protected["io.cncf.notary.signingTime"]
		delete(protected, "io.cncf.notary.signingTime")
	}
	verified := func(_ int, protected map[string]any) {
		protected["crit"] = []string{"io.cncf.notary.signingScheme", "io.cncf.notary.verificationPlugin"}
		protected["io.cncf.notary.verificationPlugin"] = pluginName
	}
	for name, c := range map[string]struct {
		protect func(int, map[string]any)
		calls   int // the second time
	}{"plain": {nil, 0}, "by an authority": {authority, 1}, "for a plugin": {verified, 1}} {
		subject := p.image(t, name, "")
		key := &pluginKey{t: t, id: id, protect: c.protect}
		p.server.Reset()
		r := p.signWith(t, subject, key, id.chain, Options{})
		if shown(r) != StatusNew || r.KeyCalls != 1 || c.protect == nil && lists() != 1 {
			t.Errorf("%s: %d lists, %+v", name, lists(), r)
		}
		if r = p.signWith(t, subject, key, id.chain, Options{}); shown(r) != StatusAlreadySigned || r.KeyCalls != c.calls {
			t.Errorf("%s, again: %+v", name, r)
		}
		// One of another kind does not count.
		if r = p.sign(t, subject, id, Options{}); (shown(r) == StatusNew) != (c.protect != nil) {
			t.Errorf("%s, then a plain one: %+v", name, r)
		}
	}
}

func TestSignWholeOwnAnnotations(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	index, _, _ := p.index(t, "app", "1.0")
	id := newIdentity("release")
	key := &pluginKey{t: t, id: id, rewrite: func(payload string) string {
		return strings.Replace(payload, `"annotations":{`, `"annotations":{"com.example.job":"7",`, 1)
	}}
	for _, chain := range []certchain.Chain{nil, id.chain} {
		r := p.signWith(t, index, key, chain, Options{Tag: "1.0", Recursive: true})
		want := "new new new"
		if chain != nil {
			want = "already-signed already-signed already-signed"
		}
		if shown(r) != want || r.KeyCalls != 3 {
			t.Errorf("%+v", r)
		}
	}
}

// TestSignWholeRotatingKeys: a service that signs everything with another key is asked for everything, and found again as far as can be.
func TestSignWholeRotatingKeys(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	index, _, _ := p.index(t, "app", "1.0")
	a := newIdentity("release")
	b := identity{key: certtest.Key("P-256"), root: a.root, ca: a.ca}
	b.chain = a.ca.Chain(a.ca.Leaf(b.key.Public(), "release"))
	// The root is signed by a, then the plugin turns to b.
	key := &pluginKey{t: t, id: a}
	key.before = func(call int) error {
		key.mu.Lock()
		defer key.mu.Unlock()
		if call > 1 {
			key.id = b
		}
		return nil
	}
	r := p.signWith(t, index, key, nil, Options{Tag: "1.0", Recursive: true})
	if r.KeyCalls != 3 || r.Signatures[0].Status != StatusNew {
		t.Errorf("%+v", r)
	}
	r = p.signWith(t, index, &pluginKey{t: t, id: b}, nil, Options{Tag: "1.0", Recursive: true})
	if shown(r) != "new already-signed already-signed" || r.KeyCalls != 1 {
		t.Errorf("by b: %+v", r)
	}
	key = &pluginKey{t: t, id: a}
	key.before = func(call int) error {
		key.mu.Lock()
		defer key.mu.Unlock()
		if call > 1 {
			key.id = b
		}
		return nil
	}
	// a finds its root, and none of the children; b's are found when they come back.
	r = p.signWith(t, index, key, nil, Options{Tag: "1.0", Recursive: true})
	if shown(r) != "already-signed already-signed already-signed" || r.KeyCalls != 3 || r.Written != 0 {
		t.Errorf("again: %+v", r)
	}
}

// A21: who holds the claim is asked as soon as it is known who signs, and before anything is written.
func TestA21SignWholeClaimMoves(t *testing.T) {
	t.Parallel()
	for name, protect := range map[string]func(int, map[string]any){"plain": nil, "for a plugin": likeAWS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := remote(t, regtest.New(t, regtest.WithAPI))
			id := newIdentity("release")
			key := &pluginKey{t: t, id: id, protect: protect}
			p.signWith(t, p.image(t, "old", "1.0"), key, nil, Options{Tag: "1.0"})
			index, amd64, _ := p.index(t, "new", "")
			p.server.Reset()
			for _, chain := range []certchain.Chain{nil, id.chain} {
				r, err := p.trySignWith(t, index, key, chain, Options{Claims: []string{"1.0"}, Recursive: true})
				wantReason(t, err, "claim-moves", ErrClaimMoves)
				calls := 1
				if chain != nil && protect == nil {
					calls = 0
				}
				if r.KeyCalls != calls || r.Written != 0 || p.server.Writes() != 0 || len(p.found(t, amd64)) != 0 {
					t.Errorf("%d writes; %+v", p.server.Writes(), r)
				}
			}
			// Another signer's claim is his own.
			other := &pluginKey{t: t, id: newIdentity("somebody else"), protect: protect}
			p.signWith(t, index, other, nil, Options{Claims: []string{"1.0"}})
		})
	}
}

func TestSignWholeMisbehaves(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	index, _, _ := p.index(t, "app", "1.0")
	id, other := newIdentity("release"), newIdentity("release")
	for name, c := range map[string]struct {
		key   *pluginKey
		chain certchain.Chain
		calls int
	}{
		"another digest": {&pluginKey{t: t, id: id, rewrite: func(string) string {
			return `{"targetArtifact":{"mediaType":"a/b","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1}}`
		}}, nil, 1},
		"claims left out":     {&pluginKey{t: t, id: id, rewrite: func(s string) string { return strings.Replace(s, `[\"1.0\"]`, `[]`, 1) }}, nil, 1},
		"reserved annotation": {&pluginKey{t: t, id: id, annotations: map[string]string{registry.AnnotationThumbprint: "[]"}}, nil, 1},
		"another's key":       {&pluginKey{t: t, id: identity{key: other.key, chain: id.chain}}, nil, 1},
		"another chain's key": {&pluginKey{t: t, id: other}, id.chain, 1},
	} {
		p.server.Reset()
		r, err := p.trySignWith(t, index, c.key, c.chain, Options{Tag: "1.0", Recursive: true})
		wantReason(t, err, "key-misbehaved", envelope.ErrKeyMisbehaved)
		if r.KeyCalls != c.calls || r.Written != 0 || p.server.Writes() != 0 {
			t.Errorf("%s: %d writes; %+v", name, p.server.Writes(), r)
		}
	}
	// What fails below keeps the root from being pushed.
	key := &pluginKey{t: t, id: id, before: func(call int) error {
		if call == 3 {
			return kms.Service("tired")
		}
		return nil
	}}
	r, err := p.trySignWith(t, index, key, nil, Options{Tag: "1.0", Recursive: true})
	if !errors.Is(err, kms.ErrService) || r.KeyCalls != 3 || r.Signatures[0].Status != StatusPlanned || len(p.found(t, index)) != 0 {
		t.Errorf("%v: %+v", err, r)
	}
	// Mistakes of the caller's cost no call.
	spent := newIdentity("release", certtest.Valid(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)))
	for name, c := range map[string]struct {
		key   *pluginKey
		chain certchain.Chain
	}{
		"chain expired":             {&pluginKey{t: t, id: spent}, spent.chain},
		"chain incomplete":          {&pluginKey{t: t, id: id}, id.chain[:1]},
		"chain of another, known":   {&pluginKey{t: t, id: id, known: true}, other.chain},
		"key that cannot be Notary": {&pluginKey{t: t, id: identity{key: certtest.Key("P-224")}, known: true}, nil},
	} {
		if r, err := p.trySignWith(t, index, c.key, c.chain, Options{Tag: "1.0"}); err == nil || c.key.calls != 0 || r.KeyCalls != 0 {
			t.Errorf("%s: %v after %d calls", name, err, c.key.calls)
		}
	}
}

func TestSignWholeDryRun(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	subject := p.image(t, "app", "1.0")
	id := newIdentity("release")
	key := &pluginKey{t: t, id: id}
	r := p.signWith(t, subject, key, nil, Options{Tag: "1.0", DryRun: true})
	if shown(r) != StatusPlanned || key.calls != 0 || r.KeyCalls != 0 || r.Identity != "" || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "only when it signs") {
		t.Errorf("%+v", r)
	}
	r = p.signWith(t, subject, key, id.chain, Options{Tag: "1.0", DryRun: true})
	if shown(r) != StatusPlanned || key.calls != 0 || r.Identity == "" || r.Algorithm != "ES256" || len(r.Warnings) != 0 {
		t.Errorf("with the chain: %+v", r)
	}
	if len(p.found(t, subject)) != 0 {
		t.Error("something was written")
	}
}

// TestSignWholeAnotherChain: the plugin's chain counts where it differs from the one given, and that is told.
func TestSignWholeAnotherChain(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	subject := p.image(t, "app", "1.0")
	id := newIdentity("release")
	given := id.ca.Chain(id.ca.Leaf(id.key.Public(), "renewed"))
	r := p.signWith(t, subject, &pluginKey{t: t, id: id}, given, Options{Tag: "1.0"})
	if r.Identity != "C=DE, ST=BE, O=Acme, CN=release" || !cmp.Equal(r.Chain, id.chain.Describe()) || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "another certificate chain") {
		t.Errorf("%+v", r)
	}
}

// F31: the calls that a tired service cost are counted, each of them, and also when it fails in the end.
func TestF31KeyCalls(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	for name, c := range map[string]struct {
		busy, calls int
		code        string // of the error after being busy; "": it signs
	}{
		"at once":                 {0, 1, ""},
		"busy twice":              {2, 3, ""},
		"denied":                  {0, 1, kms.CodeDenied},
		"busy once, then refused": {1, 2, kms.CodeUnusable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			subject := p.image(t, name, "")
			calls := 0
			key, err := kms.Remote{URI: "testkms:1", Public: id.key.Public(), Sign: func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
				calls++
				switch {
				case calls <= c.busy:
					return nil, &kms.Error{Code: kms.CodeThrottled, Class: kms.ErrService, Err: errors.New("busy"), Temporary: true}
				case c.code != "":
					return nil, &kms.Error{Code: c.code, Class: kms.ErrService, Err: errors.New("no")}
				}
				return kmstest.Key(id.key).Sign(ctx, r.Message, r.Algorithm.SignerOpts())
			}}.Key()
			must(t, err)
			r, err := p.trySignWith(t, subject, key, id.chain, Options{})
			if (err == nil) != (c.code == "") || r.KeyCalls != c.calls || calls != c.calls || r.Written != len(p.found(t, subject)) || (r.Written == 1) != (c.code == "") {
				t.Errorf("%v after %d calls: %+v", err, calls, r)
			}
		})
	}
}
