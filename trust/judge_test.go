package trust

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
)

func sigs(s ...registry.Signature) []registry.Signature { return s }

func TestAcceptedReport(t *testing.T) {
	t.Parallel()
	s := newSignatory("release")
	now := time.Now().UTC().Truncate(time.Second)
	for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
		sig := s.sign(t, signing{claims: []string{"1.0"}, format: format, expiry: now.Add(time.Hour), at: now})
		got := oneRoot(t, s, "C=DE, O=Acme").Judge(ref(t, "r.example/x:1.0"), artifact, sigs(sig), now)
		wantReport(t, got, Accepted, "")
		j := got.Signatures[0]
		if !j.Accepted || j.Root != "root" || j.Core == "" || j.Algorithm != "ES256" || !j.HasClaims || !slices.Equal(j.Claims, []string{"1.0"}) ||
			j.Identity != certchain.NameOf(s.chain.Leaf().RawSubject) || !j.SignedAt.Equal(now) || j.FirstToEnd != "expiry" || !j.HoldsUntil.Equal(now.Add(time.Hour)) || len(j.Chain) != 2 {
			t.Errorf("got %+v", j)
		}
		if got.Scope == nil || got.Scope.Scope != "*" || !got.Enforced || got.Revocation == "" || got.Digest != artifact.Digest {
			t.Errorf("got %+v", got)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Error(err)
		}
	}
}

func TestUnsignedAndUndetermined(t *testing.T) {
	t.Parallel()
	s := newSignatory("release")
	by := map[string]*signatory{"root": s}
	p := rooted(t, by, "scopes:\n  r.example: [root]\n  r.example/no: {reject: true}\n  r.example/lax: {trust: [root], enforce: false}\n")
	good := s.sign(t, signing{})
	unfetched := registry.Signature{Subject: artifact, Descriptor: describe("unfetched"), Err: fmt.Errorf("reading: %w", registry.ErrUnavailable)}
	ghost := registry.Signature{Subject: artifact, Descriptor: describe("ghost"), Err: fmt.Errorf("reading: %w", registry.ErrNotFound)}
	lied := registry.Signature{Subject: artifact, Descriptor: describe("lied"), Err: fmt.Errorf("reading: %w", registry.ErrDigestMismatch)}
	broken := registry.Signature{Subject: artifact, Descriptor: describe("broken"), Err: &registry.Error{Code: "manifest-malformed", Err: registry.ErrMalformed}}
	huge := registry.Signature{Subject: artifact, Descriptor: describe("huge"), Err: fmt.Errorf("reading: %w", registry.ErrTooLarge)}
	for _, row := range []struct {
		name, reference string
		sigs            []registry.Signature
		verdict, reason string
		passed          bool
	}{
		{"none", "r.example/x:1", nil, Rejected, codeUnsigned, false},
		{"unfetched", "r.example/x:1", sigs(unfetched), Undetermined, codeUnfetched, false},
		{"ghost", "r.example/x:1", sigs(ghost), Undetermined, codeUnfetched, false},
		{"wrong bytes came", "r.example/x:1", sigs(lied), Undetermined, codeUnfetched, false},
		{"malformed", "r.example/x:1", sigs(broken), Rejected, codeNoTrusted, false},
		{"too large", "r.example/x:1", sigs(huge), Rejected, codeNoTrusted, false},
		{"unfetched beside good", "r.example/x:1", sigs(unfetched, good, broken, huge), Accepted, "", true},
		{"unfetched beside foreign", "r.example/x:1", sigs(unfetched, newSignatory("x").sign(t, signing{})), Undetermined, codeUnfetched, false},
		{"unfetched where all is rejected", "r.example/no:1", sigs(unfetched), Rejected, codeRejected, false},
		{"good where all is rejected", "r.example/no/x:1", sigs(good), Rejected, codeRejected, false},
		{"unfetched without a scope", "q.example/x:1", sigs(unfetched), Rejected, codeNoScope, false},
		{"not enforced", "r.example/lax:1", nil, Rejected, codeUnsigned, true},
		{"not enforced, unfetched", "r.example/lax:1", sigs(unfetched), Undetermined, codeUnfetched, true},
		{"not enforced, accepted", "r.example/lax:1", sigs(good), Accepted, "", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := p.Judge(ref(t, row.reference), artifact, row.sigs, time.Now())
			wantReport(t, got, row.verdict, row.reason)
			if got.Passed() != row.passed || got.Enforced == strings.Contains(row.name, "not enforced") {
				t.Errorf("passed %v, enforced %v", got.Passed(), got.Enforced)
			}
			if len(got.Signatures) != len(row.sigs) {
				t.Errorf("%d of %d signatures reported", len(got.Signatures), len(row.sigs))
			}
			for _, s := range got.Signatures {
				if row.reason == codeRejected && !s.Unfetched && (s.Accepted || s.Reason != codeRejected) {
					t.Errorf("where all is rejected a signature is accepted %v, %s", s.Accepted, s.Reason)
				}
			}
		})
	}
}

func TestPassedNeedsAScopeThatSaysSo(t *testing.T) {
	t.Parallel()
	if (Report{}).Passed() || (Report{Verdict: Rejected}).Passed() || (Report{Verdict: Undetermined, Enforced: true, Scope: &ScopeSummary{}}).Passed() {
		t.Error("a report that accepts nothing passes")
	}
}

func TestV12SigningAuthority(t *testing.T) {
	t.Parallel()
	s := newSignatory("authority")
	sig := found(string(envelope.JWS), authorityJWS(t, s))
	got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now())
	wantReport(t, got, Rejected, codeKind)
	if got.Signatures[0].Root != "root" {
		t.Errorf("got %+v", got.Signatures[0])
	}
	got = oneRoot(t, newSignatory("other")).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now())
	wantReport(t, got, Rejected, codeNoTrusted)
}

// authorityJWS is what imprint never writes: an envelope of the scheme notary.x509.signingAuthority.
func authorityJWS(t *testing.T, s *signatory) []byte {
	t.Helper()
	protected := fmt.Sprintf(`{"alg":"ES256","crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"],"cty":%q,`+
		`"io.cncf.notary.authenticSigningTime":%q,"io.cncf.notary.signingScheme":"notary.x509.signingAuthority"}`, envelope.PayloadType, time.Now().UTC().Format(time.RFC3339))
	return handmade(t, s, protected, fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d}}`, artifact.MediaType, artifact.Digest, artifact.Size))
}

// handmade signs any protected header and payload as a JWS.
func handmade(t *testing.T, s *signatory, protected, payload string) []byte {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	der, err := kmstest.Key(s.key).Sign(t.Context(), []byte(b64([]byte(protected))+"."+b64([]byte(payload))), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		t.Fatal(err)
	}
	raw := append(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32))...)
	var x5c [][]byte
	for _, c := range s.chain {
		x5c = append(x5c, c.Raw)
	}
	return must(json.Marshal(map[string]any{"payload": b64([]byte(payload)), "protected": b64([]byte(protected)), "signature": b64(raw), "header": map[string]any{"x5c": x5c}}))
}

func TestPayloadMismatch(t *testing.T) {
	t.Parallel()
	s := newSignatory("release")
	other := payloadOf(describe("another artifact"))
	size, mediaType := payloadOf(artifact), payloadOf(artifact)
	size.Size++
	mediaType.MediaType = ocispec.MediaTypeImageIndex
	for _, row := range []struct {
		name    string
		payload envelope.Payload
		says    string
	}{
		{"V14 size", size, fmt.Sprint(size.Size)},
		{"V14 media type", mediaType, ocispec.MediaTypeImageIndex},
		{"V15 another artifact, listed at ours", other, other.Digest.String()},
	} {
		t.Run(row.name, func(t *testing.T) {
			sig := s.sign(t, signing{payload: &row.payload})
			got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now())
			wantReport(t, got, Rejected, codePayload)
			if !strings.Contains(got.Detail, row.says) {
				t.Errorf("%q does not say %q", got.Detail, row.says)
			}
			// Whoever is not trusted does not decide why.
			got = oneRoot(t, newSignatory("other")).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now())
			wantReport(t, got, Rejected, codeNoTrusted)
			// And the one that is for us is still found.
			got = oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig, s.sign(t, signing{})), time.Now())
			wantReport(t, got, Accepted, "")
		})
	}
}

func TestV22MediaTypeOfTheOtherFormat(t *testing.T) {
	t.Parallel()
	s := newSignatory("release")
	jws, cose := s.sign(t, signing{}).Envelope, s.sign(t, signing{format: envelope.COSE}).Envelope
	for name, sig := range map[string]registry.Signature{
		"COSE said to be JWS": found(string(envelope.JWS), cose),
		"JWS said to be COSE": found(string(envelope.COSE), jws),
		"parameters":          found("application/jose+json; charset=utf-8", jws),
		"upper case":          found("APPLICATION/JOSE+JSON", jws),
		"empty":               found("", jws),
	} {
		got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now())
		if got.Verdict != Rejected || got.Reason != codeNoTrusted || !got.Signatures[0].Malformed {
			t.Errorf("%s: got %s %s, %+v", name, got.Verdict, got.Reason, got.Signatures[0])
		}
		if code := got.Signatures[0].Reason; envelope.Reasons()[code] == "" {
			t.Errorf("%s: code %q", name, code)
		}
	}
}

func TestThumbprintAnnotationIsAHint(t *testing.T) {
	t.Parallel()
	good, evil := newSignatory("good"), newSignatory("evil")
	annotate := func(sig registry.Signature, value string) registry.Signature {
		annotations := map[string]string{registry.AnnotationThumbprint: value}
		m := registry.ByArtifactType.Manifest(artifact, sig.MediaType, sig.Envelope, annotations)
		sig.Manifest, sig.Descriptor, sig.Annotations = m, m.Descriptor, annotations
		return sig
	}
	lie, _ := json.Marshal(good.chain.Thumbprints())
	p := oneRoot(t, good)
	t.Run("V24 it lies", func(t *testing.T) {
		got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(annotate(evil.sign(t, signing{}), string(lie))), time.Now())
		wantReport(t, got, Rejected, codeNoTrusted)
		if got.Signatures[0].Reason != codeRootNotTrusted {
			t.Errorf("got %+v", got.Signatures[0])
		}
	})
	t.Run("V25 it is absent or malformed", func(t *testing.T) {
		for _, value := range []string{"", "nonsense", "[]", `["00"]`} {
			sig := good.sign(t, signing{})
			if value != "" {
				sig = annotate(sig, value)
			}
			wantReport(t, p.Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now()), Accepted, "")
		}
	})
}

// Bytes flipped anywhere: never accepted, unless what was signed is untouched.
func TestV26FlippedBytes(t *testing.T) {
	t.Parallel()
	s := newSignatory("release")
	p, at := oneRoot(t, s), ref(t, "r.example/x:1")
	for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
		sig := s.sign(t, signing{format: format})
		original := p.Judge(at, artifact, sigs(sig), time.Now()).Signatures[0]
		for i := 0; i < len(sig.Envelope); i += 7 {
			flipped := slices.Clone(sig.Envelope)
			flipped[i] ^= 1
			got := p.Judge(at, artifact, sigs(found(string(format), flipped)), time.Now())
			if got.Verdict == Accepted && got.Signatures[0].Core != original.Core {
				t.Fatalf("%s: accepted with byte %d flipped", format, i)
			}
		}
	}
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	acme := newSignatory("", certtest.Subject(pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Acme"}, CommonName: "release"}))
	leafOf := func(o string) *signatory { return acme.under("", organisation(o)) }
	names := acme.under("", func(c *x509.Certificate) {
		c.URIs = []*url.URL{must(url.Parse("https://ci.acme.example/team/build")), must(url.Parse("https://up.acme.example/team/../other"))}
		c.DNSNames = []string{"Build.acme.example"}
		c.EmailAddresses = []string{"Release@Acme.example"}
	})
	for _, row := range []struct {
		name     string
		by       *signatory
		identity string
		ok       bool
	}{
		{"whole", acme, "C=US, ST=WA, O=Acme, CN=release", true},
		{"subset", acme, "C=US, ST=WA, O=Acme", true},
		{"other order", acme, "O=Acme, C=US", true},
		{"other value", acme, "C=US, ST=WA, O=Acme2", false},
		{"V28 escaped comma", leafOf(`Acme, Inc`), "C=US, ST=WA, O=Acme", false},
		{"V28 backslash", leafOf(`Acme\, Inc`), "C=US, ST=WA, O=Acme", false},
		{"V28 case", leafOf("acme"), "C=US, ST=WA, O=Acme", false},
		{"V28 space", leafOf("Acme "), "C=US, ST=WA, O=Acme", false},
		{"V28 attribute inside a value", leafOf("Evil, O=Acme"), "O=Acme", false},
		{"V28 escaped comma, wanted so", leafOf("Acme, Inc"), `O=Acme\, Inc`, true},
		{"V27 homoglyph", leafOf("\u0410cme"), "O=Acme", false},
		{"V27 NUL", leafOf("Acme\x00.evil"), "O=Acme", false},
		{"V27 unescaped hash", leafOf("#0401"), "O=Acme", false},
		{"V27 hex", acme, "O=#130441636d65", true},
		{"uri", names, "uri:https://ci.acme.example/team/build", true},
		{"uri prefix", names, "uri:https://ci.acme.example/team/*", true},
		{"uri is not a prefix", names, "uri:https://ci.acme.example/team/", false},
		{"uri other", names, "uri:https://ci.acme.example/other/*", false},
		{"uri that climbs", names, "uri:https://up.acme.example/team/*", false},
		{"dns", names, "dns:build.acme.example", true},
		{"dns parent", names, "dns:acme.example", false},
		{"email", names, "email:Release@acme.EXAMPLE", true},
		{"email other case before the @", names, "email:release@acme.example", false},
		{"none of that kind", acme, "dns:build.acme.example", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, err := Single("root", []*x509.Certificate{acme.root.Certificate}, []string{row.identity})
			if err != nil {
				t.Fatal(err)
			}
			got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(row.by.sign(t, signing{})), time.Now())
			verdict, reason := Rejected, codeMismatch
			if row.ok {
				verdict, reason = Accepted, ""
			}
			wantReport(t, got, verdict, reason)
		})
	}
	for _, bad := range []string{
		"", " ", "O", "O=", "=Acme", "O=Acme,", "O=Acme, O=Evil", "X=Acme", "O=#zz", "O=Ac\x00me", strings.Repeat("O=A, ", 2000) + "C=US", "*", "uri:", "uri:*", "uri:https://*", "uri:https://a.example/*/b",
		"dns:", "dns:*.acme.example", "dns:a b", "email:", "email:acme", "email:@acme", "email:*@acme",
	} {
		if id, err := parseIdentity(bad); err == nil {
			t.Errorf("identity %q loads as %+v", bad, id)
		}
	}
}

// A root's identities and an entry's must both match.
func TestIdentitiesOfRootAndEntry(t *testing.T) {
	t.Parallel()
	a := newSignatory("release", organisation("Acme"))
	file := folderOf(t, `version: 1
roots: {acme: {certificates: [a.pem], identities: ["C=US, O=Acme", "C=US, O=Other"]}}
scopes:
  r.example/release: [{root: acme, identities: ["CN=release"]}]
  r.example/build: [{root: acme, identities: ["CN=build"]}]
  r.example/either: [{root: acme, identities: ["CN=build"]}, {root: acme, identities: ["CN=release"]}]
  r.example/evil: [acme]
`, map[string]string{"a.pem": a.pem()})
	p, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		reference string
		by        *signatory
		reason    string
	}{
		{"r.example/release/x:1", a, ""},
		{"r.example/build/x:1", a, codeMismatch},
		{"r.example/either/x:1", a, ""},
		{"r.example/evil/x:1", a, ""},
		{"r.example/release/x:1", a.under("", organisation("Evil")), codeMismatch},
		{"r.example/evil/x:1", a.under("", organisation("Evil")), codeMismatch},
	} {
		got := p.Judge(ref(t, row.reference), artifact, sigs(row.by.sign(t, signing{})), time.Now())
		if got.Reason != row.reason {
			t.Errorf("%s: got %q (%s), want %q", row.reference, got.Reason, got.Detail, row.reason)
		}
	}
}

func TestChainsAndRoots(t *testing.T) {
	t.Parallel()
	a := newSignatory("a")
	now := time.Now()
	selfSigned := func(cn string) *signatory {
		key := certtest.Key("P-256")
		return &signatory{nil, key, certchain.Chain{certtest.SelfSigned(key, cn)}}
	}
	lone := selfSigned("lone")
	four, ca := certtest.Key("P-256"), a.root.Intermediate("i").Intermediate("j")
	reissued := certtest.RootWith(a.root.Key, "a root")
	evil := newSignatory("evil")
	// The pinned root cross-signed by another: it stands in the middle.
	cross := evil.root.IntermediateWith(a.root.Key, "a root")
	pinned := map[string][]*x509.Certificate{
		"a": {a.root.Certificate}, "lone": lone.chain, "cross": {cross.Certificate}, "leaf": {lone.chain.Leaf()},
	}
	for _, row := range []struct {
		name string
		by   *signatory
		pin  string
		code string
		says string
	}{
		{"chain of two", a, "a", "", ""},
		{"chain of four", &signatory{a.root, four, ca.Chain(ca.Leaf(four.Public(), "leaf"))}, "a", "", ""},
		{"self-signed leaf that is pinned", lone, "lone", "", ""},
		{"X01 self-signed leaf, not pinned", selfSigned("stranger"), "lone", codeNoTrusted, ""},
		{"X01 self-signed leaf of a pinned one's name", selfSigned("lone"), "lone", codeNoTrusted, "another certificate of the name"},
		{"X02 re-issued root", &signatory{nil, a.key, certchain.Chain{a.chain.Leaf(), reissued.Certificate}}, "a", codeNoTrusted, "another certificate of the name"},
		{"X03 pinned certificate in the middle", &signatory{nil, a.key, certchain.Chain{a.chain.Leaf(), cross.Certificate, evil.root.Certificate}}, "cross", codeNoTrusted, "stands in the chain"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, err := Single("root", pinned[row.pin], nil)
			if err != nil {
				t.Fatal(err)
			}
			got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(row.by.sign(t, signing{})), now)
			if row.code == "" {
				wantReport(t, got, Accepted, "")
				return
			}
			wantReport(t, got, Rejected, row.code)
			if s := got.Signatures[0]; s.Reason != codeRootNotTrusted || !strings.Contains(s.Detail, row.says) {
				t.Errorf("got %s: %s, want %s: …%s…", s.Reason, s.Detail, codeRootNotTrusted, row.says)
			}
		})
	}
	t.Run("X04 leaf that is pinned but has issuers", func(t *testing.T) {
		// It cannot be pinned: P11 refuses it when the policy loads.
		_, err := Single("root", []*x509.Certificate{a.chain.Leaf()}, nil)
		loadError(t, err, codeRootInvalid, 0)
	})
	t.Run("X07 weak keys", func(t *testing.T) {
		weakRoot := certtest.RootWith(certtest.Key("RSA-1024"), "weak root")
		key := certtest.Key("P-256")
		s := &signatory{weakRoot, key, weakRoot.Chain(weakRoot.Leaf(key.Public(), "leaf"))}
		if why := weak(weakRoot.Certificate, true); why == "" {
			t.Error("RSA-1024 is not weak")
		}
		// imprint does not sign with such a chain, so the envelope of a good one is given it.
		good := &signatory{a.root, key, a.root.Chain(a.root.Leaf(key.Public(), "leaf"))}
		sig := withX5C(t, good.sign(t, signing{}), s.chain)
		got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), now)
		if got.Verdict != Rejected {
			t.Fatalf("got %s", got.Verdict)
		}
		if code := got.Signatures[0].Reason; code != codeWeak && code != "chain-invalid" {
			t.Errorf("got %s: %s", code, got.Signatures[0].Detail)
		}
	})
	t.Run("a chain of another key", func(t *testing.T) {
		sig := withX5C(t, evil.sign(t, signing{}), a.chain)
		got := oneRoot(t, a).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), now)
		wantReport(t, got, Rejected, codeNoTrusted)
		if got.Signatures[0].Reason != "signature-invalid" || got.Signatures[0].Identity != "" {
			t.Errorf("got %+v", got.Signatures[0])
		}
	})
}

// withX5C exchanges the chain of a JWS without any check.
func withX5C(t *testing.T, sig registry.Signature, chain certchain.Chain) registry.Signature {
	t.Helper()
	var e map[string]json.RawMessage
	if err := json.Unmarshal(sig.Envelope, &e); err != nil {
		t.Fatal(err)
	}
	var x5c [][]byte
	for _, c := range chain {
		x5c = append(x5c, c.Raw)
	}
	e["header"] = must(json.Marshal(map[string]any{"x5c": x5c}))
	return found(sig.MediaType, must(json.Marshal(e)))
}

func TestTime(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	hour := time.Hour
	root := certtest.Root("root", certtest.Valid(now.Add(-10*hour), now.Add(10*hour)))
	intermediate := root.Intermediate("intermediate", certtest.Valid(now.Add(-5*hour), now.Add(5*hour)))
	key := certtest.Key("P-256")
	s := &signatory{root, key, intermediate.Chain(intermediate.Leaf(key.Public(), "leaf", certtest.Valid(now.Add(-2*hour), now.Add(2*hour))))}
	plain := s.sign(t, signing{at: now})
	expiring := s.sign(t, signing{at: now, expiry: now.Add(hour)})
	for _, row := range []struct {
		name string
		sig  registry.Signature
		at   time.Time
		code string
		says string
	}{
		{"now", plain, now, "", ""},
		{"just before expiry", expiring, now.Add(hour - time.Second), "", ""},
		{"V11 equal to expiry", expiring, now.Add(hour), codeExpired, ""},
		{"after expiry", expiring, now.Add(hour + time.Second), codeExpired, ""},
		{"leaf's last second", plain, now.Add(2 * hour), "", ""},
		{"X08 leaf expired", plain, now.Add(2*hour + time.Second), codeCertExpired, "CN=leaf"},
		{"X08 expired leaf before expired root", plain, now.Add(20 * hour), codeCertExpired, "CN=leaf"},
		{"leaf's first second", plain, now.Add(-2 * hour), "", ""},
		{"leaf not yet valid", plain, now.Add(-2*hour - time.Second), codeCertNotYet, "CN=leaf"},
		{"signed ahead without max-age", plain, now.Add(-hour), "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(row.sig), row.at)
			if row.code == "" {
				wantReport(t, got, Accepted, "")
				return
			}
			wantReport(t, got, Rejected, row.code)
			if !strings.Contains(got.Detail, row.says) {
				t.Errorf("%q does not say %q", got.Detail, row.says)
			}
		})
	}
	for name, c := range map[string]struct {
		leafUntil, caUntil, rootUntil time.Duration
		says                          string
	}{
		"X08 intermediate expired": {9 * hour, 3 * hour, 9 * hour, "CN=intermediate"},
		"X08 root expired":         {9 * hour, 9 * hour, 3 * hour, "CN=root"},
	} {
		t.Run(name, func(t *testing.T) {
			root := certtest.Root("root", certtest.Valid(now.Add(-hour), now.Add(c.rootUntil)))
			ca := root.Intermediate("intermediate", certtest.Valid(now.Add(-hour), now.Add(c.caUntil)))
			s := &signatory{root, key, ca.Chain(ca.Leaf(key.Public(), "leaf", certtest.Valid(now.Add(-hour), now.Add(c.leafUntil))))}
			got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(s.sign(t, signing{at: now})), now.Add(4*hour))
			wantReport(t, got, Rejected, codeCertExpired)
			if !strings.Contains(got.Detail, c.says) {
				t.Errorf("%q does not name %s", got.Detail, c.says)
			}
		})
	}
	t.Run("max-age", func(t *testing.T) {
		p := rooted(t, map[string]*signatory{"root": s}, "scopes:\n  r.example: {trust: [root], max-age: 1h}\n  r.example/long: {trust: [{root: root, max-age: 90m}], max-age: 30m}\n")
		for _, row := range []struct {
			reference string
			at        time.Duration
			code      string
		}{
			{"r.example/x:1", hour, ""},
			{"r.example/x:1", hour + time.Second, codeTooOld},
			{"r.example/long:1", 90 * time.Minute, ""},
			{"r.example/long:1", 91 * time.Minute, codeTooOld},
			{"r.example/x:1", -hour, codeAhead},
			{"r.example/x:1", -time.Minute, ""},
		} {
			if got := p.Judge(ref(t, row.reference), artifact, sigs(plain), now.Add(row.at)); got.Reason != row.code {
				t.Errorf("%s at %v: got %q (%s), want %q", row.reference, row.at, got.Reason, got.Detail, row.code)
			}
		}
	})
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	s := newSignatory("a")
	p := rooted(t, map[string]*signatory{"root": s}, `
scopes:
  r.example: {trust: [root], algorithms: [ES256, ES384]}
  r.example/rsa: {trust: [root], algorithms: [PS256]}
  r.example/entry: {trust: [{root: root, algorithms: [ES256]}], algorithms: [PS256]}
`)
	sig := s.sign(t, signing{})
	for reference, code := range map[string]string{"r.example/x:1": "", "r.example/rsa:1": codeAlgorithm, "r.example/entry:1": ""} {
		wantVerdict := map[bool]string{true: Accepted, false: Rejected}[code == ""]
		wantReport(t, p.Judge(ref(t, reference), artifact, sigs(sig), time.Now()), wantVerdict, code)
	}
}

func TestMalformedClaims(t *testing.T) {
	t.Parallel()
	s := newSignatory("a")
	payload := payloadOf(artifact)
	payload.Annotations = map[string]string{"build": "8812"}
	sig := s.sign(t, signing{payload: &payload})
	got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now())
	wantReport(t, got, Accepted, "")
	if want := map[string]string{"build": "8812"}; !cmp.Equal(got.Signatures[0].Metadata, want) || got.Signatures[0].HasClaims {
		t.Errorf("got %+v", got.Signatures[0])
	}
	protected := fmt.Sprintf(`{"alg":"ES256","crit":["io.cncf.notary.signingScheme"],"cty":%q,"io.cncf.notary.signingScheme":"notary.x509","io.cncf.notary.signingTime":%q}`,
		envelope.PayloadType, time.Now().UTC().Format(time.RFC3339))
	bad := found(string(envelope.JWS), handmade(t, s, protected, fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"io.imprint.claims":"1.0"}}}`, artifact.MediaType, artifact.Digest, artifact.Size)))
	wantReport(t, oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, sigs(bad), time.Now()), Rejected, codeClaimsBad)
	ignoring := rooted(t, map[string]*signatory{"root": s}, "scopes: {r.example: {trust: [root], claims: ignore}}\n")
	wantReport(t, ignoring.Judge(ref(t, "r.example/x:1"), artifact, sigs(bad), time.Now()), Accepted, "")
}

// A superseded envelope, the same signature with an older chain, is reported and changes nothing.
func TestSameSignatureTwice(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root := certtest.Root("root")
	key, ca := certtest.Key("P-256"), certtest.Key("P-256")
	old := root.IntermediateWith(ca, "ca", certtest.Valid(now.Add(-time.Hour), now.Add(time.Hour)))
	renewed := root.IntermediateWith(ca, "ca")
	leaf := old.Leaf(key.Public(), "leaf")
	sig := (&signatory{root, key, old.Chain(leaf)}).sign(t, signing{at: now})
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	if e, err = e.WithChain(renewed.Chain(leaf)); err != nil {
		t.Fatal(err)
	}
	newer := found(sig.MediaType, e.Bytes())
	p, err := Single("root", []*x509.Certificate{root.Certificate}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]time.Time{"while both hold": now, "when the old one has ended": now.Add(2 * time.Hour)} {
		got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(sig, newer), at)
		wantReport(t, got, Accepted, "")
		if len(got.Signatures) != 2 || got.Signatures[0].Core != got.Signatures[1].Core {
			t.Errorf("%s: got %+v", name, got.Signatures)
		}
	}
}

func TestNarrow(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{"a": newSignatory("a"), "b": newSignatory("b")}
	p := rooted(t, by, "scopes:\n  r.example: {trust: [a, b]}\n  r.example/name: {trust: [a], claims: name}\n")
	now := time.Now()
	a := by["a"].sign(t, signing{at: now.Add(-2 * time.Hour)})
	for _, row := range []struct {
		name   string
		n      []Narrowing
		reason string
	}{
		{"not at all", []Narrowing{{}}, ""},
		{"its root", []Narrowing{{OnlyRoots: []string{"a"}}}, ""},
		{"both roots", []Narrowing{{OnlyRoots: []string{"a", "b"}}}, ""},
		{"another root", []Narrowing{{OnlyRoots: []string{"b"}}}, codeNoTrusted},
		{"one after the other", []Narrowing{{OnlyRoots: []string{"a"}}, {OnlyRoots: []string{"b"}}}, codeNoTrusted},
		{"claim", []Narrowing{{RequireClaim: true}}, codeClaimsMissing},
		{"old enough", []Narrowing{{MaxAge: 3 * time.Hour}}, ""},
		{"too old", []Narrowing{{MaxAge: time.Hour}}, codeTooOld},
		{"not widened again", []Narrowing{{MaxAge: time.Hour}, {MaxAge: 3 * time.Hour}}, codeTooOld},
		{"algorithm", []Narrowing{{Algorithms: []string{"ES256"}}}, ""},
		{"other algorithm", []Narrowing{{Algorithms: []string{"PS256"}}}, codeAlgorithm},
		{"no algorithm is left", []Narrowing{{Algorithms: []string{"ES256"}}, {Algorithms: []string{"PS256"}}}, codeAlgorithm},
		{"flags that were not given", []Narrowing{{OnlyRoots: []string{}, Algorithms: []string{}}}, ""},
	} {
		narrow := p
		for _, n := range row.n {
			var err error
			if narrow, err = narrow.Narrow(n); err != nil {
				t.Fatal(err)
			}
		}
		if got := narrow.Judge(ref(t, "r.example/x:1"), artifact, sigs(a), now); got.Reason != row.reason {
			t.Errorf("%s: got %q (%s), want %q", row.name, got.Reason, got.Detail, row.reason)
		}
	}
	// claims: name asks more than a tag already.
	narrow, err := p.Narrow(Narrowing{RequireClaim: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := narrow.Explain(ref(t, "r.example/name:1")); got.Selected.Claims != "name" {
		t.Errorf("got %+v", got.Selected)
	}
	if got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(a), now); got.Verdict != Accepted {
		t.Error("narrowing changed the policy")
	}
	for _, bad := range []Narrowing{{OnlyRoots: []string{"c"}}, {Algorithms: []string{"RS256"}}, {MaxAge: -1}} {
		if _, err := p.Narrow(bad); err == nil {
			t.Errorf("%+v narrows", bad)
		}
	}
}

// A digest of nobody's is no reason to answer anything but what is so.
func TestNoSignatureDecidesForAnother(t *testing.T) {
	t.Parallel()
	s := newSignatory("a")
	good := s.sign(t, signing{claims: []string{"1"}})
	other := payloadOf(describe("other"))
	hostile := []registry.Signature{
		found(string(envelope.JWS), []byte("{")),
		found(string(envelope.JWS), nil),
		found(string(envelope.COSE), make([]byte, envelope.MaxBytes+1)),
		found("text/plain", []byte("hello")),
		s.sign(t, signing{payload: &other}),
		s.sign(t, signing{claims: []string{}}),
		newSignatory("evil").sign(t, signing{}),
		{Subject: artifact, Descriptor: describe("gone"), Err: registry.ErrNotFound},
		{Subject: artifact, Descriptor: ocispec.Descriptor{Digest: digest.Digest("nonsense")}, Err: registry.ErrMalformed},
		{},
	}
	for i := range len(hostile) + 1 {
		list := slices.Concat(hostile[:i], sigs(good), hostile[i:])
		got := oneRoot(t, s).Judge(ref(t, "r.example/x:1"), artifact, list, time.Now())
		wantReport(t, got, Accepted, "")
		if len(got.Signatures) != len(list) {
			t.Errorf("%d of %d reported", len(got.Signatures), len(list))
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
