package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust/revtest"
)

const (
	anHour = time.Hour
	aDay   = 24 * anHour
)

// A stamped world: a root of ten years, a leaf of ninety days, and signatures of its first day that are countersigned
// at a time of the test's choice. now is a time of the test's choice too: judging is pure.
type stampedWorld struct {
	t     *testing.T
	s     *signatory
	begin time.Time // of the leaf
	end   time.Time
	tsa   *tsatest.Authority
}

func newStampedWorld(t *testing.T) *stampedWorld {
	t.Helper()
	begin := time.Now().Add(-60 * aDay).UTC().Truncate(time.Second)
	w := &stampedWorld{t: t, begin: begin, end: begin.Add(90 * aDay), tsa: tsatest.New(tsatest.Options{})}
	root := certtest.Root("stamped root", certtest.Valid(begin.AddDate(-5, 0, 0), begin.AddDate(5, 0, 0)))
	key := certtest.Key("P-256")
	w.s = &signatory{root, key, root.Chain(root.Leaf(key.Public(), "stamped leaf", certtest.Valid(begin, w.end)))}
	return w
}

func (w *stampedWorld) sign(o signing) registry.Signature {
	if o.at.IsZero() {
		o.at = w.begin.Add(anHour)
	}
	return w.s.sign(w.t, o)
}

// with puts the token that stamp makes of the primitive signature on sig.
func (w *stampedWorld) with(sig registry.Signature, stamp func(signature []byte) []byte) registry.Signature {
	w.t.Helper()
	e := must(envelope.Parse(sig.MediaType, sig.Envelope))
	token := stamp(e.Unverified().Signature)
	stamped, err := e.WithTimestamp(token)
	if err == nil {
		return found(sig.MediaType, stamped.Bytes())
	}
	// No token that envelope would write: by hand, into a JWS.
	var whole map[string]json.RawMessage
	var header map[string]any
	if err := json.Unmarshal(sig.Envelope, &whole); err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(whole["header"], &header); err != nil {
		w.t.Fatal(err)
	}
	header["io.cncf.notary.timestampSignature"] = token
	whole["header"] = must(json.Marshal(header))
	return found(sig.MediaType, must(json.Marshal(whole)))
}

// at countersigns at a time.
func (w *stampedWorld) at(tsa *tsatest.Authority, at time.Time) func([]byte) []byte {
	return func(signature []byte) []byte { return tsa.Token(signature, at) }
}

// load is a policy that trusts the world's root everywhere; tsa is written to roots/tsa.pem, also to other names.
func (w *stampedWorld) load(rest string, tsas map[string]*x509.Certificate) *Policy {
	w.t.Helper()
	files := map[string]string{"roots/r.pem": w.s.pem(), "roots/tsa.pem": string(certtest.PEM(w.tsa.Root.Certificate))}
	for name, cert := range tsas {
		files["roots/"+name+".pem"] = string(certtest.PEM(cert))
	}
	p, err := Load(folderOf(w.t, "version: 1\nroots: {r: roots/r.pem}\n"+rest, files))
	if err != nil {
		w.t.Fatalf("%v\n%s", err, rest)
	}
	return p
}

const (
	sectionAlways = "timestamps: {roots: [roots/tsa.pem], use: always}\n"
	sectionAfter  = "timestamps: {roots: [roots/tsa.pem], use: after-cert-expiry}\n"
	trustR        = "scopes: {\"*\": [r]}\n"
)

// What each use makes of each token, while the chain is valid and after it: the table is the issue's.
func TestTimestampVerdicts(t *testing.T) {
	t.Parallel()
	w := newStampedWorld(t)
	policies := map[string]*Policy{
		"": w.load(trustR, nil), "always": w.load(sectionAlways+trustR, nil), "after": w.load(sectionAfter+trustR, nil),
	}
	inside := w.begin.Add(aDay)
	option := func(o tsatest.Options) *tsatest.Authority {
		if o.Root = w.tsa.Root; o.CA == nil {
			o.CA = w.tsa.CA
		}
		return tsatest.New(o)
	}
	precise := func(d time.Duration) *tsatest.Authority { return option(tsatest.Options{Accuracy: d}) }
	edited := func(edit certtest.Edit) *tsatest.Authority {
		return option(tsatest.Options{Edits: []certtest.Edit{edit}})
	}
	short := w.tsa.Root.IntermediateWith(certtest.Key("RSA-1024"), "short ca", certtest.Valid(w.begin.AddDate(-1, 0, 0), w.end.AddDate(1, 0, 0)))
	eku := func(critical bool, ids ...asn1.ObjectIdentifier) certtest.Edit {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: must(asn1.Marshal(ids))}}
		}
	}
	timeStamping, codeSigning := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	plain := w.sign(signing{})
	later := w.end.Add(400 * aDay)
	valid := w.begin.Add(50 * aDay)
	const good = ""
	for _, row := range []struct {
		name   string
		sig    registry.Signature
		now    time.Time
		use    string
		reason string
		status string // of the timestamp; "": there is none
	}{
		{"no token, valid", plain, valid, "", good, ""},
		{"no token, valid", plain, valid, "always", codeStampMissing, ""},
		{"no token, valid", plain, valid, "after", good, ""},
		{"X08 no token, expired", plain, later, "", codeCertExpired, ""},
		{"X08 no token, expired", plain, later, "always", codeStampMissing, ""},
		{"X08 no token, expired", plain, later, "after", codeCertExpired, ""},
		{"no token, too early", plain, w.begin.Add(-anHour), "", codeCertNotYet, ""},
		{"no token, too early", plain, w.begin.Add(-anHour), "after", codeCertNotYet, ""},

		{"X09 inside, expired", w.with(plain, w.at(w.tsa, inside)), later, "", codeCertExpired, StampIgnored},
		{"X09 inside, expired", w.with(plain, w.at(w.tsa, inside)), later, "always", good, StampGood},
		{"X09 inside, expired", w.with(plain, w.at(w.tsa, inside)), later, "after", good, StampGood},
		{"inside, valid", w.with(plain, w.at(w.tsa, inside)), valid, "", good, StampIgnored},
		{"inside, valid", w.with(plain, w.at(w.tsa, inside)), valid, "always", good, StampGood},
		{"inside, valid", w.with(plain, w.at(w.tsa, inside)), valid, "after", good, StampGood},
		{"at the last second", w.with(plain, w.at(w.tsa, w.end)), later, "after", good, StampGood},
		{"at the first second", w.with(plain, w.at(w.tsa, w.begin)), later, "always", good, StampGood},
		{"expired this second", plain, w.end, "after", good, ""},
		{"expired a nanosecond ago", plain, w.end.Add(1), "after", codeCertExpired, ""},

		{"X10 a second after the end", w.with(plain, w.at(w.tsa, w.end.Add(time.Second))), later, "after", codeStampOutside, StampRefused},
		{"X10 a second before the begin", w.with(plain, w.at(w.tsa, w.begin.Add(-time.Second))), later, "always", codeStampOutside, StampRefused},
		{"X10 straddles the end", w.with(plain, w.at(precise(time.Second), w.end)), later, "after", codeStampOutside, StampRefused},
		{"X10 straddles the begin", w.with(plain, w.at(precise(30*time.Second), w.begin.Add(29*time.Second))), later, "always", codeStampOutside, StampRefused},
		{"X10 straddles the end by a millisecond", w.with(plain, w.at(precise(1001*time.Millisecond), w.end.Add(-time.Second))), later, "after", codeStampOutside, StampRefused},
		{"X10 ends with the end", w.with(plain, w.at(precise(time.Second), w.end.Add(-time.Second))), later, "after", good, StampGood},
		{"X10 straddles the end, valid", w.with(plain, w.at(precise(time.Second), w.end)), w.end.Add(-anHour), "after", good, StampRefused},
		{"X10 accurate to a minute", w.with(plain, w.at(precise(time.Minute), inside)), later, "after", good, StampGood},
		{"X10 accurate to more than a minute", w.with(plain, w.at(precise(time.Minute+time.Millisecond), inside)), later, "after", codeStampInexact, StampRefused},
		{"X10 accurate to a year", w.with(plain, w.at(precise(365*aDay), inside)), later, "always", codeStampInexact, StampRefused},
		{"X10 accurate to a year, not asked for", w.with(plain, w.at(precise(365*aDay), inside)), valid, "after", good, StampRefused},
		{"X10 in the future", w.with(plain, w.at(w.tsa, valid.Add(skew+time.Second))), valid, "always", codeStampAhead, StampRefused},
		{"X10 in the future, not asked for", w.with(plain, w.at(w.tsa, valid.Add(skew+time.Second))), valid, "after", good, StampRefused},
		{"X10 a little ahead", w.with(plain, w.at(w.tsa, valid.Add(skew))), valid, "always", good, StampGood},

		{"X11 over another signature", w.with(plain, func([]byte) []byte { return w.tsa.Token([]byte("another"), inside) }), later, "after", "timestamp-malformed", StampRefused},
		{"X11 over the payload", w.with(plain, func([]byte) []byte {
			return w.tsa.Token(must(envelope.Parse(plain.MediaType, plain.Envelope)).Unverified().Signed, inside)
		}), later, "always", "timestamp-malformed", StampRefused},
		{"X11 usage not critical", w.with(plain, w.at(edited(eku(false, timeStamping)), inside)), later, "after", "timestamp-untrusted", StampRefused},
		{"X11 usage not the only one", w.with(plain, w.at(edited(eku(true, timeStamping, codeSigning)), inside)), later, "always", "timestamp-untrusted", StampRefused},
		{"X11 usage for signing code", w.with(plain, w.at(edited(eku(true, codeSigning)), inside)), later, "after", "timestamp-untrusted", StampRefused},
		{"X11 under another root", w.with(plain, w.at(tsatest.New(tsatest.Options{}), inside)), later, "after", "timestamp-untrusted", StampRefused},
		{"X11 its certificate was not valid then", w.with(plain, w.at(edited(certtest.Valid(inside.Add(anHour), later)), inside)), later, "always", "timestamp-untrusted", StampRefused},
		{"X11 broken signature", w.with(plain, w.at(option(tsatest.Options{Lie: tsatest.BrokenSign}), inside)), later, "after", "timestamp-untrusted", StampRefused},
		{"X11 names another certificate", w.with(plain, w.at(option(tsatest.Options{Lie: tsatest.OtherSigner}), inside)), later, "always", "timestamp-untrusted", StampRefused},
		{"X11 SHA-1", w.with(plain, w.at(option(tsatest.Options{Lie: tsatest.SHA1Imprint}), inside)), later, "after", "timestamp-malformed", StampRefused},
		{"X11 below a key that is too short", w.with(plain, w.at(option(tsatest.Options{CA: short}), inside)), later, "after", codeWeak, StampRefused},
		{"its certificate has ended since", w.with(plain, w.at(edited(certtest.Valid(w.begin, inside.Add(anHour))), inside)), later, "after", good, StampGood},

		{"X12 garbage", w.with(plain, func([]byte) []byte { return []byte("garbage") }), valid, "", good, StampIgnored},
		{"X12 garbage", w.with(plain, func([]byte) []byte { return []byte("garbage") }), valid, "after", good, StampRefused},
		{"X12 garbage", w.with(plain, func([]byte) []byte { return []byte("garbage") }), valid, "always", "timestamp-malformed", StampRefused},
		{"X12 garbage, in the last second", w.with(plain, func([]byte) []byte { return []byte("garbage") }), w.end, "after", good, StampRefused},
		{"X12 garbage, expired", w.with(plain, func([]byte) []byte { return []byte("garbage") }), later, "", codeCertExpired, StampIgnored},
		{"X12 garbage, expired", w.with(plain, func([]byte) []byte { return []byte("garbage") }), later, "after", "timestamp-malformed", StampRefused},

		{"no timestamp forgives the signature's own expiry", w.with(w.sign(signing{expiry: w.begin.Add(2 * aDay)}), w.at(w.tsa, inside)), later, "always", codeExpired, StampIgnored},
		{"no timestamp forgives the signature's own expiry", w.with(w.sign(signing{expiry: w.begin.Add(2 * aDay)}), w.at(w.tsa, inside)), valid, "after", codeExpired, StampIgnored},
		{"COSE, inside, expired", w.with(w.sign(signing{format: envelope.COSE}), w.at(w.tsa, inside)), later, "after", good, StampGood},
		{"COSE, inside, expired", w.with(w.sign(signing{format: envelope.COSE}), w.at(w.tsa, inside)), later, "", codeCertExpired, StampIgnored},
	} {
		t.Run(strings.TrimSpace(row.use+" "+row.name), func(t *testing.T) {
			got := policies[row.use].Judge(ref(t, "r.example/x:1"), artifact, sigs(row.sig), row.now)
			verdict := Accepted
			if row.reason != good {
				verdict = Rejected
			}
			wantReport(t, got, verdict, row.reason)
			j := got.Signatures[0]
			status := ""
			if j.Timestamp != nil {
				status = j.Timestamp.Status
				if (j.Timestamp.Status == StampGood) != (j.Timestamp.Reason == "" && j.Timestamp.At != nil) || j.Timestamp.Status != StampGood && j.Timestamp.Detail == "" {
					t.Errorf("timestamp %+v", j.Timestamp)
				}
			}
			if status != row.status {
				t.Errorf("the timestamp is %q, want %q", status, row.status)
			}
			if reason := (got.Timestamps != policies[""].unstamped()); reason != (row.use != "") {
				t.Errorf("timestamps: %s", got.Timestamps)
			}
			// A good one keeps the signature beyond its chain; nothing else does.
			switch {
			case !j.Accepted:
			case status == StampGood && (j.HoldsUntil != nil || j.FirstToEnd != ""):
				t.Errorf("stamped, and holds until %v (%s)", j.HoldsUntil, j.FirstToEnd)
			case status != StampGood && (j.HoldsUntil == nil || !j.HoldsUntil.Equal(w.end)):
				t.Errorf("not stamped, and holds until %v", j.HoldsUntil)
			}
		})
	}
}

// A timestamp excuses what was revoked for a later loss of the key only as long as its own authority is not revoked, and where the
// signature's validity does not rest on it a revoked authority harms nothing.
func TestTimestampOfARevokedAuthority(t *testing.T) {
	t.Parallel()
	lost := time.Now().Add(-10 * aDay).Truncate(time.Second)
	for _, row := range []struct {
		name            string
		use             string
		leaf            bool // it is revoked, since its key was lost after the timestamp
		token, ca       bool // so is the certificate that signed the timestamp, or its issuer
		uncovered       bool // no list is of the authority
		verdict, reason string
		status          string // of the authority's certificates; "": not looked at
	}{
		{"nothing", useAfterward, false, false, false, false, Accepted, "", ""},
		{"the leaf", useAfterward, true, false, false, false, Accepted, "", RevocationGood},
		{"the leaf, and who stamped", useAfterward, true, true, false, false, Rejected, codeRevoked, ""},
		{"the leaf, and who issued him", useAfterward, true, false, true, false, Rejected, codeRevoked, ""},
		{"the leaf, and nobody knows of the authority", useAfterward, true, false, false, true, Undetermined, codeRevocationUnknown, RevocationUnknown},
		{"who stamped", useAfterward, false, true, true, false, Accepted, "", ""},
		{"nobody knows of the authority", useAfterward, false, false, false, true, Accepted, "", ""},
		{"nothing, always asked for", useAlways, false, false, false, false, Accepted, "", RevocationGood},
		{"the leaf, always asked for", useAlways, true, false, false, false, Accepted, "", RevocationGood},
		{"who stamped, always asked for", useAlways, false, true, false, false, Rejected, codeRevoked, RevocationRevoked},
		{"who issued him, always asked for", useAlways, false, false, true, false, Rejected, codeRevoked, RevocationRevoked},
		{"nobody knows of the authority, always asked for", useAlways, false, false, false, true, Undetermined, codeRevocationUnknown, RevocationUnknown},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newStampedWorld(t)
			root, tsa, tsaRoot := authorityOf(t, w.s.root), authorityOf(t, w.tsa.CA), authorityOf(t, w.tsa.Root)
			if row.leaf {
				root.Revoke(w.s.chain.Leaf(), revtest.Revoked{Reason: revtest.KeyCompromise, Invalid: lost})
			}
			if row.token {
				tsa.Revoke(w.tsa.Certificate, revtest.Revoked{Reason: revtest.KeyCompromise})
			}
			if row.ca {
				tsaRoot.Revoke(w.tsa.CA.Certificate, revtest.Revoked{Reason: revtest.KeyCompromise})
			}
			lists := map[string]string{"crl/root.crl": string(root.List())}
			if !row.uncovered {
				lists["crl/tsa.crl"], lists["crl/tsa-root.crl"] = string(tsa.List()), string(tsaRoot.List())
			}
			files := map[string]string{"r.pem": w.s.pem(), "tsa.pem": string(certtest.PEM(w.tsa.Root.Certificate))}
			maps.Copy(files, lists)
			p := must(Load(folderOf(t, "version: 1\nroots: {r: r.pem}\ntimestamps: {roots: [tsa.pem], use: "+row.use+"}\nrevocation: {check: enforce, crl: [crl]}\n"+trustR, files)))
			got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(w.with(w.sign(signing{}), w.at(w.tsa, w.begin.Add(aDay)))), time.Now())
			wantReport(t, got, row.verdict, row.reason)
			status := ""
			if of := got.Signatures[0].Timestamp.Revocation; of != nil {
				status = of.Status
			}
			if status != row.status {
				t.Errorf("the authority is %q, want %q", status, row.status)
			}
		})
	}
}

// What a report tells of a good timestamp.
func TestTimestampReport(t *testing.T) {
	t.Parallel()
	w := newStampedWorld(t)
	p := w.load(sectionAfter+trustR, nil)
	at := w.begin.Add(aDay)
	tsa := tsatest.New(tsatest.Options{Name: "clock", Root: w.tsa.Root, CA: w.tsa.CA, Accuracy: 1500 * time.Millisecond})
	expiry := w.end.Add(100 * aDay)
	got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(w.with(w.sign(signing{expiry: expiry}), w.at(tsa, at))), w.end.Add(aDay))
	wantReport(t, got, Accepted, "")
	j := got.Signatures[0]
	if s := j.Timestamp; !s.At.Equal(at) || s.Accuracy != "1.5s" || !strings.Contains(s.By, "CN=clock") || !strings.Contains(s.Root, "CN=tsa root") || len(s.RootSHA256) != 64 {
		t.Errorf("got %+v", s)
	}
	if j.HoldsUntil == nil || !j.HoldsUntil.Equal(expiry) || j.FirstToEnd != "expiry" {
		t.Errorf("holds until %v (%s), want its expiry", j.HoldsUntil, j.FirstToEnd)
	}
	if !strings.Contains(got.Timestamps, "revocation of the authority not checked") || got.Scope.Timestamps == nil || got.Scope.Timestamps.Use != "after-cert-expiry" || got.Scope.Timestamps.Line != 3 {
		t.Errorf("%q, %+v", got.Timestamps, got.Scope.Timestamps)
	}
	// One that is refused for another reason ends with its chain, whatever its timestamp says.
	got = must(p.Narrow(Narrowing{RequireClaim: true})).Judge(ref(t, "r.example/x:1"), artifact, sigs(w.with(w.sign(signing{}), w.at(tsa, at))), w.end.Add(aDay))
	wantReport(t, got, Rejected, codeClaimsMissing)
	if j := got.Signatures[0]; j.Timestamp.Status != StampGood || j.HoldsUntil == nil || !j.HoldsUntil.Equal(w.end) {
		t.Errorf("refused, and holds until %v; timestamp %+v", j.HoldsUntil, j.Timestamp)
	}
	// The root of the signers has ended too: nothing warns that nothing is accepted by it, since this is.
	late := w.begin.AddDate(6, 0, 0)
	got = p.Judge(ref(t, "r.example/x:1"), artifact, sigs(w.with(w.sign(signing{}), w.at(tsa, at))), late)
	wantReport(t, got, Accepted, "")
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "from before") {
		t.Errorf("warnings %q", got.Warnings)
	}
	if got := w.load(trustR, nil).Warnings(late); len(got) != 1 || !strings.Contains(got[0], "nothing is accepted by it") {
		t.Errorf("warnings without a section %q", got)
	}
	single := oneRoot(t, w.s).Judge(ref(t, "r.example/x:1"), artifact, sigs(w.with(w.sign(signing{}), w.at(tsa, at))), w.end.Add(aDay))
	wantReport(t, single, Rejected, codeCertExpired)
	if !strings.Contains(single.Timestamps, "a root certificate alone") || single.Signatures[0].Timestamp.Status != StampIgnored {
		t.Errorf("%q %+v", single.Timestamps, single.Signatures[0].Timestamp)
	}
	// One whose root nobody trusts: its timestamp is of no interest.
	stranger := newSignatory("stranger").sign(t, signing{})
	got = p.Judge(ref(t, "r.example/x:1"), artifact, sigs(w.with(stranger, w.at(tsa, at))), time.Now())
	if s := got.Signatures[0].Timestamp; s == nil || s.Status != StampIgnored || !strings.Contains(s.Detail, "refused") {
		t.Errorf("a stranger's: %+v", s)
	}
}

// The entry's own section holds, else the selected scope's, else the file's; that of an enclosing scope is not inherited.
func TestTimestampPrecedence(t *testing.T) {
	t.Parallel()
	w := newStampedWorld(t)
	other := tsatest.New(tsatest.Options{Name: "other"})
	s := func(name string) string {
		return fmt.Sprintf("timestamps: {roots: [roots/%s.pem], use: after-cert-expiry}", name)
	}
	p := w.load(s("tsa")+`
scopes:
  file.example: [r]
  scope.example: {trust: [r], `+s("other")+`}
  entry.example: {trust: [{root: r, `+s("tsa")+`}], `+s("other")+`}
  entry.example/in: {trust: [r], inherit: true}
  scope.example/in: {trust: [r], inherit: true}
  two.example: [r, {root: r, `+s("other")+`}]
`, map[string]*x509.Certificate{"other": other.Root.Certificate})
	at, later := w.begin.Add(aDay), w.end.Add(aDay)
	plain := w.sign(signing{})
	for _, row := range []struct {
		reference          string
		byTSA, byOther     bool
		use, of            string
		anEntrySaysAnother bool
	}{
		{"file.example/x:1", true, false, "after-cert-expiry", "the policy", false},
		{"scope.example/x:1", false, true, "after-cert-expiry", `scope "scope.example"`, false},
		{"entry.example/x:1", true, false, "after-cert-expiry", `scope "entry.example"`, true},
		{"entry.example/in/x:1", true, false, "after-cert-expiry", "the policy", true}, // by either entry
		{"scope.example/in/x:1", true, false, "after-cert-expiry", "the policy", false},
		{"two.example/x:1", true, true, "after-cert-expiry", "the policy", true},
	} {
		for name, want := range map[*tsatest.Authority]bool{w.tsa: row.byTSA, other: row.byOther} {
			got := p.Judge(ref(t, row.reference), artifact, sigs(w.with(plain, w.at(name, at))), later)
			if (got.Verdict == Accepted) != want {
				t.Errorf("%s by %s: %s %s (%s), want accepted %v", row.reference, name.Certificate.Subject.CommonName, got.Verdict, got.Reason, got.Detail, want)
			}
			if says := strings.Contains(got.Timestamps, "an entry of its trust says otherwise"); says != row.anEntrySaysAnother {
				t.Errorf("%s: %s", row.reference, got.Timestamps)
			}
		}
		if rule := p.stamping(p.selects(ref(t, row.reference))); rule.of != row.of {
			t.Errorf("%s: by %s, want %s", row.reference, rule.of, row.of)
		}
	}
	if roots := p.TimestampRoots(); len(roots) != 2 || !slices.ContainsFunc(roots, other.Root.Certificate.Equal) || !slices.ContainsFunc(roots, w.tsa.Root.Certificate.Equal) {
		t.Errorf("%d roots of authorities in all, want two", len(roots))
	}
	if roots := w.load(trustR, nil).TimestampRoots(); len(roots) != 0 {
		t.Errorf("%d roots of authorities without a section", len(roots))
	}
	sum := p.Summary(time.Now())
	var of []string
	for _, section := range sum.Timestamps {
		of = append(of, fmt.Sprintf("%d %s %s %d", section.Line, section.Of, section.Use, len(section.Roots)))
	}
	want := []string{
		"3 the policy after-cert-expiry 1", `6 scope "scope.example" after-cert-expiry 1`, "7 an entry of root r after-cert-expiry 1",
		`7 scope "entry.example" after-cert-expiry 1`, "10 an entry of root r after-cert-expiry 1",
	}
	if diff := cmp.Diff(want, of); diff != "" {
		t.Error(diff)
	}
}

func TestTimestampsLoad(t *testing.T) {
	t.Parallel()
	tsa := tsatest.New(tsatest.Options{})
	selfSigned := certtest.SelfSigned(certtest.Key("P-256"), "lone tsa", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} })
	text := func(c ...*x509.Certificate) string { return string(certtest.PEM(c...)) }
	files := maps.Clone(testRoots())
	maps.Copy(files, map[string]string{
		"tsa.pem": text(tsa.Root.Certificate), "ca.pem": text(tsa.CA.Certificate), "leaf.pem": text(tsa.Certificate), "lone.pem": text(selfSigned),
		"signer.pem": text(certtest.SelfSigned(certtest.Key("P-256"), "signer")), "garbage.pem": "garbage", "empty.pem": "",
		"two.pem": text(tsa.Root.Certificate, selfSigned), "chain.pem": text(tsa.Root.Certificate, tsa.CA.Certificate),
	})
	load := func(policy string) (*Policy, error) { return Load(folderOf(t, policy, files)) }
	top := func(section string) string { return "version: 1\ntimestamps: " + section + "\n" }
	for _, row := range []struct {
		name, policy, code string
		line, column       int
		says               string
	}{
		{"nothing", top(""), codeType, 2, 0, "must be a mapping"},
		{"a list", top("[tsa.pem]"), codeType, 2, 13, "must be a mapping"},
		{"no roots", top("{use: always}"), codeMissing, 2, 13, "roots: [FILE]"},
		{"no use", top("{roots: [tsa.pem]}"), codeMissing, 2, 13, "use: after-cert-expiry"},
		{"empty", top("{}"), codeMissing, 2, 13, "timestamps of the policy"},
		{"misspelled use", top("{roots: [tsa.pem], use: alway}"), codeValue, 2, 37, `did you mean "always"?`},
		{"use as notation writes it", top("{roots: [tsa.pem], use: afterCertExpiry}"), codeValue, 2, 37, "after-cert-expiry"},
		{"use is a truth", top("{roots: [tsa.pem], use: true}"), codeType, 2, 37, "text"},
		{"misspelled key", top("{root: [tsa.pem], use: always}"), codeKeyUnknown, 2, 14, `did you mean "roots"?`},
		{"key of roots", top("{certificates: [tsa.pem], use: always}"), codeKeyUnknown, 2, 14, "roots: [FILE]"},
		{"key of notation", top("{roots: [tsa.pem], verifyTimestamp: always}"), codeKeyUnknown, 2, 32, "use: after-cert-expiry"},
		{"roots is text", top("{roots: tsa.pem, use: always}"), codeType, 2, 21, "must be a list"},
		{"roots is empty", top("{roots: [], use: always}"), codeValue, 2, 21, "empty"},
		{"a root twice as key", top("{roots: [tsa.pem], roots: [tsa.pem], use: always}"), codeDuplicateKey, 2, 32, ":2:14"},
		{"a root is a number", top("{roots: [1], use: always}"), codeType, 2, 22, "in quotes"},
		{"no such file", top("{roots: [none.pem], use: always}"), codeRootFile, 2, 22, "timestamps of the policy: reading none.pem"},
		{"above", top("{roots: [../tsa.pem], use: always}"), codePath, 2, 22, ".."},
		{"garbage", top("{roots: [tsa.pem, garbage.pem], use: always}"), codeRootFile, 2, 31, "garbage.pem"},
		{"no bytes", top("{roots: [empty.pem], use: always}"), codeRootFile, 2, 22, "empty"},
		{"an intermediate", top("{roots: [ca.pem], use: always}"), codeRootInvalid, 2, 22, "not self-signed"},
		{"an intermediate behind a root", top("{roots: [chain.pem], use: always}"), codeRootInvalid, 2, 22, "not self-signed"},
		{"a leaf", top("{roots: [leaf.pem], use: always}"), codeRootInvalid, 2, 22, "not self-signed"},
		{"a lone signer", top("{roots: [signer.pem], use: always}"), codeRootInvalid, 2, 22, "neither"},
		{"at a scope", head + "  r.example: {trust: [a], timestamps: {}}\n", codeMissing, 4, 39, `timestamps of scope "r.example"`},
		{"at an entry", head + "  r.example: [{root: a, timestamps: {roots: [tsa.pem], use: never}}]\n", codeValue, 4, 61, "use of timestamps of an entry of root a"},
		{"misspelled at the policy", "version: 1\ntimestamp: {}\n", codeKeyUnknown, 2, 1, `did you mean "timestamps"?`},
		{"misspelled at a scope", head + "  r.example: {trust: [a], timestmaps: {}}\n", codeKeyUnknown, 4, 27, `did you mean "timestamps"?`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(row.policy)
			e := loadError(t, err, row.code, row.line)
			if row.column != 0 && e.Column != row.column || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v, want column %d and %q", err, row.column, row.says)
			}
		})
	}

	rest := "roots: {a: roots/a.pem}\nscopes: {r.example: [a]}\n"
	for _, roots := range []string{"tsa.pem", "lone.pem", "two.pem", "tsa.pem, two.pem", "tsa.pem, lone.pem, tsa.pem", fmt.Sprintf("%q", files["two.pem"])} {
		p, err := load(top("{use: always, roots: ["+roots+"]}") + rest)
		if err != nil {
			t.Errorf("%s: %v", roots, err)
			continue
		}
		want := 1
		if strings.Contains(roots, "two") || strings.Contains(roots, ",") || strings.Contains(roots, "BEGIN") {
			want = 2
		}
		if n := len(p.timestamps.roots); n != want {
			t.Errorf("%s: %d roots, want %d", roots, n, want)
		}
		if got := p.Warnings(time.Now()); len(got) != 0 {
			t.Errorf("%s: warnings %q", roots, got)
		}
	}
	p, err := load(head + "  r.example: [a]\n  r.example/no: {reject: true, timestamps: {roots: [tsa.pem], use: always}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Warnings(time.Now()), "\n"); !strings.Contains(got, "scope r.example/no rejects everything: its other settings mean nothing") {
		t.Errorf("warnings %q", got)
	}
	for _, s := range p.Summary(time.Now()).Scopes {
		if s.Timestamps != nil {
			t.Errorf("%s: %+v", s.Scope, s.Timestamps)
		}
	}
}

// L4: the roots of time-stamping authorities are part of the policy's digest, and everybody may not write them (P07, P11).
func TestTimestampsDigest(t *testing.T) {
	t.Parallel()
	files := testRoots()
	files["tsa.pem"] = string(certtest.PEM(tsatest.New(tsatest.Options{}).Root.Certificate))
	policy := folderOf(t, "version: 1\ntimestamps: {roots: [tsa.pem], use: always}\nroots: {a: roots/a.pem}\nscopes: {r.example: [a]}\n", files)
	one := must(Load(policy))
	other := filepath.Join(filepath.Dir(policy), "tsa.pem")
	if err := os.WriteFile(other, certtest.PEM(tsatest.New(tsatest.Options{}).Root.Certificate), 0o644); err != nil {
		t.Fatal(err)
	}
	if two := must(Load(policy)); one.Digest() == two.Digest() || one.Digest() == "" {
		t.Errorf("the digest is %s with either root", one.Digest())
	}
	if err := os.Chmod(other, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := Load(policy)
	loadError(t, err, codeUnsafe, 2)
}

// A further root is no reason to reject, though the path to it will not do and is found first: the library looks at one alone.
func TestTimestampFurtherRoot(t *testing.T) {
	t.Parallel()
	w := newStampedWorld(t)
	long := certtest.Valid(w.begin.AddDate(-9, 0, 0), w.end.AddDate(9, 0, 0))
	sig := w.with(w.sign(signing{}), w.at(w.tsa, w.begin.Add(aDay)))
	content := must(must(envelope.Parse(sig.MediaType, sig.Envelope)).Verify())
	// The authority's issuer once more, self-signed, without the key usage that the Notary Project asks for.
	lax := certtest.RootWith(w.tsa.CA.Key, "tsa ca", long, func(c *x509.Certificate) { c.KeyUsage = 0 }).Certificate
	root := w.tsa.Root.Certificate
	if _, err := content.VerifyTimestamp([]*x509.Certificate{root, lax}); !errors.Is(err, envelope.ErrTimestamp) {
		t.Fatalf("the library takes the other path: %v", err)
	}
	for _, roots := range [][]*x509.Certificate{{root}, {root, lax}, {lax, root}} {
		if stamp, err := (&timestamping{roots: roots}).verify(content); err != nil || !stamp.Chain.Root().Equal(root) {
			t.Errorf("by %d roots: %v", len(roots), err)
		}
	}
	for _, roots := range [][]*x509.Certificate{{lax}, {lax, certtest.Root("x").Certificate}} {
		if stamp, err := (&timestamping{roots: roots}).verify(content); !errors.Is(err, envelope.ErrTimestamp) || stamp.Chain != nil {
			t.Errorf("by others: %v", err)
		}
	}
}

// P12: which of two certificates of one root a report names does not hang on their order.
func TestP12TimestampRoots(t *testing.T) {
	t.Parallel()
	w := newStampedWorld(t)
	sig := w.with(w.sign(signing{}), w.at(w.tsa, w.begin.Add(aDay)))
	for range 4 {
		again := certtest.RootWith(w.tsa.Root.Key, "tsa root", certtest.Valid(w.begin.AddDate(-9, 0, 0), w.end.AddDate(9, 0, 0))).Certificate
		var said []string
		for _, list := range []string{"roots/tsa.pem, roots/again.pem", "roots/again.pem, roots/tsa.pem"} {
			p := w.load("timestamps: {use: always, roots: ["+list+"]}\n"+trustR, map[string]*x509.Certificate{"again": again})
			got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now())
			wantReport(t, got, Accepted, "")
			said = append(said, got.Signatures[0].Timestamp.RootSHA256)
		}
		if said[0] != said[1] {
			t.Errorf("by %s, in the other order by %s", said[0], said[1])
		}
	}
}

// P12 and P13 with timestamps: no order means anything; another root of authorities never rejects where timestamps count after the
// end of certificates, nor does such a section itself; narrowing never accepts.
func TestP13Timestamps(t *testing.T) {
	t.Parallel()
	w, r := newStampedWorld(t), rand.New(rand.NewPCG(7, 8))
	tsas := []*tsatest.Authority{w.tsa, tsatest.New(tsatest.Options{Name: "b"}), tsatest.New(tsatest.Options{Name: "c", Accuracy: 30 * time.Second})}
	names := []string{"a", "b", "c"}
	extra := map[string]*x509.Certificate{}
	for i, tsa := range tsas {
		extra[names[i]] = tsa.Root.Certificate
	}
	plain := w.sign(signing{claims: []string{"1"}})
	all := []registry.Signature{plain}
	for _, tsa := range tsas {
		for _, at := range []time.Time{w.begin.Add(aDay), w.end.Add(anHour), w.begin.Add(aDay / 2)} {
			all = append(all, w.with(plain, w.at(tsa, at)))
		}
	}
	times := []time.Time{w.begin.Add(-aDay), w.begin.Add(2 * aDay), w.end.Add(aDay), w.end.Add(300 * aDay), w.end.Add(3000 * aDay)}
	files := map[string]string{"roots/r.pem": w.s.pem()}
	for name, cert := range extra {
		files["roots/"+name+".pem"] = string(certtest.PEM(cert))
	}
	dir := filepath.Dir(folderOf(t, "", files))
	load := func(text string) *Policy {
		files := &folder{path: dir}
		defer files.close()
		return must(parsePolicy("policy.yaml", []byte("version: 1\nroots: {r: roots/r.pem}\n"+text), files))
	}
	section := func(use string, roots []string) string {
		if use == "" || len(roots) == 0 {
			return ""
		}
		var list []string
		for _, i := range r.Perm(len(roots)) {
			list = append(list, "roots/"+roots[i]+".pem")
		}
		return fmt.Sprintf("timestamps: {use: %s, roots: [%s]}", use, strings.Join(list, ", "))
	}
	type setting struct {
		use   string
		roots []string
	}
	some := func() setting {
		s := setting{use: []string{"", useAlways, useAfterward}[r.IntN(3)]}
		for _, n := range names {
			if r.IntN(3) == 0 {
				s.roots = append(s.roots, n)
			}
		}
		return s
	}
	// text writes the file's, the scope's and the entry's setting; the entries in an order of r's.
	text := func(file, scope, entry setting) string {
		entries := []string{"r"}
		if s := section(entry.use, entry.roots); s != "" {
			entries = append(entries, "{root: r, "+s+"}")
		}
		r.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		rule := "{trust: [" + strings.Join(entries, ", ") + "]"
		if s := section(scope.use, scope.roots); s != "" {
			rule += ", " + s
		}
		return section(file.use, file.roots) + "\nscopes: {\"*\": " + rule + "}}\n"
	}
	widened, narrowed, accepted := 0, 0, 0
	for range 100 {
		file, scope, entry := some(), some(), some()
		before, again := load(text(file, scope, entry)), load(text(file, scope, entry))
		var drawn []registry.Signature
		for range 1 + r.IntN(2) {
			drawn = append(drawn, all[r.IntN(len(all))])
		}
		shuffled := slices.Clone(drawn)
		slices.Reverse(shuffled)
		now := times[r.IntN(len(times))]
		judge := func(p *Policy, sigs []registry.Signature) Report {
			return p.Judge(ref(t, "r.example/x:1"), artifact, sigs, now)
		}
		was := judge(before, drawn)
		if was.Verdict == Accepted {
			accepted++
		}
		x, y := was, judge(again, shuffled)
		x.PolicyDigest, y.PolicyDigest = "", "" // that the bytes differ is told, and right
		if diff := cmp.Diff(string(must(json.Marshal(x))), string(must(json.Marshal(y)))); diff != "" {
			t.Fatalf("another order: %s\n%+v %+v %+v", diff, file, scope, entry)
		}

		// One more root in a section; or a section for the whole file, where it has none.
		for _, place := range []*setting{&file, &scope, &entry} {
			kept := *place
			switch written := kept.use != "" && len(kept.roots) > 0; {
			case written && kept.use == useAfterward:
				place.roots = append(slices.Clone(kept.roots), names[r.IntN(3)])
			case !written && place == &file:
				*place = setting{useAfterward, names[r.IntN(3):]}
			default:
				continue
			}
			is := judge(load(text(file, scope, entry)), drawn)
			switch {
			case was.Verdict == Accepted && is.Verdict != Accepted:
				t.Fatalf("%+v after %+v rejects: %s %s", place, kept, is.Reason, is.Detail)
			case was.Verdict != Accepted && is.Verdict == Accepted:
				widened++
			}
			*place = kept
		}

		n := []Narrowing{{RequireClaim: true}, {MaxAge: time.Hour}, {Algorithms: []string{"PS256"}}, {OnlyRoots: []string{"r"}}}[r.IntN(4)]
		is := judge(must(before.Narrow(n)), drawn)
		if was.Verdict != Accepted && is.Verdict == Accepted {
			t.Fatalf("narrowing %+v accepts", n)
		} else if was.Verdict == Accepted && is.Verdict != Accepted {
			narrowed++
		}
	}
	t.Logf("accepted %d, widened %d, narrowed %d", accepted, widened, narrowed)
	if accepted < 20 || widened < 5 || narrowed < 10 {
		t.Errorf("accepted %d, widened %d, narrowed %d: the draws test too little", accepted, widened, narrowed)
	}
}
